#include "io/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEMPORARY_MARK ".tmp-"

const char *gwtf_file_advice(int code) {
    switch (code) {
    case ENOSPC:
    case EDQUOT:
        return "free some space, or choose another place";
    case EFBIG:
        return "raise the limit on file sizes (ulimit -f)";
    case EACCES:
    case EPERM:
        return "check the permissions";
    case EROFS:
        return "choose a place that can be written";
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case ENAMETOOLONG:
    case ELOOP:
        return "check the path";
    case EMFILE:
    case ENFILE:
        return "raise the limit on open files (ulimit -n)";
    case ENOMEM:
        return "free some memory";
    default:
        return "check the disk";
    }
}

gwtf_status gwtf_file_error(struct gwtf_error *error, const char *action, const char *path,
                            int code) {
    gwtf_status status = code == ENOENT   ? GWTF_ERROR_MISSING
                         : code == ENOMEM ? GWTF_ERROR_MEMORY
                                          : GWTF_ERROR_IO;
    return gwtf_error_set(error, status, "cannot %s '%s': %s: %s", action, path, strerror(code),
                          gwtf_file_advice(code));
}

int64_t gwtf_file_read_some(int descriptor, void *bytes, size_t size_bytes) {
    size_t done = 0;
    while (done < size_bytes) {
        ssize_t got = read(descriptor, (char *)bytes + done, size_bytes - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (int64_t)done;
}

int gwtf_file_write_at(int descriptor, const void *bytes, size_t size_bytes, uint64_t offset) {
    size_t done = 0;
    while (done < size_bytes) {
        ssize_t put = pwrite(descriptor, (const char *)bytes + done, size_bytes - done,
                             (off_t)(offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return errno;
        done += (size_t)put;
    }
    return 0;
}

gwtf_status gwtf_file_read(const char *path, size_t most_bytes, char **bytes, size_t *size_bytes,
                           struct gwtf_error *error) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return gwtf_file_error(error, "open", path, errno);
    gwtf_status status = GWTF_OK;
    char *buffer = NULL;
    struct stat facts;
    if (fstat(descriptor, &facts) != 0) {
        status = gwtf_file_error(error, "read", path, errno);
    } else if (S_ISDIR(facts.st_mode)) {
        status = gwtf_file_error(error, "read", path, EISDIR);
    } else if (facts.st_size > 0 && (uint64_t)facts.st_size > most_bytes) {
        status = gwtf_error_set(error, GWTF_ERROR_LIMIT,
                                "'%s' has %lld bytes, more than the %zu that are read: check that "
                                "it is the right file",
                                path, (long long)facts.st_size, most_bytes);
    } else {
        /* The size may be 0 for a pipe: room for all that may come. */
        size_t room = facts.st_size > 0 ? (size_t)facts.st_size : most_bytes;
        buffer = malloc(room + 1);
        int64_t got = buffer == NULL ? -1 : gwtf_file_read_some(descriptor, buffer, room);
        if (got < 0) {
            status = gwtf_file_error(error, "read", path, buffer == NULL ? ENOMEM : errno);
        } else {
            buffer[got] = '\0';
            *bytes = buffer;
            *size_bytes = (size_t)got;
            buffer = NULL;
        }
    }
    free(buffer);
    close(descriptor);
    return status;
}

gwtf_status gwtf_file_temporary(const char *path, char *temporary, int *descriptor,
                                struct gwtf_error *error) {
    static atomic_uint counter;
    for (int attempt = 0; attempt < 100; attempt++) {
        int length =
            snprintf(temporary, GWTF_FILE_PATH_MAX, "%s" TEMPORARY_MARK "%ld-%u", path,
                     (long)getpid(), atomic_fetch_add_explicit(&counter, 1, memory_order_relaxed));
        if (length >= GWTF_FILE_PATH_MAX)
            return gwtf_file_error(error, "write", path, ENAMETOOLONG);
        /* Exclusive, since a process on another host may have the same number. */
        int opened = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (opened >= 0) {
            *descriptor = opened;
            return GWTF_OK;
        }
        if (errno != EEXIST)
            return gwtf_file_error(error, "write", path, errno);
    }
    return gwtf_file_error(error, "write", path, EEXIST);
}

bool gwtf_file_is_temporary(const char *name) {
    return strstr(name, TEMPORARY_MARK) != NULL;
}

/* The directory that PATH lies in. */
static void directory_of(const char *path, char directory[GWTF_FILE_PATH_MAX]) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        snprintf(directory, GWTF_FILE_PATH_MAX, ".");
    else if (slash == path)
        snprintf(directory, GWTF_FILE_PATH_MAX, "/");
    else
        snprintf(directory, GWTF_FILE_PATH_MAX, "%.*s", (int)(slash - path), path);
}

gwtf_status gwtf_file_sync_directory(const char *path, struct gwtf_error *error) {
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return gwtf_file_error(error, "open", path, errno);
    /* Some network file systems cannot sync a directory, and say EINVAL: nothing is lost by it. */
    int code = fsync(descriptor) != 0 && errno != EINVAL ? errno : 0;
    close(descriptor);
    return code == 0 ? GWTF_OK : gwtf_file_error(error, "sync", path, code);
}

gwtf_status gwtf_file_publish(int descriptor, const char *temporary, const char *path,
                              struct gwtf_error *error) {
    if (fsync(descriptor) != 0)
        return gwtf_file_error(error, "sync", path, errno);
    if (rename(temporary, path) != 0)
        return gwtf_file_error(error, "write", path, errno);
    char directory[GWTF_FILE_PATH_MAX];
    directory_of(path, directory);
    return gwtf_file_sync_directory(directory, error);
}

gwtf_status gwtf_file_replace(const char *path, const void *bytes, size_t size_bytes, bool durable,
                              struct gwtf_error *error) {
    char temporary[GWTF_FILE_PATH_MAX];
    int descriptor = -1;
    gwtf_status status = gwtf_file_temporary(path, temporary, &descriptor, error);
    if (status != GWTF_OK)
        return status;
    int code = gwtf_file_write_at(descriptor, bytes, size_bytes, 0);
    if (code != 0)
        status = gwtf_file_error(error, "write", path, code);
    else if (durable)
        status = gwtf_file_publish(descriptor, temporary, path, error);
    else if (rename(temporary, path) != 0)
        status = gwtf_file_error(error, "write", path, errno);
    close(descriptor);
    if (status != GWTF_OK)
        unlink(temporary);
    return status;
}

gwtf_status gwtf_file_append_line(const char *path, const void *bytes, size_t size_bytes,
                                  struct gwtf_error *error) {
    int descriptor = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor < 0)
        return gwtf_file_error(error, "write", path, errno);
    gwtf_status status = GWTF_OK;
    char *line = malloc(size_bytes + 1);
    if (line == NULL) {
        status = gwtf_file_error(error, "write", path, ENOMEM);
    } else {
        struct stat facts;
        char last = '\n';
        if (fstat(descriptor, &facts) == 0 && facts.st_size > 0 &&
            pread(descriptor, &last, 1, facts.st_size - 1) != 1)
            last = '\n';
        size_t start = last != '\n';
        line[0] = '\n';
        memcpy(line + start, bytes, size_bytes);
        ssize_t put = write(descriptor, line, start + size_bytes);
        if (put < 0)
            status = gwtf_file_error(error, "write", path, errno);
        else if ((size_t)put != start + size_bytes)
            status = gwtf_file_error(error, "write", path, ENOSPC);
        free(line);
    }
    close(descriptor);
    return status;
}

gwtf_status gwtf_file_make_directories(const char *path, struct gwtf_error *error) {
    char part[GWTF_FILE_PATH_MAX];
    int length = snprintf(part, sizeof part, "%s", path);
    if (length <= 0 || length >= (int)sizeof part)
        return gwtf_file_error(error, "make the directory", path,
                               length <= 0 ? ENOENT : ENAMETOOLONG);
    for (char *at = part + 1;; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char kept = *at;
        *at = '\0';
        int code = mkdir(part, 0777) != 0 ? errno : 0;
        struct stat facts;
        if (code == EEXIST && (stat(part, &facts) != 0 || !S_ISDIR(facts.st_mode)))
            return gwtf_file_error(error, "make the directory", path, ENOTDIR);
        if (code != 0 && code != EEXIST)
            return gwtf_file_error(error, "make the directory", path, code);
        *at = kept;
        if (kept == '\0')
            return GWTF_OK;
    }
}

/* Removes what is in the directory PATH: files, and directories down to DEPTH levels. */
static int remove_content(const char *path, int depth) {
    DIR *directory = opendir(path);
    if (directory == NULL)
        return errno;
    int code = 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char child[GWTF_FILE_PATH_MAX];
        if (snprintf(child, sizeof child, "%s/%s", path, entry->d_name) >= (int)sizeof child) {
            code = ENAMETOOLONG;
            continue;
        }
        if (unlink(child) == 0)
            continue;
        int child_code = errno;
        if ((child_code == EISDIR || child_code == EPERM) && depth > 0) {
            child_code = remove_content(child, depth - 1);
            if (child_code == 0 && rmdir(child) != 0)
                child_code = errno;
        }
        if (child_code != 0 && child_code != ENOENT)
            code = child_code;
    }
    closedir(directory);
    return code;
}

gwtf_status gwtf_file_remove_directory(const char *path, struct gwtf_error *error) {
    int code = remove_content(path, 1);
    if (code == 0 && rmdir(path) != 0)
        code = errno;
    if (code == 0 || code == ENOENT)
        return GWTF_OK;
    return gwtf_file_error(error, "remove", path, code);
}

void gwtf_file_utc_now(char text[32]) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm parts;
    gmtime_r(&now.tv_sec, &parts);
    size_t length = strftime(text, 32, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text + length, 32 - length, ".%03dZ", (int)(now.tv_nsec / 1000000 % 1000));
}
