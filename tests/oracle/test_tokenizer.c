/*
 * Tokenizers against the packages that are taken as reference: what tokenizer_fixture.py wrote, of
 * a text that is drawn here as it was drawn there.
 */
#include "io/tokenizer/tokenize.h"
#include "io/tokens.h"
#include "share/base/random.h"
#include "tests/support/suite.h"
#include "tests/support/temporary.h"

#include <inttypes.h>

#define PIECES 250
#define PIECE_BYTES 4096
#define WORDS_MOST 512
#define RANGES_MOST 1024
#define LINES_MOST 1024

static struct gwtf_error error;

static const char *fixture(const char *name) {
    char relative[256];
    snprintf(relative, sizeof relative, "fixtures/tokenizer/%s", name);
    return temporary_below(GWTF_TEST_SOURCE_DIR, relative);
}

/* Without asserting, since it is called before a test runs, too: COUNT 0 when it cannot be read. */
static char *lines_of(const char *name, char **lines, size_t most, size_t *count) {
    size_t size = 0;
    char *text = temporary_read(fixture(name), &size);
    *count = 0;
    if (text == NULL)
        return NULL;
    for (char *line = strtok(text, "\n"); line != NULL && *count < most; line = strtok(NULL, "\n"))
        lines[(*count)++] = line;
    return text;
}

/* --- The text. --- */

static char *words[WORDS_MOST];
static size_t words_count;
static struct { uint32_t first, last; } ranges[RANGES_MOST];
static size_t ranges_count;
static char *words_text;

static const char *const spaces[] = {" ",
                                     "  ",
                                     "\n",
                                     "\n\n",
                                     "\t",
                                     "\r\n",
                                     "\xc2\x85",
                                     "\xc2\xa0",
                                     "\xe2\x80\x83",
                                     "\xe3\x80\x80",
                                     "\xe2\x80\xa8",
                                     "    ",
                                     "\x1c",
                                     "\xe1\xa0\x8e",
                                     "\xe2\x80\x8b",
                                     "\xe1\x9a\x80",
                                     "\x0b",
                                     "\x0c",
                                     "\xef\xbb\xbf",
                                     "\xe2\x80\xaf"};
static const char *const runs[] = {
    "a", "\xc3\xa9", "\xe5\x8c\x97", "\xf0\x9f\x99\x82", "1", "\xd9\xa3", "'", ".", "-", "\n", " "};

struct text {
    uint64_t key, counter;
    char *bytes;
    size_t size;
};

static size_t draw(struct text *text, size_t bound) {
    return (size_t)(gwtf_random_at(text->key, text->counter++) % bound);
}

static void put(struct text *text, const char *part) {
    memcpy(text->bytes + text->size, part, strlen(part));
    text->size += strlen(part);
}

