/*
 * The state behind the protocol's contract, private to this folder.
 *
 * One event is one step: dispatch hands it to the concept that it belongs to, which changes the
 * state; then every concept advances: it looks at the state and does what has become possible. So
 * an action has one place in the code and one condition, whatever event made it true.
 */
#ifndef GWTF_WORKER_PROTOCOL_STATE_H
#define GWTF_WORKER_PROTOCOL_STATE_H

#include "flow/flow.h"
#include "worker/protocol/protocol.h"

#define PROTOCOL_NONE UINT32_MAX
#define PROTOCOL_WORKS_MAX 2        /* under way at one time */
#define PROTOCOL_OUTPUT_SENDS_MAX 4 /* of one slot: refused ones may still be leaving */
#define PROTOCOL_PROBES_MAX 6       /* out and in */
#define PROTOCOL_SNAPSHOTS_MAX 4    /* open at the recorder; back-pressure allows three */

struct protocol_member {
    gwtf_node_id node;
    uint32_t stage;
    uint32_t rank;      /* among the nodes of its stage, by id */
    uint32_t neighbour; /* index of its figures, or PROTOCOL_NONE */
};

/* What is known of a node of the previous, same or next stage. */
struct protocol_neighbour {
    gwtf_node_id node;
    uint32_t stage;
    bool met; /* the flow algorithm has been told */
    int64_t compute_us;
    int64_t round_trip_us; /* -1: not yet measured */
    /* Bytes per second; 0: not yet measured. */
    int64_t rate_from; /* of what comes from it */
    int64_t rate_to;   /* of what it gets from here, as it says */
    gwtf_time_us received_us;
    gwtf_time_us measured_us; /* rate_from */
    gwtf_time_us asked_us;    /* the last HELLO that wants an answer */
    gwtf_time_us loaded_us;   /* the last tensor went there that can be measured; 0: none yet */
    /* Last told: to the flow algorithm (-1: nothing), and to the neighbour. */
    int64_t cost_us;
    int64_t told_compute_us;
    int64_t told_rate_from;
    gwtf_time_us told_us;
    bool cost_moved;
    bool figures_moved;
    /* What the flows were like at the last review. */
    uint32_t flows;
    uint32_t flows_now;
    uint32_t unsettled;    /* reviews since the cost is another one */
    gwtf_time_us moved_us; /* the last review when it was not */
    int64_t settled_us;    /* the cost then; -1: none yet */
};

enum protocol_slot_state {
    SLOT_FREE,
    SLOT_RECEIVING_INPUT, /* relay: first; data node: after AWAY */
    SLOT_FORWARD_READY,   /* waits for FORWARD or EMBED */
    SLOT_FORWARD_RUNNING,
    SLOT_ROUTING,    /* the output is here and has no taker yet */
    SLOT_AWAY,       /* the output is with the next hop */
    SLOT_LOSS_READY, /* data node: the input is back from the last stage */
    SLOT_LOSS_RUNNING,
    SLOT_RETURNING, /* data node: the gradient goes back the path and comes round */
    SLOT_RECEIVING_GRADIENT,
    SLOT_BACKWARD_READY, /* waits for BACKWARD or EMBED_BACKWARD */
    SLOT_BACKWARD_RUNNING,
    SLOT_LEAVING /* all work done, sends still under way */
};

struct protocol_slot {
    enum protocol_slot_state state;
    enum gwtf_phase phase;
    uint32_t iteration;
    struct gwtf_microbatch microbatch;
    gwtf_flow_id flow;     /* the id under which it came; data node: of its route */
    gwtf_node_id previous; /* where INPUT came from */
    gwtf_node_id next;     /* where OUTPUT went; before that on a data node: where its route goes */
    uint64_t arrival;      /* order among the slots */
    gwtf_time_us sent_us;  /* when OUTPUT went there last */
    uint32_t attempt;      /* to pass the output on, from 1: what REFUSED must return */
    uint32_t input_attempt;               /* of the sender of INPUT */
    uint32_t refused_rounds;              /* times that all hops have refused */
    gwtf_time_us retry_us;                /* ROUTING: not before */
    uint32_t sends;                       /* under way, of either tensor */
    uint32_t output_sends;                /* under way, of OUTPUT */
    bool accepted;                        /* validation: the next hop has OUTPUT */
    uint8_t tried[GWTF_REPLICAS_MAX / 8]; /* hops of the next stage by rank, this round */
};

/* A tensor under way. Tickets carry a generation, so that one that is spent means nothing. */
struct protocol_transfer {
    bool used;
    bool receives;
    uint32_t generation;
    gwtf_node_id peer;
    uint32_t iteration;
    uint64_t bytes;
    gwtf_time_us started_us;
    struct gwtf_payload payload;
};

