/*
 * What a model costs: the sizes and times that stand for tensors and kernels in a simulation.
 *
 * With W the width, C the context, V the vocabulary, F llama's inner width, T = microbatch * C the
 * tokens of a microbatch, L the blocks of a stage (model/plan.c spreads them as evenly), 4-byte
 * floats, and a multiply-add counted as two FLOP:
 *
 *   parameters of a block      gpt2 12 W^2 + 13 W          llama 4 W^2 + 3 W F + 2 W
 *   parameters of a data node  V W (twice with an untied head) + gpt2 C W + 2 W, llama W
 *   boundary tensor            4 T W bytes
 *   forward of a block         T (2 * its matrices' parameters + 2 C W) FLOP: attention looks at
 *                              half the context on average, for scores and for sums
 *   backward                   twice the forward
 *   loss, both ways            3 * 2 T W V FLOP
 *   embedding, each way        8 T W bytes of memory
 *   reduce                     4 bytes of memory a parameter: all parts of the node's own share
 *   step (AdamW)               28 bytes of memory a parameter: four arrays read, three written
 *   hash for a snapshot        4 bytes of memory a parameter
 *
 * Seconds are FLOP / the node's speed, and bytes of memory / its memory_rate.
 *
 * Memory, as worker/runtime asks for it: 36 bytes a parameter (weights, gradients, two moments,
 * reduced gradients, the others' parts, a snapshot's copy), and for each microbatch four boundary
 * tensors and what a block keeps, 4 T (10 W) bytes for gpt2, 4 T (6 W + 2 F) for llama. A node's
 * capacity is how many of those fit.
 */
#ifndef GWTF_WORKER_SIMULATION_COSTS_H
#define GWTF_WORKER_SIMULATION_COSTS_H

#include "io/scenario.h"
#include "worker/simulation/simulation.h"

struct gwtf_stage_costs {
    uint32_t layers;     /* 0 in stage 0 */
    uint64_t parameters; /* up to a multiple of 16 */
    uint64_t slot_bytes; /* of a microbatch that a node holds */
    double forward_flop; /* stage 0: of the loss, both ways */
    double backward_flop;
    double embed_bytes; /* stage 0: each way */
};

uint64_t gwtf_costs_boundary_bytes(const struct gwtf_scenario *scenario);

/* Of STAGE, 0..stages. */
struct gwtf_stage_costs gwtf_costs_of_stage(const struct gwtf_scenario *scenario, uint32_t stage);

/* Fills capacity, gradient_floats, work_us and uplink of NODE, a node of ENTRY that holds COSTS'
 * stage. The capacity is 0 when not one microbatch fits the memory. */
void gwtf_costs_fill_node(const struct gwtf_stage_costs *costs,
                          const struct gwtf_scenario_nodes *entry,
                          struct gwtf_simulation_node *node);

#endif
