/* Plans, memory, initial weights and the optimizer. Built with --wrap for the allocator, so that it
 * sees what the code under test allocates. */
#include "model/model.h"
#include "tests/support/suite.h"
#include "tests/unit/model_pipeline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t allocations;
static uint64_t largest_bytes, all_bytes;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
int __real_posix_memalign(void **memory, size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size);

static void count(uint64_t bytes) {
    allocations++;
    all_bytes += bytes;
    if (bytes > largest_bytes)
        largest_bytes = bytes;
}

static void count_from_here(void) {
    allocations = 0;
    largest_bytes = all_bytes = 0;
}

void *__wrap_malloc(size_t size) {
    count(size);
    return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size) {
    count(n * size);
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *memory, size_t size) {
    count(size);
    return __real_realloc(memory, size);
}

int __wrap_posix_memalign(void **memory, size_t alignment, size_t size) {
    count(size);
    return __real_posix_memalign(memory, alignment, size);
}

static struct gwtf_model_shape gpt2_small(void) {
    return (struct gwtf_model_shape){.layers = 12,
                                     .width = 768,
                                     .heads = 12,
                                     .context = 1024,
                                     .vocabulary = 50257,
                                     .tied_head = true};
}

static uint64_t parameters_of(const struct gwtf_model_shape *model, uint32_t stages) {
    uint64_t parameters = 0;
    for (uint32_t stage = 0; stage <= stages; stage++) {
        struct gwtf_stage_plan plan;
        struct gwtf_stage_shape shape = gwtf_stage_shape_of(model, stage, stages);
        CU_ASSERT_EQUAL_FATAL(gwtf_stage_plan_init(&plan, &shape, NULL), GWTF_OK);
        parameters += plan.parameters;
        gwtf_stage_plan_deinit(&plan);
    }
    return parameters;
}

static void the_stages_of_gpt2_small_have_its_124_million_parameters(void) {
    struct gwtf_model_shape model = gpt2_small();
    /* What transformers' GPT2LMHeadModel counts for "gpt2". */
    CU_ASSERT_EQUAL(parameters_of(&model, 5), 124439808);
}

static void the_stages_of_known_llamas_have_their_parameters(void) {
    /* What transformers' LlamaForCausalLM counts for LLaMA 7B and for TinyLlama 1.1B. */
    struct gwtf_model_shape model = {.family = GWTF_FAMILY_LLAMA,
                                     .layers = 32,
                                     .width = 4096,
                                     .heads = 32,
                                     .hidden = 11008,
                                     .context = 2048,
                                     .vocabulary = 32000};
    CU_ASSERT_EQUAL(parameters_of(&model, 4), 6738415616);
    model.layers = 22;
    model.width = 2048;
    model.key_value_heads = 4;
    model.hidden = 5632;
    CU_ASSERT_EQUAL(parameters_of(&model, 3), 1100048384);
}

static void what_a_shape_leaves_out_is_the_family_s_usual(void) {
    struct gwtf_model_shape model = gpt2_small(), resolved = gwtf_model_shape_resolve(&model);
    CU_ASSERT_EQUAL(resolved.key_value_heads, 12);
    CU_ASSERT_EQUAL(resolved.hidden, 3072);
    CU_ASSERT_EQUAL(resolved.rope_theta, 10000.0f);
    CU_ASSERT_EQUAL(resolved.norm_epsilon, 1e-5f);
    model.family = GWTF_FAMILY_LLAMA;
    /* 8/3 of 768 is 2048; of 512, 1365.3, of which the next multiple of 64 is 1408. */
    CU_ASSERT_EQUAL(gwtf_model_shape_resolve(&model).hidden, 2048);
    model.width = 512;
    CU_ASSERT_EQUAL(gwtf_model_shape_resolve(&model).hidden, 1408);
    CU_ASSERT_STRING_EQUAL(gwtf_family_word(GWTF_FAMILY_GPT2), "gpt2");
    CU_ASSERT_STRING_EQUAL(gwtf_family_word(GWTF_FAMILY_LLAMA), "llama");
}

