/* The request flow: a node that needs a way on asks the cheapest next hop that has one to offer. */
#ifndef GWTF_FLOW_REQUEST_H
#define GWTF_FLOW_REQUEST_H

#include "flow/state.h"

/* Asks for every slot that needs an outflow, and for capacity that is left, as long as there are
 * offers and room in the queues. */
void flow_request_all(gwtf_flow *flow);

/* REQUEST, ACCEPT and REJECT from PEER. */
void flow_take_request(gwtf_flow *flow, struct flow_peer *peer,
                       const struct gwtf_flow_message *message);
void flow_take_answer(gwtf_flow *flow, struct flow_peer *peer,
                      const struct gwtf_flow_message *message);

#endif
