/*
 * The phases of an iteration, their end, and the recorder's report of them.
 *
 * Which data nodes' microbatches make an iteration up is the same for all stages: it is fixed by
 * the iteration's generation. When one of them is lost before stage 0 has its whole sum, or when a
 * stage is irreparable (repair.c), the recorder begins the iteration anew, in the next generation:
 * all clear their gradients, and the living data nodes send their microbatches again. Stage 0, or
 * that stage, cannot be complete in the old generation, so nobody has stepped in it. Generations of
 * different recorders differ, since each takes those from its own rank among the data nodes on.
 */
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
    round->irreparable = false;
    round->irreparable_told = GWTF_NODE_NONE;
    round->irreparable_passed_on = false;
    round->irreparable_passed_back = false;
    round->restart_wanted = false;
    round->totals_here = false;
    for (int phase = 0; phase < 2; phase++) {
        memset(round->dones[phase], 0, p->data_nodes * sizeof *round->dones[phase]);
        round->dones_here[phase] = 0;
    }
    memset(round->contributions, 0, p->replicas * sizeof *round->contributions);
    memset(round->shares, 0, p->replicas * sizeof *round->shares);
    memset(round->norms, 0, (p->config.stages + 1) * sizeof *round->norms);
    round->contributions_here = 0;
    round->shares_here = 0;
    round->norms_here = 0;
}

gwtf_status protocol_iteration_create(gwtf_protocol *p) {
    for (int i = 0; i < 2; i++) {
        struct protocol_round *round = &p->rounds[i];
        for (int phase = 0; phase < 2; phase++)
            round->dones[phase] = calloc(p->data_nodes, sizeof *round->dones[phase]);
        round->contributions = calloc(p->replicas, sizeof *round->contributions);
        round->shares = calloc(p->replicas, sizeof *round->shares);
        round->counts = calloc(p->data_nodes, sizeof *round->counts);
        round->norms = calloc(p->config.stages + 1, sizeof *round->norms);
        if (!round->dones[0] || !round->dones[1] || !round->contributions || !round->shares ||
            !round->counts || !round->norms)
            return GWTF_ERROR_MEMORY;
    }
    if (p->stage > 0)
        return GWTF_OK;
    uint32_t most = protocol_order_most(&p->config);
    uint32_t losses =
        most > p->config.validation_microbatches ? most : p->config.validation_microbatches;
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
        free(round->counts);
        free(round->norms);
    }
    free(p->source.losses);
}

/* What the round of an iteration that nobody has begun yet takes from the one before. */
static void inherit(gwtf_protocol *p, struct protocol_round *round,
                    const struct protocol_round *before) {
    round->generation = before->generation;
    round->counts_known = before->counts_known;
    memcpy(round->counts, before->counts, p->data_nodes * sizeof *round->counts);
}

static void begin_training(gwtf_protocol *p, uint32_t iteration) {
    struct protocol_round *before = &p->rounds[(iteration - 1) & 1];
    struct protocol_round *round = &p->rounds[iteration & 1];
    bool is_next = round->generation <= before->generation;
    if (is_next)
        inherit(p, round, before);
    p->iteration = iteration;
    p->phase = GWTF_PHASE_TRAIN;
    protocol_leave_begin(p, round, is_next);
    /* A recorder that has begun it anew has counted them, too, or knows that they are lost. */
    protocol_entry_admit(p, is_next);
    p->busy_us = 0;
    p->wasted_us = 0;
    p->repaired = 0;
    p->iteration_began_us = p->now_us;
    if (p->entry.serves)
        protocol_links_review_flows(p);
    protocol_aggregation_begin(p);
    protocol_routing_begin(p);
}

