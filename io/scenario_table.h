/* The table of a scenario's keys, private to io. */
#ifndef GWTF_IO_SCENARIO_TABLE_H
#define GWTF_IO_SCENARIO_TABLE_H

#include "io/config_table.h"
#include "io/scenario.h"

extern const struct gwtf_config_schema gwtf_scenario_schema;

/* Loads the topology and checks all that no key alone can be wrong about. */
gwtf_status gwtf_scenario_check(struct gwtf_config_reader *reader);

#endif
