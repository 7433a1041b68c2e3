/*
 * The last node of a stage, not heard from any more.
 *
 * One that takes the last node of a stage for lost ends the run for all; and a broken link between
 * the two, or a pause, looks to it as a death does. So who hears nothing of such a node says so
 * (DOUBT) to all, and goes on waiting. When everybody who lives says the same, the node is down.
 * Else the other end of the link takes this node for lost as soon as it hears nothing either, and
 * it comes back as a new member; and if nobody misses anybody but this node that one, it leaves by
 * itself, so that the others need wait for it no longer. A last node of a stage waits for longer:
 * the link may heal, and the run would end with either.
 *
 * Those whom this node doubts itself need not agree: they may be on the other side of a cut.
 */
#include "worker/protocol/state.h"

#include <stdlib.h>
#include <string.h>

/* Of DOUBT's doubted: an answer, which wants none. */
#define ANSWERED 2
/* Longer than the others may take to miss anybody. */
#define DOUBT_MOST_US 30000000
#define DOUBT_AS_LAST_MOST_US 60000000

static size_t bytes_of(const gwtf_protocol *p) {
    return (p->config.members_count + 7) / 8;
}

gwtf_status protocol_doubt_create(gwtf_protocol *p) {
    p->doubts = calloc(p->config.stages + 1, sizeof *p->doubts);
    if (!p->doubts)
        return GWTF_ERROR_MEMORY;
    for (uint32_t stage = 0; stage <= p->config.stages; stage++) {
        p->doubts[stage].node = GWTF_NODE_NONE;
        p->doubts[stage].sayers = calloc(bytes_of(p), 1);
        if (!p->doubts[stage].sayers)
            return GWTF_ERROR_MEMORY;
    }
    return GWTF_OK;
}

void protocol_doubt_destroy(gwtf_protocol *p) {
    for (uint32_t stage = 0; p->doubts && stage <= p->config.stages; stage++)
        free(p->doubts[stage].sayers);
    free(p->doubts);
}

static bool says_so(const struct protocol_doubt *doubt, uint32_t member) {
    return doubt->sayers[member / 8] >> (member % 8) & 1;
}

static void set_says_so(struct protocol_doubt *doubt, uint32_t member, bool says) {
    uint8_t bit = (uint8_t)(1u << (member % 8));
    doubt->sayers[member / 8] =
        (uint8_t)(says ? doubt->sayers[member / 8] | bit : doubt->sayers[member / 8] & ~bit);
}

static void begin(const gwtf_protocol *p, struct protocol_doubt *doubt, gwtf_node_id node) {
    if (doubt->node == node)
        return;
    doubt->node = node;
    doubt->own = false;
    memset(doubt->sayers, 0, bytes_of(p));
}

static void tell(gwtf_protocol *p, gwtf_node_id node, bool doubted) {
    struct gwtf_message message = {.kind = GWTF_MESSAGE_DOUBT, .iteration = p->iteration};
    message.body.doubt.node = node;
    message.body.doubt.doubted = doubted;
    protocol_broadcast(p, &message, false);
}

static bool is_last(const gwtf_protocol *p, const struct protocol_member *member) {
    return !member->down && p->living[member->stage] == 1;
}

bool protocol_doubt_is_own(const gwtf_protocol *p, const struct protocol_member *member) {
    return p->doubts[member->stage].own && p->doubts[member->stage].node == member->node;
}

void protocol_doubt_silent(gwtf_protocol *p, gwtf_node_id node) {
    uint32_t index = protocol_member_find(p, node);
    if (index == PROTOCOL_NONE || index == p->self)
        return;
    const struct protocol_member *member = &p->members[index];
    if (!is_last(p, member) || p->rest.began || !protocol_entry_is_member(p)) {
        protocol_view_down(p, node, member->incarnation, true);
        return;
    }
    struct protocol_doubt *doubt = &p->doubts[member->stage];
    begin(p, doubt, node);
    if (doubt->own)
        return;
    doubt->own = true;
    doubt->since_us = p->now_us;
    if (protocol_view_is_cut_off(p)) {
        protocol_finish(p, GWTF_ERROR_LINK, node);
        return;
    }
    protocol_incident(p, GWTF_INCIDENT_DOUBTED, node)->stage = member->stage;
    tell(p, node, true);
}

