/*
 * The fast backend's loops and products, for every kind of vector unit that this processor has,
 * against the formulas in double precision.
 */
#include "model/onednn/kernels.h"
#include "model/onednn/product.h"
#include "model/onednn/tiling.h"
#include "share/base/random.h"
#include "tests/support/suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT 4099 /* no multiple of any vector */

static double gelu_of(double x) {
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

static double gelu_slope(double x) {
    double t = tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
}

static void fill(float *values, size_t count, uint64_t key) {
    for (size_t i = 0; i < count; i++)
        values[i] = (float)gwtf_random_normal_at(key, i);
}

static void there_are_kernels_for_every_processor(void) {
    CU_ASSERT_PTR_EQUAL(gwtf_kernels_at(0), gwtf_kernels_best());
    size_t count = 0;
    while (gwtf_kernels_at(count) != NULL)
        printf(" %s", gwtf_kernels_at(count++)->name);
    CU_ASSERT(count >= 1);
    CU_ASSERT_STRING_EQUAL(gwtf_kernels_at(count - 1)->name, "plain");
}

static void gelu_and_its_slope_are_right_to_single_precision(void) {
    static float x[COUNT], y[COUNT], again[COUNT], dx[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        x[i] = (float)(12.0 * (double)i / (COUNT - 1) - 6.0);
    for (size_t v = 0; gwtf_kernels_at(v) != NULL; v++) {
        for (size_t i = 0; i < COUNT; i++)
            again[i] = 2;
        gwtf_kernels_at(v)->gelu(y, x, COUNT);
        gwtf_kernels_at(v)->gelu_backward(dx, again, x, COUNT);
        for (size_t i = 0; i < COUNT; i++) {
            /* Rounding e^u's argument, up to 11 here, costs 11 * 6e-8 of it, where gelu is small
             * enough to show it. */
            double wanted = gelu_of((double)x[i]), slope = gelu_slope((double)x[i]);
            CU_ASSERT(fabs((double)y[i] - wanted) <= 3e-6 * fabs(wanted) + 1e-12);
            CU_ASSERT(fabs((double)y[i] - wanted) <= 1e-7 * (1 + fabs((double)x[i])));
            CU_ASSERT_EQUAL(y[i], again[i]);
            CU_ASSERT(fabs((double)dx[i] - 2 * slope) <= 2e-6);
        }
    }
}

static void swiglu_and_its_slopes_are_right_to_single_precision(void) {
    enum { ROWS = 3, WIDTH = 1363 };
    static float x[2 * ROWS * WIDTH], y[ROWS * WIDTH], again[ROWS * WIDTH], dx[2 * ROWS * WIDTH];
    for (size_t row = 0; row < ROWS; row++) {
        for (size_t i = 0; i < WIDTH; i++) {
            x[row * 2 * WIDTH + i] = (float)(24.0 * (double)i / (WIDTH - 1) - 12.0);
            x[row * 2 * WIDTH + WIDTH + i] = (float)(row + 1);
        }
    }
    for (size_t v = 0; gwtf_kernels_at(v) != NULL; v++) {
        for (size_t i = 0; i < ROWS * WIDTH; i++)
            again[i] = 2;
        gwtf_kernels_at(v)->swiglu(y, x, ROWS, WIDTH);
        gwtf_kernels_at(v)->swiglu_backward(dx, again, x, ROWS, WIDTH);
        for (size_t i = 0; i < ROWS * WIDTH; i++) {
            size_t row = i / WIDTH, gate = i + row * WIDTH;
            double g = (double)x[gate], u = (double)(row + 1), s = 1 / (1 + exp(-g));
            /* As of gelu: e^-g's argument is up to 12. */
            CU_ASSERT(fabs((double)y[i] - g * s * u) <= 3e-6 * fabs(g * s * u) + 1e-12);
            CU_ASSERT_EQUAL(y[i], again[i]);
            CU_ASSERT(fabs((double)dx[gate] - 2 * u * (s + g * s * (1 - s))) <= 2e-6 * u);
            CU_ASSERT(fabs((double)dx[gate + WIDTH] - 2 * g * s) <= 2e-6 * (1 + fabs(g)));
        }
    }
}

static void rotation_turns_pairs_and_turns_them_back(void) {
    enum { HEADS = 3, SIZE = 38 };
    float turn[SIZE], before[HEADS * SIZE], x[HEADS * SIZE];
    fill(before, HEADS * SIZE, 9);
    for (size_t i = 0; i < SIZE / 2; i++) {
        turn[i] = (float)cos(0.1 * (double)i);
        turn[SIZE / 2 + i] = (float)sin(0.1 * (double)i);
    }
    for (size_t v = 0; gwtf_kernels_at(v) != NULL; v++) {
        memcpy(x, before, sizeof x);
        gwtf_kernels_at(v)->rotate(x, turn, HEADS, SIZE, false);
        for (size_t i = 0; i < HEADS * SIZE; i++) {
            size_t pair = i % SIZE % (SIZE / 2), first = i / SIZE * SIZE + pair;
            double a = (double)before[first], b = (double)before[first + SIZE / 2];
            double c = cos(0.1 * (double)pair), s = sin(0.1 * (double)pair);
            CU_ASSERT_DOUBLE_EQUAL(x[i], i == first ? a * c - b * s : b * c + a * s, 1e-6);
        }
        gwtf_kernels_at(v)->rotate(x, turn, HEADS, SIZE, true);
        for (size_t i = 0; i < HEADS * SIZE; i++)
            CU_ASSERT_DOUBLE_EQUAL(x[i], before[i], 1e-6);
    }
}

static void gelu_takes_any_number(void) {
    for (size_t v = 0; gwtf_kernels_at(v) != NULL; v++) {
        float x[20], y[20];
        for (size_t i = 0; i < 20; i++)
            x[i] = 0;
        x[1] = 1e4f;
        x[2] = -1e4f;
        x[3] = NAN;
        x[17] = 1e30f;
        x[18] = -1e12f;
        x[19] = NAN;
        gwtf_kernels_at(v)->gelu(y, x, 20);
        CU_ASSERT_EQUAL(y[0], 0);
        CU_ASSERT_EQUAL(y[1], 1e4f);
        CU_ASSERT(fabs((double)y[2]) < 1e-30);
        CU_ASSERT(isnan(y[3]) && isnan(y[19]));
        CU_ASSERT_EQUAL(y[17], 1e30f);
        CU_ASSERT(fabs((double)y[18]) < 1e-20);
    }
}

static void causal_softmax_sums_to_one_and_sees_no_future(void) {
    enum { ROWS = 5, FIRST = 33, KEYS = 38 };
    for (size_t v = 0; gwtf_kernels_at(v) != NULL; v++) {
        float scores[ROWS * KEYS], p[ROWS * KEYS], again[ROWS * KEYS], log_sums[ROWS];
        fill(scores, ROWS * KEYS, 1);
        scores[3] = 90; /* far above the others, as when a head is sure */
        memcpy(p, scores, sizeof p);
        memcpy(again, scores, sizeof p);
        gwtf_kernels_at(v)->softmax(p, log_sums, 0.5f, FIRST, ROWS, KEYS);
        gwtf_kernels_at(v)->softmax_again(again, log_sums, 0.5f, FIRST, ROWS, KEYS);
        for (size_t r = 0; r < ROWS; r++) {
            double sum = 0;
            for (size_t k = 0; k <= FIRST + r; k++)
                sum += exp(0.5 * (double)scores[r * KEYS + k]);
            CU_ASSERT_DOUBLE_EQUAL(log_sums[r], log(sum), 5e-6);
            for (size_t k = 0; k < KEYS; k++) {
                double wanted = k <= FIRST + r ? exp(0.5 * (double)scores[r * KEYS + k]) / sum : 0;
                CU_ASSERT_DOUBLE_EQUAL(p[r * KEYS + k], wanted, 1e-6);
                CU_ASSERT_DOUBLE_EQUAL(again[r * KEYS + k], wanted, 5e-6);
            }
        }
    }
}

static void cross_entropy_is_the_logarithm_of_the_labels_probability(void) {
    enum { ROWS = 3, LETTERS = 70 };
    const uint32_t labels[ROWS] = {0, 69, 31};
    for (size_t v = 0; gwtf_kernels_at(v) != NULL; v++) {
        float logits[ROWS * LETTERS], before[ROWS * LETTERS];
        fill(before, ROWS * LETTERS, 2);
        before[5] = 300; /* e^300 has no place in single precision */
        memcpy(logits, before, sizeof logits);
        double loss = gwtf_kernels_at(v)->cross_entropy(logits, labels, 0.25f, true, ROWS, LETTERS);
        double wanted = 0;
        for (size_t r = 0; r < ROWS; r++) {
            double sum = 0;
            for (size_t i = 0; i < LETTERS; i++)
                sum += exp((double)before[r * LETTERS + i]);
            wanted += log(sum) - (double)before[r * LETTERS + labels[r]];
            for (size_t i = 0; i < LETTERS; i++) {
                double p = exp((double)before[r * LETTERS + i]) / sum;
                CU_ASSERT_DOUBLE_EQUAL(logits[r * LETTERS + i], 0.25 * (p - (i == labels[r])),
                                       1e-7);
            }
        }
        CU_ASSERT_DOUBLE_EQUAL(loss, wanted, 1e-4);
        memcpy(logits, before, sizeof logits);
        CU_ASSERT_EQUAL(
            gwtf_kernels_at(v)->cross_entropy(logits, labels, 0.25f, false, ROWS, LETTERS), loss);
    }
}

/* The worst error of one product, relative to sqrt(k): operands are of order 1. */
static double product_error(const struct gwtf_compute *compute, size_t m, size_t n, size_t k,
                            int variant, bool alone) {
    bool a_across = variant & 1, b_across = variant & 2, extras = variant & 4;
    size_t stride = n + 3;
    float *a = malloc(m * k * sizeof *a), *b = malloc(n * k * sizeof *b);
    float *c = malloc(m * stride * sizeof *c), *around = malloc(m * stride * sizeof *around);
    float *bias = malloc(n * sizeof *bias);
    fill(a, m * k, 1);
    fill(b, n * k, 2);
    fill(around, m * stride, 3);
    fill(bias, n, 4);
    for (size_t i = 0; i < m * stride; i++)
        c[i] = 7;
    struct gwtf_product product = {.m = m,
                                   .n = n,
                                   .k = k,
                                   .a = {a, a_across ? m : k, a_across},
                                   .b = {b, b_across ? k : n, b_across},
                                   .c = c,
                                   .c_stride = stride,
                                   .around = extras ? around : NULL,
                                   .bias = extras ? bias : NULL};
    (alone ? gwtf_product_run_alone : gwtf_product_run)(compute, &product);
    double worst = 0;
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            double sum = extras ? (double)around[i * stride + j] + (double)bias[j] : 0;
            for (size_t p = 0; p < k; p++)
                sum += (double)a[a_across ? p * m + i : i * k + p] *
                       (double)b[b_across ? j * k + p : p * n + j];
            worst = fmax(worst, fabs(sum - (double)c[i * stride + j]));
        }
        for (size_t j = n; j < stride; j++)
            CU_ASSERT_EQUAL(c[i * stride + j], 7);
    }
    float *const memory[] = {a, b, c, around, bias};
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++)
        free(memory[i]);
    return worst / sqrt((double)k);
}

