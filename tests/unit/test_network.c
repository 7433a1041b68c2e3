/* Six nodes in two regions: 0 is the data node, 1 to 5 relays. */
#include "tests/support/suite.h"
#include "worker/runtime/network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char topology[] = "topology = { regions = [ \"Here\", \"There\" ];\n"
                               "  within_region = { latency_ms = 1; bandwidth_mbit = 8000; };\n"
                               "  links = ( { between = [ \"Here\", \"There\" ]; latency_ms = 50; "
                               "bandwidth_mbit = 80; } ); };";

static const char run[] =
    "run = { directory = \"r\"; iterations = 20; };\n"
    "model = { layers = 4; width = 16; heads = 2; context = 8; vocabulary = 256; };\n"
    "data = { train = \"absent.h5\"; };\n"
    "batch = { microbatch = 1; microbatches = 4; };\n"
    "pipeline = { stages = 2; };\n"
    "network = { emulate = \"two.cfg\"; };\n";

#define SPREAD "nodes=( { role = \"data\"; }, { role = \"relay\"; count = 5; } )"

static struct gwtf_config config;
static struct gwtf_setup setup;
static struct gwtf_error error;

static void open_run(const char *nodes, const char *faults) {
    const char *overrides[] = {nodes, faults};
    CU_ASSERT_EQUAL_FATAL(
        gwtf_config_parse(run, "run.cfg", overrides, faults != NULL ? 2 : 1, &config, &error),
        GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_open_relay(&config, &setup, &error), GWTF_OK);
}

static gwtf_network *make(const char *nodes, const char *faults, gwtf_node_id self) {
    gwtf_network *network = NULL;
    open_run(nodes, faults);
    CU_ASSERT_EQUAL_FATAL(gwtf_network_create(&setup, topology, self, &network, &error), GWTF_OK);
    return network;
}

static void expect_link(const gwtf_network *network, gwtf_node_id peer, int64_t latency_us,
                        int64_t bytes_per_second) {
    const struct gwtf_shaper_link *link = &gwtf_network_links(network)[peer];
    CU_ASSERT_EQUAL(link->latency_us, latency_us);
    CU_ASSERT_EQUAL(link->bytes_per_second, bytes_per_second);
    CU_ASSERT(!link->cut);
}

static void nodes_without_a_region_are_spread_over_them(void) {
    gwtf_network *network = make(SPREAD, NULL, 1);
    for (gwtf_node_id peer = 0; peer < 6; peer++)
        expect_link(network, peer, peer % 2 == 1 ? 1000 : 50000,
                    peer % 2 == 1 ? 1000000000 : 10000000);
    gwtf_network_destroy(network);
}

static void nodes_are_where_their_entry_says(void) {
    gwtf_network *network = make("nodes=( { role = \"data\"; region = \"There\"; }, { role = "
                                 "\"relay\"; count = 4; region = \"Here\"; }, { role = \"relay\"; "
                                 "region = \"There\"; } )",
                                 NULL, 0);
    for (gwtf_node_id peer = 1; peer < 5; peer++)
        expect_link(network, peer, 50000, 10000000);
    expect_link(network, 5, 1000, 1000000000);
    gwtf_network_destroy(network);
}

static void a_fault_begins_with_its_iteration_and_heals(void) {
    char text[GWTF_NETWORK_TEXT_MAX];
    gwtf_network *network = make(
        SPREAD, "link_faults=( { iteration = 3; heal_after = 2; node = 4; factor = 20.0; } )", 1);
    CU_ASSERT(!gwtf_network_change(network, 2, 0, text));
    CU_ASSERT(gwtf_network_change(network, 3, 0, text));
    CU_ASSERT_STRING_EQUAL(text, "links between node 4 and any node: 20 times slower");
    CU_ASSERT(!gwtf_network_change(network, 4, 0, text));
    expect_link(network, 4, 1000000, 500000);
    expect_link(network, 0, 50000, 10000000);
    CU_ASSERT(gwtf_network_change(network, 5, 0, text));
    CU_ASSERT_STRING_EQUAL(text, "links between node 4 and any node: healed");
    CU_ASSERT(!gwtf_network_change(network, 6, 0, text));
    expect_link(network, 4, 50000, 10000000);
    gwtf_network_destroy(network);
}

