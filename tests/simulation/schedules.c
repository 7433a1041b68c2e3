/* The kinds of random schedules of faults: drawn from a seed, run, and held against what must hold.
 */
#include "tests/simulation/schedules.h"

#include "share/base/random.h"
#include "tests/support/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cluster *cluster;
bool schedules_disorderly;
bool schedules_share;

int make_cluster(void) {
    cluster = calloc(1, sizeof *cluster);
    return cluster ? 0 : 1;
}

int free_cluster(void) {
    free(cluster);
    return 0;
}

static uint32_t pick(struct gwtf_random *random, uint32_t low, uint32_t high) {
    return low + (uint32_t)gwtf_random_below(random, high - low + 1);
}

/* Waiting is long to simulate, and nothing happens in it: in most clusters tensors and messages
 * take at most so long over the slowest link. */
#define TENSOR_MOST_US 200000
#define LATENCY_MOST_US 20000

static void quicken(void) {
    double slowest = (double)cluster->bytes_per_second * (1 - cluster->bandwidth_spread);
    uint64_t most = (uint64_t)(slowest * TENSOR_MOST_US / 1e6);
    if (cluster->config.boundary_bytes > most)
        cluster->config.boundary_bytes = most;
    cluster->latency_us %= LATENCY_MOST_US / 2;
    cluster->latency_spread_us %= LATENCY_MOST_US / 2;
}

#define QUICK_ITERATIONS 40

/* An iteration takes a few ms, and now and then one of its messages takes many of them. */
static void make_quick(uint64_t seed) {
    struct gwtf_random random;
    struct gwtf_simulation_config *config = &cluster->config;
    gwtf_random_init(&random, gwtf_random_key(seed, 11));
    for (size_t i = 0; i < config->nodes_count; i++)
        for (int kind = 0; kind < GWTF_SIMULATION_WORKS; kind++)
            cluster->nodes[i].work_us[kind] = 1 + cluster->nodes[i].work_us[kind] % 1009;
    config->boundary_bytes = 1 + config->boundary_bytes % 10000;
    config->jitter_us %= 301;
    config->sent_us %= 301;
    config->write_us %= 10007;
    config->manifest_us %= 1009;
    cluster->latency_us %= 301;
    cluster->latency_spread_us %= 301;
    config->resent = pick(&random, 0, 3) ? 0.003 * gwtf_random_unit(&random) : 0;
    config->last_iteration += QUICK_ITERATIONS;
}

/* A quarter of all clusters each: with messages that are lost on their way, with clocks that
 * differ, with both, with neither. */
static void draw_cluster(uint64_t seed) {
    struct gwtf_random random;
    cluster_init_random(cluster, seed);
    cluster->config.batch_is_constant = schedules_share && gwtf_random_key(seed, 13) % 2 == 0;
    gwtf_random_init(&random, gwtf_random_key(seed, 9));
    if (!schedules_disorderly)
        return;
    cluster->config.check_every = 1;
    if (pick(&random, 0, 7) > 0)
        quicken();
    if (pick(&random, 0, 1))
        cluster->config.resent = 0.05 * gwtf_random_unit(&random);
    if (pick(&random, 0, 1)) {
        cluster->config.clock_offset_us = 1000000000000;
        cluster->config.clock_drift = 0.05;
    }
}

/* A cluster whose slowest links, of half a MB/s, have a queue of tensors that are void by now. */
#define STALL_US 1000000000

/* What the kinds of schedules do with a random cluster before its undisturbed run. */
static uint64_t run_key(uint64_t seed) {
    const struct gwtf_simulation_config *config = &cluster->config;
    uint64_t key = gwtf_random_key(seed, config->last_iteration);
    key = gwtf_random_key(key, (uint64_t)config->jitter_us);
    key = gwtf_random_key(key, config->boundary_bytes);
    return gwtf_random_key(gwtf_random_key(key, config->policy), config->recovery);
}

/* How long the cluster takes undisturbed. Several kinds have that run in common: it is done once.
 */