static const size_t product_shapes[][3] = {{1, 1, 1},    {14, 32, 16},  {15, 33, 17},  {6, 16, 8},
                                           {5, 70, 3},   {120, 40, 50}, {29, 31, 400}, {3, 1100, 5},
                                           {200, 7, 16}, {64, 256, 64}, {70, 33, 550}, {1, 70, 33},
                                           {1, 33, 700}};

/* The worst error over shapes, layouts and numbers of threads, with TILING for all of them. */
static double worst_product_error(const struct gwtf_tiling *tiling) {
    struct gwtf_tiling itself = {0};
    double worst = 0;
    if (tiling != NULL) {
        itself = *tiling;
        itself.for_few = NULL;
        tiling = &itself;
    }
    for (int threads = 1; threads <= 3; threads += 2) {
        struct gwtf_compute compute = {
            .kernels = gwtf_kernels_best(), .tiling = tiling, .threads = threads};
        struct gwtf_compute_limits limits = {.threads = threads};
        compute.scratch = aligned_alloc(64, gwtf_product_scratch_floats(&limits) * 4);
        for (size_t i = 0; i < sizeof product_shapes / sizeof product_shapes[0]; i++) {
            const size_t *shape = product_shapes[i];
            for (int variant = 0; variant < 16; variant++)
                worst = fmax(worst, product_error(&compute, shape[0], shape[1], shape[2],
                                                  variant & 7, variant >= 8));
        }
        free(compute.scratch);
    }
    return worst;
}

