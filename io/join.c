#include "io/join.h"

#include "io/file.h"

#include <dirent.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CHARTER_MAX_BYTES ((size_t)256 << 20)
#define FILE_MAX_BYTES ((size_t)16 << 20)
#define PORT_OLD_S 60

static void path_of(const char *directory, const char *name, char path[GWTF_FILE_PATH_MAX]) {
    snprintf(path, GWTF_FILE_PATH_MAX, "%s/join/%s", directory, name);
}

static void file_of(const char *directory, const char *token, const char *kind,
                    char path[GWTF_FILE_PATH_MAX]) {
    snprintf(path, GWTF_FILE_PATH_MAX, "%s/join/%s.%s", directory, token, kind);
}

static void port_of(const char *directory, const char *token, gwtf_node_id node,
                    char path[GWTF_FILE_PATH_MAX]) {
    snprintf(path, GWTF_FILE_PATH_MAX, "%s/join/%s.port-%04" PRIu32, directory, token, node);
}

gwtf_status gwtf_join_prepare(const char *directory, struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    snprintf(path, sizeof path, "%s/join", directory);
    gwtf_status status = gwtf_file_remove_directory(path, error);
    return status == GWTF_OK ? gwtf_file_make_directories(path, error) : status;
}

gwtf_status gwtf_join_write_charter(const char *directory, const void *bytes, size_t size_bytes,
                                    struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    path_of(directory, "charter", path);
    return gwtf_file_replace(path, bytes, size_bytes, false, error);
}

gwtf_status gwtf_join_read_charter(const char *directory, char **bytes, size_t *size_bytes,
                                   struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    path_of(directory, "charter", path);
    return gwtf_file_read(path, CHARTER_MAX_BYTES, bytes, size_bytes, error);
}

bool gwtf_join_is_open(const char *directory) {
    char path[GWTF_FILE_PATH_MAX];
    path_of(directory, "charter", path);
    return access(path, F_OK) == 0;
}

void gwtf_join_close(const char *directory) {
    char path[GWTF_FILE_PATH_MAX];
    path_of(directory, "charter", path);
    unlink(path);
}

static gwtf_status write_text(const char *directory, const char *name, const char *text,
                              struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    path_of(directory, name, path);
    return gwtf_file_replace(path, text, strlen(text), false, error);
}

static void read_text(const char *directory, const char *name, char *text, size_t text_bytes) {
    char path[GWTF_FILE_PATH_MAX], *read = NULL;
    size_t size = 0;
    path_of(directory, name, path);
    text[0] = '\0';
    if (gwtf_file_read(path, GWTF_JOIN_PORT_MAX, &read, &size, NULL) == GWTF_OK)
        snprintf(text, text_bytes, "%s", read);
    free(read);
}

gwtf_status gwtf_join_write_interfaces(const char *directory, const char *interfaces,
                                       struct gwtf_error *error) {
    return write_text(directory, "interfaces", interfaces, error);
}

void gwtf_join_read_interfaces(const char *directory, char *interfaces, size_t interfaces_bytes) {
    read_text(directory, "interfaces", interfaces, interfaces_bytes);
}

void gwtf_join_write_closed(const char *directory, const char *why) {
    (void)write_text(directory, "closed", why, NULL);
}

void gwtf_join_read_closed(const char *directory, char *why, size_t why_bytes) {
    read_text(directory, "closed", why, why_bytes);
}

static gwtf_status write_object(const char *path, json_t *object, struct gwtf_error *error) {
    char *text = object == NULL ? NULL : json_dumps(object, JSON_INDENT(2));
    gwtf_status status = text == NULL ? gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory")
                                      : gwtf_file_replace(path, text, strlen(text), false, error);
    free(text);
    json_decref(object);
    return status;
}

static json_t *read_object(const char *path) {
    char *text = NULL;
    size_t size = 0;
    if (gwtf_file_read(path, FILE_MAX_BYTES, &text, &size, NULL) != GWTF_OK)
        return NULL;
    json_t *object = json_loadb(text, size, 0, NULL);
    free(text);
    return object;
}

