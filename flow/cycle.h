/*
 * Policy gwtf: finds a negative cycle of the residual graph and changes the flows along it.
 *
 * A scan starts at a vertex whose value has passed it before, and follows the arcs by which
 * vertices got their values, against their direction. It changes nothing, and vanishes where the
 * arcs end. Where it comes back to a vertex, a search starts that goes the same way: TRACE_MORE to
 * a node that would send one more flow to the sender, TRACE_LESS to a node that would send one
 * less. Each node on the way locks what the change would need: an unused unit of capacity, an
 * inflow, an outflow. A search that comes back to its start with a negative sum has found a cycle;
 * any other end, a lock that is held, and a return to a node on the way make it ABORT: locks are
 * released the way that it came. Then the change itself goes round in the same direction, from node
 * to node: ATTACH says that the receiver's flow goes to the sender from now on, DROP that the
 * sender's flow to the receiver ends. Each node changes its own slots in one step, so that nowhere
 * more capacity is ever reserved than there is, and every flow leads to its sink after each of
 * them. What is cut off by a failure in between is left to flow/repair.h.
 */
#ifndef GWTF_FLOW_CYCLE_H
#define GWTF_FLOW_CYCLE_H

#include "flow/state.h"

/* Starts the scans that are due, and gives up those whose time is over. */
void flow_search(gwtf_flow *flow);

/* SCAN_MORE, SCAN_LESS, TRACE_MORE, TRACE_LESS, ABORT, ATTACH and DROP from PEER. */
void flow_take_scan(gwtf_flow *flow, const struct gwtf_flow_message *message);
void flow_take_trace(gwtf_flow *flow, struct flow_peer *peer,
                     const struct gwtf_flow_message *message);
void flow_take_abort(gwtf_flow *flow, struct flow_peer *peer,
                     const struct gwtf_flow_message *message);
void flow_take_commit(gwtf_flow *flow, struct flow_peer *peer,
                      const struct gwtf_flow_message *message);

gwtf_time_us flow_search_deadline(const gwtf_flow *flow);

#endif
