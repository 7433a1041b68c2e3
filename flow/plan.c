#include "flow/plan.h"

#include "flow/link.h"
#include "flow/plan_state.h"
#include "flow/table.h"

#include <stdlib.h>

/* Thousandths of the scale of costs: the step of a price, what one flow too many adds, what makes a
 * move worthwhile. */
#define STEP_START 20
#define PRESS_START 40
#define GAIN_LEAST 4
/* Over the whole negotiation the step falls by e to this power, and the press grows by it. */
#define DECAY 3000
#define GROWTH 1500
/* Of a hundred planned flows that have a next hop, those that look for a better one in a sweep: if
 * all did, all would move to the same node. */
#define MOVES 15

/* What a data node plans beyond the flows that it has, at least and of a hundred, from this age on.
 */
#define EXCESS_LEAST 1
#define EXCESS 10
#define AGE_COUNT 20
/* Of a hundred flows that it has: when fewer are planned it raises the limit. */
#define PLANNED_LEAST 95

/* Refusals of one flow in a sweep; sweeps without a next hop. */
#define REFUSALS_MAX 3
#define HOPELESS_SWEEPS 4

const struct plan_hop plan_no_hop = {GWTF_NODE_NONE, GWTF_FLOW_NONE};
const struct plan_unit plan_no_unit = {.in = {GWTF_NODE_NONE, GWTF_FLOW_NONE},
                                       .out = {GWTF_NODE_NONE, GWTF_FLOW_NONE},
                                       .ask = {GWTF_NODE_NONE, GWTF_FLOW_NONE}};
const struct plan_figures plan_no_figures = {FLOW_COST_NONE, FLOW_COST_NONE, FLOW_COST_NONE,
                                             FLOW_COST_NONE};

static void end_plan(struct flow_plan *plan) {
    plan->on = plan->begun = true;
    plan->age = plan->end + AGE_REST;
    plan->sweep_at_us = plan->tell_at_us = GWTF_TIME_NEVER;
}

bool flow_plan_create(gwtf_flow *flow) {
    const struct gwtf_flow_config *config = &flow->config;
    struct flow_plan *plan = flow->plan = calloc(1, sizeof *plan);
    if (plan == NULL)
        return false;
    bool data = config->stage == 0;
    plan->units_count = data ? config->capacity_max : 2 * (size_t)config->capacity_max + 4;
    plan->drops_max = 4 * plan->units_count;
    size_t peers = config->neighbours_max;
    plan->units = calloc(plan->units_count, sizeof *plan->units);
    plan->drops = calloc(plan->drops_max, sizeof *plan->drops);
    plan->peers = calloc(peers, sizeof *plan->peers);
    plan->figures = calloc(peers * config->sinks_max, sizeof *plan->figures);
    plan->sweep_at_us = plan->tell_at_us = GWTF_TIME_NEVER;
    plan->step = 1000 * STEP_START;
    plan->end = config->negotiation > 0 ? config->negotiation : AGE_END;
    if (plan->end > AGE_MASK)
        plan->end = AGE_MASK;
    if (config->negotiation == 0 && data && config->capacity > CAPACITY_PLANNED)
        end_plan(plan);
    plan->press = 1000 * PRESS_START;
    if (!plan->units || !plan->drops || !plan->peers || !plan->figures)
        return false;
    for (size_t i = 0; i < peers; i++)
        plan->peers[i].figures = &plan->figures[i * config->sinks_max];
    for (size_t i = 0; i < peers * config->sinks_max; i++)
        plan->figures[i] = plan_no_figures;
    for (size_t i = 0; i < plan->units_count; i++)
        plan->units[i] = plan_no_unit;
    return true;
}

void flow_plan_destroy(gwtf_flow *flow) {
    struct flow_plan *plan = flow->plan;
    if (plan == NULL)
        return;
    free(plan->units);
    free(plan->drops);
    free(plan->peers);
    free(plan->figures);
    free(plan);
}

bool flow_plan_is_active(const gwtf_flow *flow) {
    return flow->plan->on && !plan_is_over(flow->plan);
}

bool flow_plan_is_admitting(const gwtf_flow *flow) {
    return flow_plan_is_active(flow) && flow->plan->age >= flow->plan->end;
}

