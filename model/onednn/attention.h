/* Attention and rotary positions of the oneDNN backend; see gwtf_operations. Private to
 * model/onednn. */
#ifndef GWTF_MODEL_ONEDNN_ATTENTION_H
#define GWTF_MODEL_ONEDNN_ATTENTION_H

#include "model/operations.h"

/* Floats of scratch for all threads. */
uint64_t gwtf_onednn_attention_scratch_floats(const struct gwtf_compute_limits *limits);

void gwtf_onednn_rotate(const struct gwtf_compute *compute,
                        const struct gwtf_attention_shape *shape, float *qkv, const float *turns,
                        bool back);

void gwtf_onednn_attention(const struct gwtf_compute *compute,
                           const struct gwtf_attention_shape *shape, float *y, float *log_sums,
                           const float *qkv);

void gwtf_onednn_attention_backward(const struct gwtf_compute *compute,
                                    const struct gwtf_attention_shape *shape, float *dqkv,
                                    const float *dy, const float *qkv, const float *y,
                                    const float *log_sums);

#endif
