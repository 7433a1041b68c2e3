/*
 * Notice by signal: SIGTERM or SIGUSR1 tells this worker to leave the run, which goes on without
 * it. They are blocked in every thread and taken by one of their own, so that no computing is ever
 * interrupted.
 */
#ifndef GWTF_WORKER_RUNTIME_NOTICE_H
#define GWTF_WORKER_RUNTIME_NOTICE_H

#include <stdbool.h>

/* A machine that is taken away says so half a minute before, or more. */
#define GWTF_NOTICE_S 30.0

/* From now on. Call it before any other thread is made; without memory for one, signals end the
 * process as they would. */
void gwtf_notice_watch(void);
bool gwtf_notice_has_come(void);

#endif
