/*
 * The CUDA backend against the reference: on a GPU where there is one and the library is the real
 * one, else on the emulation. Which, GWTF_CUDA_LIBRARY says; --needs-gpu: nothing else will do.
 */
#include "model/model.h"
#include "tests/support/suite.h"
#include "tests/unit/model_pipeline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What single precision leaves when sums are taken in another order: see test_model_backends.c. */
#define ROUNDING 1e-5
/* Operands of 8 bits, and what lies between products rounded so, too: a block deep it is some 2^-8,
 * and grows with the root of the roundings on the way. The gradients of queries and
 * keys, which are small differences, have most of it. Measured: up to 0.036. */
#define BFLOAT16_ROUNDING 0.06
/* 11 bits of operands alone. Measured: up to 0.0045. */
#define TFLOAT32_ROUNDING 0.008

static void expect_near(const char *what, double distance, double most) {
    if (!(distance < most))
        printf("\n    %s: %.2e", what, distance);
    CU_ASSERT(distance < most);
}

static void compare(struct pipeline_options options, double most) {
    struct pipeline reference, gpu;
    enum gwtf_precision precision = options.precision;
    options.backend = GWTF_BACKEND_REFERENCE;
    options.precision = GWTF_PRECISION_FLOAT32;
    pipeline_create(&reference, &options);
    options.backend = GWTF_BACKEND_CUDA;
    options.precision = precision;
    pipeline_create(&gpu, &options);
    double expected = pipeline_run(&reference, 0, 3), loss = pipeline_run(&gpu, 0, 3);
    size_t boundary = reference.rows * options.model.width;
    const char *worst = "";
    expect_near("loss", fabs(loss - expected) / (expected + (double)reference.rows), most / 10);
    for (uint32_t i = 0; i <= options.stages; i++)
        expect_near("boundary",
                    relative_distance(gpu.boundaries[0][i], reference.boundaries[0][i], boundary),
                    most);
    expect_near(
        "logits",
        relative_distance(gpu.logits, reference.logits, reference.rows * options.model.vocabulary),
        most);
    expect_near("gradient of the embedding",
                relative_distance(gpu.gradient[0], reference.gradient[0], boundary), most);
    double distance = pipeline_distance(&gpu, &reference, gwtf_stage_gradients, &worst);
    expect_near(worst, distance, most);
    for (uint32_t i = 0; i <= options.stages; i++)
        CU_ASSERT_EQUAL(gwtf_stage_check(gpu.stages[i], NULL), GWTF_OK);
    pipeline_destroy(&reference);
    pipeline_destroy(&gpu);
}

static void compare_odd_sizes(enum gwtf_precision precision, double most) {
    for (uint32_t microbatch = 1; microbatch <= 3; microbatch += 2)
        for (size_t i = 0; i < 2 * FAMILIES; i++)
            compare((struct pipeline_options){.model = odd_model(families[i / 2], i % 2 == 1),
                                              .stages = 2,
                                              .microbatch = microbatch,
                                              .precision = precision},
                    most);
}

/* Several tiles of attention and of its keys, heads as they are in use, rows of 16 bytes. */
static struct gwtf_model_shape even_model(enum gwtf_family family) {
    struct gwtf_model_shape model = {.family = family,
                                     .layers = 2,
                                     .width = 128,
                                     .heads = 2,
                                     .context = 70,
                                     .vocabulary = 104,
                                     .tied_head = true};
    if (family == GWTF_FAMILY_LLAMA)
        model.key_value_heads = 1;
    return model;
}

static void compare_even_sizes(enum gwtf_precision precision, double most) {
    for (size_t i = 0; i < FAMILIES; i++)
        compare((struct pipeline_options){.model = even_model(families[i]),
                                          .stages = 1,
                                          .microbatch = 2,
                                          .precision = precision},
                most);
}

/* Where tensor cores do it: sizes that fill their tiles and that do not, rows that are no multiple
 * of 16 bytes, more keys than a tile, key heads that are shared; and heads that are too large for
 * them. */
