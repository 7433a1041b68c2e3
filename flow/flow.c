/* One node's step: which event goes where. What follows from it is the policy's. */
#include "flow/flow.h"

#include "flow/advertise.h"
#include "flow/link.h"
#include "flow/policy.h"
#include "flow/repair.h"
#include "flow/table.h"
#include "flow/view.h"

#include <stdlib.h>

#define SINKS_MAX_DEFAULT 16
#define VIEW_DEFAULT 32
#define TICK_US_DEFAULT 200000
#define TICK_US_LEAST 25000
#define TICK_ROUND_TRIPS 2
#define CAPACITY_LIMIT 65536u

static size_t get_slots_count(const struct gwtf_flow_config *config) {
    return (size_t)config->capacity_max * (config->stage == 0 ? 4 : 2);
}

static int64_t get_retry(int64_t tick_us) {
    return tick_us + tick_us / 2;
}

static struct gwtf_flow_config with_defaults(const struct gwtf_flow_config *given) {
    struct gwtf_flow_config config = *given;
    if (config.capacity_max == 0)
        config.capacity_max = config.capacity;
    if (config.sinks_max == 0)
        config.sinks_max = SINKS_MAX_DEFAULT;
    if (config.view == 0)
        config.view = VIEW_DEFAULT;
    if (config.policy < GWTF_FLOW_POLICIES && flow_find_policy(config.policy)->keeps_view) {
        uint32_t size = flow_view_size(&config);
        if (config.neighbours_max == 0 || config.neighbours_max > size)
            config.neighbours_max = size;
    }
    if (config.tick_us == 0)
        config.tick_us = TICK_US_DEFAULT;
    if (config.retry_us == 0)
        config.retry_us = get_retry(config.tick_us);
    return config;
}

static bool config_is_valid(const struct gwtf_flow_config *config) {
    return config->policy < GWTF_FLOW_POLICIES && config->objective <= GWTF_FLOW_OBJECTIVE_MAX &&
           config->self != GWTF_NODE_NONE && config->stages >= 1 &&
           config->stage <= config->stages && config->capacity >= 1 &&
           config->capacity <= config->capacity_max && config->capacity_max <= CAPACITY_LIMIT &&
           config->neighbours_max >= 1 && config->tick_us > 0 && config->retry_us > 0;
}

static bool allocate(gwtf_flow *flow) {
    const struct gwtf_flow_config *config = &flow->config;
    flow->slots_count = get_slots_count(config);
    flow->slots = calloc(flow->slots_count, sizeof *flow->slots);
    if (flow->slots == NULL || !flow_table_create(flow) || !flow_link_create(flow) ||
        !flow_view_create(flow))
        return false;
    return flow->policy->create == NULL || flow->policy->create(flow);
}

gwtf_status gwtf_flow_create(const struct gwtf_flow_config *config, gwtf_flow **flow) {
    struct gwtf_flow_config complete = with_defaults(config);
    if (!config_is_valid(&complete))
        return GWTF_ERROR_USAGE;
    gwtf_flow *made = calloc(1, sizeof *made);
    if (made == NULL)
        return GWTF_ERROR_MEMORY;
    made->config = complete;
    made->keeps_pace = config->tick_us == 0;
    made->policy = flow_find_policy(complete.policy);
    if (!allocate(made)) {
        gwtf_flow_destroy(made);
        return GWTF_ERROR_MEMORY;
    }
    gwtf_random_init(&made->random, gwtf_random_key(complete.seed, complete.self));
    made->capacity = complete.capacity;
    made->releases_left = FLOW_RELEASES_MAX;
    for (size_t i = 0; i < made->slots_count; i++) {
        made->slots[i].patience_at_us = GWTF_TIME_NEVER;
        if (complete.stage == 0)
            made->slots[i].role = i < made->slots_count / 2 ? FLOW_ROLE_SOURCE : FLOW_ROLE_SINK;
    }
    if (complete.stage == 0)
        flow_sink_index(made, complete.self);
    *flow = made;
    return GWTF_OK;
}

