#include "io/export.h"

#include "io/file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_MAX_BYTES 64
#define TRIES 1000

static bool is_known(const char *name, const char *const *known) {
    for (size_t i = 0; known[i] != NULL; i++)
        if (strcmp(name, known[i]) == 0)
            return true;
    return strcmp(name, GWTF_EXPORT_WEIGHTS) == 0 || strcmp(name, ".") == 0 ||
           strcmp(name, "..") == 0;
}

/* PATH is there: may it be replaced? */
static gwtf_status check_old(const char *path, const struct stat *facts, bool replace,
                             const char *const *known, struct gwtf_error *error) {
    if (!replace)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "'%s' is there already: give another directory, or --force to "
                              "replace it",
                              path);
    if (!S_ISDIR(facts->st_mode))
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "'%s' is not a directory: give one that is to be made", path);
    DIR *directory = opendir(path);
    if (directory == NULL)
        return gwtf_file_error(error, "open", path, errno);
    gwtf_status status = GWTF_OK;
    for (struct dirent *entry; status == GWTF_OK && (entry = readdir(directory)) != NULL;)
        if (!is_known(entry->d_name, known))
            status = gwtf_error_set(error, GWTF_ERROR_USAGE,
                                    "'%.600s' holds '%.200s', which is of no export: give another "
                                    "directory, or remove it yourself",
                                    path, entry->d_name);
    closedir(directory);
    return status;
}

/* PATH.tmp-PID-N, which was not there and now is an empty directory; with MAKE false it is not
 * made. */
static gwtf_status make_beside(const char *path, bool make, char beside[GWTF_FILE_PATH_MAX],
                               struct gwtf_error *error) {
    for (int i = 0; i < TRIES; i++) {
        struct stat facts;
        if (snprintf(beside, GWTF_FILE_PATH_MAX, "%s.tmp-%ld-%d", path, (long)getpid(), i) >=
            GWTF_FILE_PATH_MAX)
            return gwtf_error_set(error, GWTF_ERROR_USAGE, "the path '%.600s...' is too long",
                                  path);
        if (make ? mkdir(beside, 0777) == 0 : lstat(beside, &facts) != 0 && errno == ENOENT)
            return GWTF_OK;
        if (make && errno != EEXIST)
            break;
    }
    return gwtf_file_error(error, "make", path, errno);
}

static gwtf_status fill(const char *snapshot, const char *directory,
                        const struct gwtf_kept_file *files, struct gwtf_safetensors_facts *facts,
                        struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX + NAME_MAX_BYTES];
    snprintf(path, sizeof path, "%s/%s", directory, GWTF_EXPORT_WEIGHTS);
    gwtf_status status = gwtf_safetensors_write_snapshot(snapshot, path, facts, error);
    for (size_t i = 0; files[i].name != NULL && status == GWTF_OK; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, files[i].name);
        status = gwtf_file_replace(path, files[i].bytes, files[i].size_bytes, true, error);
    }
    if (status == GWTF_OK)
        status = gwtf_file_sync_directory(directory, error);
    return status;
}

/* MADE becomes PATH; what was there goes. */
static gwtf_status put_in_place(const char *made, const char *path, bool there,
                                struct gwtf_error *error) {
    char old[GWTF_FILE_PATH_MAX];
    gwtf_status status = GWTF_OK;
    if (there) {
        status = make_beside(path, false, old, error);
        if (status == GWTF_OK && rename(path, old) != 0)
            status = gwtf_file_error(error, "replace", path, errno);
    }
    if (status != GWTF_OK)
        return status;
    if (rename(made, path) != 0) {
        status = gwtf_file_error(error, "make", path, errno);
        if (there)
            (void)rename(old, path);
        return status;
    }
    return there ? gwtf_file_remove_directory(old, error) : GWTF_OK;
}

gwtf_status gwtf_export_write(const char *snapshot, const char *directory, bool replace,
                              const struct gwtf_kept_file *files, const char *const *known,
                              struct gwtf_safetensors_facts *facts, struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX], made[GWTF_FILE_PATH_MAX];
    size_t length = strlen(directory);
    struct stat old;
    while (length > 1 && directory[length - 1] == '/')
        length--;
    if (length == 0 || length + 2 * NAME_MAX_BYTES >= sizeof path)
        return gwtf_file_error(error, "make", directory, length == 0 ? ENOENT : ENAMETOOLONG);
    snprintf(path, sizeof path, "%.*s", (int)length, directory);
    bool there = lstat(path, &old) == 0;
    gwtf_status status = there ? check_old(path, &old, replace, known, error) : GWTF_OK;
    if (status == GWTF_OK)
        status = make_beside(path, true, made, error);
    if (status != GWTF_OK)
        return status;
    status = fill(snapshot, made, files, facts, error);
    if (status == GWTF_OK)
        status = put_in_place(made, path, there, error);
    if (status != GWTF_OK)
        (void)gwtf_file_remove_directory(made, NULL);
    return status;
}
