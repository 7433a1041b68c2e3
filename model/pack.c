#include "model/pack.h"

#include <math.h>
#include <string.h>

#define STEPS 127.0f
/* Added and taken away again it leaves the nearest whole number, of those below 2^22. */
#define WHOLE 12582912.0f
#define INFINITE 0x7f800000u
#define WITHOUT_SIGN 0x7fffffffu

static uint64_t blocks_of(uint64_t count) {
    return (count + GWTF_PACK_BLOCK - 1) / GWTF_PACK_BLOCK;
}

uint64_t gwtf_packed_bytes(enum gwtf_packing packing, uint64_t count) {
    uint64_t bytes = count * sizeof(float);
    if (packing == GWTF_PACKING_BFLOAT16)
        bytes = count * sizeof(uint16_t);
    else if (packing == GWTF_PACKING_INT8)
        bytes = blocks_of(count) * sizeof(float) + count;
    return (bytes + 3) / 4 * 4;
}

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void pack_bfloat16(const float *restrict values, uint64_t count, uint16_t *restrict packed) {
    for (uint64_t i = 0; i < count; i++) {
        uint32_t bits = bits_of(values[i]);
        uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        /* The carry could make something else of a NaN. */
        packed[i] = (uint16_t)((bits & WITHOUT_SIGN) > INFINITE ? 0x7fc0 : rounded);
    }
}

static void unpack_bfloat16(const uint16_t *restrict packed, uint64_t count,
                            float *restrict values) {
    for (uint64_t i = 0; i < count; i++)
        values[i] = of_bits((uint32_t)packed[i] << 16);
}

/* The largest absolute value; what is not finite is the largest of all. */
static float largest_of(const float *values, uint64_t count) {
    int32_t largest = 0;
    for (uint64_t i = 0; i < count; i++) {
        int32_t bits = (int32_t)(bits_of(values[i]) & WITHOUT_SIGN);
        largest = bits > largest ? bits : largest;
    }
    return of_bits((uint32_t)largest);
}

/* Returns the length of a step. */
static float pack_block(const float *restrict values, uint64_t count, int8_t *restrict packed) {
    float largest = largest_of(values, count);
    if (!isfinite(largest) || largest / STEPS == 0) {
        memset(packed, isfinite(largest) ? 0 : 1, count);
        return isfinite(largest) ? 0 : NAN;
    }
    float step = largest / STEPS;
    for (uint64_t i = 0; i < count; i++) {
        float whole = (values[i] / step + WHOLE) - WHOLE;
        /* A step is rounded, too: the largest may be a little more than 127 of it. */
        whole = whole > STEPS ? STEPS : whole < -STEPS ? -STEPS : whole;
        packed[i] = (int8_t)whole;
    }
    return step;
}

/* The steps of all blocks, and then their numbers. */
static void pack_int8(const float *values, uint64_t count, char *packed) {
    uint64_t blocks = blocks_of(count);
    int8_t *numbers = (int8_t *)(packed + blocks * sizeof(float));
    uint64_t bytes = blocks * sizeof(float) + count;
    memset(packed + bytes, 0, gwtf_packed_bytes(GWTF_PACKING_INT8, count) - bytes);
    for (uint64_t block = 0; block < blocks; block++) {
        uint64_t first = block * GWTF_PACK_BLOCK, left = count - first;
        float step = pack_block(values + first, left < GWTF_PACK_BLOCK ? left : GWTF_PACK_BLOCK,
                                numbers + first);
        memcpy(packed + block * sizeof step, &step, sizeof step);
    }
}

static void unpack_int8(const char *packed, uint64_t count, float *values) {
    uint64_t blocks = blocks_of(count);
    const int8_t *numbers = (const int8_t *)(packed + blocks * sizeof(float));
    for (uint64_t block = 0; block < blocks; block++) {
        uint64_t first = block * GWTF_PACK_BLOCK, left = count - first;
        uint64_t here = left < GWTF_PACK_BLOCK ? left : GWTF_PACK_BLOCK;
        float step;
        memcpy(&step, packed + block * sizeof step, sizeof step);
        for (uint64_t i = 0; i < here; i++)
            values[first + i] = step * (float)numbers[first + i];
    }
}

void gwtf_pack(enum gwtf_packing packing, const float *values, uint64_t count, void *packed) {
    switch (packing) {
    case GWTF_PACKING_NONE:
        memcpy(packed, values, count * sizeof *values);
        break;
    case GWTF_PACKING_BFLOAT16:
        if (count % 2 != 0)
            ((uint16_t *)packed)[count] = 0;
        pack_bfloat16(values, count, packed);
        break;
    case GWTF_PACKING_INT8:
        pack_int8(values, count, packed);
        break;
    }
}

void gwtf_unpack(enum gwtf_packing packing, const void *packed, uint64_t count, float *values) {
    switch (packing) {
    case GWTF_PACKING_NONE:
        memcpy(values, packed, count * sizeof *values);
        break;
    case GWTF_PACKING_BFLOAT16:
        unpack_bfloat16(packed, count, values);
        break;
    case GWTF_PACKING_INT8:
        unpack_int8(packed, count, values);
        break;
    }
}
