/*
 * Where processes that want to join the run come in. A thread looks into RUN/join (io/join.h): the
 * recorder gives those that ask a place, one after the other; every node opens a port for who has
 * got one, and waits for it in a thread of its own, since MPI's accept waits. Who then is connected
 * is handed to the thread that drives the node, and knocks (worker/protocol/entry.c). A node that
 * was down while others joined meets them before it comes back.
 *
 * Threads: MPI must have been initialised for many; all calls from one thread.
 */
#ifndef GWTF_WORKER_RUNTIME_DOOR_H
#define GWTF_WORKER_RUNTIME_DOOR_H

#include "io/config.h"
#include "share/base/status.h"
#include "worker/protocol/protocol.h"
#include "worker/runtime/bell.h"
#include "worker/runtime/charter.h"

#include <mpi.h>
#include <stdbool.h>

struct gwtf_door_config {
    const char *directory;              /* of the run; copied */
    const struct gwtf_charter *charter; /* outlives it */
    const struct gwtf_config *run;      /* its configuration; outlives it */
    gwtf_bell *bell;                    /* rings when a guest is there; outlives it */
    const char *token;      /* this node's own, where it has joined; else NULL; copied */
    const MPI_Comm *worlds; /* by node: MPI_COMM_NULL where it is not connected; NULL:
                             * all of MPI_COMM_WORLD are. Outlives it */
};

/* What the node knows of the run, for those that ask. */
struct gwtf_door_news {
    bool is_recorder;
    const struct gwtf_member_view *members; /* charter's members_count of them; copied */
    const double *stage_busy;               /* worker/protocol/place.h; copied */
    uint32_t reported;                      /* in which iteration; 0: not yet */
    int64_t duration_us;                    /* of that */
    double mean_us;                         /* of those that stage_busy is the mean of */
    uint32_t microbatches;                  /* of that */
};

struct gwtf_door_guest {
    gwtf_node_id node;
    MPI_Comm world; /* it is rank 0 of the other side */
    char host[256];
    int64_t pid; /* 0: of another host */
};

typedef struct gwtf_door gwtf_door;

/* Errors: GWTF_ERROR_MEMORY; *DOOR untouched. */
gwtf_status gwtf_door_create(const struct gwtf_door_config *config, gwtf_door **door);

/* Ends the looking. Who waits for somebody at a port goes on waiting until the process ends. NULL
 * is allowed. */
void gwtf_door_destroy(gwtf_door *door);

void gwtf_door_tell(gwtf_door *door, const struct gwtf_door_news *news);

/* This node is down, and comes back: it is to be connected to all that have joined meanwhile. And
 * whether it is; who does not answer may be lost, too. */
void gwtf_door_call(gwtf_door *door);
bool gwtf_door_has_all(gwtf_door *door);

/* The next one that is connected; false when there is none. */
bool gwtf_door_next(gwtf_door *door, struct gwtf_door_guest *guest);

#endif
