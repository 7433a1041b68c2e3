#include "worker/runtime/node.h"

#include "io/config.h"
#include "share/base/assert.h"
#include "share/base/log.h"
#include "worker/runtime/clock.h"
#include "worker/runtime/node_state.h"
#include "worker/runtime/notice.h"
#include "worker/runtime/strays.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How long the thread that owns MPI sleeps when nothing happens: from the first to the last,
 * doubling. A bell wakes it for results of its own threads and for what comes in; where that does
 * not tell of MPI's sockets, messages are seen at the next look. */
#define SLEEP_MIN_US 20
#define SLEEP_MAX_US 1000
#define SLEEP_MAX_HEARING_US 5000

/* The loop turns at least every SLEEP_MAX_HEARING_US, unless the system or MPI holds it. */
#define STOOD_STILL_US 2000000
/* Messages that a turn of the loop takes before it looks at work, files and the clock again. */
#define ARRIVALS_A_TURN 64
#define STATE_INTERVAL_US 1000000
#define LOOK_INTERVAL_US 300000
#define LOOK_AS_RELAY_INTERVAL_US 1000000

/* How often the system is asked for processes that have ended; and what they sent before may be on
 * its way for so long. */
#define PIDS_INTERVAL_US 5000
#define LAST_WORDS_US 60000
/* How often sockets of dead peers are looked for: after a loss for so long, and else. */
#define STRAYS_INTERVAL_US 5000
#define STRAYS_SEARCH_US 2000000
#define STRAYS_CALM_INTERVAL_US 200000

/* At the end: to deliver the last messages, and to read what peers still sent, so that closing
 * loses nothing of ours. */
#define FLUSH_MAX_US 5000000
#define LINGER_US 300000

/* For a person who wonders why a run stands still: "iteration 7: the norms of stages 2, 3". */
static void note_waits(struct node *node) {
    char *text = node->state.waits;
    size_t bytes = sizeof node->state.waits, used;
    struct gwtf_waits waits = gwtf_protocol_get_waits(node->protocol);
    used = (size_t)snprintf(text, bytes, "iteration %u: %s",
                            gwtf_protocol_get_view(node->protocol).iteration,
                            gwtf_waits_name(waits.kind));
    for (uint32_t i = 0; i < waits.count && i < GWTF_WAITS_MAX && used < bytes; i++)
        used +=
            (size_t)snprintf(text + used, bytes - used, "%s%u", i > 0 ? ", " : " ", waits.of[i]);
}

void node_tell_door(struct node *node) {
    if (node->door == NULL || node->protocol == NULL || node->is_fenced)
        return;
    gwtf_protocol_get_members(node->protocol, node->members);
    struct gwtf_door_news news = {.is_recorder = gwtf_protocol_get_view(node->protocol).recorder ==
                                                 node->charter->self,
                                  .members = node->members,
                                  .stage_busy = node->stage_busy,
                                  .reported = node->reported,
                                  .duration_us = node->reported_duration_us,
                                  .mean_us = node->reported_mean_us,
                                  .microbatches = node->reported_microbatches};
    gwtf_door_tell(node->door, &news);
}

/* The weights of one that joins are on their way. */
static void say_how_far(const struct node *node) {
    struct gwtf_protocol_view view = gwtf_protocol_get_view(node->protocol);
    if (node->charter->enters == 0 || node->is_fenced || !view.enters || view.iteration == 0)
        return;
    double whole = 3e-9 * sizeof(float) * (double)gwtf_memory_gradient_floats(node->memory);
    double here = whole * view.pieces_here / view.pieces;
    gwtf_log(GWTF_LOG_INFO, "weights and moments: %.2f of %.2f GB (%.0f %%)", here, whole,
             100 * here / whole);
}

