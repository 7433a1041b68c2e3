/*
 * A cluster in virtual time: one protocol per node, links with latency and bandwidth, compute that
 * takes time, and stand-ins for tensors that show whether every microbatch was trained once, in
 * order, on the right weights.
 *
 * Links. A message arrives after the link's latency; what is sent later over the same link never
 * arrives earlier. A tensor leaves when the one before it on the same directed link has left, takes
 * size / bandwidth, and is there a latency later. Where a node's uplink is limited, all its tensors
 * also go through that, one after the other.
 *
 * Nodes. One processor each, works in their order. Snapshots are written beside it.
 *
 * Losses. The simulator finds out from the first node that steps which of the lost data nodes'
 * microbatches are part of an iteration; the living ones' must be, and all other nodes must have
 * the same. With another recovery than EXACT, replicas must agree with each other alone.
 *
 * Tensors. A boundary tensor is 64 bits, mixed from the one before it, the stage and its weights; a
 * gradient is a sum of 64-bit numbers, one a microbatch; weights are mixed from the gradients that
 * they were stepped with. The simulator knows what they should be, and ends the run with a failure
 * when they are not, when memory is overwritten while it is sent, when a contract of
 * worker/protocol/protocol.h is broken, or when nothing gets on any more.
 *
 * The same configuration and seed give the same trace.
 */
#ifndef GWTF_WORKER_SIMULATION_SIMULATION_H
#define GWTF_WORKER_SIMULATION_SIMULATION_H

#include "share/base/status.h"
#include "share/base/types.h"
#include "worker/protocol/protocol.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GWTF_SIMULATION_WORKS (GWTF_WORK_CLEAR + 1)
#define GWTF_SIMULATION_RETAINED_NONE UINT32_MAX

typedef struct gwtf_simulation gwtf_simulation;

struct gwtf_simulation_node {
    gwtf_node_id node;
    uint32_t stage; /* 0: data node */
    bool is_free;   /* as in struct gwtf_member; RETURN takes the place */
    bool own_data;  /* is_free, data node: whoever takes the place has data of its own */
    uint32_t capacity;
    /* As in struct gwtf_protocol_config, but 0: all microbatches of an iteration; none: _NONE. */
    uint32_t retained;
    uint64_t gradient_floats;               /* the same in all nodes of a stage; a multiple of 16 */
    int64_t work_us[GWTF_SIMULATION_WORKS]; /* by enum gwtf_work_kind */
    int64_t uplink_bytes_per_second;        /* of all tensors that it sends; 0: no limit */
};

struct gwtf_simulation_link {
    int64_t latency_us;
    int64_t bytes_per_second; /* at least 1 */
};

/* What an observer is told, at the time at which it happens. */
enum gwtf_simulation_notice_kind {
    GWTF_SIMULATION_WORK_BEGINS, /* work; takes work_us */
    GWTF_SIMULATION_WORK_ENDED,  /* work, which took work_us */
    GWTF_SIMULATION_REPORTED,    /* report */
    GWTF_SIMULATION_CRASHED,
    GWTF_SIMULATION_LEFT /* as it was told to */
};
struct gwtf_simulation_notice {
    enum gwtf_simulation_notice_kind kind;
    gwtf_time_us now_us;
    uint32_t index; /* of the node among config.nodes */
    const struct gwtf_work *work;
    int64_t work_us;
    const struct gwtf_report *report;
};

struct gwtf_simulation_config {
    const struct gwtf_simulation_node *nodes; /* growing ids; copied */
    size_t nodes_count;
    uint32_t stages;
    /* The link between two nodes; called again and again, must give the same each time. */
    struct gwtf_simulation_link (*link)(const void *context, gwtf_node_id from, gwtf_node_id to);
    const void *link_context;

    /* As in struct gwtf_protocol_config. */
    uint32_t first_iteration;
    uint32_t last_iteration;
    uint32_t microbatches;
    bool batch_is_constant;
    uint32_t validation_microbatches; /* of each data node */
    bool validates;
    uint32_t validate_every;
    uint32_t snapshot_every;
    uint64_t boundary_bytes;
    enum gwtf_flow_policy policy;
    enum gwtf_flow_objective objective;
    uint32_t negotiation; /* as in struct gwtf_flow_config */
    enum gwtf_recovery recovery;
    uint64_t seed;

    int64_t write_us;    /* of a stage's snapshot file */
    int64_t manifest_us; /* of the manifest */

    /* Disorder. */
    int64_t jitter_us;  /* up to this is added to a message's latency */
    double work_jitter; /* a work takes up to this share more or less */
    double doubled;     /* chance that a message without payload comes twice */
    int64_t sent_us;    /* up to this passes until a node knows that a tensor has left */
    double resent; /* chance that a message is lost on its way: as TCP does it, it is sent again a
                    * fifth of a second later, and then after twice as long each time, and what was
                    * sent after it waits behind it */
    int64_t clock_offset_us; /* nodes' clocks begin at up to this */
    double clock_drift;      /* and are fast or slow by up to this share */

