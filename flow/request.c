#include "flow/request.h"

#include "flow/advertise.h"
#include "flow/link.h"
#include "flow/mend.h"
#include "flow/policy.h"
#include "flow/repair.h"
#include "flow/table.h"

struct choice {
    struct flow_peer *peer; /* NULL: none */
    uint32_t sink;
    int64_t cost_us;
};

/* The cheapest offer for SINK, or for any sink with sinks_count; ties go to the lower ids. */
static struct choice choose(gwtf_flow *flow, uint32_t sink) {
    struct choice best = {NULL, 0, FLOW_COST_NONE};
    for (size_t i = 0; i < flow->peers_count; i++) {
        struct flow_peer *peer = &flow->peers[i];
        if (!flow_is_usable(flow, peer) || peer->asks == FLOW_ASKS_MAX || !flow_link_has_room(peer))
            continue;
        for (uint32_t s = 0; s < flow->sinks_count; s++) {
            const struct flow_offer *offer = &peer->figures[s].offer;
            if ((sink < flow->sinks_count && s != sink) || offer->count == 0 ||
                offer->cost_us == FLOW_COST_NONE)
                continue;
            int64_t cost_us = peer->link_us + offer->cost_us;
            bool tie = best.peer != NULL && cost_us == best.cost_us;
            if (cost_us < best.cost_us || (tie && peer->id < best.peer->id))
                best = (struct choice){peer, s, cost_us};
        }
    }
    return best;
}

void flow_ask(gwtf_flow *flow, struct flow_slot *slot, struct flow_peer *peer, uint32_t sink,
              int64_t cost_us) {
    gwtf_flow_id id = flow_new_id(flow);
    slot->sink = sink;
    slot->out = (struct flow_end){FLOW_END_ASKED, peer->id, id, false, false};
    slot->link_us = peer->link_us;
    slot->rest_us = FLOW_COST_NONE;
    struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_REQUEST,
                                     .sink = flow->sinks[sink],
                                     .flow = id,
                                     .cost_us = cost_us,
                                     .limit = slot->mends ? 1 : 0};
    flow_link_send(flow, peer, &body);
    peer->asks++;
}

static void ask(gwtf_flow *flow, struct flow_slot *slot, const struct choice *choice) {
    struct flow_offer *offer = &choice->peer->figures[choice->sink].offer;
    offer->count--;
    flow_note_way(flow, choice->sink);
    slot->mends = false;
    flow_ask(flow, slot, choice->peer, choice->sink, offer->cost_us);
}

bool flow_needs_out(const struct flow_slot *slot) {
    return slot->role == FLOW_ROLE_RELAY && !flow_slot_is_locked(slot) &&
           slot->in.state == FLOW_END_HELD && slot->out.state == FLOW_END_NONE;
}

/* Flows that others rely on, but which have lost their way on. */
void flow_request_repairs(gwtf_flow *flow) {
    for (size_t i = 0; i < flow->slots_count; i++) {
        struct flow_slot *slot = &flow->slots[i];
        if (!flow_needs_out(slot) || flow_slot_is_mended(flow, slot) ||
            (slot->mends && slot->answer_due))
            continue;
        struct choice choice = choose(flow, slot->sink);
        if (choice.peer != NULL)
            ask(flow, slot, &choice);
    }
}

/* SLOT's previous hop has waited for this. */
static void answer(gwtf_flow *flow, struct flow_slot *slot, bool accepted) {
    struct flow_peer *peer = flow_find_peer(flow, slot->in.peer);
    slot->answer_due = false;
    if (peer == NULL || slot->in.state != FLOW_END_HELD || !flow_link_has_room_for_answer(peer))
        return;
    struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_ACCEPT,
                                     .sink = flow->sinks[slot->sink],
                                     .flow = slot->in.id,
                                     .cost_us = flow_slot_cost(slot)};
    if (!accepted) {
        slot->in.state = FLOW_END_NONE;
        slot->patience_at_us = GWTF_TIME_NEVER;
    }
    struct flow_offer offer = flow_get_offer(flow, slot->sink);
    flow_note_told(flow, peer, slot->sink, offer);
    body.count = offer.count;
    if (accepted) {
        body.other_cost_us = offer.cost_us;
    } else {
        body.kind = FLOW_MESSAGE_REJECT;
        body.cost_us = offer.cost_us;
    }
    flow_link_send(flow, peer, &body);
}

