#include "io/scenario_table.h"

#include "io/model_preset.h"

#include <stddef.h>

static const char *const global_words[] = {"constant", "per-data-node", NULL};
static const char *const objective_words[] = {"sum", "max", NULL};
static const char *const phase_words[] = {"any", "forward", "backward", "aggregation", NULL};
static const char *const link_fault_words[] = {"slow", "cut", NULL};
static const char *const sections[] = {"run",      "network", "model",       "batch",
                                       "pipeline", "nodes",   "flow",        "churn",
                                       "links",    "crashes", "link_faults", NULL};

#define IN(member) offsetof(struct gwtf_scenario, member)
#define IN_NODES(member) offsetof(struct gwtf_scenario_nodes, member)
#define IN_CRASH(member) offsetof(struct gwtf_scenario_crash, member)
#define IN_FAULT(member) offsetof(struct gwtf_scenario_link_fault, member)
#define COUNT_MAX 4294967295.0
#define SEED_MAX 9223372036854775807.0
#define REAL_MAX 1e30
#define FACTOR_MAX 1e6

/* clang-format off: a table reads as a table */
static const struct gwtf_config_key keys[] = {
    {"run", "seed", GWTF_CONFIG_SEED, IN(run.seed), .least = 0, .most = SEED_MAX, .fallback = "1",
     .help = "of all that is drawn"},
    {"run", "iterations", GWTF_CONFIG_COUNT, IN(run.iterations), .least = 1, .most = 1000000,
     .help = "to simulate"},
    {"run", "rebalance", GWTF_CONFIG_FLAG, IN(run.rebalance), .fallback = "true",
     .help = "nodes that joined move to the stage that holds the others up"},

    {"network", "topology", GWTF_CONFIG_TEXT, IN(network.topology), .least = 1,
     .help = "the file of regions and links, relative to the scenario's folder"},

    {"model", "preset", GWTF_CONFIG_WORD, IN(model.preset), .words = gwtf_model_preset_words,
     .fallback = "none", .help = "a known model; other keys of this section change it"},
    {"model", "family", GWTF_CONFIG_WORD, IN(model.family), .words = gwtf_config_families,
     .derived = true, .help = "architecture"},
    {"model", "layers", GWTF_CONFIG_COUNT, IN(model.layers), .least = 1, .most = 4096,
     .derived = true, .help = "transformer blocks"},
    {"model", "width", GWTF_CONFIG_COUNT, IN(model.width), .least = 1, .most = 1 << 17,
     .derived = true, .help = "floats of a token inside the model"},
    {"model", "context", GWTF_CONFIG_COUNT, IN(model.context), .least = 1, .most = 1 << 24,
     .derived = true, .help = "tokens of a sequence"},
    {"model", "vocabulary", GWTF_CONFIG_COUNT, IN(model.vocabulary), .least = 2, .most = 1 << 28,
     .derived = true, .help = "different tokens"},
    {"model", "ffn_width", GWTF_CONFIG_COUNT, IN(model.ffn_width), .least = 1, .most = 1 << 20,
     .derived = true, .help = "llama: inside a block; left out: 8/3 of width, up to 64's next"},
    {"model", "tied_head", GWTF_CONFIG_FLAG, IN(model.tied_head), .derived = true,
     .help = "the head uses the token embedding's weights; left out: gpt2 does, llama does not"},

    {"batch", "microbatch", GWTF_CONFIG_COUNT, IN(batch.microbatch), .least = 1, .most = 1 << 16,
     .help = "sequences in one microbatch"},
    {"batch", "microbatches", GWTF_CONFIG_COUNT, IN(batch.microbatches), .least = 1,
     .most = 1 << 20, .help = "per data node and iteration"},
    {"batch", "global", GWTF_CONFIG_WORD, IN(batch.global), .words = global_words,
     .fallback = "constant", .help = "when data nodes are lost; per-data-node: it shrinks"},

    {"pipeline", "stages", GWTF_CONFIG_COUNT, IN(pipeline.stages), .least = 1, .most = 255,
     .help = "relay stages; at most model.layers"},

    {"nodes", "role", GWTF_CONFIG_WORD, IN_NODES(role), .words = gwtf_config_roles,
     .help = "what these nodes do"},
    {"nodes", "region", GWTF_CONFIG_TEXT, IN_NODES(region), .least = 1, .help = "of the topology"},
    {"nodes", "count", GWTF_CONFIG_COUNT, IN_NODES(count), .least = 1, .most = 100000,
     .fallback = "1", .help = "how many such nodes"},
    {"nodes", "stage", GWTF_CONFIG_COUNT, IN_NODES(stage), .least = 0, .most = 255, .fallback = "0",
     .help = "of relays; 0: spread evenly"},
    {"nodes", "speed", GWTF_CONFIG_REAL, IN_NODES(speed), .least = 1, .most = REAL_MAX,
     .help = "FLOP/s that training reaches"},
    {"nodes", "memory_gb", GWTF_CONFIG_REAL, IN_NODES(memory_gb), .least = 0, .most = 1e9,
     .fallback = "0", .help = "10^9 bytes for training, of which capacity follows"},
    {"nodes", "memory_rate", GWTF_CONFIG_REAL, IN_NODES(memory_rate), .least = 1, .most = REAL_MAX,
     .fallback = "1e10", .help = "bytes per second that memory moves"},
    {"nodes", "capacity", GWTF_CONFIG_COUNT, IN_NODES(capacity), .least = 0, .most = 4096,
     .fallback = "0", .help = "microbatches held at one time; 0: from memory_gb"},
    {"nodes", "uplink_mbit", GWTF_CONFIG_REAL, IN_NODES(uplink_mbit), .least = 0, .most = 1e9,
     .fallback = "0", .help = "all that the node sends leaves through this; 0: no limit"},
    {"nodes", "joins", GWTF_CONFIG_COUNT, IN_NODES(joins), .least = 0, .most = COUNT_MAX,
     .fallback = "0", .help = "relays: the iteration in which they come; 0: they are there"},
    {"nodes", "leaves", GWTF_CONFIG_COUNT, IN_NODES(leaves), .least = 0, .most = COUNT_MAX,
     .fallback = "0", .help = "relays: the iteration in which they are told to leave; 0: never"},

    {"flow", "policy", GWTF_CONFIG_WORD, IN(flow.policy), .words = gwtf_flow_policy_words,
     .fallback = "gwtf", .help = "how microbatches find their way"},
    {"flow", "objective", GWTF_CONFIG_WORD, IN(flow.objective), .words = objective_words,
     .fallback = "sum", .help = "the cost made small: of all flows, or of the dearest one"},

    {"churn", "probability", GWTF_CONFIG_REAL, IN(churn.probability), .least = 0, .most = 1,
     .fallback = "0", .help = "that a relay crashes, each iteration"},
    {"churn", "phase", GWTF_CONFIG_WORD, IN(churn.phase), .words = phase_words, .fallback = "any",
     .help = "of the iteration, in which they crash"},
    {"churn", "return_after", GWTF_CONFIG_COUNT, IN(churn.return_after), .least = 0,
     .most = COUNT_MAX, .fallback = "0", .help = "iterations; 0: never"},
    {"churn", "notice_ms", GWTF_CONFIG_REAL, IN(churn.notice_ms), .least = 0, .most = 1e9,
     .fallback = "1000", .help = "until the others know of a crash"},

    {"links", "probability", GWTF_CONFIG_REAL, IN(links.probability), .least = 0, .most = 1,
     .fallback = "0", .help = "that a node's links go bad, each iteration"},
    {"links", "cut", GWTF_CONFIG_REAL, IN(links.cut), .least = 0, .most = 1, .fallback = "0",
     .help = "share of relays' that are cut: the node is lost; the others are slow"},
    {"links", "factor", GWTF_CONFIG_REAL, IN(links.factor), .least = 1, .most = FACTOR_MAX,
     .fallback = "4", .help = "how much slower"},
    {"links", "heal_after", GWTF_CONFIG_COUNT, IN(links.heal_after), .least = 0, .most = COUNT_MAX,
     .fallback = "1", .help = "iterations; 0: never"},

    {"crashes", "iteration", GWTF_CONFIG_COUNT, IN_CRASH(iteration), .least = 1, .most = COUNT_MAX,
     .help = "in which the node crashes"},
    {"crashes", "node", GWTF_CONFIG_COUNT, IN_CRASH(node), .least = 0, .most = COUNT_MAX,
     .help = "a relay; data nodes are 0.., relays follow, in the order of `nodes`"},
    {"crashes", "phase", GWTF_CONFIG_WORD, IN_CRASH(phase), .words = phase_words, .fallback = "any",
     .help = "of the iteration"},
    {"crashes", "return_after", GWTF_CONFIG_COUNT, IN_CRASH(return_after), .least = 0,
     .most = COUNT_MAX, .fallback = "0",
     .help = "iterations; 0: never. Until nodes can rejoin, as 0"},

    {"link_faults", "iteration", GWTF_CONFIG_COUNT, IN_FAULT(iteration), .least = 1,
     .most = COUNT_MAX, .help = "from whose start on it lasts"},
    {"link_faults", "node", GWTF_CONFIG_COUNT, IN_FAULT(node), .least = 0, .most = COUNT_MAX,
     .help = "whose links go bad; data nodes are 0.., relays follow, in the order of `nodes`"},
    {"link_faults", "peer", GWTF_CONFIG_COUNT, IN_FAULT(peer), .least = 0, .most = COUNT_MAX,
     .derived = true, .help = "only the link between the two; left out: all of the node's"},
    {"link_faults", "kind", GWTF_CONFIG_WORD, IN_FAULT(kind), .words = link_fault_words,
     .fallback = "slow", .help = "what becomes of them"},
    {"link_faults", "factor", GWTF_CONFIG_REAL, IN_FAULT(factor), .least = 1, .most = FACTOR_MAX,
     .fallback = "4", .help = "how much slower"},
    {"link_faults", "heal_after", GWTF_CONFIG_COUNT, IN_FAULT(heal_after), .least = 0,
     .most = COUNT_MAX, .fallback = "0", .help = "iterations; 0: never"},
};
/* clang-format on */
_Static_assert(sizeof keys / sizeof keys[0] <= GWTF_CONFIG_KEYS_MAX, "raise GWTF_CONFIG_KEYS_MAX");

static const struct gwtf_config_list lists[] = {
    {"nodes", IN(nodes), IN(nodes_count), sizeof(struct gwtf_scenario_nodes),
     GWTF_SCENARIO_NODES_MAX,
     "{ role = \"relay\"; region = \"Oregon\"; count = 4; speed = 1e13; capacity = 4; }"},
    {"crashes", IN(crashes), IN(crashes_count), sizeof(struct gwtf_scenario_crash),
     GWTF_SCENARIO_EVENTS_MAX, "{ iteration = 3; node = 5; phase = \"backward\"; }"},
    {"link_faults", IN(link_faults), IN(link_faults_count), sizeof(struct gwtf_scenario_link_fault),
     GWTF_SCENARIO_EVENTS_MAX, "{ iteration = 3; node = 5; kind = \"slow\"; factor = 4.0; }"},
};

const struct gwtf_config_schema gwtf_scenario_schema = {
    .sections = sections,
    .keys = keys,
    .keys_count = sizeof keys / sizeof keys[0],
    .lists = lists,
    .lists_count = sizeof lists / sizeof lists[0],
    .bytes = sizeof(struct gwtf_scenario),
    .check = gwtf_scenario_check,
};
