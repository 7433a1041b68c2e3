#include "worker/simulation/arrivals.h"

#include "worker/protocol/place.h"
#include "worker/simulation/costs.h"

#include <stdlib.h>

enum whereabouts { NOT_YET, WAITS, THERE, MOVES, LEAVES, GONE };

/* A node that comes later; its place in stage S is node first + S - 1. */
struct joiner {
    uint32_t entry;
    uint32_t first;
    enum whereabouts where;
    uint32_t node; /* that it is, or was last */
    uint32_t moves_to;
};

struct arrivals {
    const struct gwtf_scenario *scenario;
    const struct gwtf_scenario_place *places;
    uint32_t first; /* place */
    uint32_t nodes;
    struct joiner *joiners;
    uint32_t joiners_count;
    struct gwtf_member_view *members;
    bool *may_move;
    double busy[GWTF_STAGES_MAX];
    double pace[GWTF_STAGES_MAX]; /* FLOP in a second of a stage's nodes, on average */
    double *member_pace;          /* by id; 0: of those that were there at first */
    double *waiting_pace;         /* of those that wait */
    struct gwtf_place_moves moves;
    struct arrivals_totals totals;
};

static bool comes_later(const struct gwtf_scenario_nodes *entry) {
    return entry->joins > 0;
}

uint32_t arrivals_count(const struct gwtf_scenario *scenario) {
    uint32_t count = 0;
    for (size_t i = 0; i < scenario->nodes_count; i++)
        if (comes_later(&scenario->nodes[i]))
            count += scenario->nodes[i].count * scenario->pipeline.stages;
    return count;
}

void arrivals_fill(const struct gwtf_scenario *scenario, struct gwtf_scenario_place *places) {
    uint32_t at = 0;
    for (size_t i = 0; i < scenario->nodes_count; i++)
        for (uint32_t k = 0; comes_later(&scenario->nodes[i]) && k < scenario->nodes[i].count; k++)
            for (uint32_t stage = 1; stage <= scenario->pipeline.stages; stage++)
                places[at++] = (struct gwtf_scenario_place){.entry = (uint32_t)i, .stage = stage};
}

static void list_joiners(struct arrivals *arrivals) {
    uint32_t stages = arrivals->scenario->pipeline.stages;
    for (uint32_t i = 0; i < arrivals->joiners_count; i++) {
        uint32_t first = arrivals->first + i * stages;
        arrivals->joiners[i] = (struct joiner){
            .entry = arrivals->places[first].entry, .first = first, .node = GWTF_NODE_NONE};
        for (uint32_t stage = 0; stage < stages; stage++)
            arrivals->member_pace[first + stage] =
                arrivals->scenario->nodes[arrivals->joiners[i].entry].speed;
    }
}

struct arrivals *arrivals_create(const struct gwtf_scenario *scenario,
                                 const struct gwtf_scenario_place *places, uint32_t first,
                                 uint32_t nodes) {
    struct arrivals *made = calloc(1, sizeof *made);
    if (made == NULL)
        return NULL;
    made->scenario = scenario;
    made->places = places;
    made->first = first;
    made->nodes = nodes;
    made->joiners_count = (nodes - first) / scenario->pipeline.stages;
    made->joiners = calloc(made->joiners_count + 1u, sizeof *made->joiners);
    made->members = calloc(nodes, sizeof *made->members);
    made->may_move = calloc(nodes, sizeof *made->may_move);
    made->member_pace = calloc(nodes, sizeof *made->member_pace);
    made->waiting_pace = calloc(made->joiners_count + 1u, sizeof *made->waiting_pace);
    if (!made->joiners || !made->members || !made->may_move || !made->member_pace ||
        !made->waiting_pace) {
        arrivals_destroy(made);
        return NULL;
    }
    list_joiners(made);
    return made;
}

void arrivals_destroy(struct arrivals *arrivals) {
    if (arrivals == NULL)
        return;
    free(arrivals->joiners);
    free(arrivals->members);
    free(arrivals->may_move);
    free(arrivals->member_pace);
    free(arrivals->waiting_pace);
    free(arrivals);
}

static bool inject(gwtf_simulation *simulation, enum gwtf_simulation_fault_kind kind, uint32_t node,
                   gwtf_time_us now_us) {
    struct gwtf_simulation_fault fault = {.kind = kind, .at_us = now_us, .node = node};
    return gwtf_simulation_inject(simulation, &fault) != GWTF_ERROR_MEMORY;
}

/* As the recorder, a data node, sees them; who has a place is as good as there. */
static void look_at_members(struct arrivals *arrivals, const gwtf_simulation *simulation) {
    gwtf_simulation_get_members(simulation, 0, arrivals->members);
    for (uint32_t i = 0; i < arrivals->joiners_count; i++)
        if (arrivals->joiners[i].where == THERE)
            arrivals->members[arrivals->joiners[i].node].down = false;
}

static struct gwtf_place_run run_of(const struct arrivals *arrivals, uint32_t waiting) {
    return (struct gwtf_place_run){.members = arrivals->members,
                                   .members_count = arrivals->nodes,
                                   .first_place = arrivals->first,
                                   .stage_busy = arrivals->busy,
                                   .waiting = waiting,
                                   .stage_pace = arrivals->pace,
                                   .waiting_pace = arrivals->waiting_pace,
                                   .member_pace = arrivals->member_pace};
}

static bool go_to(struct arrivals *arrivals, gwtf_simulation *simulation, struct joiner *joiner,
                  uint32_t stage, gwtf_time_us now_us) {
    joiner->node = joiner->first + stage - 1;
    joiner->where = THERE;
    arrivals->members[joiner->node].down = false;
    return inject(simulation, GWTF_SIMULATION_RETURN, joiner->node, now_us);
}

