/* gwtf generate: how a snapshot goes on after a prompt. */
#include "io/json.h"
#include "io/tokenizer/tokenizer.h"
#include "launcher/choose.h"
#include "launcher/commands.h"
#include "launcher/options.h"
#include "model/sample.h"
#include "share/base/random.h"
#include "worker/runtime/clock.h"
#include "worker/runtime/trained.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct gwtf_usage usage = {
    .command = "generate",
    .arguments = "SNAPSHOT --prompt TEXT | --prompt-file FILE [OPTION...]",
    .summary =
        "Lets a trained model go on after a prompt, and prints both, token after token as they\n"
        "come. It sees as many tokens as its context has, of a longer text the end. The same seed\n"
        "gives the same text. SNAPSHOT is a step's directory, or a run's: its newest whole one.\n",
    .example = "  gwtf generate runs/small --prompt 'In the beginning' --tokens 200\n"
               "  gwtf generate runs/small --prompt-file start.txt --temperature 0.8 --top-k 40\n"
               "  gwtf generate runs/small --prompt 'And God said' --temperature 0 --json\n",
    .arguments_least = 1,
    .arguments_most = 1,
};

#define TOKENS_DEFAULT 256
#define TOKENS_MOST 1e8
#define PROMPT_BYTES_MOST ((size_t)64 << 20)

/* A prompt, and its tokens with those that follow. */
struct text {
    unsigned char *bytes; /* of the prompt */
    size_t count;
    struct gwtf_tokenizer *tokenizer;
    struct gwtf_token_list list;
    size_t prompt; /* tokens of it */
};

struct request {
    const char *prompt, *prompt_file, *tokenizer;
    uint64_t tokens, seed;
    uint32_t threads;
    struct gwtf_sampling sampling;
    bool json;
};

/* --- The prompt. --- */

static gwtf_status read_stream(FILE *stream, const char *path, struct text *text,
                               struct gwtf_error *error) {
    size_t room = 1 << 16, taken;
    do {
        unsigned char *larger = realloc(text->bytes, room);
        if (larger == NULL)
            return gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for the prompt: free some");
        text->bytes = larger;
        taken = fread(text->bytes + text->count, 1, room - text->count, stream);
        text->count += taken;
        if (text->count == room)
            room *= 2;
    } while (taken > 0 && text->count <= PROMPT_BYTES_MOST);
    if (ferror(stream))
        return gwtf_error_set(error, GWTF_ERROR_USAGE, "cannot read '%s': %s: give a text file",
                              path, strerror(errno));
    if (text->count > PROMPT_BYTES_MOST)
        return gwtf_error_set(
            error, GWTF_ERROR_USAGE,
            "'%s' is longer than the %zu MiB that a prompt may have: give its end", path,
            PROMPT_BYTES_MOST >> 20);
    return GWTF_OK;
}

static gwtf_status read_prompt(const struct request *request, struct text *text,
                               struct gwtf_error *error) {
    gwtf_status status = GWTF_OK;
    if (request->prompt != NULL) {
        text->bytes = (unsigned char *)strdup(request->prompt);
        if (text->bytes == NULL)
            return gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for the prompt: free some");
        text->count = strlen(request->prompt);
    } else if (strcmp(request->prompt_file, "-") == 0) {
        status = read_stream(stdin, "-", text, error);
    } else {
        FILE *stream = fopen(request->prompt_file, "rb");
        if (stream == NULL)
            return gwtf_error_set(error, GWTF_ERROR_USAGE, "cannot open '%s': %s: check the path",
                                  request->prompt_file, strerror(errno));
        status = read_stream(stream, request->prompt_file, text, error);
        fclose(stream);
    }
    if (status == GWTF_OK && text->count == 0)
        status = gwtf_error_set(error, GWTF_ERROR_USAGE,
                                "the prompt is empty: give at least one letter");
    return status;
}

/* --- The model. --- */

/* Whether the tokenizer NAME can have made tokens of which no more is KNOWN: of shards, say, that
 * they are GPT-2's; of files that others have made, a word of theirs. */
static bool may_be(const char *known, const char *name) {
    static const char *const kinds[] = {"bytes", "gpt2", "sentencepiece"};
    if (strchr(known, ':') != NULL)
        return strcmp(known, name) == 0;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(known, kinds[i]) == 0)
            return strcspn(name, ":") == strlen(known) && strncmp(known, name, strlen(known)) == 0;
    return true;
}

