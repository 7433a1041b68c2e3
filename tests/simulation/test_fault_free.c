#include "tests/simulation/cluster.h"
#include "tests/support/suite.h"

#include <stdio.h>
#include <stdlib.h>

static struct cluster *cluster;

static int make_cluster(void) {
    cluster = calloc(1, sizeof *cluster);
    return cluster ? 0 : 1;
}

static int free_cluster(void) {
    free(cluster);
    return 0;
}

static void a_small_cluster_trains(void) {
    cluster_init(cluster, 1, 3, 2, 2);
    gwtf_simulation *simulation = cluster_start(cluster);
    CU_ASSERT_PTR_NOT_NULL_FATAL(simulation);
    CU_ASSERT(cluster_run(cluster, simulation, GWTF_OK, 0));
    struct gwtf_simulation_totals totals = gwtf_simulation_get_totals(simulation);
    CU_ASSERT_EQUAL(totals.iterations, 2);
    CU_ASSERT_EQUAL(totals.snapshots, 1);
    /* Two iterations of four microbatches through three stages and the data node. */
    CU_ASSERT_EQUAL(totals.microbatches_trained, 2 * 4 * 4);
    gwtf_simulation_destroy(simulation);
}

static void random_clusters_train_every_microbatch_once(void) {
    uint32_t wrong = 0;
    const char *from = getenv("SEED");
    uint64_t first = from ? strtoull(from, NULL, 10) : 1;
    for (uint64_t seed = first; seed < first + 300 && wrong < 5; seed++) {
        cluster_init_random(cluster, seed);
        gwtf_simulation *simulation = cluster_start(cluster);
        CU_ASSERT_PTR_NOT_NULL_FATAL(simulation);
        wrong += !cluster_run(cluster, simulation, GWTF_OK, seed);
        gwtf_simulation_destroy(simulation);
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(a_small_cluster_trains),
        GWTF_TEST(random_clusters_train_every_microbatch_once),
    };
    return gwtf_suite_main(argc, argv, "fault_free", tests, sizeof tests / sizeof tests[0],
                           make_cluster, free_cluster);
}
