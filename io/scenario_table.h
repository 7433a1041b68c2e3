/* The table of a scenario's keys, and the models known by name; private to io. */
#ifndef GWTF_IO_SCENARIO_TABLE_H
#define GWTF_IO_SCENARIO_TABLE_H

#include "io/config_table.h"
#include "io/scenario.h"

struct gwtf_scenario_model {
    enum gwtf_scenario_family family;
    uint32_t layers;
    uint32_t width;
    uint32_t context;
    uint32_t vocabulary;
    uint32_t ffn_width;
};

/* By enum gwtf_scenario_preset; the first is none. */
extern const struct gwtf_scenario_model gwtf_scenario_presets[];

extern const struct gwtf_config_schema gwtf_scenario_schema;

/* Loads the topology and checks all that no key alone can be wrong about. */
gwtf_status gwtf_scenario_check(struct gwtf_config_reader *reader);

#endif
