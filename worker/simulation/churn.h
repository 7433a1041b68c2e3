/*
 * What goes wrong in a scenario, drawn before the run from its seed alone: whatever the policy does
 * meanwhile, the same nodes crash in the same iterations at the same share of their work.
 */
#ifndef GWTF_WORKER_SIMULATION_CHURN_H
#define GWTF_WORKER_SIMULATION_CHURN_H

#include "io/scenario.h"

enum gwtf_churn_kind {
    /* node, at its return; before what else happens in that iteration */
    GWTF_CHURN_RETURN,
    /* node, peer: their links are as the topology says again */
    GWTF_CHURN_HEAL,
    /* node, peer, factor */
    GWTF_CHURN_SLOW,
    /* node, a relay: nothing reaches it, and it is lost as one that crashes */
    GWTF_CHURN_CUT,
    /* node: when the share AT of the iteration's forward (or backward) works of relays has ended */
    GWTF_CHURN_CRASH_FORWARD,
    GWTF_CHURN_CRASH_BACKWARD,
    /* node: in the middle of its first forward (backward) work of the iteration, or as its own
     * REDUCE begins; at the latest when the next iteration begins */
    GWTF_CHURN_CRASH_OWN_FORWARD,
    GWTF_CHURN_CRASH_OWN_BACKWARD,
    GWTF_CHURN_CRASH_OWN_REDUCE
};

struct gwtf_churn_event {
    enum gwtf_churn_kind kind;
    uint32_t iteration;
    uint32_t node;
    uint32_t peer; /* or GWTF_SCENARIO_ALL_PEERS */
    double factor;
    double at; /* 0 to 1 */
};

/*
 * All of SCENARIO's events by iteration, in the order above inside one, crashes there by AT; PLACES
 * are its nodes. *EVENTS is the caller's to free, NULL when there are none. Of a crash in phase
 * "any" four in ten are in the forward works, four in the backward ones, two in aggregation. Where
 * churn is drawn, a stage keeps its last relay; one that has returned counts when it must have its
 * weights. Errors: GWTF_ERROR_MEMORY.
 */
gwtf_status gwtf_churn_draw(const struct gwtf_scenario *scenario,
                            const struct gwtf_scenario_place *places,
                            struct gwtf_churn_event **events, size_t *events_count);

#endif
