#include "launcher/chaos.h"
#include "launcher/commands.h"
#include "launcher/hosts.h"
#include "launcher/job.h"
#include "launcher/mpirun.h"
#include "launcher/options.h"
#include "launcher/progress.h"
#include "launcher/restart.h"
#include "launcher/signals.h"
#include "launcher/supervise.h"
#include "share/base/log.h"
#include "worker/runtime/clock.h"
#include "worker/runtime/local.h"
#include "worker/runtime/machine.h"
#include "worker/runtime/network.h"
#include "worker/runtime/setup.h"

#include <libgen.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STATE_INTERVAL_US 1000000
#define RESTARTS 3
#define RESTARTS_MOST 1000000
#define HOSTS_TEXT_MAX 512

struct train {
    const char *config_path;
    struct gwtf_option_list overrides;
    const char *chaos;
    struct gwtf_chaos faults; /* as overrides */
    bool local;
    bool resume;
    const char *resume_word; /* "auto": a fresh start where there is nothing to resume */
    const char *restarts;    /* as given; NULL: RESTARTS */
    unsigned restarts_most;
    bool dry_run;
    bool json;
    bool quiet;
    bool requeue;
    char self[3072]; /* path of this program */
    struct gwtf_job job;
    struct gwtf_setup setup;
    struct gwtf_snapshot_info snapshot; /* path "" for a fresh start */
    uint32_t first_iteration;
    int lock;
    struct gwtf_progress progress;
    gwtf_time_us state_written_us;
    uint64_t json_offset; /* --local: how much of metrics.jsonl has been printed */
};

/* False when the command ends here, with *CODE. */
static bool parse_restarts(struct train *train, int *code) {
    char *end = NULL;
    train->restarts_most = RESTARTS;
    if (train->restarts == NULL)
        return true;
    unsigned long number = strtoul(train->restarts, &end, 10);
    train->restarts_most = (unsigned)number;
    if (train->restarts[0] >= '0' && train->restarts[0] <= '9' && *end == '\0' &&
        number <= RESTARTS_MOST)
        return true;
    *code = gwtf_fail(GWTF_ERROR_USAGE, "--restarts %s: give a number from 0 to %d",
                      train->restarts, RESTARTS_MOST);
    return false;
}

/* False when the command ends here, with *CODE. */
static bool parse_options(int argc, char **argv, struct train *train, int *code) {
    const struct gwtf_option options[] = {
        {.name = "local",
         .help = "the whole model in one process, without MPI",
         .flag = &train->local},
        {.name = "resume",
         .argument = "=auto",
         .help = "go on from the newest whole snapshot of the run; auto: begin if there is none",
         .flag = &train->resume,
         .value = &train->resume_word},
        {.name = "set",
         .argument = "PATH=VALUE",
         .help = "override a value of CONFIG; may be given again",
         .list = &train->overrides},
        {.name = "chaos",
         .argument = "SPEC",
         .help = "kill, stop and cut off workers while it trains; see above",
         .value = &train->chaos},
        {.name = "restarts",
         .argument = "N",
         .help = "go on by itself after the loss of a stage or of all, N times at most: 3",
         .value = &train->restarts},
        {.name = "requeue",
         .help = "in a Slurm job: when told that its time is over, have it start again",
         .flag = &train->requeue},
        {.name = "dry-run",
         .help = "check everything, print the mpirun command, start nothing",
         .flag = &train->dry_run},
        {.name = "json",
         .help = "print the lines of metrics.jsonl in place of progress",
         .flag = &train->json},
        {.name = "quiet", .help = "print no progress", .flag = &train->quiet},
        {0}};
    const struct gwtf_usage usage = {
        .command = "train",
        .arguments = "CONFIG [--local] [--resume[=auto]] [--set PATH=VALUE]...",
        .summary =
            "Trains the model that CONFIG describes, on workers that mpirun starts, or in "
            "this process.\n"
            "Ctrl+C once: finish the iteration, write a snapshot, leave. Twice: now.\n"
            "When all nodes of a stage are lost, or all processes, it goes on by itself; see\n"
            "faults.stage_loss.\n"
            "GWTF_MPIRUN names another mpirun than the first in PATH, and GWTF_INTERFACES the "
            "network\n"
            "interfaces between several hosts. In a Slurm job, it uses the job's nodes.\n\n"
            "--chaos takes faults, with a ';' between them: kill or stop a worker, and slow, "
            "cut or\n"
            "lossy links, each with keys of the lists `crashes` and `link_faults`, or at= "
            "and for= seconds.\n"
            "A kill or stop of no node takes a relay at random whose stage keeps another, "
            "each time\n"
            "another with every=SECONDS, the same ones with the same seed=N; links are drawn with "
            "draw=N,\n"
            "and moments with random=true. events.jsonl tells all.\n",
        .example = "  gwtf train my.cfg --chaos 'kill every=5,seed=3; stop node=4,at=20,for=6'\n"
                   "  gwtf train my.cfg --chaos 'kill node=3,iteration=10,phase=backward; cut "
                   "node=2,at=8,for=4'\n"
                   "  gwtf train share/config/quickstart.cfg --resume --set run.iterations=600\n",
        .arguments_least = 1,
        .arguments_most = 1,
    };
    if (!gwtf_options_parse(&usage, options, argc, argv, code))
        return false;
    train->config_path = argv[optind];
    return parse_restarts(train, code);
}

