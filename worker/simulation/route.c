#include "worker/simulation/route.h"

#include "share/base/assert.h"
#include "share/base/hash.h"
#include "worker/simulation/route_state.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define INTRODUCTION_US (2 * GWTF_ROUTE_MESSAGE_US)
#define ROUTE_INTRODUCTIONS_MAX 16u

static void push(struct gwtf_route *route, const struct route_event *event) {
    if (!route_queue_push(&route->queue, event))
        route->no_memory = true;
}

static bool happens(struct gwtf_route *route, double probability) {
    return probability > 0 && gwtf_random_unit(&route->random) < probability;
}

/* --- Messages and steps. --- */

static void deliver(struct gwtf_route *route, gwtf_node_id from,
                    const struct gwtf_flow_send *send) {
    struct {
        gwtf_time_us at_us;
        gwtf_node_id from, to;
    } key = {route->now_us, from, send->to};
    route->messages++;
    route->trace = gwtf_hash_seeded(&key, sizeof key, route->trace);
    route->trace = gwtf_hash_seeded(&send->message, sizeof send->message, route->trace);
    if (send->to >= route->nodes_count || happens(route, route->config.loss))
        return;
    struct route_event event = {.kind = ROUTE_EVENT_MESSAGE,
                                .node = send->to,
                                .peer = from,
                                .incarnation = route->nodes[send->to].incarnation,
                                .message = send->message};
    int copies = happens(route, route->config.doubling) ? 2 : 1;
    for (int i = 0; i < copies; i++) {
        event.at_us = route->now_us + GWTF_ROUTE_MESSAGE_US;
        if (happens(route, route->config.delay))
            event.at_us +=
                (gwtf_time_us)gwtf_random_below(&route->random, 20 * GWTF_ROUTE_MESSAGE_US);
        push(route, &event);
    }
}

/* A timer that is too early is left: when it comes, it is set again. */
static void set_timer(struct gwtf_route *route, gwtf_node_id id) {
    struct route_node *node = &route->nodes[id];
    if (node->deadline_us >= node->timer_us)
        return;
    node->timer_us = node->deadline_us;
    push(route, &(struct route_event){.at_us = node->deadline_us,
                                      .kind = ROUTE_EVENT_TIMER,
                                      .node = id,
                                      .incarnation = node->incarnation});
}

static void note_change(struct gwtf_route *route, gwtf_node_id id) {
    route->table_changes++;
    route->nodes[id].changes++;
    route->changed_us = route->now_us;
    if (route->config.changed != NULL)
        route->config.changed(route->config.context, route->now_us, id, route->nodes[id].flow);
}

/* --- Who knows whom. --- */

/* The stages in which a node knows others, each once: its own, the next, the previous. */
static uint32_t list_stages(const struct gwtf_route *route, gwtf_node_id id, uint32_t stages[3]) {
    stages[0] = gwtf_flow_instance_stage(route->instance, id);
    stages[1] = gwtf_flow_instance_next_stage(route->instance, stages[0]);
    stages[2] = gwtf_flow_instance_previous_stage(route->instance, stages[0]);
    return stages[1] == stages[2] ? 2 : 3;
}

/* The place of PEER among the nodes of these stages; UINT32_MAX: it is in none of them. */
static uint32_t find_place(const struct gwtf_route *route, gwtf_node_id id, gwtf_node_id peer) {
    uint32_t stages[3], first = 0, size = 0, count = list_stages(route, id, stages);
    uint32_t stage = gwtf_flow_instance_stage(route->instance, peer);
    for (uint32_t i = 0; i < count; i++, first += size) {
        if (stages[i] == stage)
            return first + gwtf_flow_instance_place(route->instance, peer);
        (void)gwtf_flow_instance_stage_nodes(route->instance, stages[i], &size);
    }
    return UINT32_MAX;
}

static bool knows(const struct gwtf_route *route, gwtf_node_id id, gwtf_node_id peer) {
    uint32_t at = find_place(route, id, peer);
    return at != UINT32_MAX && (route->nodes[id].known[at / 64] >> at % 64 & 1) != 0;
}

static void set_known(struct gwtf_route *route, gwtf_node_id id, gwtf_node_id peer, bool known) {
    uint32_t at = find_place(route, id, peer);
    uint64_t bit = (uint64_t)1 << at % 64;
    if (at == UINT32_MAX)
        return;
    uint64_t *word = &route->nodes[id].known[at / 64];
    *word = known ? *word | bit : *word & ~bit;
}

