/*
 * Snapshots: RUN/snapshots/step-000050/ with one HDF5 file a stage (stage-00.h5 is the data
 * nodes'), and manifest.cfg, written last: a snapshot is whole or absent. When a stage is lost with
 * its last node, the others' files go to RUN/snapshots/rest-000057/ in the same way, without a
 * manifest; gwtf_snapshot_compose makes a snapshot of them.
 *
 * A stage file: /weights/NAME, /optimizer/m/NAME, /optimizer/v/NAME (float32, chunked, Fletcher32;
 * the groups keep the model's order), root attributes format ("gwtf-snapshot"), version, run, step,
 * stage, stages, first_layer, layers (0 and 0 for the data nodes'), family, width, heads, context,
 * vocabulary, tied_head, precision, config (text), written_at (UTC), and, which older files do not
 * have, key_value_heads, hidden, rope_theta and norm_epsilon; of stage 0 also tokenizer, where it
 * is known, and its files under /tokenizer (kept.h); of the rest also gradient_norm. It is written
 * under a temporary name, flushed, closed, synced, renamed, and the directory synced. HDF5 is used
 * by one thread of a process at a time: also by the token files' _open and _tokenize.
 */
#ifndef GWTF_IO_SNAPSHOT_H
#define GWTF_IO_SNAPSHOT_H

#include "io/kept.h"
#include "share/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GWTF_SNAPSHOT_PATH_MAX 1200

/* One tensor with its optimizer state; rank 1 or 2, no dimension 0. Memory is the caller's. The
 * moments may be NULL when loading: they are not read then. */
struct gwtf_snapshot_tensor {
    const char *name;
    uint32_t rank;
    uint64_t dims[2];
    float *weights;
    float *first_moments;
    float *second_moments;
};

#define GWTF_SNAPSHOT_SEQUENCE_UNKNOWN UINT64_MAX /* also: of older snapshots */

struct gwtf_snapshot_stage {
    const char *run; /* name of the run's directory */
    uint64_t step;
    uint32_t stage;
    uint32_t stages;
    uint32_t first_layer;
    uint32_t layers;
    const char *family; /* "gpt2", "llama" */
    uint32_t width;
    uint32_t heads;
    uint32_t key_value_heads; /* 0: not known, as those that follow */
    uint32_t hidden;
    double rope_theta;
    double norm_epsilon;
    uint32_t context;
    uint32_t vocabulary;
    bool tied_head;
    const char *precision;        /* "float32" */
    const char *config;           /* text, as resolved */
    const char *tokenizer;        /* of the tokens that it was trained on; NULL or "": not known */
    const struct gwtf_kept *kept; /* its files; NULL: none */
    const struct gwtf_snapshot_tensor *tensors;
    size_t tensors_count;
    bool of_rest;
    double gradient_norm; /* of_rest: of the stage alone, at its last step; 0: not known */
    uint64_t sequence;    /* of the run's data, the next to be taken; _SEQUENCE_UNKNOWN */
};

/* What the manifest keeps of a stage file. */
struct gwtf_snapshot_file {
    uint64_t size_bytes;
    char sha256[65];
};

/*
 * Writes stage-NN.h5 of SNAPSHOTS/step-NNNNNN (made when it is not there). FILE is set on success.
 * A manifest of the same step from before is removed first: that snapshot is being replaced. One
 * that appears while the stage is written stays, with the stage file that it names, and FILE is
 * what it says of it: somebody else was faster. With of_rest: of SNAPSHOTS/rest-NNNNNN. Errors:
 * GWTF_ERROR_IO with the line for the user (disk full, no permission), GWTF_ERROR_MEMORY; the
 * temporary file is removed then.
 */
gwtf_status gwtf_snapshot_write_stage(const char *snapshots,
                                      const struct gwtf_snapshot_stage *stage,
                                      struct gwtf_snapshot_file *file, struct gwtf_error *error);

/*
 * Writes manifest.cfg of SNAPSHOTS/step-NNNNNN: files[0..stages], which must be there in these
 * sizes. After it the snapshot is whole. Then removes what is not needed any more: of the whole
 * snapshots up to this step all but the newest KEEP (0: keeps all), half-written ones before it,
 * and temporary files in its own directory; what cannot be removed is a warning. Newer ones stay.
 * Errors: GWTF_ERROR_MISSING, GWTF_ERROR_CORRUPT, GWTF_ERROR_IO, GWTF_ERROR_MEMORY.
 */
gwtf_status gwtf_snapshot_write_manifest(const char *snapshots, uint64_t step, uint32_t stages,
                                         const struct gwtf_snapshot_file *files, uint32_t keep,
                                         struct gwtf_error *error);

/* What a whole snapshot says of itself. */
struct gwtf_snapshot_info {
    char path[GWTF_SNAPSHOT_PATH_MAX];
    uint64_t step;
    uint32_t stages;
    char family[32];
    uint32_t layers; /* of the whole model */
    uint32_t width;
    uint32_t heads;
    uint32_t key_value_heads; /* 0: the snapshot does not say, as those that follow */
    uint32_t hidden;
    double rope_theta;
    double norm_epsilon;
    uint32_t context;
    uint32_t vocabulary;
    bool tied_head;
    char tokenizer[64]; /* of the tokens that it was trained on; "": not known */
};

/*
 * Checks the snapshot at PATH (a step directory): manifest there and readable, every file there
 * with its size and sha256, HDF5 readable, attributes consistent. Errors: GWTF_ERROR_MISSING,
 * GWTF_ERROR_CORRUPT, GWTF_ERROR_UNSUPPORTED (of a newer version), GWTF_ERROR_IO with a line that
 * names the file, what is wrong with it and what to do. INFO is untouched then.
 */
