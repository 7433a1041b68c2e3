#include "launcher/choose.h"

#include "share/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static bool holds(const char *directory, const char *name) {
    char path[2 * GWTF_SNAPSHOT_PATH_MAX];
    struct stat facts;
    snprintf(path, sizeof path, "%.*s/%s", GWTF_SNAPSHOT_PATH_MAX, directory, name);
    return stat(path, &facts) == 0;
}

static void warn_skipped(void *context, const char *line) {
    (void)context;
    gwtf_log(GWTF_LOG_WARNING, "%s", line);
}

/* The last part of PATH starts like a step's directory: a snapshot without manifest is told as
 * such, not searched for others. */
static bool looks_like_step(const char *path) {
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    size_t start = length;
    while (start > 0 && path[start - 1] != '/')
        start--;
    return strncmp(path + start, "step-", 5) == 0;
}

gwtf_status gwtf_choose_snapshot(const char *path, struct gwtf_snapshot_info *info,
                                 struct gwtf_error *error) {
    struct stat facts;
    if (stat(path, &facts) != 0)
        return gwtf_error_set(error, GWTF_ERROR_MISSING, "cannot open '%s': %s: check the path",
                              path, strerror(errno));
    if (!S_ISDIR(facts.st_mode))
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "'%s' is a file: give the directory of a snapshot or of a run", path);
    if (strlen(path) + strlen("/snapshots") >= GWTF_SNAPSHOT_PATH_MAX)
        return gwtf_error_set(error, GWTF_ERROR_USAGE, "'%s' is too long: give a shorter path",
                              path);
    if (holds(path, "manifest.cfg") || looks_like_step(path)) {
        gwtf_status status = gwtf_snapshot_verify(path, info, error);
        /* The directory is there, so what is missing is missing from the snapshot. */
        return status == GWTF_ERROR_MISSING ? GWTF_ERROR_CORRUPT : status;
    }
    char snapshots[GWTF_SNAPSHOT_PATH_MAX];
    snprintf(snapshots, sizeof snapshots, "%s/snapshots", path);
    if (holds(path, "snapshots"))
        return gwtf_snapshot_newest(snapshots, info, warn_skipped, NULL, error);
    gwtf_status status = gwtf_snapshot_newest(path, info, warn_skipped, NULL, error);
    if (status == GWTF_ERROR_MISSING)
        gwtf_error_set(error, status,
                       "'%s' is neither a snapshot nor a run with one: give a directory like "
                       "runs/small/snapshots/step-000100, or runs/small",
                       path);
    return status;
}