static void bfloat16_knows_heads_of_any_size(void) {
    static const struct {
        uint32_t size, heads, key_heads, context;
    } cases[] = {{3, 4, 4, 65},  {8, 4, 2, 130},  {20, 2, 1, 70}, {64, 2, 2, 1},
                 {96, 2, 1, 66}, {128, 2, 1, 97}, {160, 1, 1, 40}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool rotates = cases[i].size % 2 == 0;
        struct gwtf_model_shape model = {.family = rotates ? GWTF_FAMILY_LLAMA : GWTF_FAMILY_GPT2,
                                         .layers = 1,
                                         .width = cases[i].size * cases[i].heads,
                                         .heads = cases[i].heads,
                                         .key_value_heads = rotates ? cases[i].key_heads : 0,
                                         .hidden = 32,
                                         .context = cases[i].context,
                                         .vocabulary = 48,
                                         .tied_head = true};
        compare(
            (struct pipeline_options){
                .model = model, .stages = 1, .microbatch = 2, .precision = GWTF_PRECISION_BFLOAT16},
            BFLOAT16_ROUNDING);
    }
}

static void float32_computes_what_the_reference_does(void) {
    compare_odd_sizes(GWTF_PRECISION_FLOAT32, ROUNDING);
    compare_even_sizes(GWTF_PRECISION_FLOAT32, ROUNDING);
}

static void bfloat16_stays_within_its_rounding(void) {
    compare_odd_sizes(GWTF_PRECISION_BFLOAT16, BFLOAT16_ROUNDING);
    compare_even_sizes(GWTF_PRECISION_BFLOAT16, BFLOAT16_ROUNDING);
}

static void tfloat32_stays_within_its_rounding(void) {
    compare_odd_sizes(GWTF_PRECISION_TFLOAT32, TFLOAT32_ROUNDING);
}

static struct pipeline_options odd_options(enum gwtf_precision precision) {
    return (struct pipeline_options){.model = odd_model(GWTF_FAMILY_LLAMA, false),
                                     .stages = 2,
                                     .microbatch = 2,
                                     .slots = 2,
                                     .backend = GWTF_BACKEND_CUDA,
                                     .precision = precision};
}

static double distance_of_gradients(const struct pipeline *a, const struct pipeline *b) {
    const char *worst;
    return pipeline_distance(a, b, gwtf_stage_gradients, &worst);
}

static void what_is_computed_again_has_the_same_bits(void) {
    for (int precision = GWTF_PRECISION_FLOAT32; precision <= GWTF_PRECISION_TFLOAT32;
         precision++) {
        struct pipeline_options options = odd_options((enum gwtf_precision)precision);
        struct pipeline first, again, recomputed;
        pipeline_create(&first, &options);
        pipeline_create(&again, &options);
        options.recompute = true;
        pipeline_create(&recomputed, &options);
        double loss = pipeline_run(&first, 0, 5);
        CU_ASSERT_EQUAL(pipeline_run(&again, 1, 5), loss);
        CU_ASSERT_EQUAL(pipeline_run(&recomputed, 1, 5), loss);
        CU_ASSERT_EQUAL(distance_of_gradients(&again, &first), 0);
        CU_ASSERT_EQUAL(distance_of_gradients(&recomputed, &first), 0);
        pipeline_destroy(&first);
        pipeline_destroy(&again);
        pipeline_destroy(&recomputed);
    }
}

static void slots_do_not_disturb_each_other(void) {
    struct pipeline_options options = odd_options(GWTF_PRECISION_BFLOAT16);
    struct pipeline one, two;
    uint32_t tokens[2][64], labels[2][64];
    pipeline_create(&one, &options);
    pipeline_create(&two, &options);
    for (uint32_t slot = 0; slot < 2; slot++) {
        pipeline_tokens(&one, slot + 1, tokens[slot]);
        pipeline_tokens(&one, slot + 7, labels[slot]);
        pipeline_forward(&one, slot, tokens[slot], labels[slot]);
        pipeline_backward(&one, slot, tokens[slot], labels[slot]);
        pipeline_forward(&two, slot, tokens[slot], labels[slot]);
    }
    for (uint32_t slot = 0; slot < 2; slot++)
        pipeline_backward(&two, slot, tokens[slot], labels[slot]);
    CU_ASSERT_EQUAL(distance_of_gradients(&two, &one), 0);
    pipeline_destroy(&one);
    pipeline_destroy(&two);
}

