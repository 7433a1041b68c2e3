/*
 * Who is lost.
 *
 * A node that finds a peer to be down tells the recorder, the recorder tells all, and everybody
 * takes it as found by itself: so views converge. Whoever learns of it tells the peer that it is
 * fenced, and takes nothing of it any more: a peer that lives after all ends, and may come back as
 * a new member (entry.c). Of a peer that is merely silent the recorder decides, or all together
 * (doubt.c).
 * When the recorder is lost, the next data node is the recorder, and is told all that each node
 * knows.
 *
 * A cut through the middle: on both sides all of the others are down. The larger side goes on; of
 * two equal ones, the one with the recorder. A node ends when so many were lost that they could go
 * on without it, as the larger side. Each side learns of that loss by loss, and must not step
 * meanwhile as if it had lost a few: so nodes answer the recorder that they know of a loss, and
 * when all that it takes for living have, it tells all that the loss is confirmed. The recorder of
 * the side that must end never gets there. A stage that has lost a replica takes its sum for agreed
 * only when all of its losses are confirmed (aggregation.c), and a loss counts as one of a cut
 * until the step after it is confirmed.
 *
 * A cut that comes together with other losses may end both sides, and a cut into three may end all.
 * A larger part of the run that really dies at one moment, with a node of every stage in it, looks
 * like a cut: the run then ends, and is restarted from its snapshot.
 */
#include "worker/protocol/state.h"

bool protocol_is_down(const gwtf_protocol *p, gwtf_node_id node) {
    uint32_t member = protocol_member_find(p, node);
    return member == PROTOCOL_NONE || p->members[member].down;
}

bool protocol_rank_is_down(const gwtf_protocol *p, uint32_t stage, uint32_t rank) {
    return protocol_member_at(p, stage, rank)->down;
}

bool protocol_replica_is_down(const gwtf_protocol *p, uint32_t rank) {
    return protocol_rank_is_down(p, p->stage, rank);
}

bool protocol_view_is_confirmed(const gwtf_protocol *p) {
    for (uint32_t rank = 0; rank < p->replicas; rank++) {
        const struct protocol_member *member = protocol_member_at(p, p->stage, rank);
        if (member->down && !member->confirmed)
            return false;
    }
    return true;
}

static struct gwtf_message *tell_down(gwtf_protocol *p, gwtf_node_id to, gwtf_node_id node) {
    struct gwtf_message *message =
        protocol_send(p, to, GWTF_MESSAGE_DOWN, GWTF_PHASE_TRAIN, p->iteration);
    message->body.down.node = node;
    const struct protocol_member *member = &p->members[protocol_member_find(p, node)];
    message->body.down.incarnation = member->fenced;
    if (!member->left)
        return message;
    message->body.down.incarnation = member->incarnation;
    message->body.down.left = member->left_from;
    message->body.down.standby = member->standby;
    return message;
}

/* A is asked before B: the one that has been here longer. So nobody who comes back takes a living
 * node's place. */
static bool is_before(const struct protocol_member *a, const struct protocol_member *b) {
    return a->incarnation != b->incarnation ? a->incarnation < b->incarnation : a->node < b->node;
}

gwtf_node_id protocol_view_first_data_node(const gwtf_protocol *p) {
    const struct protocol_member *first = NULL;
    for (uint32_t rank = 0; rank < p->data_nodes; rank++) {
        const struct protocol_member *member = protocol_member_at(p, 0, rank);
        if (p->leave.standby && p->stage == 0 && rank == p->rank)
            continue;
        if (!member->down && (!first || is_before(member, first)))
            first = member;
    }
    return first ? first->node : GWTF_NODE_NONE;
}

/* The nodes lost since the last step, or not confirmed at it, and those that this one hears nothing
 * of, could go on without it, and have the better right to. */
bool protocol_view_is_cut_off(const gwtf_protocol *p) {
    uint32_t lost = 0, stages = 0, living = p->living_count;
    bool covered[GWTF_STAGES_MAX + 1] = {false};
    const struct protocol_member *recorder = NULL;
    for (uint32_t i = 0; i < p->config.members_count; i++) {
        const struct protocol_member *member = &p->members[i];
        bool was_there = !member->down || member->down_since_commit;
        if (was_there && member->stage == 0 && (!recorder || is_before(member, recorder)))
            recorder = member;
        if (!member->suspected && (!member->down || !member->down_since_commit))
            continue;
        living -= member->suspected;
        lost++;
        stages += !covered[member->stage];
        covered[member->stage] = true;
    }
    if (stages <= p->config.stages || lost < living)
        return false;
    return lost > living || (recorder && (recorder->down || recorder->suspected));
}

