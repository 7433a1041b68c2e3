/* What the replicas of a stage do together: aggregation, snapshots, the end of a run. */
#include "tests/support/suite.h"
#include "tests/unit/protocol_node.h"

#include <math.h>
#include <string.h>

/* What relay 10 contributes when it has trained one microbatch of ITERATION. */
static struct gwtf_message contribution_of_10(uint32_t iteration, uint32_t index) {
    struct story story;
    story_init(&story, 10, true);
    story.config.first_iteration = iteration;
    story.config.last_iteration = iteration;
    story_start(&story);
    struct gwtf_action output = story_pass_forward(&story, 0, iteration, 0, index);
    story_pass_backward(&story, output.to, iteration, 0, index);
    struct gwtf_message done = story_done(iteration, 2);
    story_message(&story, 0, &done);
    const struct gwtf_action *sent = story_sends(&story, GWTF_MESSAGE_CONTRIBUTION, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(sent);
    struct gwtf_message message = sent->message;
    story_end(&story);
    return message;
}

/* The hash of a microbatch's id as the contributions sum it up, and the name of the attempt while
 * all live. */
static uint64_t ids_of(uint32_t iteration, uint32_t index) {
    return contribution_of_10(iteration, index).body.contribution.ids;
}

static uint64_t undisturbed_view(void) {
    return contribution_of_10(1, 0).body.contribution.view;
}

/* Replica 11 has the whole sum too. */
static struct gwtf_message complete_of_11(void) {
    struct gwtf_message message = {.kind = GWTF_MESSAGE_COMPLETE, .iteration = 1};
    message.body.view.number = 1;
    message.body.view.view = undisturbed_view();
    message.body.view.complete_view = message.body.view.view;
    message.body.view.complete_iteration = 1;
    return message;
}

/* The work that the last step has begun; it must be of KIND. */
static struct gwtf_work begun(const struct story *story, enum gwtf_work_kind kind) {
    const struct gwtf_action *action = story_action(story, GWTF_ACTION_WORK, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(action);
    CU_ASSERT_EQUAL(action->work.kind, kind);
    return action->work;
}

/* Relay 10 has trained microbatch 0 of data node 0, and the phase has ended. */
static void train_one(struct story *story) {
    story_init(story, 10, true);
    story_start(story);
    struct gwtf_action output = story_pass_forward(story, 0, 1, 0, 0);
    struct gwtf_action gradient = story_pass_backward(story, output.to, 1, 0, 0);
    story_sent(story, output.ticket);
    story_sent(story, gradient.ticket);
    struct gwtf_message done = story_done(1, 2);
    story_message(story, 0, &done);
}

/* What replica 11 contributes when it has trained the other one. */
static struct gwtf_message contribution_of_11(void) {
    struct gwtf_message message = {
        .kind = GWTF_MESSAGE_CONTRIBUTION, .iteration = 1, .payload_bytes = 32 * 4};
    message.body.contribution.view = undisturbed_view();
    message.body.contribution.microbatches = 1;
    message.body.contribution.ids = ids_of(1, 1);
    return message;
}

static struct gwtf_message norm_of(uint32_t stage, double sum_of_squares) {
    struct gwtf_message message = {.kind = GWTF_MESSAGE_NORM, .iteration = 1};
    message.body.norm.stage = stage;
    message.body.norm.sum_of_squares = sum_of_squares;
    message.body.norm.replicas = 2;
    return message;
}

/* Relay 10 contributes, gets 11's contribution and reduces; the ticket of its own contribution. */
static uint64_t exchange(struct story *story) {
    train_one(story);
    const struct gwtf_action *sent = story_sends(story, GWTF_MESSAGE_CONTRIBUTION, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(sent);
    CU_ASSERT_EQUAL(sent->to, 11);
    CU_ASSERT_EQUAL(sent->payload.kind, GWTF_PAYLOAD_GRADIENT);
    CU_ASSERT_EQUAL(sent->payload.offset, 32);
    CU_ASSERT_EQUAL(sent->payload.count, 32);
    CU_ASSERT_EQUAL(sent->message.body.contribution.microbatches, 1);
    uint64_t ticket = sent->ticket;
    struct gwtf_message contribution = contribution_of_11();
    story_message(story, 11, &contribution);
    const struct gwtf_action *receive = story_action(story, GWTF_ACTION_RECEIVE, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(receive);
    CU_ASSERT_EQUAL(receive->payload.kind, GWTF_PAYLOAD_PART);
    CU_ASSERT_EQUAL(receive->payload.part, 1);
    story_received(story, receive->ticket, GWTF_OK);
    struct gwtf_work work = begun(story, GWTF_WORK_REDUCE);
    CU_ASSERT_EQUAL(work.own_part, 0);
    CU_ASSERT_EQUAL(work.parts_present[0], 3);
    story_worked(story, &work);
    CU_ASSERT_PTR_NOT_NULL(story_sends(story, GWTF_MESSAGE_REDUCED, 0));
    return ticket;
}

/* 11's share and the other stages' norms come; relay 10 has all but 11's word that it has, too. */
static void collect(struct story *story) {
    struct gwtf_message share = {
        .kind = GWTF_MESSAGE_REDUCED, .iteration = 1, .payload_bytes = 32 * 4};
    share.body.reduced.view = undisturbed_view();
    share.body.reduced.sum_of_squares = 5;
    story_message(story, 11, &share);
    const struct gwtf_action *receive = story_action(story, GWTF_ACTION_RECEIVE, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(receive);
    CU_ASSERT_EQUAL(receive->payload.kind, GWTF_PAYLOAD_REDUCED);
    CU_ASSERT_EQUAL(receive->payload.offset, 32);
    story_received(story, receive->ticket, GWTF_OK);
    CU_ASSERT_PTR_NOT_NULL(story_sends(story, GWTF_MESSAGE_COMPLETE, 0));
    struct gwtf_message norms[] = {norm_of(0, 16), norm_of(2, 0)};
    story_message(story, 0, &norms[0]);
    story_message(story, 20, &norms[1]);
    CU_ASSERT_PTR_NULL(story_sends(story, GWTF_MESSAGE_NORM, 0));
    CU_ASSERT_EQUAL(story_count(story, GWTF_ACTION_WORK), 0);
}

static void a_stage_steps_once_when_all_replicas_have_everything(void) {
    struct story story;
    uint64_t ticket = exchange(&story);
    collect(&story);
    struct gwtf_message complete = complete_of_11();
    story_message(&story, 11, &complete);
    const struct gwtf_action *norm = story_sends(&story, GWTF_MESSAGE_NORM, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(norm);
    CU_ASSERT_EQUAL(norm->message.body.norm.sum_of_squares, 4 + 5);
    /* The gradients are still on their way to 11: STEP would clear them. */
    CU_ASSERT_EQUAL(story_count(&story, GWTF_ACTION_WORK), 0);
    story_sent(&story, ticket);
    struct gwtf_work work = begun(&story, GWTF_WORK_STEP);
    CU_ASSERT_EQUAL(work.gradient_norm, 5);
    story_worked(&story, &work);
    const struct gwtf_action *stepped = story_action(&story, GWTF_ACTION_STEPPED, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(stepped);
    CU_ASSERT_EQUAL(stepped->iteration, 1);
    CU_ASSERT_EQUAL(gwtf_protocol_get_view(story.protocol).iteration, 2);
    story_message(&story, 11, &complete);
    CU_ASSERT_EQUAL(story_count(&story, GWTF_ACTION_WORK), 0);
    story_end(&story);
}

static void expect_wait(const struct story *story, enum gwtf_waits_kind kind, uint32_t of) {
    struct gwtf_waits waits = gwtf_protocol_get_waits(story->protocol);
    CU_ASSERT_EQUAL(waits.kind, kind);
    CU_ASSERT_EQUAL(waits.count, of == GWTF_NODE_NONE ? 0 : 1);
    if (of != GWTF_NODE_NONE)
        CU_ASSERT_EQUAL(waits.of[0], of);
}

static void a_node_says_what_it_waits_for(void) {
    struct story story;
    train_one(&story);
    expect_wait(&story, GWTF_WAITS_CONTRIBUTION, 11);
    story_end(&story);
    uint64_t ticket = exchange(&story);
    expect_wait(&story, GWTF_WAITS_SHARE, 11);
    collect(&story);
    expect_wait(&story, GWTF_WAITS_COMPLETE, 11);
    struct gwtf_message complete = complete_of_11();
    story_message(&story, 11, &complete);
    expect_wait(&story, GWTF_WAITS_SENDS, GWTF_NODE_NONE);
    story_sent(&story, ticket);
    expect_wait(&story, GWTF_WAITS_WORK, GWTF_NODE_NONE);
    struct gwtf_work work = begun(&story, GWTF_WORK_STEP);
    story_worked(&story, &work);
    expect_wait(&story, GWTF_WAITS_DONE, 0);
    CU_ASSERT_STRING_EQUAL(gwtf_waits_name(GWTF_WAITS_DONE), "the end of microbatches of nodes");
    story_end(&story);
}

static void a_share_is_not_overwritten_while_it_is_sent(void) {
    struct story story;
    uint64_t ticket = exchange(&story);
    uint64_t share_ticket = story_sends(&story, GWTF_MESSAGE_REDUCED, 0)->ticket;
    collect(&story);
    struct gwtf_message complete = complete_of_11();
    story_sent(&story, ticket);
    CU_ASSERT_EQUAL(story_count(&story, GWTF_ACTION_WORK), 0);
    story_message(&story, 11, &complete);
    struct gwtf_work work = begun(&story, GWTF_WORK_STEP);
    story_worked(&story, &work);
    /* Iteration 2, in which 11 trains everything. */
    struct gwtf_message done = story_done(2, 2);
    story_message(&story, 0, &done);
    struct gwtf_message contribution = contribution_of_11();
    contribution.iteration = 2;
    contribution.body.contribution.microbatches = 2;
    contribution.body.contribution.ids = ids_of(2, 0) + ids_of(2, 1);
    story_message(&story, 11, &contribution);
    story_received(&story, story_action(&story, GWTF_ACTION_RECEIVE, 0)->ticket, GWTF_OK);
    CU_ASSERT_EQUAL(story_count(&story, GWTF_ACTION_WORK), 0);
    story_sent(&story, share_ticket);
    begun(&story, GWTF_WORK_REDUCE);
    story_end(&story);
}

/* The stage's first replica tells the recorder, who begins the iteration anew. */
static void expect_irreparable(struct story *story, uint64_t contribution_ticket) {
    bool told = false;
    for (size_t i = 0; story_sends(story, GWTF_MESSAGE_IRREPARABLE, i); i++)
        told = told || story_sends(story, GWTF_MESSAGE_IRREPARABLE, i)->to == 0;
    CU_ASSERT(told);
    CU_ASSERT_EQUAL(story_count(story, GWTF_ACTION_WORK), 0);
    struct gwtf_message restart = {.kind = GWTF_MESSAGE_RESTART, .iteration = 1, .generation = 1};
    restart.body.restart.data_nodes[0] = 1;
    story_message(story, 0, &restart);
    CU_ASSERT_EQUAL(story_count(story, GWTF_ACTION_WORK), 0);
    story_sent(story, contribution_ticket);
    const struct gwtf_action *work = story_action(story, GWTF_ACTION_WORK, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(work);
    CU_ASSERT_EQUAL(work->work.kind, GWTF_WORK_CLEAR);
    CU_ASSERT_EQUAL(gwtf_protocol_get_view(story->protocol).generation, 1);
}

static void a_microbatch_counted_twice_begins_the_iteration_anew(void) {
    struct story story;
    train_one(&story);
    uint64_t ticket = story_sends(&story, GWTF_MESSAGE_CONTRIBUTION, 0)->ticket;
    struct gwtf_message contribution = contribution_of_11();
    contribution.body.contribution.ids = ids_of(1, 0); /* the one that 10 has */
    story_message(&story, 11, &contribution);
    story_received(&story, story_action(&story, GWTF_ACTION_RECEIVE, 0)->ticket, GWTF_OK);
    expect_irreparable(&story, ticket);
    story_end(&story);
}

static void a_microbatch_that_nobody_counts_begins_the_iteration_anew(void) {
    struct story story;
    train_one(&story);
    uint64_t ticket = story_sends(&story, GWTF_MESSAGE_CONTRIBUTION, 0)->ticket;
    struct gwtf_message contribution = {.kind = GWTF_MESSAGE_CONTRIBUTION, .iteration = 1};
    contribution.body.contribution.view = undisturbed_view();
    story_message(&story, 11, &contribution);
    expect_irreparable(&story, ticket);
    story_end(&story);
}

static void an_idle_replica_contributes_without_a_tensor(void) {
    struct story story;
    story_init(&story, 10, true);
    story_start(&story);
    struct gwtf_message done = story_done(1, 2);
    story_message(&story, 0, &done);
    const struct gwtf_action *sent = story_sends(&story, GWTF_MESSAGE_CONTRIBUTION, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(sent);
    CU_ASSERT_EQUAL(sent->message.payload_bytes, 0);
    struct gwtf_message contribution = contribution_of_11();
    contribution.body.contribution.microbatches = 2;
    contribution.body.contribution.ids = ids_of(1, 0) + ids_of(1, 1);
    story_message(&story, 11, &contribution);
    story_received(&story, story_action(&story, GWTF_ACTION_RECEIVE, 0)->ticket, GWTF_OK);
    const struct gwtf_action *reduce = story_action(&story, GWTF_ACTION_WORK, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(reduce);
    CU_ASSERT_EQUAL(reduce->work.parts_present[0], 2);
    story_end(&story);
}

static void a_share_of_no_floats_is_no_tensor_and_no_work(void) {
    struct story story;
    story_init(&story, 11, true);
    story.config.gradient_floats = 16; /* one line: replica 10's */
    story_start(&story);
    struct gwtf_action output = story_pass_forward(&story, 0, 1, 0, 0);
    story_pass_backward(&story, output.to, 1, 0, 0);
    struct gwtf_message done = story_done(1, 2);
    story_message(&story, 0, &done);
    CU_ASSERT_EQUAL(story_sends(&story, GWTF_MESSAGE_CONTRIBUTION, 0)->message.payload_bytes, 64);
    struct gwtf_message contribution = contribution_of_11();
    contribution.payload_bytes = 0;
    story_message(&story, 10, &contribution);
    CU_ASSERT_EQUAL(story_count(&story, GWTF_ACTION_WORK), 0);
    const struct gwtf_action *share = story_sends(&story, GWTF_MESSAGE_REDUCED, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(share);
    CU_ASSERT_EQUAL(share->message.payload_bytes, 0);
    CU_ASSERT_EQUAL(share->message.body.reduced.sum_of_squares, 0);
    story_end(&story);
}

static void a_second_done_changes_nothing(void) {
    struct story story;
    story_init(&story, 10, false);
    story_start(&story);
    struct gwtf_message done = story_done(1, 2);
    story_message(&story, 0, &done);
    story_message(&story, 0, &done);
    CU_ASSERT_PTR_NULL(story_sends(&story, GWTF_MESSAGE_CONTRIBUTION, 0));
    story_message(&story, 1, &done);
    CU_ASSERT_PTR_NOT_NULL(story_sends(&story, GWTF_MESSAGE_CONTRIBUTION, 0));
    story_message(&story, 1, &done);
    CU_ASSERT_EQUAL(story.update.actions_count, 0);
    story_end(&story);
}

static void the_next_iteration_is_taken_in_but_waits_for_the_step(void) {
    struct story story;
    train_one(&story);
    struct gwtf_message next = story_forward(2, 0, 0);
    story_message(&story, 0, &next);
    story_received(&story, story_action(&story, GWTF_ACTION_RECEIVE, 0)->ticket, GWTF_OK);
    CU_ASSERT_EQUAL(story_count(&story, GWTF_ACTION_WORK), 0);
    CU_ASSERT_EQUAL(gwtf_protocol_get_view(story.protocol).slots_used, 1);
    struct gwtf_message late = story_forward(1, 0, 1);
    story_message(&story, 0, &late);
    CU_ASSERT_EQUAL(story_count(&story, GWTF_ACTION_RECEIVE), 1);
    story_end(&story);
}

/* A tensor comes from relay 10, and the work that it is for is done. */
static void take_tensor(struct story *story, const struct gwtf_message *message,
                        enum gwtf_work_kind kind) {
    story_message(story, 10, message);
    const struct gwtf_action *receive = story_action(story, GWTF_ACTION_RECEIVE, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(receive);
    story_received(story, receive->ticket, GWTF_OK);
    struct gwtf_work work = begun(story, kind);
    story_worked(story, &work);
}

/* Data node 0 with one relay, started, its one microbatch back. */
static void train_recorder(struct story *story, bool stop) {
    static const struct gwtf_member members[] = {{.node = 0, .stage = 0}, {.node = 10, .stage = 1}};
    story_init(story, 0, true);
    memcpy(story->members, members, sizeof members);
    story->config.members_count = 2;
    story->config.stages = 1;
    story->config.microbatches = 1;
    story->config.last_iteration = stop ? 2 : 1;
    story_start(story);
    if (stop)
        story_event(story, GWTF_EVENT_STOP, GWTF_NODE_NONE);
    /* No flow: the microbatch goes without a route after half a second for each of two hops. */
    for (int i = 0; i < 100 && story_count(story, GWTF_ACTION_WORK) == 0; i++)
        story_timer(story, 20000);
    struct gwtf_work work = begun(story, GWTF_WORK_EMBED);
    story_worked(story, &work);
    story_sent(story, story_sends(story, GWTF_MESSAGE_FORWARD, 0)->ticket);
    struct gwtf_message forward = story_forward(1, 0, 0), backward = story_backward(1, 0, 0);
    take_tensor(story, &forward, GWTF_WORK_LOSS);
    story_sent(story, story_sends(story, GWTF_MESSAGE_BACKWARD, 0)->ticket);
    take_tensor(story, &backward, GWTF_WORK_EMBED_BACKWARD);
    const struct gwtf_action *done = story_sends(story, GWTF_MESSAGE_DONE, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(done);
    CU_ASSERT_EQUAL(done->message.body.done.stop, stop);
    CU_ASSERT_EQUAL(done->message.body.done.loss_sum, 20);
}

/* And after its own last step. */
static void step_recorder(struct story *story, bool stop) {
    train_recorder(story, stop);
    /* One replica: no exchange, at once REDUCE of everything. */
    struct gwtf_work work = begun(story, GWTF_WORK_REDUCE);
    CU_ASSERT_EQUAL(work.count, STORY_FLOATS);
    story_worked(story, &work);
    struct gwtf_message norm = norm_of(1, 12);
    norm.body.norm.busy_us = 1000;
    norm.body.norm.replicas = 1;
    story_message(story, 10, &norm);
    work = begun(story, GWTF_WORK_STEP);
    CU_ASSERT_EQUAL(work.gradient_norm, 4);
    story_worked(story, &work);
}

static void hash_recorder(struct story *story, uint64_t hash_of_10) {
    struct gwtf_work work = begun(story, GWTF_WORK_SNAPSHOT);
    CU_ASSERT(work.writes);
    story_worked(story, &work);
    CU_ASSERT_EQUAL(story_count(story, GWTF_ACTION_HASHED), 1);
    struct gwtf_message hash = {.kind = GWTF_MESSAGE_HASH, .iteration = 1};
    hash.body.hash.weights = hash_of_10;
    story_message(story, 10, &hash);
}

static void write_all(struct story *story, gwtf_status status) {
    struct gwtf_event written = {
        .kind = GWTF_EVENT_WRITTEN, .iteration = 1, .file = {.size_bytes = 100}};
    story_step(story, &written);
    CU_ASSERT_EQUAL(story_count(story, GWTF_ACTION_MANIFEST), 0);
    struct gwtf_message message = {.kind = GWTF_MESSAGE_WRITTEN, .iteration = 1};
    message.body.written.stage = 1;
    message.body.written.status = (uint32_t)status;
    message.body.written.file.size_bytes = 101;
    story_message(story, 10, &message);
}

static void the_recorder_reports_and_closes_when_the_manifest_is_there(void) {
    struct story story;
    step_recorder(&story, false);
    const struct gwtf_action *report = story_action(&story, GWTF_ACTION_REPORT, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(report);
    CU_ASSERT_EQUAL(report->report->iteration, 1);
    CU_ASSERT_EQUAL(report->report->loss, 2);
    CU_ASSERT(isnan(report->report->validation_loss));
    CU_ASSERT_EQUAL(report->report->gradient_norm, 4);
    CU_ASSERT_EQUAL(report->report->nodes, 2);
    CU_ASSERT_DOUBLE_EQUAL(report->report->stage_utilisation[1],
                           1000 / (double)report->report->duration_us, 1e-12);
    hash_recorder(&story, 7);
    write_all(&story, GWTF_OK);
    const struct gwtf_action *manifest = story_action(&story, GWTF_ACTION_MANIFEST, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(manifest);
    CU_ASSERT_EQUAL(manifest->iteration, 1);
    CU_ASSERT_EQUAL(manifest->files[0].size_bytes, 100);
    CU_ASSERT_EQUAL(manifest->files[1].size_bytes, 101);
    struct gwtf_event written = {.kind = GWTF_EVENT_MANIFEST_WRITTEN, .iteration = 1};
    story_step(&story, &written);
    CU_ASSERT_PTR_NOT_NULL(story_sends(&story, GWTF_MESSAGE_CLOSE, 0));
    CU_ASSERT_EQUAL(story_count(&story, GWTF_ACTION_FINISH), 1);
    CU_ASSERT_EQUAL(story.status, GWTF_OK);
    story_end(&story);
}

static void stop_ends_the_run_with_a_snapshot(void) {
    struct story story;
    step_recorder(&story, true);
    hash_recorder(&story, 7);
    write_all(&story, GWTF_OK);
    struct gwtf_event written = {.kind = GWTF_EVENT_MANIFEST_WRITTEN, .iteration = 1};
    story_step(&story, &written);
    const struct gwtf_action *finish = story_action(&story, GWTF_ACTION_FINISH, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(finish);
    CU_ASSERT_EQUAL(finish->status, GWTF_ERROR_INTERRUPTED);
    story_end(&story);
}

static void replicas_that_disagree_end_the_run_without_a_manifest(void) {
    struct story story;
    struct gwtf_message hash = {.kind = GWTF_MESSAGE_HASH, .iteration = 1};
    hash.body.hash.weights = 7;
    story_init(&story, 0, true);
    story_start(&story);
    story_message(&story, 20, &hash);
    hash.body.hash.weights = 8;
    story_message(&story, 20, &hash);
    CU_ASSERT_EQUAL(story.status, GWTF_OK); /* a second one of the same node is not heard */
    story_message(&story, 21, &hash);
    const struct gwtf_action *finish = story_action(&story, GWTF_ACTION_FINISH, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(finish);
    CU_ASSERT_EQUAL(finish->status, GWTF_ERROR_DISAGREEMENT);
    CU_ASSERT_PTR_NOT_NULL(story_sends(&story, GWTF_MESSAGE_CLOSE, 0));
    CU_ASSERT_EQUAL(story_count(&story, GWTF_ACTION_MANIFEST), 0);
    story_end(&story);
}

static void a_stage_file_that_cannot_be_written_ends_the_run(void) {
    struct story story;
    step_recorder(&story, false);
    hash_recorder(&story, 7);
    write_all(&story, GWTF_ERROR_IO);
    const struct gwtf_action *finish = story_action(&story, GWTF_ACTION_FINISH, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(finish);
    CU_ASSERT_EQUAL(finish->status, GWTF_ERROR_IO);
    CU_ASSERT_EQUAL(finish->culprit, 10);
    CU_ASSERT_EQUAL(story_sends(&story, GWTF_MESSAGE_CLOSE, 0)->message.body.close.status,
                    GWTF_ERROR_IO);
    story_end(&story);
}

/* Relay 10 has one of two microbatches, and 11 had the other. */
static void what_is_dropped_counts_as_the_average_of_the_rest(void) {
    struct story story;
    story_init(&story, 10, true);
    story.config.recovery = GWTF_RECOVERY_DROP;
    story_start(&story);
    struct gwtf_action output = story_pass_forward(&story, 0, 1, 0, 0);
    story_pass_backward(&story, output.to, 1, 0, 0);
    story_event(&story, GWTF_EVENT_PEER_DOWN, 11);
    struct gwtf_message done = story_done(1, 2);
    story_message(&story, 0, &done);
    struct gwtf_work work = begun(&story, GWTF_WORK_REDUCE);
    CU_ASSERT_EQUAL(work.count, STORY_FLOATS);
    CU_ASSERT_EQUAL(work.scale, 2.0);
    story_end(&story);
}

static void shares_cover_the_gradients_in_whole_lines(void) {
    for (uint64_t floats = 0; floats <= 16 * 40; floats += 16) {
        for (uint32_t replicas = 1; replicas <= 9; replicas++) {
            uint64_t end = 0, least = UINT64_MAX, most = 0;
            for (uint32_t rank = 0; rank < replicas; rank++) {
                uint64_t offset, count;
                gwtf_share_of(floats, replicas, rank, &offset, &count);
                CU_ASSERT_EQUAL(offset, end);
                CU_ASSERT_EQUAL(count % 16, 0);
                end += count;
                least = count < least ? count : least;
                most = count > most ? count : most;
            }
            CU_ASSERT_EQUAL(end, floats);
            CU_ASSERT(most - least <= 16);
        }
    }
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(a_stage_steps_once_when_all_replicas_have_everything),
        GWTF_TEST(a_node_says_what_it_waits_for),
        GWTF_TEST(a_share_is_not_overwritten_while_it_is_sent),
        GWTF_TEST(a_microbatch_counted_twice_begins_the_iteration_anew),
        GWTF_TEST(a_microbatch_that_nobody_counts_begins_the_iteration_anew),
        GWTF_TEST(an_idle_replica_contributes_without_a_tensor),
        GWTF_TEST(a_share_of_no_floats_is_no_tensor_and_no_work),
        GWTF_TEST(a_second_done_changes_nothing),
        GWTF_TEST(the_next_iteration_is_taken_in_but_waits_for_the_step),
        GWTF_TEST(the_recorder_reports_and_closes_when_the_manifest_is_there),
        GWTF_TEST(stop_ends_the_run_with_a_snapshot),
        GWTF_TEST(replicas_that_disagree_end_the_run_without_a_manifest),
        GWTF_TEST(a_stage_file_that_cannot_be_written_ends_the_run),
        GWTF_TEST(what_is_dropped_counts_as_the_average_of_the_rest),
        GWTF_TEST(shares_cover_the_gradients_in_whole_lines),
    };
    return gwtf_suite_main(argc, argv, "protocol_stage", tests, sizeof tests / sizeof tests[0],
                           NULL, NULL);
}