static gwtf_time_us undisturbed_us(uint64_t seed) {
    static struct {
        uint64_t key;
        gwtf_time_us us; /* 0: not known */
    } known[16384], *entry;
    uint64_t key = run_key(seed);
    entry = &known[key % (sizeof known / sizeof known[0])];
    if (entry->us > 0 && entry->key == key)
        return entry->us;
    gwtf_simulation *simulation = cluster_start(cluster);
    CU_ASSERT_PTR_NOT_NULL_FATAL(simulation);
    bool good = cluster_run(cluster, simulation, GWTF_OK, seed);
    CU_ASSERT(good);
    entry->key = key;
    entry->us = good ? gwtf_simulation_get_totals(simulation).now_us : 0;
    gwtf_time_us now_us = gwtf_simulation_get_totals(simulation).now_us;
    gwtf_simulation_destroy(simulation);
    return now_us;
}

/* The cluster of SEED, with so many iterations more, and how long it takes undisturbed; RANDOM is
 * what the kind KIND of schedules draws its faults from. */
static gwtf_simulation *start(uint64_t seed, uint64_t kind, uint32_t more,
                              struct gwtf_random *random, gwtf_time_us *duration_us) {
    draw_cluster(seed);
    cluster->config.last_iteration += more;
    cluster->config.stall_us = STALL_US;
    *duration_us = undisturbed_us(seed);
    gwtf_random_init(random, gwtf_random_key(seed, kind));
    gwtf_simulation *simulation = cluster_start(cluster);
    CU_ASSERT_PTR_NOT_NULL_FATAL(simulation);
    return simulation;
}

/* Whether another node of VICTIM's stage is left. */
static bool may_go(const bool *gone, size_t victim) {
    for (size_t i = 0; i < cluster->config.nodes_count; i++)
        if (i != victim && !gone[i] && cluster->nodes[i].stage == cluster->nodes[victim].stage)
            return true;
    return false;
}

/* And of BY's, when VICTIM is gone. */
static bool may_go_too(bool *gone, size_t victim, size_t by) {
    gone[victim] = true;
    bool may = may_go(gone, by);
    gone[victim] = false;
    return may;
}

uint64_t schedules_traces;

/* Runs to the end; all nodes that were not to go must end well. */
static bool run_to_end(gwtf_simulation *simulation, const bool *gone, uint64_t seed) {
    gwtf_status ran = gwtf_simulation_run(simulation, GWTF_TIME_NEVER);
    schedules_traces =
        gwtf_random_key(schedules_traces, gwtf_simulation_get_totals(simulation).trace);
    if (ran != GWTF_OK) {
        const char *why = gwtf_simulation_failure(simulation);
        fprintf(stderr, "seed %llu: %s\n", (unsigned long long)seed, why ? why : "no memory");
        return false;
    }
    for (size_t i = 0; i < cluster->config.nodes_count; i++) {
        gwtf_status ended = GWTF_OK;
        gwtf_node_id node = cluster->nodes[i].node;
        bool finished = gwtf_simulation_finished(simulation, node, &ended, NULL);
        if (gone[i] || (finished && ended == GWTF_OK))
            continue;
        fprintf(stderr, "seed %llu: node %u ended with %s\n", (unsigned long long)seed, node,
                finished ? gwtf_status_name(ended) : "nothing");
        return false;
    }
    return true;
}

#define STALL_MOST_US 50000

/* Before its many short iterations a quick cluster builds flows for about as long. */
static gwtf_time_us some_time(struct gwtf_random *random, gwtf_time_us duration_us,
                              const struct mix *mix) {
    gwtf_time_us from_us = mix->quick ? duration_us / 2 : 0;
    return from_us + 1 + (gwtf_time_us)gwtf_random_below(random, (uint64_t)(duration_us - from_us));
}

/* So what went to half of the others before CRASH is lost, and the others have what came after it.
 */
static void add_stall(gwtf_simulation *simulation, struct gwtf_random *random,
                      const struct gwtf_simulation_fault *crash) {
    int64_t before_us = pick(random, 1, STALL_MOST_US);
    if (before_us > crash->at_us)
        before_us = crash->at_us;
    struct gwtf_simulation_fault stall = {.kind = GWTF_SIMULATION_STALL,
                                          .at_us = crash->at_us - before_us,
                                          .node = crash->node,
                                          .pause_us = before_us + crash->notice_us};
    CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &stall), GWTF_OK);
}

/* Nodes that are told to leave: TOLD, and GONE. Where all of a stage are, one stays; but who joins
 * may be lost, and is not to be the one. */
