/*
 * What a batch system has given a run: RUN/allocation.json. Written by whoever starts the run
 * inside a job, read by the bootstrap, which places the nodes on its hosts, and by those who show
 * what a run does. A run outside of jobs has none.
 */
#ifndef GWTF_IO_ALLOCATION_H
#define GWTF_IO_ALLOCATION_H

#include "share/base/status.h"

#include <stddef.h>
#include <stdint.h>

#define GWTF_ALLOCATION_COMPONENTS_MAX 16
#define GWTF_ALLOCATION_HOSTS_MAX 4096

/* A job, or a part of a heterogeneous one. */
struct gwtf_allocation_component {
    char job[32]; /* its own number */
    char partition[128];
    char nodes[1024]; /* for people: "uni[1-4]" */
};

struct gwtf_allocation_host {
    char name[256];
    uint32_t slots; /* processors there that belong to the job, at least 1 */
    uint32_t component;
};

struct gwtf_allocation {
    char job[32]; /* "" when there is none */
    struct gwtf_allocation_component components[GWTF_ALLOCATION_COMPONENTS_MAX];
    uint32_t components_count;
    struct gwtf_allocation_host *hosts; /* by component, in the order of the batch system */
    uint32_t hosts_count;
};

/* Replaces RUN's allocation.json, and RUN/hosts, which says it to mpirun; removes both when
 * ALLOCATION has no job. Errors: GWTF_ERROR_IO, GWTF_ERROR_MEMORY. */
gwtf_status gwtf_allocation_write(const char *run, const struct gwtf_allocation *allocation,
                                  struct gwtf_error *error);

/* Reads it; free with _deinit. No such file is no error: there is no job then. Errors:
 * GWTF_ERROR_CORRUPT, GWTF_ERROR_IO, GWTF_ERROR_MEMORY; ALLOCATION is empty then. */
gwtf_status gwtf_allocation_read(const char *run, struct gwtf_allocation *allocation,
                                 struct gwtf_error *error);
void gwtf_allocation_deinit(struct gwtf_allocation *allocation);

/* Adds a host. Errors: GWTF_ERROR_LIMIT, GWTF_ERROR_MEMORY. */
gwtf_status gwtf_allocation_add(struct gwtf_allocation *allocation, const char *name,
                                uint32_t slots, uint32_t component, struct gwtf_error *error);

/* Of all hosts together. */
uint32_t gwtf_allocation_slots(const struct gwtf_allocation *allocation);

#endif
