/* The life of a microbatch in this node, from its slot to its slot. */
#include "worker/protocol/state.h"

#include "share/base/assert.h"

#include <string.h>

struct protocol_slot *protocol_slot_unused(gwtf_protocol *p) {
    for (uint32_t i = 0; i < p->config.capacity; i++)
        if (p->slots[i].state == SLOT_FREE)
            return &p->slots[i];
    return NULL;
}

static bool holds(const struct protocol_slot *slot, enum gwtf_phase phase, uint32_t iteration,
                  struct gwtf_microbatch microbatch) {
    return slot->state != SLOT_FREE && slot->state != SLOT_LEAVING && slot->phase == phase &&
           slot->iteration == iteration && slot->microbatch.data_node == microbatch.data_node &&
           slot->microbatch.index == microbatch.index;
}

struct protocol_slot *protocol_slot_find(gwtf_protocol *p, enum gwtf_phase phase,
                                         uint32_t iteration, struct gwtf_microbatch microbatch) {
    for (uint32_t i = 0; i < p->config.capacity; i++)
        if (holds(&p->slots[i], phase, iteration, microbatch))
            return &p->slots[i];
    /* Kept slots are many: one that cannot be there is not looked for. */
    bool may_be_kept = phase == GWTF_PHASE_TRAIN && iteration == p->stepped + 1 &&
                       (p->kept_shadow || protocol_slot_counted(p, iteration, microbatch));
    for (uint32_t i = p->config.capacity; may_be_kept && i < p->slots_count; i++)
        if (holds(&p->slots[i], phase, iteration, microbatch))
            return &p->slots[i];
    return NULL;
}

uint32_t protocol_slot_index(const gwtf_protocol *p, const struct protocol_slot *slot) {
    return (uint32_t)(slot - p->slots);
}

void protocol_slot_take(gwtf_protocol *p, struct protocol_slot *slot, enum gwtf_phase phase,
                        uint32_t iteration, struct gwtf_microbatch microbatch) {
    GWTF_ASSERT(slot->state == SLOT_FREE && slot->sends == 0);
    memset(slot, 0, sizeof *slot);
    slot->phase = phase;
    slot->iteration = iteration;
    slot->microbatch = microbatch;
    slot->previous = GWTF_NODE_NONE;
    slot->next = GWTF_NODE_NONE;
    slot->replaces = GWTF_NODE_NONE;
    slot->lost_next = GWTF_NODE_NONE;
    if (phase == GWTF_PHASE_TRAIN)
        slot->generation = protocol_round_of(p, iteration)->generation;
    p->slots_used++;
}

static void free_slot(gwtf_protocol *p, struct protocol_slot *slot) {
    slot->state = SLOT_FREE;
    slot->resend = false;
    p->slots_used -= protocol_slot_index(p, slot) < p->config.capacity;
}

void protocol_slot_settle(gwtf_protocol *p, struct protocol_slot *slot) {
    if (slot->state == SLOT_AWAY && p->stage > 0 && slot->phase == GWTF_PHASE_VALIDATE &&
        slot->accepted)
        slot->state = SLOT_LEAVING;
    if (slot->state == SLOT_LEAVING && slot->sends == 0 && !slot->receiving && !slot->running)
        free_slot(p, slot);
}

void protocol_slot_give_up(gwtf_protocol *p, struct protocol_slot *slot) {
    if (slot->state == SLOT_FREE)
        return;
    slot->state = SLOT_LEAVING;
    slot->resend = false;
    protocol_slot_settle(p, slot);
}

static void make_ready(gwtf_protocol *p, struct protocol_slot *slot,
                       enum protocol_slot_state state) {
    slot->state = state;
    slot->arrival = p->arrivals++;
}

/* Whether a microbatch of PHASE of ITERATION can still come, or come already. */
static bool is_open(const gwtf_protocol *p, enum gwtf_phase phase, uint32_t iteration) {
    if (p->ended || iteration > p->config.last_iteration)
        return false;
    if (iteration == p->iteration)
        return phase >= p->phase;
    return iteration == p->iteration + 1 && phase == GWTF_PHASE_TRAIN;
}

