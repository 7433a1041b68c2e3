/* Policies swarm, swarm-greedy and static: one node at a time, then clusters of them. */
#include "flow/state.h"
#include "tests/support/suite.h"
#include "tests/unit/flow_cluster.h"

#include <stdio.h>

/* A node of stage 1 of 2 (or a data node, id 0) and next hops 11, 12, 13 at links of 300, 100, 200.
 */
static gwtf_flow *node;
static gwtf_time_us now_us;

static gwtf_status tell(struct gwtf_flow_event event) {
    struct gwtf_flow_send sends[64];
    struct gwtf_flow_update update = {.sends = sends, .sends_max = 64};
    event.now_us = now_us;
    gwtf_status status = gwtf_flow_step(node, &event, &update);
    CU_ASSERT(gwtf_flow_check(node, NULL));
    return status;
}

static void meet(gwtf_node_id peer, uint32_t stage, int64_t link_us) {
    CU_ASSERT_EQUAL(tell((struct gwtf_flow_event){
                        .kind = GWTF_FLOW_EVENT_PEER_UP, .peer = peer, .stage = stage}),
                    GWTF_OK);
    CU_ASSERT_EQUAL(tell((struct gwtf_flow_event){
                        .kind = GWTF_FLOW_EVENT_LINK_COST, .peer = peer, .cost_us = link_us}),
                    GWTF_OK);
}

static void create(enum gwtf_flow_policy policy, uint32_t stage) {
    struct gwtf_flow_config config = {.policy = policy,
                                      .self = stage,
                                      .stage = stage,
                                      .stages = 2,
                                      .capacity = 3,
                                      .neighbours_max = 8,
                                      .tick_us = 1000};
    CU_ASSERT_EQUAL_FATAL(gwtf_flow_create(&config, &node), GWTF_OK);
    now_us = 0;
    (void)tell((struct gwtf_flow_event){.kind = GWTF_FLOW_EVENT_START});
    meet(11, stage + 1, 300);
    meet(12, stage + 1, 100);
    meet(13, stage + 1, 200);
}

static void destroy(void) {
    gwtf_flow_destroy(node);
    node = NULL;
}

static void feed_back(gwtf_node_id peer, enum gwtf_flow_feedback feedback, int64_t response_us) {
    CU_ASSERT_EQUAL(tell((struct gwtf_flow_event){.kind = GWTF_FLOW_EVENT_FEEDBACK,
                                                  .peer = peer,
                                                  .feedback = feedback,
                                                  .cost_us = response_us}),
                    GWTF_OK);
}

/* The queue, and that gwtf_flow_next and gwtf_flow_routes agree with it. */
static gwtf_node_id first(void) {
    gwtf_node_id hops[8] = {GWTF_NODE_NONE};
    size_t count = gwtf_flow_alternatives(node, 0, hops, 8);
    struct gwtf_flow_route routes[3];
    gwtf_flow_id next_id = 0;
    if (node->config.stage == 0) {
        CU_ASSERT_EQUAL(gwtf_flow_routes(node, routes, 3), count > 0 ? 3 : 0);
        for (size_t i = 0; i < 3 && count > 0; i++)
            CU_ASSERT_EQUAL(routes[i].next, hops[0]);
        CU_ASSERT(count == 0 || routes[0].flow != routes[1].flow);
    } else {
        CU_ASSERT_EQUAL(gwtf_flow_next(node, 77, &next_id), hops[0]);
        CU_ASSERT_EQUAL(next_id, count > 0 ? 77 : 0);
    }
    return hops[0];
}

static size_t count_hops(void) {
    gwtf_node_id hops[8];
    return gwtf_flow_alternatives(node, 0, hops, 8);
}

/* Sends one to the first in the queue. */
static gwtf_node_id send_one(void) {
    gwtf_node_id hop = first();
    feed_back(hop, GWTF_FLOW_FEEDBACK_SENT, 0);
    return hop;
}

/* PEER responds COUNT times, each time RESPONSE_US after it was sent something. */
static void respond(gwtf_node_id peer, int count, int64_t response_us) {
    for (int i = 0; i < count; i++) {
        now_us += response_us;
        feed_back(peer, GWTF_FLOW_FEEDBACK_DONE, response_us);
    }
}

