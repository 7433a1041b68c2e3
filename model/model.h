/*
 * The stages of a language model: their tensors, forward and backward, and the optimizer.
 *
 * A model of L blocks is cut into stage 0 (the data nodes': token and position embedding, final
 * norm, head and loss) and stages 1..S (relays: runs of consecutive blocks). A stage knows nothing
 * of nodes, messages or files.
 *
 * Flat arrays. A stage keeps weights, gradients, first and second moments in four arrays of the
 * same layout: tensor after tensor in the order of its plan, each at a multiple of 16 floats, gaps
 * zero; but those that are computed with as one matrix (LLaMA's queries, keys and values, and its
 * two matrices before SwiGLU) follow each other without a gap. So aggregation, hashing and the
 * optimizer work on plain ranges, and the plan names what lies where.
 *
 * Threads. One thread at a time may call functions on a stage. Different stages are independent.
 */
#ifndef GWTF_MODEL_MODEL_H
#define GWTF_MODEL_MODEL_H

#include "model/pack.h"
#include "share/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * GPT-2: LayerNorm, learned positions, gelu, biases. LLaMA: RMSNorm, rotary positions, SwiGLU, no
 * biases, and key and value heads that several query heads may share. Names, layouts and the order
 * of numbers inside a head are those of Hugging Face's models.
 */
enum gwtf_family { GWTF_FAMILY_GPT2, GWTF_FAMILY_LLAMA };

/* "gpt2", "llama". */
const char *gwtf_family_word(enum gwtf_family family);

/* What the user configures. heads divides width, key_value_heads divides heads. */
struct gwtf_model_shape {
    enum gwtf_family family;
    uint32_t layers;
    uint32_t width;           /* C: floats of one token in a boundary tensor */
    uint32_t heads;           /* H */
    uint32_t key_value_heads; /* heads of keys and values; 0: H */
    uint32_t hidden;          /* F: width inside the MLP; 0: the family's usual */
    uint32_t context;         /* T: tokens of one sequence */
    uint32_t vocabulary;      /* V */
    bool tied_head;           /* the head uses the token embedding's weights */
    float rope_theta;         /* base of the rotary positions' wavelengths; 0: 10000 */
    float norm_epsilon;       /* added to the norms' variances; 0: 1e-5 */
};

/* MODEL with what was left 0 filled in. The usual F is 4C for GPT-2; for LLaMA 8/3 C, up to the
 * next multiple of 64. */
struct gwtf_model_shape gwtf_model_shape_resolve(const struct gwtf_model_shape *model);

/* Which part of the model a stage holds. */
struct gwtf_stage_shape {
    struct gwtf_model_shape model;
    uint32_t stage;       /* 0: data node's part; 1..stages: relays */
    uint32_t stages;      /* S, the number of relay stages, 1..layers */
    uint32_t first_layer; /* first block and number of blocks; 0 and 0 for stage 0 */
    uint32_t layers;
};

/*
 * The shape of stage STAGE when LAYERS blocks are spread over STAGES stages as evenly as possible,
 * earlier stages getting the extra ones. STAGE is 0..stages, stages is 1..layers.
 */
struct gwtf_stage_shape gwtf_stage_shape_of(const struct gwtf_model_shape *model, uint32_t stage,
                                            uint32_t stages);

#define GWTF_TENSOR_NAME_MAX 64
#define GWTF_TENSOR_RANK_MAX 2

/* One tensor of a stage. Names and layouts are Hugging Face's ("transformer.h.3.attn.c_attn.weight"
 * is (C, 3C), "model.layers.3.mlp.up_proj.weight" (F, C)). */
struct gwtf_tensor {
    char name[GWTF_TENSOR_NAME_MAX];
    uint32_t rank;
    uint64_t dims[GWTF_TENSOR_RANK_MAX];
    uint64_t offset; /* floats from the start of the flat array */
    uint64_t count;  /* floats: product of dims */
    bool decays;     /* weight decay applies: matrices and embeddings, not norms and biases */
    float deviation; /* of the initial normal distribution; 0: starts at CONSTANT */
    float constant;
};

/* The tensors of a stage, without memory for them. Owned by the caller after _init, until _deinit.
 */
struct gwtf_stage_plan {
    struct gwtf_stage_shape shape; /* its model as resolved */
    struct gwtf_tensor *tensors;
    size_t tensors_count;
    uint64_t parameters; /* floats in tensors, without gaps */
    uint64_t floats;     /* floats in a flat array, with gaps; a multiple of 16 */
};