static void a_run_that_resumes_behind_a_fault_finds_it_healed(void) {
    char text[GWTF_NETWORK_TEXT_MAX];
    gwtf_network *network =
        make(SPREAD, "link_faults=( { iteration = 3; heal_after = 2; node = 4; } )", 1);
    CU_ASSERT(gwtf_network_change(network, 9, 0, text));
    CU_ASSERT(gwtf_network_change(network, 9, 0, text));
    CU_ASSERT(!gwtf_network_change(network, 9, 0, text));
    expect_link(network, 4, 50000, 10000000);
    gwtf_network_destroy(network);
}

static void a_fault_waits_for_its_seconds(void) {
    char text[GWTF_NETWORK_TEXT_MAX];
    gwtf_network *network = make(SPREAD, "link_faults=( { seconds = 1.5; node = 4; } )", 1);
    CU_ASSERT(!gwtf_network_change(network, 7, 1499999, text));
    CU_ASSERT(gwtf_network_change(network, 7, 1500000, text));
    gwtf_network_destroy(network);
}

static void a_fault_heals_after_its_seconds(void) {
    char text[GWTF_NETWORK_TEXT_MAX];
    gwtf_network *network =
        make(SPREAD, "link_faults=( { seconds = 1.0; heal_seconds = 2.0; node = 4; } )", 1);
    CU_ASSERT(gwtf_network_change(network, 7, 1500000, text));
    CU_ASSERT(!gwtf_network_change(network, 9, 3499999, text));
    CU_ASSERT(gwtf_network_change(network, 9, 3500000, text));
    CU_ASSERT_STRING_EQUAL(text, "links between node 4 and any node: healed");
    expect_link(network, 4, 50000, 10000000);
    gwtf_network_destroy(network);
}

static void a_lossy_link_is_as_fast_as_before(void) {
    char text[GWTF_NETWORK_TEXT_MAX];
    gwtf_network *network =
        make(SPREAD, "link_faults=( { node = 4; kind = \"lossy\"; loss = 0.25; } )", 1);
    CU_ASSERT(gwtf_network_change(network, 1, 0, text));
    CU_ASSERT_STRING_EQUAL(text, "links between node 4 and any node: 25 % is lost");
    expect_link(network, 4, 50000, 10000000);
    CU_ASSERT_EQUAL(gwtf_network_links(network)[4].loss, 0.25);
    CU_ASSERT_EQUAL(gwtf_network_links(network)[3].loss, 0);
    gwtf_network_destroy(network);
}

static void links_have_faults_where_no_network_is_emulated(void) {
    char text[GWTF_NETWORK_TEXT_MAX], *topology_text = NULL;
    const char *overrides[] = {"network.emulate=\"\"", SPREAD,
                               "link_faults=( { node = 4; latency_ms = 30.0; } )"};
    gwtf_network *network = NULL;
    CU_ASSERT_EQUAL_FATAL(gwtf_config_parse(run, "run.cfg", overrides, 3, &config, &error),
                          GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_open_relay(&config, &setup, &error), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_network_read(&setup, &topology_text, &error), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_network_create(&setup, topology_text, 1, &network, &error), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_network_links(network)[4].latency_us, 0);
    CU_ASSERT(gwtf_network_links(network)[4].bytes_per_second >= 100000000000);
    CU_ASSERT(gwtf_network_change(network, 1, 0, text));
    CU_ASSERT_EQUAL(gwtf_network_links(network)[4].latency_us, 30000);
    CU_ASSERT_EQUAL(gwtf_network_links(network)[3].latency_us, 0);
    gwtf_network_destroy(network);
    free(topology_text);
}

