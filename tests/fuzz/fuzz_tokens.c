/* A token file that is damaged, of HDF5 or a shard of llm.c: it is refused with one line, or read.
 */
#include "io/corpus.h"
#include "share/base/assert.h"
#include "tests/support/temporary.h"

#include <stdint.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CONTEXT 16

static void use(const struct gwtf_corpus *corpus) {
    uint32_t inputs[CONTEXT], labels[CONTEXT];
    uint64_t sequences = gwtf_corpus_sequences(corpus);
    const struct gwtf_tokens_info *info = gwtf_corpus_get_info(corpus);
    for (uint64_t place = 0; place < sequences && place < 100; place++) {
        if (gwtf_corpus_read(corpus, GWTF_CORPUS_SHUFFLED, 1, place, inputs, labels) != GWTF_OK)
            continue;
        for (size_t i = 0; i < CONTEXT; i++)
            GWTF_ASSERT(inputs[i] <= info->largest && info->largest < info->vocabulary);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char path[64];
    struct gwtf_corpus *corpus = NULL;
    struct gwtf_error error = {""};
    /* A file in memory, which ends with the process. */
    static int descriptor = -1;
    if (descriptor < 0) {
        descriptor = memfd_create("damaged", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    }
    GWTF_ASSERT(ftruncate(descriptor, 0) == 0);
    GWTF_ASSERT(pwrite(descriptor, data, size, 0) == (ssize_t)size);
    gwtf_status status = gwtf_corpus_open(path, CONTEXT, &corpus, &error);
    if (status == GWTF_OK) {
        use(corpus);
        gwtf_corpus_close(corpus);
    } else {
        GWTF_ASSERT(strstr(error.text, path) != NULL && strchr(error.text, '\n') == NULL);
    }
    return 0;
}