static void every_layer_lies_in_exactly_one_stage(void) {
    struct gwtf_model_shape model = odd_model(GWTF_FAMILY_GPT2, true);
    for (model.layers = 1; model.layers <= 9; model.layers++) {
        for (uint32_t stages = 1; stages <= model.layers; stages++) {
            uint32_t next = 0, fewest = UINT32_MAX, most = 0;
            for (uint32_t stage = 1; stage <= stages; stage++) {
                struct gwtf_stage_shape shape = gwtf_stage_shape_of(&model, stage, stages);
                CU_ASSERT_EQUAL(shape.first_layer, next);
                /* The extra ones come first. */
                CU_ASSERT(shape.layers <= fewest);
                next += shape.layers;
                fewest = shape.layers < fewest ? shape.layers : fewest;
                most = shape.layers > most ? shape.layers : most;
            }
            CU_ASSERT_EQUAL(next, model.layers);
            CU_ASSERT(most - fewest <= 1 && fewest >= 1);
        }
    }
    struct gwtf_stage_shape data = gwtf_stage_shape_of(&model, 0, 2);
    CU_ASSERT(data.layers == 0 && data.first_layer == 0);
}

struct expected_tensor {
    const char *name;
    uint32_t stage, rank;
    uint64_t rows, columns;
    bool decays;
};

/* Of a model in three stages. */
static void expect_tensors(const struct gwtf_model_shape *model,
                           const struct expected_tensor *expected, size_t count,
                           const char *absent) {
    for (size_t i = 0; i < count; i++) {
        struct gwtf_stage_plan plan;
        struct gwtf_stage_shape shape = gwtf_stage_shape_of(model, expected[i].stage, 3);
        CU_ASSERT_EQUAL_FATAL(gwtf_stage_plan_init(&plan, &shape, NULL), GWTF_OK);
        const struct gwtf_tensor *tensor = gwtf_stage_plan_find(&plan, expected[i].name);
        CU_ASSERT_PTR_NOT_NULL_FATAL(tensor);
        CU_ASSERT_EQUAL(tensor->rank, expected[i].rank);
        CU_ASSERT_EQUAL(tensor->dims[0], expected[i].rows);
        CU_ASSERT_EQUAL(tensor->dims[1], expected[i].columns);
        CU_ASSERT_EQUAL(tensor->decays, expected[i].decays);
        CU_ASSERT_PTR_NULL(gwtf_stage_plan_find(&plan, absent));
        gwtf_stage_plan_deinit(&plan);
    }
}

static void tensors_have_the_names_and_layouts_of_hugging_face(void) {
    struct gwtf_model_shape model = gpt2_small();
    model.tied_head = false;
    static const struct expected_tensor expected[] = {
        {"transformer.wte.weight", 0, 2, 50257, 768, true},
        {"transformer.wpe.weight", 0, 2, 1024, 768, true},
        {"transformer.ln_f.weight", 0, 1, 768, 0, false},
        {"lm_head.weight", 0, 2, 50257, 768, true},
        {"transformer.h.0.ln_1.weight", 1, 1, 768, 0, false},
        {"transformer.h.7.attn.c_attn.weight", 2, 2, 768, 2304, true},
        {"transformer.h.7.attn.c_attn.bias", 2, 1, 2304, 0, false},
        {"transformer.h.11.mlp.c_fc.weight", 3, 2, 768, 3072, true},
        {"transformer.h.11.mlp.c_proj.weight", 3, 2, 3072, 768, true},
    };
    expect_tensors(&model, expected, sizeof expected / sizeof expected[0],
                   "transformer.h.12.ln_1.weight");
}

static void tensors_of_llama_have_the_names_and_layouts_of_hugging_face(void) {
    struct gwtf_model_shape model = gpt2_small();
    model.family = GWTF_FAMILY_LLAMA;
    model.key_value_heads = 4;
    model.tied_head = false;
    static const struct expected_tensor expected[] = {
        {"model.embed_tokens.weight", 0, 2, 50257, 768, true},
        {"model.norm.weight", 0, 1, 768, 0, false},
        {"lm_head.weight", 0, 2, 50257, 768, true},
        {"model.layers.0.input_layernorm.weight", 1, 1, 768, 0, false},
        {"model.layers.3.self_attn.q_proj.weight", 1, 2, 768, 768, true},
        {"model.layers.7.self_attn.k_proj.weight", 2, 2, 256, 768, true},
        {"model.layers.7.self_attn.v_proj.weight", 2, 2, 256, 768, true},
        {"model.layers.7.self_attn.o_proj.weight", 2, 2, 768, 768, true},
        {"model.layers.8.post_attention_layernorm.weight", 3, 1, 768, 0, false},
        {"model.layers.11.mlp.gate_proj.weight", 3, 2, 2048, 768, true},
        {"model.layers.11.mlp.up_proj.weight", 3, 2, 2048, 768, true},
        {"model.layers.11.mlp.down_proj.weight", 3, 2, 768, 2048, true},
    };
    expect_tensors(&model, expected, sizeof expected / sizeof expected[0],
                   "model.layers.12.input_layernorm.weight");
}

