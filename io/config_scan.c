#include "io/config_scan.h"

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct scan {
    const char *at;
    char *out;
    unsigned line;
    const char *name;
    struct gwtf_error *error;
};

static void copy(struct scan *scan, size_t count) {
    for (; count > 0; count--) {
        scan->line += *scan->at == '\n';
        *scan->out++ = *scan->at++;
    }
}

/* A line break inside is nearly always a forgotten quotation mark, which would otherwise be noticed
 * many lines later. */
static gwtf_status scan_string(struct scan *scan) {
    copy(scan, 1);
    while (*scan->at != '"') {
        if (*scan->at == '\0' || *scan->at == '\n' || (scan->at[0] == '\\' && scan->at[1] == '\0'))
            return gwtf_error_set(
                scan->error, GWTF_ERROR_USAGE,
                "%s:%u: a string never ends on its line: add the closing quotation "
                "mark, and write line breaks as \\n",
                scan->name, scan->line);
        copy(scan, *scan->at == '\\' && scan->at[1] != '\n' ? 2 : 1);
    }
    copy(scan, 1);
    return GWTF_OK;
}

static gwtf_status scan_comment(struct scan *scan) {
    if (*scan->at == '#' || scan->at[1] == '/') {
        copy(scan, strcspn(scan->at, "\n"));
        return GWTF_OK;
    }
    const char *end = strstr(scan->at + 2, "*/");
    if (end == NULL)
        return gwtf_error_set(scan->error, GWTF_ERROR_USAGE,
                              "%s:%u: the comment that starts here never ends: add */", scan->name,
                              scan->line);
    copy(scan, (size_t)(end + 2 - scan->at));
    return GWTF_OK;
}

static gwtf_status scan_number(struct scan *scan) {
    const char *start = scan->at;
    int hexadecimal = start[0] == '0' && (start[1] == 'x' || start[1] == 'X');
    size_t digits =
        hexadecimal ? 2 + strspn(start + 2, "0123456789abcdefABCDEF") : strspn(start, "0123456789");
    if (!hexadecimal && strchr(".eE", start[digits]) != NULL && start[digits] != '\0') {
        copy(scan, strspn(start, "0123456789.eE+-"));
        return GWTF_OK;
    }
    errno = 0;
    uint64_t value = strtoull(start, NULL, hexadecimal ? 16 : 10);
    if (errno == ERANGE || value > INT64_MAX)
        return gwtf_error_set(scan->error, GWTF_ERROR_USAGE,
                              "%s:%u: the number %.*s is too large: give one below 2^63",
                              scan->name, scan->line, (int)(digits < 80 ? digits : 80), start);
    copy(scan, digits);
    if (*scan->at == 'L')
        copy(scan, strspn(scan->at, "L"));
    else if (value > INT32_MAX)
        *scan->out++ = 'L';
    return GWTF_OK;
}

gwtf_status gwtf_config_scan(const char *text, const char *name, char **scanned,
                             struct gwtf_error *error) {
    /* A suffix needs ten digits before it: this room is ample. */
    char *out = malloc(2 * strlen(text) + 1);
    if (out == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "%s: no memory: free some", name);
    struct scan scan = {.at = text, .out = out, .line = 1, .name = name, .error = error};
    gwtf_status status = GWTF_OK;
    while (*scan.at != '\0' && status == GWTF_OK) {
        unsigned char c = (unsigned char)*scan.at;
        if (c == '"')
            status = scan_string(&scan);
        else if (c == '#' || (c == '/' && (scan.at[1] == '/' || scan.at[1] == '*')))
            status = scan_comment(&scan);
        else if (isdigit(c))
            status = scan_number(&scan);
        else if (c == '.')
            copy(&scan, 1 + strspn(scan.at + 1, "0123456789eE+-"));
        else if (isalpha(c) || c == '*' || c == '_')
            copy(&scan, strspn(scan.at, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                        "0123456789-_*"));
        else if (c == '@')
            status = gwtf_error_set(error, GWTF_ERROR_USAGE,
                                    "%s:%u: @include is not supported: put the keys into this file",
                                    name, scan.line);
        else
            copy(&scan, 1);
    }
    *scan.out = '\0';
    if (status == GWTF_OK)
        *scanned = out;
    else
        free(out);
    return status;
}
