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

#define GWTF_DATA_NODES_MAX 1024
#define GWTF_ENTRANTS_MAX 6 /* nodes that come back with one iteration */
#define GWTF_LEAVERS_MAX 6  /* nodes of one stage that leave after one iteration */

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
    /* microbatch, from a substitute to the next stage: "do you hold it?" (worker/protocol/repair.c)
     */
    GWTF_MESSAGE_ASK,
    /* microbatch: it is here, and its gradient will go to you, who asked */
    GWTF_MESSAGE_HELD,
    /* microbatch: it is not here */
    GWTF_MESSAGE_NOT_HELD,
    /* microbatch: it was here and is counted, but its tensors are gone */
    GWTF_MESSAGE_FORGOTTEN,
    /* microbatch, from a substitute to the microbatch's data node, where the policy repeats the
     * pipeline: run it through all stages again if its backward pass has begun */
    GWTF_MESSAGE_AGAIN,
    /* microbatch: it has not begun; repair the one stage. Answers AGAIN */
    GWTF_MESSAGE_PROCEED,
    /* done: a data node has all its microbatches of this iteration and phase back */
    GWTF_MESSAGE_DONE,
    /* view: who of the stage is down as the sender sees it, and how far the sender is */
    GWTF_MESSAGE_VIEW,
    /* view.stage: that stage cannot get this generation's sum together any more; to the stage's
     * nodes, and from them to the recorder */
    GWTF_MESSAGE_IRREPARABLE,
    /* restart: the iteration begins again, in a new generation; from the recorder to all */
    GWTF_MESSAGE_RESTART,
    /* contribution; payload: the receiver's share of the sender's gradients, or none when the
     * sender has had no microbatch or the share is empty */
    GWTF_MESSAGE_CONTRIBUTION,
    /* reduced; payload: the sender's share, summed over the replicas, or none when it is empty */
    GWTF_MESSAGE_REDUCED,
    /* view: "I have the stage's whole sum", to the replicas */
    GWTF_MESSAGE_COMPLETE,
    /* norm: all replicas of a stage have its whole sum; its part of the gradient norm. From its
     * first living replica to all other stages */
    GWTF_MESSAGE_NORM,
    /* hash of the stage's weights at a snapshot, to the recorder */
    GWTF_MESSAGE_HASH,
    /* file: the stage's snapshot file is in place, to the recorder */
    GWTF_MESSAGE_WRITTEN,
    /* write that snapshot's file in place of a replica that is lost; from the recorder */
    GWTF_MESSAGE_WRITE,
    /* that snapshot's manifest is there, or will never be; from the recorder */
    GWTF_MESSAGE_RECORDED,
    /* down.node is down; from whoever found it to the recorder, and from there to all, twice: that
     * it is, and that all living nodes know */
    GWTF_MESSAGE_DOWN,
    /* down.number: of a DOWN that the recorder has sent, which is known here; the answer to it */
    GWTF_MESSAGE_DOWN_KNOWN,
    /* down: the sender hears nothing of down.node; to the recorder, which decides */
    GWTF_MESSAGE_SILENT,
    /* doubt: whether the sender hears nothing of the last node of a stage, or of the recorder; to
     * all */
    GWTF_MESSAGE_DOUBT,
    /* you have been declared down: nothing of you is taken any more */
    GWTF_MESSAGE_FENCED,
    /* close: the run is over, leave */
    GWTF_MESSAGE_CLOSE,
    /* payload: gwtf_probe_bytes zeros, to measure a link that no tensor has gone over for long */
    GWTF_MESSAGE_PROBE,
    /* rest: a stage is gone; the sender's weights are after `iteration` (worker/protocol/rest.c) */
    GWTF_MESSAGE_REST,
    /* enter: "I was declared down and live; take me as a new member"; to the data nodes, which
     * answer with the same, since an iteration may last long. By the door (see GWTF_INCIDENT_UP) */
    GWTF_MESSAGE_ENTER,
    /* welcome: the sender has taken the receiver as a member; by the door */
    GWTF_MESSAGE_WELCOME,
    /* state: the range of weights and moments that an entrant wants of a replica */
    GWTF_MESSAGE_FETCH,
    /* state, payload: that range */
    GWTF_MESSAGE_STATE,
    /* the receiver leaves after the iteration before this one: the sender has begun this one
     * without it, and needs nothing of it any more (worker/protocol/leave.c) */
    GWTF_MESSAGE_LEFT,
    /* the sender, which leaves, has heard that of all, and goes */
    GWTF_MESSAGE_GONE,
    /* the sender should have left before this iteration, and is the last of its stage: it stays */
    GWTF_MESSAGE_STAYS
};

/* A node that wants to come back, and its incarnation that was declared down. An incarnation is
 * the iteration with which a node became a member. */
struct gwtf_entrant {
    gwtf_node_id node;
    uint32_t incarnation;
    uint32_t own_data; /* data node: what it trains on is its own, not the run's */
};

/* Those that come back with the next iteration. */
struct gwtf_entrants {
    uint32_t count;
    struct gwtf_entrant entrants[GWTF_ENTRANTS_MAX];
};

/* The nodes of a stage that leave after an iteration. */
struct gwtf_leavers {
    uint32_t count;
    gwtf_node_id nodes[GWTF_LEAVERS_MAX];
};

