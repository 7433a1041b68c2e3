/* Matrix products by cuBLASLt, and the cache of their plans. */
#include "model/cuda/device.h"

#include <string.h>

static bool same(const struct gwtf_product *a, const struct gwtf_product *b) {
    return a->m == b->m && a->n == b->n && a->k == b->k && a->a_across == b->a_across &&
           a->b_across == b->b_across && a->half == b->half && a->half_result == b->half_result &&
           a->adds == b->adds && a->alignment == b->alignment && a->epilogue == b->epilogue;
}

static bool has_aux(const struct gwtf_product *product) {
    return product->epilogue == CUBLASLT_EPILOGUE_GELU_AUX ||
           product->epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
}

static cublasStatus_t describe(struct gwtf_device *device, const struct gwtf_product *p,
                               cublasLtMatmulDesc_t *description) {
    cublasLtMatmulDesc_t made = NULL;
    cublasStatus_t status = cublasLtMatmulDescCreate(
        &made,
        device->tensor_floats && !p->half ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
        CUDA_R_32F);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    const cublasOperation_t a = p->a_across ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t b = p->b_across ? CUBLAS_OP_T : CUBLAS_OP_N;
    const int64_t rows = (int64_t)p->m;
    const cudaDataType_t kind = p->half_result ? CUDA_R_16BF : CUDA_R_32F;
    const struct {
        cublasLtMatmulDescAttributes_t name;
        const void *value;
        size_t bytes;
        bool wanted;
    } attributes[] = {
        {CUBLASLT_MATMUL_DESC_TRANSA, &a, sizeof a, true},
        {CUBLASLT_MATMUL_DESC_TRANSB, &b, sizeof b, true},
        {CUBLASLT_MATMUL_DESC_EPILOGUE, &p->epilogue, sizeof p->epilogue, true},
        {CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &kind, sizeof kind,
         p->epilogue != CUBLASLT_EPILOGUE_DEFAULT},
        {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &rows, sizeof rows, has_aux(p)},
        {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, &kind, sizeof kind, has_aux(p)},
    };
    for (size_t i = 0;
         status == CUBLAS_STATUS_SUCCESS && i < sizeof attributes / sizeof *attributes; i++)
        if (attributes[i].wanted)
            status = cublasLtMatmulDescSetAttribute(made, attributes[i].name, attributes[i].value,
                                                    attributes[i].bytes);
    *description = made;
    return status;
}

static cublasStatus_t lay_out(struct gwtf_product_plan *plan) {
    const struct gwtf_product *p = &plan->product;
    cudaDataType_t operands = p->half ? CUDA_R_16BF : CUDA_R_32F;
    uint64_t a_rows = p->a_across ? p->k : p->m, b_rows = p->b_across ? p->n : p->k;
    cublasStatus_t status = cublasLtMatrixLayoutCreate(&plan->a, operands, a_rows,
                                                       p->a_across ? p->m : p->k, (int64_t)a_rows);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatrixLayoutCreate(&plan->b, operands, b_rows, p->b_across ? p->k : p->n,
                                            (int64_t)b_rows);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatrixLayoutCreate(&plan->d, p->half_result ? CUDA_R_16BF : CUDA_R_32F,
                                            p->m, p->n, (int64_t)p->m);
    return status;
}

