/*
 * What a run does, read from the files in its directory alone: for gwtf status and gwtf top, on any
 * machine that sees them, at any time.
 */
#ifndef GWTF_LAUNCHER_VIEW_H
#define GWTF_LAUNCHER_VIEW_H

#include "io/allocation.h"
#include "io/run.h"
#include "io/snapshot.h"

#define GWTF_VIEW_RECENT_MAX 10
#define GWTF_VIEW_EVENTS_MAX 8

struct gwtf_view_event {
    char time[40];
    char kind[40];
    uint64_t iteration;
    gwtf_node_id node;
    char text[256];
};

struct gwtf_view {
    const char *directory;
    uint64_t iterations; /* configured; 0: not known */
    struct gwtf_metrics last;
    uint64_t metrics_count;
    double validation_loss; /* the last one measured */
    uint64_t validation_iteration;
    double recent_seconds[GWTF_VIEW_RECENT_MAX];         /* of the last iterations, in turn */
    struct gwtf_view_event events[GWTF_VIEW_EVENTS_MAX]; /* the last ones, in turn */
    uint64_t events_count;
    struct gwtf_node_state *nodes;
    size_t nodes_count;
    struct gwtf_allocation allocation; /* of the last start's job, or empty */
    uint64_t now_us;
    bool has_snapshot;
    struct gwtf_snapshot_info snapshot;
    const char *phase;
    char explanation[GWTF_ERROR_TEXT_MAX + 64];
};

/* Reads everything that the files of VIEW's directory say; the rest of VIEW is zero before. Free it
 * with gwtf_view_deinit. Errors: GWTF_ERROR_USAGE, GWTF_ERROR_MISSING when there is no run,
 * GWTF_ERROR_IO. */
gwtf_status gwtf_view_look(struct gwtf_view *view, struct gwtf_error *error);
void gwtf_view_deinit(struct gwtf_view *view);

/* Until the last iteration; NAN when nothing can be said. */
double gwtf_view_seconds_left(const struct gwtf_view *view);

/* On which host it is, and which of its GPUs: "uni1, GPU 0". */
const char *gwtf_view_where(const struct gwtf_node_state *node, char text[288]);

/* Since the node has written its state, in seconds. */
double gwtf_view_age_s(const struct gwtf_view *view, const struct gwtf_node_state *node);

/* True when NODE should have been heard of since. */
bool gwtf_view_is_silent(const struct gwtf_view *view, const struct gwtf_node_state *node);

/* As in "2 min 3 s". */
const char *gwtf_view_span(double seconds, char text[48]);

/* The job that it runs in, as in "17: uni on uni[1-2]"; "" when it is none. */
void gwtf_view_job(const struct gwtf_view *view, char *text, size_t text_bytes);

/* Of the last events the first one that is still known. */
uint64_t gwtf_view_first_event(const struct gwtf_view *view);

#endif
