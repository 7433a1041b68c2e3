/* gwtf bench: what this machine can do for a configuration. */
#include "io/config.h"
#include "io/json.h"
#include "launcher/commands.h"
#include "launcher/options.h"
#include "worker/runtime/benchmark.h"
#include "worker/runtime/footprint.h"
#include "worker/runtime/machine.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct gwtf_usage usage = {
    .command = "bench",
    .arguments = "compute|memory CONFIG [--rounds N] [--threads N] [--set PATH=VALUE] [--json]",
    .summary =
        "compute: trains the whole model in this process on made-up tokens, a microbatch and an\n"
        "optimizer step a round, and prints medians: tokens and matrix operations per second of\n"
        "the forward pass, of head and backward pass, of the optimizer and of all. The share of\n"
        "the peak is that of the best product of the library here, measured in the same process.\n"
        "On a GPU also where its time goes, kernel by kernel.\n"
        "No data is needed where model.vocabulary is given.\n"
        "memory: of a worker of each stage, how much memory it will take and how much a process\n"
        "takes at most that does its work here; and whether all workers fit into what is free.\n"
        "On a GPU also of its memory.\n",
    .example = "  gwtf bench compute my.cfg\n"
               "  gwtf bench compute my.cfg --set backend.precision=bfloat16 --rounds 5 --json\n"
               "  gwtf bench memory my.cfg --set backend.recompute=blocks\n",
    .arguments_least = 2,
    .arguments_most = 2,
};

#define ROUNDS_DEFAULT 7

static const char *const part_names[GWTF_BENCHMARK_PARTS] = {
    [GWTF_BENCHMARK_FORWARD] = "forward",
    [GWTF_BENCHMARK_BACKWARD] = "backward",
    [GWTF_BENCHMARK_OPTIMIZER] = "optimizer",
    [GWTF_BENCHMARK_ALL] = "all",
};

static const char *precision_word(const struct gwtf_setup *setup) {
    static const char *const words[] = {[GWTF_CONFIG_PRECISION_FLOAT32] = "float32",
                                        [GWTF_CONFIG_PRECISION_BFLOAT16] = "bfloat16",
                                        [GWTF_CONFIG_PRECISION_TFLOAT32] = "tfloat32"};
    return words[setup->config.backend.precision];
}

static double gflops(const struct gwtf_benchmark *found, size_t part) {
    return 1e-9 * found->operations[part] / found->seconds[part];
}

static void print_part(struct gwtf_json *json, const struct gwtf_benchmark *found, size_t part) {
    gwtf_json_real(json, "seconds", found->seconds[part]);
    gwtf_json_real(json, "tokens_per_second", (double)found->tokens / found->seconds[part]);
    gwtf_json_real(json, "gflops", gflops(found, part));
}

/* The larger one of a kernel's shares of what the GPU can compute and move; BOUND gets which it is,
 * or stays as it is where neither is known. */
static double share_of_bound(const struct gwtf_benchmark *found,
                             const struct gwtf_kernel_time *time, const char **bound) {
    if (time->copies || time->seconds <= 0 || found->peak <= 0 || found->peak_bytes <= 0)
        return 0;
    double computed = time->operations / time->seconds / found->peak;
    double moved = time->bytes / time->seconds / found->peak_bytes;
    *bound = computed > moved ? "compute" : "memory";
    return computed > moved ? computed : moved;
}

static void print_kernels_json(struct gwtf_json *json, const struct gwtf_benchmark *found) {
    gwtf_json_real(json, "peak_bytes_per_second", found->peak_bytes);
    gwtf_json_open(json, "kernels", '[');
    for (size_t i = 0; i < found->kernels_count; i++) {
        const struct gwtf_kernel_time *time = &found->kernels[i];
        const char *bound = NULL;
        double share = share_of_bound(found, time, &bound);
        gwtf_json_open(json, NULL, '{');
        gwtf_json_text(json, "name", time->name);
        gwtf_json_count(json, "calls", time->calls);
        gwtf_json_real(json, "seconds", time->seconds);
        gwtf_json_real(json, "operations", time->operations);
        gwtf_json_real(json, "bytes", time->bytes);
        if (bound != NULL) {
            gwtf_json_text(json, "bound", bound);
            gwtf_json_real(json, "share_of_bound", share);
        } else {
            gwtf_json_null(json, "bound");
            gwtf_json_null(json, "share_of_bound");
        }
        gwtf_json_close(json);
    }
    gwtf_json_close(json);
}

