/* Random flow instances, the same on every machine. */
#ifndef GWTF_FLOW_GENERATE_H
#define GWTF_FLOW_GENERATE_H

#include "flow/instance.h"

#include <stdbool.h>

struct gwtf_flow_range {
    uint32_t least, most; /* both can occur */
};

/*
 * Nodes 0..data_nodes-1 are the data nodes, then come the relays stage by stage, in numbers that
 * differ by at most one. Capacities and costs are uniform in their ranges. A pair of neighbouring
 * nodes has no link with probability `missing`; a link costs the same in both directions unless
 * `asymmetric`.
 */
struct gwtf_flow_recipe {
    uint32_t relays;
    uint32_t stages;
    uint32_t data_nodes;
    struct gwtf_flow_range capacity;
    /* Most 0: each data node gets an even part of 1.2 times what the stage of least capacity can
     * carry, at least 1: so that the relays are what limits the flow. */
    struct gwtf_flow_range data_capacity;
    struct gwtf_flow_range cost;
    double missing;
    bool asymmetric;
    uint64_t seed;
};

#define GWTF_FLOW_RECIPE_RELAYS_MAX 100000u
#define GWTF_FLOW_RECIPE_CAPACITY_MAX 32768u

/* 32 relays in 4 stages, one data node, capacities 1..5, costs 1..700, all links, seed 1. */
struct gwtf_flow_recipe gwtf_flow_recipe_default(void);

/* Errors: GWTF_ERROR_USAGE for what no instance can be: fewer relays than stages, no data node, an
 * empty range; GWTF_ERROR_MEMORY. INSTANCE untouched. */
gwtf_status gwtf_flow_generate(const struct gwtf_flow_recipe *recipe,
                               gwtf_flow_instance **instance);

#endif
