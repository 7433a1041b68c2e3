#include "io/safetensors.h"

#include "io/hdf.h"
#include "io/snapshot_stage.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ADVICE "use another snapshot, and remove this one"

/* What stands where: tensor after tensor, stage after stage. */
struct place {
    char *name;
    uint32_t stage;
    uint32_t rank;
    uint64_t dims[2];
    uint64_t start; /* bytes from the end of the header */
    uint64_t floats;
};

struct layout {
    struct place *places;
    size_t count, room;
    uint64_t size_bytes; /* of all tensors */
    /* while it is made */
    uint32_t stage;
    gwtf_status status;
};

static void layout_deinit(struct layout *layout) {
    for (size_t i = 0; i < layout->count; i++)
        free(layout->places[i].name);
    free(layout->places);
}

static gwtf_status add_place(struct layout *layout, hid_t dataset, const char *name) {
    if (layout->count == layout->room) {
        size_t room = layout->room == 0 ? 64 : 2 * layout->room;
        struct place *larger = realloc(layout->places, room * sizeof *larger);
        if (larger == NULL)
            return GWTF_ERROR_MEMORY;
        layout->places = larger;
        layout->room = room;
    }
    struct place place = {.stage = layout->stage, .start = layout->size_bytes};
    const char *type = "";
    uint64_t bytes;
    if (!gwtf_snapshot_shape_of(dataset, &place.rank, place.dims, &type) ||
        __builtin_mul_overflow(place.dims[0], place.dims[1], &place.floats) || place.floats == 0 ||
        __builtin_mul_overflow(place.floats, sizeof(float), &bytes) ||
        __builtin_add_overflow(layout->size_bytes, bytes, &layout->size_bytes))
        return GWTF_ERROR_CORRUPT;
    place.name = strdup(name);
    if (place.name == NULL)
        return GWTF_ERROR_MEMORY;
    layout->places[layout->count++] = place;
    return GWTF_OK;
}

static herr_t visit(hid_t group, const char *name, const H5L_info_t *link, void *context) {
    (void)link;
    struct layout *layout = context;
    hid_t dataset = H5Dopen2(group, name, H5P_DEFAULT);
    layout->status = dataset < 0 ? GWTF_ERROR_CORRUPT : add_place(layout, dataset, name);
    if (dataset >= 0)
        H5Dclose(dataset);
    return layout->status == GWTF_OK ? 0 : 1;
}

static gwtf_status lay_out_stage(const char *snapshot, struct layout *layout,
                                 struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    struct gwtf_stage_header header;
    hid_t file;
    gwtf_status status =
        gwtf_snapshot_open_stage(snapshot, layout->stage, &file, &header, path, error);
    if (status != GWTF_OK)
        return status;
    hid_t group = H5Gopen2(file, "weights", H5P_DEFAULT);
    layout->status = GWTF_OK;
    if (group < 0 || H5Literate(group, H5_INDEX_CRT_ORDER, H5_ITER_INC, NULL, visit, layout) < 0)
        layout->status = GWTF_ERROR_CORRUPT;
    if (group >= 0)
        H5Gclose(group);
    H5Fclose(file);
    if (layout->status == GWTF_ERROR_MEMORY)
        gwtf_file_error(error, "read", path, ENOMEM);
    else if (layout->status != GWTF_OK)
        gwtf_error_set(error, layout->status, "/weights in '%s' is damaged: " ADVICE, path);
    return layout->status;
}

static gwtf_status lay_out(const char *snapshot, struct layout *layout, struct gwtf_error *error) {
    struct gwtf_manifest manifest;
    gwtf_status status = gwtf_manifest_read(snapshot, &manifest, error);
    if (status != GWTF_OK)
        return status;
    for (uint32_t stage = 0; stage <= manifest.stages && status == GWTF_OK; stage++) {
        layout->stage = stage;
        status = lay_out_stage(snapshot, layout, error);
    }
    gwtf_manifest_deinit(&manifest);
    return status;
}

/* The header with its length before it, blanks behind it up to a multiple of eight; NULL without
 * memory. Transformers wants to read which framework's layouts these are. */
