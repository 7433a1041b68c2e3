#include "worker/simulation/costs.h"

#define FLOAT_BYTES 4
#define STATIC_BYTES 36 /* of a parameter */
#define REDUCE_BYTES 4
#define STEP_BYTES 28
#define HASH_BYTES 4
#define LINE_FLOATS 16 /* gradients come in lines of so many */

static uint64_t tokens_of(const struct gwtf_scenario *scenario) {
    return (uint64_t)scenario->batch.microbatch * scenario->model.context;
}

uint64_t gwtf_costs_boundary_bytes(const struct gwtf_scenario *scenario) {
    return FLOAT_BYTES * tokens_of(scenario) * scenario->model.width;
}

static bool is_llama(const struct gwtf_scenario *scenario) {
    return scenario->model.family == GWTF_CONFIG_FAMILY_LLAMA;
}

/* Of a block. */
static uint64_t matrix_parameters(const struct gwtf_scenario *scenario) {
    uint64_t width = scenario->model.width, inner = scenario->model.ffn_width;
    return is_llama(scenario) ? 4 * width * width + 3 * width * inner : 12 * width * width;
}

static uint64_t kept_floats(const struct gwtf_scenario *scenario) {
    uint64_t width = scenario->model.width, inner = scenario->model.ffn_width;
    return tokens_of(scenario) * (is_llama(scenario) ? 6 * width + 2 * inner : 10 * width);
}

static uint64_t data_parameters(const struct gwtf_scenario *scenario) {
    uint64_t width = scenario->model.width, vocabulary = scenario->model.vocabulary;
    uint64_t tables = scenario->model.tied_head ? 1 : 2;
    uint64_t rest = is_llama(scenario) ? 1 : (uint64_t)scenario->model.context + 2;
    return (tables * vocabulary + rest) * width;
}

struct gwtf_stage_costs gwtf_costs_of_stage(const struct gwtf_scenario *scenario, uint32_t stage) {
    uint64_t width = scenario->model.width, context = scenario->model.context;
    double tokens = (double)tokens_of(scenario);
    struct gwtf_stage_costs costs = {.slot_bytes = 4 * gwtf_costs_boundary_bytes(scenario)};
    if (stage == 0) {
        costs.parameters = data_parameters(scenario);
        costs.forward_flop = 6.0 * tokens * (double)width * (double)scenario->model.vocabulary;
        costs.embed_bytes = 2.0 * FLOAT_BYTES * tokens * (double)width;
    } else {
        uint32_t stages = scenario->pipeline.stages, layers = scenario->model.layers;
        uint64_t matrices = matrix_parameters(scenario);
        costs.layers = layers / stages + (stage - 1 < layers % stages);
        costs.parameters = costs.layers * (matrices + (is_llama(scenario) ? 2 : 13) * width);
        costs.forward_flop = (double)costs.layers * tokens *
                             (2.0 * (double)matrices + 2.0 * (double)context * (double)width);
        costs.backward_flop = 2.0 * costs.forward_flop;
        costs.slot_bytes += FLOAT_BYTES * costs.layers * kept_floats(scenario);
    }
    costs.parameters = (costs.parameters + LINE_FLOATS - 1) / LINE_FLOATS * LINE_FLOATS;
    return costs;
}

/* Microseconds of AMOUNT at RATE a second: at least one, and a year at most. */
static int64_t us_of(double amount, double rate) {
    double us = amount / rate * 1e6;
    return us < 1 ? 1 : us > 3e13 ? (int64_t)3e13 : (int64_t)us;
}

static uint32_t capacity_of(const struct gwtf_stage_costs *costs,
                            const struct gwtf_scenario_nodes *entry) {
    if (entry->capacity > 0)
        return entry->capacity;
    double left = entry->memory_gb * 1e9 - (double)STATIC_BYTES * (double)costs->parameters;
    double slots = left / (double)costs->slot_bytes;
    return slots < 1 ? 0 : slots > GWTF_CAPACITY_MAX ? GWTF_CAPACITY_MAX : (uint32_t)slots;
}

void gwtf_costs_fill_node(const struct gwtf_stage_costs *costs,
                          const struct gwtf_scenario_nodes *entry,
                          struct gwtf_simulation_node *node) {
    double parameters = (double)costs->parameters;
    int64_t *work_us = node->work_us;
    node->capacity = capacity_of(costs, entry);
    node->gradient_floats = costs->parameters;
    node->uplink_bytes_per_second = (int64_t)(entry->uplink_mbit * 125e3 + 0.5);
    work_us[GWTF_WORK_EMBED] = us_of(costs->embed_bytes, entry->memory_rate);
    work_us[GWTF_WORK_EMBED_BACKWARD] = work_us[GWTF_WORK_EMBED];
    work_us[GWTF_WORK_FORWARD] = us_of(costs->forward_flop, entry->speed);
    work_us[GWTF_WORK_LOSS] = work_us[GWTF_WORK_FORWARD];
    work_us[GWTF_WORK_BACKWARD] = us_of(costs->backward_flop, entry->speed);
    work_us[GWTF_WORK_REDUCE] = us_of(REDUCE_BYTES * parameters, entry->memory_rate);
    work_us[GWTF_WORK_STEP] = us_of(STEP_BYTES * parameters, entry->memory_rate);
    work_us[GWTF_WORK_SNAPSHOT] = us_of(HASH_BYTES * parameters, entry->memory_rate);
}
