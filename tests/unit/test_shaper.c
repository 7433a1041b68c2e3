/* Figures follow from the formula in worker/runtime/shaper.h: bytes / rate on the line, one after
 * the other, then the latency. */
#include "tests/support/suite.h"
#include "worker/runtime/frame.h"
#include "worker/runtime/shaper.h"

#include <string.h>

#define PIECE ((uint64_t)GWTF_PIECE_BYTES)
#define RATE 104857600 /* 100 pieces a second: 10 ms each */
#define PIECE_US 10000

static gwtf_shaper *make(size_t peers, size_t items, struct gwtf_shaper_link link) {
    struct gwtf_shaper_config config = {.peers = peers, .items_max = items};
    gwtf_shaper *shaper = NULL;
    CU_ASSERT_EQUAL_FATAL(gwtf_shaper_create(&config, &shaper), GWTF_OK);
    for (size_t i = 0; i < peers; i++)
        gwtf_shaper_set(shaper, i, &link, 0);
    return shaper;
}

/* The time of the next release, from *NOW_US on in steps of the shaper's own deadlines. */
static struct gwtf_shaper_release await(gwtf_shaper *shaper, gwtf_time_us *now_us) {
    struct gwtf_shaper_release release = {.peer = 99};
    for (int turns = 0; turns < 1000; turns++) {
        if (gwtf_shaper_next(shaper, *now_us, &release))
            return release;
        gwtf_time_us due_us = gwtf_shaper_deadline(shaper);
        if (due_us == GWTF_TIME_NEVER)
            break;
        CU_ASSERT(due_us > *now_us);
        *now_us = due_us;
    }
    CU_FAIL("nothing is released");
    return release;
}

static void expect_at(gwtf_shaper *shaper, gwtf_time_us *now_us, enum gwtf_shaper_kind kind,
                      uint64_t ticket, gwtf_time_us at_us) {
    struct gwtf_shaper_release release = await(shaper, now_us);
    CU_ASSERT_EQUAL(release.kind, kind);
    CU_ASSERT_EQUAL(release.ticket, ticket);
    CU_ASSERT_EQUAL(*now_us, at_us);
}

static void a_message_goes_after_its_bytes_over_the_rate_and_the_latency(void) {
    gwtf_shaper *shaper =
        make(1, 8, (struct gwtf_shaper_link){.latency_us = 70000, .bytes_per_second = 1000000});
    gwtf_time_us now_us = 500;
    CU_ASSERT_EQUAL(gwtf_shaper_message(shaper, 0, 200, 1, now_us), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_shaper_message(shaper, 0, 300, 2, now_us), GWTF_OK);
    expect_at(shaper, &now_us, GWTF_SHAPER_MESSAGE, 1, 500 + 200 + 70000);
    expect_at(shaper, &now_us, GWTF_SHAPER_MESSAGE, 2, 500 + 500 + 70000);
    struct gwtf_shaper_release release;
    CU_ASSERT(!gwtf_shaper_next(shaper, now_us, &release));
    CU_ASSERT_EQUAL(gwtf_shaper_deadline(shaper), GWTF_TIME_NEVER);
    CU_ASSERT(!gwtf_shaper_has(shaper, 0));
    gwtf_shaper_destroy(shaper);
}

static void what_is_lost_comes_later_and_in_order(void) {
    gwtf_shaper *shaper =
        make(1, 1024, (struct gwtf_shaper_link){.latency_us = 1000, .loss = 0.25});
    gwtf_time_us now_us = 0;
    uint32_t lost = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        gwtf_time_us sent_us = now_us;
        CU_ASSERT_EQUAL(gwtf_shaper_message(shaper, 0, 10, 2 * i, now_us), GWTF_OK);
        CU_ASSERT_EQUAL(gwtf_shaper_message(shaper, 0, 10, 2 * i + 1, now_us), GWTF_OK);
        CU_ASSERT_EQUAL(await(shaper, &now_us).ticket, 2 * i);
        bool late = now_us == sent_us + 1000 + GWTF_SHAPER_RESEND_US;
        CU_ASSERT(late || now_us == sent_us + 1000);
        lost += late;
        CU_ASSERT_EQUAL(await(shaper, &now_us).ticket, 2 * i + 1);
        CU_ASSERT(now_us <= sent_us + 1000 + GWTF_SHAPER_RESEND_US);
    }
    CU_ASSERT(lost > 200 && lost < 300);
    gwtf_shaper_destroy(shaper);
}

