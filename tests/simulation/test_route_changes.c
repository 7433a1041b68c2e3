/* One change at a settled state: what it costs must follow from the place, not from the network. */
#include "flow/generate.h"
#include "share/base/random.h"
#include "tests/support/suite.h"
#include "worker/simulation/route.h"

#include <stdio.h>

/* For each neighbour that notices the change, here those of both stages beside it. bench_changes, 6
 * and 24 stages of 6 relays: 426 and 1,516 messages in the median, 1,676 and 4,194 in 95 of 100. */
#define MESSAGES_MOST 400
#define MEDIAN_MOST 200
/* 4 stages of 16, where a flow touches fewer of its neighbours: 203 in the median, for 32. */
#define MEDIAN_MOST_WIDE 20
#define ROUNDS_MOST 10
#define EVENTS 8

struct place {
    gwtf_flow_instance *instance;
    gwtf_route *route;
    struct gwtf_random random;
    uint32_t neighbours;
    uint64_t messages[EVENTS];
    size_t deaths;
};

static void settle(struct place *place, uint32_t stages, uint32_t width, uint64_t seed) {
    struct gwtf_flow_recipe recipe = gwtf_flow_recipe_default();
    struct gwtf_route_config config = {.seed = seed};
    *place = (struct place){.neighbours = 2 * width};
    recipe.stages = stages;
    recipe.relays = stages * width;
    recipe.seed = seed;
    gwtf_random_init(&place->random, seed);
    CU_ASSERT_EQUAL_FATAL(gwtf_flow_generate(&recipe, &place->instance), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_route_create(place->instance, &config, &place->route), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_route_run(place->route, 1000), GWTF_OK);
    CU_ASSERT(gwtf_route_is_settled(place->route));
}

static void leave(struct place *place) {
    gwtf_route_destroy(place->route);
    gwtf_flow_instance_destroy(place->instance);
}

/* A relay that carries flows. */
static gwtf_node_id choose_victim(struct place *place) {
    gwtf_node_id node;
    do
        node = 1 + (gwtf_node_id)gwtf_random_below(&place->random,
                                                   gwtf_flow_instance_nodes(place->instance) - 1);
    while (gwtf_flow_get_load(gwtf_route_node(place->route, node)).complete == 0);
    return node;
}

/* When all has been at rest for 20 rounds; the optimum is that of then. */
static struct gwtf_route_totals change(struct place *place, enum gwtf_route_change_kind kind,
                                       gwtf_node_id node, struct gwtf_flow_optimum *optimum) {
    double round = gwtf_route_get_totals(place->route).round + 20;
    struct gwtf_route_change planned = {.kind = kind, .node = node, .round = round};
    CU_ASSERT_EQUAL(gwtf_route_plan(place->route, &planned), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_route_run(place->route, round + 1000), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_flow_solve(gwtf_route_instance(place->route), optimum, NULL), GWTF_OK);
    struct gwtf_route_totals totals = gwtf_route_get_totals(place->route);
    CU_ASSERT(totals.settled && totals.dangling == 0);
    CU_ASSERT_EQUAL(totals.flow, optimum->flow);
    return totals;
}

static void expect_near(const struct place *place, const struct gwtf_route_totals *totals,
                        const struct gwtf_flow_optimum *optimum) {
    bool good = totals->rounds_since <= ROUNDS_MOST &&
                totals->messages_since <= MESSAGES_MOST * place->neighbours &&
                totals->cost * 100 <= optimum->cost * 102;
    if (!good)
        printf("\n    rounds %.1f, messages %llu, cost %lld of %lld\n", totals->rounds_since,
               (unsigned long long)totals->messages_since, (long long)totals->cost,
               (long long)optimum->cost);
    CU_ASSERT(good);
}

/* Below it are half of the values. */
static uint64_t get_median(const uint64_t *values, size_t count) {
    uint64_t median = UINT64_MAX;
    for (size_t i = 0; i < count; i++) {
        size_t below = 0;
        for (size_t j = 0; j < count; j++)
            below += values[j] <= values[i];
        if (2 * below >= count && values[i] < median)
            median = values[i];
    }
    return median;
}

