#include "flow/cycle.h"

#include "flow/link.h"
#include "flow/potential.h"
#include "flow/repair.h"
#include "flow/table.h"

/* A cycle that passes more nodes than this is left alone. */
#define HOPS_MAX(stages) (8 * ((stages) + 2))
/* The first stretch of a scan. */
#define STRETCH_MIN 8
/* Scans from one vertex wait for one to two of these parts of a tick, so that one cycle is not
 * looked for by all its vertices; one that passes keeps others off for some retry times. */
#define SCAN_WAIT_PARTS 4
#define SCAN_RETRIES 2
/* A search that fails waits for up to a tick, doubled so often at most. */
#define FAILURES_MAX 3

static bool send(gwtf_flow *flow, gwtf_node_id to, const struct gwtf_flow_message *body) {
    struct flow_peer *peer = flow_find_peer(flow, to);
    if (peer == NULL || !flow_link_has_room_for_answer(peer))
        return false;
    flow_link_send(flow, peer, body);
    return true;
}

static struct flow_visit *find_free_visit(gwtf_flow *flow) {
    for (size_t i = 0; i < FLOW_VISITS_MAX; i++)
        if (flow->visits[i].kind == FLOW_VISIT_NONE)
            return &flow->visits[i];
    return NULL;
}

/* The visit of TOKEN that passes the inner or the outer vertex. */
static struct flow_visit *find_visit(gwtf_flow *flow, uint64_t token, bool inner) {
    for (size_t i = 0; i < FLOW_VISITS_MAX; i++) {
        struct flow_visit *visit = &flow->visits[i];
        if (visit->kind != FLOW_VISIT_NONE && visit->token == token &&
            visit->kind != (inner ? FLOW_VISIT_MOVE_OUT : FLOW_VISIT_MOVE_IN) &&
            (inner || visit->kind != FLOW_VISIT_OPEN))
            return visit;
    }
    return NULL;
}

static void lock(struct flow_visit *visit) {
    bool made = visit->kind == FLOW_VISIT_NEW;
    if (visit->in != NULL)
        *(made ? &visit->in->held : &visit->in->in_locked) = true;
    if (visit->out != NULL)
        *(made ? &visit->out->held : &visit->out->out_locked) = true;
}

static void unlock(struct flow_visit *visit) {
    if (visit->in != NULL)
        visit->in->held = visit->in->in_locked = false;
    if (visit->out != NULL)
        visit->out->held = visit->out->out_locked = false;
    visit->kind = FLOW_VISIT_NONE;
}

/* Locks two units of unused capacity at a data node, one at a relay. */
static bool take_spare(gwtf_flow *flow, struct flow_visit *visit) {
    if (!flow_has_spare(flow, visit->sink))
        return false;
    bool data = flow->config.stage == 0;
    visit->kind = FLOW_VISIT_NEW;
    visit->in = flow_take_slot(flow, data ? FLOW_ROLE_SINK : FLOW_ROLE_RELAY);
    visit->out = data ? flow_take_slot(flow, FLOW_ROLE_SOURCE) : visit->in;
    if (visit->in == NULL || visit->out == NULL)
        return false;
    visit->in->sink = visit->out->sink = visit->sink;
    visit->in->patience_at_us = visit->out->patience_at_us = GWTF_TIME_NEVER;
    lock(visit);
    return true;
}

/* The search goes on to where the arc into VERTEX comes from. */
static bool pass_on(gwtf_flow *flow, struct flow_visit *visit, const struct flow_vertex *vertex,
                    const struct gwtf_flow_message *message, int64_t sum_us) {
    struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_TRACE_MORE,
                                     .sink = flow->sinks[visit->sink],
                                     .token = visit->token,
                                     .count = message->count + 1,
                                     .other_cost_us = sum_us};
    visit->predecessor = vertex->peer;
    if (vertex->arc == FLOW_ARC_LESS) {
        body.kind = FLOW_MESSAGE_TRACE_LESS;
        body.flow = visit->out_id = visit->out->out.id;
        body.other_cost_us -= visit->out->link_us;
    }
    return send(flow, visit->predecessor, &body);
}