static void set_acquainted(struct gwtf_route *route, gwtf_node_id a, gwtf_node_id b, bool known) {
    set_known(route, a, b, known);
    set_known(route, b, a, known);
}

/* Copies whom NODE knows to route->met, returns how many they are. */
static uint32_t list_known(struct gwtf_route *route, gwtf_node_id id) {
    uint32_t stages[3], met = 0, count = list_stages(route, id, stages);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t size = 0;
        const gwtf_node_id *nodes =
            gwtf_flow_instance_stage_nodes(route->instance, stages[i], &size);
        for (uint32_t j = 0; j < size; j++)
            if (knows(route, id, nodes[j]))
                route->met[met++] = nodes[j];
    }
    return met;
}

static gwtf_status init_known(struct gwtf_route *route) {
    for (gwtf_node_id id = 0; id < route->nodes_count; id++) {
        uint32_t stages[3], places = 0, count = list_stages(route, id, stages);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t size = 0;
            (void)gwtf_flow_instance_stage_nodes(route->instance, stages[i], &size);
            places += size;
        }
        route->nodes[id].known = calloc(places / 64 + 1, sizeof *route->nodes[id].known);
        if (route->nodes[id].known == NULL)
            return GWTF_ERROR_MEMORY;
    }
    route->met = calloc(route->nodes_count, sizeof *route->met);
    return route->met != NULL ? GWTF_OK : GWTF_ERROR_MEMORY;
}

static bool are_linked(const struct gwtf_route *route, gwtf_node_id a, gwtf_node_id b) {
    return gwtf_flow_instance_stage(route->instance, a) ==
               gwtf_flow_instance_stage(route->instance, b) ||
           gwtf_flow_instance_cost(route->instance, a, b) >= 0 ||
           gwtf_flow_instance_cost(route->instance, b, a) >= 0;
}

/* NODE has heard of PEER: a round trip measures the link, then both know each other. */
static void introduce(struct gwtf_route *route, gwtf_node_id id, gwtf_node_id peer) {
    if (id == peer || peer >= route->nodes_count || !are_linked(route, id, peer))
        return;
    bool known = knows(route, id, peer);
    if (known && !route->partial)
        return;
    /* Between those that have met the link is measured already. */
    route->messages += known ? 0 : 2;
    push(route, &(struct route_event){.at_us = route->now_us + INTRODUCTION_US,
                                      .kind = ROUTE_EVENT_MEET,
                                      .node = id,
                                      .peer = peer,
                                      .incarnation = route->nodes[id].incarnation});
}

static gwtf_status tell(struct gwtf_route *route, gwtf_node_id id, struct gwtf_flow_event *event) {
    struct route_node *node = &route->nodes[id];
    struct gwtf_flow_introduction heard_of[ROUTE_INTRODUCTIONS_MAX];
    struct gwtf_flow_update update = {.sends = route->sends, .sends_max = route->sends_max};
    if (route->partial) {
        update.introductions = heard_of;
        update.introductions_max = ROUTE_INTRODUCTIONS_MAX;
    }
    event->now_us = route->now_us;
    gwtf_status status = gwtf_flow_step(node->flow, event, &update);
    route->steps++;
    for (size_t i = 0; i < update.sends_count; i++)
        deliver(route, id, &update.sends[i]);
    for (size_t i = 0; i < update.introductions_count; i++)
        introduce(route, id, heard_of[i].node);
    if (update.routes_changed) {
        note_change(route, id);
        route->changed_messages = route->messages;
    }
    route_check_step(route, id, update.routes_changed);
    node->deadline_us = update.deadline_us;
    if (node->deadline_us <= route->now_us)
        node->deadline_us = route->now_us + 1;
    set_timer(route, id);
    return status;
}

static gwtf_status tell_of(struct gwtf_route *route, gwtf_node_id id, gwtf_node_id peer) {
    struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_PEER_DOWN, .peer = peer};
    /* It may not have noticed yet that an earlier incarnation is gone. */
    if (route->nodes[peer].incarnation > 1)
        (void)tell(route, id, &event);
    event = (struct gwtf_flow_event){.kind = GWTF_FLOW_EVENT_PEER_UP,
                                     .peer = peer,
                                     .stage = gwtf_flow_instance_stage(route->instance, peer)};
    gwtf_status status = tell(route, id, &event);
    if (status != GWTF_OK || event.stage == gwtf_flow_instance_stage(route->instance, id))
        return status;
    event = (struct gwtf_flow_event){.kind = GWTF_FLOW_EVENT_LINK_COST,
                                     .peer = peer,
                                     .cost_us = gwtf_flow_instance_cost(route->instance, id, peer)};
    return tell(route, id, &event);
}