static void write_state(struct node *node, gwtf_time_us now_us) {
    node_tell_door(node);
    if (node->protocol != NULL && now_us - node->state_written_us >= STATE_INTERVAL_US)
        say_how_far(node);
    if (node->protocol != NULL && now_us - node->state_written_us >= STATE_INTERVAL_US)
        note_waits(node);
    struct gwtf_writer_job job = {.kind = GWTF_WRITER_NODE, .node = node->state};
    node->state_written_us = now_us;
    if (!node->state_under_way) /* else the next one tells as much */
        node->state_under_way = gwtf_writer_push(node->writer, &job) == GWTF_OK;
}

/* Ends the node's life with an error of its own. */
static void fail(struct node *node, gwtf_status status, const char *text) {
    if (node->finished)
        return;
    node->finished = true;
    node->status = gwtf_error_set(node->error, status, "%s", text);
}

static void do_send(struct node *node, const struct gwtf_action *action) {
    const void *payload = NULL;
    if (action->message.payload_bytes > 0) {
        uint64_t size_bytes;
        payload = gwtf_memory_payload(node->memory, &action->payload, &size_bytes);
        GWTF_ASSERT(payload != NULL && size_bytes == action->message.payload_bytes);
    }
    gwtf_status status =
        node_goes_by_door(node, action->to, &action->message)
            ? gwtf_transport_send_by_door(node->transport, action->to, &action->message)
            : gwtf_transport_send(node->transport, action->to, &action->message, payload,
                                  action->ticket);
    if (status != GWTF_OK)
        fail(node, GWTF_ERROR_LINK, "too many messages are under way: please report it");
}

static void do_receive(struct node *node, const struct gwtf_event *event,
                       const struct gwtf_action *action) {
    uint64_t size_bytes = 0;
    void *memory = action->kind == GWTF_ACTION_RECEIVE
                       ? gwtf_memory_payload(node->memory, &action->payload, &size_bytes)
                       : NULL;
    gwtf_status status;
    if (memory != NULL && action->payload.kind == GWTF_PAYLOAD_STATE)
        gwtf_memory_state_comes(node->memory);
    if (memory != NULL && size_bytes == event->message.payload_bytes)
        status = gwtf_transport_receive(node->transport, event->peer, memory, action->ticket);
    else
        status = gwtf_transport_discard(node->transport, event->peer);
    if (action->kind == GWTF_ACTION_RECEIVE && memory == NULL)
        fail(node, GWTF_ERROR_CORRUPT, "a tensor came that has no place here: please report it");
    else if (status == GWTF_ERROR_LIMIT)
        fail(node, GWTF_ERROR_LINK, "too many tensors are under way: please report it");
}

static void do_manifest(struct node *node, const struct gwtf_action *action) {
    struct gwtf_writer_job job = {
        .kind = GWTF_WRITER_MANIFEST, .iteration = action->iteration, .files = action->files};
    node->writes++;
    if (gwtf_writer_push(node->writer, &job) != GWTF_OK)
        fail(node, GWTF_ERROR_IO,
             "the disk is too slow for snapshots: check the run's file system");
}

static void do_finish(struct node *node, const struct gwtf_action *action) {
    if (action->status == GWTF_ERROR_FENCED && !node->leave_told) {
        node_write_event(
            node, "fenced", (uint32_t)node->state.iteration + 1, node->charter->self,
            "the others could not reach it and go on without it; it asks to come back");
        node_begin_return(node);
        return;
    }
    node->finished = true;
    node->status = action->status;
    if (action->status == GWTF_ERROR_FENCED) {
        /* The others go on without it, which is what was wanted. */
        node->leaves_now = true;
        node->status = GWTF_OK;
    }
    if (action->status == GWTF_ERROR_STAGE)
        gwtf_error_set(node->error, action->status,
                       "node %u was lost, the last one of its stage: what the others hold has been "
                       "written",
                       action->culprit);
    else if (action->status == GWTF_ERROR_LINK && node->returns > 0)
        gwtf_error_set(node->error, action->status,
                       "the other nodes went on without this one, and did not take it back: check "
                       "its machine and its network");
    else if (action->status == GWTF_ERROR_LINK)
        gwtf_error_set(node->error, action->status,
                       "this node is cut off from the larger part of the run, and ends: check its "
                       "network; if all have ended, go on from the newest snapshot with --resume");
    else if (action->status == GWTF_ERROR_IO)
        gwtf_error_set(node->error, action->status,
                       "a snapshot could not be written: see the nodes' messages in the run's log");
    else if (action->status == GWTF_ERROR_DISAGREEMENT)
        gwtf_error_set(
            node->error, action->status,
            "replicas of a stage do not agree: go on from the newest snapshot with --resume, and "
            "please report it");
    else if (action->status != GWTF_OK && action->status != GWTF_ERROR_INTERRUPTED)
        gwtf_error_set(node->error, action->status, "the run ended: %s",
                       gwtf_status_name(action->status));
}