void flow_reject_hopeless(gwtf_flow *flow) {
    for (size_t i = 0; i < flow->slots_count; i++) {
        struct flow_slot *slot = &flow->slots[i];
        if (slot->answer_due && slot->out.state == FLOW_END_NONE)
            answer(flow, slot, false);
    }
}

static uint32_t count_all_asked(const gwtf_flow *flow) {
    uint32_t count = 0;
    for (size_t i = 0; i < flow->slots_count; i++)
        count += flow->slots[i].out.state == FLOW_END_ASKED;
    return count;
}

/* The first offer is seldom the best: the others are on their way. */
static bool has_seen_offers(gwtf_flow *flow) {
    bool offers = choose(flow, (uint32_t)flow->sinks_count).peer != NULL;
    if (offers && !flow->saw_offers && flow->ask_from_us <= flow->now_us)
        flow->ask_from_us = flow->now_us + flow->config.retry_us / 3;
    flow->saw_offers = offers;
    return offers && flow->now_us >= flow->ask_from_us;
}

void flow_request_new(gwtf_flow *flow, uint32_t asks_max) {
    if (!has_seen_offers(flow))
        return;
    bool data = flow->config.stage == 0;
    for (uint32_t i = 0; i < flow->capacity && count_all_asked(flow) < asks_max; i++) {
        struct choice choice = choose(flow, (uint32_t)flow->sinks_count);
        if (choice.peer == NULL)
            return;
        struct flow_slot *slot = flow_take_slot(flow, data ? FLOW_ROLE_SOURCE : FLOW_ROLE_RELAY);
        if (slot == NULL)
            return;
        slot->patience_at_us = GWTF_TIME_NEVER;
        ask(flow, slot, &choice);
    }
}

gwtf_time_us flow_request_deadline(const gwtf_flow *flow) {
    return flow->ask_from_us > flow->now_us ? flow->ask_from_us : GWTF_TIME_NEVER;
}

/* The slot that a request for SINK gets, or NULL. */
static struct flow_slot *grant(gwtf_flow *flow, uint32_t sink, int64_t cost_us, bool mends) {
    if (flow->config.stage == 0) {
        if (flow->sinks[sink] != flow->config.self)
            return NULL;
        struct flow_slot *slot = flow_take_slot(flow, FLOW_ROLE_SINK);
        if (slot != NULL)
            slot->sink = sink;
        return slot;
    }
    struct flow_slot *best = NULL;
    for (size_t i = 0; i < flow->slots_count; i++) {
        struct flow_slot *slot = &flow->slots[i];
        if (slot->sink == sink && !flow_slot_is_locked(slot) && slot->in.state == FLOW_END_NONE &&
            slot->out.state == FLOW_END_HELD &&
            (mends || (flow_slot_cost(slot) <= cost_us && !flow_slot_is_mended(flow, slot))) &&
            (best == NULL || flow_slot_cost(slot) < flow_slot_cost(best)))
            best = slot;
    }
    return best;
}

bool flow_take_on_offered(gwtf_flow *flow, struct flow_peer *peer, uint32_t sink,
                          const struct gwtf_flow_message *message) {
    return (message->limit == 1 || flow_get_offer(flow, sink).cost_us <= message->cost_us) &&
           flow_take_on(flow, peer, sink, message);
}

