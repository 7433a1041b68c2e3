/* LayerNorm and RMSNorm: a warp for a row; and sums over rows, which both the norms' weights and
 * biases want. */
#include "model/cuda/kernel.cuh"
#include "model/cuda/launch.h"

#define ROWS_PER_BLOCK 8u

template <class V>
static __global__ void norm_rows(struct gwtf_norm_shape shape, V *y, float *mean, float *rstd,
                                 const float *x, const float *w, const float *b) {
    size_t row = (size_t)blockIdx.x * ROWS_PER_BLOCK + threadIdx.y;
    if (row >= shape.rows)
        return;
    size_t width = shape.width, start = row * width;
    float average = 0, squares = 0;
    if (shape.centred) {
        for (size_t i = threadIdx.x; i < width; i += WARP)
            average += x[start + i];
        average = warp_sum(average) / (float)width;
    }
    for (size_t i = threadIdx.x; i < width; i += WARP) {
        float apart = x[start + i] - average;
        squares += apart * apart;
    }
    float scale = 1.0f / sqrtf(warp_sum(squares) / (float)width + shape.epsilon);
    if (threadIdx.x == 0) {
        mean[row] = average;
        rstd[row] = scale;
    }
    for (size_t i = threadIdx.x; i < width; i += WARP) {
        float scaled = (x[start + i] - average) * scale * w[i];
        store(&y[start + i], b != NULL ? scaled + b[i] : scaled);
    }
}

template <class V>
static __global__ void norm_rows_again(struct gwtf_norm_shape shape, V *y,
                                       struct gwtf_cuda_norm norm, const float *b) {
    size_t row = (size_t)blockIdx.x * ROWS_PER_BLOCK + threadIdx.y;
    if (row >= shape.rows)
        return;
    size_t start = row * shape.width;
    float average = norm.mean[row], scale = norm.rstd[row];
    for (size_t i = threadIdx.x; i < shape.width; i += WARP) {
        float scaled = (norm.x[start + i] - average) * scale * norm.w[i];
        store(&y[start + i], b != NULL ? scaled + b[i] : scaled);
    }
}

/* As in the reference: with n = (x - mean) * rstd and dn = dy * w,
 * dx = rstd * (dn - average(dn) - n * average(dn * n)). */
template <class V>
static __global__ void norm_rows_backward(struct gwtf_norm_shape shape, float *dx, const V *dy,
                                          const float *residual, struct gwtf_cuda_norm norm) {
    size_t row = (size_t)blockIdx.x * ROWS_PER_BLOCK + threadIdx.y;
    if (row >= shape.rows)
        return;
    size_t width = shape.width, start = row * width;
    float average = norm.mean[row], scale = norm.rstd[row], sum = 0, sum_n = 0;
    for (size_t i = threadIdx.x; i < width; i += WARP) {
        float n = (norm.x[start + i] - average) * scale;
        float dn = value_of(dy[start + i]) * norm.w[i];
        sum += dn;
        sum_n += dn * n;
    }
    sum = shape.centred ? warp_sum(sum) / (float)width : 0;
    sum_n = warp_sum(sum_n) / (float)width;
    for (size_t i = threadIdx.x; i < width; i += WARP) {
        float n = (norm.x[start + i] - average) * scale;
        float dn = value_of(dy[start + i]) * norm.w[i];
        float d = scale * (dn - sum - n * sum_n);
        dx[start + i] = residual != NULL ? d + residual[start + i] : d;
    }
}

/*
 * Sums over rows, in an order that does not depend on when blocks run: each of SPLITS blocks sums
 * the rows s, s + SPLITS * TALL, ... of a column, and then one adds up the blocks' sums.
 */
#define SPLITS 32u
#define TALL 8u

struct plain_column {
    __device__ float operator()(size_t, size_t, float value) const {
        return value;
    }
};

/* What a norm's weight multiplied. */
struct normed_column {
    struct gwtf_cuda_norm norm;
    size_t width;
    __device__ float operator()(size_t row, size_t column, float value) const {
        return value * (norm.x[row * width + column] - norm.mean[row]) * norm.rstd[row];
    }
};

