#include "flow/arrival.h"

#include "share/base/assert.h"

#include <stddef.h>

/* Times and loads that differ by less are the same. */
#define SAME 1e-9
/* Starts of the search: bounds on links' costs, spread over those that there are. */
#define STARTS 8u
#define SWEEPS_MAX 32u

struct choice {
    const struct gwtf_arrival_run *run;
    const struct gwtf_arrival_candidate *candidates;
    uint32_t candidates_count;
    uint32_t count;
    struct gwtf_arrival arrivals[GWTF_ARRIVALS_MAX];
    struct gwtf_arrival_value value;
};

static uint32_t most(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static const struct gwtf_arrival_candidate *who(const struct choice *choice, uint32_t i) {
    return &choice->candidates[choice->arrivals[i].candidate];
}

static uint32_t capacity_of(const struct choice *choice, uint32_t stage) {
    uint32_t capacity = choice->run->stage[stage - 1].capacity;
    for (uint32_t i = 0; i < choice->count; i++)
        if (choice->arrivals[i].stage == stage)
            capacity += who(choice, i)->capacity;
    return capacity;
}

static double speed_of(const struct choice *choice, uint32_t stage) {
    double speed = choice->run->stage[stage - 1].speed;
    for (uint32_t i = 0; i < choice->count; i++)
        if (choice->arrivals[i].stage == stage)
            speed += who(choice, i)->speed;
    return speed;
}

static uint32_t flow_of(const struct choice *choice) {
    uint32_t flow = choice->run->flow_most != 0 ? choice->run->flow_most : UINT32_MAX;
    for (uint32_t s = 1; s <= choice->run->stages; s++)
        flow = least(flow, capacity_of(choice, s));
    return flow;
}

/* Of 1: the stage can carry no more. Of work where that is known, else of capacity. */
static double load_of(const struct choice *choice, uint32_t stage, uint32_t flow) {
    const struct gwtf_arrival_stage *at = &choice->run->stage[stage - 1];
    if (at->work > 0)
        return at->work / speed_of(choice, stage);
    uint32_t capacity = capacity_of(choice, stage);
    return capacity > 0 ? (double)flow / capacity : 1;
}

/* --- What hops cost. --- */

/* The dearest links into and out of a stage that its nodes still use, and that arrivals bring. */
struct around {
    uint32_t in, out;
    uint32_t entered; /* 0: no arrival is used */
};

/* Arrivals of STAGE, those with the cheapest links first. */
static uint32_t list_arrivals(const struct choice *choice, uint32_t stage,
                              const struct gwtf_arrival_candidate **here) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < choice->count; i++) {
        if (choice->arrivals[i].stage != stage)
            continue;
        uint32_t at = count++;
        for (; at > 0 && here[at - 1]->link_cost > who(choice, i)->link_cost; at--)
            here[at] = here[at - 1];
        here[at] = who(choice, i);
    }
    return count;
}

/* Who is beyond what the stage's nodes hold goes over arrivals; then they take over what is dear.
 */
static struct around look_around(const struct choice *choice, uint32_t stage, uint32_t flow) {
    const struct gwtf_arrival_stage *at = &choice->run->stage[stage - 1];
    const struct gwtf_arrival_candidate *here[GWTF_ARRIVALS_MAX];
    uint32_t count = list_arrivals(choice, stage, here), next = 0, taken = 0;
    uint32_t beyond = flow > at->capacity ? flow - at->capacity : 0;
    struct around around = {0};
    for (uint32_t i = 0; i < count; i++) {
        uint32_t room = here[i]->capacity, part = least(beyond, room);
        bool is_used = part > 0;
        beyond -= part;
        room -= part;
        while (next < at->passes_count && room > 0) {
            const struct gwtf_arrival_pass *pass = &at->passes[next];
            if ((uint64_t)pass->in_cost + pass->out_cost <= 2 * (uint64_t)here[i]->link_cost)
                break;
            part = least(room, pass->flows - taken);
            is_used = true;
            room -= part;
            taken += part;
            if (taken < pass->flows)
                break;
            taken = 0;
            next++;
        }
        if (is_used)
            around.entered = most(around.entered, here[i]->link_cost);
    }
    for (; next < at->passes_count; next++) {
        around.in = most(around.in, at->passes[next].in_cost);
        around.out = most(around.out, at->passes[next].out_cost);
    }
    return around;
}

