#include "share/base/random.h"
#include "tests/simulation/cluster.h"
#include "tests/support/suite.h"

#include <math.h>
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

/* Runs the cluster as it is set up, to a good end. */
static gwtf_simulation *run_cluster(void) {
    gwtf_simulation *simulation = cluster_start(cluster);
    CU_ASSERT_PTR_NOT_NULL_FATAL(simulation);
    CU_ASSERT(cluster_run(cluster, simulation, GWTF_OK, cluster->config.seed));
    return simulation;
}

static void a_small_cluster_trains(void) {
    cluster_init(cluster, 1, 3, 2, 2);
    gwtf_simulation *simulation = run_cluster();
    struct gwtf_simulation_totals totals = gwtf_simulation_get_totals(simulation);
    CU_ASSERT_EQUAL(totals.iterations, 2);
    CU_ASSERT_EQUAL(totals.snapshots, 1);
    /* Two iterations of four microbatches through three stages and the data node. */
    CU_ASSERT_EQUAL(totals.microbatches_trained, 2 * 4 * 4);
    gwtf_simulation_destroy(simulation);
}

static void a_data_node_and_one_relay_are_enough(void) {
    cluster_init(cluster, 1, 1, 1, 1);
    cluster->config.microbatches = 1;
    cluster->config.last_iteration = 1;
    cluster->config.validates = true;
    cluster->config.validation_microbatches = 1;
    gwtf_simulation_destroy(run_cluster());
}

static void a_slot_in_every_node_is_enough(void) {
    for (uint32_t data_nodes = 1; data_nodes <= 3; data_nodes++) {
        cluster_init(cluster, data_nodes, 4, 2, 1);
        cluster->config.microbatches = 6;
        cluster->config.validates = true;
        cluster->config.validation_microbatches = 3;
        cluster->config.jitter_us = 2000;
        cluster->config.work_jitter = 0.5;
        gwtf_simulation_destroy(run_cluster());
    }
}

static void microbatches_take_turns_on_fewer_flows(void) {
    cluster_init(cluster, 1, 2, 1, 2);
    cluster->config.microbatches = 40;
    gwtf_simulation *simulation = run_cluster();
    CU_ASSERT_EQUAL(gwtf_simulation_get_view(simulation, 0).routes, 2);
    /* Two flows, each held by a slot everywhere: nobody has to refuse. */
    CU_ASSERT_EQUAL(gwtf_simulation_get_totals(simulation).refusals, 0);
    gwtf_simulation_destroy(simulation);
}

/* Three data nodes and room for one flow: the others neither starve nor wait for a time to run out
 * when the relays are idle. */
static void data_nodes_without_a_flow_get_their_turn(void) {
    cluster_init(cluster, 3, 2, 1, 1);
    cluster->config.last_iteration = 5;
    gwtf_simulation *simulation = run_cluster();
    size_t count;
    const struct gwtf_report *reports = gwtf_simulation_reports(simulation, &count);
    /* One after the other a microbatch takes 75 ms: EMBED, LOSS and EMBED_BACKWARD of 1 ms, two
     * stages of 30 ms, six hops of 2 ms. Twice that for refusals, pauses and flows in the first
     * iteration; a wait for time to run out would be 1.5 s more. */
    for (size_t i = 0; i < count; i++)
        CU_ASSERT(reports[i].duration_us <= 2 * 12 * 75000);
    gwtf_simulation_destroy(simulation);
}

/* Four microbatches of 1 MB, forward and backward, through an uplink of 1 MB/s: eight seconds, in
 * which nothing else holds them up, for links and relays are far faster. */
static void all_that_a_node_sends_goes_through_its_uplink(void) {
    cluster_init(cluster, 1, 1, 2, 4);
    cluster->config.last_iteration = 1;
    cluster->nodes[0].gradient_floats = 0;
    cluster->nodes[0].uplink_bytes_per_second = 1000000;
    gwtf_simulation *simulation = run_cluster();
    size_t count;
    const struct gwtf_report *reports = gwtf_simulation_reports(simulation, &count);
    CU_ASSERT_EQUAL_FATAL(count, 1);
    CU_ASSERT(reports[0].duration_us >= 8000000 && reports[0].duration_us < 9000000);
    gwtf_simulation_destroy(simulation);
}

