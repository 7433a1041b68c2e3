/*
 * How a node and one that has joined get connected. Who is let in connects to all that live then:
 * each opens a port for it. Who was down meanwhile, and comes back, opens one too, and the other
 * one, which is a member by now, comes to it.
 */
#include "io/run.h"
#include "share/base/log.h"
#include "worker/runtime/door_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Nodes write down their state each second. */
#define SILENCE_MOST_US 30000000u

/* One that a port was opened for, or that this one connects to. */
struct meeting {
    gwtf_door *door;
    MPI_Comm self;
    struct gwtf_door_guest guest;
    char token[GWTF_JOIN_TOKEN_MAX];
    char port[GWTF_JOIN_PORT_MAX];
};

static void hand_in(const struct meeting *meeting) {
    gwtf_door *door = meeting->door;
    pthread_mutex_lock(&door->mutex);
    if (door->guests_count < DOOR_GUESTS_MAX)
        door->guests[door->guests_count++] = meeting->guest;
    snprintf(door->met[meeting->guest.node], GWTF_JOIN_TOKEN_MAX, "%s", meeting->token);
    pthread_mutex_unlock(&door->mutex);
    gwtf_bell_ring(door->config.bell);
}

static void *await_guest(void *argument) {
    struct meeting *meeting = argument;
    int result =
        MPI_Comm_accept(meeting->port, MPI_INFO_NULL, 0, meeting->self, &meeting->guest.world);
    gwtf_join_remove_port(meeting->door->directory, meeting->token,
                          meeting->door->config.charter->self);
    if (result == MPI_SUCCESS)
        hand_in(meeting);
    free(meeting);
    return NULL;
}

static void *go_to(void *argument) {
    struct meeting *meeting = argument;
    if (MPI_Comm_connect(meeting->port, MPI_INFO_NULL, 0, meeting->self, &meeting->guest.world) ==
        MPI_SUCCESS)
        hand_in(meeting);
    free(meeting);
    return NULL;
}

static bool start(void *(*meet)(void *), struct meeting *meeting) {
    pthread_t thread;
    meeting->self = door_make_self(meeting->door);
    if (meeting->self == MPI_COMM_NULL || pthread_create(&thread, NULL, meet, meeting) != 0)
        return false;
    pthread_detach(thread);
    return true;
}

static struct door_port *find_port(gwtf_door *door, const char *token) {
    for (size_t i = 0; i < door->served_count && i < DOOR_SERVED_MAX; i++)
        if (strcmp(door->served[i].token, token) == 0)
            return &door->served[i];
    return NULL;
}

static void serve(gwtf_door *door, const char *token, gwtf_node_id node) {
    struct gwtf_join_request request = {.host = ""};
    (void)gwtf_join_read_request(door->directory, token, &request);
    struct meeting *meeting = calloc(1, sizeof *meeting);
    if (meeting == NULL)
        return;
    meeting->door = door;
    meeting->guest.node = node;
    snprintf(meeting->guest.host, sizeof meeting->guest.host, "%s", request.host);
    meeting->guest.pid = strcmp(request.host, door->host) == 0 ? request.pid : 0;
    snprintf(meeting->token, sizeof meeting->token, "%s", token);
    struct door_port *port = &door->served[door->served_count++ % DOOR_SERVED_MAX];
    snprintf(port->token, sizeof port->token, "%s", token);
    if (MPI_Open_port(MPI_INFO_NULL, meeting->port) != MPI_SUCCESS)
        meeting->port[0] = '\0';
    snprintf(port->name, sizeof port->name, "%s", meeting->port);
    if (meeting->port[0] == '\0' || !start(await_guest, meeting)) {
        gwtf_log(GWTF_LOG_WARNING, "no port can be opened for %s, which wants to join", token);
        free(meeting);
        return;
    }
    /* The meeting is its thread's now. */
    gwtf_join_write_port(door->directory, token, door->config.charter->self, port->name, NULL);
}

static bool counts_on(const struct gwtf_join_place *place, gwtf_node_id node) {
    for (size_t i = 0; i < place->members_count; i++)
        if (place->members[i] == node)
            return true;
    return false;
}

static bool is_of_run(const gwtf_door *door, gwtf_node_id node) {
    const struct gwtf_charter *charter = door->config.charter;
    return node < charter->members_count && node != charter->self;
}

