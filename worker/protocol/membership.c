/* Who is there, what their links cost, and the border to the flow algorithm. */
#include "worker/protocol/state.h"

#include "share/base/assert.h"

#include <stdlib.h>

/* New samples count a quarter in averages: four samples in, two thirds of a change are seen. Two
 * tensors in a row that both take this much longer than usual, or shorter, tell of another link:
 * what was before does not count any more. */
#define AVERAGE_PARTS 4
#define OTHER_FACTOR 3
#define OTHER_US 2000
#define FIGURES_PAUSE_US 1000000
#define MEASURED_MOST_US 5000000
/* Costs handed to the flow algorithm in one step, which bounds the step's actions. */
#define COSTS_IN_A_STEP 4

uint32_t protocol_member_find(const gwtf_protocol *p, gwtf_node_id node) {
    size_t low = 0, high = p->config.members_count;
    /* Mostly ids are even: where it then would lie. */
    uint64_t guess = (uint64_t)node * high / ((uint64_t)p->members[high - 1].node + 1);
    if (guess < high && p->members[guess].node == node)
        return (uint32_t)guess;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (p->members[middle].node < node)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < p->config.members_count && p->members[low].node == node)
        return (uint32_t)low;
    return PROTOCOL_NONE;
}

uint32_t protocol_stage_size(const gwtf_protocol *p, uint32_t stage) {
    return p->stage_first[stage + 1] - p->stage_first[stage];
}

const struct protocol_member *protocol_member_at(const gwtf_protocol *p, uint32_t stage,
                                                 uint32_t rank) {
    return &p->members[p->stage_members[p->stage_first[stage] + rank]];
}

gwtf_node_id protocol_stage_node(const gwtf_protocol *p, uint32_t stage, uint32_t rank) {
    GWTF_ASSERT(rank < protocol_stage_size(p, stage));
    return protocol_member_at(p, stage, rank)->node;
}

uint32_t protocol_next_stage(const gwtf_protocol *p, uint32_t stage) {
    return stage == p->config.stages ? 0 : stage + 1;
}

uint32_t protocol_previous_stage(const gwtf_protocol *p, uint32_t stage) {
    return stage == 0 ? p->config.stages : stage - 1;
}

/* Microbatches go between this node and nodes of STAGE: the flow algorithm's neighbours. */
static bool is_hop_stage(const gwtf_protocol *p, uint32_t stage) {
    return stage == protocol_next_stage(p, p->stage) ||
           stage == protocol_previous_stage(p, p->stage);
}

/* Sorts the members by stage; counting keeps the order of ids inside a stage. */
static void index_stages(gwtf_protocol *p) {
    uint32_t *first = p->stage_first;
    for (size_t i = 0; i < p->config.members_count; i++)
        first[p->members[i].stage + 1]++;
    for (uint32_t stage = 0; stage <= p->config.stages; stage++)
        first[stage + 1] += first[stage];
    uint32_t fill[GWTF_STAGES_MAX + 1] = {0};
    for (size_t i = 0; i < p->config.members_count; i++) {
        struct protocol_member *member = &p->members[i];
        member->rank = fill[member->stage]++;
        p->stage_members[first[member->stage] + member->rank] = (uint32_t)i;
    }
}