static void tell_to_leave(gwtf_simulation *simulation, struct gwtf_random *random, bool *told,
                          bool *gone, gwtf_time_us duration_us, const struct mix *mix) {
    uint32_t nodes = (uint32_t)cluster->config.nodes_count;
    uint32_t wanted = pick(random, 1, mix->crashes ? 1 + nodes / 4 : nodes);
    gwtf_time_us at_us = 0;
    for (uint32_t i = 0; i < wanted; i++) {
        size_t node = pick(random, 0, nodes - 1);
        if (mix->joins && (gone[node] || !may_go(gone, node)))
            continue;
        if (at_us == 0 || pick(random, 0, 1))
            at_us = 1 + (gwtf_time_us)gwtf_random_below(random, (uint64_t)duration_us);
        told[node] = gone[node] = true;
        struct gwtf_simulation_fault leave = {
            .kind = GWTF_SIMULATION_LEAVE, .at_us = at_us, .node = cluster->nodes[node].node};
        CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &leave), GWTF_OK);
    }
}

/* Crashes of up to all nodes but one of each stage, alone or several at once. Data nodes are among
 * them only when more than half of the nodes are left at all times, with OTHERS that are lost: else
 * it is a cut. */
static void add_crashes(gwtf_simulation *simulation, struct gwtf_random *random, bool *gone,
                        gwtf_time_us duration_us, const struct mix *mix, uint32_t others) {
    uint32_t nodes = (uint32_t)cluster->config.nodes_count, there = 0;
    for (size_t i = 0; i < nodes; i++)
        there += !gone[i];
    bool data_nodes = pick(random, 0, 2) == 0 && there > others + 2;
    uint32_t wanted = pick(random, 1, data_nodes ? (there - others - 1) / 2 : nodes);
    gwtf_time_us at_us = 0;
    for (uint32_t i = 0, tries = 0; i < wanted && tries < 8 * nodes; tries++) {
        size_t victim = pick(random, 0, nodes - 1);
        if (gone[victim] || !may_go(gone, victim) ||
            (cluster->nodes[victim].stage == 0 && !data_nodes))
            continue;
        gone[victim] = true;
        i++;
        if (at_us == 0 || pick(random, 0, 1))
            at_us = some_time(random, duration_us, mix);
        else
            at_us += pick(random, 0, 3) ? pick(random, 0, 50000) : 0;
        struct gwtf_simulation_fault crash = {
            .kind = GWTF_SIMULATION_CRASH,
            .at_us = at_us,
            .node = cluster->nodes[victim].node,
            .notice_us = pick(random, 0, 3) ? pick(random, 0, 300000) : 2000000,
            .spread_us = pick(random, 0, 1) * 100000};
        if (mix->stalls)
            add_stall(simulation, random, &crash);
        if (mix->returns)
            crash.return_us = pick(random, 1, 1000000);
        CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &crash), GWTF_OK);
    }
}

/* Nodes that may go besides those that do, without being as many as a cut takes away. */
static uint32_t count_more(const bool *gone) {
    uint32_t nodes = (uint32_t)cluster->config.nodes_count, away = 0;
    for (uint32_t i = 0; i < nodes; i++)
        away += gone[i];
    uint32_t most = nodes > 2 ? (nodes - 1) / 2 : 1;
    return most > away ? most - away : 0;
}

/* Nodes that live, but somebody hears nothing of them. Who misses the recorder, alone, leaves. */
static void add_suspicions(gwtf_simulation *simulation, struct gwtf_random *random, bool *gone,
                           gwtf_time_us duration_us) {
    uint32_t nodes = (uint32_t)cluster->config.nodes_count, more = count_more(gone);
    if (more == 0)
        return;
    uint32_t wanted = pick(random, 1, more);
    for (uint32_t i = 0, tries = 0; i < wanted && tries < 8 * nodes; tries++) {
        size_t victim = pick(random, 0, nodes - 1), by = pick(random, 0, nodes - 1);
        bool is_data_node = cluster->nodes[victim].stage == 0;
        if (gone[victim] || gone[by] || by == victim || !may_go(gone, victim) ||
            (is_data_node && !may_go_too(gone, victim, by)))
            continue;
        gone[victim] = true;
        gone[by] = is_data_node;
        i++;
        struct gwtf_simulation_fault suspect = {
            .kind = GWTF_SIMULATION_SUSPECT,
            .at_us = 1 + (gwtf_time_us)gwtf_random_below(random, (uint64_t)duration_us),
            .node = cluster->nodes[victim].node,
            .by = cluster->nodes[by].node};
        CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &suspect), GWTF_OK);
    }
}

