/*
 * Policy static: flows are assigned once, from full knowledge, as DT-FM does (Yuan et al., arXiv
 * 2206.01288); the driver computes them and hands each node its hops. Nothing moves afterwards: a
 * hop that is lost stays so, and microbatches that come there go to whom is nearest.
 */
#include "flow/advertise.h"
#include "flow/policy.h"
#include "flow/query.h"
#include "flow/repair.h"
#include "flow/table.h"

#include <stdlib.h>

/* A hop whose neighbours have not both been there yet. */
struct assignment {
    gwtf_flow_id id; /* GWTF_FLOW_NONE: entry is free */
    uint32_t sink;
    gwtf_node_id previous; /* GWTF_NODE_NONE: this node is the source */
    gwtf_node_id next;     /* GWTF_NODE_NONE: it is the sink */
    int64_t rest_us;
};

static bool create(gwtf_flow *flow) {
    flow->own = calloc(flow->slots_count, sizeof(struct assignment));
    return flow->own != NULL;
}

static void destroy(gwtf_flow *flow) {
    free(flow->own);
}

static bool is_known(const gwtf_flow *flow, gwtf_flow_id id, bool source) {
    const struct assignment *assignments = flow->own;
    for (size_t i = 0; i < flow->slots_count; i++) {
        const struct flow_slot *slot = &flow->slots[i];
        const struct flow_end *end = source ? &slot->out : &slot->in;
        if ((assignments[i].id == id && source == (assignments[i].previous == GWTF_NODE_NONE)) ||
            (flow_end_is_live(end) && end->id == id))
            return true;
    }
    return false;
}

static void give_up_all(gwtf_flow *flow) {
    struct assignment *assignments = flow->own;
    for (size_t i = 0; i < flow->slots_count; i++) {
        assignments[i].id = GWTF_FLOW_NONE;
        flow_give_up(flow, &flow->slots[i]);
    }
}

static gwtf_status take_assignment(gwtf_flow *flow, const struct gwtf_flow_event *event) {
    if (event->sink == GWTF_NODE_NONE) {
        give_up_all(flow);
        return GWTF_OK;
    }
    bool source = event->peer == GWTF_NODE_NONE, sink = event->next == GWTF_NODE_NONE;
    bool data = flow->config.stage == 0;
    if (event->flow == GWTF_FLOW_NONE || data != (source || sink) || (source && sink) ||
        (data && event->sink != flow->config.self) || event->cost_us < 0 ||
        event->cost_us > FLOW_COST_MOST || is_known(flow, event->flow, source))
        return GWTF_ERROR_USAGE;
    uint32_t index = flow_sink_index(flow, event->sink);
    struct assignment *assignments = flow->own, *free_entry = NULL;
    for (size_t i = 0; i < flow->slots_count && free_entry == NULL; i++)
        if (assignments[i].id == GWTF_FLOW_NONE)
            free_entry = &assignments[i];
    if (free_entry == NULL || index == flow->config.sinks_max)
        return GWTF_ERROR_LIMIT;
    *free_entry = (struct assignment){event->flow, index, event->peer, event->next, event->cost_us};
    return GWTF_OK;
}

static bool is_there(const gwtf_flow *flow, gwtf_node_id node, bool next) {
    if (node == GWTF_NODE_NONE)
        return true;
    const struct flow_peer *peer = flow_find_peer(flow, node);
    if (peer == NULL)
        return false;
    return next ? flow_is_usable(flow, peer)
                : flow_is_previous(flow, peer) && peer->peer_session != 0;
}

/* True when the hop is held from now on. */
static bool hold(gwtf_flow *flow, const struct assignment *assignment) {
    bool source = assignment->previous == GWTF_NODE_NONE, sink = assignment->next == GWTF_NODE_NONE;
    enum flow_role role = source ? FLOW_ROLE_SOURCE : sink ? FLOW_ROLE_SINK : FLOW_ROLE_RELAY;
    if (!is_there(flow, assignment->previous, false) || !is_there(flow, assignment->next, true))
        return false;
    struct flow_slot *slot = flow_take_slot(flow, role);
    if (slot == NULL)
        return false;
    slot->sink = assignment->sink;
    slot->patience_at_us = GWTF_TIME_NEVER;
    if (!source)
        slot->in =
            (struct flow_end){FLOW_END_HELD, assignment->previous, assignment->id, false, false};
    if (!sink) {
        slot->out =
            (struct flow_end){FLOW_END_HELD, assignment->next, assignment->id, false, false};
        slot->link_us = flow_find_peer(flow, assignment->next)->link_us;
        slot->rest_us = assignment->rest_us;
    }
    flow->routes_changed = true;
    return true;
}

static bool is_open(const gwtf_flow *flow, const struct flow_peer *peer) {
    return peer->id != GWTF_NODE_NONE && flow_is_next(flow, peer) &&
           peer->link_us != FLOW_COST_NONE;
}

static bool is_nearer(const gwtf_flow *flow, const struct flow_peer *a, const struct flow_peer *b) {
    (void)flow;
    return a->link_us != b->link_us ? a->link_us < b->link_us : a->id < b->id;
}

static size_t get_alternatives(const gwtf_flow *flow, gwtf_node_id sink, gwtf_node_id *hops,
                               size_t hops_max) {
    return flow_list_hops(flow, sink, is_open, is_nearer, hops, hops_max);
}

static void note_news(gwtf_flow *flow) {
    (void)flow;
}

static void take_message(gwtf_flow *flow, struct flow_peer *peer,
                         const struct gwtf_flow_message *message) {
    if (message->kind == FLOW_MESSAGE_CANCEL || message->kind == FLOW_MESSAGE_COST ||
        message->kind == FLOW_MESSAGE_COMPARE || message->kind == FLOW_MESSAGE_DIFFERS ||
        message->kind == FLOW_MESSAGE_VERIFY)
        (void)flow_take_shared(flow, peer, message);
}

static void advance(gwtf_flow *flow) {
    struct assignment *assignments = flow->own;
    for (size_t i = 0; i < flow->slots_count; i++)
        if (assignments[i].id != GWTF_FLOW_NONE && hold(flow, &assignments[i]))
            assignments[i].id = GWTF_FLOW_NONE;
    flow_tell(flow);
}

const struct flow_policy flow_policy_static = {
    .create = create,
    .destroy = destroy,
    .take_assignment = take_assignment,
    .note_news = note_news,
    .lose_peer = flow_lose_peer,
    .take_link = flow_set_link,
    .take_capacity = flow_shrink,
    .take_message = take_message,
    .advance = advance,
    .get_deadline = flow_repair_deadline,
    .get_routes = flow_get_routes,
    .get_next = flow_get_next,
    .get_alternatives = get_alternatives,
    .release = flow_give_up,
};