void gwtf_flow_destroy(gwtf_flow *flow) {
    if (flow == NULL)
        return;
    if (flow->policy->destroy != NULL)
        flow->policy->destroy(flow);
    flow_view_destroy(flow);
    flow_link_destroy(flow);
    flow_table_destroy(flow);
    free(flow->slots);
    free(flow);
}

size_t gwtf_flow_sends_max(const struct gwtf_flow_config *config) {
    struct gwtf_flow_config complete = with_defaults(config);
    return flow_link_sends_max(complete.neighbours_max);
}

static void meet(gwtf_flow *flow, struct flow_peer *peer) {
    if (flow->policy->meet != NULL)
        flow->policy->meet(flow, peer);
}

static gwtf_status add_peer(gwtf_flow *flow, gwtf_node_id id, uint32_t stage) {
    struct flow_peer *peer = flow_add_peer(flow, id);
    if (peer == NULL)
        return GWTF_ERROR_LIMIT;
    flow_view_undecline(flow, id);
    peer->stage = stage;
    peer->link_us = FLOW_COST_NONE;
    peer->compare_at_us = flow->now_us + FLOW_COMPARE_TICKS * flow->config.tick_us;
    flow_forget_figures(flow, peer);
    flow_link_open(flow, peer);
    meet(flow, peer);
    flow->stirred = FLOW_STIR_ALL;
    return GWTF_OK;
}

static void remove_peer(gwtf_flow *flow, struct flow_peer *peer) {
    flow->stirred = FLOW_STIR_ALL;
    flow_note_ways(flow);
    flow->policy->lose_peer(flow, peer);
    flow_link_close(flow, peer);
    flow_remove_peer(flow, peer);
}

static gwtf_status take_peer_up(gwtf_flow *flow, const struct gwtf_flow_event *event) {
    if (event->peer == flow->config.self || event->peer == GWTF_NODE_NONE)
        return GWTF_ERROR_USAGE;
    bool neighbouring = flow_is_neighbouring(flow, event->stage);
    if (!neighbouring && event->stage != flow->config.stage)
        return GWTF_ERROR_USAGE;
    flow_view_note(flow, event->peer, event->stage);
    struct flow_peer *peer = flow_find_peer(flow, event->peer);
    if (neighbouring && peer == NULL && !flow_view_has_room(flow, event->stage)) {
        flow_view_decline(flow, event->peer, event->stage);
        return GWTF_OK;
    }
    if (!neighbouring)
        return GWTF_OK;
    flow->stirred = FLOW_STIR_ALL;
    flow->policy->note_news(flow);
    if (peer != NULL) {
        meet(flow, peer);
        return GWTF_OK;
    }
    return add_peer(flow, event->peer, event->stage);
}

static gwtf_status take_peer_down(gwtf_flow *flow, const struct gwtf_flow_event *event) {
    struct flow_peer *peer = flow_find_peer(flow, event->peer);
    if (peer != NULL) {
        remove_peer(flow, peer);
        flow_view_ask_again(flow, peer->stage);
    } else {
        flow_view_undecline(flow, event->peer);
    }
    return GWTF_OK;
}

/* A node beyond the view: it becomes a peer when its link is better than another's. */
static struct flow_peer *reconsider(gwtf_flow *flow, gwtf_node_id id, int64_t link_us) {
    uint32_t stage = flow_view_declined_stage(flow, id);
    if (link_us == FLOW_COST_NONE)
        return NULL;
    if (!flow_view_has_room(flow, stage)) {
        struct flow_peer *worst = flow_view_worst(flow, stage, link_us);
        if (worst == NULL)
            return NULL;
        flow_view_forget(flow, worst->id, worst->peer_session);
        flow_view_decline(flow, worst->id, stage);
        remove_peer(flow, worst);
    }
    return add_peer(flow, id, stage) == GWTF_OK ? flow_find_peer(flow, id) : NULL;
}

