/* A stage's memory, and the way of a microbatch through its blocks. */
#include "model/stage.h"

#include "share/base/assert.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ALIGNMENT_BYTES 64u
#define HUGE_PAGE_BYTES ((uint64_t)2 << 20)

/* Rows enough to pay for packing the weights; the workspace grows with them. */
#define PIECE_ROWS_PER_THREAD 1024u
/* Bounds the head's workspace where the vocabulary is large. */
#define LOGITS_FLOATS_MAX ((size_t)16 << 20)
#define HEAD_ROWS_MIN 64u
/* A device is at its best with much at a time. */
#define DEVICE_LOGITS_MAX ((size_t)128 << 20)

/*
 * Hands out pieces of one block of memory, or, without memory, counts what it would take: so that
 * prediction and allocation cannot differ.
 */
struct carver {
    unsigned char *memory; /* NULL: count only */
    uint64_t used_bytes;   /* UINT64_MAX once the count does not fit */
};

static void *carve(struct carver *carver, uint64_t count, uint64_t size_bytes) {
    uint64_t bytes, end;
    uint64_t start = carver->used_bytes;
    if (__builtin_mul_overflow(count, size_bytes, &bytes) ||
        __builtin_add_overflow(start, bytes, &end) || end > UINT64_MAX - ALIGNMENT_BYTES) {
        carver->used_bytes = UINT64_MAX;
        return NULL;
    }
    carver->used_bytes = (end + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
    return carver->memory != NULL ? carver->memory + start : NULL;
}

static float *carve_of(struct carver *carver, uint64_t rows, uint64_t width, uint64_t size_bytes) {
    uint64_t count;
    if (__builtin_mul_overflow(rows, width, &count))
        count = UINT64_MAX;
    return carve(carver, count, size_bytes);
}

static float *carve_floats(struct carver *carver, uint64_t rows, uint64_t width) {
    return carve_of(carver, rows, width, sizeof(float));
}

static float *carve_values(const struct gwtf_stage *stage, struct carver *carver, uint64_t rows,
                           uint64_t width) {
    return carve_of(carver, rows, width, stage->value_bytes);
}

static size_t relay_piece_rows(const struct gwtf_stage *stage) {
    size_t context = stage->plan.shape.model.context, batch = stage->options.microbatch;
    if (stage->device != NULL)
        return batch * context;
    size_t wanted = (size_t)PIECE_ROWS_PER_THREAD * stage->options.threads;
    size_t sequences = (wanted + context - 1) / context;
    return (sequences < batch ? sequences : batch) * context;
}

static size_t head_piece_rows(const struct gwtf_stage *stage) {
    size_t floats = stage->device != NULL ? DEVICE_LOGITS_MAX : LOGITS_FLOATS_MAX;
    size_t most = floats / stage->plan.shape.model.vocabulary;
    size_t rows = gwtf_stage_rows(stage);
    size_t wanted =
        stage->device != NULL ? rows : (size_t)PIECE_ROWS_PER_THREAD * stage->options.threads;
    size_t piece = wanted < most ? wanted : most;
    if (piece < HEAD_ROWS_MIN)
        piece = HEAD_ROWS_MIN;
    return piece < rows ? piece : rows;
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

/* On a device a relay keeps its inputs with their slots. */
static void carve_boundaries(struct gwtf_stage *stage, struct carver *carver) {
    uint64_t rows = gwtf_stage_rows(stage), width = stage->sizes.width;
    bool relay = stage->plan.shape.stage != 0, on_device = stage->device != NULL;
    if (!on_device && stage->options.packing == GWTF_PACKING_NONE)
        return;
    stage->boundary[GWTF_STAGE_INPUT] = carve_floats(carver, on_device && relay ? 0 : rows, width);
    stage->boundary[GWTF_STAGE_OUTPUT] = carve_floats(carver, rows, width);
    stage->boundary[GWTF_STAGE_INPUT_GRADIENT] =
        carve_floats(carver, stage->options.forward_only ? 0 : rows, width);
    if (!on_device)
        return;
    uint64_t bytes = gwtf_packed_bytes(stage->options.packing, rows * width);
    stage->compute.buffer_bytes = (bytes + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
    stage->compute.buffers = carve(carver, 4, stage->compute.buffer_bytes);
    stage->compute.words = carve(carver, relay ? 0 : 3 * rows + 1, sizeof *stage->compute.words);
}

static void carve_workspace(struct gwtf_stage *stage, struct carver *carver) {
    const struct gwtf_model_shape *model = &stage->plan.shape.model;
    const struct gwtf_block_sizes *sizes = &stage->sizes;
    struct gwtf_workspace *work = &stage->workspace;
    bool head = stage->plan.shape.stage == 0;
    uint64_t width = model->width, rows = stage->piece_rows;
    bool backward = !stage->options.forward_only;
    work->normed = carve_values(stage, carver, rows, width);
    work->normed_d = carve_values(stage, carver, backward ? rows : 0, width);
    if (head) {
        work->logits = carve_values(stage, carver, rows, model->vocabulary);
        work->mean = carve_floats(carver, rows, 1);
        work->rstd = carve_floats(carver, rows, 1);
    } else {
        work->wide = carve_values(stage, carver, rows, larger(sizes->hidden, sizes->qkv));
        work->wide_d = carve_values(stage, carver, backward ? rows : 0, sizes->expanded);
        work->middle_d = carve_floats(carver, backward ? rows : 0, width);
        work->mixed_d = carve_values(stage, carver, backward ? rows : 0, width);
    }
    carve_boundaries(stage, carver);
    struct gwtf_compute_limits limits = {
        .rows = stage->device != NULL ? gwtf_stage_rows(stage) : rows,
        .width = width,
        .widest = head ? width : larger(sizes->expanded, sizes->qkv),
        .context = head ? 0 : model->context,
        .heads = model->heads,
        .vocabulary = head ? model->vocabulary : 0,
        .threads = (int)stage->options.threads,
    };
    uint64_t scratch = stage->compute.operations->scratch_floats(&limits);
    stage->compute.scratch = carve_floats(carver, scratch, 1);
}

/* What a block's backward pass needs of ROWS tokens, but its output. */
static void carve_kept(const struct gwtf_stage *stage, struct gwtf_activations *a, uint64_t rows,
                       struct carver *carver) {
    const struct gwtf_model_shape *model = &stage->plan.shape.model;
    a->mean1 = carve_floats(carver, rows, 1);
    a->rstd1 = carve_floats(carver, rows, 1);
    a->mean2 = carve_floats(carver, rows, 1);
    a->rstd2 = carve_floats(carver, rows, 1);
    a->log_sums = carve_floats(carver, rows, model->heads);
    a->qkv = carve_values(stage, carver, rows, stage->sizes.qkv);
    a->mixed = carve_values(stage, carver, rows, model->width);
    a->middle = carve_floats(carver, rows, model->width);
    a->expanded = carve_values(stage, carver, rows, stage->sizes.expanded);
}

/* What does not need memory. */
static void fill_in(struct gwtf_stage *stage) {
    const struct gwtf_operations *operations = stage->compute.operations;
    stage->device = operations->device;
    stage->value_bytes = operations->value_bytes != NULL
                             ? operations->value_bytes(stage->options.precision)
                             : sizeof(float);
    stage->family = gwtf_family_traits_of(stage->plan.shape.model.family);
    stage->sizes = gwtf_block_sizes_of(&stage->plan.shape.model);
    stage->piece_rows =
        stage->plan.shape.stage == 0 ? head_piece_rows(stage) : relay_piece_rows(stage);
}

/* Everything but the slots and tables. Needs what fill_in fills. */
static void carve_fixed(struct gwtf_stage *stage, struct carver *carver) {
    uint64_t layers = stage->plan.shape.layers, floats = stage->plan.floats;
    stage->weights = carve_floats(carver, floats, 1);
    if (!stage->options.forward_only) {
        stage->gradients = carve_floats(carver, floats, 1);
        stage->first_moments = carve_floats(carver, floats, 1);
        stage->second_moments = carve_floats(carver, floats, 1);
    }
    carve_workspace(stage, carver);
    if (layers != 0 && gwtf_stage_shares(stage))
        carve_kept(stage, &stage->again, stage->piece_rows, carver);
    if (stage->options.continues)
        stage->begun_qkv =
            carve_values(stage, carver, layers * stage->plan.shape.model.context, stage->sizes.qkv);
    if (stage->value_bytes != sizeof(float))
        stage->compute.rounded = carve_values(stage, carver, floats, 1);
    stage->compute.weights = stage->weights;
    bool turns = stage->family->rotary && layers != 0;
    stage->turns =
        turns ? carve_floats(carver, stage->plan.shape.model.context, stage->sizes.head) : NULL;
}

static void carve_tables(struct gwtf_stage *stage, struct carver *carver) {
    uint64_t layers = stage->plan.shape.layers, slots = stage->options.slots;
    stage->blocks = carve(carver, layers, sizeof *stage->blocks);
    stage->activations = carve(carver, layers * slots, sizeof *stage->activations);
    stage->kept = carve(carver, slots, sizeof *stage->kept);
    stage->inputs = carve(carver, slots, sizeof *stage->inputs);
}

static void carve_activations(const struct gwtf_stage *stage, struct gwtf_activations *a, bool last,
                              struct carver *carver) {
    uint64_t rows = gwtf_stage_rows(stage);
    if (gwtf_stage_shares(stage))
        *a = stage->again;
    else
        carve_kept(stage, a, rows, carver);
    a->output = last ? NULL : carve_floats(carver, rows, stage->sizes.width);
}

/* Where a relay keeps a slot's input on a device. */
static float *carve_input(const struct gwtf_stage *stage, struct carver *carver) {
    return stage->device != NULL ? carve_floats(carver, gwtf_stage_rows(stage), stage->sizes.width)
                                 : NULL;
}

/* All activations of one slot, of LAYERS blocks each. A forward pass alone needs a block's output
 * until the next block has its own. */
static void carve_slot(const struct gwtf_stage *stage, uint32_t slot, struct carver *carver) {
    uint32_t count = stage->plan.shape.layers;
    struct gwtf_activations *layers = &stage->activations[(size_t)slot * count];
    if (count != 0)
        stage->inputs[slot] = carve_input(stage, carver);
    for (uint32_t i = 0; i < count && carver->used_bytes != UINT64_MAX; i++) {
        if (stage->options.forward_only && i >= 2) {
            layers[i] = stage->again;
            layers[i].output = i + 1 == count ? NULL : layers[i - 2].output;
        } else {
            carve_activations(stage, &layers[i], i + 1 == count, carver);
        }
    }
}

static uint64_t slot_bytes_of(const struct gwtf_stage *stage) {
    struct carver carver = {0};
    struct gwtf_activations ignored;
    uint32_t layers = stage->plan.shape.layers;
    uint32_t own = stage->options.forward_only && layers > 2 ? 2 : layers;
    if (layers != 0)
        carve_input(stage, &carver);
    /* All blocks but the last are alike. */
    for (uint32_t i = 0; i < own && carver.used_bytes != UINT64_MAX; i++)
        carve_activations(stage, &ignored, i + 1 == layers, &carver);
    return carver.used_bytes;
}

/* Errors: GWTF_ERROR_UNSUPPORTED. */
static gwtf_status find_operations(enum gwtf_backend_kind kind,
                                   const struct gwtf_operations **operations,
                                   struct gwtf_error *error) {
    switch (kind) {
    case GWTF_BACKEND_REFERENCE:
        *operations = &gwtf_reference_operations;
        return GWTF_OK;
    case GWTF_BACKEND_ONEDNN:
#ifdef GWTF_HAVE_ONEDNN
        *operations = &gwtf_onednn_operations;
        return GWTF_OK;
#else
        return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED,
                              "this build has no oneDNN: use the reference backend, or build "
                              "with oneDNN");
#endif
    case GWTF_BACKEND_CUDA:
        return gwtf_cuda_load(operations, error);
    }
    GWTF_ASSERT(false);
    return GWTF_ERROR_USAGE;
}

/* Bytes that the stage asks for. */
static void count_memory(const struct gwtf_stage_options *options,
                         const struct gwtf_stage_plan *plan, uint64_t *fixed_bytes,
                         uint64_t *slot_bytes) {
    struct gwtf_stage stage = {.plan = *plan, .options = *options};
    if (find_operations(options->backend, &stage.compute.operations, NULL) != GWTF_OK)
        stage.compute.operations = &gwtf_reference_operations;
    struct carver carver = {0};
    fill_in(&stage);
    carve_fixed(&stage, &carver);
    *fixed_bytes = carver.used_bytes;
    *slot_bytes = slot_bytes_of(&stage);
}

void gwtf_stage_memory(const struct gwtf_stage_options *options, const struct gwtf_stage_plan *plan,
                       uint64_t *fixed_bytes, uint64_t *slot_bytes) {
    const struct gwtf_operations *operations = NULL;
    count_memory(options, plan, fixed_bytes, slot_bytes);
    if (options->backend == GWTF_BACKEND_CUDA && gwtf_cuda_load(&operations, NULL) == GWTF_OK &&
        __builtin_add_overflow(*fixed_bytes, operations->device->own_bytes, fixed_bytes))
        *fixed_bytes = UINT64_MAX;
}

uint64_t gwtf_stage_host_memory(const struct gwtf_stage_options *options,
                                const struct gwtf_stage_plan *plan) {
    if (options->backend != GWTF_BACKEND_CUDA)
        return 0;
    return plan->floats * sizeof(float) * (options->forward_only ? 1 : (uint64_t)GWTF_FLATS);
}

/* Notes where the tensors from *TENSOR on lie, which are those of KINDS, in the members of OFFSETS
 * that KINDS names; the others become GWTF_ABSENT. */
static void find_tensors(const struct gwtf_tensor **tensor, const struct gwtf_family_tensor *kinds,
                         size_t count, uint64_t *offsets, size_t offsets_count) {
    for (size_t i = 0; i < offsets_count; i++)
        offsets[i] = GWTF_ABSENT;
    for (size_t i = 0; i < count; i++, ++*tensor) {
        if (kinds[i].place != GWTF_JOINED)
            offsets[kinds[i].place / sizeof *offsets] = (*tensor)->offset;
    }
}

static void find_blocks(struct gwtf_stage *stage) {
    const struct gwtf_family_traits *family = stage->family;
    const struct gwtf_tensor *tensor = stage->plan.tensors;
    for (uint32_t layer = 0; layer < stage->plan.shape.layers; layer++)
        find_tensors(&tensor, family->block_tensors, family->block_tensors_count,
                     (uint64_t *)&stage->blocks[layer], sizeof *stage->blocks / sizeof(uint64_t));
    if (stage->plan.shape.stage != 0)
        return;
    find_tensors(&tensor, family->data_tensors, stage->plan.tensors_count, (uint64_t *)&stage->data,
                 sizeof stage->data / sizeof(uint64_t));
    if (stage->plan.shape.model.tied_head)
        stage->data.head = stage->data.tokens;
}

static gwtf_status check_options(const struct gwtf_stage_options *options,
                                 struct gwtf_error *error) {
    if (options->microbatch == 0)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "batch.microbatch is 0: use at least 1 sequence");
    GWTF_ASSERT(!options->continues || (options->forward_only && options->microbatch == 1));
    if (options->slots == 0)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "a stage has room for 0 microbatches: give it at least 1");
    if (options->threads == 0 || options->threads > 4096)
        return gwtf_error_set(error, GWTF_ERROR_USAGE, "backend.threads is %u: use 1 to 4096",
                              options->threads);
    return GWTF_OK;
}

