#include "io/config_reader.h"
#include "io/model_preset.h"

#include <stddef.h>
#include <string.h>

const char *const gwtf_config_families[] = {"gpt2", "llama", NULL};
const char *const gwtf_config_roles[] = {"data", "relay", NULL};
static const char *const decay_words[] = {"none", "linear", "cosine", NULL};
static const char *const optimizer_words[] = {"adamw", NULL};
static const char *const objective_words[] = {"sum", "max", NULL};
static const char *const detector_words[] = {"auto", "heartbeat", "off", NULL};
static const char *const global_words[] = {"constant", "per-data-node", NULL};
static const char *const repair_words[] = {"exact", "drop", "restart", NULL};
static const char *const stage_loss_words[] = {"snapshot", "neighbours", "halt", NULL};
static const char *const order_words[] = {"shuffled", "sequential", "random", NULL};
static const char *const device_words[] = {"auto", "cpu", "cuda", NULL};
static const char *const node_device_words[] = {"run", "auto", "cpu", "cuda", NULL};
static const char *const kernels_words[] = {"onednn", "reference", NULL};
static const char *const link_fault_words[] = {"slow", "cut", "lossy", NULL};
static const char *const crash_words[] = {"kill", "stop", NULL};
static const char *const phase_words[] = {"any",      "forward", "backward", "aggregation",
                                          "snapshot", "repair",  NULL};
static const char *const recompute_words[] = {"none", "blocks", NULL};
static const char *const compress_words[] = {"none", "bfloat16", "int8", NULL};
static const char *const precision_words[] = {"float32", "bfloat16", "tfloat32", NULL};

const char *const gwtf_config_sections[] = {
    "run",       "model",    "data",    "batch",   "pipeline",    "nodes",   "flow", "faults",
    "optimizer", "snapshot", "backend", "network", "link_faults", "crashes", NULL};

#define IN(member) offsetof(struct gwtf_config, member)
#define IN_NODE(member) offsetof(struct gwtf_config_node, member)
#define IN_FAULT(member) offsetof(struct gwtf_config_link_fault, member)
#define IN_CRASH(member) offsetof(struct gwtf_config_crash, member)
#define COUNT_MAX 4294967295.0
#define SEED_MAX 9223372036854775807.0
#define REAL_MAX 1e30
#define REQUIRED .fallback = NULL

