#include "worker/runtime/door_state.h"

#include "worker/runtime/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOOK_INTERVAL_US 300000

MPI_Comm door_make_self(gwtf_door *door) {
    MPI_Comm self = MPI_COMM_NULL;
    if (MPI_Comm_dup(door->mother, &self) != MPI_SUCCESS)
        return MPI_COMM_NULL;
    MPI_Comm_set_errhandler(self, MPI_ERRORS_RETURN);
    return self;
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
    while (!wait_for_end(door)) {
        door_open_ports(door);
        door_answer_calls(door);
        door_give_places(door);
        door_move(door);
    }
    return NULL;
}

gwtf_status gwtf_door_create(const struct gwtf_door_config *config, gwtf_door **door) {
    const struct gwtf_charter *charter = config->charter;
    gwtf_door *made = calloc(1, sizeof *made);
    if (made == NULL)
        return GWTF_ERROR_MEMORY;
    made->config = *config;
    snprintf(made->directory, sizeof made->directory, "%s", config->directory);
    snprintf(made->token, sizeof made->token, "%s", config->token != NULL ? config->token : "");
    gwtf_machine_name(made->host, sizeof made->host);
    made->made_unix_s = time(NULL);
    if (MPI_Comm_dup(MPI_COMM_SELF, &made->mother) != MPI_SUCCESS)
        made->mother = MPI_COMM_SELF;
    made->members = calloc(charter->members_count, sizeof *made->members);
    made->stage_busy = calloc(GWTF_STAGES_MAX, sizeof *made->stage_busy);
    made->met = calloc(charter->members_count, sizeof *made->met);
    made->called = calloc(charter->members_count, sizeof *made->called);
    pthread_mutex_init(&made->mutex, NULL);
    pthread_cond_init(&made->ended, NULL);
    bool good = made->members && made->stage_busy && made->met && made->called;
    if (good)
        door_note_first(made);
    if (!good || pthread_create(&made->thread, NULL, keep, made) != 0) {
        free(made->members);
        free(made->stage_busy);
        free(made->met);
        free(made->called);
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
    /* Meetings that wait still refer to it: it goes with the process. */
}

void gwtf_door_tell(gwtf_door *door, const struct gwtf_door_news *news) {
    pthread_mutex_lock(&door->mutex);
    door->is_recorder = news->is_recorder;
    memcpy(door->members, news->members,
           door->config.charter->members_count * sizeof *door->members);
    memcpy(door->stage_busy, news->stage_busy, GWTF_STAGES_MAX * sizeof *door->stage_busy);
    door->reported = news->reported;
    door->duration_us = news->duration_us;
    door->mean_us = news->mean_us;
    door->microbatches = news->microbatches;
    pthread_mutex_unlock(&door->mutex);
}

void gwtf_door_call(gwtf_door *door) {
    pthread_mutex_lock(&door->mutex);
    door->calls = true;
    door->has_all = false;
    pthread_mutex_unlock(&door->mutex);
}

bool gwtf_door_has_all(gwtf_door *door) {
    pthread_mutex_lock(&door->mutex);
    bool has_all = door->has_all && door->guests_count == 0;
    pthread_mutex_unlock(&door->mutex);
    return has_all;
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
