/*
 * What a node waits for, said for people: found from the state alone, so that it is true also where
 * the wait is one that should not be.
 */
#include "worker/protocol/state.h"

static void name_node(struct gwtf_waits *waits, gwtf_node_id node) {
    if (waits->count < GWTF_WAITS_MAX)
        waits->of[waits->count] = node;
    waits->count++;
}

static const struct protocol_round *round_of(const gwtf_protocol *p) {
    return &p->rounds[p->iteration & 1];
}

static void wait_for_welcomes(const gwtf_protocol *p, struct gwtf_waits *waits) {
    waits->kind = GWTF_WAITS_WELCOME;
    for (uint32_t i = 0; i < p->config.members_count; i++)
        if (i != p->self && !p->members[i].down && !p->members[i].welcomed)
            name_node(waits, p->members[i].node);
}

static void wait_for_state(const gwtf_protocol *p, struct gwtf_waits *waits) {
    waits->kind = GWTF_WAITS_STATE;
    for (uint32_t i = 0; i < p->entry.pieces_count; i++)
        if (p->entry.pieces[i].state == PIECE_ASKED || p->entry.pieces[i].state == PIECE_COMING)
            name_node(waits, p->entry.pieces[i].source);
}

/* Microbatches that are here, or with another node; else what the iteration is to hold. */
static void wait_for_microbatches(const gwtf_protocol *p, struct gwtf_waits *waits) {
    waits->kind = GWTF_WAITS_MICROBATCHES;
    for (uint32_t i = 0; i < p->config.capacity; i++) {
        const struct protocol_slot *slot = &p->slots[i];
        if (slot->state != SLOT_FREE && slot->state != SLOT_LEAVING)
            name_node(waits, slot->state >= SLOT_AWAY ? slot->next : p->config.self);
    }
    if (waits->count > 0)
        return;
    waits->kind = GWTF_WAITS_DONE;
    for (uint32_t rank = 0; rank < p->data_nodes; rank++)
        if (!protocol_member_at(p, 0, rank)->down && !round_of(p)->dones[p->phase][rank].here)
            name_node(waits, protocol_stage_node(p, 0, rank));
}

static bool has_counted(const gwtf_protocol *p, uint32_t rank) {
    const struct protocol_replica *replica = &p->replica[rank];
    return replica->counted && replica->counted_iteration == p->iteration &&
           replica->counted_view == p->view;
}

/* True when RANK, a living replica, has not given what KIND names. */
static bool owes(const gwtf_protocol *p, uint32_t rank, enum gwtf_waits_kind kind) {
    const struct protocol_replica *replica = &p->replica[rank], *own = &p->replica[p->rank];
    switch (kind) {
    case GWTF_WAITS_VIEW:
        return replica->view != p->view;
    case GWTF_WAITS_COUNT:
        return !has_counted(p, rank);
    case GWTF_WAITS_CONTRIBUTION:
        return !round_of(p)->contributions[rank].here;
    case GWTF_WAITS_SHARE:
        return !round_of(p)->shares[rank].here;
    case GWTF_WAITS_COMPLETE:
        return replica->complete_iteration != p->iteration ||
               replica->complete_view != own->complete_view;
    default:
        return protocol_member_at(p, p->stage, rank)->down &&
               !protocol_member_at(p, p->stage, rank)->confirmed;
    }
}

static bool wait_for_replicas(const gwtf_protocol *p, struct gwtf_waits *waits,
                              enum gwtf_waits_kind kind) {
    waits->kind = kind;
    for (uint32_t rank = 0; rank < p->replicas; rank++) {
        bool concerned = kind == GWTF_WAITS_CONFIRMATION || !protocol_replica_is_down(p, rank);
        if (concerned && owes(p, rank, kind))
            name_node(waits, protocol_stage_node(p, p->stage, rank));
    }
    return waits->count > 0;
}

static void wait_for_norms(const gwtf_protocol *p, struct gwtf_waits *waits) {
    waits->kind = GWTF_WAITS_NORM;
    for (uint32_t stage = 0; stage <= p->config.stages; stage++)
        if (!round_of(p)->norms[stage].here)
            name_node(waits, stage);
}

static void wait_in_training(const gwtf_protocol *p, struct gwtf_waits *waits) {
    uint32_t microbatches;
    uint64_t ids;
    bool stop;
    wait_for_microbatches(p, waits);
    if (waits->count > 0 || !protocol_iteration_totals(p, &microbatches, &ids, &stop))
        return;
    if (!wait_for_replicas(p, waits, GWTF_WAITS_VIEW))
        wait_for_replicas(p, waits, GWTF_WAITS_COUNT);
}

