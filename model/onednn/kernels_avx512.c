#define KERNELS gwtf_kernels_avx512
#define KERNELS_NAME "avx512"
#include "model/onednn/kernels_body.h"
