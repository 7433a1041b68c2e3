/*
 * What the recorder does for those that want to join: it gives them places, one after the other,
 * and starts the processes that others ask for.
 */
#include "io/run.h"
#include "share/base/log.h"
#include "worker/runtime/clock.h"
#include "worker/runtime/door_state.h"
#include "worker/runtime/place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Who has got a place has so long to come; then the next one is asked in. */
#define GUEST_WAIT_US 90000000

/* --- processes that others ask for --- */

struct spawning {
    gwtf_door *door;
    MPI_Comm self;
    struct gwtf_join_spawn spawn;
    char directory[GWTF_CONFIG_PATH_MAX];
};

/* The directory of this program. */
static void find_worker(char *path, size_t path_bytes) {
    ssize_t length = readlink("/proc/self/exe", path, path_bytes - 1);
    path[length > 0 ? length : 0] = '\0';
}

/* Where a host has no more slots, as after a loss, too. */
static MPI_Info spawn_info(const char *host) {
    MPI_Info info;
    MPI_Info_create(&info);
    if (host[0] != '\0')
        MPI_Info_set(info, "host", host);
    MPI_Info_set(info, "map_by", "slot:OVERSUBSCRIBE");
    MPI_Info_set(info, "bind_to", "none");
    return info;
}

static void *spawn_joiner(void *argument) {
    struct spawning *spawning = argument;
    const struct gwtf_join_spawn *spawn = &spawning->spawn;
    char worker[4096], stage[16], capacity[16], threads[16], token[GWTF_JOIN_TOKEN_MAX];
    snprintf(stage, sizeof stage, "%u", spawn->stage);
    snprintf(capacity, sizeof capacity, "%u", spawn->capacity);
    snprintf(threads, sizeof threads, "%u", spawn->threads);
    snprintf(token, sizeof token, "%s", spawn->token);
    find_worker(worker, sizeof worker);
    char *words[] = {spawning->directory, stage, capacity, threads, token, NULL};
    MPI_Info info = spawn_info(spawn->host);
    MPI_Comm child;
    int code;
    if (MPI_Comm_spawn(worker, words, 1, info, 0, spawning->self, &child, &code) == MPI_SUCCESS) {
        MPI_Comm_set_errhandler(child, MPI_ERRORS_RETURN);
    } else {
        struct gwtf_join_place refusal = {.node = GWTF_NODE_NONE};
        snprintf(refusal.token, sizeof refusal.token, "%s", spawn->token);
        snprintf(refusal.why, sizeof refusal.why,
                 "mpirun cannot start a process on '%.60s': is it one of the run's hosts?",
                 spawn->host);
        gwtf_join_write_place(spawning->directory, &refusal, NULL);
    }
    pthread_mutex_lock(&spawning->door->mutex);
    spawning->door->spawns = false;
    pthread_mutex_unlock(&spawning->door->mutex);
    free(spawning);
    return NULL;
}

/* One at a time: Open MPI 5.0.7 stands still for ever where several threads spawn at once. */
static bool may_spawn(gwtf_door *door) {
    pthread_mutex_lock(&door->mutex);
    bool may = !door->spawns;
    door->spawns = true;
    pthread_mutex_unlock(&door->mutex);
    return may;
}

static void start_spawn(void *context, const char *token) {
    gwtf_door *door = context;
    pthread_t thread;
    if (!may_spawn(door))
        return;
    struct spawning *spawning = calloc(1, sizeof *spawning);
    bool good = spawning != NULL && gwtf_join_take_spawn(door->directory, token, &spawning->spawn);
    if (good) {
        spawning->door = door;
        spawning->self = door_make_self(door);
        snprintf(spawning->directory, sizeof spawning->directory, "%s", door->directory);
        good = spawning->self != MPI_COMM_NULL &&
               pthread_create(&thread, NULL, spawn_joiner, spawning) == 0;
    }
    if (good) {
        pthread_detach(thread);
        return;
    }
    free(spawning);
    pthread_mutex_lock(&door->mutex);
    door->spawns = false;
    pthread_mutex_unlock(&door->mutex);
}

/* --- places --- */

struct forgetting {
    const gwtf_door *door;
    gwtf_node_id node;
};

/* Who had the place before is gone. */
static void forget_member(void *context, const char *token) {
    const struct forgetting *forgetting = context;
    struct gwtf_join_place place;
    if (!gwtf_join_read_member(forgetting->door->directory, token, &place))
        return;
    free(place.members);
    if (place.node == forgetting->node)
        gwtf_join_remove(forgetting->door->directory, token);
}

