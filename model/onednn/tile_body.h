/*
 * Tiles of vector registers, for kernels_body.h. The including file defines VECTOR_BYTES, the size
 * of a register, TILE_ROWS and TILE_VECTORS, so that TILE_ROWS * TILE_VECTORS sums, TILE_VECTORS
 * vectors of B and one of A fill the registers, and TILING and TILING_ROUNDED, the tables' names.
 */
#include "model/onednn/tiling.h"

#define LANES (VECTOR_BYTES / sizeof(float))
#define TILE_COLUMNS (TILE_VECTORS * LANES)
/* Steps of B that are fetched ahead: it streams from the second cache. */
#define AHEAD 16
/* Steps of a panel. */
#define TILE_DEPTH 256

typedef float vector __attribute__((vector_size(VECTOR_BYTES)));
typedef float loose_vector __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(float))));
typedef int32_t vector_index __attribute__((vector_size(VECTOR_BYTES)));

static inline vector load(const float *values) {
    return *(const loose_vector *)(const void *)values;
}

static inline void store(float *values, vector v) {
    *(loose_vector *)(void *)values = v;
}

static void tile(float *c, size_t stride, const void *packed_a, const void *packed_b, size_t depth,
                 const float *around, const float *bias) {
    const float *a = packed_a, *b = packed_b;
    vector sums[TILE_ROWS][TILE_VECTORS];
    /* What the sums will meet at the end comes from far: ask for it now. */
    const float *meets = around != NULL ? around : c;
    for (size_t i = 0; i < TILE_ROWS; i++) {
        for (size_t j = 0; j < TILE_VECTORS; j++)
            __builtin_prefetch(meets + i * stride + j * LANES, 1);
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < TILE_ROWS; i++) {
#pragma GCC unroll 4
        for (size_t j = 0; j < TILE_VECTORS; j++)
            sums[i][j] = (vector){0};
    }
    for (size_t step = 0; step < depth; step++) {
        vector row[TILE_VECTORS];
#pragma GCC unroll 4
        for (size_t j = 0; j < TILE_VECTORS; j++) {
            row[j] = *(const vector *)(const void *)(b + step * TILE_COLUMNS + j * LANES);
            __builtin_prefetch(b + (step + AHEAD) * TILE_COLUMNS + j * LANES);
        }
#pragma GCC unroll 16
        for (size_t i = 0; i < TILE_ROWS; i++) {
#pragma GCC unroll 4
            for (size_t j = 0; j < TILE_VECTORS; j++)
                sums[i][j] += a[step * TILE_ROWS + i] * row[j];
        }
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < TILE_ROWS; i++) {
#pragma GCC unroll 4
        for (size_t j = 0; j < TILE_VECTORS; j++) {
            vector sum = sums[i][j];
            if (around != NULL)
                sum += load(around + i * stride + j * LANES);
            if (bias != NULL)
                sum += load(bias + j * LANES);
            store(c + i * stride + j * LANES, sum);
        }
    }
}

/*
 * A step of PANELS panels side by side in VALUES, as whole vectors: what is read past a panel's
 * lanes belongs to the next panel or row, what is written there the panel's next step overwrites.
 */
static inline void copy_step(float *packed, size_t panel_floats, const float *values, size_t panels,
                             size_t lanes, size_t vectors) {
    for (size_t panel = 0; panel < panels; panel++) {
        for (size_t i = 0; i < vectors; i++)
            store(packed + panel * panel_floats + i * LANES,
                  load(values + panel * lanes + i * LANES));
    }
}

/* By rows, because memory is fetched by rows. The caller's number of lanes is a constant. */
static inline void pack_whole(float *packed, const float *values, size_t stride, size_t panels,
                              size_t lanes, size_t depth, size_t steps) {
    for (size_t step = 0; step < steps; step++)
        copy_step(packed + step * lanes, lanes * depth, values + step * stride, panels, lanes,
                  (lanes + LANES - 1) / LANES);
}

static void pack_along(float *packed, const float *values, size_t stride, size_t columns,
                       size_t lanes, size_t depth) {
    size_t panels = columns / lanes;
    if (lanes == TILE_COLUMNS)
        pack_whole(packed, values, stride, panels, TILE_COLUMNS, depth, depth - 1);
    else
        pack_whole(packed, values, stride, panels, TILE_ROWS, depth, depth - 1);
    /* Float by float: the last step, after which nothing may be read, and the last panel, if it
     * needs zeros. */
    for (size_t first = 0; first < columns; first += lanes) {
        float *panel = packed + first * depth;
        size_t used = columns - first < lanes ? columns - first : lanes;
        for (size_t step = used == lanes ? depth - 1 : 0; step < depth; step++) {
            for (size_t i = 0; i < lanes; i++)
                panel[step * lanes + i] = i < used ? values[step * stride + first + i] : 0.0f;
        }
    }
}

