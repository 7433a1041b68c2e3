#include "flow/plan_state.h"

#include "flow/link.h"
#include "flow/table.h"

#include <stdlib.h>

/* Thousandths of the scale, or of what they change: what is told, of figures and of the limit;
 * growth of the limit in a sweep; the first limit, of the cost without prices. */
#define NEWS_LEAST 12
#define LIMIT_NEWS 10
#define LIMIT_GROWTH 1080
#define LIMIT_START 2000
/* Above it a figure from a peer is damage. */
#define LIMIT_MOST ((int64_t)1 << 50)
/* A price whose node stays too full, or too empty, for so many sweeps moves at twice the step, then
 * at three times, up to the most. */
#define STREAK 3
#define STREAK_MOST 20
#define OVER_MOST 3
#define CAPACITY_MOST 4

bool plan_is_over(const struct flow_plan *plan) {
    return plan->on && plan->age >= plan->end + AGE_REST;
}

bool plan_is_data(const gwtf_flow *flow) {
    return flow->config.stage == 0;
}

int64_t plan_part_of(int64_t value, int64_t thousandths) {
    return value / 1000 * thousandths + value % 1000 * thousandths / 1000;
}

int64_t plan_get_scale(const gwtf_flow *flow) {
    return flow->plan->limit_us / (flow->config.stages + 1);
}

int64_t plan_get_press(const gwtf_flow *flow) {
    return plan_part_of(plan_get_scale(flow), flow->plan->press / 1000) + 1;
}

struct plan_peer *plan_get_peer(const gwtf_flow *flow, const struct flow_peer *peer) {
    return &flow->plan->peers[peer - flow->peers];
}

static int32_t count_planned(const gwtf_flow *flow) {
    int32_t count = 0;
    for (size_t i = 0; i < flow->plan->units_count; i++)
        count += flow->plan->units[i].used;
    return count;
}

int32_t plan_get_room(const gwtf_flow *flow) {
    return (int32_t)flow->capacity - count_planned(flow);
}

int64_t plan_get_toll(const gwtf_flow *flow, int64_t price_us, int32_t room) {
    return room >= 1 ? price_us : price_us + plan_get_press(flow) * (1 - room);
}

/* One more flow to SINK over PEER: link, toll and the way on; FLOW_COST_NONE: not possible. */
static int64_t get_enter(const gwtf_flow *flow, const struct flow_peer *peer, uint32_t sink) {
    if (!flow_is_usable(flow, peer) || (peer->stage == 0 && peer->id != flow->sinks[sink]))
        return FLOW_COST_NONE;
    if (peer->stage == 0)
        return peer->link_us;
    const struct plan_peer *known = plan_get_peer(flow, peer);
    int64_t on_us = known->figures[sink].enter_us;
    if (on_us == FLOW_COST_NONE)
        return FLOW_COST_NONE;
    return peer->link_us + plan_get_toll(flow, known->price_us, known->room - known->expect) +
           on_us;
}

/* The same for a flow that is planned over PEER. */
int64_t plan_get_stay(const gwtf_flow *flow, const struct flow_peer *peer, uint32_t sink) {
    if (!flow_is_usable(flow, peer))
        return FLOW_COST_NONE;
    if (peer->stage == 0)
        return peer->link_us;
    const struct plan_peer *known = plan_get_peer(flow, peer);
    int64_t on_us = known->figures[sink].stay_us;
    if (on_us == FLOW_COST_NONE)
        return FLOW_COST_NONE;
    return peer->link_us + plan_get_toll(flow, known->price_us, known->room + 1) + on_us;
}

struct flow_peer *plan_choose(const gwtf_flow *flow, uint32_t sink, int64_t *cost_us) {
    struct flow_peer *best = NULL;
    *cost_us = FLOW_COST_NONE;
    for (size_t i = 0; i < flow->peers_count; i++) {
        int64_t enter_us = get_enter(flow, &flow->peers[i], sink);
        if (enter_us < *cost_us ||
            (best != NULL && enter_us == *cost_us && flow->peers[i].id < best->id)) {
            *cost_us = enter_us;
            best = &flow->peers[i];
        }
    }
    return best;
}

