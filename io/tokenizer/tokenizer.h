/*
 * Tokenizers: text to token ids and back.
 *
 *     bytes                every byte is a token
 *     gpt2:DIR             GPT-2's byte-level BPE, from vocab.json and merges.txt, or encoder.json
 * and vocab.bpe, or tokenizer.json in DIR sentencepiece:FILE   what libsentencepiece makes of a
 * model file
 *
 * The first two are lossless: decode(encode(x)) is x for any bytes. SentencePiece normalises, and
 * makes U+FFFD of what is no UTF-8.
 */
#ifndef GWTF_IO_TOKENIZER_TOKENIZER_H
#define GWTF_IO_TOKENIZER_TOKENIZER_H

#include "io/kept.h"
#include "io/snapshot.h"
#include "share/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GWTF_TOKENIZER_NAME_MAX 64

struct gwtf_tokenizer;

struct gwtf_tokenizer_info {
    /* "bytes", or the kind and the first 16 digits of SHA256: "gpt2:0123456789abcdef". Token files
     * and snapshots carry it. */
    char name[GWTF_TOKENIZER_NAME_MAX];
    uint32_t vocabulary;     /* ids are below it */
    char sha256[65];         /* of the files one after the other; "" of bytes */
    size_t piece_bytes_most; /* of a text that has to be encoded at once */
    struct gwtf_kept files;  /* that it was read from; live as long as the tokenizer */
};

/*
 * Opens what SPEC names, as above. Errors, each a line: GWTF_ERROR_USAGE for an unknown word, and
 * for files that are no tokenizer (not JSON, ids given twice, merges of unknown tokens, ...);
 * GWTF_ERROR_MISSING, _IO, _MEMORY; GWTF_ERROR_UNSUPPORTED when this build has no library for it.
 */
gwtf_status gwtf_tokenizer_open(const char *spec, struct gwtf_tokenizer **tokenizer,
                                struct gwtf_error *error);

/* The same from a directory that holds the files of one, of whichever kind; GWTF_ERROR_MISSING
 * when it holds none. */
gwtf_status gwtf_tokenizer_open_directory(const char *directory, struct gwtf_tokenizer **tokenizer,
                                          struct gwtf_error *error);

/* The same from files in memory, named as above; PLACE is where they are from, for messages. */
gwtf_status gwtf_tokenizer_parse(const char *place, const struct gwtf_kept_file *files,
                                 size_t files_count, struct gwtf_tokenizer **tokenizer,
                                 struct gwtf_error *error);

/* The one that the token file, or the stage 0 of a snapshot, at PATH keeps. GWTF_ERROR_MISSING when
 * it keeps none, as where tokens are bytes; errors of gwtf_kept_read, too. */
gwtf_status gwtf_tokenizer_open_kept(const char *path, struct gwtf_tokenizer **tokenizer,
                                     struct gwtf_error *error);

/* The one that the model of the snapshot INFO was trained with. GWTF_ERROR_MISSING as above, and
 * when it does not say. */
gwtf_status gwtf_tokenizer_of_snapshot(const struct gwtf_snapshot_info *info,
                                       struct gwtf_tokenizer **tokenizer, struct gwtf_error *error);
void gwtf_tokenizer_close(struct gwtf_tokenizer *tokenizer); /* NULL is allowed */

const struct gwtf_tokenizer_info *gwtf_tokenizer_get_info(const struct gwtf_tokenizer *tokenizer);

/* Ids that grow as they come; starts as zeros, IDS is the owner's to free. */
struct gwtf_token_list {
    uint32_t *ids;
    size_t count;
    size_t room;
};

/* Room for MORE ids after those that are there. False without memory. */
bool gwtf_token_list_reserve(struct gwtf_token_list *list, size_t more);

/* What encodes, with its scratch memory: one for each thread. The tokenizer is shared. */
struct gwtf_encoder;
struct gwtf_encoder *gwtf_encoder_create(const struct gwtf_tokenizer *tokenizer); /* NULL: memory */
void gwtf_encoder_destroy(struct gwtf_encoder *encoder); /* NULL is allowed */

/*
 * Appends the tokens of TEXT to LIST. CONTINUED: TEXT goes on after a gwtf_tokenizer_cut, so that
 * the tokens of the pieces one after the other are those of the whole. Errors: GWTF_ERROR_MEMORY,
 * and GWTF_ERROR_UNSUPPORTED when a library refuses the text.
 */
gwtf_status gwtf_encoder_encode(struct gwtf_encoder *encoder, const void *text, size_t size_bytes,
                                bool continued, struct gwtf_token_list *list,
                                struct gwtf_error *error);

/*
 * The last place in TEXT, above 0, at which it can be cut without changing its tokens: before a
 * blank or line break that follows something else. No token spans such a place. 0: there is none.
 */
size_t gwtf_tokenizer_cut(const struct gwtf_tokenizer *tokenizer, const void *text,
                          size_t size_bytes);

/* The bytes of token ID, as it stands inside a text; SIZE_BYTES 0 for one that stands for none, as
 * for ids beyond the vocabulary. They live as long as the tokenizer. */
const unsigned char *gwtf_tokenizer_piece(const struct gwtf_tokenizer *tokenizer, uint32_t id,
                                          size_t *size_bytes);

/* A text of its own from COUNT ids: *TEXT is the caller's to free, a zero byte follows it. Without
 * the blank that SentencePiece puts before a text. Errors: GWTF_ERROR_MEMORY. */
gwtf_status gwtf_tokenizer_decode(const struct gwtf_tokenizer *tokenizer, const uint32_t *ids,
                                  size_t count, char **text, size_t *size_bytes);

#endif
