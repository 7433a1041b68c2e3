#include "worker/runtime/transport_state.h"

#include "share/base/assert.h"
#include "share/base/hash.h"
#include "worker/runtime/clock.h"
#include "worker/runtime/ulfm.h"

#include <stdlib.h>
#include <string.h>

/* ERROR: of MPI, or MPI_SUCCESS when it was not MPI that found NODE wrong. */
static void lose(struct gwtf_transport *transport, gwtf_node_id node, int error) {
    struct peer *peer = &transport->peers[node];
    if (peer->lost)
        return;
    gwtf_transport_forget(transport, node);
    gwtf_transport_add_pending(
        transport, &(struct gwtf_arrival){
                       .kind = GWTF_ARRIVAL_LOST, .peer = node, .died = gwtf_ulfm_is_death(error)});
}

/* An index for a new request, or SIZE_MAX. */
static size_t take_request(struct gwtf_transport *transport, const struct request *about) {
    size_t index;
    if (transport->free_requests_count > 0)
        index = transport->free_requests[--transport->free_requests_count];
    else if (transport->requests_used < transport->requests_max)
        index = transport->requests_used++;
    else
        return SIZE_MAX;
    transport->about[index] = *about;
    transport->about[index].opened = transport->peers[about->peer].opened;
    transport->about[index].connected = transport->peers[about->peer].connected;
    transport->requests[index] = MPI_REQUEST_NULL;
    return index;
}

static void give_request(struct gwtf_transport *transport, size_t index) {
    transport->about[index].kind = FREE;
    transport->requests[index] = MPI_REQUEST_NULL;
    transport->free_requests[transport->free_requests_count++] = index;
}

static struct gwtf_frame *incoming(struct peer *peer) {
    return &peer->incoming[peer->opened & 1];
}

static int tag_of(const struct peer *peer, int tag) {
    if (peer->opened == 0)
        return tag;
    return TAG_CHANNELS + 2 * (int)(peer->channel % CHANNELS_TOLD_APART) + (tag == TAG_PIECE);
}

gwtf_status gwtf_transport_post_door(struct gwtf_transport *transport, gwtf_node_id node) {
    struct peer *peer = &transport->peers[node];
    size_t index = take_request(transport, &(struct request){.kind = DOOR_RECEIVE, .peer = node});
    if (index == SIZE_MAX)
        return GWTF_ERROR_LIMIT;
    struct gwtf_frame *frame = &peer->at_door[peer->connected & 1];
    if (MPI_Irecv(frame, (int)sizeof *frame, MPI_BYTE, peer->rank, TAG_DOOR, peer->world,
                  &transport->requests[index]) == MPI_SUCCESS)
        return GWTF_OK;
    give_request(transport, index);
    return GWTF_ERROR_PEER;
}

gwtf_status gwtf_transport_post_frame(struct gwtf_transport *transport, gwtf_node_id node) {
    struct peer *peer = &transport->peers[node];
    size_t index = take_request(transport, &(struct request){.kind = FRAME_RECEIVE, .peer = node});
    if (index == SIZE_MAX)
        return GWTF_ERROR_LIMIT;
    int result = MPI_Irecv(incoming(peer), (int)sizeof *incoming(peer), MPI_BYTE, peer->rank,
                           tag_of(peer, TAG_FRAME), peer->world, &transport->requests[index]);
    if (result != MPI_SUCCESS) {
        give_request(transport, index);
        lose(transport, node, result);
        return GWTF_ERROR_PEER;
    }
    return GWTF_OK;
}

/*
 * Lets MPI see the end of a connection before something is written to it. Open MPI 4.1's TCP layer
 * that learns of a peer's death by a failed write goes on with the closed connection for ever,
 * inside the next call (2 of 14 kills of a peer; the survivor then hangs); it copes with one whose
 * end it has read.
 */
