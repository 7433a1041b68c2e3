/*
 * How well and how fast a policy finds its flows, in virtual time, beside the optimum:
 *
 *     bench_route [POLICY [SEEDS [INSTANCES [VIEW [RELAYS_MOST]]]]]
 *
 * Defaults: gwtf 20 30 32 400. A line for each published instance (tests/unit/flow_instances) at 0
 * and 5 % loss over SEEDS seeds; for random instances of 1 to 4 data nodes, 30 to RELAYS_MOST
 * relays, 4 to 12 stages, capacities 1 to 20, costs 1 to 700, a tenth of the links missing; and for
 * a death and an arrival at a settled state of those. Medians and the worst. The ratio is that of
 * the cost to the optimum, or to a bound below it, of those that reach the flow of the optimum.
 */
#include "io/instance.h"
#include "share/base/random.h"
#include "tests/bench/samples.h"
#include "worker/simulation/route.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_MAX 1000

/* What a line is about. */
struct line {
    size_t runs, settled, full, broken;
    struct samples flow, ratio, rounds, messages, per_node, after;
};

static struct gwtf_route_config config;
static uint32_t seeds = 20, instances = 30, relays_most = 400;
static struct line line, deaths, arrivals;

/* The worst is the largest, or with LEAST the smallest. */
static void print_samples(struct samples *samples, const char *name, const char *format,
                          bool least) {
    if (samples->count == 0) {
        printf("  %s -", name);
        return;
    }
    samples_sort(samples);
    printf("  %s ", name);
    printf(format, samples->values[samples->count / 2]);
    printf("/");
    printf(format, samples->values[least ? 0 : samples->count - 1]);
}

static void print_line(const char *name, struct line *shown) {
    printf("%-24s runs %3zu  settled %3zu  full flow %3zu", name, shown->runs, shown->settled,
           shown->full);
    print_samples(&shown->flow, "flow", "%.3f", true);
    print_samples(&shown->ratio, "ratio", "%.4f", false);
    print_samples(&shown->rounds, "rounds", "%.0f", false);
    print_samples(&shown->messages, "messages", "%.0f", false);
    print_samples(&shown->per_node, "a node", "%.0f", false);
    print_samples(&shown->after, "in 5 rounds after", "%.0f", false);
    if (shown->broken > 0)
        printf("  BROKEN PROMISES %zu", shown->broken);
    printf("\n");
    fflush(stdout);
    memset(shown, 0, sizeof *shown);
}

static void note(struct line *noted, const gwtf_route *route, gwtf_status status,
                 const struct gwtf_flow_optimum *optimum) {
    struct gwtf_route_totals totals = gwtf_route_get_totals(route);
    noted->runs++;
    if (status != GWTF_OK) {
        noted->broken++;
        fprintf(stderr, "bench_route: %s\n",
                gwtf_route_failure(route) != NULL ? gwtf_route_failure(route) : "no memory");
    }
    noted->settled += totals.settled && totals.dangling == 0;
    /* What was found without a bound may be the most there is. */
    uint32_t most = optimum->flow;
    noted->full += totals.flow >= most;
    if (most > 0)
        samples_add(&noted->flow, (double)totals.flow / most);
    if (totals.flow == optimum->flow_bound && optimum->cost_bound > 0)
        samples_add(&noted->ratio, (double)totals.cost / (double)optimum->cost_bound);
    samples_add(&noted->rounds, totals.rounds_since);
    samples_add(&noted->messages, (double)totals.messages_since);
    samples_add(&noted->per_node, (double)totals.messages_since /
                                      gwtf_flow_instance_nodes(gwtf_route_instance(route)));
    samples_add(&noted->after, (double)totals.messages_after);
}

static void solve(const gwtf_flow_instance *instance, struct gwtf_flow_optimum *optimum) {
    if (gwtf_flow_solve(instance, optimum, NULL) != GWTF_OK) {
        fprintf(stderr, "bench_route: no memory\n");
        exit(1);
    }
}

