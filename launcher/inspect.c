/* gwtf inspect: what a snapshot holds. */
#include "io/json.h"
#include "io/snapshot.h"
#include "launcher/commands.h"
#include "launcher/options.h"
#include "share/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const struct gwtf_usage usage = {
    .command = "inspect",
    .arguments = "SNAPSHOT [--json]",
    .summary =
        "Checks a snapshot and prints its stages and tensors: shape, type, mean, standard\n"
        "deviation, largest absolute value. SNAPSHOT is a step's directory, or a run's: its\n"
        "newest whole snapshot.\n",
    .example = "  gwtf inspect runs/small/snapshots/step-000100\n"
               "  gwtf inspect runs/small --json\n",
    .arguments_least = 1,
    .arguments_most = 1,
};

static bool holds(const char *directory, const char *name) {
    char path[2 * GWTF_SNAPSHOT_PATH_MAX];
    struct stat facts;
    snprintf(path, sizeof path, "%.*s/%s", GWTF_SNAPSHOT_PATH_MAX, directory, name);
    return stat(path, &facts) == 0;
}

static void warn_skipped(void *context, const char *line) {
    (void)context;
    gwtf_log(GWTF_LOG_WARNING, "%s", line);
}

/* The last part of PATH starts like a step's directory: a snapshot without manifest is told as
 * such, not searched for others. */
static bool looks_like_step(const char *path) {
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    size_t start = length;
    while (start > 0 && path[start - 1] != '/')
        start--;
    return strncmp(path + start, "step-", 5) == 0;
}

/* Which snapshot is meant by PATH. */
static gwtf_status choose(const char *path, struct gwtf_snapshot_info *info,
                          struct gwtf_error *error) {
    struct stat facts;
    if (stat(path, &facts) != 0)
        return gwtf_error_set(error, GWTF_ERROR_MISSING, "cannot open '%s': %s: check the path",
                              path, strerror(errno));
    if (!S_ISDIR(facts.st_mode))
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "'%s' is a file: give the directory of a snapshot or of a run", path);
    if (strlen(path) + strlen("/snapshots") >= GWTF_SNAPSHOT_PATH_MAX)
        return gwtf_error_set(error, GWTF_ERROR_USAGE, "'%s' is too long: give a shorter path",
                              path);
    if (holds(path, "manifest.cfg") || looks_like_step(path)) {
        gwtf_status status = gwtf_snapshot_verify(path, info, error);
        /* The directory is there, so what is missing is missing from the snapshot. */
        return status == GWTF_ERROR_MISSING ? GWTF_ERROR_CORRUPT : status;
    }
    char snapshots[GWTF_SNAPSHOT_PATH_MAX];
    snprintf(snapshots, sizeof snapshots, "%s/snapshots", path);
    if (holds(path, "snapshots"))
        return gwtf_snapshot_newest(snapshots, info, warn_skipped, NULL, error);
    gwtf_status status = gwtf_snapshot_newest(path, info, warn_skipped, NULL, error);
    if (status == GWTF_ERROR_MISSING)
        gwtf_error_set(error, status,
                       "'%s' is neither a snapshot nor a run with one: give a directory like "
                       "runs/small/snapshots/step-000100, or runs/small",
                       path);
    return status;
}

/* What both outputs are made of; printed when all of it is known. */
struct found {
    struct gwtf_snapshot_tensor_summary *tensors;
    size_t count;
    size_t room;
    uint64_t parameters;
    bool no_memory;
};

static void add_tensor(void *context, const struct gwtf_snapshot_tensor_summary *summary) {
    struct found *found = context;
    if (found->count == found->room) {
        size_t room = found->room == 0 ? 64 : 2 * found->room;
        void *larger = realloc(found->tensors, room * sizeof *found->tensors);
        if (larger == NULL) {
            found->no_memory = true;
            return;
        }
        found->tensors = larger;
        found->room = room;
    }
    struct gwtf_snapshot_tensor_summary *tensor = &found->tensors[found->count];
    *tensor = *summary;
    tensor->name = strdup(summary->name);
    if (tensor->name == NULL) {
        found->no_memory = true;
        return;
    }
    found->count++;
    found->parameters += summary->dims[0] * summary->dims[1];
}