static void a_link_without_latency_or_limit_adds_nothing(void) {
    gwtf_shaper *shaper = make(1, 8, (struct gwtf_shaper_link){0});
    gwtf_time_us now_us = 77;
    struct gwtf_shaper_release release;
    gwtf_shaper_message(shaper, 0, 200, 1, now_us);
    gwtf_shaper_tensor(shaper, 0, 3 * PIECE, 2, now_us);
    for (int i = 0; i < 4; i++) {
        CU_ASSERT(gwtf_shaper_next(shaper, now_us, &release));
        CU_ASSERT_EQUAL(release.kind, i == 0 ? GWTF_SHAPER_MESSAGE : GWTF_SHAPER_PIECE);
    }
    CU_ASSERT(!gwtf_shaper_next(shaper, now_us, &release));
    gwtf_shaper_destroy(shaper);
}

static void tensors_take_the_line_one_after_the_other(void) {
    gwtf_shaper *shaper =
        make(1, 64, (struct gwtf_shaper_link){.latency_us = 100000, .bytes_per_second = RATE});
    gwtf_time_us now_us = 0;
    gwtf_shaper_tensor(shaper, 0, 2 * PIECE + PIECE / 2, 1, 0);
    gwtf_shaper_tensor(shaper, 0, PIECE, 2, 0);
    /* The latency comes once for each, not one after the other: the line is full meanwhile. */
    expect_at(shaper, &now_us, GWTF_SHAPER_PIECE, 1, PIECE_US + 100000);
    expect_at(shaper, &now_us, GWTF_SHAPER_PIECE, 1, 2 * PIECE_US + 100000);
    expect_at(shaper, &now_us, GWTF_SHAPER_PIECE, 1, 5 * PIECE_US / 2 + 100000);
    expect_at(shaper, &now_us, GWTF_SHAPER_PIECE, 2, 7 * PIECE_US / 2 + 100000);
    gwtf_shaper_destroy(shaper);
}

static void a_message_does_not_wait_for_a_tensor(void) {
    gwtf_shaper *shaper =
        make(1, 64, (struct gwtf_shaper_link){.latency_us = 5000, .bytes_per_second = RATE});
    gwtf_time_us now_us = 3000;
    gwtf_shaper_tensor(shaper, 0, 4 * PIECE, 1, 0);
    /* 1 ms on the line, while the first piece is there: that one is done as much later, and so is
     * everything behind it. */
    gwtf_shaper_message(shaper, 0, RATE / 1000, 2, now_us);
    expect_at(shaper, &now_us, GWTF_SHAPER_MESSAGE, 2, 3000 + 1000 + 5000);
    for (int piece = 1; piece <= 4; piece++)
        expect_at(shaper, &now_us, GWTF_SHAPER_PIECE, 1, piece * PIECE_US + 1000 + 5000);
    gwtf_shaper_destroy(shaper);
}

static void pieces_come_behind_the_message_that_announces_them(void) {
    struct gwtf_shaper_link slow = {.latency_us = 90000, .bytes_per_second = RATE}, quick = {0};
    gwtf_shaper *shaper = make(1, 64, slow);
    gwtf_time_us now_us = 0;
    gwtf_shaper_message(shaper, 0, 0, 1, 0);
    gwtf_shaper_tensor(shaper, 0, PIECE, 2, 0);
    /* The link heals at once: the message has passed it already and keeps its latency. */
    gwtf_shaper_set(shaper, 0, &quick, 0);
    gwtf_shaper_message(shaper, 0, 0, 3, 10);
    expect_at(shaper, &now_us, GWTF_SHAPER_MESSAGE, 1, 90000);
    CU_ASSERT_EQUAL(await(shaper, &now_us).ticket, 3);
    CU_ASSERT_EQUAL(await(shaper, &now_us).ticket, 2);
    CU_ASSERT_EQUAL(now_us, 90000);
    gwtf_shaper_destroy(shaper);
}