static void look_before_sending(void) {
    int present;
    MPI_Iprobe(MPI_ANY_SOURCE, TAG_FRAME, MPI_COMM_SELF, &present, MPI_STATUS_IGNORE);
}

static gwtf_status send_frame(struct gwtf_transport *transport, gwtf_node_id node,
                              struct gwtf_frame *frame) {
    struct peer *peer = &transport->peers[node];
    if (peer->world == MPI_COMM_NULL)
        return GWTF_ERROR_PEER;
    if (transport->free_frames_count == 0)
        return GWTF_ERROR_LIMIT;
    size_t buffer = transport->free_frames[transport->free_frames_count - 1];
    size_t index = take_request(
        transport, &(struct request){.kind = FRAME_SEND, .peer = node, .frame = buffer});
    if (index == SIZE_MAX)
        return GWTF_ERROR_LIMIT;
    transport->free_frames_count--;
    bool by_door = frame->kind == GWTF_FRAME_DOOR;
    frame->incarnation = transport->config.incarnation;
    frame->sequence = by_door ? 0 : ++peer->frames_sent;
    gwtf_frame_seal(frame);
    transport->frames[buffer] = *frame;
    look_before_sending();
    int result = MPI_Isend(&transport->frames[buffer], (int)sizeof *frame, MPI_BYTE, peer->rank,
                           by_door ? TAG_DOOR : tag_of(peer, TAG_FRAME), peer->world,
                           &transport->requests[index]);
    if (result != MPI_SUCCESS) {
        give_request(transport, index);
        transport->free_frames[transport->free_frames_count++] = buffer;
        lose(transport, node, result);
        return GWTF_ERROR_PEER;
    }
    return GWTF_OK;
}

gwtf_status gwtf_transport_hand_over(struct gwtf_transport *transport, gwtf_node_id node,
                                     struct gwtf_frame *frame) {
    if (transport->shaper == NULL)
        return send_frame(transport, node, frame);
    if (transport->free_held_count == 0)
        return GWTF_ERROR_LIMIT;
    size_t at = transport->free_held[transport->free_held_count - 1];
    gwtf_status status =
        gwtf_shaper_message(transport->shaper, node, sizeof *frame, at, gwtf_clock_now_us());
    if (status != GWTF_OK)
        return status;
    transport->free_held_count--;
    transport->held[at] = *frame;
    return GWTF_OK;
}

static struct transfer *take_transfer(struct gwtf_transport *transport,
                                      const struct transfer *values) {
    struct transfer *transfer = transport->free_transfers;
    if (transfer == NULL)
        return NULL;
    transport->free_transfers = transfer->next;
    *transfer = *values;
    transfer->next = NULL;
    return transfer;
}

void gwtf_transport_give_transfer(struct gwtf_transport *transport, struct transfer *transfer) {
    transfer->next = transport->free_transfers;
    transport->free_transfers = transfer;
}

static gwtf_status send_piece(struct gwtf_transport *transport, struct transfer *transfer) {
    struct peer *peer = &transport->peers[transfer->peer];
    uint64_t offset;
    uint32_t bytes;
    gwtf_piece_range(transfer->size_bytes, transfer->started, &offset, &bytes);
    struct gwtf_frame frame;
    memset(&frame, 0, sizeof frame);
    frame.kind = GWTF_FRAME_PIECE;
    frame.transfer = transfer->number;
    frame.piece = transfer->started;
    frame.piece_bytes = bytes;
    frame.piece_hash = gwtf_hash(transfer->memory + offset, bytes);
    gwtf_status status = send_frame(transport, transfer->peer, &frame);
    if (status != GWTF_OK)
        return status;
    size_t index = take_request(transport, &(struct request){.kind = PIECE_SEND,
                                                             .peer = transfer->peer,
                                                             .transfer = transfer,
                                                             .piece_bytes = bytes});
    GWTF_ASSERT(index != SIZE_MAX); /* counted in requests_max */
    int result = MPI_Isend(transfer->memory + offset, (int)bytes, MPI_BYTE, peer->rank,
                           tag_of(peer, TAG_PIECE), peer->world, &transport->requests[index]);
    if (result != MPI_SUCCESS) {
        give_request(transport, index);
        lose(transport, transfer->peer, result);
        return GWTF_ERROR_PEER;
    }
    transfer->started++;
    peer->pieces_under_way++;
    if (transport->shaper != NULL)
        peer->pieces_let_through--;
    return GWTF_OK;
}

