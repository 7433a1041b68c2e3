#include "tests/unit/flow_cluster.h"

#include "share/base/assert.h"
#include "share/base/hash.h"

#include <stdlib.h>
#include <string.h>

struct cluster_event {
    gwtf_time_us at_us;
    uint64_t number; /* ties go to the earlier made */
    gwtf_node_id node;
    struct gwtf_flow_event event;
};

static bool is_earlier(const struct cluster_event *a, const struct cluster_event *b) {
    return a->at_us < b->at_us || (a->at_us == b->at_us && a->number < b->number);
}

static void push(struct cluster *cluster, gwtf_time_us at_us, gwtf_node_id node,
                 const struct gwtf_flow_event *event) {
    if (cluster->events_count == cluster->events_max) {
        cluster->events_max = cluster->events_max * 2 + 1024;
        cluster->events = realloc(cluster->events, cluster->events_max * sizeof *cluster->events);
        GWTF_ASSERT(cluster->events != NULL);
    }
    struct cluster_event made = {at_us, cluster->events_made++, node, *event};
    size_t at = cluster->events_count++;
    while (at > 0 && is_earlier(&made, &cluster->events[(at - 1) / 2])) {
        cluster->events[at] = cluster->events[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    cluster->events[at] = made;
}

static struct cluster_event pop(struct cluster *cluster) {
    struct cluster_event *heap = cluster->events;
    struct cluster_event first = heap[0], last = heap[--cluster->events_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= cluster->events_count)
            break;
        if (child + 1 < cluster->events_count && is_earlier(&heap[child + 1], &heap[child]))
            child++;
        if (!is_earlier(&heap[child], &last))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return first;
}

static int64_t *link_of(const struct cluster *cluster, gwtf_node_id a, gwtf_node_id b) {
    return &cluster->link_us[(size_t)a * cluster->nodes_count + b];
}

void cluster_init(struct cluster *cluster, uint64_t seed, uint32_t stages, uint32_t nodes) {
    GWTF_ASSERT(nodes <= CLUSTER_NODES_MAX);
    memset(cluster, 0, sizeof *cluster);
    cluster->seed = seed;
    cluster->policy = CLUSTER_POLICY;
    cluster->objective = CLUSTER_OBJECTIVE;
    cluster->stages = stages;
    cluster->nodes_count = nodes;
    cluster->link_us = malloc((size_t)nodes * nodes * sizeof *cluster->link_us);
    GWTF_ASSERT(cluster->link_us != NULL);
    for (size_t i = 0; i < (size_t)nodes * nodes; i++)
        cluster->link_us[i] = -1;
    for (uint32_t i = 0; i < nodes; i++)
        cluster_set_node(cluster, i, 0, 1);
    gwtf_random_init(&cluster->random, seed);
}

void cluster_deinit(struct cluster *cluster) {
    for (uint32_t i = 0; i < cluster->nodes_count; i++) {
        gwtf_flow_destroy(cluster->nodes[i].flow);
        free(cluster->nodes[i].sends);
    }
    free(cluster->link_us);
    free(cluster->events);
}

void cluster_set_node(struct cluster *cluster, gwtf_node_id node, uint32_t stage,
                      uint32_t capacity) {
    cluster->nodes[node].stage = stage;
    cluster->nodes[node].capacity = capacity;
}

void cluster_set_link(struct cluster *cluster, gwtf_node_id a, gwtf_node_id b, int64_t link_us) {
    *link_of(cluster, a, b) = *link_of(cluster, b, a) = link_us;
}

void cluster_link_all(struct cluster *cluster, int64_t least_us, int64_t most_us) {
    for (uint32_t a = 0; a < cluster->nodes_count; a++)
        for (uint32_t b = 0; b < cluster->nodes_count; b++)
            if ((cluster->nodes[a].stage + 1) % (cluster->stages + 1) == cluster->nodes[b].stage)
                cluster_set_link(
                    cluster, a, b,
                    least_us + (int64_t)gwtf_random_below(&cluster->random,
                                                          (uint64_t)(most_us - least_us + 1)));
}

static bool happens(struct cluster *cluster, double probability) {
    return probability > 0 && gwtf_random_unit(&cluster->random) < probability;
}

static void deliver(struct cluster *cluster, gwtf_node_id from, const struct gwtf_flow_send *send) {
    struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_MESSAGE, .peer = from};
    event.message = send->message;
    cluster->messages++;
    cluster->kinds[send->message.kind % CLUSTER_KINDS]++;
    struct {
        gwtf_time_us at_us;
        gwtf_node_id from, to;
    } key = {cluster->now_us, from, send->to};
    cluster->trace = gwtf_hash_seeded(&key, sizeof key, cluster->trace);
    cluster->trace = gwtf_hash_seeded(&send->message, sizeof send->message, cluster->trace);
    if (happens(cluster, cluster->loss))
        return;
    int copies = happens(cluster, cluster->doubling) ? 2 : 1;
    for (int i = 0; i < copies; i++) {
        gwtf_time_us at_us = cluster->now_us + CLUSTER_MESSAGE_US;
        if (happens(cluster, cluster->delay))
            at_us += (gwtf_time_us)gwtf_random_below(&cluster->random, 20 * CLUSTER_MESSAGE_US);
        push(cluster, at_us, send->to, &event);
    }
}

void cluster_tell(struct cluster *cluster, gwtf_node_id node, const struct gwtf_flow_event *given) {
    struct cluster_node *at = &cluster->nodes[node];
    if (at->flow == NULL)
        return;
    struct gwtf_flow_event event = *given;
    event.now_us = cluster->now_us;
    struct gwtf_flow_update update = {.sends = at->sends, .sends_max = 64};
    (void)gwtf_flow_step(at->flow, &event, &update);
    if (update.routes_changed)
        cluster->changed_us = cluster->now_us;
    for (size_t i = 0; i < update.sends_count; i++)
        deliver(cluster, node, &update.sends[i]);
    struct gwtf_flow_load load = gwtf_flow_get_load(at->flow);
    bool looks =
        cluster->messages < CLUSTER_CHECKED || cluster->messages % CLUSTER_CHECK_EVERY == 0;
    if (cluster->fault == NULL &&
        ((looks && !gwtf_flow_check(at->flow, &cluster->fault)) || load.reserved > load.capacity)) {
        if (cluster->fault == NULL)
            cluster->fault = "load above capacity";
        cluster->fault_node = node;
    }
    if (update.deadline_us == GWTF_TIME_NEVER || update.deadline_us == at->deadline_us)
        return;
    at->deadline_us = update.deadline_us;
    struct gwtf_flow_event timer = {.kind = GWTF_FLOW_EVENT_TIMER};
    push(cluster, update.deadline_us > cluster->now_us ? update.deadline_us : cluster->now_us + 1,
         node, &timer);
}

/* Policy gwtf-paper moves flows between relays of a stage. */
static bool are_linked(const struct cluster *cluster, gwtf_node_id a, gwtf_node_id b) {
    if (cluster->policy == GWTF_FLOW_POLICY_GWTF_PAPER && cluster->nodes[a].stage != 0 &&
        cluster->nodes[a].stage == cluster->nodes[b].stage)
        return true;
    return *link_of(cluster, a, b) >= 0 || *link_of(cluster, b, a) >= 0;
}

static void introduce(struct cluster *cluster, gwtf_node_id node, gwtf_node_id peer) {
    struct gwtf_flow_event event = {
        .kind = GWTF_FLOW_EVENT_PEER_UP, .peer = peer, .stage = cluster->nodes[peer].stage};
    cluster_tell(cluster, node, &event);
    event.kind = GWTF_FLOW_EVENT_LINK_COST;
    event.cost_us = *link_of(cluster, node, peer);
    cluster_tell(cluster, node, &event);
}

static void create(struct cluster *cluster, gwtf_node_id node) {
    struct cluster_node *at = &cluster->nodes[node];
    struct gwtf_flow_config config = {
        .policy = cluster->policy,
        .reserve = true,
        .objective = cluster->objective,
        .self = node,
        .stage = at->stage,
        .stages = cluster->stages,
        .capacity = at->capacity,
        .capacity_max = at->capacity * 2,
        .neighbours_max =
            cluster->neighbours_max != 0 ? cluster->neighbours_max : cluster->nodes_count,
        .tick_us = CLUSTER_TICK_US,
        .retry_us = 6 * CLUSTER_MESSAGE_US,
        .seed = cluster->seed,
    };
    GWTF_ASSERT(gwtf_flow_create(&config, &at->flow) == GWTF_OK);
    if (at->sends == NULL)
        at->sends = calloc(64, sizeof *at->sends);
    GWTF_ASSERT(at->sends != NULL);
    at->up = true;
    at->deadline_us = GWTF_TIME_NEVER;
    struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_START};
    cluster_tell(cluster, node, &event);
}

