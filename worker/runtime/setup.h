/*
 * A run as resolved from its configuration and data: what `gwtf train` and the bootstrap check
 * before anything starts, and what workers and the local trainer compute with.
 */
#ifndef GWTF_WORKER_RUNTIME_SETUP_H
#define GWTF_WORKER_RUNTIME_SETUP_H

#include "io/config.h"
#include "io/snapshot.h"
#include "io/tokens.h"
#include "model/model.h"
#include "model/pack.h"
#include "share/base/status.h"
#include "share/base/types.h"

#include <stdbool.h>
#include <stdint.h>

struct gwtf_setup {
    struct gwtf_config config; /* model.vocabulary, key_value_heads and hidden resolved */
    struct gwtf_model_shape model;
    struct gwtf_schedule schedule;
    struct gwtf_corpus *train;
    struct gwtf_tokens *validation; /* NULL: the run has none */
    char tokenizer[64];             /* of the data; "": not known, as to a relay */
    struct gwtf_kept kept;          /* its files */
    uint32_t data_nodes;
    uint32_t relays;
    uint32_t places; /* of nodes that may join, after these; as many of each stage, the data nodes'
                      * last */
    uint32_t
        validation_microbatches; /* of one validation, over all data nodes; 0 without validation */
    uint64_t validation_windows; /* sequences in them */
};

/*
 * Opens the data and checks everything that needs it: tokens below the vocabulary, files longer
 * than the context, enough validation windows for a microbatch, an impossible model shape, more
 * than the protocol's tables hold. Errors: GWTF_ERROR_USAGE with the line for the user; SETUP
 * untouched. Close it with gwtf_setup_close.
 */
gwtf_status gwtf_setup_open(const struct gwtf_config *config, struct gwtf_setup *setup,
                            struct gwtf_error *error);

/* What boundary tensors are packed as, and how many numbers one has. */
enum gwtf_packing gwtf_setup_packing(const struct gwtf_setup *setup);
uint64_t gwtf_setup_boundary_floats(const struct gwtf_setup *setup);

/*
 * The same for a relay, which holds no data and may run where the files are not: CONFIG is as
 * resolved (model.vocabulary set), train and validation stay NULL, and gwtf_setup_batch and the
 * validation's counts are not to be used.
 */
gwtf_status gwtf_setup_open_relay(const struct gwtf_config *config, struct gwtf_setup *setup,
                                  struct gwtf_error *error);

/* The same for a data node that joins: it trains on OWN_DATA, in place of data.train, where it is
 * not "", and validates nothing. Errors as of gwtf_setup_open. */
gwtf_status gwtf_setup_open_joined(const struct gwtf_config *config, const char *own_data,
                                   struct gwtf_setup *setup, struct gwtf_error *error);
void gwtf_setup_close(struct gwtf_setup *setup);

/* Validation microbatches of data node RANK (0-based among data nodes; beyond them, as those that
 * have joined: none): microbatch i of it is number i * data_nodes + RANK. */
uint32_t gwtf_setup_validation_share(const struct gwtf_setup *setup, uint32_t rank);

/* How many sequences of the training data ITERATION of an undisturbed run begins after. */
uint64_t gwtf_setup_place_of(const struct gwtf_setup *setup, uint32_t iteration);

/*
 * The tokens of one microbatch: INPUTS and LABELS, (B, T) each. In training it holds the sequences
 * from PLACE on; where the order is random, those that microbatch NUMBER of ITERATION draws. In
 * validation it is microbatch INDEX of data node RANK. Errors: GWTF_ERROR_CORRUPT when the file has
 * been damaged since it was opened (an id beyond its largest); what is in INPUTS and LABELS is then
 * not to be used.
 */
gwtf_status gwtf_setup_batch(const struct gwtf_setup *setup, uint32_t iteration, uint32_t number,
                             uint64_t place, uint32_t *inputs, uint32_t *labels);
gwtf_status gwtf_setup_validation_batch(const struct gwtf_setup *setup, uint32_t rank,
                                        uint32_t index, uint32_t *inputs, uint32_t *labels);

