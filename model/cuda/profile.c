#include "model/cuda/profile.h"

#include "model/cuda/device.h"

#include <stdlib.h>

static const char *const names[GWTF_KERNELS] = {
    [GWTF_KERNEL_NONE] = "nothing",
    [GWTF_KERNEL_PRODUCT] = "products, forward",
    [GWTF_KERNEL_PRODUCT_INPUT] = "products, input gradients",
    [GWTF_KERNEL_PRODUCT_WEIGHT] = "products, weight gradients",
    [GWTF_KERNEL_BIAS] = "biases and their gradients",
    [GWTF_KERNEL_ROUND] = "rounding",
    [GWTF_KERNEL_ATTENTION] = "attention",
    [GWTF_KERNEL_ATTENTION_BACKWARD] = "attention, backward",
    [GWTF_KERNEL_NORM] = "norms",
    [GWTF_KERNEL_NORM_BACKWARD] = "norms, backward",
    [GWTF_KERNEL_ACTIVATION] = "activations",
    [GWTF_KERNEL_ACTIVATION_BACKWARD] = "activations, backward",
    [GWTF_KERNEL_ROTATE] = "rotary positions",
    [GWTF_KERNEL_LOSS] = "cross-entropy",
    [GWTF_KERNEL_EMBED] = "embeddings",
    [GWTF_KERNEL_EMBED_BACKWARD] = "embeddings, backward",
    [GWTF_KERNEL_STEP] = "AdamW",
    [GWTF_KERNEL_SQUARES] = "gradient norm",
    [GWTF_KERNEL_PACK] = "boundary tensors",
    [GWTF_KERNEL_OTHER] = "clearing and small copies",
    [GWTF_KERNEL_TO_GPU] = "copies to the GPU",
    [GWTF_KERNEL_FROM_GPU] = "copies from the GPU",
};

/* ROOM elements of SIZE bytes at ARRAY become enough for COUNT + 1. */
static bool has_room(void **array, size_t *room, size_t count, size_t size) {
    if (count < *room)
        return true;
    size_t wanted = *room != 0 ? 2 * *room : 256;
    void *grown = realloc(*array, wanted * size);
    if (grown == NULL)
        return false;
    *array = grown;
    *room = wanted;
    return true;
}

/* The number of an event that is recorded on STREAM now. Events are kept for the next time. */
static size_t record(struct gwtf_device *device, cudaStream_t stream) {
    struct gwtf_profile *profile = &device->profile;
    void *events = profile->events;
    size_t room = profile->events_room;
    profile->is_short = !has_room(&events, &room, profile->events_count, sizeof(cudaEvent_t));
    if (profile->is_short)
        return 0;
    profile->events = events;
    for (; profile->events_room < room; profile->events_room++)
        profile->events[profile->events_room] = NULL;
    cudaEvent_t *event = &profile->events[profile->events_count];
    if (*event == NULL)
        gwtf_cuda_note(device, cudaEventCreateWithFlags(event, cudaEventDefault),
                       "measuring the GPU's time");
    gwtf_cuda_note(device, cudaEventRecord(*event, stream), "measuring the GPU's time");
    return profile->events_count++;
}

static struct gwtf_profile_entry *add_entry(struct gwtf_profile *profile) {
    void *entries = profile->entries;
    if (profile->is_short)
        return NULL;
    profile->is_short = !has_room(&entries, &profile->entries_room, profile->entries_count,
                                  sizeof *profile->entries);
    profile->entries = entries;
    return profile->is_short ? NULL : &profile->entries[profile->entries_count++];
}

void gwtf_cuda_mark(struct gwtf_device *device, enum gwtf_kernel kernel, double operations,
                    double bytes) {
    struct gwtf_profile *profile = &device->profile;
    if (!profile->on || profile->is_short)
        return;
    size_t now = record(device, device->stream);
    if (profile->has_open)
        profile->entries[profile->open].to = now;
    profile->has_open = false;
    struct gwtf_profile_entry *entry = kernel != GWTF_KERNEL_NONE ? add_entry(profile) : NULL;
    if (entry == NULL)
        return;
    *entry = (struct gwtf_profile_entry){kernel, operations, bytes, now, now};
    profile->has_open = true;
    profile->open = (size_t)(entry - profile->entries);
}

void gwtf_cuda_copy_starts(struct gwtf_device *device, cudaStream_t stream) {
    if (device->profile.on && !device->profile.is_short)
        device->profile.copy_from = record(device, stream);
}

void gwtf_cuda_copy_ends(struct gwtf_device *device, cudaStream_t stream, enum gwtf_kernel kernel,
                         uint64_t bytes) {
    struct gwtf_profile *profile = &device->profile;
    if (!profile->on || profile->is_short)
        return;
    size_t now = record(device, stream);
    struct gwtf_profile_entry *entry = add_entry(profile);
    if (entry != NULL)
        *entry = (struct gwtf_profile_entry){kernel, 0, (double)bytes, profile->copy_from, now};
}

void gwtf_cuda_profile(struct gwtf_device *device, bool on) {
    struct gwtf_profile *profile = &device->profile;
    profile->on = on;
    profile->is_short = false;
    profile->has_open = false;
    profile->events_count = 0;
    profile->entries_count = 0;
}

/* Adds ENTRY to the times of its kernel. */
static void add(const struct gwtf_profile *profile, const struct gwtf_profile_entry *entry,
                struct gwtf_kernel_time *all) {
    float ms = 0;
    if (cudaEventElapsedTime(&ms, profile->events[entry->from], profile->events[entry->to]) !=
        cudaSuccess)
        return;
    struct gwtf_kernel_time *time = &all[entry->kernel];
    time->calls++;
    time->seconds += 1e-3 * (double)ms;
    time->operations += entry->operations;
    time->bytes += entry->bytes;
}

size_t gwtf_cuda_profiled(struct gwtf_device *device, struct gwtf_kernel_time *times, size_t most) {
    struct gwtf_profile *profile = &device->profile;
    struct gwtf_kernel_time all[GWTF_KERNELS] = {0};
    size_t count = 0;
    for (size_t i = 0; i < profile->entries_count; i++)
        if (profile->entries[i].to != profile->entries[i].from)
            add(profile, &profile->entries[i], all);
    for (int kernel = 0; kernel < GWTF_KERNELS && count < most; kernel++) {
        if (all[kernel].calls == 0)
            continue;
        times[count] = all[kernel];
        times[count].name = names[kernel];
        times[count++].copies = kernel == GWTF_KERNEL_TO_GPU || kernel == GWTF_KERNEL_FROM_GPU;
    }
    return count;
}

void gwtf_cuda_profile_close(struct gwtf_device *device) {
    struct gwtf_profile *profile = &device->profile;
    for (size_t i = 0; i < profile->events_room; i++)
        if (profile->events[i] != NULL)
            cudaEventDestroy(profile->events[i]);
    free(profile->events);
    free(profile->entries);
}
