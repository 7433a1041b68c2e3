#include "worker/runtime/memory.h"

#include "share/base/assert.h"
#include "share/base/hash.h"
#include "worker/runtime/clock.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A copy of weights and moments for the snapshot thread. */
struct copy {
    pthread_mutex_t lock;
    pthread_cond_t freed;
    bool full;
    uint64_t sequence; /* the run's data goes on with */
    float *values; /* weights, first and second moments, one after the other; NULL until the first
                      snapshot */
};

/* Blocks of memory that a GPU copies from and to. */
#define PINNED 2

struct gwtf_memory {
    const struct gwtf_setup *setup;
    gwtf_stage *stage;
    bool on_gpu;
    uint64_t floats; /* of a flat array */
    atomic_bool state_comes;
    void *pinned[PINNED];     /* see pin_all; NULL: it is not */
    uint64_t boundary_bytes;  /* of one boundary tensor as it is sent, and kept here */
    gwtf_time_us finished_us; /* when the last work was */
    uint32_t slots;
    uint32_t retained;
    uint32_t replicas;
    char *boundaries;     /* of the slots */
    char *kept;           /* of the retained ones; the system gives what is used of it */
    uint64_t kept_bytes;  /* of each */
    unsigned char *locks; /* of each: see target; NULL: nothing is locked */
    float **tensors;      /* [slots + retained][GWTF_BOUNDARIES] of them; NULL where none is */
    float *parts;         /* [floats + 16 * replicas]: contributions of the others */
    float *reduced;       /* [floats] */
    uint32_t *inputs;     /* data node: (B, T) of the microbatch at hand */
    uint32_t *labels;
    float *probes[2]; /* zeros to send, and what comes of others' */
    struct copy copy;
};

/* What is locked for a GPU has its pages to itself. */
#define PAGE 4096

static void *allocate(uint64_t size_bytes) {
    uint64_t rounded = (size_bytes + PAGE - 1) / PAGE * PAGE;
    void *memory = aligned_alloc(PAGE, rounded == 0 ? PAGE : rounded);
    if (memory != NULL)
        memset(memory, 0, rounded);
    return memory;
}

uint64_t gwtf_memory_boundary_bytes(const struct gwtf_setup *setup) {
    return gwtf_packed_bytes(gwtf_setup_packing(setup), gwtf_setup_boundary_floats(setup));
}

uint64_t gwtf_memory_gradient_floats(const gwtf_memory *memory) {
    return memory->floats;
}

static struct gwtf_stage_options stage_options(const struct gwtf_memory_options *options) {
    struct gwtf_stage_options made = gwtf_setup_stage_options(
        options->setup, gwtf_setup_stage_shape(options->setup, options->stage));
    made.slots = options->slots;
    made.threads = options->threads;
    made.place = options->place;
    made.packing = gwtf_setup_packing(options->setup);
    made.ahead = true;
    return made;
}

/* For every number of living replicas: a share of each, at most a line longer than the average. */
static uint64_t parts_floats(uint64_t floats, uint32_t replicas) {
    return floats + (uint64_t)16 * replicas;
}

gwtf_status gwtf_memory_predict(const struct gwtf_memory_options *options, uint64_t *fixed_bytes,
                                uint64_t *slot_bytes, struct gwtf_error *error) {
    struct gwtf_stage_options of_stage = stage_options(options);
    struct gwtf_stage_plan plan;
    gwtf_status status = gwtf_stage_plan_init(&plan, &of_stage.shape, error);
    if (status != GWTF_OK)
        return status;
    uint64_t stage_fixed, stage_slot;
    gwtf_stage_memory(&of_stage, &plan, &stage_fixed, &stage_slot);
    if (of_stage.backend == GWTF_BACKEND_CUDA) {
        stage_fixed = gwtf_stage_host_memory(&of_stage, &plan);
        stage_slot = 0;
    }
    uint64_t parts = options->replicas > 1 ? parts_floats(plan.floats, options->replicas) : 0;
    uint64_t aggregation = (plan.floats + parts) * sizeof(float);
    uint64_t snapshot = 3 * plan.floats * sizeof(float);
    uint64_t probes = 2 * gwtf_probe_bytes(gwtf_memory_boundary_bytes(options->setup));
    *fixed_bytes = stage_fixed + aggregation + snapshot + probes;
    *slot_bytes = stage_slot + GWTF_BOUNDARIES * gwtf_memory_boundary_bytes(options->setup);
    gwtf_stage_plan_deinit(&plan);
    return GWTF_OK;
}

