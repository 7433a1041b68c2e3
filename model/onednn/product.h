/*
 * Matrix products of the fast backend: oneDNN's, or our own where those are faster (product.c says
 * where and why). Private to model/onednn.
 */
#ifndef GWTF_MODEL_ONEDNN_PRODUCT_H
#define GWTF_MODEL_ONEDNN_PRODUCT_H

#include "model/operations.h"

/* A row-major matrix inside a larger one: row i starts i * stride floats on. */
struct gwtf_matrix {
    const float *values;
    size_t stride;
    bool transposed; /* the matrix meant is the transpose of the one that is stored */
};

/*
 * C (m, n) = A (m, k) B (k, n) + AROUND (m, n) + BIAS (n). AROUND has C's row stride and may be C;
 * BIAS and AROUND may be NULL.
 */
struct gwtf_product {
    size_t m, n, k;
    struct gwtf_matrix a, b;
    float *c;
    size_t c_stride;
    const float *around;
    const float *bias;
};

/* On all threads of COMPUTE. The bits do not depend on their number. */
void gwtf_product_run(const struct gwtf_compute *compute, const struct gwtf_product *product);

/* On the calling thread, which may be one of a parallel region. */
void gwtf_product_run_alone(const struct gwtf_compute *compute, const struct gwtf_product *product);

/* Floats that products need at the start of the scratch, a multiple of 16: the rest is free for
 * operations that run them. */
uint64_t gwtf_product_scratch_floats(const struct gwtf_compute_limits *limits);

/* Whether oneDNN multiplies two small matrices right. */
bool gwtf_product_works(void);

#endif
