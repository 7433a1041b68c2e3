/* How boundary tensors come into a stage's calls and out of them. */
#include "model/stage.h"

#include "share/base/assert.h"

/* Bytes that a device has for a boundary tensor on its way. */
static bool fits_buffer(const struct gwtf_stage *stage, uint64_t count) {
    return gwtf_packed_bytes(stage->options.packing, count) <= stage->compute.buffer_bytes;
}

void gwtf_boundary_begin(struct gwtf_stage *stage) {
    gwtf_stage_enter(stage);
    if (stage->device == NULL)
        return;
    GWTF_ASSERT(gwtf_stage_unfinished(stage) < 2);
    stage->begun++;
    stage->device->begin(&stage->compute);
}

const float *gwtf_boundary_take(struct gwtf_stage *stage, const void *tensor, float *place,
                                uint64_t count) {
    enum gwtf_packing packing = stage->options.packing;
    if (stage->device != NULL) {
        GWTF_ASSERT(fits_buffer(stage, count));
        stage->device->take(&stage->compute, place, tensor, packing, count);
        return place;
    }
    if (packing == GWTF_PACKING_NONE)
        return tensor;
    gwtf_unpack(packing, tensor, count, place);
    return place;
}

float *gwtf_boundary_place(const struct gwtf_stage *stage, void *tensor, float *place) {
    bool is_there = stage->device == NULL && stage->options.packing == GWTF_PACKING_NONE;
    return is_there ? tensor : place;
}

void gwtf_boundary_give(struct gwtf_stage *stage, void *tensor, const float *place,
                        uint64_t count) {
    if (stage->device != NULL) {
        GWTF_ASSERT(fits_buffer(stage, count));
        stage->device->give(&stage->compute, tensor, place, stage->options.packing, count);
    } else if (stage->options.packing != GWTF_PACKING_NONE) {
        gwtf_pack(stage->options.packing, place, count, tensor);
    }
}

/* The oldest call. */
static void finish(struct gwtf_stage *stage) {
    double *sum = stage->sums[++stage->finished % 2];
    double losses = stage->device->finish(&stage->compute);
    if (sum != NULL)
        *sum = losses;
}

void gwtf_boundary_end(struct gwtf_stage *stage, double *loss_sum) {
    if (stage->device == NULL)
        return;
    stage->device->end(&stage->compute);
    stage->sums[stage->begun % 2] = loss_sum;
    if (!stage->options.ahead)
        finish(stage);
}

bool gwtf_boundary_record(const struct gwtf_stage *stage, const struct gwtf_recording *what) {
    return stage->device == NULL || stage->device->record(&stage->compute, what);
}

bool gwtf_boundary_recorded(const struct gwtf_stage *stage) {
    return stage->device == NULL || stage->device->recorded(&stage->compute);
}

unsigned gwtf_stage_unfinished(const gwtf_stage *stage) {
    return (unsigned)(stage->begun - stage->finished);
}

gwtf_status gwtf_stage_finish(gwtf_stage *stage, struct gwtf_error *error) {
    if (stage->device == NULL || gwtf_stage_unfinished(stage) == 0)
        return GWTF_OK;
    stage->device->enter(&stage->compute);
    finish(stage);
    return stage->device->state(&stage->compute, error);
}

gwtf_status gwtf_stage_boundary_create(gwtf_stage *stage, uint64_t bytes, void **memory) {
    void *made = gwtf_stage_allocate(stage, bytes);
    if (made == NULL)
        return GWTF_ERROR_MEMORY;
    *memory = made;
    return GWTF_OK;
}

void gwtf_stage_boundary_destroy(gwtf_stage *stage, void *memory) {
    /* NULL comes without a stage, too. */
    if (memory != NULL)
        gwtf_stage_release(stage, memory);
}