/*
 * Before a run is resumed after iteration STEP from the snapshot at PATH: its order of data goes on
 * after the last sequence that the run that wrote it took, also when this one takes more or fewer
 * in an iteration; at the beginning when it was of other data, order or seed. Errors: as of
 * gwtf_snapshot_config, GWTF_ERROR_MEMORY.
 */
gwtf_status gwtf_setup_continue(struct gwtf_setup *setup, const char *path, uint64_t step,
                                struct gwtf_error *error);

/* Where SETUP's data keeps no files of its tokenizer, those of the snapshot at PATH are kept on, if
 * they may be of the same. */
void gwtf_setup_keep_tokenizer(struct gwtf_setup *setup, const char *path);

/* One over the tokens of the global batch: what a microbatch's summed loss is multiplied by. */
float gwtf_setup_loss_scale(const struct gwtf_setup *setup);

/* The shape and optimizer settings of a stage. */
struct gwtf_stage_shape gwtf_setup_stage_shape(const struct gwtf_setup *setup, uint32_t stage);
enum gwtf_backend_kind gwtf_setup_backend(const struct gwtf_setup *setup);
/* Options of a stage of SHAPE as the configuration has them, with one slot and one thread. */
struct gwtf_stage_options gwtf_setup_stage_options(const struct gwtf_setup *setup,
                                                   struct gwtf_stage_shape shape);
struct gwtf_optimizer_step gwtf_setup_step(const struct gwtf_setup *setup, uint32_t iteration,
                                           double gradient_norm);

/* A node of the run, before anything is spawned. */
struct gwtf_placement {
    gwtf_node_id node; /* data nodes first: data node RANK has id RANK */
    uint32_t stage;    /* 0: data node */
    bool is_free;      /* nobody is spawned for it: who joins may take it */
    uint32_t capacity; /* configured; 0: from free memory */
    /* The most that is useful: what the stage's replicas need to carry one iteration together, so
     * that a cheap replica does not take everything and leave the others idle. */
    uint32_t capacity_useful;
    const char *host;      /* "" for anywhere; lives as long as the setup */
    const char *partition; /* of a Slurm job, "" for any; lives as long as the setup */
    const char *region;    /* of the emulated network, "" for any; lives as long as the setup */
    enum gwtf_config_node_device device;
};

/* data_nodes + relays + places entries, growing ids; *PLACEMENTS is the caller's to free. Errors:
 * GWTF_ERROR_USAGE, _MEMORY. */
gwtf_status gwtf_setup_place(const struct gwtf_setup *setup, struct gwtf_placement **placements,
                             struct gwtf_error *error);

/*
 * The snapshot that a resumed run starts from: the newest whole one under DIRECTORY/snapshots, held
 * against the model. SKIPPED (may be NULL) hears of newer ones that are not whole. Errors:
 * GWTF_ERROR_MISSING when there is none, GWTF_ERROR_USAGE when it is of another model.
 */
gwtf_status gwtf_setup_find_snapshot(const struct gwtf_setup *setup,
                                     struct gwtf_snapshot_info *info,
                                     void (*skipped)(void *context, const char *line),
                                     void *context, struct gwtf_error *error);

/* Fills a stage's weights and moments: from the snapshot directory PATH, or freshly initialised
 * when PATH is "". */
gwtf_status gwtf_setup_restore(const struct gwtf_setup *setup, const char *path, gwtf_stage *stage,
                               struct gwtf_error *error);

/*
 * Writes the stage file of snapshot STEP, after which SEQUENCE comes next, from three flat arrays
 * laid out by PLAN; with REST_NORM,
 * which is of the stage's last gradient, that of the rest when another stage is gone (NULL: of a
 * snapshot). One thread at a time, the one that uses HDF5. Errors: GWTF_ERROR_IO.
 */
gwtf_status gwtf_setup_write_stage(const struct gwtf_setup *setup,
                                   const struct gwtf_stage_plan *plan, uint64_t step,
                                   uint64_t sequence, const float *weights,
                                   const float *first_moments, const float *second_moments,
                                   const double *rest_norm, struct gwtf_snapshot_file *file,
                                   struct gwtf_error *error);

/* DIRECTORY/snapshots of the run. */
void gwtf_setup_snapshots_path(const struct gwtf_setup *setup, char *path, size_t path_bytes);

#endif
