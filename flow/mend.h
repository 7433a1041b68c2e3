/*
 * Policy gwtf: mends flows where a node was lost, before anybody far away has to hear of it.
 *
 * The lost node's flows leave heads, an inflow without outflow in the stage before it, and tails,
 * an outflow without inflow in the stage after it. Both tell the nodes of the lost one's stage. Who
 * of these has unused capacity and knows a tail offers the heads a way to it, and each head asks
 * the cheapest; which head goes on by which tail does not matter. All else stays as it is. What
 * cannot be mended in little more than a tick, in which all neighbours are taken to notice the
 * loss, is left to flow/request.h and flow/repair.h.
 */
#ifndef GWTF_FLOW_MEND_H
#define GWTF_FLOW_MEND_H

#include "flow/state.h"

/* PEER is about to be lost: its flows are to be mended. */
void flow_mend_after(gwtf_flow *flow, const struct flow_peer *peer);

/* MEND_HEAD, MEND_TAIL and MEND_OFFER from PEER. */
void flow_take_mend(gwtf_flow *flow, const struct flow_peer *peer,
                    const struct gwtf_flow_message *message);

/* Tells what is to be mended, and asks where there are offers. */
void flow_mend(gwtf_flow *flow);

/* SLOT's way on is to be found here and nowhere else, as yet. */
bool flow_slot_is_mended(const gwtf_flow *flow, const struct flow_slot *slot);
/* So it is with some slot. */
bool flow_is_mending(const gwtf_flow *flow);

gwtf_time_us flow_mend_deadline(const gwtf_flow *flow);

#endif
