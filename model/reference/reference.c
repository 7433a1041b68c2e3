/*
 * The reference backend: the formulas, one loop after the other, sums in double precision. It is
 * what the fast backends are held to, and what one reads to understand them.
 */
#include "model/operations.h"
#include "model/reference/attention.h"

#include <math.h>
#include <string.h>

static gwtf_status prepare(struct gwtf_compute *compute, struct gwtf_error *error) {
    if (compute->precision != GWTF_PRECISION_FLOAT32)
        return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED,
                              "backend.kernels \"reference\" computes in float32 only: make "
                              "backend.precision \"float32\", or backend.kernels \"onednn\"");
    return GWTF_OK;
}

/* Attention needs a row of scores. */
static uint64_t scratch_floats(const struct gwtf_compute_limits *limits) {
    return limits->context;
}

static size_t weight_index(const struct gwtf_linear_shape *shape, size_t in, size_t out) {
    return shape->transposed ? out * shape->in + in : in * shape->out + out;
}

static void linear(const struct gwtf_compute *compute, const struct gwtf_linear_shape *shape,
                   float *y, const float *x, const float *w, const float *bias,
                   const float *residual) {
    (void)compute;
    for (size_t row = 0; row < shape->rows; row++) {
        for (size_t out = 0; out < shape->out; out++) {
            double sum = bias != NULL ? (double)bias[out] : 0.0;
            if (residual != NULL)
                sum += (double)residual[row * shape->out + out];
            for (size_t in = 0; in < shape->in; in++)
                sum += (double)x[row * shape->in + in] * (double)w[weight_index(shape, in, out)];
            y[row * shape->out + out] = (float)sum;
        }
    }
}

static void linear_input_gradient(const struct gwtf_compute *compute,
                                  const struct gwtf_linear_shape *shape, float *dx, const float *dy,
                                  const float *w) {
    (void)compute;
    for (size_t row = 0; row < shape->rows; row++) {
        for (size_t in = 0; in < shape->in; in++) {
            double sum = 0;
            for (size_t out = 0; out < shape->out; out++)
                sum += (double)dy[row * shape->out + out] * (double)w[weight_index(shape, in, out)];
            dx[row * shape->in + in] = (float)sum;
        }
    }
}

static void linear_weight_gradient(const struct gwtf_compute *compute,
                                   const struct gwtf_linear_shape *shape, float *dw, float *dbias,
                                   const float *x, const float *dy) {
    (void)compute;
    for (size_t in = 0; in < shape->in; in++) {
        for (size_t out = 0; out < shape->out; out++) {
            double sum = 0;
            for (size_t row = 0; row < shape->rows; row++)
                sum += (double)x[row * shape->in + in] * (double)dy[row * shape->out + out];
            dw[weight_index(shape, in, out)] += (float)sum;
        }
    }
    for (size_t out = 0; dbias != NULL && out < shape->out; out++) {
        double sum = 0;
        for (size_t row = 0; row < shape->rows; row++)
            sum += (double)dy[row * shape->out + out];
        dbias[out] += (float)sum;
    }
}

static void norm_again(const struct gwtf_compute *compute, const struct gwtf_norm_shape *shape,
                       float *y, const float *mean, const float *rstd, const float *x,
                       const float *w, const float *b) {
    (void)compute;
    size_t width = shape->width;
    for (size_t row = 0; row < shape->rows; row++) {
        for (size_t i = 0; i < width; i++) {
            float scaled = (x[row * width + i] - mean[row]) * rstd[row] * w[i];
            y[row * width + i] = b != NULL ? scaled + b[i] : scaled;
        }
    }
}

static void norm(const struct gwtf_compute *compute, const struct gwtf_norm_shape *shape, float *y,
                 float *mean, float *rstd, const float *x, const float *w, const float *b) {
    size_t width = shape->width;
    for (size_t row = 0; row < shape->rows; row++) {
        const float *values = x + row * width;
        double sum = 0, squares = 0;
        for (size_t i = 0; i < width; i++)
            sum += (double)values[i];
        double average = shape->centred ? sum / (double)width : 0;
        for (size_t i = 0; i < width; i++)
            squares += ((double)values[i] - average) * ((double)values[i] - average);
        mean[row] = (float)average;
        rstd[row] = (float)(1.0 / sqrt(squares / (double)width + (double)shape->epsilon));
    }
    norm_again(compute, shape, y, mean, rstd, x, w, b);
}

/*
 * With n = (x - mean) * rstd and dn = dy * w:
 * dx = rstd * (dn - average(dn) - n * average(dn * n)), without average(dn) where the mean is not
 * taken off.
 */