/* Rows of one matrix, as queries, keys and values: no multiple of 64 bytes between them. */
static bool is_joined(const char *name) {
    return strstr(name, "k_proj") != NULL || strstr(name, "v_proj") != NULL ||
           strstr(name, "up_proj") != NULL;
}

static void parts_of_one_matrix_follow_each_other_without_a_gap(void) {
    struct gwtf_model_shape model = odd_model(GWTF_FAMILY_LLAMA, false);
    size_t joined = 0, odd = 0;
    for (uint32_t stage = 0; stage <= 2; stage++) {
        struct gwtf_stage_plan plan;
        struct gwtf_stage_shape shape = gwtf_stage_shape_of(&model, stage, 2);
        CU_ASSERT_EQUAL_FATAL(gwtf_stage_plan_init(&plan, &shape, NULL), GWTF_OK);
        uint64_t end = 0;
        for (size_t i = 0; i < plan.tensors_count; i++) {
            const struct gwtf_tensor *tensor = &plan.tensors[i];
            if (is_joined(tensor->name)) {
                CU_ASSERT_EQUAL(tensor->offset, end);
                joined++;
                odd += tensor->offset % 16 != 0;
            } else {
                CU_ASSERT(tensor->offset % 16 == 0);
                CU_ASSERT(tensor->offset >= end && tensor->offset < end + 16);
            }
            end = tensor->offset + tensor->count;
        }
        CU_ASSERT(plan.floats % 16 == 0 && plan.floats >= end && plan.floats < end + 16);
        gwtf_stage_plan_deinit(&plan);
    }
    /* 21 * 24 floats are no multiple of 16: up_proj starts inside a group. */
    CU_ASSERT_EQUAL(joined, 9);
    CU_ASSERT_EQUAL(odd, 3);
}

static void tensors_lie_side_by_side_at_multiples_of_64_bytes(void) {
    struct gwtf_model_shape model = odd_model(GWTF_FAMILY_GPT2, false);
    for (uint32_t stage = 0; stage <= 2; stage++) {
        struct gwtf_stage_plan plan;
        struct gwtf_stage_shape shape = gwtf_stage_shape_of(&model, stage, 2);
        CU_ASSERT_EQUAL_FATAL(gwtf_stage_plan_init(&plan, &shape, NULL), GWTF_OK);
        uint64_t end = 0;
        for (size_t i = 0; i < plan.tensors_count; i++) {
            CU_ASSERT(plan.tensors[i].offset % 16 == 0);
            CU_ASSERT(plan.tensors[i].offset >= end && plan.tensors[i].offset < end + 16);
            end = plan.tensors[i].offset + plan.tensors[i].count;
        }
        CU_ASSERT(plan.floats % 16 == 0 && plan.floats >= end && plan.floats < end + 16);
        gwtf_stage_plan_deinit(&plan);
    }
}

/* One bad shape: what is changed, and the word that the line for the user must have. */
struct bad_shape {
    const char *word;
    void (*spoil)(struct gwtf_stage_options *options);
};

static void no_layers(struct gwtf_stage_options *o) {
    o->shape.model.layers = 0;
}
static void no_width(struct gwtf_stage_options *o) {
    o->shape.model.width = 0;
}
static void no_heads(struct gwtf_stage_options *o) {
    o->shape.model.heads = 0;
}
static void heads_that_do_not_divide(struct gwtf_stage_options *o) {
    o->shape.model.heads = 5;
}
static void heads_that_share_unevenly(struct gwtf_stage_options *o) {
    o->shape.model.family = GWTF_FAMILY_LLAMA;
    o->shape.model.key_value_heads = 2;
}
static void grouped_queries_in_gpt2(struct gwtf_stage_options *o) {
    o->shape.model.key_value_heads = 1;
}
static void heads_without_pairs(struct gwtf_stage_options *o) {
    o->shape.model.family = GWTF_FAMILY_LLAMA;
    o->shape.model.width = 27;
}
static void no_such_family(struct gwtf_stage_options *o) {
    o->shape.model.family = (enum gwtf_family)7;
}
static void too_wide_inside(struct gwtf_stage_options *o) {
    o->shape.model.hidden = UINT32_MAX;
}
static void no_wavelength(struct gwtf_stage_options *o) {
    o->shape.model.rope_theta = -1.0f;
}
static void an_epsilon_below_zero(struct gwtf_stage_options *o) {
    o->shape.model.norm_epsilon = -1e-5f;
}
static void no_context(struct gwtf_stage_options *o) {
    o->shape.model.context = 0;
}
static void one_letter(struct gwtf_stage_options *o) {
    o->shape.model.vocabulary = 1;
}
static void more_stages_than_layers(struct gwtf_stage_options *o) {
    o->shape.stages = 4;
}
static void a_stage_after_the_last(struct gwtf_stage_options *o) {
    o->shape.stage = 3;
}
static void layers_past_the_end(struct gwtf_stage_options *o) {
    o->shape.first_layer = 2;
}
static void no_sequences(struct gwtf_stage_options *o) {
    o->microbatch = 0;
}
static void no_slots(struct gwtf_stage_options *o) {
    o->slots = 0;
}
static void no_threads(struct gwtf_stage_options *o) {
    o->threads = 0;
}

