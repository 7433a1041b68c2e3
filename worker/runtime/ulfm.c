#include "worker/runtime/ulfm.h"

#include <mpi.h>
#ifdef GWTF_HAVE_ULFM
#include <mpi-ext.h>
#endif

bool gwtf_ulfm_is_death(int error) {
#ifdef GWTF_HAVE_ULFM
    int class = MPI_SUCCESS;
    MPI_Error_class(error, &class);
    return class == MPIX_ERR_PROC_FAILED || class == MPIX_ERR_PROC_FAILED_PENDING;
#else
    (void)error;
    return false;
#endif
}
