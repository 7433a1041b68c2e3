#include "launcher/supervise.h"

#include "io/join.h"
#include "io/run.h"
#include "launcher/rendezvous.h"
#include "launcher/signals.h"
#include "launcher/temporary.h"
#include "share/base/log.h"
#include "worker/runtime/clock.h"
#include "worker/runtime/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_INTERVAL_MS 100
#define STATES_INTERVAL_US 1000000
/* Looks that must find no worker alive: one that ends says so in its state file, but the file may
 * have been read just before. */
#define LOOKS_WITHOUT_WORKERS 3
/* The same of workers elsewhere, which go within a second of having said so; ten looks a second. */
#define LOOKS_AFTER_FAREWELL 15

/* After the run has said how it ended: mpirun's time to go by itself, then after a request, then no
 * more asking. */
#define FAREWELL_US 5000000
#define TERMINATE_US 5000000
#define TERMINATE_ALONE_US 1000000 /* where no worker is left, and a lost host may not answer */
#define KILL_US 3000000

struct supervisor {
    const struct gwtf_supervise_options *options;
    const char *directory;
    struct gwtf_temporary temporary;
    struct gwtf_rendezvous rendezvous;
    pid_t mpirun;
    int output; /* what mpirun and all below it print */
    FILE *log;  /* RUN/train.log */
    char line[2048];
    size_t line_length;
    uint64_t metrics_offset;
    uint64_t events_offset;
    uint64_t json_offset;
    gwtf_time_us states_read_us;
    gwtf_time_us over_us; /* when the end was seen; 0: not yet */
    int stops_passed_on;
    bool training;    /* a node has begun */
    bool iterated;    /* an iteration is over */
    bool gave_up;     /* the bootstrap has, and said why */
    char host[256];   /* this one */
    char *lost_hosts; /* others where nothing runs any more, each between line breaks */
    int looks_without_workers;
    bool *lost; /* nodes that the others have given up; nodes_count of them */
    uint32_t nodes_count;
    bool nobody_left; /* of the workers, and at least one of them has died */
    gwtf_status outcome;
    bool outcome_known;
    uint64_t failed_iteration; /* of the event that says so */
    bool gone;                 /* mpirun has ended */
    char reason[GWTF_ERROR_TEXT_MAX];
};

/* In a job, Slurm tells all processes by SIGTERM that it wants their machine. That is heard
 * elsewhere; mpirun would end all at once. */
static void shield_mpirun(void) {
    sigset_t shielded;
    sigemptyset(&shielded);
    sigaddset(&shielded, SIGTERM);
    sigaddset(&shielded, SIGUSR1);
    sigprocmask(SIG_BLOCK, &shielded, NULL);
}

/* What mpirun ends by. Inside a job it does not hear SIGTERM. */
static int end_signal(const struct gwtf_supervise_options *options) {
    return options->job->host_file != NULL ? SIGINT : SIGTERM;
}

static void become_mpirun(const struct supervisor *supervisor, int output) {
    struct gwtf_mpirun_command command;
    const struct gwtf_supervise_options *options = supervisor->options;
    struct gwtf_mpirun_job job = *options->job;
    if (supervisor->rendezvous.file[0] != '\0')
        job.rendezvous = supervisor->rendezvous.file;
    gwtf_mpirun_build(options->mpirun, &job, &command);
    gwtf_mpirun_set_environment(supervisor->temporary.path);
    char *run = realpath(supervisor->directory, NULL);
    setenv(GWTF_SUPERVISE_RUN_VARIABLE, run != NULL ? run : supervisor->directory, 1);
    gwtf_signals_restore();
    /* A group of its own: Ctrl+C at the terminal is for the supervisor, mpirun would end the job at
     * once. */
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, end_signal(options));
    if (options->job->host_file != NULL)
        shield_mpirun();
    int nothing = open("/dev/null", O_RDONLY);
    dup2(nothing, STDIN_FILENO);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    /* execv takes char *const *, but does not write. */
    execv(command.arguments[0], (char *const *)(uintptr_t)command.arguments);
    fprintf(stderr, "gwtf: cannot run '%s': %s\n", command.arguments[0], strerror(errno));
    _exit(127);
}

/* So that nodes can join. It is no reason not to train. */
static void open_to_others(struct supervisor *supervisor) {
    const struct gwtf_supervise_options *options = supervisor->options;
    struct gwtf_error why = {""};
    if (options->setup->places == 0)
        return;
    gwtf_rendezvous_start(options->mpirun, options->job, supervisor->directory,
                          supervisor->temporary.path, &supervisor->rendezvous, &why);
    if (why.text[0] != '\0')
        fprintf(supervisor->log, "gwtf: nobody can join this run: %s\n", why.text);
}

