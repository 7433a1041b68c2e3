/* The solver: against all flows that there are, against what must hold for any instance. */
#include "flow/generate.h"
#include "flow/optimal.h"
#include "share/base/random.h"
#include "tests/support/suite.h"

#include <stdio.h>
#include <stdlib.h>

#define WAYS_MAX 64

/* All ways of a small instance, and the best use of them by trying each amount of each. */
struct trial {
    const gwtf_flow_instance *instance;
    uint32_t ways_count;
    gwtf_node_id ways[WAYS_MAX][4];
    int64_t costs[WAYS_MAX];
    uint32_t left[32];
    uint32_t best_flow;
    int64_t best_cost;
    int64_t best_most; /* the least that the dearest way costs, at best_flow */
};

/* Two stages of relays. */
static void find_ways(struct trial *trial) {
    const gwtf_flow_instance *instance = trial->instance;
    uint32_t nodes = gwtf_flow_instance_nodes(instance);
    for (gwtf_node_id d = 0; d < nodes; d++)
        for (gwtf_node_id a = 0; a < nodes; a++)
            for (gwtf_node_id b = 0; b < nodes; b++) {
                if (gwtf_flow_instance_stage(instance, d) != 0 ||
                    gwtf_flow_instance_stage(instance, a) != 1 ||
                    gwtf_flow_instance_stage(instance, b) != 2 ||
                    gwtf_flow_instance_cost(instance, d, a) < 0 ||
                    gwtf_flow_instance_cost(instance, a, b) < 0 ||
                    gwtf_flow_instance_cost(instance, b, d) < 0)
                    continue;
                gwtf_node_id way[] = {d, a, b};
                CU_ASSERT_FATAL(trial->ways_count < WAYS_MAX);
                for (int s = 0; s < 3; s++)
                    trial->ways[trial->ways_count][s] = way[s];
                trial->costs[trial->ways_count++] = gwtf_flow_path_cost(instance, way);
            }
}

static void try_from(struct trial *trial, uint32_t way, uint32_t flow, int64_t cost, int64_t most) {
    if (flow > trial->best_flow || (flow == trial->best_flow && most < trial->best_most))
        trial->best_most = most;
    if (flow > trial->best_flow || (flow == trial->best_flow && cost < trial->best_cost)) {
        trial->best_flow = flow;
        trial->best_cost = cost;
    }
    if (way == trial->ways_count)
        return;
    try_from(trial, way + 1, flow, cost, most);
    most = trial->costs[way] > most ? trial->costs[way] : most;
    const gwtf_node_id *nodes = trial->ways[way];
    uint32_t amount = 0;
    while (trial->left[nodes[0]] > 0 && trial->left[nodes[1]] > 0 && trial->left[nodes[2]] > 0) {
        for (int s = 0; s < 3; s++)
            trial->left[nodes[s]]--;
        amount++;
        try_from(trial, way + 1, flow + amount, cost + amount * trial->costs[way], most);
    }
    for (int s = 0; s < 3; s++)
        trial->left[nodes[s]] += amount;
}

static gwtf_flow_instance *make(const struct gwtf_flow_recipe *recipe) {
    gwtf_flow_instance *instance = NULL;
    CU_ASSERT_EQUAL_FATAL(gwtf_flow_generate(recipe, &instance), GWTF_OK);
    return instance;
}

/* Every way leads back, over links that there are; no node carries too much. */
static void expect_solution(const gwtf_flow_instance *instance,
                            const struct gwtf_flow_optimum *optimum,
                            const struct gwtf_flow_paths *paths) {
    uint32_t nodes = gwtf_flow_instance_nodes(instance);
    uint32_t *load = calloc(nodes, sizeof *load);
    int64_t cost = 0, most = 0;
    for (uint32_t i = 0; i < paths->count; i++) {
        const gwtf_node_id *path = paths->nodes + (size_t)i * (paths->stages + 1);
        int64_t one = gwtf_flow_path_cost(instance, path);
        cost += one;
        most = one > most ? one : most;
        for (uint32_t s = 0; s <= paths->stages; s++) {
            CU_ASSERT_EQUAL(gwtf_flow_instance_stage(instance, path[s]), s);
            load[path[s]]++;
        }
    }
    for (gwtf_node_id i = 0; i < nodes; i++)
        CU_ASSERT(load[i] <= gwtf_flow_instance_capacity(instance, i));
    CU_ASSERT_EQUAL(paths->count, optimum->flow);
    CU_ASSERT_EQUAL(cost, optimum->cost);
    CU_ASSERT_EQUAL(most, optimum->max_path);
    CU_ASSERT(optimum->flow <= optimum->flow_bound);
    CU_ASSERT(optimum->flow < optimum->flow_bound || optimum->cost >= optimum->cost_bound);
    CU_ASSERT(optimum->flow < optimum->flow_bound || optimum->max_path >= optimum->max_path_bound);
    free(load);
}

