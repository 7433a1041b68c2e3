/* gwtf status: what a run does, from the files in its directory alone. */
#include "io/allocation.h"
#include "io/config.h"
#include "io/json.h"
#include "io/run.h"
#include "io/snapshot.h"
#include "launcher/commands.h"
#include "launcher/options.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct gwtf_usage usage = {
    .command = "status",
    .arguments = "RUN [--json]",
    .summary =
        "Prints what a run does: phase, progress, nodes, newest snapshot, last events. It reads\n"
        "the run's directory only, and may be used at any time.\n",
    .example = "  gwtf status runs/small\n"
               "  watch gwtf status runs/small\n",
    .arguments_least = 1,
    .arguments_most = 1,
};

#define RECENT_MAX 10
#define EVENTS_MAX 8
/* Nodes write their state at least once an iteration: one that has been silent for so many
 * iterations, and for so many seconds, does not work any more. */
#define SILENT_ITERATIONS 10
#define SILENT_SECONDS 60
/* A node that gets ready writes its state once, then loads its stage. */
#define SILENT_STARTING_SECONDS 180

struct event {
    char time[40];
    char kind[40];
    uint64_t iteration;
    gwtf_node_id node;
    char text[256];
};

struct view {
    const char *directory;
    uint64_t iterations; /* configured; 0: not known */
    struct gwtf_metrics last;
    uint64_t metrics_count;
    double validation_loss; /* the last one measured */
    uint64_t validation_iteration;
    double recent_seconds[RECENT_MAX]; /* of the last iterations, in turn */
    struct event events[EVENTS_MAX];   /* the last ones, in turn */
    uint64_t events_count;
    struct gwtf_node_state *nodes;
    size_t nodes_count;
    struct gwtf_allocation allocation; /* of the last start's job, or empty */
    uint64_t now_us;
    bool has_snapshot;
    struct gwtf_snapshot_info snapshot;
    const char *phase;
    char explanation[GWTF_ERROR_TEXT_MAX + 64];
};

static void note_metrics(void *context, const struct gwtf_metrics *metrics) {
    struct view *view = context;
    view->last = *metrics;
    view->recent_seconds[view->metrics_count++ % RECENT_MAX] = metrics->seconds;
    if (!isnan(metrics->validation_loss)) {
        view->validation_loss = metrics->validation_loss;
        view->validation_iteration = metrics->iteration;
    }
}

static void note_event(void *context, const struct gwtf_run_event *event) {
    struct view *view = context;
    struct event *kept = &view->events[view->events_count++ % EVENTS_MAX];
    snprintf(kept->time, sizeof kept->time, "%s", event->time);
    snprintf(kept->kind, sizeof kept->kind, "%s", event->kind);
    snprintf(kept->text, sizeof kept->text, "%s", event->text);
    kept->iteration = event->iteration;
    kept->node = event->node;
}

/* Mean over the last iterations; NAN before the first. */
static double seconds_per_iteration(const struct view *view) {
    uint64_t count = view->metrics_count < RECENT_MAX ? view->metrics_count : RECENT_MAX;
    double sum = 0;
    for (uint64_t i = 0; i < count; i++)
        sum += view->recent_seconds[i];
    return count == 0 ? (double)NAN : sum / (double)count;
}

static double age_s(const struct view *view, const struct gwtf_node_state *node) {
    return node->updated_unix_us >= view->now_us
               ? 0
               : (double)(view->now_us - node->updated_unix_us) / 1e6;
}

static bool is_over(const struct gwtf_node_state *node) {
    return node->phase == GWTF_NODE_FINISHED || node->phase == GWTF_NODE_FAILED;
}

/* True when NODE should have been heard of since. */
static bool is_silent(const struct view *view, const struct gwtf_node_state *node) {
    double seconds = SILENT_ITERATIONS * seconds_per_iteration(view);
    double least = node->phase == GWTF_NODE_STARTING ? SILENT_STARTING_SECONDS : SILENT_SECONDS;
    return !is_over(node) && age_s(view, node) > (seconds > least ? seconds : least);
}

