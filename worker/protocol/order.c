/*
 * Whose microbatches an iteration has, and which sequences of the training data they hold.
 *
 * The data nodes that an iteration's generation counts share it out by rank, and whatever they are,
 * all nodes know the same ones: so those that have the run's data need no word about it to take the
 * next of its sequences, each one once, however many of them there were in the iterations before.
 * Who has data of its own goes through it alone.
 */
#include "worker/protocol/state.h"

#include "share/base/assert.h"

uint32_t protocol_order_most(const struct gwtf_protocol_config *config) {
    return config->batch_is_constant ? config->batch : config->microbatches;
}

static bool has_own_data(const gwtf_protocol *p, uint32_t rank) {
    return protocol_member_at(p, 0, rank)->own_data;
}

static uint32_t count_sharers(const gwtf_protocol *p, const struct protocol_round *round) {
    uint32_t count = 0;
    for (uint32_t rank = 0; rank < p->data_nodes; rank++)
        count += round->counts[rank];
    return count;
}

/* Of the AT-th of SHARERS data nodes. */
static uint32_t share_at(const gwtf_protocol *p, uint32_t at, uint32_t sharers) {
    if (!p->config.batch_is_constant)
        return p->config.microbatches;
    return p->config.batch / sharers + (at < p->config.batch % sharers);
}

/* The microbatches of the data nodes before RANK; with SHARED those of the run's data alone. */
static uint32_t sum_before(const gwtf_protocol *p, const struct protocol_round *round,
                           uint32_t rank, bool shared) {
    uint32_t sum = 0, at = 0, sharers = count_sharers(p, round);
    for (uint32_t i = 0; i < rank; i++) {
        if (!round->counts[i])
            continue;
        uint32_t share = share_at(p, at++, sharers);
        if (!shared || !has_own_data(p, i))
            sum += share;
    }
    return sum;
}

uint32_t protocol_order_share(const gwtf_protocol *p, const struct protocol_round *round,
                              uint32_t rank) {
    return sum_before(p, round, rank + 1, false) - sum_before(p, round, rank, false);
}

uint32_t protocol_order_shared(const gwtf_protocol *p, const struct protocol_round *round) {
    return sum_before(p, round, p->data_nodes, true);
}

void protocol_order_describe(const gwtf_protocol *p, const struct protocol_slot *slot,
                             struct gwtf_work *work) {
    const struct protocol_round *round = &p->rounds[slot->iteration & 1];
    work->number = slot->microbatch.index;
    if (p->stage > 0 || slot->phase != GWTF_PHASE_TRAIN)
        return;
    GWTF_ASSERT(round->iteration == slot->iteration && round->counts_known);
    uint32_t index = slot->microbatch.index;
    work->number += sum_before(p, round, p->rank, false);
    work->place = p->config.own_data
                      ? p->own_place + (uint64_t)index * p->config.sequences
                      : p->place + ((uint64_t)sum_before(p, round, p->rank, true) + index) *
                                       p->config.sequences;
}

void protocol_order_commit(gwtf_protocol *p, const struct protocol_round *round) {
    uint32_t shared = round->totals_here ? round->totals_shared : protocol_order_shared(p, round);
    p->place += (uint64_t)shared * p->config.sequences;
    if (p->stage == 0 && p->config.own_data)
        p->own_place += (uint64_t)p->source.total * p->config.sequences;
}
