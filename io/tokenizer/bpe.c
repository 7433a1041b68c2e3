#include "io/tokenizer/bpe.h"

#include "io/tokenizer/kind.h"
#include "share/base/assert.h"
#include "share/base/hash.h"

#include <stdlib.h>
#include <string.h>

/* Words up to SHORT bytes are merged by looking at all pairs each time, longer ones by a heap. */
#define SHORT 48

/* Words that have been merged before: most of a text. What does not fit is merged again. */
#define KEPT_SLOTS ((size_t)1 << 14)
#define KEPT_BYTES 24
#define KEPT_IDS 8

struct kept {
    unsigned char word[KEPT_BYTES];
    uint32_t ids[KEPT_IDS];
    uint8_t size; /* 0: empty */
    uint8_t count;
};

/* Symbol of a long word: a doubly linked list in an array. */
struct symbol {
    uint32_t id; /* GWTF_BPE_NONE: merged into the one before */
    uint32_t previous;
    uint32_t next; /* GWTF_BPE_NONE: the last */
};

/* A pair that could be merged; stale when its symbols have become others. */
struct candidate {
    uint32_t rank;
    uint32_t at; /* symbol on the left */
    uint32_t left, right, id;
};

struct encoder {
    const struct gwtf_bpe *bpe;
    struct gwtf_split_scratch *scratch;
    struct kept *kept;
    struct symbol *symbols;
    size_t symbols_room;
    struct candidate *heap;
    size_t heap_count, heap_room;
};

static size_t place_of(const struct gwtf_bpe *bpe, uint64_t key) {
    return (size_t)(key * 0x9e3779b97f4a7c15u >> 32) & bpe->pairs_mask;
}

bool gwtf_bpe_make_pairs(struct gwtf_bpe *bpe, size_t count) {
    size_t places = 16;
    while (places < 2 * count)
        places *= 2;
    bpe->pairs = malloc(places * sizeof *bpe->pairs);
    if (bpe->pairs == NULL)
        return false;
    for (size_t i = 0; i < places; i++)
        bpe->pairs[i].key = UINT64_MAX;
    bpe->pairs_mask = places - 1;
    return true;
}

bool gwtf_bpe_add_pair(struct gwtf_bpe *bpe, uint32_t left, uint32_t right, uint32_t rank,
                       uint32_t id) {
    uint64_t key = (uint64_t)left << 32 | right;
    size_t at = place_of(bpe, key);
    for (; bpe->pairs[at].key != UINT64_MAX; at = (at + 1) & bpe->pairs_mask)
        if (bpe->pairs[at].key == key)
            return false;
    bpe->pairs[at] = (struct gwtf_bpe_pair){.key = key, .rank = rank, .id = id};
    return true;
}

const struct gwtf_bpe_pair *gwtf_bpe_find_pair(const struct gwtf_bpe *bpe, uint32_t left,
                                               uint32_t right) {
    uint64_t key = (uint64_t)left << 32 | right;
    for (size_t at = place_of(bpe, key); bpe->pairs[at].key != UINT64_MAX;
         at = (at + 1) & bpe->pairs_mask)
        if (bpe->pairs[at].key == key)
            return &bpe->pairs[at];
    return NULL;
}

void gwtf_bpe_deinit(struct gwtf_bpe *bpe) {
    gwtf_split_destroy(bpe->split);
    free(bpe->bytes);
    free(bpe->starts);
    free(bpe->pairs);
    *bpe = (struct gwtf_bpe){0};
}

/* --- Merging one word. --- */

/* The first pair of the lowest rank, again and again. IDS come in as bytes' tokens; returns how
 * many are left. */
static size_t merge_short(const struct gwtf_bpe *bpe, uint32_t *ids, size_t count) {
    const struct gwtf_bpe_pair *pairs[SHORT];
    for (size_t i = 0; i + 1 < count; i++)
        pairs[i] = gwtf_bpe_find_pair(bpe, ids[i], ids[i + 1]);
    while (count > 1) {
        size_t best = count;
        for (size_t i = 0; i + 1 < count; i++)
            if (pairs[i] != NULL && (best == count || pairs[i]->rank < pairs[best]->rank))
                best = i;
        if (best == count)
            break;
        ids[best] = pairs[best]->id;
        count--;
        memmove(ids + best + 1, ids + best + 2, (count - best - 1) * sizeof *ids);
        if (best + 1 < count)
            memmove(pairs + best + 1, pairs + best + 2, (count - best - 2) * sizeof *pairs);
        if (best + 1 < count)
            pairs[best] = gwtf_bpe_find_pair(bpe, ids[best], ids[best + 1]);
        if (best > 0)
            pairs[best - 1] = gwtf_bpe_find_pair(bpe, ids[best - 1], ids[best]);
    }
    return count;
}