static gwtf_status start(struct supervisor *supervisor, struct gwtf_error *error) {
    int ends[2];
    char path[GWTF_RUN_PATH_MAX];
    gwtf_status status = gwtf_temporary_make(&supervisor->temporary, error);
    if (status != GWTF_OK)
        return status;
    snprintf(path, sizeof path, "%s/train.log", supervisor->directory);
    supervisor->log = fopen(path, "a");
    if (supervisor->log == NULL || pipe2(ends, O_CLOEXEC) != 0)
        return gwtf_error_set(error, GWTF_ERROR_IO, "cannot write '%s': %s", path, strerror(errno));
    open_to_others(supervisor);
    fflush(NULL);
    supervisor->mpirun = fork();
    if (supervisor->mpirun == 0)
        become_mpirun(supervisor, ends[1]);
    close(ends[1]);
    supervisor->output = ends[0];
    fcntl(supervisor->output, F_SETFL, O_NONBLOCK);
    if (supervisor->mpirun < 0)
        return gwtf_error_set(error, GWTF_ERROR_RUN, "cannot start mpirun: %s", strerror(errno));
    setpgid(supervisor->mpirun, supervisor->mpirun);
    return GWTF_OK;
}

/* The first reason counts: what nodes say later, of each other, follows from it. */
static void give_reason(struct supervisor *supervisor, const char *reason) {
    if (supervisor->reason[0] == '\0')
        snprintf(supervisor->reason, sizeof supervisor->reason, "%s", reason);
}

/* LINE may say that what ran on a host has ended. */
static void note_lost_host(struct supervisor *supervisor, const char *line) {
    const char *host = strstr(line, GWTF_SUPERVISE_HOST_ENDED);
    if (host == NULL)
        return;
    host += strlen(GWTF_SUPERVISE_HOST_ENDED);
    char *longer = NULL, *old = supervisor->lost_hosts;
    if (asprintf(&longer, "%s\n%.*s\n", old != NULL ? old : "", (int)strcspn(host, ":"), host) < 0)
        return;
    free(old);
    supervisor->lost_hosts = longer;
    if (supervisor->training || supervisor->outcome_known)
        return;
    /* Mpirun would wait for that host for ever. */
    char reason[512];
    snprintf(reason, sizeof reason,
             "nothing can be started on %.*s: see train.log in the run's directory, and what "
             "`gwtf doctor` says in this job",
             (int)strcspn(host, ":"), host);
    give_reason(supervisor, reason);
    supervisor->gave_up = true;
    if (supervisor->over_us == 0)
        supervisor->over_us = gwtf_clock_now_us();
}

static bool is_lost_host(const struct supervisor *supervisor, const char *host) {
    char line[sizeof supervisor->host + 3];
    snprintf(line, sizeof line, "\n%s\n", host);
    return supervisor->lost_hosts != NULL && strstr(supervisor->lost_hosts, line) != NULL;
}

/*
 * Everything goes to the log; what GWTF itself says goes to the person too. An error that is not a
 * node's is the bootstrap's, who gives up: what has been spawned by then will never begin, and may
 * not end either.
 */
static void handle_line(struct supervisor *supervisor, const char *line) {
    fprintf(supervisor->log, "%s\n", line);
    fflush(supervisor->log);
    if (strncmp(line, "gwtf: ", 6) != 0)
        return;
    gwtf_progress_break(supervisor->options->progress);
    fprintf(stderr, "%s\n", line);
    note_lost_host(supervisor, line);
    if (strstr(line, "warning: ") != NULL)
        return;
    give_reason(supervisor, line + 6);
    if (strncmp(line + 6, "node ", 5) == 0)
        return;
    supervisor->gave_up = true;
    if (supervisor->over_us == 0)
        supervisor->over_us = gwtf_clock_now_us();
}

static void end_line(struct supervisor *supervisor) {
    supervisor->line[supervisor->line_length] = '\0';
    supervisor->line_length = 0;
    handle_line(supervisor, supervisor->line);
}