/* Starts as many pieces to the peer as may be under way, tensor after tensor. */
static void send_pieces(struct gwtf_transport *transport, gwtf_node_id node) {
    struct peer *peer = &transport->peers[node];
    for (struct transfer *at = peer->out_first; at != NULL && !peer->lost; at = at->next)
        while (at->started < at->pieces) {
            if (transport->shaper != NULL && peer->pieces_let_through == 0)
                return;
            if (peer->pieces_under_way == PIECES_AT_ONCE || send_piece(transport, at) != GWTF_OK)
                return;
        }
}

gwtf_status gwtf_transport_send(gwtf_transport *transport, gwtf_node_id to,
                                const struct gwtf_message *message, const void *payload,
                                uint64_t ticket) {
    GWTF_ASSERT(to < transport->config.nodes && to != transport->config.self);
    struct peer *peer = &transport->peers[to];
    if (peer->lost) {
        if (message->payload_bytes > 0)
            gwtf_transport_add_pending(
                transport,
                &(struct gwtf_arrival){.kind = GWTF_ARRIVAL_SENT, .peer = to, .ticket = ticket});
        return GWTF_OK;
    }
    struct gwtf_frame frame;
    memset(&frame, 0, sizeof frame);
    frame.kind = GWTF_FRAME_MESSAGE;
    frame.message = *message;
    frame.transfer = message->payload_bytes > 0 ? ++peer->transfers_sent : 0;
    gwtf_status status = gwtf_transport_hand_over(transport, to, &frame);
    if (status == GWTF_ERROR_LIMIT)
        return status;
    transport->counters.messages_sent++;
    if (message->payload_bytes == 0)
        return GWTF_OK;
    struct transfer *transfer = take_transfer(
        transport, &(struct transfer){.peer = to,
                                      .number = frame.transfer,
                                      .memory = (char *)(uintptr_t)payload,
                                      .size_bytes = message->payload_bytes,
                                      .ticket = ticket,
                                      .pieces = gwtf_piece_count(message->payload_bytes)});
    if (transfer == NULL)
        return GWTF_ERROR_LIMIT;
    transport->counters.bytes_sent += message->payload_bytes;
    if (peer->out_last != NULL)
        peer->out_last->next = transfer;
    else
        peer->out_first = transfer;
    peer->out_last = transfer;
    if (transport->shaper != NULL)
        return gwtf_shaper_tensor(transport->shaper, to, message->payload_bytes, ticket,
                                  gwtf_clock_now_us());
    send_pieces(transport, to);
    return GWTF_OK;
}

gwtf_status gwtf_transport_send_by_door(gwtf_transport *transport, gwtf_node_id to,
                                        const struct gwtf_message *message) {
    GWTF_ASSERT(to < transport->config.nodes && to != transport->config.self);
    GWTF_ASSERT(message->payload_bytes == 0);
    struct gwtf_frame frame;
    memset(&frame, 0, sizeof frame);
    frame.kind = GWTF_FRAME_DOOR;
    frame.message = *message;
    gwtf_status status = gwtf_transport_hand_over(transport, to, &frame);
    transport->counters.messages_sent++;
    return status == GWTF_ERROR_PEER ? GWTF_OK : status;
}

