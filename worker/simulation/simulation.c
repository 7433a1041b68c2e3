/* The cluster: its nodes, and the loop that takes one event after the other. */
#include "worker/simulation/state.h"

#include "share/base/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void simulation_fail(gwtf_simulation *simulation, uint32_t node, const char *format, ...) {
    if (simulation_failed(simulation))
        return;
    int length = snprintf(simulation->failure, sizeof simulation->failure,
                          "%lld us: node %u: ", (long long)simulation->now_us,
                          simulation->nodes[node].config.node);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(simulation->failure + length, sizeof simulation->failure - (size_t)length, format,
              arguments);
    va_end(arguments);
}

bool simulation_failed(const gwtf_simulation *simulation) {
    return simulation->failure[0] != '\0';
}

uint32_t simulation_find(const gwtf_simulation *simulation, gwtf_node_id node) {
    size_t low = 0, high = simulation->config.nodes_count;
    /* Mostly ids are even: where it then would lie. */
    uint64_t guess =
        (uint64_t)node * high / ((uint64_t)simulation->nodes[high - 1].config.node + 1);
    if (guess < high && simulation->nodes[guess].config.node == node)
        return (uint32_t)guess;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (simulation->nodes[middle].config.node < node)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < simulation->config.nodes_count && simulation->nodes[low].config.node == node)
        return (uint32_t)low;
    return SIMULATION_NONE;
}

void simulation_push(gwtf_simulation *simulation, const struct simulation_event *event) {
    struct simulation_event pushed = *event;
    pushed.life = simulation->nodes[event->node].life;
    if (event->kind == SIMULATION_PEER_DOWN)
        pushed.channel = simulation_channel(simulation, event->node, event->peer);
    if (!simulation_queue_push(&simulation->queue, &pushed))
        simulation->out_of_memory = true;
}

void simulation_notice(gwtf_simulation *simulation, enum gwtf_simulation_notice_kind kind,
                       uint32_t node, const struct gwtf_work *work, int64_t work_us,
                       const struct gwtf_report *report) {
    const struct gwtf_simulation_config *config = &simulation->config;
    if (!config->observe)
        return;
    struct gwtf_simulation_notice notice = {.kind = kind,
                                            .now_us = simulation->now_us,
                                            .index = node,
                                            .work = work,
                                            .work_us = work_us,
                                            .report = report};
    config->observe(config->observe_context, simulation, &notice);
}

static uint32_t retained_of(const gwtf_simulation *simulation, const struct simulation_node *node) {
    if (node->config.retained == GWTF_SIMULATION_RETAINED_NONE)
        return 0;
    if (node->config.retained > 0)
        return node->config.retained;
    /* A data node keeps its own microbatches alone. */
    uint64_t all = simulation->config.microbatches;
    if (simulation->config.batch_is_constant)
        all = simulation->batch;
    else if (node->config.stage > 0)
        all *= simulation->stage_sizes[0];
    return all < GWTF_RETAINED_MAX ? (uint32_t)all : GWTF_RETAINED_MAX;
}