static void snapshot_skipped(void *context, const char *line) {
    (void)context;
    gwtf_log(GWTF_LOG_WARNING, "%s", line);
}

/* --resume=auto without a whole snapshot. Damaged ones may be all that is left of long work: they
 * are not passed over in silence. */
static gwtf_status start_afresh(struct train *train, struct gwtf_error *error) {
    char snapshots[GWTF_SNAPSHOT_PATH_MAX];
    gwtf_setup_snapshots_path(&train->setup, snapshots, sizeof snapshots);
    if (gwtf_snapshot_was_whole(snapshots))
        return gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                              "--resume=auto: all snapshots under '%s' are damaged: repair one, or "
                              "move them away to start afresh",
                              snapshots);
    train->resume = false;
    return GWTF_OK;
}

/* The faults of --chaos are overrides of their lists. */
static gwtf_status add_chaos(struct train *train, struct gwtf_error *error) {
    if (train->chaos == NULL)
        return GWTF_OK;
    if (train->local)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "--chaos is for workers, and --local has none: leave one out");
    const char *const overrides[] = {train->faults.crashes, train->faults.link_faults};
    gwtf_status status = gwtf_chaos_parse(train->chaos, &train->faults, error);
    for (size_t i = 0; i < 2 && status == GWTF_OK; i++) {
        if (overrides[i][0] == '\0')
            continue;
        if (train->overrides.count == GWTF_OPTION_LIST_MAX)
            return gwtf_error_set(error, GWTF_ERROR_USAGE, "too many --set: leave some out");
        train->overrides.items[train->overrides.count++] = overrides[i];
    }
    return status;
}

/* A run that ended when it had lost a stage goes on from what was left. Whoever holds the run's
 * lock looks after that itself. */
static void use_rest(struct train *train) {
    char snapshots[GWTF_SNAPSHOT_PATH_MAX], rest[GWTF_SNAPSHOT_PATH_MAX];
    char how[GWTF_SNAPSHOT_HOW_MAX];
    struct gwtf_error error;
    gwtf_setup_snapshots_path(&train->setup, snapshots, sizeof snapshots);
    if (!gwtf_snapshot_rest_newest(snapshots, rest) ||
        gwtf_run_lock(train->setup.config.run.directory, &train->lock, NULL) != GWTF_OK)
        return;
    struct gwtf_snapshot_info info;
    if (gwtf_restart_find(&train->setup, &info, how, &error) != GWTF_OK)
        gwtf_log(GWTF_LOG_WARNING, "%s", error.text);
    else if (how[0] != '\0')
        gwtf_log(GWTF_LOG_WARNING, "from '%s': %s", rest, how);
}