/* NULL when there is not so much. Touching every page here finds a lack of memory now, and not in
 * the first microbatch. */
static void *allocate(uint64_t bytes) {
    bool large = bytes >= HUGE_PAGE_BYTES;
    void *memory = NULL;
    if (posix_memalign(&memory, large ? HUGE_PAGE_BYTES : ALIGNMENT_BYTES, bytes) != 0)
        return NULL;
    /* A matrix product walks down columns: with small pages every step would be a miss in the
     * processor's page tables. Where the kernel refuses, nothing is lost but speed. */
    if (large)
        madvise(memory, bytes, MADV_HUGEPAGE);
    memset(memory, 0, bytes);
    return memory;
}

void *gwtf_stage_allocate(const struct gwtf_stage *stage, uint64_t bytes) {
    void *memory = NULL;
    if (stage->device == NULL)
        return allocate(bytes);
    stage->device->enter(&stage->compute);
    return stage->device->allocate(&stage->compute, bytes, &memory) == GWTF_OK ? memory : NULL;
}

void gwtf_stage_release(const struct gwtf_stage *stage, void *memory) {
    if (stage->device == NULL) {
        free(memory);
    } else if (memory != NULL) {
        stage->device->enter(&stage->compute);
        stage->device->release(&stage->compute, memory);
    }
}

