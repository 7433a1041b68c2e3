/* What goes in and out of a stage's calls: see the parts of struct gwtf_device_operations of the
 * same names. */
#ifndef GWTF_MODEL_CUDA_TURN_H
#define GWTF_MODEL_CUDA_TURN_H

#include "model/cuda/device.h"

cudaError_t gwtf_cuda_turns_open(struct gwtf_device *device);
void gwtf_cuda_turns_close(struct gwtf_device *device);

void gwtf_cuda_begin(const struct gwtf_compute *compute);
void gwtf_cuda_take(const struct gwtf_compute *compute, float *to, const void *from,
                    enum gwtf_packing packing, uint64_t count);
void gwtf_cuda_give(const struct gwtf_compute *compute, void *to, const float *from,
                    enum gwtf_packing packing, uint64_t count);
const uint32_t *gwtf_cuda_words(const struct gwtf_compute *compute, const uint32_t *words,
                                size_t count);
void gwtf_cuda_end(const struct gwtf_compute *compute);
double gwtf_cuda_finish(const struct gwtf_compute *compute);

#endif
