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
    uint32_t mask = count < HALF ? (1u << count) - 1 : 0xffffu;
    return (floats)_mm512_maskz_loadu_ps((__mmask16)mask, values);
}

/* Element 2 i is lower half of pair i, of the first vector that was rounded. */
static inline words interleave(__m512i halves) {
    uint16_t order[2 * HALF];
    for (uint16_t i = 0; i < HALF; i++) {
        order[2 * i] = i;
        order[2 * i + 1] = (uint16_t)(HALF + i);
    }
    return (words)_mm512_permutexvar_epi16(_mm512_loadu_si512(order), halves);
}

/* The pairs of two steps' numbers, for each part; each part is rounded to the nearest. What three
 * parts leave fits into the last without rounding. */
static inline void split(words *pairs, size_t parts, floats first, floats second) {
    for (size_t part = 0; part < parts; part++) {
        pairs[part] = interleave((__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first));
        first -= (floats)(pairs[part] << 16);
        second -= (floats)(pairs[part] & 0xffff0000u);
    }
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
 * of lanes side by side, all lanes of steps q and q + 16; else all steps of lane q. Of the block,
 * which begins at VALUES, COUNT lanes and DEPTH steps exist.
 */
static inline void read_row(floats *first, floats *second, const float *values,
                            const struct gwtf_lanes *lanes, size_t count, size_t depth, size_t q) {
    const floats none = {0};
    if (lanes->side_by_side) {
        const float *at = values + q * lanes->stride;
        *first = q < depth ? load_some(at, count) : none;
        *second = q + HALF < depth ? load_some(at + HALF * lanes->stride, count) : none;
    } else {
        const float *at = values + q * lanes->stride;
        *first = q < count ? load_some(at, depth) : none;
        *second = q < count && depth > HALF ? load_some(at + HALF, depth - HALF) : none;
    }
}

/* The same where the whole block exists. */
static inline void read_whole_row(floats *first, floats *second, const float *values,
                                  const struct gwtf_lanes *lanes, size_t q) {
    const float *at = values + q * lanes->stride;
    size_t apart = lanes->side_by_side ? HALF * lanes->stride : HALF;
    __builtin_prefetch(at + 2 * apart);
    __builtin_prefetch(at + 3 * apart);
    *first = load(at);
    *second = load(at + apart);
}

/* TRANSPOSED: the numbers' order in memory is not the tile's. */
static inline void pack_tile(uint32_t *tile, size_t parts, const struct gwtf_lanes *lanes,
                             size_t lane, size_t count, size_t step, size_t depth,
                             bool transposed) {
    const float *values = lanes->values + (lanes->side_by_side ? step * lanes->stride + lane
                                                               : lane * lanes->stride + step);
    bool whole = count >= HALF && depth >= SIDE;
    words rows[PARTS_MAX][HALF];
    for (size_t q = 0; q < HALF; q++) {
        floats first, second;
        words pairs[PARTS_MAX];
        if (whole)
            read_whole_row(&first, &second, values, lanes, q);
        else
            read_row(&first, &second, values, lanes, count, depth, q);
        split(pairs, parts, first, second);
        for (size_t part = 0; part < parts; part++) {
            if (transposed)
                rows[part][q] = pairs[part];
            else
                memcpy(tile + part * 2 * TILE_WORDS + q * HALF, &pairs[part], sizeof pairs[part]);
        }
    }
    for (size_t part = 0; transposed && part < parts; part++) {
        transpose(rows[part]);
        memcpy(tile + part * 2 * TILE_WORDS, rows[part], sizeof rows[part]);
    }
}

static inline void pack_all(uint32_t *packed, size_t parts, const struct gwtf_lanes *lanes,
                            size_t count, size_t depth, bool transposed) {
    for (size_t panel = 0; panel < count; panel += SIDE) {
        for (size_t step = 0; step < depth; step += SIDE) {
            for (size_t half = 0; half < 2; half++) {
                size_t lane = panel + half * HALF;
                pack_tile(packed + half * TILE_WORDS, parts, lanes, lane,
                          lane < count ? count - lane : 0, step, depth - step, transposed);
            }
            packed += parts * 2 * TILE_WORDS;
        }
    }
}

/* Each way of lying in memory gets its own code. */
static inline void pack(uint32_t *packed, size_t parts, const struct gwtf_lanes *lanes,
                        size_t count, size_t depth, bool is_b) {
    struct gwtf_lanes known = *lanes;
    if (lanes->side_by_side) {
        known.side_by_side = true;
        pack_all(packed, parts, &known, count, depth, !is_b);
    } else {
        known.side_by_side = false;
        pack_all(packed, parts, &known, count, depth, is_b);
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

/* A number is split once and multiplied as often as the other operand has lanes: with few of them
 * splitting costs more than the unit saves. */
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
    .for_few = &gwtf_tiling_avx512,
    .few = SIDE,
};
