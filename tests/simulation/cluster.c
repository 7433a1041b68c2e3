#include "tests/simulation/cluster.h"

#include "share/base/random.h"

#include <stdio.h>
#include <string.h>

static struct gwtf_simulation_link link_between(const void *context, gwtf_node_id from,
                                                gwtf_node_id to) {
    const struct cluster *cluster = context;
    uint64_t low = from < to ? from : to, high = from < to ? to : from;
    uint64_t key = gwtf_random_key(cluster->config.seed, low);
    double latency = gwtf_random_unit_at(key, 2 * high);
    double slower = gwtf_random_unit_at(key, 2 * high + 1) * cluster->bandwidth_spread;
    double rate = (double)cluster->bytes_per_second * (1 - slower);
    return (struct gwtf_simulation_link){
        .latency_us = cluster->latency_us + (int64_t)(latency * (double)cluster->latency_spread_us),
        .bytes_per_second = rate < 1 ? 1 : (int64_t)rate};
}

static void add_node(struct cluster *cluster, uint32_t stage, uint32_t capacity) {
    struct gwtf_simulation_node *node = &cluster->nodes[cluster->config.nodes_count];
    memset(node, 0, sizeof *node);
    node->node = (gwtf_node_id)cluster->config.nodes_count++;
    node->stage = stage;
    node->capacity = capacity;
    node->gradient_floats = 1600;
    node->work_us[GWTF_WORK_EMBED] = 1000;
    node->work_us[GWTF_WORK_FORWARD] = 10000;
    node->work_us[GWTF_WORK_LOSS] = 1000;
    node->work_us[GWTF_WORK_BACKWARD] = 20000;
    node->work_us[GWTF_WORK_EMBED_BACKWARD] = 1000;
    node->work_us[GWTF_WORK_REDUCE] = 100;
    node->work_us[GWTF_WORK_STEP] = 1000;
    node->work_us[GWTF_WORK_SNAPSHOT] = 500;
}

static void init_config(struct cluster *cluster, uint32_t stages) {
    memset(cluster, 0, sizeof *cluster);
    cluster->latency_us = 1000;
    cluster->bytes_per_second = 1000000000;
    cluster->config.nodes = cluster->nodes;
    cluster->config.policy = GWTF_FLOW_POLICY_GWTF;
    cluster->config.negotiation = GWTF_FLOW_NO_NEGOTIATION; /* it would outlast the run */
    cluster->config.stages = stages;
    cluster->config.link = link_between;
    cluster->config.link_context = cluster;
    cluster->config.first_iteration = 1;
    cluster->config.last_iteration = 2;
    cluster->config.microbatches = 4;
    cluster->config.boundary_bytes = 1000000;
    cluster->config.write_us = 50000;
    cluster->config.manifest_us = 5000;
    cluster->config.check_every = 4;
    /* Far above the slowest disk, the longest pause and the building of flows. */
    cluster->config.stall_us = 120000000;
}

void cluster_init(struct cluster *cluster, uint32_t data_nodes, uint32_t stages, uint32_t replicas,
                  uint32_t capacity) {
    init_config(cluster, stages);
    for (uint32_t i = 0; i < data_nodes; i++)
        add_node(cluster, 0, capacity);
    for (uint32_t stage = 1; stage <= stages; stage++)
        for (uint32_t i = 0; i < replicas; i++)
            add_node(cluster, stage, capacity);
}

static uint32_t pick(struct gwtf_random *random, uint32_t low, uint32_t high) {
    return low + (uint32_t)gwtf_random_below(random, high - low + 1);
}

