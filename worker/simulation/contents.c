/*
 * What stands for tensors. The chain of a microbatch of iteration i, with w(s) the weights of stage
 * s after iteration i - 1:
 *
 *   f(0) = mix(id, w(0))               embedding
 *   f(s) = mix(f(s-1) + s, w(s))       forward of stage s
 *   g(S) = mix(f(S), w(0) + 1)         loss
 *   g(s-1) = mix(g(s) + f(s-1), w(s))  backward of stage s, whose gradient grows by mix(g(s),
 * f(s-1)) mix(g(0), w(0))                    what stage 0's gradient grows by
 *
 * and w'(s) = mix(w(s), sum of what its gradient grew by), so that a tensor that went a wrong way,
 * a microbatch that was trained twice or not, or a step too early changes all that comes after.
 */
#include "worker/simulation/state.h"

#include <math.h>
#include <string.h>

#define TOKENS_OF_A_MICROBATCH 64

uint64_t simulation_mix(uint64_t a, uint64_t b) {
    return gwtf_random_at(a, b);
}

/* What a microbatch holds: in training sequences of the run's data or of a node's own, by their
 * place; in validation those of its data node. */
struct sample {
    enum gwtf_phase phase;
    uint32_t iteration;
    uint64_t of;
    uint64_t place;
};

static struct sample sample_of(const struct simulation_node *node, uint32_t iteration,
                               uint64_t place) {
    uint64_t of = node->config.own_data ? node->config.node : GWTF_NODE_NONE;
    return (struct sample){
        .phase = GWTF_PHASE_TRAIN, .iteration = iteration, .of = of, .place = place};
}

static struct sample sample_of_work(const struct simulation_node *node,
                                    const struct gwtf_work *work) {
    if (work->phase == GWTF_PHASE_TRAIN)
        return sample_of(node, work->iteration, work->place);
    return (struct sample){.phase = work->phase,
                           .iteration = work->iteration,
                           .of = work->microbatch.data_node,
                           .place = work->microbatch.index};
}

static uint64_t embedding(const struct sample *sample, uint64_t weights) {
    uint64_t value =
        simulation_mix((uint64_t)sample->iteration * 2 + (uint64_t)sample->phase, sample->of);
    return simulation_mix(simulation_mix(value, sample->place), weights);
}

static uint64_t forward(uint64_t input, uint32_t stage, uint64_t weights) {
    return simulation_mix(input + stage, weights);
}

static uint64_t loss_gradient(uint64_t hidden, uint64_t weights) {
    return simulation_mix(hidden, weights + 1);
}

static uint64_t backward(uint64_t output_gradient, uint64_t input, uint64_t weights) {
    return simulation_mix(output_gradient + input, weights);
}

/* What stands for the sum of squares of COUNT floats of a gradient: an integer below 2^53 for all
 * of a model's, so that their sum does not depend on the order. */
static double squares(uint64_t gradient, uint64_t count) {
    return (double)(gradient >> 40) * (double)count;
}

static uint64_t *known_weights(gwtf_simulation *simulation, uint32_t iteration) {
    uint32_t row = iteration - (simulation->config.first_iteration - 1);
    return &simulation->weights[(size_t)row * (simulation->config.stages + 1)];
}

/* F[0..stages] of a microbatch. */
static void forward_chain(gwtf_simulation *simulation, const struct sample *sample, uint64_t *f) {
    uint32_t after = sample->iteration - (sample->phase == GWTF_PHASE_TRAIN);
    f[0] = embedding(sample, simulation_weights(simulation, 0, after));
    for (uint32_t stage = 1; stage <= simulation->config.stages; stage++)
        f[stage] = forward(f[stage - 1], stage, simulation_weights(simulation, stage, after));
}

/* G[0..stages] of a microbatch in training. */
static void backward_chain(gwtf_simulation *simulation, uint32_t iteration, const uint64_t *f,
                           uint64_t *g) {
    uint32_t stages = simulation->config.stages;
    g[stages] = loss_gradient(f[stages], simulation_weights(simulation, 0, iteration - 1));
    for (uint32_t stage = stages; stage >= 1; stage--)
        g[stage - 1] =
            backward(g[stage], f[stage - 1], simulation_weights(simulation, stage, iteration - 1));
}

