/* The flow algorithm alone, in virtual time. */
#include "flow/generate.h"
#include "flow/table.h"
#include "flow/view.h"
#include "share/base/random.h"
#include "tests/support/suite.h"
#include "worker/simulation/route.h"
#include "worker/simulation/route_queue.h"

#include <stdio.h>
#include <stdlib.h>

static gwtf_flow_instance *make(uint32_t relays, uint32_t stages, uint32_t data_nodes,
                                uint64_t seed) {
    struct gwtf_flow_recipe recipe = gwtf_flow_recipe_default();
    gwtf_flow_instance *instance = NULL;
    recipe.relays = relays;
    recipe.stages = stages;
    recipe.data_nodes = data_nodes;
    recipe.asymmetric = true;
    recipe.missing = 0.1;
    recipe.seed = seed;
    CU_ASSERT_EQUAL_FATAL(gwtf_flow_generate(&recipe, &instance), GWTF_OK);
    return instance;
}

static void expect_no_fault(const gwtf_route *route, gwtf_status status) {
    if (status != GWTF_OK)
        printf("\n    %s\n", gwtf_route_failure(route));
    CU_ASSERT_EQUAL(status, GWTF_OK);
}

static struct gwtf_route_totals run(const gwtf_flow_instance *instance,
                                    const struct gwtf_route_config *config,
                                    const struct gwtf_route_change *changes, size_t changes_count) {
    gwtf_route *route = NULL;
    CU_ASSERT_EQUAL_FATAL(gwtf_route_create(instance, config, &route), GWTF_OK);
    for (size_t i = 0; i < changes_count; i++)
        CU_ASSERT_EQUAL(gwtf_route_plan(route, &changes[i]), GWTF_OK);
    expect_no_fault(route, gwtf_route_run(route, 1000));
    struct gwtf_route_totals totals = gwtf_route_get_totals(route);
    struct gwtf_flow_optimum optimum;
    CU_ASSERT_EQUAL(gwtf_flow_solve(gwtf_route_instance(route), &optimum, NULL), GWTF_OK);
    CU_ASSERT(totals.settled);
    CU_ASSERT_EQUAL(totals.dangling, 0);
    CU_ASSERT(totals.flow <= optimum.flow_bound);
    CU_ASSERT(totals.flow < optimum.flow_bound || totals.cost >= optimum.cost_bound);
    /* How near it comes is another test's; here it must have found most flows. */
    CU_ASSERT(totals.flow * 10 >= optimum.flow_bound * 9);
    gwtf_route_destroy(route);
    return totals;
}

static void the_same_seed_gives_the_same_trace(void) {
    gwtf_flow_instance *instance = make(20, 4, 2, 1);
    struct gwtf_route_config config = {.seed = 7, .loss = 0.05, .doubling = 0.05, .delay = 0.05};
    struct gwtf_route_totals first = run(instance, &config, NULL, 0);
    struct gwtf_route_totals second = run(instance, &config, NULL, 0);
    config.seed = 8;
    struct gwtf_route_totals other = run(instance, &config, NULL, 0);
    CU_ASSERT_EQUAL(first.trace, second.trace);
    CU_ASSERT_EQUAL(first.messages, second.messages);
    CU_ASSERT_EQUAL(first.cost, second.cost);
    CU_ASSERT_NOT_EQUAL(first.trace, other.trace);
    gwtf_flow_instance_destroy(instance);
}

static void every_policy_settles_without_breaking_a_promise(void) {
    for (int policy = 0; gwtf_flow_policy_words[policy] != NULL; policy++) {
        if (policy != GWTF_FLOW_POLICY_GWTF)
            continue; /* the baselines may stop short of the flow that `run` expects */
        for (uint64_t seed = 1; seed <= 5; seed++) {
            gwtf_flow_instance *instance = make(24, 3, 1 + seed % 2, seed);
            struct gwtf_route_config config = {.policy = (enum gwtf_flow_policy)policy,
                                               .seed = seed,
                                               .loss = seed % 3 == 0 ? 0.05 : 0};
            (void)run(instance, &config, NULL, 0);
            gwtf_flow_instance_destroy(instance);
        }
    }
}

