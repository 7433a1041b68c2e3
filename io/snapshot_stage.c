#include "io/snapshot_stage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_MAX_BYTES ((size_t)1 << 20)
#define ADVICE "use another snapshot, and remove this one"

gwtf_status gwtf_stage_copy_add(struct gwtf_stage_copy *copy, const char *name,
                                const struct gwtf_snapshot_tensor *shape) {
    struct gwtf_snapshot_tensor *tensor = &copy->tensors[copy->tensors_count];
    size_t floats = 0;
    *tensor = (struct gwtf_snapshot_tensor){.rank = shape->rank,
                                            .dims = {shape->dims[0], shape->dims[1]}};
    if (__builtin_mul_overflow(shape->dims[0], shape->dims[1], &floats) || floats == 0)
        return GWTF_ERROR_MEMORY;
    copy->tensors_count++;
    tensor->name = strdup(name);
    tensor->weights = calloc(floats, sizeof(float));
    tensor->first_moments = calloc(floats, sizeof(float));
    tensor->second_moments = calloc(floats, sizeof(float));
    return tensor->name != NULL && tensor->weights != NULL && tensor->first_moments != NULL &&
                   tensor->second_moments != NULL
               ? GWTF_OK
               : GWTF_ERROR_MEMORY;
}

void gwtf_stage_copy_deinit(struct gwtf_stage_copy *copy) {
    for (size_t i = 0; i < copy->tensors_count; i++) {
        free((char *)(uintptr_t)copy->tensors[i].name);
        free(copy->tensors[i].weights);
        free(copy->tensors[i].first_moments);
        free(copy->tensors[i].second_moments);
    }
    free(copy->tensors);
    free(copy->config);
    gwtf_kept_deinit(&copy->kept);
    *copy = (struct gwtf_stage_copy){0};
}

/* What the walk over a stage's tensors needs. */
struct walk {
    struct gwtf_stage_copy *copy;
    gwtf_status status;
};

static herr_t add_tensor(hid_t group, const char *name, const H5L_info_t *link, void *context) {
    (void)link;
    struct walk *walk = context;
    struct gwtf_snapshot_tensor shape = {.name = name};
    const char *type = "";
    hid_t dataset = H5Dopen2(group, name, H5P_DEFAULT);
    if (dataset < 0 || !gwtf_snapshot_shape_of(dataset, &shape.rank, shape.dims, &type))
        walk->status = GWTF_ERROR_CORRUPT;
    else
        walk->status = gwtf_stage_copy_add(walk->copy, name, &shape);
    if (dataset >= 0)
        H5Dclose(dataset);
    return walk->status == GWTF_OK ? 0 : 1;
}

/* The tensors under /weights in the model's order, without their values. */
static gwtf_status list_tensors(hid_t file, struct gwtf_stage_copy *copy) {
    H5G_info_t group_info;
    hid_t group = H5Gopen2(file, "weights", H5P_DEFAULT);
    if (group < 0)
        return GWTF_ERROR_CORRUPT;
    struct walk walk = {.copy = copy, .status = GWTF_ERROR_CORRUPT};
    if (H5Gget_info(group, &group_info) >= 0 && group_info.nlinks > 0) {
        copy->tensors = calloc((size_t)group_info.nlinks, sizeof *copy->tensors);
        walk.status = copy->tensors != NULL ? GWTF_OK : GWTF_ERROR_MEMORY;
    }
    if (walk.status == GWTF_OK &&
        H5Literate(group, H5_INDEX_CRT_ORDER, H5_ITER_INC, NULL, add_tensor, &walk) < 0)
        walk.status = GWTF_ERROR_CORRUPT;
    H5Gclose(group);
    return walk.status;
}

static gwtf_status read_facts(hid_t file, struct gwtf_stage_copy *copy) {
    copy->config = malloc(CONFIG_MAX_BYTES);
    if (copy->config == NULL)
        return GWTF_ERROR_MEMORY;
    bool good = gwtf_hdf_read_text(file, "run", copy->run, sizeof copy->run) &&
                gwtf_hdf_read_text(file, "config", copy->config, CONFIG_MAX_BYTES);
    (void)gwtf_hdf_read_real(file, "gradient_norm", &copy->gradient_norm);
    return good ? GWTF_OK : GWTF_ERROR_CORRUPT;
}

gwtf_status gwtf_stage_copy_read(const char *directory, uint32_t stage,
                                 struct gwtf_stage_copy *copy, struct gwtf_error *error) {
    struct gwtf_stage_copy made = {0};
    char path[GWTF_FILE_PATH_MAX];
    hid_t file;
    gwtf_status status =
        gwtf_snapshot_open_stage(directory, stage, &file, &made.header, path, error);
    if (status != GWTF_OK)
        return status;
    status = read_facts(file, &made);
    if (status == GWTF_OK)
        status = list_tensors(file, &made);
    if (status == GWTF_ERROR_MEMORY)
        gwtf_file_error(error, "read", path, ENOMEM);
    else if (status != GWTF_OK)
        gwtf_error_set(error, status, "'%s' is damaged: " ADVICE, path);
    if (status == GWTF_OK)
        status = gwtf_hdf_read_kept(file, path, &made.kept, error);
    for (size_t i = 0; i < made.tensors_count && status == GWTF_OK; i++)
        status = gwtf_snapshot_read_tensor(file, path, &made.tensors[i], error);
    H5Fclose(file);
    if (status == GWTF_OK)
        *copy = made;
    else
        gwtf_stage_copy_deinit(&made);
    return status;
}

gwtf_status gwtf_snapshot_config(const char *path, char **text, uint64_t *sequence,
                                 struct gwtf_error *error) {
    struct gwtf_stage_header header;
    char file_path[GWTF_FILE_PATH_MAX];
    hid_t file;
    gwtf_status status = gwtf_snapshot_open_stage(path, 0, &file, &header, file_path, error);
    if (status != GWTF_OK)
        return status;
    char *found = malloc(CONFIG_MAX_BYTES);
    if (found == NULL)
        status = gwtf_file_error(error, "read", file_path, ENOMEM);
    else if (!gwtf_hdf_read_text(file, "config", found, CONFIG_MAX_BYTES))
        status = gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                                "'%s' does not say its run's configuration: " ADVICE, file_path);
    H5Fclose(file);
    if (status == GWTF_OK && sequence != NULL)
        *sequence = header.sequence;
    if (status == GWTF_OK)
        *text = found;
    else
        free(found);
    return status;
}

gwtf_status gwtf_snapshot_tokenizer(const char *path, char name[64], struct gwtf_kept *kept,
                                    struct gwtf_error *error) {
    struct gwtf_stage_header header;
    char file_path[GWTF_FILE_PATH_MAX];
    hid_t file;
    gwtf_status status = gwtf_snapshot_open_stage(path, 0, &file, &header, file_path, error);
    if (status != GWTF_OK)
        return status;
    status = gwtf_hdf_read_kept(file, file_path, kept, error);
    H5Fclose(file);
    if (status == GWTF_OK)
        memcpy(name, header.tokenizer, sizeof header.tokenizer);
    return status;
}
