/*
 * One transformer block, composed from a backend's operations:
 *
 *     middle = input  + attention(rotate(norm1(input) Wqkv + bqkv)) Wout + bout
 *     output = middle + activation(norm2(middle) Wexpand + bexpand) Wshrink + bshrink
 *
 * A family says which norm and which activation, and may have no rotation or no biases.
 *
 * The norms' outputs and the activation's are not kept: computing them again costs a pass over data
 * that the backward pass reads anyway, keeping them would cost half of a slot's memory again.
 */
#include "model/stage.h"

#include <math.h>
#include <stdlib.h>

/* A block's way through its operations, for the rows of one piece. */
struct pass {
    struct gwtf_stage *stage;
    const struct gwtf_compute *compute;
    const struct gwtf_operations *operations;
    const struct gwtf_workspace *work;
    const struct gwtf_block_offsets *at;
    struct gwtf_activations a;     /* of the piece's first row on */
    struct gwtf_activations whole; /* as a, from the first row that attention sees */
    struct gwtf_norm_shape norm;
    struct gwtf_attention_shape attention;
    struct gwtf_linear_shape qkv, out, expand, shrink;
    size_t rows;
};

static void fill_turns(const struct gwtf_stage *stage, float *turns) {
    const struct gwtf_model_shape *model = &stage->plan.shape.model;
    size_t size = stage->sizes.head, half = size / 2;
    for (size_t t = 0; t < model->context; t++) {
        for (size_t i = 0; i < half; i++) {
            double angle =
                (double)t * pow((double)model->rope_theta, -2.0 * (double)i / (double)size);
            turns[t * size + i] = (float)cos(angle);
            turns[t * size + half + i] = (float)sin(angle);
        }
    }
}

