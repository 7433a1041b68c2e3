/*
 * How fast a whole model trains in one process: tokens per second of the forward pass, the backward
 * pass and the optimizer's step, medians of several rounds.
 *
 *     bench_model [layers width heads context microbatch vocabulary threads rounds backend family]
 *
 * Without arguments: 6 384 6 256 8 256 1 7 onednn gpt2. The backend may be "reference", the family
 * "llama".
 */
#include "model/model.h"
#include "share/base/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS_MAX 1000

enum part { FORWARD, BACKWARD, STEP, ALL, PARTS };

struct bench {
    gwtf_stage *data, *relay;
    size_t rows;
    uint32_t *tokens, *labels;
    float *embedded, *output, *gradient, *input_gradient;
    uint64_t steps;
    double seconds[PARTS][ROUNDS_MAX];
};

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static gwtf_stage *make(const struct gwtf_stage_options *options) {
    gwtf_stage *stage = NULL;
    struct gwtf_error error;
    gwtf_status status = gwtf_stage_create(options, &stage, &error);
    if (status != GWTF_OK) {
        fprintf(stderr, "bench_model: %s\n", error.text);
        exit(gwtf_status_exit_code(status));
    }
    gwtf_stage_initialise(stage, 1);
    return stage;
}

static void *allocate(size_t count, size_t size_bytes) {
    void *memory = calloc(count, size_bytes);
    if (memory == NULL) {
        fprintf(stderr, "bench_model: no memory: use a smaller model\n");
        exit(1);
    }
    return memory;
}

static void set_up(struct bench *bench, struct gwtf_stage_options options) {
    const struct gwtf_model_shape model = options.shape.model;
    options.shape = gwtf_stage_shape_of(&model, 0, 1);
    bench->data = make(&options);
    options.shape = gwtf_stage_shape_of(&model, 1, 1);
    bench->relay = make(&options);
    bench->rows = (size_t)options.microbatch * model.context;
    bench->tokens = allocate(bench->rows, sizeof *bench->tokens);
    bench->labels = allocate(bench->rows, sizeof *bench->labels);
    float **const boundaries[] = {&bench->embedded, &bench->output, &bench->gradient,
                                  &bench->input_gradient};
    for (size_t i = 0; i < 4; i++)
        *boundaries[i] = allocate(bench->rows * model.width, sizeof(float));
    struct gwtf_random random;
    gwtf_random_init(&random, 1);
    for (size_t i = 0; i < bench->rows; i++) {
        bench->tokens[i] = (uint32_t)gwtf_random_below(&random, model.vocabulary);
        bench->labels[i] = (uint32_t)gwtf_random_below(&random, model.vocabulary);
    }
}

static void run(struct bench *bench, size_t round) {
    double loss = 0, start = now();
    gwtf_stage_embed(bench->data, bench->tokens, bench->embedded);
    gwtf_stage_forward(bench->relay, 0, bench->embedded, bench->output, true);
    double forward = now();
    /* The head's forward pass counts as backward: one call does both. */
    gwtf_stage_loss(bench->data, bench->output, bench->labels, 1.0f / (float)bench->rows, &loss,
                    bench->gradient, NULL);
    gwtf_stage_backward(bench->relay, 0, bench->embedded, bench->gradient, bench->input_gradient);
    gwtf_stage_embed_backward(bench->data, bench->tokens, bench->input_gradient);
    double backward = now();
    struct gwtf_optimizer_step step = {.step = ++bench->steps,
                                       .learning_rate = 1e-4f,
                                       .beta1 = 0.9f,
                                       .beta2 = 0.999f,
                                       .epsilon = 1e-8f,
                                       .weight_decay = 0.01f,
                                       .gradient_scale = 1.0f};
    gwtf_stage *const stages[] = {bench->data, bench->relay};
    for (size_t i = 0; i < 2; i++) {
        gwtf_stage_step(stages[i], gwtf_stage_gradients(stages[i]), &step);
        gwtf_stage_zero_gradients(stages[i]);
    }
    double end = now();
    bench->seconds[FORWARD][round] = forward - start;
    bench->seconds[BACKWARD][round] = backward - forward;
    bench->seconds[STEP][round] = end - backward;
    bench->seconds[ALL][round] = end - start;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(struct bench *bench, size_t rounds) {
    static const char *const names[PARTS] = {"forward", "backward", "step", "all"};
    for (size_t part = 0; part < PARTS; part++) {
        double *seconds = bench->seconds[part];
        qsort(seconds, rounds, sizeof *seconds, compare);
        printf("%-9s %9.2f ms %9.0f tokens/s, at best %9.0f\n", names[part],
               1e3 * seconds[rounds / 2], (double)bench->rows / seconds[rounds / 2],
               (double)bench->rows / seconds[0]);
    }
}

int main(int argc, char **argv) {
    uint32_t numbers[8] = {6, 384, 6, 256, 8, 256, 1, 7};
    for (int i = 1; i < argc && i <= 8; i++)
        numbers[i - 1] = (uint32_t)strtoul(argv[i], NULL, 10);
    struct gwtf_stage_options options = {
        .shape.model = {.family = argc > 10 && strcmp(argv[10], "llama") == 0 ? GWTF_FAMILY_LLAMA
                                                                              : GWTF_FAMILY_GPT2,
                        .layers = numbers[0],
                        .width = numbers[1],
                        .heads = numbers[2],
                        .context = numbers[3],
                        .vocabulary = numbers[5],
                        .tied_head = true},
        .backend = argc > 9 && strcmp(argv[9], "reference") == 0 ? GWTF_BACKEND_REFERENCE
                                                                 : GWTF_BACKEND_ONEDNN,
        .microbatch = numbers[4],
        .slots = 1,
        .threads = numbers[6],
    };
    size_t rounds = numbers[7] < ROUNDS_MAX ? numbers[7] : ROUNDS_MAX;
    static struct bench bench;
    set_up(&bench, options);
    run(&bench, 0); /* warms up caches, threads and the library; the first round overwrites it */
    for (size_t round = 0; round < rounds; round++)
        run(&bench, round);
    report(&bench, rounds);
    gwtf_stage_destroy(bench.data);
    gwtf_stage_destroy(bench.relay);
    void *const memory[] = {bench.tokens, bench.labels,   bench.embedded,
                            bench.output, bench.gradient, bench.input_gradient};
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++)
        free(memory[i]);
    return 0;
}
