#include "launcher/restart.h"

#include "io/run.h"
#include "launcher/signals.h"
#include "share/base/log.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MOST_S 60
#define LOOK_INTERVAL_MS 100

bool gwtf_restart_is_due(const struct gwtf_setup *setup, gwtf_status status) {
    if (setup->config.faults.stage_loss == GWTF_CONFIG_STAGE_LOSS_HALT || gwtf_signals_count() > 0)
        return false;
    return status == GWTF_ERROR_STAGE || status == GWTF_ERROR_LINK || status == GWTF_ERROR_PEER;
}

void gwtf_restart_explain(const struct gwtf_setup *setup, char *text, size_t text_bytes) {
    char snapshots[GWTF_SNAPSHOT_PATH_MAX], rest[GWTF_SNAPSHOT_PATH_MAX];
    gwtf_setup_snapshots_path(setup, snapshots, sizeof snapshots);
    text[0] = '\0';
    if (gwtf_snapshot_rest_newest(snapshots, rest))
        snprintf(text, text_bytes,
                 "to '%s': go on from the newest snapshot with --resume, or from that too with "
                 "--resume --set faults.stage_loss=snapshot, or =neighbours",
                 rest);
}

static void note_last(void *context, const struct gwtf_metrics *metrics) {
    uint64_t *last = context;
    if (metrics->iteration > *last)
        *last = metrics->iteration;
}

static uint64_t last_iteration(const char *directory) {
    uint64_t last = 0, offset = 0;
    gwtf_run_read_metrics(directory, &offset, note_last, &last, NULL);
    return last;
}

static void note_skipped(void *context, const char *line) {
    (void)context;
    gwtf_log(GWTF_LOG_WARNING, "%s", line);
}

/* The newest iteration that a run can go on after: one stays to be trained, and metrics.jsonl tells
 * of all before it. */
static uint64_t step_most(const struct gwtf_setup *setup) {
    uint64_t told = last_iteration(setup->config.run.directory);
    uint64_t most = setup->config.run.iterations - 1;
    return told < most ? told : most;
}

static gwtf_status compose(const struct gwtf_setup *setup, char how[GWTF_SNAPSHOT_HOW_MAX],
                           struct gwtf_error *error) {
    const struct gwtf_config *config = &setup->config;
    uint32_t stages = config->pipeline.stages;
    char snapshots[GWTF_SNAPSHOT_PATH_MAX];
    struct gwtf_snapshot_info made;
    struct gwtf_snapshot_part *parts = calloc((size_t)stages + 1, sizeof *parts);
    if (parts == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    for (uint32_t stage = 0; stage <= stages; stage++) {
        struct gwtf_stage_shape shape = gwtf_setup_stage_shape(setup, stage);
        parts[stage] = (struct gwtf_snapshot_part){shape.first_layer, shape.layers};
    }
    struct gwtf_snapshot_plan plan = {
        .lost = config->faults.stage_loss == GWTF_CONFIG_STAGE_LOSS_NEIGHBOURS
                    ? GWTF_SNAPSHOT_LOST_NEIGHBOURS
                    : GWTF_SNAPSHOT_LOST_SNAPSHOT,
        .stages = stages,
        .parts = parts,
        .step_most = step_most(setup),
        .keep = config->snapshot.keep,
    };
    gwtf_setup_snapshots_path(setup, snapshots, sizeof snapshots);
    gwtf_status status = gwtf_snapshot_compose(snapshots, &plan, &made, how, error);
    free(parts);
    return status;
}

gwtf_status gwtf_restart_find(const struct gwtf_setup *setup, struct gwtf_snapshot_info *info,
                              char how[GWTF_SNAPSHOT_HOW_MAX], struct gwtf_error *error) {
    char snapshots[GWTF_SNAPSHOT_PATH_MAX], rest[GWTF_SNAPSHOT_PATH_MAX];
    gwtf_setup_snapshots_path(setup, snapshots, sizeof snapshots);
    how[0] = '\0';
    bool composes =
        setup->config.faults.stage_loss != GWTF_CONFIG_STAGE_LOSS_HALT && step_most(setup) > 0;
    if (composes && gwtf_snapshot_rest_newest(snapshots, rest)) {
        gwtf_status status = compose(setup, how, error);
        if (status == GWTF_ERROR_UNSUPPORTED)
            return status;
        if (status != GWTF_OK) {
            gwtf_log(GWTF_LOG_WARNING, "%s", error->text);
            how[0] = '\0';
        }
    }
    gwtf_status status = gwtf_setup_find_snapshot(setup, info, note_skipped, NULL, error);
    if (status != GWTF_ERROR_MISSING)
        return status;
    if (gwtf_snapshot_was_whole(snapshots))
        return gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                              "all snapshots under '%s' are damaged: repair one, or move them away "
                              "to start afresh",
                              snapshots);
    *info = (struct gwtf_snapshot_info){0};
    return GWTF_OK;
}

static void note_chaos(void *context, const struct gwtf_run_event *event) {
    uint64_t *last = context;
    if (strcmp(event->kind, "chaos") == 0 && event->iteration > *last)
        *last = event->iteration;
}

void gwtf_restart_forget_crashes(struct gwtf_config *config, double trained_seconds) {
    /* The one that was under way, or the last that a crash is told of. */
    uint64_t reached = last_iteration(config->run.directory) + 1, offset = 0;
    gwtf_run_read_events(config->run.directory, &offset, note_chaos, &reached, NULL);
    size_t kept = 0;
    for (size_t i = 0; i < config->crashes_count; i++) {
        const struct gwtf_config_crash *crash = &config->crashes[i];
        if (crash->every > 0 || crash->iteration > reached || crash->seconds > trained_seconds)
            config->crashes[kept++] = *crash;
    }
    config->crashes_count = kept;
}

bool gwtf_restart_wait(unsigned number) {
    unsigned seconds = number > 6 ? WAIT_MOST_S : 1u << (number - 1);
    if (seconds > WAIT_MOST_S)
        seconds = WAIT_MOST_S;
    for (unsigned i = 0; i < seconds * 1000 / LOOK_INTERVAL_MS; i++) {
        if (gwtf_signals_count() > 0)
            return false;
        poll(NULL, 0, LOOK_INTERVAL_MS);
    }
    return gwtf_signals_count() == 0;
}