static void pick_run(struct cluster *cluster, struct gwtf_random *random) {
    struct gwtf_simulation_config *config = &cluster->config;
    config->first_iteration = pick(random, 0, 2) ? 1 : pick(random, 2, 50);
    config->last_iteration = config->first_iteration + pick(random, 0, 3);
    config->microbatches = pick(random, 1, 9);
    config->validates = pick(random, 0, 1);
    config->validation_microbatches = config->validates ? pick(random, 0, 4) : 0;
    config->validate_every = pick(random, 0, 3);
    config->snapshot_every = pick(random, 0, 3);
    config->boundary_bytes = pick(random, 0, 3) ? pick(random, 1, 5000000) : 4;
    config->policy = pick(random, 0, 2) ? GWTF_FLOW_POLICY_GWTF : GWTF_FLOW_POLICY_GWTF_PAPER;
    config->objective = pick(random, 0, 1) ? GWTF_FLOW_OBJECTIVE_SUM : GWTF_FLOW_OBJECTIVE_MAX;
    config->write_us = pick(random, 0, 3) ? pick(random, 1, 200000) : 3000000;
    config->manifest_us = pick(random, 1, 100000);
    config->jitter_us = pick(random, 0, 1) ? pick(random, 0, 20000) : 0;
    config->sent_us = pick(random, 0, 1) ? pick(random, 0, 20000) : 0;
    if (pick(random, 0, 7) == 0)
        config->sent_us = 2000000;
    config->work_jitter = pick(random, 0, 1) ? 0.5 : 0;
    config->doubled = pick(random, 0, 1) ? 0.2 : 0;
    cluster->latency_us = pick(random, 0, 1) ? pick(random, 10, 1000) : pick(random, 1000, 150000);
    cluster->latency_spread_us = pick(random, 0, 100000);
    cluster->bytes_per_second = pick(random, 0, 1) ? 10000000 : 1000000000;
    cluster->bandwidth_spread = pick(random, 0, 1) ? 0.95 : 0;
}

void cluster_init_random(struct cluster *cluster, uint64_t seed) {
    struct gwtf_random random;
    gwtf_random_init(&random, seed);
    uint32_t stages = pick(&random, 1, 8);
    init_config(cluster, stages);
    cluster->config.seed = seed;
    pick_run(cluster, &random);
    uint32_t capacity_most = pick(&random, 0, 2) ? pick(&random, 1, 6) : 1;
    /* Ids in the order of a draw, so that stages lie mixed among them. */
    uint32_t left[GWTF_STAGES_MAX + 1];
    uint32_t nodes = left[0] = pick(&random, 1, 3);
    for (uint32_t stage = 1; stage <= stages; stage++)
        nodes += left[stage] = pick(&random, 1, 5);
    uint64_t floats[GWTF_STAGES_MAX + 1];
    for (uint32_t stage = 0; stage <= stages; stage++)
        floats[stage] = 16 * (pick(&random, 0, 1) ? pick(&random, 0, 6) : pick(&random, 1, 100000));
    while (nodes > 0) {
        uint32_t stage = pick(&random, 0, stages);
        if (left[stage] == 0)
            continue;
        left[stage]--;
        nodes--;
        add_node(cluster, stage, pick(&random, 1, capacity_most));
        struct gwtf_simulation_node *node = &cluster->nodes[cluster->config.nodes_count - 1];
        node->node = node->node * 3 + 1;
        node->gradient_floats = floats[stage];
        uint32_t slowness = pick(&random, 1, 4);
        for (int kind = 0; kind < GWTF_SIMULATION_WORKS; kind++)
            node->work_us[kind] *= slowness;
        if (pick(&random, 0, 4) == 0)
            node->work_us[GWTF_WORK_STEP] = 500000;
    }
}

gwtf_simulation *cluster_start(struct cluster *cluster) {
    gwtf_simulation *simulation = NULL;
    cluster->config.nodes = cluster->nodes;
    cluster->config.link_context = cluster;
    if (gwtf_simulation_create(&cluster->config, &simulation) != GWTF_OK)
        return NULL;
    return simulation;
}

bool cluster_run(const struct cluster *cluster, gwtf_simulation *simulation, gwtf_status status,
                 uint64_t seed) {
    gwtf_status ran = gwtf_simulation_run(simulation, GWTF_TIME_NEVER);
    if (ran != GWTF_OK) {
        const char *why = gwtf_simulation_failure(simulation);
        fprintf(stderr, "seed %llu: %s\n", (unsigned long long)seed, why ? why : "no memory");
        return false;
    }
    for (size_t i = 0; i < cluster->config.nodes_count; i++) {
        gwtf_status ended = GWTF_OK;
        bool finished = gwtf_simulation_finished(simulation, cluster->nodes[i].node, &ended, NULL);
        if (finished && status == CLUSTER_ANY_END)
            status = ended;
        if (finished && ended == status)
            continue;
        fprintf(stderr, "seed %llu: node %u ended with %s\n", (unsigned long long)seed,
                cluster->nodes[i].node, gwtf_status_name(ended));
        return false;
    }
    return true;
}