/* Node 1 is There, as 3 and 5 are; 0, 2 and 4 are Here. */
static void a_fault_concerns_the_links_between_its_two_ends(void) {
    char text[GWTF_NETWORK_TEXT_MAX];
    static const struct {
        const char *fault;
        bool concerned[6];
    } cases[] = {
        {"link_faults=( { node = 3; } )", {false, false, false, true, false, false}},
        {"link_faults=( { node = 3; peer = 1; } )", {false, false, false, true, false, false}},
        {"link_faults=( { node = 1; } )", {true, true, true, true, true, true}},
        {"link_faults=( { region = \"Here\"; } )", {true, false, true, false, true, false}},
        {"link_faults=( { region = \"There\"; peer_region = \"There\"; } )",
         {false, true, false, true, false, true}},
        {"link_faults=( { region = \"Here\"; peer = 3; } )",
         {false, false, false, false, false, false}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gwtf_network *network = make(SPREAD, cases[i].fault, 1);
        CU_ASSERT(gwtf_network_change(network, 1, 0, text));
        for (gwtf_node_id peer = 0; peer < 6; peer++) {
            int64_t factor = cases[i].concerned[peer] ? 4 : 1;
            expect_link(network, peer, (peer % 2 == 1 ? 1000 : 50000) * factor,
                        (peer % 2 == 1 ? 1000000000 : 10000000) / factor);
        }
        gwtf_network_destroy(network);
    }
}

static void faults_that_overlap_multiply_and_figures_replace(void) {
    char text[GWTF_NETWORK_TEXT_MAX];
    gwtf_network *network = make(
        SPREAD,
        "link_faults=( { node = 2; factor = 2.0; }, { node = 2; factor = 5.0; }, "
        "{ node = 3; latency_ms = 7.0; bandwidth_mbit = 16.0; }, { node = 5; kind = \"cut\"; } )",
        1);
    while (gwtf_network_change(network, 1, 0, text))
        continue;
    expect_link(network, 2, 500000, 1000000);
    expect_link(network, 3, 7000, 2000000);
    CU_ASSERT(gwtf_network_links(network)[5].cut);
    CU_ASSERT_STRING_EQUAL(text, "links between node 5 and any node: cut");
    gwtf_network_destroy(network);
}

static uint32_t count_cut(gwtf_network *const networks[6]) {
    uint32_t cut = 0;
    for (gwtf_node_id a = 0; a < 6; a++)
        for (gwtf_node_id b = 0; b < 6; b++) {
            bool there = gwtf_network_links(networks[a])[b].cut;
            CU_ASSERT_EQUAL(there, gwtf_network_links(networks[b])[a].cut);
            cut += there && a < b;
        }
    return cut;
}

/* Both ends know of it, though each asks at moments of its own and node 5 misses some; it is over
 * when it should be, and other links are drawn the next time. */
static void links_are_drawn_alike_by_all_nodes(void) {
    char text[GWTF_NETWORK_TEXT_MAX], texts[20][GWTF_NETWORK_TEXT_MAX];
    gwtf_network *networks[6];
    uint32_t differ = 0;
    for (gwtf_node_id i = 0; i < 6; i++)
        networks[i] = make(SPREAD,
                           "link_faults=( { kind = \"cut\"; draw = 2; every = 10.0; seconds = 5.0; "
                           "heal_seconds = 4.0; seed = 7; } )",
                           i);
    for (uint32_t turn = 0; turn < 20; turn++) {
        for (gwtf_node_id i = 0; i < 6; i++) {
            int64_t at_us = (5 + 10 * (int64_t)turn) * 1000000 + i * 1000;
            CU_ASSERT(!gwtf_network_change(networks[i], 1, at_us - 100000, text));
            if (i == 5 && turn % 4 == 1)
                continue;
            CU_ASSERT(gwtf_network_change(networks[i], 1, at_us, texts[turn]));
            CU_ASSERT(!gwtf_network_change(networks[i], 1, at_us + 3900000, text));
        }
        if (turn % 4 != 1) {
            CU_ASSERT_EQUAL(count_cut(networks), 2);
        }
        for (gwtf_node_id i = 0; i < 6; i++)
            while (gwtf_network_change(networks[i], 1, (5 + 10 * (int64_t)turn) * 1000000 + 4100000,
                                       text))
                CU_ASSERT(i == 5 || strstr(text, "healed") != NULL);
        CU_ASSERT_EQUAL(count_cut(networks), 0);
        differ += turn > 0 && strcmp(texts[turn], texts[turn - 1]) != 0;
    }
    CU_ASSERT(differ > 15);
    CU_ASSERT_NSTRING_EQUAL(texts[0], "links between nodes ", 20);
    for (gwtf_node_id i = 0; i < 6; i++)
        gwtf_network_destroy(networks[i]);
}

static void only_links_between_the_ends_are_drawn(void) {
    char text[GWTF_NETWORK_TEXT_MAX];
    for (int seed = 1; seed < 20; seed++) {
        char fault[128];
        snprintf(fault, sizeof fault,
                 "link_faults=( { draw = 3; node = 4; kind = \"cut\"; seed = %d; } )", seed);
        gwtf_network *network = make(SPREAD, fault, 4);
        uint32_t cut = 0;
        CU_ASSERT(gwtf_network_change(network, 1, 0, text));
        for (gwtf_node_id peer = 0; peer < 6; peer++)
            cut += gwtf_network_links(network)[peer].cut;
        CU_ASSERT_EQUAL(cut, 3);
        gwtf_network_destroy(network);
    }
}

static void random_moments_keep_their_mean(void) {
    char text[GWTF_NETWORK_TEXT_MAX];
    gwtf_network *network =
        make(SPREAD, "link_faults=( { random = true; every = 2.0; heal_seconds = 0.000001; } )", 1);
    uint32_t begun = 0, pauses = 0, last = 0;
    for (uint32_t at = 0; at < 40000; at++)
        while (gwtf_network_change(network, 1, (int64_t)at * 50000, text))
            if (strstr(text, "healed") == NULL) {
                pauses += at - last > 40; /* longer than the mean */
                last = at;
                begun++;
            }
    CU_ASSERT(begun > 900 && begun < 1050);
    CU_ASSERT(pauses > begun / 4 && pauses < begun / 2); /* exp(-1) of them */
    gwtf_network_destroy(network);
}

static void an_unknown_region_is_named_with_the_nearest(void) {
    gwtf_network *network = NULL;
    open_run("nodes=( { role = \"data\"; region = \"Ther\"; }, { role = \"relay\"; count = 2; } )",
             NULL);
    CU_ASSERT_EQUAL(gwtf_network_create(&setup, topology, 0, &network, &error), GWTF_ERROR_USAGE);
    CU_ASSERT_STRING_EQUAL(error.text, "nodes: unknown region 'Ther': did you mean 'There'?");
    open_run(SPREAD, "link_faults=( { node = 1; }, { peer_region = \"Hre\"; } )");
    CU_ASSERT_EQUAL(gwtf_network_create(&setup, topology, 0, &network, &error), GWTF_ERROR_USAGE);
    CU_ASSERT_STRING_EQUAL(error.text, "link_faults.1: unknown region 'Hre': did you mean 'Here'?");
    char *text = NULL;
    CU_ASSERT_EQUAL(gwtf_network_read(&setup, &text, &error), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "network.emulate: "));
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "two.cfg"));
}

