/* The fast backend for processors: oneDNN's matrix products, own loops for everything else. */
#include "model/operations.h"

#include "model/onednn/attention.h"
#include "model/onednn/kernels.h"
#include "model/onednn/product.h"
#include "model/onednn/share.h"
#include "model/onednn/tiling.h"

#include <omp.h>
#include <string.h>

/* Columns that a thread sums at a time: they stay in the first cache. */
#define COLUMNS 256u

static gwtf_status prepare(struct gwtf_compute *compute, struct gwtf_error *error) {
    if (!gwtf_product_works())
        return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED,
                              "oneDNN computes no matrix products here: reinstall it, or use the "
                              "reference backend");
    if (compute->precision == GWTF_PRECISION_TFLOAT32)
        return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED,
                              "backend.precision \"tfloat32\" is for GPUs: make it \"float32\" or "
                              "\"bfloat16\"");
    compute->kernels = gwtf_kernels_best();
    compute->tiling = gwtf_tiling_at(compute->precision, 0);
    if (compute->tiling == NULL && compute->precision != GWTF_PRECISION_FLOAT32)
        return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED,
                              "this processor has neither AVX2 nor better, which bfloat16 needs "
                              "here: make backend.precision \"float32\"");
    return GWTF_OK;
}

/* What products need, and after it attention's blocks; or the norm's sums or the losses of each
 * thread. */
static uint64_t scratch_floats(const struct gwtf_compute_limits *limits) {
    uint64_t norms = (uint64_t)limits->threads * 2 * limits->width;
    uint64_t losses = (uint64_t)limits->threads * sizeof(double) / sizeof(float);
    uint64_t attention =
        gwtf_product_scratch_floats(limits) + gwtf_onednn_attention_scratch_floats(limits);
    uint64_t most = norms > losses ? norms : losses;
    return most > attention ? most : attention;
}

static struct gwtf_matrix weights_of(const struct gwtf_linear_shape *shape, const float *w) {
    return (struct gwtf_matrix){.values = w,
                                .stride = shape->transposed ? shape->in : shape->out,
                                .transposed = shape->transposed};
}

static void linear(const struct gwtf_compute *compute, const struct gwtf_linear_shape *shape,
                   float *y, const float *x, const float *w, const float *bias,
                   const float *residual) {
    struct gwtf_product product = {.m = shape->rows,
                                   .n = shape->out,
                                   .k = shape->in,
                                   .a = {.values = x, .stride = shape->in},
                                   .b = weights_of(shape, w),
                                   .c = y,
                                   .c_stride = shape->out,
                                   .around = residual,
                                   .bias = bias};
    gwtf_product_run(compute, &product);
}

static void linear_input_gradient(const struct gwtf_compute *compute,
                                  const struct gwtf_linear_shape *shape, float *dx, const float *dy,
                                  const float *w) {
    struct gwtf_product product = {.m = shape->rows,
                                   .n = shape->in,
                                   .k = shape->out,
                                   .a = {.values = dy, .stride = shape->out},
                                   .b = weights_of(shape, w),
                                   .c = dx,
                                   .c_stride = shape->in};
    product.b.transposed = !product.b.transposed;
    gwtf_product_run(compute, &product);
}

static void linear_weight_gradient(const struct gwtf_compute *compute,
                                   const struct gwtf_linear_shape *shape, float *dw, float *dbias,
                                   const float *x, const float *dy) {
    struct gwtf_matrix input = {.values = x, .stride = shape->in};
    struct gwtf_matrix gradient = {.values = dy, .stride = shape->out};
    struct gwtf_product product = {.m = shape->in,
                                   .n = shape->out,
                                   .k = shape->rows,
                                   .a = input,
                                   .b = gradient,
                                   .c = dw,
                                   .c_stride = shape->out,
                                   .around = dw};
    if (shape->transposed) {
        product.m = shape->out;
        product.n = product.c_stride = shape->in;
        product.a = gradient;
        product.b = input;
    }
    product.a.transposed = true;
    gwtf_product_run(compute, &product);
    if (dbias == NULL)
        return;
    /* Shared out by columns, so that no two threads add to one sum. */
    size_t groups = (shape->out + COLUMNS - 1) / COLUMNS;
    int threads = compute->threads;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (size_t group = 0; group < groups; group++) {
        size_t first = group * COLUMNS, left = shape->out - first;
        compute->kernels->add_rows(dbias + first, dy + first, shape->rows,
                                   left < COLUMNS ? left : COLUMNS, shape->out);
    }
}

/* The rows of SHARE. */
static struct gwtf_norm_shape part_of(const struct gwtf_norm_shape *shape,
                                      struct gwtf_share share) {
    struct gwtf_norm_shape part = *shape;
    part.rows = share.count;
    return part;
}

