#include "flow/optimal_network.h"

#include "share/base/assert.h"

#include <stdlib.h>
#include <string.h>

/* Links that are arcs from the start: the cheapest ones of each row and column. */
#define CHEAP_LINKS 6u
/* Links of a row that join when their reduced costs are negative. */
#define JOINING_LINKS 4u
#define NOTHING UINT32_MAX
#define UNBOUNDED UINT32_MAX

enum arc_state { ARC_LOWER = 1, ARC_TREE = 0, ARC_UPPER = -1 };

struct arc {
    uint32_t from, to; /* vertices */
    uint32_t room;     /* capacity */
    uint32_t flow;
    int64_t cost_us;
    enum arc_state state;
};

/* Of the spanning tree: the root is the last vertex. */
struct vertex {
    int64_t potential_us;
    uint32_t parent;
    uint32_t arc; /* to the parent */
    bool upwards; /* the arc leads to the parent */
    uint32_t depth;
    uint32_t first_child, next_sibling, previous_sibling;
};

/* Arcs: the nodes' own, in the order of their ids; one from each vertex to the root; then links. */
struct optimal_network {
    const gwtf_flow_instance *instance;
    uint32_t nodes;
    uint32_t vertices; /* with the root */
    struct vertex *tree;
    size_t arcs_count, arcs_max, links_first;
    struct arc *arcs;
    size_t search_at;  /* where the search for an entering arc goes on */
    uint64_t *known;   /* a bit for each link of the instance: it is an arc */
    size_t *row_first; /* [nodes] place of its row's first bit */
    struct optimal_task task;
    int64_t reward_us;
    bool no_memory;
};

static uint32_t inner(gwtf_node_id node) {
    return 2 * node;
}

static uint32_t outer(gwtf_node_id node) {
    return 2 * node + 1;
}

static uint32_t next_width(const gwtf_flow_instance *instance, gwtf_node_id node,
                           const gwtf_node_id **next) {
    uint32_t count = 0, stage = gwtf_flow_instance_stage(instance, node);
    *next = gwtf_flow_instance_stage_nodes(instance, gwtf_flow_instance_next_stage(instance, stage),
                                           &count);
    return count;
}

/* --- The network itself. --- */

static bool allocate_arcs(struct optimal_network *network) {
    size_t most = network->arcs_max + network->arcs_max / 2 + 1024;
    struct arc *arcs = realloc(network->arcs, most * sizeof *arcs);
    if (arcs == NULL) {
        network->no_memory = true;
        return false;
    }
    network->arcs = arcs;
    network->arcs_max = most;
    return true;
}

static void add_arc(struct optimal_network *network, uint32_t from, uint32_t to, uint32_t room,
                    int64_t cost_us) {
    if (network->arcs_count == network->arcs_max && !allocate_arcs(network))
        return;
    network->arcs[network->arcs_count++] = (struct arc){from, to, room, 0, cost_us, ARC_LOWER};
}

static bool is_known(const struct optimal_network *network, gwtf_node_id from, uint32_t place) {
    size_t bit = network->row_first[from] + place;
    return (network->known[bit / 64] >> bit % 64 & 1) != 0;
}

static void add_link(struct optimal_network *network, gwtf_node_id from, uint32_t place,
                     gwtf_node_id to, int32_t cost) {
    if (is_known(network, from, place))
        return;
    size_t bit = network->row_first[from] + place;
    network->known[bit / 64] |= (uint64_t)1 << bit % 64;
    add_arc(network, outer(from), inner(to), UNBOUNDED, cost);
}

/* The place in PLACES of the dearest of COUNT links. */
struct cheap {
    uint32_t count;
    uint32_t places[CHEAP_LINKS];
    int32_t costs[CHEAP_LINKS];
};

static void keep_cheap(struct cheap *cheap, uint32_t place, int32_t cost) {
    uint32_t at = cheap->count;
    if (at == CHEAP_LINKS && cost >= cheap->costs[at - 1])
        return;
    if (at == CHEAP_LINKS)
        at--;
    else
        cheap->count++;
    for (; at > 0 && cheap->costs[at - 1] > cost; at--) {
        cheap->costs[at] = cheap->costs[at - 1];
        cheap->places[at] = cheap->places[at - 1];
    }
    cheap->costs[at] = cost;
    cheap->places[at] = place;
}

