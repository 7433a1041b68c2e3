#include "io/tokens_write.h"

#include "io/hdf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE_IDS ((size_t)1 << 16)
#define PIECE_BYTES (4 * PIECE_IDS)
/* Room for header, groups and attributes beside the tokens. */
#define HEADER_BYTES 65536

struct gwtf_tokens_new {
    char path[GWTF_FILE_PATH_MAX];
    uint32_t vocabulary, largest;
    uint32_t bytes_per_token;
    uint64_t count;
    int ids; /* the file without name */
    struct gwtf_hdf_new made;
    unsigned char *piece;
};

gwtf_status gwtf_tokens_new_create(const char *path, uint32_t vocabulary,
                                   struct gwtf_tokens_new **made, struct gwtf_error *error) {
    char temporary[GWTF_FILE_PATH_MAX];
    struct gwtf_tokens_new *new = calloc(1, sizeof *new);
    if (new == NULL || strlen(path) >= sizeof new->path) {
        free(new);
        return gwtf_file_error(error, "make", path, new == NULL ? ENOMEM : ENAMETOOLONG);
    }
    memcpy(new->path, path, strlen(path) + 1);
    new->vocabulary = vocabulary;
    new->bytes_per_token = vocabulary <= 1u << 16 ? 2 : 4;
    new->ids = -1;
    new->made = (struct gwtf_hdf_new){.file = -1, .descriptor = -1};
    new->piece = malloc(PIECE_BYTES);
    gwtf_status status = new->piece == NULL
                             ? gwtf_file_error(error, "make", path, ENOMEM)
                             : gwtf_file_temporary(path, temporary, &new->ids, error);
    if (status != GWTF_OK) {
        gwtf_tokens_new_destroy(new);
        return status;
    }
    (void)unlink(temporary);
    *made = new;
    return GWTF_OK;
}

gwtf_status gwtf_tokens_new_add(struct gwtf_tokens_new *made, const uint32_t *ids, size_t count,
                                struct gwtf_error *error) {
    for (size_t done = 0; done < count;) {
        size_t some = count - done < PIECE_IDS ? count - done : PIECE_IDS;
        for (size_t i = 0; i < some; i++) {
            uint32_t id = ids[done + i];
            uint16_t narrow = (uint16_t)id;
            made->largest = id > made->largest ? id : made->largest;
            memcpy(made->piece + i * made->bytes_per_token,
                   made->bytes_per_token == 2 ? (void *)&narrow : (void *)&id,
                   made->bytes_per_token);
        }
        int code = gwtf_file_write_at(made->ids, made->piece, some * made->bytes_per_token,
                                      made->count * made->bytes_per_token);
        if (code != 0)
            return gwtf_file_error(error, "write", made->path, code);
        done += some;
        made->count += some;
    }
    return GWTF_OK;
}

/* The dataset without its tokens. Space is taken early, so that its place is known. */
static gwtf_status lay_out(struct gwtf_tokens_new *made, uint64_t *offset,
                           struct gwtf_error *error) {
    hsize_t count = made->count;
    hid_t space = H5Screate_simple(1, &count, NULL), creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_layout(creation, H5D_CONTIGUOUS);
    H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER);
    hid_t dataset = H5Dcreate2(made->made.file, "tokens",
                               made->bytes_per_token == 2 ? H5T_NATIVE_UINT16 : H5T_NATIVE_UINT32,
                               space, H5P_DEFAULT, creation, H5P_DEFAULT);
    H5Pclose(creation);
    H5Sclose(space);
    haddr_t found = dataset < 0 ? HADDR_UNDEF : H5Dget_offset(dataset);
    if (dataset < 0 || H5Dclose(dataset) < 0 || found == HADDR_UNDEF)
        return gwtf_hdf_error(error, GWTF_ERROR_IO, "write", made->path, NULL);
    *offset = found;
    return GWTF_OK;
}

static gwtf_status copy_ids(struct gwtf_tokens_new *made, uint64_t offset,
                            struct gwtf_error *error) {
    uint64_t all = made->count * made->bytes_per_token;
    if (lseek(made->ids, 0, SEEK_SET) != 0)
        return gwtf_file_error(error, "write", made->path, errno);
    for (uint64_t done = 0; done < all;) {
        int64_t got = gwtf_file_read_some(made->ids, made->piece, PIECE_BYTES);
        int code = got < 0    ? errno
                   : got == 0 ? EIO
                              : gwtf_file_write_at(made->made.descriptor, made->piece, (size_t)got,
                                                   offset + done);
        if (code != 0)
            return gwtf_file_error(error, "write", made->path, code);
        done += (uint64_t)got;
    }
    return GWTF_OK;
}

static gwtf_status write_facts(struct gwtf_tokens_new *made, const struct gwtf_tokens_facts *facts,
                               struct gwtf_error *error) {
    hid_t dataset = H5Dopen2(made->made.file, "tokens", H5P_DEFAULT);
    bool good = dataset >= 0 && gwtf_hdf_write_text(dataset, "tokenizer", facts->tokenizer) &&
                gwtf_hdf_write_number(dataset, "vocabulary", made->vocabulary) &&
                gwtf_hdf_write_number(dataset, "largest", made->largest) &&
                gwtf_hdf_write_text(dataset, "source", facts->source) &&
                gwtf_hdf_write_text(dataset, "sha256", facts->sha256) &&
                (facts->tokenizer_sha256[0] == '\0' ||
                 gwtf_hdf_write_text(dataset, "tokenizer_sha256", facts->tokenizer_sha256));
    if (dataset >= 0 && H5Dclose(dataset) < 0)
        good = false;
    if (!good || !gwtf_hdf_write_kept(made->made.file, facts->kept))
        return gwtf_hdf_error(error, GWTF_ERROR_IO, "write", made->path, NULL);
    return gwtf_hdf_close(&made->made, made->path, error);
}

gwtf_status gwtf_tokens_new_finish(struct gwtf_tokens_new *made,
                                   const struct gwtf_tokens_facts *facts,
                                   struct gwtf_error *error) {
    uint64_t offset = 0, reserve = made->count * made->bytes_per_token + HEADER_BYTES;
    if (made->count == 0)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "'%s' would hold no token: give a text that is not all blanks",
                              made->path);
    reserve += gwtf_hdf_kept_space(facts->kept);
    gwtf_status status = gwtf_hdf_create(made->path, reserve, &made->made, error);
    if (status == GWTF_OK)
        status = lay_out(made, &offset, error);
    if (status == GWTF_OK)
        status = copy_ids(made, offset, error);
    if (status == GWTF_OK)
        status = write_facts(made, facts, error);
    return status;
}

gwtf_status gwtf_tokens_new_publish(struct gwtf_tokens_new *made, struct gwtf_error *error) {
    return gwtf_hdf_publish(&made->made, made->path, error);
}

void gwtf_tokens_new_destroy(struct gwtf_tokens_new *made) {
    if (made == NULL)
        return;
    gwtf_hdf_abandon(&made->made);
    if (made->ids >= 0)
        close(made->ids);
    free(made->piece);
    free(made);
}
