/* What the worker reads from the flow table. */
#include "flow/flow.h"

#include "flow/policy.h"
#include "flow/query.h"
#include "flow/table.h"

static int64_t add(int64_t a, int64_t b) {
    return a == FLOW_COST_NONE || b == FLOW_COST_NONE ? FLOW_COST_NONE : a + b;
}

size_t flow_get_routes(const gwtf_flow *flow, struct gwtf_flow_route *routes, size_t routes_max) {
    size_t count = 0;
    for (size_t i = 0; i < flow->slots_count; i++) {
        const struct flow_slot *slot = &flow->slots[i];
        if (slot->role != FLOW_ROLE_SOURCE || slot->out.state != FLOW_END_HELD)
            continue;
        struct gwtf_flow_route route = {slot->out.id, slot->out.peer, flow_slot_cost(slot)};
        /* The dearest fall out when there are too many. */
        size_t at = count < routes_max ? count : routes_max;
        for (; at > 0 &&
               (routes[at - 1].cost_us > route.cost_us ||
                (routes[at - 1].cost_us == route.cost_us && routes[at - 1].flow > route.flow));
             at--)
            if (at < routes_max)
                routes[at] = routes[at - 1];
        if (at < routes_max)
            routes[at] = route;
        count++;
    }
    return count;
}

gwtf_node_id flow_get_next(const gwtf_flow *flow, gwtf_flow_id flow_id, gwtf_flow_id *next_id) {
    for (size_t i = 0; i < flow->slots_count; i++) {
        const struct flow_slot *slot = &flow->slots[i];
        if (slot->role != FLOW_ROLE_RELAY || slot->in.state != FLOW_END_HELD ||
            slot->in.id != flow_id || slot->out.state != FLOW_END_HELD)
            continue;
        if (next_id != NULL)
            *next_id = slot->out.id;
        return slot->out.peer;
    }
    return GWTF_NODE_NONE;
}

struct candidate {
    bool offers;
    int64_t cost_us;
    gwtf_node_id id;
};

static bool comes_before(const struct candidate *a, const struct candidate *b) {
    if (a->offers != b->offers)
        return a->offers;
    if (a->cost_us != b->cost_us)
        return a->cost_us < b->cost_us;
    return a->id < b->id;
}

static bool get_candidate(const gwtf_flow *flow, const struct flow_peer *peer, size_t sink,
                          struct candidate *candidate) {
    if (peer->id == GWTF_NODE_NONE || peer->link_us == FLOW_COST_NONE || !flow_is_next(flow, peer))
        return false;
    candidate->id = peer->id;
    candidate->offers = sink < flow->sinks_count && peer->figures[sink].offer.count > 0;
    int64_t rest_us = FLOW_COST_NONE;
    if (sink < flow->sinks_count)
        rest_us =
            candidate->offers ? peer->figures[sink].offer.cost_us : peer->figures[sink].distance_us;
    candidate->cost_us = add(peer->link_us, rest_us);
    return true;
}

size_t flow_get_alternatives(const gwtf_flow *flow, gwtf_node_id sink, gwtf_node_id *hops,
                             size_t hops_max) {
    if (flow->config.stage != 0 && flow->config.stage == flow->config.stages) {
        if (hops_max > 0)
            hops[0] = sink;
        return 1;
    }
    size_t index = 0;
    while (index < flow->sinks_count && flow->sinks[index] != sink)
        index++;
    /* Picks the next in order again and again: no memory, and hops are few. */
    size_t count = 0;
    struct candidate last = {true, -1, 0};
    for (;;) {
        bool found = false;
        struct candidate best, candidate;
        for (size_t i = 0; i < flow->peers_count; i++) {
            if (!get_candidate(flow, &flow->peers[i], index, &candidate) ||
                !comes_before(&last, &candidate) || (found && !comes_before(&candidate, &best)))
                continue;
            best = candidate;
            found = true;
        }
        if (!found)
            return count;
        if (count < hops_max)
            hops[count] = best.id;
        last = best;
        count++;
    }
}

const struct flow_peer *flow_first_hop(const gwtf_flow *flow, const struct flow_peer *after,
                                       flow_hop_filter *is_open, flow_hop_order *is_before) {
    const struct flow_peer *first = NULL;
    for (size_t i = 0; i < flow->peers_count; i++) {
        const struct flow_peer *peer = &flow->peers[i];
        if (is_open(flow, peer) && (after == NULL || is_before(flow, after, peer)) &&
            (first == NULL || is_before(flow, peer, first)))
            first = peer;
    }
    return first;
}

size_t flow_list_hops(const gwtf_flow *flow, gwtf_node_id sink, flow_hop_filter *is_open,
                      flow_hop_order *is_before, gwtf_node_id *hops, size_t hops_max) {
    if (flow->config.stage != 0 && flow->config.stage == flow->config.stages) {
        if (hops_max > 0)
            hops[0] = sink;
        return 1;
    }
    size_t count = 0;
    const struct flow_peer *hop = NULL;
    while ((hop = flow_first_hop(flow, hop, is_open, is_before)) != NULL) {
        if (count < hops_max)
            hops[count] = hop->id;
        count++;
    }
    return count;
}

size_t gwtf_flow_routes(const gwtf_flow *flow, struct gwtf_flow_route *routes, size_t routes_max) {
    return flow->policy->get_routes(flow, routes, routes_max);
}

gwtf_node_id gwtf_flow_next(const gwtf_flow *flow, gwtf_flow_id flow_id, gwtf_flow_id *next_id) {
    return flow->policy->get_next(flow, flow_id, next_id);
}

size_t gwtf_flow_alternatives(const gwtf_flow *flow, gwtf_node_id sink, gwtf_node_id *hops,
                              size_t hops_max) {
    return flow->policy->get_alternatives(flow, sink, hops, hops_max);
}

struct gwtf_flow_load gwtf_flow_get_load(const gwtf_flow *flow) {
    enum flow_role role = flow->config.stage == 0 ? FLOW_ROLE_SOURCE : FLOW_ROLE_RELAY;
    struct gwtf_flow_load load = {flow->capacity, flow_reserved(flow, role), 0};
    for (size_t i = 0; i < flow->slots_count; i++)
        load.complete += flow->slots[i].role == role && flow_slot_is_complete(&flow->slots[i]);
    return load;
}

size_t gwtf_flow_hops(const gwtf_flow *flow, struct gwtf_flow_hop *hops, size_t hops_max) {
    size_t count = 0;
    for (size_t i = 0; i < flow->slots_count; i++) {
        const struct flow_slot *slot = &flow->slots[i];
        bool in = slot->in.state == FLOW_END_HELD, out = slot->out.state == FLOW_END_HELD;
        if (!in && !out)
            continue;
        struct gwtf_flow_hop hop = {flow->sinks[slot->sink],
                                    in ? slot->in.peer : GWTF_NODE_NONE,
                                    in ? slot->in.id : GWTF_FLOW_NONE,
                                    out ? slot->out.peer : GWTF_NODE_NONE,
                                    out ? slot->out.id : GWTF_FLOW_NONE,
                                    out ? slot->link_us : 0};
        if (count < hops_max)
            hops[count] = hop;
        count++;
    }
    return count;
}

bool gwtf_flow_is_busy(const gwtf_flow *flow) {
    return flow->policy->is_busy != NULL && flow->policy->is_busy(flow);
}
