/* One protocol and what it asks for, for stories of a single node. */
#ifndef GWTF_TESTS_UNIT_PROTOCOL_NODE_H
#define GWTF_TESTS_UNIT_PROTOCOL_NODE_H

#include "worker/protocol/protocol.h"

#define STORY_BOUNDARY_BYTES 64u
#define STORY_FLOATS 64u

struct story {
    struct gwtf_member members[16];
    struct gwtf_protocol_config config;
    gwtf_protocol *protocol;
    struct gwtf_update update; /* of the last step */
    gwtf_time_us now_us;
    gwtf_status status; /* that the last step returned */
};

/*
 * A run of two stages, ids as they read: data nodes 0 and 1 (one alone with ONE_DATA_NODE), relays
 * 10 and 11 of stage 1, 20 and 21 of stage 2. Node SELF has two slots; two iterations of two
 * microbatches; STORY_FLOATS gradients, so 32 for each of two replicas. Not started.
 */
void story_init(struct story *story, gwtf_node_id self, bool one_data_node);
/* After changes of story->config; starts the node. */
void story_start(struct story *story);
void story_end(struct story *story);

/* One event, a microsecond after the last; the actions lie in story->update. After it the state
 * must be sound (a CUnit assertion). */
void story_step(struct story *story, const struct gwtf_event *event);

/* Events. */
void story_message(struct story *story, gwtf_node_id peer, const struct gwtf_message *message);
void story_received(struct story *story, uint64_t ticket, gwtf_status status);
void story_sent(struct story *story, uint64_t ticket);
void story_worked(struct story *story, const struct gwtf_work *work);
void story_timer(struct story *story, int64_t after_us);
void story_event(struct story *story, enum gwtf_event_kind kind, gwtf_node_id peer);

struct gwtf_message story_forward(uint32_t iteration, gwtf_node_id data_node, uint32_t index);
struct gwtf_message story_backward(uint32_t iteration, gwtf_node_id data_node, uint32_t index);
struct gwtf_message story_done(uint32_t iteration, uint32_t microbatches);

/* The NUMBER-th action of the last step of KIND, NULL when there are not so many. */
const struct gwtf_action *story_action(const struct story *story, enum gwtf_action_kind kind,
                                       size_t number);
/* The NUMBER-th message of KIND sent by the last step. */
const struct gwtf_action *story_sends(const struct story *story, enum gwtf_message_kind kind,
                                      size_t number);
size_t story_count(const struct story *story, enum gwtf_action_kind kind);

/*
 * Takes a relay's microbatch through its forward pass: FORWARD from its previous hop, tensor, work.
 * Returns the action that passes it on, copied, or one of kind FINISH when something was missing.
 */
struct gwtf_action story_pass_forward(struct story *story, gwtf_node_id previous,
                                      uint32_t iteration, gwtf_node_id data_node, uint32_t index);
/* And back: BACKWARD from NEXT, tensor, work; the action that sends the gradient back. */
struct gwtf_action story_pass_backward(struct story *story, gwtf_node_id next, uint32_t iteration,
                                       gwtf_node_id data_node, uint32_t index);

#endif
