/*
 * What goes in and out of a stage's calls. A call is a turn; every other turn has the same buffers,
 * so that while one turn computes, the next brings its tensor and the one before takes its away:
 *
 *     arrivals:    take 1  take 2
 *     stream:              compute 1  compute 2
 *     departures:                     give 1     give 2
 */
#include "model/cuda/turn.h"

#include "model/cuda/graph.h"
#include "model/cuda/profile.h"

#include <stdlib.h>
#include <string.h>

static void note(struct gwtf_device *device, cudaError_t error) {
    gwtf_cuda_note(device, error, "copying to or from the GPU");
}

cudaError_t gwtf_cuda_turns_open(struct gwtf_device *device) {
    struct gwtf_turns *turns = &device->turns;
    cudaError_t failed = cudaStreamCreateWithFlags(&turns->arrivals, cudaStreamNonBlocking);
    if (failed == cudaSuccess)
        failed = cudaStreamCreateWithFlags(&turns->departures, cudaStreamNonBlocking);
    for (int i = 0; i < 2 && failed == cudaSuccess; i++) {
        cudaEvent_t *const events[] = {&turns->of[i].arrived, &turns->of[i].computed,
                                       &turns->of[i].done};
        /* Who waits sleeps: a worker's thread for MPI may have the same processor. */
        for (int e = 0; e < 3 && failed == cudaSuccess; e++)
            failed =
                cudaEventCreateWithFlags(events[e], cudaEventDisableTiming | cudaEventBlockingSync);
        if (failed == cudaSuccess)
            failed = cudaMallocHost((void **)&turns->of[i].sum, sizeof *turns->of[i].sum);
    }
    return failed;
}

void gwtf_cuda_turns_close(struct gwtf_device *device) {
    struct gwtf_turns *turns = &device->turns;
    for (int i = 0; i < 2; i++) {
        cudaEvent_t const events[] = {turns->of[i].arrived, turns->of[i].computed,
                                      turns->of[i].done};
        for (int e = 0; e < 3; e++)
            if (events[e] != NULL)
                cudaEventDestroy(events[e]);
        cudaFreeHost(turns->of[i].sum);
        cudaFreeHost(turns->of[i].words);
    }
    if (turns->arrivals != NULL)
        cudaStreamDestroy(turns->arrivals);
    if (turns->departures != NULL)
        cudaStreamDestroy(turns->departures);
}

static struct gwtf_turn *this_turn(struct gwtf_device *device) {
    return &device->turns.of[device->turns.begun % 2];
}

/* The buffers for tensors that come in, and those for what goes out. */
static void *buffer(const struct gwtf_compute *compute, bool goes) {
    uint64_t index = (goes ? 2 : 0) + compute->device->turns.begun % 2;
    return (unsigned char *)compute->buffers + index * compute->buffer_bytes;
}

void gwtf_cuda_begin(const struct gwtf_compute *compute) {
    struct gwtf_device *device = compute->device;
    /* The turn before the last, which had these buffers, was waited for. */
    device->turns.begun++;
    gwtf_cuda_mark(device, GWTF_KERNEL_OTHER, 0, 0);
    note(device, cudaMemsetAsync(device->sum, 0, sizeof *device->sum, device->stream));
}

/* Queues on the stream what was queued on FROM. */
static void follow(struct gwtf_device *device, cudaStream_t stream, cudaEvent_t event,
                   cudaStream_t from) {
    note(device, cudaEventRecord(event, from));
    note(device, cudaStreamWaitEvent(stream, event, 0));
}

void gwtf_cuda_take(const struct gwtf_compute *compute, float *to, const void *from,
                    enum gwtf_packing packing, uint64_t count) {
    struct gwtf_device *device = compute->device;
    cudaStream_t arrivals = device->turns.arrivals;
    uint64_t bytes = gwtf_packed_bytes(packing, count);
    void *there = buffer(compute, false);
    gwtf_cuda_copy_starts(device, arrivals);
    note(device, cudaMemcpyAsync(there, from, bytes, cudaMemcpyDefault, arrivals));
    gwtf_cuda_copy_ends(device, arrivals, GWTF_KERNEL_TO_GPU, bytes);
    follow(device, device->stream, this_turn(device)->arrived, arrivals);
    gwtf_cuda_mark(device, GWTF_KERNEL_PACK, 0, (double)bytes + 4.0 * (double)count);
    if (packing == GWTF_PACKING_NONE)
        note(device, cudaMemcpyAsync(to, there, bytes, cudaMemcpyDeviceToDevice, device->stream));
    else
        gwtf_cuda_unpack(device->stream, packing, to, there, count);
}