static void swarm_sends_in_proportion_to_measured_throughput(void) {
    for (uint32_t stage = 0; stage <= 1; stage++) {
        create(GWTF_FLOW_POLICY_SWARM, stage);
        respond(11, 30, 1000);
        respond(12, 30, 2000);
        respond(13, 30, 4000);
        int sent[14] = {0};
        for (int i = 0; i < 70; i++)
            sent[send_one()]++;
        /* Throughputs 4 : 2 : 1. The first round starts all at 0. */
        CU_ASSERT(sent[11] >= 39 && sent[11] <= 41);
        CU_ASSERT(sent[12] >= 19 && sent[12] <= 21);
        CU_ASSERT(sent[13] >= 9 && sent[13] <= 11);
        destroy();
    }
}

static void swarm_orders_its_queue_by_accumulated_expected_time(void) {
    create(GWTF_FLOW_POLICY_SWARM, 1);
    /* Without a response the link stands for it: 300, 100, 200. */
    gwtf_node_id begun[3] = {send_one(), send_one(), send_one()};
    CU_ASSERT_EQUAL(begun[0] + begun[1] + begun[2], 11 + 12 + 13);
    CU_ASSERT_NOT_EQUAL(begun[0], begun[1]);
    CU_ASSERT_NOT_EQUAL(begun[1], begun[2]);
    CU_ASSERT_EQUAL(send_one(), 12); /* 300, 200, 200 */
    /* One response of 1000: from now on 11 moves back by it, and not before. */
    respond(11, 1, 1000);
    feed_back(12, GWTF_FLOW_FEEDBACK_SENT, 0); /* 300, 300, 200 */
    CU_ASSERT_EQUAL(send_one(), 13);           /* 300, 300, 400 */
    feed_back(12, GWTF_FLOW_FEEDBACK_SENT, 0);
    CU_ASSERT_EQUAL(send_one(), 11); /* 1300, 400, 400 */
    for (int i = 0; i < 9; i++)
        feed_back(12, GWTF_FLOW_FEEDBACK_SENT, 0); /* 1300, 1300, 400 */
    for (int i = 0; i < 4; i++)
        CU_ASSERT_EQUAL(send_one(), 13); /* 400, 600, 800, 1000 */
    CU_ASSERT_EQUAL(send_one(), 13);     /* 1200 */
    CU_ASSERT_NOT_EQUAL(first(), 13);    /* 1400 */
    destroy();
}

static void swarms_average_gives_a_new_response_a_tenth(void) {
    create(GWTF_FLOW_POLICY_SWARM, 1);
    meet(12, 2, 10);
    feed_back(13, GWTF_FLOW_FEEDBACK_FAILED, 0);
    /* Adjusted: (0.1 * 300 + 0.9 * 0.1 * 1000) / (1 - 0.81) = 120 / 0.19 = 631.6. */
    respond(11, 1, 1000);
    respond(11, 1, 300);
    feed_back(11, GWTF_FLOW_FEEDBACK_SENT, 0);
    int before = 0;
    for (; first() == 12; before++)
        (void)send_one();
    /* 12 is the first from 0 to 630. */
    CU_ASSERT_EQUAL(before, 64);
    destroy();
}

static void swarm_takes_several_under_way_for_throughput(void) {
    create(GWTF_FLOW_POLICY_SWARM, 1);
    /* Four were sent at 0 and come back at 1000, 1100, 1200, 1300: 100 each after the first. */
    for (int i = 0; i < 40; i++) {
        now_us = 1000 + 100 * i;
        feed_back(11, GWTF_FLOW_FEEDBACK_DONE, 1000);
    }
    feed_back(11, GWTF_FLOW_FEEDBACK_SENT, 0);
    feed_back(12, GWTF_FLOW_FEEDBACK_SENT, 0);
    /* (100 plus what is left of the first 1000: 0.1 * 900 * 0.9^39 / (1 - 0.9^40) = 1.5.) */
    CU_ASSERT_EQUAL(send_one(), 13);
    CU_ASSERT_EQUAL(send_one(), 12);
    CU_ASSERT_EQUAL(send_one(), 11);
    destroy();
}

