#include "worker/runtime/shaper.h"

#include "share/base/assert.h"
#include "share/base/random.h"
#include "worker/runtime/frame.h"

#include <stdlib.h>

struct item {
    struct item *next;
    uint64_t ticket;
    uint64_t bytes_left; /* that have not passed the line */
    bool is_tensor;
    /* Message, piece: when it may go. Tensor: no piece of it before. */
    gwtf_time_us release_us;
    gwtf_time_us handed_us;
};

struct fifo {
    struct item *first;
    struct item *last;
};

struct peer {
    struct gwtf_shaper_link link;
    struct fifo messages;            /* on their way */
    struct fifo tensors;             /* the first one has the line */
    struct fifo pieces;              /* on their way */
    struct fifo waiting;             /* handed over since the link is cut */
    uint64_t draws;                  /* of what is lost */
    int64_t cut_left_us;             /* what the piece on the line still needed then */
    gwtf_time_us messages_passed_us; /* the last one has passed the line */
    gwtf_time_us pieces_passed_us;
    gwtf_time_us message_release_us; /* of the last one */
    gwtf_time_us piece_release_us;
    bool on_line; /* a piece is */
    uint32_t piece_bytes;
    gwtf_time_us passes_us; /* that piece */
};

struct gwtf_shaper {
    struct peer *peers;
    size_t peers_count;
    struct item *items;
    struct item *unused;
    gwtf_time_us due_us; /* nothing happens before */
};

static void append(struct fifo *fifo, struct item *item) {
    item->next = NULL;
    if (fifo->last != NULL)
        fifo->last->next = item;
    else
        fifo->first = item;
    fifo->last = item;
}

static struct item *take_first(struct fifo *fifo) {
    struct item *item = fifo->first;
    fifo->first = item->next;
    if (fifo->first == NULL)
        fifo->last = NULL;
    return item;
}

static void give_item(gwtf_shaper *shaper, struct item *item) {
    item->next = shaper->unused;
    shaper->unused = item;
}

static struct item *take_item(gwtf_shaper *shaper) {
    struct item *item = shaper->unused;
    if (item != NULL)
        shaper->unused = item->next;
    return item;
}

static gwtf_time_us later(gwtf_time_us a, gwtf_time_us b) {
    return a > b ? a : b;
}

static int64_t line_us(const struct gwtf_shaper_link *link, uint64_t bytes) {
    if (link->bytes_per_second == 0)
        return 0;
    return (int64_t)((double)bytes * 1e6 / (double)link->bytes_per_second + 0.5);
}

gwtf_status gwtf_shaper_create(const struct gwtf_shaper_config *config, gwtf_shaper **shaper) {
    gwtf_shaper *made = calloc(1, sizeof *made);
    if (made == NULL)
        return GWTF_ERROR_MEMORY;
    made->peers_count = config->peers;
    made->due_us = GWTF_TIME_NEVER;
    made->peers = calloc(config->peers, sizeof *made->peers);
    made->items = calloc(config->items_max, sizeof *made->items);
    if (made->peers == NULL || made->items == NULL) {
        gwtf_shaper_destroy(made);
        return GWTF_ERROR_MEMORY;
    }
    for (size_t i = 0; i < config->items_max; i++)
        give_item(made, &made->items[i]);
    *shaper = made;
    return GWTF_OK;
}

void gwtf_shaper_destroy(gwtf_shaper *shaper) {
    if (shaper == NULL)
        return;
    free(shaper->peers);
    free(shaper->items);
    free(shaper);
}

/* How long after the line the next thing arrives. */
static int64_t travel_us(struct peer *peer) {
    const struct gwtf_shaper_link *link = &peer->link;
    bool lost = link->loss > 0 && gwtf_random_unit_at(0, peer->draws++) < link->loss;
    return link->latency_us + (lost ? GWTF_SHAPER_RESEND_US : 0);
}

/* The first tensor's next piece takes the line. */
static void begin_piece(struct peer *peer) {
    const struct item *tensor = peer->tensors.first;
    gwtf_time_us from_us = later(peer->pieces_passed_us, peer->messages_passed_us);
    peer->piece_bytes =
        tensor->bytes_left < GWTF_PIECE_BYTES ? (uint32_t)tensor->bytes_left : GWTF_PIECE_BYTES;
    peer->passes_us = later(from_us, tensor->handed_us) + line_us(&peer->link, peer->piece_bytes);
    peer->on_line = true;
}

