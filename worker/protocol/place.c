#include "worker/protocol/place.h"

#include "flow/arrival.h"

#include <math.h>
#include <string.h>

/* Nodes that are idle for nearly all of the time are as good as equal: what the figures say of them
 * is mostly chance, and more nodes are the better choice. So much of a node counts as busy besides.
 */
#define IDLE 0.25
/* So many of those that wait are thought of at once; more take long where there are many stages. */
#define WAITING_MAX 5u
/* So often the time until a mistake is forgotten doubles. */
#define MISTAKES_MAX 6u

/* A place of STAGE that is free, or GWTF_NODE_NONE. */
static gwtf_node_id free_place(const struct gwtf_place_run *run, uint32_t stage) {
    gwtf_node_id best = GWTF_NODE_NONE;
    for (uint32_t i = run->first_place; i < run->members_count; i++) {
        const struct gwtf_member_view *member = &run->members[i];
        if (member->stage != stage || !member->down)
            continue;
        if (best == GWTF_NODE_NONE || member->incarnation < run->members[best].incarnation)
            best = i;
    }
    return best;
}

static uint32_t count_free(const struct gwtf_place_run *run, uint32_t stage) {
    uint32_t count = 0;
    for (uint32_t i = run->first_place; i < run->members_count; i++)
        count += run->members[i].stage == stage && run->members[i].down;
    return count;
}

static uint32_t count_living(const struct gwtf_place_run *run, uint32_t stage) {
    uint32_t living = 0;
    for (uint32_t i = 0; i < run->members_count; i++)
        living += run->members[i].stage == stage && !run->members[i].down;
    return living;
}

static uint32_t count_stages(const struct gwtf_place_run *run) {
    uint32_t stages = 0;
    for (uint32_t i = 0; i < run->members_count; i++)
        if (run->members[i].stage > stages)
            stages = run->members[i].stage;
    return stages;
}

/* --- who comes --- */

static double pace_of(const double *paces, uint32_t i) {
    return paces != NULL ? paces[i] : 0;
}

/* Of all stages whose pace is known; 1 where none is. */
static double mean_pace(const struct gwtf_place_run *run, uint32_t stages) {
    double sum = 0;
    uint32_t known = 0;
    for (uint32_t stage = 1; stage <= stages; stage++) {
        double pace = pace_of(run->stage_pace, stage - 1);
        sum += pace;
        known += pace > 0;
    }
    return known > 0 ? sum / known : 1;
}

static double known_pace(const double *paces, uint32_t i, double otherwise) {
    double pace = pace_of(paces, i);
    return pace > 0 ? pace : otherwise;
}

/* Where the first of those that wait is to go; 0: nowhere. */
static uint32_t stage_in_need(const struct gwtf_place_run *run, uint32_t stages) {
    double mean = mean_pace(run, stages);
    struct gwtf_arrival_stage at[GWTF_STAGES_MAX];
    struct gwtf_arrival_candidate candidates[WAITING_MAX];
    struct gwtf_arrival arrivals[GWTF_ARRIVALS_MAX];
    uint32_t waiting = run->waiting < WAITING_MAX ? run->waiting : WAITING_MAX;
    for (uint32_t stage = 1; stage <= stages; stage++) {
        uint32_t living = count_living(run, stage);
        double pace = known_pace(run->stage_pace, stage - 1, mean),
               busy = run->stage_busy[stage - 1];
        at[stage - 1] = (struct gwtf_arrival_stage){.capacity = living,
                                                    .places = count_free(run, stage),
                                                    .work = busy > 0 ? pace * (busy + IDLE) : 0,
                                                    .speed = pace * living};
    }
    for (uint32_t i = 0; i < waiting; i++)
        candidates[i] = (struct gwtf_arrival_candidate){
            .capacity = 1, .speed = known_pace(run->waiting_pace, i, mean)};
    struct gwtf_arrival_run arrival = {.stages = stages, .stage = at};
    uint32_t count = gwtf_arrival_choose(&arrival, candidates, waiting, waiting, arrivals);
    for (uint32_t i = 0; i < count; i++)
        if (arrivals[i].candidate == 0)
            return arrivals[i].stage;
    return count > 0 ? arrivals[0].stage : 0;
}

