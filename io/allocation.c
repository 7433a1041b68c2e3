#include "io/allocation.h"

#include "io/file.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_MAX_BYTES (4u << 20)

#define NAME "allocation.json"
#define HOSTS_NAME "hosts"

static void path_of(const char *run, const char *name, char path[GWTF_FILE_PATH_MAX]) {
    snprintf(path, GWTF_FILE_PATH_MAX, "%s/%s", run, name);
}

static gwtf_status remove_file(const char *run, const char *name, struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    path_of(run, name, path);
    return unlink(path) == 0 || errno == ENOENT ? GWTF_OK
                                                : gwtf_file_error(error, "remove", path, errno);
}

static gwtf_status write_file(const char *run, const char *name, const char *text,
                              struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    path_of(run, name, path);
    return text == NULL ? gwtf_file_error(error, "write", path, ENOMEM)
                        : gwtf_file_replace(path, text, strlen(text), false, error);
}

static gwtf_status write_hosts(const char *run, const struct gwtf_allocation *allocation,
                               struct gwtf_error *error) {
    size_t room = allocation->hosts_count * (sizeof allocation->hosts->name + 24) + 1, used = 0;
    char *text = calloc(1, room);
    for (uint32_t i = 0; text != NULL && i < allocation->hosts_count; i++)
        used += (size_t)snprintf(text + used, room - used, "%s slots=%u\n",
                                 allocation->hosts[i].name, allocation->hosts[i].slots);
    gwtf_status status = write_file(run, HOSTS_NAME, text, error);
    free(text);
    return status;
}

static json_t *component_object(const struct gwtf_allocation *allocation, uint32_t component) {
    const struct gwtf_allocation_component *part = &allocation->components[component];
    json_t *object = json_object(), *hosts = json_array();
    json_object_set_new(object, "job", json_string(part->job));
    json_object_set_new(object, "partition", json_string(part->partition));
    json_object_set_new(object, "nodes", json_string(part->nodes));
    for (uint32_t i = 0; i < allocation->hosts_count; i++) {
        if (allocation->hosts[i].component != component)
            continue;
        json_t *host = json_object();
        json_object_set_new(host, "name", json_string(allocation->hosts[i].name));
        json_object_set_new(host, "slots", json_integer(allocation->hosts[i].slots));
        json_array_append_new(hosts, host);
    }
    json_object_set_new(object, "hosts", hosts);
    return object;
}

gwtf_status gwtf_allocation_write(const char *run, const struct gwtf_allocation *allocation,
                                  struct gwtf_error *error) {
    if (allocation->job[0] == '\0') {
        gwtf_status status = remove_file(run, NAME, error);
        return status == GWTF_OK ? remove_file(run, HOSTS_NAME, error) : status;
    }
    json_t *object = json_object(), *components = json_array();
    json_object_set_new(object, "job", json_string(allocation->job));
    for (uint32_t i = 0; i < allocation->components_count; i++)
        json_array_append_new(components, component_object(allocation, i));
    json_object_set_new(object, "components", components);
    char *text = json_dumps(object, JSON_INDENT(2));
    gwtf_status status = write_file(run, NAME, text, error);
    free(text);
    json_decref(object);
    return status == GWTF_OK ? write_hosts(run, allocation, error) : status;
}

gwtf_status gwtf_allocation_add(struct gwtf_allocation *allocation, const char *name,
                                uint32_t slots, uint32_t component, struct gwtf_error *error) {
    if (allocation->hosts_count == GWTF_ALLOCATION_HOSTS_MAX)
        return gwtf_error_set(error, GWTF_ERROR_LIMIT,
                              "the job has more than %d nodes: ask for fewer",
                              GWTF_ALLOCATION_HOSTS_MAX);
    struct gwtf_allocation_host *hosts =
        realloc(allocation->hosts, (allocation->hosts_count + 1) * sizeof *hosts);
    if (hosts == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    allocation->hosts = hosts;
    struct gwtf_allocation_host *host = &hosts[allocation->hosts_count++];
    *host = (struct gwtf_allocation_host){.slots = slots == 0 ? 1 : slots, .component = component};
    snprintf(host->name, sizeof host->name, "%s", name);
    return GWTF_OK;
}

static void get_text(const json_t *object, const char *key, char *text, size_t size) {
    const char *found = json_string_value(json_object_get(object, key));
    snprintf(text, size, "%s", found == NULL ? "" : found);
}

static gwtf_status parse_component(const json_t *object, struct gwtf_allocation *allocation,
                                   struct gwtf_error *error) {
    uint32_t component = allocation->components_count++;
    struct gwtf_allocation_component *part = &allocation->components[component];
    get_text(object, "job", part->job, sizeof part->job);
    get_text(object, "partition", part->partition, sizeof part->partition);
    get_text(object, "nodes", part->nodes, sizeof part->nodes);
    const json_t *hosts = json_object_get(object, "hosts");
    gwtf_status status = GWTF_OK;
    for (size_t i = 0; i < json_array_size(hosts) && status == GWTF_OK; i++) {
        const json_t *host = json_array_get(hosts, i);
        char name[sizeof allocation->hosts->name];
        json_int_t slots = json_integer_value(json_object_get(host, "slots"));
        get_text(host, "name", name, sizeof name);
        if (name[0] == '\0' || slots < 1 || slots > UINT32_MAX)
            return GWTF_ERROR_CORRUPT;
        status = gwtf_allocation_add(allocation, name, (uint32_t)slots, component, error);
    }
    return status;
}

static gwtf_status parse(const json_t *object, struct gwtf_allocation *allocation,
                         struct gwtf_error *error) {
    const json_t *components = json_object_get(object, "components");
    size_t count = json_array_size(components);
    get_text(object, "job", allocation->job, sizeof allocation->job);
    if (allocation->job[0] == '\0' || count == 0 || count > GWTF_ALLOCATION_COMPONENTS_MAX)
        return GWTF_ERROR_CORRUPT;
    gwtf_status status = GWTF_OK;
    for (size_t i = 0; i < count && status == GWTF_OK; i++)
        status = parse_component(json_array_get(components, i), allocation, error);
    return status == GWTF_OK && allocation->hosts_count == 0 ? GWTF_ERROR_CORRUPT : status;
}

gwtf_status gwtf_allocation_read(const char *run, struct gwtf_allocation *allocation,
                                 struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX], *text = NULL;
    size_t size = 0;
    path_of(run, NAME, path);
    memset(allocation, 0, sizeof *allocation);
    gwtf_status status = gwtf_file_read(path, FILE_MAX_BYTES, &text, &size, error);
    if (status == GWTF_ERROR_MISSING)
        return GWTF_OK;
    if (status != GWTF_OK)
        return status;
    json_t *object = json_loadb(text, size, 0, NULL);
    status = json_is_object(object) ? parse(object, allocation, error) : GWTF_ERROR_CORRUPT;
    json_decref(object);
    free(text);
    if (status == GWTF_ERROR_CORRUPT)
        gwtf_error_set(error, status, "'%s' is damaged: start the run again, which rewrites it",
                       path);
    if (status != GWTF_OK)
        gwtf_allocation_deinit(allocation);
    return status;
}

void gwtf_allocation_deinit(struct gwtf_allocation *allocation) {
    free(allocation->hosts);
    memset(allocation, 0, sizeof *allocation);
}

uint32_t gwtf_allocation_slots(const struct gwtf_allocation *allocation) {
    uint32_t slots = 0;
    for (uint32_t i = 0; i < allocation->hosts_count; i++)
        slots += allocation->hosts[i].slots;
    return slots;
}
