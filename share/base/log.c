#include "share/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048

static enum gwtf_log_level log_level = GWTF_LOG_INFO;
static char log_name[64] = "gwtf";

void gwtf_log_set_level(enum gwtf_log_level level) {
    log_level = level;
}

void gwtf_log_set_name(const char *name) {
    snprintf(log_name, sizeof log_name, "%s", name);
}

void gwtf_log(enum gwtf_log_level level, const char *format, ...) {
    if (level > log_level)
        return;
    char line[LINE_MAX_BYTES];
    int start = snprintf(line, sizeof line, "%s: %s", log_name,
                         level == GWTF_LOG_WARNING ? "warning: " : "");
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line + start, sizeof line - (size_t)start - 1, format, arguments);
    va_end(arguments);
    size_t length = strlen(line);
    line[length] = '\n';
    ssize_t written = write(STDERR_FILENO, line, length + 1);
    (void)written;
}
