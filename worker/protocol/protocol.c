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
                                    .view = config->view,
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

/* Slots can have their output and their gradient under way several times, and an input or gradient
 * coming; aggregation a contribution and a share each way with each replica. */
static uint32_t transfers_max(const gwtf_protocol *p) {
    return (p->config.capacity + p->config.retained) *
               (PROTOCOL_OUTPUT_SENDS_MAX + PROTOCOL_GRADIENT_SENDS_MAX + 1) +
           4 * p->replicas + PROTOCOL_PROBES_MAX + PROTOCOL_STATE_SENDS_MAX +
           (p->config.enters ? PROTOCOL_STATE_SENDS_MAX * p->replicas : 0);
}

size_t gwtf_protocol_actions_max(const struct gwtf_protocol_config *config) {
    struct gwtf_flow_config flow = flow_config(config);
    size_t flow_sends = flow_sends_max(&flow);
    /* To all: HELLO or FIGURES, DOUBT twice, DONE, NORM three times, RESTART, DOWN, CLOSE,
     * RECORDED; to the recorder, all that is down and all that is silent; to the replicas:
     * contribution, share, COMPLETE, VIEW twice; to a stage: ASK, IRREPARABLE, FETCH twice; to
     * those who come back WELCOME; to those who leave LEFT, and from them GONE and STAYS. The flow
     * algorithm steps for the event, twice for a HELLO, for its timer and for a few costs. Each
     * slot passes on, asks, sends back or is refused, and gets work. */
    return 28 * config->members_count + PROTOCOL_FLOW_STEPS_MAX * flow_sends +
           6 * (size_t)(config->capacity + config->retained) + 64 + PROTOCOL_ASKING_MAX;
}

static bool are_members_sound(const struct gwtf_protocol_config *config) {
    uint32_t in_stage[GWTF_STAGES_MAX + 1] = {0};
    bool has_self = false, taken[GWTF_STAGES_MAX + 1] = {false};
    for (size_t i = 0; i < config->members_count; i++) {
        const struct gwtf_member *member = &config->members[i];
        if (member->node == GWTF_NODE_NONE || member->stage > config->stages)
            return false;
        if (i > 0 && member->node <= config->members[i - 1].node)
            return false;
        if (++in_stage[member->stage] > GWTF_REPLICAS_MAX)
            return false;
        taken[member->stage] = taken[member->stage] || !member->is_free;
        if (member->is_free && member->node == config->self && !config->enters)
            return false;
        has_self = has_self || member->node == config->self;
    }
    for (uint32_t stage = 0; stage <= config->stages; stage++)
        if (in_stage[stage] == 0 || (!taken[stage] && !config->enters))
            return false;
    return has_self;
}

static bool is_sound(const struct gwtf_protocol_config *config) {
    return config->members && config->members_count > 0 && config->members_count < PROTOCOL_NONE &&
           config->stages >= 1 && config->stages <= GWTF_STAGES_MAX && are_members_sound(config) &&
           config->capacity >= 1 && config->capacity <= GWTF_CAPACITY_MAX &&
           config->retained <= GWTF_RETAINED_MAX && config->compute_us >= 0 &&
           config->first_iteration >= 1 && config->first_iteration <= config->last_iteration &&
           config->last_iteration < UINT32_MAX - 1 && config->microbatches >= 1 &&
           (!config->own_data || config->enters) && config->boundary_bytes > 0 &&
           config->gradient_floats % 16 == 0;
}