gwtf_status gwtf_block_fill_turns(struct gwtf_stage *stage, struct gwtf_error *error) {
    if (stage->device == NULL) {
        fill_turns(stage, stage->turns);
        return GWTF_OK;
    }
    size_t bytes = (size_t)stage->plan.shape.model.context * stage->sizes.head * sizeof(float);
    float *turns = malloc(bytes);
    if (turns == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for a stage: free some");
    fill_turns(stage, turns);
    stage->device->upload(&stage->compute, stage->turns, turns, bytes);
    free(turns);
    return GWTF_OK;
}

/* The activations of the rows from ROW on. */
static struct gwtf_activations from_row(const struct gwtf_stage *stage,
                                        const struct gwtf_activations *all, size_t row) {
    const struct gwtf_block_sizes *sizes = &stage->sizes;
    struct gwtf_activations part = *all;
    part.mean1 += row;
    part.rstd1 += row;
    part.mean2 += row;
    part.rstd2 += row;
    /* (B, H, T) from a sequence's start: H * T floats for each sequence, H for each row. */
    part.log_sums += row * stage->plan.shape.model.heads;
    part.qkv = gwtf_values_at(stage, part.qkv, row * sizes->qkv);
    part.mixed = gwtf_values_at(stage, part.mixed, row * sizes->width);
    part.middle += row * sizes->width;
    part.expanded = gwtf_values_at(stage, part.expanded, row * sizes->expanded);
    return part;
}

static struct pass pass_of(struct gwtf_stage *stage, uint32_t layer,
                           const struct gwtf_activations *activations, size_t first_row,
                           size_t rows) {
    const struct gwtf_model_shape *model = &stage->plan.shape.model;
    const struct gwtf_block_sizes *sizes = &stage->sizes;
    bool across = stage->family->transposed;
    struct gwtf_activations a =
        from_row(stage, activations, gwtf_stage_shares(stage) ? 0 : first_row);
    return (struct pass){
        .stage = stage,
        .compute = &stage->compute,
        .operations = stage->compute.operations,
        .work = &stage->workspace,
        .at = &stage->blocks[layer],
        .a = a,
        .whole = a,
        .norm = gwtf_stage_norm_shape(stage, rows),
        .attention = {.sequences = rows / model->context,
                      .context = model->context,
                      .heads = model->heads,
                      .key_heads = model->key_value_heads,
                      .width = sizes->width},
        .qkv = {rows, sizes->width, sizes->qkv, across, false},
        .out = {rows, sizes->width, sizes->width, across, true},
        .expand = {rows, sizes->width, sizes->expanded, across, false},
        .shrink = {rows, sizes->hidden, sizes->width, across, true},
        .rows = rows,
    };
}

static const float *weights_at(const struct pass *pass, uint64_t offset) {
    return gwtf_tensor_at(pass->stage->weights, offset);
}

static float *gradients_at(const struct pass *pass, uint64_t offset) {
    return gwtf_tensor_at(pass->stage->gradients, offset);
}

static void activate(const struct pass *pass) {
    const struct gwtf_operations *operations = pass->operations;
    (pass->stage->family->gated ? operations->swiglu : operations->gelu)(
        pass->compute, pass->work->wide, pass->a.expanded, pass->rows, pass->stage->sizes.hidden);
}

/* work->wide holds the gradient of the activation, which becomes the activation again. */
static void activate_backward(const struct pass *pass) {
    const struct gwtf_operations *operations = pass->operations;
    (pass->stage->family->gated ? operations->swiglu_backward : operations->gelu_backward)(
        pass->compute, pass->work->wide_d, pass->work->wide, pass->a.expanded, pass->rows,
        pass->stage->sizes.hidden);
}

/* In place; BACK turns the gradient of what was turned. */
static void rotate(const struct pass *pass, float *qkv, bool back) {
    if (pass->stage->turns != NULL)
        pass->operations->rotate(pass->compute, &pass->attention, qkv, pass->stage->turns, back);
}

/* a.expanded from NORMED; ACTIVATES: and work->wide from that. */
static void expand(const struct pass *pass, const float *normed, bool activates) {
    const struct gwtf_operations *operations = pass->operations;
    const float *w = weights_at(pass, pass->at->expand_w);
    const float *bias = weights_at(pass, pass->at->expand_b);
    if (activates && !pass->stage->family->gated && operations->linear_gelu != NULL) {
        operations->linear_gelu(pass->compute, &pass->expand, pass->work->wide, pass->a.expanded,
                                normed, w, bias);
        return;
    }
    operations->linear(pass->compute, &pass->expand, pass->a.expanded, normed, w, bias, NULL);
    if (activates)
        activate(pass);
}

/* INPUT and OUTPUT point at the piece's first row. */
static void forward(const struct pass *pass, const float *input, float *output) {
    const struct gwtf_operations *operations = pass->operations;
    const struct gwtf_compute *compute = pass->compute;
    const struct gwtf_block_offsets *at = pass->at;
    const struct gwtf_activations *a = &pass->a, *whole = &pass->whole;
    float *normed = pass->work->normed;

    operations->norm(compute, &pass->norm, normed, a->mean1, a->rstd1, input,
                     weights_at(pass, at->norm1_w), weights_at(pass, at->norm1_b));
    operations->linear(compute, &pass->qkv, a->qkv, normed, weights_at(pass, at->qkv_w),
                       weights_at(pass, at->qkv_b), NULL);
    rotate(pass, whole->qkv, false);
    operations->attention(compute, &pass->attention, whole->mixed, whole->log_sums, whole->qkv);
    operations->linear(compute, &pass->out, a->middle, a->mixed, weights_at(pass, at->out_w),
                       weights_at(pass, at->out_b), input);

    operations->norm(compute, &pass->norm, normed, a->mean2, a->rstd2, a->middle,
                     weights_at(pass, at->norm2_w), weights_at(pass, at->norm2_b));
    expand(pass, normed, output != NULL);
    if (output == NULL)
        return;
    operations->linear(compute, &pass->shrink, output, pass->work->wide,
                       weights_at(pass, at->shrink_w), weights_at(pass, at->shrink_b), a->middle);
}

void gwtf_block_forward(struct gwtf_stage *stage, uint32_t layer,
                        const struct gwtf_activations *activations, const float *input,
                        float *output, size_t first_row, size_t rows) {
    struct pass pass = pass_of(stage, layer, activations, first_row, rows);
    size_t start = first_row * stage->sizes.width;
    forward(&pass, input + start, output != NULL ? output + start : NULL);
}

void gwtf_block_continue(struct gwtf_stage *stage, uint32_t layer,
                         const struct gwtf_activations *activations, const float *input,
                         float *output, size_t first, size_t count) {
    struct pass pass = pass_of(stage, layer, activations, 0, count);
    size_t layer_rows = (size_t)layer * stage->plan.shape.model.context;
    pass.whole.qkv = gwtf_values_at(stage, stage->begun_qkv, layer_rows * stage->sizes.qkv);
    pass.a = from_row(stage, &pass.whole, first);
    pass.attention.sequences = 1;
    pass.attention.context = first + count;
    pass.attention.first = first;
    forward(&pass, input, output);
}

/* work->middle_d = OUTPUT_GRADIENT through the MLP and around it. */
static void mlp_backward(const struct pass *pass, const float *output_gradient) {
    const struct gwtf_operations *operations = pass->operations;
    const struct gwtf_compute *compute = pass->compute;
    const struct gwtf_workspace *work = pass->work;
    const struct gwtf_block_offsets *at = pass->at;
    const struct gwtf_activations *a = &pass->a;

    operations->linear_input_gradient(compute, &pass->shrink, work->wide, output_gradient,
                                      weights_at(pass, at->shrink_w));
    activate_backward(pass);
    operations->linear_weight_gradient(compute, &pass->shrink, gradients_at(pass, at->shrink_w),
                                       gradients_at(pass, at->shrink_b), work->wide,
                                       output_gradient);
    operations->norm_again(compute, &pass->norm, work->normed, a->mean2, a->rstd2, a->middle,
                           weights_at(pass, at->norm2_w), weights_at(pass, at->norm2_b));
    operations->linear_weight_gradient(compute, &pass->expand, gradients_at(pass, at->expand_w),
                                       gradients_at(pass, at->expand_b), work->normed,
                                       work->wide_d);
    operations->linear_input_gradient(compute, &pass->expand, work->normed_d, work->wide_d,
                                      weights_at(pass, at->expand_w));
    operations->norm_backward(compute, &pass->norm, work->middle_d, gradients_at(pass, at->norm2_w),
                              gradients_at(pass, at->norm2_b), work->normed_d, output_gradient,
                              a->mean2, a->rstd2, a->middle, weights_at(pass, at->norm2_w));
}

void gwtf_block_backward(struct gwtf_stage *stage, uint32_t layer,
                         const struct gwtf_activations *activations, const float *input,
                         const float *output_gradient, float *input_gradient, size_t first_row,
                         size_t rows) {
    struct pass pass = pass_of(stage, layer, activations, first_row, rows);
    const struct gwtf_operations *operations = pass.operations;
    const struct gwtf_compute *compute = pass.compute;
    const struct gwtf_workspace *work = pass.work;
    const struct gwtf_block_offsets *at = pass.at;
    const struct gwtf_activations *a = &pass.a;
    size_t start = first_row * stage->sizes.width;
    input += start;

    mlp_backward(&pass, output_gradient + start);

    operations->linear_weight_gradient(compute, &pass.out, gradients_at(&pass, at->out_w),
                                       gradients_at(&pass, at->out_b), a->mixed, work->middle_d);
    operations->linear_input_gradient(compute, &pass.out, work->mixed_d, work->middle_d,
                                      weights_at(&pass, at->out_w));
    float *qkv_d = work->wide;
    operations->attention_backward(compute, &pass.attention, qkv_d, work->mixed_d, a->qkv, a->mixed,
                                   a->log_sums);
    rotate(&pass, qkv_d, true);
    operations->norm_again(compute, &pass.norm, work->normed, a->mean1, a->rstd1, input,
                           weights_at(&pass, at->norm1_w), weights_at(&pass, at->norm1_b));
    operations->linear_weight_gradient(compute, &pass.qkv, gradients_at(&pass, at->qkv_w),
                                       gradients_at(&pass, at->qkv_b), work->normed, qkv_d);
    operations->linear_input_gradient(compute, &pass.qkv, work->normed_d, qkv_d,
                                      weights_at(&pass, at->qkv_w));
    operations->norm_backward(compute, &pass.norm, input_gradient + start,
                              gradients_at(&pass, at->norm1_w), gradients_at(&pass, at->norm1_b),
                              work->normed_d, work->middle_d, a->mean1, a->rstd1, input,
                              weights_at(&pass, at->norm1_w));
}
