/* The whole-state checker: what must hold between any two steps. */
#include "worker/protocol/state.h"

typedef const char *(*check_function)(const gwtf_protocol *p);

static bool is_running(enum protocol_slot_state state) {
    return state == SLOT_FORWARD_RUNNING || state == SLOT_LOSS_RUNNING ||
           state == SLOT_BACKWARD_RUNNING;
}

static bool is_awaiting(enum protocol_slot_state state) {
    return state == SLOT_RECEIVING_INPUT || state == SLOT_RECEIVING_GRADIENT;
}

static const char *check_slot_counts(const gwtf_protocol *p) {
    uint32_t used = 0;
    for (uint32_t i = 0; i < p->slots_count; i++) {
        const struct protocol_slot *slot = &p->slots[i];
        if (slot->state == SLOT_FREE)
            continue;
        used += i < p->config.capacity;
        if (slot->output_sends > slot->sends || slot->output_sends > PROTOCOL_OUTPUT_SENDS_MAX ||
            slot->sends > slot->output_sends + PROTOCOL_GRADIENT_SENDS_MAX)
            return "a slot has more sends under way than it may";
        if (slot->state == SLOT_LEAVING && slot->sends == 0 && !slot->receiving && !slot->running)
            return "a slot is kept for nothing";
        if (slot->state == SLOT_LEAVING)
            continue;
        for (uint32_t j = i + 1; j < p->slots_count; j++) {
            const struct protocol_slot *other = &p->slots[j];
            if (other->state != SLOT_FREE && other->state != SLOT_LEAVING &&
                other->phase == slot->phase && other->iteration == slot->iteration &&
                other->microbatch.data_node == slot->microbatch.data_node &&
                other->microbatch.index == slot->microbatch.index)
                return "a microbatch has two slots";
        }
    }
    if (used != p->slots_used)
        return "the count of slots is wrong";
    return used <= p->config.capacity ? NULL : "more slots are used than there are";
}

/* States that only a relay or only a data node has. */
static const char *check_slot_states(const gwtf_protocol *p) {
    for (uint32_t i = 0; i < p->slots_count; i++) {
        const struct protocol_slot *slot = &p->slots[i];
        bool of_data_node = slot->state == SLOT_LOSS_READY || slot->state == SLOT_LOSS_RUNNING ||
                            slot->state == SLOT_RETURNING;
        if (of_data_node && p->stage > 0)
            return "a relay has a data node's slot";
        if (i >= p->config.capacity && slot->state != SLOT_FREE && slot->state != SLOT_KEPT &&
            slot->state != SLOT_LEAVING)
            return "a kept slot is used for more than keeping";
        if (i < p->config.capacity && slot->state == SLOT_KEPT)
            return "a microbatch is kept where others should train";
        bool has_gradient = slot->state == SLOT_RECEIVING_GRADIENT ||
                            slot->state == SLOT_BACKWARD_READY ||
                            slot->state == SLOT_BACKWARD_RUNNING;
        if (has_gradient && slot->phase != GWTF_PHASE_TRAIN)
            return "a microbatch of validation has a gradient";
        if (slot->state == SLOT_FREE)
            continue;
        bool is_late = slot->state == SLOT_LEAVING ||
                       (slot->state == SLOT_AWAY && slot->phase == GWTF_PHASE_VALIDATE);
        if (slot->iteration > p->iteration + 1 || (slot->iteration < p->iteration && !is_late))
            return "a slot holds a microbatch of an iteration that is not open";
        if (slot->iteration == p->iteration && slot->phase < p->phase && !is_late)
            return "a slot holds a microbatch of a phase that has ended";
        if (is_running(slot->state) && slot->running &&
            p->stepped != slot->iteration - (slot->phase == GWTF_PHASE_TRAIN ? 1 : 0))
            return "a microbatch runs on weights that are not its own";
    }
    return NULL;
}

static bool is_in_stage(const gwtf_protocol *p, gwtf_node_id node, uint32_t stage) {
    uint32_t member = protocol_member_find(p, node);
    return member != PROTOCOL_NONE && p->members[member].stage == stage;
}

static bool had_next(enum protocol_slot_state state, uint32_t stage) {
    if (state == SLOT_AWAY || state == SLOT_RECEIVING_GRADIENT || state == SLOT_BACKWARD_READY ||
        state == SLOT_BACKWARD_RUNNING || state == SLOT_KEPT)
        return true;
    return stage == 0 && state > SLOT_AWAY && state != SLOT_LEAVING;
}

/* A microbatch comes from the stage before and goes to the stage after, in the end to its own data
 * node. */