/* From nothing; WITH_CHURN: then a relay dies, and comes back when all is settled again. */
static void run(const gwtf_flow_instance *instance, const struct gwtf_flow_optimum *optimum,
                bool with_churn) {
    gwtf_route *route = NULL;
    if (gwtf_route_create(instance, &config, &route) != GWTF_OK) {
        fprintf(stderr, "bench_route: no memory\n");
        exit(1);
    }
    gwtf_status status = gwtf_route_run(route, ROUNDS_MAX);
    note(&line, route, status, optimum);
    uint32_t data_nodes = 0, nodes = gwtf_flow_instance_nodes(instance);
    (void)gwtf_flow_instance_stage_nodes(instance, 0, &data_nodes);
    struct gwtf_route_change change = {
        .kind = GWTF_ROUTE_KILL,
        .node = data_nodes + (gwtf_node_id)(config.seed * 7919 % (nodes - data_nodes))};
    for (int i = 0; i < 2 && with_churn && status == GWTF_OK; i++) {
        struct gwtf_flow_optimum changed;
        change.round = gwtf_route_get_totals(route).round + 1;
        if (gwtf_route_plan(route, &change) != GWTF_OK)
            break;
        status = gwtf_route_run(route, change.round + ROUNDS_MAX);
        solve(gwtf_route_instance(route), &changed);
        note(i == 0 ? &deaths : &arrivals, route, status, &changed);
        change.kind = GWTF_ROUTE_REVIVE;
    }
    gwtf_route_destroy(route);
}

static void run_published(const char *name) {
    char path[512], title[64];
    gwtf_flow_instance *instance = NULL;
    struct gwtf_flow_optimum optimum;
    struct gwtf_error error;
    snprintf(path, sizeof path, "%s/%s.cfg", GWTF_BENCH_INSTANCES, name);
    if (gwtf_instance_read(path, &instance, NULL, &error) != GWTF_OK) {
        fprintf(stderr, "bench_route: %s\n", error.text);
        exit(1);
    }
    solve(instance, &optimum);
    for (int percent = 0; percent <= 5; percent += 5) {
        config.loss = percent / 100.0;
        for (config.seed = 1; config.seed <= seeds; config.seed++)
            run(instance, &optimum, false);
        snprintf(title, sizeof title, "%s %d %%", name, percent);
        print_line(title, &line);
    }
    gwtf_flow_instance_destroy(instance);
}

static void run_random(uint32_t data_nodes) {
    char title[64];
    struct gwtf_random random;
    config.loss = 0;
    for (uint64_t seed = 1; seed <= instances; seed++) {
        gwtf_random_init(&random, gwtf_random_key(seed, data_nodes));
        uint32_t stages = 4 + (uint32_t)gwtf_random_below(&random, 9);
        /* As many small ones as large ones: each size is 1.3 times the one before. */
        double relays = 30;
        for (uint64_t i = gwtf_random_below(&random, 11); i > 0 && relays < relays_most; i--)
            relays *= 1.3;
        struct gwtf_flow_recipe recipe = {.relays =
                                              relays < relays_most ? (uint32_t)relays : relays_most,
                                          .stages = stages,
                                          .data_nodes = data_nodes,
                                          .capacity = {1, 20},
                                          .cost = {1, 700},
                                          .missing = 0.1,
                                          .asymmetric = seed % 2 == 0,
                                          .seed = seed};
        gwtf_flow_instance *instance = NULL;
        struct gwtf_flow_optimum optimum;
        if (gwtf_flow_generate(&recipe, &instance) != GWTF_OK)
            continue;
        solve(instance, &optimum);
        config.seed = seed;
        if (optimum.flow > 0)
            run(instance, &optimum, true);
        gwtf_flow_instance_destroy(instance);
    }
    snprintf(title, sizeof title, "random, %u data node%s", data_nodes, data_nodes > 1 ? "s" : "");
    print_line(title, &line);
    print_line("  after a death", &deaths);
    print_line("  after an arrival", &arrivals);
}

int main(int argc, char **argv) {
    const char *policy = argc > 1 ? argv[1] : "gwtf";
    int known = 0;
    while (gwtf_flow_policy_words[known] != NULL &&
           strcmp(gwtf_flow_policy_words[known], policy) != 0)
        known++;
    if (gwtf_flow_policy_words[known] == NULL) {
        fprintf(stderr, "bench_route: '%s' is no policy: see gwtf route --help\n", policy);
        return 2;
    }
    config = (struct gwtf_route_config){.policy = (enum gwtf_flow_policy)known, .view = 32};
    if (argc > 2)
        seeds = (uint32_t)strtoul(argv[2], NULL, 10);
    if (argc > 3)
        instances = (uint32_t)strtoul(argv[3], NULL, 10);
    if (argc > 4)
        config.view = (uint32_t)strtoul(argv[4], NULL, 10);
    if (argc > 5)
        relays_most = (uint32_t)strtoul(argv[5], NULL, 10);
    printf("policy %s; median/worst of flow, cost ratio, rounds, messages\n", policy);
    run_published("relays32-stages8");
    run_published("relays36-stages6");
    for (uint32_t data_nodes = 1; data_nodes <= 4; data_nodes++)
        run_random(data_nodes);
    return 0;
}
