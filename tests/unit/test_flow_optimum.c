#include "flow/optimal.h"
#include "tests/support/suite.h"
#include "tests/unit/flow_cluster.h"

#include <libconfig.h>
#include <stdio.h>
#include <stdlib.h>

static struct gwtf_flow_optimum solve(const struct cluster *cluster) {
    uint32_t *stage = malloc(cluster->nodes_count * sizeof *stage);
    uint32_t *capacity = malloc(cluster->nodes_count * sizeof *capacity);
    struct gwtf_flow_optimum optimum = {0};
    for (uint32_t i = 0; i < cluster->nodes_count; i++) {
        stage[i] = cluster->nodes[i].stage;
        bool dead = cluster->now_us > 0 && !cluster->nodes[i].up;
        capacity[i] = dead ? 0 : cluster->nodes[i].capacity;
    }
    gwtf_flow_instance *instance = NULL;
    CU_ASSERT_FATAL(gwtf_flow_instance_create(cluster->stages, cluster->nodes_count, stage,
                                              capacity, &instance) == GWTF_OK);
    for (uint32_t i = 0; i < cluster->nodes_count; i++)
        for (uint32_t j = 0; j < cluster->nodes_count; j++)
            if ((stage[i] + 1) % (cluster->stages + 1) == stage[j])
                gwtf_flow_instance_set_cost(
                    instance, i, j,
                    (int32_t)cluster->link_us[(size_t)i * cluster->nodes_count + j]);
    CU_ASSERT_EQUAL(gwtf_flow_solve(instance, &optimum, NULL), GWTF_OK);
    gwtf_flow_instance_destroy(instance);
    free(stage);
    free(capacity);
    return optimum;
}

/* The instance of a file of flow_instances/ and the optimum that it states. */
static void load(struct cluster *cluster, const char *name, uint64_t seed,
                 struct gwtf_flow_optimum *stated) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s/flow_instances/%s.cfg", GWTF_TEST_SOURCE_DIR, name);
    config_t config;
    config_init(&config);
    CU_ASSERT_FATAL(config_read_file(&config, path) == CONFIG_TRUE);
    const config_setting_t *stages = config_lookup(&config, "instance.stages");
    const config_setting_t *capacity = config_lookup(&config, "instance.capacity");
    const config_setting_t *cost = config_lookup(&config, "instance.cost");
    uint32_t nodes = (uint32_t)config_setting_length(capacity);
    cluster_init(cluster, seed, (uint32_t)config_setting_length(stages), nodes);
    for (uint32_t i = 0; i < nodes; i++)
        cluster_set_node(cluster, i, 0, (uint32_t)config_setting_get_int_elem(capacity, (int)i));
    for (uint32_t s = 0; s < cluster->stages; s++) {
        const config_setting_t *stage = config_setting_get_elem(stages, s);
        for (int i = 0; i < config_setting_length(stage); i++)
            cluster->nodes[config_setting_get_int_elem(stage, i)].stage = s + 1;
    }
    for (uint32_t i = 0; i < nodes; i++)
        for (uint32_t j = 0; j < nodes; j++)
            cluster->link_us[(size_t)i * nodes + j] =
                config_setting_get_int_elem(config_setting_get_elem(cost, i), (int)j);
    int flow = 0, cost_us = 0;
    CU_ASSERT(config_lookup_int(&config, "instance.optimum.flow", &flow));
    CU_ASSERT(config_lookup_int(&config, "instance.optimum.cost", &cost_us));
    *stated = (struct gwtf_flow_optimum){.flow = (uint32_t)flow, .cost = cost_us};
    config_destroy(&config);
}

static const char *const instances[] = {"relays32-stages8", "relays36-stages6"};

static void the_solver_agrees_with_integer_programming(void) {
    for (size_t i = 0; i < 2; i++) {
        static struct cluster cluster;
        struct gwtf_flow_optimum stated;
        load(&cluster, instances[i], 1, &stated);
        struct gwtf_flow_optimum found = solve(&cluster);
        CU_ASSERT_EQUAL(found.flow, stated.flow);
        CU_ASSERT_EQUAL(found.cost, stated.cost);
        CU_ASSERT(found.exact);
        cluster_deinit(&cluster);
    }
}

