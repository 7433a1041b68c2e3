/* One node of the run, private to node.c and node_make.c. */
#ifndef GWTF_WORKER_RUNTIME_NODE_STATE_H
#define GWTF_WORKER_RUNTIME_NODE_STATE_H

#include "worker/protocol/protocol.h"
#include "worker/runtime/charter.h"
#include "worker/runtime/compute.h"
#include "worker/runtime/crashes.h"
#include "worker/runtime/door.h"
#include "worker/runtime/heartbeat.h"
#include "worker/runtime/network.h"
#include "worker/runtime/pidwatch.h"
#include "worker/runtime/transport.h"
#include "worker/runtime/writer.h"

struct lost_peer {
    bool is_forgotten;     /* by transport and heartbeat, once it has been told */
    gwtf_time_us ended_us; /* its process; 0: not known to have, or told */
    bool has_ended;        /* its process */
    bool is_doubted;       /* silent, but others may hear it */
};

struct node {
    const struct gwtf_charter *charter;
    const MPI_Comm *worlds; /* by node, of one that joins; NULL: all are in MPI_COMM_WORLD */
    const char *token;      /* under which it has joined, or NULL */
    enum gwtf_config_node_device device; /* of a node that has joined */
    const char *own_data;                /* data node: of its own; "": it has the run's */
    uint64_t own_place;                  /* so many sequences of it it has been through */
    struct gwtf_setup setup;
    bool setup_open;
    char directory[GWTF_CONFIG_PATH_MAX]; /* of the run; "": not known yet */
    uint32_t stage;
    uint32_t replicas;
    uint32_t capacity;
    uint32_t retained; /* finished microbatches whose tensors are kept until the step */
    gwtf_bell *bell;
    gwtf_memory *memory;
    gwtf_compute *compute;
    gwtf_writer *writer;
    gwtf_network *network; /* emulated; NULL: none */
    gwtf_crashes *crashes; /* asked for; NULL: none */
    gwtf_transport *transport;
    gwtf_heartbeat *heartbeat;
    gwtf_pidwatch *pidwatch; /* peers on this machine */
    gwtf_time_us pids_looked_us;
    gwtf_time_us strays_looked_us;
    gwtf_time_us lost_us; /* the last peer */
    gwtf_protocol *protocol;
    gwtf_door *door;                    /* NULL: nobody can join */
    struct gwtf_member_view *members;   /* for it */
    double stage_busy[GWTF_STAGES_MAX]; /* see place.h; mean of the last reports made here */
    uint32_t reports;                   /* in it */
    uint32_t reported;                  /* iteration of the last one */
    int64_t reported_duration_us;
    double reported_mean_us;
    uint32_t reported_microbatches;
    struct gwtf_update update;
    struct gwtf_node_state state;
    gwtf_time_us state_written_us;
    gwtf_time_us looked_us;
    gwtf_time_us began_us;  /* training */
    gwtf_time_us turned_us; /* last turn of the loop */
    bool state_under_way;   /* one state file and one look at a time wait for the disk */
    bool look_under_way;
    bool stop_told;
    bool leave_told; /* see node_leave.c */
    bool leaves_now; /* its notice is over */
    double notice_s;
    const char *leave_why;
    uint32_t moves_to; /* the stage that it leaves for; 0: it leaves for good */
    gwtf_time_us leave_until_us;
    bool repairs;           /* a lost node's microbatch has come in this iteration */
    struct lost_peer *lost; /* by peer */
    const char *found_by;   /* why a peer is down; NULL: others say so */
    uint32_t works;         /* with the compute thread */
    uint32_t writes;        /* stage files and manifests with the writer */
    /* See node_return.c. */
    bool is_fenced;       /* declared down: no protocol is driven */
    uint32_t incarnation; /* that was */
    gwtf_time_us return_us;
    uint32_t returns;
    bool finished;
    gwtf_status status;
    struct gwtf_error *error;
};

/* Sends those that are due. */
void node_send_heartbeats(struct node *node, gwtf_time_us now_us);

/* What a node needs before it can train, heard by its peers meanwhile. NODE's charter, error and
 * state are set. After an error node_unmake frees what there is. */
gwtf_status node_make(struct node *node, struct gwtf_error *error);
/* INCARNATION: of this node, declared down, which comes back; 0: it begins with the run. */
gwtf_status node_make_protocol(struct node *node, uint32_t incarnation, struct gwtf_error *error);

/* node_events.c: into the run's directory, and this node's log. */
void node_write_event(struct node *node, const char *kind, uint32_t iteration, gwtf_node_id about,
                      const char *text);
void node_write_rerouted(struct node *node, const struct gwtf_action *action);
void node_report(struct node *node, const struct gwtf_report *report);
void node_note_incident(struct node *node, const struct gwtf_incident *incident);
/* What concerns all is written by one; when no data node is left, by all. */
bool node_is_recorder(const struct node *node);

/* node.c: what changed, for those that want to join. */
void node_tell_door(struct node *node);

/* node_leave.c */
/* A peer has left, as it was told to: nothing is expected of it any more. */
void node_see_off(struct node *node, const struct gwtf_incident *incident);
/* This node has been told to leave, and WHY. False: it knows, or has been declared down, and leaves
 * by that. */
bool node_begin_leaving(struct node *node, const struct gwtf_leave *leave, const char *why);
/* It has left for another stage: it is to be started again there. */
void node_ask_for_other_stage(const struct node *node);
/* It must go now, whether it may or not. */
bool node_notice_is_over(const struct node *node, gwtf_time_us now_us);
/* It says so, for the others will find it missing. */
void node_end_leaving(struct node *node);

/* node_return.c */
bool node_goes_by_door(const struct node *node, gwtf_node_id to,
                       const struct gwtf_message *message);
/* Why a node is down, or missed. */
const char *node_found_by(const struct node *node, const struct gwtf_incident *incident);
/* A channel with a peer begins. */
void node_open(struct node *node, const struct gwtf_incident *incident);
/* This node has been declared down. */
void node_begin_return(struct node *node);
/* Nothing is under way any more, and it is time. */
bool node_may_return(const struct node *node);
/* A new protocol, to be started. */
gwtf_status node_return(struct node *node);

/* Says the end in the state file too. */
void node_unmake(struct node *node);

#endif
