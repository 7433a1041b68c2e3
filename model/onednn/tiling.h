/*
 * The inner part of our own matrix products (product.c): tiles of C that live in registers, and the
 * packed panels of A and B that they are made from. One table for each kind of unit and precision.
 * Private to model/onednn.
 */
#ifndef GWTF_MODEL_ONEDNN_TILING_H
#define GWTF_MODEL_ONEDNN_TILING_H

#include "model/operations.h"

/* No tile is higher or wider. */
#define GWTF_TILE_SIDE_MAX 32u

/* Where a panel's numbers come from: lane i of step p stands at VALUES[p * stride + i] where lanes
 * lie side by side, else at VALUES[i * stride + p]. */
struct gwtf_lanes {
    const float *values;
    size_t stride;
    bool side_by_side;
};

struct gwtf_tiling {
    const char *name;
    size_t rows, columns; /* of a tile: the lanes of a panel of A and of B */
    size_t depth_most;    /* steps of a panel; a multiple of depth_step */
    size_t depth_step;    /* panels are filled up with zeros to a multiple of it */
    size_t number_bytes;  /* of a number in a panel */

    /*
     * COUNT lanes of DEPTH numbers each become panels, of A's or B's number of lanes: zero past the
     * last lane and step. Up to 64 floats after the last panel are overwritten. PACKED is aligned
     * to 64 bytes.
     */
    void (*pack_a)(void *packed, const struct gwtf_lanes *lanes, size_t count, size_t depth);
    void (*pack_b)(void *packed, const struct gwtf_lanes *lanes, size_t count, size_t depth);

    /* C (rows, columns; row stride STRIDE) = A B + AROUND (same stride) + BIAS; the last two may be
     * NULL. A and B are panels of DEPTH steps. */
    void (*tile)(float *c, size_t stride, const void *a, const void *b, size_t depth,
                 const float *around, const float *bias);

    /* Around any number of tiles, on the thread that computes them; NULL: nothing to do. */
    void (*enter)(void);
    void (*leave)(void);

    /* The one to take where C has at most FEW rows or columns; NULL: this one does. */
    const struct gwtf_tiling *for_few;
    size_t few;
};

/*
 * All tilings of PRECISION that this processor can run, best first; NULL past the end. Where there
 * is none for float32, oneDNN's products are to be used.
 */
const struct gwtf_tiling *gwtf_tiling_at(enum gwtf_precision precision, size_t index);

/* The one of TILING and TILING->for_few for a C of M rows and N columns. */
static inline const struct gwtf_tiling *gwtf_tiling_for(const struct gwtf_tiling *tiling, size_t m,
                                                        size_t n) {
    bool few = tiling->for_few != NULL && (m <= tiling->few || n <= tiling->few);
    return few ? tiling->for_few : tiling;
}

/* DEPTH steps as a panel holds them. */
static inline size_t gwtf_tiling_depth(const struct gwtf_tiling *tiling, size_t depth) {
    return (depth + tiling->depth_step - 1) / tiling->depth_step * tiling->depth_step;
}

#ifdef __x86_64__
extern const struct gwtf_tiling gwtf_tiling_avx2, gwtf_tiling_avx2_rounded;
extern const struct gwtf_tiling gwtf_tiling_avx512, gwtf_tiling_avx512_rounded;
#ifdef GWTF_HAVE_AMX
extern const struct gwtf_tiling gwtf_tiling_amx_split, gwtf_tiling_amx;
#endif
#endif

#endif
