#include "launcher/script.h"

#include "launcher/options.h"
#include "share/base/assert.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define MARK "#SBATCH "
#define ARGUMENTS_MARK "# (arguments)\n"

static char *check_memory(char *text) {
    if (text == NULL)
        exit(gwtf_fail(GWTF_ERROR_MEMORY, "no memory for a script: free some"));
    return text;
}

/* *TEXT grows by MORE. */
static void append(char **text, const char *more) {
    size_t length = strlen(*text);
    *text = check_memory(realloc(*text, length + strlen(more) + 1));
    strcpy(*text + length, more);
}

/* A word on a line of #SBATCH: its value is quoted where sbatch would take it apart. */
static char *form_option(const char *name, const char *value) {
    char *line = check_memory(strdup(name));
    bool plain = value[strcspn(value, " \t\"'#\\")] == '\0';
    char letter[3] = "";
    append(&line, plain ? "=" : "=\"");
    for (; *value != '\0'; value++) {
        bool guarded = !plain && (*value == '"' || *value == '\\');
        snprintf(letter, sizeof letter, "%s%c", guarded ? "\\" : "", *value);
        append(&line, letter);
    }
    append(&line, plain ? "" : "\"");
    return line;
}

static void append_quoted(char **text, const char *word) {
    char letter[2] = "";
    append(text, "'");
    for (; *word != '\0'; word++) {
        letter[0] = *word;
        append(text, *word == '\'' ? "'\\''" : letter);
    }
    append(text, "'");
}

void gwtf_script_init(struct gwtf_script *script, const char *name) {
    memset(script, 0, sizeof *script);
    script->template_name = name;
    script->variables = check_memory(strdup(""));
    script->arguments = check_memory(strdup(""));
    script->text = check_memory(strdup(""));
}

void gwtf_script_deinit(struct gwtf_script *script) {
    for (size_t i = 0; i < script->options_count; i++)
        free(script->options[i].line);
    free(script->variables);
    free(script->arguments);
    free(script->text);
}

static void add_option(struct gwtf_script *script, size_t component, const char *name, char *line) {
    GWTF_ASSERT(script->options_count < GWTF_SCRIPT_OPTIONS_MAX);
    size_t at = script->options_count++;
    script->options[at].component = component;
    script->options[at].line = line;
    snprintf(script->options[at].name, sizeof script->options[at].name, "%s", name);
}

void gwtf_script_option(struct gwtf_script *script, size_t component, const char *name,
                        const char *format, ...) {
    char *value = NULL, full[64];
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&value, format, arguments) < 0)
        check_memory(NULL);
    va_end(arguments);
    snprintf(full, sizeof full, "--%s", name);
    add_option(script, component, name, form_option(full, value));
    free(value);
}

void gwtf_script_line(struct gwtf_script *script, const char *option) {
    const char *sign = strncmp(option, "--", 2) == 0 ? strchr(option, '=') : NULL;
    char *name = sign != NULL ? strndup(option, (size_t)(sign - option)) : strdup(option);
    if (sign != NULL) {
        char *line = form_option(check_memory(name), sign + 1);
        free(name);
        name = line;
    }
    add_option(script, 0, "", check_memory(name));
}

void gwtf_script_variable(struct gwtf_script *script, const char *name, const char *value) {
    append(&script->variables, name);
    append(&script->variables, "=");
    append_quoted(&script->variables, value);
    append(&script->variables, "\n");
}

void gwtf_script_argument(struct gwtf_script *script, const char *argument) {
    append(&script->arguments, " ");
    append_quoted(&script->arguments, argument);
}

static void append_option(struct gwtf_script *script, size_t i) {
    append(&script->text, MARK);
    append(&script->text, script->options[i].line);
    append(&script->text, "\n");
    script->options[i].used = 1;
}

/* Those of COMPONENT that the file has no line of. */
static void append_rest(struct gwtf_script *script, size_t component) {
    for (size_t i = 0; i < script->options_count; i++)
        if (script->options[i].component == component && !script->options[i].used)
            append_option(script, i);
}

/* True when LINE, "#SBATCH --NAME=VALUE", is one of COMPONENT that has got another value. */
static bool replace(struct gwtf_script *script, size_t component, const char *line) {
    size_t length = strcspn(line, "= \n");
    for (size_t i = 0; i < script->options_count; i++)
        if (script->options[i].component == component && strncmp(line, "--", 2) == 0 &&
            strlen(script->options[i].name) + 2 == length &&
            strncmp(script->options[i].name, line + 2, length - 2) == 0) {
            append_option(script, i);
            return true;
        }
    return false;
}

/* One line after the other. The lines of a component end with "hetjob", or with the first line that
 * is none. */
static void compose_line(struct gwtf_script *script, const char *line, size_t *component,
                         bool *begun, bool *over) {
    bool is_option = strncmp(line, MARK, strlen(MARK)) == 0;
    bool is_border = strcmp(line, MARK "hetjob\n") == 0;
    if (is_border || (*begun && !is_option && !*over)) {
        append_rest(script, *component);
        *over = !is_border;
    }
    if (is_border)
        ++*component;
    if (*over && script->variables[0] != '\0' && !is_option) {
        append(&script->text, script->variables);
        script->variables[0] = '\0';
    }
    *begun = *begun || is_option;
    if (strcmp(line, ARGUMENTS_MARK) == 0) {
        append(&script->text, "set --");
        append(&script->text, script->arguments);
        append(&script->text, "\n");
    } else if (!is_option || is_border || !replace(script, *component, line + strlen(MARK))) {
        append(&script->text, line);
    }
}

gwtf_status gwtf_script_compose(struct gwtf_script *script, struct gwtf_error *error) {
    char path[4096], line[4096];
    size_t component = 0;
    bool begun = false, over = false;
    for (size_t i = 0; i < script->options_count; i++)
        if (strchr(script->options[i].line, '\n') != NULL)
            return gwtf_error_set(error, GWTF_ERROR_USAGE,
                                  "'%.*s...' has a line break, which no option of sbatch can have: "
                                  "leave it out",
                                  (int)strcspn(script->options[i].line, "\n"),
                                  script->options[i].line);
    snprintf(path, sizeof path, "%s/%s", GWTF_SLURM, script->template_name);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MISSING,
                              "cannot open '%s': %s: is the source that this was built from gone?",
                              path, strerror(errno));
    while (fgets(line, sizeof line, file) != NULL)
        compose_line(script, line, &component, &begun, &over);
    fclose(file);
    return GWTF_OK;
}

gwtf_status gwtf_script_write(const struct gwtf_script *script, const char *path,
                              struct gwtf_error *error) {
    FILE *file = fopen(path, "w");
    bool good = file != NULL && fputs(script->text, file) >= 0;
    good = file != NULL && fclose(file) == 0 && good;
    if (good)
        return GWTF_OK;
    return gwtf_error_set(error, GWTF_ERROR_IO, "cannot write '%s': %s: check the path", path,
                          strerror(errno));
}
