/* gwtf export: a snapshot for other programs. */
#include "io/export.h"
#include "io/json.h"
#include "io/tokenizer/tokenizer.h"
#include "launcher/choose.h"
#include "launcher/commands.h"
#include "launcher/options.h"
#include "share/base/log.h"
#include "worker/runtime/hugging_face.h"
#include "worker/runtime/trained.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct gwtf_usage usage = {
    .command = "export",
    .arguments = "SNAPSHOT -o DIR [--force] [--json]",
    .summary =
        "Writes a trained model as Hugging Face's transformers and many other programs load it:\n"
        "model.safetensors with the weights of all stages, config.json, generation_config.json,\n"
        "and the tokenizer's files, which the snapshot keeps. DIR is made when all of it is "
        "written.\n"
        "SNAPSHOT is a step's directory, or a run's: its newest whole one.\n",
    .example = "  gwtf export runs/small -o small-hf\n"
               "  gwtf export runs/small/snapshots/step-000100 -o small-hf --force\n",
    .arguments_least = 1,
    .arguments_most = 1,
};

/* All that an export may hold beside the weights. */
static const char *const names[] = {
    "config.json",    "generation_config.json", "vocab.json", "merges.txt", "tokenizer.model",
    "tokenizer.json", "tokenizer_config.json",  NULL};
enum { FILES_MOST = 3 + GWTF_KEPT_MOST };

/* What goes beside the weights. */
struct beside {
    struct gwtf_kept_file files[FILES_MOST + 1]; /* NAME NULL ends them */
    size_t count;
    char *texts[FILES_MOST]; /* those that were made here */
    size_t texts_count;
    struct gwtf_tokenizer *tokenizer; /* NULL: the snapshot keeps none */
    char name[64];                    /* of it */
};

