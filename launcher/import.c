/* gwtf import: weights of elsewhere, to train on from. */
#include "worker/runtime/import.h"
#include "io/file.h"
#include "io/json.h"
#include "io/tokenizer/tokenizer.h"
#include "launcher/commands.h"
#include "launcher/options.h"
#include "share/base/log.h"
#include "worker/runtime/hugging_face.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct gwtf_usage usage = {
    .command = "import",
    .arguments = "DIR -o RUN [--json]",
    .summary =
        "Makes the first snapshot of a run, that of step 0, from a model as Hugging Face's\n"
        "transformers keep it: config.json and model.safetensors (float32, float16 or bfloat16)\n"
        "of a GPT-2 or LLaMA, and its tokenizer (vocab.json and merges.txt, tokenizer.model, or\n"
        "GPT-2's tokenizer.json), which the snapshots then keep. gwtf train --resume goes on from "
        "it; the model is printed as my.cfg "
        "has to have it.\n",
    .example = "  gwtf import gpt2 -o runs/mine\n"
               "  gwtf train my.cfg --set run.directory=runs/mine --resume\n",
    .arguments_least = 1,
    .arguments_most = 1,
};

static void print_json(const char *run, const struct gwtf_import *made) {
    const struct gwtf_model_config *model = &made->model;
    struct gwtf_json json;
    gwtf_json_start(&json, stdout);
    gwtf_json_open(&json, NULL, '{');
    gwtf_json_text(&json, "run", run);
    gwtf_json_text(&json, "snapshot", made->snapshot);
    gwtf_json_count(&json, "tensors", made->tensors);
    gwtf_json_count(&json, "parameters", made->parameters);
    if (made->tokenizer[0] != '\0')
        gwtf_json_text(&json, "tokenizer", made->tokenizer);
    else
        gwtf_json_null(&json, "tokenizer");
    gwtf_json_open(&json, "model", '{');
    gwtf_json_text(&json, "family", model->family);
    gwtf_json_count(&json, "layers", model->layers);
    gwtf_json_count(&json, "width", model->width);
    gwtf_json_count(&json, "heads", model->heads);
    gwtf_json_count(&json, "key_value_heads", model->key_value_heads);
    gwtf_json_count(&json, "hidden", model->hidden);
    gwtf_json_count(&json, "context", model->context);
    gwtf_json_count(&json, "vocabulary", model->vocabulary);
    gwtf_json_flag(&json, "tied_head", model->tied_head);
    gwtf_json_real(&json, "rope_theta", model->rope_theta);
    gwtf_json_real(&json, "norm_epsilon", model->norm_epsilon);
    gwtf_json_close(&json);
    gwtf_json_close(&json);
    gwtf_json_end(&json);
}

static void print_plain(const char *run, const struct gwtf_import *made) {
    const struct gwtf_model_config *model = &made->model;
    printf("%s: %" PRIu64 " tensors, %" PRIu64 " parameters, %s%s\n", made->snapshot, made->tensors,
           made->parameters, made->tokenizer[0] != '\0' ? "tokenizer " : "no tokenizer",
           made->tokenizer);
    printf("to train on: gwtf train my.cfg --set run.directory=%s --resume, where my.cfg says\n"
           "    model = { family = \"%s\"; layers = %" PRIu32 "; width = %" PRIu32
           "; heads = %" PRIu32 "; key_value_heads = %" PRIu32 ";\n"
           "              hidden = %" PRIu32 "; context = %" PRIu32 "; vocabulary = %" PRIu32
           "; tied_head = %s;\n"
           "              rope_theta = %.9g; norm_epsilon = %.9g; };\n",
           run, model->family, model->layers, model->width, model->heads, model->key_value_heads,
           model->hidden, model->context, model->vocabulary, model->tied_head ? "true" : "false",
           model->rope_theta, model->norm_epsilon);
}

/* What an export of a model whose tokens are bytes has in place of a tokenizer. */
static bool is_of_bytes(const char *directory) {
    char path[GWTF_FILE_PATH_MAX], *text = gwtf_hugging_face_tokenizer(), *found = NULL;
    size_t size = 0;
    snprintf(path, sizeof path, "%.1900s/tokenizer.json", directory);
    bool same = text != NULL &&
                gwtf_file_read(path, strlen(text), &found, &size, NULL) == GWTF_OK &&
                size == strlen(text) && memcmp(found, text, size) == 0;
    free(found);
    free(text);
    return same;
}

/* Tokens that the model knows; 0: see what gwtf_import_model says. */
static uint32_t count_places(const char *directory) {
    char path[GWTF_FILE_PATH_MAX];
    struct gwtf_model_config model;
    snprintf(path, sizeof path, "%.1900s/config.json", directory);
    return gwtf_model_config_read(path, &model, NULL) == GWTF_OK ? model.vocabulary : 0;
}

/* The model is of use without its tokenizer, too: one that cannot be taken is said, and left. */
static gwtf_status import_both(const char *directory, const char *run, struct gwtf_import *made,
                               struct gwtf_error *error) {
    static const struct gwtf_kept none;
    struct gwtf_tokenizer *tokenizer = NULL;
    struct gwtf_error left = {""};
    gwtf_status found = is_of_bytes(directory)
                            ? gwtf_tokenizer_open("bytes", &tokenizer, &left)
                            : gwtf_tokenizer_open_directory(directory, &tokenizer, &left);
    const struct gwtf_tokenizer_info *info =
        found == GWTF_OK ? gwtf_tokenizer_get_info(tokenizer) : NULL;
    uint32_t places = count_places(directory);
    if (info != NULL && info->vocabulary > places && places > 0) {
        found = gwtf_error_set(&left, GWTF_ERROR_USAGE,
                               "it has %" PRIu32 " tokens, and the model places for %" PRIu32,
                               info->vocabulary, places);
        info = NULL;
    }
    gwtf_status status = gwtf_import_model(directory, info != NULL ? info->name : "",
                                           info != NULL ? &info->files : &none, run, made, error);
    if (status == GWTF_OK && found != GWTF_OK && found != GWTF_ERROR_MISSING)
        gwtf_log(GWTF_LOG_WARNING, "the tokenizer is not taken: %s", left.text);
    gwtf_tokenizer_close(tokenizer);
    return status;
}

int gwtf_command_import(int argc, char **argv) {
    const char *run = NULL;
    bool json = false;
    int code;
    const struct gwtf_option options[] = {
        {.name = "output",
         .letter = 'o',
         .argument = "RUN",
         .help = "the new run's directory",
         .value = &run},
        {.name = "json", .help = "print what was made as JSON", .flag = &json},
        {0}};
    if (!gwtf_options_parse(&usage, options, argc, argv, &code))
        return code;
    if (run == NULL || *run == '\0')
        return gwtf_fail(GWTF_ERROR_USAGE,
                         "import: -o is missing: add -o RUN, the new run's directory");
    struct gwtf_import made;
    struct gwtf_error error;
    gwtf_status status = import_both(argv[optind], run, &made, &error);
    if (status != GWTF_OK)
        return gwtf_fail(status, "%s", error.text);
    if (json)
        print_json(run, &made);
    else
        print_plain(run, &made);
    return 0;
}
