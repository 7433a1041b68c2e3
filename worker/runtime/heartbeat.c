#include "worker/runtime/heartbeat.h"

#include "share/base/assert.h"

#include <stdlib.h>

/* A peer's pauses are known after so long. */
#define LEARNED_US 5000000
/* A longest pause is forgotten over this time. */
#define FORGOTTEN_US 120000000
#define PAUSES 4       /* longest ones, that a peer may be silent */
#define ROUND_TRIPS 10 /* more than the least, the same */

struct peer {
    bool watched;
    bool heard;
    gwtf_time_us since_us;
    gwtf_time_us first_us;
    int64_t longest_us; /* pause */
    int64_t round_trip_us;
};

struct gwtf_heartbeat {
    struct gwtf_heartbeat_config config;
    gwtf_time_us next_us;
    gwtf_time_us looked_us; /* last call of _next_silent */
    struct peer *peers;
};

gwtf_status gwtf_heartbeat_create(const struct gwtf_heartbeat_config *config, gwtf_time_us now_us,
                                  gwtf_heartbeat **heartbeat) {
    struct gwtf_heartbeat *made = calloc(1, sizeof *made);
    if (made == NULL)
        return GWTF_ERROR_MEMORY;
    made->peers = calloc(config->peers, sizeof *made->peers);
    if (made->peers == NULL) {
        free(made);
        return GWTF_ERROR_MEMORY;
    }
    made->config = *config;
    made->next_us = now_us;
    made->looked_us = now_us;
    for (size_t i = 0; i < config->peers; i++)
        made->peers[i] = (struct peer){.watched = true, .since_us = now_us};
    *heartbeat = made;
    return GWTF_OK;
}

void gwtf_heartbeat_destroy(gwtf_heartbeat *heartbeat) {
    if (heartbeat == NULL)
        return;
    free(heartbeat->peers);
    free(heartbeat);
}

void gwtf_heartbeat_heard(gwtf_heartbeat *heartbeat, size_t peer, gwtf_time_us now_us) {
    GWTF_ASSERT(peer < heartbeat->config.peers);
    struct peer *at = &heartbeat->peers[peer];
    if (!at->heard)
        at->first_us = now_us;
    /* A pause in which this node stood still says nothing of the peer. */
    bool stood_still = now_us - heartbeat->looked_us > 2 * heartbeat->config.interval_us;
    int64_t pause_us = now_us - at->since_us;
    if (at->heard && !stood_still && pause_us > 0) {
        at->longest_us -=
            (int64_t)((double)at->longest_us * (double)pause_us / (double)FORGOTTEN_US);
        if (pause_us > at->longest_us)
            at->longest_us = pause_us;
    }
    at->heard = true;
    at->since_us = now_us;
}

void gwtf_heartbeat_round_trip(gwtf_heartbeat *heartbeat, size_t peer, int64_t round_trip_us) {
    GWTF_ASSERT(peer < heartbeat->config.peers && round_trip_us >= 0);
    struct peer *at = &heartbeat->peers[peer];
    /* Answers that have waited for this node to look only look slow. */
    if (at->round_trip_us == 0 || round_trip_us < at->round_trip_us)
        at->round_trip_us = round_trip_us;
    else
        at->round_trip_us += (round_trip_us - at->round_trip_us) / 8;
}

int64_t gwtf_heartbeat_limit_us(const gwtf_heartbeat *heartbeat, size_t peer) {
    GWTF_ASSERT(peer < heartbeat->config.peers);
    const struct gwtf_heartbeat_config *config = &heartbeat->config;
    const struct peer *at = &heartbeat->peers[peer];
    if (!at->heard)
        return config->first_silence_us;
    if (at->since_us - at->first_us < LEARNED_US)
        return config->silence_most_us;
    int64_t limit_us = config->silence_least_us + ROUND_TRIPS * at->round_trip_us;
    if (limit_us < PAUSES * at->longest_us)
        limit_us = PAUSES * at->longest_us;
    return limit_us < config->silence_most_us ? limit_us : config->silence_most_us;
}

void gwtf_heartbeat_forget(gwtf_heartbeat *heartbeat, size_t peer) {
    GWTF_ASSERT(peer < heartbeat->config.peers);
    heartbeat->peers[peer].watched = false;
}

void gwtf_heartbeat_watch(gwtf_heartbeat *heartbeat, size_t peer, gwtf_time_us now_us) {
    GWTF_ASSERT(peer < heartbeat->config.peers);
    heartbeat->peers[peer] = (struct peer){.watched = true, .since_us = now_us};
}

bool gwtf_heartbeat_due(gwtf_heartbeat *heartbeat, gwtf_time_us now_us) {
    if (now_us < heartbeat->next_us)
        return false;
    heartbeat->next_us = now_us + heartbeat->config.interval_us;
    return true;
}

bool gwtf_heartbeat_watches(const gwtf_heartbeat *heartbeat, size_t peer) {
    GWTF_ASSERT(peer < heartbeat->config.peers);
    return heartbeat->peers[peer].watched;
}

bool gwtf_heartbeat_next_silent(gwtf_heartbeat *heartbeat, gwtf_time_us now_us, size_t *peer) {
    int64_t gap_us = now_us - heartbeat->looked_us;
    heartbeat->looked_us = now_us;
    if (gap_us > 2 * heartbeat->config.interval_us)
        for (size_t i = 0; i < heartbeat->config.peers; i++) {
            /* One that was heard behind the gap has lost nothing by it. */
            gwtf_time_us since_us = heartbeat->peers[i].since_us + gap_us;
            heartbeat->peers[i].since_us = since_us < now_us ? since_us : now_us;
        }
    for (size_t i = 0; i < heartbeat->config.peers; i++) {
        struct peer *at = &heartbeat->peers[i];
        if (at->watched && now_us - at->since_us > gwtf_heartbeat_limit_us(heartbeat, i)) {
            at->watched = false;
            *peer = i;
            return true;
        }
    }
    return false;
}