void plan_send_drop(gwtf_flow *flow, struct plan_hop *hop) {
    struct flow_peer *peer = flow_find_peer(flow, hop->peer);
    struct flow_plan *plan = flow->plan;
    if (peer != NULL && flow_link_has_room_for_answer(peer)) {
        struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_PLAN_DROP, .flow = hop->id};
        flow_link_send(flow, peer, &body);
    } else if (peer != NULL && plan->drops_count < plan->drops_max) {
        plan->drops[plan->drops_count++] = *hop;
    }
    *hop = plan_no_hop;
}

void plan_release(gwtf_flow *flow, struct plan_unit *unit) {
    if (unit->ask.peer != GWTF_NODE_NONE)
        plan_send_drop(flow, &unit->ask);
    if (unit->out.peer != GWTF_NODE_NONE)
        plan_send_drop(flow, &unit->out);
    unit->in = plan_no_hop;
    unit->used = false;
    plan_gather_news(flow);
}

/* False: not now. */
static bool ask(gwtf_flow *flow, struct plan_unit *unit, struct flow_peer *peer) {
    if (!flow_link_has_room(peer))
        return false;
    struct plan_peer *known = plan_get_peer(flow, peer);
    unit->ask = (struct plan_hop){peer->id, flow_new_id(flow)};
    struct gwtf_flow_message body = {
        .kind = FLOW_MESSAGE_PLAN_ASK,
        .sink = flow->sinks[unit->sink],
        .flow = unit->ask.id,
        .cost_us = plan_get_toll(flow, known->price_us, known->room - known->expect)};
    if (peer->stage == 0)
        body.cost_us = 0;
    flow_link_send(flow, peer, &body);
    known->expect++;
    return true;
}

/* Sends UNIT over the cheapest next hop, when that is notably cheaper than the one that it has. */
static bool improve(gwtf_flow *flow, struct plan_unit *unit) {
    if (unit->ask.peer != GWTF_NODE_NONE || unit->admitted || unit->refusals >= REFUSALS_MAX)
        return false;
    struct flow_peer *out = flow_find_peer(flow, unit->out.peer);
    int64_t now_us = out != NULL ? plan_get_stay(flow, out, unit->sink) : FLOW_COST_NONE;
    bool source = plan_is_data(flow);
    if (source && out != NULL && now_us > flow->plan->limit_us && now_us != FLOW_COST_NONE) {
        plan_send_drop(flow, &unit->out);
        unit->used = false;
        now_us = FLOW_COST_NONE;
    }
    int64_t best_us;
    struct flow_peer *best = plan_choose(flow, unit->sink, &best_us);
    if (best == NULL || best->id == unit->out.peer)
        return false;
    int64_t least_us = plan_part_of(plan_get_scale(flow), GAIN_LEAST) + 1;
    if (source && unit->out.peer == GWTF_NODE_NONE)
        return best_us < flow->plan->limit_us && ask(flow, unit, best);
    return (now_us == FLOW_COST_NONE || best_us + least_us < now_us) && ask(flow, unit, best);
}

/* Without a plan there is no flow; it goes on as it comes. */
void plan_start(gwtf_flow *flow) {
    struct flow_plan *plan = flow->plan;
    if (plan->on || flow->config.negotiation == GWTF_FLOW_NO_NEGOTIATION)
        return;
    plan->on = true;
    int64_t sweep_us = flow->config.tick_us / SWEEPS;
    plan->sweep_at_us =
        flow->now_us + (int64_t)gwtf_random_below(&flow->random, (uint64_t)sweep_us);
    plan_gather_news(flow);
}

static bool has_its_turn(gwtf_flow *flow, const struct plan_unit *unit) {
    return unit->out.peer == GWTF_NODE_NONE || gwtf_random_below(&flow->random, 100) < MOVES;
}

static bool is_planned(const struct plan_unit *unit) {
    return unit->out.peer != GWTF_NODE_NONE || unit->ask.peer != GWTF_NODE_NONE;
}

/* How many flows a data node plans. All that it can carry are more than fit in, and those in excess
 * keep prices from coming to rest; the flows in use are about as many as fit. A few more let data
 * nodes change their shares. */
static uint32_t get_wanted(const gwtf_flow *flow) {
    uint32_t used = flow_reserved(flow, FLOW_ROLE_SOURCE);
    uint32_t wanted = used + EXCESS_LEAST + used * EXCESS / 100;
    return flow->plan->age < AGE_COUNT || wanted > flow->capacity ? flow->capacity : wanted;
}