static void put_character(struct text *text, uint32_t code) {
    unsigned char bytes[5] = {0};
    if (code < 0x80) {
        bytes[0] = (unsigned char)code;
    } else if (code < 0x800) {
        bytes[0] = (unsigned char)(0xc0 | code >> 6);
        bytes[1] = (unsigned char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        bytes[0] = (unsigned char)(0xe0 | code >> 12);
        bytes[1] = (unsigned char)(0x80 | (code >> 6 & 0x3f));
        bytes[2] = (unsigned char)(0x80 | (code & 0x3f));
    } else {
        bytes[0] = (unsigned char)(0xf0 | code >> 18);
        bytes[1] = (unsigned char)(0x80 | (code >> 12 & 0x3f));
        bytes[2] = (unsigned char)(0x80 | (code >> 6 & 0x3f));
        bytes[3] = (unsigned char)(0x80 | (code & 0x3f));
    }
    put(text, (const char *)bytes);
}

static void put_part(struct text *text) {
    size_t kind = draw(text, 100);
    if (kind < 60) {
        put(text, words[draw(text, words_count)]);
    } else if (kind < 80) {
        for (size_t left = 1 + draw(text, 6); left > 0; left--) {
            size_t range = draw(text, ranges_count);
            uint32_t size = ranges[range].last - ranges[range].first + 1;
            put_character(text, ranges[range].first + (uint32_t)draw(text, size));
        }
    } else if (kind < 84) {
        const char *run = runs[draw(text, sizeof runs / sizeof runs[0])];
        for (size_t left = 1 + draw(text, 150); left > 0; left--)
            put(text, run);
    }
    if (draw(text, 100) < 30)
        put(text, spaces[draw(text, sizeof spaces / sizeof spaces[0])]);
    else if (draw(text, 4) > 0)
        put(text, " ");
}

/* All pieces one after the other, with their ends. */
static char *all_text(size_t ends[PIECES]) {
    struct text text = {.bytes = malloc((size_t)PIECES * 2 * PIECE_BYTES)};
    for (size_t piece = 0; piece < PIECES; piece++) {
        size_t start = text.size;
        text.key = piece;
        text.counter = 0;
        while (text.size - start < PIECE_BYTES)
            put_part(&text);
        ends[piece] = text.size;
    }
    return text.bytes;
}

static int set_up(void) {
    static char *lines[RANGES_MOST];
    size_t count;
    if (temporary_make() != 0)
        return 1;
    words_text = lines_of("words.txt", words, WORDS_MOST, &words_count);
    char *text = lines_of("characters.txt", lines, RANGES_MOST, &count);
    for (size_t i = 0; i < count; i++)
        if (sscanf(lines[i], "%" SCNx32 " %" SCNx32, &ranges[i].first, &ranges[i].last) != 2)
            return 1;
    ranges_count = count;
    free(text);
    return words_count == 0 || ranges_count == 0;
}

static int tear_down(void) {
    free(words_text);
    return temporary_remove();
}

/* --- What is expected. --- */

/* The lines of the fixture that begin with KIND. */
struct expected {
    char *text;
    char *lines[LINES_MOST];
    size_t count;
};

static void load(struct expected *expected, const char *kind) {
    static char *lines[LINES_MOST];
    size_t count, length = strlen(kind);
    expected->count = 0;
    expected->text = lines_of("expected.txt", lines, LINES_MOST, &count);
    for (size_t i = 0; i < count; i++)
        if (strncmp(lines[i], kind, length) == 0 && lines[i][length] == ' ')
            expected->lines[expected->count++] = lines[i] + length + 1;
    CU_ASSERT_FATAL(expected->count > 0);
}

static bool is_expected(const char *line, const uint32_t *ids, size_t count) {
    uint64_t hash = 0xcbf29ce484222325u;
    char got[64];
    for (size_t i = 0; i < count; i++)
        for (unsigned shift = 0; shift < 32; shift += 8)
            hash = (hash ^ (ids[i] >> shift & 0xff)) * 0x100000001b3u;
    snprintf(got, sizeof got, "%zu %016" PRIx64, count, hash);
    if (strcmp(got, line) != 0)
        printf("\n    expected %s, got %s", line, got);
    return strcmp(got, line) == 0;
}

static struct gwtf_tokenizer *open_tokenizer(const char *kind, const char *name) {
    char spec[4096];
    struct gwtf_tokenizer *tokenizer = NULL;
    snprintf(spec, sizeof spec, "%s:%s", kind, fixture(name));
    gwtf_status status = gwtf_tokenizer_open(spec, &tokenizer, &error);
    if (status == GWTF_ERROR_UNSUPPORTED)
        printf("left out: %s ", error.text);
    else if (status != GWTF_OK)
        printf("\n%s\n", error.text);
    CU_ASSERT_FATAL(status == GWTF_OK || status == GWTF_ERROR_UNSUPPORTED);
    return tokenizer;
}

static void compare_pieces(const struct gwtf_tokenizer *tokenizer, const char *kind) {
    static struct expected expected;
    size_t ends[PIECES], start = 0;
    char *text = all_text(ends);
    struct gwtf_token_list list = {0};
    struct gwtf_encoder *encoder = gwtf_encoder_create(tokenizer);
    load(&expected, kind);
    for (size_t i = 0; i < expected.count; start = ends[i++]) {
        list.count = 0;
        CU_ASSERT_EQUAL_FATAL(
            gwtf_encoder_encode(encoder, text + start, ends[i] - start, false, &list, &error),
            GWTF_OK);
        CU_ASSERT_TRUE_FATAL(is_expected(expected.lines[i], list.ids, list.count));
    }
    gwtf_encoder_destroy(encoder);
    free(list.ids);
    free(text);
    free(expected.text);
}

/* The text as a file, through THREADS. */
static void compare_file(const struct gwtf_tokenizer *tokenizer, const char *kind,
                         unsigned threads) {
    static struct expected expected;
    size_t ends[PIECES];
    char *text = all_text(ends);
    struct gwtf_tokenize_options options = {.input = temporary_path("text"),
                                            .output = temporary_path("text.h5"),
                                            .tokenizer = tokenizer,
                                            .threads = threads};
    CU_ASSERT_TRUE_FATAL(temporary_write(options.input, text, ends[PIECES - 1]));
    free(text);
    CU_ASSERT_EQUAL_FATAL(gwtf_tokenize(&options, &error), GWTF_OK);
    struct gwtf_tokens *tokens = NULL;
    CU_ASSERT_EQUAL_FATAL(gwtf_tokens_open(options.output, &tokens, &error), GWTF_OK);
    struct gwtf_tokens_info info = gwtf_tokens_get_info(tokens);
    uint32_t *ids = malloc(info.count * sizeof *ids);
    CU_ASSERT_EQUAL(gwtf_tokens_read(tokens, 0, info.count, ids), GWTF_OK);
    load(&expected, kind);
    CU_ASSERT_TRUE(is_expected(expected.lines[0], ids, info.count));
    CU_ASSERT_STRING_EQUAL(info.tokenizer, gwtf_tokenizer_get_info(tokenizer)->name);
    CU_ASSERT_STRING_EQUAL(info.tokenizer_sha256, gwtf_tokenizer_get_info(tokenizer)->sha256);
    CU_ASSERT_EQUAL(info.vocabulary, gwtf_tokenizer_get_info(tokenizer)->vocabulary);
    gwtf_tokens_close(tokens);
    free(ids);
    free(expected.text);
}

/* --- The tests. --- */

static void the_text_is_the_one_of_the_reference(void) {
    static struct expected expected;
    size_t ends[PIECES];
    char size[32];
    free(all_text(ends));
    load(&expected, "text");
    snprintf(size, sizeof size, "%zu", ends[PIECES - 1]);
    CU_ASSERT_STRING_EQUAL(size, expected.lines[0]);
    free(expected.text);
}

static void gpt2_gives_the_tokens_of_the_reference_encoder(void) {
    struct gwtf_tokenizer *tokenizer = open_tokenizer("gpt2", "");
    if (tokenizer == NULL)
        return;
    compare_pieces(tokenizer, "gpt2");
    gwtf_tokenizer_close(tokenizer);
}

static void gpt2_gives_them_for_a_file_with_any_number_of_threads(void) {
    struct gwtf_tokenizer *tokenizer = open_tokenizer("gpt2", "");
    if (tokenizer == NULL)
        return;
    for (unsigned threads = 1; threads <= 3; threads++)
        compare_file(tokenizer, "gpt2-whole", threads);
    gwtf_tokenizer_close(tokenizer);
}

static void gpt2_is_the_same_from_one_file_and_from_two(void) {
    size_t size = 0;
    char *bytes = temporary_read(fixture("tokenizer.json"), &size);
    struct gwtf_kept_file file = {"tokenizer.json", bytes, size};
    struct gwtf_tokenizer *tokenizer = NULL;
    gwtf_status status = gwtf_tokenizer_parse("fixture", &file, 1, &tokenizer, &error);
    free(bytes);
    if (status == GWTF_ERROR_UNSUPPORTED)
        return;
    CU_ASSERT_EQUAL_FATAL(status, GWTF_OK);
    compare_pieces(tokenizer, "gpt2");
    gwtf_tokenizer_close(tokenizer);
}

static void sentencepiece_gives_the_tokens_of_its_own_package(void) {
    static const char *const models[][2] = {{"llama.model", "llama"}, {"unigram.model", "unigram"}};
    for (size_t i = 0; i < 2; i++) {
        struct gwtf_tokenizer *tokenizer = open_tokenizer("sentencepiece", models[i][0]);
        if (tokenizer == NULL)
            return;
        compare_pieces(tokenizer, models[i][1]);
        gwtf_tokenizer_close(tokenizer);
    }
}

static void sentencepiece_gives_the_tokens_of_the_whole_text_for_a_file_in_pieces(void) {
    static const char *const models[][2] = {{"llama.model", "llama-whole"},
                                            {"unigram.model", "unigram-whole"}};
    for (size_t i = 0; i < 2; i++) {
        struct gwtf_tokenizer *tokenizer = open_tokenizer("sentencepiece", models[i][0]);
        if (tokenizer == NULL)
            return;
        compare_file(tokenizer, models[i][1], 2);
        gwtf_tokenizer_close(tokenizer);
    }
}

static bool comes_back(const struct gwtf_tokenizer *tokenizer, struct gwtf_encoder *encoder,
                       const void *bytes, size_t size) {
    struct gwtf_token_list list = {0};
    char *text = NULL;
    size_t text_size = 0;
    gwtf_status status = gwtf_encoder_encode(encoder, bytes, size, false, &list, &error);
    if (status == GWTF_OK)
        status = gwtf_tokenizer_decode(tokenizer, list.ids, list.count, &text, &text_size);
    bool same = status == GWTF_OK && text_size == size && memcmp(text, bytes, size) == 0;
    free(list.ids);
    free(text);
    return same;
}

static void gpt2_loses_nothing_of_any_bytes(void) {
    struct gwtf_tokenizer *tokenizer = open_tokenizer("gpt2", "");
    if (tokenizer == NULL)
        return;
    struct gwtf_encoder *encoder = gwtf_encoder_create(tokenizer);
    size_t ends[PIECES], lost = 0;
    char *text = all_text(ends);
    CU_ASSERT_TRUE(comes_back(tokenizer, encoder, text, ends[PIECES - 1]));
    for (uint64_t round = 0; round < 3000; round++) {
        unsigned char bytes[400];
        size_t size = 1 + gwtf_random_at(11, round) % sizeof bytes;
        /* Of every kind: all values, few values, and a good text that is damaged. */
        for (size_t i = 0; i < size; i++)
            bytes[i] = (unsigned char)(gwtf_random_at(round, i) % (round % 3 == 0 ? 256 : 4));
        if (round % 3 == 2) {
            memcpy(bytes, text + gwtf_random_at(12, round) % (ends[PIECES - 1] - size), size);
            bytes[gwtf_random_at(13, round) % size] ^= 0x91;
        }
        lost += !comes_back(tokenizer, encoder, bytes, size);
    }
    CU_ASSERT_EQUAL(lost, 0);
    free(text);
    gwtf_encoder_destroy(encoder);
    gwtf_tokenizer_close(tokenizer);
}

static void sentencepiece_with_bytes_loses_nothing_of_a_text(void) {
    struct gwtf_tokenizer *tokenizer = open_tokenizer("sentencepiece", "llama.model");
    if (tokenizer == NULL)
        return;
    struct gwtf_encoder *encoder = gwtf_encoder_create(tokenizer);
    size_t ends[PIECES], start = 0, compared = 0;
    char *text = all_text(ends);
    for (size_t i = 0; i < PIECES; start = ends[i++]) {
        /* U+2581 is what the library writes for a blank, and comes back as one. */
        if (memmem(text + start, ends[i] - start, "\xe2\x96\x81", 3) != NULL)
            continue;
        compared++;
        CU_ASSERT_TRUE(comes_back(tokenizer, encoder, text + start, ends[i] - start));
    }
    CU_ASSERT(compared > PIECES / 2);
    free(text);
    gwtf_encoder_destroy(encoder);
    gwtf_tokenizer_close(tokenizer);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(the_text_is_the_one_of_the_reference),
        GWTF_TEST(gpt2_gives_the_tokens_of_the_reference_encoder),
        GWTF_TEST(gpt2_gives_them_for_a_file_with_any_number_of_threads),
        GWTF_TEST(gpt2_is_the_same_from_one_file_and_from_two),
        GWTF_TEST(sentencepiece_gives_the_tokens_of_its_own_package),
        GWTF_TEST(sentencepiece_gives_the_tokens_of_the_whole_text_for_a_file_in_pieces),
        GWTF_TEST(gpt2_loses_nothing_of_any_bytes),
        GWTF_TEST(sentencepiece_with_bytes_loses_nothing_of_a_text),
    };
    return gwtf_suite_main(argc, argv, "tokenizer", tests, sizeof tests / sizeof tests[0], set_up,
                           tear_down);
}
