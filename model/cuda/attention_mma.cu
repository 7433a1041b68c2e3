/*
 * Attention by tensor cores, in bfloat16 with sums in float32 (Dao, arXiv 2307.08691): tiles of
 * keys pass by tiles of queries, and the softmax's largest and sum are kept up as they do; the
 * context by context matrix never stands anywhere. Backward in two kernels, one for the gradients
 * of queries and one for those of keys and values: it computes the scores twice, and needs no sums
 * between blocks, so that the same input always gives the same bits.
 *
 * A warp has 16 rows, a block WARPS of them. Heads of any size up to SIZE, which is a multiple of
 * 32: what is missing stands as zeros in shared memory.
 */
#include "model/cuda/launch.h"
#include "model/cuda/mma.cuh"

#define WARPS 4u
#define THREADS (WARPS * WARP)
#define ROWS (16u * WARPS) /* of a block's own tile */
#define LOG2_E 1.44269504f

/* Of a row in shared memory: 16 bytes more than it holds, so that the eight rows of a matrix lie in
 * different banks. */
#define STRIDE(size) ((size) + 8u)

/* Where rows of one head lie in the device's memory. */
struct head_rows {
    const bfloat16 *first; /* of token 0 */
    size_t stride;
    unsigned count; /* tokens */
    unsigned size;  /* of a row */
    bool wide;      /* rows are of whole 16 bytes */
};

/* Brings COUNT rows from FIRST on; those behind the last become zero, and so do columns. Wide ones
 * come by copy_behind: close_copies and await_copies follow. */
template <unsigned SIZE, unsigned COUNT>
static __device__ void bring_tile(bfloat16 *tile, const head_rows &rows, unsigned first) {
    const unsigned chunks = SIZE / 8;
    for (unsigned i = threadIdx.x; i < COUNT * chunks; i += THREADS) {
        unsigned row = i / chunks, column = i % chunks * 8;
        bool exists = first + row < rows.count;
        const bfloat16 *from = rows.first + (exists ? first + row : 0) * rows.stride;
        bfloat16 *to = tile + row * STRIDE(SIZE) + column;
        unsigned left = exists && column < rows.size ? rows.size - column : 0;
        unsigned count = left < 8 ? left : 8;
        if (rows.wide) {
            copy_behind(to, count > 0 ? from + column : rows.first, count * 2);
            continue;
        }
        for (unsigned j = 0; j < 8; j++)
            store(&to[j], j < count ? value_of(from[column + j]) : 0.0f);
    }
}

/* The 16 x 16 of a tile from ROW and COLUMN on, as A. */
template <unsigned SIZE>
static __device__ fragment_a load_a(const bfloat16 *tile, unsigned row, unsigned column) {
    unsigned lane = lane_number();
    fragment_a a;
    load_matrices(a.x, tile + (row + lane % 16) * STRIDE(SIZE) + column + lane / 16 * 8);
    return a;
}

/* Two B for 16 rows of a tile, of columns COLUMN to COLUMN + 15: B(k, n) is the tile's (n, k). */
template <unsigned SIZE>
static __device__ void load_b(fragment_b b[2], const bfloat16 *tile, unsigned row,
                              unsigned column) {
    unsigned lane = lane_number();
    uint32_t x[4];
    load_matrices(x, tile + (row + lane / 16 * 8 + lane % 8) * STRIDE(SIZE) + column +
                         lane / 8 % 2 * 8);
    b[0] = {{x[0], x[1]}};
    b[1] = {{x[2], x[3]}};
}

/* Two B for 16 columns of a tile, of rows ROW to ROW + 15: B(k, n) is the tile's (k, n). */
template <unsigned SIZE>
static __device__ void load_b_across(fragment_b b[2], const bfloat16 *tile, unsigned row,
                                     unsigned column) {
    unsigned lane = lane_number();
    uint32_t x[4];
    load_matrices_across(x, tile + (row + lane % 16) * STRIDE(SIZE) + column + lane / 16 * 8);
    b[0] = {{x[0], x[1]}};
    b[1] = {{x[2], x[3]}};
}

template <unsigned COUNT> static __device__ void clear(fragment_sum (&sums)[COUNT]) {
#pragma unroll
    for (unsigned i = 0; i < COUNT; i++)
        for (unsigned j = 0; j < 4; j++)
            sums[i].x[j] = 0;
}