static void sweep_source(gwtf_flow *flow) {
    struct flow_plan *plan = flow->plan;
    bool waits = false, planned = false;
    uint32_t wanted = get_wanted(flow), count = 0;
    for (size_t i = 0; i < plan->units_count; i++)
        count += is_planned(&plan->units[i]);
    /* The last ones would raise it for all; searches find them a place. */
    bool few = count * 100 < flow_reserved(flow, FLOW_ROLE_SOURCE) * PLANNED_LEAST;
    for (size_t i = 0; i < plan->units_count && plan->limit_us > 0; i++) {
        struct plan_unit *unit = &plan->units[i];
        if (!is_planned(unit) && count++ >= wanted)
            continue;
        unit->refusals = 0;
        bool asked = has_its_turn(flow, unit) && improve(flow, unit);
        planned = planned || (asked && unit->out.peer == GWTF_NODE_NONE);
        waits = waits ||
                (unit->out.peer == GWTF_NODE_NONE && !asked && unit->ask.peer == GWTF_NODE_NONE);
    }
    plan_raise_limit(flow, waits && !planned && few);
}

static void sweep_relay(gwtf_flow *flow) {
    struct flow_plan *plan = flow->plan;
    plan_move_price(flow);
    size_t first = gwtf_random_below(&flow->random, plan->units_count);
    for (size_t i = 0; i < plan->units_count; i++) {
        struct plan_unit *unit = &plan->units[(first + i) % plan->units_count];
        if (!unit->used)
            continue;
        unit->refusals = 0;
        if (has_its_turn(flow, unit))
            improve(flow, unit);
        bool stuck = unit->out.peer == GWTF_NODE_NONE && unit->ask.peer == GWTF_NODE_NONE;
        unit->stuck = stuck ? unit->stuck + 1 : 0;
        if (unit->stuck > HOPELESS_SWEEPS) {
            plan_send_drop(flow, &unit->in);
            plan_release(flow, unit);
        }
    }
}

/* What the plan has come to is made, or in vain. */
static void forget(gwtf_flow *flow) {
    for (size_t i = 0; i < flow->plan->units_count; i++)
        if (!flow->plan->units[i].admitted)
            flow->plan->units[i] = plan_no_unit;
    flow->plan->drops_count = 0;
}

static void sweep(gwtf_flow *flow) {
    struct flow_plan *plan = flow->plan;
    int64_t sweep_us = flow->config.tick_us / SWEEPS;
    if (sweep_us < RETRIES_IN_SWEEP * flow->config.retry_us)
        sweep_us = RETRIES_IN_SWEEP * flow->config.retry_us;
    plan->age++;
    plan->sweep_at_us = plan_is_over(plan) ? GWTF_TIME_NEVER : flow->now_us + sweep_us;
    if (plan_is_over(plan))
        forget(flow);
    if (plan->age >= plan->end)
        return;
    if (plan->age > plan->end / FINE_PARTS) {
        plan->step -= plan->step * DECAY / 1000 / plan->end;
        plan->press += plan->press * GROWTH / 1000 / plan->end;
    }
    if (plan_is_data(flow))
        sweep_source(flow);
    else
        sweep_relay(flow);
    plan_gather_news(flow);
}

struct plan_unit *plan_find_in(const gwtf_flow *flow, gwtf_node_id peer, gwtf_flow_id id) {
    for (size_t i = 0; i < flow->plan->units_count; i++) {
        struct plan_unit *unit = &flow->plan->units[i];
        if (unit->used && unit->in.peer == peer && unit->in.id == id)
            return unit;
    }
    return NULL;
}

static void take_over(gwtf_flow *flow) {
    if (plan_is_over(flow->plan))
        return;
    end_plan(flow->plan);
    forget(flow);
    /* Next hops that have nothing to say would not hear of it. */
    for (size_t i = 0; i < flow->peers_count; i++)
        if (flow_is_usable(flow, &flow->peers[i]))
            plan_send_over(flow, &flow->peers[i]);
}

static void answer(gwtf_flow *flow, struct flow_peer *peer, enum flow_message_kind kind,
                   gwtf_flow_id id) {
    struct gwtf_flow_message body = {.kind = kind,
                                     .flow = (uint64_t)flow->plan->price_us,
                                     .token = id,
                                     .count = (uint32_t)plan_get_room(flow)};
    flow_link_send(flow, peer, &body);
}