bool flow_take_on(gwtf_flow *flow, struct flow_peer *peer, uint32_t sink,
                  const struct gwtf_flow_message *message) {
    if (flow->config.stage == 0)
        return false;
    struct flow_slot *slot = flow_take_slot(flow, FLOW_ROLE_RELAY);
    if (slot == NULL)
        return false;
    slot->sink = sink;
    slot->in = (struct flow_end){FLOW_END_HELD, peer->id, message->flow, false, false};
    slot->answer_due = true;
    slot->mends = message->limit == 1;
    slot->mend_until_us = 0;
    slot->cost_due = false;
    slot->patience_at_us = GWTF_TIME_NEVER;
    flow_note_change(flow);
    return true;
}

void flow_take_request(gwtf_flow *flow, struct flow_peer *peer,
                       const struct gwtf_flow_message *message) {
    if (!flow_link_has_room_for_answer(peer))
        return; /* more requests under way than are allowed */
    uint32_t sink = flow_sink_index(flow, message->sink);
    bool known = sink < flow->config.sinks_max && flow_is_previous(flow, peer) &&
                 message->cost_us != FLOW_COST_NONE &&
                 message->flow >> 32 == (gwtf_flow_id)peer->id + 1 &&
                 flow_find_in(flow, peer->id, message->flow) == NULL;
    struct flow_slot *slot =
        known ? grant(flow, sink, message->cost_us, message->limit == 1) : NULL;
    if (known && slot == NULL && flow->policy->take_on != NULL &&
        flow->policy->take_on(flow, peer, sink, message))
        return;
    struct gwtf_flow_message body = {.sink = message->sink, .flow = message->flow};
    if (slot != NULL) {
        slot->in = (struct flow_end){FLOW_END_HELD, peer->id, message->flow, false, false};
        slot->patience_at_us = GWTF_TIME_NEVER;
        slot->cost_due = false;
        flow->routes_changed = true;
        flow_note_change(flow);
    }
    struct flow_offer offer = {FLOW_COST_NONE, 0};
    if (known) {
        offer = flow_get_offer(flow, sink);
        flow_note_told(flow, peer, sink, offer);
    }
    body.kind = slot != NULL ? FLOW_MESSAGE_ACCEPT : FLOW_MESSAGE_REJECT;
    body.cost_us = slot != NULL ? flow_slot_cost(slot) : offer.cost_us;
    body.other_cost_us = slot != NULL ? offer.cost_us : 0;
    body.count = offer.count;
    flow_link_send(flow, peer, &body);
}

/* Of the requests to PEER that are under way, those that a slot still waits for. */
static uint32_t count_asked(const gwtf_flow *flow, const struct flow_peer *peer) {
    uint32_t count = 0;
    for (size_t i = 0; i < flow->slots_count; i++)
        count += flow->slots[i].out.state == FLOW_END_ASKED && flow->slots[i].out.peer == peer->id;
    return count;
}

void flow_take_answer(gwtf_flow *flow, struct flow_peer *peer,
                      const struct gwtf_flow_message *message) {
    bool accepted = message->kind == FLOW_MESSAGE_ACCEPT;
    struct flow_figures *figures = flow_find_figures(flow, peer, message->sink);
    struct flow_slot *slot = flow_find_out(flow, peer->id, message->flow);
    bool waits = slot != NULL && slot->out.state == FLOW_END_ASKED;
    if (!(waits || peer->asks > count_asked(flow, peer)) || figures == NULL)
        return; /* nobody has asked */
    peer->asks--;
    figures->offer.cost_us = accepted ? message->other_cost_us : message->cost_us;
    figures->offer.count = message->count;
    flow_note_way(flow, flow_sink_index(flow, message->sink));
    if (!waits)
        return; /* given up meanwhile: the CANCEL is on its way */
    if (accepted) {
        slot->out.state = FLOW_END_HELD;
        slot->rest_us = message->cost_us;
        slot->cost_due = slot->in.state == FLOW_END_HELD && !slot->answer_due;
        flow->routes_changed = true;
        flow_note_change(flow);
        if (slot->answer_due)
            answer(flow, slot, true);
    } else {
        slot->out.state = FLOW_END_NONE;
    }
    flow_set_patience(flow, slot);
}