/* The piece on the line has passed it. False: no item is left to note it with. */
static bool end_piece(gwtf_shaper *shaper, struct peer *peer) {
    struct item *tensor = peer->tensors.first;
    bool whole = tensor->bytes_left == peer->piece_bytes;
    struct item *piece = whole ? tensor : take_item(shaper);
    if (piece == NULL)
        return false;
    gwtf_time_us earliest_us = later(tensor->release_us, peer->piece_release_us);
    peer->piece_release_us = later(peer->passes_us + travel_us(peer), earliest_us);
    peer->pieces_passed_us = peer->passes_us;
    peer->on_line = false;
    tensor->bytes_left -= peer->piece_bytes;
    if (whole)
        take_first(&peer->tensors);
    piece->ticket = tensor->ticket;
    piece->release_us = peer->piece_release_us;
    append(&peer->pieces, piece);
    return true;
}

/* The line's state as of NOW_US. */
static void advance(gwtf_shaper *shaper, struct peer *peer, gwtf_time_us now_us) {
    while (peer->tensors.first != NULL && !peer->link.cut) {
        if (!peer->on_line)
            begin_piece(peer);
        if (peer->passes_us > now_us || !end_piece(shaper, peer))
            return;
    }
}

/* When the next thing happens with PEER's link. */
static gwtf_time_us due_us(const gwtf_shaper *shaper, const struct peer *peer) {
    gwtf_time_us due = GWTF_TIME_NEVER;
    if (peer->messages.first != NULL)
        due = peer->messages.first->release_us;
    if (peer->pieces.first != NULL && peer->pieces.first->release_us < due)
        due = peer->pieces.first->release_us;
    /* Without an item to note it with, a piece has to wait for one to come free. */
    if (peer->on_line && !peer->link.cut && shaper->unused != NULL) {
        gwtf_time_us release_us =
            later(peer->passes_us + peer->link.latency_us,
                  later(peer->tensors.first->release_us, peer->piece_release_us));
        if (release_us < due)
            due = release_us;
    }
    return due;
}

static void review_due(gwtf_shaper *shaper, const struct peer *peer) {
    gwtf_time_us due = due_us(shaper, peer);
    if (due < shaper->due_us)
        shaper->due_us = due;
}

/* What is left of a time on the line, at another rate. */
static gwtf_time_us at_new_rate(gwtf_time_us until_us, gwtf_time_us now_us, int64_t old_rate,
                                int64_t new_rate) {
    if (until_us <= now_us || old_rate == 0)
        return until_us;
    if (new_rate == 0)
        return now_us;
    return now_us + (int64_t)((double)(until_us - now_us) * (double)old_rate / (double)new_rate);
}

/* A message takes the line. */
static void pass_message(struct peer *peer, struct item *item, gwtf_time_us now_us) {
    int64_t takes_us = line_us(&peer->link, item->bytes_left);
    peer->messages_passed_us = later(peer->messages_passed_us, now_us) + takes_us;
    if (peer->on_line)
        peer->passes_us += takes_us;
    peer->message_release_us =
        later(peer->messages_passed_us + travel_us(peer), peer->message_release_us);
    item->release_us = peer->message_release_us;
    append(&peer->messages, item);
}

/* A tensor queues for the line. */
static void queue_tensor(struct peer *peer, struct item *item, gwtf_time_us now_us) {
    item->handed_us = now_us;
    item->release_us = peer->message_release_us;
    append(&peer->tensors, item);
}

static gwtf_status hand_over(gwtf_shaper *shaper, size_t index, const struct item *values,
                             gwtf_time_us now_us) {
    GWTF_ASSERT(index < shaper->peers_count);
    struct peer *peer = &shaper->peers[index];
    struct item *item = take_item(shaper);
    if (item == NULL)
        return GWTF_ERROR_LIMIT;
    *item = *values;
    advance(shaper, peer, now_us);
    if (peer->link.cut)
        append(&peer->waiting, item);
    else if (item->is_tensor)
        queue_tensor(peer, item, now_us);
    else
        pass_message(peer, item, now_us);
    advance(shaper, peer, now_us);
    review_due(shaper, peer);
    return GWTF_OK;
}

gwtf_status gwtf_shaper_message(gwtf_shaper *shaper, size_t index, uint64_t bytes, uint64_t ticket,
                                gwtf_time_us now_us) {
    return hand_over(shaper, index, &(struct item){.bytes_left = bytes, .ticket = ticket}, now_us);
}

gwtf_status gwtf_shaper_tensor(gwtf_shaper *shaper, size_t index, uint64_t bytes, uint64_t ticket,
                               gwtf_time_us now_us) {
    GWTF_ASSERT(bytes > 0);
    return hand_over(shaper, index,
                     &(struct item){.bytes_left = bytes, .ticket = ticket, .is_tensor = true},
                     now_us);
}

