/* How well a trained model knows a token file. */
#ifndef GWTF_WORKER_RUNTIME_EVALUATE_H
#define GWTF_WORKER_RUNTIME_EVALUATE_H

#include "io/snapshot.h"
#include "io/tokens.h"

struct gwtf_evaluation_options {
    const char *data;   /* token file */
    uint64_t sequences; /* at most, spread evenly over the file; 0: all that fit without overlap */
    uint32_t threads;   /* 0: all cores */
    /* After every batch; may be NULL. */
    void (*progress)(void *context, uint64_t done_sequences, uint64_t all_sequences);
    void *progress_context;
    /* The bytes that token ID stands for; NULL: not known. */
    size_t (*bytes_of)(void *context, uint32_t id);
    void *bytes_context;
};

struct gwtf_evaluation {
    uint64_t sequences;
    uint32_t context;
    uint64_t tokens;
    uint64_t bytes; /* that TOKENS stand for; 0: not known */
    double loss;    /* nats per token, the mean over TOKENS */
    double seconds; /* without the loading */
    struct gwtf_tokens_info data;
};

/*
 * Measures the snapshot that INFO is of. Training's validation measures the same sequences when it
 * wants as many, and its microbatches divide them. Errors: as of gwtf_trained_open and
 * gwtf_tokens_open; GWTF_ERROR_USAGE when the tokens are not below the model's vocabulary, or fewer
 * than one sequence; GWTF_ERROR_CORRUPT when the file is damaged.
 */
gwtf_status gwtf_evaluate(const struct gwtf_snapshot_info *info,
                          const struct gwtf_evaluation_options *options,
                          struct gwtf_evaluation *evaluation, struct gwtf_error *error);

#endif
