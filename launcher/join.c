/* gwtf join: a node of this machine joins a run that trains. */
#include "io/join.h"
#include "io/config.h"
#include "io/run.h"
#include "launcher/commands.h"
#include "launcher/options.h"
#include "launcher/rendezvous.h"
#include "launcher/signals.h"
#include "launcher/temporary.h"
#include "worker/protocol/protocol.h"
#include "worker/runtime/clock.h"
#include "worker/runtime/machine.h"
#include "worker/runtime/notice.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 100
#define END_S 5.0
/* Until a process that a node starts has a place, and until it serves. */
#define SPAWN_WAIT_MS 60000
#define SERVE_WAIT_MS 600000
#define PLACE_LOOK_MS 20
#define SILENCE_MOST_US 60000000u

struct join {
    const char *directory;
    const char *host; /* NULL: this one */
    double stage;
    double capacity;
    const char *device; /* as nodes.N.device */
    double threads;
    double notice_s;
    bool stays;                    /* the stage is the user's */
    char data[GWTF_JOIN_DATA_MAX]; /* of a data node's own; "": the run's */
    uint32_t moves;                /* to other stages, so far */
    uint32_t moves_to; /* the stage for which the node has left its own; 0: it has ended */
    struct gwtf_mpirun mpirun;
    char worker[4200];
    char rendezvous[GWTF_RENDEZVOUS_PATH_MAX];
    char interfaces[1024]; /* "": all */
    struct gwtf_temporary temporary;
    char token[GWTF_JOIN_TOKEN_MAX];
    pid_t child;
    int output; /* what mpirun and all below it print */
    FILE *log;  /* RUN/logs/TOKEN.log */
    char line[2048];
    size_t line_length;
};

/* By host, process and time: no other has it. */
static void make_token(struct join *join) {
    char host[256];
    gwtf_machine_name(host, sizeof host);
    for (char *at = host; *at != '\0'; at++)
        if (!isalnum((unsigned char)*at) && *at != '-')
            *at = '-';
    snprintf(join->token, sizeof join->token, "%.40s-%ld-%lld-%u", host, (long)getpid(),
             (long long)time(NULL), join->moves);
}

static gwtf_status find_worker(struct join *join, struct gwtf_error *error) {
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = '\0';
    snprintf(join->worker, sizeof join->worker, "%s/gwtf-worker", dirname(self));
    if (access(join->worker, X_OK) == 0)
        return GWTF_OK;
    return gwtf_error_set(error, GWTF_ERROR_MISSING, "'%s' is not there: build GWTF again with MPI",
                          join->worker);
}

static bool is_on_this_machine(const char *directory) {
    struct gwtf_node_state *nodes = NULL;
    size_t count = 0, here = 0;
    char host[256];
    gwtf_machine_name(host, sizeof host);
    if (gwtf_run_read_nodes(directory, &nodes, &count, NULL) != GWTF_OK)
        return true;
    for (size_t i = 0; i < count; i++)
        here += strcmp(nodes[i].host, host) == 0;
    free(nodes);
    return here > 0;
}

/* The run's, unless the user names others: this machine's may have other names. */
static gwtf_status choose_interfaces(struct join *join, struct gwtf_error *error) {
    const char *named = getenv("GWTF_INTERFACES");
    gwtf_join_read_interfaces(join->directory, join->interfaces, sizeof join->interfaces);
    if (strcmp(join->interfaces, "lo") == 0 && !is_on_this_machine(join->directory))
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "'%s' is a run of one machine, which others cannot reach: start it "
                              "with GWTF_INTERFACES=eth0 (an interface, or 10.0.0.0/8) in the "
                              "environment, and join it with the same",
                              join->directory);
    if (named != NULL && named[0] != '\0')
        snprintf(join->interfaces, sizeof join->interfaces, "%s", named);
    return GWTF_OK;
}

