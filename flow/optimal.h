/*
 * The exact solver with full knowledge: the yardstick that policies are held against, not a policy.
 * Not for the pure step: it allocates, and looks at the whole graph.
 */
#ifndef GWTF_FLOW_OPTIMAL_H
#define GWTF_FLOW_OPTIMAL_H

#include "flow/instance.h"

/* Flows as a list of ways: row p holds the nodes of stage 0, 1, ... S that flow p passes. */
struct gwtf_flow_paths {
    uint32_t count;
    uint32_t stages;
    gwtf_node_id *nodes; /* [count][stages + 1] */
};
void gwtf_flow_paths_deinit(struct gwtf_flow_paths *paths);

int64_t gwtf_flow_path_cost(const gwtf_flow_instance *instance, const gwtf_node_id *path);

/*
 * First the most flow, then the least cost. No solution has more than flow_bound flows; one with
 * that many costs at least cost_bound. flow and cost are those of the best solution that was found,
 * and `exact` says that they meet the bounds. No solution with flow_bound flows has all paths below
 * max_path_bound; max_path is the dearest path of the solution found, in which flows that meet have
 * exchanged the rests of their ways to make it cheap (the least possible is hard to find).
 */
struct gwtf_flow_optimum {
    uint32_t flow;
    int64_t cost;
    uint32_t flow_bound;
    int64_t cost_bound;
    bool exact;
    int64_t max_path;
    int64_t max_path_bound;
};

/*
 * With one data node: the circulation of most flow and least cost by the network simplex method,
 * exact. With several the circulation is a bound, since there a flow may come back to another data
 * node than its own; to find the best integer flows of several commodities is NP-hard. Up to 600
 * nodes a linear program over ways gives a tighter bound and, rounded, a solution: held against
 * integer programming on instances of up to 100 relays, bounds were at most 0.02 % and solutions
 * 0.1 % off. Larger ones get a solution in which no data node alone can better its flows. PATHS
 * (may be NULL) is the solution, the caller's to deinit. Errors: GWTF_ERROR_MEMORY; nothing is set.
 */
gwtf_status gwtf_flow_solve(const gwtf_flow_instance *instance, struct gwtf_flow_optimum *optimum,
                            struct gwtf_flow_paths *paths);

#endif
