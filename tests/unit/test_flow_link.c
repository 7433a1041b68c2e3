#include "flow/link.h"
#include "flow/table.h"
#include "tests/support/suite.h"

#include <stdio.h>
#include <stdlib.h>

#define RETRY_US 6000
#define DELAY_US 1000
#define WAY_MAX 512

/* Two nodes, 0 and 1, and what is on its way between them. */
struct on_way {
    gwtf_time_us at_us; /* -1: arrived */
    uint32_t to;
    struct gwtf_flow_message message;
};
struct pair {
    gwtf_flow *flows[2];
    struct gwtf_random random;
    double loss, doubling, delay;
    gwtf_time_us now_us;
    struct on_way *way;
    uint64_t sent[2];      /* bodies queued by the node */
    uint64_t received[2];  /* bodies delivered to the node */
    uint64_t out_of_order; /* of them */
    uint64_t messages, again;
    uint32_t highest[2]; /* number of a message from the node */
};

static gwtf_flow *make_node(gwtf_node_id self, uint32_t neighbours) {
    struct gwtf_flow_config config = {.self = self,
                                      .stage = self == 0 ? 0 : 1,
                                      .stages = 1,
                                      .capacity = 1,
                                      .sinks_max = neighbours, /* all are data nodes */
                                      .neighbours_max = neighbours,
                                      .tick_us = 40 * DELAY_US,
                                      .retry_us = RETRY_US};
    gwtf_flow *flow = NULL;
    CU_ASSERT_EQUAL_FATAL(gwtf_flow_create(&config, &flow), GWTF_OK);
    return flow;
}

static struct flow_peer *add_peer(gwtf_flow *flow, gwtf_node_id id) {
    struct flow_peer *peer = flow_add_peer(flow, id);
    CU_ASSERT_PTR_NOT_NULL_FATAL(peer);
    peer->stage = flow->config.stage == 0 ? 1 : 0;
    flow_link_open(flow, peer);
    return peer;
}

static void pair_init(struct pair *pair, uint64_t seed, double faults) {
    *pair = (struct pair){.loss = faults, .doubling = faults, .delay = faults};
    gwtf_random_init(&pair->random, seed);
    pair->way = calloc(WAY_MAX, sizeof *pair->way);
    CU_ASSERT_PTR_NOT_NULL_FATAL(pair->way);
    for (size_t i = 0; i < WAY_MAX; i++)
        pair->way[i].at_us = -1;
    for (gwtf_node_id i = 0; i < 2; i++) {
        pair->flows[i] = make_node(i, 1);
        add_peer(pair->flows[i], 1 - i);
    }
}

static void pair_deinit(struct pair *pair) {
    gwtf_flow_destroy(pair->flows[0]);
    gwtf_flow_destroy(pair->flows[1]);
    free(pair->way);
}

static void post(struct pair *pair, uint32_t to, const struct gwtf_flow_message *message) {
    pair->messages++;
    uint32_t *highest = &pair->highest[1 - to];
    pair->again += message->sequence != 0 && message->sequence <= *highest;
    if (message->sequence > *highest)
        *highest = message->sequence;
    if (gwtf_random_unit(&pair->random) < pair->loss)
        return;
    uint32_t copies = gwtf_random_unit(&pair->random) < pair->doubling ? 2 : 1;
    for (size_t i = 0; i < WAY_MAX && copies > 0; i++) {
        if (pair->way[i].at_us >= 0)
            continue;
        pair->way[i] = (struct on_way){pair->now_us + DELAY_US, to, *message};
        if (gwtf_random_unit(&pair->random) < pair->delay)
            pair->way[i].at_us += (int64_t)gwtf_random_below(&pair->random, 20 * DELAY_US);
        copies--;
    }
}

/* Bodies carry their number among all of their sender. */
static void take_body(struct pair *pair, uint32_t node, const struct gwtf_flow_message *message) {
    pair->out_of_order += message->token != pair->received[node];
    pair->received[node]++;
}

