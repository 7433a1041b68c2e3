#include "flow/repair.h"

#include "flow/advertise.h"
#include "flow/link.h"
#include "flow/policy.h"
#include "flow/table.h"

static bool lacks_out(const struct flow_slot *slot) {
    return slot->role == FLOW_ROLE_RELAY && slot->in.state == FLOW_END_HELD &&
           slot->out.state != FLOW_END_HELD && !slot->answer_due;
}

static bool lacks_in(const struct flow_slot *slot) {
    return slot->role == FLOW_ROLE_RELAY && !flow_end_is_live(&slot->in) &&
           slot->out.state == FLOW_END_HELD;
}

void flow_set_patience(gwtf_flow *flow, struct flow_slot *slot) {
    flow->stirred |= FLOW_STIR_SLOTS;
    int64_t ticks = lacks_out(slot) ? flow->policy->repair_ticks : flow->policy->idle_ticks;
    if (ticks == 0 || (!lacks_out(slot) && (!lacks_in(slot) || flow->releases_left == 0)))
        slot->patience_at_us = GWTF_TIME_NEVER;
    else if (slot->patience_at_us == GWTF_TIME_NEVER)
        slot->patience_at_us = flow->now_us + ticks * flow->config.tick_us;
}

void flow_give_up_end(gwtf_flow *flow, struct flow_end *end) {
    if (!flow_end_is_live(end))
        return;
    end->state = FLOW_END_CLOSING;
    flow->routes_changed = true;
}

void flow_give_up(gwtf_flow *flow, struct flow_slot *slot) {
    flow_give_up_end(flow, &slot->in);
    flow_give_up_end(flow, &slot->out);
    slot->held = slot->answer_due = false;
    slot->patience_at_us = GWTF_TIME_NEVER;
}

/* END is open from now on, without a word to its peer. */
static void open_end(gwtf_flow *flow, struct flow_slot *slot, struct flow_end *end) {
    end->state = FLOW_END_NONE;
    end->verify_due = end->whole = false;
    if (end == &slot->in)
        slot->answer_due = false;
    slot->patience_at_us = GWTF_TIME_NEVER;
    flow_set_patience(flow, slot);
    flow->routes_changed = true;
    flow_note_change(flow);
}

void flow_lose_peer(gwtf_flow *flow, const struct flow_peer *peer) {
    for (size_t i = 0; i < flow->slots_count; i++) {
        struct flow_slot *slot = &flow->slots[i];
        if (slot->in.state != FLOW_END_NONE && slot->in.peer == peer->id)
            open_end(flow, slot, &slot->in);
        if (slot->out.state != FLOW_END_NONE && slot->out.peer == peer->id)
            open_end(flow, slot, &slot->out);
    }
}

/* How little is lost with the slot: higher goes first. */
static int64_t get_expendability(const struct flow_slot *slot) {
    if (!flow_slot_is_complete(slot))
        return FLOW_COST_NONE;
    int64_t cost_us = flow_slot_cost(slot);
    return cost_us == FLOW_COST_NONE ? FLOW_COST_NONE - 1 : cost_us;
}

static void shrink_role(gwtf_flow *flow, enum flow_role role) {
    for (uint32_t left = flow_reserved(flow, role); left > flow->capacity; left--) {
        struct flow_slot *worst = NULL;
        for (size_t i = 0; i < flow->slots_count; i++) {
            struct flow_slot *slot = &flow->slots[i];
            if (slot->role == role && flow_slot_is_reserved(slot) &&
                (worst == NULL || get_expendability(slot) > get_expendability(worst)))
                worst = slot;
        }
        flow_give_up(flow, worst);
    }
}

void flow_shrink(gwtf_flow *flow) {
    shrink_role(flow, FLOW_ROLE_RELAY);
    shrink_role(flow, FLOW_ROLE_SOURCE);
    shrink_role(flow, FLOW_ROLE_SINK);
}

void flow_set_link(gwtf_flow *flow, struct flow_peer *peer, int64_t link_us) {
    peer->link_us = link_us;
    flow_note_ways(flow);
    for (size_t i = 0; i < flow->slots_count; i++) {
        struct flow_slot *slot = &flow->slots[i];
        if (!flow_end_is_live(&slot->out) || slot->out.peer != peer->id)
            continue;
        flow->routes_changed = true;
        if (link_us == FLOW_COST_NONE) {
            flow_give_up_end(flow, &slot->out);
            flow_set_patience(flow, slot);
        } else {
            slot->link_us = link_us;
            slot->cost_due = slot->in.state == FLOW_END_HELD;
        }
    }
}

