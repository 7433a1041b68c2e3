/* The hosts that a configuration names, as mpirun wants to be told of them. */
#ifndef GWTF_LAUNCHER_HOSTS_H
#define GWTF_LAUNCHER_HOSTS_H

#include "io/config.h"
#include "launcher/mpirun.h"

#include <stdbool.h>

/* HOST is this machine, or no host is named. */
bool gwtf_hosts_is_here(const char *host);

/* Every worker runs on this machine. */
bool gwtf_hosts_all_here(const struct gwtf_config *config);

/*
 * "a:2,b:4": this machine first, where the bootstrap runs, then each host with as many slots as it
 * gets workers. NULL when mpirun knows of hosts without being told, from a resource manager or a
 * host file, or when all workers are here. Lives until the next call.
 */
const char *gwtf_hosts_list(const struct gwtf_config *config);

/*
 * Before a restart: workers of hosts that mpirun does not reach any more are to run on those that
 * it does, on each time the one with the fewest. TEXT says which went where; "": all were reached.
 * False when none is left but unreached ones: CONFIG is as it was.
 */
bool gwtf_hosts_move(struct gwtf_config *config, const struct gwtf_mpirun *mpirun, char *text,
                     size_t text_bytes);

#endif
