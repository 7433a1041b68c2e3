#include "flow/mend.h"

#include "flow/link.h"
#include "flow/request.h"
#include "flow/table.h"

/* In quarters of a tick: how long neighbours take to notice a loss, and one round of messages. */
#define MEND_QUARTERS 5
/* Offers within this part of a retry time are compared before one is taken. */
#define ASK_PARTS 3

bool flow_slot_is_mended(const gwtf_flow *flow, const struct flow_slot *slot) {
    return slot->mend_until_us > flow->now_us;
}

/* As much as a data node had is a head too, or a tail, though it is only capacity that is free. */
static bool is_head(const gwtf_flow *flow, const struct flow_slot *slot) {
    return flow_slot_is_mended(flow, slot) && slot->out.state == FLOW_END_NONE &&
           slot->role != FLOW_ROLE_SINK && !flow_slot_is_locked(slot) &&
           (slot->role == FLOW_ROLE_SOURCE || slot->in.state == FLOW_END_HELD);
}

static bool is_tail(const gwtf_flow *flow, const struct flow_slot *slot) {
    return flow_slot_is_mended(flow, slot) && slot->in.state == FLOW_END_NONE &&
           slot->role != FLOW_ROLE_SOURCE && !flow_slot_is_locked(slot) &&
           (slot->role == FLOW_ROLE_SINK || slot->out.state == FLOW_END_HELD);
}

bool flow_is_mending(const gwtf_flow *flow) {
    for (size_t i = 0; i < flow->slots_count; i++)
        if (is_head(flow, &flow->slots[i]))
            return true;
    return false;
}

void flow_mend_after(gwtf_flow *flow, const struct flow_peer *peer) {
    if (!flow_is_mending(flow))
        flow->mend_ask_at_us = GWTF_TIME_NEVER;
    for (size_t i = 0; i < flow->slots_count; i++) {
        struct flow_slot *slot = &flow->slots[i];
        bool head = slot->out.state == FLOW_END_HELD && slot->out.peer == peer->id;
        bool tail = slot->in.state == FLOW_END_HELD && slot->in.peer == peer->id;
        if (!flow_slot_is_complete(slot) || !(head || tail))
            continue;
        slot->mends = false;
        slot->mend_until_us = flow->now_us + MEND_QUARTERS * flow->config.tick_us / 4;
        flow->mend_tell = true;
    }
}

/* What there is to mend for SINK. */
static struct flow_offer count_ends(const gwtf_flow *flow, uint32_t sink, bool heads) {
    struct flow_offer ends = {heads ? 0 : FLOW_COST_NONE, 0};
    for (size_t i = 0; i < flow->slots_count; i++) {
        const struct flow_slot *slot = &flow->slots[i];
        if (slot->sink != sink || !(heads ? is_head(flow, slot) : is_tail(flow, slot)))
            continue;
        ends.count++;
        if (!heads && flow_slot_cost(slot) < ends.cost_us)
            ends.cost_us = flow_slot_cost(slot);
    }
    return ends;
}

static bool tell(gwtf_flow *flow, struct flow_peer *peer, uint32_t sink,
                 enum flow_message_kind kind, struct flow_offer ends) {
    if (!flow_link_has_room(peer))
        return false;
    struct gwtf_flow_message body = {
        .kind = kind, .sink = flow->sinks[sink], .cost_us = ends.cost_us, .count = ends.count};
    flow_link_send(flow, peer, &body);
    return true;
}

static void tell_ends(gwtf_flow *flow, uint32_t sink) {
    struct flow_offer heads = count_ends(flow, sink, true), tails = count_ends(flow, sink, false);
    for (size_t i = 0; i < flow->peers_count; i++) {
        struct flow_peer *peer = &flow->peers[i];
        if (peer->id == GWTF_NODE_NONE || peer->peer_session == 0 ||
            (peer->stage == 0 && peer->id != flow->sinks[sink]))
            continue;
        if (heads.count > 0 && flow_is_usable(flow, peer))
            (void)tell(flow, peer, sink, FLOW_MESSAGE_MEND_HEAD, heads);
        if (tails.count > 0 && flow_is_previous(flow, peer))
            (void)tell(flow, peer, sink, FLOW_MESSAGE_MEND_TAIL, tails);
    }
}

/* --- What others have said. --- */

static bool hint_is_of(const gwtf_flow *flow, const struct flow_hint *hint,
                       enum flow_message_kind kind, uint32_t sink) {
    return hint->until_us > flow->now_us && hint->kind == kind && hint->sink == sink &&
           hint->count > 0;
}

/* The entry of PEER, else the oldest. */
static struct flow_hint *find_hint(gwtf_flow *flow, gwtf_node_id peer, uint32_t kind,
                                   uint32_t sink) {
    struct flow_hint *oldest = &flow->hints[0];
    for (size_t i = 0; i < FLOW_HINTS_MAX; i++) {
        struct flow_hint *hint = &flow->hints[i];
        if (hint->peer == peer && hint->kind == kind && hint->sink == sink)
            return hint;
        if (hint->until_us < oldest->until_us)
            oldest = hint;
    }
    return oldest;
}

