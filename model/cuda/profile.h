/*
 * Where a GPU's time goes. With the profile on, an event is recorded before each kernel's work: the
 * time until the next one is this one's, with what the GPU waited for it. Off, a mark costs a
 * branch.
 */
#ifndef GWTF_MODEL_CUDA_PROFILE_H
#define GWTF_MODEL_CUDA_PROFILE_H

#include "model/model.h"

#include <cuda_runtime_api.h>

#include <stdbool.h>
#include <stddef.h>

enum gwtf_kernel {
    GWTF_KERNEL_NONE, /* until the next mark nothing is computed */
    GWTF_KERNEL_PRODUCT,
    GWTF_KERNEL_PRODUCT_INPUT,
    GWTF_KERNEL_PRODUCT_WEIGHT,
    GWTF_KERNEL_BIAS,
    GWTF_KERNEL_ROUND,
    GWTF_KERNEL_ATTENTION,
    GWTF_KERNEL_ATTENTION_BACKWARD,
    GWTF_KERNEL_NORM,
    GWTF_KERNEL_NORM_BACKWARD,
    GWTF_KERNEL_ACTIVATION,
    GWTF_KERNEL_ACTIVATION_BACKWARD,
    GWTF_KERNEL_ROTATE,
    GWTF_KERNEL_LOSS,
    GWTF_KERNEL_EMBED,
    GWTF_KERNEL_EMBED_BACKWARD,
    GWTF_KERNEL_STEP,
    GWTF_KERNEL_SQUARES,
    GWTF_KERNEL_PACK,
    GWTF_KERNEL_OTHER,
    GWTF_KERNEL_TO_GPU, /* beside the others */
    GWTF_KERNEL_FROM_GPU,
    GWTF_KERNELS
};

struct gwtf_device;

/* What is queued on the device's stream from here on is of KERNEL, and does at least so many
 * OPERATIONS, and reads and writes at least so many BYTES of the device's memory. */
void gwtf_cuda_mark(struct gwtf_device *device, enum gwtf_kernel kernel, double operations,
                    double bytes);

/* Around a copy on a stream of its own. */
void gwtf_cuda_copy_starts(struct gwtf_device *device, cudaStream_t stream);
void gwtf_cuda_copy_ends(struct gwtf_device *device, cudaStream_t stream, enum gwtf_kernel kernel,
                         uint64_t bytes);

/* See gwtf_stage_profile and gwtf_stage_profiled. */
void gwtf_cuda_profile(struct gwtf_device *device, bool on);
size_t gwtf_cuda_profiled(struct gwtf_device *device, struct gwtf_kernel_time *times, size_t most);

void gwtf_cuda_profile_close(struct gwtf_device *device);

/* A piece of work between two events, of which the second may be the next one's first. */
struct gwtf_profile_entry {
    enum gwtf_kernel kernel;
    double operations, bytes;
    size_t from, to; /* events */
};

struct gwtf_profile {
    bool on;
    bool is_short; /* of memory: what comes is not counted */
    cudaEvent_t *events;
    size_t events_count, events_room;
    struct gwtf_profile_entry *entries;
    size_t entries_count, entries_room;
    bool has_open; /* the last entry of the device's stream waits for its end */
    size_t open;
    size_t copy_from; /* event */
};

#endif
