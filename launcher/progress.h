/*
 * What a person sees of long work: on a terminal one line that is rewritten, elsewhere plain lines,
 * not too many. With JSON nothing but what is asked for.
 */
#ifndef GWTF_LAUNCHER_PROGRESS_H
#define GWTF_LAUNCHER_PROGRESS_H

#include "io/run.h"
#include "share/base/types.h"

#include <stdbool.h>

struct gwtf_progress {
    bool quiet;
    bool terminal;
    uint64_t iterations; /* of the whole run */
    bool line_open;      /* a rewritten line is on the terminal */
    gwtf_time_us printed_us;
    double seconds_per_iteration; /* averaged, 0: none yet */
    uint64_t last_iteration;
    double last_loss;
    double last_validation_loss; /* NAN: not measured */
};

/* QUIET: notes are printed, metrics are not. */
void gwtf_progress_init(struct gwtf_progress *progress, uint64_t iterations, bool quiet);

/* An iteration has ended. */
void gwtf_progress_metrics(struct gwtf_progress *progress, const struct gwtf_metrics *metrics);

/* Copies the whole lines of DIRECTORY/metrics.jsonl from *OFFSET on to stdout, as they are, and
 * moves *OFFSET behind them. */
void gwtf_progress_copy_metrics(const char *directory, uint64_t *offset);

/* Where DIRECTORY/metrics.jsonl ends; 0 when there is none. */
uint64_t gwtf_progress_metrics_end(const char *directory);

/* A line of its own, on stdout. */
void gwtf_progress_note(struct gwtf_progress *progress, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Ends a rewritten line, before something else writes to the terminal. */
void gwtf_progress_break(struct gwtf_progress *progress);

#endif
