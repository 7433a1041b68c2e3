#include "worker/runtime/trained.h"

#include "share/base/assert.h"
#include "worker/runtime/machine.h"
#include "worker/runtime/setup.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/*
 * All blocks stand in one relay stage, which takes SEQUENCES at one time. The embedding and the
 * head take one: so a last batch that is not full needs no label for what fills it.
 */
struct gwtf_trained {
    struct gwtf_model_shape model;
    uint32_t sequences;
    gwtf_stage *ends;   /* embedding and head: stage 0 */
    gwtf_stage *blocks; /* stage 1 of 1 */
    float *embedded;    /* (sequences, T, C) */
    float *hidden;      /* (sequences, T, C) */
    uint32_t *known;    /* (T): the tokens whose keys and values BLOCKS keeps */
    uint32_t known_count;
};

/* The weights of STAGE from the snapshot at PATH. */
static gwtf_status load_weights(const char *path, gwtf_stage *stage, struct gwtf_error *error) {
    const struct gwtf_stage_plan *plan = gwtf_stage_get_plan(stage);
    struct gwtf_snapshot_tensor *tensors = calloc(plan->tensors_count, sizeof *tensors);
    if (tensors == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    for (size_t i = 0; i < plan->tensors_count; i++) {
        const struct gwtf_tensor *tensor = &plan->tensors[i];
        tensors[i] =
            (struct gwtf_snapshot_tensor){.name = tensor->name,
                                          .rank = tensor->rank,
                                          .dims = {tensor->dims[0], tensor->dims[1]},
                                          .weights = gwtf_stage_weights(stage) + tensor->offset};
    }
    gwtf_status status = gwtf_snapshot_load(path, tensors, plan->tensors_count, error);
    gwtf_stage_written(stage);
    free(tensors);
    return status;
}

static gwtf_status make_stage(const struct gwtf_trained *trained, const char *path,
                              struct gwtf_stage_options options, uint32_t index, gwtf_stage **stage,
                              struct gwtf_error *error) {
    options.shape = gwtf_stage_shape_of(&trained->model, index, 1);
    gwtf_status status = gwtf_stage_create(&options, stage, error);
    if (status == GWTF_OK)
        status = load_weights(path, *stage, error);
    return status;
}

gwtf_status gwtf_trained_shape(const char *path, struct gwtf_model_shape *model,
                               struct gwtf_stage_options *options, struct gwtf_error *error) {
    char *text = NULL;
    gwtf_status status = gwtf_snapshot_config(path, &text, NULL, error);
    if (status != GWTF_OK)
        return status;
    struct gwtf_config *config = malloc(sizeof *config);
    struct gwtf_setup *setup = calloc(1, sizeof *setup);
    struct gwtf_error reason = {""};
    if (config == NULL || setup == NULL)
        status = gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    else if (gwtf_config_parse(text, "its configuration", NULL, 0, config, &reason) != GWTF_OK ||
             gwtf_setup_open_relay(config, setup, &reason) != GWTF_OK)
        status =
            gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                           "'%.400s' cannot be used: %.500s: take another snapshot, or the program "
                           "that wrote it",
                           path, reason.text);
    else {
        *model = gwtf_model_shape_resolve(&setup->model);
        if (options != NULL)
            *options = gwtf_setup_stage_options(setup, (struct gwtf_stage_shape){0});
    }
    free(setup);
    free(config);
    free(text);
    return status;
}

static gwtf_status open_trained(const char *path, uint32_t threads, struct gwtf_trained *trained,
                                struct gwtf_error *error) {
    struct gwtf_stage_options options;
    gwtf_status status = gwtf_trained_shape(path, &trained->model, &options, error);
    if (status != GWTF_OK)
        return status;
    options.forward_only = true;
    options.threads = threads != 0 ? threads : gwtf_machine_cores();
    options.microbatch = 1;
    status = make_stage(trained, path, options, 0, &trained->ends, error);
    options.microbatch = trained->sequences;
    options.continues = trained->sequences == 1;
    if (status == GWTF_OK)
        status = make_stage(trained, path, options, 1, &trained->blocks, error);
    if (status != GWTF_OK)
        return status;
    size_t floats = (size_t)trained->sequences * trained->model.context * trained->model.width;
    trained->embedded = calloc(floats, sizeof *trained->embedded);
    trained->hidden = calloc(floats, sizeof *trained->hidden);
    trained->known = calloc(trained->model.context, sizeof *trained->known);
    if (trained->embedded == NULL || trained->hidden == NULL || trained->known == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    return GWTF_OK;
}

gwtf_status gwtf_trained_open(const struct gwtf_snapshot_info *info, uint32_t sequences,
                              uint32_t threads, struct gwtf_trained **trained,
                              struct gwtf_error *error) {
    GWTF_ASSERT(sequences >= 1);
    struct gwtf_trained *made = calloc(1, sizeof *made);
    if (made == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    made->sequences = sequences;
    gwtf_status status = open_trained(info->path, threads, made, error);
    if (status == GWTF_OK)
        *trained = made;
    else
        gwtf_trained_close(made);
    return status;
}

void gwtf_trained_close(struct gwtf_trained *trained) {
    if (trained == NULL)
        return;
    gwtf_stage_destroy(trained->ends);
    gwtf_stage_destroy(trained->blocks);
    free(trained->embedded);
    free(trained->hidden);
    free(trained->known);
    free(trained);
}

const struct gwtf_model_shape *gwtf_trained_model(const struct gwtf_trained *trained) {
    return &trained->model;
}

uint32_t gwtf_trained_sequences(const struct gwtf_trained *trained) {
    return trained->sequences;
}

double gwtf_trained_loss(struct gwtf_trained *trained, const uint32_t *inputs,
                         const uint32_t *labels, uint32_t count) {
    GWTF_ASSERT(count >= 1 && count <= trained->sequences);
    size_t context = trained->model.context, floats = context * trained->model.width;
    for (size_t i = 0; i < count; i++)
        gwtf_stage_embed(trained->ends, inputs + i * context, trained->embedded + i * floats);
    gwtf_stage_forward(trained->blocks, 0, trained->embedded, trained->hidden, false);
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double loss = 0;
        gwtf_stage_loss(trained->ends, trained->hidden + i * floats, labels + i * context, 0, &loss,
                        NULL, NULL);
        sum += loss;
    }
    return sum;
}

gwtf_status gwtf_trained_next(struct gwtf_trained *trained, const uint32_t *tokens, uint32_t count,
                              float *logits, struct gwtf_error *error) {
    const struct gwtf_model_shape *model = &trained->model;
    GWTF_ASSERT(trained->sequences == 1 && count >= 1 && count <= model->context);
    /* The last token goes through in any case: what comes after it is asked. */
    uint32_t same = 0;
    while (same < trained->known_count && same + 1 < count && trained->known[same] == tokens[same])
        same++;
    uint32_t fresh = count - same;
    memcpy(trained->known + same, tokens + same, fresh * sizeof *tokens);
    trained->known_count = count;
    gwtf_stage_embed_some(trained->ends, tokens + same, same, fresh, trained->embedded);
    gwtf_stage_continue(trained->blocks, trained->embedded, trained->hidden, same, fresh);
    gwtf_stage_logits(trained->ends, trained->hidden + (size_t)(fresh - 1) * model->width, logits);
    for (size_t i = 0; i < model->vocabulary; i++)
        if (!isfinite(logits[i]))
            return gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                                  "the model answers with no finite number, it has diverged: take "
                                  "an older snapshot, and train on with a smaller learning rate");
    return GWTF_OK;
}