static void swarm_bans_who_errs_until_it_is_announced_again(void) {
    create(GWTF_FLOW_POLICY_SWARM, 1);
    for (gwtf_node_id peer = 11; peer <= 13; peer++)
        for (int i = 0; i < 6; i++)
            feed_back(peer, GWTF_FLOW_FEEDBACK_SENT, 0);
    CU_ASSERT_EQUAL(first(), 12); /* 1800, 600, 1200 */
    feed_back(12, GWTF_FLOW_FEEDBACK_FAILED, 0);
    CU_ASSERT_EQUAL(first(), 13);
    CU_ASSERT_EQUAL(count_hops(), 2);
    now_us += 1000000;
    CU_ASSERT_EQUAL(count_hops(), 2);
    /* It enters with the priority of the first, 1200, and not with its own of before. */
    meet(12, 2, 100);
    CU_ASSERT_EQUAL(count_hops(), 3);
    feed_back(12, GWTF_FLOW_FEEDBACK_SENT, 0);
    CU_ASSERT_EQUAL(first(), 13);
    feed_back(13, GWTF_FLOW_FEEDBACK_SENT, 0);
    CU_ASSERT_EQUAL(first(), 12);
    /* An announcement of one that is in the queue changes nothing. */
    feed_back(12, GWTF_FLOW_FEEDBACK_SENT, 0);
    feed_back(12, GWTF_FLOW_FEEDBACK_SENT, 0);
    meet(12, 2, 100);
    CU_ASSERT_EQUAL(first(), 13);
    destroy();
}

static void swarm_only_moves_on_when_one_refuses(void) {
    create(GWTF_FLOW_POLICY_SWARM, 1);
    gwtf_node_id asked = send_one();
    feed_back(asked, GWTF_FLOW_FEEDBACK_REFUSED, 0);
    CU_ASSERT_EQUAL(count_hops(), 3);
    CU_ASSERT_NOT_EQUAL(first(), asked);
    destroy();
}

static void greedy_takes_the_nearest_that_does_not_refuse(void) {
    for (uint32_t stage = 0; stage <= 1; stage++) {
        create(GWTF_FLOW_POLICY_SWARM_GREEDY, stage);
        for (int i = 0; i < 5; i++)
            CU_ASSERT_EQUAL(send_one(), 12);
        feed_back(12, GWTF_FLOW_FEEDBACK_REFUSED, 0);
        CU_ASSERT_EQUAL(first(), 13);
        feed_back(13, GWTF_FLOW_FEEDBACK_REFUSED, 0);
        CU_ASSERT_EQUAL(first(), 11);
        CU_ASSERT_EQUAL(count_hops(), 3);            /* the others stay for need */
        feed_back(12, GWTF_FLOW_FEEDBACK_DONE, 900); /* has room again */
        CU_ASSERT_EQUAL(first(), 12);
        CU_ASSERT_EQUAL(count_hops(), 3);
        now_us += 1001; /* a tick */
        feed_back(12, GWTF_FLOW_FEEDBACK_FAILED, 0);
        CU_ASSERT_EQUAL(first(), 13);
        CU_ASSERT_EQUAL(count_hops(), 2);
        meet(12, stage + 1, 100);
        CU_ASSERT_EQUAL(first(), 12);
        /* What is measured anew counts at once. */
        meet(11, stage + 1, 50);
        CU_ASSERT_EQUAL(first(), 11);
        destroy();
    }
}

static void only_the_authors_model_of_swarm_repeats_the_pipeline(void) {
    for (int policy = 0; policy < GWTF_FLOW_POLICIES; policy++)
        CU_ASSERT_EQUAL(gwtf_flow_repeats_pipeline((enum gwtf_flow_policy)policy),
                        policy == GWTF_FLOW_POLICY_SWARM_GREEDY);
}

