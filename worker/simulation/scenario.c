#include "worker/simulation/scenario.h"

#include "worker/simulation/arrivals.h"
#include "worker/simulation/churn.h"
#include "worker/simulation/costs.h"
#include "worker/simulation/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Longer than any work or tensor that is still worth waiting for. */
#define STALL_US ((int64_t)24 * 3600 * 1000000)
#define WRITE_BYTES_PER_SECOND 1e9 /* of a snapshot, at the end */
#define SNAPSHOT_BYTES 12          /* of a parameter */

/* A relay keeps the boundary tensors of so many times the microbatches that fall to it when all
 * relays of its stage share them evenly: others' come to it when they are lost. */
#define RETAINED_SHARES 16

/* What happens to links: of a node, or of a pair. */
struct trouble {
    uint32_t node;
    uint32_t peer;
    double factor;
};

struct run {
    const struct gwtf_scenario *scenario;
    const struct gwtf_scenario_options *options;
    struct gwtf_scenario_place *places;
    struct gwtf_simulation_node *nodes;
    uint32_t *regions; /* by node */
    uint32_t count;
    uint32_t first_place; /* nodes from this one on are places of those that come later */
    struct arrivals *arrivals;
    struct measure *measure;
    gwtf_simulation *simulation;
    bool out_of_memory;

    struct trouble *troubles; /* of pairs */
    size_t troubles_count;
    double *slower; /* by node: how much its links are */

    struct gwtf_churn_event *events;
    size_t events_count;
    size_t next; /* the first that has not come up */
    uint32_t iteration;
    uint64_t works[2]; /* forward and backward, of relays, in this iteration */
    /* Crashes that have come up, by moment: at a share of works, and at a node's own. */
    size_t crashes[2]; /* the first that is open, of those at forward and at backward works */
    size_t crashes_end[2];
    uint8_t *own; /* by node: kind of the crash at its own work, or 0 */
    uint32_t link_faults;
};

static struct gwtf_simulation_link link_between(const void *context, gwtf_node_id from,
                                                gwtf_node_id to) {
    const struct run *run = context;
    struct gwtf_topology_link link =
        gwtf_topology_link_between(run->scenario->topology, run->regions[from], run->regions[to]);
    double factor = run->slower[from] > run->slower[to] ? run->slower[from] : run->slower[to];
    for (size_t i = 0; i < run->troubles_count; i++) {
        const struct trouble *trouble = &run->troubles[i];
        bool here = (trouble->node == from && trouble->peer == to) ||
                    (trouble->node == to && trouble->peer == from);
        if (here && trouble->factor > factor)
            factor = trouble->factor;
    }
    struct gwtf_simulation_link made = {.latency_us = link.latency_us,
                                        .bytes_per_second = link.bytes_per_second};
    if (factor > 1) {
        made.latency_us = (int64_t)((double)link.latency_us * factor);
        made.bytes_per_second = (int64_t)((double)link.bytes_per_second / factor);
        if (made.bytes_per_second < 1)
            made.bytes_per_second = 1;
    }
    return made;
}

static void set_trouble(struct run *run, const struct gwtf_churn_event *event) {
    double factor = event->kind == GWTF_CHURN_SLOW ? event->factor : 1;
    run->link_faults += event->kind == GWTF_CHURN_SLOW;
    if (event->peer == GWTF_SCENARIO_ALL_PEERS) {
        run->slower[event->node] = factor;
        return;
    }
    size_t at = 0;
    while (at < run->troubles_count &&
           (run->troubles[at].node != event->node || run->troubles[at].peer != event->peer))
        at++;
    /* There is room for one of each planned fault. */
    run->troubles_count += at == run->troubles_count;
    run->troubles[at] = (struct trouble){event->node, event->peer, factor};
}

static void inject(struct run *run, enum gwtf_simulation_fault_kind kind, uint32_t node,
                   gwtf_time_us at_us) {
    struct gwtf_simulation_fault fault = {.kind = kind,
                                          .at_us = at_us,
                                          .node = node,
                                          .notice_us =
                                              (int64_t)(run->scenario->churn.notice_ms * 1e3)};
    if (gwtf_simulation_inject(run->simulation, &fault) == GWTF_ERROR_MEMORY)
        run->out_of_memory = true;
}

