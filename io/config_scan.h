/* What libconfig lets pass and should not, private to io. */
#ifndef GWTF_IO_CONFIG_SCAN_H
#define GWTF_IO_CONFIG_SCAN_H

#include "share/base/status.h"

#include <stddef.h>

/*
 * Reads the text as libconfig's scanner would, and refuses what libconfig would take silently or
 * explain badly: whole numbers beyond 64 bits, a string that does not end on its line, a comment
 * that never ends, @include (messages would name the wrong file). Whole numbers beyond 32 bits get
 * the suffix L, without which libconfig 1.5 wraps them. *SCANNED is the caller's to free; lines
 * stay where they are. Errors: GWTF_ERROR_USAGE with "NAME:LINE: ...", GWTF_ERROR_MEMORY.
 */
gwtf_status gwtf_config_scan(const char *text, const char *name, char **scanned,
                             struct gwtf_error *error);

#endif
