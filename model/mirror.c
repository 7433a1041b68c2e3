/* The host's copies of a device's flat arrays, and who has the newer ones. */
#include "model/stage.h"

#include <string.h>

static float *device_array(const struct gwtf_stage *stage, enum gwtf_flat flat) {
    float *const arrays[GWTF_FLATS] = {
        [GWTF_FLAT_WEIGHTS] = stage->weights,
        [GWTF_FLAT_GRADIENTS] = stage->gradients,
        [GWTF_FLAT_FIRST] = stage->first_moments,
        [GWTF_FLAT_SECOND] = stage->second_moments,
    };
    return arrays[flat];
}

gwtf_status gwtf_mirror_create(struct gwtf_stage *stage) {
    uint64_t bytes = stage->plan.floats * sizeof(float);
    for (int flat = 0; flat < GWTF_FLATS; flat++) {
        void *memory = NULL;
        if (device_array(stage, flat) == NULL)
            continue;
        if (stage->device->allocate_host(&stage->compute, bytes, &memory) != GWTF_OK)
            return GWTF_ERROR_MEMORY;
        memset(memory, 0, bytes);
        stage->mirror.host[flat] = memory;
    }
    return GWTF_OK;
}

void gwtf_mirror_destroy(struct gwtf_stage *stage) {
    for (int flat = 0; flat < GWTF_FLATS; flat++)
        if (stage->mirror.host[flat] != NULL)
            stage->device->release_host(&stage->compute, stage->mirror.host[flat]);
}

void gwtf_mirror_computed(struct gwtf_stage *stage, enum gwtf_flat flat) {
    if (stage->device == NULL)
        return;
    pthread_mutex_lock(&stage->mirror.lock);
    stage->mirror.stale[flat] = true;
    pthread_mutex_unlock(&stage->mirror.lock);
}

void gwtf_mirror_flush(struct gwtf_stage *stage) {
    uint64_t floats = stage->plan.floats;
    pthread_mutex_lock(&stage->mirror.lock);
    for (int flat = 0; flat < GWTF_FLATS; flat++) {
        if (!stage->mirror.written[flat])
            continue;
        stage->device->upload(&stage->compute, device_array(stage, flat), stage->mirror.host[flat],
                              floats * sizeof(float));
        if (flat == GWTF_FLAT_WEIGHTS)
            stage->device->weights_changed(&stage->compute, stage->weights, floats);
        stage->mirror.written[flat] = false;
    }
    pthread_mutex_unlock(&stage->mirror.lock);
}

static float *current(struct gwtf_stage *stage, enum gwtf_flat flat) {
    float *array = device_array(stage, flat);
    if (stage->device == NULL || array == NULL)
        return array;
    pthread_mutex_lock(&stage->mirror.lock);
    if (stage->mirror.stale[flat]) {
        stage->device->enter(&stage->compute);
        stage->device->download(&stage->compute, stage->mirror.host[flat], array,
                                stage->plan.floats * sizeof(float));
        stage->mirror.stale[flat] = false;
    }
    pthread_mutex_unlock(&stage->mirror.lock);
    return stage->mirror.host[flat];
}

bool gwtf_stage_pin(gwtf_stage *stage, void *memory, uint64_t bytes) {
    if (stage->device == NULL || bytes == 0)
        return false;
    stage->device->enter(&stage->compute);
    return stage->device->pin(&stage->compute, memory, bytes);
}

void gwtf_stage_unpin(gwtf_stage *stage, void *memory) {
    stage->device->enter(&stage->compute);
    stage->device->unpin(&stage->compute, memory);
}

float *gwtf_stage_weights(gwtf_stage *stage) {
    return current(stage, GWTF_FLAT_WEIGHTS);
}

float *gwtf_stage_gradients(gwtf_stage *stage) {
    return current(stage, GWTF_FLAT_GRADIENTS);
}

float *gwtf_stage_first_moments(gwtf_stage *stage) {
    return current(stage, GWTF_FLAT_FIRST);
}

float *gwtf_stage_second_moments(gwtf_stage *stage) {
    return current(stage, GWTF_FLAT_SECOND);
}

void gwtf_stage_written(gwtf_stage *stage) {
    if (stage->device == NULL)
        return;
    const enum gwtf_flat flats[] = {GWTF_FLAT_WEIGHTS, GWTF_FLAT_FIRST, GWTF_FLAT_SECOND};
    pthread_mutex_lock(&stage->mirror.lock);
    for (size_t i = 0; i < sizeof flats / sizeof flats[0]; i++)
        stage->mirror.written[flats[i]] =
            stage->mirror.host[flats[i]] != NULL && !stage->mirror.stale[flats[i]];
    pthread_mutex_unlock(&stage->mirror.lock);
}