/* A run that was killed has left its files: its nodes write theirs each second. */
static bool is_silent(const char *directory) {
    struct gwtf_node_state *nodes = NULL;
    size_t count = 0;
    struct timespec now;
    uint64_t newest_us = 0;
    if (gwtf_run_read_nodes(directory, &nodes, &count, NULL) != GWTF_OK)
        return true;
    for (size_t i = 0; i < count; i++)
        if (nodes[i].updated_unix_us > newest_us)
            newest_us = nodes[i].updated_unix_us;
    free(nodes);
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t now_us = (uint64_t)now.tv_sec * 1000000u;
    return now_us > newest_us + SILENCE_MOST_US;
}

/* By a node of the run: mpiruns of Open MPI 5 do not connect; and a spawn of 4.1's ends the run
 * where it has lost a host. */
static bool is_spawned(const struct join *join) {
    return join->mpirun.major >= 5;
}

static gwtf_status check(struct join *join, struct gwtf_error *error) {
    if (!gwtf_run_exists(join->directory))
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "'%s' is no run: give the run.directory of one that trains",
                              join->directory);
    gwtf_status status = gwtf_mpirun_find(&join->mpirun, error);
    if (status != GWTF_OK)
        return status;
    if (is_silent(join->directory))
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "no node of '%s' has been heard of for a minute: it does not train "
                              "(gwtf status)",
                              join->directory);
    if (!gwtf_join_is_open(join->directory))
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "nobody can join '%s': it does not train now, or was started with "
                              "run.places = 0",
                              join->directory);
    char why[256];
    gwtf_join_read_closed(join->directory, why, sizeof why);
    if (why[0] != '\0')
        return gwtf_error_set(error, GWTF_ERROR_USAGE, "nobody can join '%s': %s", join->directory,
                              why);
    if (is_spawned(join))
        return GWTF_OK;
    if (!gwtf_rendezvous_find(join->directory, join->rendezvous))
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "nobody can join '%s': it was started with another Open MPI than "
                              "this machine's mpirun",
                              join->directory);
    status = choose_interfaces(join, error);
    return status == GWTF_OK ? find_worker(join, error) : status;
}

static void become_mpirun(const struct join *join, int output) {
    char stage[16], capacity[16], threads[16];
    snprintf(stage, sizeof stage, "%.0f", join->stage);
    snprintf(capacity, sizeof capacity, "%.0f", join->capacity);
    snprintf(threads, sizeof threads, "%.0f", join->threads);
    const char *const program[] = {join->worker, join->directory,
                                   stage,        capacity,
                                   threads,      join->stays ? "stays" : "moves",
                                   join->token,  join->data[0] != '\0' ? join->data : "-",
                                   join->device, NULL};
    struct gwtf_mpirun_job job = {
        .snapshot = "",
        .interfaces = join->interfaces[0] != '\0' ? join->interfaces : NULL,
        .hosts = join->host,
        .rendezvous = join->rendezvous,
        .program = program,
    };
    struct gwtf_mpirun_command command;
    gwtf_mpirun_build(&join->mpirun, &job, &command);
    gwtf_mpirun_set_environment(join->temporary.path);
    gwtf_signals_restore();
    /* Ctrl+C at the terminal is for `gwtf join`. */
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    /* execv takes char *const *, but does not write. */
    execv(command.arguments[0], (char *const *)(uintptr_t)command.arguments);
    fprintf(stderr, "gwtf: cannot run '%s': %s\n", command.arguments[0], strerror(errno));
    _exit(127);
}

/* Everything goes to the log; what GWTF itself says, to the person. */
static void end_line(struct join *join) {
    join->line[join->line_length] = '\0';
    join->line_length = 0;
    fprintf(join->log, "%s\n", join->line);
    if (strncmp(join->line, "gwtf: ", 6) == 0)
        fprintf(stderr, "%s\n", join->line);
}

static void read_output(struct join *join) {
    char bytes[4096];
    ssize_t got;
    while ((got = read(join->output, bytes, sizeof bytes)) > 0)
        for (ssize_t i = 0; i < got; i++) {
            if (bytes[i] == '\n' || join->line_length == sizeof join->line - 1)
                end_line(join);
            if (bytes[i] != '\n')
                join->line[join->line_length++] = bytes[i];
        }
    fflush(join->log);
}

