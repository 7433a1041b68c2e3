/*
 * A topology: regions, and the latency and bandwidth between any two of them. Read from libconfig:
 *
 *     topology = {
 *       regions = [ "Oregon", "Tokyo" ];
 *       within_region = { latency_ms = 0.1; bandwidth_mbit = 10000; };
 *       links = (
 *         { between = [ "Oregon", "Tokyo" ]; latency_ms = 96.0; bandwidth_mbit = 523.0; },
 *         { between = [ "Tokyo", "Tokyo" ]; latency_ms = 10; bandwidth_mbit = 2000; }
 *       );
 *     };
 *
 * Latencies are one way, bandwidths those of each direction. Every pair of two regions needs its
 * link; a region with itself has the figures of within_region unless it has a link of its own.
 */
#ifndef GWTF_IO_TOPOLOGY_H
#define GWTF_IO_TOPOLOGY_H

#include "share/base/status.h"

#include <stdint.h>

#define GWTF_TOPOLOGY_REGIONS_MAX 1024
#define GWTF_TOPOLOGY_LATENCY_MS_MAX 1e6
#define GWTF_TOPOLOGY_BANDWIDTH_MBIT_MAX 1e9

struct gwtf_topology_link {
    int64_t latency_us;       /* one way, 0 or more */
    int64_t bytes_per_second; /* at least 1 */
};

typedef struct gwtf_topology gwtf_topology;

/*
 * Reads PATH; *TOPOLOGY is the caller's to destroy. Errors: GWTF_ERROR_USAGE with one line
 * "FILE:LINE: what is wrong: what to do", the nearest known key or region in it, also for a file
 * that cannot be read; GWTF_ERROR_MEMORY. *TOPOLOGY is untouched then.
 */
gwtf_status gwtf_topology_load(const char *path, gwtf_topology **topology,
                               struct gwtf_error *error);

/* The same from text; NAME stands in messages for the file. */
gwtf_status gwtf_topology_parse(const char *text, const char *name, gwtf_topology **topology,
                                struct gwtf_error *error);

void gwtf_topology_destroy(gwtf_topology *topology); /* NULL is allowed */

/* Regions in the order of the file: 0..count-1. */
uint32_t gwtf_topology_regions_count(const gwtf_topology *topology);
const char *gwtf_topology_region_name(const gwtf_topology *topology, uint32_t region);

/* Errors: GWTF_ERROR_USAGE with "unknown region 'Tokio': did you mean 'Tokyo'?", without a place,
 * which the caller knows; *REGION is untouched then. */
gwtf_status gwtf_topology_find(const gwtf_topology *topology, const char *name, uint32_t *region,
                               struct gwtf_error *error);

/* FROM and TO below the count; they may be the same. */
struct gwtf_topology_link gwtf_topology_link_between(const gwtf_topology *topology, uint32_t from,
                                                     uint32_t to);

#endif
