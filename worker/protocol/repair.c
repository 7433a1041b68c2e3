/*
 * What a lost node had, done again by substitutes in its stage alone.
 *
 * Who sent a microbatch's OUTPUT to the lost node sends it to a substitute, flagged REPAIR; flagged
 * LOCAL too when the gradient had come back, so that only the lost node's weight gradient is
 * missing. A substitute runs forward and asks the next stage who holds the microbatch. Nobody: it
 * passes it on, again as REPAIR, since a lost node of that stage may have passed it on. Somebody:
 * that node sends its gradient to the substitute, again when it had sent it to the lost one. So two
 * neighbours lost at one time repair each other, stage after stage, and no other stage computes
 * anything again.
 *
 * Where the policy repeats the pipeline, a substitute only peeks. When somebody holds the
 * microbatch, its data node is asked, and if the backward pass had begun, runs it through all
 * stages again, in a new pass: from node to node where it was, the substitute in place of the lost
 * one. Who had added it to its gradients does its work again, but adds nothing.
 *
 * For this a node keeps both tensors that it sent for each finished microbatch, until the iteration
 * is committed. Where something is missing that nobody keeps, the stage is irreparable in this
 * generation, and the iteration begins anew.
 */
#include "worker/protocol/state.h"

#include <string.h>

static uint32_t rank_of(const gwtf_protocol *p, gwtf_node_id node) {
    return p->members[protocol_member_find(p, node)].rank;
}

static void forget(gwtf_protocol *p, const struct protocol_slot *slot) {
    if (slot->next == GWTF_NODE_NONE || p->config.recovery != GWTF_RECOVERY_EXACT)
        return;
    if (protocol_is_down(p, slot->next) || slot->resend)
        protocol_repair_irreparable(p, protocol_next_stage(p, p->stage));
    else
        p->forgotten[rank_of(p, slot->next)] = true;
}

/* An unused kept slot; else that of the oldest microbatch that is not to be sent again, which is
 * forgotten; else NULL. */
static struct protocol_slot *room(gwtf_protocol *p) {
    struct protocol_slot *oldest = NULL;
    for (uint32_t i = p->kept_next; i < p->slots_count; i++) {
        if (p->slots[i].state != SLOT_FREE)
            continue;
        p->kept_next = i + 1;
        return &p->slots[i];
    }
    for (uint32_t i = p->config.capacity; i < p->slots_count; i++) {
        struct protocol_slot *slot = &p->slots[i];
        if (slot->state == SLOT_FREE)
            return slot;
        if (slot->state == SLOT_KEPT && slot->sends == 0 && !slot->resend &&
            (!oldest || slot->arrival < oldest->arrival))
            oldest = slot;
    }
    if (oldest) {
        forget(p, oldest);
        protocol_slot_give_up(p, oldest);
    }
    return oldest;
}

void protocol_repair_keep(gwtf_protocol *p, struct protocol_slot *slot) {
    struct protocol_slot *kept = room(p);
    if (!kept) {
        forget(p, slot);
        slot->state = SLOT_LEAVING;
        protocol_slot_settle(p, slot);
        return;
    }
    protocol_slot_move(p, slot, kept);
    kept->state = SLOT_KEPT;
    p->kept_resend = p->kept_resend || kept->resend;
    p->kept_shadow = p->kept_shadow || kept->shadow;
    kept->arrival = p->arrivals++;
    slot->state = SLOT_LEAVING;
    protocol_slot_settle(p, slot);
}

void protocol_repair_release(gwtf_protocol *p) {
    for (uint32_t i = p->config.capacity; i < p->slots_count; i++)
        if (p->slots[i].state == SLOT_KEPT)
            protocol_slot_give_up(p, &p->slots[i]);
    p->kept_next = p->config.capacity;
    p->kept_resend = false;
    p->kept_shadow = false;
    uint32_t next_size = protocol_stage_size(p, protocol_next_stage(p, p->stage));
    memset(p->forgotten, 0, next_size * sizeof *p->forgotten);
    uint64_t microbatches = (uint64_t)p->data_nodes * protocol_order_most(&p->config);
    memset(p->counted, 0, (size_t)(microbatches + 7) / 8);
}