gwtf_status protocol_membership_create(gwtf_protocol *p) {
    size_t count = p->config.members_count;
    p->members = calloc(count, sizeof *p->members);
    p->stage_members = calloc(count, sizeof *p->stage_members);
    p->stage_first = calloc(p->config.stages + 2, sizeof *p->stage_first);
    if (!p->members || !p->stage_members || !p->stage_first)
        return GWTF_ERROR_MEMORY;
    for (size_t i = 0; i < count; i++) {
        p->members[i].node = p->config.members[i].node;
        p->members[i].stage = p->config.members[i].stage;
        p->members[i].neighbour = PROTOCOL_NONE;
        p->members[i].incarnation = p->config.first_iteration;
        p->members[i].is_exact = !p->config.enters;
        if (p->config.members[i].is_free && !p->config.enters) {
            p->members[i].fenced = p->config.first_iteration;
            p->members[i].down = true;
            p->members[i].confirmed = true;
        }
    }
    p->config.members = NULL;
    index_stages(p);
    p->self = protocol_member_find(p, p->config.self);
    p->stage = p->members[p->self].stage;
    p->rank = p->members[p->self].rank;
    p->replicas = protocol_stage_size(p, p->stage);
    p->data_nodes = protocol_stage_size(p, 0);
    p->recorder_before = PROTOCOL_NONE;
    p->living = calloc(p->config.stages + 1, sizeof *p->living);
    p->replica = calloc(p->replicas, sizeof *p->replica);
    if (!p->living || !p->replica)
        return GWTF_ERROR_MEMORY;
    protocol_view_count(p);
    p->snapshot_told = p->recorder;

    uint32_t neighbours_max = p->replicas;
    for (uint32_t stage = 0; stage <= p->config.stages; stage++)
        if (is_hop_stage(p, stage))
            neighbours_max += protocol_stage_size(p, stage);
    p->neighbours = calloc(neighbours_max, sizeof *p->neighbours);
    if (!p->neighbours)
        return GWTF_ERROR_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        struct protocol_member *member = &p->members[i];
        if (i == p->self || (member->stage != p->stage && !is_hop_stage(p, member->stage)))
            continue;
        member->neighbour = p->neighbours_count;
        struct protocol_neighbour *neighbour = &p->neighbours[p->neighbours_count++];
        neighbour->node = member->node;
        neighbour->stage = member->stage;
        neighbour->round_trip_us = -1;
        neighbour->cost_us = -1;
        neighbour->settled_us = -1;
    }
    return GWTF_OK;
}

static void step_flow(gwtf_protocol *p, struct gwtf_flow_event *event) {
    event->now_us = p->now_us;
    /* What does not fit into this step's actions goes with the next. */
    size_t left = PROTOCOL_FLOW_STEPS_MAX * p->flow_sends_max - p->flow_sent;
    struct gwtf_flow_update update = {.sends = p->flow_sends, .sends_max = p->flow_sends_max};
    if (left < update.sends_max)
        update.sends_max = left;
    /* A peer beyond the flow algorithm's table is not used by it; its messages still work. */
    (void)gwtf_flow_step(p->flow, event, &update);
    p->flow_deadline_us = update.deadline_us;
    p->flow_sent += update.sends_count;
    for (size_t i = 0; i < update.sends_count; i++)
        protocol_send(p, update.sends[i].to, GWTF_MESSAGE_FLOW, GWTF_PHASE_TRAIN, 0)->body.flow =
            update.sends[i].message;
}

static struct protocol_neighbour *neighbour_of(gwtf_protocol *p, gwtf_node_id peer) {
    uint32_t member = protocol_member_find(p, peer);
    if (member == PROTOCOL_NONE || p->members[member].neighbour == PROTOCOL_NONE)
        return NULL;
    return &p->neighbours[p->members[member].neighbour];
}

static void tell_figures(gwtf_protocol *p, struct protocol_neighbour *neighbour,
                         enum gwtf_message_kind kind, gwtf_time_us asked_us, bool reply) {
    struct gwtf_message *message = protocol_send(p, neighbour->node, kind, GWTF_PHASE_TRAIN, 0);
    message->body.figures.stage = p->stage;
    message->body.figures.capacity = p->config.capacity;
    message->body.figures.compute_us = p->compute_us;
    message->body.figures.bytes_per_second = neighbour->rate_from;
    message->body.figures.asked_us = asked_us;
    message->body.figures.reply = reply;
    neighbour->told_compute_us = p->compute_us;
    neighbour->told_rate_from = neighbour->rate_from;
    neighbour->told_us = p->now_us;
    neighbour->figures_moved = false;
}

void protocol_membership_ask(gwtf_protocol *p, struct protocol_neighbour *neighbour) {
    neighbour->asked_us = p->now_us;
    tell_figures(p, neighbour, GWTF_MESSAGE_HELLO, p->now_us, false);
}

