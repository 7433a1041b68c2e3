#include "worker/runtime/import.h"

#include "io/run.h"
#include "io/safetensors.h"
#include "worker/protocol/protocol.h"
#include "worker/runtime/setup.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What goes on while it is imported. */
struct work {
    struct gwtf_setup *setup;
    struct gwtf_safetensors *file;
    const char *directory;
    bool *used; /* by tensor of FILE */
    struct gwtf_import *made;
    struct gwtf_error *error;
};

/* A block in each stage, so that little is in memory; a resumed run may cut the model otherwise. */
static gwtf_status make_setup(const struct gwtf_model_config *model, const char *run,
                              struct gwtf_setup *setup, struct gwtf_error *error) {
    char text[2048];
    uint32_t stages = model->layers < GWTF_STAGES_MAX ? model->layers : GWTF_STAGES_MAX;
    struct gwtf_config *config = malloc(sizeof *config);
    if (config == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    snprintf(text, sizeof text,
             "run = { directory = \"run\"; iterations = 1; };\n"
             "model = { family = \"%s\"; layers = %" PRIu32 "; width = %" PRIu32
             "; heads = %" PRIu32 "; key_value_heads = %" PRIu32 "; hidden = %" PRIu32
             "; context = %" PRIu32 "; vocabulary = %" PRIu32
             "; tied_head = %s; rope_theta = %.17e; norm_epsilon = %.17e; "
             "};\n"
             "data = { train = \"train.h5\"; };\n"
             "batch = { microbatch = 1; microbatches = 1; };\n"
             "pipeline = { stages = %" PRIu32 "; };\n"
             "nodes = ( { role = \"data\"; }, { role = \"relay\"; count = %" PRIu32 "; } );\n",
             model->family, model->layers, model->width, model->heads, model->key_value_heads,
             model->hidden, model->context, model->vocabulary, model->tied_head ? "true" : "false",
             model->rope_theta, model->norm_epsilon, stages, stages);
    gwtf_status status = gwtf_config_parse(text, "config.json", NULL, 0, config, error);
    if (status == GWTF_OK) {
        snprintf(config->run.directory, sizeof config->run.directory, "%s", run);
        status = gwtf_setup_open_relay(config, setup, error);
    }
    free(config);
    return status;
}

/* NAME, or without what stands before a model's part in files of the part alone. */
static const struct gwtf_safetensors_tensor *find(const struct gwtf_safetensors *file,
                                                  const char *name) {
    static const char *const prefixes[] = {"transformer.", "model."};
    const struct gwtf_safetensors_tensor *tensor = gwtf_safetensors_find(file, name);
    for (size_t i = 0; i < 2 && tensor == NULL; i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
            tensor = gwtf_safetensors_find(file, name + strlen(prefixes[i]));
    return tensor;
}

static gwtf_status take_tensor(struct work *work, const struct gwtf_tensor *wanted,
                               float *weights) {
    const struct gwtf_safetensors_tensor *tensor = find(work->file, wanted->name);
    if (tensor == NULL)
        return gwtf_error_set(work->error, GWTF_ERROR_UNSUPPORTED,
                              "'%s' has no tensor %s: get the model anew", work->directory,
                              wanted->name);
    bool same = tensor->rank == wanted->rank;
    for (uint32_t i = 0; i < wanted->rank && same; i++)
        same = tensor->dims[i] == wanted->dims[i];
    if (!same)
        return gwtf_error_set(work->error, GWTF_ERROR_UNSUPPORTED,
                              "the tensor %s in '%s' has another shape than its config.json says: "
                              "get the model anew",
                              wanted->name, work->directory);
    work->used[tensor - gwtf_safetensors_at(work->file, 0)] = true;
    work->made->tensors++;
    work->made->parameters += tensor->count;
    return gwtf_safetensors_read(work->file, tensor, weights, work->error);
}

static gwtf_status import_stage(struct work *work, uint32_t stage,
                                struct gwtf_snapshot_file *written) {
    struct gwtf_stage_shape shape = gwtf_setup_stage_shape(work->setup, stage);
    struct gwtf_stage_plan plan;
    gwtf_status status = gwtf_stage_plan_init(&plan, &shape, work->error);
    if (status != GWTF_OK)
        return status;
    float *weights = calloc(plan.floats, sizeof *weights);
    float *moments = calloc(plan.floats, sizeof *moments);
    if (weights == NULL || moments == NULL)
        status =
            gwtf_error_set(work->error, GWTF_ERROR_MEMORY, "out of memory for stage %u", stage);
    for (size_t i = 0; i < plan.tensors_count && status == GWTF_OK; i++)
        status = take_tensor(work, &plan.tensors[i], weights + plan.tensors[i].offset);
    if (status == GWTF_OK)
        status = gwtf_setup_write_stage(work->setup, &plan, 0, 0, weights, moments, moments, NULL,
                                        written, work->error);
    free(weights);
    free(moments);
    gwtf_stage_plan_deinit(&plan);
    return status;
}

static bool ends_with(const char *name, const char *end) {
    size_t length = strlen(name), end_length = strlen(end);
    return length >= end_length && strcmp(name + length - end_length, end) == 0;
}

/* What a model of this family does not have would be missed; tables that are computed, and the head
 * that is the embedding, would not. */
static gwtf_status check_unused(const struct work *work) {
    for (size_t i = 0; i < gwtf_safetensors_count(work->file); i++) {
        const char *name = gwtf_safetensors_at(work->file, i)->name;
        if (!work->used[i] && !ends_with(name, ".attn.bias") &&
            !ends_with(name, ".attn.masked_bias") && !ends_with(name, ".rotary_emb.inv_freq") &&
            !(work->made->model.tied_head && strcmp(name, "lm_head.weight") == 0))
            return gwtf_error_set(work->error, GWTF_ERROR_UNSUPPORTED,
                                  "'%.600s' has the tensor %.200s, for which a %s has no place: "
                                  "take another model",
                                  work->directory, name, work->made->model.family);
    }
    return GWTF_OK;
}

static gwtf_status import_stages(struct work *work, const char *run) {
    uint32_t stages = work->setup->config.pipeline.stages;
    struct gwtf_snapshot_file *files = calloc((size_t)stages + 1, sizeof *files);
    gwtf_status status = GWTF_OK;
    work->used = calloc(gwtf_safetensors_count(work->file) + 1, sizeof *work->used);
    if (files == NULL || work->used == NULL)
        status = gwtf_error_set(work->error, GWTF_ERROR_MEMORY, "out of memory");
    else
        status = gwtf_run_create(run, work->error);
    for (uint32_t stage = 0; stage <= stages && status == GWTF_OK; stage++)
        status = import_stage(work, stage, &files[stage]);
    if (status == GWTF_OK)
        status = check_unused(work);
    char snapshots[GWTF_SNAPSHOT_PATH_MAX];
    gwtf_setup_snapshots_path(work->setup, snapshots, sizeof snapshots);
    if (status == GWTF_OK)
        status = gwtf_snapshot_write_manifest(snapshots, 0, stages, files, 0, work->error);
    free(work->used);
    free(files);
    return status;
}

static gwtf_status check_run(const char *run, struct gwtf_error *error) {
    char snapshots[GWTF_SNAPSHOT_PATH_MAX], metrics[GWTF_SNAPSHOT_PATH_MAX];
    if (strlen(run) + 64 >= GWTF_CONFIG_PATH_MAX)
        return gwtf_error_set(error, GWTF_ERROR_USAGE, "'%.900s' is too long: give a shorter path",
                              run);
    snprintf(snapshots, sizeof snapshots, "%s/snapshots", run);
    snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", run);
    if (access(metrics, F_OK) == 0 || gwtf_snapshot_was_whole(snapshots))
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "'%s' is a run already: give another directory", run);
    return GWTF_OK;
}

static gwtf_status open_weights(const char *directory, struct gwtf_safetensors **file,
                                struct gwtf_error *error) {
    char path[GWTF_CONFIG_PATH_MAX + 64];
    snprintf(path, sizeof path, "%.*s/model.safetensors.index.json", GWTF_CONFIG_PATH_MAX,
             directory);
    if (access(path, F_OK) == 0)
        return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED,
                              "the weights in '%s' are in several files: have transformers save "
                              "them in one, with max_shard_size=\"1TB\"",
                              directory);
    snprintf(path, sizeof path, "%.*s/model.safetensors", GWTF_CONFIG_PATH_MAX, directory);
    return gwtf_safetensors_open(path, file, error);
}

