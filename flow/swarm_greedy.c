/*
 * Policy swarm-greedy: SWARM as the authors of GWTF model it (Blagoev et al., section 6). A
 * microbatch goes to the next stage's node with the lowest measured delay that has not just
 * refused; a crash in the backward pass repeats the whole pipeline.
 */
#include "flow/policy.h"
#include "flow/repair.h"
#include "flow/request.h"
#include "flow/table.h"
#include "flow/wiring.h"

static bool is_before(const gwtf_flow *flow, const struct flow_peer *a, const struct flow_peer *b) {
    bool first_refuses = wiring_of(flow, a)->refused_until_us > flow->now_us;
    bool second_refuses = wiring_of(flow, b)->refused_until_us > flow->now_us;
    if (first_refuses != second_refuses)
        return second_refuses;
    if (a->link_us != b->link_us)
        return a->link_us < b->link_us;
    return a->id < b->id;
}

static bool create(gwtf_flow *flow) {
    return wiring_create(flow, is_before);
}

static void meet(gwtf_flow *flow, struct flow_peer *peer) {
    wiring_of(flow, peer)->banned = false;
}

/* A refusal holds until the node has done something, a tick at most. */
static void take_feedback(gwtf_flow *flow, struct flow_peer *peer,
                          const struct gwtf_flow_event *event) {
    struct wiring_peer *beside = wiring_of(flow, peer);
    switch (event->feedback) {
    case GWTF_FLOW_FEEDBACK_SENT:
        break;
    case GWTF_FLOW_FEEDBACK_DONE:
        beside->refused_until_us = flow->now_us;
        break;
    case GWTF_FLOW_FEEDBACK_REFUSED:
        beside->refused_until_us = flow->now_us + flow->config.tick_us;
        break;
    case GWTF_FLOW_FEEDBACK_FAILED:
        beside->banned = true;
        break;
    }
}

static void advance(gwtf_flow *flow) {
    wiring_advance(flow, NULL);
}

const struct flow_policy flow_policy_swarm_greedy = {
    .repeats_pipeline = true,
    .create = create,
    .meet = meet,
    .take_feedback = take_feedback,
    .advance = advance,
    WIRING_OPERATIONS,
};