static bool is_before(const struct candidate *a, const struct candidate *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void push(struct encoder *encoder, uint32_t at) {
    const struct symbol *symbols = encoder->symbols;
    uint32_t next = symbols[at].next;
    if (next == GWTF_BPE_NONE)
        return;
    const struct gwtf_bpe_pair *pair =
        gwtf_bpe_find_pair(encoder->bpe, symbols[at].id, symbols[next].id);
    if (pair == NULL)
        return;
    struct candidate new = {pair->rank, at, symbols[at].id, symbols[next].id, pair->id};
    GWTF_ASSERT(encoder->heap_count < encoder->heap_room);
    size_t hole = encoder->heap_count++;
    for (; hole > 0 && is_before(&new, &encoder->heap[(hole - 1) / 2]); hole = (hole - 1) / 2)
        encoder->heap[hole] = encoder->heap[(hole - 1) / 2];
    encoder->heap[hole] = new;
}

static struct candidate pop(struct encoder *encoder) {
    struct candidate *heap = encoder->heap, top = heap[0], last = heap[--encoder->heap_count];
    size_t hole = 0;
    for (;;) {
        size_t child = 2 * hole + 1;
        if (child >= encoder->heap_count)
            break;
        if (child + 1 < encoder->heap_count && is_before(&heap[child + 1], &heap[child]))
            child++;
        if (!is_before(&heap[child], &last))
            break;
        heap[hole] = heap[child];
        hole = child;
    }
    heap[hole] = last;
    return top;
}

/* Each merge takes one symbol away and adds two candidates at most, so COUNT symbols make fewer
 * than 3 COUNT candidates. */
static bool make_room(struct encoder *encoder, size_t count) {
    if (count <= encoder->symbols_room)
        return true;
    struct symbol *symbols = realloc(encoder->symbols, count * sizeof *symbols);
    if (symbols != NULL)
        encoder->symbols = symbols;
    struct candidate *heap = realloc(encoder->heap, 3 * count * sizeof *heap);
    if (heap != NULL)
        encoder->heap = heap;
    if (symbols == NULL || heap == NULL)
        return false;
    encoder->symbols_room = count;
    encoder->heap_room = 3 * count;
    return true;
}

static void merge_at(struct encoder *encoder, const struct candidate *top) {
    struct symbol *symbols = encoder->symbols, *left = &symbols[top->at];
    uint32_t gone = left->next;
    left->id = top->id;
    left->next = symbols[gone].next;
    symbols[gone].id = GWTF_BPE_NONE;
    if (left->next != GWTF_BPE_NONE)
        symbols[left->next].previous = top->at;
    if (left->previous != GWTF_BPE_NONE)
        push(encoder, left->previous);
    push(encoder, top->at);
}

static bool merge_long(struct encoder *encoder, const unsigned char *word, size_t size,
                       struct gwtf_token_list *list) {
    if (!make_room(encoder, size))
        return false;
    struct symbol *symbols = encoder->symbols;
    for (uint32_t i = 0; i < size; i++)
        symbols[i] = (struct symbol){encoder->bpe->byte_ids[word[i]], i > 0 ? i - 1 : GWTF_BPE_NONE,
                                     i + 1 < size ? i + 1 : GWTF_BPE_NONE};
    encoder->heap_count = 0;
    for (uint32_t i = 0; i < size; i++)
        push(encoder, i);
    while (encoder->heap_count > 0) {
        struct candidate top = pop(encoder);
        uint32_t next = symbols[top.at].id == top.left ? symbols[top.at].next : GWTF_BPE_NONE;
        if (next != GWTF_BPE_NONE && symbols[next].id == top.right)
            merge_at(encoder, &top);
    }
    for (uint32_t i = 0; i != GWTF_BPE_NONE; i = symbols[i].next)
        list->ids[list->count++] = symbols[i].id;
    return true;
}

/* --- A text. --- */

static bool encode_word(struct encoder *encoder, const unsigned char *word, size_t size,
                        struct gwtf_token_list *list) {
    struct kept *kept = NULL;
    if (size == 1) {
        list->ids[list->count++] = encoder->bpe->byte_ids[word[0]];
        return true;
    }
    if (size > SHORT)
        return merge_long(encoder, word, size, list);
    if (size <= KEPT_BYTES) {
        kept = &encoder->kept[gwtf_hash(word, size) & (KEPT_SLOTS - 1)];
        if (kept->size == size && memcmp(kept->word, word, size) == 0) {
            memcpy(list->ids + list->count, kept->ids, kept->count * sizeof *kept->ids);
            list->count += kept->count;
            return true;
        }
    }
    uint32_t ids[SHORT];
    for (size_t i = 0; i < size; i++)
        ids[i] = encoder->bpe->byte_ids[word[i]];
    size_t count = merge_short(encoder->bpe, ids, size);
    memcpy(list->ids + list->count, ids, count * sizeof *ids);
    list->count += count;
    if (kept != NULL && count <= KEPT_IDS) {
        memcpy(kept->word, word, size);
        memcpy(kept->ids, ids, count * sizeof *ids);
        kept->size = (uint8_t)size;
        kept->count = (uint8_t)count;
    }
    return true;
}

static gwtf_status no_memory(struct gwtf_error *error) {
    return gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for the tokens: free some");
}

/* A run of bytes that are no UTF-8 is a word of its own, so that nothing is lost. */
static gwtf_status encode(void *state, const unsigned char *text, size_t size_bytes, bool continued,
                          struct gwtf_token_list *list, struct gwtf_error *error) {
    (void)continued;
    struct encoder *encoder = state;
    if (size_bytes >= GWTF_BPE_NONE || !gwtf_token_list_reserve(list, size_bytes))
        return no_memory(error);
    for (size_t at = 0; at < size_bytes;) {
        size_t end = at + gwtf_split_valid(text + at, size_bytes - at);
        while (at < end) {
            size_t size =
                gwtf_split_next(encoder->bpe->split, encoder->scratch, text + at, end - at);
            if (size == 0)
                return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED,
                                      "PCRE2 could not divide the text: take another version of "
                                      "the library");
            if (!encode_word(encoder, text + at, size, list))
                return no_memory(error);
            at += size;
        }
        size_t invalid = gwtf_split_invalid(text + at, size_bytes - at);
        if (invalid > 0 && !encode_word(encoder, text + at, invalid, list))
            return no_memory(error);
        at += invalid;
    }
    return GWTF_OK;
}

