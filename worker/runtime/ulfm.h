/* What MPI says of a request that has failed: the one place that knows of ULFM (MPIX_ names). */
#ifndef GWTF_WORKER_RUNTIME_ULFM_H
#define GWTF_WORKER_RUNTIME_ULFM_H

#include <stdbool.h>

/* Whether ERROR, of a request or a call, says that the other side's process has died. False with an
 * MPI that does not notice: see worker/runtime/heartbeat.h. */
bool gwtf_ulfm_is_death(int error);

#endif
