/* gwtf tokenize: a text becomes token files. */
#ifndef GWTF_IO_TOKENIZER_TOKENIZE_H
#define GWTF_IO_TOKENIZER_TOKENIZE_H

#include "io/tokenizer/tokenizer.h"

struct gwtf_tokenize_options {
    const char *input;                      /* text file */
    const char *output;                     /* token file, replaced when whole */
    const struct gwtf_tokenizer *tokenizer; /* NULL: bytes */
    unsigned threads;                       /* that encode; 0: one for each core */
    /* 0: none; else the last share of the text goes to VALIDATION_OUTPUT, and OUTPUT gets the rest.
     * Where a token is more than a byte, the text is cut at the last blank before. */
    double validation_share;
    const char *validation_output;
    /* Called after every piece; may be NULL. */
    void (*progress)(void *context, uint64_t done_bytes, uint64_t all_bytes);
    void *progress_context;
};

/* The text is read once, in pieces, and tokens are those of the whole text. Errors:
 * GWTF_ERROR_USAGE, _MISSING, _IO, _MEMORY, _UNSUPPORTED; no half-written file is left. */
gwtf_status gwtf_tokenize(const struct gwtf_tokenize_options *options, struct gwtf_error *error);

#endif
