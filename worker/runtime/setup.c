#include "worker/runtime/setup.h"

#include "worker/protocol/protocol.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static gwtf_status check_data(const char *key, const char *path,
                              const struct gwtf_tokens_info *info, const struct gwtf_config *config,
                              struct gwtf_error *error) {
    if (info->largest >= config->model.vocabulary)
        return gwtf_error_set(
            error, GWTF_ERROR_USAGE,
            "%s: '%s' holds token %u, model.vocabulary is %u: leave model.vocabulary out "
            "or set it to %u",
            key, path, info->largest, config->model.vocabulary, info->vocabulary);
    if (info->count < (uint64_t)config->model.context + 1)
        return gwtf_error_set(
            error, GWTF_ERROR_USAGE,
            "%s: '%s' holds %llu tokens, model.context %u needs at least %u: take a "
            "smaller context or more data",
            key, path, (unsigned long long)info->count, config->model.context,
            config->model.context + 1);
    return GWTF_OK;
}

static gwtf_status open_tokens(const char *key, const char *path, struct gwtf_tokens **tokens,
                               struct gwtf_error *error) {
    struct gwtf_error reason = {""};
    if (gwtf_tokens_open(path, tokens, &reason) == GWTF_OK)
        return GWTF_OK;
    return gwtf_error_set(error, GWTF_ERROR_USAGE, "%s: %.900s", key, reason.text);
}

static gwtf_status open_validation(struct gwtf_setup *setup, struct gwtf_error *error) {
    const struct gwtf_config *config = &setup->config;
    if (config->data.validation[0] == '\0')
        return GWTF_OK;
    gwtf_status status =
        open_tokens("data.validation", config->data.validation, &setup->validation, error);
    if (status != GWTF_OK)
        return status;
    struct gwtf_tokens_info info = gwtf_tokens_get_info(setup->validation);
    status = check_data("data.validation", config->data.validation, &info, config, error);
    if (status != GWTF_OK)
        return status;
    uint64_t windows = gwtf_tokens_validation_count(
        setup->validation, config->data.validation_sequences, config->model.context);
    uint64_t microbatches = windows / config->batch.microbatch;
    if (microbatches == 0)
        return gwtf_error_set(
            error, GWTF_ERROR_USAGE,
            "data.validation: %llu windows of %u tokens do not fill a microbatch of %u: take "
            "more validation data or a smaller batch.microbatch",
            (unsigned long long)windows, config->model.context, config->batch.microbatch);
    if (microbatches > UINT32_MAX / 2)
        microbatches = UINT32_MAX / 2;
    setup->validation_microbatches = (uint32_t)microbatches;
    setup->validation_windows = microbatches * config->batch.microbatch;
    return GWTF_OK;
}

/* The model's shape, and what it leaves to the family, which the configuration then says, too. */
static void resolve_model(struct gwtf_setup *setup) {
    static const enum gwtf_family families[] = {
        [GWTF_CONFIG_FAMILY_GPT2] = GWTF_FAMILY_GPT2,
        [GWTF_CONFIG_FAMILY_LLAMA] = GWTF_FAMILY_LLAMA,
    };
    struct gwtf_config *config = &setup->config;
    struct gwtf_model_shape model = {
        .family = families[config->model.family],
        .layers = config->model.layers,
        .width = config->model.width,
        .heads = config->model.heads,
        .key_value_heads = config->model.key_value_heads,
        .hidden = config->model.hidden,
        .context = config->model.context,
        .vocabulary = config->model.vocabulary,
        .tied_head = config->model.tied_head,
        .rope_theta = (float)config->model.rope_theta,
        .norm_epsilon = (float)config->model.norm_epsilon,
    };
    setup->model = gwtf_model_shape_resolve(&model);
    config->model.key_value_heads = setup->model.key_value_heads;
    config->model.hidden = setup->model.hidden;
}

