#include "worker/runtime/local.h"

#include "share/base/assert.h"
#include "worker/runtime/clock.h"
#include "worker/runtime/machine.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

/* Stage 0 stands first and last: its embedding starts the ring, its head ends it. */
struct local {
    const struct gwtf_setup *setup;
    uint32_t stages;
    gwtf_stage **stage; /* [0..stages] */
    void **activation;  /* [0..stages]: output of each stage, (B, T, C), packed as for the way to
                           another node, so that losses agree with a distributed run's */
    void *gradient[2];  /* of a stage's output and input, taken in turn */
    uint32_t *inputs;   /* (B, T) */
    uint32_t *labels;   /* (B, T) */
};

static uint32_t thread_count(const struct gwtf_setup *setup) {
    if (setup->config.backend.threads != 0)
        return setup->config.backend.threads;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 1 : (uint32_t)cores;
}

static void local_deinit(struct local *local) {
    bool made = local->stage != NULL && local->activation != NULL;
    for (uint32_t i = 0; made && i <= local->stages; i++)
        gwtf_stage_boundary_destroy(local->stage[0], local->activation[i]);
    for (int i = 0; local->stage != NULL && i < 2; i++)
        gwtf_stage_boundary_destroy(local->stage[0], local->gradient[i]);
    for (uint32_t i = 0; local->stage != NULL && i <= local->stages; i++)
        gwtf_stage_destroy(local->stage[i]);
    free(local->stage);
    free(local->activation);
    free(local->inputs);
    free(local->labels);
}

static struct gwtf_stage_options stage_options(const struct gwtf_setup *setup, uint32_t index) {
    struct gwtf_stage_options options =
        gwtf_setup_stage_options(setup, gwtf_setup_stage_shape(setup, index));
    options.threads = thread_count(setup);
    options.packing = gwtf_setup_packing(setup);
    return options;
}

/* Before anything is allocated: a process that takes more than there is, the system kills without a
 * word. */
static gwtf_status check_room(const struct gwtf_setup *setup, struct gwtf_error *error) {
    uint64_t boundary_bytes =
        gwtf_packed_bytes(gwtf_setup_packing(setup), gwtf_setup_boundary_floats(setup));
    uint64_t needed = (setup->config.pipeline.stages + 3) * boundary_bytes;
    uint64_t free_bytes = gwtf_machine_free_bytes();
    for (uint32_t i = 0; i <= setup->config.pipeline.stages; i++) {
        struct gwtf_stage_options options = stage_options(setup, i);
        struct gwtf_stage_plan plan;
        uint64_t fixed, slot;
        gwtf_status status = gwtf_stage_plan_init(&plan, &options.shape, error);
        if (status != GWTF_OK)
            return status;
        gwtf_stage_memory(&options, &plan, &fixed, &slot);
        if (options.backend == GWTF_BACKEND_CUDA) {
            fixed = gwtf_stage_host_memory(&options, &plan);
            slot = 0;
        }
        gwtf_stage_plan_deinit(&plan);
        if (__builtin_add_overflow(needed, fixed, &needed) ||
            __builtin_add_overflow(needed, slot, &needed))
            needed = UINT64_MAX;
    }
    if (needed <= free_bytes)
        return GWTF_OK;
    return gwtf_error_set(error, GWTF_ERROR_MEMORY,
                          "this model needs %llu MiB in one process, %llu MiB are free: set a "
                          "smaller batch.microbatch or model, or backend.recompute to \"blocks\"",
                          (unsigned long long)(needed >> 20),
                          (unsigned long long)(free_bytes >> 20));
}

static gwtf_status make_stage(struct local *local, uint32_t index, const char *snapshot,
                              struct gwtf_error *error) {
    const struct gwtf_setup *setup = local->setup;
    struct gwtf_stage_options options = stage_options(setup, index);
    gwtf_status status = gwtf_stage_create(&options, &local->stage[index], error);
    if (status == GWTF_OK)
        status = gwtf_setup_restore(setup, snapshot, local->stage[index], error);
    return status;
}

static gwtf_status make_boundaries(struct local *local) {
    const struct gwtf_setup *setup = local->setup;
    uint64_t bytes =
        gwtf_packed_bytes(gwtf_setup_packing(setup), gwtf_setup_boundary_floats(setup));
    gwtf_stage *stage = local->stage[0];
    gwtf_status status = GWTF_OK;
    for (uint32_t i = 0; status == GWTF_OK && i <= local->stages; i++)
        status = gwtf_stage_boundary_create(stage, bytes, &local->activation[i]);
    for (int i = 0; status == GWTF_OK && i < 2; i++)
        status = gwtf_stage_boundary_create(stage, bytes, &local->gradient[i]);
    return status;
}

