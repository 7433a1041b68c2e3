/*
 * The snapshot thread: everything that a worker writes to disk, so that a slow disk never stops
 * messages or compute. Jobs are done in their order; HDF5 is used by this thread alone once it
 * runs.
 */
#ifndef GWTF_WORKER_RUNTIME_WRITER_H
#define GWTF_WORKER_RUNTIME_WRITER_H

#include "io/run.h"
#include "worker/protocol/message.h"
#include "worker/runtime/memory.h"
#include "worker/runtime/queue.h"

enum gwtf_writer_kind {
    GWTF_WRITER_METRICS,  /* append a line */
    GWTF_WRITER_EVENT,    /* append a line */
    GWTF_WRITER_REROUTED, /* append a line to the events */
    GWTF_WRITER_NODE,     /* replace this node's state file; a result follows */
    GWTF_WRITER_STAGE,    /* write the stage file of `iteration`; a result follows */
    GWTF_WRITER_MANIFEST, /* write the manifest of `iteration` from files[0..stages]; a result
                             follows */
    GWTF_WRITER_LOOK      /* look for requests to stop and to leave; a result follows */
};

#define GWTF_WRITER_TEXT_MAX 256

struct gwtf_writer_job {
    enum gwtf_writer_kind kind;
    uint32_t iteration;
    const struct gwtf_stage_file *files; /* MANIFEST: live until the result */
    bool of_rest;                        /* STAGE: as in gwtf_setup_write_stage */
    double rest_norm;                    /* of_rest */
    struct gwtf_metrics metrics;
    struct gwtf_node_state node;
    struct gwtf_rerouted rerouted;
    struct {
        char kind[32];
        gwtf_node_id node;
        char text[GWTF_WRITER_TEXT_MAX]; /* "": none */
    } event;
};

struct gwtf_writer_result {
    enum gwtf_writer_kind kind; /* NODE, STAGE, MANIFEST or LOOK */
    uint32_t iteration;
    gwtf_status status;
    struct gwtf_stage_file file; /* STAGE */
    bool stop_requested;         /* LOOK */
    bool leave_requested;        /* LOOK, of node.node */
    struct gwtf_leave leave;
};

typedef struct gwtf_writer gwtf_writer;

/* Starts the thread. SETUP, MEMORY and BELL outlive it; BELL rings at each result. */
gwtf_status gwtf_writer_create(const struct gwtf_setup *setup, gwtf_memory *memory, gwtf_bell *bell,
                               gwtf_writer **writer);

/* Errors: GWTF_ERROR_LIMIT when too much waits for the disk; the job is not taken. Never waits. */
gwtf_status gwtf_writer_push(gwtf_writer *writer, const struct gwtf_writer_job *job);

/* False when there is no result. */
bool gwtf_writer_try_result(gwtf_writer *writer, struct gwtf_writer_result *result);

/* Lets the thread finish what is queued, and ends it. NULL is allowed. */
void gwtf_writer_destroy(gwtf_writer *writer);

#endif
