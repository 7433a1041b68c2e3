#include "worker/simulation/churn.h"

#include "share/base/random.h"

#include <stdlib.h>
#include <string.h>

/* Labels of what is drawn, so that one kind of event does not change the others. */
enum { LABEL_CRASH = 1, LABEL_PHASE, LABEL_MOMENT, LABEL_LINK, LABEL_CUT };

/* Iterations from a node's return until it has its weights: it is taken with the next one, which
 * does not end before. */
#define SETTLED_AFTER 2

struct drawing {
    const struct gwtf_scenario *scenario;
    const struct gwtf_scenario_place *places;
    uint32_t nodes;
    uint32_t *back;  /* by node: the iteration in which it returns; 0: it is there, with weights */
    uint32_t *heals; /* by node: the iteration in which drawn link trouble ends; 0: there is none */
    uint32_t alive[256]; /* by stage */
    struct gwtf_churn_event *events;
    size_t count;
    size_t max;
    bool out_of_memory;
};

static void add(struct drawing *drawing, const struct gwtf_churn_event *event) {
    if (drawing->count == drawing->max) {
        size_t max = drawing->max ? 2 * drawing->max : 64;
        struct gwtf_churn_event *events = realloc(drawing->events, max * sizeof *events);
        drawing->out_of_memory = drawing->out_of_memory || !events;
        if (!events)
            return;
        drawing->events = events;
        drawing->max = max;
    }
    drawing->events[drawing->count++] = *event;
}

/* Uniform in [0, 1), of this kind, iteration and node alone. */
static double draw(const struct drawing *drawing, uint64_t label, uint32_t iteration,
                   uint32_t node) {
    uint64_t key = gwtf_random_key(drawing->scenario->run.seed, label);
    return gwtf_random_unit_at(gwtf_random_key(key, iteration), node);
}

/* The moment of a crash in PHASE. OWN: at the node's own work. */
static void set_moment(const struct drawing *drawing, enum gwtf_scenario_phase phase, bool own,
                       struct gwtf_churn_event *event) {
    double u = draw(drawing, LABEL_PHASE, event->iteration, event->node);
    if (phase == GWTF_SCENARIO_PHASE_ANY)
        phase = u < 0.4   ? GWTF_SCENARIO_PHASE_FORWARD
                : u < 0.8 ? GWTF_SCENARIO_PHASE_BACKWARD
                          : GWTF_SCENARIO_PHASE_AGGREGATION;
    event->at = draw(drawing, LABEL_MOMENT, event->iteration, event->node);
    if (phase == GWTF_SCENARIO_PHASE_FORWARD)
        event->kind = own ? GWTF_CHURN_CRASH_OWN_FORWARD : GWTF_CHURN_CRASH_FORWARD;
    else if (phase == GWTF_SCENARIO_PHASE_BACKWARD)
        event->kind = own ? GWTF_CHURN_CRASH_OWN_BACKWARD : GWTF_CHURN_CRASH_BACKWARD;
    else if (own || event->at < 0.5)
        event->kind = GWTF_CHURN_CRASH_OWN_REDUCE;
    else {
        /* All works have ended, gradients are on their way. */
        event->kind = GWTF_CHURN_CRASH_BACKWARD;
        event->at = 1;
    }
}

/* NODE is gone from ITERATION on. */
static void leave(struct drawing *drawing, uint32_t iteration, uint32_t node,
                  uint32_t return_after) {
    bool returns = return_after > 0 && return_after < UINT32_MAX - SETTLED_AFTER - iteration;
    drawing->back[node] = returns ? iteration + return_after : UINT32_MAX;
    drawing->alive[drawing->places[node].stage]--;
}

static void crash(struct drawing *drawing, uint32_t iteration, uint32_t node,
                  enum gwtf_scenario_phase phase, bool own, uint32_t return_after) {
    if (drawing->back[node] != 0)
        return;
    struct gwtf_churn_event event = {.iteration = iteration, .node = node};
    set_moment(drawing, phase, own, &event);
    add(drawing, &event);
    leave(drawing, iteration, node, return_after);
}

static void add_crashes(struct drawing *drawing, uint32_t iteration) {
    const struct gwtf_scenario *scenario = drawing->scenario;
    for (size_t i = 0; i < scenario->crashes_count; i++) {
        const struct gwtf_scenario_crash *planned = &scenario->crashes[i];
        if (planned->iteration == iteration)
            crash(drawing, iteration, planned->node, planned->phase,
                  planned->phase != GWTF_SCENARIO_PHASE_ANY, planned->return_after);
    }
    for (uint32_t node = 0; node < drawing->nodes && scenario->churn.probability > 0; node++) {
        uint32_t stage = drawing->places[node].stage;
        if (stage > 0 && drawing->back[node] == 0 && drawing->alive[stage] > 1 &&
            draw(drawing, LABEL_CRASH, iteration, node) < scenario->churn.probability)
            crash(drawing, iteration, node, scenario->churn.phase, false,
                  scenario->churn.return_after);
    }
}

