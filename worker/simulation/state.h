/* The simulator's insides, private to this folder. */
#ifndef GWTF_WORKER_SIMULATION_STATE_H
#define GWTF_WORKER_SIMULATION_STATE_H

#include "share/base/random.h"
#include "worker/simulation/simulation.h"

#define SIMULATION_FAILURE_MAX 256
/* Sequences of a microbatch; where the run's data begins; and what comes between those of one life
 * of a node with data of its own and the next. */
#define SIMULATION_SEQUENCES 2u
#define SIMULATION_FIRST_PLACE 7u
#define SIMULATION_OWN_STEP 1000000u
#define SIMULATION_NONE UINT32_MAX
#define SIMULATION_NO_CHANNEL UINT64_MAX

/* What stands for a tensor: a boundary's 64 bits, or a range of a gradient whose every line is, in
 * the simulator's arithmetic, VALUE. */
struct simulation_content {
    uint64_t value;
    uint64_t offset;
    uint64_t count;
};

enum simulation_event_kind {
    SIMULATION_START,
    SIMULATION_MESSAGE,  /* transfer: of its payload, or NONE */
    SIMULATION_SENT,     /* transfer */
    SIMULATION_RECEIVED, /* transfer */
    SIMULATION_WORKED,
    SIMULATION_WRITTEN,  /* iteration */
    SIMULATION_MANIFEST, /* iteration */
    SIMULATION_TIMER,
    SIMULATION_FAULT,
    SIMULATION_PEER_DOWN, /* peer */
    SIMULATION_RETURN
};
struct simulation_event {
    gwtf_time_us at_us;
    enum simulation_event_kind kind;
    uint32_t node; /* index */
    uint32_t peer; /* index */
    uint32_t transfer;
    uint32_t iteration;
    uint32_t life;      /* of the node, when this was begun */
    uint32_t peer_life; /* MESSAGE */
    bool by_door;       /* MESSAGE */
    uint64_t channel;   /* MESSAGE, PEER_DOWN: the one that it belongs to */
    union {
        struct gwtf_message message;        /* MESSAGE */
        struct gwtf_simulation_fault fault; /* FAULT; PEER_DOWN, else zero */
    };
};

struct simulation_queue_entry {
    gwtf_time_us at_us;
    uint64_t sequence; /* order among those of one time */
    uint32_t place;    /* of the event in the pool */
};

struct simulation_queue {
    struct simulation_queue_entry *heap;
    struct simulation_event *events;
    uint32_t *unused; /* places in the pool, from COUNT on */
    size_t count;
    size_t max;
    uint64_t sequence;
};

/* A tensor on its way. */
struct simulation_transfer {
    bool used;
    bool sent;
    bool arrived;
    bool wanted;          /* the receiver said RECEIVE */
    gwtf_time_us left_us; /* all of it is on its way */
    uint32_t from;
    uint32_t to;
    uint64_t channel;
    uint32_t life; /* of the sender */
    uint64_t send_ticket;
    uint64_t receive_ticket;
    struct gwtf_payload source;
    struct gwtf_payload target;
    struct simulation_content content;
};

struct simulation_link {
    uint64_t key;            /* from and to, plus one; 0: entry is free */
    gwtf_time_us free_us;    /* the last tensor has left */
    gwtf_time_us arrived_us; /* nothing sent later arrives before */
};

struct simulation_slot {
    uint64_t boundary[GWTF_BOUNDARIES];
    bool here[GWTF_BOUNDARIES];
};

/* A share of the reduced gradients. */
struct simulation_share {
    struct simulation_content content;
    bool stale; /* of a step that has been done */
};

struct simulation_node {
    struct gwtf_simulation_node config;
    gwtf_protocol *protocol;
    size_t actions_max;
    uint32_t replicas;
    uint32_t rank;
    uint32_t slots_count;
    struct simulation_slot *slots;
    struct gwtf_work works[2]; /* under way */
    int64_t works_us[2];       /* how long each takes */
    uint32_t works_count;
    gwtf_time_us processor_free_us;
    gwtf_time_us uplink_free_us; /* the last tensor has left it */
    uint64_t gradient;
    uint64_t own_base;  /* sequences of its own data that it has been through when it entered */
    uint64_t own_place; /* and after the newest iteration with known weights */
    struct simulation_content *parts; /* by number of the part */
    bool *parts_here;
    struct simulation_share *shares; /* that do not overlap */
    uint32_t shares_count;
    uint32_t shares_max;
    bool *down;         /* by index of the node: takes it for lost */
    uint64_t *channels; /* by index of the node; NULL: the first, to all */
    uint32_t life;      /* how often it has come back */
    int64_t clock_offset_us;
    double clock_drift;
    uint64_t weights;
    uint32_t stepped;
    uint32_t hashed;
    uint32_t writing; /* iteration of the copy that is being written; 0: none */
    bool writing_rest;
    uint64_t writing_weights;
    gwtf_time_us timer_us;    /* an event is in the queue */
    gwtf_time_us deadline_us; /* what the protocol wants */
    bool cannot_write;
    bool dead;
    bool apart; /* cut off, with all others that are */
    gwtf_time_us still_until_us;
    gwtf_time_us stalled_until_us; /* half of the others get nothing of it */
    bool declared;                 /* somebody takes it for lost */
    gwtf_time_us died_us;
    int64_t notice_us;
    bool finished;
    bool left; /* by being told to */
    gwtf_status status;
    gwtf_node_id culprit;
    uint64_t steps;
};

