#include "io/corpus.h"

#include "share/base/assert.h"
#include "share/base/permute.h"
#include "share/base/random.h"

#include <glob.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Keeps the order of training apart from other uses of the run's seed. */
#define ORDER_LABEL 0x6f72646572u
#define WINDOW_LABEL 0x746f6b656e73u

struct file {
    struct gwtf_tokens *tokens;
    char *path;
    uint64_t sequences_before; /* in the files before it */
    uint64_t windows_before;
};

struct gwtf_corpus {
    struct file *files;
    size_t count, room;
    uint32_t context;
    uint64_t sequences, windows;
    struct gwtf_tokens_info info;
    size_t largest; /* file that holds info.largest */
    size_t keeper;  /* the first that keeps its tokenizer's files; SIZE_MAX: none */
};

/* The same, or one does not say which of its kind: "gpt2" and "gpt2:0123456789abcdef". */
static bool is_same_tokenizer(const char *a, const char *b) {
    size_t a_length = strcspn(a, ":"), b_length = strcspn(b, ":");
    if (strcmp(a, b) == 0)
        return true;
    return a_length == b_length && strncmp(a, b, a_length) == 0 &&
           (a[a_length] == '\0' || b[b_length] == '\0');
}

static gwtf_status take_info(struct gwtf_corpus *corpus, const struct gwtf_tokens_info *info,
                             const char *path, struct gwtf_error *error) {
    struct gwtf_tokens_info *all = &corpus->info;
    if (corpus->keeper == SIZE_MAX && info->tokenizer_sha256[0] != '\0')
        corpus->keeper = corpus->count;
    if (corpus->count == 0) {
        *all = *info;
        return GWTF_OK;
    }
    if (!is_same_tokenizer(all->tokenizer, info->tokenizer))
        return gwtf_error_set(
            error, GWTF_ERROR_USAGE,
            "'%.400s' has tokens of '%s', and '%.400s' of '%s': take files of one "
            "tokenizer",
            corpus->files[0].path, all->tokenizer, path, info->tokenizer);
    if (strlen(info->tokenizer) > strlen(all->tokenizer))
        memcpy(all->tokenizer, info->tokenizer, sizeof all->tokenizer);
    all->count += info->count;
    all->vocabulary = info->vocabulary > all->vocabulary ? info->vocabulary : all->vocabulary;
    if (info->largest > all->largest) {
        all->largest = info->largest;
        corpus->largest = corpus->count;
    }
    return GWTF_OK;
}

static gwtf_status add_file(struct gwtf_corpus *corpus, const char *path,
                            struct gwtf_error *error) {
    if (corpus->count == corpus->room) {
        size_t room = corpus->room > 0 ? 2 * corpus->room : 16;
        struct file *files = realloc(corpus->files, room * sizeof *files);
        if (files == NULL)
            return gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for the token files");
        corpus->files = files;
        corpus->room = room;
    }
    struct file file = {.sequences_before = corpus->sequences, .windows_before = corpus->windows};
    gwtf_status status = gwtf_tokens_open(path, &file.tokens, error);
    if (status != GWTF_OK)
        return status;
    struct gwtf_tokens_info info = gwtf_tokens_get_info(file.tokens);
    status = take_info(corpus, &info, path, error);
    if (status == GWTF_OK && (file.path = strdup(path)) == NULL)
        status = gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for the token files");
    if (status != GWTF_OK) {
        gwtf_tokens_close(file.tokens);
        return status;
    }
    corpus->files[corpus->count++] = file;
    corpus->sequences += (info.count - 1) / corpus->context;
    corpus->windows += info.count > corpus->context ? info.count - corpus->context : 0;
    return GWTF_OK;
}

/* One line of the paths. */
static gwtf_status add_line(struct gwtf_corpus *corpus, const char *line,
                            struct gwtf_error *error) {
    if (strpbrk(line, "*?[") == NULL)
        return add_file(corpus, line, error);
    glob_t found;
    int code = glob(line, 0, NULL, &found);
    gwtf_status status = GWTF_OK;
    if (code == GLOB_NOSPACE)
        status = gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for the token files");
    else if (code != 0)
        return gwtf_error_set(error, GWTF_ERROR_MISSING,
                              "no file matches '%.800s': check the pattern", line);
    for (size_t i = 0; i < found.gl_pathc && status == GWTF_OK; i++)
        status = add_file(corpus, found.gl_pathv[i], error);
    globfree(&found);
    return status;
}