/* The cheapest links of each row and column; COLUMNS has room for the widest stage. */
static void add_cheap_links(struct optimal_network *network, struct cheap *columns) {
    const gwtf_flow_instance *instance = network->instance;
    for (uint32_t s = 0; s <= gwtf_flow_instance_stages(instance); s++) {
        uint32_t count = 0, width = 0;
        const gwtf_node_id *next = NULL;
        const gwtf_node_id *nodes = gwtf_flow_instance_stage_nodes(instance, s, &count);
        width = next_width(instance, nodes[0], &next);
        memset(columns, 0, width * sizeof *columns);
        for (uint32_t i = 0; i < count; i++) {
            const int32_t *row = gwtf_flow_instance_row(instance, nodes[i]);
            struct cheap cheap = {0};
            for (uint32_t j = 0; j < width; j++) {
                if (row[j] < 0)
                    continue;
                keep_cheap(&cheap, j, row[j]);
                keep_cheap(&columns[j], i, row[j]);
            }
            for (uint32_t j = 0; j < cheap.count; j++)
                add_link(network, nodes[i], cheap.places[j], next[cheap.places[j]], cheap.costs[j]);
        }
        for (uint32_t j = 0; j < width; j++)
            for (uint32_t i = 0; i < columns[j].count; i++)
                add_link(network, nodes[columns[j].places[i]], j, next[j], columns[j].costs[i]);
    }
}

static gwtf_status init_links(struct optimal_network *network) {
    uint32_t widest = 0;
    for (uint32_t s = 0; s <= gwtf_flow_instance_stages(network->instance); s++) {
        uint32_t count = 0;
        (void)gwtf_flow_instance_stage_nodes(network->instance, s, &count);
        widest = count > widest ? count : widest;
    }
    struct cheap *columns = calloc(widest, sizeof *columns);
    if (columns == NULL)
        return GWTF_ERROR_MEMORY;
    for (gwtf_node_id i = 0; i < network->nodes; i++)
        add_arc(network, inner(i), outer(i), 0, 0);
    for (uint32_t i = 0; i + 1 < network->vertices; i++)
        add_arc(network, i, network->vertices - 1, UNBOUNDED, 0);
    network->links_first = network->arcs_count;
    add_cheap_links(network, columns);
    free(columns);
    return network->no_memory ? GWTF_ERROR_MEMORY : GWTF_OK;
}

gwtf_status optimal_network_create(const gwtf_flow_instance *instance,
                                   struct optimal_network **network) {
    struct optimal_network *made = calloc(1, sizeof *made);
    if (made == NULL)
        return GWTF_ERROR_MEMORY;
    made->instance = instance;
    made->nodes = gwtf_flow_instance_nodes(instance);
    made->vertices = 2 * made->nodes + 1;
    made->tree = calloc(made->vertices, sizeof *made->tree);
    made->row_first = calloc(made->nodes, sizeof *made->row_first);
    size_t bits = 0;
    int64_t dearest = 0;
    for (gwtf_node_id i = 0; i < made->nodes && made->row_first != NULL; i++) {
        const gwtf_node_id *next = NULL;
        uint32_t width = next_width(instance, i, &next);
        const int32_t *row = gwtf_flow_instance_row(instance, i);
        for (uint32_t j = 0; j < width; j++)
            dearest = row[j] > dearest ? row[j] : dearest;
        made->row_first[i] = bits;
        bits += width;
    }
    /* A simple way through the residual graph visits each node at most once. */
    made->reward_us = (dearest + 1) * made->nodes;
    made->known = calloc(bits / 64 + 1, sizeof *made->known);
    gwtf_status status = GWTF_ERROR_MEMORY;
    if (made->tree != NULL && made->row_first != NULL && made->known != NULL)
        status = init_links(made);
    if (status == GWTF_OK)
        *network = made;
    else
        optimal_network_destroy(made);
    return status;
}

void optimal_network_destroy(struct optimal_network *network) {
    if (network == NULL)
        return;
    free(network->known);
    free(network->row_first);
    free(network->arcs);
    free(network->tree);
    free(network);
}

