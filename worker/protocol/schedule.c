/* What the compute thread does next. */
#include "worker/protocol/state.h"

#include "share/base/assert.h"

/* The order of works: lower goes first. */
struct urgency {
    bool forward;
    uint32_t iteration;
    enum gwtf_phase phase;
    uint64_t arrival;
};

static bool is_more_urgent(const struct urgency *a, const struct urgency *b) {
    if (a->forward != b->forward)
        return !a->forward;
    if (a->iteration != b->iteration)
        return a->iteration < b->iteration;
    if (a->phase != b->phase)
        return a->phase < b->phase;
    return a->arrival < b->arrival;
}

/* Whether this node's weights are those that the slot's microbatch is meant for. */
static bool has_weights(const gwtf_protocol *p, const struct protocol_slot *slot) {
    if (slot->iteration > p->iteration && protocol_leave_is_own(p))
        return false; /* it is no member then, unless it must stay */
    return p->entry.has_state &&
           p->stepped == (slot->phase == GWTF_PHASE_TRAIN ? slot->iteration - 1 : slot->iteration);
}

/* Once the step is to be done, no gradient is added to any more; and never while it is being sent,
 * or not yet cleared. */
static bool may_run(const gwtf_protocol *p, const struct protocol_slot *slot) {
    if (slot->phase != GWTF_PHASE_TRAIN)
        return true;
    if (p->aggregation == AGGREGATION_STEPPING)
        return false;
    return slot->state != SLOT_BACKWARD_READY || (p->gradient_sends == 0 && !p->clear_wanted);
}

static bool is_ready(const struct protocol_slot *slot) {
    return slot->state == SLOT_FORWARD_READY || slot->state == SLOT_LOSS_READY ||
           slot->state == SLOT_BACKWARD_READY;
}

static struct protocol_slot *most_urgent(gwtf_protocol *p) {
    struct protocol_slot *best = NULL;
    struct urgency best_urgency = {0};
    for (uint32_t i = 0; i < p->config.capacity; i++) {
        struct protocol_slot *slot = &p->slots[i];
        if (!is_ready(slot) || !has_weights(p, slot) || !may_run(p, slot))
            continue;
        struct urgency urgency = {.forward = slot->state == SLOT_FORWARD_READY,
                                  .iteration = slot->iteration,
                                  .phase = slot->phase,
                                  .arrival = slot->arrival};
        if (best && !is_more_urgent(&urgency, &best_urgency))
            continue;
        best = slot;
        best_urgency = urgency;
    }
    return best;
}

/* Each kind of ready has its work and, while that runs, its state. */
static void begin_slot_work(gwtf_protocol *p, struct protocol_slot *slot, struct gwtf_work *work) {
    bool data_node = p->stage == 0;
    slot->running = true;
    work->phase = slot->phase;
    work->iteration = slot->iteration;
    work->slot = protocol_slot_index(p, slot);
    work->microbatch = slot->microbatch;
    protocol_order_describe(p, slot, work);
    switch (slot->state) {
    case SLOT_FORWARD_READY:
        work->kind = data_node ? GWTF_WORK_EMBED : GWTF_WORK_FORWARD;
        slot->state = SLOT_FORWARD_RUNNING;
        break;
    case SLOT_LOSS_READY:
        work->kind = GWTF_WORK_LOSS;
        work->again = slot->has_loss;
        slot->state = SLOT_LOSS_RUNNING;
        break;
    case SLOT_BACKWARD_READY:
        work->kind = data_node ? GWTF_WORK_EMBED_BACKWARD : GWTF_WORK_BACKWARD;
        work->again = slot->shadow && slot->pass > 0;
        slot->state = SLOT_BACKWARD_RUNNING;
        break;
    default:
        GWTF_ASSERT(false);
    }
}

/* Aggregation first, since other nodes wait for it; then the snapshot, since the next step waits
 * for it; then microbatches. */
static bool choose_work(gwtf_protocol *p, struct gwtf_work *work) {
    if (protocol_aggregation_work(p, work) || protocol_snapshot_work(p, work))
        return true;
    struct protocol_slot *slot = most_urgent(p);
    if (!slot)
        return false;
    begin_slot_work(p, slot, work);
    return true;
}

void protocol_schedule_advance(gwtf_protocol *p) {
    while (p->works_count < PROTOCOL_WORKS_MAX) {
        struct gwtf_work work = {.phase = GWTF_PHASE_TRAIN};
        if (!choose_work(p, &work))
            return;
        p->works[p->works_count++] = work;
        protocol_emit(p, GWTF_ACTION_WORK)->work = work;
    }
}

static bool take_off(gwtf_protocol *p, const struct gwtf_work *done, struct gwtf_work *work) {
    for (uint32_t i = 0; i < p->works_count; i++) {
        const struct gwtf_work *candidate = &p->works[i];
        if (candidate->kind != done->kind || candidate->iteration != done->iteration ||
            candidate->slot != done->slot || candidate->phase != done->phase)
            continue;
        *work = *candidate;
        p->works_count--;
        for (uint32_t j = i; j < p->works_count; j++)
            p->works[j] = p->works[j + 1];
        return true;
    }
    return false;
}

void protocol_schedule_worked(gwtf_protocol *p, const struct gwtf_work *done,
                              const struct gwtf_work_result *result) {
    struct gwtf_work work;
    if (!take_off(p, done, &work))
        return;
    if (work.kind <= GWTF_WORK_EMBED_BACKWARD) {
        if (work.phase == GWTF_PHASE_TRAIN)
            p->busy_us += result->compute_us;
        protocol_membership_worked(p, &work, result->compute_us);
        protocol_slots_worked(p, &work, result);
    } else if (work.kind == GWTF_WORK_SNAPSHOT && p->rest.began) {
        protocol_rest_worked(p);
    } else if (work.kind == GWTF_WORK_SNAPSHOT) {
        protocol_snapshot_worked(p, &work, result);
    } else {
        protocol_aggregation_worked(p, &work, result);
    }
}