/* SUMS (16, 8 * COUNT) = 16 rows of OWN by the rows of OTHER: all their products. */
template <unsigned SIZE, unsigned COUNT>
static __device__ void multiply_rows(fragment_sum (&sums)[COUNT], const bfloat16 *own, unsigned row,
                                     const bfloat16 *other) {
    clear(sums);
#pragma unroll
    for (unsigned column = 0; column < SIZE; column += 16) {
        fragment_a a = load_a<SIZE>(own, row, column);
#pragma unroll
        for (unsigned i = 0; i < COUNT; i += 2) {
            fragment_b b[2];
            load_b<SIZE>(b, other, i * 8, column);
            multiply_add(&sums[i], a, b[0]);
            multiply_add(&sums[i + 1], a, b[1]);
        }
    }
}

/* SUMS (16, SIZE) += WEIGHTS (16, 8 * COUNT), rounded, by the rows of OTHER. */
template <unsigned SIZE, unsigned COUNT>
static __device__ void add_weighted(fragment_sum (&sums)[SIZE / 8],
                                    const fragment_sum (&weights)[COUNT], const bfloat16 *other) {
#pragma unroll
    for (unsigned i = 0; i < COUNT; i += 2) {
        const float *low = weights[i].x, *high = weights[i + 1].x;
        fragment_a a = {{pack(low[0], low[1]), pack(low[2], low[3]), pack(high[0], high[1]),
                         pack(high[2], high[3])}};
#pragma unroll
        for (unsigned column = 0; column < SIZE; column += 16) {
            fragment_b b[2];
            load_b_across<SIZE>(b, other, i * 8, column);
            multiply_add(&sums[column / 8], a, b[0]);
            multiply_add(&sums[column / 8 + 1], a, b[1]);
        }
    }
}

/* Writes a warp's SUMS times FACTORS (of rows g and g + 8) to the rows from ROW on. */
template <unsigned SIZE>
static __device__ void put_rows(bfloat16 *first, size_t stride, unsigned row, unsigned count,
                                unsigned size, const fragment_sum (&sums)[SIZE / 8],
                                const float factors[2]) {
    unsigned g = lane_number() / 4, t = lane_number() % 4;
#pragma unroll
    for (unsigned half = 0; half < 2; half++) {
        if (row + g + half * 8 >= count)
            continue;
        bfloat16 *to = first + (row + g + half * 8) * stride;
#pragma unroll
        for (unsigned i = 0; i < SIZE / 8; i++) {
            unsigned column = i * 8 + 2 * t;
            if (column < size)
                store(&to[column], sums[i].x[half * 2] * factors[half]);
            if (column + 1 < size)
                store(&to[column + 1], sums[i].x[half * 2 + 1] * factors[half]);
        }
    }
}

/* One head of one sequence. */
struct head_place {
    head_rows q, k, v;
    size_t sequence, head;
    size_t statistics; /* of token 0 */
    float scale;
};

static __device__ head_place place_of(const gwtf_attention_shape &shape, const bfloat16 *qkv,
                                      size_t sequence, size_t head, size_t key_head, bool wide) {
    unsigned size = (unsigned)(shape.width / shape.heads), count = (unsigned)shape.context;
    size_t stride = shape.width + 2 * shape.key_heads * size;
    const bfloat16 *row = qkv + sequence * shape.context * stride;
    const bfloat16 *keys = row + shape.width + key_head * size;
    head_place p;
    p.q = {row + head * size, stride, count, size, wide};
    p.k = {keys, stride, count, size, wide};
    p.v = {keys + shape.key_heads * size, stride, count, size, wide};
    p.sequence = sequence;
    p.head = head;
    p.statistics = (sequence * shape.heads + head) * shape.context;
    p.scale = 1.0f / sqrtf((float)size);
    return p;
}

/* Rows of Y or DY of the same head. */
static __device__ head_rows outputs_of(const gwtf_attention_shape &shape, const head_place &p,
                                       const bfloat16 *y) {
    head_rows rows = p.q;
    rows.first = y + p.sequence * shape.context * shape.width + p.head * p.q.size;
    rows.stride = shape.width;
    return rows;
}