static gwtf_status create_tables(gwtf_protocol *p) {
    gwtf_status status = protocol_membership_create(p);
    if (status == GWTF_OK)
        status = protocol_iteration_create(p);
    if (status == GWTF_OK)
        status = protocol_snapshot_create(p);
    if (status == GWTF_OK)
        status = protocol_rest_create(p);
    if (status == GWTF_OK)
        status = protocol_doubt_create(p);
    if (status == GWTF_OK)
        status = protocol_entry_create(p);
    if (status != GWTF_OK)
        return status;
    p->transfers_max = transfers_max(p);
    p->kept_next = p->config.capacity;
    p->slots_count = p->config.capacity + p->config.retained;
    p->slots = calloc(p->slots_count, sizeof *p->slots);
    uint32_t next_size = protocol_stage_size(p, protocol_next_stage(p, p->stage));
    uint64_t microbatches = (uint64_t)p->data_nodes * protocol_order_most(&p->config);
    p->counted = calloc((size_t)(microbatches + 7) / 8, 1);
    p->forgotten = calloc(next_size, sizeof *p->forgotten);
    p->transfers = calloc(p->transfers_max, sizeof *p->transfers);
    p->routes = calloc(p->config.capacity, sizeof *p->routes);
    p->flow_hops = calloc(2 * (size_t)p->config.capacity, sizeof *p->flow_hops);
    p->hops = calloc(next_size, sizeof *p->hops);
    if (!p->counted || !p->forgotten || !p->slots || !p->transfers || !p->routes || !p->flow_hops ||
        !p->hops)
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

static uint32_t whole_batch(const struct gwtf_protocol_config *config) {
    uint32_t data_nodes = 0;
    for (size_t i = 0; i < config->members_count; i++)
        data_nodes += config->members[i].stage == 0 && !config->members[i].is_free;
    return data_nodes > 0 ? data_nodes * config->microbatches : config->microbatches;
}

gwtf_status gwtf_protocol_create(const struct gwtf_protocol_config *config,
                                 gwtf_protocol **protocol) {
    if (!is_sound(config))
        return GWTF_ERROR_USAGE;
    gwtf_protocol *p = calloc(1, sizeof *p);
    if (!p)
        return GWTF_ERROR_MEMORY;
    p->config = *config;
    if (p->config.batch == 0)
        p->config.batch = whole_batch(config);
    if (p->config.sequences == 0)
        p->config.sequences = 1;
    p->place = config->place;
    p->own_place = config->own_place;
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
    *protocol = p;
    return GWTF_OK;
}

void gwtf_protocol_destroy(gwtf_protocol *p) {
    if (!p)
        return;
    gwtf_flow_destroy(p->flow);
    protocol_rest_destroy(p);
    protocol_doubt_destroy(p);
    protocol_snapshot_destroy(p);
    protocol_iteration_destroy(p);
    protocol_entry_destroy(p);
    free(p->flow_sends);
    free(p->hops);
    free(p->flow_hops);
    free(p->routes);
    free(p->transfers);
    free(p->slots);
    free(p->counted);
    free(p->forgotten);
    free(p->living);
    free(p->replica);
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
        if (i == p->self || !protocol_is_told(p, &p->members[i]) ||
            (other_stages_only && p->members[i].stage == p->stage))
            continue;
        struct gwtf_action *action = protocol_emit(p, GWTF_ACTION_SEND);
        action->to = p->members[i].node;
        action->message = *message;
    }
}

void protocol_tell_replicas(gwtf_protocol *p, const struct gwtf_message *message) {
    for (uint32_t rank = 0; rank < p->replicas; rank++) {
        if (rank == p->rank || !protocol_is_told(p, protocol_member_at(p, p->stage, rank)))
            continue;
        struct gwtf_action *action = protocol_emit(p, GWTF_ACTION_SEND);
        action->to = protocol_stage_node(p, p->stage, rank);
        action->message = *message;
    }
}

struct gwtf_incident *protocol_incident(gwtf_protocol *p, enum gwtf_incident_kind kind,
                                        gwtf_node_id node) {
    struct gwtf_action *action = protocol_emit(p, GWTF_ACTION_INCIDENT);
    action->incident.kind = kind;
    action->incident.node = node;
    action->incident.iteration = p->iteration;
    return &action->incident;
}

void protocol_finish(gwtf_protocol *p, gwtf_status status, gwtf_node_id culprit) {
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
    protocol_entry_refuse_all(p, status);
    protocol_finish(p, status, culprit);
}

/* The recorder may have been lost before it had told all: data nodes tell all, and relays the data
 * nodes, one of which would be the recorder. */
static void pass_on_close(gwtf_protocol *p, const struct gwtf_message *message) {
    for (uint32_t i = 0; i < p->config.members_count; i++) {
        if (i == p->self || p->members[i].down || (p->stage > 0 && p->members[i].stage > 0))
            continue;
        struct gwtf_action *action = protocol_emit(p, GWTF_ACTION_SEND);
        action->to = p->members[i].node;
        action->message = *message;
    }
}

/* When a stage is gone since the recorder has said so, all is done all the same. */
static bool may_leave_well(const gwtf_protocol *p) {
    return p->rest.began || (p->ended && p->snapshot_wanted == 0);
}

static void end_as_told(gwtf_protocol *p, const struct gwtf_message *message) {
    gwtf_status status = (gwtf_status)message->body.close.status;
    if (!p->entry.waits)
        pass_on_close(p, message);
    protocol_entry_refuse_all(p, status);
    protocol_finish(p, status, message->body.close.culprit);
}

