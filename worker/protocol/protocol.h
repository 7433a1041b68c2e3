/*
 * The protocol of one node: microbatch routing, aggregation, validation, snapshots and the end of a
 * run, as a pure state machine. The worker drives it over MPI with real tensors, the simulator in
 * virtual time with cost models.
 *
 * The driver feeds one event at a time with the current time and carries out the actions in their
 * order. No MPI, clock, thread, file, log or allocation after create in here; ties break by node
 * id; the same events give the same actions.
 *
 * An iteration (DESIGN section 6):
 *
 * - train: data nodes embed their microbatches and send them along their routes; relays run forward
 *   and pass on; the last stage returns them to their data node, which computes the loss; gradients
 *   go the same way back. DONE from every data node ends it.
 * - aggregate: the replicas of each stage (data nodes are the replicas of stage 0) exchange shares:
 *   each reduces its share in the order of node ids and sends the sum to the others; who has all of
 * it says COMPLETE; a stage whose living replicas all have says so to the others with its NORM;
 * nobody steps before all stages have.
 * - snapshot, when due: every replica hashes its weights, the first writes the stage; the recorder
 *   (the data node with the lowest id) compares the hashes and writes the manifest. Training goes
 * on meanwhile; only the step of the next iteration waits for the hash, and the next snapshot's
 * work for this one's file.
 * - validate, when due: forward only, then DONE of this phase.
 *
 * The last iteration ends with a snapshot and validation; when the manifest is there the recorder
 * sends CLOSE to all, and everybody finishes. When a stage is lost with its last node, the others'
 * weights are written as they are, and everybody finishes with GWTF_ERROR_STAGE.
 *
 * Slots. A node holds at most `capacity` microbatches; each sits in a slot 0..capacity-1 with four
 * boundary tensors. Seen round the ring, a data node is as a relay: it sends its OUTPUT to stage 1
 * and receives its INPUT from stage S.
 */
#ifndef GWTF_WORKER_PROTOCOL_PROTOCOL_H
#define GWTF_WORKER_PROTOCOL_PROTOCOL_H

#include "share/base/status.h"
#include "share/base/types.h"
#include "worker/protocol/message.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GWTF_REPLICAS_MAX 1024 /* of one stage */
#define GWTF_STAGES_MAX 255
#define GWTF_CAPACITY_MAX 4096 /* slots of one node */
#define GWTF_RETAINED_MAX 65536

struct gwtf_member {
    gwtf_node_id node;
    uint32_t stage; /* 0: data node */
    /* A place that nobody has yet: who takes it enters, in incarnation first_iteration. Who enters
     * hears from the others which places are free. */
    bool is_free;
};

/* What becomes of microbatches that a lost node had. */
enum gwtf_recovery {
    /* All are repaired in the lost node's stage alone: each counts once. */
    GWTF_RECOVERY_EXACT,
    /* Those under way are; those that the node had added to its gradients are lost to its stage,
     * whose sum is scaled up by what is missing: each stage on its own. */
    GWTF_RECOVERY_DROP
};

