/*
 * A node that is told to leave, and goes in order.
 *
 * Its contribution to the iteration's sum says that it wishes to. From the contributions all
 * replicas of the stage know who leaves: up to a few, and never all, so that one stays; the stage's
 * NORM tells the others. So whoever takes the step knows all who leave. At the iteration's end,
 * validation included, everybody takes them off the members: the next iteration begins without
 * them, and nothing of it is lost, repaired or computed again. A leaver takes part until then. It
 * does not begin the next iteration; when all that live have said that they have, without it
 * (LEFT), nobody needs anything of it, and it says so (GONE) and finishes.
 *
 * Until then it is on standby, since others may be lost meanwhile. Its weights are those that the
 * next iteration begins with, and stay so: no other replica of its stage has the next sum whole
 * before it has gone. So when those who stayed are all lost, whoever learns of it takes the leaver
 * for a member again, as if it had been one all the time, and it says that it stays (STAYS), and
 * begins the iteration. If it had just gone, the stage is lost as it would have been.
 *
 * A leaver that is lost on standby is like any that was lost before it was a member. One of a
 * snapshot, or of a recorder with one open, leaves when it is closed.
 */
#include "worker/protocol/state.h"

static bool is_recorder(const gwtf_protocol *p) {
    return p->config.self == p->recorder;
}

bool protocol_is_told(const gwtf_protocol *p, const struct protocol_member *member) {
    return !member->down || protocol_leave_hears_go(p, member);
}

void protocol_leave_wish(gwtf_protocol *p) {
    if (p->leave.wanted)
        return;
    p->leave.wanted = true;
    protocol_incident(p, GWTF_INCIDENT_LEAVING, p->config.self);
}

/* No snapshot needs anything of this node any more. */
static bool has_no_snapshot(const gwtf_protocol *p) {
    return p->snapshot_wanted == 0 && !p->writing && p->snapshot_hashed <= p->snapshot_recorded;
}

/* A run with a snapshot after each iteration would keep it for ever; but a recorder's notes are not
 * handed over. */
bool protocol_leave_is_wished(const gwtf_protocol *p) {
    if (!p->leave.wanted || !p->entry.has_state || p->iteration == p->config.last_iteration)
        return false;
    if (p->config.snapshot_every == 1)
        return !is_recorder(p);
    return has_no_snapshot(p) && !protocol_snapshot_due(p);
}

void protocol_leave_name(const gwtf_protocol *p, const struct protocol_round *round,
                         struct gwtf_leavers *leavers) {
    bool one_stays = false;
    for (uint32_t rank = 0; rank < p->replicas; rank++)
        one_stays =
            one_stays || (round->contributions[rank].here && !round->contributions[rank].leaves);
    leavers->count = 0;
    for (uint32_t rank = 0; rank < p->replicas && leavers->count < GWTF_LEAVERS_MAX; rank++) {
        if (!round->contributions[rank].here || !round->contributions[rank].leaves)
            continue;
        if (one_stays)
            leavers->nodes[leavers->count++] = protocol_stage_node(p, p->stage, rank);
        one_stays = true;
    }
}

static bool is_named(const struct gwtf_leavers *leavers, gwtf_node_id node) {
    for (uint32_t i = 0; i < leavers->count; i++)
        if (leavers->nodes[i] == node)
            return true;
    return false;
}

static const struct gwtf_leavers *leavers_of(const gwtf_protocol *p, uint32_t stage) {
    return &p->rounds[p->iteration & 1].norms[stage].leavers;
}

bool protocol_leave_is_agreed(const gwtf_protocol *p, gwtf_node_id node) {
    uint32_t index = protocol_member_find(p, node);
    return p->stepped == p->iteration && !p->stopped && index != PROTOCOL_NONE &&
           p->members[index].stays_from != p->iteration + 1 &&
           is_named(leavers_of(p, p->members[index].stage), node);
}

bool protocol_leave_is_own(const gwtf_protocol *p) {
    return protocol_leave_is_agreed(p, p->config.self);
}

/* It was told to leave, and is not among those who do. */
static void tell_stays(gwtf_protocol *p) {
    if (!p->leave.stays_told)
        protocol_incident(p, GWTF_INCIDENT_STAYS, p->config.self)->stage = p->stage;
    p->leave.stays_told = true;
}

