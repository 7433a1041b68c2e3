#include "worker/runtime/evaluate.h"

#include "worker/runtime/clock.h"
#include "worker/runtime/trained.h"

#include <inttypes.h>
#include <stdlib.h>

/* Tokens that go through the model at one time: enough for a backend to be at its best. */
#define BATCH_TOKENS 2048u

static gwtf_status check_data(const char *path, const struct gwtf_tokens_info *data,
                              const struct gwtf_snapshot_info *info, struct gwtf_error *error) {
    if (data->largest >= info->vocabulary)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "'%s' holds token %" PRIu32 ", and the model's vocabulary is %" PRIu32
                              ": give a file of the tokenizer that it was trained with",
                              path, data->largest, info->vocabulary);
    if (data->count < (uint64_t)info->context + 1)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "'%s' holds %" PRIu64 " tokens, and the model's context of %" PRIu32
                              " needs at least %" PRIu32 ": give more data",
                              path, data->count, info->context, info->context + 1);
    return GWTF_OK;
}

static uint32_t batch_of(uint64_t sequences, uint32_t context) {
    uint64_t batch = (BATCH_TOKENS + (uint64_t)context - 1) / context;
    return (uint32_t)(batch < sequences ? batch : sequences);
}

/* COUNT sequences from number FIRST on. */
static gwtf_status read_batch(const struct gwtf_tokens *tokens, const char *path, uint64_t first,
                              uint32_t count, const struct gwtf_evaluation *evaluation,
                              uint32_t *inputs, uint32_t *labels, struct gwtf_error *error) {
    uint32_t context = evaluation->context;
    gwtf_status status = GWTF_OK;
    for (uint32_t i = 0; i < count && status == GWTF_OK; i++) {
        uint64_t start =
            gwtf_tokens_validation_start(tokens, first + i, evaluation->sequences, context);
        status = gwtf_tokens_read(tokens, start, context, inputs + (size_t)i * context);
        if (status == GWTF_OK)
            status = gwtf_tokens_read(tokens, start + 1, context, labels + (size_t)i * context);
    }
    if (status != GWTF_OK)
        gwtf_error_set(error, status,
                       "'%s' has changed or is damaged: make it again with gwtf tokenize", path);
    return status;
}

static gwtf_status measure(struct gwtf_trained *trained, const struct gwtf_tokens *tokens,
                           const struct gwtf_evaluation_options *options,
                           struct gwtf_evaluation *evaluation, struct gwtf_error *error) {
    uint32_t batch = gwtf_trained_sequences(trained);
    size_t ids = (size_t)batch * evaluation->context;
    uint32_t *inputs = malloc(ids * sizeof *inputs), *labels = malloc(ids * sizeof *labels);
    gwtf_status status = GWTF_OK;
    if (inputs == NULL || labels == NULL)
        status = gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    gwtf_time_us start_us = gwtf_clock_now_us();
    double sum = 0;
    for (uint64_t done = 0; done < evaluation->sequences && status == GWTF_OK;) {
        uint64_t left = evaluation->sequences - done;
        uint32_t count = left < batch ? (uint32_t)left : batch;
        status = read_batch(tokens, options->data, done, count, evaluation, inputs, labels, error);
        if (status != GWTF_OK)
            break;
        sum += gwtf_trained_loss(trained, inputs, labels, count);
        for (size_t i = 0; options->bytes_of != NULL && i < (size_t)count * evaluation->context;
             i++)
            evaluation->bytes += options->bytes_of(options->bytes_context, labels[i]);
        done += count;
        if (options->progress != NULL)
            options->progress(options->progress_context, done, evaluation->sequences);
    }
    evaluation->seconds = (double)(gwtf_clock_now_us() - start_us) * 1e-6;
    evaluation->loss = sum / (double)evaluation->tokens;
    free(inputs);
    free(labels);
    return status;
}

gwtf_status gwtf_evaluate(const struct gwtf_snapshot_info *info,
                          const struct gwtf_evaluation_options *options,
                          struct gwtf_evaluation *evaluation, struct gwtf_error *error) {
    struct gwtf_tokens *tokens = NULL;
    struct gwtf_trained *trained = NULL;
    gwtf_status status = gwtf_tokens_open(options->data, &tokens, error);
    if (status != GWTF_OK)
        return status;
    struct gwtf_evaluation made = {.context = info->context, .data = gwtf_tokens_get_info(tokens)};
    status = check_data(options->data, &made.data, info, error);
    if (status == GWTF_OK) {
        made.sequences = gwtf_tokens_validation_count(tokens, options->sequences, info->context);
        made.tokens = made.sequences * info->context;
        status = gwtf_trained_open(info, batch_of(made.sequences, info->context), options->threads,
                                   &trained, error);
    }
    if (status == GWTF_OK)
        status = measure(trained, tokens, options, &made, error);
    gwtf_trained_close(trained);
    gwtf_tokens_close(tokens);
    if (status == GWTF_OK)
        *evaluation = made;
    return status;
}
