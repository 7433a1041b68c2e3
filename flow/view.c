#include "flow/view.h"

#include "flow/policy.h"
#include "flow/table.h"

#include <stdlib.h>
#include <string.h>

#define DECLINED_MAX 256u
#define FORGETS_MAX 16u
#define CONTACTS_MAX 16u
#define NEWS_MAX 512u
#define INTRODUCTIONS_MAX 128u
/* How often a node passes on what it hears: of those that could be told by rumours of this kind
 * four in five are (Karp et al. 2000), and two have to miss each other's name to miss each other.
 */
#define NEWS_COPIES 2u
#define GOSSIPS_PER_TICK 8u
#define FILTER_BITS 32768u
#define NODES_IN_MESSAGE (sizeof((struct gwtf_flow_message *)0)->nodes / sizeof(gwtf_node_id))

struct view_node {
    gwtf_node_id id;
    uint32_t stage;
};
struct view_news {
    struct view_node node;
    uint32_t copies; /* still to be told */
};
struct view_forget {
    gwtf_node_id to;
    uint32_t session;
};

struct flow_view {
    struct view_node declined[DECLINED_MAX]; /* ring */
    uint32_t declined_next;
    struct view_forget forgets[FORGETS_MAX];
    uint32_t forgets_count;

    gwtf_node_id contacts[CONTACTS_MAX]; /* of the own stage */
    uint32_t contacts_count;
    struct view_news news[NEWS_MAX]; /* ring: the oldest are lost */
    uint32_t news_first, news_count;
    struct view_node introductions[INTRODUCTIONS_MAX];
    uint32_t introductions_count;
    bool gossips; /* the driver takes introductions */
    gwtf_time_us gossip_at_us;
    uint64_t filter[FILTER_BITS / 64];
};

_Static_assert(sizeof(struct flow_view) <= 16384, "a node must stay small");

static uint32_t get_limit(const struct gwtf_flow_config *config, uint32_t stage) {
    if (stage == 0)
        return config->sinks_max;
    if (config->stage == 0 && config->capacity_max > config->view)
        return config->capacity_max;
    return config->view;
}

uint32_t flow_view_size(const struct gwtf_flow_config *config) {
    uint32_t next = config->stage == config->stages ? 0 : config->stage + 1;
    uint32_t previous = config->stage == 0 ? config->stages : config->stage - 1;
    return get_limit(config, next) + (next != previous ? get_limit(config, previous) : 0);
}

bool flow_view_create(gwtf_flow *flow) {
    flow->view = calloc(1, sizeof *flow->view);
    if (flow->view == NULL)
        return false;
    for (size_t i = 0; i < DECLINED_MAX; i++)
        flow->view->declined[i].id = GWTF_NODE_NONE;
    flow->view->gossip_at_us = GWTF_TIME_NEVER;
    return true;
}

void flow_view_destroy(gwtf_flow *flow) {
    free(flow->view);
}

bool flow_view_has_room(const gwtf_flow *flow, uint32_t stage) {
    if (!flow->policy->keeps_view)
        return true;
    uint32_t count = 0;
    for (size_t i = 0; i < flow->peers_count; i++)
        count += flow->peers[i].id != GWTF_NODE_NONE && flow->peers[i].stage == stage;
    return count < get_limit(&flow->config, stage);
}

/* --- Who is let go. --- */

static struct view_node *find_declined(const gwtf_flow *flow, gwtf_node_id node) {
    struct flow_view *view = flow->view;
    for (uint32_t i = 1; i <= DECLINED_MAX; i++) {
        struct view_node *at = &view->declined[(view->declined_next - i) % DECLINED_MAX];
        if (at->id == node)
            return at;
    }
    return NULL;
}

uint32_t flow_view_declined_stage(const gwtf_flow *flow, gwtf_node_id node) {
    const struct view_node *at = find_declined(flow, node);
    return at != NULL ? at->stage : FLOW_INDEX_NONE;
}

void flow_view_undecline(gwtf_flow *flow, gwtf_node_id node) {
    struct view_node *at = find_declined(flow, node);
    if (at != NULL)
        at->id = GWTF_NODE_NONE;
}

