/* Faults that random schedules have found, each by its seed or made by hand. */
#include "tests/simulation/schedules.h"
#include "tests/support/suite.h"

/* Seed 1005: two nodes had come back to a stage; the second spoke for it when the first was lost,
 * and knew nothing of the step before, of which others had yet to hear. */
static void who_has_come_back_does_not_speak_of_steps_before(void) {
    CU_ASSERT_TRUE(survives(1005, &(struct mix){.suspicions = true, .returns = true}));
}

/* Seed 208: a node that came back suspected another before the recorder could hear of it. */
static void what_is_found_while_coming_back_is_told_later(void) {
    CU_ASSERT_TRUE(survives(
        208,
        &(struct mix){.crashes = true, .suspicions = true, .returns = true, .keeps_little = true}));
}

/* Weights take seconds to fetch, an iteration a tenth of one; a snapshot is being written, and old
 * news of the loss come late and twice. */
static void who_fetches_for_long_holds_up_one_step(void) {
    for (uint64_t seed = 1; seed <= 8; seed++) {
        cluster_init(cluster, 2, 2, 3, 2);
        cluster->config.seed = seed;
        cluster->config.last_iteration = 12;
        cluster->config.microbatches = 1;
        cluster->config.snapshot_every = 1;
        cluster->config.write_us = 400000;
        cluster->config.sent_us = 2000000;
        cluster->config.doubled = 0.5;
        cluster->config.return_us = 1;
        for (size_t i = 0; i < cluster->config.nodes_count; i++)
            cluster->nodes[i].gradient_floats = 100000000;
        gwtf_simulation *simulation = cluster_start(cluster);
        CU_ASSERT_PTR_NOT_NULL_FATAL(simulation);
        /* The second replica of the first stage, and then the second data node. */
        struct gwtf_simulation_fault suspect = {.kind = GWTF_SIMULATION_SUSPECT,
                                                .at_us = 300000 + (gwtf_time_us)seed * 10000,
                                                .node = cluster->nodes[3].node,
                                                .by = cluster->nodes[4].node};
        CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &suspect), GWTF_OK);
        suspect.at_us += 3000000;
        suspect.node = cluster->nodes[1].node;
        CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &suspect), GWTF_OK);
        CU_ASSERT_TRUE(cluster_run(cluster, simulation, GWTF_OK, seed));
        struct gwtf_simulation_totals totals = gwtf_simulation_get_totals(simulation);
        CU_ASSERT_EQUAL(totals.returned, 2);
        CU_ASSERT_EQUAL(totals.iterations, 12);
        CU_ASSERT_EQUAL(totals.snapshots, 12);
        gwtf_simulation_destroy(simulation);
    }
}

/* Seed 1795334597193: a data node was lost again as soon as it was back, and the iteration begun
 * anew before some had taken it. */
static void who_is_lost_again_does_not_count(void) {
    CU_ASSERT_TRUE(survives(
        1795334597193,
        &(struct mix){.crashes = true, .suspicions = true, .returns = true, .keeps_little = true}));
}

/* Seed 1795334597397: stages 3 to 5 had their sums; stage 2 needed a gradient again that stage 4
 * had forgotten. */
static void a_stage_with_its_sum_says_that_the_one_before_is_irreparable(void) {
    CU_ASSERT_TRUE(survives(
        1795334597397,
        &(struct mix){.crashes = true, .suspicions = true, .returns = true, .keeps_little = true}));
}

static const struct mix little_memory = {.crashes = true, .suspicions = true, .keeps_little = true};

/* Seed 5658 held the last stage's one slot with what a lost data node had sent. */
static void validation_ends_without_microbatches_of_a_lost_data_node(void) {
    CU_ASSERT_TRUE(survives(5658, &(struct mix){.crashes = true}));
}

/* Seed 20078 was refused by a substitute, and gave the tensor's memory away before it was sent
 * again. */
static void what_a_substitute_refuses_is_kept_until_it_takes_it(void) {
    CU_ASSERT_TRUE(survives(20078, &little_memory));
}

/* Seed 1795333832103: a new recorder heard of a later snapshot before it heard of one that had been
 * told of to the lost recorder alone, and waited for that. */