/* The sender would take one more flow from here. Where from? */
static bool trace_more(gwtf_flow *flow, struct flow_visit *visit,
                       const struct gwtf_flow_message *message, int64_t sum_us) {
    const struct flow_potential *potential = &flow->potentials[visit->sink];
    if (potential->out.arc == FLOW_ARC_LESS) {
        visit->out = flow_find_outflow(flow, visit->sink, potential->out.peer);
        if (visit->out == NULL)
            return false;
        visit->kind = FLOW_VISIT_MOVE_OUT;
        lock(visit);
        return pass_on(flow, visit, &potential->out, message, sum_us);
    }
    if (potential->out.arc != FLOW_ARC_INSIDE || potential->in.arc != FLOW_ARC_MORE ||
        find_visit(flow, visit->token, true) != NULL || !take_spare(flow, visit))
        return false;
    return pass_on(flow, visit, &potential->in, message, sum_us);
}

/* The sender would send one flow less. What is done with what it leaves? */
static bool trace_less(gwtf_flow *flow, struct flow_visit *visit,
                       const struct gwtf_flow_message *message) {
    const struct flow_potential *potential = &flow->potentials[visit->sink];
    visit->in = flow_find_in(flow, visit->successor, message->flow);
    visit->in_id = message->flow;
    if (visit->in == NULL || visit->in->held || visit->in->in_locked ||
        visit->in->sink != visit->sink)
        return false;
    if (potential->in.arc == FLOW_ARC_MORE) {
        visit->kind = FLOW_VISIT_MOVE_IN;
        lock(visit);
        return pass_on(flow, visit, &potential->in, message, message->other_cost_us);
    }
    if (potential->in.arc != FLOW_ARC_INSIDE || potential->out.arc != FLOW_ARC_LESS ||
        visit->in->out_locked || find_visit(flow, visit->token, false) != NULL)
        return false;
    /* The same slot's outflow is as good as any. */
    bool same = visit->in->out.state == FLOW_END_HELD && visit->in->out.peer == potential->out.peer;
    visit->out = same ? visit->in : flow_find_outflow(flow, visit->sink, potential->out.peer);
    if (visit->out == NULL)
        return false;
    visit->kind = FLOW_VISIT_REMOVE;
    lock(visit);
    return pass_on(flow, visit, &potential->out, message, message->other_cost_us);
}

static int64_t get_more_cost(const gwtf_flow *flow, const struct flow_peer *peer) {
    return flow_is_usable(flow, peer) ? peer->link_us : FLOW_COST_NONE;
}

/* ON_CYCLE: so is the receiver, though the start of the search is not. */
static void send_abort(gwtf_flow *flow, gwtf_node_id to, uint64_t token, bool on_cycle) {
    struct gwtf_flow_message body = {
        .kind = FLOW_MESSAGE_ABORT, .token = token, .count = on_cycle ? 1 : 0};
    (void)send(flow, to, &body);
}

/* A previous node is to send a flow to SLOT, which is told the id. One that is lost meanwhile
 * leaves an outflow without inflow, which is cancelled if nobody takes it. */
static void attach(gwtf_flow *flow, struct flow_slot *slot, gwtf_node_id previous, uint64_t token) {
    if (flow_find_peer(flow, previous) == NULL) {
        slot->in.state = FLOW_END_NONE;
        flow_set_patience(flow, slot);
        return;
    }
    slot->in = (struct flow_end){FLOW_END_HELD, previous, flow_new_id(flow), false, false};
    slot->cost_due = false;
    struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_ATTACH,
                                     .flow = slot->in.id,
                                     .token = token,
                                     .sink = flow->sinks[slot->sink],
                                     .cost_us = flow_slot_cost(slot)};
    (void)send(flow, previous, &body);
}

