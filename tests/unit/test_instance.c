/* Flow instances: in memory, by chance, from files and into them. */
#include "io/instance.h"
#include "share/base/hash.h"
#include "tests/support/suite.h"
#include "tests/support/temporary.h"

static struct gwtf_error error;

static gwtf_flow_instance *make(const char *recipe) {
    struct gwtf_flow_recipe parsed;
    gwtf_flow_instance *instance = NULL;
    CU_ASSERT_EQUAL_FATAL(gwtf_instance_parse_recipe(recipe, "test", &parsed, &error), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_flow_generate(&parsed, &instance), GWTF_OK);
    return instance;
}

/* Over everything that an instance says. */
static uint64_t hash_of(const gwtf_flow_instance *instance) {
    uint64_t hash = gwtf_flow_instance_stages(instance);
    for (gwtf_node_id i = 0; i < gwtf_flow_instance_nodes(instance); i++) {
        uint32_t facts[] = {gwtf_flow_instance_stage(instance, i),
                            gwtf_flow_instance_capacity(instance, i)};
        hash = gwtf_hash_seeded(facts, sizeof facts, hash);
        for (gwtf_node_id j = 0; j < gwtf_flow_instance_nodes(instance); j++) {
            int32_t cost = gwtf_flow_instance_cost(instance, i, j);
            hash = gwtf_hash_seeded(&cost, sizeof cost, hash);
        }
    }
    return hash;
}

static void the_same_recipe_makes_the_same_instance(void) {
    static const char recipe[] = "relays=23,stages=5,data_nodes=2,missing=0.2,asymmetric=true";
    gwtf_flow_instance *first = make(recipe), *second = make(recipe);
    gwtf_flow_instance *other = make("relays=23,stages=5,data_nodes=2,missing=0.2,seed=2");
    CU_ASSERT_EQUAL(hash_of(first), hash_of(second));
    CU_ASSERT_NOT_EQUAL(hash_of(first), hash_of(other));
    /* As computed once on x86-64: nothing in it depends on the machine. */
    CU_ASSERT_EQUAL(gwtf_flow_instance_capacity(first, 2), 2);
    gwtf_flow_instance_destroy(other);
    gwtf_flow_instance_destroy(second);
    gwtf_flow_instance_destroy(first);
}

static void a_recipe_is_kept_to(void) {
    gwtf_flow_instance *instance =
        make("relays=50,stages=4,data_nodes=3,capacity=2..9,cost=5..30,missing=0.3");
    uint32_t links = 0, missing = 0, capacity = 0;
    uint64_t tightest = UINT64_MAX;
    for (uint32_t s = 1; s <= 4; s++) {
        uint32_t count = 0;
        (void)gwtf_flow_instance_stage_nodes(instance, s, &count);
        CU_ASSERT(count == 12 || count == 13);
        uint64_t sum = gwtf_flow_instance_stage_capacity(instance, s);
        tightest = sum < tightest ? sum : tightest;
    }
    for (gwtf_node_id i = 0; i < 53; i++) {
        capacity = gwtf_flow_instance_capacity(instance, i);
        CU_ASSERT(i < 3 || (capacity >= 2 && capacity <= 9));
        for (gwtf_node_id j = 0; j < 53; j++) {
            int32_t cost = gwtf_flow_instance_cost(instance, i, j);
            uint32_t next =
                gwtf_flow_instance_next_stage(instance, gwtf_flow_instance_stage(instance, i));
            if (gwtf_flow_instance_stage(instance, j) != next)
                continue;
            links++;
            missing += cost < 0;
            CU_ASSERT(cost == -1 || (cost >= 5 && cost <= 30));
            CU_ASSERT_EQUAL(gwtf_flow_instance_cost(instance, j, i), cost);
        }
    }
    CU_ASSERT(missing > links / 5 && missing < links * 2 / 5);
    /* 1.2 times the tightest stage, rounded up, in parts that differ by at most one. */
    CU_ASSERT_EQUAL(gwtf_flow_instance_stage_capacity(instance, 0), (tightest * 6 + 4) / 5);
    CU_ASSERT(gwtf_flow_instance_capacity(instance, 0) - gwtf_flow_instance_capacity(instance, 2) <=
              1);
    gwtf_flow_instance_destroy(instance);
}

