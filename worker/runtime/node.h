/*
 * A worker's life: memory, threads and transport are made, the protocol is driven until it
 * finishes, everything is ended. The thread that calls this owns MPI.
 */
#ifndef GWTF_WORKER_RUNTIME_NODE_H
#define GWTF_WORKER_RUNTIME_NODE_H

#include "io/config.h"
#include "share/base/status.h"
#include "worker/runtime/charter.h"

#include <mpi.h>

struct gwtf_node_options {
    const struct gwtf_charter *charter;
    const char *host;
    const MPI_Comm *worlds; /* of a node that joins: what reaches each of the others
                               (worker/runtime/joiner.h); NULL: all are of MPI_COMM_WORLD */
    const char *token;      /* under which it has joined; NULL: it was spawned with the run */
    const char *own_data;   /* of a data node that joins: what it trains on; NULL: the run's */
    enum gwtf_config_node_device device; /* of a node that joins */
};

/*
 * Lives the life that the charter describes. Writes the node's state file at the start, now and
 * then, and at the end, with the reason when it fails. Returns GWTF_OK, GWTF_ERROR_INTERRUPTED
 * (stopped as asked), or what ended it, with the line.
 */
gwtf_status gwtf_node_live(const struct gwtf_node_options *options, struct gwtf_error *error);

#endif
