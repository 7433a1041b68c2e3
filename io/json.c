#include "io/json.h"

#include "share/base/assert.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/*
 * Bytes of the UTF-8 character at AT, 0 when there is none (RFC 3629); of a character that is not
 * whole in the LEFT bytes, BROKEN is how many of its bytes are there, at least 1.
 */
static size_t character_size(const unsigned char *at, size_t left, size_t *broken) {
    static const struct {
        unsigned char first_low, first_high, second_low, second_high;
        size_t size;
    } forms[] = {
        {0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (at[0] < forms[i].first_low || at[0] > forms[i].first_high)
            continue;
        size_t size = 1;
        if (size < forms[i].size && size < left && at[1] >= forms[i].second_low &&
            at[1] <= forms[i].second_high)
            size++;
        while (size >= 2 && size < forms[i].size && size < left && at[size] >= 0x80 &&
               at[size] <= 0xbf)
            size++;
        *broken = size;
        return size == forms[i].size ? size : 0;
    }
    *broken = 1;
    return 0;
}

void gwtf_json_repair_text(char *text) {
    size_t left = strlen(text), broken;
    for (unsigned char *at = (unsigned char *)text, *end = at + left; at < end;) {
        size_t size = character_size(at, (size_t)(end - at), &broken);
        if (size == 0)
            *at++ = '?';
        else
            at += size;
    }
}

void gwtf_json_start(struct gwtf_json *json, FILE *stream) {
    memset(json, 0, sizeof *json);
    json->stream = stream;
}

void gwtf_json_end(struct gwtf_json *json) {
    GWTF_ASSERT(json->depth == 0);
    fputc('\n', json->stream);
}

static void put_string(struct gwtf_json *json, const char *text) {
    char *copy = strdup(text);
    GWTF_ASSERT(copy != NULL);
    gwtf_json_repair_text(copy);
    json_t *string = json_string(copy);
    GWTF_ASSERT(string != NULL);
    json_dumpf(string, json->stream, JSON_ENCODE_ANY);
    json_decref(string);
    free(copy);
}

static void put_bytes(struct gwtf_json *json, const char *bytes, size_t size) {
    static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */
    char *text = malloc(3 * size + 1);
    GWTF_ASSERT(text != NULL);
    size_t length = 0, broken;
    for (size_t i = 0; i < size;) {
        size_t whole = character_size((const unsigned char *)bytes + i, size - i, &broken);
        memcpy(text + length, whole != 0 ? bytes + i : replacement, whole != 0 ? whole : 3);
        length += whole != 0 ? whole : 3;
        i += whole != 0 ? whole : broken;
    }
    json_t *string = json_stringn(text, length);
    GWTF_ASSERT(string != NULL);
    json_dumpf(string, json->stream, JSON_ENCODE_ANY);
    json_decref(string);
    free(text);
}

/* Comma, indentation and key before a value. */
static void put_key(struct gwtf_json *json, const char *key) {
    if (json->depth > 0) {
        fputs(json->begun[json->depth] ? ",\n" : "\n", json->stream);
        json->begun[json->depth] = true;
        fprintf(json->stream, "%*s", (int)(2 * json->depth), "");
    }
    if (key != NULL) {
        put_string(json, key);
        fputs(": ", json->stream);
    }
}

void gwtf_json_open(struct gwtf_json *json, const char *key, char bracket) {
    put_key(json, key);
    fputc(bracket, json->stream);
    json->depth++;
    GWTF_ASSERT(json->depth < GWTF_JSON_DEPTH_MAX);
    json->begun[json->depth] = false;
    json->brackets[json->depth] = bracket;
}

void gwtf_json_close(struct gwtf_json *json) {
    GWTF_ASSERT(json->depth > 0);
    bool begun = json->begun[json->depth];
    char bracket = json->brackets[json->depth] == '{' ? '}' : ']';
    json->depth--;
    if (begun)
        fprintf(json->stream, "\n%*s", (int)(2 * json->depth), "");
    fputc(bracket, json->stream);
}

void gwtf_json_text(struct gwtf_json *json, const char *key, const char *text) {
    put_key(json, key);
    put_string(json, text);
}

void gwtf_json_bytes(struct gwtf_json *json, const char *key, const char *bytes, size_t size) {
    put_key(json, key);
    put_bytes(json, bytes, size);
}

void gwtf_json_count(struct gwtf_json *json, const char *key, uint64_t count) {
    put_key(json, key);
    fprintf(json->stream, "%" PRIu64, count);
}

void gwtf_json_flag(struct gwtf_json *json, const char *key, bool flag) {
    put_key(json, key);
    fputs(flag ? "true" : "false", json->stream);
}

void gwtf_json_null(struct gwtf_json *json, const char *key) {
    put_key(json, key);
    fputs("null", json->stream);
}

void gwtf_json_real(struct gwtf_json *json, const char *key, double real) {
    if (!isfinite(real)) {
        gwtf_json_null(json, key);
        return;
    }
    put_key(json, key);
    fprintf(json->stream, "%.9g", real);
}