struct gwtf_protocol_config {
    gwtf_node_id self;
    const struct gwtf_member *members; /* all nodes, growing ids, self too; copied */
    size_t members_count;
    uint32_t stages;   /* S, 1..GWTF_STAGES_MAX */
    uint32_t capacity; /* slots of this node, at least 1 */
    /* measured before the start: forward and backward of one microbatch, averaged */
    int64_t compute_us;
    uint32_t first_iteration; /* 1 for a fresh run, step + 1 for a resumed one */
    uint32_t last_iteration;  /* at least first_iteration */
    uint32_t microbatches;    /* per data node and iteration */
    /* Microbatches of an iteration that losses are scaled for: where others make an iteration up,
     * the sums are scaled to them. 0: those of all that are data nodes at the start. */
    uint32_t batch;
    /* An iteration has BATCH of them whatever data nodes there are, each an equal share; else
     * each data node has `microbatches`. */
    bool batch_is_constant;
    uint32_t sequences; /* of a microbatch; 0: 1 */
    uint64_t place;     /* sequences of the run's data before first_iteration; entrants hear it */
    bool own_data;      /* entering data node: it trains on its own data, and has been through */
    uint64_t own_place; /* so many sequences of it */
    uint32_t validation_microbatches; /* of this data node at each validation; relays: 0 */
    bool validates;                   /* the run has validation data */
    uint32_t validate_every;          /* 0: after the last iteration only */
    uint32_t snapshot_every;          /* 0: after the last iteration only */
    uint64_t boundary_bytes;          /* of one boundary tensor */
    uint64_t gradient_floats;         /* of this stage's flat array, a multiple of 16 */
    enum gwtf_flow_policy policy;
    enum gwtf_flow_objective objective;
    uint32_t negotiation, view; /* as in struct gwtf_flow_config */
    enum gwtf_recovery recovery;
    /* Slots from `capacity` on that keep what finished microbatches sent, OUTPUT and
     * INPUT_GRADIENT, until the iteration is committed. As many as microbatches pass this node in
     * an iteration and every loss is repaired in its own stage; where the oldest had to give way,
     * the loss of a node that it went to begins the iteration anew. */
    uint32_t retained;
    /* This node was declared down in INCARNATION and lives: it asks to be taken as a new member,
     * and gets its weights from a replica (worker/protocol/entry.c). Else incarnation is not used.
     */
    bool enters;
    uint32_t incarnation;
    uint64_t seed;
};

enum gwtf_boundary {
    /* relay: from the previous stage; data node: final hidden state */
    GWTF_BOUNDARY_INPUT,
    /* relay: to the next stage; data node: embedding */
    GWTF_BOUNDARY_OUTPUT,
    /* comes back from where OUTPUT went */
    GWTF_BOUNDARY_OUTPUT_GRADIENT,
    /* goes back to where INPUT came from */
    GWTF_BOUNDARY_INPUT_GRADIENT
};
#define GWTF_BOUNDARIES 4

/* Which memory of the node a tensor message is sent from or received into. */
enum gwtf_payload_kind {
    GWTF_PAYLOAD_NONE,
    /* slot, boundary */
    GWTF_PAYLOAD_BOUNDARY,
    /* floats offset..offset+count-1 of the node's own gradients (sent) */
    GWTF_PAYLOAD_GRADIENT,
    /* count floats: contribution number `part` to this node's share (received). It lies at part *
     * count of memory for gradient_floats floats and one line of 16 more for each replica */
    GWTF_PAYLOAD_PART,
    /* floats offset..offset+count-1 of the reduced gradients (sent and received) */
    GWTF_PAYLOAD_REDUCED,
    /* count floats: zeros that nobody reads, `part` 0 to send from, 1 to receive into, for any
     * number of peers at one time */
    GWTF_PAYLOAD_PROBE,
    /* floats offset..offset+count-1 of the node's weights (part 0), first (1) or second (2)
     * moments, gradient_floats each (sent and received) */
    GWTF_PAYLOAD_STATE
};
struct gwtf_payload {
    enum gwtf_payload_kind kind;
    uint32_t slot;
    enum gwtf_boundary boundary;
    uint32_t part;
    uint64_t offset;
    uint64_t count;
};

