#define KERNELS gwtf_kernels_avx512
#define KERNELS_NAME "avx512"
/* 32 registers. */
#define VECTOR_BYTES 64
#define TILE_ROWS 14
#define TILE_VECTORS 2
#define TILING gwtf_tiling_avx512
#define TILING_ROUNDED gwtf_tiling_avx512_rounded
#include "model/onednn/kernels_body.h"
