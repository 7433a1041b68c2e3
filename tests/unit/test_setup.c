#include "tests/support/suite.h"
#include "tests/support/tiny_run.h"
#include "worker/runtime/setup.h"

#include <stdlib.h>
#include <string.h>

/* What gwtf_setup_open says to one more override; "" when it accepts it. The line is the caller's
 * to read until the next. */
static const char *complaint(const char *override) {
    static struct gwtf_error error;
    struct gwtf_tiny_run run;
    struct gwtf_setup setup;
    error.text[0] = '\0';
    gwtf_tiny_run_init(&run, &override, 1);
    gwtf_status status = gwtf_setup_open(&run.config, &setup, &error);
    if (status == GWTF_OK)
        gwtf_setup_close(&setup);
    else
        CU_ASSERT_EQUAL(status, GWTF_ERROR_USAGE);
    gwtf_tiny_run_deinit(&run);
    return error.text;
}

static void data_that_does_not_fit_is_refused_with_a_reason(void) {
    CU_ASSERT_STRING_EQUAL(complaint("run.seed=4"), "");
    CU_ASSERT_PTR_NOT_NULL(strstr(complaint("model.vocabulary=100"), "model.vocabulary is 100"));
    CU_ASSERT_PTR_NOT_NULL(strstr(complaint("model.context=100000"), "data.train"));
    CU_ASSERT_PTR_NOT_NULL(strstr(complaint("model.context=2000"), "data.validation"));
    CU_ASSERT_PTR_NOT_NULL(strstr(complaint("batch.microbatch=5000"), "do not fill a microbatch"));
    CU_ASSERT_PTR_NOT_NULL(strstr(complaint("data.train=\"nowhere.h5\""), "nowhere.h5"));
    CU_ASSERT_PTR_NOT_NULL(strstr(complaint("nodes.1.capacity=4097"), "4097"));
}

/* More than the protocol's tables hold: 255 stages, 1024 replicas of one. */
static void a_run_too_large_for_the_protocol_is_refused_before_it_starts(void) {
    CU_ASSERT_PTR_NOT_NULL(strstr(complaint("nodes.1.count=2049"), "stage 1 has 1025 nodes"));
    CU_ASSERT_PTR_NOT_NULL(strstr(complaint("nodes.0.count=1025"), "stage 0 has 1025 nodes"));
    const char *overrides[] = {"model.layers=256", "nodes.1.count=256", "pipeline.stages=256"};
    struct gwtf_tiny_run run;
    struct gwtf_setup setup;
    struct gwtf_error error = {""};
    gwtf_tiny_run_init(&run, overrides, 3);
    CU_ASSERT_EQUAL(gwtf_setup_open(&run.config, &setup, &error), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "pipeline.stages"));
    gwtf_tiny_run_deinit(&run);
}

static void a_relay_needs_no_data(void) {
    const char *overrides[] = {"model.vocabulary=256", "data.train=\"absent.h5\"",
                               "data.validation=\"absent too.h5\""};
    struct gwtf_tiny_run run;
    struct gwtf_setup setup;
    gwtf_tiny_run_init(&run, overrides, 3);
    CU_ASSERT_EQUAL(gwtf_setup_open(&run.config, &setup, NULL), GWTF_ERROR_USAGE);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_open_relay(&run.config, &setup, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(setup.model.vocabulary, 256);
    CU_ASSERT_EQUAL(setup.relays, 4);
    CU_ASSERT_PTR_NULL(setup.train);
    gwtf_setup_close(&setup);
    gwtf_tiny_run_deinit(&run);
}

static void relays_are_spread_evenly_over_the_stages(void) {
    const char *overrides[] = {"nodes.0.count=2", "nodes.1.count=7", "pipeline.stages=3"};
    struct gwtf_tiny_run run;
    struct gwtf_setup setup;
    struct gwtf_placement *placements;
    uint32_t replicas[4] = {0};
    gwtf_tiny_run_init(&run, overrides, 3);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_open(&run.config, &setup, NULL), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_place(&setup, &placements, NULL), GWTF_OK);
    for (uint32_t i = 0; i < 9; i++) {
        CU_ASSERT_EQUAL(placements[i].node, i);
        replicas[placements[i].stage]++;
    }
    CU_ASSERT_EQUAL(replicas[0], 2);
    CU_ASSERT_EQUAL(replicas[1], 3);
    CU_ASSERT_EQUAL(replicas[2], 2);
    CU_ASSERT_EQUAL(replicas[3], 2);
    /* 2 data nodes with 4 microbatches each: 8 over 3 replicas, over 2 replicas. */
    CU_ASSERT_EQUAL(placements[2].capacity_useful, 3);
    CU_ASSERT_EQUAL(placements[3].capacity_useful, 4);
    free(placements);
    gwtf_setup_close(&setup);
    gwtf_tiny_run_deinit(&run);
}

