gwtf_test(config SOURCES test_config.c USES gwtf_io LABELS unit)
gwtf_test(tokens SOURCES test_tokens.c USES gwtf_io LABELS unit)
gwtf_test(run SOURCES test_run.c USES gwtf_io LABELS unit)
gwtf_test(snapshot SOURCES test_snapshot.c USES gwtf_io LABELS unit)
