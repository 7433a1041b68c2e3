/* The hosts that a configuration names, as mpirun wants to be told of them. */
#ifndef GWTF_LAUNCHER_HOSTS_H
#define GWTF_LAUNCHER_HOSTS_H

#include "io/config.h"

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

#endif