/* The search is back at its start, and what it takes here is locked: the change begins, but for
 * the outflow of a NEW, which is known only when it has gone round. */
static void begin_commit(gwtf_flow *flow, struct flow_visit *visit) {
    visit->committed = true;
    flow->potentials[visit->sink].failures = 0;
    visit->until_us = flow->now_us + FLOW_LOCK_TICKS * flow->config.tick_us;
    attach(flow, visit->in, visit->predecessor, visit->token);
    flow->routes_changed = true;
}

/* True when the search that VISIT began is closed, at a gain. */
static bool close(gwtf_flow *flow, struct flow_visit *visit, const struct flow_peer *peer,
                  const struct gwtf_flow_message *message, int64_t sum_us) {
    if (flow->config.stage == 0 && message->kind == FLOW_MESSAGE_TRACE_MORE)
        sum_us -= FLOW_WORTH_US;
    if (visit->committed || sum_us >= 0)
        return false;
    visit->successor = peer->id;
    if (message->kind == FLOW_MESSAGE_TRACE_MORE) {
        if (!take_spare(flow, visit)) {
            visit->kind = FLOW_VISIT_OPEN;
            visit->in = visit->out = NULL;
            return false;
        }
        return true;
    }
    struct flow_slot *slot = flow_find_in(flow, peer->id, message->flow);
    if (slot == NULL || slot->held || slot->in_locked || slot->sink != visit->sink)
        return false;
    visit->kind = FLOW_VISIT_MOVE_IN;
    visit->in = slot;
    visit->in_id = message->flow;
    lock(visit);
    return true;
}

void flow_take_trace(gwtf_flow *flow, struct flow_peer *peer,
                     const struct gwtf_flow_message *message) {
    bool more = message->kind == FLOW_MESSAGE_TRACE_MORE;
    uint32_t sink = flow_sink_index(flow, message->sink);
    int64_t sum_us = message->other_cost_us;
    bool possible = sink < flow->config.sinks_max && message->count < HOPS_MAX(flow->config.stages);
    if (more && get_more_cost(flow, peer) == FLOW_COST_NONE)
        possible = false;
    else if (more)
        sum_us += peer->link_us;
    bool inner = !more || (possible && flow->potentials[sink].out.arc == FLOW_ARC_INSIDE);
    struct flow_visit *known = find_visit(flow, message->token, inner);
    if (possible && known != NULL && known->kind == FLOW_VISIT_OPEN) {
        if (close(flow, known, peer, message, sum_us))
            begin_commit(flow, known);
        else
            send_abort(flow, peer->id, message->token, false);
        return;
    }
    struct flow_visit *visit = find_free_visit(flow);
    if (possible && known == NULL && visit != NULL &&
        find_visit(flow, message->token, !more) == NULL) {
        *visit =
            (struct flow_visit){.token = message->token,
                                .sink = sink,
                                .successor = peer->id,
                                .until_us = flow->now_us + FLOW_LOCK_TICKS * flow->config.tick_us};
        if (more && inner && flow->config.stage == 0)
            sum_us -= FLOW_WORTH_US;
        if (more ? trace_more(flow, visit, message, sum_us) : trace_less(flow, visit, message))
            return;
        unlock(visit);
    }
    send_abort(flow, peer->id, message->token, known != NULL && possible);
}

/* In one to two times WAIT_US. */
static gwtf_time_us get_time_after(gwtf_flow *flow, int64_t wait_us) {
    return flow->now_us + wait_us +
           (int64_t)gwtf_random_below(&flow->random, (uint64_t)wait_us + 1);
}

/* Two searches that have met would do so again and again if both began anew at once. */
static void hold_back(gwtf_flow *flow, struct flow_potential *potential) {
    uint64_t most_us = (uint64_t)flow->config.tick_us << potential->failures;
    potential->begin_from_us = flow->now_us + (int64_t)gwtf_random_below(&flow->random, most_us);
    if (potential->failures < FAILURES_MAX)
        potential->failures++;
}

