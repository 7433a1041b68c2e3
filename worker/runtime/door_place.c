/*
 * What the recorder does for those that want to join: it gives them places, one after the other,
 * and starts the processes that others ask for.
 */
#include "flow/arrival.h"
#include "io/run.h"
#include "share/base/log.h"
#include "worker/runtime/clock.h"
#include "worker/runtime/door_state.h"
#include "worker/runtime/joiner.h"

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
    char worker[4096], stage[16], capacity[16], threads[16], token[GWTF_JOIN_TOKEN_MAX], stays[8],
        data[GWTF_JOIN_DATA_MAX], device[GWTF_JOIN_DEVICE_MAX];
    snprintf(stage, sizeof stage, "%u", spawn->stage);
    snprintf(capacity, sizeof capacity, "%u", spawn->capacity);
    snprintf(threads, sizeof threads, "%u", spawn->threads);
    snprintf(stays, sizeof stays, "%s", spawn->stays ? "stays" : "moves");
    snprintf(token, sizeof token, "%s", spawn->token);
    snprintf(data, sizeof data, "%s", spawn->data[0] != '\0' ? spawn->data : GWTF_JOINER_NO_DATA);
    snprintf(device, sizeof device, "%s", spawn->device[0] != '\0' ? spawn->device : "run");
    find_worker(worker, sizeof worker);
    char *words[] = {
        spawning->directory, stage, capacity, threads, stays, token, data, device, NULL};
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

void door_measure_stages(const struct gwtf_door *door, double paces[GWTF_STAGES_MAX]) {
    const struct gwtf_config *run = door->config.run;
    uint32_t stages = run->pipeline.stages;
    for (uint32_t stage = 1; stage <= stages; stage++) {
        uint32_t layers = run->model.layers / stages + (stage <= run->model.layers % stages);
        double seconds = door->stage_busy[stage - 1] * door->mean_us * 1e-6;
        paces[stage - 1] = seconds > 0 ? (double)door->microbatches * layers / seconds : 0;
    }
}

/* The others that want a place and have none: their paces follow that of the first. */
struct queue_of {
    const gwtf_door *door;
    const char *first;
    double paces[GWTF_ARRIVALS_MAX];
    uint32_t count;
};

static double pace_of(double block_seconds) {
    return block_seconds > 0 ? 1 / block_seconds : 0;
}

static void note_waiting(void *context, const char *token) {
    struct queue_of *queue = context;
    struct gwtf_join_request request;
    struct gwtf_join_place place;
    if (queue->count == GWTF_ARRIVALS_MAX || strcmp(token, queue->first) == 0 ||
        !gwtf_join_read_request(queue->door->directory, token, &request))
        return;
    if (gwtf_join_read_place(queue->door->directory, token, &place)) {
        free(place.members);
        return;
    }
    if (request.stage == 0)
        queue->paces[queue->count++] = pace_of(request.block_seconds);
}

static void say_why(const struct gwtf_place_choice *choice, uint32_t wished, double block_seconds,
                    char why[160]) {
    if (wished == GWTF_JOIN_DATA_NODE && choice->node != GWTF_NODE_NONE)
        snprintf(why, 160, "the run has had %u data nodes", choice->nodes);
    else if (wished == GWTF_JOIN_DATA_NODE)
        snprintf(why, 160,
                 "no place of a data node is free: run.places of the run's configuration says how "
                 "many there are");
    else if (choice->node == GWTF_NODE_NONE && wished > choice->stages)
        snprintf(why, 160, "the run has stages 1 to %u only", choice->stages);
    else if (choice->node == GWTF_NODE_NONE)
        snprintf(why, 160,
                 "no place is free%s: run.places of the run's configuration says how many there "
                 "are",
                 wished != 0 ? " in this stage" : "");
    else if (wished == choice->stage)
        snprintf(why, 160, "as wished; it has had %u", choice->nodes);
    else if (choice->load > 0 && choice->speed > 0)
        snprintf(why, 160,
                 "its %u nodes are busy for %.0f %% of the time; a block takes them %.3g ms, this "
                 "one %.3g",
                 choice->nodes, 100 * choice->load, 1e3 * block_seconds * choice->speed,
                 1e3 * block_seconds);
    else if (choice->load > 0)
        snprintf(why, 160, "its %u nodes are busy for %.0f %% of the time", choice->nodes,
                 100 * choice->load);
    else
        snprintf(why, 160, "it has had %u, and no stage has fewer", choice->nodes);
}

static void give_place(gwtf_door *door, const struct gwtf_join_request *request) {
    const struct gwtf_charter *charter = door->config.charter;
    struct gwtf_join_place place = {
        .node = GWTF_NODE_NONE, .stays = request->stays, .block_seconds = request->block_seconds};
    struct queue_of queue = {.door = door,
                             .first = request->token,
                             .paces = {pace_of(request->block_seconds)},
                             .count = 1};
    double paces[GWTF_STAGES_MAX];
    gwtf_join_each(door->directory, "request", note_waiting, &queue);
    snprintf(place.token, sizeof place.token, "%s", request->token);
    place.members = calloc(charter->members_count, sizeof *place.members);
    if (place.members == NULL)
        return;
    pthread_mutex_lock(&door->mutex);
    door_measure_stages(door, paces);
    struct gwtf_place_run run = {.members = door->members,
                                 .members_count = charter->members_count,
                                 .first_place = charter->first_place,
                                 .stage_busy = door->stage_busy,
                                 .waiting = queue.count,
                                 .stage_pace = paces,
                                 .waiting_pace = queue.paces};
    struct gwtf_place_choice choice = gwtf_place_choose(&run, request->stage);
    if (choice.node == GWTF_NODE_NONE && !request->stays)
        choice = gwtf_place_choose(&run, 0);
    for (uint32_t i = 0; i < charter->members_count; i++)
        if (!door->members[i].down)
            place.members[place.members_count++] = door->members[i].node;
    pthread_mutex_unlock(&door->mutex);
    place.node = choice.node;
    place.stage = choice.stage;
    place.incarnation = choice.incarnation;
    say_why(&choice, request->stage, request->block_seconds, place.why);
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

static void count_one(void *context, const char *token) {
    (void)token;
    ++*(uint32_t *)context;
}

/* Who has a place already has a request, too, until it is a member. */
uint32_t door_count_waiting(gwtf_door *door) {
    uint32_t requests = 0, places = 0;
    gwtf_join_each(door->directory, "request", count_one, &requests);
    gwtf_join_each(door->directory, "place", count_one, &places);
    return requests > places ? requests - places : 0;
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
