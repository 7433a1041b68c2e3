/* Checks over several keys: what no key alone can be wrong about. */
#include "io/config_reader.h"
#include "io/model_preset.h"

#include <inttypes.h>

/* The table's fallback. */
#define ROPE_THETA_USUAL 10000.0

/* The divisor of WIDTH that is nearest to HEADS, for a suggestion. */
static uint32_t nearest_divisor(uint32_t width, uint32_t heads) {
    uint32_t best = 1;
    for (uint32_t i = 1; i <= width; i++)
        if (width % i == 0 &&
            (i > heads ? i - heads : heads - i) < (best > heads ? best - heads : heads - best))
            best = i;
    return best;
}

/* What the preset says, where the keys do not. */
static gwtf_status complete_model(struct gwtf_config_reader *reader) {
    struct gwtf_config *config = reader->base;
    const struct gwtf_model_preset *preset = &gwtf_model_presets[config->model.preset];
    bool known = config->model.preset != GWTF_CONFIG_PRESET_NONE;
    if (!gwtf_config_is_given(reader, "model", "family"))
        config->model.family = preset->family;
    bool same = known && config->model.family == preset->family;
    const struct {
        const char *name;
        uint32_t *value;
        uint32_t usual;
        bool needed;
    } sizes[] = {
        {"layers", &config->model.layers, preset->layers, true},
        {"width", &config->model.width, preset->width, true},
        {"heads", &config->model.heads, preset->heads, true},
        {"context", &config->model.context, preset->context, true},
        {"vocabulary", &config->model.vocabulary, preset->vocabulary, false},
        /* These go with other sizes of the preset. */
        {"key_value_heads", &config->model.key_value_heads,
         same && !gwtf_config_is_given(reader, "model", "heads") ? preset->key_value_heads : 0,
         false},
        {"hidden", &config->model.hidden,
         same && !gwtf_config_is_given(reader, "model", "width") ? preset->hidden : 0, false},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (gwtf_config_is_given(reader, "model", sizes[i].name))
            continue;
        if (sizes[i].needed && !known)
            return gwtf_config_complain(reader, gwtf_config_section_origin(reader, "model"),
                                        "model.%s is missing: give it, or a model.preset like "
                                        "\"gpt2-124m\"",
                                        sizes[i].name);
        *sizes[i].value = sizes[i].usual;
    }
    if (!gwtf_config_is_given(reader, "model", "tied_head"))
        config->model.tied_head =
            same ? preset->tied_head : config->model.family == GWTF_CONFIG_FAMILY_GPT2;
    return GWTF_OK;
}

/* Llama's heads: in groups that share keys and values, of pairs that a position turns. */
static gwtf_status check_heads(const struct gwtf_config_reader *reader) {
    const struct gwtf_config *config = reader->base;
    uint32_t heads = config->model.heads, shared = config->model.key_value_heads;
    if (config->model.family == GWTF_CONFIG_FAMILY_GPT2) {
        if (shared != 0 && shared != heads)
            return gwtf_config_complain(
                reader, gwtf_config_origin_of(reader, "model", "key_value_heads"),
                "model.key_value_heads is %" PRIu32 ", but gpt2 has as many as model.heads: leave "
                "it out, or make model.family \"llama\"",
                shared);
        if (config->model.rope_theta != ROPE_THETA_USUAL)
            return gwtf_config_complain(reader,
                                        gwtf_config_origin_of(reader, "model", "rope_theta"),
                                        "model.rope_theta is %g, but gpt2 learns its positions: "
                                        "leave it out, or make model.family \"llama\"",
                                        config->model.rope_theta);
        return GWTF_OK;
    }
    if (shared != 0 && heads % shared != 0)
        return gwtf_config_complain(
            reader, gwtf_config_origin_of(reader, "model", "key_value_heads"),
            "model.key_value_heads is %" PRIu32 ", which does not divide model.heads %" PRIu32
            ": give a divisor, like %" PRIu32,
            shared, heads, nearest_divisor(heads, shared));
    if (config->model.width / heads % 2 != 0)
        return gwtf_config_complain(
            reader, gwtf_config_origin_of(reader, "model", "heads"),
            "model.heads is %" PRIu32 ", which leaves each an odd share, %" PRIu32
            ", of model.width %" PRIu32 ": llama needs an even one: change one of them",
            heads, config->model.width / heads, config->model.width);
    return GWTF_OK;
}

