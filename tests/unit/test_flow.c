#include "flow/table.h"
#include "tests/support/suite.h"
#include "tests/unit/flow_cluster.h"

#include <stdio.h>
#include <string.h>

/* Under gwtf-paper, nodes that nobody needs try three times, 32 ticks each, and set off moves. */
#define SETTLE_TICKS (CLUSTER_POLICY == GWTF_FLOW_POLICY_GWTF_PAPER ? 200 : 120)

/* Until nobody negotiates any more, and what comes of it has been perfected. */
static void settle(struct cluster *cluster) {
    bool busy = true;
    for (uint32_t turn = 0; turn < 40 && busy; turn++) {
        cluster_run(cluster, turn == 0 ? SETTLE_TICKS : 10);
        busy = false;
        for (gwtf_node_id i = 0; i < cluster->nodes_count; i++)
            busy = busy || (cluster->nodes[i].up && gwtf_flow_is_busy(cluster->nodes[i].flow));
        if (!busy && turn > 0)
            cluster_run(cluster, SETTLE_TICKS);
    }
}

/* WIDTH relays in each of STAGES stages after DATA data nodes, capacities 1..MOST from the seed. */
static void build(struct cluster *cluster, uint64_t seed, uint32_t data, uint32_t stages,
                  uint32_t width, uint32_t most) {
    cluster_init(cluster, seed, stages, data + stages * width);
    for (uint32_t i = 0; i < data; i++)
        cluster_set_node(cluster, i, 0, stages + most);
    for (uint32_t i = 0; i < stages * width; i++)
        cluster_set_node(cluster, data + i, 1 + i / width,
                         1 + (uint32_t)gwtf_random_below(&cluster->random, most));
    cluster_link_all(cluster, 1, 700);
}

/* Says which seed failed: that is all it takes to repeat it. */
static bool is_full(const struct cluster *cluster) {
    int flow = cluster_flow(cluster, NULL), wanted = cluster_bottleneck(cluster);
    if (cluster->fault == NULL && flow == wanted)
        return true;
    printf("\n    seed %llu: flow %d of %d%s%s\n", (unsigned long long)cluster->seed, flow, wanted,
           cluster->fault != NULL ? ", node is at fault: " : "",
           cluster->fault != NULL ? cluster->fault : "");
    return false;
}

/* No message but the rare comparisons: one for each direction of use of a link in
 * FLOW_COMPARE_TICKS, and its acknowledgement. */
static bool is_quiet(struct cluster *cluster) {
    uint64_t links = 0;
    for (size_t i = 0; i < (size_t)cluster->nodes_count * cluster->nodes_count; i++)
        links += cluster->link_us[i] >= 0;
    uint64_t before = cluster->messages;
    gwtf_time_us changed_us = cluster->changed_us;
    cluster_run(cluster, FLOW_COMPARE_TICKS);
    uint64_t bound = cluster->loss + cluster->doubling + cluster->delay > 0 ? 4 * links : 2 * links;
    if (cluster->messages - before <= bound && cluster->changed_us == changed_us)
        return true;
    printf("\n    seed %llu: %llu messages over %llu links while nothing happens\n",
           (unsigned long long)cluster->seed, (unsigned long long)(cluster->messages - before),
           (unsigned long long)links);
    return false;
}

static void unequal_capacities_are_filled_to_the_bottleneck_and_then_it_is_quiet(void) {
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct cluster cluster;
        build(&cluster, seed, 1, 2 + (uint32_t)seed % 5, 2 + (uint32_t)seed % 4, 6);
        cluster_start(&cluster);
        settle(&cluster);
        CU_ASSERT(is_full(&cluster));
        CU_ASSERT(is_quiet(&cluster));
        cluster_deinit(&cluster);
    }
}

static void one_stage_is_a_pipeline_too(void) {
    struct cluster cluster;
    build(&cluster, 3, 2, 1, 3, 5);
    cluster_start(&cluster);
    settle(&cluster);
    CU_ASSERT(is_full(&cluster));
    CU_ASSERT(is_quiet(&cluster));
    cluster_deinit(&cluster);
}