gwtf_status gwtf_transport_send_heartbeat(gwtf_transport *transport, gwtf_node_id to) {
    struct peer *peer = &transport->peers[to];
    if (peer->lost || peer->heartbeat_under_way)
        return GWTF_OK;
    struct gwtf_frame frame;
    memset(&frame, 0, sizeof frame);
    frame.kind = GWTF_FRAME_HEARTBEAT;
    frame.sent_us = gwtf_clock_now_us();
    frame.echoed_us = peer->heartbeat_sent_us;
    frame.held_us = frame.sent_us - peer->heartbeat_heard_us;
    gwtf_status status = gwtf_transport_hand_over(transport, to, &frame);
    if (status == GWTF_OK && transport->shaper == NULL)
        peer->heartbeat_under_way = true;
    return status;
}

/* What the emulated network lets through now. */
static void send_let_through(struct gwtf_transport *transport) {
    struct gwtf_shaper_release release;
    gwtf_time_us now_us = gwtf_clock_now_us();
    while (transport->free_frames_count > 0 &&
           gwtf_shaper_next(transport->shaper, now_us, &release)) {
        struct peer *peer = &transport->peers[release.peer];
        if (release.kind == GWTF_SHAPER_PIECE) {
            peer->pieces_let_through++;
            send_pieces(transport, (gwtf_node_id)release.peer);
            continue;
        }
        struct gwtf_frame frame = transport->held[release.ticket];
        transport->free_held[transport->free_held_count++] = (size_t)release.ticket;
        if (frame.kind == GWTF_FRAME_HEARTBEAT) {
            if (peer->heartbeat_under_way)
                continue;
            peer->heartbeat_under_way = true;
        }
        send_frame(transport, (gwtf_node_id)release.peer, &frame);
    }
}

void gwtf_transport_set_link(gwtf_transport *transport, gwtf_node_id peer,
                             const struct gwtf_shaper_link *link) {
    GWTF_ASSERT(transport->shaper != NULL && peer < transport->config.nodes);
    gwtf_shaper_set(transport->shaper, peer, link, gwtf_clock_now_us());
}

gwtf_time_us gwtf_transport_deadline(const gwtf_transport *transport) {
    return transport->shaper != NULL ? gwtf_shaper_deadline(transport->shaper) : GWTF_TIME_NEVER;
}

static gwtf_status expect_payload(struct gwtf_transport *transport, gwtf_node_id from, void *memory,
                                  uint64_t ticket) {
    GWTF_ASSERT(from < transport->config.nodes);
    struct peer *peer = &transport->peers[from];
    if (peer->lost)
        return GWTF_ERROR_PEER;
    GWTF_ASSERT(peer->awaits_answer);
    uint64_t size_bytes = incoming(peer)->message.payload_bytes;
    struct transfer *transfer =
        take_transfer(transport, &(struct transfer){.peer = from,
                                                    .number = incoming(peer)->transfer,
                                                    .memory = memory,
                                                    .size_bytes = size_bytes,
                                                    .ticket = ticket,
                                                    .pieces = gwtf_piece_count(size_bytes)});
    if (transfer == NULL)
        return GWTF_ERROR_LIMIT;
    transfer->next = peer->in_first;
    peer->in_first = transfer;
    peer->awaits_answer = false;
    return gwtf_transport_post_frame(transport, from);
}

gwtf_status gwtf_transport_receive(gwtf_transport *transport, gwtf_node_id from, void *memory,
                                   uint64_t ticket) {
    GWTF_ASSERT(memory != NULL);
    return expect_payload(transport, from, memory, ticket);
}

gwtf_status gwtf_transport_discard(gwtf_transport *transport, gwtf_node_id from) {
    return expect_payload(transport, from, NULL, 0);
}

static struct transfer *find_incoming(struct peer *peer, uint32_t number) {
    struct transfer *at = peer->in_first;
    while (at != NULL && at->number != number)
        at = at->next;
    return at;
}

