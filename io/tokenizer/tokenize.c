#include "io/tokenizer/tokenize.h"

#include "io/file.h"
#include "io/tokenizer/crew.h"
#include "io/tokens_write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES ((size_t)1 << 16)
/* How far before the place that the share says a blank is looked for. */
#define NEAR_BYTES ((size_t)1 << 20)
#define PARTS_MOST 2

struct work {
    const struct gwtf_tokenize_options *options;
    const struct gwtf_tokenizer *tokenizer;
    int input;
    uint64_t all_bytes;
    uint64_t ends[PARTS_MOST]; /* of train and validation, in the text */
    struct gwtf_tokens_new *outputs[PARTS_MOST];
    size_t parts;
    struct gwtf_sha256 *sha256;
    char text_sha256[GWTF_FILE_SHA256_MAX];
    /* What has been read and not been given to the crew. */
    unsigned char *rest;
    size_t rest_bytes, rest_room;
    uint64_t read_bytes; /* of the text */
    uint64_t given_bytes;
};

static gwtf_status no_memory(struct gwtf_error *error) {
    return gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for the text: free some");
}

/* --- Reading. --- */

static bool make_room(struct gwtf_crew_piece *piece, size_t size) {
    if (size <= piece->room)
        return true;
    unsigned char *larger = realloc(piece->text, size);
    if (larger == NULL)
        return false;
    piece->text = larger;
    piece->room = size;
    return true;
}

/* Reads on until PIECE has SIZE bytes, or all that are left of the part. */
static gwtf_status read_on(struct work *work, struct gwtf_crew_piece *piece, size_t size,
                           struct gwtf_error *error) {
    uint64_t left = work->ends[piece->part] - work->read_bytes;
    if (!make_room(piece, size))
        return no_memory(error);
    size_t wanted = size - piece->size_bytes;
    wanted = wanted < left ? wanted : (size_t)left;
    unsigned char *at = piece->text + piece->size_bytes;
    int64_t got = gwtf_file_read_some(work->input, at, wanted);
    if (got < 0)
        return gwtf_file_error(error, "read", work->options->input, errno);
    if ((size_t)got < wanted)
        return gwtf_error_set(error, GWTF_ERROR_IO,
                              "'%s' changed while it was read: wait until it is complete, and "
                              "start again",
                              work->options->input);
    gwtf_sha256_add(work->sha256, at, wanted);
    piece->size_bytes += wanted;
    work->read_bytes += wanted;
    return GWTF_OK;
}

/* What PIECE has beyond KEPT bytes waits for the next one. */
static bool keep_rest(struct work *work, struct gwtf_crew_piece *piece, size_t kept) {
    size_t rest = piece->size_bytes - kept;
    work->rest_bytes = rest;
    piece->size_bytes = kept;
    if (rest == 0)
        return true;
    if (rest > work->rest_room) {
        unsigned char *larger = realloc(work->rest, rest);
        if (larger == NULL)
            return false;
        work->rest = larger;
        work->rest_room = rest;
    }
    memcpy(work->rest, piece->text + kept, rest);
    return true;
}

/* The next piece of the text, cut where it may be. */
static gwtf_status fill(struct work *work, struct gwtf_crew_piece *piece,
                        struct gwtf_error *error) {
    size_t most = gwtf_tokenizer_get_info(work->tokenizer)->piece_bytes_most;
    size_t part = 0, cut = 0, size = PIECE_BYTES;
    while (work->given_bytes >= work->ends[part])
        part++;
    while (size < 2 * work->rest_bytes)
        size *= 2;
    if (!make_room(piece, size))
        return no_memory(error);
    piece->part = part;
    piece->continued = work->given_bytes > (part > 0 ? work->ends[part - 1] : 0);
    /* The rest is of this part: the last piece of a part leaves none. */
    if (work->rest_bytes > 0)
        memcpy(piece->text, work->rest, work->rest_bytes);
    piece->size_bytes = work->rest_bytes;
    for (; cut == 0; size *= 2) {
        if (piece->size_bytes >= most)
            return gwtf_error_set(error, GWTF_ERROR_USAGE,
                                  "'%s' has %zu MiB without a blank or line break: give a text",
                                  work->options->input, piece->size_bytes >> 20);
        gwtf_status status = read_on(work, piece, size, error);
        if (status != GWTF_OK)
            return status;
        cut = work->read_bytes == work->ends[part]
                  ? piece->size_bytes
                  : gwtf_tokenizer_cut(work->tokenizer, piece->text, piece->size_bytes);
    }
    if (!keep_rest(work, piece, cut))
        return no_memory(error);
    work->given_bytes += cut;
    piece->end = work->given_bytes;
    return GWTF_OK;
}

