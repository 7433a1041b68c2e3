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

/*
 * What a thread has of an array at one time: EACH values in one or two loads, where all of them are
 * there and START, like everything that arrays of values begin with, is at a multiple of EACH.
 */
#define EACH 8u

static inline __device__ void load_each(float *to, const float *from) {
    float4 low = ((const float4 *)from)[0], high = ((const float4 *)from)[1];
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
    to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}

static inline __device__ void load_each(float *to, const bfloat16 *from) {
    uint4 words = *(const uint4 *)from;
    const uint32_t pairs[4] = {words.x, words.y, words.z, words.w};
    for (unsigned i = 0; i < 4; i++) {
        to[2 * i] = __uint_as_float(pairs[i] << 16);
        to[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000u);
    }
}

static inline __device__ void store_each(float *to, const float *from) {
    ((float4 *)to)[0] = make_float4(from[0], from[1], from[2], from[3]);
    ((float4 *)to)[1] = make_float4(from[4], from[5], from[6], from[7]);
}

static inline __device__ void store_each(bfloat16 *to, const float *from) {
    union {
        uint4 words;
        __nv_bfloat162 pairs[4];
    } packed;
    for (unsigned i = 0; i < 4; i++)
        packed.pairs[i] = __floats2bfloat162_rn(from[2 * i], from[2 * i + 1]);
    *(uint4 *)to = packed.words;
}

/* Of those from START on, of COUNT in all; the others become zero, or stay as they are. */
template <class V>
static inline __device__ void load_some(float *to, const V *from, size_t start, size_t count) {
    if (start + EACH <= count) {
        load_each(to, from + start);
        return;
    }
    for (unsigned i = 0; i < EACH; i++)
        to[i] = start + i < count ? value_of(from[start + i]) : 0.0f;
}

template <class V>
static inline __device__ void store_some(V *to, const float *from, size_t start, size_t count) {
    if (start + EACH <= count) {
        store_each(to + start, from);
        return;
    }
    for (unsigned i = 0; start + i < count; i++)
        store(&to[start + i], from[i]);
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
