/* What this machine can do at best: the matrix product of the library behind the fast backend. */
#ifndef GWTF_MODEL_PEAK_H
#define GWTF_MODEL_PEAK_H

#include "model/model.h"

/*
 * Operations per second of the fastest of ROUNDS large square products with operands of PRECISION
 * on THREADS threads, by the clock or by the PROCESSOR_TIME of all threads together; 0 where the
 * library is not in this build or cannot do it on this processor.
 */
double gwtf_peak_of_library(enum gwtf_precision precision, uint32_t threads, uint32_t rounds,
                            bool processor_time);

#endif