/* Memory for a piece, or NULL. */
static void *take_stage(struct gwtf_transport *transport) {
    if (transport->free_stages_count > 0)
        return transport->free_stages[--transport->free_stages_count];
    return malloc(GWTF_PIECE_BYTES);
}

/* A stage for each request fits, and there are no more. */
static void give_stage(struct gwtf_transport *transport, void *stage) {
    GWTF_ASSERT(transport->free_stages_count < transport->requests_max);
    transport->free_stages[transport->free_stages_count++] = stage;
}

/* A frame that announces a piece has come: receive the piece. */
static gwtf_status receive_piece(struct gwtf_transport *transport, gwtf_node_id from,
                                 const struct gwtf_frame *frame) {
    struct peer *peer = &transport->peers[from];
    struct transfer *transfer = find_incoming(peer, frame->transfer);
    uint64_t offset;
    uint32_t bytes;
    if (transfer == NULL || frame->piece != transfer->started)
        return GWTF_ERROR_CORRUPT;
    gwtf_piece_range(transfer->size_bytes, frame->piece, &offset, &bytes);
    if (bytes != frame->piece_bytes)
        return GWTF_ERROR_CORRUPT;
    void *stage = take_stage(transport);
    if (stage == NULL)
        return GWTF_ERROR_MEMORY;
    size_t index = take_request(transport, &(struct request){.kind = PIECE_RECEIVE,
                                                             .peer = from,
                                                             .transfer = transfer,
                                                             .stage = stage,
                                                             .offset = offset,
                                                             .piece_bytes = bytes,
                                                             .piece_hash = frame->piece_hash});
    if (index == SIZE_MAX) {
        give_stage(transport, stage);
        return GWTF_ERROR_LIMIT;
    }
    if (MPI_Irecv(stage, (int)bytes, MPI_BYTE, peer->rank, tag_of(peer, TAG_PIECE), peer->world,
                  &transport->requests[index]) != MPI_SUCCESS) {
        give_stage(transport, stage);
        give_request(transport, index);
        return GWTF_ERROR_PEER;
    }
    transfer->started++;
    return GWTF_OK;
}

/* True when ARRIVAL has been filled. */
static bool frame_received(struct gwtf_transport *transport, gwtf_node_id from,
                           struct gwtf_arrival *arrival) {
    struct peer *peer = &transport->peers[from];
    const struct gwtf_frame *frame = incoming(peer);
    if (gwtf_frame_check(frame, transport->config.incarnation, ++peer->frames_received) !=
        GWTF_OK) {
        lose(transport, from, MPI_SUCCESS);
        return false;
    }
    switch (frame->kind) {
    case GWTF_FRAME_MESSAGE:
        *arrival = (struct gwtf_arrival){
            .kind = GWTF_ARRIVAL_MESSAGE, .peer = from, .message = frame->message};
        transport->counters.messages_received++;
        peer->awaits_answer = frame->message.payload_bytes > 0;
        if (!peer->awaits_answer)
            gwtf_transport_post_frame(transport, from);
        return true;
    case GWTF_FRAME_PIECE:
        if (receive_piece(transport, from, frame) != GWTF_OK)
            lose(transport, from, MPI_SUCCESS);
        else
            gwtf_transport_post_frame(transport, from);
        return false;
    case GWTF_FRAME_HEARTBEAT:
        *arrival =
            (struct gwtf_arrival){.kind = GWTF_ARRIVAL_HEARD, .peer = from, .round_trip_us = -1};
        peer->heartbeat_sent_us = frame->sent_us;
        peer->heartbeat_heard_us = gwtf_clock_now_us();
        if (frame->echoed_us > 0)
            arrival->round_trip_us = peer->heartbeat_heard_us - frame->echoed_us - frame->held_us;
        gwtf_transport_post_frame(transport, from);
        return true;
    default:
        lose(transport, from, MPI_SUCCESS);
        return false;
    }
}