static void crash(struct run *run, uint32_t node, gwtf_time_us at_us) {
    inject(run, GWTF_SIMULATION_CRASH, node, at_us);
}

/* All crashes at works whose moment has come. */
static void crash_at_works(struct run *run, gwtf_time_us now_us) {
    const struct gwtf_scenario *scenario = run->scenario;
    uint64_t all = (uint64_t)scenario->batch.microbatches * scenario->pipeline.stages *
                   gwtf_scenario_count(scenario, GWTF_CONFIG_ROLE_DATA);
    for (int way = 0; way < 2; way++)
        while (run->crashes[way] < run->crashes_end[way]) {
            const struct gwtf_churn_event *event = &run->events[run->crashes[way]];
            if ((double)run->works[way] < event->at * (double)all)
                break;
            crash(run, event->node, now_us);
            run->crashes[way]++;
        }
}

/* What was to crash in the iteration before and had no occasion to. */
static void crash_the_rest(struct run *run, gwtf_time_us now_us) {
    for (int way = 0; way < 2; way++)
        for (; run->crashes[way] < run->crashes_end[way]; run->crashes[way]++)
            crash(run, run->events[run->crashes[way]].node, now_us);
    for (uint32_t node = 0; node < run->count; node++) {
        if (run->own[node] != 0)
            crash(run, node, now_us);
        run->own[node] = 0;
    }
}

/* Who was told to leave does not come back from a crash either. */
static bool has_left(const struct run *run, uint32_t node, uint32_t iteration) {
    uint32_t leaves = run->scenario->nodes[run->places[node].entry].leaves;
    return leaves != 0 && leaves <= iteration;
}

/* ITERATION has begun somewhere. */
static void begin_iteration(struct run *run, uint32_t iteration, gwtf_time_us now_us) {
    crash_the_rest(run, now_us);
    run->iteration = iteration;
    run->works[0] = run->works[1] = 0;
    run->crashes[0] = run->crashes_end[0] = run->crashes[1] = run->crashes_end[1] = run->next;
    for (; run->next < run->events_count; run->next++) {
        const struct gwtf_churn_event *event = &run->events[run->next];
        if (event->iteration > iteration)
            break;
        switch (event->kind) {
        case GWTF_CHURN_RETURN:
            if (!has_left(run, event->node, iteration))
                inject(run, GWTF_SIMULATION_RETURN, event->node, now_us);
            break;
        case GWTF_CHURN_HEAL:
        case GWTF_CHURN_SLOW:
            set_trouble(run, event);
            break;
        case GWTF_CHURN_CUT:
            /* Whom nobody reaches is declared down and fenced, and may work on in vain. */
            run->link_faults++;
            crash(run, event->node, now_us);
            break;
        case GWTF_CHURN_CRASH_FORWARD:
        case GWTF_CHURN_CRASH_BACKWARD: {
            int way = event->kind == GWTF_CHURN_CRASH_BACKWARD;
            if (run->crashes[way] == run->crashes_end[way])
                run->crashes[way] = run->next;
            run->crashes_end[way] = run->next + 1;
            break;
        }
        case GWTF_CHURN_CRASH_OWN_FORWARD:
        case GWTF_CHURN_CRASH_OWN_BACKWARD:
        case GWTF_CHURN_CRASH_OWN_REDUCE:
            run->own[event->node] = (uint8_t)event->kind;
            break;
        }
    }
    crash_at_works(run, now_us);
    if (!arrivals_begin_iteration(run->arrivals, run->simulation, iteration, now_us))
        run->out_of_memory = true;
}

static void note_report(struct run *run, const struct gwtf_simulation_notice *notice) {
    if (!arrivals_note_report(run->arrivals, run->simulation, notice->report, notice->now_us))
        run->out_of_memory = true;
    if (run->options->progress)
        run->options->progress(run->options->progress_context, notice->report->iteration,
                               notice->now_us);
}

