/* gwtf export: a snapshot for other programs. */
#include "io/export.h"
#include "io/json.h"
#include "launcher/choose.h"
#include "launcher/commands.h"
#include "launcher/options.h"
#include "worker/runtime/hugging_face.h"
#include "worker/runtime/trained.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct gwtf_usage usage = {
    .command = "export",
    .arguments = "SNAPSHOT -o DIR [--force] [--json]",
    .summary =
        "Writes a trained model as Hugging Face's transformers and many other programs load it:\n"
        "model.safetensors with the weights of all stages, config.json, generation_config.json,\n"
        "and, where a token is a byte, the tokenizer. DIR is made when all of it is written.\n"
        "SNAPSHOT is a step's directory, or a run's: its newest whole one.\n",
    .example = "  gwtf export runs/small -o small-hf\n"
               "  gwtf export runs/small/snapshots/step-000100 -o small-hf --force\n",
    .arguments_least = 1,
    .arguments_most = 1,
};

/* The last two only where tokens are bytes. */
static const char *const names[] = {"config.json", "generation_config.json", "tokenizer.json",
                                    "tokenizer_config.json", NULL};
enum { ALL_FILES = 4, FILES_WITHOUT_TOKENIZER = 2 };

/* The tokenizer's file would give bytes that the model has no place for. */
static bool takes_bytes(const struct gwtf_snapshot_info *info) {
    return strcmp(info->tokenizer, "bytes") == 0 && info->vocabulary >= 256;
}

static gwtf_status write_all(const struct gwtf_snapshot_info *info, const char *directory,
                             bool force, struct gwtf_safetensors_facts *facts,
                             struct gwtf_error *error) {
    struct gwtf_model_shape model;
    gwtf_status status = gwtf_trained_shape(info->path, &model, NULL, error);
    if (status != GWTF_OK)
        return status;
    char *texts[ALL_FILES] = {gwtf_hugging_face_config(&model),
                              gwtf_hugging_face_generation(&model), gwtf_hugging_face_tokenizer(),
                              gwtf_hugging_face_tokenizer_config(&model)};
    struct gwtf_export_file files[ALL_FILES + 1] = {{0}};
    for (size_t i = 0; i < (takes_bytes(info) ? ALL_FILES : FILES_WITHOUT_TOKENIZER); i++)
        files[i] = (struct gwtf_export_file){.name = names[i], .text = texts[i]};
    for (size_t i = 0; i < ALL_FILES; i++)
        if (texts[i] == NULL)
            status = gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    if (status == GWTF_OK)
        status = gwtf_export_write(info->path, directory, force, files, names, facts, error);
    for (size_t i = 0; i < ALL_FILES; i++)
        free(texts[i]);
    return status;
}

static void print_json(const struct gwtf_snapshot_info *info, const char *directory,
                       const struct gwtf_safetensors_facts *facts) {
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
    for (size_t i = 0; i < (takes_bytes(info) ? ALL_FILES : FILES_WITHOUT_TOKENIZER); i++)
        gwtf_json_text(&json, NULL, names[i]);
    gwtf_json_close(&json);
    gwtf_json_flag(&json, "has_tokenizer", takes_bytes(info));
    gwtf_json_close(&json);
    gwtf_json_end(&json);
}

static void print_plain(const struct gwtf_snapshot_info *info, const char *directory,
                        const struct gwtf_safetensors_facts *facts) {
    printf("%s: %s of step %" PRIu64 ", %" PRIu64 " tensors, %" PRIu64 " parameters, %.1f MB\n",
           directory, info->family, info->step, facts->tensors, facts->parameters,
           (double)facts->size_bytes * 1e-6);
    if (takes_bytes(info))
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
    struct gwtf_error error;
    gwtf_status status = gwtf_choose_snapshot(argv[optind], &info, &error);
    if (status == GWTF_OK)
        status = write_all(&info, directory, force, &facts, &error);
    if (status != GWTF_OK)
        return gwtf_fail(status, "%s", error.text);
    if (json)
        print_json(&info, directory, &facts);
    else
        print_plain(&info, directory, &facts);
    return 0;
}