gwtf_status gwtf_memory_predict_peak(const struct gwtf_memory_options *options, uint64_t *bytes,
                                     struct gwtf_error *error) {
    uint64_t fixed, slot;
    gwtf_status status = gwtf_memory_predict(options, &fixed, &slot, error);
    if (status == GWTF_OK)
        *bytes = fixed + options->slots * slot +
                 2 * (uint64_t)options->retained * gwtf_memory_boundary_bytes(options->setup);
    return status;
}

uint64_t gwtf_memory_useful_to_retain(const struct gwtf_setup *setup, uint32_t stage) {
    uint64_t all = setup->config.batch.microbatches;
    bool shares = setup->config.batch.global == GWTF_CONFIG_GLOBAL_CONSTANT;
    if (setup->config.faults.repair == GWTF_CONFIG_REPAIR_RESTART)
        return 0;
    if (stage > 0 || shares)
        all *= setup->data_nodes;
    return all < GWTF_RETAINED_MAX ? all : GWTF_RETAINED_MAX;
}

uint64_t gwtf_memory_gpu_share(const struct gwtf_gpu *gpu, uint64_t free_bytes, uint32_t workers) {
    uint64_t share = gpu->all_bytes / ((workers + gpu->count - 1) / gpu->count);
    return (share < free_bytes ? share : free_bytes) / 10 * 9;
}

/* What it takes of its GPU without slots, and for each. */
static gwtf_status predict_gpu(const struct gwtf_memory_options *options, uint64_t *fixed_bytes,
                               uint64_t *slot_bytes, struct gwtf_error *error) {
    struct gwtf_stage_options of_stage = stage_options(options);
    struct gwtf_stage_plan plan;
    *fixed_bytes = *slot_bytes = 0;
    if (of_stage.backend != GWTF_BACKEND_CUDA)
        return GWTF_OK;
    gwtf_status status = gwtf_stage_plan_init(&plan, &of_stage.shape, error);
    if (status != GWTF_OK)
        return status;
    gwtf_stage_memory(&of_stage, &plan, fixed_bytes, slot_bytes);
    gwtf_stage_plan_deinit(&plan);
    return GWTF_OK;
}

gwtf_status gwtf_memory_predict_gpu(const struct gwtf_memory_options *options, uint64_t *bytes,
                                    struct gwtf_error *error) {
    uint64_t fixed, slot;
    gwtf_status status = predict_gpu(options, &fixed, &slot, error);
    if (status == GWTF_OK)
        *bytes = fixed + options->slots * slot;
    return status;
}

/* Lowers the slots to those that fit on the GPU; at least LEAST do, or it is an error. */
static gwtf_status fit_gpu(struct gwtf_memory_options *options, uint64_t gpu_bytes, uint32_t least,
                           struct gwtf_error *error) {
    uint64_t fixed, slot;
    gwtf_status status = predict_gpu(options, &fixed, &slot, error);
    if (status != GWTF_OK || fixed == 0)
        return status;
    uint64_t room = gpu_bytes > fixed ? gpu_bytes - fixed : 0;
    uint64_t fitting = slot != 0 ? room / slot : options->slots;
    if (fixed > gpu_bytes || fitting < least)
        return gwtf_error_set(
            error, GWTF_ERROR_MEMORY,
            "this worker needs %llu MiB of its GPU for %u microbatch(es), %llu MiB are free for "
            "it: set a smaller capacity, batch.microbatch or model, backend.recompute to "
            "\"blocks\", or fewer workers for each GPU",
            (unsigned long long)((fixed + slot * least) >> 20), least,
            (unsigned long long)(gpu_bytes >> 20));
    if (fitting < options->slots)
        options->slots = (uint32_t)fitting;
    return GWTF_OK;
}

