#include "model/sample.h"
#include "share/base/random.h"
#include "tests/support/suite.h"

#include <math.h>

#define TOKENS 5
#define DRAWS 20000

/* Probabilities 0.4, 0.3, 0.2 and 0.1 at temperature 1, and one that never comes. */
static const double probabilities[TOKENS] = {0.2, 0.4, 1e-30, 0.1, 0.3};

static void draw_many(const struct gwtf_sampling *sampling, double shares[TOKENS]) {
    float logits[TOKENS];
    struct gwtf_candidate room[TOKENS];
    for (uint32_t i = 0; i < TOKENS; i++) {
        logits[i] = (float)log(probabilities[i]) + 7;
        shares[i] = 0;
    }
    for (uint64_t i = 0; i < DRAWS; i++)
        shares[gwtf_sample(sampling, logits, TOKENS, gwtf_random_unit_at(1, i), room)] +=
            1.0 / DRAWS;
}

/* Four standard deviations of a share of 20,000 draws are below 0.015. */
static void expect_shares(const struct gwtf_sampling *sampling, const double expected[TOKENS]) {
    double shares[TOKENS];
    draw_many(sampling, shares);
    for (uint32_t i = 0; i < TOKENS; i++)
        CU_ASSERT_DOUBLE_EQUAL(shares[i], expected[i], 0.015);
}

static void tokens_come_as_often_as_the_model_says(void) {
    struct gwtf_sampling sampling = {.temperature = 1, .top_p = 1};
    expect_shares(&sampling, probabilities);
}

static void temperature_sharpens_and_flattens(void) {
    /* p^2 over their sum 0.3, and the square roots over theirs. */
    struct gwtf_sampling cold = {.temperature = 0.5, .top_p = 1};
    struct gwtf_sampling hot = {.temperature = 2, .top_p = 1};
    double roots = sqrt(0.4) + sqrt(0.3) + sqrt(0.2) + sqrt(0.1);
    const double squared[TOKENS] = {0.04 / 0.3, 0.16 / 0.3, 0, 0.01 / 0.3, 0.09 / 0.3};
    const double rooted[TOKENS] = {sqrt(0.2) / roots, sqrt(0.4) / roots, 0, sqrt(0.1) / roots,
                                   sqrt(0.3) / roots};
    expect_shares(&cold, squared);
    expect_shares(&hot, rooted);
}

static void no_temperature_takes_the_likeliest(void) {
    struct gwtf_sampling sampling = {.temperature = 0, .top_p = 1};
    const double expected[TOKENS] = {0, 1, 0, 0, 0};
    expect_shares(&sampling, expected);
}

static void top_k_keeps_so_many_of_the_likeliest(void) {
    struct gwtf_sampling sampling = {.temperature = 1, .top_k = 2, .top_p = 1};
    const double expected[TOKENS] = {0, 4.0 / 7, 0, 0, 3.0 / 7};
    expect_shares(&sampling, expected);
    sampling.top_k = 100;
    expect_shares(&sampling, probabilities);
}

static void top_p_keeps_the_fewest_that_sum_to_it(void) {
    struct gwtf_sampling sampling = {.temperature = 1, .top_p = 0.69};
    const double two[TOKENS] = {0, 4.0 / 7, 0, 0, 3.0 / 7};
    const double three[TOKENS] = {2.0 / 9, 4.0 / 9, 0, 0, 3.0 / 9};
    const double one[TOKENS] = {0, 1, 0, 0, 0};
    expect_shares(&sampling, two);
    sampling.top_p = 0.71;
    expect_shares(&sampling, three);
    sampling.top_p = 1e-9;
    expect_shares(&sampling, one);
    /* Of what top_k has left: 4/7 of two is enough. */
    sampling = (struct gwtf_sampling){.temperature = 1, .top_k = 2, .top_p = 0.57};
    expect_shares(&sampling, one);
}

static void the_ends_of_the_draw_are_the_first_and_the_last(void) {
    struct gwtf_sampling sampling = {.temperature = 1, .top_p = 1};
    const float logits[3] = {1, 2, 1};
    struct gwtf_candidate room[3];
    CU_ASSERT_EQUAL(gwtf_sample(&sampling, logits, 3, 0, room), 1);
    CU_ASSERT_EQUAL(gwtf_sample(&sampling, logits, 3, nextafter(1, 0), room), 2);
    const float equal[3] = {1, 1, 1};
    sampling.temperature = 0;
    CU_ASSERT_EQUAL(gwtf_sample(&sampling, equal, 3, 0.9, room), 0);
}

/* Differences that no exponential of the logits themselves could hold. */
static void large_logits_do_not_overflow(void) {
    struct gwtf_sampling sampling = {.temperature = 1e-3, .top_p = 1};
    const float logits[3] = {-1e30f, 1e30f, 3e38f};
    struct gwtf_candidate room[3];
    CU_ASSERT_EQUAL(gwtf_sample(&sampling, logits, 3, 0.999, room), 2);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(tokens_come_as_often_as_the_model_says),
        GWTF_TEST(temperature_sharpens_and_flattens),
        GWTF_TEST(no_temperature_takes_the_likeliest),
        GWTF_TEST(top_k_keeps_so_many_of_the_likeliest),
        GWTF_TEST(top_p_keeps_the_fewest_that_sum_to_it),
        GWTF_TEST(the_ends_of_the_draw_are_the_first_and_the_last),
        GWTF_TEST(large_logits_do_not_overflow),
    };
    return gwtf_suite_main(argc, argv, "sample", tests, sizeof tests / sizeof tests[0], NULL, NULL);
}
