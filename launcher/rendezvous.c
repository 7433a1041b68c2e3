#include "launcher/rendezvous.h"

#include "io/join.h"
#include "launcher/program.h"
#include "launcher/signals.h"

#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_MS 5000
#define LOOK_MS 10

/* Beside mpirun, or in PATH. */
static bool find_server(const struct gwtf_mpirun *mpirun, char *path, size_t path_bytes) {
    char copy[sizeof mpirun->path];
    snprintf(copy, sizeof copy, "%s", mpirun->path);
    snprintf(path, path_bytes, "%s/ompi-server", dirname(copy));
    return access(path, X_OK) == 0 || gwtf_program_find("ompi-server", path, path_bytes);
}

static void become_server(const char *path, const char *file, const char *temporary) {
    const char *const words[] = {path, "--no-daemonize", "-r", file, NULL};
    gwtf_mpirun_set_environment(temporary);
    gwtf_signals_restore();
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int nothing = open("/dev/null", O_RDWR);
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        dup2(nothing, fd);
    /* execv takes char *const *, but does not write. */
    execv(words[0], (char *const *)(uintptr_t)words);
    _exit(127);
}

static bool has_content(const char *file) {
    struct stat facts;
    return stat(file, &facts) == 0 && facts.st_size > 0;
}

/* It writes its file when it listens. */
static bool await_file(pid_t server, const char *file) {
    for (int waited_ms = 0; waited_ms < START_MS; waited_ms += LOOK_MS) {
        if (has_content(file))
            return true;
        if (waitpid(server, NULL, WNOHANG) == server)
            return false;
        poll(NULL, 0, LOOK_MS);
    }
    return false;
}

bool gwtf_rendezvous_find(const char *directory, char file[GWTF_RENDEZVOUS_PATH_MAX]) {
    char whole[PATH_MAX];
    if (realpath(directory, whole) == NULL)
        return false;
    return snprintf(file, GWTF_RENDEZVOUS_PATH_MAX, "%s/join/rendezvous", whole) <
               GWTF_RENDEZVOUS_PATH_MAX &&
           has_content(file);
}

static gwtf_status prepare(const struct gwtf_mpirun_job *job, const char *directory,
                           struct gwtf_error *why) {
    const char *interfaces = job->interfaces != NULL ? job->interfaces : job->one_host ? "lo" : "";
    gwtf_status status = gwtf_join_prepare(directory, why);
    return status == GWTF_OK ? gwtf_join_write_interfaces(directory, interfaces, why) : status;
}

/* Open MPI 4.1's mpirun does not tell others where its daemons are: who connects to a process on
 * another host than mpirun's crashes (its issue 6818). */
static gwtf_status start(const struct gwtf_mpirun *mpirun, const struct gwtf_mpirun_job *job,
                         const char *directory, const char *temporary,
                         struct gwtf_rendezvous *rendezvous, struct gwtf_error *why) {
    char path[4096], file[GWTF_RENDEZVOUS_PATH_MAX];
    if (!job->one_host || job->by_daemon)
        return gwtf_error_set(why, GWTF_ERROR_MISSING,
                              "with Open MPI 4.1 nodes can join a run only where its own nodes are "
                              "all on the machine that starts it: start it so, and let the other "
                              "machines join, or use Open MPI 5");
    if (!find_server(mpirun, path, sizeof path))
        return gwtf_error_set(why, GWTF_ERROR_MISSING,
                              "there is no ompi-server beside mpirun or in PATH");
    (void)gwtf_rendezvous_find(directory, file);
    fflush(NULL);
    rendezvous->server = fork();
    if (rendezvous->server == 0)
        become_server(path, file, temporary);
    if (rendezvous->server <= 0 || !await_file(rendezvous->server, file))
        return gwtf_error_set(why, GWTF_ERROR_RUN, "'%s' does not start", path);
    snprintf(rendezvous->file, sizeof rendezvous->file, "%s", file);
    return GWTF_OK;
}

void gwtf_rendezvous_start(const struct gwtf_mpirun *mpirun, const struct gwtf_mpirun_job *job,
                           const char *directory, const char *temporary,
                           struct gwtf_rendezvous *rendezvous, struct gwtf_error *why) {
    memset(rendezvous, 0, sizeof *rendezvous);
    if (prepare(job, directory, why) != GWTF_OK)
        return;
    if (mpirun->major >= 5)
        return; /* mpiruns do not connect: a node of the run starts those that join */
    if (start(mpirun, job, directory, temporary, rendezvous, why) == GWTF_OK)
        return;
    gwtf_rendezvous_end(rendezvous);
    gwtf_join_write_closed(directory, why->text);
}

bool gwtf_rendezvous_has_died(struct gwtf_rendezvous *rendezvous, const char *directory,
                              struct gwtf_error *why) {
    if (rendezvous->server <= 0 || waitpid(rendezvous->server, NULL, WNOHANG) != rendezvous->server)
        return false;
    rendezvous->server = 0;
    gwtf_rendezvous_end(rendezvous);
    gwtf_error_set(why, GWTF_ERROR_RUN,
                   "ompi-server, over which nodes join, has died: it can be joined again after a "
                   "restart");
    gwtf_join_write_closed(directory, why->text);
    return true;
}

void gwtf_rendezvous_end(struct gwtf_rendezvous *rendezvous) {
    if (rendezvous->server > 0) {
        kill(-rendezvous->server, SIGKILL);
        kill(rendezvous->server, SIGKILL);
        waitpid(rendezvous->server, NULL, 0);
    }
    if (rendezvous->file[0] != '\0')
        unlink(rendezvous->file);
    rendezvous->server = 0;
    rendezvous->file[0] = '\0';
}
