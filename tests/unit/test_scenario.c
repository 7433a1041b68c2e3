#include "io/scenario.h"
#include "tests/support/refusal.h"
#include "tests/support/suite.h"
#include "tests/support/temporary.h"

#include <dirent.h>

static const char links[] = "topology = { regions = [ \"Oregon\", \"Tokyo\" ];\n"
                            "  within_region = { latency_ms = 1; bandwidth_mbit = 8000; };\n"
                            "  links = ( { between = [ \"Oregon\", \"Tokyo\" ];\n"
                            "    latency_ms = 96; bandwidth_mbit = 523; } ); };\n";

/* One key a line, so that a wrong one has a line of its own. */
static const char small[] =
    "run = {\n"
    "  iterations = 20;\n"
    "};\n"
    "network = {\n"
    "  topology = \"links.cfg\";\n"
    "};\n"
    "model = {\n"
    "  layers = 6;\n"
    "  width = 64;\n"
    "  context = 32;\n"
    "  vocabulary = 256;\n"
    "};\n"
    "batch = {\n"
    "  microbatch = 2;\n"
    "  microbatches = 4;\n"
    "};\n"
    "pipeline = {\n"
    "  stages = 3;\n"
    "};\n"
    "nodes = (\n"
    "  { role = \"relay\"; region = \"Oregon\"; count = 2; stage = 2;\n"
    "    speed = 1e12; capacity = 2; },\n"
    "  { role = \"data\"; region = \"Tokyo\"; speed = 1e12; capacity = 4; },\n"
    "  { role = \"relay\"; region = \"Tokyo\"; count = 4; speed = 2e12;\n"
    "    capacity = 2; }\n"
    ");\n"
    "crashes = (\n"
    "  { iteration = 3; node = 5; phase = \"backward\"; }\n"
    ");\n"
    "link_faults = (\n"
    "  { iteration = 2; node = 1; },\n"
    "  { iteration = 4; node = 1; peer = 0; kind = \"slow\"; },\n"
    "  { iteration = 5; node = 2; kind = \"cut\"; }\n"
    ");\n";

static struct gwtf_error error;
static struct gwtf_scenario *scenario;

static int make_links(void) {
    return temporary_make() != 0 ||
           !temporary_write(temporary_path("links.cfg"), links, sizeof links - 1);
}

static gwtf_status parse(const char *text, const char *override) {
    error.text[0] = '\0';
    return gwtf_scenario_parse(text, temporary_path("small.cfg"), &override, override != NULL,
                               &scenario, &error);
}

