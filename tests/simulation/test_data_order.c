/* Data nodes that join, leave and are lost: which sequences the iterations take. */
#include "tests/simulation/cluster.h"
#include "tests/support/suite.h"

#include <stdlib.h>
#include <string.h>

#define ITERATIONS 30u
#define MICROBATCHES 4u /* of each of the two data nodes that are there at first */
#define PLACES_MAX 4096u
#define JOINS 2u /* the third data node */

static struct cluster *cluster;

/* What the works were about: in which iteration each sequence of the run's data, and of the third
 * node's own, was the first of a microbatch; and what the sums were scaled by. */
static struct {
    uint32_t taken[2][PLACES_MAX];
    uint32_t twice;
    double scale[ITERATIONS + 1];
} seen;

static int make_cluster(void) {
    cluster = calloc(1, sizeof *cluster);
    return cluster ? 0 : 1;
}

static int free_cluster(void) {
    free(cluster);
    return 0;
}

static void note_embedded(const struct gwtf_work *work, bool own) {
    uint64_t place = work->place % 1000000; /* own ones of a life begin at a million more */
    CU_ASSERT_FATAL(place < PLACES_MAX);
    uint32_t *taken = &seen.taken[own][place];
    /* The iteration may have begun anew. */
    seen.twice += *taken != 0 && *taken != work->iteration;
    *taken = work->iteration;
}

static void observe(void *context, gwtf_simulation *simulation,
                    const struct gwtf_simulation_notice *notice) {
    (void)context;
    (void)simulation;
    const struct gwtf_work *work = notice->work;
    if (notice->kind != GWTF_SIMULATION_WORK_BEGINS)
        return;
    if (work->kind == GWTF_WORK_EMBED)
        note_embedded(work, cluster->nodes[notice->index].own_data);
    if (work->kind == GWTF_WORK_REDUCE)
        seen.scale[work->iteration] = work->scale;
}

static void set_up(bool is_constant, bool own_data) {
    memset(&seen, 0, sizeof seen);
    cluster_init(cluster, 3, 2, 2, 3);
    cluster->nodes[JOINS].is_free = true;
    cluster->nodes[JOINS].own_data = own_data;
    cluster->config.last_iteration = ITERATIONS;
    cluster->config.microbatches = MICROBATCHES;
    cluster->config.batch_is_constant = is_constant;
    cluster->config.observe = observe;
}

static void inject(gwtf_simulation *simulation, enum gwtf_simulation_fault_kind kind,
                   gwtf_node_id node, gwtf_time_us at_us) {
    struct gwtf_simulation_fault fault = {
        .kind = kind, .at_us = at_us, .node = node, .notice_us = 1000};
    CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &fault), GWTF_OK);
}

/* The first microbatch's first sequence, and how many of them there are from there on, each with
 * the next two sequences. */
static uint32_t count_taken(bool own) {
    uint32_t first = 0, count = 0, all = 0;
    while (first < PLACES_MAX && seen.taken[own][first] == 0)
        first++;
    while (first + 2 * count < PLACES_MAX && seen.taken[own][first + 2 * count] != 0)
        count++;
    for (uint32_t i = 0; i < PLACES_MAX; i++)
        all += seen.taken[own][i] != 0;
    CU_ASSERT_EQUAL(all, count);
    return count;
}

static const struct gwtf_report *run(gwtf_simulation *simulation) {
    size_t count;
    CU_ASSERT_EQUAL_FATAL(gwtf_simulation_run(simulation, GWTF_TIME_NEVER), GWTF_OK);
    const struct gwtf_report *reports = gwtf_simulation_reports(simulation, &count);
    CU_ASSERT_EQUAL_FATAL(count, ITERATIONS);
    return reports;
}

