/* Which tensors a stage has, and where they lie. */
#include "model/family.h"

#include "share/base/assert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT_FLOATS 16u

/* Far above any model of this kind; keeps every product of a tensor's dimensions in 64 bits. */
#define WIDTH_MAX (1u << 17)
#define HIDDEN_MAX (1u << 20)
#define LAYERS_MAX (1u << 16)
#define CONTEXT_MAX (1u << 24)
#define VOCABULARY_MAX (1u << 28)

#define DEVIATION 0.02f
#define DEVIATION_POSITIONS 0.01f

struct gwtf_stage_shape gwtf_stage_shape_of(const struct gwtf_model_shape *model, uint32_t stage,
                                            uint32_t stages) {
    GWTF_ASSERT(stages >= 1 && stage <= stages);
    struct gwtf_stage_shape shape = {.model = *model, .stage = stage, .stages = stages};
    if (stage == 0)
        return shape;
    uint32_t each = model->layers / stages, extra = model->layers % stages;
    uint32_t before = stage - 1;
    shape.layers = each + (before < extra);
    shape.first_layer = before * each + (before < extra ? before : extra);
    return shape;
}

/* That heads share the width, and several of them a key head. */
static gwtf_status check_heads(const struct gwtf_model_shape *model, struct gwtf_error *error) {
    const struct gwtf_family_traits *family = gwtf_family_traits_of(model->family);
    if (model->width % model->heads != 0)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "model.heads %u does not divide model.width %u: change one of them",
                              model->heads, model->width);
    if (model->heads % model->key_value_heads != 0)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "model.key_value_heads %u does not divide model.heads %u: change one "
                              "of them",
                              model->key_value_heads, model->heads);
    if (model->key_value_heads != model->heads && !family->rotary)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "model.key_value_heads is %u, but \"%s\" has as many as heads, %u: "
                              "leave it out, or make model.family \"llama\"",
                              model->key_value_heads, family->word, model->heads);
    if (family->rotary && model->width / model->heads % 2 != 0)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "model.width %u over model.heads %u is %u, but rotary positions turn "
                              "pairs: make it even",
                              model->width, model->heads, model->width / model->heads);
    return GWTF_OK;
}

static gwtf_status check_model(const struct gwtf_model_shape *model, struct gwtf_error *error) {
    const struct {
        const char *name;
        uint32_t value, least, most;
    } limits[] = {
        {"model.layers", model->layers, 1, LAYERS_MAX},
        {"model.width", model->width, 1, WIDTH_MAX},
        {"model.heads", model->heads, 1, WIDTH_MAX},
        {"model.key_value_heads", model->key_value_heads, 1, WIDTH_MAX},
        {"model.hidden", model->hidden, 1, HIDDEN_MAX},
        {"model.context", model->context, 1, CONTEXT_MAX},
        {"model.vocabulary", model->vocabulary, 2, VOCABULARY_MAX},
    };
    const struct {
        const char *name;
        double value;
    } reals[] = {{"model.rope_theta", (double)model->rope_theta},
                 {"model.norm_epsilon", (double)model->norm_epsilon}};
    if (gwtf_family_traits_of(model->family) == NULL)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "model.family has no meaning: use \"gpt2\" or \"llama\"");
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        if (limits[i].value < limits[i].least || limits[i].value > limits[i].most)
            return gwtf_error_set(error, GWTF_ERROR_USAGE, "%s is %u: use a number from %u to %u",
                                  limits[i].name, limits[i].value, limits[i].least, limits[i].most);
    }
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) {
        if (!isfinite(reals[i].value) || reals[i].value <= 0)
            return gwtf_error_set(error, GWTF_ERROR_USAGE, "%s is %g: use a number above 0",
                                  reals[i].name, reals[i].value);
    }
    return check_heads(model, error);
}

static gwtf_status check_shape(const struct gwtf_stage_shape *shape, struct gwtf_error *error) {
    gwtf_status status = check_model(&shape->model, error);
    if (status != GWTF_OK)
        return status;
    uint32_t layers = shape->model.layers;
    if (shape->stages < 1 || shape->stages > layers)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "pipeline.stages is %u for %u layers: use 1 to %u", shape->stages,
                              layers, layers);
    if (shape->stage > shape->stages)
        return gwtf_error_set(error, GWTF_ERROR_USAGE, "stage %u does not exist: the last is %u",
                              shape->stage, shape->stages);
    bool holds_blocks = shape->stage != 0;
    if (holds_blocks != (shape->layers != 0) || (!holds_blocks && shape->first_layer != 0) ||
        shape->first_layer > layers || shape->layers > layers - shape->first_layer)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "stage %u cannot hold %u layers from layer %u of %u: stage 0 holds "
                              "none, the others a run of the model's layers",
                              shape->stage, shape->layers, shape->first_layer, layers);
    return GWTF_OK;
}

