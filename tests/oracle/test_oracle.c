/*
 * Both backends against PyTorch: the files that model_fixture.py wrote, computed there in double
 * precision, read here without any library.
 *
 * Tolerances are distances relative to a tensor's norm. The reference backend rounds each
 * activation to single precision, 6e-8 of it, a few dozen times on the way: 2e-6 allows for that.
 * The fast one also sums in single precision, up to 160 products at a time: 5e-6. A wrong term
 * shows as 1e-3 and more. After AdamW's steps one tensor is further off: the gradient of the keys'
 * biases is zero, what stands there is rounding, and AdamW divides it by itself plus epsilon.
 */
#include "model/model.h"
#include "tests/support/suite.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORDS_MAX 256
#define NAME_MAX_LENGTH 96
#define RANK_MAX 4

#define KEYS_BIAS_TRAINED 5e-5
/* bfloat16 rounds an operand by 2^-10 of it in the mean, and ten products follow each other. */
#define ROUNDED_LOGITS 1.5e-2
#define ROUNDED_GRADIENTS 3e-2
/* Of the record "config"; a LLaMA has more. */
#define GPT2_NUMBERS 8

struct record {
    char name[NAME_MAX_LENGTH];
    size_t count;
    float *values;
};

struct fixture {
    size_t records_count;
    struct record records[RECORDS_MAX];
};

static bool read_numbers(FILE *file, uint32_t *numbers, size_t count) {
    return fread(numbers, sizeof *numbers, count, file) == count;
}

/* False at the end of the file, and where the file is not what it should be. */
static bool read_record(FILE *file, struct record *record) {
    uint32_t length, rank, dims[RANK_MAX];
    if (!read_numbers(file, &length, 1) || length >= NAME_MAX_LENGTH ||
        fread(record->name, 1, length, file) != length || !read_numbers(file, &rank, 1) ||
        rank > RANK_MAX || !read_numbers(file, dims, rank))
        return false;
    record->name[length] = 0;
    record->count = 1;
    for (uint32_t i = 0; i < rank; i++)
        record->count *= dims[i];
    record->values = malloc(record->count * sizeof *record->values);
    return record->values != NULL &&
           fread(record->values, sizeof *record->values, record->count, file) == record->count;
}

