/* gwtf eval: how well a snapshot knows a token file. */
#include "io/json.h"
#include "io/tokenizer/tokenizer.h"
#include "launcher/choose.h"
#include "launcher/commands.h"
#include "launcher/options.h"
#include "worker/runtime/clock.h"
#include "worker/runtime/evaluate.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static const struct gwtf_usage usage = {
    .command = "eval",
    .arguments = "SNAPSHOT --data FILE [--sequences N] [--json]",
    .summary =
        "Measures a trained model on a token file: loss in nats per token, perplexity, and bits\n"
        "per byte of the text that the tokens stand for. Every sequence is as long as the model's "
        "context, and\n"
        "they do not overlap. SNAPSHOT is a step's directory, or a run's: its newest whole one.\n",
    .example =
        "  gwtf eval runs/small --data validation.h5\n"
        "  gwtf eval runs/small/snapshots/step-000100 --data test.h5 --sequences 256 --json\n",
    .arguments_least = 1,
    .arguments_most = 1,
};

/* On a terminal a line that is rewritten, elsewhere a line in ten seconds. */
#define TERMINAL_INTERVAL_US 100000
#define LOG_INTERVAL_US 10000000

struct progress {
    bool terminal;
    bool shown;
    gwtf_time_us printed_us;
};

static void show_progress(void *context, uint64_t done, uint64_t all) {
    struct progress *progress = context;
    gwtf_time_us now_us = gwtf_clock_now_us();
    if (now_us - progress->printed_us <
            (progress->terminal ? TERMINAL_INTERVAL_US : LOG_INTERVAL_US) ||
        done == all)
        return;
    progress->printed_us = now_us;
    progress->shown = true;
    fprintf(stderr, "%seval: sequence %" PRIu64 " of %" PRIu64 ", %.0f %%%s",
            progress->terminal ? "\r" : "", done, all, 100.0 * (double)done / (double)all,
            progress->terminal ? "\033[K" : "\n");
}

/* Of all that was measured. */
static double bits_per_byte(const struct gwtf_evaluation *found) {
    return found->loss / log(2) * (double)found->tokens / (double)found->bytes;
}

static size_t bytes_of(void *context, uint32_t id) {
    size_t size_bytes;
    (void)gwtf_tokenizer_piece(context, id, &size_bytes);
    return size_bytes;
}

/* "gpt2", as shards of llm.c say it, and "gpt2:0123456789abcdef". */
static bool is_same(const char *of_data, const char *of_snapshot) {
    size_t length = strlen(of_data);
    return strncmp(of_data, of_snapshot, length) == 0 &&
           (of_snapshot[length] == '\0' || of_snapshot[length] == ':');
}

/* The tokenizer of the token file; NULL: neither it nor the snapshot keeps it. */
static gwtf_status open_tokenizer(const struct gwtf_snapshot_info *info, const char *data,
                                  struct gwtf_tokenizer **tokenizer, struct gwtf_error *error) {
    struct gwtf_tokens *tokens = NULL;
    gwtf_status status = gwtf_tokens_open(data, &tokens, error);
    if (status != GWTF_OK)
        return status;
    struct gwtf_tokens_info of_data = gwtf_tokens_get_info(tokens);
    gwtf_tokens_close(tokens);
    if (of_data.tokenizer_sha256[0] != '\0')
        status = gwtf_tokenizer_open_kept(data, tokenizer, error);
    else if (strcmp(of_data.tokenizer, "bytes") == 0)
        status = gwtf_tokenizer_open("bytes", tokenizer, error);
    else if (is_same(of_data.tokenizer, info->tokenizer))
        status = gwtf_tokenizer_of_snapshot(info, tokenizer, error);
    return status == GWTF_ERROR_MISSING || status == GWTF_ERROR_UNSUPPORTED ? GWTF_OK : status;
}

