/*
 * The library's own matrix product, as fast as it gets: square, of a size that its kernels like,
 * with the weights in the layout that it chooses. What the stages' products are measured against.
 */
#include "model/peak.h"

#include <dnnl.h>
#include <dnnl_version.h>
#include <omp.h>
#include <string.h>
#include <time.h>

#define SIDE 2048
/* Of two bfloat16 numbers and of one float32: 0.74 and 0.75. */
#define BYTE 0x3f
#define OPERANDS 3

/* In the order of the arguments below. */
enum operand { SOURCE, WEIGHTS, PRODUCT };

struct library {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_desc_t description;
    dnnl_primitive_t primitive;
    dnnl_memory_t memories[OPERANDS];
};

/* oneDNN 3 made descriptors opaque, and gave primitives descriptions without a step between. */
#if DNNL_VERSION_MAJOR >= 3
static dnnl_status_t describe(struct library *library, dnnl_data_type_t type) {
    const dnnl_dims_t dims = {SIDE, SIDE};
    dnnl_memory_desc_t source = NULL, weights = NULL, product = NULL;
    dnnl_status_t status = dnnl_memory_desc_create_with_tag(&source, 2, dims, type, dnnl_ab);
    if (status == dnnl_success)
        status = dnnl_memory_desc_create_with_tag(&weights, 2, dims, type, dnnl_format_tag_any);
    if (status == dnnl_success)
        status = dnnl_memory_desc_create_with_tag(&product, 2, dims, dnnl_f32, dnnl_ab);
    if (status == dnnl_success)
        status = dnnl_matmul_primitive_desc_create(&library->description, library->engine, source,
                                                   weights, NULL, product, NULL);
    dnnl_memory_desc_destroy(source);
    dnnl_memory_desc_destroy(weights);
    dnnl_memory_desc_destroy(product);
    return status;
}

static size_t bytes_of(const_dnnl_memory_desc_t description) {
    return dnnl_memory_desc_get_size(description);
}
#else
static dnnl_status_t describe(struct library *library, dnnl_data_type_t type) {
    const dnnl_dims_t dims = {SIDE, SIDE};
    dnnl_memory_desc_t source, weights, product;
    dnnl_matmul_desc_t matmul;
    dnnl_status_t status = dnnl_memory_desc_init_by_tag(&source, 2, dims, type, dnnl_ab);
    if (status == dnnl_success)
        status = dnnl_memory_desc_init_by_tag(&weights, 2, dims, type, dnnl_format_tag_any);
    if (status == dnnl_success)
        status = dnnl_memory_desc_init_by_tag(&product, 2, dims, dnnl_f32, dnnl_ab);
    if (status == dnnl_success)
        status = dnnl_matmul_desc_init(&matmul, &source, &weights, NULL, &product);
    if (status == dnnl_success)
        status =
            dnnl_primitive_desc_create(&library->description, &matmul, NULL, library->engine, NULL);
    return status;
}

static size_t bytes_of(const dnnl_memory_desc_t *description) {
    return dnnl_memory_desc_get_size(description);
}
#endif

static dnnl_status_t allocate(struct library *library) {
    static const dnnl_query_t queries[OPERANDS] = {dnnl_query_src_md, dnnl_query_weights_md,
                                                   dnnl_query_dst_md};
    dnnl_status_t status = dnnl_success;
    for (size_t i = 0; i < OPERANDS && status == dnnl_success; i++) {
        void *data = NULL;
        status =
            dnnl_memory_create(&library->memories[i],
                               dnnl_primitive_desc_query_md(library->description, queries[i], 0),
                               library->engine, DNNL_MEMORY_ALLOCATE);
        if (status == dnnl_success)
            status = dnnl_memory_get_data_handle(library->memories[i], &data);
        if (status == dnnl_success)
            memset(data, BYTE,
                   bytes_of(dnnl_primitive_desc_query_md(library->description, queries[i], 0)));
    }
    return status;
}

static dnnl_status_t multiply(const struct library *library) {
    const dnnl_exec_arg_t arguments[OPERANDS] = {
        {DNNL_ARG_SRC, library->memories[SOURCE]},
        {DNNL_ARG_WEIGHTS, library->memories[WEIGHTS]},
        {DNNL_ARG_DST, library->memories[PRODUCT]},
    };
    dnnl_status_t status =
        dnnl_primitive_execute(library->primitive, library->stream, OPERANDS, arguments);
    return status == dnnl_success ? dnnl_stream_wait(library->stream) : status;
}

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static dnnl_status_t measure(struct library *library, dnnl_data_type_t type, uint32_t rounds,
                             clockid_t clock, double *seconds) {
    dnnl_status_t status = dnnl_engine_create(&library->engine, dnnl_cpu, 0);
    if (status == dnnl_success)
        status = dnnl_stream_create(&library->stream, library->engine, dnnl_stream_default_flags);
    if (status == dnnl_success)
        status = describe(library, type);
    if (status == dnnl_success)
        status = dnnl_primitive_create(&library->primitive, library->description);
    if (status == dnnl_success)
        status = allocate(library);
    if (status == dnnl_success)
        status = multiply(library); /* warms up */
    double best = 0;
    for (uint32_t i = 0; i < rounds && status == dnnl_success; i++) {
        double start = now(clock);
        status = multiply(library);
        double taken = now(clock) - start;
        best = i == 0 || taken < best ? taken : best;
    }
    *seconds = best;
    return status;
}

double gwtf_peak_of_library(enum gwtf_precision precision, uint32_t threads, uint32_t rounds,
                            bool processor_time) {
    struct library library = {0};
    double seconds = 0;
    omp_set_num_threads((int)threads);
    dnnl_status_t status =
        measure(&library, precision == GWTF_PRECISION_BFLOAT16 ? dnnl_bf16 : dnnl_f32, rounds,
                processor_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &seconds);
    for (size_t i = 0; i < OPERANDS; i++)
        dnnl_memory_destroy(library.memories[i]);
    dnnl_primitive_destroy(library.primitive);
    dnnl_primitive_desc_destroy(library.description);
    dnnl_stream_destroy(library.stream);
    dnnl_engine_destroy(library.engine);
    return status == dnnl_success && seconds > 0 ? 2.0 * SIDE * SIDE * SIDE / seconds : 0;
}