gwtf_status gwtf_snapshot_verify(const char *path, struct gwtf_snapshot_info *info,
                                 struct gwtf_error *error);

/* Is there one under SNAPSHOTS that has, or had, all of its files? False when one has only been
 * begun. */
bool gwtf_snapshot_was_whole(const char *snapshots);

/*
 * The newest snapshot under SNAPSHOTS that verifies. For each newer one that does not, SKIPPED is
 * called with the line (may be NULL). Errors: GWTF_ERROR_MISSING when there is no whole one.
 */
gwtf_status gwtf_snapshot_newest(const char *snapshots, struct gwtf_snapshot_info *info,
                                 void (*skipped)(void *context, const char *line), void *context,
                                 struct gwtf_error *error);

/*
 * The newest snapshot under SNAPSHOTS with a whole manifest, its files unread: quick, for displays.
 * Of INFO, path, step and stages are set, the rest is zero. Errors: GWTF_ERROR_MISSING,
 * GWTF_ERROR_IO.
 */
gwtf_status gwtf_snapshot_glance(const char *snapshots, struct gwtf_snapshot_info *info,
                                 struct gwtf_error *error);

/*
 * Fills TENSORS from the snapshot at PATH by name, in whichever stage files they are: a resume may
 * cut the model in another way. The snapshot should have been verified. Errors: GWTF_ERROR_MISSING
 * (a tensor is not there), GWTF_ERROR_CORRUPT (wrong shape or type, checksum), GWTF_ERROR_IO;
 * contents of TENSORS are undefined then.
 */
gwtf_status gwtf_snapshot_load(const char *path, struct gwtf_snapshot_tensor *tensors,
                               size_t tensors_count, struct gwtf_error *error);

/* The configuration, as resolved, of the run that wrote the snapshot at PATH, and (SEQUENCE, may be
 * NULL) the next sequence that it would have taken. *TEXT is the caller's to free. Errors as for
 * _load, and GWTF_ERROR_MEMORY. */
gwtf_status gwtf_snapshot_config(const char *path, char **text, uint64_t *sequence,
                                 struct gwtf_error *error);

/* The tokenizer that the snapshot at PATH names ("": none), and its files, as in gwtf_kept_read.
 * Errors as for _load, and GWTF_ERROR_MEMORY. */
gwtf_status gwtf_snapshot_tokenizer(const char *path, char name[64], struct gwtf_kept *kept,
                                    struct gwtf_error *error);

/* What a lost stage is made of. */
enum gwtf_snapshot_lost {
    /* the newest whole snapshot's file of it */
    GWTF_SNAPSHOT_LOST_SNAPSHOT,
    /*
     * The nearest relay stages on both sides that are there, or the one: each block is the average
     * of theirs at its depth, weighted by the norms of their last gradients (CheckFree, arXiv
     * 2506.15461). Its moments are zero. The data nodes' stage is taken from the snapshot.
     */
    GWTF_SNAPSHOT_LOST_NEIGHBOURS
};

/* The layers of a stage; 0 and 0 for the data nodes'. */
struct gwtf_snapshot_part {
    uint32_t first_layer;
    uint32_t layers;
};

struct gwtf_snapshot_plan {
    enum gwtf_snapshot_lost lost;
    uint32_t stages;
    const struct gwtf_snapshot_part *parts; /* [stages + 1] */
    uint64_t step_most;                     /* the made snapshot's step is not above it */
    uint32_t keep;                          /* as in gwtf_snapshot_write_manifest */
};

#define GWTF_SNAPSHOT_HOW_MAX 512

/*
 * Makes a whole snapshot of the newest SNAPSHOTS/rest-NNNNNN and, for each stage that has no file
 * in it, of PLAN->lost; of the neighbours where there is no snapshot. Its step is the rest's; where
 * files are of two steps, the older one. When the newest whole snapshot is as new, it is taken as
 * it is. INFO is of the snapshot, HOW says what was done about lost stages. Errors:
 * GWTF_ERROR_MISSING when there is no rest, or nothing that a lost stage could be made of;
 * GWTF_ERROR_UNSUPPORTED when the snapshot has other stages; and as of gwtf_snapshot_write_stage
 * and _verify.
 */
gwtf_status gwtf_snapshot_compose(const char *snapshots, const struct gwtf_snapshot_plan *plan,
                                  struct gwtf_snapshot_info *info, char how[GWTF_SNAPSHOT_HOW_MAX],
                                  struct gwtf_error *error);

/* The path of the newest SNAPSHOTS/rest-NNNNNN; false: there is none. */
bool gwtf_snapshot_rest_newest(const char *snapshots, char path[GWTF_SNAPSHOT_PATH_MAX]);

/* Removes them all. Errors: GWTF_ERROR_IO. */
gwtf_status gwtf_snapshot_remove_rests(const char *snapshots, struct gwtf_error *error);

/* One line of `gwtf inspect`. */
struct gwtf_snapshot_tensor_summary {
    const char *name;
    uint32_t stage;
    uint32_t rank;
    uint64_t dims[2];
    const char *type; /* "float32" */
    double mean;
    double deviation;
    double largest; /* of the absolute values */
};

/* Calls VISIT for every tensor under /weights, stage after stage, in the model's order. Errors as
 * for _verify. */
gwtf_status gwtf_snapshot_summarise(const char *path,
                                    void (*visit)(void *context,
                                                  const struct gwtf_snapshot_tensor_summary *),
                                    void *context, struct gwtf_error *error);

#endif
