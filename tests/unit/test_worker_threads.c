/* The compute thread and the snapshot thread of a worker on a real stage, as the thread that owns
 * MPI uses them. */
#include "io/run.h"
#include "tests/support/suite.h"
#include "tests/support/tiny_run.h"
#include "worker/runtime/compute.h"
#include "worker/runtime/writer.h"

#include <string.h>

struct worker {
    struct gwtf_tiny_run run;
    struct gwtf_setup setup;
    gwtf_bell *bell;
    gwtf_memory *memory;
    gwtf_compute *compute;
    gwtf_writer *writer;
};

static void start(struct worker *worker) {
    gwtf_tiny_run_init(&worker->run, NULL, 0);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_open(&worker->run.config, &worker->setup, NULL), GWTF_OK);
    struct gwtf_memory_options options = {.setup = &worker->setup,
                                          .stage = 1,
                                          .slots = 2,
                                          .threads = 1,
                                          .replicas = 2,
                                          .snapshot = ""};
    CU_ASSERT_EQUAL_FATAL(gwtf_bell_create(&worker->bell), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_memory_create(&options, &worker->memory, NULL), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(
        gwtf_writer_create(&worker->setup, worker->memory, worker->bell, &worker->writer), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_compute_create(worker->memory, worker->bell, &worker->compute),
                          GWTF_OK);
}

static void stop(struct worker *worker) {
    gwtf_compute_destroy(worker->compute);
    gwtf_writer_destroy(worker->writer);
    gwtf_memory_destroy(worker->memory);
    gwtf_bell_destroy(worker->bell);
    gwtf_setup_close(&worker->setup);
    gwtf_tiny_run_deinit(&worker->run);
}

static struct gwtf_compute_done do_work(struct worker *worker, const struct gwtf_work *work) {
    struct gwtf_compute_done done;
    CU_ASSERT_EQUAL_FATAL(gwtf_compute_push(worker->compute, work), GWTF_OK);
    while (!gwtf_compute_try_done(worker->compute, &done))
        gwtf_bell_wait(worker->bell, 1000000);
    return done;
}

static struct gwtf_writer_result await_result(struct worker *worker) {
    struct gwtf_writer_result result;
    while (!gwtf_writer_try_result(worker->writer, &result))
        gwtf_bell_wait(worker->bell, 1000000);
    return result;
}

static float *payload(struct worker *worker, struct gwtf_payload which, uint64_t *floats) {
    float *values = gwtf_memory_payload(worker->memory, &which, floats);
    CU_ASSERT_PTR_NOT_NULL_FATAL(values);
    *floats /= sizeof *values;
    return values;
}

static void a_microbatch_goes_through_and_leaves_its_gradient(void) {
    struct worker worker = {0};
    uint64_t floats;
    double sum = 0;
    start(&worker);
    while (gwtf_compute_probed_us(worker.compute) == 0)
        gwtf_bell_wait(worker.bell, 1000000);
    struct gwtf_payload input = {
        .kind = GWTF_PAYLOAD_BOUNDARY, .slot = 1, .boundary = GWTF_BOUNDARY_INPUT};
    struct gwtf_payload gradient = {
        .kind = GWTF_PAYLOAD_BOUNDARY, .slot = 1, .boundary = GWTF_BOUNDARY_OUTPUT_GRADIENT};
    float *values = payload(&worker, input, &floats);
    for (uint64_t i = 0; i < floats; i++)
        values[i] = (float)(i % 7) - 3;
    do_work(&worker,
            &(struct gwtf_work){.kind = GWTF_WORK_FORWARD, .phase = GWTF_PHASE_TRAIN, .slot = 1});
    values = payload(&worker, gradient, &floats);
    for (uint64_t i = 0; i < floats; i++)
        values[i] = (float)(i % 5) - 2;
    do_work(&worker,
            &(struct gwtf_work){.kind = GWTF_WORK_BACKWARD, .phase = GWTF_PHASE_TRAIN, .slot = 1});
    struct gwtf_payload all = {.kind = GWTF_PAYLOAD_GRADIENT,
                               .count = gwtf_memory_gradient_floats(worker.memory)};
    values = payload(&worker, all, &floats);
    for (uint64_t i = 0; i < floats; i++)
        sum += (double)values[i] * (double)values[i];
    CU_ASSERT(sum > 0);
    stop(&worker);
}