gwtf_status gwtf_memory_choose(struct gwtf_memory_options *options,
                               const struct gwtf_memory_room *given, struct gwtf_error *error) {
    uint64_t fixed, slot, kept = 2 * gwtf_memory_boundary_bytes(options->setup);
    gwtf_status status = gwtf_memory_predict(options, &fixed, &slot, error);
    if (status != GWTF_OK)
        return status;
    uint64_t mine = given->free_bytes / 5 * 4;
    uint64_t room = mine > fixed ? mine - fixed : 0;
    bool is_given = given->capacity != 0;
    uint32_t wanted = is_given ? given->capacity : given->capacity_useful;
    if (room / slot < (is_given ? wanted : 1))
        return gwtf_error_set(
            error, GWTF_ERROR_MEMORY,
            "this worker needs %llu MiB for %u microbatch(es), %llu MiB are free for it: set a "
            "smaller capacity, batch.microbatch or model, backend.recompute to \"blocks\", or "
            "fewer nodes on this machine",
            (unsigned long long)((fixed + slot * wanted) >> 20), wanted,
            (unsigned long long)(mine >> 20));
    uint64_t retained = room > slot * wanted ? (room - slot * wanted) / kept : 0;
    if (!is_given && retained < room / 4 / kept)
        retained = room - slot > room / 4 ? room / 4 / kept : (room - slot) / kept;
    options->retained =
        (uint32_t)(retained < given->retained_useful ? retained : given->retained_useful);
    uint64_t fitting = (room - options->retained * kept) / slot;
    options->slots = fitting < wanted ? (uint32_t)fitting : wanted;
    return fit_gpu(options, given->gpu_bytes, is_given ? wanted : 1, error);
}

static void place_tensors(struct gwtf_memory *memory) {
    for (uint64_t i = 0; i < (uint64_t)memory->slots * GWTF_BOUNDARIES; i++)
        memory->tensors[i] = (float *)(void *)(memory->boundaries + i * memory->boundary_bytes);
    for (uint64_t i = 0; i < memory->retained; i++) {
        float **kept = memory->tensors + (memory->slots + i) * GWTF_BOUNDARIES;
        char *at = memory->kept + 2 * i * memory->kept_bytes;
        kept[GWTF_BOUNDARY_OUTPUT] = (float *)(void *)at;
        kept[GWTF_BOUNDARY_INPUT_GRADIENT] = (float *)(void *)(at + memory->kept_bytes);
    }
}

/* What boundary tensors and sums of gradients come from and go to, when a GPU computes; but what is
 * retained. */
static void pin_all(struct gwtf_memory *memory) {
    const struct {
        void *memory;
        uint64_t bytes;
    } all[PINNED] = {
        {memory->boundaries, (uint64_t)memory->slots * GWTF_BOUNDARIES * memory->boundary_bytes},
        {memory->reduced, memory->floats * sizeof(float)},
    };
    for (int i = 0; i < PINNED; i++)
        if (gwtf_stage_pin(memory->stage, all[i].memory, all[i].bytes))
            memory->pinned[i] = all[i].memory;
}