/* What arrivals at both ends of HOP can carry over links of at most COST. */
static uint32_t carried_by_arrivals(const struct choice *choice, uint32_t hop, uint32_t cost) {
    uint32_t carried = 0;
    for (uint32_t i = 0; i < choice->count; i++) {
        uint32_t stage = choice->arrivals[i].stage;
        if ((stage == hop || stage == hop + 1) && who(choice, i)->link_cost <= cost)
            carried += who(choice, i)->capacity;
    }
    return carried;
}

/* The least that the dearest link of HOP, from stage HOP on, must cost for FLOW to go over it. */
static uint32_t least_dear(const struct choice *choice, uint32_t hop, uint32_t flow) {
    const struct gwtf_arrival_hop *at = &choice->run->hops[hop];
    uint32_t low = 0, high = at->reaches_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct gwtf_arrival_reach *reach = &at->reaches[middle];
        if (reach->flows + carried_by_arrivals(choice, hop, reach->cost) >= flow)
            high = middle;
        else
            low = middle + 1;
    }
    return low < at->reaches_count ? at->reaches[low].cost : 0;
}

static double sum_of_hops(const struct choice *choice, uint32_t flow) {
    const struct gwtf_arrival_run *run = choice->run;
    struct around before = {.out = UINT32_MAX};
    double sum = 0;
    if (run->hops == NULL)
        return 0;
    for (uint32_t hop = 0; hop <= run->stages; hop++) {
        struct around after = {.in = UINT32_MAX};
        if (hop < run->stages)
            after = look_around(choice, hop + 1, flow);
        uint32_t left = run->hops[hop].cost;
        if (hop > 0 && run->stage[hop - 1].passes_count > 0)
            left = least(left, before.out);
        if (hop < run->stages && run->stage[hop].passes_count > 0)
            left = least(left, after.in);
        left = most(left, most(before.entered, after.entered));
        sum += most(left, least_dear(choice, hop, flow));
        before = after;
    }
    return sum;
}

static struct gwtf_arrival_value value_of(const struct choice *choice) {
    const struct gwtf_arrival_run *run = choice->run;
    uint32_t flow = flow_of(choice);
    double aggregation = run->aggregation_cost;
    for (uint32_t i = 0; i < choice->count; i++)
        if (who(choice, i)->aggregation_cost > aggregation)
            aggregation = who(choice, i)->aggregation_cost;
    double cost = 2 * sum_of_hops(choice, flow) + aggregation, flows = flow > 0 ? flow : 0.5;
    struct gwtf_arrival_value value = {.time = cost / flows};
    for (uint32_t s = 1; s <= run->stages; s++) {
        double load = load_of(choice, s, flow), square = load * load;
        if (run->stage[s - 1].work > 0 && load > value.time)
            value.time = load;
        value.load += square * square * square * square;
    }
    if (value.time <= 0) /* neither costs nor work are known: what counts is the flow */
        value.time = 1 / flows;
    return value;
}

struct gwtf_arrival_value gwtf_arrival_predict(const struct gwtf_arrival_run *run,
                                               const struct gwtf_arrival_candidate *candidates,
                                               const struct gwtf_arrival *arrivals,
                                               uint32_t count) {
    GWTF_ASSERT(run->stages <= GWTF_ARRIVAL_STAGES_MAX && count <= GWTF_ARRIVALS_MAX);
    struct choice choice = {.run = run, .candidates = candidates, .count = count};
    for (uint32_t i = 0; i < count; i++)
        choice.arrivals[i] = arrivals[i];
    return value_of(&choice);
}

/* --- The search. --- */

static bool is_better(struct gwtf_arrival_value value, struct gwtf_arrival_value other) {
    if (value.time < other.time * (1 - SAME) || value.time > other.time * (1 + SAME))
        return value.time < other.time;
    return value.load < other.load * (1 - SAME);
}

static bool is_taken(const struct choice *choice, uint32_t candidate) {
    for (uint32_t i = 0; i < choice->count; i++)
        if (choice->arrivals[i].candidate == candidate)
            return true;
    return false;
}

static bool has_place(const struct choice *choice, uint32_t stage) {
    uint32_t taken = 0;
    for (uint32_t i = 0; i < choice->count; i++)
        taken += choice->arrivals[i].stage == stage;
    return taken < choice->run->stage[stage - 1].places;
}

static bool try(struct choice *choice, struct choice *trial) {
    trial->value = value_of(trial);
    if (!is_better(trial->value, choice->value))
        return false;
    *choice = *trial;
    return true;
}

