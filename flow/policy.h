/*
 * What one policy does: a table of operations over what all of them share, which is the connection
 * to each peer (flow/link.h) and the tables of peers, data nodes and slots (flow/table.h). Each
 * policy lies in a file of its own and names what it uses of the pieces in between: the request
 * flow, offers and repair. To add one: its file, the enum in flow/flow.h, its row in
 * flow/policy.c.
 */
#ifndef GWTF_FLOW_POLICY_H
#define GWTF_FLOW_POLICY_H

#include "flow/state.h"

/* Operations that may be NULL say so. */
struct flow_policy {
    /* See gwtf_flow_repeats_pipeline. */
    bool repeats_pipeline;
    /* Relays meet the nodes of their own stage too, though no flow goes to them. */
    bool meets_replicas;

    /* It works with a part of each neighbouring stage: flow/view.h. */
    bool keeps_view;
    /* May be NULL. Is anything but flows shared with PEER, so that it must not be let go? */
    bool (*shares)(const gwtf_flow *flow, const struct flow_peer *peer);

    /* May be NULL. The policy's own memory, when the tables are there; false: none is left.
     * DESTROY frees it, also when CREATE has failed. */
    bool (*create)(gwtf_flow *flow);
    void (*destroy)(gwtf_flow *flow);

    /* May be NULL. PEER is there, or has been announced again. */
    void (*meet)(gwtf_flow *flow, struct flow_peer *peer);
    /* May be NULL. GWTF_FLOW_EVENT_FEEDBACK about PEER. */
    void (*take_feedback)(gwtf_flow *flow, struct flow_peer *peer,
                          const struct gwtf_flow_event *event);
    /* May be NULL: GWTF_FLOW_EVENT_ASSIGN is refused. */
    gwtf_status (*take_assignment)(gwtf_flow *flow, const struct gwtf_flow_event *event);

    /* Neighbours, links or capacity are not what they were, or are about to change. */
    void (*note_news)(gwtf_flow *flow);
    /* PEER is gone or has begun anew: nothing is shared with it any longer. */
    void (*lose_peer)(gwtf_flow *flow, const struct flow_peer *peer);
    /* The link to PEER costs LINK_US from now on; FLOW_COST_NONE: it is cut. */
    void (*take_link)(gwtf_flow *flow, struct flow_peer *peer, int64_t link_us);
    /* flow->capacity has been set: brings what is reserved down to it. */
    void (*take_capacity)(gwtf_flow *flow);
    /* May be NULL: all. What a message of KIND can change for advance: bits of flow_stir. */
    unsigned (*get_stir)(uint32_t kind);
    /* A message of any kind below FLOW_MESSAGE_KINDS, once and in order. */
    void (*take_message)(gwtf_flow *flow, struct flow_peer *peer,
                         const struct gwtf_flow_message *message);
    /* After every event that may matter to it, and at its deadline: all that is due now, as far as
     * queues have room. */
    void (*advance)(gwtf_flow *flow);
    /* When there is something to do without an event; GWTF_TIME_NEVER. */
    gwtf_time_us (*get_deadline)(const gwtf_flow *flow);

    /* As flow/flow.h says. flow/query.h reads them from the slots. */
    size_t (*get_routes)(const gwtf_flow *flow, struct gwtf_flow_route *routes, size_t routes_max);
    gwtf_node_id (*get_next)(const gwtf_flow *flow, gwtf_flow_id flow_id, gwtf_flow_id *next_id);
    size_t (*get_alternatives)(const gwtf_flow *flow, gwtf_node_id sink, gwtf_node_id *hops,
                               size_t hops_max);

    /* May be NULL: never. As gwtf_flow_is_busy. */
    bool (*is_busy)(const gwtf_flow *flow);

    /* May be NULL. The policy's part of the checker: a constant text, or NULL. */
    const char *(*find_fault)(const gwtf_flow *flow);

    /* For flow/repair.h: how long a flow that lost its next hop looks for another before it is
     * pushed back; how long an outflow without inflow is kept, and what is then done with it. 0:
     * for ever. */
    int64_t repair_ticks;
    int64_t idle_ticks;
    /* What is given up for want of a neighbour is given up by all of its nodes at once. */
    bool gives_up_whole;
    void (*release)(gwtf_flow *flow, struct flow_slot *slot);
    /* May be NULL. A flow was made, moved or lost. */
    void (*note_change)(gwtf_flow *flow);
    /* May be NULL. For flow/advertise.h: what is offered beside outflows without inflow. */
    void (*add_offer)(const gwtf_flow *flow, uint32_t sink, struct flow_offer *offer);
    /* May be NULL. For flow/request.h: a request that no outflow is there for. True: it is taken,
     * and answered later. */
    bool (*take_on)(gwtf_flow *flow, struct flow_peer *peer, uint32_t sink,
                    const struct gwtf_flow_message *message);
};

const struct flow_policy *flow_find_policy(enum gwtf_flow_policy policy);

/* The policy's note_change, where it has one. */
void flow_note_change(gwtf_flow *flow);

/* Messages of the request flow, of offers and of repair. False: this is none. */
bool flow_take_shared(gwtf_flow *flow, struct flow_peer *peer,
                      const struct gwtf_flow_message *message);

/* Each in its own file. */
extern const struct flow_policy flow_policy_gwtf;
extern const struct flow_policy flow_policy_paper;
extern const struct flow_policy flow_policy_swarm;
extern const struct flow_policy flow_policy_swarm_greedy;
extern const struct flow_policy flow_policy_static;

#endif
