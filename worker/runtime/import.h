/* A model of elsewhere becomes a run's first snapshot. */
#ifndef GWTF_WORKER_RUNTIME_IMPORT_H
#define GWTF_WORKER_RUNTIME_IMPORT_H

#include "io/model_config.h"
#include "io/snapshot.h"

struct gwtf_import {
    struct gwtf_model_config model;
    char tokenizer[64]; /* as given; "": not known */
    uint64_t tensors;
    uint64_t parameters;
    char snapshot[GWTF_SNAPSHOT_PATH_MAX];
};

/*
 * Makes the snapshot of step 0 in the run's directory RUN from config.json and model.safetensors in
 * DIRECTORY, with moments of zero: a resumed run begins with iteration 1. TOKENIZER ("": not known)
 * and its files KEPT go into it. One stage is in memory at
 * a time. RUN may be there when it has neither metrics nor a whole snapshot. Errors: as of
 * gwtf_model_config_read, gwtf_safetensors_open and gwtf_snapshot_write_stage; GWTF_ERROR_USAGE
 * when RUN is a run already, GWTF_ERROR_UNSUPPORTED when tensors are not those of the model. RUN
 * then has no whole snapshot.
 */
gwtf_status gwtf_import_model(const char *directory, const char *tokenizer,
                              const struct gwtf_kept *kept, const char *run,
                              struct gwtf_import *import, struct gwtf_error *error);

#endif
