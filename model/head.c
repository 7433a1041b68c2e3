/*
 * What the data nodes compute: embeddings, and the final norm, head and loss. The loss goes over
 * the tokens in pieces, so that the logits of a whole microbatch never stand at once: at GPT-2's
 * vocabulary they would be larger than the model.
 */
#include "model/stage.h"

#include "share/base/assert.h"

#include <string.h>

static void add_row(float *sum, const float *row, size_t width) {
    for (size_t i = 0; i < width; i++)
        sum[i] += row[i];
}

void gwtf_stage_embed(gwtf_stage *stage, const uint32_t *tokens, float *output) {
    const struct gwtf_model_shape *model = &stage->plan.shape.model;
    GWTF_ASSERT(stage->plan.shape.stage == 0);
    for (size_t i = 0; i < stage->options.microbatch; i++)
        gwtf_stage_embed_some(stage, tokens + i * model->context, 0, model->context,
                              output + i * model->context * model->width);
}

void gwtf_stage_embed_some(gwtf_stage *stage, const uint32_t *tokens, uint32_t first,
                           uint32_t count, float *output) {
    const struct gwtf_model_shape *model = &stage->plan.shape.model;
    GWTF_ASSERT(stage->plan.shape.stage == 0);
    GWTF_ASSERT(first <= model->context && count <= model->context - first);
    size_t width = model->width;
    const float *token_rows = stage->weights + stage->data.tokens;
    const float *position_rows = gwtf_tensor_at(stage->weights, stage->data.positions);
    for (size_t row = 0; row < count; row++) {
        GWTF_ASSERT(tokens[row] < model->vocabulary);
        float *sum = output + row * width;
        memcpy(sum, token_rows + tokens[row] * width, width * sizeof *sum);
        if (position_rows != NULL)
            add_row(sum, position_rows + (first + row) * width, width);
    }
}

void gwtf_stage_embed_backward(gwtf_stage *stage, const uint32_t *tokens,
                               const float *output_gradient) {
    const struct gwtf_model_shape *model = &stage->plan.shape.model;
    GWTF_ASSERT(stage->plan.shape.stage == 0);
    size_t width = model->width, rows = gwtf_stage_rows(stage);
    float *token_rows = stage->gradients + stage->data.tokens;
    float *position_rows = gwtf_tensor_at(stage->gradients, stage->data.positions);
    for (size_t row = 0; row < rows; row++) {
        GWTF_ASSERT(tokens[row] < model->vocabulary);
        const float *gradient = output_gradient + row * width;
        add_row(token_rows + tokens[row] * width, gradient, width);
        if (position_rows != NULL)
            add_row(position_rows + row % model->context * width, gradient, width);
    }
}

/* (rows, V) from INPUT (rows, C). */
static void compute_logits(struct gwtf_stage *stage, const float *input, float *logits,
                           size_t rows) {
    const struct gwtf_model_shape *model = &stage->plan.shape.model;
    const struct gwtf_operations *operations = stage->compute.operations;
    const struct gwtf_workspace *work = &stage->workspace;
    const struct gwtf_data_offsets *at = &stage->data;
    struct gwtf_norm_shape norm = gwtf_stage_norm_shape(stage, rows);
    struct gwtf_linear_shape shape = {
        .rows = rows, .in = model->width, .out = model->vocabulary, .transposed = true};
    operations->norm(&stage->compute, &norm, work->normed, work->mean, work->rstd, input,
                     stage->weights + at->norm_w, gwtf_tensor_at(stage->weights, at->norm_b));
    operations->linear(&stage->compute, &shape, logits, work->normed, stage->weights + at->head,
                       NULL, NULL);
}

void gwtf_stage_logits(gwtf_stage *stage, const float *input, float *logits) {
    GWTF_ASSERT(stage->plan.shape.stage == 0);
    gwtf_stage_enter(stage);
    compute_logits(stage, input, logits, 1);
}

/* The loss of ROWS tokens; INPUT, LABELS, INPUT_GRADIENT and LOGITS point at the first of them. */
static double piece_loss(struct gwtf_stage *stage, const float *input, const uint32_t *labels,
                         float scale, float *input_gradient, float *logits, size_t rows) {
    const struct gwtf_model_shape *model = &stage->plan.shape.model;
    const struct gwtf_compute *compute = &stage->compute;
    const struct gwtf_operations *operations = compute->operations;
    const struct gwtf_workspace *work = &stage->workspace;
    const struct gwtf_data_offsets *at = &stage->data;
    const float *w = stage->weights;
    float *g = stage->gradients;
    struct gwtf_norm_shape norm = gwtf_stage_norm_shape(stage, rows);
    struct gwtf_linear_shape shape = {
        .rows = rows, .in = model->width, .out = model->vocabulary, .transposed = true};

    compute_logits(stage, input, work->logits, rows);
    if (logits != NULL)
        memcpy(logits, work->logits, rows * model->vocabulary * sizeof *logits);
    double loss = operations->cross_entropy(compute, work->logits, labels, scale,
                                            input_gradient != NULL, rows, model->vocabulary);
    if (input_gradient == NULL)
        return loss;
    operations->linear_weight_gradient(compute, &shape, g + at->head, NULL, work->normed,
                                       work->logits);
    operations->linear_input_gradient(compute, &shape, work->normed_d, work->logits, w + at->head);
    operations->norm_backward(compute, &norm, input_gradient, g + at->norm_w,
                              gwtf_tensor_at(g, at->norm_b), work->normed_d, NULL, work->mean,
                              work->rstd, input, w + at->norm_w);
    return loss;
}

void gwtf_stage_loss(gwtf_stage *stage, const float *input, const uint32_t *labels, float scale,
                     double *loss_sum, float *input_gradient, float *logits) {
    GWTF_ASSERT(stage->plan.shape.stage == 0);
    GWTF_ASSERT(input_gradient == NULL || !stage->options.forward_only);
    gwtf_stage_enter(stage);
    size_t width = stage->plan.shape.model.width, rows = gwtf_stage_rows(stage);
    size_t vocabulary = stage->plan.shape.model.vocabulary;
    double sum = 0;
    for (size_t row = 0; row < rows; row += stage->piece_rows) {
        size_t left = rows - row;
        size_t piece = left < stage->piece_rows ? left : stage->piece_rows;
        for (size_t i = 0; i < piece; i++)
            GWTF_ASSERT(labels[row + i] < vocabulary);
        sum += piece_loss(stage, input + row * width, labels + row, scale,
                          input_gradient != NULL ? input_gradient + row * width : NULL,
                          logits != NULL ? logits + row * vocabulary : NULL, piece);
    }
    *loss_sum = sum;
}
