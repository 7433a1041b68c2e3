/* The phases of an iteration, their end, and the recorder's report of them. */
#include "worker/protocol/state.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct protocol_round *protocol_round_of(gwtf_protocol *p, uint32_t iteration) {
    struct protocol_round *round = &p->rounds[iteration & 1];
    return round->iteration == iteration && iteration <= p->config.last_iteration ? round : NULL;
}

static void clear_round(gwtf_protocol *p, struct protocol_round *round, uint32_t iteration) {
    round->iteration = iteration;
    for (int phase = 0; phase < 2; phase++) {
        memset(round->dones[phase], 0, p->data_nodes * sizeof *round->dones[phase]);
        round->dones_here[phase] = 0;
    }
    memset(round->contributions, 0, p->replicas * sizeof *round->contributions);
    memset(round->shares, 0, p->replicas * sizeof *round->shares);
    memset(round->ready, 0, p->replicas * sizeof *round->ready);
    memset(round->norms, 0, (p->config.stages + 1) * sizeof *round->norms);
    round->contributions_here = 0;
    round->shares_here = 0;
    round->ready_here = 0;
    round->norms_here = 0;
}

gwtf_status protocol_iteration_create(gwtf_protocol *p) {
    for (int i = 0; i < 2; i++) {
        struct protocol_round *round = &p->rounds[i];
        for (int phase = 0; phase < 2; phase++)
            round->dones[phase] = calloc(p->data_nodes, sizeof *round->dones[phase]);
        round->contributions = calloc(p->replicas, sizeof *round->contributions);
        round->shares = calloc(p->replicas, sizeof *round->shares);
        round->ready = calloc(p->replicas, sizeof *round->ready);
        round->norms = calloc(p->config.stages + 1, sizeof *round->norms);
        if (!round->dones[0] || !round->dones[1] || !round->contributions || !round->shares ||
            !round->ready || !round->norms)
            return GWTF_ERROR_MEMORY;
    }
    if (p->stage > 0)
        return GWTF_OK;
    uint32_t losses = p->config.microbatches > p->config.validation_microbatches
                          ? p->config.microbatches
                          : p->config.validation_microbatches;
    p->source.losses = calloc(losses, sizeof *p->source.losses);
    return p->source.losses ? GWTF_OK : GWTF_ERROR_MEMORY;
}

void protocol_iteration_destroy(gwtf_protocol *p) {
    for (int i = 0; i < 2; i++) {
        struct protocol_round *round = &p->rounds[i];
        free(round->dones[0]);
        free(round->dones[1]);
        free(round->contributions);
        free(round->shares);
        free(round->ready);
        free(round->norms);
    }
    free(p->source.losses);
}

static void begin_training(gwtf_protocol *p, uint32_t iteration) {
    p->iteration = iteration;
    p->phase = GWTF_PHASE_TRAIN;
    p->aggregation = AGGREGATION_TRAINING;
    p->busy_us = 0;
    p->iteration_began_us = p->now_us;
    protocol_links_review_flows(p);
    protocol_routing_begin(p);
}

void protocol_iteration_start(gwtf_protocol *p) {
    uint32_t first = p->config.first_iteration;
    p->stepped = first - 1;
    clear_round(p, &p->rounds[first & 1], first);
    clear_round(p, &p->rounds[(first + 1) & 1], first + 1);
    begin_training(p, first);
}

static void note_done(gwtf_protocol *p, uint32_t data_rank, const struct gwtf_message *message) {
    struct protocol_round *round = protocol_round_of(p, message->iteration);
    if (!round || message->phase > GWTF_PHASE_VALIDATE)
        return;
    uint32_t microbatches = message->body.done.microbatches;
    if (message->phase == GWTF_PHASE_TRAIN && microbatches > p->config.microbatches)
        return;
    struct protocol_done *done = &round->dones[message->phase][data_rank];
    if (done->here)
        return;
    done->here = true;
    done->stop = message->body.done.stop != 0;
    done->loss_sum = message->body.done.loss_sum;
    done->tokens = message->body.done.tokens;
    done->microbatches = microbatches;
    round->dones_here[message->phase]++;
}

void protocol_iteration_done(gwtf_protocol *p, uint32_t data_rank,
                             const struct gwtf_message *message) {
    note_done(p, data_rank, message);
}

/* A data node has all its microbatches of the phase back. */
static bool tell_done(gwtf_protocol *p) {
    struct protocol_source *source = &p->source;
    if (p->stage > 0 || source->told || source->completed < source->total)
        return false;
    source->told = true;
    struct gwtf_message message = {
        .kind = GWTF_MESSAGE_DONE, .phase = (uint16_t)p->phase, .iteration = p->iteration};
    double loss_sum = 0;
    for (uint32_t i = 0; i < source->total; i++)
        loss_sum += source->losses[i];
    message.body.done.loss_sum = loss_sum;
    message.body.done.tokens = source->tokens;
    message.body.done.microbatches = source->total;
    message.body.done.stop = p->phase == GWTF_PHASE_TRAIN && p->stop_wanted;
    protocol_broadcast(p, &message, false);
    note_done(p, p->rank, &message);
    return true;
}

