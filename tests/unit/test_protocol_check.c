/* The whole-state checker sees each kind of damage, and no input whatever causes any. */
#include "share/base/random.h"
#include "tests/support/suite.h"
#include "tests/unit/protocol_node.h"
#include "worker/protocol/state.h"

#include <stdio.h>

/*
 * Relay 10 with three of four slots in use: slot 0's output is with the next hop, slot 1 runs
 * forward, slot 2 receives its input. Two sends and a receive are under way, and one work.
 */
static void begin(struct story *story) {
    story_init(story, 10, false);
    story->config.capacity = 4;
    story_start(story);
    story_pass_forward(story, 0, 1, 0, 0);
    struct gwtf_message message = story_forward(1, 0, 1), last = story_forward(1, 1, 0);
    story_message(story, 0, &message);
    story_received(story, story_action(story, GWTF_ACTION_RECEIVE, 0)->ticket, GWTF_OK);
    story_message(story, 1, &last);
}

/* One field each that the checker must find to be wrong. */
static void spoil_count(gwtf_protocol *p) {
    p->slots_used++;
}
static void spoil_sends(gwtf_protocol *p) {
    p->slots[0].sends = 0;
}
static void spoil_leaving(gwtf_protocol *p) {
    p->slots[3].state = SLOT_LEAVING;
}
static void spoil_double(gwtf_protocol *p) {
    p->slots[1].microbatch = p->slots[0].microbatch;
}
static void spoil_role(gwtf_protocol *p) {
    p->slots[0].state = SLOT_RETURNING;
}
static void spoil_gradient(gwtf_protocol *p) {
    p->slots[0].state = SLOT_BACKWARD_READY;
    p->slots[0].phase = GWTF_PHASE_VALIDATE;
}
static void spoil_iteration(gwtf_protocol *p) {
    p->slots[0].iteration = 3;
}
static void spoil_phase(gwtf_protocol *p) {
    p->phase = GWTF_PHASE_VALIDATE;
}
static void spoil_weights(gwtf_protocol *p) {
    p->slots[1].iteration = 2;
}
static void spoil_data_node(gwtf_protocol *p) {
    p->slots[0].microbatch.data_node = 20;
}
static void spoil_previous(gwtf_protocol *p) {
    p->slots[0].previous = 11;
}
static void spoil_previous_data_node(gwtf_protocol *p) {
    p->slots[0].previous = 1;
}
static void spoil_next(gwtf_protocol *p) {
    p->slots[0].next = 11;
}
static void spoil_works(gwtf_protocol *p) {
    p->works_count = 3;
}
static void spoil_work(gwtf_protocol *p) {
    p->works[0].slot = 3;
}
static void spoil_running(gwtf_protocol *p) {
    p->works_count = 0;
}
static void spoil_snapshot(gwtf_protocol *p) {
    p->works[p->works_count++] =
        (struct gwtf_work){.kind = GWTF_WORK_SNAPSHOT, .iteration = p->iteration};
}
static void spoil_step(gwtf_protocol *p) {
    p->works[p->works_count++] = (struct gwtf_work){.kind = GWTF_WORK_STEP};
}
static void spoil_transfer_slot(gwtf_protocol *p) {
    p->transfers[0].payload.slot = 4;
}
static void spoil_transfer_state(gwtf_protocol *p) {
    p->slots[2].state = SLOT_FORWARD_READY;
}
static void spoil_transfers(gwtf_protocol *p) {
    p->transfers_used = 1;
}
static void spoil_gradient_sends(gwtf_protocol *p) {
    p->gradient_sends = 1;
}
static void spoil_round(gwtf_protocol *p) {
    p->rounds[0].iteration = 9;
}
static void spoil_dones(gwtf_protocol *p) {
    p->rounds[1].dones_here[GWTF_PHASE_TRAIN] = 1;
}
static void spoil_coming(gwtf_protocol *p) {
    p->tensors_coming++;
}
static void spoil_kept(gwtf_protocol *p) {
    p->slots[0].state = SLOT_KEPT;
}
static void spoil_lost(gwtf_protocol *p) {
    p->members[1].down = true;
}
static void spoil_stepped(gwtf_protocol *p) {
    p->stepped = 1;
}
static void spoil_ended(gwtf_protocol *p) {
    p->ended = true;
}
static void spoil_trained(gwtf_protocol *p) {
    p->trained = 5;
}

static void the_checker_sees_each_kind_of_damage(void) {
    static void (*const spoils[])(gwtf_protocol *) = {
        spoil_count,     spoil_sends,          spoil_leaving,       spoil_double,
        spoil_role,      spoil_gradient,       spoil_iteration,     spoil_phase,
        spoil_weights,   spoil_data_node,      spoil_previous,      spoil_previous_data_node,
        spoil_next,      spoil_works,          spoil_work,          spoil_running,
        spoil_snapshot,  spoil_step,           spoil_transfer_slot, spoil_transfer_state,
        spoil_transfers, spoil_gradient_sends, spoil_round,         spoil_dones,
        spoil_coming,    spoil_kept,           spoil_lost,          spoil_stepped,
        spoil_ended,     spoil_trained};
    for (size_t i = 0; i < sizeof spoils / sizeof spoils[0]; i++) {
        struct story story;
        begin(&story);
        CU_ASSERT(gwtf_protocol_check(story.protocol, NULL));
        spoils[i](story.protocol);
        const char *why = NULL;
        bool seen = !gwtf_protocol_check(story.protocol, &why) && why != NULL;
        CU_ASSERT(seen);
        if (!seen)
            fprintf(stderr, "damage %zu is not seen\n", i);
        story_end(&story);
    }
}

