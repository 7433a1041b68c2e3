/* gwtf submit: writes the batch script of a run and gives it to Slurm, after checking what would
 * otherwise go wrong hours later, when the job begins. */
#include "launcher/commands.h"
#include "launcher/job.h"
#include "launcher/options.h"
#include "launcher/program.h"
#include "launcher/script.h"
#include "launcher/slurm.h"

#include "io/json.h"
#include "io/run.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GPUS_MAX 64 /* of a node, to ask for */

struct part {
    const char *option; /* "--uni": who asked for it */
    char partition[128];
    unsigned nodes;
    unsigned node_cpus; /* of the partition's smallest node; 0: not known */
    unsigned cpus;      /* of each node, to ask for */
    unsigned gpus;      /* the same */
    long most_seconds;  /* that the partition gives; 0: not known */
    char most[32];      /* so, in Slurm's words */
};

struct submit {
    const char *config_path, *partition, *nodes, *cpus, *gpus, *memory, *time, *uni, *cloud,
        *account, *name, *site;
    struct gwtf_option_list overrides, sbatch;
    bool dry_run, json;
    struct part parts[2];
    size_t parts_count;
    struct gwtf_setup setup;
    char self[3072];
};

static bool parse_options(int argc, char **argv, struct submit *submit, int *code) {
    const struct gwtf_option options[] = {
        {.name = "partition",
         .letter = 'p',
         .argument = "NAME",
         .help = "of the cluster; its default",
         .value = &submit->partition},
        {.name = "nodes", .letter = 'N', .argument = "N", .help = "1", .value = &submit->nodes},
        {.name = "uni",
         .argument = "NAME:N",
         .help = "partition and nodes that have the data; with --cloud",
         .value = &submit->uni},
        {.name = "cloud",
         .argument = "NAME:N",
         .help = "partition and nodes beside them, without the data",
         .value = &submit->cloud},
        {.name = "cpus",
         .argument = "N",
         .help = "processors of each node: as many as it gets workers",
         .value = &submit->cpus},
        {.name = "gpus",
         .argument = "N[,M]",
         .help = "GPUs of each node; N of those of --uni and M of those of --cloud: none",
         .value = &submit->gpus},
        {.name = "memory", .argument = "SIZE", .help = "of each node", .value = &submit->memory},
        {.name = "time",
         .letter = 't',
         .argument = "TIME",
         .help = "of one start, as sbatch takes it: 24 hours, or what the partition gives; then it "
                 "goes back to the queue",
         .value = &submit->time},
        {.name = "account",
         .letter = 'A',
         .argument = "NAME",
         .help = "who pays",
         .value = &submit->account},
        {.name = "name", .argument = "NAME", .help = "of the job: gwtf", .value = &submit->name},
        {.name = "site",
         .argument = "FILE",
         .help = "the cluster's settings: ~/.config/gwtf/site.sh",
         .value = &submit->site},
        {.name = "set",
         .argument = "PATH=VALUE",
         .help = "override a value of CONFIG; may be given again",
         .list = &submit->overrides},
        {.name = "sbatch",
         .argument = "OPTION",
         .help = "another option of sbatch, as in --sbatch=--qos=low; may be given again",
         .list = &submit->sbatch},
        {.name = "dry-run",
         .help = "check everything, print the script, submit nothing",
         .flag = &submit->dry_run},
        {.name = "json", .help = "print JSON", .flag = &submit->json},
        {0}};
    const struct gwtf_usage usage = {
        .command = "submit",
        .arguments = "CONFIG [--partition NAME --nodes N | --uni NAME:N --cloud NAME:N]",
        .summary = "Writes the batch script of the run that CONFIG describes (RUN/job.sbatch) and\n"
                   "gives it to Slurm. When the job's time is over, or Slurm wants its nodes, the\n"
                   "run is stopped with a snapshot, and goes on when the job starts again.\n"
                   "RUN/run.log tells of all starts.\n",
        .example = "  gwtf submit my.cfg --partition short --nodes 4 --time 8:00:00\n"
                   "  gwtf submit my.cfg --partition accelerated --nodes 2 --gpus 4\n"
                   "  gwtf submit my.cfg --uni compute:4 --cloud spot:8 --gpus 0,1 --dry-run\n",
        .arguments_least = 1,
        .arguments_most = 1,
    };
    if (!gwtf_options_parse(&usage, options, argc, argv, code))
        return false;
    submit->config_path = argv[optind];
    return true;
}

