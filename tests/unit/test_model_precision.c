/*
 * The fast backend with matrix products in bfloat16, against the reference backend in float32, for
 * gradients and for what training comes to.
 */
#include "model/model.h"
#include "share/base/random.h"
#include "tests/support/suite.h"
#include "tests/unit/model_pipeline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * An operand's rounding is off by 2^-9 of it at most, and half of that in the mean; some thirty
 * products of two rounded operands follow each other through three blocks and back, which makes 1
 * to 4 % of a gradient's norm. An operand that is wrong shows as 100 %.
 */
#define LOSS_ROUNDING 2e-3
#define OUTPUT_ROUNDING 1.5e-2
#define GRADIENT_ROUNDING 6e-2

static void compare_precisions(struct pipeline_options options) {
    struct pipeline exact, rounded;
    options.backend = GWTF_BACKEND_REFERENCE;
    pipeline_create(&exact, &options);
    options.backend = GWTF_BACKEND_ONEDNN;
    options.precision = GWTF_PRECISION_BFLOAT16;
    pipeline_create(&rounded, &options);
    double expected = pipeline_run(&exact, 0, 3), loss = pipeline_run(&rounded, 0, 3);
    CU_ASSERT(fabs(loss - expected) < LOSS_ROUNDING * expected);
    double outputs =
        relative_distance(rounded.logits, exact.logits, exact.rows * options.model.vocabulary);
    const char *worst = "";
    double gradients = pipeline_distance(&rounded, &exact, gwtf_stage_gradients, &worst);
    printf(" %.1e %.1e %.1e", fabs(loss / expected - 1), outputs, gradients);
    CU_ASSERT(outputs < OUTPUT_ROUNDING);
    CU_ASSERT(gradients < GRADIENT_ROUNDING);
    /* Something is rounded, or nothing is tested. */
    CU_ASSERT(outputs > 1e-4);
    pipeline_destroy(&exact);
    pipeline_destroy(&rounded);
}

static void bfloat16_computes_what_the_reference_does_to_its_rounding(void) {
    for (size_t i = 0; i < 2 * FAMILIES; i++) {
        struct gwtf_model_shape model = odd_model(families[i / 2], i % 2 == 1);
        compare_precisions((struct pipeline_options){.model = model, .stages = 2, .microbatch = 3});
        model.context = 150; /* two blocks and a bit of attention */
        compare_precisions(
            (struct pipeline_options){.model = model, .stages = 1, .microbatch = 2, .threads = 2});
    }
}

#define LETTERS 61u
#define TRAIN_STEPS 150u

/* A text in which each letter follows from the one before it, but for one in four. */
static void write_text(uint32_t *tokens, uint32_t *labels, size_t rows, uint64_t seed) {
    uint64_t key = gwtf_random_key(seed, 11);
    uint32_t letter = (uint32_t)seed % LETTERS;
    for (size_t i = 0; i < rows; i++) {
        tokens[i] = letter;
        letter = gwtf_random_unit_at(key, 2 * i) < 0.75
                     ? (letter * 7 + 3) % LETTERS
                     : (uint32_t)(LETTERS * gwtf_random_unit_at(key, 2 * i + 1));
        labels[i] = letter;
    }
}

/* The mean loss over the last fifth of a short training. */
static double train(struct pipeline_options options) {
    struct pipeline pipeline;
    pipeline_create(&pipeline, &options);
    for (uint32_t i = 0; i <= options.stages; i++)
        gwtf_stage_initialise(pipeline.stages[i], 5);
    uint32_t *tokens = malloc(2 * pipeline.rows * sizeof *tokens), *labels = tokens + pipeline.rows;
    double sum = 0, counted = 0;
    for (uint32_t step = 1; step <= TRAIN_STEPS; step++) {
        struct gwtf_optimizer_step settings = {.step = step,
                                               .learning_rate = 3e-3f,
                                               .beta1 = 0.9f,
                                               .beta2 = 0.95f,
                                               .epsilon = 1e-8f,
                                               .weight_decay = 0.1f,
                                               .gradient_scale = 1.0f};
        write_text(tokens, labels, pipeline.rows, step);
        double loss = pipeline_forward(&pipeline, 0, tokens, labels) / (double)pipeline.rows;
        pipeline_backward(&pipeline, 0, tokens, labels);
        for (uint32_t i = 0; i <= options.stages; i++)
            gwtf_stage_step(pipeline.stages[i], gwtf_stage_gradients(pipeline.stages[i]),
                            &settings);
        pipeline_zero_gradients(&pipeline);
        if (step > TRAIN_STEPS / 5 * 4) {
            sum += loss;
            counted++;
        }
    }
    free(tokens);
    pipeline_destroy(&pipeline);
    return sum / counted;
}

static void training_in_bfloat16_comes_to_the_same_loss(void) {
    for (size_t i = 0; i < FAMILIES; i++) {
        struct pipeline_options options = {.model = {.family = families[i],
                                                     .layers = 2,
                                                     .width = 32,
                                                     .heads = 4,
                                                     .context = 32,
                                                     .vocabulary = LETTERS,
                                                     .tied_head = i == 0},
                                           .stages = 2,
                                           .microbatch = 8,
                                           .backend = GWTF_BACKEND_ONEDNN};
        double exact = train(options);
        options.precision = GWTF_PRECISION_BFLOAT16;
        double rounded = train(options);
        printf(" %.4f %.4f", exact, rounded);
        /* It has learned: knowing nothing costs log(61) = 4.1. */
        CU_ASSERT(exact < 3);
        CU_ASSERT(fabs(rounded / exact - 1) < 0.01);
        CU_ASSERT(rounded != exact);
    }
}

static void the_reference_backend_refuses_bfloat16(void) {
    struct gwtf_model_shape model = odd_model(GWTF_FAMILY_GPT2, true);
    struct gwtf_stage_options options = {.shape = gwtf_stage_shape_of(&model, 1, 1),
                                         .backend = GWTF_BACKEND_REFERENCE,
                                         .precision = GWTF_PRECISION_BFLOAT16,
                                         .microbatch = 1,
                                         .slots = 1,
                                         .threads = 1};
    struct gwtf_error error = {""};
    gwtf_stage *stage = NULL;
    CU_ASSERT_EQUAL(gwtf_stage_create(&options, &stage, &error), GWTF_ERROR_UNSUPPORTED);
    CU_ASSERT_PTR_NULL(stage);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "backend.precision"));
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(bfloat16_computes_what_the_reference_does_to_its_rounding),
        GWTF_TEST(training_in_bfloat16_comes_to_the_same_loss),
        GWTF_TEST(the_reference_backend_refuses_bfloat16),
    };
    return gwtf_suite_main(argc, argv, "model_precision", tests, sizeof tests / sizeof tests[0],
                           NULL, NULL);
}
