/* Which stages nodes that arrive get, and who of several that could come. */
#include "flow/arrival.h"
#include "tests/support/join_run.h"
#include "tests/support/suite.h"

#include <string.h>

#define STAGES 3

/* Three stages of 30, 20 and 40 in flows, hops of 50, four candidates alike. Of links, only what
 * the dearest one of a hop costs is known. */
struct setting {
    struct gwtf_arrival_stage stages[STAGES];
    struct gwtf_arrival_hop hops[STAGES + 1];
    struct gwtf_arrival_candidate candidates[4];
    struct gwtf_arrival_run run;
    struct gwtf_arrival arrivals[GWTF_ARRIVALS_MAX];
};

static void begin(struct setting *setting) {
    static const uint32_t capacity[STAGES] = {30, 20, 40};
    memset(setting, 0, sizeof *setting);
    for (int s = 0; s < STAGES; s++)
        setting->stages[s] = (struct gwtf_arrival_stage){.capacity = capacity[s], .places = 4};
    for (int hop = 0; hop <= STAGES; hop++)
        setting->hops[hop].cost = 50;
    for (int i = 0; i < 4; i++)
        setting->candidates[i] = (struct gwtf_arrival_candidate){
            .capacity = 10, .link_cost = 50, .aggregation_cost = 150, .speed = 1};
    setting->run = (struct gwtf_arrival_run){
        .stages = STAGES, .stage = setting->stages, .hops = setting->hops, .aggregation_cost = 200};
}

static uint32_t choose(struct setting *setting, uint32_t candidates, uint32_t wanted) {
    memset(setting->arrivals, 0xff, sizeof setting->arrivals);
    return gwtf_arrival_choose(&setting->run, setting->candidates, candidates, wanted,
                               setting->arrivals);
}

static struct gwtf_arrival_value predict(const struct setting *setting, uint32_t count) {
    return gwtf_arrival_predict(&setting->run, setting->candidates, setting->arrivals, count);
}

static uint32_t arrivals_in(const struct setting *setting, uint32_t count, uint32_t stage) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++)
        found += setting->arrivals[i].stage == stage;
    return found;
}

static void the_tightest_stage_gets_the_node(void) {
    struct setting setting;
    for (uint32_t tightest = 1; tightest <= STAGES; tightest++) {
        begin(&setting);
        setting.stages[1].capacity = 30;
        setting.stages[tightest - 1].capacity = 15;
        CU_ASSERT_EQUAL(choose(&setting, 1, 1), 1);
        CU_ASSERT_EQUAL(setting.arrivals[0].candidate, 0);
        CU_ASSERT_EQUAL(setting.arrivals[0].stage, tightest);
    }
}

static void it_gets_it_when_nothing_is_known_of_costs(void) {
    struct setting setting;
    begin(&setting);
    setting.run.hops = NULL;
    setting.run.aggregation_cost = setting.candidates[0].aggregation_cost = 0;
    CU_ASSERT_EQUAL(choose(&setting, 1, 1), 1);
    CU_ASSERT_EQUAL(setting.arrivals[0].stage, 2);
}

static void several_are_spread_where_stages_are_as_tight(void) {
    struct setting setting;
    begin(&setting);
    for (int s = 0; s < STAGES; s++)
        setting.stages[s].capacity = 20;
    CU_ASSERT_EQUAL(choose(&setting, 4, 3), 3);
    for (uint32_t stage = 1; stage <= STAGES; stage++)
        CU_ASSERT_EQUAL(arrivals_in(&setting, 3, stage), 1);
}

/* Another one in stage 2 holds more than two in stages that need none. */
static void several_may_go_to_one_stage(void) {
    struct setting setting;
    begin(&setting);
    setting.stages[0].capacity = 40;
    CU_ASSERT_EQUAL(choose(&setting, 4, 2), 2);
    CU_ASSERT_EQUAL(arrivals_in(&setting, 2, 2), 2);
    CU_ASSERT_NOT_EQUAL(setting.arrivals[0].candidate, setting.arrivals[1].candidate);
}

