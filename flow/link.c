#include "flow/link.h"

#include "share/base/assert.h"

#define RETRY_DOUBLINGS_MAX 6u

void flow_link_open(gwtf_flow *flow, struct flow_peer *peer) {
    peer->session = ++flow->sessions;
    peer->peer_session = 0;
    peer->next_sequence = 1;
    peer->queue_first = 1;
    peer->received = 0;
    peer->queue_count = peer->queue_unsent = peer->asks = 0;
    peer->retries = 0;
    peer->retry_at_us = flow->now_us;
    peer->acknowledge = false;
}

/* The other side has begun anew: both count from 1 again. */
static void adopt(gwtf_flow *flow, struct flow_peer *peer, uint32_t peer_session) {
    peer->peer_session = peer_session;
    peer->next_sequence = 1;
    peer->queue_first = 1;
    peer->received = 0;
    peer->queue_count = peer->queue_unsent = peer->asks = 0;
    peer->retries = 0;
    peer->retry_at_us = GWTF_TIME_NEVER;
    /* It has to learn this side's number. */
    peer->acknowledge = true;
    peer->acknowledge_at_us = flow->now_us;
}

bool flow_link_has_room(const struct flow_peer *peer) {
    return peer->peer_session != 0 && peer->queue_count < FLOW_QUEUE_MAX - FLOW_ASKS_MAX;
}

bool flow_link_has_room_for_answer(const struct flow_peer *peer) {
    return peer->peer_session != 0 && peer->queue_count < FLOW_QUEUE_MAX;
}

void flow_link_send(gwtf_flow *flow, struct flow_peer *peer, const struct gwtf_flow_message *body) {
    GWTF_ASSERT(peer->peer_session != 0 && peer->queue_count < FLOW_QUEUE_MAX);
    struct gwtf_flow_message *entry = &peer->queue[peer->next_sequence % FLOW_QUEUE_MAX];
    *entry = *body;
    entry->sequence = peer->next_sequence++;
    peer->queue_count++;
    peer->queue_unsent++;
    if (peer->queue_count == 1)
        peer->retry_at_us = flow->now_us + flow->config.retry_us;
}

static void acknowledged(gwtf_flow *flow, struct flow_peer *peer, uint32_t last) {
    uint32_t done = last + 1 - peer->queue_first;
    if (done == 0 || done > peer->queue_count)
        return;
    peer->queue_first += done;
    peer->queue_count -= done;
    if (peer->queue_unsent > peer->queue_count)
        peer->queue_unsent = peer->queue_count;
    peer->retries = 0;
    peer->retry_at_us =
        peer->queue_count > 0 ? flow->now_us + flow->config.retry_us : GWTF_TIME_NEVER;
}

enum flow_link_result flow_link_receive(gwtf_flow *flow, struct flow_peer *peer,
                                        const struct gwtf_flow_message *message) {
    if (message->session == 0 || message->session < peer->peer_session)
        return FLOW_LINK_NOTHING;
    if (message->session > peer->peer_session) {
        bool first = peer->peer_session == 0;
        adopt(flow, peer, message->session);
        if (!first)
            return FLOW_LINK_NEW;
    }
    if (message->peer_session != peer->session) {
        /* It does not know this side's number, or still the old one. */
        peer->acknowledge = true;
        peer->acknowledge_at_us = flow->now_us;
        return FLOW_LINK_NOTHING;
    }
    acknowledged(flow, peer, message->acknowledged);
    if (message->sequence == 0)
        return FLOW_LINK_NOTHING;
    if (!peer->acknowledge)
        peer->acknowledge_at_us = flow->now_us + flow->config.retry_us / 2;
    peer->acknowledge = true;
    if (message->sequence != peer->received + 1)
        return FLOW_LINK_NOTHING;
    peer->received++;
    return FLOW_LINK_BODY;
}

static bool emit(struct flow_peer *peer, const struct gwtf_flow_message *body,
                 struct gwtf_flow_update *update) {
    if (update->sends_count == update->sends_max)
        return false;
    struct gwtf_flow_send *send = &update->sends[update->sends_count++];
    send->to = peer->id;
    send->message = *body;
    send->message.session = peer->session;
    send->message.peer_session = peer->peer_session;
    send->message.acknowledged = peer->received;
    peer->acknowledge = false;
    return true;
}

static void emit_peer(gwtf_flow *flow, struct flow_peer *peer, struct gwtf_flow_update *update) {
    static const struct gwtf_flow_message bare = {.kind = FLOW_MESSAGE_BARE};
    if (peer->retry_at_us <= flow->now_us) {
        uint32_t doublings =
            peer->retries < RETRY_DOUBLINGS_MAX ? peer->retries : RETRY_DOUBLINGS_MAX;
        peer->retries++;
        peer->retry_at_us = flow->now_us + (flow->config.retry_us << doublings);
        peer->queue_unsent = peer->queue_count;
        if (peer->peer_session == 0 && !emit(peer, &bare, update))
            peer->retry_at_us = flow->now_us;
    }
    while (peer->queue_unsent > 0) {
        uint32_t sequence = peer->next_sequence - peer->queue_unsent;
        if (!emit(peer, &peer->queue[sequence % FLOW_QUEUE_MAX], update))
            return;
        peer->queue_unsent--;
    }
    if (peer->acknowledge && peer->acknowledge_at_us <= flow->now_us)
        emit(peer, &bare, update);
}

void flow_link_emit(gwtf_flow *flow, struct gwtf_flow_update *update) {
    for (size_t i = 0; i < flow->peers_count; i++)
        if (flow->peers[i].id != GWTF_NODE_NONE)
            emit_peer(flow, &flow->peers[i], update);
}

gwtf_time_us flow_link_deadline(const gwtf_flow *flow) {
    gwtf_time_us deadline = GWTF_TIME_NEVER;
    for (size_t i = 0; i < flow->peers_count; i++) {
        const struct flow_peer *peer = &flow->peers[i];
        if (peer->id == GWTF_NODE_NONE)
            continue;
        gwtf_time_us due = peer->retry_at_us;
        if (peer->acknowledge && peer->acknowledge_at_us < due)
            due = peer->acknowledge_at_us;
        if (peer->queue_unsent > 0)
            due = flow->now_us;
        if (due < deadline)
            deadline = due;
    }
    return deadline;
}