void protocol_repair_take_back(gwtf_protocol *p, struct protocol_slot *slot, bool lost) {
    if (lost) {
        slot->repaired = slot->phase == GWTF_PHASE_TRAIN;
        slot->lost_next = slot->next;
        slot->lost_us = p->now_us;
        memset(slot->tried, 0, sizeof slot->tried);
    } else {
        uint32_t rank = rank_of(p, slot->next);
        slot->tried[rank / 8] = (uint8_t)(slot->tried[rank / 8] | 1u << (rank % 8));
    }
    slot->retry_us = p->now_us;
    /* A data node's may come back from the last stage all the same. */
    if (slot->state == SLOT_AWAY && p->stage > 0)
        slot->state = SLOT_ROUTING;
    else
        slot->resend = true;
    p->kept_resend = p->kept_resend || protocol_slot_index(p, slot) >= p->config.capacity;
}

static bool is_with_next(const gwtf_protocol *p, const struct protocol_slot *slot) {
    if (slot->state == SLOT_RECEIVING_INPUT)
        return p->stage == 0;
    return slot->state >= SLOT_AWAY && slot->state != SLOT_LEAVING;
}

/* Its gradient has come back: only the lost node's own gradients miss it. */
static bool is_local(const struct protocol_slot *slot) {
    return slot->state >= SLOT_BACKWARD_READY;
}

static void lost_hop(gwtf_protocol *p, struct protocol_slot *slot) {
    if (slot->phase == GWTF_PHASE_TRAIN && is_local(slot) &&
        p->config.recovery != GWTF_RECOVERY_EXACT)
        return;
    if (protocol_is_down(p, slot->next))
        protocol_membership_feed_back(p, slot->next, GWTF_FLOW_FEEDBACK_FAILED, 0);
    protocol_repair_take_back(p, slot, true);
}

/* Nobody waits for what DATA_NODE validates, and nobody takes it from the last stage. */
static void give_up_validation(gwtf_protocol *p, gwtf_node_id data_node) {
    for (uint32_t i = 0; i < p->config.capacity; i++) {
        struct protocol_slot *slot = &p->slots[i];
        if (slot->state != SLOT_FREE && slot->phase == GWTF_PHASE_VALIDATE &&
            slot->microbatch.data_node == data_node)
            protocol_slot_give_up(p, slot);
    }
}

void protocol_repair_lost(gwtf_protocol *p, gwtf_node_id node) {
    for (uint32_t i = 0; i < p->slots_count && !p->finished; i++) {
        struct protocol_slot *slot = &p->slots[i];
        if (slot->state == SLOT_FREE || !is_with_next(p, slot))
            continue;
        /* In validation nobody says where a microbatch is: whatever is out goes again. */
        bool may_be_lost = slot->phase == GWTF_PHASE_VALIDATE && p->stage == 0;
        if (slot->next == node || may_be_lost)
            lost_hop(p, slot);
    }
    const struct protocol_member *member = &p->members[protocol_member_find(p, node)];
    if (member->stage == 0)
        give_up_validation(p, node);
    if (member->stage == protocol_next_stage(p, p->stage) && p->forgotten[member->rank] &&
        p->config.recovery == GWTF_RECOVERY_EXACT)
        protocol_repair_irreparable(p, member->stage);
}

/* Who of the next stage can hold the slot's microbatch. */
static bool may_hold(const gwtf_protocol *p, const struct protocol_slot *slot, gwtf_node_id node) {
    return !protocol_is_down(p, node) &&
           (p->stage < p->config.stages || node == slot->microbatch.data_node);
}

static bool peeks(const gwtf_protocol *p, const struct protocol_slot *slot) {
    return gwtf_flow_repeats_pipeline(p->config.policy) && !slot->local && !slot->proceeds;
}

static void ask(gwtf_protocol *p, const struct protocol_slot *slot, gwtf_node_id node) {
    if (!may_hold(p, slot, node))
        return;
    struct gwtf_message *message =
        protocol_send(p, node, GWTF_MESSAGE_ASK, GWTF_PHASE_TRAIN, slot->iteration);
    message->generation = slot->generation;
    message->body.microbatch.id = slot->microbatch;
    message->body.microbatch.attempt = slot->attempt;
    message->body.microbatch.pass = slot->pass;
    message->body.microbatch.flags = peeks(p, slot) ? GWTF_MICROBATCH_PEEK : 0;
    message->body.microbatch.replaces = slot->replaces;
}

