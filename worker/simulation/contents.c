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

static uint64_t embedding(enum gwtf_phase phase, uint32_t iteration, struct gwtf_microbatch id,
                          uint64_t weights) {
    uint64_t value = simulation_mix((uint64_t)iteration * 2 + (uint64_t)phase, id.data_node);
    return simulation_mix(simulation_mix(value, id.index), weights);
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
static void forward_chain(gwtf_simulation *simulation, enum gwtf_phase phase, uint32_t iteration,
                          struct gwtf_microbatch id, uint64_t *f) {
    uint32_t after = phase == GWTF_PHASE_TRAIN ? iteration - 1 : iteration;
    f[0] = embedding(phase, iteration, id, simulation_weights(simulation, 0, after));
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

/* The weights after ITERATION and the norm that leads to them, from those before it and all its
 * microbatches. */
static void learn_weights(gwtf_simulation *simulation, uint32_t iteration) {
    uint32_t stages = simulation->config.stages;
    uint64_t sums[GWTF_STAGES_MAX + 1] = {0};
    uint64_t f[GWTF_STAGES_MAX + 1], g[GWTF_STAGES_MAX + 1];
    for (size_t i = 0; i < simulation->config.nodes_count; i++) {
        const struct gwtf_simulation_node *node = &simulation->nodes[i].config;
        if (node->stage != 0)
            continue;
        struct gwtf_microbatch id = {.data_node = node->node};
        for (; id.index < simulation->config.microbatches; id.index++) {
            forward_chain(simulation, GWTF_PHASE_TRAIN, iteration, id, f);
            backward_chain(simulation, iteration, f, g);
            sums[0] += simulation_mix(g[0], simulation_weights(simulation, 0, iteration - 1));
            for (uint32_t stage = 1; stage <= stages; stage++)
                sums[stage] += simulation_mix(g[stage], f[stage - 1]);
        }
    }
    const uint64_t *before = known_weights(simulation, iteration - 1);
    uint64_t *after = known_weights(simulation, iteration);
    double sum_of_squares = 0;
    for (uint32_t stage = 0; stage <= stages; stage++) {
        after[stage] = simulation_mix(before[stage], sums[stage]);
        sum_of_squares += squares(sums[stage], simulation->floats[stage]);
    }
    simulation->norms[iteration - simulation->config.first_iteration] = sqrt(sum_of_squares);
}

uint64_t simulation_weights(gwtf_simulation *simulation, uint32_t stage, uint32_t iteration) {
    if (simulation->weights_known == 0) {
        uint64_t *first = known_weights(simulation, simulation->config.first_iteration - 1);
        for (uint32_t i = 0; i <= simulation->config.stages; i++)
            first[i] = simulation_mix(simulation->config.seed, i);
        simulation->weights_known = 1;
    }
    while (simulation->weights_known <= iteration - (simulation->config.first_iteration - 1)) {
        /* Known first, so that what it is made of can be asked for. */
        uint32_t next = simulation->config.first_iteration - 1 + simulation->weights_known;
        learn_weights(simulation, next);
        simulation->weights_known++;
    }
    return known_weights(simulation, iteration)[stage];
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
        *content = node->reduced[node->rank];
        if (node->reduced_here[node->rank] && content->offset == payload->offset &&
            content->count == payload->count)
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

static void write_share(gwtf_simulation *simulation, uint32_t index,
                        const struct gwtf_payload *payload,
                        const struct simulation_content *content) {
    struct simulation_node *node = &simulation->nodes[index];
    for (uint32_t rank = 0; rank < node->replicas; rank++) {
        uint64_t offset, count;
        gwtf_share_of(node->config.gradient_floats, node->replicas, rank, &offset, &count);
        if (count == 0 || offset != payload->offset || rank == node->rank)
            continue;
        if (content->offset != offset || content->count != count || payload->count != count)
            break;
        node->reduced[rank] = *content;
        node->reduced_here[rank] = true;
        return;
    }
    simulation_fail(simulation, index, "receives a share that is not a replica's");
}

void simulation_write(gwtf_simulation *simulation, uint32_t index,
                      const struct gwtf_payload *payload,
                      const struct simulation_content *content) {
    struct simulation_node *node = &simulation->nodes[index];
    uint64_t offset, count;
    switch (payload->kind) {
    case GWTF_PAYLOAD_BOUNDARY:
        node->slots[payload->slot].boundary[payload->boundary] = content->value;
        node->slots[payload->slot].here[payload->boundary] = true;
        break;
    case GWTF_PAYLOAD_PART:
        gwtf_share_of(node->config.gradient_floats, node->replicas, node->rank, &offset, &count);
        if (content->offset != offset || content->count != count || payload->count != count ||
            payload->part >= node->replicas || payload->part == node->rank)
            simulation_fail(simulation, index, "receives a contribution to another share");
        else if (node->parts_here[payload->part])
            simulation_fail(simulation, index, "receives a contribution over another");
        else {
            node->parts[payload->part] = *content;
            node->parts_here[payload->part] = true;
        }
        break;
    case GWTF_PAYLOAD_REDUCED:
        write_share(simulation, index, payload, content);
        break;
    case GWTF_PAYLOAD_PROBE:
        break;
    default:
        simulation_fail(simulation, index, "receives into memory that only is sent from");
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
    forward_chain(simulation, work->phase, work->iteration, work->microbatch, f);
    uint64_t hidden = use(simulation, index, work, GWTF_BOUNDARY_INPUT);
    if (hidden != f[simulation->config.stages])
        simulation_fail(simulation, index, "microbatch %u of iteration %u came back wrong",
                        work->microbatch.index, work->iteration);
    make(simulation, index, work, GWTF_BOUNDARY_INPUT_GRADIENT,
         loss_gradient(hidden, node->weights));
    result->tokens = TOKENS_OF_A_MICROBATCH;
    result->loss_sum = TOKENS_OF_A_MICROBATCH * (1 + work->microbatch.index);
}

static void work_embed_backward(gwtf_simulation *simulation, uint32_t index,
                                const struct gwtf_work *work) {
    struct simulation_node *node = &simulation->nodes[index];
    uint64_t f[GWTF_STAGES_MAX + 1], g[GWTF_STAGES_MAX + 1];
    forward_chain(simulation, GWTF_PHASE_TRAIN, work->iteration, work->microbatch, f);
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
    if (work->own_part != node->rank)
        simulation_fail(simulation, index, "takes another's part for its own");
    struct simulation_content sum = {.offset = work->offset, .count = work->count};
    for (uint32_t rank = 0; rank < node->replicas; rank++) {
        bool present = work->parts_present[rank / 8] >> (rank % 8) & 1;
        if (rank != node->rank && present != node->parts_here[rank])
            simulation_fail(simulation, index, "a part is counted that is not here, or is not");
        if (present)
            sum.value += rank == node->rank ? node->gradient : node->parts[rank].value;
        node->parts_here[rank] = false;
    }
    node->reduced[node->rank] = sum;
    node->reduced_here[node->rank] = true;
    result->sum_of_squares = squares(sum.value, work->count);
}

/* Every share must be here and of the same sum, the one that the iteration should have. */
static void check_reduced(gwtf_simulation *simulation, uint32_t index, uint32_t iteration) {
    struct simulation_node *node = &simulation->nodes[index];
    uint64_t end = 0;
    for (uint32_t rank = 0; rank < node->replicas; rank++) {
        uint64_t offset, count;
        gwtf_share_of(node->config.gradient_floats, node->replicas, rank, &offset, &count);
        if (offset != end)
            simulation_fail(simulation, index, "shares do not make up the gradient");
        end = offset + count;
        if (count == 0)
            continue;
        uint64_t value = node->reduced[rank].value;
        if (!node->reduced_here[rank] ||
            simulation_mix(node->weights, value) !=
                simulation_weights(simulation, node->config.stage, iteration))
            simulation_fail(simulation, index, "steps iteration %u with a wrong sum", iteration);
        /* The own share may still be on its way to others. */
        if (rank != node->rank)
            node->reduced_here[rank] = false;
    }
    if (end != node->config.gradient_floats)
        simulation_fail(simulation, index, "shares do not cover the gradient");
}

static void work_step(gwtf_simulation *simulation, uint32_t index, const struct gwtf_work *work) {
    struct simulation_node *node = &simulation->nodes[index];
    if (work->iteration != node->stepped + 1)
        simulation_fail(simulation, index, "steps iteration %u after %u", work->iteration,
                        node->stepped);
    check_reduced(simulation, index, work->iteration);
    node->stepped = work->iteration;
    node->gradient = 0;
    node->weights = simulation_weights(simulation, node->config.stage, work->iteration);
    double norm = simulation->norms[work->iteration - simulation->config.first_iteration];
    if (work->gradient_norm != norm)
        simulation_fail(simulation, index, "steps with the norm %g instead of %g",
                        work->gradient_norm, norm);
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
    if (!work->writes)
        return;
    if (node->writing != 0)
        simulation_fail(simulation, index, "writes two snapshots at one time");
    node->writing = work->iteration;
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
    switch (work->kind) {
    case GWTF_WORK_EMBED:
        make(simulation, index, work, GWTF_BOUNDARY_OUTPUT,
             embedding(work->phase, work->iteration, work->microbatch, weights));
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
    }
}
