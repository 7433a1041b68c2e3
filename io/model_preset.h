/* Models that are known by name: the sizes that a configuration or scenario with model.preset need
 * not say. Private to io. */
#ifndef GWTF_IO_MODEL_PRESET_H
#define GWTF_IO_MODEL_PRESET_H

#include "io/config.h"

struct gwtf_model_preset {
    enum gwtf_config_family family;
    uint32_t layers;
    uint32_t width;
    uint32_t heads;
    uint32_t key_value_heads;
    uint32_t hidden;
    uint32_t context;
    uint32_t vocabulary;
    bool tied_head;
};

/* The words of model.preset, NULL at the end, and what they stand for. The first is none:
 * GPT-2 without sizes. */
extern const char *const gwtf_model_preset_words[];
extern const struct gwtf_model_preset gwtf_model_presets[];

#endif
