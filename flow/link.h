/*
 * Connections: makes of a transport that loses, doubles, delays and reorders messages one that
 * delivers each once and in order. Each side numbers its connections to a peer (session); a message
 * counts only when both numbers fit, so that what is left over from before a peer was down does no
 * harm. A side that sees a higher number than it knew forgets the connection and what was shared.
 * Go-back-N with cumulative acknowledgements, which ride on other messages where they can; retries
 * slow down to one in 64 retry times.
 */
#ifndef GWTF_FLOW_LINK_H
#define GWTF_FLOW_LINK_H

#include "flow/state.h"

/* Sets up PEER's connection; a BARE message to open it is sent by flow_link_emit. */
void flow_link_open(gwtf_flow *flow, struct flow_peer *peer);

/* Room for a message that is not an answer. */
bool flow_link_has_room(const struct flow_peer *peer);
/* Always so for a peer that keeps to the bound of requests under way. */
bool flow_link_has_room_for_answer(const struct flow_peer *peer);

/* Queues a copy of BODY. The caller has seen that there is room. */
void flow_link_send(gwtf_flow *flow, struct flow_peer *peer, const struct gwtf_flow_message *body);

enum flow_link_result {
    FLOW_LINK_NOTHING, /* no body, or an old one */
    FLOW_LINK_BODY,    /* the next one in order: act on it */
    FLOW_LINK_NEW      /* the peer has begun anew: what was shared with it is gone. No body */
};
enum flow_link_result flow_link_receive(gwtf_flow *flow, struct flow_peer *peer,
                                        const struct gwtf_flow_message *message);

/* Everything that is due now to UPDATE, as far as it fits. */
void flow_link_emit(gwtf_flow *flow, struct gwtf_flow_update *update);

/* When flow_link_emit is due next. */
gwtf_time_us flow_link_deadline(const gwtf_flow *flow);

#endif
