#include "io/snapshot.h"

#include "io/hdf.h"
#include "io/snapshot_stage.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ADVICE "use another snapshot, and remove this one"

bool gwtf_snapshot_shape_of(hid_t dataset, uint32_t *rank, uint64_t dims[2],
                            const char **type_name) {
    hid_t space = H5Dget_space(dataset), type = H5Dget_type(dataset);
    hsize_t found[2] = {0, 0};
    int count = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
    bool good = (count == 1 || count == 2) && type >= 0 && H5Tget_class(type) == H5T_FLOAT &&
                H5Sget_simple_extent_dims(space, found, NULL) == count;
    if (good) {
        *rank = (uint32_t)count;
        dims[0] = found[0];
        dims[1] = count == 2 ? found[1] : 1;
        size_t size = H5Tget_size(type);
        *type_name = size == 4   ? "float32"
                     : size == 8 ? "float64"
                     : size == 2 ? "float16"
                                 : "float";
    }
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    return good;
}

/* Fills VALUES from GROUP/NAME. Errors: MISSING, CORRUPT. */
static gwtf_status read_tensor(hid_t file, const char *path, const char *group,
                               const struct gwtf_snapshot_tensor *tensor, float *values,
                               struct gwtf_error *error) {
    char name[512];
    snprintf(name, sizeof name, "%s/%s", group, tensor->name);
    hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
    if (dataset < 0)
        return gwtf_error_set(error, GWTF_ERROR_MISSING, "'%s' has no /%s: " ADVICE, path, name);
    uint32_t rank = 0;
    uint64_t dims[2] = {0, 0};
    const char *type = "";
    gwtf_status status = GWTF_OK;
    if (!gwtf_snapshot_shape_of(dataset, &rank, dims, &type) || strcmp(type, "float32") != 0)
        status = gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                                "/%s in '%s' is no float32 tensor: " ADVICE, name, path);
    else if (rank != tensor->rank || dims[0] != tensor->dims[0] ||
             (rank == 2 && dims[1] != tensor->dims[1]))
        status = gwtf_error_set(
            error, GWTF_ERROR_CORRUPT,
            "/%s in '%s' has the shape %" PRIu64 " x %" PRIu64 " instead of %" PRIu64 " x %" PRIu64
            ": use a snapshot of the same model",
            name, path, dims[0], dims[1], tensor->dims[0], tensor->rank == 2 ? tensor->dims[1] : 1);
    else if (H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0)
        status = gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                                "/%s in '%s' cannot be read, it is damaged: " ADVICE, name, path);
    H5Dclose(dataset);
    return status;
}

gwtf_status gwtf_snapshot_read_tensor(hid_t file, const char *path,
                                      struct gwtf_snapshot_tensor *tensor,
                                      struct gwtf_error *error) {
    gwtf_status status = read_tensor(file, path, "weights", tensor, tensor->weights, error);
    if (status == GWTF_OK && tensor->first_moments != NULL)
        status = read_tensor(file, path, "optimizer/m", tensor, tensor->first_moments, error);
    if (status == GWTF_OK && tensor->second_moments != NULL)
        status = read_tensor(file, path, "optimizer/v", tensor, tensor->second_moments, error);
    return status;
}

/* Takes from one stage file what is in it. */
static gwtf_status load_stage(const char *directory, uint32_t stage,
                              struct gwtf_snapshot_tensor *tensors, size_t tensors_count,
                              bool *done, struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    hid_t file;
    gwtf_snapshot_stage_path(directory, stage, path);
    gwtf_status status = gwtf_hdf_open(path, &file, error);
    if (status != GWTF_OK)
        return status;
    hid_t weights = H5Gopen2(file, "weights", H5P_DEFAULT);
    if (weights < 0)
        status =
            gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                           "'%s' is no stage of a snapshot, it has no /weights: " ADVICE, path);
    for (size_t i = 0; i < tensors_count && status == GWTF_OK; i++) {
        if (done[i] || H5Lexists(weights, tensors[i].name, H5P_DEFAULT) <= 0)
            continue;
        status = gwtf_snapshot_read_tensor(file, path, &tensors[i], error);
        done[i] = true;
    }
    if (weights >= 0)
        H5Gclose(weights);
    H5Fclose(file);
    return status;
}

