/*
 * The authors' experiment of nodes that join (their prototype of 2024): one data node, stages of as
 * many relays, capacities uniform 1 to 20, costs of links uniform; candidates to join with a
 * capacity uniform 1 to 20, one cost to everybody and an aggregation cost of ten times their
 * capacity plus uniform 50 to 100, as relays have. What an iteration costs is twice the sum over
 * hops of the dearest link in use, plus the dearest aggregation; what counts is that per
 * microbatch. Flows are exact: as many as there can be, at the least sum of links' costs.
 */
#ifndef GWTF_TESTS_SUPPORT_JOIN_RUN_H
#define GWTF_TESTS_SUPPORT_JOIN_RUN_H

#include "flow/arrival.h"

#define JOIN_STAGES 8u
#define JOIN_CANDIDATES 20u
#define JOIN_RELAYS_MAX 12u   /* in a stage */
#define JOIN_CAPACITY_MAX 20u /* of a relay or a candidate */
#define JOIN_COST_MAX 100u
#define JOIN_PASSES_MAX (JOIN_RELAYS_MAX * JOIN_CAPACITY_MAX)

struct join_setting {
    uint32_t relays; /* in each stage */
    uint32_t cost_least, cost_most;
};

/* Hop h goes from stage h to the one after it; the data node is stage 0, at both ends. */
struct join_run {
    struct join_setting setting;
    uint32_t capacity[JOIN_STAGES + 1][JOIN_RELAYS_MAX];
    uint32_t cost[JOIN_STAGES + 1][JOIN_RELAYS_MAX][JOIN_RELAYS_MAX];
    double aggregation_cost; /* the dearest one of relays */
    struct gwtf_arrival_candidate candidates[JOIN_CANDIDATES];
    /* What links of a hop up to a cost can carry between relays. */
    uint32_t carried[JOIN_STAGES + 1][JOIN_COST_MAX + 1];

    /* What the stages' own nodes know of it, for gwtf_arrival_choose; it points into this run. */
    struct gwtf_arrival_run known;
    struct gwtf_arrival_stage stages[JOIN_STAGES];
    struct gwtf_arrival_hop hops[JOIN_STAGES + 1];
    struct gwtf_arrival_pass passes[JOIN_STAGES][JOIN_PASSES_MAX];
    struct gwtf_arrival_reach reaches[JOIN_STAGES + 1][JOIN_COST_MAX + 1];
};

struct join_outcome {
    uint32_t flow;
    uint32_t dearest[JOIN_STAGES + 1]; /* link in use of each hop */
    double per_microbatch;
};

/* RUN may not be moved afterwards. The program ends when there is no memory, here and below. */
void join_run_init(struct join_run *run, struct join_setting setting, uint64_t seed);

/* After COUNT arrivals, GWTF_ARRIVALS_MAX at most. Their order makes no difference. */
struct join_outcome join_run_solve(const struct join_run *run, const struct gwtf_arrival *arrivals,
                                   uint32_t count);

/* What an iteration costs, per microbatch. */
double join_cost(uint32_t sum_of_hops, double aggregation_cost, uint32_t flow);

/* Every one of all candidates in every stage; the best one. */
struct join_outcome join_run_best_of_one(const struct join_run *run, struct gwtf_arrival *best);

#endif
