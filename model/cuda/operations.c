/* The table of operations of the CUDA backend. */
#include "model/cuda/device.h"

static gwtf_status prepare(struct gwtf_compute *compute, struct gwtf_error *error) {
    return gwtf_cuda_open(compute, error);
}

static size_t value_bytes(enum gwtf_precision precision) {
    return precision == GWTF_PRECISION_BFLOAT16 ? sizeof(uint16_t) : sizeof(float);
}

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* Each operation has all of it to itself. */
static uint64_t scratch_floats(const struct gwtf_compute_limits *limits) {
    uint64_t rows = limits->rows;
    uint64_t rounded = rows * limits->width / 2 + 1;
    uint64_t columns = gwtf_cuda_column_scratch(larger(limits->widest, limits->width));
    uint64_t along = limits->context != 0 ? rows * limits->heads : 0;
    return larger(larger(larger(rounded, columns), larger(along, rows)), GWTF_CUDA_SQUARES_SCRATCH);
}

/* The weights as products take them. */
static const void *operand(const struct gwtf_compute *compute, const float *w) {
    return compute->rounded == NULL
               ? (const void *)w
               : (const uint16_t *)compute->rounded + (size_t)(w - compute->weights);
}

static uint32_t alignment_of(const void *const *arrays, size_t count) {
    uintptr_t all = 16;
    for (size_t i = 0; i < count; i++)
        all |= (uintptr_t)arrays[i];
    return (uint32_t)(all & (0 - all));
}

static uint32_t alignment_of_all(const struct gwtf_product_arrays *arrays) {
    const void *const all[] = {arrays->a, arrays->b,    arrays->c,
                               arrays->d, arrays->bias, arrays->aux};
    return alignment_of(all, sizeof all / sizeof *all);
}

/* What a kernel reads or writes of values. */
static double value_size(const struct gwtf_compute *compute) {
    return (double)value_bytes(compute->precision);
}

static void mark_values(const struct gwtf_compute *compute, enum gwtf_kernel kernel, size_t values,
                        size_t floats) {
    gwtf_cuda_mark(compute->device, kernel, 0,
                   (double)values * value_size(compute) + 4.0 * (double)floats);
}

static void mark_product(const struct gwtf_compute *compute, enum gwtf_kernel kernel,
                         const struct gwtf_product *product) {
    double m = (double)product->m, n = (double)product->n, k = (double)product->k;
    double result = product->half_result ? 2 : product->adds ? 8 : 4;
    gwtf_cuda_mark(compute->device, kernel, 2 * m * n * k,
                   (m * k + k * n) * (product->half ? 2 : 4) + m * n * result);
}

static void multiply(const struct gwtf_compute *compute, struct gwtf_product *product,
                     const struct gwtf_product_arrays *arrays) {
    product->alignment = alignment_of_all(arrays);
    gwtf_cuda_product(compute->device, product, arrays);
}

/* Row after row is column after column of the transposed matrix: Y^T = W^T X^T. */
static struct gwtf_product linear_product(const struct gwtf_compute *compute,
                                          const struct gwtf_linear_shape *shape) {
    bool half = compute->device->values == GWTF_CUDA_BFLOAT16;
    return (struct gwtf_product){.m = shape->out,
                                 .n = shape->rows,
                                 .k = shape->in,
                                 .a_across = shape->transposed,
                                 .half = half,
                                 .half_result = half && !shape->to_stream,
                                 .epilogue = CUBLASLT_EPILOGUE_DEFAULT};
}

/* A bias is added in the result's kind. */
static const void *bias_for(const struct gwtf_compute *compute, const struct gwtf_product *product,
                            const float *bias) {
    return bias != NULL && product->half_result ? operand(compute, bias) : bias;
}

/* With the product, where cuBLASLt knows how; which it may do for results of one kind alone. */
static bool fused_bias(const struct gwtf_compute *compute, const struct gwtf_product *product,
                       const struct gwtf_product_arrays *arrays, const float *bias) {
    struct gwtf_device *device = compute->device;
    struct gwtf_product with = *product;
    struct gwtf_product_arrays its = *arrays;
    if (device->has_no_bias[product->half_result])
        return false;
    with.epilogue = CUBLASLT_EPILOGUE_BIAS;
    its.bias = bias_for(compute, product, bias);
    with.alignment = alignment_of_all(&its);
    bool known = gwtf_cuda_try_product(device, &with, &its);
    device->has_no_bias[product->half_result] = !known;
    return known;
}