gwtf_status gwtf_corpus_open(const char *paths, uint32_t context, struct gwtf_corpus **corpus,
                             struct gwtf_error *error) {
    GWTF_ASSERT(context > 0);
    struct gwtf_corpus *made = calloc(1, sizeof *made);
    char *lines = strdup(paths), *rest = lines;
    gwtf_status status = GWTF_OK;
    if (made == NULL || lines == NULL)
        status = gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for the token files");
    else
        *made = (struct gwtf_corpus){.context = context, .keeper = SIZE_MAX};
    while (status == GWTF_OK && rest != NULL)
        status = add_line(made, strsep(&rest, "\n"), error);
    free(lines);
    if (status == GWTF_OK)
        *corpus = made;
    else
        gwtf_corpus_close(made);
    return status;
}

void gwtf_corpus_close(struct gwtf_corpus *corpus) {
    if (corpus == NULL)
        return;
    for (size_t i = 0; i < corpus->count; i++) {
        gwtf_tokens_close(corpus->files[i].tokens);
        free(corpus->files[i].path);
    }
    free(corpus->files);
    free(corpus);
}

const struct gwtf_tokens_info *gwtf_corpus_get_info(const struct gwtf_corpus *corpus) {
    return &corpus->info;
}

size_t gwtf_corpus_files(const struct gwtf_corpus *corpus) {
    return corpus->count;
}

const char *gwtf_corpus_path(const struct gwtf_corpus *corpus, size_t file) {
    return corpus->files[file].path;
}

const char *gwtf_corpus_path_of_tokenizer(const struct gwtf_corpus *corpus) {
    return corpus->keeper < corpus->count ? corpus->files[corpus->keeper].path : NULL;
}

const char *gwtf_corpus_path_of_largest(const struct gwtf_corpus *corpus) {
    return corpus->files[corpus->largest].path;
}

uint64_t gwtf_corpus_sequences(const struct gwtf_corpus *corpus) {
    return corpus->sequences;
}

static uint64_t before(const struct file *file, bool windows) {
    return windows ? file->windows_before : file->sequences_before;
}

/* The last file that has at most INDEX sequences, or windows, before it. */
static const struct file *find_file(const struct gwtf_corpus *corpus, uint64_t index,
                                    bool windows) {
    size_t low = 0, high = corpus->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (before(&corpus->files[middle], windows) <= index)
            low = middle;
        else
            high = middle;
    }
    return &corpus->files[low];
}

static gwtf_status read_both(const struct file *file, uint64_t start, uint32_t context,
                             uint32_t *inputs, uint32_t *labels) {
    gwtf_status status = gwtf_tokens_read(file->tokens, start, context, inputs);
    if (status == GWTF_OK)
        status = gwtf_tokens_read(file->tokens, start + 1, context, labels);
    return status;
}

gwtf_status gwtf_corpus_read(const struct gwtf_corpus *corpus, enum gwtf_corpus_order order,
                             uint64_t seed, uint64_t place, uint32_t *inputs, uint32_t *labels) {
    GWTF_ASSERT(corpus->sequences > 0 && order != GWTF_CORPUS_RANDOM);
    uint64_t epoch = place / corpus->sequences, index = place % corpus->sequences;
    if (order == GWTF_CORPUS_SHUFFLED) {
        uint64_t key = gwtf_random_key(gwtf_random_key(seed, ORDER_LABEL), epoch);
        index = gwtf_permute(key, corpus->sequences, index);
    }
    const struct file *file = find_file(corpus, index, false);
    uint64_t start = (index - file->sequences_before) * corpus->context;
    return read_both(file, start, corpus->context, inputs, labels);
}

gwtf_status gwtf_corpus_read_random(const struct gwtf_corpus *corpus, uint64_t seed,
                                    uint64_t iteration, uint64_t sequence, uint32_t *inputs,
                                    uint32_t *labels) {
    GWTF_ASSERT(corpus->windows > 0);
    uint64_t key = gwtf_random_key(gwtf_random_key(seed, WINDOW_LABEL), iteration);
    unsigned __int128 wide = gwtf_random_at(key, sequence);
    /* The high half of the product is uniform below the second factor, to 2^-64 of its size. */
    uint64_t window = (uint64_t)(wide * corpus->windows >> 64);
    const struct file *file = find_file(corpus, window, true);
    return read_both(file, window - file->windows_before, corpus->context, inputs, labels);
}
