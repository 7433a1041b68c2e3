/* Tensors under way, from and to this node's memory. */
#include "worker/protocol/state.h"

#include "share/base/assert.h"

static uint64_t open_transfer(gwtf_protocol *p, gwtf_node_id peer,
                              const struct gwtf_message *message,
                              const struct gwtf_payload *payload, bool receives) {
    /* The table holds what slots and aggregation can have under way by their own limits. */
    GWTF_ASSERT(p->transfers_used < p->transfers_max);
    uint32_t index = 0;
    while (p->transfers[index].used)
        index++;
    struct protocol_transfer *transfer = &p->transfers[index];
    p->transfers_used++;
    transfer->used = true;
    transfer->receives = receives;
    transfer->generation++;
    transfer->peer = peer;
    transfer->iteration = message->iteration;
    transfer->bytes = message->payload_bytes;
    transfer->started_us = p->now_us;
    transfer->payload = *payload;
    return (uint64_t)transfer->generation << 32 | index;
}

struct gwtf_action *protocol_transfer_send(gwtf_protocol *p, gwtf_node_id to,
                                           enum gwtf_message_kind kind, enum gwtf_phase phase,
                                           uint32_t iteration, uint64_t bytes,
                                           struct gwtf_payload payload) {
    struct gwtf_action *action = protocol_emit(p, GWTF_ACTION_SEND);
    action->to = to;
    action->message.kind = (uint16_t)kind;
    action->message.phase = (uint16_t)phase;
    action->message.iteration = iteration;
    action->message.payload_bytes = bytes;
    action->payload = payload;
    action->ticket = open_transfer(p, to, &action->message, &payload, false);
    protocol_membership_sent(p, to, bytes);
    return action;
}

void protocol_transfer_receive(gwtf_protocol *p, gwtf_node_id peer,
                               const struct gwtf_message *message, struct gwtf_payload payload) {
    GWTF_ASSERT(message->payload_bytes > 0 && !p->answered);
    p->answered = true;
    struct gwtf_action *action = protocol_emit(p, GWTF_ACTION_RECEIVE);
    action->payload = payload;
    action->ticket = open_transfer(p, peer, message, &payload, true);
}

bool protocol_transfer_end(gwtf_protocol *p, uint64_t ticket, bool receives,
                           struct protocol_transfer *transfer) {
    uint64_t index = ticket & UINT32_MAX;
    if (index >= p->transfers_max)
        return false;
    struct protocol_transfer *found = &p->transfers[index];
    if (!found->used || found->receives != receives || found->generation != ticket >> 32)
        return false;
    *transfer = *found;
    found->used = false;
    p->transfers_used--;
    return true;
}
