#include "worker/runtime/node.h"

#include "io/config.h"
#include "share/base/assert.h"
#include "share/base/log.h"
#include "worker/protocol/protocol.h"
#include "worker/runtime/clock.h"
#include "worker/runtime/compute.h"
#include "worker/runtime/crashes.h"
#include "worker/runtime/heartbeat.h"
#include "worker/runtime/network.h"
#include "worker/runtime/transport.h"
#include "worker/runtime/writer.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How long the thread that owns MPI sleeps when nothing happens: from the first to the last,
 * doubling. A bell wakes it for results of its own threads; messages are seen at the next look. */
#define SLEEP_MIN_US 20
#define SLEEP_MAX_US 1000

#define HEARTBEAT_INTERVAL_US 250000
#define HEARTBEAT_SILENCE_LEAST_US 1500000
#define HEARTBEAT_SILENCE_MOST_US 15000000
#define HEARTBEAT_FIRST_SILENCE_US 120000000
/* The loop turns at least every SLEEP_MAX_US, unless the system or MPI holds it. */
#define STOOD_STILL_US 2000000
#define READY_LOOK_US 20000 /* while threads get ready */
/* Messages that a turn of the loop takes before it looks at work, files and the clock again. */
#define ARRIVALS_A_TURN 64
#define STATE_INTERVAL_US 1000000
#define PROBES_MAX 8 /* of links, under way */
#define LOOK_INTERVAL_US 300000

/* At the end: to deliver the last messages, and to read what peers still sent, so that closing
 * loses nothing of ours. */
#define FLUSH_MAX_US 5000000
#define LINGER_US 300000

struct lost_peer {
    bool is_declared;  /* by the protocol */
    bool is_forgotten; /* by transport and heartbeat, once it has been told */
};

struct node {
    const struct gwtf_charter *charter;
    struct gwtf_setup setup;
    bool setup_open;
    char directory[GWTF_CONFIG_PATH_MAX]; /* of the run; "": not known yet */
    uint32_t stage;
    uint32_t replicas;
    uint32_t capacity;
    uint32_t retained; /* finished microbatches whose tensors are kept until the step */
    gwtf_bell *bell;
    gwtf_memory *memory;
    gwtf_compute *compute;
    gwtf_writer *writer;
    gwtf_network *network; /* emulated; NULL: none */
    gwtf_crashes *crashes; /* asked for; NULL: none */
    gwtf_transport *transport;
    gwtf_heartbeat *heartbeat;
    gwtf_protocol *protocol;
    struct gwtf_update update;
    struct gwtf_node_state state;
    gwtf_time_us state_written_us;
    gwtf_time_us looked_us;
    gwtf_time_us began_us;  /* training */
    gwtf_time_us turned_us; /* last turn of the loop */
    bool state_under_way;   /* one state file and one look at a time wait for the disk */
    bool look_under_way;
    bool stop_told;
    struct lost_peer *lost; /* by peer */
    const char *found_by;   /* why a peer is down */
    bool finished;
    gwtf_status status;
    struct gwtf_error *error;
};

static void write_state(struct node *node, gwtf_time_us now_us) {
    struct gwtf_writer_job job = {.kind = GWTF_WRITER_NODE, .node = node->state};
    node->state_written_us = now_us;
    if (!node->state_under_way) /* else the next one tells as much */
        node->state_under_way = gwtf_writer_push(node->writer, &job) == GWTF_OK;
}

static void write_event(struct node *node, const char *kind, uint32_t iteration, gwtf_node_id about,
                        const char *text) {
    struct gwtf_writer_job job = {.kind = GWTF_WRITER_EVENT, .iteration = iteration};
    snprintf(job.event.kind, sizeof job.event.kind, "%s", kind);
    snprintf(job.event.text, sizeof job.event.text, "%s", text);
    job.event.node = about;
    if (gwtf_writer_push(node->writer, &job) != GWTF_OK)
        gwtf_log(GWTF_LOG_WARNING, "the disk is too slow: an event (%s) is lost", kind);
}