static void bound_truth_and_solution_stand_in_this_order(void) {
    uint32_t exact = 0, best = 0, exact_most = 0;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct gwtf_flow_recipe recipe = {.relays = 4 + (uint32_t)(seed % 2),
                                          .stages = 2,
                                          .data_nodes = 1 + (uint32_t)(seed % 3 % 2),
                                          .capacity = {1, 2},
                                          .data_capacity = {1, 3},
                                          .cost = {0, 20},
                                          .missing = 0.2,
                                          .asymmetric = true,
                                          .seed = seed};
        gwtf_flow_instance *instance = make(&recipe);
        struct trial trial = {.instance = instance};
        struct gwtf_flow_optimum found;
        struct gwtf_flow_paths paths;
        for (gwtf_node_id i = 0; i < gwtf_flow_instance_nodes(instance); i++)
            trial.left[i] = gwtf_flow_instance_capacity(instance, i);
        find_ways(&trial);
        try_from(&trial, 0, 0, 0, 0);
        CU_ASSERT_EQUAL_FATAL(gwtf_flow_solve(instance, &found, &paths), GWTF_OK);
        expect_solution(instance, &found, &paths);
        CU_ASSERT(found.flow <= trial.best_flow && trial.best_flow <= found.flow_bound);
        CU_ASSERT(found.flow < trial.best_flow || found.cost >= trial.best_cost);
        CU_ASSERT(trial.best_flow < found.flow_bound || found.cost_bound <= trial.best_cost);
        CU_ASSERT(trial.best_flow < found.flow_bound || found.max_path_bound <= trial.best_most);
        CU_ASSERT(found.flow < trial.best_flow || found.max_path >= trial.best_most);
        exact_most += found.max_path_bound == trial.best_most;
        CU_ASSERT(!found.exact || (found.flow == trial.best_flow && found.cost == trial.best_cost));
        CU_ASSERT(recipe.data_nodes > 1 || found.exact);
        exact += found.exact;
        best += found.flow == trial.best_flow && found.cost == trial.best_cost;
        gwtf_flow_paths_deinit(&paths);
        gwtf_flow_instance_destroy(instance);
    }
    /* Of 300. */
    CU_ASSERT(exact >= 290);
    CU_ASSERT(best >= 298);
    CU_ASSERT(exact_most >= 230);
    if (exact < 290 || best < 298 || exact_most < 230)
        printf("\n    %u exact, %u best, %u largest\n", exact, best, exact_most);
}

static void solutions_hold_for_any_instance(void) {
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct gwtf_flow_recipe recipe = {.relays = 20 + (uint32_t)seed,
                                          .stages = 2 + (uint32_t)(seed % 5),
                                          .data_nodes = 1 + (uint32_t)(seed % 4),
                                          .capacity = {0, 12},
                                          .cost = {1, 700},
                                          .missing = 0.15,
                                          .asymmetric = seed % 2 == 0,
                                          .seed = seed};
        gwtf_flow_instance *instance = make(&recipe);
        struct gwtf_flow_optimum found;
        struct gwtf_flow_paths paths;
        CU_ASSERT_EQUAL_FATAL(gwtf_flow_solve(instance, &found, &paths), GWTF_OK);
        expect_solution(instance, &found, &paths);
        /* Held against integer programming, the worst of such was 0.05 % above the truth. */
        CU_ASSERT(found.flow == found.flow_bound &&
                  (double)found.cost <= 1.005 * (double)found.cost_bound);
        gwtf_flow_paths_deinit(&paths);
        gwtf_flow_instance_destroy(instance);
    }
}

/* With more room or cheaper links nothing gets worse; costs scale. */
static void a_better_instance_has_a_better_optimum(void) {
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct gwtf_flow_recipe recipe = {.relays = 40,
                                          .stages = 4,
                                          .data_nodes = 1,
                                          .capacity = {1, 6},
                                          .cost = {1, 700},
                                          .missing = 0.1,
                                          .seed = seed};
        gwtf_flow_instance *instance = make(&recipe);
        struct gwtf_random random;
        struct gwtf_flow_optimum before, after;
        gwtf_random_init(&random, seed);
        CU_ASSERT_EQUAL_FATAL(gwtf_flow_solve(instance, &before, NULL), GWTF_OK);
        gwtf_node_id node = 1 + (gwtf_node_id)gwtf_random_below(&random, 40);
        gwtf_flow_instance_set_capacity(instance, node,
                                        gwtf_flow_instance_capacity(instance, node) + 3);
        CU_ASSERT_EQUAL_FATAL(gwtf_flow_solve(instance, &after, NULL), GWTF_OK);
        CU_ASSERT(after.flow > before.flow ||
                  (after.flow == before.flow && after.cost <= before.cost));
        gwtf_flow_instance_set_capacity(instance, node, 0);
        CU_ASSERT_EQUAL_FATAL(gwtf_flow_solve(instance, &after, NULL), GWTF_OK);
        CU_ASSERT(after.flow < before.flow ||
                  (after.flow == before.flow && after.cost >= before.cost));
        gwtf_flow_instance_destroy(instance);
    }
}

static void an_instance_without_a_way_has_no_flow(void) {
    static const uint32_t stage[] = {0, 1, 2}, capacity[] = {3, 3, 3};
    gwtf_flow_instance *instance = NULL;
    struct gwtf_flow_optimum found;
    CU_ASSERT_EQUAL_FATAL(gwtf_flow_instance_create(2, 3, stage, capacity, &instance), GWTF_OK);
    gwtf_flow_instance_set_cost(instance, 0, 1, 5);
    gwtf_flow_instance_set_cost(instance, 1, 2, 5);
    CU_ASSERT_EQUAL(gwtf_flow_solve(instance, &found, NULL), GWTF_OK);
    CU_ASSERT(found.flow == 0 && found.cost == 0 && found.flow_bound == 0 && found.exact);
    gwtf_flow_instance_set_cost(instance, 2, 0, 5);
    CU_ASSERT_EQUAL(gwtf_flow_solve(instance, &found, NULL), GWTF_OK);
    CU_ASSERT(found.flow == 3 && found.cost == 45 && found.max_path == 15 && found.exact);
    gwtf_flow_instance_destroy(instance);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(bound_truth_and_solution_stand_in_this_order),
        GWTF_TEST(solutions_hold_for_any_instance),
        GWTF_TEST(a_better_instance_has_a_better_optimum),
        GWTF_TEST(an_instance_without_a_way_has_no_flow),
    };
    return gwtf_suite_main(argc, argv, "optimal", tests, sizeof tests / sizeof tests[0], NULL,
                           NULL);
}