static void expect_written_and_read(const char *recipe, const char *holds) {
    gwtf_flow_instance *made = make(recipe), *read = NULL;
    struct gwtf_instance_facts facts = {
        .name = "a \"name\"", .has_optimum = true, .optimum_flow = 7, .optimum_cost = 3000000000};
    struct gwtf_instance_facts known = {0};
    const char *path = temporary_path("instance.cfg");
    CU_ASSERT_EQUAL_FATAL(gwtf_instance_write(path, made, &facts, &error), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_instance_read(path, &read, &known, &error), GWTF_OK);
    CU_ASSERT_EQUAL(hash_of(made), hash_of(read));
    CU_ASSERT_STRING_EQUAL(known.name, facts.name);
    CU_ASSERT(known.has_optimum && known.optimum_flow == 7 && known.optimum_cost == 3000000000);
    FILE *file = fopen(path, "r");
    char line[4096];
    bool found = false;
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        found = found || strstr(line, holds) != NULL;
    CU_ASSERT(found);
    fclose(file);
    gwtf_flow_instance_destroy(read);
    gwtf_flow_instance_destroy(made);
}

static void what_is_written_is_what_is_read(void) {
    expect_written_and_read("relays=20,stages=3,data_nodes=2,missing=0.2", " cost = (");
    expect_written_and_read("relays=20,stages=3,asymmetric=true", " cost = (");
    expect_written_and_read("relays=7,stages=1,data_nodes=2,asymmetric=true", " cost = (");
    expect_written_and_read("relays=220,stages=3,data_nodes=2,missing=0.2", " links = (");
    expect_written_and_read("relays=220,stages=3,missing=0.2,asymmetric=true", " links_back = (");
    expect_written_and_read("relays=220,stages=1,asymmetric=true", " links = (");
}

static void the_published_instances_are_whole(void) {
    static const struct {
        const char *name;
        uint32_t nodes, stages, flow;
        int64_t cost;
    } files[] = {{"relays32-stages8", 33, 8, 11, 376}, {"relays36-stages6", 37, 6, 18, 16863}};
    for (size_t i = 0; i < 2; i++) {
        char path[512];
        gwtf_flow_instance *instance = NULL;
        struct gwtf_instance_facts facts = {0};
        snprintf(path, sizeof path, "%s/flow_instances/%s.cfg", GWTF_TEST_SOURCE_DIR,
                 files[i].name);
        CU_ASSERT_EQUAL_FATAL(gwtf_instance_read(path, &instance, &facts, &error), GWTF_OK);
        CU_ASSERT_STRING_EQUAL(facts.name, files[i].name);
        CU_ASSERT_EQUAL(gwtf_flow_instance_nodes(instance), files[i].nodes);
        CU_ASSERT_EQUAL(gwtf_flow_instance_stages(instance), files[i].stages);
        CU_ASSERT_EQUAL(facts.optimum_flow, files[i].flow);
        CU_ASSERT_EQUAL(facts.optimum_cost, files[i].cost);
        gwtf_flow_instance_destroy(instance);
    }
}

/* A good instance; each wrong one differs from it in one line. */
static const char *const good[] = {
    "instance = {",
    "  data_nodes = [ 0 ];",
    "  stages = ( [ 1, 2 ], [ 3 ] );",
    "  capacity = [ 2, 1, 1, 2 ];",
    "  cost = (",
    "    [ -1, 1, 2, -1 ],",
    "    [ 1, -1, -1, 3 ],",
    "    [ 2, -1, -1, 4 ],",
    "    [ 5, 3, 4, -1 ]",
    "  );",
    "  optimum = { flow = 2; cost = 20; };",
    "};",
};
#define GOOD_LINES (sizeof good / sizeof good[0])

