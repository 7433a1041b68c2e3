/*
 * A flow problem as a whole: who is in which stage, who can carry how much, what each hop costs.
 * For the yardstick, the generator and drivers in virtual time; a node of the algorithm never sees
 * one.
 *
 * Costs stand as blocks between neighbouring stages, since no other links are of use: block s has a
 * row for each node of stage s and a column for each node of stage s+1 (of stage 0 after stage S).
 * 10,000 relays in 12 stages with all links take 31 MB.
 */
#ifndef GWTF_FLOW_INSTANCE_H
#define GWTF_FLOW_INSTANCE_H

#include "share/base/status.h"
#include "share/base/types.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GWTF_FLOW_NO_LINK (-1)

typedef struct gwtf_flow_instance gwtf_flow_instance;

/*
 * Nodes 0..NODES_COUNT-1 with a stage in 0..STAGES (0: data node) and a capacity each; no links
 * yet. The arrays are copied. Errors: GWTF_ERROR_USAGE for no stage, a stage without a node or one
 * that is too high; GWTF_ERROR_MEMORY; INSTANCE untouched.
 */
gwtf_status gwtf_flow_instance_create(uint32_t stages, uint32_t nodes_count, const uint32_t *stage,
                                      const uint32_t *capacity, gwtf_flow_instance **instance);
gwtf_status gwtf_flow_instance_create_copy(const gwtf_flow_instance *original,
                                           gwtf_flow_instance **instance);
void gwtf_flow_instance_destroy(gwtf_flow_instance *instance); /* NULL is allowed */

/* S, without stage 0. */
uint32_t gwtf_flow_instance_stages(const gwtf_flow_instance *instance);
uint32_t gwtf_flow_instance_nodes(const gwtf_flow_instance *instance);
uint32_t gwtf_flow_instance_stage(const gwtf_flow_instance *instance, gwtf_node_id node);
uint32_t gwtf_flow_instance_capacity(const gwtf_flow_instance *instance, gwtf_node_id node);
void gwtf_flow_instance_set_capacity(gwtf_flow_instance *instance, gwtf_node_id node,
                                     uint32_t capacity);
uint64_t gwtf_flow_instance_stage_capacity(const gwtf_flow_instance *instance, uint32_t stage);

/* The nodes of STAGE in the order of their ids, which is that of rows and columns. */
const gwtf_node_id *gwtf_flow_instance_stage_nodes(const gwtf_flow_instance *instance,
                                                   uint32_t stage, uint32_t *count);
/* The place of NODE among its stage's nodes. */
uint32_t gwtf_flow_instance_place(const gwtf_flow_instance *instance, gwtf_node_id node);
/* The stage after STAGE on the way of a flow: 0 after S. And the one before it. */
uint32_t gwtf_flow_instance_next_stage(const gwtf_flow_instance *instance, uint32_t stage);
uint32_t gwtf_flow_instance_previous_stage(const gwtf_flow_instance *instance, uint32_t stage);

/*
 * What a message from FROM to TO costs, whole units; GWTF_FLOW_NO_LINK when there is no link, or
 * the stages are no neighbours. From a stage to the next one is the cost of a hop. Against the
 * flow it is of no account: it is what was given with _set_cost_back, else that of the hop.
 */
int32_t gwtf_flow_instance_cost(const gwtf_flow_instance *instance, gwtf_node_id from,
                                gwtf_node_id to);
/* Costs from FROM to all nodes of the next stage, in their order. */
const int32_t *gwtf_flow_instance_row(const gwtf_flow_instance *instance, gwtf_node_id from);

/* TO is of the stage after FROM's. COST is at least 0, or GWTF_FLOW_NO_LINK. */
void gwtf_flow_instance_set_cost(gwtf_flow_instance *instance, gwtf_node_id from, gwtf_node_id to,
                                 int32_t cost);
/* Against the flow, from TO to FROM. Errors: GWTF_ERROR_MEMORY. */
gwtf_status gwtf_flow_instance_set_cost_back(gwtf_flow_instance *instance, gwtf_node_id from,
                                             gwtf_node_id to, int32_t cost);

/* Does any link cost something else against the flow? */
bool gwtf_flow_instance_has_back(const gwtf_flow_instance *instance);

/* Is there a way from a data node over nodes with capacity back to it? */
gwtf_status gwtf_flow_instance_find_path(const gwtf_flow_instance *instance, bool *found);

#endif
