#include "launcher/mpirun.h"

#include "launcher/program.h"
#include "launcher/signals.h"
#include "launcher/temporary.h"
#include "share/base/assert.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* How long a host has to run a program, a loaded one too. */
#define REACH_MS 15000
#define REACH_LOOK_MS 20

static bool ask_version(const char *path, char *line, size_t line_bytes) {
    char command[4200];
    snprintf(command, sizeof command, "'%s' --version 2>/dev/null", path);
    FILE *pipe = popen(command, "r");
    if (pipe == NULL)
        return false;
    bool got = fgets(line, (int)line_bytes, pipe) != NULL;
    /* Read it all: a program whose pipe closes early complains. */
    char rest[256];
    while (fgets(rest, sizeof rest, pipe) != NULL)
        continue;
    pclose(pipe);
    return got;
}

gwtf_status gwtf_mpirun_find(struct gwtf_mpirun *mpirun, struct gwtf_error *error) {
    struct gwtf_mpirun found = {.path = ""};
    const char *named = getenv("GWTF_MPIRUN");
    if (named != NULL && named[0] != '\0') {
        snprintf(found.path, sizeof found.path, "%s", named);
        if (strchr(found.path, '\'') != NULL || access(found.path, X_OK) != 0)
            return gwtf_error_set(
                error, GWTF_ERROR_MISSING,
                "GWTF_MPIRUN: '%s' cannot be run: set it to the path of Open MPI's mpirun",
                found.path);
    } else if (!gwtf_program_find("mpirun", found.path, sizeof found.path)) {
        return gwtf_error_set(
            error, GWTF_ERROR_MISSING,
            "no mpirun in PATH: install Open MPI (Debian: openmpi-bin), load its module, or use "
            "--local");
    }
    char line[256] = "";
    int minor = 0;
    if (!ask_version(found.path, line, sizeof line) ||
        sscanf(line, "mpirun (Open MPI) %63s", found.version) != 1 ||
        sscanf(found.version, "%d.%d", &found.major, &minor) != 2 ||
        found.major * 100 + minor < 401)
        return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED,
                              "'%s' is not Open MPI 4.1 or later: set GWTF_MPIRUN to one that is",
                              found.path);
    found.ulfm = found.major >= 5;
    *mpirun = found;
    return GWTF_OK;
}

struct list {
    struct gwtf_mpirun_command *command;
    size_t count;
};

static void add(struct list *list, const char *const *words) {
    for (; *words != NULL; words++) {
        GWTF_ASSERT(list->count < GWTF_MPIRUN_ARGUMENTS_MAX - 1);
        list->command->arguments[list->count++] = *words;
    }
    list->command->arguments[list->count] = NULL;
}

#define ADD(list, ...) add(list, (const char *const[]){__VA_ARGS__, NULL})

/*
 * The hosts of a job. Open MPI's own ways into Slurm are not used: it sees the first part of a
 * heterogeneous job only, and starts the daemons of all hosts by one srun, which ends them all when
 * one host is lost.
 */
static void add_job(struct list *list, const struct gwtf_mpirun *mpirun,
                    const struct gwtf_mpirun_job *job) {
    if (mpirun->major >= 5)
        ADD(list, "--prtemca", "ras", "^slurm", "--prtemca", "plm", "ssh", "--prtemca",
            "plm_ssh_agent", job->agent, "--prtemca", "plm_ssh_no_tree_spawn", "1");
    else
        ADD(list, "--mca", "ras", "^slurm", "--mca", "plm", "rsh", "--mca", "plm_rsh_agent",
            job->agent, "--mca", "plm_rsh_no_tree_spawn", "1");
    /* A daemon that leaves its parent is ended by Slurm. */
    ADD(list, "--leave-session-attached", "--hostfile", job->host_file);
}

/* For the workers, and for Open MPI's own daemons. */
static void add_interfaces(struct list *list, const struct gwtf_mpirun *mpirun,
                           const char *interfaces) {
    ADD(list, "--mca", "btl_tcp_if_include", interfaces);
    if (mpirun->major >= 5)
        ADD(list, "--prtemca", "prte_if_include", interfaces);
    else
        ADD(list, "--mca", "oob_tcp_if_include", interfaces);
}

