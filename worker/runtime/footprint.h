/* How much memory a worker takes: predicted, and measured on a process that does its work. */
#ifndef GWTF_WORKER_RUNTIME_FOOTPRINT_H
#define GWTF_WORKER_RUNTIME_FOOTPRINT_H

#include "worker/runtime/setup.h"

struct gwtf_footprint {
    uint32_t stage;
    uint32_t workers;  /* of the stage */
    uint32_t slots;    /* microbatches under way */
    uint32_t retained; /* further ones, of which what was sent is kept */
    /* Of which the program itself, without any tensor, took process_bytes when it began. */
    uint64_t predicted_bytes;
    uint64_t measured_bytes;
    uint64_t process_bytes;
    /* The same of a GPU's memory, but what its driver and libraries take; 0 where none is used. */
    bool on_gpu;
    struct gwtf_gpu gpu;
    uint64_t gpu_free_bytes; /* before */
    uint64_t gpu_predicted_bytes;
    uint64_t gpu_measured_bytes;
};

/*
 * Of a worker of STAGE that runs on this machine, its part of the free memory being FREE_BYTES, and
 * of the GPUs what falls to each of as many workers as the run has: in
 * a process of its own that fills all slots, runs them forward and backward, sums, steps and copies
 * for a snapshot. SETUP needs its data for stage 0. No other thread may run, and the calling
 * process must not have asked for GPUs. Errors: GWTF_ERROR_MEMORY when it does not fit,
 * GWTF_ERROR_PEER when that process dies, and as of gwtf_memory_create; FOOTPRINT untouched.
 */
gwtf_status gwtf_footprint_measure(const struct gwtf_setup *setup, uint32_t stage,
                                   uint64_t free_bytes, uint32_t threads,
                                   struct gwtf_footprint *footprint, struct gwtf_error *error);

#endif
