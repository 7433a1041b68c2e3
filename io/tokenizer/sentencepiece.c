#include "io/tokenizer/sentencepiece.h"

#include "io/tokenizer/kind.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef GWTF_HAVE_SENTENCEPIECE

/* What stands before a text that goes on, so that the library takes its first blank as one inside
 * a text; its tokens are dropped again. */
#define BEFORE "x"
#define BLANK "\xe2\x96\x81"     /* U+2581, which the library writes for a blank */
#define UNKNOWN " \xe2\x81\x87 " /* U+2047 between blanks, as the library decodes it */

struct model {
    struct gwtf_sentencepiece *library;
    uint32_t vocabulary;
    unsigned char *bytes;
    size_t *starts; /* [vocabulary + 1], into BYTES */
    uint32_t *before;
    size_t before_count; /* tokens of BEFORE */
    bool has_first_blank;
};

struct encoder {
    const struct model *model;
    char *text; /* BEFORE and a text after it */
    size_t room;
};

/* The bytes that token ID stands for to BYTES, unless NULL; returns how many. */
static size_t put_bytes(const struct gwtf_sentencepiece *library, uint32_t id,
                        unsigned char *bytes) {
    const char *piece = gwtf_sentencepiece_piece(library, id);
    unsigned byte;
    size_t count = 0;
    switch (gwtf_sentencepiece_role(library, id)) {
    case GWTF_SENTENCEPIECE_NOTHING:
        return 0;
    case GWTF_SENTENCEPIECE_BYTE:
        if (sscanf(piece, "<0x%2X>", &byte) != 1)
            return 0;
        if (bytes != NULL)
            bytes[0] = (unsigned char)byte;
        return 1;
    case GWTF_SENTENCEPIECE_UNKNOWN:
        piece = UNKNOWN;
        break;
    case GWTF_SENTENCEPIECE_TEXT:
        break;
    }
    while (*piece != '\0') {
        bool blank = strncmp(piece, BLANK, strlen(BLANK)) == 0;
        if (bytes != NULL)
            bytes[count] = blank ? ' ' : (unsigned char)*piece;
        count++;
        piece += blank ? strlen(BLANK) : 1;
    }
    return count;
}

static bool fill_pieces(struct model *model) {
    size_t all = 0;
    for (uint32_t id = 0; id < model->vocabulary; id++)
        all += put_bytes(model->library, id, NULL);
    model->starts = calloc((size_t)model->vocabulary + 1, sizeof *model->starts);
    model->bytes = malloc(all + 1);
    if (model->starts == NULL || model->bytes == NULL)
        return false;
    for (uint32_t id = 0; id < model->vocabulary; id++)
        model->starts[id + 1] =
            model->starts[id] + put_bytes(model->library, id, model->bytes + model->starts[id]);
    return true;
}

/* What the library does before a text's first letter. */
static bool look_at_start(struct model *model) {
    int64_t count =
        gwtf_sentencepiece_encode(model->library, BEFORE, strlen(BEFORE), &model->before);
    if (count <= 0)
        return false;
    model->before_count = (size_t)count;
    uint32_t first = model->before[0];
    model->has_first_blank = model->starts[first + 1] > model->starts[first] &&
                             model->bytes[model->starts[first]] == ' ';
    return true;
}

static void destroy(void *state) {
    struct model *model = state;
    if (model->library != NULL)
        gwtf_sentencepiece_destroy(model->library);
    free(model->bytes);
    free(model->starts);
    free(model->before);
    free(model);
}