void protocol_membership_entered(gwtf_protocol *p, gwtf_node_id node) {
    struct protocol_neighbour *neighbour = neighbour_of(p, node);
    if (!neighbour)
        return;
    neighbour->is_unasked = true;
    neighbour->round_trip_us = -1;
    neighbour->cost_us = -1;
    neighbour->settled_us = -1;
}

void protocol_membership_start(gwtf_protocol *p) {
    struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_START};
    step_flow(p, &event);
    for (uint32_t i = 0; i < p->neighbours_count; i++)
        if (!protocol_is_down(p, p->neighbours[i].node))
            protocol_membership_ask(p, &p->neighbours[i]);
}

/* DESIGN section 2's d(i,j), with half the round trip for both latencies. A rate that only one side
 * knows stands for both; while neither knows one, the link counts as free. */
static int64_t link_cost_us(const gwtf_protocol *p, const struct protocol_neighbour *neighbour) {
    int64_t cost = (p->compute_us + neighbour->compute_us) / 2 + neighbour->round_trip_us / 2;
    int64_t from = neighbour->rate_from, to = neighbour->rate_to;
    double rates = (double)(from > 0 ? from : to) + (double)(to > 0 ? to : from);
    if (rates > 0) {
        double transfer_us = 2e6 * (double)p->config.boundary_bytes / rates;
        cost += transfer_us < 1e15 ? (int64_t)transfer_us : (int64_t)1e15;
    }
    return cost;
}

/* More than a tenth. */
static bool moved_notably(int64_t from, int64_t to) {
    int64_t change = to > from ? to - from : from - to;
    return change > from / 10 && change > 0;
}

/* Something that the cost to NEIGHBOUR is made of has changed. */
static void review_cost(gwtf_protocol *p, struct protocol_neighbour *neighbour) {
    if (neighbour->round_trip_us < 0 || !is_hop_stage(p, neighbour->stage) ||
        protocol_is_down(p, neighbour->node))
        return;
    if (neighbour->cost_us >= 0 && !moved_notably(neighbour->cost_us, link_cost_us(p, neighbour)))
        return;
    neighbour->cost_moved = true;
    p->costs_moved = true;
}

/* Something that NEIGHBOUR has been told has changed. */
static void review_figures(gwtf_protocol *p, struct protocol_neighbour *neighbour) {
    if (neighbour->figures_moved || protocol_is_down(p, neighbour->node) ||
        (!moved_notably(neighbour->told_compute_us, p->compute_us) &&
         !moved_notably(neighbour->told_rate_from, neighbour->rate_from)))
        return;
    neighbour->figures_moved = true;
    gwtf_time_us due_us = neighbour->told_us + FIGURES_PAUSE_US;
    if (due_us < p->figures_deadline_us)
        p->figures_deadline_us = due_us;
}

void protocol_membership_hello(gwtf_protocol *p, gwtf_node_id peer,
                               const struct gwtf_message *message) {
    struct protocol_neighbour *neighbour = neighbour_of(p, peer);
    int64_t compute_us = message->body.figures.compute_us;
    int64_t rate = message->body.figures.bytes_per_second;
    if (!neighbour || message->body.figures.stage != neighbour->stage || compute_us < 0 ||
        rate < 0 || !p->entry.serves)
        return;
    neighbour->compute_us = compute_us;
    neighbour->rate_to = rate;
    if (!neighbour->met &&
        (is_hop_stage(p, neighbour->stage) || gwtf_flow_meets_replicas(p->config.policy))) {
        neighbour->met = true;
        struct gwtf_flow_event event = {
            .kind = GWTF_FLOW_EVENT_PEER_UP, .peer = peer, .stage = neighbour->stage};
        step_flow(p, &event);
    }
    if (message->kind == GWTF_MESSAGE_HELLO) {
        gwtf_time_us asked_us = message->body.figures.asked_us;
        if (!message->body.figures.reply)
            tell_figures(p, neighbour, GWTF_MESSAGE_HELLO, asked_us, true);
        else
            protocol_links_answered(p, neighbour, asked_us);
    }
    if (neighbour->is_unasked) {
        neighbour->is_unasked = false;
        protocol_membership_ask(p, neighbour);
    }
    review_cost(p, neighbour);
}

