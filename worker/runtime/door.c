#include "worker/runtime/door.h"

#include "io/join.h"
#include "share/base/log.h"
#include "worker/runtime/clock.h"
#include "worker/runtime/machine.h"
#include "worker/runtime/place.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_INTERVAL_US 300000
/* Who has got a place has so long to come; then the next one is asked in. */
#define GUEST_WAIT_US 90000000
#define GUESTS_MAX 64 /* connected, and not yet taken by the node */
#define SERVED_MAX 256

/* One that a port was opened for. */
struct service {
    gwtf_door *door;
    struct gwtf_door_guest guest;
    char token[GWTF_JOIN_TOKEN_MAX];
    char port[MPI_MAX_PORT_NAME];
};

struct gwtf_door {
    struct gwtf_door_config config;
    char directory[GWTF_CONFIG_PATH_MAX];
    char host[256]; /* this one */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    bool ends;
    bool is_recorder;
    struct gwtf_member_view *members;
    double *stage_utilisation;
    struct gwtf_door_guest guests[GUESTS_MAX];
    size_t guests_count;
    /* The thread's own. */
    char served[SERVED_MAX][GWTF_JOIN_TOKEN_MAX];
    size_t served_count;
    char awaited[GWTF_JOIN_TOKEN_MAX]; /* recorder: has a place and is not there yet; "": nobody */
    gwtf_time_us awaited_us;           /* since */
};

/* --- a port, and who comes to it --- */

static void hand_in(gwtf_door *door, const struct gwtf_door_guest *guest) {
    pthread_mutex_lock(&door->mutex);
    if (door->guests_count < GUESTS_MAX)
        door->guests[door->guests_count++] = *guest;
    pthread_mutex_unlock(&door->mutex);
    gwtf_bell_ring(door->config.bell);
}

static void *await_guest(void *argument) {
    struct service *service = argument;
    gwtf_door *door = service->door;
    int result =
        MPI_Comm_accept(service->port, MPI_INFO_NULL, 0, MPI_COMM_SELF, &service->guest.world);
    gwtf_join_remove_port(door->directory, service->token, door->config.charter->self);
    if (result == MPI_SUCCESS)
        hand_in(door, &service->guest);
    free(service);
    return NULL;
}

static bool is_served(const gwtf_door *door, const char *token) {
    for (size_t i = 0; i < door->served_count; i++)
        if (strcmp(door->served[i % SERVED_MAX], token) == 0)
            return true;
    return false;
}

static void note_served(gwtf_door *door, const char *token) {
    char *at = door->served[door->served_count++ % SERVED_MAX];
    snprintf(at, GWTF_JOIN_TOKEN_MAX, "%s", token);
}

static bool start_service(struct service *service) {
    pthread_t thread;
    if (MPI_Open_port(MPI_INFO_NULL, service->port) != MPI_SUCCESS)
        return false;
    if (pthread_create(&thread, NULL, await_guest, service) != 0)
        return false;
    pthread_detach(thread);
    return true;
}

/* TOKEN has a place: this node waits for it at a port of its own. */
static void serve(void *context, const char *token) {
    gwtf_door *door = context;
    struct gwtf_join_place place;
    struct gwtf_join_request request = {.host = ""};
    const struct gwtf_charter *charter = door->config.charter;
    if (is_served(door, token) || !gwtf_join_read_place(door->directory, token, &place))
        return;
    free(place.members);
    if (place.node == GWTF_NODE_NONE || place.node >= charter->members_count ||
        place.node == charter->self)
        return;
    note_served(door, token);
    (void)gwtf_join_read_request(door->directory, token, &request);
    struct service *service = calloc(1, sizeof *service);
    if (service == NULL)
        return;
    service->door = door;
    service->guest.node = place.node;
    snprintf(service->guest.host, sizeof service->guest.host, "%s", request.host);
    service->guest.pid = strcmp(request.host, door->host) == 0 ? request.pid : 0;
    snprintf(service->token, sizeof service->token, "%s", token);
    char port[MPI_MAX_PORT_NAME];
    if (!start_service(service)) {
        gwtf_log(GWTF_LOG_WARNING, "no port can be opened for %s, which wants to join", token);
        free(service);
        return;
    }
    /* The service is its thread's now. */
    snprintf(port, sizeof port, "%s", service->port);
    gwtf_join_write_port(door->directory, token, charter->self, port, NULL);
}

/* --- the recorder starts processes that others ask for --- */