/* The link between data node and relay 1 is 20 times slower after the iterations FROM to TO. */
static struct {
    uint32_t from, to;
    uint32_t reported;
} slow_link;

static struct gwtf_simulation_link two_ways(const void *context, gwtf_node_id from,
                                            gwtf_node_id to) {
    (void)context;
    bool near = (from == 0 && to == 1) || (from == 1 && to == 0);
    bool slow = near && slow_link.reported >= slow_link.from && slow_link.reported < slow_link.to;
    return (struct gwtf_simulation_link){.latency_us = near ? 1000 : 5000,
                                         .bytes_per_second = slow   ? 5000000
                                                             : near ? 100000000
                                                                    : 50000000};
}

static void note_report(void *context, gwtf_simulation *simulation,
                        const struct gwtf_simulation_notice *notice) {
    (void)context;
    (void)simulation;
    if (notice->kind == GWTF_SIMULATION_REPORTED)
        slow_link.reported = notice->report->iteration;
}

/*
 * Two relays hold the stage, each with room for all: flows take the nearer one. When its link gets
 * slow they have left it 5.5 seconds later, which is three such iterations, and a probe finds out
 * that it has healed: at the end an iteration is as short as it was. Each of the two is told once.
 */
static void flows_leave_a_slow_link_and_come_back(void) {
    cluster_init(cluster, 1, 1, 2, 4);
    cluster->config.last_iteration = 200;
    cluster->config.link = two_ways;
    cluster->config.observe = note_report;
    slow_link.from = 50;
    slow_link.to = 100;
    slow_link.reported = 0;
    gwtf_simulation *simulation = run_cluster();
    size_t count;
    const struct gwtf_report *reports = gwtf_simulation_reports(simulation, &count);
    CU_ASSERT_EQUAL_FATAL(count, 200);
    int64_t before_us = reports[49].duration_us, leaving_us = 0;
    CU_ASSERT(reports[50].duration_us > 2 * before_us);
    size_t left = 50;
    for (; left < 100 && reports[left].duration_us > 2 * before_us; left++)
        leaving_us += reports[left].duration_us;
    int64_t away_us = reports[left].duration_us;
    CU_ASSERT(leaving_us < 5500000);
    /* The other link costs 20 ms of transfer in place of 10, and 4 ms of latency. */
    CU_ASSERT(away_us > before_us && away_us < before_us + 4 * 4 * 14000);
    CU_ASSERT_EQUAL(reports[199].duration_us, before_us);
    CU_ASSERT_EQUAL(gwtf_simulation_get_totals(simulation).reroutes, 2);
    gwtf_simulation_destroy(simulation);
}

struct seen {
    uint32_t begun, ended, reports, crashes;
};

static void note_seen(void *context, gwtf_simulation *simulation,
                      const struct gwtf_simulation_notice *notice) {
    struct seen *seen = context;
    seen->begun += notice->kind == GWTF_SIMULATION_WORK_BEGINS;
    seen->ended += notice->kind == GWTF_SIMULATION_WORK_ENDED;
    seen->crashes += notice->kind == GWTF_SIMULATION_CRASHED && notice->index == 2;
    /* What an observer injects at once happens now. */
    struct gwtf_simulation_fault crash = {
        .kind = GWTF_SIMULATION_CRASH, .at_us = notice->now_us, .node = 2, .notice_us = 1000};
    if (notice->kind == GWTF_SIMULATION_REPORTED && ++seen->reports == 2)
        CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &crash), GWTF_OK);
}