static void products_of_any_shape_and_layout_are_right(void) {
    /* Each of k terms is rounded once: of order 6e-8 * sqrt(k), times a few. */
    CU_ASSERT(worst_product_error(NULL) < 2e-6);
    for (size_t i = 0; gwtf_tiling_at(GWTF_PRECISION_FLOAT32, i) != NULL; i++) {
        double error = worst_product_error(gwtf_tiling_at(GWTF_PRECISION_FLOAT32, i));
        printf(" %s %.1e", gwtf_tiling_at(GWTF_PRECISION_FLOAT32, i)->name, error);
        CU_ASSERT(error < 2e-6);
    }
}

static void few_rows_or_columns_are_multiplied_by_the_tiling_for_them(void) {
    const struct gwtf_tiling few = {.name = "few"},
                             many = {.name = "many", .for_few = &few, .few = 32};
    CU_ASSERT_PTR_EQUAL(gwtf_tiling_for(&many, 32, 768), &few);
    CU_ASSERT_PTR_EQUAL(gwtf_tiling_for(&many, 768, 1), &few);
    CU_ASSERT_PTR_EQUAL(gwtf_tiling_for(&many, 33, 33), &many);
    CU_ASSERT_PTR_EQUAL(gwtf_tiling_for(&few, 1, 1), &few);
    /* What it stands for is what it computes: no other precision. */
    for (size_t i = 0; gwtf_tiling_at(GWTF_PRECISION_FLOAT32, i) != NULL; i++) {
        const struct gwtf_tiling *tiling = gwtf_tiling_at(GWTF_PRECISION_FLOAT32, i);
        bool found = tiling->for_few == NULL;
        for (size_t j = i + 1; gwtf_tiling_at(GWTF_PRECISION_FLOAT32, j) != NULL; j++)
            found = found || gwtf_tiling_at(GWTF_PRECISION_FLOAT32, j) == tiling->for_few;
        CU_ASSERT(found);
    }
}

