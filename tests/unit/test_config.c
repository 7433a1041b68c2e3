#include "io/config.h"
#include "io/config_table.h"
#include "share/base/random.h"
#include "tests/support/refusal.h"
#include "tests/support/suite.h"
#include "tests/support/temporary.h"

#include <stddef.h>

/* A whole configuration, one key a line, so that a wrong one has a line of its own. */
static const char small[] = "run = {\n"
                            "  directory = \"runs/small\";\n"
                            "  seed = 7;\n"
                            "  iterations = 20;\n"
                            "};\n"
                            "model = {\n"
                            "  family = \"gpt2\";\n"
                            "  layers = 6;\n"
                            "  width = 64;\n"
                            "  heads = 4;\n"
                            "  context = 32;\n"
                            "};\n"
                            "data = {\n"
                            "  train = \"train.h5\";\n"
                            "};\n"
                            "batch = {\n"
                            "  microbatch = 2;\n"
                            "  microbatches = 4;\n"
                            "};\n"
                            "pipeline = {\n"
                            "  stages = 3;\n"
                            "};\n"
                            "nodes = (\n"
                            "  { role = \"data\"; },\n"
                            "  { role = \"relay\"; count = 6; capacity = 4; }\n"
                            ");\n"
                            "optimizer = {\n"
                            "  learning_rate = 1e-3;\n"
                            "};\n";

/* libconfig 1.5 loses the text of a string when the line after it is wrong. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:strbuf_append";
}

/* Large: never on the stack of a test. */
static struct gwtf_config config, other;
static struct gwtf_error error;

static gwtf_status parse(const char *text, const char *override) {
    error.text[0] = '\0';
    return gwtf_config_parse(text, "small.cfg", &override, override != NULL, &config, &error);
}

/* SMALL with the first FROM made TO; the caller frees. */
static char *changed(const char *from, const char *to) {
    size_t size = sizeof small + strlen(to) + 1;
    char *text = malloc(size);
    refusal_make(small, from, to, text, size);
    return text;
}

static void link_faults_survive_being_written(void) {
    const char *overrides[] = {
        "network.emulate=two.cfg", "nodes.1.region=Tokyo",
        "link_faults=( { node = 3; factor = 20.0; }, { iteration = 4; kind = \"cut\"; region = "
        "\"Oregon\"; heal_after = 2; } )",
        "link_faults.0.peer=2"};
    char *text = NULL;
    CU_ASSERT_EQUAL_FATAL(gwtf_config_parse(small, "small.cfg", overrides, 4, &config, &error),
                          GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_config_text(&config, &text), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_config_parse(text, "text", NULL, 0, &other, &error), GWTF_OK);
    free(text);
    CU_ASSERT_STRING_EQUAL(other.network.emulate, "two.cfg");
    CU_ASSERT_STRING_EQUAL(other.nodes[1].region, "Tokyo");
    CU_ASSERT_EQUAL_FATAL(other.link_faults_count, 2);
    CU_ASSERT_EQUAL(other.link_faults[0].node, 3);
    CU_ASSERT_EQUAL(other.link_faults[0].peer, 2);
    CU_ASSERT_EQUAL(other.link_faults[0].factor, 20);
    CU_ASSERT_EQUAL(other.link_faults[0].latency_ms, -1);
    CU_ASSERT_EQUAL(other.link_faults[1].node, GWTF_CONFIG_ANY_NODE);
    CU_ASSERT_EQUAL(other.link_faults[1].kind, GWTF_CONFIG_LINK_CUT);
    CU_ASSERT_EQUAL(other.link_faults[1].heal_after, 2);
    CU_ASSERT_STRING_EQUAL(other.link_faults[1].region, "Oregon");
}

