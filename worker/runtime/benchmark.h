/* How fast this machine trains a model: the whole of it in one process, on made-up tokens. */
#ifndef GWTF_WORKER_RUNTIME_BENCHMARK_H
#define GWTF_WORKER_RUNTIME_BENCHMARK_H

#include "worker/runtime/setup.h"

#define GWTF_BENCHMARK_ROUNDS_MAX 1000u

/* The parts of a training step. Forward ends with the last block; the head's forward and backward
 * pass are one piece of work, which counts as backward. */
enum gwtf_benchmark_part {
    GWTF_BENCHMARK_FORWARD,
    GWTF_BENCHMARK_BACKWARD,
    GWTF_BENCHMARK_OPTIMIZER,
    GWTF_BENCHMARK_ALL,
    GWTF_BENCHMARK_PARTS
};

struct gwtf_benchmark_options {
    uint32_t rounds;  /* 1..GWTF_BENCHMARK_ROUNDS_MAX */
    uint32_t threads; /* 0: those of the configuration, or all cores */
    /* In place of the clock's: what this process had of the processors, all threads together. What
     * others do on the machine counts less. */
    bool processor_time;
    /* May be NULL. Hears of each round that is done. */
    void (*progress)(void *context, uint32_t done, uint32_t rounds);
    void *progress_context;
};

struct gwtf_benchmark {
    uint32_t threads;
    bool on_gpu;
    struct gwtf_gpu gpu; /* where it is */
    uint64_t parameters;
    uint64_t tokens;                      /* of a step: those of one microbatch */
    double seconds[GWTF_BENCHMARK_PARTS]; /* medians of the rounds */
    /* Operations of the matrix products, attention's up to each token's own place; 0 for the
     * optimizer. */
    double operations[GWTF_BENCHMARK_PARTS];
    double peak; /* operations per second of the library's best product; 0: not known */
    /* Of a GPU: bytes per second of its best copy, and where the time of one more round went. */
    double peak_bytes;
    struct gwtf_kernel_time kernels[GWTF_KERNEL_TIMES_MAX];
    size_t kernels_count;
};

/*
 * Trains SETUP's model on one microbatch for some rounds, each a forward and a backward pass and an
 * optimizer step. SETUP may be one without data. Errors: as of gwtf_stage_create and
 * gwtf_stage_check; GWTF_ERROR_USAGE for the processors' time of a GPU; BENCHMARK untouched.
 */
gwtf_status gwtf_benchmark_run(const struct gwtf_setup *setup,
                               const struct gwtf_benchmark_options *options,
                               struct gwtf_benchmark *benchmark, struct gwtf_error *error);

#endif
