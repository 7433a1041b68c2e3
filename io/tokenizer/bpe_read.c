#include "io/tokenizer/bpe.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is being read. */
struct reading {
    const char *place; /* the directory, for messages */
    const char *file;  /* the name in it */
    struct gwtf_bpe *bpe;
    json_t *vocabulary; /* token as written in the file: its id */
    struct gwtf_error *error;
};

static gwtf_status refuse(const struct reading *reading, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static gwtf_status refuse(const struct reading *reading, const char *format, ...) {
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return gwtf_error_set(reading->error, GWTF_ERROR_USAGE,
                          "'%.400s/%s' is no tokenizer of GPT-2: %s: get its files anew",
                          reading->place, reading->file, what);
}

static gwtf_status no_memory(const struct reading *reading) {
    return gwtf_error_set(reading->error, GWTF_ERROR_MEMORY, "no memory for '%s': free some",
                          reading->place);
}

/* --- Bytes as characters. --- */

static bool stands_for_itself(unsigned byte) {
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/* The byte that a character of a token's name stands for: printable ones of Latin-1 for themselves,
 * those from U+0100 on for the others in their order; -1: for none. */
static int byte_of(unsigned character) {
    if (character < 0x100)
        return stands_for_itself(character) ? (int)character : -1;
    unsigned next = 0x100;
    for (unsigned byte = 0; byte < 256; byte++)
        if (!stands_for_itself(byte) && next++ == character)
            return (int)byte;
    return -1;
}

/* Puts the bytes of the token that is written as NAME to BYTES; returns how many. A name with other
 * characters, as of a special token, stands for its own bytes. */
static size_t bytes_of(const char *name, const int16_t *by_character, unsigned char *bytes) {
    const unsigned char *at = (const unsigned char *)name;
    size_t count = 0;
    while (*at != '\0') {
        unsigned character = at[0] < 0x80 ? at[0] : 0x200;
        if (at[0] >= 0xc2 && at[0] <= 0xc5) /* up to U+017F; the JSON reader has checked UTF-8 */
            character = (unsigned)(at[0] & 0x1f) << 6 | (at[1] & 0x3f);
        if (character >= 0x180 || by_character[character] < 0) {
            memcpy(bytes, name, strlen(name));
            return strlen(name);
        }
        bytes[count++] = (unsigned char)by_character[character];
        at += character < 0x80 ? 1 : 2;
    }
    return count;
}

/* --- The vocabulary. --- */

static json_t *parse_json(const struct reading *reading, const struct gwtf_kept_file *file,
                          gwtf_status *status) {
    json_error_t reason;
    json_t *json = json_loadb(file->bytes, file->size_bytes, JSON_REJECT_DUPLICATES, &reason);
    *status = GWTF_OK;
    if (json == NULL)
        *status = refuse(reading, "line %d: %.200s", reason.line, reason.text);
    return json;
}

/* Ids are whole numbers, each once; finds the largest and the length of all names. */
static gwtf_status measure(const struct reading *reading, size_t *bytes) {
    const char *name;
    json_t *value;
    uint32_t vocabulary = 0;
    *bytes = 0;
    json_object_foreach(reading->vocabulary, name, value) {
        json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0 || id >= GWTF_BPE_IDS_MOST)
            return refuse(reading, "the id of '%.60s' is not a whole number from 0 to %u", name,
                          GWTF_BPE_IDS_MOST - 1);
        vocabulary = (uint32_t)id >= vocabulary ? (uint32_t)id + 1 : vocabulary;
        *bytes += strlen(name);
    }
    if (vocabulary == 0)
        return refuse(reading, "it has no tokens");
    reading->bpe->vocabulary = vocabulary;
    return GWTF_OK;
}

/* Names by id; GWTF_ERROR_USAGE when two have the same. */
static gwtf_status sort_names(const struct reading *reading, const char **names) {
    const char *name;
    json_t *value;
    json_object_foreach(reading->vocabulary, name, value) {
        json_int_t id = json_integer_value(value);
        if (names[id] != NULL)
            return refuse(reading, "'%.60s' and '%.60s' have the same id %" JSON_INTEGER_FORMAT,
                          names[id], name, id);
        names[id] = name;
    }
    return GWTF_OK;
}

static gwtf_status fill_tokens(const struct reading *reading, const char **names) {
    struct gwtf_bpe *bpe = reading->bpe;
    int16_t by_character[0x180];
    size_t end = 0;
    for (unsigned character = 0; character < 0x180; character++)
        by_character[character] = (int16_t)byte_of(character);
    for (size_t byte = 0; byte < 256; byte++)
        bpe->byte_ids[byte] = GWTF_BPE_NONE;
    for (uint32_t id = 0; id < bpe->vocabulary; id++) {
        bpe->starts[id] = end;
        if (names[id] == NULL)
            continue;
        size_t size = bytes_of(names[id], by_character, bpe->bytes + end);
        if (size == 1 && bpe->byte_ids[bpe->bytes[end]] == GWTF_BPE_NONE)
            bpe->byte_ids[bpe->bytes[end]] = id;
        end += size;
    }
    bpe->starts[bpe->vocabulary] = end;
    for (size_t byte = 0; byte < 256; byte++)
        if (bpe->byte_ids[byte] == GWTF_BPE_NONE)
            return refuse(reading, "it has no token for the byte %zu alone", byte);
    return GWTF_OK;
}

static gwtf_status read_vocabulary(const struct reading *reading) {
    struct gwtf_bpe *bpe = reading->bpe;
    size_t bytes;
    if (!json_is_object(reading->vocabulary))
        return refuse(reading, "its tokens are not an object of names and ids");
    gwtf_status status = measure(reading, &bytes);
    if (status != GWTF_OK)
        return status;
    const char **names = calloc(bpe->vocabulary, sizeof *names);
    bpe->starts = calloc((size_t)bpe->vocabulary + 1, sizeof *bpe->starts);
    bpe->bytes = malloc(bytes + 1);
    if (names == NULL || bpe->starts == NULL || bpe->bytes == NULL)
        status = no_memory(reading);
    if (status == GWTF_OK)
        status = sort_names(reading, names);
    if (status == GWTF_OK)
        status = fill_tokens(reading, names);
    free(names);
    return status;
}

/* --- The merges. --- */

/* The id of the token that is written as NAME. */
static bool find(const struct reading *reading, const char *name, uint32_t *id) {
    const json_t *value = json_object_get(reading->vocabulary, name);
    *id = (uint32_t)json_integer_value(value);
    return value != NULL;
}

static gwtf_status add_merge(const struct reading *reading, size_t number, const char *left,
                             const char *right) {
    uint32_t ids[3];
    size_t left_size = strlen(left), right_size = strlen(right);
    char *both = malloc(left_size + right_size + 1);
    if (both == NULL)
        return no_memory(reading);
    memcpy(both, left, left_size);
    memcpy(both + left_size, right, right_size + 1);
    const char *names[] = {left, right, both}, *unknown = NULL;
    for (size_t i = 0; i < 3 && unknown == NULL; i++)
        if (!find(reading, names[i], &ids[i]))
            unknown = names[i];
    gwtf_status status = GWTF_OK;
    if (unknown != NULL)
        status = refuse(reading, "merge %zu names '%.60s', which is no token", number + 1, unknown);
    else if (!gwtf_bpe_add_pair(reading->bpe, ids[0], ids[1], (uint32_t)number, ids[2]))
        status =
            refuse(reading, "merge %zu, '%.60s %.60s', is given twice", number + 1, left, right);
    free(both);
    return status;
}

/* "left right" in LINE, which is changed. */
static gwtf_status add_line(const struct reading *reading, size_t number, char *line) {
    char *blank = strchr(line, ' ');
    if (blank == NULL || blank == line || blank[1] == '\0' || strchr(blank + 1, ' ') != NULL)
        return refuse(reading, "merge %zu, '%.60s', is not two tokens with a blank between",
                      number + 1, line);
    *blank = '\0';
    return add_merge(reading, number, line, blank + 1);
}

static gwtf_status read_lines(const struct reading *reading, const struct gwtf_kept_file *file) {
    static const char version[] = "#version";
    size_t lines = 1, number = 0;
    for (size_t i = 0; i < file->size_bytes; i++)
        lines += file->bytes[i] == '\n';
    if (memchr(file->bytes, '\0', file->size_bytes) != NULL)
        return refuse(reading, "it is not a text");
    char *text = malloc(file->size_bytes + 1);
    if (text == NULL || !gwtf_bpe_make_pairs(reading->bpe, lines)) {
        free(text);
        return no_memory(reading);
    }
    memcpy(text, file->bytes, file->size_bytes);
    text[file->size_bytes] = '\0';
    gwtf_status status = GWTF_OK;
    char *line = text;
    if (strncmp(text, version, sizeof version - 1) == 0)
        line += strcspn(line, "\n");
    while (status == GWTF_OK && *line != '\0') {
        char *end = line + strcspn(line, "\n"), *next = *end == '\n' ? end + 1 : end;
        *end = '\0';
        if (end > line && end[-1] == '\r')
            end[-1] = '\0';
        if (*line != '\0')
            status = add_line(reading, number++, line);
        line = next;
    }
    free(text);
    return status;
}

/* Of tokenizer.json: a list of "left right", or of [left, right]. */
static gwtf_status read_list(const struct reading *reading, const json_t *merges) {
    if (!json_is_array(merges))
        return refuse(reading, "its merges are not a list");
    if (!gwtf_bpe_make_pairs(reading->bpe, json_array_size(merges)))
        return no_memory(reading);
    gwtf_status status = GWTF_OK;
    for (size_t i = 0; i < json_array_size(merges) && status == GWTF_OK; i++) {
        const json_t *merge = json_array_get(merges, i);
        const char *left = json_string_value(json_array_get(merge, 0));
        const char *right = json_string_value(json_array_get(merge, 1));
        char *line = json_is_string(merge) ? strdup(json_string_value(merge)) : NULL;
        if (json_is_string(merge) && line == NULL)
            status = no_memory(reading);
        else if (line != NULL)
            status = add_line(reading, i, line);
        else if (json_array_size(merge) == 2 && left != NULL && right != NULL)
            status = add_merge(reading, i, left, right);
        else
            status = refuse(reading, "merge %zu is not two tokens", i + 1);
        free(line);
    }
    return status;
}

/* --- tokenizer.json. --- */

static bool is_type(const json_t *object, const char *type) {
    const char *word = json_string_value(json_object_get(object, "type"));
    return word != NULL && strcmp(word, type) == 0;
}

/* GPT-2's, and nothing that would give other tokens than its encoder. */
static gwtf_status check_whole(const struct reading *reading, const json_t *whole) {
    const json_t *model = json_object_get(whole, "model");
    const json_t *split = json_object_get(whole, "pre_tokenizer");
    const json_t *normalizer = json_object_get(whole, "normalizer");
    if (!is_type(model, "BPE"))
        return refuse(reading, "its model is not of the type BPE");
    if (!is_type(split, "ByteLevel") || json_is_false(json_object_get(split, "use_regex")) ||
        json_is_true(json_object_get(split, "add_prefix_space")))
        return refuse(reading, "it divides texts in another way, and only GPT-2's can be had here");
    if (normalizer != NULL && !json_is_null(normalizer))
        return refuse(reading, "it changes texts before it encodes them");
    if (json_is_true(json_object_get(model, "byte_fallback")) ||
        json_is_true(json_object_get(model, "ignore_merges")))
        return refuse(reading, "it merges in another way");
    return GWTF_OK;
}

/* Added tokens have ids of their own beyond the model's, or stand in its vocabulary, too. */
static gwtf_status add_tokens(const struct reading *reading, const json_t *added) {
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *token = json_array_get(added, i);
        const char *content = json_string_value(json_object_get(token, "content"));
        json_t *id = json_object_get(token, "id");
        if (content == NULL || !json_is_integer(id))
            return refuse(reading, "added token %zu has no content or no id", i + 1);
        const json_t *there = json_object_get(reading->vocabulary, content);
        if (there != NULL && json_integer_value(there) != json_integer_value(id))
            return refuse(reading, "the added token '%.60s' has two ids", content);
        if (there == NULL && json_object_set(reading->vocabulary, content, id) != 0)
            return no_memory(reading);
    }
    return GWTF_OK;
}