/* "NAME:N" of OPTION. */
static gwtf_status parse_part(const char *option, const char *text, struct part *part,
                              struct gwtf_error *error) {
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    unsigned long nodes = colon != NULL ? strtoul(colon + 1, &end, 10) : 0;
    if (colon == NULL || colon == text || end == colon + 1 || *end != '\0' || nodes < 1 ||
        nodes > GWTF_ALLOCATION_HOSTS_MAX)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "%s '%s' has no nodes: give a partition and a number of nodes from 1 "
                              "on, as in %s NAME:2",
                              option, text, option);
    part->option = option;
    part->nodes = (unsigned)nodes;
    snprintf(part->partition, sizeof part->partition, "%.*s", (int)(colon - text), text);
    return GWTF_OK;
}

static gwtf_status find_parts(struct submit *submit, struct gwtf_error *error) {
    double nodes = 1;
    if ((submit->uni != NULL) != (submit->cloud != NULL))
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "--%s is given without --%s: give both, or --partition and --nodes",
                              submit->uni != NULL ? "uni" : "cloud",
                              submit->uni != NULL ? "cloud" : "uni");
    if (submit->uni != NULL && (submit->partition != NULL || submit->nodes != NULL))
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "--uni and --cloud say which nodes, --partition and --nodes say "
                              "others: leave out the one or the other");
    if (submit->uni != NULL) {
        submit->parts_count = 2;
        gwtf_status status = parse_part("--uni", submit->uni, &submit->parts[0], error);
        return status == GWTF_OK ? parse_part("--cloud", submit->cloud, &submit->parts[1], error)
                                 : status;
    }
    if (submit->nodes != NULL &&
        (!gwtf_option_real(submit->nodes, &nodes) || nodes < 1 ||
         nodes > GWTF_ALLOCATION_HOSTS_MAX || nodes != (double)(unsigned)nodes))
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "--nodes is '%s': give a whole number from 1 to %d", submit->nodes,
                              GWTF_ALLOCATION_HOSTS_MAX);
    submit->parts_count = 1;
    submit->parts[0] = (struct part){.option = "--partition", .nodes = (unsigned)nodes};
    snprintf(submit->parts[0].partition, sizeof submit->parts[0].partition, "%s",
             submit->partition != NULL ? submit->partition : "");
    return GWTF_OK;
}

/* The name in the line of the default partition, "NAME*"; "" when there is none. */
static void take_default(char *lines, char *name, size_t name_bytes) {
    name[0] = '\0';
    for (char *rest = NULL, *line = strtok_r(lines, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        size_t length = strlen(line);
        if (length > 0 && line[length - 1] == '*')
            snprintf(name, name_bytes, "%.*s", (int)length - 1, line);
    }
}

static gwtf_status choose_default(struct part *part, struct gwtf_error *error) {
    static char text[1 << 16];
    const char *ask[] = {"sinfo", "-h", "-o", "%P", NULL};
    if (gwtf_program_run(ask, text, sizeof text) == 0)
        take_default(text, part->partition, sizeof part->partition);
    if (part->partition[0] != '\0')
        return GWTF_OK;
    return gwtf_error_set(error, GWTF_ERROR_USAGE,
                          "the cluster has no default partition: name one by --partition (sinfo "
                          "lists them)");
}

/* What Slurm says of the partition, held against what is asked of it. */
static gwtf_status check_part(struct part *part, struct gwtf_error *error) {
    static char text[1 << 16];
    unsigned all = 0, least = 0;
    if (part->partition[0] == '\0') {
        gwtf_status status = choose_default(part, error);
        if (status != GWTF_OK)
            return status;
    }
    const char *ask[] = {"sinfo", "-h", "-p", part->partition, "-o", "%D %c %l", NULL};
    if (gwtf_program_run(ask, text, sizeof text) != 0) {
        text[strcspn(text, "\n")] = '\0';
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "Slurm does not answer (%.200s): submit on a login node of the "
                              "cluster",
                              text);
    }
    for (char *rest = NULL, *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        unsigned nodes = 0, cpus = 0;
        if (sscanf(line, "%u %u %31s", &nodes, &cpus, part->most) != 3)
            continue;
        if (!gwtf_slurm_seconds(part->most, &part->most_seconds))
            part->most_seconds = 0;
        all += nodes;
        least = least == 0 || cpus < least ? cpus : least;
    }
    if (all == 0)
        return gwtf_error_set(
            error, GWTF_ERROR_USAGE,
            "%s: the cluster has no partition '%s': sinfo lists those that it has", part->option,
            part->partition);
    if (part->nodes > all)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "partition '%s' has %u nodes, and %u are asked for: ask for fewer",
                              part->partition, all, part->nodes);
    part->node_cpus = least;
    return GWTF_OK;
}

