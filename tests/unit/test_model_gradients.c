/*
 * The reference backend's gradients against differences of its loss. Nothing here knows how a
 * gradient is computed: a slope is what the loss does when weights move.
 *
 * The step: moved by h along a direction of length 1, a loss around 90 nats (its rounding errors
 * are near 1e-6) changes by 2h * slope; the error of the central difference is of order h^2. At
 * h = 0.01 both are some 1e-4 of the gradient's norm.
 */
#include "model/model.h"
#include "share/base/random.h"
#include "tests/support/suite.h"
#include "tests/unit/model_pipeline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEP 0.01
#define TOKENS_MAX 32

struct check {
    struct pipeline pipeline;
    uint32_t tokens[TOKENS_MAX], labels[TOKENS_MAX];
};

static void start(struct check *check, const struct gwtf_model_shape *model) {
    struct pipeline_options options = {.model = *model, .stages = 2, .microbatch = 3};
    pipeline_create(&check->pipeline, &options);
    pipeline_tokens(&check->pipeline, 1, check->tokens);
    pipeline_tokens(&check->pipeline, 2, check->labels);
    pipeline_forward(&check->pipeline, 0, check->tokens, check->labels);
    pipeline_backward(&check->pipeline, 0, check->tokens, check->labels);
}

/* The mean loss with DIRECTION * SIZE added to the weights; moved[] gets what they really became.
 */
static double loss_at(struct check *check, float *weights, const float *before,
                      const double *direction, double size, uint64_t count) {
    for (uint64_t i = 0; i < count; i++)
        weights[i] = (float)((double)before[i] + size * direction[i]);
    return pipeline_forward(&check->pipeline, 0, check->tokens, check->labels) /
           (double)check->pipeline.rows;
}

/* The difference of the loss along DIRECTION (length 1), over what GRADIENT says, in units of the
 * gradient's norm. */
static double slope_error(struct check *check, float *weights, const float *gradient,
                          const double *direction, uint64_t count) {
    float *before = malloc(count * sizeof *before);
    double expected = 0, norm = 0;
    memcpy(before, weights, count * sizeof *before);
    for (uint64_t i = 0; i < count; i++) {
        /* What the weights can really do in single precision. */
        double up = (double)(float)((double)before[i] + STEP * direction[i]);
        double down = (double)(float)((double)before[i] - STEP * direction[i]);
        expected += (double)gradient[i] * (up - down) / (2 * STEP);
        norm += (double)gradient[i] * (double)gradient[i];
    }
    double up = loss_at(check, weights, before, direction, STEP, count);
    double down = loss_at(check, weights, before, direction, -STEP, count);
    memcpy(weights, before, count * sizeof *before);
    free(before);
    return fabs((up - down) / (2 * STEP) - expected) / sqrt(norm);
}

static void normalise(double *direction, uint64_t count) {
    double norm = 0;
    for (uint64_t i = 0; i < count; i++)
        norm += direction[i] * direction[i];
    for (uint64_t i = 0; i < count; i++)
        direction[i] /= sqrt(norm);
}

/* The largest error of some directions: the gradient itself, random ones, and single weights. */
static double tensor_error(struct check *check, gwtf_stage *stage,
                           const struct gwtf_tensor *tensor) {
    float *weights = gwtf_stage_weights(stage) + tensor->offset;
    const float *gradient = gwtf_stage_gradients(stage) + tensor->offset;
    uint64_t count = tensor->count;
    double *direction = malloc(count * sizeof *direction), worst = 0;
    struct gwtf_random random;
    gwtf_random_init(&random, tensor->offset);
    for (int round = 0; round < 8; round++) {
        uint64_t single = gwtf_random_below(&random, count);
        for (uint64_t i = 0; i < count; i++) {
            if (round == 0)
                direction[i] = (double)gradient[i];
            else if (round < 4)
                direction[i] = gwtf_random_unit(&random) - 0.5;
            else
                direction[i] = i == single ? 1 : 0;
        }
        normalise(direction, count);
        worst = fmax(worst, slope_error(check, weights, gradient, direction, count));
    }
    free(direction);
    return worst;
}

static void check_every_tensor(struct gwtf_model_shape model, size_t expected) {
    struct check check;
    start(&check, &model);
    size_t tensors = 0;
    for (uint32_t i = 0; i <= check.pipeline.options.stages; i++) {
        gwtf_stage *stage = check.pipeline.stages[i];
        const struct gwtf_stage_plan *plan = gwtf_stage_get_plan(stage);
        for (size_t t = 0; t < plan->tensors_count; t++, tensors++) {
            double error = tensor_error(&check, stage, &plan->tensors[t]);
            if (!(error < 2e-3))
                printf("\n    %s: %.2e", plan->tensors[t].name, error);
            CU_ASSERT(error < 2e-3);
        }
    }
    CU_ASSERT_EQUAL(tensors, expected);
    pipeline_destroy(&check.pipeline);
}

