#include "launcher/hosts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_MAX_BYTES 256
#define LIST_MAX_BYTES                                                                             \
    ((GWTF_CONFIG_NODES_MAX + 1) * (size_t)(GWTF_CONFIG_PATH_MAX + 12) + NAME_MAX_BYTES)

bool gwtf_hosts_is_here(const char *host) {
    char name[NAME_MAX_BYTES] = "";
    gethostname(name, sizeof name - 1);
    return host[0] == '\0' || strcmp(host, "localhost") == 0 || strcmp(host, name) == 0;
}

bool gwtf_hosts_all_here(const struct gwtf_config *config) {
    bool all = true;
    for (size_t i = 0; i < config->nodes_count; i++)
        all = all && gwtf_hosts_is_here(config->nodes[i].host);
    return all;
}

/* By what a resource manager sets in a job, or by a host file of Open MPI 4.1's or 5.0's. */
static bool mpirun_knows_hosts(void) {
    static const char *const told_by[] = {"SLURM_JOB_ID",
                                          "PBS_NODEFILE",
                                          "LSB_JOBID",
                                          "PE_HOSTFILE",
                                          "OMPI_MCA_orte_default_hostfile",
                                          "PRTE_MCA_prte_default_hostfile"};
    for (size_t i = 0; i < sizeof told_by / sizeof told_by[0]; i++)
        if (getenv(told_by[i]) != NULL)
            return true;
    return false;
}

static bool is_named_before(const struct gwtf_config *config, size_t at) {
    for (size_t i = 0; i < at; i++)
        if (strcmp(config->nodes[i].host, config->nodes[at].host) == 0)
            return true;
    return false;
}

static unsigned workers_on(const struct gwtf_config *config, const char *host) {
    unsigned workers = 0;
    for (size_t i = 0; i < config->nodes_count; i++)
        if (strcmp(config->nodes[i].host, host) == 0)
            workers += config->nodes[i].count;
    return workers;
}

const char *gwtf_hosts_list(const struct gwtf_config *config) {
    static char list[LIST_MAX_BYTES];
    if (gwtf_hosts_all_here(config) || mpirun_knows_hosts())
        return NULL;
    char here[NAME_MAX_BYTES] = "";
    gethostname(here, sizeof here - 1);
    unsigned workers = 1; /* the bootstrap */
    for (size_t i = 0; i < config->nodes_count; i++)
        if (gwtf_hosts_is_here(config->nodes[i].host))
            workers += config->nodes[i].count;
    size_t used = (size_t)snprintf(list, sizeof list, "%s:%u", here, workers);
    for (size_t i = 0; i < config->nodes_count; i++) {
        const char *host = config->nodes[i].host;
        if (!gwtf_hosts_is_here(host) && !is_named_before(config, i))
            used += (size_t)snprintf(list + used, sizeof list - used, ",%s:%u", host,
                                     workers_on(config, host));
    }
    return list;
}

/* The index of the group of nodes whose host has the fewest workers, of those that are REACHED. */
static size_t emptiest(const struct gwtf_config *config, const bool *reached) {
    size_t best = config->nodes_count;
    for (size_t i = 0; i < config->nodes_count; i++)
        if (reached[i] &&
            (best == config->nodes_count || workers_on(config, config->nodes[i].host) <
                                                workers_on(config, config->nodes[best].host)))
            best = i;
    return best;
}

bool gwtf_hosts_move(struct gwtf_config *config, const struct gwtf_mpirun *mpirun, char *text,
                     size_t text_bytes) {
    bool reached[GWTF_CONFIG_NODES_MAX];
    size_t used = 0;
    for (size_t i = 0; i < config->nodes_count; i++) {
        const char *host = config->nodes[i].host;
        reached[i] = gwtf_hosts_is_here(host);
        for (size_t j = 0; j < i && !reached[i]; j++)
            reached[i] = strcmp(config->nodes[j].host, host) == 0 && reached[j];
        if (!reached[i] && !is_named_before(config, i))
            reached[i] = gwtf_mpirun_reaches(mpirun, host);
    }
    text[0] = '\0';
    if (emptiest(config, reached) == config->nodes_count)
        return false;
    for (size_t i = 0; i < config->nodes_count; i++) {
        if (reached[i])
            continue;
        const char *to = config->nodes[emptiest(config, reached)].host;
        if (used < text_bytes)
            used += (size_t)snprintf(text + used, text_bytes - used,
                                     "%s%s cannot be reached, its "
                                     "nodes run on %s",
                                     used > 0 ? "; " : "", config->nodes[i].host,
                                     to[0] != '\0' ? to : "this machine");
        memmove(config->nodes[i].host, to, strlen(to) + 1);
    }
    return true;
}