void protocol_iteration_start(gwtf_protocol *p) {
    uint32_t first = p->config.first_iteration;
    p->stepped = first - 1;
    for (int i = 0; i < 2; i++) {
        p->rounds[i].counts_known = true;
        for (uint32_t rank = 0; rank < p->data_nodes; rank++)
            p->rounds[i].counts[rank] = !protocol_rank_is_down(p, 0, rank);
    }
    clear_round(p, &p->rounds[first & 1], first);
    clear_round(p, &p->rounds[(first + 1) & 1], first + 1);
    begin_training(p, first);
}

static void set_counts(const gwtf_protocol *p, struct protocol_round *round,
                       const uint8_t *data_nodes) {
    round->counts_known = true;
    for (uint32_t rank = 0; rank < p->data_nodes; rank++)
        round->counts[rank] = data_nodes[rank / 8] >> (rank % 8) & 1;
}

void protocol_iteration_enter(gwtf_protocol *p, const struct gwtf_message *message) {
    p->stepped = message->iteration - 1;
    p->clear_wanted = true;
    for (uint32_t i = 0; i < 2; i++) {
        struct protocol_round *round = &p->rounds[(message->iteration + i) & 1];
        clear_round(p, round, message->iteration + i);
        round->generation = message->generation;
        set_counts(p, round, message->body.welcome.data_nodes);
        round->counts_known = message->body.welcome.counts_known != 0;
    }
    begin_training(p, message->iteration);
}

/* All that the gradients hold is void. */
static void drop_gradients(gwtf_protocol *p) {
    protocol_repair_release(p);
    p->trained = 0;
    p->trained_ids = 0;
    p->clear_wanted = true;
    p->clear_issued = false;
}

static void begin_anew(gwtf_protocol *p) {
    drop_gradients(p);
    p->work_issued = false;
    p->wasted_us = p->busy_us;
    protocol_aggregation_begin(p);
    protocol_routing_begin(p);
}

/* The round's generation is GENERATION from now on. */
static void set_generation(gwtf_protocol *p, struct protocol_round *round, uint32_t generation) {
    clear_round(p, round, round->iteration);
    round->generation = generation;
    round->counts_known = false;
    for (uint32_t i = 0; i < p->slots_count; i++) {
        struct protocol_slot *slot = &p->slots[i];
        if (slot->phase == GWTF_PHASE_TRAIN && slot->iteration == round->iteration)
            protocol_slot_give_up(p, slot);
    }
    if (round->iteration == p->iteration)
        begin_anew(p);
    else if (p->stepped == p->iteration)
        drop_gradients(p); /* others have gone on to it while this node validates */
}

/* A generation can be known of before its RESTART has come, but none that would undo a step. */
static bool may_begin_anew(const gwtf_protocol *p, const struct protocol_round *round) {
    return round->iteration > p->iteration ||
           (p->phase == GWTF_PHASE_TRAIN && p->aggregation < AGGREGATION_STEPPING && !p->ended);
}

bool protocol_iteration_is_current(gwtf_protocol *p, const struct gwtf_message *message) {
    struct protocol_round *round = protocol_round_of(p, message->iteration);
    if (!round || message->phase != GWTF_PHASE_TRAIN)
        return true; /* its handler knows what to do with it */
    if (message->generation > round->generation && may_begin_anew(p, round))
        set_generation(p, round, message->generation);
    return message->generation == round->generation;
}

/* A generation outlasts the iteration that began it: what is known late of its data nodes holds for
 * the iterations since, and for those who have come with them. */
void protocol_iteration_learn_counts(gwtf_protocol *p, uint32_t iteration, uint32_t generation,
                                     const uint8_t *data_nodes) {
    for (int i = 0; i < 2; i++) {
        struct protocol_round *round = &p->rounds[i];
        if (round->counts_known || round->generation != generation || round->iteration < iteration)
            continue;
        set_counts(p, round, data_nodes);
        for (uint32_t rank = 0; rank < p->data_nodes; rank++) {
            uint32_t came = protocol_member_at(p, 0, rank)->incarnation;
            if (came > iteration && came <= round->iteration)
                round->counts[rank] = true;
        }
    }
}

