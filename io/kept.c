#include "io/kept.h"

#include "io/hdf.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define GROUP "tokenizer"
#define FILE_BYTES_MOST ((hsize_t)256 << 20)
#define HEADER_BYTES 65536

/* In the order in which a tokenizer is given them. */
static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer.json",
                                    "tokenizer.model"};
#define NAMES (sizeof names / sizeof names[0])

static bool write_one(hid_t group, const struct gwtf_kept_file *kept) {
    hsize_t count = kept->size_bytes;
    hid_t space = H5Screate_simple(1, &count, NULL);
    hid_t dataset = H5Dcreate2(group, kept->name, H5T_NATIVE_UINT8, space, H5P_DEFAULT, H5P_DEFAULT,
                               H5P_DEFAULT);
    H5Sclose(space);
    bool good = dataset >= 0 && H5Dwrite(dataset, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT,
                                         kept->bytes) >= 0;
    if (dataset >= 0 && H5Dclose(dataset) < 0)
        good = false;
    return good;
}

bool gwtf_hdf_write_kept(hid_t file, const struct gwtf_kept *kept) {
    if (kept->count == 0)
        return true;
    hid_t group = H5Gcreate2(file, GROUP, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    bool good = group >= 0;
    for (size_t i = 0; i < kept->count && good; i++)
        good = write_one(group, &kept->files[i]);
    if (group >= 0 && H5Gclose(group) < 0)
        good = false;
    return good;
}

uint64_t gwtf_hdf_kept_space(const struct gwtf_kept *kept) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < kept->count; i++)
        bytes += kept->files[i].size_bytes + HEADER_BYTES;
    return bytes;
}

static gwtf_status no_memory(struct gwtf_error *error) {
    return gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for the tokenizer: free some");
}

/* The number of bytes of DATASET; false when it is no list of bytes, or longer than a tokenizer. */
static bool measure(hid_t dataset, hsize_t *count) {
    hid_t space = H5Dget_space(dataset), type = H5Dget_type(dataset);
    bool good = space >= 0 && type >= 0 && H5Sget_simple_extent_ndims(space) == 1 &&
                H5Sget_simple_extent_dims(space, count, NULL) == 1 && *count <= FILE_BYTES_MOST &&
                H5Tget_class(type) == H5T_INTEGER && H5Tget_size(type) == 1;
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    return good;
}

/* One byte longer, so that it is there for an empty file, too. */
static gwtf_status read_one(hid_t group, const char *name, struct gwtf_kept *kept,
                            struct gwtf_error *error) {
    hsize_t count = 0;
    char *bytes = NULL;
    gwtf_status status = GWTF_ERROR_CORRUPT;
    hid_t dataset = kept->count < GWTF_KEPT_MOST ? H5Dopen2(group, name, H5P_DEFAULT) : -1;
    if (dataset < 0)
        return status;
    if (measure(dataset, &count)) {
        bytes = calloc(1, (size_t)count + 1);
        status = bytes == NULL ? no_memory(error) : GWTF_OK;
        if (status == GWTF_OK && count > 0 &&
            H5Dread(dataset, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes) < 0)
            status = GWTF_ERROR_CORRUPT;
    }
    H5Dclose(dataset);
    if (status == GWTF_OK)
        kept->files[kept->count++] =
            (struct gwtf_kept_file){.name = name, .bytes = bytes, .size_bytes = (size_t)count};
    else
        free(bytes);
    return status;
}

static gwtf_status read_all(hid_t file, struct gwtf_kept *kept, struct gwtf_error *error) {
    if (H5Lexists(file, GROUP, H5P_DEFAULT) <= 0)
        return GWTF_OK;
    hid_t group = H5Gopen2(file, GROUP, H5P_DEFAULT);
    gwtf_status status = group >= 0 ? GWTF_OK : GWTF_ERROR_CORRUPT;
    for (size_t i = 0; i < NAMES && status == GWTF_OK; i++)
        if (H5Lexists(group, names[i], H5P_DEFAULT) > 0)
            status = read_one(group, names[i], kept, error);
    if (group >= 0)
        H5Gclose(group);
    return status;
}

gwtf_status gwtf_hdf_read_kept(hid_t file, const char *path, struct gwtf_kept *kept,
                               struct gwtf_error *error) {
    struct gwtf_kept made = {0};
    gwtf_status status = read_all(file, &made, error);
    if (status == GWTF_OK) {
        *kept = made;
        return GWTF_OK;
    }
    gwtf_kept_deinit(&made);
    if (status == GWTF_ERROR_CORRUPT)
        gwtf_error_set(error, status,
                       "'%s': the tokenizer in it cannot be read: make the file again", path);
    return status;
}

gwtf_status gwtf_kept_read(const char *path, struct gwtf_kept *kept, struct gwtf_error *error) {
    hid_t file;
    gwtf_status status = gwtf_hdf_open(path, &file, error);
    if (status != GWTF_OK)
        return status;
    status = gwtf_hdf_read_kept(file, path, kept, error);
    H5Fclose(file);
    return status;
}

gwtf_status gwtf_kept_copy(const struct gwtf_kept *from, struct gwtf_kept *kept,
                           struct gwtf_error *error) {
    struct gwtf_kept made = {0};
    for (size_t i = 0; i < from->count; i++) {
        char *bytes = calloc(1, from->files[i].size_bytes + 1);
        if (bytes == NULL) {
            gwtf_kept_deinit(&made);
            return no_memory(error);
        }
        memcpy(bytes, from->files[i].bytes, from->files[i].size_bytes);
        made.files[made.count] = from->files[i];
        made.files[made.count++].bytes = bytes;
    }
    *kept = made;
    return GWTF_OK;
}

void gwtf_kept_deinit(struct gwtf_kept *kept) {
    for (size_t i = 0; i < kept->count; i++)
        free((void *)(uintptr_t)kept->files[i].bytes);
    *kept = (struct gwtf_kept){0};
}
