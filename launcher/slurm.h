/* Slurm, as seen from inside a job: what it has given, and asking it to start the job again. */
#ifndef GWTF_LAUNCHER_SLURM_H
#define GWTF_LAUNCHER_SLURM_H

#include "io/allocation.h"

#include <limits.h>
#include <stdbool.h>

/* What the job has that this process runs in: nothing outside of jobs. Free it with
 * gwtf_allocation_deinit. Errors: GWTF_ERROR_USAGE when srun has started this program;
 * GWTF_ERROR_UNSUPPORTED when Slurm's commands are missing; _LIMIT, _MEMORY. */
gwtf_status gwtf_slurm_read(struct gwtf_allocation *allocation, struct gwtf_error *error);

/* The processors in SLURM_JOB_CPUS_PER_NODE of TEXT's form, "16(x2),8", for its INDEX-th node; 1
 * when it does not say. */
uint32_t gwtf_slurm_cpus(const char *text, uint32_t index);

#define GWTF_SLURM_UNLIMITED LONG_MAX
/* A time as Slurm writes it, or takes it: "minutes", "minutes:seconds", "hours:minutes:seconds",
 * and behind "days-": "hours", "hours:minutes", "hours:minutes:seconds"; or "infinite", as is 0.
 * False when TEXT is none. */
bool gwtf_slurm_seconds(const char *text, long *seconds);

/* Asks Slurm to start job JOB again from its beginning. False when the job has been cancelled, or
 * Slurm refuses: WHY says so. */
bool gwtf_slurm_requeue(const char *job, char *why, size_t why_bytes);

#endif