static bool allocate_tables(struct gwtf_stage *stage) {
    struct carver count = {0};
    carve_tables(stage, &count);
    stage->tables_memory = allocate(count.used_bytes);
    struct carver carver = {.memory = stage->tables_memory};
    if (carver.memory != NULL)
        carve_tables(stage, &carver);
    return carver.memory != NULL;
}

/* Needs plan, options, and compute as prepared. What is allocated on failure, the caller frees. */
static gwtf_status allocate_stage(struct gwtf_stage *stage, struct gwtf_error *error) {
    uint64_t fixed_bytes, slot_bytes, slots_bytes;
    count_memory(&stage->options, &stage->plan, &fixed_bytes, &slot_bytes);
    if (__builtin_mul_overflow(slot_bytes, (uint64_t)stage->options.slots, &slots_bytes))
        slots_bytes = UINT64_MAX;
    bool possible = fixed_bytes <= (uint64_t)PTRDIFF_MAX && slots_bytes <= (uint64_t)PTRDIFF_MAX;
    if (possible) {
        stage->memory = gwtf_stage_allocate(stage, fixed_bytes);
        stage->slots_memory = slots_bytes != 0 ? gwtf_stage_allocate(stage, slots_bytes) : NULL;
    }
    if (stage->memory == NULL || (slots_bytes != 0 && stage->slots_memory == NULL))
        return gwtf_error_set(error, GWTF_ERROR_MEMORY,
                              "no memory for stage %u: %llu MB for weights and workspace, %llu MB "
                              "for each of %u microbatches: use more stages or a smaller capacity",
                              stage->plan.shape.stage, (unsigned long long)(fixed_bytes >> 20),
                              (unsigned long long)(slot_bytes >> 20), stage->options.slots);
    struct carver carver = {.memory = stage->memory};
    carve_fixed(stage, &carver);
    if (!allocate_tables(stage) || (stage->device != NULL && gwtf_mirror_create(stage) != GWTF_OK))
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for a stage: free some");
    struct carver slots = {.memory = stage->slots_memory};
    for (uint32_t slot = 0; slot < stage->options.slots; slot++)
        carve_slot(stage, slot, &slots);
    find_blocks(stage);
    if (stage->turns != NULL)
        return gwtf_block_fill_turns(stage, error);
    return GWTF_OK;
}

