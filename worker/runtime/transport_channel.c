/* Channels that end, with their peer or for a new one, and what becomes of what was under way. */
#include "worker/runtime/transport_state.h"

#include "share/base/assert.h"

#define NOTICES_MAX 16 /* to one peer, held by the emulated network when its channel ends */

void gwtf_transport_add_pending(struct gwtf_transport *transport,
                                const struct gwtf_arrival *arrival) {
    GWTF_ASSERT(transport->pending_count < transport->pending_max);
    size_t at = (transport->pending_first + transport->pending_count) % transport->pending_max;
    transport->pending[at] = *arrival;
    transport->pending_count++;
}

void gwtf_transport_unlink(struct transfer **first, struct transfer *transfer) {
    while (*first != transfer)
        first = &(*first)->next;
    *first = transfer->next;
}

/* MPI has let go of a tensor to or from a lost peer: what it pinned is free. */
void gwtf_transport_end_lost(struct gwtf_transport *transport, struct transfer *transfer,
                             bool sends) {
    struct peer *peer = &transport->peers[transfer->peer];
    if (transfer->is_void) {
        gwtf_transport_give_transfer(transport, transfer);
        return;
    }
    if (sends)
        gwtf_transport_add_pending(transport, &(struct gwtf_arrival){.kind = GWTF_ARRIVAL_SENT,
                                                                     .peer = transfer->peer,
                                                                     .ticket = transfer->ticket});
    gwtf_transport_unlink(sends ? &peer->out_first : &peer->in_first, transfer);
    gwtf_transport_give_transfer(transport, transfer);
}

/* What goes by the door stays, and the word to NODE that it was declared down: of a channel that is
 * over, KEEPS_NOTICE, but not of one before. */
static void drop_held(struct gwtf_transport *transport, gwtf_node_id node, bool keeps_notice) {
    struct gwtf_frame kept[NOTICES_MAX];
    size_t kept_count = 0;
    uint64_t held;
    if (transport->shaper == NULL)
        return;
    while (gwtf_shaper_drop(transport->shaper, node, &held)) {
        const struct gwtf_frame *frame = &transport->held[held];
        bool is_notice =
            frame->kind == GWTF_FRAME_MESSAGE && frame->message.kind == GWTF_MESSAGE_FENCED;
        if ((frame->kind == GWTF_FRAME_DOOR || (is_notice && keeps_notice)) &&
            kept_count < NOTICES_MAX)
            kept[kept_count++] = *frame;
        transport->free_held[transport->free_held_count++] = (size_t)held;
    }
    for (size_t i = 0; i < kept_count; i++)
        gwtf_transport_hand_over(transport, node, &kept[i]);
}

void gwtf_transport_forget(gwtf_transport *transport, gwtf_node_id node) {
    GWTF_ASSERT(node < transport->config.nodes);
    struct peer *peer = &transport->peers[node];
    if (peer->lost)
        return;
    peer->lost = true;
    peer->awaits_answer = false;
    drop_held(transport, node, true);
    /* What MPI has nothing of is free. Requests for the rest may stay pending for ever, as those of
     * a dead peer do in Open MPI 4.1: they and their memory are left alone, a few pieces at most.
     */
    for (struct transfer *at = peer->out_first, *next; at != NULL; at = next) {
        next = at->next;
        if (at->started == at->finished)
            gwtf_transport_end_lost(transport, at, true);
    }
    for (struct transfer *at = peer->in_first, *next; at != NULL; at = next) {
        next = at->next;
        if (at->started == at->finished)
            gwtf_transport_end_lost(transport, at, false);
    }
    for (size_t i = 0; i < transport->requests_used; i++)
        if (transport->requests[i] != MPI_REQUEST_NULL && transport->about[i].peer == node &&
            (transport->about[i].kind == FRAME_RECEIVE ||
             transport->about[i].kind == PIECE_RECEIVE))
            MPI_Cancel(&transport->requests[i]); /* works on those that nothing has come for */
}

/* Those of LIST are of a channel that is over; MPI has a part of each. */
static void make_void(struct transfer **list) {
    for (struct transfer *at = *list; at != NULL; at = at->next)
        at->is_void = true;
    *list = NULL;
}

void gwtf_transport_open(gwtf_transport *transport, gwtf_node_id node, uint64_t channel) {
    GWTF_ASSERT(node < transport->config.nodes && node != transport->config.self);
    struct peer *peer = &transport->peers[node];
    if (peer->opened > 0 && peer->channel == channel && !peer->lost)
        return;
    gwtf_transport_forget(transport, node);
    drop_held(transport, node, false);
    make_void(&peer->out_first);
    make_void(&peer->in_first);
    peer->out_last = NULL;
    peer->channel = channel;
    peer->opened++;
    peer->lost = false;
    peer->awaits_answer = false;
    peer->heartbeat_under_way = false;
    peer->heartbeat_sent_us = 0;
    peer->heartbeat_heard_us = 0;
    peer->transfers_sent = 0;
    peer->frames_sent = 0;
    peer->frames_received = 0;
    peer->pieces_under_way = 0;
    peer->pieces_let_through = 0;
    if (peer->world != MPI_COMM_NULL) {
        gwtf_transport_post_frame(transport, node);
        return;
    }
    peer->lost = true;
    gwtf_transport_add_pending(transport,
                               &(struct gwtf_arrival){.kind = GWTF_ARRIVAL_LOST, .peer = node});
}

void gwtf_transport_connect(gwtf_transport *transport, gwtf_node_id node, MPI_Comm world,
                            int rank) {
    GWTF_ASSERT(node < transport->config.nodes && node != transport->config.self);
    struct peer *peer = &transport->peers[node];
    gwtf_transport_forget(transport, node);
    for (size_t i = 0; i < transport->requests_used; i++)
        if (transport->requests[i] != MPI_REQUEST_NULL && transport->about[i].peer == node &&
            transport->about[i].kind == DOOR_RECEIVE)
            MPI_Cancel(&transport->requests[i]);
    MPI_Comm_set_errhandler(world, MPI_ERRORS_RETURN);
    peer->connected++;
    peer->world = world;
    peer->rank = rank;
    gwtf_transport_post_door(transport, node);
}

void gwtf_transport_forget_all(gwtf_transport *transport) {
    for (gwtf_node_id node = 0; node < transport->config.nodes; node++) {
        struct peer *peer = &transport->peers[node];
        gwtf_transport_forget(transport, node);
        make_void(&peer->out_first);
        make_void(&peer->in_first);
        peer->out_last = NULL;
    }
    transport->pending_first = 0;
    transport->pending_count = 0;
}
