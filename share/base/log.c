#include "share/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048
#define TIME_BYTES 25 /* "2025-01-31T12:00:00.123Z " */

static enum gwtf_log_level log_level = GWTF_LOG_INFO;
static char log_name[64] = "gwtf";
static int log_file = -1;

void gwtf_log_set_level(enum gwtf_log_level level) {
    log_level = level;
}

void gwtf_log_set_name(const char *name) {
    snprintf(log_name, sizeof log_name, "%s", name);
}

void gwtf_log_set_file(int descriptor) {
    log_file = descriptor;
}

static void write_whole(int descriptor, const char *line, size_t length) {
    ssize_t written = write(descriptor, line, length);
    (void)written;
}

void gwtf_log(enum gwtf_log_level level, const char *format, ...) {
    if (level > log_level && log_file < 0)
        return;
    char line[TIME_BYTES + LINE_MAX_BYTES];
    struct timespec now;
    struct tm day;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &day);
    size_t second = strftime(line, TIME_BYTES, "%Y-%m-%dT%H:%M:%S", &day);
    snprintf(line + second, TIME_BYTES - second + 1, ".%03dZ ", (int)(now.tv_nsec / 1000000));
    char *text = line + TIME_BYTES;
    int start = snprintf(text, LINE_MAX_BYTES, "%s: %s", log_name,
                         level == GWTF_LOG_WARNING ? "warning: " : "");
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + start, LINE_MAX_BYTES - (size_t)start - 1, format, arguments);
    va_end(arguments);
    size_t length = strlen(text);
    text[length] = '\n';
    if (level <= log_level)
        write_whole(STDERR_FILENO, text, length + 1);
    if (log_file >= 0)
        write_whole(log_file, line, TIME_BYTES + length + 1);
}