gwtf_status gwtf_stage_create(const struct gwtf_stage_options *options, gwtf_stage **stage,
                              struct gwtf_error *error) {
    gwtf_status status = check_options(options, error);
    if (status != GWTF_OK)
        return status;
    struct gwtf_stage *made = calloc(1, sizeof *made);
    if (made == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for a stage: free some");
    made->options = *options;
    made->compute.threads = (int)options->threads;
    made->compute.precision = options->precision;
    made->compute.place = options->place;
    pthread_mutex_init(&made->mirror.lock, NULL);
    status = gwtf_stage_plan_init(&made->plan, &options->shape, error);
    if (status == GWTF_OK)
        status = find_operations(options->backend, &made->compute.operations, error);
    if (status == GWTF_OK)
        status = made->compute.operations->prepare(&made->compute, error);
    if (status == GWTF_OK) {
        fill_in(made);
        status = allocate_stage(made, error);
    }
    if (status == GWTF_OK)
        status = gwtf_stage_check(made, error);
    if (status != GWTF_OK) {
        gwtf_stage_destroy(made);
        return status;
    }
    *stage = made;
    return GWTF_OK;
}

void gwtf_stage_destroy(gwtf_stage *stage) {
    if (stage == NULL)
        return;
    gwtf_stage_release(stage, stage->slots_memory);
    gwtf_stage_release(stage, stage->memory);
    if (stage->device != NULL) {
        stage->device->enter(&stage->compute);
        gwtf_mirror_destroy(stage);
        stage->device->close(&stage->compute);
    }
    free(stage->tables_memory);
    pthread_mutex_destroy(&stage->mirror.lock);
    gwtf_stage_plan_deinit(&stage->plan);
    free(stage);
}

const struct gwtf_stage_plan *gwtf_stage_get_plan(const gwtf_stage *stage) {
    return &stage->plan;
}

void gwtf_stage_zero_gradients(gwtf_stage *stage) {
    GWTF_ASSERT(stage->gradients != NULL);
    if (stage->device != NULL) {
        gwtf_stage_enter(stage);
        stage->device->zero(&stage->compute, stage->gradients,
                            stage->plan.floats * sizeof *stage->gradients);
        gwtf_mirror_computed(stage, GWTF_FLAT_GRADIENTS);
        return;
    }
    /* As many parts as threads: the memory is faster than one core. */
    int threads = stage->compute.threads;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int t = 0; t < threads; t++) {
        uint64_t first = stage->plan.floats * (uint64_t)t / (uint64_t)threads;
        uint64_t end = stage->plan.floats * ((uint64_t)t + 1) / (uint64_t)threads;
        memset(stage->gradients + first, 0, (end - first) * sizeof *stage->gradients);
    }
}

