/*
 * A choice gives each stage a set of candidates. Which flow it leads to is what its tightest stage
 * holds, since there are all links; so each flow is searched by itself, over the sets that let
 * every stage hold it, stage after stage. Left out is what costs too much by a bound below the cost
 * of each hop, the sum of which bounds the cost of the iteration:
 *
 * - A candidate without whom its stage does not hold the flow is in use, so that the dearest link
 *   of both its hops costs at least what its own do.
 * - The links of a hop that cost at most so much carry no more than those between relays can, and
 *   the capacity of the candidates at its ends that have links as cheap. The dearest link in use
 *   costs at least as much as it takes for that to reach the flow.
 *
 * The hops behind those that are decided are bounded as if every candidate was still free, by how
 * many there are in each stage. What no bound leaves out is computed exactly.
 */
#include "tests/bench/bench_join_best.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More than any sum of hops; two of them can be added. */
#define IMPOSSIBLE 1000000u
/* Sets of at most BENCH_JOINERS_MAX of JOIN_CANDIDATES: 1 + 20 + 190 + 1140 + 4845 + 15504. */
#define SETS_MAX 21700u

struct set {
    uint32_t members; /* a bit for each candidate */
    uint32_t count;
    uint32_t capacity;
    double aggregation_cost; /* the dearest one */
    uint32_t must;           /* the dearest link of those the stage needs to hold the flow */
};

/* The sets that let a stage hold the flow, by count, then by rising MUST. */
struct stage_sets {
    struct set *sets;
    uint32_t first[BENCH_JOINERS_MAX + 2];
};

/* Stages 0 and STAGES + 1 are the data node, whom nobody joins. */
struct search {
    const struct join_run *run;
    uint32_t wanted, flow;
    struct bench_join_best *best;
    struct set *all; /* [SETS_MAX] by count */
    uint32_t all_count;
    struct stage_sets stages[JOIN_STAGES + 2];
    struct set chosen[JOIN_STAGES + 2];
    /* [h][n]: bound of hop h with any n candidates at its ends. */
    uint32_t hop_least[JOIN_STAGES + 1][BENCH_JOINERS_MAX + 1];
    /* [s][k][n]: bound of hops s and later, with k candidates in stage s and n in those after it.
     */
    uint32_t rest_least[JOIN_STAGES + 2][BENCH_JOINERS_MAX + 1][BENCH_JOINERS_MAX + 1];
};

