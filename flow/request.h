/* The request flow: a node that needs a way on asks the cheapest next hop that has one to offer. */
#ifndef GWTF_FLOW_REQUEST_H
#define GWTF_FLOW_REQUEST_H

#include "flow/state.h"

/* Asks for flows that others rely on, but which have lost their way on. */
void flow_request_repairs(gwtf_flow *flow);

/* Asks for capacity that is left, as long as there are offers, room in the queues, and less than
 * ASKS_MAX requests without answer. */
void flow_request_new(gwtf_flow *flow, uint32_t asks_max);

/* A relay's flow that has come in and has no way on, nor a request for one. */
bool flow_needs_out(const struct flow_slot *slot);
/* Asks PEER, which has room in its queue, to take SLOT's flow to SINK for COST_US. */
void flow_ask(gwtf_flow *flow, struct flow_slot *slot, struct flow_peer *peer, uint32_t sink,
              int64_t cost_us);

/* When flow_request_new has something to do next. */
gwtf_time_us flow_request_deadline(const gwtf_flow *flow);

/* A take_on: unused capacity takes a request that no outflow is there for, and looks for a way on
 * before it answers. False: it does not. The second: only for what was offered. */
bool flow_take_on(gwtf_flow *flow, struct flow_peer *peer, uint32_t sink,
                  const struct gwtf_flow_message *message);
bool flow_take_on_offered(gwtf_flow *flow, struct flow_peer *peer, uint32_t sink,
                          const struct gwtf_flow_message *message);
/* Rejects requests so taken that no next hop is left for. */
void flow_reject_hopeless(gwtf_flow *flow);

/* REQUEST, ACCEPT and REJECT from PEER. */
void flow_take_request(gwtf_flow *flow, struct flow_peer *peer,
                       const struct gwtf_flow_message *message);
void flow_take_answer(gwtf_flow *flow, struct flow_peer *peer,
                      const struct gwtf_flow_message *message);

#endif
