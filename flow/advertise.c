#include "flow/advertise.h"

#include "flow/link.h"
#include "flow/mend.h"
#include "flow/policy.h"
#include "flow/table.h"

void flow_note_way(gwtf_flow *flow, uint32_t sink) {
    flow->ways[sink].known = flow->ways[sink].told = false;
}

void flow_note_ways(gwtf_flow *flow) {
    for (uint32_t sink = 0; sink < flow->sinks_count; sink++)
        flow_note_way(flow, sink);
}

static const struct flow_way *get_way(const gwtf_flow *flow, uint32_t sink) {
    struct flow_way *way = &flow->ways[sink];
    if (way->known)
        return way;
    way->known = true;
    way->offered_us = way->distance_us = FLOW_COST_NONE;
    for (size_t i = 0; i < flow->peers_count; i++) {
        const struct flow_peer *peer = &flow->peers[i];
        if (!flow_is_usable(flow, peer))
            continue;
        const struct flow_figures *on = &peer->figures[sink];
        if (on->offer.count > 0 && on->offer.cost_us != FLOW_COST_NONE &&
            peer->link_us + on->offer.cost_us < way->offered_us)
            way->offered_us = peer->link_us + on->offer.cost_us;
        if (on->distance_us != FLOW_COST_NONE && peer->link_us + on->distance_us < way->distance_us)
            way->distance_us = peer->link_us + on->distance_us;
    }
    return way;
}

void flow_offer_unused(const gwtf_flow *flow, uint32_t sink, struct flow_offer *offer) {
    int64_t least_us = get_way(flow, sink)->offered_us;
    if (least_us == FLOW_COST_NONE)
        return;
    uint32_t reserved = flow_reserved(flow, FLOW_ROLE_RELAY);
    if (reserved >= flow->capacity)
        return;
    offer->count += flow->capacity - reserved;
    if (least_us < offer->cost_us)
        offer->cost_us = least_us;
}

struct flow_offer flow_get_offer(const gwtf_flow *flow, uint32_t sink) {
    struct flow_offer offer = {FLOW_COST_NONE, 0};
    if (flow->config.stage == 0) {
        uint32_t reserved = flow_reserved(flow, FLOW_ROLE_SINK);
        if (flow->sinks[sink] == flow->config.self && reserved < flow->capacity) {
            offer.cost_us = 0;
            offer.count = flow->capacity - reserved;
        }
        return offer;
    }
    for (size_t i = 0; i < flow->slots_count; i++) {
        const struct flow_slot *slot = &flow->slots[i];
        if (slot->sink != sink || flow_slot_is_locked(slot) || slot->in.state != FLOW_END_NONE ||
            slot->out.state != FLOW_END_HELD || flow_slot_cost(slot) == FLOW_COST_NONE ||
            flow_slot_is_mended(flow, slot))
            continue;
        offer.count++;
        if (flow_slot_cost(slot) < offer.cost_us)
            offer.cost_us = flow_slot_cost(slot);
    }
    if (flow->policy->add_offer != NULL)
        flow->policy->add_offer(flow, sink, &offer);
    return offer;
}

static int64_t get_distance(const gwtf_flow *flow, uint32_t sink) {
    if (flow->config.stage == 0)
        return flow->sinks[sink] == flow->config.self ? 0 : FLOW_COST_NONE;
    return get_way(flow, sink)->distance_us;
}

/* An offer of fewer is no news: who asks too many is told. */
static bool is_news(struct flow_offer told, int64_t told_distance_us, struct flow_offer offer,
                    int64_t distance_us) {
    return told.cost_us != offer.cost_us || told.count < offer.count ||
           told_distance_us != distance_us;
}

static void advertise_sink(gwtf_flow *flow, uint32_t sink) {
    struct flow_way *way = &flow->ways[sink];
    struct flow_offer offer = flow_get_offer(flow, sink);
    int64_t distance_us = get_distance(flow, sink);
    if (way->told && !is_news(way->told_offer, way->told_distance_us, offer, distance_us))
        return;
    way->told = true;
    way->told_offer = offer;
    way->told_distance_us = distance_us;
    for (size_t i = 0; i < flow->peers_count; i++) {
        struct flow_peer *peer = &flow->peers[i];
        if (!flow_is_previous(flow, peer) || peer->id == GWTF_NODE_NONE ||
            (peer->stage == 0 && peer->id != flow->sinks[sink]))
            continue;
        struct flow_figures *figures = &peer->figures[sink];
        if (!is_news(figures->told, figures->told_distance_us, offer, distance_us))
            continue;
        if (!flow_link_has_room(peer)) {
            way->told = false;
            continue;
        }
        struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_ADVERTISE,
                                         .sink = flow->sinks[sink],
                                         .cost_us = offer.cost_us,
                                         .count = offer.count,
                                         .other_cost_us = distance_us};
        flow_link_send(flow, peer, &body);
        figures->told = offer;
        figures->told_distance_us = distance_us;
    }
}

void flow_advertise(gwtf_flow *flow) {
    for (size_t sink = 0; sink < flow->sinks_count; sink++)
        advertise_sink(flow, (uint32_t)sink);
}

void flow_note_told(gwtf_flow *flow, struct flow_peer *peer, uint32_t sink,
                    struct flow_offer offer) {
    peer->figures[sink].told = offer;
    flow->ways[sink].told = false;
}

struct flow_figures *flow_find_figures(gwtf_flow *flow, struct flow_peer *peer, gwtf_node_id sink) {
    if (!flow_is_next(flow, peer) || (flow->config.stage == 0 && sink != flow->config.self) ||
        (peer->stage == 0 && sink != peer->id))
        return NULL;
    uint32_t index = flow_sink_index(flow, sink);
    return index < flow->config.sinks_max ? &peer->figures[index] : NULL;
}

void flow_take_advertisement(gwtf_flow *flow, struct flow_peer *peer,
                             const struct gwtf_flow_message *message) {
    struct flow_figures *figures = flow_find_figures(flow, peer, message->sink);
    if (figures == NULL)
        return;
    figures->offer.cost_us = message->cost_us;
    figures->offer.count = message->count;
    figures->distance_us = message->other_cost_us;
    flow_note_way(flow, flow_sink_index(flow, message->sink));
}

void flow_forget_figures(gwtf_flow *flow, struct flow_peer *peer) {
    const struct flow_offer none = {FLOW_COST_NONE, 0};
    const struct flow_figures nothing = {.offer = none,
                                         .distance_us = FLOW_COST_NONE,
                                         .told = none,
                                         .told_distance_us = FLOW_COST_NONE,
                                         .potential_down_us = FLOW_COST_NONE,
                                         .potential_up_us = FLOW_COST_NONE,
                                         .told_down_us = FLOW_COST_NONE,
                                         .told_up_us = FLOW_COST_NONE};
    for (size_t sink = 0; sink < flow->config.sinks_max; sink++)
        peer->figures[sink] = nothing;
    flow_note_ways(flow);
}
