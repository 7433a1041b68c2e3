#define KERNELS gwtf_kernels_plain
#define KERNELS_NAME "plain"
#include "model/onednn/kernels_body.h"