static void add_link_faults(struct drawing *drawing, uint32_t iteration) {
    const struct gwtf_scenario *scenario = drawing->scenario;
    for (size_t i = 0; i < scenario->link_faults_count; i++) {
        const struct gwtf_scenario_link_fault *fault = &scenario->link_faults[i];
        struct gwtf_churn_event event = {
            .kind = fault->kind == GWTF_SCENARIO_LINK_CUT ? GWTF_CHURN_CUT : GWTF_CHURN_SLOW,
            .iteration = iteration,
            .node = fault->node,
            .peer = fault->peer,
            .factor = fault->factor};
        bool is_gone = drawing->back[fault->node] != 0;
        if (fault->iteration == iteration && !is_gone) {
            add(drawing, &event);
            if (event.kind == GWTF_CHURN_CUT)
                leave(drawing, iteration, fault->node, fault->heal_after);
        }
        event.kind = GWTF_CHURN_HEAL;
        if (fault->kind == GWTF_SCENARIO_LINK_SLOW && fault->heal_after > 0 &&
            iteration > fault->iteration && iteration - fault->iteration == fault->heal_after)
            add(drawing, &event);
    }
    for (uint32_t node = 0; node < drawing->nodes && scenario->links.probability > 0; node++) {
        if (drawing->heals[node] != 0 || drawing->back[node] != 0 ||
            draw(drawing, LABEL_LINK, iteration, node) >= scenario->links.probability)
            continue;
        uint32_t stage = drawing->places[node].stage;
        bool cut = draw(drawing, LABEL_CUT, iteration, node) < scenario->links.cut && stage > 0 &&
                   drawing->alive[stage] > 1;
        struct gwtf_churn_event event = {.kind = cut ? GWTF_CHURN_CUT : GWTF_CHURN_SLOW,
                                         .iteration = iteration,
                                         .node = node,
                                         .peer = GWTF_SCENARIO_ALL_PEERS,
                                         .factor = scenario->links.factor};
        add(drawing, &event);
        uint32_t after = scenario->links.heal_after;
        if (cut) {
            leave(drawing, iteration, node, after);
            continue;
        }
        bool heals = after > 0 && after < UINT32_MAX - iteration;
        drawing->heals[node] = heals ? iteration + after : UINT32_MAX;
    }
}

/* What ends in ITERATION. */
static void add_ends(struct drawing *drawing, uint32_t iteration) {
    for (uint32_t node = 0; node < drawing->nodes; node++) {
        struct gwtf_churn_event event = {
            .iteration = iteration, .node = node, .peer = GWTF_SCENARIO_ALL_PEERS};
        if (drawing->back[node] == iteration) {
            event.kind = GWTF_CHURN_RETURN;
            add(drawing, &event);
        }
        if (drawing->back[node] != 0 && drawing->back[node] + SETTLED_AFTER == iteration) {
            drawing->back[node] = 0;
            drawing->alive[drawing->places[node].stage]++;
        }
        if (drawing->heals[node] == iteration) {
            event.kind = GWTF_CHURN_HEAL;
            add(drawing, &event);
            drawing->heals[node] = 0;
        }
    }
}

static int compare(const void *left, const void *right) {
    const struct gwtf_churn_event *a = left, *b = right;
    if (a->iteration != b->iteration)
        return a->iteration < b->iteration ? -1 : 1;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    if (a->at < b->at || a->at > b->at)
        return a->at < b->at ? -1 : 1;
    if (a->node != b->node)
        return a->node < b->node ? -1 : 1;
    return a->peer < b->peer ? -1 : a->peer > b->peer;
}

gwtf_status gwtf_churn_draw(const struct gwtf_scenario *scenario,
                            const struct gwtf_scenario_place *places,
                            struct gwtf_churn_event **events, size_t *events_count) {
    struct drawing drawing = {.scenario = scenario, .places = places};
    drawing.nodes = gwtf_scenario_count(scenario, GWTF_CONFIG_ROLE_DATA) +
                    gwtf_scenario_count(scenario, GWTF_CONFIG_ROLE_RELAY);
    drawing.back = calloc(drawing.nodes, sizeof *drawing.back);
    drawing.heals = calloc(drawing.nodes, sizeof *drawing.heals);
    drawing.out_of_memory = !drawing.back || !drawing.heals;
    for (uint32_t node = 0; node < drawing.nodes; node++)
        drawing.alive[places[node].stage]++;
    for (uint32_t i = 1; i <= scenario->run.iterations && !drawing.out_of_memory; i++) {
        add_ends(&drawing, i);
        add_crashes(&drawing, i);
        add_link_faults(&drawing, i);
    }
    free(drawing.back);
    free(drawing.heals);
    if (drawing.out_of_memory) {
        free(drawing.events);
        return GWTF_ERROR_MEMORY;
    }
    if (drawing.count > 0)
        qsort(drawing.events, drawing.count, sizeof *drawing.events, compare);
    *events = drawing.events;
    *events_count = drawing.count;
    return GWTF_OK;
}