gwtf_status gwtf_stage_check(gwtf_stage *stage, struct gwtf_error *error) {
    if (stage->device == NULL)
        return GWTF_OK;
    stage->device->enter(&stage->compute);
    return stage->device->check(&stage->compute, error);
}

void gwtf_stage_profile(gwtf_stage *stage) {
    GWTF_ASSERT(gwtf_stage_unfinished(stage) == 0);
    if (stage->device == NULL)
        return;
    stage->device->enter(&stage->compute);
    stage->device->profile(&stage->compute);
}

size_t gwtf_stage_profiled(gwtf_stage *stage, struct gwtf_kernel_time *times) {
    if (stage->device == NULL)
        return 0;
    stage->device->enter(&stage->compute);
    return stage->device->profiled(&stage->compute, times);
}

void gwtf_stage_enter(struct gwtf_stage *stage) {
    if (stage->device == NULL) {
        omp_set_num_threads(stage->compute.threads);
        return;
    }
    stage->device->enter(&stage->compute);
    gwtf_mirror_flush(stage);
}

/* The blocks one after the other, from INPUT to LAST. */
static void forward_blocks(gwtf_stage *stage, uint32_t slot, const float *input, float *last) {
    uint32_t layers = stage->plan.shape.layers;
    const struct gwtf_activations *activations = &stage->activations[(size_t)slot * layers];
    size_t rows = gwtf_stage_rows(stage);
    for (uint32_t layer = 0; layer < layers; layer++) {
        float *layer_output = layer + 1 < layers ? activations[layer].output : last;
        for (size_t row = 0; row < rows; row += stage->piece_rows) {
            size_t left = rows - row;
            size_t piece = left < stage->piece_rows ? left : stage->piece_rows;
            gwtf_block_forward(stage, layer, &activations[layer], input, layer_output, row, piece);
        }
        input = layer_output;
    }
}