/* Searches alone, which better one data node's flows at a time, end 3 to 14 in a hundred above. */
static void several_data_nodes_come_near_the_optimum(void) {
    double sum = 0;
    int near = 0;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        gwtf_flow_instance *instance = make(36, 6, 2 + (uint32_t)seed % 3, seed);
        struct gwtf_flow_optimum optimum;
        CU_ASSERT_EQUAL(gwtf_flow_solve(instance, &optimum, NULL), GWTF_OK);
        struct gwtf_route_config config = {.seed = seed};
        struct gwtf_route_totals totals = run(instance, &config, NULL, 0);
        CU_ASSERT_EQUAL(totals.flow, optimum.flow_bound);
        double ratio = (double)totals.cost / (double)optimum.cost_bound;
        near += ratio < 1.05;
        sum += ratio;
        gwtf_flow_instance_destroy(instance);
    }
    printf("\n    mean of cost over the bound: %.4f\n  ", sum / 6);
    CU_ASSERT(sum / 6 < 1.035);
    CU_ASSERT(near >= 5);
}

/* Of the flows of least cost those whose dearest one is cheap: the solver's, which balances its
 * own, is as dear. */
static void the_dearest_flow_gets_cheaper_at_no_cost(void) {
    int cheaper = 0, as_good = 0;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct gwtf_flow_optimum optimum;
        gwtf_flow_instance *instance = make(36, 6, 1, seed);
        CU_ASSERT_EQUAL(gwtf_flow_solve(instance, &optimum, NULL), GWTF_OK);
        struct gwtf_route_config config = {.seed = seed};
        struct gwtf_route_totals sum = run(instance, &config, NULL, 0);
        config.objective = GWTF_FLOW_OBJECTIVE_MAX;
        struct gwtf_route_totals max = run(instance, &config, NULL, 0);
        CU_ASSERT(max.flow == sum.flow && max.cost == sum.cost);
        CU_ASSERT_EQUAL(max.cost, optimum.cost);
        CU_ASSERT(max.max_path <= sum.max_path);
        cheaper += max.max_path < sum.max_path;
        as_good += max.max_path <= optimum.max_path;
        gwtf_flow_instance_destroy(instance);
    }
    printf("\n    cheaper in %d, as cheap as the solver's in %d of 8\n  ", cheaper, as_good);
    CU_ASSERT(cheaper >= 2);
    CU_ASSERT(as_good >= 6);
}

/* With a limit that too few planned flows keep to, searches have to do the rest: 1.028. */
static void a_negotiation_plans_nearly_all_flows(void) {
    struct gwtf_flow_recipe recipe = gwtf_flow_recipe_default();
    struct gwtf_flow_optimum optimum;
    gwtf_flow_instance *instance = NULL;
    recipe.relays = 48;
    recipe.stages = 4;
    recipe.data_nodes = 2;
    recipe.capacity = (struct gwtf_flow_range){10, 20};
    recipe.missing = 0.1;
    recipe.seed = 601;
    CU_ASSERT_EQUAL_FATAL(gwtf_flow_generate(&recipe, &instance), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_flow_solve(instance, &optimum, NULL), GWTF_OK);
    struct gwtf_route_config config = {.seed = 5, .view = 32, .check_every = 997};
    struct gwtf_route_totals totals = run(instance, &config, NULL, 0);
    CU_ASSERT_EQUAL(totals.flow, optimum.flow_bound);
    CU_ASSERT((double)totals.cost < 1.02 * (double)optimum.cost_bound);
    gwtf_flow_instance_destroy(instance);
}

