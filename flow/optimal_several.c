/*
 * Several data nodes: each flow comes back to its own. The linear program over ways gives the bound
 * and most of the flows; what is left of it in fractions is rounded and solved again, until all
 * flows are whole ("diving"). Then each data node takes its best ways in what the others leave, and
 * groups of flows that share nodes are taken out and solved anew, as long as that helps.
 */
#include "flow/optimal_master.h"
#include "flow/optimal_solver.h"
#include "share/base/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Groups that are solved anew, and of how many flows. */
#define GROUPS_MAX 400u
#define GROUP_LEAST 6u
#define GROUP_MOST 24u
/* Above, each data node takes its turn once. */
#define LARGE_NODES 3000u

struct search {
    struct optimal_solver *solver;
    struct optimal_master *master; /* NULL: the instance is too large for one */
    struct gwtf_flow_paths *paths;
    size_t length;
    uint32_t flow_most;
    uint32_t *left;          /* [nodes] capacity that the paths leave */
    gwtf_node_id *kept;      /* [flow_most][length] the best paths so far */
    struct candidate *order; /* [flow_most + nodes] */
    uint32_t *share;         /* [nodes] flows of a data node in the circulation */
    int64_t *price;          /* [nodes] what the circulation would pay for more capacity */
    struct gwtf_random random;
};

struct candidate {
    double value;
    const gwtf_node_id *way;
    uint32_t index;
};

static int by_value_falling(const void *a, const void *b) {
    const struct candidate *first = a, *second = b;
    if (first->value != second->value)
        return first->value > second->value ? -1 : 1;
    return first->index < second->index ? -1 : first->index > second->index;
}

/* Prices and shares. What every way through a stage has to pay is of no account, and left out: it
 * may be what a flow is worth. */
static void keep_circulation(struct search *search) {
    const struct optimal_solver *solver = search->solver;
    for (uint32_t s = 1; s <= solver->stages; s++) {
        uint32_t count = 0;
        int64_t least = INT64_MAX;
        const gwtf_node_id *nodes = gwtf_flow_instance_stage_nodes(solver->instance, s, &count);
        for (uint32_t i = 0; i < count; i++) {
            search->price[nodes[i]] = optimal_network_price(solver->network, nodes[i]);
            if (search->price[nodes[i]] < least)
                least = search->price[nodes[i]];
        }
        for (uint32_t i = 0; i < count; i++)
            search->price[nodes[i]] -= least;
    }
    struct optimal_link link;
    for (size_t at = 0; optimal_network_next_link(solver->network, &at, &link);)
        if (gwtf_flow_instance_stage(solver->instance, link.from) == 0)
            search->share[link.from] += link.flow;
}

static gwtf_status search_init(struct search *search, struct optimal_solver *solver,
                               struct gwtf_flow_paths *paths, uint32_t flow_most) {
    *search = (struct search){.solver = solver,
                              .paths = paths,
                              .length = (size_t)solver->stages + 1,
                              .flow_most = flow_most};
    gwtf_random_init(&search->random, 1);
    size_t cells = (flow_most + (size_t)1) * search->length;
    search->left = calloc(solver->nodes, sizeof *search->left);
    search->kept = calloc(cells, sizeof *search->kept);
    search->order = calloc((size_t)flow_most + solver->nodes + 1, sizeof *search->order);
    search->price = calloc(solver->nodes, sizeof *search->price);
    search->share = calloc(solver->nodes, sizeof *search->share);
    if (search->share == NULL || search->price == NULL || search->left == NULL ||
        search->kept == NULL || search->order == NULL)
        return GWTF_ERROR_MEMORY;
    keep_circulation(search);
    if (solver->nodes > OPTIMAL_MASTER_NODES_MAX)
        return GWTF_OK;
    return optimal_master_create(solver->instance, &search->master);
}

static void search_deinit(struct search *search) {
    optimal_master_destroy(search->master);
    free(search->share);
    free(search->price);
    free(search->order);
    free(search->kept);
    free(search->left);
}

static gwtf_node_id *path_at(const struct search *search, uint32_t path) {
    return search->paths->nodes + path * search->length;
}

static void count_left(struct search *search) {
    const gwtf_flow_instance *instance = search->solver->instance;
    for (gwtf_node_id i = 0; i < search->solver->nodes; i++)
        search->left[i] = gwtf_flow_instance_capacity(instance, i);
    for (uint32_t i = 0; i < search->paths->count; i++)
        for (size_t s = 0; s < search->length; s++)
            search->left[path_at(search, i)[s]]--;
}

