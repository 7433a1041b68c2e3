/*
 * What a simulated run has cost: the observer's book-keeping. Private to this folder.
 *
 * Compute. Every forward and backward pass of training is counted in seconds. Of each microbatch
 * the passes of one node of each stage are useful: of the node that takes the optimizer's step with
 * them in its gradients, or, where no other node has done them again, of one that has crashed with
 * its part already in the sum. What a crash, a restart or a second pass throws away is wasted, and
 * so is the started part of a pass in which a node crashes.
 *
 * Recoveries. A node that crashes has, since its last step, begun some microbatches. Each is
 * recovered when another node of its stage begins to work on it; that takes from the crash until
 * then, so the time until others notice is in it.
 */
#ifndef GWTF_WORKER_SIMULATION_MEASURE_H
#define GWTF_WORKER_SIMULATION_MEASURE_H

#include "worker/simulation/simulation.h"

struct measure;

struct measure_totals {
    double compute_seconds; /* of microbatches, in training */
    double useful_seconds;
    double crashed_seconds; /* of what is not useful: done by nodes that crashed */
    uint64_t completed;     /* microbatches of reported iterations in their data node's step */
    uint32_t crashes;
    const int64_t *recoveries_us; /* sorted; the measure's memory */
    size_t recoveries;
};

/* NODES as in the simulation's configuration, MICROBATCHES per data node at most; data nodes come
 * first and have the ids 0, 1, ... NULL: no memory. */
struct measure *measure_create(const struct gwtf_simulation_node *nodes, size_t nodes_count,
                               uint32_t stages, uint32_t microbatches);
void measure_destroy(struct measure *measure); /* NULL is allowed */

/* False: no memory. */
bool measure_note(struct measure *measure, const struct gwtf_simulation_notice *notice);

/* When the run is over, with REPORTED the last iteration that was reported. */
struct measure_totals measure_get_totals(struct measure *measure, uint32_t reported);

#endif
