/*
 * The compute thread: takes work from a bounded queue, does it on the node's memory, and hands the
 * results back.
 */
#ifndef GWTF_WORKER_RUNTIME_COMPUTE_H
#define GWTF_WORKER_RUNTIME_COMPUTE_H

#include "worker/runtime/memory.h"
#include "worker/runtime/queue.h"

struct gwtf_compute_done {
    gwtf_status status;      /* of gwtf_memory_execute, */
    struct gwtf_error error; /* and its line */
    struct gwtf_work work;
    struct gwtf_work_result result;
};

typedef struct gwtf_compute gwtf_compute;

/*
 * Starts the thread; its first deed is gwtf_memory_probe, so that libraries bind to it. MEMORY and
 * BELL outlive it; BELL rings at each result, and when the probe is done.
 */
gwtf_status gwtf_compute_create(gwtf_memory *memory, gwtf_bell *bell, gwtf_compute **compute);

/* The probe's microseconds; 0 while it runs. */
int64_t gwtf_compute_probed_us(gwtf_compute *compute);

/* Errors: GWTF_ERROR_LIMIT when the queue is full. Never waits. */
gwtf_status gwtf_compute_push(gwtf_compute *compute, const struct gwtf_work *work);

/* False when no result is there. */
bool gwtf_compute_try_done(gwtf_compute *compute, struct gwtf_compute_done *done);

/* Finishes the work at hand, drops what is queued, ends the thread. NULL is allowed. */
void gwtf_compute_destroy(gwtf_compute *compute);

#endif
