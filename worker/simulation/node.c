/* One node: an event goes in, its actions are carried out and held against the contract. */
#include "worker/simulation/state.h"

#include <math.h>

#define LEFT_NOTICE_US 200000

static void trace(gwtf_simulation *simulation, uint64_t value) {
    simulation->totals.trace = simulation_mix(simulation->totals.trace, value);
}

/* Duration of a work with its share of chance. */
static int64_t duration_of(gwtf_simulation *simulation, const struct simulation_node *node,
                           const struct gwtf_work *work) {
    double us = (double)node->config.work_us[work->kind];
    if (simulation->config.work_jitter > 0)
        us *= 1 + simulation->config.work_jitter * (2 * gwtf_random_unit(&simulation->random) - 1);
    return us < 1 ? 1 : (int64_t)us;
}

static void begin_work(gwtf_simulation *simulation, uint32_t index, const struct gwtf_work *work) {
    struct simulation_node *node = &simulation->nodes[index];
    if (node->works_count == 2) {
        simulation_fail(simulation, index, "has more than two works under way");
        return;
    }
    if (work->kind <= GWTF_WORK_EMBED_BACKWARD && work->slot >= node->config.capacity) {
        simulation_fail(simulation, index, "works on slot %u of %u", work->slot,
                        node->config.capacity);
        return;
    }
    if (node->processor_free_us < simulation->now_us)
        node->processor_free_us = simulation->now_us;
    int64_t us = duration_of(simulation, node, work);
    node->processor_free_us += us;
    node->works[node->works_count] = *work;
    node->works_us[node->works_count++] = us;
    struct simulation_event event = {
        .at_us = node->processor_free_us, .kind = SIMULATION_WORKED, .node = index};
    simulation_push(simulation, &event);
    simulation_notice(simulation, GWTF_SIMULATION_WORK_BEGINS, index, work, us, NULL);
}

static void take_payload(gwtf_simulation *simulation, uint32_t index,
                         const struct gwtf_action *action, uint32_t transfer_index) {
    struct simulation_node *node = &simulation->nodes[index];
    if (transfer_index == SIMULATION_NONE) {
        simulation_fail(simulation, index, "receives a payload that does not come");
        return;
    }
    if (action->payload.kind == GWTF_PAYLOAD_BOUNDARY &&
        action->payload.slot >= node->slots_count) {
        simulation_fail(simulation, index, "receives into slot %u of %u", action->payload.slot,
                        node->slots_count);
        return;
    }
    struct simulation_transfer *transfer = &simulation->transfers[transfer_index];
    transfer->wanted = true;
    transfer->target = action->payload;
    transfer->receive_ticket = action->ticket;
}

/* Whether MICROBATCHES can be those of all that make up the iteration of report NUMBER. */
static bool may_be_all(const gwtf_simulation *simulation, uint32_t number, uint32_t microbatches) {
    uint32_t each = simulation->config.microbatches, data_nodes = 0;
    if (simulation->config.batch_is_constant)
        return microbatches == simulation->batch;
    for (uint64_t mask = simulation->data_nodes[number]; mask != 0; mask &= mask - 1)
        data_nodes++;
    if (data_nodes > 0)
        return microbatches == data_nodes * each;
    return microbatches > 0 && microbatches % each == 0 &&
           microbatches <= simulation->stage_sizes[0] * each;
}

static void note_report(gwtf_simulation *simulation, uint32_t index,
                        const struct gwtf_report *report) {
    const struct gwtf_simulation_config *config = &simulation->config;
    uint32_t number = simulation->totals.iterations;
    bool is_exact = config->recovery == GWTF_RECOVERY_EXACT;
    /* work_loss gives microbatch i of the iteration a loss of 1 + i. */
    double loss = (report->microbatches + 1) / 2.0;
    /* A new recorder may say again what the lost one has said. */
    if (number > 0 && report->iteration == simulation->reports[number - 1].iteration &&
        simulation->reporter != index)
        return;
    /* So may one that stood still until the others had gone on: the run's file has the line. */
    if (simulation->nodes[index].declared && report->iteration < config->first_iteration + number)
        return;
    simulation->reporter = index;
    if (report->iteration != config->first_iteration + number)
        simulation_fail(simulation, index, "reports iteration %u out of order", report->iteration);
    else if ((is_exact && !may_be_all(simulation, number, report->microbatches)) ||
             fabs(report->loss - loss) > 1e-9)
        simulation_fail(simulation, index, "reports %u microbatches and loss %g",
                        report->microbatches, report->loss);
    else if (report->gradient_norm != simulation->norms[number])
        simulation_fail(simulation, index, "reports another norm than it stepped with");
    else {
        simulation->reports[simulation->totals.iterations++] = *report;
        simulation_notice(simulation, GWTF_SIMULATION_REPORTED, index, NULL, 0, report);
        simulation->totals.repaired += report->repaired;
        simulation->totals.wasted_us += report->wasted_us;
    }
}

