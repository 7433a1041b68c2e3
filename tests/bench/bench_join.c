/*
 * How good the stages are that gwtf_arrival_choose finds for nodes that join, in the experiment of
 * tests/support/join_run.h:
 *
 *     bench_join [--runs N] [--seed N] [--setting 1|2|3] [--json]
 *
 * For each run what a microbatch costs before, after the best choice, and after the one that was
 * chosen from what the stages' own nodes know; all three with exact flows. The best choice of one
 * joiner by trying all, of five by branch and bound: it is proven. Some seconds a run.
 */
#include "tests/bench/bench_join_best.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct setting {
    const char *name;
    struct join_setting setting;
    uint32_t joiners;
} settings[] = {
    {"97 nodes, 8 stages, one joiner", {12, 20, 100}, 1},
    {"33 nodes, 8 stages, five joiners", {4, 20, 100}, 5},
    {"97 nodes, 8 stages, one joiner, costs 1 to 100", {12, 1, 100}, 1},
};
#define SETTINGS (sizeof settings / sizeof settings[0])

struct options {
    uint64_t runs, seed;
    uint64_t setting; /* 0: all */
    bool json;
};

/* Costs per microbatch, of one run or summed over runs. */
struct costs {
    double before, best, chosen;
    double ratio; /* chosen over best */
};

static struct costs measure(const struct setting *setting, uint64_t seed) {
    static struct join_run run;
    struct gwtf_arrival chosen[GWTF_ARRIVALS_MAX];
    struct costs costs;
    join_run_init(&run, setting->setting, seed);
    uint32_t count =
        gwtf_arrival_choose(&run.known, run.candidates, JOIN_CANDIDATES, setting->joiners, chosen);
    costs.before = join_run_solve(&run, NULL, 0).per_microbatch;
    costs.chosen = join_run_solve(&run, chosen, count).per_microbatch;
    if (setting->joiners == 1) {
        struct gwtf_arrival best;
        costs.best = join_run_best_of_one(&run, &best).per_microbatch;
    } else {
        struct bench_join_best best = {0};
        memcpy(best.arrivals, chosen, count * sizeof chosen[0]);
        bench_join_find_best(&run, setting->joiners, &best);
        costs.best = best.per_microbatch;
    }
    costs.ratio = costs.chosen / costs.best;
    return costs;
}

static double percent_over(double ratio) {
    return 100 * (ratio - 1);
}

static void print_run(const struct options *options, uint64_t seed, const struct costs *costs) {
    if (options->json)
        printf("%s\n    {\"seed\": %llu, \"before\": %.6f, \"best\": %.6f, \"chosen\": %.6f}",
               seed > options->seed ? "," : "", (unsigned long long)seed, costs->before,
               costs->best, costs->chosen);
    else
        printf("  seed %3llu  before %8.3f  best %8.3f  chosen %8.3f  over best %5.2f %%\n",
               (unsigned long long)seed, costs->before, costs->best, costs->chosen,
               percent_over(costs->ratio));
    fflush(stdout);
}

static void print_means(const struct options *options, const struct costs *sum) {
    double runs = (double)options->runs, of_means = percent_over(sum->chosen / sum->best);
    double of_ratios = percent_over(sum->ratio / runs);
    if (options->json)
        printf("],\n   \"mean\": {\"before\": %.6f, \"best\": %.6f, \"chosen\": %.6f},\n"
               "   \"over_best_percent\": {\"of_means\": %.4f, \"mean\": %.4f}}",
               sum->before / runs, sum->best / runs, sum->chosen / runs, of_means, of_ratios);
    else
        printf("  mean      before %8.3f  best %8.3f  chosen %8.3f  over best: of means %.2f %%, "
               "mean %.2f %%\n",
               sum->before / runs, sum->best / runs, sum->chosen / runs, of_means, of_ratios);
}

static void run_setting(const struct options *options, const struct setting *setting) {
    struct costs sum = {0};
    if (options->json)
        printf("  {\"setting\": \"%s\", \"joiners\": %u, \"runs\": [", setting->name,
               setting->joiners);
    else
        printf("%s; cost per microbatch\n", setting->name);
    for (uint64_t seed = options->seed; seed < options->seed + options->runs; seed++) {
        struct costs costs = measure(setting, seed);
        print_run(options, seed, &costs);
        sum.before += costs.before;
        sum.best += costs.best;
        sum.chosen += costs.chosen;
        sum.ratio += costs.ratio;
    }
    print_means(options, &sum);
}

static void print_help(void) {
    printf("usage: bench_join [--runs N] [--seed N] [--setting N] [--json]\n\n"
           "  --runs N     random runs of each setting, 10\n"
           "  --seed N     of the first run, 1; the next ones follow\n"
           "  --setting N  only this one:\n");
    for (size_t i = 0; i < SETTINGS; i++)
        printf("                 %zu  %s\n", i + 1, settings[i].name);
    printf("  --json       print JSON\n"
           "  --help       print this\n");
}

static uint64_t parse(const char *name, const char *text, uint64_t lowest, uint64_t highest) {
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno == 0 && end != text && *end == '\0' && text[0] != '-' && number >= lowest &&
        number <= highest)
        return number;
    fprintf(stderr, "bench_join: --%s: '%s' is no number of %llu to %llu\n", name, text,
            (unsigned long long)lowest, (unsigned long long)highest);
    exit(2);
}

static struct options read_options(int argc, char **argv) {
    static const struct option known[] = {
        {"runs", required_argument, NULL, 'r'},    {"seed", required_argument, NULL, 's'},
        {"setting", required_argument, NULL, 'n'}, {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};
    struct options options = {.runs = 10, .seed = 1};
    for (int found; (found = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (found == 'r') {
            options.runs = parse("runs", optarg, 1, 1000000);
        } else if (found == 's') {
            options.seed = parse("seed", optarg, 0, UINT32_MAX);
        } else if (found == 'n') {
            options.setting = parse("setting", optarg, 1, SETTINGS);
        } else if (found == 'j') {
            options.json = true;
        } else if (found == 'h') {
            print_help();
            exit(0);
        } else {
            exit(2);
        }
    }
    if (optind < argc) {
        fprintf(stderr, "bench_join: '%s' is no option: see bench_join --help\n", argv[optind]);
        exit(2);
    }
    return options;
}

int main(int argc, char **argv) {
    struct options options = read_options(argc, argv);
    if (options.json)
        printf("[\n");
    for (size_t i = 0, printed = 0; i < SETTINGS; i++) {
        if (options.setting != 0 && options.setting != i + 1)
            continue;
        if (options.json && printed++ > 0)
            printf(",\n");
        run_setting(&options, &settings[i]);
    }
    if (options.json)
        printf("\n]\n");
    return 0;
}