static void the_checker_sees_a_data_node_lose_a_microbatch(void) {
    struct story story;
    story_init(&story, 0, false);
    story_start(&story);
    for (int i = 0; i < 200 && gwtf_protocol_get_view(story.protocol).slots_used == 0; i++)
        story_timer(&story, 20000);
    CU_ASSERT_EQUAL_FATAL(gwtf_protocol_get_view(story.protocol).slots_used, 1);
    story.protocol->source.completed = 2;
    CU_ASSERT_FALSE(gwtf_protocol_check(story.protocol, NULL));
    story.protocol->source.completed = 1;
    CU_ASSERT_FALSE(gwtf_protocol_check(story.protocol, NULL));
    story.protocol->source.completed = 0;
    story.protocol->slots[0].microbatch.data_node = 1;
    CU_ASSERT_FALSE(gwtf_protocol_check(story.protocol, NULL));
    story_end(&story);
}

/* What a node has under way with its driver, which is honest. */
struct driver {
    uint64_t sends[256], receives[256];
    size_t sends_count, receives_count;
    struct gwtf_work works[2];
    size_t works_count;
};

static void note_actions(struct driver *driver, const struct story *story) {
    for (size_t i = 0; i < story->update.actions_count; i++) {
        const struct gwtf_action *action = &story->update.actions[i];
        if (action->kind == GWTF_ACTION_SEND && action->message.payload_bytes > 0)
            driver->sends[driver->sends_count++] = action->ticket;
        else if (action->kind == GWTF_ACTION_RECEIVE)
            driver->receives[driver->receives_count++] = action->ticket;
        else if (action->kind == GWTF_ACTION_WORK)
            driver->works[driver->works_count++] = action->work;
    }
}

static uint64_t take(struct gwtf_random *random, uint64_t *tickets, size_t *count) {
    size_t at = (size_t)gwtf_random_below(random, *count);
    uint64_t ticket = tickets[at];
    tickets[at] = tickets[--*count];
    return ticket;
}

static struct gwtf_message garbage(struct gwtf_random *random) {
    struct gwtf_message message;
    unsigned char *bytes = (unsigned char *)&message;
    for (size_t i = 0; i < sizeof message; i++)
        bytes[i] = (unsigned char)(gwtf_random_below(random, 3) ? 0 : gwtf_random_next(random));
    message.kind = (uint16_t)gwtf_random_below(random, GWTF_MESSAGE_CLOSE);
    message.phase = (uint16_t)gwtf_random_below(random, 3);
    message.iteration = (uint32_t)gwtf_random_below(random, 4);
    static const uint64_t sizes[] = {0, STORY_BOUNDARY_BYTES, 32 * 4, 5};
    message.payload_bytes = sizes[gwtf_random_below(random, 4)];
    bool of_microbatch =
        message.kind >= GWTF_MESSAGE_FORWARD && message.kind <= GWTF_MESSAGE_ACCEPTED;
    if (of_microbatch && gwtf_random_below(random, 8)) {
        message.body.microbatch.id.data_node = (gwtf_node_id)gwtf_random_below(random, 2);
        message.body.microbatch.id.index = (uint32_t)gwtf_random_below(random, 2);
        message.body.microbatch.attempt = (uint32_t)gwtf_random_below(random, 4);
    }
    return message;
}

static void feed(struct story *story, struct driver *driver, struct gwtf_random *random) {
    static const gwtf_node_id peers[] = {0, 1, 10, 11, 20, 21, 99};
    struct gwtf_message message;
    switch (gwtf_random_below(random, 8)) {
    case 0:
        story_timer(story, (int64_t)gwtf_random_below(random, 1000000));
        break;
    case 1:
        if (driver->sends_count > 0)
            story_sent(story, take(random, driver->sends, &driver->sends_count));
        break;
    case 2:
        if (driver->receives_count > 0)
            story_received(story, take(random, driver->receives, &driver->receives_count),
                           gwtf_random_below(random, 100) ? GWTF_OK : GWTF_ERROR_CORRUPT);
        break;
    case 3:
        if (driver->works_count > 0) {
            struct gwtf_work work = driver->works[0];
            driver->works[0] = driver->works[1];
            driver->works_count--;
            story_worked(story, &work);
        }
        break;
    default:
        message = garbage(random);
        story_message(story, peers[gwtf_random_below(random, 7)], &message);
        break;
    }
}

static void no_message_whatever_breaks_a_node(void) {
    static const gwtf_node_id selves[] = {0, 1, 10, 21};
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct gwtf_random random;
        gwtf_random_init(&random, seed);
        struct story story;
        story_init(&story, selves[seed % 4], false);
        story.config.validates = seed % 3 == 0;
        story.config.snapshot_every = 1;
        story.config.validation_microbatches = seed % 4 < 2;
        story_start(&story);
        struct driver driver = {0};
        note_actions(&driver, &story);
        for (int i = 0; i < 600 && !gwtf_protocol_get_view(story.protocol).finished; i++) {
            story.update.actions_count = 0;
            feed(&story, &driver, &random);
            note_actions(&driver, &story);
        }
        story_end(&story);
    }
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(the_checker_sees_each_kind_of_damage),
        GWTF_TEST(the_checker_sees_a_data_node_lose_a_microbatch),
        GWTF_TEST(no_message_whatever_breaks_a_node),
    };
    return gwtf_suite_main(argc, argv, "protocol_check", tests, sizeof tests / sizeof tests[0],
                           NULL, NULL);
}