static void read_window(const struct gwtf_setup *setup, bool validation, uint32_t rank,
                        uint32_t index, uint32_t window[16]) {
    uint32_t labels[16];
    gwtf_setup_batch(setup, validation, 2, rank, index, window, labels);
    CU_ASSERT_EQUAL(memcmp(window + 1, labels, 7 * sizeof *labels), 0);
    CU_ASSERT_EQUAL(memcmp(window + 9, labels + 8, 7 * sizeof *labels), 0);
}

static void the_global_batch_does_not_depend_on_the_number_of_data_nodes(void) {
    const char *two[] = {"nodes.0.count=2", "batch.microbatches=2"};
    struct gwtf_tiny_run run, other_run;
    struct gwtf_setup setup, other;
    gwtf_tiny_run_init(&run, NULL, 0);
    gwtf_tiny_run_init(&other_run, two, 2);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_open(&run.config, &setup, NULL), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_open(&other_run.config, &other, NULL), GWTF_OK);
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t window[16], again[16];
        read_window(&setup, false, 0, i, window);
        read_window(&other, false, i / 2, i % 2, again);
        CU_ASSERT_EQUAL(memcmp(window, again, sizeof window), 0);
    }
    CU_ASSERT_EQUAL(gwtf_setup_loss_scale(&setup), gwtf_setup_loss_scale(&other));
    gwtf_setup_close(&setup);
    gwtf_setup_close(&other);
    gwtf_tiny_run_deinit(&run);
    gwtf_tiny_run_deinit(&other_run);
}

static void validation_is_shared_out_once(void) {
    const char *overrides[] = {"nodes.0.count=3"};
    struct gwtf_tiny_run run;
    struct gwtf_setup setup;
    uint32_t all = 0;
    gwtf_tiny_run_init(&run, overrides, 1);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_open(&run.config, &setup, NULL), GWTF_OK);
    for (uint32_t rank = 0; rank < 3; rank++) {
        uint32_t window[16];
        all += gwtf_setup_validation_share(&setup, rank);
        read_window(&setup, true, rank, gwtf_setup_validation_share(&setup, rank) - 1, window);
    }
    CU_ASSERT_EQUAL(all, setup.validation_microbatches);
    CU_ASSERT_EQUAL(setup.validation_windows, 2 * (uint64_t)all);
    gwtf_setup_close(&setup);
    gwtf_tiny_run_deinit(&run);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(data_that_does_not_fit_is_refused_with_a_reason),
        GWTF_TEST(a_run_too_large_for_the_protocol_is_refused_before_it_starts),
        GWTF_TEST(a_relay_needs_no_data),
        GWTF_TEST(relays_are_spread_evenly_over_the_stages),
        GWTF_TEST(the_global_batch_does_not_depend_on_the_number_of_data_nodes),
        GWTF_TEST(validation_is_shared_out_once),
    };
    return gwtf_suite_main(argc, argv, "setup", tests, sizeof tests / sizeof tests[0], NULL, NULL);
}
