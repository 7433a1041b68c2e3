/* Which place who joins gets, and who moves to another stage. */
#include "share/base/random.h"
#include "tests/support/suite.h"
#include "worker/protocol/place.h"

#include <string.h>

/* A data node, relays 1 and 2 of stage 1, 3 of stage 2; places 4 and 5 of stage 1, 6 and 7 of 2. */
static const struct gwtf_member_view members_at_first[] = {
    {0, 0, false, 1}, {1, 1, false, 1}, {2, 1, false, 1}, {3, 2, false, 1},
    {4, 1, true, 1},  {5, 1, true, 1},  {6, 2, true, 1},  {7, 2, true, 1},
};

struct run {
    struct gwtf_member_view members[8];
    double busy[2];
    struct gwtf_place_run run;
};

static void begin(struct run *run) {
    for (size_t i = 0; i < 8; i++)
        run->members[i] = members_at_first[i];
    run->busy[0] = 1;
    run->busy[1] = 0.5;
    run->run = (struct gwtf_place_run){.members = run->members,
                                       .members_count = 8,
                                       .first_place = 4,
                                       .stage_busy = run->busy,
                                       .waiting = 1};
}

static void the_busiest_stage_gets_the_node(void) {
    struct run run;
    begin(&run);
    run.busy[0] = 1.8; /* by two nodes */
    CU_ASSERT_EQUAL(gwtf_place_choose(&run.run, 0).node, 4);
    run.busy[1] = 0.99;
    CU_ASSERT_EQUAL(gwtf_place_choose(&run.run, 0).node, 6);
}

static void of_stages_as_busy_the_smaller_one_gets_it(void) {
    struct run run;
    begin(&run);
    struct gwtf_place_choice choice = gwtf_place_choose(&run.run, 0);
    CU_ASSERT_EQUAL(choice.node, 6);
    CU_ASSERT_EQUAL(choice.stage, 2);
    run.busy[0] = run.busy[1] = 0; /* before there are figures */
    CU_ASSERT_EQUAL(gwtf_place_choose(&run.run, 0).node, 6);
    run.members[6].down = run.members[7].down = false;
    CU_ASSERT_EQUAL(gwtf_place_choose(&run.run, 0).node, 4);
}

static void a_data_node_is_one_only_when_it_is_told_to(void) {
    struct run run;
    begin(&run);
    CU_ASSERT_EQUAL(gwtf_place_choose(&run.run, GWTF_PLACE_DATA_NODE).node, GWTF_NODE_NONE);
    run.members[5].stage = run.members[7].stage = 0;
    run.members[7].incarnation = 4;
    struct gwtf_place_choice choice = gwtf_place_choose(&run.run, GWTF_PLACE_DATA_NODE);
    CU_ASSERT_EQUAL(choice.node, 5);
    CU_ASSERT_EQUAL(choice.stage, 0);
    CU_ASSERT_EQUAL(choice.nodes, 1);
    run.members[5].down = false;
    choice = gwtf_place_choose(&run.run, GWTF_PLACE_DATA_NODE);
    CU_ASSERT_EQUAL(choice.node, 7);
    CU_ASSERT_EQUAL(choice.incarnation, 4);
    CU_ASSERT_EQUAL(choice.nodes, 2);
    run.members[4].down = run.members[6].down = false;
    CU_ASSERT_EQUAL(gwtf_place_choose(&run.run, 0).node, GWTF_NODE_NONE);
}

/* The figures are still those of the report before the first one came. */
static void those_that_come_at_once_are_spread(void) {
    struct run run;
    begin(&run);
    run.busy[0] = 1.8;
    run.busy[1] = 0.85;
    run.run.waiting = 3;
    uint32_t got[3] = {0};
    for (; run.run.waiting > 0; run.run.waiting--) {
        struct gwtf_place_choice choice = gwtf_place_choose(&run.run, 0);
        CU_ASSERT_NOT_EQUAL_FATAL(choice.node, GWTF_NODE_NONE);
        got[choice.stage]++;
        run.members[choice.node].down = false;
    }
    CU_ASSERT_EQUAL(got[1], 2);
    CU_ASSERT_EQUAL(got[2], 1);
}