/* Nodes that stand still: those that do for long are missed by some of the others, or by all. */
static void add_pauses(gwtf_simulation *simulation, struct gwtf_random *random, bool *gone,
                       gwtf_time_us duration_us, const struct mix *mix) {
    uint32_t nodes = (uint32_t)cluster->config.nodes_count;
    for (uint32_t i = pick(random, 1, 4); i > 0 && count_more(gone) > 0; i--) {
        size_t victim = pick(random, 0, nodes - 1);
        if (gone[victim] || !may_go(gone, victim))
            continue;
        struct gwtf_simulation_fault pause = {
            .kind = GWTF_SIMULATION_PAUSE,
            .at_us = some_time(random, duration_us, mix),
            .node = cluster->nodes[victim].node,
            .pause_us = pick(random, 1, pick(random, 0, 1) ? 20000 : 2000000),
            .notice_us = pick(random, 10000, 300000),
            .spread_us = pick(random, 0, 300000)};
        gone[victim] = pause.pause_us > pause.notice_us;
        CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &pause), GWTF_OK);
    }
}

static void keep_little(struct gwtf_random *random) {
    for (size_t i = 0; i < cluster->config.nodes_count; i++)
        if (pick(random, 0, 1))
            cluster->nodes[i].retained =
                pick(random, 0, 2) ? pick(random, 1, 4) : GWTF_SIMULATION_RETAINED_NONE;
}

/* Some places are free at first, but not all of a stage. */
static void leave_free(struct gwtf_random *random, bool *gone) {
    uint32_t nodes = (uint32_t)cluster->config.nodes_count;
    for (uint32_t i = pick(random, 1, nodes); i > 0; i--) {
        size_t node = pick(random, 0, nodes - 1);
        if (!gone[node] && may_go(gone, node)) {
            gone[node] = cluster->nodes[node].is_free = true;
            cluster->nodes[node].own_data = schedules_share && cluster->nodes[node].stage == 0 &&
                                            gwtf_random_key(cluster->config.seed, node) % 2 == 0;
        }
    }
}

/* Who has joined by FAULT is told to leave, and another takes the place. */
static void visit_briefly(gwtf_simulation *simulation, struct gwtf_random *random,
                          struct gwtf_simulation_fault *fault, gwtf_time_us duration_us) {
    for (uint32_t i = 0; i < 2; i++) {
        fault->kind = i == 0 ? GWTF_SIMULATION_LEAVE : GWTF_SIMULATION_RETURN;
        fault->at_us += 1 + (gwtf_time_us)gwtf_random_below(random, (uint64_t)duration_us / 2 + 1);
        CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, fault), GWTF_OK);
    }
}

/* Who takes a free place may be lost, too, and come back. Returns how many are. */
/* Who leaves comes to a free place of another stage, in a new process. */
struct moving {
    struct gwtf_random random;
    bool taken[CLUSTER_NODES_MAX];
};

static void move_on(void *context, gwtf_simulation *simulation,
                    const struct gwtf_simulation_notice *notice) {
    struct moving *moving = context;
    if (notice->kind != GWTF_SIMULATION_LEFT || cluster->nodes[notice->index].stage == 0)
        return;
    uint32_t nodes = (uint32_t)cluster->config.nodes_count, from = pick(&moving->random, 0, nodes);
    for (uint32_t k = 0; k < nodes; k++) {
        uint32_t i = (from + k) % nodes;
        const struct gwtf_simulation_node *place = &cluster->nodes[i];
        if (!place->is_free || moving->taken[i] || place->stage == 0 ||
            place->stage == cluster->nodes[notice->index].stage)
            continue;
        struct gwtf_simulation_fault fault = {.kind = GWTF_SIMULATION_RETURN,
                                              .at_us =
                                                  notice->now_us + pick(&moving->random, 1, 100000),
                                              .node = place->node};
        moving->taken[i] = true;
        schedules_moved++;
        CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &fault), GWTF_OK);
        return;
    }
}

/* Places that nobody who was never there takes. */
static void leave_to_movers(struct gwtf_random *random, bool *taken) {
    for (size_t i = 0; i < cluster->config.nodes_count; i++)
        taken[i] = cluster->nodes[i].is_free && pick(random, 0, 1) == 0;
}

