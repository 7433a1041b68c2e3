/* Policy gwtf-paper: flows are requested from the sink back and repaired (Blagoev et al., section
 * 4), and then moved by two nodes of a stage at a time (flow/paper.h). */
#include "flow/paper.h"

#include "flow/advertise.h"
#include "flow/link.h"
#include "flow/policy.h"
#include "flow/query.h"
#include "flow/repair.h"
#include "flow/request.h"
#include "flow/table.h"

#include <stdlib.h>

/* How long an outflow without inflow is kept. */
#define IDLE_TICKS 16
/* Moves start when the request flow has made no flow for this part of a tick. */
#define CALM_PARTS 2
#define TEMPERATURE_FIRST 1.7

static bool create(gwtf_flow *flow) {
    struct flow_paper *paper = flow->own = calloc(1, sizeof *paper);
    if (paper == NULL)
        return false;
    paper->temperature = TEMPERATURE_FIRST;
    paper->slots = calloc(flow->slots_count, sizeof *paper->slots);
    paper->peers = calloc(flow->config.neighbours_max, sizeof *paper->peers);
    return paper->slots != NULL && paper->peers != NULL;
}

static void destroy(gwtf_flow *flow) {
    struct flow_paper *paper = paper_of(flow);
    if (paper == NULL)
        return;
    free(paper->slots);
    free(paper->peers);
    free(paper);
}

/* The request flow starts again. */
static void note_news(gwtf_flow *flow) {
    flow->releases_left = FLOW_RELEASES_MAX;
    flow->ask_from_us = flow->now_us;
}

static void note_change(gwtf_flow *flow) {
    paper_of(flow)->calm_at_us = flow->now_us + flow->config.tick_us / CALM_PARTS;
}

static void lose_peer(gwtf_flow *flow, const struct flow_peer *peer) {
    flow_lose_peer(flow, peer);
    paper_expire_moves(flow, peer);
    paper_of(flow)->peers[peer - flow->peers] = (struct paper_peer){false, false, false};
}

static void begin_redirects_anew(gwtf_flow *flow) {
    for (size_t i = 0; i < flow->slots_count; i++)
        paper_of(flow)->slots[i].redirect_peer = paper_of(flow)->slots[i].busy = 0;
}

static void begin_anew(gwtf_flow *flow) {
    begin_redirects_anew(flow);
    for (size_t i = 0; i < flow->slots_count; i++)
        paper_of(flow)->slots[i].change_peer = paper_of(flow)->slots[i].change_try = 0;
}

static void take_link(gwtf_flow *flow, struct flow_peer *peer, int64_t link_us) {
    if (peer->link_us == link_us)
        return;
    flow_set_link(flow, peer, link_us);
    begin_anew(flow);
    for (size_t i = 0; i < flow->peers_count; i++)
        paper_of(flow)->peers[i].told_room = false;
}

static void take_capacity(gwtf_flow *flow) {
    flow_shrink(flow);
    struct paper_move *moves = paper_of(flow)->moves;
    for (size_t i = 0; i < PAPER_MOVES_MAX; i++)
        if (moves[i].kind == PAPER_MOVE_REDIRECT_OFFERED && !moves[i].slot->held)
            paper_end_move(flow, &moves[i], true);
}

static void take_before(gwtf_flow *flow, const struct flow_peer *peer,
                        const struct gwtf_flow_message *message) {
    struct flow_paper *paper = paper_of(flow);
    const struct flow_slot *slot = flow_find_in(flow, peer->id, message->flow);
    if (slot == NULL || message->cost_us == FLOW_COST_NONE)
        return;
    struct paper_slot *beside = &paper->slots[slot - flow->slots];
    beside->before_id = message->flow;
    beside->before_us = message->cost_us;
}

static void take_room(gwtf_flow *flow, const struct flow_peer *peer, bool room) {
    if (!paper_is_replica(flow, peer))
        return;
    paper_of(flow)->peers[peer - flow->peers].room = room;
    if (room)
        begin_redirects_anew(flow);
}

static void take_message(gwtf_flow *flow, struct flow_peer *peer,
                         const struct gwtf_flow_message *message) {
    switch (message->kind) {
    case FLOW_MESSAGE_BEFORE:
        take_before(flow, peer, message);
        break;
    case FLOW_MESSAGE_ROOM:
        take_room(flow, peer, message->count > 0);
        break;
    case FLOW_MESSAGE_MOVE:
        paper_take_move_message(flow, peer, message);
        break;
    case FLOW_MESSAGE_CHANGE_ASK:
    case FLOW_MESSAGE_CHANGE_OFFER:
    case FLOW_MESSAGE_CHANGE_NONE:
    case FLOW_MESSAGE_CHANGE_DECLINE:
    case FLOW_MESSAGE_CHANGE_COMMIT:
        paper_take_change(flow, peer, message);
        break;
    case FLOW_MESSAGE_REDIRECT_ASK:
    case FLOW_MESSAGE_REDIRECT_OFFER:
    case FLOW_MESSAGE_REDIRECT_NONE:
    case FLOW_MESSAGE_REDIRECT_COMMIT:
    case FLOW_MESSAGE_REDIRECT:
    case FLOW_MESSAGE_REDIRECT_YES:
    case FLOW_MESSAGE_REDIRECT_NO:
        paper_take_redirect(flow, peer, message);
        break;
    default:
        (void)flow_take_shared(flow, peer, message);
        break;
    }
}

