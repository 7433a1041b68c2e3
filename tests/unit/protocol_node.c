#include "tests/unit/protocol_node.h"

#include <CUnit/CUnit.h>
#include <stdlib.h>
#include <string.h>

void story_init(struct story *story, gwtf_node_id self, bool one_data_node) {
    static const struct gwtf_member members[] = {
        {.node = 0, .stage = 0},  {.node = 1, .stage = 0},  {.node = 10, .stage = 1},
        {.node = 11, .stage = 1}, {.node = 20, .stage = 2}, {.node = 21, .stage = 2}};
    memset(story, 0, sizeof *story);
    size_t count = 0;
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        if (members[i].node != 1 || !one_data_node)
            story->members[count++] = members[i];
    story->config = (struct gwtf_protocol_config){.self = self,
                                                  .members = story->members,
                                                  .members_count = count,
                                                  .stages = 2,
                                                  .capacity = 2,
                                                  .compute_us = 1000,
                                                  .first_iteration = 1,
                                                  .last_iteration = 2,
                                                  .microbatches = 2,
                                                  .boundary_bytes = STORY_BOUNDARY_BYTES,
                                                  .gradient_floats = STORY_FLOATS,
                                                  .seed = 1};
}

void story_start(struct story *story) {
    gwtf_status status = gwtf_protocol_create(&story->config, &story->protocol);
    CU_ASSERT_EQUAL_FATAL(status, GWTF_OK);
    story->update.actions_max = gwtf_protocol_actions_max(&story->config);
    story->update.actions = calloc(story->update.actions_max, sizeof *story->update.actions);
    CU_ASSERT_PTR_NOT_NULL_FATAL(story->update.actions);
    story_event(story, GWTF_EVENT_START, GWTF_NODE_NONE);
}

void story_end(struct story *story) {
    gwtf_protocol_destroy(story->protocol);
    free(story->update.actions);
}

void story_step(struct story *story, const struct gwtf_event *event) {
    struct gwtf_event timed = *event;
    timed.now_us = ++story->now_us;
    story->status = gwtf_protocol_step(story->protocol, &timed, &story->update);
    const char *why = "";
    if (!gwtf_protocol_check(story->protocol, &why))
        CU_FAIL(why);
}

void story_message(struct story *story, gwtf_node_id peer, const struct gwtf_message *message) {
    struct gwtf_event event = {.kind = GWTF_EVENT_MESSAGE, .peer = peer, .message = *message};
    story_step(story, &event);
}

void story_received(struct story *story, uint64_t ticket, gwtf_status status) {
    struct gwtf_event event = {
        .kind = GWTF_EVENT_PAYLOAD_RECEIVED, .ticket = ticket, .status = status};
    story_step(story, &event);
}

void story_sent(struct story *story, uint64_t ticket) {
    struct gwtf_event event = {.kind = GWTF_EVENT_PAYLOAD_SENT, .ticket = ticket};
    story_step(story, &event);
}

void story_worked(struct story *story, const struct gwtf_work *work) {
    struct gwtf_event event = {.kind = GWTF_EVENT_WORK_DONE, .work = *work};
    event.result.compute_us = 1000;
    event.result.sum_of_squares = 4;
    event.result.tokens = 10;
    event.result.loss_sum = 20;
    event.result.hash = 7;
    story_step(story, &event);
}

void story_timer(struct story *story, int64_t after_us) {
    story->now_us += after_us;
    story_event(story, GWTF_EVENT_TIMER, GWTF_NODE_NONE);
}

void story_event(struct story *story, enum gwtf_event_kind kind, gwtf_node_id peer) {
    struct gwtf_event event = {.kind = kind, .peer = peer};
    story_step(story, &event);
}

static struct gwtf_message tensor(enum gwtf_message_kind kind, uint32_t iteration,
                                  gwtf_node_id data_node, uint32_t index) {
    struct gwtf_message message = {
        .kind = (uint16_t)kind, .iteration = iteration, .payload_bytes = STORY_BOUNDARY_BYTES};
    message.body.microbatch.id.data_node = data_node;
    message.body.microbatch.id.index = index;
    message.body.microbatch.attempt = 1;
    return message;
}

struct gwtf_message story_forward(uint32_t iteration, gwtf_node_id data_node, uint32_t index) {
    return tensor(GWTF_MESSAGE_FORWARD, iteration, data_node, index);
}

struct gwtf_message story_backward(uint32_t iteration, gwtf_node_id data_node, uint32_t index) {
    return tensor(GWTF_MESSAGE_BACKWARD, iteration, data_node, index);
}

struct gwtf_message story_done(uint32_t iteration, uint32_t microbatches) {
    struct gwtf_message message = {.kind = GWTF_MESSAGE_DONE, .iteration = iteration};
    message.body.done.microbatches = microbatches;
    message.body.done.tokens = 10;
    return message;
}

const struct gwtf_action *story_action(const struct story *story, enum gwtf_action_kind kind,
                                       size_t number) {
    for (size_t i = 0; i < story->update.actions_count; i++)
        if (story->update.actions[i].kind == kind && number-- == 0)
            return &story->update.actions[i];
    return NULL;
}

const struct gwtf_action *story_sends(const struct story *story, enum gwtf_message_kind kind,
                                      size_t number) {
    for (size_t i = 0; i < story->update.actions_count; i++) {
        const struct gwtf_action *action = &story->update.actions[i];
        if (action->kind == GWTF_ACTION_SEND && action->message.kind == kind && number-- == 0)
            return action;
    }
    return NULL;
}

size_t story_count(const struct story *story, enum gwtf_action_kind kind) {
    size_t count = 0;
    while (story_action(story, kind, count))
        count++;
    return count;
}

/* The tensor message MESSAGE comes, its tensor too, and the work that follows is done. */
static struct gwtf_action pass(struct story *story, gwtf_node_id peer,
                               const struct gwtf_message *message, enum gwtf_message_kind sends) {
    struct gwtf_action missing = {.kind = GWTF_ACTION_FINISH};
    story_message(story, peer, message);
    const struct gwtf_action *receive = story_action(story, GWTF_ACTION_RECEIVE, 0);
    CU_ASSERT_PTR_NOT_NULL(receive);
    if (!receive)
        return missing;
    story_received(story, receive->ticket, GWTF_OK);
    const struct gwtf_action *work = story_action(story, GWTF_ACTION_WORK, 0);
    CU_ASSERT_PTR_NOT_NULL(work);
    if (!work)
        return missing;
    struct gwtf_work done = work->work;
    story_worked(story, &done);
    const struct gwtf_action *send = story_sends(story, sends, 0);
    CU_ASSERT_PTR_NOT_NULL(send);
    return send ? *send : missing;
}

struct gwtf_action story_pass_forward(struct story *story, gwtf_node_id previous,
                                      uint32_t iteration, gwtf_node_id data_node, uint32_t index) {
    struct gwtf_message message = story_forward(iteration, data_node, index);
    return pass(story, previous, &message, GWTF_MESSAGE_FORWARD);
}

struct gwtf_action story_pass_backward(struct story *story, gwtf_node_id next, uint32_t iteration,
                                       gwtf_node_id data_node, uint32_t index) {
    struct gwtf_message message = story_backward(iteration, data_node, index);
    return pass(story, next, &message, GWTF_MESSAGE_BACKWARD);
}
