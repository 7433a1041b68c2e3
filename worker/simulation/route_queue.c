#include "worker/simulation/route_queue.h"

#include "share/base/assert.h"

#include <stdlib.h>

#define NEAR_BITS 20
#define NEAR ((gwtf_time_us)1 << NEAR_BITS)
#define FAR 4096
#define WORDS0 (NEAR / 64)
#define WORDS1 (WORDS0 / 64)
#define WORDS2 (WORDS1 / 64)

gwtf_status route_queue_init(struct route_queue *queue) {
    *queue = (struct route_queue){0};
    queue->near = calloc((size_t)NEAR, sizeof *queue->near);
    queue->far = calloc(FAR, sizeof *queue->far);
    queue->bits[0] = calloc((size_t)WORDS0, sizeof(uint64_t));
    queue->bits[1] = calloc((size_t)WORDS1, sizeof(uint64_t));
    queue->bits[2] = calloc((size_t)WORDS2, sizeof(uint64_t));
    bool all = queue->near != NULL && queue->far != NULL && queue->bits[0] != NULL &&
               queue->bits[1] != NULL && queue->bits[2] != NULL;
    return all ? GWTF_OK : GWTF_ERROR_MEMORY;
}

void route_queue_deinit(struct route_queue *queue) {
    for (int level = 0; level < 3; level++)
        free(queue->bits[level]);
    free(queue->far);
    free(queue->near);
    free(queue->events);
}

static void append(struct route_queue *queue, struct route_bucket *bucket, uint32_t place) {
    queue->events[place].next = 0;
    if (bucket->first == 0)
        bucket->first = place + 1;
    else
        queue->events[bucket->last - 1].next = place + 1;
    bucket->last = place + 1;
}

static void append_near(struct route_queue *queue, uint32_t place) {
    size_t at = (size_t)(queue->events[place].at_us - queue->window_us);
    append(queue, &queue->near[at], place);
    for (int level = 0; level < 3; level++, at /= 64)
        queue->bits[level][at / 64] |= (uint64_t)1 << at % 64;
}

/* What is too far off for the last bucket goes round once more. */
static void append_far(struct route_queue *queue, uint32_t place) {
    gwtf_time_us windows = (queue->events[place].at_us - queue->window_us) / NEAR;
    if (windows >= FAR)
        windows = FAR - 1;
    append(queue, &queue->far[(queue->window_us / NEAR + windows) % FAR], place);
}

static bool allocate(struct route_queue *queue) {
    size_t most = queue->events_max == 0 ? 1024 : (size_t)queue->events_max * 2;
    if (most > UINT32_MAX / 2)
        return false;
    struct route_event *events = realloc(queue->events, most * sizeof *events);
    if (events == NULL)
        return false;
    queue->events = events;
    queue->events_max = (uint32_t)most;
    return true;
}

bool route_queue_push(struct route_queue *queue, const struct route_event *event) {
    GWTF_ASSERT(event->at_us >= queue->window_us);
    uint32_t place = queue->free;
    if (place != 0)
        queue->free = queue->events[--place].next;
    else if (queue->events_count < queue->events_max || allocate(queue))
        place = queue->events_count++;
    else
        return false;
    queue->events[place] = *event;
    queue->pending++;
    if (event->at_us - queue->window_us < NEAR)
        append_near(queue, place);
    else
        append_far(queue, place);
    return true;
}

/* The next window: what waited for it finds its microsecond. */
static void advance(struct route_queue *queue) {
    queue->window_us += NEAR;
    struct route_bucket *bucket = &queue->far[queue->window_us / NEAR % FAR];
    uint32_t next = bucket->first;
    *bucket = (struct route_bucket){0};
    while (next != 0) {
        uint32_t place = next - 1;
        next = queue->events[place].next;
        if (queue->events[place].at_us - queue->window_us < NEAR)
            append_near(queue, place);
        else
            append_far(queue, place);
    }
}

/* The first microsecond of the window with an event; NEAR when there is none. */
static size_t find_first(const struct route_queue *queue) {
    for (size_t i = 0; i < (size_t)WORDS2; i++) {
        if (queue->bits[2][i] == 0)
            continue;
        size_t at = i * 64 + (size_t)__builtin_ctzll(queue->bits[2][i]);
        at = at * 64 + (size_t)__builtin_ctzll(queue->bits[1][at]);
        return at * 64 + (size_t)__builtin_ctzll(queue->bits[0][at]);
    }
    return (size_t)NEAR;
}

static void clear_bits(struct route_queue *queue, size_t at) {
    for (int level = 0; level < 3; level++, at /= 64) {
        queue->bits[level][at / 64] &= ~((uint64_t)1 << at % 64);
        if (queue->bits[level][at / 64] != 0)
            return;
    }
}

bool route_queue_pop(struct route_queue *queue, gwtf_time_us until_us, struct route_event *event) {
    if (queue->pending == 0)
        return false;
    size_t at = find_first(queue);
    while (at == (size_t)NEAR) {
        if (queue->window_us + NEAR > until_us)
            return false;
        advance(queue);
        at = find_first(queue);
    }
    if (queue->window_us + (gwtf_time_us)at > until_us)
        return false;
    struct route_bucket *bucket = &queue->near[at];
    uint32_t place = bucket->first - 1;
    *event = queue->events[place];
    bucket->first = event->next;
    if (bucket->first == 0)
        clear_bits(queue, at);
    queue->events[place].next = queue->free;
    queue->free = place + 1;
    queue->pending--;
    return true;
}