static void an_impossible_shape_is_refused_with_a_line_that_names_it(void) {
    static const struct bad_shape shapes[] = {
        {"model.layers", no_layers},
        {"model.width", no_width},
        {"model.heads", no_heads},
        {"model.heads 5", heads_that_do_not_divide},
        {"model.key_value_heads 2", heads_that_share_unevenly},
        {"model.key_value_heads is 1", grouped_queries_in_gpt2},
        {"pairs", heads_without_pairs},
        {"model.family", no_such_family},
        {"model.hidden", too_wide_inside},
        {"model.rope_theta", no_wavelength},
        {"model.norm_epsilon", an_epsilon_below_zero},
        {"model.context", no_context},
        {"model.vocabulary", one_letter},
        {"pipeline.stages", more_stages_than_layers},
        {"stage 3", a_stage_after_the_last},
        {"layers", layers_past_the_end},
        {"batch.microbatch", no_sequences},
        {"microbatches", no_slots},
        {"backend.threads", no_threads},
    };
    struct gwtf_model_shape model = odd_model(GWTF_FAMILY_GPT2, true);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct gwtf_stage_options options = {
            .shape = gwtf_stage_shape_of(&model, 1, 2), .microbatch = 1, .slots = 1, .threads = 1};
        gwtf_stage *untouched = (gwtf_stage *)(void *)&options, *stage = untouched;
        struct gwtf_error error = {0};
        shapes[i].spoil(&options);
        CU_ASSERT_EQUAL(gwtf_stage_create(&options, &stage, &error), GWTF_ERROR_USAGE);
        CU_ASSERT_PTR_EQUAL(stage, untouched);
        CU_ASSERT_PTR_NOT_NULL(strstr(error.text, shapes[i].word));
        CU_ASSERT_EQUAL(gwtf_stage_create(&options, &stage, NULL), GWTF_ERROR_USAGE);
    }
}

static void a_stage_too_large_for_memory_is_refused(void) {
    struct gwtf_model_shape model = gpt2_small();
    model.width = 1u << 17;
    model.heads = 16;
    model.context = 1u << 24;
    struct gwtf_stage_options options = {.shape = gwtf_stage_shape_of(&model, 1, 1),
                                         .microbatch = UINT32_MAX,
                                         .slots = UINT32_MAX,
                                         .threads = 1};
    gwtf_stage *stage = NULL;
    struct gwtf_error error = {0};
    CU_ASSERT_EQUAL(gwtf_stage_create(&options, &stage, &error), GWTF_ERROR_MEMORY);
    CU_ASSERT_PTR_NULL(stage);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "smaller capacity"));
}