static void arrive(struct pair *pair, const struct on_way *arrival) {
    gwtf_flow *flow = pair->flows[arrival->to];
    struct flow_peer *peer = &flow->peers[0];
    struct gwtf_flow_message early;
    flow->now_us = pair->now_us;
    enum flow_link_result result = flow_link_receive(flow, peer, &arrival->message);
    CU_ASSERT_NOT_EQUAL(result, FLOW_LINK_NEW);
    if (result != FLOW_LINK_BODY)
        return;
    take_body(pair, arrival->to, &arrival->message);
    while (flow_link_next(flow, peer, &early))
        take_body(pair, arrival->to, &early);
}

/* One message time: NODE has a body to send with probability RATE while less than MOST are. */
static void pass_time(struct pair *pair, double rate, uint64_t most, uint32_t kind) {
    pair->now_us += DELAY_US / 4;
    for (size_t i = 0; i < WAY_MAX; i++) {
        if (pair->way[i].at_us < 0 || pair->way[i].at_us > pair->now_us)
            continue;
        struct on_way arrival = pair->way[i];
        pair->way[i].at_us = -1;
        arrive(pair, &arrival);
    }
    for (uint32_t node = 0; node < 2; node++) {
        gwtf_flow *flow = pair->flows[node];
        struct flow_peer *peer = &flow->peers[0];
        flow->now_us = pair->now_us;
        while (pair->sent[node] < most && flow_link_has_room(peer) &&
               gwtf_random_unit(&pair->random) < rate) {
            struct gwtf_flow_message body = {.kind = kind, .token = pair->sent[node]++};
            flow_link_send(flow, peer, &body);
        }
        struct gwtf_flow_send sends[8];
        struct gwtf_flow_update update = {.sends = sends, .sends_max = 8};
        flow_link_emit(flow, &update);
        for (size_t i = 0; i < update.sends_count; i++)
            post(pair, 1 - node, &sends[i].message);
        CU_ASSERT_PTR_NULL(flow_link_check(flow, peer));
    }
}

static bool is_done(const struct pair *pair, uint64_t most) {
    return pair->received[0] == most && pair->received[1] == most &&
           pair->flows[0]->peers[0].queue_count + pair->flows[1]->peers[0].queue_count == 0;
}

static bool pass_all(struct pair *pair, double rate, uint64_t most, uint32_t kind) {
    for (uint32_t step = 0; step < 300000 && !is_done(pair, most); step++)
        pass_time(pair, rate, most, kind);
    return is_done(pair, most);
}

static void each_message_arrives_once_and_in_order_over_a_bad_link(void) {
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct pair pair;
        pair_init(&pair, seed, 0.1 * (double)(seed % 6));
        CU_ASSERT(pass_all(&pair, 0.5, 500, FLOW_MESSAGE_VERIFY));
        CU_ASSERT_EQUAL(pair.out_of_order, 0);
        CU_ASSERT_EQUAL(pair.flows[0]->pool.left, pair.flows[0]->pool.count);
        pair_deinit(&pair);
    }
}

static void only_what_is_lost_is_sent_again(void) {
    struct pair pair;
    pair_init(&pair, 3, 0);
    pair.loss = 0.05;
    CU_ASSERT(pass_all(&pair, 0.2, 4000, FLOW_MESSAGE_VERIFY));
    /* 8000 bodies, of which one in 20 is lost at each try; as much again for acknowledgements that
     * were lost or late. */
    CU_ASSERT(pair.again >= 350);
    CU_ASSERT(pair.again <= 800);
    pair_deinit(&pair);
}

static void nothing_is_sent_again_over_a_good_link(void) {
    struct pair pair;
    pair_init(&pair, 3, 0);
    CU_ASSERT(pass_all(&pair, 0.05, 2000, FLOW_MESSAGE_VERIFY));
    CU_ASSERT_EQUAL(pair.again, 0);
    pair_deinit(&pair);
    /* Nor when acknowledgements of figures wait for a message that goes the same way. */
    pair_init(&pair, 4, 0);
    CU_ASSERT(pass_all(&pair, 0.02, 400, FLOW_MESSAGE_ADVERTISE));
    CU_ASSERT_EQUAL(pair.again, 0);
    /* One in 12 message times: in 40 there are three others to ride on. */
    CU_ASSERT(pair.messages <= 800 + 800 / 8);
    pair_deinit(&pair);
}

