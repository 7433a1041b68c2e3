#include "launcher/options.h"

#include "io/nearest.h"
#include "share/base/assert.h"
#include "share/base/log.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int gwtf_fail(gwtf_status status, const char *format, ...) {
    char text[GWTF_ERROR_TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    gwtf_log(GWTF_LOG_ERROR, "%s", text);
    return gwtf_status_exit_code(status == GWTF_ERROR_MISSING ? GWTF_ERROR_USAGE : status);
}

/* "--name=WORD" and "--name" both. */
static bool is_optional(const struct gwtf_option *option) {
    return option->argument != NULL && option->argument[0] == '=';
}

/* As in "--name FILE", "-n, --name FILE" or "--name[=WORD]". Returns its length. */
static int form_option(const struct gwtf_option *option, char *text, size_t size) {
    char letter[] = {'-', option->letter, ',', ' ', '\0'};
    if (is_optional(option))
        return snprintf(text, size, "--%s[%s]", option->name, option->argument);
    return snprintf(text, size, "%s--%s%s%s", option->letter != 0 ? letter : "", option->name,
                    option->argument != NULL ? " " : "",
                    option->argument != NULL ? option->argument : "");
}

bool gwtf_option_real(const char *text, double *value) {
    char *end = NULL;
    errno = 0;
    *value = strtod(text, &end);
    return errno == 0 && end != text && *end == '\0' && isfinite(*value);
}

int gwtf_option_number(const char *name, const char *text, double least, double most, bool whole,
                       double *value) {
    if (text == NULL)
        return 0;
    double given = 0;
    if (gwtf_option_real(text, &given) && given >= least && given <= most &&
        (!whole || given == (double)(int64_t)given)) {
        *value = given;
        return 0;
    }
    return gwtf_fail(GWTF_ERROR_USAGE, "--%s is '%s': give a %s from %g to %g", name, text,
                     whole ? "whole number" : "number", least, most);
}

static void print_help(const struct gwtf_usage *usage, const struct gwtf_option *options) {
    printf("usage: gwtf %s %s\n\n%s\n", usage->command, usage->arguments, usage->summary);
    char text[128];
    int width = (int)strlen("--help");
    for (size_t i = 0; options[i].name != NULL; i++) {
        int length = form_option(&options[i], text, sizeof text);
        width = length > width ? length : width;
    }
    for (size_t i = 0; options[i].name != NULL; i++) {
        form_option(&options[i], text, sizeof text);
        printf("  %-*s  %s\n", width, text, options[i].help);
    }
    printf("  %-*s  print this\n\nexample:\n%s", width, "--help", usage->example);
}

/* ARGUMENT is what getopt did not understand. */
static int complain_unknown(const struct gwtf_usage *usage, const struct gwtf_option *options,
                            const char *argument) {
    char name[64];
    const char *start = argument + strspn(argument, "-");
    snprintf(name, sizeof name, "%.*s", (int)strcspn(start, "="), start);
    const char *nearest = "help";
    for (size_t i = 0; options[i].name != NULL; i++) {
        if (strcmp(options[i].name, name) == 0)
            return gwtf_fail(GWTF_ERROR_USAGE,
                             "option '--%s' takes no value: leave out what follows the '='", name);
        if (gwtf_nearest_distance(name, options[i].name) < gwtf_nearest_distance(name, nearest))
            nearest = options[i].name;
    }
    if (gwtf_nearest_is_close(name, nearest))
        return gwtf_fail(GWTF_ERROR_USAGE, "unknown option '%s': did you mean '--%s'?", argument,
                         nearest);
    return gwtf_fail(GWTF_ERROR_USAGE, "unknown option '%s': see gwtf %s --help", argument,
                     usage->command);
}

/* Puts the value of an option where the table says. Returns 0 or the exit code. */
static int take(const struct gwtf_option *option, const char *value) {
    if (option->flag != NULL)
        *option->flag = true;
    if (option->value != NULL && value != NULL) {
        if (is_optional(option) && strcmp(value, option->argument + 1) != 0)
            return gwtf_fail(GWTF_ERROR_USAGE, "option '--%s=%s': did you mean '--%s%s'?",
                             option->name, value, option->name, option->argument);
        if (*option->value != NULL)
            return gwtf_fail(GWTF_ERROR_USAGE, "option '--%s' is given twice: keep one",
                             option->name);
        *option->value = value;
    }
    if (option->list != NULL) {
        if (option->list->count == GWTF_OPTION_LIST_MAX)
            return gwtf_fail(GWTF_ERROR_USAGE,
                             "option '--%s' is given more than %d times: leave some out",
                             option->name, GWTF_OPTION_LIST_MAX);
        option->list->items[option->list->count++] = value;
    }
    return 0;
}

static int check_count(const struct gwtf_usage *usage, int given, char **rest) {
    if (given < usage->arguments_least)
        return gwtf_fail(GWTF_ERROR_USAGE, "%s: an argument is missing: usage: gwtf %s %s",
                         usage->command, usage->command, usage->arguments);
    if (given > usage->arguments_most)
        return gwtf_fail(GWTF_ERROR_USAGE, "%s: '%s' is one argument too many: usage: gwtf %s %s",
                         usage->command, rest[usage->arguments_most], usage->command,
                         usage->arguments);
    return 0;
}

bool gwtf_options_parse(const struct gwtf_usage *usage, const struct gwtf_option *options, int argc,
                        char **argv, int *code) {
    enum { HELP = 256, FIRST = 257 };
    struct option known[GWTF_OPTIONS_MAX + 2] = {{"help", no_argument, NULL, HELP}};
    char letters[2 * GWTF_OPTIONS_MAX + 3] = ":h";
    for (int i = 0; options[i].name != NULL; i++) {
        GWTF_ASSERT(i < GWTF_OPTIONS_MAX);
        known[i + 1] = (struct option){options[i].name,
                                       options[i].argument == NULL ? no_argument
                                       : is_optional(&options[i])  ? optional_argument
                                                                   : required_argument,
                                       NULL, FIRST + i};
        if (options[i].letter != 0)
            snprintf(letters + strlen(letters), 3, "%c%s", options[i].letter,
                     options[i].argument != NULL ? ":" : "");
    }
    optind = 0; /* getopt starts anew */
    opterr = 0;
    *code = 0;
    while (*code == 0) {
        int found = getopt_long(argc, argv, letters, known, NULL);
        for (int i = 0; found > 0 && found < HELP && options[i].name != NULL; i++)
            if (options[i].letter == found)
                found = FIRST + i;
        if (found == -1)
            break;
        if (found == HELP || found == 'h') {
            print_help(usage, options);
            return false;
        }
        if (found == ':')
            *code = gwtf_fail(GWTF_ERROR_USAGE, "option '%s' needs a value: see gwtf %s --help",
                              argv[optind - 1], usage->command);
        else if (found >= FIRST)
            *code = take(&options[found - FIRST], optarg);
        else
            *code = complain_unknown(usage, options, argv[optind - 1]);
    }
    if (*code == 0)
        *code = check_count(usage, argc - optind, argv + optind);
    return *code == 0;
}
