/* The state machine's entry: create, one event in, the actions out. */
#include "worker/protocol/state.h"

#include "share/base/assert.h"

#include <stdlib.h>
#include <string.h>

#define FLOW_SENDS_MAX 128

/* The flow algorithm of this node. It knows the nodes of the previous and the next stage, and of
 * its own where the policy has use for them. */
static struct gwtf_flow_config flow_config(const struct gwtf_protocol_config *config) {
    struct gwtf_flow_config flow = {.policy = config->policy,
                                    .objective = config->objective,
                                    .negotiation = config->negotiation,
                                    .self = config->self,
                                    .stages = config->stages,
                                    .capacity = config->capacity,
                                    .seed = config->seed};
    for (size_t i = 0; i < config->members_count; i++)
        if (config->members[i].node == config->self)
            flow.stage = config->members[i].stage;
    uint32_t next = flow.stage == config->stages ? 0 : flow.stage + 1;
    uint32_t previous = flow.stage == 0 ? config->stages : flow.stage - 1;
    bool own = gwtf_flow_meets_replicas(config->policy);
    for (size_t i = 0; i < config->members_count; i++) {
        uint32_t stage = config->members[i].stage;
        flow.sinks_max += stage == 0;
        flow.neighbours_max += stage == next || stage == previous || (own && stage == flow.stage);
    }
    return flow;
}

/* What one step of the flow algorithm may send; the rest goes with the next, at once. */
static size_t flow_sends_max(const struct gwtf_flow_config *flow) {
    size_t most = gwtf_flow_sends_max(flow);
    return most < FLOW_SENDS_MAX ? most : FLOW_SENDS_MAX;
}

/* Slots can have their output under way several times, an input or gradient coming, and a gradient
 * going back; aggregation a contribution and a share each way with each replica. */
static uint32_t transfers_max(const gwtf_protocol *p) {
    return p->config.capacity * (PROTOCOL_OUTPUT_SENDS_MAX + 2) + 4 * p->replicas +
           PROTOCOL_PROBES_MAX;
}

size_t gwtf_protocol_actions_max(const struct gwtf_protocol_config *config) {
    struct gwtf_flow_config flow = flow_config(config);
    size_t flow_sends = flow_sends_max(&flow);
    /* To all: HELLO or FIGURES, DONE, NORM, CLOSE; to the replicas: contribution, share, READY. The
     * flow algorithm steps for the event, twice for a HELLO, for its timer and for a few costs.
     * Each slot passes on or sends back and gets work. */
    return 8 * config->members_count + 8 * flow_sends + 4 * (size_t)config->capacity + 64;
}

static bool are_members_sound(const struct gwtf_protocol_config *config) {
    uint32_t in_stage[GWTF_STAGES_MAX + 1] = {0};
    bool has_self = false;
    for (size_t i = 0; i < config->members_count; i++) {
        const struct gwtf_member *member = &config->members[i];
        if (member->node == GWTF_NODE_NONE || member->stage > config->stages)
            return false;
        if (i > 0 && member->node <= config->members[i - 1].node)
            return false;
        if (++in_stage[member->stage] > GWTF_REPLICAS_MAX)
            return false;
        has_self = has_self || member->node == config->self;
    }
    for (uint32_t stage = 0; stage <= config->stages; stage++)
        if (in_stage[stage] == 0)
            return false;
    return has_self;
}

static bool is_sound(const struct gwtf_protocol_config *config) {
    return config->members && config->members_count > 0 && config->members_count < PROTOCOL_NONE &&
           config->stages >= 1 && config->stages <= GWTF_STAGES_MAX && are_members_sound(config) &&
           config->capacity >= 1 && config->capacity <= GWTF_CAPACITY_MAX &&
           config->compute_us >= 0 && config->first_iteration >= 1 &&
           config->first_iteration <= config->last_iteration &&
           config->last_iteration < UINT32_MAX - 1 && config->microbatches >= 1 &&
           config->boundary_bytes > 0 && config->gradient_floats % 16 == 0;
}