/* Of a FORWARD, and PEEK of an ASK. */
enum gwtf_microbatch_flags {
    /* A node that had it is lost: before it is passed on, the next stage is asked for it. */
    GWTF_MICROBATCH_REPAIR = 1,
    /* The sender has its gradient: this stage's weights alone need it again. */
    GWTF_MICROBATCH_LOCAL = 2,
    /* Nothing changes for whoever holds it. */
    GWTF_MICROBATCH_PEEK = 4
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
    uint32_t generation; /* of the iteration: see worker/protocol/iteration.c */
    uint32_t padding;
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
            uint32_t pass;         /* how often the pipeline was repeated; of HELD: the holder's */
            uint32_t flags;        /* enum gwtf_microbatch_flags */
            gwtf_node_id replaces; /* REPAIR and ASK: the lost node whose place the receiver, or the
                                    * sender, takes */
        } microbatch;
        struct {
            double loss_sum; /* nats */
            uint64_t tokens;
            uint32_t microbatches;
            uint32_t stop;                 /* the user wants the run to end after this iteration */
            struct gwtf_entrants entrants; /* who has asked the sender */
        } done;
        struct {
            uint64_t ids; /* sum over its microbatches of a hash of the id: order does not matter */
            uint64_t view; /* the attempt that it belongs to */
            uint32_t microbatches;
            uint32_t repaired; /* microbatches that the sender took over from lost nodes */
            int64_t busy_us;   /* compute time since the iteration began */
            int64_t wasted_us; /* of it: of what had been computed before, or was thrown away */
            uint32_t leaves;   /* the sender wishes to leave after this iteration */
        } contribution;
        struct {
            uint64_t view;
            double sum_of_squares;
        } reduced;
        struct {
            uint64_t view; /* a hash of the generation and of the stage's lost nodes */
            /* The newest attempt whose whole sum the sender has. */
            uint64_t complete_view;
            uint32_t complete_iteration;
            uint32_t number; /* growing: what comes late and a second time is told from news */
            uint32_t stage;  /* IRREPARABLE: the stage that it is about */
            /* What the sender's gradients hold, when it holds all it will get: else counted is 0.
             */
            uint32_t counted;
            uint32_t microbatches;
            uint64_t ids;
        } view;
        struct {
            uint8_t data_nodes[GWTF_DATA_NODES_MAX / 8]; /* bit by rank: its microbatches count */
        } restart;
        struct {
            gwtf_node_id node;
            uint32_t incarnation; /* that is over, or of which nothing is heard */
            uint32_t number;      /* the recorder's, growing; 0: wants no answer */
            uint32_t confirmed;   /* all living nodes know */
            uint32_t left;        /* it has left in order: the first iteration without it; 0: not */
            uint32_t standby;     /* left: the sender does not know yet that it has gone */
        } down;
        struct {
            gwtf_node_id node;
            uint32_t doubted; /* 0: it is heard again; 2: so, in answer to a 1 */
        } doubt;
        struct {
            uint32_t stage;
            uint32_t replicas;
            double sum_of_squares;
            int64_t busy_us;   /* of all replicas */
            int64_t wasted_us; /* of all replicas */
            uint32_t repaired; /* by all replicas */
            uint32_t stop;     /* of stage 0: the run ends after this iteration */
            uint32_t microbatches;
            uint32_t shared;               /* of stage 0: of them, with the run's data */
            uint64_t ids;                  /* of stage 0: what every stage's sum must hold */
            struct gwtf_entrants entrants; /* of stage 0: who comes back with the next iteration */
            struct gwtf_leavers leavers;   /* of the stage: who is no member of the next one */
        } norm;
        struct {
            uint64_t weights;
            uint32_t writes;   /* the sender writes the stage's file */
            uint32_t recorded; /* newest iteration that the sender knows to be RECORDED */
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
        struct {
            gwtf_node_id culprit; /* the lost stage's last node */
            uint32_t is_empty;    /* the sender has come back, and has no weights yet */
            uint32_t settled;     /* the sender's stage has its file, or cannot have it */
            double gradient_norm; /* of the step that the weights are after */
        } rest;
        struct {
            uint32_t incarnation; /* of the sender, the one that is over */
            uint32_t heard;       /* the answer: the sender, a data node, has heard it */
            uint32_t own_data;    /* as in struct gwtf_entrant */
        } enter;
        struct {
            uint32_t incarnation;  /* the receiver's from now on: message.iteration is the first */
            uint32_t sender;       /* the sender's own incarnation */
            uint32_t recorded;     /* newest iteration that the sender knows to be RECORDED */
            uint32_t own_data;     /* the sender's, as in struct gwtf_entrant */
            uint32_t counts_known; /* else RESTART of this generation is still to come */
            uint8_t data_nodes[GWTF_DATA_NODES_MAX / 8]; /* bit by rank: its microbatches count */
            struct gwtf_entrants entrants;               /* who comes back at the same time */
            uint64_t place; /* sequences of the run's data before message.iteration */
        } welcome;
        struct {
            uint32_t part; /* as in GWTF_PAYLOAD_STATE */
            uint64_t offset;
        } state;
    } body;
};

#endif
