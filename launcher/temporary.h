/* A directory for the sockets and session files of one start of mpirun, and of it alone. */
#ifndef GWTF_LAUNCHER_TEMPORARY_H
#define GWTF_LAUNCHER_TEMPORARY_H

#include "share/base/status.h"

#define GWTF_TEMPORARY_MAX 64

/* The TMPDIR that a user has set, for what mpirun starts: its own TMPDIR is such a directory. */
#define GWTF_TEMPORARY_PARENT_VARIABLE "GWTF_TMPDIR"

struct gwtf_temporary {
    char path[GWTF_TEMPORARY_MAX]; /* "": there is none */
    int lock; /* kept by this process and all that it starts; -1: the file system has no locks */
};

/*
 * Makes one under TMPDIR, or under /tmp when that is too long. Those beside it that this user's
 * former processes have left there, since they were killed, are removed: nobody holds their locks
 * any more. Errors: GWTF_ERROR_IO; PATH is "" then.
 */
gwtf_status gwtf_temporary_make(struct gwtf_temporary *temporary, struct gwtf_error *error);

/* With all that is in it. Nothing happens when there is none. */
void gwtf_temporary_remove(struct gwtf_temporary *temporary);

#endif