static void set_count(json_t *object, const char *key, uint64_t count) {
    json_object_set_new(object, key, json_integer((json_int_t)count));
}

static uint64_t count_of(const json_t *object, const char *key) {
    json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 ? (uint64_t)value : 0;
}

static uint32_t stage_of(const json_t *object) {
    uint64_t stage = count_of(object, "stage");
    return stage < GWTF_JOIN_DATA_NODE ? (uint32_t)stage : GWTF_JOIN_DATA_NODE;
}

static void text_of(const json_t *object, const char *key, char *text, size_t text_bytes) {
    const char *found = json_string_value(json_object_get(object, key));
    snprintf(text, text_bytes, "%s", found != NULL ? found : "");
}

gwtf_status gwtf_join_write_spawn(const char *directory, const struct gwtf_join_spawn *spawn,
                                  struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    file_of(directory, spawn->token, "spawn", path);
    json_t *object = json_object();
    json_object_set_new(object, "host", json_string(spawn->host));
    set_count(object, "stage", spawn->stage);
    set_count(object, "capacity", spawn->capacity);
    set_count(object, "threads", spawn->threads);
    json_object_set_new(object, "device", json_string(spawn->device));
    json_object_set_new(object, "data", json_string(spawn->data));
    json_object_set_new(object, "stays", json_boolean(spawn->stays));
    return write_object(path, object, error);
}

bool gwtf_join_take_spawn(const char *directory, const char *token, struct gwtf_join_spawn *spawn) {
    char path[GWTF_FILE_PATH_MAX], taken[GWTF_FILE_PATH_MAX];
    file_of(directory, token, "spawn", path);
    file_of(directory, token, "spawning", taken);
    if (rename(path, taken) != 0)
        return false;
    json_t *object = read_object(taken);
    unlink(taken);
    bool good = json_is_object(object);
    memset(spawn, 0, sizeof *spawn);
    snprintf(spawn->token, sizeof spawn->token, "%s", token);
    if (good) {
        text_of(object, "host", spawn->host, sizeof spawn->host);
        spawn->stage = stage_of(object);
        spawn->capacity = (uint32_t)count_of(object, "capacity");
        spawn->threads = (uint32_t)count_of(object, "threads");
        text_of(object, "device", spawn->device, sizeof spawn->device);
        text_of(object, "data", spawn->data, sizeof spawn->data);
        spawn->stays = json_is_true(json_object_get(object, "stays"));
    }
    json_decref(object);
    return good;
}

gwtf_status gwtf_join_write_request(const char *directory, const struct gwtf_join_request *request,
                                    struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    file_of(directory, request->token, "request", path);
    json_t *object = json_object();
    json_object_set_new(object, "host", json_string(request->host));
    set_count(object, "pid", (uint64_t)request->pid);
    set_count(object, "stage", request->stage);
    json_object_set_new(object, "stays", json_boolean(request->stays));
    json_object_set_new(object, "block_seconds", json_real(request->block_seconds));
    return write_object(path, object, error);
}

bool gwtf_join_read_request(const char *directory, const char *token,
                            struct gwtf_join_request *request) {
    char path[GWTF_FILE_PATH_MAX];
    file_of(directory, token, "request", path);
    json_t *object = read_object(path);
    if (!json_is_object(object)) {
        json_decref(object);
        return false;
    }
    snprintf(request->token, sizeof request->token, "%s", token);
    text_of(object, "host", request->host, sizeof request->host);
    request->pid = (int64_t)count_of(object, "pid");
    request->stage = stage_of(object);
    request->stays = json_is_true(json_object_get(object, "stays"));
    request->block_seconds = json_real_value(json_object_get(object, "block_seconds"));
    json_decref(object);
    return true;
}

gwtf_status gwtf_join_write_place(const char *directory, const struct gwtf_join_place *place,
                                  struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    file_of(directory, place->token, "place", path);
    json_t *object = json_object(), *members = json_array();
    if (place->node != GWTF_NODE_NONE)
        set_count(object, "node", place->node);
    set_count(object, "stage", place->stage);
    set_count(object, "incarnation", place->incarnation);
    json_object_set_new(object, "stays", json_boolean(place->stays));
    json_object_set_new(object, "block_seconds", json_real(place->block_seconds));
    json_object_set_new(object, "why", json_string(place->why));
    for (size_t i = 0; i < place->members_count; i++)
        json_array_append_new(members, json_integer(place->members[i]));
    json_object_set_new(object, "members", members);
    return write_object(path, object, error);
}

