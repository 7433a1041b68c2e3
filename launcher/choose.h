/* Which snapshot a user means. */
#ifndef GWTF_LAUNCHER_CHOOSE_H
#define GWTF_LAUNCHER_CHOOSE_H

#include "io/snapshot.h"

/*
 * Finds and verifies the snapshot that PATH names: a step's directory, or a run's or its
 * "snapshots", of which the newest whole one is taken; newer ones that are not whole are warned of.
 * Errors as of gwtf_snapshot_verify, and GWTF_ERROR_USAGE when PATH is a file.
 */
gwtf_status gwtf_choose_snapshot(const char *path, struct gwtf_snapshot_info *info,
                                 struct gwtf_error *error);

#endif
