/*
 * What links cost now. Tensors that come are measured as they do (membership.c); here is what they
 * do not tell: round trips, links that nothing goes over, and what flows made of a change.
 *
 * A link that has got slow is given up by the flows, and nothing would ever tell that it has
 * healed. So a node asks its neighbours for an answer now and then, the more often those that it
 * works with, and sends a tensor of zeros, at most GWTF_PROBE_BYTES_MAX, over links that have
 * had none for long. Both are bounded: a question a quarter of a second, a probe in two seconds and
 * less than a fiftieth of the link's time.
 */
#include "worker/protocol/state.h"

#define TURN_US 250000
#define ASK_USED_US 2000000
#define ASK_UNUSED_US 10000000
#define USED_US 5000000 /* a tensor has gone over it since */
#define PROBE_TURN_US 2000000
#define PROBE_UNUSED_US 10000000
#define PROBE_SHARE 50 /* of the link's time, inverse */
#define PROBES_OUT_MAX 2
#define PROBES_IN_MAX 4
_Static_assert(PROBES_OUT_MAX + PROBES_IN_MAX <= PROTOCOL_PROBES_MAX, "they have their transfers");

/* Changes of a link that are worth a line: twice as much, and noise is not. */
#define NOTABLE_FACTOR 2
#define NOTABLE_US 2000
/* After so long, and so many iterations, a cost is an old one, whatever came of it. */
#define NOTABLE_LONG_US 15000000
#define NOTABLE_ITERATIONS 4
#define REROUTED_PAUSE_US 5000000

uint64_t gwtf_probe_bytes(uint64_t boundary_bytes) {
    uint64_t bytes = boundary_bytes < GWTF_PROBE_BYTES_MAX ? boundary_bytes : GWTF_PROBE_BYTES_MAX;
    return bytes / sizeof(float) * sizeof(float);
}

static bool is_hop(const gwtf_protocol *p, const struct protocol_neighbour *neighbour) {
    return neighbour->met && neighbour->stage != p->stage;
}

static bool is_used(const gwtf_protocol *p, const struct protocol_neighbour *neighbour) {
    gwtf_time_us since_us = neighbour->loaded_us > neighbour->received_us ? neighbour->loaded_us
                                                                          : neighbour->received_us;
    return since_us > 0 && p->now_us - since_us < USED_US;
}

static gwtf_time_us ask_due_us(const gwtf_protocol *p, const struct protocol_neighbour *neighbour) {
    return neighbour->asked_us + (is_used(p, neighbour) ? ASK_USED_US : ASK_UNUSED_US);
}

static gwtf_time_us probe_due_us(const gwtf_protocol *p,
                                 const struct protocol_neighbour *neighbour) {
    if (neighbour->loaded_us == 0)
        return 0;
    int64_t pause_us = PROBE_UNUSED_US;
    double bytes = (double)gwtf_probe_bytes(p->config.boundary_bytes);
    if (neighbour->rate_to > 0 && PROBE_SHARE * 1e6 * bytes / (double)neighbour->rate_to > 1e7)
        pause_us = (int64_t)(PROBE_SHARE * 1e6 * bytes / (double)neighbour->rate_to);
    return neighbour->loaded_us + pause_us;
}

/* The hop whose time, as DUE_US says, came first; NULL when none has come. */
static struct protocol_neighbour *
most_overdue(gwtf_protocol *p,
             gwtf_time_us (*due_us)(const gwtf_protocol *, const struct protocol_neighbour *)) {
    struct protocol_neighbour *best = NULL;
    gwtf_time_us best_us = p->now_us;
    for (uint32_t i = 0; i < p->neighbours_count; i++) {
        struct protocol_neighbour *neighbour = &p->neighbours[i];
        gwtf_time_us due = is_hop(p, neighbour) ? due_us(p, neighbour) : GWTF_TIME_NEVER;
        if (due > best_us || (best && due == best_us))
            continue;
        best = neighbour;
        best_us = due;
    }
    return best;
}

/* Probes under way, out or in; to PEER alone unless it is GWTF_NODE_NONE. */
static uint32_t count_probes(const gwtf_protocol *p, bool receives, gwtf_node_id peer) {
    uint32_t count = 0, seen = 0;
    for (uint32_t i = 0; i < p->transfers_max && seen < p->transfers_used; i++) {
        const struct protocol_transfer *transfer = &p->transfers[i];
        seen += transfer->used;
        count += transfer->used && transfer->payload.kind == GWTF_PAYLOAD_PROBE &&
                 transfer->receives == receives &&
                 (peer == GWTF_NODE_NONE || transfer->peer == peer);
    }
    return count;
}

static void send_probe(gwtf_protocol *p) {
    struct protocol_neighbour *neighbour = most_overdue(p, probe_due_us);
    uint64_t bytes = gwtf_probe_bytes(p->config.boundary_bytes);
    if (!neighbour || bytes == 0 || count_probes(p, false, GWTF_NODE_NONE) == PROBES_OUT_MAX ||
        count_probes(p, false, neighbour->node) > 0)
        return;
    /* Links that nothing is known of yet come quickly one after the other. */
    p->probe_us = p->now_us + (neighbour->loaded_us == 0 ? TURN_US : PROBE_TURN_US);
    neighbour->loaded_us = p->now_us;
    struct gwtf_payload payload = {.kind = GWTF_PAYLOAD_PROBE, .count = bytes / sizeof(float)};
    protocol_transfer_send(p, neighbour->node, GWTF_MESSAGE_PROBE, GWTF_PHASE_TRAIN, 0, bytes,
                           payload);
}

