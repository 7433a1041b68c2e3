/*
 * Nodes that are lost, at any moment: every stage's step contains each microbatch once, all
 * replicas agree, and training goes on.
 */
#include "tests/simulation/schedules.h"
#include "tests/support/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t number_from(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static uint64_t first_seed(void) {
    static uint64_t fresh;
    const char *text = getenv("SEED");
    if (text == NULL || strcmp(text, "fresh") != 0)
        return number_from("SEED", 1);
    if (fresh == 0) {
        fresh = (uint64_t)time(NULL) * 1000;
        fprintf(stderr, "seeds from %llu\n", (unsigned long long)fresh);
    }
    return fresh;
}

/* Another slice: SEED=12345 COUNT=100000 test_faults random; SEED=fresh takes seeds that were never
 * tried. */
static void expect(bool (*holds)(uint64_t seed, const struct mix *mix), const struct mix *mix) {
    uint64_t first = first_seed(), count = number_from("COUNT", 15);
    uint32_t wrong = 0;
    schedules_disorderly = schedules_share = true;
    for (uint64_t seed = first; seed < first + count && wrong < 5; seed++) {
        bool good = holds(seed, mix);
        if (!good)
            fprintf(stderr, "SEED=%llu COUNT=1 repeats it\n", (unsigned long long)seed);
        wrong += !good;
    }
    if (getenv("TRACES"))
        fprintf(stderr, "traces %016llx\n", (unsigned long long)schedules_traces);
    CU_ASSERT_EQUAL(wrong, 0);
}

static void random_losses_leave_every_microbatch_counted_once(void) {
    expect(survives, &(struct mix){.crashes = true});
}

static void random_losses_and_suspicions_leave_every_microbatch_counted_once(void) {
    expect(survives, &(struct mix){.crashes = true, .suspicions = true});
}

static void lost_nodes_come_back(const struct mix *mix) {
    schedules_returned = 0;
    expect(survives, mix);
    CU_ASSERT_TRUE(schedules_returned > 0);
    if (schedules_returned == 0)
        fprintf(stderr, "no node came back\n");
}

static void who_was_taken_for_lost_comes_back_as_a_new_member(void) {
    lost_nodes_come_back(&(struct mix){.suspicions = true, .returns = true, .longer = true});
}

static void who_crashed_comes_back_as_a_new_member(void) {
    lost_nodes_come_back(
        &(struct mix){.crashes = true, .suspicions = true, .returns = true, .longer = true});
}

static void who_comes_back_is_no_help_in_what_nobody_keeps(void) {
    lost_nodes_come_back(
        &(struct mix){.crashes = true, .suspicions = true, .returns = true, .keeps_little = true});
}

static void who_was_not_there_joins(void) {
    lost_nodes_come_back(&(struct mix){.joins = true, .longer = true});
}

static void who_was_not_there_joins_among_losses_and_returns(void) {
    lost_nodes_come_back(&(struct mix){
        .joins = true, .crashes = true, .suspicions = true, .returns = true, .longer = true});
}

static void who_is_told_to_leave_goes(const struct mix *mix) {
    schedules_left = schedules_stayed = 0;
    expect(survives, mix);
    CU_ASSERT_TRUE(schedules_left > 0);
    CU_ASSERT_TRUE(schedules_stayed > 0 || mix->crashes);
    if (getenv("TRACES"))
        fprintf(stderr, "%u left, %u stayed\n", schedules_left, schedules_stayed);
}

static void who_is_told_to_leave_goes_and_one_of_each_stage_stays(void) {
    who_is_told_to_leave_goes(&(struct mix){.leaves = true, .longer = true});
}

static void who_is_told_to_leave_goes_among_losses_and_returns(void) {
    who_is_told_to_leave_goes(&(struct mix){
        .leaves = true, .crashes = true, .suspicions = true, .returns = true, .longer = true});
}

static void who_joins_may_leave_again_and_others_take_the_place(void) {
    schedules_left = 0;
    lost_nodes_come_back(&(struct mix){.joins = true, .leaves = true, .longer = true});
    CU_ASSERT_TRUE(schedules_left > 0);
}

static void nodes_join_leave_and_are_lost(void) {
    schedules_left = 0;
    lost_nodes_come_back(&(struct mix){.joins = true,
                                       .leaves = true,
                                       .crashes = true,
                                       .suspicions = true,
                                       .returns = true,
                                       .longer = true});
    CU_ASSERT_TRUE(schedules_left > 0);
}

