/*
 * From the replicas' gradients to one step. Each replica of a stage reduces its share of the
 * gradients and sends it to the others, so that all hold the same bits; the norm of the whole
 * gradient is put together from the stages'; nobody steps before every replica has said that it has
 * everything.
 */
#include "worker/protocol/state.h"

#include "share/base/assert.h"
#include "share/base/random.h"

#include <math.h>

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

static void note_contribution(struct protocol_round *round,
                              struct protocol_contribution *contribution) {
    contribution->here = true;
    round->contributions_here++;
}

static void send_contribution(gwtf_protocol *p, uint32_t rank,
                              const struct protocol_contribution *own) {
    gwtf_node_id to = protocol_stage_node(p, p->stage, rank);
    struct gwtf_payload payload = {.kind = GWTF_PAYLOAD_GRADIENT};
    gwtf_share_of(p->config.gradient_floats, p->replicas, rank, &payload.offset, &payload.count);
    struct gwtf_message *message;
    if (own->microbatches > 0 && payload.count > 0) {
        p->gradient_sends++;
        message = &protocol_transfer_send(p, to, GWTF_MESSAGE_CONTRIBUTION, GWTF_PHASE_TRAIN,
                                          p->iteration, payload.count * sizeof(float), payload)
                       ->message;
    } else {
        message = protocol_send(p, to, GWTF_MESSAGE_CONTRIBUTION, GWTF_PHASE_TRAIN, p->iteration);
    }
    message->body.contribution.ids = own->ids;
    message->body.contribution.microbatches = own->microbatches;
    message->body.contribution.busy_us = own->busy_us;
}

void protocol_aggregation_begin(gwtf_protocol *p) {
    p->aggregation = AGGREGATION_EXCHANGING;
    struct protocol_round *round = current_round(p);
    struct protocol_contribution *own = &round->contributions[p->rank];
    own->announced = true;
    own->microbatches = p->trained;
    own->ids = p->trained_ids;
    own->busy_us = p->busy_us;
    note_contribution(round, own);
    for (uint32_t rank = 0; rank < p->replicas; rank++)
        if (rank != p->rank)
            send_contribution(p, rank, own);
}

/* The memory for parts is free from this node's REDUCE on; a replica that contributes to the next
 * iteration has this node's READY, which comes after it. */
static bool can_take_contribution(const gwtf_protocol *p, uint32_t iteration) {
    if (iteration == p->iteration)
        return p->aggregation <= AGGREGATION_EXCHANGING;
    return p->aggregation >= AGGREGATION_READY;
}

static void take_contribution(gwtf_protocol *p, gwtf_node_id peer, uint32_t rank,
                              const struct gwtf_message *message) {
    struct protocol_round *round = protocol_round_of(p, message->iteration);
    uint32_t microbatches = message->body.contribution.microbatches;
    uint64_t bytes = microbatches > 0 ? p->share_count * sizeof(float) : 0;
    if (!round || !can_take_contribution(p, message->iteration) ||
        round->contributions[rank].announced || message->payload_bytes != bytes)
        return;
    struct protocol_contribution *contribution = &round->contributions[rank];
    contribution->announced = true;
    contribution->microbatches = microbatches;
    contribution->ids = message->body.contribution.ids;
    contribution->busy_us = message->body.contribution.busy_us;
    if (bytes == 0) {
        note_contribution(round, contribution);
        return;
    }
    struct gwtf_payload payload = {
        .kind = GWTF_PAYLOAD_PART, .part = rank, .count = p->share_count};
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
    gwtf_share_of(p->config.gradient_floats, p->replicas, rank, &payload.offset, &payload.count);
    if (message->iteration != p->iteration || p->aggregation < AGGREGATION_EXCHANGING ||
        round->shares[rank].announced || message->payload_bytes != payload.count * sizeof(float))
        return;
    round->shares[rank].announced = true;
    round->shares[rank].sum_of_squares = message->body.reduced.sum_of_squares;
    if (payload.count == 0)
        note_share(round, rank);
    else
        protocol_transfer_receive(p, peer, message, payload);
}

static void take_ready(gwtf_protocol *p, uint32_t rank, uint32_t iteration) {
    struct protocol_round *round = protocol_round_of(p, iteration);
    if (!round || round->ready[rank])
        return;
    round->ready[rank] = true;
    round->ready_here++;
}

static void take_norm(gwtf_protocol *p, uint32_t stage, const struct gwtf_message *message) {
    struct protocol_round *round = protocol_round_of(p, message->iteration);
    if (!round || stage == p->stage || message->body.norm.stage != stage ||
        round->norms[stage].here)
        return;
    round->norms[stage].here = true;
    round->norms[stage].sum_of_squares = message->body.norm.sum_of_squares;
    round->norms[stage].busy_us = message->body.norm.busy_us;
    round->norms[stage].replicas = message->body.norm.replicas;
    round->norms_here++;
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
        take_ready(p, member->rank, message->iteration);
}

void protocol_aggregation_received(gwtf_protocol *p, const struct protocol_transfer *transfer,
                                   bool whole) {
    struct protocol_round *round = protocol_round_of(p, transfer->iteration);
    GWTF_ASSERT(round);
    if (!whole)
        protocol_close(p, GWTF_ERROR_CORRUPT, transfer->peer);
    else if (transfer->payload.kind == GWTF_PAYLOAD_PART)
        note_contribution(round, &round->contributions[transfer->payload.part]);
    else
        note_share(round, p->members[protocol_member_find(p, transfer->peer)].rank);
}

