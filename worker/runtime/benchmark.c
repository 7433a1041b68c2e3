#include "worker/runtime/benchmark.h"

#include "model/peak.h"
#include "share/base/random.h"
#include "worker/runtime/machine.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Products that the library's best is taken from, before the rounds and again after them. */
#define PEAK_ROUNDS 3u

enum boundary { EMBEDDED, OUTPUT, OUTPUT_GRADIENT, INPUT_GRADIENT, BOUNDARIES };

struct bench {
    const struct gwtf_setup *setup;
    gwtf_stage *ends;   /* stage 0 */
    gwtf_stage *blocks; /* all of them */
    clockid_t clock;
    enum gwtf_precision precision;
    size_t tokens_count;
    uint32_t *tokens, *labels;
    void *boundaries[BOUNDARIES];
    double seconds[GWTF_BENCHMARK_PARTS][GWTF_BENCHMARK_ROUNDS_MAX + 1];
};

static void bench_deinit(struct bench *bench) {
    for (size_t i = 0; i < BOUNDARIES; i++)
        gwtf_stage_boundary_destroy(bench->ends, bench->boundaries[i]);
    gwtf_stage_destroy(bench->ends);
    gwtf_stage_destroy(bench->blocks);
    free(bench->tokens);
    free(bench->labels);
    *bench = (struct bench){0};
}

static gwtf_status make_stage(struct bench *bench, uint32_t index, uint32_t threads,
                              gwtf_stage **stage, struct gwtf_error *error) {
    struct gwtf_stage_options options =
        gwtf_setup_stage_options(bench->setup, gwtf_stage_shape_of(&bench->setup->model, index, 1));
    options.threads = threads;
    bench->precision = options.precision;
    gwtf_status status = gwtf_stage_create(&options, stage, error);
    if (status == GWTF_OK)
        gwtf_stage_initialise(*stage, bench->setup->config.run.seed);
    return status;
}

static gwtf_status bench_init(struct bench *bench, const struct gwtf_setup *setup, uint32_t threads,
                              struct gwtf_error *error) {
    const struct gwtf_model_shape *model = &setup->model;
    bench->setup = setup;
    bench->tokens_count = (size_t)setup->config.batch.microbatch * model->context;
    gwtf_status status = make_stage(bench, 0, threads, &bench->ends, error);
    if (status == GWTF_OK)
        status = make_stage(bench, 1, threads, &bench->blocks, error);
    if (status != GWTF_OK)
        return status;
    bench->tokens = calloc(bench->tokens_count, sizeof *bench->tokens);
    bench->labels = calloc(bench->tokens_count, sizeof *bench->labels);
    bool made = bench->tokens != NULL && bench->labels != NULL;
    uint64_t bytes = (uint64_t)bench->tokens_count * model->width * sizeof(float);
    for (size_t i = 0; i < BOUNDARIES; i++)
        made = made &&
               gwtf_stage_boundary_create(bench->ends, bytes, &bench->boundaries[i]) == GWTF_OK;
    if (!made)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY,
                              "out of memory: take a smaller batch.microbatch");
    uint64_t key = gwtf_random_key(setup->config.run.seed, bench->tokens_count);
    for (size_t i = 0; i < bench->tokens_count; i++) {
        double vocabulary = (double)model->vocabulary;
        bench->tokens[i] = (uint32_t)(vocabulary * gwtf_random_unit_at(key, 2 * i));
        bench->labels[i] = (uint32_t)(vocabulary * gwtf_random_unit_at(key, 2 * i + 1));
    }
    return GWTF_OK;
}

static void optimize(struct bench *bench, uint32_t iteration) {
    struct gwtf_optimizer_step step = gwtf_setup_step(bench->setup, iteration, 1.0);
    gwtf_stage *const stages[] = {bench->ends, bench->blocks};
    for (size_t i = 0; i < 2; i++) {
        gwtf_stage_step(stages[i], NULL, &step);
        gwtf_stage_zero_gradients(stages[i]);
        gwtf_stage_check(stages[i], NULL);
    }
}

