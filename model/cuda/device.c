/* A device: opening it, its memory, copies, and what went wrong. */
#include "model/cuda/device.h"

#include "model/cuda/graph.h"
#include "model/cuda/turn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What cannot be recorded can still be done. */
static bool is_recorded(struct gwtf_device *device) {
    if (device->graphs.recording == NULL)
        return false;
    device->graphs.impossible = true;
    return true;
}

void gwtf_cuda_note(struct gwtf_device *device, cudaError_t error, const char *doing) {
    if (error == cudaSuccess || is_recorded(device))
        return;
    pthread_mutex_lock(&device->lock);
    if (!device->failed) {
        device->failed = true;
        device->memory_is_short = error == cudaErrorMemoryAllocation;
        snprintf(device->what, sizeof device->what, "%s: %s (%s)", doing, cudaGetErrorString(error),
                 cudaGetErrorName(error));
    }
    pthread_mutex_unlock(&device->lock);
}

void gwtf_cuda_note_product(struct gwtf_device *device, cublasStatus_t status, const char *doing) {
    if (status == CUBLAS_STATUS_SUCCESS || is_recorded(device))
        return;
    pthread_mutex_lock(&device->lock);
    if (!device->failed) {
        device->failed = true;
        device->memory_is_short = status == CUBLAS_STATUS_ALLOC_FAILED;
        snprintf(device->what, sizeof device->what, "%s: %s", doing,
                 cublasLtGetStatusString(status));
    }
    pthread_mutex_unlock(&device->lock);
}

/* Errors: GWTF_ERROR_UNSUPPORTED, with what to do. */
static gwtf_status choose(uint32_t place, int *ordinal, int *seen, struct gwtf_error *error) {
    int count = 0;
    cudaError_t found = cudaGetDeviceCount(&count);
    if (found != cudaSuccess || count == 0)
        return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED,
                              "backend.device is \"cuda\", but no GPU is seen here (%s): see "
                              "nvidia-smi and CUDA_VISIBLE_DEVICES, or make it \"auto\"",
                              found != cudaSuccess ? cudaGetErrorString(found) : "there is none");
    *ordinal = (int)(place % (uint32_t)count);
    *seen = count;
    return GWTF_OK;
}

/* Architectures before 8.0 have neither bfloat16 nor TF32, and no kernels here. */
static gwtf_status check_kind(const struct gwtf_gpu *gpu, struct gwtf_error *error) {
    if (gpu->capability >= 80)
        return GWTF_OK;
    return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED,
                          "GPU %u, %s, is of compute capability %u.%u, and 8.0 is the least: make "
                          "backend.device \"cpu\"",
                          gpu->number, gpu->name, gpu->capability / 10, gpu->capability % 10);
}

static gwtf_status device_look(uint32_t place, struct gwtf_gpu *gpu, struct gwtf_error *error) {
    struct cudaDeviceProp properties;
    int ordinal = 0, count = 0;
    gwtf_status status = choose(place, &ordinal, &count, error);
    if (status != GWTF_OK)
        return status;
    cudaError_t failed = cudaGetDeviceProperties(&properties, ordinal);
    if (failed != cudaSuccess)
        return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED, "GPU %d says nothing of itself: %s",
                              ordinal, cudaGetErrorString(failed));
    *gpu = (struct gwtf_gpu){.number = (uint32_t)ordinal,
                             .count = (uint32_t)count,
                             .capability = (uint32_t)(10 * properties.major + properties.minor),
                             .all_bytes = properties.totalGlobalMem};
    snprintf(gpu->name, sizeof gpu->name, "%.*s", (int)sizeof gpu->name - 1, properties.name);
    return check_kind(gpu, error);
}

static gwtf_status device_free_bytes(uint32_t place, uint64_t *bytes, struct gwtf_error *error) {
    int ordinal = 0, count = 0;
    size_t left = 0, all = 0;
    gwtf_status status = choose(place, &ordinal, &count, error);
    if (status != GWTF_OK)
        return status;
    cudaError_t failed = cudaSetDevice(ordinal);
    if (failed == cudaSuccess)
        failed = cudaMemGetInfo(&left, &all);
    if (failed != cudaSuccess)
        return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED, "GPU %d cannot be used: %s", ordinal,
                              cudaGetErrorString(failed));
    *bytes = left;
    return GWTF_OK;
}

static cudaError_t open_streams(struct gwtf_device *device) {
    cudaError_t failed = cudaSetDevice(device->ordinal);
    if (failed == cudaSuccess)
        failed = cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking);
    if (failed == cudaSuccess)
        failed = cudaMalloc(&device->workspace, GWTF_CUDA_WORKSPACE_BYTES);
    if (failed == cudaSuccess)
        failed = cudaMalloc((void **)&device->sum, sizeof *device->sum);
    if (failed == cudaSuccess)
        failed = cudaMallocHost((void **)&device->sum_host, sizeof *device->sum_host);
    if (failed == cudaSuccess)
        failed = gwtf_cuda_turns_open(device);
    if (failed == cudaSuccess)
        failed = gwtf_cuda_mma_prepare();
    return failed;
}

