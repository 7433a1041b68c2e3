/* gwtf simulate: what a mix of nodes gives, in virtual time. */
#include "io/json.h"
#include "io/nearest.h"
#include "launcher/commands.h"
#include "launcher/options.h"
#include "share/base/log.h"
#include "worker/runtime/machine.h"
#include "worker/simulation/scenario.h"

#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const struct gwtf_usage usage = {
    .command = "simulate",
    .arguments = "SCENARIO [--policy POLICY | --compare POLICY,POLICY...] [--json]",
    .summary = "Trains in virtual time: the flow algorithm and the protocol are those of training, "
               "nodes,\n"
               "links and the model are figures. SCENARIO is a file, or the name of one that comes "
               "along:\n"
               "laptop, university, university-cloud, ten-regions-18, ten-regions-100,\n"
               "ten-regions-1000, ten-regions-10000.\n",
    .example = "  gwtf simulate university\n"
               "  gwtf simulate ten-regions-18 --churn 0.1 --compare gwtf,gwtf-paper\n"
               "  gwtf simulate my.cfg --iterations 20 --set nodes.1.count=12 --json\n",
    .arguments_least = 1,
    .arguments_most = 1,
};

#define PATH_MAX_BYTES 2048
/* The table's first column is for names. */
#define COMPARED_MAX (GWTF_TABLE_COLUMNS_MAX - 1)

struct command {
    const char *policy, *compare, *seed, *iterations, *churn;
    struct gwtf_option_list overrides;
    bool json;
    char path[PATH_MAX_BYTES];
    enum gwtf_flow_policy policies[COMPARED_MAX];
    size_t policies_count;
    struct gwtf_scenario *scenario;
    struct gwtf_scenario_result results[COMPARED_MAX];
};

/* Where the scenarios lie that come along. */
static const char *scenarios_directory(void) {
    const char *given = getenv("GWTF_SCENARIOS");
    return given != NULL && *given != '\0' ? given : GWTF_SCENARIOS;
}

/* The ready scenario that is nearest to NAME; false: none is near. */
static bool suggest(const char *name, char nearest[NAME_MAX + 1]) {
    bool found = false;
    DIR *directory = opendir(scenarios_directory());
    if (directory == NULL)
        return false;
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        size_t length = strlen(entry->d_name);
        if (length <= 4 || strcmp(entry->d_name + length - 4, ".cfg") != 0)
            continue;
        char other[NAME_MAX + 1];
        snprintf(other, sizeof other, "%.*s", (int)length - 4, entry->d_name);
        /* Of several that are as near, the same on every file system. */
        size_t distance = gwtf_nearest_distance(name, other);
        size_t best = found ? gwtf_nearest_distance(name, nearest) : SIZE_MAX;
        if (gwtf_nearest_is_close(name, other) &&
            (distance < best || (distance == best && strcmp(other, nearest) < 0))) {
            found = true;
            snprintf(nearest, NAME_MAX + 1, "%s", other);
        }
    }
    closedir(directory);
    return found;
}

static bool is_readable(const char *path) {
    return access(path, R_OK) == 0;
}

/* A file as it is named, else a ready scenario. Returns 0 or the exit code. */
static int find_scenario(struct command *command, const char *name) {
    snprintf(command->path, sizeof command->path, "%s", name);
    if (is_readable(name))
        return 0;
    snprintf(command->path, sizeof command->path, "%s/%s.cfg", scenarios_directory(), name);
    if (strchr(name, '/') == NULL && is_readable(command->path))
        return 0;
    char nearest[NAME_MAX + 1];
    if (suggest(name, nearest))
        return gwtf_fail(GWTF_ERROR_USAGE, "there is no scenario '%s': did you mean '%s'?", name,
                         nearest);
    return gwtf_fail(GWTF_ERROR_USAGE,
                     "there is no scenario '%s': give a file, or a name that gwtf simulate --help "
                     "lists",
                     name);
}