static gwtf_status create_tables(gwtf_protocol *p) {
    gwtf_status status = protocol_membership_create(p);
    if (status == GWTF_OK)
        status = protocol_iteration_create(p);
    if (status == GWTF_OK)
        status = protocol_snapshot_create(p);
    if (status != GWTF_OK)
        return status;
    p->transfers_max = transfers_max(p);
    p->slots = calloc(p->config.capacity, sizeof *p->slots);
    p->transfers = calloc(p->transfers_max, sizeof *p->transfers);
    p->routes = calloc(p->config.capacity, sizeof *p->routes);
    p->flow_hops = calloc(2 * (size_t)p->config.capacity, sizeof *p->flow_hops);
    p->hops = calloc(protocol_stage_size(p, protocol_next_stage(p, p->stage)), sizeof *p->hops);
    if (!p->slots || !p->transfers || !p->routes || !p->flow_hops || !p->hops)
        return GWTF_ERROR_MEMORY;
    return GWTF_OK;
}

static gwtf_status create_flow(gwtf_protocol *p) {
    struct gwtf_flow_config flow = flow_config(&p->config);
    p->flow_sends_max = flow_sends_max(&flow);
    p->flow_sends = calloc(p->flow_sends_max, sizeof *p->flow_sends);
    if (!p->flow_sends)
        return GWTF_ERROR_MEMORY;
    return gwtf_flow_create(&flow, &p->flow);
}

gwtf_status gwtf_protocol_create(const struct gwtf_protocol_config *config,
                                 gwtf_protocol **protocol) {
    if (!is_sound(config))
        return GWTF_ERROR_USAGE;
    gwtf_protocol *p = calloc(1, sizeof *p);
    if (!p)
        return GWTF_ERROR_MEMORY;
    p->config = *config;
    p->compute_us = config->compute_us;
    p->flow_deadline_us = GWTF_TIME_NEVER;
    p->figures_deadline_us = GWTF_TIME_NEVER;
    p->source.routeless_us = GWTF_TIME_NEVER;
    for (size_t kind = 0; kind < sizeof p->work_us / sizeof p->work_us[0]; kind++)
        p->work_us[kind] = -1;
    gwtf_status status = create_flow(p);
    if (status == GWTF_OK)
        status = create_tables(p);
    if (status != GWTF_OK) {
        gwtf_protocol_destroy(p);
        return status;
    }
    gwtf_share_of(p->config.gradient_floats, p->replicas, p->rank, &p->share_offset,
                  &p->share_count);
    *protocol = p;
    return GWTF_OK;
}

void gwtf_protocol_destroy(gwtf_protocol *p) {
    if (!p)
        return;
    gwtf_flow_destroy(p->flow);
    protocol_snapshot_destroy(p);
    protocol_iteration_destroy(p);
    free(p->flow_sends);
    free(p->hops);
    free(p->flow_hops);
    free(p->routes);
    free(p->transfers);
    free(p->slots);
    free(p->neighbours);
    free(p->stage_first);
    free(p->stage_members);
    free(p->members);
    free(p);
}

struct gwtf_action *protocol_emit(gwtf_protocol *p, enum gwtf_action_kind kind) {
    struct gwtf_update *update = p->update;
    GWTF_ASSERT(update->actions_count < update->actions_max);
    struct gwtf_action *action = &update->actions[update->actions_count++];
    memset(action, 0, sizeof *action);
    action->kind = kind;
    return action;
}

struct gwtf_message *protocol_send(gwtf_protocol *p, gwtf_node_id to, enum gwtf_message_kind kind,
                                   enum gwtf_phase phase, uint32_t iteration) {
    struct gwtf_action *action = protocol_emit(p, GWTF_ACTION_SEND);
    action->to = to;
    action->message.kind = (uint16_t)kind;
    action->message.phase = (uint16_t)phase;
    action->message.iteration = iteration;
    return &action->message;
}

void protocol_broadcast(gwtf_protocol *p, const struct gwtf_message *message,
                        bool other_stages_only) {
    for (uint32_t i = 0; i < p->config.members_count; i++) {
        if (i == p->self || (other_stages_only && p->members[i].stage == p->stage))
            continue;
        struct gwtf_action *action = protocol_emit(p, GWTF_ACTION_SEND);
        action->to = p->members[i].node;
        action->message = *message;
    }
}