/* Two that are up and know of each other. One that has no room for the other is left alone by it.
 */
static void meet(struct gwtf_route *route, gwtf_node_id a, gwtf_node_id b) {
    gwtf_status first = tell_of(route, a, b), second = tell_of(route, b, a);
    if (first == GWTF_OK && second == GWTF_OK)
        return;
    struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_PEER_DOWN};
    event.peer = b;
    (void)tell(route, a, &event);
    event.peer = a;
    (void)tell(route, b, &event);
    set_acquainted(route, a, b, false);
}

static void take_introduction(struct gwtf_route *route, gwtf_node_id id, gwtf_node_id peer) {
    if (!route->nodes[peer].started)
        return;
    bool known = knows(route, id, peer);
    /* One that has come back was met by all that know it. */
    if (known &&
        (!route->partial || route->nodes[id].incarnation > 1 || route->nodes[peer].incarnation > 1))
        return;
    set_acquainted(route, id, peer, true);
    meet(route, id, peer);
}

/* Gives NODE random nodes of STAGE until it knows so many of them, some by others' views maybe. */
static void give_some(struct gwtf_route *route, gwtf_node_id id, uint32_t stage, uint32_t view) {
    uint32_t count = 0, known = 0;
    const gwtf_node_id *peers = gwtf_flow_instance_stage_nodes(route->instance, stage, &count);
    for (uint32_t i = 0; i < count; i++)
        known += knows(route, id, peers[i]);
    bool all = view >= count;
    /* Where links are missing not every draw is good. */
    uint32_t draws = all ? count : 20 * view;
    for (uint32_t i = 0; i < draws && known < view; i++) {
        gwtf_node_id peer = peers[all ? i : gwtf_random_below(&route->random, count)];
        if (peer == id || knows(route, id, peer) || !are_linked(route, id, peer))
            continue;
        set_acquainted(route, id, peer, true);
        known++;
    }
}

static void give_view(struct gwtf_route *route, gwtf_node_id id) {
    uint32_t stage = gwtf_flow_instance_stage(route->instance, id);
    uint32_t next = gwtf_flow_instance_next_stage(route->instance, stage);
    uint32_t previous = gwtf_flow_instance_previous_stage(route->instance, stage);
    uint32_t view = route->config.view > 0 ? route->config.view : UINT32_MAX;
    give_some(route, id, next, view);
    if (previous != next)
        give_some(route, id, previous, view);
    give_some(route, id, stage, ROUTE_OWN_STAGE);
}

/* --- Policy static: the driver knows it all, and assigns. --- */

static gwtf_status init_assignment(struct gwtf_route *route) {
    struct gwtf_flow_optimum optimum;
    if (route->config.policy != GWTF_FLOW_POLICY_STATIC)
        return GWTF_OK;
    gwtf_status status = gwtf_flow_solve(route->instance, &optimum, &route->assigned);
    uint32_t length = route->stages + 1;
    for (uint32_t i = 0; status == GWTF_OK && i < route->assigned.count * length; i++) {
        uint32_t first = i / length * length;
        gwtf_node_id node = route->assigned.nodes[i];
        gwtf_node_id next = route->assigned.nodes[first + (i - first + 1) % length];
        set_acquainted(route, node, next, true);
    }
    return status;
}

/* The hop of PATH that starts at node AT of it; OUT of two, source and sink, for a data node. */
static void assign_hop(struct gwtf_route *route, uint32_t path, uint32_t at, bool out) {
    uint32_t length = route->stages + 1;
    const gwtf_node_id *nodes = &route->assigned.nodes[(size_t)path * length];
    struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_ASSIGN,
                                    .flow = path + 1,
                                    .sink = nodes[0],
                                    .peer = at == 0 ? nodes[length - 1] : nodes[at - 1],
                                    .next = nodes[(at + 1) % length]};
    for (uint32_t i = at + 1; out && i < length; i++)
        event.cost_us +=
            gwtf_flow_instance_cost(route->instance, nodes[i], nodes[(i + 1) % length]);
    if (at == 0)
        *(out ? &event.peer : &event.next) = GWTF_NODE_NONE;
    GWTF_ASSERT(tell(route, nodes[at], &event) == GWTF_OK);
}