/* What the iteration has of one data node: which is the AT-th of COUNT, by rank. */
static uint32_t share_of(const gwtf_simulation *simulation, uint32_t at, uint32_t count) {
    if (!simulation->config.batch_is_constant)
        return simulation->config.microbatches;
    return simulation->batch / count + (simulation->batch % count > at);
}

static bool is_in(uint64_t mask, const struct simulation_node *node) {
    return node->config.stage == 0 && (mask >> (node->rank % 64) & 1) != 0;
}

static void add_gradients(gwtf_simulation *simulation, const struct sample *sample,
                          uint64_t *sums) {
    uint64_t f[GWTF_STAGES_MAX + 1], g[GWTF_STAGES_MAX + 1];
    forward_chain(simulation, sample, f);
    backward_chain(simulation, sample->iteration, f, g);
    sums[0] += simulation_mix(g[0], simulation_weights(simulation, 0, sample->iteration - 1));
    for (uint32_t stage = 1; stage <= simulation->config.stages; stage++)
        sums[stage] += simulation_mix(g[stage], f[stage - 1]);
}

/* The sums of all stages' gradients over the microbatches of the data nodes in MASK. With COMMITS
 * the iteration is over. */
static void sum_gradients(gwtf_simulation *simulation, uint32_t iteration, uint64_t mask,
                          bool commits, uint64_t *sums) {
    memset(sums, 0, (simulation->config.stages + 1) * sizeof *sums);
    uint64_t place = simulation->place;
    uint32_t count = 0, at = 0;
    for (uint64_t left = mask; left != 0; left &= left - 1)
        count++;
    for (size_t i = 0; i < simulation->config.nodes_count; i++) {
        struct simulation_node *node = &simulation->nodes[i];
        if (!is_in(mask, node))
            continue;
        bool own = node->config.own_data;
        uint64_t from = own ? node->own_place : place, to = from;
        for (uint32_t share = share_of(simulation, at++, count); share > 0; share--) {
            struct sample sample = sample_of(node, iteration, to);
            add_gradients(simulation, &sample, sums);
            to += SIMULATION_SEQUENCES;
        }
        if (own && commits)
            node->own_place = to;
        if (!own)
            place = to;
    }
    if (commits)
        simulation->place = place;
}

static double norm_of(const gwtf_simulation *simulation, const uint64_t *sums) {
    double sum_of_squares = 0;
    for (uint32_t stage = 0; stage <= simulation->config.stages; stage++)
        sum_of_squares += squares(sums[stage], simulation->floats[stage]);
    return sqrt(sum_of_squares);
}

/* The data nodes that live, and those that are lost. */
static void find_data_nodes(const gwtf_simulation *simulation, uint64_t *living, uint64_t *lost) {
    *living = 0;
    *lost = 0;
    for (size_t i = 0; i < simulation->config.nodes_count; i++) {
        const struct simulation_node *node = &simulation->nodes[i];
        if (node->config.stage != 0 || node->left)
            continue;
        uint64_t *mask = node->dead || node->declared ? lost : living;
        *mask |= 1ull << (node->rank % 64);
    }
}

static bool has_floats(const gwtf_simulation *simulation) {
    for (uint32_t stage = 0; stage <= simulation->config.stages; stage++)
        if (simulation->floats[stage] > 0)
            return true;
    return false;
}

/* The first step of ITERATION: finds the data nodes whose microbatches make it up, and with them
 * what all weights should be after it. */
static bool learn_weights(gwtf_simulation *simulation, uint32_t iteration, double norm) {
    uint64_t sums[GWTF_STAGES_MAX + 1], living, lost;
    find_data_nodes(simulation, &living, &lost);
    uint64_t subset = lost;
    for (;;) { /* all subsets of the lost ones, down to the empty one */
        sum_gradients(simulation, iteration, living | subset, false, sums);
        if (norm_of(simulation, sums) == norm)
            break;
        if (subset == 0)
            return false;
        subset = (subset - 1) & lost;
    }
    const uint64_t *before = known_weights(simulation, iteration - 1);
    uint64_t *after = known_weights(simulation, iteration);
    for (uint32_t stage = 0; stage <= simulation->config.stages; stage++)
        after[stage] = simulation_mix(before[stage], sums[stage]);
    uint32_t row = iteration - simulation->config.first_iteration;
    simulation->norms[row] = norm;
    sum_gradients(simulation, iteration, living | subset, true, sums);
    simulation->places[row + 1] = simulation->place;
    /* Without gradients the norm is that of any of them. */
    simulation->data_nodes[row] = has_floats(simulation) ? living | subset : 0;
    simulation->weights_known++;
    return true;
}