void protocol_links_probe(gwtf_protocol *p, gwtf_node_id peer, const struct gwtf_message *message) {
    uint64_t bytes = gwtf_probe_bytes(p->config.boundary_bytes);
    if (message->payload_bytes != bytes || count_probes(p, true, GWTF_NODE_NONE) == PROBES_IN_MAX)
        return;
    struct gwtf_payload payload = {
        .kind = GWTF_PAYLOAD_PROBE, .part = 1, .count = bytes / sizeof(float)};
    protocol_transfer_receive(p, peer, message, payload);
}

void protocol_links_answered(gwtf_protocol *p, struct protocol_neighbour *neighbour,
                             gwtf_time_us asked_us) {
    if (asked_us < 0 || asked_us > p->now_us)
        return;
    int64_t took_us = p->now_us - asked_us;
    bool first = neighbour->round_trip_us < 0;
    /* No round trip is shorter than the link's: a short one is the truth, a long one may be a busy
     * node's. The first one is also the time that the other needed to start: ask again. */
    if (first || took_us < neighbour->round_trip_us)
        neighbour->round_trip_us = took_us;
    else
        neighbour->round_trip_us = protocol_average(neighbour->round_trip_us, took_us);
    if (first && is_hop(p, neighbour))
        protocol_membership_ask(p, neighbour);
}

void protocol_links_advance(gwtf_protocol *p) {
    if (p->now_us < p->links_deadline_us || p->ended)
        return;
    p->links_deadline_us = p->now_us + TURN_US;
    struct protocol_neighbour *silent = most_overdue(p, ask_due_us);
    if (silent)
        protocol_membership_ask(p, silent);
    if (p->probe_us <= p->now_us)
        send_probe(p);
}

gwtf_time_us protocol_links_deadline(const gwtf_protocol *p) {
    return p->ended ? GWTF_TIME_NEVER : p->links_deadline_us;
}

static bool has_risen(const struct protocol_neighbour *neighbour) {
    return neighbour->cost_us >= NOTABLE_FACTOR * neighbour->settled_us &&
           neighbour->cost_us - neighbour->settled_us >= NOTABLE_US;
}

static bool has_fallen(const struct protocol_neighbour *neighbour) {
    return NOTABLE_FACTOR * neighbour->cost_us <= neighbour->settled_us &&
           neighbour->settled_us - neighbour->cost_us >= NOTABLE_US;
}

static void count_flows(gwtf_protocol *p) {
    for (uint32_t i = 0; i < p->neighbours_count; i++)
        p->neighbours[i].flows_now = 0;
    size_t hops_max = 2 * (size_t)p->config.capacity;
    size_t count = gwtf_flow_hops(p->flow, p->flow_hops, hops_max);
    for (size_t i = 0; i < count && i < hops_max; i++) {
        uint32_t member = p->flow_hops[i].to == GWTF_NODE_NONE
                              ? PROTOCOL_NONE
                              : protocol_member_find(p, p->flow_hops[i].to);
        if (member != PROTOCOL_NONE && p->members[member].neighbour != PROTOCOL_NONE)
            p->neighbours[p->members[member].neighbour].flows_now++;
    }
}

/* The neighbour that has lost the most flows, or won. NOTABLY: only one whose link has got dearer,
 * or cheaper. */
static struct protocol_neighbour *most_changed(gwtf_protocol *p, bool won, bool notably) {
    struct protocol_neighbour *best = NULL;
    int64_t most = 0;
    for (uint32_t i = 0; i < p->neighbours_count; i++) {
        struct protocol_neighbour *neighbour = &p->neighbours[i];
        int64_t change = (int64_t)neighbour->flows_now - neighbour->flows;
        if (!won)
            change = -change;
        if (change <= most || (notably && !(won ? has_fallen(neighbour) : has_risen(neighbour))))
            continue;
        best = neighbour;
        most = change;
    }
    return best;
}

/* Costs are held against those that the flows were last found with. */
static void settle(gwtf_protocol *p) {
    for (uint32_t i = 0; i < p->neighbours_count; i++) {
        struct protocol_neighbour *neighbour = &p->neighbours[i];
        neighbour->flows = neighbour->flows_now;
        bool moved = neighbour->settled_us >= 0 && (has_risen(neighbour) || has_fallen(neighbour));
        if (!moved)
            neighbour->moved_us = p->now_us;
        /* What links cost has yet to be learned at first. */
        if (moved && p->reviews >= NOTABLE_ITERATIONS &&
            (++neighbour->unsettled < NOTABLE_ITERATIONS ||
             p->now_us - neighbour->moved_us < NOTABLE_LONG_US))
            continue;
        neighbour->settled_us = neighbour->cost_us;
        neighbour->unsettled = 0;
    }
}

void protocol_links_review_flows(gwtf_protocol *p) {
    if (p->stage == p->config.stages || p->now_us < p->rerouted_us)
        return; /* the last stage's next hop is the data node, whatever it costs */
    count_flows(p);
    struct protocol_neighbour *from = most_changed(p, false, true), *to = NULL, *moved = from;
    if (from)
        to = most_changed(p, true, false);
    else if ((moved = to = most_changed(p, true, true)) != NULL)
        from = most_changed(p, false, false);
    if (moved && p->reviews >= NOTABLE_ITERATIONS) {
        struct gwtf_action *action = protocol_emit(p, GWTF_ACTION_REROUTED);
        action->iteration = p->iteration;
        action->reroute = (struct gwtf_reroute){.from = from ? from->node : GWTF_NODE_NONE,
                                                .to = to ? to->node : GWTF_NODE_NONE,
                                                .link = moved->node,
                                                .old_cost_us = moved->settled_us,
                                                .new_cost_us = moved->cost_us};
        moved->settled_us = moved->cost_us; /* flows that follow are no news */
        p->rerouted_us = p->now_us + REROUTED_PAUSE_US;
    }
    settle(p);
    p->reviews++;
}