static void assign(struct gwtf_route *route, gwtf_node_id id) {
    uint32_t length = route->stages + 1;
    for (uint32_t i = 0; i < route->assigned.count * length; i++) {
        if (route->assigned.nodes[i] != id)
            continue;
        assign_hop(route, i / length, i % length, true);
        if (i % length == 0)
            assign_hop(route, i / length, 0, false);
    }
}

/* --- Nodes. --- */

static uint32_t neighbours_max(const struct gwtf_route *route, gwtf_node_id id) {
    uint32_t stage = gwtf_flow_instance_stage(route->instance, id);
    if (route->partial && route->config.policy == GWTF_FLOW_POLICY_GWTF)
        return 0; /* it knows itself */
    uint32_t counts[3] = {0};
    (void)gwtf_flow_instance_stage_nodes(route->instance, stage, &counts[0]);
    (void)gwtf_flow_instance_stage_nodes(
        route->instance, gwtf_flow_instance_next_stage(route->instance, stage), &counts[1]);
    (void)gwtf_flow_instance_stage_nodes(
        route->instance, gwtf_flow_instance_previous_stage(route->instance, stage), &counts[2]);
    uint64_t all = (uint64_t)counts[0] + counts[1] + counts[2];
    /* Others pick it too, more than the average by chance, and there must be room for those that
     * it hears of. */
    uint64_t seen = 4 * (uint64_t)route->config.view + 4 * ROUTE_OWN_STAGE;
    bool all_wanted = route->config.view == 0 || route->config.policy == GWTF_FLOW_POLICY_STATIC;
    if (all_wanted || all < seen)
        seen = all;
    return seen > 0 ? (uint32_t)seen : 1;
}

static struct gwtf_flow_config config_of(const struct gwtf_route *route, gwtf_node_id id) {
    uint32_t data_nodes = 0, capacity = route->capacity[id] > 0 ? route->capacity[id] : 1;
    (void)gwtf_flow_instance_stage_nodes(route->instance, 0, &data_nodes);
    return (struct gwtf_flow_config){
        .policy = route->config.policy,
        .objective = route->config.objective,
        .reserve = true,
        .self = id,
        .stage = gwtf_flow_instance_stage(route->instance, id),
        .stages = route->stages,
        .capacity = capacity,
        .view = route->partial ? route->config.view : route->nodes_count,
        .neighbours_max = neighbours_max(route, id),
        .sinks_max = data_nodes,
        .tick_us = GWTF_ROUTE_TICK_US,
        .retry_us = 6 * GWTF_ROUTE_MESSAGE_US,
        .seed = route->config.seed + ((uint64_t)route->nodes[id].incarnation << 32),
    };
}

static void start(struct gwtf_route *route, gwtf_node_id id) {
    struct route_node *node = &route->nodes[id];
    struct gwtf_flow_config config = config_of(route, id);
    gwtf_status status = gwtf_flow_create(&config, &node->flow);
    if (status != GWTF_OK) {
        route->no_memory = true;
        return;
    }
    node->started = true;
    node->deadline_us = node->timer_us = GWTF_TIME_NEVER;
    gwtf_flow_instance_set_capacity(route->instance, id, route->capacity[id]);
    struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_START};
    (void)tell(route, id, &event);
    if (route->capacity[id] == 0) {
        event.kind = GWTF_FLOW_EVENT_CAPACITY;
        (void)tell(route, id, &event);
    }
    /* Once: what is lost with a node stays lost. */
    if (node->incarnation == 1)
        assign(route, id);
    for (uint32_t i = list_known(route, id); i > 0; i--)
        if (route->nodes[route->met[i - 1]].started)
            meet(route, id, route->met[i - 1]);
}

static void plan_start(struct gwtf_route *route, gwtf_node_id id, gwtf_time_us at_us) {
    push(route, &(struct route_event){.at_us = at_us,
                                      .kind = ROUTE_EVENT_START,
                                      .node = id,
                                      .incarnation = ++route->nodes[id].incarnation});
}