/* Everything that can be checked without starting anything. */
static gwtf_status check(struct train *train, struct gwtf_error *error) {
    struct gwtf_config *config = calloc(1, sizeof *config);
    if (config == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    gwtf_status status = add_chaos(train, error);
    if (status == GWTF_OK)
        status = gwtf_config_load(train->config_path, train->overrides.items,
                                  train->overrides.count, config, error);
    if (status == GWTF_OK)
        status = gwtf_setup_open(config, &train->setup, error);
    free(config);
    char *topology = NULL;
    if (status == GWTF_OK)
        status = gwtf_network_read(&train->setup, &topology, error);
    free(topology);
    ssize_t length = readlink("/proc/self/exe", train->self, sizeof train->self - 1);
    train->self[length > 0 ? length : 0] = '\0';
    if (status == GWTF_OK && !train->local)
        status = gwtf_job_open(&train->job, &train->setup, train->self, error);
    if (status != GWTF_OK)
        return status;
    const char *directory = train->setup.config.run.directory;
    train->first_iteration = 1;
    if (train->resume && !train->dry_run)
        use_rest(train);
    if (!train->resume) {
        if (gwtf_run_exists(directory) && !train->dry_run)
            return gwtf_error_set(
                error, GWTF_ERROR_USAGE,
                "'%s' holds a run already: go on with --resume, or give another directory with "
                "--set run.directory=...",
                directory);
        return GWTF_OK;
    }
    status =
        gwtf_setup_find_snapshot(&train->setup, &train->snapshot, snapshot_skipped, NULL, error);
    if (status == GWTF_ERROR_MISSING && train->resume_word != NULL)
        return start_afresh(train, error);
    if (status != GWTF_OK)
        return status;
    if (train->snapshot.step >= train->setup.config.run.iterations)
        return gwtf_error_set(
            error, GWTF_ERROR_USAGE,
            "the run is at iteration %llu of %u already: raise it with --set run.iterations=N",
            (unsigned long long)train->snapshot.step, train->setup.config.run.iterations);
    train->first_iteration = (uint32_t)train->snapshot.step + 1;
    return gwtf_setup_continue(&train->setup, train->snapshot.path, train->snapshot.step, error);
}

/* The run's directory as a start finds it: locked, the configuration as resolved, nothing of a
 * former start's end. EVENT, with its TEXT, is told. */
static gwtf_status prepare_directory(struct train *train, const char *event, const char *told,
                                     struct gwtf_error *error) {
    const char *directory = train->setup.config.run.directory;
    char snapshots[GWTF_SNAPSHOT_PATH_MAX], *text = NULL;
    gwtf_setup_snapshots_path(&train->setup, snapshots, sizeof snapshots);
    gwtf_status status = gwtf_run_create(directory, error);
    if (status == GWTF_OK && train->lock < 0)
        status = gwtf_run_lock(directory, &train->lock, error);
    if (status == GWTF_OK && gwtf_config_text(&train->setup.config, &text) != GWTF_OK)
        status = gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    if (status == GWTF_OK)
        status = gwtf_run_write_config(directory, text, error);
    if (status == GWTF_OK)
        status = gwtf_allocation_write(directory, &train->job.allocation, error);
    if (status == GWTF_OK)
        status = gwtf_run_clear_nodes(directory, error);
    if (status == GWTF_OK)
        status = gwtf_run_truncate_metrics(directory, train->first_iteration - 1, error);
    if (status == GWTF_OK)
        status = gwtf_snapshot_remove_rests(snapshots, error);
    if (status == GWTF_OK)
        status = gwtf_run_append_event(directory, event, train->first_iteration - 1, GWTF_NODE_NONE,
                                       told[0] != '\0' ? told : NULL, error);
    free(text);
    return status;
}

static gwtf_status prepare_first(struct train *train, struct gwtf_error *error) {
    return prepare_directory(train, train->resume ? "resumed" : "started", train->snapshot.path,
                             error);
}

static void announce(struct train *train) {
    const struct gwtf_setup *setup = &train->setup;
    uint64_t parameters = 0;
    if (train->json || train->quiet)
        return;
    for (uint32_t stage = 0; stage <= setup->config.pipeline.stages; stage++) {
        struct gwtf_stage_shape shape = gwtf_setup_stage_shape(setup, stage);
        struct gwtf_stage_plan plan;
        if (gwtf_stage_plan_init(&plan, &shape, NULL) == GWTF_OK) {
            parameters += plan.parameters;
            gwtf_stage_plan_deinit(&plan);
        }
    }
    gwtf_progress_note(&train->progress, "run %s: %s, %.2f million parameters in %u stages, %s",
                       setup->config.run.directory, gwtf_family_word(setup->model.family),
                       (double)parameters * 1e-6, setup->config.pipeline.stages,
                       train->local ? "in this process" : "distributed");
    if (!train->local)
        gwtf_progress_note(
            &train->progress,
            "%u data node(s), %u relays; %u microbatches of %u x %u tokens an iteration",
            setup->data_nodes, setup->relays, setup->data_nodes * setup->config.batch.microbatches,
            setup->config.batch.microbatch, setup->model.context);
    if (train->resume)
        gwtf_progress_note(&train->progress, "resuming after iteration %u from %s",
                           train->first_iteration - 1, train->snapshot.path);
}

static void write_local_state(struct train *train, enum gwtf_node_phase phase, uint64_t iteration,
                              const char *reason) {
    struct gwtf_node_state state = {
        .node = 0, .phase = phase, .pid = getpid(), .iteration = iteration, .capacity = 1};
    gwtf_machine_name(state.host, sizeof state.host);
    snprintf(state.error, sizeof state.error, "%s", reason);
    gwtf_run_write_node(train->setup.config.run.directory, &state, NULL);
    train->state_written_us = gwtf_clock_now_us();
}

static void on_local_iteration(void *context, const struct gwtf_metrics *metrics) {
    struct train *train = context;
    if (train->json)
        gwtf_progress_copy_metrics(train->setup.config.run.directory, &train->json_offset);
    gwtf_progress_metrics(&train->progress, metrics);
    if (gwtf_clock_now_us() - train->state_written_us > STATE_INTERVAL_US)
        write_local_state(train, GWTF_NODE_TRAINING, metrics->iteration, "");
}

static bool local_stops(void *context) {
    (void)context;
    return gwtf_signals_count() > 0;
}

/*
 * Threads that wait for each other at a barrier must sleep, not spin: when another program takes
 * one of the cores, spinning makes each barrier as long as a time slice. OpenMP reads its setting
 * when it is loaded, so this process starts anew.
 */
static void wait_passively(void) {
    static char bytes[1 << 16], path[4096];
    static char *arguments[GWTF_OPTION_LIST_MAX * 2 + 64];
    size_t count = 0, length = 0;
    FILE *file = getenv("OMP_WAIT_POLICY") == NULL ? fopen("/proc/self/cmdline", "r") : NULL;
    if (file == NULL)
        return;
    length = fread(bytes, 1, sizeof bytes - 1, file);
    fclose(file);
    for (size_t at = 0; at < length && count < sizeof arguments / sizeof arguments[0] - 1;
         at += strlen(bytes + at) + 1)
        arguments[count++] = bytes + at;
    arguments[count] = NULL;
    setenv("OMP_WAIT_POLICY", "passive", 0);
    /* By its path, so that it keeps its name in lists of processes. */
    ssize_t path_length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length < sizeof bytes - 1 && path_length > 0) {
        path[path_length] = '\0';
        execv(path, arguments);
    }
}

