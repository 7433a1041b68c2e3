/* Nodes of which nothing is heard: who decides whether they are lost (worker/protocol/doubt.c). */
#include "tests/support/suite.h"
#include "tests/unit/protocol_node.h"

#define DOUBT_MOST_US 30000000

static uint32_t living(const struct story *story) {
    return gwtf_protocol_get_view(story->protocol).nodes;
}

static void hear(struct story *story, gwtf_node_id peer, enum gwtf_message_kind kind,
                 gwtf_node_id about) {
    struct gwtf_message message = {.kind = (uint16_t)kind, .iteration = 1};
    if (kind == GWTF_MESSAGE_DOUBT) {
        message.body.doubt.node = about;
        message.body.doubt.doubted = 1;
    } else {
        message.body.down.node = about;
        message.body.down.incarnation = 1;
    }
    story_message(story, peer, &message);
}

static bool says(const struct story *story, enum gwtf_message_kind kind, gwtf_node_id to,
                 gwtf_node_id about) {
    const struct gwtf_action *action;
    for (size_t i = 0; (action = story_sends(story, kind, i)) != NULL; i++)
        if (action->to == to &&
            (kind == GWTF_MESSAGE_DOUBT ? action->message.body.doubt.node
                                        : action->message.body.down.node) == about)
            return true;
    return false;
}

static void begin(struct story *story, gwtf_node_id self) {
    story_init(story, self, false);
    story_start(story);
}

static void who_hears_nothing_of_a_node_asks_the_recorder_and_waits(void) {
    struct story story;
    begin(&story, 10);
    story_event(&story, GWTF_EVENT_PEER_SILENT, 21);
    CU_ASSERT_TRUE(says(&story, GWTF_MESSAGE_SILENT, 0, 21));
    CU_ASSERT_PTR_NULL(story_sends(&story, GWTF_MESSAGE_FENCED, 0));
    CU_ASSERT_EQUAL(living(&story), 6);
    story_event(&story, GWTF_EVENT_PEER_SILENT, 21);
    CU_ASSERT_PTR_NULL(story_sends(&story, GWTF_MESSAGE_SILENT, 0));
    hear(&story, 0, GWTF_MESSAGE_DOWN, 21);
    CU_ASSERT_TRUE(says(&story, GWTF_MESSAGE_FENCED, 21, 0));
    CU_ASSERT_EQUAL(living(&story), 5);
    story_end(&story);
}

static void the_recorder_takes_one_replica_for_lost_and_not_the_last(void) {
    struct story story;
    begin(&story, 0);
    hear(&story, 10, GWTF_MESSAGE_SILENT, 20);
    CU_ASSERT_EQUAL(living(&story), 5);
    CU_ASSERT_TRUE(says(&story, GWTF_MESSAGE_DOWN, 11, 20));
    hear(&story, 11, GWTF_MESSAGE_SILENT, 21);
    CU_ASSERT_EQUAL(living(&story), 5);
    CU_ASSERT_EQUAL(story_count(&story, GWTF_ACTION_FINISH), 0);
    /* Nor when others are lost later. */
    hear(&story, 1, GWTF_MESSAGE_SILENT, 10);
    CU_ASSERT_EQUAL(living(&story), 4);
    CU_ASSERT_FALSE(says(&story, GWTF_MESSAGE_DOWN, 11, 21));
    story_end(&story);
}

static void who_asks_of_an_incarnation_that_is_over_is_not_heard(void) {
    struct story story;
    begin(&story, 0);
    struct gwtf_message message = {.kind = GWTF_MESSAGE_SILENT, .iteration = 1};
    message.body.down.node = 20;
    message.body.down.incarnation = 0;
    story_message(&story, 10, &message);
    CU_ASSERT_EQUAL(living(&story), 6);
    story_end(&story);
}

static void a_silent_recorder_is_lost_when_all_miss_it(void) {
    struct story story;
    begin(&story, 10);
    story_event(&story, GWTF_EVENT_PEER_SILENT, 0);
    CU_ASSERT_TRUE(says(&story, GWTF_MESSAGE_DOUBT, 21, 0));
    hear(&story, 1, GWTF_MESSAGE_DOUBT, 0);
    hear(&story, 11, GWTF_MESSAGE_DOUBT, 0);
    hear(&story, 20, GWTF_MESSAGE_DOUBT, 0);
    CU_ASSERT_EQUAL(living(&story), 6);
    hear(&story, 21, GWTF_MESSAGE_DOUBT, 0);
    CU_ASSERT_EQUAL(living(&story), 5);
    CU_ASSERT_TRUE(says(&story, GWTF_MESSAGE_DOWN, 1, 0)); /* the new recorder */
    story_end(&story);
}

static void who_alone_misses_the_recorder_leaves(void) {
    struct story story;
    begin(&story, 10);
    story_event(&story, GWTF_EVENT_PEER_SILENT, 0);
    story_timer(&story, DOUBT_MOST_US / 2);
    CU_ASSERT_EQUAL(story_count(&story, GWTF_ACTION_FINISH), 0);
    story_timer(&story, DOUBT_MOST_US / 2);
    CU_ASSERT_EQUAL(story_count(&story, GWTF_ACTION_FINISH), 1);
    const struct gwtf_action *finish = story_action(&story, GWTF_ACTION_FINISH, 0);
    CU_ASSERT_EQUAL(finish ? finish->status : GWTF_OK, GWTF_ERROR_FENCED);
    story_end(&story);
}

