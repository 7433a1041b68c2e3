#include "launcher/progress.h"

#include "worker/runtime/clock.h"

#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Not more than ten lines a second on a terminal, one in five seconds in a log. */
#define TERMINAL_INTERVAL_US 100000
#define LOG_INTERVAL_US 5000000

void gwtf_progress_init(struct gwtf_progress *progress, uint64_t iterations, bool quiet) {
    memset(progress, 0, sizeof *progress);
    progress->iterations = iterations;
    progress->quiet = quiet;
    progress->terminal = isatty(STDOUT_FILENO) != 0;
    progress->last_validation_loss = NAN;
    progress->last_loss = NAN;
}

void gwtf_progress_break(struct gwtf_progress *progress) {
    if (progress->line_open) {
        fputc('\n', stdout);
        fflush(stdout);
    }
    progress->line_open = false;
}

void gwtf_progress_note(struct gwtf_progress *progress, const char *format, ...) {
    va_list arguments;
    if (progress->line_open)
        fputs("\r\033[K", stdout);
    progress->line_open = false;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    fputc('\n', stdout);
    fflush(stdout);
}

/* "1:02:03" or "4:05". */
static void format_time(double seconds, char *text, size_t text_bytes) {
    unsigned long long all = seconds > 0 ? (unsigned long long)(seconds + 0.5) : 0;
    if (all >= 3600)
        snprintf(text, text_bytes, "%llu:%02llu:%02llu", all / 3600, all / 60 % 60, all % 60);
    else
        snprintf(text, text_bytes, "%llu:%02llu", all / 60, all % 60);
}

static void format_line(const struct gwtf_progress *progress, const struct gwtf_metrics *metrics,
                        char *line, size_t line_bytes) {
    char validation[48] = "", left[32] = "";
    uint64_t to_go =
        progress->iterations > metrics->iteration ? progress->iterations - metrics->iteration : 0;
    if (!isnan(metrics->validation_loss))
        snprintf(validation, sizeof validation, "  validation %.4f", metrics->validation_loss);
    format_time((double)to_go * progress->seconds_per_iteration, left, sizeof left);
    snprintf(line, line_bytes, "iteration %llu/%llu  loss %.4f%s  %.0f tokens/s  %u nodes  %s left",
             (unsigned long long)metrics->iteration, (unsigned long long)progress->iterations,
             metrics->loss, validation, metrics->tokens_per_second, metrics->nodes, left);
}

void gwtf_progress_metrics(struct gwtf_progress *progress, const struct gwtf_metrics *metrics) {
    bool first = progress->seconds_per_iteration <= 0;
    progress->seconds_per_iteration =
        first ? metrics->seconds : 0.9 * progress->seconds_per_iteration + 0.1 * metrics->seconds;
    progress->last_iteration = metrics->iteration;
    progress->last_loss = metrics->loss;
    if (!isnan(metrics->validation_loss))
        progress->last_validation_loss = metrics->validation_loss;
    if (progress->quiet)
        return;
    gwtf_time_us now_us = gwtf_clock_now_us();
    int64_t interval_us = progress->terminal ? TERMINAL_INTERVAL_US : LOG_INTERVAL_US;
    bool stays = !isnan(metrics->validation_loss) || metrics->iteration >= progress->iterations;
    if (!first && !stays && now_us - progress->printed_us < interval_us)
        return;
    progress->printed_us = now_us;
    char line[256];
    format_line(progress, metrics, line, sizeof line);
    if (!progress->terminal || stays) {
        gwtf_progress_note(progress, "%s", line);
        return;
    }
    printf("\r\033[K%s", line);
    fflush(stdout);
    progress->line_open = true;
}

static void metrics_path(const char *directory, char path[GWTF_RUN_PATH_MAX]) {
    snprintf(path, GWTF_RUN_PATH_MAX, "%s/metrics.jsonl", directory);
}

void gwtf_progress_copy_metrics(const char *directory, uint64_t *offset) {
    char path[GWTF_RUN_PATH_MAX], bytes[8192];
    metrics_path(directory, path);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    ssize_t got;
    while ((got = pread(file, bytes, sizeof bytes, (off_t)*offset)) > 0) {
        ssize_t whole = got;
        while (whole > 0 && bytes[whole - 1] != '\n')
            whole--;
        if (whole == 0)
            break;
        fwrite(bytes, 1, (size_t)whole, stdout);
        *offset += (uint64_t)whole;
    }
    fflush(stdout);
    close(file);
}

uint64_t gwtf_progress_metrics_end(const char *directory) {
    char path[GWTF_RUN_PATH_MAX];
    struct stat facts;
    metrics_path(directory, path);
    return stat(path, &facts) == 0 ? (uint64_t)facts.st_size : 0;
}
