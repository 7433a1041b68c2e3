#include "flow/table.h"

#include "flow/policy.h"

struct flow_peer *flow_find_peer(const gwtf_flow *flow, gwtf_node_id id) {
    for (size_t i = 0; i < flow->peers_count; i++)
        if (flow->peers[i].id == id && id != GWTF_NODE_NONE)
            return &flow->peers[i];
    return NULL;
}

bool flow_is_previous(const gwtf_flow *flow, const struct flow_peer *peer) {
    if (flow->config.stage == 0)
        return peer->stage == flow->config.stages;
    return peer->stage == flow->config.stage - 1;
}

bool flow_is_next(const gwtf_flow *flow, const struct flow_peer *peer) {
    if (flow->config.stage == flow->config.stages)
        return peer->stage == 0;
    return peer->stage == flow->config.stage + 1;
}

bool flow_is_neighbouring(const gwtf_flow *flow, uint32_t stage) {
    const struct flow_peer peer = {.stage = stage};
    return flow_is_previous(flow, &peer) || flow_is_next(flow, &peer) ||
           (flow->policy->meets_replicas && stage != 0 && stage == flow->config.stage);
}

bool flow_is_usable(const gwtf_flow *flow, const struct flow_peer *peer) {
    return peer->id != GWTF_NODE_NONE && peer->peer_session != 0 &&
           peer->link_us != FLOW_COST_NONE && flow_is_next(flow, peer);
}

int64_t flow_mean_link(const gwtf_flow *flow) {
    int64_t sum_us = 0, count = 0;
    for (size_t i = 0; i < flow->peers_count; i++)
        if (flow_is_usable(flow, &flow->peers[i])) {
            sum_us += flow->peers[i].link_us;
            count++;
        }
    return count > 0 ? sum_us / count : 0;
}

uint32_t flow_sink_index(gwtf_flow *flow, gwtf_node_id id) {
    for (size_t i = 0; i < flow->sinks_count; i++)
        if (flow->sinks[i] == id)
            return (uint32_t)i;
    if (flow->sinks_count == flow->config.sinks_max)
        return flow->config.sinks_max;
    flow->sinks[flow->sinks_count] = id;
    return (uint32_t)flow->sinks_count++;
}

bool flow_end_is_live(const struct flow_end *end) {
    return end->state == FLOW_END_ASKED || end->state == FLOW_END_HELD;
}

bool flow_slot_is_reserved(const struct flow_slot *slot) {
    return flow_end_is_live(&slot->in) || flow_end_is_live(&slot->out) || slot->held;
}

bool flow_slot_is_locked(const struct flow_slot *slot) {
    return slot->held || slot->in_locked || slot->out_locked;
}

bool flow_slot_is_complete(const struct flow_slot *slot) {
    return (slot->role == FLOW_ROLE_SOURCE || slot->in.state == FLOW_END_HELD) &&
           (slot->role == FLOW_ROLE_SINK || slot->out.state == FLOW_END_HELD);
}

uint32_t flow_reserved(const gwtf_flow *flow, enum flow_role role) {
    uint32_t count = 0;
    for (size_t i = 0; i < flow->slots_count; i++)
        count += flow->slots[i].role == role && flow_slot_is_reserved(&flow->slots[i]);
    return count;
}

struct flow_slot *flow_take_slot(gwtf_flow *flow, enum flow_role role) {
    if (flow_reserved(flow, role) >= flow->capacity)
        return NULL;
    for (size_t i = 0; i < flow->slots_count; i++) {
        struct flow_slot *slot = &flow->slots[i];
        if (slot->role == role && !flow_slot_is_locked(slot) && slot->in.state == FLOW_END_NONE &&
            slot->out.state == FLOW_END_NONE)
            return slot;
    }
    return NULL;
}

struct flow_slot *flow_find_in(const gwtf_flow *flow, gwtf_node_id peer, gwtf_flow_id id) {
    for (size_t i = 0; i < flow->slots_count; i++) {
        struct flow_slot *slot = &flow->slots[i];
        if (flow_end_is_live(&slot->in) && slot->in.id == id && slot->in.peer == peer)
            return slot;
    }
    return NULL;
}

struct flow_slot *flow_find_out(const gwtf_flow *flow, gwtf_node_id peer, gwtf_flow_id id) {
    for (size_t i = 0; i < flow->slots_count; i++) {
        struct flow_slot *slot = &flow->slots[i];
        if (flow_end_is_live(&slot->out) && slot->out.id == id && slot->out.peer == peer)
            return slot;
    }
    return NULL;
}

int64_t flow_slot_cost(const struct flow_slot *slot) {
    if (slot->role == FLOW_ROLE_SINK)
        return 0;
    if (slot->out.state != FLOW_END_HELD || slot->rest_us == FLOW_COST_NONE)
        return FLOW_COST_NONE;
    return slot->link_us + slot->rest_us;
}

gwtf_time_us flow_earlier(gwtf_time_us a, gwtf_time_us b) {
    return a < b ? a : b;
}

gwtf_flow_id flow_new_id(gwtf_flow *flow) {
    return ((gwtf_flow_id)flow->config.self + 1) << 32 | ++flow->ids;
}