static void write_rerouted(struct node *node, const struct gwtf_action *action) {
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

static bool is_recorder(const struct node *node) {
    return node->charter->self == 0;
}

/* Ends the node's life with an error of its own. */
static void fail(struct node *node, gwtf_status status, const char *text) {
    if (node->finished)
        return;
    node->finished = true;
    node->status = gwtf_error_set(node->error, status, "%s", text);
}

static void report(struct node *node, const struct gwtf_report *of) {
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
        .stages = node->setup.config.pipeline.stages,
        .gradient_norm = of->gradient_norm,
        .learning_rate = gwtf_schedule_at(&node->setup.schedule, of->iteration),
    };
    for (uint32_t stage = 1; stage <= job.metrics.stages && stage <= GWTF_RUN_STAGES_MAX; stage++)
        job.metrics.stage_utilisation[stage - 1] = of->stage_utilisation[stage];
    if (gwtf_writer_push(node->writer, &job) != GWTF_OK)
        gwtf_log(GWTF_LOG_WARNING, "the disk is too slow: the metrics of iteration %u are lost",
                 of->iteration);
}

static void do_send(struct node *node, const struct gwtf_action *action) {
    const void *payload = NULL;
    if (action->message.payload_bytes > 0) {
        uint64_t size_bytes;
        payload = gwtf_memory_payload(node->memory, &action->payload, &size_bytes);
        GWTF_ASSERT(payload != NULL && size_bytes == action->message.payload_bytes);
    }
    if (gwtf_transport_send(node->transport, action->to, &action->message, payload,
                            action->ticket) != GWTF_OK)
        fail(node, GWTF_ERROR_LINK, "too many messages are under way: please report it");
}

static void do_receive(struct node *node, const struct gwtf_event *event,
                       const struct gwtf_action *action) {
    uint64_t size_bytes = 0;
    void *memory = action->kind == GWTF_ACTION_RECEIVE
                       ? gwtf_memory_payload(node->memory, &action->payload, &size_bytes)
                       : NULL;
    gwtf_status status;
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
    if (gwtf_writer_push(node->writer, &job) != GWTF_OK)
        fail(node, GWTF_ERROR_IO,
             "the disk is too slow for snapshots: check the run's file system");
}

static void do_finish(struct node *node, const struct gwtf_action *action) {
    node->finished = true;
    node->status = action->status;
    bool is_lost =
        action->culprit < node->charter->members_count && node->lost[action->culprit].is_declared;
    if (action->status == GWTF_ERROR_STAGE && is_lost)
        gwtf_error_set(node->error, action->status,
                       "node %u was lost, the last one of its stage: the run ends; go on from the "
                       "newest snapshot with --resume",
                       action->culprit);
    else if (action->status == GWTF_ERROR_FENCED)
        gwtf_error_set(node->error, action->status,
                       "the other nodes could not reach this one and go on without it: check its "
                       "machine and its network");
    else if (action->status == GWTF_ERROR_LINK)
        gwtf_error_set(node->error, action->status,
                       "this node is cut off from the larger part of the run, and ends: check its "
                       "network; if all have ended, go on from the newest snapshot with --resume");
    else if (action->status == GWTF_ERROR_IO)
        gwtf_error_set(node->error, action->status,
                       "a snapshot could not be written: see the nodes' messages in the run's log");
    else if (action->status == GWTF_ERROR_STAGE)
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
    node->lost[peer] = (struct lost_peer){.is_declared = true, .is_forgotten = true};
    gwtf_log(GWTF_LOG_WARNING, "node %u is down (%s)", peer, found_by);
    gwtf_heartbeat_forget(node->heartbeat, peer);
    gwtf_transport_forget(node->transport, peer);
    if (is_recorder(node) || peer == 0)
        write_event(node, "lost", (uint32_t)node->state.iteration, peer, found_by);
}