struct protocol_done {
    bool here;
    bool stop;
    double loss_sum;
    uint64_t tokens;
    uint32_t microbatches;
};

struct protocol_contribution {
    bool announced;
    bool here;
    uint32_t microbatches;
    uint64_t ids;
    int64_t busy_us;
};

struct protocol_share {
    bool announced;
    bool here;
    double sum_of_squares;
};

struct protocol_norm {
    bool here;
    double sum_of_squares;
    int64_t busy_us;
    uint32_t replicas;
};

/* What has come in for one iteration. Two are open: the current one and, since nobody waits for the
 * slowest node's optimizer, the next. Nothing of a third can exist: it would need this node's part
 * of the next. */
struct protocol_round {
    uint32_t iteration;
    struct protocol_done *dones[2]; /* by phase, then by rank of the data node */
    uint32_t dones_here[2];
    struct protocol_contribution *contributions; /* by rank of the replica */
    uint32_t contributions_here;
    struct protocol_share *shares; /* by rank of the replica */
    uint32_t shares_here;
    bool *ready; /* by rank of the replica */
    uint32_t ready_here;
    struct protocol_norm *norms; /* by stage */
    uint32_t norms_here;
};

enum protocol_aggregation {
    AGGREGATION_TRAINING,   /* waits for DONE from all data nodes */
    AGGREGATION_EXCHANGING, /* contributions are out, the others' come in */
    AGGREGATION_REDUCING,   /* REDUCE is to be done or under way */
    AGGREGATION_COLLECTING, /* own share is out, the others' and the norms come in */
    AGGREGATION_READY,      /* READY is out, the replicas' come in */
    AGGREGATION_STEPPING,   /* STEP is to be done or under way */
    AGGREGATION_STEPPED     /* validation, or the end */
};

/* The recorder's notes of one snapshot. */
struct protocol_snapshot {
    bool used;
    uint32_t iteration;
    uint8_t *hashed;  /* by member */
    uint64_t *hashes; /* by stage, of the first replica heard */
    bool *hash_here;  /* by stage */
    uint32_t hashes_here;
    bool *written; /* by stage */
    uint32_t written_here;
    struct gwtf_stage_file *files; /* by stage */
    bool manifest_asked;
};

/* A data node's own microbatches of the current phase. */
struct protocol_source {
    uint32_t total;
    uint32_t started;
    uint32_t completed;
    bool told;      /* DONE is out */
    double *losses; /* by index, so that their sum does not depend on the order of return */
    uint64_t tokens;
    gwtf_time_us routeless_us; /* since when there has been no route */
};

struct gwtf_protocol {
    /* The run, fixed at create. */
    struct gwtf_protocol_config config;
    struct protocol_member *members; /* by id */
    uint32_t *stage_members;         /* indices of members, stage after stage, by id in each */
    uint32_t *stage_first;           /* [stages + 2]: where a stage begins in stage_members */
    uint32_t self;                   /* index of this node */
    uint32_t stage;
    uint32_t rank;
    uint32_t replicas;     /* of this stage */
    uint32_t data_nodes;   /* replicas of stage 0 */
    gwtf_node_id recorder; /* the data node with the lowest id */
    uint64_t share_offset; /* this node's, of config.gradient_floats */
    uint64_t share_count;

    /* The step under way. */
    gwtf_time_us now_us;
    struct gwtf_update *update;
    bool answered; /* the event's payload has its RECEIVE or DISCARD */

    /* Membership and flow. */
    struct protocol_neighbour *neighbours;
    uint32_t neighbours_count;
    gwtf_flow *flow;
    struct gwtf_flow_send *flow_sends;
    size_t flow_sends_max;
    gwtf_time_us flow_deadline_us;
    gwtf_time_us figures_deadline_us;
    gwtf_time_us links_deadline_us;
    gwtf_time_us probe_us;           /* no probe before */
    gwtf_time_us rerouted_us;        /* no word of flows before */
    uint32_t reviews;                /* of the flows */
    struct gwtf_flow_hop *flow_hops; /* scratch: [2 * capacity] */
    bool costs_moved;
    int64_t work_us[GWTF_WORK_SNAPSHOT + 1]; /* averages; -1: never done */
    int64_t compute_us;                      /* forward and backward of a microbatch, averaged */

    /* Microbatches. */
    struct protocol_slot *slots;
    uint32_t slots_used;
    uint64_t arrivals;
    struct protocol_transfer *transfers;
    uint32_t transfers_max;
    uint32_t transfers_used;
    struct gwtf_work works[PROTOCOL_WORKS_MAX]; /* under way, oldest first */
    uint32_t works_count;
    struct protocol_source source;
    gwtf_node_id *hops; /* scratch: the nodes of the next stage */
    struct gwtf_flow_route *routes;

