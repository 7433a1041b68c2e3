/* What is done to each number by itself: activations, rotary positions, rounding, AdamW; and the
 * sum of squares. */
#include "model/cuda/kernel.cuh"
#include "model/cuda/launch.h"

#define THREADS 256u

#define SQRT_2_OVER_PI 0.79788456f
#define CUBIC 0.044715f

static __device__ float gelu_of(float v) {
    return 0.5f * v * (1.0f + tanhf(SQRT_2_OVER_PI * (v + CUBIC * v * v * v)));
}

static __device__ float gelu_slope(float v) {
    float t = tanhf(SQRT_2_OVER_PI * (v + CUBIC * v * v * v));
    float inner = SQRT_2_OVER_PI * (1.0f + 3.0f * CUBIC * v * v);
    return 0.5f * (1.0f + t) + 0.5f * v * (1.0f - t * t) * inner;
}

static __device__ size_t start_of_thread(void) {
    return ((size_t)blockIdx.x * THREADS + threadIdx.x) * EACH;
}

template <class V> static __global__ void gelu(V *y, const V *x, size_t count) {
    size_t start = start_of_thread();
    float v[EACH];
    if (start >= count)
        return;
    load_some(v, x, start, count);
    for (unsigned i = 0; i < EACH; i++)
        v[i] = gelu_of(v[i]);
    store_some(y, v, start, count);
}

template <class V> static __global__ void gelu_backward(V *dx, V *y, const V *x, size_t count) {
    size_t start = start_of_thread();
    float v[EACH], d[EACH];
    if (start >= count)
        return;
    load_some(v, x, start, count);
    load_some(d, y, start, count);
    for (unsigned i = 0; i < EACH; i++) {
        d[i] *= gelu_slope(v[i]);
        v[i] = gelu_of(v[i]);
    }
    store_some(dx, d, start, count);
    store_some(y, v, start, count);
}

static __device__ float sigmoid(float v) {
    return 1.0f / (1.0f + expf(-v));
}

/*
 * A thread has EACH gates of a row and what they multiply; there are PER_ROW such threads. Where
 * WIDTH is no multiple of EACH, rows are aligned to nothing, and a thread has one value alone.
 */
template <class V>
static __global__ void swiglu(V *y, const V *x, size_t threads, size_t per_row, size_t width) {
    size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= threads)
        return;
    size_t row = at / per_row, step = width / per_row, column = at % per_row * step;
    size_t end = step == EACH ? width : column + 1;
    const V *gates = x + row * 2 * width, *ups = gates + width;
    float g[EACH], up[EACH];
    load_some(g, gates, column, end);
    load_some(up, ups, column, end);
    for (unsigned i = 0; i < EACH; i++)
        g[i] *= sigmoid(g[i]) * up[i];
    store_some(y + row * width, g, column, end);
}

/* silu'(g) = s + g s (1 - s), with s the sigmoid of g. */
template <class V>
static __global__ void swiglu_backward(V *dx, V *y, const V *x, size_t threads, size_t per_row,
                                       size_t width) {
    size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= threads)
        return;
    size_t row = at / per_row, step = width / per_row, column = at % per_row * step;
    size_t end = step == EACH ? width : column + 1;
    const V *gates = x + row * 2 * width, *ups = gates + width;
    V *dgates = dx + row * 2 * width, *dups = dgates + width;
    float g[EACH], up[EACH], dy[EACH], dg[EACH];
    load_some(g, gates, column, end);
    load_some(up, ups, column, end);
    load_some(dy, y + row * width, column, end);
    for (unsigned i = 0; i < EACH; i++) {
        float s = sigmoid(g[i]);
        dg[i] = dy[i] * up[i] * (s + g[i] * s * (1.0f - s));
        dy[i] *= g[i] * s;
        up[i] *= g[i] * s;
    }
    store_some(dgates, dg, column, end);
    store_some(dups, dy, column, end);
    store_some(y + row * width, up, column, end);
}