/* The place that the node has; GWTF_NODE_NONE: none. */
static gwtf_node_id node_of(const struct join *join) {
    struct gwtf_join_place place = {.node = GWTF_NODE_NONE};
    if (gwtf_join_read_member(join->directory, join->token, &place) ||
        gwtf_join_read_place(join->directory, join->token, &place))
        free(place.members);
    else
        place.node = GWTF_NODE_NONE;
    return place.node;
}

/* The first signal asks the node to leave in order; true: it is asked. */
static bool ask_to_leave(const struct join *join) {
    gwtf_node_id node = node_of(join);
    if (node == GWTF_NODE_NONE ||
        gwtf_run_request_leave(join->directory, node,
                               &(struct gwtf_leave){.notice_s = join->notice_s}, NULL) != GWTF_OK)
        return false;
    fprintf(stderr,
            "gwtf: node %u leaves when the others can do without it, within %.0f s; once more: at "
            "once\n",
            node, join->notice_s);
    return true;
}

/* The stages of an end. */
enum ending { ENDING_NOT, ENDING_LEAVES, ENDING_TERM, ENDING_KILL };

static enum ending end_further(const struct join *join, enum ending ending) {
    if (ending == ENDING_NOT && ask_to_leave(join))
        return ENDING_LEAVES;
    if (ending <= ENDING_LEAVES) {
        kill(join->child, SIGTERM);
        return ENDING_TERM;
    }
    kill(join->child, SIGKILL);
    return ENDING_KILL;
}

/* Until mpirun has ended. */
static int watch(struct join *join) {
    int told = 0, code = 1;
    enum ending ending = ENDING_NOT;
    gwtf_time_us since_us = 0;
    while (waitpid(join->child, NULL, WNOHANG) == 0) {
        struct pollfd readable = {.fd = join->output, .events = POLLIN};
        if (poll(&readable, 1, LOOK_MS) > 0 && (readable.revents & POLLIN) == 0)
            poll(NULL, 0, LOOK_MS); /* it has been closed */
        read_output(join);
        int signals = gwtf_signals_count();
        double most_s = END_S + (ending == ENDING_LEAVES ? join->notice_s : 0);
        double waited_s = 1e-6 * (double)(gwtf_clock_now_us() - since_us);
        if (signals > told || (ending != ENDING_NOT && waited_s > most_s)) {
            ending = end_further(join, ending);
            told = signals;
            since_us = gwtf_clock_now_us();
        }
    }
    read_output(join);
    close(join->output);
    struct gwtf_error line; /* has been printed */
    bool is_told = gwtf_join_read_end(join->directory, join->token, &code, &line);
    join->moves_to = gwtf_join_read_moves(join->directory, join->token);
    gwtf_join_remove(join->directory, join->token);
    if (ending >= ENDING_TERM)
        return gwtf_fail(GWTF_ERROR_RUN, "stopped: the run goes on without this node");
    return is_told ? code
                   : gwtf_fail(GWTF_ERROR_RUN, "the node ended without a word: see %s/logs/%s.log",
                               join->directory, join->token);
}

static gwtf_status open_log(struct join *join, int ends[2], struct gwtf_error *error) {
    char path[GWTF_RUN_PATH_MAX];
    snprintf(path, sizeof path, "%s/logs/%s.log", join->directory, join->token);
    join->log = fopen(path, "a");
    if (join->log == NULL || pipe2(ends, O_CLOEXEC) != 0)
        return gwtf_error_set(error, GWTF_ERROR_IO, "cannot write '%s': %s", path, strerror(errno));
    return GWTF_OK;
}

struct following {
    gwtf_node_id node;
    bool joined;
    bool lost;
    bool over; /* the run */
};

static bool is_end(const char *kind) {
    return strcmp(kind, "finished") == 0 || strcmp(kind, "stopped") == 0 ||
           strcmp(kind, "failed") == 0;
}

