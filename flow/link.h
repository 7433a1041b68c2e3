/*
 * Connections: makes of a transport that loses, doubles, delays and reorders messages one that
 * delivers each once and in order. Each side numbers its connections to a peer (session); a message
 * counts only when both numbers fit, so that what is left over from before a peer was down does no
 * harm. A side that sees a higher number than it knew forgets the connection and what was shared.
 *
 * Selective repeat: what comes out of order is kept, and only what is missing is sent again, at
 * once where later messages have arrived (RFC 6675, in the small), else after a measured round trip
 * (RFC 6298); retries slow down to one in 16 of these. Acknowledgements ride on other messages;
 * figures, which nobody waits for, are acknowledged late, so that more of them do.
 *
 * The messages of all peers lie in one pool. A peer may hold many while few are taken, and at least
 * one in any case.
 */
#ifndef GWTF_FLOW_LINK_H
#define GWTF_FLOW_LINK_H

#include "flow/state.h"

/* The pool and the heap for neighbours_max peers. False: no memory; flow_link_destroy frees. */
bool flow_link_create(gwtf_flow *flow);
void flow_link_destroy(gwtf_flow *flow);

/* What flow_link_emit can have to send at one time, to so many peers. */
size_t flow_link_sends_max(uint32_t peers);

/* Sets up the connection of PEER, a new entry; a BARE message to open it is sent by flow_link_emit.
 */
void flow_link_open(gwtf_flow *flow, struct flow_peer *peer);
/* Before PEER's entry becomes free. */
void flow_link_close(gwtf_flow *flow, struct flow_peer *peer);

/* Room for a message that is not an answer. When there is none, here and below, the policy's turn
 * comes again as soon as the peer has acknowledged something. */
bool flow_link_has_room(const struct flow_peer *peer);
/* Always so for a peer that keeps to the bound of requests under way. */
bool flow_link_has_room_for_answer(const struct flow_peer *peer);

/* Queues a copy of BODY. The caller has seen that there is room. */
void flow_link_send(gwtf_flow *flow, struct flow_peer *peer, const struct gwtf_flow_message *body);

enum flow_link_result {
    FLOW_LINK_NOTHING, /* no body, an old one or an early one */
    FLOW_LINK_BODY,    /* the next one in order: act on it, then on what flow_link_next says */
    FLOW_LINK_NEW      /* the peer has begun anew: what was shared with it is gone. No body */
};
enum flow_link_result flow_link_receive(gwtf_flow *flow, struct flow_peer *peer,
                                        const struct gwtf_flow_message *message);
/* True: what had come early is next in order, and copied to MESSAGE. */
bool flow_link_next(gwtf_flow *flow, struct flow_peer *peer, struct gwtf_flow_message *message);

/* Everything that is due now to UPDATE, as far as it fits. */
void flow_link_emit(gwtf_flow *flow, struct gwtf_flow_update *update);

/* When flow_link_emit is due next. */
gwtf_time_us flow_link_deadline(const gwtf_flow *flow);

/* NULL, or what is wrong with PEER's connection. */
const char *flow_link_check(const gwtf_flow *flow, const struct flow_peer *peer);

#endif
