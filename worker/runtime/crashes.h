/*
 * The crashes that a configuration asks for (`crashes`), as one node sees them: when is it this
 * one's turn to kill or stop itself? All nodes draw the same victims from the same seed, so nobody
 * has to tell. Pure, but for the deed itself: time comes with each call.
 */
#ifndef GWTF_WORKER_RUNTIME_CRASHES_H
#define GWTF_WORKER_RUNTIME_CRASHES_H

#include "io/config.h"
#include "share/base/types.h"

#define GWTF_CRASHES_TEXT_MAX 128

typedef struct gwtf_crashes gwtf_crashes;

struct gwtf_crash {
    bool stop; /* SIGSTOP for so long; else SIGKILL */
    double stopped_seconds;
    char text[GWTF_CRASHES_TEXT_MAX]; /* "kill -9 in backward of iteration 12" */
};

/* STAGES: of each node, by id; copied. CONFIG outlives it. Errors: GWTF_ERROR_MEMORY; *CRASHES
 * untouched. */
gwtf_status gwtf_crashes_create(const struct gwtf_config *config, const uint32_t *stages,
                                uint32_t nodes_count, gwtf_node_id self, gwtf_crashes **crashes);
void gwtf_crashes_destroy(gwtf_crashes *crashes); /* NULL is allowed */

/*
 * This node is in PHASE (ANY: nothing in particular, now and then) of ITERATION, TRAINED_US since
 * training began. True: it does CRASH now. Call it again until it is false.
 */
bool gwtf_crashes_next(gwtf_crashes *crashes, uint32_t iteration, enum gwtf_config_phase phase,
                       int64_t trained_us, struct gwtf_crash *crash);

/* This process, with all its threads: returns after a stop. */
void gwtf_crash_now(const struct gwtf_crash *crash);

#endif