/* Deaths after which the other relays can carry as much. */
static void lose_relays(uint32_t stages, uint32_t width, uint64_t seed, uint32_t median_most) {
    struct place place;
    struct gwtf_flow_optimum whole, optimum;
    settle(&place, stages, width, seed);
    CU_ASSERT_EQUAL(gwtf_flow_solve(place.instance, &whole, NULL), GWTF_OK);
    for (int i = 0; i < EVENTS; i++) {
        gwtf_node_id victim = choose_victim(&place);
        struct gwtf_route_totals totals = change(&place, GWTF_ROUTE_KILL, victim, &optimum);
        if (optimum.flow == whole.flow) {
            expect_near(&place, &totals, &optimum);
            place.messages[place.deaths++] = totals.messages_since;
        }
        (void)change(&place, GWTF_ROUTE_REVIVE, victim, &optimum);
    }
    uint64_t median = get_median(place.messages, place.deaths);
    printf("\n    %u x %u: %zu deaths, messages in the median %llu", stages, width, place.deaths,
           (unsigned long long)median);
    CU_ASSERT(place.deaths >= 3);
    CU_ASSERT(median <= median_most * place.neighbours);
    leave(&place);
}

static void a_death_costs_what_its_neighbourhood_is_whatever_the_depth(void) {
    lose_relays(6, 6, 1, MEDIAN_MOST);
    lose_relays(24, 6, 1, MEDIAN_MOST);
    printf("\n  ");
}

static void a_death_in_a_wide_stage_costs_little_for_each_neighbour(void) {
    lose_relays(4, 16, 1, MEDIAN_MOST_WIDE);
    printf("\n  ");
}

static uint32_t changes_of_stage[32];
static const gwtf_flow_instance *watched;

static void note_change(void *context, gwtf_time_us now_us, gwtf_node_id node,
                        const gwtf_flow *flow) {
    (void)context;
    (void)now_us;
    (void)flow;
    changes_of_stage[gwtf_flow_instance_stage(watched, node)]++;
}

static void flows_of_a_dead_relay_are_mended_by_its_own_stage(void) {
    struct gwtf_flow_recipe recipe = gwtf_flow_recipe_default();
    struct gwtf_route_config config = {.seed = 1, .changed = note_change};
    gwtf_flow_instance *instance = NULL;
    gwtf_route *route = NULL;
    recipe.stages = 12;
    recipe.relays = 12 * 4;
    /* There is room for what a relay leaves. */
    recipe.capacity = (struct gwtf_flow_range){4, 4};
    recipe.data_capacity = (struct gwtf_flow_range){8, 8};
    CU_ASSERT_EQUAL_FATAL(gwtf_flow_generate(&recipe, &instance), GWTF_OK);
    watched = instance;
    CU_ASSERT_EQUAL_FATAL(gwtf_route_create(instance, &config, &route), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_route_run(route, 1000), GWTF_OK);
    gwtf_node_id victim = 1 + 5 * 4;
    while (gwtf_flow_get_load(gwtf_route_node(route, victim)).complete == 0)
        victim++;
    double round = gwtf_route_get_totals(route).round + 20;
    struct gwtf_route_change kill = {.kind = GWTF_ROUTE_KILL, .node = victim, .round = round};
    CU_ASSERT_EQUAL(gwtf_route_plan(route, &kill), GWTF_OK);
    for (uint32_t i = 0; i < 32; i++)
        changes_of_stage[i] = 0;
    /* All neighbours have noticed it after a round, and messages take a fortieth. */
    CU_ASSERT_EQUAL(gwtf_route_run(route, round + 1.5), GWTF_OK);
    struct gwtf_route_totals totals = gwtf_route_get_totals(route);
    CU_ASSERT_EQUAL(totals.flow, 8);
    CU_ASSERT_EQUAL(totals.dangling, 0);
    CU_ASSERT(changes_of_stage[6] > 0);
    uint32_t stage = gwtf_flow_instance_stage(instance, victim);
    /* Elsewhere only the costs of flows are told on, towards their source. */
    for (uint32_t i = stage + 2; i <= 12; i++)
        CU_ASSERT_EQUAL(changes_of_stage[i], 0);
    gwtf_route_destroy(route);
    gwtf_flow_instance_destroy(instance);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(flows_of_a_dead_relay_are_mended_by_its_own_stage),
        GWTF_TEST(a_death_costs_what_its_neighbourhood_is_whatever_the_depth),
        GWTF_TEST(a_death_in_a_wide_stage_costs_little_for_each_neighbour),
    };
    return gwtf_suite_main(argc, argv, "route changes", tests, sizeof tests / sizeof tests[0], NULL,
                           NULL);
}