void flow_view_decline(gwtf_flow *flow, gwtf_node_id node, uint32_t stage) {
    struct flow_view *view = flow->view;
    if (find_declined(flow, node) == NULL)
        view->declined[view->declined_next++ % DECLINED_MAX] = (struct view_node){node, stage};
}

void flow_view_ask_again(gwtf_flow *flow, uint32_t stage) {
    struct flow_view *view = flow->view;
    for (uint32_t i = 1; i <= DECLINED_MAX && view->gossips; i++) {
        struct view_node *at = &view->declined[(view->declined_next - i) % DECLINED_MAX];
        if (at->id == GWTF_NODE_NONE || at->stage != stage)
            continue;
        if (view->introductions_count == INTRODUCTIONS_MAX)
            return;
        view->introductions[view->introductions_count++] = *at;
        at->id = GWTF_NODE_NONE;
        return;
    }
}

static bool is_shared(const gwtf_flow *flow, const struct flow_peer *peer) {
    for (size_t i = 0; i < flow->slots_count; i++) {
        const struct flow_slot *slot = &flow->slots[i];
        if ((slot->in.state != FLOW_END_NONE && slot->in.peer == peer->id) ||
            (slot->out.state != FLOW_END_NONE && slot->out.peer == peer->id))
            return true;
    }
    for (size_t i = 0; i < FLOW_VISITS_MAX; i++) {
        const struct flow_visit *visit = &flow->visits[i];
        if (visit->kind != FLOW_VISIT_NONE &&
            (visit->successor == peer->id || visit->predecessor == peer->id))
            return true;
    }
    return peer->asks > 0 || (flow->policy->shares != NULL && flow->policy->shares(flow, peer));
}

struct flow_peer *flow_view_worst(const gwtf_flow *flow, uint32_t stage, int64_t link_us) {
    struct flow_peer *worst = NULL;
    for (size_t i = 0; i < flow->peers_count; i++) {
        struct flow_peer *peer = &flow->peers[i];
        if (peer->id == GWTF_NODE_NONE || peer->stage != stage || peer->link_us <= link_us ||
            (worst != NULL && peer->link_us <= worst->link_us) || is_shared(flow, peer))
            continue;
        worst = peer;
    }
    return worst;
}

void flow_view_forget(gwtf_flow *flow, gwtf_node_id node, uint32_t session) {
    struct flow_view *view = flow->view;
    if (view->forgets_count < FORGETS_MAX && session != 0)
        view->forgets[view->forgets_count++] = (struct view_forget){node, session};
}

/* --- Gossip. --- */

/* True when NODE had not been heard of. */
static bool remember(struct flow_view *view, gwtf_node_id node) {
    bool fresh = false;
    for (uint64_t i = 0; i < 2; i++) {
        uint64_t bit = gwtf_random_at(node, 1 + i) % FILTER_BITS;
        fresh = fresh || (view->filter[bit / 64] >> bit % 64 & 1) == 0;
        view->filter[bit / 64] |= (uint64_t)1 << bit % 64;
    }
    return fresh;
}

static bool note(gwtf_flow *flow, gwtf_node_id node, uint32_t stage) {
    struct flow_view *view = flow->view;
    if (node == flow->config.self || !remember(view, node))
        return false;
    if (stage == flow->config.stage) {
        uint32_t at = view->contacts_count < CONTACTS_MAX
                          ? view->contacts_count++
                          : (uint32_t)gwtf_random_below(&flow->random, CONTACTS_MAX);
        view->contacts[at] = node;
    }
    if (view->news_count == NEWS_MAX) {
        view->news_first++;
        view->news_count--;
    }
    view->news[(view->news_first + view->news_count++) % NEWS_MAX] =
        (struct view_news){{node, stage}, NEWS_COPIES};
    if (view->gossip_at_us == GWTF_TIME_NEVER)
        view->gossip_at_us =
            flow->now_us + 1 +
            (int64_t)gwtf_random_below(&flow->random, (uint64_t)flow->config.tick_us);
    return true;
}

void flow_view_note(gwtf_flow *flow, gwtf_node_id node, uint32_t stage) {
    if (flow->view->gossips && flow->policy->keeps_view)
        (void)note(flow, node, stage);
}

