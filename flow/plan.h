/*
 * Policy gwtf with several data nodes: a plan of all flows, negotiated by prices, before they are
 * made.
 *
 * Searches better one data node's flows at a time; what several contend for they leave to whoever
 * came first. So while the flows that the request flow has built are in use, the nodes plan others.
 * A planned flow takes no capacity: more may pass a node than it can carry. Then the node's price
 * rises, and falls when there is room (subgradient steps for the Lagrangian dual of the capacities;
 * Nair's negotiation for the wires of a chip, 1987, and McMurchie and Ebeling, PathFinder, 1995, do
 * the like). Every node sends each planned flow on over the cheapest next hop: link + price there +
 * the way on from there, all told by neighbours. An ask says what its sender expects to pay;
 * who has become dearer refuses. The old hop is left when the new one is taken.
 *
 * A data node plans a flow as long as it costs less than a limit, which the data nodes raise
 * together until nearly all of the flows in use are planned, or half of the time is up. Prices move
 * ever less, what is planned above a node's capacity costs ever more, and plans come to rest within
 * capacities.
 * When the negotiation is over, data nodes give up what they have and admit the planned flows hop
 * by hop; what no longer fits is dropped. Searches perfect the rest.
 */
#ifndef GWTF_FLOW_PLAN_H
#define GWTF_FLOW_PLAN_H

#include "flow/state.h"

/* False: no memory. */
bool flow_plan_create(gwtf_flow *flow);
void flow_plan_destroy(gwtf_flow *flow); /* also after flow_plan_create has failed */

/* Flows are planned, and will be made. */
bool flow_plan_is_active(const gwtf_flow *flow);
/* They are being made: searches wait. */
bool flow_plan_is_admitting(const gwtf_flow *flow);

/* Does what is due, as far as queues have room. */
void flow_plan_advance(gwtf_flow *flow);
gwtf_time_us flow_plan_deadline(const gwtf_flow *flow);

/* Is a planned flow shared with PEER, or asked for? */
bool flow_plan_shares(const gwtf_flow *flow, const struct flow_peer *peer);
/* PEER is gone or has begun anew. */
void flow_plan_lose_peer(gwtf_flow *flow, const struct flow_peer *peer);

/* A message of a kind FLOW_MESSAGE_PLAN_... */
void flow_plan_take(gwtf_flow *flow, struct flow_peer *peer,
                    const struct gwtf_flow_message *message);

/* For the checker: a constant text, or NULL. */
const char *flow_plan_find_fault(const gwtf_flow *flow);

#endif