    /* The iteration. */
    bool started;
    bool finished;
    gwtf_status status; /* of FINISH */
    uint32_t iteration;
    enum gwtf_phase phase;
    bool ended; /* all iterations are done, CLOSE is awaited */
    bool stop_wanted;
    bool stopped;                    /* this iteration is the last, by STOP */
    struct protocol_round rounds[2]; /* by iteration modulo 2 */
    gwtf_time_us iteration_began_us;
    int64_t busy_us;
    struct gwtf_report report; /* recorder: the one being filled */
    bool report_pending;
    uint64_t microbatches_trained;
    uint64_t refusals;

    /* Aggregation. */
    enum protocol_aggregation aggregation;
    uint32_t stepped; /* the iteration that the weights are after */
    bool work_issued; /* REDUCE or STEP of this state of aggregation */
    uint32_t trained; /* microbatches in the gradients */
    uint64_t trained_ids;
    uint32_t gradient_sends;
    uint32_t reduced_sends;
    double gradient_norm;

    /* Snapshots. */
    uint32_t snapshot_wanted; /* iteration whose weights are to be hashed; 0: none */
    bool snapshot_issued;
    bool writing; /* this node's stage file is not in place yet */
    uint32_t writing_iteration;
    struct protocol_snapshot snapshots[PROTOCOL_SNAPSHOTS_MAX]; /* recorder */
    uint32_t snapshot_recorded; /* newest iteration whose manifest is there */
};

/* protocol.c: actions. Each returns the zeroed action, to be filled by the caller. */
struct gwtf_action *protocol_emit(gwtf_protocol *p, enum gwtf_action_kind kind);
struct gwtf_message *protocol_send(gwtf_protocol *p, gwtf_node_id to, enum gwtf_message_kind kind,
                                   enum gwtf_phase phase, uint32_t iteration);
/* MESSAGE to all nodes but this one; with OTHER_STAGES_ONLY not to this stage's. */
void protocol_broadcast(gwtf_protocol *p, const struct gwtf_message *message,
                        bool other_stages_only);
/* Tells CLOSE to all and finishes. */
void protocol_close(gwtf_protocol *p, gwtf_status status, gwtf_node_id culprit);

/* membership.c: who is there, what links cost, and the flow algorithm's border. */
gwtf_status protocol_membership_create(gwtf_protocol *p);
uint32_t protocol_member_find(const gwtf_protocol *p, gwtf_node_id node); /* or PROTOCOL_NONE */
gwtf_node_id protocol_stage_node(const gwtf_protocol *p, uint32_t stage, uint32_t rank);
uint32_t protocol_stage_size(const gwtf_protocol *p, uint32_t stage);
uint32_t protocol_next_stage(const gwtf_protocol *p, uint32_t stage);
uint32_t protocol_previous_stage(const gwtf_protocol *p, uint32_t stage);
void protocol_membership_start(gwtf_protocol *p);
void protocol_membership_hello(gwtf_protocol *p, gwtf_node_id peer,
                               const struct gwtf_message *message);
void protocol_membership_flow(gwtf_protocol *p, gwtf_node_id peer,
                              const struct gwtf_message *message);
/* To the flow algorithm, where its policy goes by such: what became of a microbatch that went to
 * PEER. Done is what has come back as a gradient, since a hop's own part in it is not told. */
void protocol_membership_feed_back(gwtf_protocol *p, gwtf_node_id peer,
                                   enum gwtf_flow_feedback feedback, int64_t response_us);
void protocol_membership_received(gwtf_protocol *p, const struct protocol_transfer *transfer);
void protocol_membership_worked(gwtf_protocol *p, const struct gwtf_work *work, int64_t compute_us);
/* A HELLO that wants an answer. */
void protocol_membership_ask(gwtf_protocol *p, struct protocol_neighbour *neighbour);
/* A tensor goes to PEER. */
void protocol_membership_sent(gwtf_protocol *p, gwtf_node_id peer, uint64_t bytes);
int64_t protocol_average(int64_t old, int64_t sample);
void protocol_membership_advance(gwtf_protocol *p);
gwtf_time_us protocol_membership_deadline(const gwtf_protocol *p);

/* links.c: what links cost that nothing goes over, and what flows made of a change. */
void protocol_links_probe(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message);
void protocol_links_answered(gwtf_protocol *p, struct protocol_neighbour *neighbour,
                             gwtf_time_us asked_us);
void protocol_links_review_flows(gwtf_protocol *p); /* once an iteration */
void protocol_links_advance(gwtf_protocol *p);
gwtf_time_us protocol_links_deadline(const gwtf_protocol *p);

/* transfers.c: tensors under way. */
struct gwtf_action *protocol_transfer_send(gwtf_protocol *p, gwtf_node_id to,
                                           enum gwtf_message_kind kind, enum gwtf_phase phase,
                                           uint32_t iteration, uint64_t bytes,
                                           struct gwtf_payload payload);
