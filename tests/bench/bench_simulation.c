/*
 * How fast scenarios are simulated: processor seconds, events and messages per second, memory.
 *
 *     bench_simulation [FILE [PATH=VALUE...]]
 *
 * Without arguments: share/scenarios/ten-regions-1000.cfg run.iterations=100, which should take
 * less than a minute of one core.
 */
#include "worker/simulation/scenario.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>

/* Of this process, user and system. */
static double processor_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

/* Where the time of the first iteration, in which flows are built, ends. */
static void note_first(void *context, uint32_t iteration, gwtf_time_us now_us) {
    (void)now_us;
    double *first = context;
    if (iteration == 1)
        *first = processor_seconds();
}

int main(int argc, char **argv) {
    const char *standard[] = {"run.iterations=100"};
    const char *const *overrides = argc > 1 ? (const char *const *)argv + 2 : standard;
    size_t count = argc > 1 ? (size_t)argc - 2 : 1;
    const char *path = argc > 1 ? argv[1] : "share/scenarios/ten-regions-1000.cfg";
    struct gwtf_scenario *scenario = NULL;
    struct gwtf_scenario_result result = {0};
    struct gwtf_error error = {""};
    gwtf_status status = gwtf_scenario_load(path, overrides, count, &scenario, &error);
    double first = 0, began = processor_seconds();
    if (status == GWTF_OK) {
        struct gwtf_scenario_options options = {
            .policy = scenario->flow.policy, .progress = note_first, .progress_context = &first};
        status = gwtf_scenario_run(scenario, &options, &result, &error);
    }
    if (status != GWTF_OK) {
        fprintf(stderr, "bench_simulation: %s\n", error.text);
        gwtf_scenario_destroy(scenario);
        return gwtf_status_exit_code(status);
    }
    double seconds = processor_seconds() - began;
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("%" PRIu32 " nodes, %" PRIu32 " iterations: %.2f s of processor time, %.2f of them in "
           "the first\n",
           result.nodes, result.iterations, seconds, first - began);
    printf("%" PRIu64 " events (%.0f per second), %" PRIu64 " messages, %" PRIu64
           " of them of the flow algorithm\n",
           result.events, (double)result.events / seconds, result.messages, result.flow_messages);
    printf("%.2f GB of memory at most, trace %016" PRIx64 "\n", (double)used.ru_maxrss / 1e6,
           result.trace);
    gwtf_scenario_result_deinit(&result);
    gwtf_scenario_destroy(scenario);
    return 0;
}
