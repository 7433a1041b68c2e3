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
 * Policy gwtf builds from the source instead, along the cheapest way that has room, and then
 * cancels negative cycles of the residual graph, which neighbours find by potentials
 * (flow/potential.h, flow/cycle.h). With one data node it settles at the maximum flow of least
 * cost, exactly; with several, at one that no change of a single data node's flows can better.
 *
 * A flow id names one hop: the sender chose it when it asked the receiver, and a relay knows under
 * which id the flow goes on. So the tail of a flow can be exchanged without telling its head.
 *
 * Messages may be lost, doubled, delayed and reordered: each pair of nodes numbers and acknowledges
 * them. Nothing is sent when nothing changes but a rare comparison of shared flows.
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

/* Named by gwtf_flow_policy_words. */
enum gwtf_flow_policy {
    /* Residual cycles: see above. */
    GWTF_FLOW_POLICY_GWTF,
    /* Request flow, change, redirect with annealing, and repair, as in the paper: for comparison.
     * Ends in local optima. See flow/paper.h. */
    GWTF_FLOW_POLICY_GWTF_PAPER,
    /* Baselines. Next hops are chosen per microbatch, by each sender for itself: as SWARM's
     * released code does (flow/swarm.c), and as GWTF's authors model SWARM: the nearest node that
     * does not refuse (flow/swarm_greedy.c). */
    GWTF_FLOW_POLICY_SWARM,
    GWTF_FLOW_POLICY_SWARM_GREEDY,
    /* Baseline: as DT-FM, flows are assigned once by the driver, GWTF_FLOW_EVENT_ASSIGN, and never
     * move (flow/static.c). */
    GWTF_FLOW_POLICY_STATIC,
    GWTF_FLOW_POLICIES
};
/* In the order of the enum, NULL at the end: as users write them. */
extern const char *const gwtf_flow_policy_words[];
/* When a relay is lost during the backward pass of a microbatch: is the whole pipeline run again,
 * from the data node? Else the lost stage alone, from the input that the hop before has kept. */
bool gwtf_flow_repeats_pipeline(enum gwtf_flow_policy policy);
/* Are the nodes of a relay's own stage of use? */
bool gwtf_flow_meets_replicas(enum gwtf_flow_policy policy);
/* Is GWTF_FLOW_EVENT_FEEDBACK of use? */
bool gwtf_flow_wants_feedback(enum gwtf_flow_policy policy);

enum gwtf_flow_objective { GWTF_FLOW_OBJECTIVE_SUM, GWTF_FLOW_OBJECTIVE_MAX };

#define GWTF_FLOW_NO_NEGOTIATION UINT32_MAX
/* Fields with a default take it where they are 0. */
struct gwtf_flow_config {
    enum gwtf_flow_policy policy;
    enum gwtf_flow_objective objective;
    /* Policy gwtf with several data nodes negotiates for so many sweeps, half a tick each, before
     * flows are what they can be (flow/plan.h); default 300, and none when a data node has a
     * capacity above 200; GWTF_FLOW_NO_NEGOTIATION: none. */
    uint32_t negotiation;
    /* For policies that choose per microbatch: flows are reserved all the same, hop by hop, so that
     * the flow problem as such gets an answer. A relay that is asked takes the flow when it has
     * room, and asks the first in its own queue; who is full, or finds nobody, refuses, and the
     * next is asked. */
    bool reserve;
    gwtf_node_id self;
    /* 0: data node. */
    uint32_t stage;
    /* S, at least 1. */
    uint32_t stages;
    /* Flows at one time, at least 1. A data node's counts flows as source, and as many as sink. */
    uint32_t capacity;
    /* The most that GWTF_FLOW_EVENT_CAPACITY may say; default: capacity. */
    uint32_t capacity_max;
    /* Nodes of a neighbouring stage that are known at one time, the ones with the best links;
     * default 32. A data node knows as many as it has capacity, if that is more; all data nodes are
     * known. Policies that need everybody (those for comparison) do without. */
    uint32_t view;
    /* Nodes of the previous and the next stage that are known at one time, in any case; default:
     * what the views need. */
    uint32_t neighbours_max;
    /* Data nodes in the run; default 16. Others are ignored. */
    uint32_t sinks_max;
    /* How often a node looks for something to improve; default 200 ms, less where
     * GWTF_FLOW_EVENT_ROUND_TRIP says so. */
    int64_t tick_us;
    /* When a message without answer is sent again: above a round trip; default one tick and a
     * half. */
    int64_t retry_us;
    uint64_t seed;
};