static void products_in_bfloat16_are_right_to_its_rounding(void) {
    for (size_t i = 0; gwtf_tiling_at(GWTF_PRECISION_BFLOAT16, i) != NULL; i++) {
        double error = worst_product_error(gwtf_tiling_at(GWTF_PRECISION_BFLOAT16, i));
        printf(" %s %.1e", gwtf_tiling_at(GWTF_PRECISION_BFLOAT16, i)->name, error);
        /* Both operands of each term are rounded to 8 bits, by up to 2^-8 of them together; the
         * worst of 10^5 sums is some 5 deviations off. And some rounding there must be. */
        CU_ASSERT(error < 5 * 0.0039);
        CU_ASSERT(error > 1e-4);
    }
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(there_are_kernels_for_every_processor),
        GWTF_TEST(gelu_and_its_slope_are_right_to_single_precision),
        GWTF_TEST(swiglu_and_its_slopes_are_right_to_single_precision),
        GWTF_TEST(rotation_turns_pairs_and_turns_them_back),
        GWTF_TEST(gelu_takes_any_number),
        GWTF_TEST(causal_softmax_sums_to_one_and_sees_no_future),
        GWTF_TEST(cross_entropy_is_the_logarithm_of_the_labels_probability),
        GWTF_TEST(products_of_any_shape_and_layout_are_right),
        GWTF_TEST(few_rows_or_columns_are_multiplied_by_the_tiling_for_them),
        GWTF_TEST(products_in_bfloat16_are_right_to_its_rounding),
    };
    return gwtf_suite_main(argc, argv, "model_kernels", tests, sizeof tests / sizeof tests[0], NULL,
                           NULL);
}
