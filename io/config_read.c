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
    struct gwtf_config_value value = {.kind = GWTF_CONFIG_IS_LIST, .list = setting};
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

int gwtf_config_find_section(const struct gwtf_config_schema *schema, const char *name) {
    for (int i = 0; schema->sections[i] != NULL; i++)
        if (strcmp(schema->sections[i], name) == 0)
            return i;
    return -1;
}

int gwtf_config_find_list(const struct gwtf_config_schema *schema, const char *name) {
    for (size_t i = 0; i < schema->lists_count; i++)
        if (strcmp(schema->lists[i].section, name) == 0)
            return (int)i;
    return -1;
}

size_t *gwtf_config_entries_count(const struct gwtf_config_reader *reader, int list) {
    char *count = (char *)reader->base + reader->schema->lists[list].count_offset;
    return (size_t *)(void *)count;
}

void *gwtf_config_entry_base(const struct gwtf_config_reader *reader, int list, size_t entry) {
    const struct gwtf_config_list *entries = &reader->schema->lists[list];
    return (char *)reader->base + entries->offset + entry * entries->entry_bytes;
}

const struct gwtf_config_origin *gwtf_config_section_origin(const struct gwtf_config_reader *reader,
                                                            const char *section) {
    return &reader->sections[gwtf_config_find_section(reader->schema, section)];
}

static bool is_given(const struct gwtf_config_origin *origin) {
    return origin->line > 0 || origin->override != NULL;
}

bool gwtf_config_is_given(const struct gwtf_config_reader *reader, const char *section,
                          const char *name) {
    return is_given(&reader->keys[gwtf_config_find_key(reader->schema, section, name)]);
}

const struct gwtf_config_origin *gwtf_config_origin_of(const struct gwtf_config_reader *reader,
                                                       const char *section, const char *name) {
    const struct gwtf_config_origin *origin =
        &reader->keys[gwtf_config_find_key(reader->schema, section, name)];
    return is_given(origin) ? origin : gwtf_config_section_origin(reader, section);
}

const struct gwtf_config_origin *gwtf_config_entry_origin(const struct gwtf_config_reader *reader,
                                                          const char *section, size_t entry,
                                                          const char *name) {
    const struct gwtf_config_entry *kept =
        &reader->entries[gwtf_config_find_list(reader->schema, section)][entry];
    const struct gwtf_config_origin *origin =
        &kept->keys[gwtf_config_find_key(reader->schema, section, name)];
    return is_given(origin) ? origin : &kept->place;
}

/* "run, model, data": all there are. */
static void list_sections(const struct gwtf_config_schema *schema, char *text, size_t size) {
    size_t length = 0;
    for (size_t i = 0; schema->sections[i] != NULL && length < size; i++)
        length += (size_t)snprintf(text + length, size - length, "%s%s", i > 0 ? ", " : "",
                                   schema->sections[i]);
}

gwtf_status gwtf_config_section_unknown(const struct gwtf_config_reader *reader, const char *name,
                                        const struct gwtf_config_origin *origin) {
    const struct gwtf_config_schema *schema = reader->schema;
    const char *nearest = schema->sections[0];
    for (int i = 1; schema->sections[i] != NULL; i++)
        if (gwtf_nearest_distance(name, schema->sections[i]) < gwtf_nearest_distance(name, nearest))
            nearest = schema->sections[i];
    if (gwtf_nearest_is_close(name, nearest))
        return gwtf_config_complain(reader, origin, "unknown key '%.80s': did you mean '%s'?", name,
                                    nearest);
    for (size_t i = 0; i < schema->keys_count; i++)
        if (strcmp(schema->keys[i].name, name) == 0)
            return gwtf_config_complain(reader, origin,
                                        "unknown key '%.80s': it belongs in '%s': write %s = { %s "
                                        "= ...; };",
                                        name, schema->keys[i].section, schema->keys[i].section,
                                        name);
    char sections[256];
    list_sections(schema, sections, sizeof sections);
    return gwtf_config_complain(
        reader, origin, "unknown key '%.80s': remove it; nearest is '%s', and the keys here are %s",
        name, nearest, sections);
}

