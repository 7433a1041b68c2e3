/*
 * The bell that wakes the thread that owns MPI: rung by other threads, or, where MPI hears of its
 * sockets by way of epoll, by what comes in there. Open MPI does not wait without spinning, so a
 * worker looks, and sleeps when nothing was there; without ears it would sleep through the next
 * message's arrival.
 */
#ifndef GWTF_WORKER_RUNTIME_BELL_H
#define GWTF_WORKER_RUNTIME_BELL_H

#include "share/base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* Rung by any thread, waited for by one. A ring that comes before the wait ends the wait at once.
 */
typedef struct gwtf_bell gwtf_bell;

enum gwtf_wake {
    GWTF_WAKE_TIME, /* nothing happened */
    GWTF_WAKE_RUNG,
    GWTF_WAKE_SOCKET /* only with listening */
};

/* Errors: GWTF_ERROR_MEMORY, also when the system gives no more descriptors; BELL untouched. */
gwtf_status gwtf_bell_create(gwtf_bell **bell);
void gwtf_bell_destroy(gwtf_bell *bell); /* NULL is allowed */
void gwtf_bell_ring(gwtf_bell *bell);

/* Finds the sets of descriptors (epoll) that this process has now: what happens in them ends a
 * gwtf_bell_listen. MPI's are there once it is initialised. False when there is none. */
bool gwtf_bell_find_sets(gwtf_bell *bell);

/* Waits for a ring, at most TIMEOUT_US microseconds. True when it rang. */
bool gwtf_bell_wait(gwtf_bell *bell, int64_t timeout_us);

/* Waits for a ring or for something in the sets; a ring goes first. What is in the sets stays there
 * until somebody takes it out, and ends every later gwtf_bell_listen too. */
enum gwtf_wake gwtf_bell_listen(gwtf_bell *bell, int64_t timeout_us);

#endif
