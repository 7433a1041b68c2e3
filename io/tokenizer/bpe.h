/*
 * Byte-level BPE, private to this folder: a vocabulary, ranked merges of pairs of tokens, and what
 * they make of a text.
 */
#ifndef GWTF_IO_TOKENIZER_BPE_H
#define GWTF_IO_TOKENIZER_BPE_H

#include "io/tokenizer/split.h"
#include "io/tokenizer/tokenizer.h"

#define GWTF_BPE_IDS_MOST ((uint32_t)1 << 22)
#define GWTF_BPE_NONE UINT32_MAX

/* A merge: of two tokens, with its rank (the lowest goes first) and what it makes. */
struct gwtf_bpe_pair {
    uint64_t key; /* left id << 32 | right id; UINT64_MAX: an empty place */
    uint32_t rank;
    uint32_t id;
};

struct gwtf_bpe {
    uint32_t vocabulary;
    unsigned char *bytes; /* of all tokens */
    size_t *starts;       /* [vocabulary + 1], into BYTES */
    uint32_t byte_ids[256];
    struct gwtf_bpe_pair *pairs; /* open addressing */
    size_t pairs_mask;           /* their number, a power of two, less one */
    struct gwtf_split *split;
};

/* Reads the files of a GPT-2 (kind.h); PLACE for messages. */
gwtf_status gwtf_bpe_read(const char *place, const struct gwtf_kept_file *files, size_t files_count,
                          struct gwtf_bpe *bpe, struct gwtf_error *error);
void gwtf_bpe_deinit(struct gwtf_bpe *bpe);

/* Room for COUNT merges, none there yet. */
bool gwtf_bpe_make_pairs(struct gwtf_bpe *bpe, size_t count);

/* False when the pair is there already. */
bool gwtf_bpe_add_pair(struct gwtf_bpe *bpe, uint32_t left, uint32_t right, uint32_t rank,
                       uint32_t id);

/* NULL when the two do not merge. */
const struct gwtf_bpe_pair *gwtf_bpe_find_pair(const struct gwtf_bpe *bpe, uint32_t left,
                                               uint32_t right);

#endif
