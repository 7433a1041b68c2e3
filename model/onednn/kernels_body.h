/*
 * The loops behind struct gwtf_kernels. The file that includes this one defines
 * KERNELS, the name of the table, and KERNELS_NAME, and is compiled for one kind of vector unit;
 * the loops are written so that the compiler turns them into vectors of any width.
 */
#include "model/onednn/kernels.h"

#include <math.h>
#include <string.h>

#define LOG2_E 1.44269504088896341f
/* ln 2 in two parts: the first has so few bits that its multiples up to 128 are exact. */
#define LN2_HIGH 0.693145751953125f
#define LN2_LOW 1.42860682030941723e-6f
/* 1.5 * 2^23: adding it rounds to an integer, in the low bits of the sum. */
#define ROUNDER 12582912.0f
/* e^-87 is the last that is not a subnormal number; e^88 the last that is finite. */
#define EXP_LEAST -87.0f
#define EXP_MOST 88.0f

/* e^x, off by at most 2 in the last place; x outside EXP_LEAST..EXP_MOST counts as the nearest
 * inside. */
static inline float exponential(float x) {
    x = x < EXP_LEAST ? EXP_LEAST : x;
    x = x > EXP_MOST ? EXP_MOST : x;
    float rounded = x * LOG2_E + ROUNDER;
    float n = rounded - ROUNDER;
    float r = (x - n * LN2_HIGH) - n * LN2_LOW; /* |r| <= ln(2) / 2 */
    float p = 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    int32_t bits;
    memcpy(&bits, &rounded, sizeof bits);
    /* The low bits of ROUNDER are zero up to bit 22, so that only n moves into the exponent. */
    uint32_t power_bits = ((uint32_t)bits + 127u) << 23;
    float power;
    memcpy(&power, &power_bits, sizeof power);
    return p * power;
}

static inline void norm_row(float *y, const float *x, float average, float scale, const float *w,
                            const float *b, size_t width) {
    if (b == NULL) {
#pragma omp simd
        for (size_t i = 0; i < width; i++)
            y[i] = (x[i] - average) * scale * w[i];
        return;
    }
#pragma omp simd
    for (size_t i = 0; i < width; i++)
        y[i] = (x[i] - average) * scale * w[i] + b[i];
}

static void norm(const struct gwtf_norm_shape *shape, float *y, float *mean, float *rstd,
                 const float *x, const float *w, const float *b) {
    size_t width = shape->width;
    float share = 1.0f / (float)width;
    for (size_t row = 0; row < shape->rows; row++) {
        const float *values = x + row * width;
        float sum = 0, squares = 0;
        if (shape->centred) {
#pragma omp simd reduction(+ : sum)
            for (size_t i = 0; i < width; i++)
                sum += values[i];
        }
        float average = sum * share;
#pragma omp simd reduction(+ : squares)
        for (size_t i = 0; i < width; i++) {
            float away = values[i] - average;
            squares += away * away;
        }
        float scale = 1.0f / sqrtf(squares * share + shape->epsilon);
        mean[row] = average;
        rstd[row] = scale;
        norm_row(y + row * width, values, average, scale, w, b, width);
    }
}

static void norm_again(const struct gwtf_norm_shape *shape, float *y, const float *mean,
                       const float *rstd, const float *x, const float *w, const float *b) {
    size_t width = shape->width;
    for (size_t row = 0; row < shape->rows; row++)
        norm_row(y + row * width, x + row * width, mean[row], rstd[row], w, b, width);
}

static void norm_backward(const struct gwtf_norm_shape *shape, float *dx, float *dw, float *db,
                          const float *dy, const float *residual, const float *mean,
                          const float *rstd, const float *x, const float *w) {
    size_t width = shape->width;
    float share = 1.0f / (float)width;
    for (size_t row = 0; row < shape->rows; row++) {
        const float *values = x + row * width, *gradient = dy + row * width;
        float average = mean[row], scale = rstd[row], sum = 0, sum_n = 0;
#pragma omp simd reduction(+ : sum, sum_n)
        for (size_t i = 0; i < width; i++) {
            float n = (values[i] - average) * scale, dn = gradient[i] * w[i];
            sum += dn;
            sum_n += dn * n;
            dw[i] += gradient[i] * n;
            db[i] += gradient[i];
        }
        sum *= shape->centred ? share : 0.0f;
        sum_n *= share;
        float *out = dx + row * width;
        if (residual == NULL) {
#pragma omp simd
            for (size_t i = 0; i < width; i++) {
                float n = (values[i] - average) * scale;
                out[i] = scale * (gradient[i] * w[i] - sum - n * sum_n);
            }
            continue;
        }
        const float *around = residual + row * width;
#pragma omp simd
        for (size_t i = 0; i < width; i++) {
            float n = (values[i] - average) * scale;
            out[i] = around[i] + scale * (gradient[i] * w[i] - sum - n * sum_n);
        }
    }
}