static bool allocate_all(struct gwtf_memory *memory) {
    size_t tokens = (size_t)memory->setup->config.batch.microbatch * memory->setup->model.context;
    uint64_t slots = (uint64_t)memory->slots + memory->retained;
    uint64_t kept_bytes = 2 * memory->retained * memory->kept_bytes;
    memory->boundaries =
        allocate((uint64_t)memory->slots * GWTF_BOUNDARIES * memory->boundary_bytes);
    memory->kept = aligned_alloc(PAGE, (kept_bytes / PAGE + 1) * PAGE);
    memory->tensors = calloc(slots * GWTF_BOUNDARIES, sizeof *memory->tensors);
    if (memory->boundaries != NULL && memory->kept != NULL && memory->tensors != NULL)
        place_tensors(memory);
    memory->reduced = allocate(memory->floats * sizeof(float));
    if (memory->replicas > 1)
        memory->parts = allocate(parts_floats(memory->floats, memory->replicas) * sizeof(float));
    memory->inputs = allocate(tokens * sizeof *memory->inputs);
    memory->labels = allocate(tokens * sizeof *memory->labels);
    for (int i = 0; i < 2; i++)
        memory->probes[i] = allocate(gwtf_probe_bytes(memory->boundary_bytes));
    return memory->boundaries != NULL && memory->kept != NULL && memory->tensors != NULL &&
           memory->reduced != NULL && (memory->replicas == 1 || memory->parts != NULL) &&
           memory->inputs != NULL && memory->labels != NULL && memory->probes[0] != NULL &&
           memory->probes[1] != NULL;
}