static void print_json(const struct gwtf_snapshot_info *info, const struct found *found) {
    struct gwtf_json json;
    gwtf_json_start(&json, stdout);
    gwtf_json_open(&json, NULL, '{');
    gwtf_json_text(&json, "path", info->path);
    gwtf_json_count(&json, "step", info->step);
    gwtf_json_count(&json, "stages", info->stages);
    gwtf_json_text(&json, "family", info->family);
    gwtf_json_count(&json, "layers", info->layers);
    gwtf_json_count(&json, "width", info->width);
    gwtf_json_count(&json, "heads", info->heads);
    gwtf_json_count(&json, "context", info->context);
    gwtf_json_count(&json, "vocabulary", info->vocabulary);
    gwtf_json_flag(&json, "tied_head", info->tied_head);
    gwtf_json_count(&json, "parameters", found->parameters);
    gwtf_json_open(&json, "tensors", '[');
    for (size_t i = 0; i < found->count; i++) {
        const struct gwtf_snapshot_tensor_summary *tensor = &found->tensors[i];
        gwtf_json_open(&json, NULL, '{');
        gwtf_json_text(&json, "name", tensor->name);
        gwtf_json_count(&json, "stage", tensor->stage);
        gwtf_json_open(&json, "shape", '[');
        for (uint32_t j = 0; j < tensor->rank; j++)
            gwtf_json_count(&json, NULL, tensor->dims[j]);
        gwtf_json_close(&json);
        gwtf_json_text(&json, "type", tensor->type);
        gwtf_json_real(&json, "mean", tensor->mean);
        gwtf_json_real(&json, "deviation", tensor->deviation);
        gwtf_json_real(&json, "largest", tensor->largest);
        gwtf_json_close(&json);
    }
    gwtf_json_close(&json);
    gwtf_json_close(&json);
    gwtf_json_end(&json);
}

static void print_table(const struct gwtf_snapshot_info *info, const struct found *found) {
    static const char *const headers[] = {"stage", "tensor",    "shape",  "type",
                                          "mean",  "deviation", "largest"};
    printf("snapshot    %s\n", info->path);
    printf("step        %" PRIu64 "\n", info->step);
    printf("model       %s: %" PRIu32 " layers, width %" PRIu32 ", %" PRIu32
           " heads, context %" PRIu32 ", vocabulary %" PRIu32 "%s\n",
           info->family, info->layers, info->width, info->heads, info->context, info->vocabulary,
           info->tied_head ? ", tied head" : "");
    printf("stages      %" PRIu32 ", and the data nodes' as 0\n", info->stages);
    printf("parameters  %" PRIu64 "\n\n", found->parameters);
    struct gwtf_table table;
    gwtf_table_init(&table, "rlllrrr", headers);
    for (size_t i = 0; i < found->count; i++) {
        const struct gwtf_snapshot_tensor_summary *tensor = &found->tensors[i];
        gwtf_table_cell(&table, "%" PRIu32, tensor->stage);
        gwtf_table_cell(&table, "%s", tensor->name);
        if (tensor->rank == 1)
            gwtf_table_cell(&table, "%" PRIu64, tensor->dims[0]);
        else
            gwtf_table_cell(&table, "%" PRIu64 " x %" PRIu64, tensor->dims[0], tensor->dims[1]);
        gwtf_table_cell(&table, "%s", tensor->type);
        gwtf_table_cell(&table, "%.3e", tensor->mean);
        gwtf_table_cell(&table, "%.3e", tensor->deviation);
        gwtf_table_cell(&table, "%.3e", tensor->largest);
    }
    gwtf_table_print(&table, stdout);
    gwtf_table_deinit(&table);
}

int gwtf_command_inspect(int argc, char **argv) {
    bool json = false;
    int code;
    const struct gwtf_option options[] = {{.name = "json", .help = "print JSON", .flag = &json},
                                          {0}};
    if (!gwtf_options_parse(&usage, options, argc, argv, &code))
        return code;
    struct gwtf_snapshot_info info;
    struct gwtf_error error;
    struct found found = {0};
    gwtf_status status = choose(argv[optind], &info, &error);
    if (status == GWTF_OK)
        status = gwtf_snapshot_summarise(info.path, add_tensor, &found, &error);
    if (status == GWTF_OK && found.no_memory)
        status = gwtf_error_set(&error, GWTF_ERROR_MEMORY, "no memory for the tensors: free some");
    if (status != GWTF_OK)
        code = gwtf_fail(status, "%s", error.text);
    else if (json)
        print_json(&info, &found);
    else
        print_table(&info, &found);
    for (size_t i = 0; i < found.count; i++)
        free((char *)found.tensors[i].name);
    free(found.tensors);
    return code;
}