static bool piece_received(struct gwtf_transport *transport, const struct request *about,
                           struct gwtf_arrival *arrival) {
    struct transfer *transfer = about->transfer;
    struct peer *peer = &transport->peers[about->peer];
    transport->counters.bytes_received += about->piece_bytes;
    if (transfer->memory != NULL &&
        gwtf_hash(about->stage, about->piece_bytes) == about->piece_hash)
        memcpy(transfer->memory + about->offset, about->stage, about->piece_bytes);
    else
        transfer->corrupt = true;
    give_stage(transport, about->stage);
    if (++transfer->finished < transfer->pieces)
        return false;
    bool tells = transfer->memory != NULL;
    *arrival = (struct gwtf_arrival){.kind = GWTF_ARRIVAL_RECEIVED,
                                     .peer = about->peer,
                                     .ticket = transfer->ticket,
                                     .status = transfer->corrupt ? GWTF_ERROR_CORRUPT : GWTF_OK};
    gwtf_transport_unlink(&peer->in_first, transfer);
    gwtf_transport_give_transfer(transport, transfer);
    return tells;
}

static bool piece_sent(struct gwtf_transport *transport, const struct request *about,
                       struct gwtf_arrival *arrival) {
    struct transfer *transfer = about->transfer;
    struct peer *peer = &transport->peers[about->peer];
    peer->pieces_under_way--;
    bool done = ++transfer->finished == transfer->pieces;
    if (done) {
        *arrival = (struct gwtf_arrival){.kind = GWTF_ARRIVAL_SENT,
                                         .peer = about->peer,
                                         .ticket = transfer->ticket,
                                         .status = GWTF_OK};
        gwtf_transport_unlink(&peer->out_first, transfer);
        peer->out_last = NULL;
        for (struct transfer *at = peer->out_first; at != NULL; at = at->next)
            peer->out_last = at;
        gwtf_transport_give_transfer(transport, transfer);
    }
    send_pieces(transport, about->peer);
    return done;
}

/* A message beside the channel. True when ARRIVAL has been filled. */
static bool door_received(struct gwtf_transport *transport, gwtf_node_id from, int error,
                          struct gwtf_arrival *arrival) {
    const struct peer *peer = &transport->peers[from];
    const struct gwtf_frame *frame = &peer->at_door[peer->connected & 1];
    if (error != MPI_SUCCESS)
        return false; /* it is dead */
    bool is_whole = gwtf_frame_check(frame, transport->config.incarnation, 0) == GWTF_OK &&
                    frame->kind == GWTF_FRAME_DOOR && frame->message.payload_bytes == 0;
    if (is_whole)
        *arrival = (struct gwtf_arrival){
            .kind = GWTF_ARRIVAL_MESSAGE, .peer = from, .message = frame->message, .by_door = true};
    gwtf_transport_post_door(transport, from);
    return is_whole;
}

static void lost_piece_done(struct gwtf_transport *transport, const struct request *about) {
    struct transfer *transfer = about->transfer;
    if (about->kind == PIECE_RECEIVE)
        give_stage(transport, about->stage);
    if (++transfer->finished == transfer->started)
        gwtf_transport_end_lost(transport, transfer, about->kind == PIECE_SEND);
}

