/*
 * A CUnit suite whose exit code can be trusted. CUnit counts no failure when a set-up fails, and an
 * unregistered test is silent; so the runner also holds the number of tests that ran against the
 * number in the table.
 */
#ifndef GWTF_TESTS_SUPPORT_SUITE_H
#define GWTF_TESTS_SUPPORT_SUITE_H

#include <CUnit/CUnit.h>
#include <stddef.h>

struct gwtf_test {
    const char *sentence; /* what the test shows, as a sentence with underscores */
    void (*run)(void);
};

#define GWTF_TEST(name)                                                                            \
    { #name, name }

/*
 * Runs all tests, or those whose sentence contains argv[1]; prints CUnit's report. Returns main's
 * exit code: 0 only when every test of the table ran and none failed. SETUP and TEARDOWN run once
 * around the suite and may be NULL.
 */
int gwtf_suite_main(int argc, char **argv, const char *name, const struct gwtf_test *tests,
                    size_t tests_count, int (*setup)(void), int (*teardown)(void));

#endif
