/*
 * Lines for people, on stderr. A line is written whole by one call, so that lines of several
 * threads and processes do not mix. Pure code (flow, worker/protocol) never logs.
 */
#ifndef GWTF_SHARE_BASE_LOG_H
#define GWTF_SHARE_BASE_LOG_H

#include <stdbool.h>

enum gwtf_log_level { GWTF_LOG_ERROR, GWTF_LOG_WARNING, GWTF_LOG_INFO, GWTF_LOG_DEBUG };

/* Lines above LEVEL are dropped. The start value is GWTF_LOG_INFO. Set it before threads start. */
void gwtf_log_set_level(enum gwtf_log_level level);

/* Who speaks: "gwtf" at first, "gwtf: node 3" in a worker. Cut at 63 characters. Set it before
 * threads start. */
void gwtf_log_set_name(const char *name);

/* Every line, whatever its level, goes to the file DESCRIPTOR too, with the time in UTC before it;
 * -1: to none. Set it before threads start. */
void gwtf_log_set_file(int descriptor);

/* "NAME: text", for errors also what to do: gwtf_log(GWTF_LOG_ERROR, "cannot open '%s': check the
 * path", path). */
void gwtf_log(enum gwtf_log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
