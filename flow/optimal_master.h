/*
 * Flows of several data nodes as a linear program over whole ways, private to the solver: how much
 * goes over each way, within every node's capacity, most flow first, then least cost; column
 * generation after Dantzig and Wolfe 1960. A way joins when it is cheaper, at the nodes' present
 * prices, than what a flow is worth; when there is none, the program is solved for all ways.
 */
#ifndef GWTF_FLOW_OPTIMAL_MASTER_H
#define GWTF_FLOW_OPTIMAL_MASTER_H

#include "flow/instance.h"

/* The basis' inverse is dense: 3 MB at most. */
#define OPTIMAL_MASTER_NODES_MAX 600u

struct optimal_master;

/* Errors: GWTF_ERROR_MEMORY; MASTER untouched. INSTANCE must outlive it. */
gwtf_status optimal_master_create(const gwtf_flow_instance *instance,
                                  struct optimal_master **master);
void optimal_master_destroy(struct optimal_master *master); /* NULL is allowed */

/* Makes known, for each data node and each relay, the cheapest way over it where nodes charge PRICE
 * [nodes]: when the prices are nearly those of the solution, it is near too. Errors:
 * GWTF_ERROR_MEMORY. */
gwtf_status optimal_master_suggest(struct optimal_master *master, const int64_t *price);

/* For CAPACITY [nodes] and at most FLOW_MOST flows; *FLOW: how many there are, a fraction maybe.
 * Ways stay known from one solution to the next. Errors: GWTF_ERROR_MEMORY. */
gwtf_status optimal_master_solve(struct optimal_master *master, const uint32_t *capacity,
                                 uint32_t flow_most, double *flow);

/* A way of the last solution: its nodes [stages + 1], and how much goes over it. False at the end;
 * *AT begins with 0. */
bool optimal_master_next_way(const struct optimal_master *master, uint32_t *at,
                             const gwtf_node_id **way, double *amount);

/* What the dearest way could cost, and more. */
int64_t optimal_master_cost_most(const struct optimal_master *master);

/*
 * What no solution with FLOW flows within CAPACITY can be cheaper than, from the prices of the last
 * solution, in whole numbers and so free of rounding errors (Lagrange). INT64_MIN when the prices
 * say nothing.
 */
int64_t optimal_master_bound(const struct optimal_master *master, const uint32_t *capacity,
                             uint32_t flow);

#endif
