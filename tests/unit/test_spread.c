/* How a run's nodes are spread over the hosts of a job, and what is kept of the job. */
#include "io/allocation.h"
#include "tests/support/suite.h"
#include "tests/support/temporary.h"
#include "worker/runtime/spread.h"

#include <CUnit/CUnit.h>
#include <string.h>
#include <unistd.h>

#define COUNT_MAX 64

/* Hosts "uni1".. with SLOTS each in component 0, "cloud1".. in component 1. */
static struct gwtf_allocation make_job(uint32_t uni, uint32_t cloud, uint32_t slots) {
    struct gwtf_allocation job = {.job = "17", .components_count = cloud > 0 ? 2 : 1};
    char name[32];
    snprintf(job.components[0].nodes, sizeof job.components[0].nodes, "uni[1-%u]", uni);
    snprintf(job.components[0].partition, sizeof job.components[0].partition, "campus");
    snprintf(job.components[0].job, sizeof job.components[0].job, "17");
    snprintf(job.components[1].job, sizeof job.components[1].job, "18");
    snprintf(job.components[1].partition, sizeof job.components[1].partition, "spot");
    for (uint32_t i = 0; i < uni + cloud; i++) {
        snprintf(name, sizeof name, "%s%u", i < uni ? "uni" : "cloud",
                 i < uni ? i + 1 : i - uni + 1);
        CU_ASSERT_EQUAL(gwtf_allocation_add(&job, name, slots, i >= uni, NULL), GWTF_OK);
    }
    return job;
}

/* One data node, then relays of stage 1, 2, .., STAGES, 1, 2, ... */
static uint32_t make_nodes(struct gwtf_placement *nodes, uint32_t relays, uint32_t stages) {
    for (uint32_t i = 0; i <= relays; i++)
        nodes[i] = (struct gwtf_placement){
            .node = i, .stage = i == 0 ? 0 : (i - 1) % stages + 1, .host = "", .partition = ""};
    return relays + 1;
}

/* The most nodes of one stage on one host. */
static uint32_t most_together(const struct gwtf_placement *nodes, uint32_t count) {
    uint32_t most = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t together = 0;
        for (uint32_t j = 0; j < count; j++)
            together +=
                nodes[j].stage == nodes[i].stage && strcmp(nodes[j].host, nodes[i].host) == 0;
        most = together > most ? together : most;
    }
    return most;
}

static uint32_t nodes_on(const struct gwtf_placement *nodes, uint32_t count, const char *host) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++)
        found += strncmp(nodes[i].host, host, strlen(host)) == 0;
    return found;
}

static void replicas_of_a_stage_are_on_different_hosts(void) {
    for (uint32_t hosts = 2; hosts <= 8; hosts++)
        for (uint32_t stages = 1; stages <= 6; stages++) {
            struct gwtf_placement nodes[COUNT_MAX];
            struct gwtf_allocation job = make_job(hosts, 0, 8);
            uint32_t count = make_nodes(nodes, stages * hosts, stages);
            CU_ASSERT_EQUAL(gwtf_spread(&job, nodes, count, NULL), GWTF_OK);
            CU_ASSERT_EQUAL(most_together(nodes, count), 1);
            gwtf_allocation_deinit(&job);
        }
}