static void note_begin(struct run *run, const struct gwtf_simulation_notice *notice) {
    static const enum gwtf_work_kind works[] = {[GWTF_CHURN_CRASH_OWN_FORWARD] = GWTF_WORK_FORWARD,
                                                [GWTF_CHURN_CRASH_OWN_BACKWARD] =
                                                    GWTF_WORK_BACKWARD,
                                                [GWTF_CHURN_CRASH_OWN_REDUCE] = GWTF_WORK_REDUCE};
    const struct gwtf_work *work = notice->work;
    if (work->kind == GWTF_WORK_EMBED && work->phase == GWTF_PHASE_TRAIN &&
        work->iteration > run->iteration)
        begin_iteration(run, work->iteration, notice->now_us);
    uint8_t own = run->own[notice->index];
    if (own == 0 || works[own] != work->kind || work->iteration != run->iteration)
        return;
    run->own[notice->index] = 0;
    crash(run, notice->index, notice->now_us + notice->work_us / 2);
}

static void note_end(struct run *run, const struct gwtf_simulation_notice *notice) {
    const struct gwtf_work *work = notice->work;
    if (work->phase != GWTF_PHASE_TRAIN || work->iteration != run->iteration ||
        (work->kind != GWTF_WORK_FORWARD && work->kind != GWTF_WORK_BACKWARD))
        return;
    run->works[work->kind == GWTF_WORK_BACKWARD]++;
    crash_at_works(run, notice->now_us);
}

static void observe(void *context, gwtf_simulation *simulation,
                    const struct gwtf_simulation_notice *notice) {
    struct run *run = context;
    run->simulation = simulation;
    if (!measure_note(run->measure, notice))
        run->out_of_memory = true;
    if (notice->kind == GWTF_SIMULATION_WORK_BEGINS)
        note_begin(run, notice);
    else if (notice->kind == GWTF_SIMULATION_WORK_ENDED)
        note_end(run, notice);
    else if (notice->kind == GWTF_SIMULATION_REPORTED)
        note_report(run, notice);
}

/* Regions, costs and the limits of the protocol's tables. */
static gwtf_status fill_nodes(struct run *run, struct gwtf_error *error) {
    const struct gwtf_scenario *scenario = run->scenario;
    struct gwtf_stage_costs costs[GWTF_STAGES_MAX + 1];
    uint32_t replicas[GWTF_STAGES_MAX + 1] = {0};
    for (uint32_t stage = 0; stage <= scenario->pipeline.stages; stage++)
        costs[stage] = gwtf_costs_of_stage(scenario, stage);
    for (uint32_t i = 0; i < run->count; i++) {
        const struct gwtf_scenario_place *place = &run->places[i];
        struct gwtf_simulation_node *node = &run->nodes[i];
        node->node = i;
        node->stage = place->stage;
        node->is_free = i >= run->first_place;
        gwtf_costs_fill_node(&costs[place->stage], &scenario->nodes[place->entry], node);
        run->regions[i] = scenario->nodes[place->entry].region_index;
        run->slower[i] = 1;
        if (node->capacity == 0)
            return gwtf_error_set(
                error, GWTF_ERROR_USAGE,
                "nodes.%u: %g GB do not hold one microbatch of stage %u (%.1f GB with its "
                "weights): give more memory_gb, a smaller batch.microbatch, or more stages",
                place->entry, scenario->nodes[place->entry].memory_gb, place->stage,
                (36.0 * (double)costs[place->stage].parameters +
                 (double)costs[place->stage].slot_bytes) /
                    1e9);
        if (++replicas[place->stage] > GWTF_REPLICAS_MAX)
            return gwtf_error_set(error, GWTF_ERROR_USAGE,
                                  "nodes: stage %u has more nodes than the %d that can hold one "
                                  "stage: take fewer nodes, or more stages",
                                  place->stage, GWTF_REPLICAS_MAX);
    }
    return GWTF_OK;
}

