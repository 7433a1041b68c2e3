#include "flow/balance.h"

#include "flow/link.h"
#include "flow/mend.h"
#include "flow/table.h"

/* Ticks within which a node exchanges tails, doubled so often at most. */
#define WAIT_TICKS 1
#define DOUBLINGS_MAX 4

static bool knows_before(const struct flow_slot *slot) {
    return slot->role == FLOW_ROLE_SOURCE ||
           (slot->in.state == FLOW_END_HELD && slot->before_id == slot->in.id);
}

static int64_t get_before(const struct flow_slot *slot) {
    return slot->role == FLOW_ROLE_SOURCE ? 0 : slot->before_us;
}

void flow_take_before(gwtf_flow *flow, const struct flow_peer *peer,
                      const struct gwtf_flow_message *message) {
    struct flow_slot *slot = flow_find_in(flow, peer->id, message->flow);
    if (slot == NULL || message->cost_us == FLOW_COST_NONE || message->cost_us < 0)
        return;
    slot->before_id = message->flow;
    slot->before_us = message->cost_us;
    flow->balance_due = true;
}

static void tell_before(gwtf_flow *flow) {
    for (size_t i = 0; i < flow->slots_count; i++) {
        struct flow_slot *slot = &flow->slots[i];
        if (slot->out.state != FLOW_END_HELD || !knows_before(slot))
            continue;
        int64_t cost_us = get_before(slot) + slot->link_us;
        struct flow_peer *next = flow_find_peer(flow, slot->out.peer);
        if ((slot->told_id == slot->out.id && slot->told_us == cost_us) || next == NULL ||
            !flow_link_has_room(next))
            continue;
        struct gwtf_flow_message body = {
            .kind = FLOW_MESSAGE_BEFORE, .flow = slot->out.id, .cost_us = cost_us};
        flow_link_send(flow, next, &body);
        slot->told_id = slot->out.id;
        slot->told_us = cost_us;
    }
}

static bool can_exchange(const gwtf_flow *flow, const struct flow_slot *slot) {
    return slot->role == FLOW_ROLE_RELAY && flow_slot_is_complete(slot) &&
           !flow_slot_is_locked(slot) && !flow_slot_is_mended(flow, slot) && knows_before(slot) &&
           flow_slot_cost(slot) != FLOW_COST_NONE;
}

/* By how much the dearer of two flows gets cheaper. */
static int64_t get_gain(const struct flow_slot *a, const struct flow_slot *b) {
    int64_t tail_a_us = flow_slot_cost(a), tail_b_us = flow_slot_cost(b);
    int64_t now_us = a->before_us + tail_a_us, other_us = b->before_us + tail_b_us;
    int64_t then_us = a->before_us + tail_b_us, other_then_us = b->before_us + tail_a_us;
    return (now_us > other_us ? now_us : other_us) -
           (then_us > other_then_us ? then_us : other_then_us);
}

static void exchange(gwtf_flow *flow, struct flow_slot *a, struct flow_slot *b) {
    struct flow_slot tail = *a;
    a->out = b->out;
    a->link_us = b->link_us;
    a->rest_us = b->rest_us;
    b->out = tail.out;
    b->link_us = tail.link_us;
    b->rest_us = tail.rest_us;
    a->cost_due = b->cost_due = true;
    flow->routes_changed = true;
}

/* SLOT exchanges tails with others until none would make the dearer of both cheaper. */
static bool improve(gwtf_flow *flow, struct flow_slot *slot) {
    bool exchanged = false;
    for (size_t i = 0; i < flow->slots_count && can_exchange(flow, slot); i++) {
        struct flow_slot *other = &flow->slots[i];
        if (other == slot || other->sink != slot->sink || !can_exchange(flow, other) ||
            get_gain(slot, other) <= 0)
            continue;
        exchange(flow, slot, other);
        exchanged = true;
    }
    return exchanged;
}

void flow_balance(gwtf_flow *flow) {
    if (flow->config.objective != GWTF_FLOW_OBJECTIVE_MAX)
        return;
    if (flow->balance_at_us <= flow->now_us) {
        bool exchanged = false;
        flow->balance_at_us = GWTF_TIME_NEVER;
        for (size_t i = 0; i < flow->slots_count; i++)
            exchanged = improve(flow, &flow->slots[i]) || exchanged;
        if (exchanged && flow->balances < DOUBLINGS_MAX)
            flow->balances++;
        flow->balance_due = exchanged;
    }
    flow->balance_due = flow->balance_due || flow->routes_changed;
    if (flow->balance_due && flow->balance_at_us == GWTF_TIME_NEVER && flow->config.stage != 0) {
        uint64_t wait_us = (uint64_t)(WAIT_TICKS * flow->config.tick_us) << flow->balances;
        flow->balance_at_us = flow->now_us + 1 + (int64_t)gwtf_random_below(&flow->random, wait_us);
    }
    tell_before(flow);
}

gwtf_time_us flow_balance_deadline(const gwtf_flow *flow) {
    return flow->balance_at_us;
}
