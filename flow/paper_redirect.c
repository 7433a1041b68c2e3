/* Redirect: a node with room takes over a hop of a flow from a node of its stage. */
#include "flow/paper.h"

#include "flow/link.h"
#include "flow/repair.h"
#include "flow/table.h"

/* An outflow that nobody has taken. */
static struct flow_slot *find_idle(const gwtf_flow *flow) {
    for (size_t i = 0; i < flow->slots_count; i++) {
        struct flow_slot *slot = &flow->slots[i];
        if (!flow_end_is_live(&slot->in) && slot->out.state == FLOW_END_HELD &&
            !flow_slot_is_locked(slot))
            return slot;
    }
    return NULL;
}

bool paper_has_room(const gwtf_flow *flow) {
    return flow_reserved(flow, FLOW_ROLE_RELAY) < flow->capacity || find_idle(flow) != NULL;
}

bool paper_begin_redirect(gwtf_flow *flow, struct flow_slot *slot) {
    struct flow_paper *paper = paper_of(flow);
    struct paper_slot *sweep = &paper->slots[slot - flow->slots];
    const struct flow_peer *previous = flow_find_peer(flow, slot->in.peer);
    if (previous == NULL || previous->link_us == FLOW_COST_NONE)
        return false;
    for (; sweep->redirect_peer < flow->peers_count; sweep->redirect_peer++) {
        struct flow_peer *peer = &flow->peers[sweep->redirect_peer];
        if (!paper_is_replica(flow, peer) || peer->peer_session == 0 ||
            !paper->peers[sweep->redirect_peer].room)
            continue;
        if (!flow_link_has_room(peer))
            return false;
        struct paper_move *move = paper_take_move(flow, PAPER_MOVE_REDIRECT_ASKED, slot, peer->id);
        if (move == NULL)
            return false;
        move->least_gain_us = paper_draw_least_gain(flow);
        struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_REDIRECT_ASK,
                                         .count = slot->in.peer,
                                         .limit = slot->out.peer,
                                         .sink = flow->sinks[slot->sink],
                                         .flow = slot->out.id,
                                         .token = slot->in.id,
                                         .cost_us = slot->rest_us,
                                         .other_cost_us = slot->link_us + previous->link_us -
                                                          move->least_gain_us};
        flow_link_send(flow, peer, &body);
        return true;
    }
    return false;
}

/* Capacity for a flow that is about to come, locked; NULL: there is none. */
static struct flow_slot *reserve(gwtf_flow *flow) {
    struct flow_slot *slot = flow_take_slot(flow, FLOW_ROLE_RELAY);
    struct flow_slot *idle = slot == NULL ? find_idle(flow) : NULL;
    if (idle != NULL) {
        flow_give_up(flow, idle);
        slot = flow_take_slot(flow, FLOW_ROLE_RELAY);
    }
    return slot;
}

static void answer_none(gwtf_flow *flow, gwtf_node_id to, gwtf_flow_id id, bool busy) {
    struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_REDIRECT_NONE, .flow = id, .limit = busy};
    (void)paper_send(flow, to, &body);
}

/* At k. other_cost_us: what both hops may cost, as far as i knows. */
static void take_ask(gwtf_flow *flow, struct flow_peer *peer,
                     const struct gwtf_flow_message *message) {
    struct paper_move *move = paper_find_move(flow, PAPER_MOVE_REDIRECT_OFFERED, peer->id);
    if (move != NULL)
        paper_end_move(flow, move, true);
    const struct flow_peer *previous = flow_find_peer(flow, message->count);
    const struct flow_peer *next = flow_find_peer(flow, message->limit);
    uint32_t sink = flow_sink_index(flow, message->sink);
    if (sink == flow->config.sinks_max || previous == NULL || next == NULL ||
        !flow_is_previous(flow, previous) || previous->link_us == FLOW_COST_NONE ||
        previous->peer_session == 0 || !flow_is_usable(flow, next) ||
        message->cost_us == FLOW_COST_NONE ||
        previous->link_us + next->link_us >= message->other_cost_us) {
        answer_none(flow, peer->id, message->flow, false);
        return;
    }
    struct flow_slot *slot = reserve(flow);
    move = slot != NULL ? paper_take_move(flow, PAPER_MOVE_REDIRECT_OFFERED, slot, peer->id) : NULL;
    if (move == NULL) {
        answer_none(flow, peer->id, message->flow, slot != NULL);
        return;
    }
    /* The inflow counts from now on: what the previous hop says about it may come before what i
     * says. */
    slot->sink = sink;
    slot->in = (struct flow_end){FLOW_END_HELD, previous->id, flow_new_id(flow), false, false};
    slot->answer_due = slot->cost_due = false;
    slot->patience_at_us = GWTF_TIME_NEVER;
    move->in_id = slot->in.id;
    move->out_id = message->flow;
    move->next = next->id;
    move->rest_us = message->cost_us;
    const struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_REDIRECT_OFFER,
                                           .flow = message->flow,
                                           .token = move->in_id,
                                           .cost_us = next->link_us};
    if (!paper_send(flow, peer->id, &body))
        paper_end_move(flow, move, false);
}