gwtf_status gwtf_snapshot_load(const char *path, struct gwtf_snapshot_tensor *tensors,
                               size_t tensors_count, struct gwtf_error *error) {
    struct gwtf_manifest manifest;
    gwtf_status status = gwtf_manifest_read(path, &manifest, error);
    if (status != GWTF_OK)
        return status;
    bool *done = calloc(tensors_count + 1, sizeof *done);
    if (done == NULL)
        status = gwtf_file_error(error, "read", path, ENOMEM);
    for (uint32_t stage = 0; stage <= manifest.stages && status == GWTF_OK; stage++)
        status = load_stage(path, stage, tensors, tensors_count, done, error);
    for (size_t i = 0; i < tensors_count && status == GWTF_OK; i++)
        if (!done[i])
            status =
                gwtf_error_set(error, GWTF_ERROR_MISSING,
                               "no stage of '%s' has the tensor %s: use a snapshot of the same "
                               "model",
                               path, tensors[i].name);
    free(done);
    gwtf_manifest_deinit(&manifest);
    return status;
}

/* What the walk over a stage's tensors needs. */
struct walk {
    const char *path;
    uint32_t stage;
    void (*visit)(void *context, const struct gwtf_snapshot_tensor_summary *);
    void *context;
    gwtf_status status;
    struct gwtf_error *error;
};

static void measure(const float *values, uint64_t count,
                    struct gwtf_snapshot_tensor_summary *summary) {
    double sum = 0, squares = 0, largest = 0;
    for (uint64_t i = 0; i < count; i++) {
        double magnitude = fabs((double)values[i]);
        sum += (double)values[i];
        /* Written so that a value that is no number stays to be seen. */
        largest = magnitude <= largest || isnan(largest) ? largest : magnitude;
    }
    summary->mean = sum / (double)count;
    for (uint64_t i = 0; i < count; i++) {
        double apart = (double)values[i] - summary->mean;
        squares += apart * apart;
    }
    summary->deviation = sqrt(squares / (double)count);
    summary->largest = largest;
}

static herr_t visit_tensor(hid_t group, const char *name, const H5L_info_t *link, void *context) {
    (void)link;
    struct walk *walk = context;
    struct gwtf_snapshot_tensor_summary summary = {.name = name, .stage = walk->stage};
    hid_t dataset = H5Dopen2(group, name, H5P_DEFAULT);
    uint64_t count = 0;
    float *values = NULL;
    if (dataset < 0 ||
        !gwtf_snapshot_shape_of(dataset, &summary.rank, summary.dims, &summary.type) ||
        __builtin_mul_overflow(summary.dims[0], summary.dims[1], &count) || count == 0 ||
        count > SIZE_MAX / sizeof *values) {
        walk->status =
            gwtf_error_set(walk->error, GWTF_ERROR_CORRUPT,
                           "/weights/%s in '%s' is no tensor: " ADVICE, name, walk->path);
    } else if ((values = malloc(count * sizeof *values)) == NULL) {
        walk->status = gwtf_file_error(walk->error, "read", walk->path, ENOMEM);
    } else if (H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0) {
        walk->status = gwtf_error_set(walk->error, GWTF_ERROR_CORRUPT,
                                      "/weights/%s in '%s' cannot be read, it is damaged: " ADVICE,
                                      name, walk->path);
    } else {
        measure(values, count, &summary);
        walk->visit(walk->context, &summary);
    }
    free(values);
    if (dataset >= 0)
        H5Dclose(dataset);
    return walk->status == GWTF_OK ? 0 : 1;
}

gwtf_status gwtf_snapshot_summarise(const char *path,
                                    void (*visit)(void *context,
                                                  const struct gwtf_snapshot_tensor_summary *),
                                    void *context, struct gwtf_error *error) {
    struct gwtf_snapshot_info info;
    gwtf_status status = gwtf_snapshot_verify(path, &info, error);
    for (uint32_t stage = 0; status == GWTF_OK && stage <= info.stages; stage++) {
        char file_path[GWTF_FILE_PATH_MAX];
        hid_t file;
        gwtf_snapshot_stage_path(path, stage, file_path);
        status = gwtf_hdf_open(file_path, &file, error);
        if (status != GWTF_OK)
            return status;
        struct walk walk = {
            .path = file_path, .stage = stage, .visit = visit, .context = context, .error = error};
        hid_t group = H5Gopen2(file, "weights", H5P_DEFAULT);
        /* Groups of another program may not remember the order of creation. */
        if (group < 0 ||
            (H5Literate(group, H5_INDEX_CRT_ORDER, H5_ITER_INC, NULL, visit_tensor, &walk) < 0 &&
             H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_tensor, &walk) < 0))
            walk.status = gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                                         "/weights in '%s' cannot be read: " ADVICE, file_path);
        status = walk.status;
        if (group >= 0)
            H5Gclose(group);
        H5Fclose(file);
    }
    return status;
}
