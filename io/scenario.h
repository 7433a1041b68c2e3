/*
 * A scenario: what `gwtf simulate` lets happen. Nodes in the regions of a topology, a model, and
 * what goes wrong when. Read from libconfig as a configuration is (io/config.h): unknown keys and
 * wrong values are errors with file, line and the nearest known key; `--set path=value` overrides.
 *
 * Nodes have ids as in training: 0, 1, ... the data nodes in the order of `nodes`, then the relays.
 */
#ifndef GWTF_IO_SCENARIO_H
#define GWTF_IO_SCENARIO_H

#include "io/config.h"
#include "io/topology.h"

#define GWTF_SCENARIO_NODES_MAX 1024  /* entries of `nodes`, each with a count */
#define GWTF_SCENARIO_EVENTS_MAX 4096 /* entries of `crashes` and of `link_faults` */

/* Of an iteration: when a node crashes. ANY: drawn. */
enum gwtf_scenario_phase {
    GWTF_SCENARIO_PHASE_ANY,
    GWTF_SCENARIO_PHASE_FORWARD,
    GWTF_SCENARIO_PHASE_BACKWARD,
    GWTF_SCENARIO_PHASE_AGGREGATION
};
enum gwtf_scenario_link_fault_kind { GWTF_SCENARIO_LINK_SLOW, GWTF_SCENARIO_LINK_CUT };

#define GWTF_SCENARIO_ALL_PEERS UINT32_MAX

struct gwtf_scenario_nodes {
    enum gwtf_config_role role;
    char region[GWTF_CONFIG_PATH_MAX];
    uint32_t region_index; /* of the topology */
    uint32_t count;
    uint32_t stage;     /* relays: 1..stages, 0: spread evenly */
    double speed;       /* FLOP/s that training reaches, above 0 */
    double memory_gb;   /* 10^9 bytes for training; 0: not given, capacity is */
    double memory_rate; /* bytes per second that memory moves */
    uint32_t capacity;  /* microbatches held at one time; 0: from memory_gb */
    double uplink_mbit; /* all that the node sends leaves through this; 0: no limit */
    uint32_t joins;     /* relays: the iteration in which they come; 0: there from the start */
    uint32_t leaves;    /* relays: the iteration in which they are told to leave; 0: never */
};

struct gwtf_scenario_crash {
    uint32_t iteration;
    uint32_t node;
    enum gwtf_scenario_phase phase;
    uint32_t return_after; /* iterations; 0: never */
};

struct gwtf_scenario_link_fault {
    uint32_t iteration;
    uint32_t node;
    uint32_t peer; /* or GWTF_SCENARIO_ALL_PEERS */
    enum gwtf_scenario_link_fault_kind kind;
    double factor;       /* SLOW: bandwidth is divided, latency multiplied by it */
    uint32_t heal_after; /* iterations; 0: never */
};

struct gwtf_scenario {
    struct {
        uint64_t seed;       /* default 1 */
        uint32_t iterations; /* required */
        bool rebalance;      /* nodes that came later move between stages; default true */
    } run;
    struct {
        char topology[GWTF_CONFIG_PATH_MAX]; /* as given: relative to the scenario's folder */
    } network;
    gwtf_topology *topology; /* the one that network.topology names */
    struct {
        enum gwtf_config_preset preset;
        enum gwtf_config_family family;
        uint32_t layers;
        uint32_t width;
        uint32_t context;
        uint32_t vocabulary;
        uint32_t ffn_width; /* of llama; default: 8/3 of the width, up to a multiple of 64 */
        bool tied_head;
    } model;
    struct {
        uint32_t microbatch;   /* sequences in one */
        uint32_t microbatches; /* per data node and iteration */
        enum gwtf_config_global global;
    } batch;
    struct {
        uint32_t stages;
    } pipeline;
    struct gwtf_scenario_nodes nodes[GWTF_SCENARIO_NODES_MAX];
    size_t nodes_count;
    struct {
        enum gwtf_flow_policy policy;
        enum gwtf_flow_objective objective; /* default "sum" */
    } flow;
    struct {
        double probability; /* that a relay crashes, each iteration */
        enum gwtf_scenario_phase phase;
        uint32_t return_after; /* as of a crash */
        double notice_ms;      /* until the others know */
    } churn;
    struct {
        double probability;  /* that a node's links go bad, each iteration */
        double cut;          /* share of those that are cut, not slow */
        double factor;       /* of slow ones */
        uint32_t heal_after; /* iterations; 0: never */
    } links;
    struct gwtf_scenario_crash crashes[GWTF_SCENARIO_EVENTS_MAX];
    size_t crashes_count;
    struct gwtf_scenario_link_fault link_faults[GWTF_SCENARIO_EVENTS_MAX];
    size_t link_faults_count;
};

/*
 * Reads PATH and the topology that it names, applies OVERRIDES as gwtf_config_load does, and checks
 * both. *SCENARIO is the caller's to destroy. Errors: GWTF_ERROR_USAGE with one line for the user,
 * GWTF_ERROR_MEMORY; *SCENARIO is untouched then.
 */
gwtf_status gwtf_scenario_load(const char *path, const char *const *overrides,
                               size_t overrides_count, struct gwtf_scenario **scenario,
                               struct gwtf_error *error);

/* The same from text; NAME stands in messages for the file, and its folder is where the topology is
 * looked for. */
gwtf_status gwtf_scenario_parse(const char *text, const char *name, const char *const *overrides,
                                size_t overrides_count, struct gwtf_scenario **scenario,
                                struct gwtf_error *error);
void gwtf_scenario_destroy(struct gwtf_scenario *scenario); /* NULL is allowed */

/* Nodes of a role that are there from the start, over all entries. */
uint32_t gwtf_scenario_count(const struct gwtf_scenario *scenario, enum gwtf_config_role role);

struct gwtf_scenario_place {
    uint32_t entry; /* of `nodes` */
    uint32_t stage; /* 0: data node */
};

/* Those nodes, by id. Relays whose entry has no stage go, one after the other, where there are the
 * fewest. PLACES has room for all. */
void gwtf_scenario_place(const struct gwtf_scenario *scenario, struct gwtf_scenario_place *places);

#endif