uint64_t simulation_weights(gwtf_simulation *simulation, uint32_t stage, uint32_t iteration) {
    if (simulation->weights_known == 0) {
        uint64_t *first = known_weights(simulation, simulation->config.first_iteration - 1);
        for (uint32_t i = 0; i <= simulation->config.stages; i++)
            first[i] = simulation_mix(simulation->config.seed, i);
        simulation->weights_known = 1;
    }
    return known_weights(simulation, iteration)[stage];
}

static bool is_known(const gwtf_simulation *simulation, uint32_t iteration) {
    return simulation->weights_known > iteration - (simulation->config.first_iteration - 1);
}

bool simulation_read(gwtf_simulation *simulation, uint32_t index,
                     const struct gwtf_payload *payload, struct simulation_content *content) {
    const struct simulation_node *node = &simulation->nodes[index];
    *content = (struct simulation_content){.offset = payload->offset, .count = payload->count};
    switch (payload->kind) {
    case GWTF_PAYLOAD_BOUNDARY:
        content->value = node->slots[payload->slot].boundary[payload->boundary];
        if (node->slots[payload->slot].here[payload->boundary])
            return true;
        break;
    case GWTF_PAYLOAD_GRADIENT:
        content->value = node->gradient;
        if (payload->offset + payload->count <= node->config.gradient_floats)
            return true;
        break;
    case GWTF_PAYLOAD_REDUCED:
        for (uint32_t i = 0; i < node->shares_count; i++) {
            *content = node->shares[i].content;
            if (content->offset == payload->offset && content->count == payload->count)
                return true;
        }
        break;
    case GWTF_PAYLOAD_STATE:
        content->value = simulation_mix(node->weights, payload->part);
        if (payload->offset + payload->count <= node->config.gradient_floats)
            return true;
        break;
    case GWTF_PAYLOAD_PROBE:
        return true;
    default:
        break;
    }
    simulation_fail(simulation, index, "sends from memory that holds nothing");
    return false;
}

/* What was in its place is overwritten. */
static void write_share(gwtf_simulation *simulation, uint32_t index,
                        const struct simulation_content *content) {
    struct simulation_node *node = &simulation->nodes[index];
    uint32_t kept = 0;
    for (uint32_t i = 0; i < node->shares_count; i++) {
        const struct simulation_content *other = &node->shares[i].content;
        if (other->offset + other->count <= content->offset ||
            content->offset + content->count <= other->offset)
            node->shares[kept++] = node->shares[i];
    }
    node->shares_count = kept;
    if (kept == node->shares_max || content->offset + content->count > node->config.gradient_floats)
        simulation_fail(simulation, index, "receives a share that is not a replica's");
    else
        node->shares[node->shares_count++] = (struct simulation_share){.content = *content};
}

/* A piece of the weights after the iteration before, as all replicas have them. */
static void take_state(gwtf_simulation *simulation, uint32_t index,
                       const struct gwtf_payload *payload,
                       const struct simulation_content *content) {
    struct simulation_node *node = &simulation->nodes[index];
    uint32_t after = gwtf_protocol_get_view(node->protocol).iteration - 1;
    uint64_t weights = simulation_weights(simulation, node->config.stage, after);
    if (content->offset != payload->offset || content->count != payload->count ||
        content->value != simulation_mix(weights, payload->part))
        simulation_fail(simulation, index, "receives weights that are not those after %u", after);
    node->weights = weights;
}

