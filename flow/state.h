/* The state of one node's flow algorithm, private to this folder (and to the tests of its
 * checker). Everything in it is allocated by gwtf_flow_create. */
#ifndef GWTF_FLOW_STATE_H
#define GWTF_FLOW_STATE_H

#include "flow/flow.h"
#include "flow/messages.h"
#include "share/base/random.h"

/* Messages that a connection keeps until they are acknowledged. The last half is for answers: a
 * peer has at most half a queue of requests under way, so that an answer always fits. */
#define FLOW_QUEUE_MAX 32u
#define FLOW_ASKS_MAX (FLOW_QUEUE_MAX / 2)

/* Ticks: how long a flow that lost its next hop looks for another before it is pushed back; how
 * long an outflow without inflow is kept; how often shared flows are compared. */
#define FLOW_REPAIR_TICKS 8
#define FLOW_IDLE_TICKS 16
#define FLOW_COMPARE_TICKS 256
/* How often outflows without inflow are given up before the node waits for news. */
#define FLOW_RELEASES_MAX 3

struct flow_offer {
    int64_t cost_us; /* FLOW_COST_NONE: none */
    uint32_t count;
};

/* What a peer and this node have told each other about one sink. */
struct flow_figures {
    struct flow_offer offer; /* the peer's */
    int64_t distance_us;     /* the peer's; FLOW_COST_NONE: no way */
    struct flow_offer told;  /* this node's, as the peer knows it */
    int64_t told_distance_us;
};

struct flow_peer {
    gwtf_node_id id; /* GWTF_NODE_NONE: entry is free */
    uint32_t stage;
    int64_t link_us; /* FLOW_COST_NONE: not measured, or cut */

    uint32_t session;      /* of this node */
    uint32_t peer_session; /* 0: not known yet */
    uint32_t next_sequence;
    uint32_t received; /* the last one in order */
    bool acknowledge;  /* a message waits for its acknowledgement */
    gwtf_time_us acknowledge_at_us;
    gwtf_time_us retry_at_us;
    uint32_t retries;
    uint32_t queue_first; /* its sequence */
    uint32_t queue_count;
    uint32_t queue_unsent; /* of them, the last ones */
    struct gwtf_flow_message queue[FLOW_QUEUE_MAX];
    uint32_t asks; /* requests without answer */

    gwtf_time_us compare_at_us;
    struct flow_figures *figures; /* [sinks_max] */
};

enum flow_role { FLOW_ROLE_RELAY, FLOW_ROLE_SOURCE, FLOW_ROLE_SINK };

enum flow_end_state {
    FLOW_END_NONE,
    FLOW_END_ASKED, /* out only: requested, no answer yet */
    FLOW_END_HELD,
    FLOW_END_CLOSING /* given up, the CANCEL does not fit the queue yet */
};

/* One side of a slot: the hop that it shares with a neighbour. */
struct flow_end {
    enum flow_end_state state;
    gwtf_node_id peer;
    gwtf_flow_id id; /* chosen by the sending side */
    bool verify_due;
};

/*
 * A unit of capacity: what comes in goes out. `in` of a source and `out` of a sink stay NONE. A
 * slot counts as reserved while an end is asked or held; there are twice as many slots as capacity,
 * so that those that are closing do not keep others waiting.
 */
struct flow_slot {
    enum flow_role role;
    uint32_t sink; /* index of sinks[] */
    struct flow_end in;
    struct flow_end out;
    int64_t link_us; /* of the hop out, as it was when asked or when last measured */
    int64_t rest_us; /* from the next hop to the sink */
    bool cost_due;   /* the previous hop does not know the cost yet */
    /* Without inflow: when the outflow is given up. Without outflow: when it is pushed back. */
    gwtf_time_us patience_at_us;
};

struct gwtf_flow {
    struct gwtf_flow_config config;
    struct gwtf_random random;
    gwtf_time_us now_us;
    bool started;
    uint32_t capacity;
    uint32_t releases_left;
    gwtf_time_us ask_from_us; /* no new outflows before */
    bool saw_offers;
    bool routes_changed;
    uint32_t sessions;
    uint32_t ids;

    size_t peers_count; /* entries used at some time; some of them may be free */
    struct flow_peer *peers;
    size_t sinks_count;
    gwtf_node_id *sinks;
    size_t slots_count;
    struct flow_slot *slots;
};

#endif
