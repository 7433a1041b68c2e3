gwtf_test(flow SOURCES test_flow.c flow_cluster.c USES gwtf_flow LABELS unit)
