/*
 * The optimizer and the sums over flat arrays. Replicas of a stage must keep the same bits, on
 * whatever processors they run; so this file is compiled without contraction of a * b + c (see
 * CMakeLists.txt), sums in a fixed order, and uses no library function whose last bit may differ
 * between machines: only + - * / and sqrt, which IEEE 754 fixes.
 */
#include "model/stage.h"

#include "share/base/assert.h"

#include <math.h>

#define LANES 16u

double gwtf_sum_of_squares(const float *values, uint64_t count) {
    /* Lanes of a fixed number, whatever the processor's vectors hold. */
    double lanes[LANES] = {0};
    uint64_t whole = count / LANES * LANES;
    for (uint64_t i = 0; i < whole; i += LANES) {
        for (uint64_t lane = 0; lane < LANES; lane++)
            lanes[lane] += (double)values[i + lane] * (double)values[i + lane];
    }
    for (uint64_t i = whole; i < count; i++)
        lanes[i - whole] += (double)values[i] * (double)values[i];
    double sum = 0;
    for (uint64_t lane = 0; lane < LANES; lane++)
        sum += lanes[lane];
    return sum;
}

/* Floats of the sum that stay in the first cache while the parts pass by. */
#define SUM_TILE 4096u

void gwtf_sum_parts(float *sum, const float *const *parts, size_t parts_count, uint64_t count) {
    for (uint64_t start = 0; start < count; start += SUM_TILE) {
        uint64_t left = count - start, tile = left < SUM_TILE ? left : SUM_TILE;
        float total[SUM_TILE];
        for (uint64_t i = 0; i < tile; i++)
            total[i] = parts_count > 0 ? parts[0][start + i] : 0.0f;
        for (size_t part = 1; part < parts_count; part++) {
            const float *values = parts[part] + start;
            for (uint64_t i = 0; i < tile; i++)
                total[i] += values[i];
        }
        for (uint64_t i = 0; i < tile; i++)
            sum[start + i] = total[i];
    }
}

/* BASE^EXPONENT by squaring: the same bits everywhere, which pow of the C library does not promise.
 */
static double power(double base, uint64_t exponent) {
    double result = 1;
    for (; exponent != 0; exponent >>= 1) {
        if (exponent & 1)
            result *= base;
        base *= base;
    }
    return result;
}

static void adamw_range(const struct gwtf_adamw *a, float *restrict w, float *restrict m,
                        float *restrict v, const float *restrict gradients, uint64_t count) {
    float fresh1 = 1.0f - a->beta1, fresh2 = 1.0f - a->beta2;
    for (uint64_t i = 0; i < count; i++) {
        float g = gradients[i] * a->gradient_scale;
        float first = a->beta1 * m[i] + fresh1 * g;
        float second = a->beta2 * v[i] + fresh2 * (g * g);
        m[i] = first;
        v[i] = second;
        w[i] = a->keep * w[i] - a->size * (first / (sqrtf(second) * a->root + a->epsilon));
    }
}

/* Small enough to share a tensor out evenly, large enough to pay for it. */
#define STEP_TILE 65536u

static void step_tensor(gwtf_stage *stage, const struct gwtf_tensor *tensor, const float *gradients,
                        const struct gwtf_adamw *a) {
    int threads = stage->compute.threads;
    uint64_t tiles = (tensor->count + STEP_TILE - 1) / STEP_TILE;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && tiles > 1)
    for (uint64_t tile = 0; tile < tiles; tile++) {
        uint64_t from = tile * STEP_TILE, at = tensor->offset + from;
        uint64_t left = tensor->count - from;
        adamw_range(a, stage->weights + at, stage->first_moments + at, stage->second_moments + at,
                    gradients + at, left < STEP_TILE ? left : STEP_TILE);
    }
}

