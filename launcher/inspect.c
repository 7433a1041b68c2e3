/* gwtf inspect: what a snapshot holds. */
#include "io/json.h"
#include "io/snapshot.h"
#include "launcher/choose.h"
#include "launcher/commands.h"
#include "launcher/options.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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
    if (info->hidden != 0) {
        gwtf_json_count(&json, "key_value_heads", info->key_value_heads);
        gwtf_json_count(&json, "hidden", info->hidden);
        gwtf_json_real(&json, "rope_theta", info->rope_theta);
        gwtf_json_real(&json, "norm_epsilon", info->norm_epsilon);
    }
    gwtf_json_count(&json, "context", info->context);
    gwtf_json_count(&json, "vocabulary", info->vocabulary);
    gwtf_json_flag(&json, "tied_head", info->tied_head);
    if (info->tokenizer[0] != '\0')
        gwtf_json_text(&json, "tokenizer", info->tokenizer);
    else
        gwtf_json_null(&json, "tokenizer");
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
    printf("model       %s: %" PRIu32 " layers, width %" PRIu32 ", %" PRIu32 " heads, ",
           info->family, info->layers, info->width, info->heads);
    if (info->hidden != 0 && info->key_value_heads != info->heads)
        printf("%" PRIu32 " of keys and values, ", info->key_value_heads);
    if (info->hidden != 0)
        printf("hidden %" PRIu32 ", ", info->hidden);
    printf("context %" PRIu32 ", vocabulary %" PRIu32 "%s\n", info->context, info->vocabulary,
           info->tied_head ? ", tied head" : "");
    printf("stages      %" PRIu32 ", and the data nodes' as 0\n", info->stages);
    if (info->tokenizer[0] != '\0')
        printf("tokenizer   %s\n", info->tokenizer);
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
    gwtf_status status = gwtf_choose_snapshot(argv[optind], &info, &error);
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
