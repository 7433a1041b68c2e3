/*
 * Our own product is the classical one (Goto and van de Geijn 2008): panels of B, packed, stay in
 * the second cache, a panel of A meets each of them, and a tile of C lives in registers. It
 * replaces dnnl_sgemm where the processor's kernels bring a tile. Measured with AVX-512, one core,
 * in GFLOP/s of 147: 108 to 117 for every layout, where sgemm has 115 to 128 for most plain
 * products, but 75 to 88 where the left operand is transposed, as in every weight gradient.
 */
#include "model/onednn/product.h"

#include "model/onednn/kernels.h"
#include "model/onednn/share.h"
#include "model/onednn/tiling.h"
#include "share/base/assert.h"

#include <dnnl.h>
#include <omp.h>
#include <string.h>

/* Columns of B that are packed at a time, when all threads share them and when one thread is alone,
 * and rows of A. Multiples of every tile's sizes where they are bounds of a buffer. */
#define COLUMNS_SHARED 1024u
#define COLUMNS_ALONE 256u
#define ROWS 64u
/* The most that any tiling has of a lane at a time: 256 steps of 6 bytes. */
#define LANE_BYTES_MAX ((size_t)1536)
/* Packing writes up to so much past a panel's end. */
#define SLACK_BYTES ((size_t)256)

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

#define B_BYTES(columns) (LANE_BYTES_MAX * ((columns) + GWTF_TILE_SIDE_MAX) + SLACK_BYTES)
#define A_BYTES (LANE_BYTES_MAX * (ROWS + GWTF_TILE_SIDE_MAX) + SLACK_BYTES)
#define SHARED_BYTES B_BYTES(COLUMNS_SHARED)
#define ALONE_BYTES (B_BYTES(COLUMNS_ALONE) + A_BYTES)

uint64_t gwtf_product_scratch_floats(const struct gwtf_compute_limits *limits) {
    return (SHARED_BYTES + (uint64_t)limits->threads * ALONE_BYTES) / sizeof(float);
}

/* Where one thread packs. */
struct packing {
    char *b; /* its own, for products that it runs alone */
    char *a;
};

static struct packing packing_of(const struct gwtf_compute *compute, size_t thread) {
    char *start = (char *)compute->scratch + SHARED_BYTES + thread * ALONE_BYTES;
    return (struct packing){.b = start, .a = start + B_BYTES(COLUMNS_ALONE)};
}

/* One step: DEPTH columns of A and rows of B from K0, columns of B and C from N0. */
struct step {
    const struct gwtf_tiling *tiling;
    const struct gwtf_product *product;
    size_t k0, depth;
    size_t n0, columns;
    size_t lane_bytes; /* of DEPTH numbers in a panel */
};

/* PANELS panels of the step's part of B, from the one with number FIRST. */
static void pack_b(const struct step *step, char *packed, size_t first, size_t panels) {
    const struct gwtf_matrix *b = &step->product->b;
    size_t wide = step->tiling->columns, start = first * wide;
    size_t columns = smaller(panels * wide, step->columns - start), column = step->n0 + start;
    struct gwtf_lanes lanes = {.values =
                                   b->values + (b->transposed ? column * b->stride + step->k0
                                                              : step->k0 * b->stride + column),
                               .stride = b->stride,
                               .side_by_side = !b->transposed};
    step->tiling->pack_b(packed + start * step->lane_bytes, &lanes, columns, step->depth);
}

static void pack_a(const struct step *step, char *packed, size_t row, size_t rows) {
    const struct gwtf_matrix *a = &step->product->a;
    struct gwtf_lanes lanes = {.values = a->values + (a->transposed ? step->k0 * a->stride + row
                                                                    : row * a->stride + step->k0),
                               .stride = a->stride,
                               .side_by_side = a->transposed};
    step->tiling->pack_a(packed, &lanes, rows, step->depth);
}