static void write_manifest(gwtf_simulation *simulation, uint32_t index,
                           const struct gwtf_action *action) {
    uint32_t writer = simulation->manifest_writer;
    /* Of two sides of a cut both may know that it is whole, and so may a recorder that stood still
     * until others had one in its place: they write the same. */
    bool is_again = action->iteration == simulation->manifested && writer != index &&
                    (simulation->nodes[writer].dead || simulation->nodes[writer].declared ||
                     simulation_is_cut(simulation, writer, index));
    if (action->iteration <= simulation->manifested && !is_again &&
        !simulation->nodes[index].declared)
        simulation_fail(simulation, index, "writes the manifest of %u twice", action->iteration);
    if (action->iteration > simulation->manifested)
        simulation->manifested = action->iteration;
    simulation->manifest_writer = index;
    for (uint32_t stage = 0; stage <= simulation->config.stages; stage++) {
        uint64_t weights = simulation_weights(simulation, stage, action->iteration);
        struct gwtf_stage_file file = simulation_file(stage, weights);
        bool same = file.size_bytes == action->files[stage].size_bytes;
        for (size_t i = 0; i < sizeof file.sha256; i++)
            same = same && file.sha256[i] == action->files[stage].sha256[i];
        if (!same)
            simulation_fail(simulation, index, "the manifest of %u has a wrong file of stage %u",
                            action->iteration, stage);
    }
    struct simulation_event event = {.at_us = simulation->now_us + simulation->config.manifest_us,
                                     .kind = SIMULATION_MANIFEST,
                                     .node = index,
                                     .iteration = action->iteration};
    simulation_push(simulation, &event);
}

static void finish(gwtf_simulation *simulation, uint32_t index, const struct gwtf_action *action) {
    struct simulation_node *node = &simulation->nodes[index];
    node->finished = true;
    node->status = action->status;
    node->culprit = action->culprit;
    simulation->totals.finished++;
    /* Whoever ends alone is missed. */
    if (action->status == GWTF_ERROR_FENCED || action->status == GWTF_ERROR_LINK)
        simulation_leave(simulation, index, LEFT_NOTICE_US, 0);
    if (action->status == GWTF_ERROR_FENCED && simulation->config.return_us > 0) {
        struct simulation_event event = {.at_us = simulation->now_us + simulation->config.return_us,
                                         .kind = SIMULATION_RETURN,
                                         .node = index};
        simulation_push(simulation, &event);
    }
    struct gwtf_protocol_view view = gwtf_protocol_get_view(node->protocol);
    node->left = view.left;
    simulation->totals.left += view.left;
    if (view.left)
        simulation_notice(simulation, GWTF_SIMULATION_LEFT, index, NULL, 0, NULL);
    if (view.enters || view.left)
        return;
    if (action->status == GWTF_OK && node->stepped != simulation->config.last_iteration)
        simulation_fail(simulation, index, "finishes well after iteration %u", node->stepped);
    bool is_good = action->status == GWTF_OK || action->status == GWTF_ERROR_INTERRUPTED;
    if (is_good && (node->stepped != simulation->manifested || node->hashed != node->stepped))
        simulation_fail(simulation, index, "finishes at iteration %u without its snapshot",
                        node->stepped);
}

static void note_incident(gwtf_simulation *simulation, uint32_t index,
                          const struct gwtf_incident *incident) {
    uint32_t about = simulation_find(simulation, incident->node);
    if (incident->kind == GWTF_INCIDENT_RESTARTED)
        simulation->totals.restarts++;
    if (incident->kind == GWTF_INCIDENT_UP)
        simulation_open(simulation, index, incident);
    if (incident->kind == GWTF_INCIDENT_ENTERED)
        simulation_entered(simulation, index);
    if (incident->kind == GWTF_INCIDENT_STAYS)
        simulation->totals.stayed++;
    if (incident->kind == GWTF_INCIDENT_LEFT && about != SIMULATION_NONE)
        simulation->nodes[index].down[about] = true;
    if (incident->kind != GWTF_INCIDENT_DOWN || about == SIMULATION_NONE)
        return;
    struct simulation_node *node = &simulation->nodes[about];
    simulation->totals.lost += !node->declared && !node->dead;
    node->declared = true;
    simulation->nodes[index].down[about] = true;
}

