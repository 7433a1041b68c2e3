/*
 * Tiles for Intel's matrix unit (AMX): products of bfloat16 numbers, summed in float32.
 *
 * In bfloat16 each operand is rounded once. In float32 each is the exact sum of three bfloat16
 * numbers, x = x1 + x2 + x3 with 8 bits of its 24 in each, and of the nine products the six that a
 * float32 sum can show are computed: x1 y1, x1 y2, x2 y1, x1 y3, x3 y1, x2 y2. What is left out is
 * under 2^-25 of |x y| (Henry, Tang and Heinecke 2019, arXiv 1904.06376). The unit multiplies 16
 * times as fast as AVX-512 adds up float32, so that six passes are still the faster way.
 *
 * A panel holds, for each 32 steps, for each part, two tiles: lanes 0..15 and 16..31. A tile has 16
 * rows of 16 pairs of bfloat16 numbers; pair q is of steps q and q + 16, so that packing is a shift
 * and an or. A tile of A has a row for each lane, one of B a row for each pair.
 */
#include "model/onednn/tiling.h"

#include <immintrin.h>
#include <string.h>

#define SIDE 32u /* of a tile of C, and steps that one instruction takes */
#define HALF 16u
#define TILE_WORDS 256u /* pairs in a tile */
#define PARTS_MAX 3u

typedef uint32_t words __attribute__((vector_size(64)));
typedef int32_t word_index __attribute__((vector_size(64)));
typedef float floats __attribute__((vector_size(64)));
typedef float loose_floats __attribute__((vector_size(64), aligned(sizeof(float))));

/* What LDTILECFG reads (Intel's manual, volume 1, section 18.3). */
struct tile_shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} __attribute__((aligned(64)));

/* Constant, since the compiler does not see that the instruction reads all of it. */
static const struct tile_shapes whole_tiles = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {HALF, HALF, HALF, HALF, HALF, HALF, HALF, HALF},
};

static void enter(void) {
    _tile_loadconfig(&whole_tiles);
}

static void leave(void) {
    _tile_release();
}

static inline floats load(const float *values) {
    return *(const loose_floats *)(const void *)values;
}

static inline floats load_some(const float *values, size_t count) {
    return (floats)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), values);
}

/* X rounded to bfloat16, to the nearest, ties to even; its bits stand in the upper halves, and
 * others in the lower ones. */
static inline words rounded(words x) {
    return x + 0x7fffu + ((x >> 16) & 1u);
}

static inline words pairs_of(words first, words second) {
    return (second & 0xffff0000u) | (first >> 16);
}

/* The pairs of two steps' numbers, for each part. */
static inline void split(words *pairs, size_t parts, floats first, floats second) {
    for (size_t part = 0; part + 1 < parts; part++) {
        words a = rounded((words)first) & 0xffff0000u, b = rounded((words)second) & 0xffff0000u;
        pairs[part] = pairs_of(a, b);
        first -= (floats)a;
        second -= (floats)b;
    }
    /* What three parts leave fits into the last without rounding. */
    pairs[parts - 1] = pairs_of(rounded((words)first), rounded((words)second));
}

/* Rows become columns, by four rounds of interleaving row i with row i + 8. */
static inline void transpose(words rows[HALF]) {
    word_index low, high;
    for (int i = 0; i < (int)HALF; i++) {
        low[i] = i / 2 + (i % 2) * (int)HALF;
        high[i] = (int)HALF / 2 + i / 2 + (i % 2) * (int)HALF;
    }
    for (size_t round = 1; round < HALF; round *= 2) {
        words mixed[HALF];
#pragma GCC unroll 8
        for (size_t i = 0; i < HALF / 2; i++) {
            mixed[2 * i] = __builtin_shuffle(rows[i], rows[i + HALF / 2], low);
            mixed[2 * i + 1] = __builtin_shuffle(rows[i], rows[i + HALF / 2], high);
        }
        memcpy(rows, mixed, sizeof mixed);
    }
}

/*
 * Row Q of the 16 that the block's numbers come in, before they are brought into the tile's order:
 * of lanes side by side, lanes FIRST.. of steps q and q + 16; else steps q and q + 16 of all q, of
 * lane FIRST + Q. COUNT and DEPTH say what exists from the block's first number on.
 */