static void print_json(const struct gwtf_setup *setup, const struct gwtf_benchmark *found) {
    struct gwtf_json json;
    gwtf_json_start(&json, stdout);
    gwtf_json_open(&json, NULL, '{');
    gwtf_json_text(&json, "precision", precision_word(setup));
    gwtf_json_count(&json, "threads", found->threads);
    if (found->on_gpu)
        gwtf_json_text(&json, "gpu", found->gpu.name);
    else
        gwtf_json_null(&json, "gpu");
    gwtf_json_count(&json, "parameters", found->parameters);
    gwtf_json_count(&json, "tokens", found->tokens);
    gwtf_json_real(&json, "tokens_per_second",
                   (double)found->tokens / found->seconds[GWTF_BENCHMARK_ALL]);
    gwtf_json_real(&json, "step_seconds", found->seconds[GWTF_BENCHMARK_ALL]);
    gwtf_json_real(&json, "gflops", gflops(found, GWTF_BENCHMARK_ALL));
    if (found->peak > 0) {
        gwtf_json_real(&json, "peak_gflops", 1e-9 * found->peak);
        gwtf_json_real(&json, "share_of_peak",
                       1e9 * gflops(found, GWTF_BENCHMARK_ALL) / found->peak);
    } else {
        gwtf_json_null(&json, "peak_gflops");
        gwtf_json_null(&json, "share_of_peak");
    }
    for (size_t part = 0; part < GWTF_BENCHMARK_ALL; part++) {
        gwtf_json_open(&json, part_names[part], '{');
        print_part(&json, found, part);
        gwtf_json_close(&json);
    }
    if (found->on_gpu)
        print_kernels_json(&json, found);
    gwtf_json_close(&json);
    gwtf_json_end(&json);
}

static void print_kernels(const struct gwtf_benchmark *found) {
    static const char *const headers[] = {"on the GPU", "calls", "ms", "of all", "share of", ""};
    double all = 0;
    for (size_t i = 0; i < found->kernels_count; i++)
        all += found->kernels[i].copies ? 0 : found->kernels[i].seconds;
    struct gwtf_table table;
    gwtf_table_init(&table, "lrrrrl", headers);
    for (size_t i = 0; i < found->kernels_count; i++) {
        const struct gwtf_kernel_time *time = &found->kernels[i];
        const char *bound = NULL;
        double share = share_of_bound(found, time, &bound);
        gwtf_table_cell(&table, "%s", time->name);
        gwtf_table_cell(&table, "%" PRIu64, time->calls);
        gwtf_table_cell(&table, "%.3f", 1e3 * time->seconds);
        if (time->copies || all <= 0)
            gwtf_table_cell(&table, "-");
        else
            gwtf_table_cell(&table, "%.1f %%", 100 * time->seconds / all);
        if (bound == NULL)
            gwtf_table_cell(&table, "-");
        else
            gwtf_table_cell(&table, "%.0f %%", 100 * share);
        gwtf_table_cell(&table, "%s", bound != NULL ? bound : "");
    }
    gwtf_table_print(&table, stdout);
    gwtf_table_deinit(&table);
    printf("one round with events between kernels; copies between host and GPU go on beside them.\n"
           "The share is that of the best product or the best copy (%.0f GB/s), whichever bounds\n"
           "a kernel.\n",
           1e-9 * found->peak_bytes);
}

