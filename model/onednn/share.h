/* How work is shared out to threads. Private to model/onednn. */
#ifndef GWTF_MODEL_ONEDNN_SHARE_H
#define GWTF_MODEL_ONEDNN_SHARE_H

#include <stddef.h>

struct gwtf_share {
    size_t first, count;
};

/* The share of THREAD in WHOLE: the same for the same number of threads, so that results repeat. */
static inline struct gwtf_share gwtf_share_of(size_t whole, int thread, int threads) {
    size_t each = whole / (size_t)threads, extra = whole % (size_t)threads, t = (size_t)thread;
    size_t first = t * each + (t < extra ? t : extra);
    return (struct gwtf_share){.first = first, .count = each + (t < extra)};
}

#endif