static bool add_path(struct search *search, const gwtf_node_id *way) {
    if (search->paths->count >= search->flow_most)
        return false;
    for (size_t s = 0; s < search->length; s++)
        if (search->left[way[s]] == 0)
            return false;
    for (size_t s = 0; s < search->length; s++)
        search->left[way[s]]--;
    memcpy(path_at(search, search->paths->count++), way, search->length * sizeof *way);
    return true;
}

/* Whole parts of the program's ways first, then the largest fractions. Returns how many flows. */
static uint32_t round_ways(struct search *search) {
    uint32_t at = 0, count = 0, added = 0;
    const gwtf_node_id *way = NULL;
    double amount = 0;
    while (optimal_master_next_way(search->master, &at, &way, &amount)) {
        for (; amount > 1 - 1e-4; amount--)
            added += add_path(search, way);
        if (amount > 1e-4)
            search->order[count++] = (struct candidate){amount, way, at};
    }
    qsort(search->order, count, sizeof *search->order, by_value_falling);
    uint32_t rounded = added > 0 ? count / 4 : count / 4 + 1;
    for (uint32_t i = 0; i < count && rounded > 0; i++) {
        if (search->order[i].value < 0.7 && added > 0)
            break;
        bool fits = add_path(search, search->order[i].way);
        added += fits;
        rounded -= fits;
    }
    return added;
}

/* Adds flows until none fits. *SOLVED: the program has been solved for what is left. */
static gwtf_status dive(struct search *search, bool solved) {
    for (;;) {
        double flow = 0;
        if (!solved) {
            gwtf_status status = optimal_master_solve(
                search->master, search->left, search->flow_most - search->paths->count, &flow);
            if (status != GWTF_OK)
                return status;
        }
        solved = false;
        if (round_ways(search) == 0 || search->paths->count >= search->flow_most)
            return GWTF_OK;
    }
}

/* --- One data node at a time. --- */

static void remove_path(struct search *search, uint32_t path) {
    uint32_t last = --search->paths->count;
    if (path != last)
        memcpy(path_at(search, path), path_at(search, last), search->length * sizeof *search->kept);
}

/* Each data node in turn takes its best ways, in what the others leave; with PRICE, which nodes
 * charge, no more of them than it has in the circulation, so that the last one is not left short:
 * until none gets better, or for so many turns. */
static gwtf_status take_turns(struct search *search, const int64_t *price, uint32_t turns_max) {
    struct optimal_solver *solver = search->solver;
    struct gwtf_flow_paths *paths = search->paths;
    uint32_t data_nodes = 0, unchanged = 0, flow = 0;
    int64_t cost = 0, before = -1, most = 0;
    const gwtf_node_id *data = gwtf_flow_instance_stage_nodes(solver->instance, 0, &data_nodes);
    for (uint32_t turn = 0; unchanged < data_nodes && turn < turns_max; turn++) {
        uint32_t flows = paths->count, d = turn % data_nodes;
        for (uint32_t i = paths->count; i > 0; i--)
            if (path_at(search, i - 1)[0] == data[d])
                remove_path(search, i - 1);
        count_left(search);
        for (gwtf_node_id i = 0; i < solver->nodes; i++)
            solver->capacity[i] = gwtf_flow_instance_stage(solver->instance, i) == 0 && i != data[d]
                                      ? 0
                                      : search->left[i];
        if (price != NULL)
            solver->capacity[data[d]] = search->share[data[d]];
        gwtf_status status = optimal_solver_circulate(solver, price, &flow, &cost);
        if (status == GWTF_OK)
            status = optimal_solver_take_paths(solver, data[d], paths);
        if (status != GWTF_OK)
            return status;
        cost = optimal_paths_cost(solver->instance, paths, &most);
        unchanged = paths->count == flows && cost == before ? unchanged + 1 : 0;
        before = cost;
    }
    return GWTF_OK;
}

/* --- Groups of flows. --- */

