/*
 * Tables of keys, private to io. Parsing, checks, suggestions and writing of a configuration all go
 * by one: a new key is a line of the table and a member of struct gwtf_config. A scenario
 * (io/scenario.h) is read by the same code with a table of its own.
 */
#ifndef GWTF_IO_CONFIG_TABLE_H
#define GWTF_IO_CONFIG_TABLE_H

#include "io/config.h"

enum gwtf_config_type {
    GWTF_CONFIG_COUNT, /* uint32_t */
    GWTF_CONFIG_SEED,  /* uint64_t */
    GWTF_CONFIG_REAL,  /* double */
    GWTF_CONFIG_FLAG,  /* bool */
    GWTF_CONFIG_TEXT,  /* char[GWTF_CONFIG_PATH_MAX] */
    GWTF_CONFIG_TEXTS, /* char[GWTF_CONFIG_TEXTS_MAX]: a text or a list of them, one a line */
    GWTF_CONFIG_WORD   /* an enum: the place in WORDS; or nothing is kept */
};

#define GWTF_CONFIG_NOT_KEPT ((size_t)-1)

struct gwtf_config_key {
    const char *section;
    const char *name;
    enum gwtf_config_type type;
    size_t offset; /* in the struct that is filled; of a list, in its entries */
    /* COUNT, SEED, REAL: the value's range; TEXT: least length. BELOW: MOST itself is too much. */
    double least;
    double most;
    bool above; /* LEAST itself is too little */
    bool below;
    const char *const *words; /* WORD: ends with NULL */
    const char *fallback;     /* as a user would write it; NULL: required, unless DERIVED */
    bool derived;             /* left out, it follows from other keys */
    const char *help;
};

/* A section that is a list of groups, kept as an array in the struct that is filled. */
struct gwtf_config_list {
    const char *section;
    size_t offset;       /* of the array */
    size_t count_offset; /* of the number of its entries, a size_t */
    size_t entry_bytes;
    size_t entries_max;
    const char *entry_example; /* "{ role = ...; }" */
};
#define GWTF_CONFIG_LISTS_MAX 4
#define GWTF_CONFIG_SECTIONS_MAX 16

struct gwtf_config_reader;

/* A kind of file: what it may say, and the struct that it fills. */
struct gwtf_config_schema {
    const char *const *sections; /* ends with NULL */
    const struct gwtf_config_key *keys;
    size_t keys_count;
    const struct gwtf_config_list *lists;
    size_t lists_count;
    size_t bytes; /* of the struct */
    /* Values that follow from others, then what no key alone can be checked for. */
    gwtf_status (*check)(struct gwtf_config_reader *reader);
};
extern const struct gwtf_config_schema gwtf_config_schema; /* of struct gwtf_config */

/* The sections in the order of a written file; some are lists of groups. Ends with NULL. */
extern const char *const gwtf_config_sections[];

/* The keys of a section stand together, in the order of a written file. */
extern const struct gwtf_config_key gwtf_config_keys[];
extern const size_t gwtf_config_keys_count;
#define GWTF_CONFIG_KEYS_MAX 128

/* Of enum gwtf_config_role, in its order, NULL at the end. */
extern const char *const gwtf_config_roles[];

/* Of enum gwtf_config_family. */
extern const char *const gwtf_config_families[];

/* Place among the keys, or -1. */
int gwtf_config_find_key(const struct gwtf_config_schema *schema, const char *section,
                         const char *name);

/* "from 1 to 4096", "0 or more", "above 0", "below 1": the range of a number, for messages. */
void gwtf_config_range_text(const struct gwtf_config_key *key, char *text, size_t size);

#endif