static void read_output(struct supervisor *supervisor) {
    char bytes[4096];
    ssize_t got;
    while ((got = read(supervisor->output, bytes, sizeof bytes)) > 0)
        for (ssize_t i = 0; i < got; i++) {
            if (bytes[i] == '\n') {
                end_line(supervisor);
                continue;
            }
            if (supervisor->line_length == sizeof supervisor->line - 1)
                end_line(supervisor);
            supervisor->line[supervisor->line_length++] = bytes[i];
        }
}

static void on_metrics(void *context, const struct gwtf_metrics *metrics) {
    struct supervisor *supervisor = context;
    supervisor->training = true;
    supervisor->iterated = true;
    /* Who said that the run has failed was cut off from those that go on. */
    if (supervisor->outcome_known && supervisor->failed_iteration > 0 &&
        metrics->iteration > supervisor->failed_iteration + 1) {
        supervisor->failed_iteration = 0;
        supervisor->outcome_known = false;
        supervisor->over_us = 0;
        supervisor->reason[0] = '\0';
    }
    gwtf_progress_metrics(supervisor->options->progress, metrics);
}

static void end_with(struct supervisor *supervisor, gwtf_status outcome, const char *reason) {
    if (supervisor->outcome_known)
        return;
    supervisor->outcome_known = true;
    supervisor->outcome = outcome;
    if (supervisor->over_us == 0)
        supervisor->over_us = gwtf_clock_now_us();
    give_reason(supervisor, reason);
}

static bool is_of_leaving(const char *kind) {
    return strcmp(kind, "leaving") == 0 || strcmp(kind, "stays") == 0 ||
           strcmp(kind, "left") == 0 || strcmp(kind, "moves") == 0;
}

static void on_event(void *context, const struct gwtf_run_event *event) {
    struct supervisor *supervisor = context;
    struct gwtf_progress *progress = supervisor->options->progress;
    unsigned long long iteration = (unsigned long long)event->iteration;
    if (event->node < supervisor->nodes_count) {
        bool *lost = &supervisor->lost[event->node];
        *lost = (*lost || strcmp(event->kind, "lost") == 0) && strcmp(event->kind, "joined") != 0;
    }
    if (strcmp(event->kind, "finished") == 0)
        end_with(supervisor, GWTF_OK, "");
    else if (strcmp(event->kind, "stopped") == 0)
        end_with(supervisor, GWTF_ERROR_INTERRUPTED, "");
    else if (strcmp(event->kind, "failed") == 0) {
        if (!supervisor->outcome_known)
            supervisor->failed_iteration = event->iteration;
        end_with(supervisor, GWTF_ERROR_RUN, event->text);
    } else if (strcmp(event->kind, "chaos") == 0 && !progress->quiet)
        gwtf_progress_note(progress, "chaos: node %u: %s", event->node, event->text);
    else if (strcmp(event->kind, "joined") == 0 && !progress->quiet)
        gwtf_progress_note(progress, "node %u: %s", event->node, event->text);
    else if (strcmp(event->kind, "stage_lost") == 0 && !progress->quiet)
        gwtf_progress_note(progress, "%s", event->text);
    else if (is_of_leaving(event->kind) && !progress->quiet)
        gwtf_progress_note(progress, "node %u: %s", event->node, event->text);
    else if (strcmp(event->kind, "snapshot") == 0 && !progress->quiet)
        gwtf_progress_note(progress, "snapshot of iteration %llu is in %s/snapshots/step-%06llu",
                           iteration, supervisor->directory, iteration);
}

/* True when the process of NODE is a worker of this build and runs on this machine. */
static bool is_our_worker(const struct gwtf_node_state *node, const char *host) {
    if (node->pid <= 1 || strcmp(node->host, host) != 0)
        return false;
    char link[64], of_self[4096], of_worker[4096];
    ssize_t self_length = readlink("/proc/self/exe", of_self, sizeof of_self - 1);
    snprintf(link, sizeof link, "/proc/%lld/exe", (long long)node->pid);
    ssize_t worker_length = readlink(link, of_worker, sizeof of_worker - 1);
    if (self_length < 0 || worker_length < 0)
        return false;
    of_self[self_length] = '\0';
    of_worker[worker_length] = '\0';
    char *slash = strrchr(of_self, '/');
    size_t directory = slash == NULL ? 0 : (size_t)(slash - of_self) + 1;
    return strncmp(of_self, of_worker, directory) == 0 &&
           strcmp(of_worker + directory, "gwtf-worker") == 0;
}

/* True when the process of NODE runs no more, as far as that can be seen from here. */
static bool is_gone(const struct supervisor *supervisor, const struct gwtf_node_state *node) {
    return strcmp(node->host, supervisor->host) == 0 ? !is_our_worker(node, supervisor->host)
                                                     : is_lost_host(supervisor, node->host);
}