static void a_retry_follows_the_measured_round_trip(void) {
    struct pair pair;
    pair_init(&pair, 5, 0);
    CU_ASSERT(pass_all(&pair, 0.1, 300, FLOW_MESSAGE_VERIFY));
    const struct flow_peer *peer = &pair.flows[0]->peers[0];
    /* There and back is 2 message times, and up to half a retry time until it is acknowledged. */
    CU_ASSERT(peer->round_trip_us >= 2 * DELAY_US && peer->round_trip_us <= 6 * DELAY_US);
    pair_deinit(&pair);
}

static void one_peer_does_not_take_the_messages_of_the_others(void) {
    enum { PEERS = 200 };
    gwtf_flow *flow = make_node(1000, PEERS);
    struct flow_peer *peers[PEERS];
    for (gwtf_node_id i = 0; i < PEERS; i++) {
        peers[i] = add_peer(flow, i);
        peers[i]->peer_session = 1;
        CU_ASSERT_PTR_EQUAL(flow_find_peer(flow, i), peers[i]);
    }
    struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_VERIFY};
    /* Three of four take all that they can. */
    for (size_t i = 0; i < PEERS * 3 / 4; i++)
        while (flow_link_has_room(peers[i]))
            flow_link_send(flow, peers[i], &body);
    CU_ASSERT(flow->pool.left < flow->pool.count / 2);
    for (size_t i = PEERS * 3 / 4; i < PEERS; i++)
        CU_ASSERT(flow_link_has_room(peers[i]) && flow_link_has_room_for_answer(peers[i]));
    for (size_t i = 0; i < PEERS; i++)
        CU_ASSERT_PTR_NULL(flow_link_check(flow, peers[i]));
    for (size_t i = 0; i < PEERS; i += 2) {
        flow_link_close(flow, peers[i]);
        flow_remove_peer(flow, peers[i]);
    }
    for (gwtf_node_id i = 0; i < PEERS; i++)
        CU_ASSERT_PTR_EQUAL(flow_find_peer(flow, i), i % 2 == 0 ? NULL : peers[i]);
    gwtf_flow_destroy(flow);
}

static void expect_pace(gwtf_flow *flow, int64_t round_trip_us, int64_t tick_us) {
    struct gwtf_flow_send sends[8];
    struct gwtf_flow_update update = {.sends = sends, .sends_max = 8};
    struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_ROUND_TRIP, .cost_us = round_trip_us};
    CU_ASSERT_EQUAL(gwtf_flow_step(flow, &event, &update), GWTF_OK);
    CU_ASSERT_EQUAL(flow->config.tick_us, tick_us);
    CU_ASSERT_EQUAL(flow->config.retry_us, tick_us + tick_us / 2);
    event.cost_us = -1;
    CU_ASSERT_EQUAL(gwtf_flow_step(flow, &event, &update), GWTF_ERROR_USAGE);
}

static void near_nodes_wait_for_a_shorter_time_unless_told(void) {
    struct gwtf_flow_config config = {
        .self = 0, .stage = 0, .stages = 1, .capacity = 1, .neighbours_max = 1};
    gwtf_flow *flow = NULL;
    CU_ASSERT_EQUAL_FATAL(gwtf_flow_create(&config, &flow), GWTF_OK);
    CU_ASSERT_EQUAL(flow->config.tick_us, 200000);
    expect_pace(flow, 30000, 60000);
    expect_pace(flow, 100, 25000);
    expect_pace(flow, INT64_MAX, 200000);
    expect_pace(flow, 90000, 180000);
    gwtf_flow_destroy(flow);
    config.tick_us = 50000;
    CU_ASSERT_EQUAL_FATAL(gwtf_flow_create(&config, &flow), GWTF_OK);
    expect_pace(flow, 30000, 50000);
    gwtf_flow_destroy(flow);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(each_message_arrives_once_and_in_order_over_a_bad_link),
        GWTF_TEST(only_what_is_lost_is_sent_again),
        GWTF_TEST(nothing_is_sent_again_over_a_good_link),
        GWTF_TEST(a_retry_follows_the_measured_round_trip),
        GWTF_TEST(one_peer_does_not_take_the_messages_of_the_others),
        GWTF_TEST(near_nodes_wait_for_a_shorter_time_unless_told),
    };
    return gwtf_suite_main(argc, argv, "flow link", tests, sizeof tests / sizeof tests[0], NULL,
                           NULL);
}
