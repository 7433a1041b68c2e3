/*
 * A node that was declared down, and lives, comes back as a new member.
 *
 * It knocks: ENTER goes to the data nodes. They name it in their DONE, and what all of them name is
 * agreed with the iteration's totals: whoever takes the iteration's step knows it, from the DONEs
 * or from stage 0's NORM. With the next iteration every living node takes it as a member, in an
 * incarnation named by that iteration, and says WELCOME. The entrant says nothing to a node that
 * has not welcomed it, and takes part when all have whom it does not know to be down: then nobody
 * can hear of it who does not know it, and it knows all.
 *
 * Its weights are those after the step with which it was agreed on. Its replicas have them until
 * the next step, which needs the entrant's COMPLETE, which it says only with its weights: so it can
 * have them from any of them, whoever is lost, and no copy has to be kept. It fetches them in
 * pieces from all of them, and asks for microbatches when it has them all.
 */
#include "worker/protocol/state.h"

#include <stdlib.h>
#include <string.h>

#define KNOCK_EVERY_US 500000
/* No data node has answered for so long: they are gone, or cannot be reached. */
#define KNOCK_AT_MOST_US 60000000

#define STATE_PARTS 3 /* weights and both moments */
#define PIECE_FLOATS (1u << 20)
#define PIECES_OF_A_SOURCE 2 /* wanted of one replica at one time */
/* A replica with too much under way does not answer: it is asked again, or another one. */
#define ASK_AGAIN_US 2000000

static uint32_t pieces_of_a_part(const gwtf_protocol *p) {
    return (uint32_t)((p->config.gradient_floats + PIECE_FLOATS - 1) / PIECE_FLOATS);
}

static struct gwtf_payload piece_payload(const gwtf_protocol *p, uint32_t piece) {
    uint32_t each = pieces_of_a_part(p);
    struct gwtf_payload payload = {.kind = GWTF_PAYLOAD_STATE, .part = piece / each};
    payload.offset = (uint64_t)(piece % each) * PIECE_FLOATS;
    uint64_t left = p->config.gradient_floats - payload.offset;
    payload.count = left < PIECE_FLOATS ? left : PIECE_FLOATS;
    return payload;
}

static uint32_t piece_of(const gwtf_protocol *p, uint32_t part, uint64_t offset) {
    if (part >= STATE_PARTS || offset >= p->config.gradient_floats)
        return PROTOCOL_NONE;
    return part * pieces_of_a_part(p) + (uint32_t)(offset / PIECE_FLOATS);
}

gwtf_status protocol_entry_create(gwtf_protocol *p) {
    struct protocol_entry *entry = &p->entry;
    entry->has_state = entry->serves = !p->config.enters;
    entry->incarnation = p->config.first_iteration;
    if (!p->config.enters)
        return GWTF_OK;
    entry->waits = true;
    entry->incarnation = p->config.incarnation;
    p->members[p->self].incarnation = UINT32_MAX; /* nobody asks it before others */
    p->members[p->self].own_data = p->config.own_data;
    protocol_view_count(p);
    entry->pieces_count = STATE_PARTS * pieces_of_a_part(p);
    entry->pieces = calloc(entry->pieces_count + 1, sizeof *entry->pieces);
    return entry->pieces ? GWTF_OK : GWTF_ERROR_MEMORY;
}

void protocol_entry_destroy(gwtf_protocol *p) {
    free(p->entry.pieces);
}

/* --- the node that comes back --- */

static void knock(gwtf_protocol *p) {
    struct protocol_entry *entry = &p->entry;
    if (p->now_us - entry->heard_us > KNOCK_AT_MOST_US) {
        protocol_finish(p, GWTF_ERROR_LINK, GWTF_NODE_NONE);
        return;
    }
    entry->knock_us = p->now_us + KNOCK_EVERY_US;
    for (uint32_t rank = 0; rank < p->data_nodes; rank++) {
        gwtf_node_id to = protocol_stage_node(p, 0, rank);
        if (to == p->config.self || protocol_is_down(p, to))
            continue;
        struct gwtf_message *message =
            protocol_send(p, to, GWTF_MESSAGE_ENTER, GWTF_PHASE_TRAIN, 0);
        message->body.enter.incarnation = entry->incarnation;
        message->body.enter.own_data = p->config.own_data;
    }
}

void protocol_entry_start(gwtf_protocol *p) {
    p->entry.began_us = p->now_us;
    p->entry.heard_us = p->now_us;
    knock(p);
}