static void who_leaves_may_come_to_another_stage(void) {
    schedules_moved = 0;
    lost_nodes_come_back(
        &(struct mix){.joins = true, .leaves = true, .moves = true, .longer = true});
    CU_ASSERT_TRUE(schedules_moved > 0);
}

static void nodes_move_join_leave_and_are_lost(void) {
    schedules_moved = 0;
    lost_nodes_come_back(&(struct mix){.joins = true,
                                       .leaves = true,
                                       .moves = true,
                                       .crashes = true,
                                       .suspicions = true,
                                       .returns = true,
                                       .longer = true});
    CU_ASSERT_TRUE(schedules_moved > 0);
}

static const struct mix little_memory = {.crashes = true, .suspicions = true, .keeps_little = true};

static void a_random_loss_of_what_nobody_keeps_begins_the_iteration_anew(void) {
    expect(survives, &little_memory);
}

static void losses_between_short_iterations_leave_every_microbatch_counted_once(void) {
    expect(survives,
           &(struct mix){.crashes = true, .suspicions = true, .stalls = true, .quick = true});
}

static void who_stands_still_is_waited_for_or_comes_back(void) {
    expect(survives, &(struct mix){.pauses = true, .returns = true, .longer = true});
}

static void who_stands_still_between_short_iterations_comes_back(void) {
    lost_nodes_come_back(
        &(struct mix){.pauses = true, .crashes = true, .returns = true, .quick = true});
}

/* The simulator cannot tell what the sum should be, but holds replicas' against each other. */
static void replicas_agree_where_random_losses_are_dropped(void) {
    expect(survives, &(struct mix){.crashes = true, .recovery = GWTF_RECOVERY_DROP});
}

static const struct mix repeated_pipelines = {
    .crashes = true, .has_policy = true, .policy = GWTF_FLOW_POLICY_SWARM_GREEDY};

static void a_repeated_pipeline_adds_every_microbatch_once(void) {
    expect(survives, &repeated_pipelines);
}

static void at_most_one_side_of_a_random_cut_goes_on(void) {
    expect(one_side_goes_on, NULL);
}

static void a_random_suspicion_costs_the_suspected_node_alone(void) {
    expect(fences_the_suspected, NULL);
}

static void broken_links_cost_no_stage(void) {
    expect(breaks_links, NULL);
}

static void a_random_lost_stage_leaves_a_file_of_every_other_one(void) {
    expect(leaves_a_rest, NULL);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(random_losses_leave_every_microbatch_counted_once),
        GWTF_TEST(random_losses_and_suspicions_leave_every_microbatch_counted_once),
        GWTF_TEST(who_was_taken_for_lost_comes_back_as_a_new_member),
        GWTF_TEST(who_crashed_comes_back_as_a_new_member),
        GWTF_TEST(who_comes_back_is_no_help_in_what_nobody_keeps),
        GWTF_TEST(who_was_not_there_joins),
        GWTF_TEST(who_was_not_there_joins_among_losses_and_returns),
        GWTF_TEST(who_joins_may_leave_again_and_others_take_the_place),
        GWTF_TEST(nodes_join_leave_and_are_lost),
        GWTF_TEST(who_leaves_may_come_to_another_stage),
        GWTF_TEST(nodes_move_join_leave_and_are_lost),
        GWTF_TEST(who_is_told_to_leave_goes_and_one_of_each_stage_stays),
        GWTF_TEST(who_is_told_to_leave_goes_among_losses_and_returns),
        GWTF_TEST(a_random_loss_of_what_nobody_keeps_begins_the_iteration_anew),
        GWTF_TEST(losses_between_short_iterations_leave_every_microbatch_counted_once),
        GWTF_TEST(who_stands_still_is_waited_for_or_comes_back),
        GWTF_TEST(who_stands_still_between_short_iterations_comes_back),
        GWTF_TEST(replicas_agree_where_random_losses_are_dropped),
        GWTF_TEST(a_repeated_pipeline_adds_every_microbatch_once),
        GWTF_TEST(at_most_one_side_of_a_random_cut_goes_on),
        GWTF_TEST(a_random_suspicion_costs_the_suspected_node_alone),
        GWTF_TEST(broken_links_cost_no_stage),
        GWTF_TEST(a_random_lost_stage_leaves_a_file_of_every_other_one),
    };
    return gwtf_suite_main(argc, argv, "faults", tests, sizeof tests / sizeof tests[0],
                           make_cluster, free_cluster);
}