static void a_full_node_refuses_and_another_is_asked(void) {
    /* Node 1 is nearer but takes one flow only; all three want it. */
    struct cluster cluster;
    cluster_init(&cluster, 1, 2, 5);
    cluster_set_node(&cluster, 0, 0, 3);
    cluster_set_node(&cluster, 1, 2, 1);
    cluster_set_node(&cluster, 2, 2, 2);
    cluster_set_node(&cluster, 3, 1, 2);
    cluster_set_node(&cluster, 4, 1, 1);
    cluster_link_all(&cluster, 10, 10);
    cluster_set_link(&cluster, 3, 2, 500);
    cluster_set_link(&cluster, 4, 2, 500);
    cluster_start(&cluster);
    settle(&cluster);
    CU_ASSERT(is_full(&cluster));
    CU_ASSERT_EQUAL(gwtf_flow_get_load(cluster.nodes[1].flow).complete, 1);
    CU_ASSERT_EQUAL(gwtf_flow_get_load(cluster.nodes[2].flow).complete, 2);
    cluster_deinit(&cluster);
}

static void the_least_cost_is_chosen_over_the_whole_way(void) {
    /* The nearest hop (node 1) has the longer way behind it: 10 + 900 against 50 + 60. */
    struct cluster cluster;
    cluster_init(&cluster, 1, 2, 4);
    cluster_set_node(&cluster, 3, 1, 1);
    cluster_set_node(&cluster, 1, 2, 1);
    cluster_set_node(&cluster, 2, 2, 1);
    cluster_set_link(&cluster, 0, 3, 5);
    cluster_set_link(&cluster, 3, 1, 10);
    cluster_set_link(&cluster, 3, 2, 50);
    cluster_set_link(&cluster, 1, 0, 900);
    cluster_set_link(&cluster, 2, 0, 60);
    cluster_set_node(&cluster, 0, 0, 2);
    cluster_start(&cluster);
    settle(&cluster);
    int64_t cost_us = 0;
    CU_ASSERT_EQUAL(cluster_flow(&cluster, &cost_us), 1);
    CU_ASSERT_EQUAL(cost_us, 5 + 50 + 60);
    gwtf_node_id hops[4];
    CU_ASSERT_EQUAL(gwtf_flow_alternatives(cluster.nodes[3].flow, 0, hops, 4), 2);
    CU_ASSERT_EQUAL(hops[1], 2); /* full: after node 1, which has room */
    CU_ASSERT_EQUAL(gwtf_flow_alternatives(cluster.nodes[2].flow, 0, hops, 4), 1);
    CU_ASSERT_EQUAL(hops[0], 0);
    cluster_deinit(&cluster);
}

static void flows_return_to_their_own_data_node(void) {
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct cluster cluster;
        build(&cluster, seed, 2 + (uint32_t)seed % 3, 3, 4, 8);
        cluster_start(&cluster);
        settle(&cluster);
        CU_ASSERT(is_full(&cluster));
        CU_ASSERT(is_quiet(&cluster));
        cluster_deinit(&cluster);
    }
}

static void missing_links_are_never_used(void) {
    /* Two chains that share no link: 0-1-3-0 with capacity 2, 0-2-4-0 with capacity 3. */
    struct cluster cluster;
    cluster_init(&cluster, 1, 2, 5);
    cluster_set_node(&cluster, 0, 0, 9);
    cluster_set_node(&cluster, 1, 1, 2);
    cluster_set_node(&cluster, 2, 1, 5);
    cluster_set_node(&cluster, 3, 2, 5);
    cluster_set_node(&cluster, 4, 2, 3);
    for (gwtf_node_id node = 1; node <= 4; node++)
        cluster_set_link(&cluster, 0, node, 7);
    cluster_set_link(&cluster, 1, 3, 20);
    cluster_set_link(&cluster, 2, 4, 30);
    cluster_start(&cluster);
    settle(&cluster);
    int64_t cost_us = 0;
    CU_ASSERT_EQUAL(cluster_flow(&cluster, &cost_us), 5);
    CU_ASSERT_EQUAL(cost_us, 2 * 34 + 3 * 44);
    CU_ASSERT(is_quiet(&cluster));
    /* A cut link takes its flows with it, and gives them back when it heals. */
    struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_LINK_COST, .peer = 4, .cost_us = -1};
    cluster_tell(&cluster, 2, &event);
    settle(&cluster);
    CU_ASSERT_EQUAL(cluster_flow(&cluster, NULL), 2);
    event.cost_us = 31;
    cluster_set_link(&cluster, 2, 4, 31);
    cluster_tell(&cluster, 2, &event);
    settle(&cluster);
    CU_ASSERT_EQUAL(cluster_flow(&cluster, &cost_us), 5);
    CU_ASSERT_EQUAL(cost_us, 2 * 34 + 3 * 45);
    CU_ASSERT_PTR_NULL(cluster.fault);
    cluster_deinit(&cluster);
}