static void a_snapshot_that_only_a_lost_recorder_knew_of_is_given_up(void) {
    CU_ASSERT_TRUE(survives(1795333832103, &little_memory));
}

/* Seed 20194 lost nodes of stages 3 and 4 when stage 3 had its sum, and stage 4 not. */
static void a_stage_with_its_sum_passes_on_that_the_next_is_irreparable(void) {
    CU_ASSERT_TRUE(survives(20194, &little_memory));
}

static const struct mix repeated_pipelines = {
    .crashes = true, .has_policy = true, .policy = GWTF_FLOW_POLICY_SWARM_GREEDY};

/* Seed 9000000000013: a refusal of what had gone in the pass before came while the next pass was
 * computed, and made the node send before it had the output, and once more after. */
static void a_refusal_in_one_pass_does_not_count_in_the_next(void) {
    CU_ASSERT_TRUE(survives(9000000000013, &repeated_pipelines));
}

/* A substitute of the last stage had the last slot there, and waited for a gradient that its data
 * node was about to get anew, by way of that slot: it had asked for the whole pipeline to be
 * repeated itself, or its stage alone was to be repaired (seed 1795324531269). */
static void a_data_node_sends_the_gradient_of_a_pass_again_while_the_next_is_out(void) {
    static const uint64_t seeds[] = {1795323360065, 1795323360233, 1795323360276, 1795324531269};
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++)
        CU_ASSERT_TRUE(survives(seeds[i], &repeated_pipelines));
}

/* The first relay of stage 2 that runs a backward pass crashes in it. */
struct backward_crash {
    bool crashed;
    uint32_t forwards;
    uint32_t backwards;
};

static void crash_in_backward(void *context, gwtf_simulation *simulation,
                              const struct gwtf_simulation_notice *notice) {
    struct backward_crash *seen = context;
    const struct gwtf_work *work = notice->work;
    if (notice->kind == GWTF_SIMULATION_WORK_ENDED) {
        seen->forwards += work->kind == GWTF_WORK_FORWARD;
        seen->backwards += work->kind == GWTF_WORK_BACKWARD;
    }
    if (notice->kind != GWTF_SIMULATION_WORK_BEGINS || work->kind != GWTF_WORK_BACKWARD ||
        cluster->nodes[notice->index].stage != 2 || seen->crashed)
        return;
    seen->crashed = true;
    struct gwtf_simulation_fault crash = {.kind = GWTF_SIMULATION_CRASH,
                                          .at_us = notice->now_us + 1,
                                          .node = cluster->nodes[notice->index].node,
                                          .notice_us = 1000};
    CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &crash), GWTF_OK);
}

static struct backward_crash works_after_crash(enum gwtf_flow_policy policy) {
    struct backward_crash seen = {0};
    cluster_init(cluster, 1, 4, 2, 2);
    cluster->config.last_iteration = 1;
    cluster->config.microbatches = 1;
    cluster->config.policy = policy;
    cluster->config.observe = crash_in_backward;
    cluster->config.observe_context = &seen;
    gwtf_simulation *simulation = cluster_start(cluster);
    CU_ASSERT_PTR_NOT_NULL_FATAL(simulation);
    CU_ASSERT_EQUAL(gwtf_simulation_run(simulation, GWTF_TIME_NEVER), GWTF_OK);
    CU_ASSERT_TRUE(seen.crashed);
    CU_ASSERT_EQUAL(gwtf_simulation_get_totals(simulation).iterations, 1);
    gwtf_simulation_destroy(simulation);
    return seen;
}

/* Four stages: stage 2 runs forward again; or all do, and the two behind it backward again. */
static void a_crash_in_backward_repeats_one_stage_or_the_pipeline(void) {
    struct backward_crash stage = works_after_crash(GWTF_FLOW_POLICY_SWARM);
    CU_ASSERT_EQUAL(stage.forwards, 4 + 1);
    CU_ASSERT_EQUAL(stage.backwards, 4);
    struct backward_crash pipeline = works_after_crash(GWTF_FLOW_POLICY_SWARM_GREEDY);
    CU_ASSERT_EQUAL(pipeline.forwards, 4 + 4);
    CU_ASSERT_EQUAL(pipeline.backwards, 4 + 2);
}

/* Seed 1795323360009: five of the smaller side's six nodes stepped when they had missed a few of
 * the other side's seven, forgot those, and did not see in the rest that they were cut off. */
