#include "tests/support/join_run.h"

#include "flow/optimal_network.h"
#include "share/base/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the data node: more than all stages. */
#define UNBOUNDED 100000u
#define NODES_MAX (1 + JOIN_STAGES * JOIN_RELAYS_MAX + GWTF_ARRIVALS_MAX)

/* --- The random run. --- */

static uint32_t draw(struct gwtf_random *random, uint32_t lowest, uint32_t highest) {
    return lowest + (uint32_t)gwtf_random_below(random, highest - lowest + 1);
}

static double draw_aggregation_cost(struct gwtf_random *random, uint32_t capacity) {
    return 10.0 * capacity + draw(random, 50, 100);
}

static uint32_t nodes_of(const struct join_run *run, uint32_t stage) {
    return stage == 0 ? 1 : run->setting.relays;
}

static uint32_t after(uint32_t stage) {
    return (stage + 1) % (JOIN_STAGES + 1);
}

static void draw_run(struct join_run *run, uint64_t seed) {
    struct gwtf_random random;
    uint32_t lowest = run->setting.cost_least, highest = run->setting.cost_most;
    gwtf_random_init(&random, seed);
    run->capacity[0][0] = UNBOUNDED;
    for (uint32_t s = 1; s <= JOIN_STAGES; s++)
        for (uint32_t i = 0; i < run->setting.relays; i++)
            run->capacity[s][i] = draw(&random, 1, JOIN_CAPACITY_MAX);
    for (uint32_t hop = 0; hop <= JOIN_STAGES; hop++)
        for (uint32_t i = 0; i < nodes_of(run, hop); i++)
            for (uint32_t j = 0; j < nodes_of(run, after(hop)); j++)
                run->cost[hop][i][j] = draw(&random, lowest, highest);
    for (uint32_t s = 1; s <= JOIN_STAGES; s++) {
        for (uint32_t i = 0; i < run->setting.relays; i++) {
            double cost = draw_aggregation_cost(&random, run->capacity[s][i]);
            run->aggregation_cost = cost > run->aggregation_cost ? cost : run->aggregation_cost;
        }
    }
    for (uint32_t i = 0; i < JOIN_CANDIDATES; i++) {
        struct gwtf_arrival_candidate *candidate = &run->candidates[i];
        candidate->capacity = draw(&random, 1, JOIN_CAPACITY_MAX);
        candidate->link_cost = draw(&random, lowest, highest);
        candidate->aggregation_cost = draw_aggregation_cost(&random, candidate->capacity);
    }
}

/* --- Exact flows. --- */

struct solution {
    const struct join_run *run;
    struct gwtf_arrival arrivals[GWTF_ARRIVALS_MAX];
    uint32_t count;
    gwtf_flow_instance *instance;
    struct optimal_network *network;
};

static void require(gwtf_status status) {
    if (status == GWTF_OK)
        return;
    fprintf(stderr, "join_run: no memory\n");
    exit(1);
}

/* Nodes: the data node, the relays by stage, arrivals. */
static uint32_t first_arrival(const struct join_run *run) {
    return 1 + JOIN_STAGES * run->setting.relays;
}

static uint32_t place_of(const struct join_run *run, gwtf_node_id node) {
    return node == 0 ? 0 : (node - 1) % run->setting.relays;
}

/* Who arrives has one cost to everybody; between two of them the dearer one counts. */
static uint32_t cost_between(const struct solution *solution, gwtf_node_id from, gwtf_node_id to) {
    const struct join_run *run = solution->run;
    uint32_t first = first_arrival(run), cost = 0;
    if (from < first && to < first)
        return run->cost[gwtf_flow_instance_stage(solution->instance, from)][place_of(run, from)]
                        [place_of(run, to)];
    gwtf_node_id ends[2] = {from, to};
    for (int i = 0; i < 2; i++) {
        if (ends[i] < first)
            continue;
        uint32_t own = run->candidates[solution->arrivals[ends[i] - first].candidate].link_cost;
        cost = own > cost ? own : cost;
    }
    return cost;
}

static void set_costs(const struct solution *solution) {
    for (uint32_t hop = 0; hop <= JOIN_STAGES; hop++) {
        uint32_t from_count, to_count;
        const gwtf_node_id *from =
            gwtf_flow_instance_stage_nodes(solution->instance, hop, &from_count);
        const gwtf_node_id *to =
            gwtf_flow_instance_stage_nodes(solution->instance, after(hop), &to_count);
        for (uint32_t i = 0; i < from_count; i++)
            for (uint32_t j = 0; j < to_count; j++)
                gwtf_flow_instance_set_cost(solution->instance, from[i], to[j],
                                            (int32_t)cost_between(solution, from[i], to[j]));
    }
}

