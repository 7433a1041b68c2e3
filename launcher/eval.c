/* gwtf eval: how well a snapshot knows a token file. */
#include "io/json.h"
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
        "per byte where a token is a byte. Every sequence is as long as the model's context, and\n"
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

static bool tokens_are_bytes(const struct gwtf_evaluation *found) {
    return strcmp(found->data.tokenizer, "bytes") == 0;
}

static double bits(double nats) {
    return nats / log(2);
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
    if (tokens_are_bytes(found))
        gwtf_json_real(&json, "bits_per_byte", bits(found->loss));
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
    if (tokens_are_bytes(found))
        printf("bits per byte  %.4f\n", bits(found->loss));
    else
        printf("bits per byte  not known: tokens of '%s' are not single bytes\n",
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
    const struct gwtf_evaluation_options wanted = {.data = data,
                                                   .sequences = (uint64_t)most,
                                                   .threads = (uint32_t)cores,
                                                   .progress = show_progress,
                                                   .progress_context = &progress};
    struct gwtf_snapshot_info info;
    struct gwtf_evaluation found;
    struct gwtf_error error;
    gwtf_status status = gwtf_choose_snapshot(argv[optind], &info, &error);
    if (status == GWTF_OK)
        status = gwtf_evaluate(&info, &wanted, &found, &error);
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
