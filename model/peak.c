#include "model/peak.h"

#ifndef GWTF_HAVE_ONEDNN
double gwtf_peak_of_library(enum gwtf_precision precision, uint32_t threads, uint32_t rounds,
                            bool processor_time) {
    (void)processor_time;
    (void)precision;
    (void)threads;
    (void)rounds;
    return 0;
}
#endif
