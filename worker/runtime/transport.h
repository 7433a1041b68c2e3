/*
 * Messages and tensors between workers, point to point over MPI: those of one world, and others
 * that have been connected to.
 *
 * One receive per peer is posted for frames. A tensor travels as pieces of GWTF_PIECE_BYTES, each
 * announced by a frame and received into a stage, from which it is copied to where it belongs; at
 * most a few pieces to one peer are under way at a time, so that messages and heartbeats get
 * between. Nothing here ever
 * waits: poll it.
 *
 * Threads: all calls from the thread that initialised MPI.
 */
#ifndef GWTF_WORKER_RUNTIME_TRANSPORT_H
#define GWTF_WORKER_RUNTIME_TRANSPORT_H

#include "share/base/status.h"
#include "share/base/types.h"
#include "worker/protocol/message.h"
#include "worker/runtime/shaper.h"

#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>

struct gwtf_transport_config {
    size_t nodes; /* peers are 0..nodes-1 */
    gwtf_node_id self;
    const int *rank_of_node; /* in MPI_COMM_WORLD; -1: not connected yet; copied */
    size_t payloads_max;     /* payloads under way at one time, out and in */
    uint32_t incarnation;    /* of this start of the run; frames of another one are refused */
    /* By node: what is sent goes as over these (worker/runtime/shaper.h); copied. NULL: no network
     * is emulated. */
    const struct gwtf_shaper_link *links;
};

enum gwtf_arrival_kind {
    GWTF_ARRIVAL_MESSAGE, /* message; when payload_bytes > 0 answer with _receive or _discard before
                             the next poll */
    GWTF_ARRIVAL_RECEIVED, /* a tensor is whole: ticket, status (GWTF_ERROR_CORRUPT: hash wrong) */
    GWTF_ARRIVAL_SENT,     /* a tensor's memory may be reused: ticket */
    GWTF_ARRIVAL_HEARD,    /* a heartbeat: round_trip_us */
    GWTF_ARRIVAL_LOST /* MPI says that the peer is gone, or it sent rubbish; its tensors will not
                         arrive */
};
struct gwtf_arrival {
    enum gwtf_arrival_kind kind;
    gwtf_node_id peer;
    struct gwtf_message message;
    uint64_t ticket;
    gwtf_status status;
    int64_t round_trip_us; /* HEARD: of the way there and back; -1: not known yet */
    bool died;             /* LOST: MPI says that its process has died */
    bool by_door;          /* MESSAGE: beside the channel */
};

typedef struct gwtf_transport gwtf_transport;

/* MPI must be initialised. Errors: GWTF_ERROR_MEMORY. */
gwtf_status gwtf_transport_create(const struct gwtf_transport_config *config,
                                  gwtf_transport **transport);

/* Frees the memory; requests that are still pending are left to MPI, their buffers too, also those
 * of frames. NULL is allowed. */
void gwtf_transport_destroy(gwtf_transport *transport);

/*
 * Sends MESSAGE to TO, and after it message->payload_bytes bytes from PAYLOAD, which must stay
 * unchanged until GWTF_ARRIVAL_SENT with TICKET. To a lost peer nothing is sent; a payload's SENT
 * comes all the same. Errors: GWTF_ERROR_LIMIT when too much is under way.
 */
gwtf_status gwtf_transport_send(gwtf_transport *transport, gwtf_node_id to,
                                const struct gwtf_message *message, const void *payload,
                                uint64_t ticket);

/* Sends MESSAGE, which has no payload, to TO, whether it is lost or not: it arrives beside what is
 * sent over the channel. */
gwtf_status gwtf_transport_send_by_door(gwtf_transport *transport, gwtf_node_id to,
                                        const struct gwtf_message *message);

/*
 * A channel with PEER begins, CHANNEL on both sides, another one than all before: what was sent or
 * is to come over those is void. PEER is lost no more; but GWTF_ARRIVAL_LOST follows where it is
 * not connected.
 */
void gwtf_transport_open(gwtf_transport *transport, gwtf_node_id peer, uint64_t channel);

/*
 * PEER is reached over WORLD, where it has RANK, and over nothing else that it was reached over
 * before. It can send by the door now; a channel is to be opened.
 */
void gwtf_transport_connect(gwtf_transport *transport, gwtf_node_id peer, MPI_Comm world, int rank);

/* All peers are forgotten, and nothing arrives any more of what was under way: this node begins a
 * new life. */
void gwtf_transport_forget_all(gwtf_transport *transport);

/* Sends a heartbeat unless the last one to TO is still under way. */
gwtf_status gwtf_transport_send_heartbeat(gwtf_transport *transport, gwtf_node_id to);

/* Lets MPI get on with heartbeats, without looking at what has come: for a node that cannot take
 * messages yet, before its first poll. */
void gwtf_transport_push_on(gwtf_transport *transport);

/* The next thing that has happened; false when nothing has. */
bool gwtf_transport_poll(gwtf_transport *transport, struct gwtf_arrival *arrival);

/* From now on the emulated link to PEER is LINK. Not without an emulated network. */
void gwtf_transport_set_link(gwtf_transport *transport, gwtf_node_id peer,
                             const struct gwtf_shaper_link *link);

/* When the emulated network lets something through, so that a poll is due then; GWTF_TIME_NEVER. */
gwtf_time_us gwtf_transport_deadline(const gwtf_transport *transport);

/* The payload of the message that FROM has just sent goes to MEMORY (payload_bytes of it). */
gwtf_status gwtf_transport_receive(gwtf_transport *transport, gwtf_node_id from, void *memory,
                                   uint64_t ticket);

/* The payload of the message that FROM has just sent is thrown away. */
gwtf_status gwtf_transport_discard(gwtf_transport *transport, gwtf_node_id from);

/* No more is sent to PEER or expected from it. Of payloads to it, those get their SENT that MPI has
 * nothing of; the memory of the others stays with MPI. Nothing is written any more into the memory
 * of what was to come from it. */
void gwtf_transport_forget(gwtf_transport *transport, gwtf_node_id peer);

/* True when nothing that was sent is still under way to a peer that is not lost. */
bool gwtf_transport_all_sent(const gwtf_transport *transport);

struct gwtf_transport_counters {
    uint64_t messages_sent;
    uint64_t bytes_sent; /* of payloads */
    uint64_t messages_received;
    uint64_t bytes_received;
};
struct gwtf_transport_counters gwtf_transport_get_counters(const gwtf_transport *transport);

#endif
