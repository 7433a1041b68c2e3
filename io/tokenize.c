#include "io/tokens.h"

#include "io/hdf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES ((size_t)1 << 18)
#define VOCABULARY 256
/* Room for header, group and attributes beside the tokens. */
#define HEADER_BYTES 65536

/* A token file in the making: HDF5 lays it out, the tokens are written at the dataset's place. */
struct output {
    const char *path;
    uint64_t count;
    uint64_t done;
    uint64_t offset;
    uint32_t largest;
    struct gwtf_hdf_new made;
};

struct work {
    const struct gwtf_tokenize_options *options;
    int input;
    uint64_t all_bytes;
    struct output outputs[2]; /* train, validation */
    size_t outputs_count;
    unsigned char *piece;
    uint16_t *ids;
    char sha256[GWTF_FILE_SHA256_MAX];
};

/* The dataset without its tokens. Space is taken early, so that its place is known. */
static gwtf_status lay_out(struct output *output, struct gwtf_error *error) {
    gwtf_status status =
        gwtf_hdf_create(output->path, 2 * output->count + HEADER_BYTES, &output->made, error);
    if (status != GWTF_OK)
        return status;
    hsize_t count = output->count;
    hid_t space = H5Screate_simple(1, &count, NULL), creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_layout(creation, H5D_CONTIGUOUS);
    H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER);
    hid_t dataset = H5Dcreate2(output->made.file, "tokens", H5T_NATIVE_UINT16, space, H5P_DEFAULT,
                               creation, H5P_DEFAULT);
    H5Pclose(creation);
    H5Sclose(space);
    haddr_t offset = dataset < 0 ? HADDR_UNDEF : H5Dget_offset(dataset);
    if (dataset < 0 || H5Dclose(dataset) < 0 || offset == HADDR_UNDEF)
        return gwtf_hdf_error(error, GWTF_ERROR_IO, "write", output->path, NULL);
    output->offset = offset;
    return GWTF_OK;
}

static gwtf_status write_attributes(struct work *work, struct output *output,
                                    struct gwtf_error *error) {
    char source[sizeof((struct gwtf_tokens_info *)0)->source];
    snprintf(source, sizeof source, "%s", work->options->input);
    hid_t dataset = H5Dopen2(output->made.file, "tokens", H5P_DEFAULT);
    bool good = dataset >= 0 && gwtf_hdf_write_text(dataset, "tokenizer", "bytes") &&
                gwtf_hdf_write_number(dataset, "vocabulary", VOCABULARY) &&
                gwtf_hdf_write_number(dataset, "largest", output->largest) &&
                gwtf_hdf_write_text(dataset, "source", source) &&
                gwtf_hdf_write_text(dataset, "sha256", work->sha256);
    if (dataset >= 0 && H5Dclose(dataset) < 0)
        good = false;
    if (!good)
        return gwtf_hdf_error(error, GWTF_ERROR_IO, "write", output->path, NULL);
    return gwtf_hdf_close(&output->made, output->path, error);
}

/* Bytes BYTES[0..COUNT) of the text, which belong to OUTPUT. */
static gwtf_status write_tokens(struct work *work, struct output *output,
                                const unsigned char *bytes, size_t count,
                                struct gwtf_error *error) {
    for (size_t i = 0; i < count; i++) {
        work->ids[i] = bytes[i];
        output->largest = bytes[i] > output->largest ? bytes[i] : output->largest;
    }
    int code = gwtf_file_write_at(output->made.descriptor, work->ids, 2 * count,
                                  output->offset + 2 * output->done);
    if (code != 0)
        return gwtf_file_error(error, "write", output->path, code);
    output->done += count;
    return GWTF_OK;
}