static gwtf_status train_local(struct train *train, struct gwtf_error *error) {
    struct gwtf_local_callbacks callbacks = {
        .iteration = on_local_iteration, .stop = local_stops, .context = train};
    const char *directory = train->setup.config.run.directory;
    if (gwtf_signals_watch(2, GWTF_STOPPING_WORDS) != GWTF_OK)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "cannot start a thread");
    train->json_offset = gwtf_progress_metrics_end(directory);
    train->progress.last_iteration = train->first_iteration - 1;
    write_local_state(train, GWTF_NODE_TRAINING, train->first_iteration - 1, "");
    gwtf_status status = gwtf_local_train(&train->setup, train->first_iteration,
                                          train->snapshot.path, &callbacks, error);
    bool good = status == GWTF_OK || status == GWTF_ERROR_INTERRUPTED;
    uint64_t last = train->progress.last_iteration;
    write_local_state(train, good ? GWTF_NODE_FINISHED : GWTF_NODE_FAILED, last,
                      good ? "" : error->text);
    gwtf_run_append_event(directory,
                          status == GWTF_OK ? "finished"
                          : good            ? "stopped"
                                            : "failed",
                          last, GWTF_NODE_NONE, good ? NULL : error->text, NULL);
    gwtf_progress_break(&train->progress);
    return status;
}

