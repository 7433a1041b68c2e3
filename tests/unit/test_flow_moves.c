/* The moves of policy gwtf-paper, one at a time. */
#include "flow/paper.h"
#include "flow/table.h"
#include "tests/support/suite.h"
#include "tests/unit/flow_cluster.h"

#include <math.h>
#include <stdio.h>

static int64_t get_cost(const struct cluster *cluster) {
    int64_t cost_us = 0;
    CU_ASSERT_PTR_NULL(cluster->fault);
    CU_ASSERT_NOT_EQUAL(cluster_flow(cluster, &cost_us), -1);
    return cost_us;
}

/* Both ends have measured it. */
static void measure(struct cluster *cluster, gwtf_node_id a, gwtf_node_id b, int64_t link_us) {
    cluster_set_link(cluster, a, b, link_us);
    struct gwtf_flow_event event = {
        .kind = GWTF_FLOW_EVENT_LINK_COST, .peer = b, .cost_us = link_us};
    cluster_tell(cluster, a, &event);
    event.peer = a;
    cluster_tell(cluster, b, &event);
}

/* Data node 0, relays 1 and 2 in stage 1, 3 and 4 in stage 2, all of capacity 1; links cost 10 but
 * for those between the stages: GOOD from 1 to 3, BAD from 1 to 4, and so on. */
static void build_square(struct cluster *cluster, const int64_t link_us[2][2]) {
    cluster_init(cluster, 1, 2, 5);
    cluster_set_node(cluster, 0, 0, 2);
    for (gwtf_node_id node = 1; node <= 4; node++)
        cluster_set_node(cluster, node, node <= 2 ? 1 : 2, 1);
    cluster_link_all(cluster, 10, 10);
    for (gwtf_node_id i = 0; i < 2; i++)
        for (gwtf_node_id j = 0; j < 2; j++)
            cluster_set_link(cluster, 1 + i, 3 + j, link_us[i][j]);
}

static void two_nodes_swap_next_hops_when_both_together_gain(void) {
    /* Best as it is, 100 + 100, until relay 2 is far from relay 4. Relay 1 then has nothing to gain
     * for itself. */
    static struct cluster cluster;
    build_square(&cluster, (const int64_t[2][2]){{100, 150}, {150, 100}});
    cluster_start(&cluster);
    cluster_run(&cluster, 30);
    CU_ASSERT_EQUAL(get_cost(&cluster), 4 * 10 + 100 + 100);
    uint64_t before = cluster.kinds[FLOW_MESSAGE_CANCEL];
    measure(&cluster, 2, 4, 500);
    cluster_run(&cluster, 10);
    /* Each cancels afterwards what it has given away, and nothing else is cancelled. */
    CU_ASSERT_EQUAL(cluster.kinds[FLOW_MESSAGE_CANCEL], before + 2);
    CU_ASSERT_EQUAL(cluster_flow(&cluster, NULL), 2);
    CU_ASSERT_EQUAL(get_cost(&cluster), 4 * 10 + 150 + 150);
    CU_ASSERT(cluster.kinds[FLOW_MESSAGE_CHANGE_COMMIT] >= 1);
    cluster_deinit(&cluster);
}

static void a_swap_that_loses_is_not_made(void) {
    static struct cluster cluster;
    build_square(&cluster, (const int64_t[2][2]){{100, 150}, {950, 500}});
    cluster_start(&cluster);
    cluster_run(&cluster, 30);
    CU_ASSERT_EQUAL(get_cost(&cluster), 4 * 10 + 100 + 500);
    CU_ASSERT_EQUAL(cluster.kinds[FLOW_MESSAGE_CHANGE_COMMIT], 0);
    cluster_deinit(&cluster);
}

