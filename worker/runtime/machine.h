/* What this machine offers a worker. */
#ifndef GWTF_WORKER_RUNTIME_MACHINE_H
#define GWTF_WORKER_RUNTIME_MACHINE_H

#include <stdint.h>

/* Bytes that programs can still take without swapping, within the control group's limit. */
uint64_t gwtf_machine_free_bytes(void);

/* Cores that this process may run on, at least 1. */
uint32_t gwtf_machine_cores(void);

#endif
