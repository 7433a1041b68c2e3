/*
 * The flow algorithm of one node: pure, deterministic, neighbour-local.
 *
 * A flow is a path data node -> one relay of each stage 1..S -> the same data node. Flows are built
 * from the sink back: a relay with free capacity asks the neighbour in the next stage with the
 * least (link cost + advertised cost to the sink) to take its flow ("request flow", Blagoev et al.,
 * section 4); the asked node accepts, or rejects with its current cost when its cost has changed or
 * it is full. A flow is complete when the data node's own request has been accepted in stage 1; it
 * then is a route.
 *
 * No MPI, clock, thread, file, log or allocation after create. Time comes with each event; ties
 * break by node id. Costs are integer microseconds.
 */
#ifndef GWTF_FLOW_FLOW_H
#define GWTF_FLOW_FLOW_H

#include "share/base/status.h"
#include "share/base/types.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum gwtf_flow_policy { GWTF_FLOW_POLICY_GWTF_PAPER };
enum gwtf_flow_objective { GWTF_FLOW_OBJECTIVE_SUM, GWTF_FLOW_OBJECTIVE_MAX };

struct gwtf_flow_config {
    enum gwtf_flow_policy policy;
    enum gwtf_flow_objective objective;
    gwtf_node_id self;
    uint32_t stage;    /* 0: data node */
    uint32_t stages;   /* S */
    uint32_t capacity; /* flows at one time, at least 1 */
    uint32_t neighbours_max;
    uint64_t seed;
};

enum gwtf_flow_event_kind {
    GWTF_FLOW_EVENT_START,   /* once, first */
    GWTF_FLOW_EVENT_PEER_UP, /* peer, stage: a node of the previous, same or next stage has been met
                              */
    GWTF_FLOW_EVENT_PEER_DOWN, /* peer: gone; its flows are repaired */
    GWTF_FLOW_EVENT_LINK_COST, /* peer, cost_us: measured d(self, peer), first and whenever it moved
                                  notably */
    GWTF_FLOW_EVENT_CAPACITY,  /* capacity: of this node, from now on */
    GWTF_FLOW_EVENT_MESSAGE,   /* peer, message */
    GWTF_FLOW_EVENT_TIMER      /* the deadline of the last update has come */
};

/* Meaning of the fields by kind: see flow/messages.h, private to this folder. Plain bytes between
 * nodes of one build. */
struct gwtf_flow_message {
    uint16_t kind;
    uint16_t reason;
    uint32_t stage;
    gwtf_node_id sink;
    uint32_t sequence;
    gwtf_flow_id flow;
    int64_t cost_us;
    int64_t link_us;
};

struct gwtf_flow_event {
    enum gwtf_flow_event_kind kind;
    gwtf_time_us now_us;
    gwtf_node_id peer;
    uint32_t stage;
    uint32_t capacity;
    int64_t cost_us;
    struct gwtf_flow_message message;
};

struct gwtf_flow_send {
    gwtf_node_id to;
    struct gwtf_flow_message message;
};

/* What a step asks for. The arrays are the caller's; see gwtf_flow_sends_max. */
struct gwtf_flow_update {
    struct gwtf_flow_send *sends;
    size_t sends_count;
    size_t sends_max;
    gwtf_time_us deadline_us; /* when to send GWTF_FLOW_EVENT_TIMER next; GWTF_TIME_NEVER */
    bool routes_changed;      /* the flow table changed: routes or next hops are new or gone */
};

typedef struct gwtf_flow gwtf_flow;

/* Errors: GWTF_ERROR_USAGE (config), GWTF_ERROR_MEMORY; FLOW untouched. */
gwtf_status gwtf_flow_create(const struct gwtf_flow_config *config, gwtf_flow **flow);
void gwtf_flow_destroy(gwtf_flow *flow);

/* The most sends that one step can ask for with this configuration. */
size_t gwtf_flow_sends_max(const struct gwtf_flow_config *config);

/*
 * One event. UPDATE is overwritten. Messages from unknown peers, late, twice or out of order are
 * answered or dropped, never asserted on. Errors: GWTF_ERROR_LIMIT when a peer does not fit
 * neighbours_max (the peer is ignored).
 */
gwtf_status gwtf_flow_step(gwtf_flow *flow, const struct gwtf_flow_event *event,
                           struct gwtf_flow_update *update);

/* A complete flow of a data node, in the order of growing cost. */
struct gwtf_flow_route {
    gwtf_flow_id flow;
    gwtf_node_id next; /* relay of stage 1 */
    int64_t cost_us;   /* of the whole path */
};

/* Data node: copies at most ROUTES_MAX routes, returns how many there are. */
size_t gwtf_flow_routes(const gwtf_flow *flow, struct gwtf_flow_route *routes, size_t routes_max);

/* Relay: the next hop of FLOW, GWTF_NODE_NONE when this node has no such flow. */
gwtf_node_id gwtf_flow_next(const gwtf_flow *flow, gwtf_flow_id flow_id);

/*
 * The next stage's nodes for SINK in the order of (link cost + advertised cost), for a microbatch
 * whose own next hop is gone or has refused; after the last relay stage that is SINK alone. Copies
 * at most HOPS_MAX, returns how many there are.
 */
size_t gwtf_flow_alternatives(const gwtf_flow *flow, gwtf_node_id sink, gwtf_node_id *hops,
                              size_t hops_max);

/* Capacity and what is used of it; complete: flows with both neighbours. */
struct gwtf_flow_load {
    uint32_t capacity;
    uint32_t reserved;
    uint32_t complete;
};
struct gwtf_flow_load gwtf_flow_get_load(const gwtf_flow *flow);

/* The whole-state checker: true when every invariant holds; else false and a constant text in WHY
 * (may be NULL). */
bool gwtf_flow_check(const gwtf_flow *flow, const char **why);

#endif