static void objective_max_swaps_what_shortens_the_dearest_path(void) {
    /* 100 + 600 = 700 is the smaller sum, 350 + 400 = 750 has the shorter dearest path. */
    for (enum gwtf_flow_objective objective = GWTF_FLOW_OBJECTIVE_SUM;
         objective <= GWTF_FLOW_OBJECTIVE_MAX; objective++) {
        static struct cluster cluster;
        build_square(&cluster, (const int64_t[2][2]){{100, 350}, {400, 600}});
        cluster.objective = objective;
        cluster_start(&cluster);
        cluster_run(&cluster, 30);
        struct gwtf_flow_route routes[2] = {{0}, {0}};
        CU_ASSERT_EQUAL(gwtf_flow_routes(cluster.nodes[0].flow, routes, 2), 2);
        bool max = objective == GWTF_FLOW_OBJECTIVE_MAX;
        CU_ASSERT_EQUAL(routes[1].cost_us, 20 + (max ? 400 : 600));
        CU_ASSERT_EQUAL(get_cost(&cluster), 40 + (max ? 750 : 700));
        cluster_deinit(&cluster);
    }
}

/* As the square, but relay 2 has room: one flow by relays 1 and 3. */
static void build_room(struct cluster *cluster) {
    cluster_init(cluster, 1, 2, 4);
    cluster_set_node(cluster, 1, 1, 1);
    cluster_set_node(cluster, 2, 1, 1);
    cluster_set_node(cluster, 3, 2, 1);
    cluster_link_all(cluster, 10, 10);
    cluster_set_link(cluster, 2, 3, 100);
}

static void a_node_with_room_takes_over_a_hop_that_is_cheaper_by_it(void) {
    static struct cluster cluster;
    build_room(&cluster);
    cluster_start(&cluster);
    cluster_run(&cluster, 20);
    CU_ASSERT_EQUAL(get_cost(&cluster), 30);
    CU_ASSERT_EQUAL(gwtf_flow_get_load(cluster.nodes[1].flow).complete, 1);
    uint64_t before = cluster.kinds[FLOW_MESSAGE_REDIRECT_COMMIT];
    measure(&cluster, 1, 3, 400);
    cluster_run(&cluster, 10);
    CU_ASSERT_EQUAL(cluster_flow(&cluster, NULL), 1);
    CU_ASSERT_EQUAL(get_cost(&cluster), 10 + 100 + 10);
    CU_ASSERT_EQUAL(gwtf_flow_get_load(cluster.nodes[2].flow).complete, 1);
    CU_ASSERT_EQUAL(gwtf_flow_get_load(cluster.nodes[1].flow).complete, 0);
    CU_ASSERT_EQUAL(cluster.kinds[FLOW_MESSAGE_REDIRECT_COMMIT], before + 1);
    /* And it is not given back for what the previous hop would lose. */
    measure(&cluster, 0, 1, 1);
    cluster_run(&cluster, 10);
    CU_ASSERT_EQUAL(get_cost(&cluster), 10 + 100 + 10);
    cluster_deinit(&cluster);
}

static void the_previous_hop_decides_by_its_own_measure(void) {
    /* Relay 2 believes that it is 10 from the data node, which measures 900 to it. */
    static struct cluster cluster;
    build_room(&cluster);
    cluster_start(&cluster);
    cluster_run(&cluster, 20);
    struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_LINK_COST, .peer = 2, .cost_us = 900};
    cluster_tell(&cluster, 0, &event);
    uint64_t before = cluster.kinds[FLOW_MESSAGE_REDIRECT_COMMIT];
    measure(&cluster, 1, 3, 400);
    cluster_run(&cluster, 10);
    CU_ASSERT_EQUAL(get_cost(&cluster), 10 + 400 + 10);
    CU_ASSERT(cluster.kinds[FLOW_MESSAGE_REDIRECT_NO] >= 1);
    CU_ASSERT_EQUAL(cluster.kinds[FLOW_MESSAGE_REDIRECT_COMMIT], before);
    cluster_deinit(&cluster);
}