static void a_peer_that_is_gone_leaves_the_queue(void) {
    create(GWTF_FLOW_POLICY_SWARM_GREEDY, 1);
    (void)tell((struct gwtf_flow_event){.kind = GWTF_FLOW_EVENT_PEER_DOWN, .peer = 12});
    CU_ASSERT_EQUAL(first(), 13);
    CU_ASSERT_EQUAL(tell((struct gwtf_flow_event){.kind = GWTF_FLOW_EVENT_FEEDBACK, .peer = 12}),
                    GWTF_ERROR_USAGE);
    (void)tell(
        (struct gwtf_flow_event){.kind = GWTF_FLOW_EVENT_LINK_COST, .peer = 13, .cost_us = -1});
    CU_ASSERT_EQUAL(first(), 11);
    CU_ASSERT_EQUAL(count_hops(), 1);
    destroy();
}

/* --- Clusters. --- */

static void build(struct cluster *cluster, uint64_t seed, enum gwtf_flow_policy policy) {
    uint32_t data = 1 + (uint32_t)seed % 3, stages = 2 + (uint32_t)seed % 4, width = 4;
    cluster_init(cluster, seed, stages, data + stages * width);
    cluster->policy = policy;
    for (uint32_t i = 0; i < data; i++)
        cluster_set_node(cluster, i, 0, 8);
    for (uint32_t i = 0; i < stages * width; i++)
        cluster_set_node(cluster, data + i, 1 + i / width,
                         1 + (uint32_t)gwtf_random_below(&cluster->random, 5));
    cluster_link_all(cluster, 1, 700);
}

static bool is_full(const struct cluster *cluster) {
    int flow = cluster_flow(cluster, NULL), wanted = cluster_bottleneck(cluster);
    if (cluster->fault == NULL && flow == wanted)
        return true;
    printf("\n    policy %s, seed %llu: flow %d of %d %s\n",
           gwtf_flow_policy_words[cluster->policy], (unsigned long long)cluster->seed, flow, wanted,
           cluster->fault != NULL ? cluster->fault : "");
    return false;
}

static void reserved_hop_by_hop_all_capacity_is_used_through_loss_and_deaths(void) {
    for (uint64_t seed = 1; seed <= 60; seed++) {
        static struct cluster cluster;
        build(&cluster, seed,
              seed % 2 == 0 ? GWTF_FLOW_POLICY_SWARM : GWTF_FLOW_POLICY_SWARM_GREEDY);
        cluster.loss = cluster.doubling = cluster.delay = seed % 3 == 0 ? 0.1 : 0;
        cluster_start(&cluster);
        /* Who was refused waits up to 64 ticks. */
        cluster_run(&cluster, 100);
        CU_ASSERT(is_full(&cluster));
        gwtf_node_id victim = cluster.nodes_count - 1 - (gwtf_node_id)seed % 8;
        cluster_kill(&cluster, victim);
        cluster_run(&cluster, 200);
        CU_ASSERT(is_full(&cluster));
        cluster_revive(&cluster, victim);
        cluster_run(&cluster, 200);
        CU_ASSERT(is_full(&cluster));
        cluster_deinit(&cluster);
    }
}

static void a_relay_that_is_full_refuses_and_the_next_in_the_queue_is_asked(void) {
    /* Relay 1 is nearest and has room for one; 2 for two. */
    static struct cluster cluster;
    cluster_init(&cluster, 1, 1, 3);
    cluster.policy = GWTF_FLOW_POLICY_SWARM_GREEDY;
    cluster_set_node(&cluster, 0, 0, 3);
    cluster_set_node(&cluster, 1, 1, 1);
    cluster_set_node(&cluster, 2, 1, 2);
    cluster_set_link(&cluster, 0, 1, 10);
    cluster_set_link(&cluster, 0, 2, 400);
    cluster_start(&cluster);
    cluster_run(&cluster, 5);
    int64_t cost_us = 0;
    CU_ASSERT_EQUAL(cluster_flow(&cluster, &cost_us), 3);
    CU_ASSERT_EQUAL(cost_us, 20 + 2 * 800);
    /* Asked for three flows at once, it is not asked again soon. */
    CU_ASSERT_EQUAL(cluster.kinds[FLOW_MESSAGE_REJECT], 2);
    cluster_deinit(&cluster);
}