static bool is_sound_forward(const gwtf_protocol *p, gwtf_node_id peer,
                             const struct gwtf_message *message) {
    struct gwtf_microbatch id = message->body.microbatch.id;
    uint32_t sender = protocol_member_find(p, peer);
    uint32_t source = protocol_member_find(p, id.data_node);
    if (source == PROTOCOL_NONE || p->members[source].stage != 0 ||
        p->members[sender].stage != protocol_previous_stage(p, p->stage))
        return false;
    if (p->stage == 1 && peer != id.data_node)
        return false;
    if (message->phase == GWTF_PHASE_TRAIN && id.index >= protocol_order_most(&p->config))
        return false;
    if (message->phase == GWTF_PHASE_VALIDATE && p->members[source].down)
        return false; /* its sender will give it up */
    return message->payload_bytes == p->config.boundary_bytes &&
           is_open(p, (enum gwtf_phase)message->phase, message->iteration);
}

bool protocol_is_output_wanted(const gwtf_protocol *p) {
    const struct protocol_round *round = &p->rounds[p->iteration & 1];
    for (uint32_t stage = p->stage + 1; stage <= p->config.stages; stage++)
        if (!round->norms[stage].here)
            return p->aggregation < AGGREGATION_STEPPING;
    return false;
}

/* Its microbatches go into the sum that the stage is about to put together, or has. */
static bool is_of_this_iteration(const gwtf_protocol *p, const struct gwtf_message *message) {
    return message->phase == GWTF_PHASE_TRAIN && message->iteration == p->iteration;
}

static void answer(gwtf_protocol *p, const struct protocol_slot *slot,
                   enum gwtf_message_kind kind) {
    struct gwtf_message *message =
        protocol_send(p, slot->previous, kind, slot->phase, slot->iteration);
    message->generation = slot->generation;
    message->body.microbatch.id = slot->microbatch;
    message->body.microbatch.flow = slot->flow;
    message->body.microbatch.attempt = slot->input_attempt;
}

static void reply(gwtf_protocol *p, gwtf_node_id peer, enum gwtf_message_kind kind,
                  const struct gwtf_message *message) {
    struct gwtf_message *answer =
        protocol_send(p, peer, kind, (enum gwtf_phase)message->phase, message->iteration);
    answer->generation = message->generation;
    answer->body.microbatch = message->body.microbatch;
}

static void refuse(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message) {
    p->refusals++;
    reply(p, peer, GWTF_MESSAGE_REFUSED, message);
}

static void receive_boundary(gwtf_protocol *p, gwtf_node_id peer,
                             const struct gwtf_message *message, struct protocol_slot *slot,
                             enum gwtf_boundary boundary) {
    slot->receiving = true;
    struct gwtf_payload payload = {
        .kind = GWTF_PAYLOAD_BOUNDARY, .slot = protocol_slot_index(p, slot), .boundary = boundary};
    protocol_transfer_receive(p, peer, message, payload);
}

static void receive_input(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message,
                          struct protocol_slot *slot) {
    slot->previous = peer;
    slot->input_attempt = message->body.microbatch.attempt;
    slot->pass = message->body.microbatch.pass;
    slot->state = SLOT_RECEIVING_INPUT;
    receive_boundary(p, peer, message, slot, GWTF_BOUNDARY_INPUT);
}

void protocol_slot_move(gwtf_protocol *p, struct protocol_slot *from, struct protocol_slot *to) {
    uint32_t old = protocol_slot_index(p, from), now = protocol_slot_index(p, to);
    *to = *from;
    protocol_transfers_move(p, old, now);
    struct gwtf_action *action = protocol_emit(p, GWTF_ACTION_KEEP);
    action->slot = old < now ? old : now;
    action->kept = old < now ? now : old;
    from->sends = 0;
    from->output_sends = 0;
}