/* Room for the tensors that a repair may ask for. */
static void fill_retained(const struct run *run) {
    const struct gwtf_scenario *scenario = run->scenario;
    uint64_t all = (uint64_t)scenario->batch.microbatches *
                   gwtf_scenario_count(scenario, GWTF_CONFIG_ROLE_DATA);
    uint64_t replicas[GWTF_STAGES_MAX + 1] = {0};
    for (uint32_t i = 0; i < run->first_place; i++)
        replicas[run->places[i].stage]++;
    for (uint32_t i = 0; i < run->count; i++) {
        uint32_t stage = run->places[i].stage;
        if (stage == 0)
            continue; /* 0: all of its own */
        uint64_t share = (all + replicas[stage] - 1) / replicas[stage];
        uint64_t retained = RETAINED_SHARES * share;
        retained = retained < all ? retained : all;
        run->nodes[i].retained =
            (uint32_t)(retained < GWTF_RETAINED_MAX ? retained : GWTF_RETAINED_MAX);
    }
}

static gwtf_status no_memory(struct gwtf_error *error) {
    return gwtf_error_set(error, GWTF_ERROR_MEMORY,
                          "no memory for the simulation: free some, or simulate fewer nodes");
}

static gwtf_status open_run(struct run *run, struct gwtf_error *error) {
    const struct gwtf_scenario *scenario = run->scenario;
    run->first_place = gwtf_scenario_count(scenario, GWTF_CONFIG_ROLE_DATA) +
                       gwtf_scenario_count(scenario, GWTF_CONFIG_ROLE_RELAY);
    run->count = run->first_place + arrivals_count(scenario);
    run->places = calloc(run->count, sizeof *run->places);
    run->nodes = calloc(run->count, sizeof *run->nodes);
    run->regions = calloc(run->count, sizeof *run->regions);
    run->slower = calloc(run->count, sizeof *run->slower);
    run->own = calloc(run->count, sizeof *run->own);
    run->troubles = calloc(scenario->link_faults_count + 1, sizeof *run->troubles);
    if (!run->places || !run->nodes || !run->regions || !run->slower || !run->own || !run->troubles)
        return no_memory(error);
    gwtf_scenario_place(scenario, run->places);
    arrivals_fill(scenario, run->places + run->first_place);
    gwtf_status status = fill_nodes(run, error);
    if (status != GWTF_OK)
        return status;
    fill_retained(run);
    uint32_t most = scenario->batch.microbatches;
    if (scenario->batch.global == GWTF_CONFIG_GLOBAL_CONSTANT)
        most *= gwtf_scenario_count(scenario, GWTF_CONFIG_ROLE_DATA);
    run->measure = measure_create(run->nodes, run->count, scenario->pipeline.stages, most);
    run->arrivals = arrivals_create(scenario, run->places, run->first_place, run->count);
    status = gwtf_churn_draw(scenario, run->places, &run->events, &run->events_count);
    return run->measure && run->arrivals && status == GWTF_OK ? GWTF_OK : no_memory(error);
}

static void close_run(struct run *run) {
    gwtf_simulation_destroy(run->simulation);
    measure_destroy(run->measure);
    arrivals_destroy(run->arrivals);
    free(run->places);
    free(run->nodes);
    free(run->regions);
    free(run->slower);
    free(run->own);
    free(run->troubles);
    free(run->events);
}

