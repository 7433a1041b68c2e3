/* metrics.jsonl and events.jsonl: one JSON object a line. */
#include "io/run.h"

#include "io/file.h"
#include "io/json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_FLAGS (JSON_COMPACT | JSON_REAL_PRECISION(12))

static void path_of(const char *directory, const char *name, char path[GWTF_FILE_PATH_MAX]) {
    snprintf(path, GWTF_FILE_PATH_MAX, "%s/%s", directory, name);
}

/* Appends OBJECT, which it takes over. NULL: memory had run out before. */
static gwtf_status append(const char *directory, const char *name, json_t *object,
                          struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    path_of(directory, name, path);
    size_t size = object == NULL ? 0 : json_dumpb(object, NULL, 0, LINE_FLAGS);
    char *line = size == 0 ? NULL : malloc(size + 1);
    gwtf_status status;
    if (line == NULL) {
        status = gwtf_file_error(error, "write", path, ENOMEM);
    } else {
        json_dumpb(object, line, size, LINE_FLAGS);
        line[size] = '\n';
        status = gwtf_file_append_line(path, line, size + 1, error);
    }
    free(line);
    json_decref(object);
    return status;
}

static void set_count(json_t *object, const char *key, uint64_t count) {
    json_object_set_new(object, key, json_integer((json_int_t)count));
}

/* What is not finite is left out: JSON has no word for it. */
static void set_real(json_t *object, const char *key, double real) {
    if (isfinite(real))
        json_object_set_new(object, key, json_real(real));
}

static void set_text(json_t *object, const char *key, const char *text) {
    char *copy = strdup(text);
    if (copy == NULL)
        return;
    gwtf_json_repair_text(copy);
    json_object_set_new(object, key, json_string(copy));
    free(copy);
}

/* The fields that all events have. */
static json_t *make_event(const char *kind, uint64_t iteration, gwtf_node_id node) {
    char now[32];
    gwtf_file_utc_now(now);
    json_t *object = json_object();
    set_text(object, "time", now);
    set_text(object, "event", kind);
    set_count(object, "iteration", iteration);
    if (node != GWTF_NODE_NONE)
        set_count(object, "node", node);
    return object;
}

gwtf_status gwtf_run_append_event(const char *directory, const char *kind, uint64_t iteration,
                                  gwtf_node_id node, const char *text, struct gwtf_error *error) {
    json_t *object = make_event(kind, iteration, node);
    if (text != NULL)
        set_text(object, "text", text);
    return append(directory, "events.jsonl", object, error);
}

gwtf_status gwtf_run_append_rerouted(const char *directory, uint64_t iteration,
                                     const struct gwtf_rerouted *rerouted,
                                     struct gwtf_error *error) {
    double old_ms = (double)rerouted->old_cost_us * 1e-3;
    double new_ms = (double)rerouted->new_cost_us * 1e-3;
    char from[48] = "flows", to[48] = "leave", text[192];
    if (rerouted->from != GWTF_NODE_NONE)
        snprintf(from, sizeof from, "flows from node %" PRIu32, rerouted->from);
    if (rerouted->to != GWTF_NODE_NONE)
        snprintf(to, sizeof to, "go to node %" PRIu32, rerouted->to);
    snprintf(text, sizeof text, "%s %s: the link to %" PRIu32 " costs %.1f ms, it was %.1f", from,
             to, rerouted->link, new_ms, old_ms);
    json_t *object = make_event("rerouted", iteration, rerouted->node);
    if (rerouted->from != GWTF_NODE_NONE)
        set_count(object, "from", rerouted->from);
    if (rerouted->to != GWTF_NODE_NONE)
        set_count(object, "to", rerouted->to);
    set_count(object, "link", rerouted->link);
    set_real(object, "old_cost_ms", old_ms);
    set_real(object, "new_cost_ms", new_ms);
    set_text(object, "text", text);
    return append(directory, "events.jsonl", object, error);
}

static bool get_count(const json_t *object, const char *key, uint64_t *count) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *count = (uint64_t)json_integer_value(value);
    return true;
}

/* 0 when it is not there or too large: for counts that a reader can do without. */
static uint32_t get_small(const json_t *object, const char *key) {
    uint64_t count = 0;
    return get_count(object, key, &count) && count <= UINT32_MAX ? (uint32_t)count : 0;
}