/* Some process has ended, as this node's own detectors say, before it is a member. */
void protocol_entry_down(gwtf_protocol *p, gwtf_node_id node) {
    uint32_t index = protocol_member_find(p, node);
    if (index == PROTOCOL_NONE || index == p->self || p->members[index].down)
        return;
    struct protocol_member *member = &p->members[index];
    member->down = true;
    if (member->fenced < member->incarnation)
        member->fenced = member->incarnation;
    protocol_view_count(p);
    if (p->living[0] == 0 || (p->stage == 0 && p->living[0] == 1))
        protocol_finish(p, GWTF_ERROR_LINK, node);
}

/* Whose process has ended while this node waited may have been followed by another one since. Who
 * is down, and in which incarnation, the recorder tells. */
static void forget_found(gwtf_protocol *p) {
    for (uint32_t i = 0; i < p->config.members_count; i++)
        if (i != p->self && !p->members[i].is_exact)
            p->members[i].fenced = 0;
    protocol_view_count(p);
}

static void begin(gwtf_protocol *p, const struct gwtf_message *message) {
    struct protocol_entry *entry = &p->entry;
    forget_found(p);
    entry->waits = false;
    entry->knock_us = p->now_us + KNOCK_EVERY_US;
    entry->incarnation = message->body.welcome.incarnation;
    p->members[p->self].incarnation = entry->incarnation;
    p->snapshot_recorded = message->body.welcome.recorded;
    p->place = message->body.welcome.place;
    protocol_iteration_enter(p, message);
    for (uint32_t i = 0; i < message->body.welcome.entrants.count && !p->finished; i++) {
        gwtf_node_id node = message->body.welcome.entrants.entrants[i].node;
        uint32_t other = protocol_member_find(p, node);
        /* They have taken another one that asked in this place before. */
        if (other == p->self &&
            (message->body.welcome.entrants.entrants[i].own_data != 0) != p->config.own_data)
            protocol_finish(p, GWTF_ERROR_LINK, GWTF_NODE_NONE);
        if (other != PROTOCOL_NONE && other != p->self)
            protocol_entry_welcome(p, other, entry->incarnation, &message->body.welcome.entrants);
    }
}

static void take_welcome(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message) {
    struct protocol_entry *entry = &p->entry;
    struct protocol_member *member = &p->members[protocol_member_find(p, peer)];
    uint32_t incarnation = message->body.welcome.incarnation;
    if (entry->waits ? incarnation <= entry->incarnation : incarnation != entry->incarnation)
        return;
    if (message->body.welcome.entrants.count > GWTF_ENTRANTS_MAX || member->welcomed)
        return;
    if (entry->waits)
        begin(p, message);
    else if (message->body.welcome.counts_known)
        protocol_iteration_learn_counts(p, message->iteration, message->generation,
                                        message->body.welcome.data_nodes);
    member->welcomed = true;
    member->is_exact = true;
    member->own_data = message->body.welcome.own_data != 0;
    member->left = false;
    member->standby = false;
    if (message->body.welcome.sender > member->incarnation)
        member->incarnation = message->body.welcome.sender;
    protocol_entry_open(p, member);
    protocol_view_count(p);
    protocol_repair_entered(p, member);
    p->snapshot_told = p->recorder;
}

/* Everybody who is not down knows of this node. */
static bool is_welcomed(const gwtf_protocol *p) {
    for (uint32_t i = 0; i < p->config.members_count; i++)
        if (i != p->self && !p->members[i].down && !p->members[i].welcomed)
            return false;
    return true;
}

bool protocol_entry_is_member(const gwtf_protocol *p) {
    return p->entry.is_member || !p->config.enters;
}

/* Those who know it may have given it up since, or rather the one that asked before in its place,
 * and have told nobody who lives: a message from one that is lost they answer. */
static void ask_whether_known(gwtf_protocol *p) {
    p->entry.knock_us = p->now_us + KNOCK_EVERY_US;
    for (uint32_t i = 0; i < p->config.members_count; i++)
        if (i != p->self && !p->members[i].down && p->members[i].welcomed)
            protocol_send(p, p->members[i].node, GWTF_MESSAGE_DOWN_KNOWN, GWTF_PHASE_TRAIN,
                          p->iteration);
}

/* A replica that has the weights that are wanted; it was a member before. */
static bool is_source(const gwtf_protocol *p, const struct protocol_member *member) {
    return member->stage == p->stage && member->node != p->config.self && !member->down &&
           member->welcomed && member->incarnation < p->entry.incarnation;
}

