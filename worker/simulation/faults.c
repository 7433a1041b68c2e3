/* What goes wrong: nodes that are gone, or taken for gone. */
#include "worker/simulation/state.h"

void simulation_leave(gwtf_simulation *simulation, uint32_t index, int64_t notice_us,
                      int64_t spread_us) {
    struct simulation_node *node = &simulation->nodes[index];
    node->died_us = simulation->now_us;
    node->notice_us = notice_us;
    for (uint32_t i = 0; i < simulation->config.nodes_count; i++) {
        struct simulation_event down = {.at_us = simulation->now_us + notice_us,
                                        .kind = SIMULATION_PEER_DOWN,
                                        .node = i,
                                        .peer = index};
        if (spread_us > 0)
            down.at_us += (int64_t)gwtf_random_below(&simulation->random, (uint64_t)spread_us + 1);
        if (i != index)
            simulation_push(simulation, &down);
    }
}

static void notice_cut(gwtf_simulation *simulation, const struct simulation_event *event,
                       uint32_t node, uint32_t peer) {
    struct simulation_event down = {.at_us = simulation->now_us + event->fault.notice_us,
                                    .kind = SIMULATION_PEER_DOWN,
                                    .node = node,
                                    .peer = peer,
                                    .fault = event->fault};
    down.at_us +=
        (int64_t)gwtf_random_below(&simulation->random, (uint64_t)event->fault.spread_us + 1);
    simulation_push(simulation, &down);
}

static void cut(gwtf_simulation *simulation, const struct simulation_event *event) {
    simulation->nodes[event->node].apart = true;
    for (uint32_t i = 0; i < simulation->config.nodes_count; i++) {
        if (i == event->node)
            continue;
        notice_cut(simulation, event, i, event->node);
        notice_cut(simulation, event, event->node, i);
    }
}

bool simulation_notices_death(const gwtf_simulation *simulation, uint32_t node) {
    uint64_t key = simulation_mix(simulation->config.seed, (uint64_t)node << 1 | 1);
    return simulation->nodes[node].dead && key % 2 == 0;
}

bool simulation_is_cut(const gwtf_simulation *simulation, uint32_t peer, uint32_t index) {
    return simulation->nodes[peer].apart != simulation->nodes[index].apart;
}

bool simulation_reaches(const gwtf_simulation *simulation, uint32_t peer, uint32_t index) {
    const struct simulation_node *sender = &simulation->nodes[peer];
    if (simulation_is_cut(simulation, peer, index))
        return false;
    if (!sender->dead)
        return true;
    /* Up to as long as it takes to notice, from the moment of its death on. */
    uint64_t key = simulation_mix(simulation->config.seed, (uint64_t)peer << 32 | index);
    int64_t most_us = sender->notice_us > 0 ? sender->notice_us : 1;
    return simulation->now_us < sender->died_us + (int64_t)(key % (uint64_t)most_us);
}

static void crash(gwtf_simulation *simulation, const struct simulation_event *event) {
    struct simulation_node *node = &simulation->nodes[event->node];
    if (node->dead || node->finished)
        return;
    node->dead = true;
    simulation->totals.lost++;
    simulation_notice(simulation, GWTF_SIMULATION_CRASHED, event->node, NULL, 0, NULL);
    simulation_leave(simulation, event->node, event->fault.notice_us, event->fault.spread_us);
    if (event->fault.return_us <= 0)
        return;
    struct simulation_event back = {.at_us = simulation->now_us + event->fault.return_us,
                                    .kind = SIMULATION_RETURN,
                                    .node = event->node};
    simulation_push(simulation, &back);
}

/* Others miss NODE when it has stood still for long, each one at another moment, and hear it again
 * when it goes on. */
static void miss_for_a_while(gwtf_simulation *simulation, const struct simulation_event *event,
                             uint32_t by) {
    struct simulation_event missed = *event;
    missed.fault.by = simulation->nodes[by].config.node;
    missed.fault.kind = GWTF_SIMULATION_SUSPECT;
    missed.at_us +=
        event->fault.notice_us +
        (int64_t)gwtf_random_below(&simulation->random, (uint64_t)event->fault.spread_us + 1);
    gwtf_time_us until_us = simulation->nodes[event->node].still_until_us;
    if (missed.at_us >= until_us)
        return;
    simulation_push(simulation, &missed);
    missed.fault.kind = GWTF_SIMULATION_HEAR;
    missed.at_us = until_us;
    simulation_push(simulation, &missed);
}