/* Where a relay has what it takes: on a device, until the slot's backward pass. */
static float *input_place(const gwtf_stage *stage, uint32_t slot) {
    return stage->device != NULL ? stage->inputs[slot] : stage->boundary[GWTF_STAGE_INPUT];
}

void gwtf_stage_forward(gwtf_stage *stage, uint32_t slot, const void *input, void *output,
                        bool keep) {
    GWTF_ASSERT(stage->plan.shape.stage != 0 && slot < stage->options.slots);
    GWTF_ASSERT(!keep || !stage->options.forward_only);
    uint64_t count = gwtf_stage_boundary_floats(stage);
    const struct gwtf_recording what = {.kind = GWTF_RECORD_FORWARD, .slot = slot};
    gwtf_boundary_begin(stage);
    const float *taken = gwtf_boundary_take(stage, input, input_place(stage, slot), count);
    float *last = gwtf_boundary_place(stage, output, stage->boundary[GWTF_STAGE_OUTPUT]);
    while (gwtf_boundary_record(stage, &what)) {
        forward_blocks(stage, slot, taken, last);
        if (gwtf_boundary_recorded(stage))
            break;
    }
    gwtf_boundary_give(stage, output, last, count);
    gwtf_boundary_end(stage, NULL);
    stage->kept[slot] = keep;
}