/* Flow ID along PATH of a data node and one relay of each of two stages. */
static void assign(struct cluster *cluster, gwtf_flow_id id, const gwtf_node_id path[3]) {
    const int64_t *link_us = cluster->link_us;
    uint32_t nodes = cluster->nodes_count;
    int64_t last_us = link_us[path[2] * nodes + path[0]];
    struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_ASSIGN, .flow = id, .sink = path[0]};
    event.peer = GWTF_NODE_NONE;
    event.next = path[1];
    event.cost_us = link_us[path[1] * nodes + path[2]] + last_us;
    cluster_tell(cluster, path[0], &event);
    event.peer = path[0];
    event.next = path[2];
    event.cost_us = last_us;
    cluster_tell(cluster, path[1], &event);
    event.peer = path[1];
    event.next = path[0];
    event.cost_us = 0;
    cluster_tell(cluster, path[2], &event);
    event.peer = path[2];
    event.next = GWTF_NODE_NONE;
    cluster_tell(cluster, path[0], &event);
}

/* Two stages of two relays; flow 1 by 1 and 3, flow 2 by 2 and 4, the dearest way. */
static void build_static(struct cluster *cluster) {
    cluster_init(cluster, 1, 2, 5);
    cluster->policy = GWTF_FLOW_POLICY_STATIC;
    for (gwtf_node_id i = 0; i < 5; i++)
        cluster_set_node(cluster, i, (i + 1) / 2, 2);
    cluster_link_all(cluster, 10, 10);
    cluster_set_link(cluster, 1, 3, 500);
    cluster_set_link(cluster, 2, 4, 600);
    cluster_start(cluster);
    assign(cluster, 1, (const gwtf_node_id[3]){0, 1, 3});
    assign(cluster, 2, (const gwtf_node_id[3]){0, 2, 4});
    cluster_run(cluster, 5);
}

static void what_is_assigned_stays_however_dear(void) {
    static struct cluster cluster;
    build_static(&cluster);
    int64_t cost_us = 0;
    CU_ASSERT_EQUAL(cluster_flow(&cluster, &cost_us), 2);
    CU_ASSERT_EQUAL(cost_us, 4 * 10 + 500 + 600);
    CU_ASSERT_EQUAL(gwtf_flow_next(cluster.nodes[2].flow, 2, NULL), 4);
    uint64_t messages = cluster.messages;
    cluster_run(&cluster, 100);
    CU_ASSERT_EQUAL(cluster.messages, messages);
    /* A link that changes changes the cost that is told, and nothing else. */
    struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_LINK_COST, .peer = 4, .cost_us = 900};
    cluster_set_link(&cluster, 2, 4, 900);
    cluster_tell(&cluster, 2, &event);
    cluster_run(&cluster, 5);
    CU_ASSERT_EQUAL(cluster_flow(&cluster, &cost_us), 2);
    CU_ASSERT_EQUAL(cost_us, 4 * 10 + 500 + 900);
    CU_ASSERT_PTR_NULL(cluster.fault);
    cluster_deinit(&cluster);
}