static void the_dearer_a_move_the_seldomer_it_is_accepted_and_never_once_it_is_cold(void) {
    static struct cluster cluster;
    build_square(&cluster, (const int64_t[2][2]){{3500, 3500}, {3500, 3500}});
    cluster_start(&cluster);
    cluster_run(&cluster, 1);
    gwtf_flow *flow = cluster.nodes[1].flow;
    /* The mean link is 3500, so that T = 1.7 units is 17: exp(-17 / 17) of the moves that lose 17
     * are accepted. 10,000 draws: within 2 % of 0.3679 by four standard deviations. */
    paper_of(flow)->temperature = 1.7;
    int accepted = 0;
    for (int i = 0; i < 10000; i++) {
        int64_t least_us = paper_draw_least_gain(flow);
        CU_ASSERT(least_us <= 0);
        accepted += -17 > least_us - 1;
    }
    CU_ASSERT_DOUBLE_EQUAL(accepted / 10000.0, exp(-1), 0.02);
    /* 1.7 * 0.95^56 < 0.1, the floor. */
    for (int i = 0; i < 56; i++)
        paper_cool(flow);
    for (int i = 0; i < 1000; i++)
        CU_ASSERT_EQUAL(paper_draw_least_gain(flow), 0);
    cluster_deinit(&cluster);
}

/* Three data nodes, three stages of four; link costs change while moves are under way, and a relay
 * dies at any moment of that. */
static void die_in_mid_move(uint64_t seed, double faults, enum gwtf_flow_objective objective) {
    static struct cluster cluster;
    cluster_init(&cluster, seed, 3, 15);
    cluster.objective = objective;
    cluster.loss = cluster.doubling = cluster.delay = faults;
    for (gwtf_node_id node = 0; node < 15; node++)
        cluster_set_node(&cluster, node, node < 3 ? 0 : node / 4 + (node % 4 == 3),
                         1 + (uint32_t)gwtf_random_below(&cluster.random, 5));
    cluster_link_all(&cluster, 1, 700);
    cluster_start(&cluster);
    cluster_run(&cluster, 0.8 + (double)(seed % 100) / 20);
    gwtf_node_id victim = 3 + (gwtf_node_id)(seed % 12);
    cluster_kill(&cluster, victim);
    cluster_run(&cluster, (double)(seed % 7) / 5);
    for (gwtf_node_id node = 0; node < 15; node++)
        if (node != victim && cluster.link_us[node * 15 + (seed + 5) % 15] >= 0)
            measure(&cluster, node, (gwtf_node_id)((seed + 5) % 15),
                    1 + (int64_t)gwtf_random_below(&cluster.random, 700));
    cluster_run(&cluster, 200);
    int flow = cluster_flow(&cluster, NULL);
    CU_ASSERT_EQUAL(flow, cluster_bottleneck(&cluster));
    CU_ASSERT_PTR_NULL(cluster.fault);
    if (flow != cluster_bottleneck(&cluster) || cluster.fault != NULL)
        printf("\n    seed %llu: flow %d of %d %s\n", (unsigned long long)seed, flow,
               cluster_bottleneck(&cluster), cluster.fault != NULL ? cluster.fault : "");
    cluster_deinit(&cluster);
}

static void a_death_in_mid_move_loses_no_flow_for_good(void) {
    for (uint64_t seed = 0; seed < 100; seed++)
        die_in_mid_move(seed, 0, GWTF_FLOW_OBJECTIVE_SUM);
    for (uint64_t seed = 0; seed < 50; seed++)
        die_in_mid_move(seed * 2, 0, GWTF_FLOW_OBJECTIVE_MAX);
    for (uint64_t seed = 0; seed < 50; seed++)
        die_in_mid_move(seed * 2, 0.2, GWTF_FLOW_OBJECTIVE_SUM);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(two_nodes_swap_next_hops_when_both_together_gain),
        GWTF_TEST(a_swap_that_loses_is_not_made),
        GWTF_TEST(objective_max_swaps_what_shortens_the_dearest_path),
        GWTF_TEST(a_node_with_room_takes_over_a_hop_that_is_cheaper_by_it),
        GWTF_TEST(the_previous_hop_decides_by_its_own_measure),
        GWTF_TEST(the_dearer_a_move_the_seldomer_it_is_accepted_and_never_once_it_is_cold),
        GWTF_TEST(a_death_in_mid_move_loses_no_flow_for_good),
    };
    return gwtf_suite_main(argc, argv, "flow moves", tests, sizeof tests / sizeof tests[0], NULL,
                           NULL);
}
