/* The best choice of several candidates and their stages, proven by branch and bound. */
#ifndef GWTF_TESTS_BENCH_JOIN_BEST_H
#define GWTF_TESTS_BENCH_JOIN_BEST_H

#include "tests/support/join_run.h"

#define BENCH_JOINERS_MAX 5u

struct bench_join_best {
    double per_microbatch;
    struct gwtf_arrival arrivals[BENCH_JOINERS_MAX];
};

/*
 * Of all choices of COUNT candidates (BENCH_JOINERS_MAX at most) the one whose exact flows cost
 * least per microbatch. BEST says a choice to begin with; the better it is, the sooner it ends.
 * The program ends when there is no memory.
 */
void bench_join_find_best(const struct join_run *run, uint32_t count, struct bench_join_best *best);

#endif