static void a_lost_hop_stays_lost_until_it_is_assigned_anew(void) {
    static struct cluster cluster;
    build_static(&cluster);
    cluster_kill(&cluster, 4);
    cluster_run(&cluster, 5);
    CU_ASSERT_EQUAL(gwtf_flow_next(cluster.nodes[2].flow, 2, NULL), GWTF_NODE_NONE);
    gwtf_node_id hops[2];
    CU_ASSERT_EQUAL(gwtf_flow_alternatives(cluster.nodes[2].flow, 0, hops, 2), 1);
    CU_ASSERT_EQUAL(hops[0], 3);
    /* Nothing is planned about it. */
    struct gwtf_flow_update update = {.sends = cluster.nodes[2].sends, .sends_max = 64};
    struct gwtf_flow_event timer = {.kind = GWTF_FLOW_EVENT_TIMER, .now_us = cluster.now_us};
    CU_ASSERT_EQUAL(gwtf_flow_step(cluster.nodes[2].flow, &timer, &update), GWTF_OK);
    CU_ASSERT(update.deadline_us > cluster.now_us);
    cluster_revive(&cluster, 4);
    cluster_run(&cluster, 300);
    CU_ASSERT_EQUAL(gwtf_flow_next(cluster.nodes[2].flow, 2, NULL), GWTF_NODE_NONE);
    /* The nearest first: from 1, 4 at 10 and 3 at 500. */
    CU_ASSERT_EQUAL(gwtf_flow_alternatives(cluster.nodes[1].flow, 0, hops, 2), 2);
    CU_ASSERT_EQUAL(hops[0], 4);
    CU_ASSERT_EQUAL(hops[1], 3);
    struct gwtf_flow_event nothing = {.kind = GWTF_FLOW_EVENT_ASSIGN, .sink = GWTF_NODE_NONE};
    for (gwtf_node_id i = 0; i < 5; i++)
        cluster_tell(&cluster, i, &nothing);
    cluster_run(&cluster, 5);
    CU_ASSERT_EQUAL(cluster_flow(&cluster, NULL), 0);
    assign(&cluster, 3, (const gwtf_node_id[3]){0, 2, 3});
    assign(&cluster, 4, (const gwtf_node_id[3]){0, 1, 4});
    cluster_run(&cluster, 5);
    int64_t cost_us = 0;
    CU_ASSERT_EQUAL(cluster_flow(&cluster, &cost_us), 2);
    CU_ASSERT_EQUAL(cost_us, 60);
    CU_ASSERT_PTR_NULL(cluster.fault);
    cluster_deinit(&cluster);
}

static void assignments_that_make_no_sense_are_refused(void) {
    create(GWTF_FLOW_POLICY_STATIC, 1);
    const struct gwtf_flow_event good = {
        .kind = GWTF_FLOW_EVENT_ASSIGN, .flow = 5, .sink = 0, .peer = 0, .next = 12};
    struct gwtf_flow_event event = good;
    event.flow = GWTF_FLOW_NONE;
    CU_ASSERT_EQUAL(tell(event), GWTF_ERROR_USAGE);
    event = good;
    event.next = GWTF_NODE_NONE; /* only a data node's flow ends */
    CU_ASSERT_EQUAL(tell(event), GWTF_ERROR_USAGE);
    event = good;
    event.cost_us = -1;
    CU_ASSERT_EQUAL(tell(event), GWTF_ERROR_USAGE);
    CU_ASSERT_EQUAL(tell(good), GWTF_OK);
    CU_ASSERT_EQUAL(tell(good), GWTF_ERROR_USAGE); /* twice */
    for (gwtf_flow_id id = 6; id <= 10; id++) {
        event = good;
        event.flow = id;
        CU_ASSERT_EQUAL(tell(event), GWTF_OK);
    }
    event.flow = 11; /* twice the capacity */
    CU_ASSERT_EQUAL(tell(event), GWTF_ERROR_LIMIT);
    destroy();
    create(GWTF_FLOW_POLICY_SWARM, 1);
    CU_ASSERT_EQUAL(tell(good), GWTF_ERROR_USAGE);
    destroy();
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(swarm_sends_in_proportion_to_measured_throughput),
        GWTF_TEST(swarm_orders_its_queue_by_accumulated_expected_time),
        GWTF_TEST(swarms_average_gives_a_new_response_a_tenth),
        GWTF_TEST(swarm_takes_several_under_way_for_throughput),
        GWTF_TEST(swarm_bans_who_errs_until_it_is_announced_again),
        GWTF_TEST(swarm_only_moves_on_when_one_refuses),
        GWTF_TEST(greedy_takes_the_nearest_that_does_not_refuse),
        GWTF_TEST(only_the_authors_model_of_swarm_repeats_the_pipeline),
        GWTF_TEST(a_peer_that_is_gone_leaves_the_queue),
        GWTF_TEST(reserved_hop_by_hop_all_capacity_is_used_through_loss_and_deaths),
        GWTF_TEST(a_relay_that_is_full_refuses_and_the_next_in_the_queue_is_asked),
        GWTF_TEST(what_is_assigned_stays_however_dear),
        GWTF_TEST(a_lost_hop_stays_lost_until_it_is_assigned_anew),
        GWTF_TEST(assignments_that_make_no_sense_are_refused),
    };
    return gwtf_suite_main(argc, argv, "flow baselines", tests, sizeof tests / sizeof tests[0],
                           NULL, NULL);
}
