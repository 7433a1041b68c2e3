/*
 * What the data nodes compute: embeddings, and the final norm, head and loss. The loss goes over
 * the tokens in pieces, so that the logits of a whole microbatch never stand at once: at GPT-2's
 * vocabulary they would be larger than the model.
 */
#include "model/stage.h"

#include "share/base/assert.h"

#include <string.h>

/* Places of the data node's tensors in its plan. */
enum { TOKENS, POSITIONS, NORM_WEIGHT, NORM_BIAS, HEAD };

static uint64_t offset_of(const struct gwtf_stage *stage, size_t tensor) {
    return stage->plan.tensors[tensor].offset;
}

void gwtf_stage_embed(gwtf_stage *stage, const uint32_t *tokens, float *output) {
    const struct gwtf_model_shape *model = &stage->plan.shape.model;
    GWTF_ASSERT(stage->plan.shape.stage == 0);
    size_t width = model->width, rows = gwtf_stage_rows(stage);
    const float *token_rows = stage->weights + offset_of(stage, TOKENS);
    const float *position_rows = stage->weights + offset_of(stage, POSITIONS);
    for (size_t row = 0; row < rows; row++) {
        GWTF_ASSERT(tokens[row] < model->vocabulary);
        const float *token = token_rows + tokens[row] * width;
        const float *position = position_rows + row % model->context * width;
        float *sum = output + row * width;
        for (size_t i = 0; i < width; i++)
            sum[i] = token[i] + position[i];
    }
}

void gwtf_stage_embed_backward(gwtf_stage *stage, const uint32_t *tokens,
                               const float *output_gradient) {
    const struct gwtf_model_shape *model = &stage->plan.shape.model;
    GWTF_ASSERT(stage->plan.shape.stage == 0);
    size_t width = model->width, rows = gwtf_stage_rows(stage);
    float *token_rows = stage->gradients + offset_of(stage, TOKENS);
    float *position_rows = stage->gradients + offset_of(stage, POSITIONS);
    for (size_t row = 0; row < rows; row++) {
        GWTF_ASSERT(tokens[row] < model->vocabulary);
        float *token = token_rows + tokens[row] * width;
        float *position = position_rows + row % model->context * width;
        const float *gradient = output_gradient + row * width;
        for (size_t i = 0; i < width; i++) {
            token[i] += gradient[i];
            position[i] += gradient[i];
        }
    }
}

/* The loss of ROWS tokens; INPUT, LABELS, INPUT_GRADIENT and LOGITS point at the first of them. */
static double piece_loss(struct gwtf_stage *stage, const float *input, const uint32_t *labels,
                         float scale, float *input_gradient, float *logits, size_t rows) {
    const struct gwtf_model_shape *model = &stage->plan.shape.model;
    const struct gwtf_compute *compute = &stage->compute;
    const struct gwtf_operations *operations = compute->operations;
    const struct gwtf_workspace *work = &stage->workspace;
    const float *w = stage->weights;
    float *g = stage->gradients;
    size_t width = model->width;
    uint64_t norm_w = offset_of(stage, NORM_WEIGHT), norm_b = offset_of(stage, NORM_BIAS);
    uint64_t head = offset_of(stage, model->tied_head ? TOKENS : HEAD);
    struct gwtf_linear_shape shape = {
        .rows = rows, .in = width, .out = model->vocabulary, .transposed = true};

    operations->norm(compute, work->normed, work->mean, work->rstd, input, w + norm_w, w + norm_b,
                     rows, width);
    operations->linear(compute, &shape, work->logits, work->normed, w + head, NULL, NULL);
    if (logits != NULL)
        memcpy(logits, work->logits, rows * model->vocabulary * sizeof *logits);
    double loss = operations->cross_entropy(compute, work->logits, labels, scale,
                                            input_gradient != NULL, rows, model->vocabulary);
    if (input_gradient == NULL)
        return loss;
    operations->linear_weight_gradient(compute, &shape, g + head, NULL, work->normed, work->logits);
    operations->linear_input_gradient(compute, &shape, work->normed_d, work->logits, w + head);
    operations->norm_backward(compute, input_gradient, g + norm_w, g + norm_b, work->normed_d, NULL,
                              work->mean, work->rstd, input, w + norm_w, rows, width);
    return loss;
}

void gwtf_stage_loss(gwtf_stage *stage, const float *input, const uint32_t *labels, float scale,
                     double *loss_sum, float *input_gradient, float *logits) {
    GWTF_ASSERT(stage->plan.shape.stage == 0);
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
