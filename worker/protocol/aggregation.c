/*
 * From the replicas' gradients to one step, whoever is lost on the way.
 *
 * Each living replica of a stage reduces its share of the gradients and sends it to the others, so
 * that all hold the same bits. Who has all shares says COMPLETE to the replicas. When all of them
 * have, the stage is durable, and its first living replica says so to all other stages, with the
 * stage's part of the gradient norm (NORM). Who knows all stages to be durable takes the
 * optimizer's step. So when anybody has stepped, every living node has what it needs to step.
 *
 * An attempt is named by its view: a hash of the iteration's generation and of the stage's lost
 * nodes. When a replica is lost, each one that is not complete gives its attempt up and begins
 * again in the new view; one that is complete waits until it has the new view from all living
 * replicas. If all of them are complete, the sum stands, for somebody may have stepped with it. If
 * one is not, nobody has stepped, nor will with that sum, and all begin again. Since every replica
 * says once in a view whether it is complete, and says it to all, all decide alike; and a loss that
 * interrupts this makes another view.
 *
 * In an iteration in which a replica was lost, tensors are exchanged only when the counts of all
 * replicas together make up every microbatch, so that they are exchanged once.
 */
#include "worker/protocol/state.h"

#include "share/base/assert.h"
#include "share/base/random.h"

#include <math.h>
#include <string.h>

#define LINE_FLOATS 16

void gwtf_share_of(uint64_t floats, uint32_t replicas, uint32_t rank, uint64_t *offset,
                   uint64_t *count) {
    uint64_t lines = floats / LINE_FLOATS;
    uint64_t each = lines / replicas, longer = lines % replicas;
    uint64_t first = each * rank + (rank < longer ? rank : longer);
    *offset = first * LINE_FLOATS;
    *count = (each + (rank < longer ? 1 : 0)) * LINE_FLOATS;
}

uint64_t protocol_microbatch_hash(uint32_t iteration, struct gwtf_microbatch microbatch) {
    return gwtf_random_at(gwtf_random_key(iteration, microbatch.data_node), microbatch.index);
}

static struct protocol_round *current_round(gwtf_protocol *p) {
    return protocol_round_of(p, p->iteration);
}

static bool is_living(const gwtf_protocol *p, uint32_t rank) {
    return !protocol_replica_is_down(p, rank);
}

/* The number of RANK among the living replicas. */
static uint32_t position_of(const gwtf_protocol *p, uint32_t rank) {
    uint32_t position = 0;
    for (uint32_t i = 0; i < rank; i++)
        position += is_living(p, i);
    return position;
}

static void share_of_rank(const gwtf_protocol *p, uint32_t rank, struct gwtf_payload *payload) {
    gwtf_share_of(p->config.gradient_floats, p->participants, position_of(p, rank),
                  &payload->offset, &payload->count);
}

/* In a new view others have other shares. */
static void divide(gwtf_protocol *p) {
    p->participants = p->living[p->stage];
    p->position = position_of(p, p->rank);
    gwtf_share_of(p->config.gradient_floats, p->participants, p->position, &p->share_offset,
                  &p->share_count);
}

static void look_at_view(gwtf_protocol *p) {
    p->view = gwtf_random_key(current_round(p)->generation, 1);
    p->first_living = PROTOCOL_NONE;
    for (uint32_t rank = 0; rank < p->replicas; rank++) {
        const struct protocol_member *member = protocol_member_at(p, p->stage, rank);
        if (member->down)
            p->view = gwtf_random_key(p->view, rank);
        else if (p->first_living == PROTOCOL_NONE)
            p->first_living = rank;
        if (!member->down && member->incarnation != p->config.first_iteration)
            p->view = gwtf_random_key(p->view, (uint64_t)member->incarnation << 32 | rank);
    }
}

/* The gradients are those of the iteration: what is exchanged or added to them is over. */
static bool is_quiet(const gwtf_protocol *p) {
    for (uint32_t i = 0; i < p->works_count; i++)
        if (p->works[i].kind == GWTF_WORK_REDUCE)
            return false;
    return p->tensors_coming == 0 && p->gradient_sends == 0 && p->reduced_sends == 0;
}

