/* Matrix products through oneDNN. Private to model/onednn. */
#ifndef GWTF_MODEL_ONEDNN_PRODUCT_H
#define GWTF_MODEL_ONEDNN_PRODUCT_H

#include <stdbool.h>
#include <stddef.h>

/* A row-major matrix inside a larger one: row i starts i * stride floats on. */
struct gwtf_matrix {
    const float *values;
    size_t stride;
    bool transposed; /* the matrix meant is the transpose of the one that is stored */
};

/* C (m, n; row stride C_STRIDE) = FACTOR * A (m, k) B (k, n), plus what stands in C when ADD. */
void gwtf_product(float *c, size_t c_stride, struct gwtf_matrix a, struct gwtf_matrix b, size_t m,
                  size_t n, size_t k, float factor, bool add);

/* Whether the library multiplies two small matrices right. */
bool gwtf_product_works(void);

#endif