void protocol_view_tell_recorder(gwtf_protocol *p) {
    for (uint32_t i = 0; i < p->config.members_count; i++)
        if (p->members[i].down)
            tell_down(p, p->recorder, p->members[i].node);
}

/* To the loss of the recorder before, which makes everybody tell this node all losses. */
void protocol_view_await_answers(gwtf_protocol *p, uint32_t lost) {
    p->recorder_before = lost;
    p->recorder_before_number = UINT32_MAX;
}

void protocol_view_spread(gwtf_protocol *p, gwtf_node_id node, bool found_here,
                          gwtf_node_id before) {
    if (p->recorder == p->config.self) {
        uint32_t lost = protocol_member_find(p, node);
        p->losses_pending = true;
        if (before != p->recorder)
            protocol_view_await_answers(p, lost);
        for (uint32_t i = 0; i < p->config.members_count; i++)
            if (i == lost || (before != p->recorder && p->members[i].down))
                p->members[i].spread_wanted = p->members[i].confirm_wanted = true;
        return;
    }
    if (before == p->recorder && found_here)
        tell_down(p, p->recorder, node);
    if (before != p->recorder)
        protocol_view_tell_recorder(p);
}

void protocol_view_down(gwtf_protocol *p, gwtf_node_id node, uint32_t incarnation,
                        bool found_here) {
    uint32_t index = protocol_member_find(p, node);
    if (index == PROTOCOL_NONE || index == p->self || p->finished)
        return;
    struct protocol_member *member = &p->members[index];
    if (incarnation > member->fenced)
        member->fenced = incarnation;
    if (member->left && incarnation >= member->incarnation)
        protocol_leave_lost(p, index, found_here);
    if (member->down || incarnation < member->incarnation || protocol_close_now(p))
        return;
    member->down = true;
    member->confirmed = false;
    /* What was lost before this node came is no news. */
    bool is_news = protocol_entry_is_member(p);
    member->down_since_commit = is_news;
    p->living[member->stage]--;
    p->living_count--;
    p->lost_unreported += is_news;
    gwtf_node_id before = p->recorder;
    protocol_leave_recall(p, member->stage);
    p->recorder = protocol_view_first_data_node(p);
    bool is_silent = member->suspected || member->accused;
    protocol_doubt_lost(p, node);
    struct gwtf_incident *incident = protocol_incident(p, GWTF_INCIDENT_DOWN, node);
    incident->incarnation = member->incarnation;
    incident->is_silent = is_silent;
    protocol_send(p, node, GWTF_MESSAGE_FENCED, GWTF_PHASE_TRAIN, p->iteration);
    if (p->living[member->stage] == 0 && !p->rest.began)
        protocol_rest_begin(p, node);
    if (!p->rest.began && protocol_view_is_cut_off(p)) {
        protocol_finish(p, GWTF_ERROR_LINK, node);
        return;
    }
    if (p->recorder != GWTF_NODE_NONE)
        protocol_view_spread(p, node, found_here, before);
    if (before != p->recorder)
        protocol_iteration_recorder_lost(p, member->rank);
    if (member->stage == p->stage && !p->rest.began)
        protocol_aggregation_lost(p, member->rank);
    protocol_transfers_lost(p, node);
    if (p->rest.began)
        return;
    protocol_repair_lost(p, node);
    protocol_membership_lost(p, node);
    protocol_snapshot_lost(p);
}

/* PEER knows of the losses up to NUMBER. */
static void note_known(gwtf_protocol *p, gwtf_node_id peer, uint32_t number) {
    struct protocol_member *member = &p->members[protocol_member_find(p, peer)];
    if (member->down || number <= member->known || number > p->losses_told)
        return;
    member->known = number;
}

/* All that it takes for living have answered to the newest loss. */
static bool all_know(const gwtf_protocol *p) {
    for (uint32_t i = 0; i < p->config.members_count; i++)
        if (i != p->self && !p->members[i].down && p->members[i].known != p->losses_told)
            return false;
    return true;
}

