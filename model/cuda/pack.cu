/* Boundary tensors packed and unpacked, to the bits of model/pack.c: what one machine's GPU packs,
 * another's processor may unpack. */
#include "model/cuda/kernel.cuh"
#include "model/cuda/launch.h"
#include "model/pack.h"

#define THREADS 256u
#define STEPS 127.0f
/* Added and taken away again it leaves the nearest whole number, of those below 2^22. */
#define WHOLE 12582912.0f
#define INFINITE 0x7f800000u
#define WITHOUT_SIGN 0x7fffffffu
#define NOT_A_NUMBER 0x7fc00000u

/* One more than COUNT where that is odd: a zero. */
static __global__ void round_all(uint16_t *packed, const float *values, uint64_t count) {
    uint64_t i = (uint64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < count) {
        uint32_t bits = __float_as_uint(values[i]);
        uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        packed[i] = (uint16_t)((bits & WITHOUT_SIGN) > INFINITE ? NOT_A_NUMBER >> 16 : rounded);
    } else if (i == count && count % 2 != 0) {
        packed[i] = 0;
    }
}

static __global__ void widen_all(float *values, const uint16_t *packed, uint64_t count) {
    uint64_t i = (uint64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < count)
        values[i] = __uint_as_float((uint32_t)packed[i] << 16);
}

static __device__ uint32_t warp_largest_bits(uint32_t x) {
    for (unsigned apart = WARP / 2; apart > 0; apart /= 2)
        x = max(x, __shfl_xor_sync(ALL_LANES, x, (int)apart));
    return x;
}

static __device__ int8_t steps_of(float value, float step) {
    float whole = __fsub_rn(__fadd_rn(__fdiv_rn(value, step), WHOLE), WHOLE);
    return (int8_t)fminf(fmaxf(whole, -STEPS), STEPS);
}

/* A warp for a block of numbers, of which each lane has the ones that are a warp apart. The bytes
 * that end the last word are zero. */
static __global__ void pack_blocks(float *steps, int8_t *numbers, const float *values,
                                   uint64_t count, uint64_t blocks) {
    uint64_t block = (uint64_t)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP;
    unsigned lane = threadIdx.x % WARP;
    if (block >= blocks)
        return;
    uint64_t first = block * GWTF_PACK_BLOCK;
    uint32_t bits = 0;
    for (unsigned i = lane; i < GWTF_PACK_BLOCK && first + i < count; i += WARP)
        bits = max(bits, __float_as_uint(values[first + i]) & WITHOUT_SIGN);
    bits = warp_largest_bits(bits);
    float step = __fdiv_rn(__uint_as_float(bits), STEPS);
    bool finite = bits < INFINITE, flat = step == 0;
    for (unsigned i = lane; i < GWTF_PACK_BLOCK && first + i < count; i += WARP)
        numbers[first + i] = !finite ? 1 : flat ? 0 : steps_of(values[first + i], step);
    if (lane == 0)
        steps[block] = finite ? step : __uint_as_float(NOT_A_NUMBER);
    if (block + 1 == blocks && lane < (4 - count % 4) % 4)
        numbers[count + lane] = 0;
}

static __global__ void unpack_blocks(float *values, const float *steps, const int8_t *numbers,
                                     uint64_t count) {
    uint64_t i = (uint64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < count)
        values[i] = __fmul_rn(steps[i / GWTF_PACK_BLOCK], (float)numbers[i]);
}

static uint64_t blocks_of(uint64_t count) {
    return (count + GWTF_PACK_BLOCK - 1) / GWTF_PACK_BLOCK;
}

void gwtf_cuda_pack(cudaStream_t stream, enum gwtf_packing packing, void *packed,
                    const float *values, uint64_t count) {
    uint64_t blocks = blocks_of(count);
    float *steps = (float *)packed;
    if (packing == GWTF_PACKING_BFLOAT16)
        GWTF_LAUNCH(round_all, dim3(blocks_for(count + 1, THREADS)), dim3(THREADS), 0, stream,
                    (uint16_t *)packed, values, count);
    else if (packing == GWTF_PACKING_INT8)
        GWTF_LAUNCH(pack_blocks, dim3(blocks_for(blocks, THREADS / WARP)), dim3(THREADS), 0, stream,
                    steps, (int8_t *)(steps + blocks), values, count, blocks);
}

void gwtf_cuda_unpack(cudaStream_t stream, enum gwtf_packing packing, float *values,
                      const void *packed, uint64_t count) {
    uint64_t blocks = blocks_of(count);
    const float *steps = (const float *)packed;
    if (packing == GWTF_PACKING_BFLOAT16)
        GWTF_LAUNCH(widen_all, dim3(blocks_for(count, THREADS)), dim3(THREADS), 0, stream, values,
                    (const uint16_t *)packed, count);
    else if (packing == GWTF_PACKING_INT8)
        GWTF_LAUNCH(unpack_blocks, dim3(blocks_for(count, THREADS)), dim3(THREADS), 0, stream,
                    values, steps, (const int8_t *)(steps + blocks), count);
}
