/*
 * Files in the safetensors format, in which models are passed on: eight bytes with the length of a
 * header, the header (JSON: type, shape and place of each tensor), and the tensors' bytes, all
 * little-endian. https://github.com/huggingface/safetensors says the rest.
 */
#ifndef GWTF_IO_SAFETENSORS_H
#define GWTF_IO_SAFETENSORS_H

#include "share/base/status.h"

#include <stddef.h>
#include <stdint.h>

#define GWTF_SAFETENSORS_RANK_MAX 8

struct gwtf_safetensors_facts {
    uint64_t tensors;
    uint64_t parameters; /* floats in them */
    uint64_t size_bytes; /* of the file */
};

/*
 * Writes the weights of the snapshot at SNAPSHOT, of all stages, to a new file PATH, float32 as
 * they are, and syncs it. One tensor is in memory at a time. The snapshot should have been
 * verified. Errors: as of gwtf_snapshot_load, and GWTF_ERROR_IO; what is written of PATH stays
 * then.
 */
gwtf_status gwtf_safetensors_write_snapshot(const char *snapshot, const char *path,
                                            struct gwtf_safetensors_facts *facts,
                                            struct gwtf_error *error);

/* A tensor in an open file. */
struct gwtf_safetensors_tensor {
    const char *name; /* lives as long as the file is open */
    char type[8];     /* "F32", "BF16" */
    uint32_t rank;
    uint64_t dims[GWTF_SAFETENSORS_RANK_MAX];
    uint64_t count; /* of numbers: the product of DIMS */
    uint64_t start; /* of its bytes in the file */
    uint64_t size_bytes;
};

struct gwtf_safetensors; /* an open file */

/*
 * Opens PATH and checks its header. Errors: GWTF_ERROR_MISSING, GWTF_ERROR_IO, GWTF_ERROR_MEMORY,
 * and GWTF_ERROR_CORRUPT when the header is no such header, or tensors lie outside of the file or
 * have another size than their shape; FILE untouched then.
 */
gwtf_status gwtf_safetensors_open(const char *path, struct gwtf_safetensors **file,
                                  struct gwtf_error *error);
void gwtf_safetensors_close(struct gwtf_safetensors *file); /* NULL is allowed */

size_t gwtf_safetensors_count(const struct gwtf_safetensors *file);
const struct gwtf_safetensors_tensor *gwtf_safetensors_at(const struct gwtf_safetensors *file,
                                                          size_t index);

/* The tensor of that name, or NULL. */
const struct gwtf_safetensors_tensor *gwtf_safetensors_find(const struct gwtf_safetensors *file,
                                                            const char *name);

/* Fills VALUES, TENSOR->count of them, from F32, F16 or BF16. Errors: GWTF_ERROR_UNSUPPORTED (of
 * another type), GWTF_ERROR_IO, GWTF_ERROR_MEMORY. */
gwtf_status gwtf_safetensors_read(const struct gwtf_safetensors *file,
                                  const struct gwtf_safetensors_tensor *tensor, float *values,
                                  struct gwtf_error *error);

#endif
