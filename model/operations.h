/*
 * What a backend does: the operations that a block and the head are composed from. Private to
 * model/. The composition (block.c, head.c) is one; a backend is one table of these.
 *
 * All arrays are row-major floats; a row belongs to one token. Outputs may not overlap inputs
 * unless a line says so. Nothing here allocates; nothing but prepare fails.
 *
 * Values. What a block computes between two points of the residual stream (normed rows, queries,
 * keys and values, what an activation takes and gives, logits) and the gradients of these are
 * values: a backend may keep them in fewer bytes than a float (value_bytes), and who composes
 * operations only hands them on. The residual stream and its gradients, norms' statistics, sums of
 * logarithms, weights and weight gradients are floats for every backend.
 */
#ifndef GWTF_MODEL_OPERATIONS_H
#define GWTF_MODEL_OPERATIONS_H

#include "model/model.h"
#include "share/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gwtf_operations;
struct gwtf_device_operations;
struct gwtf_device;
struct gwtf_kernels;
struct gwtf_tiling;

/* Where operations run. Owned by the stage. */
struct gwtf_compute {
    const struct gwtf_operations *operations;
    const struct gwtf_kernels *kernels; /* the fast backend's loops for this processor, or NULL */
    const struct gwtf_tiling *tiling;   /* of its own matrix products; NULL: the library's */
    enum gwtf_precision precision;
    int threads;
    uint32_t place; /* among the node's workers: which of several devices is this one's */
    float *scratch; /* operations->scratch_floats(...) floats, free between operations */
    struct gwtf_device *device; /* NULL: operations work on the host's memory */
    const float *weights;       /* with a device: the stage's, */
    void *rounded;              /* and the same as values, where a value is no float; else NULL */
    /* With a device, and of it: for boundary tensors that come, two of them, and then for those
     * that go; and for what a call needs of tokens, 3 numbers for each and one more. */
    void *buffers;
    uint64_t buffer_bytes; /* of each */
    uint32_t *words;
};

/* A matrix product with weights W (in, out), or (out, in) when TRANSPOSED. X are values, and Y,
 * too, unless it is TO_STREAM. */
struct gwtf_linear_shape {
    size_t rows;
    size_t in;
    size_t out;
    bool transposed;
    bool to_stream; /* Y is the residual stream */
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
     * the logits become SCALE * (p - one at the label). With a device LABELS lie there, too; the
     * sum is added to what finish returns, and nothing is returned. */
    double (*cross_entropy)(const struct gwtf_compute *compute, float *logits,
                            const uint32_t *labels, float scale, bool backward, size_t rows,
                            size_t vocabulary);

    /* The rest may be NULL. */

    /* Bytes of a value; NULL: those of a float. */
    size_t (*value_bytes)(enum gwtf_precision precision);

    /* linear without RESIDUAL, and then Y = gelu(X), X (rows, out) being what linear gives. */
    void (*linear_gelu)(const struct gwtf_compute *compute, const struct gwtf_linear_shape *shape,
                        float *y, float *x_out, const float *x, const float *w, const float *bias);

    /* Of a backend with memory of its own: all arrays lie there. */
    const struct gwtf_device_operations *device;
};

/* What one step does to every float of a tensor. */
struct gwtf_adamw {
    float gradient_scale;
    float beta1, beta2;
    float keep; /* 1 - learning rate * decay */
    float size; /* learning rate / (1 - beta1^step) */
    float root; /* 1 / sqrt(1 - beta2^step) */
    float epsilon;
};

/* Rows of an embedding: SUM of the token's and, unless NULL, the position's. */
struct gwtf_embedding {
    size_t width;
    size_t rows;
    size_t context; /* row r is at position (first + r) % context */
    size_t first;
    size_t vocabulary;
};

/* A part of a stage's call that queues the same work each time. */
struct gwtf_recording {
    enum { GWTF_RECORD_FORWARD, GWTF_RECORD_BACKWARD, GWTF_RECORD_LOSS } kind;
    uint32_t slot;
    bool backward; /* of a loss: with gradients, */
    float scale;   /* by this */
};

/*
 * A device's memory, and what else stages need there. Calls are made by one thread at a time for
 * one compute, but not always by the same; enter comes first. Work is queued in the order of the
 * calls.
 *
 * What goes wrong on the device is kept, and everything after it does nothing: check tells.
 */
struct gwtf_device_operations {
    uint64_t own_bytes; /* of the device's memory, that a stage takes besides what it asks for */

    /* Errors: GWTF_ERROR_MEMORY. The memory is zero. */
    gwtf_status (*allocate)(const struct gwtf_compute *compute, uint64_t bytes, void **memory);
    void (*release)(const struct gwtf_compute *compute, void *memory);