void protocol_iteration_restart(gwtf_protocol *p, gwtf_node_id peer,
                                const struct gwtf_message *message) {
    if (p->members[protocol_member_find(p, peer)].stage == 0)
        protocol_iteration_learn_counts(p, message->iteration, message->generation,
                                        message->body.restart.data_nodes);
}

bool protocol_iteration_lacks_data_node(const gwtf_protocol *p) {
    const struct protocol_round *round = &p->rounds[p->iteration & 1];
    for (uint32_t rank = 0; round->counts_known && rank < p->data_nodes; rank++)
        if (round->counts[rank] && protocol_rank_is_down(p, 0, rank))
            return true;
    return false;
}

#define GENERATION_RANK_BITS 20

/* The recorder begins the iteration anew with the data nodes that live. */
static bool restart(gwtf_protocol *p) {
    struct protocol_round *round = protocol_round_of(p, p->iteration);
    if (p->config.self != p->recorder || p->phase != GWTF_PHASE_TRAIN || p->ended)
        return false;
    bool incomplete = p->aggregation < AGGREGATION_COMPLETE;
    bool lacks = protocol_iteration_lacks_data_node(p) || !round->counts_known;
    bool wanted = round->restart_wanted && p->aggregation < AGGREGATION_STEPPING;
    if (!wanted && !(incomplete && lacks))
        return false;
    uint32_t least = p->rank << GENERATION_RANK_BITS, generation = round->generation + 1;
    set_generation(p, round, generation > least ? generation : least);
    struct gwtf_message message = {.kind = GWTF_MESSAGE_RESTART, .iteration = p->iteration};
    message.generation = round->generation;
    for (uint32_t rank = 0; rank < p->data_nodes; rank++)
        if (!protocol_rank_is_down(p, 0, rank))
            message.body.restart.data_nodes[rank / 8] =
                (uint8_t)(message.body.restart.data_nodes[rank / 8] | 1u << (rank % 8));
    set_counts(p, round, message.body.restart.data_nodes);
    protocol_broadcast(p, &message, false);
    protocol_incident(p, GWTF_INCIDENT_RESTARTED, p->config.self);
    return true;
}

static void note_done(gwtf_protocol *p, uint32_t data_rank, const struct gwtf_message *message) {
    struct protocol_round *round = protocol_round_of(p, message->iteration);
    if (!round || message->phase > GWTF_PHASE_VALIDATE)
        return;
    uint32_t microbatches = message->body.done.microbatches;
    if (message->phase == GWTF_PHASE_TRAIN && microbatches > protocol_order_most(&p->config))
        return;
    struct protocol_done *done = &round->dones[message->phase][data_rank];
    if (done->here)
        return;
    done->here = true;
    done->stop = message->body.done.stop != 0;
    done->loss_sum = message->body.done.loss_sum;
    done->tokens = message->body.done.tokens;
    done->microbatches = microbatches;
    done->entrants = message->body.done.entrants;
    round->dones_here[message->phase]++;
}

void protocol_iteration_done(gwtf_protocol *p, uint32_t data_rank,
                             const struct gwtf_message *message) {
    note_done(p, data_rank, message);
}

/* As soon as it is known whose microbatches make the iteration up. */
static void share_out(gwtf_protocol *p) {
    const struct protocol_round *round = protocol_round_of(p, p->iteration);
    if (p->stage > 0 || !p->source.waits || !round->counts_known)
        return;
    p->source.waits = false;
    p->source.total = protocol_order_share(p, round, p->rank);
}

/* A data node has all its microbatches of the phase back. */
static bool tell_done(gwtf_protocol *p) {
    struct protocol_source *source = &p->source;
    share_out(p);
    if (p->stage > 0 || source->told || source->waits || source->completed < source->total)
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
    if (p->phase == GWTF_PHASE_TRAIN) {
        message.generation = protocol_round_of(p, p->iteration)->generation;
        protocol_entry_propose(p, &message.body.done.entrants);
    }
    protocol_broadcast(p, &message, false);
    note_done(p, p->rank, &message);
    return true;
}

