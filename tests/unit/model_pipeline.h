/*
 * A whole model for the tests of model/: all its stages in one process, with the boundary tensors
 * between them.
 */
#ifndef GWTF_TESTS_UNIT_MODEL_PIPELINE_H
#define GWTF_TESTS_UNIT_MODEL_PIPELINE_H

#include "model/model.h"

#define PIPELINE_STAGES_MAX 8u
#define PIPELINE_SLOTS_MAX 2u

struct pipeline_options {
    struct gwtf_model_shape model;
    uint32_t stages;
    uint32_t microbatch;
    uint32_t slots;   /* 0: 1 */
    uint32_t threads; /* 0: 1 */
    enum gwtf_backend_kind backend;
    enum gwtf_precision precision;
    bool recompute;
    bool forward_only;
    bool continues; /* of the relays */
};

struct pipeline {
    struct pipeline_options options;
    size_t rows;                                 /* tokens of a microbatch */
    gwtf_stage *stages[PIPELINE_STAGES_MAX + 1]; /* 0: the data node's */
    /* The input of relay stage s + 1, for each slot; the last is the head's input. */
    float *boundaries[PIPELINE_SLOTS_MAX][PIPELINE_STAGES_MAX + 1];
    float *gradient[2]; /* of a boundary, in turns; [0] ends with that of the embedding's output */
    float *logits;      /* of the last microbatch that ran */
};

/* A text that some model could have learned: 65 letters, 24 wide, 7 tokens, 3 blocks. GPT-2 has 3
 * heads; LLaMA has 6, of which three each share a key head, and a hidden width of 21. */
struct gwtf_model_shape odd_model(enum gwtf_family family, bool tied_head);

static const enum gwtf_family families[] = {GWTF_FAMILY_GPT2, GWTF_FAMILY_LLAMA};
#define FAMILIES (sizeof families / sizeof families[0])

/* Aborts the test when it cannot. The weights are far from where training starts, so that no
 * gradient is small or zero by chance. */
void pipeline_create(struct pipeline *pipeline, const struct pipeline_options *options);
void pipeline_destroy(struct pipeline *pipeline);

/* Tokens or labels of one microbatch, from SEED. */
void pipeline_tokens(const struct pipeline *pipeline, uint64_t seed, uint32_t *tokens);

/* The sum of the losses; the boundaries of SLOT and the logits are filled. */
double pipeline_forward(struct pipeline *pipeline, uint32_t slot, const uint32_t *tokens,
                        const uint32_t *labels);

/* After pipeline_forward of SLOT: adds the gradients of the mean loss. */
void pipeline_backward(struct pipeline *pipeline, uint32_t slot, const uint32_t *tokens,
                       const uint32_t *labels);

/* Forward and backward of the microbatch that SEED names. */
double pipeline_run(struct pipeline *pipeline, uint32_t slot, uint64_t seed);

void pipeline_zero_gradients(struct pipeline *pipeline);

/* The tensor's values in the flat array that ARRAY returns (gwtf_stage_weights, ...), in whichever
 * stage has it; NULL when none has. */
float *pipeline_find(const struct pipeline *pipeline, const char *name,
                     float *(*array)(gwtf_stage *));

/* Norm of A - B divided by norm of B; the norm of A where B is zero. */
double relative_distance(const float *a, const float *b, size_t count);

/* The largest relative_distance of any tensor of A from the one of the same name in B; names it. */
double pipeline_distance(const struct pipeline *a, const struct pipeline *b,
                         float *(*array)(gwtf_stage *), const char **worst);

#endif
