#include "io/json.h"
#include "tests/support/suite.h"

#include <stdlib.h>
#include <string.h>

/* BYTES as JSON; the caller frees. */
static char *form(const char *bytes, size_t size) {
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    struct gwtf_json json;
    CU_ASSERT_PTR_NOT_NULL_FATAL(stream);
    gwtf_json_start(&json, stream);
    gwtf_json_bytes(&json, NULL, bytes, size);
    fclose(stream);
    return text;
}

#define EXPECT(bytes, expected)                                                                    \
    do {                                                                                           \
        char *text = form(bytes, sizeof bytes - 1);                                                \
        CU_ASSERT_STRING_EQUAL(text, expected);                                                    \
        free(text);                                                                                \
    } while (0)

#define WRONG "\xef\xbf\xbd"

static void whole_characters_stay(void) {
    EXPECT("", "\"\"");
    EXPECT("plain \"text\"\\\n", "\"plain \\\"text\\\"\\\\\\n\"");
    EXPECT("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\"");
    EXPECT("a\0b\x7f", "\"a\\u0000b\x7f\"");
}

/* The examples of Unicode 15, section 3.9, tables 3-8 to 3-11. */
static void what_is_no_character_becomes_one_replacement_for_each_broken_piece(void) {
    EXPECT("\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41",
           "\"" WRONG WRONG WRONG WRONG WRONG WRONG WRONG WRONG "A\"");
    EXPECT("\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41",
           "\"" WRONG WRONG WRONG WRONG WRONG WRONG WRONG WRONG "A\"");
    EXPECT("\xf4\x91\x92\x93\xff\x41\x80\xbf\x42",
           "\"" WRONG WRONG WRONG WRONG WRONG "A" WRONG WRONG "B\"");
    EXPECT("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", "\"" WRONG WRONG WRONG WRONG "A\"");
}

static void a_character_that_the_end_cuts_is_one_replacement(void) {
    EXPECT("x\xe2\x82", "\"x" WRONG "\"");
    EXPECT("x\xf0\x9f\x98", "\"x" WRONG "\"");
    EXPECT("x\xc3", "\"x" WRONG "\"");
}

static void texts_are_repaired_in_place_byte_by_byte(void) {
    char text[] = "a\xe2\x82z\xff\xc3\xa9\xc3";
    gwtf_json_repair_text(text);
    CU_ASSERT_STRING_EQUAL(text, "a??z?\xc3\xa9?");
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(whole_characters_stay),
        GWTF_TEST(what_is_no_character_becomes_one_replacement_for_each_broken_piece),
        GWTF_TEST(a_character_that_the_end_cuts_is_one_replacement),
        GWTF_TEST(texts_are_repaired_in_place_byte_by_byte),
    };
    return gwtf_suite_main(argc, argv, "json", tests, sizeof tests / sizeof tests[0], NULL, NULL);
}