enum gwtf_work_kind {
    /* data: tokens of `microbatch` -> OUTPUT of slot */
    GWTF_WORK_EMBED,
    /* relay: INPUT -> OUTPUT; keeps activations when phase is train */
    GWTF_WORK_FORWARD,
    /* data: INPUT -> loss_sum, tokens; in train also INPUT_GRADIENT */
    GWTF_WORK_LOSS,
    /* relay: OUTPUT_GRADIENT -> INPUT_GRADIENT, adds to the gradients (see `again`) */
    GWTF_WORK_BACKWARD,
    /* data: OUTPUT_GRADIENT, adds to the gradients */
    GWTF_WORK_EMBED_BACKWARD,
    /* reduced[offset..] = sum of the present parts in their order (zeros when none is); own
     * gradients are part `own_part` */
    GWTF_WORK_REDUCE,
    /* optimizer step of `iteration` with gradient_norm; then gradients are zero */
    GWTF_WORK_STEP,
    /* hash of the weights; with `writes` also a copy to the snapshot thread */
    GWTF_WORK_SNAPSHOT,
    /* gradients are zero again, without a step */
    GWTF_WORK_CLEAR
};
struct gwtf_work {
    enum gwtf_work_kind kind;
    enum gwtf_phase phase;
    uint32_t iteration;
    uint32_t slot;
    struct gwtf_microbatch microbatch;
    uint64_t offset;
    uint64_t count;
    uint32_t own_part;
    uint8_t parts_present[GWTF_REPLICAS_MAX / 8]; /* bit i: part i counts */
    double scale; /* REDUCE: of the sum; 1 but with DROP, or when others than `batch` make it up */
    /* EMBED, LOSS, EMBED_BACKWARD in training: the microbatch's first sequence, in the order of
     * the run's data or of the node's own; SNAPSHOT: the run's data's, after that iteration. */
    uint64_t place;
    uint32_t number;      /* as above: of the iteration's microbatches */
    double gradient_norm; /* STEP; SNAPSHOT with of_rest: of this stage alone, 0: not known */
    bool writes;
    bool of_rest; /* SNAPSHOT: of what is left when a stage is gone, and no part of a snapshot */
    bool again;   /* LOSS, BACKWARD: the gradients hold it already, nothing is added; INPUT_GRADIENT
                   * still holds the result */
};

/* What comes back from work. */
struct gwtf_work_result {
    int64_t compute_us;    /* how long it took */
    double loss_sum;       /* LOSS: nats over `tokens` */
    uint64_t tokens;       /* LOSS */
    double sum_of_squares; /* REDUCE */
    uint64_t hash;         /* SNAPSHOT */
};

enum gwtf_event_kind {
    /* once, first: memory, compute and transport are ready */
    GWTF_EVENT_START,
    /* peer, message. With payload_bytes > 0 the step answers with exactly one RECEIVE or DISCARD */
    GWTF_EVENT_MESSAGE,
    /* ticket of RECEIVE; status: GWTF_OK, or GWTF_ERROR_CORRUPT for a wrong checksum */
    GWTF_EVENT_PAYLOAD_RECEIVED,
    /* ticket of SEND: the memory may be reused. Best given before messages that came meanwhile: a
     * slot whose gradient has left is free for the microbatch that takes its place */
    GWTF_EVENT_PAYLOAD_SENT,
    /* work, result */
    GWTF_EVENT_WORK_DONE,
    /* iteration, status, file: this node's stage file of the snapshot */
    GWTF_EVENT_WRITTEN,
    /* iteration, status */
    GWTF_EVENT_MANIFEST_WRITTEN,
    /* peer: its process has ended, or its connection, whatever found it. Not for a peer that has
     * left in order, after its own FINISH: the transport tells the two apart */
    GWTF_EVENT_PEER_DOWN,
    /* peer: nothing was heard of it for long. It may be dead, stand still, or be cut off: the
     * recorder decides (INCIDENT_SUSPECTED), or all must agree (INCIDENT_DOUBTED) */
    GWTF_EVENT_PEER_SILENT,
    /* peer: it was silent, and is heard again */
    GWTF_EVENT_PEER_HEARD,
    /* the user wants the run to end after this iteration; relays take no notice, so that it may be
     * given to all nodes */
    GWTF_EVENT_STOP,
    /* this node is to leave, the run to go on without it: after the iteration under way, or as soon
     * after it as it may. It finishes with GWTF_OK, and its view says that it has left */
    GWTF_EVENT_LEAVE,
    /* the deadline of the last update has come */
    GWTF_EVENT_TIMER
};
struct gwtf_event {
    enum gwtf_event_kind kind;
    gwtf_time_us now_us;
    gwtf_node_id peer;
    uint32_t iteration;
    uint64_t ticket;
    gwtf_status status;
    union { /* what KIND does not name is not there */
        struct gwtf_message message;
        struct {
            struct gwtf_work work;
            struct gwtf_work_result result;
        };
        struct gwtf_stage_file file;
    };
};

