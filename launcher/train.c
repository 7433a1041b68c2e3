#include "launcher/commands.h"
#include "launcher/mpirun.h"
#include "launcher/progress.h"
#include "launcher/signals.h"
#include "launcher/supervise.h"
#include "share/base/log.h"
#include "worker/runtime/clock.h"
#include "worker/runtime/local.h"
#include "worker/runtime/setup.h"

#include <getopt.h>
#include <libgen.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OVERRIDES_MAX 256
#define STATE_INTERVAL_US 1000000

static const char help[] =
    "usage: gwtf train CONFIG [options]\n"
    "\n"
    "Trains the model that CONFIG describes, on workers that mpirun starts, or in this process.\n"
    "\n"
    "  --local             the whole model in one process, without MPI\n"
    "  --resume            go on from the newest whole snapshot of the run\n"
    "  --set PATH=VALUE    overrides a value of CONFIG; may be given many times\n"
    "  --dry-run           check everything, print the mpirun command, start nothing\n"
    "  --json              print the lines of metrics.jsonl in place of progress\n"
    "  --quiet             no progress\n"
    "  --help              this text\n"
    "\n"
    "Ctrl+C once: finish the iteration, write a snapshot, leave. Twice: now.\n"
    "GWTF_MPIRUN names another mpirun than the first in PATH.\n"
    "\n"
    "examples:\n"
    "  gwtf train share/config/quickstart.cfg\n"
    "  gwtf train share/config/quickstart.cfg --resume --set run.iterations=600\n"
    "  gwtf train share/config/quickstart.cfg --local --set run.directory=runs/local\n";

struct train {
    const char *config_path;
    const char *overrides[OVERRIDES_MAX];
    size_t overrides_count;
    bool local;
    bool resume;
    bool dry_run;
    bool json;
    bool quiet;
    bool helped;
    struct gwtf_setup setup;
    struct gwtf_snapshot_info snapshot; /* path "" for a fresh start */
    uint32_t first_iteration;
    int lock;
    struct gwtf_progress progress;
    gwtf_time_us state_written_us;
    uint64_t json_line; /* --local */
};

static gwtf_status parse_options(int argc, char **argv, struct train *train,
                                 struct gwtf_error *error) {
    static const struct option options[] = {
        {"local", no_argument, NULL, 'l'},     {"resume", no_argument, NULL, 'r'},
        {"set", required_argument, NULL, 's'}, {"dry-run", no_argument, NULL, 'd'},
        {"json", no_argument, NULL, 'j'},      {"quiet", no_argument, NULL, 'q'},
        {"help", no_argument, NULL, 'h'},      {0}};
    int option;
    opterr = 0;
    optind = 1;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'l':
            train->local = true;
            break;
        case 'r':
            train->resume = true;
            break;
        case 's':
            if (train->overrides_count == OVERRIDES_MAX)
                return gwtf_error_set(error, GWTF_ERROR_USAGE,
                                      "more than %d --set: put them into the file", OVERRIDES_MAX);
            train->overrides[train->overrides_count++] = optarg;
            break;
        case 'd':
            train->dry_run = true;
            break;
        case 'j':
            train->json = true;
            break;
        case 'q':
            train->quiet = true;
            break;
        case 'h':
            train->helped = true;
            return GWTF_OK;
        default:
            return gwtf_error_set(error, GWTF_ERROR_USAGE,
                                  "unknown or incomplete option '%s': see gwtf train --help",
                                  argv[optind - 1]);
        }
    }
    if (optind != argc - 1)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "give one configuration file: see gwtf train --help");
    train->config_path = argv[optind];
    return GWTF_OK;
}

static void snapshot_skipped(void *context, const char *line) {
    (void)context;
    gwtf_log(GWTF_LOG_WARNING, "%s", line);
}

