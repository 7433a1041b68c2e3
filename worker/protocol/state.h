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
#define PROTOCOL_FLOW_STEPS_MAX 9     /* full ones, in a step of the protocol */
#define PROTOCOL_WORKS_MAX 2          /* under way at one time */
#define PROTOCOL_OUTPUT_SENDS_MAX 4   /* of one slot: refused ones may still be leaving */
#define PROTOCOL_PROBES_MAX 6         /* out and in */
#define PROTOCOL_GRADIENT_SENDS_MAX 4 /* of one slot: again when a substitute has asked for it */
#define PROTOCOL_SNAPSHOTS_MAX 4      /* open at the recorder; back-pressure allows three */
#define PROTOCOL_STATE_SENDS_MAX 16   /* pieces of weights, to nodes that come back */
#define PROTOCOL_ASKING_MAX 64        /* nodes that come back, a few with each iteration */

struct protocol_member {
    gwtf_node_id node;
    uint32_t stage;
    uint32_t rank;          /* among the nodes of its stage, by id */
    uint32_t neighbour;     /* index of its figures, or PROTOCOL_NONE */
    uint32_t incarnation;   /* the iteration with which it became a member, at least */
    bool is_exact;          /* exactly that; a node that comes back has yet to hear */
    uint32_t fenced;        /* the newest of its incarnations that is down; 0: none */
    bool down;              /* fenced >= incarnation, or left */
    bool left;              /* it leaves in order: no member any more; see leave.c */
    bool standby;           /* left, and has not gone: it stays if its stage needs it */
    bool own_data;          /* data node: see order.c */
    uint32_t left_from;     /* left: the first iteration without it */
    bool was_recorder;      /* left: until then */
    uint32_t stays_from;    /* the iteration before which it should have left, and did not */
    uint32_t let_go;        /* it has begun that iteration without this node, which leaves */
    bool welcomed;          /* it has taken this node, which comes back, as a member */
    bool confirmed;         /* down: all living nodes know, as the recorder says */
    bool down_since_commit; /* since this node's last step, or not confirmed at it */
    /* doubt.c */
    bool suspected; /* living, but this node hears nothing of it, since suspected_us */
    gwtf_time_us suspected_us;
    gwtf_node_id asked; /* suspected: the recorder that was asked; GWTF_NODE_NONE: nobody */
    bool accused;       /* recorder: somebody else hears nothing of it */
    bool has_answered;  /* suspected: somebody who doubts it has been told so */
    /* Recorder: the others are to be told that it is down, and that all know. */
    bool spread_wanted;
    bool confirm_wanted;
    uint32_t hashed; /* recorder: the newest snapshot whose hash it has told */
    uint32_t known;  /* recorder: number of the newest loss that it has answered to */
    /* rest.c: the iteration that its weights are after, as it says, and that step's norm. */
    bool rest_heard;
    bool rest_empty; /* it has come back, and has no weights yet */
    uint32_t rest_iteration;
    double rest_norm;
};

/* What is known of a node of the previous, same or next stage. */
struct protocol_neighbour {
    gwtf_node_id node;
    uint32_t stage;
    bool met;        /* the flow algorithm has been told */
    bool is_unasked; /* it has come back, and says HELLO first */
    int64_t compute_us;
    int64_t round_trip_us; /* -1: not yet measured */
    /* Bytes per second; 0: not yet measured. */
    int64_t rate_from; /* of what comes from it */
    int was_other;     /* the last tensor took far longer than usual (1), far shorter (-1) */
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
    SLOT_ASKING,     /* relay: the output is here; does a node of the next stage hold it already? */
    SLOT_ROUTING,    /* the output is here and has no taker yet */
    SLOT_AWAY,       /* the output is with the next hop */
    SLOT_LOSS_READY, /* data node: the input is back from the last stage */
    SLOT_LOSS_RUNNING,
    SLOT_RETURNING, /* data node: the gradient goes back the path and comes round */
    SLOT_RECEIVING_GRADIENT,
    SLOT_BACKWARD_READY, /* waits for BACKWARD or EMBED_BACKWARD */
    SLOT_BACKWARD_RUNNING,
    SLOT_LEAVING, /* all work done or given up; sends, a tensor or a work may be under way */
    SLOT_KEPT     /* from `capacity` on: all done, OUTPUT and INPUT_GRADIENT are kept */
};