static void a_changed_link_cost_reaches_the_route(void) {
    struct cluster cluster;
    cluster_init(&cluster, 1, 2, 3);
    cluster_set_node(&cluster, 1, 1, 1);
    cluster_set_node(&cluster, 2, 2, 1);
    cluster_link_all(&cluster, 10, 10);
    cluster_start(&cluster);
    settle(&cluster);
    struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_LINK_COST, .peer = 0, .cost_us = 77};
    cluster_set_link(&cluster, 2, 0, 77);
    cluster_tell(&cluster, 2, &event);
    cluster_run(&cluster, 1);
    int64_t cost_us = 0;
    CU_ASSERT_EQUAL(cluster_flow(&cluster, &cost_us), 1);
    CU_ASSERT_EQUAL(cost_us, 97);
    cluster_deinit(&cluster);
}

/* Kills a relay at TICKS after the start, revives it later; both times the flow is full again. */
static void kill_at(uint64_t seed, double ticks, double faults) {
    struct cluster cluster;
    build(&cluster, seed, 1 + (uint32_t)seed % 2, 3, 4, 5);
    cluster.loss = cluster.doubling = cluster.delay = faults;
    gwtf_node_id victim =
        cluster.nodes_count - 1 - (gwtf_node_id)gwtf_random_below(&cluster.random, 12);
    cluster_start(&cluster);
    cluster_run(&cluster, ticks);
    cluster_kill(&cluster, victim);
    settle(&cluster);
    CU_ASSERT(is_full(&cluster));
    cluster_revive(&cluster, victim);
    settle(&cluster);
    CU_ASSERT(is_full(&cluster));
    CU_ASSERT(is_quiet(&cluster));
    cluster_deinit(&cluster);
}

static void a_death_in_any_state_is_repaired_to_full_flow(void) {
    /* From the first message on in steps of half a message time, then from the settled state. */
    for (uint64_t step = 0; step < 80; step++)
        kill_at(step, (double)step / 80, 0);
    for (uint64_t seed = 0; seed < 20; seed++)
        kill_at(seed, SETTLE_TICKS, 0);
}

static void a_data_node_may_die_and_come_back(void) {
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct cluster cluster;
        build(&cluster, seed, 2, 3, 4, 5);
        cluster_start(&cluster);
        settle(&cluster);
        cluster_kill(&cluster, 1);
        settle(&cluster);
        CU_ASSERT(is_full(&cluster));
        cluster_revive(&cluster, 1);
        settle(&cluster);
        CU_ASSERT(is_full(&cluster));
        cluster_deinit(&cluster);
    }
}

static void lost_doubled_and_reordered_messages_do_no_harm(void) {
    for (uint64_t seed = 1; seed <= 90; seed++) {
        struct cluster cluster;
        build(&cluster, seed, 1 + (uint32_t)seed % 3, 2 + (uint32_t)seed % 4, 3, 5);
        cluster.loss = cluster.doubling = cluster.delay = 0.2;
        cluster_start(&cluster);
        cluster_run(&cluster, SETTLE_TICKS);
        settle(&cluster);
        CU_ASSERT(is_full(&cluster));
        CU_ASSERT(is_quiet(&cluster));
        cluster_deinit(&cluster);
    }
    for (uint64_t seed = 0; seed < 60; seed++)
        kill_at(seed, (double)(seed % 30) / 6, 0.2);
}

static void more_flows_than_a_queue_holds_are_cancelled_over_a_bad_link(void) {
    struct cluster cluster;
    cluster_init(&cluster, 7, 1, 2);
    cluster_set_node(&cluster, 0, 0, 60);
    cluster_set_node(&cluster, 1, 1, 60);
    cluster_link_all(&cluster, 5, 5);
    cluster.loss = 0.3;
    cluster_start(&cluster);
    settle(&cluster);
    CU_ASSERT(is_full(&cluster));
    /* 58 flows are given up at once, and no message is lost for want of room. */
    struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_CAPACITY, .capacity = 2};
    cluster.nodes[1].capacity = 2;
    cluster_tell(&cluster, 1, &event);
    settle(&cluster);
    CU_ASSERT(is_full(&cluster));
    CU_ASSERT_EQUAL(gwtf_flow_get_load(cluster.nodes[0].flow).reserved, 2);
    cluster_deinit(&cluster);
}