static const char *check_paths(const gwtf_protocol *p) {
    uint32_t next = protocol_next_stage(p, p->stage);
    uint32_t previous = protocol_previous_stage(p, p->stage);
    for (uint32_t i = 0; i < p->slots_count; i++) {
        const struct protocol_slot *slot = &p->slots[i];
        if (slot->state == SLOT_FREE || slot->state == SLOT_LEAVING)
            continue;
        if (!is_in_stage(p, slot->microbatch.data_node, 0))
            return "a microbatch is of no data node";
        if (p->stage == 0 && slot->microbatch.data_node != p->config.self)
            return "a data node holds another's microbatch";
        if (p->stage > 0 && !is_in_stage(p, slot->previous, previous))
            return "a microbatch came from another stage than the previous";
        if (p->stage == 1 && slot->previous != slot->microbatch.data_node)
            return "a microbatch came from a data node that is not its own";
        if (had_next(slot->state, p->stage) && !is_in_stage(p, slot->next, next))
            return "a microbatch went to another stage than the next";
        if (p->stage == p->config.stages && had_next(slot->state, p->stage) &&
            slot->next != slot->microbatch.data_node)
            return "a microbatch went to a data node that is not its own";
    }
    return NULL;
}

static const char *check_works(const gwtf_protocol *p) {
    if (p->works_count > PROTOCOL_WORKS_MAX)
        return "more works are under way than may be";
    uint32_t running = 0, slot_works = 0, steps = 0, reduces = 0;
    for (uint32_t i = 0; i < p->slots_count; i++) {
        const struct protocol_slot *slot = &p->slots[i];
        running += slot->running;
        if (slot->state != SLOT_FREE && is_running(slot->state) != slot->running &&
            slot->state != SLOT_LEAVING)
            return "a slot does not know whether it is worked on";
    }
    for (uint32_t i = 0; i < p->works_count; i++) {
        const struct gwtf_work *work = &p->works[i];
        steps += work->kind == GWTF_WORK_STEP;
        reduces += work->kind == GWTF_WORK_REDUCE;
        if (work->kind == GWTF_WORK_SNAPSHOT && p->snapshot_wanted != work->iteration)
            return "a snapshot is made that nobody wants";
        if (work->kind > GWTF_WORK_EMBED_BACKWARD)
            continue;
        slot_works++;
        if (!p->slots[work->slot].running)
            return "a work is under way for a slot that does not wait for it";
    }
    if (running != slot_works)
        return "a slot waits for a work that is not under way";
    /* A REDUCE of an attempt that was given up may still be under way. */
    if (steps + reduces > 1 || (steps == 1 && p->aggregation != AGGREGATION_STEPPING))
        return "the optimizer works at the wrong time";
    return NULL;
}

static const char *check_boundary_transfer(const gwtf_protocol *p,
                                           const struct protocol_transfer *transfer) {
    if (transfer->payload.slot >= p->slots_count)
        return "a tensor is under way for a slot that does not exist";
    const struct protocol_slot *slot = &p->slots[transfer->payload.slot];
    if (slot->state == SLOT_FREE)
        return "a tensor is under way for a free slot";
    enum protocol_slot_state awaited = transfer->payload.boundary == GWTF_BOUNDARY_INPUT
                                           ? SLOT_RECEIVING_INPUT
                                           : SLOT_RECEIVING_GRADIENT;
    if (transfer->receives && !slot->receiving)
        return "a tensor comes into a slot that knows nothing of it";
    if (transfer->receives && slot->state != awaited && slot->state != SLOT_LEAVING)
        return "a tensor comes into a slot that does not wait for it";
    return NULL;
}

static const char *check_transfers(const gwtf_protocol *p) {
    uint32_t used = 0, receives = 0, slot_sends = 0, gradient_sends = 0, reduced_sends = 0,
             state_sends = 0;
    uint32_t coming = 0;
    for (uint32_t i = 0; i < p->transfers_ever; i++) {
        const struct protocol_transfer *transfer = &p->transfers[i];
        if (!transfer->used)
            continue;
        used++;
        if (!protocol_is_told(p, &p->members[protocol_member_find(p, transfer->peer)]))
            return "a tensor is under way from or to a lost node";
        if (transfer->payload.kind == GWTF_PAYLOAD_BOUNDARY) {
            const char *why = check_boundary_transfer(p, transfer);
            if (why)
                return why;
            receives += transfer->receives;
            slot_sends += !transfer->receives;
        } else if (!transfer->receives) {
            gradient_sends += transfer->payload.kind == GWTF_PAYLOAD_GRADIENT;
            reduced_sends += transfer->payload.kind == GWTF_PAYLOAD_REDUCED;
            state_sends += transfer->payload.kind == GWTF_PAYLOAD_STATE;
        } else {
            coming += transfer->payload.kind == GWTF_PAYLOAD_PART ||
                      transfer->payload.kind == GWTF_PAYLOAD_REDUCED;
        }
    }
    uint32_t slots_receiving = 0, slots_sending = 0;
    for (uint32_t i = 0; i < p->slots_count; i++) {
        const struct protocol_slot *slot = &p->slots[i];
        if (slot->state == SLOT_FREE)
            continue;
        slots_receiving += slot->receiving;
        slots_sending += slot->sends;
        if (is_awaiting(slot->state) && !slot->receiving)
            return "a slot waits for a tensor that does not come";
    }
    if (used != p->transfers_used)
        return "the count of transfers is wrong";
    if (receives != slots_receiving || slot_sends != slots_sending)
        return "slots and transfers disagree";
    if (gradient_sends != p->gradient_sends || reduced_sends != p->reduced_sends ||
        coming != p->tensors_coming)
        return "aggregation and transfers disagree";
    if (state_sends != p->entry.sends)
        return "more weights are sent, or fewer, than nodes that come back wait for";
    return NULL;
}