struct spawning {
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
    if (MPI_Comm_spawn(worker, words, 1, info, 0, MPI_COMM_SELF, &child, &code) == MPI_SUCCESS) {
        MPI_Comm_set_errhandler(child, MPI_ERRORS_RETURN);
    } else {
        struct gwtf_join_place refusal = {.node = GWTF_NODE_NONE};
        snprintf(refusal.token, sizeof refusal.token, "%s", spawn->token);
        snprintf(refusal.why, sizeof refusal.why,
                 "mpirun cannot start a process on '%.60s': is it one of the run's hosts?",
                 spawn->host);
        gwtf_join_write_place(spawning->directory, &refusal, NULL);
    }
    free(spawning);
    return NULL;
}

static void start_spawn(void *context, const char *token) {
    const gwtf_door *door = context;
    pthread_t thread;
    struct spawning *spawning = calloc(1, sizeof *spawning);
    if (spawning == NULL)
        return;
    snprintf(spawning->directory, sizeof spawning->directory, "%s", door->directory);
    if (!gwtf_join_take_spawn(door->directory, token, &spawning->spawn) ||
        pthread_create(&thread, NULL, spawn_joiner, spawning) != 0)
        free(spawning);
    else
        pthread_detach(thread);
}

/* --- the recorder gives places --- */

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

static bool is_up(gwtf_door *door, gwtf_node_id node) {
    pthread_mutex_lock(&door->mutex);
    bool up = node < door->config.charter->members_count && !door->members[node].down;
    pthread_mutex_unlock(&door->mutex);
    return up;
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
    bool has_entered = is_there && is_up(door, place.node);
    if (is_there && !has_entered)
        strike_lost(door, &place);
    if (is_there)
        free(place.members);
    bool is_over = gwtf_clock_now_us() - door->awaited_us >= GUEST_WAIT_US;
    if (is_there && !has_entered && !has_ended && !is_over)
        return;
    if (is_there)
        gwtf_join_remove_place(door->directory, door->awaited);
    door->awaited[0] = '\0';
}

static void look(gwtf_door *door) {
    gwtf_join_each(door->directory, "place", serve, door);
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

/* True when the door is to be closed. */
static bool wait_for_end(gwtf_door *door) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)LOOK_INTERVAL_US * 1000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&door->mutex);
    if (!door->ends)
        pthread_cond_timedwait(&door->ended, &door->mutex, &until);
    bool ends = door->ends;
    pthread_mutex_unlock(&door->mutex);
    return ends;
}

static void *keep(void *argument) {
    gwtf_door *door = argument;
    while (!wait_for_end(door))
        look(door);
    return NULL;
}

gwtf_status gwtf_door_create(const struct gwtf_door_config *config, gwtf_door **door) {
    const struct gwtf_charter *charter = config->charter;
    gwtf_door *made = calloc(1, sizeof *made);
    if (made == NULL)
        return GWTF_ERROR_MEMORY;
    made->config = *config;
    snprintf(made->directory, sizeof made->directory, "%s", config->directory);
    gwtf_machine_name(made->host, sizeof made->host);
    made->members = calloc(charter->members_count, sizeof *made->members);
    made->stage_utilisation = calloc(GWTF_STAGES_MAX, sizeof *made->stage_utilisation);
    pthread_mutex_init(&made->mutex, NULL);
    pthread_cond_init(&made->ended, NULL);
    if (made->members == NULL || made->stage_utilisation == NULL ||
        pthread_create(&made->thread, NULL, keep, made) != 0) {
        free(made->members);
        free(made->stage_utilisation);
        free(made);
        return GWTF_ERROR_MEMORY;
    }
    *door = made;
    return GWTF_OK;
}

void gwtf_door_destroy(gwtf_door *door) {
    if (door == NULL)
        return;
    pthread_mutex_lock(&door->mutex);
    door->ends = true;
    pthread_cond_signal(&door->ended);
    pthread_mutex_unlock(&door->mutex);
    pthread_join(door->thread, NULL);
    /* Services that wait still refer to it: it goes with the process. */
}

void gwtf_door_tell(gwtf_door *door, const struct gwtf_door_news *news) {
    pthread_mutex_lock(&door->mutex);
    door->is_recorder = news->is_recorder;
    memcpy(door->members, news->members,
           door->config.charter->members_count * sizeof *door->members);
    memcpy(door->stage_utilisation, news->stage_utilisation,
           GWTF_STAGES_MAX * sizeof *door->stage_utilisation);
    pthread_mutex_unlock(&door->mutex);
}

bool gwtf_door_next(gwtf_door *door, struct gwtf_door_guest *guest) {
    pthread_mutex_lock(&door->mutex);
    bool any = door->guests_count > 0;
    if (any) {
        *guest = door->guests[0];
        door->guests_count--;
        memmove(door->guests, door->guests + 1, door->guests_count * sizeof *door->guests);
    }
    pthread_mutex_unlock(&door->mutex);
    return any;
}