gwtf_status simulation_make_protocol(gwtf_simulation *simulation, uint32_t index,
                                     uint32_t incarnation) {
    const struct gwtf_simulation_config *config = &simulation->config;
    struct simulation_node *node = &simulation->nodes[index];
    const int64_t *work_us = node->config.work_us;
    if (incarnation > 0)
        node->own_base += SIMULATION_OWN_STEP;
    bool relay = node->config.stage > 0;
    int64_t compute_us = relay ? work_us[GWTF_WORK_FORWARD] + work_us[GWTF_WORK_BACKWARD]
                               : work_us[GWTF_WORK_EMBED] + work_us[GWTF_WORK_LOSS] +
                                     work_us[GWTF_WORK_EMBED_BACKWARD];
    struct gwtf_protocol_config protocol = {
        .self = node->config.node,
        .members = simulation->members,
        .members_count = config->nodes_count,
        .stages = config->stages,
        .capacity = node->config.capacity,
        .compute_us = compute_us / 2,
        .first_iteration = config->first_iteration,
        .last_iteration = config->last_iteration,
        .microbatches = config->microbatches,
        .batch_is_constant = config->batch_is_constant,
        .sequences = SIMULATION_SEQUENCES,
        .place = SIMULATION_FIRST_PLACE,
        .own_data = node->config.own_data && incarnation > 0,
        .own_place = node->own_base,
        .validation_microbatches = relay ? 0 : config->validation_microbatches,
        .validates = config->validates,
        .validate_every = config->validate_every,
        .snapshot_every = config->snapshot_every,
        .boundary_bytes = config->boundary_bytes,
        .gradient_floats = node->config.gradient_floats,
        .policy = config->policy,
        .objective = config->objective,
        .negotiation = config->negotiation,
        .recovery = config->recovery,
        .retained = retained_of(simulation, node),
        .enters = incarnation > 0,
        .incarnation = incarnation,
        .seed = gwtf_random_key(config->seed, node->config.node)};
    if (incarnation > 0)
        protocol.place = 0; /* it will hear */
    node->actions_max = gwtf_protocol_actions_max(&protocol);
    node->slots_count = protocol.capacity + protocol.retained;
    return gwtf_protocol_create(&protocol, &node->protocol);
}

static gwtf_status create_node(gwtf_simulation *simulation, uint32_t index) {
    const struct gwtf_simulation_config *config = &simulation->config;
    struct simulation_node *node = &simulation->nodes[index];
    uint32_t incarnation = node->config.is_free ? config->first_iteration : 0;
    gwtf_status status = simulation_make_protocol(simulation, index, incarnation);
    if (status != GWTF_OK)
        return status;
    if (node->actions_max > simulation->actions_max)
        simulation->actions_max = node->actions_max;
    node->replicas = simulation->stage_sizes[node->config.stage];
    node->shares_max = 2 * node->replicas + 2;
    node->slots = calloc(node->slots_count, sizeof *node->slots);
    node->parts = calloc(node->replicas, sizeof *node->parts);
    node->parts_here = calloc(node->replicas, sizeof *node->parts_here);
    node->shares = calloc(node->shares_max, sizeof *node->shares);
    node->down = calloc(config->nodes_count, sizeof *node->down);
    if (!node->slots || !node->parts || !node->parts_here || !node->shares || !node->down)
        return GWTF_ERROR_MEMORY;
    node->weights = simulation_weights(simulation, node->config.stage, config->first_iteration - 1);
    node->stepped = config->first_iteration - 1;
    node->timer_us = GWTF_TIME_NEVER;
    simulation_clock_init(simulation, index);
    node->dead = node->declared = node->config.is_free;
    if (node->config.is_free)
        return GWTF_OK;
    struct simulation_event event = {.kind = SIMULATION_START, .node = index};
    simulation_push(simulation, &event);
    return GWTF_OK;
}

static gwtf_status create_nodes(gwtf_simulation *simulation) {
    const struct gwtf_simulation_config *config = &simulation->config;
    struct gwtf_member *members = calloc(config->nodes_count, sizeof *members);
    simulation->members = members;
    if (!members)
        return GWTF_ERROR_MEMORY;
    for (size_t i = 0; i < config->nodes_count; i++) {
        members[i].node = simulation->nodes[i].config.node;
        members[i].stage = simulation->nodes[i].config.stage;
        members[i].is_free = simulation->nodes[i].config.is_free;
        simulation->nodes[i].rank = simulation->stage_sizes[members[i].stage]++;
        if (members[i].stage == 0 && !members[i].is_free)
            simulation->batch += config->microbatches;
        simulation->floats[members[i].stage] = simulation->nodes[i].config.gradient_floats;
    }
    gwtf_status status = GWTF_OK;
    for (uint32_t i = 0; i < config->nodes_count && status == GWTF_OK; i++)
        status = create_node(simulation, i);
    return status;
}