void protocol_membership_lost(gwtf_protocol *p, gwtf_node_id node) {
    struct protocol_neighbour *neighbour = neighbour_of(p, node);
    if (!neighbour)
        return;
    neighbour->cost_moved = false;
    neighbour->figures_moved = false;
    if (!neighbour->met)
        return;
    neighbour->met = false;
    struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_PEER_DOWN, .peer = node};
    step_flow(p, &event);
}

void protocol_membership_flow(gwtf_protocol *p, gwtf_node_id peer,
                              const struct gwtf_message *message) {
    struct gwtf_flow_event event = {
        .kind = GWTF_FLOW_EVENT_MESSAGE, .peer = peer, .message = message->body.flow};
    step_flow(p, &event);
}

int64_t protocol_average(int64_t old, int64_t sample) {
    return old + (sample - old) / AVERAGE_PARTS;
}

/* Of the times that a byte takes, which is what costs are made of: when a link gets 20 times
 * slower, its first slow tensor makes it five times as dear. */
static int64_t average_rate(int64_t old, int64_t sample) {
    double rate = (double)AVERAGE_PARTS / ((AVERAGE_PARTS - 1) / (double)old + 1 / (double)sample);
    return rate > 1 ? (int64_t)(rate + 0.5) : 1;
}

/* Whether a tensor of BYTES is large enough to measure a link with. */
static bool can_measure(const gwtf_protocol *p, uint64_t bytes) {
    return 2 * bytes >= gwtf_probe_bytes(p->config.boundary_bytes);
}

/* How the time of BYTES compares with that at RATE: far longer is 1, far shorter -1. */
static int compare_with_usual(uint64_t bytes, int64_t rate, int64_t took_us) {
    double usual_us = (double)bytes * 1e6 / (double)rate, took = (double)took_us;
    if (took > OTHER_FACTOR * usual_us && took - usual_us > OTHER_US)
        return 1;
    return usual_us > OTHER_FACTOR * took && usual_us - took > OTHER_US ? -1 : 0;
}

void protocol_membership_sent(gwtf_protocol *p, gwtf_node_id peer, uint64_t bytes) {
    struct protocol_neighbour *neighbour = neighbour_of(p, peer);
    if (neighbour && can_measure(p, bytes))
        neighbour->loaded_us = p->now_us;
}

void protocol_membership_feed_back(gwtf_protocol *p, gwtf_node_id peer,
                                   enum gwtf_flow_feedback feedback, int64_t response_us) {
    struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_FEEDBACK,
                                    .peer = peer,
                                    .feedback = feedback,
                                    .cost_us = response_us};
    if (gwtf_flow_wants_feedback(p->config.policy))
        step_flow(p, &event);
}

void protocol_membership_received(gwtf_protocol *p, const struct protocol_transfer *transfer) {
    struct protocol_neighbour *neighbour = neighbour_of(p, transfer->peer);
    if (!neighbour)
        return;
    /* The link was another tensor's until that one was here. */
    gwtf_time_us began_us = transfer->started_us;
    if (neighbour->received_us > began_us)
        began_us = neighbour->received_us;
    neighbour->received_us = p->now_us;
    if (!can_measure(p, transfer->bytes))
        return;
    int64_t took_us = p->now_us > began_us ? p->now_us - began_us : 1;
    int64_t rate = (int64_t)((double)transfer->bytes * 1e6 / (double)took_us);
    if (rate < 1)
        rate = 1;
    /* What was measured long ago says nothing of now. */
    bool stale = p->now_us - neighbour->measured_us > MEASURED_MOST_US;
    bool first = neighbour->rate_from == 0;
    int is_other = first ? 0 : compare_with_usual(transfer->bytes, neighbour->rate_from, took_us);
    bool anew = first || stale || (is_other != 0 && is_other == neighbour->was_other);
    neighbour->was_other = anew ? 0 : is_other;
    neighbour->rate_from = anew ? rate : average_rate(neighbour->rate_from, rate);
    neighbour->measured_us = p->now_us;
    review_cost(p, neighbour);
    review_figures(p, neighbour);
}

/* Compute time of a microbatch, forward and backward averaged: from the averages of the works that
 * a node of this kind does, once each of them has been seen. */
