/* Nodes that come back: a new life of a node, and channels that begin anew. */
#include "worker/simulation/state.h"

#include <stdlib.h>
#include <string.h>

/* Somebody has been taken as a member who is not there: heartbeats would tell after so long. */
#define ABSENT_NOTICE_US 2000000

uint64_t simulation_channel(const gwtf_simulation *simulation, uint32_t index, uint32_t peer) {
    const uint64_t *channels = simulation->nodes[index].channels;
    return channels ? channels[peer] : 0;
}

static bool make_channels(gwtf_simulation *simulation, struct simulation_node *node) {
    if (!node->channels)
        node->channels = calloc(simulation->config.nodes_count, sizeof *node->channels);
    simulation->out_of_memory = simulation->out_of_memory || !node->channels;
    return node->channels;
}

void simulation_open(gwtf_simulation *simulation, uint32_t index,
                     const struct gwtf_incident *incident) {
    struct simulation_node *node = &simulation->nodes[index];
    uint32_t about = simulation_find(simulation, incident->node);
    if (about == SIMULATION_NONE || !make_channels(simulation, node) ||
        node->channels[about] == incident->channel)
        return;
    node->channels[about] = incident->channel;
    node->down[about] = false;
    const struct simulation_node *peer = &simulation->nodes[about];
    if (!peer->dead && !peer->finished)
        return;
    struct simulation_event down = {.at_us = simulation->now_us + ABSENT_NOTICE_US,
                                    .kind = SIMULATION_PEER_DOWN,
                                    .node = index,
                                    .peer = about};
    simulation_push(simulation, &down);
}

/* What a new process has in its memory is nobody's business. */
static void forget_contents(gwtf_simulation *simulation, struct simulation_node *node) {
    memset(node->slots, 0, node->slots_count * sizeof *node->slots);
    memset(node->parts_here, 0, node->replicas * sizeof *node->parts_here);
    memset(node->down, 0, simulation->config.nodes_count * sizeof *node->down);
    node->shares_count = 0;
    node->works_count = 0;
    node->gradient = gwtf_random_next(&simulation->random);
    node->weights = gwtf_random_next(&simulation->random);
    node->stepped = 0;
    node->writing = 0;
    node->timer_us = GWTF_TIME_NEVER;
    node->deadline_us = GWTF_TIME_NEVER;
    node->processor_free_us = simulation->now_us;
}

void simulation_return(gwtf_simulation *simulation, uint32_t index) {
    struct simulation_node *node = &simulation->nodes[index];
    if ((!node->dead && !node->finished) || !make_channels(simulation, node))
        return;
    uint32_t incarnation = gwtf_protocol_get_view(node->protocol).incarnation;
    gwtf_protocol_destroy(node->protocol);
    node->protocol = NULL;
    if (simulation_make_protocol(simulation, index, incarnation) != GWTF_OK) {
        simulation->out_of_memory = true;
        return;
    }
    simulation->totals.finished -= node->finished;
    node->dead = false;
    node->finished = false;
    node->left = false;
    node->life++;
    for (size_t i = 0; i < simulation->config.nodes_count; i++)
        node->channels[i] = SIMULATION_NO_CHANNEL;
    forget_contents(simulation, node);
    struct simulation_event start = {
        .at_us = simulation->now_us, .kind = SIMULATION_START, .node = index};
    simulation_push(simulation, &start);
}

void simulation_entered(gwtf_simulation *simulation, uint32_t index) {
    struct simulation_node *node = &simulation->nodes[index];
    uint32_t after = gwtf_protocol_get_view(node->protocol).iteration - 1;
    uint64_t weights = simulation_weights(simulation, node->config.stage, after);
    if (node->config.gradient_floats == 0)
        node->weights = weights;
    if (node->weights != weights)
        simulation_fail(simulation, index, "comes back with other weights than the others have");
    node->stepped = after;
    node->own_place = node->own_base;
    simulation->totals.returned++;
}
