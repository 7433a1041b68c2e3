/* A file on its way from text to the struct that it fills, private to io. */
#ifndef GWTF_IO_CONFIG_READER_H
#define GWTF_IO_CONFIG_READER_H

#include "io/config_table.h"

#include <libconfig.h>
#include <stdio.h>

/* Where a value came from: a line of the file, or the path of an override; neither: not given. */
struct gwtf_config_origin {
    unsigned line;
    const char *override;
};

struct gwtf_config_entry {
    struct gwtf_config_origin place;
    struct gwtf_config_origin keys[GWTF_CONFIG_KEYS_MAX]; /* by place in the table */
};

struct gwtf_config_reader {
    const struct gwtf_config_schema *schema;
    void *base;           /* the struct that is filled */
    const char *name;     /* of the file, for messages */
    unsigned last_line;   /* of the file */
    const char *override; /* path of the override that is being read, or NULL */
    struct gwtf_error *error;
    struct gwtf_config_origin keys[GWTF_CONFIG_KEYS_MAX];
    struct gwtf_config_origin sections[GWTF_CONFIG_SECTIONS_MAX];
    struct gwtf_config_entry *entries[GWTF_CONFIG_LISTS_MAX]; /* by list and entry */
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
    const config_setting_t *list; /* of a list or an array */
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

/* Checks VALUE against key KEY and stores it at BASE (the struct, or an entry of a list). */
gwtf_status gwtf_config_store(struct gwtf_config_reader *reader, int key,
                              const struct gwtf_config_value *value, void *base,
                              struct gwtf_config_origin *kept,
                              const struct gwtf_config_origin *origin);

/* Reads `ROOT`'s sections; a section, where a list replaces what was there; an entry of a list. */
gwtf_status gwtf_config_read_root(struct gwtf_config_reader *reader, const config_setting_t *root);
gwtf_status gwtf_config_read_section(struct gwtf_config_reader *reader, int section,
                                     const config_setting_t *group);
gwtf_status gwtf_config_read_entry(struct gwtf_config_reader *reader, int list, size_t entry,
                                   const config_setting_t *group);

/* Place of NAME among the sections, or among those that are lists; -1 when there is none.
 * _section_unknown says so to the user. */
int gwtf_config_find_section(const struct gwtf_config_schema *schema, const char *name);
int gwtf_config_find_list(const struct gwtf_config_schema *schema, const char *name);
gwtf_status gwtf_config_section_unknown(const struct gwtf_config_reader *reader, const char *name,
                                        const struct gwtf_config_origin *origin);
gwtf_status gwtf_config_key_unknown(const struct gwtf_config_reader *reader, const char *section,
                                    const char *name, const struct gwtf_config_origin *origin);

/* Whether a key that is not of a list was given. */
bool gwtf_config_is_given(const struct gwtf_config_reader *reader, const char *section,
                          const char *name);

/* Where a key, a section, or the key of an entry was given; the section or entry for a key that
 * was not. */
const struct gwtf_config_origin *gwtf_config_origin_of(const struct gwtf_config_reader *reader,
                                                       const char *section, const char *name);
const struct gwtf_config_origin *gwtf_config_section_origin(const struct gwtf_config_reader *reader,
                                                            const char *section);
const struct gwtf_config_origin *gwtf_config_entry_origin(const struct gwtf_config_reader *reader,
                                                          const char *section, size_t entry,
                                                          const char *name);

/* Entries of list LIST, and the memory of one. */
size_t *gwtf_config_entries_count(const struct gwtf_config_reader *reader, int list);
void *gwtf_config_entry_base(const struct gwtf_config_reader *reader, int list, size_t entry);

/*
 * Text, overrides, defaults and checks: fills FILLED, a struct of SCHEMA, which is untouched on
 * failure. Errors: GWTF_ERROR_USAGE with the line for the user, GWTF_ERROR_MEMORY.
 */
gwtf_status gwtf_config_fill(const struct gwtf_config_schema *schema, const char *text,
                             const char *name, const char *const *overrides, size_t overrides_count,
                             void *filled, struct gwtf_error *error);

/* Reads the text file PATH whole; *TEXT is the caller's to free. Errors: GWTF_ERROR_USAGE with the
 * line for the user, GWTF_ERROR_MEMORY. */
gwtf_status gwtf_config_read_file(const char *path, size_t most_bytes, char **text,
                                  struct gwtf_error *error);

/* Scans and parses TEXT into TREE, which the caller has initialised. Errors as for
 * gwtf_config_scan, and what libconfig finds wrong. */
gwtf_status gwtf_config_read_text(const char *text, const char *name, config_t *tree,
                                  struct gwtf_error *error);

/* TEXT as libconfig reads it back: in quotation marks, with escapes. */
void gwtf_config_write_string(FILE *stream, const char *text);

/* Applies "path=value". */
gwtf_status gwtf_config_override(struct gwtf_config_reader *reader, const char *override);

/* Fills what was left out, and says what is required and missing. */
gwtf_status gwtf_config_complete(struct gwtf_config_reader *reader);

/* The check of gwtf_config_schema. */
gwtf_status gwtf_config_check(struct gwtf_config_reader *reader);

#endif