void protocol_repair_ask(gwtf_protocol *p, struct protocol_slot *slot) {
    slot->state = SLOT_ASKING;
    slot->retry_us = GWTF_TIME_NEVER;
    slot->attempt = ++p->attempts;
    memset(slot->tried, 0, sizeof slot->tried);
    uint32_t stage = protocol_next_stage(p, p->stage);
    for (uint32_t rank = 0; rank < protocol_stage_size(p, stage); rank++)
        ask(p, slot, protocol_stage_node(p, stage, rank));
}

void protocol_repair_entered(gwtf_protocol *p, const struct protocol_member *member) {
    if (member->stage != protocol_next_stage(p, p->stage))
        return;
    for (uint32_t i = 0; i < p->config.capacity; i++)
        if (p->slots[i].state == SLOT_ASKING)
            ask(p, &p->slots[i], member->node);
}

/* A data node has begun another pass, which has not come back yet: it has what it sent in the one
 * before, but neither takes nor sends that again by itself. */
static bool is_out_again(const gwtf_protocol *p, const struct protocol_slot *slot) {
    return p->stage == 0 && slot->has_loss && slot->state < SLOT_RETURNING;
}

/* The slot of an asked microbatch, with its whole input or with one coming. */
static struct protocol_slot *held(gwtf_protocol *p, const struct gwtf_message *message) {
    struct protocol_slot *slot =
        protocol_slot_find(p, GWTF_PHASE_TRAIN, message->iteration, message->body.microbatch.id);
    if (!slot)
        return NULL;
    bool has_input = p->stage > 0 || slot->state >= SLOT_LOSS_READY ||
                     slot->state == SLOT_RECEIVING_INPUT ||
                     (is_out_again(p, slot) && message->body.microbatch.pass < slot->pass);
    return has_input ? slot : NULL;
}

static bool has_input_gradient(const gwtf_protocol *p, const struct protocol_slot *slot) {
    return slot->state == SLOT_KEPT || (p->stage == 0 && slot->state >= SLOT_RETURNING);
}

static void take_ask(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message) {
    const struct protocol_member *member = &p->members[protocol_member_find(p, peer)];
    if (member->stage != protocol_previous_stage(p, p->stage))
        return;
    /* Nothing that the lost node sent may come after the answer. */
    uint32_t lost = protocol_member_find(p, message->body.microbatch.replaces);
    if (lost != PROTOCOL_NONE && p->members[lost].stage == member->stage &&
        p->members[lost].incarnation <= message->iteration)
        protocol_view_down(p, message->body.microbatch.replaces, p->members[lost].incarnation,
                           false);
    if (p->finished)
        return;
    struct protocol_slot *slot = held(p, message);
    enum gwtf_message_kind kind = GWTF_MESSAGE_NOT_HELD;
    if (slot)
        kind = GWTF_MESSAGE_HELD;
    else if (protocol_slot_counted(p, message->iteration, message->body.microbatch.id))
        kind = GWTF_MESSAGE_FORGOTTEN;
    struct gwtf_message *answer =
        protocol_send(p, peer, kind, GWTF_PHASE_TRAIN, message->iteration);
    answer->generation = message->generation;
    answer->body.microbatch = message->body.microbatch;
    bool is_peek = message->body.microbatch.flags & GWTF_MICROBATCH_PEEK;
    if (slot && !is_peek && is_out_again(p, slot) && message->body.microbatch.pass < slot->pass) {
        /* Else it would wait for the new pass, which may wait for the memory that it holds. */
        protocol_slot_send_gradient(p, slot, peer, message->body.microbatch.pass);
        return;
    }
    if (slot)
        answer->body.microbatch.pass = slot->pass;
    if (!slot || is_peek)
        return;
    slot->previous = peer;
    slot->input_attempt = message->body.microbatch.attempt;
    slot->local = false;
    if (has_input_gradient(p, slot))
        protocol_slot_send_back(p, slot);
}

/* A pass may need a slot that one of the pass before holds, which waits for it here: after four
 * times as long as a pass takes without queues, the one stage is repaired all the same. */
static gwtf_time_us patience_us(const gwtf_protocol *p) {
    int64_t round_trip_us = 0;
    for (uint32_t i = 0; i < p->neighbours_count; i++)
        if (p->neighbours[i].round_trip_us > round_trip_us)
            round_trip_us = p->neighbours[i].round_trip_us;
    return 4 * (int64_t)(p->config.stages + 1) * (p->compute_us + round_trip_us);
}