static void carry_out(gwtf_simulation *simulation, uint32_t index, const struct gwtf_action *action,
                      uint32_t transfer) {
    struct simulation_node *node = &simulation->nodes[index];
    trace(simulation, (uint64_t)action->kind << 32 | action->to);
    switch (action->kind) {
    case GWTF_ACTION_SEND:
        trace(simulation, action->message.kind);
        simulation_send(simulation, index, action);
        break;
    case GWTF_ACTION_RECEIVE:
        take_payload(simulation, index, action, transfer);
        break;
    case GWTF_ACTION_DISCARD:
        break;
    case GWTF_ACTION_WORK:
        trace(simulation, action->work.kind);
        begin_work(simulation, index, &action->work);
        break;
    case GWTF_ACTION_REPORT:
        note_report(simulation, index, action->report);
        break;
    case GWTF_ACTION_STEPPED:
        if (action->iteration != node->stepped)
            simulation_fail(simulation, index, "says that it stepped %u, which it did not",
                            action->iteration);
        break;
    case GWTF_ACTION_REROUTED:
        simulation->totals.reroutes++;
        break;
    case GWTF_ACTION_HASHED:
        if (action->iteration <= node->hashed)
            simulation_fail(simulation, index, "hashes iteration %u twice", action->iteration);
        node->hashed = action->iteration;
        break;
    case GWTF_ACTION_MANIFEST:
        write_manifest(simulation, index, action);
        break;
    case GWTF_ACTION_KEEP:
        simulation_keep(simulation, index, action->slot, action->kept);
        break;
    case GWTF_ACTION_INCIDENT:
        note_incident(simulation, index, &action->incident);
        break;
    case GWTF_ACTION_FINISH:
        finish(simulation, index, action);
        break;
    }
}

static void check_answer(gwtf_simulation *simulation, uint32_t index,
                         const struct gwtf_update *update, uint32_t transfer) {
    size_t answers = 0;
    for (size_t i = 0; i < update->actions_count; i++)
        answers += update->actions[i].kind == GWTF_ACTION_RECEIVE ||
                   update->actions[i].kind == GWTF_ACTION_DISCARD;
    size_t expected = transfer == SIMULATION_NONE ? 0 : 1;
    if (answers != expected && !simulation->nodes[index].finished)
        simulation_fail(simulation, index, "answers a payload %zu times", answers);
}

static void check_state(gwtf_simulation *simulation, uint32_t index) {
    struct simulation_node *node = &simulation->nodes[index];
    uint32_t every = simulation->config.check_every;
    const char *why = NULL;
    if (every > 0 && node->steps++ % every == 0 && !gwtf_protocol_check(node->protocol, &why))
        simulation_fail(simulation, index, "%s", why);
}

static void set_timer(gwtf_simulation *simulation, uint32_t index, gwtf_time_us deadline_us) {
    struct simulation_node *node = &simulation->nodes[index];
    node->deadline_us = simulation_moment(node, deadline_us);
    if (node->deadline_us < simulation->now_us)
        node->deadline_us = simulation->now_us;
    if (node->finished || node->deadline_us >= node->timer_us)
        return;
    node->timer_us = node->deadline_us;
    struct simulation_event event = {
        .at_us = node->timer_us, .kind = SIMULATION_TIMER, .node = index};
    simulation_push(simulation, &event);
}

void simulation_step(gwtf_simulation *simulation, uint32_t index, struct gwtf_event *event,
                     uint32_t transfer) {
    struct simulation_node *node = &simulation->nodes[index];
    if (node->dead || node->finished)
        return;
    event->now_us = simulation_clock(node, simulation->now_us);
    trace(simulation, (uint64_t)simulation->now_us);
    trace(simulation, (uint64_t)event->kind << 32 | index);
    struct gwtf_update update = {.actions = simulation->actions, .actions_max = node->actions_max};
    (void)gwtf_protocol_step(node->protocol, event, &update);
    for (size_t i = 0; i < update.actions_count; i++) {
        if (node->finished)
            simulation_fail(simulation, index, "goes on after FINISH");
        carry_out(simulation, index, &update.actions[i], transfer);
    }
    check_answer(simulation, index, &update, transfer);
    check_state(simulation, index);
    set_timer(simulation, index, update.deadline_us);
}
