/*
 * What the subcommands share: options, help, errors, tables.
 *
 *     const char *output = NULL;
 *     bool json = false;
 *     const struct gwtf_option options[] = {
 *         {.name = "output", .argument = "FILE", .help = "where to write", .value = &output},
 *         {.name = "json", .help = "print JSON", .flag = &json},
 *         {0}};
 *     const struct gwtf_usage usage = {.command = "tokenize", .arguments = "TEXT --output FILE",
 * ... int code; if (!gwtf_options_parse(&usage, options, argc, argv, &code)) return code;
 *     argv[optind] is the first argument that is no option.
 */
#ifndef GWTF_LAUNCHER_OPTIONS_H
#define GWTF_LAUNCHER_OPTIONS_H

#include "share/base/status.h"

#include <stdbool.h>
#include <stdio.h>
#include <unistd.h> /* optind */

#define GWTF_OPTION_LIST_MAX 64
#define GWTF_OPTIONS_MAX 32

/* An option that may be given again and again. */
struct gwtf_option_list {
    const char *items[GWTF_OPTION_LIST_MAX];
    size_t count;
};

/* One of VALUE, FLAG and LIST says where it goes. The table ends with an option without name;
 * --help is always known. */
struct gwtf_option {
    const char *name;     /* without "--" */
    char letter;          /* for short, as in "-o"; 0: none */
    const char *argument; /* "FILE" for the help; NULL: takes none; "=auto": may be left out */
    const char *help;
    const char **value;
    bool *flag;
    struct gwtf_option_list *list;
};

struct gwtf_usage {
    const char *command;   /* "tokenize" */
    const char *arguments; /* as in "usage: gwtf tokenize TEXT --output FILE" */
    const char *summary;   /* what it does: lines, the last with a line break */
    const char *example;   /* whole command lines */
    int arguments_least;   /* how many arguments are no options */
    int arguments_most;
};

/*
 * Parses the options; ARGV is reordered, so that from argv[optind] on stands what is no option.
 * False when the command ends here: help was asked for and printed (*CODE 0), or something is wrong
 * and was said (*CODE 2).
 */
bool gwtf_options_parse(const struct gwtf_usage *usage, const struct gwtf_option *options, int argc,
                        char **argv, int *code);

/* A finite number that is the whole of TEXT. */
bool gwtf_option_real(const char *text, double *value);

/*
 * The value of option NAME: a number, a WHOLE one where asked for, from LEAST to MOST. TEXT NULL:
 * the option is not given, and VALUE stays. Returns 0, or the exit code after a message.
 */
int gwtf_option_number(const char *name, const char *text, double least, double most, bool whole,
                       double *value);

/* Prints "gwtf: TEXT" to stderr and returns the exit code of STATUS: what a user named and is not
 * there is bad usage too. */
int gwtf_fail(gwtf_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A table for people: columns as wide as their widest cell. */
#define GWTF_TABLE_COLUMNS_MAX 12

struct gwtf_table {
    size_t columns;
    const char *alignment; /* a letter for each column: 'l' or 'r' */
    char **cells;
    size_t cells_count;
    size_t cells_room;
};

/* HEADERS are COLUMNS strings. Memory that runs out ends the program with a message. */
void gwtf_table_init(struct gwtf_table *table, const char *alignment, const char *const *headers);
void gwtf_table_cell(struct gwtf_table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void gwtf_table_print(const struct gwtf_table *table, FILE *stream);
void gwtf_table_deinit(struct gwtf_table *table);

#endif
