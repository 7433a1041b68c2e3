/* Tensors under way, from and to this node's memory. */
#include "worker/protocol/state.h"

#include "share/base/assert.h"

static void close_transfer(gwtf_protocol *p, struct protocol_transfer *transfer) {
    transfer->used = false;
    p->transfers_used--;
}

static uint64_t open_transfer(gwtf_protocol *p, gwtf_node_id peer,
                              const struct gwtf_message *message,
                              const struct gwtf_payload *payload, bool receives) {
    /* The table holds what slots and aggregation can have under way by their own limits. */
    GWTF_ASSERT(p->transfers_used < p->transfers_max);
    uint32_t index = 0;
    while (p->transfers[index].used)
        index++;
    struct protocol_transfer *transfer = &p->transfers[index];
    if (index >= p->transfers_ever)
        p->transfers_ever = index + 1;
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
    close_transfer(p, found);
    return true;
}

void protocol_transfers_lost(gwtf_protocol *p, gwtf_node_id peer) {
    for (uint32_t i = 0; i < p->transfers_ever; i++) {
        struct protocol_transfer *transfer = &p->transfers[i];
        if (!transfer->used || transfer->peer != peer)
            continue;
        struct protocol_transfer lost = *transfer;
        close_transfer(p, transfer);
        if (lost.payload.kind == GWTF_PAYLOAD_PROBE)
            continue;
        bool of_slot = lost.payload.kind == GWTF_PAYLOAD_BOUNDARY;
        if (lost.payload.kind == GWTF_PAYLOAD_STATE && lost.receives)
            protocol_entry_received(p, &lost, false);
        else if (lost.payload.kind == GWTF_PAYLOAD_STATE)
            protocol_entry_sent(p);
        else if (of_slot && lost.receives)
            protocol_slots_unreceived(p, &lost);
        else if (of_slot)
            protocol_slots_sent(p, &lost);
        else if (lost.receives)
            p->tensors_coming--;
        else
            protocol_aggregation_sent(p, &lost);
    }
}

void protocol_transfers_move(gwtf_protocol *p, uint32_t from, uint32_t to) {
    for (uint32_t i = 0; i < p->transfers_ever; i++) {
        struct protocol_transfer *transfer = &p->transfers[i];
        if (transfer->used && transfer->payload.kind == GWTF_PAYLOAD_BOUNDARY &&
            transfer->payload.slot == from)
            transfer->payload.slot = to;
    }
}