static gwtf_status local_init(struct local *local, const struct gwtf_setup *setup,
                              const char *snapshot, struct gwtf_error *error) {
    size_t tokens = (size_t)setup->config.batch.microbatch * setup->model.context;
    *local = (struct local){.setup = setup, .stages = setup->config.pipeline.stages};
    gwtf_status status = check_room(setup, error);
    if (status != GWTF_OK)
        return status;
    local->stage = calloc((size_t)local->stages + 1, sizeof *local->stage);
    local->activation = calloc((size_t)local->stages + 1, sizeof *local->activation);
    local->inputs = malloc(tokens * sizeof *local->inputs);
    local->labels = malloc(tokens * sizeof *local->labels);
    if (local->stage == NULL || local->activation == NULL || local->inputs == NULL ||
        local->labels == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY,
                              "out of memory: take a smaller batch.microbatch");
    for (uint32_t i = 0; status == GWTF_OK && i <= local->stages; i++)
        status = make_stage(local, i, snapshot, error);
    if (status == GWTF_OK && make_boundaries(local) != GWTF_OK)
        status = gwtf_error_set(error, GWTF_ERROR_MEMORY,
                                "out of memory: take a smaller batch.microbatch");
    return status;
}

/* Embedding and blocks; the final hidden state is in activation[stages] afterwards. */
static void forward(struct local *local, bool keep) {
    gwtf_stage_embed(local->stage[0], local->inputs, local->activation[0]);
    for (uint32_t i = 1; i <= local->stages; i++) {
        gwtf_stage_forward(local->stage[i], 0, local->activation[i - 1], local->activation[i],
                           keep);
    }
}

static gwtf_status read_batch(struct local *local, bool validation, uint32_t iteration,
                              uint32_t rank, uint32_t index, struct gwtf_error *error) {
    const struct gwtf_setup *setup = local->setup;
    uint32_t number = rank * setup->config.batch.microbatches + index;
    uint64_t place =
        gwtf_setup_place_of(setup, iteration) + (uint64_t)number * setup->config.batch.microbatch;
    gwtf_status status =
        validation
            ? gwtf_setup_validation_batch(setup, rank, index, local->inputs, local->labels)
            : gwtf_setup_batch(setup, iteration, number, place, local->inputs, local->labels);
    if (status != GWTF_OK)
        gwtf_error_set(error, status,
                       "'%.800s' has changed or is damaged: make it again with gwtf tokenize",
                       validation ? setup->config.data.validation : setup->config.data.train);
    return status;
}

/*
 * Forward and backward of the microbatch in inputs and labels; gradients are added up in the
 * stages. Returns its loss in nats.
 */
static double train_microbatch(struct local *local) {
    double loss;
    forward(local, true);
    void *gradient = local->gradient[0], *next = local->gradient[1];
    gwtf_stage_loss(local->stage[0], local->activation[local->stages], local->labels,
                    gwtf_setup_loss_scale(local->setup), &loss, gradient, NULL);
    for (uint32_t i = local->stages; i >= 1; i--) {
        gwtf_stage_backward(local->stage[i], 0, local->activation[i - 1], gradient, next);
        void *taken = gradient;
        gradient = next;
        next = taken;
    }
    gwtf_stage_embed_backward(local->stage[0], local->inputs, gradient);
    return loss;
}

static double step(struct local *local, uint32_t iteration) {
    double squares = 0;
    for (uint32_t i = 0; i <= local->stages; i++)
        squares += gwtf_stage_gradient_squares(local->stage[i]);
    double norm = sqrt(squares);
    struct gwtf_optimizer_step settings = gwtf_setup_step(local->setup, iteration, norm);
    for (uint32_t i = 0; i <= local->stages; i++) {
        gwtf_stage_step(local->stage[i], NULL, &settings);
        gwtf_stage_zero_gradients(local->stage[i]);
    }
    return norm;
}

static gwtf_status validate(struct local *local, double *validation_loss,
                            struct gwtf_error *error) {
    const struct gwtf_setup *setup = local->setup;
    double sum = 0;
    for (uint32_t rank = 0; rank < setup->data_nodes; rank++)
        for (uint32_t i = 0; i < gwtf_setup_validation_share(setup, rank); i++) {
            double loss;
            gwtf_status status = read_batch(local, true, 1, rank, i, error);
            if (status != GWTF_OK)
                return status;
            forward(local, false);
            gwtf_stage_loss(local->stage[0], local->activation[local->stages], local->labels, 0,
                            &loss, NULL, NULL);
            sum += loss;
        }
    *validation_loss = sum / ((double)setup->validation_windows * setup->model.context);
    return GWTF_OK;
}

/* All microbatches of an iteration; LOSS gets their sum in nats. */
static gwtf_status train_microbatches(struct local *local, uint32_t iteration, double *loss,
                                      struct gwtf_error *error) {
    const struct gwtf_setup *setup = local->setup;
    *loss = 0;
    for (uint32_t rank = 0; rank < setup->data_nodes; rank++)
        for (uint32_t i = 0; i < setup->config.batch.microbatches; i++) {
            gwtf_status status = read_batch(local, false, iteration, rank, i, error);
            if (status != GWTF_OK)
                return status;
            *loss += train_microbatch(local);
        }
    return GWTF_OK;
}

