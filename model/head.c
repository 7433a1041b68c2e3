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

static struct gwtf_embedding embedding_of(const gwtf_stage *stage, uint32_t first, size_t rows) {
    const struct gwtf_model_shape *model = &stage->plan.shape.model;
    return (struct gwtf_embedding){.width = model->width,
                                   .rows = rows,
                                   .context = model->context,
                                   .first = first,
                                   .vocabulary = model->vocabulary};
}

/* ROWS tokens, the first of which is at position FIRST of its sequence. */
static void embed(gwtf_stage *stage, const uint32_t *tokens, uint32_t first, size_t rows,
                  float *output) {
    const struct gwtf_model_shape *model = &stage->plan.shape.model;
    GWTF_ASSERT(stage->plan.shape.stage == 0);
    gwtf_stage_enter(stage);
    size_t width = model->width;
    const float *token_rows = stage->weights + stage->data.tokens;
    const float *position_rows = gwtf_tensor_at(stage->weights, stage->data.positions);
    for (size_t row = 0; row < rows; row++)
        GWTF_ASSERT(tokens[row] < model->vocabulary);
    if (stage->device != NULL) {
        struct gwtf_embedding embedding = embedding_of(stage, first, rows);
        stage->device->embed(&stage->compute, &embedding, stage->boundary[0], token_rows,
                             position_rows, tokens);
        stage->device->download(&stage->compute, output, stage->boundary[0],
                                rows * width * sizeof *output);
        return;
    }
    for (size_t row = 0; row < rows; row++) {
        float *sum = output + row * width;
        memcpy(sum, token_rows + tokens[row] * width, width * sizeof *sum);
        if (position_rows != NULL)
            add_row(sum, position_rows + (first + row) % model->context * width, width);
    }
}

void gwtf_stage_embed(gwtf_stage *stage, const uint32_t *tokens, float *output) {
    embed(stage, tokens, 0, gwtf_stage_rows(stage), output);
}

void gwtf_stage_embed_some(gwtf_stage *stage, const uint32_t *tokens, uint32_t first,
                           uint32_t count, float *output) {
    uint32_t context = stage->plan.shape.model.context;
    GWTF_ASSERT(first <= context && count <= context - first);
    embed(stage, tokens, first, count, output);
}

void gwtf_stage_embed_backward(gwtf_stage *stage, const uint32_t *tokens,
                               const float *output_gradient) {
    const struct gwtf_model_shape *model = &stage->plan.shape.model;
    GWTF_ASSERT(stage->plan.shape.stage == 0);
    gwtf_stage_enter(stage);
    size_t width = model->width, rows = gwtf_stage_rows(stage);
    float *token_rows = stage->gradients + stage->data.tokens;
    float *position_rows = gwtf_tensor_at(stage->gradients, stage->data.positions);
    for (size_t row = 0; row < rows; row++)
        GWTF_ASSERT(tokens[row] < model->vocabulary);
    if (stage->device != NULL) {
        struct gwtf_embedding embedding = embedding_of(stage, 0, rows);
        stage->device->upload(&stage->compute, stage->boundary[0], output_gradient,
                              gwtf_stage_boundary_bytes(stage));
        stage->device->embed_backward(&stage->compute, &embedding, token_rows, position_rows,
                                      stage->boundary[0], tokens);
        gwtf_mirror_computed(stage, GWTF_FLAT_GRADIENTS);
        return;
    }
    for (size_t row = 0; row < rows; row++) {
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

/* COUNT values of the logits, as floats of the host. */
static void fetch_logits(const gwtf_stage *stage, float *logits, size_t count) {
    const float *computed = stage->workspace.logits;
    if (stage->device != NULL)
        stage->device->download_values(&stage->compute, logits, computed, count);
    else
        memcpy(logits, computed, count * sizeof *logits);
}

void gwtf_stage_logits(gwtf_stage *stage, const float *input, float *logits) {
    const struct gwtf_model_shape *model = &stage->plan.shape.model;
    GWTF_ASSERT(stage->plan.shape.stage == 0);
    gwtf_stage_enter(stage);
    if (stage->device == NULL) {
        compute_logits(stage, input, logits, 1);
        return;
    }
    stage->device->upload(&stage->compute, stage->boundary[0], input, model->width * sizeof *input);
    compute_logits(stage, stage->boundary[0], stage->workspace.logits, 1);
    fetch_logits(stage, logits, model->vocabulary);
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
        fetch_logits(stage, logits, rows * model->vocabulary);
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
    float *gradient = input_gradient;
    if (stage->device != NULL) {
        stage->device->upload(&stage->compute, stage->boundary[0], input,
                              gwtf_stage_boundary_bytes(stage));
        input = stage->boundary[0];
        gradient = input_gradient != NULL ? stage->boundary[1] : NULL;
    }
    double sum = 0;
    for (size_t row = 0; row < rows; row += stage->piece_rows) {
        size_t left = rows - row;
        size_t piece = left < stage->piece_rows ? left : stage->piece_rows;
        for (size_t i = 0; i < piece; i++)
            GWTF_ASSERT(labels[row + i] < vocabulary);
        sum += piece_loss(stage, input + row * width, labels + row, scale,
                          gradient != NULL ? gradient + row * width : NULL,
                          logits != NULL ? logits + row * vocabulary : NULL, piece);
    }
    *loss_sum = sum;
    if (stage->device == NULL || input_gradient == NULL)
        return;
    stage->device->download(&stage->compute, input_gradient, gradient,
                            gwtf_stage_boundary_bytes(stage));
    gwtf_mirror_computed(stage, GWTF_FLAT_GRADIENTS);
}
