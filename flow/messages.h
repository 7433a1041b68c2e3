/*
 * What nodes say to each other about flows. Every message carries the connection's four numbers
 * (flow/link.c); the other fields by kind. An "offer" is what a node can take at this moment: the
 * cost from it to the sink of the next flow that it would accept, and how many it would accept.
 */
#ifndef GWTF_FLOW_MESSAGES_H
#define GWTF_FLOW_MESSAGES_H

#include <stdint.h>

enum flow_message_kind {
    /* The four numbers alone: opens a connection, or acknowledges. */
    FLOW_MESSAGE_BARE,
    /* To the previous stage. sink; cost_us: the offer's cost, count: how many; other_cost_us:
     * least cost from here to the sink if nothing were full. */
    FLOW_MESSAGE_ADVERTISE,
    /* To the next stage: take my flow FLOW to SINK for cost_us. limit: 1 when that is to mend it.
     */
    FLOW_MESSAGE_REQUEST,
    /* Answer: FLOW is taken at cost_us. other_cost_us, count: the offer that is left. */
    FLOW_MESSAGE_ACCEPT,
    /* Answer: FLOW is not taken. cost_us, count: the offer that there is. */
    FLOW_MESSAGE_REJECT,
    /* FLOW is given up, by its sender or its receiver. limit: 1 when all of it is. */
    FLOW_MESSAGE_CANCEL,
    /* To the previous stage: FLOW now costs cost_us from here to the sink. */
    FLOW_MESSAGE_COST,
    /* To the next stage: of the flows between us, `count` go from me to you; FLOW combines their
       ids. */
    FLOW_MESSAGE_COMPARE,
    /* Answer to a COMPARE that differs from what the receiver holds: verify yours. */
    FLOW_MESSAGE_DIFFERS,
    /* I hold FLOW with you; answered by CANCEL when the receiver does not. */
    FLOW_MESSAGE_VERIFY,
    /* Policy gwtf, see flow/potential.h. To the next stage: the potential of your inner half is at
     * most other_cost_us for SINK. To the previous stage: mine is other_cost_us. FLOW and TOKEN:
     * its trail; count: hops. */
    FLOW_MESSAGE_POTENTIAL_DOWN,
    FLOW_MESSAGE_POTENTIAL_UP,
    /* See flow/cycle.h. TOKEN: the node to come back to; count: hops since; limit: hops until
     * another one is chosen. */
    FLOW_MESSAGE_SCAN_MORE,
    FLOW_MESSAGE_SCAN_LESS,
    /* TOKEN names the search; other_cost_us: cost of the cycle so far; count:
     * hops so far. The receiver would send one more flow to the sender, or one less: FLOW. */
    FLOW_MESSAGE_TRACE_MORE,
    FLOW_MESSAGE_TRACE_LESS,
    /* count: 1 when the receiver is on a cycle that the start is not on. */
    FLOW_MESSAGE_ABORT,
    /* Commit. I take a flow from you under the id FLOW; it costs cost_us from here. */
    FLOW_MESSAGE_ATTACH,
    /* Commit. I send you FLOW no longer. */
    FLOW_MESSAGE_DROP,
    /* Objective max, to the next stage: FLOW has cost cost_us from its source to you. */
    FLOW_MESSAGE_BEFORE,
    /* Policy gwtf-paper, see flow/paper.h. To the own stage: count: 1 when I could take over a
     * flow. */
    FLOW_MESSAGE_ROOM,
    /* To the own stage. FLOW goes from me to `limit`, and from there to SINK for cost_us. Your flow
     * number TOKEN for it? other_cost_us: the most that I could gain, less the least that is
     * accepted. count: number of the question. */
    FLOW_MESSAGE_CHANGE_ASK,
    /* Answer: my FLOW to `limit`, from there for cost_us. I would gain other_cost_us on my hop;
     * TOKEN: cost of its path. */
    FLOW_MESSAGE_CHANGE_OFFER,
    /* Answer: there is none; limit: 1 when one is locked. */
    FLOW_MESSAGE_CHANGE_NONE,
    /* The offer is declined; it is taken: my flow is yours. */
    FLOW_MESSAGE_CHANGE_DECLINE,
    FLOW_MESSAGE_CHANGE_COMMIT,
    /* To the next stage: `limit`'s FLOW to you comes from me, as TOKEN; I think that it costs
     * cost_us from you. */
    FLOW_MESSAGE_MOVE,
    /* To the own stage: take over my hop. FLOW goes from me to `limit`, and from there to SINK for
     * cost_us; it comes from `count`. other_cost_us: what both hops may cost. */
    FLOW_MESSAGE_REDIRECT_ASK,
    /* Answer: FLOW may come to me as TOKEN; my hop to the next stage costs cost_us. */
    FLOW_MESSAGE_REDIRECT_OFFER,
    /* Either side: FLOW stays; limit: 1 when it may be asked again. */
    FLOW_MESSAGE_REDIRECT_NONE,
    /* FLOW goes by you from now on, and comes as TOKEN. */
    FLOW_MESSAGE_REDIRECT_COMMIT,
    /* To the previous stage: send FLOW to `limit` instead, as TOKEN, from where it costs cost_us,
     * if that gains on your hop more than -other_cost_us. Answers: done; no, limit: 1 when it is
     * locked. */
    FLOW_MESSAGE_REDIRECT,
    FLOW_MESSAGE_REDIRECT_YES,
    FLOW_MESSAGE_REDIRECT_NO,
    /* See flow/view.h. Your connection `peer_session` to me is none here any more. */
    FLOW_MESSAGE_FORGET,
    /* There are `count` nodes[] of stage `sink`. */
    FLOW_MESSAGE_GOSSIP,
    /* See flow/plan.h. To the previous stage: the way on to SINK costs cost_us for one more planned
     * flow and other_cost_us for those that are planned; flow: this node's price; count: its room,
     * negative when too many are planned; token: the limit; limit: the negotiation's end and age.
     */
    FLOW_MESSAGE_PLAN_FIGURES,
    /* Plan my FLOW to SINK through you; I expect your toll to be cost_us. */
    FLOW_MESSAGE_PLAN_ASK,
    /* Answers to the ask named TOKEN; flow and count: price and room as they are then. */
    FLOW_MESSAGE_PLAN_TAKE,
    FLOW_MESSAGE_PLAN_REFUSE,
    /* FLOW is planned no longer, says its sender or its receiver. */
    FLOW_MESSAGE_PLAN_DROP,
    /* FLOW to SINK is planned no longer, but made. */
    FLOW_MESSAGE_PLAN_ADMIT,
    /* The negotiation was over before you came, or there is none. */
    FLOW_MESSAGE_PLAN_OVER,
    /* See flow/mend.h. To the next stage: `count` flows to SINK have lost a node of your stage. */
    FLOW_MESSAGE_MEND_HEAD,
    /* To the previous stage: I have the rest of `count` such flows, the cheapest for cost_us. */
    FLOW_MESSAGE_MEND_TAIL,
    /* Answer to a MEND_HEAD: by me, `count` of them find such a rest, one for cost_us. */
    FLOW_MESSAGE_MEND_OFFER,
    FLOW_MESSAGE_KINDS
};

#define FLOW_COST_NONE INT64_MAX
/* Above it a figure from a peer is damage, and sums of figures could overflow. */
#define FLOW_COST_MOST (INT64_MAX / 1024)

#endif