static void linear(const struct gwtf_compute *compute, const struct gwtf_linear_shape *shape,
                   float *y, const float *x, const float *w, const float *bias,
                   const float *residual) {
    struct gwtf_product product = linear_product(compute, shape);
    product.adds = residual != NULL;
    struct gwtf_product_arrays arrays = {.a = operand(compute, w), .b = x, .c = residual, .d = y};
    mark_product(compute, GWTF_KERNEL_PRODUCT, &product);
    if (bias == NULL) {
        multiply(compute, &product, &arrays);
    } else if (!fused_bias(compute, &product, &arrays, bias)) {
        multiply(compute, &product, &arrays);
        enum gwtf_cuda_values kind = product.half_result ? GWTF_CUDA_BFLOAT16 : GWTF_CUDA_FLOATS;
        mark_values(compute, GWTF_KERNEL_BIAS, 0, 2 * shape->rows * shape->out);
        gwtf_cuda_add_bias(compute->device->stream, kind, y, bias, shape->rows, shape->out);
    }
}

static void gelu(const struct gwtf_compute *compute, float *y, const float *x, size_t rows,
                 size_t width) {
    mark_values(compute, GWTF_KERNEL_ACTIVATION, 2 * rows * width, 0);
    gwtf_cuda_gelu(compute->device->stream, compute->device->values, y, x, rows * width);
}

/* By cuBLASLt in one, where it can: it wants its rows of 16 bytes. */
static bool fused_gelu(const struct gwtf_compute *compute, const struct gwtf_linear_shape *shape,
                       float *y, float *x_out, const float *x, const float *w, const float *bias) {
    struct gwtf_device *device = compute->device;
    if (shape->out % 8 != 0 || bias == NULL || device->has_no_gelu)
        return false;
    struct gwtf_product product = linear_product(compute, shape);
    product.epilogue = CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    struct gwtf_product_arrays arrays = {.a = operand(compute, w),
                                         .b = x,
                                         .d = y,
                                         .bias = bias_for(compute, &product, bias),
                                         .aux = x_out};
    product.alignment = alignment_of_all(&arrays);
    mark_product(compute, GWTF_KERNEL_PRODUCT, &product);
    device->has_no_gelu = !gwtf_cuda_try_product(device, &product, &arrays);
    return !device->has_no_gelu;
}

static void linear_gelu(const struct gwtf_compute *compute, const struct gwtf_linear_shape *shape,
                        float *y, float *x_out, const float *x, const float *w, const float *bias) {
    if (fused_gelu(compute, shape, y, x_out, x, w, bias))
        return;
    linear(compute, shape, x_out, x, w, bias, NULL);
    gelu(compute, y, x_out, shape->rows, shape->out);
}

/* The gradient of a product's result as products take it. */
static const void *gradient_operand(const struct gwtf_compute *compute,
                                    const struct gwtf_linear_shape *shape, const float *dy) {
    if (!shape->to_stream || compute->device->values == GWTF_CUDA_FLOATS)
        return dy;
    gwtf_cuda_mark(compute->device, GWTF_KERNEL_ROUND, 0,
                   6.0 * (double)shape->rows * (double)shape->out);
    gwtf_cuda_round(compute->device->stream, compute->scratch, dy, shape->rows * shape->out);
    return compute->scratch;
}

/* dX^T = W dY^T. */
static void linear_input_gradient(const struct gwtf_compute *compute,
                                  const struct gwtf_linear_shape *shape, float *dx, const float *dy,
                                  const float *w) {
    bool half = compute->device->values == GWTF_CUDA_BFLOAT16;
    struct gwtf_product product = {.m = shape->in,
                                   .n = shape->rows,
                                   .k = shape->out,
                                   .a_across = !shape->transposed,
                                   .half = half,
                                   .half_result = half,
                                   .epilogue = CUBLASLT_EPILOGUE_DEFAULT};
    struct gwtf_product_arrays arrays = {
        .a = operand(compute, w), .b = gradient_operand(compute, shape, dy), .d = dx};
    mark_product(compute, GWTF_KERNEL_PRODUCT_INPUT, &product);
    multiply(compute, &product, &arrays);
}