static void an_observer_sees_all_works_and_may_crash_a_node(void) {
    struct seen seen = {0};
    cluster_init(cluster, 1, 3, 2, 2);
    cluster->config.last_iteration = 9;
    cluster->config.observe = note_seen;
    cluster->config.observe_context = &seen;
    gwtf_simulation *simulation = cluster_start(cluster);
    CU_ASSERT_PTR_NOT_NULL_FATAL(simulation);
    (void)gwtf_simulation_run(simulation, 10000000);
    /* Two iterations of four microbatches: forward and backward in three stages, three works at the
     * data node. */
    CU_ASSERT(seen.ended >= 2 * 4 * (3 * 2 + 3));
    CU_ASSERT(seen.begun >= seen.ended);
    CU_ASSERT_EQUAL(seen.crashes, 1);
    gwtf_simulation_destroy(simulation);
}

/* Random clusters of 1 to 3 data nodes, 1 to 8 stages, 1 to 5 replicas; FIRST..LAST are seeds. */
static void run_random(uint64_t first, uint64_t last) {
    uint32_t wrong = 0;
    for (uint64_t seed = first; seed <= last && wrong < 5; seed++) {
        cluster_init_random(cluster, seed);
        gwtf_simulation *simulation = cluster_start(cluster);
        CU_ASSERT_PTR_NOT_NULL_FATAL(simulation);
        wrong += !cluster_run(cluster, simulation, GWTF_OK, seed);
        struct gwtf_simulation_totals totals = gwtf_simulation_get_totals(simulation);
        uint32_t iterations = cluster->config.last_iteration - cluster->config.first_iteration + 1;
        CU_ASSERT_EQUAL(totals.iterations, iterations);
        gwtf_simulation_destroy(simulation);
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

static void random_clusters_train_every_microbatch_once(void) {
    /* Another slice: SEED=12345 test_fault_free random. */
    const char *text = getenv("SEED");
    uint64_t first = text ? strtoull(text, NULL, 10) : 1;
    run_random(first, first + 399);
}

static void the_same_seed_gives_the_same_trace(void) {
    for (uint64_t seed = 1; seed <= 10; seed++) {
        uint64_t traces[3];
        gwtf_simulation *simulations[3]; /* all alive, so that no address comes again */
        for (uint64_t run = 0; run < 3; run++) {
            cluster_init_random(cluster, seed);
            /* The third run differs in nothing but the seed of its chances. */
            cluster->config.jitter_us = 1000;
            cluster->config.seed += run == 2;
            simulations[run] = run_cluster();
            traces[run] = gwtf_simulation_get_totals(simulations[run]).trace;
        }
        for (int run = 0; run < 3; run++)
            gwtf_simulation_destroy(simulations[run]);
        CU_ASSERT_EQUAL(traces[0], traces[1]);
        CU_ASSERT_NOT_EQUAL(traces[0], traces[2]);
    }
}

static void messages_that_come_twice_change_nothing(void) {
    for (uint64_t seed = 1; seed <= 20; seed++) {
        cluster_init_random(cluster, seed);
        cluster->config.doubled = 1;
        gwtf_simulation_destroy(run_cluster());
    }
}

/* How a run ends that is told to stop at a random moment, at one data node or more. */
static gwtf_status stop_at_random(uint64_t seed, gwtf_time_us most_us) {
    struct gwtf_random random;
    gwtf_random_init(&random, gwtf_random_key(seed, 77));
    cluster_init_random(cluster, seed);
    gwtf_simulation *simulation = cluster_start(cluster);
    CU_ASSERT_PTR_NOT_NULL_FATAL(simulation);
    size_t told = 0;
    for (size_t i = 0; i < cluster->config.nodes_count; i++) {
        struct gwtf_simulation_fault stop = {
            .kind = GWTF_SIMULATION_STOP,
            .at_us = (gwtf_time_us)gwtf_random_below(&random, (uint64_t)most_us),
            .node = cluster->nodes[i].node};
        bool tells = cluster->nodes[i].stage > 0 || told == 0 || gwtf_random_below(&random, 2);
        told += tells && cluster->nodes[i].stage == 0;
        if (tells)
            CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &stop), GWTF_OK);
    }
    CU_ASSERT(cluster_run(cluster, simulation, CLUSTER_ANY_END, seed));
    gwtf_status status = GWTF_OK;
    CU_ASSERT(gwtf_simulation_finished(simulation, cluster->nodes[0].node, &status, NULL));
    size_t reports;
    gwtf_simulation_reports(simulation, &reports);
    CU_ASSERT(reports >= 1);
    gwtf_simulation_destroy(simulation);
    return status;
}

