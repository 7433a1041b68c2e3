/*
 * A node that the others have declared down, and lives. Its process stays; all channels end, what
 * it is at is finished and thrown away, and a new protocol asks to be taken as a new member
 * (worker/protocol/entry.c).
 */
#include "share/base/log.h"
#include "worker/runtime/clock.h"
#include "worker/runtime/node_state.h"

#include <stdlib.h>
#include <string.h>

/* A node that is declared down again and again waits longer and longer. */
#define RETURN_FIRST_US 200000
#define RETURN_MOST_US 30000000
/* For those that have joined while this node was down. */
#define MEET_WAIT_US 10000000

bool node_goes_by_door(const struct node *node, gwtf_node_id to,
                       const struct gwtf_message *message) {
    return message->kind == GWTF_MESSAGE_ENTER || message->kind == GWTF_MESSAGE_WELCOME ||
           (message->kind == GWTF_MESSAGE_CLOSE && node->lost[to].is_forgotten);
}

const char *node_found_by(const struct node *node, const struct gwtf_incident *incident) {
    if (node->found_by)
        return node->found_by;
    if (incident->kind != GWTF_INCIDENT_DOWN)
        return "it is silent";
    return incident->is_silent ? "it is silent, as others say" : "others say so";
}

void node_open(struct node *node, const struct gwtf_incident *incident) {
    gwtf_node_id peer = incident->node;
    struct lost_peer *lost = &node->lost[peer];
    gwtf_time_us now_us = gwtf_clock_now_us();
    gwtf_log(GWTF_LOG_DEBUG, "node %u is a member from iteration %u on", peer,
             incident->incarnation);
    gwtf_transport_open(node->transport, peer, incident->channel);
    gwtf_heartbeat_watch(node->heartbeat, peer, now_us);
    lost->is_forgotten = false;
    lost->is_doubted = false;
    /* The process has ended since it asked. */
    if (lost->has_ended)
        lost->ended_us = now_us;
}

void node_begin_return(struct node *node) {
    gwtf_time_us now_us = gwtf_clock_now_us();
    int64_t pause_us = RETURN_FIRST_US;
    for (uint32_t i = 0; i < node->returns && pause_us < RETURN_MOST_US; i++)
        pause_us *= 2;
    gwtf_log(GWTF_LOG_WARNING, "the others go on without this node: it asks to come back");
    node->is_fenced = true;
    node->incarnation = gwtf_protocol_get_view(node->protocol).incarnation;
    node->return_us = now_us + pause_us;
    node->returns++;
    for (gwtf_node_id peer = 0; peer < node->charter->members_count; peer++) {
        node->lost[peer].is_forgotten = true;
        gwtf_heartbeat_forget(node->heartbeat, peer);
    }
    gwtf_transport_forget_all(node->transport);
    if (node->door)
        gwtf_door_call(node->door);
}

bool node_may_return(const struct node *node) {
    if (!node->is_fenced || node->works > 0 || node->writes > 0)
        return false;
    gwtf_time_us late_us = gwtf_clock_now_us() - node->return_us;
    return late_us >= MEET_WAIT_US ||
           (late_us >= 0 && (!node->door || gwtf_door_has_all(node->door)));
}

gwtf_status node_return(struct node *node) {
    node->own_place = gwtf_protocol_get_view(node->protocol).own_place;
    gwtf_protocol_destroy(node->protocol);
    free(node->update.actions);
    node->protocol = NULL;
    memset(&node->update, 0, sizeof node->update);
    node->is_fenced = false;
    node->stop_told = false;
    return node_make_protocol(node, node->incarnation, node->error);
}