/* A data node that is lost has said DONE to all that count it, or the phase is not over: in
 * training until the iteration begins anew, in validation at once. */
static bool is_phase_done(const gwtf_protocol *p, const struct protocol_round *round) {
    for (uint32_t rank = 0; rank < p->data_nodes; rank++) {
        if (round->dones[p->phase][rank].here)
            continue;
        bool waits =
            p->phase == GWTF_PHASE_TRAIN ? round->counts[rank] : !protocol_rank_is_down(p, 0, rank);
        if (waits)
            return false;
    }
    return p->phase == GWTF_PHASE_VALIDATE || round->counts_known;
}

bool protocol_iteration_totals(const gwtf_protocol *p, uint32_t *microbatches, uint64_t *ids,
                               bool *stop) {
    const struct protocol_round *round = &p->rounds[p->iteration & 1];
    bool from_stage_0 = round->totals_here;
    if (p->phase != GWTF_PHASE_TRAIN || (!from_stage_0 && !is_phase_done(p, round)))
        return false;
    *microbatches = from_stage_0 ? round->totals_microbatches : 0;
    *ids = from_stage_0 ? round->totals_ids : 0;
    *stop = from_stage_0 && round->totals_stop;
    for (uint32_t rank = 0; rank < p->data_nodes && !from_stage_0; rank++) {
        const struct protocol_done *done = &round->dones[GWTF_PHASE_TRAIN][rank];
        struct gwtf_microbatch id = {.data_node = protocol_stage_node(p, 0, rank)};
        if (!round->counts[rank])
            continue;
        *microbatches += done->microbatches;
        *stop = *stop || done->stop;
        for (; id.index < done->microbatches; id.index++)
            *ids += protocol_microbatch_hash(round->iteration, id);
    }
    return true;
}

void protocol_iteration_entrants(const gwtf_protocol *p, struct gwtf_entrants *entrants) {
    const struct protocol_round *round = &p->rounds[p->iteration & 1];
    entrants->count = 0;
    if (round->totals_here) {
        protocol_entry_add(entrants, &round->entrants);
        return;
    }
    for (uint32_t rank = 0; rank < p->data_nodes; rank++)
        if (round->counts[rank])
            protocol_entry_add(entrants, &round->dones[GWTF_PHASE_TRAIN][rank].entrants);
}

/* Loss per token over all data nodes, in the order of their ids. */
static double loss_of(const gwtf_protocol *p, const struct protocol_round *round,
                      enum gwtf_phase phase, uint64_t *tokens, uint32_t *microbatches) {
    double loss_sum = 0;
    *tokens = 0;
    *microbatches = 0;
    for (uint32_t rank = 0; rank < p->data_nodes; rank++) {
        if (phase == GWTF_PHASE_TRAIN && !round->counts[rank])
            continue;
        loss_sum += round->dones[phase][rank].loss_sum;
        *tokens += round->dones[phase][rank].tokens;
        *microbatches += round->dones[phase][rank].microbatches;
    }
    return *tokens > 0 ? loss_sum / (double)*tokens : NAN;
}

