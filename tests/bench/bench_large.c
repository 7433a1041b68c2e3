/*
 * What a large network costs to simulate and how good its flows get, one line a size:
 *
 *     bench_large [ROUNDS [RELAYS...]]
 *
 * Defaults: 60 1000 3000 10000; 12 stages, 8 data nodes, capacities 1 to 20, costs 1 to 700, all
 * links, views of 32, seed 1, as `gwtf route --generate` makes them. A run ends when it has settled
 * or after ROUNDS. Wall and processor time in seconds and peak memory in MiB are those of the
 * simulation alone; flow and cost are held against the bounds that the solver proves for all links,
 * not for those of the views.
 */
#include "flow/generate.h"
#include "flow/optimal.h"
#include "worker/simulation/route.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define VIEW 32

static double get_seconds(struct timeval time) {
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static double get_wall(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void fail(const char *what) {
    fprintf(stderr, "bench_large: %s\n", what);
    exit(1);
}

static void print_quality(const gwtf_flow_instance *instance,
                          const struct gwtf_route_totals *totals) {
    struct gwtf_flow_optimum optimum;
    if (gwtf_flow_solve(instance, &optimum, NULL) != GWTF_OK)
        fail("no memory for the optimum");
    printf("  flow %" PRIu32 " of %" PRIu32, totals->flow, optimum.flow_bound);
    if (totals->flow > 0 && optimum.cost_bound > 0)
        printf("  cost of one %.3f of the bound's", (double)totals->cost / totals->flow *
                                                        optimum.flow_bound /
                                                        (double)optimum.cost_bound);
    printf("\n");
}

static void measure(uint32_t relays, double rounds) {
    struct gwtf_flow_recipe recipe = gwtf_flow_recipe_default();
    recipe.relays = relays;
    recipe.stages = 12;
    recipe.data_nodes = 8;
    recipe.capacity.most = 20;
    gwtf_flow_instance *instance = NULL;
    gwtf_route *route = NULL;
    const struct gwtf_route_config config = {.seed = 1, .view = VIEW};
    double begin = get_wall();
    if (gwtf_flow_generate(&recipe, &instance) != GWTF_OK ||
        gwtf_route_create(instance, &config, &route) != GWTF_OK)
        fail("no memory for the network");
    if (gwtf_route_run(route, rounds) != GWTF_OK)
        fail(gwtf_route_failure(route) != NULL ? gwtf_route_failure(route) : "no memory");
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    struct gwtf_route_totals totals = gwtf_route_get_totals(route);
    printf("relays %6" PRIu32 "  wall %7.1f  processor %7.1f  memory %6.0f  rounds %5.1f%s"
           "  messages a node %7.1f",
           relays, get_wall() - begin, get_seconds(used.ru_utime) + get_seconds(used.ru_stime),
           (double)used.ru_maxrss / 1024, totals.round, totals.settled ? "  settled" : "",
           (double)(totals.messages + totals.messages_after) / gwtf_flow_instance_nodes(instance));
    print_quality(instance, &totals);
    gwtf_route_destroy(route);
    gwtf_flow_instance_destroy(instance);
}

int main(int argc, char **argv) {
    static const uint32_t sizes[] = {1000, 3000, 10000};
    double rounds = argc > 1 ? strtod(argv[1], NULL) : 60;
    int count = argc > 2 ? argc - 2 : (int)(sizeof sizes / sizeof sizes[0]);
    for (int i = 0; i < count; i++) {
        uint32_t relays = argc > 2 ? (uint32_t)strtoul(argv[i + 2], NULL, 10) : sizes[i];
        /* A process of its own each, for its peak of memory. */
        pid_t child = fork();
        int status = 0;
        if (child == 0) {
            measure(relays, rounds);
            fflush(stdout);
            _exit(0);
        }
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
            fail("a size was not measured");
    }
    return 0;
}