/* What the model's tokens are of: the snapshot keeps it, unless its token files did not. */
static gwtf_status open_tokenizer(const struct request *request,
                                  const struct gwtf_snapshot_info *info, struct text *text,
                                  struct gwtf_error *error) {
    const char *known = info->tokenizer, *spec = request->tokenizer;
    if (spec == NULL && *known == '\0')
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "'%.900s' does not say which tokens it was trained on: add "
                              "--tokenizer bytes if each was a byte",
                              info->path);
    gwtf_status status = spec == NULL ? gwtf_tokenizer_of_snapshot(info, &text->tokenizer, error)
                                      : gwtf_tokenizer_open(spec, &text->tokenizer, error);
    if (spec == NULL && status == GWTF_ERROR_MISSING)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "the tokenizer is '%s', and the snapshot does not keep its files: "
                              "add --tokenizer gpt2:DIR or --tokenizer sentencepiece:FILE",
                              known);
    if (status != GWTF_OK || spec == NULL)
        return status;
    const char *name = gwtf_tokenizer_get_info(text->tokenizer)->name;
    if (!may_be(known, name))
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "'%.400s' is '%s', and the model was trained with '%s': give the "
                              "tokenizer that made its token files",
                              spec, name, known);
    return GWTF_OK;
}

static gwtf_status encode_prompt(struct text *text, const struct gwtf_snapshot_info *info,
                                 uint64_t tokens, struct gwtf_error *error) {
    struct gwtf_encoder *encoder = gwtf_encoder_create(text->tokenizer);
    gwtf_status status =
        encoder == NULL
            ? gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for the prompt: free some")
            : gwtf_encoder_encode(encoder, text->bytes, text->count, false, &text->list, error);
    gwtf_encoder_destroy(encoder);
    if (status != GWTF_OK)
        return status;
    bool is_bytes = strcmp(gwtf_tokenizer_get_info(text->tokenizer)->name, "bytes") == 0;
    text->prompt = text->list.count;
    for (size_t i = 0; i < text->prompt; i++)
        if (text->list.ids[i] >= info->vocabulary)
            return gwtf_error_set(error, GWTF_ERROR_USAGE,
                                  "%s %zu of the prompt is %u, and the model's vocabulary is "
                                  "%" PRIu32 ": give text like that which it was trained on",
                                  is_bytes ? "byte" : "token", i + 1, text->list.ids[i],
                                  info->vocabulary);
    if (text->prompt == 0)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "the prompt has no token: give at least one letter");
    if (!gwtf_token_list_reserve(&text->list, (size_t)tokens))
        return gwtf_error_set(error, GWTF_ERROR_MEMORY,
                              "no memory for the text: ask for fewer --tokens");
    return GWTF_OK;
}

/* How many bytes at the end of BYTES begin a character that is not whole yet. */
static size_t begun(const unsigned char *bytes, size_t count) {
    for (size_t back = 1; back <= 3 && back <= count; back++) {
        unsigned char byte = bytes[count - back];
        if (byte >= 0xc2 && byte <= 0xf4)
            return back < (byte >= 0xf0 ? 4u : byte >= 0xe0 ? 3u : 2u) ? back : 0;
        if (byte < 0x80 || byte > 0xbf)
            return 0;
    }
    return 0;
}

/* Prints a token's bytes, but holds back a character's first ones until it is whole. */
struct printer {
    unsigned char held[4];
    size_t count;
};

static void print_piece(struct printer *printer, const unsigned char *piece, size_t size) {
    unsigned char last[8];
    size_t tail = size < 4 ? size : 4;
    memcpy(last, printer->held, printer->count);
    memcpy(last + printer->count, piece + size - tail, tail);
    size_t held = begun(last, printer->count + tail);
    if (held > size) { /* all of it goes on with what is held */
        memcpy(printer->held + printer->count, piece, size);
        printer->count += size;
        return;
    }
    fwrite(printer->held, 1, printer->count, stdout);
    fwrite(piece, 1, size - held, stdout);
    memcpy(printer->held, piece + size - held, held);
    printer->count = held;
    fflush(stdout);
}

/*
 * Where what the model sees begins, in a text of COUNT tokens that it last saw from BEGIN on. Each
 * token that leaves moves all others to other places, so that nothing computed for them holds any
 * longer: half of them leave at once, and the next ones go on from what is kept.
 */
static size_t begin_of(size_t begin, size_t count, uint32_t context) {
    return count - begin <= context ? begin : count - (context + 1) / 2;
}