/* --- The spanning tree. --- */

static void attach(struct optimal_network *network, uint32_t child, uint32_t parent) {
    struct vertex *tree = network->tree;
    tree[child].parent = parent;
    tree[child].previous_sibling = NOTHING;
    tree[child].next_sibling = tree[parent].first_child;
    if (tree[parent].first_child != NOTHING)
        tree[tree[parent].first_child].previous_sibling = child;
    tree[parent].first_child = child;
}

static void detach(struct optimal_network *network, uint32_t child) {
    struct vertex *tree = network->tree, *at = &tree[child];
    if (at->previous_sibling != NOTHING)
        tree[at->previous_sibling].next_sibling = at->next_sibling;
    else
        tree[at->parent].first_child = at->next_sibling;
    if (at->next_sibling != NOTHING)
        tree[at->next_sibling].previous_sibling = at->previous_sibling;
}

static bool link_is_allowed(const struct optimal_task *task, gwtf_node_id from, gwtf_node_id to,
                            int64_t cost_us) {
    return task->from_source_us == NULL ||
           task->from_source_us[from] + cost_us + task->to_sink_us[to] <= task->most_us;
}

/* No flow; every vertex hangs at the root by its own arc. */
static void reset(struct optimal_network *network) {
    const struct optimal_task *task = &network->task;
    uint32_t root = network->vertices - 1;
    network->tree[root] = (struct vertex){.parent = NOTHING,
                                          .arc = NOTHING,
                                          .first_child = NOTHING,
                                          .next_sibling = NOTHING,
                                          .previous_sibling = NOTHING};
    for (size_t i = 0; i < network->arcs_count; i++) {
        struct arc *arc = &network->arcs[i];
        arc->flow = 0;
        arc->state = ARC_LOWER;
        if (i < network->links_first)
            arc->room = UNBOUNDED;
        else
            arc->room =
                link_is_allowed(task, arc->from / 2, arc->to / 2, arc->cost_us) ? UNBOUNDED : 0;
    }
    for (gwtf_node_id i = 0; i < network->nodes; i++) {
        bool is_data = gwtf_flow_instance_stage(network->instance, i) == 0;
        network->arcs[i].room = task->capacity[i];
        network->arcs[i].cost_us =
            (task->price != NULL ? task->price[i] : 0) - (is_data ? network->reward_us : 0);
    }
    for (uint32_t i = 0; i < root; i++) {
        network->tree[i] = (struct vertex){
            .arc = network->nodes + i, .upwards = true, .depth = 1, .first_child = NOTHING};
        network->arcs[network->nodes + i].state = ARC_TREE;
        attach(network, i, root);
    }
    network->search_at = 0;
}

static int64_t reduced_cost_us(const struct optimal_network *network, const struct arc *arc) {
    return arc->cost_us + network->tree[arc->from].potential_us -
           network->tree[arc->to].potential_us;
}

/* An arc whose flow is worth changing: the best of a block of arcs. */
static size_t find_entering(struct optimal_network *network) {
    size_t block = 256, left = block, best = SIZE_MAX;
    while (block * block < network->arcs_count)
        block *= 2;
    int64_t best_us = 0;
    size_t at = network->search_at;
    for (size_t seen = 0; seen < network->arcs_count; seen++) {
        const struct arc *arc = &network->arcs[at];
        int64_t gain_us = (int64_t)arc->state * reduced_cost_us(network, arc);
        if (gain_us < best_us && arc->room > 0) {
            best_us = gain_us;
            best = at;
        }
        at = at + 1 == network->arcs_count ? 0 : at + 1;
        if (--left == 0) {
            if (best != SIZE_MAX)
                break;
            left = block;
        }
    }
    network->search_at = at;
    return best;
}

/* What the cycle of the entering arc can take, and which arc then blocks it. */
struct pivot {
    size_t entering;
    uint32_t first, second; /* the entering arc's ends, as its flow changes */
    uint32_t join;
    uint32_t amount;
    uint32_t leaving;  /* the vertex below the leaving arc, or NOTHING */
    bool leaves_first; /* on the side of `first` */
};

