/* gwtf doctor: what this machine, job and MPI offer, and whether a run would start. */
#include "launcher/doctor.h"

#include "io/json.h"
#include "io/probe.h"
#include "launcher/commands.h"
#include "launcher/options.h"
#include "share/base/assert.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const verdict_words[] = {"ok", "warning", "error"};

struct gwtf_doctor_finding *gwtf_doctor_find(struct gwtf_doctor *doctor, const char *check,
                                             enum gwtf_doctor_verdict verdict, const char *format,
                                             ...) {
    GWTF_ASSERT(doctor->count < GWTF_DOCTOR_FINDINGS_MAX);
    struct gwtf_doctor_finding *finding = &doctor->findings[doctor->count++];
    va_list arguments;
    finding->check = check;
    finding->verdict = verdict;
    va_start(arguments, format);
    vsnprintf(finding->found, sizeof finding->found, format, arguments);
    va_end(arguments);
    return finding;
}

void gwtf_doctor_advise(struct gwtf_doctor_finding *finding, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(finding->advice, sizeof finding->advice, format, arguments);
    va_end(arguments);
}

/* An error's line is "what is wrong: what to do". */
static void find_error(struct gwtf_doctor *doctor, const char *check,
                       const struct gwtf_error *error) {
    const char *advice = strrchr(error->text, ':');
    int length = advice != NULL ? (int)(advice - error->text) : (int)strlen(error->text);
    struct gwtf_doctor_finding *finding =
        gwtf_doctor_find(doctor, check, GWTF_DOCTOR_ERROR, "%.*s", length, error->text);
    gwtf_doctor_advise(finding, "%s", advice != NULL ? advice + 2 : "");
}

static void open_setup(struct gwtf_doctor *doctor) {
    struct gwtf_error error = {""};
    struct gwtf_config *config = calloc(1, sizeof *config);
    if (config == NULL)
        return;
    gwtf_status status = gwtf_config_load(doctor->config_path, doctor->overrides,
                                          doctor->overrides_count, config, &error);
    if (status == GWTF_OK)
        status = gwtf_setup_open(config, &doctor->setup, &error);
    free(config);
    if (status != GWTF_OK) {
        find_error(doctor, "run", &error);
        return;
    }
    doctor->has_setup = true;
    gwtf_doctor_find(doctor, "run", GWTF_DOCTOR_OK, "%s: %u stages, %u data node(s), %u relays",
                     doctor->setup.config.run.directory, doctor->setup.config.pipeline.stages,
                     doctor->setup.data_nodes, doctor->setup.relays);
}

/* The run's directory, or the nearest above it that there is; this one when no run is asked for. */
static void find_directory(const struct gwtf_doctor *doctor, char *path, size_t path_bytes) {
    struct stat facts;
    snprintf(path, path_bytes, "%s", doctor->has_setup ? doctor->setup.config.run.directory : ".");
    while (stat(path, &facts) != 0 && errno == ENOENT) {
        char *slash = strrchr(path, '/');
        if (slash == NULL)
            snprintf(path, path_bytes, ".");
        else
            slash[slash == path] = '\0';
    }
}

/* Bytes of a snapshot: weights and two moments, in float32. */
static uint64_t snapshot_bytes(const struct gwtf_setup *setup) {
    uint64_t parameters = 0;
    for (uint32_t stage = 0; stage <= setup->config.pipeline.stages; stage++) {
        struct gwtf_stage_shape shape = gwtf_setup_stage_shape(setup, stage);
        struct gwtf_stage_plan plan;
        if (gwtf_stage_plan_init(&plan, &shape, NULL) == GWTF_OK) {
            parameters += plan.parameters;
            gwtf_stage_plan_deinit(&plan);
        }
    }
    return 12 * parameters;
}

static void check_disk(struct gwtf_doctor *doctor) {
    char directory[GWTF_CONFIG_PATH_MAX];
    struct gwtf_probe probe;
    struct gwtf_error error = {""};
    find_directory(doctor, directory, sizeof directory);
    if (gwtf_probe_directory(directory, &probe, &error) != GWTF_OK) {
        find_error(doctor, "disk", &error);
        return;
    }
    double free_gb = (double)probe.free_bytes * 1e-9, needed_gb = 0;
    /* One is written before the oldest goes. */
    if (doctor->has_setup)
        needed_gb = (double)snapshot_bytes(&doctor->setup) * 1e-9 *
                    (double)(doctor->setup.config.snapshot.keep + 1);
    struct gwtf_doctor_finding *finding =
        gwtf_doctor_find(doctor, "disk", free_gb > needed_gb ? GWTF_DOCTOR_OK : GWTF_DOCTOR_ERROR,
                         "%s: %s, %.1f GB free, snapshots take %.4g", directory, probe.file_system,
                         free_gb, needed_gb);
    if (free_gb <= needed_gb)
        gwtf_doctor_advise(finding, "free some space, or lower snapshot.keep");
    finding = gwtf_doctor_find(doctor, "hdf5", probe.locks ? GWTF_DOCTOR_OK : GWTF_DOCTOR_WARNING,
                               "%s writes and reads there; file locks: %s", probe.hdf5_version,
                               probe.locks ? "yes" : "no");
    if (!probe.locks)
        gwtf_doctor_advise(finding, "nothing keeps you from starting a run twice: take care, or "
                                    "use another file system");
}