static gwtf_status read_whole(struct reading *reading, const struct gwtf_kept_file *file) {
    gwtf_status status;
    reading->file = file->name;
    json_t *whole = parse_json(reading, file, &status);
    if (status == GWTF_OK)
        status = check_whole(reading, whole);
    const json_t *model = json_object_get(whole, "model");
    reading->vocabulary = json_object_get(model, "vocab");
    if (status == GWTF_OK && !json_is_object(reading->vocabulary))
        status = refuse(reading, "the vocabulary is not an object of names and ids");
    if (status == GWTF_OK)
        status = add_tokens(reading, json_object_get(whole, "added_tokens"));
    if (status == GWTF_OK)
        status = read_vocabulary(reading);
    if (status == GWTF_OK)
        status = read_list(reading, json_object_get(model, "merges"));
    json_decref(whole);
    return status;
}

static gwtf_status read_two(struct reading *reading, const struct gwtf_kept_file *vocabulary,
                            const struct gwtf_kept_file *merges) {
    gwtf_status status;
    reading->file = vocabulary->name;
    reading->vocabulary = parse_json(reading, vocabulary, &status);
    if (status == GWTF_OK)
        status = read_vocabulary(reading);
    reading->file = merges->name;
    if (status == GWTF_OK)
        status = read_lines(reading, merges);
    json_decref(reading->vocabulary);
    return status;
}

gwtf_status gwtf_bpe_read(const char *place, const struct gwtf_kept_file *files, size_t files_count,
                          struct gwtf_bpe *bpe, struct gwtf_error *error) {
    struct reading reading = {.place = place, .bpe = bpe, .error = error};
    return files_count == 1 ? read_whole(&reading, &files[0])
                            : read_two(&reading, &files[0], &files[1]);
}