/* Appends tokens to TEXT, and prints each unless it will be JSON. A reader that is gone ends it. */
static gwtf_status go_on(struct gwtf_trained *trained, const struct request *request,
                         struct text *text, struct gwtf_error *error) {
    const struct gwtf_model_shape *model = gwtf_trained_model(trained);
    uint64_t key = gwtf_random_key(request->seed, 0x67656e6572617465u);
    uint32_t choices = gwtf_tokenizer_get_info(text->tokenizer)->vocabulary;
    choices = choices < model->vocabulary ? choices : model->vocabulary;
    struct gwtf_token_list *list = &text->list;
    float *logits = calloc(model->vocabulary, sizeof *logits);
    struct gwtf_candidate *room = calloc(choices, sizeof *room);
    struct printer printer = {.count = 0};
    size_t begin = list->count > model->context ? list->count - model->context : 0, size;
    gwtf_status status = GWTF_OK;
    if (logits == NULL || room == NULL)
        status = gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    for (uint64_t i = 0; i < request->tokens && status == GWTF_OK && !ferror(stdout); i++) {
        begin = begin_of(begin, list->count, model->context);
        status = gwtf_trained_next(trained, list->ids + begin, (uint32_t)(list->count - begin),
                                   logits, error);
        if (status != GWTF_OK)
            break;
        uint32_t token =
            gwtf_sample(&request->sampling, logits, choices, gwtf_random_unit_at(key, i), room);
        list->ids[list->count++] = token;
        const unsigned char *piece = gwtf_tokenizer_piece(text->tokenizer, token, &size);
        if (!request->json)
            print_piece(&printer, piece, size);
    }
    fwrite(printer.held, 1, printer.count, stdout);
    free(logits);
    free(room);
    return status;
}

/* The bytes of the tokens that were made, as they go on after the prompt. The caller frees. */
static char *made_text(const struct text *text, size_t *size_bytes) {
    char *bytes = NULL;
    FILE *stream = open_memstream(&bytes, size_bytes);
    if (stream == NULL)
        return NULL;
    for (size_t i = text->prompt; i < text->list.count; i++) {
        size_t size;
        const unsigned char *piece =
            gwtf_tokenizer_piece(text->tokenizer, text->list.ids[i], &size);
        fwrite(piece, 1, size, stream);
    }
    return fclose(stream) == 0 ? bytes : NULL;
}

static void print_json(const struct gwtf_snapshot_info *info, const struct request *request,
                       const struct text *text, double seconds) {
    struct gwtf_json json;
    size_t made = text->list.count - text->prompt, size = 0;
    char *bytes = made_text(text, &size);
    gwtf_json_start(&json, stdout);
    gwtf_json_open(&json, NULL, '{');
    gwtf_json_text(&json, "snapshot", info->path);
    gwtf_json_count(&json, "step", info->step);
    gwtf_json_text(&json, "tokenizer", gwtf_tokenizer_get_info(text->tokenizer)->name);
    gwtf_json_real(&json, "temperature", request->sampling.temperature);
    gwtf_json_count(&json, "top_k", request->sampling.top_k);
    gwtf_json_real(&json, "top_p", request->sampling.top_p);
    gwtf_json_count(&json, "seed", request->seed);
    gwtf_json_bytes(&json, "prompt", (const char *)text->bytes, text->count);
    gwtf_json_bytes(&json, "text", bytes != NULL ? bytes : "", size);
    gwtf_json_open(&json, "tokens", '[');
    for (size_t i = text->prompt; i < text->list.count; i++)
        gwtf_json_count(&json, NULL, text->list.ids[i]);
    gwtf_json_close(&json);
    gwtf_json_real(&json, "seconds", seconds);
    gwtf_json_real(&json, "tokens_per_second", (double)made / seconds);
    gwtf_json_close(&json);
    gwtf_json_end(&json);
    free(bytes);
}

/* Where a token is soon computed, threads wait for each other longer than they work. */
static uint32_t threads_for(const struct gwtf_snapshot_info *info) {
    double operations = 24.0 * info->layers * info->width * info->width;
    return operations < 2e7 ? 1 : 0;
}

static gwtf_status generate(const struct gwtf_snapshot_info *info, const struct request *request,
                            struct text *text, struct gwtf_error *error) {
    struct gwtf_trained *trained = NULL;
    gwtf_status status = gwtf_trained_open(
        info, 1, request->threads != 0 ? request->threads : threads_for(info), &trained, error);
    if (status != GWTF_OK)
        return status;
    gwtf_time_us start_us = gwtf_clock_now_us();
    if (!request->json) {
        fwrite(text->bytes, 1, text->count, stdout);
        fflush(stdout);
    }
    status = go_on(trained, request, text, error);
    gwtf_trained_close(trained);
    double seconds = (double)(gwtf_clock_now_us() - start_us) * 1e-6;
    if (status == GWTF_OK && request->json)
        print_json(info, request, text, seconds);
    else if (!request->json)
        putchar('\n');
    if (status == GWTF_OK && isatty(STDERR_FILENO) && !request->json)
        fprintf(stderr, "(%.1f tokens/s)\n", (double)(text->list.count - text->prompt) / seconds);
    return status;
}