static void print_plain(const struct gwtf_setup *setup, const struct gwtf_benchmark *found) {
    static const char *const headers[] = {"", "ms", "tokens/s", "GFLOP/s", "share of peak"};
    char where[160];
    if (found->on_gpu)
        snprintf(where, sizeof where, "%s", found->gpu.name);
    else
        snprintf(where, sizeof where, "%" PRIu32 " thread(s)", found->threads);
    printf("%s, %.2f million parameters, %s, %s, a microbatch of %" PRIu64 " tokens\n",
           gwtf_family_word(setup->model.family), 1e-6 * (double)found->parameters,
           precision_word(setup), where, found->tokens);
    struct gwtf_table table;
    gwtf_table_init(&table, "lrrrr", headers);
    for (size_t part = 0; part < GWTF_BENCHMARK_PARTS; part++) {
        gwtf_table_cell(&table, "%s", part_names[part]);
        gwtf_table_cell(&table, "%.1f", 1e3 * found->seconds[part]);
        gwtf_table_cell(&table, "%.0f", (double)found->tokens / found->seconds[part]);
        if (found->operations[part] > 0)
            gwtf_table_cell(&table, "%.1f", gflops(found, part));
        else
            gwtf_table_cell(&table, "-");
        if (found->operations[part] > 0 && found->peak > 0)
            gwtf_table_cell(&table, "%.0f %%", 1e11 * gflops(found, part) / found->peak);
        else
            gwtf_table_cell(&table, "-");
    }
    gwtf_table_print(&table, stdout);
    gwtf_table_deinit(&table);
    if (found->peak > 0)
        printf("peak: %.1f GFLOP/s, the library's best %s product\n", 1e-9 * found->peak,
               precision_word(setup));
    else
        printf("peak: not known, the library has no %s product here\n", precision_word(setup));
    if (found->on_gpu)
        print_kernels(found);
}

static void show_progress(void *context, uint32_t done, uint32_t rounds) {
    (void)context;
    fprintf(stderr, "\rbench: round %" PRIu32 " of %" PRIu32 "\033[K", done, rounds);
}

static int bench_compute(const struct gwtf_setup *setup, uint32_t rounds, uint32_t threads,
                         bool processor_time, bool json) {
    bool terminal = isatty(STDERR_FILENO) != 0;
    struct gwtf_benchmark_options options = {.rounds = rounds,
                                             .threads = threads,
                                             .processor_time = processor_time,
                                             .progress = terminal ? show_progress : NULL};
    struct gwtf_benchmark found;
    struct gwtf_error error;
    gwtf_status status = gwtf_benchmark_run(setup, &options, &found, &error);
    if (terminal)
        fputs("\r\033[K", stderr);
    if (status != GWTF_OK)
        return gwtf_fail(status, "%s", error.text);
    (json ? print_json : print_plain)(setup, &found);
    return 0;
}

static double mib(uint64_t bytes) {
    return (double)bytes / 1048576.0;
}

static double off_by(uint64_t predicted_bytes, uint64_t measured_bytes) {
    return (double)predicted_bytes / (double)measured_bytes - 1;
}

/* Of the GPUs', which all workers of this machine share. */
static void print_gpu_memory(const struct gwtf_footprint *found, uint32_t stages) {
    static const char *const headers[] = {"stage",         "workers",      "capacity",
                                          "predicted MiB", "measured MiB", "off by"};
    uint64_t all_bytes = 0;
    struct gwtf_table table;
    gwtf_table_init(&table, "rrrrrr", headers);
    for (uint32_t i = 0; i <= stages; i++) {
        if (!found[i].on_gpu)
            continue;
        all_bytes += found[i].workers * found[i].gpu_predicted_bytes;
        gwtf_table_cell(&table, "%" PRIu32, found[i].stage);
        gwtf_table_cell(&table, "%" PRIu32, found[i].workers);
        gwtf_table_cell(&table, "%" PRIu32, found[i].slots);
        gwtf_table_cell(&table, "%.1f", mib(found[i].gpu_predicted_bytes));
        gwtf_table_cell(&table, "%.1f", mib(found[i].gpu_measured_bytes));
        gwtf_table_cell(&table, "%+.1f %%",
                        100 * off_by(found[i].gpu_predicted_bytes, found[i].gpu_measured_bytes));
    }
    printf("\nof the GPU's memory (%s):\n", found[0].gpu.name);
    gwtf_table_print(&table, stdout);
    gwtf_table_deinit(&table);
    printf("all workers on GPUs: %.0f MiB; there are %" PRIu32
           " GPU(s), the first with %.0f MiB free\n",
           mib(all_bytes), found[0].gpu.count, mib(found[0].gpu_free_bytes));
}

