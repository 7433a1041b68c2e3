#include "launcher/view.h"

#include "io/config.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Nodes write their state at least once an iteration: one that has been silent for so many
 * iterations, and for so many seconds, does not work any more. */
#define SILENT_ITERATIONS 10
#define SILENT_SECONDS 60
/* A node that gets ready writes its state once, then loads its stage. */
#define SILENT_STARTING_SECONDS 180

static void note_metrics(void *context, const struct gwtf_metrics *metrics) {
    struct gwtf_view *view = context;
    view->last = *metrics;
    view->recent_seconds[view->metrics_count++ % GWTF_VIEW_RECENT_MAX] = metrics->seconds;
    if (!isnan(metrics->validation_loss)) {
        view->validation_loss = metrics->validation_loss;
        view->validation_iteration = metrics->iteration;
    }
}

static void note_event(void *context, const struct gwtf_run_event *event) {
    struct gwtf_view *view = context;
    struct gwtf_view_event *kept = &view->events[view->events_count++ % GWTF_VIEW_EVENTS_MAX];
    snprintf(kept->time, sizeof kept->time, "%s", event->time);
    snprintf(kept->kind, sizeof kept->kind, "%s", event->kind);
    snprintf(kept->text, sizeof kept->text, "%s", event->text);
    kept->iteration = event->iteration;
    kept->node = event->node;
}

/* Mean over the last iterations; NAN before the first. */
static double seconds_per_iteration(const struct gwtf_view *view) {
    uint64_t count =
        view->metrics_count < GWTF_VIEW_RECENT_MAX ? view->metrics_count : GWTF_VIEW_RECENT_MAX;
    double sum = 0;
    for (uint64_t i = 0; i < count; i++)
        sum += view->recent_seconds[i];
    return count == 0 ? (double)NAN : sum / (double)count;
}

const char *gwtf_view_where(const struct gwtf_node_state *node, char text[288]) {
    if (node->on_gpu)
        snprintf(text, 288, "%s, GPU %" PRIu32, node->host, node->gpu);
    else
        snprintf(text, 288, "%s", node->host);
    return text;
}

double gwtf_view_age_s(const struct gwtf_view *view, const struct gwtf_node_state *node) {
    return node->updated_unix_us >= view->now_us
               ? 0
               : (double)(view->now_us - node->updated_unix_us) / 1e6;
}

/* True when NODE should have been heard of since. */
bool gwtf_view_is_silent(const struct gwtf_view *view, const struct gwtf_node_state *node) {
    double seconds = SILENT_ITERATIONS * seconds_per_iteration(view);
    double least = node->phase == GWTF_NODE_STARTING ? SILENT_STARTING_SECONDS : SILENT_SECONDS;
    return !gwtf_node_has_ended(node) &&
           gwtf_view_age_s(view, node) > (seconds > least ? seconds : least);
}

static void say(struct gwtf_view *view, const char *phase, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void say(struct gwtf_view *view, const char *phase, const char *format, ...) {
    view->phase = phase;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(view->explanation, sizeof view->explanation, format, arguments);
    va_end(arguments);
}

/* No node works any more. */
static void judge_end(struct gwtf_view *view, const struct gwtf_node_state *failed) {
    bool complete = view->iterations > 0 && view->last.iteration >= view->iterations;
    /* The others have gone on without one whose GPU failed. */
    bool all_failed = failed != NULL && failed->status != GWTF_ERROR_DEVICE;
    if (complete && !all_failed)
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
static void judge(struct gwtf_view *view) {
    const struct gwtf_node_state *failed = NULL;
    double newest = INFINITY;
    size_t working = 0, starting = 0, silent = 0;
    for (size_t i = 0; i < view->nodes_count; i++) {
        const struct gwtf_node_state *node = &view->nodes[i];
        bool is_worse = failed == NULL || failed->status == GWTF_ERROR_DEVICE;
        if (node->phase == GWTF_NODE_FAILED && is_worse)
            failed = node;
        if (gwtf_node_has_ended(node))
            continue;
        working++;
        starting += node->phase == GWTF_NODE_STARTING;
        silent += gwtf_view_is_silent(view, node);
        newest = gwtf_view_age_s(view, node) < newest ? gwtf_view_age_s(view, node) : newest;
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
gwtf_status gwtf_view_look(struct gwtf_view *view, struct gwtf_error *error) {
    static struct gwtf_config config; /* too large for a stack */
    char path[GWTF_RUN_PATH_MAX];
    struct gwtf_error unread;
    uint64_t offset = 0;
    if (strlen(view->directory) + strlen("/snapshots") >= GWTF_CONFIG_PATH_MAX)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "the run's path is too long: give a shorter one");
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
double gwtf_view_seconds_left(const struct gwtf_view *view) {
    if (strcmp(view->phase, "training") != 0 || view->iterations < view->last.iteration)
        return (double)NAN;
    return (double)(view->iterations - view->last.iteration) * seconds_per_iteration(view);
}

const char *gwtf_view_span(double seconds, char text[48]) {
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

void gwtf_view_job(const struct gwtf_view *view, char *text, size_t text_bytes) {
    const struct gwtf_allocation *allocation = &view->allocation;
    text[0] = '\0';
    if (allocation->job[0] == '\0')
        return;
    size_t used = (size_t)snprintf(text, text_bytes, "%s: ", allocation->job);
    for (uint32_t i = 0; i < allocation->components_count && used < text_bytes; i++)
        used +=
            (size_t)snprintf(text + used, text_bytes - used, "%s%s on %s", i > 0 ? ", " : "",
                             allocation->components[i].partition, allocation->components[i].nodes);
}

uint64_t gwtf_view_first_event(const struct gwtf_view *view) {
    return view->events_count > GWTF_VIEW_EVENTS_MAX ? view->events_count - GWTF_VIEW_EVENTS_MAX
                                                     : 0;
}

void gwtf_view_deinit(struct gwtf_view *view) {
    free(view->nodes);
    gwtf_allocation_deinit(&view->allocation);
}