struct protocol_slot {
    enum protocol_slot_state state;
    enum gwtf_phase phase;
    uint32_t iteration;
    uint32_t generation; /* of the iteration, in training */
    struct gwtf_microbatch microbatch;
    gwtf_flow_id flow;     /* the id under which it came; data node: of its route */
    gwtf_node_id previous; /* where INPUT came from */
    gwtf_node_id next;     /* where OUTPUT went; before that on a data node: where its route goes */
    uint64_t arrival;      /* order among the slots */
    gwtf_time_us sent_us;  /* when OUTPUT went there last */
    uint32_t attempt;      /* to pass the output on: what REFUSED must return */
    uint32_t input_attempt;  /* of the sender of INPUT */
    uint32_t refused_rounds; /* times that all hops have refused */
    gwtf_time_us retry_us;   /* ROUTING: not before */
    uint32_t sends;          /* under way, of either tensor */
    uint32_t output_sends;   /* under way, of OUTPUT */
    bool accepted;           /* validation: the next hop has OUTPUT */
    bool receiving;          /* a tensor comes in */
    bool running;            /* a work is under way */
    bool repaired;           /* a lost node had it: who gets OUTPUT must ask the next stage first */
    bool resend;   /* where OUTPUT went is lost: it must go to another, whatever the state */
    bool local;    /* the gradient is wanted by nobody: the previous hop has it */
    bool shadow;   /* the stage's sum has it already: for its gradient alone */
    bool asks;     /* the next stage must be asked before OUTPUT is passed on */
    bool proceeds; /* ASKING: the data node does not repeat the pipeline */
    bool has_loss; /* data node: LOSS is in the gradients */
    uint32_t pass; /* repetition of the pipeline: it takes the way of the one before */
    gwtf_node_id lost_next;               /* the lost node that had OUTPUT */
    gwtf_node_id replaces;                /* the lost node whose place this one took */
    gwtf_time_us lost_us;                 /* repaired: since when the loss has been known */
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

/* What a replica says of itself, the node itself too. */
struct protocol_replica {
    uint32_t iteration;          /* that it is at, or further */
    uint32_t number;             /* of its newest message about itself */
    uint64_t view;               /* its attempt: see aggregation.c */
    uint64_t complete_view;      /* the newest attempt whose sum it has, and its iteration */
    uint32_t complete_iteration; /* 0: none */
    /* What its gradients hold when they hold all that they will; counted is false when unknown. */
    bool counted;
    uint32_t counted_iteration;
    uint64_t counted_view;
    uint32_t microbatches;
    uint64_t ids;
};

struct protocol_done {
    bool here;
    bool stop;
    double loss_sum;
    uint64_t tokens;
    uint32_t microbatches;
    struct gwtf_entrants entrants;
};

struct protocol_contribution {
    bool sent; /* to that replica */
    bool announced;
    bool here;
    uint32_t microbatches;
    uint64_t ids;
    uint32_t repaired;
    int64_t busy_us;
    int64_t wasted_us;
    bool leaves;
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
    int64_t wasted_us;
    uint32_t repaired;
    uint32_t replicas;
    struct gwtf_leavers leavers;
};

/* What has come in for one iteration. Two are open: the current one and, since nobody waits for the
 * slowest node's optimizer, the next. Nothing of a third can exist: it would need this node's part
 * of the next. */
struct protocol_round {
    uint32_t iteration;
    uint32_t generation;
    bool *counts;        /* by rank of the data node: its microbatches are part of the iteration */
    bool counts_known;   /* else RESTART of this generation is still to come */
    bool restart_wanted; /* recorder: a stage cannot be repaired */
    bool irreparable;    /* this node's stage lacks what nobody can repair */
    gwtf_node_id irreparable_told; /* the recorder that knows */
    bool irreparable_passed_on;    /* this stage has its sum; the next one knows */
    bool irreparable_passed_back;  /* and the one before */
    bool totals_here;              /* what every stage's sum must hold, from stage 0 */
    bool totals_stop;
    uint32_t totals_microbatches;
    uint32_t totals_shared;
    uint64_t totals_ids;
    struct protocol_done *dones[2]; /* by phase, then by rank of the data node */
    uint32_t dones_here[2];
    struct protocol_contribution *contributions; /* by rank of the replica */
    uint32_t contributions_here;
    struct protocol_share *shares; /* by rank of the replica */
    uint32_t shares_here;
    struct protocol_norm *norms; /* by stage */
    uint32_t norms_here;
    struct gwtf_entrants entrants; /* with the totals: who comes back with the next iteration */
};

enum protocol_aggregation {
    AGGREGATION_TRAINING,   /* waits for DONE from all data nodes */
    AGGREGATION_EXCHANGING, /* contributions go out, the others' come in */
    AGGREGATION_REDUCING,   /* REDUCE is to be done or under way */
    AGGREGATION_COLLECTING, /* own share is out, the others' come in */
    AGGREGATION_COMPLETE,   /* COMPLETE is out, the replicas' and the norms come in */
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
    bool *written;    /* by stage */
    uint32_t written_here;
    gwtf_node_id *writers;         /* by stage: whoever says that it writes, or has been asked to */
    struct gwtf_stage_file *files; /* by stage */
    bool manifest_asked;
};

enum protocol_piece_state { PIECE_MISSING, PIECE_ASKED, PIECE_COMING, PIECE_HERE };

/* A range of the weights and moments that an entrant fetches. */
struct protocol_piece {
    enum protocol_piece_state state;
    gwtf_node_id source;
    gwtf_time_us asked_us;
};

/* See entry.c. */
struct protocol_entry {
    uint32_t incarnation; /* of this node */
    bool waits;           /* nobody has welcomed it yet */
    bool is_member;       /* all have */
    bool has_state;       /* its weights are here */
    bool serves;          /* it is a member, and has them */
    gwtf_time_us began_us;
    gwtf_time_us heard_us; /* a data node has answered */
    gwtf_time_us knock_us; /* the next ENTER, or the question whether it is still known */
    struct protocol_piece *pieces;
    uint32_t pieces_count;
    uint32_t pieces_here;
    uint32_t sends;                                  /* STATE under way */
    struct gwtf_entrant asking[PROTOCOL_ASKING_MAX]; /* data node: who has knocked */
    uint32_t asking_count;
    struct gwtf_entrants agreed; /* who comes back with the next iteration */
};

/* See leave.c. */
struct protocol_leave {
    bool wanted;              /* this node has been told to leave */
    bool standby;             /* it has left after `iteration`, and waits until it may go */
    bool gone;                /* it has */
    bool stays_told;          /* that it is to leave and cannot yet */
    gwtf_node_id handed_over; /* standby, data node: the recorder that knows what this one does */
};

/* A data node's own microbatches of the current phase. */
struct protocol_source {
    bool waits; /* whose microbatches make the iteration up is not known yet */
    uint32_t total;
    uint32_t started;
    uint32_t completed;
    bool told;      /* DONE is out */
    double *losses; /* by index, so that their sum does not depend on the order of return */
    uint64_t tokens;
    gwtf_time_us routeless_us; /* since when there has been no route */
};

/* A stage is gone: see rest.c. */
struct protocol_rest {
    bool began;
    gwtf_node_id culprit;
    gwtf_time_us until_us;
    bool told; /* which iteration the weights are after */
    uint32_t told_iteration;
    bool writes;   /* the newest file that was asked for is of the rest */
    bool *settled; /* by stage: its file is there, or will not be */
};

/* Of a stage: its last node, or the recorder, of which somebody hears nothing: see doubt.c. */
struct protocol_doubt {
    gwtf_node_id node; /* GWTF_NODE_NONE: nobody */
    bool own;          /* this node hears nothing of it, since since_us */
    gwtf_time_us since_us;
    uint8_t *sayers; /* bit by member: it says the same */
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
    gwtf_node_id recorder; /* the living data node with the lowest id */
    uint32_t *living;      /* by stage: nodes not known to be down */
    uint32_t living_count; /* in all stages */
    uint32_t lost_unreported;
    uint32_t joined_unreported;
    struct protocol_entry entry;
    struct protocol_leave leave;
    bool spread_pending;   /* more losses are to be told */
    bool losses_pending;   /* recorder: of some loss not all have been told all */
    uint32_t losses_told;  /* recorder: the newest one's number */
    uint32_t first_living; /* rank of this stage's first living node */
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
    size_t flow_sent; /* in this step */
    gwtf_time_us flow_deadline_us;
    gwtf_time_us figures_deadline_us;
    gwtf_time_us links_deadline_us;
    gwtf_time_us probe_us;           /* no probe before */
    gwtf_time_us rerouted_us;        /* no word of flows before */
    uint32_t reviews;                /* of the flows */
    struct gwtf_flow_hop *flow_hops; /* scratch: [2 * capacity] */
    bool costs_moved;
    int64_t paced_us; /* the longest round trip that the flow algorithm was told; 0: none */
    int64_t work_us[GWTF_WORK_CLEAR + 1]; /* averages; -1: never done */
    int64_t compute_us;                   /* forward and backward of a microbatch, averaged */

