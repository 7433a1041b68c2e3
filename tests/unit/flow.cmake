# The same stories for both policies.
gwtf_test(flow SOURCES test_flow.c flow_cluster.c USES gwtf_flow LABELS unit TIMEOUT 300)
gwtf_test(flow_paper SOURCES test_flow.c flow_cluster.c USES gwtf_flow LABELS unit TIMEOUT 300)
target_compile_definitions(test_flow_paper PRIVATE CLUSTER_POLICY=GWTF_FLOW_POLICY_GWTF_PAPER)
gwtf_test(flow_paper_max SOURCES test_flow.c flow_cluster.c USES gwtf_flow LABELS unit TIMEOUT 300)
target_compile_definitions(test_flow_paper_max PRIVATE CLUSTER_POLICY=GWTF_FLOW_POLICY_GWTF_PAPER CLUSTER_OBJECTIVE=GWTF_FLOW_OBJECTIVE_MAX)
gwtf_test(flow_optimum SOURCES test_flow_optimum.c flow_cluster.c USES gwtf_flow PkgConfig::LIBCONFIG LABELS unit TIMEOUT 300)
gwtf_test(flow_moves SOURCES test_flow_moves.c flow_cluster.c USES gwtf_flow m LABELS unit TIMEOUT 300)
target_compile_definitions(test_flow_moves PRIVATE CLUSTER_POLICY=GWTF_FLOW_POLICY_GWTF_PAPER)
