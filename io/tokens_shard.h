/* The header of llm.c's shards, private to io. */
#ifndef GWTF_IO_TOKENS_SHARD_H
#define GWTF_IO_TOKENS_SHARD_H

#include "io/tokens.h"

#include <stdbool.h>

/*
 * Looks whether the file at PATH begins as a shard does. If it does, INFO (largest is UINT32_MAX:
 * it does not say) and the OFFSET of its tokens are set. Errors, with one line: GWTF_ERROR_MISSING,
 * GWTF_ERROR_IO, GWTF_ERROR_CORRUPT when it is a shard that is cut, or of another version.
 */
gwtf_status gwtf_tokens_shard_read(const char *path, bool *is_shard, struct gwtf_tokens_info *info,
                                   uint64_t *offset, struct gwtf_error *error);

#endif
