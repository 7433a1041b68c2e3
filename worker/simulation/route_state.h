/* The state of a route simulation, private to it. */
#ifndef GWTF_WORKER_SIMULATION_ROUTE_STATE_H
#define GWTF_WORKER_SIMULATION_ROUTE_STATE_H

#include "share/base/random.h"
#include "worker/simulation/route.h"
#include "worker/simulation/route_queue.h"

/* Of its own stage a node meets so many others at the start. */
#define ROUTE_OWN_STAGE 4u
/* Above so many nodes not every step is checked in full. */
#define ROUTE_SMALL_NODES 500u

struct route_node {
    gwtf_flow *flow; /* NULL: down */
    bool started;
    uint32_t incarnation;
    gwtf_time_us deadline_us;
    gwtf_time_us timer_us; /* of the timer that is in the queue; GWTF_TIME_NEVER: none */
    uint32_t changes;      /* of its flow table */
    /* Who was introduced to it, met or not yet started: a bit for each node of its own stage, the
     * next and the previous one. */
    uint64_t *known;
};

struct gwtf_route {
    struct gwtf_route_config config;
    gwtf_flow_instance *instance;
    uint32_t nodes_count, stages;
    bool partial;       /* some stage has more nodes than a view, and nodes speak of each other */
    uint32_t *capacity; /* [nodes_count] of nodes that are up */
    struct route_node *nodes;
    struct route_queue queue;
    struct gwtf_random random;
    gwtf_time_us now_us;
    bool no_memory;
    char failure[256]; /* empty: none */

    struct gwtf_flow_send *sends; /* of the step under way */
    size_t sends_max;
    struct gwtf_flow_hop *hops; /* of a node that is looked at */
    size_t hops_max;
    struct gwtf_flow_route *routes;
    gwtf_node_id *met; /* whom a node knows, [nodes_count] */

    struct gwtf_flow_paths assigned; /* policy static */

    struct gwtf_route_change *planned;
    uint32_t planned_count, planned_left;

    uint64_t steps, messages, table_changes, trace;
    gwtf_time_us changed_us;
    uint64_t changed_messages; /* until then */
    gwtf_time_us planned_us;   /* the last planned change that has happened */
    uint64_t planned_messages;
    bool settled;
};

/* After a step of NODE: what must hold at any instant. */
void route_check_step(struct gwtf_route *route, gwtf_node_id node, bool changed);

/* The complete flows of all data nodes into TOTALS, and the hops that are part of none. */
void route_count_flows(const struct gwtf_route *route, struct gwtf_route_totals *totals);

#endif
