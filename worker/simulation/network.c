/* Links between nodes: latency for messages, and one tensor at a time on each directed link. */
#include "worker/simulation/state.h"

#include <stdlib.h>

#define RESEND_US 200000
#define RESEND_MOST_US 3000000

static struct simulation_link *find_link(struct simulation_link *links, size_t links_max,
                                         uint64_t key) {
    size_t at = (size_t)simulation_mix(key, 0) & (links_max - 1);
    while (links[at].key != 0 && links[at].key != key)
        at = (at + 1) & (links_max - 1);
    return &links[at];
}

static bool grow_links(gwtf_simulation *simulation) {
    size_t max = simulation->links_max ? 2 * simulation->links_max : 256;
    struct simulation_link *links = calloc(max, sizeof *links);
    if (!links)
        return false;
    for (size_t i = 0; i < simulation->links_max; i++)
        if (simulation->links[i].key != 0)
            *find_link(links, max, simulation->links[i].key) = simulation->links[i];
    free(simulation->links);
    simulation->links = links;
    simulation->links_max = max;
    return true;
}

static struct simulation_link *link_of(gwtf_simulation *simulation, uint32_t from, uint32_t to) {
    if (2 * (simulation->links_count + 1) > simulation->links_max && !grow_links(simulation)) {
        simulation->out_of_memory = true;
        return NULL;
    }
    uint64_t key = ((uint64_t)from << 32 | to) + 1;
    struct simulation_link *link = find_link(simulation->links, simulation->links_max, key);
    if (link->key == 0) {
        link->key = key;
        simulation->links_count++;
    }
    return link;
}

static uint32_t open_transfer(gwtf_simulation *simulation) {
    if (simulation->transfers_free_count > 0)
        return simulation->transfers_free[--simulation->transfers_free_count];
    if (simulation->transfers_count == simulation->transfers_max) {
        uint32_t max = simulation->transfers_max ? 2 * simulation->transfers_max : 256;
        struct simulation_transfer *transfers =
            realloc(simulation->transfers, max * sizeof *transfers);
        if (transfers)
            simulation->transfers = transfers;
        uint32_t *unused = realloc(simulation->transfers_free, max * sizeof *unused);
        if (unused)
            simulation->transfers_free = unused;
        if (!transfers || !unused) {
            simulation->out_of_memory = true;
            return SIMULATION_NONE;
        }
        simulation->transfers_max = max;
    }
    return simulation->transfers_count++;
}

void simulation_end_transfer(gwtf_simulation *simulation, uint32_t index) {
    struct simulation_transfer *transfer = &simulation->transfers[index];
    if (!transfer->sent || !transfer->arrived)
        return;
    transfer->used = false;
    simulation->transfers_free[simulation->transfers_free_count++] = index;
}

/* Any time from none to MOST_US. */
static int64_t up_to(gwtf_simulation *simulation, int64_t most_us) {
    if (most_us == 0)
        return 0;
    return (int64_t)gwtf_random_below(&simulation->random, (uint64_t)most_us + 1);
}

/* How long a message takes longer because it is lost, maybe more than once. */
static int64_t resending_us(gwtf_simulation *simulation) {
    int64_t wait_us = RESEND_US, all_us = 0;
    if (simulation->config.resent == 0)
        return 0;
    while (gwtf_random_unit(&simulation->random) < simulation->config.resent) {
        all_us += wait_us;
        wait_us *= wait_us < RESEND_MOST_US ? 2 : 1;
    }
    return all_us;
}

static int64_t transfer_us(uint64_t bytes, int64_t bytes_per_second) {
    return (int64_t)((double)bytes * 1e6 / (double)bytes_per_second);
}

