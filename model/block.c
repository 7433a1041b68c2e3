/*
 * One transformer block, composed from a backend's operations:
 *
 *     middle = input  + attention(norm1(input) Wqkv + bqkv) Wout + bout
 *     output = middle + gelu(norm2(middle) Wexpand + bexpand) Wshrink + bshrink
 *
 * The norms' outputs and gelu's are not kept: computing them again costs a pass over data that the
 * backward pass reads anyway, keeping them would cost half of a slot's memory again.
 */
#include "model/stage.h"

/* The activations of the rows from ROW on. */
static struct gwtf_activations from_row(const struct gwtf_stage *stage,
                                        const struct gwtf_activations *all, size_t row) {
    size_t width = stage->plan.shape.model.width;
    struct gwtf_activations part = *all;
    part.mean1 += row;
    part.rstd1 += row;
    part.mean2 += row;
    part.rstd2 += row;
    /* (B, H, T) from a sequence's start: H * T floats for each sequence, H for each row. */
    part.log_sums += row * stage->plan.shape.model.heads;
    part.qkv += row * 3 * width;
    part.mixed += row * width;
    part.middle += row * width;
    part.expanded += row * 4 * width;
    return part;
}

static struct gwtf_attention_shape attention_shape(const struct gwtf_stage *stage, size_t rows) {
    const struct gwtf_model_shape *model = &stage->plan.shape.model;
    return (struct gwtf_attention_shape){.sequences = rows / model->context,
                                         .context = model->context,
                                         .heads = model->heads,
                                         .width = model->width};
}

void gwtf_block_forward(struct gwtf_stage *stage, uint32_t layer,
                        const struct gwtf_activations *activations, const float *input,
                        float *output, size_t first_row, size_t rows) {
    const struct gwtf_compute *compute = &stage->compute;
    const struct gwtf_operations *operations = compute->operations;
    const struct gwtf_block_offsets *at = &stage->blocks[layer];
    const struct gwtf_workspace *work = &stage->workspace;
    const float *w = stage->weights;
    size_t width = stage->plan.shape.model.width;
    struct gwtf_activations a = from_row(stage, activations, first_row);
    input += first_row * width;
    output += first_row * width;

    operations->norm(compute, work->normed, a.mean1, a.rstd1, input, w + at->norm1_w,
                     w + at->norm1_b, rows, width);
    struct gwtf_linear_shape qkv = {.rows = rows, .in = width, .out = 3 * width};
    operations->linear(compute, &qkv, a.qkv, work->normed, w + at->qkv_w, w + at->qkv_b, NULL);
    struct gwtf_attention_shape attention = attention_shape(stage, rows);
    operations->attention(compute, &attention, a.mixed, a.log_sums, a.qkv);
    struct gwtf_linear_shape out = {.rows = rows, .in = width, .out = width};
    operations->linear(compute, &out, a.middle, a.mixed, w + at->out_w, w + at->out_b, input);

    operations->norm(compute, work->normed, a.mean2, a.rstd2, a.middle, w + at->norm2_w,
                     w + at->norm2_b, rows, width);
    struct gwtf_linear_shape expand = {.rows = rows, .in = width, .out = 4 * width};
    operations->linear(compute, &expand, a.expanded, work->normed, w + at->expand_w,
                       w + at->expand_b, NULL);
    operations->gelu(compute, work->wide, a.expanded, rows * 4 * width);
    struct gwtf_linear_shape shrink = {.rows = rows, .in = 4 * width, .out = width};
    operations->linear(compute, &shrink, output, work->wide, w + at->shrink_w, w + at->shrink_b,
                       a.middle);
}

/* work->middle_d = OUTPUT_GRADIENT through the MLP and around it. */
static void mlp_backward(struct gwtf_stage *stage, const struct gwtf_block_offsets *at,
                         const struct gwtf_activations *a, const float *output_gradient,
                         size_t rows) {
    const struct gwtf_compute *compute = &stage->compute;
    const struct gwtf_operations *operations = compute->operations;
    const struct gwtf_workspace *work = &stage->workspace;
    const float *w = stage->weights;
    float *g = stage->gradients;
    size_t width = stage->plan.shape.model.width;
    struct gwtf_linear_shape expand = {.rows = rows, .in = width, .out = 4 * width};
    struct gwtf_linear_shape shrink = {.rows = rows, .in = 4 * width, .out = width};

    operations->linear_input_gradient(compute, &shrink, work->wide_d, output_gradient,
                                      w + at->shrink_w);
    operations->gelu_backward(compute, work->wide_d, work->wide, a->expanded, rows * 4 * width);
    operations->linear_weight_gradient(compute, &shrink, g + at->shrink_w, g + at->shrink_b,
                                       work->wide, output_gradient);
    operations->norm_again(compute, work->normed, a->mean2, a->rstd2, a->middle, w + at->norm2_w,
                           w + at->norm2_b, rows, width);
    operations->linear_weight_gradient(compute, &expand, g + at->expand_w, g + at->expand_b,
                                       work->normed, work->wide_d);
    operations->linear_input_gradient(compute, &expand, work->normed_d, work->wide_d,
                                      w + at->expand_w);
    operations->norm_backward(compute, work->middle_d, g + at->norm2_w, g + at->norm2_b,
                              work->normed_d, output_gradient, a->mean2, a->rstd2, a->middle,
                              w + at->norm2_w, rows, width);
}

void gwtf_block_backward(struct gwtf_stage *stage, uint32_t layer,
                         const struct gwtf_activations *activations, const float *input,
                         const float *output_gradient, float *input_gradient, size_t first_row,
                         size_t rows) {
    const struct gwtf_compute *compute = &stage->compute;
    const struct gwtf_operations *operations = compute->operations;
    const struct gwtf_block_offsets *at = &stage->blocks[layer];
    const struct gwtf_workspace *work = &stage->workspace;
    const float *w = stage->weights;
    float *g = stage->gradients;
    size_t width = stage->plan.shape.model.width;
    struct gwtf_activations a = from_row(stage, activations, first_row);
    input += first_row * width;

    mlp_backward(stage, at, &a, output_gradient + first_row * width, rows);

    struct gwtf_linear_shape out = {.rows = rows, .in = width, .out = width};
    operations->linear_weight_gradient(compute, &out, g + at->out_w, g + at->out_b, a.mixed,
                                       work->middle_d);
    operations->linear_input_gradient(compute, &out, work->mixed_d, work->middle_d, w + at->out_w);
    struct gwtf_attention_shape attention = attention_shape(stage, rows);
    float *qkv_d = work->wide;
    operations->attention_backward(compute, &attention, qkv_d, work->mixed_d, a.qkv, a.mixed,
                                   a.log_sums);
    operations->norm_again(compute, work->normed, a.mean1, a.rstd1, input, w + at->norm1_w,
                           w + at->norm1_b, rows, width);
    struct gwtf_linear_shape qkv = {.rows = rows, .in = width, .out = 3 * width};
    operations->linear_weight_gradient(compute, &qkv, g + at->qkv_w, g + at->qkv_b, work->normed,
                                       qkv_d);
    operations->linear_input_gradient(compute, &qkv, work->normed_d, qkv_d, w + at->qkv_w);
    operations->norm_backward(compute, input_gradient + first_row * width, g + at->norm1_w,
                              g + at->norm1_b, work->normed_d, work->middle_d, a.mean1, a.rstd1,
                              input, w + at->norm1_w, rows, width);
}
