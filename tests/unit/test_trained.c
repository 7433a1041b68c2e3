#include "io/run.h"
#include "tests/support/suite.h"
#include "tests/support/tiny_run.h"
#include "worker/runtime/local.h"
#include "worker/runtime/trained.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct gwtf_tiny_run run;
static struct gwtf_snapshot_info info;

static void ignore(void *context, const struct gwtf_metrics *metrics) {
    (void)context;
    (void)metrics;
}

static bool never(void *context) {
    (void)context;
    return false;
}

static int train(void) {
    struct gwtf_setup setup;
    struct gwtf_error error = {""};
    const struct gwtf_local_callbacks callbacks = {.iteration = ignore, .stop = never};
    gwtf_tiny_run_init(&run, NULL, 0);
    if (gwtf_setup_open(&run.config, &setup, &error) != GWTF_OK)
        return 1;
    bool good = gwtf_local_train(&setup, 1, "", &callbacks, &error) == GWTF_OK &&
                gwtf_setup_find_snapshot(&setup, &info, NULL, NULL, &error) == GWTF_OK;
    gwtf_setup_close(&setup);
    return !good;
}

static int clean_up(void) {
    gwtf_tiny_run_deinit(&run);
    return 0;
}

static struct gwtf_trained *open_trained(uint32_t sequences) {
    struct gwtf_trained *trained = NULL;
    struct gwtf_error error = {""};
    CU_ASSERT_EQUAL_FATAL(gwtf_trained_open(&info, sequences, 1, &trained, &error), GWTF_OK);
    return trained;
}

/* Tokens 0..T of sequence NUMBER. */
static void take_sequence(uint32_t number, uint32_t *tokens, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        tokens[i] = (number * 77 + i * i * 13) % 256;
}

/* -log p(label), of the softmax of LOGITS. */
static double cost_of(const float *logits, uint32_t count, uint32_t label) {
    double sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += exp((double)logits[i] - (double)logits[label]);
    return log(sum);
}

static void what_comes_next_is_what_the_loss_is_of(void) {
    struct gwtf_trained *trained = open_trained(1);
    const struct gwtf_model_shape *model = gwtf_trained_model(trained);
    struct gwtf_error error = {""};
    uint32_t tokens[9];
    float logits[256];
    double sum = 0;
    CU_ASSERT_EQUAL_FATAL(model->context, 8);
    CU_ASSERT_EQUAL_FATAL(model->vocabulary, 256);
    take_sequence(1, tokens, 9);
    for (uint32_t count = 1; count <= 8; count++) {
        CU_ASSERT_EQUAL_FATAL(gwtf_trained_next(trained, tokens, count, logits, &error), GWTF_OK);
        sum += cost_of(logits, 256, tokens[count]);
    }
    CU_ASSERT_DOUBLE_EQUAL(sum, gwtf_trained_loss(trained, tokens, tokens + 1, 1), 1e-4);
    /* What was asked before leaves no trace. */
    float again[256];
    gwtf_trained_next(trained, tokens, 8, again, &error);
    CU_ASSERT_EQUAL(memcmp(logits, again, sizeof logits), 0);
    gwtf_trained_close(trained);
}

/* What comes next after TOKENS, of a model that has seen nothing of them before. */
static void next_afresh(struct gwtf_trained *trained, const uint32_t *tokens, uint32_t count,
                        float *logits) {
    uint32_t other[8];
    struct gwtf_error error = {""};
    take_sequence(9, other, 8);
    other[0] = tokens[0] + 1;
    CU_ASSERT_EQUAL(gwtf_trained_next(trained, other, 8, logits, &error), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_trained_next(trained, tokens, count, logits, &error), GWTF_OK);
}

static double apart(const float *a, const float *b, size_t count) {
    double worst = 0;
    for (size_t i = 0; i < count; i++)
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    return worst;
}

static size_t likeliest(const float *logits, size_t count) {
    size_t best = 0;
    for (size_t i = 1; i < count; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

static void what_is_kept_of_a_text_gives_what_all_of_it_gives(void) {
    struct gwtf_trained *keeping = open_trained(1), *forgetting = open_trained(1);
    struct gwtf_error error = {""};
    uint32_t tokens[8];
    float kept[256], fresh[256];
    take_sequence(2, tokens, 8);
    /* One by one; a step of several; back to a shorter text; another end. */
    const uint32_t counts[] = {1, 2, 3, 4, 7, 8, 5, 8};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        if (i == 7)
            tokens[6] ^= 1;
        CU_ASSERT_EQUAL(gwtf_trained_next(keeping, tokens, counts[i], kept, &error), GWTF_OK);
        next_afresh(forgetting, tokens, counts[i], fresh);
        CU_ASSERT(apart(kept, fresh, 256) < 1e-5);
        CU_ASSERT_EQUAL(likeliest(kept, 256), likeliest(fresh, 256));
    }
    /* A loss in between changes nothing. */
    uint32_t other[9];
    take_sequence(3, other, 9);
    (void)gwtf_trained_loss(keeping, other, other + 1, 1);
    CU_ASSERT_EQUAL(gwtf_trained_next(keeping, tokens, 8, kept, &error), GWTF_OK);
    CU_ASSERT(apart(kept, fresh, 256) < 1e-5);
    gwtf_trained_close(keeping);
    gwtf_trained_close(forgetting);
}

static void a_batch_has_the_losses_of_its_sequences(void) {
    struct gwtf_trained *one = open_trained(1), *many = open_trained(5);
    uint32_t inputs[5 * 8], labels[5 * 8], tokens[9];
    double sum = 0;
    for (uint32_t i = 0; i < 5; i++) {
        take_sequence(i, tokens, 9);
        memcpy(inputs + (size_t)i * 8, tokens, 8 * sizeof *tokens);
        memcpy(labels + (size_t)i * 8, tokens + 1, 8 * sizeof *tokens);
    }
    for (uint32_t count = 1; count <= 5; count++) {
        const size_t last = (size_t)(count - 1) * 8;
        sum += gwtf_trained_loss(one, inputs + last, labels + last, 1);
        CU_ASSERT_DOUBLE_EQUAL(gwtf_trained_loss(many, inputs, labels, count), sum, 1e-5 * sum);
    }
    gwtf_trained_close(one);
    gwtf_trained_close(many);
}

static void a_snapshot_says_what_its_tokens_are(void) {
    CU_ASSERT_STRING_EQUAL(info.tokenizer, "bytes");
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(what_comes_next_is_what_the_loss_is_of),
        GWTF_TEST(what_is_kept_of_a_text_gives_what_all_of_it_gives),
        GWTF_TEST(a_batch_has_the_losses_of_its_sequences),
        GWTF_TEST(a_snapshot_says_what_its_tokens_are),
    };
    return gwtf_suite_main(argc, argv, "trained", tests, sizeof tests / sizeof tests[0], train,
                           clean_up);
}