void simulation_write(gwtf_simulation *simulation, uint32_t index,
                      const struct gwtf_payload *payload,
                      const struct simulation_content *content) {
    struct simulation_node *node = &simulation->nodes[index];
    switch (payload->kind) {
    case GWTF_PAYLOAD_BOUNDARY:
        node->slots[payload->slot].boundary[payload->boundary] = content->value;
        node->slots[payload->slot].here[payload->boundary] = true;
        break;
    case GWTF_PAYLOAD_PART:
        if (content->count != payload->count || payload->part >= node->replicas)
            simulation_fail(simulation, index, "receives a contribution to another share");
        else {
            node->parts[payload->part] = *content;
            node->parts_here[payload->part] = true;
        }
        break;
    case GWTF_PAYLOAD_REDUCED:
        if (content->offset != payload->offset || content->count != payload->count)
            simulation_fail(simulation, index, "receives another share than it expects");
        write_share(simulation, index, content);
        break;
    case GWTF_PAYLOAD_STATE:
        take_state(simulation, index, payload, content);
        break;
    case GWTF_PAYLOAD_PROBE:
        break;
    default:
        simulation_fail(simulation, index, "receives into memory that only is sent from");
    }
}

static void swap(struct simulation_slot *a, struct simulation_slot *b,
                 enum gwtf_boundary boundary) {
    uint64_t value = a->boundary[boundary];
    bool here = a->here[boundary];
    a->boundary[boundary] = b->boundary[boundary];
    a->here[boundary] = b->here[boundary];
    b->boundary[boundary] = value;
    b->here[boundary] = here;
}

void simulation_keep(gwtf_simulation *simulation, uint32_t index, uint32_t slot, uint32_t kept) {
    struct simulation_node *node = &simulation->nodes[index];
    if (slot >= node->config.capacity || kept < node->config.capacity ||
        kept >= node->slots_count) {
        simulation_fail(simulation, index, "keeps slot %u in slot %u", slot, kept);
        return;
    }
    swap(&node->slots[slot], &node->slots[kept], GWTF_BOUNDARY_OUTPUT);
    swap(&node->slots[slot], &node->slots[kept], GWTF_BOUNDARY_INPUT_GRADIENT);
    for (uint32_t i = 0; i < simulation->transfers_count; i++) {
        struct simulation_transfer *transfer = &simulation->transfers[i];
        struct gwtf_payload *source = &transfer->source;
        if (!transfer->used || transfer->sent || transfer->from != index ||
            source->kind != GWTF_PAYLOAD_BOUNDARY)
            continue;
        if (source->slot == slot)
            source->slot = kept;
        else if (source->slot == kept)
            source->slot = slot;
    }
}

/* Takes a boundary tensor that must be there. */
static uint64_t use(gwtf_simulation *simulation, uint32_t index, const struct gwtf_work *work,
                    enum gwtf_boundary boundary) {
    struct simulation_slot *slot = &simulation->nodes[index].slots[work->slot];
    if (!slot->here[boundary])
        simulation_fail(simulation, index, "work %d without its tensor", (int)work->kind);
    return slot->boundary[boundary];
}

static void make(gwtf_simulation *simulation, uint32_t index, const struct gwtf_work *work,
                 enum gwtf_boundary boundary, uint64_t value) {
    struct simulation_slot *slot = &simulation->nodes[index].slots[work->slot];
    slot->boundary[boundary] = value;
    slot->here[boundary] = true;
}

static void work_loss(gwtf_simulation *simulation, uint32_t index, const struct gwtf_work *work,
                      struct gwtf_work_result *result) {
    struct simulation_node *node = &simulation->nodes[index];
    uint64_t f[GWTF_STAGES_MAX + 1];
    struct sample sample = sample_of_work(node, work);
    forward_chain(simulation, &sample, f);
    uint64_t hidden = use(simulation, index, work, GWTF_BOUNDARY_INPUT);
    if (hidden != f[simulation->config.stages])
        simulation_fail(simulation, index, "microbatch %u of iteration %u came back wrong",
                        work->microbatch.index, work->iteration);
    make(simulation, index, work, GWTF_BOUNDARY_INPUT_GRADIENT,
         loss_gradient(hidden, node->weights));
    result->tokens = TOKENS_OF_A_MICROBATCH;
    result->loss_sum = TOKENS_OF_A_MICROBATCH * (1 + work->number);
}