static void take_down(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message) {
    uint32_t member = protocol_member_find(p, message->body.down.node);
    if (member != PROTOCOL_NONE && !p->members[member].is_exact &&
        message->body.down.incarnation >= p->members[member].incarnation) {
        p->members[member].incarnation = message->body.down.incarnation;
        p->members[member].is_exact = true;
    }
    if (message->body.down.left > 0 && member != PROTOCOL_NONE)
        protocol_leave_told(p, member, message);
    else
        protocol_view_down(p, message->body.down.node, message->body.down.incarnation, false);
    if (p->finished || member == PROTOCOL_NONE)
        return;
    if (message->body.down.confirmed && p->members[member].down &&
        message->body.down.incarnation >= p->members[member].incarnation)
        p->members[member].confirmed = true;
    if (message->body.down.number > 0)
        protocol_send(p, peer, GWTF_MESSAGE_DOWN_KNOWN, GWTF_PHASE_TRAIN, p->iteration)
            ->body.down.number = message->body.down.number;
}

void protocol_view_message(gwtf_protocol *p, gwtf_node_id peer,
                           const struct gwtf_message *message) {
    if (message->kind == GWTF_MESSAGE_DOWN_KNOWN)
        note_known(p, peer, message->body.down.number);
    else if (message->kind == GWTF_MESSAGE_FENCED)
        protocol_finish(p, GWTF_ERROR_FENCED, peer);
    else if (message->body.down.node != p->config.self)
        take_down(p, peer, message);
    else if (message->body.down.incarnation >= p->entry.incarnation && message->body.down.left == 0)
        protocol_finish(p, GWTF_ERROR_FENCED, peer);
}

void protocol_view_count(gwtf_protocol *p) {
    for (uint32_t stage = 0; stage <= p->config.stages; stage++)
        p->living[stage] = 0;
    p->living_count = 0;
    for (uint32_t i = 0; i < p->config.members_count; i++) {
        struct protocol_member *member = &p->members[i];
        member->down = i != p->self && (member->fenced >= member->incarnation || member->left);
        member->confirmed = member->left || (member->confirmed && member->down);
        p->living[member->stage] += !member->down;
        p->living_count += !member->down;
    }
    p->recorder = protocol_view_first_data_node(p);
    if (p->recorder_before != PROTOCOL_NONE && !p->members[p->recorder_before].down)
        p->recorder_before = PROTOCOL_NONE;
}

void protocol_view_spread_all(gwtf_protocol *p) {
    for (uint32_t i = 0; i < p->config.members_count && p->recorder == p->config.self; i++)
        p->members[i].spread_wanted = p->members[i].confirm_wanted = p->members[i].down;
    p->losses_pending = true;
}

/* Those who have come must hear who is down: they hear it again with all others. */
void protocol_view_entered(gwtf_protocol *p) {
    protocol_view_count(p);
    protocol_view_spread_all(p);
}

void protocol_view_committed(gwtf_protocol *p) {
    for (uint32_t i = 0; i < p->config.members_count; i++)
        if (!p->members[i].down || p->members[i].confirmed)
            p->members[i].down_since_commit = false;
}

static void tell_all(gwtf_protocol *p, gwtf_node_id node, uint32_t number, bool confirmed) {
    for (uint32_t to = 0; to < p->config.members_count; to++) {
        if (to == p->self || !protocol_is_told(p, &p->members[to]) || p->members[to].node == node)
            continue;
        struct gwtf_message *message = tell_down(p, p->members[to].node, node);
        message->body.down.number = number;
        message->body.down.confirmed = confirmed;
    }
}

/* Tells all of one loss of which they are to be told, or to be told again; false: there is none. */
static bool tell_one(gwtf_protocol *p, bool confirmed) {
    for (uint32_t i = 0; i < p->config.members_count; i++) {
        struct protocol_member *member = &p->members[i];
        bool *wanted = confirmed ? &member->confirm_wanted : &member->spread_wanted;
        if (!*wanted)
            continue;
        *wanted = false;
        if (confirmed) {
            member->confirmed = true;
        } else {
            p->losses_told++;
            if (i == p->recorder_before)
                p->recorder_before_number = p->losses_told;
        }
        tell_all(p, member->node, confirmed ? 0 : p->losses_told, confirmed);
        return true;
    }
    return false;
}

/* One loss in a step, which bounds the step's messages. */
void protocol_view_advance(gwtf_protocol *p) {
    p->spread_pending = false;
    if (!p->losses_pending || p->recorder != p->config.self)
        return;
    bool known = all_know(p);
    p->spread_pending = tell_one(p, false) || (known && tell_one(p, true));
    p->losses_pending = p->spread_pending || !known;
}