static void a_side_that_learns_of_a_cut_in_parts_does_not_step_on_its_own(void) {
    CU_ASSERT_TRUE(one_side_goes_on(1795323360009, NULL));
}

/* Seed 7000000000295: the recorder missed a data node's DONE of the last validation no more, and
 * ended the run, when others of its side still took that data node for living. */
static void who_is_behind_in_validation_ends_when_it_has_ended_too(void) {
    CU_ASSERT_TRUE(one_side_goes_on(7000000000295, NULL));
}

/* Seed 5000000000311 has stages without parameters, whose norm tells of no data node. */
static void the_simulator_takes_reports_of_models_without_parameters(void) {
    CU_ASSERT_TRUE(one_side_goes_on(5000000000311, NULL));
}

/* Seed 1795323360143: of three replicas the second had taken the last step, the third was then
 * suspected, and the first waited for the second's word of it. */
static void who_has_taken_the_last_step_still_hears_of_losses(void) {
    CU_ASSERT_TRUE(fences_the_suspected(1795323360143, NULL));
}

/* Seed 800176 lost a stage between the recorder's leave, with all done, and the others'. */
static void a_stage_that_is_lost_when_all_is_done_keeps_nobody(void) {
    CU_ASSERT_TRUE(leaves_a_rest(800176, NULL));
}

/* A data node is lost when others have gone on to the next iteration, and a relay still waits for
 * the end of validation: what it has trained of that iteration is void when that begins anew. */
static void who_validates_begins_the_next_iteration_anew_too(void) {
    static const uint64_t seeds[] = {300, 597, 909, 1260, 1282, 1477};
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++) {
        cluster_init(cluster, 3, 2, 2, 4);
        cluster->config.seed = seeds[i];
        cluster->config.last_iteration = 6;
        cluster->config.validates = true;
        cluster->config.validate_every = 1;
        cluster->config.validation_microbatches = 1;
        cluster->config.resent = 0.02;
        gwtf_simulation *simulation = cluster_start(cluster);
        CU_ASSERT_PTR_NOT_NULL_FATAL(simulation);
        struct gwtf_simulation_fault crash = {.kind = GWTF_SIMULATION_CRASH,
                                              .at_us =
                                                  200000 + (gwtf_time_us)(seeds[i] % 1000) * 4000,
                                              .node = cluster->nodes[1 + seeds[i] % 2].node,
                                              .notice_us = 1000};
        CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &crash), GWTF_OK);
        CU_ASSERT_EQUAL(gwtf_simulation_run(simulation, GWTF_TIME_NEVER), GWTF_OK);
        CU_ASSERT_EQUAL(gwtf_simulation_get_totals(simulation).iterations, 6);
        gwtf_simulation_destroy(simulation);
    }
}

/* One data node; a relay hears nothing of it from second 1 on, and from HEARD_US on again, 0:
 * never. Returns how many nodes are lost in two minutes. */
static uint32_t lost_by_silence(gwtf_time_us heard_us) {
    cluster_init(cluster, 1, 2, 2, 2);
    cluster->config.last_iteration = 2000;
    gwtf_simulation *simulation = cluster_start(cluster);
    CU_ASSERT_PTR_NOT_NULL_FATAL(simulation);
    struct gwtf_simulation_fault fault = {.kind = GWTF_SIMULATION_SUSPECT,
                                          .at_us = 1000000,
                                          .node = cluster->nodes[0].node,
                                          .by = cluster->nodes[1].node};
    CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &fault), GWTF_OK);
    fault.kind = GWTF_SIMULATION_HEAR;
    fault.at_us = heard_us;
    if (heard_us > 0)
        CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &fault), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_simulation_run(simulation, 120000000), GWTF_OK);
    gwtf_status ended = GWTF_OK;
    bool left = gwtf_simulation_finished(simulation, cluster->nodes[1].node, &ended, NULL);
    uint32_t lost = gwtf_simulation_get_totals(simulation).lost;
    CU_ASSERT_EQUAL(left, lost == 1);
    CU_ASSERT_EQUAL(ended, lost == 1 ? GWTF_ERROR_FENCED : GWTF_OK);
    CU_ASSERT(gwtf_simulation_get_totals(simulation).now_us > 60000000);
    gwtf_simulation_destroy(simulation);
    return lost;
}