/* LIST, with commas, has NAME. */
static bool names(const char *list, const char *name) {
    size_t length = strlen(name);
    for (const char *at = list; *at != '\0'; at += strcspn(at, ","), at += *at == ',')
        if (strcspn(at, ",") == length && strncmp(at, name, length) == 0)
            return true;
    return false;
}

/* Nodes that name a partition find it in the job. */
static gwtf_status check_nodes(const struct submit *submit, struct gwtf_error *error) {
    const struct gwtf_config *config = &submit->setup.config;
    for (size_t i = 0; i < config->nodes_count; i++) {
        const char *wished = config->nodes[i].partition;
        bool found = wished[0] == '\0';
        for (size_t p = 0; p < submit->parts_count; p++)
            found = found || names(submit->parts[p].partition, wished);
        if (!found)
            return gwtf_error_set(
                error, GWTF_ERROR_USAGE,
                "nodes.%zu.partition is '%s', and the job has no nodes there: ask "
                "for some, or leave it out",
                i, wished);
    }
    return GWTF_OK;
}

/* What the files in slurm/ ask for, with notice of its end two minutes before. */
#define USUAL_SECONDS 86400
/* Slurm may be a minute early with its signal. */
#define SHORT_SECONDS 300

/* A job that asks for more than its partition gives would wait for ever. What Slurm does not take
 * as a time it refuses itself. */
static gwtf_status check_time(const struct submit *submit, struct gwtf_error *error) {
    long seconds;
    if (submit->time == NULL || !gwtf_slurm_seconds(submit->time, &seconds))
        return GWTF_OK;
    for (size_t i = 0; i < submit->parts_count; i++) {
        const struct part *part = &submit->parts[i];
        if (part->most_seconds > 0 && seconds > part->most_seconds)
            return gwtf_error_set(
                error, GWTF_ERROR_USAGE,
                "--time is %s, and partition '%s' gives %s at most: ask for less; "
                "the run goes back to the queue and on from there",
                submit->time, part->partition, part->most);
    }
    return GWTF_OK;
}

/* The time of a start; Slurm tells of its end a quarter before when it is short. */
static void ask_for_time(const struct submit *submit, struct gwtf_script *script, size_t i) {
    const struct part *part = &submit->parts[i];
    const char *time = submit->time;
    if (time == NULL && part->most_seconds > 0 && part->most_seconds < USUAL_SECONDS)
        time = part->most;
    if (time == NULL)
        return;
    gwtf_script_option(script, i, "time", "%s", time);
    long seconds = 0;
    if (i == 0 && gwtf_slurm_seconds(time, &seconds) && seconds < SHORT_SECONDS)
        gwtf_script_option(script, i, "signal", "B:USR1@%ld", seconds / 4);
}

/* "N", of each node, or "N,M" for the nodes of two parts. */
static gwtf_status choose_gpus(struct submit *submit, struct gwtf_error *error) {
    const char *rest = submit->gpus;
    for (size_t i = 0; i < submit->parts_count && rest != NULL; i++) {
        char *end = NULL;
        unsigned long count = strtoul(rest, &end, 10);
        bool ends = *end == '\0', goes_on = *end == ',' && i + 1 < submit->parts_count;
        if (end == rest || *rest < '0' || *rest > '9' || count > GPUS_MAX || (!ends && !goes_on))
            return gwtf_error_set(error, GWTF_ERROR_USAGE,
                                  "--gpus is '%s': give the GPUs of each node, as in --gpus 2%s",
                                  submit->gpus,
                                  submit->parts_count > 1 ? ", or of both parts, as in 0,2" : "");
        submit->parts[i].gpus = (unsigned)count;
        if (!ends)
            rest = end + 1;
    }
    return GWTF_OK;
}

