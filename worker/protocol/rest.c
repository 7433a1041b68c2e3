/*
 * A stage is gone: its last node is lost. What the other stages hold is kept before all leave.
 *
 * Nobody begins anything new. When a node's works under way have ended, it tells all which
 * iteration its weights are after (REST). Whoever hears of a later one than its own has its stage's
 * whole sum, as nobody steps before all replicas of all stages have; and the gradient's norm, which
 * is all that it may lack for the step, comes with REST: so it steps too, and tells again.
 *
 * When a node has heard all that live, the first living replica of each stage writes its weights
 * and tells that the file is there. When every stage with a living node has its file, or cannot
 * write one, CLOSE with GWTF_ERROR_STAGE goes to all. Whoever is lost meanwhile is waited for no
 * more: another replica writes in its place, and a stage without one counts as gone too. Files may
 * be of two iterations, one apart, where the only ones to know of a step were lost.
 */
#include "worker/protocol/state.h"

#include <math.h>
#include <stdlib.h>

/* However slow a disk is, or silent a node, all leave then. */
#define REST_MOST_US 600000000

gwtf_status protocol_rest_create(gwtf_protocol *p) {
    p->rest.settled = calloc(p->config.stages + 1, sizeof *p->rest.settled);
    return p->rest.settled ? GWTF_OK : GWTF_ERROR_MEMORY;
}

void protocol_rest_destroy(gwtf_protocol *p) {
    free(p->rest.settled);
}

bool protocol_rest_hears(const gwtf_protocol *p, const struct gwtf_message *message) {
    return !p->rest.began || message->kind == GWTF_MESSAGE_REST ||
           message->kind == GWTF_MESSAGE_DOWN || message->kind == GWTF_MESSAGE_FENCED ||
           message->kind == GWTF_MESSAGE_CLOSE || message->kind == GWTF_MESSAGE_LEFT ||
           message->kind == GWTF_MESSAGE_GONE || message->kind == GWTF_MESSAGE_STAYS;
}

/* One node tells of the loss: the living one with the lowest id. */
static bool is_teller(const gwtf_protocol *p) {
    uint32_t first = 0;
    while (p->members[first].down)
        first++;
    return first == p->self;
}

void protocol_rest_begin(gwtf_protocol *p, gwtf_node_id culprit) {
    p->rest.began = true;
    p->rest.culprit = culprit;
    p->rest.until_us = p->now_us + REST_MOST_US;
    for (uint32_t i = 0; i < p->slots_count; i++)
        protocol_slot_give_up(p, &p->slots[i]);
    p->source.started = p->source.completed;
    if (!p->snapshot_issued)
        p->snapshot_wanted = 0;
    if (is_teller(p))
        protocol_incident(p, GWTF_INCIDENT_STAGE, culprit)->stage =
            p->members[protocol_member_find(p, culprit)].stage;
}

static void tell_rest(gwtf_protocol *p, bool settled) {
    struct gwtf_message message = {.kind = GWTF_MESSAGE_REST, .iteration = p->stepped};
    message.body.rest.is_empty = !p->entry.has_state;
    message.body.rest.culprit = p->rest.culprit;
    message.body.rest.settled = settled;
    message.body.rest.gradient_norm = p->gradient_norm;
    protocol_broadcast(p, &message, false);
}

void protocol_rest_message(gwtf_protocol *p, gwtf_node_id peer,
                           const struct gwtf_message *message) {
    gwtf_node_id culprit = message->body.rest.culprit;
    if (culprit == p->config.self) {
        protocol_finish(p, GWTF_ERROR_FENCED, peer);
        return;
    }
    uint32_t lost = protocol_member_find(p, culprit);
    if (lost == PROTOCOL_NONE)
        return;
    protocol_view_down(p, culprit, p->members[lost].incarnation, false);
    if (p->finished)
        return;
    /* The sender may know of losses that this node does not. */
    if (!p->rest.began)
        protocol_rest_begin(p, culprit);
    struct protocol_member *member = &p->members[protocol_member_find(p, peer)];
    if (!member->rest_heard || message->iteration > member->rest_iteration) {
        member->rest_iteration = message->iteration;
        member->rest_norm = message->body.rest.gradient_norm;
    }
    member->rest_heard = true;
    member->rest_empty = message->body.rest.is_empty != 0;
    if (message->body.rest.settled)
        p->rest.settled[member->stage] = true;
}

void protocol_rest_worked(gwtf_protocol *p) {
    p->snapshot_wanted = 0;
}