static void hosts_are_loaded_by_their_slots(void) {
    struct gwtf_placement nodes[COUNT_MAX];
    struct gwtf_allocation job = {.job = "17", .components_count = 1};
    gwtf_allocation_add(&job, "large", 12, 0, NULL);
    gwtf_allocation_add(&job, "small", 4, 0, NULL);
    /* Twelve stages of one replica and the data node: for each slot about as many on both. */
    uint32_t count = make_nodes(nodes, 12, 12);
    CU_ASSERT_EQUAL(gwtf_spread(&job, nodes, count, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(nodes_on(nodes, count, "large"), 10);
    CU_ASSERT_EQUAL(nodes_on(nodes, count, "small"), 3);
    gwtf_allocation_deinit(&job);
}

static void a_full_host_gets_nothing_while_others_have_room(void) {
    struct gwtf_placement nodes[COUNT_MAX];
    struct gwtf_allocation job = {.job = "17", .components_count = 2};
    gwtf_allocation_add(&job, "uni1", 1, 0, NULL); /* for the data node */
    gwtf_allocation_add(&job, "cloud1", 8, 1, NULL);
    gwtf_allocation_add(&job, "cloud2", 8, 1, NULL);
    uint32_t count = make_nodes(nodes, 2, 1);
    CU_ASSERT_EQUAL(gwtf_spread(&job, nodes, count, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(nodes_on(nodes, count, "uni1"), 1);
    CU_ASSERT_EQUAL(most_together(nodes, count), 1);
    gwtf_allocation_deinit(&job);
}

static void data_nodes_stay_in_the_first_component(void) {
    struct gwtf_placement nodes[COUNT_MAX];
    struct gwtf_allocation job = make_job(1, 3, 4);
    uint32_t count = make_nodes(nodes, 9, 3);
    nodes[3].stage = nodes[6].stage = 0; /* three data nodes, on the only host with the data */
    CU_ASSERT_EQUAL(gwtf_spread(&job, nodes, count, NULL), GWTF_OK);
    CU_ASSERT_STRING_EQUAL(nodes[0].host, "uni1");
    CU_ASSERT_STRING_EQUAL(nodes[3].host, "uni1");
    CU_ASSERT_STRING_EQUAL(nodes[6].host, "uni1");
    gwtf_allocation_deinit(&job);
}

static void each_stage_is_in_both_components(void) {
    struct gwtf_placement nodes[COUNT_MAX];
    struct gwtf_allocation job = make_job(2, 2, 4);
    uint32_t count = make_nodes(nodes, 8, 4);
    CU_ASSERT_EQUAL(gwtf_spread(&job, nodes, count, NULL), GWTF_OK);
    for (uint32_t stage = 1; stage <= 4; stage++) {
        bool first_in_cloud = strncmp(nodes[stage].host, "cloud", 5) == 0;
        bool second_in_cloud = strncmp(nodes[stage + 4].host, "cloud", 5) == 0;
        CU_ASSERT_NOT_EQUAL(first_in_cloud, second_in_cloud);
    }
    gwtf_allocation_deinit(&job);
}

static void a_host_that_is_named_is_kept_as_the_job_spells_it(void) {
    struct gwtf_placement nodes[COUNT_MAX];
    struct gwtf_allocation job = make_job(3, 0, 2);
    uint32_t count = make_nodes(nodes, 3, 3);
    nodes[0].host = "uni3.cluster.example";
    CU_ASSERT_EQUAL(gwtf_spread(&job, nodes, count, NULL), GWTF_OK);
    CU_ASSERT_STRING_EQUAL(nodes[0].host, "uni3");
    nodes[1].host = "uni9";
    struct gwtf_error error = {""};
    CU_ASSERT_EQUAL(gwtf_spread(&job, nodes, count, &error), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "host 'uni9' is not in job 17 (uni[1-3])"));
    gwtf_allocation_deinit(&job);
}

static void nodes_stay_in_the_partition_that_they_name(void) {
    struct gwtf_placement nodes[COUNT_MAX];
    struct gwtf_allocation job = make_job(2, 2, 8);
    uint32_t count = make_nodes(nodes, 8, 4);
    nodes[0].partition = "spot";   /* where the data is, here */
    nodes[1].partition = "campus"; /* both replicas of stage 1 */
    nodes[5].partition = "campus";
    CU_ASSERT_EQUAL(gwtf_spread(&job, nodes, count, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(strncmp(nodes[0].host, "cloud", 5), 0);
    CU_ASSERT_EQUAL(strncmp(nodes[1].host, "uni", 3), 0);
    CU_ASSERT_EQUAL(strncmp(nodes[5].host, "uni", 3), 0);
    CU_ASSERT_STRING_NOT_EQUAL(nodes[1].host, nodes[5].host);
    gwtf_allocation_deinit(&job);
}

static void a_partition_that_the_job_does_not_have_is_told(void) {
    struct gwtf_placement nodes[COUNT_MAX];
    struct gwtf_allocation job = make_job(2, 2, 8);
    struct gwtf_error error = {""};
    uint32_t count = make_nodes(nodes, 3, 3);
    nodes[2].partition = "gpu";
    CU_ASSERT_EQUAL(gwtf_spread(&job, nodes, count, &error), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(error.text, "partition 'gpu' is not in job 17 (campus, spot): name one"));
    nodes[2].partition = "campus";
    nodes[2].host = "cloud1";
    CU_ASSERT_EQUAL(gwtf_spread(&job, nodes, count, &error), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "host 'cloud1' is not in partition 'campus'"));
    nodes[2].host = "uni2";
    CU_ASSERT_EQUAL(gwtf_spread(&job, nodes, count, &error), GWTF_OK);
    gwtf_allocation_deinit(&job);
}

static void hosts_of_two_domains_are_not_one(void) {
    CU_ASSERT_TRUE(gwtf_spread_same_host("node7", "node7"));
    CU_ASSERT_TRUE(gwtf_spread_same_host("node7", "node7.campus.example"));
    CU_ASSERT_TRUE(gwtf_spread_same_host("node7.campus.example", "node7"));
    CU_ASSERT_FALSE(gwtf_spread_same_host("node7", "node70"));
    CU_ASSERT_FALSE(gwtf_spread_same_host("node7.campus.example", "node7.cloud.example"));
    CU_ASSERT_FALSE(gwtf_spread_same_host("10.0.0.1", "10.0.0.2"));
}

static void without_a_job_nothing_is_placed(void) {
    struct gwtf_placement nodes[COUNT_MAX];
    struct gwtf_allocation job = {.job = ""};
    uint32_t count = make_nodes(nodes, 3, 3);
    nodes[2].host = "elsewhere";
    CU_ASSERT_EQUAL(gwtf_spread(&job, nodes, count, NULL), GWTF_OK);
    CU_ASSERT_STRING_EQUAL(nodes[0].host, "");
    CU_ASSERT_STRING_EQUAL(nodes[2].host, "elsewhere");
}

static void a_job_is_read_back_as_it_was_written(void) {
    struct gwtf_allocation job = make_job(2, 1, 4), read, none = {.job = ""};
    CU_ASSERT_EQUAL(gwtf_allocation_write(temporary_directory, &job, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_allocation_read(temporary_directory, &read, NULL), GWTF_OK);
    CU_ASSERT_STRING_EQUAL(read.job, "17");
    CU_ASSERT_EQUAL(read.components_count, 2);
    CU_ASSERT_STRING_EQUAL(read.components[1].partition, "spot");
    CU_ASSERT_STRING_EQUAL(read.components[1].job, "18");
    CU_ASSERT_EQUAL_FATAL(read.hosts_count, 3);
    CU_ASSERT_STRING_EQUAL(read.hosts[2].name, "cloud1");
    CU_ASSERT_EQUAL(read.hosts[2].component, 1);
    CU_ASSERT_EQUAL(read.hosts[2].slots, 4);
    CU_ASSERT_EQUAL(gwtf_allocation_slots(&read), 12);
    gwtf_allocation_deinit(&read);
    /* A start outside of jobs takes it away. */
    CU_ASSERT_EQUAL(gwtf_allocation_write(temporary_directory, &none, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_allocation_read(temporary_directory, &read, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(read.hosts_count, 0);
    CU_ASSERT_NOT_EQUAL(access(temporary_below(temporary_directory, "hosts"), F_OK), 0);
    gwtf_allocation_deinit(&job);
}

static void a_damaged_file_is_told(void) {
    static const char *const texts[] = {"", "{", "[]", "{\"job\":\"1\",\"components\":[]}",
                                        "{\"job\":\"1\",\"components\":[{\"hosts\":[{}]}]}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct gwtf_allocation read;
        struct gwtf_error error = {""};
        FILE *file = fopen(temporary_below(temporary_directory, "allocation.json"), "w");
        fputs(texts[i], file);
        fclose(file);
        CU_ASSERT_EQUAL(gwtf_allocation_read(temporary_directory, &read, &error),
                        GWTF_ERROR_CORRUPT);
        CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "allocation.json' is damaged"));
    }
}

static const struct gwtf_test tests[] = {
    GWTF_TEST(replicas_of_a_stage_are_on_different_hosts),
    GWTF_TEST(hosts_are_loaded_by_their_slots),
    GWTF_TEST(a_full_host_gets_nothing_while_others_have_room),
    GWTF_TEST(data_nodes_stay_in_the_first_component),
    GWTF_TEST(each_stage_is_in_both_components),
    GWTF_TEST(a_host_that_is_named_is_kept_as_the_job_spells_it),
    GWTF_TEST(nodes_stay_in_the_partition_that_they_name),
    GWTF_TEST(a_partition_that_the_job_does_not_have_is_told),
    GWTF_TEST(hosts_of_two_domains_are_not_one),
    GWTF_TEST(without_a_job_nothing_is_placed),
    GWTF_TEST(a_job_is_read_back_as_it_was_written),
    GWTF_TEST(a_damaged_file_is_told),
};

int main(int argc, char **argv) {
    return gwtf_suite_main(argc, argv, "spread", tests, sizeof tests / sizeof tests[0],
                           temporary_make, temporary_remove);
}
