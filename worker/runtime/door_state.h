/* The door of a node, private to door.c, door_place.c, door_move.c and door_meet.c. */
#ifndef GWTF_WORKER_RUNTIME_DOOR_STATE_H
#define GWTF_WORKER_RUNTIME_DOOR_STATE_H

#include "io/join.h"
#include "worker/protocol/place.h"
#include "worker/runtime/door.h"

#include <pthread.h>

#define DOOR_GUESTS_MAX 64 /* connected, and not yet taken by the node */
#define DOOR_SERVED_MAX 128

/* A port that was opened for who is named by a token. */
struct door_port {
    char token[GWTF_JOIN_TOKEN_MAX];
    char name[GWTF_JOIN_PORT_MAX];
};

struct gwtf_door {
    struct gwtf_door_config config;
    char directory[GWTF_CONFIG_PATH_MAX];
    char token[GWTF_JOIN_TOKEN_MAX]; /* this node's own; "": it was spawned with the run */
    char host[256];                  /* this one */
    int64_t made_unix_s;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    bool ends;
    bool is_recorder;
    bool calls;   /* this node comes back: all are to be connected */
    bool has_all; /* they are */
    struct gwtf_member_view *members;
    double *stage_busy;
    uint32_t reported;
    int64_t duration_us;
    double mean_us;
    uint32_t microbatches;
    struct gwtf_door_guest guests[DOOR_GUESTS_MAX];
    size_t guests_count;
    /* By node: the token of who has its place and is connected. */
    char (*met)[GWTF_JOIN_TOKEN_MAX];
    /* The thread's own. */
    MPI_Comm mother; /* this process alone; see door_make_self */
    bool spawns;     /* under the mutex: a process is being started */
    struct door_port served[DOOR_SERVED_MAX];
    size_t served_count;
    char (*called)[GWTF_JOIN_PORT_MAX]; /* by node: the port of its that was connected to last */
    char awaited[GWTF_JOIN_TOKEN_MAX];  /* recorder: has a place and is not there yet; "": nobody */
    gwtf_time_us awaited_us;            /* since */
    struct gwtf_place_moves moves;      /* recorder */
    uint32_t looked_at;                 /* the last report that it has looked at */
};

/* This process alone, for one of the calls that all of a communicator make together: two threads
 * may not do so on one communicator at one time. MPI_COMM_NULL: MPI cannot. By the door's thread.
 */
MPI_Comm door_make_self(struct gwtf_door *door);

/* door_meet.c */
/* Opens ports for those that have got a place and count on this node; where this node comes back,
 * also for those that came meanwhile. */
void door_open_ports(struct gwtf_door *door);
/* Connects to those that came back and do not know this node, which had joined meanwhile. */
void door_answer_calls(struct gwtf_door *door);
/* Who is connected from the start. */
void door_note_first(struct gwtf_door *door);

/* door_place.c: what the recorder does. Blocks that a node of each stage computes for a microbatch,
 * forward and backward, in a second, on average: PACES, index 0: stage 1; 0: not known. With the
 * mutex. */
void door_measure_stages(const struct gwtf_door *door, double paces[GWTF_STAGES_MAX]);
void door_give_places(struct gwtf_door *door);
/* Who wants a place and has none. */
uint32_t door_count_waiting(struct gwtf_door *door);

/* door_move.c: the recorder sends nodes of over-full stages to others. */
void door_move(struct gwtf_door *door);

#endif