/* A member of STAGE that lives, but none of LEAVERS, and has its weights, of before FROM. */
static bool has_keeper(const gwtf_protocol *p, uint32_t stage, const struct gwtf_leavers *leavers,
                       uint32_t from) {
    for (uint32_t rank = 0; rank < protocol_stage_size(p, stage); rank++) {
        const struct protocol_member *member = protocol_member_at(p, stage, rank);
        bool is_leaver = leavers && is_named(leavers, member->node);
        if (p->leave.standby && member->node == p->config.self)
            is_leaver = true;
        if (!member->down && !is_leaver && member->incarnation < from)
            return true;
    }
    return false;
}

static void take_off(gwtf_protocol *p, struct protocol_member *member, uint32_t from,
                     bool standby) {
    bool is_silent = member->suspected || member->accused;
    member->left = true;
    member->was_recorder = member->node == p->recorder;
    member->standby = standby;
    member->left_from = from;
    member->down = true;
    member->confirmed = true;
    member->down_since_commit = false;
    p->living[member->stage]--;
    p->living_count--;
    protocol_doubt_lost(p, member->node);
    protocol_membership_lost(p, member->node);
    if (member->stage == p->stage)
        p->disturbed_until = from;
    if (is_silent)
        protocol_view_down(p, member->node, member->incarnation, true);
}

static void tell_left(gwtf_protocol *p, gwtf_node_id node) {
    protocol_send(p, node, GWTF_MESSAGE_LEFT, GWTF_PHASE_TRAIN, p->iteration + 1);
}

/* The recorder has left, or is one again. */
static void follow_recorder(gwtf_protocol *p) {
    gwtf_node_id before = p->recorder;
    p->recorder = protocol_view_first_data_node(p);
    if (before == p->recorder || p->recorder == GWTF_NODE_NONE)
        return;
    if (is_recorder(p)) {
        /* They are told in their order: who knows of the last one knows of all. */
        for (uint32_t i = 0; i < p->config.members_count; i++)
            if (p->members[i].down)
                protocol_view_await_answers(p, i);
        protocol_view_spread_all(p);
    } else {
        protocol_view_tell_recorder(p);
    }
    protocol_snapshot_lost(p);
}

static void go_on_standby(gwtf_protocol *p) {
    p->leave.standby = true;
    p->leave.handed_over = GWTF_NODE_NONE;
    for (uint32_t i = 0; i < p->neighbours_count; i++)
        protocol_membership_lost(p, p->neighbours[i].node);
}

static void say_stays(gwtf_protocol *p, uint32_t from) {
    struct gwtf_message message = {.kind = GWTF_MESSAGE_STAYS, .iteration = from};
    protocol_broadcast(p, &message, false);
    p->members[p->self].stays_from = from;
    tell_stays(p);
}

/* It wished to leave, and is not among those who do: it is the one that stays. */
static bool is_passed_over(const gwtf_protocol *p) {
    const struct gwtf_leavers *leavers = leavers_of(p, p->stage);
    return p->rounds[p->iteration & 1].contributions[p->rank].leaves &&
           leavers->count < GWTF_LEAVERS_MAX && !is_named(leavers, p->config.self);
}

bool protocol_leave_apply(gwtf_protocol *p) {
    uint32_t from = p->iteration + 1;
    bool goes = false;
    if (p->rest.began)
        return true;
    for (uint32_t stage = 0; stage <= p->config.stages; stage++) {
        const struct gwtf_leavers *leavers = leavers_of(p, stage);
        bool is_kept = leavers->count == 0 || has_keeper(p, stage, leavers, from);
        for (uint32_t i = 0; i < leavers->count; i++) {
            uint32_t index = protocol_member_find(p, leavers->nodes[i]);
            if (index == p->self)
                goes = is_kept;
            if (index == p->self && !is_kept)
                say_stays(p, from);
            if (index == PROTOCOL_NONE || index == p->self || !is_kept ||
                p->members[index].stage != stage || p->members[index].down ||
                p->members[index].stays_from == from)
                continue;
            take_off(p, &p->members[index], from, true);
            tell_left(p, leavers->nodes[i]);
        }
    }
    if (goes)
        go_on_standby(p);
    else if (is_passed_over(p))
        tell_stays(p);
    follow_recorder(p);
    return !goes;
}

/* Nothing is expected of it any more. */
static void see_off(gwtf_protocol *p, struct protocol_member *member) {
    if (!member->standby)
        return;
    member->standby = false;
    protocol_incident(p, GWTF_INCIDENT_LEFT, member->node)->stage = member->stage;
    protocol_transfers_lost(p, member->node);
}