struct gwtf_simulation {
    struct gwtf_simulation_config config;
    struct simulation_node *nodes;
    struct gwtf_member *members; /* as the nodes begin */
    uint32_t *stage_sizes;       /* by stage */
    struct simulation_queue queue;
    struct simulation_transfer *transfers;
    uint32_t transfers_count;
    uint32_t transfers_max;
    uint32_t *transfers_free;
    uint32_t transfers_free_count;
    struct simulation_link *links;
    size_t links_count;
    size_t links_max; /* a power of two */
    struct gwtf_random random;
    struct gwtf_action *actions;
    size_t actions_max;
    gwtf_time_us now_us;
    gwtf_time_us worked_us; /* the last work has ended */
    bool out_of_memory;
    char failure[SIMULATION_FAILURE_MAX];
    struct gwtf_simulation_totals totals;
    struct gwtf_report *reports;
    /* By iteration, from the one before the first: what every stage's weights should be after it.
     */
    uint64_t *weights;
    uint32_t weights_known; /* iterations */
    uint64_t place;         /* of the run's data, after the newest iteration with known weights */
    uint32_t batch;         /* microbatches that losses are scaled for */
    uint64_t *places;       /* by iteration from the one before the first: `place` after it */
    uint64_t *data_nodes; /* by iteration from the first: bit by rank, of those counted; 0: unknown
                           */
    double *norms;        /* by iteration from the first: of the whole gradient */
    bool *rest_written;   /* by stage */
    uint32_t *rest_iterations; /* by stage */
    uint64_t *floats;          /* by stage */
    uint32_t manifested;       /* the newest */
    uint32_t manifest_writer;
    uint32_t reporter; /* of the newest report */
};

/* entry.c */
/* The number of the channel between two nodes as INDEX knows it. */
uint64_t simulation_channel(const gwtf_simulation *simulation, uint32_t index, uint32_t peer);
void simulation_open(gwtf_simulation *simulation, uint32_t index,
                     const struct gwtf_incident *incident);
void simulation_return(gwtf_simulation *simulation, uint32_t index);
void simulation_entered(gwtf_simulation *simulation, uint32_t index);

/* simulation.c */
/* INCARNATION: of the one that is over, and comes back; 0: the first. */
gwtf_status simulation_make_protocol(gwtf_simulation *simulation, uint32_t index,
                                     uint32_t incarnation);
__attribute__((format(printf, 3, 4))) void simulation_fail(gwtf_simulation *simulation,
                                                           uint32_t node, const char *format, ...);
bool simulation_failed(const gwtf_simulation *simulation);
void simulation_clock_init(gwtf_simulation *simulation, uint32_t index);
/* What NODE's clock shows at a moment of the simulation; and the first moment at which it does. */
gwtf_time_us simulation_clock(const struct simulation_node *node, gwtf_time_us at_us);
gwtf_time_us simulation_moment(const struct simulation_node *node, gwtf_time_us clock_us);

uint32_t simulation_find(const gwtf_simulation *simulation, gwtf_node_id node);
/* Tells the observer, if there is one. */
void simulation_notice(gwtf_simulation *simulation, enum gwtf_simulation_notice_kind kind,
                       uint32_t node, const struct gwtf_work *work, int64_t work_us,
                       const struct gwtf_report *report);
/* The event's time, kind and node are set; it goes into the queue. */
void simulation_push(gwtf_simulation *simulation, const struct simulation_event *event);

/* queue.c. False: no memory, or empty. */
bool simulation_queue_push(struct simulation_queue *queue, const struct simulation_event *event);
bool simulation_queue_pop(struct simulation_queue *queue, struct simulation_event *event);
gwtf_time_us simulation_queue_next_us(const struct simulation_queue *queue); /* or NEVER */
void simulation_queue_deinit(struct simulation_queue *queue);

/* network.c */
void simulation_send(gwtf_simulation *simulation, uint32_t from, const struct gwtf_action *action);
void simulation_end_transfer(gwtf_simulation *simulation, uint32_t transfer);

/* contents.c: what tensors should be, and what works make of them. */
uint64_t simulation_mix(uint64_t a, uint64_t b);
uint64_t simulation_weights(gwtf_simulation *simulation, uint32_t stage, uint32_t iteration);
bool simulation_read(gwtf_simulation *simulation, uint32_t node, const struct gwtf_payload *payload,
                     struct simulation_content *content);
void simulation_write(gwtf_simulation *simulation, uint32_t node,
                      const struct gwtf_payload *payload, const struct simulation_content *content);
/* The slots change the memory of OUTPUT and INPUT_GRADIENT. */
void simulation_keep(gwtf_simulation *simulation, uint32_t node, uint32_t slot, uint32_t kept);
void simulation_work(gwtf_simulation *simulation, uint32_t node, const struct gwtf_work *work,
                     struct gwtf_work_result *result);
struct gwtf_stage_file simulation_file(uint32_t stage, uint64_t weights);

/* faults.c */
/* True when EVENT comes later, as a node that it needs stands still. */
bool simulation_hold(gwtf_simulation *simulation, const struct simulation_event *event);
void simulation_bring_fault(gwtf_simulation *simulation, const struct simulation_event *event);
/* The others notice that NODE is gone. */
void simulation_leave(gwtf_simulation *simulation, uint32_t node, int64_t notice_us,
                      int64_t spread_us);
/* Nothing passes between the two. */
/* Others are told that NODE's process has ended; else they hear nothing of it any more. */
bool simulation_notices_death(const gwtf_simulation *simulation, uint32_t node);
bool simulation_is_cut(const gwtf_simulation *simulation, uint32_t peer, uint32_t node);
/* Whether what PEER has sent still reaches NODE. */
bool simulation_reaches(const gwtf_simulation *simulation, uint32_t peer, uint32_t node);

/* node.c: feeds one event to a node and carries out its actions. */
void simulation_step(gwtf_simulation *simulation, uint32_t node, struct gwtf_event *event,
                     uint32_t transfer);

#endif