static uint32_t add_joins(gwtf_simulation *simulation, struct gwtf_random *random,
                          gwtf_time_us duration_us, const struct mix *mix, const bool *taken) {
    gwtf_time_us at_us = 0;
    uint32_t lost = 0;
    for (size_t i = 0; i < cluster->config.nodes_count; i++) {
        if (!cluster->nodes[i].is_free || (mix->moves && !taken[i]))
            continue;
        if (at_us == 0 || pick(random, 0, 1))
            at_us = 1 + (gwtf_time_us)gwtf_random_below(random, (uint64_t)duration_us);
        struct gwtf_simulation_fault fault = {
            .kind = GWTF_SIMULATION_RETURN, .at_us = at_us, .node = cluster->nodes[i].node};
        CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &fault), GWTF_OK);
        if (mix->leaves && pick(random, 0, 1)) {
            visit_briefly(simulation, random, &fault, duration_us);
            continue;
        }
        if (pick(random, 0, 3))
            continue;
        fault.kind = GWTF_SIMULATION_CRASH;
        fault.at_us += 1 + (gwtf_time_us)gwtf_random_below(random, (uint64_t)duration_us);
        fault.notice_us = pick(random, 0, 300000);
        fault.return_us = pick(random, 0, 1) ? pick(random, 1, 1000000) : 0;
        CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &fault), GWTF_OK);
        lost++;
    }
    return lost;
}

uint32_t schedules_returned, schedules_left, schedules_moved, schedules_stayed;

static void add_crash(gwtf_simulation *simulation, struct gwtf_random *random, size_t victim,
                      gwtf_time_us at_us) {
    struct gwtf_simulation_fault crash = {.kind = GWTF_SIMULATION_CRASH,
                                          .at_us = at_us,
                                          .node = cluster->nodes[victim].node,
                                          .notice_us = pick(random, 0, 3) ? pick(random, 0, 300000)
                                                                          : 2000000,
                                          .spread_us = pick(random, 0, 1) * 100000};
    CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &crash), GWTF_OK);
}

/* VICTIM may be lost as well: where data nodes are lost, those that are lost are to be fewer than
 * those that stay. */
static bool may_be_lost_too(const bool *told, const bool *gone, size_t victim) {
    uint32_t there = 0, lost = 1;
    bool has_data_node = cluster->nodes[victim].stage == 0;
    for (size_t i = 0; i < cluster->config.nodes_count; i++) {
        there += !told[i];
        lost += gone[i];
        has_data_node = has_data_node || (gone[i] && cluster->nodes[i].stage == 0);
    }
    return !has_data_node || 2 * lost < there;
}

/* One of those that are told to leave is lost, too; but each stage keeps a node that is neither. */
static void crash_leaver(gwtf_simulation *simulation, struct gwtf_random *random, const bool *told,
                         bool *gone, gwtf_time_us duration_us) {
    bool away[CLUSTER_NODES_MAX];
    for (size_t i = 0; i < cluster->config.nodes_count; i++)
        away[i] = told[i] || gone[i];
    for (size_t i = 0; i < cluster->config.nodes_count; i++) {
        if (!told[i] || gone[i] || pick(random, 0, 1) || !may_go(away, i) ||
            !may_be_lost_too(told, gone, i))
            continue;
        gone[i] = true;
        add_crash(simulation, random, i,
                  1 + (gwtf_time_us)gwtf_random_below(random, (uint64_t)duration_us));
        return;
    }
}