    uint32_t check_every; /* gwtf_protocol_check after each so many steps of a node; 0: never */
    int64_t return_us; /* a node that was taken for lost and ends for it comes back after so long;
                        * 0: never */
    int64_t stall_us;  /* a run has failed in which no work ends for so long; 0: no limit */

    /* May be NULL. It may inject faults, from now on. */
    void (*observe)(void *context, gwtf_simulation *simulation,
                    const struct gwtf_simulation_notice *notice);
    void *observe_context;
};

enum gwtf_simulation_fault_kind {
    GWTF_SIMULATION_STOP,    /* the user's wish, given to NODE */
    GWTF_SIMULATION_LEAVE,   /* NODE is told to leave */
    GWTF_SIMULATION_CRASH,   /* NODE is gone; the others notice after notice_us. What it has sent is
                              * lost from some moment on, another one for each receiver */
    GWTF_SIMULATION_SUSPECT, /* NODE lives, but BY hears nothing of it */
    GWTF_SIMULATION_HEAR,    /* after SUSPECT: BY hears NODE again */
    GWTF_SIMULATION_CUT,     /* nothing passes any more between NODE, with all that were cut off
                              * before it, and the others; each side notices after notice_us */
    GWTF_SIMULATION_RETURN,  /* a new process comes in the place of NODE, if that is gone */
    GWTF_SIMULATION_WRITE,   /* from now on NODE cannot write snapshots or manifests */
    GWTF_SIMULATION_STALL,   /* for pause_us half of the others get nothing of NODE */
    GWTF_SIMULATION_PAUSE /* so, and NODE stands still; each other node misses it after notice_us,
                           * if it still does */
};
struct gwtf_simulation_fault {
    enum gwtf_simulation_fault_kind kind;
    gwtf_time_us at_us;
    gwtf_node_id node;
    gwtf_node_id by;
    int64_t notice_us;
    int64_t spread_us; /* up to this much later, for each node another time */
    int64_t return_us; /* CRASH: after so long a new process comes in its place; 0: never */
    int64_t pause_us;  /* STALL, PAUSE */
};

struct gwtf_simulation_totals {
    gwtf_time_us now_us;
    uint64_t events;
    uint64_t messages;
    uint64_t tensors;
    uint64_t tensor_bytes;
    uint64_t microbatches_trained; /* by all nodes: backward passes */
    uint64_t refusals;
    uint64_t flow_messages;
    uint64_t reroutes;
    uint32_t iterations; /* reported */
    uint32_t snapshots;  /* manifests written */
    uint32_t finished;   /* nodes */
    uint32_t lost;       /* nodes: crashed, or declared down */
    uint32_t returned;   /* nodes that came back, and have their weights */
    uint32_t left;       /* nodes that were told to leave, and did */
    uint32_t stayed;     /* nodes that say that they stay although they were told to leave */
    uint64_t repaired;   /* microbatches that substitutes took over; of the reports */
    int64_t wasted_us;   /* of the reports */
    uint32_t restarts;   /* iterations begun anew */
    uint64_t trace;      /* hash over all that happened, in its order */
};

/* Errors: GWTF_ERROR_USAGE (config), GWTF_ERROR_MEMORY; SIMULATION untouched. */
gwtf_status gwtf_simulation_create(const struct gwtf_simulation_config *config,
                                   gwtf_simulation **simulation);
void gwtf_simulation_destroy(gwtf_simulation *simulation); /* NULL is allowed */

/* Errors: GWTF_ERROR_USAGE for an unknown node or a time that has gone by; GWTF_ERROR_MEMORY. */
gwtf_status gwtf_simulation_inject(gwtf_simulation *simulation,
                                   const struct gwtf_simulation_fault *fault);

/*
 * Runs until every living node has finished, or until UNTIL_US. Errors: GWTF_ERROR_RUN when a
 * promise was broken, see gwtf_simulation_failure; GWTF_ERROR_MEMORY.
 */
gwtf_status gwtf_simulation_run(gwtf_simulation *simulation, gwtf_time_us until_us);

/* One line: when, where and what was broken; NULL when nothing was. */
const char *gwtf_simulation_failure(const gwtf_simulation *simulation);

struct gwtf_simulation_totals gwtf_simulation_get_totals(const gwtf_simulation *simulation);

/* The reports so far, oldest first; theirs is the simulation's memory. */
const struct gwtf_report *gwtf_simulation_reports(const gwtf_simulation *simulation, size_t *count);

/* How NODE ended: true when it has finished, with its STATUS and CULPRIT (both may be NULL). */
bool gwtf_simulation_finished(const gwtf_simulation *simulation, gwtf_node_id node,
                              gwtf_status *status, gwtf_node_id *culprit);

/* Whether STAGE's weights have been written when another stage was gone, and of which ITERATION. */
bool gwtf_simulation_rest(const gwtf_simulation *simulation, uint32_t stage, uint32_t *iteration);

/* As NODE knows them; VIEWS has room for all nodes. */
void gwtf_simulation_get_members(const gwtf_simulation *simulation, gwtf_node_id node,
                                 struct gwtf_member_view *views);

struct gwtf_protocol_view gwtf_simulation_get_view(const gwtf_simulation *simulation,
                                                   gwtf_node_id node);

#endif
