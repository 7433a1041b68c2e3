#include "tests/support/suite.h"
#include "worker/simulation/churn.h"
#include "worker/simulation/costs.h"
#include "worker/simulation/scenario.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOPOLOGIES GWTF_TEST_SOURCE_DIR "/../../share/topologies/"

/* A model whose figures are easy: T = 2 * 64 tokens, W = 128, V = 1000, two blocks a stage. */
static const char small[] =
    "run = { iterations = 3; };\n"
    "network = { topology = \"" TOPOLOGIES "laptop.cfg\"; };\n"
    "model = { layers = 4; width = 128; context = 64; vocabulary = 1000; };\n"
    "batch = { microbatch = 2; microbatches = 4; };\n"
    "pipeline = { stages = 2; };\n"
    "nodes = ( { role = \"data\"; region = \"laptop\"; speed = 1e9; capacity = 4; },\n"
    "          { role = \"relay\"; region = \"laptop\"; count = 2; speed = 1e9; capacity = 4; } "
    ");\n";

static struct gwtf_error error;

static struct gwtf_scenario *parse(const char *text, const char *override,
                                   const char *other_override) {
    struct gwtf_scenario *scenario = NULL;
    const char *overrides[] = {override, other_override};
    size_t count = override == NULL ? 0 : other_override == NULL ? 1 : 2;
    error.text[0] = '\0';
    gwtf_status status =
        gwtf_scenario_parse(text, "small.cfg", overrides, count, &scenario, &error);
    if (status != GWTF_OK)
        printf("\n    %s\n", error.text);
    CU_ASSERT_EQUAL_FATAL(status, GWTF_OK);
    return scenario;
}

static struct gwtf_scenario_result run(const struct gwtf_scenario *scenario,
                                       enum gwtf_flow_policy policy) {
    struct gwtf_scenario_options options = {.policy = policy};
    struct gwtf_scenario_result result = {0};
    gwtf_status status = gwtf_scenario_run(scenario, &options, &result, &error);
    if (status != GWTF_OK)
        printf("\n    %s\n", error.text);
    CU_ASSERT_EQUAL_FATAL(status, GWTF_OK);
    return result;
}

static void costs_follow_from_the_model(void) {
    struct gwtf_scenario *scenario = parse(small, NULL, NULL);
    /* 4 bytes * 128 tokens * 128 floats. */
    CU_ASSERT_EQUAL(gwtf_costs_boundary_bytes(scenario), 65536);
    struct gwtf_stage_costs data = gwtf_costs_of_stage(scenario, 0);
    /* (1000 tokens + 64 positions + 2 of the norm) * 128. */
    CU_ASSERT_EQUAL(data.parameters, 136448);
    /* 3 * 2 * 128 tokens * 128 * 1000. */
    CU_ASSERT_EQUAL(data.forward_flop, 98304000);
    struct gwtf_stage_costs relay = gwtf_costs_of_stage(scenario, 2);
    CU_ASSERT_EQUAL(relay.layers, 2);
    /* 2 * (12 * 128^2 + 13 * 128). */
    CU_ASSERT_EQUAL(relay.parameters, 396544);
    /* 2 blocks * 128 tokens * (2 * 12 * 128^2 + 2 * 64 * 128). */
    CU_ASSERT_EQUAL(relay.forward_flop, 104857600);
    CU_ASSERT_EQUAL(relay.backward_flop, 209715200);
    /* Four boundary tensors, and 4 bytes * 2 blocks * 128 tokens * 10 * 128. */
    CU_ASSERT_EQUAL(relay.slot_bytes, 4 * 65536 + 1310720);
    struct gwtf_simulation_node node = {0};
    gwtf_costs_fill_node(&relay, &scenario->nodes[1], &node);
    CU_ASSERT_EQUAL(node.work_us[GWTF_WORK_FORWARD], 104857);
    CU_ASSERT_EQUAL(node.work_us[GWTF_WORK_BACKWARD], 209715);
    CU_ASSERT_EQUAL(node.capacity, 4);
    gwtf_scenario_destroy(scenario);
}

