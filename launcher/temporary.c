#include "launcher/temporary.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Sockets live in it, and their paths are limited to a hundred bytes. */
#define PARENT_LENGTH_MAX 40

gwtf_status gwtf_temporary_make(char path[GWTF_TEMPORARY_MAX], struct gwtf_error *error) {
    const char *parent = getenv("TMPDIR");
    if (parent == NULL || parent[0] == '\0' || strlen(parent) > PARENT_LENGTH_MAX)
        parent = "/tmp";
    snprintf(path, GWTF_TEMPORARY_MAX, "%s/gwtf-XXXXXX", parent);
    if (mkdtemp(path) == NULL) {
        path[0] = '\0';
        return gwtf_error_set(error, GWTF_ERROR_IO,
                              "cannot make a directory in '%s' (%s): set TMPDIR to one that works",
                              parent, strerror(errno));
    }
    return GWTF_OK;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *where) {
    (void)status;
    (void)type;
    (void)where;
    remove(path);
    return 0;
}

void gwtf_temporary_remove(const char *path) {
    if (path[0] != '\0')
        nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}
