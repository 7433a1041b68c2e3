/*
 * Attention without tensor cores, for float32 and for heads of any size: a warp for a query (or, in
 * the backward pass, for a key), a lane for one of 32 keys (or queries) at a time. The context by
 * context matrix never stands anywhere. Backward: a query's and a key's gradients are each summed
 * by one warp, so that nothing depends on when blocks run.
 */
#include "model/cuda/kernel.cuh"
#include "model/cuda/launch.h"

#define WARPS 4u
#define FORWARD_ROOM 1u /* vectors of a head that a warp keeps in shared memory */
#define BACKWARD_ROOM 2u

/* One head of one sequence. */
template <class V> struct head_of {
    const V *q, *k, *v;
    size_t stride, size;
    float scale;
};

template <class V>
static __device__ head_of<V> head_at(const struct gwtf_attention_shape &shape, const V *qkv,
                                     size_t sequence, size_t head, size_t key_head) {
    head_of<V> h;
    h.size = shape.width / shape.heads;
    h.stride = shape.width + 2 * shape.key_heads * h.size;
    const V *row = qkv + sequence * shape.context * h.stride;
    h.q = row + head * h.size;
    h.k = row + shape.width + key_head * h.size;
    h.v = h.k + shape.key_heads * h.size;
    h.scale = 1.0f / sqrtf((float)h.size);
    return h;
}

template <class V> static __device__ float dot(const V *a, const V *b, size_t size) {
    float sum = 0;
    for (size_t i = 0; i < size; i++)
        sum += value_of(a[i]) * value_of(b[i]);
    return sum;
}

/* SUM (size) += the sum over the lanes' rows of WEIGHT * ROWS; rows lie STRIDE apart, COUNT are. */
template <class V>
static __device__ void add_rows(float *sum, const V *rows, size_t stride, size_t size, float weight,
                                unsigned count) {
    unsigned lane = threadIdx.x;
    /* All lanes take part in the shuffles, also those that have no column left. */
    for (size_t start = 0; start < size; start += WARP) {
        size_t i = start + lane;
        float own = 0;
        for (unsigned j = 0; j < count; j++) {
            float w = __shfl_sync(ALL_LANES, weight, (int)j);
            if (i < size)
                own += w * value_of(rows[j * stride + i]);
        }
        if (i < size)
            sum[i] += own;
    }
}

static __device__ void clear(float *sum, size_t size) {
    for (size_t i = threadIdx.x; i < size; i += WARP)
        sum[i] = 0;
}

/* Which query, or key, a warp has. */
struct place {
    size_t token, head, sequence;
    bool exists;
};

static __device__ struct place place_of(size_t first, size_t context, size_t heads) {
    struct place p;
    p.token = first + (size_t)blockIdx.x * WARPS + threadIdx.y;
    p.head = blockIdx.y % heads;
    p.sequence = (size_t)blockIdx.z;
    p.exists = p.token < context;
    return p;
}

template <class V>
static __global__ void forward(struct gwtf_attention_shape shape, V *y, float *log_sums,
                               const V *qkv) {
    GWTF_DYNAMIC_SHARED(shared);
    struct place p = place_of(shape.first, shape.context, shape.heads);
    if (!p.exists)
        return;
    size_t t = p.token;
    head_of<V> h =
        head_at(shape, qkv, p.sequence, p.head, p.head / (shape.heads / shape.key_heads));
    float *mixed = (float *)(void *)shared + threadIdx.y * h.size;
    clear(mixed, h.size);
    float largest = -INFINITY, sum = 0;
    for (size_t start = 0; start <= t; start += WARP) {
        size_t s = start + threadIdx.x;
        unsigned count = t - start + 1 < WARP ? (unsigned)(t - start + 1) : WARP;
        float score =
            s <= t ? h.scale * dot(h.q + t * h.stride, h.k + s * h.stride, h.size) : -INFINITY;
        float largest_now = fmaxf(largest, warp_largest(score));
        float weight = expf(score - largest_now), rest = expf(largest - largest_now);
        for (size_t i = threadIdx.x; i < h.size; i += WARP)
            mixed[i] *= rest;
        sum = sum * rest + warp_sum(weight);
        largest = largest_now;
        add_rows(mixed, h.v + start * h.stride, h.stride, h.size, weight, count);
    }
    V *out = y + (p.sequence * shape.context + t) * shape.width + p.head * h.size;
    for (size_t i = threadIdx.x; i < h.size; i += WARP)
        store(&out[i], mixed[i] / sum);
    if (threadIdx.x == 0)
        log_sums[(p.sequence * shape.heads + p.head) * shape.context + t] = largest + logf(sum);
}

/* ALONG (sequences, heads, context) = dY . Y. */
template <class V>
static __global__ void along_rows(struct gwtf_attention_shape shape, float *along, const V *dy,
                                  const V *y) {
    struct place p = place_of(0, shape.context, shape.heads);
    if (!p.exists)
        return;
    size_t size = shape.width / shape.heads;
    size_t at = (p.sequence * shape.context + p.token) * shape.width + p.head * size;
    float sum = 0;
    for (size_t i = threadIdx.x; i < size; i += WARP)
        sum += value_of(dy[at + i]) * value_of(y[at + i]);
    sum = warp_sum(sum);
    if (threadIdx.x == 0)
        along[(p.sequence * shape.heads + p.head) * shape.context + p.token] = sum;
}

struct backward_inputs {
    const float *log_sums, *along;
};

/* The probability that token T gives to S, and the gradient of their score. */
template <class V>
static __device__ void pair_gradient(const head_of<V> &h, const V *dy, float log_sum, float along,
                                     size_t t, size_t s, float *p, float *score_d) {
    *p = expf(h.scale * dot(h.q + t * h.stride, h.k + s * h.stride, h.size) - log_sum);
    *score_d = *p * (dot(dy, h.v + s * h.stride, h.size) - along) * h.scale;
}

