/* What the files of model/ share about a stage. Private to model/. */
#ifndef GWTF_MODEL_STAGE_H
#define GWTF_MODEL_STAGE_H

#include "model/family.h"
#include "model/model.h"
#include "model/operations.h"

#include <pthread.h>

/* What the backward pass of one block needs, of one microbatch of N = B * T tokens. */
struct gwtf_activations {
    float *mean1, *rstd1; /* N */
    float *mean2, *rstd2; /* N */
    float *log_sums;      /* (B, H, T) */
    float *qkv;           /* (N, C + 2K): queries and keys turned by their positions, values */
    float *mixed;         /* (N, C): the heads' outputs side by side */
    float *middle;        /* (N, C): the residual stream between attention and MLP */
    float *expanded;      /* (N, E): before the activation */
    float *output;        /* (N, C): the next block's input; NULL for a stage's last block */
};

/* Intermediate results that live inside one call; P is the rows of a piece. */
struct gwtf_workspace {
    float *normed;      /* (P, C) */
    float *normed_d;    /* (P, C): gradient of normed */
    float *wide;        /* (P, F), or (P, C + 2K) for a gradient */
    float *wide_d;      /* (P, E) */
    float *middle_d;    /* (P, C) */
    float *mixed_d;     /* (P, C) */
    float *logits;      /* (P, V), head only */
    float *mean, *rstd; /* P, head only */
};

/* The four flat arrays of a stage. */
enum gwtf_flat {
    GWTF_FLAT_WEIGHTS,
    GWTF_FLAT_GRADIENTS,
    GWTF_FLAT_FIRST,
    GWTF_FLAT_SECOND,
    GWTF_FLATS
};

/*
 * Of a stage on a device: its flat arrays on the host, for those who send, store and hash them.
 * They are brought up to date when somebody asks for them, by whatever thread.
 */
struct gwtf_mirror {
    pthread_mutex_t lock;
    float *host[GWTF_FLATS];
    bool stale[GWTF_FLATS];   /* the device has newer ones */
    bool written[GWTF_FLATS]; /* the host has newer ones */
};

/* Boundary tensors of a call, or their gradients: what it takes, what it gives or takes back, and
 * what it gives back. */
enum { GWTF_STAGE_INPUT, GWTF_STAGE_OUTPUT, GWTF_STAGE_INPUT_GRADIENT, GWTF_STAGE_BOUNDARIES };

struct gwtf_stage {
    struct gwtf_stage_plan plan;
    struct gwtf_stage_options options;
    struct gwtf_compute compute;
    const struct gwtf_family_traits *family;
    struct gwtf_block_sizes sizes;
    struct gwtf_data_offsets data;        /* of stage 0 */
    struct gwtf_block_offsets *blocks;    /* plan.shape.layers of them, NULL for stage 0 */
    float *turns;                         /* (T, C / H): see rotate; NULL: positions are embedded */
    struct gwtf_activations *activations; /* slots * layers */
    struct gwtf_activations again; /* of one piece, where blocks share it: what is not kept */
    float *begun_qkv; /* (layers, T, C + 2K): of the sequence that goes on; NULL: none does */
    bool *kept;       /* for each slot: it waits for its backward pass */
    float *weights, *gradients, *first_moments, *second_moments;
    struct gwtf_workspace workspace;
    size_t piece_rows; /* tokens that go through a block, or the head, at one time */
    size_t value_bytes;
    void *memory; /* one allocation that holds all arrays of floats and values but the slots' */
    void *slots_memory;
    void *tables_memory; /* blocks, activations, kept and inputs */

    /* With a device, where all of the above but tables_memory lies. */
    const struct gwtf_device_operations *device; /* NULL: there is none */
    struct gwtf_mirror mirror;
    float **inputs;  /* of each slot: of a relay, kept until the backward pass */
    double *sums[2]; /* of the calls that are not finished: where their losses go; NULL: nowhere */
    uint64_t begun, finished;

    /* Boundary tensors of the call at hand as floats, where they are packed or on a device; else
     * NULL. */
    float *boundary[GWTF_STAGE_BOUNDARIES];
};

/* The tensor at OFFSET of a flat array, NULL for one that the family does not have. */
static inline float *gwtf_tensor_at(float *array, uint64_t offset) {
    return offset != GWTF_ABSENT ? array + offset : NULL;
}