static void a_stage_takes_the_memory_that_was_foretold_and_no_more_later(void) {
    for (size_t run = 0; run < 2 * FAMILIES; run++) {
        for (uint32_t i = 0; i <= 1; i++) {
            struct gwtf_model_shape model = odd_model(families[run / 2], true);
            struct gwtf_stage_options options = {.shape = gwtf_stage_shape_of(&model, i, 1),
                                                 .backend = run % 2 ? GWTF_BACKEND_ONEDNN
                                                                    : GWTF_BACKEND_REFERENCE,
                                                 .microbatch = 2,
                                                 .slots = 3,
                                                 .threads = 1};
            struct gwtf_stage_plan plan;
            CU_ASSERT_EQUAL_FATAL(gwtf_stage_plan_init(&plan, &options.shape, NULL), GWTF_OK);
            uint64_t fixed_bytes, slot_bytes;
            gwtf_stage_memory(&options, &plan, &fixed_bytes, &slot_bytes);
            gwtf_stage *stage;
            count_from_here();
            CU_ASSERT_EQUAL_FATAL(gwtf_stage_create(&options, &stage, NULL), GWTF_OK);
            /* Besides: the stage itself and the list of its tensors, some kilobytes. */
            uint64_t foretold = fixed_bytes + 3 * slot_bytes;
            CU_ASSERT(all_bytes >= foretold && all_bytes < foretold + 8192);
            CU_ASSERT(largest_bytes ==
                      (fixed_bytes > 3 * slot_bytes ? fixed_bytes : 3 * slot_bytes));
            CU_ASSERT(fixed_bytes >= 4 * plan.floats * sizeof(float));
            CU_ASSERT((slot_bytes == 0) == (i == 0));
            gwtf_stage_destroy(stage);
            gwtf_stage_plan_deinit(&plan);
        }
    }
}

static void training_allocates_nothing(void) {
    for (size_t run = 0; run < 2 * FAMILIES; run++) {
        struct pipeline pipeline;
        struct pipeline_options options = {.model = odd_model(families[run / 2], true),
                                           .stages = 2,
                                           .microbatch = 2,
                                           .backend = run % 2 ? GWTF_BACKEND_ONEDNN
                                                              : GWTF_BACKEND_REFERENCE};
        uint32_t tokens[32];
        struct gwtf_optimizer_step step = {.step = 1, .learning_rate = 1e-3f, .gradient_scale = 1};
        pipeline_create(&pipeline, &options);
        pipeline_tokens(&pipeline, 1, tokens);
        count_from_here();
        pipeline_forward(&pipeline, 0, tokens, tokens);
        pipeline_backward(&pipeline, 0, tokens, tokens);
        for (uint32_t i = 0; i <= 2; i++) {
            gwtf_stage_step(pipeline.stages[i], gwtf_stage_gradients(pipeline.stages[i]), &step);
            gwtf_stage_zero_gradients(pipeline.stages[i]);
        }
        CU_ASSERT_EQUAL(allocations, 0);
        pipeline_destroy(&pipeline);
    }
}

static void initial_weights_do_not_depend_on_the_cut(void) {
    struct pipeline pipelines[3];
    for (uint32_t i = 0; i < 3; i++) {
        struct pipeline_options options = {.model = odd_model(GWTF_FAMILY_GPT2, false),
                                           .stages = i + 1,
                                           .microbatch = 1,
                                           .threads = i == 2 ? 2 : 1};
        pipeline_create(&pipelines[i], &options);
        for (uint32_t s = 0; s <= options.stages; s++)
            gwtf_stage_initialise(pipelines[i].stages[s], 9);
        const char *worst = "";
        CU_ASSERT_EQUAL(pipeline_distance(&pipelines[i], &pipelines[0], gwtf_stage_weights, &worst),
                        0);
    }
    for (uint32_t i = 0; i < 3; i++)
        pipeline_destroy(&pipelines[i]);
}

struct expected_start {
    const char *name;
    double deviation, mean;
};

/* Weights of both stages, initialised with seed 1. */
static void expect_starts(const struct pipeline *pipeline, const struct expected_start *expected,
                          size_t count) {
    for (uint32_t s = 0; s <= 1; s++)
        gwtf_stage_initialise(pipeline->stages[s], 1);
    for (size_t i = 0; i < count; i++) {
        const struct gwtf_tensor *tensor = NULL;
        for (uint32_t s = 0; s <= 1 && tensor == NULL; s++)
            tensor =
                gwtf_stage_plan_find(gwtf_stage_get_plan(pipeline->stages[s]), expected[i].name);
        CU_ASSERT_PTR_NOT_NULL_FATAL(tensor);
        const float *values = pipeline_find(pipeline, expected[i].name, gwtf_stage_weights);
        double sum = 0, squares = 0, n = (double)tensor->count;
        for (uint64_t j = 0; j < tensor->count; j++) {
            sum += (double)values[j];
            squares += (double)values[j] * (double)values[j];
        }
        double mean = sum / n, deviation = sqrt(fmax(0, squares / n - mean * mean));
        /* Five times the errors of a mean and a deviation of n numbers. */
        CU_ASSERT(fabs(mean - expected[i].mean) <= 5 * expected[i].deviation / sqrt(n));
        CU_ASSERT(fabs(deviation - expected[i].deviation) <=
                  5 * expected[i].deviation / sqrt(2 * n));
    }
}

