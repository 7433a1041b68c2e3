/*
 * What stands on the wire: frames of one size, with the sender's incarnation, a sequence number and
 * a hash, and pieces of tensors, each announced by a frame that carries its hash. Plain bytes
 * between nodes of one build and byte order.
 */
#ifndef GWTF_WORKER_RUNTIME_FRAME_H
#define GWTF_WORKER_RUNTIME_FRAME_H

#include "share/base/status.h"
#include "worker/protocol/message.h"

#include <stdint.h>

/* Bytes of one piece: small enough that a heartbeat behind one is not late, large enough to fill a
 * link. */
#define GWTF_PIECE_BYTES (1u << 20)

enum gwtf_frame_kind {
    GWTF_FRAME_MESSAGE = 1,
    GWTF_FRAME_PIECE,
    GWTF_FRAME_HEARTBEAT,
    GWTF_FRAME_DOOR /* a message beside the channel: no sequence */
};

struct gwtf_frame {
    uint32_t magic;
    uint32_t kind;
    uint32_t incarnation; /* of the sender */
    uint32_t transfer; /* MESSAGE with payload, PIECE: which tensor, counted by the sender for this
                          receiver */
    uint64_t sequence; /* counted by the sender for this receiver, from 1; DOOR: 0 */
    uint64_t piece_hash; /* PIECE: of the bytes that follow */
    uint32_t piece;      /* PIECE: its number in the tensor, from 0 */
    uint32_t piece_bytes;
    /* HEARTBEAT: the sender's clock; the newest of the receiver's that it has heard, 0: none; and
     * how long ago. */
    gwtf_time_us sent_us;
    gwtf_time_us echoed_us;
    int64_t held_us;
    struct gwtf_message message; /* MESSAGE */
    uint64_t hash;               /* of everything before it */
};

/* Fills magic and hash of a frame whose other fields are set. */
void gwtf_frame_seal(struct gwtf_frame *frame);

/* Errors: GWTF_ERROR_CORRUPT when FRAME is not whole, or of another build, incarnation or sequence
 * than expected. */
gwtf_status gwtf_frame_check(const struct gwtf_frame *frame, uint32_t incarnation,
                             uint64_t sequence);

/* Pieces of a tensor, and where piece PIECE lies. */
uint32_t gwtf_piece_count(uint64_t size_bytes);
void gwtf_piece_range(uint64_t size_bytes, uint32_t piece, uint64_t *offset_bytes,
                      uint32_t *piece_bytes);

#endif
