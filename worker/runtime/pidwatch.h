/*
 * Peers on this machine, watched by the system: a process that dies is known at once, whatever MPI
 * makes of it. Linux 5.3 and later; elsewhere nobody is watched, and silence has to tell.
 */
#ifndef GWTF_WORKER_RUNTIME_PIDWATCH_H
#define GWTF_WORKER_RUNTIME_PIDWATCH_H

#include "share/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

typedef struct gwtf_pidwatch gwtf_pidwatch;

/* Peers are 0..peers-1, none of them watched. Errors: GWTF_ERROR_MEMORY; WATCH untouched. */
gwtf_status gwtf_pidwatch_create(size_t peers, gwtf_pidwatch **watch);
void gwtf_pidwatch_destroy(gwtf_pidwatch *watch); /* NULL is allowed */

/* PEER is process PID of this machine. Ignored when that is not there, or runs another program than
 * this process: then the number means another process here than where it came from. */
void gwtf_pidwatch_add(gwtf_pidwatch *watch, size_t peer, pid_t pid);

/* The next peer that has ended, each once; false when there is none. */
bool gwtf_pidwatch_next(gwtf_pidwatch *watch, size_t *peer);

#endif
