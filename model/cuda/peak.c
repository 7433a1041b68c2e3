/* What a GPU can do at best: one large product, as the products of stages are done, and one large
 * copy. */
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

/* A square product, and a copy of a matrix as large. Matrices are full of zeros, which cost as much
 * as any numbers but the power they take. */
struct best {
    const struct gwtf_compute *compute;
    struct gwtf_product product;
    struct gwtf_product_arrays arrays;
    uint64_t bytes; /* of a matrix */
};

static void multiply(const struct best *best) {
    gwtf_cuda_product(best->compute->device, &best->product, &best->arrays);
}

static void copy(const struct best *best) {
    struct gwtf_device *device = best->compute->device;
    gwtf_cuda_note(device,
                   cudaMemcpyAsync(best->arrays.d, best->arrays.a, best->bytes,
                                   cudaMemcpyDeviceToDevice, device->stream),
                   "copying in the GPU's memory");
}

/* Seconds of the fastest; 0 where it fails. */
static double fastest(const struct best *best, void (*work)(const struct best *), uint32_t rounds) {
    double least = 0;
    for (uint32_t i = 0; i <= rounds; i++) {
        double start = now();
        work(best);
        if (gwtf_cuda_device_operations.check(best->compute, NULL) != GWTF_OK)
            return 0;
        double seconds = now() - start;
        /* The first finds its plan. */
        if (i > 0 && (least == 0 || seconds < least))
            least = seconds;
    }
    return least;
}

static struct gwtf_gpu_peak measure(const struct best *best, uint32_t rounds) {
    double side = (double)best->product.m;
    double product = fastest(best, multiply, rounds), moved = fastest(best, copy, rounds);
    return (struct gwtf_gpu_peak){.operations = product > 0 ? 2 * side * side * side / product : 0,
                                  .bytes = moved > 0 ? 2 * (double)best->bytes / moved : 0};
}

struct gwtf_gpu_peak gwtf_cuda_peak(uint32_t place, enum gwtf_precision precision,
                                    uint32_t rounds) {
    const struct gwtf_device_operations *device = &gwtf_cuda_device_operations;
    struct gwtf_compute compute = {.precision = precision, .place = place};
    struct gwtf_gpu_peak found = {0};
    uint64_t free_bytes = 0;
    if (device->free_bytes(place, &free_bytes, NULL) != GWTF_OK ||
        gwtf_cuda_open(&compute, NULL) != GWTF_OK)
        return found;
    uint64_t side = free_bytes > ROOM_BYTES ? SIDE : SIDE_OF_SMALL;
    bool half = precision == GWTF_PRECISION_BFLOAT16, made = true;
    struct best best = {.compute = &compute, .bytes = side * side * sizeof(float)};
    void *matrices[3] = {NULL};
    for (int i = 0; i < 3; i++)
        made = made && device->allocate(&compute, best.bytes, &matrices[i]) == GWTF_OK;
    best.product = (struct gwtf_product){.m = side,
                                         .n = side,
                                         .k = side,
                                         .half = half,
                                         .half_result = half,
                                         .alignment = 16,
                                         .epilogue = CUBLASLT_EPILOGUE_DEFAULT};
    best.arrays =
        (struct gwtf_product_arrays){.a = matrices[0], .b = matrices[1], .d = matrices[2]};
    if (made)
        found = measure(&best, rounds);
    for (int i = 0; i < 3; i++)
        if (matrices[i] != NULL)
            device->release(&compute, matrices[i]);
    device->close(&compute);
    return found;
}