/* Of a fast and a slow one, stage 1 needs the fast one, wherever the slow one waits. */
static void how_fast_nodes_are_counts(void) {
    struct run run;
    begin(&run);
    double stages[] = {4, 2}, waiting[] = {1, 8};
    run.run.stage_pace = stages;
    run.run.waiting_pace = waiting;
    run.run.waiting = 2;
    run.busy[0] = 1.8; /* of two */
    run.busy[1] = 0.95;
    struct gwtf_place_choice choice = gwtf_place_choose(&run.run, 0);
    CU_ASSERT_EQUAL(choice.stage, 2);
    CU_ASSERT_DOUBLE_EQUAL(choice.speed, 0.5, 1e-9);
    waiting[0] = 8;
    waiting[1] = 1;
    CU_ASSERT_EQUAL(gwtf_place_choose(&run.run, 0).stage, 1);
    run.run.waiting_pace = NULL;
    CU_ASSERT_EQUAL(gwtf_place_choose(&run.run, 0).speed, 0);
}

static void a_place_that_nobody_has_had_comes_first(void) {
    struct run run;
    begin(&run);
    run.members[6].incarnation = 17; /* somebody was there */
    struct gwtf_place_choice choice = gwtf_place_choose(&run.run, 2);
    CU_ASSERT_EQUAL(choice.node, 7);
    CU_ASSERT_EQUAL(choice.incarnation, 1);
    run.members[7].down = false;
    choice = gwtf_place_choose(&run.run, 2);
    CU_ASSERT_EQUAL(choice.node, 6);
    CU_ASSERT_EQUAL(choice.incarnation, 17);
}

/* Those that were spawned and are lost leave none: they may come back. */
static void there_may_be_no_place(void) {
    struct run run;
    begin(&run);
    run.members[3].down = true;
    run.members[6].down = run.members[7].down = false;
    CU_ASSERT_EQUAL(gwtf_place_choose(&run.run, 2).node, GWTF_NODE_NONE);
    CU_ASSERT_EQUAL(gwtf_place_choose(&run.run, 3).node, GWTF_NODE_NONE);
    CU_ASSERT_EQUAL(gwtf_place_choose(&run.run, 0).node, 4);
    run.members[4].down = run.members[5].down = false;
    CU_ASSERT_EQUAL(gwtf_place_choose(&run.run, 0).node, GWTF_NODE_NONE);
}

/* --- moves --- */

#define TICK_US 1000000

struct mover {
    struct run of;
    struct gwtf_place_moves moves;
    bool may_move[8];
    uint32_t iteration;
    int64_t duration_us;
    struct gwtf_place_move move;
};

/* Stage 1 has three nodes, the last of them at a place; stage 2 has one, which does as much. */
static void begin_mover(struct mover *mover) {
    memset(mover, 0, sizeof *mover);
    begin(&mover->of);
    mover->of.members[4].down = false;
    mover->of.members[4].incarnation = 7;
    mover->of.busy[0] = mover->of.busy[1] = 0.9;
    mover->of.run.waiting = 0;
    mover->duration_us = TICK_US;
    memset(mover->may_move, 1, sizeof mover->may_move);
}

static bool advise(struct mover *mover) {
    struct gwtf_place_report report = {.iteration = ++mover->iteration,
                                       .now_us = (gwtf_time_us)mover->iteration * TICK_US,
                                       .duration_us = mover->duration_us,
                                       .may_move = mover->may_move};
    return gwtf_place_advise(&mover->moves, &mover->of.run, &report, &mover->move);
}

/* After how many reports a move is advised; 0: within 300 none is. */
static uint32_t reports_until_move(struct mover *mover) {
    for (uint32_t i = 1; i <= 300; i++)
        if (advise(mover))
            return i;
    return 0;
}

static void an_over_full_stage_gives_its_last_node(void) {
    struct mover mover;
    begin_mover(&mover);
    uint32_t reports = reports_until_move(&mover);
    CU_ASSERT_EQUAL(reports, GWTF_PLACE_CALM + GWTF_PLACE_REPORTS);
    CU_ASSERT_EQUAL(mover.move.node, 4);
    CU_ASSERT_EQUAL(mover.move.from, 1);
    CU_ASSERT_EQUAL(mover.move.to, 2);
    CU_ASSERT_DOUBLE_EQUAL(mover.move.saves, 0.45, 1e-9);
}