bool survives(uint64_t seed, const struct mix *mix) {
    struct gwtf_random random;
    bool gone[CLUSTER_NODES_MAX] = {false}, told[CLUSTER_NODES_MAX] = {false};
    draw_cluster(seed);
    if (mix->quick)
        make_quick(seed);
    cluster->config.last_iteration += mix->longer ? 8 : 2;
    cluster->config.stall_us = STALL_US;
    if (mix->has_policy)
        cluster->config.policy = mix->policy;
    cluster->config.recovery = mix->recovery;
    gwtf_time_us duration_us = undisturbed_us(seed);
    gwtf_random_init(&random, gwtf_random_key(seed, 5));
    if (mix->keeps_little)
        keep_little(&random);
    cluster->config.return_us = mix->returns ? (int64_t)pick(&random, 1, 1000000) : 0;
    if (mix->joins)
        leave_free(&random, gone);
    static struct moving moving;
    if (mix->moves) {
        gwtf_random_init(&moving.random, gwtf_random_key(seed, 6));
        leave_to_movers(&moving.random, moving.taken);
        cluster->config.observe = move_on;
        cluster->config.observe_context = &moving;
    }
    gwtf_simulation *simulation = cluster_start(cluster);
    CU_ASSERT_PTR_NOT_NULL_FATAL(simulation);
    uint32_t lost = mix->joins ? add_joins(simulation, &random, duration_us, mix, moving.taken) : 0;
    uint32_t nodes = (uint32_t)cluster->config.nodes_count;
    if (mix->leaves)
        tell_to_leave(simulation, &random, told, gone, duration_us, mix);
    if (mix->crashes)
        add_crashes(simulation, &random, gone, duration_us, mix, lost);
    if (mix->suspicions)
        add_suspicions(simulation, &random, gone, duration_us);
    if (mix->pauses)
        add_pauses(simulation, &random, gone, duration_us, mix);
    for (size_t i = 0; i < nodes; i++)
        gone[i] = gone[i] && !told[i];
    if (mix->leaves && mix->crashes)
        crash_leaver(simulation, &random, told, gone, duration_us);
    bool good = run_to_end(simulation, gone, seed);
    schedules_returned += gwtf_simulation_get_totals(simulation).returned;
    schedules_left += gwtf_simulation_get_totals(simulation).left;
    schedules_stayed += gwtf_simulation_get_totals(simulation).stayed;
    uint32_t iterations = cluster->config.last_iteration - cluster->config.first_iteration + 1;
    good = good && gwtf_simulation_get_totals(simulation).iterations <= iterations;
    gwtf_simulation_destroy(simulation);
    return good;
}

/* Whether the nodes whose APART is SIDE may go on: they hold all stages, and where the others do,
 * too, they are more, or as many with the recorder. */
static bool has_right(const bool *apart, bool side) {
    bool here[GWTF_STAGES_MAX + 1] = {false}, there[GWTF_STAGES_MAX + 1] = {false};
    uint32_t mine = 0, others = 0;
    size_t recorder = SIZE_MAX;
    for (size_t i = 0; i < cluster->config.nodes_count; i++) {
        uint32_t stage = cluster->nodes[i].stage;
        (apart[i] == side ? here : there)[stage] = true;
        mine += apart[i] == side;
        others += apart[i] != side;
        if (stage == 0 && recorder == SIZE_MAX)
            recorder = i;
    }
    bool whole = true, others_whole = true;
    for (uint32_t stage = 0; stage <= cluster->config.stages; stage++) {
        whole = whole && here[stage];
        others_whole = others_whole && there[stage];
    }
    if (!whole || !others_whole)
        return whole;
    return mine > others || (mine == others && apart[recorder] == side);
}

/* A cut through the middle, at any moment. */
bool one_side_goes_on(uint64_t seed, const struct mix *mix) {
    struct gwtf_random random;
    bool apart[CLUSTER_NODES_MAX] = {false};
    (void)mix;
    gwtf_time_us duration_us;
    gwtf_simulation *simulation = start(seed, 7, 2, &random, &duration_us);
    uint32_t share = pick(&random, 1, 3);
    struct gwtf_simulation_fault cut = {
        .kind = GWTF_SIMULATION_CUT,
        .at_us = 1 + (gwtf_time_us)gwtf_random_below(&random, (uint64_t)duration_us),
        .notice_us = pick(&random, 100000, 2000000),
        .spread_us = pick(&random, 0, 1000000)};
    for (size_t i = 0; i < cluster->config.nodes_count; i++) {
        cut.node = cluster->nodes[i].node;
        apart[i] = pick(&random, 0, 3) < share;
        if (apart[i])
            CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &cut), GWTF_OK);
    }
    bool gone[CLUSTER_NODES_MAX];
    for (size_t i = 0; i < cluster->config.nodes_count; i++)
        gone[i] = !has_right(apart, apart[i]);
    bool good = run_to_end(simulation, gone, seed);
    gwtf_simulation_destroy(simulation);
    return good;
}

/* Nobody but those that are suspected ends, and they know why. */
bool fences_the_suspected(uint64_t seed, const struct mix *mix) {
    struct gwtf_random random;
    bool gone[CLUSTER_NODES_MAX] = {false};
    (void)mix;
    gwtf_time_us duration_us;
    gwtf_simulation *simulation = start(seed, 6, 0, &random, &duration_us);
    add_suspicions(simulation, &random, gone, duration_us);
    bool good = run_to_end(simulation, gone, seed);
    for (size_t i = 0; i < cluster->config.nodes_count && good; i++) {
        gwtf_status ended = GWTF_OK;
        bool finished = gwtf_simulation_finished(simulation, cluster->nodes[i].node, &ended, NULL);
        good = finished && (ended == GWTF_OK || (gone[i] && ended == GWTF_ERROR_FENCED));
    }
    gwtf_simulation_destroy(simulation);
    return good;
}