static void reducing_adds_the_parts_that_are_there(void) {
    struct worker worker = {0};
    uint64_t floats, offset, count;
    start(&worker);
    gwtf_share_of(gwtf_memory_gradient_floats(worker.memory), 2, 1, &offset, &count);
    float *part = payload(
        &worker, (struct gwtf_payload){.kind = GWTF_PAYLOAD_PART, .part = 0, .count = count},
        &floats);
    for (uint64_t i = 0; i < count; i++)
        part[i] = 2;
    struct gwtf_work reduce = {.kind = GWTF_WORK_REDUCE,
                               .offset = offset,
                               .count = count,
                               .own_part = 1,
                               .parts_present = {3},
                               .scale = 1};
    struct gwtf_compute_done done = do_work(&worker, &reduce);
    /* Own gradients are zero. */
    CU_ASSERT_DOUBLE_EQUAL(done.result.sum_of_squares, 4.0 * (double)count, 1e-9);
    reduce.scale = 3;
    done = do_work(&worker, &reduce);
    CU_ASSERT_DOUBLE_EQUAL(done.result.sum_of_squares, 36.0 * (double)count, 1e-9);
    reduce.parts_present[0] = 0;
    done = do_work(&worker, &reduce);
    CU_ASSERT_EQUAL(done.result.sum_of_squares, 0);
    stop(&worker);
}

static void snapshots_are_written_while_work_goes_on(void) {
    struct worker worker = {0};
    start(&worker);
    for (uint32_t iteration = 1; iteration <= 3; iteration++) {
        struct gwtf_work snapshot = {
            .kind = GWTF_WORK_SNAPSHOT, .iteration = iteration, .writes = true};
        struct gwtf_writer_job job = {.kind = GWTF_WRITER_STAGE, .iteration = iteration};
        do_work(&worker, &snapshot);
        CU_ASSERT_EQUAL(gwtf_writer_push(worker.writer, &job), GWTF_OK);
        do_work(&worker, &(struct gwtf_work){.kind = GWTF_WORK_STEP, .iteration = iteration});
    }
    for (uint32_t iteration = 1; iteration <= 3; iteration++) {
        struct gwtf_writer_result result = await_result(&worker);
        CU_ASSERT_EQUAL(result.kind, GWTF_WRITER_STAGE);
        CU_ASSERT_EQUAL(result.iteration, iteration);
        CU_ASSERT_EQUAL(result.status, GWTF_OK);
        CU_ASSERT(result.file.size_bytes > 0);
    }
    stop(&worker);
}

static void a_stop_request_is_seen(void) {
    struct worker worker = {0};
    struct gwtf_writer_job look = {.kind = GWTF_WRITER_LOOK};
    start(&worker);
    gwtf_writer_push(worker.writer, &look);
    CU_ASSERT_FALSE(await_result(&worker).stop_requested);
    CU_ASSERT_EQUAL(gwtf_run_request(worker.run.config.run.directory, "stop", NULL), GWTF_OK);
    gwtf_writer_push(worker.writer, &look);
    CU_ASSERT_TRUE(await_result(&worker).stop_requested);
    stop(&worker);
}

static void payloads_that_do_not_exist_have_no_address(void) {
    struct worker worker = {0};
    uint64_t bytes;
    start(&worker);
    uint64_t floats = gwtf_memory_gradient_floats(worker.memory);
    const struct gwtf_payload wrong[] = {
        {.kind = GWTF_PAYLOAD_NONE},
        {.kind = GWTF_PAYLOAD_BOUNDARY, .slot = 2},
        {.kind = GWTF_PAYLOAD_GRADIENT, .offset = floats, .count = 16},
        {.kind = GWTF_PAYLOAD_REDUCED, .offset = UINT64_MAX, .count = 16},
        {.kind = GWTF_PAYLOAD_PART, .part = 2, .count = 16},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CU_ASSERT_PTR_NULL(gwtf_memory_payload(worker.memory, &wrong[i], &bytes));
    stop(&worker);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(a_microbatch_goes_through_and_leaves_its_gradient),
        GWTF_TEST(reducing_adds_the_parts_that_are_there),
        GWTF_TEST(snapshots_are_written_while_work_goes_on),
        GWTF_TEST(a_stop_request_is_seen),
        GWTF_TEST(payloads_that_do_not_exist_have_no_address),
    };
    return gwtf_suite_main(argc, argv, "worker_threads", tests, sizeof tests / sizeof tests[0],
                           NULL, NULL);
}
