#include "model/model.h"
#include "tests/support/suite.h"
#include "tests/unit/model_pipeline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Sums of n products in single precision differ by some sqrt(n) * 6e-8 when taken in another order;
 * three blocks with n up to 96 * 4 leave about 1e-6 of a tensor's norm. Ten times that is allowed.
 */
#define ROUNDING 1e-5

static void expect_close(const struct pipeline *a, const struct pipeline *b,
                         float *(*array)(gwtf_stage *), double most) {
    const char *worst = "";
    double distance = pipeline_distance(a, b, array, &worst);
    if (!(distance < most))
        printf("\n    %s: %.2e", worst, distance);
    CU_ASSERT(distance < most);
}

static void compare_backends(struct pipeline_options options) {
    struct pipeline reference, fast;
    options.backend = GWTF_BACKEND_REFERENCE;
    pipeline_create(&reference, &options);
    options.backend = GWTF_BACKEND_ONEDNN;
    pipeline_create(&fast, &options);
    double expected = pipeline_run(&reference, 0, 3), loss = pipeline_run(&fast, 0, 3);
    size_t boundary = reference.rows * options.model.width;
    /* The terms of a token's loss are of order 1, however small their sum is. */
    CU_ASSERT(fabs(loss - expected) < 1e-6 * (expected + (double)reference.rows));
    for (uint32_t i = 0; i <= options.stages; i++)
        CU_ASSERT(relative_distance(fast.boundaries[0][i], reference.boundaries[0][i], boundary) <
                  ROUNDING);
    CU_ASSERT(relative_distance(fast.logits, reference.logits,
                                reference.rows * options.model.vocabulary) < ROUNDING);
    CU_ASSERT(relative_distance(fast.gradient[0], reference.gradient[0], boundary) < ROUNDING);
    expect_close(&fast, &reference, gwtf_stage_gradients, ROUNDING);
    pipeline_destroy(&reference);
    pipeline_destroy(&fast);
}

static void the_fast_backend_computes_what_the_reference_does_for_odd_sizes(void) {
    for (uint32_t microbatch = 1; microbatch <= 3; microbatch += 2) {
        for (size_t i = 0; i < 2 * FAMILIES; i++)
            compare_backends(
                (struct pipeline_options){.model = odd_model(families[i / 2], i % 2 == 1),
                                          .stages = 2,
                                          .microbatch = microbatch});
    }
}

static void the_fast_backend_computes_what_the_reference_does_over_several_pieces(void) {
    /* 150 tokens are two blocks and a bit of attention, and with 5 sequences more than one piece of
     * a microbatch; 300 letters are no multiple of any vector. */
    struct gwtf_model_shape model = {
        .layers = 2, .width = 40, .heads = 5, .context = 150, .vocabulary = 300, .tied_head = true};
    compare_backends((struct pipeline_options){.model = model, .stages = 1, .microbatch = 5});
    model.family = GWTF_FAMILY_LLAMA;
    model.heads = 10;
    model.key_value_heads = 5;
    compare_backends((struct pipeline_options){.model = model, .stages = 1, .microbatch = 5});
}

static void the_fast_backend_computes_what_the_reference_does_on_two_threads(void) {
    for (size_t i = 0; i < FAMILIES; i++) {
        struct gwtf_model_shape model = odd_model(families[i], true);
        model.context = 70;
        compare_backends(
            (struct pipeline_options){.model = model, .stages = 1, .microbatch = 9, .threads = 2});
    }
}

static void a_model_of_one_token_one_head_and_two_letters_works(void) {
    struct gwtf_model_shape model = {
        .layers = 1, .width = 8, .heads = 1, .context = 1, .vocabulary = 2, .tied_head = true};
    for (size_t i = 0; i < FAMILIES; i++) {
        model.family = families[i];
        compare_backends((struct pipeline_options){.model = model, .stages = 1, .microbatch = 1});
    }
}