static void a_stop_at_any_moment_ends_all_at_one_iteration_with_its_snapshot(void) {
    uint32_t interrupted = 0, normal = 0;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        gwtf_status status = stop_at_random(seed, seed % 2 ? 2000000 : 30000000);
        interrupted += status == GWTF_ERROR_INTERRUPTED;
        normal += status == GWTF_OK;
    }
    CU_ASSERT_EQUAL(interrupted + normal, 150);
    /* Both happen, or the test tests nothing. */
    CU_ASSERT(interrupted >= 30);
    CU_ASSERT(normal >= 10);
}

static void a_stop_at_relays_alone_is_no_stop(void) {
    cluster_init(cluster, 1, 2, 2, 2);
    gwtf_simulation *simulation = cluster_start(cluster);
    CU_ASSERT_PTR_NOT_NULL_FATAL(simulation);
    for (gwtf_node_id node = 1; node < 5; node++) {
        struct gwtf_simulation_fault stop = {
            .kind = GWTF_SIMULATION_STOP, .at_us = 1000, .node = node};
        CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &stop), GWTF_OK);
    }
    CU_ASSERT(cluster_run(cluster, simulation, GWTF_OK, 0));
    gwtf_simulation_destroy(simulation);
}

static void snapshots_that_outrun_the_disk_slow_the_run_and_are_all_there(void) {
    cluster_init(cluster, 2, 3, 2, 2);
    cluster->config.last_iteration = 8;
    cluster->config.snapshot_every = 1;
    cluster->config.write_us = 3000000;
    gwtf_simulation *simulation = run_cluster();
    struct gwtf_simulation_totals totals = gwtf_simulation_get_totals(simulation);
    CU_ASSERT_EQUAL(totals.snapshots, 8);
    CU_ASSERT(totals.now_us >= 8 * 3000000);
    gwtf_simulation_destroy(simulation);
}

/* A disk that keeps up costs the hashing of the weights alone. */
static void a_snapshot_does_not_hold_training_up(void) {
    gwtf_time_us ends[2];
    for (uint32_t every = 0; every < 2; every++) {
        cluster_init(cluster, 1, 4, 2, 4);
        cluster->config.last_iteration = 10;
        cluster->config.microbatches = 16;
        cluster->config.snapshot_every = every;
        cluster->config.write_us = 100000;
        gwtf_simulation *simulation = run_cluster();
        ends[every] = gwtf_simulation_get_totals(simulation).now_us;
        gwtf_simulation_destroy(simulation);
    }
    /* Nine more snapshots, 500 us of hashing each. */
    CU_ASSERT(ends[1] - ends[0] <= 9 * 1000);
}

static void validation_is_reported_when_it_is_due(void) {
    cluster_init(cluster, 2, 3, 2, 2);
    cluster->config.first_iteration = 5;
    cluster->config.last_iteration = 11;
    cluster->config.validates = true;
    cluster->config.validate_every = 3;
    cluster->config.validation_microbatches = 5;
    gwtf_simulation *simulation = run_cluster();
    size_t count;
    const struct gwtf_report *reports = gwtf_simulation_reports(simulation, &count);
    CU_ASSERT_EQUAL(count, 7);
    for (size_t i = 0; i < count; i++) {
        bool is_due = reports[i].iteration % 3 == 0 || reports[i].iteration == 11;
        CU_ASSERT_EQUAL(!isnan(reports[i].validation_loss), is_due);
        /* The simulator's losses are 1 + index: 1 to 5. */
        if (is_due)
            CU_ASSERT_DOUBLE_EQUAL(reports[i].validation_loss, 3, 1e-12);
    }
    gwtf_simulation_destroy(simulation);
}

