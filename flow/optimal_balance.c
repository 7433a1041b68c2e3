/*
 * The dearest way of a solution. Two flows of a data node that meet at a relay can exchange the
 * rest of their ways: neither what nodes carry nor the sum of costs changes, but the dearest way
 * may get cheaper. And a bound: links that no way of a given cost can use are left out, and if the
 * flow then falls short, some way must be dearer.
 */
#include "flow/optimal_solver.h"

#include <stdlib.h>
#include <string.h>

#define PASSES_MAX 16
/* A bound takes a dozen solutions; of larger instances that is not worth the time. */
#define BOUND_NODES_MAX 1200u

struct member {
    gwtf_node_id data_node, relay;
    int64_t cost; /* of the way up to the relay, or from it on */
    uint32_t path;
};

struct balance {
    struct member *heads, *tails; /* [paths] */
    gwtf_node_id *kept;           /* [paths][stages + 1] */
};

static gwtf_status balance_init(struct balance *balance, const struct gwtf_flow_paths *paths) {
    size_t count = paths->count + (size_t)1;
    balance->heads = calloc(count, sizeof *balance->heads);
    balance->tails = calloc(count, sizeof *balance->tails);
    balance->kept = calloc(count * (paths->stages + 1), sizeof *balance->kept);
    return balance->heads != NULL && balance->tails != NULL && balance->kept != NULL
               ? GWTF_OK
               : GWTF_ERROR_MEMORY;
}

static void balance_deinit(struct balance *balance) {
    free(balance->kept);
    free(balance->tails);
    free(balance->heads);
}

static int by_group(const struct member *a, const struct member *b) {
    if (a->relay != b->relay)
        return a->relay < b->relay ? -1 : 1;
    return a->data_node < b->data_node ? -1 : a->data_node > b->data_node;
}

static int by_cost_rising(const void *a, const void *b) {
    const struct member *first = a, *second = b;
    int order = by_group(first, second);
    if (order != 0)
        return order;
    if (first->cost != second->cost)
        return first->cost < second->cost ? -1 : 1;
    return first->path < second->path ? -1 : first->path > second->path;
}

static int by_cost_falling(const void *a, const void *b) {
    const struct member *first = a, *second = b;
    return by_group(first, second) != 0 ? by_group(first, second) : -by_cost_rising(a, b);
}

/* Of the flows of one data node at one relay of STAGE the dearest so far gets the cheapest rest. */
static void exchange(const gwtf_flow_instance *instance, struct gwtf_flow_paths *paths,
                     struct balance *balance, uint32_t stage) {
    size_t length = (size_t)paths->stages + 1;
    for (uint32_t i = 0; i < paths->count; i++) {
        const gwtf_node_id *path = paths->nodes + i * length;
        int64_t head = 0;
        for (uint32_t s = 0; s < stage; s++)
            head += gwtf_flow_instance_cost(instance, path[s], path[s + 1]);
        balance->heads[i] = (struct member){path[0], path[stage], head, i};
        balance->tails[i] =
            (struct member){path[0], path[stage], gwtf_flow_path_cost(instance, path) - head, i};
    }
    qsort(balance->heads, paths->count, sizeof *balance->heads, by_cost_rising);
    qsort(balance->tails, paths->count, sizeof *balance->tails, by_cost_falling);
    memcpy(balance->kept, paths->nodes, paths->count * length * sizeof *balance->kept);
    for (uint32_t i = 0; i < paths->count; i++)
        for (uint32_t s = stage + 1; s < length; s++)
            paths->nodes[balance->heads[i].path * length + s] =
                balance->kept[balance->tails[i].path * length + s];
}

gwtf_status optimal_paths_allocate_balanced(const gwtf_flow_instance *instance,
                                            struct gwtf_flow_paths *paths) {
    struct balance balance = {0};
    gwtf_status status = balance_init(&balance, paths);
    int64_t before = INT64_MAX, most = 0;
    for (int pass = 0; status == GWTF_OK && pass < PASSES_MAX && most < before; pass++) {
        (void)optimal_paths_cost(instance, paths, &before);
        for (uint32_t s = 1; s < paths->stages; s++)
            exchange(instance, paths, &balance, s);
        (void)optimal_paths_cost(instance, paths, &most);
    }
    balance_deinit(&balance);
    return status;
}

/* --- The bound. --- */

/* The least that a way costs from any data node to each relay, and from it back to any. */
static void set_distances(struct optimal_solver *solver) {
    const gwtf_flow_instance *instance = solver->instance;
    for (gwtf_node_id i = 0; i < solver->nodes; i++) {
        bool is_data = gwtf_flow_instance_stage(instance, i) == 0;
        solver->from_source[i] = is_data ? 0 : OPTIMAL_FAR;
        solver->to_sink[i] = is_data ? 0 : OPTIMAL_FAR;
    }
    for (uint32_t step = 0; step < 2 * solver->stages; step++) {
        /* From stage 0 up to the last but one, then from the last one down. */
        bool up = step < solver->stages;
        uint32_t stage = up ? step : 2 * solver->stages - step, count = 0, next_count = 0;
        const gwtf_node_id *nodes = gwtf_flow_instance_stage_nodes(instance, stage, &count);
        const gwtf_node_id *next = gwtf_flow_instance_stage_nodes(
            instance, gwtf_flow_instance_next_stage(instance, stage), &next_count);
        for (uint32_t i = 0; i < count; i++) {
            const int32_t *row = gwtf_flow_instance_row(instance, nodes[i]);
            for (uint32_t j = 0; j < next_count; j++) {
                int64_t *known = up ? &solver->from_source[next[j]] : &solver->to_sink[nodes[i]];
                int64_t before = up ? solver->from_source[nodes[i]] : solver->to_sink[next[j]];
                if (row[j] >= 0 && before + row[j] < *known)
                    *known = before + row[j];
            }
        }
    }
}

/* The circulation without links whose cheapest way costs more than MOST. */
static gwtf_status circulate_below(struct optimal_solver *solver, int64_t most, uint32_t *flow) {
    int64_t cost = 0;
    solver->task.from_source_us = solver->from_source;
    solver->task.to_sink_us = solver->to_sink;
    solver->task.most_us = most;
    for (gwtf_node_id i = 0; i < solver->nodes; i++)
        solver->capacity[i] = gwtf_flow_instance_capacity(solver->instance, i);
    gwtf_status status = optimal_solver_circulate(solver, NULL, flow, &cost);
    solver->task.from_source_us = solver->task.to_sink_us = NULL;
    return status;
}

gwtf_status optimal_solver_bound_max_path(struct optimal_solver *solver,
                                          struct gwtf_flow_optimum *optimum) {
    gwtf_status status = GWTF_OK;
    if (optimum->flow_bound == 0)
        return status;
    /* The dearest is no cheaper than the average. */
    int64_t least = (optimum->cost_bound + optimum->flow_bound - 1) / optimum->flow_bound;
    optimum->max_path_bound = least;
    /* Of less flow than the bound nothing is known of the dearest way at the bound. */
    int64_t enough = optimum->max_path;
    if (solver->nodes > BOUND_NODES_MAX || optimum->flow < optimum->flow_bound)
        return status;
    set_distances(solver);
    while (least < enough && status == GWTF_OK) {
        int64_t middle = least + (enough - least) / 2;
        uint32_t flow = 0;
        status = circulate_below(solver, middle, &flow);
        if (flow < optimum->flow_bound)
            least = middle + 1;
        else
            enough = middle;
    }
    if (status == GWTF_OK)
        optimum->max_path_bound = least;
    return status;
}