/* A negotiation takes 150 rounds. */
static void data_nodes_with_many_flows_do_not_negotiate(void) {
    double worst = 0, rounds = 0;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct gwtf_flow_recipe recipe = gwtf_flow_recipe_default();
        struct gwtf_flow_optimum optimum;
        gwtf_flow_instance *instance = NULL;
        recipe.relays = 40;
        recipe.stages = 2;
        recipe.data_nodes = 2;
        recipe.capacity = (struct gwtf_flow_range){10, 20};
        recipe.data_capacity = (struct gwtf_flow_range){201, 210};
        recipe.seed = seed;
        CU_ASSERT_EQUAL_FATAL(gwtf_flow_generate(&recipe, &instance), GWTF_OK);
        CU_ASSERT_EQUAL(gwtf_flow_solve(instance, &optimum, NULL), GWTF_OK);
        struct gwtf_route_config config = {.seed = seed};
        struct gwtf_route_totals totals = run(instance, &config, NULL, 0);
        double ratio = (double)totals.cost / (double)optimum.cost_bound;
        worst = ratio > worst ? ratio : worst;
        rounds = totals.rounds > rounds ? totals.rounds : rounds;
        CU_ASSERT_EQUAL(totals.flow, optimum.flow_bound);
        gwtf_flow_instance_destroy(instance);
    }
    printf("\n    at most %.1f rounds, and %.4f of the bound of the cost\n  ", rounds, worst);
    CU_ASSERT(rounds < 200);
    CU_ASSERT(worst <= 1.10);
}

static void flows_are_found_again_after_deaths_arrivals_and_cuts(void) {
    for (uint64_t seed = 1; seed <= 5; seed++) {
        gwtf_flow_instance *instance = make(24, 3, 1, seed);
        struct gwtf_route_config config = {.seed = seed};
        const struct gwtf_route_change changes[] = {
            {.kind = GWTF_ROUTE_KILL, .round = 30, .node = 3},
            {.kind = GWTF_ROUTE_KILL, .round = 30.4, .node = 12},
            {.kind = GWTF_ROUTE_LINK, .round = 50, .node = 1, .peer = 9, .cost = -1},
            {.kind = GWTF_ROUTE_LINK, .round = 50, .node = 2, .peer = 10, .cost = 1},
            {.kind = GWTF_ROUTE_REVIVE, .round = 30.6, .node = 3},
            {.kind = GWTF_ROUTE_REVIVE, .round = 70, .node = 12},
            {.kind = GWTF_ROUTE_KILL, .round = 90, .node = 0},
            {.kind = GWTF_ROUTE_REVIVE, .round = 95, .node = 0},
        };
        struct gwtf_route_totals totals =
            run(instance, &config, changes, sizeof changes / sizeof changes[0]);
        CU_ASSERT(totals.rounds >= 95);
        CU_ASSERT(totals.rounds_since <= totals.rounds - 95 + 1e-6);
        gwtf_flow_instance_destroy(instance);
    }
}

static void a_dead_node_carries_nothing(void) {
    gwtf_flow_instance *instance = make(24, 3, 1, 1);
    struct gwtf_route_config config = {.seed = 1};
    gwtf_route *route = NULL;
    CU_ASSERT_EQUAL_FATAL(gwtf_route_create(instance, &config, &route), GWTF_OK);
    expect_no_fault(route, gwtf_route_run(route, 1000));
    gwtf_node_id victim = 1;
    while (victim < 24 && gwtf_flow_hops(gwtf_route_node(route, victim), NULL, 0) == 0)
        victim++;
    struct gwtf_route_change kill = {.kind = GWTF_ROUTE_KILL, .round = 1000, .node = victim};
    CU_ASSERT_EQUAL(gwtf_route_plan(route, &kill), GWTF_OK);
    CU_ASSERT(!gwtf_route_is_settled(route));
    expect_no_fault(route, gwtf_route_run(route, 2000));
    CU_ASSERT(gwtf_route_is_settled(route));
    CU_ASSERT_PTR_NULL(gwtf_route_node(route, victim));
    CU_ASSERT_EQUAL(gwtf_flow_instance_capacity(gwtf_route_instance(route), victim), 0);
    struct gwtf_route_totals totals = gwtf_route_get_totals(route);
    CU_ASSERT(totals.dangling == 0 && totals.rounds_since > 0 && totals.messages_since > 0);
    for (gwtf_node_id i = 0; i < gwtf_flow_instance_nodes(instance); i++) {
        struct gwtf_flow_hop hops[256];
        const gwtf_flow *flow = gwtf_route_node(route, i);
        size_t count = flow == NULL ? 0 : gwtf_flow_hops(flow, hops, 256);
        for (size_t j = 0; j < count && j < 256; j++)
            CU_ASSERT(hops[j].from != victim && hops[j].to != victim);
    }
    gwtf_route_destroy(route);
    gwtf_flow_instance_destroy(instance);
}

