#include "io/config_reader.h"

#include "io/config_scan.h"
#include "io/nearest.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const char *gwtf_config_place(const struct gwtf_config_reader *reader,
                              const struct gwtf_config_origin *origin, char *text) {
    if (origin->override != NULL)
        snprintf(text, GWTF_CONFIG_PLACE_MAX, "--set %.*s", GWTF_CONFIG_PATH_MAX, origin->override);
    else
        snprintf(text, GWTF_CONFIG_PLACE_MAX, "%.*s:%u", GWTF_CONFIG_PATH_MAX, reader->name,
                 origin->line > 0 ? origin->line : reader->last_line);
    return text;
}

gwtf_status gwtf_config_complain(const struct gwtf_config_reader *reader,
                                 const struct gwtf_config_origin *origin, const char *format, ...) {
    char place[GWTF_CONFIG_PLACE_MAX], text[GWTF_ERROR_TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return gwtf_error_set(reader->error, GWTF_ERROR_USAGE, "%s: %s",
                          gwtf_config_place(reader, origin, place), text);
}

struct gwtf_config_value gwtf_config_value_of(const config_setting_t *setting) {
    struct gwtf_config_value value = {.kind = GWTF_CONFIG_IS_LIST};
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
        value.kind = GWTF_CONFIG_IS_WHOLE;
        value.whole = config_setting_get_int64(setting);
        break;
    case CONFIG_TYPE_FLOAT:
        value.kind = GWTF_CONFIG_IS_REAL;
        value.real = config_setting_get_float(setting);
        break;
    case CONFIG_TYPE_BOOL:
        value.kind = GWTF_CONFIG_IS_FLAG;
        value.whole = config_setting_get_bool(setting);
        break;
    case CONFIG_TYPE_STRING:
        value.kind = GWTF_CONFIG_IS_STRING;
        value.string = config_setting_get_string(setting);
        break;
    case CONFIG_TYPE_GROUP:
        value.kind = GWTF_CONFIG_IS_GROUP;
        break;
    default:
        break;
    }
    return value;
}

static struct gwtf_config_origin origin_of(const struct gwtf_config_reader *reader,
                                           const config_setting_t *setting) {
    struct gwtf_config_origin origin = {.override = reader->override};
    if (reader->override == NULL)
        origin.line = config_setting_source_line(setting);
    return origin;
}

int gwtf_config_find_section(const char *name) {
    for (int i = 0; gwtf_config_sections[i] != NULL; i++)
        if (strcmp(gwtf_config_sections[i], name) == 0)
            return i;
    return -1;
}

gwtf_status gwtf_config_section_unknown(const struct gwtf_config_reader *reader, const char *name,
                                        const struct gwtf_config_origin *origin) {
    const char *nearest = gwtf_config_sections[0];
    for (int i = 1; gwtf_config_sections[i] != NULL; i++)
        if (gwtf_nearest_distance(name, gwtf_config_sections[i]) <
            gwtf_nearest_distance(name, nearest))
            nearest = gwtf_config_sections[i];
    if (gwtf_nearest_is_close(name, nearest))
        return gwtf_config_complain(reader, origin, "unknown key '%.80s': did you mean '%s'?", name,
                                    nearest);
    for (size_t i = 0; i < gwtf_config_keys_count; i++)
        if (strcmp(gwtf_config_keys[i].name, name) == 0)
            return gwtf_config_complain(reader, origin,
                                        "unknown key '%.80s': it belongs in '%s': write %s = { %s "
                                        "= ...; };",
                                        name, gwtf_config_keys[i].section,
                                        gwtf_config_keys[i].section, name);
    return gwtf_config_complain(
        reader, origin,
        "unknown key '%.80s': remove it; nearest is '%s', and the keys here are run, model, data, "
        "batch, pipeline, nodes, flow, optimizer, snapshot, backend",
        name, nearest);
}

gwtf_status gwtf_config_key_unknown(const struct gwtf_config_reader *reader, const char *section,
                                    const char *name, const struct gwtf_config_origin *origin) {
    const struct gwtf_config_key *nearest = NULL, *elsewhere = NULL;
    for (size_t i = 0; i < gwtf_config_keys_count; i++) {
        const struct gwtf_config_key *key = &gwtf_config_keys[i];
        if (strcmp(key->section, section) != 0) {
            if (strcmp(key->name, name) == 0)
                elsewhere = key;
        } else if (nearest == NULL || gwtf_nearest_distance(name, key->name) <
                                          gwtf_nearest_distance(name, nearest->name)) {
            nearest = key;
        }
    }
    if (elsewhere != NULL)
        return gwtf_config_complain(reader, origin,
                                    "unknown key '%s.%.80s': it belongs in '%s': move it there",
                                    section, name, elsewhere->section);
    return gwtf_config_complain(
        reader, origin, "unknown key '%s.%.80s': %s '%s.%s'%s", section, name,
        gwtf_nearest_is_close(name, nearest->name) ? "did you mean" : "remove it; the nearest is",
        section, nearest->name, gwtf_nearest_is_close(name, nearest->name) ? "?" : "");
}