static void finish(gwtf_protocol *p, gwtf_status status, gwtf_node_id culprit) {
    p->finished = true;
    p->status = status;
    struct gwtf_action *action = protocol_emit(p, GWTF_ACTION_FINISH);
    action->status = status;
    action->culprit = culprit;
}

void protocol_close(gwtf_protocol *p, gwtf_status status, gwtf_node_id culprit) {
    struct gwtf_message message = {.kind = GWTF_MESSAGE_CLOSE, .iteration = p->iteration};
    message.body.close.status = (uint32_t)status;
    message.body.close.culprit = culprit;
    protocol_broadcast(p, &message, false);
    finish(p, status, culprit);
}

static void handle_close(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message) {
    gwtf_status status = (gwtf_status)message->body.close.status;
    /* A good end is the recorder's to tell. */
    if ((status == GWTF_OK || status == GWTF_ERROR_INTERRUPTED) && peer != p->recorder)
        return;
    finish(p, status, message->body.close.culprit);
}

static void handle_done(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message) {
    const struct protocol_member *member = &p->members[protocol_member_find(p, peer)];
    if (member->stage == 0)
        protocol_iteration_done(p, member->rank, message);
}

static void (*const message_handlers[])(gwtf_protocol *, gwtf_node_id,
                                        const struct gwtf_message *) = {
    [GWTF_MESSAGE_HELLO] = protocol_membership_hello,
    [GWTF_MESSAGE_FIGURES] = protocol_membership_hello,
    [GWTF_MESSAGE_FLOW] = protocol_membership_flow,
    [GWTF_MESSAGE_FORWARD] = protocol_slots_forward,
    [GWTF_MESSAGE_BACKWARD] = protocol_slots_backward,
    [GWTF_MESSAGE_REFUSED] = protocol_routing_answer,
    [GWTF_MESSAGE_ACCEPTED] = protocol_routing_answer,
    [GWTF_MESSAGE_DONE] = handle_done,
    [GWTF_MESSAGE_CONTRIBUTION] = protocol_aggregation_message,
    [GWTF_MESSAGE_REDUCED] = protocol_aggregation_message,
    [GWTF_MESSAGE_NORM] = protocol_aggregation_message,
    [GWTF_MESSAGE_READY] = protocol_aggregation_message,
    [GWTF_MESSAGE_HASH] = protocol_snapshot_message,
    [GWTF_MESSAGE_WRITTEN] = protocol_snapshot_message,
    [GWTF_MESSAGE_CLOSE] = handle_close,
    [GWTF_MESSAGE_PROBE] = protocol_links_probe,
};
#define MESSAGE_HANDLERS (sizeof message_handlers / sizeof message_handlers[0])

static void handle_message(gwtf_protocol *p, const struct gwtf_event *event) {
    const struct gwtf_message *message = &event->message;
    uint32_t member = protocol_member_find(p, event->peer);
    p->answered = false;
    if (member != PROTOCOL_NONE && member != p->self && message->kind < MESSAGE_HANDLERS &&
        message_handlers[message->kind])
        message_handlers[message->kind](p, event->peer, message);
    /* What no handler wanted. */
    if (message->payload_bytes > 0 && !p->answered && !p->finished)
        protocol_emit(p, GWTF_ACTION_DISCARD);
}

static void handle_received(gwtf_protocol *p, const struct gwtf_event *event) {
    struct protocol_transfer transfer;
    if (!protocol_transfer_end(p, event->ticket, true, &transfer))
        return;
    bool whole = event->status == GWTF_OK;
    if (whole)
        protocol_membership_received(p, &transfer);
    if (transfer.payload.kind == GWTF_PAYLOAD_PROBE)
        return;
    if (transfer.payload.kind == GWTF_PAYLOAD_BOUNDARY)
        protocol_slots_received(p, &transfer, whole);
    else
        protocol_aggregation_received(p, &transfer, whole);
}