static void forget_attempt(gwtf_protocol *p) {
    struct protocol_round *round = current_round(p);
    memset(round->contributions, 0, p->replicas * sizeof *round->contributions);
    memset(round->shares, 0, p->replicas * sizeof *round->shares);
    round->contributions_here = 0;
    round->shares_here = 0;
    p->aggregation = AGGREGATION_TRAINING;
    p->attempt = p->view;
    p->work_issued = false;
    p->replica[p->rank].complete_iteration = 0; /* the sum is no more */
}

void protocol_aggregation_begin(gwtf_protocol *p) {
    bool is_first = p->attempt == 0;
    look_at_view(p);
    p->aggregation = AGGREGATION_TRAINING;
    p->attempt = p->view;
    if (is_first && !p->config.enters) {
        for (uint32_t rank = 0; rank < p->replicas; rank++)
            p->replica[rank].view = p->view;
        divide(p);
    }
}

/* Of those who have been here in ITERATION, the first one speaks for the stage. */
static bool speaks_of(const gwtf_protocol *p, uint32_t iteration) {
    for (uint32_t rank = 0; rank < p->rank; rank++) {
        const struct protocol_member *member = protocol_member_at(p, p->stage, rank);
        if (!member->down && member->incarnation <= iteration)
            return false;
    }
    return true;
}

/* What the first one said before replica RANK was lost, it may have said to some. */
static void say_again(gwtf_protocol *p, uint32_t rank, bool is_valid,
                      const struct gwtf_message *norm) {
    if (is_valid && rank < p->rank && speaks_of(p, norm->iteration))
        protocol_broadcast(p, norm, true);
}

void protocol_aggregation_lost(gwtf_protocol *p, uint32_t rank) {
    look_at_view(p);
    p->disturbed_until = p->iteration + 1;
    struct protocol_round *next = protocol_round_of(p, p->iteration + 1);
    if (next) {
        memset(next->contributions, 0, p->replicas * sizeof *next->contributions);
        next->contributions_here = 0;
    }
    /* A stage can have the next iteration's sum while others have yet to hear of this one's. */
    protocol_aggregation_left_lost(p, rank);
}

void protocol_aggregation_left_lost(gwtf_protocol *p, uint32_t rank) {
    say_again(p, rank, p->norm_before_valid, &p->norm_before);
    say_again(p, rank, p->norm_valid, &p->norm);
}

void protocol_aggregation_recalled(gwtf_protocol *p, uint32_t rank) {
    memset(&p->replica[rank], 0, sizeof p->replica[rank]);
    look_at_view(p);
    p->disturbed_until = p->iteration + 1;
}

/* The view of a node that comes back is nobody's before it knows who is there. */
void protocol_aggregation_entered(gwtf_protocol *p) {
    look_at_view(p);
    p->attempt = p->view;
    p->disturbed_until = p->iteration;
}

static bool is_disturbed(const gwtf_protocol *p) {
    return p->iteration <= p->disturbed_until;
}

static bool is_complete(const gwtf_protocol *p, uint32_t rank) {
    const struct protocol_replica *replica = &p->replica[rank], *own = &p->replica[p->rank];
    return replica->complete_iteration == p->iteration &&
           replica->complete_view == own->complete_view;
}

static bool all_complete(const gwtf_protocol *p) {
    for (uint32_t rank = 0; rank < p->replicas; rank++)
        if (is_living(p, rank) && !is_complete(p, rank))
            return false;
    return true;
}

/* A living replica has stepped with the sum that this node has too. */
static bool somebody_stepped(const gwtf_protocol *p) {
    for (uint32_t rank = 0; rank < p->replicas; rank++)
        if (rank != p->rank && is_living(p, rank) && p->replica[rank].iteration > p->iteration)
            return true;
    return false;
}

