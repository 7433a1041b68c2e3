/* What both moves need: entries and locks, temperature, MOVE. */
#include "flow/paper.h"

#include "flow/link.h"
#include "flow/repair.h"
#include "flow/table.h"

#include <math.h>

/* The authors' prototype. Its costs are uniform in 0..700: the unit of the temperature is this part
 * of a hop's mean cost. */
#define TEMPERATURE_FACTOR 0.95
#define TEMPERATURE_UNITS 350
/* From here on only gains are accepted. */
#define TEMPERATURE_LEAST 0.1
/* Answers that something is locked, before the question is dropped until something changes. */
#define BUSY_MAX 6

struct flow_paper *paper_of(const gwtf_flow *flow) {
    return flow->own;
}

bool paper_is_replica(const gwtf_flow *flow, const struct flow_peer *peer) {
    return peer->id != GWTF_NODE_NONE && flow->config.stage != 0 &&
           peer->stage == flow->config.stage;
}

bool paper_is_movable(const gwtf_flow *flow, const struct flow_slot *slot) {
    return slot->role == FLOW_ROLE_RELAY && flow_slot_is_complete(slot) &&
           !flow_slot_is_locked(slot) && paper_path(flow, slot) != FLOW_COST_NONE;
}

int64_t paper_path(const gwtf_flow *flow, const struct flow_slot *slot) {
    int64_t cost_us = flow_slot_cost(slot);
    if (flow->config.objective == GWTF_FLOW_OBJECTIVE_SUM || cost_us == FLOW_COST_NONE)
        return cost_us;
    const struct paper_slot *beside = &paper_of(flow)->slots[slot - flow->slots];
    if (slot->in.state != FLOW_END_HELD || beside->before_id != slot->in.id)
        return FLOW_COST_NONE;
    return beside->before_us + cost_us;
}

struct paper_move *paper_take_move(gwtf_flow *flow, enum paper_move_kind kind,
                                   struct flow_slot *slot, gwtf_node_id partner) {
    struct paper_move *moves = paper_of(flow)->moves;
    for (size_t i = 0; i < PAPER_MOVES_MAX; i++) {
        if (moves[i].kind != PAPER_MOVE_NONE)
            continue;
        moves[i] =
            (struct paper_move){.kind = kind,
                                .partner = partner,
                                .slot = slot,
                                .in_id = slot->in.id,
                                .out_id = slot->out.id,
                                .next = slot->out.peer,
                                .until_us = flow->now_us + PAPER_LOCK_TICKS * flow->config.tick_us};
        if (kind == PAPER_MOVE_REDIRECT_OFFERED)
            slot->held = true;
        else
            slot->in_locked = slot->out_locked = true;
        return &moves[i];
    }
    return NULL;
}

struct paper_move *paper_find_move(gwtf_flow *flow, enum paper_move_kind kind,
                                   gwtf_node_id partner) {
    struct paper_move *moves = paper_of(flow)->moves;
    for (size_t i = 0; i < PAPER_MOVES_MAX; i++)
        if (moves[i].kind == kind && moves[i].partner == partner)
            return &moves[i];
    return NULL;
}

void paper_unlock(gwtf_flow *flow, struct flow_slot *slot) {
    slot->held = slot->in_locked = slot->out_locked = false;
    slot->patience_at_us = GWTF_TIME_NEVER;
    flow_set_patience(flow, slot);
}

void paper_end_move(gwtf_flow *flow, struct paper_move *move, bool failed) {
    struct flow_slot *slot = move->slot;
    if (move->kind == PAPER_MOVE_REDIRECT_OFFERED) {
        flow_give_up_end(flow, &slot->in);
        if (!failed && slot->in.state == FLOW_END_CLOSING)
            slot->in.state = FLOW_END_NONE;
    } else if (failed) {
        slot->in.verify_due = slot->in.state == FLOW_END_HELD;
        slot->out.verify_due = slot->out.state == FLOW_END_HELD;
    }
    move->kind = PAPER_MOVE_NONE;
    paper_unlock(flow, slot);
}