static void prepare_report(gwtf_protocol *p) {
    if (p->stage > 0)
        return;
    const struct protocol_round *round = protocol_round_of(p, p->iteration);
    struct gwtf_report *report = &p->report;
    memset(report, 0, sizeof *report);
    report->iteration = p->iteration;
    report->loss = loss_of(p, round, GWTF_PHASE_TRAIN, &report->tokens, &report->microbatches);
    report->validation_loss = NAN;
    report->duration_us = p->now_us - p->iteration_began_us;
    report->nodes = p->living_count;
    report->lost = p->lost_unreported;
    report->joined = p->joined_unreported;
    p->lost_unreported = 0;
    p->joined_unreported = 0;
    report->gradient_norm = p->gradient_norm;
    for (uint32_t stage = 0; stage <= p->config.stages; stage++) {
        const struct protocol_norm *norm = &round->norms[stage];
        double available_us = (double)report->duration_us * norm->replicas;
        report->repaired += norm->repaired;
        report->wasted_us += norm->wasted_us;
        report->stage_nodes[stage] = norm->replicas;
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

/* What is still here of the phase is of use to nobody. */
static void give_up_phase(gwtf_protocol *p) {
    for (uint32_t i = 0; i < p->config.capacity; i++)
        if (p->slots[i].phase == p->phase && p->slots[i].iteration == p->iteration)
            protocol_slot_give_up(p, &p->slots[i]);
}

static void end_iteration(gwtf_protocol *p) {
    if (p->report_pending && p->config.self == p->recorder)
        protocol_emit(p, GWTF_ACTION_REPORT)->report = &p->report;
    p->report_pending = false;
    p->aggregation = AGGREGATION_STEPPED;
    if (p->stopped || p->iteration == p->config.last_iteration) {
        p->ended = true;
        return;
    }
    if (protocol_leave_apply(p))
        protocol_iteration_go_on(p);
}

void protocol_iteration_go_on(gwtf_protocol *p) {
    uint32_t ended = p->iteration;
    begin_training(p, ended + 1);
    clear_round(p, &p->rounds[ended & 1], ended + 2);
    inherit(p, &p->rounds[ended & 1], &p->rounds[p->iteration & 1]);
}

void protocol_iteration_stepped(gwtf_protocol *p) {
    uint32_t microbatches;
    uint64_t ids;
    bool stop = false;
    (void)protocol_iteration_totals(p, &microbatches, &ids, &stop);
    protocol_iteration_entrants(p, &p->entry.agreed);
    p->stopped = p->stopped || stop;
    p->stepped = p->iteration;
    p->aggregation = AGGREGATION_STEPPED;
    protocol_order_commit(p, protocol_round_of(p, p->iteration));
    protocol_view_committed(p);
    give_up_phase(p);
    protocol_repair_release(p);
    protocol_emit(p, GWTF_ACTION_STEPPED)->iteration = p->iteration;
    if (protocol_snapshot_due(p)) {
        p->snapshot_wanted = p->iteration;
        p->snapshot_issued = false;
        p->snapshot_writes = false;
    }
    prepare_report(p);
    if (!is_validation_due(p)) {
        end_iteration(p);
        return;
    }
    p->phase = GWTF_PHASE_VALIDATE;
    protocol_routing_begin(p);
}

void protocol_iteration_recorder_lost(gwtf_protocol *p, uint32_t rank) {
    if (p->config.self != p->recorder || p->report_pending || p->report.iteration == 0)
        return;
    const struct protocol_round *round = protocol_round_of(p, p->iteration);
    if (p->report.iteration == p->iteration || !round->dones[GWTF_PHASE_TRAIN][rank].here)
        protocol_emit(p, GWTF_ACTION_REPORT)->report = &p->report;
}

static bool end_validation(gwtf_protocol *p) {
    const struct protocol_round *round = protocol_round_of(p, p->iteration);
    if (p->phase != GWTF_PHASE_VALIDATE || !is_phase_done(p, round))
        return false;
    if (p->report_pending) {
        uint64_t tokens;
        uint32_t microbatches;
        p->report.validation_loss = loss_of(p, round, GWTF_PHASE_VALIDATE, &tokens, &microbatches);
    }
    give_up_phase(p);
    end_iteration(p);
    return true;
}

void protocol_iteration_advance(gwtf_protocol *p) {
    /* Each turn ends a phase of this node; the next one's end needs works. */
    while (!p->finished && !p->ended && !p->leave.standby &&
           (tell_done(p) || restart(p) || end_validation(p)))
        ;
}
