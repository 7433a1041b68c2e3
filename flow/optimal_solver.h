/* What the parts of the solver share, private to it. */
#ifndef GWTF_FLOW_OPTIMAL_SOLVER_H
#define GWTF_FLOW_OPTIMAL_SOLVER_H

#include "flow/optimal.h"
#include "flow/optimal_network.h"

#define OPTIMAL_FAR (INT64_MAX / 4)

struct optimal_solver {
    const gwtf_flow_instance *instance;
    uint32_t nodes, stages;
    struct optimal_network *network;
    struct optimal_task task; /* its arrays are the solver's */
    uint32_t *capacity;       /* [nodes] for the task */
    int64_t *from_source;     /* [nodes] */
    int64_t *to_sink;         /* [nodes] */
    /* Links with flow, as lists by node. */
    size_t links_max;
    struct optimal_link *links;
    size_t *next_link; /* [links_max], SIZE_MAX ends a list */
    size_t *head;      /* [nodes] */
};

/* Errors: GWTF_ERROR_MEMORY. _deinit after a failure too. */
gwtf_status optimal_solver_init(struct optimal_solver *solver, const gwtf_flow_instance *instance);
void optimal_solver_deinit(struct optimal_solver *solver);

/* The best circulation for solver->capacity and its cost without prices. */
gwtf_status optimal_solver_circulate(struct optimal_solver *solver, const int64_t *price,
                                     uint32_t *flow, int64_t *cost);

/* Appends to PATHS, which have room, the ways of the last circulation, of which DATA_NODE was the
 * only data node. */
gwtf_status optimal_solver_take_paths(struct optimal_solver *solver, gwtf_node_id data_node,
                                      struct gwtf_flow_paths *paths);

int64_t optimal_paths_cost(const gwtf_flow_instance *instance, const struct gwtf_flow_paths *paths,
                           int64_t *most);

/* flow/optimal_balance.c. PATHS exchange the rests of their ways, at the same sum of costs, so that
 * the dearest gets cheaper. And optimum->max_path_bound, when all else of it is known. Errors:
 * GWTF_ERROR_MEMORY. */
gwtf_status optimal_paths_allocate_balanced(const gwtf_flow_instance *instance,
                                            struct gwtf_flow_paths *paths);
gwtf_status optimal_solver_bound_max_path(struct optimal_solver *solver,
                                          struct gwtf_flow_optimum *optimum);

/* flow/optimal_several.c: several data nodes. Fills PATHS with a solution of at most FLOW_MOST
 * flows. */
gwtf_status optimal_solve_several(struct optimal_solver *solver, struct gwtf_flow_optimum *optimum,
                                  struct gwtf_flow_paths *paths);

#endif
