/*
 * The token files that a run trains on, one or many, and the order in which their sequences are
 * taken. Each file of COUNT tokens has (COUNT - 1) / context sequences, which lie one after the
 * other; a sequence's labels are its tokens moved on by one.
 *
 * The order is a function of the seed alone, and nothing of it is kept: any node can compute any
 * part of it, and a resumed run goes on where it was.
 */
#ifndef GWTF_IO_CORPUS_H
#define GWTF_IO_CORPUS_H

#include "io/tokens.h"

enum gwtf_corpus_order {
    GWTF_CORPUS_SHUFFLED,   /* each sequence once an epoch, another order in each */
    GWTF_CORPUS_SEQUENTIAL, /* each once an epoch, as they lie in the files */
    GWTF_CORPUS_RANDOM      /* windows from anywhere, drawn anew for each sequence */
};

struct gwtf_corpus;

/*
 * Opens PATHS: one a line, and where a line has *, ? or [, the files that match, sorted. Errors: as
 * of gwtf_tokens_open; GWTF_ERROR_MISSING when none matches; GWTF_ERROR_USAGE when two files are of
 * different tokenizers. CORPUS untouched then.
 */
gwtf_status gwtf_corpus_open(const char *paths, uint32_t context, struct gwtf_corpus **corpus,
                             struct gwtf_error *error);
void gwtf_corpus_close(struct gwtf_corpus *corpus); /* NULL is allowed */

/* Of all files together: COUNT and LARGEST, and what they agree on; SOURCE and SHA256 of the first.
 */
const struct gwtf_tokens_info *gwtf_corpus_get_info(const struct gwtf_corpus *corpus);
size_t gwtf_corpus_files(const struct gwtf_corpus *corpus);
const char *gwtf_corpus_path(const struct gwtf_corpus *corpus, size_t file);
/* The one that holds the largest token. */
const char *gwtf_corpus_path_of_largest(const struct gwtf_corpus *corpus);
/* The first that keeps the files of its tokenizer (kept.h); NULL: none does. */
const char *gwtf_corpus_path_of_tokenizer(const struct gwtf_corpus *corpus);

/* Sequences of an epoch. 0: all files are too short. */
uint64_t gwtf_corpus_sequences(const struct gwtf_corpus *corpus);

/*
 * INPUTS and LABELS (context tokens each) of the sequence at PLACE in the order, which has no end:
 * epoch place / sequences follows epoch. Not for RANDOM. Any thread. Errors: GWTF_ERROR_CORRUPT, as
 * of gwtf_tokens_read.
 */
gwtf_status gwtf_corpus_read(const struct gwtf_corpus *corpus, enum gwtf_corpus_order order,
                             uint64_t seed, uint64_t place, uint32_t *inputs, uint32_t *labels);

/* The same of a window that SEED, ITERATION and SEQUENCE draw. */
gwtf_status gwtf_corpus_read_random(const struct gwtf_corpus *corpus, uint64_t seed,
                                    uint64_t iteration, uint64_t sequence, uint32_t *inputs,
                                    uint32_t *labels);

#endif
