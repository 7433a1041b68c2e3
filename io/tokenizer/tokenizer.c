#include "io/tokenizer/tokenizer.h"

#include "io/file.h"
#include "io/snapshot_files.h"
#include "io/tokenizer/kind.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES_MOST ((size_t)256 << 20)
#define NAME_DIGITS 16

struct gwtf_tokenizer {
    const struct gwtf_tokenizer_kind *kind;
    void *state;
    struct gwtf_tokenizer_info info;
    char *contents[GWTF_KEPT_MOST]; /* what info.files points to */
};

struct gwtf_encoder {
    const struct gwtf_tokenizer_kind *kind;
    void *state;
};

/* Where the files of a kind may be, the first that are there. NAMES are those that they get. */
struct source {
    const struct gwtf_tokenizer_kind *kind;
    size_t count;
    const char *files[GWTF_KEPT_MOST];
    const char *names[GWTF_KEPT_MOST];
};

static const struct source sources[] = {
    {&gwtf_tokenizer_gpt2, 2, {"vocab.json", "merges.txt"}, {"vocab.json", "merges.txt"}},
    {&gwtf_tokenizer_gpt2, 2, {"encoder.json", "vocab.bpe"}, {"vocab.json", "merges.txt"}},
    {&gwtf_tokenizer_sentencepiece, 1, {"tokenizer.model"}, {"tokenizer.model"}},
    {&gwtf_tokenizer_gpt2, 1, {"tokenizer.json"}, {"tokenizer.json"}},
};
#define SOURCES (sizeof sources / sizeof sources[0])

/* --- Bytes. --- */

