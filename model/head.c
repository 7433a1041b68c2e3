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

static void check_tokens(const gwtf_stage *stage, const uint32_t *tokens, size_t rows) {
    GWTF_ASSERT(stage->plan.shape.stage == 0);
    for (size_t row = 0; row < rows; row++)
        GWTF_ASSERT(tokens[row] < stage->plan.shape.model.vocabulary);
}

static void embed_here(const gwtf_stage *stage, const struct gwtf_embedding *embedding,
                       const uint32_t *tokens, float *output) {
    const float *token_rows = stage->weights + stage->data.tokens;
    const float *position_rows = gwtf_tensor_at(stage->weights, stage->data.positions);
    size_t width = embedding->width;
    for (size_t row = 0; row < embedding->rows; row++) {
        float *sum = output + row * width;
        memcpy(sum, token_rows + tokens[row] * width, width * sizeof *sum);
        if (position_rows != NULL)
            add_row(sum, position_rows + (embedding->first + row) % embedding->context * width,
                    width);
    }
}

static void embed_there(const gwtf_stage *stage, const struct gwtf_embedding *embedding,
                        const uint32_t *tokens, float *output) {
    const uint32_t *there = stage->device->words(&stage->compute, tokens, embedding->rows);
    stage->device->embed(&stage->compute, embedding, output, stage->weights + stage->data.tokens,
                         gwtf_tensor_at(stage->weights, stage->data.positions), there);
}

/* ROWS tokens, the first of which is at position FIRST of its sequence. */
static void embed(gwtf_stage *stage, const uint32_t *tokens, uint32_t first, size_t rows,
                  void *output) {
    struct gwtf_embedding embedding = embedding_of(stage, first, rows);
    check_tokens(stage, tokens, rows);
    gwtf_boundary_begin(stage);
    float *rows_of = gwtf_boundary_place(stage, output, stage->boundary[GWTF_STAGE_OUTPUT]);
    (stage->device != NULL ? embed_there : embed_here)(stage, &embedding, tokens, rows_of);
    gwtf_boundary_give(stage, output, rows_of, (uint64_t)rows * embedding.width);
    gwtf_boundary_end(stage, NULL);
}

void gwtf_stage_embed(gwtf_stage *stage, const uint32_t *tokens, void *output) {
    embed(stage, tokens, 0, gwtf_stage_rows(stage), output);
}

void gwtf_stage_embed_some(gwtf_stage *stage, const uint32_t *tokens, uint32_t first,
                           uint32_t count, float *output) {
    uint32_t context = stage->plan.shape.model.context;
    GWTF_ASSERT(first <= context && count <= context - first);
    GWTF_ASSERT(stage->options.packing == GWTF_PACKING_NONE && !stage->options.ahead);
    embed(stage, tokens, first, count, output);
}

static void embed_backward_here(const gwtf_stage *stage, const struct gwtf_embedding *embedding,
                                const uint32_t *tokens, const float *output_gradient) {
    float *token_rows = stage->gradients + stage->data.tokens;
    float *position_rows = gwtf_tensor_at(stage->gradients, stage->data.positions);
    size_t width = embedding->width;
    for (size_t row = 0; row < embedding->rows; row++) {
        const float *gradient = output_gradient + row * width;
        add_row(token_rows + tokens[row] * width, gradient, width);
        if (position_rows != NULL)
            add_row(position_rows + row % embedding->context * width, gradient, width);
    }
}

void gwtf_stage_embed_backward(gwtf_stage *stage, const uint32_t *tokens,
                               const void *output_gradient) {
    struct gwtf_embedding embedding = embedding_of(stage, 0, gwtf_stage_rows(stage));
    check_tokens(stage, tokens, embedding.rows);
    gwtf_boundary_begin(stage);
    const float *gradient =
        gwtf_boundary_take(stage, output_gradient, stage->boundary[GWTF_STAGE_OUTPUT],
                           gwtf_stage_boundary_floats(stage));
    if (stage->device != NULL)
        stage->device->embed_backward(
            &stage->compute, &embedding, stage->gradients + stage->data.tokens,
            gwtf_tensor_at(stage->gradients, stage->data.positions), gradient, tokens);
    else
        embed_backward_here(stage, &embedding, tokens, gradient);
    gwtf_boundary_end(stage, NULL);
    gwtf_mirror_computed(stage, GWTF_FLAT_GRADIENTS);
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
    GWTF_ASSERT(stage->options.packing == GWTF_PACKING_NONE && !stage->options.ahead);
    gwtf_boundary_begin(stage);
    input = gwtf_boundary_take(stage, input, stage->boundary[GWTF_STAGE_INPUT], model->width);
    compute_logits(stage, input, stage->device != NULL ? stage->workspace.logits : logits, 1);
    gwtf_boundary_end(stage, NULL);
    if (stage->device != NULL)
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

/* The tokens piece by piece; GRADIENT and LOGITS may be NULL. */
static double all_losses(gwtf_stage *stage, const float *input, const uint32_t *labels, float scale,
                         float *gradient, float *logits) {
    size_t width = stage->plan.shape.model.width, rows = gwtf_stage_rows(stage);
    size_t vocabulary = stage->plan.shape.model.vocabulary;
    double sum = 0;
    for (size_t row = 0; row < rows; row += stage->piece_rows) {
        size_t left = rows - row;
        size_t piece = left < stage->piece_rows ? left : stage->piece_rows;
        sum += piece_loss(stage, input + row * width, labels + row, scale,
                          gradient != NULL ? gradient + row * width : NULL,
                          logits != NULL ? logits + row * vocabulary : NULL, piece);
    }
    return sum;
}

/* Logits come to the host in between: nothing can be recorded of that. */
static void loss_on_device(gwtf_stage *stage, const float *input, const uint32_t *labels,
                           float scale, float *gradient, float *logits) {
    const struct gwtf_recording what = {
        .kind = GWTF_RECORD_LOSS, .backward = gradient != NULL, .scale = scale};
    labels = stage->device->words(&stage->compute, labels, gwtf_stage_rows(stage));
    if (logits != NULL) {
        all_losses(stage, input, labels, scale, gradient, logits);
        return;
    }
    while (gwtf_boundary_record(stage, &what)) {
        all_losses(stage, input, labels, scale, gradient, NULL);
        if (gwtf_boundary_recorded(stage))
            break;
    }
}

void gwtf_stage_loss(gwtf_stage *stage, const void *input, const uint32_t *labels, float scale,
                     double *loss_sum, void *input_gradient, float *logits) {
    GWTF_ASSERT(input_gradient == NULL || !stage->options.forward_only);
    check_tokens(stage, labels, gwtf_stage_rows(stage));
    uint64_t count = gwtf_stage_boundary_floats(stage);
    float *gradient = NULL;
    gwtf_boundary_begin(stage);
    const float *taken = gwtf_boundary_take(stage, input, stage->boundary[GWTF_STAGE_INPUT], count);
    if (input_gradient != NULL)
        gradient =
            gwtf_boundary_place(stage, input_gradient, stage->boundary[GWTF_STAGE_INPUT_GRADIENT]);
    if (stage->device != NULL)
        loss_on_device(stage, taken, labels, scale, gradient, logits);
    else
        *loss_sum = all_losses(stage, taken, labels, scale, gradient, logits);
    if (input_gradient != NULL)
        gwtf_boundary_give(stage, input_gradient, gradient, count);
    gwtf_boundary_end(stage, loss_sum);
    if (input_gradient != NULL)
        gwtf_mirror_computed(stage, GWTF_FLAT_GRADIENTS);
}
