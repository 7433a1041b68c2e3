#include "flow/wiring.h"

#include "flow/link.h"
#include "flow/policy.h"
#include "flow/repair.h"
#include "flow/request.h"
#include "flow/table.h"

#include <stdlib.h>

/* One that refuses a reservation is left alone for a tick, and for twice as long each time: from
 * the seventh on 64 ticks. */
#define REFUSAL_DOUBLINGS_MAX 6u

static struct flow_wiring *get(const gwtf_flow *flow) {
    return flow->own;
}

bool wiring_create(gwtf_flow *flow, flow_hop_order *is_before) {
    struct flow_wiring *wiring = flow->own = calloc(1, sizeof *wiring);
    if (wiring == NULL)
        return false;
    wiring->is_before = is_before;
    wiring->peers = calloc(flow->config.neighbours_max, sizeof *wiring->peers);
    return wiring->peers != NULL;
}

void wiring_destroy(gwtf_flow *flow) {
    if (flow->own == NULL)
        return;
    free(get(flow)->peers);
    free(flow->own);
}

struct wiring_peer *wiring_of(const gwtf_flow *flow, const struct flow_peer *peer) {
    return &get(flow)->peers[peer - flow->peers];
}

bool wiring_is_open(const gwtf_flow *flow, const struct flow_peer *peer) {
    return peer->id != GWTF_NODE_NONE && flow_is_next(flow, peer) &&
           peer->link_us != FLOW_COST_NONE && !wiring_of(flow, peer)->banned;
}

static const struct flow_peer *get_first(const gwtf_flow *flow) {
    return flow_first_hop(flow, NULL, wiring_is_open, get(flow)->is_before);
}

size_t wiring_get_routes(const gwtf_flow *flow, struct gwtf_flow_route *routes, size_t routes_max) {
    if (flow->config.reserve)
        return flow_get_routes(flow, routes, routes_max);
    const struct flow_peer *first = get_first(flow);
    if (first == NULL || flow->config.stage != 0)
        return 0;
    for (uint32_t i = 0; i < flow->capacity && i < routes_max; i++)
        routes[i] = (struct gwtf_flow_route){((gwtf_flow_id)flow->config.self + 1) << 32 | (i + 1),
                                             first->id, first->link_us};
    return flow->capacity;
}

gwtf_node_id wiring_get_next(const gwtf_flow *flow, gwtf_flow_id flow_id, gwtf_flow_id *next_id) {
    if (flow->config.reserve)
        return flow_get_next(flow, flow_id, next_id);
    const struct flow_peer *first = get_first(flow);
    if (first == NULL || flow->config.stage == 0 || flow->config.stage == flow->config.stages)
        return GWTF_NODE_NONE;
    if (next_id != NULL)
        *next_id = flow_id;
    return first->id;
}

size_t wiring_get_alternatives(const gwtf_flow *flow, gwtf_node_id sink, gwtf_node_id *hops,
                               size_t hops_max) {
    return flow_list_hops(flow, sink, wiring_is_open, get(flow)->is_before, hops, hops_max);
}

void wiring_note_news(gwtf_flow *flow) {
    flow->releases_left = FLOW_RELEASES_MAX;
    for (size_t i = 0; i < flow->config.neighbours_max; i++)
        get(flow)->peers[i].refusals = 0;
    /* Relays get to know each other at about the same time. */
    flow->ask_from_us = flow->now_us + flow->config.tick_us;
}

void wiring_lose_peer(gwtf_flow *flow, const struct flow_peer *peer) {
    flow_lose_peer(flow, peer);
    *wiring_of(flow, peer) = (struct wiring_peer){0};
}

void wiring_take_message(gwtf_flow *flow, struct flow_peer *peer,
                         const struct gwtf_flow_message *message) {
    if (!flow->config.reserve)
        return;
    struct wiring_peer *beside = wiring_of(flow, peer);
    if (message->kind == FLOW_MESSAGE_REJECT) {
        beside->refused_until_us = flow->now_us + (flow->config.tick_us << beside->refusals);
        if (beside->refusals < REFUSAL_DOUBLINGS_MAX)
            beside->refusals++;
    }
    if (message->kind == FLOW_MESSAGE_ACCEPT)
        beside->refusals = 0;
    if (message->kind != FLOW_MESSAGE_ADVERTISE)
        (void)flow_take_shared(flow, peer, message);
}

/* The first in the queue that a request for SINK can be sent to now, or NULL. */
static struct flow_peer *find_first_to_ask(const gwtf_flow *flow, uint32_t sink) {
    struct flow_peer *first = NULL;
    for (size_t i = 0; i < flow->peers_count; i++) {
        struct flow_peer *peer = &flow->peers[i];
        if (wiring_is_open(flow, peer) && (peer->stage != 0 || peer->id == flow->sinks[sink]) &&
            peer->asks < FLOW_ASKS_MAX && flow_link_has_room(peer) &&
            wiring_of(flow, peer)->refused_until_us <= flow->now_us &&
            (first == NULL || get(flow)->is_before(flow, peer, first)))
            first = peer;
    }
    return first;
}

static bool ask_for(gwtf_flow *flow, struct flow_slot *slot, uint32_t sink,
                    void (*send)(gwtf_flow *flow, struct flow_peer *peer)) {
    struct flow_peer *peer = find_first_to_ask(flow, sink);
    if (peer == NULL)
        return false;
    flow_ask(flow, slot, peer, sink, FLOW_COST_MOST);
    if (send != NULL)
        send(flow, peer);
    return true;
}

/* Data node: asks for all capacity that is left. */
static void begin_flows(gwtf_flow *flow, void (*send)(gwtf_flow *flow, struct flow_peer *peer)) {
    struct flow_slot *slot = NULL;
    if (flow->config.stage != 0 || flow->now_us < flow->ask_from_us)
        return;
    while ((slot = flow_take_slot(flow, FLOW_ROLE_SOURCE)) != NULL &&
           ask_for(flow, slot, flow_sink_index(flow, flow->config.self), send))
        slot->patience_at_us = GWTF_TIME_NEVER;
}

void wiring_advance(gwtf_flow *flow, void (*send)(gwtf_flow *flow, struct flow_peer *peer)) {
    if (!flow->config.reserve)
        return;
    flow_repair(flow);
    for (size_t i = 0; i < flow->slots_count; i++)
        if (flow_needs_out(&flow->slots[i]))
            (void)ask_for(flow, &flow->slots[i], flow->slots[i].sink, send);
    flow_reject_hopeless(flow);
    begin_flows(flow, send);
    flow_tell(flow);
}

/* When a data node with capacity left may ask somebody again. */
static gwtf_time_us get_ask_deadline(const gwtf_flow *flow) {
    if (flow->ask_from_us > flow->now_us)
        return flow->ask_from_us;
    gwtf_time_us deadline = GWTF_TIME_NEVER;
    for (size_t i = 0; i < flow->peers_count; i++) {
        const struct flow_peer *peer = &flow->peers[i];
        if (wiring_is_open(flow, peer) && wiring_of(flow, peer)->refused_until_us > flow->now_us)
            deadline = flow_earlier(deadline, wiring_of(flow, peer)->refused_until_us);
    }
    return deadline;
}

gwtf_time_us wiring_get_deadline(const gwtf_flow *flow) {
    if (!flow->config.reserve)
        return GWTF_TIME_NEVER;
    gwtf_time_us deadline = flow_repair_deadline(flow);
    if (flow->config.stage == 0 && flow_reserved(flow, FLOW_ROLE_SOURCE) < flow->capacity)
        deadline = flow_earlier(deadline, get_ask_deadline(flow));
    return deadline;
}
