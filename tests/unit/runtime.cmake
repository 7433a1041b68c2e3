gwtf_test(runtime SOURCES test_runtime.c USES gwtf_runtime_core LABELS unit)
gwtf_test(threads SOURCES test_threads.c USES gwtf_runtime_core LABELS unit threads)
