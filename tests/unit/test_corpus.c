#include "io/corpus.h"
#include "io/tokenizer/tokenize.h"
#include "share/base/permute.h"
#include "share/base/random.h"
#include "tests/support/refusal.h"
#include "tests/support/suite.h"
#include "tests/support/temporary.h"

static struct gwtf_error error;

#define CONTEXT 4

/* --- Files. --- */

/* A shard of llm.c: MAGIC, VERSION and COUNT in its header, then SIZE bytes of tokens. */
static const char *shard(const char *name, int32_t magic, int32_t version, int32_t count,
                         const void *tokens, size_t size) {
    static char bytes[1 << 16];
    int32_t header[256] = {magic, version, count};
    const char *path = temporary_path(name);
    CU_ASSERT_FATAL(sizeof header + size <= sizeof bytes);
    memcpy(bytes, header, sizeof header);
    memcpy(bytes + sizeof header, tokens, size);
    CU_ASSERT_TRUE_FATAL(temporary_write(path, bytes, sizeof header + size));
    return path;
}

/* COUNT tokens of GPT-2 that count from FIRST on. */
static const char *counting(const char *name, uint16_t first, uint16_t count) {
    uint16_t tokens[4096];
    for (uint16_t i = 0; i < count; i++)
        tokens[i] = (uint16_t)(first + i);
    return shard(name, 20240520, 1, count, tokens, 2u * count);
}

static struct gwtf_corpus *open_corpus(const char *paths, uint32_t context) {
    struct gwtf_corpus *corpus = NULL;
    gwtf_status status = gwtf_corpus_open(paths, context, &corpus, &error);
    if (status != GWTF_OK)
        printf("\n%s\n", error.text);
    CU_ASSERT_EQUAL_FATAL(status, GWTF_OK);
    return corpus;
}

static void expect_refused(const char *paths, const char *expected) {
    struct gwtf_corpus *corpus = NULL;
    CU_ASSERT_NOT_EQUAL(gwtf_corpus_open(paths, CONTEXT, &corpus, &error), GWTF_OK);
    refusal_expect(error.text, expected);
    CU_ASSERT_PTR_NULL(corpus);
}

/* --- Tests. --- */

static void a_permutation_has_each_index_once(void) {
    for (uint64_t size = 1; size < 300; size++) {
        for (uint64_t key = 0; key < 20; key++) {
            unsigned char seen[300] = {0};
            for (uint64_t i = 0; i < size; i++)
                seen[gwtf_permute(key, size, i)]++;
            for (uint64_t i = 0; i < size; i++)
                CU_ASSERT_FATAL(seen[i] == 1);
        }
    }
}

/* Where an index goes, over many keys: uniform, as of a shuffled deck. */
static void a_permutation_puts_each_index_anywhere(void) {
    enum { SIZE = 10, KEYS = 20000 };
    int counts[SIZE][SIZE] = {{0}};
    for (uint64_t key = 0; key < KEYS; key++)
        for (uint64_t i = 0; i < SIZE; i++)
            counts[i][gwtf_permute(gwtf_random_key(key, 1), SIZE, i)]++;
    /* 2,000 expected each, standard deviation 42: six of them. */
    for (int i = 0; i < SIZE; i++)
        for (int j = 0; j < SIZE; j++)
            CU_ASSERT(counts[i][j] > 1746 && counts[i][j] < 2254);
    uint64_t large = (uint64_t)1 << 40, apart = 0;
    for (uint64_t i = 0; i < 1000; i++)
        apart +=
            gwtf_permute(7, large, i) / (large / 4) != gwtf_permute(7, large, i + 1) / (large / 4);
    /* Neighbours lie in different quarters three times out of four: 750, standard deviation 14. */
    CU_ASSERT(apart > 666 && apart < 834);
}