    /* Microbatches. */
    struct protocol_slot *slots; /* [capacity], then [retained] that are kept */
    uint32_t slots_count;
    uint32_t kept_next;  /* where to look for an unused one of them */
    bool kept_resend;    /* one of them may have to be sent again */
    bool kept_shadow;    /* one of them may be of a microbatch that is not counted here */
    uint32_t slots_used; /* of the first `capacity` */
    uint8_t *counted;    /* bit by microbatch: it is in this node's gradients */
    bool *forgotten;     /* by rank in the next stage: something sent there is not kept */
    uint32_t repaired;   /* this iteration: microbatches taken over from lost nodes */
    int64_t wasted_us;   /* this iteration: compute of what was done before or given up */
    uint64_t arrivals;
    uint32_t attempts; /* to pass outputs on: no two, of whatever slot, have one number */
    struct protocol_transfer *transfers;
    uint32_t transfers_max;
    uint32_t transfers_used;
    uint32_t transfers_ever;                    /* those from here on were never used */
    struct gwtf_work works[PROTOCOL_WORKS_MAX]; /* under way, oldest first */
    uint32_t works_count;
    struct protocol_source source;
    uint64_t place;     /* sequences of the run's data before this iteration: see order.c */
    uint64_t own_place; /* of the node's own data */
    gwtf_node_id *hops; /* scratch: the nodes of the next stage */
    struct gwtf_flow_route *routes;

