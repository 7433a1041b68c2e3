/* What the flow table says about routes: the policies' own get_routes, get_next and
 * get_alternatives where flows are held in slots. */
#ifndef GWTF_FLOW_QUERY_H
#define GWTF_FLOW_QUERY_H

#include "flow/state.h"

size_t flow_get_routes(const gwtf_flow *flow, struct gwtf_flow_route *routes, size_t routes_max);
gwtf_node_id flow_get_next(const gwtf_flow *flow, gwtf_flow_id flow_id, gwtf_flow_id *next_id);
size_t flow_get_alternatives(const gwtf_flow *flow, gwtf_node_id sink, gwtf_node_id *hops,
                             size_t hops_max);

/* For policies with an order of their own among next hops: strict and total. */
typedef bool flow_hop_order(const gwtf_flow *flow, const struct flow_peer *a,
                            const struct flow_peer *b);
typedef bool flow_hop_filter(const gwtf_flow *flow, const struct flow_peer *peer);

/* The first of the hops that are OPEN and come behind AFTER (NULL: of all); NULL: there is none. */
const struct flow_peer *flow_first_hop(const gwtf_flow *flow, const struct flow_peer *after,
                                       flow_hop_filter *is_open, flow_hop_order *is_before);
/* gwtf_flow_alternatives by that. */
size_t flow_list_hops(const gwtf_flow *flow, gwtf_node_id sink, flow_hop_filter *is_open,
                      flow_hop_order *is_before, gwtf_node_id *hops, size_t hops_max);

#endif