static void give_place(gwtf_door *door, const struct gwtf_join_request *request) {
    const struct gwtf_charter *charter = door->config.charter;
    struct gwtf_join_place place = {.node = GWTF_NODE_NONE};
    snprintf(place.token, sizeof place.token, "%s", request->token);
    place.members = calloc(charter->members_count, sizeof *place.members);
    if (place.members == NULL)
        return;
    pthread_mutex_lock(&door->mutex);
    struct gwtf_place_run run = {.members = door->members,
                                 .members_count = charter->members_count,
                                 .first_place = charter->first_place,
                                 .stage_utilisation = door->stage_utilisation};
    struct gwtf_place_choice choice = gwtf_place_choose(&run, request->stage);
    for (uint32_t i = 0; i < charter->members_count; i++)
        if (!door->members[i].down)
            place.members[place.members_count++] = door->members[i].node;
    pthread_mutex_unlock(&door->mutex);
    place.node = choice.node;
    place.stage = choice.stage;
    place.incarnation = choice.incarnation;
    snprintf(place.why, sizeof place.why, "%s", choice.why);
    if (place.node != GWTF_NODE_NONE) {
        struct forgetting forgetting = {.door = door, .node = place.node};
        gwtf_join_each(door->directory, "member", forget_member, &forgetting);
        gwtf_run_clear_leave(door->directory, place.node);
    }
    if (gwtf_join_write_place(door->directory, &place, NULL) == GWTF_OK &&
        place.node != GWTF_NODE_NONE) {
        snprintf(door->awaited, sizeof door->awaited, "%s", request->token);
        door->awaited_us = gwtf_clock_now_us();
    }
    free(place.members);
}

/* One after the other: who comes must know of who came before. */
static void answer(void *context, const char *token) {
    gwtf_door *door = context;
    struct gwtf_join_request request;
    struct gwtf_join_place place;
    if (door->awaited[0] != '\0')
        return;
    if (gwtf_join_read_place(door->directory, token, &place)) {
        free(place.members);
        return;
    }
    if (gwtf_join_read_request(door->directory, token, &request))
        give_place(door, &request);
}

/* A place that another recorder has given, or this one, and nobody has taken yet. */
static void note_awaited(void *context, const char *token) {
    gwtf_door *door = context;
    struct gwtf_join_place place;
    if (door->awaited[0] != '\0' || !gwtf_join_read_place(door->directory, token, &place))
        return;
    free(place.members);
    if (place.node == GWTF_NODE_NONE)
        return;
    snprintf(door->awaited, sizeof door->awaited, "%s", token);
    door->awaited_us = gwtf_clock_now_us();
}

enum entering { ENTERING_NOT, ENTERING_DONE, ENTERING_LOST };

/* Who has PLACE may have been a member, and lost, between two looks. */
static enum entering how_far(gwtf_door *door, const struct gwtf_join_place *place) {
    enum entering entering = ENTERING_NOT;
    pthread_mutex_lock(&door->mutex);
    if (place->node < door->config.charter->members_count) {
        const struct gwtf_member_view *member = &door->members[place->node];
        bool was_there = member->incarnation > place->incarnation;
        entering = !member->down ? ENTERING_DONE : was_there ? ENTERING_LOST : ENTERING_NOT;
    }
    pthread_mutex_unlock(&door->mutex);
    return entering;
}

/* Whom the run has lost since is not waited for. */
static void strike_lost(gwtf_door *door, struct gwtf_join_place *place) {
    size_t left = 0;
    pthread_mutex_lock(&door->mutex);
    for (size_t i = 0; i < place->members_count; i++) {
        gwtf_node_id node = place->members[i];
        if (node < door->config.charter->members_count && !door->members[node].down)
            place->members[left++] = node;
    }
    pthread_mutex_unlock(&door->mutex);
    if (left == place->members_count)
        return;
    place->members_count = left;
    gwtf_join_write_place(door->directory, place, NULL);
}

static void look_after_awaited(gwtf_door *door) {
    struct gwtf_join_place place;
    if (door->awaited[0] == '\0')
        return;
    bool is_there = gwtf_join_read_place(door->directory, door->awaited, &place);
    struct gwtf_error line;
    int code;
    bool has_ended = gwtf_join_read_end(door->directory, door->awaited, &code, &line);
    enum entering entering = is_there ? how_far(door, &place) : ENTERING_NOT;
    if (is_there && entering == ENTERING_NOT)
        strike_lost(door, &place);
    if (is_there)
        free(place.members);
    bool is_over = gwtf_clock_now_us() - door->awaited_us >= GUEST_WAIT_US;
    if (is_there && entering == ENTERING_NOT && !has_ended && !is_over)
        return;
    if (entering == ENTERING_DONE)
        gwtf_join_keep_member(door->directory, door->awaited);
    else if (is_there)
        gwtf_join_remove(door->directory, door->awaited);
    door->awaited[0] = '\0';
}

void door_give_places(gwtf_door *door) {
    pthread_mutex_lock(&door->mutex);
    bool is_recorder = door->is_recorder;
    pthread_mutex_unlock(&door->mutex);
    if (!is_recorder)
        return;
    gwtf_join_each(door->directory, "spawn", start_spawn, door);
    look_after_awaited(door);
    gwtf_join_each(door->directory, "place", note_awaited, door);
    gwtf_join_each(door->directory, "request", answer, door);
}
