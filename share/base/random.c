#include "share/base/random.h"

#include "share/base/assert.h"

#include <math.h>

#define GOLDEN_GAMMA 0x9e3779b97f4a7c15u
#define TWO_PI 6.283185307179586476925

static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t rotate_left(uint64_t value, int bits) {
    return (value << bits) | (value >> (64 - bits));
}

static double unit_from_bits(uint64_t bits) {
    return (double)(bits >> 11) * 0x1.0p-53;
}

void gwtf_random_init(struct gwtf_random *random, uint64_t seed) {
    for (int i = 0; i < 4; i++)
        random->state[i] = mix(seed += GOLDEN_GAMMA);
}

uint64_t gwtf_random_next(struct gwtf_random *random) {
    uint64_t *s = random->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t gwtf_random_below(struct gwtf_random *random, uint64_t bound) {
    GWTF_ASSERT(bound != 0);
    uint64_t rejected = (UINT64_MAX - bound + 1) % bound;
    for (;;) {
        uint64_t value = gwtf_random_next(random);
        if (value >= rejected)
            return value % bound;
    }
}

double gwtf_random_unit(struct gwtf_random *random) {
    return unit_from_bits(gwtf_random_next(random));
}

uint64_t gwtf_random_at(uint64_t key, uint64_t counter) {
    return mix(key + (counter + 1) * GOLDEN_GAMMA);
}

uint64_t gwtf_random_key(uint64_t key, uint64_t label) {
    return mix(mix(key ^ 0x5851f42d4c957f2du) + label * GOLDEN_GAMMA);
}

double gwtf_random_unit_at(uint64_t key, uint64_t counter) {
    return unit_from_bits(gwtf_random_at(key, counter));
}

double gwtf_random_normal_at(uint64_t key, uint64_t counter) {
    double radius = 1.0 - gwtf_random_unit_at(key, 2 * counter);
    double angle = gwtf_random_unit_at(key, 2 * counter + 1);
    return sqrt(-2.0 * log(radius)) * cos(TWO_PI * angle);
}
