#include "worker/runtime/frame.h"

#include "share/base/assert.h"
#include "share/base/hash.h"

/* "gwtf" and a version that changes with the layout. */
#define MAGIC (0x67777466u + 1u + (uint32_t)sizeof(struct gwtf_frame))

static uint64_t hash_of(const struct gwtf_frame *frame) {
    return gwtf_hash(frame, offsetof(struct gwtf_frame, hash));
}

void gwtf_frame_seal(struct gwtf_frame *frame) {
    frame->magic = MAGIC;
    frame->hash = hash_of(frame);
}

gwtf_status gwtf_frame_check(const struct gwtf_frame *frame, uint32_t incarnation,
                             uint64_t sequence) {
    bool good = frame->magic == MAGIC && frame->hash == hash_of(frame) &&
                frame->incarnation == incarnation && frame->sequence == sequence;
    return good ? GWTF_OK : GWTF_ERROR_CORRUPT;
}

uint32_t gwtf_piece_count(uint64_t size_bytes) {
    return (uint32_t)((size_bytes + GWTF_PIECE_BYTES - 1) / GWTF_PIECE_BYTES);
}

void gwtf_piece_range(uint64_t size_bytes, uint32_t piece, uint64_t *offset_bytes,
                      uint32_t *piece_bytes) {
    GWTF_ASSERT(piece < gwtf_piece_count(size_bytes));
    uint64_t offset = (uint64_t)piece * GWTF_PIECE_BYTES, left = size_bytes - offset;
    *offset_bytes = offset;
    *piece_bytes = left < GWTF_PIECE_BYTES ? (uint32_t)left : GWTF_PIECE_BYTES;
}