static gwtf_status read_with(size_t line, const char *text) {
    const char *path = temporary_path("wrong.cfg");
    gwtf_flow_instance *instance = NULL;
    FILE *file = fopen(path, "w");
    CU_ASSERT_FATAL(file != NULL);
    for (size_t i = 0; i < GOOD_LINES; i++)
        fprintf(file, "%s\n", i + 1 == line ? text : good[i]);
    fclose(file);
    gwtf_status status = gwtf_instance_read(path, &instance, NULL, &error);
    if (status == GWTF_OK)
        gwtf_flow_instance_destroy(instance);
    return status;
}

static void a_wrong_file_gets_a_line_that_says_where(void) {
    static const struct {
        size_t line;
        const char *text;
        unsigned said;
        const char *what;
    } wrongs[] = {
        {1, "instances = {", 1, "did you mean 'instance'"},
        {2, "  data_node = [ 0 ];", 2, "did you mean 'data_nodes'"},
        {2, "  xyz = 1; data_nodes = [ 0 ];", 2, "unknown key 'xyz'"},
        {2, "", 1, "'data_nodes' is missing"},
        {2, "  data_nodes = 0;", 2, "no list"},
        {2, "  data_nodes = [ 4 ];", 2, "is 4: give one from 0 to 3"},
        {2, "  data_nodes = [ 0, 0 ];", 2, "named twice"},
        {3, "  stages = ( [ 1, 2 ], [ 0 ] );", 3, "node 0 is in stage 0 and in 2"},
        {3, "  stages = ( [ 1 ], [ 3 ] );", 3, "node 2 has a capacity and is in no stage"},
        {3, "  stages = ( [ 1, 2, 3 ], [ ] );", 3, "stage 2 has no relay"},
        {4, "  capacity = [ 2, 1, -1, 2 ];", 4, "capacity of node 2 is -1"},
        {4, "  capacity = ( 2, 1, 1.5, 2 );", 4, "not a whole number"},
        {4, "  capacity = [ 2, 1, 1.5, 2 ];", 4, "mismatched element type"},
        {4, "  capacity = [ 2, 1, 1 ];", 3, "is 3: give one from 0 to 2"},
        {4, "  capacity = [ 2, 1, 1, 0 ];", 5, "no way leads"},
        {6, "    [ -1, 1, 2 ],", 6, "row 0 of 'cost' has 3 numbers for 4 nodes"},
        {7, "    [ 1, -1, -1, -2 ],", 7, "from node 1 to 3 is -2"},
        {7, "    ( 1, -1, -1, 3.0 ),", 7, "from node 1 to 3 is not a whole number"},
        {7, "", 5, "'cost' has 3 rows for 4 nodes"},
        {9, "    [ -1, 3, 4, -1 ]", 5, "no way leads"},
        {10, "  ); links = ( );", 10, "'cost' and 'links': keep one"},
        {11, "  optimum = { flow = 2; };", 11, "'optimum.cost' is missing"},
        {11, "  optimum = { flow = -2; cost = 1; };", 11, "'optimum.flow' is -2"},
        {11, "  name = 5;", 11, "'name' is no string"},
        {12, "", 13, "syntax error"},
    };
    CU_ASSERT_EQUAL(read_with(0, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(read_with(11, ""), GWTF_OK); /* without the optimum */
    for (size_t i = 0; i < sizeof wrongs / sizeof wrongs[0]; i++) {
        char place[600];
        snprintf(place, sizeof place, "wrong.cfg:%u: ", wrongs[i].said);
        error.text[0] = '\0';
        bool refused = read_with(wrongs[i].line, wrongs[i].text) == GWTF_ERROR_USAGE;
        bool said = strstr(error.text, place) != NULL && strstr(error.text, wrongs[i].what) != NULL;
        if (!refused || !said)
            printf("\n    %s: %s\n", wrongs[i].text, error.text);
        CU_ASSERT(refused && said);
    }
}

static void wrong_lines_of_links_are_found_too(void) {
    static const struct {
        const char *links, *what;
    } wrongs[] = {
        {"links = ( ( \"1 2\" ), ( \"3\", \"4\" ) );", "'links' has 2 blocks: give 3"},
        {"links = ( ( \"1 2\" ), ( \"3\" ), ( \"5\" ) );", "block 1 of 'links' has 1 lines"},
        {"links = ( ( \"1\" ), ( \"3\", \"4\" ), ( \"5\" ) );", "node 0 has 1 links for 2"},
        {"links = ( ( \"1 2 3\" ), ( \"3\", \"4\" ), ( \"5\" ) );", "node 0 has more links"},
        {"links = ( ( \"1 2\" ), ( \"3\", \"4x\" ), ( \"5\" ) );", "link 0 of node 2 is not"},
        {"links = ( ( \"1 2\" ), ( \"3\", \"-2\" ), ( \"5\" ) );", "link 0 of node 2 is not"},
        {"links = ( ( \"1 2\" ), ( \"3\", \"4\" ), ( 5 ) );", "are no string"},
        {"links_back = ( ( \"1 2\" ) );", "'links' is missing"},
    };
    const char *path = temporary_path("links.cfg");
    for (size_t i = 0; i < sizeof wrongs / sizeof wrongs[0]; i++) {
        gwtf_flow_instance *instance = NULL;
        FILE *file = fopen(path, "w");
        CU_ASSERT_FATAL(file != NULL);
        fprintf(file, "%s\n%s\n%s\n%s\n%s\n};\n", good[0], good[1], good[2], good[3],
                wrongs[i].links);
        fclose(file);
        CU_ASSERT_EQUAL(gwtf_instance_read(path, &instance, NULL, &error), GWTF_ERROR_USAGE);
        bool said = strstr(error.text, wrongs[i].what) != NULL;
        if (!said)
            printf("\n    %s: %s\n", wrongs[i].links, error.text);
        CU_ASSERT(said);
    }
}

static void a_wrong_recipe_is_refused_with_what_to_write(void) {
    static const struct {
        const char *recipe, *what;
    } wrongs[] = {
        {"relay=3", "did you mean 'relays'"},
        {"relays", "has no value"},
        {"relays=0", "give a whole number from 1"},
        {"relays=-3", "give a whole number from 1"},
        {"relays=1e3", "give a whole number from 1"},
        {"relays=3,stages=4", "3 relays cannot fill 4 stages"},
        {"capacity=5..3", "give a range"},
        {"capacity=3..", "give a range"},
        {"cost=1..9999999999", "give a range"},
        {"missing=1", "from 0 to below 1"},
        {"missing=nan", "from 0 to below 1"},
        {"asymmetric=yes", "true or false"},
        {"relays=9,,", "has no value"},
    };
    struct gwtf_flow_recipe recipe;
    for (size_t i = 0; i < sizeof wrongs / sizeof wrongs[0]; i++) {
        error.text[0] = '\0';
        CU_ASSERT_EQUAL(gwtf_instance_parse_recipe(wrongs[i].recipe, "--generate", &recipe, &error),
                        GWTF_ERROR_USAGE);
        bool said = strncmp(error.text, "--generate: ", 12) == 0 &&
                    strstr(error.text, wrongs[i].what) != NULL;
        if (!said)
            printf("\n    %s: %s\n", wrongs[i].recipe, error.text);
        CU_ASSERT(said);
    }
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(the_same_recipe_makes_the_same_instance),
        GWTF_TEST(a_recipe_is_kept_to),
        GWTF_TEST(what_is_written_is_what_is_read),
        GWTF_TEST(the_published_instances_are_whole),
        GWTF_TEST(a_wrong_file_gets_a_line_that_says_where),
        GWTF_TEST(wrong_lines_of_links_are_found_too),
        GWTF_TEST(a_wrong_recipe_is_refused_with_what_to_write),
    };
    return gwtf_suite_main(argc, argv, "instance", tests, sizeof tests / sizeof tests[0],
                           temporary_make, temporary_remove);
}
