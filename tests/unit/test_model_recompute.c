/* Stages that keep less: blocks that are computed again, and forward passes alone. */
#include "model/model.h"
#include "tests/support/suite.h"
#include "tests/unit/model_pipeline.h"

#include <stdio.h>
#include <string.h>

static void expect_same_bits(const float *a, const float *b, size_t count) {
    CU_ASSERT_EQUAL(memcmp(a, b, count * sizeof *a), 0);
}

/* Two microbatches whose ways overlap, with and without keeping. */
static void expect_same_gradients(struct pipeline_options options) {
    struct pipeline kept, again;
    uint32_t tokens[2][2048], labels[2][2048];
    options.slots = 2;
    pipeline_create(&kept, &options);
    options.recompute = true;
    pipeline_create(&again, &options);
    CU_ASSERT_FATAL(kept.rows <= 2048);
    struct pipeline *const both[] = {&kept, &again};
    double losses[2][2];
    for (size_t p = 0; p < 2; p++) {
        for (uint32_t m = 0; m < 2; m++) {
            pipeline_tokens(both[p], m, tokens[m]);
            pipeline_tokens(both[p], m + 10, labels[m]);
            losses[p][m] = pipeline_forward(both[p], m, tokens[m], labels[m]);
        }
        for (uint32_t m = 0; m < 2; m++)
            pipeline_backward(both[p], m, tokens[m], labels[m]);
    }
    CU_ASSERT_EQUAL(losses[0][0], losses[1][0]);
    CU_ASSERT_EQUAL(losses[0][1], losses[1][1]);
    expect_same_bits(kept.gradient[0], again.gradient[0], kept.rows * options.model.width);
    for (uint32_t i = 0; i <= options.stages; i++)
        expect_same_bits(gwtf_stage_gradients(kept.stages[i]),
                         gwtf_stage_gradients(again.stages[i]),
                         gwtf_stage_get_plan(kept.stages[i])->floats);
    pipeline_destroy(&kept);
    pipeline_destroy(&again);
}

static void blocks_computed_again_give_the_same_bits(void) {
    for (size_t i = 0; i < 2 * FAMILIES; i++) {
        struct pipeline_options options = {.model = odd_model(families[i / 2], true),
                                           .stages = 2,
                                           .microbatch = 3,
                                           .backend = i % 2 ? GWTF_BACKEND_ONEDNN
                                                            : GWTF_BACKEND_REFERENCE};
        expect_same_gradients(options);
        if (i % 2 == 0)
            continue;
        /* More than one piece of a microbatch. */
        options.model.context = 150;
        options.microbatch = 9;
        expect_same_gradients(options);
        options.threads = 2;
        options.precision = GWTF_PRECISION_BFLOAT16;
        expect_same_gradients(options);
    }
}

static void memory_of(struct gwtf_stage_options options, uint64_t *fixed, uint64_t *slot) {
    struct gwtf_stage_plan plan;
    CU_ASSERT_EQUAL_FATAL(gwtf_stage_plan_init(&plan, &options.shape, NULL), GWTF_OK);
    gwtf_stage_memory(&options, &plan, fixed, slot);
    gwtf_stage_plan_deinit(&plan);
}

static struct gwtf_stage_options stage_of_gpt2(uint32_t stage) {
    struct gwtf_model_shape model = {.layers = 12,
                                     .width = 768,
                                     .heads = 12,
                                     .context = 256,
                                     .vocabulary = 50257,
                                     .tied_head = true};
    return (struct gwtf_stage_options){.shape = gwtf_stage_shape_of(&model, stage, 1),
                                       .backend = GWTF_BACKEND_REFERENCE,
                                       .microbatch = 4,
                                       .slots = 1,
                                       .threads = 1};
}

static void a_slot_keeps_only_the_inputs_of_its_blocks(void) {
    uint64_t fixed, slot, fixed_again, slot_again;
    struct gwtf_stage_options options = stage_of_gpt2(1);
    memory_of(options, &fixed, &slot);
    options.recompute = true;
    memory_of(options, &fixed_again, &slot_again);
    uint64_t boundary = (uint64_t)4 * 256 * 768 * sizeof(float);
    CU_ASSERT_EQUAL(slot_again, 11 * boundary);
    CU_ASSERT(slot > 12 * 9 * boundary);
    /* What all blocks share on the way, of the one piece that there is here. */
    CU_ASSERT(fixed_again - fixed >= 9 * boundary);
    CU_ASSERT(fixed_again - fixed < 10 * boundary);
}

static void a_forward_pass_alone_needs_the_weights_once(void) {
    for (uint32_t stage = 0; stage <= 1; stage++) {
        struct gwtf_stage_options options = stage_of_gpt2(stage);
        uint64_t fixed, slot, fixed_alone, slot_alone;
        struct gwtf_stage_plan plan;
        memory_of(options, &fixed, &slot);
        options.forward_only = true;
        memory_of(options, &fixed_alone, &slot_alone);
        CU_ASSERT_EQUAL_FATAL(gwtf_stage_plan_init(&plan, &options.shape, NULL), GWTF_OK);
        CU_ASSERT(fixed - fixed_alone + ((uint64_t)64 << 20) > 3 * plan.floats * sizeof(float));
        CU_ASSERT(slot_alone <= 2 * (uint64_t)4 * 256 * 768 * sizeof(float));
        gwtf_stage_plan_deinit(&plan);
    }
}

static void a_forward_pass_alone_gives_the_same_bits(void) {
    for (size_t i = 0; i < 2 * FAMILIES; i++) {
        struct pipeline_options options = {.model = odd_model(families[i / 2], true),
                                           .stages = 1,
                                           .microbatch = 9,
                                           .backend = i % 2 ? GWTF_BACKEND_ONEDNN
                                                            : GWTF_BACKEND_REFERENCE};
        options.model.layers = 5;
        options.model.context = i % 2 ? 150 : 7;
        struct pipeline whole, alone;
        uint32_t tokens[2048], labels[2048];
        pipeline_create(&whole, &options);
        options.forward_only = true;
        pipeline_create(&alone, &options);
        CU_ASSERT_PTR_NULL(gwtf_stage_gradients(alone.stages[1]));
        CU_ASSERT_FATAL(whole.rows <= 2048);
        pipeline_tokens(&whole, 1, tokens);
        pipeline_tokens(&whole, 2, labels);
        CU_ASSERT_EQUAL(pipeline_forward(&whole, 0, tokens, labels),
                        pipeline_forward(&alone, 0, tokens, labels));
        expect_same_bits(whole.logits, alone.logits, whole.rows * options.model.vocabulary);
        pipeline_destroy(&whole);
        pipeline_destroy(&alone);
    }
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(blocks_computed_again_give_the_same_bits),
        GWTF_TEST(a_slot_keeps_only_the_inputs_of_its_blocks),
        GWTF_TEST(a_forward_pass_alone_needs_the_weights_once),
        GWTF_TEST(a_forward_pass_alone_gives_the_same_bits),
    };
    return gwtf_suite_main(argc, argv, "model_recompute", tests, sizeof tests / sizeof tests[0],
                           NULL, NULL);
}