    /* The iteration. */
    bool started;
    bool finished;
    gwtf_status status; /* of FINISH */
    uint32_t iteration;
    enum gwtf_phase phase;
    bool ended;            /* all iterations are done, CLOSE is awaited */
    bool close_awaits_end; /* CLOSE came before this node had ended */
    struct gwtf_message close;
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
    struct protocol_replica *replica; /* by rank */
    uint64_t view;                    /* of the generation and the stage's lost nodes, now */
    uint64_t attempt;                 /* the view that the aggregation is of */
    uint32_t disturbed_until;         /* iterations in which a replica was lost */
    uint32_t participants;            /* living replicas when the view was announced */
    uint32_t position;                /* of this node among them */
    uint32_t tensors_coming;          /* contributions and shares */
    bool clear_wanted;                /* the gradients must be cleared first */
    bool clear_issued;
    bool norm_valid;        /* the newest NORM of this stage, in case it must be said */
    bool norm_before_valid; /* and the one before: who lacks that holds up one step at most */
    struct gwtf_message norm_before;
    struct gwtf_message norm; /* again */
    uint32_t stepped;         /* the iteration that the weights are after */
    bool work_issued;         /* REDUCE or STEP of this state of aggregation */
    uint32_t trained;         /* microbatches in the gradients */
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
    uint32_t snapshot_recorded; /* newest iteration whose manifest is there or given up */
    gwtf_node_id snapshot_told; /* the recorder that has been told what follows */
    uint32_t snapshot_hashed;   /* newest iteration hashed here */
    uint64_t snapshot_hash;
    bool snapshot_writes;      /* the stage's file of that iteration is this node's to write */
    uint32_t snapshot_written; /* iteration of the file that this node has written */
    struct gwtf_stage_file snapshot_file;