gwtf_status gwtf_config_read_section(struct gwtf_config_reader *reader, int section,
                                     const config_setting_t *group) {
    const char *name = gwtf_config_sections[section];
    struct gwtf_config_origin origin = origin_of(reader, group);
    if (strcmp(name, "nodes") == 0)
        return gwtf_config_read_nodes(reader, group);
    if (!config_setting_is_group(group))
        return gwtf_config_complain(
            reader, &origin, "'%s' is not a group: write %s = { key = value; };", name, name);
    if (reader->override == NULL)
        reader->sections[section] = origin;
    for (int i = 0; i < config_setting_length(group); i++) {
        const config_setting_t *setting = config_setting_get_elem(group, (unsigned)i);
        struct gwtf_config_origin here = origin_of(reader, setting);
        int key = gwtf_config_find_key(name, config_setting_name(setting));
        if (key < 0)
            return gwtf_config_key_unknown(reader, name, config_setting_name(setting), &here);
        struct gwtf_config_value value = gwtf_config_value_of(setting);
        gwtf_status status =
            gwtf_config_store(reader, key, &value, &reader->config, &reader->keys[key], &here);
        if (status != GWTF_OK)
            return status;
    }
    return GWTF_OK;
}

gwtf_status gwtf_config_read_node(struct gwtf_config_reader *reader, size_t entry,
                                  const config_setting_t *group) {
    struct gwtf_config_origin origin = origin_of(reader, group);
    if (!config_setting_is_group(group))
        return gwtf_config_complain(reader, &origin,
                                    "nodes.%zu is not a group: write { role = \"relay\"; count = "
                                    "2; }",
                                    entry);
    reader->entries[entry] = origin;
    for (int i = 0; i < config_setting_length(group); i++) {
        const config_setting_t *setting = config_setting_get_elem(group, (unsigned)i);
        struct gwtf_config_origin here = origin_of(reader, setting);
        int key = gwtf_config_find_key("nodes", config_setting_name(setting));
        if (key < 0)
            return gwtf_config_key_unknown(reader, "nodes", config_setting_name(setting), &here);
        struct gwtf_config_value value = gwtf_config_value_of(setting);
        gwtf_status status = gwtf_config_store(reader, key, &value, &reader->config.nodes[entry],
                                               &reader->nodes[entry][key], &here);
        if (status != GWTF_OK)
            return status;
    }
    return GWTF_OK;
}

gwtf_status gwtf_config_read_nodes(struct gwtf_config_reader *reader,
                                   const config_setting_t *list) {
    struct gwtf_config_origin origin = origin_of(reader, list);
    reader->sections[gwtf_config_find_section("nodes")] = origin;
    if (!config_setting_is_list(list))
        return gwtf_config_complain(reader, &origin,
                                    "'nodes' is not a list: write nodes = ( { role = \"data\"; }, "
                                    "{ role = \"relay\"; count = 2; } );");
    int count = config_setting_length(list);
    if (count > GWTF_CONFIG_NODES_MAX)
        return gwtf_config_complain(reader, &origin,
                                    "'nodes' has %d entries, more than %d: put equal nodes into "
                                    "one entry with a count",
                                    count, GWTF_CONFIG_NODES_MAX);
    memset(reader->nodes, 0, sizeof reader->nodes);
    memset(reader->config.nodes, 0, sizeof reader->config.nodes);
    reader->config.nodes_count = (size_t)count;
    for (int i = 0; i < count; i++) {
        gwtf_status status =
            gwtf_config_read_node(reader, (size_t)i, config_setting_get_elem(list, (unsigned)i));
        if (status != GWTF_OK)
            return status;
    }
    return GWTF_OK;
}

gwtf_status gwtf_config_read_root(struct gwtf_config_reader *reader, const config_setting_t *root) {
    for (int i = 0; i < config_setting_length(root); i++) {
        const config_setting_t *setting = config_setting_get_elem(root, (unsigned)i);
        struct gwtf_config_origin here = origin_of(reader, setting);
        int section = gwtf_config_find_section(config_setting_name(setting));
        if (section < 0)
            return gwtf_config_section_unknown(reader, config_setting_name(setting), &here);
        gwtf_status status = gwtf_config_read_section(reader, section, setting);
        if (status != GWTF_OK)
            return status;
    }
    return GWTF_OK;
}

gwtf_status gwtf_config_read_text(const char *text, const char *name, config_t *tree,
                                  struct gwtf_error *error) {
    char *scanned = NULL;
    gwtf_status status = gwtf_config_scan(text, name, &scanned, error);
    if (status != GWTF_OK)
        return status;
    if (config_read_string(tree, scanned) != CONFIG_TRUE) {
        const char *what = config_error_text(tree);
        status = gwtf_error_set(
            error, GWTF_ERROR_USAGE, "%s:%d: %s: %s", name, config_error_line(tree), what,
            strstr(what, "duplicate") != NULL
                ? "keep one of the two"
                : "check this line and the one before for quotation marks, ';' and brackets");
    }
    free(scanned);
    return status;
}