/* A slot to train again what KEPT has trained, with its tensors; NULL: there is none now. */
static struct protocol_slot *take_out_kept(gwtf_protocol *p, struct protocol_slot *kept) {
    struct protocol_slot *slot = protocol_slot_unused(p);
    if (!slot || !protocol_aggregation_is_open(p) ||
        kept->sends - kept->output_sends + 2 > PROTOCOL_GRADIENT_SENDS_MAX)
        return NULL;
    protocol_slot_move(p, kept, slot);
    slot->shadow = true;
    p->slots_used++;
    protocol_slot_give_up(p, kept);
    return slot;
}

/* A newer pass of a microbatch that SLOT holds. */
static void repeat(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message,
                   struct protocol_slot *slot) {
    if (slot->state == SLOT_KEPT)
        slot = take_out_kept(p, slot);
    else if (slot->running || slot->receiving)
        slot = NULL;
    if (!slot) {
        refuse(p, peer, message);
        return;
    }
    /* A substitute has waited for this with its output. */
    bool has_output = slot->state == SLOT_ASKING && slot->next != GWTF_NODE_NONE;
    slot->asks = slot->next == GWTF_NODE_NONE && slot->asks;
    slot->proceeds = false;
    slot->local = false;
    slot->resend = false;
    /* An answer to what went in the pass before says nothing of this one. */
    slot->attempt = ++p->attempts;
    slot->retry_us = p->now_us;
    memset(slot->tried, 0, sizeof slot->tried);
    if (!has_output) {
        receive_input(p, peer, message, slot);
        return;
    }
    slot->previous = peer;
    slot->input_attempt = message->body.microbatch.attempt;
    slot->pass = message->body.microbatch.pass;
    slot->state = SLOT_ROUTING;
}

void protocol_slots_forward(gwtf_protocol *p, gwtf_node_id peer,
                            const struct gwtf_message *message) {
    if (!is_sound_forward(p, peer, message))
        return;
    enum gwtf_phase phase = (enum gwtf_phase)message->phase;
    struct gwtf_microbatch id = message->body.microbatch.id;
    struct protocol_slot *slot = protocol_slot_find(p, phase, message->iteration, id);
    if (p->stage > 0 && slot && message->body.microbatch.pass > slot->pass) {
        repeat(p, peer, message, slot);
        return;
    }
    if (p->stage == 0) {
        /* It left from a slot here, which has waited for it. */
        if (!slot || slot->state != SLOT_AWAY || slot->pass != message->body.microbatch.pass) {
            /* In validation it may come once more than it is missed: nobody need keep it. */
            if (phase == GWTF_PHASE_VALIDATE)
                reply(p, peer, GWTF_MESSAGE_ACCEPTED, message);
            return;
        }
    } else {
        slot = slot ? NULL : protocol_slot_unused(p);
        bool durable = is_of_this_iteration(p, message) && protocol_aggregation_is_durable(p);
        uint32_t flags = message->body.microbatch.flags;
        if (durable && (flags & GWTF_MICROBATCH_LOCAL) && !protocol_is_output_wanted(p))
            return; /* the stage's sum has it */
        bool leaves = message->iteration > p->iteration && protocol_leave_is_own(p);
        if (!slot || !p->entry.has_state || leaves ||
            (is_of_this_iteration(p, message) && !durable && !protocol_aggregation_is_open(p))) {
            refuse(p, peer, message);
            return;
        }
        protocol_slot_take(p, slot, phase, message->iteration, id);
        slot->flow = message->body.microbatch.flow;
        slot->asks = flags & GWTF_MICROBATCH_REPAIR;
        slot->repaired = slot->asks;
        slot->local = flags & GWTF_MICROBATCH_LOCAL;
        slot->replaces = message->body.microbatch.replaces;
        slot->shadow = durable;
        if (message->body.microbatch.pass > 0 && protocol_slot_counted(p, message->iteration, id))
            slot->shadow = slot->asks = true; /* its tensors are gone */
        p->repaired += slot->asks;
    }
    receive_input(p, peer, message, slot);
}