/* gelu(x) = x / (1 + e^-2u) with u = sqrt(2 / pi) (x + 0.044715 x^3): the tanh form, written so
 * that nothing cancels. */
#define TWO_SQRT_2_OVER_PI 1.59576912160573071f
#define CUBIC 0.044715f

static void gelu(float *y, const float *x, size_t count) {
#pragma omp simd
    for (size_t i = 0; i < count; i++) {
        float v = x[i];
        float twice_u = TWO_SQRT_2_OVER_PI * v * (1.0f + CUBIC * v * v);
        /* As gelu_backward rounds it. */
        y[i] = v * (1.0f / (1.0f + exponential(-twice_u)));
    }
}

static void gelu_backward(float *dx, float *y, const float *x, size_t count) {
#pragma omp simd
    for (size_t i = 0; i < count; i++) {
        float v = x[i];
        float twice_u = TWO_SQRT_2_OVER_PI * v * (1.0f + CUBIC * v * v);
        float twice_du = TWO_SQRT_2_OVER_PI * (1.0f + 3.0f * CUBIC * v * v);
        float e = exponential(-twice_u);
        float gate = 1.0f / (1.0f + e);
        float value = v * gate;
        /* e * gate is 1 - gate, but keeps its digits where gate is near 1. */
        dx[i] = y[i] * (gate + value * (e * gate) * twice_du);
        y[i] = value;
    }
}

static void swiglu(float *y, const float *x, size_t rows, size_t width) {
    for (size_t row = 0; row < rows; row++) {
        const float *gate = x + row * 2 * width, *up = gate + width;
        float *out = y + row * width;
#pragma omp simd
        for (size_t i = 0; i < width; i++)
            out[i] = gate[i] * (1.0f / (1.0f + exponential(-gate[i]))) * up[i];
    }
}

static void swiglu_backward(float *dx, float *y, const float *x, size_t rows, size_t width) {
    for (size_t row = 0; row < rows; row++) {
        const float *gate = x + row * 2 * width, *up = gate + width;
        float *gate_d = dx + row * 2 * width, *up_d = gate_d + width, *out = y + row * width;
#pragma omp simd
        for (size_t i = 0; i < width; i++) {
            float e = exponential(-gate[i]), share = 1.0f / (1.0f + e);
            float silu = gate[i] * share, gradient = out[i];
            up_d[i] = gradient * silu;
            /* e * share is 1 - share, as for gelu. */
            gate_d[i] = gradient * up[i] * (share + silu * (e * share));
            out[i] = silu * up[i];
        }
    }
}

static void rotate(float *x, const float *turn, size_t heads, size_t size, bool back) {
    size_t half = size / 2;
    float sign = back ? -1.0f : 1.0f;
    for (size_t head = 0; head < heads; head++) {
        float *first = x + head * size, *second = first + half;
#pragma omp simd
        for (size_t i = 0; i < half; i++) {
            float cosine = turn[i], sine = sign * turn[half + i], a = first[i], b = second[i];
            first[i] = a * cosine - b * sine;
            second[i] = b * cosine + a * sine;
        }
    }
}

static float largest_of(const float *values, size_t count) {
    float largest = values[0];
#pragma omp simd reduction(max : largest)
    for (size_t i = 0; i < count; i++)
        largest = values[i] > largest ? values[i] : largest;
    return largest;
}

static double cross_entropy(float *logits, const uint32_t *labels, float scale, bool backward,
                            size_t rows, size_t vocabulary) {
    double loss = 0;
    for (size_t row = 0; row < rows; row++) {
        float *z = logits + row * vocabulary;
        float largest = largest_of(z, vocabulary), at_label = z[labels[row]], sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t i = 0; i < vocabulary; i++) {
            float e = exponential(z[i] - largest);
            z[i] = e;
            sum += e;
        }
        loss += (double)logf(sum) + (double)(largest - at_label);
        if (!backward)
            continue;
        float factor = scale / sum;
#pragma omp simd
        for (size_t i = 0; i < vocabulary; i++)
            z[i] *= factor;
        z[labels[row]] -= scale;
    }
    return loss;
}