/* Each knows one node of the stages beside it, until all hear of all. */
static void flows_find_better_ways_when_nodes_hear_of_each_other(void) {
    gwtf_flow_instance *instance = make(12, 3, 1, 2);
    struct gwtf_route_config config = {.seed = 1, .view = 1, .silent = true};
    gwtf_route *route = NULL;
    struct gwtf_flow_optimum optimum;
    CU_ASSERT_EQUAL_FATAL(gwtf_flow_solve(instance, &optimum, NULL), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_route_create(instance, &config, &route), GWTF_OK);
    expect_no_fault(route, gwtf_route_run(route, 1000));
    struct gwtf_route_totals before = gwtf_route_get_totals(route);
    CU_ASSERT(before.flow < optimum.flow || before.cost > optimum.cost);
    uint32_t pairs = 0;
    for (gwtf_node_id i = 0; i < 13; i++)
        for (gwtf_node_id j = 0; j < 13; j++) {
            struct gwtf_route_change hear = {
                .kind = GWTF_ROUTE_HEAR, .round = before.round + 1, .node = i, .peer = j};
            CU_ASSERT_EQUAL(gwtf_route_plan(route, &hear), GWTF_OK);
            pairs += gwtf_flow_instance_cost(instance, i, j) >= 0;
        }
    expect_no_fault(route, gwtf_route_run(route, 1000));
    struct gwtf_route_totals after = gwtf_route_get_totals(route);
    CU_ASSERT(after.settled && after.dangling == 0);
    CU_ASSERT(after.messages > before.messages + pairs);
    CU_ASSERT(after.flow == optimum.flow && after.cost == optimum.cost);
    gwtf_route_destroy(route);
    gwtf_flow_instance_destroy(instance);
}

/* Of the BEST nodes of the next stage with the best links from NODE, those that it knows. */
static uint32_t count_best_known(const gwtf_route *route, gwtf_node_id node, uint32_t best) {
    const gwtf_flow_instance *instance = gwtf_route_instance(route);
    uint32_t stage = gwtf_flow_instance_stage(instance, node), count = 0, known = 0;
    const gwtf_node_id *peers = gwtf_flow_instance_stage_nodes(
        instance, gwtf_flow_instance_next_stage(instance, stage), &count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t better = 0;
        for (uint32_t j = 0; j < count; j++)
            better += gwtf_flow_instance_cost(instance, node, peers[j]) <
                      gwtf_flow_instance_cost(instance, node, peers[i]);
        known += better < best && flow_find_peer(gwtf_route_node(route, node), peers[i]) != NULL;
    }
    return known < best ? known : best;
}

/* 80 nodes in a stage, of which each may know 16 and was introduced to about as many by chance. */
static void gossip_finds_the_best_links_and_ends(void) {
    struct gwtf_flow_recipe recipe = gwtf_flow_recipe_default();
    gwtf_flow_instance *instance = NULL;
    recipe.relays = 240;
    recipe.stages = 3;
    recipe.data_nodes = 1;
    recipe.capacity = (struct gwtf_flow_range){1, 1};
    CU_ASSERT_EQUAL_FATAL(gwtf_flow_generate(&recipe, &instance), GWTF_OK);
    struct gwtf_route_config config = {.seed = 1, .view = 16};
    gwtf_route *route = NULL;
    CU_ASSERT_EQUAL_FATAL(gwtf_route_create(instance, &config, &route), GWTF_OK);
    expect_no_fault(route, gwtf_route_run(route, 40));
    uint32_t known = 0, wanted = 0, gossips = 0;
    for (gwtf_node_id i = 0; i < gwtf_flow_instance_nodes(instance); i++) {
        uint32_t stage = gwtf_flow_instance_stage(instance, i);
        if (stage != 1 && stage != 2)
            continue;
        wanted += 8;
        known += count_best_known(route, i, 8);
        gossips += flow_view_deadline(gwtf_route_node(route, i)) != GWTF_TIME_NEVER;
    }
    CU_ASSERT(known * 10 >= wanted * 9);
    CU_ASSERT_EQUAL(gossips, 0);
    gwtf_route_destroy(route);
    gwtf_flow_instance_destroy(instance);
}

