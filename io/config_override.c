#include "io/config_reader.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* "model.layers" or "nodes.1.count", taken apart. */
struct path {
    char section[GWTF_CONFIG_WORD_MAX];
    char entry[GWTF_CONFIG_WORD_MAX]; /* of a list */
    char key[GWTF_CONFIG_WORD_MAX];
};

/* Copies up to the next dot; NULL when the part is empty or too long. */
static const char *take_part(const char *at, char part[GWTF_CONFIG_WORD_MAX]) {
    size_t length = strcspn(at, ".");
    if (length == 0 || length >= GWTF_CONFIG_WORD_MAX)
        return NULL;
    memcpy(part, at, length);
    part[length] = '\0';
    return at[length] == '.' ? at + length + 1 : at + length;
}

static bool split(const struct gwtf_config_schema *schema, const char *text, struct path *path) {
    memset(path, 0, sizeof *path);
    const char *at = take_part(text, path->section);
    if (at != NULL && *at != '\0' && gwtf_config_find_list(schema, path->section) >= 0)
        at = take_part(at, path->entry);
    if (at != NULL && *at != '\0')
        at = take_part(at, path->key);
    return at != NULL && *at == '\0' && text[strlen(text) - 1] != '.' && *text != '\0';
}

/* The value of one key: strings may stand without quotation marks. */
static gwtf_status read_key(struct gwtf_config_reader *reader, int key, const char *text,
                            const config_setting_t *parsed, void *base,
                            struct gwtf_config_origin *kept) {
    struct gwtf_config_origin origin = {.override = reader->override};
    struct gwtf_config_value value = {.kind = GWTF_CONFIG_IS_STRING, .string = text};
    enum gwtf_config_type type = reader->schema->keys[key].type;
    bool bare = (type == GWTF_CONFIG_TEXT || type == GWTF_CONFIG_WORD) && *text != '"';
    /* "[ab]*.bin" is a pattern of files, "[ \"a\" ]" a list of them. */
    if (type == GWTF_CONFIG_TEXTS)
        bare = *text != '"' && (parsed == NULL || !config_setting_is_aggregate(parsed));
    if (parsed == NULL && *text == '"')
        return gwtf_config_complain(reader, &origin,
                                    "the string is not well formed: check the "
                                    "quotation marks");
    if (parsed != NULL && !bare)
        value = gwtf_config_value_of(parsed);
    return gwtf_config_store(reader, key, &value, base, kept, &origin);
}

/* An entry of list LIST, or its key. */
static gwtf_status apply_to_list(struct gwtf_config_reader *reader, int list,
                                 const struct path *path, const char *text,
                                 const config_setting_t *parsed) {
    struct gwtf_config_origin origin = {.override = reader->override};
    size_t count = *gwtf_config_entries_count(reader, list);
    char *end = NULL;
    size_t entry = strtoul(path->entry, &end, 10);
    if (*end != '\0' || !isdigit((unsigned char)path->entry[0]) || entry >= count)
        return gwtf_config_complain(reader, &origin,
                                    "there is no %s.%s: the entries count from 0, and there are "
                                    "%zu",
                                    path->section, path->entry, count);
    if (path->key[0] == '\0')
        return gwtf_config_read_entry(reader, list, entry, parsed);
    int key = gwtf_config_find_key(reader->schema, path->section, path->key);
    if (key < 0)
        return gwtf_config_key_unknown(reader, path->section, path->key, &origin);
    return read_key(reader, key, text, parsed, gwtf_config_entry_base(reader, list, entry),
                    &reader->entries[list][entry].keys[key]);
}

/* Finds what the path names, and reads the value into it. PARSED is NULL when it is not libconfig's
 * language, but a bare word. */
static gwtf_status apply(struct gwtf_config_reader *reader, const struct path *path,
                         const char *text, const config_setting_t *parsed) {
    struct gwtf_config_origin origin = {.override = reader->override};
    int section = gwtf_config_find_section(reader->schema, path->section);
    if (section < 0)
        return gwtf_config_section_unknown(reader, path->section, &origin);
    int list = gwtf_config_find_list(reader->schema, path->section);
    if (path->key[0] == '\0' && parsed == NULL) {
        bool is_list = list >= 0 && path->entry[0] == '\0';
        return gwtf_config_complain(reader, &origin,
                                    "'%.60s' is not a libconfig value: give %s%s%s", text,
                                    is_list ? "( " : "",
                                    list >= 0 ? reader->schema->lists[list].entry_example
                                              : "{ key = value; }, or name a key",
                                    is_list ? " )" : "");
    }
    if (path->entry[0] != '\0')
        return apply_to_list(reader, list, path, text, parsed);
    if (path->key[0] == '\0')
        return gwtf_config_read_section(reader, section, parsed);
    int key = gwtf_config_find_key(reader->schema, path->section, path->key);
    if (key < 0)
        return gwtf_config_key_unknown(reader, path->section, path->key, &origin);
    return read_key(reader, key, text, parsed, reader->base, &reader->keys[key]);
}

/* Parses TEXT as one libconfig value into TREE; NULL when it is none. */
static const config_setting_t *parse_value(const char *text, config_t *tree) {
    size_t size = strlen(text) + sizeof "value = \n;";
    char *assignment = malloc(size);
    if (assignment == NULL)
        return NULL;
    /* The line break ends a comment that TEXT may end with. */
    snprintf(assignment, size, "value = %s\n;", text);
    const config_setting_t *found = NULL;
    if (gwtf_config_read_text(assignment, "", tree, NULL) == GWTF_OK &&
        config_setting_length(config_root_setting(tree)) == 1)
        found = config_setting_get_member(config_root_setting(tree), "value");
    free(assignment);
    return found;
}

gwtf_status gwtf_config_override(struct gwtf_config_reader *reader, const char *override) {
    struct gwtf_config_origin origin = {.override = override};
    const char *equals = strchr(override, '=');
    char *name = equals == NULL ? NULL : strndup(override, (size_t)(equals - override));
    if (equals == NULL)
        return gwtf_config_complain(reader, &origin,
                                    "there is no '=': write --set path=value, like --set "
                                    "model.layers=4");
    if (name == NULL)
        return gwtf_error_set(reader->error, GWTF_ERROR_MEMORY, "no memory: free some");
    for (char *end = name + strlen(name); end > name && isspace((unsigned char)end[-1]); end--)
        end[-1] = '\0';
    const char *text = equals + 1 + strspn(equals + 1, " \t");
    struct path path;
    gwtf_status status;
    /* Origins point at the caller's text, which lives as long as the reader does. */
    reader->override = override;
    config_t tree;
    config_init(&tree);
    if (!split(reader->schema, name, &path))
        status =
            gwtf_config_complain(reader, &origin,
                                 "'%.80s' is not the path of a key: write it like model.layers "
                                 "or nodes.0.count",
                                 name);
    else
        status = apply(reader, &path, text, parse_value(text, &tree));
    config_destroy(&tree);
    reader->override = NULL;
    free(name);
    return status;
}
