/*
 * A border to libsentencepiece, which speaks C++: what this folder needs of it, in C. Nothing
 * throws across it.
 */
#ifndef GWTF_IO_TOKENIZER_SENTENCEPIECE_H
#define GWTF_IO_TOKENIZER_SENTENCEPIECE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gwtf_sentencepiece;

/* A model from a file's bytes. NULL when it is none, with the library's reason in REASON. */
struct gwtf_sentencepiece *gwtf_sentencepiece_create(const char *bytes, size_t size_bytes,
                                                     char *reason, size_t reason_bytes);
void gwtf_sentencepiece_destroy(struct gwtf_sentencepiece *model);

uint32_t gwtf_sentencepiece_size(const struct gwtf_sentencepiece *model);

/* The ids of TEXT: *IDS, the caller's to free, and how many; -1: the library cannot. Any thread. */
int64_t gwtf_sentencepiece_encode(const struct gwtf_sentencepiece *model, const char *text,
                                  size_t size_bytes, uint32_t **ids);

/* What token ID is written as in the model; lives as long as MODEL. */
const char *gwtf_sentencepiece_piece(const struct gwtf_sentencepiece *model, uint32_t id);

enum gwtf_sentencepiece_role {
    GWTF_SENTENCEPIECE_TEXT,    /* stands for its text, with U+2581 for blanks */
    GWTF_SENTENCEPIECE_BYTE,    /* "<0x0A>": for a byte */
    GWTF_SENTENCEPIECE_UNKNOWN, /* for what the model has no token for */
    GWTF_SENTENCEPIECE_NOTHING  /* controls */
};
enum gwtf_sentencepiece_role gwtf_sentencepiece_role(const struct gwtf_sentencepiece *model,
                                                     uint32_t id);

#ifdef __cplusplus
}
#endif

#endif
