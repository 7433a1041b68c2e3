/*
 * What the recorder does for stages that hold the others up: at each report it looks whether a node
 * of another stage had better be there (worker/protocol/place.h), and tells that node to leave and
 * come again. Who was put into its stage by a person stays.
 */
#include "io/run.h"
#include "share/base/log.h"
#include "worker/runtime/clock.h"
#include "worker/runtime/door_state.h"

#include <stdio.h>
#include <stdlib.h>

/* As long as it takes: who moves is in no hurry. */
#define MOVE_NOTICE_S 86400.0

struct looking {
    const gwtf_door *door;
    bool *may_move;
    double *pace; /* by id; 0: not known */
};

static void note_member(void *context, const char *token) {
    const struct looking *looking = context;
    struct gwtf_join_place place;
    if (!gwtf_join_read_member(looking->door->directory, token, &place))
        return;
    free(place.members);
    if (place.node < looking->door->config.charter->members_count)
        looking->may_move[place.node] = !place.stays;
    if (place.node < looking->door->config.charter->members_count && place.block_seconds > 0)
        looking->pace[place.node] = 1 / place.block_seconds;
}

/* Those that were spawned with the run come again only where its nodes can spawn others, as
 * `gwtf join` of Open MPI 4.1 starts its own. */
static void note_first(const gwtf_door *door, bool *may_move) {
    const struct gwtf_config *run = door->config.run;
    gwtf_node_id relay = 0;
    for (size_t i = 0; i < run->nodes_count; i++)
        relay += run->nodes[i].role == GWTF_CONFIG_ROLE_DATA ? run->nodes[i].count : 0;
    for (size_t i = 0; i < run->nodes_count; i++) {
        const struct gwtf_config_node *entry = &run->nodes[i];
        if (entry->role == GWTF_CONFIG_ROLE_DATA)
            continue;
        for (uint32_t k = 0; k < entry->count; k++)
            may_move[relay++] = entry->stage == 0 && OMPI_MAJOR_VERSION >= 5;
    }
}

static bool advise(gwtf_door *door, const struct looking *looking, struct gwtf_place_move *move) {
    double paces[GWTF_STAGES_MAX];
    const struct gwtf_charter *charter = door->config.charter;
    uint32_t waiting = door_count_waiting(door) + (door->awaited[0] != '\0');
    pthread_mutex_lock(&door->mutex);
    door_measure_stages(door, paces);
    struct gwtf_place_run run = {.members = door->members,
                                 .members_count = charter->members_count,
                                 .first_place = charter->first_place,
                                 .stage_busy = door->stage_busy,
                                 .stage_pace = paces,
                                 .member_pace = looking->pace,
                                 .waiting = door->moves.is_under_way ? 0 : waiting};
    struct gwtf_place_report report = {.iteration = door->reported,
                                       .duration_us = door->duration_us,
                                       .now_us = gwtf_clock_now_us(),
                                       .may_move = looking->may_move};
    bool advises = gwtf_place_advise(&door->moves, &run, &report, move);
    pthread_mutex_unlock(&door->mutex);
    return advises;
}

static void look_for_move(gwtf_door *door, struct looking *looking, uint32_t reported) {
    struct gwtf_place_move move;
    note_first(door, looking->may_move);
    gwtf_join_each(door->directory, "member", note_member, looking);
    if (advise(door, looking, &move)) {
        struct gwtf_leave leave = {.notice_s = MOVE_NOTICE_S, .stage = move.to};
        char why[160];
        if (move.is_back)
            snprintf(why, sizeof why,
                     "iterations take longer since a node went from stage %u to %u: one goes back",
                     move.to, move.from);
        else
            snprintf(
                why, sizeof why,
                "stage %u holds the others up: with one node more there, and one less in stage "
                "%u, an iteration takes about %.0f %% less",
                move.to, move.from, 100 * move.saves);
        gwtf_log(GWTF_LOG_DEBUG, "node %u is to move: %s", move.node, why);
        gwtf_run_append_event(door->directory, "moves", reported, move.node, why, NULL);
        gwtf_run_request_leave(door->directory, move.node, &leave, NULL);
    }
}

/* Who leaves could not come again. */
static bool is_closed(const gwtf_door *door) {
    char why[256];
    gwtf_join_read_closed(door->directory, why, sizeof why);
    return why[0] != '\0';
}

void door_move(gwtf_door *door) {
    pthread_mutex_lock(&door->mutex);
    bool is_news = door->is_recorder && door->reported != 0 && door->reported != door->looked_at;
    uint32_t reported = door->reported;
    pthread_mutex_unlock(&door->mutex);
    if (!is_news || !door->config.run->run.rebalance || is_closed(door))
        return;
    door->looked_at = reported;
    size_t members = door->config.charter->members_count;
    struct looking looking = {.door = door,
                              .may_move = calloc(members, sizeof *looking.may_move),
                              .pace = calloc(members, sizeof *looking.pace)};
    if (looking.may_move != NULL && looking.pace != NULL)
        look_for_move(door, &looking, reported);
    free(looking.may_move);
    free(looking.pace);
}
