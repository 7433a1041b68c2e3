/*
 * What lets processes of several mpiruns connect: Open MPI 4.1's ompi-server, started beside a run
 * that others may join, with its file in RUN/join. A run goes on when it dies; nobody can join then
 * until the run is started again.
 */
#ifndef GWTF_LAUNCHER_RENDEZVOUS_H
#define GWTF_LAUNCHER_RENDEZVOUS_H

#include "launcher/mpirun.h"
#include "share/base/status.h"

#include <stdbool.h>
#include <sys/types.h>

#define GWTF_RENDEZVOUS_PATH_MAX 4096

struct gwtf_rendezvous {
    pid_t server;                        /* 0: none */
    char file[GWTF_RENDEZVOUS_PATH_MAX]; /* "": nobody can join */
};

/*
 * Makes RUN/join, empty, and starts the server for the run in DIRECTORY, which JOB starts, with
 * TEMPORARY for its own files. Where that cannot be, FILE is "" and WHY says so in one line, also
 * for those that want to join: the run starts all the same. With Open MPI 5 there is none, and
 * nothing to say.
 */
void gwtf_rendezvous_start(const struct gwtf_mpirun *mpirun, const struct gwtf_mpirun_job *job,
                           const char *directory, const char *temporary,
                           struct gwtf_rendezvous *rendezvous, struct gwtf_error *why);
/* True, once, when it has died: the run goes on, and nobody can join any more, as they are told. */
bool gwtf_rendezvous_has_died(struct gwtf_rendezvous *rendezvous, const char *directory,
                              struct gwtf_error *why);
/* Ends the server; nobody finds the run any more. */
void gwtf_rendezvous_end(struct gwtf_rendezvous *rendezvous);

/* The file of the run in DIRECTORY; false when nobody can join it. */
bool gwtf_rendezvous_find(const char *directory, char file[GWTF_RENDEZVOUS_PATH_MAX]);

#endif
