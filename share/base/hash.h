/* A fast 64-bit hash (XXH3, libxxhash): of weights, to compare replicas; of pieces of tensors, to
 * find damage. */
#ifndef GWTF_SHARE_BASE_HASH_H
#define GWTF_SHARE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t gwtf_hash(const void *bytes, size_t size_bytes);

/* Same as gwtf_hash for SEED 0; other seeds give unrelated values. */
uint64_t gwtf_hash_seeded(const void *bytes, size_t size_bytes, uint64_t seed);

#endif