/* Nothing is expected of PEER any more. */
static void forget_peer(struct node *node, gwtf_node_id peer, const char *found_by) {
    if (node->lost[peer].is_forgotten)
        return;
    node->lost_us = gwtf_clock_now_us();
    node->lost[peer].is_forgotten = true;
    node->lost[peer].is_doubted = false;
    node->lost[peer].ended_us = 0;
    gwtf_log(GWTF_LOG_WARNING, "node %u is down (%s)", peer, found_by);
    gwtf_heartbeat_forget(node->heartbeat, peer);
    gwtf_transport_forget(node->transport, peer);
    node_tell_door(node);
    if (node_is_recorder(node))
        node_write_event(node, "lost", (uint32_t)node->state.iteration, peer, found_by);
}

/* The crashes that the configuration asks of this node now. */
static void crash(struct node *node, enum gwtf_config_phase phase) {
    struct gwtf_crash crash;
    uint32_t iteration = (uint32_t)node->state.iteration + 1;
    while (node->crashes != NULL &&
           gwtf_crashes_next(node->crashes, iteration, phase, gwtf_clock_now_us() - node->began_us,
                             &crash)) {
        /* At once: the writer's thread ends or stands still too. */
        gwtf_run_append_event(node->directory, "chaos", iteration, node->charter->self, crash.text,
                              NULL);
        gwtf_crash_now(&crash);
    }
}

static void do_work(struct node *node, const struct gwtf_work *work) {
    static const enum gwtf_config_phase phases[] = {
        [GWTF_WORK_EMBED] = GWTF_CONFIG_PHASE_FORWARD,
        [GWTF_WORK_FORWARD] = GWTF_CONFIG_PHASE_FORWARD,
        [GWTF_WORK_LOSS] = GWTF_CONFIG_PHASE_FORWARD,
        [GWTF_WORK_BACKWARD] = GWTF_CONFIG_PHASE_BACKWARD,
        [GWTF_WORK_EMBED_BACKWARD] = GWTF_CONFIG_PHASE_BACKWARD,
        [GWTF_WORK_REDUCE] = GWTF_CONFIG_PHASE_AGGREGATION,
        [GWTF_WORK_STEP] = GWTF_CONFIG_PHASE_AGGREGATION,
        [GWTF_WORK_SNAPSHOT] = GWTF_CONFIG_PHASE_SNAPSHOT,
    };
    node->works++;
    if (gwtf_compute_push(node->compute, work) != GWTF_OK)
        fail(node, GWTF_ERROR_LIMIT, "too much work at one time: please report it");
    crash(node, phases[work->kind]);
    if (node->repairs)
        crash(node, GWTF_CONFIG_PHASE_REPAIR);
}