static gwtf_status create_tables(gwtf_simulation *simulation) {
    struct gwtf_simulation_config *config = &simulation->config;
    size_t iterations = config->last_iteration - config->first_iteration + 1;
    simulation->nodes = calloc(config->nodes_count, sizeof *simulation->nodes);
    simulation->stage_sizes = calloc(config->stages + 1, sizeof *simulation->stage_sizes);
    simulation->reports = calloc(iterations, sizeof *simulation->reports);
    simulation->weights =
        calloc((iterations + 1) * (config->stages + 1), sizeof *simulation->weights);
    simulation->norms = calloc(iterations, sizeof *simulation->norms);
    simulation->data_nodes = calloc(iterations, sizeof *simulation->data_nodes);
    simulation->places = calloc(iterations + 1, sizeof *simulation->places);
    simulation->floats = calloc(config->stages + 1, sizeof *simulation->floats);
    simulation->rest_written = calloc(config->stages + 1, sizeof *simulation->rest_written);
    simulation->rest_iterations = calloc(config->stages + 1, sizeof *simulation->rest_iterations);
    if (!simulation->nodes || !simulation->stage_sizes || !simulation->reports ||
        !simulation->weights || !simulation->norms || !simulation->data_nodes ||
        !simulation->places || !simulation->floats || !simulation->rest_written ||
        !simulation->rest_iterations)
        return GWTF_ERROR_MEMORY;
    for (size_t i = 0; i < config->nodes_count; i++)
        simulation->nodes[i].config = config->nodes[i];
    config->nodes = NULL;
    simulation->place = simulation->places[0] = SIMULATION_FIRST_PLACE;
    gwtf_status status = create_nodes(simulation);
    if (status != GWTF_OK)
        return status;
    simulation->actions = calloc(simulation->actions_max, sizeof *simulation->actions);
    return simulation->actions && !simulation->out_of_memory ? GWTF_OK : GWTF_ERROR_MEMORY;
}

/* What the protocols do not check themselves. */
static bool is_sound(const struct gwtf_simulation_config *config) {
    if (!config->nodes || config->nodes_count == 0 || config->nodes_count >= SIMULATION_NONE ||
        !config->link || config->stages < 1 || config->stages > GWTF_STAGES_MAX ||
        config->first_iteration < 1 || config->last_iteration < config->first_iteration ||
        config->jitter_us < 0 || config->sent_us < 0 || config->work_jitter < 0 ||
        config->work_jitter >= 1 || config->resent < 0 || config->resent >= 1 ||
        config->clock_offset_us < 0 || config->clock_drift < 0 || config->clock_drift >= 1)
        return false;
    for (size_t i = 0; i < config->nodes_count; i++)
        if (config->nodes[i].stage > config->stages)
            return false;
    return true;
}

gwtf_status gwtf_simulation_create(const struct gwtf_simulation_config *config,
                                   gwtf_simulation **created) {
    if (!is_sound(config))
        return GWTF_ERROR_USAGE;
    gwtf_simulation *simulation = calloc(1, sizeof *simulation);
    if (!simulation)
        return GWTF_ERROR_MEMORY;
    simulation->config = *config;
    gwtf_random_init(&simulation->random, config->seed);
    gwtf_status status = create_tables(simulation);
    if (status != GWTF_OK) {
        gwtf_simulation_destroy(simulation);
        return status;
    }
    *created = simulation;
    return GWTF_OK;
}

void gwtf_simulation_destroy(gwtf_simulation *simulation) {
    if (!simulation)
        return;
    for (size_t i = 0; simulation->nodes && i < simulation->config.nodes_count; i++) {
        struct simulation_node *node = &simulation->nodes[i];
        gwtf_protocol_destroy(node->protocol);
        free(node->slots);
        free(node->parts);
        free(node->parts_here);
        free(node->shares);
        free(node->down);
        free(node->channels);
    }
    free(simulation->members);
    free(simulation->nodes);
    free(simulation->stage_sizes);
    simulation_queue_deinit(&simulation->queue);
    free(simulation->transfers);
    free(simulation->transfers_free);
    free(simulation->links);
    free(simulation->actions);
    free(simulation->reports);
    free(simulation->weights);
    free(simulation->norms);
    free(simulation->data_nodes);
    free(simulation->places);
    free(simulation->floats);
    free(simulation->rest_written);
    free(simulation->rest_iterations);
    free(simulation);
}