static void files_to_train_on_are_one_or_a_list_or_a_pattern(void) {
    static const struct {
        const char *override, *expected;
    } good[] = {
        {"data.train=( \"a.h5\", \"b b.bin\", \"c/*.bin\" )", "a.h5\nb b.bin\nc/*.bin"},
        {"data.train=[ \"a.h5\", \"b\" ]", "a.h5\nb"},
        {"data.train=\"a.h5\"", "a.h5"},
        {"data.train=a-b.h5", "a-b.h5"},
        {"data.train=12", "12"},
        {"data.train=[ab]*.bin", "[ab]*.bin"},
        {"data.train=( \"a\" )", "a"},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        char *text = NULL;
        CU_ASSERT_EQUAL_FATAL(parse(small, good[i].override), GWTF_OK);
        CU_ASSERT_STRING_EQUAL(config.data.train, good[i].expected);
        CU_ASSERT_EQUAL_FATAL(gwtf_config_text(&config, &text), GWTF_OK);
        CU_ASSERT_EQUAL_FATAL(gwtf_config_parse(text, "text", NULL, 0, &other, &error), GWTF_OK);
        CU_ASSERT_STRING_EQUAL(other.data.train, good[i].expected);
        free(text);
    }
    static const struct {
        const char *override, *expected;
    } bad[] = {
        {"data.train=( )", "data.train is empty"},
        {"data.train=( \"a\", 5 )", "data.train has something that is no string"},
        {"data.train=( \"a\", \"\" )", "data.train is empty"},
        {"data.train=( \"a\\nb\", \"c\" )", "data.train has a line break"},
        {"data.train={ a = 1; }", "data.train is a group: give a string in quotation marks, or ("},
        {"data.order=sorted", "data.order is \"sorted\": give \"shuffled\" or \"sequential\""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CU_ASSERT_EQUAL(parse(small, bad[i].override), GWTF_ERROR_USAGE);
        refusal_expect(error.text, bad[i].expected);
    }
    char *text = changed("\"train.h5\"", "[ \"a.h5\", \"b.h5\" ]");
    CU_ASSERT_EQUAL(parse(text, NULL), GWTF_OK);
    CU_ASSERT_STRING_EQUAL(config.data.train, "a.h5\nb.h5");
    free(text);
}

static void faults_need_known_nodes_and_regions_a_network(void) {
    CU_ASSERT_EQUAL(parse(small, "link_faults=( { node = 3; } )"), GWTF_OK);
    CU_ASSERT_EQUAL(parse(small, "link_faults=( { peer_region = \"Oregon\"; } )"),
                    GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "network = { emulate"));
    const char *overrides[] = {"network.emulate=two.cfg", "link_faults=( { peer = 7; } )"};
    CU_ASSERT_EQUAL(gwtf_config_parse(small, "small.cfg", overrides, 2, &config, &error),
                    GWTF_ERROR_USAGE);
    CU_ASSERT_STRING_EQUAL(error.text,
                           "--set link_faults=( { peer = 7; } ): link_faults.0.peer is 7, but the "
                           "nodes are 0 to 6: the data nodes first, then the relays, in the order "
                           "of nodes");
    CU_ASSERT_EQUAL(parse(small, "crashes=( { node = 6; }, { node = 7; } )"), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "crashes.1.node is 7"));
}

static void faults_at_random_moments_have_a_mean_and_those_that_recur_an_end(void) {
    CU_ASSERT_EQUAL(parse(small, "crashes=( { random = true; every = 3.0; } )"), GWTF_OK);
    CU_ASSERT_EQUAL(parse(small, "crashes=( { random = true; } )"), GWTF_ERROR_USAGE);
    CU_ASSERT_STRING_EQUAL(error.text, "--set crashes=( { random = true; } ): crashes.0.random is "
                                       "true, but every is 0: give the mean of the pauses, like "
                                       "every = 10.0");
    CU_ASSERT_EQUAL(parse(small, "link_faults=( { random = true; } )"), GWTF_ERROR_USAGE);
    CU_ASSERT_EQUAL(parse(small, "link_faults=( { every = 3.0; heal_seconds = 1.0; } )"), GWTF_OK);
    CU_ASSERT_EQUAL(parse(small, "link_faults=( { draw = 2; every = 3.0; } )"), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "link_faults.0 happens every 3 s, but never ends: "
                                              "give how long it lasts, like heal_seconds = 1.5"));
}

static void crashes_survive_being_written(void) {
    char *text = NULL;
    CU_ASSERT_EQUAL_FATAL(parse(small, "crashes=( { every = 2.5; seed = 9; }, { node = 4; kind = "
                                       "\"stop\"; phase = \"aggregation\"; iteration = 8; } )"),
                          GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_config_text(&config, &text), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_config_parse(text, "text", NULL, 0, &other, &error), GWTF_OK);
    free(text);
    CU_ASSERT_EQUAL_FATAL(other.crashes_count, 2);
    CU_ASSERT_EQUAL(other.crashes[0].kind, GWTF_CONFIG_CRASH_KILL);
    CU_ASSERT_EQUAL(other.crashes[0].node, GWTF_CONFIG_ANY_NODE);
    CU_ASSERT_EQUAL(other.crashes[0].every, 2.5);
    CU_ASSERT_EQUAL(other.crashes[0].seed, 9);
    CU_ASSERT_EQUAL(other.crashes[0].phase, GWTF_CONFIG_PHASE_ANY);
    CU_ASSERT_EQUAL(other.crashes[1].kind, GWTF_CONFIG_CRASH_STOP);
    CU_ASSERT_EQUAL(other.crashes[1].node, 4);
    CU_ASSERT_EQUAL(other.crashes[1].iteration, 8);
    CU_ASSERT_EQUAL(other.crashes[1].phase, GWTF_CONFIG_PHASE_AGGREGATION);
    CU_ASSERT_EQUAL(other.crashes[1].stopped_seconds, 5);
}