static uint32_t most(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static bool is_in(uint32_t members, uint32_t candidate) {
    return (members >> candidate & 1) != 0;
}

static uint32_t capacity_of(const struct search *search, uint32_t stage) {
    return search->run->stages[stage - 1].capacity;
}

static double dearer_aggregation(double a, double b) {
    return a > b ? a : b;
}

/* --- All sets, and those that let a stage hold the flow. --- */

static void list_sets(struct search *search) {
    for (uint32_t members = 0; members < 1u << JOIN_CANDIDATES; members++) {
        struct set set = {.members = members};
        for (uint32_t left = members; left != 0 && set.count <= search->wanted; left &= left - 1)
            set.count++;
        if (set.count > search->wanted)
            continue;
        for (uint32_t i = 0; i < JOIN_CANDIDATES; i++) {
            const struct gwtf_arrival_candidate *candidate = &search->run->candidates[i];
            if (!is_in(members, i))
                continue;
            set.capacity += candidate->capacity;
            set.aggregation_cost =
                dearer_aggregation(set.aggregation_cost, candidate->aggregation_cost);
        }
        search->all[search->all_count++] = set;
    }
}

static uint32_t must_of(const struct search *search, const struct set *set, uint32_t needed) {
    uint32_t must = 0;
    for (uint32_t i = 0; i < JOIN_CANDIDATES; i++) {
        const struct gwtf_arrival_candidate *candidate = &search->run->candidates[i];
        if (is_in(set->members, i) && set->capacity - candidate->capacity < needed)
            must = most(must, candidate->link_cost);
    }
    return must;
}

static int by_count_then_must(const void *a, const void *b) {
    const struct set *first = a, *second = b;
    if (first->count != second->count)
        return first->count < second->count ? -1 : 1;
    if (first->must != second->must)
        return first->must < second->must ? -1 : 1;
    return (first->members > second->members) - (first->members < second->members);
}

static void list_stage_sets(struct search *search, uint32_t stage) {
    struct stage_sets *here = &search->stages[stage];
    bool is_data_node = stage == 0 || stage == JOIN_STAGES + 1;
    uint32_t held = is_data_node ? search->flow : capacity_of(search, stage);
    uint32_t needed = search->flow > held ? search->flow - held : 0, count = 0;
    for (uint32_t i = 0; i < search->all_count; i++) {
        const struct set *set = &search->all[i];
        if (set->capacity < needed || (is_data_node && set->count > 0))
            continue;
        here->sets[count] = *set;
        here->sets[count++].must = must_of(search, set, needed);
    }
    qsort(here->sets, count, sizeof here->sets[0], by_count_then_must);
    for (uint32_t size = 0, i = 0; size <= BENCH_JOINERS_MAX + 1; size++) {
        while (i < count && here->sets[i].count < size)
            i++;
        here->first[size] = i;
    }
}

/* --- Bounds. --- */

/* From COST on, the least that the dearest link of HOP can cost with MEMBERS at its ends. */
static uint32_t least_with(const struct search *search, uint32_t hop, uint32_t members,
                           uint32_t cost) {
    const struct join_run *run = search->run;
    for (cost = most(cost, run->setting.cost_least); cost < run->setting.cost_most; cost++) {
        uint32_t carried = run->carried[hop][cost];
        for (uint32_t i = 0; i < JOIN_CANDIDATES && members >> i != 0; i++)
            if (is_in(members, i) && run->candidates[i].link_cost <= cost)
                carried += run->candidates[i].capacity;
        if (carried >= search->flow)
            break;
    }
    return cost;
}

/* The largest COUNT of the candidates whose links cost at most COST together. */
static uint32_t largest_capacity(const struct join_run *run, uint32_t count, uint32_t cost) {
    uint32_t with[JOIN_CAPACITY_MAX + 1] = {0}, sum = 0;
    for (uint32_t i = 0; i < JOIN_CANDIDATES; i++)
        with[run->candidates[i].capacity] += run->candidates[i].link_cost <= cost;
    for (uint32_t capacity = JOIN_CAPACITY_MAX; capacity > 0 && count > 0; capacity--) {
        uint32_t taken = least(count, with[capacity]);
        sum += taken * capacity;
        count -= taken;
    }
    return sum;
}

static uint32_t least_with_any(const struct search *search, uint32_t hop, uint32_t count) {
    const struct join_run *run = search->run;
    uint32_t cost = run->setting.cost_least;
    while (cost < run->setting.cost_most &&
           run->carried[hop][cost] + largest_capacity(run, count, cost) < search->flow)
        cost++;
    return cost;
}

/* Of the sets of COUNT for STAGE. */
static uint32_t must_least(const struct search *search, uint32_t stage, uint32_t count) {
    const struct stage_sets *here = &search->stages[stage];
    uint32_t first = here->first[count];
    return first < here->first[count + 1] ? here->sets[first].must : IMPOSSIBLE;
}

static uint32_t rest_from(const struct search *search, uint32_t stage, uint32_t here,
                          uint32_t later) {
    uint32_t best = IMPOSSIBLE;
    for (uint32_t next = 0; next <= later; next++) {
        uint32_t cost = search->hop_least[stage][least(here + next, search->wanted)];
        cost = most(cost, must_least(search, stage, here));
        cost = most(cost, must_least(search, stage + 1, next));
        best = least(best, cost + search->rest_least[stage + 1][next][later - next]);
    }
    return best;
}

static void bound_rest(struct search *search) {
    for (uint32_t hop = 0; hop <= JOIN_STAGES; hop++)
        for (uint32_t count = 0; count <= search->wanted; count++)
            search->hop_least[hop][count] = least_with_any(search, hop, count);
    for (uint32_t here = 0; here <= search->wanted; here++)
        for (uint32_t later = 0; later <= search->wanted; later++)
            search->rest_least[JOIN_STAGES + 1][here][later] = here + later > 0 ? IMPOSSIBLE : 0;
    for (uint32_t stage = JOIN_STAGES + 1; stage-- > 0;)
        for (uint32_t here = 0; here <= search->wanted; here++)
            for (uint32_t later = 0; here + later <= search->wanted; later++)
                search->rest_least[stage][here][later] = rest_from(search, stage, here, later);
}

/* --- The search. --- */

static bool is_too_dear(const struct search *search, uint32_t sum_of_hops,
                        double aggregation_cost) {
    return sum_of_hops >= IMPOSSIBLE ||
           join_cost(sum_of_hops, aggregation_cost, search->flow) >= search->best->per_microbatch;
}

static void compute(struct search *search) {
    struct gwtf_arrival arrivals[BENCH_JOINERS_MAX];
    uint32_t count = 0, flow = UINT32_MAX;
    for (uint32_t s = 1; s <= JOIN_STAGES; s++) {
        flow = least(flow, capacity_of(search, s) + search->chosen[s].capacity);
        for (uint32_t i = 0; i < JOIN_CANDIDATES; i++)
            if (is_in(search->chosen[s].members, i))
                arrivals[count++] = (struct gwtf_arrival){i, s};
    }
    if (flow != search->flow)
        return; /* it is one of those of a larger flow */
    struct join_outcome outcome = join_run_solve(search->run, arrivals, count);
    if (outcome.per_microbatch >= search->best->per_microbatch)
        return;
    search->best->per_microbatch = outcome.per_microbatch;
    memcpy(search->best->arrivals, arrivals, count * sizeof arrivals[0]);
}

struct partial {
    uint32_t stage; /* the next one to be decided */
    uint32_t taken; /* candidates in the stages before it, a bit each */
    uint32_t left;  /* how many are for it and those after it */
    uint32_t sum;   /* bounds of hops whose two ends are decided */
    double aggregation_cost;
};

static void decide(struct search *search, struct partial at);

/* Sets of COUNT for the stage. */
static void decide_count(struct search *search, const struct partial *at, uint32_t count) {
    const struct stage_sets *here = &search->stages[at->stage];
    const struct set *before = &search->chosen[at->stage - 1];
    uint32_t rest = search->rest_least[at->stage][count][at->left - count];
    uint32_t hop_least =
        search->hop_least[at->stage - 1][least(before->count + count, search->wanted)];
    for (uint32_t i = here->first[count]; i < here->first[count + 1]; i++) {
        const struct set *set = &here->sets[i];
        uint32_t must = most(set->must, before->must);
        if (is_too_dear(search, at->sum + most(must, hop_least) + rest, at->aggregation_cost))
            return; /* those after it must use links that cost as much or more */
        if ((set->members & at->taken) != 0)
            continue;
        struct partial next = {
            .stage = at->stage + 1,
            .taken = at->taken | set->members,
            .left = at->left - count,
            .sum =
                at->sum + least_with(search, at->stage - 1, before->members | set->members, must),
            .aggregation_cost = dearer_aggregation(at->aggregation_cost, set->aggregation_cost)};
        if (is_too_dear(search, next.sum + rest, next.aggregation_cost))
            continue;
        search->chosen[at->stage] = *set;
        decide(search, next);
    }
}

static void decide(struct search *search, struct partial at) {
    if (at.stage > JOIN_STAGES + 1) {
        compute(search);
        return;
    }
    for (uint32_t count = 0; count <= at.left; count++)
        decide_count(search, &at, count);
}

/* False: no choice leads to that flow, nor to a larger one. */
static bool search_flow(struct search *search, uint32_t flow) {
    search->flow = flow;
    for (uint32_t stage = 0; stage <= JOIN_STAGES + 1; stage++)
        list_stage_sets(search, stage);
    bound_rest(search);
    if (search->rest_least[0][0][search->wanted] >= IMPOSSIBLE)
        return false;
    search->chosen[0] = search->stages[0].sets[0];
    decide(search, (struct partial){.stage = 1,
                                    .left = search->wanted,
                                    .aggregation_cost = search->run->aggregation_cost});
    return true;
}

static struct set *allocate_sets(void) {
    struct set *sets = calloc(SETS_MAX, sizeof *sets);
    if (sets == NULL) {
        fprintf(stderr, "bench_join: no memory\n");
        exit(1);
    }
    return sets;
}

void bench_join_find_best(const struct join_run *run, uint32_t count,
                          struct bench_join_best *best) {
    static struct search search;
    uint32_t flow = UINT32_MAX;
    search = (struct search){.run = run, .wanted = count, .best = best};
    search.all = allocate_sets();
    for (uint32_t stage = 0; stage <= JOIN_STAGES + 1; stage++)
        search.stages[stage].sets = allocate_sets();
    list_sets(&search);
    best->per_microbatch = join_run_solve(run, best->arrivals, count).per_microbatch;
    for (uint32_t s = 1; s <= JOIN_STAGES; s++)
        flow = least(flow, capacity_of(&search, s));
    while (search_flow(&search, flow))
        flow++;
    free(search.all);
    for (uint32_t stage = 0; stage <= JOIN_STAGES + 1; stage++)
        free(search.stages[stage].sets);
}
