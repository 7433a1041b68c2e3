/*
 * A token file in the making: ids are added as they come, and the file is there when it is whole.
 * Until their number is known the ids lie in a file without name beside it.
 */
#ifndef GWTF_IO_TOKENS_WRITE_H
#define GWTF_IO_TOKENS_WRITE_H

#include "io/kept.h"
#include "share/base/status.h"

#include <stddef.h>
#include <stdint.h>

struct gwtf_tokens_new;

/* What the file says of its tokens. */
struct gwtf_tokens_facts {
    const char *tokenizer;
    const char *tokenizer_sha256; /* "": it has no files */
    const char *source;
    const char *sha256;           /* of the source */
    const struct gwtf_kept *kept; /* the files */
};

/* Errors: GWTF_ERROR_MISSING (no such directory), GWTF_ERROR_IO, GWTF_ERROR_MEMORY. */
gwtf_status gwtf_tokens_new_create(const char *path, uint32_t vocabulary,
                                   struct gwtf_tokens_new **made, struct gwtf_error *error);

/* Ids below the vocabulary. Errors: GWTF_ERROR_IO. */
gwtf_status gwtf_tokens_new_add(struct gwtf_tokens_new *made, const uint32_t *ids, size_t count,
                                struct gwtf_error *error);

/* Writes the file, under another name still. Errors: GWTF_ERROR_IO, GWTF_ERROR_USAGE without any
 * token. */
gwtf_status gwtf_tokens_new_finish(struct gwtf_tokens_new *made,
                                   const struct gwtf_tokens_facts *facts, struct gwtf_error *error);

/* Gives it its name. */
gwtf_status gwtf_tokens_new_publish(struct gwtf_tokens_new *made, struct gwtf_error *error);

/* Frees MADE; what was not published is gone. NULL is allowed. */
void gwtf_tokens_new_destroy(struct gwtf_tokens_new *made);

#endif
