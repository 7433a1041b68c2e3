/*
 * What a family of models has of its own: its tensors, their names and layouts, and which of the
 * operations its blocks are made of. Everything else is one code for all. Private to model/.
 */
#ifndef GWTF_MODEL_FAMILY_H
#define GWTF_MODEL_FAMILY_H

#include "model/model.h"

/* Floats of one token, in what a block computes. */
struct gwtf_block_sizes {
    size_t width;    /* C */
    size_t head;     /* of a query, key or value of one head */
    size_t keys;     /* of all keys, and of all values: K = key_value_heads * head */
    size_t qkv;      /* C + 2K */
    size_t expanded; /* E: before the activation: F, or 2F where one half gates the other */
    size_t hidden;   /* F: after it */
};

/* MODEL as resolved. */
struct gwtf_block_sizes gwtf_block_sizes_of(const struct gwtf_model_shape *model);

/* Where the tensors of one block lie in a flat array; GWTF_ABSENT for those that a family does not
 * have. Matrices are (in, out), or (out, in) in families that are transposed. */
struct gwtf_block_offsets {
    uint64_t norm1_w, norm1_b;
    uint64_t qkv_w, qkv_b; /* C to C + 2K: queries, keys and values */
    uint64_t out_w, out_b; /* C to C */
    uint64_t norm2_w, norm2_b;
    uint64_t expand_w, expand_b; /* C to E */
    uint64_t shrink_w, shrink_b; /* F to C */
};

/* The same for the data nodes' stage. */
struct gwtf_data_offsets {
    uint64_t tokens;    /* (V, C) */
    uint64_t positions; /* (T, C) */
    uint64_t norm_w, norm_b;
    uint64_t head; /* (V, C): the tokens' when tied */
};

#define GWTF_ABSENT UINT64_MAX

/* The length of a tensor's side. */
enum gwtf_extent {
    GWTF_EXTENT_NONE, /* of the second side: it is a vector */
    GWTF_EXTENT_WIDTH,
    GWTF_EXTENT_KEYS,
    GWTF_EXTENT_QKV,
    GWTF_EXTENT_HIDDEN,
    GWTF_EXTENT_CONTEXT,
    GWTF_EXTENT_VOCABULARY
};

/* What a tensor starts as. */
enum gwtf_start {
    GWTF_START_ZEROS,
    GWTF_START_ONES,
    GWTF_START_NORMAL,
    GWTF_START_POSITIONS, /* normal, half as wide */
    GWTF_START_RESIDUAL   /* normal, narrower the more blocks add to the residual stream */
};

/* The tensor belongs to the one before it: both are rows of one matrix, without a gap. */
#define GWTF_JOINED ((size_t)-1)

struct gwtf_family_tensor {
    const char *name; /* of a block: what follows its number */
    size_t place;     /* of the member of gwtf_block_offsets or gwtf_data_offsets, or GWTF_JOINED */
    enum gwtf_extent rows, columns;
    enum gwtf_start start;
};

struct gwtf_family_traits {
    const char *word;   /* as configurations and snapshots say it */
    const char *blocks; /* what precedes a block's number in names */
    const struct gwtf_family_tensor *block_tensors;
    size_t block_tensors_count;
    const struct gwtf_family_tensor *data_tensors; /* the last is the head's, left out when tied */
    size_t data_tensors_count;
    bool transposed; /* matrices are stored as (out, in) */
    bool centred;    /* norms subtract the mean and add a bias; else they are RMSNorm */
    bool rotary;     /* queries and keys are turned by their position, instead of embedding it */
    bool gated;      /* the activation is SwiGLU, else gelu */
};

/* NULL when there is no such family. */
const struct gwtf_family_traits *gwtf_family_traits_of(enum gwtf_family family);

#endif