static void stages_in_a_row_compute_what_one_stage_does(void) {
    for (size_t i = 0; i < 2 * FAMILIES; i++) {
        struct pipeline_options options = {.model = odd_model(families[i / 2], true),
                                           .stages = 1,
                                           .microbatch = 3,
                                           .backend = i % 2 ? GWTF_BACKEND_ONEDNN
                                                            : GWTF_BACKEND_REFERENCE};
        struct pipeline one;
        pipeline_create(&one, &options);
        double expected = pipeline_run(&one, 0, 4);
        for (options.stages = 2; options.stages <= 3; options.stages++) {
            struct pipeline cut;
            pipeline_create(&cut, &options);
            /* The same operations in the same order: the same bits. */
            CU_ASSERT_EQUAL(pipeline_run(&cut, 0, 4), expected);
            expect_close(&cut, &one, gwtf_stage_gradients, 1e-30);
            pipeline_destroy(&cut);
        }
        pipeline_destroy(&one);
    }
}

static void two_microbatches_in_flight_add_up_to_their_sum(void) {
    for (size_t i = 0; i < 2 * FAMILIES; i++) {
        struct pipeline_options options = {.model = odd_model(families[i / 2], false),
                                           .stages = 2,
                                           .microbatch = 2,
                                           .slots = 2,
                                           .backend = i % 2 ? GWTF_BACKEND_ONEDNN
                                                            : GWTF_BACKEND_REFERENCE};
        struct pipeline apart, together;
        uint32_t tokens[2][32], labels[2][32];
        pipeline_create(&apart, &options);
        pipeline_create(&together, &options);
        for (uint32_t m = 0; m < 2; m++) {
            pipeline_tokens(&apart, m, tokens[m]);
            pipeline_tokens(&apart, m + 10, labels[m]);
            pipeline_forward(&apart, 0, tokens[m], labels[m]);
            pipeline_backward(&apart, 0, tokens[m], labels[m]);
        }
        for (uint32_t m = 0; m < 2; m++)
            pipeline_forward(&together, m, tokens[m], labels[m]);
        for (uint32_t m = 0; m < 2; m++)
            pipeline_backward(&together, m, tokens[m], labels[m]);
        expect_close(&together, &apart, gwtf_stage_gradients, 1e-30);
        pipeline_destroy(&apart);
        pipeline_destroy(&together);
    }
}

static void a_forward_pass_that_keeps_nothing_gives_the_same_output(void) {
    for (size_t i = 0; i < 2 * FAMILIES; i++) {
        struct pipeline_options options = {.model = odd_model(families[i / 2], true),
                                           .stages = 1,
                                           .microbatch = 2,
                                           .backend = i % 2 ? GWTF_BACKEND_ONEDNN
                                                            : GWTF_BACKEND_REFERENCE};
        struct pipeline pipeline;
        pipeline_create(&pipeline, &options);
        pipeline_run(&pipeline, 0, 5);
        size_t bytes = pipeline.rows * options.model.width * sizeof(float);
        gwtf_stage_forward(pipeline.stages[1], 0, pipeline.boundaries[0][0], pipeline.gradient[0],
                           false);
        CU_ASSERT_EQUAL(memcmp(pipeline.gradient[0], pipeline.boundaries[0][1], bytes), 0);
        pipeline_destroy(&pipeline);
    }
}

/* The last stage's output for COUNT tokens at a time, COUNTS one after the other, is that of the
 * whole sequence. */
