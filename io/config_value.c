#include "io/config_reader.h"

#include "io/nearest.h"
#include "share/base/assert.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Room for what a key takes: the presets' names are the longest. */
#define WANTED_MAX 512

/* "model.width", "nodes.1.count". */
static const char *path_of(const struct gwtf_config_reader *reader, int key, const void *base,
                           char text[64]) {
    const struct gwtf_config_key *entry = &reader->schema->keys[key];
    int list = gwtf_config_find_list(reader->schema, entry->section);
    if (list < 0) {
        snprintf(text, 64, "%s.%s", entry->section, entry->name);
    } else {
        const char *first = gwtf_config_entry_base(reader, list, 0);
        size_t place =
            (size_t)((const char *)base - first) / reader->schema->lists[list].entry_bytes;
        snprintf(text, 64, "%s.%zu.%s", entry->section, place, entry->name);
    }
    return text;
}

static const char *kind_text(const struct gwtf_config_value *value) {
    static const char *const texts[] = {"a whole number", "a number with a fraction",
                                        "true or false",  "a string",
                                        "a group",        "a list"};
    return texts[value->kind];
}

static const char *wanted_text(const struct gwtf_config_key *key, char *text, size_t size) {
    char range[96];
    gwtf_config_range_text(key, range, sizeof range);
    switch (key->type) {
    case GWTF_CONFIG_COUNT:
    case GWTF_CONFIG_SEED:
        snprintf(text, size, "give a whole number %s", range);
        break;
    case GWTF_CONFIG_REAL:
        snprintf(text, size, "give a number %s", range);
        break;
    case GWTF_CONFIG_FLAG:
        snprintf(text, size, "give true or false");
        break;
    case GWTF_CONFIG_TEXT:
        snprintf(text, size, "give a string in quotation marks");
        break;
    case GWTF_CONFIG_TEXTS:
        snprintf(text, size, "give a string in quotation marks, or ( \"a\", \"b\" )");
        break;
    case GWTF_CONFIG_WORD: {
        size_t length = (size_t)snprintf(text, size, "give");
        for (size_t i = 0; key->words[i] != NULL && length < size; i++)
            length += (size_t)snprintf(text + length, size - length, "%s \"%s\"",
                                       i > 0 ? " or" : "", key->words[i]);
        break;
    }
    }
    return text;
}

static bool in_range(const struct gwtf_config_key *key, double value) {
    return isfinite(value) && (key->above ? value > key->least : value >= key->least) &&
           (key->below ? value < key->most : value <= key->most);
}

static int word_at(const struct gwtf_config_key *key, const char *word) {
    for (int i = 0; key->words[i] != NULL; i++)
        if (strcmp(key->words[i], word) == 0)
            return i;
    return -1;
}

/* A text, or those of a list, one a line. */
static void put_texts(const struct gwtf_config_value *value, char *member) {
    size_t length = 0;
    if (value->kind == GWTF_CONFIG_IS_STRING) {
        snprintf(member, GWTF_CONFIG_TEXTS_MAX, "%s", value->string);
        return;
    }
    for (int i = 0; i < config_setting_length(value->list); i++)
        length +=
            (size_t)snprintf(member + length, GWTF_CONFIG_TEXTS_MAX - length, "%s%s",
                             i > 0 ? "\n" : "", config_setting_get_string_elem(value->list, i));
}

/* Puts a checked value into its member. */
static void put(const struct gwtf_config_key *key, const struct gwtf_config_value *value,
                void *base) {
    if (key->offset == GWTF_CONFIG_NOT_KEPT)
        return;
    char *member = (char *)base + key->offset;
    switch (key->type) {
    case GWTF_CONFIG_COUNT:
        *(uint32_t *)(void *)member = (uint32_t)value->whole;
        break;
    case GWTF_CONFIG_SEED:
        *(uint64_t *)(void *)member = (uint64_t)value->whole;
        break;
    case GWTF_CONFIG_REAL:
        *(double *)(void *)member =
            value->kind == GWTF_CONFIG_IS_REAL ? value->real : (double)value->whole;
        break;
    case GWTF_CONFIG_FLAG:
        *(bool *)(void *)member = value->whole != 0;
        break;
    case GWTF_CONFIG_TEXT:
        snprintf(member, GWTF_CONFIG_PATH_MAX, "%s", value->string);
        break;
    case GWTF_CONFIG_TEXTS:
        put_texts(value, member);
        break;
    case GWTF_CONFIG_WORD: {
        _Static_assert(sizeof(enum gwtf_config_role) == sizeof(unsigned), "enums are stored so");
        unsigned place = (unsigned)word_at(key, value->string);
        memcpy(member, &place, sizeof place);
        break;
    }
    }
}

