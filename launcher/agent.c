/*
 * gwtf node-agent: what mpirun runs in place of ssh inside a Slurm job, to start its daemon on a
 * node. Not for people.
 *
 *     mpirun  ->  gwtf node-agent HOST COMMAND...          on the node of mpirun
 *                 srun -w HOST gwtf node-agent --here COMMAND
 *                                    ->  sh -c COMMAND     on HOST
 *
 * One srun for each node, so that the loss of a node ends what ran there and nothing else. And on
 * the node somebody stands between Slurm and the daemon: when Slurm wants the node back, it tells
 * the processes that it started there by SIGTERM, which Open MPI's daemon would obey at once. Here
 * it becomes a request to stop the run with a snapshot.
 */
#include "io/allocation.h"
#include "io/run.h"
#include "launcher/commands.h"
#include "launcher/options.h"
#include "launcher/supervise.h"
#include "launcher/temporary.h"
#include "share/base/log.h"
#include "worker/runtime/spread.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a remote shell would be given: the words with blanks between them. */
static char *join(char **words) {
    size_t bytes = 1;
    for (char **word = words; *word != NULL; word++)
        bytes += strlen(*word) + 1;
    char *line = calloc(1, bytes);
    for (char **word = words; line != NULL && *word != NULL; word++) {
        strcat(line, *word);
        strcat(line, word[1] != NULL ? " " : "");
    }
    return line;
}

/* Where srun finds HOST, and how many processors the job has there. */
struct place {
    char name[256]; /* as Slurm spells it: mpirun may leave out what follows the first dot */
    char job[32];
    uint32_t component; /* of a heterogeneous job; UINT32_MAX: it is none */
    uint32_t slots;
};

static bool find_host(const char *run, const char *host, struct place *place) {
    struct gwtf_allocation allocation;
    bool found = false;
    if (gwtf_allocation_read(run, &allocation, NULL) != GWTF_OK)
        return false;
    snprintf(place->job, sizeof place->job, "%s", allocation.job);
    for (uint32_t i = 0; i < allocation.hosts_count && !found; i++) {
        const struct gwtf_allocation_host *known = &allocation.hosts[i];
        found = gwtf_spread_same_host(host, known->name);
        snprintf(place->name, sizeof place->name, "%s", known->name);
        place->slots = known->slots;
        place->component = allocation.components_count > 1 ? known->component : UINT32_MAX;
    }
    gwtf_allocation_deinit(&allocation);
    return found;
}

/* How the batch script was started says nothing about this step, and srun would take all of it for
 * options of its own. */