static void what_is_left_out_has_its_default(void) {
    CU_ASSERT_EQUAL_FATAL(parse(small, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(scenario->run.seed, 1);
    CU_ASSERT_EQUAL(scenario->model.family, GWTF_CONFIG_FAMILY_GPT2);
    CU_ASSERT_TRUE(scenario->model.tied_head);
    CU_ASSERT_EQUAL(scenario->flow.policy, GWTF_FLOW_POLICY_GWTF);
    CU_ASSERT_EQUAL(scenario->churn.probability, 0);
    CU_ASSERT_EQUAL(scenario->churn.notice_ms, 1000);
    CU_ASSERT_EQUAL(scenario->crashes[0].phase, GWTF_SCENARIO_PHASE_BACKWARD);
    CU_ASSERT_EQUAL(scenario->crashes[0].return_after, 0);
    CU_ASSERT_EQUAL(scenario->link_faults[0].peer, GWTF_SCENARIO_ALL_PEERS);
    CU_ASSERT_EQUAL(scenario->link_faults[0].kind, GWTF_SCENARIO_LINK_SLOW);
    CU_ASSERT_EQUAL(scenario->link_faults[1].peer, 0);
    CU_ASSERT_EQUAL(scenario->link_faults[2].kind, GWTF_SCENARIO_LINK_CUT);
    CU_ASSERT_EQUAL(scenario->nodes[2].region_index, 1);
    gwtf_scenario_destroy(scenario);
}

static void data_nodes_come_first_and_relays_fill_the_emptiest_stage(void) {
    /* Entry 0 has two relays in stage 2; the four of entry 2 go to 1, 3, 1, 3. */
    static const struct gwtf_scenario_place expected[] = {{1, 0}, {0, 2}, {0, 2}, {2, 1},
                                                          {2, 3}, {2, 1}, {2, 3}};
    CU_ASSERT_EQUAL_FATAL(parse(small, NULL), GWTF_OK);
    struct gwtf_scenario_place places[7];
    gwtf_scenario_place(scenario, places);
    for (size_t i = 0; i < 7; i++) {
        CU_ASSERT_EQUAL(places[i].entry, expected[i].entry);
        CU_ASSERT_EQUAL(places[i].stage, expected[i].stage);
    }
    gwtf_scenario_destroy(scenario);
}

static void a_preset_says_what_the_keys_do_not(void) {
    CU_ASSERT_EQUAL_FATAL(parse(small, "model={ preset = \"llama-7b\"; }"), GWTF_OK);
    /* Given keys stay; the family and what was not given are the preset's. */
    CU_ASSERT_EQUAL(scenario->model.layers, 6);
    CU_ASSERT_EQUAL(scenario->model.family, GWTF_CONFIG_FAMILY_LLAMA);
    CU_ASSERT_FALSE(scenario->model.tied_head);
    /* 8/3 of 64 is 170.7, of which the next multiple of 64 is this. */
    CU_ASSERT_EQUAL(scenario->model.ffn_width, 192);
    gwtf_scenario_destroy(scenario);
    const char *without = strstr(small, "batch = {");
    char text[2 * sizeof small];
    snprintf(text, sizeof text,
             "run = { iterations = 1; }; network = { topology = \"links.cfg\"; };\n"
             "model = { preset = \"llama-7b\"; };\n%s",
             without);
    CU_ASSERT_EQUAL_FATAL(parse(text, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(scenario->model.layers, 32);
    CU_ASSERT_EQUAL(scenario->model.width, 4096);
    CU_ASSERT_EQUAL(scenario->model.ffn_width, 11008);
    CU_ASSERT_EQUAL(scenario->model.vocabulary, 32000);
    gwtf_scenario_destroy(scenario);
}

/* SMALL with the first FROM made TO is refused, and the line has EXPECTED in it. */
static void expect_refused(const char *from, const char *to, const char *expected) {
    char text[2 * sizeof small];
    refusal_make(small, from, to, text, sizeof text);
    CU_ASSERT_EQUAL(parse(text, NULL), GWTF_ERROR_USAGE);
    refusal_expect(error.text, expected);
}

static void wrong_scenarios_get_one_line_with_its_place(void) {
    expect_refused("iterations = 20", "iteration = 20",
                   "small.cfg:2: unknown key 'run.iteration': did you mean 'run.iterations'?");
    expect_refused(
        "network =", "networks =", "small.cfg:4: unknown key 'networks': did you mean 'network'?");
    expect_refused("count = 2;", "count = -2;",
                   "small.cfg:21: nodes.0.count is -2: give a whole number from 1 to 100000");
    expect_refused("speed = 2e12", "speed = 0", "small.cfg:24: nodes.2.speed is 0");
    expect_refused(
        "\"Oregon\"", "\"Oregano\"",
        "small.cfg:21: nodes.0.region: unknown region 'Oregano': did you mean 'Oregon'?");
    expect_refused("links.cfg", "link.cfg", "small.cfg:5: network.topology: cannot open");
    expect_refused("  layers = 6;", "",
                   "small.cfg:7: model.layers is missing: give it, or a model.preset");
    expect_refused("  layers = 6;", "  layers = 2;",
                   "small.cfg:18: pipeline.stages is 3, more than the 2 of model.layers");
    expect_refused("count = 4;", "count = 1;",
                   "small.cfg:20: stage 3 has no relay: add relays (there are 3)");
    expect_refused("role = \"data\"", "role = \"relay\"", "small.cfg:20: there is no data node");
    expect_refused("stage = 2", "stage = 4", "small.cfg:21: nodes.0.stage is 4, but");
    expect_refused("speed = 1e12; capacity = 2", "speed = 1e12",
                   "small.cfg:21: nodes.0 has neither capacity nor memory_gb");
    expect_refused("node = 5", "node = 7",
                   "small.cfg:28: crashes.0.node is 7: give a node from 0 "
                   "to 6");
    expect_refused("node = 5", "node = 0", "small.cfg:28: crashes.0.node is 0, a data node");
    expect_refused("\"backward\"", "\"backwards\"",
                   "small.cfg:28: crashes.0.phase is \"backwards\": did you mean \"backward\"?");
    expect_refused("peer = 0; kind = \"slow\"", "peer = 0; kind = \"cut\"",
                   "small.cfg:32: link_faults.1 cuts one link of a node, which is not simulated");
    expect_refused("node = 2; kind", "node = 0; kind",
                   "small.cfg:33: link_faults.2 cuts a data node off");
    expect_refused("peer = 0", "peer = 1", "small.cfg:32: link_faults.1.peer is the node itself");
    expect_refused("width = 64;", "width = 64; ffn_width = 99;",
                   "small.cfg:9: model.ffn_width is given, but gpt2's");
}

static void an_override_changes_an_entry_of_any_list(void) {
    CU_ASSERT_EQUAL_FATAL(parse(small, "crashes.0.node=3"), GWTF_OK);
    CU_ASSERT_EQUAL(scenario->crashes[0].node, 3);
    gwtf_scenario_destroy(scenario);
    CU_ASSERT_EQUAL(parse(small, "churn.probability=1.5"), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "--set churn.probability=1.5"));
    CU_ASSERT_EQUAL(parse(small, "crashes.1.node=3"), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "there is no crashes.1"));
}

static void every_ready_scenario_is_whole(void) {
    const char *path = GWTF_TEST_SOURCE_DIR "/../../share/scenarios";
    DIR *directory = opendir(path);
    CU_ASSERT_PTR_NOT_NULL_FATAL(directory);
    int count = 0;
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (strstr(entry->d_name, ".cfg") == NULL)
            continue;
        gwtf_status status =
            gwtf_scenario_load(temporary_below(path, entry->d_name), NULL, 0, &scenario, &error);
        CU_ASSERT_EQUAL(status, GWTF_OK);
        if (status != GWTF_OK) {
            printf("\n    %s\n", error.text);
            continue;
        }
        uint32_t nodes = gwtf_scenario_count(scenario, GWTF_CONFIG_ROLE_DATA) +
                         gwtf_scenario_count(scenario, GWTF_CONFIG_ROLE_RELAY);
        unsigned named;
        if (sscanf(entry->d_name, "ten-regions-%u.cfg", &named) == 1)
            CU_ASSERT_EQUAL(nodes, named);
        gwtf_scenario_destroy(scenario);
        count++;
    }
    closedir(directory);
    CU_ASSERT(count >= 7);
}

static const struct gwtf_test tests[] = {
    GWTF_TEST(what_is_left_out_has_its_default),
    GWTF_TEST(data_nodes_come_first_and_relays_fill_the_emptiest_stage),
    GWTF_TEST(a_preset_says_what_the_keys_do_not),
    GWTF_TEST(wrong_scenarios_get_one_line_with_its_place),
    GWTF_TEST(an_override_changes_an_entry_of_any_list),
    GWTF_TEST(every_ready_scenario_is_whole),
};

int main(int argc, char **argv) {
    return gwtf_suite_main(argc, argv, "scenario", tests, sizeof tests / sizeof tests[0],
                           make_links, temporary_remove);
}