static void take_ask(gwtf_flow *flow, struct flow_peer *peer,
                     const struct gwtf_flow_message *message) {
    struct flow_plan *plan = flow->plan;
    uint32_t sink = flow_sink_index(flow, message->sink);
    if (!flow_link_has_room_for_answer(peer))
        return; /* more asks under way than are allowed */
    if (plan_is_data(flow)) {
        answer(flow, peer,
               message->sink == flow->config.self ? FLOW_MESSAGE_PLAN_TAKE
                                                  : FLOW_MESSAGE_PLAN_REFUSE,
               message->flow);
        return;
    }
    struct plan_unit *unit = NULL;
    for (size_t i = 0; i < plan->units_count && unit == NULL; i++)
        if (!plan->units[i].used && !plan->units[i].admitted)
            unit = &plan->units[i];
    bool fits = plan->on && plan->age < plan->end && unit != NULL && flow_is_previous(flow, peer) &&
                sink < flow->config.sinks_max &&
                plan_find_in(flow, peer->id, message->flow) == NULL &&
                plan_get_toll(flow, plan->price_us, plan_get_room(flow)) <=
                    message->cost_us + plan_get_press(flow);
    if (fits)
        *unit = (struct plan_unit){.used = true,
                                   .sink = sink,
                                   .in = {peer->id, message->flow},
                                   .out = plan_no_hop,
                                   .ask = plan_no_hop};
    answer(flow, peer, fits ? FLOW_MESSAGE_PLAN_TAKE : FLOW_MESSAGE_PLAN_REFUSE, message->flow);
    if (fits)
        improve(flow, unit);
    plan_gather_news(flow);
}

static void take_answer(gwtf_flow *flow, struct flow_peer *peer,
                        const struct gwtf_flow_message *message) {
    struct plan_unit *unit = NULL;
    for (size_t i = 0; i < flow->plan->units_count && unit == NULL; i++)
        if (flow->plan->units[i].ask.peer == peer->id &&
            flow->plan->units[i].ask.id == message->token)
            unit = &flow->plan->units[i];
    struct plan_peer *known = plan_get_peer(flow, peer);
    if (known->expect > 0)
        known->expect--;
    plan_take_price(flow, peer, message);
    if (unit == NULL)
        return;
    struct plan_hop taken = unit->ask;
    unit->ask = plan_no_hop;
    if (message->kind == FLOW_MESSAGE_PLAN_REFUSE) {
        unit->refusals++;
        improve(flow, unit);
        return;
    }
    if (unit->out.peer != GWTF_NODE_NONE)
        plan_send_drop(flow, &unit->out);
    unit->out = taken;
    unit->used = true;
    plan_gather_news(flow);
}

/* To UNIT, which ends, in exchange for its own. */
static void give_dearest_tail(gwtf_flow *flow, struct plan_unit *unit) {
    int64_t stay_us;
    struct plan_unit *dearest = plan_find_dearest(flow, unit->sink, unit->in.peer, &stay_us);
    if (unit->out.peer == GWTF_NODE_NONE || dearest == NULL || dearest->admitted ||
        dearest->ask.peer != GWTF_NODE_NONE)
        return;
    struct plan_hop tail = unit->out;
    unit->out = dearest->out;
    dearest->out = tail;
}

static void take_drop(gwtf_flow *flow, struct flow_peer *peer,
                      const struct gwtf_flow_message *message) {
    struct plan_unit *unit = plan_find_in(flow, peer->id, message->flow);
    if (unit != NULL) {
        give_dearest_tail(flow, unit);
        plan_release(flow, unit);
        return;
    }
    for (size_t i = 0; i < flow->plan->units_count; i++) {
        unit = &flow->plan->units[i];
        if (unit->out.peer != peer->id || unit->out.id != message->flow)
            continue;
        unit->out = plan_no_hop;
        unit->used = unit->in.peer != GWTF_NODE_NONE;
        improve(flow, unit);
    }
}

