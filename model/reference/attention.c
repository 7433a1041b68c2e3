#include "model/reference/attention.h"

#include <math.h>
#include <string.h>

/* One head of one sequence. Row t of Q, K, V and their gradients starts t * stride floats on. */
struct head {
    const float *q, *k, *v;
    size_t stride;
    size_t size; /* floats of a head's vector */
    size_t context, first;
    double scale; /* 1 / sqrt(size) */
};

static struct head head_at(const struct gwtf_attention_shape *shape, const float *qkv,
                           size_t sequence, size_t head) {
    size_t size = shape->width / shape->heads, stride = gwtf_attention_row(shape);
    size_t key_head = head / (shape->heads / shape->key_heads);
    const float *row = qkv + sequence * shape->context * stride;
    const float *keys = row + shape->width, *values = keys + shape->key_heads * size;
    return (struct head){.q = row + head * size,
                         .k = keys + key_head * size,
                         .v = values + key_head * size,
                         .stride = stride,
                         .size = size,
                         .context = shape->context,
                         .first = shape->first,
                         .scale = 1.0 / sqrt((double)size)};
}

void gwtf_reference_rotate(const struct gwtf_compute *compute,
                           const struct gwtf_attention_shape *shape, float *qkv, const float *turns,
                           bool back) {
    (void)compute;
    size_t size = shape->width / shape->heads, half = size / 2;
    for (size_t row = shape->first; row < shape->sequences * shape->context; row++) {
        const float *turn = turns + row % shape->context * size;
        for (size_t head = 0; head < shape->heads + shape->key_heads; head++) {
            float *x = qkv + row * gwtf_attention_row(shape) + head * size;
            for (size_t i = 0; i < half; i++) {
                double cosine = (double)turn[i], sine = (double)turn[half + i];
                double first = (double)x[i], second = (double)x[half + i];
                if (back)
                    sine = -sine;
                x[i] = (float)(first * cosine - second * sine);
                x[half + i] = (float)(second * cosine + first * sine);
            }
        }
    }
}

static double dot(const float *a, const float *b, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static double score(const struct head *head, size_t t, size_t s) {
    return head->scale * dot(head->q + t * head->stride, head->k + s * head->stride, head->size);
}

/* Y and LOG_SUMS of one head; row t of Y starts t * y_stride floats on. P is a row of scratch. */
static void head_forward(const struct head *head, float *y, size_t y_stride, float *log_sums,
                         float *p) {
    for (size_t t = head->first; t < head->context; t++) {
        double largest = -INFINITY, sum = 0;
        for (size_t s = 0; s <= t; s++) {
            p[s] = (float)score(head, t, s);
            largest = fmax(largest, (double)p[s]);
        }
        for (size_t s = 0; s <= t; s++)
            sum += exp((double)p[s] - largest);
        double log_sum = largest + log(sum);
        log_sums[t] = (float)log_sum;
        for (size_t i = 0; i < head->size; i++) {
            double mixed = 0;
            for (size_t s = 0; s <= t; s++)
                mixed += exp((double)p[s] - log_sum) * (double)head->v[s * head->stride + i];
            y[t * y_stride + i] = (float)mixed;
        }
    }
}

void gwtf_reference_attention(const struct gwtf_compute *compute,
                              const struct gwtf_attention_shape *shape, float *y, float *log_sums,
                              const float *qkv) {
    size_t size = shape->width / shape->heads;
    for (size_t sequence = 0; sequence < shape->sequences; sequence++) {
        for (size_t h = 0; h < shape->heads; h++) {
            struct head head = head_at(shape, qkv, sequence, h);
            head_forward(&head, y + sequence * shape->context * shape->width + h * size,
                         shape->width, log_sums + (sequence * shape->heads + h) * shape->context,
                         compute->scratch);
        }
    }
}

/*
 * With p the probabilities of token t: dV_s += p_s dY_t, dp_s = dY_t . V_s, and through the softmax
 * dscore_s = p_s (dp_s - sum p dp), where sum p dp = dY_t . Y_t. DQ, DK, DV start as zeros.
 */
static void token_backward(const struct head *head, size_t t, float *dq, float *dk, float *dv,
                           const float *dy, const float *y, double log_sum) {
    size_t stride = head->stride, size = head->size;
    double along = dot(dy, y, size);
    for (size_t s = 0; s <= t; s++) {
        double p = exp(score(head, t, s) - log_sum);
        double dscore = p * (dot(dy, head->v + s * stride, size) - along) * head->scale;
        for (size_t i = 0; i < size; i++) {
            dv[s * stride + i] += (float)(p * (double)dy[i]);
            dq[t * stride + i] += (float)(dscore * (double)head->k[s * stride + i]);
            dk[s * stride + i] += (float)(dscore * (double)head->q[t * stride + i]);
        }
    }
}

void gwtf_reference_attention_backward(const struct gwtf_compute *compute,
                                       const struct gwtf_attention_shape *shape, float *dqkv,
                                       const float *dy, const float *qkv, const float *y,
                                       const float *log_sums) {
    (void)compute;
    size_t size = shape->width / shape->heads, rows = shape->sequences * shape->context;
    memset(dqkv, 0, rows * gwtf_attention_row(shape) * sizeof *dqkv);
    for (size_t sequence = 0; sequence < shape->sequences; sequence++) {
        for (size_t h = 0; h < shape->heads; h++) {
            struct head head = head_at(shape, qkv, sequence, h);
            float *dq = dqkv + (head.q - qkv), *dk = dqkv + (head.k - qkv);
            float *dv = dqkv + (head.v - qkv);
            for (size_t t = 0; t < shape->context; t++) {
                size_t at = (sequence * shape->context + t) * shape->width + h * size;
                size_t stat = (sequence * shape->heads + h) * shape->context + t;
                token_backward(&head, t, dq, dk, dv, dy + at, y + at, (double)log_sums[stat]);
            }
        }
    }
}