/* --- The kind. --- */

static gwtf_status parse(const char *place, const struct gwtf_kept_file *files, size_t files_count,
                         void **state, uint32_t *vocabulary, struct gwtf_error *error) {
    if (!gwtf_split_is_there())
        return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED,
                              "this build of gwtf has no PCRE2, which GPT-2's tokenizer needs: "
                              "install libpcre2-dev and build again");
    struct gwtf_bpe *bpe = calloc(1, sizeof *bpe);
    if (bpe == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for '%s': free some", place);
    gwtf_status status = gwtf_bpe_read(place, files, files_count, bpe, error);
    if (status == GWTF_OK && (bpe->split = gwtf_split_create()) == NULL)
        status =
            gwtf_error_set(error, GWTF_ERROR_MEMORY, "PCRE2 could not be started: free memory");
    if (status != GWTF_OK) {
        gwtf_bpe_deinit(bpe);
        free(bpe);
        return status;
    }
    *vocabulary = bpe->vocabulary;
    *state = bpe;
    return GWTF_OK;
}

static void destroy(void *state) {
    gwtf_bpe_deinit(state);
    free(state);
}

static void encoder_destroy(void *state) {
    struct encoder *encoder = state;
    gwtf_split_scratch_destroy(encoder->scratch);
    free(encoder->kept);
    free(encoder->symbols);
    free(encoder->heap);
    free(encoder);
}

static void *encoder_create(const void *state) {
    struct encoder *encoder = calloc(1, sizeof *encoder);
    if (encoder == NULL)
        return NULL;
    encoder->bpe = state;
    encoder->scratch = gwtf_split_scratch_create(encoder->bpe->split);
    encoder->kept = calloc(KEPT_SLOTS, sizeof *encoder->kept);
    if (encoder->scratch != NULL && encoder->kept != NULL)
        return encoder;
    encoder_destroy(encoder);
    return NULL;
}

static const unsigned char *piece(const void *state, uint32_t id, size_t *size_bytes) {
    const struct gwtf_bpe *bpe = state;
    *size_bytes = id < bpe->vocabulary ? bpe->starts[id + 1] - bpe->starts[id] : 0;
    return *size_bytes > 0 ? bpe->bytes + bpe->starts[id] : bpe->bytes;
}

static bool has_first_blank(const void *state) {
    (void)state;
    return false;
}

const struct gwtf_tokenizer_kind gwtf_tokenizer_gpt2 = {
    .word = "gpt2",
    .piece_bytes_most = (size_t)64 << 20,
    .parse = parse,
    .destroy = destroy,
    .encoder_create = encoder_create,
    .encoder_destroy = encoder_destroy,
    .encode = encode,
    .piece = piece,
    .has_first_blank = has_first_blank,
};