static void on_event(void *context, const struct gwtf_run_event *event) {
    struct following *following = context;
    following->over = following->over || is_end(event->kind);
    if (event->node != following->node)
        return;
    following->lost = following->lost || strcmp(event->kind, "lost") == 0;
    if (strcmp(event->kind, "joined") != 0)
        return;
    following->joined = true;
    printf("gwtf: node %u: %s\n", event->node, event->text);
}

static uint64_t end_of_events(const char *directory) {
    char path[GWTF_RUN_PATH_MAX];
    struct stat facts;
    snprintf(path, sizeof path, "%s/events.jsonl", directory);
    return stat(path, &facts) == 0 ? (uint64_t)facts.st_size : 0;
}

/* True when it is there within SPAWN_WAIT_MS, or the process has ended without one: why stands in
 * it then. */
static bool await_place(const struct join *join, const char *token, struct gwtf_join_place *place) {
    for (int waited_ms = 0; waited_ms < SPAWN_WAIT_MS && gwtf_signals_count() == 0;
         waited_ms += PLACE_LOOK_MS) {
        if (gwtf_join_read_place(join->directory, token, place)) {
            free(place->members);
            return true;
        }
        struct gwtf_error line;
        int code;
        if (gwtf_join_read_end(join->directory, token, &code, &line)) {
            *place = (struct gwtf_join_place){.node = GWTF_NODE_NONE};
            snprintf(place->why, sizeof place->why, "%.150s", line.text);
            return true;
        }
        poll(NULL, 0, PLACE_LOOK_MS);
    }
    return false;
}

/* NODE, which the run has started, until it serves. */
static int follow_node(const struct join *join, gwtf_node_id node, uint64_t offset) {
    struct following following = {.node = node};
    struct gwtf_error error = {""};
    int code = 0;
    for (int waited_ms = 0; waited_ms < SERVE_WAIT_MS && !following.joined; waited_ms += LOOK_MS) {
        poll(NULL, 0, LOOK_MS);
        if (gwtf_signals_count() > 0)
            return gwtf_fail(GWTF_ERROR_RUN,
                             "stopped waiting; node %u goes on: gwtf leave takes it out again",
                             node);
        gwtf_run_read_events(join->directory, &offset, on_event, &following, NULL);
        if (!following.joined && (following.lost || following.over))
            return gwtf_fail(GWTF_ERROR_RUN,
                             following.lost ? "node %u was lost before it served"
                                            : "the run ended before node %u served",
                             node);
        if (!following.joined && gwtf_join_read_end(join->directory, join->token, &code, &error)) {
            gwtf_join_remove(join->directory, join->token);
            return gwtf_fail(GWTF_ERROR_RUN, "%s", error.text);
        }
    }
    return following.joined ? 0
                            : gwtf_fail(GWTF_ERROR_RUN,
                                        "node %u does not serve after %d s: see "
                                        "%s/logs/node-%04u.log",
                                        node, SERVE_WAIT_MS / 1000, join->directory, node);
}

/* Asks the run's nodes for a process on a host of theirs, and follows it until it serves. */
static int follow_spawn(const struct join *join) {
    struct gwtf_join_spawn spawn = {.stage = (uint32_t)join->stage,
                                    .capacity = (uint32_t)join->capacity,
                                    .threads = (uint32_t)join->threads,
                                    .stays = join->stays};
    struct gwtf_join_place place;
    struct gwtf_error error = {""};
    uint64_t offset = end_of_events(join->directory);
    snprintf(spawn.token, sizeof spawn.token, "%s", join->token);
    snprintf(spawn.data, sizeof spawn.data, "%s", join->data);
    snprintf(spawn.device, sizeof spawn.device, "%s", join->device);
    if (join->host != NULL)
        snprintf(spawn.host, sizeof spawn.host, "%s", join->host);
    else
        gwtf_machine_name(spawn.host, sizeof spawn.host);
    if (gwtf_join_write_spawn(join->directory, &spawn, &error) != GWTF_OK)
        return gwtf_fail(GWTF_ERROR_IO, "%s", error.text);
    bool is_there = await_place(join, spawn.token, &place);
    if (!is_there || place.node == GWTF_NODE_NONE)
        gwtf_join_remove(join->directory, spawn.token);
    if (!is_there)
        return gwtf_fail(GWTF_ERROR_RUN,
                         "no process on '%s' has asked for a place within %d s: is it one of the "
                         "run's hosts (see train.log in '%s')?",
                         spawn.host, SPAWN_WAIT_MS / 1000, join->directory);
    if (place.node == GWTF_NODE_NONE)
        return gwtf_fail(GWTF_ERROR_USAGE, "%s", place.why);
    if (place.stage == 0)
        printf("gwtf: node %u, a data node: %s\n", place.node, place.why);
    else
        printf("gwtf: node %u, in stage %u: %s\n", place.node, place.stage, place.why);
    fflush(stdout);
    return follow_node(join, place.node, offset);
}

