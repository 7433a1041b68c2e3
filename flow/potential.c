#include "flow/potential.h"

#include "flow/link.h"
#include "flow/table.h"

/* Changes within this part of a retry time are told together. */
#define TELL_PARTS 3
/* The grain starts at the mean cost of a link and is halved in every half tick without news, down
 * to this part of it; the last step is to 1. */
#define GRAIN_PARTS 128
#define REFINE_PARTS 2
/* Potentials of a node have come to rest when none was lowered for so many ticks. From then on a
 * change is told at once as long as it is worth the way: more than the mean cost of a link, halved
 * for each hop that is left of so many; what is less is told after some ticks, when what is near
 * has been settled. */
#define REST_TICKS 12
#define NEAR_HOPS 6
#define LATE_TICKS 8
/* What has waited so is in no hurry, but on its way: more hops than there are near, fewer ticks. */
#define LATE_HOPS 32
#define NEXT_TICKS 2
/* A trail tells about one change: what is older does not belong to it. */
#define TRAIL_TICKS 16
#define TRAIL_TICKS_MORE 2
#define LONG_AGO_US (INT64_MIN / 2)

void flow_schedule_tell(gwtf_flow *flow) {
    gwtf_time_us soon_us = flow->now_us + flow->config.retry_us / TELL_PARTS;
    if (flow->tell_at_us > soon_us)
        flow->tell_at_us = soon_us;
}

static void note_rest(gwtf_flow *flow) {
    int64_t rest_us = REST_TICKS * flow->config.tick_us;
    if (flow->grain_us == 1 && flow->refine_at_us == GWTF_TIME_NEVER &&
        flow->now_us - flow->calm_at_us > rest_us && flow->now_us - flow->lowered_us > rest_us)
        flow->settled = true;
}

void flow_note_unrest(gwtf_flow *flow) {
    note_rest(flow);
    /* What starts here from now on is another change. */
    for (uint32_t sink = 0; sink < flow->sinks_count; sink++) {
        flow->potentials[sink].in.trail.since_us = LONG_AGO_US;
        flow->potentials[sink].out.trail.since_us = LONG_AGO_US;
    }
    flow->calm_at_us = flow->now_us + flow->config.tick_us;
    flow->refine_at_us = flow->calm_at_us + flow->config.tick_us / REFINE_PARTS;
    flow->grain_us = flow_mean_link(flow) + 1;
    flow->balances = 0;
    flow_schedule_tell(flow);
}

void flow_refine(gwtf_flow *flow) {
    if (flow->now_us < flow->refine_at_us || flow->now_us < flow->calm_at_us)
        return;
    flow->grain_us /= 2;
    bool fine = flow->grain_us <= 1 || flow->grain_us < flow_mean_link(flow) / GRAIN_PARTS;
    if (fine)
        flow->grain_us = 1;
    flow->refine_at_us =
        fine ? GWTF_TIME_NEVER : flow->now_us + flow->config.tick_us / REFINE_PARTS;
    flow_schedule_tell(flow);
}

static bool is_own(const gwtf_flow *flow, uint32_t sink) {
    return flow->config.stage != 0 || flow->sinks[sink] == flow->config.self;
}

struct flow_slot *flow_find_outflow(const gwtf_flow *flow, uint32_t sink, gwtf_node_id peer) {
    for (size_t i = 0; i < flow->slots_count; i++) {
        struct flow_slot *slot = &flow->slots[i];
        if (slot->out.state == FLOW_END_HELD && slot->out.peer == peer && slot->sink == sink &&
            !slot->held && !slot->out_locked)
            return slot;
    }
    return NULL;
}

/* As flow_find_outflow, but a search may hold it: its end is near. */
static bool has_outflow(const gwtf_flow *flow, uint32_t sink, gwtf_node_id peer) {
    for (size_t i = 0; i < flow->slots_count; i++) {
        const struct flow_slot *slot = &flow->slots[i];
        if (slot->out.state == FLOW_END_HELD && slot->out.peer == peer && slot->sink == sink)
            return true;
    }
    return false;
}

