#define KERNELS gwtf_kernels_avx2
#define KERNELS_NAME "avx2"
#include "model/onednn/kernels_body.h"
