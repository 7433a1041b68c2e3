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
    /* figures: "I am here"; answered by a HELLO with reply set */
    GWTF_MESSAGE_HELLO = 1,
    /* figures: compute time or the measured rate from you has moved notably */
    GWTF_MESSAGE_FIGURES,
    /* flow: the flow algorithm's own */
    GWTF_MESSAGE_FLOW,
    /* microbatch, payload: boundary tensor to the next stage */
    GWTF_MESSAGE_FORWARD,
    /* microbatch, payload: its gradient back along the path */
    GWTF_MESSAGE_BACKWARD,
    /* microbatch: full, or the payload came damaged; the FORWARD's tensor is not here */
    GWTF_MESSAGE_REFUSED,
    /* microbatch, validation only: the FORWARD's tensor is here. No gradient comes back that would
     * tell, and without it a sender could not know when REFUSED can come no more */
    GWTF_MESSAGE_ACCEPTED,
    /* done: a data node has all its microbatches of this iteration and phase back */
    GWTF_MESSAGE_DONE,
    /* contribution; payload: the receiver's share of the sender's gradients, or none when the
     * sender has had no microbatch or the share is empty */
    GWTF_MESSAGE_CONTRIBUTION,
    /* reduced; payload: the sender's share, summed over the replicas, or none when it is empty */
    GWTF_MESSAGE_REDUCED,
    /* norm: a stage's part of the global gradient norm, from its first replica to all other stages
     */
    GWTF_MESSAGE_NORM,
    /* "I have everything that the step needs", to the replicas */
    GWTF_MESSAGE_READY,
    /* hash of the stage's weights at a snapshot, to the recorder */
    GWTF_MESSAGE_HASH,
    /* file: the stage's snapshot file is in place, to the recorder */
    GWTF_MESSAGE_WRITTEN,
    /* close: the run is over, leave */
    GWTF_MESSAGE_CLOSE,
    /* payload: gwtf_probe_bytes zeros, to measure a link that no tensor has gone over for long */
    GWTF_MESSAGE_PROBE
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
            /* forward and backward of one microbatch, averaged */
            int64_t compute_us;
            /* measured from the receiver of this message to its sender; 0: not yet */
            int64_t bytes_per_second;
            /* sender's clock at the HELLO; returned in the reply for the round trip */
            gwtf_time_us asked_us;
            uint32_t reply;
        } figures;
        struct gwtf_flow_message flow;
        struct {
            struct gwtf_microbatch id;
            /* the flow's id at the receiver; GWTF_FLOW_NONE: beside any flow's path */
            gwtf_flow_id flow;
            /* of the sender of the FORWARD to pass it on; REFUSED and ACCEPTED return it, so that
             * one that comes twice does not answer a later attempt */
            uint32_t attempt;
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
            uint32_t status;      /* gwtf_status */
            gwtf_node_id culprit; /* the node that it is about, or GWTF_NODE_NONE */
        } close;
    } body;
};

#endif
