/* What nodes tell each other of their speed and their links. */
#include "tests/support/suite.h"
#include "tests/unit/protocol_node.h"

#include <string.h>

static struct gwtf_message hello(uint32_t stage, gwtf_time_us asked_us, bool reply) {
    struct gwtf_message message = {.kind = GWTF_MESSAGE_HELLO};
    message.body.figures.stage = stage;
    message.body.figures.capacity = 2;
    message.body.figures.compute_us = 1000;
    message.body.figures.asked_us = asked_us;
    message.body.figures.reply = reply;
    return message;
}

static size_t count_sends(const struct story *story, enum gwtf_message_kind kind) {
    size_t count = 0;
    while (story_sends(story, kind, count))
        count++;
    return count;
}

static void a_node_greets_its_own_and_the_neighbouring_stages(void) {
    static const struct gwtf_member members[] = {{.node = 0, .stage = 0},  {.node = 1, .stage = 0},
                                                 {.node = 10, .stage = 1}, {.node = 11, .stage = 1},
                                                 {.node = 20, .stage = 2}, {.node = 30, .stage = 3},
                                                 {.node = 40, .stage = 4}};
    static const struct {
        gwtf_node_id self;
        size_t count;
        gwtf_node_id greeted[4];
    } cases[] = {{10, 4, {0, 1, 11, 20}}, {30, 2, {20, 40}}, {0, 4, {1, 10, 11, 40}}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct story story;
        story_init(&story, cases[i].self, false);
        memcpy(story.members, members, sizeof members);
        story.config.members_count = 7;
        story.config.stages = 4;
        story_start(&story);
        CU_ASSERT_EQUAL(count_sends(&story, GWTF_MESSAGE_HELLO), cases[i].count);
        for (size_t j = 0; j < cases[i].count; j++) {
            const struct gwtf_action *sent = story_sends(&story, GWTF_MESSAGE_HELLO, j);
            CU_ASSERT_PTR_NOT_NULL_FATAL(sent);
            CU_ASSERT_EQUAL(sent->to, cases[i].greeted[j]);
            CU_ASSERT_EQUAL(sent->message.body.figures.compute_us, 1000);
            CU_ASSERT_EQUAL(sent->message.body.figures.capacity, 2);
            CU_ASSERT_EQUAL(sent->message.body.figures.reply, 0);
        }
        story_end(&story);
    }
}