static bool is_as_asked(const struct paper_move *move) {
    return flow_slot_is_complete(move->slot) && move->slot->in.id == move->in_id &&
           move->slot->out.id == move->out_id;
}

/* At i: k would. The previous hop decides, since its own hop changes. */
static void take_offer(gwtf_flow *flow, struct flow_peer *peer,
                       const struct gwtf_flow_message *message) {
    struct paper_move *move = paper_find_move(flow, PAPER_MOVE_REDIRECT_ASKED, peer->id);
    bool expected = move != NULL && move->out_id == message->flow;
    struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_REDIRECT};
    if (!expected || !is_as_asked(move) || message->cost_us == FLOW_COST_NONE ||
        move->slot->rest_us == FLOW_COST_NONE) {
        answer_none(flow, peer->id, message->flow, false);
        if (expected)
            paper_end_move(flow, move, false);
        return;
    }
    const struct flow_slot *slot = move->slot;
    body.limit = peer->id;
    body.flow = slot->in.id;
    body.token = message->token;
    body.cost_us = message->cost_us + slot->rest_us;
    body.other_cost_us = slot->link_us - message->cost_us - move->least_gain_us;
    move->kind = PAPER_MOVE_REDIRECT_DECIDING;
    move->taken_id = message->token;
    if (paper_send(flow, slot->in.peer, &body))
        return;
    answer_none(flow, peer->id, message->flow, false);
    paper_end_move(flow, move, false);
}

/* An id that NODE has made for a flow from here, and that is not in use yet. */
static bool is_new_out_id(const gwtf_flow *flow, gwtf_flow_id id, gwtf_node_id node) {
    for (size_t i = 0; i < flow->slots_count; i++)
        if (flow_end_is_live(&flow->slots[i].out) && flow->slots[i].out.id == id)
            return false;
    return id >> 32 == (gwtf_flow_id)node + 1;
}

/* At the previous hop. */
static void take_redirect(gwtf_flow *flow, struct flow_peer *peer,
                          const struct gwtf_flow_message *message) {
    struct gwtf_flow_message body = {
        .kind = FLOW_MESSAGE_REDIRECT_NO, .flow = message->flow, .token = message->token};
    struct flow_slot *slot = flow_find_out(flow, peer->id, message->flow);
    const struct flow_peer *next = flow_find_peer(flow, message->limit);
    bool held = slot != NULL && slot->out.state == FLOW_END_HELD;
    body.limit = held && flow_slot_is_locked(slot);
    if (held && body.limit == 0 && next != NULL && flow_is_usable(flow, next) &&
        is_new_out_id(flow, message->token, next->id) && message->cost_us != FLOW_COST_NONE &&
        flow_link_has_room_for_answer(peer) &&
        slot->link_us - next->link_us + message->other_cost_us > 0) {
        slot->out = (struct flow_end){FLOW_END_HELD, next->id, message->token, false, false};
        slot->link_us = next->link_us;
        slot->rest_us = message->cost_us;
        slot->cost_due = slot->in.state == FLOW_END_HELD;
        /* It may have given up waiting. */
        slot->out.verify_due = true;
        flow->routes_changed = true;
        body.kind = FLOW_MESSAGE_REDIRECT_YES;
    }
    (void)paper_send(flow, peer->id, &body);
}