static void whoever_is_there_shares_out_a_batch_of_one_size(void) {
    for (int64_t shift_us = 0; shift_us < 60000; shift_us += 3001) {
        set_up(true, false);
        gwtf_simulation *simulation = cluster_start(cluster);
        CU_ASSERT_PTR_NOT_NULL_FATAL(simulation);
        inject(simulation, GWTF_SIMULATION_RETURN, JOINS, 300000 + shift_us);
        inject(simulation, GWTF_SIMULATION_CRASH, 1, 1300000 + shift_us);
        inject(simulation, GWTF_SIMULATION_LEAVE, 0, 1900000 + shift_us);
        const struct gwtf_report *reports = run(simulation);
        for (uint32_t i = 0; i < ITERATIONS; i++) {
            CU_ASSERT_EQUAL(reports[i].microbatches, 2 * MICROBATCHES);
            CU_ASSERT_EQUAL(seen.scale[i + 1], 1);
        }
        CU_ASSERT_EQUAL(seen.twice, 0);
        CU_ASSERT_EQUAL(count_taken(false), ITERATIONS * 2 * MICROBATCHES);
        struct gwtf_simulation_totals totals = gwtf_simulation_get_totals(simulation);
        CU_ASSERT_EQUAL(totals.returned, 1);
        CU_ASSERT_EQUAL(totals.left, 1);
        gwtf_simulation_destroy(simulation);
    }
}

static void a_batch_grows_and_shrinks_with_the_data_nodes_and_sums_are_scaled(void) {
    bool grows = false, shrinks = false;
    set_up(false, false);
    gwtf_simulation *simulation = cluster_start(cluster);
    CU_ASSERT_PTR_NOT_NULL_FATAL(simulation);
    inject(simulation, GWTF_SIMULATION_RETURN, JOINS, 300000);
    inject(simulation, GWTF_SIMULATION_LEAVE, 0, 1000000);
    inject(simulation, GWTF_SIMULATION_LEAVE, 1, 1700000);
    const struct gwtf_report *reports = run(simulation);
    uint32_t all = 0;
    for (uint32_t i = 0; i < ITERATIONS; i++) {
        uint32_t microbatches = reports[i].microbatches;
        all += microbatches;
        grows = grows || microbatches == 3 * MICROBATCHES;
        shrinks = shrinks || microbatches == MICROBATCHES;
        CU_ASSERT_DOUBLE_EQUAL(seen.scale[i + 1], 2.0 * MICROBATCHES / microbatches, 1e-12);
    }
    CU_ASSERT_TRUE(grows && shrinks);
    CU_ASSERT_EQUAL(seen.twice, 0);
    CU_ASSERT_EQUAL(count_taken(false), all);
    gwtf_simulation_destroy(simulation);
}

static void who_has_data_of_its_own_leaves_the_runs_to_the_others(void) {
    set_up(true, true);
    gwtf_simulation *simulation = cluster_start(cluster);
    CU_ASSERT_PTR_NOT_NULL_FATAL(simulation);
    inject(simulation, GWTF_SIMULATION_RETURN, JOINS, 300000);
    run(simulation);
    CU_ASSERT_EQUAL(seen.twice, 0);
    uint32_t shared = count_taken(false), own = count_taken(true);
    CU_ASSERT_TRUE(own > 0);
    CU_ASSERT_EQUAL(shared + own, ITERATIONS * 2 * MICROBATCHES);
    gwtf_simulation_destroy(simulation);
}

/* The later one has to hear of the earlier one. */
static void who_comes_later_knows_who_has_data_of_its_own(void) {
    set_up(true, true);
    cluster->nodes[1].is_free = true;
    gwtf_simulation *simulation = cluster_start(cluster);
    CU_ASSERT_PTR_NOT_NULL_FATAL(simulation);
    inject(simulation, GWTF_SIMULATION_RETURN, JOINS, 300000);
    inject(simulation, GWTF_SIMULATION_RETURN, 1, 900000);
    run(simulation);
    CU_ASSERT_EQUAL(seen.twice, 0);
    uint32_t shared = count_taken(false), own = count_taken(true);
    CU_ASSERT_TRUE(own > 0);
    CU_ASSERT_EQUAL(shared + own, ITERATIONS * MICROBATCHES);
    gwtf_simulation_destroy(simulation);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(whoever_is_there_shares_out_a_batch_of_one_size),
        GWTF_TEST(a_batch_grows_and_shrinks_with_the_data_nodes_and_sums_are_scaled),
        GWTF_TEST(who_has_data_of_its_own_leaves_the_runs_to_the_others),
        GWTF_TEST(who_comes_later_knows_who_has_data_of_its_own),
    };
    return gwtf_suite_main(argc, argv, "data_order", tests, sizeof tests / sizeof tests[0],
                           make_cluster, free_cluster);
}