static void carry_out(struct node *node, const struct gwtf_event *event,
                      const struct gwtf_action *action) {
    switch (action->kind) {
    case GWTF_ACTION_SEND:
        do_send(node, action);
        break;
    case GWTF_ACTION_RECEIVE:
    case GWTF_ACTION_DISCARD:
        do_receive(node, event, action);
        break;
    case GWTF_ACTION_WORK:
        do_work(node, &action->work);
        break;
    case GWTF_ACTION_REPORT:
        node_report(node, action->report);
        break;
    case GWTF_ACTION_STEPPED:
        node->state.iteration = action->iteration;
        node->repairs = false;
        break;
    case GWTF_ACTION_REROUTED:
        node_write_rerouted(node, action);
        break;
    case GWTF_ACTION_HASHED:
        node->state.weights_hash = action->hash;
        node->state.hash_iteration = action->iteration;
        write_state(node, event->now_us);
        break;
    case GWTF_ACTION_MANIFEST:
        do_manifest(node, action);
        break;
    case GWTF_ACTION_KEEP:
        gwtf_memory_keep(node->memory, action->slot, action->kept);
        break;
    case GWTF_ACTION_INCIDENT:
        node_note_incident(node, &action->incident);
        break;
    case GWTF_ACTION_FINISH:
        do_finish(node, action);
        break;
    }
}

/* It has been taken as a new member by an action from FROM on. */
static bool is_up_again(const struct gwtf_update *update, size_t from, gwtf_node_id peer) {
    for (size_t i = from; i < update->actions_count; i++)
        if (update->actions[i].kind == GWTF_ACTION_INCIDENT &&
            update->actions[i].incident.kind == GWTF_INCIDENT_UP &&
            update->actions[i].incident.node == peer)
            return true;
    return false;
}

static void feed(struct node *node, struct gwtf_event *event) {
    if (node->is_fenced)
        return;
    event->now_us = gwtf_clock_now_us();
    gwtf_protocol_step(node->protocol, event, &node->update);
    for (size_t i = 0; i < node->update.actions_count; i++)
        carry_out(node, event, &node->update.actions[i]);
    for (size_t i = 0; i < node->update.actions_count; i++) {
        const struct gwtf_action *action = &node->update.actions[i];
        if (action->kind == GWTF_ACTION_INCIDENT && action->incident.kind == GWTF_INCIDENT_LEFT)
            node_see_off(node, &action->incident);
        if (action->kind == GWTF_ACTION_INCIDENT && action->incident.kind == GWTF_INCIDENT_DOWN &&
            !is_up_again(&node->update, i, action->incident.node))
            forget_peer(node, action->incident.node, node_found_by(node, &action->incident));
    }
}

static void peer_down(struct node *node, gwtf_node_id peer, const char *found_by) {
    node->found_by = found_by;
    struct gwtf_event event = {.kind = GWTF_EVENT_PEER_DOWN, .peer = peer};
    feed(node, &event);
    node->found_by = NULL;
    if (!is_up_again(&node->update, 0, peer))
        forget_peer(node, peer, found_by);
}

/* It may be heard again: it is listened to until it is down. */
static void peer_silent(struct node *node, gwtf_node_id peer, gwtf_time_us now_us) {
    char found_by[64];
    snprintf(found_by, sizeof found_by, "it is silent for %.1f s",
             (double)gwtf_heartbeat_limit_us(node->heartbeat, peer) * 1e-6);
    node->found_by = found_by;
    struct gwtf_event event = {.kind = GWTF_EVENT_PEER_SILENT, .peer = peer};
    feed(node, &event);
    node->found_by = NULL;
    if (node->lost[peer].is_forgotten)
        return;
    node->lost[peer].is_doubted = true;
    gwtf_heartbeat_watch(node->heartbeat, peer, now_us);
}

static void peer_heard(struct node *node, gwtf_node_id peer) {
    gwtf_heartbeat_heard(node->heartbeat, peer, gwtf_clock_now_us());
    if (!node->lost[peer].is_doubted)
        return;
    node->lost[peer].is_doubted = false;
    gwtf_log(GWTF_LOG_WARNING, "node %u is heard again", peer);
    struct gwtf_event event = {.kind = GWTF_EVENT_PEER_HEARD, .peer = peer};
    feed(node, &event);
}

