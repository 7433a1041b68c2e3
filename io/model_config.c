#include "io/model_config.h"

#include "io/file.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_BYTES_MAX ((size_t)1 << 20)

/* A number of the file, and the name that it has there. */
struct number {
    const char *name;
    uint32_t *value;
    uint32_t fallback; /* 0: it must be there */
};

static gwtf_status take_numbers(const json_t *json, const char *path, const struct number *numbers,
                                size_t count, struct gwtf_error *error) {
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_object_get(json, numbers[i].name);
        if ((value == NULL || json_is_null(value)) && numbers[i].fallback != 0) {
            *numbers[i].value = numbers[i].fallback;
            continue;
        }
        json_int_t number = json_integer_value(value);
        if (!json_is_integer(value) || number < 1 || number > UINT32_MAX)
            return gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                                  "'%s' has no good %s: get the model anew", path, numbers[i].name);
        *numbers[i].value = (uint32_t)number;
    }
    return GWTF_OK;
}

static double take_real(const json_t *json, const char *name, double fallback) {
    const json_t *value = json_object_get(json, name);
    return json_is_number(value) ? json_number_value(value) : fallback;
}

/* What must be said in one of two ways, or not at all. */
struct demand {
    const char *name;
    const char *words[2]; /* of a text */
    int flag;             /* of a flag, or -1 */
};

static gwtf_status check_demands(const json_t *json, const char *path, const struct demand *demands,
                                 size_t count, struct gwtf_error *error) {
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_object_get(json, demands[i].name);
        const char *word = json_string_value(value);
        bool good = value == NULL || json_is_null(value);
        for (int j = 0; j < 2; j++)
            good = good || (word != NULL && demands[i].words[j] != NULL &&
                            strcmp(word, demands[i].words[j]) == 0);
        if (demands[i].flag >= 0)
            good = good || (json_is_boolean(value) && json_is_true(value) == demands[i].flag);
        if (!good)
            return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED,
                                  "'%s' has another %s than GWTF computes: take another model",
                                  path, demands[i].name);
    }
    return GWTF_OK;
}

static gwtf_status take_gpt2(const json_t *json, const char *path, struct gwtf_model_config *config,
                             struct gwtf_error *error) {
    static const struct demand demands[] = {
        {"activation_function", {"gelu_new", "gelu_pytorch_tanh"}, -1},
        {"scale_attn_weights", {NULL, NULL}, 1},
        {"scale_attn_by_inverse_layer_idx", {NULL, NULL}, 0},
        {"add_cross_attention", {NULL, NULL}, 0}};
    const struct number numbers[] = {
        {"n_layer", &config->layers, 0},        {"n_embd", &config->width, 0},
        {"n_head", &config->heads, 0},          {"n_positions", &config->context, 0},
        {"vocab_size", &config->vocabulary, 0}, {"n_inner", &config->hidden, UINT32_MAX}};
    gwtf_status status =
        check_demands(json, path, demands, sizeof demands / sizeof demands[0], error);
    if (status == GWTF_OK)
        status = take_numbers(json, path, numbers, sizeof numbers / sizeof numbers[0], error);
    if (config->hidden == UINT32_MAX)
        config->hidden = 4 * config->width;
    config->key_value_heads = config->heads;
    config->norm_epsilon = take_real(json, "layer_norm_epsilon", 1e-5);
    config->rope_theta = 10000;
    config->tied_head = !json_is_false(json_object_get(json, "tie_word_embeddings"));
    return status;
}

static gwtf_status take_llama(const json_t *json, const char *path,
                              struct gwtf_model_config *config, struct gwtf_error *error) {
    static const struct demand demands[] = {{"hidden_act", {"silu", "swish"}, -1},
                                            {"rope_scaling", {NULL, NULL}, -1},
                                            {"attention_bias", {NULL, NULL}, 0},
                                            {"mlp_bias", {NULL, NULL}, 0}};
    uint32_t head = 0;
    const struct number numbers[] = {{"num_hidden_layers", &config->layers, 0},
                                     {"hidden_size", &config->width, 0},
                                     {"num_attention_heads", &config->heads, 0},
                                     {"num_key_value_heads", &config->key_value_heads, UINT32_MAX},
                                     {"intermediate_size", &config->hidden, 0},
                                     {"max_position_embeddings", &config->context, 0},
                                     {"vocab_size", &config->vocabulary, 0},
                                     {"head_dim", &head, UINT32_MAX}};
    gwtf_status status =
        check_demands(json, path, demands, sizeof demands / sizeof demands[0], error);
    if (status == GWTF_OK)
        status = take_numbers(json, path, numbers, sizeof numbers / sizeof numbers[0], error);
    if (status != GWTF_OK)
        return status;
    if (config->key_value_heads == UINT32_MAX)
        config->key_value_heads = config->heads;
    if (head != UINT32_MAX && (uint64_t)head * config->heads != config->width)
        return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED,
                              "'%s' has heads of %u numbers, and GWTF computes those of "
                              "hidden_size / num_attention_heads: take another model",
                              path, head);
    config->norm_epsilon = take_real(json, "rms_norm_eps", 1e-6);
    /* Transformers 5 keeps it, and what rope_scaling was, one level down. */
    const json_t *rope = json_object_get(json, "rope_parameters");
    const char *kind = json_string_value(json_object_get(rope, "rope_type"));
    if (kind != NULL && strcmp(kind, "default") != 0)
        return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED,
                              "'%s' has another rope_type than GWTF computes: take another model",
                              path);
    config->rope_theta = take_real(json, "rope_theta", take_real(rope, "rope_theta", 10000));
    config->tied_head = json_is_true(json_object_get(json, "tie_word_embeddings"));
    return GWTF_OK;
}

gwtf_status gwtf_model_config_read(const char *path, struct gwtf_model_config *config,
                                   struct gwtf_error *error) {
    char *text = NULL;
    size_t size = 0;
    gwtf_status status = gwtf_file_read(path, CONFIG_BYTES_MAX, &text, &size, error);
    if (status != GWTF_OK)
        return status;
    struct gwtf_model_config made = {.family = ""};
    json_t *json = json_loadb(text, size, 0, NULL);
    const char *type = json_string_value(json_object_get(json, "model_type"));
    if (type == NULL)
        status = gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                                "'%s' does not say which model it is of: get the model anew", path);
    else if (strcmp(type, "gpt2") == 0)
        status = take_gpt2(json, path, &made, error);
    else if (strcmp(type, "llama") == 0)
        status = take_llama(json, path, &made, error);
    else
        status =
            gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED,
                           "'%.600s' is of a '%.100s', and GWTF knows gpt2 and llama: take one "
                           "of those",
                           path, type);
    if (status == GWTF_OK) {
        memcpy(made.family, type, strlen(type) + 1);
        *config = made;
    }
    json_decref(json);
    free(text);
    return status;
}
