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

void gwtf_rendezvous_start(const struct gwtf_mpirun *mpirun, const char *directory,
                           const char *temporary, const char *interfaces,
                           struct gwtf_rendezvous *rendezvous, struct gwtf_error *why) {
    char path[4096], file[GWTF_RENDEZVOUS_PATH_MAX];
    memset(rendezvous, 0, sizeof *rendezvous);
    if (gwtf_join_prepare(directory, why) != GWTF_OK ||
        gwtf_join_write_interfaces(directory, interfaces, why) != GWTF_OK)
        return;
    if (mpirun->major >= 5)
        return; /* mpiruns do not connect: a node of the run starts those that join */
    if (!find_server(mpirun, path, sizeof path)) {
        gwtf_error_set(why, GWTF_ERROR_MISSING, "there is no ompi-server beside mpirun or in PATH");
        return;
    }
    (void)gwtf_rendezvous_find(directory, file);
    fflush(NULL);
    rendezvous->server = fork();
    if (rendezvous->server == 0)
        become_server(path, file, temporary);
    if (rendezvous->server > 0 && await_file(rendezvous->server, file)) {
        snprintf(rendezvous->file, sizeof rendezvous->file, "%s", file);
        return;
    }
    gwtf_rendezvous_end(rendezvous);
    gwtf_error_set(why, GWTF_ERROR_RUN, "'%s' does not start", path);
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