/* A thread turns one pair of one head of one row. */
template <class V>
static __global__ void rotate(struct gwtf_attention_shape shape, V *qkv, const float *turns,
                              size_t count, bool back) {
    size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= count)
        return;
    size_t size = shape.width / shape.heads, half = size / 2, heads = shape.heads + shape.key_heads;
    size_t i = at % half, head = at / half % heads, row = shape.first + at / half / heads;
    const float *turn = turns + row % shape.context * size;
    float cosine = turn[i], sine = back ? -turn[half + i] : turn[half + i];
    V *x = qkv + row * (shape.width + 2 * shape.key_heads * size) + head * size + i;
    float first = value_of(x[0]), second = value_of(x[half]);
    store(&x[0], first * cosine - second * sine);
    store(&x[half], second * cosine + first * sine);
}

static __global__ void round_all(bfloat16 *rounded, const float *values, uint64_t count) {
    size_t start = start_of_thread();
    float v[EACH];
    if (start >= count)
        return;
    load_some(v, values, start, count);
    store_some(rounded, v, start, count);
}

template <class V>
static __global__ void add_bias(V *values, const float *bias, size_t count, size_t width) {
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < count)
        store(&values[i], value_of(values[i]) + bias[i % width]);
}

/* Every operation rounds by itself, as model/optimizer.c has it: replicas on other machines must
 * take the same step to the last bit. */