static void a_piece_on_the_line_goes_on_at_the_new_rate(void) {
    struct gwtf_shaper_link slower = {.latency_us = 0, .bytes_per_second = RATE / 20};
    gwtf_shaper *shaper =
        make(1, 64, (struct gwtf_shaper_link){.latency_us = 0, .bytes_per_second = RATE});
    gwtf_time_us now_us = 4000;
    gwtf_shaper_tensor(shaper, 0, 2 * PIECE, 1, 0);
    gwtf_shaper_set(shaper, 0, &slower, now_us);
    /* 6 of its 10 ms were left. */
    expect_at(shaper, &now_us, GWTF_SHAPER_PIECE, 1, 4000 + 20 * 6000);
    expect_at(shaper, &now_us, GWTF_SHAPER_PIECE, 1, 4000 + 20 * 16000);
    gwtf_shaper_destroy(shaper);
}

static void a_late_look_does_not_slow_the_line(void) {
    gwtf_shaper *shaper =
        make(1, 64, (struct gwtf_shaper_link){.latency_us = 1000, .bytes_per_second = RATE});
    struct gwtf_shaper_release release;
    gwtf_shaper_tensor(shaper, 0, 8 * PIECE, 1, 0);
    /* Nobody looks for five pieces' time; the sixth is not any later for it. */
    gwtf_time_us now_us = 5 * PIECE_US + 1000;
    for (int piece = 0; piece < 5; piece++)
        CU_ASSERT(gwtf_shaper_next(shaper, now_us, &release));
    CU_ASSERT(!gwtf_shaper_next(shaper, now_us, &release));
    expect_at(shaper, &now_us, GWTF_SHAPER_PIECE, 1, 6 * PIECE_US + 1000);
    gwtf_shaper_destroy(shaper);
}

static void what_a_cut_link_is_given_waits_until_it_heals(void) {
    struct gwtf_shaper_link whole = {.latency_us = 1000, .bytes_per_second = RATE}, cut = whole;
    struct gwtf_shaper_release release;
    cut.cut = true;
    gwtf_shaper *shaper = make(1, 64, whole);
    gwtf_time_us now_us = 0;
    gwtf_shaper_message(shaper, 0, 0, 1, 0);
    gwtf_shaper_tensor(shaper, 0, PIECE, 2, 0);
    gwtf_shaper_set(shaper, 0, &cut, 4000);
    gwtf_shaper_message(shaper, 0, 0, 3, 5000);
    gwtf_shaper_tensor(shaper, 0, PIECE, 4, 6000);
    gwtf_shaper_message(shaper, 0, 0, 5, 7000);
    /* What had passed the line arrives; nothing else does. */
    expect_at(shaper, &now_us, GWTF_SHAPER_MESSAGE, 1, 1000);
    CU_ASSERT(!gwtf_shaper_next(shaper, 1000000, &release));
    CU_ASSERT_EQUAL(gwtf_shaper_deadline(shaper), GWTF_TIME_NEVER);
    CU_ASSERT(gwtf_shaper_has(shaper, 0));
    now_us = 1000000;
    gwtf_shaper_set(shaper, 0, &whole, now_us);
    expect_at(shaper, &now_us, GWTF_SHAPER_MESSAGE, 3, 1001000);
    expect_at(shaper, &now_us, GWTF_SHAPER_MESSAGE, 5, 1001000);
    /* 6 of the first piece's 10 ms were left. */
    expect_at(shaper, &now_us, GWTF_SHAPER_PIECE, 2, 1001000 + 6000);
    expect_at(shaper, &now_us, GWTF_SHAPER_PIECE, 4, 1001000 + 16000);
    gwtf_shaper_destroy(shaper);
}

static void links_do_not_share_a_line(void) {
    gwtf_shaper *shaper =
        make(2, 64, (struct gwtf_shaper_link){.latency_us = 0, .bytes_per_second = RATE});
    gwtf_time_us now_us = 0;
    gwtf_shaper_tensor(shaper, 0, PIECE, 1, 0);
    gwtf_shaper_tensor(shaper, 1, PIECE, 2, 0);
    expect_at(shaper, &now_us, GWTF_SHAPER_PIECE, 1, PIECE_US);
    expect_at(shaper, &now_us, GWTF_SHAPER_PIECE, 2, PIECE_US);
    gwtf_shaper_destroy(shaper);
}

