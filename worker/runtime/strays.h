/*
 * What Open MPI 4.1's TCP layer leaves behind when a peer dies: a failed write may end in a socket
 * without connection that is still asked whether it can be written, which it always can. The event
 * loop then never returns (4 of 8 runs in which six of nine workers were killed), and writes a line
 * each time round. Two things together cure it: the loop goes round once in a call, and such
 * sockets are taken out of it.
 *
 * Only for the thread that owns MPI, between two calls of it. But for gwtf_strays_keep_looking
 * nothing is done with other versions.
 */
#ifndef GWTF_WORKER_RUNTIME_STRAYS_H
#define GWTF_WORKER_RUNTIME_STRAYS_H

#include <stdbool.h>

/*
 * After MPI_Init, with every version: MPI goes on looking at sockets in each of its calls. It does
 * so while it believes that there are connections, of which it counts a lost one more than once:
 * after the loss of a few it looked only every 10 ms, and training was ten times slower.
 */
void gwtf_strays_keep_looking(void);

/* After MPI_Init: each call of MPI looks at sockets once. */
void gwtf_strays_bound_loop(void);

/* Takes out sockets without connection; HALF_OPEN: also those that the other side has closed, whose
 * last words nobody wants any more. */
void gwtf_strays_remove(bool half_open);

#endif
