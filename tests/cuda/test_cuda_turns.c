/*
 * How calls of a stage on a GPU follow each other: packed boundary tensors, calls under way beside
 * each other, what is recorded, and what is measured. On the emulation also with streams that are
 * ahead of who waits for them (GWTF_EMULATED_EAGER).
 */
#include "share/base/assert.h"
#include "tests/support/suite.h"
#include "tests/unit/model_packed.h"
#include "tests/unit/model_pipeline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLOTS 2u
#define WIDTH 24u
#define FLOATS (2 * 7 * WIDTH)

static void a_gpu_packs_as_by_hand(void) {
    for (int packing = GWTF_PACKING_NONE; packing <= GWTF_PACKING_INT8; packing++)
        expect_packed_as_by_hand(GWTF_BACKEND_CUDA, (enum gwtf_packing)packing, 1);
    expect_packed_as_by_hand(GWTF_BACKEND_CUDA, GWTF_PACKING_BFLOAT16, INFINITY);
    expect_packed_as_by_hand(GWTF_BACKEND_CUDA, GWTF_PACKING_INT8, INFINITY);
    expect_packed_as_by_hand(GWTF_BACKEND_CUDA, GWTF_PACKING_BFLOAT16, 1e38f);
    expect_packed_as_by_hand(GWTF_BACKEND_CUDA, GWTF_PACKING_INT8, 1e-38f);
}

static gwtf_stage *make_stage(uint32_t index, bool ahead) {
    const struct gwtf_model_shape model = odd_model(GWTF_FAMILY_LLAMA, true);
    const struct gwtf_stage_options options = {.shape = gwtf_stage_shape_of(&model, index, 1),
                                               .backend = GWTF_BACKEND_CUDA,
                                               .microbatch = 2,
                                               .slots = SLOTS,
                                               .threads = 1,
                                               .ahead = ahead};
    gwtf_stage *stage = NULL;
    GWTF_ASSERT(gwtf_stage_create(&options, &stage, NULL) == GWTF_OK);
    gwtf_stage_initialise(stage, 3);
    gwtf_stage_written(stage);
    return stage;
}

/* Numbers that go in, and room for those that come out, of each microbatch. */
struct batch {
    float input[FLOATS], output[FLOATS], output_gradient[FLOATS], input_gradient[FLOATS];
};

static void fill(struct batch *batch, uint32_t seed) {
    memset(batch, 0, sizeof *batch);
    for (uint32_t i = 0; i < FLOATS; i++) {
        batch->input[i] = sinf((float)(i + 31 * seed));
        batch->output_gradient[i] = cosf((float)(i * (seed + 1)));
    }
}

static void expect_same_batch(const struct batch *a, const struct batch *b) {
    CU_ASSERT_EQUAL(memcmp(a->output, b->output, sizeof a->output), 0);
    CU_ASSERT_EQUAL(memcmp(a->input_gradient, b->input_gradient, sizeof a->input_gradient), 0);
    CU_ASSERT(a->output[0] != 0 && a->input_gradient[0] != 0);
}

static void expect_same_gradients(gwtf_stage *a, gwtf_stage *b) {
    CU_ASSERT_EQUAL(memcmp(gwtf_stage_gradients(a), gwtf_stage_gradients(b),
                           gwtf_stage_get_plan(a)->floats * sizeof(float)),
                    0);
}

static void forward(gwtf_stage *stage, uint32_t slot, struct batch *batch) {
    gwtf_stage_forward(stage, slot, batch->input, batch->output, true);
}

static void backward(gwtf_stage *stage, uint32_t slot, struct batch *batch) {
    gwtf_stage_backward(stage, slot, batch->input, batch->output_gradient, batch->input_gradient);
}

static void finish(gwtf_stage *stage) {
    CU_ASSERT_EQUAL(gwtf_stage_finish(stage, NULL), GWTF_OK);
}

#define BATCHES 6u

/* One call is always under way: forward passes of the next microbatch between the backward passes
 * of those before. What came in is spoilt once its call is finished, what goes out once it was
 * seen. */
