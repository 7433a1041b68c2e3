/*
 * Policy gwtf-paper beyond the request flow (Blagoev et al., section 4; DESIGN section 2): the
 * moves that relays of one stage agree on.
 *
 * Change (flow/paper_change.c): two nodes swap the next hops of two flows to the same sink. i asks
 * k with a flow of its own; k offers one of its flows; i decides. Redirect (flow/paper_redirect.c):
 * i names a flow of its own to k, which has room; k offers; i asks the previous hop to send the
 * flow to k instead, and that one decides. Both take over the next hop's side with MOVE: "the flow
 * that came from that node comes from me".
 *
 * A move is accepted when it gains, else with probability exp(gain/T). So that nobody has to ask
 * twice, the node that begins draws the least gain that is accepted, T ln(u) with u uniform in
 * (0, 1], and sends it along. T starts at 1.7, in the unit of the authors' costs, and shrinks by
 * 0.95 with each accepted move; below a floor only gains are accepted. Each node goes over its
 * flows, the nodes of its stage and their flows once, and again when something has changed, so that
 * it comes to rest where no swap of two hops gains: a local optimum.
 *
 * What a move needs is locked at both nodes, and locks expire. Messages between two nodes come in
 * order or not at all, so that only deaths and long delays can break a move in the middle: what a
 * node has given away it cancels some ticks later at the next hop, which ignores it when the new
 * owner has come; what it may have lost it verifies (flow/repair.h). Slots change hands one to one,
 * and room is reserved before it is asked for: no node ever holds more than its capacity.
 */
#ifndef GWTF_FLOW_PAPER_H
#define GWTF_FLOW_PAPER_H

#include "flow/state.h"

/* Moves that a node takes part in at one time. */
#define PAPER_MOVES_MAX 16
/* How long a lock is held; how long after a move what was given away is cancelled. */
#define PAPER_LOCK_TICKS 4

enum paper_move_kind {
    PAPER_MOVE_NONE,
    PAPER_MOVE_CHANGE_ASKED,      /* this node is i: waits for an offer */
    PAPER_MOVE_CHANGE_OFFERED,    /* this node is k: waits for the decision */
    PAPER_MOVE_REDIRECT_ASKED,    /* this node is i: waits for an offer */
    PAPER_MOVE_REDIRECT_DECIDING, /* this node is i: waits for the previous hop */
    PAPER_MOVE_REDIRECT_OFFERED,  /* this node is k */
    PAPER_MOVE_LEFT               /* over; out_id at NEXT is cancelled at the end */
};

struct paper_move {
    enum paper_move_kind kind;
    gwtf_node_id partner; /* i or k */
    uint32_t number;      /* of a change, chosen by i */
    struct flow_slot *slot;
    gwtf_flow_id in_id;    /* of the slot, as the move is about it; redirect at k: as it will be */
    gwtf_flow_id out_id;   /* redirect at k: i's */
    gwtf_node_id next;     /* i: of the slot as it was; k: as it will be; LEFT: where out_id went */
    gwtf_flow_id taken_id; /* change at k: i's flow, which comes here; redirect at i: k's in_id */
    int64_t rest_us;       /* k: from NEXT to the sink */
    int64_t least_gain_us; /* accepted when above it */
    gwtf_time_us until_us;
};

/* Beside each slot: how far this node has gone over what could be done with it. */
struct paper_slot {
    gwtf_flow_id in_id; /* a slot with other ids, or another cost, begins anew */
    gwtf_flow_id out_id;
    int64_t path_us;
    size_t redirect_peer; /* index of peers[] */
    size_t change_peer;
    uint32_t change_try; /* how many of its flows have been offered */
    uint32_t busy;       /* answers in a row that something was locked */
    /* Objective max: from the source to this node under the id before_id, and what the next hop
     * has been told under told_id. */
    gwtf_flow_id before_id;
    int64_t before_us;
    gwtf_flow_id told_id;
    int64_t told_us;
};