static const char *check_round(const gwtf_protocol *p, const struct protocol_round *round) {
    for (int phase = 0; phase < 2; phase++) {
        uint32_t here = 0;
        for (uint32_t rank = 0; rank < p->data_nodes; rank++)
            here += round->dones[phase][rank].here;
        if (here != round->dones_here[phase])
            return "the count of DONE is wrong";
    }
    uint32_t contributions = 0, shares = 0, norms = 0;
    for (uint32_t rank = 0; rank < p->replicas; rank++) {
        contributions += round->contributions[rank].here;
        shares += round->shares[rank].here;
    }
    for (uint32_t stage = 0; stage <= p->config.stages; stage++)
        norms += round->norms[stage].here;
    if (contributions != round->contributions_here || shares != round->shares_here ||
        norms != round->norms_here)
        return "a count of the aggregation is wrong";
    return NULL;
}

static const char *check_iteration(const gwtf_protocol *p) {
    uint32_t older = p->iteration, newer = p->iteration + 1;
    if (p->rounds[older & 1].iteration != older ||
        (p->rounds[newer & 1].iteration != newer && !p->ended))
        return "the open rounds are not those of this iteration and the next";
    for (int i = 0; i < 2; i++) {
        const char *why = check_round(p, &p->rounds[i]);
        if (why)
            return why;
    }
    bool has_stepped = p->aggregation == AGGREGATION_STEPPED;
    if (p->stepped != (has_stepped ? p->iteration : p->iteration - 1))
        return "the weights are not those of the iteration";
    if ((p->phase == GWTF_PHASE_VALIDATE || p->ended) && !has_stepped)
        return "validation or the end came before the step";
    /* While this node validates, others may have the next iteration's microbatches here. */
    if (has_stepped && p->trained > 0 && p->phase == GWTF_PHASE_TRAIN)
        return "a microbatch was trained between step and iteration";
    if (p->trained > (uint64_t)protocol_order_most(&p->config) * p->data_nodes)
        return "more microbatches were trained than there are";
    return NULL;
}

static const char *check_source(const gwtf_protocol *p) {
    const struct protocol_source *source = &p->source;
    if (p->stage > 0)
        return NULL;
    if (source->completed > source->started || source->started > source->total)
        return "more microbatches came back than went out";
    uint32_t open = 0;
    for (uint32_t i = 0; i < p->config.capacity; i++)
        open += p->slots[i].state != SLOT_FREE && p->slots[i].state != SLOT_LEAVING;
    if (open != source->started - source->completed)
        return "a microbatch that is out has no slot";
    return NULL;
}

static const char *check_suspicions(const gwtf_protocol *p) {
    uint32_t suspected = 0, accused = 0;
    for (uint32_t i = 0; i < p->config.members_count; i++) {
        const struct protocol_member *member = &p->members[i];
        suspected += member->suspected;
        accused += member->accused;
        if (member->down && (member->suspected || member->accused))
            return "a node that is down is suspected";
    }
    if (suspected != p->suspected_count || accused != p->accused_count)
        return "the count of silent nodes is wrong";
    for (uint32_t stage = 0; stage <= p->config.stages; stage++)
        if (p->doubts[stage].own &&
            !p->members[protocol_member_find(p, p->doubts[stage].node)].suspected)
            return "a node is doubted that is heard";
    return NULL;
}

static const char *check_flow(const gwtf_protocol *p) {
    const char *why = NULL;
    return gwtf_flow_check(p->flow, &why) ? NULL : why;
}

bool gwtf_protocol_check(const gwtf_protocol *p, const char **why) {
    static const check_function checks[] = {check_slot_counts, check_slot_states, check_paths,
                                            check_works,       check_transfers,   check_iteration,
                                            check_source,      check_suspicions,  check_flow};
    if (!p->started || p->finished || p->entry.waits)
        return true;
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        const char *reason = checks[i](p);
        if (!reason)
            continue;
        if (why)
            *why = reason;
        return false;
    }
    return true;
}