/*
 * Errors: GWTF_ERROR_USAGE with a line for the user when the shape is impossible (a zero, heads not
 * dividing width, key_value_heads not dividing heads, LLaMA's heads of an odd width, more stages
 * than layers, vocabulary under 2); GWTF_ERROR_MEMORY. PLAN is
 * untouched then. ERROR may be NULL.
 */
gwtf_status gwtf_stage_plan_init(struct gwtf_stage_plan *plan, const struct gwtf_stage_shape *shape,
                                 struct gwtf_error *error);
void gwtf_stage_plan_deinit(struct gwtf_stage_plan *plan);

/* The tensor of that name, or NULL. */
const struct gwtf_tensor *gwtf_stage_plan_find(const struct gwtf_stage_plan *plan,
                                               const char *name);

/* CUDA is a library of its own, loaded when it is first asked for. */
enum gwtf_backend_kind { GWTF_BACKEND_REFERENCE, GWTF_BACKEND_ONEDNN, GWTF_BACKEND_CUDA };

/* Of the operands of matrix products. Their sums, and all else, are float32; but a GPU keeps in
 * bfloat16 what lies between such products, too. TFLOAT32 has float32's range and a mantissa of 10
 * bits, on GPUs alone. */
enum gwtf_precision { GWTF_PRECISION_FLOAT32, GWTF_PRECISION_BFLOAT16, GWTF_PRECISION_TFLOAT32 };

struct gwtf_stage_options {
    struct gwtf_stage_shape shape;
    enum gwtf_backend_kind backend;
    enum gwtf_precision precision;
    /* Of a block only its input is kept until the backward pass, which computes the rest again, to
     * the same bits. */
    bool recompute;
    /* Neither gradients nor moments: only gwtf_stage_embed, gwtf_stage_forward without KEEP, and
     * gwtf_stage_loss without INPUT_GRADIENT may be called, and what reads and writes weights. */
    bool forward_only;
    /* Of a relay that is forward_only, with a microbatch of 1: room for the keys and values of a
     * sequence's tokens, so that gwtf_stage_continue may be called. */
    bool continues;
    uint32_t microbatch; /* B: sequences of one microbatch */
    uint32_t slots;      /* microbatches whose activations are kept at one time, at least 1 */
    uint32_t threads;    /* for the backend's library, at least 1 */
    uint32_t place;      /* on a machine of several GPUs: takes the one of this number, modulo */
    /* Of the boundary tensors that forward, backward, embed, embed_backward and loss take and give:
     * each is gwtf_packed_bytes(packing, B * T * C). */
    enum gwtf_packing packing;
    /* These calls return when their work is queued; see gwtf_stage_finish. */
    bool ahead;
};

/* A GPU that stages can compute on. */
struct gwtf_gpu {
    char name[128];
    uint32_t number;     /* among those that this process sees */
    uint32_t count;      /* that it sees */
    uint32_t capability; /* 90 for 9.0 */
    uint64_t all_bytes;
};

/* GPUs that this process sees, and has a backend for; asked for once. */
uint32_t gwtf_gpu_count(void);

/* The one of PLACE, modulo their number. Takes nothing of it. Errors: GWTF_ERROR_UNSUPPORTED with
 * why there is none. */
gwtf_status gwtf_gpu_look(uint32_t place, struct gwtf_gpu *gpu, struct gwtf_error *error);

/* Bytes that are free on it, for a process that will compute there: it starts to. */
gwtf_status gwtf_gpu_free_bytes(uint32_t place, uint64_t *free_bytes, struct gwtf_error *error);

/* What a GPU can do at best; 0 where it cannot. */
struct gwtf_gpu_peak {
    double operations; /* per second, of large square products */
    double bytes;      /* per second, of a large copy inside its memory: read and written */
};

/* The best of ROUNDS. */
struct gwtf_gpu_peak gwtf_gpu_peak(uint32_t place, enum gwtf_precision precision, uint32_t rounds);

typedef struct gwtf_stage gwtf_stage;

/*
 * Allocates everything that the stage will ever need; weights, gradients and moments are zero.
 * Nothing is allocated later. Errors: GWTF_ERROR_USAGE (shape), GWTF_ERROR_MEMORY,
 * GWTF_ERROR_UNSUPPORTED (backend not in this build, its library fails, or it has no such precision
 * on this processor); STAGE is untouched then.
 */
gwtf_status gwtf_stage_create(const struct gwtf_stage_options *options, gwtf_stage **stage,
                              struct gwtf_error *error);
void gwtf_stage_destroy(gwtf_stage *stage); /* NULL is allowed */

/* Bytes that gwtf_stage_create takes: for the flat arrays and the workspace, and for each slot; of
 * the GPU's memory where the stage computes on one. */