/* The loss of a stage or of all ended the run, and it does not go on by itself any more. */
static gwtf_status explain_end(const struct train *train, unsigned restarts, gwtf_status status,
                               struct gwtf_error *error) {
    struct gwtf_error reason = *error;
    char rest[GWTF_ERROR_TEXT_MAX], times[64] = "";
    gwtf_restart_explain(&train->setup, rest, sizeof rest);
    if (restarts > 0)
        snprintf(times, sizeof times, "; it had been restarted %u times", restarts);
    if (rest[0] != '\0' || restarts > 0)
        gwtf_error_set(error, status, "%.400s%s%s%s", reason.text, rest[0] != '\0' ? " " : "", rest,
                       times);
    return status;
}

/* Makes everything ready for the run to go on, for the NUMBER-th time. */
static gwtf_status restart(struct train *train, const struct gwtf_mpirun *mpirun, unsigned number,
                           struct gwtf_error *error) {
    struct gwtf_error reason = *error;
    char how[GWTF_SNAPSHOT_HOW_MAX], text[2 * GWTF_SNAPSHOT_PATH_MAX], moved[HOSTS_TEXT_MAX];
    gwtf_status status = gwtf_restart_find(&train->setup, &train->snapshot, how, error);
    if (status != GWTF_OK)
        return status;
    bool anew = train->snapshot.path[0] == '\0';
    train->first_iteration = anew ? 1 : (uint32_t)train->snapshot.step + 1;
    if (train->first_iteration > train->setup.config.run.iterations) /* all was done */
        return gwtf_run_append_event(train->setup.config.run.directory, "finished",
                                     train->snapshot.step, GWTF_NODE_NONE, NULL, error);
    if (!anew)
        status =
            gwtf_setup_continue(&train->setup, train->snapshot.path, train->snapshot.step, error);
    if (status != GWTF_OK)
        return status;
    if (!gwtf_restart_wait(number))
        return gwtf_error_set(error, GWTF_ERROR_RUN, "stopped before a restart: %.900s",
                              reason.text);
    if (!gwtf_hosts_move(&train->setup.config, mpirun, moved, sizeof moved))
        return gwtf_error_set(
            error, GWTF_ERROR_RUN,
            "no host of the run can be reached any more: go on with --resume when "
            "one can; it ended with: %.900s",
            reason.text);
    snprintf(text, sizeof text, "restart %u of %u: %s%s%s%s%s%s", number, train->restarts_most,
             anew ? "from the beginning, there is no snapshot" : "from ", train->snapshot.path,
             how[0] != '\0' ? "; " : "", how, moved[0] != '\0' ? "; " : "", moved);
    status = prepare_directory(train, "restarted", text, error);
    if (status != GWTF_OK)
        return status;
    if (train->json || train->quiet)
        gwtf_log(GWTF_LOG_WARNING, "%s", text);
    else
        gwtf_progress_note(&train->progress, "%s", text);
    return GWTF_OK;
}

/* What differs from one start to the next. */
static void describe_start(const struct train *train, struct gwtf_mpirun_job *job) {
    job->first_iteration = train->first_iteration;
    job->hosts = gwtf_hosts_list(&train->setup.config);
    job->one_host = gwtf_hosts_all_here(&train->setup.config);
    gwtf_job_describe(&train->job, job);
}

static gwtf_status train_distributed(struct train *train, struct gwtf_error *error) {
    static char bootstrap[4096], self[sizeof train->self], config[GWTF_RUN_PATH_MAX];
    struct gwtf_mpirun mpirun;
    gwtf_status status = gwtf_mpirun_find(&mpirun, error);
    if (status != GWTF_OK)
        return status;
    memcpy(self, train->self, sizeof self); /* dirname changes it */
    snprintf(bootstrap, sizeof bootstrap, "%s/gwtf-bootstrap", dirname(self));
    if (access(bootstrap, X_OK) != 0)
        return gwtf_error_set(error, GWTF_ERROR_MISSING,
                              "'%s' is not there: build GWTF with MPI, or use --local", bootstrap);
    snprintf(config, sizeof config, "%s/config.cfg", train->setup.config.run.directory);
    struct gwtf_mpirun_job job = {
        .bootstrap = bootstrap, .config = config, .snapshot = train->snapshot.path};
    describe_start(train, &job);
    if (train->dry_run) {
        struct gwtf_mpirun_command command;
        gwtf_mpirun_build(&mpirun, &job, &command);
        gwtf_mpirun_print(&command);
        return GWTF_OK;
    }
    status = prepare_first(train, error);
    if (status != GWTF_OK)
        return status;
    announce(train);
    struct gwtf_supervise_options options = {.setup = &train->setup,
                                             .mpirun = &mpirun,
                                             .job = &job,
                                             .progress = &train->progress,
                                             .json = train->json};
    for (unsigned number = 1;; number++) {
        gwtf_time_us began_us = gwtf_clock_now_us();
        options.restarted = number > 1;
        status = gwtf_supervise(&options, error);
        if (!gwtf_restart_is_due(&train->setup, status) || number > train->restarts_most)
            return status == GWTF_OK || status == GWTF_ERROR_INTERRUPTED
                       ? status
                       : explain_end(train, number - 1, status, error);
        gwtf_restart_forget_crashes(&train->setup.config,
                                    (double)(gwtf_clock_now_us() - began_us) * 1e-6);
        status = restart(train, &mpirun, number, error);
        if (status != GWTF_OK || train->first_iteration > train->setup.config.run.iterations)
            return status;
        describe_start(train, &job);
    }
}