static void start_row(float *y, const float *bias, const float *around, size_t width) {
    for (size_t i = 0; i < width; i++)
        y[i] = (bias != NULL ? bias[i] : 0.0f) + (around != NULL ? around[i] : 0.0f);
}

/* Four rows of B at a time: Y is loaded and stored once for them. */
static void row_times_along(float *y, const float *x, const float *b, size_t stride, size_t columns,
                            size_t depth) {
    size_t p = 0;
    for (; p + 4 <= depth; p += 4) {
        const float *b0 = b + p * stride, *b1 = b0 + stride, *b2 = b1 + stride, *b3 = b2 + stride;
        float x0 = x[p], x1 = x[p + 1], x2 = x[p + 2], x3 = x[p + 3];
#pragma omp simd
        for (size_t i = 0; i < columns; i++)
            y[i] += (x0 * b0[i] + x1 * b1[i]) + (x2 * b2[i] + x3 * b3[i]);
    }
    for (; p < depth; p++) {
#pragma omp simd
        for (size_t i = 0; i < columns; i++)
            y[i] += x[p] * b[p * stride + i];
    }
}

static void row_times(float *y, const float *x, const float *b, size_t stride, bool across,
                      size_t columns, size_t depth) {
    if (!across) {
        row_times_along(y, x, b, stride, columns, depth);
        return;
    }
    for (size_t i = 0; i < columns; i++) {
        const float *row = b + i * stride;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t p = 0; p < depth; p++)
            sum += x[p] * row[p];
        y[i] += sum;
    }
}

static void add_rows(float *sums, const float *x, size_t rows, size_t width, size_t stride) {
    for (size_t row = 0; row < rows; row++) {
        const float *values = x + row * stride;
#pragma omp simd
        for (size_t i = 0; i < width; i++)
            sums[i] += values[i];
    }
}

static void softmax(float *scores, float *log_sums, float scale, size_t first, size_t rows,
                    size_t keys) {
    for (size_t row = 0; row < rows; row++) {
        float *p = scores + row * keys;
        size_t seen = first + row + 1;
        float largest = scale * largest_of(p, seen), sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t i = 0; i < seen; i++) {
            float e = exponential(scale * p[i] - largest);
            p[i] = e;
            sum += e;
        }
        float share = 1.0f / sum;
#pragma omp simd
        for (size_t i = 0; i < seen; i++)
            p[i] *= share;
        memset(p + seen, 0, (keys - seen) * sizeof *p);
        log_sums[row] = largest + logf(sum);
    }
}

static void softmax_again(float *scores, const float *log_sums, float scale, size_t first,
                          size_t rows, size_t keys) {
    for (size_t row = 0; row < rows; row++) {
        float *p = scores + row * keys;
        size_t seen = first + row + 1;
        float log_sum = log_sums[row];
#pragma omp simd
        for (size_t i = 0; i < seen; i++)
            p[i] = exponential(scale * p[i] - log_sum);
        memset(p + seen, 0, (keys - seen) * sizeof *p);
    }
}

static void softmax_backward(float *dp, const float *p, const float *dy, const float *y,
                             size_t size, size_t stride, float scale, size_t rows, size_t keys) {
    for (size_t row = 0; row < rows; row++) {
        const float *gradient = dy + row * stride, *value = y + row * stride;
        float along = 0;
#pragma omp simd reduction(+ : along)
        for (size_t i = 0; i < size; i++)
            along += gradient[i] * value[i];
        float *out = dp + row * keys;
        const float *probability = p + row * keys;
#pragma omp simd
        for (size_t i = 0; i < keys; i++)
            out[i] = probability[i] * (out[i] - along) * scale;
    }
}

#ifdef TILE_ROWS
#include "model/onednn/tile_body.h"
#endif

const struct gwtf_kernels KERNELS = {
    .name = KERNELS_NAME,
    .norm = norm,
    .norm_again = norm_again,
    .norm_backward = norm_backward,
    .gelu = gelu,
    .gelu_backward = gelu_backward,
    .swiglu = swiglu,
    .swiglu_backward = swiglu_backward,
    .rotate = rotate,
    .cross_entropy = cross_entropy,
    .start_row = start_row,
    .row_times = row_times,
    .add_rows = add_rows,
    .softmax = softmax,
    .softmax_again = softmax_again,
    .softmax_backward = softmax_backward,
};
