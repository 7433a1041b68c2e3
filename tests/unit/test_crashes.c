/* Eight nodes: 0 is the data node, 1 to 3 hold stage 1, 4 and 5 stage 2, 6 and 7 stage 3. */
#include "tests/support/suite.h"
#include "worker/runtime/crashes.h"

#include <string.h>

#define NODES 8
static const uint32_t stages[NODES] = {0, 1, 1, 1, 2, 2, 3, 3};
static struct gwtf_config config;
static gwtf_crashes *crashes[NODES];
static struct gwtf_crash crash;

static void make(size_t count) {
    config.crashes_count = count;
    for (gwtf_node_id i = 0; i < NODES; i++)
        CU_ASSERT_EQUAL_FATAL(gwtf_crashes_create(&config, stages, NODES, i, &crashes[i]), GWTF_OK);
}

static void unmake(void) {
    for (gwtf_node_id i = 0; i < NODES; i++)
        gwtf_crashes_destroy(crashes[i]);
    memset(&config, 0, sizeof config);
}

static bool next(gwtf_node_id node, uint32_t iteration, enum gwtf_config_phase phase,
                 double seconds) {
    return gwtf_crashes_next(crashes[node], iteration, phase, (int64_t)(seconds * 1e6), &crash);
}

static void a_named_node_dies_in_its_phase_and_not_before(void) {
    config.crashes[0] = (struct gwtf_config_crash){
        .node = 4, .iteration = 3, .seconds = 2, .phase = GWTF_CONFIG_PHASE_BACKWARD};
    make(1);
    CU_ASSERT(!next(4, 2, GWTF_CONFIG_PHASE_BACKWARD, 5));
    CU_ASSERT(!next(4, 3, GWTF_CONFIG_PHASE_FORWARD, 5));
    CU_ASSERT(!next(4, 3, GWTF_CONFIG_PHASE_ANY, 5));
    CU_ASSERT(!next(5, 3, GWTF_CONFIG_PHASE_BACKWARD, 5));
    CU_ASSERT(next(4, 3, GWTF_CONFIG_PHASE_BACKWARD, 5));
    CU_ASSERT(!crash.stop);
    CU_ASSERT_STRING_EQUAL(crash.text, "kill -9 in backward of iteration 3");
    CU_ASSERT(!next(4, 4, GWTF_CONFIG_PHASE_BACKWARD, 9));
    unmake();
}

static void nothing_happens_before_its_time(void) {
    config.crashes[0] = (struct gwtf_config_crash){.node = 2, .seconds = 2};
    make(1);
    CU_ASSERT(!next(2, 1, GWTF_CONFIG_PHASE_ANY, 1.9));
    CU_ASSERT(next(2, 1, GWTF_CONFIG_PHASE_FORWARD, 2));
    unmake();
}

static void a_stop_comes_again_and_says_how_long(void) {
    config.crashes[0] = (struct gwtf_config_crash){.kind = GWTF_CONFIG_CRASH_STOP,
                                                   .node = 0,
                                                   .seconds = 1,
                                                   .every = 10,
                                                   .stopped_seconds = 2.5};
    make(1);
    for (uint32_t turn = 0; turn < 3; turn++) {
        CU_ASSERT(!next(0, 7, GWTF_CONFIG_PHASE_ANY, 10 * turn + 0.5));
        CU_ASSERT(next(0, 7, GWTF_CONFIG_PHASE_ANY, 10 * turn + 1.5));
        CU_ASSERT(crash.stop && crash.stopped_seconds == 2.5);
        CU_ASSERT_STRING_EQUAL(crash.text, "stopped for 2.5 s in iteration 7");
        CU_ASSERT(!next(0, 7, GWTF_CONFIG_PHASE_ANY, 10 * turn + 1.5));
    }
    unmake();
}

/* Who dies in each of 20 seconds, at random; each node asks at moments of its own. */
static uint32_t run_random(uint64_t seed, gwtf_node_id victims[20]) {
    bool dead[NODES] = {false};
    uint32_t count = 0;
    config.crashes[0] =
        (struct gwtf_config_crash){.node = GWTF_CONFIG_ANY_NODE, .every = 1, .seed = seed};
    make(1);
    for (uint32_t second = 0; second < 20; second++)
        for (gwtf_node_id i = 0; i < NODES; i++)
            if (!dead[i] && (second % (i + 1) == 0 || second == 19) &&
                next(i, second, GWTF_CONFIG_PHASE_ANY, second + 0.1 * i)) {
                dead[i] = true;
                victims[count++] = i;
            }
    unmake();
    return count;
}

