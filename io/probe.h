/* What a directory's file system can do for a run: tried, not guessed. */
#ifndef GWTF_IO_PROBE_H
#define GWTF_IO_PROBE_H

#include "share/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gwtf_probe {
    uint64_t free_bytes;   /* for this user */
    char file_system[32];  /* "ext4", "nfs", "lustre", ..., or its number */
    bool locks;            /* flock works there; a run's own lock needs it */
    char hdf5_version[16]; /* of the library */
};

/*
 * Writes, syncs, locks, reopens and removes files in DIRECTORY, which is there: a plain one and an
 * HDF5 one. Errors: GWTF_ERROR_IO, GWTF_ERROR_MISSING, GWTF_ERROR_CORRUPT with the line for the
 * user; nothing is left behind.
 */
gwtf_status gwtf_probe_directory(const char *directory, struct gwtf_probe *probe,
                                 struct gwtf_error *error);

#endif
