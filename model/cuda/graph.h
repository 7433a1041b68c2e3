/*
 * Calls of a stage as CUDA graphs. A call queues some hundred kernels, each of which costs the
 * processor a few microseconds; recorded once, they are queued as one.
 */
#ifndef GWTF_MODEL_CUDA_GRAPH_H
#define GWTF_MODEL_CUDA_GRAPH_H

#include "model/cuda/device.h"

/* See struct gwtf_device_operations. */
bool gwtf_cuda_record(const struct gwtf_compute *compute, const struct gwtf_recording *what);
bool gwtf_cuda_recorded(const struct gwtf_compute *compute);

void gwtf_cuda_graphs_close(struct gwtf_device *device);

#endif