static void calls_go_on_beside_each_other(void) {
    gwtf_stage *waits = make_stage(1, false), *ahead = make_stage(1, true);
    struct batch *one = calloc(2 * BATCHES, sizeof *one), *two = one + BATCHES;
    GWTF_ASSERT(one != NULL);
    for (uint32_t i = 0; i < BATCHES; i++) {
        fill(&one[i], i);
        fill(&two[i], i);
        /* Where a system allows it, some of the memory is pinned. */
        if (i % 2 == 0 && !gwtf_stage_pin(ahead, &two[i], sizeof two[i]))
            printf("\n    memory is not pinned");
    }
    for (uint32_t i = 0; i < BATCHES; i++) {
        forward(waits, i % SLOTS, &one[i]);
        if (i > 0)
            backward(waits, (i - 1) % SLOTS, &one[i - 1]);
    }
    for (uint32_t i = 0; i < BATCHES; i++) {
        forward(ahead, i % SLOTS, &two[i]);
        CU_ASSERT_EQUAL(gwtf_stage_unfinished(ahead), i > 1 ? 2 : 1);
        if (i == 0) {
            finish(ahead);
            continue;
        }
        if (i > 1) {
            finish(ahead);
            expect_same_batch(&two[i - 2], &one[i - 2]);
            memset(&two[i - 2], 0xff, sizeof two[i - 2]);
        }
        backward(ahead, (i - 1) % SLOTS, &two[i - 1]);
        CU_ASSERT_EQUAL(gwtf_stage_unfinished(ahead), 2);
        finish(ahead);
        CU_ASSERT_EQUAL(memcmp(two[i].output, one[i].output, sizeof two[i].output), 0);
    }
    while (gwtf_stage_unfinished(ahead) != 0)
        finish(ahead);
    expect_same_batch(&two[BATCHES - 2], &one[BATCHES - 2]);
    expect_same_gradients(waits, ahead);
    for (uint32_t i = 0; i < BATCHES; i += 2)
        gwtf_stage_unpin(ahead, &two[i]);
    free(one);
    gwtf_stage_destroy(waits);
    gwtf_stage_destroy(ahead);
}

/* A data node's: two losses under way, with their sums. */
static void losses_come_when_calls_are_finished(void) {
    gwtf_stage *waits = make_stage(0, false), *ahead = make_stage(0, true);
    struct batch batch[2], gradients[2];
    uint32_t labels[2][14];
    double expected[2] = {0}, sums[2] = {-1, -1};
    for (uint32_t i = 0; i < 2; i++) {
        fill(&batch[i], i);
        for (uint32_t row = 0; row < 14; row++)
            labels[i][row] = (row * 7 + i) % 65;
        gwtf_stage_loss(waits, batch[i].input, labels[i], 0.1f, &expected[i],
                        batch[i].input_gradient, NULL);
        gwtf_stage_embed_backward(waits, labels[i], batch[i].input_gradient);
    }
    for (int round = 0; round < 3; round++) {
        gwtf_stage_zero_gradients(ahead);
        for (uint32_t i = 0; i < 2; i++) {
            gwtf_stage_loss(ahead, batch[i].input, labels[i], 0.1f, &sums[i],
                            gradients[i].input_gradient, NULL);
            if (i > 0)
                finish(ahead); /* embed_backward of the one before */
            finish(ahead);
            CU_ASSERT_EQUAL(sums[i], expected[i]);
            sums[i] = -1;
            gwtf_stage_embed_backward(ahead, labels[i], batch[i].input_gradient);
            CU_ASSERT_EQUAL(memcmp(gradients[i].input_gradient, batch[i].input_gradient,
                                   sizeof batch[i].input_gradient),
                            0);
        }
        finish(ahead);
        expect_same_gradients(waits, ahead);
    }
    gwtf_stage_destroy(waits);
    gwtf_stage_destroy(ahead);
}

/* The first time a call is queued as it is, then it is recorded, and after that what was recorded
 * is queued. A stage that is new has only ever done the first. */
static void what_is_recorded_computes_the_same(void) {
    gwtf_stage *old = make_stage(1, false);
    for (uint32_t i = 0; i < 5; i++) {
        gwtf_stage *new = make_stage(1, false);
        struct batch one, two;
        fill(&one, i);
        fill(&two, i);
        gwtf_stage_zero_gradients(old);
        forward(old, 0, &one);
        forward(new, 0, &two);
        backward(old, 0, &one);
        backward(new, 0, &two);
        expect_same_batch(&one, &two);
        expect_same_gradients(old, new);
        gwtf_stage_destroy(new);
    }
    gwtf_stage_destroy(old);
}

/* More kinds of calls than are kept: those after them are queued as they are. */
static void there_may_be_more_calls_than_recordings(void) {
    gwtf_stage *ends = make_stage(0, false);
    struct batch batch;
    uint32_t labels[14] = {1, 2, 3};
    fill(&batch, 1);
    double sum = 0;
    gwtf_stage_loss(ends, batch.input, labels, 1, &sum, batch.output, NULL);
    for (uint32_t i = 2; i <= 260; i++) {
        float scale = (float)(i / 2);
        gwtf_stage_loss(ends, batch.input, labels, scale, &sum, batch.input_gradient, NULL);
        for (uint32_t at = 0; at < FLOATS; at += 50)
            CU_ASSERT(fabsf(batch.input_gradient[at] / scale - batch.output[at]) <
                      1e-5f * fabsf(batch.output[at]) + 1e-9f);
    }
    gwtf_stage_destroy(ends);
}

