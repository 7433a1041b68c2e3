/* What this machine offers a worker, also when a batch system has given it a part of the machine
 * only. */
#ifndef GWTF_WORKER_RUNTIME_MACHINE_H
#define GWTF_WORKER_RUNTIME_MACHINE_H

#include <stddef.h>
#include <stdint.h>

/* What this machine is called: by Slurm inside a job, else by itself. */
void gwtf_machine_name(char *name, size_t name_bytes);

/* Bytes that this process can still take without swapping, within the limits of its control group
 * and of those around it, and of its job's memory on this machine. */
uint64_t gwtf_machine_free_bytes(void);

/* Bytes of its own that this process has mapped to write to, whether it has touched them or not:
 * what RLIMIT_DATA counts. 0 when the system does not tell. */
uint64_t gwtf_machine_data_bytes(void);

/* Bytes of memory that this process has at this moment, and the most that it ever had. 0 when the
 * system does not tell. */
uint64_t gwtf_machine_resident_bytes(void);
uint64_t gwtf_machine_resident_peak_bytes(void);

/* Bytes left in the control group ROOT + GROUP and in all from there up to ROOT, the least of them;
 * UINT64_MAX when none has a limit. Version 2 of control groups only. */
uint64_t gwtf_machine_group_bytes(const char *root, const char *group);

/* Cores that this process may run on, and of its job at most those that it has here; at least 1. */
uint32_t gwtf_machine_cores(void);

#endif
