/* Where microbatches start, and where they go next. */
#include "worker/protocol/state.h"

#include "share/base/assert.h"

#include <string.h>

/* After all hops have refused: half the compute time of a microbatch, twice as long each time,
 * since a slot comes free only when somebody has computed. */
#define PAUSE_LEAST_US 1000
#define PAUSE_MOST_US 2000000
/* Without any route for this long, for as long again for each stage that flows are built through,
 * and for four times the way round at the slowest neighbour's pace, microbatches go without one. */
#define ROUTELESS_US 500000

static bool was_tried(const struct protocol_slot *slot, uint32_t rank) {
    return slot->tried[rank / 8] >> (rank % 8) & 1;
}

/* Whether HOP can be offered the slot's microbatch now. */
static bool is_open_hop(const gwtf_protocol *p, const struct protocol_slot *slot,
                        gwtf_node_id hop) {
    uint32_t member = hop == GWTF_NODE_NONE ? PROTOCOL_NONE : protocol_member_find(p, hop);
    return member != PROTOCOL_NONE && !p->members[member].down &&
           p->members[member].stage == protocol_next_stage(p, p->stage) &&
           !was_tried(slot, p->members[member].rank) &&
           !(slot->iteration > p->iteration && protocol_leave_is_agreed(p, hop));
}

/* The next hop of the slot's flow, or GWTF_NODE_NONE when it has none. NEXT_FLOW: the flow's id
 * there.
 */
static gwtf_node_id flow_hop(gwtf_protocol *p, const struct protocol_slot *slot,
                             gwtf_flow_id *next_flow) {
    if (slot->flow == GWTF_FLOW_NONE)
        return GWTF_NODE_NONE;
    if (p->stage > 0)
        return gwtf_flow_next(p->flow, slot->flow, next_flow);
    size_t count = gwtf_flow_routes(p->flow, p->routes, p->config.capacity);
    for (size_t i = 0; i < count && i < p->config.capacity; i++) {
        if (p->routes[i].flow != slot->flow)
            continue;
        *next_flow = slot->flow;
        return p->routes[i].next;
    }
    return GWTF_NODE_NONE;
}

/* A repetition goes where the microbatch was: a node that has added it does not do so again. */
static bool goes_same_way(const gwtf_protocol *p, const struct protocol_slot *slot) {
    return slot->pass > 0 && slot->next != GWTF_NODE_NONE && !protocol_is_down(p, slot->next);
}

/* NEXT_FLOW: the id that the hop knows the flow by; GWTF_FLOW_NONE beside a flow's path. */
static gwtf_node_id choose_hop(gwtf_protocol *p, const struct protocol_slot *slot,
                               gwtf_flow_id *next_flow) {
    *next_flow = GWTF_FLOW_NONE;
    if (goes_same_way(p, slot))
        return is_open_hop(p, slot, slot->next) ? slot->next : GWTF_NODE_NONE;
    if (p->stage == p->config.stages)
        return is_open_hop(p, slot, slot->microbatch.data_node) ? slot->microbatch.data_node
                                                                : GWTF_NODE_NONE;
    gwtf_node_id hop = flow_hop(p, slot, next_flow);
    if (is_open_hop(p, slot, hop))
        return hop;
    *next_flow = GWTF_FLOW_NONE;
    uint32_t next_stage = protocol_next_stage(p, p->stage);
    size_t hops_max = protocol_stage_size(p, next_stage);
    size_t count = gwtf_flow_alternatives(p->flow, slot->microbatch.data_node, p->hops, hops_max);
    for (size_t i = 0; i < count && i < hops_max; i++)
        if (is_open_hop(p, slot, p->hops[i]))
            return p->hops[i];
    /* Nodes that the flow algorithm would not use are still better than none. */
    for (uint32_t rank = 0; rank < hops_max; rank++)
        if (is_open_hop(p, slot, protocol_stage_node(p, next_stage, rank)))
            return protocol_stage_node(p, next_stage, rank);
    return GWTF_NODE_NONE;
}

static void pause_slot(gwtf_protocol *p, struct protocol_slot *slot) {
    int64_t pause_us = p->compute_us / 2;
    if (pause_us < PAUSE_LEAST_US)
        pause_us = PAUSE_LEAST_US;
    for (uint32_t i = 0; i < slot->refused_rounds && pause_us < PAUSE_MOST_US; i++)
        pause_us *= 2;
    slot->refused_rounds++;
    slot->retry_us = p->now_us + (pause_us < PAUSE_MOST_US ? pause_us : PAUSE_MOST_US);
    memset(slot->tried, 0, sizeof slot->tried);
}

static bool wants_hop(const struct protocol_slot *slot) {
    return slot->state == SLOT_ROUTING || (slot->resend && slot->state != SLOT_LEAVING);
}

