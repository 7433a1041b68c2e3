/*
 * The host's side of the CUDA backend where something is missing: no GPU, too little of its memory,
 * one that fails, a library that is not there. On the emulation, which does as its environment
 * says.
 */
#include "model/model.h"
#include "tests/support/suite.h"
#include "tests/unit/model_pipeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct gwtf_stage_options block_options(void) {
    struct gwtf_model_shape model = odd_model(GWTF_FAMILY_GPT2, true);
    return (struct gwtf_stage_options){.shape = gwtf_stage_shape_of(&model, 1, 1),
                                       .backend = GWTF_BACKEND_CUDA,
                                       .microbatch = 2,
                                       .slots = 2,
                                       .threads = 1};
}

/* Runs BODY in a child, since a device that is lost, or a library that was looked for, stays so. */
static bool in_child(bool (*body)(void)) {
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        _exit(body() ? 0 : 1);
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

static void no_gpu_is_said_in_a_line(void) {
    struct gwtf_stage_options options = block_options();
    struct gwtf_error error = {0};
    struct gwtf_gpu gpu;
    gwtf_stage *stage = NULL;
    setenv("GWTF_EMULATED_DEVICES", "0", 1);
    CU_ASSERT_EQUAL(gwtf_stage_create(&options, &stage, &error), GWTF_ERROR_UNSUPPORTED);
    CU_ASSERT_PTR_NULL(stage);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "no CUDA-capable device"));
    CU_ASSERT_EQUAL(gwtf_gpu_look(0, &gpu, NULL), GWTF_ERROR_UNSUPPORTED);
    unsetenv("GWTF_EMULATED_DEVICES");
}

static uint64_t free_of(uint32_t place) {
    uint64_t bytes = 0;
    CU_ASSERT_EQUAL(gwtf_gpu_free_bytes(place, &bytes, NULL), GWTF_OK);
    return bytes;
}

