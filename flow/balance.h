/*
 * Policy gwtf, objective max: the dearest flow is made cheaper at no cost to the others together.
 *
 * Flows to one data node that pass the same relay may exchange their tails there: which of them
 * comes from where does not matter to the next hops. The sum of the costs stays, and with it what
 * searches have found; the dearer of two flows gets cheaper when the one that has come the dearer
 * way goes on the cheaper one. A node knows what is left of each flow (COST, from the next hop) and
 * what it has cost so far (BEFORE, from the previous one), and no node asks another.
 *
 * Nodes that exchange the same two flows at the same time undo each other's work: each waits for a
 * random time, which grows with every exchange until flows are made or moved again.
 */
#ifndef GWTF_FLOW_BALANCE_H
#define GWTF_FLOW_BALANCE_H

#include "flow/state.h"

/* Exchanges tails when it is time to, and tells next hops what their flows have cost. */
void flow_balance(gwtf_flow *flow);
/* BEFORE from PEER. */
void flow_take_before(gwtf_flow *flow, const struct flow_peer *peer,
                      const struct gwtf_flow_message *message);
/* When it is time; GWTF_TIME_NEVER. */
gwtf_time_us flow_balance_deadline(const gwtf_flow *flow);

#endif