static void handle_close(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message) {
    gwtf_status status = (gwtf_status)message->body.close.status;
    (void)peer;
    /* A good end is the recorder's to tell, which may have been ahead of this node in validation.
     */
    bool is_good = status == GWTF_OK || status == GWTF_ERROR_INTERRUPTED;
    p->close = *message;
    p->close_awaits_end =
        is_good && !may_leave_well(p) && !p->entry.waits && p->suspected_count == 0;
    if (!p->close_awaits_end)
        end_as_told(p, message);
}

bool protocol_close_now(gwtf_protocol *p) {
    if (!p->close_awaits_end || p->finished)
        return false;
    end_as_told(p, &p->close);
    return true;
}

static void close_advance(gwtf_protocol *p) {
    if (may_leave_well(p))
        (void)protocol_close_now(p);
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
    [GWTF_MESSAGE_ASK] = protocol_repair_message,
    [GWTF_MESSAGE_HELD] = protocol_repair_message,
    [GWTF_MESSAGE_NOT_HELD] = protocol_repair_message,
    [GWTF_MESSAGE_FORGOTTEN] = protocol_repair_message,
    [GWTF_MESSAGE_AGAIN] = protocol_repair_message,
    [GWTF_MESSAGE_PROCEED] = protocol_repair_message,
    [GWTF_MESSAGE_DONE] = handle_done,
    [GWTF_MESSAGE_VIEW] = protocol_aggregation_message,
    [GWTF_MESSAGE_IRREPARABLE] = protocol_repair_message,
    [GWTF_MESSAGE_RESTART] = protocol_iteration_restart,
    [GWTF_MESSAGE_CONTRIBUTION] = protocol_aggregation_message,
    [GWTF_MESSAGE_REDUCED] = protocol_aggregation_message,
    [GWTF_MESSAGE_COMPLETE] = protocol_aggregation_message,
    [GWTF_MESSAGE_NORM] = protocol_aggregation_message,
    [GWTF_MESSAGE_HASH] = protocol_snapshot_message,
    [GWTF_MESSAGE_WRITTEN] = protocol_snapshot_message,
    [GWTF_MESSAGE_WRITE] = protocol_snapshot_message,
    [GWTF_MESSAGE_RECORDED] = protocol_snapshot_message,
    [GWTF_MESSAGE_DOWN] = protocol_view_message,
    [GWTF_MESSAGE_DOWN_KNOWN] = protocol_view_message,
    [GWTF_MESSAGE_SILENT] = protocol_doubt_asked,
    [GWTF_MESSAGE_DOUBT] = protocol_doubt_message,
    [GWTF_MESSAGE_FENCED] = protocol_view_message,
    [GWTF_MESSAGE_CLOSE] = handle_close,
    [GWTF_MESSAGE_PROBE] = protocol_links_probe,
    [GWTF_MESSAGE_REST] = protocol_rest_message,
    [GWTF_MESSAGE_ENTER] = protocol_entry_message,
    [GWTF_MESSAGE_WELCOME] = protocol_entry_message,
    [GWTF_MESSAGE_FETCH] = protocol_entry_message,
    [GWTF_MESSAGE_STATE] = protocol_entry_message,
    [GWTF_MESSAGE_LEFT] = protocol_leave_message,
    [GWTF_MESSAGE_GONE] = protocol_leave_message,
    [GWTF_MESSAGE_STAYS] = protocol_leave_message,
};
#define MESSAGE_HANDLERS (sizeof message_handlers / sizeof message_handlers[0])

/* It lives after all: nothing of it is taken, and it is told why. But who has left does not know
 * those who came with the iteration that it has not begun. */
static void refuse_lost(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message) {
    if (p->leave.standby)
        return;
    if (message->kind != GWTF_MESSAGE_FENCED && message->kind != GWTF_MESSAGE_CLOSE)
        protocol_send(p, peer, GWTF_MESSAGE_FENCED, GWTF_PHASE_TRAIN, p->iteration);
}

