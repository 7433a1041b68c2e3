#include "io/tokens.h"

#include "io/hdf.h"
#include "io/tokens_shard.h"
#include "share/base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of a file that does not say its largest token: 32 Mi of them are searched at most. */
#define SEARCHED_PIECES ((uint64_t)512)
#define SEARCHED_TOKENS ((uint64_t)1 << 16)

struct gwtf_tokens {
    struct gwtf_tokens_info info;
    void *map;
    size_t map_bytes;
    const unsigned char *ids; /* in MAP; aligned to nothing in particular */
};

static gwtf_status corrupt(struct gwtf_error *error, const char *path, const char *what) {
    return gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                          "'%s' is not a whole token file: %s: make it again with gwtf tokenize",
                          path, what);
}

/* Type, shape and place of the dataset. */
static gwtf_status read_dataset(hid_t dataset, const char *path, struct gwtf_tokens_info *info,
                                uint64_t *offset, struct gwtf_error *error) {
    hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
    hid_t creation = H5Dget_create_plist(dataset);
    hsize_t count = 0;
    const char *what = NULL;
    if (type < 0 || space < 0 || creation < 0)
        what = "/tokens cannot be read";
    else if (H5Tequal(type, H5T_NATIVE_UINT16) > 0)
        info->bytes_per_token = 2;
    else if (H5Tequal(type, H5T_NATIVE_UINT32) > 0)
        info->bytes_per_token = 4;
    else
        what = "/tokens is neither uint16 nor uint32 in this machine's byte order";
    if (what == NULL && H5Sget_simple_extent_ndims(space) != 1)
        what = "/tokens has not one dimension";
    else if (what == NULL && H5Sget_simple_extent_dims(space, &count, NULL) != 1)
        what = "/tokens has no length";
    if (what == NULL && H5Pget_layout(creation) != H5D_CONTIGUOUS)
        what = "/tokens lies in chunks, and must be contiguous (h5repack -l tokens:CONTI does it)";
    haddr_t found = what == NULL ? H5Dget_offset(dataset) : HADDR_UNDEF;
    if (what == NULL && (count == 0 || found == HADDR_UNDEF))
        what = "/tokens is empty";
    if (creation >= 0)
        H5Pclose(creation);
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    if (what != NULL)
        return corrupt(error, path, what);
    info->count = count;
    *offset = found;
    return GWTF_OK;
}

/* LARGEST is set to UINT32_MAX when the file does not say it. */
static gwtf_status read_attributes(hid_t dataset, const char *path, struct gwtf_tokens_info *info,
                                   struct gwtf_error *error) {
    uint64_t vocabulary = 0, largest = UINT32_MAX;
    if (!gwtf_hdf_read_text(dataset, "tokenizer", info->tokenizer, sizeof info->tokenizer))
        return corrupt(error, path, "the attribute tokenizer of /tokens is missing");
    if (!gwtf_hdf_read_text(dataset, "source", info->source, sizeof info->source))
        return corrupt(error, path, "the attribute source of /tokens is missing");
    if (!gwtf_hdf_read_text(dataset, "sha256", info->sha256, sizeof info->sha256))
        return corrupt(error, path, "the attribute sha256 of /tokens is missing");
    if (!gwtf_hdf_read_number(dataset, "vocabulary", &vocabulary))
        return corrupt(error, path, "the attribute vocabulary of /tokens is missing");
    if (vocabulary < 1 || vocabulary > UINT32_MAX)
        return corrupt(error, path, "its vocabulary is out of range");
    if (!gwtf_hdf_read_text(dataset, "tokenizer_sha256", info->tokenizer_sha256,
                            sizeof info->tokenizer_sha256))
        info->tokenizer_sha256[0] = '\0';
    gwtf_hdf_read_number(dataset, "largest", &largest);
    if (largest != UINT32_MAX && largest >= vocabulary)
        return corrupt(error, path, "its largest token is not below its vocabulary");
    info->vocabulary = (uint32_t)vocabulary;
    info->largest = (uint32_t)largest;
    return GWTF_OK;
}

/* All that the HDF5 library is needed for. */
static gwtf_status read_header(const char *path, struct gwtf_tokens_info *info, uint64_t *offset,
                               struct gwtf_error *error) {
    hid_t file;
    gwtf_status status = gwtf_hdf_open(path, &file, error);
    if (status != GWTF_OK)
        return status;
    hid_t dataset =
        H5Lexists(file, "tokens", H5P_DEFAULT) > 0 ? H5Dopen2(file, "tokens", H5P_DEFAULT) : -1;
    if (dataset < 0) {
        status = corrupt(error, path, "there is no dataset /tokens");
    } else {
        status = read_dataset(dataset, path, info, offset, error);
        if (status == GWTF_OK)
            status = read_attributes(dataset, path, info, error);
        H5Dclose(dataset);
    }
    H5Fclose(file);
    return status;
}

