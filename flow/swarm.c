/*
 * Policy swarm, after the released code of SWARM (Ryabinin et al., arXiv 2301.11913), there a class
 * ExpertBalancer: a queue of the next stage's nodes, ordered by the time that what they were sent
 * so far is expected to have taken; ties by a random number. A microbatch goes to the first, which
 * moves back by its expected time: an exponentially weighted average of measured response times
 * with weight 0.1, adjusted for its start. While several are under way, the time since the last
 * response counts, so that the average is one of throughput. A new node starts with the priority of
 * the first. One that errs is banned until it is announced again; one that is slow is not.
 *
 * Where the original expects one second before the first response, the measured link cost stands
 * here. It sends the backward pass of a stage to the first in the queue, too; here it follows the
 * path, and the hop before keeps a stage's input, so that another node of that stage can be asked.
 */
#include "flow/policy.h"
#include "flow/repair.h"
#include "flow/request.h"
#include "flow/table.h"
#include "flow/wiring.h"

#include <math.h>

#define AVERAGE_WEIGHT 0.1

static bool is_before(const gwtf_flow *flow, const struct flow_peer *a, const struct flow_peer *b) {
    const struct wiring_peer *first = wiring_of(flow, a), *second = wiring_of(flow, b);
    if (first->priority_us != second->priority_us)
        return first->priority_us < second->priority_us;
    if (first->tie != second->tie)
        return first->tie < second->tie;
    return a->id < b->id;
}

static bool create(gwtf_flow *flow) {
    return wiring_create(flow, is_before);
}

static int64_t get_expected(const gwtf_flow *flow, const struct flow_peer *peer) {
    const struct wiring_peer *beside = wiring_of(flow, peer);
    if (beside->updates == 0)
        return peer->link_us;
    return (int64_t)(beside->average_us / (1 - pow(1 - AVERAGE_WEIGHT, beside->updates)));
}

static void set_priority(gwtf_flow *flow, const struct flow_peer *peer, int64_t priority_us) {
    wiring_of(flow, peer)->priority_us =
        priority_us < FLOW_COST_MOST ? priority_us : FLOW_COST_MOST;
    wiring_of(flow, peer)->tie = gwtf_random_next(&flow->random);
}

/* Announced: it is tried soon. One that is in the queue stays where it is. */
static void meet(gwtf_flow *flow, struct flow_peer *peer) {
    struct wiring_peer *beside = wiring_of(flow, peer);
    if (!flow_is_next(flow, peer) || (!beside->banned && beside->tie != 0))
        return;
    *beside = (struct wiring_peer){0};
    int64_t least_us = FLOW_COST_MOST;
    for (size_t i = 0; i < flow->peers_count; i++)
        if (&flow->peers[i] != peer && wiring_is_open(flow, &flow->peers[i]) &&
            wiring_of(flow, &flow->peers[i])->priority_us < least_us)
            least_us = wiring_of(flow, &flow->peers[i])->priority_us;
    set_priority(flow, peer, least_us < FLOW_COST_MOST ? least_us : 0);
}

static void send(gwtf_flow *flow, struct flow_peer *peer) {
    if (peer->link_us != FLOW_COST_NONE)
        set_priority(flow, peer, wiring_of(flow, peer)->priority_us + get_expected(flow, peer));
}

static void note_response(gwtf_flow *flow, struct flow_peer *peer, int64_t response_us) {
    struct wiring_peer *beside = wiring_of(flow, peer);
    gwtf_time_us began_us = flow->now_us - response_us;
    if (beside->updates > 0 && beside->done_us > began_us)
        began_us = beside->done_us;
    double took_us = (double)(flow->now_us - began_us);
    beside->average_us = AVERAGE_WEIGHT * took_us + (1 - AVERAGE_WEIGHT) * beside->average_us;
    if (beside->updates < UINT32_MAX)
        beside->updates++;
    beside->done_us = flow->now_us;
}

static void take_feedback(gwtf_flow *flow, struct flow_peer *peer,
                          const struct gwtf_flow_event *event) {
    if (!flow_is_next(flow, peer))
        return;
    switch (event->feedback) {
    case GWTF_FLOW_FEEDBACK_SENT:
        send(flow, peer);
        break;
    case GWTF_FLOW_FEEDBACK_DONE:
        if (event->cost_us >= 0 && event->cost_us <= FLOW_COST_MOST)
            note_response(flow, peer, event->cost_us);
        break;
    case GWTF_FLOW_FEEDBACK_REFUSED:
        /* It has moved back when it was sent to. */
        break;
    case GWTF_FLOW_FEEDBACK_FAILED:
        wiring_of(flow, peer)->banned = true;
        break;
    }
}

static void advance(gwtf_flow *flow) {
    wiring_advance(flow, send);
}

const struct flow_policy flow_policy_swarm = {
    .create = create,
    .meet = meet,
    .take_feedback = take_feedback,
    .advance = advance,
    WIRING_OPERATIONS,
};
