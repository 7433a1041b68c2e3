/*
 * Runs a scenario: its nodes train in virtual time (worker/simulation/simulation.h) with the costs
 * of its model (costs.h) on the links of its topology, while its churn happens (churn.h).
 */
#ifndef GWTF_WORKER_SIMULATION_SCENARIO_H
#define GWTF_WORKER_SIMULATION_SCENARIO_H

#include "io/scenario.h"
#include "worker/simulation/simulation.h"

struct gwtf_scenario_options {
    enum gwtf_flow_policy policy;
    /* May be NULL. ITERATION has been reported; virtual time is NOW_US. */
    void (*progress)(void *context, uint32_t iteration, gwtf_time_us now_us);
    void *progress_context;
};

struct gwtf_scenario_result {
    enum gwtf_flow_policy policy;
    gwtf_status status; /* how the run ended; GWTF_OK: with its last iteration */
    char ended[512];    /* else: one line */
    uint32_t nodes;
    uint32_t stages;
    uint32_t iterations; /* reported */

    /* Of an iteration: the mean over all but the first, in which flows are built; over all when
     * there is one. NAN here and below: nothing was measured. */
    double seconds_per_iteration;
    double microbatches_per_second;
    double first_iteration_seconds;
    double virtual_seconds;                        /* until the end */
    double stage_utilisation[GWTF_STAGES_MAX + 1]; /* mean over iterations */

    uint64_t asked;     /* microbatches of the reported iterations */
    uint64_t completed; /* of them in a step of their data node */
    uint64_t lost;
    double compute_seconds; /* of microbatches, by all nodes */
    double wasted_seconds;
    double wasted_compute;    /* share */
    double wasted_by_crashed; /* share: of it, what crashed nodes took with them */

    uint64_t bytes; /* tensors, and messages in their plain size */
    double bytes_per_iteration;
    uint64_t messages;
    uint64_t flow_messages;

    uint32_t flows;           /* at the end, of all data nodes */
    double flow_cost_seconds; /* mean cost of one, seconds */
    double flow_cost_seconds_max;

    uint32_t crashes;
    uint32_t returned; /* nodes that came back, and had their weights */
    uint32_t link_faults;
    uint32_t joined;                /* nodes that came later */
    uint32_t moved;                 /* to another stage */
    uint32_t left;                  /* as they were told to */
    size_t recoveries;              /* microbatches that another node took over */
    double recovery_seconds_median; /* from the crash on; NAN: none */
    double recovery_seconds_max;

    uint64_t events;
    uint64_t trace;  /* hash of all that happened: equal for equal seeds on any machine */
    double *seconds; /* [iterations] of each iteration */
};

/*
 * Errors: GWTF_ERROR_USAGE with a line for the user when the protocol cannot hold such a run,
 * GWTF_ERROR_MEMORY; RESULT is untouched then. A run that ends before its last iteration is no
 * error: RESULT says so. GWTF_ERROR_RUN: a promise of the protocol was broken, with a line.
 */
gwtf_status gwtf_scenario_run(const struct gwtf_scenario *scenario,
                              const struct gwtf_scenario_options *options,
                              struct gwtf_scenario_result *result, struct gwtf_error *error);
void gwtf_scenario_result_deinit(struct gwtf_scenario_result *result);

#endif
