/*
 * Tensor cores as PTX has them since compute capability 8.0: products of 16 x 16 by 16 x 8 in
 * bfloat16 with sums in float32, the loads from shared memory that bring their operands, and copies
 * to shared memory that a thread need not wait for.
 *
 * Which lane holds what (PTX ISA, "Matrix Fragments for mma.m16n8k16"), with g = lane / 4 and t =
 * lane % 4: of A rows g and g + 8, columns 2t, 2t + 1 and these + 8; of B rows 2t, 2t + 1 and these
 * + 8, column g; of the sums rows g and g + 8, columns 2t and 2t + 1.
 */
#ifndef GWTF_MODEL_CUDA_MMA_CUH
#define GWTF_MODEL_CUDA_MMA_CUH

#include "model/cuda/kernel.cuh"

struct fragment_a {
    uint32_t x[4];
};
struct fragment_b {
    uint32_t x[2];
};
struct fragment_sum {
    float x[4]; /* (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1) */
};

static inline __device__ unsigned lane_number() {
    return threadIdx.x % WARP;
}

static inline __device__ uint32_t pack(float low, float high) {
    __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &both, sizeof bits);
    return bits;
}

#ifdef __CUDACC__

static inline __device__ void multiply_add(fragment_sum *sum, const fragment_a &a,
                                           const fragment_b &b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sum->x[0]), "+f"(sum->x[1]), "+f"(sum->x[2]), "+f"(sum->x[3])
                 : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
}

/* Four matrices of 8 x 8: lane i names row i % 8 of matrix i / 8. */
static inline __device__ void load_matrices(uint32_t x[4], const bfloat16 *row) {
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(at)
                 : "memory");
}

static inline __device__ void load_matrices_across(uint32_t x[4], const bfloat16 *row) {
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(at)
                 : "memory");
}

/* 16 bytes, of which the first COUNT are copied and the rest become zero. */
static inline __device__ void copy_behind(void *to, const void *from, unsigned count) {
    uint32_t at = (uint32_t)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(count)
                 : "memory");
}

static inline __device__ void close_copies() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most LEFT of the groups that were closed are under way. */
template <int LEFT> static inline __device__ void await_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

#else

static inline bfloat16 half_of(uint32_t both, unsigned which) {
    bfloat16 halves[2];
    memcpy(halves, &both, sizeof halves);
    return halves[which];
}

static inline void multiply_add(fragment_sum *sum, const fragment_a &a, const fragment_b &b) {
    struct operands {
        fragment_a a;
        fragment_b b;
    } mine = {a, b};
    const operands *all = (const operands *)gwtf_emulated_warp_gather(&mine, sizeof mine);
    unsigned g = lane_number() / 4, t = lane_number() % 4;
    for (unsigned i = 0; i < 4; i++) {
        unsigned row = g + i / 2 * 8, column = 2 * t + i % 2;
        for (unsigned k = 0; k < 16; k++) {
            uint32_t from_a = all[row % 8 * 4 + k % 8 / 2].a.x[row / 8 + k / 8 * 2];
            uint32_t from_b = all[column * 4 + k % 8 / 2].b.x[k / 8];
            sum->x[i] += value_of(half_of(from_a, k % 2)) * value_of(half_of(from_b, k % 2));
        }
    }
}

static inline void load_matrices(uint32_t x[4], const bfloat16 *row) {
    const bfloat16 *const *rows =
        (const bfloat16 *const *)gwtf_emulated_warp_gather(&row, sizeof row);
    for (unsigned i = 0; i < 4; i++)
        memcpy(&x[i], rows[8 * i + lane_number() / 4] + 2 * (lane_number() % 4), sizeof x[i]);
}

static inline void load_matrices_across(uint32_t x[4], const bfloat16 *row) {
    const bfloat16 *const *rows =
        (const bfloat16 *const *)gwtf_emulated_warp_gather(&row, sizeof row);
    unsigned column = lane_number() / 4, first = 2 * (lane_number() % 4);
    for (unsigned i = 0; i < 4; i++) {
        bfloat16 both[2] = {rows[8 * i + first][column], rows[8 * i + first + 1][column]};
        memcpy(&x[i], both, sizeof x[i]);
    }
}

static inline void copy_behind(void *to, const void *from, unsigned count) {
    memset(to, 0, 16);
    memcpy(to, from, count);
}

static inline void close_copies() {
}

template <int LEFT> static inline void await_copies() {
}

#endif

#endif