static void a_greeting_is_answered_with_its_own_time(void) {
    struct story story;
    story_init(&story, 10, false);
    story_start(&story);
    struct gwtf_message message = hello(2, 12345, false);
    story_message(&story, 20, &message);
    const struct gwtf_action *sent = story_sends(&story, GWTF_MESSAGE_HELLO, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(sent);
    CU_ASSERT_EQUAL(sent->to, 20);
    CU_ASSERT_EQUAL(sent->message.body.figures.reply, 1);
    CU_ASSERT_EQUAL(sent->message.body.figures.asked_us, 12345);
    /* An answer is not answered, and a node that says another stage than its own is not heard. */
    message = hello(2, 1, true);
    story_message(&story, 21, &message);
    message = hello(2, 1, true);
    story_message(&story, 21, &message);
    CU_ASSERT_PTR_NULL(story_sends(&story, GWTF_MESSAGE_HELLO, 0));
    message = hello(1, 1, false);
    story_message(&story, 21, &message);
    CU_ASSERT_PTR_NULL(story_sends(&story, GWTF_MESSAGE_HELLO, 0));
    story_end(&story);
}

/* The first answer's time is also what the other needed to start. */
static void the_first_answer_is_asked_for_once_more(void) {
    struct story story;
    story_init(&story, 10, false);
    story_start(&story);
    struct gwtf_message message = hello(2, 0, true);
    story.now_us = 3000000;
    story_message(&story, 20, &message);
    const struct gwtf_action *sent = story_sends(&story, GWTF_MESSAGE_HELLO, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(sent);
    CU_ASSERT_EQUAL(sent->to, 20);
    CU_ASSERT_EQUAL(sent->message.body.figures.asked_us, story.now_us);
    CU_ASSERT_EQUAL(sent->message.body.figures.reply, 0);
    message = hello(2, story.now_us, true);
    story_message(&story, 20, &message);
    CU_ASSERT_PTR_NULL(story_sends(&story, GWTF_MESSAGE_HELLO, 0));
    story_end(&story);
}

/* Relay 10 has four hops: 0 and 1 before it, 20 and 21 behind. Nobody answers it, none is met but
 * by its HELLO. */
static void meet_all(struct story *story) {
    static const gwtf_node_id hops[] = {0, 1, 20, 21};
    for (size_t i = 0; i < sizeof hops / sizeof hops[0]; i++) {
        struct gwtf_message message = hello(hops[i] < 10 ? 0 : 2, 0, true);
        story_message(story, hops[i], &message);
    }
}

static void links_that_nothing_goes_over_are_probed_and_seldom(void) {
    struct story story;
    story_init(&story, 10, false);
    story_start(&story);
    meet_all(&story);
    size_t probes[32] = {0}, asked[32] = {0};
    for (int turn = 0; turn < 600; turn++) { /* a minute */
        story_timer(&story, 100000);
        uint64_t tickets[4];
        size_t sent = 0;
        for (size_t j = 0; story_sends(&story, GWTF_MESSAGE_HELLO, j); j++)
            asked[story_sends(&story, GWTF_MESSAGE_HELLO, j)->to]++;
        const struct gwtf_action *probe;
        while ((probe = story_sends(&story, GWTF_MESSAGE_PROBE, sent)) != NULL) {
            CU_ASSERT_EQUAL(probe->payload.kind, GWTF_PAYLOAD_PROBE);
            CU_ASSERT_EQUAL(probe->payload.part, 0);
            CU_ASSERT_EQUAL(probe->message.payload_bytes, STORY_BOUNDARY_BYTES);
            probes[probe->to]++;
            tickets[sent++] = probe->ticket;
        }
        CU_ASSERT(sent <= 1);
        if (sent == 1)
            story_sent(&story, tickets[0]);
    }
    static const gwtf_node_id hops[] = {0, 1, 20, 21};
    for (size_t i = 0; i < sizeof hops / sizeof hops[0]; i++) {
        /* Once at the start, then every ten seconds; questions the same, or with the pace of a link
         * in use while the probe is fresh. */
        CU_ASSERT(probes[hops[i]] == 6);
        CU_ASSERT(asked[hops[i]] >= 6 && asked[hops[i]] <= 30);
    }
    CU_ASSERT_EQUAL(probes[11], 0);
    story_end(&story);
}

static void probes_that_do_not_get_through_hold_up_only_themselves(void) {
    struct story story;
    story_init(&story, 10, false);
    story_start(&story);
    meet_all(&story);
    size_t probes = 0;
    for (int turn = 0; turn < 600; turn++) {
        story_timer(&story, 100000);
        probes += count_sends(&story, GWTF_MESSAGE_PROBE);
    }
    CU_ASSERT_EQUAL(probes, 2);
    story_end(&story);
}

/* 64 bytes in 32 us. Four at one time are taken. */
static void a_probe_is_measured_and_too_many_are_thrown_away(void) {
    struct story story;
    story_init(&story, 10, false);
    story_start(&story);
    struct gwtf_message probe = {.kind = GWTF_MESSAGE_PROBE, .payload_bytes = STORY_BOUNDARY_BYTES};
    uint64_t tickets[4];
    for (int i = 0; i < 4; i++) {
        story_message(&story, 20, &probe);
        const struct gwtf_action *taken = story_action(&story, GWTF_ACTION_RECEIVE, 0);
        CU_ASSERT_PTR_NOT_NULL_FATAL(taken);
        CU_ASSERT_EQUAL(taken->payload.kind, GWTF_PAYLOAD_PROBE);
        CU_ASSERT_EQUAL(taken->payload.part, 1);
        tickets[i] = taken->ticket;
    }
    story_message(&story, 20, &probe);
    CU_ASSERT_EQUAL(story_count(&story, GWTF_ACTION_DISCARD), 1);
    story.now_us += 27;
    story_received(&story, tickets[0], GWTF_OK);
    story_message(&story, 21, &probe);
    CU_ASSERT_EQUAL(story_count(&story, GWTF_ACTION_RECEIVE), 1);
    int64_t rate = 0;
    for (int i = 0; i < 100 && rate == 0; i++) {
        story_timer(&story, 20000);
        for (size_t j = 0; story_sends(&story, GWTF_MESSAGE_FIGURES, j); j++)
            if (story_sends(&story, GWTF_MESSAGE_FIGURES, j)->to == 20)
                rate = story_sends(&story, GWTF_MESSAGE_FIGURES, j)
                           ->message.body.figures.bytes_per_second;
    }
    CU_ASSERT_EQUAL(rate, 2000000);
    story_end(&story);
}

/* The works of a microbatch in relay 10, at COMPUTE_US each. */
static void train_in(struct story *story, uint32_t index, int64_t compute_us) {
    struct gwtf_message forward = story_forward(1, 0, index), back = story_backward(1, 0, index);
    story_message(story, 0, &forward);
    story_received(story, story_action(story, GWTF_ACTION_RECEIVE, 0)->ticket, GWTF_OK);
    struct gwtf_event done = {.kind = GWTF_EVENT_WORK_DONE,
                              .work = story_action(story, GWTF_ACTION_WORK, 0)->work,
                              .result = {.compute_us = compute_us}};
    story_step(story, &done);
    const struct gwtf_action *output = story_sends(story, GWTF_MESSAGE_FORWARD, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(output);
    uint64_t ticket = output->ticket;
    story_message(story, output->to, &back);
    story_received(story, story_action(story, GWTF_ACTION_RECEIVE, 0)->ticket, GWTF_OK);
    done.work = story_action(story, GWTF_ACTION_WORK, 0)->work;
    story_step(story, &done);
    const struct gwtf_action *gradient = story_sends(story, GWTF_MESSAGE_BACKWARD, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(gradient);
    uint64_t gradient_ticket = gradient->ticket;
    story_sent(story, ticket);
    story_sent(story, gradient_ticket);
}

/* How many FIGURES the next AFTER_US bring, with a timer each millisecond. */
static size_t figures_within(struct story *story, int64_t after_us, int64_t *compute_us) {
    size_t count = 0;
    for (int64_t us = 0; us < after_us; us += 1000) {
        story_timer(story, 999);
        count += count_sends(story, GWTF_MESSAGE_FIGURES);
        const struct gwtf_action *sent = story_sends(story, GWTF_MESSAGE_FIGURES, 0);
        if (sent)
            *compute_us = sent->message.body.figures.compute_us;
    }
    return count;
}

static void figures_are_told_when_they_moved_by_a_tenth_and_once_a_second(void) {
    struct story story;
    story_init(&story, 10, true);
    story.config.microbatches = 100;
    story_start(&story);
    int64_t compute_us = 0;
    /* Rates of new links move at once: told a second after the greeting. */
    train_in(&story, 0, 1050);
    figures_within(&story, 2000000, &compute_us);
    CU_ASSERT_EQUAL(compute_us, 1050);
    /* 5 % more: an average of 1062 is no news. */
    train_in(&story, 1, 1100);
    CU_ASSERT_EQUAL(figures_within(&story, 1500000, &compute_us), 0);
    /* Four times as long: forward is told at once, backward moves it again and has to wait. One
     * goes to each of the four neighbours. */
    train_in(&story, 2, 4000);
    CU_ASSERT_EQUAL(figures_within(&story, 900000, &compute_us), 0);
    CU_ASSERT_EQUAL(figures_within(&story, 150000, &compute_us), 4);
    CU_ASSERT(compute_us > 1500 && compute_us < 2500);
    CU_ASSERT_EQUAL(figures_within(&story, 2000000, &compute_us), 0);
    story_end(&story);
}

/* 64 bytes in 32 us are 2 MB/s; the second tensor has the link from when the first was here. */
static void a_rate_is_measured_from_header_to_payload(void) {
    struct story story;
    story_init(&story, 10, true);
    story_start(&story);
    struct gwtf_message first = story_forward(1, 0, 0), second = story_forward(1, 0, 1);
    story_message(&story, 0, &first);
    uint64_t tickets[2] = {story_action(&story, GWTF_ACTION_RECEIVE, 0)->ticket, 0};
    story_message(&story, 0, &second);
    tickets[1] = story_action(&story, GWTF_ACTION_RECEIVE, 0)->ticket;
    story.now_us += 30;
    story_received(&story, tickets[0], GWTF_OK);
    story.now_us += 31;
    story_received(&story, tickets[1], GWTF_OK);
    int64_t rate = 0;
    for (int i = 0; i < 100 && rate == 0; i++) {
        story_timer(&story, 20000);
        for (size_t j = 0; story_sends(&story, GWTF_MESSAGE_FIGURES, j); j++) {
            const struct gwtf_action *sent = story_sends(&story, GWTF_MESSAGE_FIGURES, j);
            if (sent->to == 0)
                rate = sent->message.body.figures.bytes_per_second;
        }
    }
    CU_ASSERT_EQUAL(rate, 2000000);
    story_end(&story);
}

/* The rate that node 0 was last told after tensors of 64 bytes that took TOOK_US each. */
static int64_t rate_after(const int64_t *took_us, uint32_t count) {
    struct story story;
    int64_t rate = 0;
    story_init(&story, 10, true);
    story.config.microbatches = 100;
    story.config.capacity = 8;
    story_start(&story);
    for (uint32_t i = 0; i < count; i++) {
        struct gwtf_message forward = story_forward(1, 0, i);
        story_message(&story, 0, &forward);
        uint64_t ticket = story_action(&story, GWTF_ACTION_RECEIVE, 0)->ticket;
        story.now_us += took_us[i] - 1;
        story_received(&story, ticket, GWTF_OK);
        for (int turn = 0; turn < 60; turn++) {
            for (size_t j = 0; j < story.update.actions_count; j++) {
                const struct gwtf_action *sent = &story.update.actions[j];
                if (sent->kind == GWTF_ACTION_SEND && sent->to == 0 &&
                    sent->message.kind <= GWTF_MESSAGE_FIGURES)
                    rate = sent->message.body.figures.bytes_per_second;
            }
            story_timer(&story, 20000);
        }
    }
    story_end(&story);
    return rate;
}

/* 64 bytes in 32 us, then in 20 times that: a byte takes 3/4 of the old time and a quarter of the
 * new, 5.75 times as long as before. */
static void a_link_that_gets_slow_is_dear_with_its_first_slow_tensor(void) {
    CU_ASSERT_EQUAL(rate_after((const int64_t[]){32}, 1), 2000000);
    int64_t rate = rate_after((const int64_t[]){32, 640}, 2);
    CU_ASSERT(rate > 2000000 / 5.76 && rate < 2000000 / 5.74);
}

static void two_tensors_in_a_row_tell_of_another_link(void) {
    CU_ASSERT_EQUAL(rate_after((const int64_t[]){32, 6400, 6400}, 3), 10000);
    CU_ASSERT_EQUAL(rate_after((const int64_t[]){32, 6400, 6400, 32, 32}, 5), 2000000);
    /* One alone, and differences that are none, count in the average. */
    CU_ASSERT(rate_after((const int64_t[]){32, 6400, 32}, 3) < 60000);
    int64_t rate = rate_after((const int64_t[]){32, 640, 640}, 3);
    CU_ASSERT(rate > 100000 && rate < 300000);
    rate = rate_after((const int64_t[]){6400, 16000, 16000}, 3);
    CU_ASSERT(rate > 4000 && rate < 8000);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(a_node_greets_its_own_and_the_neighbouring_stages),
        GWTF_TEST(a_greeting_is_answered_with_its_own_time),
        GWTF_TEST(the_first_answer_is_asked_for_once_more),
        GWTF_TEST(links_that_nothing_goes_over_are_probed_and_seldom),
        GWTF_TEST(probes_that_do_not_get_through_hold_up_only_themselves),
        GWTF_TEST(a_probe_is_measured_and_too_many_are_thrown_away),
        GWTF_TEST(a_link_that_gets_slow_is_dear_with_its_first_slow_tensor),
        GWTF_TEST(two_tensors_in_a_row_tell_of_another_link),
        GWTF_TEST(figures_are_told_when_they_moved_by_a_tenth_and_once_a_second),
        GWTF_TEST(a_rate_is_measured_from_header_to_payload),
    };
    return gwtf_suite_main(argc, argv, "protocol_links", tests, sizeof tests / sizeof tests[0],
                           NULL, NULL);
}
