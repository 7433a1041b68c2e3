/* Which place who joins gets. */
#include "tests/support/suite.h"
#include "worker/runtime/place.h"

/* A data node, relays 1 and 2 of stage 1, 3 of stage 2; places 4 and 5 of stage 1, 6 and 7 of 2. */
static const struct gwtf_member_view members_at_first[] = {
    {0, 0, false, 1}, {1, 1, false, 1}, {2, 1, false, 1}, {3, 2, false, 1},
    {4, 1, true, 1},  {5, 1, true, 1},  {6, 2, true, 1},  {7, 2, true, 1},
};

struct run {
    struct gwtf_member_view members[8];
    double utilisation[2];
    struct gwtf_place_run run;
};

static void begin(struct run *run) {
    for (size_t i = 0; i < 8; i++)
        run->members[i] = members_at_first[i];
    run->utilisation[0] = run->utilisation[1] = 0.5;
    run->run = (struct gwtf_place_run){.members = run->members,
                                       .members_count = 8,
                                       .first_place = 4,
                                       .stage_utilisation = run->utilisation};
}

static void the_busiest_stage_gets_the_node(void) {
    struct run run;
    begin(&run);
    run.utilisation[0] = 0.9;
    CU_ASSERT_EQUAL(gwtf_place_choose(&run.run, 0).node, 4);
    run.utilisation[1] = 0.99;
    CU_ASSERT_EQUAL(gwtf_place_choose(&run.run, 0).node, 6);
}

static void of_stages_as_busy_the_smaller_one_gets_it(void) {
    struct run run;
    begin(&run);
    run.utilisation[0] = 0.52;
    struct gwtf_place_choice choice = gwtf_place_choose(&run.run, 0);
    CU_ASSERT_EQUAL(choice.node, 6);
    CU_ASSERT_EQUAL(choice.stage, 2);
    run.members[6].down = run.members[7].down = false;
    CU_ASSERT_EQUAL(gwtf_place_choose(&run.run, 0).node, 4);
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

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(the_busiest_stage_gets_the_node),
        GWTF_TEST(of_stages_as_busy_the_smaller_one_gets_it),
        GWTF_TEST(a_place_that_nobody_has_had_comes_first),
        GWTF_TEST(there_may_be_no_place),
    };
    return gwtf_suite_main(argc, argv, "place", tests, sizeof tests / sizeof tests[0], NULL, NULL);
}
