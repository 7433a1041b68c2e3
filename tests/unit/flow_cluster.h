/*
 * Nodes of the flow algorithm in virtual time: links with latency that lose, double and delay
 * messages, nodes that die and come, and a checker that looks at every step, after
 * the first CLUSTER_CHECKED messages at one in CLUSTER_CHECK_EVERY; capacities at every one. A
 * round is a tick: 40 message times.
 */
#ifndef GWTF_TESTS_UNIT_FLOW_CLUSTER_H
#define GWTF_TESTS_UNIT_FLOW_CLUSTER_H

#include "flow/flow.h"
#include "share/base/random.h"

#define CLUSTER_NODES_MAX 512
#define CLUSTER_MESSAGE_US 1000
#define CLUSTER_CHECKED 3000
#define CLUSTER_CHECK_EVERY 16
#define CLUSTER_KINDS 64
#ifndef CLUSTER_POLICY
#define CLUSTER_POLICY GWTF_FLOW_POLICY_GWTF
#endif
#ifndef CLUSTER_OBJECTIVE
#define CLUSTER_OBJECTIVE GWTF_FLOW_OBJECTIVE_SUM
#endif
#define CLUSTER_TICK_US (40 * CLUSTER_MESSAGE_US)

struct cluster_node {
    uint32_t stage;
    uint32_t capacity;
    bool up;
    gwtf_flow *flow;
    struct gwtf_flow_send *sends;
    gwtf_time_us deadline_us;
};

struct cluster {
    /* Set before cluster_start. */
    uint64_t seed;
    enum gwtf_flow_policy policy;       /* CLUSTER_POLICY */
    enum gwtf_flow_objective objective; /* CLUSTER_OBJECTIVE */
    uint32_t stages;
    uint32_t nodes_count;
    uint32_t neighbours_max; /* 0: as many as nodes */
    double loss;             /* probability per message */
    double doubling;
    double delay; /* probability of up to 20 message times more */

    struct cluster_node nodes[CLUSTER_NODES_MAX];
    int64_t *link_us; /* [nodes_count][nodes_count]; -1: no link */

    /* What has happened. */
    gwtf_time_us now_us;
    gwtf_time_us changed_us; /* last change of any flow table */
    uint64_t messages;
    uint64_t kinds[CLUSTER_KINDS]; /* messages by enum flow_message_kind */
    uint64_t trace;                /* hash over all messages in order */
    const char *fault;
    gwtf_node_id fault_node;

    struct gwtf_random random;
    struct cluster_event *events; /* heap */
    size_t events_count;
    size_t events_max;
    uint64_t events_made;
};

/* NODES nodes with capacity 1 in no stage yet; no links. */
void cluster_init(struct cluster *cluster, uint64_t seed, uint32_t stages, uint32_t nodes);
void cluster_deinit(struct cluster *cluster);
void cluster_set_node(struct cluster *cluster, gwtf_node_id node, uint32_t stage,
                      uint32_t capacity);
/* Both directions. */
void cluster_set_link(struct cluster *cluster, gwtf_node_id a, gwtf_node_id b, int64_t link_us);
/* Links between all nodes of neighbouring stages, costs uniform in LEAST..MOST. */
void cluster_link_all(struct cluster *cluster, int64_t least_us, int64_t most_us);

/* Creates all nodes and makes them known to each other. */
void cluster_start(struct cluster *cluster);
/* Runs for so many ticks, or until a fault. */
void cluster_run(struct cluster *cluster, double ticks);
/* One event for NODE now. */
void cluster_tell(struct cluster *cluster, gwtf_node_id node, const struct gwtf_flow_event *event);
/* NODE is gone; its neighbours notice it within a tick, each at its own time. */
void cluster_kill(struct cluster *cluster, gwtf_node_id node);
/* A fresh state for NODE, which its neighbours meet at once. */
void cluster_revive(struct cluster *cluster, gwtf_node_id node);

/* Routes of DATA_NODE that lead over one relay of each stage back to it; -1 when one does not. */
int cluster_routes(const struct cluster *cluster, gwtf_node_id data_node, int64_t *cost_us);
/* The same over all data nodes. */
int cluster_flow(const struct cluster *cluster, int64_t *cost_us);
/* Least total capacity of a stage of the nodes that are up. */
int cluster_bottleneck(const struct cluster *cluster);

#endif