void protocol_aggregation_sent(gwtf_protocol *p, const struct protocol_transfer *transfer) {
    uint32_t *sends =
        transfer->payload.kind == GWTF_PAYLOAD_GRADIENT ? &p->gradient_sends : &p->reduced_sends;
    GWTF_ASSERT(*sends > 0);
    (*sends)--;
}

/* Whether the replicas' gradients together hold each microbatch that came back to its data node,
 * and hold it once. */
static bool is_exactly_once(const gwtf_protocol *p, const struct protocol_round *round) {
    uint64_t expected = 0, expected_ids = 0, counted = 0, counted_ids = 0;
    for (uint32_t rank = 0; rank < p->data_nodes; rank++) {
        struct gwtf_microbatch id = {.data_node = protocol_stage_node(p, 0, rank)};
        uint32_t microbatches = round->dones[GWTF_PHASE_TRAIN][rank].microbatches;
        expected += microbatches;
        for (; id.index < microbatches; id.index++)
            expected_ids += protocol_microbatch_hash(round->iteration, id);
    }
    for (uint32_t rank = 0; rank < p->replicas; rank++) {
        counted += round->contributions[rank].microbatches;
        counted_ids += round->contributions[rank].ids;
    }
    return counted == expected && counted_ids == expected_ids;
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
        if (rank == p->rank)
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
        message->body.reduced.sum_of_squares = sum_of_squares;
    }
}

static bool end_exchange(gwtf_protocol *p) {
    struct protocol_round *round = current_round(p);
    if (p->aggregation != AGGREGATION_EXCHANGING || round->contributions_here < p->replicas)
        return false;
    if (!is_exactly_once(p, round)) {
        protocol_close(p, GWTF_ERROR_STAGE, GWTF_NODE_NONE);
        return false;
    }
    p->aggregation = AGGREGATION_REDUCING;
    p->work_issued = false;
    if (p->share_count == 0)
        share_reduced(p, 0);
    return true;
}

/* The stage's part of the norm, in the order of ranks: the same bits in every replica. */
static void tell_norm(gwtf_protocol *p) {
    struct protocol_round *round = current_round(p);
    struct protocol_norm *norm = &round->norms[p->stage];
    if (norm->here || round->shares_here < p->replicas)
        return;
    norm->here = true;
    norm->replicas = p->replicas;
    for (uint32_t rank = 0; rank < p->replicas; rank++) {
        norm->sum_of_squares += round->shares[rank].sum_of_squares;
        norm->busy_us += round->contributions[rank].busy_us;
    }
    round->norms_here++;
    if (p->rank != 0)
        return;
    struct gwtf_message message = {.kind = GWTF_MESSAGE_NORM, .iteration = p->iteration};
    message.body.norm.stage = p->stage;
    message.body.norm.sum_of_squares = norm->sum_of_squares;
    message.body.norm.busy_us = norm->busy_us;
    message.body.norm.replicas = norm->replicas;
    protocol_broadcast(p, &message, true);
}

static void tell_ready(gwtf_protocol *p) {
    struct protocol_round *round = current_round(p);
    if (round->norms_here < p->config.stages + 1)
        return;
    p->aggregation = AGGREGATION_READY;
    double sum_of_squares = 0;
    for (uint32_t stage = 0; stage <= p->config.stages; stage++)
        sum_of_squares += round->norms[stage].sum_of_squares;
    p->gradient_norm = sqrt(sum_of_squares);
    take_ready(p, p->rank, p->iteration);
    for (uint32_t rank = 0; rank < p->replicas; rank++)
        if (rank != p->rank)
            protocol_send(p, protocol_stage_node(p, p->stage, rank), GWTF_MESSAGE_READY,
                          GWTF_PHASE_TRAIN, p->iteration);
}

void protocol_aggregation_advance(gwtf_protocol *p) {
    end_exchange(p);
    if (!p->finished && p->aggregation == AGGREGATION_COLLECTING) {
        tell_norm(p);
        tell_ready(p);
    }
    if (p->aggregation == AGGREGATION_READY && current_round(p)->ready_here == p->replicas) {
        p->aggregation = AGGREGATION_STEPPING;
        p->work_issued = false;
    }
}

/* REDUCE overwrites what the last REDUCED messages are sent from; STEP clears what contributions
 * are sent from, and changes what the snapshot hashes. */
bool protocol_aggregation_work(gwtf_protocol *p, struct gwtf_work *work) {
    if (p->work_issued)
        return false;
    work->iteration = p->iteration;
    if (p->aggregation == AGGREGATION_REDUCING && p->reduced_sends == 0) {
        const struct protocol_round *round = current_round(p);
        work->kind = GWTF_WORK_REDUCE;
        work->offset = p->share_offset;
        work->count = p->share_count;
        work->own_part = p->rank;
        for (uint32_t rank = 0; rank < p->replicas; rank++)
            if (round->contributions[rank].microbatches > 0)
                work->parts_present[rank / 8] =
                    (uint8_t)(work->parts_present[rank / 8] | 1u << (rank % 8));
    } else if (p->aggregation == AGGREGATION_STEPPING && p->gradient_sends == 0 &&
               p->snapshot_wanted == 0) {
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
    if (work->kind == GWTF_WORK_REDUCE) {
        share_reduced(p, result->sum_of_squares);
        return;
    }
    p->trained = 0;
    p->trained_ids = 0;
    protocol_iteration_stepped(p);
}
