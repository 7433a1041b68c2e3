#include "io/tokenizer/tokenizer.h"
#include "tests/support/refusal.h"
#include "tests/support/suite.h"
#include "tests/support/temporary.h"

static struct gwtf_error error;

/* A token for each byte, named as in GPT-2's files, then MORE: the text of a vocab.json. */
static void vocabulary_with(const char *more, char *text, size_t size) {
    size_t length = (size_t)snprintf(text, size, "{");
    unsigned next = 0x100;
    for (unsigned byte = 0; byte < 256; byte++) {
        bool itself =
            (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
        length += (size_t)snprintf(text + length, size - length, "%s\"\\u%04x\": %u",
                                   byte > 0 ? ", " : "", itself ? byte : next++, byte);
    }
    snprintf(text + length, size - length, "%s}", more);
}

static const char good_more[] = ", \"th\": 256, \"the\": 257, \"\\u0120the\": 258";
static const char good_merges[] = "#version: 0.2\nt h\nth e\n\xc4\xa0 the\n";

static gwtf_status parse_two(const char *vocabulary, const char *merges,
                             struct gwtf_tokenizer **tokenizer) {
    const struct gwtf_kept_file files[] = {{"vocab.json", vocabulary, strlen(vocabulary)},
                                           {"merges.txt", merges, strlen(merges)}};
    error.text[0] = '\0';
    return gwtf_tokenizer_parse("here", files, 2, tokenizer, &error);
}

static bool is_left_out(void) {
    struct gwtf_tokenizer *tokenizer = NULL;
    if (parse_two("{", "", &tokenizer) != GWTF_ERROR_UNSUPPORTED)
        return false;
    printf("left out: %s ", error.text);
    return true;
}

static void merges_are_taken_in_their_order(void) {
    if (is_left_out())
        return;
    char vocabulary[16384];
    struct gwtf_tokenizer *tokenizer = NULL;
    struct gwtf_token_list list = {0};
    vocabulary_with(good_more, vocabulary, sizeof vocabulary);
    CU_ASSERT_EQUAL_FATAL(parse_two(vocabulary, good_merges, &tokenizer), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_tokenizer_get_info(tokenizer)->vocabulary, 259);
    struct gwtf_encoder *encoder = gwtf_encoder_create(tokenizer);
    CU_ASSERT_EQUAL(gwtf_encoder_encode(encoder, "the thx", 7, false, &list, &error), GWTF_OK);
    const uint32_t expected[] = {257, ' ', 256, 'x'};
    CU_ASSERT_EQUAL_FATAL(list.count, 4);
    CU_ASSERT(memcmp(list.ids, expected, sizeof expected) == 0);
    list.count = 0;
    CU_ASSERT_EQUAL(gwtf_encoder_encode(encoder, "a the", 5, false, &list, &error), GWTF_OK);
    CU_ASSERT(list.count == 2 && list.ids[1] == 258);
    /* Of bytes that are no UTF-8 each run is a word of its own. */
    list.count = 0;
    CU_ASSERT_EQUAL(gwtf_encoder_encode(encoder, "th\xffthe", 6, false, &list, &error), GWTF_OK);
    CU_ASSERT(list.count == 3 && list.ids[0] == 256 && list.ids[1] == 0xff && list.ids[2] == 257);
    free(list.ids);
    gwtf_encoder_destroy(encoder);
    gwtf_tokenizer_close(tokenizer);
}

static void files_that_are_no_tokenizer_are_refused_with_one_line(void) {
    if (is_left_out())
        return;
    static const struct {
        const char *more, *merges, *expected;
    } cases[] = {
        {", \"th\": 256", "t h\nh e\n", "merge 2 names 'he', which is no token"},
        {", \"th\": 256", "t h\nth zz\n", "merge 2 names 'zz', which is no token"},
        {", \"th\": 256", "t h\nt h\n", "merge 2, 't h', is given twice"},
        {", \"th\": 256", "t h e\n", "merge 1, 't h e', is not two tokens"},
        {", \"th\": 256", "th\n", "merge 1, 'th', is not two tokens"},
        {", \"th\": 65", "t h\n", "'A' and 'th' have the same id 65"},
        {", \"th\": 256, \"th\": 257", "t h\n", "duplicate object key"},
        {", \"th\": -1", "t h\n", "the id of 'th' is not a whole number"},
        {", \"th\": 4294967296", "t h\n", "the id of 'th' is not a whole number"},
        {", \"th\": 4194304", "t h\n", "the id of 'th' is not a whole number"},
        {", \"th\": \"x\"", "t h\n", "the id of 'th' is not a whole number"},
        {", \"th\": 256", "\x01\xff\xfe\n", "is not two tokens"},
        {", ", "t h\n", "line 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char vocabulary[16384];
        struct gwtf_tokenizer *tokenizer = NULL;
        vocabulary_with(cases[i].more, vocabulary, sizeof vocabulary);
        CU_ASSERT_EQUAL(parse_two(vocabulary, cases[i].merges, &tokenizer), GWTF_ERROR_USAGE);
        refusal_expect(error.text, cases[i].expected);
    }
    struct gwtf_tokenizer *tokenizer = NULL;
    CU_ASSERT_EQUAL(parse_two("{\"a\": 0}", "", &tokenizer), GWTF_ERROR_USAGE);
    refusal_expect(error.text, "it has no token for the byte 0 alone");
    CU_ASSERT_EQUAL(parse_two("[1, 2]", "", &tokenizer), GWTF_ERROR_USAGE);
    refusal_expect(error.text, "not an object of names and ids");
    CU_ASSERT_EQUAL(parse_two("{}", "", &tokenizer), GWTF_ERROR_USAGE);
    refusal_expect(error.text, "it has no tokens");
    CU_ASSERT_PTR_NULL(tokenizer);
}

static void a_tokenizer_json_that_encodes_in_another_way_is_refused(void) {
    if (is_left_out())
        return;
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"{\"model\": {\"type\": \"Unigram\"}}", "its model is not of the type BPE"},
        {"{\"model\": {\"type\": \"BPE\"}}", "it divides texts in another way"},
        {"{\"model\": {\"type\": \"BPE\"}, \"pre_tokenizer\": {\"type\": \"Split\"}}",
         "it divides texts in another way"},
        {"{\"model\": {\"type\": \"BPE\"}, \"normalizer\": {\"type\": \"NFC\"}, "
         "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}}",
         "it changes texts before"},
        {"{\"model\": {\"type\": \"BPE\"}, \"pre_tokenizer\": {\"type\": \"ByteLevel\", "
         "\"add_prefix_space\": true}}",
         "it divides texts in another way"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": 5}, \"pre_tokenizer\": {\"type\": "
         "\"ByteLevel\", \"add_prefix_space\": false}}",
         "not an object of names and ids"},
        {"{\"model\": {\"type\": \"BPE\"}, \"added_tokens\": [{\"content\": \"<s>\", \"id\": 1}], "
         "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}}",
         "not an object of names and ids"},
        {"{\"model\": ", "line 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gwtf_kept_file file = {"tokenizer.json", cases[i].text, strlen(cases[i].text)};
        struct gwtf_tokenizer *tokenizer = NULL;
        CU_ASSERT_EQUAL(gwtf_tokenizer_parse("here", &file, 1, &tokenizer, &error),
                        GWTF_ERROR_USAGE);
        refusal_expect(error.text, cases[i].expected);
    }
}

static void what_is_not_there_is_named(void) {
    struct gwtf_tokenizer *tokenizer = NULL;
    CU_ASSERT_EQUAL(gwtf_tokenizer_open("words", &tokenizer, &error), GWTF_ERROR_USAGE);
    refusal_expect(error.text, "give bytes, gpt2:DIR or sentencepiece:FILE");
    CU_ASSERT_EQUAL(gwtf_tokenizer_open("gpt2:/none", &tokenizer, &error), GWTF_ERROR_MISSING);
    refusal_expect(error.text, "'/none' has neither vocab.json and merges.txt");
    CU_ASSERT_EQUAL(gwtf_tokenizer_open("sentencepiece:/none", &tokenizer, &error),
                    GWTF_ERROR_MISSING);
    refusal_expect(error.text, "/none");
    struct gwtf_kept_file file = {"tokenizer.model", "In the beginning", 16};
    gwtf_status status = gwtf_tokenizer_parse("here", &file, 1, &tokenizer, &error);
    CU_ASSERT(status == GWTF_ERROR_USAGE || status == GWTF_ERROR_UNSUPPORTED);
    refusal_expect(error.text, "'here'");
}

static void a_text_is_cut_only_before_a_blank_after_a_sign(void) {
    if (is_left_out())
        return;
    char vocabulary[16384];
    struct gwtf_tokenizer *tokenizer = NULL;
    vocabulary_with(good_more, vocabulary, sizeof vocabulary);
    CU_ASSERT_EQUAL_FATAL(parse_two(vocabulary, good_merges, &tokenizer), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_tokenizer_cut(tokenizer, "one two  ", 9), 7);
    CU_ASSERT_EQUAL(gwtf_tokenizer_cut(tokenizer, "one two", 7), 3);
    CU_ASSERT_EQUAL(gwtf_tokenizer_cut(tokenizer, "one", 3), 0);
    CU_ASSERT_EQUAL(gwtf_tokenizer_cut(tokenizer, " one", 4), 0);
    /* After U+3000, U+00A0, U+2003 and a line break that follow nothing else there is no place. */
    CU_ASSERT_EQUAL(gwtf_tokenizer_cut(tokenizer, "\xe3\x80\x80 a", 5), 0);
    CU_ASSERT_EQUAL(gwtf_tokenizer_cut(tokenizer, "\xc2\xa0 a", 4), 0);
    CU_ASSERT_EQUAL(gwtf_tokenizer_cut(tokenizer, "\xe2\x80\x83 a", 5), 0);
    CU_ASSERT_EQUAL(gwtf_tokenizer_cut(tokenizer, "\n a", 3), 0);
    CU_ASSERT_EQUAL(gwtf_tokenizer_cut(tokenizer, "\xe4\xb8\xad\n a", 6), 3);
    gwtf_tokenizer_close(tokenizer);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(merges_are_taken_in_their_order),
        GWTF_TEST(files_that_are_no_tokenizer_are_refused_with_one_line),
        GWTF_TEST(a_tokenizer_json_that_encodes_in_another_way_is_refused),
        GWTF_TEST(what_is_not_there_is_named),
        GWTF_TEST(a_text_is_cut_only_before_a_blank_after_a_sign),
    };
    return gwtf_suite_main(argc, argv, "tokenizer_files", tests, sizeof tests / sizeof tests[0],
                           NULL, NULL);
}
