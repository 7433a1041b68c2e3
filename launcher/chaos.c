#include "launcher/chaos.h"

#include "io/nearest.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct word {
    const char *word;
    bool link;
    const char *lasts;    /* the key that `for` stands for */
    const char *fallback; /* what is meant when nothing is said */
};

static const struct word words[] = {
    {"kill", false, NULL, " every = 10; seconds = 10;"},
    {"stop", false, "stopped_seconds", " every = 10; seconds = 10;"},
    {"slow", true, "heal_seconds", " latency_ms = 200;"},
    {"cut", true, "heal_seconds", ""},
    {"lossy", true, "heal_seconds", ""},
};
#define WORDS_COUNT (sizeof words / sizeof words[0])

static const struct word *find_word(const char *text, size_t length, struct gwtf_error *error) {
    char name[64];
    const struct word *nearest = &words[0];
    snprintf(name, sizeof name, "%.*s", (int)length, text);
    for (size_t i = 0; i < WORDS_COUNT; i++) {
        if (strcmp(words[i].word, name) == 0)
            return &words[i];
        if (gwtf_nearest_distance(name, words[i].word) < gwtf_nearest_distance(name, nearest->word))
            nearest = &words[i];
    }
    if (gwtf_nearest_is_close(name, nearest->word))
        gwtf_error_set(error, GWTF_ERROR_USAGE, "--chaos: unknown fault '%s': did you mean '%s'?",
                       name, nearest->word);
    else
        gwtf_error_set(error, GWTF_ERROR_USAGE,
                       "--chaos: unknown fault '%s': give kill, stop, slow, cut or lossy", name);
    return NULL;
}

/* Appends to TEXT; false when it does not fit. */
static bool append(char *text, const char *part, size_t length) {
    size_t used = strlen(text);
    if (used + length >= GWTF_CHAOS_TEXT_MAX)
        return false;
    memcpy(text + used, part, length);
    text[used + length] = '\0';
    return true;
}

static bool append_text(char *text, const char *part) {
    return append(text, part, strlen(part));
}

/* "KEY=VALUE" as libconfig has it. */
static gwtf_status add_pair(const struct word *word, const char *pair, size_t length, char *text,
                            struct gwtf_error *error) {
    char copy[256], entry[600];
    snprintf(copy, sizeof copy, "%.*s", (int)length, pair);
    char *equals = strchr(copy, '=');
    if (equals == NULL || length >= sizeof copy || equals[1] == '\0')
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "--chaos: '%.100s' after %s is no KEY=VALUE: write it like node=3",
                              copy, word->word);
    *equals = '\0';
    const char *key = copy, *value = equals + 1;
    if (strcmp(key, "at") == 0)
        key = "seconds";
    else if (strcmp(key, "for") == 0 && word->lasts != NULL)
        key = word->lasts;
    bool is_plain = isdigit((unsigned char)value[0]) || value[0] == '-' ||
                    strcmp(value, "true") == 0 || strcmp(value, "false") == 0;
    const char *quote = is_plain ? "" : "\"";
    snprintf(entry, sizeof entry, " %s = %s%s%s;", key, quote, value, quote);
    if (!append_text(text, entry))
        return gwtf_error_set(error, GWTF_ERROR_USAGE, "--chaos is too long: give less");
    return GWTF_OK;
}

/* When a kill or stop happens, or what is slow about a link, is left out. */
static bool says_little(const struct word *word, const char *pairs) {
    static const char *const when[] = {" seconds =", " every =", " iteration =", " phase =", NULL};
    static const char *const how[] = {" factor =", " latency_ms =", " bandwidth_mbit =", NULL};
    const char *const *keys = word->link ? how : when;
    for (size_t i = 0; keys[i] != NULL; i++)
        if (strstr(pairs, keys[i]) != NULL)
            return false;
    return true;
}

static gwtf_status add_fault(const char *fault, size_t length, struct gwtf_chaos *chaos,
                             struct gwtf_error *error) {
    size_t word_length = 0;
    while (word_length < length && !isspace((unsigned char)fault[word_length]))
        word_length++;
    const struct word *word = find_word(fault, word_length, error);
    if (word == NULL)
        return GWTF_ERROR_USAGE;
    char *text = word->link ? chaos->link_faults : chaos->crashes;
    char head[64];
    snprintf(head, sizeof head, "%s{ kind = \"%s\";",
             text[0] != '\0' ? ", " : (word->link ? "link_faults=( " : "crashes=( "), word->word);
    gwtf_status status = append_text(text, head) ? GWTF_OK : GWTF_ERROR_LIMIT;
    const char *at = fault + word_length, *end = fault + length;
    size_t start = strlen(text);
    while (status == GWTF_OK && at < end) {
        size_t skipped = strspn(at, ", \t");
        at += skipped < (size_t)(end - at) ? skipped : (size_t)(end - at);
        size_t pair = strcspn(at, ", \t");
        if (pair > (size_t)(end - at))
            pair = (size_t)(end - at);
        if (pair > 0)
            status = add_pair(word, at, pair, text, error);
        at += pair;
    }
    if (status == GWTF_OK && says_little(word, text + start) && !append_text(text, word->fallback))
        status = GWTF_ERROR_LIMIT;
    if (status == GWTF_OK && !append_text(text, " }"))
        status = GWTF_ERROR_LIMIT;
    if (status == GWTF_ERROR_LIMIT)
        return gwtf_error_set(error, GWTF_ERROR_USAGE, "--chaos is too long: give less");
    return status;
}

gwtf_status gwtf_chaos_parse(const char *spec, struct gwtf_chaos *chaos, struct gwtf_error *error) {
    memset(chaos, 0, sizeof *chaos);
    gwtf_status status = GWTF_OK;
    for (const char *at = spec; status == GWTF_OK;) {
        at += strspn(at, " \t\n");
        size_t length = strcspn(at, ";");
        status = add_fault(at, length, chaos, error);
        at += length;
        if (*at == '\0')
            break;
        at++;
    }
    char *const texts[] = {chaos->crashes, chaos->link_faults};
    for (size_t i = 0; i < 2 && status == GWTF_OK; i++)
        if (texts[i][0] != '\0' && !append_text(texts[i], " )"))
            status = gwtf_error_set(error, GWTF_ERROR_USAGE, "--chaos is too long: give less");
    return status;
}