static void initial_weights_have_the_deviations_of_gpt2_and_follow_the_seed(void) {
    struct pipeline pipeline;
    struct pipeline_options options = {
        .model = odd_model(GWTF_FAMILY_GPT2, true), .stages = 1, .microbatch = 1};
    options.model.width = 96;
    pipeline_create(&pipeline, &options);
    static const struct expected_start expected[] = {
        {"transformer.wte.weight", 0.02, 0},
        {"transformer.wpe.weight", 0.01, 0},
        {"transformer.h.1.attn.c_attn.weight", 0.02, 0},
        {"transformer.h.1.attn.c_proj.weight", 0.00816497, 0}, /* 0.02 / sqrt(2 * 3) */
        {"transformer.h.1.mlp.c_proj.weight", 0.00816497, 0},
        {"transformer.h.1.mlp.c_fc.weight", 0.02, 0},
        {"transformer.h.1.mlp.c_fc.bias", 0, 0},
        {"transformer.h.1.ln_2.weight", 0, 1},
        {"transformer.ln_f.bias", 0, 0},
    };
    expect_starts(&pipeline, expected, sizeof expected / sizeof expected[0]);
    float before = *pipeline_find(&pipeline, "transformer.wte.weight", gwtf_stage_weights);
    gwtf_stage_initialise(pipeline.stages[0], 2);
    CU_ASSERT_NOT_EQUAL(before,
                        *pipeline_find(&pipeline, "transformer.wte.weight", gwtf_stage_weights));
    pipeline_destroy(&pipeline);
}

static void initial_weights_of_llama_have_the_same_deviations(void) {
    struct pipeline pipeline;
    struct pipeline_options options = {
        .model = odd_model(GWTF_FAMILY_LLAMA, true), .stages = 1, .microbatch = 1};
    options.model.width = 96;
    pipeline_create(&pipeline, &options);
    static const struct expected_start expected[] = {
        {"model.embed_tokens.weight", 0.02, 0},
        {"model.layers.1.self_attn.k_proj.weight", 0.02, 0},
        {"model.layers.1.self_attn.o_proj.weight", 0.00816497, 0},
        {"model.layers.1.mlp.up_proj.weight", 0.02, 0},
        {"model.layers.1.mlp.down_proj.weight", 0.00816497, 0},
        {"model.layers.1.post_attention_layernorm.weight", 0, 1},
        {"model.norm.weight", 0, 1},
    };
    expect_starts(&pipeline, expected, sizeof expected / sizeof expected[0]);
    pipeline_destroy(&pipeline);
}

/* AdamW in double precision, as the paper has it, on one number. */
struct plain_adamw {
    double w, m, v;
};

static void plain_step(struct plain_adamw *state, double g, const struct gwtf_optimizer_step *o,
                       bool decays) {
    double rate = (double)o->learning_rate, b1 = (double)o->beta1, b2 = (double)o->beta2;
    g *= (double)o->gradient_scale;
    state->m = b1 * state->m + (1 - b1) * g;
    state->v = b2 * state->v + (1 - b2) * g * g;
    double m = state->m / (1 - pow(b1, (double)o->step));
    double v = state->v / (1 - pow(b2, (double)o->step));
    state->w -= rate * (decays ? (double)o->weight_decay * state->w : 0);
    state->w -= rate * m / (sqrt(v) + (double)o->epsilon);
}