static void find_join(const struct optimal_network *network, struct pivot *pivot) {
    const struct vertex *tree = network->tree;
    uint32_t a = pivot->first, b = pivot->second;
    while (a != b) {
        if (tree[a].depth >= tree[b].depth)
            a = tree[a].parent;
        else
            b = tree[b].parent;
    }
    pivot->join = a;
}

static uint32_t room_of(const struct arc *arc, bool grows) {
    if (!grows)
        return arc->flow;
    return arc->room == UNBOUNDED ? UNBOUNDED : arc->room - arc->flow;
}

/* The last blocking arc along the cycle, from the join on, keeps the tree strongly feasible. */
static void find_leaving(const struct optimal_network *network, struct pivot *pivot) {
    const struct vertex *tree = network->tree;
    const struct arc *entering = &network->arcs[pivot->entering];
    pivot->amount = entering->room;
    pivot->leaving = NOTHING;
    for (uint32_t at = pivot->first; at != pivot->join; at = tree[at].parent) {
        uint32_t room = room_of(&network->arcs[tree[at].arc], !tree[at].upwards);
        if (room < pivot->amount) {
            pivot->amount = room;
            pivot->leaving = at;
            pivot->leaves_first = true;
        }
    }
    for (uint32_t at = pivot->second; at != pivot->join; at = tree[at].parent) {
        uint32_t room = room_of(&network->arcs[tree[at].arc], tree[at].upwards);
        if (room <= pivot->amount) {
            pivot->amount = room;
            pivot->leaving = at;
            pivot->leaves_first = false;
        }
    }
}

static void change_flow(struct arc *arc, uint32_t amount, bool grows) {
    arc->flow = grows ? arc->flow + amount : arc->flow - amount;
}

static void push(struct optimal_network *network, const struct pivot *pivot) {
    const struct vertex *tree = network->tree;
    struct arc *entering = &network->arcs[pivot->entering];
    if (pivot->amount > 0) {
        change_flow(entering, pivot->amount, entering->state == ARC_LOWER);
        for (uint32_t at = pivot->first; at != pivot->join; at = tree[at].parent)
            change_flow(&network->arcs[tree[at].arc], pivot->amount, !tree[at].upwards);
        for (uint32_t at = pivot->second; at != pivot->join; at = tree[at].parent)
            change_flow(&network->arcs[tree[at].arc], pivot->amount, tree[at].upwards);
    }
}

/* Turns the way from TOP down to BOTTOM round, so that BOTTOM is its head. */
static void turn(struct optimal_network *network, uint32_t bottom, uint32_t top) {
    struct vertex *tree = network->tree;
    uint32_t at = bottom, parent = tree[bottom].parent, arc = tree[bottom].arc;
    bool upwards = tree[bottom].upwards;
    detach(network, bottom);
    while (at != top) {
        uint32_t above = tree[parent].parent, above_arc = tree[parent].arc;
        bool above_upwards = tree[parent].upwards;
        detach(network, parent);
        attach(network, parent, at);
        tree[parent].arc = arc;
        tree[parent].upwards = !upwards;
        at = parent;
        parent = above;
        arc = above_arc;
        upwards = above_upwards;
    }
}

/* Potentials and depths of the tree below HEAD. */
static void relabel(struct optimal_network *network, uint32_t head) {
    struct vertex *tree = network->tree;
    const struct arc *arc = &network->arcs[tree[head].arc];
    int64_t wanted_us = tree[head].upwards ? tree[tree[head].parent].potential_us - arc->cost_us
                                           : tree[tree[head].parent].potential_us + arc->cost_us;
    int64_t change_us = wanted_us - tree[head].potential_us;
    uint32_t at = head;
    for (;;) {
        tree[at].potential_us += change_us;
        tree[at].depth = tree[tree[at].parent].depth + 1;
        if (tree[at].first_child != NOTHING) {
            at = tree[at].first_child;
            continue;
        }
        while (at != head && tree[at].next_sibling == NOTHING)
            at = tree[at].parent;
        if (at == head)
            return;
        at = tree[at].next_sibling;
    }
}