static gwtf_status check_shape(const struct gwtf_config_reader *reader) {
    const struct gwtf_config *config = reader->base;
    uint32_t width = config->model.width, heads = config->model.heads;
    if (width % heads != 0)
        return gwtf_config_complain(reader, gwtf_config_origin_of(reader, "model", "heads"),
                                    "model.heads is %" PRIu32 ", which does not divide model.width "
                                    "%" PRIu32 ": give a divisor, like %" PRIu32,
                                    heads, width, nearest_divisor(width, heads));
    if (config->model.vocabulary == 1)
        return gwtf_config_complain(reader, gwtf_config_origin_of(reader, "model", "vocabulary"),
                                    "model.vocabulary is 1: give at least 2, or 0 for the data's");
    if (config->pipeline.stages > config->model.layers)
        return gwtf_config_complain(reader, gwtf_config_origin_of(reader, "pipeline", "stages"),
                                    "pipeline.stages is %" PRIu32 ", more than the %" PRIu32
                                    " of model.layers: give at most %" PRIu32,
                                    config->pipeline.stages, config->model.layers,
                                    config->model.layers);
    return check_heads(reader);
}

static gwtf_status check_node_stages(const struct gwtf_config_reader *reader) {
    const struct gwtf_config *config = reader->base;
    for (size_t i = 0; i < config->nodes_count; i++) {
        const struct gwtf_config_node *node = &config->nodes[i];
        if (node->role == GWTF_CONFIG_ROLE_DATA && node->stage != 0)
            return gwtf_config_complain(reader,
                                        gwtf_config_entry_origin(reader, "nodes", i, "stage"),
                                        "nodes.%zu.stage is %" PRIu32 ", but data nodes have no "
                                        "stage: remove it, or make the role \"relay\"",
                                        i, node->stage);
        if (node->stage > config->pipeline.stages)
            return gwtf_config_complain(
                reader, gwtf_config_entry_origin(reader, "nodes", i, "stage"),
                "nodes.%zu.stage is %" PRIu32 ", but pipeline.stages is "
                "%" PRIu32 ": give 1 to %" PRIu32 ", or 0 to spread the nodes",
                i, node->stage, config->pipeline.stages, config->pipeline.stages);
    }
    return GWTF_OK;
}

static gwtf_status check_relays(const struct gwtf_config_reader *reader) {
    const struct gwtf_config *config = reader->base;
    const struct gwtf_config_origin *list = gwtf_config_section_origin(reader, "nodes");
    uint32_t stages = config->pipeline.stages;
    uint32_t relays = gwtf_config_count(config, GWTF_CONFIG_ROLE_RELAY);
    if (relays < stages)
        return gwtf_config_complain(reader, list,
                                    "there are %" PRIu32 " relays for %" PRIu32
                                    " stages: add relays, or lower pipeline.stages",
                                    relays, stages);
    /* Relays without a stage fill those that have none. */
    uint32_t free_relays = 0, empty = 0, first_empty = 0;
    for (uint32_t stage = 0; stage <= stages; stage++) {
        uint32_t count = 0;
        for (size_t i = 0; i < config->nodes_count; i++)
            if (config->nodes[i].role == GWTF_CONFIG_ROLE_RELAY && config->nodes[i].stage == stage)
                count += config->nodes[i].count;
        if (stage == 0)
            free_relays = count;
        else if (count == 0 && empty++ == free_relays)
            first_empty = stage;
    }
    if (empty > free_relays)
        return gwtf_config_complain(reader, list,
                                    "stage %" PRIu32 " has no relay: add one, or leave the stage "
                                    "of some relays out",
                                    first_empty);
    return GWTF_OK;
}

static gwtf_status check_node(const struct gwtf_config_reader *reader, const char *section,
                              size_t entry, const char *key, uint32_t node) {
    const struct gwtf_config *config = reader->base;
    uint32_t nodes = gwtf_config_count(config, GWTF_CONFIG_ROLE_DATA) +
                     gwtf_config_count(config, GWTF_CONFIG_ROLE_RELAY);
    if (node < nodes || node == GWTF_CONFIG_ANY_NODE)
        return GWTF_OK;
    return gwtf_config_complain(reader, gwtf_config_entry_origin(reader, section, entry, key),
                                "%s.%zu.%s is %" PRIu32 ", but the nodes are 0 to %" PRIu32
                                ": the data nodes first, then the relays, in the order of nodes",
                                section, entry, key, node, nodes - 1);
}

/* Moments of entry ENTRY that are drawn have a mean, and links that fail again have healed before.
 */
static gwtf_status check_moments(const struct gwtf_config_reader *reader, const char *section,
                                 size_t entry, double every, bool random) {
    if (!random || every > 0)
        return GWTF_OK;
    return gwtf_config_complain(
        reader, gwtf_config_entry_origin(reader, section, entry, "random"),
        "%s.%zu.random is true, but every is 0: give the mean of the pauses, "
        "like every = 10.0",
        section, entry);
}