void protocol_rest_written(gwtf_protocol *p, const struct gwtf_event *event) {
    if (!p->writing || event->iteration != p->writing_iteration)
        return;
    p->writing = false;
    if (!p->rest.writes) /* of a snapshot from before */
        return;
    p->rest.settled[p->stage] = true;
    tell_rest(p, true);
}

static bool all_heard(const gwtf_protocol *p) {
    for (uint32_t i = 0; i < p->config.members_count; i++)
        if (i != p->self && !p->members[i].down && !p->members[i].rest_heard)
            return false;
    return true;
}

static void issue(gwtf_protocol *p, const struct gwtf_work *work) {
    p->works[p->works_count++] = *work;
    protocol_emit(p, GWTF_ACTION_WORK)->work = *work;
}

/* True while a step that others have taken is to be taken here. */
static bool follow_step(gwtf_protocol *p) {
    if (!p->entry.has_state)
        return false;
    const struct protocol_member *ahead = NULL;
    for (uint32_t i = 0; i < p->config.members_count; i++)
        if (p->members[i].rest_heard && !p->members[i].rest_empty &&
            p->members[i].rest_iteration > p->stepped)
            ahead = &p->members[i];
    if (!ahead || ahead->rest_iteration != p->iteration ||
        (p->aggregation != AGGREGATION_COMPLETE && p->aggregation != AGGREGATION_STEPPING))
        return false;
    p->aggregation = AGGREGATION_STEPPING;
    p->gradient_norm = ahead->rest_norm;
    p->work_issued = false;
    struct gwtf_work work = {.phase = GWTF_PHASE_TRAIN};
    if (protocol_aggregation_work(p, &work))
        issue(p, &work);
    return true;
}

static bool is_writer(const gwtf_protocol *p) {
    if (!p->entry.has_state)
        return false;
    for (uint32_t rank = 0; rank < p->rank; rank++) {
        const struct protocol_member *member = protocol_member_at(p, p->stage, rank);
        if (!member->down && !member->rest_empty)
            return false;
    }
    return true;
}

/* All that live of this stage have come back, and have no weights yet. */
static bool has_no_weights(const gwtf_protocol *p) {
    for (uint32_t rank = 0; rank < p->replicas; rank++) {
        const struct protocol_member *member = protocol_member_at(p, p->stage, rank);
        if (rank != p->rank && !member->down && !member->rest_empty)
            return false;
    }
    return !p->entry.has_state;
}

static void write_stage(gwtf_protocol *p) {
    bool is_written = p->rest.writes && p->writing_iteration == p->stepped;
    if (p->writing || is_written || !is_writer(p))
        return;
    p->rest.writes = true;
    p->writing = true;
    p->writing_iteration = p->stepped;
    p->snapshot_wanted = p->stepped;
    p->snapshot_issued = true;
    struct gwtf_work work = {.kind = GWTF_WORK_SNAPSHOT,
                             .phase = GWTF_PHASE_TRAIN,
                             .iteration = p->stepped,
                             .writes = true,
                             .of_rest = true,
                             .place = p->place};
    if (p->norm_valid)
        work.gradient_norm = sqrt(p->norm.body.norm.sum_of_squares);
    issue(p, &work);
}

static bool all_settled(const gwtf_protocol *p) {
    for (uint32_t stage = 0; stage <= p->config.stages; stage++)
        if (p->living[stage] > 0 && !p->rest.settled[stage])
            return false;
    return true;
}

void protocol_rest_advance(gwtf_protocol *p) {
    /* Nobody will validate it. */
    if (p->report_pending && p->config.self == p->recorder)
        protocol_emit(p, GWTF_ACTION_REPORT)->report = &p->report;
    p->report_pending = false;
    if (p->now_us >= p->rest.until_us) {
        protocol_close(p, GWTF_ERROR_STAGE, p->rest.culprit);
        return;
    }
    if (p->works_count > 0)
        return;
    if (!p->rest.told || p->rest.told_iteration != p->stepped) {
        p->rest.told = true;
        p->rest.told_iteration = p->stepped;
        tell_rest(p, false);
    }
    if (!all_heard(p) || follow_step(p))
        return;
    if (has_no_weights(p) && !p->rest.settled[p->stage]) {
        p->rest.settled[p->stage] = true;
        tell_rest(p, true);
    }
    if (all_settled(p))
        protocol_close(p, GWTF_ERROR_STAGE, p->rest.culprit);
    else if (!p->rest.settled[p->stage])
        write_stage(p);
}