static int add_policy(struct command *command, const char *word) {
    const char *nearest = gwtf_flow_policy_words[0];
    for (size_t i = 0; gwtf_flow_policy_words[i] != NULL; i++) {
        if (strcmp(gwtf_flow_policy_words[i], word) == 0) {
            if (command->policies_count == COMPARED_MAX)
                return gwtf_fail(GWTF_ERROR_USAGE, "--compare names more than %d: leave some out",
                                 COMPARED_MAX);
            command->policies[command->policies_count++] = (enum gwtf_flow_policy)i;
            return 0;
        }
        if (gwtf_nearest_distance(word, gwtf_flow_policy_words[i]) <
            gwtf_nearest_distance(word, nearest))
            nearest = gwtf_flow_policy_words[i];
    }
    return gwtf_fail(GWTF_ERROR_USAGE, "there is no policy '%s': %s '%s'%s", word,
                     gwtf_nearest_is_close(word, nearest) ? "did you mean" : "one is", nearest,
                     gwtf_nearest_is_close(word, nearest) ? "?" : "");
}

static int read_policies(struct command *command) {
    if (command->policy != NULL && command->compare != NULL)
        return gwtf_fail(GWTF_ERROR_USAGE,
                         "--policy and --compare are both given: name all in --compare");
    if (command->policy != NULL)
        return add_policy(command, command->policy);
    if (command->compare == NULL)
        return 0;
    char *words = strdup(command->compare), *rest = words;
    int code = words == NULL ? gwtf_fail(GWTF_ERROR_MEMORY, "no memory: free some") : 0;
    for (char *word; code == 0 && (word = strsep(&rest, ",")) != NULL;)
        code = add_policy(command, word);
    free(words);
    return code;
}

/* --seed and the like are overrides by another name. */
static gwtf_status load(struct command *command, struct gwtf_error *error) {
    const struct {
        const char *path, *value;
    } options[] = {{"run.seed", command->seed},
                   {"run.iterations", command->iterations},
                   {"churn.probability", command->churn}};
    const char *overrides[GWTF_OPTION_LIST_MAX + 3];
    char texts[3][160];
    size_t count = 0;
    for (; count < command->overrides.count; count++)
        overrides[count] = command->overrides.items[count];
    for (size_t i = 0; i < 3; i++) {
        if (options[i].value == NULL)
            continue;
        snprintf(texts[i], sizeof texts[i], "%s=%s", options[i].path, options[i].value);
        overrides[count++] = texts[i];
    }
    return gwtf_scenario_load(command->path, overrides, count, &command->scenario, error);
}

/* On a terminal only. */
struct progress {
    const char *policy;
    uint32_t iterations;
};

static void show_progress(void *context, uint32_t iteration, gwtf_time_us now_us) {
    const struct progress *progress = context;
    fprintf(stderr, "\rsimulate %s: iteration %" PRIu32 "/%" PRIu32 ", virtual time %.0f s\033[K%s",
            progress->policy, iteration, progress->iterations, (double)now_us / 1e6,
            iteration == progress->iterations ? "\r\033[K" : "");
}

