#include "worker/runtime/place.h"

#include <stdio.h>

/* Stages whose utilisation differs by less are as busy. */
#define AS_BUSY 0.05

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

static uint32_t count_living(const struct gwtf_place_run *run, uint32_t stage) {
    uint32_t living = 0;
    for (uint32_t i = 0; i < run->members_count; i++)
        living += run->members[i].stage == stage && !run->members[i].down;
    return living;
}

static bool is_needier(const struct gwtf_place_run *run, uint32_t stage, uint32_t other) {
    double difference = run->stage_utilisation[stage - 1] - run->stage_utilisation[other - 1];
    if (difference > AS_BUSY || difference < -AS_BUSY)
        return difference > 0;
    return count_living(run, stage) < count_living(run, other);
}

static uint32_t count_stages(const struct gwtf_place_run *run) {
    uint32_t stages = 0;
    for (uint32_t i = 0; i < run->members_count; i++)
        if (run->members[i].stage > stages)
            stages = run->members[i].stage;
    return stages;
}

struct gwtf_place_choice gwtf_place_choose(const struct gwtf_place_run *run, uint32_t wished) {
    struct gwtf_place_choice choice = {.node = GWTF_NODE_NONE};
    uint32_t stages = count_stages(run);
    for (uint32_t stage = 1; stage <= stages; stage++) {
        if ((wished != 0 && stage != wished) || free_place(run, stage) == GWTF_NODE_NONE)
            continue;
        if (choice.stage == 0 || is_needier(run, stage, choice.stage))
            choice.stage = stage;
    }
    if (choice.stage == 0) {
        if (wished > stages)
            snprintf(choice.why, sizeof choice.why, "the run has stages 1 to %u only", stages);
        else
            snprintf(choice.why, sizeof choice.why,
                     "no place is free%s: run.places of the run's configuration says how many "
                     "there are",
                     wished != 0 ? " in this stage" : "");
        return choice;
    }
    choice.node = free_place(run, choice.stage);
    choice.incarnation = run->members[choice.node].incarnation;
    snprintf(choice.why, sizeof choice.why, "its %u nodes are busy for %.0f %% of the time",
             count_living(run, choice.stage), 100 * run->stage_utilisation[choice.stage - 1]);
    return choice;
}
