/* How a distributed run goes on by itself when it has lost a stage, or everything. */
#ifndef GWTF_LAUNCHER_RESTART_H
#define GWTF_LAUNCHER_RESTART_H

#include "worker/runtime/setup.h"

/* Whether an end by STATUS, as gwtf_supervise returns it, is one to restart after. */
bool gwtf_restart_is_due(const struct gwtf_setup *setup, gwtf_status status);

/* For the person: where what is left of a lost stage's run lies, and what can be done with it. "":
 * nothing is left. */
void gwtf_restart_explain(const struct gwtf_setup *setup, char *text, size_t text_bytes);

/*
 * What SETUP's run can go on from: with faults.stage_loss "snapshot" and "neighbours" a snapshot
 * that is made of what is left, where there is such; else the newest whole one. INFO's path is ""
 * when there is none and never was: from the beginning. HOW says what was done about a lost stage,
 * "" when nothing was. Errors: GWTF_ERROR_UNSUPPORTED when the newest snapshot has other stages;
 * GWTF_ERROR_CORRUPT when all are damaged; as of gwtf_setup_find_snapshot.
 */
gwtf_status gwtf_restart_find(const struct gwtf_setup *setup, struct gwtf_snapshot_info *info,
                              char how[GWTF_SNAPSHOT_HOW_MAX], struct gwtf_error *error);

/* The crashes of CONFIG that come once and have come by now: they do not come again. */
void gwtf_restart_forget_crashes(struct gwtf_config *config, double trained_seconds);

/* Waits before restart NUMBER, from 1 on: a second, twice as long each time, a minute at most.
 * False: the user wants the run to end. */
bool gwtf_restart_wait(unsigned number);

#endif