/* Three items: a tensor, and two pieces of it that are still on their way. The third piece waits
 * on the line, nothing is lost, and what is too much is refused. */
static void what_is_held_is_bounded(void) {
    gwtf_shaper *shaper =
        make(1, 3, (struct gwtf_shaper_link){.latency_us = 1000000, .bytes_per_second = RATE});
    gwtf_time_us now_us = 0;
    CU_ASSERT_EQUAL(gwtf_shaper_tensor(shaper, 0, 5 * PIECE, 1, 0), GWTF_OK);
    expect_at(shaper, &now_us, GWTF_SHAPER_PIECE, 1, PIECE_US + 1000000);
    CU_ASSERT_EQUAL(gwtf_shaper_message(shaper, 0, 10, 2, now_us), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_shaper_message(shaper, 0, 10, 3, now_us), GWTF_ERROR_LIMIT);
    for (int piece = 2; piece <= 5; piece++) {
        struct gwtf_shaper_release release = await(shaper, &now_us);
        if (release.kind == GWTF_SHAPER_MESSAGE)
            release = await(shaper, &now_us);
        CU_ASSERT_EQUAL(release.kind, GWTF_SHAPER_PIECE);
    }
    CU_ASSERT(!gwtf_shaper_has(shaper, 0));
    for (uint64_t i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(gwtf_shaper_message(shaper, 0, 10, i, now_us), GWTF_OK);
    gwtf_shaper_destroy(shaper);
}

static void what_goes_to_a_lost_peer_is_dropped(void) {
    gwtf_shaper *shaper =
        make(2, 8, (struct gwtf_shaper_link){.latency_us = 5000, .bytes_per_second = RATE});
    gwtf_time_us now_us = 0;
    uint64_t ticket = 0, seen = 0;
    gwtf_shaper_message(shaper, 0, 10, 3, 0);
    gwtf_shaper_message(shaper, 0, 10, 4, 0);
    gwtf_shaper_tensor(shaper, 0, 3 * PIECE, 5, 0);
    gwtf_shaper_message(shaper, 1, 0, 6, 0);
    gwtf_shaper_set(shaper, 0, &(struct gwtf_shaper_link){.cut = true}, 0);
    gwtf_shaper_tensor(shaper, 0, PIECE, 7, 0);
    gwtf_shaper_message(shaper, 0, 10, 8, 0);
    while (gwtf_shaper_drop(shaper, 0, &ticket))
        seen = 10 * seen + ticket;
    CU_ASSERT_EQUAL(seen, 348);
    CU_ASSERT(!gwtf_shaper_has(shaper, 0));
    expect_at(shaper, &now_us, GWTF_SHAPER_MESSAGE, 6, 5000);
    CU_ASSERT_EQUAL(gwtf_shaper_deadline(shaper), 5000);
    struct gwtf_shaper_release release;
    CU_ASSERT(!gwtf_shaper_next(shaper, 1000000, &release));
    gwtf_shaper_destroy(shaper);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(a_message_goes_after_its_bytes_over_the_rate_and_the_latency),
        GWTF_TEST(what_is_lost_comes_later_and_in_order),
        GWTF_TEST(a_link_without_latency_or_limit_adds_nothing),
        GWTF_TEST(tensors_take_the_line_one_after_the_other),
        GWTF_TEST(a_message_does_not_wait_for_a_tensor),
        GWTF_TEST(pieces_come_behind_the_message_that_announces_them),
        GWTF_TEST(a_piece_on_the_line_goes_on_at_the_new_rate),
        GWTF_TEST(a_late_look_does_not_slow_the_line),
        GWTF_TEST(what_a_cut_link_is_given_waits_until_it_heals),
        GWTF_TEST(links_do_not_share_a_line),
        GWTF_TEST(what_is_held_is_bounded),
        GWTF_TEST(what_goes_to_a_lost_peer_is_dropped),
    };
    return gwtf_suite_main(argc, argv, "shaper", tests, sizeof tests / sizeof tests[0], NULL, NULL);
}
