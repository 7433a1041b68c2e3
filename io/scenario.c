#include "io/scenario.h"

#include "io/config_reader.h"
#include "io/model_preset.h"
#include "io/scenario_table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX_BYTES ((size_t)16 << 20)

uint32_t gwtf_scenario_count(const struct gwtf_scenario *scenario, enum gwtf_config_role role) {
    uint32_t count = 0;
    for (size_t i = 0; i < scenario->nodes_count; i++)
        if (scenario->nodes[i].role == role && scenario->nodes[i].joins == 0)
            count += scenario->nodes[i].count;
    return count;
}

static uint32_t smallest(const uint32_t *sizes, uint32_t stages) {
    uint32_t found = 1;
    for (uint32_t stage = 2; stage <= stages; stage++)
        if (sizes[stage] < sizes[found])
            found = stage;
    return found;
}

void gwtf_scenario_place(const struct gwtf_scenario *scenario, struct gwtf_scenario_place *places) {
    uint32_t sizes[256] = {0}, data = 0;
    uint32_t relay = gwtf_scenario_count(scenario, GWTF_CONFIG_ROLE_DATA);
    for (size_t i = 0; i < scenario->nodes_count; i++)
        if (scenario->nodes[i].role == GWTF_CONFIG_ROLE_RELAY && scenario->nodes[i].stage > 0 &&
            scenario->nodes[i].joins == 0)
            sizes[scenario->nodes[i].stage] += scenario->nodes[i].count;
    for (size_t i = 0; i < scenario->nodes_count; i++) {
        const struct gwtf_scenario_nodes *entry = &scenario->nodes[i];
        for (uint32_t k = 0; k < entry->count && entry->joins == 0; k++) {
            bool is_data = entry->role == GWTF_CONFIG_ROLE_DATA;
            uint32_t stage = entry->stage;
            if (!is_data && stage == 0) {
                stage = smallest(sizes, scenario->pipeline.stages);
                sizes[stage]++;
            }
            places[is_data ? data++ : relay++] =
                (struct gwtf_scenario_place){.entry = (uint32_t)i, .stage = stage};
        }
    }
}

/* What the preset says, where the keys do not. */
static gwtf_status complete_model(struct gwtf_config_reader *reader) {
    struct gwtf_scenario *scenario = reader->base;
    const struct gwtf_model_preset *preset = &gwtf_model_presets[scenario->model.preset];
    const struct {
        const char *name;
        uint32_t *value;
        uint32_t preset;
    } sizes[] = {{"layers", &scenario->model.layers, preset->layers},
                 {"width", &scenario->model.width, preset->width},
                 {"context", &scenario->model.context, preset->context},
                 {"vocabulary", &scenario->model.vocabulary, preset->vocabulary}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (gwtf_config_is_given(reader, "model", sizes[i].name))
            continue;
        if (scenario->model.preset == GWTF_CONFIG_PRESET_NONE)
            return gwtf_config_complain(reader, gwtf_config_section_origin(reader, "model"),
                                        "model.%s is missing: give it, or a model.preset like "
                                        "\"gpt2-124m\"",
                                        sizes[i].name);
        *sizes[i].value = sizes[i].preset;
    }
    if (!gwtf_config_is_given(reader, "model", "family"))
        scenario->model.family = preset->family;
    bool is_llama = scenario->model.family == GWTF_CONFIG_FAMILY_LLAMA;
    if (!gwtf_config_is_given(reader, "model", "ffn_width"))
        scenario->model.ffn_width = scenario->model.width == preset->width && is_llama
                                        ? preset->hidden
                                        : (scenario->model.width * 8 + 191) / 192 * 64;
    else if (!is_llama)
        return gwtf_config_complain(reader, gwtf_config_origin_of(reader, "model", "ffn_width"),
                                    "model.ffn_width is given, but gpt2's is 4 times its width: "
                                    "remove it, or make model.family \"llama\"");
    if (!gwtf_config_is_given(reader, "model", "tied_head"))
        scenario->model.tied_head = !is_llama;
    if (scenario->pipeline.stages > scenario->model.layers)
        return gwtf_config_complain(reader, gwtf_config_origin_of(reader, "pipeline", "stages"),
                                    "pipeline.stages is %" PRIu32 ", more than the %" PRIu32
                                    " of model.layers: give at most %" PRIu32,
                                    scenario->pipeline.stages, scenario->model.layers,
                                    scenario->model.layers);
    return GWTF_OK;
}

/* The path of the topology: relative ones start at the folder of the scenario. */
static void topology_path(const struct gwtf_config_reader *reader, char *path, size_t size) {
    const struct gwtf_scenario *scenario = reader->base;
    const char *slash = strrchr(reader->name, '/');
    if (scenario->network.topology[0] == '/' || slash == NULL)
        snprintf(path, size, "%s", scenario->network.topology);
    else
        snprintf(path, size, "%.*s/%s", (int)(slash - reader->name), reader->name,
                 scenario->network.topology);
}