static double get_real(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

static bool parse_metrics(const json_t *object, struct gwtf_metrics *metrics) {
    memset(metrics, 0, sizeof *metrics);
    if (!get_count(object, "iteration", &metrics->iteration))
        return false;
    get_count(object, "tokens", &metrics->tokens);
    metrics->loss = get_real(object, "loss");
    metrics->validation_loss = get_real(object, "validation_loss");
    metrics->seconds = get_real(object, "seconds");
    metrics->tokens_per_second = get_real(object, "tokens_per_second");
    metrics->microbatches = get_small(object, "microbatches");
    metrics->nodes = get_small(object, "nodes");
    const json_t *utilisation = json_object_get(object, "stage_utilisation");
    for (size_t i = 0; i < json_array_size(utilisation) && i < GWTF_RUN_STAGES_MAX; i++) {
        const json_t *value = json_array_get(utilisation, i);
        metrics->stage_utilisation[i] =
            json_is_number(value) ? json_number_value(value) : (double)NAN;
        metrics->stages = (uint32_t)i + 1;
    }
    metrics->joined = get_small(object, "joined");
    metrics->lost = get_small(object, "lost");
    metrics->repaired = get_small(object, "repaired");
    metrics->wasted_seconds = get_real(object, "wasted_seconds");
    metrics->gradient_norm = get_real(object, "gradient_norm");
    metrics->learning_rate = get_real(object, "learning_rate");
    return true;
}

/* What the file ends with is enough: a line of metrics is shorter. */
#define TAIL_BYTES 16384

/* The iteration of the last whole line of metrics, 0 when the file's end holds none. */
static uint64_t last_iteration(const char *path) {
    char *tail = malloc(TAIL_BYTES);
    int descriptor = tail == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    struct gwtf_metrics metrics = {.iteration = 0};
    if (descriptor >= 0) {
        off_t size = lseek(descriptor, 0, SEEK_END);
        off_t start = size > TAIL_BYTES ? size - TAIL_BYTES : 0;
        ssize_t got = pread(descriptor, tail, TAIL_BYTES, start);
        close(descriptor);
        bool found = false;
        for (size_t end = got > 0 ? (size_t)got : 0; end > 0 && !found;) {
            size_t line = end - 1;
            while (line > 0 && tail[line - 1] != '\n')
                line--;
            json_t *object =
                tail[end - 1] == '\n' ? json_loadb(tail + line, end - line, 0, NULL) : NULL;
            found = json_is_object(object) && parse_metrics(object, &metrics);
            json_decref(object);
            end = line;
        }
        if (!found)
            metrics.iteration = 0;
    }
    free(tail);
    return metrics.iteration;
}

gwtf_status gwtf_run_append_metrics(const char *directory, const struct gwtf_metrics *metrics,
                                    struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    path_of(directory, "metrics.jsonl", path);
    if (last_iteration(path) >= metrics->iteration)
        return GWTF_OK;
    json_t *object = json_object();
    set_count(object, "iteration", metrics->iteration);
    set_real(object, "loss", metrics->loss);
    set_real(object, "validation_loss", metrics->validation_loss);
    set_count(object, "tokens", metrics->tokens);
    set_real(object, "seconds", metrics->seconds);
    set_real(object, "tokens_per_second", metrics->tokens_per_second);
    set_count(object, "microbatches", metrics->microbatches);
    set_count(object, "nodes", metrics->nodes);
    json_t *utilisation = json_array();
    for (uint32_t i = 0; i < metrics->stages && i < GWTF_RUN_STAGES_MAX; i++)
        json_array_append_new(utilisation, isfinite(metrics->stage_utilisation[i])
                                               ? json_real(metrics->stage_utilisation[i])
                                               : json_null());
    json_object_set_new(object, "stage_utilisation", utilisation);
    set_count(object, "joined", metrics->joined);
    set_count(object, "lost", metrics->lost);
    set_count(object, "repaired", metrics->repaired);
    set_real(object, "wasted_seconds", metrics->wasted_seconds);
    set_real(object, "gradient_norm", metrics->gradient_norm);
    set_real(object, "learning_rate", metrics->learning_rate);
    return append(directory, "metrics.jsonl", object, error);
}

/*
 * Calls TAKE for each whole line of PATH from *OFFSET on, parsed, NULL for what is no JSON object,
 * and moves *OFFSET behind it. A last line without a line break stays for the next call.
 */
static gwtf_status each_line(const char *path, uint64_t *offset,
                             void (*take)(void *context, const json_t *object, const char *line,
                                          size_t size),
                             void *context, struct gwtf_error *error) {
    FILE *stream = fopen(path, "re");
    if (stream == NULL)
        return errno == ENOENT ? GWTF_OK : gwtf_file_error(error, "open", path, errno);
    gwtf_status status = GWTF_OK;
    if (fseeko(stream, (off_t)*offset, SEEK_SET) != 0)
        status = gwtf_file_error(error, "read", path, errno);
    char *line = NULL;
    size_t room = 0;
    while (status == GWTF_OK) {
        ssize_t size = getline(&line, &room, stream);
        if (size <= 0 || line[size - 1] != '\n')
            break;
        json_t *object = json_loadb(line, (size_t)size, 0, NULL);
        take(context, json_is_object(object) ? object : NULL, line, (size_t)size);
        json_decref(object);
        *offset += (uint64_t)size;
    }
    if (status == GWTF_OK && ferror(stream))
        status = gwtf_file_error(error, "read", path, errno);
    free(line);
    fclose(stream);
    return status;
}

struct metrics_reader {
    void (*visit)(void *context, const struct gwtf_metrics *);
    void *context;
};

static void take_metrics(void *context, const json_t *object, const char *line, size_t size) {
    (void)line;
    (void)size;
    struct metrics_reader *reader = context;
    struct gwtf_metrics metrics;
    if (object != NULL && parse_metrics(object, &metrics))
        reader->visit(reader->context, &metrics);
}

gwtf_status gwtf_run_read_metrics(const char *directory, uint64_t *offset,
                                  void (*visit)(void *context, const struct gwtf_metrics *),
                                  void *context, struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    path_of(directory, "metrics.jsonl", path);
    struct metrics_reader reader = {visit, context};
    return each_line(path, offset, take_metrics, &reader, error);
}

struct event_reader {
    void (*visit)(void *context, const struct gwtf_run_event *);
    void *context;
};

static void take_event(void *context, const json_t *object, const char *line, size_t size) {
    (void)line;
    (void)size;
    struct event_reader *reader = context;
    struct gwtf_run_event event = {.node = GWTF_NODE_NONE, .text = ""};
    event.time = json_string_value(json_object_get(object, "time"));
    event.kind = json_string_value(json_object_get(object, "event"));
    if (event.time == NULL || event.kind == NULL)
        return;
    get_count(object, "iteration", &event.iteration);
    uint64_t node = 0;
    if (get_count(object, "node", &node) && node < GWTF_NODE_NONE)
        event.node = (gwtf_node_id)node;
    const char *text = json_string_value(json_object_get(object, "text"));
    if (text != NULL)
        event.text = text;
    reader->visit(reader->context, &event);
}

gwtf_status gwtf_run_read_events(const char *directory, uint64_t *offset,
                                 void (*visit)(void *context, const struct gwtf_run_event *),
                                 void *context, struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    path_of(directory, "events.jsonl", path);
    struct event_reader reader = {visit, context};
    return each_line(path, offset, take_event, &reader, error);
}

struct truncation {
    FILE *kept;
    uint64_t last;
};

static void take_kept(void *context, const json_t *object, const char *line, size_t size) {
    struct truncation *truncation = context;
    struct gwtf_metrics metrics;
    if (object != NULL && parse_metrics(object, &metrics) && metrics.iteration <= truncation->last)
        fwrite(line, 1, size, truncation->kept);
}

gwtf_status gwtf_run_truncate_metrics(const char *directory, uint64_t last,
                                      struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    path_of(directory, "metrics.jsonl", path);
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return GWTF_OK;
    char *bytes = NULL;
    size_t size = 0;
    struct truncation truncation = {.kept = open_memstream(&bytes, &size), .last = last};
    if (truncation.kept == NULL)
        return gwtf_file_error(error, "read", path, ENOMEM);
    uint64_t offset = 0;
    gwtf_status status = each_line(path, &offset, take_kept, &truncation, error);
    bool failed = ferror(truncation.kept) != 0;
    if ((fclose(truncation.kept) != 0 || failed) && status == GWTF_OK)
        status = gwtf_file_error(error, "read", path, ENOMEM);
    if (status == GWTF_OK)
        status = gwtf_file_replace(path, bytes, size, true, error);
    free(bytes);
    return status;
}