static void put_result(struct gwtf_json *json, const struct command *command,
                       const struct gwtf_scenario_result *result, const char *key) {
    gwtf_json_open(json, key, '{');
    gwtf_json_text(json, "policy", gwtf_flow_policy_words[result->policy]);
    gwtf_json_text(json, "ended", result->ended[0] != '\0' ? result->ended : "whole");
    gwtf_json_count(json, "seed", command->scenario->run.seed);
    gwtf_json_count(json, "nodes", result->nodes);
    gwtf_json_count(json, "stages", result->stages);
    gwtf_json_count(json, "iterations", result->iterations);
    gwtf_json_real(json, "seconds_per_iteration", result->seconds_per_iteration);
    gwtf_json_real(json, "first_iteration_seconds", result->first_iteration_seconds);
    gwtf_json_real(json, "microbatches_per_second", result->microbatches_per_second);
    gwtf_json_count(json, "asked", result->asked);
    gwtf_json_count(json, "completed", result->completed);
    gwtf_json_count(json, "lost", result->lost);
    gwtf_json_real(json, "compute_seconds", result->compute_seconds);
    gwtf_json_real(json, "wasted_compute", result->wasted_compute);
    gwtf_json_real(json, "wasted_by_crashed", result->wasted_by_crashed);
    gwtf_json_real(json, "bytes_per_iteration", result->bytes_per_iteration);
    gwtf_json_count(json, "messages", result->messages);
    gwtf_json_count(json, "flow_messages", result->flow_messages);
    gwtf_json_count(json, "flows", result->flows);
    gwtf_json_real(json, "flow_cost_seconds", result->flow_cost_seconds);
    gwtf_json_real(json, "flow_cost_seconds_max", result->flow_cost_seconds_max);
    gwtf_json_count(json, "crashes", result->crashes);
    gwtf_json_count(json, "returned", result->returned);
    gwtf_json_count(json, "link_faults", result->link_faults);
    gwtf_json_count(json, "joined", result->joined);
    gwtf_json_count(json, "moved", result->moved);
    gwtf_json_count(json, "left", result->left);
    gwtf_json_count(json, "recoveries", result->recoveries);
    gwtf_json_real(json, "recovery_seconds_median", result->recovery_seconds_median);
    gwtf_json_real(json, "recovery_seconds_max", result->recovery_seconds_max);
    gwtf_json_real(json, "virtual_seconds", result->virtual_seconds);
    gwtf_json_count(json, "events", result->events);
    char trace[24];
    snprintf(trace, sizeof trace, "%016" PRIx64, result->trace);
    gwtf_json_text(json, "trace", trace);
    gwtf_json_open(json, "stage_utilisation", '[');
    for (uint32_t stage = 0; stage <= result->stages; stage++)
        gwtf_json_real(json, NULL, result->stage_utilisation[stage]);
    gwtf_json_close(json);
    gwtf_json_open(json, "seconds", '[');
    for (uint32_t i = 0; i < result->iterations; i++)
        gwtf_json_real(json, NULL, result->seconds[i]);
    gwtf_json_close(json);
    gwtf_json_close(json);
}

static void print_json(const struct command *command) {
    struct gwtf_json json;
    gwtf_json_start(&json, stdout);
    if (command->compare == NULL) {
        put_result(&json, command, &command->results[0], NULL);
    } else {
        gwtf_json_open(&json, NULL, '{');
        gwtf_json_open(&json, "results", '[');
        for (size_t i = 0; i < command->policies_count; i++)
            put_result(&json, command, &command->results[i], NULL);
        gwtf_json_close(&json);
        gwtf_json_close(&json);
    }
    gwtf_json_end(&json);
}

/* A row of the table: the same figure of all policies. */
typedef void (*cell_function)(struct gwtf_table *table, const struct gwtf_scenario_result *result);

/* What could not be measured is a dash. */
static void put_real(struct gwtf_table *table, double real, const char *unit) {
    if (isnan(real))
        gwtf_table_cell(table, "-");
    else
        gwtf_table_cell(table, "%.3f%s", real, unit);
}

#define CELL(name, ...)                                                                            \
    static void name(struct gwtf_table *table, const struct gwtf_scenario_result *result) {        \
        gwtf_table_cell(table, __VA_ARGS__);                                                       \
    }
#define REAL_CELL(name, real, unit)                                                                \
    static void name(struct gwtf_table *table, const struct gwtf_scenario_result *result) {        \
        put_real(table, real, unit);                                                               \
    }
CELL(cell_iterations, "%" PRIu32, result->iterations)
REAL_CELL(cell_seconds, result->seconds_per_iteration, "")
REAL_CELL(cell_first, result->first_iteration_seconds, "")
REAL_CELL(cell_rate, result->microbatches_per_second, "")
CELL(cell_completed, "%" PRIu64 " of %" PRIu64, result->completed, result->asked)
REAL_CELL(cell_wasted, 100 * result->wasted_compute, " %")
REAL_CELL(cell_crashed, 100 * result->wasted_by_crashed, " %")
REAL_CELL(cell_bytes, result->bytes_per_iteration / 1e9, " GB")
CELL(cell_messages, "%" PRIu64 " (flow: %" PRIu64 ")", result->messages, result->flow_messages)
CELL(cell_flows, "%" PRIu32, result->flows)
REAL_CELL(cell_cost, result->flow_cost_seconds, "")
REAL_CELL(cell_cost_max, result->flow_cost_seconds_max, "")
CELL(cell_crashes, "%" PRIu32, result->crashes)
CELL(cell_returned, "%" PRIu32, result->returned)
CELL(cell_link_faults, "%" PRIu32, result->link_faults)
CELL(cell_joined, "%" PRIu32, result->joined)
CELL(cell_moved, "%" PRIu32, result->moved)
CELL(cell_left, "%" PRIu32, result->left)
CELL(cell_recoveries, "%zu", result->recoveries)
REAL_CELL(cell_recovery, result->recovery_seconds_median, "")
REAL_CELL(cell_recovery_max, result->recovery_seconds_max, "")