/* What all see is written by the first node, or about it. */
static void note_incident(struct node *node, const struct gwtf_incident *incident) {
    char text[128];
    switch (incident->kind) {
    case GWTF_INCIDENT_DOWN:
        node->lost[incident->node].is_declared = true;
        break;
    case GWTF_INCIDENT_REPAIRED:
        snprintf(text, sizeof text, "%u microbatches are with others, %.3f s after the loss",
                 incident->microbatches, (double)incident->duration_us * 1e-6);
        write_event(node, "repaired", incident->iteration, incident->node, text);
        break;
    case GWTF_INCIDENT_RESTARTED:
        write_event(node, "restarted", incident->iteration, incident->node,
                    "the iteration begins anew: what was lost is nowhere else");
        break;
    case GWTF_INCIDENT_SNAPSHOT:
        write_event(node, "snapshot", incident->iteration, incident->node,
                    "given up: a stage's file was lost with its node");
        break;
    }
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
    if (gwtf_compute_push(node->compute, work) != GWTF_OK)
        fail(node, GWTF_ERROR_LIMIT, "too much work at one time: please report it");
    crash(node, phases[work->kind]);
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
        report(node, action->report);
        break;
    case GWTF_ACTION_STEPPED:
        node->state.iteration = action->iteration;
        break;
    case GWTF_ACTION_REROUTED:
        write_rerouted(node, action);
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
        note_incident(node, &action->incident);
        break;
    case GWTF_ACTION_FINISH:
        do_finish(node, action);
        break;
    }
}

static void feed(struct node *node, struct gwtf_event *event) {
    event->now_us = gwtf_clock_now_us();
    gwtf_protocol_step(node->protocol, event, &node->update);
    for (size_t i = 0; i < node->update.actions_count; i++)
        carry_out(node, event, &node->update.actions[i]);
    for (size_t i = 0; i < node->update.actions_count; i++) {
        const struct gwtf_action *action = &node->update.actions[i];
        if (action->kind == GWTF_ACTION_INCIDENT && action->incident.kind == GWTF_INCIDENT_DOWN)
            forget_peer(node, action->incident.node, node->found_by);
    }
}

static void peer_down(struct node *node, gwtf_node_id peer, const char *found_by) {
    node->found_by = found_by;
    struct gwtf_event event = {.kind = GWTF_EVENT_PEER_DOWN, .peer = peer};
    feed(node, &event);
    node->found_by = "others say so";
    forget_peer(node, peer, found_by);
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
        if (arrival.kind == GWTF_ARRIVAL_LOST) {
            peer_down(node, arrival.peer,
                      arrival.died ? "its process died" : "its connection broke");
            continue;
        }
        if (arrival.kind != GWTF_ARRIVAL_SENT)
            gwtf_heartbeat_heard(node->heartbeat, arrival.peer, gwtf_clock_now_us());
        if (arrival.kind == GWTF_ARRIVAL_HEARD) {
            if (arrival.round_trip_us >= 0)
                gwtf_heartbeat_round_trip(node->heartbeat, arrival.peer, arrival.round_trip_us);
            continue;
        }
        event.message = arrival.message;
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
        if (done.status != GWTF_OK) {
            fail(node, done.status,
                 "the token file has changed or is damaged: make it again with gwtf tokenize");
            break;
        }
        /* The copy is ready before the protocol hears of it, so the stage file is written from it
         * at once. */
        if (done.work.kind == GWTF_WORK_SNAPSHOT && done.work.writes) {
            struct gwtf_writer_job job = {.kind = GWTF_WRITER_STAGE,
                                          .iteration = done.work.iteration};
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
            if (!result.stop_requested || node->stop_told)
                continue;
            node->stop_told = true;
            event.kind = GWTF_EVENT_STOP;
        } else {
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
        if (is_recorder(node))
            write_event(node, "network", iteration, GWTF_NODE_NONE, text);
    }
}

static void send_heartbeats(struct node *node, gwtf_time_us now_us) {
    if (!gwtf_heartbeat_due(node->heartbeat, now_us))
        return;
    for (gwtf_node_id peer = 0; peer < node->charter->members_count; peer++)
        if (gwtf_heartbeat_watches(node->heartbeat, peer))
            gwtf_transport_send_heartbeat(node->transport, peer);
}