/* Reads the text once: hashes it, and spreads it over the outputs. */
static gwtf_status convert(struct work *work, struct gwtf_sha256 *sha256,
                           struct gwtf_error *error) {
    const char *input = work->options->input;
    size_t at = 0;
    uint64_t done = 0;
    while (done < work->all_bytes) {
        int64_t got = gwtf_file_read_some(work->input, work->piece, PIECE_BYTES);
        if (got < 0)
            return gwtf_file_error(error, "read", input, errno);
        if (got == 0 || done + (uint64_t)got > work->all_bytes)
            return gwtf_error_set(error, GWTF_ERROR_IO,
                                  "'%s' changed while it was read: wait until it is complete, and "
                                  "start again",
                                  input);
        gwtf_sha256_add(sha256, work->piece, (size_t)got);
        for (size_t used = 0; used < (size_t)got;) {
            struct output *output = &work->outputs[at];
            uint64_t room = output->count - output->done;
            size_t count = (size_t)got - used < room ? (size_t)got - used : (size_t)room;
            gwtf_status status = write_tokens(work, output, work->piece + used, count, error);
            if (status != GWTF_OK)
                return status;
            used += count;
            at += output->done == output->count && at + 1 < work->outputs_count;
        }
        done += (uint64_t)got;
        if (work->options->progress != NULL)
            work->options->progress(work->options->progress_context, done, work->all_bytes);
    }
    return GWTF_OK;
}

static gwtf_status write_outputs(struct work *work, struct gwtf_error *error) {
    gwtf_status status = GWTF_OK;
    for (size_t i = 0; i < work->outputs_count && status == GWTF_OK; i++)
        status = lay_out(&work->outputs[i], error);
    struct gwtf_sha256 *sha256 = status == GWTF_OK ? gwtf_sha256_create() : NULL;
    if (status == GWTF_OK && sha256 == NULL)
        status = gwtf_file_error(error, "read", work->options->input, ENOMEM);
    if (status == GWTF_OK)
        status = convert(work, sha256, error);
    if (sha256 != NULL)
        gwtf_sha256_finish(sha256, work->sha256);
    for (size_t i = 0; i < work->outputs_count && status == GWTF_OK; i++)
        status = write_attributes(work, &work->outputs[i], error);
    for (size_t i = 0; i < work->outputs_count && status == GWTF_OK; i++)
        status = gwtf_hdf_publish(&work->outputs[i].made, work->outputs[i].path, error);
    for (size_t i = 0; i < work->outputs_count; i++)
        gwtf_hdf_abandon(&work->outputs[i].made);
    return status;
}

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
    uint64_t validation = (uint64_t)((double)work->all_bytes * options->validation_share);
    if (options->validation_share > 0 && (validation == 0 || validation >= work->all_bytes))
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "'%s' has %llu bytes, too few for a validation share of %g: give a "
                              "longer text or another share",
                              options->input, (unsigned long long)work->all_bytes,
                              options->validation_share);
    work->outputs_count = validation > 0 ? 2 : 1;
    work->outputs[0] = (struct output){.path = options->output,
                                       .count = work->all_bytes - validation,
                                       .made = {.file = -1, .descriptor = -1}};
    work->outputs[1] = (struct output){.path = options->validation_output,
                                       .count = validation,
                                       .made = {.file = -1, .descriptor = -1}};
    return GWTF_OK;
}

gwtf_status gwtf_tokenize_bytes(const struct gwtf_tokenize_options *options,
                                struct gwtf_error *error) {
    gwtf_status status = check_options(options, error);
    if (status != GWTF_OK)
        return status;
    struct work work = {.options = options, .input = open(options->input, O_RDONLY | O_CLOEXEC)};
    if (work.input < 0)
        return gwtf_file_error(error, "open", options->input, errno);
    struct stat facts;
    if (fstat(work.input, &facts) != 0)
        status = gwtf_file_error(error, "read", options->input, errno);
    else
        status = divide(&work, &facts, error);
    if (status == GWTF_OK) {
        work.piece = malloc(PIECE_BYTES);
        work.ids = malloc(PIECE_BYTES * sizeof *work.ids);
        if (work.piece == NULL || work.ids == NULL)
            status = gwtf_file_error(error, "read", options->input, ENOMEM);
        else
            status = write_outputs(&work, error);
        free(work.piece);
        free(work.ids);
    }
    close(work.input);
    return status;
}
