#include "tests/support/suite.h"

#include <CUnit/Basic.h>
#include <stdio.h>
#include <string.h>

int gwtf_suite_main(int argc, char **argv, const char *name, const struct gwtf_test *tests,
                    size_t tests_count, int (*setup)(void), int (*teardown)(void)) {
    unsigned expected = 0;
    if (CU_initialize_registry() != CUE_SUCCESS)
        return 1;
    CU_pSuite suite = CU_add_suite(name, setup, teardown);
    for (size_t i = 0; suite != NULL && i < tests_count; i++) {
        if (argc > 1 && strstr(tests[i].sentence, argv[1]) == NULL)
            continue;
        expected++;
        if (CU_add_test(suite, tests[i].sentence, tests[i].run) == NULL)
            suite = NULL;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_ErrorCode ran = suite != NULL ? CU_basic_run_tests() : CUE_NOSUITE;
    int good = ran == CUE_SUCCESS && expected > 0 && CU_get_number_of_tests_run() == expected &&
               CU_get_number_of_failures() == 0 && CU_get_number_of_suites_failed() == 0;
    if (!good)
        fprintf(stderr, "%s: %u of %u tests ran, %u assertions failed\n", name,
                CU_get_number_of_tests_run(), expected, CU_get_number_of_failures());
    CU_cleanup_registry();
    return good ? 0 : 1;
}