static void work_embed_backward(gwtf_simulation *simulation, uint32_t index,
                                const struct gwtf_work *work) {
    struct simulation_node *node = &simulation->nodes[index];
    uint64_t f[GWTF_STAGES_MAX + 1], g[GWTF_STAGES_MAX + 1];
    struct sample sample = sample_of_work(node, work);
    forward_chain(simulation, &sample, f);
    backward_chain(simulation, work->iteration, f, g);
    uint64_t gradient = use(simulation, index, work, GWTF_BOUNDARY_OUTPUT_GRADIENT);
    if (gradient != g[0])
        simulation_fail(simulation, index, "the gradient of microbatch %u came back wrong",
                        work->microbatch.index);
    node->gradient += simulation_mix(gradient, node->weights);
}

static void work_reduce(gwtf_simulation *simulation, uint32_t index, const struct gwtf_work *work,
                        struct gwtf_work_result *result) {
    struct simulation_node *node = &simulation->nodes[index];
    struct simulation_content sum = {.offset = work->offset, .count = work->count};
    for (uint32_t part = 0; part < node->replicas; part++) {
        bool present = work->parts_present[part / 8] >> (part % 8) & 1;
        bool own = part == work->own_part;
        const struct simulation_content *other = &node->parts[part];
        if (present && !own &&
            (!node->parts_here[part] || other->offset != sum.offset || other->count != sum.count))
            simulation_fail(simulation, index, "a part is counted that is not here");
        if (present)
            sum.value += own ? node->gradient : other->value;
        node->parts_here[part] = false;
    }
    write_share(simulation, index, &sum);
    result->sum_of_squares = squares(sum.value, work->count);
}

/* The sum that the shares hold: all the same one, of this step, and of the whole gradient. */
static bool take_sum(gwtf_simulation *simulation, uint32_t index, uint64_t *sum) {
    struct simulation_node *node = &simulation->nodes[index];
    uint64_t floats = 0;
    *sum = 0;
    for (uint32_t i = 0; i < node->shares_count; i++) {
        struct simulation_share *share = &node->shares[i];
        if (share->stale)
            continue;
        if (floats > 0 && share->content.value != *sum) {
            simulation_fail(simulation, index, "steps with shares of different sums");
            return false;
        }
        *sum = share->content.value;
        floats += share->content.count;
        share->stale = true; /* the own one may still be on its way to others */
    }
    if (floats == node->config.gradient_floats)
        return true;
    simulation_fail(simulation, index, "steps with shares that do not cover the gradient");
    return false;
}

/* Every microbatch of the iteration once, in all stages alike. */
static void check_sum(gwtf_simulation *simulation, uint32_t index, const struct gwtf_work *work,
                      uint64_t sum) {
    struct simulation_node *node = &simulation->nodes[index];
    uint32_t stage = node->config.stage;
    if (!is_known(simulation, work->iteration) &&
        !learn_weights(simulation, work->iteration, work->gradient_norm)) {
        simulation_fail(simulation, index, "steps iteration %u with a norm of no sum that may be",
                        work->iteration);
        return;
    }
    double norm = simulation->norms[work->iteration - simulation->config.first_iteration];
    if (node->config.gradient_floats > 0 &&
        simulation_mix(node->weights, sum) !=
            simulation_weights(simulation, stage, work->iteration))
        simulation_fail(simulation, index, "steps iteration %u with a wrong sum", work->iteration);
    if (work->gradient_norm != norm)
        simulation_fail(simulation, index, "steps with the norm %g instead of %g",
                        work->gradient_norm, norm);
}

/* Where losses are not repaired: the first replica's sum is what the others must have. */
static void agree_on_sum(gwtf_simulation *simulation, uint32_t index, const struct gwtf_work *work,
                         uint64_t sum) {
    struct simulation_node *node = &simulation->nodes[index];
    uint64_t after = simulation_mix(node->weights, sum);
    uint64_t *weights = &known_weights(simulation, work->iteration)[node->config.stage];
    if (*weights == 0)
        *weights = after;
    if (*weights != after)
        simulation_fail(simulation, index, "steps iteration %u with another sum than a replica",
                        work->iteration);
    simulation->norms[work->iteration - simulation->config.first_iteration] = work->gradient_norm;
}

