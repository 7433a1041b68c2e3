#include "share/base/hash.h"
#include "share/base/log.h"
#include "share/base/random.h"
#include "share/base/status.h"
#include "tests/support/suite.h"

#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static void a_seed_gives_the_same_numbers_again(void) {
    struct gwtf_random a, b, other;
    gwtf_random_init(&a, 7);
    gwtf_random_init(&b, 7);
    gwtf_random_init(&other, 8);
    int differ = 0;
    for (int i = 0; i < 100; i++) {
        uint64_t value = gwtf_random_next(&a);
        CU_ASSERT_EQUAL(value, gwtf_random_next(&b));
        differ += value != gwtf_random_next(&other);
    }
    CU_ASSERT_EQUAL(differ, 100);
}

static void numbers_below_a_bound_are_uniform(void) {
    struct gwtf_random random;
    gwtf_random_init(&random, 1);
    int counts[10] = {0};
    for (int i = 0; i < 100000; i++)
        counts[gwtf_random_below(&random, 10)]++;
    /* 10,000 expected, standard deviation 95: five of them. */
    for (int i = 0; i < 10; i++)
        CU_ASSERT(counts[i] > 9525 && counts[i] < 10475);
}

static void addressed_normals_have_mean_zero_and_deviation_one(void) {
    double sum = 0, squares = 0;
    const int count = 100000;
    for (int i = 0; i < count; i++) {
        double value = gwtf_random_normal_at(3, (uint64_t)i);
        sum += value;
        squares += value * value;
    }
    /* The mean's standard deviation is 0.0032, the variance's 0.0045: five of each. */
    CU_ASSERT(fabs(sum / count) < 0.016);
    CU_ASSERT(fabs(squares / count - 1) < 0.023);
}

static void keys_of_different_labels_are_unrelated(void) {
    uint64_t key = gwtf_random_key(1, 1), other = gwtf_random_key(1, 2);
    CU_ASSERT_NOT_EQUAL(key, other);
    int bits = 0;
    for (uint64_t i = 0; i < 1000; i++)
        bits += __builtin_popcountll(gwtf_random_at(key, i) ^ gwtf_random_at(other, i));
    /* 32,000 expected, standard deviation 126. */
    CU_ASSERT(bits > 31370 && bits < 32630);
}

static void a_flipped_bit_changes_the_hash(void) {
    unsigned char bytes[4096] = {0};
    uint64_t before = gwtf_hash(bytes, sizeof bytes);
    bytes[4095] ^= 1;
    CU_ASSERT_NOT_EQUAL(before, gwtf_hash(bytes, sizeof bytes));
    CU_ASSERT_NOT_EQUAL(gwtf_hash_seeded(bytes, sizeof bytes, 1), gwtf_hash(bytes, sizeof bytes));
}

static void an_error_is_one_line(void) {
    struct gwtf_error error;
    gwtf_status status = gwtf_error_set(&error, GWTF_ERROR_IO, "a\nb %d", 5);
    CU_ASSERT_EQUAL(status, GWTF_ERROR_IO);
    CU_ASSERT_STRING_EQUAL(error.text, "a b 5");
    CU_ASSERT_EQUAL(gwtf_error_set(NULL, GWTF_ERROR_RUN, "x"), GWTF_ERROR_RUN);
    CU_ASSERT_EQUAL(gwtf_status_exit_code(GWTF_ERROR_USAGE), 2);
    CU_ASSERT_EQUAL(gwtf_status_exit_code(GWTF_ERROR_RUN), 1);
    CU_ASSERT_STRING_EQUAL(gwtf_status_name((gwtf_status)999), "unknown");
}

static void a_log_file_has_every_line_with_its_time(void) {
    char lines[2][256] = {"", ""};
    FILE *file = tmpfile();
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    gwtf_log_set_file(fileno(file));
    gwtf_log(GWTF_LOG_DEBUG, "slot %d", 7);
    gwtf_log(GWTF_LOG_WARNING, "full");
    gwtf_log_set_file(-1);
    gwtf_log(GWTF_LOG_DEBUG, "nobody hears it");
    rewind(file);
    CU_ASSERT_PTR_NOT_NULL(fgets(lines[0], sizeof lines[0], file));
    CU_ASSERT_PTR_NOT_NULL(fgets(lines[1], sizeof lines[1], file));
    CU_ASSERT_EQUAL(fgetc(file), EOF);
    fclose(file);
    CU_ASSERT_EQUAL(fnmatch("20[0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:"
                            "[0-9][0-9].[0-9][0-9][0-9]Z gwtf: slot 7\n",
                            lines[0], 0),
                    0);
    CU_ASSERT_EQUAL(fnmatch("20*Z gwtf: warning: full\n", lines[1], 0), 0);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(a_seed_gives_the_same_numbers_again),
        GWTF_TEST(numbers_below_a_bound_are_uniform),
        GWTF_TEST(addressed_normals_have_mean_zero_and_deviation_one),
        GWTF_TEST(keys_of_different_labels_are_unrelated),
        GWTF_TEST(a_flipped_bit_changes_the_hash),
        GWTF_TEST(an_error_is_one_line),
        GWTF_TEST(a_log_file_has_every_line_with_its_time),
    };
    return gwtf_suite_main(argc, argv, "base", tests, sizeof tests / sizeof tests[0], NULL, NULL);
}