/* The last microbatch that went to a lost node is with a substitute. */
static void tell_repaired(gwtf_protocol *p, gwtf_node_id lost, gwtf_time_us lost_us) {
    uint32_t microbatches = 0;
    for (uint32_t i = 0; i < p->slots_count; i++) {
        const struct protocol_slot *slot = &p->slots[i];
        if (slot->state == SLOT_FREE || !slot->repaired || slot->lost_next != lost)
            continue;
        if (wants_hop(slot))
            return;
        microbatches++;
    }
    struct gwtf_incident *incident = protocol_incident(p, GWTF_INCIDENT_REPAIRED, lost);
    incident->microbatches = microbatches;
    incident->duration_us = p->now_us - lost_us;
}

static uint32_t flags_of(const struct protocol_slot *slot) {
    if (!slot->repaired)
        return 0;
    return slot->state >= SLOT_BACKWARD_READY ? GWTF_MICROBATCH_REPAIR | GWTF_MICROBATCH_LOCAL
                                              : GWTF_MICROBATCH_REPAIR;
}

/* Whoever held it when it was to go there again may have passed it on. */
static void note_lost_way(const gwtf_protocol *p, struct protocol_slot *slot) {
    if (slot->phase == GWTF_PHASE_TRAIN && slot->next != GWTF_NODE_NONE &&
        slot->next != slot->lost_next && protocol_is_down(p, slot->next) &&
        gwtf_flow_repeats_pipeline(p->config.policy)) {
        slot->repaired = true;
        slot->lost_next = slot->next;
        slot->lost_us = p->now_us;
    }
}

static void pass_on(gwtf_protocol *p, struct protocol_slot *slot) {
    gwtf_flow_id next_flow;
    note_lost_way(p, slot);
    gwtf_node_id hop = choose_hop(p, slot, &next_flow);
    if (hop == GWTF_NODE_NONE) {
        pause_slot(p, slot);
        return;
    }
    struct gwtf_payload payload = {.kind = GWTF_PAYLOAD_BOUNDARY,
                                   .slot = protocol_slot_index(p, slot),
                                   .boundary = GWTF_BOUNDARY_OUTPUT};
    struct gwtf_action *action =
        protocol_transfer_send(p, hop, GWTF_MESSAGE_FORWARD, slot->phase, slot->iteration,
                               p->config.boundary_bytes, payload);
    slot->attempt = ++p->attempts;
    action->message.body.microbatch.id = slot->microbatch;
    action->message.body.microbatch.flow = next_flow;
    action->message.body.microbatch.attempt = slot->attempt;
    action->message.body.microbatch.pass = slot->pass;
    action->message.body.microbatch.flags = flags_of(slot);
    action->message.body.microbatch.replaces = slot->lost_next;
    action->message.generation = slot->generation;
    slot->next = hop;
    slot->sent_us = p->now_us;
    protocol_membership_feed_back(p, hop, GWTF_FLOW_FEEDBACK_SENT, 0);
    if (slot->state == SLOT_ROUTING)
        slot->state = SLOT_AWAY;
    slot->resend = false;
    slot->sends++;
    slot->output_sends++;
    if (slot->repaired && slot->lost_next != GWTF_NODE_NONE)
        tell_repaired(p, slot->lost_next, slot->lost_us);
}

/* What a substitute refuses may have given way to other tensors here meanwhile. */
static bool is_refused_for_good(const gwtf_protocol *p, const struct gwtf_message *message) {
    return message->kind == GWTF_MESSAGE_REFUSED && message->phase == GWTF_PHASE_TRAIN &&
           p->config.recovery == GWTF_RECOVERY_EXACT &&
           protocol_slot_counted(p, message->iteration, message->body.microbatch.id);
}

void protocol_routing_answer(gwtf_protocol *p, gwtf_node_id peer,
                             const struct gwtf_message *message) {
    struct protocol_slot *slot = protocol_slot_find(
        p, (enum gwtf_phase)message->phase, message->iteration, message->body.microbatch.id);
    if (!slot && is_refused_for_good(p, message))
        protocol_repair_irreparable(p, protocol_next_stage(p, p->stage));
    if (!slot || wants_hop(slot) || slot->state == SLOT_ASKING || slot->next != peer ||
        slot->attempt != message->body.microbatch.attempt)
        return;
    if (message->kind == GWTF_MESSAGE_ACCEPTED) {
        slot->accepted = true;
        protocol_slot_settle(p, slot);
        return;
    }
    protocol_membership_feed_back(p, peer, GWTF_FLOW_FEEDBACK_REFUSED, 0);
    protocol_repair_take_back(p, slot, false);
}