enum gwtf_flow_event_kind {
    /* Once, first. */
    GWTF_FLOW_EVENT_START,
    /* peer, stage: a node of the previous, same or next stage can be reached. After PEER_DOWN: can
     * be reached again, nothing of before is remembered. */
    GWTF_FLOW_EVENT_PEER_UP,
    /* peer: gone; its flows are repaired. */
    GWTF_FLOW_EVENT_PEER_DOWN,
    /* peer, cost_us: measured d(self, peer), first and whenever it moved notably. A hop costs what
     * its sender measured; without a cost a link is not used. Negative: the link is cut. */
    GWTF_FLOW_EVENT_LINK_COST,
    /* cost_us: the longest round trip to a peer. What waits for messages waits as long as they
     * take; nothing comes of it where tick_us was configured. */
    GWTF_FLOW_EVENT_ROUND_TRIP,
    /* capacity: of this node, from now on; 0..capacity_max. Flows above it are given up. */
    GWTF_FLOW_EVENT_CAPACITY,
    /* peer, feedback, cost_us: what has become of a microbatch that this node sent to PEER. Other
     * policies than swarm and swarm-greedy ignore it. */
    GWTF_FLOW_EVENT_FEEDBACK,
    /* Policy static: flow, sink, peer (the previous hop), next, cost_us (from the next hop to the
     * sink). A source has no previous hop, a sink no next one: GWTF_NODE_NONE; a data node is told
     * of each of its flows twice. FLOW is the same at all hops, and unique. The hop is held from
     * when both neighbours are there until one of them is lost. SINK GWTF_NODE_NONE: all that was
     * assigned here is given up, to be assigned anew under other ids. */
    GWTF_FLOW_EVENT_ASSIGN,
    /* peer, message. */
    GWTF_FLOW_EVENT_MESSAGE,
    /* The deadline of the last update has come. Earlier or later does no harm. */
    GWTF_FLOW_EVENT_TIMER
};

enum gwtf_flow_feedback {
    /* The microbatch is on its way: the next one goes to whom is first now. */
    GWTF_FLOW_FEEDBACK_SENT,
    /* PEER has done its part, cost_us after SENT. */
    GWTF_FLOW_FEEDBACK_DONE,
    /* PEER has no room. */
    GWTF_FLOW_FEEDBACK_REFUSED,
    /* PEER has erred: it is not used until another GWTF_FLOW_EVENT_PEER_UP announces it. */
    GWTF_FLOW_FEEDBACK_FAILED
};

/* Meaning of the fields by kind: see flow/messages.h, private to this folder. Plain bytes between
 * nodes of one build. */
struct gwtf_flow_message {
    uint32_t kind;
    uint32_t count;
    /* Connection: the sender's number of it, the receiver's as far as the sender knows, the number
     * of this message (0: nothing to acknowledge), the last one received in order; of those after
     * it bit i says that acknowledged + 2 + i has come too. */
    uint32_t session;
    uint32_t peer_session;
    uint32_t sequence;
    uint32_t acknowledged;
    uint32_t acknowledged_mask;
    gwtf_node_id sink;
    /* No padding: the bytes are the same again in the same run. */
    union {
        struct {
            gwtf_flow_id flow;
            uint64_t token;
            int64_t cost_us;
            int64_t other_cost_us;
            uint32_t limit;
            uint32_t unused; /* 0 */
        };
        gwtf_node_id nodes[10];
    };
};

struct gwtf_flow_event {
    enum gwtf_flow_event_kind kind;
    gwtf_time_us now_us;
    gwtf_node_id peer;
    uint32_t stage;
    uint32_t capacity;
    int64_t cost_us;
    enum gwtf_flow_feedback feedback;
    gwtf_flow_id flow;
    gwtf_node_id sink;
    gwtf_node_id next;
    struct gwtf_flow_message message;
};

struct gwtf_flow_send {
    gwtf_node_id to;
    struct gwtf_flow_message message;
};

/* A node that this one has heard of and would like to know. */
struct gwtf_flow_introduction {
    gwtf_node_id node;
    uint32_t stage;
};

/* What a step asks for. The arrays are the caller's; see gwtf_flow_sends_max. */
struct gwtf_flow_update {
    struct gwtf_flow_send *sends;
    size_t sends_count;
    size_t sends_max;
    /* The driver measures the link to each of these and then gives PEER_UP and LINK_COST to both
     * sides. Without such an array (introductions_max 0) nodes do not speak of others. */
    struct gwtf_flow_introduction *introductions;
    size_t introductions_count;
    size_t introductions_max;
    gwtf_time_us deadline_us; /* when to send GWTF_FLOW_EVENT_TIMER next; GWTF_TIME_NEVER */
    bool routes_changed;      /* the flow table changed: routes or next hops are new or gone */
};

