#include "worker/runtime/clock.h"

#include <time.h>

gwtf_time_us gwtf_clock_now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (gwtf_time_us)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
