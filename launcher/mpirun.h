/* Which mpirun there is, and what it must be told: Open MPI 4.1 and 5.0 want different words for
 * the same thing. */
#ifndef GWTF_LAUNCHER_MPIRUN_H
#define GWTF_LAUNCHER_MPIRUN_H

#include "share/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gwtf_mpirun {
    char path[4096];
    char version[64]; /* "4.1.4" */
    int major;
    bool ulfm; /* notices a dead process by itself */
};

/*
 * The mpirun named by GWTF_MPIRUN, else the first in PATH, asked for its version. Errors:
 * GWTF_ERROR_MISSING, GWTF_ERROR_UNSUPPORTED (not Open MPI 4.1 or later) with the line for the
 * user.
 */
gwtf_status gwtf_mpirun_find(struct gwtf_mpirun *mpirun, struct gwtf_error *error);

/* What the bootstrap is told, and where it runs. */
struct gwtf_mpirun_job {
    const char *bootstrap; /* path of gwtf-bootstrap */
    const char *config;    /* path of the resolved configuration */
    const char *snapshot;  /* "" for fresh weights */
    uint32_t first_iteration;
    const char *hosts;      /* with slots, as gwtf_hosts_list gives them; NULL: mpirun knows them */
    const char *interfaces; /* "ib0" or "10.0.0.0/8"; NULL: see one_host */
    bool one_host;          /* all workers here: without interfaces, the loopback; else all */
    bool by_daemon;         /* one_host, which mpirun knows by another name: it starts a daemon */
    /* Inside a job: the file of its hosts, and the command that starts Open MPI's daemon on one of
     * them. NULL otherwise. */
    const char *host_file;
    const char *agent;
    const char *rendezvous;     /* ompi-server's file, for other mpiruns to connect; NULL: none */
    const char *const *program; /* what is run in place of the bootstrap; NULL: nothing */
};

#define GWTF_MPIRUN_ARGUMENTS_MAX 64
struct gwtf_mpirun_command {
    const char
        *arguments[GWTF_MPIRUN_ARGUMENTS_MAX]; /* NULL-terminated; arguments[0] is mpirun's path */
    char first[16];
    char server[4200];
};

/* The command; it points into MPIRUN and JOB. */
void gwtf_mpirun_build(const struct gwtf_mpirun *mpirun, const struct gwtf_mpirun_job *job,
                       struct gwtf_mpirun_command *command);

/* Sets what mpirun wants to find in the environment, in this process. Not what the user has set. */
void gwtf_mpirun_set_environment(const char *temporary_directory);

/* Whether mpirun can start a process on HOST, within some seconds. */
bool gwtf_mpirun_reaches(const struct gwtf_mpirun *mpirun, const char *host);

/* The command as a shell would take it, on stdout. */
void gwtf_mpirun_print(const struct gwtf_mpirun_command *command);

#endif