static inline void read_row(words *pairs, size_t parts, const struct gwtf_lanes *lanes,
                            size_t first, size_t count, size_t step, size_t depth, size_t q) {
    floats a = {0}, b = {0};
    if (lanes->side_by_side) {
        const float *values = lanes->values + (step + q) * lanes->stride + first;
        const float *second = values + HALF * lanes->stride;
        if (count >= HALF) {
            a = q < depth ? load(values) : a;
            b = q + HALF < depth ? load(second) : b;
        } else {
            a = q < depth ? load_some(values, count) : a;
            b = q + HALF < depth ? load_some(second, count) : b;
        }
    } else if (q < count) {
        const float *values = lanes->values + (first + q) * lanes->stride + step;
        a = depth >= HALF ? load(values) : load_some(values, depth);
        if (depth >= 2 * HALF)
            b = load(values + HALF);
        else if (depth > HALF)
            b = load_some(values + HALF, depth - HALF);
    }
    split(pairs, parts, a, b);
}

/* TRANSPOSED: the numbers' order in memory is not the tile's. */
static inline void pack_tile(uint32_t *tile, size_t parts, const struct gwtf_lanes *lanes,
                             size_t first, size_t count, size_t step, size_t depth,
                             bool transposed) {
    words rows[PARTS_MAX][HALF];
    for (size_t q = 0; q < HALF; q++) {
        words pairs[PARTS_MAX];
        read_row(pairs, parts, lanes, first, count, step, depth, q);
        for (size_t part = 0; part < parts; part++)
            rows[part][q] = pairs[part];
    }
    for (size_t part = 0; part < parts; part++) {
        if (transposed)
            transpose(rows[part]);
        memcpy(tile + part * 2 * TILE_WORDS, rows[part], sizeof rows[part]);
    }
}

static inline void pack(uint32_t *packed, size_t parts, const struct gwtf_lanes *lanes,
                        size_t count, size_t depth, bool is_b) {
    bool transposed = lanes->side_by_side != is_b;
    for (size_t panel = 0; panel < count; panel += SIDE) {
        for (size_t step = 0; step < depth; step += SIDE) {
            for (size_t half = 0; half < 2; half++) {
                size_t first = panel + half * HALF;
                pack_tile(packed + half * TILE_WORDS, parts, lanes, first,
                          first < count ? count - first : 0, step, depth - step, transposed);
            }
            packed += parts * 2 * TILE_WORDS;
        }
    }
}

static void pack_a(void *packed, const struct gwtf_lanes *lanes, size_t count, size_t depth) {
    pack(packed, 1, lanes, count, depth, false);
}

static void pack_b(void *packed, const struct gwtf_lanes *lanes, size_t count, size_t depth) {
    pack(packed, 1, lanes, count, depth, true);
}

static void pack_a_split(void *packed, const struct gwtf_lanes *lanes, size_t count, size_t depth) {
    pack(packed, PARTS_MAX, lanes, count, depth, false);
}

static void pack_b_split(void *packed, const struct gwtf_lanes *lanes, size_t count, size_t depth) {
    pack(packed, PARTS_MAX, lanes, count, depth, true);
}

/* Registers: 0..3 hold C, 4 and 5 the upper and lower tile of A, 6 and 7 the left and right one of
 * B. */
#define TILE_BYTES (TILE_WORDS * sizeof(uint32_t))
#define ROW_BYTES (HALF * sizeof(uint32_t))
#define LOAD_A(part)                                                                               \
    do {                                                                                           \
        _tile_loadd(4, (part), ROW_BYTES);                                                         \
        _tile_loadd(5, (part) + TILE_BYTES, ROW_BYTES);                                            \
    } while (0)
#define LOAD_B(part)                                                                               \
    do {                                                                                           \
        _tile_loadd(6, (part), ROW_BYTES);                                                         \
        _tile_loadd(7, (part) + TILE_BYTES, ROW_BYTES);                                            \
    } while (0)
#define MULTIPLY()                                                                                 \
    do {                                                                                           \
        _tile_dpbf16ps(0, 4, 6);                                                                   \
        _tile_dpbf16ps(1, 4, 7);                                                                   \
        _tile_dpbf16ps(2, 5, 6);                                                                   \
        _tile_dpbf16ps(3, 5, 7);                                                                   \
    } while (0)