bool protocol_aggregation_is_durable(const gwtf_protocol *p) {
    const struct protocol_round *round = &p->rounds[p->iteration & 1];
    return p->aggregation >= AGGREGATION_STEPPING || round->norms[p->stage].here;
}

bool protocol_aggregation_is_open(const gwtf_protocol *p) {
    return p->aggregation < AGGREGATION_COMPLETE;
}

static bool has_microbatches(const gwtf_protocol *p) {
    for (uint32_t i = 0; i < p->config.capacity; i++) {
        const struct protocol_slot *slot = &p->slots[i];
        if (slot->state != SLOT_FREE && slot->state != SLOT_LEAVING &&
            slot->phase == GWTF_PHASE_TRAIN && slot->iteration == p->iteration)
            return true;
    }
    return false;
}

/* Whether this node's gradients hold all that they will, as far as it knows. */
static bool is_counted(const gwtf_protocol *p) {
    uint32_t microbatches;
    uint64_t ids;
    bool stop;
    return p->phase == GWTF_PHASE_TRAIN && !p->clear_wanted && !has_microbatches(p) &&
           protocol_iteration_totals(p, &microbatches, &ids, &stop);
}

static void tell_view(gwtf_protocol *p) {
    struct protocol_replica *own = &p->replica[p->rank];
    own->view = p->view;
    own->counted = p->aggregation == AGGREGATION_TRAINING && is_counted(p);
    own->counted_iteration = p->iteration;
    own->counted_view = p->view;
    own->microbatches = p->trained;
    own->ids = p->trained_ids;
    struct gwtf_message message = {.kind = GWTF_MESSAGE_VIEW, .iteration = p->iteration};
    message.generation = current_round(p)->generation;
    message.body.view.view = p->view;
    message.body.view.number = ++own->number;
    message.body.view.complete_view = own->complete_view;
    message.body.view.complete_iteration = own->complete_iteration;
    message.body.view.counted = own->counted;
    message.body.view.microbatches = own->microbatches;
    message.body.view.ids = own->ids;
    protocol_tell_replicas(p, &message);
}

static bool own_count_is_told(const gwtf_protocol *p) {
    const struct protocol_replica *own = &p->replica[p->rank];
    return own->counted && own->counted_iteration == p->iteration && own->counted_view == p->view &&
           own->ids == p->trained_ids && own->microbatches == p->trained;
}

static bool all_have_view(const gwtf_protocol *p) {
    for (uint32_t rank = 0; rank < p->replicas; rank++)
        if (is_living(p, rank) && p->replica[rank].view != p->view)
            return false;
    return true;
}

/* A replica was lost, or the iteration began anew. */
static void follow_view(gwtf_protocol *p) {
    if (p->attempt == p->view && p->replica[p->rank].view == p->view)
        return;
    bool stands = protocol_aggregation_is_durable(p) || somebody_stepped(p);
    if (p->attempt != p->view && !stands && p->aggregation < AGGREGATION_COMPLETE)
        forget_attempt(p);
    if (p->replica[p->rank].view != p->view) {
        if (!is_quiet(p))
            return;
        divide(p);
        tell_view(p);
    }
    if (p->attempt == p->view)
        return;
    if (stands)
        p->attempt = p->view;
    else if (!all_have_view(p))
        return;
    else if (all_complete(p))
        p->attempt = p->view;
    else
        forget_attempt(p);
}

static void note_contribution(struct protocol_round *round,
                              struct protocol_contribution *contribution) {
    contribution->here = true;
    round->contributions_here++;
}

