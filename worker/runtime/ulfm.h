/* What MPI says of a request that has failed: the one place that knows of ULFM (MPIX_ names). */
#ifndef GWTF_WORKER_RUNTIME_ULFM_H
#define GWTF_WORKER_RUNTIME_ULFM_H

#include <stdbool.h>

/* True when the MPI that this was built with reports the death of a process by itself. */
bool gwtf_ulfm_is_there(void);

/* Whether ERROR, of a request or a call, says that the other side's process has died. */
bool gwtf_ulfm_is_death(int error);

#endif