static bool says(uint64_t seed, const char *what, uint32_t stage) {
    fprintf(stderr, "seed %llu: stage %u: %s\n", (unsigned long long)seed, stage, what);
    return false;
}

static void add_notice(gwtf_simulation *simulation, enum gwtf_simulation_fault_kind kind,
                       gwtf_time_us at_us, size_t node, size_t by) {
    struct gwtf_simulation_fault fault = {.kind = kind,
                                          .at_us = at_us,
                                          .node = cluster->nodes[node].node,
                                          .by = cluster->nodes[by].node};
    CU_ASSERT_EQUAL(gwtf_simulation_inject(simulation, &fault), GWTF_OK);
}

/* Both ends hear nothing of each other, up to 3 s apart, and hear it again some time later. */
static void break_link(gwtf_simulation *simulation, struct gwtf_random *random,
                       gwtf_time_us duration_us) {
    uint32_t nodes = (uint32_t)cluster->config.nodes_count;
    size_t ends[2] = {pick(random, 0, nodes - 1), pick(random, 0, nodes - 1)};
    gwtf_time_us at_us = 1 + (gwtf_time_us)gwtf_random_below(random, (uint64_t)duration_us);
    for (int end = 0; end < 2 && ends[0] != ends[1]; end++) {
        add_notice(simulation, GWTF_SIMULATION_SUSPECT, at_us, ends[end], ends[1 - end]);
        add_notice(simulation, GWTF_SIMULATION_HEAR, at_us + pick(random, 1, 20000000), ends[end],
                   ends[1 - end]);
        at_us += pick(random, 0, 3000000);
    }
}

/* One end alone, and for good: it leaves when nobody misses it. */
static void break_one_way(gwtf_simulation *simulation, struct gwtf_random *random,
                          gwtf_time_us duration_us) {
    static const bool none_gone[CLUSTER_NODES_MAX];
    uint32_t nodes = (uint32_t)cluster->config.nodes_count;
    size_t node = pick(random, 0, nodes - 1), by = pick(random, 0, nodes - 1);
    gwtf_time_us at_us = 1 + (gwtf_time_us)gwtf_random_below(random, (uint64_t)duration_us);
    if (node != by && may_go(none_gone, by))
        add_notice(simulation, GWTF_SIMULATION_SUSPECT, at_us, node, by);
}

/* Every stage has a node that has trained to the end; who has not was fenced, or heard nobody. */
static bool has_all_stages(const gwtf_simulation *simulation, uint64_t seed) {
    bool whole[GWTF_STAGES_MAX + 1] = {false};
    for (size_t i = 0; i < cluster->config.nodes_count; i++) {
        gwtf_status ended = GWTF_OK;
        if (!gwtf_simulation_finished(simulation, cluster->nodes[i].node, &ended, NULL) ||
            (ended != GWTF_OK && ended != GWTF_ERROR_FENCED && ended != GWTF_ERROR_LINK))
            return says(seed, gwtf_status_name(ended), cluster->nodes[i].stage);
        whole[cluster->nodes[i].stage] |= ended == GWTF_OK;
    }
    for (uint32_t stage = 0; stage <= cluster->config.stages; stage++)
        if (!whole[stage])
            return says(seed, "nobody has trained to the end", stage);
    return true;
}

bool breaks_links(uint64_t seed, const struct mix *mix) {
    struct gwtf_random random;
    bool anybody[CLUSTER_NODES_MAX];
    (void)mix;
    memset(anybody, true, sizeof anybody);
    gwtf_time_us duration_us;
    gwtf_simulation *simulation = start(seed, 10, 0, &random, &duration_us);
    /* So few that more nodes are left than lost: else it is a cut. */
    uint32_t links = pick(&random, 0, 3), most = (uint32_t)(cluster->config.nodes_count - 1) / 2;
    if (links > most)
        links = most;
    if (links == 0)
        break_one_way(simulation, &random, duration_us);
    while (links-- > 0)
        break_link(simulation, &random, duration_us);
    bool good = run_to_end(simulation, anybody, seed) && has_all_stages(simulation, seed);
    gwtf_simulation_destroy(simulation);
    return good;
}