/* True when every node has said how it ended, or is gone. */
static bool all_are_gone(const struct supervisor *supervisor, const struct gwtf_node_state *nodes,
                         size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!gwtf_node_has_ended(&nodes[i]) && !is_gone(supervisor, &nodes[i]))
            return false;
    return count > 0;
}

/* True when no worker runs any more, and at least one has died on the way: then mpirun may wait for
 * it for ever. Of workers on other machines it is known by what they or those who lost them said.
 */
static bool nobody_is_left(const struct supervisor *supervisor, const struct gwtf_node_state *nodes,
                           size_t count) {
    bool one_died = false;
    for (size_t i = 0; i < count; i++) {
        bool here = strcmp(nodes[i].host, supervisor->host) == 0,
             ended = gwtf_node_has_ended(&nodes[i]);
        bool lost = nodes[i].node < supervisor->nodes_count && supervisor->lost[nodes[i].node];
        if (!is_gone(supervisor, &nodes[i]) && (here || (!ended && !lost)))
            return false;
        one_died = one_died || !ended;
    }
    return one_died;
}

/* All have ended, and who was to write how it was has died on the way: then those tell that came
 * to the end. */
static void conclude(struct supervisor *supervisor, const struct gwtf_node_state *nodes,
                     size_t count) {
    uint32_t last = supervisor->options->setup->config.run.iterations;
    for (size_t i = 0; i < count; i++)
        if (nodes[i].phase == GWTF_NODE_FINISHED)
            end_with(supervisor, nodes[i].iteration < last ? GWTF_ERROR_INTERRUPTED : GWTF_OK, "");
    end_with(supervisor, GWTF_ERROR_PEER,
             "all workers have died: see train.log in the run's directory, and whether the "
             "machine ran out of memory; go on with --resume");
}

/* A node that fails before the first iteration is over ends the run, whether or not the others have
 * noticed: what was configured does not work. Later it is one of those that are lost, and the
 * others say what that means for the run. The death of all ends it too. */
static void read_states(struct supervisor *supervisor) {
    struct gwtf_node_state *nodes = NULL;
    size_t count = 0;
    gwtf_time_us now_us = gwtf_clock_now_us();
    if (now_us - supervisor->states_read_us < STATES_INTERVAL_US && !supervisor->outcome_known)
        return;
    supervisor->states_read_us = now_us;
    if (gwtf_run_read_nodes(supervisor->directory, &nodes, &count, NULL) != GWTF_OK)
        return;
    for (size_t i = 0; i < count; i++) {
        supervisor->training = supervisor->training || nodes[i].phase == GWTF_NODE_TRAINING;
        if (nodes[i].phase == GWTF_NODE_FAILED && nodes[i].status != GWTF_ERROR_DEVICE &&
            !supervisor->iterated) {
            if (supervisor->over_us == 0)
                supervisor->over_us = now_us;
            give_reason(supervisor, nodes[i].error);
        }
    }
    supervisor->looks_without_workers =
        all_are_gone(supervisor, nodes, count) ? supervisor->looks_without_workers + 1 : 0;
    if (supervisor->looks_without_workers >= LOOKS_WITHOUT_WORKERS)
        conclude(supervisor, nodes, count);
    supervisor->nobody_left = nobody_is_left(supervisor, nodes, count);
    free(nodes);
}

static void read_files(struct supervisor *supervisor) {
    if (supervisor->options->json)
        gwtf_progress_copy_metrics(supervisor->directory, &supervisor->json_offset);
    gwtf_run_read_metrics(supervisor->directory, &supervisor->metrics_offset, on_metrics,
                          supervisor, NULL);
    gwtf_run_read_events(supervisor->directory, &supervisor->events_offset, on_event, supervisor,
                         NULL);
    read_states(supervisor);
}

static void pass_signals_on(struct supervisor *supervisor) {
    int count = gwtf_signals_count();
    if (count == supervisor->stops_passed_on)
        return;
    supervisor->stops_passed_on = count;
    if (!supervisor->training) {
        supervisor->stops_passed_on = 2;
        supervisor->reason[0] = '\0';
        end_with(supervisor, GWTF_ERROR_RUN, "stopped before the first iteration");
    } else if (count == 1) {
        struct gwtf_error error;
        gwtf_progress_break(supervisor->options->progress);
        fputs(GWTF_STOPPING_WORDS, stderr);
        if (gwtf_run_request(supervisor->directory, "stop", &error) != GWTF_OK)
            gwtf_log(GWTF_LOG_ERROR, "%s", error.text);
    } else {
        supervisor->reason[0] = '\0';
        end_with(supervisor, GWTF_ERROR_RUN,
                 "stopped at once, without a snapshot of the last iterations");
    }
}

