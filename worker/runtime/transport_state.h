/* The transport's insides, private to the files of its name. */
#ifndef GWTF_WORKER_RUNTIME_TRANSPORT_STATE_H
#define GWTF_WORKER_RUNTIME_TRANSPORT_STATE_H

#include "worker/runtime/frame.h"
#include "worker/runtime/transport.h"

#include <mpi.h>

#define TAG_FRAME 1
#define TAG_PIECE 2
#define TAG_DOOR 3
/* Those of the channels after the first; MPI promises tags up to 32767. */
#define TAG_CHANNELS 4
#define CHANNELS_TOLD_APART 16000

/* Pieces under way to one peer at one time. */
#define PIECES_AT_ONCE 4

enum request_kind { FREE, FRAME_RECEIVE, FRAME_SEND, PIECE_RECEIVE, PIECE_SEND, DOOR_RECEIVE };

/* What a request of the table is about; same index as the request. */
struct request {
    enum request_kind kind;
    gwtf_node_id peer;
    uint32_t opened;           /* how often the peer's channel had been opened */
    uint32_t connected;        /* how often the peer had been connected anew */
    size_t frame;              /* FRAME_SEND: index of the frame buffer */
    struct transfer *transfer; /* PIECE_*: what it belongs to */
    void *stage;               /* PIECE_RECEIVE: what MPI writes into, of GWTF_PIECE_BYTES */
    uint64_t offset;           /* PIECE_RECEIVE: of the piece in its tensor */
    uint32_t piece_bytes;
    uint64_t piece_hash;
};

/* A tensor under way, out or in. Outgoing ones of a peer form a queue. */
struct transfer {
    struct transfer *next;
    gwtf_node_id peer;
    uint32_t number;
    char *memory; /* in: NULL when thrown away */
    uint64_t size_bytes;
    uint64_t ticket;
    uint32_t pieces;
    uint32_t started; /* pieces whose request has been posted */
    uint32_t finished;
    bool corrupt;
    bool is_void; /* of a channel that is over: in no list, and nobody hears of it */
};

struct peer {
    MPI_Comm world; /* in which it has that rank; MPI_COMM_NULL: it is not connected */
    int rank;
    uint32_t connected; /* anew: with another world */
    uint64_t channel;
    uint32_t opened; /* channels after the first */
    bool lost;
    bool awaits_answer; /* a message with a payload was delivered, receive or discard is due */
    bool heartbeat_under_way;
    gwtf_time_us heartbeat_sent_us;  /* by the peer's clock, the newest heard; 0: none */
    gwtf_time_us heartbeat_heard_us; /* by this node's */
    uint32_t transfers_sent;
    uint64_t frames_sent;
    uint64_t frames_received;
    uint32_t pieces_under_way;
    uint32_t pieces_let_through; /* by the emulated network, and not sent yet */
    /* Of the posted receive: the first, and after a channel has been opened the other one, since
     * MPI may not have let go of it yet. */
    struct gwtf_frame incoming[2];
    struct gwtf_frame at_door[2]; /* of the posted receive beside it; the same with worlds */
    struct transfer *out_first;
    struct transfer *out_last;
    struct transfer *in_first;
};

struct gwtf_transport {
    struct gwtf_transport_config config;
    struct peer *peers;

    MPI_Request *requests;
    struct request *about;
    size_t requests_max;
    size_t requests_used; /* high-water mark */
    size_t *free_requests;
    size_t free_requests_count;

    struct gwtf_frame *frames; /* being sent */
    size_t *free_frames;
    size_t free_frames_count;
    size_t frames_max;

    struct transfer *transfers;
    struct transfer *free_transfers;

    /* Pieces are received into stages, and copied from there: MPI may still write into one long
     * after its peer was taken for lost, when the tensor's memory is used for another. */
    void **free_stages; /* [requests_max] */
    size_t free_stages_count;

    gwtf_shaper *shaper;     /* NULL: no network is emulated */
    struct gwtf_frame *held; /* waiting in it; ticket: index */
    size_t *free_held;
    size_t free_held_count;

    /* What the last MPI_Testsome completed and has not been looked at. */
    int *completed;
    MPI_Status *statuses;
    int completed_count;
    int completed_next;

    struct gwtf_transport_counters counters;

    /* Arrivals that a call other than poll has caused. */
    struct gwtf_arrival *pending;
    size_t pending_first;
    size_t pending_count;
    size_t pending_max;
};

/* transport_channel.c */
void gwtf_transport_add_pending(struct gwtf_transport *transport,
                                const struct gwtf_arrival *arrival);
void gwtf_transport_unlink(struct transfer **first, struct transfer *transfer);
/* MPI has let go of a tensor to or from a lost peer: what it pinned is free. */
void gwtf_transport_end_lost(struct gwtf_transport *transport, struct transfer *transfer,
                             bool sends);

/* transport.c: lets the next frame of NODE come. */
/* Sends FRAME, at once or when the emulated network lets it through. */
gwtf_status gwtf_transport_hand_over(struct gwtf_transport *transport, gwtf_node_id node,
                                     struct gwtf_frame *frame);
gwtf_status gwtf_transport_post_frame(struct gwtf_transport *transport, gwtf_node_id node);
gwtf_status gwtf_transport_post_door(struct gwtf_transport *transport, gwtf_node_id node);
void gwtf_transport_give_transfer(struct gwtf_transport *transport, struct transfer *transfer);

#endif