/* Processors of each node: as many as workers, which are spread evenly. */
static gwtf_status choose_cpus(struct submit *submit, struct gwtf_error *error) {
    uint32_t workers = submit->setup.data_nodes + submit->setup.relays, nodes = 0, slots = 0;
    double given = 0;
    if (submit->cpus != NULL && gwtf_option_number("cpus", submit->cpus, 1, 65536, true, &given))
        return GWTF_ERROR_INTERRUPTED; /* said already */
    for (size_t i = 0; i < submit->parts_count; i++)
        nodes += submit->parts[i].nodes;
    for (size_t i = 0; i < submit->parts_count; i++) {
        struct part *part = &submit->parts[i];
        part->cpus = given > 0 ? (unsigned)given : (workers + nodes - 1) / nodes;
        if (given <= 0 && part->node_cpus > 0 && part->cpus > part->node_cpus)
            part->cpus = part->node_cpus;
        if (part->node_cpus > 0 && part->cpus > part->node_cpus)
            return gwtf_error_set(error, GWTF_ERROR_USAGE,
                                  "--cpus is %u, and nodes of partition '%s' have %u: lower it",
                                  part->cpus, part->partition, part->node_cpus);
        slots += part->nodes * part->cpus;
    }
    char place[96];
    snprintf(place, sizeof place, "a job of %u node(s)", nodes);
    return gwtf_job_check_slots(&submit->setup, slots, place, error);
}

