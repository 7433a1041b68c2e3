/*
 * gwtf train --chaos SPEC: faults in few words, made into the lists `crashes` and `link_faults` of
 * the configuration.
 *
 *     SPEC  = FAULT { ";" FAULT }
 *     FAULT = WORD [ KEY "=" VALUE { "," KEY "=" VALUE } ]
 *     WORD  = "kill" | "stop" | "slow" | "cut" | "lossy"
 *
 * KEY is a key of an entry of the list, or `at` (seconds of training) or `for` (seconds that it
 * lasts). "kill" and "stop" that say no moment come every ten seconds, "slow" is 200 ms of latency.
 */
#ifndef GWTF_LAUNCHER_CHAOS_H
#define GWTF_LAUNCHER_CHAOS_H

#include "share/base/status.h"

#define GWTF_CHAOS_TEXT_MAX 8192

struct gwtf_chaos {
    /* Overrides for gwtf_config_load; "": none. */
    char crashes[GWTF_CHAOS_TEXT_MAX];
    char link_faults[GWTF_CHAOS_TEXT_MAX];
};

/* Errors: GWTF_ERROR_USAGE with the line for the user. Names and values of keys are left to whoever
 * reads the configuration. */
gwtf_status gwtf_chaos_parse(const char *spec, struct gwtf_chaos *chaos, struct gwtf_error *error);

#endif
