/*
 * Ctrl+C and its kin, as a count that a loop looks at: the first asks, the second insists.
 *
 * The signals are blocked in every thread and taken by one of their own: code that computes is
 * never interrupted. (Measured: with a handler, a SIGINT that came while oneDNN 2.6's generated
 * kernels ran left a damaged heap behind.)
 */
#ifndef GWTF_LAUNCHER_SIGNALS_H
#define GWTF_LAUNCHER_SIGNALS_H

#include "share/base/status.h"

#include <stdbool.h>

/* What a person is told at the first, on stderr: stdout may be for a program. */
#define GWTF_STOPPING_WORDS                                                                        \
    "stopping: finishing this iteration and writing a snapshot (once more to stop at once)\n"

/*
 * Counts SIGINT, SIGTERM, SIGHUP and SIGUSR1 from now on; number LAST ends this process at once
 * with exit code 1. SIGPIPE counts too, but once only; and SIGTERM and SIGUSR1 ask and never
 * insist: a batch system may send them to a script and to all that it started, so that they come
 * twice. At the first, WORDS (may be NULL) are written to stderr. Call it before any other thread
 * is made. Errors: GWTF_ERROR_MEMORY when the thread cannot be made.
 */
gwtf_status gwtf_signals_watch(int last, const char *words);

/* How many have come. */
int gwtf_signals_count(void);

/* True when SIGUSR1 was among them: the batch system says that the time is nearly over. */
bool gwtf_signals_noticed(void);

/* In a child, before exec: signals as they were before _watch. */
void gwtf_signals_restore(void);

#endif