static void resolve(struct gwtf_setup *setup) {
    struct gwtf_config *config = &setup->config;
    resolve_model(setup);
    static const enum gwtf_decay decays[] = {
        [GWTF_CONFIG_DECAY_NONE] = GWTF_DECAY_NONE,
        [GWTF_CONFIG_DECAY_LINEAR] = GWTF_DECAY_LINEAR,
        [GWTF_CONFIG_DECAY_COSINE] = GWTF_DECAY_COSINE,
    };
    setup->schedule = (struct gwtf_schedule){
        .learning_rate = config->optimizer.learning_rate,
        .minimum = config->optimizer.minimum,
        .warmup = config->optimizer.warmup,
        .iterations = config->run.iterations,
        .decay = decays[config->optimizer.decay],
    };
    setup->data_nodes = gwtf_config_count(config, GWTF_CONFIG_ROLE_DATA);
    setup->relays = gwtf_config_count(config, GWTF_CONFIG_ROLE_RELAY);
    setup->places = (config->pipeline.stages + 1) * config->run.places;
}

/* Every stage's shape can be built: the model module has the last word on what is possible. */
static gwtf_status check_shapes(const struct gwtf_setup *setup, struct gwtf_error *error) {
    for (uint32_t stage = 0; stage <= setup->config.pipeline.stages; stage++) {
        struct gwtf_stage_shape shape = gwtf_setup_stage_shape(setup, stage);
        struct gwtf_stage_plan plan;
        gwtf_status status = gwtf_stage_plan_init(&plan, &shape, error);
        if (status != GWTF_OK)
            return status;
        gwtf_stage_plan_deinit(&plan);
    }
    struct gwtf_placement *placements = NULL;
    gwtf_status status = gwtf_setup_place(setup, &placements, error);
    free(placements);
    return status;
}

/* What a node trains on, and where that was said. */
struct source {
    const char *key, *paths;
    bool validates; /* it takes part in validation, too */
};

static gwtf_status open_train(struct gwtf_setup *setup, const struct source *source,
                              struct gwtf_error *error) {
    struct gwtf_config *config = &setup->config;
    struct gwtf_error reason = {""};
    if (gwtf_corpus_open(source->paths, config->model.context, &setup->train, &reason) != GWTF_OK)
        return gwtf_error_set(error, GWTF_ERROR_USAGE, "%s: %.900s", source->key, reason.text);
    const struct gwtf_tokens_info *info = gwtf_corpus_get_info(setup->train);
    const char *path = gwtf_corpus_path_of_largest(setup->train);
    if (config->model.vocabulary == 0)
        config->model.vocabulary = info->vocabulary;
    gwtf_status status = check_data(source->key, path, info, config, error);
    if (status == GWTF_OK && gwtf_corpus_sequences(setup->train) == 0)
        status = gwtf_error_set(error, GWTF_ERROR_USAGE,
                                "%s: none of the files holds the %u tokens that "
                                "model.context %u needs: take a smaller context or longer files",
                                source->key, config->model.context + 1, config->model.context);
    return status;
}

/* So that each snapshot has it, which may be all that is left of a run. */
static gwtf_status read_tokenizer(struct gwtf_setup *setup, const struct source *source,
                                  struct gwtf_error *error) {
    const char *path = gwtf_corpus_path_of_tokenizer(setup->train);
    struct gwtf_error reason = {""};
    snprintf(setup->tokenizer, sizeof setup->tokenizer, "%s",
             gwtf_corpus_get_info(setup->train)->tokenizer);
    if (path == NULL || gwtf_kept_read(path, &setup->kept, &reason) == GWTF_OK)
        return GWTF_OK;
    return gwtf_error_set(error, GWTF_ERROR_USAGE, "%s: %.900s", source->key, reason.text);
}

static gwtf_status open_data(struct gwtf_setup *setup, const struct source *source,
                             struct gwtf_error *error) {
    gwtf_status status = open_train(setup, source, error);
    if (status == GWTF_OK)
        status = read_tokenizer(setup, source, error);
    if (status == GWTF_OK && source->validates)
        status = open_validation(setup, error);
    return status;
}

