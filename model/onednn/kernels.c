#include "model/onednn/kernels.h"

const struct gwtf_kernels *gwtf_kernels_at(size_t index) {
    const struct gwtf_kernels *usable[3];
    size_t count = 0;
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("fma"))
        usable[count++] = &gwtf_kernels_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        usable[count++] = &gwtf_kernels_avx2;
#endif
    usable[count++] = &gwtf_kernels_plain;
    return index < count ? usable[index] : NULL;
}

const struct gwtf_kernels *gwtf_kernels_best(void) {
    return gwtf_kernels_at(0);
}
