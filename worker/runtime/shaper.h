/*
 * What a wide area network would do to what a node sends, so that one can be tried on one machine.
 * Each directed link is a line with a rate; what has passed it arrives a latency later. Pure: time
 * comes with each call, and no bytes are held here, only when they may go.
 *
 * A message takes the line for bytes / rate, one after the other. It does not wait for tensors: a
 * piece of one that is on the line is done that much later, as packets of two connections get
 * between each other. Tensors take the line one after the other, in pieces of GWTF_PIECE_BYTES.
 * Messages keep their order, and so do pieces; a tensor's pieces come after every message that was
 * handed over before it. What is lost comes GWTF_SHAPER_RESEND_US later, as TCP would send it
 * again, and what follows waits for it.
 */
#ifndef GWTF_WORKER_RUNTIME_SHAPER_H
#define GWTF_WORKER_RUNTIME_SHAPER_H

#include "share/base/status.h"
#include "share/base/types.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GWTF_SHAPER_RESEND_US 200000

struct gwtf_shaper_link {
    int64_t latency_us;       /* at least 0 */
    int64_t bytes_per_second; /* 0: no limit */
    bool cut;                 /* what is handed over waits until the link is set otherwise */
    double loss;              /* probability that a message or piece is lost and sent again */
};

struct gwtf_shaper_config {
    size_t peers;     /* links are to peers 0..peers-1, without latency or limit at first */
    size_t items_max; /* messages and tensors that wait, and pieces on their way, at one time */
};

enum gwtf_shaper_kind { GWTF_SHAPER_MESSAGE, GWTF_SHAPER_PIECE };

/* What may go out now. */
struct gwtf_shaper_release {
    enum gwtf_shaper_kind kind;
    size_t peer;
    uint64_t ticket; /* of the message, or of the tensor that the piece is the next one of */
};

typedef struct gwtf_shaper gwtf_shaper;

/* Errors: GWTF_ERROR_MEMORY; SHAPER untouched. */
gwtf_status gwtf_shaper_create(const struct gwtf_shaper_config *config, gwtf_shaper **shaper);
void gwtf_shaper_destroy(gwtf_shaper *shaper); /* NULL is allowed */

/* From NOW_US on the link to PEER is LINK. What is on the line goes on at the new rate; what has
 * passed it keeps its latency. */
void gwtf_shaper_set(gwtf_shaper *shaper, size_t peer, const struct gwtf_shaper_link *link,
                     gwtf_time_us now_us);

/* A message, or a tensor of at least one byte, is handed over. Errors: GWTF_ERROR_LIMIT: too many
 * wait; nothing has happened. */
gwtf_status gwtf_shaper_message(gwtf_shaper *shaper, size_t peer, uint64_t bytes, uint64_t ticket,
                                gwtf_time_us now_us);
gwtf_status gwtf_shaper_tensor(gwtf_shaper *shaper, size_t peer, uint64_t bytes, uint64_t ticket,
                               gwtf_time_us now_us);

/* The next message or piece whose time has come; false when there is none. */
bool gwtf_shaper_next(gwtf_shaper *shaper, gwtf_time_us now_us,
                      struct gwtf_shaper_release *release);

/* gwtf_shaper_next has nothing before; GWTF_TIME_NEVER once it has found that nothing waits. */
gwtf_time_us gwtf_shaper_deadline(const gwtf_shaper *shaper);

/* Something to PEER waits or is on its way. */
bool gwtf_shaper_has(const gwtf_shaper *shaper, size_t peer);

/* Drops all that waits for PEER: TICKET by ticket of the messages until there is none left (false);
 * tensors go with the first call. */
bool gwtf_shaper_drop(gwtf_shaper *shaper, size_t peer, uint64_t *ticket);

#endif
