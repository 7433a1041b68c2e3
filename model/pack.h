/*
 * Boundary tensors in fewer bytes, for the way over the network.
 *
 * BFLOAT16 rounds each number to the nearest of 8 bits' precision, ties to even. INT8 takes blocks
 * of GWTF_PACK_BLOCK numbers: the largest of a block, in absolute value, is 127 steps, and each
 * number the nearest whole step (Dettmers et al., arXiv 2110.02861, with even steps). A block with
 * a number that is not finite comes back as NaN, so that a run that diverges is seen to.
 */
#ifndef GWTF_MODEL_PACK_H
#define GWTF_MODEL_PACK_H

#include <stdint.h>

#define GWTF_PACK_BLOCK 64

enum gwtf_packing { GWTF_PACKING_NONE, GWTF_PACKING_BFLOAT16, GWTF_PACKING_INT8 };

/* Bytes that COUNT numbers take; a multiple of 4. */
uint64_t gwtf_packed_bytes(enum gwtf_packing packing, uint64_t count);

/* From VALUES [COUNT] to PACKED, and back; the two do not overlap. */
void gwtf_pack(enum gwtf_packing packing, const float *values, uint64_t count, void *packed);
void gwtf_unpack(enum gwtf_packing packing, const void *packed, uint64_t count, float *values);

#endif