/* Replicas of a stage on a GPU and on a processor stay the same to the last bit. */
static void a_step_has_the_bits_of_the_processors(void) {
    struct pipeline_options options = odd_options(GWTF_PRECISION_BFLOAT16);
    struct pipeline gpu, processor;
    pipeline_create(&gpu, &options);
    options.backend = GWTF_BACKEND_REFERENCE;
    options.precision = GWTF_PRECISION_FLOAT32;
    pipeline_create(&processor, &options);
    pipeline_run(&processor, 0, 9);
    float *(*const arrays[])(gwtf_stage *) = {gwtf_stage_weights, gwtf_stage_first_moments,
                                              gwtf_stage_second_moments};
    for (uint64_t step = 1; step <= 3; step++) {
        struct gwtf_optimizer_step settings = {.step = step,
                                               .learning_rate = 1e-2f,
                                               .beta1 = 0.9f,
                                               .beta2 = 0.95f,
                                               .epsilon = 1e-8f,
                                               .weight_decay = 0.1f,
                                               .gradient_scale = 0.7f};
        for (uint32_t i = 0; i <= options.stages; i++) {
            const float *gradients = gwtf_stage_gradients(processor.stages[i]);
            gwtf_stage_step(gpu.stages[i], gradients, &settings);
            gwtf_stage_step(processor.stages[i], gradients, &settings);
        }
        for (size_t a = 0; a < sizeof arrays / sizeof arrays[0]; a++) {
            const char *worst;
            CU_ASSERT_EQUAL(pipeline_distance(&gpu, &processor, arrays[a], &worst), 0);
        }
    }
    pipeline_destroy(&gpu);
    pipeline_destroy(&processor);
}

static void products_use_the_weights_after_a_step(void) {
    struct pipeline_options options = odd_options(GWTF_PRECISION_BFLOAT16);
    struct pipeline stepped, copied;
    pipeline_create(&stepped, &options);
    pipeline_create(&copied, &options);
    pipeline_run(&stepped, 0, 9);
    struct gwtf_optimizer_step settings = {
        .step = 1, .learning_rate = 1e-2f, .beta2 = 0.9f, .epsilon = 1e-8f, .gradient_scale = 1};
    for (uint32_t i = 0; i <= options.stages; i++) {
        gwtf_stage_step(stepped.stages[i], NULL, &settings);
        gwtf_stage_zero_gradients(stepped.stages[i]);
        memcpy(gwtf_stage_weights(copied.stages[i]), gwtf_stage_weights(stepped.stages[i]),
               gwtf_stage_get_plan(stepped.stages[i])->floats * sizeof(float));
        gwtf_stage_written(copied.stages[i]);
    }
    CU_ASSERT_EQUAL(pipeline_run(&stepped, 0, 11), pipeline_run(&copied, 0, 11));
    CU_ASSERT_EQUAL(distance_of_gradients(&stepped, &copied), 0);
    pipeline_destroy(&stepped);
    pipeline_destroy(&copied);
}

static void gradients_are_summed_and_measured(void) {
    struct pipeline_options options = odd_options(GWTF_PRECISION_FLOAT32);
    struct pipeline gpu;
    pipeline_create(&gpu, &options);
    pipeline_run(&gpu, 0, 3);
    for (uint32_t i = 0; i <= options.stages; i++) {
        uint64_t floats = gwtf_stage_get_plan(gpu.stages[i])->floats;
        double expected = gwtf_sum_of_squares(gwtf_stage_gradients(gpu.stages[i]), floats);
        CU_ASSERT(expected > 0);
        CU_ASSERT(fabs(gwtf_stage_gradient_squares(gpu.stages[i]) - expected) < 1e-12 * expected);
        gwtf_stage_zero_gradients(gpu.stages[i]);
        CU_ASSERT_EQUAL(gwtf_sum_of_squares(gwtf_stage_gradients(gpu.stages[i]), floats), 0);
    }
    pipeline_destroy(&gpu);
}