static void tell_source(gwtf_protocol *p, struct protocol_slot *slot) {
    slot->retry_us = p->now_us + patience_us(p);
    struct gwtf_message *message = protocol_send(p, slot->microbatch.data_node, GWTF_MESSAGE_AGAIN,
                                                 GWTF_PHASE_TRAIN, slot->iteration);
    message->generation = slot->generation;
    message->body.microbatch.id = slot->microbatch;
    message->body.microbatch.attempt = slot->attempt;
    message->body.microbatch.pass = slot->pass;
}

static void take_answer(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message) {
    struct protocol_slot *slot =
        protocol_slot_find(p, GWTF_PHASE_TRAIN, message->iteration, message->body.microbatch.id);
    const struct protocol_member *member = &p->members[protocol_member_find(p, peer)];
    if (!slot || slot->state != SLOT_ASKING || slot->attempt != message->body.microbatch.attempt ||
        member->stage != protocol_next_stage(p, p->stage))
        return;
    if (message->kind == GWTF_MESSAGE_FORGOTTEN) {
        /* What this stage has its sum without, the one before lacks. */
        protocol_repair_irreparable(p,
                                    slot->shadow ? protocol_previous_stage(p, p->stage) : p->stage);
    } else if (message->kind == GWTF_MESSAGE_NOT_HELD) {
        slot->tried[member->rank / 8] =
            (uint8_t)(slot->tried[member->rank / 8] | 1u << (member->rank % 8));
    } else {
        slot->next = peer;
        if (!peeks(p, slot)) {
            slot->state = SLOT_AWAY;
            slot->pass = message->body.microbatch.pass;
        } else if (slot->pass > message->body.microbatch.pass) {
            slot->state = SLOT_ROUTING; /* the newer pass goes on */
            slot->retry_us = p->now_us;
            memset(slot->tried, 0, sizeof slot->tried);
        } else {
            tell_source(p, slot);
        }
    }
}

/* A substitute wants to know how far SLOT's microbatch is. */
static void take_again(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message) {
    struct protocol_slot *slot =
        protocol_slot_find(p, GWTF_PHASE_TRAIN, message->iteration, message->body.microbatch.id);
    if (p->stage > 0 || !slot || slot->pass != message->body.microbatch.pass)
        return;
    bool has_room = slot->sends - slot->output_sends + 2 <= PROTOCOL_GRADIENT_SENDS_MAX;
    if (slot->state != SLOT_RETURNING || !has_room) {
        struct gwtf_message *answer =
            protocol_send(p, peer, GWTF_MESSAGE_PROCEED, GWTF_PHASE_TRAIN, message->iteration);
        answer->generation = message->generation;
        answer->body.microbatch = message->body.microbatch;
        return;
    }
    slot->pass++;
    slot->state = SLOT_AWAY;
    slot->resend = true;
    slot->retry_us = p->now_us;
    memset(slot->tried, 0, sizeof slot->tried);
}

static void take_proceed(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message) {
    struct protocol_slot *slot =
        protocol_slot_find(p, GWTF_PHASE_TRAIN, message->iteration, message->body.microbatch.id);
    if (!slot || slot->state != SLOT_ASKING || slot->attempt != message->body.microbatch.attempt ||
        slot->microbatch.data_node != peer)
        return;
    slot->proceeds = true;
    protocol_repair_ask(p, slot);
}

static void take_irreparable(gwtf_protocol *p, const struct gwtf_message *message) {
    struct protocol_round *round = protocol_round_of(p, message->iteration);
    if (!round || round->generation != message->generation)
        return;
    if (message->body.view.stage == p->stage)
        round->irreparable = true;
    else if (p->config.self == p->recorder)
        round->restart_wanted = true;
}

void protocol_repair_message(gwtf_protocol *p, gwtf_node_id peer,
                             const struct gwtf_message *message) {
    if (message->kind == GWTF_MESSAGE_ASK)
        take_ask(p, peer, message);
    else if (message->kind == GWTF_MESSAGE_AGAIN)
        take_again(p, peer, message);
    else if (message->kind == GWTF_MESSAGE_PROCEED)
        take_proceed(p, peer, message);
    else if (message->kind == GWTF_MESSAGE_IRREPARABLE)
        take_irreparable(p, message);
    else
        take_answer(p, peer, message);
}