static void who_holds_little_is_left_out(void) {
    struct setting setting;
    begin(&setting);
    for (int s = 0; s < STAGES; s++)
        setting.stages[s].capacity = 20;
    setting.candidates[1].capacity = 2;
    CU_ASSERT_EQUAL(choose(&setting, 4, 3), 3);
    uint32_t taken = 0;
    for (int i = 0; i < 3; i++)
        taken |= 1u << setting.arrivals[i].candidate;
    CU_ASSERT_EQUAL(taken, 1u << 0 | 1u << 2 | 1u << 3);
}

static void fewer_come_where_there_are_fewer_places(void) {
    struct setting setting;
    begin(&setting);
    setting.stages[0].places = 1;
    setting.stages[1].places = 0;
    setting.stages[2].places = 1;
    CU_ASSERT_EQUAL(choose(&setting, 4, 4), 2);
    CU_ASSERT_EQUAL(arrivals_in(&setting, 2, 1), 1);
    CU_ASSERT_EQUAL(arrivals_in(&setting, 2, 3), 1);
    setting.stages[0].places = setting.stages[2].places = 0;
    CU_ASSERT_EQUAL(choose(&setting, 4, 4), 0);
    CU_ASSERT_EQUAL(setting.arrivals[0].stage, UINT32_MAX); /* untouched */
}

static void fewer_come_where_there_are_fewer_candidates(void) {
    struct setting setting;
    begin(&setting);
    setting.stages[1].capacity = 10;
    setting.candidates[1].capacity = 2; /* the other one twice would be better */
    CU_ASSERT_EQUAL(choose(&setting, 2, 4), 2);
    CU_ASSERT_NOT_EQUAL(setting.arrivals[0].candidate, setting.arrivals[1].candidate);
    CU_ASSERT_EQUAL(choose(&setting, 0, 4), 0);
}

/* Candidates and stages alike: the first ones, each time. */
static void equal_figures_give_an_equal_choice(void) {
    struct setting setting, other;
    begin(&setting);
    setting.stages[0].capacity = setting.stages[2].capacity = 20;
    other = setting;
    other.run.stage = other.stages;
    other.run.hops = other.hops;
    CU_ASSERT_EQUAL(choose(&setting, 4, 1), 1);
    CU_ASSERT_EQUAL(setting.arrivals[0].candidate, 0);
    CU_ASSERT_EQUAL(setting.arrivals[0].stage, 1);
    for (uint32_t wanted = 1; wanted <= 4; wanted++) {
        CU_ASSERT_EQUAL(choose(&setting, 4, wanted), wanted);
        CU_ASSERT_EQUAL(choose(&other, 4, wanted), wanted);
        for (uint32_t i = 0; i < wanted; i++) {
            CU_ASSERT_EQUAL(setting.arrivals[i].candidate, other.arrivals[i].candidate);
            CU_ASSERT_EQUAL(setting.arrivals[i].stage, other.arrivals[i].stage);
        }
    }
}

/* Stage 3 takes 12 / 2 = 6 for a microbatch, the others 3; stage 2 holds the fewest. */
static void the_slowest_stage_gets_the_node(void) {
    struct setting setting;
    begin(&setting);
    setting.run.hops = NULL;
    for (int s = 0; s < STAGES; s++) {
        setting.stages[s].work = 12;
        setting.stages[s].speed = s == 2 ? 2 : 4;
    }
    setting.run.aggregation_cost = setting.candidates[0].aggregation_cost = 0;
    CU_ASSERT_DOUBLE_EQUAL(predict(&setting, 0).time, 6, 1e-9);
    CU_ASSERT_EQUAL(choose(&setting, 1, 1), 1);
    CU_ASSERT_EQUAL(setting.arrivals[0].stage, 3);
    CU_ASSERT_DOUBLE_EQUAL(predict(&setting, 1).time, 4, 1e-9);
}

/* Flows cost 200 / 20 = 10 for a microbatch, where the slowest stage takes 6. */
static void the_tightest_one_gets_it_where_costs_are_more_than_work(void) {
    struct setting setting;
    begin(&setting);
    setting.run.hops = NULL;
    for (int s = 0; s < STAGES; s++) {
        setting.stages[s].work = 12;
        setting.stages[s].speed = s == 2 ? 2 : 4;
    }
    CU_ASSERT_DOUBLE_EQUAL(predict(&setting, 0).time, 10, 1e-9);
    CU_ASSERT_EQUAL(choose(&setting, 1, 1), 1);
    CU_ASSERT_EQUAL(setting.arrivals[0].stage, 2);
}