static void load(struct fixture *fixture, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/fixtures/%s", GWTF_TEST_SOURCE_DIR, name);
    FILE *file = fopen(path, "rb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    *fixture = (struct fixture){0};
    while (fixture->records_count < RECORDS_MAX &&
           read_record(file, &fixture->records[fixture->records_count]))
        fixture->records_count++;
    CU_ASSERT_FATAL(feof(file));
    fclose(file);
}

static void unload(struct fixture *fixture) {
    for (size_t i = 0; i < fixture->records_count; i++)
        free(fixture->records[i].values);
}

static const struct record *find(const struct fixture *fixture, const char *kind,
                                 const char *name) {
    char wanted[2 * NAME_MAX_LENGTH];
    snprintf(wanted, sizeof wanted, "%s%s", kind, name);
    for (size_t i = 0; i < fixture->records_count; i++) {
        if (strcmp(fixture->records[i].name, wanted) == 0)
            return &fixture->records[i];
    }
    printf("\n    the fixture has no %s", wanted);
    CU_FAIL_FATAL("a record is missing");
    return NULL;
}

/* A model of one relay stage and the data node's. */
struct trainer {
    size_t rows;
    uint32_t width, vocabulary;
    gwtf_stage *stages[2];
    uint32_t *tokens, *labels;
    float *input, *output, *gradient, *input_gradient, *logits;
};

static uint32_t *whole_numbers(const struct record *record) {
    uint32_t *numbers = calloc(record->count, sizeof *numbers);
    for (size_t i = 0; i < record->count; i++)
        numbers[i] = (uint32_t)record->values[i];
    return numbers;
}

static void start(struct trainer *trainer, const struct fixture *fixture,
                  enum gwtf_backend_kind backend, enum gwtf_precision precision) {
    const struct record *record = find(fixture, "config", "");
    const float *config = record->values;
    struct gwtf_model_shape model = {.layers = (uint32_t)config[0],
                                     .width = (uint32_t)config[1],
                                     .heads = (uint32_t)config[2],
                                     .context = (uint32_t)config[3],
                                     .vocabulary = (uint32_t)config[4],
                                     .tied_head = config[5] != 0};
    if (record->count > GPT2_NUMBERS) {
        model.family = GWTF_FAMILY_LLAMA;
        model.key_value_heads = (uint32_t)config[8];
        model.hidden = (uint32_t)config[9];
        model.rope_theta = config[10];
        model.norm_epsilon = config[11];
    }
    struct gwtf_stage_options options = {.backend = backend,
                                         .precision = precision,
                                         .microbatch = (uint32_t)config[6],
                                         .slots = 1,
                                         .threads = 1};
    for (uint32_t i = 0; i < 2; i++) {
        options.shape = gwtf_stage_shape_of(&model, i, 1);
        CU_ASSERT_EQUAL_FATAL(gwtf_stage_create(&options, &trainer->stages[i], NULL), GWTF_OK);
        const struct gwtf_stage_plan *plan = gwtf_stage_get_plan(trainer->stages[i]);
        for (size_t t = 0; t < plan->tensors_count; t++) {
            const struct gwtf_tensor *tensor = &plan->tensors[t];
            const struct record *weights = find(fixture, "weight/", tensor->name);
            CU_ASSERT_EQUAL_FATAL(weights->count, tensor->count);
            memcpy(gwtf_stage_weights(trainer->stages[i]) + tensor->offset, weights->values,
                   weights->count * sizeof *weights->values);
        }
    }
    trainer->rows = (size_t)options.microbatch * model.context;
    trainer->width = model.width;
    trainer->vocabulary = model.vocabulary;
    trainer->tokens = whole_numbers(find(fixture, "tokens", ""));
    trainer->labels = whole_numbers(find(fixture, "labels", ""));
    float **const boundaries[] = {&trainer->input, &trainer->output, &trainer->gradient,
                                  &trainer->input_gradient};
    for (size_t i = 0; i < 4; i++)
        *boundaries[i] = calloc(trainer->rows * model.width, sizeof(float));
    trainer->logits = calloc(trainer->rows * model.vocabulary, sizeof(float));
}

static void finish(struct trainer *trainer) {
    gwtf_stage_destroy(trainer->stages[0]);
    gwtf_stage_destroy(trainer->stages[1]);
    void *const memory[] = {trainer->tokens, trainer->labels,   trainer->input,
                            trainer->output, trainer->gradient, trainer->input_gradient,
                            trainer->logits};
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++)
        free(memory[i]);
}

/* The loss of the microbatch; its gradients are what the stages hold afterwards. */
static double run(struct trainer *t) {
    double loss = 0;
    gwtf_stage *data = t->stages[0], *relay = t->stages[1];
    gwtf_stage_zero_gradients(data);
    gwtf_stage_zero_gradients(relay);
    gwtf_stage_embed(data, t->tokens, t->input);
    gwtf_stage_forward(relay, 0, t->input, t->output, true);
    gwtf_stage_loss(data, t->output, t->labels, 1.0f / (float)t->rows, &loss, t->gradient,
                    t->logits);
    gwtf_stage_backward(relay, 0, t->input, t->gradient, t->input_gradient);
    gwtf_stage_embed_backward(data, t->tokens, t->input_gradient);
    return loss;
}

static void train(struct trainer *trainer, const struct fixture *fixture) {
    uint64_t steps = (uint64_t)find(fixture, "config", "")->values[7];
    const float *o = find(fixture, "optimizer", "")->values;
    for (uint64_t step = 1; step <= steps; step++) {
        struct gwtf_optimizer_step options = {.step = step,
                                              .learning_rate = o[0],
                                              .beta1 = o[1],
                                              .beta2 = o[2],
                                              .epsilon = o[3],
                                              .weight_decay = o[4],
                                              .gradient_scale = 1.0f};
        run(trainer);
        for (size_t i = 0; i < 2; i++)
            gwtf_stage_step(trainer->stages[i], gwtf_stage_gradients(trainer->stages[i]), &options);
    }
}

static void expect_near(const float *values, const struct record *expected, double most) {
    double apart = 0, size = 0;
    for (size_t i = 0; i < expected->count; i++) {
        double difference = (double)values[i] - (double)expected->values[i];
        apart += difference * difference;
        size += (double)expected->values[i] * (double)expected->values[i];
    }
    double distance = sqrt(apart / size);
    if (!(distance < most))
        printf("\n    %s: %.2e", expected->name, distance);
    CU_ASSERT(distance < most);
}

