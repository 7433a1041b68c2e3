#include "tests/unit/model_pipeline.h"

#include "share/base/assert.h"
#include "share/base/hash.h"
#include "share/base/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct gwtf_model_shape odd_model(enum gwtf_family family, bool tied_head) {
    struct gwtf_model_shape model = {.family = family,
                                     .layers = 3,
                                     .width = 24,
                                     .heads = 3,
                                     .context = 7,
                                     .vocabulary = 65,
                                     .tied_head = tied_head};
    if (family == GWTF_FAMILY_LLAMA) {
        model.heads = 6;
        model.key_value_heads = 2;
        model.hidden = 21;
    }
    return model;
}

static float *allocate_floats(size_t count) {
    float *values = calloc(count, sizeof *values);
    GWTF_ASSERT(values != NULL);
    return values;
}

static void shake_weights(gwtf_stage *stage) {
    const struct gwtf_stage_plan *plan = gwtf_stage_get_plan(stage);
    for (size_t t = 0; t < plan->tensors_count; t++) {
        const struct gwtf_tensor *tensor = &plan->tensors[t];
        float *values = gwtf_stage_weights(stage) + tensor->offset;
        uint64_t key = gwtf_random_key(77, gwtf_hash(tensor->name, strlen(tensor->name)));
        double deviation = tensor->rank == 2 ? 1 / sqrt((double)tensor->dims[1]) : 0.2;
        for (uint64_t i = 0; i < tensor->count; i++)
            values[i] =
                (float)((double)tensor->constant + deviation * gwtf_random_normal_at(key, i));
    }
    gwtf_stage_written(stage);
}

void pipeline_create(struct pipeline *pipeline, const struct pipeline_options *options) {
    *pipeline = (struct pipeline){.options = *options};
    struct pipeline_options *o = &pipeline->options;
    o->slots = o->slots == 0 ? 1 : o->slots;
    o->threads = o->threads == 0 ? 1 : o->threads;
    GWTF_ASSERT(o->stages <= PIPELINE_STAGES_MAX && o->slots <= PIPELINE_SLOTS_MAX);
    pipeline->rows = (size_t)o->microbatch * o->model.context;
    size_t boundary = pipeline->rows * o->model.width;
    for (uint32_t i = 0; i <= o->stages; i++) {
        struct gwtf_stage_options stage = {.shape = gwtf_stage_shape_of(&o->model, i, o->stages),
                                           .backend = o->backend,
                                           .precision = o->precision,
                                           .recompute = o->recompute,
                                           .forward_only = o->forward_only,
                                           .continues = o->continues && i > 0,
                                           .microbatch = o->microbatch,
                                           .slots = o->slots,
                                           .threads = o->threads};
        struct gwtf_error error = {0};
        gwtf_status status = gwtf_stage_create(&stage, &pipeline->stages[i], &error);
        if (status != GWTF_OK)
            fprintf(stderr, "%s\n", error.text);
        GWTF_ASSERT(status == GWTF_OK);
        shake_weights(pipeline->stages[i]);
        for (uint32_t slot = 0; slot < o->slots; slot++)
            pipeline->boundaries[slot][i] = allocate_floats(boundary);
    }
    for (size_t i = 0; i < 2; i++)
        pipeline->gradient[i] = allocate_floats(boundary);
    pipeline->logits = allocate_floats(pipeline->rows * o->model.vocabulary);
}

void pipeline_destroy(struct pipeline *pipeline) {
    for (uint32_t i = 0; i <= pipeline->options.stages; i++) {
        gwtf_stage_destroy(pipeline->stages[i]);
        for (uint32_t slot = 0; slot < pipeline->options.slots; slot++)
            free(pipeline->boundaries[slot][i]);
    }
    free(pipeline->gradient[0]);
    free(pipeline->gradient[1]);
    free(pipeline->logits);
}

void pipeline_tokens(const struct pipeline *pipeline, uint64_t seed, uint32_t *tokens) {
    struct gwtf_random random;
    gwtf_random_init(&random, seed);
    for (size_t i = 0; i < pipeline->rows; i++)
        tokens[i] = (uint32_t)gwtf_random_below(&random, pipeline->options.model.vocabulary);
}

