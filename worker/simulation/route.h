/*
 * The flow algorithm alone, in virtual time: every node of an instance runs flow/flow.h, without
 * training. Links lose, double and delay messages; nodes die and come; links change, are cut and
 * heal. Built for 10,000 nodes and tens of millions of messages.
 *
 * A round is a tick of the nodes (config.tick_us), whose phases are random; a message takes a
 * fortieth of it. Nodes know each other in part: at the start each is introduced to `view` random
 * nodes of each neighbouring stage. An introduction is a measurement of the link: one round trip,
 * counted as two messages, after which both nodes know the other and the cost of their own
 * direction.
 *
 * After each step of a node it is looked at: the node's own checker, its load against its capacity,
 * every hop's stages and sink. What breaks a promise ends the run: see gwtf_route_failure.
 *
 * The same instance, configuration and seed give the same trace.
 */
#ifndef GWTF_WORKER_SIMULATION_ROUTE_H
#define GWTF_WORKER_SIMULATION_ROUTE_H

#include "flow/flow.h"
#include "flow/instance.h"
#include "flow/optimal.h"

#define GWTF_ROUTE_TICK_US 200000
#define GWTF_ROUTE_MESSAGE_US (GWTF_ROUTE_TICK_US / 40)
/* Settled: no flow table has changed for so many rounds and no flow hangs in the air; or, with such
 * a flow, for so many. */
#define GWTF_ROUTE_QUIET_ROUNDS 5
#define GWTF_ROUTE_DANGLING_ROUNDS 40

struct gwtf_route_config {
    enum gwtf_flow_policy policy;
    enum gwtf_flow_objective objective;
    uint64_t seed;
    double loss;     /* probability per message */
    double doubling; /* that it comes twice */
    double delay;    /* that it takes up to 20 message times more */
    uint32_t view;   /* of each neighbouring stage; 0: everybody */
    /* Nodes do not tell each other of nodes, and know any number. */
    bool silent;
    /* Every so many steps the whole-state checker of the stepped node; 0: by size, in up to 500
     * nodes each step of those with a capacity of up to 32. */
    uint32_t check_every;
    /* After a change of NODE's flow table. May be NULL. */
    void (*changed)(void *context, gwtf_time_us now_us, gwtf_node_id node, const gwtf_flow *flow);
    void *context;
};

enum gwtf_route_change_kind {
    GWTF_ROUTE_KILL,   /* node: gone; each neighbour notices it within a round */
    GWTF_ROUTE_REVIVE, /* node: comes, or comes back, with a fresh state */
    GWTF_ROUTE_LINK,   /* node, peer, cost: the hop between them; GWTF_FLOW_NO_LINK: cut */
    GWTF_ROUTE_HEAR    /* node hears of peer, of a neighbouring stage or its own: introduction */
};
struct gwtf_route_change {
    enum gwtf_route_change_kind kind;
    double round;
    gwtf_node_id node, peer;
    int32_t cost;
};

struct gwtf_route_totals {
    double round; /* now */
    bool settled;
    /* Of the last change of a flow table, and the messages until then; and since then. */
    double rounds;
    uint64_t messages;
    uint64_t messages_after;
    uint64_t bytes; /* of `messages` */
    /* The same since the last of the changes that were asked for. */
    double rounds_since;
    uint64_t messages_since;
    /* Complete flows: each passes one relay of each stage and comes back to its data node. */
    uint32_t flow;
    int64_t cost;
    int64_t max_path;
    uint32_t dangling; /* hops that are part of none */
    uint64_t table_changes;
    uint64_t steps;
    uint64_t trace; /* hash over all messages in their order */
};

typedef struct gwtf_route gwtf_route;

/* INSTANCE is copied. Errors: GWTF_ERROR_USAGE (a probability outside 0..1, a policy that there is
 * not), GWTF_ERROR_MEMORY; ROUTE untouched. */
gwtf_status gwtf_route_create(const gwtf_flow_instance *instance,
                              const struct gwtf_route_config *config, gwtf_route **route);
void gwtf_route_destroy(gwtf_route *route); /* NULL is allowed */

/* Errors: GWTF_ERROR_USAGE for a node that there is not, nodes that are not of neighbouring stages,
 * or a round that has gone by; GWTF_ERROR_MEMORY. */
gwtf_status gwtf_route_plan(gwtf_route *route, const struct gwtf_route_change *change);

/*
 * Runs until it is settled, after all planned changes, or until ROUND. Errors: GWTF_ERROR_RUN when
 * a promise was broken, GWTF_ERROR_MEMORY.
 */
gwtf_status gwtf_route_run(gwtf_route *route, double round);

/* What was broken, when and where; NULL when nothing was. */
const char *gwtf_route_failure(const gwtf_route *route);

bool gwtf_route_is_settled(const gwtf_route *route);

struct gwtf_route_totals gwtf_route_get_totals(const gwtf_route *route);

/* As it is now: links changed, nodes that are down with capacity 0. */
const gwtf_flow_instance *gwtf_route_instance(const gwtf_route *route);

/* NULL while NODE is down. */
const gwtf_flow *gwtf_route_node(const gwtf_route *route, gwtf_node_id node);

#endif