/* One data node (0), relays 1 and 2, then 3 and 4: all ways to use the four paths. */
static struct gwtf_flow_optimum try_all(const struct cluster *cluster) {
    static const gwtf_node_id paths[4][2] = {{1, 3}, {1, 4}, {2, 3}, {2, 4}};
    struct gwtf_flow_optimum best = {0};
    for (uint32_t code = 0; code < 4 * 4 * 4 * 4; code++) {
        uint32_t load[5] = {0}, flow = 0;
        int64_t cost_us = 0;
        bool possible = true;
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t count = code >> (2 * i) & 3;
            gwtf_node_id a = paths[i][0], b = paths[i][1];
            int64_t first = cluster->link_us[a], second = cluster->link_us[a * 5 + b];
            int64_t last = cluster->link_us[b * 5];
            possible = possible && (count == 0 || (first >= 0 && second >= 0 && last >= 0));
            load[0] += count;
            load[a] += count;
            load[b] += count;
            flow += count;
            cost_us += count * (first + second + last);
        }
        for (uint32_t i = 0; i < 5; i++)
            possible = possible && load[i] <= cluster->nodes[i].capacity;
        if (possible && (flow > best.flow || (flow == best.flow && cost_us < best.cost)))
            best = (struct gwtf_flow_optimum){.flow = flow, .cost = cost_us};
    }
    return best;
}

static void the_solver_agrees_with_trying_all_flows(void) {
    for (uint64_t seed = 1; seed <= 200; seed++) {
        static struct cluster cluster;
        cluster_init(&cluster, seed, 2, 5);
        for (gwtf_node_id i = 0; i < 5; i++)
            cluster_set_node(&cluster, i, (i + 1) / 2,
                             1 + (uint32_t)gwtf_random_below(&cluster.random, 3));
        cluster_link_all(&cluster, 1, 20);
        for (gwtf_node_id i = 0; i < 5; i++)
            for (gwtf_node_id j = 0; j < 5; j++)
                if (gwtf_random_below(&cluster.random, 6) == 0)
                    cluster.link_us[i * 5 + j] = -1;
        struct gwtf_flow_optimum found = solve(&cluster), tried = try_all(&cluster);
        CU_ASSERT_EQUAL(found.flow, tried.flow);
        CU_ASSERT_EQUAL(found.cost, tried.cost);
        cluster_deinit(&cluster);
    }
}

/* Runs until no message has been sent for ten ticks; the ticks until then. */
static double settle(struct cluster *cluster, double ticks_max) {
    uint64_t messages = cluster->messages;
    double quiet_since = 0;
    for (double ticks = 1; ticks <= ticks_max + 10 && cluster->fault == NULL; ticks++) {
        cluster_run(cluster, 1);
        if (cluster->messages == messages && ticks - quiet_since >= 10)
            return quiet_since;
        if (cluster->messages != messages)
            quiet_since = ticks;
        messages = cluster->messages;
    }
    return ticks_max + 1;
}

static bool is_optimal(const struct cluster *cluster) {
    struct gwtf_flow_optimum optimum = solve(cluster);
    int64_t cost_us = 0;
    int flow = cluster_flow(cluster, &cost_us);
    if (cluster->fault == NULL && flow == (int)optimum.flow && cost_us == optimum.cost)
        return true;
    printf("\n    seed %llu: flow %d of %u at %lld instead of %lld %s\n",
           (unsigned long long)cluster->seed, flow, optimum.flow, (long long)cost_us,
           (long long)optimum.cost, cluster->fault != NULL ? cluster->fault : "");
    return false;
}

static void the_instances_settle_at_their_optimum_with_few_rounds_and_messages(void) {
    for (size_t i = 0; i < 2; i++) {
        for (uint64_t seed = 1; seed <= 20; seed++) {
            static struct cluster cluster;
            struct gwtf_flow_optimum stated;
            load(&cluster, instances[i], seed, &stated);
            cluster_start(&cluster);
            /* DESIGN section 9 allows 60 rounds and 20,000 messages. Measured: at most 8,034. */
            CU_ASSERT(settle(&cluster, 60) <= 60);
            CU_ASSERT(cluster.messages <= 10000);
            CU_ASSERT(is_optimal(&cluster));
            cluster_deinit(&cluster);
        }
    }
}

static void they_do_so_with_lost_messages_too(void) {
    for (size_t i = 0; i < 2; i++) {
        for (uint64_t seed = 1; seed <= 20; seed++) {
            static struct cluster cluster;
            struct gwtf_flow_optimum stated;
            load(&cluster, instances[i], seed, &stated);
            cluster.loss = 0.05;
            cluster_start(&cluster);
            CU_ASSERT(settle(&cluster, 60) <= 60);
            CU_ASSERT(cluster.messages <= 20000);
            CU_ASSERT(cluster.messages <= 20000);
            CU_ASSERT(is_optimal(&cluster));
            cluster_deinit(&cluster);
        }
    }
}