void gwtf_cuda_give(const struct gwtf_compute *compute, void *to, const float *from,
                    enum gwtf_packing packing, uint64_t count) {
    struct gwtf_device *device = compute->device;
    cudaStream_t departures = device->turns.departures;
    uint64_t bytes = gwtf_packed_bytes(packing, count);
    void *there = buffer(compute, true);
    gwtf_cuda_mark(device, GWTF_KERNEL_PACK, 0, (double)bytes + 4.0 * (double)count);
    if (packing == GWTF_PACKING_NONE)
        note(device, cudaMemcpyAsync(there, from, bytes, cudaMemcpyDeviceToDevice, device->stream));
    else
        gwtf_cuda_pack(device->stream, packing, there, from, count);
    gwtf_cuda_mark(device, GWTF_KERNEL_NONE, 0, 0);
    follow(device, departures, this_turn(device)->computed, device->stream);
    gwtf_cuda_copy_starts(device, departures);
    note(device, cudaMemcpyAsync(to, there, bytes, cudaMemcpyDefault, departures));
    gwtf_cuda_copy_ends(device, departures, GWTF_KERNEL_FROM_GPU, bytes);
}

/* Pinned room for COUNT words of the host; NULL when there is none. */
static uint32_t *room_for_words(struct gwtf_device *device, size_t count) {
    struct gwtf_turn *turn = this_turn(device);
    if (turn->words_room >= count)
        return turn->words;
    cudaFreeHost(turn->words);
    turn->words = NULL;
    turn->words_room = 0;
    cudaError_t failed = cudaMallocHost((void **)&turn->words, count * sizeof *turn->words);
    gwtf_cuda_note(device, failed, "memory for a batch's tokens");
    if (failed != cudaSuccess)
        return NULL;
    turn->words_room = count;
    return turn->words;
}

const uint32_t *gwtf_cuda_words(const struct gwtf_compute *compute, const uint32_t *words,
                                size_t count) {
    struct gwtf_device *device = compute->device;
    uint32_t *pinned = room_for_words(device, count);
    gwtf_cuda_mark(device, GWTF_KERNEL_OTHER, 0, (double)count * sizeof *words);
    if (pinned != NULL) {
        memcpy(pinned, words, count * sizeof *words);
        note(device, cudaMemcpyAsync(compute->words, pinned, count * sizeof *words,
                                     cudaMemcpyHostToDevice, device->stream));
    }
    return compute->words;
}

void gwtf_cuda_end(const struct gwtf_compute *compute) {
    struct gwtf_device *device = compute->device;
    struct gwtf_turn *turn = this_turn(device);
    gwtf_cuda_mark(device, GWTF_KERNEL_OTHER, 0, 0);
    note(device, cudaMemcpyAsync(turn->sum, device->sum, sizeof *turn->sum, cudaMemcpyDeviceToHost,
                                 device->stream));
    gwtf_cuda_mark(device, GWTF_KERNEL_NONE, 0, 0);
    /* A launch that failed says so only here. */
    gwtf_cuda_note(device, cudaGetLastError(), "starting work on the GPU");
    follow(device, device->turns.departures, turn->computed, device->stream);
    note(device, cudaEventRecord(turn->done, device->turns.departures));
}

double gwtf_cuda_finish(const struct gwtf_compute *compute) {
    struct gwtf_device *device = compute->device;
    struct gwtf_turn *turn = &device->turns.of[++device->turns.finished % 2];
    gwtf_cuda_note(device, cudaEventSynchronize(turn->done), "computing on the GPU");
    return *turn->sum;
}