/* A driver that records nothing: only the emulation has one. */
static void without_recordings_all_is_the_same(void) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        setenv("GWTF_EMULATED_NO_GRAPHS", "1", 1);
        what_is_recorded_computes_the_same();
        _exit(CU_get_number_of_failures() == 0 ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    CU_ASSERT_EQUAL(status, 0);
}

static const struct gwtf_kernel_time *find(const struct gwtf_kernel_time *times, size_t count,
                                           const char *name) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(times[i].name, name) == 0)
            return &times[i];
    return NULL;
}

static void the_gpus_time_is_told_kernel_by_kernel(void) {
    gwtf_stage *stage = make_stage(1, false);
    struct gwtf_kernel_time times[GWTF_KERNEL_TIMES_MAX];
    struct batch batch;
    fill(&batch, 2);
    for (int round = 0; round < 2; round++) {
        forward(stage, 0, &batch);
        gwtf_stage_profile(stage);
        backward(stage, 0, &batch);
        size_t count = gwtf_stage_profiled(stage, times);
        const struct gwtf_kernel_time *products = find(times, count, "products, weight gradients");
        const struct gwtf_kernel_time *copies = find(times, count, "copies to the GPU");
        CU_ASSERT_FATAL(products != NULL && copies != NULL);
        /* Of each of three blocks: queries, keys and values, heads' outputs, and two of the MLP,
         * of 24 x (24 + 2 x 8), 24 x 24, 24 x 42 and 21 x 24, for 14 tokens. */
        CU_ASSERT_EQUAL(products->calls, 12);
        CU_ASSERT_EQUAL(products->operations,
                        2.0 * 14 * 3 * (24 * 40 + 24 * 24 + 24 * 42 + 21 * 24));
        CU_ASSERT(products->seconds > 0 && products->bytes > 0);
        CU_ASSERT(copies->copies && copies->calls == 1 && copies->bytes == FLOATS * 4.0);
        CU_ASSERT_PTR_NULL(find(times, count, "products, forward"));
        CU_ASSERT_PTR_NOT_NULL(find(times, count, "attention, backward"));
        CU_ASSERT_EQUAL(gwtf_stage_profiled(stage, times), 0);
    }
    gwtf_stage_destroy(stage);
}

/* What only stages look at need not leave the GPU. */
static void boundary_tensors_may_stay_on_the_gpu(void) {
    gwtf_stage *stage = make_stage(1, false), *other = make_stage(1, false);
    struct batch one, two;
    void *between = NULL;
    fill(&one, 5);
    fill(&two, 5);
    CU_ASSERT_EQUAL_FATAL(gwtf_stage_boundary_create(stage, sizeof one.output, &between), GWTF_OK);
    forward(stage, 0, &one);
    memcpy(two.input, one.output, sizeof two.input);
    forward(stage, 1, &two);
    struct batch on_gpu;
    fill(&on_gpu, 5);
    gwtf_stage_forward(stage, 0, on_gpu.input, between, true);
    gwtf_stage_forward(other, 1, between, on_gpu.output, true);
    CU_ASSERT_EQUAL(memcmp(on_gpu.output, two.output, sizeof two.output), 0);
    gwtf_stage_boundary_destroy(stage, between);
    gwtf_stage_boundary_destroy(stage, NULL);
    gwtf_stage_destroy(stage);
    gwtf_stage_destroy(other);
}

int main(int argc, char **argv) {
    struct gwtf_error error = {0};
    struct gwtf_gpu gpu;
    bool needs_gpu = argc > 1 && strcmp(argv[1], "--needs-gpu") == 0;
    if (needs_gpu && gwtf_gpu_look(0, &gpu, &error) != GWTF_OK) {
        printf("skipped: %s\n", error.text);
        return 77;
    }
    static const struct gwtf_test tests[] = {
        GWTF_TEST(a_gpu_packs_as_by_hand),
        GWTF_TEST(calls_go_on_beside_each_other),
        GWTF_TEST(losses_come_when_calls_are_finished),
        GWTF_TEST(what_is_recorded_computes_the_same),
        GWTF_TEST(there_may_be_more_calls_than_recordings),
        GWTF_TEST(the_gpus_time_is_told_kernel_by_kernel),
        GWTF_TEST(boundary_tensors_may_stay_on_the_gpu),
        GWTF_TEST(without_recordings_all_is_the_same),
    };
    /* CUDA does not outlive a fork. */
    size_t count = sizeof tests / sizeof tests[0] - (needs_gpu ? 1 : 0);
    return gwtf_suite_main(needs_gpu ? 1 : argc, argv, "cuda_turns", tests, count, NULL, NULL);
}