/* Of flows that cost as much the solver may find one or another, by the order of nodes. */
static void sort_arrivals(struct solution *solution, const struct gwtf_arrival *arrivals) {
    for (uint32_t i = 0; i < solution->count; i++) {
        uint32_t at = i;
        for (; at > 0; at--) {
            const struct gwtf_arrival *before = &solution->arrivals[at - 1];
            if (before->stage < arrivals[i].stage ||
                (before->stage == arrivals[i].stage && before->candidate < arrivals[i].candidate))
                break;
            solution->arrivals[at] = *before;
        }
        solution->arrivals[at] = arrivals[i];
    }
}

static void solve(struct solution *solution, const struct join_run *run,
                  const struct gwtf_arrival *arrivals, uint32_t count) {
    uint32_t stage[NODES_MAX], capacity[NODES_MAX], nodes = 0;
    *solution = (struct solution){.run = run, .count = count};
    sort_arrivals(solution, arrivals);
    for (uint32_t s = 0; s <= JOIN_STAGES; s++) {
        for (uint32_t i = 0; i < nodes_of(run, s); i++) {
            stage[nodes] = s;
            capacity[nodes++] = run->capacity[s][i];
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        stage[nodes] = solution->arrivals[i].stage;
        capacity[nodes++] = run->candidates[solution->arrivals[i].candidate].capacity;
    }
    require(gwtf_flow_instance_create(JOIN_STAGES, nodes, stage, capacity, &solution->instance));
    set_costs(solution);
    require(optimal_network_create(solution->instance, &solution->network));
    const struct optimal_task task = {.capacity = capacity};
    require(optimal_network_solve(solution->network, &task));
}

static void release(struct solution *solution) {
    optimal_network_destroy(solution->network);
    gwtf_flow_instance_destroy(solution->instance);
}

double join_cost(uint32_t sum_of_hops, double aggregation_cost, uint32_t flow) {
    return (2.0 * sum_of_hops + aggregation_cost) / flow;
}

static struct join_outcome outcome_of(const struct solution *solution) {
    const struct join_run *run = solution->run;
    struct join_outcome outcome = {0};
    struct optimal_link link;
    for (size_t at = 0; optimal_network_next_link(solution->network, &at, &link);) {
        uint32_t hop = gwtf_flow_instance_stage(solution->instance, link.from);
        uint32_t cost = cost_between(solution, link.from, link.to);
        outcome.dearest[hop] = cost > outcome.dearest[hop] ? cost : outcome.dearest[hop];
        outcome.flow += hop == 0 ? link.flow : 0;
    }
    uint32_t sum = 0;
    for (uint32_t hop = 0; hop <= JOIN_STAGES; hop++)
        sum += outcome.dearest[hop];
    double aggregation = run->aggregation_cost;
    for (uint32_t i = 0; i < solution->count; i++) {
        double own = run->candidates[solution->arrivals[i].candidate].aggregation_cost;
        aggregation = own > aggregation ? own : aggregation;
    }
    outcome.per_microbatch = join_cost(sum, aggregation, outcome.flow);
    return outcome;
}

struct join_outcome join_run_solve(const struct join_run *run, const struct gwtf_arrival *arrivals,
                                   uint32_t count) {
    struct solution solution;
    solve(&solution, run, arrivals, count);
    struct join_outcome outcome = outcome_of(&solution);
    release(&solution);
    return outcome;
}

struct join_outcome join_run_best_of_one(const struct join_run *run, struct gwtf_arrival *best) {
    struct join_outcome least = {0};
    for (uint32_t candidate = 0; candidate < JOIN_CANDIDATES; candidate++) {
        for (uint32_t stage = 1; stage <= JOIN_STAGES; stage++) {
            const struct gwtf_arrival arrival = {candidate, stage};
            struct join_outcome outcome = join_run_solve(run, &arrival, 1);
            if (least.flow > 0 && outcome.per_microbatch >= least.per_microbatch)
                continue;
            least = outcome;
            *best = arrival;
        }
    }
    return least;
}

/* --- What the stages' own nodes know. --- */

/*
 * What goes over the links of HOP of at most COST: the capacity of its least cut (Ford and
 * Fulkerson 1956). For every set of nodes at its beginning: the others, and whom the set reaches.
 */
static uint32_t least_cut(const struct join_run *run, uint32_t hop, uint32_t cost) {
    uint32_t reached[JOIN_RELAYS_MAX] = {0}, from = nodes_of(run, hop);
    uint32_t to_stage = after(hop), to = nodes_of(run, to_stage), least = UINT32_MAX;
    for (uint32_t i = 0; i < from; i++)
        for (uint32_t j = 0; j < to; j++)
            reached[i] |= (uint32_t)(run->cost[hop][i][j] <= cost) << j;
    for (uint32_t set = 0; set < 1u << from; set++) {
        uint32_t cut = 0, ends = 0;
        for (uint32_t i = 0; i < from; i++) {
            if ((set >> i & 1) != 0)
                ends |= reached[i];
            else
                cut += run->capacity[hop][i];
        }
        for (uint32_t j = 0; j < to; j++)
            cut += (ends >> j & 1) != 0 ? run->capacity[to_stage][j] : 0;
        least = cut < least ? cut : least;
    }
    return least;
}

static int by_falling_cost(const void *a, const void *b) {
    uint32_t first = *(const uint32_t *)a, second = *(const uint32_t *)b;
    return (first < second) - (first > second);
}

static int by_falling_sum(const void *a, const void *b) {
    const struct gwtf_arrival_pass *first = a, *second = b;
    uint32_t one = first->in_cost + first->out_cost, other = second->in_cost + second->out_cost;
    return (one < other) - (one > other);
}

/* A node's flows may go on over any of its links: the dearest one in goes with the dearest out. */
static void note_passes(struct join_run *run, const struct solution *solution) {
    static uint32_t in[NODES_MAX][JOIN_CAPACITY_MAX], out[NODES_MAX][JOIN_CAPACITY_MAX];
    uint32_t in_count[NODES_MAX] = {0}, out_count[NODES_MAX] = {0};
    struct optimal_link link;
    for (size_t at = 0; optimal_network_next_link(solution->network, &at, &link);) {
        uint32_t cost = cost_between(solution, link.from, link.to);
        for (uint32_t i = 0; i < link.flow; i++) {
            if (link.from != 0)
                out[link.from][out_count[link.from]++] = cost;
            if (link.to != 0)
                in[link.to][in_count[link.to]++] = cost;
        }
    }
    for (gwtf_node_id node = 1; node < first_arrival(run); node++) {
        uint32_t s = gwtf_flow_instance_stage(solution->instance, node);
        struct gwtf_arrival_stage *stage = &run->stages[s - 1];
        qsort(in[node], in_count[node], sizeof in[node][0], by_falling_cost);
        qsort(out[node], out_count[node], sizeof out[node][0], by_falling_cost);
        for (uint32_t i = 0; i < in_count[node]; i++)
            run->passes[s - 1][stage->passes_count++] =
                (struct gwtf_arrival_pass){in[node][i], out[node][i], 1};
    }
    for (uint32_t s = 0; s < JOIN_STAGES; s++)
        qsort(run->passes[s], run->stages[s].passes_count, sizeof run->passes[s][0],
              by_falling_sum);
}

static void note_hop(struct join_run *run, uint32_t hop, uint32_t dearest) {
    struct gwtf_arrival_hop *noted = &run->hops[hop];
    *noted = (struct gwtf_arrival_hop){.cost = dearest, .reaches = run->reaches[hop]};
    for (uint32_t cost = run->setting.cost_least; cost <= run->setting.cost_most; cost++) {
        run->carried[hop][cost] = least_cut(run, hop, cost);
        run->reaches[hop][noted->reaches_count++] =
            (struct gwtf_arrival_reach){cost, run->carried[hop][cost]};
    }
}

void join_run_init(struct join_run *run, struct join_setting setting, uint64_t seed) {
    struct solution solution;
    memset(run, 0, sizeof *run);
    run->setting = setting;
    draw_run(run, seed);
    solve(&solution, run, NULL, 0);
    struct join_outcome before = outcome_of(&solution);
    for (uint32_t s = 0; s < JOIN_STAGES; s++) {
        run->stages[s].passes = run->passes[s];
        run->stages[s].places = JOIN_CANDIDATES;
        for (uint32_t i = 0; i < setting.relays; i++)
            run->stages[s].capacity += run->capacity[s + 1][i];
    }
    note_passes(run, &solution);
    for (uint32_t hop = 0; hop <= JOIN_STAGES; hop++)
        note_hop(run, hop, before.dearest[hop]);
    run->known = (struct gwtf_arrival_run){.stages = JOIN_STAGES,
                                           .stage = run->stages,
                                           .hops = run->hops,
                                           .flow_most = UNBOUNDED,
                                           .aggregation_cost = run->aggregation_cost};
    release(&solution);
}