void flow_take_abort(gwtf_flow *flow, struct flow_peer *peer,
                     const struct gwtf_flow_message *message) {
    for (size_t i = 0; i < FLOW_VISITS_MAX; i++) {
        struct flow_visit *visit = &flow->visits[i];
        if (visit->kind == FLOW_VISIT_NONE || visit->token != message->token ||
            visit->predecessor != peer->id || visit->committed)
            continue;
        struct flow_potential *potential = &flow->potentials[visit->sink];
        bool on_cycle = message->count == 1;
        if (on_cycle && potential->in.arc == FLOW_ARC_MORE) {
            potential->begin_at_us = get_time_after(flow, flow->config.retry_us);
            on_cycle = false;
        }
        if (visit->first)
            hold_back(flow, potential);
        else
            send_abort(flow, visit->successor, visit->token, on_cycle);
        unlock(visit);
        return;
    }
}

/* SLOT's outflow goes to PEER from now on. */
static void set_out(gwtf_flow *flow, struct flow_slot *slot, const struct flow_peer *peer,
                    const struct gwtf_flow_message *message) {
    slot->out = (struct flow_end){FLOW_END_HELD, peer->id, message->flow, false, false};
    slot->link_us = peer->link_us;
    slot->rest_us = message->cost_us;
    slot->cost_due = slot->in.state == FLOW_END_HELD;
    slot->patience_at_us = GWTF_TIME_NEVER;
    flow->routes_changed = true;
}

static void drop(gwtf_flow *flow, const struct flow_visit *visit) {
    struct gwtf_flow_message body = {
        .kind = FLOW_MESSAGE_DROP, .flow = visit->out_id, .token = visit->token};
    (void)send(flow, visit->predecessor, &body);
}

static bool end_is(const struct flow_end *end, gwtf_node_id peer, gwtf_flow_id id) {
    return end->state == FLOW_END_HELD && end->peer == peer && end->id == id;
}

/* False when the slots are no longer what the search has found. */
static bool commit_attach(gwtf_flow *flow, struct flow_visit *visit, const struct flow_peer *peer,
                          const struct gwtf_flow_message *message) {
    struct flow_slot *out = visit->out;
    if (visit->kind == FLOW_VISIT_NEW && out->held && out->out.state == FLOW_END_NONE) {
        set_out(flow, out, peer, message);
        if (!visit->first)
            attach(flow, visit->in, visit->predecessor, visit->token);
        return true;
    }
    if (visit->kind == FLOW_VISIT_MOVE_OUT &&
        end_is(&out->out, visit->predecessor, visit->out_id)) {
        set_out(flow, out, peer, message);
        drop(flow, visit);
        return true;
    }
    return false;
}

static bool commit_drop(gwtf_flow *flow, struct flow_visit *visit, const struct flow_peer *peer,
                        const struct gwtf_flow_message *message) {
    struct flow_slot *in = visit->in, *out = visit->out;
    if (visit->kind == FLOW_VISIT_MOVE_IN && visit->first)
        return visit->in_id == message->flow;
    if (visit->kind == FLOW_VISIT_MOVE_IN && end_is(&in->in, peer->id, message->flow)) {
        attach(flow, in, visit->predecessor, visit->token);
        return true;
    }
    if (visit->kind != FLOW_VISIT_REMOVE || !end_is(&in->in, peer->id, message->flow) ||
        !end_is(&out->out, visit->predecessor, visit->out_id))
        return false;
    if (in != out) {
        out->out = in->out;
        out->link_us = in->link_us;
        out->rest_us = in->rest_us;
        out->cost_due = out->in.state == FLOW_END_HELD;
    }
    in->in.state = in->out.state = FLOW_END_NONE;
    drop(flow, visit);
    return true;
}