/* A replica whose optimizer is slow keeps nobody waiting but those who need its weights. */
static void a_slow_optimizer_holds_up_its_own_microbatches_alone(void) {
    int64_t durations[2];
    for (int slow = 0; slow < 2; slow++) {
        cluster_init(cluster, 1, 2, 2, 2);
        cluster->config.last_iteration = 4;
        if (slow)
            cluster->nodes[4].work_us[GWTF_WORK_STEP] = 40000;
        gwtf_simulation *simulation = run_cluster();
        size_t count;
        durations[slow] = gwtf_simulation_reports(simulation, &count)[2].duration_us;
        gwtf_simulation_destroy(simulation);
    }
    /* 39 ms more than the others' step; the microbatch before it takes 12 ms to come here. */
    CU_ASSERT(durations[1] - durations[0] <= 39000 - 12000 + 1000);
}

/*
 * What no schedule can beat. Stage s, with its share of the microbatches, computes
 * microbatches / replicas * (forward + backward); it cannot begin before the first microbatch has
 * come through EMBED, s hops and s - 1 forward passes, and after its last backward pass the
 * gradient still takes s - 1 backward passes, s hops and EMBED_BACKWARD. Then the aggregation:
 * REDUCE, the norm to all, READY, STEP.
 */
static int64_t ideal_us(uint32_t replicas) {
    const int64_t *relay = cluster->nodes[cluster->config.nodes_count - 1].work_us;
    const int64_t *data = cluster->nodes[0].work_us;
    int64_t forward = relay[GWTF_WORK_FORWARD], backward = relay[GWTF_WORK_BACKWARD];
    int64_t hop_us = cluster->latency_us + (int64_t)((double)cluster->config.boundary_bytes * 1e6 /
                                                     (double)cluster->bytes_per_second);
    int64_t worst_us = 0;
    for (int64_t s = 1; s <= cluster->config.stages; s++) {
        int64_t us = data[GWTF_WORK_EMBED] + s * hop_us + (s - 1) * forward;
        us += cluster->config.microbatches / replicas * (forward + backward);
        us += (s - 1) * backward + s * hop_us + data[GWTF_WORK_EMBED_BACKWARD];
        worst_us = us > worst_us ? us : worst_us;
    }
    /* A latency each for DONE and NORM; between several replicas for contribution and share too. */
    int64_t exchange_us = (replicas > 1 ? 4 : 2) * cluster->latency_us;
    return worst_us + exchange_us + relay[GWTF_WORK_REDUCE] + data[GWTF_WORK_STEP];
}

static void the_pipeline_comes_close_to_the_ideal(void) {
    static const struct {
        uint32_t stages, replicas, capacity, microbatches;
        double most; /* times the ideal */
    } cases[] = {{4, 1, 8, 16, 1.02},  {4, 1, 8, 64, 1.02}, {1, 1, 3, 16, 1.02},
                 {8, 1, 16, 64, 1.02}, {4, 2, 8, 64, 1.02}, {6, 4, 12, 128, 1.02}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cluster_init(cluster, 1, cases[i].stages, cases[i].replicas, cases[i].capacity);
        cluster->nodes[0].capacity = cases[i].capacity * cases[i].replicas;
        cluster->config.microbatches = cases[i].microbatches;
        cluster->config.last_iteration = 3;
        /* The data node's work is not to be the bottleneck. */
        for (int kind = 0; kind < GWTF_SIMULATION_WORKS; kind++)
            if (kind != GWTF_WORK_FORWARD && kind != GWTF_WORK_BACKWARD)
                cluster->nodes[0].work_us[kind] /= 10;
        gwtf_simulation *simulation = run_cluster();
        size_t count;
        const struct gwtf_report *reports = gwtf_simulation_reports(simulation, &count);
        CU_ASSERT_EQUAL_FATAL(count, 3);
        int64_t ideal = ideal_us(cases[i].replicas);
        /* The first iteration finds its flows. */
        for (size_t j = 1; j < count; j++) {
            double times = (double)reports[j].duration_us / (double)ideal;
            CU_ASSERT(times <= cases[i].most);
            CU_ASSERT(times >= 1);
            if (times > cases[i].most || times < 1)
                fprintf(stderr, "case %zu: %.4f of the ideal %lld us\n", i, times,
                        (long long)ideal);
        }
        gwtf_simulation_destroy(simulation);
    }
}