static void the_fastest_one_goes_to_the_slowest_stage(void) {
    struct setting setting;
    begin(&setting);
    setting.run.hops = NULL;
    for (int s = 0; s < STAGES; s++) {
        setting.stages[s].work = 120;
        setting.stages[s].speed = s == 2 ? 2 : 4;
    }
    setting.candidates[2].speed = 2;
    CU_ASSERT_EQUAL(choose(&setting, 4, 1), 1);
    CU_ASSERT_EQUAL(setting.arrivals[0].candidate, 2);
    CU_ASSERT_EQUAL(setting.arrivals[0].stage, 3);
    CU_ASSERT_DOUBLE_EQUAL(predict(&setting, 1).time, 30, 1e-9);
}

/* It gains no time, but one of them is less loaded. */
static void of_stages_as_slow_the_first_gets_the_fastest_one(void) {
    struct setting setting;
    begin(&setting);
    setting.run.hops = NULL;
    setting.run.aggregation_cost = 0;
    for (int s = 0; s < STAGES; s++) {
        setting.stages[s].work = 120;
        setting.stages[s].speed = s == 0 ? 4 : 2;
    }
    setting.candidates[1].capacity = 5;
    setting.candidates[1].speed = 3;
    CU_ASSERT_EQUAL(choose(&setting, 4, 1), 1);
    CU_ASSERT_EQUAL(setting.arrivals[0].candidate, 1);
    CU_ASSERT_EQUAL(setting.arrivals[0].stage, 2);
}

/*
 * Stages that take 60, 50 and 30: the large one in the first leaves 120 / 3 = 40, and moving either
 * one alone 50 or more; once they change places it is 120 / 3.4.
 */
static void two_arrivals_change_places(void) {
    struct setting setting;
    begin(&setting);
    setting.run.hops = NULL;
    static const double speed[STAGES] = {2, 2.4, 4};
    for (int s = 0; s < STAGES; s++) {
        setting.stages[s].work = 120;
        setting.stages[s].speed = speed[s];
    }
    setting.candidates[1].capacity = 2;
    setting.candidates[1].speed = 8;
    CU_ASSERT_EQUAL(choose(&setting, 2, 2), 2);
    CU_ASSERT_DOUBLE_EQUAL(predict(&setting, 2).time, 120 / 3.4, 1e-9);
}

/*
 * Two stages of 20: two candidates with links of 90 make the flow 30 and three hops dear, two with
 * links of 50 make it less and none dear; one of each does neither. Costs per microbatch: 840 / 30,
 * and 600 / 25 or 600 / 21.
 */
static void large_ones_or_cheap_ones_come_together(void) {
    struct setting setting;
    for (uint32_t capacity = 1; capacity <= 5; capacity += 4) {
        begin(&setting);
        setting.stages[0].capacity = 20;
        setting.candidates[0].link_cost = setting.candidates[1].link_cost = 90;
        setting.candidates[2].capacity = setting.candidates[3].capacity = capacity;
        CU_ASSERT_EQUAL(choose(&setting, 4, 2), 2);
        for (int i = 0; i < 2; i++)
            CU_ASSERT_EQUAL(setting.arrivals[i].candidate >= 2, capacity == 5);
        CU_ASSERT_DOUBLE_EQUAL(predict(&setting, 2).time, capacity == 5 ? 24 : 28, 1e-9);
    }
}

static void of_two_as_large_the_one_with_cheap_links_is_taken(void) {
    struct setting setting;
    for (uint32_t dear = 0; dear < 2; dear++) {
        begin(&setting);
        setting.candidates[dear].link_cost = 90;
        setting.candidates[1 - dear].link_cost = 30;
        CU_ASSERT_EQUAL(choose(&setting, 2, 1), 1);
        CU_ASSERT_EQUAL(setting.arrivals[0].candidate, 1 - dear);
        CU_ASSERT_EQUAL(setting.arrivals[0].stage, 2);
    }
}

