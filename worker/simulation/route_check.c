/* What must hold in a route simulation, and what its flows add up to. */
#include "worker/simulation/route_state.h"

#include <inttypes.h>
#include <stdio.h>

/* The checker compares every flow with every other: of nodes with a larger capacity than the root
 * of this not every step is looked at. */
#define CHECK_SQUARE 1024

static void fail(struct gwtf_route *route, gwtf_node_id node, const char *what) {
    if (route->failure[0] == '\0')
        snprintf(route->failure, sizeof route->failure, "round %.3f, node %" PRIu32 ": %s",
                 (double)route->now_us / GWTF_ROUTE_TICK_US, node, what);
}

static const char *find_fault(const struct gwtf_route *route, gwtf_node_id node,
                              const struct gwtf_flow_hop *hop) {
    const gwtf_flow_instance *instance = route->instance;
    uint32_t stage = gwtf_flow_instance_stage(instance, node);
    if (hop->sink >= route->nodes_count || gwtf_flow_instance_stage(instance, hop->sink) != 0)
        return "a flow has a sink that is no data node";
    if (hop->from != GWTF_NODE_NONE &&
        (hop->from >= route->nodes_count || gwtf_flow_instance_stage(instance, hop->from) !=
                                                gwtf_flow_instance_previous_stage(instance, stage)))
        return "a flow comes from a node of another stage than the one before";
    if (hop->to != GWTF_NODE_NONE &&
        (hop->to >= route->nodes_count || gwtf_flow_instance_stage(instance, hop->to) !=
                                              gwtf_flow_instance_next_stage(instance, stage)))
        return "a flow goes to a node of another stage than the next";
    if (stage == 0 && hop->sink != node)
        return "a data node holds another one's flow";
    if (stage == route->stages && hop->to != GWTF_NODE_NONE && hop->to != hop->sink)
        return "a flow ends at a data node that is not its own";
    return NULL;
}

void route_check_step(struct gwtf_route *route, gwtf_node_id node, bool changed) {
    const gwtf_flow *flow = route->nodes[node].flow;
    const char *why = NULL;
    uint32_t every = route->config.check_every;
    if (every == 0)
        every = route->nodes_count <= ROUTE_SMALL_NODES
                    ? 1 + route->capacity[node] * route->capacity[node] / CHECK_SQUARE
                    : route->nodes_count | 1;
    if (route->steps % every == 0 && !gwtf_flow_check(flow, &why))
        fail(route, node, why);
    if (!changed)
        return;
    struct gwtf_flow_load load = gwtf_flow_get_load(flow);
    if (load.reserved > load.capacity)
        fail(route, node, "more flows are reserved than the capacity allows");
    /* A data node holds thousands of hops in a large instance. */
    if (route->nodes_count > ROUTE_SMALL_NODES && route->nodes[node].changes % 64 != 0)
        return;
    size_t count = gwtf_flow_hops(flow, route->hops, route->hops_max);
    for (size_t i = 0; i < count && i < route->hops_max; i++) {
        why = find_fault(route, node, &route->hops[i]);
        if (why != NULL)
            fail(route, node, why);
    }
}

/* Follows a route hop by hop; false when it does not lead over each stage back to DATA_NODE. */
static bool follow(const struct gwtf_route *route, gwtf_node_id data_node,
                   const struct gwtf_flow_route *begin, int64_t *cost) {
    gwtf_node_id from = data_node, at = begin->next;
    gwtf_flow_id id = begin->flow;
    *cost = 0;
    for (uint32_t stage = 1;; stage++) {
        if (at >= route->nodes_count || route->nodes[at].flow == NULL)
            return false;
        int32_t hop = gwtf_flow_instance_cost(route->instance, from, at);
        if (hop < 0)
            return false;
        *cost += hop;
        if (stage > route->stages)
            return at == data_node;
        if (gwtf_flow_instance_stage(route->instance, at) != stage)
            return false;
        from = at;
        at = gwtf_flow_next(route->nodes[from].flow, id, &id);
    }
}

void route_count_flows(const struct gwtf_route *route, struct gwtf_route_totals *totals) {
    uint64_t hops = 0;
    uint32_t data_nodes = 0;
    const gwtf_node_id *data = gwtf_flow_instance_stage_nodes(route->instance, 0, &data_nodes);
    totals->flow = 0;
    totals->cost = totals->max_path = 0;
    for (uint32_t i = 0; i < data_nodes; i++) {
        if (route->nodes[data[i]].flow == NULL)
            continue;
        size_t count = gwtf_flow_routes(route->nodes[data[i]].flow, route->routes, route->hops_max);
        for (size_t j = 0; j < count && j < route->hops_max; j++) {
            int64_t cost = 0;
            if (!follow(route, data[i], &route->routes[j], &cost))
                continue;
            totals->flow++;
            totals->cost += cost;
            totals->max_path = cost > totals->max_path ? cost : totals->max_path;
        }
    }
    for (gwtf_node_id i = 0; i < route->nodes_count; i++)
        if (route->nodes[i].flow != NULL)
            hops += gwtf_flow_hops(route->nodes[i].flow, NULL, 0);
    uint64_t used = (uint64_t)totals->flow * (route->stages + 2);
    totals->dangling = hops > used ? (uint32_t)(hops - used) : 0;
}