static char *form_header(const struct layout *layout, size_t *size_bytes) {
    json_t *all = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    for (size_t i = 0; i < layout->count && all != NULL; i++) {
        const struct place *place = &layout->places[i];
        json_t *shape = json_array();
        for (uint32_t j = 0; j < place->rank; j++)
            json_array_append_new(shape, json_integer((json_int_t)place->dims[j]));
        json_object_set_new(all, place->name,
                            json_pack("{s:s, s:o, s:[I,I]}", "dtype", "F32", "shape", shape,
                                      "data_offsets", (json_int_t)place->start,
                                      (json_int_t)(place->start + place->floats * sizeof(float))));
    }
    char *text = all != NULL ? json_dumps(all, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
    json_decref(all);
    if (text == NULL)
        return NULL;
    size_t length = strlen(text), padded = (length + 7) / 8 * 8;
    char *header = malloc(8 + padded);
    if (header != NULL) {
        for (int i = 0; i < 8; i++)
            header[i] = (char)(unsigned char)(padded >> (8 * i) & 0xff);
        memcpy(header + 8, text, length);
        memset(header + 8 + length, ' ', padded - length);
        *size_bytes = 8 + padded;
    }
    free(text);
    return header;
}

/* The tensors of one stage, from PLACES on; *DONE grows by them. */
static gwtf_status copy_stage(const char *snapshot, const struct layout *layout, size_t *done,
                              uint64_t data_start, int descriptor, const char *target,
                              struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    struct gwtf_stage_header header;
    hid_t file;
    uint32_t stage = layout->places[*done].stage;
    gwtf_status status = gwtf_snapshot_open_stage(snapshot, stage, &file, &header, path, error);
    if (status != GWTF_OK)
        return status;
    for (; *done < layout->count && layout->places[*done].stage == stage && status == GWTF_OK;
         (*done)++) {
        const struct place *place = &layout->places[*done];
        size_t bytes = place->floats * sizeof(float);
        struct gwtf_snapshot_tensor tensor = {.name = place->name,
                                              .rank = place->rank,
                                              .dims = {place->dims[0], place->dims[1]},
                                              .weights = malloc(bytes)};
        if (tensor.weights == NULL)
            status = gwtf_file_error(error, "read", path, ENOMEM);
        else
            status = gwtf_snapshot_read_tensor(file, path, &tensor, error);
        int code = status != GWTF_OK ? 0
                                     : gwtf_file_write_at(descriptor, tensor.weights, bytes,
                                                          data_start + place->start);
        if (code != 0)
            status = gwtf_file_error(error, "write", target, code);
        free(tensor.weights);
    }
    H5Fclose(file);
    return status;
}

static gwtf_status write_file(const char *snapshot, const struct layout *layout, const char *path,
                              struct gwtf_safetensors_facts *facts, struct gwtf_error *error) {
    size_t header_bytes = 0;
    char *header = form_header(layout, &header_bytes);
    if (header == NULL)
        return gwtf_file_error(error, "write", path, ENOMEM);
    int descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    int code = descriptor < 0 ? errno : gwtf_file_write_at(descriptor, header, header_bytes, 0);
    free(header);
    gwtf_status status = code == 0 ? GWTF_OK : gwtf_file_error(error, "write", path, code);
    for (size_t done = 0; done < layout->count && status == GWTF_OK;)
        status = copy_stage(snapshot, layout, &done, header_bytes, descriptor, path, error);
    if (status == GWTF_OK && fsync(descriptor) != 0)
        status = gwtf_file_error(error, "write", path, errno);
    if (descriptor >= 0 && close(descriptor) != 0 && status == GWTF_OK)
        status = gwtf_file_error(error, "write", path, errno);
    if (status == GWTF_OK)
        *facts = (struct gwtf_safetensors_facts){.tensors = layout->count,
                                                 .parameters = layout->size_bytes / sizeof(float),
                                                 .size_bytes = header_bytes + layout->size_bytes};
    return status;
}

gwtf_status gwtf_safetensors_write_snapshot(const char *snapshot, const char *path,
                                            struct gwtf_safetensors_facts *facts,
                                            struct gwtf_error *error) {
    struct layout layout = {0};
    gwtf_status status = lay_out(snapshot, &layout, error);
    if (status == GWTF_OK)
        status = write_file(snapshot, &layout, path, facts, error);
    layout_deinit(&layout);
    return status;
}