void paper_leave(gwtf_flow *flow, struct paper_move *move) {
    paper_unlock(flow, move->slot);
    move->kind = PAPER_MOVE_LEFT;
    move->slot = NULL;
    move->until_us = flow->now_us + PAPER_LOCK_TICKS * flow->config.tick_us;
}

int64_t paper_draw_least_gain(gwtf_flow *flow) {
    double temperature = paper_of(flow)->temperature;
    double draw = 1 - gwtf_random_unit(&flow->random);
    if (temperature < TEMPERATURE_LEAST)
        return 0;
    double unit_us = (double)flow_mean_link(flow) / TEMPERATURE_UNITS;
    return (int64_t)(temperature * unit_us * log(draw));
}

void paper_cool(gwtf_flow *flow) {
    paper_of(flow)->temperature *= TEMPERATURE_FACTOR;
}

bool paper_ask_again(gwtf_flow *flow, struct flow_slot *slot) {
    struct flow_paper *paper = paper_of(flow);
    struct paper_slot *beside = &paper->slots[slot - flow->slots];
    if (++beside->busy > BUSY_MAX)
        return false;
    paper->ask_from_us = flow->now_us + (int64_t)gwtf_random_below(
                                            &flow->random, (uint64_t)flow->config.tick_us / 2 + 1);
    return true;
}

bool paper_send(gwtf_flow *flow, gwtf_node_id to, const struct gwtf_flow_message *body) {
    struct flow_peer *peer = flow_find_peer(flow, to);
    if (peer == NULL || !flow_link_has_room_for_answer(peer))
        return false;
    flow_link_send(flow, peer, body);
    return true;
}

void paper_move_out(gwtf_flow *flow, struct flow_slot *slot, struct flow_peer *peer,
                    gwtf_node_id owner, gwtf_flow_id id, int64_t rest_us) {
    slot->out = (struct flow_end){FLOW_END_HELD, peer->id, flow_new_id(flow), false, false};
    slot->link_us = peer->link_us;
    slot->rest_us = rest_us;
    slot->cost_due = slot->in.state == FLOW_END_HELD;
    flow->routes_changed = true;
    struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_MOVE,
                                     .limit = owner,
                                     .flow = id,
                                     .token = slot->out.id,
                                     .cost_us = rest_us};
    flow_link_send(flow, peer, &body);
}

void paper_take_move_message(gwtf_flow *flow, struct flow_peer *peer,
                             const struct gwtf_flow_message *message) {
    struct flow_slot *slot = flow_find_in(flow, message->limit, message->flow);
    if (slot == NULL || !flow_is_previous(flow, peer) ||
        message->token >> 32 != (gwtf_flow_id)peer->id + 1 ||
        flow_find_in(flow, peer->id, message->token) != NULL) {
        struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_CANCEL, .flow = message->token};
        (void)paper_send(flow, peer->id, &body);
        return;
    }
    slot->in = (struct flow_end){FLOW_END_HELD, peer->id, message->token, false, false};
    slot->cost_due = flow_slot_cost(slot) != message->cost_us;
    flow->routes_changed = true;
}

void paper_expire_moves(gwtf_flow *flow, const struct flow_peer *lost) {
    struct paper_move *moves = paper_of(flow)->moves;
    for (size_t i = 0; i < PAPER_MOVES_MAX; i++) {
        struct paper_move *move = &moves[i];
        bool over = lost != NULL ? move->partner == lost->id : move->until_us <= flow->now_us;
        if (move->kind == PAPER_MOVE_NONE || !over)
            continue;
        if (move->kind == PAPER_MOVE_LEFT) {
            struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_CANCEL, .flow = move->out_id};
            (void)paper_send(flow, move->next, &body);
            move->kind = PAPER_MOVE_NONE;
            continue;
        }
        paper_end_move(flow, move, true);
    }
}