template <class V>
static __global__ void query_gradients(struct gwtf_attention_shape shape, V *dqkv, const V *dy,
                                       const V *qkv, struct backward_inputs in) {
    GWTF_DYNAMIC_SHARED(shared);
    struct place p = place_of(0, shape.context, shape.heads);
    if (!p.exists)
        return;
    size_t t = p.token;
    head_of<V> h =
        head_at(shape, qkv, p.sequence, p.head, p.head / (shape.heads / shape.key_heads));
    float *dq = (float *)(void *)shared + threadIdx.y * h.size;
    clear(dq, h.size);
    size_t row = p.sequence * shape.context + t;
    size_t statistic = (p.sequence * shape.heads + p.head) * shape.context + t;
    const V *own_dy = dy + row * shape.width + p.head * h.size;
    for (size_t start = 0; start <= t; start += WARP) {
        size_t s = start + threadIdx.x;
        unsigned count = t - start + 1 < WARP ? (unsigned)(t - start + 1) : WARP;
        float probability = 0, score_d = 0;
        if (s <= t)
            pair_gradient(h, own_dy, in.log_sums[statistic], in.along[statistic], t, s,
                          &probability, &score_d);
        add_rows(dq, h.k + start * h.stride, h.stride, h.size, score_d, count);
    }
    V *out = dqkv + row * h.stride + p.head * h.size;
    for (size_t i = threadIdx.x; i < h.size; i += WARP)
        store(&out[i], dq[i]);
}

template <class V>
static __global__ void key_gradients(struct gwtf_attention_shape shape, V *dqkv, const V *dy,
                                     const V *qkv, struct backward_inputs in) {
    GWTF_DYNAMIC_SHARED(shared);
    struct place p = place_of(0, shape.context, shape.key_heads);
    if (!p.exists)
        return;
    size_t s = p.token, size = shape.width / shape.heads, group = shape.heads / shape.key_heads;
    float *dk = (float *)(void *)shared + threadIdx.y * BACKWARD_ROOM * size, *dv = dk + size;
    clear(dk, BACKWARD_ROOM * size);
    for (size_t head = p.head * group; head < (p.head + 1) * group; head++) {
        head_of<V> h = head_at(shape, qkv, p.sequence, head, p.head);
        const V *head_dy = dy + p.sequence * shape.context * shape.width + head * size;
        size_t statistics = (p.sequence * shape.heads + head) * shape.context;
        for (size_t start = s; start < shape.context; start += WARP) {
            size_t t = start + threadIdx.x, left = shape.context - start;
            unsigned count = left < WARP ? (unsigned)left : WARP;
            float probability = 0, score_d = 0;
            if (t < shape.context)
                pair_gradient(h, head_dy + t * shape.width, in.log_sums[statistics + t],
                              in.along[statistics + t], t, s, &probability, &score_d);
            add_rows(dk, h.q + start * h.stride, h.stride, size, score_d, count);
            add_rows(dv, head_dy + start * shape.width, shape.width, size, probability, count);
        }
    }
    size_t stride = shape.width + 2 * shape.key_heads * size;
    V *out = dqkv + (p.sequence * shape.context + s) * stride + shape.width + p.head * size;
    for (size_t i = threadIdx.x; i < size; i += WARP) {
        store(&out[i], dk[i]);
        store(&out[shape.key_heads * size + i], dv[i]);
    }
}

static dim3 grid_of(const struct gwtf_attention_shape *shape, size_t heads) {
    return dim3(blocks_for(shape->context - shape->first, WARPS), (unsigned)heads,
                (unsigned)shape->sequences);
}

static size_t room_of(const struct gwtf_attention_shape *shape, size_t vectors) {
    return WARPS * vectors * (shape->width / shape->heads) * sizeof(float);
}

void gwtf_cuda_attention(cudaStream_t stream, enum gwtf_cuda_values values,
                         const struct gwtf_attention_shape *shape, void *y, float *log_sums,
                         const void *qkv) {
    struct gwtf_attention_shape s = *shape;
    GWTF_FOR_VALUES(values, GWTF_LAUNCH(forward, grid_of(shape, s.heads), dim3(WARP, WARPS),
                                        room_of(shape, FORWARD_ROOM), stream, s, (V *)y, log_sums,
                                        (const V *)qkv));
}

template <class V>
static void backward(cudaStream_t stream, const struct gwtf_attention_shape &s, V *dqkv,
                     const V *dy, const V *qkv, const V *y, const float *log_sums, float *along) {
    struct backward_inputs in = {log_sums, along};
    dim3 queries = grid_of(&s, s.heads), keys = grid_of(&s, s.key_heads), block(WARP, WARPS);
    GWTF_LAUNCH(along_rows, queries, block, 0, stream, s, along, dy, y);
    GWTF_LAUNCH(query_gradients, queries, block, room_of(&s, FORWARD_ROOM), stream, s, dqkv, dy,
                qkv, in);
    GWTF_LAUNCH(key_gradients, keys, block, room_of(&s, BACKWARD_ROOM), stream, s, dqkv, dy, qkv,
                in);
}

void gwtf_cuda_attention_backward(cudaStream_t stream, enum gwtf_cuda_values values,
                                  const struct gwtf_attention_shape *shape, void *dqkv,
                                  const void *dy, const void *qkv, const void *y,
                                  const float *log_sums, float *along) {
    GWTF_FOR_VALUES(values, backward(stream, *shape, (V *)dqkv, (const V *)dy, (const V *)qkv,
                                     (const V *)y, log_sums, along));
}