static void print_memory_json(const struct gwtf_footprint *found, uint32_t stages,
                              uint64_t all_bytes, uint64_t free_bytes) {
    struct gwtf_json json;
    gwtf_json_start(&json, stdout);
    gwtf_json_open(&json, NULL, '{');
    gwtf_json_count(&json, "free_bytes", free_bytes);
    gwtf_json_count(&json, "all_workers_bytes", all_bytes);
    gwtf_json_flag(&json, "all_workers_fit", all_bytes <= free_bytes);
    gwtf_json_open(&json, "stages", '[');
    for (uint32_t i = 0; i <= stages; i++) {
        gwtf_json_open(&json, NULL, '{');
        gwtf_json_count(&json, "stage", found[i].stage);
        gwtf_json_count(&json, "workers", found[i].workers);
        gwtf_json_count(&json, "capacity", found[i].slots);
        gwtf_json_count(&json, "retained", found[i].retained);
        gwtf_json_count(&json, "predicted_bytes", found[i].predicted_bytes);
        gwtf_json_count(&json, "measured_bytes", found[i].measured_bytes);
        if (found[i].on_gpu) {
            gwtf_json_text(&json, "gpu", found[i].gpu.name);
            gwtf_json_count(&json, "gpu_free_bytes", found[i].gpu_free_bytes);
            gwtf_json_count(&json, "gpu_predicted_bytes", found[i].gpu_predicted_bytes);
            gwtf_json_count(&json, "gpu_measured_bytes", found[i].gpu_measured_bytes);
        } else {
            gwtf_json_null(&json, "gpu");
        }
        gwtf_json_close(&json);
    }
    gwtf_json_close(&json);
    gwtf_json_close(&json);
    gwtf_json_end(&json);
}

static void print_memory(const struct gwtf_footprint *found, uint32_t stages, uint64_t all_bytes,
                         uint64_t free_bytes) {
    static const char *const headers[] = {"stage",         "workers",      "capacity", "retained",
                                          "predicted MiB", "measured MiB", "off by"};
    struct gwtf_table table;
    gwtf_table_init(&table, "rrrrrrr", headers);
    for (uint32_t i = 0; i <= stages; i++) {
        gwtf_table_cell(&table, "%" PRIu32, found[i].stage);
        gwtf_table_cell(&table, "%" PRIu32, found[i].workers);
        gwtf_table_cell(&table, "%" PRIu32, found[i].slots);
        gwtf_table_cell(&table, "%" PRIu32, found[i].retained);
        gwtf_table_cell(&table, "%.1f", mib(found[i].predicted_bytes));
        gwtf_table_cell(&table, "%.1f", mib(found[i].measured_bytes));
        gwtf_table_cell(&table, "%+.1f %%",
                        100 * off_by(found[i].predicted_bytes, found[i].measured_bytes));
    }
    gwtf_table_print(&table, stdout);
    gwtf_table_deinit(&table);
    printf("all workers on this machine: %.0f MiB of the %.0f MiB that are free%s\n",
           mib(all_bytes), mib(free_bytes), all_bytes <= free_bytes ? "" : ": too much");
    if (found[0].on_gpu)
        print_gpu_memory(found, stages);
}

