#include "model/onednn/product.h"

#include "share/base/assert.h"

#include <dnnl.h>

static dnnl_status_t multiply(float *c, size_t c_stride, struct gwtf_matrix a, struct gwtf_matrix b,
                              size_t m, size_t n, size_t k, float factor, bool add) {
    return dnnl_sgemm(a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', (dnnl_dim_t)m,
                      (dnnl_dim_t)n, (dnnl_dim_t)k, factor, a.values, (dnnl_dim_t)a.stride,
                      b.values, (dnnl_dim_t)b.stride, add ? 1.0f : 0.0f, c, (dnnl_dim_t)c_stride);
}

void gwtf_product(float *c, size_t c_stride, struct gwtf_matrix a, struct gwtf_matrix b, size_t m,
                  size_t n, size_t k, float factor, bool add) {
    /* It fails only for arguments that make no sense. */
    GWTF_ASSERT(multiply(c, c_stride, a, b, m, n, k, factor, add) == dnnl_success);
}

bool gwtf_product_works(void) {
    const float a[4] = {1, 2, 3, 4}, b[4] = {5, 6, 7, 8};
    float c[4] = {1, 1, 1, 1};
    struct gwtf_matrix left = {.values = a, .stride = 2}, right = {.values = b, .stride = 2};
    return multiply(c, 2, left, right, 2, 2, 2, 1.0f, true) == dnnl_success && c[0] == 20 &&
           c[1] == 23 && c[2] == 44 && c[3] == 51;
}