/* Those that mean nothing once the iteration has begun anew. */
static bool has_generation(const struct gwtf_message *message) {
    switch (message->kind) {
    case GWTF_MESSAGE_FORWARD:
    case GWTF_MESSAGE_BACKWARD:
    case GWTF_MESSAGE_REFUSED:
    case GWTF_MESSAGE_ASK:
    case GWTF_MESSAGE_HELD:
    case GWTF_MESSAGE_NOT_HELD:
    case GWTF_MESSAGE_FORGOTTEN:
    case GWTF_MESSAGE_AGAIN:
    case GWTF_MESSAGE_PROCEED:
    case GWTF_MESSAGE_DONE:
    case GWTF_MESSAGE_IRREPARABLE:
    case GWTF_MESSAGE_RESTART:
    case GWTF_MESSAGE_CONTRIBUTION:
    case GWTF_MESSAGE_REDUCED:
    case GWTF_MESSAGE_NORM:
        return true;
    default:
        return false;
    }
}

static void handle_message(gwtf_protocol *p, const struct gwtf_event *event) {
    const struct gwtf_message *message = &event->message;
    uint32_t member = protocol_member_find(p, event->peer);
    p->answered = false;
    bool is_known = member != PROTOCOL_NONE && member != p->self &&
                    message->kind < MESSAGE_HANDLERS && message_handlers[message->kind] &&
                    protocol_rest_hears(p, message);
    bool comes_by_door =
        message->kind == GWTF_MESSAGE_ENTER || message->kind == GWTF_MESSAGE_WELCOME;
    bool is_lost = is_known && p->members[member].down && !p->members[member].left;
    bool is_heard = is_known && protocol_leave_hears(p, &p->members[member], message);
    if (is_known && p->entry.waits) {
        if (comes_by_door || message->kind == GWTF_MESSAGE_CLOSE)
            message_handlers[message->kind](p, event->peer, message);
    } else if (is_known && comes_by_door)
        protocol_entry_message(p, event->peer, message);
    else if (is_lost)
        refuse_lost(p, event->peer, message);
    else if (is_heard && (!has_generation(message) || protocol_iteration_is_current(p, message)))
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
    else if (transfer.payload.kind == GWTF_PAYLOAD_STATE)
        protocol_entry_received(p, &transfer, whole);
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
    else if (transfer.payload.kind == GWTF_PAYLOAD_STATE)
        protocol_entry_sent(p);
    else
        protocol_aggregation_sent(p, &transfer);
}

static void peer_down(gwtf_protocol *p, gwtf_node_id peer, bool is_silent) {
    uint32_t member = protocol_member_find(p, peer);
    if (p->entry.waits)
        protocol_entry_down(p, peer);
    else if (is_silent)
        protocol_doubt_silent(p, peer);
    else if (member != PROTOCOL_NONE)
        protocol_view_down(p, peer, p->members[member].incarnation, true);
}

static void dispatch(gwtf_protocol *p, const struct gwtf_event *event) {
    switch (event->kind) {
    case GWTF_EVENT_START:
        if (p->started)
            return;
        p->started = true;
        if (p->config.enters) {
            protocol_entry_start(p);
            break;
        }
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
        if (p->rest.began)
            protocol_rest_written(p, event);
        else
            protocol_snapshot_written(p, event);
        break;
    case GWTF_EVENT_MANIFEST_WRITTEN:
        protocol_snapshot_manifest(p, event);
        break;
    case GWTF_EVENT_PEER_DOWN:
    case GWTF_EVENT_PEER_SILENT:
        peer_down(p, event->peer, event->kind == GWTF_EVENT_PEER_SILENT);
        break;
    case GWTF_EVENT_PEER_HEARD:
        protocol_doubt_heard(p, event->peer);
        break;
    case GWTF_EVENT_STOP:
        p->stop_wanted = p->stage == 0;
        break;
    case GWTF_EVENT_LEAVE:
        protocol_leave_wish(p);
        break;
    case GWTF_EVENT_TIMER:
        break;
    }
}

/* It has left: of what it does as a member, only what others may still want of it goes on. */
static void advance_on_standby(gwtf_protocol *p) {
    static void (*const concepts[])(gwtf_protocol *) = {
        protocol_view_advance, protocol_aggregation_advance, protocol_snapshot_advance,
        protocol_schedule_advance, close_advance};
    for (size_t i = 0; i < sizeof concepts / sizeof concepts[0] && !p->finished; i++)
        concepts[i](p);
}

