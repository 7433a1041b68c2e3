/* What flow/plan.c, plan_price.c and plan_admit.c share; private to them. */
#ifndef GWTF_FLOW_PLAN_STATE_H
#define GWTF_FLOW_PLAN_STATE_H

#include "flow/state.h"

/* The clock of the negotiation is its age in sweeps, which a node takes over from who is ahead.
 * Limits are raised in the first of the RAMP parts of it; prices move less from a part of the END
 * on; at the end flows are admitted, REST sweeps later the plan is forgotten. A data node with a
 * larger capacity than PLANNED tells all that the negotiation is over: the more flows there are,
 * the less each of them matters, and searches get as far with a seventh of the messages. */
#define AGE_START 3
#define AGE_END 300
#define CAPACITY_PLANNED 200
#define RAMP_PARTS 2
#define FINE_PARTS 6
/* In a message: the age in the low bits, the end above. */
#define AGE_BITS 16
#define AGE_MASK 0xffffu
#define AGE_REST 8
/* Sweeps in a tick, unless messages take longer; parts of a sweep in which news is gathered. */
#define SWEEPS 2
#define RETRIES_IN_SWEEP 2
#define GATHER_PARTS 20
struct plan_hop {
    gwtf_node_id peer; /* GWTF_NODE_NONE: none */
    gwtf_flow_id id;
};
extern const struct plan_hop plan_no_hop;

/* A planned flow through this node. */
struct plan_unit {
    bool used;
    bool admitted; /* it is a slot now, of which the next hop has yet to hear */
    uint32_t sink;
    struct plan_hop in; /* none: this data node is the source */
    struct plan_hop out;
    struct plan_hop ask; /* asked, no answer yet; OUT is left when it is taken */
    uint32_t refusals;   /* in this sweep */
    uint32_t stuck;      /* sweeps without a next hop */
};
extern const struct plan_unit plan_no_unit;

/* What a next hop has said of one sink: the way on from there for one more flow, and for the
 * dearest of those that this node sends it. FLOW_COST_NONE: none. */
struct plan_figures {
    int64_t enter_us;
    int64_t stay_us;
    /* What this node has told the peer, a previous hop. */
    int64_t told_enter_us;
    int64_t told_stay_us;
};
extern const struct plan_figures plan_no_figures;
struct plan_peer {
    int64_t price_us;
    int32_t room;   /* capacity less planned flows; negative: planned too many */
    int32_t expect; /* asks of this sweep, not yet answered: they take room too */
    int64_t told_limit_us;
    struct plan_figures *figures; /* [sinks_max] */
};

struct flow_plan {
    bool on;
    uint32_t age;
    uint32_t end; /* the age at which flows are admitted: the earliest heard of */
    gwtf_time_us sweep_at_us;
    gwtf_time_us tell_at_us;
    int64_t limit_us; /* the highest heard of, and a data node's own */
    int64_t price_us;
    int64_t step; /* millionths of the scale */
    int64_t press;
    int32_t streak;
    bool begun; /* a data node has given up the flows from before */
    size_t units_count;
    struct plan_unit *units;
    struct plan_peer *peers; /* [neighbours_max] */
    struct plan_figures *figures;
    struct plan_hop *drops; /* DROPs that did not fit a queue */
    size_t drops_count;
    size_t drops_max;
};

/* --- plan_price.c: tolls, and what neighbours are told of them. --- */

bool plan_is_data(const gwtf_flow *flow);
/* The plan has been made, or came to nothing. */
bool plan_is_over(const struct flow_plan *plan);
/* VALUE * THOUSANDTHS / 1000, without overflow. */
int64_t plan_part_of(int64_t value, int64_t thousandths);
int64_t plan_get_scale(const gwtf_flow *flow);
int64_t plan_get_press(const gwtf_flow *flow);
struct plan_peer *plan_get_peer(const gwtf_flow *flow, const struct flow_peer *peer);
/* Capacity less planned flows. */
int32_t plan_get_room(const gwtf_flow *flow);
/* What it costs to pass a node that has ROOM, beside the flows that are there. */
int64_t plan_get_toll(const gwtf_flow *flow, int64_t price_us, int32_t room);
/* From here over PEER to SINK, for a flow that is planned so. FLOW_COST_NONE: no way. */
int64_t plan_get_stay(const gwtf_flow *flow, const struct flow_peer *peer, uint32_t sink);
/* The cheapest next hop for one more flow; NULL: there is none. Ties go to the lower ids. */
struct flow_peer *plan_choose(const gwtf_flow *flow, uint32_t sink, int64_t *cost_us);
/* Of the flows to SINK that come from FROM the one with the dearest way on, which is what one less
 * of them saves: they may exchange their tails unseen. NULL, STAY_US untouched: there is none. */
struct plan_unit *plan_find_dearest(const gwtf_flow *flow, uint32_t sink, gwtf_node_id from,
                                    int64_t *stay_us);
/* Neighbours have something to hear, soon. */
void plan_gather_news(gwtf_flow *flow);
void plan_tell(gwtf_flow *flow);
void plan_move_price(gwtf_flow *flow);
/* A data node's own: the first one when all that there is is known, then more as long as flows wait
 * for it. */
void plan_raise_limit(gwtf_flow *flow, bool waits);
/* What a peer says of itself in every message about plans. */
void plan_take_price(gwtf_flow *flow, const struct flow_peer *peer,
                     const struct gwtf_flow_message *message);
/* For one that has come after the negotiation, or is not to have one. */
void plan_send_over(gwtf_flow *flow, struct flow_peer *peer);
void plan_take_figures(gwtf_flow *flow, struct flow_peer *peer,
                       const struct gwtf_flow_message *message);

/* --- plan.c: planned flows. --- */

void plan_start(gwtf_flow *flow);
void plan_send_drop(gwtf_flow *flow, struct plan_hop *hop);
void plan_release(gwtf_flow *flow, struct plan_unit *unit);
struct plan_unit *plan_find_in(const gwtf_flow *flow, gwtf_node_id peer, gwtf_flow_id id);

/* --- plan_admit.c: planned flows become slots. --- */

/* At a data node, once: gives up the flows that there are, admits the planned ones. */
void plan_begin_admission(gwtf_flow *flow);
/* Tells next hops what was admitted, as far as queues have room. */
void plan_pass_admissions(gwtf_flow *flow);
void plan_take_admit(gwtf_flow *flow, struct flow_peer *peer,
                     const struct gwtf_flow_message *message);

#endif
