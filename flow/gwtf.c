/* Policy gwtf: flows are requested from the source, and then moved along negative cycles of the
 * residual graph. */
#include "flow/advertise.h"
#include "flow/balance.h"
#include "flow/cycle.h"
#include "flow/mend.h"
#include "flow/plan.h"
#include "flow/policy.h"
#include "flow/potential.h"
#include "flow/query.h"
#include "flow/repair.h"
#include "flow/request.h"
#include "flow/table.h"

#include <stdlib.h>

/* Flows that a data node builds at one time. More is quicker, but each then chooses its way by
 * offers that the others are about to take. */
#define SOURCE_ASKS 3
/* The next stage's offers of this part of a retry time are answered for together: those of its
 * other nodes are on their way. */
#define ADVERTISE_PARTS 3

static bool create(gwtf_flow *flow) {
    flow->tell_at_us = flow->refine_at_us = flow->mend_ask_at_us = GWTF_TIME_NEVER;
    flow->balance_at_us = GWTF_TIME_NEVER;
    flow->potentials = calloc(flow->config.sinks_max, sizeof *flow->potentials);
    for (uint32_t sink = 0; flow->potentials != NULL && sink < flow->config.sinks_max; sink++)
        flow->potentials[sink].begin_at_us = GWTF_TIME_NEVER;
    return flow->potentials != NULL && flow_plan_create(flow);
}

static void destroy(gwtf_flow *flow) {
    free(flow->potentials);
    flow_plan_destroy(flow);
}

static void lose_peer(gwtf_flow *flow, const struct flow_peer *peer) {
    flow_mend_after(flow, peer);
    flow_lose_peer(flow, peer);
    flow_plan_lose_peer(flow, peer);
}

static void note_news(gwtf_flow *flow) {
    flow->releases_left = FLOW_RELEASES_MAX;
    flow->ask_from_us = flow->now_us;
    flow_note_unrest(flow);
}

static void take_link(gwtf_flow *flow, struct flow_peer *peer, int64_t link_us) {
    flow_set_link(flow, peer, link_us);
    flow_schedule_tell(flow);
}

static void take_message(gwtf_flow *flow, struct flow_peer *peer,
                         const struct gwtf_flow_message *message) {
    if (message->kind == FLOW_MESSAGE_ADVERTISE && flow->advertise_at_us <= flow->now_us)
        flow->advertise_at_us = flow->now_us + flow->config.retry_us / ADVERTISE_PARTS;
    switch (message->kind) {
    case FLOW_MESSAGE_POTENTIAL_DOWN:
    case FLOW_MESSAGE_POTENTIAL_UP:
        flow_take_potential(flow, peer, message);
        break;
    case FLOW_MESSAGE_SCAN_MORE:
    case FLOW_MESSAGE_SCAN_LESS:
        flow_take_scan(flow, message);
        break;
    case FLOW_MESSAGE_TRACE_MORE:
    case FLOW_MESSAGE_TRACE_LESS:
        flow_take_trace(flow, peer, message);
        break;
    case FLOW_MESSAGE_ABORT:
        flow_take_abort(flow, peer, message);
        break;
    case FLOW_MESSAGE_ATTACH:
    case FLOW_MESSAGE_DROP:
        flow_take_commit(flow, peer, message);
        break;
    case FLOW_MESSAGE_MEND_HEAD:
    case FLOW_MESSAGE_MEND_TAIL:
    case FLOW_MESSAGE_MEND_OFFER:
        flow_take_mend(flow, peer, message);
        break;
    case FLOW_MESSAGE_PLAN_FIGURES:
    case FLOW_MESSAGE_PLAN_ASK:
    case FLOW_MESSAGE_PLAN_TAKE:
    case FLOW_MESSAGE_PLAN_REFUSE:
    case FLOW_MESSAGE_PLAN_DROP:
    case FLOW_MESSAGE_PLAN_ADMIT:
    case FLOW_MESSAGE_PLAN_OVER:
        flow_plan_take(flow, peer, message);
        break;
    case FLOW_MESSAGE_BEFORE:
        flow_take_before(flow, peer, message);
        break;
    default:
        (void)flow_take_shared(flow, peer, message);
        break;
    }
}