static bool mpirun_has_ended(struct supervisor *supervisor) {
    int status;
    if (!supervisor->gone && waitpid(supervisor->mpirun, &status, WNOHANG) == supervisor->mpirun)
        supervisor->gone = true;
    return supervisor->gone;
}

/* Of what mpirun would wait for. With daemons on other hosts, Open MPI 4.1's does not notice that
 * all have ended: that all have said so is enough then. */
static bool nothing_is_left(const struct supervisor *supervisor) {
    return supervisor->nobody_left || (supervisor->options->job->host_file != NULL &&
                                       supervisor->looks_without_workers >= LOOKS_AFTER_FAREWELL);
}

static void watch_rendezvous(struct supervisor *supervisor) {
    struct gwtf_error why;
    if (!gwtf_rendezvous_has_died(&supervisor->rendezvous, supervisor->directory, &why))
        return;
    fprintf(supervisor->log, "gwtf: warning: nobody can join this run: %s\n", why.text);
    gwtf_progress_note(supervisor->options->progress, "nobody can join any more: %s", why.text);
}

static void watch(struct supervisor *supervisor) {
    while (!mpirun_has_ended(supervisor)) {
        struct pollfd readable = {.fd = supervisor->output, .events = POLLIN};
        if (poll(&readable, 1, LOOK_INTERVAL_MS) > 0) {
            read_output(supervisor);
            if (readable.revents & POLLHUP) /* nobody writes any more; do not spin */
                poll(NULL, 0, LOOK_INTERVAL_MS);
        }
        read_files(supervisor);
        watch_rendezvous(supervisor);
        pass_signals_on(supervisor);
        bool at_once = supervisor->stops_passed_on > 1 ||
                       (supervisor->outcome_known && nothing_is_left(supervisor));
        if (supervisor->over_us != 0 &&
            (at_once || gwtf_clock_now_us() - supervisor->over_us > FAREWELL_US))
            return;
    }
}

/* True when mpirun has ended within the time. */
static bool await_end(struct supervisor *supervisor, int64_t wait_us) {
    gwtf_time_us start_us = gwtf_clock_now_us();
    while (!mpirun_has_ended(supervisor) && gwtf_clock_now_us() - start_us < wait_us) {
        read_output(supervisor);
        poll(NULL, 0, 20);
    }
    return supervisor->gone;
}

/* Workers end with mpirun's daemon; this is for one that did not hear. */
static void end_workers(struct supervisor *supervisor) {
    struct gwtf_node_state *nodes = NULL;
    size_t count = 0;
    if (gwtf_run_read_nodes(supervisor->directory, &nodes, &count, NULL) != GWTF_OK)
        return;
    for (size_t i = 0; i < count; i++)
        if (is_our_worker(&nodes[i], supervisor->host))
            kill((pid_t)nodes[i].pid, SIGKILL);
    free(nodes);
}

static void end_mpirun(struct supervisor *supervisor) {
    const struct {
        int number;
        int64_t wait_us;
    } steps[] = {{end_signal(supervisor->options),
                  supervisor->nobody_left ? TERMINATE_ALONE_US : TERMINATE_US},
                 {SIGKILL, KILL_US}};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0] && !mpirun_has_ended(supervisor); i++) {
        kill(supervisor->mpirun, steps[i].number);
        await_end(supervisor, steps[i].wait_us);
    }
    end_workers(supervisor);
}

static void clean_up(struct supervisor *supervisor) {
    if (supervisor->mpirun > 0)
        end_mpirun(supervisor);
    gwtf_rendezvous_end(&supervisor->rendezvous);
    gwtf_join_close(supervisor->directory);
    if (supervisor->output > 0) {
        read_output(supervisor);
        if (supervisor->line_length > 0)
            end_line(supervisor);
        close(supervisor->output);
    }
    if (supervisor->log != NULL)
        fclose(supervisor->log);
    gwtf_temporary_remove(&supervisor->temporary);
    gwtf_run_clear_request(supervisor->directory, "stop");
    free(supervisor->lost);
}