/* The tile of C at (ROW, COLUMN), of which USED_ROWS and USED_COLUMNS exist. */
static void run_tile(const struct step *step, const char *a, const char *b, size_t row,
                     size_t column, size_t used_rows, size_t used_columns) {
    const struct gwtf_tiling *tiling = step->tiling;
    const struct gwtf_product *p = step->product;
    size_t at = row * p->c_stride + column, stride = p->c_stride;
    bool first = step->k0 == 0;
    float *c = p->c + at;
    const float *around = !first ? c : p->around != NULL ? p->around + at : NULL;
    const float *bias = first && p->bias != NULL ? p->bias + column : NULL;
    if (used_rows == tiling->rows && used_columns == tiling->columns) {
        tiling->tile(c, stride, a, b, step->depth, around, bias);
        return;
    }
    /* At the edge a whole tile is computed aside, and what exists of it is copied. */
    float aside[GWTF_TILE_SIDE_MAX * GWTF_TILE_SIDE_MAX];
    size_t wide = tiling->columns;
    tiling->tile(aside, wide, a, b, step->depth, NULL, NULL);
    for (size_t i = 0; i < used_rows; i++) {
        for (size_t j = 0; j < used_columns; j++) {
            float sum = aside[i * wide + j];
            sum += around != NULL ? around[i * stride + j] : 0.0f;
            sum += bias != NULL ? bias[j] : 0.0f;
            c[i * stride + j] = sum;
        }
    }
}

/* A part of C: rows and panels of columns of a step, in tiles. */
struct part {
    size_t first_tile, tiles;
    size_t first_panel, panels;
};

static void run_part(const struct step *step, const struct part *part, char *packed_a,
                     const char *packed_b) {
    size_t high = step->tiling->rows, wide = step->tiling->columns;
    size_t end_row = smaller((part->first_tile + part->tiles) * high, step->product->m);
    size_t block = ROWS / high * high;
    if (step->tiling->enter != NULL)
        step->tiling->enter();
    for (size_t row = part->first_tile * high; row < end_row; row += block) {
        size_t rows = smaller(block, end_row - row);
        pack_a(step, packed_a, row, rows);
        for (size_t i = 0; i < part->panels; i++) {
            size_t panel = part->first_panel + i;
            size_t used = smaller(wide, step->columns - panel * wide);
            for (size_t r = 0; r < rows; r += high)
                run_tile(step, packed_a + r * step->lane_bytes,
                         packed_b + panel * wide * step->lane_bytes, row + r,
                         step->n0 + panel * wide, smaller(high, rows - r), used);
        }
    }
    if (step->tiling->leave != NULL)
        step->tiling->leave();
}

static size_t parts_of(size_t whole, size_t part) {
    return (whole + part - 1) / part;
}

/* Equal steps through the depth: 400 is 200 + 200, not 384 + 16. */
static size_t depth_of(const struct gwtf_tiling *tiling, const struct gwtf_product *product) {
    return gwtf_tiling_depth(tiling,
                             parts_of(product->k, parts_of(product->k, tiling->depth_most)));
}

static void run_step(const struct gwtf_compute *compute, const struct step *step) {
    char *packed_b = (char *)compute->scratch;
    size_t panels = parts_of(step->columns, step->tiling->columns);
    size_t tiles = parts_of(step->product->m, step->tiling->rows);
    int threads = compute->threads;
    /* Where rows are few, columns are shared out instead. */
    bool by_columns = tiles < 4 * (size_t)threads && panels > tiles;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static)
        for (int t = 0; t < threads; t++) {
            struct gwtf_share share = gwtf_share_of(panels, t, threads);
            if (share.count > 0)
                pack_b(step, packed_b, share.first, share.count);
        }
#pragma omp for schedule(static)
        for (int t = 0; t < threads; t++) {
            struct gwtf_share share = gwtf_share_of(by_columns ? panels : tiles, t, threads);
            struct part part = {.tiles = tiles, .panels = panels};
            if (by_columns) {
                part.first_panel = share.first;
                part.panels = share.count;
            } else {
                part.first_tile = share.first;
                part.tiles = share.count;
            }
            run_part(step, &part, packing_of(compute, (size_t)t).a, packed_b);
        }
    }
}

static void run_step_alone(const struct gwtf_compute *compute, const struct step *step) {
    struct packing packing = packing_of(compute, (size_t)omp_get_thread_num());
    struct part all = {.tiles = parts_of(step->product->m, step->tiling->rows),
                       .panels = parts_of(step->columns, step->tiling->columns)};
    pack_b(step, packing.b, 0, all.panels);
    run_part(step, &all, packing.a, packing.b);
}