/* What the recorder knows of an iteration when it has ended. */
struct gwtf_report {
    uint32_t iteration;
    double loss;            /* nats per token over the global batch */
    double validation_loss; /* NAN: not measured */
    uint64_t tokens;
    int64_t duration_us; /* without validation */
    uint32_t microbatches;
    uint32_t nodes;    /* alive */
    uint32_t lost;     /* nodes, since the report before */
    uint32_t joined;   /* nodes, since the report before */
    uint32_t repaired; /* microbatches that substitutes took over, all stages */
    int64_t wasted_us; /* compute that had been done before, or was thrown away */
    double gradient_norm;
    /* index 0..S: share of the duration that its nodes spent on microbatches, averaged */
    double stage_utilisation[GWTF_STAGES_MAX + 1];
    uint32_t stage_nodes[GWTF_STAGES_MAX + 1]; /* those that took part in its step */
};

/* Flows go another way since a link has got dearer or cheaper. */
struct gwtf_reroute {
    gwtf_node_id from; /* has lost flows; GWTF_NODE_NONE: nobody */
    gwtf_node_id to;   /* has won them; GWTF_NODE_NONE: flows left this node */
    gwtf_node_id link; /* FROM or TO: to whom the cost of the link has changed */
    int64_t old_cost_us;
    int64_t new_cost_us;
};

enum gwtf_incident_kind {
    GWTF_INCIDENT_DOWN,      /* node: declared down. Nothing of it may be received any more, into
                              * whatever memory it was to go */
    GWTF_INCIDENT_REPAIRED,  /* microbatches that had been sent to `node`, a lost one, were sent to
                              * substitutes; duration_us: since the loss was known */
    GWTF_INCIDENT_RESTARTED, /* the iteration begins anew; node: this one, the recorder */
    GWTF_INCIDENT_SNAPSHOT,  /* the iteration's snapshot was given up: its writer is lost */
    GWTF_INCIDENT_STAGE,     /* node was the last one of `stage`: the others write their weights,
                              * and all leave; told by one node */
    GWTF_INCIDENT_SUSPECTED, /* nothing is heard of node: the recorder is asked */
    GWTF_INCIDENT_DOUBTED,   /* nothing is heard of node, the last one of `stage` or the recorder:
                              * all are asked */
    /* node: a member from now on, in `incarnation`. What it sent before is taken no more, and what
     * was to go to it is void: between it and this node a new channel begins, named by `channel`,
     * the same number on both sides. ENTER and WELCOME, and CLOSE to a node that is down, go by the
     * door: they reach a node whatever it thinks of the sender. */
    GWTF_INCIDENT_UP,
    GWTF_INCIDENT_ENTERED, /* node: this one is a member again and has its weights; duration_us:
                            * since it asked */
    GWTF_INCIDENT_LEAVING, /* node: this one has been told to leave */
    GWTF_INCIDENT_STAYS,   /* node: this one was told to leave, and is the last of its stage, or of
                            * those that were told so, the one that stays; told once */
    GWTF_INCIDENT_LEFT     /* node: it has left, in order. As with DOWN, nothing of it may be
                            * received any more */
};
struct gwtf_incident {
    enum gwtf_incident_kind kind;
    gwtf_node_id node;
    uint32_t iteration;
    uint32_t microbatches;
    uint32_t stage;
    int64_t duration_us;
    uint32_t incarnation; /* DOWN, UP: of node */
    bool is_silent;   /* DOWN: this node, or who asked it as the recorder, hears nothing of node */
    uint64_t channel; /* UP */
};

