/*
 * Nodes that come to a scenario's run later, move and go: places and moves by the code that the
 * real recorder uses (worker/protocol/place.h). A place belongs to a stage, and who may come to any
 * stage has one in each, of which it uses one at a time. Private to this folder.
 */
#ifndef GWTF_WORKER_SIMULATION_ARRIVALS_H
#define GWTF_WORKER_SIMULATION_ARRIVALS_H

#include "io/scenario.h"
#include "worker/simulation/simulation.h"

struct arrivals;

struct arrivals_totals {
    uint32_t joined; /* were given a place */
    uint32_t moved;  /* moves, from stage to stage */
    uint32_t left;   /* were told to, and did */
};

/* How many places SCENARIO needs beside its first nodes, and what they are. */
uint32_t arrivals_count(const struct gwtf_scenario *scenario);
void arrivals_fill(const struct gwtf_scenario *scenario, struct gwtf_scenario_place *places);

/* NODES: all, in PLACES, of which those from FIRST on are of arrivals_fill. SCENARIO and PLACES
 * outlive it. NULL: no memory. */
struct arrivals *arrivals_create(const struct gwtf_scenario *scenario,
                                 const struct gwtf_scenario_place *places, uint32_t first,
                                 uint32_t nodes);
void arrivals_destroy(struct arrivals *arrivals); /* NULL is allowed */

/* False: no memory. */
bool arrivals_begin_iteration(struct arrivals *arrivals, gwtf_simulation *simulation,
                              uint32_t iteration, gwtf_time_us now_us);
bool arrivals_note_report(struct arrivals *arrivals, gwtf_simulation *simulation,
                          const struct gwtf_report *report, gwtf_time_us now_us);

struct arrivals_totals arrivals_get_totals(const struct arrivals *arrivals);

#endif