static void send_contribution(gwtf_protocol *p, uint32_t rank,
                              const struct protocol_contribution *own) {
    gwtf_node_id to = protocol_stage_node(p, p->stage, rank);
    struct gwtf_payload payload = {.kind = GWTF_PAYLOAD_GRADIENT};
    share_of_rank(p, rank, &payload);
    struct gwtf_message *message;
    if (own->microbatches > 0 && payload.count > 0) {
        p->gradient_sends++;
        message = &protocol_transfer_send(p, to, GWTF_MESSAGE_CONTRIBUTION, GWTF_PHASE_TRAIN,
                                          p->iteration, payload.count * sizeof(float), payload)
                       ->message;
    } else {
        message = protocol_send(p, to, GWTF_MESSAGE_CONTRIBUTION, GWTF_PHASE_TRAIN, p->iteration);
    }
    message->generation = current_round(p)->generation;
    message->body.contribution.view = p->attempt;
    message->body.contribution.ids = own->ids;
    message->body.contribution.microbatches = own->microbatches;
    message->body.contribution.repaired = own->repaired;
    message->body.contribution.busy_us = own->busy_us;
    message->body.contribution.wasted_us = own->wasted_us;
    message->body.contribution.leaves = own->leaves;
}

/* To those who are in this view already, the others when they say so. */
static void send_contributions(gwtf_protocol *p) {
    struct protocol_round *round = current_round(p);
    if (p->aggregation < AGGREGATION_EXCHANGING || p->aggregation >= AGGREGATION_COMPLETE ||
        p->attempt != p->view)
        return;
    for (uint32_t rank = 0; rank < p->replicas; rank++) {
        struct protocol_contribution *contribution = &round->contributions[rank];
        if (rank == p->rank || contribution->sent || !is_living(p, rank) ||
            p->replica[rank].view != p->view)
            continue;
        contribution->sent = true;
        send_contribution(p, rank, &round->contributions[p->rank]);
    }
}

static void contribute(gwtf_protocol *p) {
    p->aggregation = AGGREGATION_EXCHANGING;
    struct protocol_round *round = current_round(p);
    struct protocol_contribution *own = &round->contributions[p->rank];
    own->announced = true;
    own->microbatches = p->trained;
    own->ids = p->trained_ids;
    own->repaired = p->repaired;
    own->busy_us = p->busy_us;
    own->wasted_us = p->wasted_us;
    own->leaves = protocol_leave_is_wished(p);
    note_contribution(round, own);
}

static bool sum_counts(const gwtf_protocol *p, uint32_t *microbatches, uint64_t *ids) {
    *microbatches = 0;
    *ids = 0;
    for (uint32_t rank = 0; rank < p->replicas; rank++) {
        const struct protocol_replica *replica = &p->replica[rank];
        if (!is_living(p, rank))
            continue;
        if (!replica->counted || replica->counted_iteration != p->iteration ||
            replica->counted_view != p->view)
            return false;
        *microbatches += replica->microbatches;
        *ids += replica->ids;
    }
    return true;
}

/* The living replicas hold every microbatch: or, where losses are not repaired, all that is left.
 */
static bool is_whole(gwtf_protocol *p) {
    uint32_t microbatches, expected;
    uint64_t ids, expected_ids;
    bool stop;
    if (!sum_counts(p, &microbatches, &ids) ||
        !protocol_iteration_totals(p, &expected, &expected_ids, &stop))
        return false;
    if (p->config.recovery != GWTF_RECOVERY_EXACT)
        return true;
    if (microbatches == expected && ids == expected_ids)
        return true;
    /* Less is on its way; else one is counted twice, which no loss known of leads to. */
    if (microbatches >= expected)
        protocol_repair_irreparable(p, p->stage);
    return false;
}

static void begin_exchange(gwtf_protocol *p) {
    if (p->aggregation != AGGREGATION_TRAINING || p->attempt != p->view ||
        p->replica[p->rank].view != p->view || !is_counted(p))
        return;
    if (!is_disturbed(p)) {
        contribute(p);
        return;
    }
    if (!own_count_is_told(p))
        tell_view(p);
    if (is_whole(p))
        contribute(p);
}

/* The memory for parts is free from this node's REDUCE on; a replica that contributes to the next
 * iteration has this node's COMPLETE, which comes after it. */
static bool can_take_contribution(const gwtf_protocol *p, uint32_t iteration, uint64_t view) {
    if (view != p->replica[p->rank].view || view != p->view)
        return false;
    if (iteration == p->iteration)
        return p->aggregation <= AGGREGATION_EXCHANGING;
    return p->aggregation >= AGGREGATION_COMPLETE;
}