void gwtf_mpirun_build(const struct gwtf_mpirun *mpirun, const struct gwtf_mpirun_job *job,
                       struct gwtf_mpirun_command *command) {
    struct list list = {.command = command};
    ADD(&list, mpirun->path);
    /* The death of a worker is not the death of the job. */
    if (mpirun->ulfm)
        ADD(&list, "--with-ft", "ulfm", "--prtemca", "state_base_recoverable", "1");
    else
        ADD(&list, "--mca", "orte_enable_recovery", "1");
    /* Whoever is told to end ends at once: mpirun would wait a second between asking and killing,
     * and nobody is told before all that was to be written is. */
    if (!mpirun->ulfm)
        ADD(&list, "--mca", "odls_base_sigkill_timeout", "0");
    /* When a write to a dead peer fails, the TCP layer asks for events of the socket that it has
     * just closed. The system refuses that with epoll. With poll, the default, it is granted, and
     * spoils libevent's list of events as soon as the number is taken again: the next call never
     * returns. */
    ADD(&list, "--mca", "opal_event_include", "epoll");
    /* TCP alone: it survives the death of a peer, and needs no files in shared memory. */
    ADD(&list, "--mca", "pml", "ob1", "--mca", "btl", "self,tcp");
    if (job->interfaces != NULL)
        add_interfaces(&list, mpirun, job->interfaces);
    else if (job->one_host)
        ADD(&list, "--mca", "btl_tcp_if_include", "lo");
    if (job->hosts != NULL)
        ADD(&list, "--host", job->hosts);
    if (job->host_file != NULL)
        add_job(&list, mpirun, job);
    if (mpirun->ulfm)
        ADD(&list, "--mca", "coll", "^han");
    if (job->rendezvous != NULL) {
        snprintf(command->server, sizeof command->server, "file:%s", job->rendezvous);
        ADD(&list, "--ompi-server", command->server);
    }
    ADD(&list, "--bind-to", "none", "--map-by", ":OVERSUBSCRIBE", "-n", "1");
    if (job->program != NULL) {
        add(&list, job->program);
        return;
    }
    ADD(&list, job->bootstrap, job->config);
    if (job->snapshot[0] != '\0') {
        snprintf(command->first, sizeof command->first, "%u", job->first_iteration);
        ADD(&list, "--snapshot", job->snapshot, "--first", command->first);
    }
}

void gwtf_mpirun_set_environment(const char *temporary_directory) {
    /* Workers share cores: threads that wait must sleep. */
    setenv("OMP_WAIT_POLICY", "passive", 0);
    /* Session directories of processes that were killed stay behind and can harm the next start:
     * each has its own. Those on other machines go where the user wants such things. */
    const char *parent = getenv("TMPDIR");
    if (parent != NULL)
        setenv(GWTF_TEMPORARY_PARENT_VARIABLE, parent, 1);
    else
        unsetenv(GWTF_TEMPORARY_PARENT_VARIABLE);
    setenv("TMPDIR", temporary_directory, 1);
    if (geteuid() == 0) {
        /* In containers and on a fresh machine there is often nobody but root. */
        setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 0);
        setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 0);
        setenv("PRTE_ALLOW_RUN_AS_ROOT", "1", 0);
        setenv("PRTE_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 0);
    }
}

/* Has mpirun run `true` on HOST. */
static void become_probe(const struct gwtf_mpirun *mpirun, const char *host,
                         const char *temporary) {
    const char *const words[] = {mpirun->path, "--host", host, "-n", "1", "true", NULL};
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

bool gwtf_mpirun_reaches(const struct gwtf_mpirun *mpirun, const char *host) {
    struct gwtf_temporary temporary;
    if (gwtf_temporary_make(&temporary, NULL) != GWTF_OK)
        return false;
    fflush(NULL);
    pid_t probe = fork();
    if (probe == 0)
        become_probe(mpirun, host, temporary.path);
    int status = -1;
    pid_t ended = 0;
    for (int64_t waited_ms = 0; probe > 0 && ended == 0 && waited_ms < REACH_MS;
         waited_ms += REACH_LOOK_MS) {
        poll(NULL, 0, REACH_LOOK_MS);
        ended = waitpid(probe, &status, WNOHANG);
    }
    if (probe > 0 && ended == 0) {
        kill(-probe, SIGKILL);
        waitpid(probe, NULL, 0);
        status = -1;
    }
    gwtf_temporary_remove(&temporary);
    return ended == probe && status == 0;
}

static void print_word(const char *word) {
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:,=+-";
    if (word[0] != '\0' && word[strspn(word, plain)] == '\0') {
        fputs(word, stdout);
        return;
    }
    putchar('\'');
    for (; *word != '\0'; word++)
        if (*word == '\'')
            fputs("'\\''", stdout);
        else
            putchar(*word);
    putchar('\'');
}

void gwtf_mpirun_print(const struct gwtf_mpirun_command *command) {
    for (size_t i = 0; command->arguments[i] != NULL; i++) {
        if (i > 0)
            putchar(' ');
        print_word(command->arguments[i]);
    }
    putchar('\n');
}
