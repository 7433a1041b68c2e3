/* Planned flows become slots. */
#include "flow/plan_state.h"

#include "flow/link.h"
#include "flow/repair.h"
#include "flow/table.h"

/* The dearest flow from before the plan makes way. */
static bool make_way(gwtf_flow *flow, enum flow_role role) {
    for (size_t i = 0; i < flow->slots_count; i++) {
        struct flow_slot *slot = &flow->slots[i];
        if (slot->role != role || slot->planned || !flow_slot_is_reserved(slot) ||
            flow_slot_is_locked(slot))
            continue;
        flow_give_up(flow, slot);
        return true;
    }
    return false;
}

static struct flow_slot *take_slot(gwtf_flow *flow, enum flow_role role, uint32_t sink) {
    struct flow_slot *slot = flow_take_slot(flow, role);
    if (slot == NULL && make_way(flow, role))
        slot = flow_take_slot(flow, role);
    if (slot == NULL)
        return NULL;
    *slot = (struct flow_slot){.role = role,
                               .sink = sink,
                               .rest_us = FLOW_COST_NONE,
                               .planned = true,
                               .patience_at_us = GWTF_TIME_NEVER};
    flow->routes_changed = true;
    return slot;
}

/* UNIT's flow is a slot from now on. False: there is no capacity, or no way on. */
static bool admit(gwtf_flow *flow, struct plan_unit *unit) {
    struct flow_peer *out = flow_find_peer(flow, unit->out.peer);
    if (out == NULL || !flow_is_usable(flow, out))
        return false;
    struct flow_slot *slot =
        take_slot(flow, plan_is_data(flow) ? FLOW_ROLE_SOURCE : FLOW_ROLE_RELAY, unit->sink);
    if (slot == NULL)
        return false;
    if (unit->in.peer != GWTF_NODE_NONE)
        slot->in = (struct flow_end){FLOW_END_HELD, unit->in.peer, unit->in.id, false, false};
    slot->out = (struct flow_end){FLOW_END_HELD, unit->out.peer, unit->out.id, false, false};
    slot->link_us = out->link_us;
    if (unit->ask.peer != GWTF_NODE_NONE)
        plan_send_drop(flow, &unit->ask);
    unit->admitted = true;
    return true;
}

void plan_pass_admissions(gwtf_flow *flow) {
    for (size_t i = 0; i < flow->plan->units_count; i++) {
        struct plan_unit *unit = &flow->plan->units[i];
        if (!unit->admitted)
            continue;
        struct flow_peer *out = flow_find_peer(flow, unit->out.peer);
        if (out != NULL && !flow_link_has_room(out))
            continue;
        struct gwtf_flow_message body = {
            .kind = FLOW_MESSAGE_PLAN_ADMIT, .flow = unit->out.id, .sink = flow->sinks[unit->sink]};
        if (out != NULL)
            flow_link_send(flow, out, &body);
        *unit = plan_no_unit;
    }
}

void plan_begin_admission(gwtf_flow *flow) {
    struct flow_plan *plan = flow->plan;
    plan->begun = true;
    for (size_t i = 0; i < flow->slots_count; i++)
        if (flow->slots[i].role == FLOW_ROLE_SOURCE && !flow_slot_is_locked(&flow->slots[i]))
            flow_give_up(flow, &flow->slots[i]);
    for (size_t i = 0; i < plan->units_count; i++)
        if (plan->units[i].out.peer != GWTF_NODE_NONE && !admit(flow, &plan->units[i]))
            plan_release(flow, &plan->units[i]);
}

static void send_cancel(gwtf_flow *flow, struct flow_peer *peer, gwtf_flow_id id) {
    struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_CANCEL, .flow = id};
    if (flow_link_has_room_for_answer(peer))
        flow_link_send(flow, peer, &body);
}

void plan_take_admit(gwtf_flow *flow, struct flow_peer *peer,
                     const struct gwtf_flow_message *message) {
    if (plan_is_data(flow)) {
        struct flow_slot *slot =
            message->sink == flow->config.self ? take_slot(flow, FLOW_ROLE_SINK, 0) : NULL;
        if (slot == NULL) {
            send_cancel(flow, peer, message->flow);
            return;
        }
        slot->in = (struct flow_end){FLOW_END_HELD, peer->id, message->flow, false, false};
        slot->cost_due = true;
        return;
    }
    struct plan_unit *unit = plan_find_in(flow, peer->id, message->flow);
    if (unit != NULL && admit(flow, unit))
        return;
    send_cancel(flow, peer, message->flow);
    if (unit != NULL)
        plan_release(flow, unit);
}