/* The link is whole again: what has waited goes in its order. */
static void send_waiting(struct peer *peer, gwtf_time_us now_us) {
    while (peer->waiting.first != NULL) {
        struct item *item = take_first(&peer->waiting);
        if (item->is_tensor)
            queue_tensor(peer, item, now_us);
        else
            pass_message(peer, item, now_us);
    }
}

void gwtf_shaper_set(gwtf_shaper *shaper, size_t index, const struct gwtf_shaper_link *link,
                     gwtf_time_us now_us) {
    GWTF_ASSERT(index < shaper->peers_count && link->latency_us >= 0 &&
                link->bytes_per_second >= 0);
    struct peer *peer = &shaper->peers[index];
    int64_t old_rate = peer->link.bytes_per_second, new_rate = link->bytes_per_second;
    bool was_cut = peer->link.cut;
    advance(shaper, peer, now_us);
    if (was_cut && peer->on_line)
        peer->passes_us = now_us + peer->cut_left_us;
    peer->messages_passed_us = at_new_rate(peer->messages_passed_us, now_us, old_rate, new_rate);
    if (peer->on_line)
        peer->passes_us = at_new_rate(peer->passes_us, now_us, old_rate, new_rate);
    peer->link = *link;
    if (link->cut)
        peer->cut_left_us = peer->on_line ? peer->passes_us - now_us : 0;
    else if (was_cut)
        send_waiting(peer, now_us);
    advance(shaper, peer, now_us);
    review_due(shaper, peer);
}

/* The first thing to PEER whose time has come. */
static bool release_one(gwtf_shaper *shaper, size_t index, gwtf_time_us now_us,
                        struct gwtf_shaper_release *release) {
    struct peer *peer = &shaper->peers[index];
    const struct item *message = peer->messages.first, *piece = peer->pieces.first;
    bool takes_message = message != NULL && message->release_us <= now_us;
    bool takes_piece = piece != NULL && piece->release_us <= now_us;
    if (takes_message && takes_piece)
        takes_message = message->release_us <= piece->release_us;
    if (!takes_message && !takes_piece)
        return false;
    struct item *item = take_first(takes_message ? &peer->messages : &peer->pieces);
    *release = (struct gwtf_shaper_release){.kind = takes_message ? GWTF_SHAPER_MESSAGE
                                                                  : GWTF_SHAPER_PIECE,
                                            .peer = index,
                                            .ticket = item->ticket};
    give_item(shaper, item);
    return true;
}

bool gwtf_shaper_next(gwtf_shaper *shaper, gwtf_time_us now_us,
                      struct gwtf_shaper_release *release) {
    if (now_us < shaper->due_us)
        return false;
    for (size_t i = 0; i < shaper->peers_count; i++) {
        advance(shaper, &shaper->peers[i], now_us);
        if (release_one(shaper, i, now_us, release))
            return true;
    }
    shaper->due_us = GWTF_TIME_NEVER;
    for (size_t i = 0; i < shaper->peers_count; i++)
        review_due(shaper, &shaper->peers[i]);
    return false;
}

gwtf_time_us gwtf_shaper_deadline(const gwtf_shaper *shaper) {
    return shaper->due_us;
}

bool gwtf_shaper_has(const gwtf_shaper *shaper, size_t index) {
    GWTF_ASSERT(index < shaper->peers_count);
    const struct peer *peer = &shaper->peers[index];
    return peer->messages.first != NULL || peer->tensors.first != NULL ||
           peer->pieces.first != NULL || peer->waiting.first != NULL;
}

bool gwtf_shaper_drop(gwtf_shaper *shaper, size_t index, uint64_t *ticket) {
    GWTF_ASSERT(index < shaper->peers_count);
    struct peer *peer = &shaper->peers[index];
    while (peer->tensors.first != NULL)
        give_item(shaper, take_first(&peer->tensors));
    while (peer->pieces.first != NULL)
        give_item(shaper, take_first(&peer->pieces));
    peer->on_line = false;
    while (peer->waiting.first != NULL && peer->waiting.first->is_tensor)
        give_item(shaper, take_first(&peer->waiting));
    struct fifo *messages = peer->messages.first != NULL ? &peer->messages : &peer->waiting;
    if (messages->first == NULL)
        return false;
    struct item *message = take_first(messages);
    *ticket = message->ticket;
    give_item(shaper, message);
    return true;
}