enum gwtf_action_kind {
    /* to, message; with payload_bytes > 0: from `payload`, and PAYLOAD_SENT with `ticket` */
    GWTF_ACTION_SEND,
    /* the payload of this event's message goes into `payload`; PAYLOAD_RECEIVED with `ticket` */
    GWTF_ACTION_RECEIVE,
    /* the payload of this event's message is thrown away */
    GWTF_ACTION_DISCARD,
    /* work, for the compute thread, in order; at most two are under way at one time */
    GWTF_ACTION_WORK,
    /* report: the recorder's line of metrics. A new recorder may repeat the lost one's last */
    GWTF_ACTION_REPORT,
    /* iteration: this node's weights are those after it */
    GWTF_ACTION_STEPPED,
    /* iteration, hash: of this node's weights at a snapshot */
    GWTF_ACTION_HASHED,
    /* iteration, reroute: for the run's events; at most one in five seconds */
    GWTF_ACTION_REROUTED,
    /* iteration, files: write the manifest; MANIFEST_WRITTEN follows */
    GWTF_ACTION_MANIFEST,
    /* slot, kept: slot `slot` and slot `kept`, which is at least `capacity`, change the memory of
     * their OUTPUT and of their INPUT_GRADIENT. Sends under way go on from where they are */
    GWTF_ACTION_KEEP,
    /* incident: for the run's events */
    GWTF_ACTION_INCIDENT,
    /* status: this node is done, all its sends first, but for those to nodes that have left;
     * nothing follows. GWTF_OK; INTERRUPTED after a STOP, with its snapshot whole; else what went
     * wrong */
    GWTF_ACTION_FINISH
};
struct gwtf_action {
    enum gwtf_action_kind kind;
    gwtf_node_id to;
    uint64_t ticket;
    uint32_t iteration;
    gwtf_status status;
    gwtf_node_id culprit; /* FINISH with an error: the node that it is about, or GWTF_NODE_NONE */
    uint32_t slot;
    uint32_t kept;
    union { /* what KIND does not name is not there */
        struct {
            struct gwtf_payload payload;
            struct gwtf_message message;
        };
        struct gwtf_work work;
        struct gwtf_incident incident;
        struct gwtf_reroute reroute;
        uint64_t hash;
        const struct gwtf_report *report; /* lives until the next step */
        const struct gwtf_stage_file
            *files; /* MANIFEST: [0..stages]; lives until MANIFEST_WRITTEN */
    };
};

/* Filled by a step. ACTIONS is the caller's array of gwtf_protocol_actions_max entries. */
struct gwtf_update {
    struct gwtf_action *actions;
    size_t actions_count;
    size_t actions_max;
    gwtf_time_us deadline_us; /* when to send GWTF_EVENT_TIMER; GWTF_TIME_NEVER */
};

typedef struct gwtf_protocol gwtf_protocol;

/* Errors: GWTF_ERROR_USAGE (config), GWTF_ERROR_MEMORY; PROTOCOL untouched. */
gwtf_status gwtf_protocol_create(const struct gwtf_protocol_config *config,
                                 gwtf_protocol **protocol);
void gwtf_protocol_destroy(gwtf_protocol *protocol); /* NULL is allowed */

size_t gwtf_protocol_actions_max(const struct gwtf_protocol_config *config);

/*
 * One event. Messages that are late, doubled, unexpected or damaged are dropped or answered, never
 * asserted on. Before START and after FINISH events give no actions. Returns GWTF_OK, or what
 * FINISH says.
 */
gwtf_status gwtf_protocol_step(gwtf_protocol *protocol, const struct gwtf_event *event,
                               struct gwtf_update *update);