/* The batch system wanted the end of this start. */
static void requeue(struct train *train, gwtf_status status) {
    char text[512];
    if (!train->requeue || status == GWTF_OK ||
        !gwtf_job_was_noticed(train->setup.config.run.directory))
        return;
    gwtf_job_requeue(&train->job, text, sizeof text);
    gwtf_progress_note(&train->progress, "%s", text);
}

/* How it ended, for the person. */
static void conclude(struct train *train, gwtf_status status) {
    const char *directory = train->setup.config.run.directory;
    struct gwtf_progress *progress = &train->progress;
    if (train->json || train->quiet)
        return;
    if (status == GWTF_ERROR_INTERRUPTED)
        gwtf_progress_note(
            progress, "stopped after iteration %llu; go on with: gwtf train %s/config.cfg --resume",
            (unsigned long long)progress->last_iteration, directory);
    else if (status == GWTF_OK && !isnan(progress->last_validation_loss))
        gwtf_progress_note(progress,
                           "finished: validation loss %.4f nats per token after iteration %llu; "
                           "see gwtf status %s",
                           progress->last_validation_loss,
                           (unsigned long long)progress->last_iteration, directory);
    else if (status == GWTF_OK)
        gwtf_progress_note(progress, "finished: loss %.4f after iteration %llu; see gwtf status %s",
                           progress->last_loss, (unsigned long long)progress->last_iteration,
                           directory);
}

static gwtf_status run(struct train *train, struct gwtf_error *error) {
    gwtf_progress_init(&train->progress, train->setup.config.run.iterations,
                       train->quiet || train->json);
    if (!train->local)
        return train_distributed(train, error);
    if (train->dry_run)
        return GWTF_OK;
    gwtf_status status = prepare_first(train, error);
    if (status != GWTF_OK)
        return status;
    announce(train);
    return train_local(train, error);
}

/* The batch system may say that the time is nearly over before anything has begun: that is kept
 * until gwtf_signals_watch hears it. */
static void keep_notices(void) {
    sigset_t notices;
    sigemptyset(&notices);
    sigaddset(&notices, SIGUSR1);
    sigprocmask(SIG_BLOCK, &notices, NULL);
}

int gwtf_command_train(int argc, char **argv) {
    static struct train train;
    struct gwtf_error error = {""};
    int code;
    train.lock = -1;
    if (!parse_options(argc, argv, &train, &code))
        return code;
    if (train.local && !train.dry_run)
        wait_passively();
    if (train.requeue)
        keep_notices();
    gwtf_status status = check(&train, &error);
    if (status == GWTF_OK) {
        status = run(&train, &error);
        if (!train.dry_run)
            conclude(&train, status);
        if (train.lock >= 0)
            gwtf_run_unlock(train.lock); /* for the next start, which may come at once */
        train.lock = -1;
        requeue(&train, status);
        gwtf_job_close(&train.job);
        gwtf_setup_close(&train.setup);
    }
    if (train.lock >= 0)
        gwtf_run_unlock(train.lock);
    if (status == GWTF_OK || status == GWTF_ERROR_INTERRUPTED)
        return 0;
    return gwtf_fail(status, "%s", error.text);
}