static bool request_done(struct gwtf_transport *transport, size_t index, int error,
                         struct gwtf_arrival *arrival) {
    struct request about = transport->about[index];
    give_request(transport, index);
    if (about.kind == DOOR_RECEIVE && about.connected != transport->peers[about.peer].connected)
        return false;
    if (about.kind == DOOR_RECEIVE)
        return door_received(transport, about.peer, error, arrival);
    bool by_door = false;
    if (about.kind == FRAME_SEND) {
        by_door = transport->frames[about.frame].kind == GWTF_FRAME_DOOR;
        if (transport->frames[about.frame].kind == GWTF_FRAME_HEARTBEAT)
            transport->peers[about.peer].heartbeat_under_way = false;
        transport->free_frames[transport->free_frames_count++] = about.frame;
    }
    const struct peer *peer = &transport->peers[about.peer];
    if (peer->lost || peer->opened != about.opened || by_door) {
        if (about.kind == PIECE_SEND || about.kind == PIECE_RECEIVE)
            lost_piece_done(transport, &about);
        return false;
    }
    if (error != MPI_SUCCESS) {
        lose(transport, about.peer, error);
        return false;
    }
    switch (about.kind) {
    case FRAME_RECEIVE:
        return frame_received(transport, about.peer, arrival);
    case PIECE_RECEIVE:
        return piece_received(transport, &about, arrival);
    case PIECE_SEND:
        return piece_sent(transport, &about, arrival);
    case FRAME_SEND:
        send_pieces(transport, about.peer); /* those that found no frame before */
        break;
    case DOOR_RECEIVE:
    case FREE:
        break;
    }
    return false;
}

static void test_requests(struct gwtf_transport *transport) {
    int count = 0;
    transport->completed_next = 0;
    transport->completed_count = 0;
    int result = MPI_Testsome((int)transport->requests_used, transport->requests, &count,
                              transport->completed, transport->statuses);
    if (count == MPI_UNDEFINED)
        return;
    transport->completed_count = count;
    for (int i = 0; i < count; i++)
        if (result == MPI_SUCCESS)
            transport->statuses[i].MPI_ERROR = MPI_SUCCESS;
}

static bool take_pending(struct gwtf_transport *transport, struct gwtf_arrival *arrival) {
    while (transport->pending_count > 0) {
        *arrival = transport->pending[transport->pending_first];
        transport->pending_first = (transport->pending_first + 1) % transport->pending_max;
        transport->pending_count--;
        /* A peer that was lost may have got a new channel since. */
        if (arrival->kind != GWTF_ARRIVAL_LOST || transport->peers[arrival->peer].lost)
            return true;
    }
    return false;
}

bool gwtf_transport_poll(gwtf_transport *transport, struct gwtf_arrival *arrival) {
    if (take_pending(transport, arrival))
        return true;
    if (transport->completed_next == transport->completed_count) {
        if (transport->shaper != NULL)
            send_let_through(transport);
        test_requests(transport);
    }
    while (transport->completed_next < transport->completed_count) {
        int at = transport->completed_next++;
        if (request_done(transport, (size_t)transport->completed[at],
                         transport->statuses[at].MPI_ERROR, arrival))
            return true;
    }
    return take_pending(transport, arrival);
}

void gwtf_transport_push_on(struct gwtf_transport *transport) {
    GWTF_ASSERT(transport->completed_next == transport->completed_count);
    if (transport->shaper != NULL)
        send_let_through(transport);
    for (size_t i = 0; i < transport->requests_used; i++) {
        int done = 0;
        if (transport->about[i].kind != FRAME_SEND)
            continue;
        int result = MPI_Test(&transport->requests[i], &done, MPI_STATUS_IGNORE);
        struct gwtf_arrival unused;
        if (done || result != MPI_SUCCESS)
            request_done(transport, i, result, &unused);
    }
}

bool gwtf_transport_all_sent(const gwtf_transport *transport) {
    for (size_t i = 0; i < transport->config.nodes; i++)
        if (!transport->peers[i].lost &&
            (transport->peers[i].out_first != NULL ||
             (transport->shaper != NULL && gwtf_shaper_has(transport->shaper, i))))
            return false;
    for (size_t i = 0; i < transport->requests_used; i++) {
        const struct request *about = &transport->about[i];
        const struct peer *peer = &transport->peers[about->peer];
        if ((about->kind == FRAME_SEND || about->kind == PIECE_SEND) && !peer->lost &&
            about->opened == peer->opened)
            return false;
    }
    return true;
}

struct gwtf_transport_counters gwtf_transport_get_counters(const gwtf_transport *transport) {
    return transport->counters;
}