void flow_take_cancel(gwtf_flow *flow, struct flow_peer *peer,
                      const struct gwtf_flow_message *message) {
    struct flow_slot *slot = flow_find_in(flow, peer->id, message->flow);
    bool whole = message->limit == 1;
    if (slot != NULL) {
        open_end(flow, slot, &slot->in);
        slot->in.whole = whole;
    }
    slot = flow_find_out(flow, peer->id, message->flow);
    if (slot != NULL) {
        open_end(flow, slot, &slot->out);
        slot->out.whole = whole;
    }
}

void flow_take_cost(gwtf_flow *flow, struct flow_peer *peer,
                    const struct gwtf_flow_message *message) {
    struct flow_slot *slot = flow_find_out(flow, peer->id, message->flow);
    if (slot == NULL || slot->rest_us == message->cost_us)
        return;
    slot->rest_us = message->cost_us;
    slot->cost_due = slot->in.state == FLOW_END_HELD;
    flow->routes_changed = true;
}

/* How many flows go to (OUTWARD) or come from PEER, and a number that depends on all their ids. */
static uint32_t combine(const gwtf_flow *flow, const struct flow_peer *peer, bool outward,
                        gwtf_flow_id *ids) {
    uint32_t count = 0;
    *ids = 0;
    for (size_t i = 0; i < flow->slots_count; i++) {
        const struct flow_end *end = outward ? &flow->slots[i].out : &flow->slots[i].in;
        if (!flow_end_is_live(end) || end->peer != peer->id)
            continue;
        count++;
        *ids += gwtf_random_at(end->id, 0);
    }
    return count;
}

static void verify_all(gwtf_flow *flow, const struct flow_peer *peer) {
    for (size_t i = 0; i < flow->slots_count; i++) {
        struct flow_slot *slot = &flow->slots[i];
        if (slot->in.state == FLOW_END_HELD && slot->in.peer == peer->id)
            slot->in.verify_due = true;
        if (slot->out.state == FLOW_END_HELD && slot->out.peer == peer->id)
            slot->out.verify_due = true;
    }
}

void flow_take_compare(gwtf_flow *flow, struct flow_peer *peer,
                       const struct gwtf_flow_message *message) {
    gwtf_flow_id ids;
    uint32_t count = combine(flow, peer, false, &ids);
    if ((count == message->count && ids == message->flow) || !flow_link_has_room_for_answer(peer))
        return;
    struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_DIFFERS};
    flow_link_send(flow, peer, &body);
    verify_all(flow, peer);
}

void flow_take_differs(gwtf_flow *flow, struct flow_peer *peer) {
    verify_all(flow, peer);
}

void flow_take_verify(gwtf_flow *flow, struct flow_peer *peer,
                      const struct gwtf_flow_message *message) {
    if (flow_find_in(flow, peer->id, message->flow) != NULL ||
        flow_find_out(flow, peer->id, message->flow) != NULL || !flow_link_has_room(peer))
        return;
    struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_CANCEL, .flow = message->flow};
    flow_link_send(flow, peer, &body);
}

/* An inflow that waits takes the outflow of a slot to the same sink that has no inflow. */
static void join(gwtf_flow *flow, struct flow_slot *open) {
    for (size_t i = 0; i < flow->slots_count; i++) {
        struct flow_slot *idle = &flow->slots[i];
        if (!lacks_in(idle) || flow_slot_is_locked(idle) || idle->sink != open->sink ||
            open->out.state != FLOW_END_NONE)
            continue;
        open->out = idle->out;
        open->link_us = idle->link_us;
        open->rest_us = idle->rest_us;
        open->cost_due = true;
        open->patience_at_us = GWTF_TIME_NEVER;
        idle->out.state = FLOW_END_NONE;
        idle->patience_at_us = GWTF_TIME_NEVER;
        flow->routes_changed = true;
    }
}

static void lose_patience(gwtf_flow *flow, struct flow_slot *slot) {
    slot->patience_at_us = GWTF_TIME_NEVER;
    slot->in.whole = slot->out.whole = flow->policy->gives_up_whole;
    if (lacks_out(slot)) {
        flow_give_up(flow, slot);
    } else if (lacks_in(slot)) {
        flow->policy->release(flow, slot);
    }
}