static void forget_job_options(void) {
    static const char *const names[] = {"SLURM_NTASKS",
                                        "SLURM_NPROCS",
                                        "SLURM_NTASKS_PER_NODE",
                                        "SLURM_NTASKS_PER_CORE",
                                        "SLURM_NTASKS_PER_SOCKET",
                                        "SLURM_NTASKS_PER_GPU",
                                        "SLURM_DISTRIBUTION",
                                        "SLURM_EXCLUSIVE",
                                        "SLURM_CPU_BIND",
                                        "SLURM_HINT",
                                        "SLURM_NNODES",
                                        "SLURM_CPUS_PER_TASK",
                                        "SLURM_TRES_PER_TASK",
                                        "SLURM_THREADS_PER_CORE",
                                        "SLURM_OVERCOMMIT",
                                        "SLURM_EXPORT_ENV"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unsetenv(names[i]);
}

static void become_srun(const struct place *place, char **words) {
    char self[4096] = "", nodelist[300], jobid[64], cpus[32], group[32];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = '\0';
    char *line = join(words);
    snprintf(nodelist, sizeof nodelist, "--nodelist=%s", place->name);
    snprintf(jobid, sizeof jobid, "--jobid=%s", place->job);
    snprintf(cpus, sizeof cpus, "--cpus-per-task=%u", place->slots);
    snprintf(group, sizeof group, "--het-group=%u", place->component);
    forget_job_options();
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    execlp("srun", "srun", "--quiet", "--overlap", jobid, "--nodes=1", "--ntasks=1", nodelist, cpus,
           "--export=ALL", "--mpi=none", "--cpu-bind=none", "--kill-on-bad-exit=0", "--input=none",
           place->component != UINT32_MAX ? group : "--quiet", self, "node-agent", "--here", line,
           (char *)NULL);
    gwtf_log(GWTF_LOG_ERROR, "cannot run srun: %s: is Slurm's srun in PATH?", strerror(errno));
    _exit(127);
}

/* How srun ended is told and not passed on: gwtf train knows what to make of it. */
static int reach(const char *run, char **words) {
    struct place place = {.slots = 1};
    sigset_t none;
    const char *host = words[0];
    if (!find_host(run, host, &place))
        return gwtf_fail(GWTF_ERROR_USAGE, "node '%s' is not in the job of '%s': start it again",
                         host, run);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    pid_t child = fork();
    if (child == 0)
        become_srun(&place, words + 1);
    int status = 0;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (child < 0 || status != 0)
        gwtf_log(GWTF_LOG_WARNING, GWTF_SUPERVISE_HOST_ENDED "%s: %s", host,
                 child < 0 ? strerror(errno) : "the node is lost, or Slurm has ended the step");
    return 0;
}

static void ask_to_stop(const char *run) {
    struct gwtf_error error = {""};
    if (gwtf_run_request(run, "notice", &error) != GWTF_OK ||
        gwtf_run_request(run, "stop", &error) != GWTF_OK)
        gwtf_log(GWTF_LOG_WARNING, "%s", error.text);
}

static int await(pid_t child, const sigset_t *heard, const char *run) {
    int number, status = 0;
    for (;;) {
        if (sigwait(heard, &number) != 0)
            continue;
        if (number == SIGTERM || number == SIGUSR1)
            ask_to_stop(run);
        if (waitpid(child, &status, WNOHANG) == child)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    }
}

/* Mpirun's TMPDIR is on its own node; what the user has set may be there on this one, too. */
static void choose_parent(void) {
    const char *parent = getenv(GWTF_TEMPORARY_PARENT_VARIABLE);
    if (parent != NULL && access(parent, W_OK | X_OK) == 0)
        setenv("TMPDIR", parent, 1);
    else
        unsetenv("TMPDIR");
}

static int run_here(const char *run, const char *line) {
    struct gwtf_temporary temporary;
    struct gwtf_error error;
    sigset_t heard;
    sigemptyset(&heard);
    sigaddset(&heard, SIGTERM);
    sigaddset(&heard, SIGUSR1);
    sigaddset(&heard, SIGCHLD);
    sigprocmask(SIG_BLOCK, &heard, NULL);
    choose_parent();
    if (gwtf_temporary_make(&temporary, &error) != GWTF_OK)
        return gwtf_fail(GWTF_ERROR_IO, "%s", error.text);
    setenv("TMPDIR", temporary.path, 1);
    pid_t child = fork();
    if (child == 0) {
        /* The daemon keeps SIGTERM and SIGUSR1 blocked: see above. */
        sigset_t freed;
        sigemptyset(&freed);
        sigaddset(&freed, SIGCHLD);
        sigprocmask(SIG_UNBLOCK, &freed, NULL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    int code = child < 0 ? 1 : await(child, &heard, run);
    gwtf_temporary_remove(&temporary);
    return code;
}

int gwtf_command_node_agent(int argc, char **argv) {
    const char *run = getenv(GWTF_SUPERVISE_RUN_VARIABLE);
    if (argc < 3 || run == NULL)
        return gwtf_fail(GWTF_ERROR_USAGE, "gwtf node-agent is started by `gwtf train`: run that");
    if (strcmp(argv[1], "--here") == 0)
        return run_here(run, argv[2]);
    return reach(run, argv + 1);
}