/* --- The command. --- */

static int read_request(const char *tokens, const char *temperature, const char *top_k,
                        const char *top_p, const char *seed, const char *threads,
                        struct request *request) {
    double tokens_wanted = TOKENS_DEFAULT, k = 0, given_seed = 1, cores = 0;
    request->sampling = (struct gwtf_sampling){.temperature = 1, .top_p = 1};
    if (request->prompt == NULL && request->prompt_file == NULL)
        return gwtf_fail(GWTF_ERROR_USAGE,
                         "generate: there is no prompt: add --prompt 'In the beginning'");
    if (request->prompt != NULL && request->prompt_file != NULL)
        return gwtf_fail(GWTF_ERROR_USAGE,
                         "--prompt and --prompt-file are both given: leave one out");
    int code = gwtf_option_number("tokens", tokens, 1, TOKENS_MOST, true, &tokens_wanted);
    if (code == 0)
        code = gwtf_option_number("temperature", temperature, 0, 1000, false,
                                  &request->sampling.temperature);
    if (code == 0)
        code = gwtf_option_number("top-k", top_k, 0, UINT32_MAX, true, &k);
    if (code == 0)
        code = gwtf_option_number("top-p", top_p, 1e-9, 1, false, &request->sampling.top_p);
    if (code == 0)
        code = gwtf_option_number("seed", seed, 0, 9e15, true, &given_seed);
    if (code == 0)
        code = gwtf_option_number("threads", threads, 0, 1024, true, &cores);
    request->tokens = (uint64_t)tokens_wanted;
    request->sampling.top_k = (uint32_t)k;
    request->seed = (uint64_t)given_seed;
    request->threads = (uint32_t)cores;
    return code;
}

int gwtf_command_generate(int argc, char **argv) {
    struct request request = {0};
    const char *tokens = NULL, *temperature = NULL, *top_k = NULL, *top_p = NULL, *seed = NULL,
               *threads = NULL;
    int code;
    const struct gwtf_option options[] = {
        {.name = "prompt",
         .argument = "TEXT",
         .help = "what it begins with",
         .value = &request.prompt},
        {.name = "prompt-file",
         .argument = "FILE",
         .help = "the same from a file; -: from standard input",
         .value = &request.prompt_file},
        {.name = "tokens",
         .argument = "N",
         .help = "how many to add; default 256",
         .value = &tokens},
        {.name = "temperature",
         .argument = "T",
         .help = "below 1 tamer, above 1 wilder, 0: always the likeliest; default 1",
         .value = &temperature},
        {.name = "top-k",
         .argument = "K",
         .help = "draw from the K likeliest tokens only; default 0: from all",
         .value = &top_k},
        {.name = "top-p",
         .argument = "P",
         .help = "draw from the fewest likeliest that have this probability together; default 1",
         .value = &top_p},
        {.name = "seed", .argument = "S", .help = "of what is drawn; default 1", .value = &seed},
        {.name = "tokenizer",
         .argument = "WORD",
         .help = "of the model's tokens: bytes, gpt2:DIR or sentencepiece:FILE; left out: the one "
                 "that the snapshot keeps",
         .value = &request.tokenizer},
        {.name = "threads",
         .argument = "N",
         .help = "0, or left out: all cores",
         .value = &threads},
        {.name = "json",
         .help = "print JSON at the end: text, where U+FFFD stands for bytes that are no UTF-8, "
                 "and tokens",
         .flag = &request.json},
        {0}};
    if (!gwtf_options_parse(&usage, options, argc, argv, &code))
        return code;
    code = read_request(tokens, temperature, top_k, top_p, seed, threads, &request);
    if (code != 0)
        return code;
    struct gwtf_snapshot_info info;
    struct text text = {0};
    struct gwtf_error error;
    gwtf_status status = read_prompt(&request, &text, &error);
    if (status == GWTF_OK)
        status = gwtf_choose_snapshot(argv[optind], &info, &error);
    if (status == GWTF_OK)
        status = open_tokenizer(&request, &info, &text, &error);
    if (status == GWTF_OK)
        status = encode_prompt(&text, &info, request.tokens, &error);
    if (status == GWTF_OK)
        status = generate(&info, &request, &text, &error);
    free(text.bytes);
    free(text.list.ids);
    gwtf_tokenizer_close(text.tokenizer);
    return status == GWTF_OK ? 0 : gwtf_fail(status, "%s", error.text);
}