void protocol_membership_worked(gwtf_protocol *p, const struct gwtf_work *work,
                                int64_t compute_us) {
    if (work->phase != GWTF_PHASE_TRAIN || work->kind > GWTF_WORK_EMBED_BACKWARD || compute_us < 0)
        return;
    int64_t *work_us = &p->work_us[work->kind];
    *work_us = *work_us < 0 ? compute_us : protocol_average(*work_us, compute_us);
    int64_t sum_us = 0;
    for (int kind = GWTF_WORK_EMBED; kind <= GWTF_WORK_EMBED_BACKWARD; kind++) {
        bool relays = kind == GWTF_WORK_FORWARD || kind == GWTF_WORK_BACKWARD;
        if (relays != (p->stage > 0))
            continue;
        if (p->work_us[kind] < 0)
            return;
        sum_us += p->work_us[kind];
    }
    int64_t before_us = p->compute_us;
    p->compute_us = sum_us / 2;
    if (p->compute_us == before_us)
        return;
    for (uint32_t i = 0; i < p->neighbours_count; i++) {
        review_cost(p, &p->neighbours[i]);
        review_figures(p, &p->neighbours[i]);
    }
}

/* The flow algorithm's patience is that of its longest link. */
static void pace_flow(gwtf_protocol *p) {
    int64_t longest_us = -1;
    for (uint32_t i = 0; i < p->neighbours_count; i++)
        if (p->neighbours[i].met && p->neighbours[i].round_trip_us > longest_us)
            longest_us = p->neighbours[i].round_trip_us;
    if (longest_us < 0 || !moved_notably(p->paced_us, longest_us))
        return;
    p->paced_us = longest_us;
    struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_ROUND_TRIP, .cost_us = longest_us};
    step_flow(p, &event);
}

static void hand_costs_to_flow(gwtf_protocol *p) {
    uint32_t handed = 0;
    p->costs_moved = false;
    pace_flow(p);
    for (uint32_t i = 0; i < p->neighbours_count; i++) {
        struct protocol_neighbour *neighbour = &p->neighbours[i];
        if (!neighbour->cost_moved)
            continue;
        if (handed == COSTS_IN_A_STEP) {
            p->costs_moved = true;
            return;
        }
        handed++;
        neighbour->cost_moved = false;
        neighbour->cost_us = link_cost_us(p, neighbour);
        struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_LINK_COST,
                                        .peer = neighbour->node,
                                        .cost_us = neighbour->cost_us};
        step_flow(p, &event);
    }
}

static void tell_moved_figures(gwtf_protocol *p) {
    p->figures_deadline_us = GWTF_TIME_NEVER;
    for (uint32_t i = 0; i < p->neighbours_count; i++) {
        struct protocol_neighbour *neighbour = &p->neighbours[i];
        if (!neighbour->figures_moved)
            continue;
        gwtf_time_us due_us = neighbour->told_us + FIGURES_PAUSE_US;
        if (due_us <= p->now_us)
            tell_figures(p, neighbour, GWTF_MESSAGE_FIGURES, 0, false);
        else if (due_us < p->figures_deadline_us)
            p->figures_deadline_us = due_us;
    }
}

void protocol_membership_advance(gwtf_protocol *p) {
    if (!p->entry.serves)
        return;
    if (p->flow_deadline_us <= p->now_us) {
        struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_TIMER};
        step_flow(p, &event);
    }
    if (p->costs_moved)
        hand_costs_to_flow(p);
    if (p->figures_deadline_us <= p->now_us)
        tell_moved_figures(p);
    protocol_links_advance(p);
}

gwtf_time_us protocol_membership_deadline(const gwtf_protocol *p) {
    if (!p->entry.serves)
        return GWTF_TIME_NEVER;
    if (p->costs_moved)
        return p->now_us;
    gwtf_time_us deadline_us = protocol_links_deadline(p);
    if (p->flow_deadline_us < deadline_us)
        deadline_us = p->flow_deadline_us;
    return p->figures_deadline_us < deadline_us ? p->figures_deadline_us : deadline_us;
}
