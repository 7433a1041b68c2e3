/*
 * The kernels, as C calls them. All pointers are the device's; each call queues its work on STREAM
 * and returns. VALUES says how values (model/operations.h) are kept; floats are floats.
 */
#ifndef GWTF_MODEL_CUDA_LAUNCH_H
#define GWTF_MODEL_CUDA_LAUNCH_H

#include "model/operations.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

enum gwtf_cuda_values { GWTF_CUDA_FLOATS, GWTF_CUDA_BFLOAT16 };

/* Of values that are floats; see operations.h for what each computes. */
struct gwtf_cuda_norm {
    const float *mean, *rstd, *x, *w;
};

/* Floats of scratch that the calls below want. */
size_t gwtf_cuda_column_scratch(size_t width);
#define GWTF_CUDA_SQUARES_SCRATCH 2048u

void gwtf_cuda_norm(cudaStream_t stream, enum gwtf_cuda_values values,
                    const struct gwtf_norm_shape *shape, void *y, float *mean, float *rstd,
                    const float *x, const float *w, const float *b);
void gwtf_cuda_norm_again(cudaStream_t stream, enum gwtf_cuda_values values,
                          const struct gwtf_norm_shape *shape, void *y,
                          const struct gwtf_cuda_norm *norm, const float *b);
void gwtf_cuda_norm_backward(cudaStream_t stream, enum gwtf_cuda_values values,
                             const struct gwtf_norm_shape *shape, float *dx, float *dw, float *db,
                             const void *dy, const float *residual,
                             const struct gwtf_cuda_norm *norm, float *scratch);

void gwtf_cuda_gelu(cudaStream_t stream, enum gwtf_cuda_values values, void *y, const void *x,
                    size_t count);
void gwtf_cuda_gelu_backward(cudaStream_t stream, enum gwtf_cuda_values values, void *dx, void *y,
                             const void *x, size_t count);
void gwtf_cuda_swiglu(cudaStream_t stream, enum gwtf_cuda_values values, void *y, const void *x,
                      size_t rows, size_t width);
void gwtf_cuda_swiglu_backward(cudaStream_t stream, enum gwtf_cuda_values values, void *dx, void *y,
                               const void *x, size_t rows, size_t width);
void gwtf_cuda_rotate(cudaStream_t stream, enum gwtf_cuda_values values,
                      const struct gwtf_attention_shape *shape, void *qkv, const float *turns,
                      bool back);

/* For values and heads of any size. ALONG: sequences * heads * context floats of scratch. */
void gwtf_cuda_attention(cudaStream_t stream, enum gwtf_cuda_values values,
                         const struct gwtf_attention_shape *shape, void *y, float *log_sums,
                         const void *qkv);
void gwtf_cuda_attention_backward(cudaStream_t stream, enum gwtf_cuda_values values,
                                  const struct gwtf_attention_shape *shape, void *dqkv,
                                  const void *dy, const void *qkv, const void *y,
                                  const float *log_sums, float *along);

/* With tensor cores: values in bfloat16, heads of at most GWTF_CUDA_MMA_SIZE_MAX. _prepare comes
 * first, once for each device. */
#define GWTF_CUDA_MMA_SIZE_MAX 128u
cudaError_t gwtf_cuda_mma_prepare(void);
void gwtf_cuda_mma_attention(cudaStream_t stream, const struct gwtf_attention_shape *shape, void *y,
                             float *log_sums, const void *qkv);
void gwtf_cuda_mma_attention_backward(cudaStream_t stream, const struct gwtf_attention_shape *shape,
                                      void *dqkv, const void *dy, const void *qkv, const void *y,
                                      const float *log_sums, float *along);

/* The sum is added to LOSS; LOSSES (rows) gets each row's. */
void gwtf_cuda_cross_entropy(cudaStream_t stream, enum gwtf_cuda_values values, void *logits,
                             const uint32_t *labels, float scale, bool backward, size_t rows,
                             size_t vocabulary, float *losses, double *loss);

/* Each row of VALUES (rows, width) += BIAS (width), which is floats. */
void gwtf_cuda_add_bias(cudaStream_t stream, enum gwtf_cuda_values kind, void *values,
                        const float *bias, size_t rows, size_t width);

/* SUMS (width) += the sum of the rows of VALUES (rows, width). */
void gwtf_cuda_add_columns(cudaStream_t stream, enum gwtf_cuda_values kind, float *sums,
                           const void *values, size_t rows, size_t width, float *scratch);

/* See model/pack.h; not for GWTF_PACKING_NONE. */
void gwtf_cuda_pack(cudaStream_t stream, enum gwtf_packing packing, void *packed,
                    const float *values, uint64_t count);
void gwtf_cuda_unpack(cudaStream_t stream, enum gwtf_packing packing, float *values,
                      const void *packed, uint64_t count);

void gwtf_cuda_round(cudaStream_t stream, void *rounded, const float *values, uint64_t count);

void gwtf_cuda_embed(cudaStream_t stream, const struct gwtf_embedding *embedding, float *output,
                     const float *token_rows, const float *position_rows, const uint32_t *tokens);

/* The rows of the batch in the order of their tokens: token i has those at ORDER from STARTS[i] to
 * STARTS[i + 1], of which there are DISTINCT. */
struct gwtf_cuda_order {
    size_t distinct;
    const uint32_t *tokens; /* distinct */
    const uint32_t *starts; /* distinct + 1 */
    const uint32_t *order;  /* rows */
};
void gwtf_cuda_embed_backward(cudaStream_t stream, const struct gwtf_embedding *embedding,
                              float *token_rows, float *position_rows, const float *gradient,
                              const struct gwtf_cuda_order *order);

/* ROUNDED, unless NULL, gets the new weights in bfloat16. */
void gwtf_cuda_adamw(cudaStream_t stream, const struct gwtf_adamw *adamw, float *w, float *m,
                     float *v, const float *gradients, void *rounded, uint64_t count);

/* SCRATCH: GWTF_CUDA_SQUARES_SCRATCH floats. */
void gwtf_cuda_sum_of_squares(cudaStream_t stream, const float *values, uint64_t count,
                              float *scratch, double *sum);

#ifdef __cplusplus
}
#endif

#endif