void flow_take_commit(gwtf_flow *flow, struct flow_peer *peer,
                      const struct gwtf_flow_message *message) {
    bool more = message->kind == FLOW_MESSAGE_ATTACH;
    for (size_t i = 0; i < FLOW_VISITS_MAX; i++) {
        struct flow_visit *visit = &flow->visits[i];
        if (visit->kind == FLOW_VISIT_NONE || visit->token != message->token ||
            visit->successor != peer->id || visit->first != visit->committed)
            continue;
        if (more ? commit_attach(flow, visit, peer, message)
                 : commit_drop(flow, visit, peer, message)) {
            flow->routes_changed = true;
            struct flow_slot *slots[] = {visit->in, visit->out};
            unlock(visit);
            for (size_t j = 0; j < 2; j++)
                if (slots[j] != NULL)
                    flow_set_patience(flow, slots[j]);
            flow_schedule_tell(flow);
            return;
        }
    }
    if (more) {
        /* Nobody here wants to send it any more. */
        struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_CANCEL, .flow = message->flow};
        (void)send(flow, peer->id, &body);
    } else {
        flow_take_cancel(flow, peer, message);
    }
}

/* The arc that a search would begin with. */
static bool wants_scan(const gwtf_flow *flow, uint32_t sink) {
    return flow->potentials[sink].looped && flow->potentials[sink].in.arc == FLOW_ARC_MORE;
}

/* A cycle passes the inner vertex: locks what a change along it needs. */
static void begin_search(gwtf_flow *flow, uint32_t sink) {
    struct flow_potential *potential = &flow->potentials[sink];
    struct flow_visit *visit = find_free_visit(flow);
    if (visit == NULL)
        return;
    *visit = (struct flow_visit){.kind = FLOW_VISIT_OPEN,
                                 .first = true,
                                 .token = ((uint64_t)flow->config.self + 1) << 32 | ++flow->tokens,
                                 .sink = sink,
                                 .until_us = flow->now_us + FLOW_LOCK_TICKS * flow->config.tick_us};
    const struct gwtf_flow_message nothing = {0};
    if (!pass_on(flow, visit, &potential->in, &nothing, 0))
        visit->kind = FLOW_VISIT_NONE;
}

static bool has_open_search(const gwtf_flow *flow, uint32_t sink) {
    for (size_t i = 0; i < FLOW_VISITS_MAX; i++)
        if (flow->visits[i].kind != FLOW_VISIT_NONE && flow->visits[i].sink == sink &&
            flow->visits[i].first)
            return true;
    return false;
}

static void scan_on(gwtf_flow *flow, const struct flow_vertex *vertex,
                    const struct gwtf_flow_message *message) {
    struct gwtf_flow_message body = *message;
    body.kind = vertex->arc == FLOW_ARC_MORE ? FLOW_MESSAGE_SCAN_MORE : FLOW_MESSAGE_SCAN_LESS;
    body.count++;
    struct flow_peer *peer = flow_find_peer(flow, vertex->peer);
    if (peer != NULL && flow_link_has_room(peer))
        flow_link_send(flow, peer, &body);
}

/* Cycle detection after Brent (1980): the vertex to come back to moves on at growing distances, so
 * that a cycle is found from any start that leads to it. */
static void scan_inner(gwtf_flow *flow, uint32_t sink, struct gwtf_flow_message *message) {
    const struct flow_potential *potential = &flow->potentials[sink];
    if (potential->in.arc == FLOW_ARC_MORE) {
        if (message->token == flow->config.self) {
            if (!has_open_search(flow, sink) && potential->begin_from_us <= flow->now_us)
                begin_search(flow, sink);
            return;
        }
        if (message->count >= message->limit) {
            message->token = flow->config.self;
            message->count = 0;
            message->limit *= 2;
        }
        if (message->limit <= HOPS_MAX(flow->config.stages))
            scan_on(flow, &potential->in, message);
    } else if (potential->in.arc == FLOW_ARC_INSIDE && potential->out.arc == FLOW_ARC_LESS) {
        scan_on(flow, &potential->out, message);
    }
}