/* dW^T = dY^T X, or dW^T = X^T dY where W is stored transposed. */
static void linear_weight_gradient(const struct gwtf_compute *compute,
                                   const struct gwtf_linear_shape *shape, float *dw, float *dbias,
                                   const float *x, const float *dy) {
    struct gwtf_device *device = compute->device;
    const void *gradient = gradient_operand(compute, shape, dy);
    struct gwtf_product product = {.m = shape->transposed ? shape->in : shape->out,
                                   .n = shape->transposed ? shape->out : shape->in,
                                   .k = shape->rows,
                                   .b_across = true,
                                   .half = device->values == GWTF_CUDA_BFLOAT16,
                                   .adds = true,
                                   .epilogue = CUBLASLT_EPILOGUE_DEFAULT};
    struct gwtf_product_arrays arrays = {.a = shape->transposed ? x : gradient,
                                         .b = shape->transposed ? gradient : x,
                                         .c = dw,
                                         .d = dw};
    mark_product(compute, GWTF_KERNEL_PRODUCT_WEIGHT, &product);
    multiply(compute, &product, &arrays);
    if (dbias == NULL)
        return;
    size_t count = shape->rows * shape->out;
    mark_values(compute, GWTF_KERNEL_BIAS, shape->to_stream ? 0 : count,
                shape->to_stream ? count : 0);
    gwtf_cuda_add_columns(device->stream, shape->to_stream ? GWTF_CUDA_FLOATS : device->values,
                          dbias, dy, shape->rows, shape->out, compute->scratch);
}

static void norm(const struct gwtf_compute *compute, const struct gwtf_norm_shape *shape, float *y,
                 float *mean, float *rstd, const float *x, const float *w, const float *b) {
    mark_values(compute, GWTF_KERNEL_NORM, shape->rows * shape->width, shape->rows * shape->width);
    gwtf_cuda_norm(compute->device->stream, compute->device->values, shape, y, mean, rstd, x, w, b);
}

static void norm_again(const struct gwtf_compute *compute, const struct gwtf_norm_shape *shape,
                       float *y, const float *mean, const float *rstd, const float *x,
                       const float *w, const float *b) {
    struct gwtf_cuda_norm kept = {mean, rstd, x, w};
    mark_values(compute, GWTF_KERNEL_NORM, shape->rows * shape->width, shape->rows * shape->width);
    gwtf_cuda_norm_again(compute->device->stream, compute->device->values, shape, y, &kept, b);
}

static void norm_backward(const struct gwtf_compute *compute, const struct gwtf_norm_shape *shape,
                          float *dx, float *dw, float *db, const float *dy, const float *residual,
                          const float *mean, const float *rstd, const float *x, const float *w) {
    struct gwtf_cuda_norm kept = {mean, rstd, x, w};
    mark_values(compute, GWTF_KERNEL_NORM_BACKWARD, shape->rows * shape->width,
                (residual != NULL ? 3 : 2) * shape->rows * shape->width);
    gwtf_cuda_norm_backward(compute->device->stream, compute->device->values, shape, dx, dw, db, dy,
                            residual, &kept, compute->scratch);
}

static void gelu_backward(const struct gwtf_compute *compute, float *dx, float *y, const float *x,
                          size_t rows, size_t width) {
    mark_values(compute, GWTF_KERNEL_ACTIVATION_BACKWARD, 4 * rows * width, 0);
    gwtf_cuda_gelu_backward(compute->device->stream, compute->device->values, dx, y, x,
                            rows * width);
}

static void swiglu(const struct gwtf_compute *compute, float *y, const float *x, size_t rows,
                   size_t width) {
    mark_values(compute, GWTF_KERNEL_ACTIVATION, 3 * rows * width, 0);
    gwtf_cuda_swiglu(compute->device->stream, compute->device->values, y, x, rows, width);
}

