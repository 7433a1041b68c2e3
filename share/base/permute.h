/*
 * A shuffled order of 0..size-1 that needs no memory: the place of each index is computed. A
 * Feistel network (Luby and Rackoff 1988) over the smallest even number of bits that hold SIZE,
 * walked on while it is outside (Black and Rogaway 2002).
 */
#ifndef GWTF_SHARE_BASE_PERMUTE_H
#define GWTF_SHARE_BASE_PERMUTE_H

#include <stdint.h>

/* Where KEY puts INDEX, below SIZE; SIZE is at most 2^62. Each of 0..SIZE-1 comes of one INDEX. */
uint64_t gwtf_permute(uint64_t key, uint64_t size, uint64_t index);

#endif
