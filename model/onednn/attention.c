/*
 * Attention, head by head and a block of tokens at a time: a block meets only the keys up to its
 * last token, so that half of the products are never computed and scores stay in cache.
 */
#include "model/onednn/attention.h"

#include "model/onednn/kernels.h"
#include "model/onednn/product.h"

#include <math.h>
#include <omp.h>

/* Tokens of one block. */
#define BLOCK 64u

uint64_t gwtf_onednn_attention_scratch_floats(const struct gwtf_compute_limits *limits) {
    return 2 * (uint64_t)limits->threads * BLOCK * limits->context;
}

/* One head of one sequence; the strides are the distances of rows in floats. */
struct head {
    const float *q, *k, *v; /* (context, size), stride qkv_stride */
    size_t qkv_stride;
    size_t y_stride;
    size_t y_start;   /* of the head's first row, in an array laid out as Y */
    size_t log_start; /* of the head's first token, in LOG_SUMS */
    size_t size;
    size_t context;
    float scale;
};

static struct head head_at(const struct gwtf_attention_shape *shape, const float *qkv,
                           size_t index) {
    size_t sequence = index / shape->heads, number = index % shape->heads;
    size_t size = shape->width / shape->heads, stride = 3 * shape->width;
    const float *q = qkv + sequence * shape->context * stride + number * size;
    return (struct head){.q = q,
                         .k = q + shape->width,
                         .v = q + 2 * shape->width,
                         .qkv_stride = stride,
                         .y_stride = shape->width,
                         .y_start = sequence * shape->context * shape->width + number * size,
                         .log_start = index * shape->context,
                         .size = size,
                         .context = shape->context,
                         .scale = 1.0f / sqrtf((float)size)};
}

static size_t block_rows(const struct head *head, size_t first) {
    size_t left = head->context - first;
    return left < BLOCK ? left : BLOCK;
}

static struct gwtf_matrix plain(const float *values, size_t stride) {
    return (struct gwtf_matrix){.values = values, .stride = stride};
}

static struct gwtf_matrix transposed(const float *values, size_t stride) {
    return (struct gwtf_matrix){.values = values, .stride = stride, .transposed = true};
}

/* P (rows, keys) = the scaled products of the tokens from FIRST with the keys before FIRST + ROWS.
 */
static void scores(const struct head *head, float *p, size_t first, size_t rows) {
    size_t keys = first + rows;
    gwtf_product(p, keys, plain(head->q + first * head->qkv_stride, head->qkv_stride),
                 transposed(head->k, head->qkv_stride), rows, keys, head->size, head->scale, false);
}

static void forward_head(const struct gwtf_compute *compute, const struct head *head, float *y,
                         float *log_sums, float *p) {
    for (size_t first = 0; first < head->context; first += BLOCK) {
        size_t rows = block_rows(head, first), keys = first + rows;
        scores(head, p, first, rows);
        compute->kernels->softmax(p, log_sums + first, first, rows, keys);
        gwtf_product(y + first * head->y_stride, head->y_stride, plain(p, keys),
                     plain(head->v, head->qkv_stride), rows, head->size, keys, 1.0f, false);
    }
}

static void backward_head(const struct gwtf_compute *compute, const struct head *head, float *dq,
                          float *dk, float *dv, const float *dy, const float *y,
                          const float *log_sums, float *scratch) {
    size_t stride = head->qkv_stride;
    size_t blocks = (head->context + BLOCK - 1) / BLOCK;
    float *p = scratch, *dp = scratch + BLOCK * head->context;
    /* From the last block, which reaches every key: so it can start the sums over blocks. */
    for (size_t block = blocks; block-- > 0;) {
        size_t first = block * BLOCK, rows = block_rows(head, first), keys = first + rows;
        bool add = block + 1 < blocks;
        struct gwtf_matrix k = plain(head->k, stride), q = plain(head->q + first * stride, stride);
        struct gwtf_matrix gradient = plain(dy + first * head->y_stride, head->y_stride);
        scores(head, p, first, rows);
        compute->kernels->softmax_again(p, log_sums + first, first, rows, keys);
        gwtf_product(dv, stride, transposed(p, keys), gradient, keys, head->size, rows, 1.0f, add);
        gwtf_product(dp, keys, gradient, transposed(head->v, stride), rows, keys, head->size, 1.0f,
                     false);
        compute->kernels->softmax_backward(dp, p, gradient.values, y + first * head->y_stride,
                                           head->size, head->y_stride, head->scale, rows, keys);
        gwtf_product(dq + first * stride, stride, plain(dp, keys), k, rows, head->size, keys, 1.0f,
                     false);
        gwtf_product(dk, stride, transposed(dp, keys), q, keys, head->size, rows, 1.0f, add);
    }
}

static float *thread_scratch(const struct gwtf_compute *compute,
                             const struct gwtf_attention_shape *shape) {
    return compute->scratch + (size_t)omp_get_thread_num() * 2 * BLOCK * shape->context;
}

void gwtf_onednn_attention(const struct gwtf_compute *compute,
                           const struct gwtf_attention_shape *shape, float *y, float *log_sums,
                           const float *qkv) {
    size_t heads = shape->sequences * shape->heads;
    int threads = compute->threads;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (size_t i = 0; i < heads; i++) {
        struct head head = head_at(shape, qkv, i);
        forward_head(compute, &head, y + head.y_start, log_sums + head.log_start,
                     thread_scratch(compute, shape));
    }
}

void gwtf_onednn_attention_backward(const struct gwtf_compute *compute,
                                    const struct gwtf_attention_shape *shape, float *dqkv,
                                    const float *dy, const float *qkv, const float *y,
                                    const float *log_sums) {
    size_t heads = shape->sequences * shape->heads;
    int threads = compute->threads;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (size_t i = 0; i < heads; i++) {
        struct head head = head_at(shape, qkv, i);
        float *dq = dqkv + (head.q - qkv);
        backward_head(compute, &head, dq, dq + shape->width, dq + 2 * shape->width,
                      dy + head.y_start, y + head.y_start, log_sums + head.log_start,
                      thread_scratch(compute, shape));
    }
}