struct gwtf_place_choice gwtf_place_choose(const struct gwtf_place_run *run, uint32_t wished) {
    struct gwtf_place_choice choice = {.node = GWTF_NODE_NONE, .stages = count_stages(run)};
    bool is_data_node = wished == GWTF_PLACE_DATA_NODE;
    choice.stage = wished != 0 ? wished : stage_in_need(run, choice.stages);
    if (is_data_node)
        choice.stage = 0;
    if (is_data_node || choice.stage != 0)
        choice.node = free_place(run, choice.stage);
    if (choice.node == GWTF_NODE_NONE) {
        choice.stage = 0;
        return choice;
    }
    choice.incarnation = run->members[choice.node].incarnation;
    choice.nodes = count_living(run, choice.stage);
    if (is_data_node)
        return choice;
    if (choice.nodes > 0)
        choice.load = run->stage_busy[choice.stage - 1] / choice.nodes;
    double pace = pace_of(run->stage_pace, choice.stage - 1);
    if (pace > 0 && run->waiting > 0)
        choice.speed = pace_of(run->waiting_pace, 0) / pace;
    return choice;
}

/* --- who moves --- */

/* The share of the time for which the nodes of the busiest stage are busy, when NODE of FROM is in
 * TO; FROM 0: as it is. */
static double load_after(const struct gwtf_place_moves *moves, const struct gwtf_place_run *run,
                         gwtf_node_id node, uint32_t from, uint32_t to) {
    uint32_t stages = count_stages(run);
    double most = 0, mean = mean_pace(run, stages), moved = 0;
    if (from != 0) {
        /* A node that measures itself when it is idle is faster than it will be: no more than the
         * mean of its stage is believed. */
        double others = known_pace(run->stage_pace, from - 1, mean);
        moved = fmin(known_pace(run->member_pace, node, others), others);
    }
    for (uint32_t stage = 1; stage <= stages; stage++) {
        double pace = known_pace(run->stage_pace, stage - 1, mean);
        double speed = pace * moves->living[stage], work = pace * moves->busy[stage - 1];
        if (stage == from)
            speed -= moved;
        if (stage == to)
            speed += moved;
        double load = speed > 0 ? work / speed : work > 0 ? INFINITY : 0;
        most = load > most ? load : most;
    }
    return most;
}

static bool are_known(const struct gwtf_place_moves *moves, uint32_t stages) {
    for (uint32_t stage = 1; stage <= stages; stage++)
        if (moves->living[stage] == 0 || moves->busy[stage - 1] <= 0)
            return false;
    return true;
}

/* Who came last goes first; GWTF_NODE_NONE: nobody may. */
static gwtf_node_id choose_mover(const struct gwtf_place_run *run, const bool *may_move,
                                 uint32_t stage) {
    gwtf_node_id best = GWTF_NODE_NONE;
    for (uint32_t i = 0; i < run->members_count; i++) {
        const struct gwtf_member_view *member = &run->members[i];
        if (member->stage != stage || member->down || !may_move[i])
            continue;
        if (best == GWTF_NODE_NONE || member->incarnation >= run->members[best].incarnation)
            best = i;
    }
    return best;
}

/* The move that saves most; false: none saves enough. */
static bool find_move(const struct gwtf_place_moves *moves, const struct gwtf_place_run *run,
                      const bool *may_move, struct gwtf_place_move *move) {
    uint32_t stages = count_stages(run);
    if (!are_known(moves, stages))
        return false;
    double now = load_after(moves, run, 0, 0, 0), least = now - GWTF_PLACE_GAIN;
    move->node = GWTF_NODE_NONE;
    for (uint32_t from = 1; from <= stages; from++) {
        gwtf_node_id node = choose_mover(run, may_move, from);
        if (moves->living[from] < 2 || moves->has_got[from] || node == GWTF_NODE_NONE)
            continue;
        for (uint32_t to = 1; to <= stages; to++) {
            if (to == from || moves->has_given[to] || free_place(run, to) == GWTF_NODE_NONE)
                continue;
            double after = load_after(moves, run, node, from, to);
            if (after > least)
                continue;
            least = after;
            *move = (struct gwtf_place_move){.node = node, .from = from, .to = to};
        }
    }
    move->saves = now - least;
    return move->node != GWTF_NODE_NONE;
}

/* True when the members have changed by no more than the move that is under way. */
static bool is_of_move(struct gwtf_place_moves *moves, const uint32_t *living, uint32_t stages) {
    bool left = moves->has_left, came = false;
    if (!moves->is_under_way)
        return false;
    for (uint32_t stage = 1; stage <= stages; stage++) {
        if (living[stage] == moves->living[stage])
            continue;
        if (stage == moves->from && !left && living[stage] + 1 == moves->living[stage])
            left = true;
        else if (stage == moves->to && living[stage] == moves->living[stage] + 1)
            came = true;
        else
            return false;
    }
    moves->has_left = left;
    moves->is_under_way = !came;
    moves->is_tried = came && !moves->is_back;
    return true;
}