/* From the last loss on: slow disks, queues on slow links, and works under way. */
#define REST_SECONDS_MOST 120

/* All nodes of a stage, together or one after the other; and some others at about that time, but
 * not all. Returns when the last one goes. */
static gwtf_time_us lose_a_stage(gwtf_simulation *simulation, struct gwtf_random *random,
                                 bool *gone, gwtf_time_us duration_us) {
    uint32_t nodes = (uint32_t)cluster->config.nodes_count;
    uint32_t stage = pick(random, 0, cluster->config.stages), others = pick(random, 0, 3);
    gwtf_time_us at_us = 1 + (gwtf_time_us)gwtf_random_below(random, (uint64_t)duration_us);
    gwtf_time_us last_us = at_us;
    bool together = pick(random, 0, 1);
    uint32_t left = 0;
    for (size_t i = 0; i < nodes; i++)
        left += cluster->nodes[i].stage != stage;
    for (size_t i = 0; i < nodes; i++) {
        bool is_other = cluster->nodes[i].stage != stage;
        if (is_other && (others == 0 || left == 1 || pick(random, 0, 3)))
            continue;
        others -= is_other;
        left -= is_other;
        gone[i] = true;
        gwtf_time_us when_us =
            !is_other && together ? at_us : at_us + pick(random, 0, is_other ? 4000000 : 500000);
        add_crash(simulation, random, i, when_us);
        last_us = when_us > last_us ? when_us : last_us;
    }
    return last_us;
}

/* Every stage that has a node has its file, of the same iteration or one apart, and the recorder's
 * report of that iteration has been made. */
static bool has_rest(gwtf_simulation *simulation, const bool *gone, uint64_t seed) {
    uint32_t newest = 0, iteration;
    for (uint32_t stage = 0; stage <= cluster->config.stages; stage++)
        if (gwtf_simulation_rest(simulation, stage, &iteration) && iteration > newest)
            newest = iteration;
    for (size_t i = 0; i < cluster->config.nodes_count; i++) {
        uint32_t stage = cluster->nodes[i].stage;
        if (gone[i])
            continue;
        if (!gwtf_simulation_rest(simulation, stage, &iteration))
            return says(seed, "no file", stage);
        if (iteration + 1 < newest)
            return says(seed, "an old file", stage);
        uint32_t reported =
            cluster->config.first_iteration - 1 + gwtf_simulation_get_totals(simulation).iterations;
        if (stage == 0 && reported < iteration)
            return says(seed, "no report of its file's iteration", stage);
    }
    return true;
}

bool leaves_a_rest(uint64_t seed, const struct mix *mix) {
    struct gwtf_random random;
    bool gone[CLUSTER_NODES_MAX] = {false};
    (void)mix;
    gwtf_time_us duration_us;
    gwtf_simulation *simulation = start(seed, 8, 2, &random, &duration_us);
    gwtf_time_us lost_us = lose_a_stage(simulation, &random, gone, duration_us);
    bool good = gwtf_simulation_run(simulation, GWTF_TIME_NEVER) == GWTF_OK;
    if (!good)
        fprintf(stderr, "seed %llu: %s\n", (unsigned long long)seed,
                gwtf_simulation_failure(simulation));
    bool is_lost = false, is_cut = false, is_done = false;
    for (size_t i = 0; i < cluster->config.nodes_count && good; i++) {
        gwtf_status ended = GWTF_OK;
        if (gone[i])
            continue;
        good = gwtf_simulation_finished(simulation, cluster->nodes[i].node, &ended, NULL);
        is_lost = is_lost || ended == GWTF_ERROR_STAGE;
        is_done = is_done || ended == GWTF_OK; /* the last snapshot is whole */
        /* So many at once, with a node of every stage among them, look like a cut. */
        is_cut = is_cut || ended == GWTF_ERROR_LINK;
        good = good && (ended == GWTF_OK || ended == GWTF_ERROR_STAGE || ended == GWTF_ERROR_LINK);
        if (!good)
            says(seed, gwtf_status_name(ended), cluster->nodes[i].stage);
    }
    if (good &&
        gwtf_simulation_get_totals(simulation).now_us >
            lost_us + REST_SECONDS_MOST * (gwtf_time_us)1000000 &&
        is_lost)
        good = says(seed, "the others leave late", 0);
    if (good && is_lost && !is_cut && !is_done)
        good = has_rest(simulation, gone, seed);
    gwtf_simulation_destroy(simulation);
    return good;
}