static bool has_inflow(const gwtf_flow *flow, uint32_t sink, gwtf_node_id peer) {
    for (size_t i = 0; i < flow->slots_count; i++) {
        const struct flow_slot *slot = &flow->slots[i];
        if (slot->in.state == FLOW_END_HELD && slot->sink == sink && slot->in.peer == peer)
            return true;
    }
    return false;
}

/* HELD: capacity that a search holds counts as unused. */
static bool has_spare(const gwtf_flow *flow, uint32_t sink, bool held) {
    bool data = flow->config.stage == 0;
    uint32_t first = flow_reserved(flow, data ? FLOW_ROLE_SOURCE : FLOW_ROLE_RELAY);
    uint32_t second = data ? flow_reserved(flow, FLOW_ROLE_SINK) : first;
    for (size_t i = 0; held && i < flow->slots_count; i++) {
        const struct flow_slot *slot = &flow->slots[i];
        bool unused = slot->held && !flow_end_is_live(&slot->in) && !flow_end_is_live(&slot->out);
        first -= unused && slot->role != FLOW_ROLE_SINK;
        second -= unused && slot->role != FLOW_ROLE_SOURCE;
    }
    return is_own(flow, sink) && first < flow->capacity && second < flow->capacity;
}

bool flow_has_spare(const gwtf_flow *flow, uint32_t sink) {
    return has_spare(flow, sink, false);
}

/* Is there a flow whose capacity could be freed? A data node never gives up a flow for nothing. */
static bool has_used(const gwtf_flow *flow, uint32_t sink) {
    for (size_t i = 0; i < flow->slots_count && flow->config.stage != 0; i++)
        if (flow->slots[i].sink == sink && flow_slot_is_complete(&flow->slots[i]))
            return true;
    return false;
}

static struct flow_trail get_trail(gwtf_node_id node) {
    uint64_t random = gwtf_random_at(node, 0);
    return (struct flow_trail){
        .words = {(uint64_t)1 << random % 64, (uint64_t)1 << random / 64 % 64}};
}

/* The nodes that it names have passed on another change than what is told now. */
static bool trail_is_old(const gwtf_flow *flow, const struct flow_trail *trail) {
    int64_t ticks = trail->hops == FLOW_HOPS_ALL ? TRAIL_TICKS_MORE : TRAIL_TICKS;
    return flow->settled && flow->now_us - trail->since_us > ticks * flow->config.tick_us;
}

/* The trail of a value that VERTEX gets from PEER by ARC, where it was heard with TRAIL. */
static struct flow_trail extend(const gwtf_flow *flow, const struct flow_trail *trail,
                                enum flow_arc arc, gwtf_node_id peer) {
    struct flow_trail longer = *trail;
    if (trail_is_old(flow, trail))
        longer = get_trail(arc == FLOW_ARC_INSIDE ? flow->config.self : peer);
    longer.since_us = flow->now_us;
    bool changed = flow->now_us - flow->calm_at_us < TRAIL_TICKS * flow->config.tick_us;
    if (longer.hops == FLOW_HOPS_ALL)
        return longer;
    if (arc != FLOW_ARC_INSIDE)
        longer.hops++;
    else if (changed)
        longer.hops = 0; /* the arc may be there since a short while: a change of its own */
    return longer;
}

