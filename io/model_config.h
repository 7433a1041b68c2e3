/* config.json, as it stands beside a model's weights in a directory of Hugging Face's transformers.
 */
#ifndef GWTF_IO_MODEL_CONFIG_H
#define GWTF_IO_MODEL_CONFIG_H

#include "share/base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct gwtf_model_config {
    char family[16]; /* "gpt2", "llama" */
    uint32_t layers;
    uint32_t width;
    uint32_t heads;
    uint32_t key_value_heads;
    uint32_t hidden;
    uint32_t context;
    uint32_t vocabulary;
    bool tied_head;
    double rope_theta;
    double norm_epsilon;
};

/*
 * Reads PATH; what it leaves out has the defaults of transformers. Errors: GWTF_ERROR_MISSING,
 * GWTF_ERROR_IO, GWTF_ERROR_MEMORY, GWTF_ERROR_CORRUPT (no such file), and GWTF_ERROR_UNSUPPORTED
 * when it describes a model that GWTF cannot compute: another family, activation, scaling of
 * positions or attention, or biases where GWTF has none.
 */
gwtf_status gwtf_model_config_read(const char *path, struct gwtf_model_config *config,
                                   struct gwtf_error *error);

#endif
