/*
 * Which node of a run goes to which host of a job: replicas of one stage to different hosts, so
 * that the loss of a host leaves each stage another, and data nodes to the job's first component,
 * whose file system has the data. Pure.
 */
#ifndef GWTF_WORKER_RUNTIME_SPREAD_H
#define GWTF_WORKER_RUNTIME_SPREAD_H

#include "io/allocation.h"
#include "worker/runtime/setup.h"

/*
 * Gives each of COUNT placements that names no host one of ALLOCATION's, which outlives them; those
 * that name one keep it. In this order: on a host that holds no replica of the stage, or the
 * fewest; that has a slot left; in a component with the fewest replicas of the stage; that has the
 * most slots left for each one that it has. Nothing happens without an allocation. Errors:
 * GWTF_ERROR_USAGE when a node names a host that the job does not have; GWTF_ERROR_MEMORY.
 */
gwtf_status gwtf_spread(const struct gwtf_allocation *allocation, struct gwtf_placement *placements,
                        uint32_t count, struct gwtf_error *error);

/* True when WISHED and NAME are one host: "node7" and "node7.cluster" are. */
bool gwtf_spread_same_host(const char *wished, const char *name);

#endif