static void work_step(gwtf_simulation *simulation, uint32_t index, const struct gwtf_work *work) {
    struct simulation_node *node = &simulation->nodes[index];
    uint64_t sum;
    if (work->iteration != node->stepped + 1)
        simulation_fail(simulation, index, "steps iteration %u after %u", work->iteration,
                        node->stepped);
    if (!take_sum(simulation, index, &sum))
        return;
    if (simulation->config.recovery == GWTF_RECOVERY_EXACT)
        check_sum(simulation, index, work, sum);
    else
        agree_on_sum(simulation, index, work, sum);
    node->stepped = work->iteration;
    node->gradient = 0;
    node->weights = simulation_weights(simulation, node->config.stage, work->iteration);
}

struct gwtf_stage_file simulation_file(uint32_t stage, uint64_t weights) {
    struct gwtf_stage_file file = {.size_bytes = stage + 1};
    memcpy(file.sha256, &weights, sizeof weights);
    return file;
}

static void work_snapshot(gwtf_simulation *simulation, uint32_t index, const struct gwtf_work *work,
                          struct gwtf_work_result *result) {
    struct simulation_node *node = &simulation->nodes[index];
    result->hash = node->weights;
    if (work->iteration != node->stepped)
        simulation_fail(simulation, index, "hashes weights of another iteration");
    uint32_t row = work->iteration + 1 - simulation->config.first_iteration;
    if (simulation->config.recovery == GWTF_RECOVERY_EXACT && has_floats(simulation) &&
        work->place != simulation->places[row])
        simulation_fail(simulation, index, "takes sequence %llu for the next instead of %llu",
                        (unsigned long long)work->place,
                        (unsigned long long)simulation->places[row]);
    if (!work->writes)
        return;
    if (node->writing != 0)
        simulation_fail(simulation, index, "writes two snapshots at one time");
    node->writing = work->iteration;
    node->writing_rest = work->of_rest;
    node->writing_weights = node->weights;
    struct simulation_event event = {.at_us = simulation->now_us + simulation->config.write_us,
                                     .kind = SIMULATION_WRITTEN,
                                     .node = index,
                                     .iteration = work->iteration};
    simulation_push(simulation, &event);
}

void simulation_work(gwtf_simulation *simulation, uint32_t index, const struct gwtf_work *work,
                     struct gwtf_work_result *result) {
    struct simulation_node *node = &simulation->nodes[index];
    uint64_t weights = node->weights, input, gradient;
    struct sample sample;
    switch (work->kind) {
    case GWTF_WORK_EMBED:
        sample = sample_of_work(node, work);
        make(simulation, index, work, GWTF_BOUNDARY_OUTPUT, embedding(&sample, weights));
        break;
    case GWTF_WORK_FORWARD:
        input = use(simulation, index, work, GWTF_BOUNDARY_INPUT);
        make(simulation, index, work, GWTF_BOUNDARY_OUTPUT,
             forward(input, node->config.stage, weights));
        break;
    case GWTF_WORK_LOSS:
        work_loss(simulation, index, work, result);
        break;
    case GWTF_WORK_BACKWARD:
        input = use(simulation, index, work, GWTF_BOUNDARY_INPUT);
        gradient = use(simulation, index, work, GWTF_BOUNDARY_OUTPUT_GRADIENT);
        make(simulation, index, work, GWTF_BOUNDARY_INPUT_GRADIENT,
             backward(gradient, input, weights));
        if (!work->again)
            node->gradient += simulation_mix(gradient, input);
        break;
    case GWTF_WORK_EMBED_BACKWARD:
        work_embed_backward(simulation, index, work);
        break;
    case GWTF_WORK_REDUCE:
        work_reduce(simulation, index, work, result);
        break;
    case GWTF_WORK_STEP:
        work_step(simulation, index, work);
        break;
    case GWTF_WORK_SNAPSHOT:
        work_snapshot(simulation, index, work, result);
        break;
    case GWTF_WORK_CLEAR:
        node->gradient = 0;
        break;
    }
}