gwtf_status gwtf_simulation_inject(gwtf_simulation *simulation,
                                   const struct gwtf_simulation_fault *fault) {
    struct simulation_event event = {.at_us = fault->at_us,
                                     .kind = SIMULATION_FAULT,
                                     .node = simulation_find(simulation, fault->node),
                                     .fault = *fault};
    if (event.node == SIMULATION_NONE || fault->at_us < simulation->now_us)
        return GWTF_ERROR_USAGE;
    return simulation_queue_push(&simulation->queue, &event) ? GWTF_OK : GWTF_ERROR_MEMORY;
}

static void bring_message(gwtf_simulation *simulation, const struct simulation_event *event) {
    if (!simulation_reaches(simulation, event->peer, event->node))
        return;
    bool is_current = event->peer_life == simulation->nodes[event->peer].life &&
                      event->channel == simulation_channel(simulation, event->node, event->peer);
    if (!is_current && !event->by_door)
        return;
    struct gwtf_event in = {.kind = GWTF_EVENT_MESSAGE,
                            .peer = simulation->nodes[event->peer].config.node,
                            .message = event->message};
    simulation_step(simulation, event->node, &in, event->transfer);
}

static void bring_sent(gwtf_simulation *simulation, const struct simulation_event *event) {
    struct simulation_transfer *transfer = &simulation->transfers[event->transfer];
    const struct simulation_node *node = &simulation->nodes[event->node];
    transfer->sent = true;
    if (!node->dead && !node->finished && event->life == node->life) {
        struct simulation_content content;
        /* Whoever takes the receiver for lost does with the memory what it likes. */
        if (!node->down[transfer->to] &&
            transfer->channel == simulation_channel(simulation, event->node, transfer->to) &&
            simulation_read(simulation, event->node, &transfer->source, &content) &&
            content.value != transfer->content.value)
            simulation_fail(simulation, event->node, "overwrites memory that is being sent");
        struct gwtf_event in = {.kind = GWTF_EVENT_PAYLOAD_SENT, .ticket = transfer->send_ticket};
        simulation_step(simulation, event->node, &in, SIMULATION_NONE);
    }
    simulation_end_transfer(simulation, event->transfer);
}

static void bring_received(gwtf_simulation *simulation, const struct simulation_event *event) {
    struct simulation_transfer *transfer = &simulation->transfers[event->transfer];
    const struct simulation_node *node = &simulation->nodes[event->node];
    const struct simulation_node *sender = &simulation->nodes[transfer->from];
    transfer->arrived = true;
    bool is_cut = (sender->dead && sender->died_us < transfer->left_us) ||
                  simulation_is_cut(simulation, transfer->from, transfer->to);
    bool is_current =
        event->life == node->life && transfer->life == sender->life &&
        transfer->channel == simulation_channel(simulation, event->node, transfer->from);
    if (transfer->wanted && !is_cut && is_current && !node->down[transfer->from] && !node->dead &&
        !node->finished) {
        simulation_write(simulation, event->node, &transfer->target, &transfer->content);
        struct gwtf_event in = {.kind = GWTF_EVENT_PAYLOAD_RECEIVED,
                                .peer = simulation->nodes[transfer->from].config.node,
                                .ticket = transfer->receive_ticket};
        simulation_step(simulation, event->node, &in, SIMULATION_NONE);
    }
    simulation_end_transfer(simulation, event->transfer);
}

static void bring_worked(gwtf_simulation *simulation, const struct simulation_event *event) {
    struct simulation_node *node = &simulation->nodes[event->node];
    if (node->dead || node->finished || event->life != node->life)
        return;
    struct gwtf_event in = {.kind = GWTF_EVENT_WORK_DONE, .work = node->works[0]};
    in.result.compute_us = node->works_us[0];
    simulation->worked_us = simulation->now_us;
    node->works_count--;
    node->works[0] = node->works[1];
    node->works_us[0] = node->works_us[1];
    simulation_work(simulation, event->node, &in.work, &in.result);
    bool trains = in.work.kind == GWTF_WORK_BACKWARD || in.work.kind == GWTF_WORK_EMBED_BACKWARD;
    simulation->totals.microbatches_trained += trains;
    simulation_notice(simulation, GWTF_SIMULATION_WORK_ENDED, event->node, &in.work,
                      in.result.compute_us, NULL);
    simulation_step(simulation, event->node, &in, SIMULATION_NONE);
}