/* The cheapest way over a peer that has told KIND, or NULL. */
static struct flow_hint *choose(gwtf_flow *flow, enum flow_message_kind kind, uint32_t sink,
                                struct flow_peer **chosen) {
    struct flow_hint *best = NULL;
    int64_t least_us = FLOW_COST_NONE;
    for (size_t i = 0; i < FLOW_HINTS_MAX; i++) {
        struct flow_hint *hint = &flow->hints[i];
        if (!hint_is_of(flow, hint, kind, sink))
            continue;
        struct flow_peer *peer = flow_find_peer(flow, hint->peer);
        if (peer == NULL || !flow_is_usable(flow, peer) || peer->asks == FLOW_ASKS_MAX ||
            !flow_link_has_room(peer) || peer->link_us + hint->cost_us >= least_us)
            continue;
        least_us = peer->link_us + hint->cost_us;
        best = hint;
        *chosen = peer;
    }
    return best;
}

/* Heads hear of the best way from here to a tail. */
static void offer(gwtf_flow *flow, uint32_t sink) {
    struct flow_peer *on = NULL;
    struct flow_hint *tail = choose(flow, FLOW_MESSAGE_MEND_TAIL, sink, &on);
    uint32_t reserved = flow_reserved(flow, FLOW_ROLE_RELAY);
    if (tail == NULL || flow->config.stage == 0 || reserved >= flow->capacity)
        return;
    struct flow_offer ends = {on->link_us + tail->cost_us, 0};
    for (size_t i = 0; i < FLOW_HINTS_MAX; i++)
        if (hint_is_of(flow, &flow->hints[i], FLOW_MESSAGE_MEND_TAIL, sink))
            ends.count += flow->hints[i].count;
    if (ends.count > flow->capacity - reserved)
        ends.count = flow->capacity - reserved;
    for (size_t i = 0; i < FLOW_HINTS_MAX; i++) {
        struct flow_hint *head = &flow->hints[i];
        if (!hint_is_of(flow, head, FLOW_MESSAGE_MEND_HEAD, sink))
            continue;
        struct flow_peer *peer = flow_find_peer(flow, head->peer);
        if (peer != NULL && peer->peer_session != 0 && head->cost_us != ends.cost_us &&
            tell(flow, peer, sink, FLOW_MESSAGE_MEND_OFFER, ends))
            head->cost_us = ends.cost_us;
    }
}

void flow_take_mend(gwtf_flow *flow, const struct flow_peer *peer,
                    const struct gwtf_flow_message *message) {
    uint32_t sink = flow_sink_index(flow, message->sink);
    if (sink == flow->config.sinks_max || message->cost_us == FLOW_COST_NONE ||
        (message->kind == FLOW_MESSAGE_MEND_HEAD ? !flow_is_previous(flow, peer)
                                                 : !flow_is_next(flow, peer)))
        return;
    *find_hint(flow, peer->id, message->kind, sink) = (struct flow_hint){
        .peer = peer->id,
        .kind = message->kind,
        .sink = sink,
        .count = message->count,
        .cost_us = message->kind == FLOW_MESSAGE_MEND_HEAD ? FLOW_COST_NONE : message->cost_us,
        .until_us = flow->now_us + MEND_QUARTERS * flow->config.tick_us / 4};
    if (message->kind != FLOW_MESSAGE_MEND_OFFER)
        offer(flow, sink);
    else if (flow->mend_ask_at_us == GWTF_TIME_NEVER)
        flow->mend_ask_at_us = flow->now_us + flow->config.retry_us / ASK_PARTS;
}

/* --- Mending. --- */

static void ask(gwtf_flow *flow, struct flow_slot *slot, enum flow_message_kind kind) {
    struct flow_peer *peer = NULL;
    struct flow_hint *hint = choose(flow, kind, slot->sink, &peer);
    if (hint == NULL)
        return;
    hint->count--;
    slot->mends = true;
    flow_ask(flow, slot, peer, slot->sink, hint->cost_us);
}

void flow_mend(gwtf_flow *flow) {
    bool data = flow->config.stage == 0, asks = flow->mend_ask_at_us <= flow->now_us;
    for (size_t i = 0; i < flow->slots_count; i++) {
        struct flow_slot *slot = &flow->slots[i];
        if (slot->out.state != FLOW_END_NONE || flow_slot_is_locked(slot))
            continue;
        if (slot->answer_due && slot->mends)
            ask(flow, slot, FLOW_MESSAGE_MEND_TAIL);
        else if (asks && is_head(flow, slot) &&
                 (!data || flow_reserved(flow, FLOW_ROLE_SOURCE) < flow->capacity))
            ask(flow, slot, FLOW_MESSAGE_MEND_OFFER);
    }
    if (!flow->mend_tell)
        return;
    flow->mend_tell = false;
    for (uint32_t sink = 0; sink < flow->sinks_count; sink++)
        tell_ends(flow, sink);
}

gwtf_time_us flow_mend_deadline(const gwtf_flow *flow) {
    gwtf_time_us due_us =
        flow->mend_ask_at_us > flow->now_us ? flow->mend_ask_at_us : GWTF_TIME_NEVER;
    for (size_t i = 0; i < flow->slots_count; i++)
        if (is_head(flow, &flow->slots[i]) || is_tail(flow, &flow->slots[i]))
            due_us = flow_earlier(due_us, flow->slots[i].mend_until_us);
    return due_us;
}
