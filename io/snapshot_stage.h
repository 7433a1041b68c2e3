/* A stage file from inside, private to io. */
#ifndef GWTF_IO_SNAPSHOT_STAGE_H
#define GWTF_IO_SNAPSHOT_STAGE_H

#include "io/hdf.h"
#include "io/snapshot_files.h"

/* The attributes. */
struct gwtf_stage_header {
    uint64_t version, step, stage, stages, first_layer, layers, width, heads, context, vocabulary,
        tied_head;
    uint64_t key_value_heads, hidden; /* 0: not said, as in older files; the next two as well */
    double rope_theta, norm_epsilon;
    char format[32], family[32], precision[32];
    char tokenizer[64]; /* "": it does not say */
    uint64_t sequence;  /* as in struct gwtf_snapshot_stage */
};

/* Opens stage STAGE in DIRECTORY, reads its header, and puts its path into PATH. *FILE is the
 * caller's to close. Errors: MISSING, IO, CORRUPT, UNSUPPORTED (a newer version). */
gwtf_status gwtf_snapshot_open_stage(const char *directory, uint32_t stage, hid_t *file,
                                     struct gwtf_stage_header *header,
                                     char path[GWTF_FILE_PATH_MAX], struct gwtf_error *error);

/* Rank, dimensions and type of a dataset; false when it is no tensor. */
bool gwtf_snapshot_shape_of(hid_t dataset, uint32_t *rank, uint64_t dims[2],
                            const char **type_name);

/* Fills TENSOR's arrays that are not NULL, by its name, from FILE at PATH. Errors: MISSING,
 * CORRUPT.
 */
gwtf_status gwtf_snapshot_read_tensor(hid_t file, const char *path,
                                      struct gwtf_snapshot_tensor *tensor,
                                      struct gwtf_error *error);

/* A stage file's content in memory of its own. */
struct gwtf_stage_copy {
    struct gwtf_stage_header header;
    char run[256];
    char *config;
    struct gwtf_kept kept; /* files of the tokenizer */
    double gradient_norm;  /* 0: not known */
    struct gwtf_snapshot_tensor *tensors;
    size_t tensors_count;
};

/* Errors as of gwtf_snapshot_open_stage, and MEMORY; COPY is untouched then, else the caller's to
 * _deinit. */
gwtf_status gwtf_stage_copy_read(const char *directory, uint32_t stage,
                                 struct gwtf_stage_copy *copy, struct gwtf_error *error);
void gwtf_stage_copy_deinit(struct gwtf_stage_copy *copy);

/* Gives COPY, whose tensors have room for it, one more: zeros of SHAPE's rank and dimensions.
 * Errors: MEMORY. */
gwtf_status gwtf_stage_copy_add(struct gwtf_stage_copy *copy, const char *name,
                                const struct gwtf_snapshot_tensor *shape);

#endif