static void a_step_is_that_of_adamw_and_decays_matrices_only(void) {
    struct pipeline pipeline;
    struct pipeline_options options = {
        .model = odd_model(GWTF_FAMILY_GPT2, true), .stages = 1, .microbatch = 2};
    pipeline_create(&pipeline, &options);
    gwtf_stage *stage = pipeline.stages[1];
    const struct gwtf_stage_plan *plan = gwtf_stage_get_plan(stage);
    struct plain_adamw *plain = calloc(plan->floats, sizeof *plain);
    float *w = gwtf_stage_weights(stage), *m = gwtf_stage_first_moments(stage);
    float *v = gwtf_stage_second_moments(stage);
    for (uint64_t i = 0; i < plan->floats; i++)
        plain[i].w = (double)w[i];
    for (uint64_t step = 1; step <= 5; step++) {
        struct gwtf_optimizer_step o = {.step = step,
                                        .learning_rate = 1e-2f,
                                        .beta1 = 0.9f,
                                        .beta2 = 0.95f,
                                        .epsilon = 1e-8f,
                                        .weight_decay = 0.1f,
                                        .gradient_scale = 0.5f};
        pipeline_zero_gradients(&pipeline);
        pipeline_run(&pipeline, 0, step);
        const float *g = gwtf_stage_gradients(stage);
        gwtf_stage_step(stage, g, &o);
        for (size_t t = 0; t < plan->tensors_count; t++) {
            const struct gwtf_tensor *tensor = &plan->tensors[t];
            for (uint64_t i = tensor->offset; i < tensor->offset + tensor->count; i++)
                plain_step(&plain[i], (double)g[i], &o, tensor->decays);
        }
    }
    double worst = 0;
    for (uint64_t i = 0; i < plan->floats; i++) {
        /* Weights are of order 1 and five steps round them a few times: 6e-8 each. */
        worst = fmax(worst, fabs((double)w[i] - plain[i].w) / (1 + fabs(plain[i].w)));
        CU_ASSERT(fabs((double)m[i] - plain[i].m) <= 1e-6 * fabs(plain[i].m) + 1e-9);
        CU_ASSERT(fabs((double)v[i] - plain[i].v) <= 1e-6 * plain[i].v + 1e-14);
    }
    CU_ASSERT(worst < 5e-7);
    free(plain);
    pipeline_destroy(&pipeline);
}

static void a_step_leaves_gaps_and_gradients_alone(void) {
    struct gwtf_model_shape model = odd_model(GWTF_FAMILY_GPT2, true);
    model.vocabulary = 5; /* 5 * 24 floats end inside a group of 16 */
    struct gwtf_stage_options options = {
        .shape = gwtf_stage_shape_of(&model, 0, 1), .microbatch = 1, .slots = 1, .threads = 2};
    gwtf_stage *stage;
    CU_ASSERT_EQUAL_FATAL(gwtf_stage_create(&options, &stage, NULL), GWTF_OK);
    const struct gwtf_stage_plan *plan = gwtf_stage_get_plan(stage);
    float *gradients = calloc(plan->floats, sizeof *gradients);
    for (uint64_t i = 0; i < plan->floats; i++)
        gradients[i] = 1;
    struct gwtf_optimizer_step step = {
        .step = 1, .learning_rate = 1, .beta1 = 0.9f, .beta2 = 0.9f, .gradient_scale = 1};
    gwtf_stage_step(stage, gradients, &step);
    uint64_t gap = plan->tensors[0].count, moved = 0;
    CU_ASSERT_EQUAL_FATAL(plan->tensors[1].offset - gap, 8);
    for (uint64_t i = 0; i < plan->floats; i++) {
        CU_ASSERT_EQUAL(gradients[i], 1);
        moved += gwtf_stage_weights(stage)[i] != 0;
    }
    for (uint64_t i = gap; i < gap + 8; i++)
        CU_ASSERT_EQUAL(gwtf_stage_weights(stage)[i], 0);
    CU_ASSERT_EQUAL(moved, plan->parameters);
    free(gradients);
    gwtf_stage_destroy(stage);
}

static void clipping_shrinks_long_gradients_only(void) {
    CU_ASSERT_EQUAL(gwtf_clip_scale(0.5, 1), 1.0f);
    CU_ASSERT_EQUAL(gwtf_clip_scale(1, 1), 1.0f);
    CU_ASSERT_EQUAL(gwtf_clip_scale(4, 1), 0.25f);
    CU_ASSERT_EQUAL(gwtf_clip_scale(4, 0), 1.0f);
    CU_ASSERT_EQUAL(gwtf_clip_scale(0, 1), 1.0f);
}