    /* Of the host, from where and to where copies are fast; pin makes other memory such, where that
     * is allowed, until it is unpinned. */
    gwtf_status (*allocate_host)(const struct gwtf_compute *compute, uint64_t bytes, void **memory);
    void (*release_host)(const struct gwtf_compute *compute, void *memory);
    bool (*pin)(const struct gwtf_compute *compute, void *memory, uint64_t bytes);
    void (*unpin)(const struct gwtf_compute *compute, void *memory);

    /* See gwtf_gpu_look and gwtf_gpu_free_bytes. */
    gwtf_status (*look)(uint32_t place, struct gwtf_gpu *gpu, struct gwtf_error *error);
    gwtf_status (*free_bytes)(uint32_t place, uint64_t *bytes, struct gwtf_error *error);
    struct gwtf_gpu_peak (*peak)(uint32_t place, enum gwtf_precision precision, uint32_t rounds);

    void (*enter)(const struct gwtf_compute *compute);

    /*
     * A call of a stage: begin, then words and take, give and end. Of what is queued in between,
     * copies of one call go on beside the work of another. finish waits for the oldest call that
     * has not been waited for, of which there are at most two, and returns its sum of losses.
     */
    void (*begin)(const struct gwtf_compute *compute);
    /* The first COUNT numbers of compute->words become those of the host at WORDS. Returns them. */
    const uint32_t *(*words)(const struct gwtf_compute *compute, const uint32_t *words,
                             size_t count);
    /* TO gets COUNT floats that are packed at FROM, on the host or a device. */
    void (*take)(const struct gwtf_compute *compute, float *to, const void *from,
                 enum gwtf_packing packing, uint64_t count);
    void (*give)(const struct gwtf_compute *compute, void *to, const float *from,
                 enum gwtf_packing packing, uint64_t count);
    void (*end)(const struct gwtf_compute *compute);
    double (*finish)(const struct gwtf_compute *compute);

    /*
     * Around work that is the same for each WHAT of this value, inside a call: while record says
     * true, the caller queues it; it is done once recorded says true, too. Else it is queued
     * already.
     */
    bool (*record)(const struct gwtf_compute *compute, const struct gwtf_recording *what);
    bool (*recorded)(const struct gwtf_compute *compute);

    /* See gwtf_stage_profile and gwtf_stage_profiled. */
    void (*profile)(const struct gwtf_compute *compute);
    size_t (*profiled)(const struct gwtf_compute *compute, struct gwtf_kernel_time *times);

    /* FROM stays as it is until the next download or check. */
    void (*upload)(const struct gwtf_compute *compute, void *to, const void *from, uint64_t bytes);
    /* Waits until it is there. */
    void (*download)(const struct gwtf_compute *compute, void *to, const void *from,
                     uint64_t bytes);
    /* COUNT values, as floats. */
    void (*download_values)(const struct gwtf_compute *compute, float *to, const float *from,
                            uint64_t count);
    void (*zero)(const struct gwtf_compute *compute, void *at, uint64_t bytes);

    /* COUNT floats of the weights from AT on are new: those that are rounded follow. */
    void (*weights_changed)(const struct gwtf_compute *compute, const float *at, uint64_t count);

    /* TOKENS (rows) lie on the device for embed, for embed_backward on the host: each is below the
     * vocabulary. */
    void (*embed)(const struct gwtf_compute *compute, const struct gwtf_embedding *embedding,
                  float *output, const float *token_rows, const float *position_rows,
                  const uint32_t *tokens);
    void (*embed_backward)(const struct gwtf_compute *compute,
                           const struct gwtf_embedding *embedding, float *token_rows,
                           float *position_rows, const float *output_gradient,
                           const uint32_t *tokens);

    /* To the same bits as the host's. */
    void (*step)(const struct gwtf_compute *compute, const struct gwtf_adamw *adamw, float *w,
                 float *m, float *v, const float *gradients, uint64_t count);

    double (*sum_of_squares)(const struct gwtf_compute *compute, const float *values,
                             uint64_t count);

    /* What went wrong that is known of. Errors: GWTF_ERROR_DEVICE with what the device says. */
    gwtf_status (*state)(const struct gwtf_compute *compute, struct gwtf_error *error);
    /* The same, after waiting for all that is queued. */
    gwtf_status (*check)(const struct gwtf_compute *compute, struct gwtf_error *error);
    void (*close)(struct gwtf_compute *compute);
};

/* The backend in the library libgwtf_cuda.so, which is looked for beside the program and where
 * libraries are. Errors: GWTF_ERROR_UNSUPPORTED with why there is none. */
gwtf_status gwtf_cuda_load(const struct gwtf_operations **operations, struct gwtf_error *error);

extern const struct gwtf_operations gwtf_reference_operations;
extern const struct gwtf_operations gwtf_onednn_operations;

#endif