static inline void zero_sums(void) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

static inline void store_sums(float *c, size_t stride) {
    size_t bytes = stride * sizeof *c;
    _tile_stored(0, c, bytes);
    _tile_stored(1, c + HALF, bytes);
    _tile_stored(2, c + HALF * stride, bytes);
    _tile_stored(3, c + HALF * stride + HALF, bytes);
}

static inline void load_sums(const float *c, size_t stride) {
    size_t bytes = stride * sizeof *c;
    _tile_loadd(0, c, bytes);
    _tile_loadd(1, c + HALF, bytes);
    _tile_loadd(2, c + HALF * stride, bytes);
    _tile_loadd(3, c + HALF * stride + HALF, bytes);
}

/* C = SUMS (SIDE, SIDE) + AROUND + BIAS. */
static inline void add_up(float *c, size_t stride, const float *sums, const float *around,
                          const float *bias) {
    floats left = {0}, right = {0};
    if (bias != NULL) {
        left = load(bias);
        right = load(bias + HALF);
    }
    for (size_t i = 0; i < SIDE; i++, c += stride, sums += SIDE) {
        floats a = load(sums) + left, b = load(sums + HALF) + right;
        if (around != NULL) {
            a += load(around);
            b += load(around + HALF);
            around += stride;
        }
        *(loose_floats *)(void *)c = a;
        *(loose_floats *)(void *)(c + HALF) = b;
    }
}

static void tile(float *c, size_t stride, const void *packed_a, const void *packed_b, size_t depth,
                 const float *around, const float *bias) {
    const char *a = packed_a, *b = packed_b;
    if (around != NULL)
        load_sums(around, stride);
    else
        zero_sums();
    for (size_t step = 0; step < depth; step += SIDE) {
        LOAD_A(a);
        LOAD_B(b);
        MULTIPLY();
        a += 2 * TILE_BYTES;
        b += 2 * TILE_BYTES;
    }
    store_sums(c, stride);
    if (bias != NULL)
        for (size_t i = 0; i < SIDE; i++)
            for (size_t j = 0; j < SIDE; j++)
                c[i * stride + j] += bias[j];
}

/* The sums meet AROUND at the end, as in the other tiles, so that they round at their own size. */
static void tile_split(float *c, size_t stride, const void *packed_a, const void *packed_b,
                       size_t depth, const float *around, const float *bias) {
    const char *a = packed_a, *b = packed_b;
    float sums[SIDE * SIDE] __attribute__((aligned(64)));
    zero_sums();
    for (size_t step = 0; step < depth; step += SIDE) {
        const char *a2 = a + 2 * TILE_BYTES, *a3 = a + 4 * TILE_BYTES;
        const char *b2 = b + 2 * TILE_BYTES, *b3 = b + 4 * TILE_BYTES;
        LOAD_A(a);
        LOAD_B(b3);
        MULTIPLY();
        LOAD_B(b2);
        MULTIPLY();
        LOAD_A(a2);
        MULTIPLY();
        LOAD_B(b);
        MULTIPLY();
        LOAD_A(a3);
        MULTIPLY();
        LOAD_A(a);
        MULTIPLY();
        a += 6 * TILE_BYTES;
        b += 6 * TILE_BYTES;
    }
    store_sums(sums, SIDE);
    add_up(c, stride, sums, around, bias);
}

const struct gwtf_tiling gwtf_tiling_amx = {
    .name = "amx",
    .rows = SIDE,
    .columns = SIDE,
    .depth_most = 512,
    .depth_step = SIDE,
    .number_bytes = 2,
    .pack_a = pack_a,
    .pack_b = pack_b,
    .tile = tile,
    .enter = enter,
    .leave = leave,
};

const struct gwtf_tiling gwtf_tiling_amx_split = {
    .name = "amx, three parts",
    .rows = SIDE,
    .columns = SIDE,
    .depth_most = 256,
    .depth_step = SIDE,
    .number_bytes = 2 * PARTS_MAX,
    .pack_a = pack_a_split,
    .pack_b = pack_b_split,
    .tile = tile_split,
    .enter = enter,
    .leave = leave,
};