/* Also to whom it has only answered. */
static void who_hears_a_node_again_takes_its_word_back(void) {
    struct story story;
    begin(&story, 10);
    story_event(&story, GWTF_EVENT_PEER_SILENT, 21);
    hear(&story, 11, GWTF_MESSAGE_DOUBT, 21);
    CU_ASSERT_TRUE(says(&story, GWTF_MESSAGE_DOUBT, 11, 21));
    story_event(&story, GWTF_EVENT_PEER_HEARD, 21);
    CU_ASSERT_TRUE(says(&story, GWTF_MESSAGE_DOUBT, 11, 21));
    const struct gwtf_action *word = story_sends(&story, GWTF_MESSAGE_DOUBT, 0);
    CU_ASSERT_EQUAL(word ? word->message.body.doubt.doubted : 1, 0);
    hear(&story, 11, GWTF_MESSAGE_DOUBT, 21);
    CU_ASSERT_FALSE(says(&story, GWTF_MESSAGE_DOUBT, 11, 21));
    story_end(&story);
}

static void a_new_recorder_is_asked_again(void) {
    struct story story;
    begin(&story, 10);
    story_event(&story, GWTF_EVENT_PEER_SILENT, 21);
    CU_ASSERT_TRUE(says(&story, GWTF_MESSAGE_SILENT, 0, 21));
    story_event(&story, GWTF_EVENT_PEER_DOWN, 0);
    CU_ASSERT_TRUE(says(&story, GWTF_MESSAGE_SILENT, 1, 21));
    story_end(&story);
}

static void answer(struct story *story, gwtf_node_id peer, uint32_t number) {
    struct gwtf_message known = {.kind = GWTF_MESSAGE_DOWN_KNOWN, .iteration = 1};
    known.body.down.number = number;
    story_message(story, peer, &known);
}

/* Else it might take the last one of a stage for lost, whose other replica the recorder before has
 * taken for lost, as others know. */
static void a_new_recorder_decides_when_all_have_told_it_what_they_know(void) {
    struct story story;
    begin(&story, 1);
    story_event(&story, GWTF_EVENT_PEER_DOWN, 0);
    CU_ASSERT_TRUE(says(&story, GWTF_MESSAGE_DOWN, 10, 0));
    hear(&story, 10, GWTF_MESSAGE_SILENT, 20);
    CU_ASSERT_EQUAL(living(&story), 5);
    answer(&story, 10, 1);
    answer(&story, 11, 1);
    answer(&story, 20, 1);
    CU_ASSERT_EQUAL(living(&story), 5);
    hear(&story, 21, GWTF_MESSAGE_SILENT, 10);
    answer(&story, 21, 1);
    CU_ASSERT_EQUAL(living(&story), 4); /* one in a step */
    story_timer(&story, 1);
    CU_ASSERT_EQUAL(living(&story), 3);
    story_end(&story);
}

static void a_new_recorder_does_not_wait_for_those_that_it_misses_itself(void) {
    struct story story;
    begin(&story, 1);
    story_event(&story, GWTF_EVENT_PEER_DOWN, 0);
    answer(&story, 10, 1);
    answer(&story, 11, 1);
    answer(&story, 20, 1);
    hear(&story, 10, GWTF_MESSAGE_SILENT, 21);
    CU_ASSERT_EQUAL(living(&story), 5);
    story_event(&story, GWTF_EVENT_PEER_SILENT, 21);
    CU_ASSERT_EQUAL(living(&story), 4);
    story_end(&story);
}

/* The recorder has ended well, and so have others: nobody will tell what this node lacks. */
static void tell_good_end(struct story *story) {
    struct gwtf_message message = {.kind = GWTF_MESSAGE_CLOSE, .iteration = 1};
    message.body.close.status = GWTF_OK;
    message.body.close.culprit = GWTF_NODE_NONE;
    story_message(story, 1, &message);
}

static bool ends_well(const struct story *story) {
    const struct gwtf_action *finish = story_action(story, GWTF_ACTION_FINISH, 0);
    return finish && finish->status == GWTF_OK;
}

static void who_is_told_of_a_good_end_goes_when_somebody_is_silent(void) {
    struct story story;
    for (int lost = 0; lost < 2; lost++) {
        begin(&story, 10);
        tell_good_end(&story);
        CU_ASSERT_EQUAL(story_count(&story, GWTF_ACTION_FINISH), 0);
        story_event(&story, lost ? GWTF_EVENT_PEER_DOWN : GWTF_EVENT_PEER_SILENT, 21);
        CU_ASSERT_TRUE(ends_well(&story));
        CU_ASSERT_EQUAL(living(&story), 6);
        story_end(&story);
    }
    begin(&story, 10);
    story_event(&story, GWTF_EVENT_PEER_SILENT, 21);
    tell_good_end(&story);
    CU_ASSERT_TRUE(ends_well(&story));
    story_end(&story);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(who_hears_nothing_of_a_node_asks_the_recorder_and_waits),
        GWTF_TEST(the_recorder_takes_one_replica_for_lost_and_not_the_last),
        GWTF_TEST(who_asks_of_an_incarnation_that_is_over_is_not_heard),
        GWTF_TEST(a_silent_recorder_is_lost_when_all_miss_it),
        GWTF_TEST(who_alone_misses_the_recorder_leaves),
        GWTF_TEST(who_hears_a_node_again_takes_its_word_back),
        GWTF_TEST(a_new_recorder_is_asked_again),
        GWTF_TEST(a_new_recorder_decides_when_all_have_told_it_what_they_know),
        GWTF_TEST(a_new_recorder_does_not_wait_for_those_that_it_misses_itself),
        GWTF_TEST(who_is_told_of_a_good_end_goes_when_somebody_is_silent),
    };
    return gwtf_suite_main(argc, argv, "silence", tests, sizeof tests / sizeof tests[0], NULL,
                           NULL);
}
