/* Several data nodes: each flow comes back to its own. */
#include "flow/optimal_solver.h"

#include <stdlib.h>
#include <string.h>

/* Takes the ways of DATA_NODE out of PATHS. */
static void remove_ways(struct gwtf_flow_paths *paths, gwtf_node_id data_node) {
    size_t length = (size_t)paths->stages + 1;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < paths->count; i++) {
        if (paths->nodes[i * length] == data_node)
            continue;
        memmove(paths->nodes + kept * length, paths->nodes + i * length,
                length * sizeof *paths->nodes);
        kept++;
    }
    paths->count = kept;
}

/* What the others leave, for DATA_NODE alone. */
static void set_capacities(struct optimal_solver *solver, const struct gwtf_flow_paths *paths,
                           gwtf_node_id data_node) {
    for (gwtf_node_id i = 0; i < solver->nodes; i++)
        solver->capacity[i] = gwtf_flow_instance_stage(solver->instance, i) == 0 && i != data_node
                                  ? 0
                                  : gwtf_flow_instance_capacity(solver->instance, i);
    size_t length = (size_t)paths->stages + 1;
    for (uint32_t i = 0; i < paths->count; i++)
        for (uint32_t s = 1; s <= paths->stages; s++)
            solver->capacity[paths->nodes[i * length + s]]--;
}

/* Each data node in turn takes its best ways in what the others leave, until none gets better. */
gwtf_status optimal_solve_several(struct optimal_solver *solver, struct gwtf_flow_optimum *optimum,
                                  struct gwtf_flow_paths *paths) {
    (void)optimum;
    uint32_t data_nodes = 0, flow = 0, unchanged = 0;
    int64_t cost = 0, most = 0, before = -1;
    const gwtf_node_id *data = gwtf_flow_instance_stage_nodes(solver->instance, 0, &data_nodes);
    for (uint32_t i = 0; unchanged < data_nodes; i = (i + 1) % data_nodes) {
        uint32_t flows = paths->count;
        remove_ways(paths, data[i]);
        set_capacities(solver, paths, data[i]);
        gwtf_status status = optimal_solver_circulate(solver, NULL, &flow, &cost);
        if (status == GWTF_OK)
            status = optimal_solver_allocate_paths(solver, data[i], paths);
        if (status != GWTF_OK)
            return status;
        cost = optimal_paths_cost(solver->instance, paths, &most);
        unchanged = paths->count == flows && cost == before ? unchanged + 1 : 0;
        before = cost;
    }
    return GWTF_OK;
}