/* Everything that can be checked without starting or writing anything. */
static gwtf_status check(struct train *train, struct gwtf_error *error) {
    struct gwtf_config *config = calloc(1, sizeof *config);
    if (config == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    gwtf_status status = gwtf_config_load(train->config_path, train->overrides,
                                          train->overrides_count, config, error);
    if (status == GWTF_OK)
        status = gwtf_setup_open(config, &train->setup, error);
    free(config);
    if (status != GWTF_OK)
        return status;
    const char *directory = train->setup.config.run.directory;
    train->first_iteration = 1;
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
    if (status != GWTF_OK)
        return status;
    if (train->snapshot.step >= train->setup.config.run.iterations)
        return gwtf_error_set(
            error, GWTF_ERROR_USAGE,
            "the run is at iteration %llu of %u already: raise it with --set run.iterations=N",
            (unsigned long long)train->snapshot.step, train->setup.config.run.iterations);
    train->first_iteration = (uint32_t)train->snapshot.step + 1;
    return GWTF_OK;
}

/* The run's directory as a start finds it: locked, the configuration as resolved, nothing of a
 * former start's end. */
static gwtf_status prepare_directory(struct train *train, struct gwtf_error *error) {
    const char *directory = train->setup.config.run.directory;
    char *text = NULL;
    gwtf_status status = gwtf_run_create(directory, error);
    if (status == GWTF_OK)
        status = gwtf_run_lock(directory, &train->lock, error);
    if (status == GWTF_OK && gwtf_config_text(&train->setup.config, &text) != GWTF_OK)
        status = gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    if (status == GWTF_OK)
        status = gwtf_run_write_config(directory, text, error);
    if (status == GWTF_OK)
        status = gwtf_run_clear_nodes(directory, error);
    if (status == GWTF_OK)
        status = gwtf_run_truncate_metrics(directory, train->first_iteration - 1, error);
    if (status == GWTF_OK)
        status = gwtf_run_append_event(
            directory, train->resume ? "resumed" : "started", train->first_iteration - 1,
            GWTF_NODE_NONE, train->snapshot.path[0] != '\0' ? train->snapshot.path : NULL, error);
    free(text);
    return status;
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
                       setup->config.run.directory, "gpt2", (double)parameters * 1e-6,
                       setup->config.pipeline.stages,
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

static void print_json_metrics(struct train *train) {
    char path[GWTF_RUN_PATH_MAX], line[8192];
    snprintf(path, sizeof path, "%s/metrics.jsonl", train->setup.config.run.directory);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return;
    for (uint64_t at = 0; fgets(line, sizeof line, file) != NULL; at++)
        if (at >= train->json_line)
            fputs(line, stdout), train->json_line++;
    fflush(stdout);
    fclose(file);
}

static void write_local_state(struct train *train, enum gwtf_node_phase phase, uint64_t iteration,
                              const char *reason) {
    struct gwtf_node_state state = {
        .node = 0, .phase = phase, .pid = getpid(), .iteration = iteration, .capacity = 1};
    gethostname(state.host, sizeof state.host - 1);
    snprintf(state.error, sizeof state.error, "%s", reason);
    gwtf_run_write_node(train->setup.config.run.directory, &state, NULL);
    train->state_written_us = gwtf_clock_now_us();
}

static void on_local_iteration(void *context, const struct gwtf_metrics *metrics) {
    struct train *train = context;
    if (train->json)
        print_json_metrics(train);
    gwtf_progress_metrics(&train->progress, metrics);
    if (gwtf_clock_now_us() - train->state_written_us > STATE_INTERVAL_US)
        write_local_state(train, GWTF_NODE_TRAINING, metrics->iteration, "");
}

static bool local_stops(void *context) {
    (void)context;
    return gwtf_signals_count() > 0;
}

static gwtf_status train_local(struct train *train, struct gwtf_error *error) {
    struct gwtf_local_callbacks callbacks = {
        .iteration = on_local_iteration, .stop = local_stops, .context = train};
    const char *directory = train->setup.config.run.directory;
    gwtf_signals_watch();
    train->json_line = train->first_iteration - 1;
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

static gwtf_status train_distributed(struct train *train, struct gwtf_error *error) {
    static char bootstrap[4096], self[3072], config[GWTF_RUN_PATH_MAX];
    struct gwtf_mpirun mpirun;
    gwtf_status status = gwtf_mpirun_find(&mpirun, error);
    if (status != GWTF_OK)
        return status;
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = '\0';
    snprintf(bootstrap, sizeof bootstrap, "%s/gwtf-bootstrap", dirname(self));
    if (access(bootstrap, X_OK) != 0)
        return gwtf_error_set(error, GWTF_ERROR_MISSING,
                              "'%s' is not there: build GWTF with MPI, or use --local", bootstrap);
    snprintf(config, sizeof config, "%s/config.cfg", train->setup.config.run.directory);
    bool one_host = true;
    for (size_t i = 0; i < train->setup.config.nodes_count; i++)
        one_host = one_host && train->setup.config.nodes[i].host[0] == '\0';
    struct gwtf_mpirun_job job = {.bootstrap = bootstrap,
                                  .config = config,
                                  .snapshot = train->snapshot.path,
                                  .first_iteration = train->first_iteration,
                                  .one_host = one_host};
    if (train->dry_run) {
        struct gwtf_mpirun_command command;
        gwtf_mpirun_build(&mpirun, &job, &command);
        gwtf_mpirun_print(&command);
        return GWTF_OK;
    }
    status = prepare_directory(train, error);
    if (status != GWTF_OK)
        return status;
    announce(train);
    struct gwtf_supervise_options options = {.setup = &train->setup,
                                             .mpirun = &mpirun,
                                             .job = &job,
                                             .progress = &train->progress,
                                             .json = train->json};
    return gwtf_supervise(&options, error);
}

/* How it ended, for the person. */
static void conclude(struct train *train, gwtf_status status) {
    const char *directory = train->setup.config.run.directory;
    struct gwtf_progress *progress = &train->progress;
    if (train->json || train->quiet)
        return;
    if (status == GWTF_ERROR_INTERRUPTED)
        gwtf_progress_note(progress,
                           "stopped after iteration %llu; go on with: gwtf train %s --resume",
                           (unsigned long long)progress->last_iteration, train->config_path);
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

int gwtf_command_train(int argc, char **argv) {
    static struct train train;
    struct gwtf_error error = {""};
    train.lock = -1;
    gwtf_status status = parse_options(argc, argv, &train, &error);
    if (status == GWTF_OK && train.helped) {
        fputs(help, stdout);
        return 0;
    }
    if (status == GWTF_OK)
        status = check(&train, &error);
    bool open = status == GWTF_OK;
    if (status == GWTF_OK) {
        gwtf_progress_init(&train.progress, train.setup.config.run.iterations,
                           train.quiet || train.json);
        if (train.local && !train.dry_run) {
            status = prepare_directory(&train, &error);
            if (status == GWTF_OK) {
                announce(&train);
                status = train_local(&train, &error);
            }
        } else if (!train.local) {
            status = train_distributed(&train, &error);
        }
        if (!train.dry_run)
            conclude(&train, status);
    }
    if (open)
        gwtf_setup_close(&train.setup);
    if (train.lock >= 0)
        gwtf_run_unlock(train.lock);
    if (status == GWTF_OK || status == GWTF_ERROR_INTERRUPTED)
        return 0;
    gwtf_log(GWTF_LOG_ERROR, "%s", error.text);
    return gwtf_status_exit_code(status);
}