/* SOURCE: NULL for none. */
static gwtf_status open_setup(const struct gwtf_config *config, const struct source *source,
                              struct gwtf_setup *setup, struct gwtf_error *error) {
    struct gwtf_setup *made = calloc(1, sizeof *made);
    if (made == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    made->config = *config;
    gwtf_status status = source != NULL ? open_data(made, source, error) : GWTF_OK;
    if (status == GWTF_OK) {
        resolve(made);
        status = check_shapes(made, error);
    }
    if (status == GWTF_OK)
        *setup = *made;
    else
        gwtf_setup_close(made);
    free(made);
    return status;
}

gwtf_status gwtf_setup_open(const struct gwtf_config *config, struct gwtf_setup *setup,
                            struct gwtf_error *error) {
    const struct source source = {
        .key = "data.train", .paths = config->data.train, .validates = true};
    return open_setup(config, &source, setup, error);
}

gwtf_status gwtf_setup_open_relay(const struct gwtf_config *config, struct gwtf_setup *setup,
                                  struct gwtf_error *error) {
    return open_setup(config, NULL, setup, error);
}

gwtf_status gwtf_setup_open_joined(const struct gwtf_config *config, const char *own_data,
                                   struct gwtf_setup *setup, struct gwtf_error *error) {
    bool is_own = own_data[0] != '\0';
    const struct source source = {.key = is_own ? "--data" : "data.train",
                                  .paths = is_own ? own_data : config->data.train};
    return open_setup(config, &source, setup, error);
}

void gwtf_setup_close(struct gwtf_setup *setup) {
    gwtf_corpus_close(setup->train);
    gwtf_tokens_close(setup->validation);
    gwtf_kept_deinit(&setup->kept);
    setup->train = NULL;
    setup->validation = NULL;
}

enum gwtf_packing gwtf_setup_packing(const struct gwtf_setup *setup) {
    static const enum gwtf_packing packings[] = {
        [GWTF_CONFIG_COMPRESS_NONE] = GWTF_PACKING_NONE,
        [GWTF_CONFIG_COMPRESS_BFLOAT16] = GWTF_PACKING_BFLOAT16,
        [GWTF_CONFIG_COMPRESS_INT8] = GWTF_PACKING_INT8,
    };
    return packings[setup->config.network.compress];
}

uint64_t gwtf_setup_boundary_floats(const struct gwtf_setup *setup) {
    return (uint64_t)setup->config.batch.microbatch * setup->model.context * setup->model.width;
}

uint32_t gwtf_setup_validation_share(const struct gwtf_setup *setup, uint32_t rank) {
    uint32_t all = setup->validation_microbatches;
    if (rank >= setup->data_nodes)
        return 0;
    return all / setup->data_nodes + (rank < all % setup->data_nodes ? 1 : 0);
}

/* Sequences of an iteration, over all data nodes. */
static uint64_t sequences_of(const struct gwtf_config *config) {
    return (uint64_t)gwtf_config_count(config, GWTF_CONFIG_ROLE_DATA) * config->batch.microbatches *
           config->batch.microbatch;
}

/* The place in the order at which the iteration after AFTER begins. */
static uint64_t place_after(const struct gwtf_config *config, uint64_t after) {
    return config->data.start_sequence +
           (after - config->data.start_iteration) * sequences_of(config);
}

uint64_t gwtf_setup_place_of(const struct gwtf_setup *setup, uint32_t iteration) {
    return place_after(&setup->config, (uint64_t)iteration - 1); /* they count from 1 */
}

static gwtf_status read_validation(const struct gwtf_setup *setup, uint64_t sequence,
                                   uint32_t *inputs, uint32_t *labels) {
    uint32_t context = setup->config.model.context;
    uint64_t start = gwtf_tokens_validation_start(setup->validation, sequence,
                                                  setup->validation_windows, context);
    gwtf_status status = gwtf_tokens_read(setup->validation, start, context, inputs);
    if (status == GWTF_OK)
        status = gwtf_tokens_read(setup->validation, start + 1, context, labels);
    return status;
}

gwtf_status gwtf_setup_batch(const struct gwtf_setup *setup, uint32_t iteration, uint32_t number,
                             uint64_t place, uint32_t *inputs, uint32_t *labels) {
    const struct gwtf_config *config = &setup->config;
    size_t context = config->model.context;
    uint64_t first = (uint64_t)number * config->batch.microbatch;
    gwtf_status status = GWTF_OK;
    for (uint32_t b = 0; b < config->batch.microbatch && status == GWTF_OK; b++)
        status = config->data.order == GWTF_CORPUS_RANDOM
                     ? gwtf_corpus_read_random(setup->train, config->run.seed, iteration, first + b,
                                               inputs + b * context, labels + b * context)
                     : gwtf_corpus_read(setup->train, config->data.order, config->run.seed,
                                        place + b, inputs + b * context, labels + b * context);
    return status;
}

gwtf_status gwtf_setup_validation_batch(const struct gwtf_setup *setup, uint32_t rank,
                                        uint32_t index, uint32_t *inputs, uint32_t *labels) {
    uint32_t microbatch = setup->config.batch.microbatch;
    size_t context = setup->config.model.context;
    uint64_t first = ((uint64_t)index * setup->data_nodes + rank) * microbatch;
    gwtf_status status = GWTF_OK;
    for (uint32_t b = 0; b < microbatch && status == GWTF_OK; b++)
        status = read_validation(setup, first + b, inputs + b * context, labels + b * context);
    return status;
}

/* The order of A is that of B. */
static bool is_same_order(const struct gwtf_config *a, const struct gwtf_config *b) {
    return strcmp(a->data.train, b->data.train) == 0 && a->data.order == b->data.order &&
           a->run.seed == b->run.seed && a->model.context == b->model.context;
}

void gwtf_setup_keep_tokenizer(struct gwtf_setup *setup, const char *path) {
    char name[sizeof setup->tokenizer];
    struct gwtf_kept kept = {0};
    if (setup->train == NULL || setup->kept.count > 0 ||
        gwtf_snapshot_tokenizer(path, name, &kept, NULL) != GWTF_OK)
        return;
    bool may_be_same = setup->tokenizer[0] == '\0' || strcmp(setup->tokenizer, name) == 0;
    if (kept.count == 0 || !may_be_same) {
        gwtf_kept_deinit(&kept);
        return;
    }
    setup->kept = kept;
    memcpy(setup->tokenizer, name, sizeof name);
}

gwtf_status gwtf_setup_continue(struct gwtf_setup *setup, const char *path, uint64_t step,
                                struct gwtf_error *error) {
    struct gwtf_config *config = &setup->config, *before = malloc(sizeof *before);
    char *text = NULL;
    uint64_t sequence = GWTF_SNAPSHOT_SEQUENCE_UNKNOWN;
    gwtf_status status = before != NULL ? gwtf_snapshot_config(path, &text, &sequence, error)
                                        : gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    if (status == GWTF_OK)
        status = gwtf_config_parse(text, "the snapshot's configuration", NULL, 0, before, error);
    if (status == GWTF_OK && is_same_order(before, config) &&
        before->data.start_iteration <= step) {
        uint64_t place =
            sequence != GWTF_SNAPSHOT_SEQUENCE_UNKNOWN ? sequence : place_after(before, step);
        bool plain = place == step * sequences_of(config);
        config->data.start_iteration = plain ? 0 : (uint32_t)step;
        config->data.start_sequence = plain ? 0 : place;
    } else if (status == GWTF_OK) {
        config->data.start_iteration = (uint32_t)step;
        config->data.start_sequence = 0;
    }
    gwtf_setup_keep_tokenizer(setup, path);
    free(text);
    free(before);
    return status;
}

float gwtf_setup_loss_scale(const struct gwtf_setup *setup) {
    const struct gwtf_config *config = &setup->config;
    double tokens = (double)setup->data_nodes * config->batch.microbatches *
                    config->batch.microbatch * config->model.context;
    return (float)(1.0 / tokens);
}

struct gwtf_stage_shape gwtf_setup_stage_shape(const struct gwtf_setup *setup, uint32_t stage) {
    return gwtf_stage_shape_of(&setup->model, stage, setup->config.pipeline.stages);
}

enum gwtf_backend_kind gwtf_setup_backend(const struct gwtf_setup *setup) {
    enum gwtf_config_device device = setup->config.backend.device;
    bool readable = setup->config.backend.kernels == GWTF_CONFIG_KERNELS_REFERENCE;
    if (device == GWTF_CONFIG_DEVICE_CUDA ||
        (device == GWTF_CONFIG_DEVICE_AUTO && !readable && gwtf_gpu_count() > 0))
        return GWTF_BACKEND_CUDA;
    return readable ? GWTF_BACKEND_REFERENCE : GWTF_BACKEND_ONEDNN;
}

static enum gwtf_precision precision_of(const struct gwtf_setup *setup) {
    static const enum gwtf_precision precisions[] = {
        [GWTF_CONFIG_PRECISION_FLOAT32] = GWTF_PRECISION_FLOAT32,
        [GWTF_CONFIG_PRECISION_BFLOAT16] = GWTF_PRECISION_BFLOAT16,
        [GWTF_CONFIG_PRECISION_TFLOAT32] = GWTF_PRECISION_TFLOAT32,
    };
    return precisions[setup->config.backend.precision];
}

struct gwtf_stage_options gwtf_setup_stage_options(const struct gwtf_setup *setup,
                                                   struct gwtf_stage_shape shape) {
    return (struct gwtf_stage_options){
        .shape = shape,
        .backend = gwtf_setup_backend(setup),
        .precision = precision_of(setup),
        .recompute = setup->config.backend.recompute == GWTF_CONFIG_RECOMPUTE_BLOCKS,
        .microbatch = setup->config.batch.microbatch,
        .slots = 1,
        .threads = 1,
    };
}

struct gwtf_optimizer_step gwtf_setup_step(const struct gwtf_setup *setup, uint32_t iteration,
                                           double gradient_norm) {
    const struct gwtf_config *config = &setup->config;
    return (struct gwtf_optimizer_step){
        .step = iteration,
        .learning_rate = (float)gwtf_schedule_at(&setup->schedule, iteration),
        .beta1 = (float)config->optimizer.beta1,
        .beta2 = (float)config->optimizer.beta2,
        .epsilon = (float)config->optimizer.epsilon,
        .weight_decay = (float)config->optimizer.weight_decay,
        .gradient_scale = gwtf_clip_scale(gradient_norm, config->optimizer.clip),
    };
}

/* The stage with the fewest relays so far, the first of them. */
static uint32_t emptiest_stage(const uint32_t *replicas, uint32_t stages) {
    uint32_t best = 1;
    for (uint32_t stage = 2; stage <= stages; stage++)
        if (replicas[stage] < replicas[best])
            best = stage;
    return best;
}

/* Entries with a stage of their own first, so that the others fill what is left evenly. */
static void assign_stages(const struct gwtf_setup *setup, struct gwtf_placement *placements,
                          uint32_t *replicas) {
    uint32_t count = setup->data_nodes + setup->relays;
    for (uint32_t i = 0; i < count; i++)
        if (i < setup->data_nodes || placements[i].stage != 0)
            replicas[placements[i].stage]++;
    for (uint32_t i = setup->data_nodes; i < count; i++)
        if (placements[i].stage == 0) {
            placements[i].stage = emptiest_stage(replicas, setup->config.pipeline.stages);
            replicas[placements[i].stage]++;
        }
}

static void fill_placements(const struct gwtf_setup *setup, struct gwtf_placement *placements) {
    gwtf_node_id data = 0, relay = setup->data_nodes;
    for (size_t entry = 0; entry < setup->config.nodes_count; entry++) {
        const struct gwtf_config_node *node = &setup->config.nodes[entry];
        for (uint32_t i = 0; i < node->count; i++) {
            gwtf_node_id id = node->role == GWTF_CONFIG_ROLE_DATA ? data++ : relay++;
            placements[id] = (struct gwtf_placement){
                .node = id,
                .stage = node->role == GWTF_CONFIG_ROLE_DATA ? 0 : node->stage,
                .capacity = node->capacity,
                .host = node->host,
                .partition = node->partition,
                .region = node->region,
                .device = node->device,
            };
        }
    }
    uint32_t each = setup->config.run.places, stages = setup->config.pipeline.stages;
    for (uint32_t i = 0; i < setup->places; i++)
        placements[relay + i] = (struct gwtf_placement){.node = relay + i,
                                                        .stage = (1 + i / each) % (stages + 1),
                                                        .is_free = true,
                                                        .host = "",
                                                        .partition = "",
                                                        .region = ""};
}

/* What the protocol's tables can hold. */
static gwtf_status check_limits(const struct gwtf_setup *setup,
                                const struct gwtf_placement *placements, const uint32_t *replicas,
                                struct gwtf_error *error) {
    uint32_t stages = setup->config.pipeline.stages;
    for (uint32_t stage = 0; stage <= stages; stage++)
        if (replicas[stage] + setup->config.run.places > GWTF_REPLICAS_MAX)
            return gwtf_error_set(
                error, GWTF_ERROR_USAGE,
                "nodes: stage %u has %u nodes, more than the %d that can hold one "
                "stage, with run.places: take fewer nodes, or more stages",
                stage, replicas[stage], GWTF_REPLICAS_MAX);
    for (uint32_t i = 0; i < setup->data_nodes + setup->relays; i++)
        if (placements[i].capacity > GWTF_CAPACITY_MAX)
            return gwtf_error_set(error, GWTF_ERROR_USAGE,
                                  "nodes: a capacity of %u is more than the %d that a node can "
                                  "hold: take less, or 0 for what fits",
                                  placements[i].capacity, GWTF_CAPACITY_MAX);
    return GWTF_OK;
}

gwtf_status gwtf_setup_place(const struct gwtf_setup *setup, struct gwtf_placement **placements,
                             struct gwtf_error *error) {
    uint32_t stages = setup->config.pipeline.stages;
    uint32_t count = setup->data_nodes + setup->relays + setup->places;
    if (stages > GWTF_STAGES_MAX)
        return gwtf_error_set(
            error, GWTF_ERROR_USAGE,
            "pipeline.stages is %u, more than the %d that a run can have: lower it", stages,
            GWTF_STAGES_MAX);
    struct gwtf_placement *made = calloc(count, sizeof *made);
    uint32_t *replicas = calloc((size_t)stages + 1, sizeof *replicas);
    if (made == NULL || replicas == NULL) {
        free(made);
        free(replicas);
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory for %u nodes", count);
    }
    fill_placements(setup, made);
    assign_stages(setup, made, replicas);
    gwtf_status status = check_limits(setup, made, replicas, error);
    uint64_t microbatches = (uint64_t)setup->data_nodes * setup->config.batch.microbatches;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t sharing = replicas[made[i].stage] + made[i].is_free;
        uint64_t useful = (microbatches + sharing - 1) / sharing;
        made[i].capacity_useful = useful > GWTF_CAPACITY_MAX ? GWTF_CAPACITY_MAX : (uint32_t)useful;
    }
    free(replicas);
    if (status == GWTF_OK)
        *placements = made;
    else
        free(made);
    return status;
}