void flow_take_scan(gwtf_flow *flow, const struct gwtf_flow_message *given) {
    struct gwtf_flow_message message = *given;
    uint32_t sink = flow_sink_index(flow, message.sink);
    if (sink == flow->config.sinks_max || message.count > HOPS_MAX(flow->config.stages))
        return;
    flow->potentials[sink].scanned_until_us = flow->now_us + SCAN_RETRIES * flow->config.retry_us;
    const struct flow_vertex *out = &flow->potentials[sink].out;
    if (message.kind == FLOW_MESSAGE_SCAN_LESS || out->arc == FLOW_ARC_INSIDE)
        scan_inner(flow, sink, &message);
    else if (out->arc == FLOW_ARC_LESS)
        scan_on(flow, out, &message);
}

static void begin_scan(gwtf_flow *flow, uint32_t sink) {
    struct flow_potential *potential = &flow->potentials[sink];
    potential->search_from_us = get_time_after(flow, flow->config.tick_us / SCAN_WAIT_PARTS);
    if (has_open_search(flow, sink) || potential->scanned_until_us > flow->now_us)
        return;
    potential->looped = false;
    struct gwtf_flow_message message = {
        .sink = flow->sinks[sink], .token = flow->config.self, .limit = STRETCH_MIN};
    scan_on(flow, &potential->in, &message);
}

/* A search that has not come to an end: its messages are lost with a node. */
static void expire(gwtf_flow *flow, struct flow_visit *visit) {
    if (visit->committed && visit->kind == FLOW_VISIT_MOVE_IN) {
        struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_CANCEL, .flow = visit->in_id};
        (void)send(flow, visit->successor, &body);
    }
    struct flow_slot *out = visit->out;
    bool open = visit->committed && visit->kind == FLOW_VISIT_NEW;
    unlock(visit);
    if (open && out->out.state == FLOW_END_NONE)
        flow_set_patience(flow, out);
}

void flow_search(gwtf_flow *flow) {
    for (size_t i = 0; i < FLOW_VISITS_MAX; i++)
        if (flow->visits[i].kind != FLOW_VISIT_NONE && flow->visits[i].until_us <= flow->now_us)
            expire(flow, &flow->visits[i]);
    if (flow->now_us < flow->calm_at_us)
        return;
    for (uint32_t sink = 0; sink < flow->sinks_count; sink++) {
        struct flow_potential *potential = &flow->potentials[sink];
        if (potential->begin_at_us <= flow->now_us) {
            potential->begin_at_us = GWTF_TIME_NEVER;
            if (potential->in.arc == FLOW_ARC_MORE && !has_open_search(flow, sink))
                begin_search(flow, sink);
        }
        if (wants_scan(flow, sink) && potential->search_from_us <= flow->now_us)
            begin_scan(flow, sink);
    }
}

gwtf_time_us flow_search_deadline(const gwtf_flow *flow) {
    gwtf_time_us deadline = GWTF_TIME_NEVER;
    for (size_t i = 0; i < FLOW_VISITS_MAX; i++)
        if (flow->visits[i].kind != FLOW_VISIT_NONE && flow->visits[i].until_us < deadline)
            deadline = flow->visits[i].until_us;
    for (uint32_t sink = 0; sink < flow->sinks_count; sink++) {
        const struct flow_potential *potential = &flow->potentials[sink];
        gwtf_time_us due_us = potential->begin_at_us;
        if (wants_scan(flow, sink))
            due_us = flow_earlier(due_us, potential->search_from_us);
        if (due_us != GWTF_TIME_NEVER && due_us < flow->calm_at_us)
            due_us = flow->calm_at_us;
        deadline = flow_earlier(deadline, due_us);
    }
    return deadline;
}
