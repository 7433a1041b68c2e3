/*
 * What nodes say to each other. A message is plain bytes of one size between nodes of one build and
 * one byte order; the transport adds sequence numbers and checksums. A message with payload_bytes >
 * 0 is followed by that many bytes: a tensor.
 */
#ifndef GWTF_WORKER_PROTOCOL_MESSAGE_H
#define GWTF_WORKER_PROTOCOL_MESSAGE_H

#include "flow/flow.h"
#include "share/base/types.h"

#include <stdint.h>

enum gwtf_message_kind {
    GWTF_MESSAGE_HELLO = 1, /* figures: "I am here"; answered by a HELLO with reply set */
    GWTF_MESSAGE_FIGURES,   /* figures: compute time or the measured rate from you has moved notably
                             */
    GWTF_MESSAGE_FLOW,      /* flow: the flow algorithm's own */
    GWTF_MESSAGE_FORWARD,   /* microbatch, payload: boundary tensor to the next stage */
    GWTF_MESSAGE_BACKWARD,  /* microbatch, payload: its gradient back along the path */
    GWTF_MESSAGE_REFUSED,   /* microbatch: full; the FORWARD's payload was thrown away */
    GWTF_MESSAGE_DONE, /* done: a data node has all its microbatches of this iteration and phase
                          back */
    GWTF_MESSAGE_CONTRIBUTION, /* contribution, payload or none: the receiver's share of the
                                  sender's gradients */
    GWTF_MESSAGE_REDUCED,      /* reduced, payload: the sender's share, summed over the replicas */
    GWTF_MESSAGE_NORM,  /* norm: a stage's part of the global gradient norm, to all other stages */
    GWTF_MESSAGE_READY, /* "I have everything that the step needs", to the replicas */
    GWTF_MESSAGE_HASH,  /* hash of the stage's weights at a snapshot, to the recorder */
    GWTF_MESSAGE_WRITTEN, /* file: the stage's snapshot file is in place, to the recorder */
    GWTF_MESSAGE_CLOSE    /* close: the run is over, leave */
};

enum gwtf_phase { GWTF_PHASE_TRAIN, GWTF_PHASE_VALIDATE };

struct gwtf_microbatch {
    gwtf_node_id data_node;
    uint32_t index; /* 0.. within this data node, iteration and phase */
};

/* Size and SHA-256 of a stage's snapshot file. */
struct gwtf_stage_file {
    uint64_t size_bytes;
    uint8_t sha256[32];
};

struct gwtf_message {
    uint16_t kind;
    uint16_t phase; /* enum gwtf_phase */
    uint32_t iteration;
    uint64_t payload_bytes;
    union {
        struct {
            uint32_t stage;
            uint32_t capacity;
            int64_t compute_us;       /* forward and backward of one microbatch, averaged */
            int64_t bytes_per_second; /* measured from the receiver of this message to its sender;
                                         0: not yet */
            gwtf_time_us asked_us;    /* sender's clock at the HELLO; returned in the reply for the
                                         round trip */
            uint32_t reply;
        } figures;
        struct gwtf_flow_message flow;
        struct {
            struct gwtf_microbatch id;
            gwtf_flow_id flow;
        } microbatch;
        struct {
            double loss_sum; /* nats */
            uint64_t tokens;
            uint32_t microbatches;
            uint32_t stop; /* the user wants the run to end after this iteration */
        } done;
        struct {
            uint64_t ids; /* sum over its microbatches of a hash of the id: order does not matter */
            uint32_t microbatches;
            int64_t busy_us; /* compute time since the iteration began */
        } contribution;
        struct {
            double sum_of_squares;
        } reduced;
        struct {
            uint32_t stage;
            double sum_of_squares;
            int64_t busy_us; /* of all replicas */
            uint32_t replicas;
        } norm;
        struct {
            uint64_t weights;
        } hash;
        struct {
            uint32_t stage;
            uint32_t status; /* gwtf_status */
            struct gwtf_stage_file file;
        } written;
        struct {
            uint32_t status; /* gwtf_status */
        } close;
    } body;
};

#endif
