/*
 * Who has been silent for too long. A stopped process or a cut link is noticed by no MPI, so every
 * worker sends a frame now and then and listens for the others'. Pure: time comes with each call.
 *
 * How long is too long follows what was measured of each peer: silent for four times its longest
 * pause (which is forgotten over minutes), and never for less than silence_least_us and ten round
 * trips, so that neither a busy machine nor a link that gets slower passes for a death. A peer that
 * has just been heard for the first time gets silence_most_us.
 */
#ifndef GWTF_WORKER_RUNTIME_HEARTBEAT_H
#define GWTF_WORKER_RUNTIME_HEARTBEAT_H

#include "share/base/status.h"
#include "share/base/types.h"

#include <stdbool.h>
#include <stddef.h>

struct gwtf_heartbeat_config {
    size_t peers;             /* peers are 0..peers-1 */
    int64_t interval_us;      /* between two frames to a peer */
    int64_t silence_least_us; /* heard before, then silent: not down before */
    int64_t silence_most_us;  /* and down after so long, whatever was measured */
    int64_t first_silence_us; /* never heard since the start: down after so long */
};

typedef struct gwtf_heartbeat gwtf_heartbeat;

gwtf_status gwtf_heartbeat_create(const struct gwtf_heartbeat_config *config, gwtf_time_us now_us,
                                  gwtf_heartbeat **heartbeat);
void gwtf_heartbeat_destroy(gwtf_heartbeat *heartbeat);

/* A frame of any kind came from PEER. */
void gwtf_heartbeat_heard(gwtf_heartbeat *heartbeat, size_t peer, gwtf_time_us now_us);

/* A frame to PEER and its answer took so long on the way. */
void gwtf_heartbeat_round_trip(gwtf_heartbeat *heartbeat, size_t peer, int64_t round_trip_us);

/* PEER is no longer watched: this node itself, or one that is down or has left. */
void gwtf_heartbeat_forget(gwtf_heartbeat *heartbeat, size_t peer);

/* PEER is watched anew, from now on, as one that has not been heard yet. */
void gwtf_heartbeat_watch(gwtf_heartbeat *heartbeat, size_t peer, gwtf_time_us now_us);

/* True once an interval: it is time to send a frame to every watched peer. */
bool gwtf_heartbeat_due(gwtf_heartbeat *heartbeat, gwtf_time_us now_us);

bool gwtf_heartbeat_watches(const gwtf_heartbeat *heartbeat, size_t peer);

/* For how long PEER may be silent, as things are. */
int64_t gwtf_heartbeat_limit_us(const gwtf_heartbeat *heartbeat, size_t peer);

/*
 * The next peer that has become silent, and forgets it; false when there is none. Call it often:
 * when more than two intervals have passed since the last call, it was this node that stood still,
 * and the time in between does not count against the peers.
 */
bool gwtf_heartbeat_next_silent(gwtf_heartbeat *heartbeat, gwtf_time_us now_us, size_t *peer);

#endif