/* The sum, or largest, over the four lanes that share rows. */
static __device__ float sum_of_four(float x) {
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

static __device__ float largest_of_four(float x) {
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}

/* What the softmax knows of rows g and g + 8; scores are in units of the logarithm to base 2. */
struct running {
    float largest[2], sum[2];
};

/* Makes SCORES weights, and what is there already comparable. */
template <unsigned SIZE, unsigned COUNT>
static __device__ void soften(fragment_sum (&scores)[COUNT], fragment_sum (&mixed)[SIZE / 8],
                              running *now) {
#pragma unroll
    for (unsigned half = 0; half < 2; half++) {
        float largest = now->largest[half], sum = 0;
#pragma unroll
        for (unsigned i = 0; i < COUNT; i++)
            largest = fmaxf(largest, fmaxf(scores[i].x[half * 2], scores[i].x[half * 2 + 1]));
        largest = largest_of_four(largest);
        /* A row without a key so far stays at nothing. */
        float base = largest == -INFINITY ? 0 : largest;
#pragma unroll
        for (unsigned i = 0; i < COUNT; i++)
            for (unsigned j = half * 2; j < half * 2 + 2; j++) {
                scores[i].x[j] = exp2f(scores[i].x[j] - base);
                sum += scores[i].x[j];
            }
        float rest = exp2f(now->largest[half] - base);
        now->sum[half] = now->sum[half] * rest + sum_of_four(sum);
        now->largest[half] = largest;
#pragma unroll
        for (unsigned i = 0; i < SIZE / 8; i++) {
            mixed[i].x[half * 2] *= rest;
            mixed[i].x[half * 2 + 1] *= rest;
        }
    }
}

/* SCORES (16 queries from QUERY, keys from KEY) times FACTOR; -infinity where the key is not seen.
 */
template <unsigned COUNT>
static __device__ void scale_and_mask(fragment_sum (&scores)[COUNT], float factor, unsigned query,
                                      unsigned key) {
    unsigned g = lane_number() / 4, t = lane_number() % 4;
    bool all = key + COUNT * 8 <= query + 1;
#pragma unroll
    for (unsigned i = 0; i < COUNT; i++)
#pragma unroll
        for (unsigned j = 0; j < 4; j++) {
            bool seen = all || key + i * 8 + 2 * t + j % 2 <= query + g + j / 2 * 8;
            scores[i].x[j] = seen ? scores[i].x[j] * factor : -INFINITY;
        }
}

#define FORWARD_KEYS 64u

template <unsigned SIZE>
static __global__ void __launch_bounds__(THREADS)
    forward(gwtf_attention_shape shape, bfloat16 *y, float *log_sums, const bfloat16 *qkv,
            bool wide) {
    GWTF_DYNAMIC_SHARED(shared);
    bfloat16 *queries = (bfloat16 *)shared, *keys = queries + ROWS * STRIDE(SIZE);
    const unsigned tile = FORWARD_KEYS * STRIDE(SIZE);
    size_t head = blockIdx.y;
    head_place p =
        place_of(shape, qkv, blockIdx.z, head, head / (shape.heads / shape.key_heads), wide);
    unsigned first = (unsigned)shape.first + blockIdx.x * ROWS, own = threadIdx.x / WARP * 16;
    unsigned end = first + ROWS < p.q.count ? first + ROWS : p.q.count;
    fragment_sum mixed[SIZE / 8], scores[FORWARD_KEYS / 8];
    running now = {{-INFINITY, -INFINITY}, {0, 0}};
    clear(mixed);
    bring_tile<SIZE, ROWS>(queries, p.q, first);
    bring_tile<SIZE, FORWARD_KEYS>(keys, p.k, 0);
    bring_tile<SIZE, FORWARD_KEYS>(keys + tile, p.v, 0);
    close_copies();
    /* The next tile of keys and values comes while this one is worked on. */
    for (unsigned key = 0, turn = 0; key < end; key += FORWARD_KEYS, turn ^= 1) {
        const bfloat16 *k = keys + turn * 2 * tile, *v = k + tile;
        bfloat16 *next = keys + (turn ^ 1) * 2 * tile;
        if (key + FORWARD_KEYS < end) {
            bring_tile<SIZE, FORWARD_KEYS>(next, p.k, key + FORWARD_KEYS);
            bring_tile<SIZE, FORWARD_KEYS>(next + tile, p.v, key + FORWARD_KEYS);
        }
        close_copies();
        await_copies<1>();
        __syncthreads();
        multiply_rows<SIZE>(scores, queries, own, k);
        scale_and_mask(scores, p.scale * LOG2_E, first + own, key);
        soften<SIZE>(scores, mixed, &now);
        add_weighted<SIZE>(mixed, scores, v);
        __syncthreads();
    }
    float factors[2] = {1.0f / now.sum[0], 1.0f / now.sum[1]};
    put_rows<SIZE>((bfloat16 *)outputs_of(shape, p, y).first, shape.width, first + own, p.q.count,
                   p.q.size, mixed, factors);
    unsigned g = lane_number() / 4;
    for (unsigned half = 0; half < 2; half++) {
        unsigned row = first + own + g + half * 8;
        if (lane_number() % 4 == 0 && row < p.q.count)
            log_sums[p.statistics + row] = now.largest[half] / LOG2_E + logf(now.sum[half]);
    }
}

/* ALONG = dY . Y of each row and head: a warp for a row. */
static __global__ void along_rows(gwtf_attention_shape shape, float *along, const bfloat16 *dy,
                                  const bfloat16 *y) {
    size_t size = shape.width / shape.heads, t = (size_t)blockIdx.x * WARPS + threadIdx.x / WARP;
    if (t >= shape.context)
        return;
    size_t at = (blockIdx.z * shape.context + t) * shape.width + blockIdx.y * size;
    float sum = 0;
    for (size_t i = lane_number(); i < size; i += WARP)
        sum += value_of(dy[at + i]) * value_of(y[at + i]);
    sum = warp_sum(sum);
    if (lane_number() == 0)
        along[(blockIdx.z * shape.heads + blockIdx.y) * shape.context + t] = sum;
}

/* What the backward pass reads besides Q, K and V. */
struct backward_inputs {
    const bfloat16 *qkv, *dy;
    const float *log_sums, *along;
    bool wide;
};

#define BACKWARD_OTHERS 32u /* keys, or queries, that pass by at a time */

/* SCORES become the gradients of scores but for their scale, from PRODUCTS = dY V^T: p (dp -
 * along). Rows are queries. */
template <unsigned COUNT>
static __device__ void score_gradients(fragment_sum (&scores)[COUNT],
                                       const fragment_sum (&products)[COUNT],
                                       const float log_sum[2], const float along[2]) {
#pragma unroll
    for (unsigned i = 0; i < COUNT; i++)
#pragma unroll
        for (unsigned j = 0; j < 4; j++)
            scores[i].x[j] =
                exp2f(scores[i].x[j] - log_sum[j / 2]) * (products[i].x[j] - along[j / 2]);
}

template <unsigned SIZE>
static __global__ void __launch_bounds__(THREADS)
    query_gradients(gwtf_attention_shape shape, bfloat16 *dqkv, backward_inputs in) {
    GWTF_DYNAMIC_SHARED(shared);
    const unsigned tile = ROWS * STRIDE(SIZE), other = BACKWARD_OTHERS * STRIDE(SIZE);
    bfloat16 *queries = (bfloat16 *)shared, *outputs = queries + tile, *keys = outputs + tile;
    size_t head = blockIdx.y;
    head_place p =
        place_of(shape, in.qkv, blockIdx.z, head, head / (shape.heads / shape.key_heads), in.wide);
    unsigned first = blockIdx.x * ROWS, own = threadIdx.x / WARP * 16, g = lane_number() / 4;
    unsigned end = first + ROWS < p.q.count ? first + ROWS : p.q.count;
    float log_sum[2], along[2];
    for (unsigned half = 0; half < 2; half++) {
        unsigned row = first + own + g + half * 8;
        bool exists = row < p.q.count;
        log_sum[half] = exists ? in.log_sums[p.statistics + row] * LOG2_E : INFINITY;
        along[half] = exists ? in.along[p.statistics + row] : 0;
    }
    fragment_sum sums[SIZE / 8], scores[BACKWARD_OTHERS / 8], products[BACKWARD_OTHERS / 8];
    clear(sums);
    bring_tile<SIZE, ROWS>(queries, p.q, first);
    bring_tile<SIZE, ROWS>(outputs, outputs_of(shape, p, in.dy), first);
    for (unsigned key = 0; key < end; key += BACKWARD_OTHERS) {
        bring_tile<SIZE, BACKWARD_OTHERS>(keys, p.k, key);
        bring_tile<SIZE, BACKWARD_OTHERS>(keys + other, p.v, key);
        close_copies();
        await_copies<0>();
        __syncthreads();
        multiply_rows<SIZE>(scores, queries, own, keys);
        scale_and_mask(scores, p.scale * LOG2_E, first + own, key);
        multiply_rows<SIZE>(products, outputs, own, keys + other);
        score_gradients(scores, products, log_sum, along);
        add_weighted<SIZE>(sums, scores, keys);
        __syncthreads();
    }
    float factors[2] = {p.scale, p.scale};
    bfloat16 *to = dqkv + (p.q.first - in.qkv);
    put_rows<SIZE>(to, p.q.stride, first + own, p.q.count, p.q.size, sums, factors);
}

/* As score_gradients, but rows are keys from KEY on, and columns queries from QUERY: what belongs
 * to a query differs from column to column. WEIGHTS get the probabilities. */
template <unsigned COUNT>
static __device__ void key_score_gradients(fragment_sum (&weights)[COUNT],
                                           fragment_sum (&products)[COUNT], float factor,
                                           unsigned key, unsigned query, unsigned end,
                                           const float *log_sums, const float *along) {
    unsigned g = lane_number() / 4, t = lane_number() % 4;
#pragma unroll
    for (unsigned i = 0; i < COUNT; i++)
#pragma unroll
        for (unsigned j = 0; j < 2; j++) {
            unsigned column = query + i * 8 + 2 * t + j;
            bool exists = column < end;
            float log_sum = exists ? log_sums[column] * LOG2_E : 0;
            float own_along = exists ? along[column] : 0;
#pragma unroll
            for (unsigned half = 0; half < 2; half++) {
                bool seen = exists && key + g + half * 8 <= column;
                float *w = &weights[i].x[half * 2 + j], *d = &products[i].x[half * 2 + j];
                *w = seen ? exp2f(*w * factor - log_sum) : 0;
                *d = *w * (*d - own_along);
            }
        }
}

template <unsigned SIZE>
static __global__ void __launch_bounds__(THREADS)
    key_gradients(gwtf_attention_shape shape, bfloat16 *dqkv, backward_inputs in) {
    GWTF_DYNAMIC_SHARED(shared);
    const unsigned tile = ROWS * STRIDE(SIZE), other = BACKWARD_OTHERS * STRIDE(SIZE);
    bfloat16 *keys = (bfloat16 *)shared, *values = keys + tile, *queries = values + tile;
    size_t group = shape.heads / shape.key_heads, key_head = blockIdx.y;
    unsigned first = blockIdx.x * ROWS, own = threadIdx.x / WARP * 16;
    fragment_sum dk[SIZE / 8], dv[SIZE / 8];
    fragment_sum weights[BACKWARD_OTHERS / 8], products[BACKWARD_OTHERS / 8];
    clear(dk);
    clear(dv);
    head_place p = place_of(shape, in.qkv, blockIdx.z, key_head * group, key_head, in.wide);
    bring_tile<SIZE, ROWS>(keys, p.k, first);
    bring_tile<SIZE, ROWS>(values, p.v, first);
    for (size_t head = key_head * group; head < (key_head + 1) * group; head++) {
        p = place_of(shape, in.qkv, blockIdx.z, head, key_head, in.wide);
        for (unsigned query = first; query < p.q.count; query += BACKWARD_OTHERS) {
            bring_tile<SIZE, BACKWARD_OTHERS>(queries, p.q, query);
            bring_tile<SIZE, BACKWARD_OTHERS>(queries + other, outputs_of(shape, p, in.dy), query);
            close_copies();
            await_copies<0>();
            __syncthreads();
            multiply_rows<SIZE>(weights, keys, own, queries);
            multiply_rows<SIZE>(products, values, own, queries + other);
            key_score_gradients(weights, products, p.scale * LOG2_E, first + own, query, p.q.count,
                                in.log_sums + p.statistics, in.along + p.statistics);
            add_weighted<SIZE>(dv, weights, queries + other);
            add_weighted<SIZE>(dk, products, queries);
            __syncthreads();
        }
    }
    float scales[2] = {p.scale, p.scale}, ones[2] = {1, 1};
    put_rows<SIZE>(dqkv + (p.k.first - in.qkv), p.k.stride, first + own, p.k.count, p.k.size, dk,
                   scales);
    put_rows<SIZE>(dqkv + (p.v.first - in.qkv), p.v.stride, first + own, p.v.count, p.v.size, dv,
                   ones);
}

static size_t forward_bytes(unsigned size) {
    return (ROWS + 4 * FORWARD_KEYS) * STRIDE(size) * sizeof(bfloat16);
}

static size_t backward_bytes(unsigned size) {
    return (2 * ROWS + 2 * BACKWARD_OTHERS) * STRIDE(size) * sizeof(bfloat16);
}

template <unsigned SIZE> static cudaError_t allow_shared_memory() {
    cudaError_t failed = cudaFuncSetAttribute(
        forward<SIZE>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)forward_bytes(SIZE));
    if (failed == cudaSuccess)
        failed =
            cudaFuncSetAttribute(query_gradients<SIZE>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 (int)backward_bytes(SIZE));
    if (failed == cudaSuccess)
        failed =
            cudaFuncSetAttribute(key_gradients<SIZE>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 (int)backward_bytes(SIZE));
    return failed;
}

