/*
 * Policy gwtf: potentials over the residual graph, kept by neighbours alone.
 *
 * Every node has, for each sink, an inner vertex (in) and an outer one (out). Arcs: from out to the
 * next stage's in at the hop's cost; back, at minus that cost, along every flow that could be taken
 * back; in to out over unused capacity and out to in over used, for nothing; at a data node in to
 * out for -FLOW_WORTH_US while it could take one more flow. All potentials start at 0 and are only
 * ever lowered, by asynchronous relaxation (Bellman and Ford): value(head) <= value(tail) + cost.
 * They come to rest if and only if the graph has no negative cycle; the flow then is of least cost
 * for its sink, given what the others hold, and no further flow fits in. While there is a negative
 * cycle, the arcs by which vertices got their values close to it: flow/cycle.h follows them. That a
 * potential is lower than a shortest path does no harm, so nothing is told when arcs vanish. Nor is
 * what the receiver's own potential, as far as it is known, makes useless; who is told something
 * useless answers with its own, in place of a bare acknowledgement.
 *
 * A potential carries the nodes that it has passed (its trail): where it comes to a node for the
 * second time, there probably is a negative cycle.
 *
 * The flows of a whole network hang together: that of least cost is another one when a node far
 * away is lost, and nobody can rule that out without asking everybody. So what has come to rest
 * once hears of a change at once only near where it happened, and as far as there is much to be
 * gained by it; what is left spreads slowly, when all that is near is settled, so that most nodes
 * hear of it once. That one more flow may be possible is told to all at once.
 */
#ifndef GWTF_FLOW_POTENTIAL_H
#define GWTF_FLOW_POTENTIAL_H

#include "flow/state.h"

/* The flow table is being filled or repaired: potentials wait for a tick. */
void flow_note_unrest(gwtf_flow *flow);

/* A flow or a link has changed: neighbours may have to hear of potentials again. */
void flow_schedule_tell(gwtf_flow *flow);

/* Lowers this node's potentials by what is known, forgets arcs that are gone: ALL, or those that
 * peers have spoken of. */
void flow_relax(gwtf_flow *flow, bool all);

/* What is told is rounded at first: the coarse differences, which matter most, are settled with few
 * messages before the fine ones. Makes the grain finer when there has been no news for a while. */
void flow_refine(gwtf_flow *flow);
/* Tells neighbours what has changed, as far as queues have room. */
void flow_tell_potentials(gwtf_flow *flow);

/* POTENTIAL_DOWN or POTENTIAL_UP from PEER. */
void flow_take_potential(gwtf_flow *flow, struct flow_peer *peer,
                         const struct gwtf_flow_message *message);

/* A slot to SINK whose outflow goes to PEER and is held by no search, or NULL. */
struct flow_slot *flow_find_outflow(const gwtf_flow *flow, uint32_t sink, gwtf_node_id peer);

/* Capacity that one more flow to SINK could use. */
bool flow_has_spare(const gwtf_flow *flow, uint32_t sink);

gwtf_time_us flow_potential_deadline(const gwtf_flow *flow);

#endif
