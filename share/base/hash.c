#include "share/base/hash.h"

#include <xxhash.h>

uint64_t gwtf_hash(const void *bytes, size_t size_bytes) {
    return XXH3_64bits(bytes, size_bytes);
}

uint64_t gwtf_hash_seeded(const void *bytes, size_t size_bytes, uint64_t seed) {
    return XXH3_64bits_withSeed(bytes, size_bytes, seed);
}
