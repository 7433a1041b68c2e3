/* Clocks of the nodes: each begins at a moment of its own, and goes a little fast or slow. */
#include "worker/simulation/state.h"

#include <math.h>

#define CLOCK_KEY 0x636c6f636bu

void simulation_clock_init(gwtf_simulation *simulation, uint32_t index) {
    const struct gwtf_simulation_config *config = &simulation->config;
    struct simulation_node *node = &simulation->nodes[index];
    uint64_t key = gwtf_random_key(config->seed, CLOCK_KEY);
    double offset = gwtf_random_unit_at(key, 2 * (uint64_t)index);
    double drift = gwtf_random_unit_at(key, 2 * (uint64_t)index + 1);
    node->clock_offset_us = (int64_t)(offset * (double)config->clock_offset_us);
    node->clock_drift = (2 * drift - 1) * config->clock_drift;
}

gwtf_time_us simulation_clock(const struct simulation_node *node, gwtf_time_us at_us) {
    return node->clock_offset_us + at_us + (int64_t)floor((double)at_us * node->clock_drift);
}

gwtf_time_us simulation_moment(const struct simulation_node *node, gwtf_time_us clock_us) {
    if (clock_us == GWTF_TIME_NEVER || clock_us <= node->clock_offset_us)
        return clock_us == GWTF_TIME_NEVER ? GWTF_TIME_NEVER : 0;
    double since_us = (double)(clock_us - node->clock_offset_us);
    gwtf_time_us at_us = (gwtf_time_us)(since_us / (1 + node->clock_drift));
    while (at_us > 0 && simulation_clock(node, at_us - 1) >= clock_us)
        at_us--;
    while (simulation_clock(node, at_us) < clock_us)
        at_us++;
    return at_us;
}