/* True when something has happened. */
static bool handle_arrivals(struct node *node) {
    struct gwtf_arrival arrival;
    bool any = false;
    for (int i = 0; i < ARRIVALS_A_TURN && !node->finished; i++) {
        if (!gwtf_transport_poll(node->transport, &arrival))
            break;
        struct gwtf_event event = {
            .peer = arrival.peer, .ticket = arrival.ticket, .status = arrival.status};
        any = true;
        if (node->is_fenced)
            continue;
        if (arrival.kind == GWTF_ARRIVAL_LOST) {
            node->lost[arrival.peer].has_ended |= arrival.died;
            peer_down(node, arrival.peer,
                      arrival.died ? "its process died" : "its connection broke");
            continue;
        }
        if (arrival.kind != GWTF_ARRIVAL_SENT && !arrival.by_door)
            peer_heard(node, arrival.peer);
        if (arrival.kind == GWTF_ARRIVAL_HEARD) {
            if (arrival.round_trip_us >= 0)
                gwtf_heartbeat_round_trip(node->heartbeat, arrival.peer, arrival.round_trip_us);
            continue;
        }
        event.message = arrival.message;
        if (arrival.kind == GWTF_ARRIVAL_MESSAGE && arrival.message.kind == GWTF_MESSAGE_FORWARD &&
            (arrival.message.body.microbatch.flags & GWTF_MICROBATCH_REPAIR) != 0)
            node->repairs = true;
        event.kind = arrival.kind == GWTF_ARRIVAL_MESSAGE    ? GWTF_EVENT_MESSAGE
                     : arrival.kind == GWTF_ARRIVAL_RECEIVED ? GWTF_EVENT_PAYLOAD_RECEIVED
                                                             : GWTF_EVENT_PAYLOAD_SENT;
        feed(node, &event);
    }
    return any;
}

static bool handle_compute(struct node *node) {
    struct gwtf_compute_done done;
    bool any = false;
    while (!node->finished && gwtf_compute_try_done(node->compute, &done)) {
        any = true;
        node->works--;
        if (done.status != GWTF_OK) {
            if (done.status == GWTF_ERROR_DEVICE)
                node_write_event(node, "gpu_failed", (uint32_t)node->state.iteration + 1,
                                 node->charter->self, done.error.text);
            fail(node, done.status, done.error.text);
            break;
        }
        /* The copy is ready before the protocol hears of it, so the stage file is written from it
         * at once. */
        if (done.work.kind == GWTF_WORK_SNAPSHOT && done.work.writes) {
            struct gwtf_writer_job job = {.kind = GWTF_WRITER_STAGE,
                                          .iteration = done.work.iteration,
                                          .of_rest = done.work.of_rest,
                                          .rest_norm = done.work.gradient_norm};
            node->writes++;
            if (gwtf_writer_push(node->writer, &job) != GWTF_OK)
                fail(node, GWTF_ERROR_IO,
                     "the disk is too slow for snapshots: check the run's file system");
        }
        struct gwtf_event event = {
            .kind = GWTF_EVENT_WORK_DONE, .work = done.work, .result = done.result};
        feed(node, &event);
    }
    return any;
}

static void leave(struct node *node, const struct gwtf_leave *how, const char *why) {
    struct gwtf_event event = {.kind = GWTF_EVENT_LEAVE};
    if (node_begin_leaving(node, how, why))
        feed(node, &event);
}

static bool handle_writer(struct node *node) {
    struct gwtf_writer_result result;
    bool any = false;
    while (!node->finished && gwtf_writer_try_result(node->writer, &result)) {
        struct gwtf_event event = {
            .iteration = result.iteration, .status = result.status, .file = result.file};
        any = true;
        if (result.kind == GWTF_WRITER_NODE) {
            node->state_under_way = false;
            continue;
        } else if (result.kind == GWTF_WRITER_LOOK) {
            node->look_under_way = false;
            if (result.leave_requested)
                leave(node, &result.leave, result.leave.stage != 0 ? "a move" : "gwtf leave");
            if (!result.stop_requested || node->stop_told)
                continue;
            node->stop_told = true;
            event.kind = GWTF_EVENT_STOP;
        } else {
            node->writes--;
            event.kind =
                result.kind == GWTF_WRITER_STAGE ? GWTF_EVENT_WRITTEN : GWTF_EVENT_MANIFEST_WRITTEN;
        }
        feed(node, &event);
    }
    return any;
}