void flow_view_take_gossip(gwtf_flow *flow, const struct gwtf_flow_message *message) {
    struct flow_view *view = flow->view;
    uint32_t stage = message->sink;
    bool own = stage == flow->config.stage, neighbouring = flow_is_neighbouring(flow, stage);
    for (uint32_t i = 0; view->gossips && (own || neighbouring) && i < message->count &&
                         i < NODES_IN_MESSAGE && view->introductions_count < INTRODUCTIONS_MAX;
         i++)
        if (note(flow, message->nodes[i], stage) && neighbouring)
            view->introductions[view->introductions_count++] =
                (struct view_node){message->nodes[i], stage};
}

/* Somebody whom ids of STAGE are of use to. */
static gwtf_node_id choose_partner(gwtf_flow *flow, uint32_t stage) {
    const struct flow_view *view = flow->view;
    if (stage != flow->config.stage)
        return view->contacts_count > 0
                   ? view->contacts[gwtf_random_below(&flow->random, view->contacts_count)]
                   : GWTF_NODE_NONE;
    for (uint32_t tries = 0; tries < 8 && flow->peers_count > 0; tries++) {
        const struct flow_peer *peer =
            &flow->peers[gwtf_random_below(&flow->random, flow->peers_count)];
        if (peer->id != GWTF_NODE_NONE)
            return peer->id;
    }
    return GWTF_NODE_NONE;
}

/* The oldest news and what else there is of its stage. */
static void tell_news(gwtf_flow *flow, struct gwtf_flow_update *update) {
    struct flow_view *view = flow->view;
    struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_GOSSIP};
    body.sink = view->news[view->news_first % NEWS_MAX].node.stage;
    gwtf_node_id partner = choose_partner(flow, body.sink);
    for (uint32_t i = 0; i < view->news_count && body.count < NODES_IN_MESSAGE; i++) {
        struct view_news *news = &view->news[(view->news_first + i) % NEWS_MAX];
        if (news->copies == 0 || news->node.stage != body.sink)
            continue;
        news->copies--;
        if (news->node.id != partner)
            body.nodes[body.count++] = news->node.id;
    }
    while (view->news_count > 0 && view->news[view->news_first % NEWS_MAX].copies == 0) {
        view->news_first++;
        view->news_count--;
    }
    if (partner != GWTF_NODE_NONE && body.count > 0)
        update->sends[update->sends_count++] = (struct gwtf_flow_send){partner, body};
}

static void tell_forgets(gwtf_flow *flow, struct gwtf_flow_update *update) {
    struct flow_view *view = flow->view;
    while (view->forgets_count > 0 && update->sends_count < update->sends_max) {
        const struct view_forget *forget = &view->forgets[--view->forgets_count];
        struct gwtf_flow_message body = {.kind = FLOW_MESSAGE_FORGET,
                                         .peer_session = forget->session};
        update->sends[update->sends_count++] = (struct gwtf_flow_send){forget->to, body};
    }
}

void flow_view_emit(gwtf_flow *flow, struct gwtf_flow_update *update) {
    struct flow_view *view = flow->view;
    tell_forgets(flow, update);
    update->introductions_count = 0;
    view->gossips = update->introductions_max > 0;
    while (view->introductions_count > 0 &&
           update->introductions_count < update->introductions_max) {
        const struct view_node *node = &view->introductions[--view->introductions_count];
        update->introductions[update->introductions_count++] =
            (struct gwtf_flow_introduction){node->id, node->stage};
    }
    if (view->gossip_at_us > flow->now_us)
        return;
    for (uint32_t i = 0;
         i < GOSSIPS_PER_TICK && view->news_count > 0 && update->sends_count < update->sends_max;
         i++)
        tell_news(flow, update);
    view->gossip_at_us =
        view->news_count > 0 ? flow->now_us + flow->config.tick_us : GWTF_TIME_NEVER;
}

gwtf_time_us flow_view_deadline(const gwtf_flow *flow) {
    const struct flow_view *view = flow->view;
    if (view->forgets_count > 0 || (view->gossips && view->introductions_count > 0))
        return flow->now_us;
    return view->gossip_at_us;
}
