/*
 * A run's directory: config.cfg (as resolved), metrics.jsonl (one line an iteration), events.jsonl,
 * nodes/ (a small state file each), snapshots/, and requests/ (a file asks for something:
 * requests/stop, requests/leave-3). Lines are appended whole by one write, files are replaced by
 * rename, so that readers never see halves.
 */
#ifndef GWTF_IO_RUN_H
#define GWTF_IO_RUN_H

#include "share/base/status.h"
#include "share/base/types.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GWTF_RUN_PATH_MAX 1100
#define GWTF_RUN_STAGES_MAX 256

/* Makes DIRECTORY and what belongs in it. Errors: GWTF_ERROR_IO with the line for the user. */
gwtf_status gwtf_run_create(const char *directory, struct gwtf_error *error);

/* True when DIRECTORY holds a run (config.cfg and metrics or events). */
bool gwtf_run_exists(const char *directory);

/* Writes config.cfg by rename. */
gwtf_status gwtf_run_write_config(const char *directory, const char *text,
                                  struct gwtf_error *error);

/* The keys of a metrics line, in this order. A real that is not finite is left out, and read back
 * as NAN; of the array it is null. */
struct gwtf_metrics {
    uint64_t iteration;
    double loss;            /* nats per token, mean over the global batch, before the step */
    double validation_loss; /* nats per token after the step; NAN: not measured, key left out */
    uint64_t tokens;        /* in this iteration */
    double seconds;         /* of this iteration, without validation */
    double tokens_per_second;
    uint32_t microbatches;
    uint32_t nodes;  /* alive */
    uint32_t stages; /* length of stage_utilisation; no key of its own */
    /* index 0: stage 1; busy share of the iteration, 0..1 */
    double stage_utilisation[GWTF_RUN_STAGES_MAX];
    uint32_t joined;
    uint32_t lost;
    uint32_t repaired;
    double wasted_seconds;
    double gradient_norm; /* before clipping */
    double learning_rate;
};

/* Appends one line to metrics.jsonl, on a line of its own even when the last one was cut; nothing
 * when the last one is of this iteration or a later one: who takes the place of a lost recorder
 * cannot know whether that one came to write its last. Errors: GWTF_ERROR_IO, GWTF_ERROR_MEMORY. */
gwtf_status gwtf_run_append_metrics(const char *directory, const struct gwtf_metrics *metrics,
                                    struct gwtf_error *error);

/*
 * A resumed run goes on after iteration LAST: lines of metrics.jsonl beyond it, and a cut last
 * line, are removed (file replaced by rename).
 */
gwtf_status gwtf_run_truncate_metrics(const char *directory, uint64_t last,
                                      struct gwtf_error *error);

/* Appends {"time": UTC, "event": KIND, ...}; NODE GWTF_NODE_NONE and TEXT NULL are left out. */
gwtf_status gwtf_run_append_event(const char *directory, const char *kind, uint64_t iteration,
                                  gwtf_node_id node, const char *text, struct gwtf_error *error);

/* Flows of a node go another way since a link has got dearer or cheaper. */
struct gwtf_rerouted {
    gwtf_node_id node;
    gwtf_node_id from; /* lost flows; GWTF_NODE_NONE: nobody */
    gwtf_node_id to;   /* won them; GWTF_NODE_NONE: nobody here */
    gwtf_node_id link; /* FROM or TO: whose link's cost has changed */
    int64_t old_cost_us;
    int64_t new_cost_us;
};

/* Appends the event "rerouted" with "node", "from", "to", "link", "old_cost_ms", "new_cost_ms" and
 * a "text" that says it. */
gwtf_status gwtf_run_append_rerouted(const char *directory, uint64_t iteration,
                                     const struct gwtf_rerouted *rerouted,
                                     struct gwtf_error *error);

enum gwtf_node_phase {
    GWTF_NODE_STARTING,
    GWTF_NODE_TRAINING,
    GWTF_NODE_FINISHED,
    GWTF_NODE_FAILED,
    GWTF_NODE_LEAVING, /* trains, and has been told to leave */
    GWTF_NODE_LEFT     /* the others go on without it */
};

