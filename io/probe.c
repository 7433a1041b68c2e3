#include "io/probe.h"

#include "io/hdf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Numbers of statfs(2), and of Lustre's own documentation. */
static const char *name_of(uint64_t type) {
    static const struct {
        uint64_t type;
        const char *name;
    } known[] = {
        {0xef53, "ext4"},      {0x58465342, "xfs"},     {0x9123683e, "btrfs"},
        {0x01021994, "tmpfs"}, {0x6969, "nfs"},         {0xbd00bd0, "lustre"},
        {0x47504653, "gpfs"},  {0x794c7630, "overlay"}, {0x19830326, "beegfs"},
        {0xc36400, "ceph"},    {0x2fc12fc1, "zfs"},     {0xff534d42, "cifs"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].type == type)
            return known[i].name;
    return NULL;
}

static gwtf_status look_at_space(const char *directory, struct gwtf_probe *probe,
                                 struct gwtf_error *error) {
    struct statvfs space;
    struct statfs facts;
    if (statvfs(directory, &space) != 0 || statfs(directory, &facts) != 0)
        return gwtf_file_error(error, "open", directory, errno);
    uint64_t type = (uint64_t)facts.f_type & UINT32_MAX;
    probe->free_bytes = (uint64_t)space.f_bavail * space.f_frsize;
    if (name_of(type) != NULL)
        snprintf(probe->file_system, sizeof probe->file_system, "%s", name_of(type));
    else
        snprintf(probe->file_system, sizeof probe->file_system, "type 0x%" PRIx64, type);
    return GWTF_OK;
}

static gwtf_status try_lock(const char *path, struct gwtf_probe *probe, struct gwtf_error *error) {
    char temporary[GWTF_FILE_PATH_MAX];
    int descriptor;
    gwtf_status status = gwtf_file_temporary(path, temporary, &descriptor, error);
    if (status != GWTF_OK)
        return status;
    probe->locks = flock(descriptor, LOCK_EX | LOCK_NB) == 0;
    close(descriptor);
    unlink(temporary);
    return GWTF_OK;
}

static gwtf_status try_hdf(const char *path, struct gwtf_error *error) {
    struct gwtf_hdf_new made;
    hid_t file;
    gwtf_status status = gwtf_hdf_create(path, 1 << 16, &made, error);
    if (status != GWTF_OK)
        return status;
    if (!gwtf_hdf_write_number(made.file, "probe", 1))
        status = gwtf_hdf_error(error, GWTF_ERROR_IO, "write", path, NULL);
    if (status == GWTF_OK)
        status = gwtf_hdf_close(&made, path, error);
    if (status == GWTF_OK)
        status = gwtf_hdf_publish(&made, path, error);
    gwtf_hdf_abandon(&made);
    if (status == GWTF_OK) {
        uint64_t number = 0;
        status = gwtf_hdf_open(path, &file, error);
        if (status == GWTF_OK) {
            if (!gwtf_hdf_read_number(file, "probe", &number) || number != 1)
                status = gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                                        "'%s' reads back other than it was written: check the disk",
                                        path);
            H5Fclose(file);
        }
    }
    unlink(path);
    return status;
}

gwtf_status gwtf_probe_directory(const char *directory, struct gwtf_probe *probe,
                                 struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX], host[64] = "";
    unsigned major = 0, minor = 0, release = 0;
    gethostname(host, sizeof host - 1);
    int length =
        snprintf(path, sizeof path, "%s/.gwtf-probe-%s-%ld", directory, host, (long)getpid());
    if (length >= (int)sizeof path)
        return gwtf_file_error(error, "write", directory, ENAMETOOLONG);
    memset(probe, 0, sizeof *probe);
    gwtf_hdf_start();
    H5get_libversion(&major, &minor, &release);
    snprintf(probe->hdf5_version, sizeof probe->hdf5_version, "%u.%u.%u", major, minor, release);
    gwtf_status status = look_at_space(directory, probe, error);
    if (status == GWTF_OK)
        status = try_lock(path, probe, error);
    if (status == GWTF_OK)
        status = try_hdf(path, error);
    return status;
}
