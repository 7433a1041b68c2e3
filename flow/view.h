/*
 * Partial views: of each neighbouring stage a node keeps at most so many peers, those with the best
 * links. Its view is config.view nodes; a data node's is one for each flow that it can have, if
 * that is more; and every data node that there can be fits. A node beyond the view takes the place
 * of the peer with the dearest link with which nothing is shared, when its own link is better. Who
 * is let go, or not taken, is told so when it speaks (FORGET), so that neither goes on for ever.
 *
 * Gossip, where the driver takes introductions: who hears of a node for the first time tells some
 * others, several ids in a message, a few messages in a tick: ids of the own stage go to the
 * neighbouring ones, ids of these to the own stage. What was heard once is never passed on again (a
 * Bloom filter remembers it), so that gossip dies out when nothing is new, and in a network of tens
 * of thousands of nodes a stage when the filter is full.
 */
#ifndef GWTF_FLOW_VIEW_H
#define GWTF_FLOW_VIEW_H

#include "flow/state.h"

/* Peers that CONFIG, with its defaults, has room for. */
uint32_t flow_view_size(const struct gwtf_flow_config *config);

bool flow_view_create(gwtf_flow *flow);
void flow_view_destroy(gwtf_flow *flow);

/* Has the view of STAGE room for one more? */
bool flow_view_has_room(const gwtf_flow *flow, uint32_t stage);

/* NODE of STAGE can be reached, but there is no room, or its link is not good enough. */
void flow_view_decline(gwtf_flow *flow, gwtf_node_id node, uint32_t stage);
/* The stage of a node that was declined, or FLOW_INDEX_NONE. */
uint32_t flow_view_declined_stage(const gwtf_flow *flow, gwtf_node_id node);
/* There is room for one more of STAGE: the one that was declined last is asked for. */
void flow_view_ask_again(gwtf_flow *flow, uint32_t stage);
/* NODE is gone, or a peer. */
void flow_view_undecline(gwtf_flow *flow, gwtf_node_id node);
/* The peer of STAGE that gives way to a node with a link of LINK_US, or NULL. */
struct flow_peer *flow_view_worst(const gwtf_flow *flow, uint32_t stage, int64_t link_us);

/* What a node that is no peer here calls its connection SESSION is unknown here. */
void flow_view_forget(gwtf_flow *flow, gwtf_node_id node, uint32_t session);

/* NODE of STAGE was met. */
void flow_view_note(gwtf_flow *flow, gwtf_node_id node, uint32_t stage);
void flow_view_take_gossip(gwtf_flow *flow, const struct gwtf_flow_message *message);

/* FORGET, gossip and introductions that are due to UPDATE, as far as they fit. */
void flow_view_emit(gwtf_flow *flow, struct gwtf_flow_update *update);
gwtf_time_us flow_view_deadline(const gwtf_flow *flow);

#endif
