/*
 * What one change costs at a settled state, in virtual time:
 *
 *     bench_changes [STAGES WIDTH DATA_NODES [NETWORKS [EVENTS [LOSS_PERCENT]]]]
 *
 * Defaults: a line for each of 6 x 6, 24 x 6, 6 x 20 and 12 x 40 with one data node and 6 x 6 with
 * 2 to 4; NETWORKS 4, EVENTS 10, LOSS_PERCENT 0. Each network, random as gwtf_flow_recipe_default
 * makes it, comes to rest; then a relay that carries flows dies, comes back, another one dies and
 * so on, EVENTS times, each change 20 rounds after the last one has settled. Deaths after which the
 * maximum flow is a smaller one are told apart: flows have to be given up all the way to their data
 * node. Rounds and messages until the last change of a flow table, the messages of all nodes; the
 * ratio of the cost to the optimum, or to a bound below it, at that moment. Medians and 95 %.
 */
#include "flow/generate.h"
#include "share/base/random.h"
#include "tests/bench/samples.h"
#include "worker/simulation/route.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REST_ROUNDS 20
#define ROUNDS_MAX 4000

struct line {
    size_t full, settled;
    struct samples rounds, messages, ratio;
};

static uint32_t networks = 4, events = 10;
static double loss;

static double get_part(struct samples *samples, size_t percent) {
    samples_sort(samples);
    return samples->count > 0 ? samples->values[(samples->count - 1) * percent / 100] : 0;
}

static void print(const char *name, struct line *line) {
    printf("  %-22s %3zu  full flow %3zu  rounds %5.1f/%5.1f  messages %6.0f/%6.0f  ratio "
           "%.4f/%.4f\n",
           name, line->rounds.count, line->full, get_part(&line->rounds, 50),
           get_part(&line->rounds, 95), get_part(&line->messages, 50),
           get_part(&line->messages, 95), get_part(&line->ratio, 50), get_part(&line->ratio, 95));
}

static void fail(const char *why) {
    fprintf(stderr, "bench_changes: %s\n", why);
    exit(1);
}

static struct gwtf_flow_optimum solve(const gwtf_flow_instance *instance) {
    struct gwtf_flow_optimum optimum;
    if (gwtf_flow_solve(instance, &optimum, NULL) != GWTF_OK)
        fail("no memory");
    return optimum;
}

static void change(gwtf_route *route, enum gwtf_route_change_kind kind, gwtf_node_id node) {
    double round = gwtf_route_get_totals(route).round + REST_ROUNDS;
    const struct gwtf_route_change planned = {.kind = kind, .node = node, .round = round};
    if (gwtf_route_plan(route, &planned) != GWTF_OK)
        fail("no memory");
    if (gwtf_route_run(route, round + ROUNDS_MAX) != GWTF_OK)
        fail(gwtf_route_failure(route) != NULL ? gwtf_route_failure(route) : "no memory");
}

static void note(struct line *line, const gwtf_route *route,
                 const struct gwtf_flow_optimum *optimum) {
    struct gwtf_route_totals totals = gwtf_route_get_totals(route);
    line->settled += totals.settled && totals.dangling == 0;
    line->full += totals.flow >= optimum->flow;
    samples_add(&line->rounds, totals.rounds_since);
    samples_add(&line->messages, (double)totals.messages_since);
    if (totals.flow == optimum->flow_bound && optimum->cost_bound > 0)
        samples_add(&line->ratio, (double)totals.cost / (double)optimum->cost_bound);
}

/* A relay that carries flows. */
static gwtf_node_id choose(const gwtf_route *route, struct gwtf_random *random) {
    const gwtf_flow_instance *instance = gwtf_route_instance(route);
    gwtf_node_id node;
    do
        node = (gwtf_node_id)gwtf_random_below(random, gwtf_flow_instance_nodes(instance));
    while (gwtf_flow_instance_stage(instance, node) == 0 ||
           gwtf_flow_get_load(gwtf_route_node(route, node)).complete == 0);
    return node;
}

static void run(uint32_t stages, uint32_t width, uint32_t data_nodes) {
    static struct line start, deaths, losses, arrivals;
    memset(&start, 0, sizeof start);
    deaths = losses = arrivals = start;
    for (uint64_t seed = 1; seed <= networks; seed++) {
        struct gwtf_flow_recipe recipe = gwtf_flow_recipe_default();
        struct gwtf_route_config config = {.seed = seed, .view = 32, .loss = loss};
        struct gwtf_random random;
        gwtf_flow_instance *instance = NULL;
        gwtf_route *route = NULL;
        gwtf_random_init(&random, seed);
        recipe.stages = stages;
        recipe.relays = stages * width;
        recipe.data_nodes = data_nodes;
        recipe.seed = seed;
        if (gwtf_flow_generate(&recipe, &instance) != GWTF_OK ||
            gwtf_route_create(instance, &config, &route) != GWTF_OK ||
            gwtf_route_run(route, ROUNDS_MAX) != GWTF_OK)
            fail("no memory, or a promise was broken");
        struct gwtf_flow_optimum whole = solve(instance);
        note(&start, route, &whole);
        for (uint32_t i = 0; i < events; i++) {
            gwtf_node_id node = choose(route, &random);
            change(route, GWTF_ROUTE_KILL, node);
            struct gwtf_flow_optimum optimum = solve(gwtf_route_instance(route));
            note(optimum.flow < whole.flow ? &losses : &deaths, route, &optimum);
            change(route, GWTF_ROUTE_REVIVE, node);
            note(&arrivals, route, &whole);
        }
        gwtf_route_destroy(route);
        gwtf_flow_instance_destroy(instance);
    }
    printf("%u stages of %u relays, %u data node%s\n", stages, width, data_nodes,
           data_nodes > 1 ? "s" : "");
    print("from nothing", &start);
    print("death, same flow", &deaths);
    print("death, flow lost", &losses);
    print("arrival", &arrivals);
    fflush(stdout);
}

int main(int argc, char **argv) {
    uint32_t numbers[6] = {0, 0, 0, networks, events, 0};
    for (int i = 1; i < argc && i <= 6; i++)
        numbers[i - 1] = (uint32_t)strtoul(argv[i], NULL, 10);
    networks = numbers[3];
    events = numbers[4];
    loss = numbers[5] / 100.0;
    if (argc > 3) {
        run(numbers[0], numbers[1], numbers[2]);
        return 0;
    }
    run(6, 6, 1);
    run(24, 6, 1);
    run(6, 20, 1);
    run(12, 40, 1);
    for (uint32_t data_nodes = 2; data_nodes <= 4; data_nodes++)
        run(6, 6, data_nodes);
    return 0;
}