/* Three blocks of twelve, the embeddings, the last norm, and the head's own. */
static void every_gradient_is_the_slope_of_the_loss_with_a_tied_head(void) {
    check_every_tensor(odd_model(GWTF_FAMILY_GPT2, true), 40);
}

static void every_gradient_is_the_slope_of_the_loss_with_a_head_of_its_own(void) {
    check_every_tensor(odd_model(GWTF_FAMILY_GPT2, false), 41);
}

/* Three blocks of nine, the embedding, the last norm, and the head's own. */
static void every_gradient_of_llama_is_the_slope_of_the_loss_with_a_tied_head(void) {
    check_every_tensor(odd_model(GWTF_FAMILY_LLAMA, true), 29);
}

static void every_gradient_of_llama_is_the_slope_of_the_loss_with_a_head_of_its_own(void) {
    check_every_tensor(odd_model(GWTF_FAMILY_LLAMA, false), 30);
}

/* One key head for each head and one for all, short wavelengths, and a norm that epsilon bends. */
static void every_gradient_of_llama_is_the_slope_of_the_loss_at_the_ends_of_its_range(void) {
    struct gwtf_model_shape model = odd_model(GWTF_FAMILY_LLAMA, true);
    model.layers = 2;
    model.rope_theta = 3.0f;
    model.norm_epsilon = 0.5f;
    model.key_value_heads = 0;
    check_every_tensor(model, 20);
    model.key_value_heads = 1;
    check_every_tensor(model, 20);
}

/* Of sum(OUTPUT * PULL), a loss that reaches every output. */
static double pulled(gwtf_stage *stage, const float *input, float *output, const float *pull,
                     size_t count) {
    gwtf_stage_forward(stage, 0, input, output, false);
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)output[i] * (double)pull[i];
    return sum;
}

static void check_input_gradient(struct gwtf_model_shape model) {
    struct pipeline pipeline;
    struct pipeline_options options = {.model = model, .stages = 1, .microbatch = 2};
    pipeline_create(&pipeline, &options);
    size_t count = pipeline.rows * options.model.width;
    gwtf_stage *relay = pipeline.stages[1];
    float *input = pipeline.boundaries[0][0], *output = pipeline.boundaries[0][1];
    float *pull = pipeline.gradient[0], *gradient = pipeline.gradient[1];
    for (size_t i = 0; i < count; i++) {
        input[i] = (float)gwtf_random_normal_at(5, i);
        pull[i] = (float)gwtf_random_normal_at(6, i);
    }
    gwtf_stage_forward(relay, 0, input, output, true);
    gwtf_stage_backward(relay, 0, input, pull, gradient);
    double worst = 0, largest = 0;
    for (size_t i = 0; i < count; i++)
        largest = fmax(largest, fabs((double)gradient[i]));
    for (size_t i = 0; i < count; i++) {
        float before = input[i], up = before + 0.01f, down = before - 0.01f;
        input[i] = up;
        double higher = pulled(relay, input, output, pull, count);
        input[i] = down;
        double lower = pulled(relay, input, output, pull, count);
        input[i] = before;
        double slope = (higher - lower) / ((double)up - (double)down);
        worst = fmax(worst, fabs(slope - (double)gradient[i]));
    }
    CU_ASSERT(worst < 2e-3 * largest);
    pipeline_destroy(&pipeline);
}

static void the_input_gradient_of_a_relay_is_the_slope_by_its_input(void) {
    for (size_t i = 0; i < FAMILIES; i++)
        check_input_gradient(odd_model(families[i], true));
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(every_gradient_is_the_slope_of_the_loss_with_a_tied_head),
        GWTF_TEST(every_gradient_is_the_slope_of_the_loss_with_a_head_of_its_own),
        GWTF_TEST(every_gradient_of_llama_is_the_slope_of_the_loss_with_a_tied_head),
        GWTF_TEST(every_gradient_of_llama_is_the_slope_of_the_loss_with_a_head_of_its_own),
        GWTF_TEST(every_gradient_of_llama_is_the_slope_of_the_loss_at_the_ends_of_its_range),
        GWTF_TEST(the_input_gradient_of_a_relay_is_the_slope_by_its_input),
    };
    return gwtf_suite_main(argc, argv, "model_gradients", tests, sizeof tests / sizeof tests[0],
                           NULL, NULL);
}
