/*
 * What a backend does: the operations that a block and the head are composed from. Private to
 * model/. The composition (block.c, head.c) is one; a backend is one table of these.
 *
 * All arrays are row-major floats; a row belongs to one token. Outputs may not overlap inputs
 * unless a line says so. Nothing here allocates; nothing but prepare fails.
 */
#ifndef GWTF_MODEL_OPERATIONS_H
#define GWTF_MODEL_OPERATIONS_H

#include "model/model.h"
#include "share/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gwtf_operations;
struct gwtf_kernels;
struct gwtf_tiling;

/* Where operations run. Owned by the stage. */
struct gwtf_compute {
    const struct gwtf_operations *operations;
    const struct gwtf_kernels *kernels; /* the fast backend's loops for this processor, or NULL */
    const struct gwtf_tiling *tiling;   /* of its own matrix products; NULL: the library's */
    enum gwtf_precision precision;
    int threads;
    float *scratch; /* operations->scratch_floats(...) floats, free between operations */
};

/* A matrix product with weights W (in, out), or (out, in) when TRANSPOSED. */
struct gwtf_linear_shape {
    size_t rows;
    size_t in;
    size_t out;
    bool transposed;
};

/* LayerNorm when centred, else RMSNorm. */
struct gwtf_norm_shape {
    size_t rows;
    size_t width;
    bool centred;
    float epsilon;
};

/*
 * Causal self-attention over SEQUENCES sequences of CONTEXT tokens; heads divides width, key_heads
 * divides heads. A row of QKV holds the queries of all heads, the keys of all key heads and their
 * values side by side: width + 2 * key_heads * (width / heads) floats.
 */
struct gwtf_attention_shape {
    size_t sequences;
    size_t context;
    /* Of one sequence alone: tokens before it are done already. Their keys and values are seen,
     * their rows of outputs stay as they are. */
    size_t first;
    size_t heads;
    size_t key_heads;
    size_t width;
};

static inline size_t gwtf_attention_row(const struct gwtf_attention_shape *shape) {
    return shape->width + 2 * shape->key_heads * (shape->width / shape->heads);
}

/* The largest arguments that a stage will pass, from which a backend knows its scratch. */
struct gwtf_compute_limits {
    size_t rows;
    size_t width;
    size_t widest;  /* the longest row of any linear operation but the head's */
    size_t context; /* 0: no attention */
    size_t heads;
    size_t vocabulary; /* 0: no head */
    int threads;
};

struct gwtf_operations {
    /* Fills what the backend keeps in COMPUTE, whose threads and precision are set. Errors:
     * GWTF_ERROR_UNSUPPORTED when the backend's library does not work here, or the precision is
     * not to be had. */
    gwtf_status (*prepare)(struct gwtf_compute *compute, struct gwtf_error *error);

    /* Floats that every operation within LIMITS can do with. */
    uint64_t (*scratch_floats)(const struct gwtf_compute_limits *limits);

    /* Y (rows, out) = X (rows, in) W + BIAS (out) + RESIDUAL (rows, out). BIAS and RESIDUAL may be
     * NULL. */
    void (*linear)(const struct gwtf_compute *compute, const struct gwtf_linear_shape *shape,
                   float *y, const float *x, const float *w, const float *bias,
                   const float *residual);

    /* DX (rows, in) = DY (rows, out) W^T. */
    void (*linear_input_gradient)(const struct gwtf_compute *compute,
                                  const struct gwtf_linear_shape *shape, float *dx, const float *dy,
                                  const float *w);

    /* DW += X^T DY, laid out as W; DBIAS (out) += sum of the rows of DY, unless NULL. */
    void (*linear_weight_gradient)(const struct gwtf_compute *compute,
                                   const struct gwtf_linear_shape *shape, float *dw, float *dbias,
                                   const float *x, const float *dy);

    /*
     * Y = (X - MEAN) * RSTD * W + B for each row. Centred: with the row's mean and 1 /
     * sqrt(variance
     * + epsilon); else with 0 and 1 / sqrt(average of X^2 + epsilon). They are kept in MEAN and
     * RSTD (rows). B may be NULL.
     */
    void (*norm)(const struct gwtf_compute *compute, const struct gwtf_norm_shape *shape, float *y,
                 float *mean, float *rstd, const float *x, const float *w, const float *b);

    /* Y again, from the MEAN and RSTD that norm kept. */
    void (*norm_again)(const struct gwtf_compute *compute, const struct gwtf_norm_shape *shape,
                       float *y, const float *mean, const float *rstd, const float *x,
                       const float *w, const float *b);

    /* DX = the norm's gradient with respect to X + RESIDUAL (rows, width; may be NULL); DW and DB
     * (width) are added to; DB may be NULL. */
    void (*norm_backward)(const struct gwtf_compute *compute, const struct gwtf_norm_shape *shape,
                          float *dx, float *dw, float *db, const float *dy, const float *residual,
                          const float *mean, const float *rstd, const float *x, const float *w);

    /* Y = gelu(X) in the tanh form, (rows, width) both. */
    void (*gelu)(const struct gwtf_compute *compute, float *y, const float *x, size_t rows,
                 size_t width);

    /* Y holds dY and becomes gelu(X) again; DX = dY * gelu'(X). */
    void (*gelu_backward)(const struct gwtf_compute *compute, float *dx, float *y, const float *x,
                          size_t rows, size_t width);

    /* Y (rows, width) = silu(G) * U, where X (rows, 2 * width) holds G and U side by side, and
     * silu(g) = g / (1 + e^-g) (Shazeer 2020). */
    void (*swiglu)(const struct gwtf_compute *compute, float *y, const float *x, size_t rows,
                   size_t width);

    /* Y holds dY and becomes swiglu(X) again; DX (rows, 2 * width) is the gradient of X. */
    void (*swiglu_backward)(const struct gwtf_compute *compute, float *dx, float *y, const float *x,
                            size_t rows, size_t width);

    /*
     * Rotary positions (Su et al. 2021), in place: of each head's query and key of size n, pair
     * (i, i + n/2) is turned by the angle of token t, or by its negative with BACK, which is the
     * gradient's way. Row t of TURNS (context, n) holds the n/2 cosines and then the sines.
     */
    void (*rotate)(const struct gwtf_compute *compute, const struct gwtf_attention_shape *shape,
                   float *qkv, const float *turns, bool back);

    /*
     * For each sequence, head and token t: Y_t = sum over s <= t of p(t, s) V_s, where p(t, .) is
     * the softmax of Q_t . K_s / sqrt(width / heads). Heads h * heads / key_heads and those that
     * follow share key head h. LOG_SUMS (sequences, heads, context) keeps the logarithm of the
     * softmax's denominator.
     */
    void (*attention)(const struct gwtf_compute *compute, const struct gwtf_attention_shape *shape,
                      float *y, float *log_sums, const float *qkv);

    /* DQKV from DY; Y and LOG_SUMS as attention left them. */
    void (*attention_backward)(const struct gwtf_compute *compute,
                               const struct gwtf_attention_shape *shape, float *dqkv,
                               const float *dy, const float *qkv, const float *y,
                               const float *log_sums);

    /* Returns the sum of -log p(label) over the rows of LOGITS (rows, vocabulary); with BACKWARD
     * the logits become SCALE * (p - one at the label). */
    double (*cross_entropy)(const struct gwtf_compute *compute, float *logits,
                            const uint32_t *labels, float scale, bool backward, size_t rows,
                            size_t vocabulary);
};

extern const struct gwtf_operations gwtf_reference_operations;
extern const struct gwtf_operations gwtf_onednn_operations;

#endif