static void shards_are_read_as_they_are(void) {
    uint32_t inputs[CONTEXT], labels[CONTEXT];
    struct gwtf_corpus *corpus = open_corpus(counting("one.bin", 100, 10), CONTEXT);
    const struct gwtf_tokens_info *info = gwtf_corpus_get_info(corpus);
    CU_ASSERT_EQUAL(info->count, 10);
    CU_ASSERT_EQUAL(info->vocabulary, 50257);
    CU_ASSERT_EQUAL(info->largest, 109);
    CU_ASSERT_STRING_EQUAL(info->tokenizer, "gpt2");
    CU_ASSERT_EQUAL(gwtf_corpus_sequences(corpus), 2);
    CU_ASSERT_EQUAL(gwtf_corpus_read(corpus, GWTF_CORPUS_SEQUENTIAL, 1, 3, inputs, labels),
                    GWTF_OK);
    CU_ASSERT(inputs[0] == 104 && inputs[3] == 107 && labels[0] == 105 && labels[3] == 108);
    gwtf_corpus_close(corpus);
    const uint32_t wide[] = {1, 128255, 70000, 3, 4};
    corpus = open_corpus(shard("llama.bin", 20240801, 7, 5, wide, sizeof wide), CONTEXT);
    info = gwtf_corpus_get_info(corpus);
    CU_ASSERT(info->vocabulary == 128256 && info->largest == 128255);
    CU_ASSERT_STRING_EQUAL(info->tokenizer, "llama3");
    CU_ASSERT_EQUAL(gwtf_corpus_read(corpus, GWTF_CORPUS_SEQUENTIAL, 1, 0, inputs, labels),
                    GWTF_OK);
    CU_ASSERT(inputs[1] == 128255 && labels[1] == 70000);
    gwtf_corpus_close(corpus);
}

static void shards_that_are_cut_or_damaged_are_refused(void) {
    const uint16_t tokens[] = {1, 2, 3, 4, 5, 6, 50257, 8};
    const char *good = shard("good.bin", 20240520, 1, 6, tokens, 12);
    struct gwtf_corpus *corpus = open_corpus(good, CONTEXT);
    gwtf_corpus_close(corpus);
    size_t size = 0;
    char *bytes = temporary_read(good, &size);
    const char *cut = temporary_path("cut.bin");
    for (size_t length = 0; length < size; length += length < 1000 ? 37 : 1) {
        CU_ASSERT_TRUE_FATAL(temporary_write(cut, bytes, length));
        expect_refused(cut, length < 4      ? "not an HDF5 file"
                            : length < 1024 ? "ends inside its header"
                                            : "is a shard of 6 tokens, and has");
    }
    free(bytes);
    expect_refused(shard("v2.bin", 20240520, 2, 6, tokens, 12), "of version 2, and only 1");
    expect_refused(shard("v1.bin", 20240801, 1, 3, tokens, 12), "of version 1, and only 7");
    expect_refused(shard("none.bin", 20240520, 1, 0, tokens, 0), "is a shard of 0 tokens");
    expect_refused(shard("less.bin", 20240520, 1, -5, tokens, 12), "is a shard of -5 tokens");
    expect_refused(shard("more.bin", 20240520, 1, 5, tokens, 12),
                   "is a shard of 5 tokens, and has");
    expect_refused(shard("range.bin", 20240520, 1, 8, tokens, 16), "a token is not below");
    expect_refused(shard("magic.bin", 20240519, 1, 6, tokens, 12), "not an HDF5 file");
}

static void many_files_are_one_corpus(void) {
    char paths[4096];
    struct gwtf_tokenize_options options = {.input = temporary_path("text"),
                                            .output = temporary_path("bytes.h5")};
    mkdir(temporary_path("shards"), 0777);
    counting("shards/b.bin", 200, 9);
    counting("shards/a.bin", 100, 14);
    counting("shards/c.bin", 300, 3); /* too short for a sequence */
    snprintf(paths, sizeof paths, "%s\n%s", temporary_path("shards/[ac].bin"),
             temporary_path("shards/b.bin"));
    struct gwtf_corpus *corpus = open_corpus(paths, CONTEXT);
    CU_ASSERT_EQUAL(gwtf_corpus_files(corpus), 3);
    CU_ASSERT_PTR_NOT_NULL(strstr(gwtf_corpus_path(corpus, 0), "shards/a.bin"));
    CU_ASSERT_PTR_NOT_NULL(strstr(gwtf_corpus_path(corpus, 2), "shards/b.bin"));
    CU_ASSERT_PTR_NOT_NULL(strstr(gwtf_corpus_path_of_largest(corpus), "shards/c.bin"));
    CU_ASSERT_EQUAL(gwtf_corpus_sequences(corpus), 3 + 0 + 2);
    const uint32_t firsts[] = {100, 104, 108, 200, 204};
    for (uint64_t place = 0; place < 10; place++) {
        uint32_t inputs[CONTEXT], labels[CONTEXT];
        CU_ASSERT_EQUAL(gwtf_corpus_read(corpus, GWTF_CORPUS_SEQUENTIAL, 1, place, inputs, labels),
                        GWTF_OK);
        CU_ASSERT(inputs[0] == firsts[place % 5] && labels[3] == firsts[place % 5] + 4);
    }
    gwtf_corpus_close(corpus);
    CU_ASSERT_TRUE(temporary_write(options.input, "In the beginning", 16));
    CU_ASSERT_EQUAL_FATAL(gwtf_tokenize(&options, &error), GWTF_OK);
    snprintf(paths, sizeof paths, "%s\n%s", temporary_path("shards/a.bin"), options.output);
    expect_refused(paths, "take files of one tokenizer");
    expect_refused(temporary_path("shards/*.h5"), "no file matches");
    expect_refused(temporary_path("shards/d.bin"), "No such file");
    expect_refused(temporary_path("shards"), "not a file");
}

