#include "tests/unit/model_packed.h"

#include "share/base/assert.h"
#include "share/base/random.h"
#include "tests/support/suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* 3 sequences of 7 tokens, 3 wide: 63 numbers, no multiple of any block's. With a second relay
 * block, so that there is something between. */
#define WIDTH 3u
#define CONTEXT 7u
#define MICROBATCH 3u
#define VOCABULARY 11u
#define ROWS (CONTEXT * MICROBATCH)
#define FLOATS (ROWS * WIDTH)

enum { PLAIN, PACKED, KINDS };

/* The same two stages twice, and what goes between them. */
struct pair {
    enum gwtf_packing packing;
    gwtf_stage *ends[KINDS], *relay[KINDS];
    uint32_t tokens[ROWS];
    float floats[FLOATS];
    char by_hand[4 * FLOATS], packed[4 * FLOATS], back[4 * FLOATS];
};

static gwtf_stage *make_stage(enum gwtf_backend_kind backend, enum gwtf_packing packing,
                              uint32_t index) {
    const struct gwtf_model_shape model = {.family = GWTF_FAMILY_GPT2,
                                           .layers = 2,
                                           .width = WIDTH,
                                           .heads = 1,
                                           .context = CONTEXT,
                                           .vocabulary = VOCABULARY};
    const struct gwtf_stage_options options = {.shape = gwtf_stage_shape_of(&model, index, 1),
                                               .backend = backend,
                                               .microbatch = MICROBATCH,
                                               .slots = 1,
                                               .threads = 1,
                                               .packing = packing};
    gwtf_stage *stage = NULL;
    GWTF_ASSERT(gwtf_stage_create(&options, &stage, NULL) == GWTF_OK);
    gwtf_stage_initialise(stage, 3);
    gwtf_stage_written(stage);
    return stage;
}

static void make(struct pair *pair, enum gwtf_backend_kind backend, enum gwtf_packing packing) {
    pair->packing = packing;
    for (int kind = 0; kind < KINDS; kind++) {
        enum gwtf_packing of_kind = kind == PACKED ? packing : GWTF_PACKING_NONE;
        pair->ends[kind] = make_stage(backend, of_kind, 0);
        pair->relay[kind] = make_stage(backend, of_kind, 1);
    }
    for (size_t i = 0; i < ROWS; i++)
        pair->tokens[i] = (uint32_t)(5 * i % VOCABULARY);
}

static void destroy(struct pair *pair) {
    for (int kind = 0; kind < KINDS; kind++) {
        gwtf_stage_destroy(pair->ends[kind]);
        gwtf_stage_destroy(pair->relay[kind]);
    }
}

/* PACKED is what FLOATS are packed by hand, and is there, unpacked, in floats afterwards. */
static void expect_packed(struct pair *pair, const char *packed) {
    size_t bytes = gwtf_packed_bytes(pair->packing, FLOATS);
    gwtf_pack(pair->packing, pair->floats, FLOATS, pair->by_hand);
    CU_ASSERT_EQUAL(memcmp(packed, pair->by_hand, bytes), 0);
    gwtf_unpack(pair->packing, pair->by_hand, FLOATS, pair->floats);
}

static void expect_same_gradients(gwtf_stage *const stages[KINDS]) {
    uint64_t floats = gwtf_stage_get_plan(stages[PLAIN])->floats;
    const float *plain = gwtf_stage_gradients(stages[PLAIN]);
    const float *packed = gwtf_stage_gradients(stages[PACKED]);
    size_t different = 0;
    for (uint64_t i = 0; i < floats; i++)
        different += plain[i] != packed[i] && !(isnan(plain[i]) && isnan(packed[i]));
    CU_ASSERT_EQUAL(different, 0);
}

/* Numbers from everywhere that floats go: large ones beside small ones, zeros, a block of nothing
 * else, and, with SCALE, infinite ones and what is no number. */
static void fill(struct pair *pair, float scale) {
    for (size_t i = 0; i < FLOATS; i++)
        pair->floats[i] = i % 5 == 0 ? 0 : (float)gwtf_random_normal_at(i, i % 7) * 1e-3f;
    pair->floats[1] *= scale;
    pair->floats[2] = scale * 0;
}

static void forward(struct pair *pair) {
    gwtf_stage_embed(pair->ends[PLAIN], pair->tokens, pair->floats);
    gwtf_stage_embed(pair->ends[PACKED], pair->tokens, pair->packed);
    expect_packed(pair, pair->packed);
    float input[FLOATS];
    memcpy(input, pair->floats, sizeof input);
    gwtf_stage_forward(pair->relay[PLAIN], 0, input, pair->floats, true);
    gwtf_stage_forward(pair->relay[PACKED], 0, pair->packed, pair->back, true);
    expect_packed(pair, pair->back);
}

/* The relay's backward pass is that of what it got in forward, from what is in floats. */
static void backward(struct pair *pair, const float *input) {
    float gradient[FLOATS];
    expect_packed(pair, (gwtf_pack(pair->packing, pair->floats, FLOATS, pair->back), pair->back));
    memcpy(gradient, pair->floats, sizeof gradient);
    gwtf_stage_backward(pair->relay[PLAIN], 0, input, gradient, pair->floats);
    char out[4 * FLOATS];
    gwtf_stage_backward(pair->relay[PACKED], 0, pair->packed, pair->back, out);
    expect_packed(pair, out);
    expect_same_gradients(pair->relay);
    gwtf_stage_embed_backward(pair->ends[PLAIN], pair->tokens, pair->floats);
    gwtf_stage_embed_backward(pair->ends[PACKED], pair->tokens, out);
    expect_same_gradients(pair->ends);
}

static void losses(struct pair *pair) {
    double sums[KINDS] = {0, 1};
    float gradient[FLOATS];
    gwtf_stage_loss(pair->ends[PLAIN], pair->floats, pair->tokens, 0.5f, &sums[PLAIN], gradient,
                    NULL);
    char out[4 * FLOATS];
    gwtf_stage_loss(pair->ends[PACKED], pair->back, pair->tokens, 0.5f, &sums[PACKED], out, NULL);
    CU_ASSERT_EQUAL(sums[PLAIN], sums[PACKED]);
    CU_ASSERT(sums[PLAIN] > 0);
    memcpy(pair->floats, gradient, sizeof gradient);
    expect_packed(pair, out);
    expect_same_gradients(pair->ends);
}

void expect_packed_as_by_hand(enum gwtf_backend_kind backend, enum gwtf_packing packing,
                              float scale) {
    struct pair *pair = calloc(1, sizeof *pair);
    float input[FLOATS];
    GWTF_ASSERT(pair != NULL);
    make(pair, backend, packing);
    forward(pair);
    gwtf_unpack(packing, pair->packed, FLOATS, input);
    losses(pair);
    fill(pair, scale);
    backward(pair, input);
    destroy(pair);
    free(pair);
}