/* Takes out a random flow and those that share most nodes with it. */
static void remove_group(struct search *search) {
    struct gwtf_flow_paths *paths = search->paths;
    uint32_t size =
        GROUP_LEAST + (uint32_t)gwtf_random_below(&search->random, GROUP_MOST - GROUP_LEAST + 1);
    uint32_t centre = (uint32_t)gwtf_random_below(&search->random, paths->count);
    for (uint32_t i = 0; i < paths->count; i++) {
        double shared = 3 * gwtf_random_unit(&search->random);
        for (size_t s = 0; s < search->length; s++)
            shared += path_at(search, i)[s] == path_at(search, centre)[s];
        search->order[i] = (struct candidate){shared, NULL, i};
    }
    qsort(search->order, paths->count, sizeof *search->order, by_value_falling);
    if (size > paths->count)
        size = paths->count;
    /* From the last one on, so that what is moved into a gap is not one of the group. */
    for (uint32_t i = 0; i < size; i++)
        search->order[i].value = search->order[i].index;
    qsort(search->order, size, sizeof *search->order, by_value_falling);
    for (uint32_t i = 0; i < size; i++)
        remove_path(search, search->order[i].index);
}

static gwtf_status solve_groups(struct search *search, const struct gwtf_flow_optimum *optimum) {
    struct gwtf_flow_paths *paths = search->paths;
    int64_t most = 0, best = optimal_paths_cost(search->solver->instance, paths, &most);
    for (uint32_t i = 0; i < GROUPS_MAX && paths->count > 0; i++) {
        if (paths->count == optimum->flow_bound && best <= optimum->cost_bound)
            break;
        uint32_t flow = paths->count;
        memcpy(search->kept, paths->nodes, flow * search->length * sizeof *search->kept);
        remove_group(search);
        count_left(search);
        gwtf_status status = dive(search, false);
        if (status != GWTF_OK)
            return status;
        int64_t cost = optimal_paths_cost(search->solver->instance, paths, &most);
        if (paths->count > flow || (paths->count == flow && cost <= best)) {
            best = cost;
            continue;
        }
        memcpy(paths->nodes, search->kept, flow * search->length * sizeof *search->kept);
        paths->count = flow;
    }
    return GWTF_OK;
}

/* --- All of it. --- */

/* The program's bounds, where they are tighter than the circulation's; it is solved afterwards. */
static gwtf_status bound(struct search *search, struct gwtf_flow_optimum *optimum) {
    double flow = 0;
    count_left(search);
    gwtf_status status = optimal_master_suggest(search->master, search->price);
    if (status == GWTF_OK)
        status = optimal_master_solve(search->master, search->left, optimum->flow_bound, &flow);
    uint32_t whole = (uint32_t)(flow + 1e-3);
    if (status == GWTF_OK && whole < optimum->flow_bound) {
        /* More flows would cost more than any ways can. */
        int64_t most = optimal_master_cost_most(search->master);
        bool proven = optimal_master_bound(search->master, search->left, whole + 1) >
                      most * (int64_t)(whole + 1);
        if (proven) {
            optimum->flow_bound = search->flow_most = whole;
            optimum->cost_bound = 0;
            status = optimal_master_solve(search->master, search->left, whole, &flow);
        }
    }
    if (status != GWTF_OK)
        return status;
    int64_t cost = optimal_master_bound(search->master, search->left, optimum->flow_bound);
    if (cost > optimum->cost_bound)
        optimum->cost_bound = cost;
    return GWTF_OK;
}

gwtf_status optimal_solve_several(struct optimal_solver *solver, struct gwtf_flow_optimum *optimum,
                                  struct gwtf_flow_paths *paths) {
    struct search search;
    uint32_t data_nodes = 0;
    (void)gwtf_flow_instance_stage_nodes(solver->instance, 0, &data_nodes);
    uint32_t turns_max = solver->nodes > LARGE_NODES ? data_nodes : UINT32_MAX;
    gwtf_status status = search_init(&search, solver, paths, optimum->flow_bound);
    if (status == GWTF_OK && search.master != NULL) {
        status = bound(&search, optimum);
        if (status == GWTF_OK)
            status = dive(&search, true);
    } else if (status == GWTF_OK) {
        status = take_turns(&search, search.price, data_nodes);
    }
    if (status == GWTF_OK)
        status = take_turns(&search, NULL, turns_max);
    if (status == GWTF_OK && search.master != NULL)
        status = solve_groups(&search, optimum);
    if (status == GWTF_OK && search.master != NULL)
        status = take_turns(&search, NULL, turns_max);
    search_deinit(&search);
    return status;
}
