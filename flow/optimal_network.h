/*
 * The ring of stages as one network, private to the solver: circulations of least cost, by the
 * network simplex method (Dantzig 1951; strongly feasible trees: Cunningham 1976).
 *
 * Each node is an arc from its inner to its outer half, with its capacity; each link an arc from an
 * outer to an inner half. The arc of a data node earns more than any way round costs, so that the
 * circulation of least cost is one of most flow, and among those the cheapest. What leaves a data
 * node is what comes back to it, but with several of them a flow may come back to another one than
 * its own.
 *
 * Only links that look cheap are arcs at first. Those whose reduced cost turns out to be negative
 * join them, until there is none in the whole instance: what is found then is optimal for all.
 */
#ifndef GWTF_FLOW_OPTIMAL_NETWORK_H
#define GWTF_FLOW_OPTIMAL_NETWORK_H

#include "flow/instance.h"

struct optimal_network;

/* INSTANCE must outlive the network. Errors: GWTF_ERROR_MEMORY; NETWORK untouched. */
gwtf_status optimal_network_create(const gwtf_flow_instance *instance,
                                   struct optimal_network **network);
void optimal_network_destroy(struct optimal_network *network); /* NULL is allowed */

/*
 * The best circulation for CAPACITY [nodes], which may differ from the instance's, over nodes that
 * charge PRICE [nodes] for each flow (NULL: nothing), and over links of at most what ALLOW_MOST
 * says: NULL for all, else a link is used only when TO_SOURCE[from] + cost + TO_SINK[to] is at most
 * MOST. Errors: GWTF_ERROR_MEMORY.
 */
struct optimal_task {
    const uint32_t *capacity;
    const int64_t *price;
    const int64_t *from_source_us; /* [nodes], with to_sink_us and most_us; or NULL */
    const int64_t *to_sink_us;
    int64_t most_us;
};
gwtf_status optimal_network_solve(struct optimal_network *network, const struct optimal_task *task);

/* Links with flow, of the last solution. False at the end; *AT begins with 0. */
struct optimal_link {
    gwtf_node_id from, to;
    uint32_t flow;
};
bool optimal_network_next_link(const struct optimal_network *network, size_t *at,
                               struct optimal_link *link);

/* What one more flow over NODE would save, at least 0. */
int64_t optimal_network_price(const struct optimal_network *network, gwtf_node_id node);

#endif