static unsigned get_stir(uint32_t kind) {
    switch (kind) {
    case FLOW_MESSAGE_ADVERTISE:
        return FLOW_STIR_OFFERS;
    case FLOW_MESSAGE_POTENTIAL_DOWN:
    case FLOW_MESSAGE_POTENTIAL_UP:
    case FLOW_MESSAGE_SCAN_MORE:
    case FLOW_MESSAGE_SCAN_LESS:
        return FLOW_STIR_POTENTIALS;
    case FLOW_MESSAGE_PLAN_FIGURES:
    case FLOW_MESSAGE_PLAN_ASK:
    case FLOW_MESSAGE_PLAN_TAKE:
    case FLOW_MESSAGE_PLAN_REFUSE:
    case FLOW_MESSAGE_PLAN_DROP:
        return FLOW_STIR_PLAN;
    case FLOW_MESSAGE_BEFORE:
        return FLOW_STIR_SLOTS;
    default:
        return FLOW_STIR_ALL;
    }
}

static gwtf_time_us get_slots_deadline(const gwtf_flow *flow) {
    return flow_earlier(flow_earlier(flow_repair_deadline(flow), flow_mend_deadline(flow)),
                        flow_balance_deadline(flow));
}

/* The flows of this node: what they lack, and what is to be told of them. */
static void tend_slots(gwtf_flow *flow) {
    flow_repair(flow);
    flow_mend(flow);
    flow_request_repairs(flow);
    flow_reject_hopeless(flow);
    flow_give_up_broken(flow);
    if (flow->config.stage == 0 && !flow_is_mending(flow))
        flow_request_new(flow, SOURCE_ASKS);
    flow_balance(flow);
    flow_tell(flow);
    flow->repair_at_us = get_slots_deadline(flow);
    if (flow_waits(flow))
        flow->stirred |= FLOW_STIR_SLOTS;
}

static void advance(gwtf_flow *flow) {
    const unsigned asks = flow->config.stage == 0 ? FLOW_STIR_OFFERS : 0;
    const unsigned searches = FLOW_STIR_SLOTS | FLOW_STIR_POTENTIALS;
    bool due = flow->advance_at_us <= flow->now_us;
    if ((flow->stirs & (FLOW_STIR_SLOTS | asks)) != 0 || due)
        tend_slots(flow);
    if (flow->now_us >= flow->advertise_at_us)
        flow_advertise(flow);
    flow_plan_advance(flow);
    if (!flow_plan_is_admitting(flow) && ((flow->stirs & searches) != 0 || due)) {
        flow_relax(flow, due || (flow->stirs & FLOW_STIR_SLOTS) != 0);
        flow_search(flow);
        flow_refine(flow);
        flow_tell_potentials(flow);
    }
    if (flow->routes_changed)
        flow->stirred = FLOW_STIR_ALL;
}

static gwtf_time_us get_deadline(const gwtf_flow *flow) {
    gwtf_time_us due_us =
        flow->advertise_at_us > flow->now_us ? flow->advertise_at_us : GWTF_TIME_NEVER;
    bool stirred = (flow->stirred & FLOW_STIR_SLOTS) != 0;
    due_us = flow_earlier(due_us, stirred ? get_slots_deadline(flow) : flow->repair_at_us);
    due_us = flow_earlier(due_us, flow_request_deadline(flow));
    due_us = flow_earlier(due_us, flow_plan_deadline(flow));
    if (flow_plan_is_admitting(flow))
        return due_us;
    due_us = flow_earlier(due_us, flow_potential_deadline(flow));
    return flow_earlier(due_us, flow_search_deadline(flow));
}

static const char *find_fault(const gwtf_flow *flow) {
    for (size_t i = 0; i < flow->slots_count; i++) {
        const struct flow_slot *slot = &flow->slots[i];
        uint32_t visits = 0;
        for (size_t j = 0; j < FLOW_VISITS_MAX; j++)
            visits += flow->visits[j].kind != FLOW_VISIT_NONE &&
                      (flow->visits[j].in == slot || flow->visits[j].out == slot);
        if ((slot->held || slot->in_locked || slot->out_locked) && visits == 0)
            return "a slot is locked by no search";
    }
    return flow_plan_find_fault(flow);
}

const struct flow_policy flow_policy_gwtf = {
    .keeps_view = true,
    .shares = flow_plan_shares,
    .create = create,
    .destroy = destroy,
    .note_news = note_news,
    .lose_peer = lose_peer,
    .take_link = take_link,
    .take_capacity = flow_shrink,
    .get_stir = get_stir,
    .take_message = take_message,
    .advance = advance,
    .get_deadline = get_deadline,
    .get_routes = flow_get_routes,
    .get_next = flow_get_next,
    .get_alternatives = flow_get_alternatives,
    .is_busy = flow_plan_is_active,
    .find_fault = find_fault,
    /* Short, since searches find a use for the capacity and build flows where they fit. */
    .repair_ticks = 2,
    .idle_ticks = 3,
    .gives_up_whole = true,
    .release = flow_give_up,
    .note_change = flow_note_unrest,
    .add_offer = flow_offer_unused,
    .take_on = flow_take_on_offered,
};