/* clang-format off: a table reads as a table */
const struct gwtf_config_key gwtf_config_keys[] = {
    {"run", "directory", GWTF_CONFIG_TEXT, IN(run.directory), .least = 1, REQUIRED,
     .help = "where the run keeps its files"},
    {"run", "seed", GWTF_CONFIG_SEED, IN(run.seed), .least = 0, .most = SEED_MAX, .fallback = "1",
     .help = "of initial weights and data order"},
    {"run", "iterations", GWTF_CONFIG_COUNT, IN(run.iterations), .least = 1, .most = COUNT_MAX,
     REQUIRED, .help = "optimizer steps to train"},
    {"run", "places", GWTF_CONFIG_COUNT, IN(run.places), .least = 0, .most = 256, .fallback = "4",
     .help = "nodes of each stage that may join while it trains"},
    {"run", "rebalance", GWTF_CONFIG_FLAG, IN(run.rebalance), .fallback = "true",
     .help = "nodes move from an over-full stage to the one that holds the others up"},

    {"model", "preset", GWTF_CONFIG_WORD, IN(model.preset), .words = gwtf_model_preset_words,
     .fallback = "none", .help = "a known model; other keys of this section change it"},
    {"model", "family", GWTF_CONFIG_WORD, IN(model.family), .words = gwtf_config_families,
     .derived = true, .help = "architecture"},
    {"model", "layers", GWTF_CONFIG_COUNT, IN(model.layers), .least = 1, .most = 4096,
     .derived = true, .help = "transformer blocks"},
    {"model", "width", GWTF_CONFIG_COUNT, IN(model.width), .least = 1, .most = 1 << 20,
     .derived = true, .help = "floats of a token inside the model"},
    {"model", "heads", GWTF_CONFIG_COUNT, IN(model.heads), .least = 1, .most = 1 << 20,
     .derived = true, .help = "attention heads; divides width"},
    {"model", "key_value_heads", GWTF_CONFIG_COUNT, IN(model.key_value_heads), .least = 0,
     .most = 1 << 20, .derived = true, .help = "heads of keys and values; 0: as heads"},
    {"model", "hidden", GWTF_CONFIG_COUNT, IN(model.hidden), .least = 0, .most = 1 << 20,
     .derived = true, .help = "width inside a block's MLP; 0: the family's usual"},
    {"model", "context", GWTF_CONFIG_COUNT, IN(model.context), .least = 1, .most = 1 << 24,
     .derived = true, .help = "tokens of a sequence"},
    {"model", "vocabulary", GWTF_CONFIG_COUNT, IN(model.vocabulary), .least = 0, .most = 1 << 30,
     .derived = true, .help = "0: the data's"},
    {"model", "tied_head", GWTF_CONFIG_FLAG, IN(model.tied_head), .derived = true,
     .help = "the head uses the token embedding's weights; left out: gpt2 does, llama does not"},
    {"model", "rope_theta", GWTF_CONFIG_REAL, IN(model.rope_theta), .least = 1, .most = REAL_MAX,
     .fallback = "10000", .help = "of llama: base of the rotary positions' wavelengths"},
    {"model", "norm_epsilon", GWTF_CONFIG_REAL, IN(model.norm_epsilon), .least = 1e-30, .most = 1,
     .fallback = "1e-5", .help = "keeps the norms finite"},

    {"data", "train", GWTF_CONFIG_TEXTS, IN(data.train), .least = 1, REQUIRED,
     .help = "token file to train on, or a list of such files, or of patterns"},
    {"data", "order", GWTF_CONFIG_WORD, IN(data.order), .words = order_words,
     .fallback = "shuffled", .help = "in which sequences are taken"},
    {"data", "start_iteration", GWTF_CONFIG_COUNT, IN(data.start_iteration), .least = 0,
     .most = COUNT_MAX, .fallback = "0", .help = "after which the order is at start_sequence"},
    {"data", "start_sequence", GWTF_CONFIG_SEED, IN(data.start_sequence), .least = 0,
     .most = SEED_MAX, .fallback = "0", .help = "of the order; a resumed run sets both by itself"},
    {"data", "validation", GWTF_CONFIG_TEXT, IN(data.validation), .least = 0, .fallback = "",
     .help = "token file to measure on; empty: none"},
    {"data", "validate_every", GWTF_CONFIG_COUNT, IN(data.validate_every), .least = 0,
     .most = COUNT_MAX, .fallback = "0", .help = "iterations; 0: after the last one only"},
    {"data", "validation_sequences", GWTF_CONFIG_COUNT, IN(data.validation_sequences), .least = 0,
     .most = COUNT_MAX, .fallback = "256", .help = "spread evenly over the file; 0: all that fit"},

    {"batch", "microbatch", GWTF_CONFIG_COUNT, IN(batch.microbatch), .least = 1, .most = 1 << 16,
     REQUIRED, .help = "sequences in one microbatch"},
    {"batch", "microbatches", GWTF_CONFIG_COUNT, IN(batch.microbatches), .least = 1,
     .most = 1 << 20, REQUIRED, .help = "per data node and iteration"},
    {"batch", "global", GWTF_CONFIG_WORD, IN(batch.global), .words = global_words,
     .fallback = "constant",
     .help = "when data nodes come or go; per-data-node: it grows, shrinks"},

    {"pipeline", "stages", GWTF_CONFIG_COUNT, IN(pipeline.stages), .least = 1, .most = 256,
     REQUIRED, .help = "relay stages; at most model.layers"},

    {"nodes", "role", GWTF_CONFIG_WORD, IN_NODE(role), .words = gwtf_config_roles, REQUIRED,
     .help = "what these nodes do"},
    {"nodes", "count", GWTF_CONFIG_COUNT, IN_NODE(count), .least = 1, .most = 100000,
     .fallback = "1", .help = "how many such nodes"},
    {"nodes", "capacity", GWTF_CONFIG_COUNT, IN_NODE(capacity), .least = 0, .most = 1 << 20,
     .fallback = "0", .help = "microbatches held at one time; 0: from free memory"},
    {"nodes", "stage", GWTF_CONFIG_COUNT, IN_NODE(stage), .least = 0, .most = 256, .fallback = "0",
     .help = "of relays; 0: spread evenly"},
    {"nodes", "host", GWTF_CONFIG_TEXT, IN_NODE(host), .least = 0, .fallback = "",
     .help = "where they run; empty: where mpirun puts them"},
    {"nodes", "partition", GWTF_CONFIG_TEXT, IN_NODE(partition), .least = 0, .fallback = "",
     .help = "of a Slurm job; empty: data nodes in its first, relays in all"},
    {"nodes", "region", GWTF_CONFIG_TEXT, IN_NODE(region), .least = 0, .fallback = "",
     .help = "of the emulated network; empty: its regions one after the other"},
    {"nodes", "device", GWTF_CONFIG_WORD, IN_NODE(device), .words = node_device_words,
     .fallback = "run", .help = "what they compute on; run: as backend.device"},

    {"flow", "policy", GWTF_CONFIG_WORD, IN(flow.policy), .words = gwtf_flow_policy_words,
     .fallback = "gwtf", .help = "how microbatches find their way"},
    {"flow", "objective", GWTF_CONFIG_WORD, IN(flow.objective), .words = objective_words,
     .fallback = "sum", .help = "the cost made small: of all flows, or of the dearest"},
    {"flow", "view", GWTF_CONFIG_COUNT, IN(flow.view), .least = 1, .most = 100000, .fallback = "32",
     .help = "nodes of a neighbouring stage that one is in touch with"},

    {"faults", "detector", GWTF_CONFIG_WORD, IN(faults.detector), .words = detector_words,
     .fallback = "auto", .help = "who notices that a node is lost"},
    {"faults", "repair", GWTF_CONFIG_WORD, IN(faults.repair), .words = repair_words,
     .fallback = "exact", .help = "of what lost nodes had added up; drop: it is lost"},
    {"faults", "stage_loss", GWTF_CONFIG_WORD, IN(faults.stage_loss), .words = stage_loss_words,
     .fallback = "snapshot", .help = "what a stage is made of that has lost its last node"},

    {"optimizer", "name", GWTF_CONFIG_WORD, GWTF_CONFIG_NOT_KEPT, .words = optimizer_words,
     .fallback = "adamw", .help = "the optimizer"},
    {"optimizer", "learning_rate", GWTF_CONFIG_REAL, IN(optimizer.learning_rate), .least = 0,
     .above = true, .most = REAL_MAX, .fallback = "6e-4", .help = "at its peak"},
    {"optimizer", "minimum", GWTF_CONFIG_REAL, IN(optimizer.minimum), .least = 0, .most = REAL_MAX,
     .derived = true, .help = "learning rate of the last iteration; left out: a tenth of the peak"},
    {"optimizer", "warmup", GWTF_CONFIG_COUNT, IN(optimizer.warmup), .least = 0, .most = COUNT_MAX,
     .fallback = "0", .help = "iterations of linear rise"},
    {"optimizer", "decay", GWTF_CONFIG_WORD, IN(optimizer.decay), .words = decay_words,
     .fallback = "cosine", .help = "of the learning rate"},
    {"optimizer", "weight_decay", GWTF_CONFIG_REAL, IN(optimizer.weight_decay), .least = 0,
     .most = REAL_MAX, .fallback = "0.1", .help = "decoupled; not on norms and biases"},
    {"optimizer", "clip", GWTF_CONFIG_REAL, IN(optimizer.clip), .least = 0, .most = REAL_MAX,
     .fallback = "1.0", .help = "largest global gradient norm; 0: no clipping"},
    {"optimizer", "beta1", GWTF_CONFIG_REAL, IN(optimizer.beta1), .least = 0, .most = 1,
     .below = true, .fallback = "0.9", .help = "decay of first moments"},
    {"optimizer", "beta2", GWTF_CONFIG_REAL, IN(optimizer.beta2), .least = 0, .most = 1,
     .below = true, .fallback = "0.95", .help = "decay of second moments"},
    {"optimizer", "epsilon", GWTF_CONFIG_REAL, IN(optimizer.epsilon), .least = 0, .above = true,
     .most = REAL_MAX, .fallback = "1e-8", .help = "keeps the step finite"},

    {"snapshot", "every", GWTF_CONFIG_COUNT, IN(snapshot.every), .least = 0, .most = COUNT_MAX,
     .fallback = "0", .help = "iterations; 0: at the end only"},
    {"snapshot", "keep", GWTF_CONFIG_COUNT, IN(snapshot.keep), .least = 0, .most = COUNT_MAX,
     .fallback = "3", .help = "newest ones that stay; 0: all"},

    {"backend", "device", GWTF_CONFIG_WORD, IN(backend.device), .words = device_words,
     .fallback = "auto", .help = "what computes; auto: a GPU where a worker sees one"},
    {"backend", "kernels", GWTF_CONFIG_WORD, IN(backend.kernels), .words = kernels_words,
     .fallback = "onednn", .help = "the fast ones, or the readable ones"},
    {"backend", "precision", GWTF_CONFIG_WORD, IN(backend.precision), .words = precision_words,
     .fallback = "float32", .help = "of the operands of matrix products; tfloat32 is for GPUs"},
    {"backend", "recompute", GWTF_CONFIG_WORD, IN(backend.recompute), .words = recompute_words,
     .fallback = "none", .help = "what the backward pass computes again, to save memory"},
    {"backend", "threads", GWTF_CONFIG_COUNT, IN(backend.threads), .least = 0, .most = 4096,
     .fallback = "0", .help = "per worker; 0: cores of the host / its workers"},

    {"network", "emulate", GWTF_CONFIG_TEXT, IN(network.emulate), .least = 0, .fallback = "",
     .help = "a topology file: messages are delayed and paced as there; empty: none"},
    {"network", "compress", GWTF_CONFIG_WORD, IN(network.compress), .words = compress_words,
     .fallback = "none", .help = "what boundary tensors are sent as: a half, or a quarter"},

    {"link_faults", "iteration", GWTF_CONFIG_COUNT, IN_FAULT(iteration), .least = 0,
     .most = COUNT_MAX, .fallback = "0", .help = "from whose start on it lasts; 0: at once"},
    {"link_faults", "seconds", GWTF_CONFIG_REAL, IN_FAULT(seconds), .least = 0, .most = 1e9,
     .fallback = "0", .help = "of training, before which it does not begin"},
    {"link_faults", "heal_after", GWTF_CONFIG_COUNT, IN_FAULT(heal_after), .least = 0,
     .most = COUNT_MAX, .fallback = "0", .help = "iterations; 0: never"},
    {"link_faults", "heal_seconds", GWTF_CONFIG_REAL, IN_FAULT(heal_seconds), .least = 0,
     .most = 1e9, .fallback = "0", .help = "after which it is over; 0: never"},
    {"link_faults", "node", GWTF_CONFIG_COUNT, IN_FAULT(node), .least = 0, .most = COUNT_MAX,
     .fallback = "4294967295", .help = "whose links they are; left out: any"},
    {"link_faults", "peer", GWTF_CONFIG_COUNT, IN_FAULT(peer), .least = 0, .most = COUNT_MAX,
     .fallback = "4294967295", .help = "at their other end; left out: any"},
    {"link_faults", "region", GWTF_CONFIG_TEXT, IN_FAULT(region), .least = 0, .fallback = "",
     .help = "at one end; empty: any"},
    {"link_faults", "peer_region", GWTF_CONFIG_TEXT, IN_FAULT(peer_region), .least = 0,
     .fallback = "", .help = "at the other end; empty: any"},
    {"link_faults", "kind", GWTF_CONFIG_WORD, IN_FAULT(kind), .words = link_fault_words,
     .fallback = "slow", .help = "what becomes of them"},
    {"link_faults", "factor", GWTF_CONFIG_REAL, IN_FAULT(factor), .least = 1, .most = 1e6,
     .fallback = "4", .help = "how much slower"},
    {"link_faults", "loss", GWTF_CONFIG_REAL, IN_FAULT(loss), .least = 0, .most = 1, .below = true,
     .fallback = "0.1", .help = "lossy: probability that something has to be sent again"},
    {"link_faults", "latency_ms", GWTF_CONFIG_REAL, IN_FAULT(latency_ms), .least = -1, .most = 1e6,
     .fallback = "-1", .help = "in place of factor times the topology's; -1: that"},
    {"link_faults", "bandwidth_mbit", GWTF_CONFIG_REAL, IN_FAULT(bandwidth_mbit), .least = 0,
     .most = 1e9, .fallback = "0", .help = "in place of the topology's over factor; 0: that"},
    {"link_faults", "draw", GWTF_CONFIG_COUNT, IN_FAULT(draw), .least = 0,
     .most = GWTF_CONFIG_DRAW_MAX, .fallback = "0", .help = "so many of them at random; 0: all"},
    {"link_faults", "every", GWTF_CONFIG_REAL, IN_FAULT(every), .least = 0, .most = 1e9,
     .fallback = "0", .help = "seconds, after which it happens again; 0: once"},
    {"link_faults", "random", GWTF_CONFIG_FLAG, IN_FAULT(random), .fallback = "false",
     .help = "moments are random: every is the mean"},
    {"link_faults", "seed", GWTF_CONFIG_SEED, IN_FAULT(seed), .least = 0, .most = SEED_MAX,
     .fallback = "1", .help = "of what is drawn"},

    {"crashes", "kind", GWTF_CONFIG_WORD, IN_CRASH(kind), .words = crash_words, .fallback = "kill",
     .help = "kill -9, or SIGSTOP and later SIGCONT"},
    {"crashes", "node", GWTF_CONFIG_COUNT, IN_CRASH(node), .least = 0, .most = COUNT_MAX,
     .fallback = "4294967295", .help = "left out: a relay drawn at random"},
    {"crashes", "iteration", GWTF_CONFIG_COUNT, IN_CRASH(iteration), .least = 0, .most = COUNT_MAX,
     .fallback = "0", .help = "before which it does not happen"},
    {"crashes", "seconds", GWTF_CONFIG_REAL, IN_CRASH(seconds), .least = 0, .most = 1e9,
     .fallback = "0", .help = "of training, before which it does not happen"},
    {"crashes", "phase", GWTF_CONFIG_WORD, IN_CRASH(phase), .words = phase_words, .fallback = "any",
     .help = "what the node is at"},
    {"crashes", "every", GWTF_CONFIG_REAL, IN_CRASH(every), .least = 0, .most = 1e9,
     .fallback = "0", .help = "seconds, after which it happens again; 0: once"},
    {"crashes", "random", GWTF_CONFIG_FLAG, IN_CRASH(random), .fallback = "false",
     .help = "moments are random: every is the mean"},
    {"crashes", "stopped_seconds", GWTF_CONFIG_REAL, IN_CRASH(stopped_seconds), .least = 0,
     .above = true, .most = 1e6, .fallback = "5", .help = "how long a stop lasts"},
    {"crashes", "seed", GWTF_CONFIG_SEED, IN_CRASH(seed), .least = 0, .most = SEED_MAX,
     .fallback = "1", .help = "of what is drawn"},
};
/* clang-format on */