static gwtf_status train_iteration(struct local *local, uint32_t iteration,
                                   struct gwtf_metrics *metrics, struct gwtf_error *error) {
    const struct gwtf_setup *setup = local->setup;
    gwtf_time_us start_us = gwtf_clock_now_us();
    double loss;
    gwtf_status status = train_microbatches(local, iteration, &loss, error);
    if (status != GWTF_OK)
        return status;
    double norm = step(local, iteration);
    for (uint32_t i = 0; i <= local->stages; i++) {
        status = gwtf_stage_check(local->stage[i], error);
        if (status != GWTF_OK)
            return status;
    }
    double seconds = (double)(gwtf_clock_now_us() - start_us) * 1e-6;
    uint32_t microbatches = setup->data_nodes * setup->config.batch.microbatches;
    uint64_t tokens =
        (uint64_t)microbatches * setup->config.batch.microbatch * setup->model.context;
    *metrics = (struct gwtf_metrics){
        .iteration = iteration,
        .loss = loss / (double)tokens,
        .validation_loss = NAN,
        .tokens = tokens,
        .seconds = seconds,
        .tokens_per_second = (double)tokens / seconds,
        .microbatches = microbatches,
        .nodes = 1,
        .stages = setup->config.pipeline.stages,
        .gradient_norm = norm,
        .learning_rate = gwtf_schedule_at(&setup->schedule, iteration),
    };
    /* One process computes all stages, one after the other, all the time. */
    for (uint32_t stage = 0; stage < metrics->stages && stage < GWTF_RUN_STAGES_MAX; stage++)
        metrics->stage_utilisation[stage] = 1;
    return GWTF_OK;
}

static gwtf_status write_snapshot(struct local *local, uint32_t iteration,
                                  struct gwtf_error *error) {
    const struct gwtf_setup *setup = local->setup;
    struct gwtf_snapshot_file *files = calloc((size_t)local->stages + 1, sizeof *files);
    if (files == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    gwtf_status status = GWTF_OK;
    for (uint32_t i = 0; status == GWTF_OK && i <= local->stages; i++) {
        gwtf_stage *stage = local->stage[i];
        status = gwtf_setup_write_stage(setup, gwtf_stage_get_plan(stage), iteration,
                                        gwtf_setup_place_of(setup, iteration + 1),
                                        gwtf_stage_weights(stage), gwtf_stage_first_moments(stage),
                                        gwtf_stage_second_moments(stage), NULL, &files[i], error);
    }
    char snapshots[GWTF_SNAPSHOT_PATH_MAX];
    gwtf_setup_snapshots_path(setup, snapshots, sizeof snapshots);
    if (status == GWTF_OK)
        status = gwtf_snapshot_write_manifest(snapshots, iteration, local->stages, files,
                                              setup->config.snapshot.keep, error);
    if (status == GWTF_OK)
        status = gwtf_run_append_event(setup->config.run.directory, "snapshot", iteration,
                                       GWTF_NODE_NONE, NULL, error);
    free(files);
    return status;
}

static bool due(uint32_t iteration, uint32_t every, uint32_t last) {
    return iteration == last || (every != 0 && iteration % every == 0);
}

static gwtf_status train_all(struct local *local, uint32_t first,
                             const struct gwtf_local_callbacks *callbacks,
                             struct gwtf_error *error) {
    const struct gwtf_config *config = &local->setup->config;
    uint32_t last = config->run.iterations;
    for (uint32_t iteration = first; iteration <= last; iteration++) {
        struct gwtf_metrics metrics;
        gwtf_status status = train_iteration(local, iteration, &metrics, error);
        if (status != GWTF_OK)
            return status;
        bool stop = callbacks->stop(callbacks->context);
        if (!stop && local->setup->validation != NULL &&
            due(iteration, config->data.validate_every, last))
            status = validate(local, &metrics.validation_loss, error);
        if (status == GWTF_OK)
            status = gwtf_run_append_metrics(config->run.directory, &metrics, error);
        if (status == GWTF_OK && (stop || due(iteration, config->snapshot.every, last)))
            status = write_snapshot(local, iteration, error);
        if (status != GWTF_OK)
            return status;
        callbacks->iteration(callbacks->context, &metrics);
        if (stop && iteration < last)
            return GWTF_ERROR_INTERRUPTED;
    }
    return GWTF_OK;
}

gwtf_status gwtf_local_train(const struct gwtf_setup *setup, uint32_t first, const char *snapshot,
                             const struct gwtf_local_callbacks *callbacks,
                             struct gwtf_error *error) {
    struct local local;
    gwtf_status status = local_init(&local, setup, snapshot, error);
    if (status == GWTF_OK)
        status = train_all(&local, first, callbacks, error);
    local_deinit(&local);
    return status;
}
