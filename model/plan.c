/* Which tensors a stage has, and where they lie. */
#include "model/model.h"

#include "share/base/assert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT_FLOATS 16u
#define BLOCK_TENSORS 12u
#define DATA_TENSORS_MAX 5u

/* Far above any model of this kind; keeps every product of a tensor's dimensions in 64 bits. */
#define WIDTH_MAX (1u << 17)
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

static gwtf_status check_model(const struct gwtf_model_shape *model, struct gwtf_error *error) {
    const struct {
        const char *name;
        uint32_t value, least, most;
    } limits[] = {
        {"model.layers", model->layers, 1, LAYERS_MAX},
        {"model.width", model->width, 1, WIDTH_MAX},
        {"model.heads", model->heads, 1, WIDTH_MAX},
        {"model.context", model->context, 1, CONTEXT_MAX},
        {"model.vocabulary", model->vocabulary, 2, VOCABULARY_MAX},
    };
    if (model->family != GWTF_FAMILY_GPT2)
        return gwtf_error_set(error, GWTF_ERROR_USAGE, "model.family has no meaning: use \"gpt2\"");
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        if (limits[i].value < limits[i].least || limits[i].value > limits[i].most)
            return gwtf_error_set(error, GWTF_ERROR_USAGE, "%s is %u: use a number from %u to %u",
                                  limits[i].name, limits[i].value, limits[i].least, limits[i].most);
    }
    if (model->width % model->heads != 0)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "model.heads %u does not divide model.width %u: change one of them",
                              model->heads, model->width);
    return GWTF_OK;
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

/* Appends a tensor; COLUMNS 0 makes it a vector. It starts as zeros until the caller says other. */
static struct gwtf_tensor *append(struct gwtf_stage_plan *plan, uint64_t rows, uint64_t columns) {
    struct gwtf_tensor *tensor = &plan->tensors[plan->tensors_count++];
    tensor->rank = columns != 0 ? 2 : 1;
    tensor->dims[0] = rows;
    tensor->dims[1] = columns;
    tensor->count = columns != 0 ? rows * columns : rows;
    tensor->offset = plan->floats;
    plan->parameters += tensor->count;
    plan->floats += (tensor->count + ALIGNMENT_FLOATS - 1) / ALIGNMENT_FLOATS * ALIGNMENT_FLOATS;
    return tensor;
}

static void append_matrix(struct gwtf_stage_plan *plan, const char *name, uint64_t rows,
                          uint64_t columns, float deviation) {
    struct gwtf_tensor *tensor = append(plan, rows, columns);
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    tensor->decays = true;
    tensor->deviation = deviation;
}

static void append_vector(struct gwtf_stage_plan *plan, const char *name, uint64_t count,
                          float constant) {
    struct gwtf_tensor *tensor = append(plan, count, 0);
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    tensor->constant = constant;
}

static void append_data_tensors(struct gwtf_stage_plan *plan) {
    const struct gwtf_model_shape *model = &plan->shape.model;
    uint64_t width = model->width;
    append_matrix(plan, "transformer.wte.weight", model->vocabulary, width, DEVIATION);
    append_matrix(plan, "transformer.wpe.weight", model->context, width, DEVIATION_POSITIONS);
    append_vector(plan, "transformer.ln_f.weight", width, 1.0f);
    append_vector(plan, "transformer.ln_f.bias", width, 0.0f);
    if (!model->tied_head)
        append_matrix(plan, "lm_head.weight", model->vocabulary, width, DEVIATION);
}

static void append_block_tensors(struct gwtf_stage_plan *plan, uint32_t layer) {
    const struct gwtf_model_shape *model = &plan->shape.model;
    uint64_t width = model->width;
    float residual = (float)(DEVIATION / sqrt(2.0 * model->layers));
    /* COLUMNS 0: a vector whose elements start at START; else a matrix of that deviation. */
    const struct {
        const char *name;
        uint64_t rows, columns;
        float start;
    } tensors[BLOCK_TENSORS] = {
        {"ln_1.weight", width, 0, 1.0f},
        {"ln_1.bias", width, 0, 0.0f},
        {"attn.c_attn.weight", width, 3 * width, DEVIATION},
        {"attn.c_attn.bias", 3 * width, 0, 0.0f},
        {"attn.c_proj.weight", width, width, residual},
        {"attn.c_proj.bias", width, 0, 0.0f},
        {"ln_2.weight", width, 0, 1.0f},
        {"ln_2.bias", width, 0, 0.0f},
        {"mlp.c_fc.weight", width, 4 * width, DEVIATION},
        {"mlp.c_fc.bias", 4 * width, 0, 0.0f},
        {"mlp.c_proj.weight", 4 * width, width, residual},
        {"mlp.c_proj.bias", width, 0, 0.0f},
    };
    for (size_t i = 0; i < BLOCK_TENSORS; i++) {
        char name[GWTF_TENSOR_NAME_MAX];
        snprintf(name, sizeof name, "transformer.h.%u.%s", layer, tensors[i].name);
        if (tensors[i].columns == 0)
            append_vector(plan, name, tensors[i].rows, tensors[i].start);
        else
            append_matrix(plan, name, tensors[i].rows, tensors[i].columns, tensors[i].start);
    }
}

gwtf_status gwtf_stage_plan_init(struct gwtf_stage_plan *plan, const struct gwtf_stage_shape *shape,
                                 struct gwtf_error *error) {
    gwtf_status status = check_shape(shape, error);
    if (status != GWTF_OK)
        return status;
    size_t most = shape->stage == 0 ? DATA_TENSORS_MAX : (size_t)shape->layers * BLOCK_TENSORS;
    struct gwtf_stage_plan made = {.shape = *shape};
    made.tensors = calloc(most, sizeof *made.tensors);
    if (made.tensors == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY,
                              "no memory for the list of a stage's tensors: free some");
    if (shape->stage == 0)
        append_data_tensors(&made);
    for (uint32_t i = 0; i < shape->layers; i++)
        append_block_tensors(&made, shape->first_layer + i);
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