static void each_epoch_has_each_sequence_once_in_an_order_of_its_own(void) {
    char paths[4096];
    snprintf(paths, sizeof paths, "%s\n%s", counting("first.bin", 0, 401),
             counting("second.bin", 1000, 203));
    struct gwtf_corpus *corpus = open_corpus(paths, CONTEXT);
    enum { SEQUENCES = 100 + 50 };
    CU_ASSERT_EQUAL_FATAL(gwtf_corpus_sequences(corpus), SEQUENCES);
    uint32_t orders[3][SEQUENCES], inputs[CONTEXT], labels[CONTEXT];
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
        int seen[1300] = {0};
        for (uint64_t i = 0; i < SEQUENCES; i++) {
            CU_ASSERT_EQUAL(gwtf_corpus_read(corpus, GWTF_CORPUS_SHUFFLED, 5, epoch * SEQUENCES + i,
                                             inputs, labels),
                            GWTF_OK);
            orders[epoch][i] = inputs[0];
            CU_ASSERT_FATAL(inputs[0] % 4 == 0 && inputs[0] < 1300);
            CU_ASSERT_EQUAL(seen[inputs[0]]++, 0);
        }
    }
    int same = 0;
    for (size_t i = 0; i < SEQUENCES; i++)
        same += (orders[0][i] == orders[1][i]) + (orders[0][i] == orders[2][i]);
    /* Two of 300 on the average. */
    CU_ASSERT(same < 12);
    gwtf_corpus_close(corpus);
}

static void random_windows_are_uniform_over_all_files(void) {
    char paths[4096];
    /* 60 and 40 places to start. */
    snprintf(paths, sizeof paths, "%s\n%s", counting("sixty.bin", 0, 64),
             counting("forty.bin", 60, 44));
    struct gwtf_corpus *corpus = open_corpus(paths, CONTEXT);
    int counts[100] = {0};
    uint32_t inputs[CONTEXT], labels[CONTEXT], again[CONTEXT];
    for (uint64_t iteration = 0; iteration < 1000; iteration++)
        for (uint64_t sequence = 0; sequence < 100; sequence++) {
            gwtf_corpus_read_random(corpus, 1, iteration, sequence, inputs, labels);
            CU_ASSERT_FATAL(inputs[0] < 100 && labels[3] == inputs[0] + 4);
            counts[inputs[0]]++;
        }
    /* 1,000 expected each, standard deviation 31.5: six of them. */
    for (int i = 0; i < 100; i++)
        CU_ASSERT(counts[i] > 810 && counts[i] < 1190);
    gwtf_corpus_read_random(corpus, 1, 3, 4, inputs, labels);
    gwtf_corpus_read_random(corpus, 1, 3, 4, again, labels);
    CU_ASSERT(memcmp(inputs, again, sizeof inputs) == 0);
    int differ = 0;
    for (uint64_t i = 0; i < 100; i++) {
        gwtf_corpus_read_random(corpus, 1, i, 4, inputs, labels);
        gwtf_corpus_read_random(corpus, 2, i, 4, again, labels);
        differ += inputs[0] != again[0];
    }
    CU_ASSERT(differ > 90);
    gwtf_corpus_close(corpus);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(a_permutation_has_each_index_once),
        GWTF_TEST(a_permutation_puts_each_index_anywhere),
        GWTF_TEST(shards_are_read_as_they_are),
        GWTF_TEST(shards_that_are_cut_or_damaged_are_refused),
        GWTF_TEST(many_files_are_one_corpus),
        GWTF_TEST(each_epoch_has_each_sequence_once_in_an_order_of_its_own),
        GWTF_TEST(random_windows_are_uniform_over_all_files),
    };
    return gwtf_suite_main(argc, argv, "corpus", tests, sizeof tests / sizeof tests[0],
                           temporary_make, temporary_remove);
}