/* Where the files end now: what a former start wrote is not shown again. */
static void skip_old_lines(struct supervisor *supervisor) {
    char path[GWTF_RUN_PATH_MAX];
    struct stat status;
    supervisor->json_offset = gwtf_progress_metrics_end(supervisor->directory);
    supervisor->metrics_offset = supervisor->json_offset;
    snprintf(path, sizeof path, "%s/events.jsonl", supervisor->directory);
    if (stat(path, &status) == 0)
        supervisor->events_offset = (uint64_t)status.st_size;
}

/* Open MPI 5.0.7 loses one of its daemons in one of twenty starts on several hosts: not a word of
 * ours has been said then. */
static bool may_start_again(const struct supervisor *supervisor, bool trained) {
    const struct gwtf_supervise_options *options = supervisor->options;
    return options->mpirun->ulfm && !options->job->one_host && !trained &&
           !supervisor->outcome_known && supervisor->reason[0] == '\0';
}

/* How a run that did not end well ended, by what its nodes say. */
static gwtf_status classify(const struct supervisor *supervisor) {
    struct gwtf_node_state *nodes = NULL;
    size_t count = 0;
    bool of_stage = false, of_link = false, of_others = false;
    bool trained = supervisor->training || supervisor->options->restarted;
    if (gwtf_run_read_nodes(supervisor->directory, &nodes, &count, NULL) != GWTF_OK)
        count = 0;
    for (size_t i = 0; i < count; i++) {
        trained = trained || nodes[i].phase == GWTF_NODE_TRAINING;
        if (nodes[i].phase != GWTF_NODE_FAILED || nodes[i].status == GWTF_ERROR_FENCED ||
            nodes[i].status == GWTF_ERROR_DEVICE)
            continue;
        of_stage = of_stage || nodes[i].status == GWTF_ERROR_STAGE;
        of_link = of_link || nodes[i].status == GWTF_ERROR_LINK;
        of_others = of_others ||
                    (nodes[i].status != GWTF_ERROR_STAGE && nodes[i].status != GWTF_ERROR_LINK);
    }
    free(nodes);
    if (supervisor->stops_passed_on > 0 || supervisor->gave_up)
        return GWTF_ERROR_RUN;
    if (of_stage)
        return GWTF_ERROR_STAGE;
    if (of_link && !of_others)
        return GWTF_ERROR_LINK;
    if (may_start_again(supervisor, trained))
        return GWTF_ERROR_PEER;
    bool has_failed = supervisor->outcome_known && supervisor->outcome == GWTF_ERROR_RUN;
    return has_failed || !trained ? GWTF_ERROR_RUN : GWTF_ERROR_PEER;
}

gwtf_status gwtf_supervise(const struct gwtf_supervise_options *options, struct gwtf_error *error) {
    struct supervisor supervisor = {.options = options,
                                    .directory = options->setup->config.run.directory,
                                    .nodes_count =
                                        options->setup->data_nodes + options->setup->relays};
    supervisor.lost = calloc(supervisor.nodes_count, sizeof *supervisor.lost);
    if (supervisor.lost == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    gwtf_machine_name(supervisor.host, sizeof supervisor.host);
    gwtf_run_clear_request(supervisor.directory, "stop");
    gwtf_run_clear_request(supervisor.directory, "notice");
    for (gwtf_node_id node = 0; node < supervisor.nodes_count; node++)
        gwtf_run_clear_leave(supervisor.directory, node);
    skip_old_lines(&supervisor);
    gwtf_status status = gwtf_signals_watch(3, NULL) == GWTF_OK
                             ? start(&supervisor, error)
                             : gwtf_error_set(error, GWTF_ERROR_MEMORY, "cannot start a thread");
    if (status == GWTF_OK) {
        watch(&supervisor);
        read_files(&supervisor);
    }
    clean_up(&supervisor);
    free(supervisor.lost_hosts);
    gwtf_progress_break(options->progress);
    if (status != GWTF_OK)
        return status;
    bool good = supervisor.outcome == GWTF_OK || supervisor.outcome == GWTF_ERROR_INTERRUPTED;
    if (supervisor.outcome_known && good)
        return supervisor.outcome;
    supervisor.outcome = classify(&supervisor);
    if (supervisor.reason[0] != '\0')
        return gwtf_error_set(error, supervisor.outcome, "%s", supervisor.reason);
    return gwtf_error_set(error, supervisor.outcome,
                          "the run ended without a word: see %s/train.log, and go on with --resume",
                          supervisor.directory);
}
