#include "io/tokenizer/split.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef GWTF_HAVE_PCRE2

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/*
 * The reference encoder's white space is Unicode's. PCRE2's \s is not quite: it lacks U+0085 and
 * has U+180E. So it is written out.
 */
#define WHITE "\\t-\\r\\x{85}\\p{Z}"
static const char pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" WHITE
                              "\\p{L}\\p{N}]+|[" WHITE "]+(?![^" WHITE "])|[" WHITE "]+";

struct gwtf_split {
    pcre2_code *code;
    bool compiled; /* to machine code, where PCRE2 can do that */
};

struct gwtf_split_scratch {
    pcre2_match_data *match;
};

bool gwtf_split_is_there(void) {
    return true;
}

struct gwtf_split *gwtf_split_create(void) {
    int code;
    PCRE2_SIZE offset;
    struct gwtf_split *split = calloc(1, sizeof *split);
    if (split == NULL)
        return NULL;
    split->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &code, &offset, NULL);
    if (split->code == NULL) {
        free(split);
        return NULL;
    }
    split->compiled = pcre2_jit_compile(split->code, PCRE2_JIT_COMPLETE) == 0;
    return split;
}

void gwtf_split_destroy(struct gwtf_split *split) {
    if (split == NULL)
        return;
    pcre2_code_free(split->code);
    free(split);
}

struct gwtf_split_scratch *gwtf_split_scratch_create(const struct gwtf_split *split) {
    struct gwtf_split_scratch *scratch = calloc(1, sizeof *scratch);
    if (scratch == NULL)
        return NULL;
    scratch->match = pcre2_match_data_create_from_pattern(split->code, NULL);
    if (scratch->match == NULL) {
        free(scratch);
        return NULL;
    }
    return scratch;
}

void gwtf_split_scratch_destroy(struct gwtf_split_scratch *scratch) {
    if (scratch == NULL)
        return;
    pcre2_match_data_free(scratch->match);
    free(scratch);
}

size_t gwtf_split_next(const struct gwtf_split *split, struct gwtf_split_scratch *scratch,
                       const unsigned char *text, size_t size_bytes) {
    int count = split->compiled ? pcre2_jit_match(split->code, text, size_bytes, 0,
                                                  PCRE2_NO_UTF_CHECK, scratch->match, NULL)
                                : pcre2_match(split->code, text, size_bytes, 0, PCRE2_NO_UTF_CHECK,
                                              scratch->match, NULL);
    if (count < 1)
        return 0;
    return pcre2_get_ovector_pointer(scratch->match)[1];
}

#else

bool gwtf_split_is_there(void) {
    return false;
}

struct gwtf_split *gwtf_split_create(void) {
    return NULL;
}

void gwtf_split_destroy(struct gwtf_split *split) {
    (void)split;
}

struct gwtf_split_scratch *gwtf_split_scratch_create(const struct gwtf_split *split) {
    (void)split;
    return NULL;
}

void gwtf_split_scratch_destroy(struct gwtf_split_scratch *scratch) {
    (void)scratch;
}

size_t gwtf_split_next(const struct gwtf_split *split, struct gwtf_split_scratch *scratch,
                       const unsigned char *text, size_t size_bytes) {
    (void)split;
    (void)scratch;
    (void)text;
    (void)size_bytes;
    return 0;
}

#endif

/* Bytes of the character at TEXT, 0 when there is none. */
static size_t character_at(const unsigned char *text, size_t left) {
    unsigned char low = 0x80, high = 0xbf;
    size_t size;
    if (text[0] < 0x80)
        return 1;
    if (text[0] >= 0xc2 && text[0] <= 0xdf)
        size = 2;
    else if (text[0] >= 0xe0 && text[0] <= 0xef)
        size = 3;
    else if (text[0] >= 0xf0 && text[0] <= 0xf4)
        size = 4;
    else
        return 0;
    if (left < size)
        return 0;
    /* What would be longer than it must, a surrogate, or beyond U+10FFFF. */
    if (text[0] == 0xe0)
        low = 0xa0;
    else if (text[0] == 0xed)
        high = 0x9f;
    else if (text[0] == 0xf0)
        low = 0x90;
    else if (text[0] == 0xf4)
        high = 0x8f;
    if (text[1] < low || text[1] > high)
        return 0;
    for (size_t i = 2; i < size; i++)
        if (text[i] < 0x80 || text[i] > 0xbf)
            return 0;
    return size;
}

size_t gwtf_split_valid(const unsigned char *text, size_t size_bytes) {
    size_t at = 0;
    while (at < size_bytes) {
        uint64_t eight;
        if (size_bytes - at >= sizeof eight) {
            memcpy(&eight, text + at, sizeof eight);
            if ((eight & 0x8080808080808080u) == 0) {
                at += sizeof eight;
                continue;
            }
        }
        size_t size = character_at(text + at, size_bytes - at);
        if (size == 0)
            break;
        at += size;
    }
    return at;
}

size_t gwtf_split_invalid(const unsigned char *text, size_t size_bytes) {
    size_t at = 0;
    while (at < size_bytes && character_at(text + at, size_bytes - at) == 0)
        at++;
    return at;
}