static gwtf_status start(struct run *run, struct gwtf_error *error) {
    const struct gwtf_scenario *scenario = run->scenario;
    uint64_t parameters = 0;
    for (uint32_t i = 0; i < run->count; i++)
        if (run->nodes[i].gradient_floats > parameters)
            parameters = run->nodes[i].gradient_floats;
    double write_us = SNAPSHOT_BYTES * (double)parameters / WRITE_BYTES_PER_SECOND * 1e6;
    struct gwtf_simulation_config config = {.nodes = run->nodes,
                                            .nodes_count = run->count,
                                            .stages = scenario->pipeline.stages,
                                            .link = link_between,
                                            .link_context = run,
                                            .first_iteration = 1,
                                            .last_iteration = scenario->run.iterations,
                                            .microbatches = scenario->batch.microbatches,
                                            .batch_is_constant = scenario->batch.global ==
                                                                 GWTF_CONFIG_GLOBAL_CONSTANT,
                                            .boundary_bytes = gwtf_costs_boundary_bytes(scenario),
                                            .policy = run->options->policy,
                                            .objective = scenario->flow.objective,
                                            .seed = scenario->run.seed,
                                            .write_us = (int64_t)write_us,
                                            .manifest_us = 1000,
                                            .stall_us = STALL_US,
                                            .observe = observe,
                                            .observe_context = run};
    gwtf_status status = gwtf_simulation_create(&config, &run->simulation);
    if (status == GWTF_ERROR_MEMORY)
        return no_memory(error);
    if (status != GWTF_OK)
        return gwtf_error_set(error, status,
                              "the protocol refuses this run: take fewer nodes, stages or "
                              "microbatches");
    return GWTF_OK;
}

/* How the run ended, from its nodes; one that was declared down may end alone and in error, while
 * the others train to the end. */
static void explain_end(const struct run *run, struct gwtf_scenario_result *result) {
    if (result->iterations == run->scenario->run.iterations)
        return;
    for (uint32_t i = 0; i < run->count; i++) {
        gwtf_status status = GWTF_OK;
        gwtf_node_id culprit = GWTF_NODE_NONE;
        if (!gwtf_simulation_finished(run->simulation, i, &status, &culprit) || status == GWTF_OK)
            continue;
        result->status = status;
        if (status == GWTF_ERROR_STAGE)
            snprintf(result->ended, sizeof result->ended,
                     "the run ended in iteration %u, as all nodes of a stage were lost",
                     run->iteration);
        else if (status == GWTF_ERROR_PEER)
            snprintf(result->ended, sizeof result->ended,
                     "the run ended in iteration %u, as node %u was lost: the protocol at hand "
                     "cannot go on without it",
                     run->iteration, culprit);
        else
            snprintf(result->ended, sizeof result->ended, "the run ended in iteration %u: %s",
                     run->iteration, gwtf_status_name(status));
        return;
    }
}

static void sum_reports(const struct run *run, struct gwtf_scenario_result *result) {
    size_t count;
    const struct gwtf_report *reports = gwtf_simulation_reports(run->simulation, &count);
    size_t first = count > 1 ? 1 : 0;
    uint64_t microbatches = 0;
    int64_t us = 0;
    for (size_t i = 0; i < count; i++) {
        result->seconds[i] = (double)reports[i].duration_us / 1e6;
        for (uint32_t stage = 0; stage <= result->stages; stage++)
            result->stage_utilisation[stage] += reports[i].stage_utilisation[stage] / (double)count;
        if (i < first)
            continue;
        us += reports[i].duration_us;
        microbatches += reports[i].microbatches;
    }
    result->iterations = (uint32_t)count;
    result->asked = (uint64_t)count * run->scenario->batch.microbatches *
                    gwtf_scenario_count(run->scenario, GWTF_CONFIG_ROLE_DATA);
    result->seconds_per_iteration = NAN;
    result->first_iteration_seconds = NAN;
    result->microbatches_per_second = NAN;
    if (count == 0)
        return;
    result->first_iteration_seconds = result->seconds[0];
    result->seconds_per_iteration = (double)us / 1e6 / (double)(count - first);
    result->microbatches_per_second = (double)microbatches / ((double)us / 1e6);
}

static void sum_measured(const struct run *run, struct gwtf_scenario_result *result) {
    struct measure_totals measured = measure_get_totals(run->measure, result->iterations);
    result->completed = measured.completed;
    result->lost = result->asked - measured.completed;
    result->compute_seconds = measured.compute_seconds;
    result->wasted_seconds = measured.compute_seconds - measured.useful_seconds;
    /* Of no iteration nothing can be said yet. */
    result->wasted_compute = result->wasted_by_crashed = result->iterations > 0 ? 0 : NAN;
    if (measured.compute_seconds > 0 && result->iterations > 0) {
        result->wasted_compute = result->wasted_seconds / measured.compute_seconds;
        result->wasted_by_crashed = measured.crashed_seconds / measured.compute_seconds;
    }
    result->crashes = measured.crashes;
    result->recoveries = measured.recoveries;
    result->recovery_seconds_median = NAN;
    result->recovery_seconds_max = NAN;
    size_t count = measured.recoveries;
    if (count == 0)
        return;
    result->recovery_seconds_median =
        (double)(measured.recoveries_us[(count - 1) / 2] + measured.recoveries_us[count / 2]) / 2e6;
    result->recovery_seconds_max = (double)measured.recoveries_us[count - 1] / 1e6;
}