static void what_is_left_from_before_a_restart_is_not_heard(void) {
    struct cluster cluster;
    build(&cluster, 5, 1, 2, 2, 3);
    cluster_start(&cluster);
    settle(&cluster);
    struct gwtf_flow *flow = cluster.nodes[1].flow;
    const struct flow_slot *slot = &flow->slots[0];
    while (slot->out.state != FLOW_END_HELD && slot < &flow->slots[flow->slots_count - 1])
        slot++;
    CU_ASSERT_EQUAL_FATAL(slot->out.state, FLOW_END_HELD);
    /* A CANCEL of the next hop's earlier connection, with the right number for the new one. */
    gwtf_node_id next = slot->out.peer;
    struct flow_peer *peer = flow_find_peer(flow, next);
    struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_MESSAGE, .peer = next};
    event.message = (struct gwtf_flow_message){.kind = FLOW_MESSAGE_CANCEL,
                                               .session = peer->peer_session,
                                               .peer_session = peer->session,
                                               .sequence = peer->received + 1,
                                               .flow = slot->out.id};
    peer->peer_session++;
    cluster_tell(&cluster, 1, &event);
    CU_ASSERT_PTR_EQUAL(flow_find_out(flow, next, event.message.flow), slot);
    event.message.session++;
    cluster_tell(&cluster, 1, &event);
    CU_ASSERT_PTR_NULL(flow_find_out(flow, next, event.message.flow));
    cluster_deinit(&cluster);
}

static void a_false_alarm_is_forgiven(void) {
    /* Node 1 takes node 2 for dead and meets it again; node 2 has noticed nothing. */
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct cluster cluster;
        build(&cluster, seed, 1, 2, 2, 4);
        cluster.loss = seed % 2 == 0 ? 0.2 : 0;
        cluster_start(&cluster);
        settle(&cluster);
        struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_PEER_DOWN, .peer = 3, .stage = 2};
        cluster_tell(&cluster, 1, &event);
        cluster_run(&cluster, (double)(seed % 5) / 10);
        event.kind = GWTF_FLOW_EVENT_PEER_UP;
        cluster_tell(&cluster, 1, &event);
        event.kind = GWTF_FLOW_EVENT_LINK_COST;
        event.cost_us = cluster.link_us[1 * cluster.nodes_count + 3];
        cluster_tell(&cluster, 1, &event);
        settle(&cluster);
        CU_ASSERT(is_full(&cluster));
        cluster_deinit(&cluster);
    }
}

static void capacity_may_shrink_and_grow(void) {
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct cluster cluster;
        build(&cluster, seed, 1, 3, 3, 4);
        cluster_start(&cluster);
        settle(&cluster);
        struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_CAPACITY, .capacity = 1};
        gwtf_node_id node = 1 + (gwtf_node_id)seed % 9;
        uint32_t before = cluster.nodes[node].capacity;
        cluster.nodes[node].capacity = 1;
        cluster_tell(&cluster, node, &event);
        CU_ASSERT(gwtf_flow_get_load(cluster.nodes[node].flow).reserved <= 1);
        settle(&cluster);
        CU_ASSERT(is_full(&cluster));
        event.capacity = cluster.nodes[node].capacity = before * 2;
        cluster_tell(&cluster, node, &event);
        settle(&cluster);
        CU_ASSERT(is_full(&cluster));
        event.capacity = before * 2 + 1;
        struct gwtf_flow_update update = {.sends = cluster.nodes[node].sends, .sends_max = 64};
        event.now_us = cluster.now_us;
        CU_ASSERT_EQUAL(gwtf_flow_step(cluster.nodes[node].flow, &event, &update),
                        GWTF_ERROR_LIMIT);
        cluster_deinit(&cluster);
    }
}

static uint64_t trace_of(uint64_t seed) {
    struct cluster cluster;
    build(&cluster, seed, 2, 4, 3, 5);
    cluster.loss = cluster.doubling = cluster.delay = 0.1;
    cluster_start(&cluster);
    settle(&cluster);
    uint64_t trace = cluster.trace;
    cluster_deinit(&cluster);
    return trace;
}

static void the_same_seed_gives_the_same_trace(void) {
    CU_ASSERT_EQUAL(trace_of(5), trace_of(5));
    CU_ASSERT_NOT_EQUAL(trace_of(5), trace_of(6));
}

