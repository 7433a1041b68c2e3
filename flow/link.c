#include "flow/link.h"

#include "share/base/assert.h"

#include <stdlib.h>

#define RETRY_DOUBLINGS_MAX 4u
/* Of the pool, for each neighbour; and for those that are busy. */
#define POOL_PER_PEER 3u
#define POOL_COMMON 64u
/* While more than half of the pool is free a peer may hold FLOW_ASKS_MAX messages that are no
 * answers, later this many. The last quarter is for answers and for those that hold nothing. */
#define SCARCE_QUEUE_MAX 2u
/* What a peer has sent out of order is kept up to this number. */
#define EARLY_MAX 16u
/* Acknowledgements wait for another message to ride on: this part of a retry time, and figures this
 * part of a tick. */
#define PROMPT_PARTS 2
#define LAZY_PARTS 1
/* Figures that have come and are not acknowledged yet: more would fill the peer's queue. */
#define UNTOLD_MAX 10u
/* RFC 6298: shares of a sample in the average and the deviation, deviations in a retry time. */
#define AVERAGE_PARTS 8
#define DEVIATION_PARTS 4
#define DEVIATIONS 4
#define ROUND_TRIP_MOST_US 60000000

/* --- The pool. --- */

static struct flow_queued *entry_of(const gwtf_flow *flow, uint32_t index) {
    return &flow->pool.entries[index];
}

static uint32_t take_entry(gwtf_flow *flow) {
    uint32_t index = flow->pool.free;
    flow->pool.free = entry_of(flow, index)->next;
    flow->pool.left--;
    return index;
}

static void free_entry(gwtf_flow *flow, uint32_t index) {
    entry_of(flow, index)->next = flow->pool.free;
    flow->pool.free = index;
    flow->pool.left++;
}

static void free_list(gwtf_flow *flow, uint32_t *first) {
    while (*first != FLOW_INDEX_NONE) {
        uint32_t next = entry_of(flow, *first)->next;
        free_entry(flow, *first);
        *first = next;
    }
}

/* --- The heap of peers, by the time that they are due. --- */

static bool is_due_before(const struct flow_peer *a, const struct flow_peer *b) {
    return a->due_us < b->due_us || (a->due_us == b->due_us && a->id < b->id);
}

static void put(gwtf_flow *flow, uint32_t at, uint32_t index) {
    flow->heap[at] = index;
    flow->peers[index].heap_at = at;
}