static void handle_time(struct node *node) {
    gwtf_time_us now_us = gwtf_clock_now_us();
    if (node->turned_us != 0 && now_us - node->turned_us > STOOD_STILL_US)
        gwtf_log(GWTF_LOG_WARNING, "this node stood still for %.1f s: is the machine overloaded?",
                 (double)(now_us - node->turned_us) * 1e-6);
    node->turned_us = now_us;
    change_links(node, now_us);
    crash(node, GWTF_CONFIG_PHASE_ANY);
    if (now_us >= node->update.deadline_us) {
        struct gwtf_event event = {.kind = GWTF_EVENT_TIMER};
        feed(node, &event);
    }
    send_heartbeats(node, now_us);
    size_t silent;
    while (!node->finished && gwtf_heartbeat_next_silent(node->heartbeat, now_us, &silent)) {
        char found_by[64];
        snprintf(found_by, sizeof found_by, "it is silent for %.1f s",
                 (double)gwtf_heartbeat_limit_us(node->heartbeat, silent) * 1e-6);
        peer_down(node, (gwtf_node_id)silent, found_by);
    }
    if (now_us - node->state_written_us >= STATE_INTERVAL_US)
        write_state(node, now_us);
    if (node->stage == 0 && !node->stop_told && !node->look_under_way &&
        now_us - node->looked_us >= LOOK_INTERVAL_US) {
        struct gwtf_writer_job job = {.kind = GWTF_WRITER_LOOK};
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

static void drive(struct node *node) {
    int64_t wait_us = SLEEP_MIN_US;
    while (!node->finished) {
        bool any = handle_arrivals(node);
        any = handle_compute(node) || any;
        any = handle_writer(node) || any;
        if (!node->finished)
            handle_time(node);
        if (any) {
            wait_us = SLEEP_MIN_US;
            continue;
        }
        if (gwtf_bell_wait(node->bell, sleep_us(node, wait_us)))
            wait_us = SLEEP_MIN_US;
        else if (wait_us < SLEEP_MAX_US)
            wait_us *= 2;
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

static void find_replicas(struct node *node) {
    const struct gwtf_charter *charter = node->charter;
    for (uint32_t i = 0; i < charter->members_count; i++)
        if (charter->members[i].node == charter->self)
            node->stage = charter->members[i].stage;
    for (uint32_t i = 0; i < charter->members_count; i++)
        if (charter->members[i].stage == node->stage) {
            node->replicas++;
        }
}

static gwtf_status open_setup(struct node *node, struct gwtf_error *error) {
    struct gwtf_config *config = calloc(1, sizeof *config);
    if (config == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    gwtf_status status =
        gwtf_config_parse(node->charter->config, "charter", NULL, 0, config, error);
    if (status == GWTF_OK) {
        /* From now on whoever watches the run knows of this process. */
        snprintf(node->directory, sizeof node->directory, "%s", config->run.directory);
        gwtf_run_write_node(node->directory, &node->state, NULL);
        status = node->stage == 0 ? gwtf_setup_open(config, &node->setup, error)
                                  : gwtf_setup_open_relay(config, &node->setup, error);
    }
    node->setup_open = status == GWTF_OK;
    free(config);
    return status;
}

/* Every microbatch that can pass this node in an iteration. */
static uint32_t useful_to_retain(const struct node *node) {
    uint64_t all = node->setup.config.batch.microbatches;
    if (node->stage > 0)
        all *= node->setup.data_nodes;
    return all < GWTF_RETAINED_MAX ? (uint32_t)all : GWTF_RETAINED_MAX;
}

/* As many slots as the configuration says, or as are useful and fit into this worker's part of the
 * free memory; and what a loss is repaired from, as far as it fits: it gets what slots leave, and a
 * quarter where they would leave less, unless the configuration says how many slots there are. */
static gwtf_status choose_capacity(struct node *node, const struct gwtf_memory_options *options,
                                   struct gwtf_error *error) {
    uint64_t fixed, slot, kept = 2 * gwtf_memory_boundary_bytes(&node->setup);
    gwtf_status status = gwtf_memory_predict(options, &fixed, &slot, error);
    if (status != GWTF_OK)
        return status;
    uint64_t mine = node->charter->memory_bytes / 5 * 4;
    uint64_t room = mine > fixed ? mine - fixed : 0;
    bool is_given = node->charter->capacity != 0;
    uint32_t wanted = is_given ? node->charter->capacity : node->charter->capacity_useful;
    if (room / slot < (is_given ? wanted : 1))
        return gwtf_error_set(
            error, GWTF_ERROR_MEMORY,
            "this worker needs %llu MiB for %u microbatch(es), %llu MiB are free for it: set a "
            "smaller capacity, batch.microbatch or model, or fewer nodes on this machine",
            (unsigned long long)((fixed + slot * wanted) >> 20), wanted,
            (unsigned long long)(mine >> 20));
    uint64_t useful = useful_to_retain(node);
    uint64_t retained = room > slot * wanted ? (room - slot * wanted) / kept : 0;
    if (!is_given && retained < room / 4 / kept)
        retained = room - slot > room / 4 ? room / 4 / kept : (room - slot) / kept;
    node->retained = (uint32_t)(retained < useful ? retained : useful);
    uint64_t fitting = (room - node->retained * kept) / slot;
    node->capacity = fitting < wanted ? (uint32_t)fitting : wanted;
    return GWTF_OK;
}

/* The node's memory, made and filled beside the thread that owns MPI, which has its heartbeats to
 * send meanwhile. */
struct loading {
    struct gwtf_memory_options options;
    gwtf_memory *memory;
    gwtf_bell *bell;
    struct gwtf_error error;
    gwtf_status status;
    atomic_bool done;
};

static void *load(void *argument) {
    struct loading *loading = argument;
    loading->status = gwtf_memory_create(&loading->options, &loading->memory, &loading->error);
    atomic_store(&loading->done, true);
    gwtf_bell_ring(loading->bell);
    return NULL;
}

/* What the thread that owns MPI does while others get ready: it is heard, and hears nothing yet. */
static void keep_beating(struct node *node) {
    gwtf_transport_push_on(node->transport);
    send_heartbeats(node, gwtf_clock_now_us());
    gwtf_bell_wait(node->bell, READY_LOOK_US);
}

static gwtf_status make_memory(struct node *node, const struct gwtf_memory_options *options,
                               struct gwtf_error *error) {
    struct loading loading = {.options = *options, .bell = node->bell};
    pthread_t thread;
    if (pthread_create(&thread, NULL, load, &loading) != 0)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "cannot start a thread");
    while (!atomic_load(&loading.done))
        keep_beating(node);
    pthread_join(thread, NULL);
    node->memory = loading.memory;
    if (loading.status != GWTF_OK)
        *error = loading.error;
    return loading.status;
}

static struct gwtf_memory_options memory_options(const struct node *node) {
    return (struct gwtf_memory_options){
        .setup = &node->setup,
        .stage = node->stage,
        .slots = 1,
        .threads = node->charter->threads,
        .replicas = node->replicas,
        .snapshot = node->charter->snapshot,
    };
}

static gwtf_status make_transport(struct node *node, struct gwtf_error *error) {
    const struct gwtf_charter *charter = node->charter;
    if (charter->topology[0] != '\0') {
        gwtf_status read = gwtf_network_create(&node->setup, charter->topology, charter->self,
                                               &node->network, error);
        if (read != GWTF_OK)
            return read;
    }
    int *ranks = calloc(charter->members_count, sizeof *ranks);
    node->lost = calloc(charter->members_count, sizeof *node->lost);
    gwtf_status status = ranks == NULL || node->lost == NULL ? GWTF_ERROR_MEMORY : GWTF_OK;
    for (uint32_t i = 0; status == GWTF_OK && i < charter->members_count; i++)
        ranks[charter->members[i].node] = charter->members[i].rank;
    struct gwtf_transport_config transport = {
        .nodes = charter->members_count,
        .self = charter->self,
        .rank_of_node = ranks,
        /* A slot's input or gradient, and up to four sends of its output and of its input's
         * gradient: what was refused or lost may still be leaving. To and from each replica:
         * contributions and shares. */
        .payloads_max =
            (size_t)9 * (node->capacity + node->retained) + (size_t)4 * node->replicas + PROBES_MAX,
        .incarnation = charter->incarnation,
        .links = node->network != NULL ? gwtf_network_links(node->network) : NULL,
    };
    if (status == GWTF_OK)
        status = gwtf_transport_create(&transport, &node->transport);
    free(ranks);
    struct gwtf_heartbeat_config heartbeat = {
        .peers = charter->members_count,
        .interval_us = HEARTBEAT_INTERVAL_US,
        .silence_least_us = HEARTBEAT_SILENCE_LEAST_US,
        .silence_most_us = HEARTBEAT_SILENCE_MOST_US,
        .first_silence_us = HEARTBEAT_FIRST_SILENCE_US,
    };
    if (status == GWTF_OK)
        status = gwtf_heartbeat_create(&heartbeat, gwtf_clock_now_us(), &node->heartbeat);
    if (status != GWTF_OK)
        return gwtf_error_set(error, status, "cannot start the transport: %s",
                              gwtf_status_name(status));
    gwtf_heartbeat_forget(node->heartbeat, charter->self);
    return GWTF_OK;
}

static gwtf_status make_crashes(struct node *node, struct gwtf_error *error) {
    const struct gwtf_charter *charter = node->charter;
    if (node->setup.config.crashes_count == 0)
        return GWTF_OK;
    uint32_t *stages = calloc(charter->members_count, sizeof *stages);
    gwtf_status status = stages == NULL ? GWTF_ERROR_MEMORY : GWTF_OK;
    for (uint32_t i = 0; status == GWTF_OK && i < charter->members_count; i++)
        stages[charter->members[i].node] = charter->members[i].stage;
    if (status == GWTF_OK)
        status = gwtf_crashes_create(&node->setup.config, stages, charter->members_count,
                                     charter->self, &node->crashes);
    free(stages);
    return status == GWTF_OK ? GWTF_OK : gwtf_error_set(error, status, "out of memory");
}

static gwtf_status make_protocol(struct node *node, int64_t compute_us, struct gwtf_error *error) {
    const struct gwtf_charter *charter = node->charter;
    const struct gwtf_config *config = &node->setup.config;
    struct gwtf_member *members = calloc(charter->members_count, sizeof *members);
    if (members == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    for (uint32_t i = 0; i < charter->members_count; i++)
        members[i] = (struct gwtf_member){.node = charter->members[i].node,
                                          .stage = charter->members[i].stage};
    struct gwtf_protocol_config protocol = {
        .self = charter->self,
        .members = members,
        .members_count = charter->members_count,
        .stages = config->pipeline.stages,
        .capacity = node->capacity,
        .compute_us = compute_us,
        .first_iteration = charter->first_iteration,
        .last_iteration = config->run.iterations,
        .microbatches = config->batch.microbatches,
        .validation_microbatches =
            node->stage == 0 ? gwtf_setup_validation_share(&node->setup, charter->self) : 0,
        .validates = config->data.validation[0] != '\0',
        .validate_every = config->data.validate_every,
        .snapshot_every = config->snapshot.every,
        .boundary_bytes = gwtf_memory_boundary_bytes(&node->setup),
        .gradient_floats = gwtf_memory_gradient_floats(node->memory),
        .policy = config->flow.policy,
        .objective = config->flow.objective,
        .recovery = config->faults.repair == GWTF_CONFIG_REPAIR_DROP ? GWTF_RECOVERY_DROP
                                                                     : GWTF_RECOVERY_EXACT,
        .retained = node->retained,
        .seed = config->run.seed,
    };
    gwtf_status status = gwtf_protocol_create(&protocol, &node->protocol);
    node->update.actions_max = gwtf_protocol_actions_max(&protocol);
    node->update.deadline_us = GWTF_TIME_NEVER;
    if (status == GWTF_OK) {
        node->update.actions = calloc(node->update.actions_max, sizeof *node->update.actions);
        if (node->update.actions == NULL)
            status = GWTF_ERROR_MEMORY;
    }
    free(members);
    if (status != GWTF_OK)
        gwtf_error_set(error, status, "cannot start the protocol: %s", gwtf_status_name(status));
    return status;
}

/* The compute thread's first deed is to measure itself. */
static int64_t await_probe(struct node *node) {
    int64_t probed_us;
    while ((probed_us = gwtf_compute_probed_us(node->compute)) == 0)
        keep_beating(node);
    return probed_us;
}

static gwtf_status make(struct node *node, struct gwtf_error *error) {
    find_replicas(node);
    node->state.stage = node->stage;
    gwtf_status status = open_setup(node, error);
    if (status == GWTF_OK)
        status = gwtf_bell_create(&node->bell);
    struct gwtf_memory_options options = memory_options(node);
    if (status == GWTF_OK)
        status = choose_capacity(node, &options, error);
    options.slots = node->capacity;
    options.retained = node->retained;
    node->state.capacity = node->capacity;
    if (status == GWTF_OK)
        status = make_transport(node, error);
    if (status == GWTF_OK)
        status = make_memory(node, &options, error);
    if (status == GWTF_OK &&
        gwtf_writer_create(&node->setup, node->memory, node->bell, &node->writer) != GWTF_OK)
        status = gwtf_error_set(error, GWTF_ERROR_MEMORY, "cannot start the snapshot thread");
    if (status == GWTF_OK &&
        gwtf_compute_create(node->memory, node->bell, &node->compute) != GWTF_OK)
        status = gwtf_error_set(error, GWTF_ERROR_MEMORY, "cannot start the compute thread");
    if (status == GWTF_OK)
        status = make_crashes(node, error);
    if (status == GWTF_OK)
        status = make_protocol(node, await_probe(node), error);
    return status;
}

/* Says the end in the state file, directly: the writer has ended. */
static void write_last_state(struct node *node) {
    bool good = node->status == GWTF_OK || node->status == GWTF_ERROR_INTERRUPTED;
    node->state.phase = good ? GWTF_NODE_FINISHED : GWTF_NODE_FAILED;
    if (!good)
        snprintf(node->state.error, sizeof node->state.error, "%s", node->error->text);
    if (node->directory[0] != '\0')
        gwtf_run_write_node(node->directory, &node->state, NULL);
}

static void unmake(struct node *node) {
    gwtf_compute_destroy(node->compute);
    gwtf_writer_destroy(node->writer);
    write_last_state(node);
    gwtf_protocol_destroy(node->protocol);
    free(node->update.actions);
    free(node->lost);
    gwtf_heartbeat_destroy(node->heartbeat);
    gwtf_network_destroy(node->network);
    gwtf_crashes_destroy(node->crashes);
    /* The transport's and the memory's buffers may still be with MPI: they go with the process. */
    gwtf_bell_destroy(node->bell);
    if (node->setup_open)
        gwtf_setup_close(&node->setup);
}

static const char *ending(gwtf_status status) {
    return status == GWTF_OK ? "finished" : status == GWTF_ERROR_INTERRUPTED ? "stopped" : "failed";
}

gwtf_status gwtf_node_live(const struct gwtf_charter *charter, const char *host,
                           struct gwtf_error *error) {
    struct node *node = calloc(1, sizeof *node);
    if (node == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    node->charter = charter;
    node->found_by = "others say so";
    node->error = error;
    node->state = (struct gwtf_node_state){.node = charter->self,
                                           .phase = GWTF_NODE_STARTING,
                                           .pid = getpid(),
                                           .iteration = charter->first_iteration - 1};
    snprintf(node->state.host, sizeof node->state.host, "%s", host);
    node->status = make(node, error);
    if (node->status == GWTF_OK) {
        struct gwtf_event start = {.kind = GWTF_EVENT_START};
        node->state.phase = GWTF_NODE_TRAINING;
        node->began_us = gwtf_clock_now_us();
        write_state(node, node->began_us);
        feed(node, &start);
        drive(node);
        flush(node);
        if (is_recorder(node))
            write_event(node, ending(node->status), (uint32_t)node->state.iteration, GWTF_NODE_NONE,
                        error->text);
    }
    gwtf_status status = node->status;
    unmake(node);
    free(node);
    return status;
}