static int start_mpirun(struct join *join) {
    int ends[2];
    struct gwtf_error error = {""};
    if (open_log(join, ends, &error) != GWTF_OK)
        return gwtf_fail(GWTF_ERROR_IO, "%s", error.text);
    fflush(NULL);
    join->child = fork();
    if (join->child == 0)
        become_mpirun(join, ends[1]);
    close(ends[1]);
    join->output = ends[0];
    fcntl(join->output, F_SETFL, O_NONBLOCK);
    return join->child > 0 ? watch(join)
                           : gwtf_fail(GWTF_ERROR_RUN, "cannot start mpirun: %s", strerror(errno));
}

static int become_island(struct join *join) {
    struct gwtf_error error = {""};
    gwtf_status status = gwtf_temporary_make(&join->temporary, &error);
    if (status != GWTF_OK)
        return gwtf_fail(status, "%s", error.text);
    make_token(join);
    join->moves_to = 0;
    int code = start_mpirun(join);
    if (join->log != NULL)
        fclose(join->log);
    join->log = NULL;
    gwtf_temporary_remove(&join->temporary);
    return code;
}

/* As long as the run wants its node in another stage, that is a new island each time. */
static int become_islands(struct join *join) {
    int code = become_island(join);
    while (code == 0 && join->moves_to != 0 && gwtf_signals_count() == 0) {
        join->stage = join->moves_to;
        join->moves++;
        code = become_island(join);
    }
    return code;
}

static int run(struct join *join) {
    struct gwtf_error error = {""};
    gwtf_status status = check(join, &error);
    if (status == GWTF_OK && gwtf_signals_watch(3, NULL) != GWTF_OK)
        status = gwtf_error_set(&error, GWTF_ERROR_MEMORY, "cannot start a thread");
    if (status != GWTF_OK)
        return gwtf_fail(status, "%s", error.text);
    if (!is_spawned(join))
        return become_islands(join);
    make_token(join);
    return follow_spawn(join);
}

/* FILE as a worker finds it, wherever it is started. */
static int set_data(struct join *join, const char *file) {
    char here[GWTF_JOIN_DATA_MAX] = "";
    bool is_whole = file[0] == '/' || getcwd(here, sizeof here) == NULL;
    int length = snprintf(join->data, sizeof join->data, "%s%s%s", here, is_whole ? "" : "/", file);
    if (file[0] == '\0' || strchr(file, '\n') != NULL || length >= (int)sizeof join->data)
        return gwtf_fail(GWTF_ERROR_USAGE, "--data is no file's name: '%.200s'", file);
    return 0;
}

static int choose_role(struct join *join, const char *role, const char *stage, const char *data) {
    bool is_data_node = data != NULL || (role != NULL && strcmp(role, "data") == 0);
    if (role != NULL && strcmp(role, "data") != 0 && strcmp(role, "relay") != 0)
        return gwtf_fail(GWTF_ERROR_USAGE, "--role is relay or data, not '%s'", role);
    if (data != NULL && role != NULL && strcmp(role, "relay") == 0)
        return gwtf_fail(GWTF_ERROR_USAGE, "--data is for data nodes: leave --role relay out");
    if (is_data_node && stage != NULL)
        return gwtf_fail(GWTF_ERROR_USAGE, "a data node has no --stage: leave it out");
    if (is_data_node)
        join->stage = GWTF_JOIN_DATA_NODE;
    return data != NULL ? set_data(join, data) : 0;
}

