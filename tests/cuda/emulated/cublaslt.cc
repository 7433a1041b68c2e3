/* Matrix products by the plainest loops, and what the real library refuses. */
#include "cublasLt.h"

#include "cuda_bf16.h"
#include "emulated.h"

#include <cmath>
#include <cstdlib>

struct gwtf_emulated_description {
    cublasComputeType_t compute;
    cublasOperation_t a, b;
    cublasLtEpilogue_t epilogue;
    const void *bias;
    cudaDataType_t bias_type;
    void *aux;
    int64_t aux_leading;
    cudaDataType_t aux_type;
};

struct gwtf_emulated_layout {
    cudaDataType_t type;
    uint64_t rows, columns;
    int64_t leading;
};

struct gwtf_emulated_preference {
    uint32_t alignment[4];
};

const char *cublasLtGetStatusString(cublasStatus_t status) {
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_ALLOC_FAILED:
        return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    }
    return "CUBLAS_STATUS_UNKNOWN";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    *handle = (cublasLtHandle_t) new char;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    delete (char *)handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *description,
                                        cublasComputeType_t compute, cudaDataType_t) {
    *description = new gwtf_emulated_description{};
    (*description)->compute = compute;
    (*description)->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
    delete description;
    return CUBLAS_STATUS_SUCCESS;
}

template <class T> static cublasStatus_t take(T *into, const void *value, size_t bytes) {
    if (bytes != sizeof *into)
        return CUBLAS_STATUS_INVALID_VALUE;
    *into = *(const T *)value;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d,
                                              cublasLtMatmulDescAttributes_t name,
                                              const void *value, size_t bytes) {
    switch (name) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return take(&d->a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return take(&d->b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return take(&d->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return take(&d->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
        return take(&d->aux, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
        return take(&d->aux_leading, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        return take(&d->bias_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE:
        return take(&d->aux_type, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType_t type,
                                          uint64_t rows, uint64_t columns, int64_t leading) {
    *layout = new gwtf_emulated_layout{type, rows, columns, leading};
    return leading >= (int64_t)rows ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference) {
    *preference = new gwtf_emulated_preference{{256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t name,
                                                    const void *value, size_t bytes) {
    size_t ignored;
    if (name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
        return take(&ignored, value, bytes);
    return take(&preference->alignment[name - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value,
                bytes);
}

static bool has_bias(cublasLtEpilogue_t epilogue) {
    return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
}

static bool has_aux(cublasLtEpilogue_t epilogue) {
    return epilogue == CUBLASLT_EPILOGUE_GELU_AUX || epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int,
                                              cublasLtMatmulHeuristicResult_t *found, int *count) {
    *count = 0;
    uint64_t m = description->a == CUBLAS_OP_N ? a->rows : a->columns;
    uint64_t k = description->a == CUBLAS_OP_N ? a->columns : a->rows;
    uint64_t n = description->b == CUBLAS_OP_N ? b->columns : b->rows;
    if (k != (description->b == CUBLAS_OP_N ? b->rows : b->columns) || m != d->rows ||
        n != d->columns)
        return CUBLAS_STATUS_INVALID_VALUE;
    bool kinds = a->type == b->type && c->type == d->type &&
                 (a->type == CUDA_R_16BF || d->type == CUDA_R_32F);
    if (has_bias(description->epilogue))
        kinds = kinds && description->bias_type == d->type && description->bias != NULL;
    if (has_aux(description->epilogue))
        kinds = kinds && description->aux_type == d->type && description->aux_leading % 8 == 0 &&
                description->aux != NULL;
    const char *plain = getenv("GWTF_EMULATED_PLAIN_PRODUCTS");
    if (!kinds || (plain != NULL && description->epilogue != CUBLASLT_EPILOGUE_DEFAULT))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    *count = 1;
    uint32_t alignment = preference->alignment[0];
    for (uint32_t side : preference->alignment)
        alignment = side > alignment ? side : alignment;
    found->algo.alignment = alignment;
    found->workspaceSize = 1024;
    return CUBLAS_STATUS_SUCCESS;
}

static float number_at(const void *array, cudaDataType_t type, uint64_t at) {
    return type == CUDA_R_16BF ? __bfloat162float(((const __nv_bfloat16 *)array)[at])
                               : ((const float *)array)[at];
}

static void put_at(void *array, cudaDataType_t type, uint64_t at, float x) {
    if (type == CUDA_R_16BF)
        ((__nv_bfloat16 *)array)[at] = __float2bfloat16(x);
    else
        ((float *)array)[at] = x;
}

/* 10 bits of mantissa, as tensor cores take float32. */
static float as_tf32(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0xfffu + (bits >> 13 & 1u)) & ~0x1fffu;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static float gelu(float v) {
    return 0.5f * v * (1.0f + tanhf(0.79788456f * (v + 0.044715f * v * v * v)));
}

struct product {
    gwtf_emulated_description description;
    gwtf_emulated_layout a, b, d;
    const void *a_at, *b_at, *c_at;
    void *d_at;
    float alpha, beta;
};

static float operand(const product &p, const gwtf_emulated_layout &layout, const void *array,
                     uint64_t row, uint64_t column, bool across) {
    uint64_t at =
        across ? row * (uint64_t)layout.leading + column : column * (uint64_t)layout.leading + row;
    float x = number_at(array, layout.type, at);
    return p.description.compute == CUBLAS_COMPUTE_32F_FAST_TF32 ? as_tf32(x) : x;
}

static void finish(const product &p, uint64_t row, uint64_t column, float sum) {
    const gwtf_emulated_description &e = p.description;
    uint64_t at = column * (uint64_t)p.d.leading + row;
    float x = p.alpha * sum;
    if (p.beta != 0)
        x += p.beta * number_at(p.c_at, p.d.type, at);
    if (has_bias(e.epilogue))
        x += number_at(e.bias, e.bias_type, row);
    if (has_aux(e.epilogue)) {
        put_at(e.aux, e.aux_type, column * (uint64_t)e.aux_leading + row, x);
        x = gelu(x);
    }
    put_at(p.d_at, p.d.type, at, x);
}

static void multiply(const product &p) {
    bool a_across = p.description.a == CUBLAS_OP_T, b_across = p.description.b == CUBLAS_OP_T;
    uint64_t k = a_across ? p.a.rows : p.a.columns;
    for (uint64_t column = 0; column < p.d.columns; column++)
        for (uint64_t row = 0; row < p.d.rows; row++) {
            double sum = 0;
            for (uint64_t i = 0; i < k; i++)
                sum += (double)operand(p, p.a, p.a_at, row, i, a_across) *
                       (double)operand(p, p.b, p.b_at, i, column, b_across);
            finish(p, row, column, (float)sum);
        }
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t description, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t, void *d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *algorithm, void *, size_t,
                              cudaStream_t stream) {
    const void *const arrays[] = {a, b, c, d};
    for (const void *array : arrays)
        if ((uintptr_t)array % algorithm->alignment != 0)
            return CUBLAS_STATUS_INVALID_VALUE;
    product p = {*description,          *a_layout,           *b_layout, *d_layout, a, b, c, d,
                 *(const float *)alpha, *(const float *)beta};
    gwtf_emulated_queue(stream, [=] { multiply(p); });
    return CUBLAS_STATUS_SUCCESS;
}