static void kill_node(struct gwtf_route *route, gwtf_node_id id) {
    struct route_node *node = &route->nodes[id];
    if (!node->started)
        return;
    gwtf_flow_destroy(node->flow);
    node->flow = NULL;
    node->started = false;
    node->incarnation++;
    gwtf_flow_instance_set_capacity(route->instance, id, 0);
    uint32_t count = list_known(route, id);
    for (uint32_t i = 0; i < count; i++) {
        gwtf_node_id peer = route->met[i];
        set_acquainted(route, peer, id, false);
        push(route, &(struct route_event){.at_us = route->now_us + 1 +
                                                   (gwtf_time_us)gwtf_random_below(
                                                       &route->random, GWTF_ROUTE_TICK_US),
                                          .kind = ROUTE_EVENT_DOWN,
                                          .node = peer,
                                          .peer = id,
                                          .incarnation = route->nodes[peer].incarnation});
    }
}

static void change_link(struct gwtf_route *route, const struct gwtf_route_change *change) {
    gwtf_flow_instance_set_cost(route->instance, change->node, change->peer, change->cost);
    if (!route->nodes[change->node].started || !route->nodes[change->peer].started)
        return;
    if (!knows(route, change->node, change->peer)) {
        if (change->cost < 0)
            return;
        set_acquainted(route, change->node, change->peer, true);
        meet(route, change->node, change->peer);
        return;
    }
    struct gwtf_flow_event event = {
        .kind = GWTF_FLOW_EVENT_LINK_COST, .peer = change->peer, .cost_us = change->cost};
    (void)tell(route, change->node, &event);
}

static void carry_out(struct gwtf_route *route, const struct gwtf_route_change *change) {
    switch (change->kind) {
    case GWTF_ROUTE_KILL:
        kill_node(route, change->node);
        break;
    case GWTF_ROUTE_REVIVE:
        if (!route->nodes[change->node].started) {
            give_view(route, change->node);
            route->nodes[change->node].incarnation++;
            start(route, change->node);
        }
        break;
    case GWTF_ROUTE_LINK:
        change_link(route, change);
        break;
    case GWTF_ROUTE_HEAR:
        if (route->nodes[change->node].started)
            introduce(route, change->node, change->peer);
        break;
    }
    route->planned_left--;
    route->planned_us = route->changed_us = route->now_us;
    route->planned_messages = route->messages;
}

/* --- Making and running. --- */

static bool is_probability(double value) {
    return value >= 0 && value <= 1;
}

static gwtf_status init(struct gwtf_route *route, const gwtf_flow_instance *instance) {
    gwtf_status status = gwtf_flow_instance_create_copy(instance, &route->instance);
    if (status == GWTF_OK)
        status = route_queue_init(&route->queue);
    if (status != GWTF_OK)
        return status;
    route->nodes_count = gwtf_flow_instance_nodes(instance);
    route->stages = gwtf_flow_instance_stages(instance);
    for (uint32_t stage = 1; stage <= route->stages; stage++) {
        uint32_t count = 0;
        (void)gwtf_flow_instance_stage_nodes(route->instance, stage, &count);
        route->partial = route->partial || (route->config.view > 0 && !route->config.silent &&
                                            count > route->config.view);
    }
    route->nodes = calloc(route->nodes_count, sizeof *route->nodes);
    route->capacity = calloc(route->nodes_count, sizeof *route->capacity);
    if (route->nodes == NULL || route->capacity == NULL || init_known(route) != GWTF_OK)
        return GWTF_ERROR_MEMORY;
    for (gwtf_node_id i = 0; i < route->nodes_count; i++) {
        route->capacity[i] = gwtf_flow_instance_capacity(instance, i);
        struct gwtf_flow_config config = config_of(route, i);
        size_t sends = gwtf_flow_sends_max(&config), hops = 4 * (size_t)config.capacity;
        route->sends_max = sends > route->sends_max ? sends : route->sends_max;
        route->hops_max = hops > route->hops_max ? hops : route->hops_max;
    }
    route->sends = calloc(route->sends_max, sizeof *route->sends);
    route->hops = calloc(route->hops_max, sizeof *route->hops);
    route->routes = calloc(route->hops_max, sizeof *route->routes);
    return route->sends != NULL && route->hops != NULL && route->routes != NULL ? GWTF_OK
                                                                                : GWTF_ERROR_MEMORY;
}

