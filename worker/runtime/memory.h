/*
 * The memory of one worker and the work done on it: a stage of the model, the boundary tensors of
 * every slot, and the buffers of aggregation. Everything is allocated at the start.
 *
 * Threads. The compute thread executes work; the thread that owns MPI takes addresses of payloads,
 * sends from them and receives into them. The protocol keeps the two apart: nothing is sent before
 * the work that makes it is done, nothing received into what work still reads.
 */
#ifndef GWTF_WORKER_RUNTIME_MEMORY_H
#define GWTF_WORKER_RUNTIME_MEMORY_H

#include "worker/protocol/protocol.h"
#include "worker/runtime/setup.h"

struct gwtf_memory_options {
    const struct gwtf_setup *setup; /* outlives the memory */
    uint32_t stage;
    uint32_t slots;
    uint32_t retained; /* further slots, of OUTPUT and INPUT_GRADIENT alone */
    uint32_t threads;
    uint32_t place;       /* among the workers of the machine: which GPU is this one's */
    uint32_t replicas;    /* of the stage */
    const char *snapshot; /* directory to start from, "" for fresh weights; NULL: they come from a
                             replica */
};

typedef struct gwtf_memory gwtf_memory;

/* Errors: GWTF_ERROR_MEMORY, GWTF_ERROR_UNSUPPORTED, GWTF_ERROR_CORRUPT, ... with the line; MEMORY
 * untouched. */
gwtf_status gwtf_memory_create(const struct gwtf_memory_options *options, gwtf_memory **memory,
                               struct gwtf_error *error);
void gwtf_memory_destroy(gwtf_memory *memory); /* NULL is allowed */

/* Bytes of the machine's memory that a worker of this stage takes without slots, and for each slot;
 * one that is retained takes 2 * gwtf_memory_boundary_bytes. */
gwtf_status gwtf_memory_predict(const struct gwtf_memory_options *options, uint64_t *fixed_bytes,
                                uint64_t *slot_bytes, struct gwtf_error *error);

/* What a worker may use, and could. */
struct gwtf_memory_room {
    uint64_t free_bytes;
    uint32_t capacity;        /* slots that it must have; 0: as many as are useful and fit */
    uint32_t capacity_useful; /* slots */
    uint64_t retained_useful; /* retained ones */
    uint64_t gpu_bytes;       /* of its GPU's memory, where it computes there */
};

/*
 * Sets OPTIONS' slots and retained ones: as many slots as the configuration says, or as are useful
 * and fit into four fifths of the free memory; and what a loss is repaired from, as far as it fits:
 * it gets what slots leave, and a quarter where they would leave less, unless the configuration
 * says how many slots there are. What computes on a GPU must fit there, too. Errors:
 * GWTF_ERROR_MEMORY with the line when not even one slot, or not all that are configured, fit.
 */
gwtf_status gwtf_memory_choose(struct gwtf_memory_options *options,
                               const struct gwtf_memory_room *room, struct gwtf_error *error);

/* Microbatches that can pass a node of STAGE in an iteration: to keep more is of no use; 0 where
 * nothing is repaired. */
uint64_t gwtf_memory_useful_to_retain(const struct gwtf_setup *setup, uint32_t stage);

/* The part of a GPU with FREE_BYTES left that is for one of WORKERS of this machine. */
uint64_t gwtf_memory_gpu_share(const struct gwtf_gpu *gpu, uint64_t free_bytes, uint32_t workers);

/* Bytes of its GPU's memory that all of OPTIONS takes; 0 where it computes on processors. */
gwtf_status gwtf_memory_predict_gpu(const struct gwtf_memory_options *options, uint64_t *bytes,
                                    struct gwtf_error *error);

/* Bytes that all of OPTIONS takes when everything has been used once. */
gwtf_status gwtf_memory_predict_peak(const struct gwtf_memory_options *options, uint64_t *bytes,
                                     struct gwtf_error *error);

/* Floats of a flat array, and bytes of a boundary tensor. */
uint64_t gwtf_memory_gradient_floats(const gwtf_memory *memory);
uint64_t gwtf_memory_boundary_bytes(const struct gwtf_setup *setup);

/* Where PAYLOAD lies and how long it is; NULL when the payload does not exist (a bug of the caller
 * or a damaged message). */
void *gwtf_memory_payload(gwtf_memory *memory, const struct gwtf_payload *payload,
                          uint64_t *size_bytes);

/* Slot SLOT and retained slot KEPT change their OUTPUT and their INPUT_GRADIENT, without a copy:
 * what is sent from there goes on. For the thread that owns MPI, while no work is done for SLOT. */
void gwtf_memory_keep(gwtf_memory *memory, uint32_t slot, uint32_t kept);

/*
 * Does one piece of work in the calling thread; result->compute_us is how long it took. Errors:
 * GWTF_ERROR_CORRUPT when the token file has been damaged; the work is then not done.
 * GWTF_ERROR_DEVICE when the GPU has failed: nothing of it can be believed. ERROR gets the line.
 */
gwtf_status gwtf_memory_execute(gwtf_memory *memory, const struct gwtf_work *work,
                                struct gwtf_work_result *result, struct gwtf_error *error);

/*
 * The same in two steps, so that a GPU has the next work before it is done with this one: at most
 * two are started and not finished, they are finished in their order, and RESULT stays where it is
 * in between. What could not be started is not to be finished. With goes_on false, all that was
 * started is done: it only remains to finish it.
 */
gwtf_status gwtf_memory_start(gwtf_memory *memory, const struct gwtf_work *work,
                              struct gwtf_work_result *result, struct gwtf_error *error);
bool gwtf_memory_goes_on(const gwtf_memory *memory);
gwtf_status gwtf_memory_finish(gwtf_memory *memory, struct gwtf_work_result *result,
                               struct gwtf_error *error);

/* A part of the weights or moments is being received: work done later is done with it. */
void gwtf_memory_state_comes(gwtf_memory *memory);

/*
 * Forward and backward of one microbatch of zeros, twice or, on a GPU, three times: warms the
 * libraries up and returns the time of the last one, in microseconds. Gradients are zero
 * afterwards.
 */
int64_t gwtf_memory_probe(gwtf_memory *memory);

/*
 * Writes the stage file from the copy that GWTF_WORK_SNAPSHOT with `writes` made, and frees the
 * copy for the next one; REST_NORM as in gwtf_setup_write_stage. For the snapshot thread. Work that
 * wants to make the next copy waits until then.
 */
gwtf_status gwtf_memory_write_snapshot(gwtf_memory *memory, uint32_t iteration,
                                       const double *rest_norm, struct gwtf_snapshot_file *file,
                                       struct gwtf_error *error);

#endif