static bool parse_members(const json_t *object, struct gwtf_join_place *place) {
    const json_t *members = json_object_get(object, "members");
    size_t count = json_array_size(members);
    place->members = calloc(count + 1, sizeof *place->members);
    if (place->members == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        json_int_t id = json_integer_value(json_array_get(members, i));
        if (id < 0 || id >= GWTF_NODE_NONE)
            return false;
        place->members[place->members_count++] = (gwtf_node_id)id;
    }
    return true;
}

static bool read_place(const char *directory, const char *token, const char *kind,
                       struct gwtf_join_place *place) {
    char path[GWTF_FILE_PATH_MAX];
    file_of(directory, token, kind, path);
    json_t *object = read_object(path);
    memset(place, 0, sizeof *place);
    bool good = json_is_object(object);
    if (good) {
        snprintf(place->token, sizeof place->token, "%s", token);
        uint64_t node = count_of(object, "node");
        bool has_node = json_is_integer(json_object_get(object, "node")) && node < GWTF_NODE_NONE;
        place->node = has_node ? (gwtf_node_id)node : GWTF_NODE_NONE;
        place->stage = (uint32_t)count_of(object, "stage");
        place->incarnation = (uint32_t)count_of(object, "incarnation");
        place->stays = json_is_true(json_object_get(object, "stays"));
        place->block_seconds = json_real_value(json_object_get(object, "block_seconds"));
        text_of(object, "why", place->why, sizeof place->why);
        good = parse_members(object, place);
    }
    json_decref(object);
    if (!good) {
        free(place->members);
        place->members = NULL;
    }
    return good;
}

bool gwtf_join_read_place(const char *directory, const char *token, struct gwtf_join_place *place) {
    return read_place(directory, token, "place", place);
}

bool gwtf_join_read_member(const char *directory, const char *token,
                           struct gwtf_join_place *place) {
    return read_place(directory, token, "member", place);
}

void gwtf_join_keep_member(const char *directory, const char *token) {
    char place[GWTF_FILE_PATH_MAX], member[GWTF_FILE_PATH_MAX];
    file_of(directory, token, "place", place);
    file_of(directory, token, "member", member);
    rename(place, member);
    gwtf_join_remove_request(directory, token);
}

void gwtf_join_remove_member(const char *directory, const char *token) {
    char path[GWTF_FILE_PATH_MAX];
    file_of(directory, token, "member", path);
    unlink(path);
}

gwtf_status gwtf_join_write_port(const char *directory, const char *token, gwtf_node_id node,
                                 const char *port, struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    port_of(directory, token, node, path);
    return gwtf_file_replace(path, port, strlen(port), false, error);
}

bool gwtf_join_read_port(const char *directory, const char *token, gwtf_node_id node,
                         char port[GWTF_JOIN_PORT_MAX]) {
    char path[GWTF_FILE_PATH_MAX], *text = NULL;
    size_t size = 0;
    port_of(directory, token, node, path);
    if (gwtf_file_read(path, GWTF_JOIN_PORT_MAX - 1, &text, &size, NULL) != GWTF_OK)
        return false;
    snprintf(port, GWTF_JOIN_PORT_MAX, "%s", text);
    free(text);
    return true;
}

bool gwtf_join_read_new_port(const char *directory, const char *token, gwtf_node_id node,
                             int64_t since_unix_s, char port[GWTF_JOIN_PORT_MAX]) {
    char path[GWTF_FILE_PATH_MAX];
    struct stat facts;
    port_of(directory, token, node, path);
    return stat(path, &facts) == 0 && time(NULL) - facts.st_mtime < PORT_OLD_S &&
           facts.st_mtime >= since_unix_s && gwtf_join_read_port(directory, token, node, port);
}

