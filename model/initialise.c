/* Initial weights. */
#include "model/stage.h"

#include "share/base/hash.h"
#include "share/base/random.h"

#include <string.h>

static void fill_normal(float *values, const struct gwtf_tensor *tensor, uint64_t seed,
                        int threads) {
    uint64_t key = gwtf_random_key(seed, gwtf_hash(tensor->name, strlen(tensor->name)));
    double deviation = (double)tensor->deviation;
    /* Each number has its own address, so threads change nothing but the time. */
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (uint64_t i = 0; i < tensor->count; i++)
        values[i] = (float)(deviation * gwtf_random_normal_at(key, i));
}

void gwtf_stage_initialise(gwtf_stage *stage, uint64_t seed) {
    float *weights = gwtf_stage_weights(stage);
    for (size_t i = 0; i < stage->plan.tensors_count; i++) {
        const struct gwtf_tensor *tensor = &stage->plan.tensors[i];
        float *values = weights + tensor->offset;
        if (tensor->deviation != 0.0f) {
            fill_normal(values, tensor, seed, stage->compute.threads);
            continue;
        }
        for (uint64_t j = 0; j < tensor->count; j++)
            values[j] = tensor->constant;
    }
    gwtf_stage_written(stage);
}