static void take_contribution(gwtf_protocol *p, gwtf_node_id peer, uint32_t rank,
                              const struct gwtf_message *message) {
    struct protocol_round *round = protocol_round_of(p, message->iteration);
    uint32_t microbatches = message->body.contribution.microbatches;
    uint64_t view = message->body.contribution.view;
    uint64_t bytes = microbatches > 0 ? p->share_count * sizeof(float) : 0;
    if (!round || !can_take_contribution(p, message->iteration, view) ||
        round->contributions[rank].announced || message->payload_bytes != bytes)
        return;
    struct protocol_contribution *contribution = &round->contributions[rank];
    contribution->announced = true;
    contribution->microbatches = microbatches;
    contribution->ids = message->body.contribution.ids;
    contribution->repaired = message->body.contribution.repaired;
    contribution->busy_us = message->body.contribution.busy_us;
    contribution->wasted_us = message->body.contribution.wasted_us;
    contribution->leaves = message->body.contribution.leaves != 0;
    struct protocol_replica *replica = &p->replica[rank];
    replica->counted = true;
    replica->counted_iteration = message->iteration;
    replica->counted_view = view;
    replica->microbatches = microbatches;
    replica->ids = contribution->ids;
    if (bytes == 0) {
        note_contribution(round, contribution);
        return;
    }
    struct gwtf_payload payload = {
        .kind = GWTF_PAYLOAD_PART, .part = position_of(p, rank), .count = p->share_count};
    p->tensors_coming++;
    protocol_transfer_receive(p, peer, message, payload);
}

static void note_share(struct protocol_round *round, uint32_t rank) {
    round->shares[rank].here = true;
    round->shares_here++;
}

static void take_share(gwtf_protocol *p, gwtf_node_id peer, uint32_t rank,
                       const struct gwtf_message *message) {
    struct protocol_round *round = current_round(p);
    struct gwtf_payload payload = {.kind = GWTF_PAYLOAD_REDUCED};
    share_of_rank(p, rank, &payload);
    if (message->iteration != p->iteration || p->aggregation < AGGREGATION_EXCHANGING ||
        p->aggregation >= AGGREGATION_COMPLETE || message->body.reduced.view != p->attempt ||
        p->attempt != p->view || round->shares[rank].announced ||
        message->payload_bytes != payload.count * sizeof(float))
        return;
    round->shares[rank].announced = true;
    round->shares[rank].sum_of_squares = message->body.reduced.sum_of_squares;
    if (payload.count == 0) {
        note_share(round, rank);
        return;
    }
    p->tensors_coming++;
    protocol_transfer_receive(p, peer, message, payload);
}

static void take_view(gwtf_protocol *p, uint32_t rank, const struct gwtf_message *message) {
    struct protocol_replica *replica = &p->replica[rank];
    if (message->body.view.number <= replica->number)
        return;
    replica->number = message->body.view.number;
    if (message->iteration > replica->iteration)
        replica->iteration = message->iteration;
    replica->view = message->body.view.view;
    replica->complete_iteration = message->body.view.complete_iteration;
    replica->complete_view = message->body.view.complete_view;
    if (message->kind != GWTF_MESSAGE_VIEW)
        return;
    replica->counted = message->body.view.counted != 0;
    replica->counted_iteration = message->iteration;
    replica->counted_view = message->body.view.view;
    replica->microbatches = message->body.view.microbatches;
    replica->ids = message->body.view.ids;
}