static gwtf_status add_text(struct beside *beside, const char *name, char *text,
                            struct gwtf_error *error) {
    if (text == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    beside->texts[beside->texts_count++] = text;
    beside->files[beside->count++] =
        (struct gwtf_kept_file){.name = name, .bytes = text, .size_bytes = strlen(text)};
    return GWTF_OK;
}

/* GPT-2's one special token, where the vocabulary has it. */
static const char *find_special(const struct gwtf_tokenizer *tokenizer) {
    static const char special[] = "<|endoftext|>";
    uint32_t vocabulary = gwtf_tokenizer_get_info(tokenizer)->vocabulary;
    for (uint32_t id = 0; id < vocabulary; id++) {
        size_t size;
        const unsigned char *piece = gwtf_tokenizer_piece(tokenizer, id, &size);
        if (size == strlen(special) && memcmp(piece, special, size) == 0)
            return special;
    }
    return NULL;
}

static const char *find_class(const struct gwtf_kept *kept) {
    if (kept->count > 0 && strcmp(kept->files[0].name, "vocab.json") == 0)
        return GWTF_HUGGING_FACE_GPT2;
    if (kept->count > 0 && strcmp(kept->files[0].name, "tokenizer.model") == 0)
        return GWTF_HUGGING_FACE_LLAMA;
    return GWTF_HUGGING_FACE_FAST;
}

/* Its files as they are; of bytes, which have none, one that does the same. */
static gwtf_status add_tokenizer(const struct gwtf_snapshot_info *info,
                                 const struct gwtf_model_shape *model, struct beside *beside,
                                 struct gwtf_error *error) {
    struct gwtf_error left = {""};
    gwtf_status status = gwtf_tokenizer_of_snapshot(info, &beside->tokenizer, &left);
    if (status == GWTF_ERROR_MISSING || status == GWTF_ERROR_UNSUPPORTED)
        return GWTF_OK;
    if (status == GWTF_ERROR_MEMORY)
        return gwtf_error_set(error, status, "%s", left.text);
    if (status != GWTF_OK) {
        /* The weights are whole without it. */
        gwtf_log(GWTF_LOG_WARNING, "the tokenizer is not taken: %.800s", left.text);
        return GWTF_OK;
    }
    const struct gwtf_tokenizer_info *tokenizer = gwtf_tokenizer_get_info(beside->tokenizer);
    if (tokenizer->vocabulary > info->vocabulary)
        return GWTF_OK; /* it would give tokens that the model has no place for */
    snprintf(beside->name, sizeof beside->name, "%s", tokenizer->name);
    for (size_t i = 0; i < tokenizer->files.count; i++)
        beside->files[beside->count++] = tokenizer->files.files[i];
    if (tokenizer->files.count == 0)
        status = add_text(beside, "tokenizer.json", gwtf_hugging_face_tokenizer(), error);
    const char *class = find_class(&tokenizer->files);
    if (status == GWTF_OK)
        status = add_text(
            beside, "tokenizer_config.json",
            gwtf_hugging_face_tokenizer_config(model, class, find_special(beside->tokenizer)),
            error);
    return status;
}

static gwtf_status gather(const struct gwtf_snapshot_info *info, struct beside *beside,
                          struct gwtf_error *error) {
    struct gwtf_model_shape model;
    gwtf_status status = gwtf_trained_shape(info->path, &model, NULL, error);
    if (status == GWTF_OK)
        status = add_text(beside, "config.json", gwtf_hugging_face_config(&model), error);
    if (status == GWTF_OK)
        status =
            add_text(beside, "generation_config.json", gwtf_hugging_face_generation(&model), error);
    return status == GWTF_OK ? add_tokenizer(info, &model, beside, error) : status;
}

static void let_go(struct beside *beside) {
    for (size_t i = 0; i < beside->texts_count; i++)
        free(beside->texts[i]);
    gwtf_tokenizer_close(beside->tokenizer);
}

static void print_json(const struct gwtf_snapshot_info *info, const char *directory,
                       const struct beside *beside, const struct gwtf_safetensors_facts *facts) {
    struct gwtf_json json;
    gwtf_json_start(&json, stdout);
    gwtf_json_open(&json, NULL, '{');
    gwtf_json_text(&json, "snapshot", info->path);
    gwtf_json_count(&json, "step", info->step);
    gwtf_json_text(&json, "directory", directory);
    gwtf_json_text(&json, "family", info->family);
    gwtf_json_count(&json, "tensors", facts->tensors);
    gwtf_json_count(&json, "parameters", facts->parameters);
    gwtf_json_count(&json, "bytes", facts->size_bytes);
    gwtf_json_open(&json, "files", '[');
    gwtf_json_text(&json, NULL, GWTF_EXPORT_WEIGHTS);
    for (size_t i = 0; i < beside->count; i++)
        gwtf_json_text(&json, NULL, beside->files[i].name);
    gwtf_json_close(&json);
    gwtf_json_flag(&json, "has_tokenizer", beside->name[0] != '\0');
    if (beside->name[0] != '\0')
        gwtf_json_text(&json, "tokenizer", beside->name);
    else
        gwtf_json_null(&json, "tokenizer");
    gwtf_json_close(&json);
    gwtf_json_end(&json);
}

static void print_plain(const struct gwtf_snapshot_info *info, const char *directory,
                        const struct beside *beside, const struct gwtf_safetensors_facts *facts) {
    printf("%s: %s of step %" PRIu64 ", %" PRIu64 " tensors, %" PRIu64 " parameters, %.1f MB\n",
           directory, info->family, info->step, facts->tensors, facts->parameters,
           (double)facts->size_bytes * 1e-6);
    if (beside->name[0] != '\0')
        printf("load it with transformers: AutoModelForCausalLM.from_pretrained(\"%s\"), "
               "AutoTokenizer the same\n",
               directory);
    else
        printf("load it with transformers: AutoModelForCausalLM.from_pretrained(\"%s\"); it has no "
               "tokenizer: copy the files of the one that made the token files there\n",
               directory);
}

int gwtf_command_export(int argc, char **argv) {
    const char *directory = NULL;
    bool force = false, json = false;
    int code;
    const struct gwtf_option options[] = {
        {.name = "output",
         .letter = 'o',
         .argument = "DIR",
         .help = "where to; must not be there yet",
         .value = &directory},
        {.name = "force", .help = "replace DIR if it is an export", .flag = &force},
        {.name = "json", .help = "print what was written as JSON", .flag = &json},
        {0}};
    if (!gwtf_options_parse(&usage, options, argc, argv, &code))
        return code;
    if (directory == NULL)
        return gwtf_fail(GWTF_ERROR_USAGE, "export: -o is missing: add -o DIR, where to write");
    struct gwtf_snapshot_info info;
    struct gwtf_safetensors_facts facts;
    struct beside beside = {0};
    struct gwtf_error error;
    gwtf_status status = gwtf_choose_snapshot(argv[optind], &info, &error);
    if (status == GWTF_OK)
        status = gather(&info, &beside, &error);
    if (status == GWTF_OK)
        status =
            gwtf_export_write(info.path, directory, force, beside.files, names, &facts, &error);
    if (status == GWTF_OK && json)
        print_json(&info, directory, &beside, &facts);
    else if (status == GWTF_OK)
        print_plain(&info, directory, &beside, &facts);
    let_go(&beside);
    return status == GWTF_OK ? 0 : gwtf_fail(status, "%s", error.text);
}
