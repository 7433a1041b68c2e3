#include "io/tokens_shard.h"

#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_NUMBERS 256

static const struct format {
    int32_t magic, version;
    uint32_t bytes_per_token, vocabulary;
    const char *tokenizer;
} formats[] = {{20240520, 1, 2, 50257, "gpt2"}, {20240801, 7, 4, 128256, "llama3"}};

static const struct format *format_of(int32_t magic) {
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (formats[i].magic == magic)
            return &formats[i];
    return NULL;
}

static gwtf_status check(const char *path, const struct format *format, const int32_t *header,
                         int64_t header_bytes, uint64_t size, struct gwtf_error *error) {
    uint64_t whole = HEADER_NUMBERS * sizeof *header;
    if (header_bytes < (int64_t)whole)
        return gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                              "'%s' is a shard that ends inside its header: get it anew", path);
    if (header[1] != format->version)
        return gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                              "'%s' is a shard of version %d, and only %d can be read: make it "
                              "with another version of llm.c",
                              path, (int)header[1], (int)format->version);
    if (header[2] <= 0)
        return gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                              "'%s' is a shard of %d tokens: get it anew", path, (int)header[2]);
    uint64_t wanted = whole + (uint64_t)header[2] * format->bytes_per_token;
    if (size != wanted)
        return gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                              "'%s' is a shard of %d tokens, and has %llu bytes where they need "
                              "%llu: get it anew",
                              path, (int)header[2], (unsigned long long)size,
                              (unsigned long long)wanted);
    return GWTF_OK;
}

gwtf_status gwtf_tokens_shard_read(const char *path, bool *is_shard, struct gwtf_tokens_info *info,
                                   uint64_t *offset, struct gwtf_error *error) {
    int32_t header[HEADER_NUMBERS] = {0};
    struct stat facts;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return gwtf_file_error(error, "open", path, errno);
    *is_shard = false;
    /* What is no file is for others to refuse. */
    if (fstat(descriptor, &facts) != 0 || !S_ISREG(facts.st_mode)) {
        close(descriptor);
        return GWTF_OK;
    }
    int64_t got = gwtf_file_read_some(descriptor, header, sizeof header);
    int code = errno;
    close(descriptor);
    if (got < 0)
        return gwtf_file_error(error, "read", path, code);
    const struct format *format = got >= 4 ? format_of(header[0]) : NULL;
    if (format == NULL)
        return GWTF_OK;
    gwtf_status status = check(path, format, header, got, (uint64_t)facts.st_size, error);
    if (status != GWTF_OK)
        return status;
    *is_shard = true;
    *info = (struct gwtf_tokens_info){.count = (uint64_t)header[2],
                                      .vocabulary = format->vocabulary,
                                      .largest = UINT32_MAX,
                                      .bytes_per_token = format->bytes_per_token};
    snprintf(info->tokenizer, sizeof info->tokenizer, "%s", format->tokenizer);
    snprintf(info->source, sizeof info->source, "%s", path);
    *offset = sizeof header;
    return GWTF_OK;
}