gwtf_status gwtf_route_create(const gwtf_flow_instance *instance,
                              const struct gwtf_route_config *config, gwtf_route **route) {
    if (!is_probability(config->loss) || !is_probability(config->doubling) ||
        !is_probability(config->delay))
        return GWTF_ERROR_USAGE;
    struct gwtf_route *made = calloc(1, sizeof *made);
    if (made == NULL)
        return GWTF_ERROR_MEMORY;
    made->config = *config;
    gwtf_random_init(&made->random, gwtf_random_key(config->seed, 0x726f757465)); /* "route" */
    gwtf_status status = init(made, instance);
    if (status == GWTF_OK) {
        for (gwtf_node_id i = 0; i < made->nodes_count; i++)
            give_view(made, i);
        status = init_assignment(made);
        for (gwtf_node_id i = 0; i < made->nodes_count; i++)
            plan_start(made, i, (gwtf_time_us)gwtf_random_below(&made->random, GWTF_ROUTE_TICK_US));
        if (status == GWTF_OK && made->no_memory)
            status = GWTF_ERROR_MEMORY;
    }
    if (status == GWTF_OK)
        *route = made;
    else
        gwtf_route_destroy(made);
    return status;
}

void gwtf_route_destroy(gwtf_route *route) {
    if (route == NULL)
        return;
    for (gwtf_node_id i = 0; route->nodes != NULL && i < route->nodes_count; i++) {
        gwtf_flow_destroy(route->nodes[i].flow);
        free(route->nodes[i].known);
    }
    gwtf_flow_paths_deinit(&route->assigned);
    free(route->planned);
    free(route->met);
    free(route->routes);
    free(route->hops);
    free(route->sends);
    free(route->capacity);
    free(route->nodes);
    route_queue_deinit(&route->queue);
    gwtf_flow_instance_destroy(route->instance);
    free(route);
}

gwtf_status gwtf_route_plan(gwtf_route *route, const struct gwtf_route_change *change) {
    double at_us = change->round * GWTF_ROUTE_TICK_US;
    bool is_link = change->kind == GWTF_ROUTE_LINK;
    if (change->node >= route->nodes_count || !(at_us >= (double)route->now_us) || at_us > 1e15 ||
        (change->kind == GWTF_ROUTE_HEAR && change->peer >= route->nodes_count) ||
        (is_link &&
         (change->peer >= route->nodes_count || change->cost < GWTF_FLOW_NO_LINK ||
          gwtf_flow_instance_next_stage(route->instance,
                                        gwtf_flow_instance_stage(route->instance, change->node)) !=
              gwtf_flow_instance_stage(route->instance, change->peer))))
        return GWTF_ERROR_USAGE;
    struct gwtf_route_change *larger =
        realloc(route->planned, ((size_t)route->planned_count + 1) * sizeof *larger);
    if (larger == NULL)
        return GWTF_ERROR_MEMORY;
    route->planned = larger;
    route->planned[route->planned_count] = *change;
    push(route, &(struct route_event){.at_us = (gwtf_time_us)at_us,
                                      .kind = ROUTE_EVENT_PLANNED,
                                      .peer = route->planned_count});
    route->planned_count++;
    route->planned_left++;
    route->settled = false;
    return route->no_memory ? GWTF_ERROR_MEMORY : GWTF_OK;
}

static void take_timer(struct gwtf_route *route, const struct route_event *event) {
    struct route_node *node = &route->nodes[event->node];
    if (event->at_us != node->timer_us)
        return; /* an earlier one was set meanwhile */
    node->timer_us = GWTF_TIME_NEVER;
    if (node->deadline_us > route->now_us) {
        set_timer(route, event->node);
        return;
    }
    struct gwtf_flow_event timer = {.kind = GWTF_FLOW_EVENT_TIMER};
    (void)tell(route, event->node, &timer);
}

static void take(struct gwtf_route *route, const struct route_event *event) {
    if (event->kind == ROUTE_EVENT_PLANNED) {
        carry_out(route, &route->planned[event->peer]);
        return;
    }
    struct route_node *node = &route->nodes[event->node];
    if (event->incarnation != node->incarnation)
        return;
    if (event->kind == ROUTE_EVENT_START) {
        start(route, event->node);
        return;
    }
    if (!node->started)
        return;
    struct gwtf_flow_event given = {.peer = event->peer};
    switch (event->kind) {
    case ROUTE_EVENT_MESSAGE:
        given.kind = GWTF_FLOW_EVENT_MESSAGE;
        given.message = event->message;
        (void)tell(route, event->node, &given);
        break;
    case ROUTE_EVENT_DOWN:
        given.kind = GWTF_FLOW_EVENT_PEER_DOWN;
        if (!knows(route, event->node, event->peer))
            (void)tell(route, event->node, &given);
        break;
    case ROUTE_EVENT_MEET:
        take_introduction(route, event->node, event->peer);
        break;
    case ROUTE_EVENT_TIMER:
        take_timer(route, event);
        break;
    default:
        break;
    }
}