void flow_plan_take(gwtf_flow *flow, struct flow_peer *peer,
                    const struct gwtf_flow_message *message) {
    switch (message->kind) {
    case FLOW_MESSAGE_PLAN_FIGURES:
        plan_take_figures(flow, peer, message);
        break;
    case FLOW_MESSAGE_PLAN_ASK:
        take_ask(flow, peer, message);
        break;
    case FLOW_MESSAGE_PLAN_TAKE:
    case FLOW_MESSAGE_PLAN_REFUSE:
        take_answer(flow, peer, message);
        break;
    case FLOW_MESSAGE_PLAN_DROP:
        take_drop(flow, peer, message);
        break;
    case FLOW_MESSAGE_PLAN_OVER:
        take_over(flow);
        break;
    default:
        plan_take_admit(flow, peer, message);
        break;
    }
}

bool flow_plan_shares(const gwtf_flow *flow, const struct flow_peer *peer) {
    const struct flow_plan *plan = flow->plan;
    for (size_t i = 0; i < plan->units_count; i++) {
        const struct plan_unit *unit = &plan->units[i];
        if (unit->in.peer == peer->id || unit->out.peer == peer->id || unit->ask.peer == peer->id)
            return true;
    }
    return false;
}

void flow_plan_lose_peer(gwtf_flow *flow, const struct flow_peer *peer) {
    struct flow_plan *plan = flow->plan;
    struct plan_peer *known = plan_get_peer(flow, peer);
    *known = (struct plan_peer){.figures = known->figures};
    for (uint32_t sink = 0; sink < flow->config.sinks_max; sink++)
        known->figures[sink] = plan_no_figures;
    for (size_t i = 0; i < plan->units_count; i++) {
        struct plan_unit *unit = &plan->units[i];
        if (unit->ask.peer == peer->id)
            unit->ask = plan_no_hop;
        if (unit->out.peer == peer->id)
            unit->out = plan_no_hop;
        if (unit->used && unit->in.peer == peer->id)
            plan_release(flow, unit);
        else if (plan_is_data(flow) && unit->out.peer == GWTF_NODE_NONE)
            unit->used = false;
    }
}

static void flush_drops(gwtf_flow *flow) {
    struct flow_plan *plan = flow->plan;
    size_t count = plan->drops_count;
    plan->drops_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct plan_hop hop = plan->drops[i];
        plan_send_drop(flow, &hop);
    }
}

void flow_plan_advance(gwtf_flow *flow) {
    struct flow_plan *plan = flow->plan;
    /* Relays begin; before they have flows the clock would run in vain. */
    if (!plan->on && flow->sinks_count > 1 && flow_reserved(flow, FLOW_ROLE_RELAY) > 0)
        plan_start(flow);
    if (!plan->on)
        return;
    flush_drops(flow);
    if (plan->sweep_at_us <= flow->now_us)
        sweep(flow);
    if (plan->tell_at_us <= flow->now_us && plan->age < plan->end)
        plan_tell(flow);
    if (plan->age >= plan->end && plan_is_data(flow) && !plan->begun)
        plan_begin_admission(flow);
    if (plan->age >= plan->end)
        plan_pass_admissions(flow);
}

gwtf_time_us flow_plan_deadline(const gwtf_flow *flow) {
    const struct flow_plan *plan = flow->plan;
    if (!plan->on)
        return GWTF_TIME_NEVER;
    return plan->age < plan->end ? flow_earlier(plan->sweep_at_us, plan->tell_at_us)
                                 : plan->sweep_at_us;
}

const char *flow_plan_find_fault(const gwtf_flow *flow) {
    const struct flow_plan *plan = flow->plan;
    if (plan->price_us < 0 || plan->drops_count > plan->drops_max)
        return "a plan's figures are out of their bounds";
    for (size_t i = 0; i < plan->units_count; i++) {
        const struct plan_unit *unit = &plan->units[i];
        const gwtf_node_id peers[] = {unit->in.peer, unit->out.peer, unit->ask.peer};
        for (size_t j = 0; j < 3; j++)
            if (peers[j] != GWTF_NODE_NONE && flow_find_peer(flow, peers[j]) == NULL)
                return "a planned flow is shared with a node that is no neighbour";
        if (flow->config.stage != 0 && unit->used != (unit->in.peer != GWTF_NODE_NONE))
            return "a relay plans a flow that comes from nowhere";
        if (unit->used && unit->sink >= flow->sinks_count)
            return "a planned flow has no sink";
    }
    return NULL;
}