void gwtf_doctor_check_run(struct gwtf_doctor *doctor) {
    if (doctor->config_path != NULL)
        open_setup(doctor);
    check_disk(doctor);
}

static size_t count_verdict(const struct gwtf_doctor *doctor, enum gwtf_doctor_verdict verdict) {
    size_t count = 0;
    for (size_t i = 0; i < doctor->count; i++)
        count += doctor->findings[i].verdict == verdict;
    return count;
}

static void print_text(const struct gwtf_doctor *doctor) {
    for (size_t i = 0; i < doctor->count; i++) {
        const struct gwtf_doctor_finding *finding = &doctor->findings[i];
        printf("%-8s %-11s %s\n", verdict_words[finding->verdict], finding->check, finding->found);
        if (finding->advice[0] != '\0')
            printf("%-8s %-11s -> %s\n", "", "", finding->advice);
    }
    size_t errors = count_verdict(doctor, GWTF_DOCTOR_ERROR);
    printf("\n%s: %zu error(s), %zu warning(s)\n",
           errors == 0 ? "a run would start" : "a run would not start", errors,
           count_verdict(doctor, GWTF_DOCTOR_WARNING));
}

static void print_json(const struct gwtf_doctor *doctor) {
    struct gwtf_json json;
    gwtf_json_start(&json, stdout);
    gwtf_json_open(&json, NULL, '{');
    gwtf_json_flag(&json, "would_start", count_verdict(doctor, GWTF_DOCTOR_ERROR) == 0);
    gwtf_json_open(&json, "checks", '[');
    for (size_t i = 0; i < doctor->count; i++) {
        const struct gwtf_doctor_finding *finding = &doctor->findings[i];
        gwtf_json_open(&json, NULL, '{');
        gwtf_json_text(&json, "check", finding->check);
        gwtf_json_text(&json, "verdict", verdict_words[finding->verdict]);
        gwtf_json_text(&json, "found", finding->found);
        if (finding->advice[0] != '\0')
            gwtf_json_text(&json, "advice", finding->advice);
        gwtf_json_close(&json);
    }
    gwtf_json_close(&json);
    gwtf_json_close(&json);
    gwtf_json_end(&json);
}

int gwtf_command_doctor(int argc, char **argv) {
    static struct gwtf_doctor doctor;
    struct gwtf_option_list overrides = {.count = 0};
    bool json = false;
    int code;
    const struct gwtf_option options[] = {{.name = "set",
                                           .argument = "PATH=VALUE",
                                           .help = "override a value of CONFIG; may be given again",
                                           .list = &overrides},
                                          {.name = "json", .help = "print JSON", .flag = &json},
                                          {0}};
    const struct gwtf_usage usage = {
        .command = "doctor",
        .arguments = "[CONFIG] [--set PATH=VALUE]... [--json]",
        .summary =
            "Looks at what this machine, the Slurm job that it is run in, if any, and the MPI at\n"
            "hand offer, and with CONFIG whether that run would start: ok, warning or error, and\n"
            "what to do. Exits with 0 when nothing is an error, else with 1. Nothing is changed.\n",
        .example = "  gwtf doctor\n"
                   "  gwtf doctor my.cfg --json\n"
                   "  salloc -N2 gwtf doctor my.cfg      # with two nodes of the cluster\n",
        .arguments_least = 0,
        .arguments_most = 1,
    };
    if (!gwtf_options_parse(&usage, options, argc, argv, &code))
        return code;
    doctor.config_path = argv[optind];
    doctor.overrides = overrides.items;
    doctor.overrides_count = overrides.count;
    ssize_t length = readlink("/proc/self/exe", doctor.self, sizeof doctor.self - 1);
    doctor.self[length > 0 ? length : 0] = '\0';
    gwtf_doctor_check_run(&doctor);
    gwtf_doctor_check_start(&doctor);
    gwtf_doctor_check_machine(&doctor);
    if (json)
        print_json(&doctor);
    else
        print_text(&doctor);
    if (doctor.has_setup)
        gwtf_setup_close(&doctor.setup);
    gwtf_job_close(&doctor.job);
    return count_verdict(&doctor, GWTF_DOCTOR_ERROR) == 0 ? 0 : 1;
}
