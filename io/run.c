/* A run's directory as a whole: made, recognised, configured, asked, locked. */
#include "io/run.h"

#include "io/file.h"
#include "share/base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

gwtf_status gwtf_run_create(const char *directory, struct gwtf_error *error) {
    static const char *const parts[] = {"nodes", "snapshots", "requests", "logs"};
    gwtf_status status = gwtf_file_make_directories(directory, error);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && status == GWTF_OK; i++) {
        char path[GWTF_FILE_PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", directory, parts[i]);
        status = gwtf_file_make_directories(path, error);
    }
    return status == GWTF_ERROR_MISSING ? GWTF_ERROR_IO : status;
}

static bool holds(const char *directory, const char *name) {
    char path[GWTF_FILE_PATH_MAX];
    struct stat facts;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return stat(path, &facts) == 0;
}

bool gwtf_run_exists(const char *directory) {
    return holds(directory, "config.cfg") &&
           (holds(directory, "metrics.jsonl") || holds(directory, "events.jsonl"));
}

gwtf_status gwtf_run_write_config(const char *directory, const char *text,
                                  struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    snprintf(path, sizeof path, "%s/config.cfg", directory);
    return gwtf_file_replace(path, text, strlen(text), true, error);
}

/* NAME comes from the program, never from a user. */
static void request_path(const char *directory, const char *name, char path[GWTF_FILE_PATH_MAX]) {
    GWTF_ASSERT(*name != '\0' && *name != '.' && strchr(name, '/') == NULL);
    snprintf(path, GWTF_FILE_PATH_MAX, "%s/requests/%s", directory, name);
}

gwtf_status gwtf_run_request(const char *directory, const char *name, struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    request_path(directory, name, path);
    int descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor < 0)
        return gwtf_file_error(error, "write", path, errno);
    close(descriptor);
    return GWTF_OK;
}

bool gwtf_run_requested(const char *directory, const char *name) {
    char path[GWTF_FILE_PATH_MAX];
    request_path(directory, name, path);
    return access(path, F_OK) == 0;
}

void gwtf_run_clear_request(const char *directory, const char *name) {
    char path[GWTF_FILE_PATH_MAX];
    request_path(directory, name, path);
    unlink(path);
}

static void leave_name(gwtf_node_id node, char name[32]) {
    snprintf(name, 32, "leave-%" PRIu32, node);
}

gwtf_status gwtf_run_request_leave(const char *directory, gwtf_node_id node,
                                   const struct gwtf_leave *leave, struct gwtf_error *error) {
    char name[32], path[GWTF_FILE_PATH_MAX], text[64];
    leave_name(node, name);
    request_path(directory, name, path);
    int length = snprintf(text, sizeof text, "%.3f %" PRIu32 "\n", leave->notice_s, leave->stage);
    return gwtf_file_replace(path, text, (size_t)length, false, error);
}

bool gwtf_run_leave_requested(const char *directory, gwtf_node_id node, struct gwtf_leave *leave) {
    char name[32], path[GWTF_FILE_PATH_MAX], *text = NULL;
    size_t size = 0;
    leave_name(node, name);
    request_path(directory, name, path);
    if (access(path, F_OK) != 0 || gwtf_file_read(path, 64, &text, &size, NULL) != GWTF_OK)
        return false;
    bool good =
        sscanf(text, "%lf %" SCNu32, &leave->notice_s, &leave->stage) == 2 && leave->notice_s >= 0;
    free(text);
    return good;
}

void gwtf_run_clear_leave(const char *directory, gwtf_node_id node) {
    char name[32];
    leave_name(node, name);
    gwtf_run_clear_request(directory, name);
}

/* The line that the holder of a lock left: "process 123 on host uni1". */
static void read_holder(int descriptor, char *holder, size_t size) {
    ssize_t got = pread(descriptor, holder, size - 1, 0);
    holder[got > 0 ? got : 0] = '\0';
    holder[strcspn(holder, "\n")] = '\0';
    if (*holder == '\0')
        snprintf(holder, size, "another process");
}

gwtf_status gwtf_run_lock(const char *directory, int *lock, struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    snprintf(path, sizeof path, "%s/lock", directory);
    int descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor < 0)
        return gwtf_file_error(error, "open", path, errno);
    char holder[384];
    if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
        int code = errno;
        read_holder(descriptor, holder, sizeof holder);
        close(descriptor);
        if (code != EWOULDBLOCK)
            return gwtf_file_error(error, "lock", path, code);
        return gwtf_error_set(
            error, GWTF_ERROR_USAGE,
            "'%s' is being trained by %s: wait for it, stop it, or choose another "
            "run.directory",
            directory, holder);
    }
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    int length = snprintf(holder, sizeof holder, "process %ld on host %s\n", (long)getpid(), host);
    /* Only a message for others hangs on these two. */
    if (ftruncate(descriptor, 0) != 0 || pwrite(descriptor, holder, (size_t)length, 0) != length)
        errno = 0;
    *lock = descriptor;
    return GWTF_OK;
}

void gwtf_run_unlock(int lock) {
    if (lock >= 0)
        close(lock);
}
