#include "io/hdf.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static pthread_once_t locking_once = PTHREAD_ONCE_INIT;

static void turn_locking_off(void) {
    setenv("HDF5_USE_FILE_LOCKING", "FALSE", 0);
}

void gwtf_hdf_start(void) {
    pthread_once(&locking_once, turn_locking_off);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

/* What the error stack says: the deepest entry, and the errno that it may carry. */
struct reason {
    char text[256];
    int code;
};

static herr_t take_reason(unsigned depth, const H5E_error2_t *entry, void *context) {
    struct reason *reason = context;
    if (depth == 0 && entry->desc != NULL) {
        snprintf(reason->text, sizeof reason->text, "%s", entry->desc);
        const char *mark = strstr(entry->desc, "errno = ");
        if (mark != NULL)
            reason->code = (int)strtol(mark + strlen("errno = "), NULL, 10);
    }
    return 0;
}

static struct reason find_reason(void) {
    struct reason reason = {.text = "HDF5 gives no reason"};
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_reason, &reason);
    if (reason.code != 0)
        snprintf(reason.text, sizeof reason.text, "%s", strerror(reason.code));
    return reason;
}

gwtf_status gwtf_hdf_error(struct gwtf_error *error, gwtf_status status, const char *action,
                           const char *path, const char *advice) {
    struct reason reason = find_reason();
    if (advice == NULL || reason.code != 0)
        advice = gwtf_file_advice(reason.code);
    return gwtf_error_set(error, status, "cannot %s '%s': %s: %s", action, path, reason.text,
                          advice);
}

gwtf_status gwtf_hdf_open(const char *path, hid_t *file, struct gwtf_error *error) {
    gwtf_hdf_start();
    struct stat facts;
    if (stat(path, &facts) != 0 || access(path, R_OK) != 0)
        return gwtf_file_error(error, "open", path, errno);
    if (!S_ISREG(facts.st_mode))
        return gwtf_error_set(error, GWTF_ERROR_IO,
                              "cannot open '%s': it is not a file: check the path", path);
    if (H5Fis_hdf5(path) <= 0)
        return gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                              "'%s' is not an HDF5 file, or its start is damaged: check the path, "
                              "or make it again",
                              path);
    hid_t opened = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (opened < 0)
        return gwtf_hdf_error(error, GWTF_ERROR_CORRUPT, "open", path,
                              "it is cut or damaged, make it again");
    *file = opened;
    return GWTF_OK;
}

/* The bytes of an HDF5 file with nothing in it, made in memory. Returns their number, 0 without
 * memory. */
static size_t empty_file(char **bytes) {
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fapl_core(access, 65536, 0);
    hid_t file = H5Fcreate("gwtf-empty.h5", H5F_ACC_TRUNC, H5P_DEFAULT, access);
    H5Pclose(access);
    if (file < 0)
        return 0;
    H5Fflush(file, H5F_SCOPE_GLOBAL);
    ssize_t size = H5Fget_file_image(file, NULL, 0);
    char *image = size > 0 ? malloc((size_t)size) : NULL;
    if (image != NULL && H5Fget_file_image(file, image, (size_t)size) != size) {
        free(image);
        image = NULL;
    }
    H5Fclose(file);
    *bytes = image;
    return image == NULL ? 0 : (size_t)size;
}

/* Takes disk space for the file, without changing its size. Returns 0 or errno. */
static int reserve(int descriptor, uint64_t bytes) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        bytes > limit.rlim_cur)
        return EFBIG;
    if (fallocate(descriptor, FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes) == 0)
        return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)
        return errno;
    /* A file system that cannot reserve at least says how much is free now. */
    struct statvfs space;
    if (fstatvfs(descriptor, &space) == 0 && space.f_blocks > 0 &&
        bytes / space.f_frsize >= space.f_bavail)
        return ENOSPC;
    return 0;
}

gwtf_status gwtf_hdf_create(const char *path, uint64_t reserve_bytes, struct gwtf_hdf_new *made,
                            struct gwtf_error *error) {
    gwtf_hdf_start();
    made->file = -1;
    made->descriptor = -1;
    char *bytes = NULL;
    size_t size = empty_file(&bytes);
    if (size == 0)
        return gwtf_file_error(error, "write", path, ENOMEM);
    gwtf_status status = gwtf_file_temporary(path, made->temporary, &made->descriptor, error);
    if (status != GWTF_OK) {
        free(bytes);
        return status;
    }
    int code = reserve(made->descriptor, reserve_bytes + size);
    if (code == 0)
        code = gwtf_file_write_at(made->descriptor, bytes, size, 0);
    free(bytes);
    if (code != 0)
        status = gwtf_file_error(error, "write", path, code);
    else if ((made->file = H5Fopen(made->temporary, H5F_ACC_RDWR, H5P_DEFAULT)) < 0)
        status = gwtf_hdf_error(error, GWTF_ERROR_IO, "write", path, NULL);
    if (status != GWTF_OK)
        gwtf_hdf_abandon(made);
    return status;
}

/*
 * Points the library's descriptor at an anonymous file in memory, so that its last writes succeed
 * and it lets go of the file; otherwise it would keep it open, and crash when the process ends.
 */
static void divert(hid_t file) {
    int *descriptor = NULL;
    if (H5Fget_vfd_handle(file, H5P_DEFAULT, (void **)&descriptor) < 0 || descriptor == NULL)
        return;
    int memory = memfd_create("gwtf-abandoned", MFD_CLOEXEC);
    if (memory >= 0) {
        dup2(memory, *descriptor);
        close(memory);
    }
}

gwtf_status gwtf_hdf_close(struct gwtf_hdf_new *made, const char *path, struct gwtf_error *error) {
    if (H5Fflush(made->file, H5F_SCOPE_GLOBAL) < 0) {
        gwtf_status status = gwtf_hdf_error(error, GWTF_ERROR_IO, "write", path, NULL);
        gwtf_hdf_abandon(made);
        return status;
    }
    herr_t closed = H5Fclose(made->file);
    made->file = -1;
    if (closed >= 0)
        return GWTF_OK;
    gwtf_status status = gwtf_hdf_error(error, GWTF_ERROR_IO, "write", path, NULL);
    gwtf_hdf_abandon(made);
    return status;
}

gwtf_status gwtf_hdf_publish(struct gwtf_hdf_new *made, const char *path,
                             struct gwtf_error *error) {
    /* What was reserved and not used goes back. */
    struct stat facts;
    gwtf_status status = GWTF_OK;
    if (fstat(made->descriptor, &facts) != 0 || ftruncate(made->descriptor, facts.st_size) != 0)
        status = gwtf_file_error(error, "write", path, errno);
    if (status == GWTF_OK)
        status = gwtf_file_publish(made->descriptor, made->temporary, path, error);
    if (status != GWTF_OK) {
        gwtf_hdf_abandon(made);
        return status;
    }
    close(made->descriptor);
    made->descriptor = -1;
    return GWTF_OK;
}

void gwtf_hdf_abandon(struct gwtf_hdf_new *made) {
    if (made->file >= 0) {
        divert(made->file);
        H5Fclose(made->file);
        made->file = -1;
    }
    if (made->descriptor >= 0) {
        close(made->descriptor);
        made->descriptor = -1;
        unlink(made->temporary);
    }
}