static void stall(gwtf_simulation *simulation, const struct simulation_event *event) {
    struct simulation_node *node = &simulation->nodes[event->node];
    gwtf_time_us until_us = simulation->now_us + event->fault.pause_us;
    if (node->stalled_until_us < until_us)
        node->stalled_until_us = until_us;
    if (event->fault.kind != GWTF_SIMULATION_PAUSE || node->still_until_us >= until_us)
        return;
    node->still_until_us = until_us;
    for (uint32_t i = 0; i < simulation->config.nodes_count; i++)
        if (i != event->node)
            miss_for_a_while(simulation, event, i);
}

/* Whether what FROM has sent to TO stays with FROM while that is stalled. */
static bool stays_there(const gwtf_simulation *simulation, uint32_t from, uint32_t to) {
    uint64_t key = simulation_mix(simulation->config.seed, (uint64_t)from << 32 | to);
    return simulation_mix(key, (uint64_t)simulation->nodes[from].stalled_until_us) % 2 == 0;
}

/* As it was, not of the life that its node has now. */
static void defer(gwtf_simulation *simulation, const struct simulation_event *event,
                  gwtf_time_us until_us) {
    struct simulation_event later = *event;
    later.at_us = until_us;
    if (!simulation_queue_push(&simulation->queue, &later))
        simulation->out_of_memory = true;
}

bool simulation_hold(gwtf_simulation *simulation, const struct simulation_event *event) {
    if (event->kind == SIMULATION_FAULT || event->kind == SIMULATION_RETURN)
        return false;
    struct simulation_node *node = &simulation->nodes[event->node];
    gwtf_time_us until_us = node->still_until_us;
    uint32_t from = event->node;
    if (event->kind == SIMULATION_MESSAGE)
        from = event->peer;
    else if (event->kind == SIMULATION_RECEIVED)
        from = simulation->transfers[event->transfer].from;
    gwtf_time_us stalled_us = simulation->nodes[from].stalled_until_us;
    if (from != event->node && stalled_us > until_us && stays_there(simulation, from, event->node))
        until_us = stalled_us;
    if (until_us <= simulation->now_us)
        return false;
    if (event->kind == SIMULATION_TIMER && node->timer_us == event->at_us)
        node->timer_us = until_us;
    defer(simulation, event, until_us);
    return true;
}

static void suspect(gwtf_simulation *simulation, const struct simulation_event *event) {
    uint32_t by = simulation_find(simulation, event->fault.by);
    if (by != SIMULATION_NONE && simulation->nodes[by].still_until_us > simulation->now_us) {
        defer(simulation, event, simulation->nodes[by].still_until_us);
        return;
    }
    struct gwtf_event down = {.kind = event->fault.kind == GWTF_SIMULATION_HEAR
                                          ? GWTF_EVENT_PEER_HEARD
                                          : GWTF_EVENT_PEER_SILENT,
                              .peer = event->fault.node};
    if (by != SIMULATION_NONE && by != event->node && !simulation->nodes[event->node].finished)
        simulation_step(simulation, by, &down, SIMULATION_NONE);
}

void simulation_bring_fault(gwtf_simulation *simulation, const struct simulation_event *event) {
    struct gwtf_event stop = {.kind = GWTF_EVENT_STOP}, leave = {.kind = GWTF_EVENT_LEAVE};
    switch (event->fault.kind) {
    case GWTF_SIMULATION_STOP:
        simulation_step(simulation, event->node, &stop, SIMULATION_NONE);
        break;
    case GWTF_SIMULATION_LEAVE:
        simulation_step(simulation, event->node, &leave, SIMULATION_NONE);
        break;
    case GWTF_SIMULATION_CRASH:
        crash(simulation, event);
        break;
    case GWTF_SIMULATION_SUSPECT:
    case GWTF_SIMULATION_HEAR:
        suspect(simulation, event);
        break;
    case GWTF_SIMULATION_CUT:
        cut(simulation, event);
        break;
    case GWTF_SIMULATION_RETURN:
        simulation_return(simulation, event->node);
        break;
    case GWTF_SIMULATION_STALL:
    case GWTF_SIMULATION_PAUSE:
        stall(simulation, event);
        break;
    case GWTF_SIMULATION_WRITE:
        simulation->nodes[event->node].cannot_write = true;
        break;
    }
}