void gwtf_stage_continue(gwtf_stage *stage, const float *input, float *output, uint32_t first,
                         uint32_t count) {
    uint32_t layers = stage->plan.shape.layers, context = stage->plan.shape.model.context;
    GWTF_ASSERT(stage->options.continues && count >= 1);
    GWTF_ASSERT(stage->options.packing == GWTF_PACKING_NONE && !stage->options.ahead);
    GWTF_ASSERT(first <= context && count <= context - first);
    uint64_t floats = (uint64_t)count * stage->sizes.width;
    gwtf_boundary_begin(stage);
    const float *taken = gwtf_boundary_take(stage, input, input_place(stage, 0), floats);
    float *last = gwtf_boundary_place(stage, output, stage->boundary[GWTF_STAGE_OUTPUT]);
    for (uint32_t layer = 0; layer < layers; layer++) {
        const struct gwtf_activations *activations = &stage->activations[layer];
        float *layer_output = layer + 1 < layers ? activations->output : last;
        gwtf_block_continue(stage, layer, activations, taken, layer_output, first, count);
        taken = layer_output;
    }
    gwtf_boundary_give(stage, output, last, floats);
    gwtf_boundary_end(stage, NULL);
}

/* From OUTPUT_GRADIENT to FIRST, the last block first. */
static void backward_blocks(gwtf_stage *stage, uint32_t slot, const float *input,
                            const float *output_gradient, float *first) {
    uint32_t layers = stage->plan.shape.layers;
    const struct gwtf_activations *activations = &stage->activations[(size_t)slot * layers];
    size_t rows = gwtf_stage_rows(stage);
    for (uint32_t layer = layers; layer-- > 0;) {
        const float *layer_input = layer > 0 ? activations[layer - 1].output : input;
        for (size_t row = 0; row < rows; row += stage->piece_rows) {
            size_t left = rows - row;
            size_t piece = left < stage->piece_rows ? left : stage->piece_rows;
            if (stage->options.recompute)
                gwtf_block_forward(stage, layer, &activations[layer], layer_input, NULL, row,
                                   piece);
            gwtf_block_backward(stage, layer, &activations[layer], layer_input, output_gradient,
                                first, row, piece);
        }
        output_gradient = first;
    }
}

void gwtf_stage_backward(gwtf_stage *stage, uint32_t slot, const void *input,
                         const void *output_gradient, void *input_gradient) {
    GWTF_ASSERT(stage->plan.shape.stage != 0 && slot < stage->options.slots);
    GWTF_ASSERT(stage->kept[slot]);
    uint64_t count = gwtf_stage_boundary_floats(stage);
    const struct gwtf_recording what = {.kind = GWTF_RECORD_BACKWARD, .slot = slot};
    gwtf_boundary_begin(stage);
    const float *gradient =
        gwtf_boundary_take(stage, output_gradient, stage->boundary[GWTF_STAGE_OUTPUT], count);
    const float *kept = stage->inputs[slot];
    if (stage->device == NULL)
        kept = gwtf_boundary_take(stage, input, stage->boundary[GWTF_STAGE_INPUT], count);
    float *first =
        gwtf_boundary_place(stage, input_gradient, stage->boundary[GWTF_STAGE_INPUT_GRADIENT]);
    while (gwtf_boundary_record(stage, &what)) {
        backward_blocks(stage, slot, kept, gradient, first);
        if (gwtf_boundary_recorded(stage))
            break;
    }
    gwtf_boundary_give(stage, input_gradient, first, count);
    gwtf_boundary_end(stage, NULL);
    gwtf_mirror_computed(stage, GWTF_FLAT_GRADIENTS);
    stage->kept[slot] = false;
}