static gwtf_status load_topology(struct gwtf_config_reader *reader) {
    struct gwtf_scenario *scenario = reader->base;
    char path[2 * GWTF_CONFIG_PATH_MAX];
    struct gwtf_error error;
    topology_path(reader, path, sizeof path);
    gwtf_status status = gwtf_topology_load(path, &scenario->topology, &error);
    if (status == GWTF_ERROR_USAGE)
        return gwtf_config_complain(reader, gwtf_config_origin_of(reader, "network", "topology"),
                                    "network.topology: %.900s", error.text);
    return status;
}

static gwtf_status check_entry(struct gwtf_config_reader *reader, size_t i) {
    struct gwtf_scenario *scenario = reader->base;
    struct gwtf_scenario_nodes *entry = &scenario->nodes[i];
    struct gwtf_error error;
    if (gwtf_topology_find(scenario->topology, entry->region, &entry->region_index, &error) !=
        GWTF_OK)
        return gwtf_config_complain(reader, gwtf_config_entry_origin(reader, "nodes", i, "region"),
                                    "nodes.%zu.region: %s", i, error.text);
    if (entry->role == GWTF_CONFIG_ROLE_DATA && entry->stage != 0)
        return gwtf_config_complain(reader, gwtf_config_entry_origin(reader, "nodes", i, "stage"),
                                    "nodes.%zu.stage is %" PRIu32 ", but data nodes have no "
                                    "stage: remove it, or make the role \"relay\"",
                                    i, entry->stage);
    if (entry->role == GWTF_CONFIG_ROLE_DATA && (entry->joins != 0 || entry->leaves != 0))
        return gwtf_config_complain(reader, gwtf_config_entry_origin(reader, "nodes", i, "role"),
                                    "nodes.%zu is a data node that joins or leaves, which is not "
                                    "simulated: make it a relay",
                                    i);
    if (entry->leaves != 0 && entry->leaves <= entry->joins)
        return gwtf_config_complain(reader, gwtf_config_entry_origin(reader, "nodes", i, "leaves"),
                                    "nodes.%zu.leaves is %" PRIu32 ", but the nodes join in "
                                    "iteration %" PRIu32 ": give a later one, or 0",
                                    i, entry->leaves, entry->joins);
    if (entry->stage > scenario->pipeline.stages)
        return gwtf_config_complain(reader, gwtf_config_entry_origin(reader, "nodes", i, "stage"),
                                    "nodes.%zu.stage is %" PRIu32 ", but pipeline.stages is "
                                    "%" PRIu32 ": give 1 to %" PRIu32 ", or 0 to spread the nodes",
                                    i, entry->stage, scenario->pipeline.stages,
                                    scenario->pipeline.stages);
    if (entry->capacity == 0 && entry->memory_gb <= 0)
        return gwtf_config_complain(
            reader, gwtf_config_entry_origin(reader, "nodes", i, "capacity"),
            "nodes.%zu has neither capacity nor memory_gb: give one of them", i);
    return GWTF_OK;
}

static gwtf_status check_stages(struct gwtf_config_reader *reader) {
    const struct gwtf_scenario *scenario = reader->base;
    const struct gwtf_config_origin *list = gwtf_config_section_origin(reader, "nodes");
    uint32_t data_nodes = gwtf_scenario_count(scenario, GWTF_CONFIG_ROLE_DATA);
    uint32_t relays = gwtf_scenario_count(scenario, GWTF_CONFIG_ROLE_RELAY);
    if (data_nodes == 0)
        return gwtf_config_complain(reader, list,
                                    "there is no data node: add { role = \"data\"; ... } to nodes");
    struct gwtf_scenario_place *places = calloc((size_t)data_nodes + relays, sizeof *places);
    if (places == NULL)
        return gwtf_error_set(reader->error, GWTF_ERROR_MEMORY, "no memory: free some");
    gwtf_scenario_place(scenario, places);
    uint32_t sizes[256] = {0}, empty = 0;
    for (uint32_t i = 0; i < data_nodes + relays; i++)
        sizes[places[i].stage]++;
    for (uint32_t stage = scenario->pipeline.stages; stage >= 1; stage--)
        if (sizes[stage] == 0)
            empty = stage;
    free(places);
    if (empty > 0)
        return gwtf_config_complain(reader, list,
                                    "stage %" PRIu32 " has no relay: add relays (there are %" PRIu32
                                    "), or lower pipeline.stages (%" PRIu32 ")",
                                    empty, relays, scenario->pipeline.stages);
    return GWTF_OK;
}