static gwtf_status map_file(struct gwtf_tokens *tokens, const char *path, uint64_t offset,
                            struct gwtf_error *error) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return gwtf_file_error(error, "open", path, errno);
    struct stat facts;
    gwtf_status status = GWTF_OK;
    uint64_t size = 0, bytes = 0;
    if (fstat(descriptor, &facts) != 0)
        status = gwtf_file_error(error, "read", path, errno);
    else
        size = (uint64_t)facts.st_size;
    if (status == GWTF_OK &&
        (__builtin_mul_overflow(tokens->info.count, tokens->info.bytes_per_token, &bytes) ||
         offset > size || bytes > size - offset))
        status = corrupt(error, path, "it is shorter than its header says");
    if (status == GWTF_OK) {
        tokens->map = mmap(NULL, size, PROT_READ, MAP_SHARED, descriptor, 0);
        if (tokens->map == MAP_FAILED)
            status = gwtf_file_error(error, "map", path, errno);
        else
            tokens->map_bytes = size;
    }
    close(descriptor);
    if (status == GWTF_OK)
        tokens->ids = (const unsigned char *)tokens->map + offset;
    return status;
}

/* No check: callers stay inside the file. */
static uint32_t id_at(const struct gwtf_tokens *tokens, uint64_t place) {
    if (tokens->info.bytes_per_token == 2) {
        uint16_t id;
        memcpy(&id, tokens->ids + 2 * place, sizeof id);
        return id;
    }
    uint32_t id;
    memcpy(&id, tokens->ids + 4 * place, sizeof id);
    return id;
}

static uint32_t largest_of(const struct gwtf_tokens *tokens, uint64_t start, uint64_t count) {
    uint32_t largest = 0;
    for (uint64_t i = start; i < start + count; i++) {
        uint32_t id = id_at(tokens, i);
        largest = id > largest ? id : largest;
    }
    return largest;
}

/*
 * A file of another program may not say its largest token: find it. Of a large one so much is
 * looked at, evenly spread and up to its end, as is soon read; then the vocabulary's last id is
 * taken for the largest, and what is beyond it is found when it is read.
 */
static gwtf_status find_largest(struct gwtf_tokens *tokens, const char *path,
                                struct gwtf_error *error) {
    uint64_t count = tokens->info.count;
    if (tokens->info.largest != UINT32_MAX)
        return GWTF_OK;
    bool all = count <= SEARCHED_PIECES * SEARCHED_TOKENS;
    uint32_t largest = all ? largest_of(tokens, 0, count) : 0;
    for (uint64_t piece = 0; piece < SEARCHED_PIECES && !all; piece++) {
        uint64_t start = (count - SEARCHED_TOKENS) / (SEARCHED_PIECES - 1) * piece;
        if (piece == SEARCHED_PIECES - 1)
            start = count - SEARCHED_TOKENS;
        uint32_t found = largest_of(tokens, start, SEARCHED_TOKENS);
        largest = found > largest ? found : largest;
    }
    tokens->info.largest = all ? largest : tokens->info.vocabulary - 1;
    if (largest < tokens->info.vocabulary)
        return GWTF_OK;
    return corrupt(error, path, "a token is not below its vocabulary");
}

gwtf_status gwtf_tokens_open(const char *path, struct gwtf_tokens **tokens,
                             struct gwtf_error *error) {
    struct gwtf_tokens *opened = calloc(1, sizeof *opened);
    if (opened == NULL)
        return gwtf_file_error(error, "open", path, ENOMEM);
    uint64_t offset = 0;
    bool is_shard = false;
    gwtf_status status = gwtf_tokens_shard_read(path, &is_shard, &opened->info, &offset, error);
    if (status == GWTF_OK && !is_shard)
        status = read_header(path, &opened->info, &offset, error);
    if (status == GWTF_OK)
        status = map_file(opened, path, offset, error);
    if (status == GWTF_OK)
        status = find_largest(opened, path, error);
    if (status == GWTF_OK)
        *tokens = opened;
    else
        gwtf_tokens_close(opened);
    return status;
}

void gwtf_tokens_close(struct gwtf_tokens *tokens) {
    if (tokens == NULL)
        return;
    if (tokens->map_bytes > 0)
        munmap(tokens->map, tokens->map_bytes);
    free(tokens);
}

struct gwtf_tokens_info gwtf_tokens_get_info(const struct gwtf_tokens *tokens) {
    return tokens->info;
}

gwtf_status gwtf_tokens_read(const struct gwtf_tokens *tokens, uint64_t start, uint64_t count,
                             uint32_t *ids) {
    GWTF_ASSERT(start <= tokens->info.count && count <= tokens->info.count - start);
    uint32_t largest = 0;
    for (uint64_t i = 0; i < count; i++) {
        ids[i] = id_at(tokens, start + i);
        largest = ids[i] > largest ? ids[i] : largest;
    }
    return largest <= tokens->info.largest ? GWTF_OK : GWTF_ERROR_CORRUPT;
}

uint64_t gwtf_tokens_validation_count(const struct gwtf_tokens *tokens, uint64_t requested,
                                      uint32_t context) {
    GWTF_ASSERT(context > 0);
    uint64_t fit = (tokens->info.count - 1) / context;
    return requested == 0 || requested > fit ? fit : requested;
}

uint64_t gwtf_tokens_validation_start(const struct gwtf_tokens *tokens, uint64_t index,
                                      uint64_t count, uint32_t context) {
    GWTF_ASSERT(index < count && count <= gwtf_tokens_validation_count(tokens, 0, context));
    uint64_t slack = tokens->info.count - 1 - count * context;
    return index * context + (uint64_t)((unsigned __int128)slack * index / count);
}