static void capacity_follows_from_memory(void) {
    struct gwtf_scenario *scenario = parse(small, "nodes.1.capacity=0", "nodes.1.memory_gb=0.03");
    struct gwtf_stage_costs relay = gwtf_costs_of_stage(scenario, 1);
    struct gwtf_simulation_node node = {0};
    gwtf_costs_fill_node(&relay, &scenario->nodes[1], &node);
    /* (30 000 000 - 36 * 396 544) / 1 572 864 is 9.99. */
    CU_ASSERT_EQUAL(node.capacity, 9);
    scenario->nodes[1].memory_gb = 0.015;
    struct gwtf_scenario_options options = {.policy = GWTF_FLOW_POLICY_GWTF};
    struct gwtf_scenario_result result;
    CU_ASSERT_EQUAL(gwtf_scenario_run(scenario, &options, &result, &error), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "do not hold one microbatch"));
    gwtf_scenario_destroy(scenario);
}

static void llama_s_blocks_have_three_inner_matrices(void) {
    struct gwtf_scenario *scenario =
        parse(small, "model={ family = \"llama\"; ffn_width = 300; }", NULL);
    struct gwtf_stage_costs relay = gwtf_costs_of_stage(scenario, 1);
    /* 2 * (4 * 128^2 + 3 * 128 * 300 + 2 * 128). */
    CU_ASSERT_EQUAL(relay.parameters, 361984);
    /* Four boundary tensors, and 4 bytes * 2 blocks * 128 tokens * (6 * 128 + 2 * 300). */
    CU_ASSERT_EQUAL(relay.slot_bytes, 4 * 65536 + 1400832);
    /* 2 * 1000 * 128 + 128. */
    CU_ASSERT_EQUAL(gwtf_costs_of_stage(scenario, 0).parameters, 256128);
    gwtf_scenario_destroy(scenario);
}

/* One relay in each stage. That of stage 2 has 4 * (104857 + 209715) us of work in an iteration,
 * and is never idle: it does other forward passes while the data node computes a loss. Before its
 * first and after its last pass there is one of stage 1, and a data node's copying. */
static void a_pipeline_takes_its_slowest_node_s_time(void) {
    /* Many iterations, since the first one waits until there are flows. */
    struct gwtf_scenario *scenario = parse(small, "run.iterations=30", NULL);
    struct gwtf_scenario_result result = run(scenario, GWTF_FLOW_POLICY_GWTF);
    double passes = 4 * (104857 + 209715) / 1e6;
    double others = (104857 + 209715) / 1e6;
    CU_ASSERT_EQUAL(result.iterations, 30);
    CU_ASSERT(result.seconds_per_iteration >= passes + others);
    /* Six messages of 0.05 ms and tensors of 0.03 ms, and some more to agree on the step. */
    CU_ASSERT(result.seconds_per_iteration < passes + others + 0.005);
    CU_ASSERT_DOUBLE_EQUAL(result.microbatches_per_second, 4 / result.seconds_per_iteration, 1e-9);
    CU_ASSERT_DOUBLE_EQUAL(result.stage_utilisation[1], passes / result.seconds_per_iteration,
                           0.03);
    CU_ASSERT_EQUAL(result.asked, 120);
    CU_ASSERT_EQUAL(result.completed, 120);
    CU_ASSERT_EQUAL(result.lost, 0);
    /* All works but the data node's copying: 120 microbatches. */
    CU_ASSERT_DOUBLE_EQUAL(result.compute_seconds,
                           120 * (2 * (104857 + 209715) + 98304 + 2 * 13) / 1e6, 1e-2);
    CU_ASSERT(fabs(result.wasted_compute) < 1e-12);
    /* Three hops of a boundary tensor, each way; gradients have no other replica to go to. */
    double tensors = 4.0 * 2 * 3 * 65536;
    CU_ASSERT(result.bytes_per_iteration >= tensors);
    /* In all iterations, a probe over each direction of each link that had no tensor yet. */
    double probes = 6.0 * 65536 / 30;
    CU_ASSERT(result.bytes_per_iteration <
              tensors + probes + (double)(result.messages * sizeof(struct gwtf_message)));
    gwtf_scenario_result_deinit(&result);
    gwtf_scenario_destroy(scenario);
}

static void a_slow_link_slows_the_iterations_in_which_it_is(void) {
    struct gwtf_scenario *scenario =
        parse(small, "run.iterations=6",
              "link_faults=( { iteration = 3; node = 1; factor = 1e5; heal_after = 2; } )");
    struct gwtf_scenario_result result = run(scenario, GWTF_FLOW_POLICY_GWTF);
    CU_ASSERT_EQUAL(result.link_faults, 1);
    /* 5 s for each hop's message, 8 hops of a microbatch; before and after nothing of it. */
    CU_ASSERT(result.seconds[1] < 3);
    CU_ASSERT(result.seconds[2] > 15 && result.seconds[3] > 15);
    CU_ASSERT(result.seconds[5] < 3);
    gwtf_scenario_result_deinit(&result);
    gwtf_scenario_destroy(scenario);
}