gwtf_status gwtf_config_key_unknown(const struct gwtf_config_reader *reader, const char *section,
                                    const char *name, const struct gwtf_config_origin *origin) {
    const struct gwtf_config_key *nearest = NULL, *elsewhere = NULL;
    for (size_t i = 0; i < reader->schema->keys_count; i++) {
        const struct gwtf_config_key *key = &reader->schema->keys[i];
        if (strcmp(key->section, section) != 0) {
            if (strcmp(key->name, name) == 0)
                elsewhere = key;
        } else if (nearest == NULL || gwtf_nearest_distance(name, key->name) <
                                          gwtf_nearest_distance(name, nearest->name)) {
            nearest = key;
        }
    }
    if (elsewhere != NULL && !gwtf_nearest_is_close(name, nearest->name))
        return gwtf_config_complain(reader, origin,
                                    "unknown key '%s.%.80s': it belongs in '%s': move it there",
                                    section, name, elsewhere->section);
    return gwtf_config_complain(
        reader, origin, "unknown key '%s.%.80s': %s '%s.%s'%s", section, name,
        gwtf_nearest_is_close(name, nearest->name) ? "did you mean" : "remove it; the nearest is",
        section, nearest->name, gwtf_nearest_is_close(name, nearest->name) ? "?" : "");
}

/* The keys of GROUP, a section or an entry of one, into BASE and their origins into KEPT. */
static gwtf_status read_keys(struct gwtf_config_reader *reader, const char *section,
                             const config_setting_t *group, void *base,
                             struct gwtf_config_origin *kept) {
    for (int i = 0; i < config_setting_length(group); i++) {
        const config_setting_t *setting = config_setting_get_elem(group, (unsigned)i);
        struct gwtf_config_origin here = origin_of(reader, setting);
        const char *name = config_setting_name(setting);
        int key = gwtf_config_find_key(reader->schema, section, name);
        if (key < 0)
            return gwtf_config_key_unknown(reader, section, name, &here);
        struct gwtf_config_value value = gwtf_config_value_of(setting);
        gwtf_status status = gwtf_config_store(reader, key, &value, base, &kept[key], &here);
        if (status != GWTF_OK)
            return status;
    }
    return GWTF_OK;
}

gwtf_status gwtf_config_read_entry(struct gwtf_config_reader *reader, int list, size_t entry,
                                   const config_setting_t *group) {
    const struct gwtf_config_list *entries = &reader->schema->lists[list];
    struct gwtf_config_origin origin = origin_of(reader, group);
    if (!config_setting_is_group(group))
        return gwtf_config_complain(reader, &origin, "%s.%zu is not a group: write %s",
                                    entries->section, entry, entries->entry_example);
    struct gwtf_config_entry *kept = &reader->entries[list][entry];
    kept->place = origin;
    return read_keys(reader, entries->section, group, gwtf_config_entry_base(reader, list, entry),
                     kept->keys);
}

static gwtf_status read_list(struct gwtf_config_reader *reader, int list,
                             const config_setting_t *setting) {
    const struct gwtf_config_list *entries = &reader->schema->lists[list];
    struct gwtf_config_origin origin = origin_of(reader, setting);
    reader->sections[gwtf_config_find_section(reader->schema, entries->section)] = origin;
    if (!config_setting_is_list(setting))
        return gwtf_config_complain(reader, &origin, "'%s' is not a list: write %s = ( %s, ... );",
                                    entries->section, entries->section, entries->entry_example);
    size_t count = (size_t)config_setting_length(setting);
    if (count > entries->entries_max)
        return gwtf_config_complain(reader, &origin,
                                    "'%s' has %zu entries, more than %zu: put equal ones into "
                                    "one entry, or leave some out",
                                    entries->section, count, entries->entries_max);
    memset(reader->entries[list], 0, entries->entries_max * sizeof *reader->entries[list]);
    memset(gwtf_config_entry_base(reader, list, 0), 0, entries->entries_max * entries->entry_bytes);
    *gwtf_config_entries_count(reader, list) = count;
    for (size_t i = 0; i < count; i++) {
        gwtf_status status =
            gwtf_config_read_entry(reader, list, i, config_setting_get_elem(setting, (unsigned)i));
        if (status != GWTF_OK)
            return status;
    }
    return GWTF_OK;
}

gwtf_status gwtf_config_read_section(struct gwtf_config_reader *reader, int section,
                                     const config_setting_t *group) {
    const char *name = reader->schema->sections[section];
    struct gwtf_config_origin origin = origin_of(reader, group);
    int list = gwtf_config_find_list(reader->schema, name);
    if (list >= 0)
        return read_list(reader, list, group);
    if (!config_setting_is_group(group))
        return gwtf_config_complain(
            reader, &origin, "'%s' is not a group: write %s = { key = value; };", name, name);
    if (reader->override == NULL)
        reader->sections[section] = origin;
    return read_keys(reader, name, group, reader->base, reader->keys);
}

gwtf_status gwtf_config_read_root(struct gwtf_config_reader *reader, const config_setting_t *root) {
    for (int i = 0; i < config_setting_length(root); i++) {
        const config_setting_t *setting = config_setting_get_elem(root, (unsigned)i);
        struct gwtf_config_origin here = origin_of(reader, setting);
        int section = gwtf_config_find_section(reader->schema, config_setting_name(setting));
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
