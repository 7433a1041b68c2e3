#include "io/run.h"
#include "tests/support/suite.h"
#include "tests/support/tiny_run.h"
#include "worker/runtime/local.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ITERATIONS 6

struct losses {
    double loss[ITERATIONS + 1];
    double norm[ITERATIONS + 1];
    double validation_loss;
    uint32_t stop_after; /* 0: never */
    uint32_t last;
};

static void on_iteration(void *context, const struct gwtf_metrics *metrics) {
    struct losses *losses = context;
    losses->last = (uint32_t)metrics->iteration;
    losses->loss[losses->last] = metrics->loss;
    losses->norm[losses->last] = metrics->gradient_norm;
    if (!isnan(metrics->validation_loss))
        losses->validation_loss = metrics->validation_loss;
}

/* Asked after the iteration that follows losses->last. */
static bool stops(void *context) {
    const struct losses *losses = context;
    return losses->stop_after != 0 && losses->last + 1 == losses->stop_after;
}

static gwtf_status train(const struct gwtf_tiny_run *run, struct losses *losses, bool resumes) {
    struct gwtf_setup setup;
    struct gwtf_error error = {""};
    struct gwtf_snapshot_info snapshot = {.path = ""};
    struct gwtf_local_callbacks callbacks = {
        .iteration = on_iteration, .stop = stops, .context = losses};
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_open(&run->config, &setup, &error), GWTF_OK);
    if (resumes)
        CU_ASSERT_EQUAL_FATAL(gwtf_setup_find_snapshot(&setup, &snapshot, NULL, NULL, &error),
                              GWTF_OK);
    gwtf_status status =
        gwtf_local_train(&setup, (uint32_t)snapshot.step + 1, snapshot.path, &callbacks, &error);
    gwtf_setup_close(&setup);
    return status;
}

/* Trains a tiny run with OVERRIDES to its end. */
static struct losses train_with(const char *const *overrides, size_t count) {
    struct gwtf_tiny_run run;
    struct losses losses = {.validation_loss = NAN};
    gwtf_tiny_run_init(&run, overrides, count);
    CU_ASSERT_EQUAL(train(&run, &losses, false), GWTF_OK);
    gwtf_tiny_run_deinit(&run);
    return losses;
}

static void expect_equal(const struct losses *a, const struct losses *b, double tolerance) {
    for (int i = 1; i <= ITERATIONS; i++) {
        CU_ASSERT(fabs(a->loss[i] - b->loss[i]) <= tolerance * a->loss[i]);
        CU_ASSERT(fabs(a->norm[i] - b->norm[i]) <= 100 * tolerance * a->norm[i]);
    }
}

static void training_lowers_the_loss_and_measures_validation(void) {
    struct losses losses = train_with(NULL, 0);
    /* log(256): what an untrained model knows of a byte. */
    CU_ASSERT(fabs(losses.loss[1] - log(256)) < 0.1);
    CU_ASSERT(losses.loss[ITERATIONS] < losses.loss[1] - 0.2);
    CU_ASSERT(fabs(losses.validation_loss - losses.loss[ITERATIONS]) < 0.3);
}

static void the_number_of_stages_does_not_change_the_losses(void) {
    const char *one[] = {"pipeline.stages=1"}, *four[] = {"pipeline.stages=4"};
    struct losses a = train_with(one, 1), b = train_with(four, 1);
    expect_equal(&a, &b, 1e-6);
}

static void data_nodes_that_share_the_batch_do_not_change_the_losses(void) {
    const char *two[] = {"nodes.0.count=2", "batch.microbatches=2"};
    struct losses a = train_with(NULL, 0), b = train_with(two, 2);
    expect_equal(&a, &b, 1e-6);
}

static void both_backends_learn_the_same(void) {
    const char *reference[] = {"backend.kernels=\"reference\"", "model.family=llama",
                               "model.key_value_heads=1"};
    struct losses a = train_with(NULL, 0), b = train_with(reference, 1);
    expect_equal(&a, &b, 1e-5);
    struct losses c = train_with(&reference[1], 2), d = train_with(reference, 3);
    expect_equal(&c, &d, 1e-5);
    CU_ASSERT_NOT_EQUAL(a.loss[ITERATIONS], c.loss[ITERATIONS]);
    CU_ASSERT(c.loss[ITERATIONS] < c.loss[1]);
}

