#include "worker/runtime/moments.h"

#include "share/base/random.h"

#include <math.h>

#define MOMENTS_KEY 0x6d6f6d656e74u

double gwtf_moment_pause_us(double every, bool random, uint64_t seed, uint64_t place,
                            uint64_t number) {
    if (!random)
        return every * 1e6;
    uint64_t key = gwtf_random_key(gwtf_random_key(seed, MOMENTS_KEY), place);
    double share = gwtf_random_unit_at(key, number);
    return -log(1 - share) * every * 1e6;
}