static void print_json(const struct gwtf_snapshot_info *info, const char *data,
                       const struct gwtf_evaluation *found) {
    struct gwtf_json json;
    gwtf_json_start(&json, stdout);
    gwtf_json_open(&json, NULL, '{');
    gwtf_json_text(&json, "snapshot", info->path);
    gwtf_json_count(&json, "step", info->step);
    gwtf_json_text(&json, "data", data);
    gwtf_json_text(&json, "tokenizer", found->data.tokenizer);
    gwtf_json_count(&json, "sequences", found->sequences);
    gwtf_json_count(&json, "context", found->context);
    gwtf_json_count(&json, "tokens", found->tokens);
    gwtf_json_real(&json, "loss", found->loss);
    gwtf_json_real(&json, "perplexity", exp(found->loss));
    if (found->bytes > 0)
        gwtf_json_real(&json, "bits_per_byte", bits_per_byte(found));
    else
        gwtf_json_null(&json, "bits_per_byte");
    gwtf_json_real(&json, "seconds", found->seconds);
    gwtf_json_real(&json, "tokens_per_second", (double)found->tokens / found->seconds);
    gwtf_json_close(&json);
    gwtf_json_end(&json);
}

static void print_plain(const struct gwtf_snapshot_info *info, const char *data,
                        const struct gwtf_evaluation *found) {
    printf("snapshot       %s\n", info->path);
    printf("data           %s\n", data);
    printf("measured       %" PRIu64 " tokens: %" PRIu64 " sequences of %" PRIu32 "\n",
           found->tokens, found->sequences, found->context);
    printf("loss           %.6f nats per token\n", found->loss);
    printf("perplexity     %.4f\n", exp(found->loss));
    if (found->bytes > 0)
        printf("bits per byte  %.4f\n", bits_per_byte(found));
    else
        printf("bits per byte  not known: no file keeps the tokenizer '%s'\n",
               found->data.tokenizer);
    printf("speed          %.0f tokens/s\n", (double)found->tokens / found->seconds);
}

int gwtf_command_eval(int argc, char **argv) {
    const char *data = NULL, *sequences = NULL, *threads = NULL;
    bool json = false;
    int code;
    const struct gwtf_option options[] = {
        {.name = "data", .argument = "FILE", .help = "the token file", .value = &data},
        {.name = "sequences",
         .argument = "N",
         .help = "at most so many, spread evenly over the file; 0, or left out: all that fit",
         .value = &sequences},
        {.name = "threads",
         .argument = "N",
         .help = "0, or left out: all cores",
         .value = &threads},
        {.name = "json", .help = "print JSON", .flag = &json},
        {0}};
    if (!gwtf_options_parse(&usage, options, argc, argv, &code))
        return code;
    if (data == NULL)
        return gwtf_fail(GWTF_ERROR_USAGE, "eval: --data is missing: add --data validation.h5");
    double most = 0, cores = 0;
    code = gwtf_option_number("sequences", sequences, 0, 1e15, true, &most);
    if (code == 0)
        code = gwtf_option_number("threads", threads, 0, 1024, true, &cores);
    if (code != 0)
        return code;
    struct progress progress = {.terminal = isatty(STDERR_FILENO) != 0,
                                .printed_us = gwtf_clock_now_us()};
    struct gwtf_evaluation_options wanted = {.data = data,
                                             .sequences = (uint64_t)most,
                                             .threads = (uint32_t)cores,
                                             .progress = show_progress,
                                             .progress_context = &progress};
    struct gwtf_snapshot_info info;
    struct gwtf_evaluation found;
    struct gwtf_tokenizer *tokenizer = NULL;
    struct gwtf_error error;
    gwtf_status status = gwtf_choose_snapshot(argv[optind], &info, &error);
    if (status == GWTF_OK)
        status = open_tokenizer(&info, data, &tokenizer, &error);
    wanted.bytes_of = tokenizer != NULL ? bytes_of : NULL;
    wanted.bytes_context = tokenizer;
    if (status == GWTF_OK)
        status = gwtf_evaluate(&info, &wanted, &found, &error);
    gwtf_tokenizer_close(tokenizer);
    if (progress.shown && progress.terminal)
        fputs("\r\033[K", stderr);
    if (status != GWTF_OK)
        return gwtf_fail(status, "%s", error.text);
    if (json)
        print_json(&info, data, &found);
    else
        print_plain(&info, data, &found);
    return 0;
}