void gwtf_setup_snapshots_path(const struct gwtf_setup *setup, char *path, size_t path_bytes) {
    snprintf(path, path_bytes, "%s/snapshots", setup->config.run.directory);
}

static bool is_of_model(const struct gwtf_snapshot_info *found, const struct gwtf_setup *setup) {
    const struct gwtf_model_shape *model = &setup->model;
    bool same = strcmp(found->family, gwtf_family_word(model->family)) == 0 &&
                found->layers == model->layers && found->width == model->width &&
                found->heads == model->heads && found->context == model->context &&
                found->vocabulary == model->vocabulary && found->tied_head == model->tied_head;
    /* What older snapshots do not say was the usual. */
    if (found->hidden == 0)
        return same && model->family == GWTF_FAMILY_GPT2;
    return same && found->key_value_heads == model->key_value_heads &&
           found->hidden == model->hidden && found->rope_theta == setup->config.model.rope_theta &&
           found->norm_epsilon == setup->config.model.norm_epsilon;
}

gwtf_status gwtf_setup_find_snapshot(const struct gwtf_setup *setup,
                                     struct gwtf_snapshot_info *info,
                                     void (*skipped)(void *context, const char *line),
                                     void *context, struct gwtf_error *error) {
    char snapshots[GWTF_SNAPSHOT_PATH_MAX];
    gwtf_setup_snapshots_path(setup, snapshots, sizeof snapshots);
    struct gwtf_snapshot_info found;
    if (gwtf_snapshot_newest(snapshots, &found, skipped, context, NULL) != GWTF_OK)
        return gwtf_error_set(
            error, GWTF_ERROR_MISSING,
            "--resume: no whole snapshot under '%s': start afresh with --resume=auto, or give "
            "another directory with --set run.directory=...",
            snapshots);
    if (!is_of_model(&found, setup))
        return gwtf_error_set(
            error, GWTF_ERROR_USAGE,
            "--resume: '%s' is of another model (%s, %u layers, width %u, %u heads, %u of keys and "
            "values, hidden %u, context %u, vocabulary %u, rope_theta %g, norm_epsilon %g): give "
            "the configuration that it was trained with",
            found.path, found.family, found.layers, found.width, found.heads, found.key_value_heads,
            found.hidden, found.context, found.vocabulary, found.rope_theta, found.norm_epsilon);
    *info = found;
    return GWTF_OK;
}