static void what_cannot_be_planned_is_refused(void) {
    gwtf_flow_instance *instance = make(24, 3, 1, 1);
    struct gwtf_route_config config = {.seed = 1, .loss = 1.5};
    gwtf_route *route = NULL;
    CU_ASSERT_EQUAL(gwtf_route_create(instance, &config, &route), GWTF_ERROR_USAGE);
    config.loss = 0;
    CU_ASSERT_EQUAL_FATAL(gwtf_route_create(instance, &config, &route), GWTF_OK);
    expect_no_fault(route, gwtf_route_run(route, 2));
    const struct gwtf_route_change wrongs[] = {
        {.kind = GWTF_ROUTE_KILL, .round = 5, .node = 25},
        {.kind = GWTF_ROUTE_KILL, .round = 1, .node = 3},
        {.kind = GWTF_ROUTE_LINK, .round = 5, .node = 9, .peer = 1, .cost = 4},
        {.kind = GWTF_ROUTE_LINK, .round = 5, .node = 1, .peer = 9, .cost = -2},
    };
    for (size_t i = 0; i < sizeof wrongs / sizeof wrongs[0]; i++)
        CU_ASSERT_EQUAL(gwtf_route_plan(route, &wrongs[i]), GWTF_ERROR_USAGE);
    gwtf_route_destroy(route);
    gwtf_flow_instance_destroy(instance);
}

/* Over several windows and some that are further off than the queue's last bucket. */
static void events_come_in_the_order_of_time_then_of_pushing(void) {
    struct route_queue queue;
    struct gwtf_random random;
    struct route_event event, last = {.at_us = -1};
    gwtf_random_init(&random, 1);
    CU_ASSERT_EQUAL_FATAL(route_queue_init(&queue), GWTF_OK);
    uint32_t pushed = 0, popped = 0;
    static const gwtf_time_us spans_us[] = {1, 50, 5000, 3000000, 100000000, 9000000000};
    gwtf_time_us now_us = 0;
    while (popped < 20000) {
        for (int i = 0; i < 3 && pushed < 20000; i++) {
            gwtf_time_us span_us = spans_us[gwtf_random_below(&random, 6)];
            struct route_event made = {
                .at_us = now_us + (gwtf_time_us)gwtf_random_below(&random, (uint64_t)span_us),
                .node = pushed++};
            CU_ASSERT_FATAL(route_queue_push(&queue, &made));
        }
        for (int i = 0; i < 2 || pushed == 20000; i++) {
            if (!route_queue_pop(&queue, INT64_MAX / 2, &event))
                break;
            CU_ASSERT(event.at_us > last.at_us ||
                      (event.at_us == last.at_us && event.node > last.node));
            now_us = event.at_us;
            last = event;
            popped++;
        }
    }
    CU_ASSERT_EQUAL(queue.pending, 0);
    CU_ASSERT(!route_queue_pop(&queue, now_us, &event));
    route_queue_deinit(&queue);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(the_same_seed_gives_the_same_trace),
        GWTF_TEST(every_policy_settles_without_breaking_a_promise),
        GWTF_TEST(several_data_nodes_come_near_the_optimum),
        GWTF_TEST(a_negotiation_plans_nearly_all_flows),
        GWTF_TEST(the_dearest_flow_gets_cheaper_at_no_cost),
        GWTF_TEST(data_nodes_with_many_flows_do_not_negotiate),
        GWTF_TEST(flows_are_found_again_after_deaths_arrivals_and_cuts),
        GWTF_TEST(a_dead_node_carries_nothing),
        GWTF_TEST(flows_find_better_ways_when_nodes_hear_of_each_other),
        GWTF_TEST(gossip_finds_the_best_links_and_ends),
        GWTF_TEST(what_cannot_be_planned_is_refused),
        GWTF_TEST(events_come_in_the_order_of_time_then_of_pushing),
    };
    return gwtf_suite_main(argc, argv, "route", tests, sizeof tests / sizeof tests[0], NULL, NULL);
}