static __global__ void adamw(struct gwtf_adamw a, float *w, float *m, float *v,
                             const float *gradients, bfloat16 *rounded, uint64_t count) {
    uint64_t i = (uint64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    float fresh1 = __fsub_rn(1.0f, a.beta1), fresh2 = __fsub_rn(1.0f, a.beta2);
    float g = __fmul_rn(gradients[i], a.gradient_scale);
    float first = __fadd_rn(__fmul_rn(a.beta1, m[i]), __fmul_rn(fresh1, g));
    float second = __fadd_rn(__fmul_rn(a.beta2, v[i]), __fmul_rn(fresh2, __fmul_rn(g, g)));
    float root = __fadd_rn(__fmul_rn(__fsqrt_rn(second), a.root), a.epsilon);
    float step = __fmul_rn(a.size, __fdiv_rn(first, root));
    float weight = __fsub_rn(__fmul_rn(a.keep, w[i]), step);
    m[i] = first;
    v[i] = second;
    w[i] = weight;
    if (rounded != NULL)
        store(&rounded[i], weight);
}

#define SQUARES_BLOCKS (GWTF_CUDA_SQUARES_SCRATCH / 2)

/* The block's sum, in its first thread. */
static __device__ double block_sum(double sum) {
    __shared__ double sums[THREADS];
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (unsigned apart = THREADS / 2; apart > 0; apart /= 2) {
        if (threadIdx.x < apart)
            sums[threadIdx.x] += sums[threadIdx.x + apart];
        __syncthreads();
    }
    return sums[0];
}

static __global__ void square_sums(double *partial, const float *values, uint64_t count) {
    double sum = 0;
    for (uint64_t i = (uint64_t)blockIdx.x * THREADS + threadIdx.x; i < count;
         i += (uint64_t)gridDim.x * THREADS)
        sum += (double)values[i] * (double)values[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        partial[blockIdx.x] = sum;
}

static __global__ void total(double *sum, const double *partial, unsigned count) {
    double own = 0;
    for (unsigned i = threadIdx.x; i < count; i += THREADS)
        own += partial[i];
    own = block_sum(own);
    if (threadIdx.x == 0)
        *sum = own;
}

void gwtf_cuda_gelu(cudaStream_t stream, enum gwtf_cuda_values values, void *y, const void *x,
                    size_t count) {
    GWTF_FOR_VALUES(values, GWTF_LAUNCH(gelu, dim3(blocks_for(count, THREADS * EACH)),
                                        dim3(THREADS), 0, stream, (V *)y, (const V *)x, count));
}

void gwtf_cuda_gelu_backward(cudaStream_t stream, enum gwtf_cuda_values values, void *dx, void *y,
                             const void *x, size_t count) {
    GWTF_FOR_VALUES(values,
                    GWTF_LAUNCH(gelu_backward, dim3(blocks_for(count, THREADS * EACH)),
                                dim3(THREADS), 0, stream, (V *)dx, (V *)y, (const V *)x, count));
}

/* Of swiglu and its backward. */
static size_t threads_per_row(size_t width) {
    return width % EACH == 0 ? width / EACH : width;
}

void gwtf_cuda_swiglu(cudaStream_t stream, enum gwtf_cuda_values values, void *y, const void *x,
                      size_t rows, size_t width) {
    size_t per_row = threads_per_row(width), count = rows * per_row;
    GWTF_FOR_VALUES(values, GWTF_LAUNCH(swiglu, dim3(blocks_for(count, THREADS)), dim3(THREADS), 0,
                                        stream, (V *)y, (const V *)x, count, per_row, width));
}

void gwtf_cuda_swiglu_backward(cudaStream_t stream, enum gwtf_cuda_values values, void *dx, void *y,
                               const void *x, size_t rows, size_t width) {
    size_t per_row = threads_per_row(width), count = rows * per_row;
    GWTF_FOR_VALUES(values,
                    GWTF_LAUNCH(swiglu_backward, dim3(blocks_for(count, THREADS)), dim3(THREADS), 0,
                                stream, (V *)dx, (V *)y, (const V *)x, count, per_row, width));
}

void gwtf_cuda_rotate(cudaStream_t stream, enum gwtf_cuda_values values,
                      const struct gwtf_attention_shape *shape, void *qkv, const float *turns,
                      bool back) {
    struct gwtf_attention_shape s = *shape;
    size_t rows = s.sequences * s.context - s.first;
    size_t count = rows * (s.heads + s.key_heads) * (s.width / s.heads / 2);
    GWTF_FOR_VALUES(values, GWTF_LAUNCH(rotate, dim3(blocks_for(count, THREADS)), dim3(THREADS), 0,
                                        stream, s, (V *)qkv, turns, count, back));
}

void gwtf_cuda_round(cudaStream_t stream, void *rounded, const float *values, uint64_t count) {
    GWTF_LAUNCH(round_all, dim3(blocks_for(count, THREADS * EACH)), dim3(THREADS), 0, stream,
                (bfloat16 *)rounded, values, count);
}

void gwtf_cuda_add_bias(cudaStream_t stream, enum gwtf_cuda_values kind, void *values,
                        const float *bias, size_t rows, size_t width) {
    size_t count = rows * width;
    GWTF_FOR_VALUES(kind, GWTF_LAUNCH(add_bias, dim3(blocks_for(count, THREADS)), dim3(THREADS), 0,
                                      stream, (V *)values, bias, count, width));
}

void gwtf_cuda_adamw(cudaStream_t stream, const struct gwtf_adamw *a, float *w, float *m, float *v,
                     const float *gradients, void *rounded, uint64_t count) {
    struct gwtf_adamw settings = *a;
    GWTF_LAUNCH(adamw, dim3(blocks_for(count, THREADS)), dim3(THREADS), 0, stream, settings, w, m,
                v, gradients, (bfloat16 *)rounded, count);
}

void gwtf_cuda_sum_of_squares(cudaStream_t stream, const float *values, uint64_t count,
                              float *scratch, double *sum) {
    unsigned wanted = blocks_for(count, THREADS);
    unsigned blocks = wanted < SQUARES_BLOCKS ? wanted : SQUARES_BLOCKS;
    double *partial = (double *)(void *)scratch;
    GWTF_LAUNCH(square_sums, dim3(blocks), dim3(THREADS), 0, stream, partial, values, count);
    GWTF_LAUNCH(total, dim3(1), dim3(THREADS), 0, stream, sum, partial, blocks);
}
