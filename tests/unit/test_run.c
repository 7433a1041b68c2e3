#include "io/run.h"
#include "tests/support/suite.h"
#include "tests/support/temporary.h"

#include <signal.h>
#include <sys/wait.h>

static struct gwtf_error error;

static struct gwtf_metrics metrics_of(uint64_t iteration) {
    struct gwtf_metrics metrics = {.iteration = iteration,
                                   .loss = 5.5 / (double)iteration,
                                   .validation_loss = NAN,
                                   .tokens = 2048,
                                   .seconds = 0.25,
                                   .tokens_per_second = 8192,
                                   .microbatches = 8,
                                   .nodes = 7,
                                   .stages = 3,
                                   .stage_utilisation = {0.5, 0.75, 1},
                                   .gradient_norm = 1.25,
                                   .learning_rate = 6e-4};
    return metrics;
}

struct seen {
    struct gwtf_metrics metrics[64];
    size_t count;
};

static void see(void *context, const struct gwtf_metrics *metrics) {
    struct seen *seen = context;
    if (seen->count < 64)
        seen->metrics[seen->count++] = *metrics;
}

static struct seen seen;

static const char *new_run(const char *name) {
    const char *directory = temporary_path(name);
    CU_ASSERT_EQUAL_FATAL(gwtf_run_create(directory, &error), GWTF_OK);
    seen.count = 0;
    return directory;
}

static void append_raw(const char *directory, const char *name, const char *text) {
    FILE *stream = fopen(temporary_below(directory, name), "ab");
    CU_ASSERT_PTR_NOT_NULL_FATAL(stream);
    fputs(text, stream);
    fclose(stream);
}

static void a_run_is_recognised_by_what_is_in_it(void) {
    const char *directory = temporary_path("deep/er/run");
    CU_ASSERT_FALSE(gwtf_run_exists(directory));
    CU_ASSERT_EQUAL(gwtf_run_create(directory, &error), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_run_create(directory, &error), GWTF_OK);
    CU_ASSERT_FALSE(gwtf_run_exists(directory));
    CU_ASSERT_EQUAL(gwtf_run_write_config(directory, "run = {};\n", &error), GWTF_OK);
    CU_ASSERT_FALSE(gwtf_run_exists(directory));
    CU_ASSERT_EQUAL(gwtf_run_append_event(directory, "start", 0, GWTF_NODE_NONE, NULL, &error),
                    GWTF_OK);
    CU_ASSERT_TRUE(gwtf_run_exists(directory));
    /* No temporary file stays: config.cfg, events.jsonl, logs, nodes, requests, snapshots. */
    CU_ASSERT_EQUAL(temporary_entries(directory), 6);
}

static void a_directory_that_cannot_be_made_is_one_line(void) {
    const char *file = temporary_path("file");
    CU_ASSERT_TRUE(temporary_write(file, "x", 1));
    const char *below = temporary_below(file, "run");
    CU_ASSERT_EQUAL(gwtf_run_create(below, &error), GWTF_ERROR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, below));
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "Not a directory: check the path"));
}

