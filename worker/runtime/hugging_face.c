#include "worker/runtime/hugging_face.h"

#include "io/json.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A text that is being written; NULL STREAM without memory. */
struct text {
    FILE *stream;
    char *bytes;
    size_t size;
    struct gwtf_json json;
};

static bool start(struct text *text) {
    *text = (struct text){0};
    text->stream = open_memstream(&text->bytes, &text->size);
    if (text->stream == NULL)
        return false;
    gwtf_json_start(&text->json, text->stream);
    gwtf_json_open(&text->json, NULL, '{');
    return true;
}

static char *end(struct text *text) {
    gwtf_json_close(&text->json);
    gwtf_json_end(&text->json);
    bool good = !ferror(text->stream);
    if (fclose(text->stream) != 0)
        good = false;
    if (!good) {
        free(text->bytes);
        return NULL;
    }
    return text->bytes;
}

/* The shortest number of which VALUE is the nearest float: 1e-05, where a double of it would have
 * nine digits. */
static double shortest(float value) {
    char digits[32];
    for (int precision = 1; precision < 9; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, (double)value);
        if (strtof(digits, NULL) == value)
            return strtod(digits, NULL);
    }
    return (double)value;
}

/* Both names of the type: the second is that of transformers 5. */
static void put_common(struct gwtf_json *json, const struct gwtf_model_shape *model,
                       const char *architecture) {
    gwtf_json_open(json, "architectures", '[');
    gwtf_json_text(json, NULL, architecture);
    gwtf_json_close(json);
    gwtf_json_text(json, "model_type", gwtf_family_word(model->family));
    gwtf_json_count(json, "vocab_size", model->vocabulary);
    gwtf_json_real(json, "initializer_range", 0.02);
    gwtf_json_flag(json, "tie_word_embeddings", model->tied_head);
    gwtf_json_text(json, "torch_dtype", "float32");
    gwtf_json_text(json, "dtype", "float32");
    gwtf_json_null(json, "bos_token_id");
    gwtf_json_null(json, "eos_token_id");
    gwtf_json_null(json, "pad_token_id");
}

static void put_gpt2(struct gwtf_json *json, const struct gwtf_model_shape *model) {
    put_common(json, model, "GPT2LMHeadModel");
    gwtf_json_count(json, "n_layer", model->layers);
    gwtf_json_count(json, "n_embd", model->width);
    gwtf_json_count(json, "n_head", model->heads);
    gwtf_json_count(json, "n_inner", model->hidden);
    gwtf_json_count(json, "n_positions", model->context);
    gwtf_json_count(json, "n_ctx", model->context);
    gwtf_json_text(json, "activation_function", "gelu_new");
    gwtf_json_real(json, "layer_norm_epsilon", shortest(model->norm_epsilon));
    gwtf_json_count(json, "resid_pdrop", 0);
    gwtf_json_count(json, "embd_pdrop", 0);
    gwtf_json_count(json, "attn_pdrop", 0);
}

static void put_llama(struct gwtf_json *json, const struct gwtf_model_shape *model) {
    put_common(json, model, "LlamaForCausalLM");
    gwtf_json_count(json, "num_hidden_layers", model->layers);
    gwtf_json_count(json, "hidden_size", model->width);
    gwtf_json_count(json, "num_attention_heads", model->heads);
    gwtf_json_count(json, "num_key_value_heads", model->key_value_heads);
    gwtf_json_count(json, "intermediate_size", model->hidden);
    gwtf_json_count(json, "max_position_embeddings", model->context);
    gwtf_json_text(json, "hidden_act", "silu");
    gwtf_json_real(json, "rms_norm_eps", shortest(model->norm_epsilon));
    gwtf_json_real(json, "rope_theta", shortest(model->rope_theta));
    gwtf_json_flag(json, "attention_bias", false);
    gwtf_json_flag(json, "mlp_bias", false);
}

