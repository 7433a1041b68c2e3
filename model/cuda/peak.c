/* What a GPU can do at best: one large product, as the products of stages are done. */
#include "model/cuda/device.h"

#include <time.h>

/* Enough that all multiprocessors have much to do, where there is room for it. */
#define SIDE 8192u
#define SIDE_OF_SMALL 64u
#define ROOM_BYTES ((uint64_t)4 << 30)

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Seconds of the fastest; arrays are full of zeros, which cost as much as any numbers but the power
 * they take. */
static double fastest(const struct gwtf_compute *compute, const struct gwtf_product *product,
                      const struct gwtf_product_arrays *arrays, uint32_t rounds) {
    double best = 0;
    for (uint32_t i = 0; i <= rounds; i++) {
        double start = now();
        gwtf_cuda_product(compute->device, product, arrays);
        if (gwtf_cuda_device_operations.check(compute, NULL) != GWTF_OK)
            return 0;
        double seconds = now() - start;
        /* The first finds its plan. */
        if (i > 0 && (best == 0 || seconds < best))
            best = seconds;
    }
    return best;
}

double gwtf_cuda_peak(uint32_t place, enum gwtf_precision precision, uint32_t rounds) {
    const struct gwtf_device_operations *device = &gwtf_cuda_device_operations;
    struct gwtf_compute compute = {.precision = precision, .place = place};
    uint64_t free_bytes = 0;
    double seconds = 0;
    if (device->free_bytes(place, &free_bytes, NULL) != GWTF_OK ||
        gwtf_cuda_open(&compute, NULL) != GWTF_OK)
        return 0;
    uint64_t side = free_bytes > ROOM_BYTES ? SIDE : SIDE_OF_SMALL;
    bool half = precision == GWTF_PRECISION_BFLOAT16;
    void *matrices[3] = {NULL};
    bool made = true;
    for (int i = 0; i < 3; i++)
        made = made &&
               device->allocate(&compute, side * side * sizeof(float), &matrices[i]) == GWTF_OK;
    struct gwtf_product product = {.m = side,
                                   .n = side,
                                   .k = side,
                                   .half = half,
                                   .half_result = half,
                                   .alignment = 16,
                                   .epilogue = CUBLASLT_EPILOGUE_DEFAULT};
    struct gwtf_product_arrays arrays = {.a = matrices[0], .b = matrices[1], .d = matrices[2]};
    if (made)
        seconds = fastest(&compute, &product, &arrays, rounds);
    for (int i = 0; i < 3; i++)
        if (matrices[i] != NULL)
            device->release(&compute, matrices[i]);
    device->close(&compute);
    return seconds > 0 ? 2.0 * (double)side * (double)side * (double)side / seconds : 0;
}
