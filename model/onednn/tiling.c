#include "model/onednn/tiling.h"

#include "model/onednn/kernels.h"

#include <stdatomic.h>

#ifdef GWTF_HAVE_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of arch_prctl (Linux 5.16), and the number of the tiles' state in it. */
#define REQUEST_PERMISSION 0x1023
#define TILE_DATA 18

/* Whether the processor has AMX and AVX-512 for bfloat16, and the system lets this process use it.
 */
static bool has_amx(void) {
    static atomic_int known; /* 0: not yet; 1: no; 2: yes */
    int answer = atomic_load(&known);
    if (answer == 0) {
        unsigned a = 0, b = 0, c = 0, d = 0;
        bool there = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1u) && (d >> 24 & 1u) &&
                     __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1u) &&
                     gwtf_kernels_best() == &gwtf_kernels_avx512;
        answer = there && syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 ? 2 : 1;
        atomic_store(&known, answer);
    }
    return answer == 2;
}
#endif

const struct gwtf_tiling *gwtf_tiling_at(enum gwtf_precision precision, size_t index) {
    const struct gwtf_tiling *usable[3];
    size_t count = 0;
#ifdef __x86_64__
    bool rounds = precision == GWTF_PRECISION_BFLOAT16;
#ifdef GWTF_HAVE_AMX
    if (has_amx())
        usable[count++] = rounds ? &gwtf_tiling_amx : &gwtf_tiling_amx_split;
#endif
    for (size_t i = 0; gwtf_kernels_at(i) != NULL; i++) {
        if (gwtf_kernels_at(i) == &gwtf_kernels_avx512)
            usable[count++] = rounds ? &gwtf_tiling_avx512_rounded : &gwtf_tiling_avx512;
        if (gwtf_kernels_at(i) == &gwtf_kernels_avx2)
            usable[count++] = rounds ? &gwtf_tiling_avx2_rounded : &gwtf_tiling_avx2;
    }
#endif
    (void)precision;
    return index < count ? usable[index] : NULL;
}