static gwtf_status check(struct submit *submit, struct gwtf_error *error) {
    char found[4096];
    struct gwtf_config *config = calloc(1, sizeof *config);
    if (config == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    gwtf_status status = gwtf_config_load(submit->config_path, submit->overrides.items,
                                          submit->overrides.count, config, error);
    if (status == GWTF_OK)
        status = find_parts(submit, error);
    if (status == GWTF_OK)
        status = gwtf_setup_open(config, &submit->setup, error);
    free(config);
    if (status == GWTF_OK && submit->site != NULL && access(submit->site, R_OK) != 0)
        status = gwtf_error_set(error, GWTF_ERROR_USAGE, "--site: cannot read '%s': check the path",
                                submit->site);
    if (status == GWTF_OK && !gwtf_program_find("sbatch", found, sizeof found))
        status = gwtf_error_set(error, GWTF_ERROR_USAGE,
                                "no sbatch in PATH: submit on a login node of a Slurm cluster");
    for (size_t i = 0; i < submit->parts_count && status == GWTF_OK; i++)
        status = check_part(&submit->parts[i], error);
    if (status == GWTF_OK)
        status = check_time(submit, error);
    if (status == GWTF_OK)
        status = check_nodes(submit, error);
    if (status == GWTF_OK)
        status = choose_gpus(submit, error);
    return status == GWTF_OK ? choose_cpus(submit, error) : status;
}

/* Slurm puts its own words in place of what follows a '%' in a file's name. */
static void log_pattern(const char *run, char *pattern, size_t pattern_bytes) {
    size_t used = 0;
    for (; *run != '\0' && used + sizeof "%/run.log" < pattern_bytes; run++) {
        if (*run == '%')
            pattern[used++] = '%';
        pattern[used++] = *run;
    }
    snprintf(pattern + used, pattern_bytes - used, "/run.log");
}

static gwtf_status fill_script(struct submit *submit, struct gwtf_script *script,
                               struct gwtf_error *error) {
    char path[4096], log[2 * GWTF_RUN_PATH_MAX + 16];
    log_pattern(submit->setup.config.run.directory, log, sizeof log);
    for (size_t i = 0; i < submit->parts_count; i++) {
        const struct part *part = &submit->parts[i];
        gwtf_script_option(script, i, "partition", "%s", part->partition);
        gwtf_script_option(script, i, "nodes", "%u", part->nodes);
        gwtf_script_option(script, i, "cpus-per-task", "%u", part->cpus);
        ask_for_time(submit, script, i);
        if (part->gpus > 0)
            gwtf_script_option(script, i, "gres", "gpu:%u", part->gpus);
        if (submit->memory != NULL)
            gwtf_script_option(script, i, "mem", "%s", submit->memory);
        if (submit->account != NULL)
            gwtf_script_option(script, i, "account", "%s", submit->account);
    }
    if (submit->name != NULL)
        gwtf_script_option(script, 0, "job-name", "%s", submit->name);
    gwtf_script_option(script, 0, "output", "%s", log);
    for (size_t i = 0; i < submit->sbatch.count; i++)
        gwtf_script_line(script, submit->sbatch.items[i]);
    gwtf_script_variable(script, "GWTF", submit->self);
    if (submit->site != NULL && realpath(submit->site, path) != NULL)
        gwtf_script_variable(script, "GWTF_SITE", path);
    gwtf_script_argument(script,
                         realpath(submit->config_path, path) != NULL ? path : submit->config_path);
    for (size_t i = 0; i < submit->overrides.count; i++) {
        gwtf_script_argument(script, "--set");
        gwtf_script_argument(script, submit->overrides.items[i]);
    }
    return gwtf_script_compose(script, error);
}

/* JOB is NULL for a dry run, whose script is in no file: TEXT, else NULL. */
static void print_json(const struct submit *submit, const char *job, const char *path,
                       const char *text) {
    const char *run = submit->setup.config.run.directory;
    struct gwtf_json json;
    char log[GWTF_RUN_PATH_MAX + 16];
    snprintf(log, sizeof log, "%s/run.log", run);
    gwtf_json_start(&json, stdout);
    gwtf_json_open(&json, NULL, '{');
    if (job != NULL)
        gwtf_json_text(&json, "job", job);
    else
        gwtf_json_null(&json, "job");
    gwtf_json_text(&json, "run", run);
    gwtf_json_text(&json, "script", path);
    gwtf_json_text(&json, "log", log);
    if (text != NULL)
        gwtf_json_text(&json, "text", text);
    gwtf_json_close(&json);
    gwtf_json_end(&json);
}

static void script_path(const struct submit *submit, char *path, size_t path_bytes) {
    snprintf(path, path_bytes, "%s/job.sbatch", submit->setup.config.run.directory);
}

static void show(const struct submit *submit, const struct gwtf_script *script) {
    char path[GWTF_RUN_PATH_MAX + 16];
    script_path(submit, path, sizeof path);
    if (submit->json)
        print_json(submit, NULL, path, script->text);
    else
        fputs(script->text, stdout);
}

static int say(const struct submit *submit, const char *job, const char *path) {
    const char *run = submit->setup.config.run.directory;
    if (submit->json) {
        print_json(submit, job, path, NULL);
        return 0;
    }
    printf("job %s is submitted, by the script %s\n"
           "its log is %s/run.log; see gwtf status %s and squeue -j %s\n",
           job, path, run, run, job);
    return 0;
}

static int give_to_slurm(const struct submit *submit, const struct gwtf_script *script) {
    char path[GWTF_RUN_PATH_MAX + 16], text[4096];
    const char *run = submit->setup.config.run.directory;
    struct gwtf_error error = {""};
    script_path(submit, path, sizeof path);
    if (gwtf_run_create(run, &error) != GWTF_OK ||
        gwtf_script_write(script, path, &error) != GWTF_OK)
        return gwtf_fail(GWTF_ERROR_IO, "%s", error.text);
    const char *command[] = {"sbatch", "--parsable", path, NULL};
    int code = gwtf_program_run(command, text, sizeof text);
    char *last = text; /* warnings come first */
    while (strchr(last, '\n') != NULL && strchr(last, '\n')[1] != '\0')
        last = strchr(last, '\n') + 1;
    last[strcspn(last, "\n;")] = '\0';
    if (code != 0)
        return gwtf_fail(GWTF_ERROR_USAGE, "sbatch refuses '%s': %.400s", path, last);
    return say(submit, last, path);
}

int gwtf_command_submit(int argc, char **argv) {
    static struct submit submit;
    static struct gwtf_script script;
    struct gwtf_error error = {""};
    int code;
    if (!parse_options(argc, argv, &submit, &code))
        return code;
    ssize_t length = readlink("/proc/self/exe", submit.self, sizeof submit.self - 1);
    submit.self[length > 0 ? length : 0] = '\0';
    gwtf_status status = check(&submit, &error);
    if (status == GWTF_ERROR_INTERRUPTED)
        return 2;
    if (status == GWTF_OK) {
        gwtf_script_init(&script, submit.parts_count == 2 ? "train-het.sbatch" : "train.sbatch");
        status = fill_script(&submit, &script, &error);
    }
    if (status != GWTF_OK)
        code = gwtf_fail(status, "%s", error.text);
    else if (submit.dry_run)
        show(&submit, &script);
    else
        code = give_to_slurm(&submit, &script);
    gwtf_script_deinit(&script);
    gwtf_setup_close(&submit.setup);
    return code;
}