static struct gwtf_scenario *ten_regions(const char *override, const char *other) {
    struct gwtf_scenario *scenario = NULL;
    const char *overrides[] = {override, other};
    gwtf_status status =
        gwtf_scenario_load(GWTF_TEST_SOURCE_DIR "/../../share/scenarios/ten-regions-18.cfg",
                           overrides, other != NULL ? 2 : 1, &scenario, &error);
    CU_ASSERT_EQUAL_FATAL(status, GWTF_OK);
    return scenario;
}

static void the_same_scenario_gives_the_same_run(void) {
    struct gwtf_scenario *scenario = ten_regions("run.iterations=3", NULL);
    struct gwtf_scenario_result first = run(scenario, GWTF_FLOW_POLICY_GWTF);
    struct gwtf_scenario_result second = run(scenario, GWTF_FLOW_POLICY_GWTF);
    struct gwtf_scenario_result other = run(scenario, GWTF_FLOW_POLICY_GWTF_PAPER);
    CU_ASSERT_EQUAL(first.trace, second.trace);
    CU_ASSERT_EQUAL(first.seconds_per_iteration, second.seconds_per_iteration);
    CU_ASSERT_NOT_EQUAL(first.trace, other.trace);
    CU_ASSERT_EQUAL(first.completed, first.asked);
    CU_ASSERT_EQUAL(first.flows, 16);
    gwtf_scenario_result_deinit(&first);
    gwtf_scenario_result_deinit(&second);
    gwtf_scenario_result_deinit(&other);
    gwtf_scenario_destroy(scenario);
}

static void churn_costs_time_and_no_microbatch(void) {
    struct gwtf_scenario *scenario = ten_regions("run.iterations=4", "churn.probability=0.15");
    for (int policy = 0; policy < GWTF_FLOW_POLICY_STATIC; policy++) {
        struct gwtf_scenario_result result = run(scenario, (enum gwtf_flow_policy)policy);
        CU_ASSERT_EQUAL(result.status, GWTF_OK);
        CU_ASSERT_EQUAL(result.iterations, 4);
        CU_ASSERT_EQUAL(result.completed, result.asked);
        CU_ASSERT_EQUAL(result.lost, 0);
        CU_ASSERT(result.crashes > 0 && result.recoveries > 0);
        /* What crashed nodes had done is lost with them, and is a part of all that is. */
        CU_ASSERT(result.wasted_by_crashed > 0);
        CU_ASSERT(result.wasted_by_crashed <= result.wasted_compute + 1e-12);
        CU_ASSERT(result.wasted_compute < 0.5);
        /* The others know after a second. */
        CU_ASSERT(result.recovery_seconds_max >= 1);
        gwtf_scenario_result_deinit(&result);
    }
    gwtf_scenario_destroy(scenario);
}

static struct gwtf_churn_event *draw(const struct gwtf_scenario *scenario, size_t *count) {
    struct gwtf_scenario_place places[18];
    struct gwtf_churn_event *events = NULL;
    gwtf_scenario_place(scenario, places);
    CU_ASSERT_EQUAL_FATAL(gwtf_churn_draw(scenario, places, &events, count), GWTF_OK);
    return events;
}

/* Of 16 relays 1.6 crash in an iteration, but for those that are gone for the two that follow, and
 * those that fetch their weights, for two more. */
static void churn_is_as_frequent_as_its_probability(void) {
    struct gwtf_scenario *scenario =
        ten_regions("run.iterations=1000", "churn={ probability = 0.1; return_after = 2; }");
    size_t count, crashes = 0, returns = 0;
    struct gwtf_churn_event *events = draw(scenario, &count);
    for (size_t i = 0; i < count; i++) {
        crashes += events[i].kind >= GWTF_CHURN_CRASH_FORWARD;
        returns += events[i].kind == GWTF_CHURN_RETURN;
        CU_ASSERT(events[i].node >= 2);
        CU_ASSERT(i == 0 || events[i].iteration >= events[i - 1].iteration);
    }
    /* There for 10 iterations and away for 4, the first of them its last one there: 16 * 1000 / 13
     * crashes, and a deviation of 35. */
    CU_ASSERT(crashes > 1090 && crashes < 1370);
    CU_ASSERT(returns + 10 > crashes && returns <= crashes);
    free(events);
    gwtf_scenario_destroy(scenario);
}