/* The tensor of ACTION leaves when the link is free, and the node's uplink. */
static uint32_t send_tensor(gwtf_simulation *simulation, uint32_t from, uint32_t to,
                            const struct gwtf_action *action, struct simulation_link *link,
                            const struct gwtf_simulation_link *speed) {
    struct simulation_content content;
    if (!simulation_read(simulation, from, &action->payload, &content))
        return SIMULATION_NONE;
    uint32_t index = open_transfer(simulation);
    if (index == SIMULATION_NONE)
        return index;
    simulation->transfers[index] =
        (struct simulation_transfer){.used = true,
                                     .from = from,
                                     .to = to,
                                     .channel = simulation_channel(simulation, from, to),
                                     .life = simulation->nodes[from].life,
                                     .send_ticket = action->ticket,
                                     .source = action->payload,
                                     .content = content};
    uint64_t bytes = action->message.payload_bytes;
    if (link->free_us < simulation->now_us)
        link->free_us = simulation->now_us;
    link->free_us += transfer_us(bytes, speed->bytes_per_second);
    struct simulation_node *node = &simulation->nodes[from];
    if (node->config.uplink_bytes_per_second > 0) {
        if (node->uplink_free_us < simulation->now_us)
            node->uplink_free_us = simulation->now_us;
        node->uplink_free_us += transfer_us(bytes, node->config.uplink_bytes_per_second);
        if (link->free_us < node->uplink_free_us)
            link->free_us = node->uplink_free_us;
    }
    simulation->transfers[index].left_us = link->free_us;
    struct simulation_event event = {
        .at_us = link->free_us, .kind = SIMULATION_SENT, .node = from, .transfer = index};
    event.at_us += up_to(simulation, simulation->config.sent_us);
    simulation_push(simulation, &event);
    simulation->totals.tensors++;
    simulation->totals.tensor_bytes += bytes;
    return index;
}

static bool goes_by_door(const gwtf_simulation *simulation, uint32_t from, uint32_t to,
                         const struct gwtf_action *action) {
    uint16_t kind = action->message.kind;
    return kind == GWTF_MESSAGE_ENTER || kind == GWTF_MESSAGE_WELCOME ||
           (kind == GWTF_MESSAGE_CLOSE && simulation->nodes[from].down[to]);
}

void simulation_send(gwtf_simulation *simulation, uint32_t from, const struct gwtf_action *action) {
    uint32_t to = simulation_find(simulation, action->to);
    if (to == SIMULATION_NONE || to == from) {
        simulation_fail(simulation, from, "sends to node %u, which is nobody", action->to);
        return;
    }
    const struct gwtf_simulation_config *config = &simulation->config;
    struct gwtf_simulation_link speed =
        config->link(config->link_context, simulation->nodes[from].config.node, action->to);
    struct simulation_link *link = link_of(simulation, from, to);
    if (!link)
        return;
    struct simulation_event event = {.kind = SIMULATION_MESSAGE,
                                     .node = to,
                                     .peer = from,
                                     .transfer = SIMULATION_NONE,
                                     .peer_life = simulation->nodes[from].life,
                                     .by_door = goes_by_door(simulation, from, to, action),
                                     .channel = simulation_channel(simulation, from, to),
                                     .message = action->message};
    simulation->totals.messages++;
    simulation->totals.flow_messages += action->message.kind == GWTF_MESSAGE_FLOW;
    bool has_tensor = action->message.payload_bytes > 0;
    if (has_tensor) {
        event.transfer = send_tensor(simulation, from, to, action, link, &speed);
        if (event.transfer == SIMULATION_NONE)
            return;
    }
    event.at_us = simulation->now_us + speed.latency_us + up_to(simulation, config->jitter_us) +
                  resending_us(simulation);
    if (event.at_us < link->arrived_us)
        event.at_us = link->arrived_us;
    link->arrived_us = event.at_us;
    simulation_push(simulation, &event);
    if (has_tensor) {
        struct simulation_event received = {.at_us = link->free_us + speed.latency_us,
                                            .kind = SIMULATION_RECEIVED,
                                            .node = to,
                                            .transfer = event.transfer};
        if (received.at_us < event.at_us)
            received.at_us = event.at_us;
        simulation_push(simulation, &received);
    } else if (config->doubled > 0 && gwtf_random_unit(&simulation->random) < config->doubled) {
        /* The second may be so late that much has happened since. */
        event.at_us += (int64_t)gwtf_random_below(&simulation->random, 1000000);
        simulation_push(simulation, &event);
    }
}