double pipeline_forward(struct pipeline *pipeline, uint32_t slot, const uint32_t *tokens,
                        const uint32_t *labels) {
    float **boundaries = pipeline->boundaries[slot];
    uint32_t stages = pipeline->options.stages;
    bool keep = !pipeline->options.forward_only;
    gwtf_stage_embed(pipeline->stages[0], tokens, boundaries[0]);
    for (uint32_t i = 1; i <= stages; i++)
        gwtf_stage_forward(pipeline->stages[i], slot, boundaries[i - 1], boundaries[i], keep);
    double loss = 0;
    gwtf_stage_loss(pipeline->stages[0], boundaries[stages], labels, 0, &loss, NULL,
                    pipeline->logits);
    return loss;
}

void pipeline_backward(struct pipeline *pipeline, uint32_t slot, const uint32_t *tokens,
                       const uint32_t *labels) {
    float **boundaries = pipeline->boundaries[slot];
    uint32_t stages = pipeline->options.stages;
    double loss = 0;
    /* So that the last one lands in gradient[0]. */
    size_t into = stages % 2;
    gwtf_stage_loss(pipeline->stages[0], boundaries[stages], labels, 1.0f / (float)pipeline->rows,
                    &loss, pipeline->gradient[into], NULL);
    for (uint32_t i = stages; i >= 1; i--, into ^= 1)
        gwtf_stage_backward(pipeline->stages[i], slot, boundaries[i - 1], pipeline->gradient[into],
                            pipeline->gradient[into ^ 1]);
    gwtf_stage_embed_backward(pipeline->stages[0], tokens, pipeline->gradient[0]);
}

double pipeline_run(struct pipeline *pipeline, uint32_t slot, uint64_t seed) {
    uint32_t *tokens = malloc(2 * pipeline->rows * sizeof *tokens);
    GWTF_ASSERT(tokens != NULL);
    uint32_t *labels = tokens + pipeline->rows;
    pipeline_tokens(pipeline, seed, tokens);
    pipeline_tokens(pipeline, seed + 1000, labels);
    double loss = pipeline_forward(pipeline, slot, tokens, labels);
    pipeline_backward(pipeline, slot, tokens, labels);
    free(tokens);
    return loss;
}

void pipeline_zero_gradients(struct pipeline *pipeline) {
    for (uint32_t i = 0; i <= pipeline->options.stages; i++)
        gwtf_stage_zero_gradients(pipeline->stages[i]);
}

float *pipeline_find(const struct pipeline *pipeline, const char *name,
                     float *(*array)(gwtf_stage *)) {
    for (uint32_t i = 0; i <= pipeline->options.stages; i++) {
        const struct gwtf_tensor *tensor =
            gwtf_stage_plan_find(gwtf_stage_get_plan(pipeline->stages[i]), name);
        if (tensor != NULL)
            return array(pipeline->stages[i]) + tensor->offset;
    }
    return NULL;
}

double relative_distance(const float *a, const float *b, size_t count) {
    double apart = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        double difference = (double)a[i] - (double)b[i];
        apart += difference * difference;
        size += (double)b[i] * (double)b[i];
    }
    return size > 0 ? sqrt(apart / size) : sqrt(apart);
}

double pipeline_distance(const struct pipeline *a, const struct pipeline *b,
                         float *(*array)(gwtf_stage *), const char **worst) {
    double largest = -1;
    for (uint32_t i = 0; i <= a->options.stages; i++) {
        const struct gwtf_stage_plan *plan = gwtf_stage_get_plan(a->stages[i]);
        for (size_t t = 0; t < plan->tensors_count; t++) {
            const struct gwtf_tensor *tensor = &plan->tensors[t];
            const float *other = pipeline_find(b, tensor->name, array);
            GWTF_ASSERT(other != NULL);
            double distance =
                relative_distance(array(a->stages[i]) + tensor->offset, other, tensor->count);
            /* Not a number counts as the worst of all. */
            if (!(distance <= largest)) {
                largest = distance;
                *worst = tensor->name;
            }
        }
    }
    return largest;
}
