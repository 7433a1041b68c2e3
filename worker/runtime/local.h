/*
 * Training with the whole model in one process, without MPI: what a distributed run is held
 * against, and what a person with one machine starts with. Plain loops over iterations,
 * microbatches and stages; no protocol, no threads.
 */
#ifndef GWTF_WORKER_RUNTIME_LOCAL_H
#define GWTF_WORKER_RUNTIME_LOCAL_H

#include "io/run.h"
#include "worker/runtime/setup.h"

struct gwtf_local_callbacks {
    /* After each iteration, when its line is in metrics.jsonl. */
    void (*iteration)(void *context, const struct gwtf_metrics *metrics);
    /* Asked after each iteration: true ends the run after it, with a snapshot. */
    bool (*stop)(void *context);
    void *context;
};

/*
 * Trains from iteration FIRST (1, or a snapshot's step + 1 with its path in SNAPSHOT, else "") to
 * the last one; writes metrics, events and snapshots into the run's directory, which must exist.
 * Errors: GWTF_ERROR_INTERRUPTED after a stop (the snapshot is written: no failure),
 * GWTF_ERROR_MEMORY, GWTF_ERROR_IO, GWTF_ERROR_CORRUPT with the line.
 */
gwtf_status gwtf_local_train(const struct gwtf_setup *setup, uint32_t first, const char *snapshot,
                             const struct gwtf_local_callbacks *callbacks,
                             struct gwtf_error *error);

#endif
