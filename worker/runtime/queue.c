#include "worker/runtime/queue.h"

#include "share/base/assert.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Who waits looks once in this time, even if nobody has woken it: glibc before 2.41 can lose the
 * signal of a condition (its bug 25847), and a thread that sleeps on would hold up the run. */
#define LOOK_S 1

struct gwtf_queue {
    pthread_mutex_t lock;
    pthread_cond_t not_empty;
    pthread_cond_t not_full;
    gwtf_bell *bell;
    size_t item_bytes;
    size_t capacity;
    size_t first;
    size_t count;
    bool closed;
    unsigned char *items;
};

gwtf_status gwtf_queue_create(size_t item_bytes, size_t capacity, gwtf_bell *bell,
                              gwtf_queue **queue) {
    GWTF_ASSERT(item_bytes > 0 && capacity > 0);
    struct gwtf_queue *made = calloc(1, sizeof *made);
    if (made == NULL)
        return GWTF_ERROR_MEMORY;
    made->items = calloc(capacity, item_bytes);
    if (made->items == NULL) {
        free(made);
        return GWTF_ERROR_MEMORY;
    }
    made->bell = bell;
    made->item_bytes = item_bytes;
    made->capacity = capacity;
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->not_empty, NULL);
    pthread_cond_init(&made->not_full, NULL);
    *queue = made;
    return GWTF_OK;
}

void gwtf_queue_destroy(gwtf_queue *queue) {
    if (queue == NULL)
        return;
    pthread_cond_destroy(&queue->not_full);
    pthread_cond_destroy(&queue->not_empty);
    pthread_mutex_destroy(&queue->lock);
    free(queue->items);
    free(queue);
}

static void wait_for(pthread_cond_t *condition, pthread_mutex_t *lock) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += LOOK_S;
    pthread_cond_clockwait(condition, lock, CLOCK_MONOTONIC, &until);
}

static gwtf_status push(gwtf_queue *queue, const void *item, bool waits) {
    pthread_mutex_lock(&queue->lock);
    while (waits && !queue->closed && queue->count == queue->capacity)
        wait_for(&queue->not_full, &queue->lock);
    if (queue->closed || queue->count == queue->capacity) {
        pthread_mutex_unlock(&queue->lock);
        return GWTF_ERROR_LIMIT;
    }
    size_t at = (queue->first + queue->count) % queue->capacity;
    memcpy(queue->items + at * queue->item_bytes, item, queue->item_bytes);
    queue->count++;
    pthread_cond_signal(&queue->not_empty);
    pthread_mutex_unlock(&queue->lock);
    if (queue->bell != NULL)
        gwtf_bell_ring(queue->bell);
    return GWTF_OK;
}

gwtf_status gwtf_queue_try_push(gwtf_queue *queue, const void *item) {
    return push(queue, item, false);
}

gwtf_status gwtf_queue_push(gwtf_queue *queue, const void *item) {
    return push(queue, item, true);
}

static bool pop(gwtf_queue *queue, void *item, bool waits) {
    pthread_mutex_lock(&queue->lock);
    while (waits && !queue->closed && queue->count == 0)
        wait_for(&queue->not_empty, &queue->lock);
    bool any = queue->count > 0;
    if (any) {
        memcpy(item, queue->items + queue->first * queue->item_bytes, queue->item_bytes);
        queue->first = (queue->first + 1) % queue->capacity;
        queue->count--;
        pthread_cond_signal(&queue->not_full);
    }
    pthread_mutex_unlock(&queue->lock);
    return any;
}

bool gwtf_queue_try_pop(gwtf_queue *queue, void *item) {
    return pop(queue, item, false);
}

bool gwtf_queue_pop(gwtf_queue *queue, void *item) {
    return pop(queue, item, true);
}

void gwtf_queue_close(gwtf_queue *queue) {
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    pthread_cond_broadcast(&queue->not_empty);
    pthread_cond_broadcast(&queue->not_full);
    pthread_mutex_unlock(&queue->lock);
}