void cluster_start(struct cluster *cluster) {
    for (uint32_t i = 0; i < cluster->nodes_count; i++)
        create(cluster, i);
    for (uint32_t i = 0; i < cluster->nodes_count; i++)
        for (uint32_t j = 0; j < cluster->nodes_count; j++)
            if (i != j && are_linked(cluster, i, j))
                introduce(cluster, i, j);
}

void cluster_run(struct cluster *cluster, double ticks) {
    gwtf_time_us until_us = cluster->now_us + (gwtf_time_us)(ticks * CLUSTER_TICK_US);
    while (cluster->events_count > 0 && cluster->events[0].at_us <= until_us &&
           cluster->fault == NULL) {
        struct cluster_event event = pop(cluster);
        cluster->now_us = event.at_us;
        if (event.event.kind == GWTF_FLOW_EVENT_TIMER) {
            struct cluster_node *node = &cluster->nodes[event.node];
            if (event.at_us < node->deadline_us || !node->up)
                continue; /* put off meanwhile */
            node->deadline_us = GWTF_TIME_NEVER;
        }
        cluster_tell(cluster, event.node, &event.event);
    }
    cluster->now_us = until_us;
}

void cluster_kill(struct cluster *cluster, gwtf_node_id node) {
    gwtf_flow_destroy(cluster->nodes[node].flow);
    cluster->nodes[node].flow = NULL;
    cluster->nodes[node].up = false;
    struct gwtf_flow_event event = {.kind = GWTF_FLOW_EVENT_PEER_DOWN, .peer = node};
    for (uint32_t i = 0; i < cluster->nodes_count; i++)
        if (i != node && are_linked(cluster, i, node))
            push(cluster,
                 cluster->now_us +
                     (gwtf_time_us)gwtf_random_below(&cluster->random, CLUSTER_TICK_US),
                 i, &event);
}