static bool kind_fits(const struct gwtf_config_key *key, const struct gwtf_config_value *value) {
    switch (key->type) {
    case GWTF_CONFIG_COUNT:
    case GWTF_CONFIG_SEED:
        return value->kind == GWTF_CONFIG_IS_WHOLE;
    case GWTF_CONFIG_REAL:
        return value->kind == GWTF_CONFIG_IS_WHOLE || value->kind == GWTF_CONFIG_IS_REAL;
    case GWTF_CONFIG_FLAG:
        return value->kind == GWTF_CONFIG_IS_FLAG;
    case GWTF_CONFIG_TEXT:
    case GWTF_CONFIG_WORD:
        return value->kind == GWTF_CONFIG_IS_STRING;
    case GWTF_CONFIG_TEXTS:
        return value->kind == GWTF_CONFIG_IS_STRING || value->kind == GWTF_CONFIG_IS_LIST;
    }
    return false;
}

static gwtf_status store_word(struct gwtf_config_reader *reader, int key, const char *path,
                              const char *word, const struct gwtf_config_origin *origin) {
    const struct gwtf_config_key *entry = &reader->schema->keys[key];
    if (word_at(entry, word) >= 0)
        return GWTF_OK;
    const char *nearest = entry->words[0];
    for (size_t i = 1; entry->words[i] != NULL; i++)
        if (gwtf_nearest_distance(word, entry->words[i]) < gwtf_nearest_distance(word, nearest))
            nearest = entry->words[i];
    char wanted[WANTED_MAX];
    wanted_text(entry, wanted, sizeof wanted);
    if (gwtf_nearest_is_close(word, nearest))
        return gwtf_config_complain(reader, origin, "%s is \"%.60s\": did you mean \"%s\"? %s",
                                    path, word, nearest, wanted);
    return gwtf_config_complain(reader, origin, "%s is \"%.60s\": %s", path, word, wanted);
}

static gwtf_status check_text(const struct gwtf_config_reader *reader,
                              const struct gwtf_config_key *key, const char *path, const char *text,
                              const struct gwtf_config_origin *origin) {
    if ((double)strlen(text) < key->least)
        return gwtf_config_complain(reader, origin, "%s is empty: give %s", path, key->help);
    if (strlen(text) >= GWTF_CONFIG_PATH_MAX)
        return gwtf_config_complain(reader, origin, "%s has %zu characters: give at most %d", path,
                                    strlen(text), GWTF_CONFIG_PATH_MAX - 1);
    return GWTF_OK;
}

/* Each is a text that is not empty and is one line, and all have room. */
static gwtf_status check_texts(const struct gwtf_config_reader *reader,
                               const struct gwtf_config_key *key, const char *path,
                               const struct gwtf_config_value *value,
                               const struct gwtf_config_origin *origin) {
    bool is_list = value->kind == GWTF_CONFIG_IS_LIST;
    int count = is_list ? config_setting_length(value->list) : 1;
    size_t all = 0;
    for (int i = 0; i < count; i++) {
        const char *text = is_list ? config_setting_get_string_elem(value->list, i) : value->string;
        if (text == NULL)
            return gwtf_config_complain(reader, origin,
                                        "%s has something that is no string: give strings in "
                                        "quotation marks",
                                        path);
        if (strchr(text, '\n') != NULL && is_list)
            return gwtf_config_complain(reader, origin, "%s has a line break: remove it", path);
        gwtf_status status = check_text(reader, key, path, text, origin);
        if (status != GWTF_OK)
            return status;
        all += strlen(text) + 1;
    }
    if (count == 0 && key->least > 0)
        return gwtf_config_complain(reader, origin, "%s is empty: give %s", path, key->help);
    if (all > GWTF_CONFIG_TEXTS_MAX)
        return gwtf_config_complain(reader, origin,
                                    "%s has %zu characters: give at most %d, with patterns like "
                                    "\"shards/*.bin\"",
                                    path, all, GWTF_CONFIG_TEXTS_MAX);
    return GWTF_OK;
}

