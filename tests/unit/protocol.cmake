gwtf_test(protocol SOURCES test_protocol.c protocol_node.c USES gwtf_protocol LABELS unit)
gwtf_test(protocol_stage SOURCES test_protocol_stage.c protocol_node.c USES gwtf_protocol LABELS unit)
gwtf_test(protocol_check SOURCES test_protocol_check.c protocol_node.c USES gwtf_protocol LABELS unit)
gwtf_test(protocol_links SOURCES test_protocol_links.c protocol_node.c USES gwtf_protocol LABELS unit)