void gwtf_join_remove_port(const char *directory, const char *token, gwtf_node_id node) {
    char path[GWTF_FILE_PATH_MAX];
    port_of(directory, token, node, path);
    unlink(path);
}

gwtf_status gwtf_join_write_end(const char *directory, const char *token, int code,
                                const char *line) {
    char path[GWTF_FILE_PATH_MAX];
    file_of(directory, token, "end", path);
    json_t *object = json_object();
    set_count(object, "code", (uint64_t)code);
    json_object_set_new(object, "line", json_string(line));
    return write_object(path, object, NULL);
}

bool gwtf_join_read_end(const char *directory, const char *token, int *code,
                        struct gwtf_error *line) {
    char path[GWTF_FILE_PATH_MAX];
    file_of(directory, token, "end", path);
    json_t *object = read_object(path);
    bool good = json_is_object(object);
    if (good) {
        *code = (int)count_of(object, "code");
        text_of(object, "line", line->text, sizeof line->text);
    }
    json_decref(object);
    return good;
}

gwtf_status gwtf_join_write_moves(const char *directory, const char *token, uint32_t stage) {
    char path[GWTF_FILE_PATH_MAX];
    file_of(directory, token, "moves", path);
    json_t *object = json_object();
    set_count(object, "stage", stage);
    return write_object(path, object, NULL);
}

uint32_t gwtf_join_read_moves(const char *directory, const char *token) {
    char path[GWTF_FILE_PATH_MAX];
    file_of(directory, token, "moves", path);
    json_t *object = read_object(path);
    uint64_t stage = count_of(object, "stage");
    json_decref(object);
    return stage < UINT32_MAX ? (uint32_t)stage : 0;
}

void gwtf_join_remove(const char *directory, const char *token) {
    char folder[GWTF_FILE_PATH_MAX], path[2 * GWTF_FILE_PATH_MAX];
    path_of(directory, "", folder);
    DIR *stream = opendir(folder);
    size_t length = strlen(token);
    for (struct dirent *entry; stream != NULL && (entry = readdir(stream)) != NULL;) {
        if (strncmp(entry->d_name, token, length) != 0 || entry->d_name[length] != '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        unlink(path);
    }
    if (stream != NULL)
        closedir(stream);
}

void gwtf_join_remove_request(const char *directory, const char *token) {
    char path[GWTF_FILE_PATH_MAX];
    file_of(directory, token, "request", path);
    unlink(path);
}

/* The token of NAME when that is TOKEN.KIND. */
static bool is_of_kind(const char *name, const char *kind, char token[GWTF_JOIN_TOKEN_MAX]) {
    const char *point = strrchr(name, '.');
    if (point == NULL || strcmp(point + 1, kind) != 0 ||
        (size_t)(point - name) >= GWTF_JOIN_TOKEN_MAX)
        return false;
    snprintf(token, GWTF_JOIN_TOKEN_MAX, "%.*s", (int)(point - name), name);
    return true;
}

void gwtf_join_each(const char *directory, const char *kind,
                    void (*visit)(void *context, const char *token), void *context) {
    char folder[GWTF_FILE_PATH_MAX], token[GWTF_JOIN_TOKEN_MAX];
    path_of(directory, "", folder);
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        if (is_of_kind(entries[i]->d_name, kind, token))
            visit(context, token);
        free(entries[i]);
    }
    free(entries);
}

void gwtf_join_each_port(const char *directory, const char *token,
                         void (*visit)(void *context, gwtf_node_id node), void *context) {
    char folder[GWTF_FILE_PATH_MAX], start[GWTF_JOIN_TOKEN_MAX + 8];
    path_of(directory, "", folder);
    int length = snprintf(start, sizeof start, "%s.port-", token);
    DIR *stream = opendir(folder);
    for (struct dirent *entry; stream != NULL && (entry = readdir(stream)) != NULL;) {
        unsigned node;
        if (strncmp(entry->d_name, start, (size_t)length) == 0 &&
            sscanf(entry->d_name + length, "%u", &node) == 1)
            visit(context, node);
    }
    if (stream != NULL)
        closedir(stream);
}