/* Every tensor in the flat arrays that ARRAY returns, against the records of KIND. */
static void expect_tensors(const struct trainer *trainer, const struct fixture *fixture,
                           const char *kind, float *(*array)(gwtf_stage *), double most) {
    for (size_t i = 0; i < 2; i++) {
        const struct gwtf_stage_plan *plan = gwtf_stage_get_plan(trainer->stages[i]);
        for (size_t t = 0; t < plan->tensors_count; t++) {
            const char *name = plan->tensors[t].name;
            bool drifts = array == gwtf_stage_weights && strstr(name, "c_attn.bias") != NULL;
            expect_near(array(trainer->stages[i]) + plan->tensors[t].offset,
                        find(fixture, kind, name), drifts ? KEYS_BIAS_TRAINED : most);
        }
    }
}

static void compare(const char *file, enum gwtf_backend_kind backend, double most) {
    struct fixture fixture;
    struct trainer trainer;
    load(&fixture, file);
    start(&trainer, &fixture, backend, GWTF_PRECISION_FLOAT32);
    double loss = run(&trainer), expected = (double)find(&fixture, "loss", "")->values[0];
    CU_ASSERT(fabs(loss - expected) < 5e-7 * expected);
    expect_near(trainer.logits, find(&fixture, "logits", ""), most);
    expect_tensors(&trainer, &fixture, "gradient/", gwtf_stage_gradients, most);
    train(&trainer, &fixture);
    expect_tensors(&trainer, &fixture, "trained/", gwtf_stage_weights, most);
    finish(&trainer);
    unload(&fixture);
}

static void the_reference_backend_trains_as_pytorch_does(void) {
    compare("gpt2-small.bin", GWTF_BACKEND_REFERENCE, 2e-6);
}

static void the_reference_backend_trains_as_pytorch_does_with_a_head_of_its_own(void) {
    compare("gpt2-untied.bin", GWTF_BACKEND_REFERENCE, 2e-6);
}

static void the_fast_backend_trains_as_pytorch_does(void) {
    compare("gpt2-small.bin", GWTF_BACKEND_ONEDNN, 5e-6);
}

static void the_fast_backend_trains_as_pytorch_does_with_a_head_of_its_own(void) {
    compare("gpt2-untied.bin", GWTF_BACKEND_ONEDNN, 5e-6);
}

static void the_reference_backend_trains_llama_as_pytorch_does(void) {
    compare("llama-grouped.bin", GWTF_BACKEND_REFERENCE, 2e-6);
    compare("llama-untied.bin", GWTF_BACKEND_REFERENCE, 2e-6);
}

static void the_fast_backend_trains_llama_as_pytorch_does(void) {
    compare("llama-grouped.bin", GWTF_BACKEND_ONEDNN, 5e-6);
    compare("llama-untied.bin", GWTF_BACKEND_ONEDNN, 5e-6);
}

/* Loss, logits and gradients; AdamW's first steps only ask for a gradient's sign. */
static void compare_rounded(const char *file) {
    struct fixture fixture;
    struct trainer trainer;
    load(&fixture, file);
    start(&trainer, &fixture, GWTF_BACKEND_ONEDNN, GWTF_PRECISION_BFLOAT16);
    double loss = run(&trainer), expected = (double)find(&fixture, "loss", "")->values[0];
    CU_ASSERT(fabs(loss - expected) < 2e-3 * expected);
    expect_near(trainer.logits, find(&fixture, "logits", ""), ROUNDED_LOGITS);
    expect_tensors(&trainer, &fixture, "gradient/", gwtf_stage_gradients, ROUNDED_GRADIENTS);
    finish(&trainer);
    unload(&fixture);
}

static void the_fast_backend_in_bfloat16_is_near_pytorch(void) {
    compare_rounded("gpt2-small.bin");
    compare_rounded("gpt2-untied.bin");
    compare_rounded("llama-grouped.bin");
    compare_rounded("llama-untied.bin");
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(the_reference_backend_trains_as_pytorch_does),
        GWTF_TEST(the_reference_backend_trains_as_pytorch_does_with_a_head_of_its_own),
        GWTF_TEST(the_fast_backend_trains_as_pytorch_does),
        GWTF_TEST(the_fast_backend_trains_as_pytorch_does_with_a_head_of_its_own),
        GWTF_TEST(the_reference_backend_trains_llama_as_pytorch_does),
        GWTF_TEST(the_fast_backend_trains_llama_as_pytorch_does),
        GWTF_TEST(the_fast_backend_in_bfloat16_is_near_pytorch),
    };
    return gwtf_suite_main(argc, argv, "oracle", tests, sizeof tests / sizeof tests[0], NULL, NULL);
}
