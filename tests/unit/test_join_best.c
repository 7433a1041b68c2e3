/* What bench_join holds choices against is the best there is. */
#include "tests/bench/bench_join_best.h"
#include "tests/support/suite.h"

static struct join_run run;

static double try_all_pairs(void) {
    double least = 0;
    for (uint32_t i = 0; i < JOIN_CANDIDATES * JOIN_STAGES; i++) {
        for (uint32_t j = 0; j < i; j++) {
            const struct gwtf_arrival pair[] = {{i / JOIN_STAGES, 1 + i % JOIN_STAGES},
                                                {j / JOIN_STAGES, 1 + j % JOIN_STAGES}};
            if (pair[0].candidate == pair[1].candidate)
                continue;
            double cost = join_run_solve(&run, pair, 2).per_microbatch;
            least = least == 0 || cost < least ? cost : least;
        }
    }
    return least;
}

/* Whatever it begins with. */
static void of_pairs_the_search_finds_what_trying_all_finds(void) {
    static const struct join_setting settings[] = {{4, 20, 100}, {2, 1, 100}, {1, 1, 20}};
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct bench_join_best best = {.arrivals = {{0, 1}, {1, 1}}};
        join_run_init(&run, settings[seed - 1], seed);
        bench_join_find_best(&run, 2, &best);
        CU_ASSERT_EQUAL(best.per_microbatch, try_all_pairs());
        CU_ASSERT_EQUAL(best.per_microbatch, join_run_solve(&run, best.arrivals, 2).per_microbatch);
    }
}

static void of_one_it_finds_what_trying_all_finds(void) {
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct gwtf_arrival arrival;
        struct bench_join_best best = {.arrivals = {{0, 1}}};
        join_run_init(&run, (struct join_setting){4, 1, 100}, seed);
        bench_join_find_best(&run, 1, &best);
        CU_ASSERT_EQUAL(best.per_microbatch, join_run_best_of_one(&run, &arrival).per_microbatch);
    }
}

/* Candidates that carry nothing, with links dearer than any in use: only their aggregation counts.
 */
static void who_is_not_needed_costs_no_links(void) {
    struct bench_join_best best = {.arrivals = {{0, 1}, {1, 1}}};
    join_run_init(&run, (struct join_setting){4, 20, 60}, 1);
    double before = join_run_solve(&run, NULL, 0).per_microbatch;
    uint32_t flow = join_run_solve(&run, NULL, 0).flow;
    for (uint32_t i = 0; i < JOIN_CANDIDATES; i++)
        run.candidates[i] = (struct gwtf_arrival_candidate){
            .link_cost = 100, .aggregation_cost = run.aggregation_cost + (i < 2 ? 60 : 10)};
    bench_join_find_best(&run, 2, &best);
    CU_ASSERT_DOUBLE_EQUAL(best.per_microbatch, before + 10. / flow, 1e-9);
    CU_ASSERT(best.arrivals[0].candidate >= 2 && best.arrivals[1].candidate >= 2);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(of_pairs_the_search_finds_what_trying_all_finds),
        GWTF_TEST(of_one_it_finds_what_trying_all_finds),
        GWTF_TEST(who_is_not_needed_costs_no_links),
    };
    return gwtf_suite_main(argc, argv, "join_best", tests, sizeof tests / sizeof tests[0], NULL,
                           NULL);
}