static void handle_sent(gwtf_protocol *p, const struct gwtf_event *event) {
    struct protocol_transfer transfer;
    if (!protocol_transfer_end(p, event->ticket, false, &transfer) ||
        transfer.payload.kind == GWTF_PAYLOAD_PROBE)
        return;
    if (transfer.payload.kind == GWTF_PAYLOAD_BOUNDARY)
        protocol_slots_sent(p, &transfer);
    else
        protocol_aggregation_sent(p, &transfer);
}

/* The recorder decides how a run ends whose work is done; until then every node is needed. */
static void handle_peer_down(gwtf_protocol *p, gwtf_node_id peer) {
    if (protocol_member_find(p, peer) == PROTOCOL_NONE || peer == p->config.self)
        return;
    if (p->ended && p->config.self != p->recorder && peer != p->recorder)
        return;
    protocol_close(p, GWTF_ERROR_PEER, peer);
}

static void dispatch(gwtf_protocol *p, const struct gwtf_event *event) {
    switch (event->kind) {
    case GWTF_EVENT_START:
        if (p->started)
            return;
        p->started = true;
        protocol_membership_start(p);
        protocol_iteration_start(p);
        break;
    case GWTF_EVENT_MESSAGE:
        handle_message(p, event);
        break;
    case GWTF_EVENT_PAYLOAD_RECEIVED:
        handle_received(p, event);
        break;
    case GWTF_EVENT_PAYLOAD_SENT:
        handle_sent(p, event);
        break;
    case GWTF_EVENT_WORK_DONE:
        protocol_schedule_worked(p, &event->work, &event->result);
        break;
    case GWTF_EVENT_WRITTEN:
        protocol_snapshot_written(p, event);
        break;
    case GWTF_EVENT_MANIFEST_WRITTEN:
        protocol_snapshot_manifest(p, event);
        break;
    case GWTF_EVENT_PEER_DOWN:
        handle_peer_down(p, event->peer);
        break;
    case GWTF_EVENT_STOP:
        p->stop_wanted = p->stage == 0;
        break;
    case GWTF_EVENT_TIMER:
        break;
    }
}

static void advance(gwtf_protocol *p) {
    static void (*const concepts[])(gwtf_protocol *) = {
        protocol_membership_advance, protocol_iteration_advance, protocol_aggregation_advance,
        protocol_snapshot_advance,   protocol_routing_advance,   protocol_schedule_advance,
    };
    for (size_t i = 0; i < sizeof concepts / sizeof concepts[0] && !p->finished; i++)
        concepts[i](p);
}

gwtf_status gwtf_protocol_step(gwtf_protocol *p, const struct gwtf_event *event,
                               struct gwtf_update *update) {
    update->actions_count = 0;
    update->deadline_us = GWTF_TIME_NEVER;
    if (p->finished)
        return p->status;
    if (!p->started && event->kind != GWTF_EVENT_START)
        return GWTF_OK;
    p->update = update;
    if (event->now_us > p->now_us)
        p->now_us = event->now_us;
    dispatch(p, event);
    if (!p->finished)
        advance(p);
    p->update = NULL;
    if (p->finished)
        return p->status;
    gwtf_time_us routing_us = protocol_routing_deadline(p);
    update->deadline_us = protocol_membership_deadline(p);
    if (routing_us < update->deadline_us)
        update->deadline_us = routing_us;
    return GWTF_OK;
}

struct gwtf_protocol_view gwtf_protocol_get_view(const gwtf_protocol *p) {
    struct gwtf_protocol_view view = {.iteration = p->iteration,
                                      .phase = p->phase,
                                      .slots_used = p->slots_used,
                                      .capacity = p->config.capacity,
                                      .microbatches_trained = p->microbatches_trained,
                                      .refusals = p->refusals,
                                      .finished = p->finished};
    if (p->stage == 0)
        view.routes = (uint32_t)gwtf_flow_routes(p->flow, p->routes, p->config.capacity);
    for (uint32_t i = 0; i < view.routes; i++) {
        int64_t cost_us = p->routes[i].cost_us;
        view.routes_cost_us += cost_us;
        view.route_cost_us_max =
            cost_us > view.route_cost_us_max ? cost_us : view.route_cost_us_max;
    }
    return view;
}