static gwtf_status take_link_cost(gwtf_flow *flow, const struct gwtf_flow_event *event) {
    struct flow_peer *peer = flow_find_peer(flow, event->peer);
    int64_t link_us = event->cost_us < 0 ? FLOW_COST_NONE : event->cost_us;
    if (link_us != FLOW_COST_NONE && link_us > FLOW_COST_MOST)
        link_us = FLOW_COST_MOST;
    if (peer == NULL && flow_view_declined_stage(flow, event->peer) == FLOW_INDEX_NONE)
        return GWTF_ERROR_USAGE;
    if (peer == NULL)
        peer = reconsider(flow, event->peer, link_us);
    if (peer != NULL) {
        flow->stirred = FLOW_STIR_ALL;
        flow->policy->take_link(flow, peer, link_us);
    }
    return GWTF_OK;
}

static gwtf_status take_round_trip(gwtf_flow *flow, const struct gwtf_flow_event *event) {
    if (event->cost_us < 0)
        return GWTF_ERROR_USAGE;
    if (!flow->keeps_pace)
        return GWTF_OK;
    int64_t tick_us = TICK_US_DEFAULT;
    if (event->cost_us < tick_us / TICK_ROUND_TRIPS)
        tick_us = event->cost_us * TICK_ROUND_TRIPS;
    flow->config.tick_us = tick_us > TICK_US_LEAST ? tick_us : TICK_US_LEAST;
    flow->config.retry_us = get_retry(flow->config.tick_us);
    return GWTF_OK;
}

static gwtf_status take_capacity(gwtf_flow *flow, const struct gwtf_flow_event *event) {
    if (event->capacity > flow->config.capacity_max)
        return GWTF_ERROR_LIMIT;
    flow->capacity = event->capacity;
    flow->policy->take_capacity(flow);
    return GWTF_OK;
}

static gwtf_status take_feedback(gwtf_flow *flow, const struct gwtf_flow_event *event) {
    struct flow_peer *peer = flow_find_peer(flow, event->peer);
    if (peer == NULL)
        return GWTF_ERROR_USAGE;
    if (flow->policy->take_feedback != NULL)
        flow->policy->take_feedback(flow, peer, event);
    return GWTF_OK;
}

static gwtf_status take_assignment(gwtf_flow *flow, const struct gwtf_flow_event *event) {
    if (flow->policy->take_assignment == NULL)
        return GWTF_ERROR_USAGE;
    return flow->policy->take_assignment(flow, event);
}

static bool figure_is_sane(int64_t cost_us) {
    return cost_us == FLOW_COST_NONE || (cost_us >= 0 && cost_us <= FLOW_COST_MOST);
}

/* What needs no connection. */
static bool take_loose(gwtf_flow *flow, struct flow_peer *peer,
                       const struct gwtf_flow_event *event) {
    const struct gwtf_flow_message *message = &event->message;
    if (message->kind == FLOW_MESSAGE_GOSSIP) {
        flow_view_take_gossip(flow, message);
    } else if (message->kind == FLOW_MESSAGE_FORGET) {
        if (peer != NULL && message->peer_session == peer->session) {
            remove_peer(flow, peer);
            flow_view_ask_again(flow, peer->stage);
        }
    } else if (peer == NULL) {
        if (flow_view_declined_stage(flow, event->peer) != FLOW_INDEX_NONE)
            flow_view_forget(flow, event->peer, message->session);
    } else {
        return false;
    }
    return true;
}

static void take_body(gwtf_flow *flow, struct flow_peer *peer,
                      const struct gwtf_flow_message *message) {
    flow->stirred |=
        flow->policy->get_stir != NULL ? flow->policy->get_stir(message->kind) : FLOW_STIR_ALL;
    flow->policy->take_message(flow, peer, message);
}

