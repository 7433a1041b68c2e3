/* gwtf status: what a run does, from the files in its directory alone. */
#include "io/json.h"
#include "launcher/commands.h"
#include "launcher/options.h"
#include "launcher/view.h"

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

static void print_progress(const struct gwtf_view *view) {
    char span[48], job[512];
    printf("run         %s\n", view->directory);
    gwtf_view_job(view, job, sizeof job);
    if (job[0] != '\0')
        printf("job         %s\n", job);
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
    if (!isnan(gwtf_view_seconds_left(view)))
        printf("time left   %s\n", gwtf_view_span(gwtf_view_seconds_left(view), span));
    if (view->has_snapshot)
        printf("snapshot    step %" PRIu64 ": %s\n", view->snapshot.step, view->snapshot.path);
    else
        printf("snapshot    none yet\n");
}

static void print_nodes(const struct gwtf_view *view) {
    static const char *const headers[] = {"node",     "role", "phase",     "iteration",
                                          "capacity", "host", "last seen", "waits for"};
    if (view->nodes_count == 0)
        return;
    struct gwtf_table table;
    gwtf_table_init(&table, "rllrrlll", headers);
    for (size_t i = 0; i < view->nodes_count; i++) {
        const struct gwtf_node_state *node = &view->nodes[i];
        char span[48], where[288];
        bool silent = gwtf_view_is_silent(view, node);
        gwtf_table_cell(&table, "%" PRIu32, node->node);
        if (node->stage == 0)
            gwtf_table_cell(&table, "data");
        else
            gwtf_table_cell(&table, "stage %" PRIu32, node->stage);
        gwtf_table_cell(&table, "%s", gwtf_node_phase_name(node->phase));
        gwtf_table_cell(&table, "%" PRIu64, node->iteration);
        gwtf_table_cell(&table, "%" PRIu32, node->capacity);
        gwtf_table_cell(&table, "%s", gwtf_view_where(node, where));
        gwtf_table_cell(&table, "%s ago%s", gwtf_view_span(gwtf_view_age_s(view, node), span),
                        silent ? ", silent" : "");
        const char *waits = strstr(node->waits, ": ");
        gwtf_table_cell(&table, "%s", waits != NULL ? waits + 2 : "");
    }
    putchar('\n');
    gwtf_table_print(&table, stdout);
    gwtf_table_deinit(&table);
}

static void print_events(const struct gwtf_view *view) {
    static const char *const headers[] = {"time", "event", "iteration", "node", "text"};
    if (view->events_count == 0)
        return;
    struct gwtf_table table;
    gwtf_table_init(&table, "llrrl", headers);
    for (uint64_t i = gwtf_view_first_event(view); i < view->events_count; i++) {
        const struct gwtf_view_event *event = &view->events[i % GWTF_VIEW_EVENTS_MAX];
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

static void json_progress(struct gwtf_json *json, const struct gwtf_view *view) {
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
    gwtf_json_real(json, "seconds_left", gwtf_view_seconds_left(view));
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

static void json_node(struct gwtf_json *json, const struct gwtf_view *view,
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
    if (node->on_gpu) {
        gwtf_json_count(json, "gpu", node->gpu);
        gwtf_json_text(json, "gpu_name", node->gpu_name);
    } else {
        gwtf_json_null(json, "gpu");
        gwtf_json_null(json, "gpu_name");
    }
    gwtf_json_count(json, "pid", (uint64_t)node->pid);
    gwtf_json_text(json, "weights_hash", hash);
    gwtf_json_count(json, "hash_iteration", node->hash_iteration);
    gwtf_json_real(json, "seconds_silent", gwtf_view_age_s(view, node));
    gwtf_json_text(json, "waits_for", node->waits);
    if (node->phase == GWTF_NODE_FAILED)
        gwtf_json_text(json, "error", node->error);
    gwtf_json_close(json);
}

static void print_json(const struct gwtf_view *view) {
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
    for (uint64_t i = gwtf_view_first_event(view); i < view->events_count; i++) {
        const struct gwtf_view_event *event = &view->events[i % GWTF_VIEW_EVENTS_MAX];
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
    static struct gwtf_view view;
    view.directory = argv[optind];
    struct gwtf_error error;
    gwtf_status status = gwtf_view_look(&view, &error);
    if (status != GWTF_OK) {
        code = gwtf_fail(status, "%s", error.text);
    } else if (json) {
        print_json(&view);
    } else {
        print_progress(&view);
        print_nodes(&view);
        print_events(&view);
    }
    gwtf_view_deinit(&view);
    return code;
}