static void of_two_as_large_the_one_that_aggregates_cheaply_is_taken(void) {
    struct setting setting;
    for (uint32_t dear = 0; dear < 2; dear++) {
        begin(&setting);
        setting.candidates[dear].aggregation_cost = 250;
        CU_ASSERT_EQUAL(choose(&setting, 2, 1), 1);
        CU_ASSERT_EQUAL(setting.arrivals[0].candidate, 1 - dear);
    }
}

/*
 * Two stages of 20 and 30, hops of 60, 50 and 30, an aggregation of 200. Four flows of stage 1 came
 * at 60 and left at 50, the others came at 52 and left at 30. Who arrives has links of 45.
 */
static void begin_by_hand(struct setting *setting) {
    static const struct gwtf_arrival_pass first[] = {{60, 50, 4}, {52, 30, 16}};
    static const struct gwtf_arrival_pass second[] = {{50, 30, 20}};
    begin(setting);
    setting->run.stages = 2;
    setting->stages[0].capacity = 20;
    setting->stages[0].passes = first;
    setting->stages[0].passes_count = 2;
    setting->stages[1].capacity = 30;
    setting->stages[1].passes = second;
    setting->stages[1].passes_count = 1;
    setting->hops[0].cost = 60;
    setting->hops[2].cost = 30;
    setting->candidates[0].link_cost = 45;
    setting->arrivals[0] = (struct gwtf_arrival){0, 1};
}

/* Of one arrival in stage 1 with CAPACITY. */
static double predict_with(struct setting *setting, uint32_t capacity) {
    setting->candidates[0].capacity = capacity;
    return predict(setting, 1).time;
}

static void new_flows_are_predicted_as_by_hand(void) {
    struct setting setting;
    begin_by_hand(&setting);
    CU_ASSERT_DOUBLE_EQUAL(predict(&setting, 0).time, (2 * (60 + 50 + 30) + 200) / 20., 1e-9);
    CU_ASSERT_DOUBLE_EQUAL(predict(&setting, 0).load, 1 + 256. / 6561, 1e-9); /* (2 / 3)^8 */
    CU_ASSERT_DOUBLE_EQUAL(predict_with(&setting, 8), (2 * (60 + 50 + 30) + 200) / 28., 1e-9);
    setting.run.flow_most = 25;
    CU_ASSERT_DOUBLE_EQUAL(predict_with(&setting, 8), (2 * (60 + 50 + 30) + 200) / 25., 1e-9);
}

/* Of 14 that the arrival carries ten are new; four cost 110 rather than 90, those at 82 stay. */
static void flows_taken_over_are_predicted_as_by_hand(void) {
    struct setting setting;
    begin_by_hand(&setting);
    setting.candidates[0].aggregation_cost = 290;
    CU_ASSERT_DOUBLE_EQUAL(predict_with(&setting, 13), (2 * (60 + 50 + 30) + 290) / 30., 1e-9);
    CU_ASSERT_DOUBLE_EQUAL(predict_with(&setting, 14), (2 * (52 + 45 + 30) + 290) / 30., 1e-9);
    CU_ASSERT_DOUBLE_EQUAL(predict_with(&setting, 40), (2 * (52 + 45 + 30) + 290) / 30., 1e-9);
    /* With links of 39 those at 82 cost less over the arrival, too. */
    setting.candidates[0].link_cost = 39;
    CU_ASSERT_DOUBLE_EQUAL(predict_with(&setting, 29), (2 * (52 + 39 + 30) + 290) / 30., 1e-9);
    CU_ASSERT_DOUBLE_EQUAL(predict_with(&setting, 30), (2 * (39 + 39 + 30) + 290) / 30., 1e-9);
    /* In stage 2 nothing is new, and not all are taken over. */
    setting.arrivals[0].stage = 2;
    CU_ASSERT_DOUBLE_EQUAL(predict_with(&setting, 14), (2 * (60 + 50 + 39) + 290) / 20., 1e-9);
}

