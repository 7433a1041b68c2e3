/* Boundary tensors in fewer bytes (model/pack.h). */
#include "model/pack.h"
#include "share/base/random.h"
#include "tests/support/suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT 1000
#define GUARD 16

static float values[COUNT], back[COUNT];
static char packed[4 * COUNT + GUARD];

/* There and back; what lies behind the packed bytes stays as it was. */
static void pass(enum gwtf_packing packing, uint64_t count) {
    uint64_t bytes = gwtf_packed_bytes(packing, count);
    memset(packed, 0x5a, sizeof packed);
    gwtf_pack(packing, values, count, packed);
    for (uint64_t i = 0; i < GUARD; i++)
        CU_ASSERT_EQUAL(packed[bytes + i], 0x5a);
    memset(back, 0xff, sizeof back);
    gwtf_unpack(packing, packed, count, back);
}

static void fill(uint64_t seed, float size) {
    for (uint64_t i = 0; i < COUNT; i++)
        values[i] = size * (float)gwtf_random_normal_at(seed, i);
}

static void packed_tensors_take_a_half_and_a_quarter(void) {
    CU_ASSERT_EQUAL(gwtf_packed_bytes(GWTF_PACKING_NONE, 640), 2560);
    CU_ASSERT_EQUAL(gwtf_packed_bytes(GWTF_PACKING_BFLOAT16, 640), 1280);
    CU_ASSERT_EQUAL(gwtf_packed_bytes(GWTF_PACKING_INT8, 640), 640 + 40);
    CU_ASSERT_EQUAL(gwtf_packed_bytes(GWTF_PACKING_BFLOAT16, 641), 1284);
    CU_ASSERT_EQUAL(gwtf_packed_bytes(GWTF_PACKING_INT8, 641), 644 + 44);
    CU_ASSERT_EQUAL(gwtf_packed_bytes(GWTF_PACKING_INT8, 0), 0);
}

static void numbers_come_back_as_near_as_they_can(void) {
    for (uint64_t count = COUNT - 70; count <= COUNT; count++) {
        fill(count, 3.0f);
        pass(GWTF_PACKING_NONE, count);
        CU_ASSERT_EQUAL(memcmp(values, back, count * sizeof *values), 0);
        pass(GWTF_PACKING_BFLOAT16, count);
        for (uint64_t i = 0; i < count; i++)
            CU_ASSERT(fabsf(back[i] - values[i]) <= fabsf(values[i]) / 256);
        pass(GWTF_PACKING_INT8, count);
        for (uint64_t i = 0; i < count; i++) {
            float largest = 0;
            uint64_t first = i / GWTF_PACK_BLOCK * GWTF_PACK_BLOCK;
            for (uint64_t j = first; j < first + GWTF_PACK_BLOCK && j < count; j++)
                largest = fmaxf(largest, fabsf(values[j]));
            CU_ASSERT(fabsf(back[i] - values[i]) <= largest / 127 * 0.50001f);
            CU_ASSERT(fabsf(back[i]) <= largest * 1.00001f);
        }
    }
}

/* A tensor that is packed again, as after a repair, loses nothing more. */
static void packing_twice_changes_nothing(void) {
    for (int packing = GWTF_PACKING_BFLOAT16; packing <= GWTF_PACKING_INT8; packing++) {
        fill(7, 1e-3f);
        pass((enum gwtf_packing)packing, COUNT);
        memcpy(values, back, sizeof values);
        pass((enum gwtf_packing)packing, COUNT);
        for (uint64_t i = 0; i < COUNT; i++)
            CU_ASSERT(fabsf(back[i] - values[i]) <= fabsf(values[i]) * 1e-6f);
    }
}

static void halves_go_to_even(void) {
    values[0] = 1.0f + 1.0f / 256; /* between 1 and 1 + 1/128 */
    values[1] = 1.0f + 3.0f / 256;
    values[2] = -0.0f;
    values[3] = 0x1.fffffep127f; /* rounds to infinity */
    pass(GWTF_PACKING_BFLOAT16, 4);
    CU_ASSERT_EQUAL(back[0], 1.0f);
    CU_ASSERT_EQUAL(back[1], 1.0f + 4.0f / 256);
    CU_ASSERT(back[2] == 0 && signbit(back[2]));
    CU_ASSERT(isinf(back[3]));
}

static void what_is_not_finite_is_seen(void) {
    const float odd[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        fill(3, 1.0f);
        values[70] = odd[i];
        pass(GWTF_PACKING_BFLOAT16, COUNT);
        CU_ASSERT(i == 0 ? isnan(back[70]) : back[70] == odd[i]);
        pass(GWTF_PACKING_INT8, COUNT);
        CU_ASSERT_TRUE(isnan(back[70]));
        CU_ASSERT_TRUE(isnan(back[64]));
        CU_ASSERT_TRUE(isfinite(back[63]));
        CU_ASSERT_TRUE(isfinite(back[128]));
    }
}

/* A NaN whose bits a carry would make a zero of. */
static void every_nan_stays_one(void) {
    uint32_t bits = 0x7fffffff;
    memcpy(&values[0], &bits, sizeof bits);
    pass(GWTF_PACKING_BFLOAT16, 1);
    CU_ASSERT_TRUE(isnan(back[0]));
}

/* Of subnormal numbers there are too few for 127 steps that are all alike. */
static void very_small_numbers_keep_their_sign_or_are_none(void) {
    memset(values, 0, sizeof values);
    values[3] = 1e-45f;
    values[128] = 190 * 0x1p-149f;
    values[129] = -190 * 0x1p-149f;
    values[64] = 1e-30f;
    pass(GWTF_PACKING_INT8, COUNT);
    CU_ASSERT_EQUAL(back[3], 0);
    CU_ASSERT_DOUBLE_EQUAL(back[64] / 1e-30f, 1, 1e-6);
    CU_ASSERT(back[128] >= 100 * 0x1p-149f && back[128] <= 190 * 0x1p-149f);
    CU_ASSERT_EQUAL(back[129], -back[128]);
    for (uint64_t i = 130; i < COUNT; i++)
        CU_ASSERT_EQUAL(back[i], 0);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(packed_tensors_take_a_half_and_a_quarter),
        GWTF_TEST(numbers_come_back_as_near_as_they_can),
        GWTF_TEST(packing_twice_changes_nothing),
        GWTF_TEST(halves_go_to_even),
        GWTF_TEST(what_is_not_finite_is_seen),
        GWTF_TEST(every_nan_stays_one),
        GWTF_TEST(very_small_numbers_keep_their_sign_or_are_none),
    };
    return gwtf_suite_main(argc, argv, "pack", tests, sizeof tests / sizeof tests[0], NULL, NULL);
}