static gwtf_status check_healing(const struct gwtf_config_reader *reader, size_t entry) {
    const struct gwtf_config_link_fault *fault =
        &((const struct gwtf_config *)reader->base)->link_faults[entry];
    if (fault->every <= 0 || fault->heal_seconds > 0)
        return GWTF_OK;
    return gwtf_config_complain(
        reader, gwtf_config_entry_origin(reader, "link_faults", entry, "every"),
        "link_faults.%zu happens every %g s, but never ends: give how long it lasts, like "
        "heal_seconds = %g",
        entry, fault->every, fault->every / 2);
}

/* Regions are held against the topology when that is read. */
static gwtf_status check_link_faults(const struct gwtf_config_reader *reader) {
    const struct gwtf_config *config = reader->base;
    for (size_t i = 0; i < config->link_faults_count; i++) {
        const struct gwtf_config_link_fault *fault = &config->link_faults[i];
        gwtf_status status = check_node(reader, "link_faults", i, "node", fault->node);
        if (status == GWTF_OK)
            status = check_node(reader, "link_faults", i, "peer", fault->peer);
        if (status == GWTF_OK)
            status = check_moments(reader, "link_faults", i, fault->every, fault->random);
        if (status == GWTF_OK)
            status = check_healing(reader, i);
        if (status != GWTF_OK)
            return status;
        if (config->network.emulate[0] == '\0' &&
            (fault->region[0] != '\0' || fault->peer_region[0] != '\0'))
            return gwtf_config_complain(reader, gwtf_config_section_origin(reader, "link_faults"),
                                        "link_faults.%zu names a region, which is of an emulated "
                                        "network: name its topology file, like network = { emulate "
                                        "= \"share/topologies/ten-regions.cfg\"; };",
                                        i);
    }
    return GWTF_OK;
}

static gwtf_status check_crashes(const struct gwtf_config_reader *reader) {
    const struct gwtf_config *config = reader->base;
    gwtf_status status = GWTF_OK;
    for (size_t i = 0; i < config->crashes_count && status == GWTF_OK; i++) {
        const struct gwtf_config_crash *crash = &config->crashes[i];
        status = check_node(reader, "crashes", i, "node", crash->node);
        if (status == GWTF_OK)
            status = check_moments(reader, "crashes", i, crash->every, crash->random);
    }
    return status;
}

static gwtf_status check_policy(const struct gwtf_config_reader *reader) {
    const struct gwtf_config *config = reader->base;
    if (config->flow.objective == GWTF_FLOW_OBJECTIVE_MAX &&
        config->flow.policy != GWTF_FLOW_POLICY_GWTF &&
        config->flow.policy != GWTF_FLOW_POLICY_GWTF_PAPER)
        return gwtf_config_complain(reader, gwtf_config_origin_of(reader, "flow", "objective"),
                                    "flow.objective is \"max\", which \"gwtf\" and "
                                    "\"gwtf-paper\" alone can do: give one of them, or \"sum\"");
    if (config->flow.policy != GWTF_FLOW_POLICY_STATIC)
        return GWTF_OK;
    return gwtf_config_complain(reader, gwtf_config_origin_of(reader, "flow", "policy"),
                                "flow.policy is \"static\", for which nobody assigns the flows of "
                                "a run: give \"gwtf\", and see gwtf route for \"static\"");
}

gwtf_status gwtf_config_check(struct gwtf_config_reader *reader) {
    struct gwtf_config *config = reader->base;
    if (!gwtf_config_is_given(reader, "optimizer", "minimum"))
        config->optimizer.minimum = config->optimizer.learning_rate / 10;
    const struct gwtf_config_origin *list = gwtf_config_section_origin(reader, "nodes");
    gwtf_status status = complete_model(reader);
    if (status == GWTF_OK)
        status = check_shape(reader);
    if (status == GWTF_OK)
        status = check_policy(reader);
    if (status != GWTF_OK)
        return status;
    if (config->nodes_count == 0)
        return gwtf_config_complain(reader, list,
                                    "nodes is missing: write nodes = ( { role = \"data\"; }, { "
                                    "role = \"relay\"; count = %" PRIu32 "; } );",
                                    config->pipeline.stages);
    if (gwtf_config_count(config, GWTF_CONFIG_ROLE_DATA) == 0)
        return gwtf_config_complain(reader, list,
                                    "there is no data node: add { role = \"data\"; } to nodes");
    status = check_node_stages(reader);
    if (status == GWTF_OK)
        status = check_relays(reader);
    if (status == GWTF_OK)
        status = check_link_faults(reader);
    if (status == GWTF_OK)
        status = check_crashes(reader);
    if (status != GWTF_OK)
        return status;
    if (config->optimizer.minimum > config->optimizer.learning_rate)
        return gwtf_config_complain(reader, gwtf_config_origin_of(reader, "optimizer", "minimum"),
                                    "optimizer.minimum is %g, above optimizer.learning_rate %g: "
                                    "lower it",
                                    config->optimizer.minimum, config->optimizer.learning_rate);
    return GWTF_OK;
}
