/* The worker's clocks. Pure code gets its time with each event instead. */
#ifndef GWTF_WORKER_RUNTIME_CLOCK_H
#define GWTF_WORKER_RUNTIME_CLOCK_H

#include "share/base/types.h"

/* Monotonic microseconds since some moment of this machine. */
gwtf_time_us gwtf_clock_now_us(void);

#endif
