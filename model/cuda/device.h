/* What the host side of the CUDA backend shares: one device as one stage has it. */
#ifndef GWTF_MODEL_CUDA_DEVICE_H
#define GWTF_MODEL_CUDA_DEVICE_H

#include "model/cuda/launch.h"
#include "model/cuda/profile.h"
#include "model/operations.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <pthread.h>

/* Plans of matrix products that a stage asks for: a few for each of its matrices. */
#define GWTF_CUDA_PLANS_MAX 64u

/* Of cuBLASLt: what NVIDIA advises for its newest chips; older ones want less. */
#define GWTF_CUDA_WORKSPACE_BYTES ((size_t)32 << 20)

/* Of a matrix product in cuBLAS's order, column after column: D (m, n) = A (m, k) B (k, n). */
struct gwtf_product {
    uint64_t m, n, k;
    bool a_across, b_across; /* stored as (k, m), (n, k) */
    bool half;               /* A and B are bfloat16 */
    bool half_result;        /* D is */
    bool adds;               /* D starts as C */
    uint32_t alignment;      /* of all arrays, in bytes: a power of two, at most 16 */
    cublasLtEpilogue_t epilogue;
};

struct gwtf_product_plan {
    struct gwtf_product product;
    cublasLtMatmulDesc_t description;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace_bytes;
};

/* What every other call of a stage has to itself: see turn.c. */
struct gwtf_turn {
    cudaEvent_t arrived, computed, done;
    double *sum;     /* of losses, on the host */
    uint32_t *words; /* on their way to the device, on the host */
    size_t words_room;
};

struct gwtf_turns {
    cudaStream_t arrivals, departures;
    struct gwtf_turn of[2];
    uint64_t begun, finished;
};

/* A forward and a backward pass for each slot, and some of the loss; what is more is queued anew
 * each time. */
#define GWTF_CUDA_GRAPHS_MAX 128u

struct gwtf_graph {
    struct gwtf_recording what;
    bool met; /* it has been computed once */
    cudaGraphExec_t made;
};

struct gwtf_graphs {
    struct gwtf_graph all[GWTF_CUDA_GRAPHS_MAX];
    size_t count;
    struct gwtf_graph *recording; /* NULL: none is being recorded */
    bool impossible;              /* something went wrong with one: there will be no more */
};

struct gwtf_device {
    int ordinal;
    enum gwtf_cuda_values values;
    bool tensor_floats; /* float32 products by TF32 */
    cudaStream_t stream;
    cublasLtHandle_t products;
    void *workspace; /* of cuBLASLt */
    struct gwtf_product_plan plans[GWTF_CUDA_PLANS_MAX];
    size_t plans_count;
    bool has_no_gelu;    /* cuBLASLt, behind products of this stage */
    bool has_no_bias[2]; /* the same, where the result is float32, and bfloat16 */
    double *sum;         /* a number on its way to the host: on the device, */
    double *sum_host;    /* and there */
    struct gwtf_turns turns;
    struct gwtf_graphs graphs;
    pthread_mutex_t queueing; /* held while what the stream gets is recorded */
    struct gwtf_profile profile;
    /* For the order of a batch's tokens, on the host. */
    uint32_t *order;
    size_t order_room;
    /* What went wrong first. */
    pthread_mutex_t lock;
    bool failed;
    bool memory_is_short; /* it was a lack of memory */
    char what[256];
};

/* Keeps the first failure. */
void gwtf_cuda_note(struct gwtf_device *device, cudaError_t error, const char *doing);
void gwtf_cuda_note_product(struct gwtf_device *device, cublasStatus_t status, const char *doing);

/* Opens the device that COMPUTE names. Errors: GWTF_ERROR_UNSUPPORTED, GWTF_ERROR_MEMORY. */
gwtf_status gwtf_cuda_open(struct gwtf_compute *compute, struct gwtf_error *error);

extern const struct gwtf_device_operations gwtf_cuda_device_operations;

/* See gwtf_gpu_peak. */
struct gwtf_gpu_peak gwtf_cuda_peak(uint32_t place, enum gwtf_precision precision, uint32_t rounds);

struct gwtf_product_arrays {
    const void *a, *b;
    const void *c; /* NULL: PRODUCT does not add */
    void *d;
    const void *bias; /* m numbers of D's kind; NULL: none */
    void *aux;        /* (m, n) of D's kind: what an epilogue's activation took; NULL */
};

/* Queues it, unless the library knows no way: false. */
bool gwtf_cuda_try_product(struct gwtf_device *device, const struct gwtf_product *product,
                           const struct gwtf_product_arrays *arrays);

/* Queues it. */
void gwtf_cuda_product(struct gwtf_device *device, const struct gwtf_product *product,
                       const struct gwtf_product_arrays *arrays);
void gwtf_cuda_products_close(struct gwtf_device *device);

#endif