/* What becomes of the emulated network's links now. */
static void change_links(struct node *node, gwtf_time_us now_us) {
    char text[GWTF_NETWORK_TEXT_MAX];
    uint32_t iteration = (uint32_t)node->state.iteration + 1;
    while (node->network != NULL &&
           gwtf_network_change(node->network, iteration, now_us - node->began_us, text)) {
        const struct gwtf_shaper_link *links = gwtf_network_links(node->network);
        for (gwtf_node_id peer = 0; peer < node->charter->members_count; peer++)
            gwtf_transport_set_link(node->transport, peer, &links[peer]);
        if (node_is_recorder(node))
            node_write_event(node, "network", iteration, GWTF_NODE_NONE, text);
    }
}

void node_send_heartbeats(struct node *node, gwtf_time_us now_us) {
    if (!gwtf_heartbeat_due(node->heartbeat, now_us))
        return;
    for (gwtf_node_id peer = 0; peer < node->charter->members_count; peer++)
        if (gwtf_heartbeat_watches(node->heartbeat, peer))
            gwtf_transport_send_heartbeat(node->transport, peer);
}

static void remove_strays(struct node *node, gwtf_time_us now_us) {
    bool lost = node->lost_us != 0 && now_us - node->lost_us < STRAYS_SEARCH_US;
    if (now_us - node->strays_looked_us < (lost ? STRAYS_INTERVAL_US : STRAYS_CALM_INTERVAL_US))
        return;
    node->strays_looked_us = now_us;
    gwtf_strays_remove(lost);
}

/* Peers whose process has ended, as soon as what they have sent before can be here. */
static void watch_processes(struct node *node, gwtf_time_us now_us) {
    size_t ended;
    if (now_us - node->pids_looked_us < PIDS_INTERVAL_US)
        return;
    node->pids_looked_us = now_us;
    while (gwtf_pidwatch_next(node->pidwatch, &ended))
        node->lost[ended] = (struct lost_peer){
            .is_forgotten = node->lost[ended].is_forgotten, .ended_us = now_us, .has_ended = true};
    for (gwtf_node_id peer = 0; peer < node->charter->members_count && !node->finished; peer++) {
        struct lost_peer *lost = &node->lost[peer];
        if (lost->ended_us == 0 || now_us - lost->ended_us < LAST_WORDS_US)
            continue;
        lost->ended_us = 0;
        if (!lost->is_forgotten || node->returns > 0)
            peer_down(node, peer, "its process ended");
    }
}

static void come_back(struct node *node) {
    struct gwtf_event start = {.kind = GWTF_EVENT_START};
    if (node_return(node) != GWTF_OK) {
        fail(node, GWTF_ERROR_MEMORY, "out of memory");
        return;
    }
    feed(node, &start);
    for (gwtf_node_id peer = 0; peer < node->charter->members_count && !node->finished; peer++) {
        struct gwtf_event down = {.kind = GWTF_EVENT_PEER_DOWN, .peer = peer};
        if (node->lost[peer].has_ended)
            feed(node, &down);
    }
}

/* Those that have come to this node's port. What they say comes by the door of the transport. */
static void let_in(struct node *node) {
    struct gwtf_door_guest guest;
    while (node->door != NULL && gwtf_door_next(node->door, &guest)) {
        gwtf_log(GWTF_LOG_DEBUG, "node %u of %s is connected, and wants to join", guest.node,
                 guest.host);
        gwtf_transport_connect(node->transport, guest.node, guest.world, 0);
        node->lost[guest.node] = (struct lost_peer){.is_forgotten = true};
        if (guest.pid != 0 && node->setup.config.faults.detector == GWTF_CONFIG_DETECTOR_AUTO)
            gwtf_pidwatch_add(node->pidwatch, guest.node, (pid_t)guest.pid);
    }
}