static void metrics_are_read_back_as_written(void) {
    const char *directory = new_run("metrics");
    uint64_t offset = 0;
    CU_ASSERT_EQUAL(gwtf_run_read_metrics(directory, &offset, see, &seen, &error), GWTF_OK);
    CU_ASSERT_EQUAL(seen.count, 0);
    for (uint64_t i = 1; i <= 3; i++) {
        struct gwtf_metrics metrics = metrics_of(i);
        metrics.validation_loss = i == 3 ? 1.5 : (double)NAN;
        CU_ASSERT_EQUAL(gwtf_run_append_metrics(directory, &metrics, &error), GWTF_OK);
    }
    CU_ASSERT_EQUAL(gwtf_run_read_metrics(directory, &offset, see, &seen, &error), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(seen.count, 3);
    CU_ASSERT_EQUAL(seen.metrics[1].iteration, 2);
    CU_ASSERT_EQUAL(seen.metrics[1].loss, 2.75);
    CU_ASSERT_TRUE(isnan(seen.metrics[1].validation_loss));
    CU_ASSERT_EQUAL(seen.metrics[2].validation_loss, 1.5);
    CU_ASSERT_EQUAL(seen.metrics[2].tokens, 2048);
    CU_ASSERT_EQUAL(seen.metrics[2].stages, 3);
    CU_ASSERT_EQUAL(seen.metrics[2].stage_utilisation[1], 0.75);
    CU_ASSERT_EQUAL(seen.metrics[2].nodes, 7);
    CU_ASSERT_EQUAL(seen.metrics[2].learning_rate, 6e-4);
    /* Only what is new. */
    struct gwtf_metrics more = metrics_of(4);
    CU_ASSERT_EQUAL(gwtf_run_append_metrics(directory, &more, &error), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_run_read_metrics(directory, &offset, see, &seen, &error), GWTF_OK);
    CU_ASSERT_EQUAL(seen.count, 4);
}

static void a_metrics_line_has_its_keys_in_order(void) {
    const char *directory = new_run("order");
    struct gwtf_metrics metrics = metrics_of(2);
    CU_ASSERT_EQUAL(gwtf_run_append_metrics(directory, &metrics, &error), GWTF_OK);
    size_t size = 0;
    char *text = temporary_read(temporary_below(directory, "metrics.jsonl"), &size);
    CU_ASSERT_STRING_EQUAL(
        text, "{\"iteration\":2,\"loss\":2.75,\"tokens\":2048,\"seconds\":0.25,"
              "\"tokens_per_second\":8192.0,\"microbatches\":8,\"nodes\":7,"
              "\"stage_utilisation\":[0.5,0.75,1.0],\"joined\":0,\"lost\":0,\"repaired\":0,"
              "\"wasted_seconds\":0.0,\"gradient_norm\":1.25,\"learning_rate\":0.0006}\n");
    free(text);
}

static void a_loss_that_is_not_finite_is_left_out(void) {
    const char *directory = new_run("nan");
    struct gwtf_metrics metrics = metrics_of(1);
    metrics.loss = NAN;
    metrics.gradient_norm = INFINITY;
    metrics.stage_utilisation[1] = NAN;
    CU_ASSERT_EQUAL(gwtf_run_append_metrics(directory, &metrics, &error), GWTF_OK);
    uint64_t offset = 0;
    CU_ASSERT_EQUAL(gwtf_run_read_metrics(directory, &offset, see, &seen, &error), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(seen.count, 1);
    CU_ASSERT_TRUE(isnan(seen.metrics[0].loss) && isnan(seen.metrics[0].gradient_norm));
    CU_ASSERT_EQUAL(seen.metrics[0].stages, 3);
    CU_ASSERT_TRUE(isnan(seen.metrics[0].stage_utilisation[1]));
    CU_ASSERT_EQUAL(seen.metrics[0].stage_utilisation[2], 1);
}

static void a_cut_last_line_is_skipped_and_does_not_spoil_the_next(void) {
    const char *directory = new_run("cut");
    struct gwtf_metrics metrics = metrics_of(1);
    CU_ASSERT_EQUAL(gwtf_run_append_metrics(directory, &metrics, &error), GWTF_OK);
    append_raw(directory, "metrics.jsonl", "{\"iteration\":2,\"lo");
    uint64_t offset = 0, again;
    CU_ASSERT_EQUAL(gwtf_run_read_metrics(directory, &offset, see, &seen, &error), GWTF_OK);
    CU_ASSERT_EQUAL(seen.count, 1);
    again = offset;
    CU_ASSERT_EQUAL(gwtf_run_read_metrics(directory, &again, see, &seen, &error), GWTF_OK);
    CU_ASSERT_EQUAL(again, offset);
    metrics = metrics_of(3);
    CU_ASSERT_EQUAL(gwtf_run_append_metrics(directory, &metrics, &error), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_run_read_metrics(directory, &offset, see, &seen, &error), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(seen.count, 2);
    CU_ASSERT_EQUAL(seen.metrics[1].iteration, 3);
}

static void a_line_that_another_has_written_before_is_not_repeated(void) {
    const char *directory = new_run("repeated");
    struct gwtf_metrics metrics = metrics_of(1);
    uint64_t offset = 0;
    metrics.stages = GWTF_RUN_STAGES_MAX; /* as long as a line gets */
    for (uint32_t i = 0; i < metrics.stages; i++)
        metrics.stage_utilisation[i] = 1.0 / 3;
    for (metrics.iteration = 1; metrics.iteration <= 20; metrics.iteration++)
        CU_ASSERT_EQUAL(gwtf_run_append_metrics(directory, &metrics, &error), GWTF_OK);
    append_raw(directory, "metrics.jsonl", "{\"iteration\": 2");
    for (metrics.iteration = 19; metrics.iteration <= 21; metrics.iteration++)
        CU_ASSERT_EQUAL(gwtf_run_append_metrics(directory, &metrics, &error), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_run_read_metrics(directory, &offset, see, &seen, &error), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(seen.count, 21);
    for (size_t i = 0; i < seen.count; i++)
        CU_ASSERT_EQUAL(seen.metrics[i].iteration, i + 1);
}

static void a_line_that_is_being_written_is_read_when_it_is_whole(void) {
    const char *directory = new_run("growing");
    uint64_t offset = 0;
    append_raw(directory, "metrics.jsonl", "{\"iteration\":1}\n{\"iterat");
    CU_ASSERT_EQUAL(gwtf_run_read_metrics(directory, &offset, see, &seen, &error), GWTF_OK);
    CU_ASSERT_EQUAL(seen.count, 1);
    append_raw(directory, "metrics.jsonl", "ion\":2}\n");
    CU_ASSERT_EQUAL(gwtf_run_read_metrics(directory, &offset, see, &seen, &error), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(seen.count, 2);
    CU_ASSERT_EQUAL(seen.metrics[1].iteration, 2);
}

static void lines_that_are_no_metrics_are_skipped(void) {
    const char *directory = new_run("noise");
    append_raw(directory, "metrics.jsonl",
               "\n[1]\nnull\n{\"iteration\":-1}\n{\"iteration\":\"x\"}\n"
               "{\"iteration\":7}\n\xff\xfe\n{\"loss\":1}\n");
    uint64_t offset = 0;
    CU_ASSERT_EQUAL(gwtf_run_read_metrics(directory, &offset, see, &seen, &error), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(seen.count, 1);
    CU_ASSERT_EQUAL(seen.metrics[0].iteration, 7);
    CU_ASSERT_TRUE(isnan(seen.metrics[0].loss));
}

static void a_resumed_run_drops_what_lies_beyond(void) {
    const char *directory = new_run("truncate");
    CU_ASSERT_EQUAL(gwtf_run_truncate_metrics(directory, 2, &error), GWTF_OK);
    for (uint64_t i = 1; i <= 5; i++) {
        struct gwtf_metrics metrics = metrics_of(i);
        CU_ASSERT_EQUAL(gwtf_run_append_metrics(directory, &metrics, &error), GWTF_OK);
    }
    append_raw(directory, "metrics.jsonl", "{\"iteration\":6");
    CU_ASSERT_EQUAL(gwtf_run_truncate_metrics(directory, 2, &error), GWTF_OK);
    struct gwtf_metrics metrics = metrics_of(3);
    CU_ASSERT_EQUAL(gwtf_run_append_metrics(directory, &metrics, &error), GWTF_OK);
    uint64_t offset = 0;
    CU_ASSERT_EQUAL(gwtf_run_read_metrics(directory, &offset, see, &seen, &error), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(seen.count, 3);
    CU_ASSERT_EQUAL(seen.metrics[2].iteration, 3);
}

static int events_seen;
static char event_line[512];

static void see_event(void *context, const struct gwtf_run_event *event) {
    (void)context;
    events_seen++;
    snprintf(event_line, sizeof event_line, "%zu %s %llu %u %s", strlen(event->time), event->kind,
             (unsigned long long)event->iteration, event->node, event->text);
}

static void events_are_read_back_as_written(void) {
    const char *directory = new_run("events");
    uint64_t offset = 0;
    CU_ASSERT_EQUAL(
        gwtf_run_append_event(directory, "crash", 12, 3, "line\nof \"text\" \xff", &error),
        GWTF_OK);
    append_raw(directory, "events.jsonl", "{\"time\":\"x\"}\n");
    CU_ASSERT_EQUAL(gwtf_run_read_events(directory, &offset, see_event, NULL, &error), GWTF_OK);
    CU_ASSERT_EQUAL(events_seen, 1);
    CU_ASSERT_STRING_EQUAL(event_line, "24 crash 12 3 line\nof \"text\" ?");
    CU_ASSERT_EQUAL(gwtf_run_append_event(directory, "snapshot", 13, GWTF_NODE_NONE, NULL, &error),
                    GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_run_read_events(directory, &offset, see_event, NULL, &error), GWTF_OK);
    CU_ASSERT_EQUAL(events_seen, 2);
    CU_ASSERT_STRING_EQUAL(event_line, "24 snapshot 13 4294967295 ");
}

static void node_states_are_read_back_in_the_order_of_ids(void) {
    const char *directory = new_run("nodes");
    static const gwtf_node_id ids[] = {12, 3, 20000};
    for (size_t i = 0; i < 3; i++) {
        struct gwtf_node_state state = {.node = ids[i],
                                        .stage = (uint32_t)i,
                                        .phase = i == 2 ? GWTF_NODE_FAILED : GWTF_NODE_TRAINING,
                                        .pid = 77,
                                        .iteration = 5,
                                        .capacity = 4,
                                        .weights_hash = 0xfedcba9876543210u,
                                        .hash_iteration = 4};
        snprintf(state.host, sizeof state.host, "uni%zu", i);
        snprintf(state.error, sizeof state.error, "out of memory");
        CU_ASSERT_EQUAL(gwtf_run_write_node(directory, &state, &error), GWTF_OK);
        CU_ASSERT_EQUAL(gwtf_run_write_node(directory, &state, &error), GWTF_OK);
    }
    append_raw(directory, "nodes/node-0004.json", "{\"node\": 4");
    append_raw(directory, "nodes/README", "");
    struct gwtf_node_state *nodes = NULL;
    size_t count = 0;
    CU_ASSERT_EQUAL_FATAL(gwtf_run_read_nodes(directory, &nodes, &count, &error), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(count, 3);
    CU_ASSERT_EQUAL(nodes[0].node, 3);
    CU_ASSERT_EQUAL(nodes[1].node, 12);
    CU_ASSERT_EQUAL(nodes[2].node, 20000);
    CU_ASSERT_EQUAL(nodes[0].phase, GWTF_NODE_TRAINING);
    CU_ASSERT_STRING_EQUAL(nodes[0].error, "");
    CU_ASSERT_STRING_EQUAL(nodes[0].host, "uni1");
    CU_ASSERT_EQUAL(nodes[0].weights_hash, 0xfedcba9876543210u);
    CU_ASSERT_EQUAL(nodes[0].hash_iteration, 4);
    CU_ASSERT(nodes[0].updated_unix_us > 1700000000000000u);
    CU_ASSERT_EQUAL(nodes[2].phase, GWTF_NODE_FAILED);
    CU_ASSERT_STRING_EQUAL(nodes[2].error, "out of memory");
    free(nodes);
    CU_ASSERT_EQUAL(gwtf_run_clear_nodes(directory, &error), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_run_read_nodes(directory, &nodes, &count, &error), GWTF_OK);
    CU_ASSERT_EQUAL(count, 0);
    free(nodes);
    CU_ASSERT_EQUAL(gwtf_run_read_nodes(temporary_path("none"), &nodes, &count, &error),
                    GWTF_ERROR_MISSING);
}

static void requests_are_made_seen_and_taken_away(void) {
    const char *directory = new_run("requests");
    CU_ASSERT_FALSE(gwtf_run_requested(directory, "stop"));
    CU_ASSERT_EQUAL(gwtf_run_request(directory, "stop", &error), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_run_request(directory, "stop", &error), GWTF_OK);
    CU_ASSERT_TRUE(gwtf_run_requested(directory, "stop"));
    gwtf_run_clear_request(directory, "stop");
    CU_ASSERT_FALSE(gwtf_run_requested(directory, "stop"));
    CU_ASSERT_EQUAL(gwtf_run_request(temporary_path("none"), "stop", &error), GWTF_ERROR_MISSING);
}

static void who_is_asked_to_leave_knows_how_and_where_to(void) {
    const char *directory = new_run("leaves");
    struct gwtf_leave asked = {.notice_s = 12.5, .stage = 3}, read;
    CU_ASSERT_FALSE(gwtf_run_leave_requested(directory, 4, &read));
    CU_ASSERT_EQUAL(gwtf_run_request_leave(directory, 4, &asked, &error), GWTF_OK);
    CU_ASSERT_FALSE(gwtf_run_leave_requested(directory, 40, &read));
    CU_ASSERT_TRUE(gwtf_run_leave_requested(directory, 4, &read));
    CU_ASSERT_EQUAL(read.notice_s, 12.5);
    CU_ASSERT_EQUAL(read.stage, 3);
    const char *path = temporary_path("leaves/requests/leave-4");
    static const char *const damaged[] = {"", "x\n", "-1.0 0\n", "12.5\n"};
    for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
        CU_ASSERT_TRUE(temporary_write(path, damaged[i], strlen(damaged[i])));
        CU_ASSERT_FALSE(gwtf_run_leave_requested(directory, 4, &read));
    }
    gwtf_run_clear_leave(directory, 4);
    CU_ASSERT_NOT_EQUAL(access(path, F_OK), 0);
}

static void a_run_is_locked_by_one_and_free_when_its_process_is_gone(void) {
    const char *directory = new_run("lock");
    int ready[2];
    CU_ASSERT_EQUAL_FATAL(pipe(ready), 0);
    pid_t child = temporary_fork();
    if (child == 0) {
        int lock = -1;
        char word = gwtf_run_lock(directory, &lock, NULL) == GWTF_OK ? 'y' : 'n';
        if (write(ready[1], &word, 1) == 1)
            pause();
        _exit(1);
    }
    char word = 'n', pid[32];
    CU_ASSERT_EQUAL(read(ready[0], &word, 1), 1);
    CU_ASSERT_EQUAL(word, 'y');
    int lock = -1;
    CU_ASSERT_EQUAL(gwtf_run_lock(directory, &lock, &error), GWTF_ERROR_USAGE);
    CU_ASSERT_EQUAL(lock, -1);
    snprintf(pid, sizeof pid, "process %ld ", (long)child);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, pid));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    CU_ASSERT_EQUAL(gwtf_run_lock(directory, &lock, &error), GWTF_OK);
    gwtf_run_unlock(lock);
    CU_ASSERT_EQUAL(gwtf_run_lock(directory, &lock, &error), GWTF_OK);
    gwtf_run_unlock(lock);
    close(ready[0]);
    close(ready[1]);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(a_run_is_recognised_by_what_is_in_it),
        GWTF_TEST(a_directory_that_cannot_be_made_is_one_line),
        GWTF_TEST(metrics_are_read_back_as_written),
        GWTF_TEST(a_metrics_line_has_its_keys_in_order),
        GWTF_TEST(a_loss_that_is_not_finite_is_left_out),
        GWTF_TEST(a_cut_last_line_is_skipped_and_does_not_spoil_the_next),
        GWTF_TEST(a_line_that_another_has_written_before_is_not_repeated),
        GWTF_TEST(a_line_that_is_being_written_is_read_when_it_is_whole),
        GWTF_TEST(lines_that_are_no_metrics_are_skipped),
        GWTF_TEST(a_resumed_run_drops_what_lies_beyond),
        GWTF_TEST(events_are_read_back_as_written),
        GWTF_TEST(node_states_are_read_back_in_the_order_of_ids),
        GWTF_TEST(requests_are_made_seen_and_taken_away),
        GWTF_TEST(who_is_asked_to_leave_knows_how_and_where_to),
        GWTF_TEST(a_run_is_locked_by_one_and_free_when_its_process_is_gone),
    };
    return gwtf_suite_main(argc, argv, "run", tests, sizeof tests / sizeof tests[0], temporary_make,
                           temporary_remove);
}