static void words_about_faults_survive_being_written(void) {
    char *text = NULL;
    CU_ASSERT_EQUAL_FATAL(parse(small, "faults.detector=\"heartbeat\""), GWTF_OK);
    CU_ASSERT_EQUAL(config.faults.detector, GWTF_CONFIG_DETECTOR_HEARTBEAT);
    CU_ASSERT_EQUAL(config.faults.repair, GWTF_CONFIG_REPAIR_EXACT);
    CU_ASSERT_EQUAL_FATAL(parse(small, "faults={ detector = \"off\"; repair = \"restart\"; }"),
                          GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_config_text(&config, &text), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_config_parse(text, "text", NULL, 0, &other, &error), GWTF_OK);
    free(text);
    CU_ASSERT_EQUAL(other.faults.detector, GWTF_CONFIG_DETECTOR_OFF);
    CU_ASSERT_EQUAL(other.faults.repair, GWTF_CONFIG_REPAIR_RESTART);
    CU_ASSERT_EQUAL(parse(small, "faults.detector=\"ulfm\""), GWTF_ERROR_USAGE);
}

static void left_out_keys_get_their_defaults(void) {
    CU_ASSERT_EQUAL_FATAL(parse(small, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(config.faults.detector, GWTF_CONFIG_DETECTOR_AUTO);
    CU_ASSERT_STRING_EQUAL(config.run.directory, "runs/small");
    CU_ASSERT_EQUAL(config.run.seed, 7);
    CU_ASSERT_EQUAL(config.model.family, GWTF_CONFIG_FAMILY_GPT2);
    CU_ASSERT_EQUAL(config.model.layers, 6);
    CU_ASSERT_EQUAL(config.model.vocabulary, 0);
    CU_ASSERT_TRUE(config.model.tied_head);
    CU_ASSERT_STRING_EQUAL(config.data.validation, "");
    CU_ASSERT_EQUAL(config.data.validation_sequences, 256);
    CU_ASSERT_EQUAL(config.nodes_count, 2);
    CU_ASSERT_EQUAL(config.nodes[0].role, GWTF_CONFIG_ROLE_DATA);
    CU_ASSERT_EQUAL(config.nodes[0].count, 1);
    CU_ASSERT_EQUAL(config.nodes[1].count, 6);
    CU_ASSERT_EQUAL(config.nodes[1].capacity, 4);
    CU_ASSERT_EQUAL(config.optimizer.learning_rate, 1e-3);
    CU_ASSERT_DOUBLE_EQUAL(config.optimizer.minimum, 1e-4, 1e-18);
    CU_ASSERT_EQUAL(config.optimizer.decay, GWTF_CONFIG_DECAY_COSINE);
    CU_ASSERT_EQUAL(config.optimizer.beta2, 0.95);
    CU_ASSERT_EQUAL(config.snapshot.keep, 3);
    CU_ASSERT_EQUAL(config.backend.kernels, GWTF_CONFIG_KERNELS_ONEDNN);
    CU_ASSERT_EQUAL(gwtf_config_count(&config, GWTF_CONFIG_ROLE_RELAY), 6);
    CU_ASSERT_EQUAL(gwtf_config_count(&config, GWTF_CONFIG_ROLE_DATA), 1);
}

/* Each: what is changed, and what the line must begin with and hold. */
static const struct bad {
    const char *from, *to, *begins, *holds;
} bads[] = {
    {"layers = 6", "layres = 6", "small.cfg:8: ", "did you mean 'model.layers'?"},
    {"model = {", "modle = {", "small.cfg:6: ", "did you mean 'model'?"},
    {"stages = 3", "layers = 3", "small.cfg:21: ", "belongs in 'model'"},
    {"layers = 6", "layers = \"six\"", "small.cfg:8: ", "model.layers is a string"},
    {"layers = 6", "layers = 6.5", "small.cfg:8: ", "a number with a fraction"},
    {"layers = 6", "layers = 0", "small.cfg:8: ", "from 1 to 4096"},
    {"layers = 6", "layers = -1", "small.cfg:8: ", "model.layers is -1"},
    {"layers = 6", "layers = 5000", "small.cfg:8: ", "from 1 to 4096"},
    {"layers = 6", "layers = 4294967302", "small.cfg:8: ", "model.layers is 4294967302"},
    {"layers = 6", "layers = 0x100000006", "small.cfg:8: ", "model.layers is 4294967302"},
    {"layers = 6", "layers = 18446744073709551622", "small.cfg:8: ", "too large"},
    {"layers = 6", "layers = { a = 1; }", "small.cfg:8: ", "a group"},
    {"layers = 6", "layers = true", "small.cfg:8: ", "true or false"},
    {"layers = 6;", "layers = 6;\n  layers = 6;", "small.cfg:9: ", "duplicate"},
    {"  layers = 6;\n", "", "small.cfg:6: ", "model.layers is missing"},
    {"heads = 4", "heads = 5", "small.cfg:10: ", "does not divide model.width 64"},
    {"stages = 3", "stages = 7", "small.cfg:21: ", "more than the 6 of model.layers"},
    {"count = 6", "count = 2", "small.cfg:23: ", "2 relays for 3 stages"},
    {"role = \"data\"", "role = \"relay\"", "small.cfg:23: ", "no data node"},
    {"capacity = 4", "stage = 4", "small.cfg:25: ", "pipeline.stages is 3"},
    {"pipeline = {", "flow = { policy = \"static\"; };\npipeline = {",
     "small.cfg:20: ", "nobody assigns"},
    {"pipeline = {", "flow = { policy = \"swarm\"; objective = \"max\"; };\npipeline = {",
     "small.cfg:20: ", "which \"gwtf\" and \"gwtf-paper\" alone can do"},
    {"capacity = 4", "stage = 2", "small.cfg:23: ", "stage 1 has no relay"},
    {"role = \"data\";", "role = \"data\"; stage = 1;", "small.cfg:24: ", "data nodes have no"},
    {"role = \"data\";", "role = \"date\";", "small.cfg:24: ", "did you mean \"data\"?"},
    {"role = \"data\";", "", "small.cfg:24: ", "nodes.0.role is missing"},
    {"count = 6", "cuont = 6", "small.cfg:25: ", "did you mean 'nodes.count'?"},
    {"{ role = \"data\"; },", "3,", "small.cfg:24: ", "nodes.0 is not a group"},
    {"nodes = (\n", "nodes = { a = (\n", "small.cfg:30: ", "check this line"},
    {"learning_rate = 1e-3", "learning_rate = 0", "small.cfg:28: ", "above 0"},
    {"learning_rate = 1e-3", "learning_rate = 1e999", "small.cfg:28: ", "inf"},
    {"learning_rate = 1e-3", "minimum = 1.0", "small.cfg:28: ", "above optimizer.learning_rate"},
    {"learning_rate = 1e-3", "beta1 = 1", "small.cfg:28: ", "from 0 to below 1"},
    {"learning_rate = 1e-3", "name = \"sgd\"", "small.cfg:28: ", "\"adamw\""},
    {"learning_rate = 1e-3", "decay = \"cosin\"", "small.cfg:28: ", "did you mean \"cosine\"?"},
    {"seed = 7", "seed = -7", "small.cfg:3: ", "run.seed is -7"},
    {"seed = 7", "seed = 9223372036854775808", "small.cfg:3: ", "too large"},
    {"\"runs/small\"", "\"\"", "small.cfg:2: ", "run.directory is empty"},
    {"\"runs/small\"", "\"runs/small", "small.cfg:2: ", "never ends"},
    {"seed = 7;", "/* seed", "small.cfg:3: ", "never ends"},
    {"seed = 7;", "@include \"x\"", "small.cfg:3: ", "@include"},
    {"seed = 7;", "seed = = 7;", "small.cfg:3: ", "syntax error"},
    {"optimizer = {", "backend = { precision = \"float16\"; }; o = {",
     "small.cfg:27: ", "\"float32\""},
    {"optimizer = {", "faults = { repair = \"exact\"; }; o = {", "small.cfg:27: ", "unknown key"},
};

static void every_wrong_key_gets_one_line_with_its_place(void) {
    for (size_t i = 0; i < sizeof bads / sizeof bads[0]; i++) {
        char *text = changed(bads[i].from, bads[i].to);
        memset(&config, 0x5a, sizeof config);
        gwtf_status status = parse(text, NULL);
        bool good = status == GWTF_ERROR_USAGE &&
                    strncmp(error.text, bads[i].begins, strlen(bads[i].begins)) == 0 &&
                    strstr(error.text, bads[i].holds) != NULL && strchr(error.text, '\n') == NULL;
        if (!good)
            printf("\n'%s' -> '%s': status %d, line: %s\n", bads[i].from, bads[i].to, (int)status,
                   error.text);
        CU_ASSERT_TRUE(good);
        /* Untouched on failure. */
        CU_ASSERT_EQUAL(config.model.layers, 0x5a5a5a5a);
        free(text);
    }
}

static void whole_sections_that_are_missing_are_named(void) {
    CU_ASSERT_EQUAL(parse("", NULL), GWTF_ERROR_USAGE);
    CU_ASSERT_STRING_EQUAL(error.text, "small.cfg:1: run.directory is missing: give a string in "
                                       "quotation marks (where the run keeps its files)");
    char *text = changed("nodes = (", "/*");
    char *end = strstr(text, ");\n");
    memcpy(end, "*/", 2);
    CU_ASSERT_EQUAL(parse(text, NULL), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "small.cfg:29: nodes is missing"));
    free(text);
}

static void too_many_entries_of_nodes_are_refused(void) {
    size_t size = 64 * (GWTF_CONFIG_NODES_MAX + 2);
    char *text = malloc(size), *at = text;
    at += sprintf(at, "nodes = (\n");
    for (int i = 0; i <= GWTF_CONFIG_NODES_MAX; i++)
        at += sprintf(at, "{ role = \"data\"; }%s", i < GWTF_CONFIG_NODES_MAX ? "," : ");");
    CU_ASSERT_EQUAL(parse(text, NULL), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "257 entries"));
    free(text);
}