/* Another candidate, another stage, or both, for arrival I. */
static bool move(struct choice *choice, uint32_t i) {
    bool moved = false;
    for (uint32_t candidate = 0; candidate < choice->candidates_count; candidate++) {
        for (uint32_t stage = 1; stage <= choice->run->stages; stage++) {
            const struct gwtf_arrival *at = &choice->arrivals[i];
            if ((candidate != at->candidate && is_taken(choice, candidate)) ||
                (stage != at->stage && !has_place(choice, stage)))
                continue;
            struct choice trial = *choice;
            trial.arrivals[i] = (struct gwtf_arrival){candidate, stage};
            moved = try(choice, &trial) || moved;
        }
    }
    return moved;
}

static bool exchange(struct choice *choice, uint32_t i) {
    bool moved = false;
    for (uint32_t j = 0; j < i; j++) {
        struct choice trial = *choice;
        trial.arrivals[i].stage = choice->arrivals[j].stage;
        trial.arrivals[j].stage = choice->arrivals[i].stage;
        moved = try(choice, &trial) || moved;
    }
    return moved;
}

static void improve(struct choice *choice) {
    bool moved = true;
    choice->value = value_of(choice);
    for (uint32_t sweep = 0; moved && sweep < SWEEPS_MAX; sweep++) {
        moved = false;
        for (uint32_t i = 0; i < choice->count; i++) {
            moved = move(choice, i) || moved;
            moved = exchange(choice, i) || moved;
        }
    }
}

/* The stage with a place that is loaded most; 0: none has one. */
static uint32_t tightest_stage(const struct choice *choice) {
    uint32_t tightest = 0, flow = flow_of(choice);
    double load = 0;
    for (uint32_t s = 1; s <= choice->run->stages; s++) {
        double here = load_of(choice, s, flow);
        if (has_place(choice, s) && (tightest == 0 || here > load)) {
            tightest = s;
            load = here;
        }
    }
    return tightest;
}

/* Of those whose links cost at most MOST the largest, else the one with the cheapest links. */
static uint32_t largest_candidate(const struct choice *choice, uint32_t cost_most) {
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < choice->candidates_count; i++) {
        const struct gwtf_arrival_candidate *candidate = &choice->candidates[i];
        if (is_taken(choice, i))
            continue;
        if (best == UINT32_MAX) {
            best = i;
            continue;
        }
        const struct gwtf_arrival_candidate *other = &choice->candidates[best];
        bool is_cheap = candidate->link_cost <= cost_most;
        bool other_is_cheap = other->link_cost <= cost_most;
        if (is_cheap != other_is_cheap ? is_cheap
            : is_cheap                 ? candidate->capacity > other->capacity
                                       : candidate->link_cost < other->link_cost)
            best = i;
    }
    return best;
}

static void start(struct choice *choice, uint32_t wanted, uint32_t cost_most) {
    choice->count = 0;
    while (choice->count < wanted && choice->count < choice->candidates_count) {
        uint32_t stage = tightest_stage(choice);
        if (stage == 0)
            return;
        uint32_t candidate = largest_candidate(choice, cost_most);
        choice->arrivals[choice->count++] = (struct gwtf_arrival){candidate, stage};
    }
}

uint32_t gwtf_arrival_choose(const struct gwtf_arrival_run *run,
                             const struct gwtf_arrival_candidate *candidates,
                             uint32_t candidates_count, uint32_t wanted,
                             struct gwtf_arrival arrivals[GWTF_ARRIVALS_MAX]) {
    GWTF_ASSERT(run->stages <= GWTF_ARRIVAL_STAGES_MAX && candidates_count <= GWTF_CANDIDATES_MAX);
    struct choice best = {
        .run = run, .candidates = candidates, .candidates_count = candidates_count};
    uint32_t cheapest = UINT32_MAX, dearest = 0;
    for (uint32_t i = 0; i < candidates_count; i++) {
        cheapest = least(cheapest, candidates[i].link_cost);
        dearest = most(dearest, candidates[i].link_cost);
    }
    /* Where all cost the same, and where there is one, all starts are the same. */
    uint32_t starts = wanted > 1 && dearest > cheapest ? STARTS : 1;
    for (uint32_t i = 0; i < starts; i++) {
        struct choice choice = best;
        uint64_t span = dearest - cheapest;
        start(&choice, least(wanted, GWTF_ARRIVALS_MAX), dearest - (uint32_t)(span * i / starts));
        improve(&choice);
        if (i == 0 || is_better(choice.value, best.value))
            best = choice;
    }
    for (uint32_t i = 0; i < best.count; i++)
        arrivals[i] = best.arrivals[i];
    return best.count;
}