static void nobody_moves_for_little_or_without_leave(void) {
    struct mover mover;
    begin_mover(&mover);
    mover.of.busy[1] = 0.35; /* of stage 1, each node is busy for 0.3 */
    CU_ASSERT_EQUAL(reports_until_move(&mover), 0);
    begin_mover(&mover);
    memset(mover.may_move, 0, sizeof mover.may_move);
    CU_ASSERT_EQUAL(reports_until_move(&mover), 0);
    mover.may_move[1] = true;
    CU_ASSERT_NOT_EQUAL(reports_until_move(&mover), 0);
    CU_ASSERT_EQUAL(mover.move.node, 1);
    begin_mover(&mover);
    mover.of.run.waiting = 1; /* somebody comes */
    CU_ASSERT_EQUAL(reports_until_move(&mover), 0);
    begin_mover(&mover);
    mover.of.members[1].down = mover.of.members[2].down = true; /* the last one stays */
    CU_ASSERT_EQUAL(reports_until_move(&mover), 0);
    begin_mover(&mover);
    mover.of.members[6].down = mover.of.members[7].down = false; /* there is no place */
    mover.of.busy[1] = 2.7;
    CU_ASSERT_EQUAL(reports_until_move(&mover), 0);
}

static void a_slow_node_does_not_leave_for_little(void) {
    struct mover mover;
    double stages[] = {1, 1}, members[8] = {[4] = 0.1};
    begin_mover(&mover);
    mover.of.run.stage_pace = stages;
    mover.of.run.member_pace = members;
    CU_ASSERT_EQUAL(reports_until_move(&mover), 0);
    members[4] = 1;
    CU_ASSERT_NOT_EQUAL(reports_until_move(&mover), 0);
    begin_mover(&mover);
    mover.of.run.stage_pace = stages;
    mover.of.run.member_pace = members;
    members[4] = 2.9; /* it says */
    CU_ASSERT_NOT_EQUAL(reports_until_move(&mover), 0);
}

static void single_reports_that_differ_make_nobody_move(void) {
    struct mover mover;
    begin_mover(&mover);
    for (uint32_t i = 0; i < 200; i++) {
        mover.of.busy[1] = i % 10 == 5 ? 0.9 : 0.35;
        CU_ASSERT_FALSE(advise(&mover));
    }
}

static void nobody_moves_while_one_does_nor_back(void) {
    struct mover mover;
    begin_mover(&mover);
    CU_ASSERT_NOT_EQUAL_FATAL(reports_until_move(&mover), 0);
    for (uint32_t i = 0; i < GWTF_PLACE_MOVE; i++)
        CU_ASSERT_FALSE(advise(&mover));
    mover.of.members[4].down = true;
    CU_ASSERT_FALSE(advise(&mover));
    CU_ASSERT_TRUE(mover.moves.is_under_way);
    mover.of.members[6].down = false;
    CU_ASSERT_FALSE(advise(&mover));
    CU_ASSERT_FALSE(mover.moves.is_under_way);
    /* It was a mistake, or so it seems: nobody goes back for it. */
    mover.of.busy[0] = 1.9;
    mover.of.busy[1] = 0.4;
    CU_ASSERT_EQUAL(reports_until_move(&mover), 0);
    /* Until somebody else comes or goes. */
    mover.of.members[1].down = true;
    CU_ASSERT_NOT_EQUAL(reports_until_move(&mover), 0);
    CU_ASSERT_EQUAL(mover.move.from, 2);
}

static void arrive(struct mover *mover) {
    mover->of.members[4].down = true;
    CU_ASSERT_FALSE(advise(mover));
    mover->of.members[6].down = false;
    mover->of.members[6].incarnation = 19;
}

