/* Prints what a scenario's run came to, for tests/simulation/same_trace.sh: usage: trace_of FILE
 * [OVERRIDE...] */
#include "worker/simulation/scenario.h"

#include <inttypes.h>
#include <stdio.h>

int main(int argc, char **argv) {
    struct gwtf_scenario *scenario = NULL;
    struct gwtf_error error = {""};
    const char *const *overrides = (const char *const *)argv + 2;
    if (argc < 2 ||
        gwtf_scenario_load(argv[1], overrides, (size_t)argc - 2, &scenario, &error) != GWTF_OK) {
        fprintf(stderr, "trace_of: %s\n", error.text);
        return 2;
    }
    for (int policy = 0; policy < GWTF_FLOW_POLICIES; policy++) {
        struct gwtf_scenario_options options = {.policy = (enum gwtf_flow_policy)policy};
        struct gwtf_scenario_result result = {0};
        if (gwtf_scenario_run(scenario, &options, &result, &error) != GWTF_OK) {
            fprintf(stderr, "trace_of: %s\n", error.text);
            gwtf_scenario_destroy(scenario);
            return 1;
        }
        printf("%s %016" PRIx64 " %.17g %.17g\n", gwtf_flow_policy_words[policy], result.trace,
               result.seconds_per_iteration, result.wasted_compute);
        gwtf_scenario_result_deinit(&result);
    }
    gwtf_scenario_destroy(scenario);
    return 0;
}
