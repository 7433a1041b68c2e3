/*
 * The files of a tokenizer as token files and stage 0 of snapshots keep them: datasets of bytes
 * under /tokenizer, with the names that transformers gives the files.
 */
#ifndef GWTF_IO_KEPT_H
#define GWTF_IO_KEPT_H

#include "share/base/status.h"

#include <stddef.h>

#define GWTF_KEPT_MOST 2

struct gwtf_kept_file {
    const char *name; /* "vocab.json", "merges.txt", "tokenizer.json", "tokenizer.model" */
    const char *bytes;
    size_t size_bytes;
};

struct gwtf_kept {
    size_t count;
    struct gwtf_kept_file files[GWTF_KEPT_MOST];
};

/*
 * Reads what the HDF5 file at PATH keeps; COUNT is 0 when it keeps nothing. KEPT is the caller's to
 * _deinit. Errors: MISSING, IO, CORRUPT (no HDF5 file, a damaged one, files that belong to no
 * tokenizer together), MEMORY; KEPT is untouched then.
 */
gwtf_status gwtf_kept_read(const char *path, struct gwtf_kept *kept, struct gwtf_error *error);

/* A copy in memory of its own. Errors: MEMORY. */
gwtf_status gwtf_kept_copy(const struct gwtf_kept *from, struct gwtf_kept *kept,
                           struct gwtf_error *error);
void gwtf_kept_deinit(struct gwtf_kept *kept); /* zeros are allowed */

#endif