static void device_close(struct gwtf_compute *compute) {
    struct gwtf_device *device = compute->device;
    if (device == NULL)
        return;
    cudaSetDevice(device->ordinal);
    gwtf_cuda_graphs_close(device);
    gwtf_cuda_profile_close(device);
    gwtf_cuda_turns_close(device);
    gwtf_cuda_products_close(device);
    cudaFree(device->workspace);
    cudaFree(device->sum);
    cudaFreeHost(device->sum_host);
    if (device->stream != NULL)
        cudaStreamDestroy(device->stream);
    pthread_mutex_destroy(&device->queueing);
    pthread_mutex_destroy(&device->lock);
    free(device->order);
    free(device);
    compute->device = NULL;
}

gwtf_status gwtf_cuda_open(struct gwtf_compute *compute, struct gwtf_error *error) {
    struct gwtf_gpu gpu;
    gwtf_status status = device_look(compute->place, &gpu, error);
    if (status != GWTF_OK)
        return status;
    struct gwtf_device *device = calloc(1, sizeof *device);
    if (device == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    device->ordinal = (int)gpu.number;
    device->values =
        compute->precision == GWTF_PRECISION_BFLOAT16 ? GWTF_CUDA_BFLOAT16 : GWTF_CUDA_FLOATS;
    device->tensor_floats = compute->precision == GWTF_PRECISION_TFLOAT32;
    pthread_mutex_init(&device->lock, NULL);
    pthread_mutex_init(&device->queueing, NULL);
    compute->device = device;
    gwtf_cuda_note(device, open_streams(device), "a GPU could not be opened");
    if (!device->failed)
        gwtf_cuda_note_product(device, cublasLtCreate(&device->products),
                               "cuBLASLt could not be started");
    if (!device->failed)
        return GWTF_OK;
    status = device->memory_is_short ? GWTF_ERROR_MEMORY : GWTF_ERROR_UNSUPPORTED;
    gwtf_error_set(error, status, "GPU %d: %s", device->ordinal, device->what);
    device_close(compute);
    return status;
}

/* A lack of memory is no failure of the device: who asks may ask for less. */
static gwtf_status device_allocate(const struct gwtf_compute *compute, uint64_t bytes,
                                   void **memory) {
    void *made = NULL;
    cudaError_t failed = cudaMalloc(&made, bytes);
    if (failed != cudaSuccess) {
        if (failed == cudaErrorMemoryAllocation)
            cudaGetLastError();
        else
            gwtf_cuda_note(compute->device, failed, "memory of the GPU");
        return GWTF_ERROR_MEMORY;
    }
    gwtf_cuda_note(compute->device, cudaMemsetAsync(made, 0, bytes, compute->device->stream),
                   "clearing memory of the GPU");
    *memory = made;
    return GWTF_OK;
}

static void device_release(const struct gwtf_compute *compute, void *memory) {
    gwtf_cuda_note(compute->device, cudaFree(memory), "freeing memory of the GPU");
}

static gwtf_status device_allocate_host(const struct gwtf_compute *compute, uint64_t bytes,
                                        void **memory) {
    (void)compute;
    if (cudaMallocHost(memory, bytes) == cudaSuccess)
        return GWTF_OK;
    cudaGetLastError();
    return GWTF_ERROR_MEMORY;
}

static void device_release_host(const struct gwtf_compute *compute, void *memory) {
    (void)compute;
    cudaFreeHost(memory);
}

/* A system that locks no more memory copies more slowly, and that is all. */
static bool device_pin(const struct gwtf_compute *compute, void *memory, uint64_t bytes) {
    (void)compute;
    if (cudaHostRegister(memory, bytes, cudaHostRegisterDefault) == cudaSuccess)
        return true;
    cudaGetLastError();
    return false;
}

static void device_unpin(const struct gwtf_compute *compute, void *memory) {
    gwtf_cuda_note(compute->device, cudaHostUnregister(memory), "unlocking memory of the host");
}

static void device_enter(const struct gwtf_compute *compute) {
    gwtf_cuda_note(compute->device, cudaSetDevice(compute->device->ordinal), "choosing the GPU");
}

/* Waits for what comes from the device. Other threads than the one that computes copy, too: not
 * into what is being recorded. */
static void copy(const struct gwtf_compute *compute, void *to, const void *from, uint64_t bytes,
                 enum cudaMemcpyKind kind) {
    struct gwtf_device *device = compute->device;
    bool up = kind == cudaMemcpyHostToDevice;
    pthread_mutex_lock(&device->queueing);
    gwtf_cuda_note(device, cudaMemcpyAsync(to, from, bytes, kind, device->stream),
                   up ? "copying to the GPU" : "copying from the GPU");
    if (!up)
        gwtf_cuda_note(device, cudaStreamSynchronize(device->stream), "computing on the GPU");
    pthread_mutex_unlock(&device->queueing);
}

static void device_upload(const struct gwtf_compute *compute, void *to, const void *from,
                          uint64_t bytes) {
    copy(compute, to, from, bytes, cudaMemcpyHostToDevice);
}

static void device_download(const struct gwtf_compute *compute, void *to, const void *from,
                            uint64_t bytes) {
    copy(compute, to, from, bytes, cudaMemcpyDeviceToHost);
}

/* In place: the bits of the values stand in the second half of TO, and are read before a float
 * takes their place. */
static void device_download_values(const struct gwtf_compute *compute, float *to, const float *from,
                                   uint64_t count) {
    if (compute->device->values == GWTF_CUDA_FLOATS) {
        device_download(compute, to, from, count * sizeof *to);
        return;
    }
    uint16_t *bits = (uint16_t *)(void *)to + count;
    device_download(compute, bits, from, count * sizeof *bits);
    for (uint64_t i = 0; i < count; i++) {
        uint32_t wide = (uint32_t)bits[i] << 16;
        memcpy(&to[i], &wide, sizeof wide);
    }
}

static void device_zero(const struct gwtf_compute *compute, void *at, uint64_t bytes) {
    gwtf_cuda_mark(compute->device, GWTF_KERNEL_OTHER, 0, (double)bytes);
    gwtf_cuda_note(compute->device, cudaMemsetAsync(at, 0, bytes, compute->device->stream),
                   "clearing memory of the GPU");
}

static void *rounded_at(const struct gwtf_compute *compute, const float *w) {
    return compute->rounded != NULL ? (uint16_t *)compute->rounded + (size_t)(w - compute->weights)
                                    : NULL;
}

static void device_weights_changed(const struct gwtf_compute *compute, const float *at,
                                   uint64_t count) {
    if (compute->rounded == NULL)
        return;
    gwtf_cuda_mark(compute->device, GWTF_KERNEL_ROUND, 0, 6.0 * (double)count);
    gwtf_cuda_round(compute->device->stream, rounded_at(compute, at), at, count);
}

/* Each row is read and written. */
static double embedded_bytes(const struct gwtf_embedding *embedding) {
    return 8.0 * (double)embedding->rows * (double)embedding->width;
}

static void device_embed(const struct gwtf_compute *compute, const struct gwtf_embedding *embedding,
                         float *output, const float *token_rows, const float *position_rows,
                         const uint32_t *tokens) {
    gwtf_cuda_mark(compute->device, GWTF_KERNEL_EMBED, 0, embedded_bytes(embedding));
    gwtf_cuda_embed(compute->device->stream, embedding, output, token_rows, position_rows, tokens);
}

/* Room for COUNT numbers of the host; NULL when there is none. */
static uint32_t *room_for_order(struct gwtf_device *device, size_t count) {
    if (device->order_room >= count)
        return device->order;
    uint32_t *grown = realloc(device->order, count * sizeof *grown);
    if (grown == NULL) {
        gwtf_cuda_note(device, cudaErrorMemoryAllocation, "the order of a batch's tokens");
        return NULL;
    }
    device->order = grown;
    device->order_room = count;
    return grown;
}

/*
 * By counting: LISTS (3 * rows + 1) holds the distinct tokens, where their rows start (one more),
 * and the rows. PLACES (vocabulary) is scratch. Returns how many distinct there are.
 */
static size_t sort_rows(const uint32_t *tokens, size_t rows, size_t vocabulary, uint32_t *places,
                        uint32_t *lists) {
    uint32_t *distinct = lists, *starts = lists + rows, *order = starts + rows + 1, at = 0;
    size_t count = 0;
    memset(places, 0, vocabulary * sizeof *places);
    for (size_t row = 0; row < rows; row++)
        places[tokens[row]]++;
    for (uint32_t token = 0; token < vocabulary; token++) {
        uint32_t of_token = places[token];
        places[token] = at;
        if (of_token == 0)
            continue;
        distinct[count] = token;
        starts[count++] = at;
        at += of_token;
    }
    starts[count] = at;
    for (uint32_t row = 0; row < rows; row++)
        order[places[tokens[row]]++] = row;
    return count;
}

static void device_embed_backward(const struct gwtf_compute *compute,
                                  const struct gwtf_embedding *embedding, float *token_rows,
                                  float *position_rows, const float *output_gradient,
                                  const uint32_t *tokens) {
    struct gwtf_device *device = compute->device;
    size_t rows = embedding->rows, listed = 3 * rows + 1;
    uint32_t *room = room_for_order(device, embedding->vocabulary + listed);
    if (room == NULL)
        return;
    uint32_t *lists = room + embedding->vocabulary;
    size_t distinct = sort_rows(tokens, rows, embedding->vocabulary, room, lists);
    const uint32_t *there = gwtf_cuda_words(compute, lists, listed);
    struct gwtf_cuda_order order = {
        .distinct = distinct,
        .tokens = there,
        .starts = there + rows,
        .order = there + 2 * rows + 1,
    };
    gwtf_cuda_mark(device, GWTF_KERNEL_EMBED_BACKWARD, 0, 2 * embedded_bytes(embedding));
    gwtf_cuda_embed_backward(device->stream, embedding, token_rows, position_rows, output_gradient,
                             &order);
}

static void device_step(const struct gwtf_compute *compute, const struct gwtf_adamw *adamw,
                        float *w, float *m, float *v, const float *gradients, uint64_t count) {
    /* Weights and two moments are read and written, gradients are read. */
    gwtf_cuda_mark(compute->device, GWTF_KERNEL_STEP, 0,
                   (double)count * (compute->rounded != NULL ? 30.0 : 28.0));
    gwtf_cuda_adamw(compute->device->stream, adamw, w, m, v, gradients, rounded_at(compute, w),
                    count);
}

static double fetch_sum(const struct gwtf_compute *compute) {
    struct gwtf_device *device = compute->device;
    device_download(compute, device->sum_host, device->sum, sizeof *device->sum);
    return *device->sum_host;
}

static double device_sum_of_squares(const struct gwtf_compute *compute, const float *values,
                                    uint64_t count) {
    struct gwtf_device *device = compute->device;
    gwtf_cuda_mark(device, GWTF_KERNEL_SQUARES, 0, 4.0 * (double)count);
    gwtf_cuda_sum_of_squares(device->stream, values, count, compute->scratch, device->sum);
    return fetch_sum(compute);
}

static gwtf_status device_state(const struct gwtf_compute *compute, struct gwtf_error *error) {
    struct gwtf_device *device = compute->device;
    pthread_mutex_lock(&device->lock);
    bool failed = device->failed;
    pthread_mutex_unlock(&device->lock);
    if (!failed)
        return GWTF_OK;
    return gwtf_error_set(error, GWTF_ERROR_DEVICE,
                          "GPU %d failed: %s: see dmesg and nvidia-smi -q; the node leaves",
                          device->ordinal, device->what);
}

/* A launch that failed says so only here. */
static gwtf_status device_check(const struct gwtf_compute *compute, struct gwtf_error *error) {
    struct gwtf_device *device = compute->device;
    cudaStream_t const streams[] = {device->turns.arrivals, device->stream,
                                    device->turns.departures};
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
        gwtf_cuda_note(device, cudaStreamSynchronize(streams[i]), "computing on the GPU");
    gwtf_cuda_note(device, cudaGetLastError(), "starting work on the GPU");
    return device_state(compute, error);
}

static void device_profile(const struct gwtf_compute *compute) {
    device_check(compute, NULL);
    gwtf_cuda_profile(compute->device, true);
}

static size_t device_profiled(const struct gwtf_compute *compute, struct gwtf_kernel_time *times) {
    gwtf_cuda_mark(compute->device, GWTF_KERNEL_NONE, 0, 0);
    device_check(compute, NULL);
    size_t count = gwtf_cuda_profiled(compute->device, times, GWTF_KERNEL_TIMES_MAX);
    gwtf_cuda_profile(compute->device, false);
    return count;
}

const struct gwtf_device_operations gwtf_cuda_device_operations = {
    .own_bytes = GWTF_CUDA_WORKSPACE_BYTES + sizeof(double),
    .begin = gwtf_cuda_begin,
    .words = gwtf_cuda_words,
    .take = gwtf_cuda_take,
    .give = gwtf_cuda_give,
    .end = gwtf_cuda_end,
    .finish = gwtf_cuda_finish,
    .record = gwtf_cuda_record,
    .recorded = gwtf_cuda_recorded,
    .profile = device_profile,
    .profiled = device_profiled,
    .state = device_state,
    .allocate = device_allocate,
    .release = device_release,
    .allocate_host = device_allocate_host,
    .release_host = device_release_host,
    .look = device_look,
    .free_bytes = device_free_bytes,
    .peak = gwtf_cuda_peak,
    .pin = device_pin,
    .unpin = device_unpin,
    .enter = device_enter,
    .upload = device_upload,
    .download = device_download,
    .download_values = device_download_values,
    .zero = device_zero,
    .weights_changed = device_weights_changed,
    .embed = device_embed,
    .embed_backward = device_embed_backward,
    .step = device_step,
    .sum_of_squares = device_sum_of_squares,
    .check = device_check,
    .close = device_close,
};
