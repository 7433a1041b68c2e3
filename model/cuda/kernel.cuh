/*
 * What all kernels share. Compiled by nvcc, or by a plain C++ compiler against the emulation of the
 * runtime in tests/cuda, where a launch is a call for every thread of every block.
 */
#ifndef GWTF_MODEL_CUDA_KERNEL_CUH
#define GWTF_MODEL_CUDA_KERNEL_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <stddef.h>
#include <stdint.h>

typedef __nv_bfloat16 bfloat16;

#define WARP 32u
#define ALL_LANES 0xffffffffu

#ifdef __CUDACC__
#define GWTF_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                \
    kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__)
#define GWTF_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#else
#define GWTF_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                \
    gwtf_emulated_launch(grid, block, shared_bytes, stream, [=] { kernel(__VA_ARGS__); })
#define GWTF_DYNAMIC_SHARED(name) unsigned char *name = gwtf_emulated_shared()
#endif

static inline __device__ float value_of(float x) {
    return x;
}

static inline __device__ float value_of(bfloat16 x) {
    return __bfloat162float(x);
}

static inline __device__ void store(float *at, float x) {
    *at = x;
}

static inline __device__ void store(bfloat16 *at, float x) {
    *at = __float2bfloat16(x);
}

/* Calls with V the type of VALUES. */
#define GWTF_FOR_VALUES(values, ...)                                                               \
    do {                                                                                           \
        if ((values) == GWTF_CUDA_BFLOAT16) {                                                      \
            typedef bfloat16 V;                                                                    \
            __VA_ARGS__;                                                                           \
        } else {                                                                                   \
            typedef float V;                                                                       \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
    } while (0)

static inline unsigned blocks_for(size_t count, size_t each) {
    return (unsigned)((count + each - 1) / each);
}

static inline __device__ float warp_sum(float x) {
    for (unsigned apart = WARP / 2; apart > 0; apart /= 2)
        x += __shfl_xor_sync(ALL_LANES, x, (int)apart);
    return x;
}

static inline __device__ float warp_largest(float x) {
    for (unsigned apart = WARP / 2; apart > 0; apart /= 2)
        x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, (int)apart));
    return x;
}

#endif