static void sum_totals(const struct run *run, struct gwtf_scenario_result *result) {
    struct gwtf_simulation_totals totals = gwtf_simulation_get_totals(run->simulation);
    result->virtual_seconds = (double)totals.now_us / 1e6;
    result->messages = totals.messages;
    result->flow_messages = totals.flow_messages;
    result->bytes = totals.tensor_bytes + totals.messages * sizeof(struct gwtf_message);
    result->bytes_per_iteration = NAN;
    if (result->iterations > 0)
        result->bytes_per_iteration = (double)result->bytes / result->iterations;
    result->events = totals.events;
    result->trace = totals.trace;
    result->returned = totals.returned;
}

static void sum_flows(const struct run *run, struct gwtf_scenario_result *result) {
    int64_t sum_us = 0, most_us = 0;
    for (uint32_t i = 0; i < run->count && run->nodes[i].stage == 0; i++) {
        struct gwtf_protocol_view view = gwtf_simulation_get_view(run->simulation, i);
        result->flows += view.routes;
        sum_us += view.routes_cost_us;
        most_us = view.route_cost_us_max > most_us ? view.route_cost_us_max : most_us;
    }
    if (result->flows > 0)
        result->flow_cost_seconds = (double)sum_us / 1e6 / result->flows;
    result->flow_cost_seconds_max = (double)most_us / 1e6;
}

static gwtf_status run_whole(struct run *run, struct gwtf_scenario_result *result,
                             struct gwtf_error *error) {
    gwtf_status status = start(run, error);
    if (status != GWTF_OK)
        return status;
    status = gwtf_simulation_run(run->simulation, GWTF_TIME_NEVER);
    if (status == GWTF_ERROR_MEMORY || run->out_of_memory)
        return no_memory(error);
    if (status != GWTF_OK)
        return gwtf_error_set(error, GWTF_ERROR_RUN,
                              "the protocol broke a promise (%s): this is a bug: report it with "
                              "the scenario and its seed",
                              gwtf_simulation_failure(run->simulation));
    sum_reports(run, result);
    explain_end(run, result);
    sum_measured(run, result);
    sum_totals(run, result);
    sum_flows(run, result);
    result->link_faults = run->link_faults;
    struct arrivals_totals arrivals = arrivals_get_totals(run->arrivals);
    result->joined = arrivals.joined;
    result->moved = arrivals.moved;
    result->left = arrivals.left;
    result->returned -= arrivals.joined + arrivals.moved;
    return GWTF_OK;
}

gwtf_status gwtf_scenario_run(const struct gwtf_scenario *scenario,
                              const struct gwtf_scenario_options *options,
                              struct gwtf_scenario_result *result, struct gwtf_error *error) {
    struct run run = {.scenario = scenario, .options = options};
    struct gwtf_scenario_result made = {.policy = options->policy,
                                        .stages = scenario->pipeline.stages};
    gwtf_status status = open_run(&run, error);
    made.nodes = run.first_place;
    if (status == GWTF_OK) {
        made.seconds = calloc(scenario->run.iterations, sizeof *made.seconds);
        status = made.seconds ? run_whole(&run, &made, error) : no_memory(error);
    }
    close_run(&run);
    if (status == GWTF_OK)
        *result = made;
    else
        free(made.seconds);
    return status;
}

void gwtf_scenario_result_deinit(struct gwtf_scenario_result *result) {
    free(result->seconds);
    result->seconds = NULL;
}
