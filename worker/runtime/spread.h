/*
 * Which node of a run goes to which host of a job: replicas of one stage to different hosts, so
 * that the loss of a host leaves each stage another, and data nodes to the job's first component,
 * whose file system has the data, unless they name another partition. Pure.
 */
#ifndef GWTF_WORKER_RUNTIME_SPREAD_H
#define GWTF_WORKER_RUNTIME_SPREAD_H

#include "io/allocation.h"
#include "worker/runtime/setup.h"

/*
 * Gives each of COUNT placements that names no host one of ALLOCATION's, which outlives them, in
 * the partition that it names, if any; those that name a host keep it. In this order: on a host
 * that holds no replica of the stage, or the fewest; that has a slot left; in a component with the
 * fewest replicas of the stage; that has the most slots left for each one that it has. Nothing
 * happens without an allocation. Errors: GWTF_ERROR_USAGE when a node names a host or a partition
 * that the job does not have, or both and the one is not in the other; GWTF_ERROR_MEMORY.
 */
gwtf_status gwtf_spread(const struct gwtf_allocation *allocation, struct gwtf_placement *placements,
                        uint32_t count, struct gwtf_error *error);

/* True when WISHED and NAME are one host: "node7" and "node7.cluster" are; "node7.here" and
 * "node7.there" are not. */
bool gwtf_spread_same_host(const char *wished, const char *name);

#endif
