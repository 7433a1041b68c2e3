/*
 * The emulated network (network.emulate, link_faults) as one node sees it: what its links to the
 * others are like now, and what becomes of them as training goes on. Every node works that out for
 * its own end. Pure, but for reading the topology's file.
 */
#ifndef GWTF_WORKER_RUNTIME_NETWORK_H
#define GWTF_WORKER_RUNTIME_NETWORK_H

#include "worker/runtime/setup.h"
#include "worker/runtime/shaper.h"

#define GWTF_NETWORK_TEXT_MAX 256

typedef struct gwtf_network gwtf_network;

/*
 * The text of the topology that SETUP's configuration names, held against its nodes and faults;
 * NULL when no network is emulated. *TEXT is the caller's to free. Errors: GWTF_ERROR_USAGE with
 * the line for the user, GWTF_ERROR_MEMORY.
 */
gwtf_status gwtf_network_read(const struct gwtf_setup *setup, char **text,
                              struct gwtf_error *error);

/* The links of node SELF in the topology of TEXT; SETUP outlives it. Errors as above. */
gwtf_status gwtf_network_create(const struct gwtf_setup *setup, const char *text, gwtf_node_id self,
                                gwtf_network **network, struct gwtf_error *error);
void gwtf_network_destroy(gwtf_network *network); /* NULL is allowed */

/* To each node of the run, by id; lives as long as the network. */
const struct gwtf_shaper_link *gwtf_network_links(const gwtf_network *network);

/*
 * True when a fault begins or has healed by now: the links have changed, and TEXT says how. Call
 * it again until it is false. ITERATION: that is being trained; TRAINED_US: since training began.
 */
bool gwtf_network_change(gwtf_network *network, uint32_t iteration, int64_t trained_us,
                         char text[GWTF_NETWORK_TEXT_MAX]);

#endif