static void who_alone_misses_the_last_node_of_a_stage_leaves_unless_it_hears_it_again(void) {
    CU_ASSERT_EQUAL(lost_by_silence(0), 1);
    CU_ASSERT_EQUAL(lost_by_silence(25000000), 0);
}

/* Drawn with lost messages and clocks that differ. */
static bool in_disorder(bool (*holds)(uint64_t, const struct mix *), uint64_t seed,
                        const struct mix *mix) {
    schedules_disorderly = true;
    bool held = holds(seed, mix);
    schedules_disorderly = false;
    return held;
}

/* Seed 1810000000594: a node that had come back asked who holds a microbatch before it heard from a
 * node of the next stage that had come back with it, and then waited for that one's answer. */
static void who_comes_back_is_asked_what_it_holds(void) {
    CU_ASSERT_TRUE(in_disorder(survives, 1810000000594,
                               &(struct mix){.suspicions = true, .returns = true, .longer = true}));
}

/* Seed 1860001000196: stage 5 needed a gradient again, for which stages 6 and 7, which had their
 * sums, asked stage 8, and that had forgotten it. */
static void what_two_stages_on_is_forgotten_is_irreparable(void) {
    CU_ASSERT_TRUE(in_disorder(survives, 1860001000196, &little_memory));
}

/* Seed 1840001000417: two of three replicas had given up a sum, as a fourth did not have it; when
 * that one was lost, they said that they had had it, and the third stepped with it alone. */
static void who_has_given_up_a_sum_does_not_say_that_it_has_it(void) {
    CU_ASSERT_TRUE(in_disorder(fences_the_suspected, 1840001000417, NULL));
}

/* Seed 1830000000212: the recorder was cut off when it had all that the last manifest needs, and so
 * had the other side. */
static void both_sides_of_a_cut_may_write_the_last_manifest(void) {
    CU_ASSERT_TRUE(in_disorder(one_side_goes_on, 1830000000212, NULL));
}

/* Seed 96: of three data nodes that were lost at once each of the others missed another one last,
 * and waited for all to miss that one, too. */
static void who_misses_another_one_last_says_so(void) {
    CU_ASSERT_TRUE(in_disorder(leaves_a_rest, 96, NULL));
    CU_ASSERT_TRUE(in_disorder(leaves_a_rest, 1830000000461, NULL));
}

/* Seed 179640001897: two links broke at once, and the nodes at their ends took both replicas of a
 * stage for lost, neither knowing of the other. */
static void two_broken_links_cost_one_of_two_replicas(void) {
    CU_ASSERT_TRUE(in_disorder(breaks_links, 179640001897, NULL));
}

/* Seed 510000002010: all data nodes but one, and all relays, were lost at once. It doubted the
 * recorder for a minute, and the next one for another, of which it had heard nothing for as long.
 */
static void who_is_left_alone_waits_once(void) {
    CU_ASSERT_TRUE(in_disorder(leaves_a_rest, 510000002010, NULL));
}

/* Seed 500000007011: the recorder stood still when all was ready for the last manifest, which
 * another had written in its place when it went on. */
static void a_recorder_that_stood_still_may_write_the_last_manifest_again(void) {
    CU_ASSERT_TRUE(in_disorder(survives, 500000007011,
                               &(struct mix){.pauses = true, .returns = true, .longer = true}));
}

/* Seed 560000052004: a recorder that stood still reported, when it went on, an iteration that
 * others had reported long before; the run's file takes no line twice. */
static void a_recorder_that_stood_still_may_report_again(void) {
    CU_ASSERT_TRUE(in_disorder(
        survives, 560000052004,
        &(struct mix){.pauses = true, .crashes = true, .returns = true, .quick = true}));
}

/* Seed 550000091013: a relay that still validated had trained microbatches of the next iteration.
 * When a node that had had them was lost, it sent them to a substitute, which refused, and did not
 * know its own microbatches any more, as they were not of the iteration that it validated. */
static void who_validates_sends_again_what_is_of_the_next_iteration(void) {
    CU_ASSERT_TRUE(in_disorder(
        survives, 550000091013,
        &(struct mix){.crashes = true, .suspicions = true, .stalls = true, .quick = true}));
}