/* nodes/node-0003.json */
struct gwtf_node_state {
    gwtf_node_id node;
    uint32_t stage; /* 0: data node */
    enum gwtf_node_phase phase;
    int64_t pid;
    char host[256];
    uint64_t iteration; /* last finished */
    uint32_t capacity;
    bool on_gpu;
    uint32_t gpu;       /* of those that its process sees, and */
    char gpu_name[128]; /* what it is */
    /* of the stage's weights after hash_iteration; written as 16 hex digits */
    uint64_t weights_hash;
    uint64_t hash_iteration;         /* 0: no hash yet */
    uint64_t updated_unix_us;        /* filled by gwtf_run_write_node */
    char waits[128];                 /* for what: "iteration 7: the norms of stages 2" */
    gwtf_status status;              /* phase FAILED: which loss it was */
    char error[GWTF_ERROR_TEXT_MAX]; /* phase FAILED: why */
};

/* "starting", "training", "finished", "failed", "leaving", "left": also the words of the file. */
const char *gwtf_node_phase_name(enum gwtf_node_phase phase);

/* Nothing more comes of it: finished, failed or left. */
bool gwtf_node_has_ended(const struct gwtf_node_state *state);

/* Replaces nodes/node-NNNN.json, with the time of now in it. Errors: GWTF_ERROR_IO. */
gwtf_status gwtf_run_write_node(const char *directory, const struct gwtf_node_state *state,
                                struct gwtf_error *error);

/*
 * All node states in the order of ids; *NODES is the caller's to free. Unreadable files are
 * skipped. Errors: GWTF_ERROR_MISSING when there is no such run.
 */
gwtf_status gwtf_run_read_nodes(const char *directory, struct gwtf_node_state **nodes,
                                size_t *nodes_count, struct gwtf_error *error);

/* Removes the state files of a former start. Errors: GWTF_ERROR_IO. */
gwtf_status gwtf_run_clear_nodes(const char *directory, struct gwtf_error *error);

/*
 * Reads whole lines of metrics.jsonl from *OFFSET on and moves *OFFSET behind them: call it again
 * for what is new. VISIT gets each line as parsed. A line that does not parse is skipped. No file
 * yet is no error.
 */
gwtf_status gwtf_run_read_metrics(const char *directory, uint64_t *offset,
                                  void (*visit)(void *context, const struct gwtf_metrics *),
                                  void *context, struct gwtf_error *error);

/* The same for events.jsonl. Strings live during the call. */
struct gwtf_run_event {
    const char *time;
    const char *kind;
    uint64_t iteration;
    gwtf_node_id node;
    const char *text; /* "" when there is none */
};
gwtf_status gwtf_run_read_events(const char *directory, uint64_t *offset,
                                 void (*visit)(void *context, const struct gwtf_run_event *),
                                 void *context, struct gwtf_error *error);

/* requests/NAME: made, looked for, taken away. NAME is a plain file name. */
gwtf_status gwtf_run_request(const char *directory, const char *name, struct gwtf_error *error);
bool gwtf_run_requested(const char *directory, const char *name);
void gwtf_run_clear_request(const char *directory, const char *name);

struct gwtf_leave {
    double notice_s; /* it goes then, whether it may or not */
    uint32_t stage;  /* that it moves to; 0: it leaves for good */
};

/* NODE is asked to leave; and whether it is. */
gwtf_status gwtf_run_request_leave(const char *directory, gwtf_node_id node,
                                   const struct gwtf_leave *leave, struct gwtf_error *error);
bool gwtf_run_leave_requested(const char *directory, gwtf_node_id node, struct gwtf_leave *leave);
void gwtf_run_clear_leave(const char *directory, gwtf_node_id node);

/*
 * One process trains a run: an advisory lock on DIRECTORY/lock, held by this process until it ends
 * or gwtf_run_unlock; a program that it becomes by exec does not hold it, a child by fork does.
 * Errors: GWTF_ERROR_USAGE with a line that says who holds it, GWTF_ERROR_IO.
 */
gwtf_status gwtf_run_lock(const char *directory, int *lock, struct gwtf_error *error);
void gwtf_run_unlock(int lock);

#endif