/* Rows become columns, by log2(LANES) rounds of interleaving row i with row i + LANES / 2. */
static inline void transpose(vector rows[LANES]) {
    vector_index low, high;
    for (size_t i = 0; i < LANES; i++) {
        low[i] = (int32_t)(i / 2 + (i % 2) * LANES);
        high[i] = (int32_t)(LANES / 2 + i / 2 + (i % 2) * LANES);
    }
    for (size_t round = 1; round < LANES; round *= 2) {
        vector mixed[LANES];
#pragma GCC unroll 8
        for (size_t i = 0; i < LANES / 2; i++) {
            mixed[2 * i] = __builtin_shuffle(rows[i], rows[i + LANES / 2], low);
            mixed[2 * i + 1] = __builtin_shuffle(rows[i], rows[i + LANES / 2], high);
        }
        memcpy(rows, mixed, sizeof mixed);
    }
}

static void pack_panel_across(float *panel, const float *values, size_t stride, size_t used,
                              size_t lanes, size_t depth) {
    for (size_t first = 0; first < lanes; first += LANES) {
        size_t step = 0;
        /* Whole squares; what a store writes past the panel's lanes, the next one overwrites. */
        for (; step + LANES <= depth; step += LANES) {
            vector square[LANES];
            for (size_t i = 0; i < LANES; i++)
                square[i] =
                    first + i < used ? load(values + (first + i) * stride + step) : (vector){0};
            transpose(square);
            for (size_t i = 0; i < LANES; i++)
                store(panel + (step + i) * lanes + first, square[i]);
        }
        for (; step < depth; step++) {
            for (size_t i = first; i < lanes && i < first + LANES; i++)
                panel[step * lanes + i] = i < used ? values[i * stride + step] : 0.0f;
        }
    }
}

static void pack_across(float *packed, const float *values, size_t stride, size_t columns,
                        size_t lanes, size_t depth) {
    for (size_t first = 0; first < columns; first += lanes)
        pack_panel_across(packed + first * depth, values + first * stride, stride,
                          columns - first < lanes ? columns - first : lanes, lanes, depth);
}

static inline void pack(float *packed, const struct gwtf_lanes *lanes, size_t count, size_t width,
                        size_t depth) {
    (lanes->side_by_side ? pack_along : pack_across)(packed, lanes->values, lanes->stride, count,
                                                     width, depth);
}

static void pack_a(void *packed, const struct gwtf_lanes *lanes, size_t count, size_t depth) {
    pack(packed, lanes, count, TILE_ROWS, depth);
}

static void pack_b(void *packed, const struct gwtf_lanes *lanes, size_t count, size_t depth) {
    pack(packed, lanes, count, TILE_COLUMNS, depth);
}

/* Each number to the nearest that bfloat16 has, ties to even. */
static void round_panels(float *packed, size_t count, size_t width, size_t depth) {
    size_t numbers = (count + width - 1) / width * width * depth;
#pragma omp simd
    for (size_t i = 0; i < numbers; i++) {
        uint32_t bits;
        memcpy(&bits, &packed[i], sizeof bits);
        bits = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
        memcpy(&packed[i], &bits, sizeof bits);
    }
}

static void pack_a_rounded(void *packed, const struct gwtf_lanes *lanes, size_t count,
                           size_t depth) {
    pack_a(packed, lanes, count, depth);
    round_panels(packed, count, TILE_ROWS, depth);
}

static void pack_b_rounded(void *packed, const struct gwtf_lanes *lanes, size_t count,
                           size_t depth) {
    pack_b(packed, lanes, count, depth);
    round_panels(packed, count, TILE_COLUMNS, depth);
}

const struct gwtf_tiling TILING = {
    .name = KERNELS_NAME,
    .rows = TILE_ROWS,
    .columns = TILE_COLUMNS,
    .depth_most = TILE_DEPTH,
    .depth_step = 1,
    .number_bytes = sizeof(float),
    .pack_a = pack_a,
    .pack_b = pack_b,
    .tile = tile,
};

/* Where no unit multiplies bfloat16: the same products, no faster than in float32. */
const struct gwtf_tiling TILING_ROUNDED = {
    .name = KERNELS_NAME ", rounded",
    .rows = TILE_ROWS,
    .columns = TILE_COLUMNS,
    .depth_most = TILE_DEPTH,
    .depth_step = 1,
    .number_bytes = sizeof(float),
    .pack_a = pack_a_rounded,
    .pack_b = pack_b_rounded,
    .tile = tile,
};
