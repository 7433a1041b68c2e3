/* What the parts of the emulation share. */
#ifndef GWTF_TESTS_CUDA_EMULATED_EMULATED_H
#define GWTF_TESTS_CUDA_EMULATED_EMULATED_H

#include "cuda_runtime_api.h"

#include <functional>

/* WORK is done when its turn comes and somebody waits. */
void gwtf_emulated_queue(cudaStream_t stream, std::function<void()> work);

#endif