void gwtf_stage_memory(const struct gwtf_stage_options *options, const struct gwtf_stage_plan *plan,
                       uint64_t *fixed_bytes, uint64_t *slot_bytes);

/* Bytes that it takes of the host besides, when it computes on a GPU; else 0. */
uint64_t gwtf_stage_host_memory(const struct gwtf_stage_options *options,
                                const struct gwtf_stage_plan *plan);

const struct gwtf_stage_plan *gwtf_stage_get_plan(const gwtf_stage *stage);

/*
 * The flat arrays, plan->floats each, 64-byte aligned; they live as long as the stage. Of a stage
 * that is forward_only all but the weights are NULL.
 *
 * Of a stage on a GPU these are copies on the host, and each call makes its copy a current one: ask
 * again after each change. Any thread may ask.
 */
float *gwtf_stage_weights(gwtf_stage *stage);
float *gwtf_stage_gradients(gwtf_stage *stage);
float *gwtf_stage_first_moments(gwtf_stage *stage);
float *gwtf_stage_second_moments(gwtf_stage *stage);

/*
 * Copies between the GPU and MEMORY, BYTES of the host, are fast from now on; without a GPU, or
 * where the system does not allow it, nothing happens. True: gwtf_stage_unpin must come before
 * MEMORY is freed, and before the stage is destroyed.
 */
bool gwtf_stage_pin(gwtf_stage *stage, void *memory, uint64_t bytes);
void gwtf_stage_unpin(gwtf_stage *stage, void *memory);

/*
 * Memory for boundary tensors that stages of one process hand to each other, and nobody else looks
 * at: the GPU's, where the stage computes on one. Errors: GWTF_ERROR_MEMORY. Freed before the stage
 * is destroyed; NULL is allowed.
 */
gwtf_status gwtf_stage_boundary_create(gwtf_stage *stage, uint64_t bytes, void **memory);
void gwtf_stage_boundary_destroy(gwtf_stage *stage, void *memory);

/*
 * Of a stage that works AHEAD: waits for the oldest of the calls that take or give boundary tensors
 * and have not been waited for, of which there may be two; only then is what it gave there, and
 * LOSS_SUM set, and may what it took be changed. Errors: GWTF_ERROR_DEVICE, as gwtf_stage_check.
 * Other stages have nothing to wait for: GWTF_OK.
 */
gwtf_status gwtf_stage_finish(gwtf_stage *stage, struct gwtf_error *error);

/* Calls that are to be waited for. */
unsigned gwtf_stage_unfinished(const gwtf_stage *stage);

/* What a kernel, or several that do the same, took of a GPU's time. */
struct gwtf_kernel_time {
    const char *name;
    uint64_t calls;
    double seconds;
    double operations; /* of products: multiplications and additions */
    double bytes;      /* of the GPU's memory that must be read and written at least */
    bool copies;       /* between host and GPU, beside the others; bytes are those copied */
};
#define GWTF_KERNEL_TIMES_MAX 32u

/* From here to gwtf_stage_profiled it is measured where the stage's time on a GPU goes, which costs
 * some of that time. The stage may have no calls that are not finished. */
void gwtf_stage_profile(gwtf_stage *stage);

/* Fills TIMES, at most GWTF_KERNEL_TIMES_MAX of them; returns how many: without a GPU none. */
size_t gwtf_stage_profiled(gwtf_stage *stage, struct gwtf_kernel_time *times);

/* Who writes to weights or moments says so afterwards. */
void gwtf_stage_written(gwtf_stage *stage);

/* Sum of squares of the gradients in double precision; on a GPU in the GPU's own order. */
double gwtf_stage_gradient_squares(gwtf_stage *stage);

/* Waits for the device. Errors: GWTF_ERROR_DEVICE, with what it says, once something went wrong
 * there: what was computed since the last check is worth nothing. GWTF_OK without a device. */
gwtf_status gwtf_stage_check(gwtf_stage *stage, struct gwtf_error *error);

/*
 * Initial weights as GPT-2 has them, in every family: normal with deviation 0.02, position
 * embeddings 0.01, projections back into the residual stream 0.02 / sqrt(2 * layers), norms 1,
 * biases 0. A tensor's numbers depend on SEED and its name alone, so every way to cut the model
 * into stages starts from the same weights.
 */
void gwtf_stage_initialise(gwtf_stage *stage, uint64_t seed);

/* Gradients to zero. */
void gwtf_stage_zero_gradients(gwtf_stage *stage);

/*
 * Boundary tensors and their gradients below are packed as the options say: floats, unless they say
 * otherwise. On a GPU they may lie anywhere: in the host's memory or in that of any GPU.
 *
 * Relay: OUTPUT = blocks(INPUT), both (B, T, C). With KEEP, what the backward pass needs stays in
 * SLOT until gwtf_stage_backward; without, SLOT is scratch. INPUT and OUTPUT may not overlap.
 */
