/*
 * Policies swarm and swarm-greedy: each sender orders the nodes of the next stage in a queue of its
 * own, and a microbatch goes to the first. Nothing is negotiated, unless flows are to be reserved
 * (config.reserve). They differ in the order and in what feedback does to it.
 */
#ifndef GWTF_FLOW_WIRING_H
#define GWTF_FLOW_WIRING_H

#include "flow/query.h"

/* Beside each peer. */
struct wiring_peer {
    bool banned;                   /* has erred; until it is announced again */
    gwtf_time_us refused_until_us; /* has refused */
    uint32_t refusals;             /* of reservations, in a row */
    /* swarm */
    int64_t priority_us; /* sum of the expected times of what it was sent */
    uint64_t tie;        /* drawn whenever the priority is set */
    double average_us;   /* of response times, not yet adjusted */
    uint32_t updates;
    gwtf_time_us done_us; /* when it last did something */
};

struct flow_wiring {
    flow_hop_order *is_before;
    struct wiring_peer *peers; /* [neighbours_max] */
};

/* A create. */
bool wiring_create(gwtf_flow *flow, flow_hop_order *is_before);
void wiring_destroy(gwtf_flow *flow);

struct wiring_peer *wiring_of(const gwtf_flow *flow, const struct flow_peer *peer);
/* May be sent to, reserved or not: of the next stage, link known, not banned. */
bool wiring_is_open(const gwtf_flow *flow, const struct flow_peer *peer);

/* Operations of the policies' tables. */
void wiring_note_news(gwtf_flow *flow);
void wiring_lose_peer(gwtf_flow *flow, const struct flow_peer *peer);
void wiring_take_message(gwtf_flow *flow, struct flow_peer *peer,
                         const struct gwtf_flow_message *message);
gwtf_time_us wiring_get_deadline(const gwtf_flow *flow);
size_t wiring_get_routes(const gwtf_flow *flow, struct gwtf_flow_route *routes, size_t routes_max);
gwtf_node_id wiring_get_next(const gwtf_flow *flow, gwtf_flow_id flow_id, gwtf_flow_id *next_id);
size_t wiring_get_alternatives(const gwtf_flow *flow, gwtf_node_id sink, gwtf_node_id *hops,
                               size_t hops_max);

/* What the tables of both policies have alike. */
#define WIRING_OPERATIONS                                                                          \
    .destroy = wiring_destroy, .note_news = wiring_note_news, .lose_peer = wiring_lose_peer,       \
    .take_link = flow_set_link, .take_capacity = flow_shrink, .take_message = wiring_take_message, \
    .get_deadline = wiring_get_deadline, .get_routes = wiring_get_routes,                          \
    .get_next = wiring_get_next, .get_alternatives = wiring_get_alternatives, .repair_ticks = 1,   \
    .idle_ticks = 1, .release = flow_give_up, .take_on = flow_take_on

/* An advance. SEND (may be NULL) is called for each request, as for a microbatch that is sent. */
void wiring_advance(gwtf_flow *flow, void (*send)(gwtf_flow *flow, struct flow_peer *peer));

#endif