void protocol_leave_begin(gwtf_protocol *p, struct protocol_round *round, bool counts) {
    for (uint32_t i = 0; i < p->config.members_count; i++) {
        struct protocol_member *member = &p->members[i];
        if (!member->left)
            continue;
        if (member->stage == 0 && counts && round->counts_known)
            round->counts[member->rank] = false;
        /* Its stage has taken a step without it, for which it must have been gone. */
        if (member->left_from < p->iteration)
            see_off(p, member);
    }
}

bool protocol_leave_hears_go(const gwtf_protocol *p, const struct protocol_member *member) {
    return member->standby && p->entry.incarnation < member->left_from;
}

/* Those whom it told of losses know more than the next one, until that has heard it, too. */
bool protocol_leave_is_handing_over(const gwtf_protocol *p) {
    for (uint32_t rank = 0; rank < p->data_nodes; rank++) {
        const struct protocol_member *member = protocol_member_at(p, 0, rank);
        if (protocol_leave_hears_go(p, member) && member->let_go != member->left_from)
            return true;
    }
    return false;
}

bool protocol_leave_is_awaited(const gwtf_protocol *p) {
    for (uint32_t rank = 0; rank < p->replicas; rank++)
        if (protocol_leave_hears_go(p, protocol_member_at(p, p->stage, rank)))
            return true;
    return false;
}

static void recall(gwtf_protocol *p, struct protocol_member *member) {
    if (p->recorder_before != PROTOCOL_NONE && &p->members[p->recorder_before] == member)
        p->recorder_before = PROTOCOL_NONE;
    member->left = false;
    member->standby = false;
    member->stays_from = member->left_from;
    member->down = false;
    member->confirmed = false;
    p->living[member->stage]++;
    p->living_count++;
    protocol_membership_entered(p, member->node);
    if (member->stage == p->stage)
        protocol_aggregation_recalled(p, member->rank);
    protocol_repair_entered(p, member);
}

void protocol_leave_recall(gwtf_protocol *p, uint32_t stage) {
    if (p->leave.standby && stage == p->stage)
        return; /* this node stays, too: see protocol_leave_advance */
    for (uint32_t rank = 0; rank < protocol_stage_size(p, stage); rank++) {
        struct protocol_member *member =
            &p->members[protocol_member_find(p, protocol_stage_node(p, stage, rank))];
        if (!member->standby || has_keeper(p, stage, NULL, member->left_from))
            continue;
        recall(p, member);
        protocol_view_spread_all(p);
    }
}

void protocol_leave_lost(gwtf_protocol *p, uint32_t index, bool found_here) {
    struct protocol_member *member = &p->members[index];
    bool was_standby = member->standby;
    member->left = false;
    member->standby = false;
    if (was_standby) {
        protocol_incident(p, GWTF_INCIDENT_DOWN, member->node)->incarnation = member->incarnation;
        protocol_send(p, member->node, GWTF_MESSAGE_FENCED, GWTF_PHASE_TRAIN, p->iteration);
        protocol_transfers_lost(p, member->node);
    }
    if (p->recorder != GWTF_NODE_NONE)
        protocol_view_spread(p, member->node, found_here, p->recorder);
    if (!was_standby || p->rest.began)
        return;
    if (member->was_recorder)
        protocol_iteration_recorder_lost(p, member->rank);
    if (member->stage == p->stage)
        protocol_aggregation_left_lost(p, member->rank);
}

/* A node that has come with the iteration or later has heard nothing of it before. */
void protocol_leave_told(gwtf_protocol *p, uint32_t index, const struct gwtf_message *message) {
    struct protocol_member *member = &p->members[index];
    uint32_t from = message->body.down.left;
    bool standby = message->body.down.standby != 0;
    if (index == p->self || member->down || p->entry.incarnation < from ||
        message->body.down.incarnation < member->incarnation || member->stays_from == from)
        return;
    member->down = true;
    bool is_kept = has_keeper(p, member->stage, NULL, from);
    member->down = false;
    if (standby && !is_kept)
        return; /* it is to stay, or says that it has gone */
    take_off(p, member, from, standby);
    follow_recorder(p);
}