static struct paper_move *find_deciding(gwtf_flow *flow, const struct gwtf_flow_message *message) {
    struct paper_move *moves = paper_of(flow)->moves;
    for (size_t i = 0; i < PAPER_MOVES_MAX; i++)
        if (moves[i].kind == PAPER_MOVE_REDIRECT_DECIDING && moves[i].in_id == message->flow &&
            moves[i].taken_id == message->token)
            return &moves[i];
    return NULL;
}

static void pass_by(gwtf_flow *flow, struct paper_move *move, bool busy) {
    struct paper_slot *sweep = &paper_of(flow)->slots[move->slot - flow->slots];
    if (!busy || !paper_ask_again(flow, move->slot)) {
        sweep->redirect_peer++;
        sweep->busy = 0;
    }
    paper_end_move(flow, move, false);
}

/* At i: the flow goes by k from now on. */
static void hand_over(gwtf_flow *flow, struct paper_move *move) {
    struct gwtf_flow_message body = {
        .kind = FLOW_MESSAGE_REDIRECT_COMMIT, .flow = move->out_id, .token = move->taken_id};
    struct flow_slot *slot = move->slot;
    (void)paper_send(flow, move->partner, &body);
    if (flow_end_is_live(&slot->in) && slot->in.id == move->in_id)
        slot->in.state = FLOW_END_NONE;
    if (flow_end_is_live(&slot->out) && slot->out.id == move->out_id)
        slot->out.state = FLOW_END_NONE;
    flow->routes_changed = true;
    paper_cool(flow);
    paper_leave(flow, move);
}

static void take_decision(gwtf_flow *flow, const struct gwtf_flow_message *message) {
    struct paper_move *move = find_deciding(flow, message);
    if (move == NULL)
        return; /* given up meanwhile: k cancels what was decided */
    if (message->kind == FLOW_MESSAGE_REDIRECT_YES) {
        hand_over(flow, move);
        return;
    }
    answer_none(flow, move->partner, move->out_id, false);
    pass_by(flow, move, message->limit != 0);
}

/* At k: the flow is here; without its inflow, should that have been lost meanwhile. */
static void take_over(gwtf_flow *flow, struct paper_move *move) {
    struct flow_slot *slot = move->slot;
    struct flow_peer *next = flow_find_peer(flow, move->next);
    if (next != NULL && flow_is_usable(flow, next) && flow_link_has_room_for_answer(next))
        paper_move_out(flow, slot, next, move->partner, move->out_id, move->rest_us);
    flow->routes_changed = true;
    move->kind = PAPER_MOVE_NONE;
    paper_unlock(flow, slot);
}

static void take_end(gwtf_flow *flow, const struct flow_peer *peer,
                     const struct gwtf_flow_message *message) {
    struct paper_move *asked = paper_find_move(flow, PAPER_MOVE_REDIRECT_ASKED, peer->id);
    struct paper_move *offered = paper_find_move(flow, PAPER_MOVE_REDIRECT_OFFERED, peer->id);
    if (message->kind == FLOW_MESSAGE_REDIRECT_COMMIT) {
        if (offered != NULL && offered->in_id == message->token)
            take_over(flow, offered);
    } else if (offered != NULL && offered->out_id == message->flow) {
        paper_end_move(flow, offered, false);
    } else if (asked != NULL && asked->out_id == message->flow) {
        pass_by(flow, asked, message->limit != 0);
    }
}

void paper_take_redirect(gwtf_flow *flow, struct flow_peer *peer,
                         const struct gwtf_flow_message *message) {
    bool replica = paper_is_replica(flow, peer);
    switch (message->kind) {
    case FLOW_MESSAGE_REDIRECT:
        take_redirect(flow, peer, message);
        break;
    case FLOW_MESSAGE_REDIRECT_YES:
    case FLOW_MESSAGE_REDIRECT_NO:
        take_decision(flow, message);
        break;
    case FLOW_MESSAGE_REDIRECT_ASK:
        if (replica)
            take_ask(flow, peer, message);
        break;
    case FLOW_MESSAGE_REDIRECT_OFFER:
        if (replica)
            take_offer(flow, peer, message);
        break;
    default:
        if (replica)
            take_end(flow, peer, message);
        break;
    }
}
