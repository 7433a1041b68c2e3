/*
 * What io needs from HDF5, private to io: the library made quiet, its reason for a failure as a
 * line, attributes, and files that are made without the library ever meeting a full disk.
 */
#ifndef GWTF_IO_HDF_H
#define GWTF_IO_HDF_H

#include "io/file.h"
#include "io/kept.h"

#include <hdf5.h>

/*
 * First in every function that uses HDF5: silences its error printing (in this thread, where the
 * library counts by threads), and turns file locking off before the first open, since network
 * file systems often have none; a user's own HDF5_USE_FILE_LOCKING stays.
 */
void gwtf_hdf_start(void);

/* "cannot ACTION 'PATH': REASON: ADVICE", with HDF5's own reason for the last failure. Returns
 * STATUS. ADVICE NULL: goes by the reason. */
gwtf_status gwtf_hdf_error(struct gwtf_error *error, gwtf_status status, const char *action,
                           const char *path, const char *advice);

/* Opens PATH for reading. Errors: MISSING, IO, CORRUPT when it is no HDF5 file or a damaged one. */
gwtf_status gwtf_hdf_open(const char *path, hid_t *file, struct gwtf_error *error);

/* A file in the making. */
struct gwtf_hdf_new {
    hid_t file; /* below 0 when closed */
    int descriptor;
    char temporary[GWTF_FILE_PATH_MAX];
};

/*
 * Makes a temporary file beside PATH with RESERVE_BYTES of disk set aside for it. HDF5 cannot give
 * up a file that it fails to write: it crashes when the process ends. So the space is taken before
 * the library sees the file. Errors: MISSING (no such directory), IO (disk full, no
 * permission), MEMORY; nothing is left then.
 */
gwtf_status gwtf_hdf_create(const char *path, uint64_t reserve_bytes, struct gwtf_hdf_new *made,
                            struct gwtf_error *error);

/* Closes the HDF5 file; the descriptor stays open. Errors: IO. */
gwtf_status gwtf_hdf_close(struct gwtf_hdf_new *made, const char *path, struct gwtf_error *error);

/* Syncs, renames to PATH, and lets go of everything. After a failure nothing is left. */
gwtf_status gwtf_hdf_publish(struct gwtf_hdf_new *made, const char *path, struct gwtf_error *error);

/* Lets go of everything and removes the temporary file. Fine after a failure, and twice. */
void gwtf_hdf_abandon(struct gwtf_hdf_new *made);

/* Attributes of OBJECT. _write returns false on failure. _read returns false when it is not there,
 * of another type, or longer than SIZE; strings of fixed and of variable length are read. */
bool gwtf_hdf_write_text(hid_t object, const char *name, const char *text);
bool gwtf_hdf_write_number(hid_t object, const char *name, uint64_t number);
bool gwtf_hdf_write_real(hid_t object, const char *name, double real);
bool gwtf_hdf_read_text(hid_t object, const char *name, char *text, size_t size);
bool gwtf_hdf_read_number(hid_t object, const char *name, uint64_t *number);
bool gwtf_hdf_read_real(hid_t object, const char *name, double *real);

/* The files of kept.h in FILE, at PATH. _write returns false on failure; _space is more than they
 * take. Errors: CORRUPT, MEMORY; KEPT is untouched then. */
bool gwtf_hdf_write_kept(hid_t file, const struct gwtf_kept *kept);
uint64_t gwtf_hdf_kept_space(const struct gwtf_kept *kept);
gwtf_status gwtf_hdf_read_kept(hid_t file, const char *path, struct gwtf_kept *kept,
                               struct gwtf_error *error);

#endif
