/* Events in the order of their time; those of one time in the order in which they were pushed. */
#include "worker/simulation/state.h"

#include <stdlib.h>

static bool is_before(const struct simulation_event *a, const struct simulation_event *b) {
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->sequence < b->sequence;
}

bool simulation_queue_push(struct simulation_queue *queue, const struct simulation_event *event) {
    if (queue->count == queue->max) {
        size_t max = queue->max ? 2 * queue->max : 1024;
        struct simulation_event *heap = realloc(queue->heap, max * sizeof *heap);
        if (!heap)
            return false;
        queue->heap = heap;
        queue->max = max;
    }
    struct simulation_event added = *event;
    added.sequence = queue->sequence++;
    size_t at = queue->count++;
    while (at > 0 && is_before(&added, &queue->heap[(at - 1) / 2])) {
        queue->heap[at] = queue->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    queue->heap[at] = added;
    return true;
}

bool simulation_queue_pop(struct simulation_queue *queue, struct simulation_event *event) {
    if (queue->count == 0)
        return false;
    *event = queue->heap[0];
    struct simulation_event last = queue->heap[--queue->count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= queue->count)
            break;
        if (child + 1 < queue->count && is_before(&queue->heap[child + 1], &queue->heap[child]))
            child++;
        if (!is_before(&queue->heap[child], &last))
            break;
        queue->heap[at] = queue->heap[child];
        at = child;
    }
    queue->heap[at] = last;
    return true;
}
