/* nodes/node-0003.json: what each node says of itself. */
#include "io/run.h"

#include "io/file.h"
#include "io/json.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STATE_MAX_BYTES 65536

static const char *const phase_words[] = {"starting", "training", "finished",
                                          "failed",   "leaving",  "left"};

const char *gwtf_node_phase_name(enum gwtf_node_phase phase) {
    return phase_words[phase];
}

bool gwtf_node_has_ended(const struct gwtf_node_state *state) {
    return state->phase == GWTF_NODE_FINISHED || state->phase == GWTF_NODE_FAILED ||
           state->phase == GWTF_NODE_LEFT;
}

static uint64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static void set_text(json_t *object, const char *key, const char *text) {
    char copy[GWTF_ERROR_TEXT_MAX];
    snprintf(copy, sizeof copy, "%s", text);
    gwtf_json_repair_text(copy);
    json_object_set_new(object, key, json_string(copy));
}

static void set_count(json_t *object, const char *key, uint64_t count) {
    json_object_set_new(object, key, json_integer((json_int_t)count));
}

gwtf_status gwtf_run_write_node(const char *directory, const struct gwtf_node_state *state,
                                struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX], hash[17];
    snprintf(path, sizeof path, "%s/nodes/node-%04" PRIu32 ".json", directory, state->node);
    snprintf(hash, sizeof hash, "%016" PRIx64, state->weights_hash);
    json_t *object = json_object();
    set_count(object, "node", state->node);
    set_count(object, "stage", state->stage);
    set_text(object, "phase", phase_words[state->phase]);
    set_count(object, "pid", (uint64_t)state->pid);
    set_text(object, "host", state->host);
    set_count(object, "iteration", state->iteration);
    set_count(object, "capacity", state->capacity);
    if (state->on_gpu) {
        set_count(object, "gpu", state->gpu);
        set_text(object, "gpu_name", state->gpu_name);
    }
    set_text(object, "weights_hash", hash);
    set_count(object, "hash_iteration", state->hash_iteration);
    set_count(object, "updated_unix_us", now_us());
    if (state->waits[0] != '\0')
        set_text(object, "waits_for", state->waits);
    if (state->phase == GWTF_NODE_FAILED) {
        set_count(object, "status", (uint64_t)state->status);
        set_text(object, "error", state->error);
    }
    char *text = object == NULL ? NULL : json_dumps(object, JSON_INDENT(2));
    gwtf_status status = text == NULL ? gwtf_file_error(error, "write", path, ENOMEM)
                                      : gwtf_file_replace(path, text, strlen(text), false, error);
    free(text);
    json_decref(object);
    return status;
}

static bool get_count(const json_t *object, const char *key, uint64_t most, uint64_t *count) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        (uint64_t)json_integer_value(value) > most)
        return false;
    *count = (uint64_t)json_integer_value(value);
    return true;
}

static void get_text(const json_t *object, const char *key, char *text, size_t size) {
    const char *found = json_string_value(json_object_get(object, key));
    snprintf(text, size, "%s", found == NULL ? "" : found);
}

static bool parse_node(const json_t *object, struct gwtf_node_state *state) {
    memset(state, 0, sizeof *state);
    uint64_t node, stage, pid, capacity, status, gpu;
    char phase[32], hash[32];
    if (!get_count(object, "node", GWTF_NODE_NONE - 1, &node) ||
        !get_count(object, "stage", UINT32_MAX, &stage) ||
        !get_count(object, "pid", INT64_MAX, &pid) ||
        !get_count(object, "capacity", UINT32_MAX, &capacity) ||
        !get_count(object, "iteration", UINT64_MAX, &state->iteration) ||
        !get_count(object, "hash_iteration", UINT64_MAX, &state->hash_iteration) ||
        !get_count(object, "updated_unix_us", UINT64_MAX, &state->updated_unix_us))
        return false;
    state->node = (gwtf_node_id)node;
    state->stage = (uint32_t)stage;
    state->pid = (int64_t)pid;
    state->capacity = (uint32_t)capacity;
    if (get_count(object, "status", INT32_MAX, &status))
        state->status = (gwtf_status)status;
    state->on_gpu = get_count(object, "gpu", UINT32_MAX, &gpu);
    if (state->on_gpu)
        state->gpu = (uint32_t)gpu;
    get_text(object, "gpu_name", state->gpu_name, sizeof state->gpu_name);
    get_text(object, "host", state->host, sizeof state->host);
    get_text(object, "error", state->error, sizeof state->error);
    get_text(object, "waits_for", state->waits, sizeof state->waits);
    get_text(object, "weights_hash", hash, sizeof hash);
    state->weights_hash = strtoull(hash, NULL, 16);
    get_text(object, "phase", phase, sizeof phase);
    for (size_t i = 0; i < sizeof phase_words / sizeof phase_words[0]; i++) {
        if (strcmp(phase, phase_words[i]) == 0) {
            state->phase = (enum gwtf_node_phase)i;
            return true;
        }
    }
    return false;
}

static bool is_node_file(const char *name) {
    size_t length = strlen(name);
    return strncmp(name, "node-", 5) == 0 && length > 10 && strcmp(name + length - 5, ".json") == 0;
}

static bool read_node(const char *path, struct gwtf_node_state *state) {
    char *text = NULL;
    size_t size = 0;
    if (gwtf_file_read(path, STATE_MAX_BYTES, &text, &size, NULL) != GWTF_OK)
        return false;
    json_t *object = json_loadb(text, size, 0, NULL);
    bool good = json_is_object(object) && parse_node(object, state);
    json_decref(object);
    free(text);
    return good;
}

static int by_id(const void *a, const void *b) {
    const struct gwtf_node_state *one = a, *other = b;
    return (one->node > other->node) - (one->node < other->node);
}

gwtf_status gwtf_run_read_nodes(const char *directory, struct gwtf_node_state **nodes,
                                size_t *nodes_count, struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    snprintf(path, sizeof path, "%s/nodes", directory);
    DIR *listing = opendir(path);
    if (listing == NULL)
        return errno == ENOENT
                   ? gwtf_error_set(error, GWTF_ERROR_MISSING,
                                    "'%s' is not the directory of a run: check the path", directory)
                   : gwtf_file_error(error, "open", path, errno);
    struct gwtf_node_state *found = NULL;
    size_t count = 0, room = 0;
    gwtf_status status = GWTF_OK;
    for (struct dirent *entry; status == GWTF_OK && (entry = readdir(listing)) != NULL;) {
        if (!is_node_file(entry->d_name))
            continue;
        if (count == room) {
            room = room == 0 ? 16 : 2 * room;
            struct gwtf_node_state *larger = realloc(found, room * sizeof *found);
            if (larger == NULL) {
                status = gwtf_file_error(error, "read", path, ENOMEM);
                break;
            }
            found = larger;
        }
        char file[GWTF_FILE_PATH_MAX];
        int length = snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        count += length < (int)sizeof file && read_node(file, &found[count]);
    }
    closedir(listing);
    if (status != GWTF_OK) {
        free(found);
        return status;
    }
    if (count > 0)
        qsort(found, count, sizeof *found, by_id);
    *nodes = found;
    *nodes_count = count;
    return GWTF_OK;
}

gwtf_status gwtf_run_clear_nodes(const char *directory, struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    snprintf(path, sizeof path, "%s/nodes", directory);
    gwtf_status status = gwtf_file_remove_directory(path, error);
    return status == GWTF_OK ? gwtf_file_make_directories(path, error) : status;
}
