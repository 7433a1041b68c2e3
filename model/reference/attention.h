/* Attention and rotary positions of the reference backend; see gwtf_operations. Private to
 * model/reference. */
#ifndef GWTF_MODEL_REFERENCE_ATTENTION_H
#define GWTF_MODEL_REFERENCE_ATTENTION_H

#include "model/operations.h"

void gwtf_reference_rotate(const struct gwtf_compute *compute,
                           const struct gwtf_attention_shape *shape, float *qkv, const float *turns,
                           bool back);

void gwtf_reference_attention(const struct gwtf_compute *compute,
                              const struct gwtf_attention_shape *shape, float *y, float *log_sums,
                              const float *qkv);

void gwtf_reference_attention_backward(const struct gwtf_compute *compute,
                                       const struct gwtf_attention_shape *shape, float *dqkv,
                                       const float *dy, const float *qkv, const float *y,
                                       const float *log_sums);

#endif