static void wait_for_step(const gwtf_protocol *p, struct gwtf_waits *waits) {
    waits->kind = p->snapshot_wanted != 0 ? GWTF_WAITS_SNAPSHOT : GWTF_WAITS_WORK;
    if (p->gradient_sends > 0 || p->entry.sends > 0)
        waits->kind = GWTF_WAITS_SENDS;
}

static void wait_to_leave(const gwtf_protocol *p, struct gwtf_waits *waits) {
    waits->kind = GWTF_WAITS_RELEASE;
    for (uint32_t i = 0; i < p->config.members_count; i++)
        if (i != p->self && protocol_leave_waits_for(p, &p->members[i]))
            name_node(waits, p->members[i].node);
    if (waits->count == 0)
        waits->kind = p->works_count > 0 ? GWTF_WAITS_WORK : GWTF_WAITS_SNAPSHOT;
}

static void wait_for_shares(const gwtf_protocol *p, struct gwtf_waits *waits) {
    if (wait_for_replicas(p, waits, GWTF_WAITS_SHARE) || !protocol_leave_is_awaited(p))
        return;
    waits->kind = GWTF_WAITS_LEAVERS;
    for (uint32_t rank = 0; rank < p->replicas; rank++)
        if (protocol_leave_hears_go(p, protocol_member_at(p, p->stage, rank)))
            name_node(waits, protocol_stage_node(p, p->stage, rank));
}

struct gwtf_waits gwtf_protocol_get_waits(const gwtf_protocol *p) {
    struct gwtf_waits waits = {.kind = GWTF_WAITS_NOTHING};
    if (!p->started || p->finished)
        return waits;
    if (p->entry.waits) {
        waits.kind = GWTF_WAITS_ENTRY;
    } else if (!protocol_entry_is_member(p)) {
        wait_for_welcomes(p, &waits);
    } else if (!p->entry.has_state) {
        wait_for_state(p, &waits);
    } else if (p->leave.standby) {
        wait_to_leave(p, &waits);
    } else if (p->aggregation == AGGREGATION_TRAINING || p->aggregation == AGGREGATION_STEPPED) {
        wait_in_training(p, &waits);
    } else if (p->attempt != p->view) {
        wait_for_replicas(p, &waits, GWTF_WAITS_VIEW);
    } else if (p->aggregation == AGGREGATION_EXCHANGING) {
        wait_for_replicas(p, &waits, GWTF_WAITS_CONTRIBUTION);
    } else if (p->aggregation == AGGREGATION_REDUCING) {
        waits.kind = p->reduced_sends > 0 ? GWTF_WAITS_SENDS : GWTF_WAITS_WORK;
    } else if (p->aggregation == AGGREGATION_COLLECTING) {
        wait_for_shares(p, &waits);
    } else if (p->aggregation == AGGREGATION_STEPPING) {
        wait_for_step(p, &waits);
    } else if (!wait_for_replicas(p, &waits, GWTF_WAITS_COMPLETE) &&
               (round_of(p)->norms[p->stage].here ||
                !wait_for_replicas(p, &waits, GWTF_WAITS_CONFIRMATION))) {
        wait_for_norms(p, &waits);
    }
    return waits;
}

const char *gwtf_waits_name(enum gwtf_waits_kind kind) {
    static const char *const names[] = {
        [GWTF_WAITS_NOTHING] = "nothing",
        [GWTF_WAITS_ENTRY] = "being taken back",
        [GWTF_WAITS_WELCOME] = "the welcome of nodes",
        [GWTF_WAITS_STATE] = "weights from nodes",
        [GWTF_WAITS_MICROBATCHES] = "microbatches at nodes",
        [GWTF_WAITS_DONE] = "the end of microbatches of nodes",
        [GWTF_WAITS_VIEW] = "what is lost, to be known by nodes",
        [GWTF_WAITS_COUNT] = "the counts of nodes",
        [GWTF_WAITS_CONTRIBUTION] = "the gradients of nodes",
        [GWTF_WAITS_SHARE] = "the sums of nodes",
        [GWTF_WAITS_COMPLETE] = "the word of having all, of nodes",
        [GWTF_WAITS_CONFIRMATION] = "all to know of the loss of nodes",
        [GWTF_WAITS_NORM] = "the norms of stages",
        [GWTF_WAITS_SENDS] = "what it sends",
        [GWTF_WAITS_WORK] = "its own computing",
        [GWTF_WAITS_SNAPSHOT] = "its snapshot",
        [GWTF_WAITS_LEAVERS] = "the leave of nodes",
        [GWTF_WAITS_RELEASE] = "leave to go, of nodes",
    };
    return names[kind];
}
