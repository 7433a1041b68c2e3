#include "io/topology.h"
#include "tests/support/refusal.h"
#include "tests/support/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char small[] = "topology = {\n"
                            "  regions = [ \"Oregon\", \"Tokyo\", \"London\" ];\n"
                            "  within_region = { latency_ms = 0.5; bandwidth_mbit = 8000; };\n"
                            "  links = (\n"
                            "    { between = [ \"Oregon\", \"Tokyo\" ]; latency_ms = 96.0;\n"
                            "      bandwidth_mbit = 523.0; },\n"
                            "    { between = [ \"London\", \"Oregon\" ]; latency_ms = 136;\n"
                            "      bandwidth_mbit = 420; },\n"
                            "    { between = [ \"Tokyo\", \"Tokyo\" ]; latency_ms = 2;\n"
                            "      bandwidth_mbit = 8; },\n"
                            "    { between = [ \"London\", \"Tokyo\" ]; latency_ms = 210;\n"
                            "      bandwidth_mbit = 366; }\n"
                            "  );\n"
                            "};\n";

static struct gwtf_error error;

static void expect_link(const gwtf_topology *topology, const char *from, const char *to,
                        int64_t latency_us, int64_t bytes_per_second) {
    uint32_t a = UINT32_MAX, b = UINT32_MAX;
    CU_ASSERT_EQUAL_FATAL(gwtf_topology_find(topology, from, &a, &error), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_topology_find(topology, to, &b, &error), GWTF_OK);
    struct gwtf_topology_link link = gwtf_topology_link_between(topology, a, b);
    CU_ASSERT_EQUAL(link.latency_us, latency_us);
    CU_ASSERT_EQUAL(link.bytes_per_second, bytes_per_second);
}

static void links_are_read_in_microseconds_and_bytes(void) {
    gwtf_topology *topology = NULL;
    CU_ASSERT_EQUAL_FATAL(gwtf_topology_parse(small, "small.cfg", &topology, &error), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_topology_regions_count(topology), 3);
    CU_ASSERT_STRING_EQUAL(gwtf_topology_region_name(topology, 2), "London");
    /* 523 Mbit/s are 523 * 10^6 / 8 bytes. */
    expect_link(topology, "Oregon", "Tokyo", 96000, 65375000);
    expect_link(topology, "Tokyo", "Oregon", 96000, 65375000);
    expect_link(topology, "Oregon", "London", 136000, 52500000);
    expect_link(topology, "Oregon", "Oregon", 500, 1000000000);
    expect_link(topology, "Tokyo", "Tokyo", 2000, 1000000);
    gwtf_topology_destroy(topology);
}

static void the_ten_regions_are_whole(void) {
    gwtf_topology *topology = NULL;
    gwtf_status status = gwtf_topology_load(
        GWTF_TEST_SOURCE_DIR "/../../share/topologies/ten-regions.cfg", &topology, &error);
    CU_ASSERT_EQUAL_FATAL(status, GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_topology_regions_count(topology), 10);
    expect_link(topology, "Oregon", "Virginia", 67000, 98750000);
    expect_link(topology, "Ireland", "Frankfurt", 24000, 135000000);
    expect_link(topology, "Sydney", "Sydney", 10000, 250000000);
    gwtf_topology_destroy(topology);
}

static void an_unknown_region_brings_the_nearest(void) {
    gwtf_topology *topology = NULL;
    CU_ASSERT_EQUAL_FATAL(gwtf_topology_parse(small, "small.cfg", &topology, &error), GWTF_OK);
    uint32_t region = 77;
    CU_ASSERT_EQUAL(gwtf_topology_find(topology, "Tokio", &region, &error), GWTF_ERROR_USAGE);
    CU_ASSERT_EQUAL(region, 77);
    CU_ASSERT_STRING_EQUAL(error.text, "unknown region 'Tokio': did you mean 'Tokyo'?");
    CU_ASSERT_EQUAL(gwtf_topology_find(topology, "tokyo", &region, NULL), GWTF_ERROR_USAGE);
    gwtf_topology_destroy(topology);
}

/* SMALL with the first FROM made TO is refused with a line that has EXPECTED in it. */
static void expect_refused(const char *from, const char *to, const char *expected) {
    char text[2 * sizeof small];
    refusal_make(small, from, to, text, sizeof text);
    gwtf_topology *topology = NULL;
    error.text[0] = '\0';
    CU_ASSERT_EQUAL(gwtf_topology_parse(text, "small.cfg", &topology, &error), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NULL(topology);
    refusal_expect(error.text, expected);
    gwtf_topology_destroy(topology);
}

static void wrong_files_are_refused_with_their_line(void) {
    expect_refused("topology =", "topologie =",
                   "small.cfg:1: unknown key 'topologie' in the file: did you mean 'topology'?");
    expect_refused("latency_ms = 0.5", "latency = 0.5",
                   "small.cfg:3: unknown key 'latency' in within_region: did you mean "
                   "'latency_ms'?");
    expect_refused("latency_ms = 0.5", "latency_ms = -1",
                   "small.cfg:3: latency_ms is -1: give a number from 0 to");
    expect_refused("bandwidth_mbit = 8;", "bandwidth_mbit = 0;",
                   "small.cfg:10: bandwidth_mbit is 0: give a number from 0.001 to");
    expect_refused("latency_ms = 136;", "latency_ms = \"far\";",
                   "small.cfg:7: latency_ms is not a number");
    expect_refused("latency_ms = 136;", "", "small.cfg:7: a link has no 'latency_ms'");
    expect_refused("[ \"London\", \"Oregon\" ]", "[ \"London\", \"Orego\" ]",
                   "small.cfg:7: unknown region 'Orego': did you mean 'Oregon'?");
    expect_refused("[ \"London\", \"Oregon\" ]", "[ \"London\" ]",
                   "small.cfg:7: between is not two regions");
    expect_refused("[ \"London\", \"Oregon\" ]", "[ \"Tokyo\", \"Oregon\" ]",
                   "small.cfg:7: 'Tokyo' and 'Oregon' have two links");
    expect_refused("[ \"London\", \"Oregon\" ]", "[ \"London\", \"London\" ]",
                   "small.cfg:4: 'Oregon' and 'London' have no link");
    expect_refused("\"London\" ];", "\"Tokyo\" ];", "small.cfg:2: region 'Tokyo' is named twice");
    expect_refused("[ \"Oregon\", \"Tokyo\", \"London\" ]", "[ ]",
                   "small.cfg:2: regions is not an array of 1 to 1024 names");
    expect_refused("[ \"Oregon\", \"Tokyo\", \"London\" ]", "\"Oregon\"",
                   "small.cfg:2: regions is not an array of 1 to 1024 names");
    expect_refused("within_region = {", "within_region = 3; x = {", "small.cfg:3: unknown key 'x'");
}

static void a_missing_file_is_bad_usage(void) {
    gwtf_topology *topology = NULL;
    CU_ASSERT_EQUAL(gwtf_topology_load("no/such.cfg", &topology, &error), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "no/such.cfg"));
}

static const struct gwtf_test tests[] = {
    GWTF_TEST(links_are_read_in_microseconds_and_bytes),
    GWTF_TEST(the_ten_regions_are_whole),
    GWTF_TEST(an_unknown_region_brings_the_nearest),
    GWTF_TEST(wrong_files_are_refused_with_their_line),
    GWTF_TEST(a_missing_file_is_bad_usage),
};

int main(int argc, char **argv) {
    return gwtf_suite_main(argc, argv, "topology", tests, sizeof tests / sizeof tests[0], NULL,
                           NULL);
}