static void advance_once(gwtf_protocol *p) {
    protocol_doubt_advance(p);
    if (!p->finished)
        protocol_leave_advance(p);
    if (p->finished)
        return;
    if (p->leave.standby) {
        advance_on_standby(p);
        return;
    }
    if (p->rest.began) {
        protocol_view_advance(p);
        close_advance(p);
        if (!p->finished)
            protocol_rest_advance(p);
        return;
    }
    static void (*const concepts[])(gwtf_protocol *) = {
        protocol_membership_advance,
        protocol_view_advance,
        protocol_iteration_advance,
        protocol_aggregation_advance,
        protocol_repair_advance,
        /* A stage that has just turned out to be incomplete may need the iteration to begin anew.
         */
        protocol_iteration_advance,
        protocol_snapshot_advance,
        protocol_routing_advance,
        protocol_schedule_advance,
        close_advance,
    };
    protocol_entry_advance(p);
    if (!protocol_entry_is_member(p)) {
        if (!p->entry.waits && !p->finished)
            protocol_schedule_advance(p); /* its gradients must be cleared */
        return;
    }
    for (size_t i = 0; i < sizeof concepts / sizeof concepts[0] && !p->finished; i++)
        concepts[i](p);
}

static void advance(gwtf_protocol *p) {
    bool was_on_standby = p->leave.standby;
    advance_once(p);
    /* All may have let it go before its iteration had ended: no event would come any more. */
    if (!was_on_standby && p->leave.standby && !p->finished)
        advance_once(p);
}

static gwtf_time_us next_deadline(const gwtf_protocol *p) {
    if (p->leave.standby)
        return p->spread_pending ? p->now_us : protocol_doubt_deadline(p);
    if (p->rest.began)
        return p->spread_pending || p->judging ? p->now_us : p->rest.until_us;
    gwtf_time_us entry_us = protocol_entry_deadline(p);
    if (!protocol_entry_is_member(p))
        return entry_us;
    if (p->spread_pending)
        return p->now_us;
    gwtf_time_us routing_us = protocol_routing_deadline(p);
    gwtf_time_us membership_us = protocol_membership_deadline(p);
    if (routing_us < entry_us)
        entry_us = routing_us;
    if (membership_us < entry_us)
        entry_us = membership_us;
    gwtf_time_us doubt_us = protocol_doubt_deadline(p);
    return doubt_us < entry_us ? doubt_us : entry_us;
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
    p->flow_sent = 0;
    if (event->now_us > p->now_us)
        p->now_us = event->now_us;
    dispatch(p, event);
    if (!p->finished)
        advance(p);
    p->update = NULL;
    if (p->finished)
        return p->status;
    update->deadline_us = next_deadline(p);
    return GWTF_OK;
}

struct gwtf_protocol_view gwtf_protocol_get_view(const gwtf_protocol *p) {
    struct gwtf_protocol_view view = {.iteration = p->iteration,
                                      .phase = p->phase,
                                      .slots_used = p->slots_used,
                                      .capacity = p->config.capacity,
                                      .recorder = p->recorder,
                                      .nodes = p->living_count,
                                      .microbatches_trained = p->microbatches_trained,
                                      .refusals = p->refusals,
                                      .incarnation = p->entry.incarnation,
                                      .enters = !p->entry.has_state || !protocol_entry_is_member(p),
                                      .pieces = p->entry.pieces_count,
                                      .pieces_here = p->entry.pieces_here,
                                      .leaving = p->leave.wanted,
                                      .left = p->leave.gone,
                                      .own_place = p->own_place,
                                      .finished = p->finished};
    if (p->started && !p->entry.waits)
        view.generation = p->rounds[p->iteration & 1].generation;
    for (uint32_t i = p->config.capacity; i < p->slots_count; i++)
        view.retained += p->slots[i].state == SLOT_KEPT;
    if (p->stage == 0)
        view.routes = (uint32_t)gwtf_flow_routes(p->flow, p->routes, p->config.capacity);
    for (uint32_t i = 0; i < view.routes; i++) {
        int64_t cost_us = p->routes[i].cost_us;
        if (cost_us == INT64_MAX)
            continue;
        view.routes_cost_us += cost_us;
        view.route_cost_us_max =
            cost_us > view.route_cost_us_max ? cost_us : view.route_cost_us_max;
    }
    return view;
}

void gwtf_protocol_get_members(const gwtf_protocol *p, struct gwtf_member_view *views) {
    for (uint32_t i = 0; i < p->config.members_count; i++) {
        const struct protocol_member *member = &p->members[i];
        views[i] = (struct gwtf_member_view){.node = member->node,
                                             .stage = member->stage,
                                             .down = member->down,
                                             .incarnation = member->incarnation};
    }
}