int gwtf_command_join(int argc, char **argv) {
    const char *stage = NULL, *capacity = NULL, *threads = NULL, *role = NULL, *data = NULL;
    const char *host = NULL, *notice = NULL, *device = NULL;
    const struct gwtf_option options[] = {
        {.name = "host",
         .argument = "HOST",
         .help = "where the node is to run; left out: this machine",
         .value = &host},
        {.name = "stage",
         .argument = "N",
         .help = "of the pipeline; left out: the one that needs a node most",
         .value = &stage},
        {.name = "role",
         .argument = "ROLE",
         .help = "relay, or data: it reads the run's training data, and takes its share of the "
                 "batch",
         .value = &role},
        {.name = "data",
         .argument = "FILE",
         .help = "a data node on data of its own: token file, or a pattern of names",
         .value = &data},
        {.name = "capacity",
         .argument = "N",
         .help = "microbatches at one time; left out: as memory allows",
         .value = &capacity},
        {.name = "device",
         .argument = "DEVICE",
         .help = "auto, cpu or cuda; left out: as the run's configuration says",
         .value = &device},
        {.name = "threads",
         .argument = "N",
         .help = "for compute; left out: one on each core",
         .value = &threads},
        {.name = "notice",
         .argument = "SECONDS",
         .help = "that a node has which is told to leave; 30",
         .value = &notice},
        {0}};
    const struct gwtf_usage usage = {
        .command = "join",
        .arguments = "RUN",
        .summary =
            "Joins the run in the directory RUN, which trains now and goes on meanwhile, as one "
            "more\n"
            "node: it gets a stage and that stage's weights, and serves until the run is over.\n"
            "With Ctrl+C, SIGTERM or SIGUSR1 it leaves in order, so that nothing is lost or "
            "computed\n"
            "again; a second one ends it at once, and the run goes on all the same. Under Open MPI "
            "5 a\n"
            "node of the run starts the new one, on a host that the run has; it is the run's then "
            "(see\n"
            "gwtf leave), and this command ends when the new node serves.\n",
        .example = "  gwtf join runs/first\n  gwtf join /shared/runs/big --threads 8\n  gwtf join "
                   "runs/first --host node7\n  gwtf join runs/first --data mine.h5",
        .arguments_least = 1,
        .arguments_most = 1};
    struct join *join = calloc(1, sizeof *join);
    int code = 1;
    if (join == NULL)
        return gwtf_fail(GWTF_ERROR_MEMORY, "out of memory");
    if (gwtf_options_parse(&usage, options, argc, argv, &code)) {
        join->directory = argv[optind];
        join->host = host;
        code = gwtf_option_number("stage", stage, 1, GWTF_STAGES_MAX, true, &join->stage);
        if (code == 0)
            code = gwtf_option_number("capacity", capacity, 1, GWTF_CAPACITY_MAX, true,
                                      &join->capacity);
        if (code == 0)
            code = gwtf_option_number("threads", threads, 1, 4096, true, &join->threads);
        if (code == 0)
            code = choose_role(join, role, stage, data);
        enum gwtf_config_node_device ignored;
        if (code == 0 && device != NULL && !gwtf_config_read_device(device, &ignored))
            code = gwtf_fail(GWTF_ERROR_USAGE, "--device is '%s': use auto, cpu or cuda", device);
        join->device = device != NULL ? device : "run";
        join->stays = join->stage != 0;
        join->notice_s = GWTF_NOTICE_S;
        if (code == 0)
            code = gwtf_option_number("notice", notice, 1, 86400, false, &join->notice_s);
        if (code == 0)
            code = run(join);
    }
    free(join);
    return code;
}
