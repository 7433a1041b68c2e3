/* The tables: neighbours, data nodes, slots. No messages are sent here. */
#ifndef GWTF_FLOW_TABLE_H
#define GWTF_FLOW_TABLE_H

#include "flow/state.h"

/* The tables of peers and data nodes, of the sizes that the configuration names. False: no memory;
 * flow_table_destroy frees. */
bool flow_table_create(gwtf_flow *flow);
void flow_table_destroy(gwtf_flow *flow);

/* An entry for ID, which has none; NULL: the table is full. The caller fills it. */
struct flow_peer *flow_add_peer(gwtf_flow *flow, gwtf_node_id id);
void flow_remove_peer(gwtf_flow *flow, struct flow_peer *peer);
/* NULL when there is none. */
struct flow_peer *flow_find_peer(const gwtf_flow *flow, gwtf_node_id id);

/* Does PEER send flows to this node, take flows from it? With one stage, both. */
static inline bool flow_is_previous(const gwtf_flow *flow, const struct flow_peer *peer) {
    return peer->stage == (flow->config.stage == 0 ? flow->config.stages : flow->config.stage - 1);
}
static inline bool flow_is_next(const gwtf_flow *flow, const struct flow_peer *peer) {
    return peer->stage == (flow->config.stage == flow->config.stages ? 0 : flow->config.stage + 1);
}
/* Nodes of STAGE are of use to this policy: those of the previous and the next stage, and what it
 * asks for besides. */
bool flow_is_neighbouring(const gwtf_flow *flow, uint32_t stage);
/* A next hop that can be asked: a link whose cost is known, and a connection. */
static inline bool flow_is_usable(const gwtf_flow *flow, const struct flow_peer *peer) {
    return flow_is_next(flow, peer) && peer->id != GWTF_NODE_NONE && peer->peer_session != 0 &&
           peer->link_us != FLOW_COST_NONE;
}

/* Mean cost of the links to usable next hops; 0 without any. */
int64_t flow_mean_link(const gwtf_flow *flow);

/* The index of data node ID; a new one is entered. sinks_max when the table is full. */
uint32_t flow_sink_index(gwtf_flow *flow, gwtf_node_id id);

/* Was used, is used: an end that is asked or held. */
static inline bool flow_end_is_live(const struct flow_end *end) {
    return end->state == FLOW_END_ASKED || end->state == FLOW_END_HELD;
}
/* Part of a search. */
bool flow_slot_is_locked(const struct flow_slot *slot);
bool flow_slot_is_reserved(const struct flow_slot *slot);
/* Both neighbours, as far as the role has them. */
bool flow_slot_is_complete(const struct flow_slot *slot);

/* Slots of ROLE that are reserved. */
uint32_t flow_reserved(const gwtf_flow *flow, enum flow_role role);
/* A free slot of ROLE, when capacity is left; else NULL. The caller fills it. */
struct flow_slot *flow_take_slot(gwtf_flow *flow, enum flow_role role);

/* The slot of which this end is shared with PEER under ID and is asked or held, or NULL. */
struct flow_slot *flow_find_in(const gwtf_flow *flow, gwtf_node_id peer, gwtf_flow_id id);
struct flow_slot *flow_find_out(const gwtf_flow *flow, gwtf_node_id peer, gwtf_flow_id id);

/* From this node to the sink along the slot; FLOW_COST_NONE without outflow. */
int64_t flow_slot_cost(const struct flow_slot *slot);

gwtf_time_us flow_earlier(gwtf_time_us a, gwtf_time_us b);

/* An id that was not given before. */
gwtf_flow_id flow_new_id(gwtf_flow *flow);

#endif
