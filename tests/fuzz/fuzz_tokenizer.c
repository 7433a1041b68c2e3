/*
 * A tokenizer's file that is damaged, beside others that are whole: it is refused with one line, or
 * it is a tokenizer, which encodes and decodes.
 */
#include "io/tokenizer/tokenizer.h"
#include "share/base/assert.h"
#include "tests/support/temporary.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char text[] = "In the beginning God created 123 \xd0\xbc\xd0\xb8\xd1\x80's  \xff\xfe "
                           "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n";

#if defined(GWTF_FUZZ_vocabulary) || defined(GWTF_FUZZ_merges)
static struct gwtf_kept_file whole_file(const char *name) {
    char relative[128];
    struct gwtf_kept_file file = {.name = name};
    snprintf(relative, sizeof relative, "../oracle/fixtures/tokenizer/%s", name);
    file.bytes = temporary_read(temporary_below(GWTF_TEST_SOURCE_DIR, relative), &file.size_bytes);
    GWTF_ASSERT(file.bytes != NULL);
    return file;
}
#endif

static size_t files_with(const uint8_t *data, size_t size, struct gwtf_kept_file *files) {
    struct gwtf_kept_file damaged = {.bytes = (const char *)data, .size_bytes = size};
#if defined(GWTF_FUZZ_vocabulary)
    static struct gwtf_kept_file merges;
    if (merges.bytes == NULL)
        merges = whole_file("merges.txt");
    damaged.name = "vocab.json";
    files[0] = damaged;
    files[1] = merges;
    return 2;
#elif defined(GWTF_FUZZ_merges)
    static struct gwtf_kept_file vocabulary;
    if (vocabulary.bytes == NULL)
        vocabulary = whole_file("vocab.json");
    damaged.name = "merges.txt";
    files[0] = vocabulary;
    files[1] = damaged;
    return 2;
#elif defined(GWTF_FUZZ_whole)
    damaged.name = "tokenizer.json";
    files[0] = damaged;
    return 1;
#else
    damaged.name = "tokenizer.model";
    files[0] = damaged;
    return 1;
#endif
}

static void use(const struct gwtf_tokenizer *tokenizer) {
    struct gwtf_encoder *encoder = gwtf_encoder_create(tokenizer);
    struct gwtf_token_list list = {0};
    struct gwtf_error error;
    char *decoded = NULL;
    size_t decoded_size = 0, size;
    GWTF_ASSERT(encoder != NULL);
    if (gwtf_encoder_encode(encoder, text, sizeof text - 1, false, &list, &error) == GWTF_OK) {
        for (size_t i = 0; i < list.count; i++)
            GWTF_ASSERT(list.ids[i] < gwtf_tokenizer_get_info(tokenizer)->vocabulary);
        GWTF_ASSERT(gwtf_tokenizer_decode(tokenizer, list.ids, list.count, &decoded,
                                          &decoded_size) == GWTF_OK);
#if !defined(GWTF_FUZZ_sentencepiece)
        GWTF_ASSERT(decoded_size == sizeof text - 1 && memcmp(decoded, text, decoded_size) == 0);
#endif
        free(decoded);
    }
    gwtf_tokenizer_piece(tokenizer, UINT32_MAX, &size);
    GWTF_ASSERT(size == 0);
    free(list.ids);
    gwtf_encoder_destroy(encoder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct gwtf_kept_file files[GWTF_KEPT_MOST];
    size_t count = files_with(data, size, files);
    struct gwtf_tokenizer *tokenizer = NULL;
    struct gwtf_error error = {""};
    gwtf_status status = gwtf_tokenizer_parse("damaged", files, count, &tokenizer, &error);
    if (status == GWTF_OK) {
        use(tokenizer);
        gwtf_tokenizer_close(tokenizer);
    } else {
        GWTF_ASSERT(status == GWTF_ERROR_USAGE || status == GWTF_ERROR_UNSUPPORTED);
        GWTF_ASSERT(strstr(error.text, "damaged") != NULL && strchr(error.text, '\n') == NULL);
    }
    return 0;
}
