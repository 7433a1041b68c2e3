/* A run inside a batch system's job: what it takes from the job, and how the job goes on. */
#ifndef GWTF_LAUNCHER_JOB_H
#define GWTF_LAUNCHER_JOB_H

#include "io/allocation.h"
#include "launcher/mpirun.h"
#include "worker/runtime/setup.h"

struct gwtf_job {
    struct gwtf_allocation allocation; /* empty outside of jobs */
    char agent[4200];
    char hosts[GWTF_CONFIG_PATH_MAX + 16];
};

/*
 * What the job that this process runs in has, held against SETUP's run. SELF is the path of this
 * program. Errors: as gwtf_slurm_read; GWTF_ERROR_USAGE when the run does not fit the job.
 */
gwtf_status gwtf_job_open(struct gwtf_job *job, const struct gwtf_setup *setup, const char *self,
                          struct gwtf_error *error);
void gwtf_job_close(struct gwtf_job *job);

/* Held against SLOTS, which PLACE offers ("job 17"): each stage and the data nodes need one at
 * least. Errors: GWTF_ERROR_USAGE. */
gwtf_status gwtf_job_check_slots(const struct gwtf_setup *setup, uint32_t slots, const char *place,
                                 struct gwtf_error *error);

/* What mpirun has to know of the job; nothing outside of jobs. */
void gwtf_job_describe(const struct gwtf_job *job, struct gwtf_mpirun_job *mpirun);

/* True when the batch system has asked for the end of this start, rather than the user. */
bool gwtf_job_was_noticed(const char *run);

/* The run has stopped since it was asked to: has the job started again. TEXT says what has
 * become of that. */
void gwtf_job_requeue(const struct gwtf_job *job, char *text, size_t text_bytes);

#endif
