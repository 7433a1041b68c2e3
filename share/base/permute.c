#include "share/base/permute.h"

#include "share/base/assert.h"
#include "share/base/random.h"

/* Four make a permutation that cannot be told from a random one; two more for halves of few bits.
 */
#define ROUNDS 6

static uint64_t pass(uint64_t key, unsigned half_bits, uint64_t value) {
    uint64_t mask = ((uint64_t)1 << half_bits) - 1, left = value >> half_bits, right = value & mask;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        uint64_t mixed = left ^ (gwtf_random_at(gwtf_random_key(key, round), right) & mask);
        left = right;
        right = mixed;
    }
    return left << half_bits | right;
}

uint64_t gwtf_permute(uint64_t key, uint64_t size, uint64_t index) {
    GWTF_ASSERT(index < size && size <= (uint64_t)1 << 62);
    unsigned half_bits = 2;
    while (half_bits < 31 && (uint64_t)1 << 2 * half_bits < size)
        half_bits++;
    do
        index = pass(key, half_bits, index);
    while (index >= size);
    return index;
}