static void the_learning_rate_rises_and_then_decays(void) {
    struct gwtf_schedule schedule = {.learning_rate = 1.0,
                                     .minimum = 0.1,
                                     .warmup = 10,
                                     .iterations = 110,
                                     .decay = GWTF_DECAY_COSINE};
    CU_ASSERT_DOUBLE_EQUAL(gwtf_schedule_at(&schedule, 1), 0.1, 1e-15);
    CU_ASSERT_DOUBLE_EQUAL(gwtf_schedule_at(&schedule, 5), 0.5, 1e-15);
    CU_ASSERT_DOUBLE_EQUAL(gwtf_schedule_at(&schedule, 10), 1.0, 1e-15);
    for (uint64_t step = 10; step <= 110; step++) {
        double expected = 0.1 + 0.9 * 0.5 * (1 + cos(M_PI * (double)(step - 10) / 100));
        CU_ASSERT_DOUBLE_EQUAL(gwtf_schedule_at(&schedule, step), expected, 1e-14);
    }
    CU_ASSERT_DOUBLE_EQUAL(gwtf_schedule_at(&schedule, 110), 0.1, 1e-15);
    CU_ASSERT_DOUBLE_EQUAL(gwtf_schedule_at(&schedule, 500), 0.1, 1e-15);
    schedule.decay = GWTF_DECAY_LINEAR;
    CU_ASSERT_DOUBLE_EQUAL(gwtf_schedule_at(&schedule, 60), 0.55, 1e-15);
    CU_ASSERT_DOUBLE_EQUAL(gwtf_schedule_at(&schedule, 110), 0.1, 1e-15);
    schedule.decay = GWTF_DECAY_NONE;
    CU_ASSERT_EQUAL(gwtf_schedule_at(&schedule, 500), 1.0);
    schedule.warmup = 0;
    CU_ASSERT_EQUAL(gwtf_schedule_at(&schedule, 1), 1.0);
}

static void sums_are_exact_where_numbers_are_and_in_order(void) {
    /* 1 + 2^-24 is 1 in single precision, not in double. */
    float values[40];
    double expected = 0;
    for (size_t i = 0; i < 40; i++) {
        values[i] = (float)i + 0.5f;
        expected += ((double)i + 0.5) * ((double)i + 0.5);
    }
    for (uint64_t n = 0; n <= 40; n += 8) {
        double sum = 0;
        for (uint64_t i = 0; i < n; i++)
            sum += (double)values[i] * (double)values[i];
        CU_ASSERT_EQUAL(gwtf_sum_of_squares(values, n), sum);
    }
    CU_ASSERT_EQUAL(gwtf_sum_of_squares(values, 40), expected);
    memset(values, 0, sizeof values);
    values[0] = 1;
    values[16] = values[32] = 0x1p-12f;
    CU_ASSERT_EQUAL(gwtf_sum_of_squares(values, 33), 1 + 0x1p-23);

    float a[5000], b[5000], c[5000], sum[5000];
    for (size_t i = 0; i < 5000; i++) {
        a[i] = (float)i;
        b[i] = 1e8f;
        c[i] = -1e8f;
    }
    const float *const parts[] = {a, b, c}, *const other_order[] = {b, c, a};
    gwtf_sum_parts(sum, parts, 3, 5000);
    for (size_t i = 0; i < 5000; i++)
        CU_ASSERT_EQUAL(sum[i], ((float)i + 1e8f) + -1e8f);
    gwtf_sum_parts(sum, other_order, 3, 5000);
    for (size_t i = 0; i < 5000; i++)
        CU_ASSERT_EQUAL(sum[i], (float)i);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(the_stages_of_gpt2_small_have_its_124_million_parameters),
        GWTF_TEST(the_stages_of_known_llamas_have_their_parameters),
        GWTF_TEST(what_a_shape_leaves_out_is_the_family_s_usual),
        GWTF_TEST(every_layer_lies_in_exactly_one_stage),
        GWTF_TEST(tensors_have_the_names_and_layouts_of_hugging_face),
        GWTF_TEST(tensors_of_llama_have_the_names_and_layouts_of_hugging_face),
        GWTF_TEST(parts_of_one_matrix_follow_each_other_without_a_gap),
        GWTF_TEST(tensors_lie_side_by_side_at_multiples_of_64_bytes),
        GWTF_TEST(an_impossible_shape_is_refused_with_a_line_that_names_it),
        GWTF_TEST(a_stage_too_large_for_memory_is_refused),
        GWTF_TEST(a_stage_takes_the_memory_that_was_foretold_and_no_more_later),
        GWTF_TEST(training_allocates_nothing),
        GWTF_TEST(initial_weights_do_not_depend_on_the_cut),
        GWTF_TEST(initial_weights_have_the_deviations_of_gpt2_and_follow_the_seed),
        GWTF_TEST(initial_weights_of_llama_have_the_same_deviations),
        GWTF_TEST(a_step_is_that_of_adamw_and_decays_matrices_only),
        GWTF_TEST(a_step_leaves_gaps_and_gradients_alone),
        GWTF_TEST(clipping_shrinks_long_gradients_only),
        GWTF_TEST(the_learning_rate_rises_and_then_decays),
        GWTF_TEST(sums_are_exact_where_numbers_are_and_in_order),
    };
    return gwtf_suite_main(argc, argv, "model", tests, sizeof tests / sizeof tests[0], NULL, NULL);
}
