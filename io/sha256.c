#include "io/file.h"

#include "share/base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PIECE_BYTES ((size_t)1 << 18)

struct gwtf_sha256 {
    EVP_MD_CTX *context;
};

struct gwtf_sha256 *gwtf_sha256_create(void) {
    struct gwtf_sha256 *sha256 = malloc(sizeof *sha256);
    if (sha256 == NULL)
        return NULL;
    sha256->context = EVP_MD_CTX_new();
    if (sha256->context == NULL || EVP_DigestInit_ex(sha256->context, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(sha256->context);
        free(sha256);
        return NULL;
    }
    return sha256;
}

void gwtf_sha256_add(struct gwtf_sha256 *sha256, const void *bytes, size_t size_bytes) {
    GWTF_ASSERT(EVP_DigestUpdate(sha256->context, bytes, size_bytes) == 1);
}

void gwtf_sha256_finish(struct gwtf_sha256 *sha256, char text[GWTF_FILE_SHA256_MAX]) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    GWTF_ASSERT(EVP_DigestFinal_ex(sha256->context, digest, &size) == 1 && size == 32);
    for (unsigned int i = 0; i < size; i++)
        snprintf(text + 2 * i, 3, "%02x", (unsigned)digest[i]);
    EVP_MD_CTX_free(sha256->context);
    free(sha256);
}

gwtf_status gwtf_file_sha256(const char *path, uint64_t *size_bytes,
                             char sha256[GWTF_FILE_SHA256_MAX], struct gwtf_error *error) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return gwtf_file_error(error, "open", path, errno);
    unsigned char *piece = malloc(PIECE_BYTES);
    struct gwtf_sha256 *running = gwtf_sha256_create();
    gwtf_status status = GWTF_OK;
    uint64_t size = 0;
    char text[GWTF_FILE_SHA256_MAX];
    if (piece == NULL || running == NULL)
        status = gwtf_file_error(error, "read", path, ENOMEM);
    while (status == GWTF_OK) {
        int64_t got = gwtf_file_read_some(descriptor, piece, PIECE_BYTES);
        if (got < 0)
            status = gwtf_file_error(error, "read", path, errno);
        if (got <= 0)
            break;
        gwtf_sha256_add(running, piece, (size_t)got);
        size += (uint64_t)got;
    }
    if (running != NULL)
        gwtf_sha256_finish(running, text);
    free(piece);
    close(descriptor);
    if (status != GWTF_OK)
        return status;
    *size_bytes = size;
    snprintf(sha256, GWTF_FILE_SHA256_MAX, "%s", text);
    return GWTF_OK;
}