static uint64_t extent_of(const struct gwtf_model_shape *model, enum gwtf_extent extent) {
    struct gwtf_block_sizes sizes = gwtf_block_sizes_of(model);
    switch (extent) {
    case GWTF_EXTENT_NONE:
        return 0;
    case GWTF_EXTENT_WIDTH:
        return sizes.width;
    case GWTF_EXTENT_KEYS:
        return sizes.keys;
    case GWTF_EXTENT_QKV:
        return sizes.qkv;
    case GWTF_EXTENT_HIDDEN:
        return sizes.hidden;
    case GWTF_EXTENT_CONTEXT:
        return model->context;
    case GWTF_EXTENT_VOCABULARY:
        return model->vocabulary;
    }
    return 0;
}

static float deviation_of(const struct gwtf_model_shape *model, enum gwtf_start start) {
    switch (start) {
    case GWTF_START_ZEROS:
    case GWTF_START_ONES:
        return 0.0f;
    case GWTF_START_NORMAL:
        return DEVIATION;
    case GWTF_START_POSITIONS:
        return DEVIATION_POSITIONS;
    case GWTF_START_RESIDUAL:
        return (float)(DEVIATION / sqrt(2.0 * model->layers));
    }
    return 0.0f;
}

static uint64_t aligned(uint64_t floats) {
    return (floats + ALIGNMENT_FLOATS - 1) / ALIGNMENT_FLOATS * ALIGNMENT_FLOATS;
}

/* Appends the tensor that KIND describes, under PREFIX and KIND's name. */
static void append(struct gwtf_stage_plan *plan, const char *prefix,
                   const struct gwtf_family_tensor *kind) {
    const struct gwtf_model_shape *model = &plan->shape.model;
    struct gwtf_tensor *tensor = &plan->tensors[plan->tensors_count++];
    snprintf(tensor->name, sizeof tensor->name, "%s%s", prefix, kind->name);
    tensor->dims[0] = extent_of(model, kind->rows);
    tensor->dims[1] = extent_of(model, kind->columns);
    tensor->rank = tensor->dims[1] != 0 ? 2 : 1;
    tensor->count = tensor->dims[0] * (tensor->rank == 2 ? tensor->dims[1] : 1);
    tensor->decays = tensor->rank == 2;
    tensor->deviation = deviation_of(model, kind->start);
    tensor->constant = kind->start == GWTF_START_ONES ? 1.0f : 0.0f;
    tensor->offset =
        kind->place == GWTF_JOINED ? tensor[-1].offset + tensor[-1].count : plan->floats;
    plan->parameters += tensor->count;
    plan->floats = aligned(tensor->offset + tensor->count);
}

gwtf_status gwtf_stage_plan_init(struct gwtf_stage_plan *plan, const struct gwtf_stage_shape *shape,
                                 struct gwtf_error *error) {
    struct gwtf_stage_plan made = {.shape = *shape};
    made.shape.model = gwtf_model_shape_resolve(&shape->model);
    gwtf_status status = check_shape(&made.shape, error);
    if (status != GWTF_OK)
        return status;
    const struct gwtf_family_traits *family = gwtf_family_traits_of(shape->model.family);
    size_t count = shape->stage == 0 ? family->data_tensors_count - shape->model.tied_head
                                     : shape->layers * family->block_tensors_count;
    made.tensors = calloc(count, sizeof *made.tensors);
    if (made.tensors == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY,
                              "no memory for the list of a stage's tensors: free some");
    for (size_t i = 0; i < count; i++) {
        char prefix[GWTF_TENSOR_NAME_MAX] = "";
        size_t each = family->block_tensors_count;
        if (shape->stage != 0)
            snprintf(prefix, sizeof prefix, "%s%zu.", family->blocks,
                     shape->first_layer + i / each);
        append(&made, prefix,
               shape->stage == 0 ? &family->data_tensors[i] : &family->block_tensors[i % each]);
    }
    *plan = made;
    return GWTF_OK;
}

void gwtf_stage_plan_deinit(struct gwtf_stage_plan *plan) {
    free(plan->tensors);
    *plan = (struct gwtf_stage_plan){0};
}

const struct gwtf_tensor *gwtf_stage_plan_find(const struct gwtf_stage_plan *plan,
                                               const char *name) {
    for (size_t i = 0; i < plan->tensors_count; i++) {
        if (strcmp(plan->tensors[i].name, name) == 0)
            return &plan->tensors[i];
    }
    return NULL;
}