static void ask_for_piece(gwtf_protocol *p, uint32_t piece, gwtf_node_id source) {
    p->entry.pieces[piece].source = source;
    p->entry.pieces[piece].state = PIECE_ASKED;
    p->entry.pieces[piece].asked_us = p->now_us;
    struct gwtf_message *message =
        protocol_send(p, source, GWTF_MESSAGE_FETCH, GWTF_PHASE_TRAIN, p->iteration);
    struct gwtf_payload payload = piece_payload(p, piece);
    message->body.state.part = payload.part;
    message->body.state.offset = payload.offset;
}

static void fetch_of(gwtf_protocol *p, gwtf_node_id source) {
    struct protocol_entry *entry = &p->entry;
    uint32_t asked = 0;
    for (uint32_t i = 0; i < entry->pieces_count; i++)
        asked +=
            (entry->pieces[i].state == PIECE_ASKED || entry->pieces[i].state == PIECE_COMING) &&
            entry->pieces[i].source == source;
    for (uint32_t i = 0; i < entry->pieces_count && asked < PIECES_OF_A_SOURCE; i++) {
        if (entry->pieces[i].state != PIECE_MISSING)
            continue;
        ask_for_piece(p, i, source);
        asked++;
    }
}

static void forget_unanswered(gwtf_protocol *p) {
    for (uint32_t i = 0; i < p->entry.pieces_count; i++) {
        struct protocol_piece *piece = &p->entry.pieces[i];
        if (piece->state == PIECE_ASKED &&
            (protocol_is_down(p, piece->source) || p->now_us - piece->asked_us >= ASK_AGAIN_US))
            piece->state = PIECE_MISSING;
    }
}

static void fetch(gwtf_protocol *p) {
    struct protocol_entry *entry = &p->entry;
    uint32_t sources = 0;
    if (entry->has_state)
        return;
    forget_unanswered(p);
    for (uint32_t rank = 0; rank < p->replicas; rank++) {
        const struct protocol_member *member = protocol_member_at(p, p->stage, rank);
        if (!is_source(p, member))
            continue;
        sources++;
        fetch_of(p, member->node);
    }
    if (entry->pieces_here == entry->pieces_count) {
        entry->has_state = true;
        struct gwtf_incident *incident =
            protocol_incident(p, GWTF_INCIDENT_ENTERED, p->config.self);
        incident->duration_us = p->now_us - entry->began_us;
        incident->incarnation = entry->incarnation;
    } else if (sources == 0 && is_welcomed(p)) {
        protocol_close(p, GWTF_ERROR_STAGE, p->config.self);
    }
}

static void take_state(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message) {
    struct protocol_entry *entry = &p->entry;
    uint32_t number = piece_of(p, message->body.state.part, message->body.state.offset);
    if (entry->has_state || number == PROTOCOL_NONE)
        return;
    struct protocol_piece *piece = &entry->pieces[number];
    struct gwtf_payload payload = piece_payload(p, number);
    if (piece->state != PIECE_ASKED || piece->source != peer ||
        message->body.state.offset != payload.offset ||
        message->payload_bytes != payload.count * sizeof(float))
        return;
    piece->state = PIECE_COMING;
    protocol_transfer_receive(p, peer, message, payload);
}

void protocol_entry_received(gwtf_protocol *p, const struct protocol_transfer *transfer,
                             bool whole) {
    struct protocol_entry *entry = &p->entry;
    struct protocol_piece *piece =
        &entry->pieces[piece_of(p, transfer->payload.part, transfer->payload.offset)];
    piece->state = whole ? PIECE_HERE : PIECE_MISSING;
    entry->pieces_here += whole;
}

/* --- those that take it back --- */

void protocol_entry_sent(gwtf_protocol *p) {
    p->entry.sends--;
}

static void take_fetch(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message) {
    const struct protocol_member *member = &p->members[protocol_member_find(p, peer)];
    uint32_t piece = piece_of(p, message->body.state.part, message->body.state.offset);
    bool has_them = p->iteration == message->iteration && p->stepped + 1 == p->iteration &&
                    p->aggregation < AGGREGATION_STEPPING && p->entry.has_state;
    if (member->stage != p->stage || !has_them || p->entry.sends >= PROTOCOL_STATE_SENDS_MAX ||
        piece == PROTOCOL_NONE)
        return;
    p->entry.sends++;
    struct gwtf_payload payload = piece_payload(p, piece);
    struct gwtf_action *action =
        protocol_transfer_send(p, peer, GWTF_MESSAGE_STATE, GWTF_PHASE_TRAIN, p->iteration,
                               payload.count * sizeof(float), payload);
    action->message.body.state = message->body.state;
}

