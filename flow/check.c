/* The whole-state checker and what it may not find. */
#include "flow/link.h"
#include "flow/policy.h"
#include "flow/table.h"

static const char *check_peer(const gwtf_flow *flow, size_t index) {
    const struct flow_peer *peer = &flow->peers[index];
    if (peer->id == GWTF_NODE_NONE)
        return NULL;
    if (flow_find_peer(flow, peer->id) != peer)
        return "a neighbour is not found, or entered twice";
    if (peer->id == flow->config.self || !flow_is_neighbouring(flow, peer->stage))
        return "a neighbour is of no neighbouring stage";
    const char *why = flow_link_check(flow, peer);
    if (why != NULL)
        return why;
    uint32_t asked = 0;
    for (size_t i = 0; i < flow->slots_count; i++)
        asked += flow->slots[i].out.state == FLOW_END_ASKED && flow->slots[i].out.peer == peer->id;
    if (peer->asks > FLOW_ASKS_MAX || asked > peer->asks)
        return "more requests wait for an answer than are under way";
    if (peer->peer_session == 0 && (peer->queue_count > 0 || peer->asks > 0))
        return "something is under way without a connection";
    return NULL;
}

static const char *check_end(const gwtf_flow *flow, const struct flow_end *end) {
    if (end->state == FLOW_END_NONE)
        return NULL;
    const struct flow_peer *peer = flow_find_peer(flow, end->peer);
    if (peer == NULL)
        return "a flow is shared with a node that is no neighbour";
    if (peer->peer_session == 0)
        return "a flow is shared without a connection";
    if (end->id == GWTF_FLOW_NONE)
        return "a flow has no id";
    return NULL;
}

static const char *check_slot(const gwtf_flow *flow, const struct flow_slot *slot) {
    const char *why = check_end(flow, &slot->in);
    if (why == NULL)
        why = check_end(flow, &slot->out);
    if (why != NULL)
        return why;
    if ((slot->role == FLOW_ROLE_RELAY) != (flow->config.stage != 0))
        return "a slot has another node's role";
    if (slot->in.state == FLOW_END_ASKED)
        return "an inflow is asked for";
    if ((slot->role == FLOW_ROLE_SOURCE && slot->in.state != FLOW_END_NONE) ||
        (slot->role == FLOW_ROLE_SINK && slot->out.state != FLOW_END_NONE))
        return "a flow goes on beyond its data node";
    if (!flow_slot_is_reserved(slot))
        return NULL;
    if (slot->sink >= flow->sinks_count)
        return "a flow has no sink";
    if (slot->role != FLOW_ROLE_RELAY && flow->sinks[slot->sink] != flow->config.self)
        return "a flow returns to another data node than its own";
    if (flow_end_is_live(&slot->out) && slot->link_us < 0)
        return "a hop has a negative cost";
    if (flow->config.stage != 0 && flow->config.stage == flow->config.stages &&
        flow_end_is_live(&slot->out) && slot->out.peer != flow->sinks[slot->sink])
        return "a flow leaves the last stage for another data node than its sink";
    return NULL;
}

/* Each hop's id is held once. */
static bool ids_are_unique(const gwtf_flow *flow) {
    for (size_t i = 0; i < flow->slots_count; i++) {
        const struct flow_slot *slot = &flow->slots[i];
        for (size_t j = i + 1; j < flow->slots_count; j++) {
            const struct flow_slot *other = &flow->slots[j];
            if ((flow_end_is_live(&slot->in) && flow_end_is_live(&other->in) &&
                 slot->in.id == other->in.id) ||
                (flow_end_is_live(&slot->out) && flow_end_is_live(&other->out) &&
                 slot->out.id == other->out.id))
                return false;
        }
    }
    return true;
}

static const char *find_fault(const gwtf_flow *flow) {
    const char *why = NULL;
    if (flow->capacity > flow->config.capacity_max)
        return "the capacity is above its bound";
    for (enum flow_role role = FLOW_ROLE_RELAY; role <= FLOW_ROLE_SINK; role++)
        if (flow_reserved(flow, role) > flow->capacity)
            return "more flows are reserved than the capacity allows";
    for (size_t i = 0; i < flow->peers_count && why == NULL; i++)
        why = check_peer(flow, i);
    for (size_t i = 0; i < flow->slots_count && why == NULL; i++)
        why = check_slot(flow, &flow->slots[i]);
    if (why == NULL && flow->policy->find_fault != NULL)
        why = flow->policy->find_fault(flow);
    if (why == NULL && !ids_are_unique(flow))
        why = "two flows have the same id";
    return why;
}

bool gwtf_flow_check(const gwtf_flow *flow, const char **why) {
    const char *fault = find_fault(flow);
    if (fault != NULL && why != NULL)
        *why = fault;
    return fault == NULL;
}
