/* Figures of many runs, for their median and worst. */
#ifndef GWTF_TESTS_BENCH_SAMPLES_H
#define GWTF_TESTS_BENCH_SAMPLES_H

#include <stdlib.h>

#define SAMPLES_MAX 4096

struct samples {
    size_t count;
    double values[SAMPLES_MAX];
};

static inline void samples_add(struct samples *samples, double value) {
    if (samples->count < SAMPLES_MAX)
        samples->values[samples->count++] = value;
}

static inline int samples_by_value(const void *a, const void *b) {
    double first = *(const double *)a, second = *(const double *)b;
    return first < second ? -1 : first > second;
}

static inline void samples_sort(struct samples *samples) {
    qsort(samples->values, samples->count, sizeof samples->values[0], samples_by_value);
}

#endif
