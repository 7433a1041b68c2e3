/* What a kind of tokenizer does, private to this folder. STATE is what its parse made. */
#ifndef GWTF_IO_TOKENIZER_KIND_H
#define GWTF_IO_TOKENIZER_KIND_H

#include "io/tokenizer/tokenizer.h"

struct gwtf_tokenizer_kind {
    const char *word; /* "gpt2" */
    size_t piece_bytes_most;
    /* Files are in memory, and stay there as long as STATE. */
    gwtf_status (*parse)(const char *place, const struct gwtf_kept_file *files, size_t files_count,
                         void **state, uint32_t *vocabulary, struct gwtf_error *error);
    void (*destroy)(void *state);
    void *(*encoder_create)(const void *state);
    void (*encoder_destroy)(void *encoder);
    gwtf_status (*encode)(void *encoder, const unsigned char *text, size_t size_bytes,
                          bool continued, struct gwtf_token_list *list, struct gwtf_error *error);
    const unsigned char *(*piece)(const void *state, uint32_t id, size_t *size_bytes);
    bool (*has_first_blank)(const void *state); /* a text's first token begins with a blank more */
};

extern const struct gwtf_tokenizer_kind gwtf_tokenizer_bytes;
extern const struct gwtf_tokenizer_kind gwtf_tokenizer_gpt2;
extern const struct gwtf_tokenizer_kind gwtf_tokenizer_sentencepiece;

#endif