void gwtf_stage_forward(gwtf_stage *stage, uint32_t slot, const void *input, void *output,
                        bool keep);

/*
 * Relay that continues: OUTPUT (COUNT, C) = blocks(INPUT (COUNT, C)) of the tokens FIRST to FIRST +
 * COUNT - 1 of a sequence, at most T. Those before FIRST have gone through here already; of
 * later ones nothing is kept.
 */
void gwtf_stage_continue(gwtf_stage *stage, const float *input, float *output, uint32_t first,
                         uint32_t count);

/*
 * Relay: INPUT_GRADIENT (B, T, C) from OUTPUT_GRADIENT (B, T, C); adds the weight gradients of this
 * microbatch to the flat gradients. INPUT is what gwtf_stage_forward got for SLOT, unchanged. The
 * buffers may not overlap.
 */
void gwtf_stage_backward(gwtf_stage *stage, uint32_t slot, const void *input,
                         const void *output_gradient, void *input_gradient);

/* Data node: OUTPUT (B, T, C) = token embedding + position embedding (where the family has one) of
 * TOKENS (B, T), each below V. */
void gwtf_stage_embed(gwtf_stage *stage, const uint32_t *tokens, void *output);

/* The same, as floats, of COUNT TOKENS at the places from FIRST on of one sequence: OUTPUT (COUNT,
 * C). */
void gwtf_stage_embed_some(gwtf_stage *stage, const uint32_t *tokens, uint32_t first,
                           uint32_t count, float *output);

/* Data node: LOGITS (V) = head(norm(INPUT (C))), of one token. */
void gwtf_stage_logits(gwtf_stage *stage, const float *input, float *logits);

/* Data node: adds the embeddings' gradients from the gradient of gwtf_stage_embed's output. */
void gwtf_stage_embed_backward(gwtf_stage *stage, const uint32_t *tokens,
                               const void *output_gradient);

/*
 * Data node: LOSS_SUM = sum over the B * T tokens of -log p(label), in nats, of head(norm(INPUT)).
 * With INPUT_GRADIENT not NULL also the backward pass of SCALE * LOSS_SUM: the weight gradients are
 * added to the flat gradients, and INPUT_GRADIENT (B, T, C) gets the gradient with respect to
 * INPUT. SCALE is 1 / (tokens in the global batch). With LOGITS not NULL, the logits (B, T, V) are
 * written there: for tests.
 */
void gwtf_stage_loss(gwtf_stage *stage, const void *input, const uint32_t *labels, float scale,
                     double *loss_sum, void *input_gradient, float *logits);

/* Sum of squares of COUNT floats in double precision, in a fixed order: the same on every machine
 * with this build. */
double gwtf_sum_of_squares(const float *values, uint64_t count);

/* SUM[i] = PARTS[0][i] + PARTS[1][i] + ... in that order, so that equal parts give equal bits. */
void gwtf_sum_parts(float *sum, const float *const *parts, size_t parts_count, uint64_t count);

/* AdamW (Loshchilov and Hutter 2019): decoupled weight decay, bias correction. */
struct gwtf_optimizer_step {
    uint64_t step; /* 1 for the first */
    float learning_rate;
    float beta1;
    float beta2;
    float epsilon;
    float weight_decay;
    float gradient_scale; /* clipping: every gradient is multiplied by it first */
};

/*
 * One step for all tensors, with the gradients in GRADIENTS (plan->floats, laid out like the
 * weights), or, with NULL, the stage's own. They are not changed; but on a GPU those of a copy take
 * the place of the stage's own.
 */
void gwtf_stage_step(gwtf_stage *stage, const float *gradients,
                     const struct gwtf_optimizer_step *step);

/* 1, or CLIP / NORM when the global gradient norm is above CLIP; CLIP 0 is no clipping. */
float gwtf_clip_scale(double norm, double clip);

/* Learning rate of iteration STEP (1-based): linear warm-up, then constant, linear or cosine decay
 * to MINIMUM. */
enum gwtf_decay { GWTF_DECAY_NONE, GWTF_DECAY_LINEAR, GWTF_DECAY_COSINE };
struct gwtf_schedule {
    double learning_rate;
    double minimum;      /* at the last iteration */
    uint64_t warmup;     /* iterations of linear rise: step / warmup of the peak */
    uint64_t iterations; /* where the decay ends */
    enum gwtf_decay decay;
};
double gwtf_schedule_at(const struct gwtf_schedule *schedule, uint64_t step);

#endif