bool protocol_leave_hears(const gwtf_protocol *p, const struct protocol_member *member,
                          const struct gwtf_message *message) {
    switch (message->kind) {
    case GWTF_MESSAGE_HASH:
    case GWTF_MESSAGE_WRITTEN:
    case GWTF_MESSAGE_RECORDED:
    case GWTF_MESSAGE_DOWN:
    case GWTF_MESSAGE_DOWN_KNOWN:
    case GWTF_MESSAGE_DOUBT:
    case GWTF_MESSAGE_FENCED:
    case GWTF_MESSAGE_CLOSE:
    case GWTF_MESSAGE_REST:
    case GWTF_MESSAGE_LEFT:
    case GWTF_MESSAGE_GONE:
    case GWTF_MESSAGE_STAYS:
        return !member->left || member->standby;
    case GWTF_MESSAGE_HELLO:
    case GWTF_MESSAGE_FIGURES:
    case GWTF_MESSAGE_FLOW:
    case GWTF_MESSAGE_PROBE:
        return !member->left && !p->leave.standby;
    default:
        return !member->left;
    }
}

/* This node begins the iteration that it has left before. */
static void stay(gwtf_protocol *p) {
    p->leave.standby = false;
    say_stays(p, p->iteration + 1);
    for (uint32_t rank = 0; rank < p->replicas; rank++) {
        struct protocol_member *member =
            &p->members[protocol_member_find(p, protocol_stage_node(p, p->stage, rank))];
        if (member->standby)
            recall(p, member);
    }
    follow_recorder(p);
    if (p->rest.began)
        return;
    protocol_iteration_go_on(p);
    for (uint32_t i = 0; i < p->neighbours_count; i++)
        if (!protocol_is_down(p, p->neighbours[i].node))
            protocol_membership_ask(p, &p->neighbours[i]);
}

static void take_gone(gwtf_protocol *p, struct protocol_member *member) {
    if (member->left)
        see_off(p, member);
    else
        protocol_view_down(p, member->node, member->incarnation, true);
}

static void take_stays(gwtf_protocol *p, struct protocol_member *member, uint32_t from) {
    if (from <= member->stays_from)
        return;
    member->stays_from = from;
    if (!member->left || member->left_from != from)
        return;
    /* The others of the stage are lost, as it says: this node, which leaves it, stays, too. */
    if (p->leave.standby && member->stage == p->stage && !p->finished)
        stay(p);
    if (member->left)
        recall(p, member);
    protocol_view_spread_all(p);
    follow_recorder(p);
}

void protocol_leave_message(gwtf_protocol *p, gwtf_node_id peer,
                            const struct gwtf_message *message) {
    struct protocol_member *member = &p->members[protocol_member_find(p, peer)];
    if (message->kind == GWTF_MESSAGE_LEFT)
        member->let_go = message->iteration > member->let_go ? message->iteration : member->let_go;
    else if (message->kind == GWTF_MESSAGE_GONE)
        take_gone(p, member);
    else
        take_stays(p, member, message->iteration);
}

bool protocol_leave_waits_for(const gwtf_protocol *p, const struct protocol_member *member) {
    bool is_there = !member->down || protocol_leave_hears_go(p, member);
    return is_there && member->let_go != p->iteration + 1;
}

static bool all_let_go(const gwtf_protocol *p) {
    for (uint32_t i = 0; i < p->config.members_count; i++)
        if (i != p->self && protocol_leave_waits_for(p, &p->members[i]))
            return false;
    return true;
}

static void go(gwtf_protocol *p) {
    struct gwtf_message message = {.kind = GWTF_MESSAGE_GONE, .iteration = p->iteration + 1};
    protocol_broadcast(p, &message, false);
    p->leave.gone = true;
    protocol_finish(p, GWTF_OK, GWTF_NODE_NONE);
}

/* What it knows of losses the recorder has been told before. */
static void hand_over(gwtf_protocol *p) {
    if (p->stage > 0 || p->recorder == GWTF_NODE_NONE || p->leave.handed_over == p->recorder)
        return;
    p->leave.handed_over = p->recorder;
    tell_left(p, p->recorder);
}

void protocol_leave_advance(gwtf_protocol *p) {
    if (!p->leave.standby)
        return;
    hand_over(p);
    if (!has_keeper(p, p->stage, NULL, p->iteration + 1))
        stay(p);
    else if (p->rest.began || (all_let_go(p) && has_no_snapshot(p) && p->works_count == 0))
        go(p);
}