typedef struct gwtf_flow gwtf_flow;

/* Errors: GWTF_ERROR_USAGE (config), GWTF_ERROR_MEMORY; FLOW untouched. */
gwtf_status gwtf_flow_create(const struct gwtf_flow_config *config, gwtf_flow **flow);
void gwtf_flow_destroy(gwtf_flow *flow); /* NULL is allowed */

/* The most sends that one step can ask for with this configuration. A smaller array does no harm
 * but delay: what does not fit is sent by the next step, which the deadline asks for at once. */
size_t gwtf_flow_sends_max(const struct gwtf_flow_config *config);

/*
 * One event. UPDATE is overwritten, but for its arrays and their sizes, which are the caller's.
 * Messages from unknown peers, late, twice or out of order are answered or dropped, never asserted
 * on. Errors, after which nothing but the named thing is ignored: GWTF_ERROR_LIMIT when a peer does
 * not fit neighbours_max, or a capacity capacity_max; GWTF_ERROR_USAGE for a peer that is this node
 * itself, unknown, or of no neighbouring stage.
 */
gwtf_status gwtf_flow_step(gwtf_flow *flow, const struct gwtf_flow_event *event,
                           struct gwtf_flow_update *update);

/* A complete flow of a data node. */
struct gwtf_flow_route {
    gwtf_flow_id flow; /* of the first hop */
    gwtf_node_id next; /* relay of stage 1 */
    int64_t cost_us;   /* of the whole path; INT64_MAX: not known yet */
};

/*
 * Data node: copies at most ROUTES_MAX routes in the order of growing cost, returns how many there
 * are. A policy that chooses per microbatch has as many as the capacity; NEXT is the first in the
 * queue at this moment, and COST_US that of the hop alone.
 */
size_t gwtf_flow_routes(const gwtf_flow *flow, struct gwtf_flow_route *routes, size_t routes_max);

/*
 * Relay: the next hop of the flow that arrives under FLOW_ID, GWTF_NODE_NONE when this node has no
 * such flow or the flow is being repaired. A policy that chooses per microbatch says who is first
 * in the queue; after the last relay stage that is the sink, and GWTF_NODE_NONE. NEXT_ID (may be
 * NULL): the id under which the next hop knows it; untouched with GWTF_NODE_NONE.
 */
gwtf_node_id gwtf_flow_next(const gwtf_flow *flow, gwtf_flow_id flow_id, gwtf_flow_id *next_id);

/*
 * The next stage's nodes for SINK, for a microbatch whose own next hop is gone or has refused:
 * first those that have said that they have room, then the others, each in the order of (link cost
 * + advertised cost); baselines: in the order of their queue, static: of link cost. After the last
 * relay stage that is SINK alone. Copies at most HOPS_MAX, returns how many there are.
 */
size_t gwtf_flow_alternatives(const gwtf_flow *flow, gwtf_node_id sink, gwtf_node_id *hops,
                              size_t hops_max);

/* Capacity and what is used of it; complete: flows with both neighbours. Data node: as source. */
struct gwtf_flow_load {
    uint32_t capacity;
    uint32_t reserved;
    uint32_t complete;
};
struct gwtf_flow_load gwtf_flow_get_load(const gwtf_flow *flow);

/* Flows are being negotiated: the flow table may change though it has not for a while. */
bool gwtf_flow_is_busy(const gwtf_flow *flow);

/* One hop of the flow table, for reports and checkers. */
struct gwtf_flow_hop {
    gwtf_node_id sink;
    gwtf_node_id from; /* GWTF_NODE_NONE: none yet, or this data node is the source */
    gwtf_flow_id from_id;
    gwtf_node_id to; /* GWTF_NODE_NONE: none yet, or this data node is the sink */
    gwtf_flow_id to_id;
    int64_t link_us; /* of the hop to TO */
};

/* Copies at most HOPS_MAX hops, returns how many are held: for a data node as source, then as sink.
 */
size_t gwtf_flow_hops(const gwtf_flow *flow, struct gwtf_flow_hop *hops, size_t hops_max);

/* The whole-state checker: true when every invariant holds; else false and a constant text in WHY
 * (may be NULL). */
bool gwtf_flow_check(const gwtf_flow *flow, const char **why);

#endif