static void without_a_topology_nothing_is_emulated(void) {
    char *text = NULL;
    const char *overrides[] = {SPREAD, "network.emulate=\"\""};
    CU_ASSERT_EQUAL_FATAL(gwtf_config_parse(run, "run.cfg", overrides, 2, &config, &error),
                          GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_open_relay(&config, &setup, &error), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_network_read(&setup, &text, &error), GWTF_OK);
    CU_ASSERT_PTR_NULL(text);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(nodes_without_a_region_are_spread_over_them),
        GWTF_TEST(nodes_are_where_their_entry_says),
        GWTF_TEST(a_fault_begins_with_its_iteration_and_heals),
        GWTF_TEST(a_run_that_resumes_behind_a_fault_finds_it_healed),
        GWTF_TEST(a_fault_waits_for_its_seconds),
        GWTF_TEST(a_fault_heals_after_its_seconds),
        GWTF_TEST(a_lossy_link_is_as_fast_as_before),
        GWTF_TEST(links_have_faults_where_no_network_is_emulated),
        GWTF_TEST(a_fault_concerns_the_links_between_its_two_ends),
        GWTF_TEST(faults_that_overlap_multiply_and_figures_replace),
        GWTF_TEST(links_are_drawn_alike_by_all_nodes),
        GWTF_TEST(only_links_between_the_ends_are_drawn),
        GWTF_TEST(random_moments_keep_their_mean),
        GWTF_TEST(an_unknown_region_is_named_with_the_nearest),
        GWTF_TEST(without_a_topology_nothing_is_emulated),
    };
    return gwtf_suite_main(argc, argv, "network", tests, sizeof tests / sizeof tests[0], NULL,
                           NULL);
}