/* Seed 600000031005: a relay heard which data nodes an iteration begun anew counts when it was in
 * the next one, and did not take it for that; so did a data node that came back, which was told by
 * the relay first. */
static void whom_an_iteration_counts_is_learnt_late_too(void) {
    CU_ASSERT_TRUE(in_disorder(
        survives, 600000031005,
        &(struct mix){.pauses = true, .crashes = true, .returns = true, .quick = true}));
}

/* Seed 932000083002: node after node was lost, until one of each stage was left. Stage 2 had told
 * stage 3 that it could not make again what that lacked, and did not tell stage 1 when that needed
 * gradients again, later. */
static void irreparable_is_passed_on_and_later_back(void) {
    CU_ASSERT_TRUE(in_disorder(survives, 932000083002, &little_memory));
}

/* One microbatch, so that most replicas have nothing to do. Those whom the first replica of stage 1
 * reaches go on to the next iteration while others wait for its norm, and then it is lost. */
static void who_lacks_the_norm_before_the_newest_is_told_it(void) {
    for (int64_t at_us = 325000; at_us < 365000; at_us += 200) {
        cluster_init(cluster, 1, 2, 3, 4);
        cluster->config.seed = (uint64_t)at_us;
        cluster->config.last_iteration = 40;
        cluster->config.microbatches = 1;
        cluster->config.boundary_bytes = 1000;
        cluster->latency_us = 50;
        for (size_t i = 0; i < cluster->config.nodes_count; i++)
            for (int kind = 0; kind < GWTF_SIMULATION_WORKS; kind++)
                cluster->nodes[i].work_us[kind] = 50;
        gwtf_simulation *simulation = cluster_start(cluster);
        CU_ASSERT_PTR_NOT_NULL_FATAL(simulation);
        struct gwtf_simulation_fault fault = {.kind = GWTF_SIMULATION_STALL,
                                              .at_us = at_us - 10000,
                                              .node = cluster->nodes[1].node,
                                              .pause_us = 100000};
        CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &fault), GWTF_OK);
        fault.kind = GWTF_SIMULATION_CRASH;
        fault.at_us = at_us;
        fault.notice_us = 1000;
        CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &fault), GWTF_OK);
        CU_ASSERT_EQUAL(gwtf_simulation_run(simulation, GWTF_TIME_NEVER), GWTF_OK);
        CU_ASSERT_EQUAL(gwtf_simulation_get_totals(simulation).iterations, 40);
        gwtf_simulation_destroy(simulation);
    }
}

/* Seed 953000051008: a data node sent a microbatch of validation again, since a node of its way was
 * lost; a relay passed it to that node once more, not having heard of the loss, and the node's word
 * that it had it, which came twice, from the time before, freed the relay's slot. */
static void an_acceptance_that_comes_twice_is_of_one_slot(void) {
    CU_ASSERT_TRUE(in_disorder(fences_the_suspected, 953000051008, NULL));
}

static const struct mix joins_and_losses = {
    .joins = true, .crashes = true, .suspicions = true, .returns = true, .longer = true};

/* Seed 90: who left waited to be let go by others that had left just before, and did not know it.
 */
static void who_leaves_does_not_wait_for_those_who_left_as_it_came(void) {
    CU_ASSERT_TRUE(
        in_disorder(survives, 90, &(struct mix){.joins = true, .leaves = true, .longer = true}));
}

/* Seed 965900011006: a place was empty when another node asked, and was taken before that was let
 * in: it took the new one for down, and was a member without its word. */
static void who_was_absent_may_be_there_when_another_is_let_in(void) {
    CU_ASSERT_TRUE(
        in_disorder(survives, 965900011006, &(struct mix){.joins = true, .longer = true}));
}

/* Seed 967500022002: who was let in died, was declared down, and another one came in its place,
 * whom two slow nodes welcomed in the place of the first: nobody told it that it was down. */
static void who_comes_in_the_place_of_one_let_in_asks_whether_it_is_known(void) {
    CU_ASSERT_TRUE(in_disorder(survives, 967500022002, &joins_and_losses));
}

/* Seed 1795445126051: all had let a node go that was still at its validation; when that was over,
 * nothing came any more that would have made it go. */