static void say(struct view *view, const char *phase, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void say(struct view *view, const char *phase, const char *format, ...) {
    view->phase = phase;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(view->explanation, sizeof view->explanation, format, arguments);
    va_end(arguments);
}

/* No node works any more. */
static void judge_end(struct view *view, const struct gwtf_node_state *failed) {
    bool complete = view->iterations > 0 && view->last.iteration >= view->iterations;
    if (complete && failed == NULL)
        say(view, "finished", "all iterations are done");
    else if (failed != NULL)
        say(view, "failed", "node %" PRIu32 " says: %s", failed->node,
            *failed->error == '\0' ? "no reason" : failed->error);
    else
        say(view, "stopped",
            "it was ended before its last iteration; go on with: gwtf train "
            "%s/config.cfg --resume",
            view->directory);
}

/* The phase of the whole run, from its nodes' phases and how long they have been silent. */
static void judge(struct view *view) {
    const struct gwtf_node_state *failed = NULL;
    double newest = INFINITY;
    size_t working = 0, starting = 0, silent = 0;
    for (size_t i = 0; i < view->nodes_count; i++) {
        const struct gwtf_node_state *node = &view->nodes[i];
        if (node->phase == GWTF_NODE_FAILED && failed == NULL)
            failed = node;
        if (is_over(node))
            continue;
        working++;
        starting += node->phase == GWTF_NODE_STARTING;
        silent += is_silent(view, node);
        newest = age_s(view, node) < newest ? age_s(view, node) : newest;
    }
    if (view->nodes_count == 0)
        say(view, "waiting", "no node has written its state yet");
    else if (working == 0)
        judge_end(view, failed);
    else if (silent == working)
        say(view, "stale",
            "no node has been heard of for %.0f s, so nothing works on it; go on with: gwtf train "
            "%s/config.cfg --resume",
            newest, view->directory);
    else if (starting == working)
        say(view, "starting", "the nodes get ready");
    else
        say(view, "training", "%zu of %zu nodes at work", working, view->nodes_count);
}

/* Everything that the files say. Errors: MISSING when there is no run, IO. */
static gwtf_status look(struct view *view, struct gwtf_error *error) {
    static struct gwtf_config config; /* too large for a stack */
    char path[GWTF_RUN_PATH_MAX];
    struct gwtf_error unread;
    uint64_t offset = 0;
    snprintf(path, sizeof path, "%s/config.cfg", view->directory);
    if (access(path, F_OK) != 0)
        return gwtf_error_set(error, GWTF_ERROR_MISSING,
                              "'%s' is not a run's directory: give the run.directory of a "
                              "configuration",
                              view->directory);
    /* A configuration of another version, or edited by hand, hides only the total. */
    if (gwtf_config_load(path, NULL, 0, &config, &unread) == GWTF_OK)
        view->iterations = config.run.iterations;
    gwtf_status status = gwtf_run_read_metrics(view->directory, &offset, note_metrics, view, error);
    offset = 0;
    if (status == GWTF_OK)
        status = gwtf_run_read_events(view->directory, &offset, note_event, view, error);
    if (status == GWTF_OK)
        status = gwtf_run_read_nodes(view->directory, &view->nodes, &view->nodes_count, error);
    if (status != GWTF_OK)
        return status;
    if (gwtf_allocation_read(view->directory, &view->allocation, &unread) != GWTF_OK)
        view->allocation.job[0] = '\0'; /* training does not need it */
    snprintf(path, sizeof path, "%s/snapshots", view->directory);
    view->has_snapshot = gwtf_snapshot_glance(path, &view->snapshot, &unread) == GWTF_OK;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    view->now_us = (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
    judge(view);
    return GWTF_OK;
}

/* NAN when nothing can be said. */
static double seconds_left(const struct view *view) {
    if (strcmp(view->phase, "training") != 0 || view->iterations < view->last.iteration)
        return (double)NAN;
    return (double)(view->iterations - view->last.iteration) * seconds_per_iteration(view);
}

static const char *span_text(double seconds, char text[48]) {
    uint64_t whole = (uint64_t)(seconds + 0.5);
    if (whole < 120)
        snprintf(text, 48, "%" PRIu64 " s", whole);
    else if (whole < 7200)
        snprintf(text, 48, "%" PRIu64 " min %" PRIu64 " s", whole / 60, whole % 60);
    else if (whole < 172800)
        snprintf(text, 48, "%" PRIu64 " h %" PRIu64 " min", whole / 3600, whole / 60 % 60);
    else
        snprintf(text, 48, "%" PRIu64 " days %" PRIu64 " h", whole / 86400, whole / 3600 % 24);
    return text;
}

static void print_job(const struct gwtf_allocation *allocation) {
    if (allocation->job[0] == '\0')
        return;
    printf("job         %s: ", allocation->job);
    for (uint32_t i = 0; i < allocation->components_count; i++)
        printf("%s%s on %s", i > 0 ? ", " : "", allocation->components[i].partition,
               allocation->components[i].nodes);
    putchar('\n');
}

static void print_progress(const struct view *view) {
    char span[48];
    printf("run         %s\n", view->directory);
    print_job(&view->allocation);
    printf("phase       %s: %s\n", view->phase, view->explanation);
    printf("iteration   %" PRIu64, view->last.iteration);
    if (view->iterations > 0)
        printf(" of %" PRIu64 " (%.0f %%)", view->iterations,
               floor(100.0 * (double)view->last.iteration / (double)view->iterations));
    putchar('\n');
    if (view->metrics_count > 0) {
        printf("loss        %.4f", view->last.loss);
        if (view->validation_iteration > 0)
            printf(", validation %.4f after iteration %" PRIu64, view->validation_loss,
                   view->validation_iteration);
        printf("\nspeed       %.0f tokens/s\n", view->last.tokens_per_second);
    }
    if (!isnan(seconds_left(view)))
        printf("time left   %s\n", span_text(seconds_left(view), span));
    if (view->has_snapshot)
        printf("snapshot    step %" PRIu64 ": %s\n", view->snapshot.step, view->snapshot.path);
    else
        printf("snapshot    none yet\n");
}

static void print_nodes(const struct view *view) {
    static const char *const headers[] = {"node",     "role", "phase",    "iteration",
                                          "capacity", "host", "last seen"};
    if (view->nodes_count == 0)
        return;
    struct gwtf_table table;
    gwtf_table_init(&table, "rllrrll", headers);
    for (size_t i = 0; i < view->nodes_count; i++) {
        const struct gwtf_node_state *node = &view->nodes[i];
        char span[48];
        bool silent = is_silent(view, node);
        gwtf_table_cell(&table, "%" PRIu32, node->node);
        if (node->stage == 0)
            gwtf_table_cell(&table, "data");
        else
            gwtf_table_cell(&table, "stage %" PRIu32, node->stage);
        gwtf_table_cell(&table, "%s", gwtf_node_phase_name(node->phase));
        gwtf_table_cell(&table, "%" PRIu64, node->iteration);
        gwtf_table_cell(&table, "%" PRIu32, node->capacity);
        gwtf_table_cell(&table, "%s", node->host);
        gwtf_table_cell(&table, "%s ago%s", span_text(age_s(view, node), span),
                        silent ? ", silent" : "");
    }
    putchar('\n');
    gwtf_table_print(&table, stdout);
    gwtf_table_deinit(&table);
}

static uint64_t first_event(const struct view *view) {
    return view->events_count > EVENTS_MAX ? view->events_count - EVENTS_MAX : 0;
}

static void print_events(const struct view *view) {
    static const char *const headers[] = {"time", "event", "iteration", "node", "text"};
    if (view->events_count == 0)
        return;
    struct gwtf_table table;
    gwtf_table_init(&table, "llrrl", headers);
    for (uint64_t i = first_event(view); i < view->events_count; i++) {
        const struct event *event = &view->events[i % EVENTS_MAX];
        gwtf_table_cell(&table, "%s", event->time);
        gwtf_table_cell(&table, "%s", event->kind);
        gwtf_table_cell(&table, "%" PRIu64, event->iteration);
        if (event->node == GWTF_NODE_NONE)
            gwtf_table_cell(&table, "-");
        else
            gwtf_table_cell(&table, "%" PRIu32, event->node);
        gwtf_table_cell(&table, "%s", event->text);
    }
    putchar('\n');
    gwtf_table_print(&table, stdout);
    gwtf_table_deinit(&table);
}

static void json_progress(struct gwtf_json *json, const struct view *view) {
    gwtf_json_text(json, "run", view->directory);
    gwtf_json_text(json, "phase", view->phase);
    gwtf_json_text(json, "explanation", view->explanation);
    gwtf_json_count(json, "iteration", view->last.iteration);
    gwtf_json_count(json, "iterations", view->iterations);
    gwtf_json_real(json, "loss", view->metrics_count > 0 ? view->last.loss : (double)NAN);
    gwtf_json_real(json, "validation_loss",
                   view->validation_iteration > 0 ? view->validation_loss : (double)NAN);
    gwtf_json_count(json, "validation_iteration", view->validation_iteration);
    gwtf_json_real(json, "tokens_per_second",
                   view->metrics_count > 0 ? view->last.tokens_per_second : (double)NAN);
    gwtf_json_real(json, "seconds_left", seconds_left(view));
    if (!view->has_snapshot) {
        gwtf_json_null(json, "snapshot");
        return;
    }
    gwtf_json_open(json, "snapshot", '{');
    gwtf_json_count(json, "step", view->snapshot.step);
    gwtf_json_count(json, "stages", view->snapshot.stages);
    gwtf_json_text(json, "path", view->snapshot.path);
    gwtf_json_close(json);
}

static void json_job(struct gwtf_json *json, const struct gwtf_allocation *allocation) {
    if (allocation->job[0] == '\0') {
        gwtf_json_null(json, "job");
        return;
    }
    gwtf_json_open(json, "job", '{');
    gwtf_json_text(json, "id", allocation->job);
    gwtf_json_open(json, "components", '[');
    for (uint32_t i = 0; i < allocation->components_count; i++) {
        gwtf_json_open(json, NULL, '{');
        gwtf_json_text(json, "id", allocation->components[i].job);
        gwtf_json_text(json, "partition", allocation->components[i].partition);
        gwtf_json_text(json, "nodes", allocation->components[i].nodes);
        gwtf_json_close(json);
    }
    gwtf_json_close(json);
    gwtf_json_close(json);
}

static void json_node(struct gwtf_json *json, const struct view *view,
                      const struct gwtf_node_state *node) {
    char hash[17];
    snprintf(hash, sizeof hash, "%016" PRIx64, node->weights_hash);
    gwtf_json_open(json, NULL, '{');
    gwtf_json_count(json, "node", node->node);
    gwtf_json_text(json, "role", node->stage == 0 ? "data" : "relay");
    gwtf_json_count(json, "stage", node->stage);
    gwtf_json_text(json, "phase", gwtf_node_phase_name(node->phase));
    gwtf_json_count(json, "iteration", node->iteration);
    gwtf_json_count(json, "capacity", node->capacity);
    gwtf_json_text(json, "host", node->host);
    gwtf_json_count(json, "pid", (uint64_t)node->pid);
    gwtf_json_text(json, "weights_hash", hash);
    gwtf_json_count(json, "hash_iteration", node->hash_iteration);
    gwtf_json_real(json, "seconds_silent", age_s(view, node));
    if (node->phase == GWTF_NODE_FAILED)
        gwtf_json_text(json, "error", node->error);
    gwtf_json_close(json);
}

static void print_json(const struct view *view) {
    struct gwtf_json json;
    gwtf_json_start(&json, stdout);
    gwtf_json_open(&json, NULL, '{');
    json_progress(&json, view);
    json_job(&json, &view->allocation);
    gwtf_json_open(&json, "nodes", '[');
    for (size_t i = 0; i < view->nodes_count; i++)
        json_node(&json, view, &view->nodes[i]);
    gwtf_json_close(&json);
    gwtf_json_open(&json, "events", '[');
    for (uint64_t i = first_event(view); i < view->events_count; i++) {
        const struct event *event = &view->events[i % EVENTS_MAX];
        gwtf_json_open(&json, NULL, '{');
        gwtf_json_text(&json, "time", event->time);
        gwtf_json_text(&json, "event", event->kind);
        gwtf_json_count(&json, "iteration", event->iteration);
        if (event->node != GWTF_NODE_NONE)
            gwtf_json_count(&json, "node", event->node);
        gwtf_json_text(&json, "text", event->text);
        gwtf_json_close(&json);
    }
    gwtf_json_close(&json);
    gwtf_json_close(&json);
    gwtf_json_end(&json);
}

int gwtf_command_status(int argc, char **argv) {
    bool json = false;
    int code;
    const struct gwtf_option options[] = {{.name = "json", .help = "print JSON", .flag = &json},
                                          {0}};
    if (!gwtf_options_parse(&usage, options, argc, argv, &code))
        return code;
    static struct view view;
    view.directory = argv[optind];
    if (strlen(view.directory) + strlen("/snapshots") >= GWTF_CONFIG_PATH_MAX)
        return gwtf_fail(GWTF_ERROR_USAGE, "the run's path is too long: give a shorter one");
    struct gwtf_error error;
    gwtf_status status = look(&view, &error);
    if (status != GWTF_OK) {
        code = gwtf_fail(status, "%s", error.text);
    } else if (json) {
        print_json(&view);
    } else {
        print_progress(&view);
        print_nodes(&view);
        print_events(&view);
    }
    free(view.nodes);
    gwtf_allocation_deinit(&view.allocation);
    return code;
}
