/* A configuration on its way from text to struct gwtf_config, private to io. */
#ifndef GWTF_IO_CONFIG_READER_H
#define GWTF_IO_CONFIG_READER_H

#include "io/config.h"
#include "io/config_table.h"

#include <libconfig.h>

/* Where a value came from: a line of the file, or the path of an override; neither: not given. */
struct gwtf_config_origin {
    unsigned line;
    const char *override;
};

struct gwtf_config_reader {
    const char *name;     /* of the file, for messages */
    unsigned last_line;   /* of the file */
    const char *override; /* path of the override that is being read, or NULL */
    struct gwtf_error *error;
    struct gwtf_config config;
    struct gwtf_config_origin keys[GWTF_CONFIG_KEYS_MAX];
    struct gwtf_config_origin sections[16];
    /* By entry of `nodes` and place in the table. */
    struct gwtf_config_origin nodes[GWTF_CONFIG_NODES_MAX][GWTF_CONFIG_KEYS_MAX];
    struct gwtf_config_origin entries[GWTF_CONFIG_NODES_MAX];
};

/* A value as a user gave it. */
struct gwtf_config_value {
    enum {
        GWTF_CONFIG_IS_WHOLE,
        GWTF_CONFIG_IS_REAL,
        GWTF_CONFIG_IS_FLAG,
        GWTF_CONFIG_IS_STRING,
        GWTF_CONFIG_IS_GROUP,
        GWTF_CONFIG_IS_LIST
    } kind;
    int64_t whole; /* also of a flag */
    double real;
    const char *string;
};

struct gwtf_config_value gwtf_config_value_of(const config_setting_t *setting);

/* "FILE:LINE" or "--set PATH". Returns TEXT. */
#define GWTF_CONFIG_PLACE_MAX (GWTF_CONFIG_PATH_MAX + 32)
const char *gwtf_config_place(const struct gwtf_config_reader *reader,
                              const struct gwtf_config_origin *origin, char *text);

/* Sets GWTF_ERROR_USAGE with "PLACE: " before the text. */
gwtf_status gwtf_config_complain(const struct gwtf_config_reader *reader,
                                 const struct gwtf_config_origin *origin, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Checks VALUE against key KEY and stores it at BASE (the configuration, or an entry of nodes). */
gwtf_status gwtf_config_store(struct gwtf_config_reader *reader, int key,
                              const struct gwtf_config_value *value, void *base,
                              struct gwtf_config_origin *kept,
                              const struct gwtf_config_origin *origin);

/* Reads `ROOT`'s sections; a section; the list of nodes, which replaces what was there; an entry of
 * it. */
gwtf_status gwtf_config_read_root(struct gwtf_config_reader *reader, const config_setting_t *root);
gwtf_status gwtf_config_read_section(struct gwtf_config_reader *reader, int section,
                                     const config_setting_t *group);
gwtf_status gwtf_config_read_nodes(struct gwtf_config_reader *reader, const config_setting_t *list);
gwtf_status gwtf_config_read_node(struct gwtf_config_reader *reader, size_t entry,
                                  const config_setting_t *group);

/* Place of NAME among the sections; -1 when there is none. _section_unknown says so to the user. */
int gwtf_config_find_section(const char *name);
gwtf_status gwtf_config_section_unknown(const struct gwtf_config_reader *reader, const char *name,
                                        const struct gwtf_config_origin *origin);
gwtf_status gwtf_config_key_unknown(const struct gwtf_config_reader *reader, const char *section,
                                    const char *name, const struct gwtf_config_origin *origin);

/* Reads the text file PATH whole; *TEXT is the caller's to free. Errors: GWTF_ERROR_USAGE with the
 * line for the user, GWTF_ERROR_MEMORY. */
gwtf_status gwtf_config_read_file(const char *path, size_t most_bytes, char **text,
                                  struct gwtf_error *error);

/* Scans and parses TEXT into TREE, which the caller has initialised. Errors as for
 * gwtf_config_scan, and what libconfig finds wrong. */
gwtf_status gwtf_config_read_text(const char *text, const char *name, config_t *tree,
                                  struct gwtf_error *error);

/* Applies "path=value". */
gwtf_status gwtf_config_override(struct gwtf_config_reader *reader, const char *override);

/* Fills what was left out, and says what is required and missing. */
gwtf_status gwtf_config_complete(struct gwtf_config_reader *reader);

/* What no key alone can be checked for. */
gwtf_status gwtf_config_check(const struct gwtf_config_reader *reader);

#endif