static void swiglu_backward(const struct gwtf_compute *compute, float *dx, float *y, const float *x,
                            size_t rows, size_t width) {
    mark_values(compute, GWTF_KERNEL_ACTIVATION_BACKWARD, 6 * rows * width, 0);
    gwtf_cuda_swiglu_backward(compute->device->stream, compute->device->values, dx, y, x, rows,
                              width);
}

static void rotate(const struct gwtf_compute *compute, const struct gwtf_attention_shape *shape,
                   float *qkv, const float *turns, bool back) {
    size_t turned = shape->width + shape->key_heads * (shape->width / shape->heads);
    mark_values(compute, GWTF_KERNEL_ROTATE, 2 * shape->sequences * shape->context * turned, 0);
    gwtf_cuda_rotate(compute->device->stream, compute->device->values, shape, qkv, turns, back);
}

static bool fits_tensor_cores(const struct gwtf_compute *compute,
                              const struct gwtf_attention_shape *shape) {
    return compute->device->values == GWTF_CUDA_BFLOAT16 &&
           shape->width / shape->heads <= GWTF_CUDA_MMA_SIZE_MAX;
}

/* PRODUCTS of queries with half of the keys, or the like; so many ROWS of queries, keys and values,
 * and OUTPUTS rows of the heads' outputs. */
static void mark_attention(const struct gwtf_compute *compute, enum gwtf_kernel kernel,
                           const struct gwtf_attention_shape *shape, double products, double rows,
                           double outputs) {
    double tokens = (double)shape->sequences * (double)shape->context;
    double width = (double)shape->width;
    double bytes = rows * (double)gwtf_attention_row(shape) + outputs * width;
    gwtf_cuda_mark(compute->device, kernel,
                   products * tokens * width * ((double)shape->context + 1),
                   tokens * bytes * value_size(compute));
}

static void attention(const struct gwtf_compute *compute, const struct gwtf_attention_shape *shape,
                      float *y, float *log_sums, const float *qkv) {
    struct gwtf_device *device = compute->device;
    mark_attention(compute, GWTF_KERNEL_ATTENTION, shape, 2, 1, 1);
    if (fits_tensor_cores(compute, shape))
        gwtf_cuda_mma_attention(device->stream, shape, y, log_sums, qkv);
    else
        gwtf_cuda_attention(device->stream, device->values, shape, y, log_sums, qkv);
}

static void attention_backward(const struct gwtf_compute *compute,
                               const struct gwtf_attention_shape *shape, float *dqkv,
                               const float *dy, const float *qkv, const float *y,
                               const float *log_sums) {
    struct gwtf_device *device = compute->device;
    mark_attention(compute, GWTF_KERNEL_ATTENTION_BACKWARD, shape, 5, 2, 2);
    if (fits_tensor_cores(compute, shape))
        gwtf_cuda_mma_attention_backward(device->stream, shape, dqkv, dy, qkv, y, log_sums,
                                         compute->scratch);
    else
        gwtf_cuda_attention_backward(device->stream, device->values, shape, dqkv, dy, qkv, y,
                                     log_sums, compute->scratch);
}

static double cross_entropy(const struct gwtf_compute *compute, float *logits,
                            const uint32_t *labels, float scale, bool backward, size_t rows,
                            size_t vocabulary) {
    struct gwtf_device *device = compute->device;
    mark_values(compute, GWTF_KERNEL_LOSS, (backward ? 2 : 1) * rows * vocabulary, 0);
    gwtf_cuda_cross_entropy(device->stream, device->values, logits, labels, scale, backward, rows,
                            vocabulary, compute->scratch, device->sum);
    return 0;
}

static const struct gwtf_operations operations = {
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
    .rotate = rotate,
    .attention = attention,
    .attention_backward = attention_backward,
    .cross_entropy = cross_entropy,
    .value_bytes = value_bytes,
    .linear_gelu = linear_gelu,
    .device = &gwtf_cuda_device_operations,
};

/* What model/library.c looks up: the table, when both sides mean the same by it. */
__attribute__((visibility("default"))) const struct gwtf_operations *
gwtf_cuda_operations(const char *interface) {
    const char *own = GWTF_OPERATIONS_INTERFACE;
    while (*own != '\0' && *own == *interface)
        own++, interface++;
    return *own == *interface ? &operations : NULL;
}