const size_t gwtf_config_keys_count = sizeof gwtf_config_keys / sizeof gwtf_config_keys[0];
_Static_assert(sizeof gwtf_config_keys / sizeof gwtf_config_keys[0] <= GWTF_CONFIG_KEYS_MAX,
               "raise GWTF_CONFIG_KEYS_MAX");

static const struct gwtf_config_list lists[] = {
    {.section = "nodes",
     .offset = IN(nodes),
     .count_offset = IN(nodes_count),
     .entry_bytes = sizeof(struct gwtf_config_node),
     .entries_max = GWTF_CONFIG_NODES_MAX,
     .entry_example = "{ role = \"relay\"; count = 2; }"},
    {.section = "link_faults",
     .offset = IN(link_faults),
     .count_offset = IN(link_faults_count),
     .entry_bytes = sizeof(struct gwtf_config_link_fault),
     .entries_max = GWTF_CONFIG_LINK_FAULTS_MAX,
     .entry_example = "{ iteration = 10; node = 3; factor = 20.0; }"},
    {.section = "crashes",
     .offset = IN(crashes),
     .count_offset = IN(crashes_count),
     .entry_bytes = sizeof(struct gwtf_config_crash),
     .entries_max = GWTF_CONFIG_CRASHES_MAX,
     .entry_example = "{ iteration = 10; node = 3; phase = \"backward\"; }"},
};

