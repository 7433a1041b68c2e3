#include "io/hdf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Writes a scalar attribute of TYPE. */
static bool write_attribute(hid_t object, const char *name, hid_t type, const void *value) {
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool good = attribute >= 0 && H5Awrite(attribute, type, value) >= 0;
    if (attribute >= 0 && H5Aclose(attribute) < 0)
        good = false;
    H5Sclose(space);
    return good;
}

/* Of variable length: h5py gives such strings as str, and they may be longer than an object's
 * header, which ends at 64 KiB. */
bool gwtf_hdf_write_text(hid_t object, const char *name, const char *text) {
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    bool good = write_attribute(object, name, type, &text);
    H5Tclose(type);
    return good;
}

bool gwtf_hdf_write_number(hid_t object, const char *name, uint64_t number) {
    return write_attribute(object, name, H5T_NATIVE_UINT64, &number);
}

bool gwtf_hdf_write_real(hid_t object, const char *name, double real) {
    return write_attribute(object, name, H5T_NATIVE_DOUBLE, &real);
}

/* Opens a scalar attribute, and its type; false when there is none. */
static bool open_attribute(hid_t object, const char *name, hid_t *attribute, hid_t *type) {
    if (H5Aexists(object, name) <= 0)
        return false;
    hid_t opened = H5Aopen(object, name, H5P_DEFAULT);
    if (opened < 0)
        return false;
    hid_t space = H5Aget_space(opened);
    bool scalar = space >= 0 && H5Sget_simple_extent_npoints(space) == 1;
    if (space >= 0)
        H5Sclose(space);
    hid_t found = scalar ? H5Aget_type(opened) : -1;
    if (found < 0) {
        H5Aclose(opened);
        return false;
    }
    *attribute = opened;
    *type = found;
    return true;
}

/* A string of variable length, as h5py writes them. */
static bool read_variable(hid_t attribute, hid_t type, char *text, size_t size) {
    char *found = NULL;
    if (H5Aread(attribute, type, &found) < 0 || found == NULL)
        return false;
    bool fits = strlen(found) < size;
    if (fits)
        snprintf(text, size, "%s", found);
    H5free_memory(found);
    return fits;
}

static bool read_fixed(hid_t attribute, hid_t type, char *text, size_t size) {
    size_t length = H5Tget_size(type);
    char *found = length > 0 && length < ((size_t)1 << 24) ? calloc(1, length + 1) : NULL;
    if (found == NULL)
        return false;
    bool good = H5Aread(attribute, type, found) >= 0 && strlen(found) < size;
    if (good)
        snprintf(text, size, "%s", found);
    free(found);
    return good;
}

bool gwtf_hdf_read_text(hid_t object, const char *name, char *text, size_t size) {
    hid_t attribute, type;
    if (!open_attribute(object, name, &attribute, &type))
        return false;
    bool good = false;
    if (H5Tget_class(type) == H5T_STRING)
        good = H5Tis_variable_str(type) > 0 ? read_variable(attribute, type, text, size)
                                            : read_fixed(attribute, type, text, size);
    H5Tclose(type);
    H5Aclose(attribute);
    return good;
}

bool gwtf_hdf_read_number(hid_t object, const char *name, uint64_t *number) {
    hid_t attribute, type;
    if (!open_attribute(object, name, &attribute, &type))
        return false;
    int64_t found = -1;
    bool good = H5Tget_class(type) == H5T_INTEGER &&
                H5Aread(attribute, H5T_NATIVE_INT64, &found) >= 0 && found >= 0;
    if (good)
        *number = (uint64_t)found;
    H5Tclose(type);
    H5Aclose(attribute);
    return good;
}

bool gwtf_hdf_read_real(hid_t object, const char *name, double *real) {
    hid_t attribute, type;
    if (!open_attribute(object, name, &attribute, &type))
        return false;
    double found = 0;
    bool good =
        H5Tget_class(type) == H5T_FLOAT && H5Aread(attribute, H5T_NATIVE_DOUBLE, &found) >= 0;
    if (good)
        *real = found;
    H5Tclose(type);
    H5Aclose(attribute);
    return good;
}
