/*
 * Token data: an HDF5 file with the dataset /tokens (uint16 or uint32, contiguous, this machine's
 * byte order). Attributes of the dataset: tokenizer, vocabulary, source, sha256 (of the source),
 * largest (the largest id; a file without it is searched when it is opened), and tokenizer_sha256
 * (of the tokenizer's files, which stand under /tokenizer, as bytes). Opened files are
 * mapped, so that reading during training touches neither the HDF5 library nor memory beyond the
 * page cache, and any thread may read.
 *
 * Shards of llm.c (.bin) are read, too: 256 int32, of which the first three are magic, version and
 * count, then the tokens; 20240520, 1 and uint16 of GPT-2's encoder, or 20240801, 7 and uint32 of
 * LLaMA 3's. They say no more, so their tokenizer is "gpt2" or "llama3".
 */
#ifndef GWTF_IO_TOKENS_H
#define GWTF_IO_TOKENS_H

#include "share/base/status.h"

#include <stdint.h>

struct gwtf_tokens; /* an open file */

struct gwtf_tokens_info {
    uint64_t count;
    uint32_t vocabulary; /* ids are below it */
    uint32_t largest;    /* largest id in the file, below VOCABULARY */
    uint32_t bytes_per_token;
    char tokenizer[64];
    char source[1024];
    char sha256[65];
    char tokenizer_sha256[65]; /* "": its tokenizer has no files, or it does not say */
};

/*
 * Opens and checks PATH. Errors, with a line that names the file and what to do:
 * GWTF_ERROR_MISSING, GWTF_ERROR_IO, GWTF_ERROR_CORRUPT (no token file, cut, attributes missing).
 * TOKENS untouched then.
 */
gwtf_status gwtf_tokens_open(const char *path, struct gwtf_tokens **tokens,
                             struct gwtf_error *error);
void gwtf_tokens_close(struct gwtf_tokens *tokens); /* NULL is allowed */

struct gwtf_tokens_info gwtf_tokens_get_info(const struct gwtf_tokens *tokens);

/*
 * Copies COUNT ids from START on. The range must lie in the file. Any thread. Errors:
 * GWTF_ERROR_CORRUPT when an id is above info.largest: the file was damaged after it was written,
 * and IDS must not be used as places in a table.
 */
gwtf_status gwtf_tokens_read(const struct gwtf_tokens *tokens, uint64_t start, uint64_t count,
                             uint32_t *ids);

/*
 * Validation: how many sequences are measured when at most REQUESTED are wanted (0: as many as fit
 * without overlap), and where sequence I of COUNT starts: spread evenly, without overlap.
 */
uint64_t gwtf_tokens_validation_count(const struct gwtf_tokens *tokens, uint64_t requested,
                                      uint32_t context);
uint64_t gwtf_tokens_validation_start(const struct gwtf_tokens *tokens, uint64_t index,
                                      uint64_t count, uint32_t context);

#endif