static void sift_up(gwtf_flow *flow, uint32_t at) {
    uint32_t index = flow->heap[at];
    while (at > 0 && is_due_before(&flow->peers[index], &flow->peers[flow->heap[(at - 1) / 2]])) {
        put(flow, at, flow->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    put(flow, at, index);
}

static void sift_down(gwtf_flow *flow, uint32_t at) {
    uint32_t index = flow->heap[at];
    for (uint32_t child = 2 * at + 1; child < flow->heap_count; child = 2 * at + 1) {
        if (child + 1 < flow->heap_count &&
            is_due_before(&flow->peers[flow->heap[child + 1]], &flow->peers[flow->heap[child]]))
            child++;
        if (!is_due_before(&flow->peers[flow->heap[child]], &flow->peers[index]))
            break;
        put(flow, at, flow->heap[child]);
        at = child;
    }
    put(flow, at, index);
}

/* PEER's due_us follows from what it waits for. */
static void reschedule(gwtf_flow *flow, struct flow_peer *peer) {
    gwtf_time_us due_us = peer->retry_at_us;
    if (peer->acknowledge && peer->acknowledge_at_us < due_us)
        due_us = peer->acknowledge_at_us;
    if (peer->queue_due > 0)
        due_us = 0;
    if (due_us == peer->due_us)
        return;
    peer->due_us = due_us;
    sift_up(flow, peer->heap_at);
    sift_down(flow, peer->heap_at);
}

static uint32_t get_pool_count(uint32_t peers) {
    return peers * POOL_PER_PEER + POOL_COMMON;
}

size_t flow_link_sends_max(uint32_t peers) {
    return (size_t)get_pool_count(peers) + peers;
}

bool flow_link_create(gwtf_flow *flow) {
    uint32_t peers = flow->config.neighbours_max, count = get_pool_count(peers);
    flow->heap = calloc(peers, sizeof *flow->heap);
    flow->pool.entries = calloc(count, sizeof *flow->pool.entries);
    if (flow->heap == NULL || flow->pool.entries == NULL)
        return false;
    flow->pool.count = count;
    flow->pool.free = FLOW_INDEX_NONE;
    for (uint32_t i = count; i > 0; i--)
        free_entry(flow, i - 1);
    return true;
}

void flow_link_destroy(gwtf_flow *flow) {
    free(flow->heap);
    free(flow->pool.entries);
}

/* --- Beginning and end. --- */

/* Both sides count from 1. */
static void reset(gwtf_flow *flow, struct flow_peer *peer, uint32_t peer_session) {
    peer->peer_session = peer_session;
    peer->next_sequence = 1;
    peer->queue_first = 1;
    peer->received = peer->received_mask = peer->told_received = 0;
    free_list(flow, &peer->queue);
    free_list(flow, &peer->early);
    peer->queue_last = FLOW_INDEX_NONE;
    peer->queue_count = peer->queue_due = peer->asks = 0;
    peer->retries = 0;
}

void flow_link_open(gwtf_flow *flow, struct flow_peer *peer) {
    peer->session = ++flow->sessions;
    peer->pool = &flow->pool;
    peer->queue = peer->early = FLOW_INDEX_NONE;
    reset(flow, peer, 0);
    peer->round_trip_us = peer->deviation_us = 0;
    peer->acknowledge = false;
    peer->retry_at_us = peer->due_us = flow->now_us;
    put(flow, flow->heap_count++, (uint32_t)(peer - flow->peers));
    sift_up(flow, peer->heap_at);
}

void flow_link_close(gwtf_flow *flow, struct flow_peer *peer) {
    free_list(flow, &peer->queue);
    free_list(flow, &peer->early);
    uint32_t at = peer->heap_at, last = flow->heap[--flow->heap_count];
    if (at == flow->heap_count)
        return;
    put(flow, at, last);
    sift_up(flow, at);
    sift_down(flow, flow->peers[last].heap_at);
}

/* The other side has begun anew. */
static void adopt(gwtf_flow *flow, struct flow_peer *peer, uint32_t peer_session) {
    reset(flow, peer, peer_session);
    peer->retry_at_us = GWTF_TIME_NEVER;
    /* It has to learn this side's number. */
    peer->acknowledge = true;
    peer->acknowledge_at_us = flow->now_us;
    reschedule(flow, peer);
}

/* --- Sending. --- */

bool flow_link_has_room(const struct flow_peer *peer) {
    struct flow_pool *pool = peer->pool;
    uint32_t most = FLOW_QUEUE_MAX - FLOW_ASKS_MAX;
    if (pool->left <= pool->count / 2)
        most = pool->left > pool->count / 4 ? SCARCE_QUEUE_MAX : 1;
    bool room = peer->queue_count < most && pool->left > 0;
    pool->wanted = pool->wanted || !room;
    return room && peer->peer_session != 0;
}

bool flow_link_has_room_for_answer(const struct flow_peer *peer) {
    bool room = peer->queue_count < FLOW_QUEUE_MAX && peer->pool->left > 0;
    peer->pool->wanted = peer->pool->wanted || !room;
    return room && peer->peer_session != 0;
}

void flow_link_send(gwtf_flow *flow, struct flow_peer *peer, const struct gwtf_flow_message *body) {
    GWTF_ASSERT(flow_link_has_room_for_answer(peer));
    uint32_t index = take_entry(flow);
    struct flow_queued *entry = entry_of(flow, index);
    *entry = (struct flow_queued){*body, GWTF_TIME_NEVER, FLOW_INDEX_NONE, 0, false};
    entry->message.sequence = peer->next_sequence++;
    *(peer->queue == FLOW_INDEX_NONE ? &peer->queue : &entry_of(flow, peer->queue_last)->next) =
        index;
    peer->queue_last = index;
    peer->queue_count++;
    peer->queue_due++;
    reschedule(flow, peer);
}

/* Figures and what is of use later: nobody waits for their arrival. */
static bool is_lazy(uint32_t kind) {
    return kind == FLOW_MESSAGE_ADVERTISE || kind == FLOW_MESSAGE_COST ||
           kind == FLOW_MESSAGE_COMPARE || kind == FLOW_MESSAGE_POTENTIAL_DOWN ||
           kind == FLOW_MESSAGE_POTENTIAL_UP;
}

/* How long the receiver of KIND may wait before it acknowledges. */
static int64_t get_patience(const gwtf_flow *flow, uint32_t kind) {
    int64_t prompt_us = flow->config.retry_us / PROMPT_PARTS;
    int64_t lazy_us = flow->config.tick_us / LAZY_PARTS;
    return is_lazy(kind) && lazy_us > prompt_us ? lazy_us : prompt_us;
}

/* When ENTRY, which was sent, is sent again. */
static gwtf_time_us get_retry(const gwtf_flow *flow, const struct flow_peer *peer,
                              const struct flow_queued *entry) {
    int64_t patience_us = get_patience(flow, entry->message.kind);
    int64_t wait_us = flow->config.retry_us / PROMPT_PARTS;
    if (peer->round_trip_us > 0)
        wait_us = (int64_t)peer->round_trip_us + DEVIATIONS * (int64_t)peer->deviation_us;
    wait_us += patience_us;
    uint32_t doublings = peer->retries < RETRY_DOUBLINGS_MAX ? peer->retries : RETRY_DOUBLINGS_MAX;
    return entry->sent_us + (wait_us << doublings);
}

static void set_retry(gwtf_flow *flow, struct flow_peer *peer) {
    peer->retry_at_us = GWTF_TIME_NEVER;
    for (uint32_t i = peer->queue; i != FLOW_INDEX_NONE; i = entry_of(flow, i)->next) {
        const struct flow_queued *entry = entry_of(flow, i);
        if (entry->arrived || entry->sent_us == GWTF_TIME_NEVER)
            continue;
        gwtf_time_us retry_us = get_retry(flow, peer, entry);
        if (retry_us < peer->retry_at_us)
            peer->retry_at_us = retry_us;
    }
    reschedule(flow, peer);
}

/* Those that have waited long enough are sent again. */
static void retry(gwtf_flow *flow, struct flow_peer *peer) {
    uint32_t due = peer->queue_due;
    for (uint32_t i = peer->queue; i != FLOW_INDEX_NONE; i = entry_of(flow, i)->next) {
        struct flow_queued *entry = entry_of(flow, i);
        if (entry->arrived || entry->sent_us == GWTF_TIME_NEVER ||
            get_retry(flow, peer, entry) > flow->now_us)
            continue;
        entry->sent_us = GWTF_TIME_NEVER;
        peer->queue_due++;
    }
    peer->retries += peer->queue_due > due;
}

/* --- Receiving. --- */

static void measure(struct flow_peer *peer, int64_t sample_us) {
    if (sample_us < 1)
        sample_us = 1;
    if (sample_us > ROUND_TRIP_MOST_US)
        sample_us = ROUND_TRIP_MOST_US;
    if (peer->round_trip_us == 0) {
        peer->round_trip_us = (uint32_t)sample_us;
        peer->deviation_us = (uint32_t)sample_us / 2;
        return;
    }
    int64_t off_us = sample_us - (int64_t)peer->round_trip_us;
    int64_t deviation_us = (int64_t)peer->deviation_us;
    deviation_us += ((off_us < 0 ? -off_us : off_us) - deviation_us) / DEVIATION_PARTS;
    peer->deviation_us = (uint32_t)deviation_us;
    peer->round_trip_us = (uint32_t)((int64_t)peer->round_trip_us + off_us / AVERAGE_PARTS);
}

/* The peer has the first entry of the queue. */
static void drop_first(gwtf_flow *flow, struct flow_peer *peer) {
    uint32_t index = peer->queue;
    struct flow_queued *entry = entry_of(flow, index);
    if (entry->sent_us == GWTF_TIME_NEVER)
        peer->queue_due -= !entry->arrived;
    else if (entry->sends == 1 && !entry->arrived && !is_lazy(entry->message.kind))
        measure(peer, flow->now_us - entry->sent_us);
    peer->queue = entry->next;
    if (peer->queue == FLOW_INDEX_NONE)
        peer->queue_last = FLOW_INDEX_NONE;
    free_entry(flow, index);
    peer->queue_first++;
    peer->queue_count--;
}

/* What has arrived after a gap tells that what was sent before it is lost. */
static void note_gaps(gwtf_flow *flow, struct flow_peer *peer, uint32_t acknowledged,
                      uint32_t mask) {
    gwtf_time_us newest_us = -1;
    uint32_t newest = peer->queue_first;
    for (uint32_t i = peer->queue; i != FLOW_INDEX_NONE; i = entry_of(flow, i)->next) {
        struct flow_queued *entry = entry_of(flow, i);
        uint32_t bit = entry->message.sequence - acknowledged - 2;
        if (bit >= 32 || (mask >> bit & 1) == 0 || entry->arrived || entry->sends == 0)
            continue;
        entry->arrived = true;
        peer->queue_due -= entry->sent_us == GWTF_TIME_NEVER;
        newest = entry->message.sequence;
        if (entry->sent_us != GWTF_TIME_NEVER && entry->sent_us > newest_us)
            newest_us = entry->sent_us;
    }
    for (uint32_t i = peer->queue; i != FLOW_INDEX_NONE; i = entry_of(flow, i)->next) {
        struct flow_queued *entry = entry_of(flow, i);
        if (entry->message.sequence - peer->queue_first > newest - peer->queue_first)
            break;
        if (entry->arrived || entry->sends == 0 || entry->sent_us > newest_us)
            continue;
        entry->sent_us = GWTF_TIME_NEVER;
        peer->queue_due++;
    }
}

static void take_acknowledgement(gwtf_flow *flow, struct flow_peer *peer,
                                 const struct gwtf_flow_message *message) {
    uint32_t done = message->acknowledged + 1 - peer->queue_first;
    if (done > peer->queue_count)
        return; /* an old one */
    for (uint32_t i = 0; i < done; i++)
        if (entry_of(flow, peer->queue)->sends > 0)
            drop_first(flow, peer);
    if (done > 0)
        peer->retries = 0;
    if (done > 0 && flow->pool.wanted)
        flow->stirred = FLOW_STIR_ALL;
    if (message->acknowledged_mask != 0)
        note_gaps(flow, peer, message->acknowledged, message->acknowledged_mask);
    set_retry(flow, peer);
}

/* Keeps a message that is not the next one. */
static void keep_early(gwtf_flow *flow, struct flow_peer *peer,
                       const struct gwtf_flow_message *message) {
    uint32_t bit = message->sequence - peer->received - 2;
    if (bit >= EARLY_MAX || (peer->received_mask >> bit & 1) != 0 ||
        flow->pool.left <= flow->pool.count / 4)
        return;
    uint32_t index = take_entry(flow), *at = &peer->early;
    while (*at != FLOW_INDEX_NONE &&
           entry_of(flow, *at)->message.sequence - peer->received < bit + 2)
        at = &entry_of(flow, *at)->next;
    *entry_of(flow, index) = (struct flow_queued){*message, 0, *at, 0, false};
    *at = index;
    peer->received_mask |= (uint32_t)1 << bit;
}

/* The next one in order is here: false when it cannot be answered now. It will come again. */
static bool deliver(struct flow_peer *peer, const struct gwtf_flow_message *message) {
    if (message->kind == FLOW_MESSAGE_REQUEST && !flow_link_has_room_for_answer(peer))
        return false;
    peer->received++;
    peer->received_mask >>= 1;
    return true;
}

bool flow_link_next(gwtf_flow *flow, struct flow_peer *peer, struct gwtf_flow_message *message) {
    uint32_t index = peer->early;
    if (index == FLOW_INDEX_NONE || entry_of(flow, index)->message.sequence != peer->received + 1)
        return false;
    *message = entry_of(flow, index)->message;
    peer->early = entry_of(flow, index)->next;
    free_entry(flow, index);
    /* Its bit has left the mask when the one before it was delivered. */
    return deliver(peer, message);
}

static void acknowledge(gwtf_flow *flow, struct flow_peer *peer, int64_t wait_us) {
    if (!peer->acknowledge || peer->acknowledge_at_us > flow->now_us + wait_us)
        peer->acknowledge_at_us = flow->now_us + wait_us;
    peer->acknowledge = true;
    reschedule(flow, peer);
}

enum flow_link_result flow_link_receive(gwtf_flow *flow, struct flow_peer *peer,
                                        const struct gwtf_flow_message *message) {
    if (message->session == 0 || message->session < peer->peer_session)
        return FLOW_LINK_NOTHING;
    if (message->session > peer->peer_session) {
        bool first = peer->peer_session == 0;
        adopt(flow, peer, message->session);
        if (!first)
            return FLOW_LINK_NEW;
    }
    if (message->peer_session != peer->session) {
        /* It does not know this side's number, or still the old one. */
        acknowledge(flow, peer, 0);
        return FLOW_LINK_NOTHING;
    }
    take_acknowledgement(flow, peer, message);
    if (message->sequence == 0)
        return FLOW_LINK_NOTHING;
    if (message->sequence != peer->received + 1) {
        bool gap = peer->received_mask == 0;
        keep_early(flow, peer, message);
        gap = gap && peer->received_mask != 0;
        acknowledge(flow, peer, gap ? 0 : flow->config.retry_us / PROMPT_PARTS);
        return FLOW_LINK_NOTHING;
    }
    bool many = peer->received + 1 - peer->told_received >= UNTOLD_MAX;
    acknowledge(flow, peer, get_patience(flow, many ? FLOW_MESSAGE_BARE : message->kind));
    return deliver(peer, message) ? FLOW_LINK_BODY : FLOW_LINK_NOTHING;
}

/* --- What is due. --- */

static bool emit(struct flow_peer *peer, const struct gwtf_flow_message *body,
                 struct gwtf_flow_update *update) {
    if (update->sends_count == update->sends_max)
        return false;
    struct gwtf_flow_send *send = &update->sends[update->sends_count++];
    send->to = peer->id;
    send->message = *body;
    send->message.session = peer->session;
    send->message.peer_session = peer->peer_session;
    send->message.acknowledged = peer->received;
    send->message.acknowledged_mask = peer->received_mask;
    peer->acknowledge = false;
    peer->told_received = peer->received;
    return true;
}

/* False when UPDATE is full. */
static bool emit_queue(gwtf_flow *flow, struct flow_peer *peer, struct gwtf_flow_update *update) {
    for (uint32_t i = peer->queue; i != FLOW_INDEX_NONE && peer->queue_due > 0;
         i = entry_of(flow, i)->next) {
        struct flow_queued *entry = entry_of(flow, i);
        if (entry->arrived || entry->sent_us != GWTF_TIME_NEVER)
            continue;
        if (!emit(peer, &entry->message, update))
            return false;
        entry->sent_us = flow->now_us;
        entry->sends = entry->sends < UINT16_MAX ? (uint16_t)(entry->sends + 1) : UINT16_MAX;
        peer->queue_due--;
    }
    return true;
}

static bool emit_peer(gwtf_flow *flow, struct flow_peer *peer, struct gwtf_flow_update *update) {
    static const struct gwtf_flow_message bare = {.kind = FLOW_MESSAGE_BARE};
    bool whole = true;
    if (peer->peer_session == 0) {
        whole = emit(peer, &bare, update);
        if (whole) {
            uint32_t doublings =
                peer->retries < RETRY_DOUBLINGS_MAX ? peer->retries : RETRY_DOUBLINGS_MAX;
            peer->retries++;
            peer->retry_at_us = flow->now_us + (flow->config.retry_us << doublings);
        }
        reschedule(flow, peer);
        return whole;
    }
    if (peer->retry_at_us <= flow->now_us)
        retry(flow, peer);
    whole = emit_queue(flow, peer, update);
    if (whole && peer->acknowledge && peer->acknowledge_at_us <= flow->now_us)
        whole = emit(peer, &bare, update);
    set_retry(flow, peer);
    return whole;
}

void flow_link_emit(gwtf_flow *flow, struct gwtf_flow_update *update) {
    while (flow->heap_count > 0 && flow->peers[flow->heap[0]].due_us <= flow->now_us)
        if (!emit_peer(flow, &flow->peers[flow->heap[0]], update))
            return;
}

gwtf_time_us flow_link_deadline(const gwtf_flow *flow) {
    if (flow->heap_count == 0)
        return GWTF_TIME_NEVER;
    gwtf_time_us due_us = flow->peers[flow->heap[0]].due_us;
    return due_us > flow->now_us ? due_us : flow->now_us;
}

const char *flow_link_check(const gwtf_flow *flow, const struct flow_peer *peer) {
    if (peer->session == 0 || peer->session > flow->sessions)
        return "a connection has a number that was never given";
    uint32_t count = 0, due = 0, early = 0;
    for (uint32_t i = peer->queue; i != FLOW_INDEX_NONE; i = entry_of(flow, i)->next) {
        const struct flow_queued *entry = entry_of(flow, i);
        if (entry->message.sequence != peer->queue_first + count++)
            return "a connection's queue is out of order";
        due += !entry->arrived && entry->sent_us == GWTF_TIME_NEVER;
    }
    for (uint32_t i = peer->early; i != FLOW_INDEX_NONE; i = entry_of(flow, i)->next)
        early |= (uint32_t)1 << (entry_of(flow, i)->message.sequence - peer->received - 2);
    if (peer->queue_count != count || peer->queue_due != due || count > FLOW_QUEUE_MAX ||
        peer->queue_first + count != peer->next_sequence || peer->received_mask != early)
        return "a connection's queue does not add up";
    if (peer->heap_at >= flow->heap_count || &flow->peers[flow->heap[peer->heap_at]] != peer ||
        (peer->heap_at > 0 &&
         is_due_before(peer, &flow->peers[flow->heap[(peer->heap_at - 1) / 2]])))
        return "a connection is due at another time than it is looked at";
    return NULL;
}