gwtf_status gwtf_config_store(struct gwtf_config_reader *reader, int key,
                              const struct gwtf_config_value *value, void *base,
                              struct gwtf_config_origin *kept,
                              const struct gwtf_config_origin *origin) {
    const struct gwtf_config_key *entry = &reader->schema->keys[key];
    char path[64], wanted[WANTED_MAX];
    path_of(reader, key, base, path);
    wanted_text(entry, wanted, sizeof wanted);
    if (!kind_fits(entry, value))
        return gwtf_config_complain(reader, origin, "%s is %s: %s", path, kind_text(value), wanted);
    gwtf_status status = GWTF_OK;
    switch (entry->type) {
    case GWTF_CONFIG_COUNT:
    case GWTF_CONFIG_SEED:
        if (!in_range(entry, (double)value->whole))
            status = gwtf_config_complain(reader, origin, "%s is %" PRId64 ": %s", path,
                                          value->whole, wanted);
        break;
    case GWTF_CONFIG_REAL: {
        double real = value->kind == GWTF_CONFIG_IS_REAL ? value->real : (double)value->whole;
        if (!in_range(entry, real))
            status = gwtf_config_complain(reader, origin, "%s is %g: %s", path, real, wanted);
        break;
    }
    case GWTF_CONFIG_FLAG:
        break;
    case GWTF_CONFIG_TEXT:
        status = check_text(reader, entry, path, value->string, origin);
        break;
    case GWTF_CONFIG_TEXTS:
        status = check_texts(reader, entry, path, value, origin);
        break;
    case GWTF_CONFIG_WORD:
        status = store_word(reader, key, path, value->string, origin);
        break;
    }
    if (status != GWTF_OK)
        return status;
    put(entry, value, base);
    *kept = *origin;
    return GWTF_OK;
}

/* The fallback of the table, which is in the words of a user, as a value. */
static struct gwtf_config_value fallback_of(const struct gwtf_config_key *key) {
    struct gwtf_config_value value = {.string = key->fallback};
    char *end = NULL;
    switch (key->type) {
    case GWTF_CONFIG_COUNT:
    case GWTF_CONFIG_SEED:
        value.kind = GWTF_CONFIG_IS_WHOLE;
        value.whole = strtoll(key->fallback, &end, 10);
        break;
    case GWTF_CONFIG_REAL:
        value.kind = GWTF_CONFIG_IS_REAL;
        value.real = strtod(key->fallback, &end);
        break;
    case GWTF_CONFIG_FLAG:
        value.kind = GWTF_CONFIG_IS_FLAG;
        value.whole = strcmp(key->fallback, "true") == 0;
        break;
    case GWTF_CONFIG_TEXT:
    case GWTF_CONFIG_TEXTS:
    case GWTF_CONFIG_WORD:
        value.kind = GWTF_CONFIG_IS_STRING;
        break;
    }
    GWTF_ASSERT(end == NULL || *end == '\0');
    return value;
}

/* One key: its fallback when it was left out. SECTION is where it should have stood. */
static gwtf_status complete_key(struct gwtf_config_reader *reader, int key, void *base,
                                const struct gwtf_config_origin *kept,
                                const struct gwtf_config_origin *section) {
    const struct gwtf_config_key *entry = &reader->schema->keys[key];
    if (kept->line > 0 || kept->override != NULL || entry->derived)
        return GWTF_OK;
    char path[64], wanted[WANTED_MAX];
    if (entry->fallback == NULL)
        return gwtf_config_complain(reader, section, "%s is missing: %s (%s)",
                                    path_of(reader, key, base, path),
                                    wanted_text(entry, wanted, sizeof wanted), entry->help);
    struct gwtf_config_value value = fallback_of(entry);
    put(entry, &value, base);
    return GWTF_OK;
}

gwtf_status gwtf_config_complete(struct gwtf_config_reader *reader) {
    const struct gwtf_config_schema *schema = reader->schema;
    for (int key = 0; key < (int)schema->keys_count; key++) {
        const char *section = schema->keys[key].section;
        int list = gwtf_config_find_list(schema, section);
        size_t count = list < 0 ? 1 : *gwtf_config_entries_count(reader, list);
        for (size_t i = 0; i < count; i++) {
            struct gwtf_config_entry *entry = list < 0 ? NULL : &reader->entries[list][i];
            gwtf_status status = complete_key(
                reader, key, entry ? gwtf_config_entry_base(reader, list, i) : reader->base,
                entry ? &entry->keys[key] : &reader->keys[key],
                entry ? &entry->place : gwtf_config_section_origin(reader, section));
            if (status != GWTF_OK)
                return status;
        }
    }
    return GWTF_OK;
}