template <class V, class Column>
static __global__ void sum_columns(float *partial, const V *values, size_t rows, size_t width,
                                   Column weigh) {
    __shared__ float sums[TALL][WARP + 1];
    size_t column = (size_t)blockIdx.x * WARP + threadIdx.x;
    float sum = 0;
    if (column < width)
        for (size_t row = (size_t)blockIdx.y * TALL + threadIdx.y; row < rows; row += SPLITS * TALL)
            sum += weigh(row, column, value_of(values[row * width + column]));
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || column >= width)
        return;
    for (unsigned i = 1; i < TALL; i++)
        sum += sums[i][threadIdx.x];
    partial[blockIdx.y * width + column] = sum;
}

static __global__ void add_partial_sums(float *sums, const float *partial, size_t width) {
    size_t column = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width)
        return;
    float sum = 0;
    for (unsigned i = 0; i < SPLITS; i++)
        sum += partial[i * width + column];
    sums[column] += sum;
}

template <class V, class Column>
static void add_columns(cudaStream_t stream, float *sums, const V *values, size_t rows,
                        size_t width, float *scratch, Column weigh) {
    dim3 grid(blocks_for(width, WARP), SPLITS), block(WARP, TALL);
    GWTF_LAUNCH(sum_columns, grid, block, 0, stream, scratch, values, rows, width, weigh);
    GWTF_LAUNCH(add_partial_sums, dim3(blocks_for(width, 256)), dim3(256), 0, stream, sums, scratch,
                width);
}

size_t gwtf_cuda_column_scratch(size_t width) {
    return SPLITS * width;
}

void gwtf_cuda_add_columns(cudaStream_t stream, enum gwtf_cuda_values kind, float *sums,
                           const void *values, size_t rows, size_t width, float *scratch) {
    GWTF_FOR_VALUES(
        kind, add_columns(stream, sums, (const V *)values, rows, width, scratch, plain_column()));
}

static dim3 row_blocks(const struct gwtf_norm_shape *shape) {
    return dim3(blocks_for(shape->rows, ROWS_PER_BLOCK));
}

void gwtf_cuda_norm(cudaStream_t stream, enum gwtf_cuda_values values,
                    const struct gwtf_norm_shape *shape, void *y, float *mean, float *rstd,
                    const float *x, const float *w, const float *b) {
    struct gwtf_norm_shape s = *shape;
    GWTF_FOR_VALUES(values, GWTF_LAUNCH(norm_rows, row_blocks(shape), dim3(WARP, ROWS_PER_BLOCK), 0,
                                        stream, s, (V *)y, mean, rstd, x, w, b));
}

void gwtf_cuda_norm_again(cudaStream_t stream, enum gwtf_cuda_values values,
                          const struct gwtf_norm_shape *shape, void *y,
                          const struct gwtf_cuda_norm *norm, const float *b) {
    struct gwtf_norm_shape s = *shape;
    struct gwtf_cuda_norm n = *norm;
    GWTF_FOR_VALUES(values, GWTF_LAUNCH(norm_rows_again, row_blocks(shape),
                                        dim3(WARP, ROWS_PER_BLOCK), 0, stream, s, (V *)y, n, b));
}

void gwtf_cuda_norm_backward(cudaStream_t stream, enum gwtf_cuda_values values,
                             const struct gwtf_norm_shape *shape, float *dx, float *dw, float *db,
                             const void *dy, const float *residual,
                             const struct gwtf_cuda_norm *norm, float *scratch) {
    struct gwtf_norm_shape s = *shape;
    struct gwtf_cuda_norm n = *norm;
    GWTF_FOR_VALUES(values,
                    GWTF_LAUNCH(norm_rows_backward, row_blocks(shape), dim3(WARP, ROWS_PER_BLOCK),
                                0, stream, s, dx, (const V *)dy, residual, n));
    GWTF_FOR_VALUES(values, add_columns(stream, dw, (const V *)dy, shape->rows, shape->width,
                                        scratch, normed_column{n, shape->width}));
    if (db != NULL)
        gwtf_cuda_add_columns(stream, values, db, dy, shape->rows, shape->width, scratch);
}
