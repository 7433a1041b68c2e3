#include "flow/view.h"

#include "flow/table.h"
#include "tests/support/suite.h"

#include <stdlib.h>

#define NODES 200

/* A relay of stage 1 of 2, with peers of stage 2 named 1000 and up. */
struct node {
    gwtf_flow *flow;
    struct gwtf_flow_send sends[64];
    struct gwtf_flow_introduction heard_of[8];
    struct gwtf_flow_update update;
    gwtf_time_us now_us;
};

static void node_init(struct node *node, gwtf_node_id self, uint32_t stage, uint32_t view) {
    struct gwtf_flow_config config = {
        .self = self, .stage = stage, .stages = 2, .capacity = 4, .view = view, .sinks_max = 8};
    *node = (struct node){.update = {.sends_max = 64, .introductions_max = 8}};
    CU_ASSERT_EQUAL_FATAL(gwtf_flow_create(&config, &node->flow), GWTF_OK);
}

static void tell(struct node *node, struct gwtf_flow_event event) {
    event.now_us = node->now_us;
    node->update.sends = node->sends;
    node->update.introductions = node->heard_of;
    CU_ASSERT_EQUAL(gwtf_flow_step(node->flow, &event, &node->update), GWTF_OK);
    CU_ASSERT(gwtf_flow_check(node->flow, NULL));
}

static void start(struct node *node) {
    tell(node, (struct gwtf_flow_event){.kind = GWTF_FLOW_EVENT_START});
}

static void meet(struct node *node, gwtf_node_id peer, uint32_t stage, int64_t cost_us) {
    tell(node,
         (struct gwtf_flow_event){.kind = GWTF_FLOW_EVENT_PEER_UP, .peer = peer, .stage = stage});
    tell(node, (struct gwtf_flow_event){
                   .kind = GWTF_FLOW_EVENT_LINK_COST, .peer = peer, .cost_us = cost_us});
}

static int compare(const void *a, const void *b) {
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static void a_view_keeps_the_nodes_with_the_best_links(void) {
    struct gwtf_random random;
    gwtf_random_init(&random, 7);
    struct node node;
    node_init(&node, 1, 1, 12);
    start(&node);
    int64_t costs[NODES], sorted[NODES];
    for (gwtf_node_id i = 0; i < NODES; i++) {
        costs[i] = sorted[i] = 1000 * (int64_t)gwtf_random_below(&random, 700) + i;
        meet(&node, 1000 + i, 2, costs[i]);
    }
    qsort(sorted, NODES, sizeof sorted[0], compare);
    for (gwtf_node_id i = 0; i < NODES; i++)
        CU_ASSERT_EQUAL(flow_find_peer(node.flow, 1000 + i) != NULL, costs[i] <= sorted[11]);
    gwtf_flow_destroy(node.flow);
}

static void data_nodes_are_all_known(void) {
    struct node node;
    node_init(&node, 1, 1, 2);
    start(&node);
    for (gwtf_node_id i = 0; i < 8; i++)
        meet(&node, 100 + i, 0, 500 - (int64_t)i);
    for (gwtf_node_id i = 0; i < 8; i++)
        CU_ASSERT_PTR_NOT_NULL(flow_find_peer(node.flow, 100 + i));
    gwtf_flow_destroy(node.flow);
}

static void a_peer_that_shares_a_flow_is_never_let_go(void) {
    struct node node;
    node_init(&node, 1, 1, 4);
    start(&node);
    meet(&node, 100, 0, 5);
    for (gwtf_node_id i = 0; i < 4; i++)
        meet(&node, 1000 + i, 2, 900 + i);
    struct flow_peer *dearest = flow_find_peer(node.flow, 1003);
    dearest->peer_session = 1;
    (void)flow_sink_index(node.flow, 100);
    node.flow->slots[0].out =
        (struct flow_end){FLOW_END_HELD, 1003, flow_new_id(node.flow), false, false};
    for (gwtf_node_id i = 4; i < 40; i++)
        meet(&node, 1000 + i, 2, 800 - i);
    CU_ASSERT_PTR_EQUAL(flow_find_peer(node.flow, 1003), dearest);
    CU_ASSERT_PTR_NULL(flow_find_peer(node.flow, 1002));
    CU_ASSERT_PTR_NOT_NULL(flow_find_peer(node.flow, 1039));
    gwtf_flow_destroy(node.flow);
}

/* What FROM has to say to TO arrives at once, and what TO answers; how many messages. */
static uint32_t pass_on(struct node *from, struct node *to) {
    struct gwtf_flow_send sends[64];
    size_t sends_count = from->update.sends_count;
    uint32_t count = 0;
    for (size_t i = 0; i < sends_count; i++)
        sends[i] = from->sends[i];
    from->update.sends_count = 0;
    for (size_t i = 0; i < sends_count; i++) {
        if (sends[i].to != to->flow->config.self)
            continue;
        tell(to, (struct gwtf_flow_event){.kind = GWTF_FLOW_EVENT_MESSAGE,
                                          .peer = from->flow->config.self,
                                          .message = sends[i].message});
        count += 1 + pass_on(to, from);
    }
    return count;
}

static uint32_t talk(struct node *a, struct node *b, uint32_t steps) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < 2 * steps; i++) {
        struct node *from = i % 2 == 0 ? a : b, *to = i % 2 == 0 ? b : a;
        from->now_us += 100000;
        tell(from, (struct gwtf_flow_event){.kind = GWTF_FLOW_EVENT_TIMER});
        count += pass_on(from, to);
    }
    return count;
}

