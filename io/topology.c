#include "io/topology.h"

#include "io/config_reader.h"
#include "io/file.h"
#include "io/nearest.h"
#include "share/base/assert.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX_BYTES ((size_t)64 << 20)

struct gwtf_topology {
    uint32_t count;
    char **names;
    struct gwtf_topology_link *links; /* [count][count] */
};

/* A topology on its way from text. */
struct reading {
    const char *name; /* of the file */
    struct gwtf_error *error;
    gwtf_topology *topology;
    struct gwtf_topology_link within;
};

#define COMPLAIN(reading, setting, ...)                                                            \
    complain(reading, config_setting_source_line(setting), __VA_ARGS__)

__attribute__((format(printf, 3, 4))) static gwtf_status
complain(const struct reading *reading, unsigned line, const char *format, ...) {
    char text[GWTF_ERROR_TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return gwtf_error_set(reading->error, GWTF_ERROR_USAGE, "%.*s:%u: %s", GWTF_CONFIG_PATH_MAX,
                          reading->name, line, text);
}

static gwtf_status no_memory(const struct reading *reading) {
    return gwtf_error_set(reading->error, GWTF_ERROR_MEMORY, "%s: no memory: free some",
                          reading->name);
}

/* GROUP must be a group of no other keys than KEYS, and have all of them. HOW: how to write it. */
static gwtf_status check_keys(const struct reading *reading, const config_setting_t *group,
                              const char *what, const char *const *keys, const char *how) {
    if (!config_setting_is_group(group))
        return COMPLAIN(reading, group, "%s is not a group: write %s", what, how);
    for (int i = 0; i < config_setting_length(group); i++) {
        const config_setting_t *setting = config_setting_get_elem(group, (unsigned)i);
        const char *key = config_setting_name(setting), *nearest = keys[0];
        for (size_t k = 0; keys[k] != NULL; k++)
            if (gwtf_nearest_distance(key, keys[k]) < gwtf_nearest_distance(key, nearest))
                nearest = keys[k];
        if (strcmp(key, nearest) != 0)
            return COMPLAIN(reading, setting, "unknown key '%.80s' in %s: %s '%s'%s", key, what,
                            gwtf_nearest_is_close(key, nearest) ? "did you mean"
                                                                : "remove it; the nearest is",
                            nearest, gwtf_nearest_is_close(key, nearest) ? "?" : "");
    }
    for (size_t k = 0; keys[k] != NULL; k++)
        if (config_setting_get_member(group, keys[k]) == NULL)
            return COMPLAIN(reading, group, "%s has no '%s': write %s", what, keys[k], how);
    return GWTF_OK;
}

/* The number KEY of GROUP, from LEAST to MOST. */
static gwtf_status read_number(const struct reading *reading, const config_setting_t *group,
                               const char *key, double least, double most, double *number) {
    const config_setting_t *setting = config_setting_get_member(group, key);
    struct gwtf_config_value value = gwtf_config_value_of(setting);
    if (value.kind != GWTF_CONFIG_IS_WHOLE && value.kind != GWTF_CONFIG_IS_REAL)
        return COMPLAIN(reading, setting, "%s is not a number: give one from %g to %g", key, least,
                        most);
    double real = value.kind == GWTF_CONFIG_IS_REAL ? value.real : (double)value.whole;
    if (!(real >= least && real <= most))
        return COMPLAIN(reading, setting, "%s is %g: give a number from %g to %g", key, real, least,
                        most);
    *number = real;
    return GWTF_OK;
}

static gwtf_status read_figures(const struct reading *reading, const config_setting_t *group,
                                struct gwtf_topology_link *link) {
    double latency_ms = 0, bandwidth_mbit = 0;
    gwtf_status status =
        read_number(reading, group, "latency_ms", 0, GWTF_TOPOLOGY_LATENCY_MS_MAX, &latency_ms);
    if (status == GWTF_OK)
        status = read_number(reading, group, "bandwidth_mbit", 1e-3,
                             GWTF_TOPOLOGY_BANDWIDTH_MBIT_MAX, &bandwidth_mbit);
    if (status == GWTF_OK)
        *link = (struct gwtf_topology_link){.latency_us = (int64_t)(latency_ms * 1e3 + 0.5),
                                            .bytes_per_second =
                                                (int64_t)(bandwidth_mbit * 125e3 + 0.5)};
    return status;
}

static gwtf_status read_regions(struct reading *reading, const config_setting_t *regions) {
    gwtf_topology *topology = reading->topology;
    int count = config_setting_length(regions);
    if (config_setting_is_group(regions) || !config_setting_is_aggregate(regions) || count == 0 ||
        count > GWTF_TOPOLOGY_REGIONS_MAX)
        return COMPLAIN(reading, regions,
                        "regions is not an array of 1 to %d names: write regions = [ \"Oregon\", "
                        "\"Tokyo\" ];",
                        GWTF_TOPOLOGY_REGIONS_MAX);
    topology->names = calloc((size_t)count, sizeof *topology->names);
    topology->links = calloc((size_t)count * (size_t)count, sizeof *topology->links);
    if (topology->names == NULL || topology->links == NULL)
        return no_memory(reading);
    for (int i = 0; i < count; i++) {
        const char *name = config_setting_get_string_elem(regions, i);
        uint32_t same;
        if (name == NULL || *name == '\0')
            return COMPLAIN(reading, regions,
                            "region %d is not a name: write it in quotation marks", i);
        if (gwtf_topology_find(topology, name, &same, NULL) == GWTF_OK)
            return COMPLAIN(reading, regions, "region '%.80s' is named twice: keep one", name);
        topology->names[i] = strdup(name);
        if (topology->names[i] == NULL)
            return no_memory(reading);
        topology->count++;
    }
    return GWTF_OK;
}

static gwtf_status read_end(const struct reading *reading, const config_setting_t *between, int end,
                            uint32_t *region) {
    struct gwtf_error error;
    gwtf_status status = gwtf_topology_find(
        reading->topology, config_setting_get_string_elem(between, end), region, &error);
    return status == GWTF_OK ? GWTF_OK : COMPLAIN(reading, between, "%s", error.text);
}

static gwtf_status read_link(const struct reading *reading, const config_setting_t *group) {
    static const char *const keys[] = {"between", "latency_ms", "bandwidth_mbit", NULL};
    gwtf_topology *topology = reading->topology;
    gwtf_status status = check_keys(reading, group, "a link", keys,
                                    "{ between = [ \"Oregon\", \"Tokyo\" ]; latency_ms = 96; "
                                    "bandwidth_mbit = 523; }");
    if (status != GWTF_OK)
        return status;
    const config_setting_t *between = config_setting_get_member(group, "between");
    if (config_setting_length(between) != 2 || config_setting_get_string_elem(between, 0) == NULL ||
        config_setting_get_string_elem(between, 1) == NULL)
        return COMPLAIN(reading, between,
                        "between is not two regions: write between = [ \"Oregon\", \"Tokyo\" ];");
    uint32_t a = 0, b = 0;
    struct gwtf_topology_link link;
    status = read_end(reading, between, 0, &a);
    if (status == GWTF_OK)
        status = read_end(reading, between, 1, &b);
    if (status == GWTF_OK)
        status = read_figures(reading, group, &link);
    if (status != GWTF_OK)
        return status;
    if (topology->links[a * topology->count + b].bytes_per_second != 0)
        return COMPLAIN(reading, group, "'%.80s' and '%.80s' have two links: keep one",
                        topology->names[a], topology->names[b]);
    topology->links[a * topology->count + b] = link;
    topology->links[b * topology->count + a] = link;
    return GWTF_OK;
}

/* Fills in within_region, and says which pair has no link. */
static gwtf_status complete(const struct reading *reading, const config_setting_t *links) {
    gwtf_topology *topology = reading->topology;
    for (uint32_t a = 0; a < topology->count; a++) {
        struct gwtf_topology_link *own = &topology->links[a * topology->count + a];
        if (own->bytes_per_second == 0)
            *own = reading->within;
        for (uint32_t b = a + 1; b < topology->count; b++)
            if (topology->links[a * topology->count + b].bytes_per_second == 0)
                return COMPLAIN(reading, links,
                                "'%.80s' and '%.80s' have no link: add { between = [ \"%.80s\", "
                                "\"%.80s\" ]; latency_ms = ...; bandwidth_mbit = ...; }",
                                topology->names[a], topology->names[b], topology->names[a],
                                topology->names[b]);
    }
    return GWTF_OK;
}

static gwtf_status read_topology(struct reading *reading, const config_setting_t *root) {
    static const char *const root_keys[] = {"topology", NULL};
    static const char *const keys[] = {"regions", "within_region", "links", NULL};
    static const char *const within_keys[] = {"latency_ms", "bandwidth_mbit", NULL};
    gwtf_status status = check_keys(reading, root, "the file", root_keys,
                                    "topology = { regions = [ ... ]; within_region = { ... }; "
                                    "links = ( ... ); };");
    if (status != GWTF_OK)
        return status;
    const config_setting_t *group = config_setting_get_member(root, "topology");
    status = check_keys(reading, group, "topology", keys,
                        "regions = [ ... ]; within_region = { ... }; links = ( ... );");
    if (status != GWTF_OK)
        return status;
    const config_setting_t *within = config_setting_get_member(group, "within_region");
    const config_setting_t *links = config_setting_get_member(group, "links");
    status = read_regions(reading, config_setting_get_member(group, "regions"));
    if (status == GWTF_OK)
        status = check_keys(reading, within, "within_region", within_keys,
                            "{ latency_ms = 0.1; bandwidth_mbit = 10000; }");
    if (status == GWTF_OK)
        status = read_figures(reading, within, &reading->within);
    if (status == GWTF_OK && !config_setting_is_list(links))
        status = COMPLAIN(reading, links, "links is not a list: write links = ( { ... }, ... );");
    for (int i = 0; status == GWTF_OK && i < config_setting_length(links); i++)
        status = read_link(reading, config_setting_get_elem(links, (unsigned)i));
    return status == GWTF_OK ? complete(reading, links) : status;
}

gwtf_status gwtf_topology_parse(const char *text, const char *name, gwtf_topology **topology,
                                struct gwtf_error *error) {
    struct reading reading = {.name = name, .error = error};
    reading.topology = calloc(1, sizeof *reading.topology);
    if (reading.topology == NULL)
        return no_memory(&reading);
    config_t tree;
    config_init(&tree);
    gwtf_status status = gwtf_config_read_text(text, name, &tree, error);
    if (status == GWTF_OK)
        status = read_topology(&reading, config_root_setting(&tree));
    config_destroy(&tree);
    if (status == GWTF_OK)
        *topology = reading.topology;
    else
        gwtf_topology_destroy(reading.topology);
    return status;
}

gwtf_status gwtf_topology_load(const char *path, gwtf_topology **topology,
                               struct gwtf_error *error) {
    char *text = NULL;
    gwtf_status status = gwtf_config_read_file(path, FILE_MAX_BYTES, &text, error);
    if (status == GWTF_OK)
        status = gwtf_topology_parse(text, path, topology, error);
    free(text);
    return status;
}

void gwtf_topology_destroy(gwtf_topology *topology) {
    if (topology == NULL)
        return;
    for (uint32_t i = 0; i < topology->count; i++)
        free(topology->names[i]);
    free(topology->names);
    free(topology->links);
    free(topology);
}

uint32_t gwtf_topology_regions_count(const gwtf_topology *topology) {
    return topology->count;
}

const char *gwtf_topology_region_name(const gwtf_topology *topology, uint32_t region) {
    GWTF_ASSERT(region < topology->count);
    return topology->names[region];
}

gwtf_status gwtf_topology_find(const gwtf_topology *topology, const char *name, uint32_t *region,
                               struct gwtf_error *error) {
    uint32_t nearest = 0;
    size_t least = SIZE_MAX;
    for (uint32_t i = 0; i < topology->count; i++) {
        size_t distance = gwtf_nearest_distance(name, topology->names[i]);
        if (strcmp(name, topology->names[i]) == 0) {
            *region = i;
            return GWTF_OK;
        }
        if (distance < least) {
            least = distance;
            nearest = i;
        }
    }
    if (topology->count == 0)
        return GWTF_ERROR_USAGE;
    bool close = gwtf_nearest_is_close(name, topology->names[nearest]);
    return gwtf_error_set(error, GWTF_ERROR_USAGE, "unknown region '%.80s': %s '%.80s'%s", name,
                          close ? "did you mean" : "the nearest known one is",
                          topology->names[nearest], close ? "?" : "");
}

struct gwtf_topology_link gwtf_topology_link_between(const gwtf_topology *topology, uint32_t from,
                                                     uint32_t to) {
    GWTF_ASSERT(from < topology->count && to < topology->count);
    return topology->links[from * topology->count + to];
}
