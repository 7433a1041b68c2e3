#include "model/family.h"

#define THETA_USUAL 10000.0f
#define EPSILON_USUAL 1e-5f
/* Llama's hidden width is a multiple of this. */
#define HIDDEN_STEP 64u

#define IN_BLOCK(member) offsetof(struct gwtf_block_offsets, member)
#define IN_DATA(member) offsetof(struct gwtf_data_offsets, member)

#define WIDTH GWTF_EXTENT_WIDTH
#define KEYS GWTF_EXTENT_KEYS
#define QKV GWTF_EXTENT_QKV
#define HIDDEN GWTF_EXTENT_HIDDEN
#define CONTEXT GWTF_EXTENT_CONTEXT
#define VOCABULARY GWTF_EXTENT_VOCABULARY
#define VECTOR GWTF_EXTENT_NONE
#define ZEROS GWTF_START_ZEROS
#define ONES GWTF_START_ONES
#define NORMAL GWTF_START_NORMAL
#define RESIDUAL GWTF_START_RESIDUAL

/* GPT-2 (Radford et al. 2019). */
static const struct gwtf_family_tensor gpt2_block[] = {
    {"ln_1.weight", IN_BLOCK(norm1_w), WIDTH, VECTOR, ONES},
    {"ln_1.bias", IN_BLOCK(norm1_b), WIDTH, VECTOR, ZEROS},
    {"attn.c_attn.weight", IN_BLOCK(qkv_w), WIDTH, QKV, NORMAL},
    {"attn.c_attn.bias", IN_BLOCK(qkv_b), QKV, VECTOR, ZEROS},
    {"attn.c_proj.weight", IN_BLOCK(out_w), WIDTH, WIDTH, RESIDUAL},
    {"attn.c_proj.bias", IN_BLOCK(out_b), WIDTH, VECTOR, ZEROS},
    {"ln_2.weight", IN_BLOCK(norm2_w), WIDTH, VECTOR, ONES},
    {"ln_2.bias", IN_BLOCK(norm2_b), WIDTH, VECTOR, ZEROS},
    {"mlp.c_fc.weight", IN_BLOCK(expand_w), WIDTH, HIDDEN, NORMAL},
    {"mlp.c_fc.bias", IN_BLOCK(expand_b), HIDDEN, VECTOR, ZEROS},
    {"mlp.c_proj.weight", IN_BLOCK(shrink_w), HIDDEN, WIDTH, RESIDUAL},
    {"mlp.c_proj.bias", IN_BLOCK(shrink_b), WIDTH, VECTOR, ZEROS},
};

static const struct gwtf_family_tensor gpt2_data[] = {
    {"transformer.wte.weight", IN_DATA(tokens), VOCABULARY, WIDTH, NORMAL},
    {"transformer.wpe.weight", IN_DATA(positions), CONTEXT, WIDTH, GWTF_START_POSITIONS},
    {"transformer.ln_f.weight", IN_DATA(norm_w), WIDTH, VECTOR, ONES},
    {"transformer.ln_f.bias", IN_DATA(norm_b), WIDTH, VECTOR, ZEROS},
    {"lm_head.weight", IN_DATA(head), VOCABULARY, WIDTH, NORMAL},
};

/* LLaMA (Touvron et al. 2023), with grouped queries as of its second version. */
static const struct gwtf_family_tensor llama_block[] = {
    {"input_layernorm.weight", IN_BLOCK(norm1_w), WIDTH, VECTOR, ONES},
    {"self_attn.q_proj.weight", IN_BLOCK(qkv_w), WIDTH, WIDTH, NORMAL},
    {"self_attn.k_proj.weight", GWTF_JOINED, KEYS, WIDTH, NORMAL},
    {"self_attn.v_proj.weight", GWTF_JOINED, KEYS, WIDTH, NORMAL},
    {"self_attn.o_proj.weight", IN_BLOCK(out_w), WIDTH, WIDTH, RESIDUAL},
    {"post_attention_layernorm.weight", IN_BLOCK(norm2_w), WIDTH, VECTOR, ONES},
    {"mlp.gate_proj.weight", IN_BLOCK(expand_w), HIDDEN, WIDTH, NORMAL},
    {"mlp.up_proj.weight", GWTF_JOINED, HIDDEN, WIDTH, NORMAL},
    {"mlp.down_proj.weight", IN_BLOCK(shrink_w), WIDTH, HIDDEN, RESIDUAL},
};

static const struct gwtf_family_tensor llama_data[] = {
    {"model.embed_tokens.weight", IN_DATA(tokens), VOCABULARY, WIDTH, NORMAL},
    {"model.norm.weight", IN_DATA(norm_w), WIDTH, VECTOR, ONES},
    {"lm_head.weight", IN_DATA(head), VOCABULARY, WIDTH, NORMAL},
};

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static const struct gwtf_family_traits families[] = {
    [GWTF_FAMILY_GPT2] = {.word = "gpt2",
                          .blocks = "transformer.h.",
                          .block_tensors = gpt2_block,
                          .block_tensors_count = COUNT_OF(gpt2_block),
                          .data_tensors = gpt2_data,
                          .data_tensors_count = COUNT_OF(gpt2_data),
                          .centred = true},
    [GWTF_FAMILY_LLAMA] = {.word = "llama",
                           .blocks = "model.layers.",
                           .block_tensors = llama_block,
                           .block_tensors_count = COUNT_OF(llama_block),
                           .data_tensors = llama_data,
                           .data_tensors_count = COUNT_OF(llama_data),
                           .transposed = true,
                           .rotary = true,
                           .gated = true},
};

const struct gwtf_family_traits *gwtf_family_traits_of(enum gwtf_family family) {
    return (size_t)family < COUNT_OF(families) ? &families[family] : NULL;
}

const char *gwtf_family_word(enum gwtf_family family) {
    const struct gwtf_family_traits *traits = gwtf_family_traits_of(family);
    return traits != NULL ? traits->word : "unknown";
}

static uint32_t usual_hidden(const struct gwtf_model_shape *model) {
    uint64_t width = model->width, hidden = 4 * width;
    /* Two matrices of 4 * width have as many weights as three of 8/3 * width. */
    if (model->family == GWTF_FAMILY_LLAMA)
        hidden = (8 * width + 3 * HIDDEN_STEP - 1) / (3 * HIDDEN_STEP) * HIDDEN_STEP;
    return hidden < UINT32_MAX ? (uint32_t)hidden : UINT32_MAX;
}

struct gwtf_model_shape gwtf_model_shape_resolve(const struct gwtf_model_shape *model) {
    struct gwtf_model_shape resolved = *model;
    if (resolved.key_value_heads == 0)
        resolved.key_value_heads = resolved.heads;
    if (resolved.hidden == 0)
        resolved.hidden = usual_hidden(model);
    if (resolved.rope_theta == 0.0f)
        resolved.rope_theta = THETA_USUAL;
    if (resolved.norm_epsilon == 0.0f)
        resolved.norm_epsilon = EPSILON_USUAL;
    return resolved;
}

struct gwtf_block_sizes gwtf_block_sizes_of(const struct gwtf_model_shape *model) {
    size_t width = model->width, head = width / model->heads, keys = model->key_value_heads * head;
    size_t hidden = model->hidden;
    return (struct gwtf_block_sizes){
        .width = width,
        .head = head,
        .keys = keys,
        .qkv = width + 2 * keys,
        .expanded = gwtf_family_traits_of(model->family)->gated ? 2 * hidden : hidden,
        .hidden = hidden};
}