    struct protocol_rest rest;
    struct protocol_doubt *doubts; /* by stage */
    uint32_t suspected_count;
    uint32_t accused_count;
    bool judging; /* there may be more to decide at once */
    /* Recorder that was not the first: the one before, and the number with which its loss was told;
     * UINT32_MAX: not yet. */
    uint32_t recorder_before;
    uint32_t recorder_before_number;
};

/* view.c: who is lost. */
void protocol_view_down(gwtf_protocol *p, gwtf_node_id node, uint32_t incarnation, bool found_here);
void protocol_view_tell_recorder(gwtf_protocol *p); /* of all that are down */
/* NODE is down, or has come back as if it had never been: BEFORE was the recorder. */
void protocol_view_spread(gwtf_protocol *p, gwtf_node_id node, bool found_here,
                          gwtf_node_id before);
void protocol_view_spread_all(gwtf_protocol *p); /* recorder: all hear again who is down */
/* This node is the recorder, by the loss or leave of member LOST. */
void protocol_view_await_answers(gwtf_protocol *p, uint32_t lost);
gwtf_node_id protocol_view_first_data_node(const gwtf_protocol *p);
void protocol_view_count(gwtf_protocol *p);   /* who lives has changed by entering */
void protocol_view_entered(gwtf_protocol *p); /* others have */
void protocol_view_message(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message);
void protocol_view_committed(gwtf_protocol *p); /* this node has stepped */
void protocol_view_advance(gwtf_protocol *p);
/* All living nodes know of all losses of this stage. */
bool protocol_view_is_confirmed(const gwtf_protocol *p);
bool protocol_is_down(const gwtf_protocol *p, gwtf_node_id node);
/* Among the nodes of a stage, or of this one. */
bool protocol_rank_is_down(const gwtf_protocol *p, uint32_t stage, uint32_t rank);
bool protocol_replica_is_down(const gwtf_protocol *p, uint32_t rank);

/* This node is on the side of a cut that must end. */
bool protocol_view_is_cut_off(const gwtf_protocol *p);

/* doubt.c: nodes of which nothing is heard. */
gwtf_status protocol_doubt_create(gwtf_protocol *p);
void protocol_doubt_destroy(gwtf_protocol *p);
/* Nothing is heard of NODE. */
void protocol_doubt_silent(gwtf_protocol *p, gwtf_node_id node);
void protocol_doubt_heard(gwtf_protocol *p, gwtf_node_id node);
void protocol_doubt_message(gwtf_protocol *p, gwtf_node_id peer,
                            const struct gwtf_message *message);
/* PEER hears nothing of a node; of the recorder. */
void protocol_doubt_asked(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message);
void protocol_doubt_lost(gwtf_protocol *p, gwtf_node_id node); /* it is down */
void protocol_doubt_advance(gwtf_protocol *p);
gwtf_time_us protocol_doubt_deadline(const gwtf_protocol *p);

/* entry.c: nodes that come back. */
gwtf_status protocol_entry_create(gwtf_protocol *p);
void protocol_entry_destroy(gwtf_protocol *p);
void protocol_entry_start(gwtf_protocol *p);
bool protocol_entry_is_member(const gwtf_protocol *p);
void protocol_entry_down(gwtf_protocol *p, gwtf_node_id node);
void protocol_entry_message(gwtf_protocol *p, gwtf_node_id peer,
                            const struct gwtf_message *message);
void protocol_entry_received(gwtf_protocol *p, const struct protocol_transfer *transfer,
                             bool whole);
void protocol_entry_sent(gwtf_protocol *p);
/* The channel with MEMBER begins. */
void protocol_entry_open(gwtf_protocol *p, const struct protocol_member *member);
/* Member INDEX is one from now on, in INCARNATION, and is told so. */
void protocol_entry_welcome(gwtf_protocol *p, uint32_t index, uint32_t incarnation,
                            const struct gwtf_entrants *entrants);
/* What this data node's DONE names. */
void protocol_entry_propose(const gwtf_protocol *p, struct gwtf_entrants *list);
void protocol_entry_add(struct gwtf_entrants *list, const struct gwtf_entrants *more);
/* The iteration begins with those that were agreed on; COUNTS: data nodes' microbatches are part of
 * it. */
void protocol_entry_admit(gwtf_protocol *p, bool counts);
/* The run is over: those that have asked need not wait. */
void protocol_entry_refuse_all(gwtf_protocol *p, gwtf_status status);
void protocol_entry_advance(gwtf_protocol *p);
gwtf_time_us protocol_entry_deadline(const gwtf_protocol *p);

/* leave.c: nodes that leave with notice. */
void protocol_leave_wish(gwtf_protocol *p); /* this node has been told to */
/* Whether this node's contribution says that it wishes to leave after the iteration. */
bool protocol_leave_is_wished(const gwtf_protocol *p);
/* Who of this stage leaves after the iteration, from the contributions: the same in all replicas.
 */
void protocol_leave_name(const gwtf_protocol *p, const struct protocol_round *round,
                         struct gwtf_leavers *leavers);
/* The iteration is over: those who leave are no members of the next one. False: this node is one of
 * them, and does not begin it. */
bool protocol_leave_apply(gwtf_protocol *p);
/* The next iteration has begun: who has left is not counted in it, and has gone if it left before
 * the one before. */
void protocol_leave_begin(gwtf_protocol *p, struct protocol_round *round, bool counts);
/* It has stepped: NODE, or this one, will be no member of the next iteration. */
bool protocol_leave_is_agreed(const gwtf_protocol *p, gwtf_node_id node);
bool protocol_leave_is_own(const gwtf_protocol *p);
/* MEMBER is on its way out, and this node will hear that it has gone. Who has come with the first
 * iteration without it, or later, does not, and neither waits for the other. */
bool protocol_leave_hears_go(const gwtf_protocol *p, const struct protocol_member *member);
/* This node is on its way out, and MEMBER has not let it go. */
bool protocol_leave_waits_for(const gwtf_protocol *p, const struct protocol_member *member);
/* Somebody who left this stage before this iteration could still be needed for it. */
bool protocol_leave_is_awaited(const gwtf_protocol *p);
/* All nodes of STAGE that know its weights are down: those on their way out are members again. */
void protocol_leave_recall(gwtf_protocol *p, uint32_t stage);
/* Member INDEX, which has left, is lost. */
void protocol_leave_lost(gwtf_protocol *p, uint32_t index, bool found_here);
/* A data node that was the recorder, and leaves, has yet to say what it knows. */
bool protocol_leave_is_handing_over(const gwtf_protocol *p);
/* Somebody says of member INDEX that it has left. */
void protocol_leave_told(gwtf_protocol *p, uint32_t index, const struct gwtf_message *message);
/* Whether MESSAGE of MEMBER means something, as far as one of the two has left. */
bool protocol_leave_hears(const gwtf_protocol *p, const struct protocol_member *member,
                          const struct gwtf_message *message);
void protocol_leave_message(gwtf_protocol *p, gwtf_node_id peer,
                            const struct gwtf_message *message);
void protocol_leave_advance(gwtf_protocol *p);
/* It is told what all are told: it lives, and is a member or may become one again. Who left before
 * this node came does not know this node. */
bool protocol_is_told(const gwtf_protocol *p, const struct protocol_member *member);

/* repair.c: what a lost node had. */
void protocol_repair_lost(gwtf_protocol *p, gwtf_node_id node);
/* Slot's work is done: its tensors are kept, if there is room, and the slot is free. */
void protocol_repair_keep(gwtf_protocol *p, struct protocol_slot *slot);
void protocol_repair_release(gwtf_protocol *p); /* the iteration is committed or begins anew */
void protocol_repair_take_back(gwtf_protocol *p, struct protocol_slot *slot, bool lost);
void protocol_repair_ask(gwtf_protocol *p, struct protocol_slot *slot);
/* MEMBER has come back: what is being asked for is asked of it, too. */
void protocol_repair_entered(gwtf_protocol *p, const struct protocol_member *member);
void protocol_repair_message(gwtf_protocol *p, gwtf_node_id peer,
                             const struct gwtf_message *message);
void protocol_repair_advance(gwtf_protocol *p);
/* STAGE can never get the sum of this generation together. */
void protocol_repair_irreparable(gwtf_protocol *p, uint32_t stage);

/* protocol.c: actions. Each returns the zeroed action, to be filled by the caller. */
struct gwtf_action *protocol_emit(gwtf_protocol *p, enum gwtf_action_kind kind);
struct gwtf_message *protocol_send(gwtf_protocol *p, gwtf_node_id to, enum gwtf_message_kind kind,
                                   enum gwtf_phase phase, uint32_t iteration);
/* MESSAGE to all nodes but this one; with OTHER_STAGES_ONLY not to this stage's. */
void protocol_broadcast(gwtf_protocol *p, const struct gwtf_message *message,
                        bool other_stages_only);
void protocol_tell_replicas(gwtf_protocol *p, const struct gwtf_message *message);
struct gwtf_incident *protocol_incident(gwtf_protocol *p, enum gwtf_incident_kind kind,
                                        gwtf_node_id node);
void protocol_finish(gwtf_protocol *p, gwtf_status status, gwtf_node_id culprit);
/* Tells CLOSE to all and finishes. */
void protocol_close(gwtf_protocol *p, gwtf_status status, gwtf_node_id culprit);
/* Finishes if a good end was told that awaits this node's: who could still help it may have ended.
 * False: it was not. */
bool protocol_close_now(gwtf_protocol *p);

/* membership.c: who is there, what links cost, and the flow algorithm's border. */
gwtf_status protocol_membership_create(gwtf_protocol *p);
void protocol_membership_lost(gwtf_protocol *p, gwtf_node_id node);
uint32_t protocol_member_find(const gwtf_protocol *p, gwtf_node_id node); /* or PROTOCOL_NONE */
const struct protocol_member *protocol_member_at(const gwtf_protocol *p, uint32_t stage,
                                                 uint32_t rank);
gwtf_node_id protocol_stage_node(const gwtf_protocol *p, uint32_t stage, uint32_t rank);
uint32_t protocol_stage_size(const gwtf_protocol *p, uint32_t stage);
uint32_t protocol_next_stage(const gwtf_protocol *p, uint32_t stage);
uint32_t protocol_previous_stage(const gwtf_protocol *p, uint32_t stage);
void protocol_membership_start(gwtf_protocol *p);
void protocol_membership_entered(gwtf_protocol *p, gwtf_node_id node);
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
/* What is under way to and from PEER, which is lost, will not end by itself. */
void protocol_transfers_lost(gwtf_protocol *p, gwtf_node_id peer);
/* Sends of slot FROM go on from slot TO. */
void protocol_transfers_move(gwtf_protocol *p, uint32_t from, uint32_t to);

/* slots.c: the life of a microbatch in this node. */
void protocol_slot_take(gwtf_protocol *p, struct protocol_slot *slot, enum gwtf_phase phase,
                        uint32_t iteration, struct gwtf_microbatch microbatch);
struct protocol_slot *protocol_slot_unused(gwtf_protocol *p); /* or NULL */
struct protocol_slot *protocol_slot_find(gwtf_protocol *p, enum gwtf_phase phase,
                                         uint32_t iteration, struct gwtf_microbatch microbatch);
uint32_t protocol_slot_index(const gwtf_protocol *p, const struct protocol_slot *slot);
void protocol_slot_settle(gwtf_protocol *p, struct protocol_slot *slot); /* frees it when done */
/* Nothing more comes of it: it is free when nothing of it is under way any more. */
/* TO, which is free, has all that FROM has, tensors and what is under way too; one of them is a
 * kept one. FROM's state is the caller's to change. */
void protocol_slot_move(gwtf_protocol *p, struct protocol_slot *from, struct protocol_slot *to);
void protocol_slot_give_up(gwtf_protocol *p, struct protocol_slot *slot);
/* INPUT_GRADIENT to TO, as of PASS; or to where INPUT came from. */
void protocol_slot_send_gradient(gwtf_protocol *p, struct protocol_slot *slot, gwtf_node_id to,
                                 uint32_t pass);
void protocol_slot_send_back(gwtf_protocol *p, struct protocol_slot *slot);
bool protocol_slot_counted(const gwtf_protocol *p, uint32_t iteration,
                           struct gwtf_microbatch microbatch);
/* A later stage may still have to do again what it had by way of a lost node of this one. */
bool protocol_is_output_wanted(const gwtf_protocol *p);
void protocol_slots_forward(gwtf_protocol *p, gwtf_node_id peer,
                            const struct gwtf_message *message);
void protocol_slots_backward(gwtf_protocol *p, gwtf_node_id peer,
                             const struct gwtf_message *message);
void protocol_slots_received(gwtf_protocol *p, const struct protocol_transfer *transfer,
                             bool whole);
void protocol_slots_sent(gwtf_protocol *p, const struct protocol_transfer *transfer);
void protocol_slots_worked(gwtf_protocol *p, const struct gwtf_work *work,
                           const struct gwtf_work_result *result);
/* PEER is lost: what it was sending has not come. */
void protocol_slots_unreceived(gwtf_protocol *p, const struct protocol_transfer *transfer);

/* routing.c: where microbatches start and go next. */
void protocol_routing_answer(gwtf_protocol *p, gwtf_node_id peer,
                             const struct gwtf_message *message);
void protocol_routing_begin(gwtf_protocol *p); /* data node: a phase has begun */
void protocol_routing_advance(gwtf_protocol *p);
gwtf_time_us protocol_routing_deadline(const gwtf_protocol *p);

/* order.c: whose microbatches an iteration has, and what they hold. */
/* Microbatches that a data node may have in an iteration. */
uint32_t protocol_order_most(const struct gwtf_protocol_config *config);
/* Data node RANK's of the round's iteration; the counts must be known. */
uint32_t protocol_order_share(const gwtf_protocol *p, const struct protocol_round *round,
                              uint32_t rank);
/* The round's with the run's data. */
uint32_t protocol_order_shared(const gwtf_protocol *p, const struct protocol_round *round);
/* Number and place of the slot's microbatch. */
void protocol_order_describe(const gwtf_protocol *p, const struct protocol_slot *slot,
                             struct gwtf_work *work);
void protocol_order_commit(gwtf_protocol *p, const struct protocol_round *round);

/* schedule.c: what the compute thread does next. */
void protocol_schedule_advance(gwtf_protocol *p);
void protocol_schedule_worked(gwtf_protocol *p, const struct gwtf_work *work,
                              const struct gwtf_work_result *result);

/* iteration.c: phases, their end, and the recorder's report. */
struct protocol_round *protocol_round_of(gwtf_protocol *p, uint32_t iteration); /* or NULL */
gwtf_status protocol_iteration_create(gwtf_protocol *p);
void protocol_iteration_destroy(gwtf_protocol *p);
void protocol_iteration_start(gwtf_protocol *p);
/* In the middle of the run, as MESSAGE, a WELCOME, says. */
void protocol_iteration_enter(gwtf_protocol *p, const struct gwtf_message *message);
void protocol_iteration_done(gwtf_protocol *p, uint32_t data_rank,
                             const struct gwtf_message *message);
void protocol_iteration_stepped(gwtf_protocol *p);
void protocol_iteration_go_on(gwtf_protocol *p); /* with the next one */
void protocol_iteration_advance(gwtf_protocol *p);
/* The recorder, data node RANK, is lost: its last report is made again if it may not have been. */
void protocol_iteration_recorder_lost(gwtf_protocol *p, uint32_t rank);
/* Whether MESSAGE is of its iteration's newest generation; a newer one than known is begun. */
bool protocol_iteration_is_current(gwtf_protocol *p, const struct gwtf_message *message);
void protocol_iteration_learn_counts(gwtf_protocol *p, uint32_t iteration, uint32_t generation,
                                     const uint8_t *data_nodes);
void protocol_iteration_restart(gwtf_protocol *p, gwtf_node_id peer,
                                const struct gwtf_message *message);
/* What every stage's sum of this iteration must hold; false: not known yet. STOP: the user wants
 * the run to end. All outputs are set or none. */
bool protocol_iteration_totals(const gwtf_protocol *p, uint32_t *microbatches, uint64_t *ids,
                               bool *stop);
/* Who comes back with the next iteration, when the totals are known. */
void protocol_iteration_entrants(const gwtf_protocol *p, struct gwtf_entrants *entrants);
/* A data node whose microbatches should be counted is down. */
bool protocol_iteration_lacks_data_node(const gwtf_protocol *p);

/* aggregation.c: from the replicas' gradients to one step. */
uint64_t protocol_microbatch_hash(uint32_t iteration, struct gwtf_microbatch microbatch);
void protocol_aggregation_begin(gwtf_protocol *p);   /* an iteration has begun, or begun anew */
void protocol_aggregation_entered(gwtf_protocol *p); /* this node is a member, and knows who is */
void protocol_aggregation_lost(gwtf_protocol *p, uint32_t rank); /* a replica is down */
/* Replica RANK, which has left, is lost: what it has said it may have said to some. */
void protocol_aggregation_left_lost(gwtf_protocol *p, uint32_t rank);
/* Replica RANK, which had left, is a member again. */
void protocol_aggregation_recalled(gwtf_protocol *p, uint32_t rank);
/* Every living replica has the stage's sum, and it will be the one that is stepped with. */
bool protocol_aggregation_is_durable(const gwtf_protocol *p);
/* Whether a microbatch may be added to this node's gradients. */
bool protocol_aggregation_is_open(const gwtf_protocol *p);
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
void protocol_snapshot_lost(gwtf_protocol *p); /* a node is down, the recorder may be another */
void protocol_snapshot_advance(gwtf_protocol *p);

/* rest.c: a stage is gone; the others' weights are written, and all leave. */
gwtf_status protocol_rest_create(gwtf_protocol *p);
void protocol_rest_destroy(gwtf_protocol *p);
/* CULPRIT, the last node of its stage, is lost. From now on protocol_rest_advance alone advances.
 */
void protocol_rest_begin(gwtf_protocol *p, gwtf_node_id culprit);
/* Whether MESSAGE still means something. */
bool protocol_rest_hears(const gwtf_protocol *p, const struct gwtf_message *message);
void protocol_rest_message(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message);
void protocol_rest_worked(gwtf_protocol *p); /* SNAPSHOT */
void protocol_rest_written(gwtf_protocol *p, const struct gwtf_event *event);
void protocol_rest_advance(gwtf_protocol *p);

#endif