static int bench_memory(const struct gwtf_setup *setup, uint32_t threads, bool json) {
    uint32_t stages = setup->config.pipeline.stages, nodes = setup->data_nodes + setup->relays;
    uint64_t free_bytes = gwtf_machine_free_bytes(), all_bytes = 0;
    struct gwtf_footprint *found = calloc((size_t)stages + 1, sizeof *found);
    struct gwtf_error error;
    if (found == NULL)
        return gwtf_fail(GWTF_ERROR_MEMORY, "out of memory: free some");
    uint32_t cores = gwtf_machine_cores() / nodes;
    if (threads == 0)
        threads = setup->config.backend.threads;
    if (threads == 0)
        threads = cores > 0 ? cores : 1;
    gwtf_status status = GWTF_OK;
    for (uint32_t i = 0; i <= stages && status == GWTF_OK; i++) {
        status = gwtf_footprint_measure(setup, i, free_bytes / nodes, threads, &found[i], &error);
        all_bytes += found[i].workers * found[i].predicted_bytes;
    }
    if (status == GWTF_OK)
        (json ? print_memory_json : print_memory)(found, stages, all_bytes, free_bytes);
    free(found);
    return status == GWTF_OK ? 0 : gwtf_fail(status, "%s", error.text);
}

/* Data is asked for only where it is read, or the vocabulary is to come from it. */
static gwtf_status open_setup(const char *path, bool reads_data,
                              const struct gwtf_option_list *overrides, struct gwtf_setup *setup,
                              struct gwtf_error *error) {
    struct gwtf_config *config = calloc(1, sizeof *config);
    if (config == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    gwtf_status status = gwtf_config_load(path, overrides->items, overrides->count, config, error);
    if (status == GWTF_OK)
        status = reads_data || config->model.vocabulary == 0
                     ? gwtf_setup_open(config, setup, error)
                     : gwtf_setup_open_relay(config, setup, error);
    free(config);
    return status;
}

int gwtf_command_bench(int argc, char **argv) {
    const char *rounds = NULL, *threads = NULL;
    struct gwtf_option_list overrides = {0};
    bool json = false, processor_time = false;
    int code;
    const struct gwtf_option options[] = {
        {.name = "rounds", .argument = "N", .help = "default 7", .value = &rounds},
        {.name = "threads",
         .argument = "N",
         .help = "0, or left out: backend.threads, or all cores",
         .value = &threads},
        {.name = "set",
         .argument = "PATH=VALUE",
         .help = "override a value of the configuration; may be repeated",
         .list = &overrides},
        {.name = "processor-time",
         .help = "measure what the process had of the processors, not the clock's time: where "
                 "others work too; with --threads 1",
         .flag = &processor_time},
        {.name = "json", .help = "print JSON", .flag = &json},
        {0}};
    if (!gwtf_options_parse(&usage, options, argc, argv, &code))
        return code;
    bool memory = strcmp(argv[optind], "memory") == 0;
    if (!memory && strcmp(argv[optind], "compute") != 0)
        return gwtf_fail(GWTF_ERROR_USAGE,
                         "bench: '%s' cannot be measured: use bench compute or bench memory",
                         argv[optind]);
    double most = ROUNDS_DEFAULT, cores = 0;
    code = gwtf_option_number("rounds", rounds, 1, GWTF_BENCHMARK_ROUNDS_MAX, true, &most);
    if (code == 0)
        code = gwtf_option_number("threads", threads, 0, 1024, true, &cores);
    if (code != 0)
        return code;
    struct gwtf_setup *setup = calloc(1, sizeof *setup);
    struct gwtf_error error;
    if (setup == NULL)
        return gwtf_fail(GWTF_ERROR_MEMORY, "out of memory: free some");
    gwtf_status status = open_setup(argv[optind + 1], memory, &overrides, setup, &error);
    if (status != GWTF_OK) {
        free(setup);
        return gwtf_fail(status, "%s", error.text);
    }
    code = memory ? bench_memory(setup, (uint32_t)cores, json)
                  : bench_compute(setup, (uint32_t)most, (uint32_t)cores, processor_time, json);
    gwtf_setup_close(setup);
    free(setup);
    return code;
}