gwtf_status gwtf_memory_create(const struct gwtf_memory_options *options, gwtf_memory **memory,
                               struct gwtf_error *error) {
    struct gwtf_memory *made = calloc(1, sizeof *made);
    if (made == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    pthread_mutex_init(&made->copy.lock, NULL);
    pthread_cond_init(&made->copy.freed, NULL);
    made->setup = options->setup;
    made->slots = options->slots;
    made->retained = options->retained;
    made->replicas = options->replicas;
    made->boundary_bytes = gwtf_memory_boundary_bytes(options->setup);
    made->kept_bytes = made->boundary_bytes;
    struct gwtf_stage_options of_stage = stage_options(options);
    made->on_gpu = of_stage.backend == GWTF_BACKEND_CUDA;
    if (made->on_gpu)
        made->kept_bytes = (made->boundary_bytes + PAGE - 1) / PAGE * PAGE;
    if (made->on_gpu && options->retained > 0)
        made->locks = calloc(2 * (uint64_t)options->retained, sizeof *made->locks);
    gwtf_status status = gwtf_stage_create(&of_stage, &made->stage, error);
    if (status == GWTF_OK) {
        made->floats = gwtf_stage_get_plan(made->stage)->floats;
        if (!allocate_all(made))
            status = gwtf_error_set(
                error, GWTF_ERROR_MEMORY,
                "out of memory with %u microbatches: set a smaller capacity for this node",
                options->slots);
        else
            pin_all(made);
    }
    if (status == GWTF_OK && options->snapshot != NULL)
        status = gwtf_setup_restore(options->setup, options->snapshot, made->stage, error);
    if (status == GWTF_OK)
        *memory = made;
    else
        gwtf_memory_destroy(made);
    return status;
}

enum { NOT_TRIED, NOT_LOCKED, LOCKED };

static void unlock_kept(struct gwtf_memory *memory) {
    for (uint64_t i = 0; memory->locks != NULL && i < 2 * (uint64_t)memory->retained; i++)
        if (memory->locks[i] == LOCKED)
            gwtf_stage_unpin(memory->stage, memory->kept + i * memory->kept_bytes);
}

void gwtf_memory_destroy(gwtf_memory *memory) {
    if (memory == NULL)
        return;
    pthread_cond_destroy(&memory->copy.freed);
    pthread_mutex_destroy(&memory->copy.lock);
    for (int i = 0; i < PINNED; i++)
        if (memory->pinned[i] != NULL)
            gwtf_stage_unpin(memory->stage, memory->pinned[i]);
    unlock_kept(memory);
    free(memory->locks);
    free(memory->copy.values);
    free(memory->tensors);
    free(memory->kept);
    free(memory->boundaries);
    free(memory->parts);
    free(memory->reduced);
    free(memory->inputs);
    free(memory->labels);
    free(memory->probes[0]);
    free(memory->probes[1]);
    gwtf_stage_destroy(memory->stage);
    free(memory);
}

static float *boundary(struct gwtf_memory *memory, uint32_t slot, enum gwtf_boundary which) {
    GWTF_ASSERT(slot < memory->slots + memory->retained && (unsigned)which < GWTF_BOUNDARIES);
    return memory->tensors[(uint64_t)slot * GWTF_BOUNDARIES + (unsigned)which];
}

/* The same, of one that a work writes. What is retained is locked in memory when it is first
 * written, for a GPU's copies: all of it at once would be more than is ever used. */
static float *target(struct gwtf_memory *memory, uint32_t slot, enum gwtf_boundary which) {
    float *tensor = boundary(memory, slot, which);
    const char *at = (const char *)tensor;
    uint64_t kept_count = 2 * (uint64_t)memory->retained;
    if (memory->locks == NULL || at < memory->kept ||
        at >= memory->kept + kept_count * memory->kept_bytes)
        return tensor;
    unsigned char *lock = &memory->locks[(uint64_t)(at - memory->kept) / memory->kept_bytes];
    if (*lock == NOT_TRIED)
        *lock = gwtf_stage_pin(memory->stage, tensor, memory->kept_bytes) ? LOCKED : NOT_LOCKED;
    return tensor;
}

static void swap(struct gwtf_memory *memory, uint32_t a, uint32_t b, enum gwtf_boundary which) {
    float **first = &memory->tensors[(uint64_t)a * GWTF_BOUNDARIES + (unsigned)which];
    float **second = &memory->tensors[(uint64_t)b * GWTF_BOUNDARIES + (unsigned)which];
    float *tensor = *first;
    *first = *second;
    *second = tensor;
}

void gwtf_memory_keep(gwtf_memory *memory, uint32_t slot, uint32_t kept) {
    GWTF_ASSERT(slot < memory->slots && kept >= memory->slots &&
                kept < memory->slots + memory->retained);
    swap(memory, slot, kept, GWTF_BOUNDARY_OUTPUT);
    swap(memory, slot, kept, GWTF_BOUNDARY_INPUT_GRADIENT);
}

static bool in_flat_array(const struct gwtf_memory *memory, const struct gwtf_payload *payload) {
    return payload->offset <= memory->floats && payload->count <= memory->floats - payload->offset;
}

static float *state(struct gwtf_memory *memory, const struct gwtf_payload *payload) {
    float *(*const parts[])(gwtf_stage *) = {gwtf_stage_weights, gwtf_stage_first_moments,
                                             gwtf_stage_second_moments};
    bool exists = payload->part < sizeof parts / sizeof parts[0];
    return exists ? parts[payload->part](memory->stage) + payload->offset : NULL;
}

void *gwtf_memory_payload(gwtf_memory *memory, const struct gwtf_payload *payload,
                          uint64_t *size_bytes) {
    *size_bytes = payload->count * sizeof(float);
    switch (payload->kind) {
    case GWTF_PAYLOAD_BOUNDARY:
        *size_bytes = memory->boundary_bytes;
        return payload->slot < memory->slots + memory->retained
                   ? boundary(memory, payload->slot, payload->boundary)
                   : NULL;
    case GWTF_PAYLOAD_GRADIENT:
        return in_flat_array(memory, payload)
                   ? gwtf_stage_gradients(memory->stage) + payload->offset
                   : NULL;
    case GWTF_PAYLOAD_REDUCED:
        return in_flat_array(memory, payload) ? memory->reduced + payload->offset : NULL;
    case GWTF_PAYLOAD_PART:
        return payload->part < memory->replicas && memory->parts != NULL &&
                       (payload->part + 1) * payload->count <=
                           parts_floats(memory->floats, memory->replicas)
                   ? memory->parts + payload->part * payload->count
                   : NULL;
    case GWTF_PAYLOAD_PROBE:
        return payload->part < 2 && *size_bytes <= gwtf_probe_bytes(memory->boundary_bytes)
                   ? memory->probes[payload->part]
                   : NULL;
    case GWTF_PAYLOAD_STATE:
        return in_flat_array(memory, payload) ? state(memory, payload) : NULL;
    case GWTF_PAYLOAD_NONE:
        break;
    }
    return NULL;
}

static gwtf_status read_batch(struct gwtf_memory *memory, const struct gwtf_work *work) {
    if (work->phase == GWTF_PHASE_TRAIN)
        return gwtf_setup_batch(memory->setup, work->iteration, work->number, work->place,
                                memory->inputs, memory->labels);
    /* Data nodes that validate have the lowest ids: the id is the rank among them. */
    return gwtf_setup_validation_batch(memory->setup, work->microbatch.data_node,
                                       work->microbatch.index, memory->inputs, memory->labels);
}

static void do_embed(struct gwtf_memory *memory, const struct gwtf_work *work,
                     struct gwtf_work_result *result) {
    (void)result;
    gwtf_stage_embed(memory->stage, memory->inputs,
                     target(memory, work->slot, GWTF_BOUNDARY_OUTPUT));
}

static void do_forward(struct gwtf_memory *memory, const struct gwtf_work *work,
                       struct gwtf_work_result *result) {
    (void)result;
    gwtf_stage_forward(memory->stage, work->slot, boundary(memory, work->slot, GWTF_BOUNDARY_INPUT),
                       target(memory, work->slot, GWTF_BOUNDARY_OUTPUT),
                       work->phase == GWTF_PHASE_TRAIN);
}

static void do_loss(struct gwtf_memory *memory, const struct gwtf_work *work,
                    struct gwtf_work_result *result) {
    if (work->again)
        return;
    bool trains = work->phase == GWTF_PHASE_TRAIN;
    gwtf_stage_loss(memory->stage, boundary(memory, work->slot, GWTF_BOUNDARY_INPUT),
                    memory->labels, gwtf_setup_loss_scale(memory->setup), &result->loss_sum,
                    trains ? target(memory, work->slot, GWTF_BOUNDARY_INPUT_GRADIENT) : NULL, NULL);
    result->tokens =
        (uint64_t)memory->setup->config.batch.microbatch * memory->setup->model.context;
}

static void do_backward(struct gwtf_memory *memory, const struct gwtf_work *work,
                        struct gwtf_work_result *result) {
    (void)result;
    if (work->again)
        return;
    gwtf_stage_backward(memory->stage, work->slot,
                        boundary(memory, work->slot, GWTF_BOUNDARY_INPUT),
                        boundary(memory, work->slot, GWTF_BOUNDARY_OUTPUT_GRADIENT),
                        target(memory, work->slot, GWTF_BOUNDARY_INPUT_GRADIENT));
}

static void do_embed_backward(struct gwtf_memory *memory, const struct gwtf_work *work,
                              struct gwtf_work_result *result) {
    (void)result;
    gwtf_stage_embed_backward(memory->stage, memory->inputs,
                              boundary(memory, work->slot, GWTF_BOUNDARY_OUTPUT_GRADIENT));
}

static void do_reduce(struct gwtf_memory *memory, const struct gwtf_work *work,
                      struct gwtf_work_result *result) {
    const float *parts[GWTF_REPLICAS_MAX];
    size_t count = 0;
    const float *own = gwtf_stage_gradients(memory->stage) + work->offset;
    GWTF_ASSERT(memory->replicas <= GWTF_REPLICAS_MAX &&
                work->count <= memory->floats - work->offset);
    for (uint32_t i = 0; i < memory->replicas; i++)
        if (work->parts_present[i / 8] & (1u << i % 8))
            parts[count++] = i == work->own_part ? own : memory->parts + i * work->count;
    float *sum = memory->reduced + work->offset;
    if (count == 0)
        memset(sum, 0, work->count * sizeof *sum);
    else
        gwtf_sum_parts(sum, parts, count, work->count);
    /* Where microbatches are lost for good. */
    for (uint64_t i = 0; work->scale != 1 && i < work->count; i++)
        sum[i] *= (float)work->scale;
    result->sum_of_squares = gwtf_sum_of_squares(sum, work->count);
}

static void do_step(struct gwtf_memory *memory, const struct gwtf_work *work,
                    struct gwtf_work_result *result) {
    (void)result;
    struct gwtf_optimizer_step settings =
        gwtf_setup_step(memory->setup, work->iteration, work->gradient_norm);
    gwtf_stage_step(memory->stage, memory->reduced, &settings);
    gwtf_stage_zero_gradients(memory->stage);
}

static void do_clear(struct gwtf_memory *memory, const struct gwtf_work *work,
                     struct gwtf_work_result *result) {
    (void)work;
    (void)result;
    gwtf_stage_zero_gradients(memory->stage);
}

static void copy_for_snapshot(struct gwtf_memory *memory, uint64_t sequence) {
    struct copy *copy = &memory->copy;
    pthread_mutex_lock(&copy->lock);
    while (copy->full)
        pthread_cond_wait(&copy->freed, &copy->lock);
    if (copy->values == NULL)
        copy->values = allocate(3 * memory->floats * sizeof *copy->values);
    if (copy->values != NULL) {
        size_t bytes = memory->floats * sizeof(float);
        memcpy(copy->values, gwtf_stage_weights(memory->stage), bytes);
        memcpy(copy->values + memory->floats, gwtf_stage_first_moments(memory->stage), bytes);
        memcpy(copy->values + 2 * memory->floats, gwtf_stage_second_moments(memory->stage), bytes);
    }
    copy->sequence = sequence;
    copy->full = true;
    pthread_mutex_unlock(&copy->lock);
}

static void do_snapshot(struct gwtf_memory *memory, const struct gwtf_work *work,
                        struct gwtf_work_result *result) {
    result->hash = gwtf_hash(gwtf_stage_weights(memory->stage), memory->floats * sizeof(float));
    if (work->writes)
        copy_for_snapshot(memory, work->place);
}

gwtf_status gwtf_memory_write_snapshot(gwtf_memory *memory, uint32_t iteration,
                                       const double *rest_norm, struct gwtf_snapshot_file *file,
                                       struct gwtf_error *error) {
    struct copy *copy = &memory->copy;
    pthread_mutex_lock(&copy->lock);
    GWTF_ASSERT(copy->full);
    const float *values = copy->values;
    uint64_t sequence = copy->sequence;
    pthread_mutex_unlock(&copy->lock);
    gwtf_status status;
    if (values == NULL)
        status = gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory for the snapshot's copy");
    else
        status = gwtf_setup_write_stage(memory->setup, gwtf_stage_get_plan(memory->stage),
                                        iteration, sequence, values, values + memory->floats,
                                        values + 2 * memory->floats, rest_norm, file, error);
    pthread_mutex_lock(&copy->lock);
    copy->full = false;
    pthread_cond_signal(&copy->freed);
    pthread_mutex_unlock(&copy->lock);
    return status;
}

static bool needs_tokens(enum gwtf_work_kind kind) {
    return kind == GWTF_WORK_EMBED || kind == GWTF_WORK_LOSS || kind == GWTF_WORK_EMBED_BACKWARD;
}

void gwtf_memory_state_comes(gwtf_memory *memory) {
    atomic_store(&memory->state_comes, true);
}

/* What uses weights comes after all of them. */
static bool uses_weights(enum gwtf_work_kind kind) {
    return kind != GWTF_WORK_CLEAR && kind != GWTF_WORK_REDUCE;
}

/* What takes or gives boundary tensors may go on after it was started. */
static bool goes_on(enum gwtf_work_kind kind) {
    return kind == GWTF_WORK_EMBED || kind == GWTF_WORK_FORWARD || kind == GWTF_WORK_LOSS ||
           kind == GWTF_WORK_BACKWARD || kind == GWTF_WORK_EMBED_BACKWARD;
}

gwtf_status gwtf_memory_start(gwtf_memory *memory, const struct gwtf_work *work,
                              struct gwtf_work_result *result, struct gwtf_error *error) {
    static void (*const table[])(struct gwtf_memory *, const struct gwtf_work *,
                                 struct gwtf_work_result *) = {
        [GWTF_WORK_EMBED] = do_embed,
        [GWTF_WORK_FORWARD] = do_forward,
        [GWTF_WORK_LOSS] = do_loss,
        [GWTF_WORK_BACKWARD] = do_backward,
        [GWTF_WORK_EMBED_BACKWARD] = do_embed_backward,
        [GWTF_WORK_REDUCE] = do_reduce,
        [GWTF_WORK_STEP] = do_step,
        [GWTF_WORK_SNAPSHOT] = do_snapshot,
        [GWTF_WORK_CLEAR] = do_clear,
    };
    GWTF_ASSERT((size_t)work->kind < sizeof table / sizeof table[0]);
    memset(result, 0, sizeof *result);
    result->compute_us = gwtf_clock_now_us();
    if (uses_weights(work->kind) && atomic_exchange(&memory->state_comes, false))
        gwtf_stage_written(memory->stage);
    gwtf_status status = needs_tokens(work->kind) ? read_batch(memory, work) : GWTF_OK;
    if (status != GWTF_OK) {
        result->compute_us = 0;
        return gwtf_error_set(
            error, status,
            "the token file has changed or is damaged: make it again with gwtf tokenize");
    }
    table[work->kind](memory, work, result);
    return goes_on(work->kind) ? GWTF_OK : gwtf_stage_check(memory->stage, error);
}

bool gwtf_memory_goes_on(const gwtf_memory *memory) {
    return gwtf_stage_unfinished(memory->stage) != 0;
}

gwtf_status gwtf_memory_finish(gwtf_memory *memory, struct gwtf_work_result *result,
                               struct gwtf_error *error) {
    gwtf_status status = gwtf_stage_finish(memory->stage, error);
    /* It was started beside the one before, but computed after it. */
    gwtf_time_us from_us =
        result->compute_us > memory->finished_us ? result->compute_us : memory->finished_us;
    memory->finished_us = gwtf_clock_now_us();
    result->compute_us = memory->finished_us - from_us;
    return status;
}

gwtf_status gwtf_memory_execute(gwtf_memory *memory, const struct gwtf_work *work,
                                struct gwtf_work_result *result, struct gwtf_error *error) {
    gwtf_status status = gwtf_memory_start(memory, work, result, error);
    return status == GWTF_OK ? gwtf_memory_finish(memory, result, error) : status;
}

static void probe_once(struct gwtf_memory *memory) {
    const enum gwtf_work_kind relay[] = {GWTF_WORK_FORWARD, GWTF_WORK_BACKWARD};
    const enum gwtf_work_kind data[] = {GWTF_WORK_EMBED, GWTF_WORK_LOSS, GWTF_WORK_EMBED_BACKWARD};
    bool is_data = gwtf_stage_get_plan(memory->stage)->shape.stage == 0;
    const enum gwtf_work_kind *kinds = is_data ? data : relay;
    for (size_t i = 0;
         i < (is_data ? sizeof data / sizeof data[0] : sizeof relay / sizeof relay[0]); i++) {
        struct gwtf_work work = {.kind = kinds[i], .phase = GWTF_PHASE_TRAIN, .iteration = 1};
        struct gwtf_work_result result;
        /* What fails here is met again in training. */
        gwtf_memory_execute(memory, &work, &result, NULL);
    }
}

int64_t gwtf_memory_probe(gwtf_memory *memory) {
    probe_once(memory);
    if (memory->on_gpu) /* the second time its calls are recorded */
        probe_once(memory);
    gwtf_time_us start_us = gwtf_clock_now_us();
    probe_once(memory);
    int64_t duration_us = gwtf_clock_now_us() - start_us;
    gwtf_stage_zero_gradients(memory->stage);
    return duration_us > 0 ? duration_us : 1;
}
