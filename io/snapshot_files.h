/* Names and manifest of a snapshot, private to io. */
#ifndef GWTF_IO_SNAPSHOT_FILES_H
#define GWTF_IO_SNAPSHOT_FILES_H

#include "io/file.h"
#include "io/snapshot.h"

#define GWTF_SNAPSHOT_FORMAT "gwtf-snapshot"
#define GWTF_SNAPSHOT_VERSION 1
#define GWTF_SNAPSHOT_STAGES_MAX 4096

/* SNAPSHOTS/step-000050; SNAPSHOTS/rest-000057; DIRECTORY/stage-03.h5; DIRECTORY/manifest.cfg.
 * Errors: IO when the path is too long. */
gwtf_status gwtf_snapshot_directory(const char *snapshots, uint64_t step,
                                    char path[GWTF_SNAPSHOT_PATH_MAX], struct gwtf_error *error);
gwtf_status gwtf_snapshot_rest_directory(const char *snapshots, uint64_t step,
                                         char path[GWTF_SNAPSHOT_PATH_MAX],
                                         struct gwtf_error *error);
void gwtf_snapshot_stage_path(const char *directory, uint32_t stage, char path[GWTF_FILE_PATH_MAX]);
void gwtf_snapshot_manifest_path(const char *directory, char path[GWTF_FILE_PATH_MAX]);

struct gwtf_manifest {
    uint64_t step;
    uint32_t stages;                  /* relay stages: there is one file more */
    struct gwtf_snapshot_file *files; /* by stage */
};

/*
 * Reads the manifest in DIRECTORY. It must be, byte for byte, what would be written for its
 * content, so that no damage passes. MANIFEST is the caller's to _deinit. Errors: MISSING when it
 * is not there, CORRUPT, IO, MEMORY, UNSUPPORTED (a newer version).
 */
gwtf_status gwtf_manifest_read(const char *directory, struct gwtf_manifest *manifest,
                               struct gwtf_error *error);
void gwtf_manifest_deinit(struct gwtf_manifest *manifest);

/* The manifest as text; the caller frees. Errors: MEMORY. */
gwtf_status gwtf_manifest_text(const struct gwtf_manifest *manifest, char **text);

/* The steps that have a directory "step-...", or "rest-...", under SNAPSHOTS, the newest first; the
 * caller frees. Errors: MISSING, IO, MEMORY. */
gwtf_status gwtf_snapshot_steps(const char *snapshots, uint64_t **steps, size_t *steps_count,
                                struct gwtf_error *error);
gwtf_status gwtf_snapshot_rest_steps(const char *snapshots, uint64_t **steps, size_t *steps_count,
                                     struct gwtf_error *error);

#endif
