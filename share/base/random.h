/*
 * Random numbers. Two kinds, both the same on every machine:
 * - a generator with state (xoshiro256**, Blackman and Vigna 2018), for decisions that are taken
 * one after the other;
 * - numbers addressed by a key and a counter (SplitMix64 finaliser, Steele, Lea and Flood 2014),
 * for data order and initial weights, which every node must be able to compute without having
 * computed what comes before.
 */
#ifndef GWTF_SHARE_BASE_RANDOM_H
#define GWTF_SHARE_BASE_RANDOM_H

#include <stdint.h>

struct gwtf_random {
    uint64_t state[4];
};

/* Any seed is good, 0 too. */
void gwtf_random_init(struct gwtf_random *random, uint64_t seed);

/* 64 uniform bits. */
uint64_t gwtf_random_next(struct gwtf_random *random);

/* Uniform in 0..bound-1 without bias. BOUND must not be 0. */
uint64_t gwtf_random_below(struct gwtf_random *random, uint64_t bound);

/* Uniform in [0, 1), 53 bits. */
double gwtf_random_unit(struct gwtf_random *random);

/* 64 uniform bits that depend on KEY and COUNTER alone. */
uint64_t gwtf_random_at(uint64_t key, uint64_t counter);

/* A new key from a key and a label: keys of different labels give unrelated numbers. */
uint64_t gwtf_random_key(uint64_t key, uint64_t label);

/* Uniform in [0, 1) from KEY and COUNTER alone. */
double gwtf_random_unit_at(uint64_t key, uint64_t counter);

/* Standard normal (Box and Muller 1958) from KEY and COUNTER alone. */
double gwtf_random_normal_at(uint64_t key, uint64_t counter);

#endif