static void lower(gwtf_flow *flow, uint32_t sink, struct flow_vertex *vertex, int64_t value_us,
                  enum flow_arc arc, gwtf_node_id peer, const struct flow_trail *trail) {
    if (value_us >= vertex->value_us)
        return;
    bool more = vertex->value_us - value_us > FLOW_WORTH_US / 2;
    vertex->value_us = value_us;
    vertex->arc = arc;
    vertex->peer = peer;
    vertex->trail = extend(flow, trail, arc, peer);
    if (more && flow->settled)
        vertex->trail.hops = FLOW_HOPS_ALL;
    flow->lowered_us = flow->now_us;
    /* Where everything is news, trails are long: the fewer nodes they name the better. */
    if (arc == FLOW_ARC_MORE || (arc == FLOW_ARC_LESS && flow->settled)) {
        struct flow_trail own = get_trail(flow->config.self);
        if (arc == FLOW_ARC_MORE)
            flow->potentials[sink].looped |= (vertex->trail.words[0] & own.words[0]) != 0 &&
                                             (vertex->trail.words[1] & own.words[1]) != 0;
        vertex->trail.words[0] |= own.words[0];
        vertex->trail.words[1] |= own.words[1];
    }
    flow_schedule_tell(flow);
    if (flow->refine_at_us != GWTF_TIME_NEVER)
        flow->refine_at_us = flow->now_us + flow->config.tick_us / REFINE_PARTS;
}

/* A potential is 0 at most, before anything was said of it. */
static int64_t get_known(int64_t potential_us) {
    return potential_us == FLOW_COST_NONE ? 0 : potential_us;
}

/* By taking a flow back from PEER. */
static int64_t get_less_value(const struct flow_peer *peer, uint32_t sink) {
    return get_known(peer->figures[sink].potential_up_us) - peer->link_us;
}

static void relax_outside(gwtf_flow *flow, uint32_t sink) {
    struct flow_potential *potential = &flow->potentials[sink];
    for (size_t i = 0; i < flow->peers_count; i++) {
        const struct flow_peer *peer = &flow->peers[i];
        if (peer->id == GWTF_NODE_NONE || peer->peer_session == 0)
            continue;
        const struct flow_figures *figures = &peer->figures[sink];
        if (figures->potential_down_us != FLOW_COST_NONE)
            lower(flow, sink, &potential->in, figures->potential_down_us, FLOW_ARC_MORE, peer->id,
                  &figures->trail_down);
        if (peer->link_us != FLOW_COST_NONE &&
            get_less_value(peer, sink) < potential->out.value_us &&
            has_outflow(flow, sink, peer->id))
            lower(flow, sink, &potential->out, get_less_value(peer, sink), FLOW_ARC_LESS, peer->id,
                  &figures->trail_up);
    }
}

static bool arc_is_there(const gwtf_flow *flow, uint32_t sink, const struct flow_vertex *vertex,
                         bool inner) {
    const struct flow_peer *peer = flow_find_peer(flow, vertex->peer);
    switch (vertex->arc) {
    case FLOW_ARC_NONE:
        return true;
    case FLOW_ARC_INSIDE:
        return inner ? has_used(flow, sink) : has_spare(flow, sink, true);
    case FLOW_ARC_MORE:
        return peer != NULL && peer->figures[sink].potential_down_us <= vertex->value_us;
    case FLOW_ARC_LESS:
        return peer != NULL && has_outflow(flow, sink, peer->id) &&
               get_less_value(peer, sink) <= vertex->value_us;
    }
    return false;
}

static void relax_sink(gwtf_flow *flow, uint32_t sink) {
    struct flow_potential *potential = &flow->potentials[sink];
    struct flow_vertex *in = &potential->in, *out = &potential->out;
    if (!arc_is_there(flow, sink, in, true))
        in->arc = FLOW_ARC_NONE;
    if (!arc_is_there(flow, sink, out, false))
        out->arc = FLOW_ARC_NONE;
    relax_outside(flow, sink);
    int64_t worth_us = flow->config.stage == 0 ? FLOW_WORTH_US : 0;
    if (in->value_us - worth_us < out->value_us && has_spare(flow, sink, true))
        lower(flow, sink, out, in->value_us - worth_us, FLOW_ARC_INSIDE, GWTF_NODE_NONE,
              &in->trail);
    if (out->value_us < in->value_us && has_used(flow, sink))
        lower(flow, sink, in, out->value_us, FLOW_ARC_INSIDE, GWTF_NODE_NONE, &out->trail);
}

