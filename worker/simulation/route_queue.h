/*
 * Events by their time, those of one time in the order in which they were pushed. Private to the
 * route simulation: a bucket for each microsecond of a window of about a second, found by a bitmap
 * of three levels; later events wait in a bucket for each window. To push and to pop takes constant
 * time, and events are reused, not allocated.
 */
#ifndef GWTF_WORKER_SIMULATION_ROUTE_QUEUE_H
#define GWTF_WORKER_SIMULATION_ROUTE_QUEUE_H

#include "flow/flow.h"

enum route_event_kind {
    ROUTE_EVENT_START,
    ROUTE_EVENT_TIMER,
    ROUTE_EVENT_MESSAGE, /* from peer */
    ROUTE_EVENT_MEET,    /* node and peer have measured their link */
    ROUTE_EVENT_DOWN,    /* node notices that peer is gone */
    ROUTE_EVENT_PLANNED  /* peer: the number of the planned change */
};

struct route_event {
    gwtf_time_us at_us;
    enum route_event_kind kind;
    gwtf_node_id node, peer;
    uint32_t incarnation; /* of the node that the event is for */
    uint32_t next;        /* in its bucket or among the free ones: place + 1, 0: none */
    struct gwtf_flow_message message;
};

struct route_bucket {
    uint32_t first, last; /* place + 1, 0: empty */
};

struct route_queue {
    struct route_event *events;
    uint32_t events_count, events_max;
    uint32_t free;
    size_t pending;
    gwtf_time_us window_us; /* where the window begins */
    struct route_bucket *near;
    struct route_bucket *far;
    uint64_t *bits[3]; /* of near: not empty; of words; of words of words */
};

/* Errors: GWTF_ERROR_MEMORY. _deinit after a failure too. */
gwtf_status route_queue_init(struct route_queue *queue);
void route_queue_deinit(struct route_queue *queue);

/* A copy of EVENT, whose time is not before that of the last popped one. False without memory. */
bool route_queue_push(struct route_queue *queue, const struct route_event *event);

/* The first event, if its time is at most UNTIL_US. */
bool route_queue_pop(struct route_queue *queue, gwtf_time_us until_us, struct route_event *event);

#endif
