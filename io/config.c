#include "io/config.h"

#include "io/config_reader.h"
#include "io/file.h"

#include <stdlib.h>
#include <string.h>

#define FILE_MAX_BYTES ((size_t)1 << 20)

/* From text to a whole struct in READER. */
static gwtf_status read_all(struct gwtf_config_reader *reader, const char *text,
                            const char *const *overrides, size_t overrides_count) {
    config_t tree;
    config_init(&tree);
    gwtf_status status = gwtf_config_read_text(text, reader->name, &tree, reader->error);
    if (status == GWTF_OK)
        status = gwtf_config_read_root(reader, config_root_setting(&tree));
    config_destroy(&tree);
    for (size_t i = 0; i < overrides_count && status == GWTF_OK; i++)
        status = gwtf_config_override(reader, overrides[i]);
    if (status == GWTF_OK)
        status = gwtf_config_complete(reader);
    if (status == GWTF_OK)
        status = reader->schema->check(reader);
    return status;
}

static void destroy_reader(struct gwtf_config_reader *reader) {
    if (reader == NULL)
        return;
    for (size_t i = 0; i < GWTF_CONFIG_LISTS_MAX; i++)
        free(reader->entries[i]);
    free(reader->base);
    free(reader);
}

static struct gwtf_config_reader *create_reader(const struct gwtf_config_schema *schema) {
    struct gwtf_config_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return NULL;
    reader->schema = schema;
    reader->base = calloc(1, schema->bytes);
    bool whole = reader->base != NULL;
    for (size_t i = 0; i < schema->lists_count; i++) {
        reader->entries[i] = calloc(schema->lists[i].entries_max, sizeof *reader->entries[i]);
        whole = whole && reader->entries[i] != NULL;
    }
    if (whole)
        return reader;
    destroy_reader(reader);
    return NULL;
}

gwtf_status gwtf_config_fill(const struct gwtf_config_schema *schema, const char *text,
                             const char *name, const char *const *overrides, size_t overrides_count,
                             void *filled, struct gwtf_error *error) {
    struct gwtf_config_reader *reader = create_reader(schema);
    if (reader == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "%s: no memory: free some", name);
    reader->name = name;
    reader->error = error;
    reader->last_line = 1;
    for (const char *at = text; *at != '\0'; at++)
        reader->last_line += *at == '\n' && at[1] != '\0';
    gwtf_status status = read_all(reader, text, overrides, overrides_count);
    if (status == GWTF_OK)
        memcpy(filled, reader->base, schema->bytes);
    destroy_reader(reader);
    return status;
}

gwtf_status gwtf_config_parse(const char *text, const char *name, const char *const *overrides,
                              size_t overrides_count, struct gwtf_config *config,
                              struct gwtf_error *error) {
    return gwtf_config_fill(&gwtf_config_schema, text, name, overrides, overrides_count, config,
                            error);
}

gwtf_status gwtf_config_read_file(const char *path, size_t most_bytes, char **text,
                                  struct gwtf_error *error) {
    char *bytes = NULL;
    size_t size = 0;
    gwtf_status status = gwtf_file_read(path, most_bytes, &bytes, &size, error);
    if (status != GWTF_OK)
        return status == GWTF_ERROR_MEMORY ? status : GWTF_ERROR_USAGE;
    if (strlen(bytes) != size) {
        free(bytes);
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "%s:1: this is not a text file: give a configuration file", path);
    }
    *text = bytes;
    return GWTF_OK;
}

gwtf_status gwtf_config_load(const char *path, const char *const *overrides, size_t overrides_count,
                             struct gwtf_config *config, struct gwtf_error *error) {
    char *text = NULL;
    gwtf_status status = gwtf_config_read_file(path, FILE_MAX_BYTES, &text, error);
    if (status == GWTF_OK)
        status = gwtf_config_parse(text, path, overrides, overrides_count, config, error);
    free(text);
    return status;
}

uint32_t gwtf_config_count(const struct gwtf_config *config, enum gwtf_config_role role) {
    uint32_t count = 0;
    for (size_t i = 0; i < config->nodes_count; i++)
        if (config->nodes[i].role == role)
            count += config->nodes[i].count;
    return count;
}