void flow_relax(gwtf_flow *flow, bool all) {
    if (flow->now_us < flow->calm_at_us)
        return;
    note_rest(flow);
    for (uint32_t sink = 0; sink < flow->sinks_count; sink++) {
        if (is_own(flow, sink) && (all || flow->potentials[sink].stirred))
            relax_sink(flow, sink);
        flow->potentials[sink].stirred = false;
    }
}

static bool tell(gwtf_flow *flow, struct flow_peer *peer, uint32_t sink,
                 enum flow_message_kind kind, const struct flow_vertex *vertex) {
    if (!flow_link_has_room(peer))
        return false;
    bool down = kind == FLOW_MESSAGE_POTENTIAL_DOWN;
    struct flow_trail trail = vertex->trail;
    if (trail_is_old(flow, &trail))
        trail = get_trail(flow->config.self);
    else if (trail.since_us + LATE_TICKS * flow->config.tick_us <= flow->now_us &&
             trail.hops < LATE_HOPS && flow->settled)
        trail.hops = LATE_HOPS;
    struct gwtf_flow_message body = {.kind = kind,
                                     .sink = flow->sinks[sink],
                                     .flow = trail.words[0],
                                     .token = trail.words[1],
                                     .count = trail.hops,
                                     .other_cost_us =
                                         vertex->value_us + (down ? peer->link_us : 0)};
    flow_link_send(flow, peer, &body);
    struct flow_figures *figures = &peer->figures[sink];
    *(down ? &figures->told_down_us : &figures->told_up_us) = body.other_cost_us;
    return true;
}

/* Is it worth telling at once, so far from where it comes from? */
static bool is_worth_the_way(const struct flow_trail *trail, int64_t gain_us, int64_t mean_us) {
    if (trail->hops == FLOW_HOPS_ALL)
        return true;
    if (trail->hops <= NEAR_HOPS)
        return gain_us >= mean_us >> (NEAR_HOPS - trail->hops);
    uint32_t beyond = trail->hops - NEAR_HOPS;
    return beyond < 63 && gain_us >> beyond >= mean_us;
}

/* When the value of VERTEX, by GAIN_US lower than what the peer knows, is told to it. */
static gwtf_time_us get_time(const gwtf_flow *flow, const struct flow_vertex *vertex,
                             int64_t gain_us, int64_t mean_us) {
    if (gain_us < flow->grain_us)
        return GWTF_TIME_NEVER;
    if (!flow->settled || is_worth_the_way(&vertex->trail, gain_us, mean_us))
        return flow->now_us;
    int64_t ticks = vertex->trail.hops < LATE_HOPS ? LATE_TICKS : NEXT_TICKS;
    return vertex->trail.since_us + ticks * flow->config.tick_us;
}

/* When there is something to be told, after what is told now. */
static gwtf_time_us tell_peer(gwtf_flow *flow, struct flow_peer *peer, uint32_t sink,
                              int64_t mean_us) {
    const struct flow_potential *potential = &flow->potentials[sink];
    const struct flow_figures *figures = &peer->figures[sink];
    gwtf_time_us soon_us = flow->now_us + flow->config.retry_us / TELL_PARTS;
    gwtf_time_us down_us = GWTF_TIME_NEVER, up_us = GWTF_TIME_NEVER;
    if (flow_is_usable(flow, peer) && (peer->stage != 0 || peer->id == flow->sinks[sink])) {
        int64_t value_us = potential->out.value_us + peer->link_us;
        bool rose = figures->told_down_us != FLOW_COST_NONE && value_us > figures->told_down_us;
        int64_t known_us = flow_earlier(figures->told_down_us, get_known(figures->potential_up_us));
        down_us =
            rose ? flow->now_us : get_time(flow, &potential->out, known_us - value_us, mean_us);
    }
    if (flow_is_previous(flow, peer) && peer->peer_session != 0) {
        int64_t value_us = potential->in.value_us, told_us = get_known(figures->told_up_us);
        if (value_us > told_us)
            up_us = flow->now_us;
        else if (value_us < told_us && has_inflow(flow, sink, peer->id))
            up_us = get_time(flow, &potential->in, told_us - value_us, mean_us);
    }
    if (down_us <= flow->now_us)
        down_us = tell(flow, peer, sink, FLOW_MESSAGE_POTENTIAL_DOWN, &potential->out)
                      ? GWTF_TIME_NEVER
                      : soon_us;
    if (up_us <= flow->now_us)
        up_us = tell(flow, peer, sink, FLOW_MESSAGE_POTENTIAL_UP, &potential->in) ? GWTF_TIME_NEVER
                                                                                  : soon_us;
    return flow_earlier(down_us, up_us);
}

