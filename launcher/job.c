#include "launcher/job.h"

#include "io/run.h"
#include "launcher/hosts.h"
#include "launcher/signals.h"
#include "launcher/slurm.h"
#include "worker/runtime/spread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

gwtf_status gwtf_job_check_slots(const struct gwtf_setup *setup, uint32_t slots, const char *place,
                                 struct gwtf_error *error) {
    uint32_t stages = setup->config.pipeline.stages;
    if (slots > stages)
        return GWTF_OK;
    return gwtf_error_set(error, GWTF_ERROR_USAGE,
                          "%u stages and the data node need %u processors, and %s offers %u: ask "
                          "for more nodes, or lower pipeline.stages",
                          stages, stages + 1, place, slots);
}

static gwtf_status check(const struct gwtf_job *job, const struct gwtf_setup *setup,
                         struct gwtf_error *error) {
    char place[64];
    struct gwtf_placement *placements = NULL;
    snprintf(place, sizeof place, "job %s", job->allocation.job);
    gwtf_status status =
        gwtf_job_check_slots(setup, gwtf_allocation_slots(&job->allocation), place, error);
    if (status == GWTF_OK)
        status = gwtf_setup_place(setup, &placements, error);
    if (status == GWTF_OK)
        status =
            gwtf_spread(&job->allocation, placements, setup->data_nodes + setup->relays, error);
    free(placements);
    return status;
}

gwtf_status gwtf_job_open(struct gwtf_job *job, const struct gwtf_setup *setup, const char *self,
                          struct gwtf_error *error) {
    gwtf_status status = gwtf_slurm_read(&job->allocation, error);
    if (status != GWTF_OK || job->allocation.hosts_count == 0)
        return status;
    status = check(job, setup, error);
    if (status == GWTF_OK && strchr(self, ' ') != NULL)
        status =
            gwtf_error_set(error, GWTF_ERROR_USAGE,
                           "'%s' has a blank in its path, which mpirun cannot pass on to other "
                           "nodes: move it",
                           self);
    snprintf(job->agent, sizeof job->agent, "%s node-agent", self);
    snprintf(job->hosts, sizeof job->hosts, "%s/hosts", setup->config.run.directory);
    if (status != GWTF_OK)
        gwtf_job_close(job);
    return status;
}

void gwtf_job_close(struct gwtf_job *job) {
    gwtf_allocation_deinit(&job->allocation);
}

void gwtf_job_describe(const struct gwtf_job *job, struct gwtf_mpirun_job *mpirun) {
    const char *interfaces = getenv("GWTF_INTERFACES");
    mpirun->interfaces = interfaces != NULL && interfaces[0] != '\0' ? interfaces : NULL;
    if (job->allocation.hosts_count == 0)
        return;
    mpirun->one_host = job->allocation.hosts_count == 1;
    mpirun->by_daemon = mpirun->one_host && !gwtf_hosts_is_here(job->allocation.hosts[0].name);
    mpirun->host_file = job->hosts;
    mpirun->agent = job->agent;
}

bool gwtf_job_was_noticed(const char *run) {
    return gwtf_signals_noticed() || gwtf_run_requested(run, "notice");
}

void gwtf_job_requeue(const struct gwtf_job *job, char *text, size_t text_bytes) {
    char why[256];
    if (job->allocation.job[0] == '\0')
        snprintf(text, text_bytes, "--requeue: this is no Slurm job, so nothing is requeued");
    else if (gwtf_slurm_requeue(job->allocation.job, why, sizeof why))
        snprintf(text, text_bytes, "job %s is requeued, and goes on by itself",
                 job->allocation.job);
    else
        snprintf(text, text_bytes, "job %s is not requeued: %s; submit it again to go on",
                 job->allocation.job, why);
}