/* --- Writing. --- */

static gwtf_status take(struct work *work, const struct gwtf_crew_piece *piece,
                        struct gwtf_error *error) {
    if (piece->status != GWTF_OK) {
        *error = piece->error;
        return piece->status;
    }
    gwtf_status status =
        gwtf_tokens_new_add(work->outputs[piece->part], piece->list.ids, piece->list.count, error);
    if (status == GWTF_OK && work->options->progress != NULL)
        work->options->progress(work->options->progress_context, piece->end, work->all_bytes);
    return status;
}

/* Keeps the crew busy, and writes what it has done. */
static gwtf_status convert(struct work *work, struct gwtf_crew *crew, struct gwtf_error *error) {
    for (;;) {
        bool more = work->given_bytes < work->all_bytes;
        struct gwtf_crew_piece *free_piece = more ? gwtf_crew_free_piece(crew) : NULL;
        struct gwtf_crew_piece *oldest = gwtf_crew_oldest(crew, free_piece == NULL);
        gwtf_status status = GWTF_OK;
        if (oldest != NULL) {
            status = take(work, oldest, error);
            gwtf_crew_release(crew);
        } else if (free_piece != NULL) {
            status = fill(work, free_piece, error);
            if (status == GWTF_OK)
                gwtf_crew_submit(crew);
        } else {
            return GWTF_OK;
        }
        if (status != GWTF_OK)
            return status;
    }
}

static gwtf_status finish(struct work *work, struct gwtf_error *error) {
    const struct gwtf_tokenizer_info *info = gwtf_tokenizer_get_info(work->tokenizer);
    char source[1024];
    snprintf(source, sizeof source, "%s", work->options->input);
    struct gwtf_tokens_facts facts = {.tokenizer = info->name,
                                      .tokenizer_sha256 = info->sha256,
                                      .source = source,
                                      .sha256 = work->text_sha256,
                                      .kept = &info->files};
    gwtf_status status = GWTF_OK;
    for (size_t i = 0; i < work->parts && status == GWTF_OK; i++)
        status = gwtf_tokens_new_finish(work->outputs[i], &facts, error);
    for (size_t i = 0; i < work->parts && status == GWTF_OK; i++)
        status = gwtf_tokens_new_publish(work->outputs[i], error);
    return status;
}

static gwtf_status write_outputs(struct work *work, struct gwtf_error *error) {
    const struct gwtf_tokenize_options *options = work->options;
    const char *const paths[PARTS_MOST] = {options->output, options->validation_output};
    uint32_t vocabulary = gwtf_tokenizer_get_info(work->tokenizer)->vocabulary;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    struct gwtf_crew *crew = NULL;
    gwtf_status status = GWTF_OK;
    for (size_t i = 0; i < work->parts && status == GWTF_OK; i++)
        status = gwtf_tokens_new_create(paths[i], vocabulary, &work->outputs[i], error);
    if (status == GWTF_OK && (work->sha256 = gwtf_sha256_create()) == NULL)
        status = no_memory(error);
    if (status == GWTF_OK)
        status = gwtf_crew_create(work->tokenizer,
                                  options->threads > 0 ? options->threads
                                  : cores > 0          ? (unsigned)cores
                                                       : 1,
                                  &crew, error);
    if (status == GWTF_OK)
        status = convert(work, crew, error);
    gwtf_crew_destroy(crew);
    if (work->sha256 != NULL)
        gwtf_sha256_finish(work->sha256, work->text_sha256);
    if (status == GWTF_OK)
        status = finish(work, error);
    for (size_t i = 0; i < work->parts; i++)
        gwtf_tokens_new_destroy(work->outputs[i]);
    free(work->rest);
    return status;
}

/* --- What is asked for. --- */

/* Same file, by name or by what the names lead to. */
static bool same_file(const char *a, const char *b) {
    struct stat a_facts, b_facts;
    if (strcmp(a, b) == 0)
        return true;
    return stat(a, &a_facts) == 0 && stat(b, &b_facts) == 0 && a_facts.st_dev == b_facts.st_dev &&
           a_facts.st_ino == b_facts.st_ino;
}