void protocol_slots_backward(gwtf_protocol *p, gwtf_node_id peer,
                             const struct gwtf_message *message) {
    struct protocol_slot *slot =
        protocol_slot_find(p, GWTF_PHASE_TRAIN, message->iteration, message->body.microbatch.id);
    enum protocol_slot_state awaits = p->stage == 0 ? SLOT_RETURNING : SLOT_AWAY;
    if (!slot || slot->state != awaits || slot->next != peer ||
        slot->pass != message->body.microbatch.pass ||
        message->payload_bytes != p->config.boundary_bytes)
        return;
    slot->state = SLOT_RECEIVING_GRADIENT;
    protocol_membership_feed_back(p, peer, GWTF_FLOW_FEEDBACK_DONE, p->now_us - slot->sent_us);
    receive_boundary(p, peer, message, slot, GWTF_BOUNDARY_OUTPUT_GRADIENT);
}

static void received_input(gwtf_protocol *p, struct protocol_slot *slot, bool whole) {
    GWTF_ASSERT(slot->state == SLOT_RECEIVING_INPUT);
    if (whole) {
        if (slot->phase == GWTF_PHASE_VALIDATE)
            answer(p, slot, GWTF_MESSAGE_ACCEPTED);
        make_ready(p, slot, p->stage == 0 ? SLOT_LOSS_READY : SLOT_FORWARD_READY);
        return;
    }
    /* The sender still has it. */
    p->refusals++;
    answer(p, slot, GWTF_MESSAGE_REFUSED);
    if (p->stage == 0)
        slot->state = SLOT_AWAY;
    else
        free_slot(p, slot);
}

void protocol_slots_unreceived(gwtf_protocol *p, const struct protocol_transfer *transfer) {
    struct protocol_slot *slot = &p->slots[transfer->payload.slot];
    slot->receiving = false;
    if (slot->state == SLOT_LEAVING) {
        protocol_slot_settle(p, slot);
    } else if (slot->state == SLOT_RECEIVING_GRADIENT) {
        slot->state = p->stage == 0 ? SLOT_RETURNING : SLOT_AWAY;
    } else {
        /* A substitute that was told that it is here. */
        if (slot->previous != transfer->peer && !protocol_is_down(p, slot->previous))
            answer(p, slot, GWTF_MESSAGE_REFUSED);
        if (p->stage == 0)
            slot->state = SLOT_AWAY;
        else
            free_slot(p, slot);
    }
}

void protocol_slots_received(gwtf_protocol *p, const struct protocol_transfer *transfer,
                             bool whole) {
    struct protocol_slot *slot = &p->slots[transfer->payload.slot];
    slot->receiving = false;
    if (slot->state == SLOT_LEAVING) {
        protocol_slot_settle(p, slot);
        return;
    }
    if (transfer->payload.boundary == GWTF_BOUNDARY_INPUT) {
        received_input(p, slot, whole);
        return;
    }
    GWTF_ASSERT(slot->state == SLOT_RECEIVING_GRADIENT);
    /* The sender of a gradient may have given up its slot: it cannot be had again. */
    if (!whole)
        protocol_close(p, GWTF_ERROR_CORRUPT, transfer->peer);
    else
        make_ready(p, slot, SLOT_BACKWARD_READY);
}

void protocol_slots_sent(gwtf_protocol *p, const struct protocol_transfer *transfer) {
    struct protocol_slot *slot = &p->slots[transfer->payload.slot];
    GWTF_ASSERT(slot->state != SLOT_FREE && slot->sends > 0);
    slot->sends--;
    if (transfer->payload.boundary == GWTF_BOUNDARY_OUTPUT)
        slot->output_sends--;
    protocol_slot_settle(p, slot);
}