static gwtf_status take_message(gwtf_flow *flow, const struct gwtf_flow_event *event) {
    struct flow_peer *peer = flow_find_peer(flow, event->peer);
    const struct gwtf_flow_message *message = &event->message;
    if (take_loose(flow, peer, event) || message->kind >= FLOW_MESSAGE_KINDS ||
        !figure_is_sane(message->cost_us) ||
        !(message->other_cost_us < 0 ? message->other_cost_us >= -FLOW_COST_MOST
                                     : figure_is_sane(message->other_cost_us)))
        return GWTF_OK;
    struct gwtf_flow_message early;
    uint32_t session = peer->peer_session;
    enum flow_link_result result = flow_link_receive(flow, peer, message);
    if (session != peer->peer_session) {
        flow->stirred = FLOW_STIR_ALL;
        flow_note_ways(flow);
    }
    switch (result) {
    case FLOW_LINK_NEW:
        flow->policy->lose_peer(flow, peer);
        flow_forget_figures(flow, peer);
        flow->policy->note_news(flow);
        meet(flow, peer);
        break;
    case FLOW_LINK_BODY:
        take_body(flow, peer, message);
        while (flow_link_next(flow, peer, &early))
            take_body(flow, peer, &early);
        break;
    case FLOW_LINK_NOTHING:
        break;
    }
    return GWTF_OK;
}

static gwtf_status take_event(gwtf_flow *flow, const struct gwtf_flow_event *event) {
    switch (event->kind) {
    case GWTF_FLOW_EVENT_START:
        flow->started = true;
        flow->stirred = FLOW_STIR_ALL;
        return GWTF_OK;
    case GWTF_FLOW_EVENT_PEER_UP:
        return take_peer_up(flow, event);
    case GWTF_FLOW_EVENT_PEER_DOWN:
        flow->stirred = FLOW_STIR_ALL;
        flow->policy->note_news(flow);
        return take_peer_down(flow, event);
    case GWTF_FLOW_EVENT_LINK_COST:
        return take_link_cost(flow, event);
    case GWTF_FLOW_EVENT_ROUND_TRIP:
        return take_round_trip(flow, event);
    case GWTF_FLOW_EVENT_CAPACITY:
        flow->stirred = FLOW_STIR_ALL;
        flow->policy->note_news(flow);
        return take_capacity(flow, event);
    case GWTF_FLOW_EVENT_FEEDBACK:
        flow->stirred = FLOW_STIR_ALL;
        return take_feedback(flow, event);
    case GWTF_FLOW_EVENT_ASSIGN:
        flow->stirred = FLOW_STIR_ALL;
        return take_assignment(flow, event);
    case GWTF_FLOW_EVENT_MESSAGE:
        return take_message(flow, event);
    case GWTF_FLOW_EVENT_TIMER:
        return GWTF_OK;
    }
    return GWTF_ERROR_USAGE;
}

/* Most events are acknowledgements, and nodes that are heard of and not met. */
static void advance(gwtf_flow *flow) {
    if (flow->stirred == 0 && flow->now_us < flow->advance_at_us)
        return;
    flow->stirs = flow->pool.wanted ? FLOW_STIR_ALL : flow->stirred;
    flow->stirred = 0;
    flow->pool.wanted = false;
    flow->policy->advance(flow);
    flow->advance_at_us = flow->policy->get_deadline(flow);
}

gwtf_status gwtf_flow_step(gwtf_flow *flow, const struct gwtf_flow_event *event,
                           struct gwtf_flow_update *update) {
    update->sends_count = update->introductions_count = 0;
    if (event->now_us > flow->now_us)
        flow->now_us = event->now_us;
    flow->routes_changed = false;
    gwtf_status status = take_event(flow, event);
    if (flow->started) {
        advance(flow);
        flow_link_emit(flow, update);
        flow_view_emit(flow, update);
    }
    update->deadline_us = GWTF_TIME_NEVER;
    if (flow->started)
        update->deadline_us = flow_earlier(
            flow_earlier(flow_link_deadline(flow), flow_view_deadline(flow)), flow->advance_at_us);
    update->routes_changed = flow->routes_changed;
    return status;
}