/* TOKEN has a place. */
static void see_place(void *context, const char *token) {
    gwtf_door *door = context;
    struct gwtf_join_place place;
    if (find_port(door, token) != NULL || !gwtf_join_read_place(door->directory, token, &place))
        return;
    if (is_of_run(door, place.node) && counts_on(&place, door->config.charter->self))
        serve(door, token, place.node);
    free(place.members);
}

/* --- this node comes back --- */

static bool has_met(gwtf_door *door, const char *token, gwtf_node_id node) {
    pthread_mutex_lock(&door->mutex);
    bool met = strcmp(door->met[node], token) == 0;
    pthread_mutex_unlock(&door->mutex);
    return met;
}

static bool is_alive(const gwtf_door *door, gwtf_node_id node) {
    struct gwtf_node_state *nodes = NULL;
    size_t count = 0;
    struct timespec now;
    bool alive = false;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t now_us = (uint64_t)now.tv_sec * 1000000u;
    if (gwtf_run_read_nodes(door->directory, &nodes, &count, NULL) != GWTF_OK)
        return false;
    for (size_t i = 0; i < count; i++)
        alive = alive || (nodes[i].node == node && !gwtf_node_has_ended(&nodes[i]) &&
                          nodes[i].updated_unix_us + SILENCE_MOST_US > now_us);
    free(nodes);
    return alive;
}

struct calling {
    gwtf_door *door;
    bool has_all;
};

/* TOKEN is a member, or is about to be one, of which the recorder's word may come later than it; if
 * it came while this node was down, it is asked to this one's port, again and again, since it may
 * be down itself. */
static void call(void *context, const char *token) {
    struct calling *calling = context;
    gwtf_door *door = calling->door;
    struct gwtf_join_place place;
    if (!gwtf_join_read_member(door->directory, token, &place) &&
        !gwtf_join_read_place(door->directory, token, &place))
        return;
    free(place.members);
    if (!is_of_run(door, place.node) || has_met(door, token, place.node) ||
        !is_alive(door, place.node))
        return;
    calling->has_all = false;
    const struct door_port *port = find_port(door, token);
    if (port == NULL)
        serve(door, token, place.node);
    else
        gwtf_join_write_port(door->directory, token, door->config.charter->self, port->name, NULL);
}

void door_open_ports(gwtf_door *door) {
    gwtf_join_each(door->directory, "place", see_place, door);
    pthread_mutex_lock(&door->mutex);
    bool calls = door->calls && !door->has_all;
    pthread_mutex_unlock(&door->mutex);
    if (!calls)
        return;
    struct calling calling = {.door = door, .has_all = true};
    gwtf_join_each(door->directory, "member", call, &calling);
    gwtf_join_each(door->directory, "place", call, &calling);
    pthread_mutex_lock(&door->mutex);
    door->has_all = calling.has_all;
    pthread_mutex_unlock(&door->mutex);
}

/* --- this node has joined, and another one comes back --- */

static void answer_call(void *context, gwtf_node_id node) {
    gwtf_door *door = context;
    char port[GWTF_JOIN_PORT_MAX];
    if (!is_of_run(door, node) ||
        !gwtf_join_read_new_port(door->directory, door->token, node, door->made_unix_s, port) ||
        strcmp(door->called[node], port) == 0)
        return;
    struct meeting *meeting = calloc(1, sizeof *meeting);
    if (meeting == NULL)
        return;
    meeting->door = door;
    meeting->guest.node = node;
    snprintf(meeting->port, sizeof meeting->port, "%s", port);
    snprintf(door->called[node], sizeof door->called[node], "%s", port);
    if (!start(go_to, meeting))
        free(meeting);
}

void door_answer_calls(gwtf_door *door) {
    if (door->token[0] != '\0')
        gwtf_join_each_port(door->directory, door->token, answer_call, door);
}

/* TOKEN was a member before this node was. */
static void note_met(void *context, const char *token) {
    gwtf_door *door = context;
    struct gwtf_join_place place;
    if (!gwtf_join_read_member(door->directory, token, &place))
        return;
    free(place.members);
    if (is_of_run(door, place.node) && door->config.worlds[place.node] != MPI_COMM_NULL)
        snprintf(door->met[place.node], GWTF_JOIN_TOKEN_MAX, "%s", token);
}

void door_note_first(gwtf_door *door) {
    if (door->config.worlds != NULL)
        gwtf_join_each(door->directory, "member", note_met, door);
}