/* What has become of the members since the last report. */
static void note_members(struct gwtf_place_moves *moves, const struct gwtf_place_run *run,
                         const struct gwtf_place_report *report) {
    uint32_t living[GWTF_STAGES_MAX + 1] = {0}, stages = count_stages(run);
    for (uint32_t stage = 1; stage <= stages; stage++)
        living[stage] = count_living(run, stage);
    if (memcmp(living, moves->living, sizeof living) == 0)
        return;
    if (!is_of_move(moves, living, stages)) {
        memset(moves->has_given, 0, sizeof moves->has_given);
        memset(moves->has_got, 0, sizeof moves->has_got);
        moves->is_tried = false;
    }
    memcpy(moves->living, living, sizeof living);
    moves->changed.iteration = report->iteration;
    moves->changed.us = report->now_us;
    moves->advised = 0;
    moves->seen = 0;
}

static void note_report(struct gwtf_place_moves *moves, const struct gwtf_place_run *run,
                        const struct gwtf_place_report *report) {
    uint32_t stages = count_stages(run);
    moves->seen += moves->seen < GWTF_PLACE_MEAN;
    if (moves->seen == 1)
        moves->mean_us = (double)report->duration_us;
    moves->mean_us += ((double)report->duration_us - moves->mean_us) / moves->seen;
    for (uint32_t stage = 1; stage <= stages; stage++) {
        double *busy = &moves->busy[stage - 1], now = run->stage_busy[stage - 1];
        *busy = moves->seen == 1 ? now : *busy + (now - *busy) / moves->seen;
    }
}

static bool is_calm(const struct gwtf_place_moves *moves, const struct gwtf_place_report *report) {
    return report->iteration - moves->changed.iteration >= GWTF_PLACE_CALM &&
           report->now_us - moves->changed.us >= GWTF_PLACE_CALM_US;
}

/* Times out what does not come about, and what was long ago. */
static void forget(struct gwtf_place_moves *moves, const struct gwtf_place_report *report) {
    if (report->iteration - moves->moved.iteration > GWTF_PLACE_MOVE &&
        report->now_us - moves->moved.us > GWTF_PLACE_MOVE_US)
        moves->is_under_way = false;
    if (moves->is_under_way || report->iteration - moves->moved.iteration <= GWTF_PLACE_FORGET ||
        report->now_us - moves->moved.us <= (int64_t)GWTF_PLACE_FORGET_US << moves->mistakes)
        return;
    memset(moves->has_given, 0, sizeof moves->has_given);
    memset(moves->has_got, 0, sizeof moves->has_got);
}

/* Whether the last move was a mistake; false also as long as nobody can say. */
static bool is_mistake(struct gwtf_place_moves *moves, const struct gwtf_place_run *run,
                       const bool *may_move, struct gwtf_place_move *move) {
    if (!moves->is_tried || moves->seen < GWTF_PLACE_MEAN)
        return false;
    moves->is_tried = false;
    if (moves->mean_us <= (double)moves->before_us * (1 + GWTF_PLACE_LOSS))
        return false;
    *move = (struct gwtf_place_move){.node = choose_mover(run, may_move, moves->to),
                                     .from = moves->to,
                                     .to = moves->from,
                                     .is_back = true};
    moves->mistakes += moves->mistakes < MISTAKES_MAX;
    return move->node != GWTF_NODE_NONE && free_place(run, move->to) != GWTF_NODE_NONE;
}

static void begin_move(struct gwtf_place_moves *moves, const struct gwtf_place_report *report,
                       const struct gwtf_place_move *move) {
    moves->advised = 0;
    moves->is_under_way = true;
    moves->is_back = move->is_back;
    moves->has_left = false;
    moves->from = move->from;
    moves->to = move->to;
    moves->before_us = (int64_t)moves->mean_us;
    moves->moved.iteration = report->iteration;
    moves->moved.us = report->now_us;
    moves->has_given[move->from] = true;
    moves->has_got[move->to] = true;
}

bool gwtf_place_advise(struct gwtf_place_moves *moves, const struct gwtf_place_run *run,
                       const struct gwtf_place_report *report, struct gwtf_place_move *move) {
    note_members(moves, run, report);
    note_report(moves, run, report);
    forget(moves, report);
    if (run->waiting == 0 && !moves->is_under_way && is_calm(moves, report) &&
        is_mistake(moves, run, report->may_move, move)) {
        begin_move(moves, report, move);
        return true;
    }
    if (run->waiting > 0 || moves->is_tried || moves->is_under_way || !is_calm(moves, report) ||
        !find_move(moves, run, report->may_move, move)) {
        moves->advised = 0;
        return false;
    }
    bool is_same = moves->advised > 0 && moves->from == move->from && moves->to == move->to;
    moves->advised = is_same ? moves->advised + 1 : 1;
    moves->from = move->from;
    moves->to = move->to;
    if (moves->advised < GWTF_PLACE_REPORTS)
        return false;
    begin_move(moves, report, move);
    return true;
}
