/*
 * A trained model from a snapshot, whole in one process, for what is done with it after training:
 * its loss on data, and what it expects to come next. Forward only.
 */
#ifndef GWTF_WORKER_RUNTIME_TRAINED_H
#define GWTF_WORKER_RUNTIME_TRAINED_H

#include "io/snapshot.h"
#include "model/model.h"
#include "share/base/status.h"

#include <stdint.h>

struct gwtf_trained;

/*
 * The model of the snapshot at PATH as its run's configuration describes it, resolved; and, unless
 * NULL, the options of a stage of it as that has them, without the stage's shape. Errors: as of
 * gwtf_snapshot_config, GWTF_ERROR_MEMORY, and GWTF_ERROR_CORRUPT when the configuration cannot be
 * used.
 */
gwtf_status gwtf_trained_shape(const char *path, struct gwtf_model_shape *model,
                               struct gwtf_stage_options *options, struct gwtf_error *error);

/*
 * Loads the snapshot that INFO is of (as gwtf_snapshot_verify found it) with the backend of its
 * run's configuration. SEQUENCES go through the model at one time at most, at least 1; THREADS 0:
 * all cores. Errors: as of gwtf_snapshot_load and gwtf_stage_create, GWTF_ERROR_CORRUPT when the
 * snapshot's configuration cannot be read; TRAINED untouched then.
 */
gwtf_status gwtf_trained_open(const struct gwtf_snapshot_info *info, uint32_t sequences,
                              uint32_t threads, struct gwtf_trained **trained,
                              struct gwtf_error *error);
void gwtf_trained_close(struct gwtf_trained *trained); /* NULL is allowed */

const struct gwtf_model_shape *gwtf_trained_model(const struct gwtf_trained *trained);
uint32_t gwtf_trained_sequences(const struct gwtf_trained *trained);

/*
 * The sum over COUNT sequences (1..sequences) of the losses of their tokens, in nats: of LABELS
 * (COUNT, T) after INPUTS (COUNT, T), ids below the vocabulary.
 */
double gwtf_trained_loss(struct gwtf_trained *trained, const uint32_t *inputs,
                         const uint32_t *labels, uint32_t count);

/*
 * What may come after TOKENS[0..COUNT-1], COUNT from 1 to the model's context: LOGITS
 * [0..vocabulary-1]. For a model that was opened for one sequence at a time. Keys and values of
 * TOKENS are kept: those that the next call begins with as well do not go through the model again.
 * Errors: GWTF_ERROR_CORRUPT when a logit is no finite number, as of a model that has diverged.
 */
gwtf_status gwtf_trained_next(struct gwtf_trained *trained, const uint32_t *tokens, uint32_t count,
                              float *logits, struct gwtf_error *error);

#endif