void protocol_slot_send_gradient(gwtf_protocol *p, struct protocol_slot *slot, gwtf_node_id to,
                                 uint32_t pass) {
    struct gwtf_payload payload = {.kind = GWTF_PAYLOAD_BOUNDARY,
                                   .slot = protocol_slot_index(p, slot),
                                   .boundary = GWTF_BOUNDARY_INPUT_GRADIENT};
    struct gwtf_action *action =
        protocol_transfer_send(p, to, GWTF_MESSAGE_BACKWARD, slot->phase, slot->iteration,
                               p->config.boundary_bytes, payload);
    action->message.body.microbatch.id = slot->microbatch;
    action->message.body.microbatch.flow = slot->flow;
    action->message.body.microbatch.pass = pass;
    action->message.generation = slot->generation;
    slot->sends++;
}

/* To a lost node nothing is sent: a substitute will ask for it. */
void protocol_slot_send_back(gwtf_protocol *p, struct protocol_slot *slot) {
    if (!slot->local && !protocol_is_down(p, slot->previous))
        protocol_slot_send_gradient(p, slot, slot->previous, slot->pass);
}

static uint64_t bit_of(const gwtf_protocol *p, struct gwtf_microbatch microbatch) {
    uint32_t rank = p->members[protocol_member_find(p, microbatch.data_node)].rank;
    return (uint64_t)rank * protocol_order_most(&p->config) + microbatch.index;
}

bool protocol_slot_counted(const gwtf_protocol *p, uint32_t iteration,
                           struct gwtf_microbatch microbatch) {
    uint32_t source = protocol_member_find(p, microbatch.data_node);
    if (iteration != p->stepped + 1 || source == PROTOCOL_NONE || p->members[source].stage != 0 ||
        microbatch.index >= protocol_order_most(&p->config))
        return false;
    uint64_t bit = bit_of(p, microbatch);
    return p->counted[bit / 8] >> (bit % 8) & 1;
}

/* The gradients now hold this microbatch. */
static void count_trained(gwtf_protocol *p, const struct protocol_slot *slot) {
    p->microbatches_trained++;
    if (slot->shadow)
        return;
    uint64_t bit = bit_of(p, slot->microbatch);
    p->counted[bit / 8] = (uint8_t)(p->counted[bit / 8] | 1u << (bit % 8));
    p->trained++;
    p->trained_ids += protocol_microbatch_hash(slot->iteration, slot->microbatch);
}

static void worked_loss(gwtf_protocol *p, struct protocol_slot *slot,
                        const struct gwtf_work_result *result) {
    if (!slot->has_loss) {
        p->source.losses[slot->microbatch.index] = result->loss_sum;
        p->source.tokens += result->tokens;
    }
    slot->has_loss = true;
    if (slot->phase == GWTF_PHASE_TRAIN) {
        slot->state = SLOT_RETURNING;
        protocol_slot_send_back(p, slot);
        return;
    }
    p->source.completed++;
    slot->state = SLOT_LEAVING;
    protocol_slot_settle(p, slot);
}

void protocol_slots_worked(gwtf_protocol *p, const struct gwtf_work *work,
                           const struct gwtf_work_result *result) {
    struct protocol_slot *slot = &p->slots[work->slot];
    slot->running = false;
    bool repeats = slot->pass > 0 && (slot->shadow || work->kind < GWTF_WORK_BACKWARD);
    if (slot->state == SLOT_LEAVING || slot->asks || repeats)
        p->wasted_us += result->compute_us;
    if (slot->state == SLOT_LEAVING) {
        protocol_slot_settle(p, slot);
        return;
    }
    switch (work->kind) {
    case GWTF_WORK_EMBED:
        slot->state = SLOT_ROUTING;
        break;
    case GWTF_WORK_FORWARD:
        if (slot->asks)
            protocol_repair_ask(p, slot);
        else
            slot->state = SLOT_ROUTING;
        break;
    case GWTF_WORK_LOSS:
        worked_loss(p, slot, result);
        break;
    case GWTF_WORK_BACKWARD:
        count_trained(p, slot);
        protocol_slot_send_back(p, slot);
        protocol_repair_keep(p, slot);
        break;
    case GWTF_WORK_EMBED_BACKWARD:
        count_trained(p, slot);
        p->source.completed++;
        protocol_repair_keep(p, slot);
        break;
    default:
        GWTF_ASSERT(false);
    }
}