static gwtf_status bytes_parse(const char *place, const struct gwtf_kept_file *files,
                               size_t files_count, void **state, uint32_t *vocabulary,
                               struct gwtf_error *error) {
    (void)files;
    (void)files_count;
    unsigned char *all = malloc(256);
    if (all == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for '%s': free some", place);
    for (unsigned byte = 0; byte < 256; byte++)
        all[byte] = (unsigned char)byte;
    *state = all;
    *vocabulary = 256;
    return GWTF_OK;
}

static const unsigned char *bytes_piece(const void *state, uint32_t id, size_t *size_bytes) {
    const unsigned char *all = state;
    *size_bytes = id < 256;
    return *size_bytes > 0 ? all + id : all;
}

static gwtf_status bytes_encode(void *encoder, const unsigned char *text, size_t size_bytes,
                                bool continued, struct gwtf_token_list *list,
                                struct gwtf_error *error) {
    (void)encoder;
    (void)continued;
    if (!gwtf_token_list_reserve(list, size_bytes))
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for the tokens: free some");
    for (size_t i = 0; i < size_bytes; i++)
        list->ids[list->count + i] = text[i];
    list->count += size_bytes;
    return GWTF_OK;
}

static void *bytes_encoder_create(const void *state) {
    (void)state;
    return calloc(1, 1);
}

static bool bytes_has_first_blank(const void *state) {
    (void)state;
    return false;
}

const struct gwtf_tokenizer_kind gwtf_tokenizer_bytes = {
    .word = "bytes",
    .piece_bytes_most = (size_t)1 << 20,
    .parse = bytes_parse,
    .destroy = free,
    .encoder_create = bytes_encoder_create,
    .encoder_destroy = free,
    .encode = bytes_encode,
    .piece = bytes_piece,
    .has_first_blank = bytes_has_first_blank,
};

/* --- Opening. --- */

static void name_it(struct gwtf_tokenizer *tokenizer) {
    struct gwtf_tokenizer_info *info = &tokenizer->info;
    if (info->files.count == 0)
        snprintf(info->name, sizeof info->name, "%s", tokenizer->kind->word);
    else
        snprintf(info->name, sizeof info->name, "%s:%.*s", tokenizer->kind->word, NAME_DIGITS,
                 info->sha256);
}

static gwtf_status hash_files(struct gwtf_tokenizer_info *info, struct gwtf_error *error) {
    struct gwtf_sha256 *sha256 = gwtf_sha256_create();
    if (sha256 == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for the tokenizer: free some");
    for (size_t i = 0; i < info->files.count; i++)
        gwtf_sha256_add(sha256, info->files.files[i].bytes, info->files.files[i].size_bytes);
    gwtf_sha256_finish(sha256, info->sha256);
    return GWTF_OK;
}

/* FILES are kept when all is well. */
static gwtf_status make(const struct gwtf_tokenizer_kind *kind, const char *place,
                        const struct gwtf_kept_file *files, size_t count,
                        struct gwtf_tokenizer **tokenizer, struct gwtf_error *error) {
    struct gwtf_tokenizer *made = calloc(1, sizeof *made);
    if (made == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for '%s': free some", place);
    made->kind = kind;
    made->info.piece_bytes_most = kind->piece_bytes_most;
    made->info.files.count = count;
    for (size_t i = 0; i < count; i++)
        made->info.files.files[i] = files[i];
    gwtf_status status =
        kind->parse(place, files, count, &made->state, &made->info.vocabulary, error);
    if (status == GWTF_OK && count > 0)
        status = hash_files(&made->info, error);
    if (status != GWTF_OK) {
        gwtf_tokenizer_close(made);
        return status;
    }
    name_it(made);
    *tokenizer = made;
    return GWTF_OK;
}

/* SOURCE with its files at PATHS. */
static gwtf_status open_source(const struct source *source, const char *place,
                               char paths[][GWTF_FILE_PATH_MAX], struct gwtf_tokenizer **tokenizer,
                               struct gwtf_error *error) {
    struct gwtf_kept_file files[GWTF_KEPT_MOST] = {{0}};
    char *contents[GWTF_KEPT_MOST] = {NULL};
    gwtf_status status = GWTF_OK;
    for (size_t i = 0; i < source->count && status == GWTF_OK; i++) {
        files[i].name = source->names[i];
        status =
            gwtf_file_read(paths[i], FILE_BYTES_MOST, &contents[i], &files[i].size_bytes, error);
        files[i].bytes = contents[i];
        if (status == GWTF_ERROR_LIMIT)
            status = gwtf_error_set(error, GWTF_ERROR_USAGE,
                                    "'%s' is larger than %zu MiB, no tokenizer is: give its file",
                                    paths[i], FILE_BYTES_MOST >> 20);
    }
    if (status == GWTF_OK)
        status = make(source->kind, place, files, source->count, tokenizer, error);
    for (size_t i = 0; i < source->count; i++) {
        if (status == GWTF_OK)
            (*tokenizer)->contents[i] = contents[i];
        else
            free(contents[i]);
    }
    return status;
}

/* All files of SOURCE are in DIRECTORY; their paths. */
static bool is_there(const struct source *source, const char *directory,
                     char paths[][GWTF_FILE_PATH_MAX]) {
    for (size_t i = 0; i < source->count; i++) {
        snprintf(paths[i], GWTF_FILE_PATH_MAX, "%.1900s/%s", directory, source->files[i]);
        if (access(paths[i], F_OK) != 0)
            return false;
    }
    return true;
}

/*
 * Beside the two files of GPT-2's there may be a tokenizer.json, which says how texts are divided,
 * as the two do not: those of other models divide them in other ways.
 */
static gwtf_status check_whole(const struct source *source, const char *directory,
                               struct gwtf_error *error) {
    const struct source *whole = &sources[SOURCES - 1];
    char paths[GWTF_KEPT_MOST][GWTF_FILE_PATH_MAX];
    struct gwtf_tokenizer *said = NULL;
    if (source->kind != &gwtf_tokenizer_gpt2 || source == whole ||
        !is_there(whole, directory, paths))
        return GWTF_OK;
    gwtf_status status = open_source(whole, directory, paths, &said, error);
    gwtf_tokenizer_close(said);
    return status;
}

/* The first source of KIND (NULL: any) in DIRECTORY. */
static gwtf_status open_first(const struct gwtf_tokenizer_kind *kind, const char *directory,
                              struct gwtf_tokenizer **tokenizer, struct gwtf_error *error) {
    char paths[GWTF_KEPT_MOST][GWTF_FILE_PATH_MAX];
    for (size_t i = 0; i < SOURCES; i++) {
        if ((kind != NULL && sources[i].kind != kind) || !is_there(&sources[i], directory, paths))
            continue;
        gwtf_status status = check_whole(&sources[i], directory, error);
        return status == GWTF_OK ? open_source(&sources[i], directory, paths, tokenizer, error)
                                 : status;
    }
    return gwtf_error_set(error, GWTF_ERROR_MISSING,
                          "'%.800s' has neither vocab.json and merges.txt, nor encoder.json and "
                          "vocab.bpe, nor tokenizer.json%s: give the directory that has them",
                          directory, kind == NULL ? ", nor tokenizer.model" : "");
}

gwtf_status gwtf_tokenizer_open(const char *spec, struct gwtf_tokenizer **tokenizer,
                                struct gwtf_error *error) {
    static const char gpt2[] = "gpt2:", sentencepiece[] = "sentencepiece:";
    const struct source model = {
        &gwtf_tokenizer_sentencepiece, 1, {"tokenizer.model"}, {"tokenizer.model"}};
    if (strcmp(spec, "bytes") == 0)
        return make(&gwtf_tokenizer_bytes, spec, NULL, 0, tokenizer, error);
    if (strncmp(spec, gpt2, strlen(gpt2)) == 0 && spec[strlen(gpt2)] != '\0')
        return open_first(&gwtf_tokenizer_gpt2, spec + strlen(gpt2), tokenizer, error);
    if (strncmp(spec, sentencepiece, strlen(sentencepiece)) == 0 &&
        spec[strlen(sentencepiece)] != '\0') {
        char paths[GWTF_KEPT_MOST][GWTF_FILE_PATH_MAX];
        const char *path = spec + strlen(sentencepiece);
        snprintf(paths[0], sizeof paths[0], "%s", path);
        return open_source(&model, path, paths, tokenizer, error);
    }
    return gwtf_error_set(error, GWTF_ERROR_USAGE,
                          "the tokenizer '%.200s' is not known: give bytes, gpt2:DIR or "
                          "sentencepiece:FILE",
                          spec);
}

gwtf_status gwtf_tokenizer_open_directory(const char *directory, struct gwtf_tokenizer **tokenizer,
                                          struct gwtf_error *error) {
    return open_first(NULL, directory, tokenizer, error);
}

gwtf_status gwtf_tokenizer_parse(const char *place, const struct gwtf_kept_file *files,
                                 size_t files_count, struct gwtf_tokenizer **tokenizer,
                                 struct gwtf_error *error) {
    for (size_t i = 0; i < SOURCES; i++) {
        bool same = sources[i].count == files_count;
        for (size_t j = 0; j < files_count && same; j++)
            same = strcmp(sources[i].names[j], files[j].name) == 0;
        if (!same)
            continue;
        struct gwtf_tokenizer *made = NULL;
        gwtf_status status = make(sources[i].kind, place, files, files_count, &made, error);
        for (size_t j = 0; j < files_count && status == GWTF_OK; j++) {
            /* The copy is one byte longer, so that it is there for an empty file, too. */
            char *copy = calloc(1, files[j].size_bytes + 1);
            if (copy == NULL) {
                status = gwtf_error_set(error, GWTF_ERROR_MEMORY,
                                        "no memory for the tokenizer: free some");
                break;
            }
            memcpy(copy, files[j].bytes, files[j].size_bytes);
            made->contents[j] = copy;
            made->info.files.files[j].name = sources[i].names[j];
            made->info.files.files[j].bytes = copy;
        }
        if (status == GWTF_OK)
            *tokenizer = made;
        else
            gwtf_tokenizer_close(made);
        return status;
    }
    return gwtf_error_set(error, GWTF_ERROR_USAGE,
                          "'%.800s' has files of no known tokenizer: give another", place);
}

gwtf_status gwtf_tokenizer_open_kept(const char *path, struct gwtf_tokenizer **tokenizer,
                                     struct gwtf_error *error) {
    struct gwtf_kept kept;
    gwtf_status status = gwtf_kept_read(path, &kept, error);
    if (status != GWTF_OK)
        return status;
    if (kept.count == 0)
        status =
            gwtf_error_set(error, GWTF_ERROR_MISSING, "'%s' keeps no tokenizer: give one", path);
    else
        status = gwtf_tokenizer_parse(path, kept.files, kept.count, tokenizer, error);
    gwtf_kept_deinit(&kept);
    return status;
}

gwtf_status gwtf_tokenizer_of_snapshot(const struct gwtf_snapshot_info *info,
                                       struct gwtf_tokenizer **tokenizer,
                                       struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    if (strcmp(info->tokenizer, gwtf_tokenizer_bytes.word) == 0)
        return gwtf_tokenizer_open(info->tokenizer, tokenizer, error);
    gwtf_snapshot_stage_path(info->path, 0, path);
    gwtf_status status = gwtf_tokenizer_open_kept(path, tokenizer, error);
    const char *name = status == GWTF_OK ? (*tokenizer)->info.name : info->tokenizer;
    if (strcmp(name, info->tokenizer) == 0)
        return status;
    status = gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                            "'%.400s' keeps '%s', and says that it was trained with '%s': give the "
                            "tokenizer that made its token files",
                            path, name, info->tokenizer);
    gwtf_tokenizer_close(*tokenizer);
    *tokenizer = NULL;
    return status;
}

void gwtf_tokenizer_close(struct gwtf_tokenizer *tokenizer) {
    if (tokenizer == NULL)
        return;
    if (tokenizer->state != NULL)
        tokenizer->kind->destroy(tokenizer->state);
    for (size_t i = 0; i < GWTF_KEPT_MOST; i++)
        free(tokenizer->contents[i]);
    free(tokenizer);
}

const struct gwtf_tokenizer_info *gwtf_tokenizer_get_info(const struct gwtf_tokenizer *tokenizer) {
    return &tokenizer->info;
}

/* --- Encoding and decoding. --- */

bool gwtf_token_list_reserve(struct gwtf_token_list *list, size_t more) {
    size_t wanted = list->count + more;
    if (wanted <= list->room)
        return true;
    size_t room = wanted + wanted / 2;
    uint32_t *ids = realloc(list->ids, room * sizeof *ids);
    if (ids == NULL)
        return false;
    list->ids = ids;
    list->room = room;
    return true;
}

struct gwtf_encoder *gwtf_encoder_create(const struct gwtf_tokenizer *tokenizer) {
    struct gwtf_encoder *encoder = calloc(1, sizeof *encoder);
    if (encoder == NULL)
        return NULL;
    encoder->kind = tokenizer->kind;
    encoder->state = tokenizer->kind->encoder_create(tokenizer->state);
    if (encoder->state != NULL)
        return encoder;
    free(encoder);
    return NULL;
}

void gwtf_encoder_destroy(struct gwtf_encoder *encoder) {
    if (encoder == NULL)
        return;
    encoder->kind->encoder_destroy(encoder->state);
    free(encoder);
}

gwtf_status gwtf_encoder_encode(struct gwtf_encoder *encoder, const void *text, size_t size_bytes,
                                bool continued, struct gwtf_token_list *list,
                                struct gwtf_error *error) {
    if (size_bytes == 0)
        return GWTF_OK;
    return encoder->kind->encode(encoder->state, text, size_bytes, continued, list, error);
}

static bool is_blank(unsigned char byte) {
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/* Does a character end before TEXT + AT that is no blank? Careful: of the characters beyond ASCII
 * some more than the blanks among them are taken for one. */
static bool follows_sign(const unsigned char *text, size_t at) {
    unsigned char last = text[at - 1], before = at >= 2 ? text[at - 2] : 0;
    unsigned char first = at >= 3 ? text[at - 3] : 0;
    if (last < 0x80)
        return last > ' ' && last < 0x7f;
    if (before == 0xc2)
        return last != 0x85 && last != 0xa0;
    return !(first == 0xe1 && before == 0x9a) && !(first == 0xe2 && before <= 0x81) &&
           !(first == 0xe3 && before == 0x80);
}

size_t gwtf_tokenizer_cut(const struct gwtf_tokenizer *tokenizer, const void *text,
                          size_t size_bytes) {
    const unsigned char *bytes = text;
    if (tokenizer->kind == &gwtf_tokenizer_bytes)
        return size_bytes;
    for (size_t at = size_bytes; at-- > 1;)
        if (is_blank(bytes[at]) && follows_sign(bytes, at))
            return at;
    return 0;
}

const unsigned char *gwtf_tokenizer_piece(const struct gwtf_tokenizer *tokenizer, uint32_t id,
                                          size_t *size_bytes) {
    return tokenizer->kind->piece(tokenizer->state, id, size_bytes);
}

gwtf_status gwtf_tokenizer_decode(const struct gwtf_tokenizer *tokenizer, const uint32_t *ids,
                                  size_t count, char **text, size_t *size_bytes) {
    size_t all = 0, size;
    for (size_t i = 0; i < count; i++) {
        gwtf_tokenizer_piece(tokenizer, ids[i], &size);
        all += size;
    }
    char *made = malloc(all + 1);
    if (made == NULL)
        return gwtf_error_set(NULL, GWTF_ERROR_MEMORY, "out of memory");
    all = 0;
    bool blank = tokenizer->kind->has_first_blank(tokenizer->state);
    for (size_t i = 0; i < count; i++) {
        const unsigned char *piece = gwtf_tokenizer_piece(tokenizer, ids[i], &size);
        size_t skip = blank && size > 0 && piece[0] == ' ';
        blank = blank && size == 0;
        memcpy(made + all, piece + skip, size - skip);
        all += size - skip;
    }
    made[all] = '\0';
    *text = made;
    *size_bytes = all;
    return GWTF_OK;
}