static void neighbours_find_out_that_they_disagree(void) {
    struct cluster cluster;
    build(&cluster, 4, 1, 2, 2, 3);
    cluster_start(&cluster);
    settle(&cluster);
    CU_ASSERT(is_full(&cluster));
    /* A relay of the first stage forgets a flow without a word. */
    struct gwtf_flow *flow = cluster.nodes[1].flow;
    for (size_t i = 0; i < flow->slots_count; i++) {
        if (!flow_slot_is_complete(&flow->slots[i]))
            continue;
        flow->slots[i].in.state = flow->slots[i].out.state = FLOW_END_NONE;
        break;
    }
    CU_ASSERT_EQUAL(cluster_flow(&cluster, NULL), -1);
    cluster_run(&cluster, 2 * FLOW_COMPARE_TICKS + SETTLE_TICKS);
    CU_ASSERT(is_full(&cluster));
    cluster_deinit(&cluster);
}

static void the_checker_notices_a_corrupted_state(void) {
    struct cluster cluster;
    build(&cluster, 4, 1, 2, 2, 3);
    cluster_start(&cluster);
    settle(&cluster);
    struct gwtf_flow *flow = cluster.nodes[1].flow;
    struct flow_slot *slot = &flow->slots[0];
    while (!flow_slot_is_complete(slot))
        slot++;
    const struct flow_slot kept = *slot;
    const char *why = NULL;
    CU_ASSERT(gwtf_flow_check(flow, &why));

    uint32_t capacity = flow->capacity;
    flow->capacity = 0;
    CU_ASSERT_FALSE(gwtf_flow_check(flow, &why));
    CU_ASSERT_STRING_EQUAL(why, "more flows are reserved than the capacity allows");
    flow->capacity = capacity;
    slot->out.peer = 99;
    CU_ASSERT_FALSE(gwtf_flow_check(flow, &why));
    CU_ASSERT_STRING_EQUAL(why, "a flow is shared with a node that is no neighbour");
    *slot = kept;
    slot->role = FLOW_ROLE_SINK;
    CU_ASSERT_FALSE(gwtf_flow_check(flow, NULL));
    *slot = kept;
    slot->sink = 7;
    CU_ASSERT_FALSE(gwtf_flow_check(flow, NULL));
    *slot = kept;
    slot->in.id = GWTF_FLOW_NONE;
    CU_ASSERT_FALSE(gwtf_flow_check(flow, NULL));
    *slot = kept;
    slot->link_us = -5;
    CU_ASSERT_FALSE(gwtf_flow_check(flow, NULL));
    *slot = kept;
    slot->in_locked = true;
    CU_ASSERT_FALSE(gwtf_flow_check(flow, &why));
    CU_ASSERT_STRING_EQUAL(why, "a slot is locked by no search");
    *slot = kept;
    flow->peers[0].queue_count++;
    CU_ASSERT_FALSE(gwtf_flow_check(flow, &why));
    CU_ASSERT_STRING_EQUAL(why, "a connection's queue does not add up");
    flow->peers[0].queue_count--;
    CU_ASSERT(gwtf_flow_check(flow, NULL));
    cluster_deinit(&cluster);
}

static void nonsense_from_peers_and_callers_is_survived(void) {
    struct cluster cluster;
    build(&cluster, 2, 2, 2, 3, 4);
    cluster_start(&cluster);
    struct gwtf_random random;
    gwtf_random_init(&random, 9);
    for (int i = 0; i < 40000; i++) {
        struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_MESSAGE};
        gwtf_node_id node = (gwtf_node_id)gwtf_random_below(&random, cluster.nodes_count);
        event.peer = (gwtf_node_id)gwtf_random_below(&random, cluster.nodes_count + 1);
        /* Right connection numbers half of the time, so that the body is looked at. */
        const struct gwtf_flow *flow = cluster.nodes[node].flow;
        struct gwtf_flow_message *message = &event.message;
        message->session = 1 + (uint32_t)gwtf_random_below(&random, 3);
        for (size_t j = 0; j < flow->peers_count; j++) {
            if (flow->peers[j].id != event.peer || gwtf_random_below(&random, 16) == 0)
                continue;
            message->session = flow->peers[j].peer_session;
            message->peer_session = flow->peers[j].session;
            message->sequence = flow->peers[j].received + 1;
            message->acknowledged =
                flow->peers[j].queue_first + (uint32_t)gwtf_random_below(&random, 3);
        }
        message->kind = (uint32_t)gwtf_random_below(&random, FLOW_MESSAGE_KINDS + 1);
        message->count = (uint32_t)gwtf_random_below(&random, 5);
        message->sink = (gwtf_node_id)gwtf_random_below(&random, 40);
        message->flow = (gwtf_random_below(&random, 9) << 32) | gwtf_random_below(&random, 30);
        message->cost_us = (int64_t)gwtf_random_next(&random) >> gwtf_random_below(&random, 64);
        message->other_cost_us = (int64_t)gwtf_random_below(&random, 1000);
        message->limit = (uint32_t)gwtf_random_below(&random, cluster.nodes_count + 1);
        message->token = gwtf_random_below(&random, 4) == 0 ? gwtf_random_next(&random)
                                                            : message->flow + message->limit;
        cluster_tell(&cluster, node, &event);
        if (i % 100 == 0)
            cluster_run(&cluster, 0.1);
        if (cluster.fault != NULL)
            break;
    }
    CU_ASSERT_PTR_NULL(cluster.fault);
    if (cluster.fault != NULL)
        printf("\n    %s\n", cluster.fault);
    cluster_deinit(&cluster);
}

