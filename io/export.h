/* A snapshot as a directory that other programs load. */
#ifndef GWTF_IO_EXPORT_H
#define GWTF_IO_EXPORT_H

#include "io/kept.h"
#include "io/safetensors.h"

#include <stdbool.h>

#define GWTF_EXPORT_WEIGHTS "model.safetensors"

/*
 * Writes the weights of the snapshot at SNAPSHOT and beside them FILES (NAME NULL ends them) to
 * DIRECTORY, which is there whole or not at all: it is made under another name, synced and renamed.
 * With REPLACE a DIRECTORY that is there is replaced if all that it holds has names of KNOWN (NULL
 * ends them) or of the weights, so that nothing of somebody else's is removed. Errors:
 * GWTF_ERROR_USAGE when DIRECTORY is there and may not be replaced; as of
 * gwtf_safetensors_write_snapshot, GWTF_ERROR_MISSING when there is nothing that it could lie in.
 */
gwtf_status gwtf_export_write(const char *snapshot, const char *directory, bool replace,
                              const struct gwtf_kept_file *files, const char *const *known,
                              struct gwtf_safetensors_facts *facts, struct gwtf_error *error);

#endif