void protocol_doubt_heard(gwtf_protocol *p, gwtf_node_id node) {
    uint32_t index = protocol_member_find(p, node);
    if (index == PROTOCOL_NONE || !protocol_doubt_is_own(p, &p->members[index]))
        return;
    p->doubts[p->members[index].stage].own = false;
    tell(p, node, false);
}

void protocol_doubt_message(gwtf_protocol *p, gwtf_node_id peer,
                            const struct gwtf_message *message) {
    uint32_t index = protocol_member_find(p, message->body.doubt.node);
    if (index == PROTOCOL_NONE || index == p->self)
        return;
    struct protocol_doubt *doubt = &p->doubts[p->members[index].stage];
    bool is_down = p->members[index].down; /* it was not the last one here */
    if (message->body.doubt.doubted == 1 &&
        (is_down || protocol_doubt_is_own(p, &p->members[index]))) {
        struct gwtf_message *answer =
            protocol_send(p, peer, GWTF_MESSAGE_DOUBT, GWTF_PHASE_TRAIN, p->iteration);
        answer->body.doubt = message->body.doubt;
        answer->body.doubt.doubted = ANSWERED;
    }
    if (is_down)
        return;
    if (doubt->node != message->body.doubt.node && (doubt->own || !message->body.doubt.doubted))
        return;
    begin(p, doubt, message->body.doubt.node);
    set_says_so(doubt, protocol_member_find(p, peer), message->body.doubt.doubted != 0);
}

void protocol_doubt_lost(gwtf_protocol *p, gwtf_node_id node) {
    uint32_t index = protocol_member_find(p, node);
    const struct protocol_member *member = &p->members[index];
    struct protocol_doubt *doubt = &p->doubts[member->stage];
    /* Of several that are lost at once another one may be the last to others. */
    if (doubt->node != GWTF_NODE_NONE && !protocol_doubt_is_own(p, member))
        tell(p, node, true);
    if (doubt->node == node)
        begin(p, doubt, GWTF_NODE_NONE);
    for (uint32_t stage = 0; stage <= p->config.stages; stage++)
        set_says_so(&p->doubts[stage], index, false);
}

/* Of at least one other: who hears nobody knows nothing of the others. */
static bool all_say_so(const gwtf_protocol *p, const struct protocol_doubt *doubt) {
    bool any = false;
    for (uint32_t i = 0; i < p->config.members_count; i++) {
        if (i == p->self || p->members[i].down || protocol_doubt_is_own(p, &p->members[i]))
            continue;
        if (!says_so(doubt, i))
            return false;
        any = true;
    }
    return any;
}

static gwtf_time_us ends_us(const gwtf_protocol *p, const struct protocol_doubt *doubt) {
    return doubt->since_us +
           (p->living[p->stage] > 1 ? DOUBT_MOST_US : (gwtf_time_us)DOUBT_AS_LAST_MOST_US);
}

void protocol_doubt_advance(gwtf_protocol *p) {
    for (uint32_t stage = 0; stage <= p->config.stages && !p->finished; stage++) {
        struct protocol_doubt *doubt = &p->doubts[stage];
        if (!doubt->own || !protocol_entry_is_member(p))
            continue;
        gwtf_node_id node = doubt->node;
        const struct protocol_member *member = &p->members[protocol_member_find(p, node)];
        bool over = p->now_us >= ends_us(p, doubt);
        if (p->rest.began || !is_last(p, member) || all_say_so(p, doubt) ||
            (over && p->living[p->stage] == 1))
            protocol_view_down(p, node, member->incarnation, true);
        else if (over)
            protocol_finish(p, GWTF_ERROR_FENCED, node);
    }
}

gwtf_time_us protocol_doubt_deadline(const gwtf_protocol *p) {
    gwtf_time_us deadline_us = GWTF_TIME_NEVER;
    for (uint32_t stage = 0; stage <= p->config.stages; stage++)
        if (p->doubts[stage].own && ends_us(p, &p->doubts[stage]) < deadline_us)
            deadline_us = ends_us(p, &p->doubts[stage]);
    return deadline_us;
}
