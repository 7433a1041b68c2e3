/* What a node writes down of what happens: its events, and as the recorder each iteration. */
#include "share/base/log.h"
#include "worker/runtime/node_state.h"

#include <stdio.h>
#include <string.h>

/* How many reports count in the mean. */
#define REPORTS_MEAN 8u

void node_write_event(struct node *node, const char *kind, uint32_t iteration, gwtf_node_id about,
                      const char *text) {
    struct gwtf_writer_job job = {.kind = GWTF_WRITER_EVENT, .iteration = iteration};
    snprintf(job.event.kind, sizeof job.event.kind, "%s", kind);
    snprintf(job.event.text, sizeof job.event.text, "%s", text);
    job.event.node = about;
    if (gwtf_writer_push(node->writer, &job) != GWTF_OK)
        gwtf_log(GWTF_LOG_WARNING, "the disk is too slow: an event (%s) is lost", kind);
}

void node_write_rerouted(struct node *node, const struct gwtf_action *action) {
    struct gwtf_writer_job job = {.kind = GWTF_WRITER_REROUTED,
                                  .iteration = action->iteration,
                                  .rerouted = {.node = node->charter->self,
                                               .from = action->reroute.from,
                                               .to = action->reroute.to,
                                               .link = action->reroute.link,
                                               .old_cost_us = action->reroute.old_cost_us,
                                               .new_cost_us = action->reroute.new_cost_us}};
    if (gwtf_writer_push(node->writer, &job) != GWTF_OK)
        gwtf_log(GWTF_LOG_WARNING, "the disk is too slow: an event (rerouted) is lost");
}

/* What concerns all is written by one; when no data node is left, by all. */
bool node_is_recorder(const struct node *node) {
    gwtf_node_id recorder = gwtf_protocol_get_view(node->protocol).recorder;
    return !node->is_fenced && (recorder == node->charter->self || recorder == GWTF_NODE_NONE);
}

/* Figures of one short iteration are chance. What a stage has to do does not change with its nodes,
 * so the mean goes on when those come and go. */
static void note_busy(struct node *node, const struct gwtf_report *of) {
    node->reports += node->reports < REPORTS_MEAN;
    for (uint32_t stage = 1; stage <= GWTF_STAGES_MAX; stage++) {
        double *busy = &node->stage_busy[stage - 1];
        double now = of->stage_utilisation[stage] * of->stage_nodes[stage];
        *busy += (now - *busy) / node->reports;
    }
    node->reported = of->iteration;
    node->reported_duration_us = of->duration_us;
    node->reported_mean_us += ((double)of->duration_us - node->reported_mean_us) / node->reports;
    node->reported_microbatches = of->microbatches;
}

void node_report(struct node *node, const struct gwtf_report *of) {
    struct gwtf_writer_job job = {.kind = GWTF_WRITER_METRICS, .iteration = of->iteration};
    double seconds = (double)of->duration_us * 1e-6;
    job.metrics = (struct gwtf_metrics){
        .iteration = of->iteration,
        .loss = of->loss,
        .validation_loss = of->validation_loss,
        .tokens = of->tokens,
        .seconds = seconds,
        .tokens_per_second = seconds > 0 ? (double)of->tokens / seconds : 0,
        .microbatches = of->microbatches,
        .nodes = of->nodes,
        .joined = of->joined,
        .lost = of->lost,
        .repaired = of->repaired,
        .wasted_seconds = (double)of->wasted_us * 1e-6,
        .stages = node->setup.config.pipeline.stages,
        .gradient_norm = of->gradient_norm,
        .learning_rate = gwtf_schedule_at(&node->setup.schedule, of->iteration),
    };
    for (uint32_t stage = 1; stage <= job.metrics.stages && stage <= GWTF_RUN_STAGES_MAX; stage++)
        job.metrics.stage_utilisation[stage - 1] = of->stage_utilisation[stage];
    note_busy(node, of);
    if (gwtf_writer_push(node->writer, &job) != GWTF_OK)
        gwtf_log(GWTF_LOG_WARNING, "the disk is too slow: the metrics of iteration %u are lost",
                 of->iteration);
}

void node_note_incident(struct node *node, const struct gwtf_incident *incident) {
    char text[128];
    switch (incident->kind) {
    case GWTF_INCIDENT_DOWN:
        break; /* done before the other actions */
    case GWTF_INCIDENT_REPAIRED:
        snprintf(text, sizeof text, "%u microbatches are with others, %.3f s after the loss",
                 incident->microbatches, (double)incident->duration_us * 1e-6);
        node_write_event(node, "repaired", incident->iteration, incident->node, text);
        break;
    case GWTF_INCIDENT_RESTARTED:
        node_write_event(node, "begun_anew", incident->iteration, incident->node,
                         "the iteration begins anew: what was lost is nowhere else");
        break;
    case GWTF_INCIDENT_UP:
        node_open(node, incident);
        node_tell_door(node);
        break;
    case GWTF_INCIDENT_ENTERED:
        node->state.iteration = incident->iteration - 1;
        snprintf(text, sizeof text, "%s weights of iteration %u, %.3f s after it asked",
                 node->charter->enters > 0 && node->returns == 0 ? "it has joined, with"
                                                                 : "it is back, with",
                 incident->iteration - 1, (double)incident->duration_us * 1e-6);
        gwtf_log(node->charter->enters > 0 ? GWTF_LOG_INFO : GWTF_LOG_DEBUG, "%s", text);
        node_write_event(node, "joined", incident->iteration, incident->node, text);
        break;
    case GWTF_INCIDENT_SNAPSHOT:
        node_write_event(node, "snapshot", incident->iteration, incident->node,
                         "given up: a stage's file was lost with its node");
        break;
    case GWTF_INCIDENT_SUSPECTED:
        gwtf_log(GWTF_LOG_WARNING, "node %u: %s; the recorder decides", incident->node,
                 node_found_by(node, incident));
        break;
    case GWTF_INCIDENT_DOUBTED:
        snprintf(text, sizeof text, "%s: do the others of the run hear it? It is of stage %u",
                 node_found_by(node, incident), incident->stage);
        gwtf_log(GWTF_LOG_WARNING, "node %u: %s", incident->node, text);
        node_write_event(node, "doubted", (uint32_t)node->state.iteration, incident->node, text);
        break;
    case GWTF_INCIDENT_LEAVING:
        if (node->moves_to != 0)
            snprintf(text, sizeof text, "it is told to move to stage %u", node->moves_to);
        else
            snprintf(text, sizeof text, "it is told to leave within %.1f s (%s)", node->notice_s,
                     node->leave_why);
        gwtf_log(GWTF_LOG_INFO, "%s", text);
        node_write_event(node, "leaving", (uint32_t)node->state.iteration + 1, incident->node,
                         text);
        break;
    case GWTF_INCIDENT_STAYS:
        snprintf(text, sizeof text,
                 "it is the one of stage %u that stays, for as long as its notice lets it",
                 incident->stage);
        gwtf_log(GWTF_LOG_INFO, "%s", text);
        node_write_event(node, "stays", (uint32_t)node->state.iteration + 1, incident->node, text);
        break;
    case GWTF_INCIDENT_LEFT:
        break; /* done after the other actions */
    case GWTF_INCIDENT_STAGE:
        snprintf(text, sizeof text,
                 "stage %u: its last node was lost; the others' weights are being written",
                 incident->stage);
        node_write_event(node, "stage_lost", (uint32_t)node->state.iteration, incident->node, text);
        break;
    }
}