void flow_repair(gwtf_flow *flow) {
    for (size_t i = 0; i < flow->slots_count; i++) {
        struct flow_slot *slot = &flow->slots[i];
        if (lacks_out(slot) && slot->out.state == FLOW_END_NONE && !flow_slot_is_locked(slot))
            join(flow, slot);
        if (slot->patience_at_us <= flow->now_us)
            lose_patience(flow, slot);
    }
}

void flow_give_up_broken(gwtf_flow *flow) {
    for (size_t i = 0; i < flow->slots_count; i++) {
        struct flow_slot *slot = &flow->slots[i];
        bool head = slot->out.whole && lacks_out(slot) && slot->out.state == FLOW_END_NONE;
        bool tail = slot->in.whole && lacks_in(slot) && slot->in.state == FLOW_END_NONE;
        if ((head || tail) && !flow_slot_is_locked(slot))
            lose_patience(flow, slot);
    }
}

/* Queues a message about END when there is room. */
static bool tell_end(gwtf_flow *flow, const struct flow_end *end, enum flow_message_kind kind,
                     int64_t cost_us) {
    struct flow_peer *peer = flow_find_peer(flow, end->peer);
    if (peer == NULL || !flow_link_has_room(peer))
        return false;
    struct gwtf_flow_message body = {.kind = kind,
                                     .flow = end->id,
                                     .cost_us = cost_us,
                                     .limit = kind == FLOW_MESSAGE_CANCEL && end->whole ? 1 : 0};
    flow_link_send(flow, peer, &body);
    return true;
}

static void tell_slot(gwtf_flow *flow, struct flow_slot *slot) {
    struct flow_end *ends[] = {&slot->in, &slot->out};
    for (size_t i = 0; i < 2; i++) {
        struct flow_end *end = ends[i];
        if (end->state == FLOW_END_CLOSING && tell_end(flow, end, FLOW_MESSAGE_CANCEL, 0)) {
            end->state = FLOW_END_NONE;
            end->verify_due = end->whole = false;
        }
        if (end->state == FLOW_END_HELD && end->verify_due &&
            tell_end(flow, end, FLOW_MESSAGE_VERIFY, 0))
            end->verify_due = false;
    }
    if (slot->cost_due && slot->in.state != FLOW_END_HELD)
        slot->cost_due = false;
    if (slot->cost_due && flow_slot_cost(slot) != FLOW_COST_NONE &&
        tell_end(flow, &slot->in, FLOW_MESSAGE_COST, flow_slot_cost(slot)))
        slot->cost_due = false;
}

static void compare(gwtf_flow *flow, struct flow_peer *peer) {
    struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_COMPARE};
    body.count = combine(flow, peer, true, &body.flow);
    if (!flow_link_has_room(peer))
        return;
    flow_link_send(flow, peer, &body);
    peer->compare_at_us = flow->now_us + FLOW_COMPARE_TICKS * flow->config.tick_us;
}

bool flow_waits(const gwtf_flow *flow) {
    for (size_t i = 0; i < flow->slots_count; i++) {
        const struct flow_slot *slot = &flow->slots[i];
        if (lacks_out(slot) || slot->answer_due || slot->cost_due ||
            slot->in.state == FLOW_END_CLOSING || slot->out.state == FLOW_END_CLOSING)
            return true;
    }
    return false;
}

void flow_tell(gwtf_flow *flow) {
    for (size_t i = 0; i < flow->slots_count; i++)
        tell_slot(flow, &flow->slots[i]);
    for (size_t i = 0; i < flow->peers_count; i++) {
        struct flow_peer *peer = &flow->peers[i];
        if (flow_is_usable(flow, peer) && peer->compare_at_us <= flow->now_us)
            compare(flow, peer);
    }
}

gwtf_time_us flow_repair_deadline(const gwtf_flow *flow) {
    gwtf_time_us deadline = GWTF_TIME_NEVER;
    for (size_t i = 0; i < flow->slots_count; i++)
        if (flow->slots[i].patience_at_us < deadline)
            deadline = flow->slots[i].patience_at_us;
    for (size_t i = 0; i < flow->peers_count; i++)
        /* Where there is no room, what makes room is a step too. */
        if (flow_is_usable(flow, &flow->peers[i]) && flow_link_has_room(&flow->peers[i]) &&
            flow->peers[i].compare_at_us < deadline)
            deadline = flow->peers[i].compare_at_us;
    return deadline;
}
