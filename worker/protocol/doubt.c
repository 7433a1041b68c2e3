/*
 * Nodes that are not heard from any more.
 *
 * A broken link between two nodes, or a pause, looks to each of them as a death does; and two nodes
 * that take each a replica of a stage for lost, at the same time, would end that stage. So who
 * hears nothing of a node (it suspects it) leaves it to the recorder, which decides of one after
 * the other: it takes the node for lost, unless it is the last one of its stage.
 *
 * The recorder itself, and the last node of a stage, are doubted: who hears nothing of one says so
 * (DOUBT) to all, and goes on waiting. When everybody who lives says the same, the node is down.
 * Else the other end of the link takes this node for lost as soon as it hears nothing either, and
 * it comes back as a new member; and if nobody misses anybody but this node that one, it leaves by
 * itself, so that the others need wait for it no longer. A last node of a stage waits for longer:
 * the link may heal, and the run would end with either.
 *
 * Those whom this node suspects itself need not agree: they may be on the other side of a cut.
 *
 * A new recorder decides only when all that it hears have told it of the losses that they know of:
 * the one before may have told them of some, and not it.
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

/* Taken for lost only when all miss it. */
static bool all_must_agree(const gwtf_protocol *p, const struct protocol_member *member) {
    return is_last(p, member) || member->node == p->recorder;
}

static bool is_doubted_here(const gwtf_protocol *p, const struct protocol_member *member) {
    return p->doubts[member->stage].own && p->doubts[member->stage].node == member->node;
}

/* The next two: true when all are told. */
static bool end_doubt(gwtf_protocol *p, struct protocol_member *member) {
    bool has_said = is_doubted_here(p, member) || member->has_answered;
    if (is_doubted_here(p, member))
        p->doubts[member->stage].own = false;
    member->has_answered = false;
    if (has_said)
        tell(p, member->node, false);
    return has_said;
}

static bool begin_doubt(gwtf_protocol *p, struct protocol_member *member) {
    struct protocol_doubt *doubt = &p->doubts[member->stage];
    member->asked = GWTF_NODE_NONE;
    begin(p, doubt, member->node);
    if (doubt->own)
        return false;
    doubt->own = true;
    doubt->since_us = member->suspected_us;
    protocol_incident(p, GWTF_INCIDENT_DOUBTED, member->node)->stage = member->stage;
    tell(p, member->node, true);
    return true;
}

static void ask_recorder(gwtf_protocol *p, struct protocol_member *member) {
    if (member->asked == p->recorder)
        return;
    if (member->asked == GWTF_NODE_NONE)
        protocol_incident(p, GWTF_INCIDENT_SUSPECTED, member->node)->stage = member->stage;
    member->asked = p->recorder;
    struct gwtf_message *message =
        protocol_send(p, p->recorder, GWTF_MESSAGE_SILENT, GWTF_PHASE_TRAIN, p->iteration);
    message->body.down.node = member->node;
    message->body.down.incarnation = member->incarnation;
}

void protocol_doubt_silent(gwtf_protocol *p, gwtf_node_id node) {
    uint32_t index = protocol_member_find(p, node);
    if (index == PROTOCOL_NONE || index == p->self)
        return;
    struct protocol_member *member = &p->members[index];
    if (p->rest.began || !protocol_entry_is_member(p)) {
        protocol_view_down(p, node, member->incarnation, true);
        return;
    }
    if (member->standby) {
        /* No stage ends with it, or it would be a member. */
        protocol_view_down(p, node, member->incarnation, true);
        return;
    }
    if (member->down || member->suspected || protocol_close_now(p))
        return;
    member->suspected = true;
    member->suspected_us = p->now_us;
    member->asked = GWTF_NODE_NONE;
    p->suspected_count++;
    if (protocol_view_is_cut_off(p))
        protocol_finish(p, GWTF_ERROR_LINK, node);
}

static void suspect_no_more(gwtf_protocol *p, struct protocol_member *member) {
    p->suspected_count -= member->suspected;
    member->suspected = false;
}

void protocol_doubt_heard(gwtf_protocol *p, gwtf_node_id node) {
    uint32_t index = protocol_member_find(p, node);
    if (index == PROTOCOL_NONE || !p->members[index].suspected)
        return;
    suspect_no_more(p, &p->members[index]);
    end_doubt(p, &p->members[index]);
}

void protocol_doubt_asked(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message) {
    (void)peer;
    uint32_t index = protocol_member_find(p, message->body.down.node);
    if (index == PROTOCOL_NONE || index == p->self || p->recorder != p->config.self)
        return;
    struct protocol_member *member = &p->members[index];
    if (member->down || member->accused || message->body.down.incarnation < member->incarnation)
        return;
    member->accused = true;
    p->accused_count++;
}