static double now(const struct bench *bench) {
    struct timespec time;
    clock_gettime(bench->clock, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static double since(const struct bench *bench, double *last) {
    double before = *last;
    *last = now(bench);
    return *last - before;
}

static void run_round(struct bench *bench, uint32_t iteration, uint32_t slot) {
    void **b = bench->boundaries;
    double loss = 0;
    double last = now(bench);
    gwtf_stage_embed(bench->ends, bench->tokens, b[EMBEDDED]);
    gwtf_stage_forward(bench->blocks, 0, b[EMBEDDED], b[OUTPUT], true);
    double forward = since(bench, &last);
    gwtf_stage_loss(bench->ends, b[OUTPUT], bench->labels, 1.0f / (float)bench->tokens_count, &loss,
                    b[OUTPUT_GRADIENT], NULL);
    gwtf_stage_backward(bench->blocks, 0, b[EMBEDDED], b[OUTPUT_GRADIENT], b[INPUT_GRADIENT]);
    gwtf_stage_embed_backward(bench->ends, bench->tokens, b[INPUT_GRADIENT]);
    double backward = since(bench, &last);
    optimize(bench, iteration);
    double step = since(bench, &last);
    bench->seconds[GWTF_BENCHMARK_FORWARD][slot] = forward;
    bench->seconds[GWTF_BENCHMARK_BACKWARD][slot] = backward;
    bench->seconds[GWTF_BENCHMARK_OPTIMIZER][slot] = step;
    bench->seconds[GWTF_BENCHMARK_ALL][slot] = forward + backward + step;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Numbers in the matrices of the blocks' plan: each meets every token once. */
static double matrix_numbers(const struct gwtf_stage_plan *plan) {
    double sum = 0;
    for (size_t i = 0; i < plan->tensors_count; i++)
        if (plan->tensors[i].rank == 2)
            sum += (double)plan->tensors[i].count;
    return sum;
}

static void count_operations(const struct bench *bench, struct gwtf_benchmark *found) {
    const struct gwtf_model_shape *model = &bench->setup->model;
    double tokens = (double)bench->tokens_count;
    /* A multiplication and an addition each; queries meet half of the keys, and as many values. */
    double attention = 2.0 * model->layers * model->width * (model->context + 1.0);
    double blocks = tokens * (2.0 * matrix_numbers(gwtf_stage_get_plan(bench->blocks)) + attention);
    double head = tokens * 2.0 * model->width * model->vocabulary;
    found->operations[GWTF_BENCHMARK_FORWARD] = blocks;
    found->operations[GWTF_BENCHMARK_BACKWARD] = 2 * blocks + 3 * head;
    found->operations[GWTF_BENCHMARK_OPTIMIZER] = 0;
    found->operations[GWTF_BENCHMARK_ALL] = 3 * (blocks + head);
}

/* Keeps the better one of this and what was FOUND before. */
static void find_peak(const struct bench *bench, const struct gwtf_benchmark_options *options,
                      struct gwtf_benchmark *found) {
    struct gwtf_gpu_peak peak = {0};
    if (found->on_gpu)
        peak = gwtf_gpu_peak(0, bench->precision, PEAK_ROUNDS);
    else
        peak.operations = gwtf_peak_of_library(bench->precision, found->threads, PEAK_ROUNDS,
                                               options->processor_time);
    found->peak = peak.operations > found->peak ? peak.operations : found->peak;
    found->peak_bytes = peak.bytes > found->peak_bytes ? peak.bytes : found->peak_bytes;
}

/* Both stages' times of the same kernels count as one. */
static void add_times(struct gwtf_benchmark *found, const struct gwtf_kernel_time *times,
                      size_t count) {
    for (size_t i = 0; i < count; i++) {
        size_t at = 0;
        while (at < found->kernels_count && strcmp(found->kernels[at].name, times[i].name) != 0)
            at++;
        struct gwtf_kernel_time *sum = &found->kernels[at];
        if (at == found->kernels_count) {
            *sum = times[i];
            found->kernels_count++;
            continue;
        }
        sum->calls += times[i].calls;
        sum->seconds += times[i].seconds;
        sum->operations += times[i].operations;
        sum->bytes += times[i].bytes;
    }
}

/* The dearest first; copies, which go on beside them, last. */
static int compare_times(const void *a, const void *b) {
    const struct gwtf_kernel_time *x = a, *y = b;
    if (x->copies != y->copies)
        return x->copies ? 1 : -1;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

/* One more round; its own times are not counted. */
static void profile(struct bench *bench, uint32_t iteration, struct gwtf_benchmark *found) {
    gwtf_stage *const stages[] = {bench->blocks, bench->ends};
    struct gwtf_kernel_time times[GWTF_KERNEL_TIMES_MAX];
    for (size_t i = 0; i < 2; i++)
        gwtf_stage_profile(stages[i]);
    run_round(bench, iteration, GWTF_BENCHMARK_ROUNDS_MAX);
    for (size_t i = 0; i < 2; i++)
        add_times(found, times, gwtf_stage_profiled(stages[i], times));
    qsort(found->kernels, found->kernels_count, sizeof found->kernels[0], compare_times);
}

/* Errors: GWTF_ERROR_DEVICE. */
static gwtf_status measure(struct bench *bench, const struct gwtf_benchmark_options *options,
                           struct gwtf_benchmark *found, struct gwtf_error *error) {
    find_peak(bench, options, found);
    /* They warm up: a GPU's first two rounds find out what to do, and record it. The first that
     * counts overwrites them. */
    for (uint32_t i = 0; i < (found->on_gpu ? 2 : 1); i++)
        run_round(bench, i + 1, 0);
    for (uint32_t i = 0; i < options->rounds; i++) {
        run_round(bench, i + 3, i);
        if (options->progress != NULL)
            options->progress(options->progress_context, i + 1, options->rounds);
    }
    for (size_t part = 0; part < GWTF_BENCHMARK_PARTS; part++) {
        qsort(bench->seconds[part], options->rounds, sizeof(double), compare);
        found->seconds[part] = bench->seconds[part][options->rounds / 2];
    }
    count_operations(bench, found);
    if (found->on_gpu)
        profile(bench, options->rounds + 3, found);
    gwtf_status status = gwtf_stage_check(bench->blocks, error);
    if (status == GWTF_OK)
        status = gwtf_stage_check(bench->ends, error);
    /* The library's matrices take the place of the model, so that the peak of memory is its. */
    bench_deinit(bench);
    find_peak(bench, options, found);
    return status;
}

/* Where it computes. Errors: GWTF_ERROR_USAGE, GWTF_ERROR_UNSUPPORTED. */
static gwtf_status find_gpu(const struct gwtf_setup *setup,
                            const struct gwtf_benchmark_options *options,
                            struct gwtf_benchmark *found, struct gwtf_error *error) {
    found->on_gpu = gwtf_setup_backend(setup) == GWTF_BACKEND_CUDA;
    if (!found->on_gpu)
        return GWTF_OK;
    if (options->processor_time)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "a GPU has no processor time: leave --processor-time out, or add "
                              "--set backend.device=cpu");
    return gwtf_gpu_look(0, &found->gpu, error);
}

gwtf_status gwtf_benchmark_run(const struct gwtf_setup *setup,
                               const struct gwtf_benchmark_options *options,
                               struct gwtf_benchmark *benchmark, struct gwtf_error *error) {
    struct bench *bench = calloc(1, sizeof *bench);
    if (bench == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    bench->clock = options->processor_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC;
    struct gwtf_benchmark found = {.threads = options->threads};
    if (found.threads == 0)
        found.threads = setup->config.backend.threads;
    if (found.threads == 0)
        found.threads = gwtf_machine_cores();
    gwtf_status status = find_gpu(setup, options, &found, error);
    if (status == GWTF_OK)
        status = bench_init(bench, setup, found.threads, error);
    if (status == GWTF_OK) {
        found.parameters = gwtf_stage_get_plan(bench->ends)->parameters +
                           gwtf_stage_get_plan(bench->blocks)->parameters;
        found.tokens = bench->tokens_count;
        status = measure(bench, options, &found, error);
        if (status == GWTF_OK)
            *benchmark = found;
    }
    bench_deinit(bench);
    free(bench);
    return status;
}