static gwtf_status parse(const char *place, const struct gwtf_kept_file *files, size_t files_count,
                         void **state, uint32_t *vocabulary, struct gwtf_error *error) {
    char reason[256] = "";
    (void)files_count;
    struct model *model = calloc(1, sizeof *model);
    if (model == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for '%s': free some", place);
    model->library =
        gwtf_sentencepiece_create(files[0].bytes, files[0].size_bytes, reason, sizeof reason);
    gwtf_status status = GWTF_OK;
    if (model->library == NULL) {
        status = gwtf_error_set(
            error, GWTF_ERROR_USAGE,
            "'%.800s' is no SentencePiece model: %.180s: give a tokenizer.model", place, reason);
    } else {
        model->vocabulary = gwtf_sentencepiece_size(model->library);
        if (!fill_pieces(model))
            status =
                gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for '%s': free some", place);
        else if (!look_at_start(model))
            status = gwtf_error_set(error, GWTF_ERROR_USAGE,
                                    "'%.800s' is a SentencePiece model that encodes nothing: give "
                                    "another tokenizer.model",
                                    place);
    }
    if (status != GWTF_OK) {
        destroy(model);
        return status;
    }
    *vocabulary = model->vocabulary;
    *state = model;
    return GWTF_OK;
}

static void *encoder_create(const void *state) {
    struct encoder *encoder = calloc(1, sizeof *encoder);
    if (encoder != NULL)
        encoder->model = state;
    return encoder;
}

static void encoder_destroy(void *state) {
    struct encoder *encoder = state;
    free(encoder->text);
    free(encoder);
}

static gwtf_status refuse(struct gwtf_error *error) {
    return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED,
                          "the SentencePiece library could not encode the text: free memory, or "
                          "take another model");
}

static gwtf_status encode(void *state, const unsigned char *text, size_t size_bytes, bool continued,
                          struct gwtf_token_list *list, struct gwtf_error *error) {
    struct encoder *encoder = state;
    const struct model *model = encoder->model;
    size_t before = continued ? strlen(BEFORE) : 0, drop = continued ? model->before_count : 0;
    if (before + size_bytes > encoder->room) {
        char *larger = realloc(encoder->text, before + size_bytes);
        if (larger == NULL)
            return gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for the tokens: free some");
        encoder->text = larger;
        encoder->room = before + size_bytes;
    }
    memcpy(encoder->text, BEFORE, before);
    memcpy(encoder->text + before, text, size_bytes);
    uint32_t *ids = NULL;
    int64_t count =
        gwtf_sentencepiece_encode(model->library, encoder->text, before + size_bytes, &ids);
    if (count < 0)
        return refuse(error);
    gwtf_status status = GWTF_OK;
    if ((size_t)count < drop || memcmp(ids, model->before, drop * sizeof *ids) != 0)
        status = refuse(error);
    else if (!gwtf_token_list_reserve(list, (size_t)count))
        status = gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for the tokens: free some");
    for (size_t i = drop; i < (size_t)count && status == GWTF_OK; i++)
        list->ids[list->count++] = ids[i];
    free(ids);
    return status;
}

static const unsigned char *piece(const void *state, uint32_t id, size_t *size_bytes) {
    const struct model *model = state;
    *size_bytes = id < model->vocabulary ? model->starts[id + 1] - model->starts[id] : 0;
    return *size_bytes > 0 ? model->bytes + model->starts[id] : model->bytes;
}

static bool has_first_blank(const void *state) {
    return ((const struct model *)state)->has_first_blank;
}

#else

static gwtf_status parse(const char *place, const struct gwtf_kept_file *files, size_t files_count,
                         void **state, uint32_t *vocabulary, struct gwtf_error *error) {
    (void)files;
    (void)files_count;
    (void)state;
    (void)vocabulary;
    return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED,
                          "this build of gwtf has no SentencePiece, which '%.800s' needs: install "
                          "libsentencepiece-dev and g++, and build again",
                          place);
}

/* None is ever made, so none of these is reached. */
static void destroy(void *state) {
    free(state);
}

static void *encoder_create(const void *state) {
    (void)state;
    return NULL;
}

static void encoder_destroy(void *encoder) {
    free(encoder);
}

static gwtf_status encode(void *encoder, const unsigned char *text, size_t size_bytes,
                          bool continued, struct gwtf_token_list *list, struct gwtf_error *error) {
    (void)encoder;
    (void)text;
    (void)size_bytes;
    (void)continued;
    (void)list;
    return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED, "this build has no SentencePiece: add it");
}

static const unsigned char *piece(const void *state, uint32_t id, size_t *size_bytes) {
    (void)id;
    *size_bytes = 0;
    return state;
}

static bool has_first_blank(const void *state) {
    (void)state;
    return false;
}

#endif

const struct gwtf_tokenizer_kind gwtf_tokenizer_sentencepiece = {
    .word = "sentencepiece",
    .piece_bytes_most = (size_t)4 << 20,
    .parse = parse,
    .destroy = destroy,
    .encoder_create = encoder_create,
    .encoder_destroy = encoder_destroy,
    .encode = encode,
    .piece = piece,
    .has_first_blank = has_first_blank,
};