/* Links of hop 1 up to 45 and an arrival of 14 carry 24, those up to 55 34. */
static void what_a_hop_can_carry_is_predicted_as_by_hand(void) {
    static const struct gwtf_arrival_reach reaches[] = {{45, 10}, {55, 20}, {80, 30}};
    struct setting setting;
    begin_by_hand(&setting);
    setting.hops[1].reaches = reaches;
    setting.hops[1].reaches_count = 3;
    CU_ASSERT_DOUBLE_EQUAL(predict_with(&setting, 14), (2 * (52 + 55 + 30) + 200) / 30., 1e-9);
    setting.arrivals[0].stage = 2; /* 24 are enough for the 20 there are */
    CU_ASSERT_DOUBLE_EQUAL(predict_with(&setting, 14), (2 * (60 + 50 + 30) + 200) / 20., 1e-9);
    setting.candidates[0].link_cost = 90; /* nobody goes over it */
    CU_ASSERT_DOUBLE_EQUAL(predict_with(&setting, 14), (2 * (60 + 55 + 30) + 200) / 20., 1e-9);
}

/* Whatever their order. */
static void of_two_in_a_stage_the_cheaper_one_carries_first(void) {
    struct setting setting;
    begin_by_hand(&setting);
    setting.candidates[1].link_cost = 90;
    for (uint32_t i = 0; i < 2; i++) {
        setting.arrivals[i] = (struct gwtf_arrival){0, 1};
        setting.arrivals[1 - i] = (struct gwtf_arrival){1, 1};
        CU_ASSERT_DOUBLE_EQUAL(predict(&setting, 2).time, (2 * (60 + 50 + 30) + 200) / 30., 1e-9);
    }
}

/* Without hops they are left out of the sum. */
static void links_that_are_not_known_cost_nothing(void) {
    struct setting setting;
    begin(&setting);
    setting.run.hops = NULL;
    CU_ASSERT_DOUBLE_EQUAL(predict(&setting, 0).time, 200 / 20., 1e-9);
}

static void in_random_runs_the_choice_is_nearly_the_best(void) {
    static struct join_run run;
    const struct join_setting small = {.relays = 4, .cost_least = 20, .cost_most = 100};
    double ratios = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct gwtf_arrival best, chosen[GWTF_ARRIVALS_MAX];
        join_run_init(&run, small, seed);
        double least = join_run_best_of_one(&run, &best).per_microbatch;
        CU_ASSERT_EQUAL_FATAL(
            gwtf_arrival_choose(&run.known, run.candidates, JOIN_CANDIDATES, 1, chosen), 1);
        double ratio = join_run_solve(&run, chosen, 1).per_microbatch / least;
        CU_ASSERT(ratio >= 1);
        ratios += ratio;
    }
    CU_ASSERT(ratios / 20 <= 1.03);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(the_tightest_stage_gets_the_node),
        GWTF_TEST(it_gets_it_when_nothing_is_known_of_costs),
        GWTF_TEST(several_are_spread_where_stages_are_as_tight),
        GWTF_TEST(several_may_go_to_one_stage),
        GWTF_TEST(who_holds_little_is_left_out),
        GWTF_TEST(fewer_come_where_there_are_fewer_places),
        GWTF_TEST(fewer_come_where_there_are_fewer_candidates),
        GWTF_TEST(equal_figures_give_an_equal_choice),
        GWTF_TEST(the_slowest_stage_gets_the_node),
        GWTF_TEST(the_tightest_one_gets_it_where_costs_are_more_than_work),
        GWTF_TEST(the_fastest_one_goes_to_the_slowest_stage),
        GWTF_TEST(of_stages_as_slow_the_first_gets_the_fastest_one),
        GWTF_TEST(two_arrivals_change_places),
        GWTF_TEST(large_ones_or_cheap_ones_come_together),
        GWTF_TEST(of_two_as_large_the_one_with_cheap_links_is_taken),
        GWTF_TEST(of_two_as_large_the_one_that_aggregates_cheaply_is_taken),
        GWTF_TEST(new_flows_are_predicted_as_by_hand),
        GWTF_TEST(flows_taken_over_are_predicted_as_by_hand),
        GWTF_TEST(what_a_hop_can_carry_is_predicted_as_by_hand),
        GWTF_TEST(of_two_in_a_stage_the_cheaper_one_carries_first),
        GWTF_TEST(links_that_are_not_known_cost_nothing),
        GWTF_TEST(in_random_runs_the_choice_is_nearly_the_best),
    };
    return gwtf_suite_main(argc, argv, "arrival", tests, sizeof tests / sizeof tests[0], NULL,
                           NULL);
}
