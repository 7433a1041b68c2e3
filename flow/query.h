/* What the flow table says about routes: the policies' own get_routes, get_next and
 * get_alternatives where flows are held in slots. */
#ifndef GWTF_FLOW_QUERY_H
#define GWTF_FLOW_QUERY_H

#include "flow/state.h"

size_t flow_get_routes(const gwtf_flow *flow, struct gwtf_flow_route *routes, size_t routes_max);
gwtf_node_id flow_get_next(const gwtf_flow *flow, gwtf_flow_id flow_id, gwtf_flow_id *next_id);
size_t flow_get_alternatives(const gwtf_flow *flow, gwtf_node_id sink, gwtf_node_id *hops,
                             size_t hops_max);

#endif
