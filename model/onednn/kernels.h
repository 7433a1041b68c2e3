/*
 * The fast backend's own loops, each over a range of rows on one thread. kernels_body.h holds their
 * one source; it is compiled once for each kind of vector unit, and a stage picks the best that the
 * processor has. Private to model/onednn.
 */
#ifndef GWTF_MODEL_ONEDNN_KERNELS_H
#define GWTF_MODEL_ONEDNN_KERNELS_H

#include "model/operations.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gwtf_kernels {
    const char *name;

    /* See struct gwtf_operations for what these compute. */
    void (*norm)(const struct gwtf_norm_shape *shape, float *y, float *mean, float *rstd,
                 const float *x, const float *w, const float *b);
    void (*norm_again)(const struct gwtf_norm_shape *shape, float *y, const float *mean,
                       const float *rstd, const float *x, const float *w, const float *b);
    void (*norm_backward)(const struct gwtf_norm_shape *shape, float *dx, float *dw, float *db,
                          const float *dy, const float *residual, const float *mean,
                          const float *rstd, const float *x, const float *w); /* DB not NULL */
    void (*gelu)(float *y, const float *x, size_t count);
    void (*gelu_backward)(float *dx, float *y, const float *x, size_t count);
    void (*swiglu)(float *y, const float *x, size_t rows, size_t width);
    void (*swiglu_backward)(float *dx, float *y, const float *x, size_t rows, size_t width);
    /* HEADS vectors of SIZE floats side by side, all of one token; TURN is its row of turns. */
    void (*rotate)(float *x, const float *turn, size_t heads, size_t size, bool back);
    double (*cross_entropy)(float *logits, const uint32_t *labels, float scale, bool backward,
                            size_t rows, size_t vocabulary);

    /* Y (width) = BIAS + AROUND; either may be NULL, then it counts as zero. Y may be AROUND. */
    void (*start_row)(float *y, const float *bias, const float *around, size_t width);

    /* Y (columns) += X (depth) B: B (depth, columns), or, ACROSS, (columns, depth); its rows start
     * STRIDE floats apart. */
    void (*row_times)(float *y, const float *x, const float *b, size_t stride, bool across,
                      size_t columns, size_t depth);

    /* SUMS (width) += the rows of X, whose rows start STRIDE floats apart. */
    void (*add_rows)(float *sums, const float *x, size_t rows, size_t width, size_t stride);

    /*
     * Causal softmax: row r of SCORES (rows, keys) belongs to token FIRST + r and becomes the
     * probabilities of the keys 0..FIRST + r, from the scores times SCALE, and zero after them.
     * LOG_SUMS (rows) gets the logarithms of the denominators.
     */
    void (*softmax)(float *scores, float *log_sums, float scale, size_t first, size_t rows,
                    size_t keys);

    /* Softmax again, from LOG_SUMS as softmax left them. */
    void (*softmax_again)(float *scores, const float *log_sums, float scale, size_t first,
                          size_t rows, size_t keys);

    /*
     * DP (rows, keys), the gradient of the probabilities P, becomes that of the products of queries
     * and keys: P * (DP - DY . Y) * SCALE. Rows of DY and Y are SIZE floats, STRIDE apart.
     */
    void (*softmax_backward)(float *dp, const float *p, const float *dy, const float *y,
                             size_t size, size_t stride, float scale, size_t rows, size_t keys);
};

extern const struct gwtf_kernels gwtf_kernels_plain;
#ifdef __x86_64__
extern const struct gwtf_kernels gwtf_kernels_avx2;
extern const struct gwtf_kernels gwtf_kernels_avx512;
#endif

/* The best kernels for this processor. */
const struct gwtf_kernels *gwtf_kernels_best(void);

/* All kernels that this processor can run, best first: for tests. INDEX from 0; NULL past the end.
 */
const struct gwtf_kernels *gwtf_kernels_at(size_t index);

#endif