void cluster_revive(struct cluster *cluster, gwtf_node_id node) {
    create(cluster, node);
    for (uint32_t i = 0; i < cluster->nodes_count; i++) {
        if (i == node || !cluster->nodes[i].up || !are_linked(cluster, i, node))
            continue;
        introduce(cluster, node, i);
        introduce(cluster, i, node);
    }
}

/* The hops from DATA_NODE under ID lead back to it; adds their costs. */
static bool trace_route(const struct cluster *cluster, gwtf_node_id data_node,
                        const struct gwtf_flow_route *route, int64_t *cost_us) {
    gwtf_node_id at = route->next;
    gwtf_flow_id id = route->flow;
    int64_t sum_us = *link_of(cluster, data_node, at);
    for (uint32_t stage = 1; stage <= cluster->stages; stage++) {
        if (at == GWTF_NODE_NONE || !cluster->nodes[at].up || cluster->nodes[at].stage != stage)
            return false;
        gwtf_node_id next = gwtf_flow_next(cluster->nodes[at].flow, id, &id);
        if (next == GWTF_NODE_NONE)
            return false;
        sum_us += *link_of(cluster, at, next);
        at = next;
    }
    *cost_us += sum_us;
    return at == data_node && sum_us == route->cost_us;
}

int cluster_routes(const struct cluster *cluster, gwtf_node_id data_node, int64_t *cost_us) {
    static struct gwtf_flow_route routes[4096];
    if (!cluster->nodes[data_node].up)
        return 0;
    size_t count = gwtf_flow_routes(cluster->nodes[data_node].flow, routes, 4096);
    int64_t sum_us = 0;
    for (size_t i = 0; i < count; i++)
        if (!trace_route(cluster, data_node, &routes[i], &sum_us) ||
            (i > 0 && routes[i].cost_us < routes[i - 1].cost_us))
            return -1;
    if (cost_us != NULL)
        *cost_us = sum_us;
    return (int)count;
}

int cluster_flow(const struct cluster *cluster, int64_t *cost_us) {
    int flow = 0;
    int64_t sum_us = 0;
    for (uint32_t i = 0; i < cluster->nodes_count; i++) {
        int64_t one_us = 0;
        int routes = cluster->nodes[i].stage == 0 ? cluster_routes(cluster, i, &one_us) : 0;
        if (routes < 0)
            return -1;
        flow += routes;
        sum_us += one_us;
    }
    if (cost_us != NULL)
        *cost_us = sum_us;
    return flow;
}

int cluster_bottleneck(const struct cluster *cluster) {
    uint32_t least = UINT32_MAX;
    for (uint32_t stage = 0; stage <= cluster->stages; stage++) {
        uint32_t sum = 0;
        for (uint32_t i = 0; i < cluster->nodes_count; i++)
            if (cluster->nodes[i].stage == stage && cluster->nodes[i].up)
                sum += cluster->nodes[i].capacity;
        if (sum < least)
            least = sum;
    }
    return (int)least;
}