static void take_norm(gwtf_protocol *p, uint32_t stage, const struct gwtf_message *message) {
    struct protocol_round *round = protocol_round_of(p, message->iteration);
    if (!round || stage == p->stage || message->body.norm.stage != stage ||
        round->norms[stage].here)
        return;
    round->norms[stage].here = true;
    round->norms[stage].sum_of_squares = message->body.norm.sum_of_squares;
    round->norms[stage].busy_us = message->body.norm.busy_us;
    round->norms[stage].wasted_us = message->body.norm.wasted_us;
    round->norms[stage].repaired = message->body.norm.repaired;
    round->norms[stage].replicas = message->body.norm.replicas;
    if (message->body.norm.leavers.count <= GWTF_LEAVERS_MAX)
        round->norms[stage].leavers = message->body.norm.leavers;
    round->norms_here++;
    if (stage != 0)
        return;
    round->totals_here = true;
    round->totals_stop = message->body.norm.stop != 0;
    round->entrants = message->body.norm.entrants;
    round->totals_microbatches = message->body.norm.microbatches;
    round->totals_ids = message->body.norm.ids;
    round->totals_shared = message->body.norm.shared;
}

void protocol_aggregation_message(gwtf_protocol *p, gwtf_node_id peer,
                                  const struct gwtf_message *message) {
    const struct protocol_member *member = &p->members[protocol_member_find(p, peer)];
    if (message->kind == GWTF_MESSAGE_NORM)
        take_norm(p, member->stage, message);
    else if (member->stage != p->stage)
        return;
    else if (message->kind == GWTF_MESSAGE_CONTRIBUTION)
        take_contribution(p, peer, member->rank, message);
    else if (message->kind == GWTF_MESSAGE_REDUCED)
        take_share(p, peer, member->rank, message);
    else
        take_view(p, member->rank, message);
}

void protocol_aggregation_received(gwtf_protocol *p, const struct protocol_transfer *transfer,
                                   bool whole) {
    struct protocol_round *round = protocol_round_of(p, transfer->iteration);
    uint32_t rank = p->members[protocol_member_find(p, transfer->peer)].rank;
    GWTF_ASSERT(p->tensors_coming > 0);
    p->tensors_coming--;
    /* The iteration has begun anew, or the attempt, since it was announced. */
    if (!round || p->replica[p->rank].view != p->view)
        return;
    bool is_part = transfer->payload.kind == GWTF_PAYLOAD_PART;
    bool is_awaited =
        is_part ? round->contributions[rank].announced : round->shares[rank].announced;
    if (!is_awaited)
        return;
    if (!whole)
        protocol_close(p, GWTF_ERROR_CORRUPT, transfer->peer);
    else if (is_part)
        note_contribution(round, &round->contributions[rank]);
    else
        note_share(round, rank);
}

void protocol_aggregation_sent(gwtf_protocol *p, const struct protocol_transfer *transfer) {
    uint32_t *sends =
        transfer->payload.kind == GWTF_PAYLOAD_GRADIENT ? &p->gradient_sends : &p->reduced_sends;
    GWTF_ASSERT(*sends > 0);
    (*sends)--;
}

/* Whether the contributions together hold each microbatch of the iteration, and hold it once. */
static bool is_exactly_once(const gwtf_protocol *p, const struct protocol_round *round) {
    uint32_t expected, counted = 0;
    uint64_t expected_ids, ids = 0;
    bool stop;
    for (uint32_t rank = 0; rank < p->replicas; rank++) {
        counted += round->contributions[rank].microbatches;
        ids += round->contributions[rank].ids;
    }
    return protocol_iteration_totals(p, &expected, &expected_ids, &stop) && counted == expected &&
           ids == expected_ids;
}

static void share_reduced(gwtf_protocol *p, double sum_of_squares) {
    struct protocol_round *round = current_round(p);
    round->shares[p->rank].announced = true;
    round->shares[p->rank].sum_of_squares = sum_of_squares;
    note_share(round, p->rank);
    p->aggregation = AGGREGATION_COLLECTING;
    struct gwtf_payload payload = {
        .kind = GWTF_PAYLOAD_REDUCED, .offset = p->share_offset, .count = p->share_count};
    for (uint32_t rank = 0; rank < p->replicas; rank++) {
        if (rank == p->rank || !is_living(p, rank))
            continue;
        gwtf_node_id to = protocol_stage_node(p, p->stage, rank);
        struct gwtf_message *message;
        if (p->share_count > 0) {
            p->reduced_sends++;
            message = &protocol_transfer_send(p, to, GWTF_MESSAGE_REDUCED, GWTF_PHASE_TRAIN,
                                              p->iteration, p->share_count * sizeof(float), payload)
                           ->message;
        } else {
            message = protocol_send(p, to, GWTF_MESSAGE_REDUCED, GWTF_PHASE_TRAIN, p->iteration);
        }
        message->generation = round->generation;
        message->body.reduced.view = p->attempt;
        message->body.reduced.sum_of_squares = sum_of_squares;
    }
}