static void compare_continued(struct pipeline_options options, const uint32_t *counts) {
    struct pipeline whole;
    uint32_t context = options.model.context, width = options.model.width, first = 0;
    uint32_t tokens[150], labels[150];
    float logits[300];
    options.stages = options.microbatch = 1;
    options.forward_only = options.continues = true;
    pipeline_create(&whole, &options);
    pipeline_tokens(&whole, 4, tokens);
    pipeline_tokens(&whole, 5, labels);
    (void)pipeline_forward(&whole, 0, tokens, labels);
    float *input = calloc((size_t)context * width, sizeof *input);
    float *output = calloc((size_t)context * width, sizeof *output);
    for (size_t i = 0; first < context; i++) {
        uint32_t count = counts[i] < context - first ? counts[i] : context - first;
        gwtf_stage_embed_some(whole.stages[0], tokens + first, first, count, input);
        gwtf_stage_continue(whole.stages[1], input, output + (size_t)first * width, first, count);
        first += count;
        gwtf_stage_logits(whole.stages[0], output + (size_t)(first - 1) * width, logits);
        CU_ASSERT(relative_distance(logits,
                                    whole.logits + (size_t)(first - 1) * options.model.vocabulary,
                                    options.model.vocabulary) < ROUNDING);
    }
    CU_ASSERT(relative_distance(output, whole.boundaries[0][1], (size_t)context * width) <
              ROUNDING);
    free(input);
    free(output);
    pipeline_destroy(&whole);
}

static void a_sequence_in_parts_gives_what_it_gives_at_once(void) {
    static const uint32_t one_by_one[] = {1, 1, 1, 1, 1, 1, 1}, mixed[] = {3, 70, 1, 1, 60, 1, 150};
    for (size_t i = 0; i < 2 * FAMILIES; i++) {
        struct pipeline_options options = {.model = odd_model(families[i / 2], i % 2 == 1)};
        for (int fast = 0; fast < 2; fast++) {
            options.backend = fast ? GWTF_BACKEND_ONEDNN : GWTF_BACKEND_REFERENCE;
            compare_continued(options, one_by_one);
        }
        options.model.context = 150;
        options.threads = i == 0 ? 2 : 1;
        compare_continued(options, mixed);
    }
}

static void the_same_microbatch_gives_the_same_bits_again(void) {
    for (uint32_t run = 0; run < 2 * FAMILIES; run++) {
        uint32_t threads = 1 + run % 2;
        struct gwtf_model_shape model = odd_model(families[run / 2], true);
        model.context = 100;
        struct pipeline_options options = {.model = model,
                                           .stages = 1,
                                           .microbatch = 6,
                                           .threads = threads,
                                           .backend = GWTF_BACKEND_ONEDNN};
        struct pipeline first, again;
        pipeline_create(&first, &options);
        pipeline_create(&again, &options);
        double loss = pipeline_run(&first, 0, 6);
        for (int i = 0; i < 3; i++) {
            pipeline_zero_gradients(&again);
            CU_ASSERT_EQUAL(pipeline_run(&again, 0, 6), loss);
            for (uint32_t s = 0; s < 2; s++)
                CU_ASSERT_EQUAL(
                    memcmp(gwtf_stage_gradients(again.stages[s]),
                           gwtf_stage_gradients(first.stages[s]),
                           gwtf_stage_get_plan(first.stages[s])->floats * sizeof(float)),
                    0);
        }
        pipeline_destroy(&first);
        pipeline_destroy(&again);
    }
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(the_fast_backend_computes_what_the_reference_does_for_odd_sizes),
        GWTF_TEST(the_fast_backend_computes_what_the_reference_does_over_several_pieces),
        GWTF_TEST(the_fast_backend_computes_what_the_reference_does_on_two_threads),
        GWTF_TEST(a_model_of_one_token_one_head_and_two_letters_works),
        GWTF_TEST(stages_in_a_row_compute_what_one_stage_does),
        GWTF_TEST(two_microbatches_in_flight_add_up_to_their_sum),
        GWTF_TEST(a_forward_pass_that_keeps_nothing_gives_the_same_output),
        GWTF_TEST(a_sequence_in_parts_gives_what_it_gives_at_once),
        GWTF_TEST(the_same_microbatch_gives_the_same_bits_again),
    };
    return gwtf_suite_main(argc, argv, "model_backends", tests, sizeof tests / sizeof tests[0],
                           NULL, NULL);
}
