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
/* No entry of the pool of messages; no place in a table. */
#define FLOW_INDEX_NONE UINT32_MAX

/* Ticks: how often shared flows are compared. */
#define FLOW_COMPARE_TICKS 256
/* How often outflows without inflow are given up before the node waits for news. */
#define FLOW_RELEASES_MAX 3
/* Policy gwtf: how long a search may keep capacity locked. Searches that a node takes part in at
 * one time. */
#define FLOW_LOCK_TICKS 4
#define FLOW_VISITS_MAX 16
/* Policy gwtf: what is known of flows to be mended at one time. */
#define FLOW_HINTS_MAX 64
#define FLOW_HOPS_ALL 65536u
/* What one more flow is worth: above the cost of any way. */
#define FLOW_WORTH_US ((int64_t)1 << 40)

/* What is to be looked at again. */
enum flow_stir {
    FLOW_STIR_SLOTS = 1,      /* flows of this node: repair, requests, what is told of them */
    FLOW_STIR_OFFERS = 2,     /* those of next hops */
    FLOW_STIR_POTENTIALS = 4, /* what lowers them */
    FLOW_STIR_PLAN = 8,
    FLOW_STIR_ALL = 15
};

struct flow_policy;
struct flow_view; /* flow/view.c */
struct flow_plan;

/* The nodes that a potential has passed, each as one bit in both words: that a node is among them
 * may be an error, that it is not is none. */
struct flow_trail {
    uint64_t words[2];
    uint32_t hops;         /* how many they are; FLOW_HOPS_ALL: it goes to all */
    gwtf_time_us since_us; /* when it was heard here */
};

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
    /* Policy gwtf; FLOW_COST_NONE: nothing said yet. */
    int64_t potential_down_us;    /* the peer's, at this node's inner half */
    int64_t potential_up_us;      /* of the peer's inner half, which may have fallen since */
    struct flow_trail trail_down; /* that they have come */
    struct flow_trail trail_up;
    int64_t told_down_us;
    int64_t told_up_us;
};

/* The ways to a sink over all next hops, and what all previous hops have been told of them. */
struct flow_way {
    bool known;         /* the next two are up to date */
    bool told;          /* the last two are */
    int64_t offered_us; /* least link + offer, FLOW_COST_NONE: none */
    int64_t distance_us;
    struct flow_offer told_offer;
    int64_t told_distance_us;
};

/* An entry of the pool of messages, which all connections share. */
struct flow_queued {
    struct gwtf_flow_message message;
    gwtf_time_us sent_us; /* GWTF_TIME_NEVER: to be sent, for the first time or again */
    uint32_t next;
    uint16_t sends;
    bool arrived; /* the peer has it, out of order */
};

struct flow_pool {
    struct flow_queued *entries;
    uint32_t count, left;
    uint32_t free; /* the first one; FLOW_INDEX_NONE */
    bool wanted;   /* since the last advance somebody found no room */
};

struct flow_peer {
    gwtf_node_id id; /* GWTF_NODE_NONE: entry is free */
    uint32_t next_free;
    uint32_t stage;
    int64_t link_us; /* FLOW_COST_NONE: not measured, or cut */

    uint32_t session;      /* of this node */
    uint32_t peer_session; /* 0: not known yet */
    uint32_t next_sequence;
    uint32_t received;      /* the last one in order */
    uint32_t received_mask; /* bit i: received + 2 + i is here too, in `early` */
    uint32_t told_received; /* as the peer was told last */
    bool acknowledge;       /* a message waits for its acknowledgement */
    gwtf_time_us acknowledge_at_us;
    gwtf_time_us retry_at_us; /* GWTF_TIME_NEVER: nothing waits for an acknowledgement */
    uint32_t retries;
    uint32_t round_trip_us; /* average and mean deviation; 0: none measured yet */
    uint32_t deviation_us;
    uint32_t queue_first; /* its sequence */
    uint32_t queue_count;
    uint32_t queue_due;         /* of them, those to be sent as soon as they fit an update */
    uint32_t queue, queue_last; /* in the pool, in their order; FLOW_INDEX_NONE */
    uint32_t early;             /* in the pool: what has come out of order, in its order */
    struct flow_pool *pool;     /* the node's */
    uint32_t heap_at;           /* in flow->heap */
    gwtf_time_us due_us;        /* when flow_link_emit has something to do for it */
    uint32_t asks;              /* requests without answer */

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
    bool whole; /* given up, and so is the rest of the flow */
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
    bool answer_due; /* the previous hop waits for an answer until the next hop has given one */
    bool cost_due;   /* the previous hop does not know the cost yet */
    /* Without inflow: when the outflow is given up. Without outflow: when it is pushed back. */
    gwtf_time_us patience_at_us;
    /* Kept for a search: unused capacity, the inflow, the outflow. */
    bool held;
    bool in_locked;
    bool out_locked;
    bool planned; /* made by a plan, flow/plan.h */
    /* flow/mend.h: a neighbour was lost, and a way around it is looked for until then; the request
     * for it, here or by the previous hop. */
    gwtf_time_us mend_until_us;
    bool mends;
    /* flow/balance.h: the cost from the source to here under the id before_id, and what the next
     * hop was told under told_id. */
    gwtf_flow_id before_id;
    int64_t before_us;
    gwtf_flow_id told_id;
    int64_t told_us;
};