static void handle_time(struct node *node) {
    gwtf_time_us now_us = gwtf_clock_now_us();
    if (node->turned_us != 0 && now_us - node->turned_us > STOOD_STILL_US)
        gwtf_log(GWTF_LOG_WARNING, "this node stood still for %.1f s: is the machine overloaded?",
                 (double)(now_us - node->turned_us) * 1e-6);
    node->turned_us = now_us;
    change_links(node, now_us);
    let_in(node);
    crash(node, GWTF_CONFIG_PHASE_ANY);
    if (node_may_return(node))
        come_back(node);
    if (now_us >= node->update.deadline_us) {
        struct gwtf_event event = {.kind = GWTF_EVENT_TIMER};
        feed(node, &event);
    }
    node_send_heartbeats(node, now_us);
    watch_processes(node, now_us);
    remove_strays(node, now_us);
    size_t silent;
    while (!node->finished && gwtf_heartbeat_next_silent(node->heartbeat, now_us, &silent)) {
        peer_silent(node, (gwtf_node_id)silent, now_us);
    }
    if (now_us - node->state_written_us >= STATE_INTERVAL_US)
        write_state(node, now_us);
    if (gwtf_notice_has_come())
        leave(node, &(struct gwtf_leave){.notice_s = GWTF_NOTICE_S}, "a signal");
    if (node_notice_is_over(node, now_us))
        node_end_leaving(node);
    bool looks = (node->stage == 0 && !node->stop_told) || !node->leave_told || node->moves_to != 0;
    int64_t interval_us = node->stage == 0 ? LOOK_INTERVAL_US : LOOK_AS_RELAY_INTERVAL_US;
    if (looks && !node->look_under_way && now_us - node->looked_us >= interval_us) {
        struct gwtf_writer_job job = {.kind = GWTF_WRITER_LOOK, .node = node->state};
        node->looked_us = now_us;
        node->look_under_way = gwtf_writer_push(node->writer, &job) == GWTF_OK;
    }
}

static int64_t sleep_us(const struct node *node, int64_t wish_us) {
    gwtf_time_us deadline_us = gwtf_transport_deadline(node->transport);
    if (node->update.deadline_us < deadline_us)
        deadline_us = node->update.deadline_us;
    int64_t left_us = deadline_us - gwtf_clock_now_us();
    if (deadline_us != GWTF_TIME_NEVER && left_us < wish_us)
        return left_us > 0 ? left_us : 0;
    return wish_us;
}

static int64_t twice(int64_t wait_us, int64_t most_us) {
    return wait_us < most_us / 2 ? wait_us * 2 : most_us;
}

/*
 * What wakes the thread may be of no use to it: a part of a message, or a socket that MPI leaves
 * alone. It looks once more, since MPI may tell of a message only then, and does not listen for a
 * while after that, each time for twice as long until something comes of it: so that it can
 * neither spin nor sleep through a message in parts.
 */
static void drive(struct node *node) {
    int64_t longest_us = gwtf_bell_find_sets(node->bell) ? SLEEP_MAX_HEARING_US : SLEEP_MAX_US;
    int64_t wait_us = SLEEP_MIN_US, deaf_us = 0;
    bool deaf = false;
    while (!node->finished) {
        bool any = handle_arrivals(node);
        any = handle_compute(node) || any;
        any = handle_writer(node) || any;
        if (!node->finished)
            handle_time(node);
        if (any) {
            wait_us = SLEEP_MIN_US;
            deaf_us = 0;
            deaf = false;
        } else if (deaf) {
            gwtf_bell_wait(node->bell, sleep_us(node, deaf_us));
            deaf_us = deaf_us == 0 ? SLEEP_MIN_US : twice(deaf_us, SLEEP_MAX_US);
            deaf = false;
        } else {
            enum gwtf_wake wake = gwtf_bell_listen(node->bell, sleep_us(node, wait_us));
            deaf = wake == GWTF_WAKE_SOCKET;
            wait_us = wake == GWTF_WAKE_TIME ? twice(wait_us, longest_us) : SLEEP_MIN_US;
        }
    }
}