/* The device's gradients: the stage's own, or what GRADIENTS of the host holds. */
static const float *bring_gradients(gwtf_stage *stage, const float *gradients) {
    if (gradients == NULL || gradients == stage->mirror.host[GWTF_FLAT_GRADIENTS])
        return stage->gradients;
    stage->device->upload(&stage->compute, stage->gradients, gradients,
                          stage->plan.floats * sizeof *gradients);
    gwtf_mirror_computed(stage, GWTF_FLAT_GRADIENTS);
    return stage->gradients;
}

static void step_tensor_on_device(gwtf_stage *stage, const struct gwtf_tensor *tensor,
                                  const float *gradients, const struct gwtf_adamw *a) {
    uint64_t at = tensor->offset;
    stage->device->step(&stage->compute, a, stage->weights + at, stage->first_moments + at,
                        stage->second_moments + at, gradients + at, tensor->count);
}

double gwtf_stage_gradient_squares(gwtf_stage *stage) {
    if (stage->device == NULL)
        return gwtf_sum_of_squares(stage->gradients, stage->plan.floats);
    gwtf_stage_enter(stage);
    return stage->device->sum_of_squares(&stage->compute, stage->gradients, stage->plan.floats);
}

void gwtf_stage_step(gwtf_stage *stage, const float *gradients,
                     const struct gwtf_optimizer_step *step) {
    GWTF_ASSERT(step->step >= 1);
    gwtf_stage_enter(stage);
    if (stage->device != NULL)
        gradients = bring_gradients(stage, gradients);
    else if (gradients == NULL)
        gradients = stage->gradients;
    double rate = (double)step->learning_rate;
    struct gwtf_adamw a = {
        .gradient_scale = step->gradient_scale,
        .beta1 = step->beta1,
        .beta2 = step->beta2,
        .size = (float)(rate / (1 - power((double)step->beta1, step->step))),
        .root = (float)(1 / sqrt(1 - power((double)step->beta2, step->step))),
        .epsilon = step->epsilon,
    };
    for (size_t i = 0; i < stage->plan.tensors_count; i++) {
        const struct gwtf_tensor *tensor = &stage->plan.tensors[i];
        a.keep = (float)(1 - (tensor->decays ? rate * (double)step->weight_decay : 0.0));
        (stage->device != NULL ? step_tensor_on_device : step_tensor)(stage, tensor, gradients, &a);
    }
    gwtf_mirror_computed(stage, GWTF_FLAT_WEIGHTS);
    gwtf_mirror_computed(stage, GWTF_FLAT_FIRST);
    gwtf_mirror_computed(stage, GWTF_FLAT_SECOND);
}

float gwtf_clip_scale(double norm, double clip) {
    return clip > 0 && norm > clip ? (float)(clip / norm) : 1.0f;
}

/* cos(x) for x in 0..pi, by its series about pi / 2: good to 1e-15 there, and the same everywhere.
 */
static double cosine(double x) {
    double y = 1.57079632679489661923 - x; /* cos(x) = sin(y), |y| <= pi / 2 */
    double term = y, sum = y;
    for (int n = 1; n <= 12; n++) {
        term *= -y * y / (double)(2 * n * (2 * n + 1));
        sum += term;
    }
    return sum;
}

double gwtf_schedule_at(const struct gwtf_schedule *schedule, uint64_t step) {
    double peak = schedule->learning_rate;
    if (step < schedule->warmup)
        return peak * (double)step / (double)schedule->warmup;
    if (schedule->decay == GWTF_DECAY_NONE || schedule->iterations <= schedule->warmup)
        return peak;
    double part =
        (double)(step - schedule->warmup) / (double)(schedule->iterations - schedule->warmup);
    if (part > 1)
        part = 1;
    double left = schedule->decay == GWTF_DECAY_LINEAR
                      ? 1 - part
                      : 0.5 * (1 + cosine(3.14159265358979323846 * part));
    return schedule->minimum + (peak - schedule->minimum) * left;
}
