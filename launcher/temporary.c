#include "launcher/temporary.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Sockets live in it, and their paths are limited to a hundred bytes. */
#define PARENT_LENGTH_MAX 40

#define PREFIX "gwtf-"
#define SUFFIX "XXXXXX"
#define LOCK_NAME "owner"

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *where) {
    (void)status;
    (void)type;
    (void)where;
    remove(path);
    return 0;
}

static void remove_all(const char *path) {
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* The file has its name once it is locked, so that nobody finds it unlocked while it is in use. */
static int make_lock(const char *path) {
    char fresh[GWTF_TEMPORARY_MAX + 16], named[GWTF_TEMPORARY_MAX + 16];
    snprintf(fresh, sizeof fresh, "%s/%s.new", path, LOCK_NAME);
    snprintf(named, sizeof named, "%s/%s", path, LOCK_NAME);
    int lock = open(fresh, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (lock < 0 || (flock(lock, LOCK_EX | LOCK_NB) == 0 && rename(fresh, named) == 0))
        return lock;
    unlink(fresh);
    close(lock);
    return -1;
}

/* Where nobody lives who made PATH, nor anything that was started there. */
static void remove_abandoned(const char *path) {
    char name[GWTF_TEMPORARY_MAX + 16];
    struct stat facts;
    if (lstat(path, &facts) != 0 || !S_ISDIR(facts.st_mode) || facts.st_uid != geteuid())
        return;
    snprintf(name, sizeof name, "%s/%s", path, LOCK_NAME);
    int lock = open(name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (lock < 0)
        return;
    if (flock(lock, LOCK_EX | LOCK_NB) == 0)
        remove_all(path);
    close(lock);
}

static void sweep(const char *parent) {
    char path[GWTF_TEMPORARY_MAX];
    DIR *entries = opendir(parent);
    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;) {
        if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) != 0 ||
            strlen(entry->d_name) != strlen(PREFIX SUFFIX))
            continue;
        snprintf(path, sizeof path, "%s/%.*s", parent, (int)strlen(PREFIX SUFFIX), entry->d_name);
        remove_abandoned(path);
    }
    if (entries != NULL)
        closedir(entries);
}

gwtf_status gwtf_temporary_make(struct gwtf_temporary *temporary, struct gwtf_error *error) {
    const char *parent = getenv("TMPDIR");
    if (parent == NULL || parent[0] == '\0' || strlen(parent) > PARENT_LENGTH_MAX)
        parent = "/tmp";
    sweep(parent);
    temporary->lock = -1;
    snprintf(temporary->path, sizeof temporary->path, "%s/" PREFIX SUFFIX, parent);
    if (mkdtemp(temporary->path) == NULL) {
        temporary->path[0] = '\0';
        return gwtf_error_set(error, GWTF_ERROR_IO,
                              "cannot make a directory in '%s' (%s): set TMPDIR to one that works",
                              parent, strerror(errno));
    }
    temporary->lock = make_lock(temporary->path);
    return GWTF_OK;
}

void gwtf_temporary_remove(struct gwtf_temporary *temporary) {
    if (temporary->path[0] == '\0')
        return;
    remove_all(temporary->path);
    if (temporary->lock >= 0)
        close(temporary->lock);
    *temporary = (struct gwtf_temporary){.lock = -1};
}