static void random_kills_leave_a_relay_in_each_stage(void) {
    gwtf_node_id victims[20], again[20];
    bool differ = false;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        uint32_t left[4] = {1, 3, 2, 2};
        CU_ASSERT_EQUAL(run_random(seed, victims), 4);
        CU_ASSERT_EQUAL(run_random(seed, again), 4);
        CU_ASSERT_EQUAL(memcmp(victims, again, 4 * sizeof *victims), 0);
        for (uint32_t i = 0; i < 4; i++)
            left[stages[victims[i]]]--;
        CU_ASSERT(left[0] == 1 && left[1] == 1 && left[2] == 1 && left[3] == 1);
        run_random(seed + 1, again);
        differ = differ || memcmp(victims, again, 4 * sizeof *victims) != 0;
    }
    CU_ASSERT(differ);
}

static void who_is_to_die_by_name_is_nobodys_spare(void) {
    config.crashes[0] = (struct gwtf_config_crash){.node = GWTF_CONFIG_ANY_NODE, .every = 1};
    config.crashes[1] = (struct gwtf_config_crash){.node = 5, .seconds = 100};
    make(2);
    for (uint32_t second = 0; second < 20; second++)
        CU_ASSERT(!next(4, 1, GWTF_CONFIG_PHASE_ANY, second));
    CU_ASSERT(next(5, 1, GWTF_CONFIG_PHASE_ANY, 100));
    unmake();
}

static void random_moments_keep_their_mean(void) {
    config.crashes[0] = (struct gwtf_config_crash){.kind = GWTF_CONFIG_CRASH_STOP,
                                                   .node = 2,
                                                   .every = 2,
                                                   .random = true,
                                                   .stopped_seconds = 0.001,
                                                   .seed = 5};
    make(1);
    uint32_t stops = 0, pauses = 0, last = 0;
    for (uint32_t at = 0; at < 40000; at++)
        while (next(2, 1, GWTF_CONFIG_PHASE_ANY, at * 0.05)) {
            pauses += at - last > 40; /* longer than the mean */
            last = at;
            stops++;
        }
    CU_ASSERT(stops > 900 && stops < 1100);
    CU_ASSERT(pauses > stops / 4 && pauses < stops / 2); /* exp(-1) of them */
    unmake();
}

/* Stops of 3 s every 2 s, kills every second: a relay that stands still, or has just gone on, is no
 * one's spare, and nobody whose stage has no other is stopped. */
static void who_is_stopped_is_nobodys_spare(void) {
    uint32_t stops = 0, kills = 0;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        double away[NODES] = {0};
        config.crashes[0] = (struct gwtf_config_crash){
            .node = GWTF_CONFIG_ANY_NODE, .every = 1, .seconds = 0.5, .seed = seed};
        config.crashes[1] = (struct gwtf_config_crash){.kind = GWTF_CONFIG_CRASH_STOP,
                                                       .node = GWTF_CONFIG_ANY_NODE,
                                                       .seconds = 0.25,
                                                       .every = 2,
                                                       .stopped_seconds = 3,
                                                       .seed = seed};
        make(2);
        for (double at = 0; at < 20; at += 0.25)
            for (gwtf_node_id i = 0; i < NODES; i++) {
                if (!next(i, 1, GWTF_CONFIG_PHASE_ANY, at))
                    continue;
                uint32_t others = 0;
                for (gwtf_node_id other = 0; other < NODES; other++)
                    others += other != i && stages[other] == stages[i] && away[other] <= at;
                CU_ASSERT(others > 0 && away[i] <= at);
                away[i] = crash.stop ? at + 3 : 1e9;
                stops += crash.stop;
                kills += !crash.stop;
            }
        unmake();
    }
    CU_ASSERT(stops > 200 && kills == 100);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(a_named_node_dies_in_its_phase_and_not_before),
        GWTF_TEST(nothing_happens_before_its_time),
        GWTF_TEST(a_stop_comes_again_and_says_how_long),
        GWTF_TEST(random_kills_leave_a_relay_in_each_stage),
        GWTF_TEST(who_is_to_die_by_name_is_nobodys_spare),
        GWTF_TEST(who_is_stopped_is_nobodys_spare),
        GWTF_TEST(random_moments_keep_their_mean),
    };
    return gwtf_suite_main(argc, argv, "crashes", tests, sizeof tests / sizeof tests[0], NULL,
                           NULL);
}