void plan_gather_news(gwtf_flow *flow) {
    struct flow_plan *plan = flow->plan;
    if (plan->tell_at_us == GWTF_TIME_NEVER)
        plan->tell_at_us = flow->now_us + flow->config.tick_us / SWEEPS / GATHER_PARTS;
}

void plan_move_price(gwtf_flow *flow) {
    struct flow_plan *plan = flow->plan;
    int32_t over = -plan_get_room(flow);
    if (over > 0)
        plan->streak = plan->streak > 0 ? plan->streak + 1 : 1;
    else if (over < 0 && plan->price_us > 0)
        plan->streak = plan->streak < 0 ? plan->streak - 1 : -1;
    else
        plan->streak = 0;
    int32_t times = 1 + abs(plan->streak) / STREAK;
    if (times > STREAK_MOST)
        times = STREAK_MOST;
    if (over > OVER_MOST)
        over = OVER_MOST;
    if (over < -OVER_MOST)
        over = -OVER_MOST;
    int64_t capacity = flow->capacity < CAPACITY_MOST ? flow->capacity : CAPACITY_MOST;
    if (capacity < 1)
        capacity = 1;
    plan->price_us +=
        plan_part_of(plan_get_scale(flow) * times * over / capacity, plan->step) / 1000;
    if (plan->price_us < 0)
        plan->price_us = 0;
}

void plan_raise_limit(gwtf_flow *flow, bool waits) {
    struct flow_plan *plan = flow->plan;
    int64_t cost_us;
    if (plan->limit_us == 0 && plan->age >= AGE_START) {
        if (plan_choose(flow, 0, &cost_us) != NULL)
            plan->limit_us = plan_part_of(cost_us, LIMIT_START);
    } else if (plan->age < plan->end / RAMP_PARTS && waits) {
        plan->limit_us = plan_part_of(plan->limit_us, LIMIT_GROWTH);
    }
}

struct plan_unit *plan_find_dearest(const gwtf_flow *flow, uint32_t sink, gwtf_node_id from,
                                    int64_t *stay_us) {
    struct plan_unit *dearest = NULL;
    for (size_t i = 0; i < flow->plan->units_count; i++) {
        struct plan_unit *unit = &flow->plan->units[i];
        if (!unit->used || unit->sink != sink || unit->in.peer != from)
            continue;
        const struct flow_peer *out = flow_find_peer(flow, unit->out.peer);
        int64_t cost_us = out != NULL ? plan_get_stay(flow, out, sink) : FLOW_COST_NONE;
        if (cost_us == FLOW_COST_NONE || (dearest != NULL && cost_us <= *stay_us))
            continue;
        dearest = unit;
        *stay_us = cost_us;
    }
    return dearest;
}

static bool differs(int64_t a, int64_t b, int64_t least) {
    if (a == FLOW_COST_NONE || b == FLOW_COST_NONE)
        return a != b;
    return a - b > least || b - a > least;
}

/* With the toll here, as a previous hop adds it. */
static int64_t add_toll(const gwtf_flow *flow, int64_t cost_us, int32_t room) {
    return cost_us == FLOW_COST_NONE ? cost_us
                                     : cost_us + plan_get_toll(flow, flow->plan->price_us, room);
}

