/* When faults happen again: the same for all nodes, without a word between them. Pure. */
#ifndef GWTF_WORKER_RUNTIME_MOMENTS_H
#define GWTF_WORKER_RUNTIME_MOMENTS_H

#include <stdbool.h>
#include <stdint.h>

/* Microseconds from time NUMBER, 0 being the start, to the next of entry PLACE of its list: EVERY
 * seconds; RANDOM: drawn from SEED, that on average (a Poisson process). */
double gwtf_moment_pause_us(double every, bool random, uint64_t seed, uint64_t place,
                            uint64_t number);

#endif