gwtf_status gwtf_import_model(const char *directory, const char *tokenizer,
                              const struct gwtf_kept *kept, const char *run,
                              struct gwtf_import *import, struct gwtf_error *error) {
    struct gwtf_import made = {.tensors = 0};
    struct work work = {.directory = directory, .made = &made, .error = error};
    char path[GWTF_CONFIG_PATH_MAX + 64];
    gwtf_status status = check_run(run, error);
    snprintf(path, sizeof path, "%.*s/config.json", GWTF_CONFIG_PATH_MAX, directory);
    if (status == GWTF_OK)
        status = gwtf_model_config_read(path, &made.model, error);
    if (status == GWTF_OK)
        status = open_weights(directory, &work.file, error);
    if (status != GWTF_OK)
        return status;
    work.setup = calloc(1, sizeof *work.setup);
    status = work.setup != NULL ? make_setup(&made.model, run, work.setup, error)
                                : gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    if (status == GWTF_OK)
        status = gwtf_kept_copy(kept, &work.setup->kept, error);
    if (status == GWTF_OK) {
        snprintf(made.tokenizer, sizeof made.tokenizer, "%s", tokenizer);
        snprintf(work.setup->tokenizer, sizeof work.setup->tokenizer, "%s", tokenizer);
        status = import_stages(&work, run);
    }
    if (status == GWTF_OK) {
        snprintf(made.snapshot, sizeof made.snapshot, "%s/snapshots/step-000000", run);
        *import = made;
    }
    if (work.setup != NULL)
        gwtf_kept_deinit(&work.setup->kept);
    free(work.setup);
    gwtf_safetensors_close(work.file);
    return status;
}