static void end_exchange(gwtf_protocol *p) {
    struct protocol_round *round = current_round(p);
    if (p->aggregation != AGGREGATION_EXCHANGING || p->attempt != p->view ||
        round->contributions_here < p->living[p->stage])
        return;
    if (p->config.recovery == GWTF_RECOVERY_EXACT && !is_exactly_once(p, round)) {
        /* Nothing is known that leads here; the iteration begins anew all the same. */
        protocol_repair_irreparable(p, p->stage);
        return;
    }
    p->aggregation = AGGREGATION_REDUCING;
    p->work_issued = false;
    if (p->share_count == 0)
        share_reduced(p, 0);
}

static void end_collection(gwtf_protocol *p) {
    struct protocol_round *round = current_round(p);
    if (p->aggregation != AGGREGATION_COLLECTING || p->attempt != p->view ||
        round->shares_here < p->living[p->stage] || round->irreparable || !p->entry.has_state ||
        protocol_leave_is_awaited(p))
        return;
    p->aggregation = AGGREGATION_COMPLETE;
    struct protocol_replica *own = &p->replica[p->rank];
    own->complete_view = p->attempt;
    own->complete_iteration = p->iteration;
    struct gwtf_message message = {.kind = GWTF_MESSAGE_COMPLETE, .iteration = p->iteration};
    message.generation = round->generation;
    message.body.view.number = ++own->number;
    message.body.view.view = p->view;
    message.body.view.complete_view = own->complete_view;
    message.body.view.complete_iteration = own->complete_iteration;
    protocol_tell_replicas(p, &message);
}

/* The stage's part of the norm, in the order of ranks: the same bits in every replica. */
static void sum_norm(const gwtf_protocol *p, struct protocol_round *round) {
    struct protocol_norm *norm = &round->norms[p->stage];
    norm->here = true;
    for (uint32_t rank = 0; rank < p->replicas; rank++) {
        norm->replicas += round->shares[rank].here;
        norm->sum_of_squares += round->shares[rank].sum_of_squares;
        norm->busy_us += round->contributions[rank].busy_us;
        norm->wasted_us += round->contributions[rank].wasted_us;
        norm->repaired += round->contributions[rank].repaired;
    }
    protocol_leave_name(p, round, &norm->leavers);
    round->norms_here++;
}

static void become_durable(gwtf_protocol *p) {
    struct protocol_round *round = current_round(p);
    bool is_agreed = all_complete(p) && protocol_view_is_confirmed(p);
    if (p->aggregation != AGGREGATION_COMPLETE || p->attempt != p->view ||
        round->norms[p->stage].here || (!is_agreed && !somebody_stepped(p)))
        return;
    sum_norm(p, round);
    const struct protocol_norm *norm = &round->norms[p->stage];
    bool stop = false;
    p->norm_before = p->norm;
    p->norm_before_valid = p->norm_valid;
    p->norm = (struct gwtf_message){.kind = GWTF_MESSAGE_NORM, .iteration = p->iteration};
    p->norm.generation = round->generation;
    protocol_iteration_totals(p, &p->norm.body.norm.microbatches, &p->norm.body.norm.ids, &stop);
    p->norm.body.norm.stop = stop;
    p->norm.body.norm.shared =
        round->totals_here ? round->totals_shared : protocol_order_shared(p, round);
    protocol_iteration_entrants(p, &p->norm.body.norm.entrants);
    p->norm.body.norm.stage = p->stage;
    p->norm.body.norm.sum_of_squares = norm->sum_of_squares;
    p->norm.body.norm.busy_us = norm->busy_us;
    p->norm.body.norm.wasted_us = norm->wasted_us;
    p->norm.body.norm.repaired = norm->repaired;
    p->norm.body.norm.replicas = norm->replicas;
    p->norm.body.norm.leavers = norm->leavers;
    p->norm_valid = true;
    if (p->rank == p->first_living)
        protocol_broadcast(p, &p->norm, true);
}