static void a_disk_that_fails_ends_the_run_and_is_named(void) {
    for (gwtf_node_id node = 0; node < 5; node += 2) {
        cluster_init(cluster, 2, 3, 2, 2);
        gwtf_simulation *simulation = cluster_start(cluster);
        CU_ASSERT_PTR_NOT_NULL_FATAL(simulation);
        struct gwtf_simulation_fault fault = {.kind = GWTF_SIMULATION_WRITE, .node = node};
        CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &fault), GWTF_OK);
        CU_ASSERT(cluster_run(cluster, simulation, GWTF_ERROR_IO, node));
        gwtf_node_id culprit = GWTF_NODE_NONE;
        CU_ASSERT(gwtf_simulation_finished(simulation, 7, NULL, &culprit));
        CU_ASSERT_EQUAL(culprit, node);
        CU_ASSERT_EQUAL(gwtf_simulation_get_totals(simulation).snapshots, 0);
        gwtf_simulation_destroy(simulation);
    }
}

static void a_thousand_nodes_train(void) {
    cluster_init(cluster, 2, 40, 25, 2);
    CU_ASSERT(cluster->config.nodes_count >= 1000);
    cluster->config.last_iteration = 3;
    cluster->config.check_every = 1000;
    gwtf_simulation *simulation = run_cluster();
    CU_ASSERT_EQUAL(gwtf_simulation_get_totals(simulation).iterations, 3);
    CU_ASSERT_EQUAL(gwtf_simulation_get_totals(simulation).refusals, 0);
    gwtf_simulation_destroy(simulation);
}

static void a_simulation_that_cannot_be_is_refused(void) {
    gwtf_simulation *simulation = NULL;
    cluster_init(cluster, 1, 2, 2, 1);
    cluster->config.link = NULL;
    CU_ASSERT_EQUAL(gwtf_simulation_create(&cluster->config, &simulation), GWTF_ERROR_USAGE);
    cluster_init(cluster, 1, 2, 2, 0);
    CU_ASSERT_EQUAL(gwtf_simulation_create(&cluster->config, &simulation), GWTF_ERROR_USAGE);
    cluster_init(cluster, 1, 2, 2, 1);
    cluster->nodes[1].stage = 3;
    CU_ASSERT_EQUAL(gwtf_simulation_create(&cluster->config, &simulation), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NULL(simulation);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(a_small_cluster_trains),
        GWTF_TEST(a_data_node_and_one_relay_are_enough),
        GWTF_TEST(a_slot_in_every_node_is_enough),
        GWTF_TEST(microbatches_take_turns_on_fewer_flows),
        GWTF_TEST(data_nodes_without_a_flow_get_their_turn),
        GWTF_TEST(all_that_a_node_sends_goes_through_its_uplink),
        GWTF_TEST(flows_leave_a_slow_link_and_come_back),
        GWTF_TEST(an_observer_sees_all_works_and_may_crash_a_node),
        GWTF_TEST(random_clusters_train_every_microbatch_once),
        GWTF_TEST(the_same_seed_gives_the_same_trace),
        GWTF_TEST(messages_that_come_twice_change_nothing),
        GWTF_TEST(a_stop_at_any_moment_ends_all_at_one_iteration_with_its_snapshot),
        GWTF_TEST(a_stop_at_relays_alone_is_no_stop),
        GWTF_TEST(snapshots_that_outrun_the_disk_slow_the_run_and_are_all_there),
        GWTF_TEST(a_snapshot_does_not_hold_training_up),
        GWTF_TEST(validation_is_reported_when_it_is_due),
        GWTF_TEST(a_slow_optimizer_holds_up_its_own_microbatches_alone),
        GWTF_TEST(the_pipeline_comes_close_to_the_ideal),
        GWTF_TEST(a_disk_that_fails_ends_the_run_and_is_named),
        GWTF_TEST(a_thousand_nodes_train),
        GWTF_TEST(a_simulation_that_cannot_be_is_refused),
    };
    return gwtf_suite_main(argc, argv, "fault_free", tests, sizeof tests / sizeof tests[0],
                           make_cluster, free_cluster);
}