static void who_is_not_taken_is_told_and_stops_asking(void) {
    struct node a, b;
    node_init(&a, 1, 1, 2);
    node_init(&b, 1000, 2, 2);
    a.update.introductions_max = b.update.introductions_max = 0;
    start(&a);
    start(&b);
    /* B has two better ones. */
    meet(&b, 2, 1, 10);
    meet(&b, 3, 1, 10);
    meet(&b, 1, 1, 50);
    CU_ASSERT_PTR_NULL(flow_find_peer(b.flow, 1));
    meet(&a, 1000, 2, 50);
    CU_ASSERT_PTR_NOT_NULL(flow_find_peer(a.flow, 1000));
    (void)talk(&a, &b, 10);
    CU_ASSERT_PTR_NULL(flow_find_peer(a.flow, 1000));
    CU_ASSERT_EQUAL(talk(&a, &b, 100), 0);
    /* Met again while B has room, both are peers. */
    tell(&b, (struct gwtf_flow_event){.kind = GWTF_FLOW_EVENT_PEER_DOWN, .peer = 3});
    meet(&b, 1, 1, 50);
    meet(&a, 1000, 2, 50);
    (void)talk(&a, &b, 20);
    CU_ASSERT_PTR_NOT_NULL(flow_find_peer(a.flow, 1000));
    CU_ASSERT(flow_find_peer(b.flow, 1)->peer_session != 0);
    /* B lets it go for a better one. */
    meet(&b, 4, 1, 20);
    (void)pass_on(&b, &a);
    (void)talk(&b, &a, 20);
    CU_ASSERT_PTR_NULL(flow_find_peer(b.flow, 1));
    CU_ASSERT_PTR_NULL(flow_find_peer(a.flow, 1000));
    gwtf_flow_destroy(a.flow);
    gwtf_flow_destroy(b.flow);
}

static void a_name_is_asked_for_once_and_passed_on_twice(void) {
    struct node node;
    node_init(&node, 1, 1, 4);
    start(&node);
    tell(&node, (struct gwtf_flow_event){.kind = GWTF_FLOW_EVENT_PEER_UP, .peer = 2, .stage = 1});
    struct gwtf_flow_event gossip = {.kind = GWTF_FLOW_EVENT_MESSAGE, .peer = 77};
    gossip.message.kind = FLOW_MESSAGE_GOSSIP;
    gossip.message.sink = 2;
    gossip.message.count = 3;
    for (gwtf_node_id i = 0; i < 3; i++)
        gossip.message.nodes[i] = 1000 + i;
    tell(&node, gossip);
    CU_ASSERT_EQUAL(node.update.introductions_count, 3);
    CU_ASSERT_EQUAL(node.heard_of[0].stage, 2);
    tell(&node, gossip);
    CU_ASSERT_EQUAL(node.update.introductions_count, 0);
    uint32_t told = 0;
    for (int i = 0; i < 100; i++) {
        node.now_us += 100000;
        tell(&node, (struct gwtf_flow_event){.kind = GWTF_FLOW_EVENT_TIMER});
        for (size_t j = 0; j < node.update.sends_count; j++)
            if (node.sends[j].message.kind == FLOW_MESSAGE_GOSSIP) {
                CU_ASSERT_EQUAL(node.sends[j].to, 2);
                told += node.sends[j].message.count;
            }
    }
    CU_ASSERT_EQUAL(told, 2 * 3);
    CU_ASSERT_EQUAL(flow_view_deadline(node.flow), GWTF_TIME_NEVER);
    gwtf_flow_destroy(node.flow);
}

static void a_node_takes_less_than_a_hundred_kilobytes(void) {
    struct node node;
    node_init(&node, 1, 1, 0);
    const gwtf_flow *flow = node.flow;
    size_t peer = sizeof(struct flow_peer) + 8 * sizeof(struct flow_figures) + 20;
    size_t bytes = flow->config.neighbours_max * peer +
                   flow->pool.count * sizeof(struct flow_queued) +
                   flow->slots_count * sizeof(struct flow_slot) + sizeof *flow;
    /* flow/view.c keeps to the rest. */
    CU_ASSERT(bytes <= 100000 - 16384);
    gwtf_flow_destroy(node.flow);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(a_view_keeps_the_nodes_with_the_best_links),
        GWTF_TEST(data_nodes_are_all_known),
        GWTF_TEST(a_peer_that_shares_a_flow_is_never_let_go),
        GWTF_TEST(who_is_not_taken_is_told_and_stops_asking),
        GWTF_TEST(a_name_is_asked_for_once_and_passed_on_twice),
        GWTF_TEST(a_node_takes_less_than_a_hundred_kilobytes),
    };
    return gwtf_suite_main(argc, argv, "flow view", tests, sizeof tests / sizeof tests[0], NULL,
                           NULL);
}
