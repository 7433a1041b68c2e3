/* gwtf tokenize: a text becomes token files. */
#include "io/tokenizer/tokenize.h"
#include "io/json.h"
#include "io/tokens.h"
#include "launcher/commands.h"
#include "launcher/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct gwtf_usage usage = {
    .command = "tokenize",
    .arguments = "TEXT --output FILE [OPTION...]",
    .summary =
        "Makes a token file (HDF5) from a text. Tokenizers are:\n"
        "  bytes               every byte is a token, the vocabulary is 256; the default\n"
        "  gpt2:DIR            GPT-2's, from vocab.json and merges.txt, or encoder.json and\n"
        "                      vocab.bpe, or tokenizer.json in DIR\n"
        "  sentencepiece:FILE  of a SentencePiece model, as LLaMA's tokenizer.model\n"
        "The token file keeps the tokenizer's files, so that a model that is trained on it can\n"
        "write. With a validation share, the end of the text goes to a file of its own.\n",
    .example = "  gwtf tokenize bible.txt --output train.h5 \\\n"
               "      --validation-share 0.05 --validation-output validation.h5\n"
               "  gwtf tokenize bible.txt --tokenizer gpt2:gpt2 --output train.h5\n",
    .arguments_least = 1,
    .arguments_most = 1,
};

/* On a terminal only. */
static void show_progress(void *context, uint64_t done_bytes, uint64_t all_bytes) {
    int *shown = context;
    int percent = (int)(100.0 * (double)done_bytes / (double)all_bytes);
    if (percent == *shown)
        return;
    *shown = percent;
    fprintf(stderr, "\rtokenize: %3d %%%s", percent, done_bytes == all_bytes ? "\r\033[K" : "");
}

/* A share from 0 to below 1, exclusive of 0 when it is written out. */
static bool parse_share(const char *text, double *share) {
    char *end = NULL;
    errno = 0;
    *share = strtod(text, &end);
    return errno == 0 && end != text && *end == '\0' && *share > 0 && *share < 1;
}

static int read_share(const char *text, const char *validation, double *share) {
    *share = 0;
    if (text == NULL && validation == NULL)
        return 0;
    if (text == NULL)
        return gwtf_fail(
            GWTF_ERROR_USAGE,
            "--validation-output is given without a share: add --validation-share 0.05");
    if (validation == NULL)
        return gwtf_fail(GWTF_ERROR_USAGE, "--validation-share is given without a file: add "
                                           "--validation-output validation.h5");
    if (!parse_share(text, share))
        return gwtf_fail(GWTF_ERROR_USAGE,
                         "--validation-share is '%s': give a number above 0 and below 1, like 0.05",
                         text);
    return 0;
}

/* Opens what was written, so that what is reported is what is there. */
static gwtf_status report_file(const char *path, struct gwtf_json *json, bool first,
                               struct gwtf_error *error) {
    struct gwtf_tokens *tokens = NULL;
    gwtf_status status = gwtf_tokens_open(path, &tokens, error);
    if (status != GWTF_OK)
        return status;
    struct gwtf_tokens_info info = gwtf_tokens_get_info(tokens);
    gwtf_tokens_close(tokens);
    if (json == NULL) {
        printf("%s: %" PRIu64 " tokens (%s, vocabulary %" PRIu32 ")\n", path, info.count,
               info.tokenizer, info.vocabulary);
        return GWTF_OK;
    }
    if (first) {
        gwtf_json_text(json, "tokenizer", info.tokenizer);
        gwtf_json_count(json, "vocabulary", info.vocabulary);
        if (info.tokenizer_sha256[0] != '\0')
            gwtf_json_text(json, "tokenizer_sha256", info.tokenizer_sha256);
        else
            gwtf_json_null(json, "tokenizer_sha256");
        gwtf_json_text(json, "source", info.source);
        gwtf_json_text(json, "sha256", info.sha256);
        gwtf_json_open(json, "files", '[');
    }
    gwtf_json_open(json, NULL, '{');
    gwtf_json_text(json, "path", path);
    gwtf_json_count(json, "tokens", info.count);
    gwtf_json_count(json, "largest", info.largest);
    gwtf_json_close(json);
    return GWTF_OK;
}

static gwtf_status report(const struct gwtf_tokenize_options *made, bool as_json,
                          struct gwtf_error *error) {
    struct gwtf_json json;
    if (as_json) {
        gwtf_json_start(&json, stdout);
        gwtf_json_open(&json, NULL, '{');
    }
    gwtf_status status = report_file(made->output, as_json ? &json : NULL, true, error);
    if (status == GWTF_OK && made->validation_share > 0)
        status = report_file(made->validation_output, as_json ? &json : NULL, false, error);
    if (as_json && status == GWTF_OK) {
        gwtf_json_close(&json);
        gwtf_json_close(&json);
        gwtf_json_end(&json);
    }
    return status;
}

int gwtf_command_tokenize(int argc, char **argv) {
    const char *output = NULL, *share = NULL, *validation = NULL, *spec = NULL, *threads = NULL;
    bool json = false;
    int code, shown = -1;
    double cores = 0;
    const struct gwtf_option options[] = {
        {.name = "output", .argument = "FILE", .help = "the token file", .value = &output},
        {.name = "tokenizer",
         .argument = "WORD",
         .help = "bytes, gpt2:DIR or sentencepiece:FILE; default bytes",
         .value = &spec},
        {.name = "validation-share",
         .argument = "SHARE",
         .help = "above 0 and below 1: what share of the text, its end, is kept for validation",
         .value = &share},
        {.name = "validation-output",
         .argument = "FILE",
         .help = "the token file for validation",
         .value = &validation},
        {.name = "threads",
         .argument = "N",
         .help = "that encode; 0, or left out: all cores",
         .value = &threads},
        {.name = "json", .help = "print what was made as JSON", .flag = &json},
        {0}};
    if (!gwtf_options_parse(&usage, options, argc, argv, &code))
        return code;
    if (output == NULL)
        return gwtf_fail(GWTF_ERROR_USAGE, "tokenize: --output is missing: add --output train.h5");
    struct gwtf_tokenize_options made = {.input = argv[optind],
                                         .output = output,
                                         .validation_output = validation,
                                         .progress = isatty(STDERR_FILENO) ? show_progress : NULL,
                                         .progress_context = &shown};
    code = read_share(share, validation, &made.validation_share);
    if (code == 0)
        code = gwtf_option_number("threads", threads, 0, 1024, true, &cores);
    if (code != 0)
        return code;
    struct gwtf_error error;
    struct gwtf_tokenizer *tokenizer = NULL;
    gwtf_status status = gwtf_tokenizer_open(spec != NULL ? spec : "bytes", &tokenizer, &error);
    made.tokenizer = tokenizer;
    made.threads = (unsigned)cores;
    if (status == GWTF_OK)
        status = gwtf_tokenize(&made, &error);
    gwtf_tokenizer_close(tokenizer);
    if (status == GWTF_OK)
        status = report(&made, json, &error);
    return status == GWTF_OK ? 0 : gwtf_fail(status, "%s", error.text);
}
