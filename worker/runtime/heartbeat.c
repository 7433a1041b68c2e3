#include "worker/runtime/heartbeat.h"

#include "share/base/assert.h"

#include <stdlib.h>

struct peer {
    bool watched;
    bool heard;
    gwtf_time_us since_us;
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
    heartbeat->peers[peer].heard = true;
    heartbeat->peers[peer].since_us = now_us;
}

void gwtf_heartbeat_forget(gwtf_heartbeat *heartbeat, size_t peer) {
    GWTF_ASSERT(peer < heartbeat->config.peers);
    heartbeat->peers[peer].watched = false;
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
        int64_t limit_us =
            at->heard ? heartbeat->config.silence_us : heartbeat->config.first_silence_us;
        if (at->watched && now_us - at->since_us > limit_us) {
            at->watched = false;
            *peer = i;
            return true;
        }
    }
    return false;
}