static void norm_backward(const struct gwtf_compute *compute, const struct gwtf_norm_shape *shape,
                          float *dx, float *dw, float *db, const float *dy, const float *residual,
                          const float *mean, const float *rstd, const float *x, const float *w) {
    (void)compute;
    size_t width = shape->width;
    for (size_t row = 0; row < shape->rows; row++) {
        double mu = (double)mean[row], scale = (double)rstd[row];
        double sum = 0, sum_n = 0;
        for (size_t i = 0; i < width; i++) {
            size_t at = row * width + i;
            double n = ((double)x[at] - mu) * scale, dn = (double)dy[at] * (double)w[i];
            sum += shape->centred ? dn : 0;
            sum_n += dn * n;
        }
        for (size_t i = 0; i < width; i++) {
            size_t at = row * width + i;
            double n = ((double)x[at] - mu) * scale, dn = (double)dy[at] * (double)w[i];
            double d = scale * (dn - sum / (double)width - n * sum_n / (double)width);
            dw[i] += (float)((double)dy[at] * n);
            if (db != NULL)
                db[i] += dy[at];
            dx[at] = (float)(d + (residual != NULL ? (double)residual[at] : 0.0));
        }
    }
}

#define SQRT_2_OVER_PI 0.79788456080286535588
#define CUBIC 0.044715

static void gelu(const struct gwtf_compute *compute, float *y, const float *x, size_t rows,
                 size_t width) {
    (void)compute;
    for (size_t i = 0; i < rows * width; i++) {
        double v = (double)x[i];
        y[i] = (float)(0.5 * v * (1 + tanh(SQRT_2_OVER_PI * (v + CUBIC * v * v * v))));
    }
}

static void gelu_backward(const struct gwtf_compute *compute, float *dx, float *y, const float *x,
                          size_t rows, size_t width) {
    for (size_t i = 0; i < rows * width; i++) {
        double v = (double)x[i];
        double t = tanh(SQRT_2_OVER_PI * (v + CUBIC * v * v * v));
        double inner = SQRT_2_OVER_PI * (1 + 3 * CUBIC * v * v);
        dx[i] = (float)((double)y[i] * (0.5 * (1 + t) + 0.5 * v * (1 - t * t) * inner));
    }
    gelu(compute, y, x, rows, width);
}

static double sigmoid(double v) {
    return 1 / (1 + exp(-v));
}

static void swiglu(const struct gwtf_compute *compute, float *y, const float *x, size_t rows,
                   size_t width) {
    (void)compute;
    for (size_t row = 0; row < rows; row++) {
        const float *gate = x + row * 2 * width, *up = gate + width;
        for (size_t i = 0; i < width; i++) {
            double g = (double)gate[i];
            y[row * width + i] = (float)(g * sigmoid(g) * (double)up[i]);
        }
    }
}

/* silu'(g) = s + g s (1 - s), with s the sigmoid of g. */
static void swiglu_backward(const struct gwtf_compute *compute, float *dx, float *y, const float *x,
                            size_t rows, size_t width) {
    for (size_t row = 0; row < rows; row++) {
        const float *gate = x + row * 2 * width, *up = gate + width;
        float *gate_d = dx + row * 2 * width, *up_d = gate_d + width;
        for (size_t i = 0; i < width; i++) {
            double g = (double)gate[i], s = sigmoid(g), dy = (double)y[row * width + i];
            gate_d[i] = (float)(dy * (double)up[i] * (s + g * s * (1 - s)));
            up_d[i] = (float)(dy * g * s);
        }
    }
    swiglu(compute, y, x, rows, width);
}

static double cross_entropy(const struct gwtf_compute *compute, float *logits,
                            const uint32_t *labels, float scale, bool backward, size_t rows,
                            size_t vocabulary) {
    (void)compute;
    double loss = 0;
    for (size_t row = 0; row < rows; row++) {
        float *z = logits + row * vocabulary;
        double largest = (double)z[0], sum = 0;
        for (size_t i = 1; i < vocabulary; i++)
            largest = fmax(largest, (double)z[i]);
        for (size_t i = 0; i < vocabulary; i++)
            sum += exp((double)z[i] - largest);
        double log_sum = largest + log(sum);
        loss += log_sum - (double)z[labels[row]];
        for (size_t i = 0; backward && i < vocabulary; i++) {
            double p = exp((double)z[i] - log_sum);
            z[i] = (float)((double)scale * (p - (i == labels[row] ? 1.0 : 0.0)));
        }
    }
    return loss;
}

const struct gwtf_operations gwtf_reference_operations = {
    .prepare = prepare,
    .scratch_floats = scratch_floats,
    .linear = linear,
    .linear_input_gradient = linear_input_gradient,
    .linear_weight_gradient = linear_weight_gradient,
    .norm = norm,
    .norm_again = norm_again,
    .norm_backward = norm_backward,
    .gelu = gelu,
    .gelu_backward = gelu_backward,
    .swiglu = swiglu,
    .swiglu_backward = swiglu_backward,
    .rotate = gwtf_reference_rotate,
    .attention = gwtf_reference_attention,
    .attention_backward = gwtf_reference_attention_backward,
    .cross_entropy = cross_entropy,
};
