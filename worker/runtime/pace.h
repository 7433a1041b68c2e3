/* How fast this machine is at the run's own work, so that it gets a stage that fits. */
#ifndef GWTF_WORKER_RUNTIME_PACE_H
#define GWTF_WORKER_RUNTIME_PACE_H

#include "worker/runtime/setup.h"

/*
 * SECONDS of one transformer block's forward and backward pass of one microbatch, with THREADS: the
 * shortest of a few. SETUP may be a relay's. Takes a second or two, longer only where a single pass
 * does. Errors: as of gwtf_stage_create, GWTF_ERROR_MEMORY.
 */
gwtf_status gwtf_pace_measure(const struct gwtf_setup *setup, uint32_t threads, double *seconds,
                              struct gwtf_error *error);

#endif