void protocol_doubt_message(gwtf_protocol *p, gwtf_node_id peer,
                            const struct gwtf_message *message) {
    uint32_t index = protocol_member_find(p, message->body.doubt.node);
    if (index == PROTOCOL_NONE || index == p->self)
        return;
    struct protocol_doubt *doubt = &p->doubts[p->members[index].stage];
    bool is_down = p->members[index].down; /* nobody had to agree here */
    if (message->body.doubt.doubted == 1 && (is_down || p->members[index].suspected)) {
        struct gwtf_message *answer =
            protocol_send(p, peer, GWTF_MESSAGE_DOUBT, GWTF_PHASE_TRAIN, p->iteration);
        answer->body.doubt = message->body.doubt;
        answer->body.doubt.doubted = ANSWERED;
        p->members[index].has_answered = !is_down;
    }
    if (is_down)
        return;
    if (doubt->node != message->body.doubt.node && (doubt->own || !message->body.doubt.doubted))
        return;
    begin(p, doubt, message->body.doubt.node);
    set_says_so(doubt, protocol_member_find(p, peer), message->body.doubt.doubted != 0);
}

static void accuse_no_more(gwtf_protocol *p, struct protocol_member *member) {
    p->accused_count -= member->accused;
    member->accused = false;
}

void protocol_doubt_lost(gwtf_protocol *p, gwtf_node_id node) {
    uint32_t index = protocol_member_find(p, node);
    struct protocol_member *member = &p->members[index];
    struct protocol_doubt *doubt = &p->doubts[member->stage];
    suspect_no_more(p, member);
    accuse_no_more(p, member);
    member->has_answered = false;
    /* Of several that are lost at once another one may be the last to others. */
    if (doubt->node != GWTF_NODE_NONE && !is_doubted_here(p, member))
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
        if (i == p->self || p->members[i].down || p->members[i].suspected)
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

static bool judge_doubted(gwtf_protocol *p, struct protocol_member *member) {
    if (begin_doubt(p, member))
        return true;
    const struct protocol_doubt *doubt = &p->doubts[member->stage];
    bool over = p->now_us >= ends_us(p, doubt);
    if (all_say_so(p, doubt) || (over && p->living[p->stage] == 1))
        protocol_view_down(p, member->node, member->incarnation, true);
    else if (over)
        protocol_finish(p, GWTF_ERROR_FENCED, member->node);
    else
        return false;
    return true;
}

/* All that this node hears have told it what they knew when it became the recorder. */
static bool may_decide(const gwtf_protocol *p) {
    if (p->recorder != p->config.self || protocol_leave_is_handing_over(p))
        return false;
    if (p->recorder_before == PROTOCOL_NONE)
        return true;
    for (uint32_t i = 0; i < p->config.members_count; i++) {
        const struct protocol_member *member = &p->members[i];
        if (i != p->self && !member->down && !member->suspected &&
            member->known < p->recorder_before_number)
            return false;
    }
    return true;
}

/* True when all are told something, or somebody is taken for lost, which changes what is to be
 * thought of the others. */
static bool judge(gwtf_protocol *p, struct protocol_member *member) {
    if (member->suspected && p->rest.began) {
        protocol_view_down(p, member->node, member->incarnation, true);
        return true;
    }
    if (member->suspected && all_must_agree(p, member))
        return judge_doubted(p, member);
    if (member->accused && is_last(p, member)) {
        /* Who asked hears of the losses that leave it alone, and then doubts it. */
        accuse_no_more(p, member);
        return false;
    }
    if (may_decide(p)) {
        protocol_view_down(p, member->node, member->incarnation, true);
        return true;
    }
    if (!member->suspected || p->recorder == p->config.self)
        return false;
    if (is_doubted_here(p, member))
        return end_doubt(p, member);
    ask_recorder(p, member);
    return false;
}

/* One in a step, which bounds the step's messages. */
void protocol_doubt_advance(gwtf_protocol *p) {
    p->judging = false;
    if (p->suspected_count + p->accused_count == 0 || !protocol_entry_is_member(p))
        return;
    for (uint32_t i = 0; i < p->config.members_count && !p->judging; i++)
        if (p->members[i].suspected || p->members[i].accused)
            p->judging = judge(p, &p->members[i]);
}

gwtf_time_us protocol_doubt_deadline(const gwtf_protocol *p) {
    if (p->judging)
        return p->now_us;
    gwtf_time_us deadline_us = GWTF_TIME_NEVER;
    for (uint32_t stage = 0; stage <= p->config.stages; stage++)
        if (p->doubts[stage].own && ends_us(p, &p->doubts[stage]) < deadline_us)
            deadline_us = ends_us(p, &p->doubts[stage]);
    return deadline_us;
}