/* With seed 3 a node came back that had not heard with what incarnation another one was down, and
 * did not take it back with all others. */
static void a_run_whose_relays_crash_and_return_again_and_again_ends_whole(void) {
    struct gwtf_scenario *scenario = ten_regions("run={ seed = 3; iterations = 30; }",
                                                 "churn={ probability = 0.2; return_after = 1; }");
    struct gwtf_scenario_result result = run(scenario, GWTF_FLOW_POLICY_GWTF);
    CU_ASSERT_EQUAL(result.iterations, 30);
    CU_ASSERT_EQUAL(result.lost, 0);
    CU_ASSERT(result.crashes > 60 && result.returned + 8 > result.crashes);
    gwtf_scenario_result_deinit(&result);
    gwtf_scenario_destroy(scenario);
}

static void drawn_churn_leaves_each_stage_a_relay(void) {
    struct gwtf_scenario *scenario =
        ten_regions("churn={ probability = 1.0; return_after = 0; }", NULL);
    size_t count;
    struct gwtf_churn_event *events = draw(scenario, &count);
    /* 16 relays in 4 stages. */
    CU_ASSERT_EQUAL(count, 12);
    free(events);
    gwtf_scenario_destroy(scenario);
}

/* All relays' links are cut at once, and a node that is cut off is gone. */
static void who_is_cut_off_is_gone(void) {
    struct gwtf_scenario *scenario =
        ten_regions("links={ probability = 1.0; cut = 1.0; }", "run.iterations=4");
    size_t count, cut = 0, slow_data_nodes = 0;
    struct gwtf_churn_event *events = draw(scenario, &count);
    for (size_t i = 0; i < count; i++) {
        cut += events[i].kind == GWTF_CHURN_CUT;
        slow_data_nodes += events[i].kind == GWTF_CHURN_SLOW && events[i].node < 2;
        CU_ASSERT(events[i].kind != GWTF_CHURN_CUT || events[i].node >= 2);
    }
    /* All but one of each stage's four, which come back after an iteration, have their weights
     * after two more, and go again; and both data nodes, each time. */
    CU_ASSERT_EQUAL(cut, 12 + 12);
    CU_ASSERT_EQUAL(slow_data_nodes, 8);
    free(events);
    gwtf_scenario_destroy(scenario);
}

static void churn_of_links_does_not_change_that_of_nodes(void) {
    struct gwtf_scenario *scenario = ten_regions("run.iterations=50", "churn.probability=0.2");
    size_t count, both_count, at = 0;
    struct gwtf_churn_event *events = draw(scenario, &count);
    scenario->links.probability = 0.3;
    struct gwtf_churn_event *both = draw(scenario, &both_count);
    CU_ASSERT(both_count > count);
    for (size_t i = 0; i < both_count && at < count; i++)
        at += memcmp(&both[i], &events[at], sizeof *events) == 0;
    CU_ASSERT_EQUAL(at, count);
    free(events);
    free(both);
    gwtf_scenario_destroy(scenario);
}

static const struct gwtf_test tests[] = {
    GWTF_TEST(costs_follow_from_the_model),
    GWTF_TEST(capacity_follows_from_memory),
    GWTF_TEST(llama_s_blocks_have_three_inner_matrices),
    GWTF_TEST(a_pipeline_takes_its_slowest_node_s_time),
    GWTF_TEST(a_slow_link_slows_the_iterations_in_which_it_is),
    GWTF_TEST(the_same_scenario_gives_the_same_run),
    GWTF_TEST(churn_costs_time_and_no_microbatch),
    GWTF_TEST(churn_is_as_frequent_as_its_probability),
    GWTF_TEST(a_run_whose_relays_crash_and_return_again_and_again_ends_whole),
    GWTF_TEST(drawn_churn_leaves_each_stage_a_relay),
    GWTF_TEST(who_is_cut_off_is_gone),
    GWTF_TEST(churn_of_links_does_not_change_that_of_nodes),
};

int main(int argc, char **argv) {
    return gwtf_suite_main(argc, argv, "scenario_run", tests, sizeof tests / sizeof tests[0], NULL,
                           NULL);
}
