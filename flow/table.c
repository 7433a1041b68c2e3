#include "flow/table.h"

#include "flow/policy.h"

#include <stdlib.h>
#include <string.h>

static uint32_t *find_place(const gwtf_flow *flow, gwtf_node_id id) {
    uint32_t at = (uint32_t)gwtf_random_at(id, 0) & flow->peer_index_mask;
    while (flow->peer_index[at] != FLOW_INDEX_NONE && flow->peers[flow->peer_index[at]].id != id)
        at = (at + 1) & flow->peer_index_mask;
    return &flow->peer_index[at];
}

struct flow_peer *flow_find_peer(const gwtf_flow *flow, gwtf_node_id id) {
    if (id == GWTF_NODE_NONE)
        return NULL;
    uint32_t index = *find_place(flow, id);
    return index == FLOW_INDEX_NONE ? NULL : &flow->peers[index];
}

struct flow_peer *flow_add_peer(gwtf_flow *flow, gwtf_node_id id) {
    uint32_t index = flow->peers_free;
    if (index == FLOW_INDEX_NONE)
        return NULL;
    struct flow_peer *peer = &flow->peers[index];
    flow->peers_free = peer->next_free;
    if (index >= flow->peers_count)
        flow->peers_count = index + 1;
    *find_place(flow, id) = index;
    peer->id = id;
    return peer;
}

void flow_remove_peer(gwtf_flow *flow, struct flow_peer *peer) {
    uint32_t mask = flow->peer_index_mask;
    uint32_t hole = (uint32_t)(find_place(flow, peer->id) - flow->peer_index);
    /* Those that found their place taken move up. */
    for (uint32_t at = (hole + 1) & mask; flow->peer_index[at] != FLOW_INDEX_NONE;
         at = (at + 1) & mask) {
        gwtf_node_id id = flow->peers[flow->peer_index[at]].id;
        uint32_t wanted = (uint32_t)gwtf_random_at(id, 0) & mask;
        if (((at - wanted) & mask) < ((at - hole) & mask))
            continue;
        flow->peer_index[hole] = flow->peer_index[at];
        hole = at;
    }
    flow->peer_index[hole] = FLOW_INDEX_NONE;
    peer->id = GWTF_NODE_NONE;
    peer->next_free = flow->peers_free;
    flow->peers_free = (uint32_t)(peer - flow->peers);
}

bool flow_table_create(gwtf_flow *flow) {
    const struct gwtf_flow_config *config = &flow->config;
    uint32_t places = 4;
    while (places < 2 * config->neighbours_max)
        places *= 2;
    flow->peer_index_mask = places - 1;
    flow->peer_index = malloc(places * sizeof *flow->peer_index);
    flow->sinks = calloc(config->sinks_max, sizeof *flow->sinks);
    flow->ways = calloc(config->sinks_max, sizeof *flow->ways);
    flow->peers = calloc(config->neighbours_max, sizeof *flow->peers);
    flow->figures =
        calloc((size_t)config->neighbours_max * config->sinks_max, sizeof *flow->figures);
    if (flow->peer_index == NULL || flow->sinks == NULL || flow->peers == NULL ||
        flow->figures == NULL || flow->ways == NULL)
        return false;
    memset(flow->peer_index, 0xff, places * sizeof *flow->peer_index);
    flow->peers_free = FLOW_INDEX_NONE;
    for (uint32_t i = config->neighbours_max; i > 0; i--) {
        struct flow_peer *peer = &flow->peers[i - 1];
        peer->id = GWTF_NODE_NONE;
        peer->figures = &flow->figures[(size_t)(i - 1) * config->sinks_max];
        peer->next_free = flow->peers_free;
        flow->peers_free = i - 1;
    }
    return true;
}

void flow_table_destroy(gwtf_flow *flow) {
    free(flow->peer_index);
    free(flow->sinks);
    free(flow->ways);
    free(flow->peers);
    free(flow->figures);
}

bool flow_is_neighbouring(const gwtf_flow *flow, uint32_t stage) {
    const struct flow_peer peer = {.stage = stage};
    return flow_is_previous(flow, &peer) || flow_is_next(flow, &peer) ||
           (flow->policy->meets_replicas && stage != 0 && stage == flow->config.stage);
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