static bool is_busy(const struct gwtf_route *route) {
    for (gwtf_node_id i = 0; i < route->nodes_count; i++)
        if (route->nodes[i].flow != NULL && gwtf_flow_is_busy(route->nodes[i].flow))
            return true;
    return false;
}

/* When it is settled, if no flow table changes. */
static gwtf_time_us quiet_us(const struct gwtf_route *route) {
    if (route->planned_left > 0)
        return GWTF_TIME_NEVER;
    struct gwtf_route_totals totals;
    gwtf_time_us quiet = route->changed_us + GWTF_ROUTE_QUIET_ROUNDS * GWTF_ROUTE_TICK_US;
    if (route->now_us < quiet)
        return quiet;
    if (is_busy(route))
        return route->now_us + GWTF_ROUTE_QUIET_ROUNDS * GWTF_ROUTE_TICK_US;
    route_count_flows(route, &totals);
    return totals.dangling == 0
               ? quiet
               : route->changed_us + GWTF_ROUTE_DANGLING_ROUNDS * GWTF_ROUTE_TICK_US;
}

gwtf_status gwtf_route_run(gwtf_route *route, double round) {
    gwtf_time_us until_us = (gwtf_time_us)(fmin(round, 1e9) * GWTF_ROUTE_TICK_US);
    while (!route->settled && route->failure[0] == '\0' && !route->no_memory) {
        struct route_event event;
        gwtf_time_us changed_us = route->changed_us, quiet = quiet_us(route);
        gwtf_time_us stop_us = quiet < until_us ? quiet : until_us;
        /* A change puts the end off, but the end may be looked for late. */
        uint32_t planned_left = route->planned_left;
        bool goes_on = true;
        while (goes_on && route_queue_pop(&route->queue, stop_us, &event)) {
            route->now_us = event.at_us;
            take(route, &event);
            goes_on = route->failure[0] == '\0' && !route->no_memory &&
                      route->planned_left == planned_left;
        }
        if (!goes_on)
            continue;
        route->now_us = stop_us > route->now_us ? stop_us : route->now_us;
        route->settled = route->planned_left == 0 && stop_us == quiet &&
                         route->changed_us == changed_us && quiet_us(route) <= stop_us;
        if (!route->settled && stop_us >= until_us)
            break;
    }
    if (route->no_memory)
        return GWTF_ERROR_MEMORY;
    return route->failure[0] != '\0' ? GWTF_ERROR_RUN : GWTF_OK;
}

/* --- What came of it. --- */

const char *gwtf_route_failure(const gwtf_route *route) {
    return route->failure[0] != '\0' ? route->failure : NULL;
}

bool gwtf_route_is_settled(const gwtf_route *route) {
    return route->settled;
}

struct gwtf_route_totals gwtf_route_get_totals(const gwtf_route *route) {
    double tick_us = GWTF_ROUTE_TICK_US;
    struct gwtf_route_totals totals = {
        .round = (double)route->now_us / tick_us,
        .settled = route->settled,
        .rounds = (double)route->changed_us / tick_us,
        .messages = route->changed_messages,
        .messages_after = route->messages - route->changed_messages,
        .bytes = route->changed_messages * sizeof(struct gwtf_flow_message),
        .rounds_since = (double)(route->changed_us - route->planned_us) / tick_us,
        .messages_since = route->changed_messages > route->planned_messages
                              ? route->changed_messages - route->planned_messages
                              : 0,
        .table_changes = route->table_changes,
        .steps = route->steps,
        .trace = route->trace};
    route_count_flows(route, &totals);
    return totals;
}

const gwtf_flow_instance *gwtf_route_instance(const gwtf_route *route) {
    return route->instance;
}

const gwtf_flow *gwtf_route_node(const gwtf_route *route, gwtf_node_id node) {
    return node < route->nodes_count ? route->nodes[node].flow : NULL;
}