static void begin_step(gwtf_protocol *p) {
    struct protocol_round *round = current_round(p);
    if (p->aggregation != AGGREGATION_COMPLETE || round->norms_here < p->config.stages + 1)
        return;
    double sum_of_squares = 0;
    for (uint32_t stage = 0; stage <= p->config.stages; stage++)
        sum_of_squares += round->norms[stage].sum_of_squares;
    p->gradient_norm = sqrt(sum_of_squares);
    p->aggregation = AGGREGATION_STEPPING;
    p->work_issued = false;
}

void protocol_aggregation_advance(gwtf_protocol *p) {
    /* Who has taken the last step may be all that others of its stage wait for. */
    follow_view(p);
    if (p->ended)
        return;
    begin_exchange(p);
    send_contributions(p);
    end_exchange(p);
    end_collection(p);
    become_durable(p);
    begin_step(p);
}

static void describe_reduce(gwtf_protocol *p, struct gwtf_work *work) {
    const struct protocol_round *round = current_round(p);
    uint32_t counted = 0, expected = 0;
    uint64_t ids;
    bool stop;
    work->kind = GWTF_WORK_REDUCE;
    work->offset = p->share_offset;
    work->count = p->share_count;
    work->own_part = p->position;
    for (uint32_t rank = 0; rank < p->replicas; rank++) {
        uint32_t part = position_of(p, rank);
        counted += round->contributions[rank].microbatches;
        if (round->contributions[rank].microbatches > 0)
            work->parts_present[part / 8] =
                (uint8_t)(work->parts_present[part / 8] | 1u << (part % 8));
    }
    /* What is missing, or more than losses are scaled for, counts as the average of what is there.
     */
    expected = protocol_iteration_totals(p, &expected, &ids, &stop) ? p->config.batch : counted;
    work->scale = counted > 0 && counted != expected ? (double)expected / counted : 1;
}

/* CLEAR and STEP change what contributions are sent from, REDUCE what the last REDUCED messages
 * are; STEP changes what the snapshot hashes, too. */
bool protocol_aggregation_work(gwtf_protocol *p, struct gwtf_work *work) {
    work->iteration = p->iteration;
    if (p->clear_wanted && !p->clear_issued && p->gradient_sends == 0) {
        p->clear_issued = true;
        work->kind = GWTF_WORK_CLEAR;
        return true;
    }
    if (p->work_issued)
        return false;
    if (p->aggregation == AGGREGATION_REDUCING && p->reduced_sends == 0 && p->attempt == p->view) {
        describe_reduce(p, work);
    } else if (p->aggregation == AGGREGATION_STEPPING && p->gradient_sends == 0 &&
               p->snapshot_wanted == 0 && p->entry.sends == 0) {
        work->kind = GWTF_WORK_STEP;
        work->gradient_norm = p->gradient_norm;
    } else {
        return false;
    }
    p->work_issued = true;
    return true;
}

void protocol_aggregation_worked(gwtf_protocol *p, const struct gwtf_work *work,
                                 const struct gwtf_work_result *result) {
    if (work->kind == GWTF_WORK_CLEAR) {
        p->clear_wanted = false;
        p->clear_issued = false;
        return;
    }
    if (work->kind == GWTF_WORK_REDUCE) {
        /* Else it was of an attempt that has been given up. */
        if (p->aggregation == AGGREGATION_REDUCING && p->attempt == p->view)
            share_reduced(p, result->sum_of_squares);
        return;
    }
    p->trained = 0;
    p->trained_ids = 0;
    protocol_iteration_stepped(p);
}
