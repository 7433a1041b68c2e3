#include "flow/policy.h"

#include "flow/advertise.h"
#include "flow/repair.h"
#include "flow/request.h"
#include "share/base/assert.h"

static const struct flow_policy *const policies[GWTF_FLOW_POLICIES] = {
    [GWTF_FLOW_POLICY_GWTF] = &flow_policy_gwtf,
    [GWTF_FLOW_POLICY_GWTF_PAPER] = &flow_policy_paper,
    [GWTF_FLOW_POLICY_SWARM] = &flow_policy_swarm,
    [GWTF_FLOW_POLICY_SWARM_GREEDY] = &flow_policy_swarm_greedy,
    [GWTF_FLOW_POLICY_STATIC] = &flow_policy_static,
};

const char *const gwtf_flow_policy_words[GWTF_FLOW_POLICIES + 1] = {
    [GWTF_FLOW_POLICY_GWTF] = "gwtf",     [GWTF_FLOW_POLICY_GWTF_PAPER] = "gwtf-paper",
    [GWTF_FLOW_POLICY_SWARM] = "swarm",   [GWTF_FLOW_POLICY_SWARM_GREEDY] = "swarm-greedy",
    [GWTF_FLOW_POLICY_STATIC] = "static",
};

const struct flow_policy *flow_find_policy(enum gwtf_flow_policy policy) {
    GWTF_ASSERT(policy < GWTF_FLOW_POLICIES);
    return policies[policy];
}

bool gwtf_flow_repeats_pipeline(enum gwtf_flow_policy policy) {
    return flow_find_policy(policy)->repeats_pipeline;
}

bool gwtf_flow_meets_replicas(enum gwtf_flow_policy policy) {
    return flow_find_policy(policy)->meets_replicas;
}

bool gwtf_flow_wants_feedback(enum gwtf_flow_policy policy) {
    return flow_find_policy(policy)->take_feedback != NULL;
}

void flow_note_change(gwtf_flow *flow) {
    if (flow->policy->note_change != NULL)
        flow->policy->note_change(flow);
}

bool flow_take_shared(gwtf_flow *flow, struct flow_peer *peer,
                      const struct gwtf_flow_message *message) {
    switch (message->kind) {
    case FLOW_MESSAGE_ADVERTISE:
        flow_take_advertisement(flow, peer, message);
        return true;
    case FLOW_MESSAGE_REQUEST:
        flow_take_request(flow, peer, message);
        return true;
    case FLOW_MESSAGE_ACCEPT:
    case FLOW_MESSAGE_REJECT:
        flow_take_answer(flow, peer, message);
        return true;
    case FLOW_MESSAGE_CANCEL:
        flow_take_cancel(flow, peer, message);
        return true;
    case FLOW_MESSAGE_COST:
        flow_take_cost(flow, peer, message);
        return true;
    case FLOW_MESSAGE_COMPARE:
        flow_take_compare(flow, peer, message);
        return true;
    case FLOW_MESSAGE_DIFFERS:
        flow_take_differs(flow, peer);
        return true;
    case FLOW_MESSAGE_VERIFY:
        flow_take_verify(flow, peer, message);
        return true;
    default:
        return false;
    }
}