/* Those that wait, from joiner FIRST on. */
static uint32_t list_waiting(struct arrivals *arrivals, uint32_t first) {
    uint32_t waiting = 0;
    for (uint32_t i = first; i < arrivals->joiners_count; i++)
        if (arrivals->joiners[i].where == WAITS)
            arrivals->waiting_pace[waiting++] =
                arrivals->scenario->nodes[arrivals->joiners[i].entry].speed;
    return waiting;
}

/* All that wait, one after the other. */
static bool let_in(struct arrivals *arrivals, gwtf_simulation *simulation, gwtf_time_us now_us) {
    bool good = true;
    if (list_waiting(arrivals, 0) > 0)
        look_at_members(arrivals, simulation);
    for (uint32_t i = 0; i < arrivals->joiners_count && good; i++) {
        struct joiner *joiner = &arrivals->joiners[i];
        if (joiner->where != WAITS)
            continue;
        struct gwtf_place_run run = run_of(arrivals, list_waiting(arrivals, i));
        struct gwtf_place_choice choice =
            gwtf_place_choose(&run, arrivals->scenario->nodes[joiner->entry].stage);
        good = go_to(arrivals, simulation, joiner, choice.stage, now_us);
        arrivals->totals.joined++;
    }
    return good;
}

/* Who has left its stage comes to the other one, or is gone. */
static bool follow_those_that_left(struct arrivals *arrivals, gwtf_simulation *simulation,
                                   gwtf_time_us now_us) {
    bool good = true;
    for (uint32_t i = 0; i < arrivals->joiners_count && good; i++) {
        struct joiner *joiner = &arrivals->joiners[i];
        bool leaves = joiner->where == MOVES || joiner->where == LEAVES;
        if (!leaves || !gwtf_simulation_finished(simulation, joiner->node, NULL, NULL))
            continue;
        if (joiner->where == MOVES)
            good = go_to(arrivals, simulation, joiner, joiner->moves_to, now_us);
        else
            joiner->where = GONE;
    }
    return good;
}

static bool tell_to_leave(struct arrivals *arrivals, gwtf_simulation *simulation,
                          uint32_t iteration, gwtf_time_us now_us) {
    const struct gwtf_scenario_nodes *entries = arrivals->scenario->nodes;
    bool good = true;
    for (uint32_t node = 0; node < arrivals->first && good; node++)
        if (entries[arrivals->places[node].entry].leaves == iteration) {
            good = inject(simulation, GWTF_SIMULATION_LEAVE, node, now_us);
            arrivals->totals.left++;
        }
    for (uint32_t i = 0; i < arrivals->joiners_count && good; i++) {
        struct joiner *joiner = &arrivals->joiners[i];
        if (entries[joiner->entry].leaves != iteration ||
            (joiner->where != THERE && joiner->where != MOVES))
            continue;
        if (joiner->where == THERE)
            good = inject(simulation, GWTF_SIMULATION_LEAVE, joiner->node, now_us);
        joiner->where = LEAVES;
        arrivals->totals.left++;
    }
    return good;
}

bool arrivals_begin_iteration(struct arrivals *arrivals, gwtf_simulation *simulation,
                              uint32_t iteration, gwtf_time_us now_us) {
    for (uint32_t i = 0; i < arrivals->joiners_count; i++) {
        struct joiner *joiner = &arrivals->joiners[i];
        if (joiner->where == NOT_YET && arrivals->scenario->nodes[joiner->entry].joins <= iteration)
            joiner->where = WAITS;
    }
    return follow_those_that_left(arrivals, simulation, now_us) &&
           let_in(arrivals, simulation, now_us) &&
           tell_to_leave(arrivals, simulation, iteration, now_us);
}

bool arrivals_note_report(struct arrivals *arrivals, gwtf_simulation *simulation,
                          const struct gwtf_report *report, gwtf_time_us now_us) {
    const struct gwtf_scenario *scenario = arrivals->scenario;
    for (uint32_t stage = 1; stage <= scenario->pipeline.stages; stage++) {
        struct gwtf_stage_costs costs = gwtf_costs_of_stage(scenario, stage);
        double busy = report->stage_utilisation[stage] * report->stage_nodes[stage];
        double seconds = busy * (double)report->duration_us * 1e-6;
        double flop = (costs.forward_flop + costs.backward_flop) * report->microbatches;
        arrivals->busy[stage - 1] = busy;
        arrivals->pace[stage - 1] = seconds > 0 ? flop / seconds : 0;
    }
    if (!scenario->run.rebalance || arrivals->joiners_count == 0)
        return true;
    gwtf_simulation_get_members(simulation, 0, arrivals->members);
    for (uint32_t i = 0; i < arrivals->joiners_count; i++) {
        const struct joiner *joiner = &arrivals->joiners[i];
        if (joiner->node != GWTF_NODE_NONE)
            arrivals->may_move[joiner->node] =
                joiner->where == THERE && scenario->nodes[joiner->entry].stage == 0;
    }
    struct gwtf_place_run run = run_of(arrivals, 0);
    struct gwtf_place_report of = {.iteration = report->iteration,
                                   .duration_us = report->duration_us,
                                   .now_us = now_us,
                                   .may_move = arrivals->may_move};
    struct gwtf_place_move move;
    if (!gwtf_place_advise(&arrivals->moves, &run, &of, &move))
        return true;
    struct joiner *joiner =
        &arrivals->joiners[(move.node - arrivals->first) / scenario->pipeline.stages];
    joiner->where = MOVES;
    joiner->moves_to = move.to;
    arrivals->totals.moved++;
    return inject(simulation, GWTF_SIMULATION_LEAVE, move.node, now_us);
}

struct arrivals_totals arrivals_get_totals(const struct arrivals *arrivals) {
    return arrivals->totals;
}
