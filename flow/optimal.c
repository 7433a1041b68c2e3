#include "flow/optimal.h"

#include "flow/optimal_solver.h"
#include "share/base/assert.h"

#include <stdlib.h>
#include <string.h>

void gwtf_flow_paths_deinit(struct gwtf_flow_paths *paths) {
    free(paths->nodes);
    *paths = (struct gwtf_flow_paths){0};
}

int64_t gwtf_flow_path_cost(const gwtf_flow_instance *instance, const gwtf_node_id *path) {
    uint32_t stages = gwtf_flow_instance_stages(instance);
    int64_t sum = 0;
    for (uint32_t s = 0; s <= stages; s++) {
        int32_t cost = gwtf_flow_instance_cost(instance, path[s], path[s == stages ? 0 : s + 1]);
        GWTF_ASSERT(cost >= 0);
        sum += cost;
    }
    return sum;
}

int64_t optimal_paths_cost(const gwtf_flow_instance *instance, const struct gwtf_flow_paths *paths,
                           int64_t *most) {
    int64_t sum = 0;
    *most = 0;
    for (uint32_t i = 0; i < paths->count; i++) {
        int64_t cost =
            gwtf_flow_path_cost(instance, paths->nodes + (size_t)i * (paths->stages + 1));
        sum += cost;
        *most = cost > *most ? cost : *most;
    }
    return sum;
}

gwtf_status optimal_solver_init(struct optimal_solver *solver, const gwtf_flow_instance *instance) {
    uint32_t nodes = gwtf_flow_instance_nodes(instance);
    *solver = (struct optimal_solver){
        .instance = instance, .nodes = nodes, .stages = gwtf_flow_instance_stages(instance)};
    solver->capacity = calloc(nodes, sizeof *solver->capacity);
    solver->from_source = calloc(nodes, sizeof *solver->from_source);
    solver->to_sink = calloc(nodes, sizeof *solver->to_sink);
    solver->head = calloc(nodes, sizeof *solver->head);
    if (solver->capacity == NULL || solver->from_source == NULL || solver->to_sink == NULL ||
        solver->head == NULL)
        return GWTF_ERROR_MEMORY;
    solver->task.capacity = solver->capacity;
    for (gwtf_node_id i = 0; i < nodes; i++)
        solver->capacity[i] = gwtf_flow_instance_capacity(instance, i);
    return optimal_network_create(instance, &solver->network);
}

void optimal_solver_deinit(struct optimal_solver *solver) {
    optimal_network_destroy(solver->network);
    free(solver->next_link);
    free(solver->links);
    free(solver->head);
    free(solver->to_sink);
    free(solver->from_source);
    free(solver->capacity);
}

gwtf_status optimal_solver_circulate(struct optimal_solver *solver, const int64_t *price,
                                     uint32_t *flow, int64_t *cost) {
    solver->task.price = price;
    gwtf_status status = optimal_network_solve(solver->network, &solver->task);
    if (status != GWTF_OK)
        return status;
    *flow = 0;
    *cost = 0;
    struct optimal_link link;
    for (size_t at = 0; optimal_network_next_link(solver->network, &at, &link);) {
        *cost += gwtf_flow_instance_cost(solver->instance, link.from, link.to) * (int64_t)link.flow;
        if (gwtf_flow_instance_stage(solver->instance, link.from) == 0)
            *flow += link.flow;
    }
    return GWTF_OK;
}

static gwtf_status allocate_links(struct optimal_solver *solver) {
    size_t count = 0;
    struct optimal_link link;
    for (size_t at = 0; optimal_network_next_link(solver->network, &at, &link);)
        count++;
    if (count > solver->links_max) {
        free(solver->links);
        free(solver->next_link);
        solver->links_max = 2 * count;
        solver->links = calloc(solver->links_max, sizeof *solver->links);
        solver->next_link = calloc(solver->links_max, sizeof *solver->next_link);
        if (solver->links == NULL || solver->next_link == NULL) {
            solver->links_max = 0;
            return GWTF_ERROR_MEMORY;
        }
    }
    for (gwtf_node_id i = 0; i < solver->nodes; i++)
        solver->head[i] = SIZE_MAX;
    count = 0;
    for (size_t at = 0; optimal_network_next_link(solver->network, &at, &link); count++) {
        solver->links[count] = link;
        solver->next_link[count] = solver->head[link.from];
        solver->head[link.from] = count;
    }
    return GWTF_OK;
}

gwtf_status optimal_solver_take_paths(struct optimal_solver *solver, gwtf_node_id data_node,
                                      struct gwtf_flow_paths *paths) {
    gwtf_status status = allocate_links(solver);
    if (status != GWTF_OK)
        return status;
    size_t length = (size_t)solver->stages + 1;
    while (solver->head[data_node] != SIZE_MAX) {
        gwtf_node_id *path = paths->nodes + paths->count++ * length, at = data_node;
        for (uint32_t s = 0; s <= solver->stages; s++) {
            path[s] = at;
            size_t link = solver->head[at];
            GWTF_ASSERT(link != SIZE_MAX);
            if (--solver->links[link].flow == 0)
                solver->head[at] = solver->next_link[link];
            at = solver->links[link].to;
        }
        GWTF_ASSERT(at == data_node);
    }
    return GWTF_OK;
}

static gwtf_status allocate_paths(struct gwtf_flow_paths *paths, uint32_t count) {
    size_t length = (size_t)paths->stages + 1;
    paths->nodes = calloc((count + (size_t)1) * length, sizeof *paths->nodes);
    return paths->nodes != NULL ? GWTF_OK : GWTF_ERROR_MEMORY;
}

/* The bound is the circulation's; with one data node it is reached. */
static gwtf_status solve(struct optimal_solver *solver, struct gwtf_flow_optimum *optimum,
                         struct gwtf_flow_paths *paths) {
    gwtf_status status =
        optimal_solver_circulate(solver, NULL, &optimum->flow_bound, &optimum->cost_bound);
    if (status != GWTF_OK)
        return status;
    uint32_t data_nodes = 0;
    const gwtf_node_id *data = gwtf_flow_instance_stage_nodes(solver->instance, 0, &data_nodes);
    status = allocate_paths(paths, optimum->flow_bound);
    if (status == GWTF_OK && data_nodes == 1)
        status = optimal_solver_take_paths(solver, data[0], paths);
    else if (status == GWTF_OK)
        status = optimal_solve_several(solver, optimum, paths);
    if (status == GWTF_OK)
        status = optimal_paths_allocate_balanced(solver->instance, paths);
    if (status != GWTF_OK)
        return status;
    optimum->flow = paths->count;
    optimum->cost = optimal_paths_cost(solver->instance, paths, &optimum->max_path);
    optimum->exact = optimum->flow == optimum->flow_bound && optimum->cost == optimum->cost_bound;
    return optimal_solver_bound_max_path(solver, optimum);
}

gwtf_status gwtf_flow_solve(const gwtf_flow_instance *instance, struct gwtf_flow_optimum *optimum,
                            struct gwtf_flow_paths *paths) {
    struct optimal_solver solver;
    struct gwtf_flow_optimum found = {0};
    struct gwtf_flow_paths ways = {.stages = gwtf_flow_instance_stages(instance)};
    gwtf_status status = optimal_solver_init(&solver, instance);
    if (status == GWTF_OK)
        status = solve(&solver, &found, &ways);
    optimal_solver_deinit(&solver);
    if (status == GWTF_OK)
        *optimum = found;
    if (status == GWTF_OK && paths != NULL)
        *paths = ways;
    else
        gwtf_flow_paths_deinit(&ways);
    return status;
}
