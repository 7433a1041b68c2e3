/*
 * Events in the order of their time; those of one time in the order in which they were pushed. The
 * events lie still in a pool: a heap with four children to an entry orders what is small of them.
 */
#include "worker/simulation/state.h"

#include <stdlib.h>
#include <string.h>

#define CHILDREN 4

static bool is_before(const struct simulation_queue_entry *a,
                      const struct simulation_queue_entry *b) {
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->sequence < b->sequence;
}

/* Most events are small. */
static void copy(struct simulation_event *to, const struct simulation_event *from) {
    bool is_whole = from->kind == SIMULATION_MESSAGE || from->kind == SIMULATION_FAULT ||
                    from->kind == SIMULATION_PEER_DOWN;
    memcpy(to, from, is_whole ? sizeof *to : offsetof(struct simulation_event, message));
}

static bool grow(struct simulation_queue *queue) {
    size_t max = queue->max ? 2 * queue->max : 1024;
    struct simulation_queue_entry *heap = realloc(queue->heap, max * sizeof *heap);
    if (heap)
        queue->heap = heap;
    struct simulation_event *events = realloc(queue->events, max * sizeof *events);
    if (events)
        queue->events = events;
    uint32_t *unused = realloc(queue->unused, max * sizeof *unused);
    if (unused)
        queue->unused = unused;
    if (!heap || !events || !unused || max > UINT32_MAX)
        return false;
    for (size_t i = queue->max; i < max; i++)
        unused[i] = (uint32_t)i;
    queue->max = max;
    return true;
}

bool simulation_queue_push(struct simulation_queue *queue, const struct simulation_event *event) {
    if (queue->count == queue->max && !grow(queue))
        return false;
    /* Places from COUNT on are those of no event. */
    uint32_t place = queue->unused[queue->count];
    struct simulation_queue_entry added = {
        .at_us = event->at_us, .sequence = queue->sequence++, .place = place};
    copy(&queue->events[place], event);
    size_t at = queue->count++;
    while (at > 0 && is_before(&added, &queue->heap[(at - 1) / CHILDREN])) {
        queue->heap[at] = queue->heap[(at - 1) / CHILDREN];
        at = (at - 1) / CHILDREN;
    }
    queue->heap[at] = added;
    return true;
}

gwtf_time_us simulation_queue_next_us(const struct simulation_queue *queue) {
    return queue->count > 0 ? queue->heap[0].at_us : GWTF_TIME_NEVER;
}

bool simulation_queue_pop(struct simulation_queue *queue, struct simulation_event *event) {
    if (queue->count == 0)
        return false;
    uint32_t place = queue->heap[0].place;
    copy(event, &queue->events[place]);
    struct simulation_queue_entry last = queue->heap[--queue->count];
    queue->unused[queue->count] = place;
    size_t at = 0;
    for (;;) {
        size_t first = CHILDREN * at + 1, least = first;
        if (first >= queue->count)
            break;
        size_t end = first + CHILDREN < queue->count ? first + CHILDREN : queue->count;
        for (size_t child = first + 1; child < end; child++)
            if (is_before(&queue->heap[child], &queue->heap[least]))
                least = child;
        if (!is_before(&queue->heap[least], &last))
            break;
        queue->heap[at] = queue->heap[least];
        at = least;
    }
    queue->heap[at] = last;
    return true;
}

void simulation_queue_deinit(struct simulation_queue *queue) {
    free(queue->heap);
    free(queue->events);
    free(queue->unused);
}