const struct gwtf_config_schema gwtf_config_schema = {
    .sections = gwtf_config_sections,
    .keys = gwtf_config_keys,
    .keys_count = sizeof gwtf_config_keys / sizeof gwtf_config_keys[0],
    .lists = lists,
    .lists_count = sizeof lists / sizeof lists[0],
    .bytes = sizeof(struct gwtf_config),
    .check = gwtf_config_check,
};

int gwtf_config_find_key(const struct gwtf_config_schema *schema, const char *section,
                         const char *name) {
    for (size_t i = 0; i < schema->keys_count; i++)
        if (strcmp(schema->keys[i].section, section) == 0 &&
            strcmp(schema->keys[i].name, name) == 0)
            return (int)i;
    return -1;
}

void gwtf_config_range_text(const struct gwtf_config_key *key, char *text, size_t size) {
    bool open_end = key->type == GWTF_CONFIG_REAL && key->most >= REAL_MAX;
    if (open_end && key->above)
        snprintf(text, size, "above %g", key->least);
    else if (open_end)
        snprintf(text, size, "from %g on", key->least);
    else if (key->below)
        snprintf(text, size, "from %g to below %g", key->least, key->most);
    else if (key->type == GWTF_CONFIG_SEED)
        snprintf(text, size, "from 0 to 9223372036854775807");
    else
        snprintf(text, size, "from %.0f to %.0f", key->least, key->most);
}

bool gwtf_config_read_device(const char *word, enum gwtf_config_node_device *device) {
    for (size_t i = 0; node_device_words[i] != NULL; i++)
        if (strcmp(word, node_device_words[i]) == 0) {
            *device = (enum gwtf_config_node_device)i;
            return true;
        }
    return false;
}

const char *gwtf_config_device_word(enum gwtf_config_device device) {
    return device_words[device];
}

void gwtf_config_set_device(struct gwtf_config *config, enum gwtf_config_node_device device) {
    static const enum gwtf_config_device devices[] = {
        [GWTF_CONFIG_NODE_DEVICE_AUTO] = GWTF_CONFIG_DEVICE_AUTO,
        [GWTF_CONFIG_NODE_DEVICE_CPU] = GWTF_CONFIG_DEVICE_CPU,
        [GWTF_CONFIG_NODE_DEVICE_CUDA] = GWTF_CONFIG_DEVICE_CUDA,
    };
    if (device != GWTF_CONFIG_NODE_DEVICE_RUN)
        config->backend.device = devices[device];
}
