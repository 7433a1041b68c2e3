#define KERNELS gwtf_kernels_avx2
#define KERNELS_NAME "avx2"
/* 16 registers. */
#define VECTOR_BYTES 32
#define TILE_ROWS 6
#define TILE_VECTORS 2
#define TILING gwtf_tiling_avx2
#define TILING_ROUNDED gwtf_tiling_avx2_rounded
#include "model/onednn/kernels_body.h"
