/* Which place a node that joins gets: that of the stage which needs one most. Pure. */
#ifndef GWTF_WORKER_RUNTIME_PLACE_H
#define GWTF_WORKER_RUNTIME_PLACE_H

#include "worker/protocol/protocol.h"

struct gwtf_place_run {
    const struct gwtf_member_view *members; /* by id */
    uint32_t members_count;
    uint32_t first_place;            /* members from this id on may be taken */
    const double *stage_utilisation; /* index 0: stage 1; 0: not known */
};

struct gwtf_place_choice {
    gwtf_node_id node; /* GWTF_NODE_NONE: there is none */
    uint32_t stage;
    uint32_t incarnation; /* that its place is in, in which it enters */
    char why[160];
};

/*
 * STAGE: wished for; 0: the one whose nodes are busiest, and of those as busy the one with the
 * fewest. Places that nobody has had come first.
 */
struct gwtf_place_choice gwtf_place_choose(const struct gwtf_place_run *run, uint32_t stage);

#endif