char *gwtf_hugging_face_config(const struct gwtf_model_shape *model) {
    struct text text;
    if (!start(&text))
        return NULL;
    switch (model->family) {
    case GWTF_FAMILY_GPT2:
        put_gpt2(&text.json, model);
        break;
    case GWTF_FAMILY_LLAMA:
        put_llama(&text.json, model);
        break;
    }
    return end(&text);
}

char *gwtf_hugging_face_generation(const struct gwtf_model_shape *model) {
    struct text text;
    if (!start(&text))
        return NULL;
    gwtf_json_flag(&text.json, "do_sample", true);
    gwtf_json_count(&text.json, "max_length", model->context);
    gwtf_json_null(&text.json, "bos_token_id");
    gwtf_json_null(&text.json, "eos_token_id");
    gwtf_json_null(&text.json, "pad_token_id");
    return end(&text);
}

static bool stands_for_itself(unsigned byte) {
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

static void put_vocabulary(struct gwtf_json *json) {
    unsigned next = 0x100;
    gwtf_json_open(json, "vocab", '{');
    for (unsigned byte = 0; byte < 256; byte++) {
        unsigned character = stands_for_itself(byte) ? byte : next++;
        char name[3] = {(char)character, '\0', '\0'};
        if (character >= 0x80) {
            name[0] = (char)(0xc0 | character >> 6);
            name[1] = (char)(0x80 | (character & 0x3f));
        }
        gwtf_json_count(json, name, byte);
    }
    gwtf_json_close(json);
}

static void put_byte_level(struct gwtf_json *json, const char *key) {
    gwtf_json_open(json, key, '{');
    gwtf_json_text(json, "type", "ByteLevel");
    gwtf_json_flag(json, "add_prefix_space", false);
    gwtf_json_flag(json, "trim_offsets", false);
    gwtf_json_flag(json, "use_regex", false);
    gwtf_json_close(json);
}

char *gwtf_hugging_face_tokenizer(void) {
    struct text text;
    if (!start(&text))
        return NULL;
    gwtf_json_text(&text.json, "version", "1.0");
    gwtf_json_null(&text.json, "truncation");
    gwtf_json_null(&text.json, "padding");
    gwtf_json_open(&text.json, "added_tokens", '[');
    gwtf_json_close(&text.json);
    gwtf_json_null(&text.json, "normalizer");
    put_byte_level(&text.json, "pre_tokenizer");
    gwtf_json_null(&text.json, "post_processor");
    put_byte_level(&text.json, "decoder");
    gwtf_json_open(&text.json, "model", '{');
    gwtf_json_text(&text.json, "type", "BPE");
    put_vocabulary(&text.json);
    gwtf_json_open(&text.json, "merges", '[');
    gwtf_json_close(&text.json);
    gwtf_json_close(&text.json);
    return end(&text);
}

char *gwtf_hugging_face_tokenizer_config(const struct gwtf_model_shape *model, const char *class,
                                         const char *special) {
    static const char *const specials[] = {"bos_token", "eos_token", "unk_token"};
    struct text text;
    if (!start(&text))
        return NULL;
    gwtf_json_text(&text.json, "tokenizer_class", class);
    gwtf_json_count(&text.json, "model_max_length", model->context);
    gwtf_json_flag(&text.json, "clean_up_tokenization_spaces", false);
    if (strcmp(class, GWTF_HUGGING_FACE_GPT2) == 0) {
        gwtf_json_flag(&text.json, "add_prefix_space", false);
        for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++) {
            if (special != NULL)
                gwtf_json_text(&text.json, specials[i], special);
            else
                gwtf_json_null(&text.json, specials[i]);
        }
    } else if (strcmp(class, GWTF_HUGGING_FACE_LLAMA) == 0) {
        gwtf_json_flag(&text.json, "add_bos_token", false);
        gwtf_json_flag(&text.json, "add_eos_token", false);
        gwtf_json_flag(&text.json, "legacy", false);
    }
    return end(&text);
}
