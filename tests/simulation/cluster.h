/* Clusters for simulation tests: even ones, and random ones by seed. */
#ifndef GWTF_TESTS_SIMULATION_CLUSTER_H
#define GWTF_TESTS_SIMULATION_CLUSTER_H

#include "worker/simulation/simulation.h"

#define CLUSTER_NODES_MAX 1100
#define CLUSTER_ANY_END ((gwtf_status)-1)

struct cluster {
    struct gwtf_simulation_node nodes[CLUSTER_NODES_MAX];
    struct gwtf_simulation_config config;
    /* Links: the latency between two nodes is from latency_us up to latency_spread_us more, and the
     * bandwidth from bytes_per_second down to the given share less, both fixed by seed and pair. */
    int64_t latency_us;
    int64_t latency_spread_us;
    int64_t bytes_per_second;
    double bandwidth_spread;
};

/*
 * DATA_NODES data nodes and REPLICAS relays in each of STAGES stages, all alike: 10 ms a forward
 * pass, 20 ms a backward one, the data node's share a tenth of it; links of 1 ms and 1 GB/s; two
 * iterations of four microbatches; 1 MB a boundary tensor. The caller changes what it wants to.
 */
void cluster_init(struct cluster *cluster, uint32_t data_nodes, uint32_t stages, uint32_t replicas,
                  uint32_t capacity);

/* Anything that a fault-free run allows, from SEED. */
void cluster_init_random(struct cluster *cluster, uint64_t seed);

/* Creates the simulation. NULL: it could not be. */
gwtf_simulation *cluster_start(struct cluster *cluster);

/* Runs to the end; false, with a line on stderr that has SEED, when a promise was broken or a node
 * did not finish with STATUS; with CLUSTER_ANY_END: when the nodes ended differently. */
bool cluster_run(const struct cluster *cluster, gwtf_simulation *simulation, gwtf_status status,
                 uint64_t seed);

#endif
