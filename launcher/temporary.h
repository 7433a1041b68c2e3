/* A directory for the sockets and session files of one start of mpirun, and of it alone. */
#ifndef GWTF_LAUNCHER_TEMPORARY_H
#define GWTF_LAUNCHER_TEMPORARY_H

#include "share/base/status.h"

#define GWTF_TEMPORARY_MAX 64

/* Makes one under TMPDIR, or under /tmp when that is too long. Errors: GWTF_ERROR_IO. */
gwtf_status gwtf_temporary_make(char path[GWTF_TEMPORARY_MAX], struct gwtf_error *error);

/* With all that is in it. Nothing happens when PATH is "". */
void gwtf_temporary_remove(const char *path);

#endif