cudaError_t gwtf_cuda_mma_prepare(void) {
    cudaError_t failed = allow_shared_memory<32>();
    if (failed == cudaSuccess)
        failed = allow_shared_memory<64>();
    if (failed == cudaSuccess)
        failed = allow_shared_memory<128>();
    return failed;
}

static bool is_wide(const struct gwtf_attention_shape *shape, const void *const *arrays,
                    size_t count) {
    bool wide = shape->width / shape->heads % 8 == 0;
    for (size_t i = 0; i < count; i++)
        wide = wide && (uintptr_t)arrays[i] % 16 == 0;
    return wide;
}

static dim3 grid_of(const struct gwtf_attention_shape &shape, size_t heads, unsigned rows) {
    return dim3(blocks_for(shape.context - shape.first, rows), (unsigned)heads,
                (unsigned)shape.sequences);
}

/* Calls with SIZE the next that a head of this shape fits into. */
#define FOR_SIZE(shape, ...)                                                                       \
    do {                                                                                           \
        size_t wanted = (shape).width / (shape).heads;                                             \
        if (wanted <= 32) {                                                                        \
            const unsigned SIZE = 32;                                                              \
            __VA_ARGS__;                                                                           \
        } else if (wanted <= 64) {                                                                 \
            const unsigned SIZE = 64;                                                              \
            __VA_ARGS__;                                                                           \
        } else {                                                                                   \
            const unsigned SIZE = 128;                                                             \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
    } while (0)

void gwtf_cuda_mma_attention(cudaStream_t stream, const struct gwtf_attention_shape *shape, void *y,
                             float *log_sums, const void *qkv) {
    gwtf_attention_shape s = *shape;
    const void *const arrays[] = {qkv};
    bool wide = is_wide(shape, arrays, 1);
    FOR_SIZE(s, GWTF_LAUNCH(forward<SIZE>, grid_of(s, s.heads, ROWS), dim3(THREADS),
                            forward_bytes(SIZE), stream, s, (bfloat16 *)y, log_sums,
                            (const bfloat16 *)qkv, wide));
}

void gwtf_cuda_mma_attention_backward(cudaStream_t stream, const struct gwtf_attention_shape *shape,
                                      void *dqkv, const void *dy, const void *qkv, const void *y,
                                      const float *log_sums, float *along) {
    gwtf_attention_shape s = *shape;
    const void *const arrays[] = {qkv, dy};
    backward_inputs in = {(const bfloat16 *)qkv, (const bfloat16 *)dy, log_sums, along,
                          is_wide(shape, arrays, 2)};
    GWTF_LAUNCH(along_rows, grid_of(s, s.heads, WARPS), dim3(THREADS), 0, stream, s, along,
                (const bfloat16 *)dy, (const bfloat16 *)y);
    FOR_SIZE(s, GWTF_LAUNCH(query_gradients<SIZE>, grid_of(s, s.heads, ROWS), dim3(THREADS),
                            backward_bytes(SIZE), stream, s, (bfloat16 *)dqkv, in));
    FOR_SIZE(s, GWTF_LAUNCH(key_gradients<SIZE>, grid_of(s, s.key_heads, ROWS), dim3(THREADS),
                            backward_bytes(SIZE), stream, s, (bfloat16 *)dqkv, in));
}