void protocol_routing_begin(gwtf_protocol *p) {
    if (p->stage > 0)
        return;
    struct protocol_source *source = &p->source;
    source->waits = p->phase == GWTF_PHASE_TRAIN;
    source->total = source->waits ? 0 : p->config.validation_microbatches;
    source->started = 0;
    source->completed = 0;
    source->told = false;
    source->tokens = 0;
}

static void start_microbatch(gwtf_protocol *p, struct protocol_slot *slot, gwtf_flow_id flow) {
    struct gwtf_microbatch id = {.data_node = p->config.self, .index = p->source.started++};
    protocol_slot_take(p, slot, p->phase, p->iteration, id);
    slot->flow = flow;
    slot->state = SLOT_FORWARD_READY;
    slot->arrival = p->arrivals++;
}

static bool is_route_idle(const gwtf_protocol *p, gwtf_flow_id flow) {
    for (uint32_t i = 0; i < p->config.capacity; i++)
        if (p->slots[i].state != SLOT_FREE && p->slots[i].flow == flow)
            return false;
    return true;
}

static gwtf_time_us routeless_until_us(const gwtf_protocol *p) {
    int64_t round_trip_us = 0;
    for (uint32_t i = 0; i < p->neighbours_count; i++)
        if (p->neighbours[i].round_trip_us > round_trip_us)
            round_trip_us = p->neighbours[i].round_trip_us;
    int64_t hops = (int64_t)p->config.stages + 1;
    return p->source.routeless_us + hops * (ROUTELESS_US + 4 * round_trip_us);
}

/* A microbatch of this data node has not found a taker yet. */
static bool is_one_leaving(const gwtf_protocol *p) {
    for (uint32_t i = 0; i < p->config.capacity; i++)
        if ((p->slots[i].state >= SLOT_FORWARD_READY && p->slots[i].state <= SLOT_ROUTING) ||
            (p->slots[i].state == SLOT_AWAY && p->slots[i].resend))
            return true;
    return false;
}

/* Without any route for too long, this phase or an earlier one; or another data node is done, so
 * that its flows' relays are idle. */
static bool may_go_without_route(gwtf_protocol *p) {
    if (p->source.routeless_us != GWTF_TIME_NEVER && routeless_until_us(p) <= p->now_us)
        return true;
    return protocol_round_of(p, p->iteration)->dones_here[p->phase] > 0;
}

static void start_microbatches(gwtf_protocol *p) {
    struct protocol_source *source = &p->source;
    if (p->stage > 0 || p->ended || source->started == source->total)
        return;
    struct protocol_slot *slot = protocol_slot_unused(p);
    if (!slot)
        return;
    size_t count = gwtf_flow_routes(p->flow, p->routes, p->config.capacity);
    if (count > p->config.capacity)
        count = p->config.capacity;
    for (size_t i = 0; i < count && slot && source->started < source->total; i++) {
        if (!is_route_idle(p, p->routes[i].flow))
            continue;
        start_microbatch(p, slot, p->routes[i].flow);
        slot = protocol_slot_unused(p);
    }
    if (count > 0)
        source->routeless_us = GWTF_TIME_NEVER;
    else if (source->routeless_us == GWTF_TIME_NEVER)
        source->routeless_us = p->now_us;
    if (slot && source->started < source->total && may_go_without_route(p) && !is_one_leaving(p))
        start_microbatch(p, slot, GWTF_FLOW_NONE);
}

static bool can_pass_on(const struct protocol_slot *slot) {
    return wants_hop(slot) && slot->output_sends < PROTOCOL_OUTPUT_SENDS_MAX;
}

/* Kept slots are many, and hardly ever have anything to pass on. */
static uint32_t slots_to_pass_on(const gwtf_protocol *p) {
    return p->kept_resend ? p->slots_count : p->config.capacity;
}

void protocol_routing_advance(gwtf_protocol *p) {
    start_microbatches(p);
    for (uint32_t i = 0; i < slots_to_pass_on(p); i++)
        if (can_pass_on(&p->slots[i]) && p->slots[i].retry_us <= p->now_us)
            pass_on(p, &p->slots[i]);
}

gwtf_time_us protocol_routing_deadline(const gwtf_protocol *p) {
    gwtf_time_us deadline_us = GWTF_TIME_NEVER;
    for (uint32_t i = 0; i < slots_to_pass_on(p); i++)
        if ((can_pass_on(&p->slots[i]) || p->slots[i].state == SLOT_ASKING) &&
            p->slots[i].retry_us < deadline_us)
            deadline_us = p->slots[i].retry_us;
    if (p->stage == 0 && p->source.routeless_us != GWTF_TIME_NEVER &&
        p->source.started < p->source.total) {
        gwtf_time_us until_us = routeless_until_us(p);
        if (until_us > p->now_us && until_us < deadline_us)
            deadline_us = until_us;
    }
    return deadline_us;
}
