#include "worker/runtime/pace.h"

#include "worker/runtime/clock.h"

#include <stdlib.h>

#define PASSES_MAX 20u
#define LONG_ENOUGH_US 500000

enum { INPUT, OUTPUT, OUTPUT_GRADIENT, INPUT_GRADIENT, BOUNDARIES };

static int64_t time_pass(gwtf_stage *block, float *const *boundaries) {
    gwtf_time_us start_us = gwtf_clock_now_us();
    gwtf_stage_forward(block, 0, boundaries[INPUT], boundaries[OUTPUT], true);
    gwtf_stage_backward(block, 0, boundaries[INPUT], boundaries[OUTPUT_GRADIENT],
                        boundaries[INPUT_GRADIENT]);
    return gwtf_clock_now_us() - start_us;
}

/* The first pass makes the library's kernels, and counts only where it took long. */
static double time_passes(gwtf_stage *block, float *const *boundaries) {
    int64_t shortest_us = time_pass(block, boundaries), all_us = shortest_us;
    for (uint32_t i = 1; i < PASSES_MAX && all_us < LONG_ENOUGH_US; i++) {
        int64_t us = time_pass(block, boundaries);
        all_us += us;
        shortest_us = us < shortest_us ? us : shortest_us;
    }
    return 1e-6 * (double)(shortest_us > 0 ? shortest_us : 1);
}

gwtf_status gwtf_pace_measure(const struct gwtf_setup *setup, uint32_t threads, double *seconds,
                              struct gwtf_error *error) {
    struct gwtf_model_shape model = setup->model;
    model.layers = 1;
    struct gwtf_stage_options options =
        gwtf_setup_stage_options(setup, gwtf_stage_shape_of(&model, 1, 1));
    options.threads = threads;
    gwtf_stage *block = NULL;
    float *boundaries[BOUNDARIES] = {NULL};
    gwtf_status status = gwtf_stage_create(&options, &block, error);
    if (status != GWTF_OK)
        return status;
    gwtf_stage_initialise(block, setup->config.run.seed);
    size_t floats = (size_t)setup->config.batch.microbatch * model.context * model.width;
    bool made = true;
    for (size_t i = 0; i < BOUNDARIES; i++) {
        boundaries[i] = calloc(floats, sizeof(float));
        made = made && boundaries[i] != NULL;
    }
    if (made)
        *seconds = time_passes(block, boundaries);
    for (size_t i = 0; i < BOUNDARIES; i++)
        free(boundaries[i]);
    gwtf_stage_destroy(block);
    return made ? GWTF_OK : gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
}