static void who_makes_iterations_longer_goes_back(void) {
    struct mover mover;
    begin_mover(&mover);
    CU_ASSERT_NOT_EQUAL_FATAL(reports_until_move(&mover), 0);
    arrive(&mover);
    mover.duration_us = TICK_US * 11 / 10;
    uint32_t reports = reports_until_move(&mover);
    CU_ASSERT_TRUE(reports >= GWTF_PLACE_MEAN && reports <= GWTF_PLACE_MEAN + 2);
    CU_ASSERT_TRUE(mover.move.is_back);
    CU_ASSERT_EQUAL(mover.move.node, 6);
    CU_ASSERT_EQUAL(mover.move.to, 1);
    mover.of.members[6].down = true;
    CU_ASSERT_FALSE(advise(&mover));
    mover.of.members[4].down = false;
    mover.duration_us = TICK_US;
    /* It is not tried again soon, though the figures say what they said. */
    for (uint32_t i = 0; i < 2 * GWTF_PLACE_FORGET_US / TICK_US / 300 - 1; i++)
        CU_ASSERT_EQUAL(reports_until_move(&mover), 0);
    CU_ASSERT_TRUE(reports_until_move(&mover) > 0 || reports_until_move(&mover) > 0);
}

static void who_makes_them_shorter_stays(void) {
    struct mover mover;
    begin_mover(&mover);
    CU_ASSERT_NOT_EQUAL_FATAL(reports_until_move(&mover), 0);
    arrive(&mover);
    mover.duration_us = TICK_US * 9 / 10;
    mover.of.busy[0] = mover.of.busy[1] = 0.9;
    for (uint32_t i = 0; i < GWTF_PLACE_MEAN + 2; i++)
        CU_ASSERT_FALSE(advise(&mover));
    mover.duration_us = TICK_US * 11 / 10; /* for another reason */
    CU_ASSERT_EQUAL(reports_until_move(&mover), 0);
}

static void who_is_lost_on_its_way_is_given_up(void) {
    struct mover mover;
    begin_mover(&mover);
    CU_ASSERT_NOT_EQUAL_FATAL(reports_until_move(&mover), 0);
    mover.of.members[4].down = true;
    mover.of.busy[0] = 0.5; /* of two */
    uint32_t reports = reports_until_move(&mover);
    CU_ASSERT_TRUE(reports >= GWTF_PLACE_MOVE_US / TICK_US);
    CU_ASSERT_EQUAL(mover.move.node, 2);
}

/*
 * Runs of which nothing else is known than what the reports say: nodes of other speeds, figures
 * that shake, nodes that come and go. Nobody goes to and fro, and when nothing changes any more
 * all stay.
 */
#define FLEET 24u
#define STAGES 4u

struct fleet {
    struct gwtf_random random;
    struct gwtf_member_view members[FLEET * STAGES];
    bool may_move[FLEET * STAGES];
    double speed[FLEET * STAGES], work[STAGES], busy[STAGES];
    int64_t duration_us;
    uint32_t moves_since[STAGES + 1][STAGES + 1]; /* from, to; since others came or went */
};

static uint32_t below(struct fleet *fleet, uint32_t bound) {
    return (uint32_t)gwtf_random_below(&fleet->random, bound);
}

/* Microbatches of an iteration take as long as the slowest stage, and figures shake by a tenth. */
static void measure(struct fleet *fleet) {
    double speed[STAGES] = {0}, slowest = 0;
    uint32_t living[STAGES] = {0};
    for (uint32_t i = 0; i < FLEET * STAGES; i++) {
        if (fleet->members[i].down)
            continue;
        speed[fleet->members[i].stage - 1] += fleet->speed[i];
        living[fleet->members[i].stage - 1]++;
    }
    for (uint32_t s = 0; s < STAGES; s++)
        if (living[s] > 0 && fleet->work[s] / speed[s] > slowest)
            slowest = fleet->work[s] / speed[s];
    fleet->duration_us = (int64_t)(slowest * 1e6);
    for (uint32_t s = 0; s < STAGES; s++) {
        double shake = 0.95 + 0.1 * below(fleet, 1000) / 1000.0;
        fleet->busy[s] =
            living[s] > 0 ? living[s] * fleet->work[s] / speed[s] / slowest * shake : 0;
    }
}

static uint32_t count_in(const struct fleet *fleet, uint32_t stage) {
    uint32_t living = 0;
    for (uint32_t i = 0; i < FLEET * STAGES; i++)
        living += fleet->members[i].stage == stage && !fleet->members[i].down;
    return living;
}

static void come_or_go(struct fleet *fleet) {
    uint32_t node = below(fleet, FLEET * STAGES);
    struct gwtf_member_view *member = &fleet->members[node];
    if (!member->down && count_in(fleet, member->stage) < 2)
        return;
    member->down = !member->down;
    fleet->speed[node] = 0.5 + below(fleet, 1000) / 500.0;
    memset(fleet->moves_since, 0, sizeof fleet->moves_since);
}

