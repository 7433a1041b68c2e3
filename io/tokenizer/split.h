/*
 * How GPT-2's encoder divides a text before it merges: into words with the blank before them,
 * numbers, other signs, and blanks. The pattern is the reference encoder's, over PCRE2, which has
 * Unicode's classes exactly and compiles the pattern to machine code.
 */
#ifndef GWTF_IO_TOKENIZER_SPLIT_H
#define GWTF_IO_TOKENIZER_SPLIT_H

#include <stdbool.h>
#include <stddef.h>

struct gwtf_split; /* the pattern: shared by threads */
struct gwtf_split_scratch;

/* False in a build without PCRE2. */
bool gwtf_split_is_there(void);

struct gwtf_split *gwtf_split_create(void); /* NULL: no memory, or no library */
void gwtf_split_destroy(struct gwtf_split *split);
struct gwtf_split_scratch *gwtf_split_scratch_create(const struct gwtf_split *split);
void gwtf_split_scratch_destroy(struct gwtf_split_scratch *scratch);

/*
 * Where the piece that starts at TEXT ends: how many bytes it has, 1..SIZE_BYTES, all of which are
 * UTF-8 (gwtf_split_valid). 0: the library gave up.
 */
size_t gwtf_split_next(const struct gwtf_split *split, struct gwtf_split_scratch *scratch,
                       const unsigned char *text, size_t size_bytes);

/* How many bytes at the start of TEXT are well-formed UTF-8 (RFC 3629), and of TEXT that starts
 * with none, how many bytes are not. */
size_t gwtf_split_valid(const unsigned char *text, size_t size_bytes);
size_t gwtf_split_invalid(const unsigned char *text, size_t size_bytes);

#endif
