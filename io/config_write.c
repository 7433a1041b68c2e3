#include "io/config_reader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The shortest decimal that reads back as the same double. */
static void write_real(FILE *stream, double value) {
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    fprintf(stream, "%s%s", text, strpbrk(text, ".e") == NULL ? ".0" : "");
}

void gwtf_config_write_string(FILE *stream, const char *text) {
    fputc('"', stream);
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\')
            fprintf(stream, "\\%c", *at);
        else if (*at < ' ')
            fprintf(stream, "\\x%02X", (unsigned)*at);
        else
            fputc(*at, stream);
    }
    fputc('"', stream);
}

/* Lines as a list; a single one as it is. */
static void write_strings(FILE *stream, const char *lines) {
    if (strchr(lines, '\n') == NULL) {
        gwtf_config_write_string(stream, lines);
        return;
    }
    for (const char *line = lines, *end; line != NULL; line = *end != '\0' ? end + 1 : NULL) {
        char text[GWTF_CONFIG_PATH_MAX];
        end = line + strcspn(line, "\n");
        snprintf(text, sizeof text, "%.*s", (int)(end - line), line);
        fputs(line == lines ? "( " : ", ", stream);
        gwtf_config_write_string(stream, text);
    }
    fputs(" )", stream);
}

static void write_whole(FILE *stream, uint64_t value) {
    fprintf(stream, "%" PRIu64 "%s", value, value > INT32_MAX ? "L" : "");
}

static void write_value(FILE *stream, const struct gwtf_config_key *key, const void *base) {
    const char *member = (const char *)base + key->offset;
    unsigned place = 0;
    switch (key->type) {
    case GWTF_CONFIG_COUNT:
        write_whole(stream, *(const uint32_t *)(const void *)member);
        break;
    case GWTF_CONFIG_SEED:
        write_whole(stream, *(const uint64_t *)(const void *)member);
        break;
    case GWTF_CONFIG_REAL:
        write_real(stream, *(const double *)(const void *)member);
        break;
    case GWTF_CONFIG_FLAG:
        fputs(*(const bool *)(const void *)member ? "true" : "false", stream);
        break;
    case GWTF_CONFIG_TEXT:
        gwtf_config_write_string(stream, member);
        break;
    case GWTF_CONFIG_TEXTS:
        write_strings(stream, member);
        break;
    case GWTF_CONFIG_WORD:
        if (key->offset != GWTF_CONFIG_NOT_KEPT)
            memcpy(&place, member, sizeof place);
        gwtf_config_write_string(stream, key->words[place]);
        break;
    }
}

static void write_list(FILE *stream, const struct gwtf_config_list *list,
                       const struct gwtf_config *config) {
    const char *base = (const char *)config;
    size_t count = *(const size_t *)(const void *)(base + list->count_offset);
    fprintf(stream, "%s = (\n", list->section);
    for (size_t i = 0; i < count; i++) {
        fputs("    {", stream);
        for (size_t key = 0; key < gwtf_config_keys_count; key++) {
            if (strcmp(gwtf_config_keys[key].section, list->section) != 0)
                continue;
            fprintf(stream, " %s = ", gwtf_config_keys[key].name);
            write_value(stream, &gwtf_config_keys[key],
                        base + list->offset + i * list->entry_bytes);
            fputc(';', stream);
        }
        fprintf(stream, " }%s\n", i + 1 < count ? "," : "");
    }
    fputs(");\n", stream);
}

gwtf_status gwtf_config_text(const struct gwtf_config *config, char **text) {
    char *bytes = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&bytes, &size);
    if (stream == NULL)
        return GWTF_ERROR_MEMORY;
    for (size_t section = 0; gwtf_config_sections[section] != NULL; section++) {
        const char *name = gwtf_config_sections[section];
        int list = gwtf_config_find_list(&gwtf_config_schema, name);
        if (list >= 0) {
            write_list(stream, &gwtf_config_schema.lists[list], config);
            continue;
        }
        fprintf(stream, "%s = {\n", name);
        for (size_t key = 0; key < gwtf_config_keys_count; key++) {
            if (strcmp(gwtf_config_keys[key].section, name) != 0)
                continue;
            fprintf(stream, "    %s = ", gwtf_config_keys[key].name);
            write_value(stream, &gwtf_config_keys[key], config);
            fputs(";\n", stream);
        }
        fputs("};\n", stream);
    }
    int failed = ferror(stream);
    if (fclose(stream) != 0 || failed) {
        free(bytes);
        return GWTF_ERROR_MEMORY;
    }
    *text = bytes;
    return GWTF_OK;
}