static void who_is_let_go_before_its_validation_is_over_goes_then(void) {
    CU_ASSERT_TRUE(in_disorder(survives, 1795445126051,
                               &(struct mix){.joins = true,
                                             .leaves = true,
                                             .crashes = true,
                                             .suspicions = true,
                                             .returns = true,
                                             .longer = true}));
}

/* Seed 97500014003: who had left, and was still writing a snapshot, did not know those that came
 * with the next iteration, took what they said for a lost node's, and told them that they were. */
static void who_has_left_does_not_refuse_those_who_come(void) {
    schedules_share = true;
    CU_ASSERT_TRUE(
        in_disorder(survives, 97500014003,
                    &(struct mix){.joins = true, .leaves = true, .moves = true, .longer = true}));
    schedules_share = false;
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(who_has_come_back_does_not_speak_of_steps_before),
        GWTF_TEST(what_is_found_while_coming_back_is_told_later),
        GWTF_TEST(who_fetches_for_long_holds_up_one_step),
        GWTF_TEST(who_is_lost_again_does_not_count),
        GWTF_TEST(a_stage_with_its_sum_says_that_the_one_before_is_irreparable),
        GWTF_TEST(validation_ends_without_microbatches_of_a_lost_data_node),
        GWTF_TEST(what_a_substitute_refuses_is_kept_until_it_takes_it),
        GWTF_TEST(a_snapshot_that_only_a_lost_recorder_knew_of_is_given_up),
        GWTF_TEST(a_stage_with_its_sum_passes_on_that_the_next_is_irreparable),
        GWTF_TEST(a_data_node_sends_the_gradient_of_a_pass_again_while_the_next_is_out),
        GWTF_TEST(a_refusal_in_one_pass_does_not_count_in_the_next),
        GWTF_TEST(a_crash_in_backward_repeats_one_stage_or_the_pipeline),
        GWTF_TEST(a_side_that_learns_of_a_cut_in_parts_does_not_step_on_its_own),
        GWTF_TEST(who_is_behind_in_validation_ends_when_it_has_ended_too),
        GWTF_TEST(the_simulator_takes_reports_of_models_without_parameters),
        GWTF_TEST(who_has_taken_the_last_step_still_hears_of_losses),
        GWTF_TEST(a_stage_that_is_lost_when_all_is_done_keeps_nobody),
        GWTF_TEST(who_validates_begins_the_next_iteration_anew_too),
        GWTF_TEST(who_alone_misses_the_last_node_of_a_stage_leaves_unless_it_hears_it_again),
        GWTF_TEST(who_comes_back_is_asked_what_it_holds),
        GWTF_TEST(what_two_stages_on_is_forgotten_is_irreparable),
        GWTF_TEST(who_has_given_up_a_sum_does_not_say_that_it_has_it),
        GWTF_TEST(both_sides_of_a_cut_may_write_the_last_manifest),
        GWTF_TEST(who_misses_another_one_last_says_so),
        GWTF_TEST(two_broken_links_cost_one_of_two_replicas),
        GWTF_TEST(who_is_left_alone_waits_once),
        GWTF_TEST(a_recorder_that_stood_still_may_write_the_last_manifest_again),
        GWTF_TEST(a_recorder_that_stood_still_may_report_again),
        GWTF_TEST(who_validates_sends_again_what_is_of_the_next_iteration),
        GWTF_TEST(whom_an_iteration_counts_is_learnt_late_too),
        GWTF_TEST(irreparable_is_passed_on_and_later_back),
        GWTF_TEST(an_acceptance_that_comes_twice_is_of_one_slot),
        GWTF_TEST(who_leaves_does_not_wait_for_those_who_left_as_it_came),
        GWTF_TEST(who_was_absent_may_be_there_when_another_is_let_in),
        GWTF_TEST(who_comes_in_the_place_of_one_let_in_asks_whether_it_is_known),
        GWTF_TEST(who_is_let_go_before_its_validation_is_over_goes_then),
        GWTF_TEST(who_has_left_does_not_refuse_those_who_come),
        GWTF_TEST(who_lacks_the_norm_before_the_newest_is_told_it),
    };
    return gwtf_suite_main(argc, argv, "faults_found", tests, sizeof tests / sizeof tests[0],
                           make_cluster, free_cluster);
}
