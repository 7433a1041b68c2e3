/*
 * Bounded queues between the threads of a worker.
 *
 * Items are copied in and out. Any number of threads may push and pop.
 */
#ifndef GWTF_WORKER_RUNTIME_QUEUE_H
#define GWTF_WORKER_RUNTIME_QUEUE_H

#include "share/base/status.h"
#include "worker/runtime/bell.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct gwtf_queue gwtf_queue;

/* CAPACITY items of ITEM_BYTES each. BELL (may be NULL) is rung at every push; it must outlive the
 * queue. */
gwtf_status gwtf_queue_create(size_t item_bytes, size_t capacity, gwtf_bell *bell,
                              gwtf_queue **queue);
void gwtf_queue_destroy(gwtf_queue *queue); /* NULL is allowed; no thread may be inside */

/* Errors: GWTF_ERROR_LIMIT when the queue is full or closed; nothing is queued then. */
gwtf_status gwtf_queue_try_push(gwtf_queue *queue, const void *item);

/* Waits for room. Errors: GWTF_ERROR_LIMIT when the queue is closed. */
gwtf_status gwtf_queue_push(gwtf_queue *queue, const void *item);

/* False when the queue is empty. */
bool gwtf_queue_try_pop(gwtf_queue *queue, void *item);

/* Waits for an item. False when the queue is closed and empty. */
bool gwtf_queue_pop(gwtf_queue *queue, void *item);

/* No more pushes; what is queued can still be popped. Wakes all who wait. */
void gwtf_queue_close(gwtf_queue *queue);

#endif