static void take_enter(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message) {
    struct protocol_entry *entry = &p->entry;
    const struct protocol_member *member = &p->members[protocol_member_find(p, peer)];
    uint32_t incarnation = message->body.enter.incarnation;
    if (message->body.enter.heard) {
        entry->heard_us = p->now_us;
        return;
    }
    if (p->stage != 0 || incarnation != member->incarnation || !member->is_exact || p->entry.waits)
        return; /* it has been taken since, or may have been */
    protocol_send(p, peer, GWTF_MESSAGE_ENTER, GWTF_PHASE_TRAIN, p->iteration)->body.enter.heard =
        1;
    /* That it asks says that its incarnation is over. */
    protocol_view_down(p, peer, incarnation, true);
    for (uint32_t i = 0; i < entry->asking_count; i++)
        if (entry->asking[i].node == peer)
            return;
    if (entry->asking_count < PROTOCOL_ASKING_MAX)
        entry->asking[entry->asking_count++] =
            (struct gwtf_entrant){.node = peer,
                                  .incarnation = incarnation,
                                  .own_data = message->body.enter.own_data != 0};
}

void protocol_entry_propose(const gwtf_protocol *p, struct gwtf_entrants *list) {
    const struct protocol_entry *entry = &p->entry;
    for (uint32_t i = 0; i < entry->asking_count && i < GWTF_ENTRANTS_MAX; i++)
        list->entrants[list->count++] = entry->asking[i];
}

void protocol_entry_message(gwtf_protocol *p, gwtf_node_id peer,
                            const struct gwtf_message *message) {
    if (message->kind == GWTF_MESSAGE_ENTER)
        take_enter(p, peer, message);
    else if (message->kind == GWTF_MESSAGE_WELCOME)
        take_welcome(p, peer, message);
    else if (message->kind == GWTF_MESSAGE_FETCH)
        take_fetch(p, peer, message);
    else
        take_state(p, peer, message);
}

/* Both sides add up the same two numbers, and each grows with every incarnation. */
void protocol_entry_open(gwtf_protocol *p, const struct protocol_member *member) {
    struct gwtf_incident *incident = protocol_incident(p, GWTF_INCIDENT_UP, member->node);
    incident->incarnation = member->incarnation;
    incident->channel = (uint64_t)member->incarnation + p->entry.incarnation;
}

void protocol_entry_welcome(gwtf_protocol *p, uint32_t index, uint32_t incarnation,
                            const struct gwtf_entrants *entrants) {
    struct protocol_member *member = &p->members[index];
    const struct protocol_round *round = &p->rounds[p->iteration & 1];
    for (uint32_t i = 0; i < entrants->count; i++)
        if (entrants->entrants[i].node == member->node)
            member->own_data = entrants->entrants[i].own_data != 0;
    member->incarnation = incarnation;
    member->is_exact = true;
    protocol_entry_open(p, member);
    struct gwtf_message *message =
        protocol_send(p, member->node, GWTF_MESSAGE_WELCOME, GWTF_PHASE_TRAIN, p->iteration);
    message->generation = round->generation;
    message->body.welcome.incarnation = incarnation;
    message->body.welcome.sender = p->entry.incarnation;
    message->body.welcome.recorded = p->snapshot_recorded;
    message->body.welcome.own_data = p->config.own_data;
    message->body.welcome.place = p->place;
    message->body.welcome.counts_known = round->counts_known;
    message->body.welcome.entrants = *entrants;
    for (uint32_t rank = 0; rank < p->data_nodes; rank++)
        if (round->counts[rank])
            message->body.welcome.data_nodes[rank / 8] =
                (uint8_t)(message->body.welcome.data_nodes[rank / 8] | 1u << (rank % 8));
}

static void forget_taken(gwtf_protocol *p) {
    struct protocol_entry *entry = &p->entry;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < entry->asking_count; i++) {
        uint32_t member = protocol_member_find(p, entry->asking[i].node);
        if (p->members[member].incarnation == entry->asking[i].incarnation)
            entry->asking[kept++] = entry->asking[i];
    }
    entry->asking_count = kept;
}

void protocol_entry_add(struct gwtf_entrants *list, const struct gwtf_entrants *more) {
    for (uint32_t i = 0; i < more->count && i < GWTF_ENTRANTS_MAX; i++) {
        bool known = false;
        for (uint32_t j = 0; j < list->count; j++)
            known = known || list->entrants[j].node == more->entrants[i].node;
        if (!known && list->count < GWTF_ENTRANTS_MAX)
            list->entrants[list->count++] = more->entrants[i];
    }
}