static gwtf_status check_node(const struct gwtf_config_reader *reader, const char *section,
                              size_t i, const char *key, uint32_t node) {
    const struct gwtf_scenario *scenario = reader->base;
    uint32_t data_nodes = gwtf_scenario_count(scenario, GWTF_CONFIG_ROLE_DATA);
    uint32_t count = data_nodes + gwtf_scenario_count(scenario, GWTF_CONFIG_ROLE_RELAY);
    if (node >= count)
        return gwtf_config_complain(reader, gwtf_config_entry_origin(reader, section, i, key),
                                    "%s.%zu.%s is %" PRIu32 ": give a node from 0 to %" PRIu32,
                                    section, i, key, node, count - 1);
    if (strcmp(section, "crashes") == 0 && node < data_nodes)
        return gwtf_config_complain(reader, gwtf_config_entry_origin(reader, section, i, key),
                                    "%s.%zu.%s is %" PRIu32 ", a data node, without which its data "
                                    "are gone: name a relay",
                                    section, i, key, node);
    return GWTF_OK;
}

static gwtf_status check_events(struct gwtf_config_reader *reader) {
    struct gwtf_scenario *scenario = reader->base;
    uint32_t data_nodes = gwtf_scenario_count(scenario, GWTF_CONFIG_ROLE_DATA);
    gwtf_status status = GWTF_OK;
    for (size_t i = 0; i < scenario->crashes_count && status == GWTF_OK; i++)
        status = check_node(reader, "crashes", i, "node", scenario->crashes[i].node);
    int list = gwtf_config_find_list(reader->schema, "link_faults");
    int peer = gwtf_config_find_key(reader->schema, "link_faults", "peer");
    for (size_t i = 0; i < scenario->link_faults_count && status == GWTF_OK; i++) {
        struct gwtf_scenario_link_fault *fault = &scenario->link_faults[i];
        const struct gwtf_config_origin *given = &reader->entries[list][i].keys[peer];
        status = check_node(reader, "link_faults", i, "node", fault->node);
        if (given->line == 0 && given->override == NULL)
            fault->peer = GWTF_SCENARIO_ALL_PEERS;
        else if (status == GWTF_OK)
            status = check_node(reader, "link_faults", i, "peer", fault->peer);
        if (status == GWTF_OK && fault->kind == GWTF_SCENARIO_LINK_CUT &&
            (fault->peer != GWTF_SCENARIO_ALL_PEERS || fault->node < data_nodes))
            status = gwtf_config_complain(
                reader, gwtf_config_entry_origin(reader, "link_faults", i, "kind"),
                "link_faults.%zu cuts %s, which is not simulated: %s", i,
                fault->node < data_nodes ? "a data node off" : "one link of a node",
                fault->node < data_nodes ? "name a relay"
                                         : "leave peer out to cut it off, or make it slow");
        if (status == GWTF_OK && fault->peer == fault->node)
            status = gwtf_config_complain(
                reader, gwtf_config_entry_origin(reader, "link_faults", i, "peer"),
                "link_faults.%zu.peer is the node itself: name another, or leave it out", i);
    }
    return status;
}

gwtf_status gwtf_scenario_check(struct gwtf_config_reader *reader) {
    struct gwtf_scenario *scenario = reader->base;
    gwtf_status status = complete_model(reader);
    if (status == GWTF_OK && scenario->nodes_count == 0)
        status = gwtf_config_complain(reader, gwtf_config_section_origin(reader, "nodes"),
                                      "nodes is missing: write nodes = ( { role = \"data\"; ... }, "
                                      "{ role = \"relay\"; count = %" PRIu32 "; ... } );",
                                      scenario->pipeline.stages);
    if (status == GWTF_OK)
        status = load_topology(reader);
    for (size_t i = 0; i < scenario->nodes_count && status == GWTF_OK; i++)
        status = check_entry(reader, i);
    if (status == GWTF_OK)
        status = check_stages(reader);
    if (status == GWTF_OK)
        status = check_events(reader);
    if (status != GWTF_OK) {
        gwtf_topology_destroy(scenario->topology);
        scenario->topology = NULL;
    }
    return status;
}

gwtf_status gwtf_scenario_parse(const char *text, const char *name, const char *const *overrides,
                                size_t overrides_count, struct gwtf_scenario **scenario,
                                struct gwtf_error *error) {
    struct gwtf_scenario *made = calloc(1, sizeof *made);
    if (made == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "%s: no memory: free some", name);
    gwtf_status status = gwtf_config_fill(&gwtf_scenario_schema, text, name, overrides,
                                          overrides_count, made, error);
    if (status == GWTF_OK)
        *scenario = made;
    else
        free(made);
    return status;
}

gwtf_status gwtf_scenario_load(const char *path, const char *const *overrides,
                               size_t overrides_count, struct gwtf_scenario **scenario,
                               struct gwtf_error *error) {
    char *text = NULL;
    gwtf_status status = gwtf_config_read_file(path, FILE_MAX_BYTES, &text, error);
    if (status == GWTF_OK)
        status = gwtf_scenario_parse(text, path, overrides, overrides_count, scenario, error);
    free(text);
    return status;
}

void gwtf_scenario_destroy(struct gwtf_scenario *scenario) {
    if (scenario == NULL)
        return;
    gwtf_topology_destroy(scenario->topology);
    free(scenario);
}
