/*
 * Files and directories, private to io: read whole, replaced whole, synced, hashed. Every error is
 * one line that names the file, the reason and what to do.
 */
#ifndef GWTF_IO_FILE_H
#define GWTF_IO_FILE_H

#include "share/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define GWTF_FILE_PATH_MAX 2048
#define GWTF_FILE_SHA256_MAX 65

/*
 * "cannot ACTION 'PATH': REASON: what to do" for the errno CODE. Returns GWTF_ERROR_MISSING for
 * ENOENT, GWTF_ERROR_MEMORY for ENOMEM, else GWTF_ERROR_IO.
 */
gwtf_status gwtf_file_error(struct gwtf_error *error, const char *action, const char *path,
                            int code);

/* What a user can do about CODE: "free some space" and the like; a constant. */
const char *gwtf_file_advice(int code);

/*
 * Reads PATH whole. *BYTES is the caller's to free, and a zero byte follows it. Errors: MISSING,
 * IO, MEMORY, and LIMIT when the file has more than MOST_BYTES.
 */
gwtf_status gwtf_file_read(const char *path, size_t most_bytes, char **bytes, size_t *size_bytes,
                           struct gwtf_error *error);

/*
 * Makes an empty file beside PATH under a name that no other process uses, "PATH.tmp-...", and puts
 * it into TEMPORARY (GWTF_FILE_PATH_MAX). *DESCRIPTOR is open for reading and writing, the
 * caller's.
 */
gwtf_status gwtf_file_temporary(const char *path, char *temporary, int *descriptor,
                                struct gwtf_error *error);

/* Is NAME one that gwtf_file_temporary made? */
bool gwtf_file_is_temporary(const char *name);

/* Syncs DESCRIPTOR, renames TEMPORARY to PATH, syncs the directory. DESCRIPTOR stays open. On
 * failure TEMPORARY is still there. */
gwtf_status gwtf_file_publish(int descriptor, const char *temporary, const char *path,
                              struct gwtf_error *error);

/*
 * Replaces PATH by BYTES: readers see the old content or the new one. DURABLE: synced to disk
 * before it returns.
 */
gwtf_status gwtf_file_replace(const char *path, const void *bytes, size_t size_bytes, bool durable,
                              struct gwtf_error *error);

/*
 * Appends BYTES to PATH by one write, after a line break when the last line there was cut. Errors:
 * IO; a half-written line may be left, which readers skip.
 */
gwtf_status gwtf_file_append_line(const char *path, const void *bytes, size_t size_bytes,
                                  struct gwtf_error *error);

/* Writes all bytes at OFFSET, over short writes and interrupts. Returns 0 or errno. */
int gwtf_file_write_at(int descriptor, const void *bytes, size_t size_bytes, uint64_t offset);

/* Reads SIZE_BYTES from the file's position on, fewer at its end only. Returns the number, or -1
 * with errno. */
int64_t gwtf_file_read_some(int descriptor, void *bytes, size_t size_bytes);

/* Makes PATH and what is missing above it. There already is good. */
gwtf_status gwtf_file_make_directories(const char *path, struct gwtf_error *error);

/* Removes a directory, the files in it, and one level of directories below. Absent is good. */
gwtf_status gwtf_file_remove_directory(const char *path, struct gwtf_error *error);

/* Syncs a directory, so that renames in it survive a power cut. */
gwtf_status gwtf_file_sync_directory(const char *path, struct gwtf_error *error);

/* Size and SHA-256 (64 hex digits) of a file. */
gwtf_status gwtf_file_sha256(const char *path, uint64_t *size_bytes,
                             char sha256[GWTF_FILE_SHA256_MAX], struct gwtf_error *error);

/* A running SHA-256. _create returns NULL without memory; _finish frees it. */
struct gwtf_sha256;
struct gwtf_sha256 *gwtf_sha256_create(void);
void gwtf_sha256_add(struct gwtf_sha256 *sha256, const void *bytes, size_t size_bytes);
void gwtf_sha256_finish(struct gwtf_sha256 *sha256, char text[GWTF_FILE_SHA256_MAX]);

/* Now, in UTC, as "2025-01-31T12:00:00.123Z". */
void gwtf_file_utc_now(char text[32]);

#endif
