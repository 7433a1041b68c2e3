/*
 * Attention, head by head and a block of tokens at a time: a block meets only the keys up to its
 * last token, so that half of the products are never computed and scores stay in cache.
 */
#include "model/onednn/attention.h"

#include "model/onednn/kernels.h"
#include "model/onednn/product.h"
#include "model/onednn/share.h"

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
    size_t context, tokens_before;
    float scale;
};

static struct head head_at(const struct gwtf_attention_shape *shape, const float *qkv,
                           size_t index) {
    size_t sequence = index / shape->heads, number = index % shape->heads;
    size_t size = shape->width / shape->heads, stride = gwtf_attention_row(shape);
    size_t key_head = number / (shape->heads / shape->key_heads);
    const float *row = qkv + sequence * shape->context * stride;
    const float *keys = row + shape->width, *values = keys + shape->key_heads * size;
    return (struct head){.q = row + number * size,
                         .k = keys + key_head * size,
                         .v = values + key_head * size,
                         .qkv_stride = stride,
                         .y_stride = shape->width,
                         .y_start = sequence * shape->context * shape->width + number * size,
                         .log_start = index * shape->context,
                         .size = size,
                         .context = shape->context,
                         .tokens_before = shape->first,
                         .scale = 1.0f / sqrtf((float)size)};
}

static size_t block_rows(const struct head *head, size_t first) {
    size_t left = head->context - first;
    return left < BLOCK ? left : BLOCK;
}

/* Where a thread works: scores and their gradients, (BLOCK, context) each. */
struct room {
    float *p, *dp;
};

/* C (m, n) = A B (k deep), plus what stands in C when ADD. */
static void multiply(const struct gwtf_compute *compute, float *c, size_t c_stride,
                     struct gwtf_matrix a, struct gwtf_matrix b, size_t m, size_t n, size_t k,
                     bool add) {
    struct gwtf_product product = {.m = m,
                                   .n = n,
                                   .k = k,
                                   .a = a,
                                   .b = b,
                                   .c = c,
                                   .c_stride = c_stride,
                                   .around = add ? c : NULL};
    gwtf_product_run_alone(compute, &product);
}

static struct gwtf_matrix plain(const float *values, size_t stride) {
    return (struct gwtf_matrix){.values = values, .stride = stride};
}

static struct gwtf_matrix transposed(const float *values, size_t stride) {
    return (struct gwtf_matrix){.values = values, .stride = stride, .transposed = true};
}

static void forward_head(const struct gwtf_compute *compute, const struct head *head, float *y,
                         float *log_sums, struct room room) {
    size_t stride = head->qkv_stride;
    for (size_t first = head->tokens_before; first < head->context; first += BLOCK) {
        size_t rows = block_rows(head, first), keys = first + rows;
        multiply(compute, room.p, keys, plain(head->q + first * stride, stride),
                 transposed(head->k, stride), rows, keys, head->size, false);
        compute->kernels->softmax(room.p, log_sums + first, head->scale, first, rows, keys);
        multiply(compute, y + first * head->y_stride, head->y_stride, plain(room.p, keys),
                 plain(head->v, stride), rows, head->size, keys, false);
    }
}

/* What a head's gradients are added to: with SHARED, DK and DV hold those of heads before it. */
struct head_gradients {
    float *dq, *dk, *dv;
    bool shared;
};

static void backward_head(const struct gwtf_compute *compute, const struct head *head,
                          const struct head_gradients *into, const float *dy, const float *y,
                          const float *log_sums, struct room room) {
    size_t stride = head->qkv_stride;
    size_t blocks = (head->context + BLOCK - 1) / BLOCK;
    float *p = room.p, *dp = room.dp;
    /* From the last block, which reaches every key: so it can start the sums over blocks. */
    for (size_t block = blocks; block-- > 0;) {
        size_t first = block * BLOCK, rows = block_rows(head, first), keys = first + rows;
        bool add = into->shared || block + 1 < blocks;
        struct gwtf_matrix k = plain(head->k, stride), q = plain(head->q + first * stride, stride);
        struct gwtf_matrix gradient = plain(dy + first * head->y_stride, head->y_stride);
        multiply(compute, p, keys, q, transposed(head->k, stride), rows, keys, head->size, false);
        compute->kernels->softmax_again(p, log_sums + first, head->scale, first, rows, keys);
        multiply(compute, into->dv, stride, transposed(p, keys), gradient, keys, head->size, rows,
                 add);
        multiply(compute, dp, keys, gradient, transposed(head->v, stride), rows, keys, head->size,
                 false);
        compute->kernels->softmax_backward(dp, p, gradient.values, y + first * head->y_stride,
                                           head->size, head->y_stride, head->scale, rows, keys);
        multiply(compute, into->dq + first * stride, stride, plain(dp, keys), k, rows, head->size,
                 keys, false);
        multiply(compute, into->dk, stride, transposed(dp, keys), q, keys, head->size, rows, add);
    }
}

/* After the scratch of the products, where ROOMS starts. */
static struct room room_of(float *rooms, size_t context) {
    float *p = rooms + (size_t)omp_get_thread_num() * 2 * BLOCK * context;
    return (struct room){.p = p, .dp = p + BLOCK * context};
}

static float *rooms_of(const struct gwtf_compute *compute) {
    struct gwtf_compute_limits limits = {.threads = compute->threads};
    return compute->scratch + gwtf_product_scratch_floats(&limits);
}

void gwtf_onednn_attention(const struct gwtf_compute *compute,
                           const struct gwtf_attention_shape *shape, float *y, float *log_sums,
                           const float *qkv) {
    size_t heads = shape->sequences * shape->heads;
    float *rooms = rooms_of(compute);
    int threads = compute->threads;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (size_t i = 0; i < heads; i++) {
        struct head head = head_at(shape, qkv, i);
        forward_head(compute, &head, y + head.y_start, log_sums + head.log_start,
                     room_of(rooms, shape->context));
    }
}

void gwtf_onednn_attention_backward(const struct gwtf_compute *compute,
                                    const struct gwtf_attention_shape *shape, float *dqkv,
                                    const float *dy, const float *qkv, const float *y,
                                    const float *log_sums) {
    size_t key_heads = shape->sequences * shape->key_heads;
    size_t group = shape->heads / shape->key_heads;
    float *rooms = rooms_of(compute);
    int threads = compute->threads;
    /* The heads of a group add to the same keys and values: one thread takes them all. */
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (size_t i = 0; i < key_heads; i++) {
        for (size_t member = 0; member < group; member++) {
            struct head head = head_at(shape, qkv, i * group + member);
            struct head_gradients into = {.dq = dqkv + (head.q - qkv),
                                          .dk = dqkv + (head.k - qkv),
                                          .dv = dqkv + (head.v - qkv),
                                          .shared = member > 0};
            backward_head(compute, &head, &into, dy + head.y_start, y + head.y_start,
                          log_sums + head.log_start, room_of(rooms, shape->context));
        }
    }
}

void gwtf_onednn_rotate(const struct gwtf_compute *compute,
                        const struct gwtf_attention_shape *shape, float *qkv, const float *turns,
                        bool back) {
    size_t size = shape->width / shape->heads, stride = gwtf_attention_row(shape);
    int threads = compute->threads;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int t = 0; t < threads; t++) {
        struct gwtf_share part =
            gwtf_share_of(shape->sequences * shape->context - shape->first, t, threads);
        size_t start = shape->first + part.first;
        for (size_t row = start; row < start + part.count; row++)
            compute->kernels->rotate(qkv + row * stride, turns + row % shape->context * size,
                                     shape->heads + shape->key_heads, size, back);
    }
}
