#define KERNELS gwtf_kernels_avx2
#define KERNELS_NAME "avx2"
/* 16 registers. */
#define VECTOR_BYTES 32
#define TILE_ROWS 6
#define TILE_VECTORS 2
#include "model/onednn/kernels_body.h"