/* ENTRANT may be taken: who does not know its incarnation exactly goes by those who do. */
static bool is_entitled(const gwtf_protocol *p, const struct gwtf_entrant *entrant) {
    uint32_t index = protocol_member_find(p, entrant->node);
    if (index == PROTOCOL_NONE || index == p->self)
        return false;
    const struct protocol_member *member = &p->members[index];
    return member->is_exact ? member->incarnation == entrant->incarnation
                            : member->incarnation <= entrant->incarnation;
}

/* The members of LIST that are to be taken, each in its right incarnation; all nodes see the same.
 */
static void take_as_members(gwtf_protocol *p, struct gwtf_entrants *list) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < list->count && !p->finished; i++) {
        if (!is_entitled(p, &list->entrants[i]))
            continue;
        protocol_view_down(p, list->entrants[i].node, list->entrants[i].incarnation, false);
        list->entrants[kept++] = list->entrants[i];
    }
    list->count = kept;
}

void protocol_entry_admit(gwtf_protocol *p, bool counts) {
    struct protocol_entry *entry = &p->entry;
    struct protocol_round *round = &p->rounds[p->iteration & 1];
    struct gwtf_entrants list = entry->agreed;
    entry->agreed.count = 0;
    if (list.count == 0)
        return;
    take_as_members(p, &list);
    if (p->rest.began)
        return;
    for (uint32_t i = 0; i < list.count && !p->finished; i++) {
        uint32_t rank = p->members[protocol_member_find(p, list.entrants[i].node)].rank;
        if (p->members[protocol_member_find(p, list.entrants[i].node)].stage == 0 && counts &&
            round->counts_known)
            round->counts[rank] = true;
    }
    for (uint32_t i = 0; i < list.count && !p->finished; i++) {
        uint32_t index = protocol_member_find(p, list.entrants[i].node);
        struct protocol_member *member = &p->members[index];
        protocol_entry_welcome(p, index, p->iteration, &list);
        member->down_since_commit = false;
        p->joined_unreported++;
        protocol_membership_entered(p, member->node);
        if (member->stage != p->stage)
            continue;
        memset(&p->replica[member->rank], 0, sizeof p->replica[member->rank]);
        p->disturbed_until = p->iteration;
    }
    protocol_view_entered(p);
    for (uint32_t i = 0; i < list.count && !p->finished; i++)
        protocol_repair_entered(p, &p->members[protocol_member_find(p, list.entrants[i].node)]);
    forget_taken(p);
}

void protocol_entry_refuse_all(gwtf_protocol *p, gwtf_status status) {
    for (uint32_t i = 0; i < p->entry.asking_count; i++)
        protocol_send(p, p->entry.asking[i].node, GWTF_MESSAGE_CLOSE, GWTF_PHASE_TRAIN,
                      p->iteration)
            ->body.close.status = (uint32_t)status;
}

void protocol_entry_advance(gwtf_protocol *p) {
    struct protocol_entry *entry = &p->entry;
    if (entry->serves)
        return;
    if (entry->waits) {
        if (entry->knock_us <= p->now_us)
            knock(p);
        return;
    }
    if (!entry->is_member && is_welcomed(p)) {
        entry->is_member = true;
        protocol_aggregation_entered(p);
        /* What was found before, the recorder could not hear. */
        if (p->recorder != p->config.self)
            protocol_view_tell_recorder(p);
    }
    if (!entry->is_member && entry->knock_us <= p->now_us)
        ask_whether_known(p);
    fetch(p);
    /* Those that have not welcomed it would take what it says for a lost node's. */
    if (entry->is_member && entry->has_state && !p->finished) {
        entry->serves = true;
        protocol_membership_start(p);
    }
}

gwtf_time_us protocol_entry_deadline(const gwtf_protocol *p) {
    if (p->entry.waits)
        return p->entry.knock_us;
    bool is_told = protocol_entry_is_member(p);
    gwtf_time_us deadline_us = is_told ? GWTF_TIME_NEVER : p->entry.knock_us;
    for (uint32_t i = 0; i < p->entry.pieces_count && !p->entry.has_state; i++) {
        const struct protocol_piece *piece = &p->entry.pieces[i];
        if (piece->state == PIECE_ASKED && piece->asked_us + ASK_AGAIN_US < deadline_us)
            deadline_us = piece->asked_us + ASK_AGAIN_US;
    }
    return deadline_us;
}