/* A sequence token by token, and in parts, gives what it gives at once. */
static void goes_on(enum gwtf_family family, enum gwtf_precision precision, double most) {
    struct pipeline_options options = {.model = odd_model(family, true),
                                       .stages = 1,
                                       .microbatch = 1,
                                       .backend = GWTF_BACKEND_CUDA,
                                       .precision = precision,
                                       .forward_only = true,
                                       .continues = true};
    static const uint32_t parts[] = {2, 1, 3, 1};
    struct pipeline p;
    uint32_t tokens[7], labels[7], first = 0;
    pipeline_create(&p, &options);
    pipeline_tokens(&p, 4, tokens);
    pipeline_tokens(&p, 5, labels);
    pipeline_forward(&p, 0, tokens, labels);
    for (size_t part = 0; part < sizeof parts / sizeof parts[0]; part++) {
        float embedded[7 * 24], output[7 * 24], logits[65];
        uint32_t count = parts[part];
        gwtf_stage_embed_some(p.stages[0], tokens + first, first, count, embedded);
        gwtf_stage_continue(p.stages[1], embedded, output, first, count);
        expect_near("continued",
                    relative_distance(output, p.boundaries[0][1] + first * 24, count * 24), most);
        first += count;
        gwtf_stage_logits(p.stages[0], output + (count - 1) * 24, logits);
        expect_near("logits", relative_distance(logits, p.logits + (first - 1) * 65, 65), most);
    }
    pipeline_destroy(&p);
}

static void a_sequence_goes_on(void) {
    for (size_t i = 0; i < FAMILIES; i++) {
        goes_on(families[i], GWTF_PRECISION_FLOAT32, ROUNDING);
        goes_on(families[i], GWTF_PRECISION_BFLOAT16, BFLOAT16_ROUNDING);
    }
}

static void a_hundred_steps_learn_what_the_reference_does(void) {
    struct pipeline_options options = odd_options(GWTF_PRECISION_FLOAT32);
    struct pipeline p[2];
    double losses[2] = {0};
    for (int i = 0; i < 2; i++) {
        options.backend = i == 0 ? GWTF_BACKEND_REFERENCE : GWTF_BACKEND_CUDA;
        pipeline_create(&p[i], &options);
        for (uint64_t step = 1; step <= 100; step++) {
            struct gwtf_optimizer_step settings = {.step = step,
                                                   .learning_rate = 2e-3f,
                                                   .beta1 = 0.9f,
                                                   .beta2 = 0.95f,
                                                   .epsilon = 1e-8f,
                                                   .gradient_scale = 1};
            losses[i] = pipeline_run(&p[i], 0, step % 4) / (double)p[i].rows;
            for (uint32_t stage = 0; stage <= options.stages; stage++) {
                gwtf_stage_step(p[i].stages[stage], NULL, &settings);
                gwtf_stage_zero_gradients(p[i].stages[stage]);
            }
        }
        pipeline_destroy(&p[i]);
    }
    CU_ASSERT(losses[0] < 2.5); /* of log(65) = 4.2 */
    expect_near("loss after 100 steps", fabs(losses[1] - losses[0]), 1e-4);
}

int main(int argc, char **argv) {
    struct gwtf_error error = {0};
    struct gwtf_gpu gpu;
    if (argc > 1 && strcmp(argv[1], "--needs-gpu") == 0) {
        if (gwtf_gpu_look(0, &gpu, &error) != GWTF_OK) {
            printf("skipped: %s\n", error.text);
            return 77;
        }
        printf("on %s\n", gpu.name);
        argc = 1;
    }
    static const struct gwtf_test tests[] = {
        GWTF_TEST(float32_computes_what_the_reference_does),
        GWTF_TEST(bfloat16_stays_within_its_rounding),
        GWTF_TEST(bfloat16_knows_heads_of_any_size),
        GWTF_TEST(tfloat32_stays_within_its_rounding),
        GWTF_TEST(what_is_computed_again_has_the_same_bits),
        GWTF_TEST(slots_do_not_disturb_each_other),
        GWTF_TEST(a_step_has_the_bits_of_the_processors),
        GWTF_TEST(products_use_the_weights_after_a_step),
        GWTF_TEST(gradients_are_summed_and_measured),
        GWTF_TEST(a_sequence_goes_on),
        GWTF_TEST(a_hundred_steps_learn_what_the_reference_does),
    };
    return gwtf_suite_main(argc, argv, "cuda", tests, sizeof tests / sizeof tests[0], NULL, NULL);
}
