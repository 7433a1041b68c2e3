/*
 * JSON for the outputs of commands, written as it comes. The library behind it stays inside io.
 *
 *     struct gwtf_json json;
 *     gwtf_json_start(&json, stdout);
 *     gwtf_json_open(&json, NULL, '{');
 *     gwtf_json_text(&json, "phase", "training");
 *     gwtf_json_close(&json);
 *     gwtf_json_end(&json);
 */
#ifndef GWTF_IO_JSON_H
#define GWTF_IO_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define GWTF_JSON_DEPTH_MAX 16

struct gwtf_json {
    FILE *stream;
    unsigned depth;
    bool begun[GWTF_JSON_DEPTH_MAX]; /* something stands at this depth already */
    char brackets[GWTF_JSON_DEPTH_MAX];
};

void gwtf_json_start(struct gwtf_json *json, FILE *stream);

/* Ends the text with a line break. Everything must be closed. */
void gwtf_json_end(struct gwtf_json *json);

/* An object '{' or an array '['. KEY is NULL inside arrays and for the whole, in all calls. */
void gwtf_json_open(struct gwtf_json *json, const char *key, char bracket);
void gwtf_json_close(struct gwtf_json *json);

/* Bytes that are no UTF-8 become '?'. */
void gwtf_json_text(struct gwtf_json *json, const char *key, const char *text);

/* SIZE bytes that may hold zeros. Each longest piece of a character that is not whole, and each
 * byte that can begin none, becomes U+FFFD, as in other decoders (Unicode 15, section 3.9). */
void gwtf_json_bytes(struct gwtf_json *json, const char *key, const char *bytes, size_t size);
void gwtf_json_count(struct gwtf_json *json, const char *key, uint64_t count);
void gwtf_json_flag(struct gwtf_json *json, const char *key, bool flag);
void gwtf_json_null(struct gwtf_json *json, const char *key);

/* null when REAL is not finite: JSON has no word for it. */
void gwtf_json_real(struct gwtf_json *json, const char *key, double real);

/* Makes TEXT valid UTF-8 in place: bytes that are none become '?'. */
void gwtf_json_repair_text(char *text);

#endif
