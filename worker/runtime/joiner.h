/* A process that joins a run: it asks for a place in RUN/join (io/join.h), and connects to every
 * node that lives. */
#ifndef GWTF_WORKER_RUNTIME_JOINER_H
#define GWTF_WORKER_RUNTIME_JOINER_H

#include "io/config.h"
#include "share/base/status.h"
#include "worker/runtime/charter.h"

#include <mpi.h>

#define GWTF_JOINER_NO_DATA "-" /* for a word that an empty one would get lost as */

struct gwtf_joiner_options {
    const char *directory; /* of the run */
    uint32_t stage;    /* wished for, or GWTF_JOIN_DATA_NODE; 0: the one that needs a node most */
    bool stays;        /* no other will do */
    uint32_t capacity; /* 0: from free memory */
    uint32_t threads;  /* 0: all cores */
    const char *token; /* under which it asks */
    const char *data;  /* of a data node's own; GWTF_JOINER_NO_DATA: none */
    enum gwtf_config_node_device device;
};

/* A file or files as in data.train; "": none. */
const char *gwtf_joiner_own_data(const struct gwtf_joiner_options *options);

/*
 * Says on the log how it goes. CHARTER is this node's then, and WORLDS, by node, what reaches each
 * of the others (rank 0; MPI_COMM_NULL: it does not live): the caller's, with gwtf_charter_deinit
 * and free. MPI must have been initialised. Errors, with the line for the user: GWTF_ERROR_MISSING
 * (no such run, or it lets nobody join), GWTF_ERROR_USAGE (no place), GWTF_ERROR_LINK (a node
 * cannot be reached: which, and what to open), GWTF_ERROR_MEMORY.
 */
gwtf_status gwtf_joiner_enter(const struct gwtf_joiner_options *options,
                              struct gwtf_charter *charter, MPI_Comm **worlds,
                              struct gwtf_error *error);

#endif
