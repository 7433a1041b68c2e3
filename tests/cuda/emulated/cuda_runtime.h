/* What kernels are written in: a thread of a block is a fibre, blocks run one after the other. */
#ifndef GWTF_TESTS_CUDA_EMULATED_CUDA_RUNTIME_H
#define GWTF_TESTS_CUDA_EMULATED_CUDA_RUNTIME_H

#include "cuda_runtime_api.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__
#define __shared__ static
#define __align__(n) alignas(n)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {
    }
};
extern dim3 gwtf_emulated_thread, gwtf_emulated_block, gwtf_emulated_block_size,
    gwtf_emulated_grid_size;
#define threadIdx gwtf_emulated_thread
#define blockIdx gwtf_emulated_block
#define blockDim gwtf_emulated_block_size
#define gridDim gwtf_emulated_grid_size

struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
struct alignas(8) uint2 {
    uint32_t x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
static inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
    return uint4{x, y, z, w};
}
static inline float2 make_float2(float x, float y) {
    return float2{x, y};
}
static inline float4 make_float4(float x, float y, float z, float w) {
    return float4{x, y, z, w};
}

/* Queues BODY for each thread of each block. */
void gwtf_emulated_launch(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                          std::function<void()> body);

/* The block's dynamic shared memory. */
unsigned char *gwtf_emulated_shared();

/* All lanes of the warp give BYTES, and get what each gave; it stays until the lane's next but one
 * call. */
const void *gwtf_emulated_warp_gather(const void *mine, size_t bytes);

void __syncthreads();

static inline void __syncwarp(unsigned = 0xffffffffu) {
    char nothing = 0;
    gwtf_emulated_warp_gather(&nothing, 1);
}

static inline unsigned gwtf_emulated_lane() {
    unsigned number = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    return number % 32;
}

template <class T> static inline T __shfl_sync(unsigned, T x, int lane) {
    return ((const T *)gwtf_emulated_warp_gather(&x, sizeof x))[lane & 31];
}

template <class T> static inline T __shfl_xor_sync(unsigned, T x, int mask) {
    return (
        (const T *)gwtf_emulated_warp_gather(&x, sizeof x))[gwtf_emulated_lane() ^ (unsigned)mask];
}

template <class T> cudaError_t cudaFuncSetAttribute(T *, int, int) {
    return cudaSuccess;
}
#define cudaFuncAttributeMaxDynamicSharedMemorySize 8

static inline float __fadd_rn(float a, float b) {
    return a + b;
}
static inline float __fsub_rn(float a, float b) {
    return a - b;
}
static inline float __fmul_rn(float a, float b) {
    return a * b;
}
static inline float __fdiv_rn(float a, float b) {
    return a / b;
}
static inline float __fsqrt_rn(float a) {
    return sqrtf(a);
}
#define __expf expf
#define __logf logf
static inline float rsqrtf(float x) {
    return 1.0f / sqrtf(x);
}
template <class T> static inline T __ldg(const T *at) {
    return *at;
}
static inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline size_t min(size_t a, size_t b) {
    return a < b ? a : b;
}
static inline size_t max(size_t a, size_t b) {
    return a > b ? a : b;
}
static inline int min(int a, int b) {
    return a < b ? a : b;
}
static inline int max(int a, int b) {
    return a > b ? a : b;
}
static inline unsigned min(unsigned a, unsigned b) {
    return a < b ? a : b;
}
static inline unsigned max(unsigned a, unsigned b) {
    return a > b ? a : b;
}

#endif