/* The payload of MESSAGE, the event under way, will lie in PAYLOAD. */
void protocol_transfer_receive(gwtf_protocol *p, gwtf_node_id peer,
                               const struct gwtf_message *message, struct gwtf_payload payload);
/* Takes the transfer of TICKET off the table; false: there is none such. */
bool protocol_transfer_end(gwtf_protocol *p, uint64_t ticket, bool receives,
                           struct protocol_transfer *transfer);

/* slots.c: the life of a microbatch in this node. */
void protocol_slot_take(gwtf_protocol *p, struct protocol_slot *slot, enum gwtf_phase phase,
                        uint32_t iteration, struct gwtf_microbatch microbatch);
struct protocol_slot *protocol_slot_unused(gwtf_protocol *p); /* or NULL */
struct protocol_slot *protocol_slot_find(gwtf_protocol *p, enum gwtf_phase phase,
                                         uint32_t iteration, struct gwtf_microbatch microbatch);
uint32_t protocol_slot_index(const gwtf_protocol *p, const struct protocol_slot *slot);
void protocol_slot_settle(gwtf_protocol *p, struct protocol_slot *slot); /* frees it when done */
void protocol_slots_forward(gwtf_protocol *p, gwtf_node_id peer,
                            const struct gwtf_message *message);
void protocol_slots_backward(gwtf_protocol *p, gwtf_node_id peer,
                             const struct gwtf_message *message);
void protocol_slots_received(gwtf_protocol *p, const struct protocol_transfer *transfer,
                             bool whole);
void protocol_slots_sent(gwtf_protocol *p, const struct protocol_transfer *transfer);
void protocol_slots_worked(gwtf_protocol *p, const struct gwtf_work *work,
                           const struct gwtf_work_result *result);

/* routing.c: where microbatches start and go next. */
void protocol_routing_answer(gwtf_protocol *p, gwtf_node_id peer,
                             const struct gwtf_message *message);
void protocol_routing_begin(gwtf_protocol *p); /* data node: a phase has begun */
void protocol_routing_advance(gwtf_protocol *p);
gwtf_time_us protocol_routing_deadline(const gwtf_protocol *p);

/* schedule.c: what the compute thread does next. */
void protocol_schedule_advance(gwtf_protocol *p);
void protocol_schedule_worked(gwtf_protocol *p, const struct gwtf_work *work,
                              const struct gwtf_work_result *result);

/* iteration.c: phases, their end, and the recorder's report. */
struct protocol_round *protocol_round_of(gwtf_protocol *p, uint32_t iteration); /* or NULL */
gwtf_status protocol_iteration_create(gwtf_protocol *p);
void protocol_iteration_destroy(gwtf_protocol *p);
void protocol_iteration_start(gwtf_protocol *p);
void protocol_iteration_done(gwtf_protocol *p, uint32_t data_rank,
                             const struct gwtf_message *message);
void protocol_iteration_stepped(gwtf_protocol *p);
void protocol_iteration_advance(gwtf_protocol *p);

/* aggregation.c: from the replicas' gradients to one step. */
uint64_t protocol_microbatch_hash(uint32_t iteration, struct gwtf_microbatch microbatch);
void protocol_aggregation_begin(gwtf_protocol *p); /* the phase's last DONE is here */
void protocol_aggregation_message(gwtf_protocol *p, gwtf_node_id peer,
                                  const struct gwtf_message *message);
void protocol_aggregation_received(gwtf_protocol *p, const struct protocol_transfer *transfer,
                                   bool whole);
void protocol_aggregation_sent(gwtf_protocol *p, const struct protocol_transfer *transfer);
void protocol_aggregation_advance(gwtf_protocol *p);
bool protocol_aggregation_work(gwtf_protocol *p, struct gwtf_work *work); /* wants this done */
void protocol_aggregation_worked(gwtf_protocol *p, const struct gwtf_work *work,
                                 const struct gwtf_work_result *result);

/* snapshot.c: hashes, files, manifest. */
gwtf_status protocol_snapshot_create(gwtf_protocol *p);
void protocol_snapshot_destroy(gwtf_protocol *p);
bool protocol_snapshot_due(const gwtf_protocol *p);
bool protocol_snapshot_work(gwtf_protocol *p, struct gwtf_work *work); /* wants this done */
void protocol_snapshot_worked(gwtf_protocol *p, const struct gwtf_work *work,
                              const struct gwtf_work_result *result);
void protocol_snapshot_written(gwtf_protocol *p, const struct gwtf_event *event);
void protocol_snapshot_message(gwtf_protocol *p, gwtf_node_id peer,
                               const struct gwtf_message *message);
void protocol_snapshot_manifest(gwtf_protocol *p, const struct gwtf_event *event);
void protocol_snapshot_advance(gwtf_protocol *p);

#endif
