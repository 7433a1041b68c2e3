/* What neighbours know of each other's way to the sinks: offers, and distances as if nothing were
 * full (a distance vector over the stages, which cannot loop). */
#ifndef GWTF_FLOW_ADVERTISE_H
#define GWTF_FLOW_ADVERTISE_H

#include "flow/state.h"

/* What this node would accept for SINK now. */
struct flow_offer flow_get_offer(const gwtf_flow *flow, uint32_t sink);

/* An add_offer: unused capacity is offered too, where there is a way on from here. */
void flow_offer_unused(const gwtf_flow *flow, uint32_t sink, struct flow_offer *offer);

/* Tells the previous stage what it does not know yet, as far as queues have room. */
void flow_advertise(gwtf_flow *flow);

/* What next hops say of SINK has changed, of all sinks; or who the neighbours are. */
void flow_note_way(gwtf_flow *flow, uint32_t sink);
void flow_note_ways(gwtf_flow *flow);

/* PEER is about to be told OFFER in an answer. */
void flow_note_told(gwtf_flow *flow, struct flow_peer *peer, uint32_t sink,
                    struct flow_offer offer);

/* What PEER, a next hop, says about SINK goes here. NULL when it is none that PEER can speak of: a
 * data node knows the way to itself alone, and cares for no other. */
struct flow_figures *flow_find_figures(gwtf_flow *flow, struct flow_peer *peer, gwtf_node_id sink);

/* ADVERTISE from PEER. */
void flow_take_advertisement(gwtf_flow *flow, struct flow_peer *peer,
                             const struct gwtf_flow_message *message);

/* Nothing is known between PEER and this node. */
void flow_forget_figures(gwtf_flow *flow, struct flow_peer *peer);

#endif
