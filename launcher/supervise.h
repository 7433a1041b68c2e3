/*
 * Watches over a distributed run from outside: starts mpirun, shows progress from the run's files,
 * passes Ctrl+C on as a request, and when the run is over, however it ended, leaves no process and
 * no temporary file behind.
 */
#ifndef GWTF_LAUNCHER_SUPERVISE_H
#define GWTF_LAUNCHER_SUPERVISE_H

#include "launcher/mpirun.h"
#include "launcher/progress.h"
#include "worker/runtime/setup.h"

/* Names the run's directory to what mpirun starts. */
#define GWTF_SUPERVISE_RUN_VARIABLE "GWTF_RUN"

/* With this and the host's name gwtf node-agent begins the line that what ran there has ended. */
#define GWTF_SUPERVISE_HOST_ENDED "what ran has ended on "

struct gwtf_supervise_options {
    const struct gwtf_setup *setup;
    const struct gwtf_mpirun *mpirun;
    const struct gwtf_mpirun_job *job;
    struct gwtf_progress *progress;
    bool restarted; /* the run has trained before: see GWTF_ERROR_PEER below */
    bool json;      /* copies the lines of metrics.jsonl to stdout in place of progress */
};

/*
 * Runs until the end. GWTF_OK: all iterations done. GWTF_ERROR_INTERRUPTED: stopped as asked, with
 * a snapshot. Else what ended it, with the line for the user: GWTF_ERROR_STAGE: a stage was lost;
 * GWTF_ERROR_LINK: so many nodes were, that the others took themselves for cut off;
 * GWTF_ERROR_PEER: all workers or mpirun died without a word, once the run had trained;
 * GWTF_ERROR_RUN: something that would end it again, or the user.
 */
gwtf_status gwtf_supervise(const struct gwtf_supervise_options *options, struct gwtf_error *error);

#endif