/* Beside each peer, of this node's stage. */
struct paper_peer {
    bool met;
    bool room; /* it could take over a flow */
    bool told_room;
};

struct flow_paper {
    double temperature;
    gwtf_time_us calm_at_us; /* the request flow is at work until then */
    gwtf_time_us ask_from_us;
    uint32_t number;
    struct paper_move moves[PAPER_MOVES_MAX];
    struct paper_slot *slots; /* [slots_count] */
    struct paper_peer *peers; /* [neighbours_max] */
};

struct flow_paper *paper_of(const gwtf_flow *flow);

/* A relay's slot with both neighbours that no move is about. */
bool paper_is_movable(const gwtf_flow *flow, const struct flow_slot *slot);
/* Of the whole path, as far as this node knows; objective sum: from this node to the sink. */
int64_t paper_path(const gwtf_flow *flow, const struct flow_slot *slot);
bool paper_is_replica(const gwtf_flow *flow, const struct flow_peer *peer);

/* A free entry for a move, or NULL. */
struct paper_move *paper_take_move(gwtf_flow *flow, enum paper_move_kind kind,
                                   struct flow_slot *slot, gwtf_node_id partner);
struct paper_move *paper_find_move(gwtf_flow *flow, enum paper_move_kind kind,
                                   gwtf_node_id partner);
void paper_unlock(gwtf_flow *flow, struct flow_slot *slot);
/* Unlocks. FAILED: what the other side may have done is verified. */
void paper_end_move(gwtf_flow *flow, struct paper_move *move, bool failed);
/* Unlocks, and cancels the move's out_id at its next hop after a while. */
void paper_leave(gwtf_flow *flow, struct paper_move *move);

/* The least gain that the next move is accepted above, drawn at random. */
int64_t paper_draw_least_gain(gwtf_flow *flow);
/* A move that this node began was accepted. */
void paper_cool(gwtf_flow *flow);
/* PEER's answer to a question about SLOT: something was locked, ask again. False: often enough. */
bool paper_ask_again(gwtf_flow *flow, struct flow_slot *slot);

bool paper_send(gwtf_flow *flow, gwtf_node_id to, const struct gwtf_flow_message *body);
/* SLOT goes to PEER, where OWNER's flow ID now comes from here. */
void paper_move_out(gwtf_flow *flow, struct flow_slot *slot, struct flow_peer *peer,
                    gwtf_node_id owner, gwtf_flow_id id, int64_t rest_us);

/* MOVE from PEER, of the previous stage. */
void paper_take_move_message(gwtf_flow *flow, struct flow_peer *peer,
                             const struct gwtf_flow_message *message);
/* Ends the moves whose time is over; with LOST, those that it takes part in. */
void paper_expire_moves(gwtf_flow *flow, const struct flow_peer *lost);

/* True: SLOT's flow is being asked about. */
bool paper_begin_change(gwtf_flow *flow, struct flow_slot *slot);
bool paper_begin_redirect(gwtf_flow *flow, struct flow_slot *slot);

/* CHANGE_ASK, CHANGE_OFFER, CHANGE_NONE, CHANGE_DECLINE and CHANGE_COMMIT. */
void paper_take_change(gwtf_flow *flow, struct flow_peer *peer,
                       const struct gwtf_flow_message *message);
/* REDIRECT_ASK, REDIRECT_OFFER, REDIRECT_NONE, REDIRECT_COMMIT from a node of this stage; REDIRECT
 * from the next one, REDIRECT_YES and REDIRECT_NO from the previous one. */
void paper_take_redirect(gwtf_flow *flow, struct flow_peer *peer,
                         const struct gwtf_flow_message *message);
/* Capacity that a redirect could use: unused, or used by an outflow that nobody has taken. */
bool paper_has_room(const gwtf_flow *flow);

#endif