static gwtf_status check_options(const struct gwtf_tokenize_options *options,
                                 struct gwtf_error *error) {
    bool splits = options->validation_share != 0;
    if (!(options->validation_share >= 0 && options->validation_share < 1))
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "the validation share is %g: give one from 0 to below 1",
                              options->validation_share);
    if (splits && options->validation_output == NULL)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "a validation share is given, but no file for it: name one");
    if (same_file(options->input, options->output) ||
        (splits && same_file(options->input, options->validation_output)))
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "'%s' is the text itself: give another name for the token file",
                              options->input);
    if (splits && same_file(options->output, options->validation_output))
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "'%s' is given for training and for validation: give two names",
                              options->output);
    return GWTF_OK;
}

/* The last place up to PLACE at which the text can be cut; 0: there is none near. */
static gwtf_status find_cut(struct work *work, uint64_t place, uint64_t *cut,
                            struct gwtf_error *error) {
    size_t size = place < NEAR_BYTES ? (size_t)place : NEAR_BYTES;
    unsigned char *bytes = malloc(size);
    if (bytes == NULL)
        return no_memory(error);
    gwtf_status status = GWTF_OK;
    if (lseek(work->input, (off_t)(place - size), SEEK_SET) < 0 ||
        gwtf_file_read_some(work->input, bytes, size) != (int64_t)size ||
        lseek(work->input, 0, SEEK_SET) != 0)
        status = gwtf_file_error(error, "read", work->options->input, errno);
    size_t found = status == GWTF_OK ? gwtf_tokenizer_cut(work->tokenizer, bytes, size) : 0;
    *cut = found > 0 ? place - size + found : 0;
    free(bytes);
    return status;
}

/* How the text is divided. */
static gwtf_status divide(struct work *work, const struct stat *facts, struct gwtf_error *error) {
    const struct gwtf_tokenize_options *options = work->options;
    if (!S_ISREG(facts->st_mode))
        return gwtf_error_set(
            error, GWTF_ERROR_USAGE,
            "'%s' is not a file: give a text file, since its length must be known", options->input);
    work->all_bytes = (uint64_t)facts->st_size;
    if (work->all_bytes == 0)
        return gwtf_error_set(error, GWTF_ERROR_USAGE, "'%s' is empty: give a file with text",
                              options->input);
    work->parts = 1;
    work->ends[0] = work->all_bytes;
    if (options->validation_share == 0)
        return GWTF_OK;
    uint64_t validation = (uint64_t)((double)work->all_bytes * options->validation_share);
    uint64_t cut = 0;
    gwtf_status status = GWTF_OK;
    if (validation > 0 && validation < work->all_bytes)
        status = find_cut(work, work->all_bytes - validation, &cut, error);
    if (status == GWTF_OK && cut == 0)
        status = gwtf_error_set(error, GWTF_ERROR_USAGE,
                                "'%s' has %llu bytes, too few for a validation share of %g: give a "
                                "longer text or another share",
                                options->input, (unsigned long long)work->all_bytes,
                                options->validation_share);
    work->parts = PARTS_MOST;
    work->ends[0] = cut;
    work->ends[1] = work->all_bytes;
    return status;
}

gwtf_status gwtf_tokenize(const struct gwtf_tokenize_options *options, struct gwtf_error *error) {
    gwtf_status status = check_options(options, error);
    if (status != GWTF_OK)
        return status;
    struct gwtf_tokenizer *bytes = NULL;
    struct work work = {.options = options,
                        .tokenizer = options->tokenizer,
                        .input = open(options->input, O_RDONLY | O_CLOEXEC)};
    if (work.input < 0)
        return gwtf_file_error(error, "open", options->input, errno);
    if (work.tokenizer == NULL) {
        status = gwtf_tokenizer_open("bytes", &bytes, error);
        work.tokenizer = bytes;
    }
    struct stat facts;
    if (status == GWTF_OK && fstat(work.input, &facts) != 0)
        status = gwtf_file_error(error, "read", options->input, errno);
    if (status == GWTF_OK)
        status = divide(&work, &facts, error);
    if (status == GWTF_OK)
        status = write_outputs(&work, error);
    close(work.input);
    gwtf_tokenizer_close(bytes);
    return status;
}