static void print_row(struct gwtf_table *table, const struct command *command, const char *name,
                      cell_function cell) {
    gwtf_table_cell(table, "%s", name);
    for (size_t i = 0; i < command->policies_count; i++)
        cell(table, &command->results[i]);
}

static void print_utilisation(struct gwtf_table *table, const struct command *command) {
    for (uint32_t stage = 0; stage <= command->results[0].stages; stage++) {
        gwtf_table_cell(table, stage == 0 ? "utilisation, data nodes" : "utilisation, stage %u",
                        stage);
        for (size_t i = 0; i < command->policies_count; i++)
            gwtf_table_cell(table, "%.1f %%", 100 * command->results[i].stage_utilisation[stage]);
    }
}

static void print_table(const struct command *command) {
    const struct gwtf_scenario_result *first = &command->results[0];
    printf("%s: %" PRIu32 " nodes, %" PRIu32 " stages, %" PRIu64 " microbatches an iteration\n\n",
           command->path, first->nodes, first->stages,
           (uint64_t)command->scenario->batch.microbatches *
               gwtf_scenario_count(command->scenario, GWTF_CONFIG_ROLE_DATA));
    const char *headers[GWTF_TABLE_COLUMNS_MAX] = {""};
    char alignment[GWTF_TABLE_COLUMNS_MAX + 1] = "l";
    bool faults = false, recoveries = false, come_or_go = false;
    for (size_t i = 0; i < command->policies_count; i++) {
        headers[i + 1] = gwtf_flow_policy_words[command->results[i].policy];
        alignment[i + 1] = 'r';
        faults = faults || command->results[i].crashes > 0 || command->results[i].link_faults > 0;
        come_or_go = come_or_go || command->results[i].joined > 0 || command->results[i].left > 0;
        recoveries = recoveries || command->results[i].recoveries > 0;
    }
    struct gwtf_table table;
    gwtf_table_init(&table, alignment, headers);
    print_row(&table, command, "iterations", cell_iterations);
    print_row(&table, command, "seconds per iteration", cell_seconds);
    print_row(&table, command, "  the first one", cell_first);
    print_row(&table, command, "microbatches per second", cell_rate);
    print_row(&table, command, "microbatches completed", cell_completed);
    print_row(&table, command, "compute wasted", cell_wasted);
    print_row(&table, command, "moved per iteration", cell_bytes);
    print_row(&table, command, "messages", cell_messages);
    print_row(&table, command, "flows", cell_flows);
    print_row(&table, command, "cost of a flow, seconds", cell_cost);
    print_row(&table, command, "  the largest", cell_cost_max);
    if (faults) {
        print_row(&table, command, "compute lost with crashed nodes", cell_crashed);
        print_row(&table, command, "crashes", cell_crashes);
        print_row(&table, command, "nodes that came back", cell_returned);
        print_row(&table, command, "link faults", cell_link_faults);
        print_row(&table, command, "microbatches recovered", cell_recoveries);
    }
    if (come_or_go) {
        print_row(&table, command, "nodes that joined", cell_joined);
        print_row(&table, command, "  moved to other stages", cell_moved);
        print_row(&table, command, "nodes that left", cell_left);
    }
    if (recoveries) {
        print_row(&table, command, "  seconds each, median", cell_recovery);
        print_row(&table, command, "  the longest", cell_recovery_max);
    }
    print_utilisation(&table, command);
    gwtf_table_print(&table, stdout);
    gwtf_table_deinit(&table);
}