static cublasStatus_t prefer(uint32_t alignment, cublasLtMatmulPreference_t *preference) {
    const size_t workspace = GWTF_CUDA_WORKSPACE_BYTES;
    const cublasLtMatmulPreferenceAttributes_t sides[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    cublasStatus_t status = cublasLtMatmulPreferenceCreate(preference);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulPreferenceSetAttribute(
            *preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
    for (size_t i = 0; status == CUBLAS_STATUS_SUCCESS && i < sizeof sides / sizeof *sides; i++)
        status = cublasLtMatmulPreferenceSetAttribute(*preference, sides[i], &alignment,
                                                      sizeof alignment);
    return status;
}

/* A bias's or aux's pointer must be there when an algorithm is asked for: some want it aligned. */
static cublasStatus_t point(const struct gwtf_product_plan *plan,
                            const struct gwtf_product_arrays *arrays) {
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    if (arrays->bias != NULL)
        status =
            cublasLtMatmulDescSetAttribute(plan->description, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                           &arrays->bias, sizeof arrays->bias);
    if (status == CUBLAS_STATUS_SUCCESS && has_aux(&plan->product))
        status = cublasLtMatmulDescSetAttribute(plan->description,
                                                CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER,
                                                &arrays->aux, sizeof arrays->aux);
    return status;
}

static void plan_close(struct gwtf_product_plan *plan) {
    if (plan->description != NULL)
        cublasLtMatmulDescDestroy(plan->description);
    cublasLtMatrixLayout_t layouts[] = {plan->a, plan->b, plan->d};
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (layouts[i] != NULL)
            cublasLtMatrixLayoutDestroy(layouts[i]);
    *plan = (struct gwtf_product_plan){0};
}

static cublasStatus_t plan_make(struct gwtf_device *device, const struct gwtf_product *product,
                                const struct gwtf_product_arrays *arrays,
                                struct gwtf_product_plan *plan) {
    *plan = (struct gwtf_product_plan){.product = *product};
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    cublasStatus_t status = describe(device, product, &plan->description);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = lay_out(plan);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = point(plan, arrays);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = prefer(product->alignment, &preference);
    if (status == CUBLAS_STATUS_SUCCESS)
        status =
            cublasLtMatmulAlgoGetHeuristic(device->products, plan->description, plan->a, plan->b,
                                           plan->d, plan->d, preference, 1, &found, &count);
    if (preference != NULL)
        cublasLtMatmulPreferenceDestroy(preference);
    if (status == CUBLAS_STATUS_SUCCESS && count == 0)
        status = CUBLAS_STATUS_NOT_SUPPORTED;
    if (status != CUBLAS_STATUS_SUCCESS) {
        plan_close(plan);
        return status;
    }
    plan->algorithm = found.algo;
    plan->workspace_bytes = found.workspaceSize;
    return CUBLAS_STATUS_SUCCESS;
}

/* NULL, with why in STATUS, when there is no way. The oldest makes room: a stage that continues
 * asks for another number of rows each time. */
static struct gwtf_product_plan *find_or_make(struct gwtf_device *device,
                                              const struct gwtf_product *product,
                                              const struct gwtf_product_arrays *arrays,
                                              cublasStatus_t *status) {
    for (size_t i = 0; i < device->plans_count; i++)
        if (same(&device->plans[i].product, product))
            return &device->plans[i];
    if (device->plans_count == GWTF_CUDA_PLANS_MAX) {
        plan_close(&device->plans[0]);
        memmove(device->plans, device->plans + 1,
                (GWTF_CUDA_PLANS_MAX - 1) * sizeof *device->plans);
        device->plans_count--;
    }
    struct gwtf_product_plan *plan = &device->plans[device->plans_count];
    *status = plan_make(device, product, arrays, plan);
    if (*status != CUBLAS_STATUS_SUCCESS)
        return NULL;
    device->plans_count++;
    return plan;
}

static void multiply(struct gwtf_device *device, const struct gwtf_product_plan *plan,
                     const struct gwtf_product_arrays *arrays) {
    const struct gwtf_product *product = &plan->product;
    const float one = 1, zero = 0;
    cublasStatus_t status = point(plan, arrays);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmul(
            device->products, plan->description, &one, arrays->a, plan->a, arrays->b, plan->b,
            product->adds ? &one : &zero, product->adds ? arrays->c : arrays->d, plan->d, arrays->d,
            plan->d, &plan->algorithm, device->workspace, plan->workspace_bytes, device->stream);
    gwtf_cuda_note_product(device, status, "multiplying matrices");
}

bool gwtf_cuda_try_product(struct gwtf_device *device, const struct gwtf_product *product,
                           const struct gwtf_product_arrays *arrays) {
    cublasStatus_t status;
    struct gwtf_product_plan *plan = find_or_make(device, product, arrays, &status);
    if (plan != NULL)
        multiply(device, plan, arrays);
    return plan != NULL;
}

void gwtf_cuda_product(struct gwtf_device *device, const struct gwtf_product *product,
                       const struct gwtf_product_arrays *arrays) {
    cublasStatus_t status;
    struct gwtf_product_plan *plan = find_or_make(device, product, arrays, &status);
    if (plan != NULL)
        multiply(device, plan, arrays);
    else
        gwtf_cuda_note_product(device, status, "no way was found to multiply matrices");
}

void gwtf_cuda_products_close(struct gwtf_device *device) {
    for (size_t i = 0; i < device->plans_count; i++)
        plan_close(&device->plans[i]);
    device->plans_count = 0;
    if (device->products != NULL)
        cublasLtDestroy(device->products);
}