/* The plan's tensors with pointers into three flat arrays. *TENSORS is the caller's to free. */
static gwtf_status list_tensors(const struct gwtf_stage_plan *plan, float *weights,
                                float *first_moments, float *second_moments,
                                struct gwtf_snapshot_tensor **tensors) {
    struct gwtf_snapshot_tensor *made = calloc(plan->tensors_count, sizeof *made);
    if (made == NULL)
        return GWTF_ERROR_MEMORY;
    for (size_t i = 0; i < plan->tensors_count; i++) {
        const struct gwtf_tensor *tensor = &plan->tensors[i];
        made[i] = (struct gwtf_snapshot_tensor){
            .name = tensor->name,
            .rank = tensor->rank,
            .dims = {tensor->dims[0], tensor->dims[1]},
            .weights = weights + tensor->offset,
            .first_moments = first_moments + tensor->offset,
            .second_moments = second_moments + tensor->offset,
        };
    }
    *tensors = made;
    return GWTF_OK;
}

gwtf_status gwtf_setup_restore(const struct gwtf_setup *setup, const char *path, gwtf_stage *stage,
                               struct gwtf_error *error) {
    if (path[0] == '\0') {
        gwtf_stage_initialise(stage, setup->config.run.seed);
        return GWTF_OK;
    }
    const struct gwtf_stage_plan *plan = gwtf_stage_get_plan(stage);
    struct gwtf_snapshot_tensor *tensors = NULL;
    if (list_tensors(plan, gwtf_stage_weights(stage), gwtf_stage_first_moments(stage),
                     gwtf_stage_second_moments(stage), &tensors) != GWTF_OK)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    gwtf_status status = gwtf_snapshot_load(path, tensors, plan->tensors_count, error);
    gwtf_stage_written(stage);
    free(tensors);
    return status;
}