static void wrong_configurations_and_strange_peers_are_refused(void) {
    struct gwtf_flow_config good = {
        .self = 1, .stage = 1, .stages = 2, .capacity = 1, .neighbours_max = 1};
    gwtf_flow *flow = NULL;
    struct gwtf_flow_config config = good;
    config.capacity = 0;
    CU_ASSERT_EQUAL(gwtf_flow_create(&config, &flow), GWTF_ERROR_USAGE);
    config = good;
    config.stage = 3;
    CU_ASSERT_EQUAL(gwtf_flow_create(&config, &flow), GWTF_ERROR_USAGE);
    config = good;
    config.stages = 0;
    CU_ASSERT_EQUAL(gwtf_flow_create(&config, &flow), GWTF_ERROR_USAGE);
    config = good;
    config.policy = GWTF_FLOW_POLICIES;
    CU_ASSERT_EQUAL(gwtf_flow_create(&config, &flow), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NULL(flow);
    CU_ASSERT_EQUAL_FATAL(gwtf_flow_create(&good, &flow), GWTF_OK);
    struct gwtf_flow_send sends[8];
    struct gwtf_flow_update update = {.sends = sends, .sends_max = 8};
    struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_PEER_UP, .peer = 1, .stage = 2};
    CU_ASSERT_EQUAL(gwtf_flow_step(flow, &event, &update), GWTF_ERROR_USAGE);
    event.peer = 2;
    CU_ASSERT_EQUAL(gwtf_flow_step(flow, &event, &update), GWTF_OK);
    event.peer = 3;
    CU_ASSERT_EQUAL(gwtf_flow_step(flow, &event, &update), GWTF_ERROR_LIMIT);
    event.kind = GWTF_FLOW_EVENT_LINK_COST;
    CU_ASSERT_EQUAL(gwtf_flow_step(flow, &event, &update), GWTF_ERROR_USAGE);
    CU_ASSERT(gwtf_flow_check(flow, NULL));
    gwtf_flow_destroy(flow);
    gwtf_flow_destroy(NULL);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(unequal_capacities_are_filled_to_the_bottleneck_and_then_it_is_quiet),
        GWTF_TEST(one_stage_is_a_pipeline_too),
        GWTF_TEST(a_full_node_refuses_and_another_is_asked),
        GWTF_TEST(the_least_cost_is_chosen_over_the_whole_way),
        GWTF_TEST(flows_return_to_their_own_data_node),
        GWTF_TEST(missing_links_are_never_used),
        GWTF_TEST(a_changed_link_cost_reaches_the_route),
        GWTF_TEST(a_death_in_any_state_is_repaired_to_full_flow),
        GWTF_TEST(a_data_node_may_die_and_come_back),
        GWTF_TEST(lost_doubled_and_reordered_messages_do_no_harm),
        GWTF_TEST(more_flows_than_a_queue_holds_are_cancelled_over_a_bad_link),
        GWTF_TEST(what_is_left_from_before_a_restart_is_not_heard),
        GWTF_TEST(a_false_alarm_is_forgiven),
        GWTF_TEST(capacity_may_shrink_and_grow),
        GWTF_TEST(the_same_seed_gives_the_same_trace),
        GWTF_TEST(neighbours_find_out_that_they_disagree),
        GWTF_TEST(the_checker_notices_a_corrupted_state),
        GWTF_TEST(nonsense_from_peers_and_callers_is_survived),
        GWTF_TEST(wrong_configurations_and_strange_peers_are_refused),
    };
    return gwtf_suite_main(argc, argv, "flow", tests, sizeof tests / sizeof tests[0], NULL, NULL);
}