static void whole_numbers_beyond_32_bits_keep_their_value(void) {
    char *text = changed("seed = 7", "seed = 3000000000");
    CU_ASSERT_EQUAL(parse(text, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(config.run.seed, 3000000000u);
    free(text);
    text = changed("iterations = 20", "iterations = 0xFFFFFFFF");
    CU_ASSERT_EQUAL(parse(text, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(config.run.iterations, 4294967295u);
    free(text);
}

static void numbers_in_strings_and_comments_stay_as_they_are(void) {
    char *text = changed("\"runs/small\";", "\"9999999999\"; # 99999999999999999999 \"\n // '\"\n"
                                            "/* 99999999999999999999 */");
    CU_ASSERT_EQUAL(parse(text, NULL), GWTF_OK);
    CU_ASSERT_STRING_EQUAL(config.run.directory, "9999999999");
    free(text);
}

static void a_float_may_be_written_as_a_whole_number(void) {
    char *text = changed("1e-3", "3");
    CU_ASSERT_EQUAL(parse(text, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(config.optimizer.learning_rate, 3.0);
    free(text);
    text = changed("1e-3", "3000000000.5");
    CU_ASSERT_EQUAL(parse(text, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(config.optimizer.learning_rate, 3000000000.5);
    free(text);
}

static void a_preset_says_what_the_keys_do_not(void) {
    char *text =
        changed("  layers = 6;\n  width = 64;\n  heads = 4;\n", "  preset = \"llama-1b\";\n");
    char *bare = changed("  family = \"gpt2\";\n", "");
    CU_ASSERT_EQUAL_FATAL(parse(text, NULL), GWTF_OK);
    /* The family and the context are given; so what goes with a LLaMA does not follow. */
    CU_ASSERT_EQUAL(config.model.family, GWTF_CONFIG_FAMILY_GPT2);
    CU_ASSERT_EQUAL(config.model.layers, 22);
    CU_ASSERT_EQUAL(config.model.heads, 32);
    CU_ASSERT_EQUAL(config.model.key_value_heads, 0);
    CU_ASSERT_EQUAL(config.model.hidden, 0);
    CU_ASSERT_EQUAL(config.model.context, 32);
    CU_ASSERT_TRUE(config.model.tied_head);
    CU_ASSERT_EQUAL_FATAL(parse(text, "model.family=llama"), GWTF_OK);
    CU_ASSERT_EQUAL(config.model.key_value_heads, 4);
    CU_ASSERT_EQUAL(config.model.hidden, 5632);
    CU_ASSERT_EQUAL(config.model.vocabulary, 32000);
    CU_ASSERT_FALSE(config.model.tied_head);
    CU_ASSERT_EQUAL_FATAL(parse(text, "model={ family = \"llama\"; width = 64; vocabulary = 0; }"),
                          GWTF_OK);
    CU_ASSERT_EQUAL(config.model.hidden, 0);
    CU_ASSERT_EQUAL(config.model.vocabulary, 0);
    CU_ASSERT_EQUAL_FATAL(parse(bare, "model.preset=llama-124m"), GWTF_OK);
    CU_ASSERT_EQUAL(config.model.family, GWTF_CONFIG_FAMILY_LLAMA);
    CU_ASSERT_TRUE(config.model.tied_head);
    CU_ASSERT_EQUAL(config.model.layers, 6);
    /* What is written has it all, and reads back the same. */
    char *written = NULL;
    CU_ASSERT_EQUAL_FATAL(gwtf_config_text(&config, &written), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_config_parse(written, "text", NULL, 0, &other, &error), GWTF_OK);
    CU_ASSERT_EQUAL(memcmp(&config.model, &other.model, sizeof config.model), 0);
    CU_ASSERT_EQUAL(parse(text, "model.preset=llama-125m"), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "did you mean \"llama-124m\"?"));
    free(written);
    free(bare);
    free(text);
}

static void a_llama_has_its_own_defaults_and_limits(void) {
    static const struct {
        const char *family, *override, *holds;
    } cases[] = {
        {"llama", "model.key_value_heads=3",
         "does not divide model.heads 4: give a divisor, like 2"},
        {"llama", "model={ width = 60; heads = 4; }", "an odd share, 15,"},
        {"llama", "model.rope_theta=0.5", "model.rope_theta is 0.5: give a number from 1"},
        {"llama", "model.norm_epsilon=0", "model.norm_epsilon is 0"},
        {"llama", "model.hidden=-1", "model.hidden is -1"},
        {"gpt2", "model.key_value_heads=2", "gpt2 has as many as model.heads"},
        {"gpt2", "model.rope_theta=500", "gpt2 learns its positions"},
    };
    CU_ASSERT_EQUAL_FATAL(parse(small, "model.family=llama"), GWTF_OK);
    CU_ASSERT_FALSE(config.model.tied_head);
    CU_ASSERT_EQUAL(config.model.key_value_heads, 0);
    CU_ASSERT_EQUAL(config.model.hidden, 0);
    CU_ASSERT_EQUAL(config.model.rope_theta, 10000);
    CU_ASSERT_EQUAL(config.model.norm_epsilon, 1e-5);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char family[64];
        snprintf(family, sizeof family, "model.family=%s", cases[i].family);
        const char *const overrides[] = {family, cases[i].override};
        CU_ASSERT_EQUAL(gwtf_config_parse(small, "small.cfg", overrides, 2, &config, &error),
                        GWTF_ERROR_USAGE);
        if (strstr(error.text, cases[i].holds) == NULL)
            printf("\n%s: %s\n", cases[i].override, error.text);
        CU_ASSERT_PTR_NOT_NULL(strstr(error.text, cases[i].holds));
    }
}

static void overrides_replace_values(void) {
    const char *const overrides[] = {"optimizer.learning_rate=2e-3",
                                     "nodes.1.count=4",
                                     "run.directory=runs/42",
                                     "data.validation=42",
                                     "optimizer.decay=linear",
                                     "model.tied_head = false",
                                     "run.seed=3000000000",
                                     "batch={ microbatch = 8; }",
                                     "nodes.1={ role = \"relay\"; stage = 0; }"};
    CU_ASSERT_EQUAL_FATAL(gwtf_config_parse(small, "small.cfg", overrides,
                                            sizeof overrides / sizeof overrides[0], &config,
                                            &error),
                          GWTF_OK);
    CU_ASSERT_EQUAL(config.optimizer.learning_rate, 2e-3);
    CU_ASSERT_DOUBLE_EQUAL(config.optimizer.minimum, 2e-4, 1e-18);
    CU_ASSERT_EQUAL(config.nodes[1].count, 4);
    CU_ASSERT_STRING_EQUAL(config.run.directory, "runs/42");
    CU_ASSERT_STRING_EQUAL(config.data.validation, "42");
    CU_ASSERT_EQUAL(config.optimizer.decay, GWTF_CONFIG_DECAY_LINEAR);
    CU_ASSERT_FALSE(config.model.tied_head);
    CU_ASSERT_EQUAL(config.run.seed, 3000000000u);
    CU_ASSERT_EQUAL(config.batch.microbatch, 8);
    CU_ASSERT_EQUAL(config.batch.microbatches, 4);
    CU_ASSERT_EQUAL(parse(small, "nodes=({role=\"data\";},{role=\"relay\";count=3;})"), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_config_count(&config, GWTF_CONFIG_ROLE_RELAY), 3);
    CU_ASSERT_EQUAL(config.nodes[1].capacity, 0);
}

static void an_override_can_supply_what_is_required(void) {
    char *text = changed("  layers = 6;\n", "");
    CU_ASSERT_EQUAL(parse(text, "model.layers=3"), GWTF_OK);
    CU_ASSERT_EQUAL(config.model.layers, 3);
    free(text);
}

static void wrong_overrides_are_named(void) {
    static const struct {
        const char *override, *holds;
    } cases[] = {
        {"model.layers", "there is no '='"},
        {"=3", "is not the path"},
        {"model.=3", "is not the path"},
        {"model..layers=3", "is not the path"},
        {"model.layers.x=3", "is not the path"},
        {"modle.layers=3", "did you mean 'model'?"},
        {"model.layrs=3", "did you mean 'model.layers'?"},
        {"model.layers=abc", "model.layers is a string"},
        {"model.layers=3; x = 4", "model.layers is a string"},
        {"model.layers=", "model.layers is a string"},
        {"model.layers=0", "from 1 to 4096"},
        {"nodes.2.count=1", "there is no nodes.2"},
        {"nodes.x.count=1", "there is no nodes.x"},
        {"nodes.1.count=0", "nodes.1.count is 0"},
        {"nodes.1.host=\"a", "quotation marks"},
        {"model=3", "is not a group"},
        {"model=x", "not a libconfig value"},
        {"model.heads=3", "does not divide"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gwtf_status status = parse(small, cases[i].override);
        bool good = status == GWTF_ERROR_USAGE && strncmp(error.text, "--set ", 6) == 0 &&
                    strstr(error.text, cases[i].holds) != NULL;
        if (!good)
            printf("\n%s: %d %s\n", cases[i].override, (int)status, error.text);
        CU_ASSERT_TRUE(good);
    }
}

/* Equal in what the table knows and in the counts. */
static bool equal(const struct gwtf_config *a, const struct gwtf_config *b) {
    char *one = NULL, *two = NULL;
    bool same = gwtf_config_text(a, &one) == GWTF_OK && gwtf_config_text(b, &two) == GWTF_OK &&
                strcmp(one, two) == 0 && a->nodes_count == b->nodes_count &&
                memcmp(&a->optimizer, &b->optimizer, sizeof a->optimizer) == 0;
    free(one);
    free(two);
    return same;
}

static void the_written_text_reads_back_equal(void) {
    const char *const overrides[] = {"run.directory=\"a \\\"b\\\" \\\\new \\x01 c\"",
                                     "optimizer.learning_rate=0.1234567890123456789",
                                     "optimizer.epsilon=1.7e-300",
                                     "run.seed=9223372036854775807",
                                     "run.iterations=4294967295",
                                     "optimizer.weight_decay=3",
                                     "nodes.1.host=uni1",
                                     "flow.policy=gwtf-paper",
                                     "flow.view=7"};
    CU_ASSERT_EQUAL_FATAL(gwtf_config_parse(small, "small.cfg", overrides,
                                            sizeof overrides / sizeof overrides[0], &config,
                                            &error),
                          GWTF_OK);
    char *text = NULL;
    CU_ASSERT_EQUAL_FATAL(gwtf_config_text(&config, &text), GWTF_OK);
    memset(&other, 0, sizeof other);
    CU_ASSERT_EQUAL(gwtf_config_parse(text, "written", NULL, 0, &other, &error), GWTF_OK);
    CU_ASSERT_TRUE(equal(&config, &other));
    CU_ASSERT_STRING_EQUAL(other.run.directory, "a \"b\" \\new \x01 c");
    CU_ASSERT_EQUAL(other.run.seed, INT64_MAX);
    CU_ASSERT_EQUAL(other.run.iterations, UINT32_MAX);
    CU_ASSERT_EQUAL(other.optimizer.epsilon, 1.7e-300);
    CU_ASSERT_EQUAL(other.optimizer.learning_rate, config.optimizer.learning_rate);
    CU_ASSERT_STRING_EQUAL(other.nodes[1].host, "uni1");
    CU_ASSERT_EQUAL(other.flow.policy, GWTF_FLOW_POLICY_GWTF_PAPER);
    CU_ASSERT_EQUAL(other.flow.view, 7);
    free(text);
}

static void a_file_that_cannot_be_read_is_bad_usage(void) {
    const char *path = temporary_path("absent.cfg");
    CU_ASSERT_EQUAL(gwtf_config_load(path, NULL, 0, &config, &error), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "absent.cfg"));
    CU_ASSERT_EQUAL(gwtf_config_load(temporary_directory, NULL, 0, &config, &error),
                    GWTF_ERROR_USAGE);
    path = temporary_path("binary.cfg");
    CU_ASSERT_TRUE(temporary_write(path, "run = {\0};", 10));
    CU_ASSERT_EQUAL(gwtf_config_load(path, NULL, 0, &config, &error), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "not a text file"));
    path = temporary_path("good.cfg");
    CU_ASSERT_TRUE(temporary_write(path, small, sizeof small - 1));
    CU_ASSERT_EQUAL(gwtf_config_load(path, NULL, 0, &config, &error), GWTF_OK);
}

static void mutated_text_never_crashes_and_errors_are_one_line(void) {
    static const char pieces[][8] = {"{", "}", "(", ")",  ";",  "\"", "=",   ",",   "L", "0x",
                                     "9", "-", ".", "/*", "*/", "#",  "\\x", "[1]", "@", "e"};
    struct gwtf_random random;
    gwtf_random_init(&random, 20);
    int good = 0, bad = 0;
    for (int round = 0; round < 4000; round++) {
        char text[2 * sizeof small];
        size_t length = sizeof small - 1;
        memcpy(text, small, sizeof small);
        for (uint64_t change = gwtf_random_below(&random, 4) + 1; change > 0; change--) {
            size_t at = gwtf_random_below(&random, length);
            const char *piece = pieces[gwtf_random_below(&random, 20)];
            size_t size = strlen(piece), cut = gwtf_random_below(&random, length - at);
            switch (gwtf_random_below(&random, 4)) {
            case 0: /* a bit */
                text[at] = (char)(text[at] ^ (1 << gwtf_random_below(&random, 7)));
                break;
            case 1: /* a piece of syntax */
                memmove(text + at + size, text + at, length - at);
                memcpy(text + at, piece, size);
                length += size;
                break;
            case 2: /* a part missing */
                cut = cut > 12 ? 12 : cut;
                memmove(text + at, text + at + cut, length - at - cut);
                length -= cut;
                break;
            default: /* the end missing */
                length = gwtf_random_below(&random, 10) == 0 ? at + 1 : length;
            }
        }
        text[length] = '\0';
        gwtf_status status = parse(text, NULL);
        good += status == GWTF_OK;
        bad += status == GWTF_ERROR_USAGE && strchr(error.text, '\n') == NULL &&
               strstr(error.text, "small.cfg:") == error.text;
        if (status != GWTF_OK && strstr(error.text, "small.cfg:") != error.text)
            printf("\n%s\n", error.text);
    }
    CU_ASSERT_EQUAL(good + bad, 4000);
    /* Both ends are reached: some mutations are harmless, most are not. */
    CU_ASSERT(good > 100 && bad > 1000);
}

static void every_section_of_the_table_is_known_and_every_key_has_help(void) {
    for (size_t i = 0; i < gwtf_config_keys_count; i++) {
        const struct gwtf_config_key *key = &gwtf_config_keys[i];
        bool known = false;
        for (size_t j = 0; gwtf_config_sections[j] != NULL; j++)
            known = known || strcmp(gwtf_config_sections[j], key->section) == 0;
        CU_ASSERT_TRUE(known);
        CU_ASSERT_PTR_NOT_NULL(key->help);
        CU_ASSERT_EQUAL(gwtf_config_find_key(&gwtf_config_schema, key->section, key->name), (int)i);
    }
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(words_about_faults_survive_being_written),
        GWTF_TEST(left_out_keys_get_their_defaults),
        GWTF_TEST(files_to_train_on_are_one_or_a_list_or_a_pattern),
        GWTF_TEST(link_faults_survive_being_written),
        GWTF_TEST(faults_at_random_moments_have_a_mean_and_those_that_recur_an_end),
        GWTF_TEST(crashes_survive_being_written),
        GWTF_TEST(faults_need_known_nodes_and_regions_a_network),
        GWTF_TEST(every_wrong_key_gets_one_line_with_its_place),
        GWTF_TEST(whole_sections_that_are_missing_are_named),
        GWTF_TEST(too_many_entries_of_nodes_are_refused),
        GWTF_TEST(whole_numbers_beyond_32_bits_keep_their_value),
        GWTF_TEST(numbers_in_strings_and_comments_stay_as_they_are),
        GWTF_TEST(a_float_may_be_written_as_a_whole_number),
        GWTF_TEST(a_preset_says_what_the_keys_do_not),
        GWTF_TEST(a_llama_has_its_own_defaults_and_limits),
        GWTF_TEST(overrides_replace_values),
        GWTF_TEST(an_override_can_supply_what_is_required),
        GWTF_TEST(wrong_overrides_are_named),
        GWTF_TEST(the_written_text_reads_back_equal),
        GWTF_TEST(a_file_that_cannot_be_read_is_bad_usage),
        GWTF_TEST(mutated_text_never_crashes_and_errors_are_one_line),
        GWTF_TEST(every_section_of_the_table_is_known_and_every_key_has_help),
    };
    return gwtf_suite_main(argc, argv, "config", tests, sizeof tests / sizeof tests[0],
                           temporary_make, temporary_remove);
}