/* The arc by which a vertex of the residual graph got its potential. */
enum flow_arc {
    FLOW_ARC_NONE,
    FLOW_ARC_INSIDE, /* in to out over unused capacity, or out to in over used */
    FLOW_ARC_MORE,   /* one more flow from PEER */
    FLOW_ARC_LESS    /* one less to PEER */
};
struct flow_vertex {
    int64_t value_us; /* 0 at first, never rises */
    enum flow_arc arc;
    gwtf_node_id peer;
    struct flow_trail trail; /* that the value has come */
};
struct flow_potential {
    struct flow_vertex in, out;
    bool looped;                   /* a value seems to have come from here; no scan since */
    bool stirred;                  /* a peer has told another one since it was relaxed */
    gwtf_time_us search_from_us;   /* no scan before */
    gwtf_time_us begin_from_us;    /* no search before */
    uint32_t failures;             /* of searches from here, since the last success */
    gwtf_time_us begin_at_us;      /* a search without a scan: there is a cycle here */
    gwtf_time_us scanned_until_us; /* a scan has passed: no other before */
};

enum flow_visit_kind {
    FLOW_VISIT_NONE,
    FLOW_VISIT_OPEN,     /* the search began here: what it does here shows when it comes back */
    FLOW_VISIT_NEW,      /* unused capacity is used */
    FLOW_VISIT_MOVE_IN,  /* a flow comes from another node */
    FLOW_VISIT_MOVE_OUT, /* a flow goes to another node */
    FLOW_VISIT_REMOVE    /* capacity is freed */
};
/* A search's passage through this node. */
struct flow_visit {
    enum flow_visit_kind kind;
    bool first;     /* the search began here */
    bool committed; /* first only */
    uint64_t token;
    uint32_t sink;
    gwtf_node_id successor;   /* on the cycle: who sent the search here */
    gwtf_node_id predecessor; /* on the cycle: where the search went on */
    struct flow_slot *in;     /* whose inflow changes, or NULL */
    struct flow_slot *out;    /* whose outflow changes, or NULL */
    gwtf_flow_id in_id;       /* the inflow that goes, or GWTF_FLOW_NONE */
    gwtf_flow_id out_id;
    gwtf_time_us until_us;
};

/* What a neighbour has said of flows to be mended: flow/mend.h. */
struct flow_hint {
    gwtf_node_id peer;
    uint32_t kind; /* of message */
    uint32_t sink;
    uint32_t count;
    int64_t cost_us; /* of a head: that of the way that it was offered */
    gwtf_time_us until_us;
};

struct gwtf_flow {
    struct gwtf_flow_config config;
    bool keeps_pace; /* its tick_us and retry_us follow the round trips */
    const struct flow_policy *policy;
    void *own; /* the policy's */
    struct gwtf_random random;
    gwtf_time_us now_us;
    bool started;
    /* What has happened that the policy may have to act on, as bits of flow_stir: since it did the
     * last time, and for this time. Without any it waits for its deadline. */
    unsigned stirred, stirs;
    gwtf_time_us advance_at_us;
    uint32_t capacity;
    uint32_t releases_left;
    gwtf_time_us ask_from_us; /* no new outflows before */
    bool saw_offers;
    bool routes_changed;
    uint32_t sessions;
    uint32_t ids;
    uint32_t tokens;
    gwtf_time_us calm_at_us;      /* the request flow is at work until then */
    bool settled;                 /* potentials have come to rest once */
    gwtf_time_us lowered_us;      /* the last time that one was lowered */
    int64_t grain_us;             /* potentials are told when lowered by at least this */
    gwtf_time_us refine_at_us;    /* when the grain is made finer; GWTF_TIME_NEVER: it is fine */
    gwtf_time_us advertise_at_us; /* policy gwtf: no offer is told before */
    gwtf_time_us tell_at_us;      /* when changed potentials are told */
    gwtf_time_us repair_at_us;    /* policy gwtf: when slots have to be looked at */
    struct flow_visit visits[FLOW_VISITS_MAX];
    struct flow_potential *potentials; /* [sinks_max] */
    struct flow_plan *plan;
    struct flow_hint hints[FLOW_HINTS_MAX];
    bool mend_tell;              /* flows are to be mended that nobody knows of */
    gwtf_time_us mend_ask_at_us; /* GWTF_TIME_NEVER: there are no offers */
    bool balance_due;            /* flows may have better tails: flow/balance.h */
    gwtf_time_us balance_at_us;
    uint32_t balances; /* exchanges since flows were made or moved */

    size_t peers_count; /* entries used at some time; some of them may be free */
    struct flow_peer *peers;
    uint32_t peers_free;          /* the first free entry */
    struct flow_figures *figures; /* of all peers */
    uint32_t *peer_index;         /* by id, open addressing: place in peers, or FLOW_INDEX_NONE */
    uint32_t peer_index_mask;
    uint32_t *heap; /* places in peers, the one that is due first on top */
    uint32_t heap_count;
    struct flow_pool pool;
    struct flow_view *view;
    size_t sinks_count;
    gwtf_node_id *sinks;
    struct flow_way *ways; /* [sinks_max] */
    size_t slots_count;
    struct flow_slot *slots;
};

#endif