static void tell_irreparable(gwtf_protocol *p, const struct protocol_round *round, gwtf_node_id to,
                             uint32_t stage) {
    struct gwtf_message *message =
        protocol_send(p, to, GWTF_MESSAGE_IRREPARABLE, GWTF_PHASE_TRAIN, round->iteration);
    message->generation = round->generation;
    message->body.view.stage = stage;
}

static void note_irreparable(gwtf_protocol *p, struct protocol_round *round, uint32_t stage) {
    if (stage == p->stage) {
        if (round->irreparable)
            return;
        round->irreparable = true;
    }
    for (uint32_t rank = 0; rank < protocol_stage_size(p, stage); rank++) {
        gwtf_node_id node = protocol_stage_node(p, stage, rank);
        if (node != p->config.self && !protocol_is_down(p, node))
            tell_irreparable(p, round, node, stage);
    }
}

/* Of the iteration that the gradients are of: while this node validates, it is the next one. */
void protocol_repair_irreparable(gwtf_protocol *p, uint32_t stage) {
    struct protocol_round *round = protocol_round_of(p, p->stepped + 1);
    if (round && !p->ended)
        note_irreparable(p, round, stage);
}

/* Something is done again here for the stage before alone. */
static bool has_shadow(const gwtf_protocol *p) {
    for (uint32_t i = 0; i < p->config.capacity; i++)
        if (p->slots[i].state != SLOT_FREE && p->slots[i].shadow)
            return true;
    return false;
}

/* This stage has its sum, but cannot make again what the next one had from a lost node of it, or
 * get again what the one before needs. */
static void pass_on_irreparable(gwtf_protocol *p, struct protocol_round *round) {
    bool next = p->stage < p->config.stages && protocol_is_output_wanted(p);
    bool previous = p->stage > 0 && has_shadow(p);
    if (!round->irreparable)
        return;
    if (next && !round->irreparable_passed_on) {
        round->irreparable_passed_on = true;
        note_irreparable(p, round, p->stage + 1);
    }
    if (previous && !round->irreparable_passed_back) {
        round->irreparable_passed_back = true;
        note_irreparable(p, round, p->stage - 1);
    }
}

/* A replica that has not got the sum together says so, and never says COMPLETE in this generation:
 * so nobody has stepped in it, nor will. */
static void report_irreparable(gwtf_protocol *p) {
    struct protocol_round *round = protocol_round_of(p, p->iteration);
    if (p->phase != GWTF_PHASE_TRAIN || p->ended || p->attempt != p->view)
        return;
    if (p->aggregation >= AGGREGATION_COMPLETE) {
        pass_on_irreparable(p, round);
        return;
    }
    if (p->stage > 0 && protocol_iteration_lacks_data_node(p))
        round->irreparable = true;
    if (!round->irreparable)
        return;
    if (p->config.self == p->recorder) {
        round->restart_wanted = true;
    } else if (round->irreparable_told != p->recorder) {
        round->irreparable_told = p->recorder;
        tell_irreparable(p, round, p->recorder, p->stage);
    }
}

static bool all_have_answered(const gwtf_protocol *p, const struct protocol_slot *slot) {
    uint32_t stage = protocol_next_stage(p, p->stage);
    if (p->stage == p->config.stages && protocol_is_down(p, slot->microbatch.data_node))
        return false; /* the iteration begins anew, or has been committed */
    for (uint32_t rank = 0; rank < protocol_stage_size(p, stage); rank++)
        if (may_hold(p, slot, protocol_stage_node(p, stage, rank)) &&
            !(slot->tried[rank / 8] >> (rank % 8) & 1))
            return false;
    return true;
}

void protocol_repair_advance(gwtf_protocol *p) {
    for (uint32_t i = 0; i < p->config.capacity; i++) {
        struct protocol_slot *slot = &p->slots[i];
        if (slot->state == SLOT_ASKING && slot->retry_us <= p->now_us) {
            slot->proceeds = true;
            protocol_repair_ask(p, slot);
        }
        if (slot->state != SLOT_ASKING || !all_have_answered(p, slot))
            continue;
        slot->state = SLOT_ROUTING;
        slot->retry_us = p->now_us;
        memset(slot->tried, 0, sizeof slot->tried);
    }
    report_irreparable(p);
}
