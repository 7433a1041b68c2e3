/* Policy gwtf-paper: flows are requested from the sink back, and repaired (Blagoev et al., section
 * 4). */
#include "flow/advertise.h"
#include "flow/policy.h"
#include "flow/query.h"
#include "flow/repair.h"
#include "flow/request.h"
#include "flow/table.h"

/* How long an outflow without inflow is kept. */
#define IDLE_TICKS 16

/* The request flow starts again. */
static void note_news(gwtf_flow *flow) {
    flow->releases_left = FLOW_RELEASES_MAX;
    flow->ask_from_us = flow->now_us;
}

/* The capacity is for another flow after a while; not again and again, or nodes that nobody needs
 * would never come to rest. */
static void release(gwtf_flow *flow, struct flow_slot *slot) {
    if (flow->releases_left == 0)
        return;
    flow->releases_left--;
    flow_give_up(flow, slot);
    int64_t ticks = 1 + (int64_t)gwtf_random_below(&flow->random, IDLE_TICKS);
    flow->ask_from_us = flow->now_us + ticks * flow->config.tick_us;
}

static void take_message(gwtf_flow *flow, struct flow_peer *peer,
                         const struct gwtf_flow_message *message) {
    (void)flow_take_shared(flow, peer, message);
}

static void advance(gwtf_flow *flow) {
    flow_repair(flow);
    flow_request_repairs(flow);
    flow_request_new(flow, flow->capacity);
    flow_tell(flow);
    flow_advertise(flow);
}

static gwtf_time_us get_deadline(const gwtf_flow *flow) {
    return flow_earlier(flow_repair_deadline(flow), flow_request_deadline(flow));
}

static const char *find_fault(const gwtf_flow *flow) {
    for (size_t i = 0; i < flow->slots_count; i++)
        if (flow_slot_is_locked(&flow->slots[i]))
            return "a slot is locked by no search";
    return NULL;
}

const struct flow_policy flow_policy_paper = {
    .note_news = note_news,
    .lose_peer = flow_lose_peer,
    .take_link = flow_set_link,
    .take_capacity = flow_shrink,
    .take_message = take_message,
    .advance = advance,
    .get_deadline = get_deadline,
    .get_routes = flow_get_routes,
    .get_next = flow_get_next,
    .get_alternatives = flow_get_alternatives,
    .find_fault = find_fault,
    .repair_ticks = 8,
    .idle_ticks = IDLE_TICKS,
    .release = release,
};