static void bring_written(gwtf_simulation *simulation, const struct simulation_event *event) {
    struct simulation_node *node = &simulation->nodes[event->node];
    if (event->life != node->life)
        return;
    struct gwtf_event in = {.kind = event->kind == SIMULATION_WRITTEN ? GWTF_EVENT_WRITTEN
                                                                      : GWTF_EVENT_MANIFEST_WRITTEN,
                            .iteration = event->iteration,
                            .status = node->cannot_write ? GWTF_ERROR_IO : GWTF_OK};
    if (event->kind == SIMULATION_WRITTEN) {
        in.file = simulation_file(node->config.stage, node->writing_weights);
        node->writing = 0;
        if (node->writing_rest && !node->dead && !node->cannot_write) {
            simulation->rest_written[node->config.stage] = true;
            simulation->rest_iterations[node->config.stage] = event->iteration;
        }
    } else if (!node->cannot_write && !node->dead) {
        simulation->totals.snapshots++;
    }
    simulation_step(simulation, event->node, &in, SIMULATION_NONE);
}

static void bring_timer(gwtf_simulation *simulation, const struct simulation_event *event) {
    struct simulation_node *node = &simulation->nodes[event->node];
    if (node->timer_us != event->at_us || event->life != node->life)
        return;
    node->timer_us = GWTF_TIME_NEVER;
    if (node->deadline_us <= simulation->now_us) {
        struct gwtf_event in = {.kind = GWTF_EVENT_TIMER};
        simulation_step(simulation, event->node, &in, SIMULATION_NONE);
    } else if (node->deadline_us != GWTF_TIME_NEVER) {
        /* The deadline has moved since: an event is kept for it, not one for each move. */
        struct simulation_event later = {
            .at_us = node->deadline_us, .kind = SIMULATION_TIMER, .node = event->node};
        node->timer_us = node->deadline_us;
        simulation_push(simulation, &later);
    }
}

static void bring_start(gwtf_simulation *simulation, const struct simulation_event *event) {
    struct gwtf_event start = {.kind = GWTF_EVENT_START};
    simulation_step(simulation, event->node, &start, SIMULATION_NONE);
}

static void bring_peer_down(gwtf_simulation *simulation, const struct simulation_event *event) {
    if (event->fault.kind == GWTF_SIMULATION_CUT &&
        !simulation_is_cut(simulation, event->peer, event->node))
        return; /* both are on the same side by now */
    struct gwtf_event down = {.kind = simulation_notices_death(simulation, event->peer)
                                          ? GWTF_EVENT_PEER_DOWN
                                          : GWTF_EVENT_PEER_SILENT,
                              .peer = simulation->nodes[event->peer].config.node};
    if (event->life != simulation->nodes[event->node].life ||
        event->channel != simulation_channel(simulation, event->node, event->peer))
        return; /* another life of one of them */
    simulation_step(simulation, event->node, &down, SIMULATION_NONE);
}

static void bring_return(gwtf_simulation *simulation, const struct simulation_event *event) {
    if (event->life == simulation->nodes[event->node].life)
        simulation_return(simulation, event->node);
}

static void bring(gwtf_simulation *simulation, const struct simulation_event *event) {
    static void (*const bringers[])(gwtf_simulation *, const struct simulation_event *) = {
        [SIMULATION_START] = bring_start,
        [SIMULATION_MESSAGE] = bring_message,
        [SIMULATION_SENT] = bring_sent,
        [SIMULATION_RECEIVED] = bring_received,
        [SIMULATION_WORKED] = bring_worked,
        [SIMULATION_WRITTEN] = bring_written,
        [SIMULATION_MANIFEST] = bring_written,
        [SIMULATION_TIMER] = bring_timer,
        [SIMULATION_FAULT] = simulation_bring_fault,
        [SIMULATION_PEER_DOWN] = bring_peer_down,
        [SIMULATION_RETURN] = bring_return};
    if (!simulation_hold(simulation, event))
        bringers[event->kind](simulation, event);
}