/* As measured over these seeds: local swaps end in local optima, which is what the policy is kept
 * to show. The authors' prototype ends 7 to 9 % over the optimum of the second. */
static void the_papers_moves_end_within_an_eighth_of_the_optimum(void) {
    for (size_t i = 0; i < 2; i++) {
        for (uint64_t seed = 1; seed <= 20; seed++) {
            static struct cluster cluster;
            struct gwtf_flow_optimum stated;
            load(&cluster, instances[i], seed, &stated);
            cluster.policy = GWTF_FLOW_POLICY_GWTF_PAPER;
            cluster_start(&cluster);
            CU_ASSERT(settle(&cluster, 60) <= 60);
            CU_ASSERT(cluster.messages <= 20000);
            int64_t cost_us = 0;
            CU_ASSERT_EQUAL(cluster_flow(&cluster, &cost_us), (int)stated.flow);
            CU_ASSERT(cost_us >= stated.cost && cost_us * 8 <= stated.cost * 9);
            CU_ASSERT(cluster.messages <= 20000);
            CU_ASSERT_PTR_NULL(cluster.fault);
            cluster_deinit(&cluster);
        }
    }
}

/* One data node; capacities 1..10, costs 1..700, every seventh link missing. */
static void build(struct cluster *cluster, uint64_t seed) {
    uint32_t stages = 2 + (uint32_t)seed % 5, width = 3 + (uint32_t)seed % 4;
    cluster_init(cluster, seed, stages, 1 + stages * width);
    cluster_set_node(cluster, 0, 0, 5 + (uint32_t)gwtf_random_below(&cluster->random, 40));
    for (uint32_t i = 0; i < stages * width; i++)
        cluster_set_node(cluster, 1 + i, 1 + i / width,
                         1 + (uint32_t)gwtf_random_below(&cluster->random, 10));
    cluster_link_all(cluster, 1, 700);
    for (uint32_t i = 0; i < cluster->nodes_count; i++)
        for (uint32_t j = 0; j < i; j++)
            if (gwtf_random_below(&cluster->random, 7) == 0)
                cluster_set_link(cluster, i, j, -1);
}

static void any_graph_of_one_data_node_settles_at_the_optimum(void) {
    for (uint64_t seed = 1; seed <= 60; seed++) {
        static struct cluster cluster;
        build(&cluster, seed);
        cluster_start(&cluster);
        CU_ASSERT(settle(&cluster, 200) <= 200);
        CU_ASSERT(is_optimal(&cluster));
        cluster_deinit(&cluster);
    }
}

static void it_returns_to_the_optimum_after_a_death_and_an_arrival(void) {
    for (uint64_t seed = 1; seed <= 30; seed++) {
        static struct cluster cluster;
        build(&cluster, seed);
        cluster.loss = seed % 3 == 0 ? 0.05 : 0;
        cluster_start(&cluster);
        (void)settle(&cluster, 200);
        gwtf_node_id victim =
            1 + (gwtf_node_id)gwtf_random_below(&cluster.random, cluster.nodes_count - 1);
        cluster_kill(&cluster, victim);
        (void)settle(&cluster, 200);
        CU_ASSERT(is_optimal(&cluster));
        cluster_revive(&cluster, victim);
        (void)settle(&cluster, 200);
        CU_ASSERT(is_optimal(&cluster));
        cluster_deinit(&cluster);
    }
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(the_solver_agrees_with_integer_programming),
        GWTF_TEST(the_solver_agrees_with_trying_all_flows),
        GWTF_TEST(the_instances_settle_at_their_optimum_with_few_rounds_and_messages),
        GWTF_TEST(they_do_so_with_lost_messages_too),
        GWTF_TEST(the_papers_moves_end_within_an_eighth_of_the_optimum),
        GWTF_TEST(any_graph_of_one_data_node_settles_at_the_optimum),
        GWTF_TEST(it_returns_to_the_optimum_after_a_death_and_an_arrival),
    };
    return gwtf_suite_main(argc, argv, "flow optimum", tests, sizeof tests / sizeof tests[0], NULL,
                           NULL);
}