static inline struct gwtf_norm_shape gwtf_stage_norm_shape(const struct gwtf_stage *stage,
                                                           size_t rows) {
    return (struct gwtf_norm_shape){.rows = rows,
                                    .width = stage->sizes.width,
                                    .centred = stage->family->centred,
                                    .epsilon = stage->plan.shape.model.norm_epsilon};
}

static inline size_t gwtf_stage_rows(const struct gwtf_stage *stage) {
    return (size_t)stage->options.microbatch * stage->plan.shape.model.context;
}

/* Fills stage->turns. Errors: GWTF_ERROR_MEMORY. */
gwtf_status gwtf_block_fill_turns(struct gwtf_stage *stage, struct gwtf_error *error);

/* Whether blocks share what they compute on the way, in stage->again. */
static inline bool gwtf_stage_shares(const struct gwtf_stage *stage) {
    return stage->options.recompute || stage->options.forward_only;
}

/*
 * Forward and backward of block LAYER (from 0 inside the stage) for the ROWS tokens (whole
 * sequences) from FIRST_ROW; INPUT, OUTPUT and the gradients point at the microbatch's first row.
 * With OUTPUT NULL only what the backward pass needs is computed.
 */
void gwtf_block_forward(struct gwtf_stage *stage, uint32_t layer,
                        const struct gwtf_activations *activations, const float *input,
                        float *output, size_t first_row, size_t rows);

/* The same for COUNT tokens from FIRST on of a stage that continues; INPUT and OUTPUT point at
 * theirs. The keys and values of those before stand in begun_qkv. */
void gwtf_block_continue(struct gwtf_stage *stage, uint32_t layer,
                         const struct gwtf_activations *activations, const float *input,
                         float *output, size_t first, size_t count);

/* INPUT_GRADIENT may be OUTPUT_GRADIENT. */
void gwtf_block_backward(struct gwtf_stage *stage, uint32_t layer,
                         const struct gwtf_activations *activations, const float *input,
                         const float *output_gradient, float *input_gradient, size_t first_row,
                         size_t rows);

/* COUNT values on from VALUES. */
static inline float *gwtf_values_at(const struct gwtf_stage *stage, float *values, size_t count) {
    return (float *)(void *)((unsigned char *)values + count * stage->value_bytes);
}

static inline uint64_t gwtf_stage_boundary_floats(const struct gwtf_stage *stage) {
    return (uint64_t)gwtf_stage_rows(stage) * stage->sizes.width;
}

/*
 * A call that takes or gives boundary tensors (model/boundary.c): begin, take and place, what it
 * computes, give, end. take returns the COUNT floats of TENSOR, which lie at PLACE or, where they
 * need neither be unpacked nor brought to a device, at TENSOR; place returns where those that give
 * will take to TENSOR are to be computed. end gets where the call's sum of losses goes, or NULL.
 */
void gwtf_boundary_begin(struct gwtf_stage *stage);
const float *gwtf_boundary_take(struct gwtf_stage *stage, const void *tensor, float *place,
                                uint64_t count);
float *gwtf_boundary_place(const struct gwtf_stage *stage, void *tensor, float *place);
void gwtf_boundary_give(struct gwtf_stage *stage, void *tensor, const float *place, uint64_t count);
void gwtf_boundary_end(struct gwtf_stage *stage, double *loss_sum);

/* As record and recorded of a device; without one, the work is always to be done. */
bool gwtf_boundary_record(const struct gwtf_stage *stage, const struct gwtf_recording *what);
bool gwtf_boundary_recorded(const struct gwtf_stage *stage);

/* Memory where the stage computes, zero; NULL when there is not so much. _release takes NULL, too.
 */
void *gwtf_stage_allocate(const struct gwtf_stage *stage, uint64_t bytes);
void gwtf_stage_release(const struct gwtf_stage *stage, void *memory);

/* Gives the calling thread the stage's number of threads and its device, which gets what the host
 * wrote to the flat arrays. */
void gwtf_stage_enter(gwtf_stage *stage);

/* Of a stage with a device. Errors of _create: GWTF_ERROR_MEMORY. */
gwtf_status gwtf_mirror_create(struct gwtf_stage *stage);
void gwtf_mirror_destroy(struct gwtf_stage *stage);

/* The device has newer ones. */
void gwtf_mirror_computed(struct gwtf_stage *stage, enum gwtf_flat flat);

/* Gives the device what the host wrote. */
void gwtf_mirror_flush(struct gwtf_stage *stage);

#endif