static int run_policies(struct command *command, struct gwtf_error *error) {
    for (size_t i = 0; i < command->policies_count; i++) {
        struct progress progress = {gwtf_flow_policy_words[command->policies[i]],
                                    command->scenario->run.iterations};
        struct gwtf_scenario_options options = {.policy = command->policies[i],
                                                .progress =
                                                    isatty(STDERR_FILENO) ? show_progress : NULL,
                                                .progress_context = &progress};
        gwtf_status status =
            gwtf_scenario_run(command->scenario, &options, &command->results[i], error);
        if (status != GWTF_OK)
            return gwtf_fail(status, "%s", error->text);
    }
    return 0;
}

/* Says which runs ended before their time. */
static int complain_ends(const struct command *command) {
    int code = 0;
    for (size_t i = 0; i < command->policies_count; i++)
        if (command->results[i].status != GWTF_OK)
            code = gwtf_fail(GWTF_ERROR_RUN, "policy %s: %s",
                             gwtf_flow_policy_words[command->results[i].policy],
                             command->results[i].ended);
    return code;
}

/* Tables of many nodes can be larger than the machine: then the program is to say so, before the
 * system ends it or another one. What is mapped already counts, and can be more than all memory: a
 * sanitizer's tables are. */
static void limit_memory(void) {
    struct rlimit limit;
    uint64_t free_bytes = gwtf_machine_free_bytes();
    if (free_bytes == 0 || getrlimit(RLIMIT_DATA, &limit) != 0)
        return;
    uint64_t bytes = gwtf_machine_data_bytes() + free_bytes;
    if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > bytes)
        limit.rlim_cur = (rlim_t)bytes;
    (void)setrlimit(RLIMIT_DATA, &limit);
}

/* Nobody hands a simulated run's nodes their hops. */
static int refuse_static(const struct command *command) {
    for (size_t i = 0; i < command->policies_count; i++)
        if (command->policies[i] == GWTF_FLOW_POLICY_STATIC)
            return gwtf_fail(GWTF_ERROR_USAGE,
                             "policy static has no one to assign flows in a simulated run: leave "
                             "it out, and see gwtf route for it");
    return 0;
}

static int simulate(struct command *command, const char *name) {
    struct gwtf_error error = {""};
    int code = find_scenario(command, name);
    if (code == 0)
        code = read_policies(command);
    if (code != 0)
        return code;
    gwtf_status status = load(command, &error);
    if (status != GWTF_OK)
        return gwtf_fail(status, "%s", error.text);
    if (command->policies_count == 0)
        command->policies[command->policies_count++] = command->scenario->flow.policy;
    code = refuse_static(command);
    if (code != 0)
        return code;
    limit_memory();
    code = run_policies(command, &error);
    if (code != 0)
        return code;
    if (command->json)
        print_json(command);
    else
        print_table(command);
    fflush(stdout);
    return complain_ends(command);
}

int gwtf_command_simulate(int argc, char **argv) {
    struct command command = {0};
    const struct gwtf_option options[] = {
        {.name = "policy",
         .argument = "POLICY",
         .help = "how microbatches find their way; default: the scenario's flow.policy",
         .value = &command.policy},
        {.name = "compare",
         .argument = "POLICIES",
         .help = "several, with commas: side by side, with the same churn",
         .value = &command.compare},
        {.name = "seed",
         .argument = "N",
         .help = "of all that is drawn (run.seed)",
         .value = &command.seed},
        {.name = "iterations",
         .argument = "N",
         .help = "how many to train (run.iterations)",
         .value = &command.iterations},
        {.name = "churn",
         .argument = "P",
         .help = "probability that a relay crashes, each iteration (churn.probability)",
         .value = &command.churn},
        {.name = "set",
         .argument = "PATH=VALUE",
         .help = "change a key of the scenario; may be repeated",
         .list = &command.overrides},
        {.name = "json", .help = "print JSON", .flag = &command.json},
        {0}};
    int code;
    if (!gwtf_options_parse(&usage, options, argc, argv, &code))
        return code;
    code = simulate(&command, argv[optind]);
    for (size_t i = 0; i < COMPARED_MAX; i++)
        gwtf_scenario_result_deinit(&command.results[i]);
    gwtf_scenario_destroy(command.scenario);
    return code;
}