/* False: it is news, but there is no room for a message. */
static bool tell_peer(gwtf_flow *flow, struct flow_peer *peer, uint32_t sink, int64_t enter_us) {
    struct flow_plan *plan = flow->plan;
    struct plan_peer *known = plan_get_peer(flow, peer);
    struct plan_figures *told = &known->figures[sink];
    bool data = plan_is_data(flow);
    int32_t room = data ? 1 : plan_get_room(flow);
    int64_t stay_us = enter_us;
    if (!data)
        plan_find_dearest(flow, sink, peer->id, &stay_us);
    int64_t enter_all = add_toll(flow, enter_us, room);
    int64_t stay_all = add_toll(flow, stay_us, room + 1);
    int64_t least = plan_part_of(plan_get_scale(flow), NEWS_LEAST);
    if (!differs(enter_all, told->told_enter_us, least) &&
        !differs(stay_all, told->told_stay_us, least) &&
        plan->limit_us <= known->told_limit_us + plan_part_of(plan->limit_us, LIMIT_NEWS))
        return true;
    if (!flow_link_has_room(peer))
        return false;
    struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_PLAN_FIGURES,
                                     .sink = flow->sinks[sink],
                                     .cost_us = enter_us,
                                     .other_cost_us = stay_us,
                                     .flow = (uint64_t)plan->price_us,
                                     .token = (uint64_t)plan->limit_us,
                                     .count = (uint32_t)room,
                                     .limit = plan->end << AGE_BITS | plan->age};
    flow_link_send(flow, peer, &body);
    known->told_limit_us = plan->limit_us;
    told->told_enter_us = enter_all;
    told->told_stay_us = stay_all;
    return true;
}

static void tell_sink(gwtf_flow *flow, uint32_t sink) {
    int64_t enter_us = 0;
    if (!plan_is_data(flow))
        plan_choose(flow, sink, &enter_us);
    for (size_t i = 0; i < flow->peers_count; i++) {
        struct flow_peer *peer = &flow->peers[i];
        if (peer->id == GWTF_NODE_NONE || !flow_is_previous(flow, peer) ||
            (peer->stage == 0 && peer->id != flow->sinks[sink]))
            continue;
        if (!tell_peer(flow, peer, sink, enter_us))
            plan_gather_news(flow);
    }
}

void plan_tell(gwtf_flow *flow) {
    flow->plan->tell_at_us = GWTF_TIME_NEVER;
    for (uint32_t sink = 0; sink < flow->sinks_count; sink++)
        if (!plan_is_data(flow) || flow->sinks[sink] == flow->config.self)
            tell_sink(flow, sink);
}

void plan_take_price(gwtf_flow *flow, const struct flow_peer *peer,
                     const struct gwtf_flow_message *message) {
    struct plan_peer *known = plan_get_peer(flow, peer);
    if (message->flow <= LIMIT_MOST)
        known->price_us = (int64_t)message->flow;
    known->room = (int32_t)message->count;
}

void plan_send_over(gwtf_flow *flow, struct flow_peer *peer) {
    struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_PLAN_OVER};
    if (flow_link_has_room_for_answer(peer))
        flow_link_send(flow, peer, &body);
}

void plan_take_figures(gwtf_flow *flow, struct flow_peer *peer,
                       const struct gwtf_flow_message *message) {
    struct flow_plan *plan = flow->plan;
    uint32_t sink = flow_sink_index(flow, message->sink);
    if (sink == flow->config.sinks_max || !flow_is_next(flow, peer) ||
        (plan_is_data(flow) && sink != 0))
        return;
    if (plan_is_over(plan))
        plan_send_over(flow, peer);
    if ((plan->on && plan->age >= plan->end) || message->flow > LIMIT_MOST ||
        message->token > LIMIT_MOST)
        return;
    plan_start(flow);
    if (!plan->on)
        return;
    plan_take_price(flow, peer, message);
    struct plan_figures *figures = &plan_get_peer(flow, peer)->figures[sink];
    figures->enter_us = message->cost_us;
    figures->stay_us = message->other_cost_us;
    plan_get_peer(flow, peer)->expect = 0;
    uint32_t age = message->limit & AGE_MASK, end = message->limit >> AGE_BITS;
    if (end > AGE_START && end < plan->end)
        plan->end = end;
    if (age > plan->age && age < plan->end)
        plan->age = age;
    if ((int64_t)message->token > plan->limit_us)
        plan->limit_us = (int64_t)message->token;
    plan_gather_news(flow);
}
