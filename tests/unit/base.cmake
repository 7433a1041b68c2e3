gwtf_test(base SOURCES test_base.c USES gwtf_base LABELS unit)