/* The run's name is the last part of its directory. */
static const char *run_name(const struct gwtf_setup *setup) {
    const char *slash = strrchr(setup->config.run.directory, '/');
    return slash != NULL && slash[1] != '\0' ? slash + 1 : setup->config.run.directory;
}

gwtf_status gwtf_setup_write_stage(const struct gwtf_setup *setup,
                                   const struct gwtf_stage_plan *plan, uint64_t step,
                                   uint64_t sequence, const float *weights,
                                   const float *first_moments, const float *second_moments,
                                   const double *rest_norm, struct gwtf_snapshot_file *file,
                                   struct gwtf_error *error) {
    char *text = NULL;
    struct gwtf_snapshot_tensor *tensors = NULL;
    /* The list's pointers are not const because it serves loading too; writing only reads. */
    if (gwtf_config_text(&setup->config, &text) != GWTF_OK ||
        list_tensors(plan, (float *)(uintptr_t)weights, (float *)(uintptr_t)first_moments,
                     (float *)(uintptr_t)second_moments, &tensors) != GWTF_OK) {
        free(text);
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    }
    bool of_data = plan->shape.stage == 0;
    struct gwtf_snapshot_stage stage = {
        .run = run_name(setup),
        .step = step,
        .stage = plan->shape.stage,
        .stages = plan->shape.stages,
        .first_layer = plan->shape.first_layer,
        .layers = plan->shape.layers,
        .family = gwtf_family_word(setup->model.family),
        .width = setup->model.width,
        .heads = setup->model.heads,
        .key_value_heads = setup->model.key_value_heads,
        .hidden = setup->model.hidden,
        .rope_theta = setup->config.model.rope_theta,
        .norm_epsilon = setup->config.model.norm_epsilon,
        .context = setup->model.context,
        .vocabulary = setup->model.vocabulary,
        .tied_head = setup->model.tied_head,
        .precision = "float32",
        .config = text,
        .tokenizer = of_data ? setup->tokenizer : NULL,
        .kept = of_data ? &setup->kept : NULL,
        .tensors = tensors,
        .tensors_count = plan->tensors_count,
        .of_rest = rest_norm != NULL,
        .gradient_norm = rest_norm != NULL ? *rest_norm : 0,
        .sequence = sequence,
    };
    char snapshots[GWTF_SNAPSHOT_PATH_MAX];
    gwtf_setup_snapshots_path(setup, snapshots, sizeof snapshots);
    gwtf_status status = gwtf_snapshot_write_stage(snapshots, &stage, file, error);
    free(tensors);
    free(text);
    return status;
}