/* Objective max: tells next hops what their flows have cost so far. */
static void tell_before(gwtf_flow *flow) {
    for (size_t i = 0; i < flow->slots_count; i++) {
        const struct flow_slot *slot = &flow->slots[i];
        struct paper_slot *beside = &paper_of(flow)->slots[i];
        if (slot->out.state != FLOW_END_HELD ||
            (slot->role == FLOW_ROLE_RELAY &&
             (slot->in.state != FLOW_END_HELD || beside->before_id != slot->in.id)))
            continue;
        int64_t cost_us = slot->link_us + (slot->role == FLOW_ROLE_RELAY ? beside->before_us : 0);
        struct flow_peer *next = flow_find_peer(flow, slot->out.peer);
        if ((beside->told_id == slot->out.id && beside->told_us == cost_us) ||
            !flow_link_has_room(next))
            continue;
        struct gwtf_flow_message body = {
            .kind = FLOW_MESSAGE_BEFORE, .flow = slot->out.id, .cost_us = cost_us};
        flow_link_send(flow, next, &body);
        beside->told_id = slot->out.id;
        beside->told_us = cost_us;
    }
}

static void tell_room(gwtf_flow *flow) {
    bool room = paper_has_room(flow);
    for (size_t i = 0; i < flow->peers_count; i++) {
        struct flow_peer *peer = &flow->peers[i];
        struct paper_peer *beside = &paper_of(flow)->peers[i];
        if (!paper_is_replica(flow, peer) || peer->peer_session == 0)
            continue;
        if (!beside->met)
            begin_anew(flow);
        beside->met = true;
        if (beside->told_room == room || !flow_link_has_room(peer))
            continue;
        struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_ROOM, .count = room};
        flow_link_send(flow, peer, &body);
        beside->told_room = room;
    }
}

/* True when SLOT is not what this node has begun to go over. */
static bool has_changed(const gwtf_flow *flow, const struct flow_slot *slot,
                        const struct paper_slot *beside) {
    bool max = flow->config.objective == GWTF_FLOW_OBJECTIVE_MAX;
    return beside->in_id != slot->in.id || beside->out_id != slot->out.id ||
           (max && beside->path_us != paper_path(flow, slot));
}

static bool is_asking(const gwtf_flow *flow) {
    const struct paper_move *moves = paper_of(flow)->moves;
    for (size_t i = 0; i < PAPER_MOVES_MAX; i++)
        if (moves[i].kind == PAPER_MOVE_CHANGE_ASKED ||
            moves[i].kind == PAPER_MOVE_REDIRECT_ASKED ||
            moves[i].kind == PAPER_MOVE_REDIRECT_DECIDING)
            return true;
    return false;
}

/* One question at a time. */
static void begin_move(gwtf_flow *flow) {
    struct flow_paper *paper = paper_of(flow);
    if (flow->now_us < paper->ask_from_us || is_asking(flow))
        return;
    for (size_t i = 0; i < flow->slots_count; i++) {
        struct flow_slot *slot = &flow->slots[i];
        struct paper_slot *beside = &paper->slots[i];
        if (!paper_is_movable(flow, slot))
            continue;
        if (has_changed(flow, slot, beside)) {
            beside->in_id = slot->in.id;
            beside->out_id = slot->out.id;
            beside->path_us = paper_path(flow, slot);
            beside->redirect_peer = beside->change_peer = 0;
            beside->change_try = beside->busy = 0;
        }
        if (paper_begin_redirect(flow, slot) || paper_begin_change(flow, slot))
            return;
    }
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

static void advance(gwtf_flow *flow) {
    paper_expire_moves(flow, NULL);
    flow_repair(flow);
    flow_request_repairs(flow);
    flow_request_new(flow, flow->capacity);
    flow_tell(flow);
    flow_advertise(flow);
    if (flow->config.objective == GWTF_FLOW_OBJECTIVE_MAX)
        tell_before(flow);
    if (flow->now_us < paper_of(flow)->calm_at_us || flow->config.stage == 0)
        return;
    tell_room(flow);
    begin_move(flow);
}

static gwtf_time_us get_deadline(const gwtf_flow *flow) {
    const struct flow_paper *paper = paper_of(flow);
    gwtf_time_us deadline = flow_earlier(flow_repair_deadline(flow), flow_request_deadline(flow));
    if (paper->calm_at_us > flow->now_us)
        deadline = flow_earlier(deadline, paper->calm_at_us);
    if (paper->ask_from_us > flow->now_us)
        deadline = flow_earlier(deadline, paper->ask_from_us);
    for (size_t i = 0; i < PAPER_MOVES_MAX; i++)
        if (paper->moves[i].kind != PAPER_MOVE_NONE)
            deadline = flow_earlier(deadline, paper->moves[i].until_us);
    return deadline;
}

static const char *find_fault(const gwtf_flow *flow) {
    const struct paper_move *moves = paper_of(flow)->moves;
    for (size_t i = 0; i < flow->slots_count; i++) {
        const struct flow_slot *slot = &flow->slots[i];
        uint32_t about = 0;
        for (size_t j = 0; j < PAPER_MOVES_MAX; j++)
            about += moves[j].kind != PAPER_MOVE_NONE && moves[j].slot == slot;
        if (flow_slot_is_locked(slot) && about == 0)
            return "a slot is locked by no search";
        if (about > 1)
            return "two moves are about one slot";
    }
    return NULL;
}

const struct flow_policy flow_policy_paper = {
    .meets_replicas = true,
    .create = create,
    .destroy = destroy,
    .note_news = note_news,
    .lose_peer = lose_peer,
    .take_link = take_link,
    .take_capacity = take_capacity,
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
    .note_change = note_change,
};