static bool is_over(const gwtf_simulation *simulation) {
    for (size_t i = 0; i < simulation->config.nodes_count; i++)
        if (!simulation->nodes[i].finished && !simulation->nodes[i].dead)
            return false;
    return true;
}

gwtf_status gwtf_simulation_run(gwtf_simulation *simulation, gwtf_time_us until_us) {
    uint32_t gone = UINT32_MAX;
    while (!simulation_failed(simulation) && !simulation->out_of_memory) {
        if (gone != simulation->totals.finished + simulation->totals.lost) {
            gone = simulation->totals.finished + simulation->totals.lost;
            if (is_over(simulation))
                return GWTF_OK;
        }
        struct simulation_event event;
        if (simulation->queue.count > 0 && simulation_queue_next_us(&simulation->queue) > until_us)
            return GWTF_OK;
        if (!simulation_queue_pop(&simulation->queue, &event)) {
            simulation_fail(simulation, 0, "nothing happens any more");
            break;
        }
        GWTF_ASSERT(event.at_us >= simulation->now_us);
        simulation->now_us = event.at_us;
        simulation->totals.events++;
        bring(simulation, &event);
        int64_t idle_us = simulation->now_us - simulation->worked_us;
        if (simulation->config.stall_us > 0 && idle_us > simulation->config.stall_us)
            simulation_fail(simulation, 0, "nothing gets on since %lld us",
                            (long long)simulation->worked_us);
    }
    return simulation->out_of_memory ? GWTF_ERROR_MEMORY : GWTF_ERROR_RUN;
}

const char *gwtf_simulation_failure(const gwtf_simulation *simulation) {
    return simulation_failed(simulation) ? simulation->failure : NULL;
}

struct gwtf_simulation_totals gwtf_simulation_get_totals(const gwtf_simulation *simulation) {
    struct gwtf_simulation_totals totals = simulation->totals;
    totals.now_us = simulation->now_us;
    for (size_t i = 0; i < simulation->config.nodes_count; i++)
        totals.refusals += gwtf_protocol_get_view(simulation->nodes[i].protocol).refusals;
    return totals;
}

const struct gwtf_report *gwtf_simulation_reports(const gwtf_simulation *simulation,
                                                  size_t *count) {
    *count = simulation->totals.iterations;
    return simulation->reports;
}

bool gwtf_simulation_finished(const gwtf_simulation *simulation, gwtf_node_id node,
                              gwtf_status *status, gwtf_node_id *culprit) {
    uint32_t index = simulation_find(simulation, node);
    if (index == SIMULATION_NONE || !simulation->nodes[index].finished)
        return false;
    if (status)
        *status = simulation->nodes[index].status;
    if (culprit)
        *culprit = simulation->nodes[index].culprit;
    return true;
}

bool gwtf_simulation_rest(const gwtf_simulation *simulation, uint32_t stage, uint32_t *iteration) {
    if (stage > simulation->config.stages || !simulation->rest_written[stage])
        return false;
    *iteration = simulation->rest_iterations[stage];
    return true;
}

struct gwtf_protocol_view gwtf_simulation_get_view(const gwtf_simulation *simulation,
                                                   gwtf_node_id node) {
    uint32_t index = simulation_find(simulation, node);
    GWTF_ASSERT(index != SIMULATION_NONE);
    return gwtf_protocol_get_view(simulation->nodes[index].protocol);
}

void gwtf_simulation_get_members(const gwtf_simulation *simulation, gwtf_node_id node,
                                 struct gwtf_member_view *views) {
    uint32_t index = simulation_find(simulation, node);
    GWTF_ASSERT(index != SIMULATION_NONE);
    gwtf_protocol_get_members(simulation->nodes[index].protocol, views);
}