/* What this node does now, for its state file and for tests. */
struct gwtf_protocol_view {
    uint32_t iteration; /* being trained */
    enum gwtf_phase phase;
    uint32_t slots_used;
    uint32_t capacity;
    gwtf_node_id recorder;  /* GWTF_NODE_NONE: no data node is left */
    uint32_t nodes;         /* not known to be lost */
    uint32_t generation;    /* how often the iteration began */
    uint32_t retained;      /* kept slots in use */
    uint32_t routes;        /* data node */
    int64_t routes_cost_us; /* the sum of those that are known, and the largest */
    int64_t route_cost_us_max;
    uint64_t microbatches_trained; /* since the start: backward passes done here */
    uint64_t refusals;             /* microbatches that this node refused */
    uint32_t incarnation;          /* of this node */
    bool enters;                   /* it is not a member yet, or has not got its weights */
    uint32_t pieces, pieces_here;  /* enters: of its weights and moments; 0 of 0: not known yet */
    bool leaving;                  /* it has been told to leave */
    bool left;                     /* it has finished by leaving */
    uint64_t own_place;            /* as in the config, now */
    bool finished;
};
struct gwtf_protocol_view gwtf_protocol_get_view(const gwtf_protocol *protocol);

/* What this node knows of all nodes, in the order of ids: members_count VIEWS. */
struct gwtf_member_view {
    gwtf_node_id node;
    uint32_t stage;
    bool down;            /* or its place is free */
    uint32_t incarnation; /* the last one */
};
void gwtf_protocol_get_members(const gwtf_protocol *protocol, struct gwtf_member_view *views);

/* What keeps this node from going on: for its state file, and for people who look at a run that
 * stands still. */
enum gwtf_waits_kind {
    GWTF_WAITS_NOTHING,
    GWTF_WAITS_ENTRY,        /* it has been declared down, and knocks */
    GWTF_WAITS_WELCOME,      /* of nodes */
    GWTF_WAITS_STATE,        /* weights and moments, of nodes */
    GWTF_WAITS_MICROBATCHES, /* that are with nodes, or here; several may be with one */
    GWTF_WAITS_DONE,         /* of data nodes */
    GWTF_WAITS_VIEW,         /* replicas know of other losses than this node */
    GWTF_WAITS_COUNT,        /* of replicas, after a loss */
    GWTF_WAITS_CONTRIBUTION, /* of replicas */
    GWTF_WAITS_SHARE,        /* of replicas */
    GWTF_WAITS_COMPLETE,     /* of replicas */
    GWTF_WAITS_CONFIRMATION, /* of replicas' losses, by all */
    GWTF_WAITS_NORM,         /* of stages */
    GWTF_WAITS_SENDS,        /* tensors that others have to take */
    GWTF_WAITS_WORK,
    GWTF_WAITS_SNAPSHOT,
    GWTF_WAITS_LEAVERS, /* nodes of its stage, which leave, and have not gone */
    GWTF_WAITS_RELEASE  /* it leaves: nodes that have not said that they need it no more */
};
#define GWTF_WAITS_MAX 8
struct gwtf_waits {
    enum gwtf_waits_kind kind;
    uint32_t count;              /* may be more than are named */
    uint32_t of[GWTF_WAITS_MAX]; /* nodes, or stages with NORM */
};
struct gwtf_waits gwtf_protocol_get_waits(const gwtf_protocol *protocol);
const char *gwtf_waits_name(enum gwtf_waits_kind kind); /* "the norms of stages" */

/* The whole-state checker: true when every invariant holds; else false and a constant text in WHY
 * (may be NULL). */
bool gwtf_protocol_check(const gwtf_protocol *protocol, const char **why);

/* Bytes of a probe: not more than a boundary tensor's, and whole floats. */
#define GWTF_PROBE_BYTES_MAX (1u << 18)
uint64_t gwtf_probe_bytes(uint64_t boundary_bytes);

/* Replica RANK's share of FLOATS floats among REPLICAS: whole 16-float lines, as even as possible.
 */
void gwtf_share_of(uint64_t floats, uint32_t replicas, uint32_t rank, uint64_t *offset,
                   uint64_t *count);

#endif
