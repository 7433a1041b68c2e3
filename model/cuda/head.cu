/* What the data nodes compute: embeddings, and the loss with its gradient in place of the logits.
 */
#include "model/cuda/kernel.cuh"
#include "model/cuda/launch.h"

#define THREADS 256u
#define WARPS (THREADS / WARP)

static __device__ float block_sum(float x, float *room) {
    x = warp_sum(x);
    if (threadIdx.x % WARP == 0)
        room[threadIdx.x / WARP] = x;
    __syncthreads();
    float sum = 0;
    for (unsigned i = 0; i < WARPS; i++)
        sum += room[i];
    __syncthreads();
    return sum;
}

static __device__ float block_largest(float x, float *room) {
    x = warp_largest(x);
    if (threadIdx.x % WARP == 0)
        room[threadIdx.x / WARP] = x;
    __syncthreads();
    float largest = room[0];
    for (unsigned i = 1; i < WARPS; i++)
        largest = fmaxf(largest, room[i]);
    __syncthreads();
    return largest;
}

/* A block for a row. */
template <class V>
static __global__ void cross_entropy(V *logits, const uint32_t *labels, float scale, bool backward,
                                     size_t vocabulary, float *losses) {
    __shared__ float room[WARPS];
    V *z = logits + (size_t)blockIdx.x * vocabulary;
    uint32_t label = labels[blockIdx.x];
    /* The largest so far, and the sum of exponentials by it: one pass over the row. */
    float largest = -INFINITY, sum = 0;
    for (size_t i = threadIdx.x; i < vocabulary; i += THREADS) {
        float x = value_of(z[i]);
        if (x > largest) {
            sum = sum * expf(largest - x) + 1.0f;
            largest = x;
        } else {
            sum += expf(x - largest);
        }
    }
    float of_row = block_largest(largest, room);
    sum = block_sum(sum > 0 ? sum * expf(largest - of_row) : 0, room);
    float log_sum = of_row + logf(sum);
    if (threadIdx.x == 0)
        losses[blockIdx.x] = log_sum - value_of(z[label]);
    if (!backward)
        return;
    __syncthreads();
    for (size_t i = threadIdx.x; i < vocabulary; i += THREADS) {
        float p = expf(value_of(z[i]) - log_sum);
        store(&z[i], scale * (p - (i == label ? 1.0f : 0.0f)));
    }
}

/* One block: the order is always the same. */
static __global__ void add_losses(double *loss, const float *losses, size_t rows) {
    __shared__ double sums[THREADS];
    double sum = 0;
    for (size_t i = threadIdx.x; i < rows; i += THREADS)
        sum += (double)losses[i];
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x != 0)
        return;
    for (unsigned i = 1; i < THREADS; i++)
        sum += sums[i];
    *loss += sum;
}

static __global__ void embed(struct gwtf_embedding e, float *output, const float *token_rows,
                             const float *position_rows, const uint32_t *tokens) {
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= e.rows * e.width)
        return;
    size_t row = i / e.width, column = i % e.width;
    float sum = token_rows[tokens[row] * e.width + column];
    if (position_rows != NULL)
        sum += position_rows[(e.first + row) % e.context * e.width + column];
    output[i] = sum;
}

/* A block for a token and some columns: nobody else adds to these, and always in the same order. */
static __global__ void add_tokens(size_t width, float *token_rows, const float *gradient,
                                  struct gwtf_cuda_order order) {
    size_t column = (size_t)blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= width)
        return;
    float sum = 0;
    for (uint32_t i = order.starts[blockIdx.x]; i < order.starts[blockIdx.x + 1]; i++)
        sum += gradient[order.order[i] * width + column];
    token_rows[order.tokens[blockIdx.x] * width + column] += sum;
}

static __global__ void add_positions(struct gwtf_embedding e, float *position_rows,
                                     const float *gradient) {
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= e.context * e.width)
        return;
    float sum = 0;
    for (size_t at = i; at < e.rows * e.width; at += e.context * e.width)
        sum += gradient[at];
    position_rows[i] += sum;
}

void gwtf_cuda_cross_entropy(cudaStream_t stream, enum gwtf_cuda_values values, void *logits,
                             const uint32_t *labels, float scale, bool backward, size_t rows,
                             size_t vocabulary, float *losses, double *loss) {
    GWTF_FOR_VALUES(values,
                    GWTF_LAUNCH(cross_entropy, dim3((unsigned)rows), dim3(THREADS), 0, stream,
                                (V *)logits, labels, scale, backward, vocabulary, losses));
    GWTF_LAUNCH(add_losses, dim3(1), dim3(THREADS), 0, stream, loss, losses, rows);
}

void gwtf_cuda_embed(cudaStream_t stream, const struct gwtf_embedding *embedding, float *output,
                     const float *token_rows, const float *position_rows, const uint32_t *tokens) {
    struct gwtf_embedding e = *embedding;
    GWTF_LAUNCH(embed, dim3(blocks_for(e.rows * e.width, THREADS)), dim3(THREADS), 0, stream, e,
                output, token_rows, position_rows, tokens);
}

void gwtf_cuda_embed_backward(cudaStream_t stream, const struct gwtf_embedding *embedding,
                              float *token_rows, float *position_rows, const float *gradient,
                              const struct gwtf_cuda_order *order) {
    struct gwtf_embedding e = *embedding;
    struct gwtf_cuda_order o = *order;
    dim3 grid((unsigned)o.distinct, blocks_for(e.width, 128));
    GWTF_LAUNCH(add_tokens, grid, dim3(128), 0, stream, e.width, token_rows, gradient, o);
    if (position_rows != NULL)
        GWTF_LAUNCH(add_positions, dim3(blocks_for(e.context * e.width, THREADS)), dim3(THREADS), 0,
                    stream, e, position_rows, gradient);
}
