/* Change: two nodes of one stage swap the next hops of two flows to the same sink. */
#include "flow/paper.h"

#include "flow/link.h"
#include "flow/table.h"

/* The most that this node could gain by sending SLOT's flow elsewhere. */
static int64_t get_most_gain(const gwtf_flow *flow, const struct flow_slot *slot) {
    int64_t least_us = FLOW_COST_NONE;
    for (size_t i = 0; i < flow->peers_count; i++) {
        const struct flow_peer *peer = &flow->peers[i];
        if (flow_is_usable(flow, peer) && peer->id != slot->out.peer && peer->link_us < least_us)
            least_us = peer->link_us;
    }
    return least_us == FLOW_COST_NONE ? -FLOW_WORTH_US : slot->link_us - least_us;
}

/* With objective sum all flows that go to one next hop are alike. */
static bool is_like_earlier(const gwtf_flow *flow, const struct flow_slot *slot) {
    if (flow->config.objective == GWTF_FLOW_OBJECTIVE_MAX)
        return false;
    for (const struct flow_slot *other = flow->slots; other < slot; other++)
        if (paper_is_movable(flow, other) && other->sink == slot->sink &&
            other->out.peer == slot->out.peer)
            return true;
    return false;
}

bool paper_begin_change(gwtf_flow *flow, struct flow_slot *slot) {
    struct flow_paper *paper = paper_of(flow);
    struct paper_slot *sweep = &paper->slots[slot - flow->slots];
    /* After the last stage there is one next hop for each sink. */
    if (flow->config.stage == flow->config.stages || is_like_earlier(flow, slot))
        return false;
    for (; sweep->change_peer < flow->peers_count; sweep->change_peer++, sweep->change_try = 0) {
        struct flow_peer *peer = &flow->peers[sweep->change_peer];
        if (!paper_is_replica(flow, peer) || peer->peer_session == 0)
            continue;
        if (!flow_link_has_room(peer))
            return false;
        struct paper_move *move = paper_take_move(flow, PAPER_MOVE_CHANGE_ASKED, slot, peer->id);
        if (move == NULL)
            return false;
        move->number = ++paper->number;
        move->least_gain_us = paper_draw_least_gain(flow);
        bool sum = flow->config.objective == GWTF_FLOW_OBJECTIVE_SUM;
        struct gwtf_flow_message body = {
            .kind = FLOW_MESSAGE_CHANGE_ASK,
            .count = move->number,
            .sink = flow->sinks[slot->sink],
            .limit = slot->out.peer,
            .flow = slot->out.id,
            .token = sweep->change_try,
            .cost_us = slot->rest_us,
            .other_cost_us = sum ? get_most_gain(flow, slot) - move->least_gain_us : FLOW_WORTH_US};
        flow_link_send(flow, peer, &body);
        return true;
    }
    return false;
}

/* What this node would gain on its own hop if SLOT's flow went to NEXT. */
static int64_t get_hop_gain(const struct flow_slot *slot, const struct flow_peer *next) {
    return slot->link_us - next->link_us;
}

/* The flow that this node offers for the one that MESSAGE asks about; BUSY: there may be one, but
 * it is locked. */
static struct flow_slot *find_offer(gwtf_flow *flow, const struct flow_peer *next,
                                    const struct gwtf_flow_message *message, bool *busy) {
    uint64_t skip = message->token;
    for (size_t i = 0; i < flow->slots_count; i++) {
        struct flow_slot *slot = &flow->slots[i];
        if (!flow_slot_is_complete(slot) || flow->sinks[slot->sink] != message->sink ||
            slot->out.peer == next->id || slot->rest_us == FLOW_COST_NONE ||
            get_hop_gain(slot, next) + message->other_cost_us <= 0)
            continue;
        if (!paper_is_movable(flow, slot))
            *busy = true;
        else if (!is_like_earlier(flow, slot) && skip-- == 0)
            return slot;
    }
    return NULL;
}

static void take_ask(gwtf_flow *flow, struct flow_peer *peer,
                     const struct gwtf_flow_message *message) {
    /* The one before is given up: it would have been decided else. */
    struct paper_move *move = paper_find_move(flow, PAPER_MOVE_CHANGE_OFFERED, peer->id);
    if (move != NULL)
        paper_end_move(flow, move, true);
    bool busy = false;
    struct flow_peer *next = flow_find_peer(flow, message->limit);
    struct flow_slot *slot = NULL;
    if (next != NULL && flow_is_usable(flow, next) && message->cost_us != FLOW_COST_NONE)
        slot = find_offer(flow, next, message, &busy);
    if (slot != NULL && paper_path(flow, slot) == FLOW_COST_NONE)
        slot = NULL;
    move = slot != NULL ? paper_take_move(flow, PAPER_MOVE_CHANGE_OFFERED, slot, peer->id) : NULL;
    struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_CHANGE_NONE,
                                     .count = message->count,
                                     .sink = message->sink,
                                     .limit = busy || (slot != NULL && move == NULL)};
    if (move != NULL) {
        move->number = message->count;
        /* What this node gets. */
        move->next = next->id;
        move->taken_id = message->flow;
        move->rest_us = message->cost_us;
        body.kind = FLOW_MESSAGE_CHANGE_OFFER;
        body.limit = slot->out.peer;
        body.flow = slot->out.id;
        body.token = (uint64_t)paper_path(flow, slot);
        body.cost_us = slot->rest_us;
        body.other_cost_us = get_hop_gain(slot, next);
    }
    if (!paper_send(flow, peer->id, &body) && move != NULL)
        paper_end_move(flow, move, false);
}