static void run_own(const struct gwtf_compute *compute, const struct gwtf_product *product,
                    size_t columns_max,
                    void (*run)(const struct gwtf_compute *, const struct step *)) {
    const struct gwtf_tiling *tiling = gwtf_tiling_for(compute->tiling, product->m, product->n);
    struct step step = {.tiling = tiling, .product = product};
    size_t depth = depth_of(tiling, product);
    for (step.n0 = 0; step.n0 < product->n; step.n0 += columns_max) {
        step.columns = smaller(columns_max, product->n - step.n0);
        for (step.k0 = 0; step.k0 < product->k; step.k0 += depth) {
            step.depth = smaller(depth, product->k - step.k0);
            step.lane_bytes =
                gwtf_tiling_depth(step.tiling, step.depth) * step.tiling->number_bytes;
            run(compute, &step);
        }
    }
}

static dnnl_status_t run_onednn(const struct gwtf_product *p) {
    return dnnl_sgemm(p->a.transposed ? 'T' : 'N', p->b.transposed ? 'T' : 'N', (dnnl_dim_t)p->m,
                      (dnnl_dim_t)p->n, (dnnl_dim_t)p->k, 1.0f, p->a.values,
                      (dnnl_dim_t)p->a.stride, p->b.values, (dnnl_dim_t)p->b.stride,
                      p->around != NULL || p->bias != NULL ? 1.0f : 0.0f, p->c,
                      (dnnl_dim_t)p->c_stride);
}

/* C = AROUND + BIAS, which oneDNN then adds to. */
static void start(const struct gwtf_compute *compute, const struct gwtf_product *p, int threads) {
    if (p->bias == NULL && (p->around == NULL || p->around == p->c))
        return;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (size_t row = 0; row < p->m; row++)
        compute->kernels->start_row(p->c + row * p->c_stride, p->bias,
                                    p->around ? p->around + row * p->c_stride : NULL, p->n);
}

/* One row is as fast as B comes from memory: packing would read it twice. In bfloat16 B is to be
 * rounded, which packing does. */
static bool is_row(const struct gwtf_compute *compute, const struct gwtf_product *p) {
    return p->m == 1 && !p->a.transposed && compute->precision == GWTF_PRECISION_FLOAT32;
}

static void run_row(const struct gwtf_compute *compute, const struct gwtf_product *p, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int t = 0; t < threads; t++) {
        struct gwtf_share share = gwtf_share_of(p->n, t, threads);
        size_t column = share.first;
        compute->kernels->start_row(p->c + column, p->bias != NULL ? p->bias + column : NULL,
                                    p->around != NULL ? p->around + column : NULL, share.count);
        compute->kernels->row_times(p->c + column, p->a.values,
                                    p->b.values + (p->b.transposed ? column * p->b.stride : column),
                                    p->b.stride, p->b.transposed, share.count, p->k);
    }
}

void gwtf_product_run(const struct gwtf_compute *compute, const struct gwtf_product *product) {
    if (is_row(compute, product)) {
        run_row(compute, product, compute->threads);
        return;
    }
    if (compute->tiling != NULL) {
        run_own(compute, product, COLUMNS_SHARED, run_step);
        return;
    }
    start(compute, product, compute->threads);
    /* It fails only for arguments that make no sense. */
    GWTF_ASSERT(run_onednn(product) == dnnl_success);
}

void gwtf_product_run_alone(const struct gwtf_compute *compute,
                            const struct gwtf_product *product) {
    if (is_row(compute, product)) {
        run_row(compute, product, 1);
        return;
    }
    if (compute->tiling != NULL) {
        run_own(compute, product, COLUMNS_ALONE, run_step_alone);
        return;
    }
    start(compute, product, 1);
    GWTF_ASSERT(run_onednn(product) == dnnl_success);
}

bool gwtf_product_works(void) {
    const float a[4] = {1, 2, 3, 4}, b[4] = {5, 6, 7, 8};
    float c[4] = {1, 1, 1, 1};
    struct gwtf_product product = {.m = 2,
                                   .n = 2,
                                   .k = 2,
                                   .a = {.values = a, .stride = 2},
                                   .b = {.values = b, .stride = 2},
                                   .c = c,
                                   .c_stride = 2,
                                   .around = c};
    return run_onednn(&product) == dnnl_success && c[0] == 20 && c[1] == 23 && c[2] == 44 &&
           c[3] == 51;
}
