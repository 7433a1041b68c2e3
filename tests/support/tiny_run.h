/*
 * A tiny run in a temporary directory: text, token files, configuration, so that tests of the
 * runtime can train in milliseconds.
 */
#ifndef GWTF_TESTS_SUPPORT_TINY_RUN_H
#define GWTF_TESTS_SUPPORT_TINY_RUN_H

#include "io/config.h"
#include "worker/runtime/setup.h"

struct gwtf_tiny_run {
    char directory[512]; /* everything is under it */
    struct gwtf_config config;
};

/*
 * Makes the directory and the data and loads the configuration: 4 layers of width 16 in 2 stages,
 * context 8, microbatches of 2, 4 an iteration, one data node, four relays, 6 iterations. OVERRIDES
 * as for gwtf_config_load. Asserts that all goes well.
 */
void gwtf_tiny_run_init(struct gwtf_tiny_run *run, const char *const *overrides,
                        size_t overrides_count);

/* Removes the directory. */
void gwtf_tiny_run_deinit(struct gwtf_tiny_run *run);

#endif