/* By how much both flows together, or the dearer of them, get better. */
static int64_t get_gain(const gwtf_flow *flow, const struct flow_slot *slot,
                        const struct flow_peer *next, const struct gwtf_flow_message *offer) {
    int64_t sum_us = get_hop_gain(slot, next) + offer->other_cost_us;
    if (flow->config.objective == GWTF_FLOW_OBJECTIVE_SUM)
        return sum_us;
    int64_t mine_us = paper_path(flow, slot), theirs_us = (int64_t)offer->token;
    int64_t mine_then_us = mine_us - get_hop_gain(slot, next) - slot->rest_us + offer->cost_us;
    int64_t theirs_then_us = theirs_us - offer->other_cost_us - offer->cost_us + slot->rest_us;
    int64_t dearer_us = mine_us > theirs_us ? mine_us : theirs_us;
    int64_t dearer_then_us = mine_then_us > theirs_then_us ? mine_then_us : theirs_then_us;
    if (dearer_us != dearer_then_us)
        return dearer_us - dearer_then_us;
    return sum_us > 0 ? 1 : 0;
}

/* True: this node's side of the swap is done. */
static bool commit(gwtf_flow *flow, struct paper_move *move, struct flow_peer *peer,
                   const struct gwtf_flow_message *offer) {
    struct flow_slot *slot = move->slot;
    struct flow_peer *next = flow_find_peer(flow, offer->limit);
    if (!flow_slot_is_complete(slot) || slot->in.id != move->in_id ||
        slot->out.id != move->out_id || slot->rest_us == FLOW_COST_NONE || next == NULL ||
        !flow_is_usable(flow, next) || offer->cost_us == FLOW_COST_NONE ||
        paper_path(flow, slot) == FLOW_COST_NONE || offer->token > (uint64_t)FLOW_COST_MOST ||
        !flow_link_has_room_for_answer(next) || !flow_link_has_room_for_answer(peer) ||
        get_gain(flow, slot, next, offer) <= move->least_gain_us)
        return false;
    paper_move_out(flow, slot, next, peer->id, offer->flow, offer->cost_us);
    return true;
}

static void take_offer(gwtf_flow *flow, struct flow_peer *peer,
                       const struct gwtf_flow_message *message) {
    struct paper_move *move = paper_find_move(flow, PAPER_MOVE_CHANGE_ASKED, peer->id);
    bool expected = move != NULL && move->number == message->count;
    bool done = expected && commit(flow, move, peer, message);
    struct gwtf_flow_message body = {.kind = done ? FLOW_MESSAGE_CHANGE_COMMIT
                                                  : FLOW_MESSAGE_CHANGE_DECLINE,
                                     .count = message->count};
    (void)paper_send(flow, peer->id, &body);
    if (done) {
        paper_cool(flow);
        paper_leave(flow, move);
    } else if (expected) {
        paper_of(flow)->slots[move->slot - flow->slots].change_try++;
        paper_end_move(flow, move, false);
    }
}

static void take_none(gwtf_flow *flow, const struct flow_peer *peer,
                      const struct gwtf_flow_message *message) {
    struct paper_move *move = paper_find_move(flow, PAPER_MOVE_CHANGE_ASKED, peer->id);
    if (move == NULL || move->number != message->count)
        return;
    struct paper_slot *sweep = &paper_of(flow)->slots[move->slot - flow->slots];
    if (message->limit == 0 || !paper_ask_again(flow, move->slot)) {
        sweep->change_peer++;
        sweep->change_try = sweep->busy = 0;
    }
    paper_end_move(flow, move, false);
}

static void take_decision(gwtf_flow *flow, const struct flow_peer *peer,
                          const struct gwtf_flow_message *message) {
    struct paper_move *move = paper_find_move(flow, PAPER_MOVE_CHANGE_OFFERED, peer->id);
    if (move == NULL || move->number != message->count)
        return;
    struct flow_slot *slot = move->slot;
    struct flow_peer *next = flow_find_peer(flow, move->next);
    bool keeps = slot->out.state == FLOW_END_HELD && slot->out.id == move->out_id;
    bool lacks = slot->out.state == FLOW_END_NONE && slot->in.state == FLOW_END_HELD;
    if (message->kind == FLOW_MESSAGE_CHANGE_DECLINE || next == NULL || (!keeps && !lacks) ||
        !flow_is_usable(flow, next) || !flow_link_has_room_for_answer(next)) {
        /* After a commit: the flow given away is cancelled by its new owner, or by repair. */
        paper_end_move(flow, move, message->kind == FLOW_MESSAGE_CHANGE_COMMIT);
        return;
    }
    gwtf_node_id given_to = keeps ? slot->out.peer : GWTF_NODE_NONE;
    paper_move_out(flow, slot, next, peer->id, move->taken_id, move->rest_us);
    move->next = given_to;
    if (keeps)
        paper_leave(flow, move);
    else
        paper_end_move(flow, move, false);
}

void paper_take_change(gwtf_flow *flow, struct flow_peer *peer,
                       const struct gwtf_flow_message *message) {
    if (!paper_is_replica(flow, peer))
        return;
    switch (message->kind) {
    case FLOW_MESSAGE_CHANGE_ASK:
        take_ask(flow, peer, message);
        break;
    case FLOW_MESSAGE_CHANGE_OFFER:
        take_offer(flow, peer, message);
        break;
    case FLOW_MESSAGE_CHANGE_NONE:
        take_none(flow, peer, message);
        break;
    default:
        take_decision(flow, peer, message);
        break;
    }
}
