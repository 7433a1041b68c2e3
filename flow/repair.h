/*
 * Repair: what happens to flows when a neighbour, a link or capacity goes. An inflow without
 * outflow looks for another next hop for a bounded time and is then pushed back; an outflow without
 * inflow is offered again and, when nobody takes it, released. Neighbours compare from time to time
 * what they share.
 */
#ifndef GWTF_FLOW_REPAIR_H
#define GWTF_FLOW_REPAIR_H

#include "flow/state.h"

/* Starts or stops the slot's patience, after one of its ends has changed. */
void flow_set_patience(gwtf_flow *flow, struct flow_slot *slot);

/* Gives up both ends of a slot, one end; the neighbour is told as soon as there is room. */
void flow_give_up(gwtf_flow *flow, struct flow_slot *slot);
void flow_give_up_end(gwtf_flow *flow, struct flow_end *end);

/* PEER is gone or has begun anew: ends shared with it are open. */
void flow_lose_peer(gwtf_flow *flow, const struct flow_peer *peer);

/* Brings the reserved slots down to the capacity: those that serve nobody first, then the dearest.
 */
void flow_shrink(gwtf_flow *flow);

/* The link to PEER costs LINK_US from now on; FLOW_COST_NONE: it is cut. */
void flow_set_link(gwtf_flow *flow, struct flow_peer *peer, int64_t link_us);

/* CANCEL, COST, COMPARE, DIFFERS and VERIFY from PEER. */
void flow_take_cancel(gwtf_flow *flow, struct flow_peer *peer,
                      const struct gwtf_flow_message *message);
void flow_take_cost(gwtf_flow *flow, struct flow_peer *peer,
                    const struct gwtf_flow_message *message);
void flow_take_compare(gwtf_flow *flow, struct flow_peer *peer,
                       const struct gwtf_flow_message *message);
void flow_take_differs(gwtf_flow *flow, struct flow_peer *peer);
void flow_take_verify(gwtf_flow *flow, struct flow_peer *peer,
                      const struct gwtf_flow_message *message);

/* Joins inflows without outflow to outflows without inflow, and ends what has waited long enough.
 */
void flow_repair(gwtf_flow *flow);

/* Gives up flows of which the rest is given up and no other way is asked for. */
void flow_give_up_broken(gwtf_flow *flow);

/* Queues the CANCEL, COST, VERIFY and COMPARE that are due, as far as there is room. */
void flow_tell(gwtf_flow *flow);

/* Does a slot wait for a next hop, an answer, or something that it has to tell? */
bool flow_waits(const gwtf_flow *flow);

/* When flow_repair or flow_tell has something to do next. */
gwtf_time_us flow_repair_deadline(const gwtf_flow *flow);

#endif