/* Loss per token over all data nodes, in the order of their ids. */
static double loss_of(const gwtf_protocol *p, const struct protocol_round *round,
                      enum gwtf_phase phase, uint64_t *tokens, uint32_t *microbatches) {
    double loss_sum = 0;
    *tokens = 0;
    *microbatches = 0;
    for (uint32_t rank = 0; rank < p->data_nodes; rank++) {
        loss_sum += round->dones[phase][rank].loss_sum;
        *tokens += round->dones[phase][rank].tokens;
        *microbatches += round->dones[phase][rank].microbatches;
    }
    return *tokens > 0 ? loss_sum / (double)*tokens : NAN;
}

static void prepare_report(gwtf_protocol *p) {
    if (p->config.self != p->recorder)
        return;
    const struct protocol_round *round = protocol_round_of(p, p->iteration);
    struct gwtf_report *report = &p->report;
    memset(report, 0, sizeof *report);
    report->iteration = p->iteration;
    report->loss = loss_of(p, round, GWTF_PHASE_TRAIN, &report->tokens, &report->microbatches);
    report->validation_loss = NAN;
    report->duration_us = p->now_us - p->iteration_began_us;
    report->nodes = (uint32_t)p->config.members_count;
    report->gradient_norm = p->gradient_norm;
    for (uint32_t stage = 0; stage <= p->config.stages; stage++) {
        const struct protocol_norm *norm = &round->norms[stage];
        double available_us = (double)report->duration_us * norm->replicas;
        if (available_us > 0)
            report->stage_utilisation[stage] = (double)norm->busy_us / available_us;
    }
    p->report_pending = true;
}

static bool is_validation_due(const gwtf_protocol *p) {
    if (!p->config.validates || p->stopped)
        return false;
    return p->iteration == p->config.last_iteration ||
           (p->config.validate_every > 0 && p->iteration % p->config.validate_every == 0);
}

static void end_iteration(gwtf_protocol *p) {
    if (p->report_pending) {
        protocol_emit(p, GWTF_ACTION_REPORT)->report = &p->report;
        p->report_pending = false;
    }
    p->aggregation = AGGREGATION_STEPPED;
    if (p->stopped || p->iteration == p->config.last_iteration) {
        p->ended = true;
        return;
    }
    uint32_t ended = p->iteration;
    begin_training(p, ended + 1);
    clear_round(p, &p->rounds[ended & 1], ended + 2);
}

void protocol_iteration_stepped(gwtf_protocol *p) {
    p->stepped = p->iteration;
    p->aggregation = AGGREGATION_STEPPED;
    protocol_emit(p, GWTF_ACTION_STEPPED)->iteration = p->iteration;
    if (protocol_snapshot_due(p)) {
        p->snapshot_wanted = p->iteration;
        p->snapshot_issued = false;
    }
    prepare_report(p);
    if (!is_validation_due(p)) {
        end_iteration(p);
        return;
    }
    p->phase = GWTF_PHASE_VALIDATE;
    protocol_routing_begin(p);
}

static bool end_training(gwtf_protocol *p) {
    const struct protocol_round *round = protocol_round_of(p, p->iteration);
    if (p->phase != GWTF_PHASE_TRAIN || p->aggregation != AGGREGATION_TRAINING ||
        round->dones_here[GWTF_PHASE_TRAIN] < p->data_nodes)
        return false;
    for (uint32_t rank = 0; rank < p->data_nodes; rank++)
        p->stopped = p->stopped || round->dones[GWTF_PHASE_TRAIN][rank].stop;
    protocol_aggregation_begin(p);
    return true;
}

static bool end_validation(gwtf_protocol *p) {
    const struct protocol_round *round = protocol_round_of(p, p->iteration);
    if (p->phase != GWTF_PHASE_VALIDATE || round->dones_here[GWTF_PHASE_VALIDATE] < p->data_nodes)
        return false;
    if (p->report_pending) {
        uint64_t tokens;
        uint32_t microbatches;
        p->report.validation_loss = loss_of(p, round, GWTF_PHASE_VALIDATE, &tokens, &microbatches);
    }
    end_iteration(p);
    return true;
}

void protocol_iteration_advance(gwtf_protocol *p) {
    /* Each turn ends a phase of this node; the next one's end needs works. */
    while (!p->finished && !p->ended && (tell_done(p) || end_training(p) || end_validation(p)))
        ;
}