static void begin_fleet(struct fleet *fleet, uint64_t seed) {
    memset(fleet, 0, sizeof *fleet);
    gwtf_random_init(&fleet->random, seed);
    for (uint32_t i = 0; i < FLEET * STAGES; i++) {
        uint32_t at = i / STAGES;
        fleet->members[i] = (struct gwtf_member_view){
            .node = i, .stage = i % STAGES + 1, .down = at > 0 && (at > 5 || below(fleet, 2) == 0)};
        fleet->may_move[i] = true;
        fleet->speed[i] = 0.5 + below(fleet, 1000) / 500.0;
    }
    for (uint32_t s = 0; s < STAGES; s++)
        fleet->work[s] = 1 + below(fleet, 4);
}

static void carry_out(struct fleet *fleet, const struct gwtf_place_move *move) {
    uint32_t(*since)[STAGES + 1] = fleet->moves_since;
    if (move->is_back) {
        CU_ASSERT_TRUE(since[move->to][move->from] > 0);
        since[move->to][move->from] = 0;
    } else {
        since[move->from][move->to]++;
        for (uint32_t from = 1; from <= STAGES; from++)
            CU_ASSERT_TRUE(since[move->to][from] == 0 && since[from][move->from] == 0);
    }
    fleet->members[move->node].down = true;
    for (uint32_t i = 0; i < FLEET * STAGES; i++) {
        if (fleet->members[i].stage != move->to || !fleet->members[i].down)
            continue;
        fleet->members[i].down = false;
        fleet->speed[i] = fleet->speed[move->node];
        return;
    }
}

/* Who is near the bound may cross it late, once, and go back. */
static void run_fleet(uint64_t seed) {
    struct fleet fleet;
    struct gwtf_place_moves moves = {0};
    begin_fleet(&fleet, seed);
    uint32_t late = 0;
    bool moved = false; /* just now: who comes or goes with it looks like a part of it */
    for (uint32_t iteration = 1; iteration <= 600; iteration++) {
        if (iteration < 300 && !moved && below(&fleet, 40) == 0)
            come_or_go(&fleet);
        measure(&fleet);
        struct gwtf_place_run run = {
            .members = fleet.members, .members_count = FLEET * STAGES, .stage_busy = fleet.busy};
        struct gwtf_place_report report = {.iteration = iteration,
                                           .now_us = (gwtf_time_us)iteration * TICK_US,
                                           .duration_us = fleet.duration_us,
                                           .may_move = fleet.may_move};
        struct gwtf_place_move move;
        moved = gwtf_place_advise(&moves, &run, &report, &move);
        if (!moved)
            continue;
        carry_out(&fleet, &move);
        late += iteration > 450;
    }
    CU_ASSERT_TRUE(late <= 2);
}

static void nobody_goes_to_and_fro(void) {
    for (uint64_t seed = 1; seed <= 300; seed++)
        run_fleet(seed);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(the_busiest_stage_gets_the_node),
        GWTF_TEST(of_stages_as_busy_the_smaller_one_gets_it),
        GWTF_TEST(a_data_node_is_one_only_when_it_is_told_to),
        GWTF_TEST(those_that_come_at_once_are_spread),
        GWTF_TEST(how_fast_nodes_are_counts),
        GWTF_TEST(a_place_that_nobody_has_had_comes_first),
        GWTF_TEST(there_may_be_no_place),
        GWTF_TEST(an_over_full_stage_gives_its_last_node),
        GWTF_TEST(nobody_moves_for_little_or_without_leave),
        GWTF_TEST(a_slow_node_does_not_leave_for_little),
        GWTF_TEST(single_reports_that_differ_make_nobody_move),
        GWTF_TEST(nobody_moves_while_one_does_nor_back),
        GWTF_TEST(who_makes_iterations_longer_goes_back),
        GWTF_TEST(who_makes_them_shorter_stays),
        GWTF_TEST(who_is_lost_on_its_way_is_given_up),
        GWTF_TEST(nobody_goes_to_and_fro),
    };
    return gwtf_suite_main(argc, argv, "place", tests, sizeof tests / sizeof tests[0], NULL, NULL);
}
