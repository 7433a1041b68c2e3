/*
 * The exact solver with full knowledge: the yardstick that policies are held against, not a policy.
 * Not for the pure step: it allocates, and looks at the whole graph.
 */
#ifndef GWTF_FLOW_OPTIMAL_H
#define GWTF_FLOW_OPTIMAL_H

#include "share/base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* Owned by the caller. Node ids are the indices. */
struct gwtf_flow_instance {
    uint32_t stages; /* S, at least 1 */
    uint32_t nodes_count;
    const uint32_t *stage;    /* [nodes_count], 0: data node */
    const uint32_t *capacity; /* [nodes_count] */
    const int64_t *link_us; /* [nodes_count][nodes_count], from row to column; negative: no link */
};

struct gwtf_flow_optimum {
    uint32_t flow;
    int64_t cost_us; /* least sum over all flows, at the maximum flow */
    bool exact;
};

/*
 * Maximum flow of least cost by successive shortest paths (Busacker and Gowen 1960) in the residual
 * graph. With one data node this is exact. With several, flows may return to another data node than
 * their own, which makes FLOW an upper and, where that flow is reached, COST_US a lower bound:
 * finding the best integer flows of several commodities is NP-hard. Errors: GWTF_ERROR_USAGE (no
 * stages or nodes), GWTF_ERROR_MEMORY; OPTIMUM untouched.
 */
gwtf_status gwtf_flow_solve(const struct gwtf_flow_instance *instance,
                            struct gwtf_flow_optimum *optimum);

#endif