/* Delivers the last messages, then listens for a moment, so that nothing unread makes the system
 * drop what was sent. */
static void flush(struct node *node) {
    struct gwtf_arrival arrival;
    gwtf_time_us start_us = gwtf_clock_now_us(), sent_us = 0;
    for (;;) {
        gwtf_time_us now_us = gwtf_clock_now_us();
        for (int i = 0; i < ARRIVALS_A_TURN && gwtf_transport_poll(node->transport, &arrival); i++)
            if (arrival.kind == GWTF_ARRIVAL_MESSAGE && arrival.message.payload_bytes > 0)
                gwtf_transport_discard(node->transport, arrival.peer);
        if (sent_us == 0 &&
            (gwtf_transport_all_sent(node->transport) || now_us - start_us > FLUSH_MAX_US))
            sent_us = now_us;
        if (sent_us != 0 && now_us - sent_us > LINGER_US)
            return;
        gwtf_bell_wait(node->bell, SLEEP_MAX_US);
    }
}

static const char *ending(gwtf_status status) {
    return status == GWTF_OK ? "finished" : status == GWTF_ERROR_INTERRUPTED ? "stopped" : "failed";
}

static bool has_left(const struct node *node) {
    return node->leaves_now || (node->protocol && gwtf_protocol_get_view(node->protocol).left);
}

/* To who started it. */
static void say_end(const struct node *node) {
    if (node->charter->enters == 0 ||
        (node->status != GWTF_OK && node->status != GWTF_ERROR_INTERRUPTED))
        return;
    if (node->moves_to != 0 && has_left(node))
        return;
    gwtf_log(GWTF_LOG_INFO,
             has_left(node) ? "it has left; the run goes on without it" : "the run is over");
}

gwtf_status gwtf_node_live(const struct gwtf_node_options *options, struct gwtf_error *error) {
    const struct gwtf_charter *charter = options->charter;
    struct node *node = calloc(1, sizeof *node);
    if (node == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    node->charter = charter;
    node->worlds = options->worlds;
    node->token = options->token;
    node->own_data = options->own_data ? options->own_data : "";
    node->device = options->device;
    node->error = error;
    node->state = (struct gwtf_node_state){.node = charter->self,
                                           .phase = GWTF_NODE_STARTING,
                                           .pid = getpid(),
                                           .iteration = charter->first_iteration - 1};
    snprintf(node->state.host, sizeof node->state.host, "%s", options->host);
    node->status = node_make(node, error);
    if (node->status == GWTF_OK) {
        struct gwtf_event start = {.kind = GWTF_EVENT_START};
        node->state.phase = GWTF_NODE_TRAINING;
        gwtf_log(GWTF_LOG_DEBUG,
                 "stage %u on %s, process %ld: %u slots, %u threads, %.2f GB of memory; from "
                 "iteration %u on, with %s%s",
                 node->stage, options->host, (long)getpid(), node->state.capacity, charter->threads,
                 (double)charter->memory_bytes * 1e-9, charter->first_iteration,
                 charter->snapshot[0] != '\0' ? "the weights of " : "fresh weights",
                 charter->snapshot);
        node->began_us = gwtf_clock_now_us();
        write_state(node, node->began_us);
        feed(node, &start);
        drive(node);
        if (!node->leaves_now)
            flush(node);
        if (node_is_recorder(node) && !node->leaves_now && node->status != GWTF_ERROR_FENCED)
            node_write_event(node, ending(node->status), (uint32_t)node->state.iteration,
                             GWTF_NODE_NONE, error->text);
    }
    gwtf_status status = node->status;
    gwtf_log(GWTF_LOG_DEBUG, "ends after iteration %llu: %s%s%s",
             (unsigned long long)node->state.iteration, gwtf_status_name(status),
             error->text[0] != '\0' ? ": " : "", error->text);
    say_end(node);
    if (status == GWTF_OK && node->moves_to != 0 && has_left(node))
        node_ask_for_other_stage(node);
    node_unmake(node);
    free(node);
    return status;
}