static void norm(const struct gwtf_compute *compute, const struct gwtf_norm_shape *shape, float *y,
                 float *mean, float *rstd, const float *x, const float *w, const float *b) {
    int threads = compute->threads;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int t = 0; t < threads; t++) {
        struct gwtf_share share = gwtf_share_of(shape->rows, t, threads);
        struct gwtf_norm_shape part = part_of(shape, share);
        size_t start = share.first * shape->width;
        compute->kernels->norm(&part, y + start, mean + share.first, rstd + share.first, x + start,
                               w, b);
    }
}

static void norm_again(const struct gwtf_compute *compute, const struct gwtf_norm_shape *shape,
                       float *y, const float *mean, const float *rstd, const float *x,
                       const float *w, const float *b) {
    int threads = compute->threads;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int t = 0; t < threads; t++) {
        struct gwtf_share share = gwtf_share_of(shape->rows, t, threads);
        struct gwtf_norm_shape part = part_of(shape, share);
        size_t start = share.first * shape->width;
        compute->kernels->norm_again(&part, y + start, mean + share.first, rstd + share.first,
                                     x + start, w, b);
    }
}

static void norm_backward(const struct gwtf_compute *compute, const struct gwtf_norm_shape *shape,
                          float *dx, float *dw, float *db, const float *dy, const float *residual,
                          const float *mean, const float *rstd, const float *x, const float *w) {
    int threads = compute->threads;
    size_t width = shape->width;
    /* Every thread sums into its own part of the scratch; the parts are added in order. */
    float *sums = compute->scratch;
    memset(sums, 0, (size_t)threads * 2 * width * sizeof *sums);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int t = 0; t < threads; t++) {
        struct gwtf_share share = gwtf_share_of(shape->rows, t, threads);
        struct gwtf_norm_shape part = part_of(shape, share);
        size_t start = share.first * width;
        float *own = sums + (size_t)t * 2 * width;
        compute->kernels->norm_backward(&part, dx + start, own, own + width, dy + start,
                                        residual != NULL ? residual + start : NULL,
                                        mean + share.first, rstd + share.first, x + start, w);
    }
    compute->kernels->add_rows(dw, sums, (size_t)threads, width, 2 * width);
    if (db != NULL)
        compute->kernels->add_rows(db, sums + width, (size_t)threads, width, 2 * width);
}

static void gelu(const struct gwtf_compute *compute, float *y, const float *x, size_t rows,
                 size_t width) {
    int threads = compute->threads;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int t = 0; t < threads; t++) {
        struct gwtf_share part = gwtf_share_of(rows * width, t, threads);
        compute->kernels->gelu(y + part.first, x + part.first, part.count);
    }
}

static void gelu_backward(const struct gwtf_compute *compute, float *dx, float *y, const float *x,
                          size_t rows, size_t width) {
    int threads = compute->threads;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int t = 0; t < threads; t++) {
        struct gwtf_share part = gwtf_share_of(rows * width, t, threads);
        compute->kernels->gelu_backward(dx + part.first, y + part.first, x + part.first,
                                        part.count);
    }
}

static void swiglu(const struct gwtf_compute *compute, float *y, const float *x, size_t rows,
                   size_t width) {
    int threads = compute->threads;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int t = 0; t < threads; t++) {
        struct gwtf_share part = gwtf_share_of(rows, t, threads);
        compute->kernels->swiglu(y + part.first * width, x + part.first * 2 * width, part.count,
                                 width);
    }
}

static void swiglu_backward(const struct gwtf_compute *compute, float *dx, float *y, const float *x,
                            size_t rows, size_t width) {
    int threads = compute->threads;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int t = 0; t < threads; t++) {
        struct gwtf_share part = gwtf_share_of(rows, t, threads);
        size_t start = part.first * width;
        compute->kernels->swiglu_backward(dx + 2 * start, y + start, x + 2 * start, part.count,
                                          width);
    }
}

static double cross_entropy(const struct gwtf_compute *compute, float *logits,
                            const uint32_t *labels, float scale, bool backward, size_t rows,
                            size_t vocabulary) {
    int threads = compute->threads;
    double *losses = (double *)(void *)compute->scratch;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int t = 0; t < threads; t++) {
        struct gwtf_share part = gwtf_share_of(rows, t, threads);
        losses[t] =
            compute->kernels->cross_entropy(logits + part.first * vocabulary, labels + part.first,
                                            scale, backward, part.count, vocabulary);
    }
    double loss = 0;
    for (int t = 0; t < threads; t++)
        loss += losses[t];
    return loss;
}

const struct gwtf_operations gwtf_onednn_operations = {
    .prepare = prepare,
    .scratch_floats = scratch_floats,
    .linear = linear,
    .linear_input_gradient = linear_input_gradient,
    .linear_weight_gradient = linear_weight_gradient,
    .norm = norm,
    .norm_again = norm_again,
    .norm_backward = norm_backward,
    .gelu = gelu,
    .gelu_backward = gelu_backward,
    .swiglu = swiglu,
    .swiglu_backward = swiglu_backward,
    .rotate = gwtf_onednn_rotate,
    .attention = gwtf_onednn_attention,
    .attention_backward = gwtf_onednn_attention_backward,
    .cross_entropy = cross_entropy,
};