static void exchange(struct optimal_network *network, const struct pivot *pivot) {
    struct arc *entering = &network->arcs[pivot->entering];
    if (pivot->leaving == NOTHING) {
        entering->state = entering->state == ARC_LOWER ? ARC_UPPER : ARC_LOWER;
        return;
    }
    struct arc *leaving = &network->arcs[network->tree[pivot->leaving].arc];
    uint32_t head = pivot->leaves_first ? pivot->first : pivot->second;
    uint32_t parent = pivot->leaves_first ? pivot->second : pivot->first;
    turn(network, head, pivot->leaving);
    attach(network, head, parent);
    network->tree[head].arc = (uint32_t)pivot->entering;
    network->tree[head].upwards = entering->from == head;
    entering->state = ARC_TREE;
    leaving->state = leaving->flow == 0 ? ARC_LOWER : ARC_UPPER;
    size_t index = (size_t)(leaving - network->arcs);
    if (index >= network->nodes && index < network->links_first)
        leaving->room = 0; /* it held a vertex at the start and is of no more use */
    relabel(network, head);
}

static void run_simplex(struct optimal_network *network) {
    size_t entering;
    while ((entering = find_entering(network)) != SIZE_MAX) {
        const struct arc *arc = &network->arcs[entering];
        bool grows = arc->state == ARC_LOWER;
        struct pivot pivot = {.entering = entering,
                              .first = grows ? arc->from : arc->to,
                              .second = grows ? arc->to : arc->from};
        find_join(network, &pivot);
        find_leaving(network, &pivot);
        push(network, &pivot);
        exchange(network, &pivot);
    }
}

/* Links of FROM that would be worth using become arcs: the best ones. Returns how many. */
static uint32_t price_row(struct optimal_network *network, gwtf_node_id from) {
    const gwtf_node_id *next = NULL;
    uint32_t width = next_width(network->instance, from, &next), count = 0;
    const int32_t *row = gwtf_flow_instance_row(network->instance, from);
    int64_t here_us = network->tree[outer(from)].potential_us;
    uint32_t places[JOINING_LINKS];
    int64_t values_us[JOINING_LINKS];
    for (uint32_t j = 0; j < width; j++) {
        if (row[j] < 0)
            continue;
        int64_t value_us = row[j] + here_us - network->tree[inner(next[j])].potential_us;
        if (value_us >= 0 || (count == JOINING_LINKS && value_us >= values_us[count - 1]) ||
            is_known(network, from, j) || network->task.capacity[next[j]] == 0 ||
            !link_is_allowed(&network->task, from, next[j], row[j]))
            continue;
        uint32_t at = count < JOINING_LINKS ? count++ : count - 1;
        for (; at > 0 && values_us[at - 1] > value_us; at--) {
            values_us[at] = values_us[at - 1];
            places[at] = places[at - 1];
        }
        values_us[at] = value_us;
        places[at] = j;
    }
    for (uint32_t i = 0; i < count; i++)
        add_link(network, from, places[i], next[places[i]], row[places[i]]);
    return count;
}

gwtf_status optimal_network_solve(struct optimal_network *network,
                                  const struct optimal_task *task) {
    network->task = *task;
    reset(network);
    for (;;) {
        run_simplex(network);
        size_t joined = 0;
        for (gwtf_node_id i = 0; i < network->nodes; i++)
            if (task->capacity[i] > 0)
                joined += price_row(network, i);
        if (network->no_memory)
            return GWTF_ERROR_MEMORY;
        if (joined == 0)
            return GWTF_OK;
    }
}

bool optimal_network_next_link(const struct optimal_network *network, size_t *at,
                               struct optimal_link *link) {
    if (*at < network->links_first)
        *at = network->links_first;
    for (; *at < network->arcs_count; (*at)++) {
        const struct arc *arc = &network->arcs[*at];
        if (arc->flow == 0)
            continue;
        *link = (struct optimal_link){arc->from / 2, arc->to / 2, arc->flow};
        (*at)++;
        return true;
    }
    return false;
}

int64_t optimal_network_price(const struct optimal_network *network, gwtf_node_id node) {
    int64_t saved = network->tree[outer(node)].potential_us -
                    network->tree[inner(node)].potential_us - network->arcs[node].cost_us;
    return saved > 0 ? saved : 0;
}