static void workers_take_gpus_in_turn(void) {
    struct gwtf_stage_options options = block_options();
    struct gwtf_gpu gpu;
    gwtf_stage *stage = NULL;
    setenv("GWTF_EMULATED_DEVICES", "2", 1);
    CU_ASSERT_EQUAL(gwtf_gpu_look(3, &gpu, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(gpu.number, 1);
    CU_ASSERT_EQUAL(gpu.count, 2);
    uint64_t before[] = {free_of(0), free_of(1)};
    options.place = 3;
    CU_ASSERT_EQUAL(gwtf_stage_create(&options, &stage, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(free_of(0), before[0]);
    CU_ASSERT(free_of(1) < before[1]);
    gwtf_stage_destroy(stage);
    CU_ASSERT_EQUAL(free_of(1), before[1]);
    unsetenv("GWTF_EMULATED_DEVICES");
}

/* What is predicted is what is taken, to the byte. */
static void memory_is_predicted(void) {
    struct gwtf_stage_options options = block_options();
    struct gwtf_stage_plan plan;
    uint64_t fixed, slot, before = free_of(0);
    gwtf_stage *stages[2] = {NULL};
    CU_ASSERT_EQUAL_FATAL(gwtf_stage_plan_init(&plan, &options.shape, NULL), GWTF_OK);
    gwtf_stage_memory(&options, &plan, &fixed, &slot);
    gwtf_stage_plan_deinit(&plan);
    CU_ASSERT_EQUAL(gwtf_stage_create(&options, &stages[0], NULL), GWTF_OK);
    uint64_t with_two = free_of(0);
    options.slots = 5;
    CU_ASSERT_EQUAL(gwtf_stage_create(&options, &stages[1], NULL), GWTF_OK);
    uint64_t taken = with_two - free_of(0), of_two = before - with_two;
    CU_ASSERT_EQUAL(taken - of_two, 3 * slot);
    CU_ASSERT_EQUAL(of_two, fixed + 2 * slot);
    gwtf_stage_destroy(stages[0]);
    gwtf_stage_destroy(stages[1]);
}

static void too_little_memory_is_an_error_and_leaves_nothing_behind(void) {
    struct gwtf_stage_options options = block_options();
    struct gwtf_error error = {0};
    gwtf_stage *stage = NULL;
    uint64_t before = free_of(0);
    /* Room for the library's workspace, and not for much else; then for not even that. */
    static const char *const sizes[] = {"33600000", "1000000"};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        setenv("GWTF_EMULATED_MEMORY", sizes[i], 1);
        options.slots = 1000;
        CU_ASSERT_EQUAL(gwtf_stage_create(&options, &stage, &error), GWTF_ERROR_MEMORY);
        CU_ASSERT(strlen(error.text) > 0);
        unsetenv("GWTF_EMULATED_MEMORY");
        CU_ASSERT_EQUAL(free_of(0), before);
    }
    options.slots = 2;
    CU_ASSERT_EQUAL(gwtf_stage_create(&options, &stage, &error), GWTF_OK);
    gwtf_stage_destroy(stage);
}

static bool fails_at(const char *launch) {
    struct pipeline_options options = {.model = odd_model(GWTF_FAMILY_LLAMA, true),
                                       .stages = 1,
                                       .microbatch = 2,
                                       .backend = GWTF_BACKEND_CUDA};
    struct pipeline p;
    struct gwtf_error error = {0};
    pipeline_create(&p, &options);
    pipeline_run(&p, 0, 3);
    bool good = gwtf_stage_check(p.stages[1], &error) == GWTF_OK;
    setenv("GWTF_EMULATED_FAILS_AT", launch, 1);
    for (int i = 0; i < 3; i++)
        pipeline_run(&p, 0, 3); /* nothing hangs and nothing crashes */
    bool failed = gwtf_stage_check(p.stages[1], &error) == GWTF_ERROR_DEVICE;
    bool says = strstr(error.text, "uncorrectable ECC") != NULL;
    gwtf_stage_gradients(p.stages[1]);
    pipeline_destroy(&p);
    return good && failed && says;
}

static bool fails_at_once(void) {
    return fails_at("1");
}

static bool fails_on_its_way(void) {
    return fails_at("30");
}

static void a_gpu_that_fails_says_so_and_hangs_nobody(void) {
    CU_ASSERT(in_child(fails_at_once));
    CU_ASSERT(in_child(fails_on_its_way));
}

static bool has_no_library(void) {
    struct gwtf_stage_options options = block_options();
    struct gwtf_error error = {0};
    gwtf_stage *stage = NULL;
    setenv("GWTF_CUDA_LIBRARY", "/nonexistent/libgwtf_cuda.so", 1);
    return gwtf_stage_create(&options, &stage, &error) == GWTF_ERROR_UNSUPPORTED &&
           strstr(error.text, "there is no CUDA backend here") != NULL && gwtf_gpu_count() == 0;
}

/* Before any other test here: a library is looked for once. */
static void a_library_that_is_not_there_is_said_in_a_line(void) {
    CU_ASSERT(in_child(has_no_library));
}

/* More shapes of products than the cache has room for: each number of rows is one. */
static void plans_make_room_for_others(void) {
    struct gwtf_model_shape model = odd_model(GWTF_FAMILY_GPT2, true);
    model.context = 80;
    struct pipeline_options options = {.model = model,
                                       .stages = 1,
                                       .microbatch = 1,
                                       .backend = GWTF_BACKEND_CUDA,
                                       .forward_only = true,
                                       .continues = true};
    static uint32_t tokens[80], labels[80];
    static float embedded[80 * 24], output[80 * 24];
    struct pipeline p;
    pipeline_create(&p, &options);
    pipeline_tokens(&p, 4, tokens);
    pipeline_forward(&p, 0, tokens, labels);
    for (uint32_t count = 1; count <= 80; count++) {
        gwtf_stage_embed_some(p.stages[0], tokens, 0, count, embedded);
        gwtf_stage_continue(p.stages[1], embedded, output, 0, count);
        CU_ASSERT(relative_distance(output, p.boundaries[0][1], (size_t)count * 24) < 1e-5);
    }
    CU_ASSERT_EQUAL(gwtf_stage_check(p.stages[1], NULL), GWTF_OK);
    pipeline_destroy(&p);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(a_library_that_is_not_there_is_said_in_a_line),
        GWTF_TEST(no_gpu_is_said_in_a_line),
        GWTF_TEST(workers_take_gpus_in_turn),
        GWTF_TEST(memory_is_predicted),
        GWTF_TEST(too_little_memory_is_an_error_and_leaves_nothing_behind),
        GWTF_TEST(a_gpu_that_fails_says_so_and_hangs_nobody),
        GWTF_TEST(plans_make_room_for_others),
    };
    return gwtf_suite_main(argc, argv, "cuda_host", tests, sizeof tests / sizeof tests[0], NULL,
                           NULL);
}
