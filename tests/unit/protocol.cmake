gwtf_test(protocol SOURCES test_protocol.c protocol_node.c USES gwtf_protocol LABELS unit)