/* While a cycle through this node is being looked for or changed, telling would only make it go
 * on lowering its vertices. */
static bool is_in_search(const gwtf_flow *flow, uint32_t sink) {
    if (flow->potentials[sink].scanned_until_us > flow->now_us)
        return true;
    for (size_t i = 0; i < FLOW_VISITS_MAX; i++)
        if (flow->visits[i].kind != FLOW_VISIT_NONE && flow->visits[i].sink == sink)
            return true;
    return false;
}

void flow_tell_potentials(gwtf_flow *flow) {
    if (flow->now_us < flow->tell_at_us || flow->now_us < flow->calm_at_us)
        return;
    gwtf_time_us next_us = GWTF_TIME_NEVER;
    int64_t mean_us = flow_mean_link(flow);
    for (uint32_t sink = 0; sink < flow->sinks_count; sink++) {
        if (!is_own(flow, sink))
            continue;
        bool waits = is_in_search(flow, sink);
        if (waits)
            next_us = flow_earlier(next_us, flow->now_us + flow->config.retry_us / TELL_PARTS);
        for (size_t i = 0; i < flow->peers_count && !waits; i++)
            if (flow->peers[i].id != GWTF_NODE_NONE)
                next_us = flow_earlier(next_us, tell_peer(flow, &flow->peers[i], sink, mean_us));
    }
    flow->tell_at_us = next_us;
}

void flow_take_potential(gwtf_flow *flow, struct flow_peer *peer,
                         const struct gwtf_flow_message *message) {
    const struct flow_trail trail = {.words = {message->flow, message->token},
                                     .hops = message->count < FLOW_HOPS_ALL ? message->count
                                                                            : FLOW_HOPS_ALL,
                                     .since_us = flow->now_us};
    uint32_t sink = flow_sink_index(flow, message->sink);
    if (sink == flow->config.sinks_max || !is_own(flow, sink))
        return;
    flow->potentials[sink].stirred = true;
    if (message->kind == FLOW_MESSAGE_POTENTIAL_DOWN && flow_is_previous(flow, peer)) {
        struct flow_figures *figures = &peer->figures[sink];
        figures->potential_down_us = message->other_cost_us;
        figures->trail_down = trail;
        /* Said in vain: when the sender knows why, it does not do so again. */
        int64_t value_us = flow->potentials[sink].in.value_us;
        if (message->other_cost_us >= value_us + flow->grain_us &&
            get_known(figures->told_up_us) >= value_us + flow->grain_us)
            (void)tell(flow, peer, sink, FLOW_MESSAGE_POTENTIAL_UP, &flow->potentials[sink].in);
    }
    if (message->kind == FLOW_MESSAGE_POTENTIAL_UP && flow_is_next(flow, peer)) {
        peer->figures[sink].potential_up_us = message->other_cost_us;
        peer->figures[sink].trail_up = trail;
    }
}

gwtf_time_us flow_potential_deadline(const gwtf_flow *flow) {
    if (flow->now_us < flow->calm_at_us)
        return flow->calm_at_us;
    return flow->tell_at_us < flow->refine_at_us ? flow->tell_at_us : flow->refine_at_us;
}