static void expect_same_after_a_stop(const char *const *overrides, size_t count) {
    struct losses whole = train_with(overrides, count);
    struct losses parts = {.validation_loss = NAN, .stop_after = 3};
    struct gwtf_tiny_run run;
    gwtf_tiny_run_init(&run, overrides, count);
    CU_ASSERT_EQUAL(train(&run, &parts, false), GWTF_ERROR_INTERRUPTED);
    CU_ASSERT_EQUAL(parts.last, 3);
    parts.stop_after = 0;
    CU_ASSERT_EQUAL(train(&run, &parts, true), GWTF_OK);
    gwtf_tiny_run_deinit(&run);
    /* One process, one order of sums: bit for bit. */
    for (int i = 1; i <= ITERATIONS; i++)
        CU_ASSERT_EQUAL(whole.loss[i], parts.loss[i]);
    CU_ASSERT_EQUAL(whole.validation_loss, parts.validation_loss);
}

static void a_stopped_run_resumes_to_the_same_losses(void) {
    const char *llama[] = {"model.family=llama", "model.key_value_heads=1"};
    expect_same_after_a_stop(NULL, 0);
    expect_same_after_a_stop(llama, 2);
}

static void a_snapshot_resumes_with_another_number_of_stages(void) {
    const char *four[] = {"pipeline.stages=4"};
    struct losses whole = train_with(NULL, 0), parts = {.validation_loss = NAN, .stop_after = 2};
    struct gwtf_tiny_run run;
    gwtf_tiny_run_init(&run, four, 1);
    CU_ASSERT_EQUAL(train(&run, &parts, false), GWTF_ERROR_INTERRUPTED);
    run.config.pipeline.stages = 1;
    parts.stop_after = 0;
    CU_ASSERT_EQUAL(train(&run, &parts, true), GWTF_OK);
    gwtf_tiny_run_deinit(&run);
    expect_equal(&whole, &parts, 1e-6);
}

/* What OVERRIDES make of the run that wrote a snapshot cannot go on from it; a plain llama can. */
static void a_snapshot_of_another_model_is_refused(void) {
    static const char *const others[] = {"model.heads=4",           "model.key_value_heads=1",
                                         "model.hidden=80",         "model.rope_theta=500",
                                         "model.norm_epsilon=1e-6", "model.tied_head=true",
                                         "model.family=gpt2"};
    const char *llama[] = {"model.family=llama", NULL};
    struct gwtf_tiny_run run;
    struct gwtf_setup setup;
    struct gwtf_snapshot_info snapshot;
    struct gwtf_error error;
    struct losses losses = {.stop_after = 1};
    gwtf_tiny_run_init(&run, llama, 1);
    CU_ASSERT_EQUAL(train(&run, &losses, false), GWTF_ERROR_INTERRUPTED);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_open(&run.config, &setup, &error), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_setup_find_snapshot(&setup, &snapshot, NULL, NULL, &error), GWTF_OK);
    CU_ASSERT_STRING_EQUAL(snapshot.family, "llama");
    gwtf_setup_close(&setup);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        struct gwtf_tiny_run other;
        llama[1] = others[i];
        gwtf_tiny_run_init(&other, llama, 2);
        snprintf(other.config.run.directory, sizeof other.config.run.directory, "%s",
                 run.config.run.directory);
        CU_ASSERT_EQUAL_FATAL(gwtf_setup_open(&other.config, &setup, &error), GWTF_OK);
        CU_ASSERT_EQUAL(gwtf_setup_find_snapshot(&setup, &snapshot, NULL, NULL, &error),
                        GWTF_ERROR_USAGE);
        CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "another model"));
        gwtf_setup_close(&setup);
        gwtf_tiny_run_deinit(&other);
    }
    gwtf_tiny_run_deinit(&run);
}

static void a_run_without_a_snapshot_says_how_to_start_again(void) {
    struct gwtf_tiny_run run;
    struct gwtf_setup setup;
    struct gwtf_snapshot_info snapshot;
    struct gwtf_error error;
    gwtf_tiny_run_init(&run, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_open(&run.config, &setup, &error), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_setup_find_snapshot(&setup, &snapshot, NULL, NULL, &error),
                    GWTF_ERROR_MISSING);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "no whole snapshot"));
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "--resume=auto"));
    gwtf_setup_close(&setup);
    gwtf_tiny_run_deinit(&run);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(training_lowers_the_loss_and_measures_validation),
        GWTF_TEST(the_number_of_stages_does_not_change_the_losses),
        GWTF_TEST(data_nodes_that_share_the_batch_do_not_change_the_losses),
        GWTF_TEST(both_backends_learn_the_same),
        GWTF_TEST(a_stopped_run_resumes_to_the_same_losses),
        GWTF_TEST(a_snapshot_resumes_with_another_number_of_stages),
        GWTF_TEST(a_snapshot_of_another_model_is_refused),
        GWTF_TEST(a_run_without_a_snapshot_says_how_to_start_again),
    };
    return gwtf_suite_main(argc, argv, "local", tests, sizeof tests / sizeof tests[0], NULL, NULL);
}
