/* gwtf route: the flow algorithm alone on an instance, held against the optimum. */
#include "worker/simulation/route.h"
#include "flow/optimal.h"
#include "io/instance.h"
#include "io/json.h"
#include "io/nearest.h"
#include "launcher/commands.h"
#include "launcher/options.h"
#include "worker/runtime/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_DEFAULT 5000.0
#define VIEW_DEFAULT 32
#define PROGRESS_US 200000
/* The checker takes longer than the step; tests look at each. */
#define CHECK_EVERY 61

static const struct gwtf_usage usage = {
    .command = "route",
    .arguments = "INSTANCE | --generate RECIPE [OPTION...]",
    .summary =
        "Lets the nodes of a flow instance find their flows in virtual time, without training, "
        "and\n"
        "prints what they found beside the optimum: flow, cost, largest path cost, rounds until\n"
        "settled, messages. INSTANCE is a libconfig file (--output writes one), RECIPE makes one "
        "by\n"
        "chance: relays=60,stages=6,data_nodes=2,capacity=1..20,data_capacity=30..40,cost=1..700,\n"
        "missing=0.1,asymmetric=true,seed=3, of which all may be left out. Without data_capacity\n"
        "the data nodes together can carry 1.2 times what the tightest stage can, in even parts.\n"
        "A round is a tick of the nodes, 0.2 s; a message takes a fortieth of it.\n",
    .example =
        "  gwtf route instance.cfg --seed 7 --loss 0.05\n"
        "  gwtf route --generate relays=400,stages=12,missing=0.1 --kill 17@40 --revive 17@80\n"
        "  gwtf route --generate relays=60,stages=6 --output instance.cfg --policy optimal\n",
    .arguments_least = 0,
    .arguments_most = 1,
};

struct route_options {
    const char *recipe, *output, *policy, *objective, *seed, *rounds, *loss, *doubling, *delay,
        *view, *trace;
    struct gwtf_option_list kills, revivals, links;
    bool no_optimum, json;
};

/* What a call is about. */
struct work {
    gwtf_flow_instance *instance;
    struct gwtf_instance_facts facts;
    struct gwtf_route_config config;
    bool optimal; /* the solver in place of a policy */
    double rounds;
    gwtf_route *route;
    FILE *trace;
    const struct route_options *options;
};

/* --- Reading options. --- */

static int read_policy(const char *word, struct work *work) {
    const char *nearest = "optimal";
    work->optimal = word != NULL && strcmp(word, "optimal") == 0;
    for (int i = 0; word != NULL && gwtf_flow_policy_words[i] != NULL; i++) {
        const char *known = gwtf_flow_policy_words[i];
        if (strcmp(word, known) == 0)
            work->config.policy = (enum gwtf_flow_policy)i;
        if (gwtf_nearest_distance(word, known) < gwtf_nearest_distance(word, nearest))
            nearest = known;
    }
    if (word == NULL || strcmp(word, nearest) == 0)
        return 0;
    return gwtf_fail(GWTF_ERROR_USAGE, "--policy is '%s': did you mean '%s'? See gwtf route --help",
                     word, nearest);
}

static int read_objective(const char *word, struct work *work) {
    bool max = word != NULL && strcmp(word, "max") == 0;
    if (word != NULL && !max && strcmp(word, "sum") != 0)
        return gwtf_fail(GWTF_ERROR_USAGE, "--objective is '%s': give sum or max", word);
    if (max && (work->optimal || (work->config.policy != GWTF_FLOW_POLICY_GWTF &&
                                  work->config.policy != GWTF_FLOW_POLICY_GWTF_PAPER)))
        return gwtf_fail(GWTF_ERROR_USAGE, "--objective max is for policies gwtf and gwtf-paper: "
                                           "leave --policy away, or give one of them");
    work->config.objective = max ? GWTF_FLOW_OBJECTIVE_MAX : GWTF_FLOW_OBJECTIVE_SUM;
    return 0;
}

static int read_options(const struct route_options *options, struct work *work) {
    double seed = 1, view = VIEW_DEFAULT;
    work->options = options;
    work->rounds = ROUNDS_DEFAULT;
    int code = read_policy(options->policy, work);
    if (code == 0)
        code = read_objective(options->objective, work);
    if (code == 0)
        code = gwtf_option_number("seed", options->seed, 0, 9e15, true, &seed);
    if (code == 0)
        code = gwtf_option_number("rounds", options->rounds, 0, 1e6, false, &work->rounds);
    if (code == 0)
        code = gwtf_option_number("loss", options->loss, 0, 0.99, false, &work->config.loss);
    if (code == 0)
        code = gwtf_option_number("double", options->doubling, 0, 1, false, &work->config.doubling);
    if (code == 0)
        code = gwtf_option_number("delay", options->delay, 0, 1, false, &work->config.delay);
    if (code == 0)
        code = gwtf_option_number("view", options->view, 0, 100000, true, &view);
    if (code == 0 && options->output != NULL && options->recipe == NULL)
        code = gwtf_fail(GWTF_ERROR_USAGE,
                         "--output is given without an instance to make: add --generate");
    work->config.seed = (uint64_t)seed;
    work->config.view = (uint32_t)view;
    work->config.check_every = CHECK_EVERY;
    return code;
}

static int read_instance(const struct route_options *options, const char *path, struct work *work) {
    struct gwtf_error error;
    gwtf_status status;
    if ((path == NULL) == (options->recipe == NULL))
        return gwtf_fail(GWTF_ERROR_USAGE, "route: %s: give an instance or --generate",
                         path == NULL ? "an argument is missing" : "there are two instances");
    if (path != NULL) {
        status = gwtf_instance_read(path, &work->instance, &work->facts, &error);
        return status == GWTF_OK ? 0 : gwtf_fail(status, "%s", error.text);
    }
    struct gwtf_flow_recipe recipe;
    status = gwtf_instance_parse_recipe(options->recipe, "--generate", &recipe, &error);
    if (status == GWTF_OK) {
        status = gwtf_flow_generate(&recipe, &work->instance);
        gwtf_error_set(&error, status, "--generate: no memory: ask for fewer relays");
    }
    bool found = false;
    if (status == GWTF_OK && gwtf_flow_instance_find_path(work->instance, &found) == GWTF_OK &&
        !found)
        status = gwtf_error_set(&error, GWTF_ERROR_USAGE,
                                "--generate: no way leads over all stages: ask for more relays, "
                                "fewer missing links or another seed");
    if (status == GWTF_OK && options->output != NULL) {
        snprintf(work->facts.name, sizeof work->facts.name, "relays%" PRIu32 "-stages%" PRIu32,
                 recipe.relays, recipe.stages);
        status = gwtf_instance_write(options->output, work->instance, &work->facts, &error);
    }
    return status == GWTF_OK ? 0 : gwtf_fail(status, "%s", error.text);
}

/* A whole number before BETWEEN; *TEXT then stands after it. */
static bool take_node(const char **text, char between, uint32_t *node) {
    char *end = NULL;
    errno = 0;
    unsigned long value = strtoul(*text, &end, 10);
    if (**text < '0' || **text > '9' || errno != 0 || value >= UINT32_MAX || *end != between)
        return false;
    *node = (uint32_t)value;
    *text = end + 1;
    return true;
}

/* NODE@ROUND, or FROM-TO=COST@ROUND. */
static bool parse_change(const char *text, struct gwtf_route_change *change) {
    if (change->kind != GWTF_ROUTE_LINK)
        return take_node(&text, '@', &change->node) && gwtf_option_real(text, &change->round);
    uint32_t cost = 0;
    change->cost = GWTF_FLOW_NO_LINK;
    if (!take_node(&text, '-', &change->node) || !take_node(&text, '=', &change->peer))
        return false;
    if (strncmp(text, "cut@", 4) == 0)
        return gwtf_option_real(text + 4, &change->round);
    if (!take_node(&text, '@', &cost) || cost > INT32_MAX)
        return false;
    change->cost = (int32_t)cost;
    return gwtf_option_real(text, &change->round);
}

static int plan(struct work *work, const struct gwtf_option_list *list,
                enum gwtf_route_change_kind kind, const char *name) {
    for (size_t i = 0; i < list->count; i++) {
        struct gwtf_route_change change = {.kind = kind};
        bool is_link = kind == GWTF_ROUTE_LINK;
        if (!parse_change(list->items[i], &change))
            return gwtf_fail(GWTF_ERROR_USAGE, "--%s is '%s': write %s", name, list->items[i],
                             is_link ? "FROM-TO=COST@ROUND or FROM-TO=cut@ROUND, like 3-9=120@50"
                                     : "NODE@ROUND, like 17@40");
        gwtf_status status = gwtf_route_plan(work->route, &change);
        if (status == GWTF_ERROR_USAGE)
            return gwtf_fail(status, "--%s is '%s': give %s", name, list->items[i],
                             is_link ? "a node and one of the stage after it, and a round from 0"
                                     : "a node of the instance and a round from 0");
        if (status != GWTF_OK)
            return gwtf_fail(status, "route: no memory: free some");
    }
    return 0;
}

/* --- Running. --- */

/* A line for each change of a flow table: the whole table of the node afterwards. */
static void write_trace(void *context, gwtf_time_us now_us, gwtf_node_id node,
                        const gwtf_flow *flow) {
    struct work *work = context;
    size_t count = gwtf_flow_hops(flow, NULL, 0);
    struct gwtf_flow_hop *hops = calloc(count + 1, sizeof *hops);
    if (hops == NULL)
        return;
    (void)gwtf_flow_hops(flow, hops, count);
    fprintf(work->trace, "round %.3f  node %" PRIu32 "  stage %" PRIu32 "  %zu hops:",
            (double)now_us / GWTF_ROUTE_TICK_US, node,
            gwtf_flow_instance_stage(work->instance, node), count);
    for (size_t i = 0; i < count; i++) {
        char from[16] = "-", to[16] = "-";
        if (hops[i].from != GWTF_NODE_NONE)
            snprintf(from, sizeof from, "%" PRIu32, hops[i].from);
        if (hops[i].to != GWTF_NODE_NONE)
            snprintf(to, sizeof to, "%" PRIu32, hops[i].to);
        fprintf(work->trace, "  %s>%s to %" PRIu32, from, to, hops[i].sink);
    }
    fputc('\n', work->trace);
    free(hops);
}

static void show_progress(const struct work *work) {
    struct gwtf_route_totals totals = gwtf_route_get_totals(work->route);
    fprintf(stderr, "\r\033[Kround %.0f  flow %" PRIu32 "  cost %" PRId64 "  messages %" PRIu64,
            totals.round, totals.flow, totals.cost, totals.messages + totals.messages_after);
}

static int run(struct work *work) {
    bool terminal = isatty(STDERR_FILENO) != 0;
    gwtf_time_us shown_us = gwtf_clock_now_us();
    gwtf_status status = GWTF_OK;
    for (double round = 1; status == GWTF_OK && !gwtf_route_is_settled(work->route); round++) {
        status = gwtf_route_run(work->route, round < work->rounds ? round : work->rounds);
        if (terminal && gwtf_clock_now_us() - shown_us >= PROGRESS_US) {
            show_progress(work);
            shown_us = gwtf_clock_now_us();
        }
        if (round >= work->rounds)
            break;
    }
    if (terminal)
        fputs("\r\033[K", stderr);
    if (status == GWTF_ERROR_RUN)
        return gwtf_fail(status, "the flow algorithm broke a promise: %s: please report it",
                         gwtf_route_failure(work->route));
    return status == GWTF_OK ? 0 : gwtf_fail(status, "route: no memory: use fewer relays");
}

/* --- Printing. --- */

static void print_json(const struct work *work, const struct gwtf_route_totals *totals,
                       const struct gwtf_flow_optimum *optimum) {
    uint32_t nodes = gwtf_flow_instance_nodes(work->instance), data_nodes = 0;
    (void)gwtf_flow_instance_stage_nodes(work->instance, 0, &data_nodes);
    struct gwtf_json json;
    char trace[32];
    gwtf_json_start(&json, stdout);
    gwtf_json_open(&json, NULL, '{');
    gwtf_json_text(&json, "policy",
                   work->optimal ? "optimal" : gwtf_flow_policy_words[work->config.policy]);
    gwtf_json_count(&json, "seed", work->config.seed);
    gwtf_json_count(&json, "relays", nodes - data_nodes);
    gwtf_json_count(&json, "data_nodes", data_nodes);
    gwtf_json_count(&json, "stages", gwtf_flow_instance_stages(work->instance));
    gwtf_json_count(&json, "flow", totals->flow);
    gwtf_json_count(&json, "cost", (uint64_t)totals->cost);
    gwtf_json_count(&json, "max_path_cost", (uint64_t)totals->max_path);
    if (optimum != NULL) {
        gwtf_json_count(&json, "optimal_flow", optimum->flow_bound);
        gwtf_json_count(&json, "optimal_cost", (uint64_t)optimum->cost_bound);
        gwtf_json_count(&json, "optimal_max_path_cost", (uint64_t)optimum->max_path_bound);
        gwtf_json_flag(&json, "optimal_exact", optimum->exact);
        gwtf_json_count(&json, "found_flow", optimum->flow);
        gwtf_json_count(&json, "found_cost", (uint64_t)optimum->cost);
        gwtf_json_count(&json, "found_max_path_cost", (uint64_t)optimum->max_path);
        if (totals->flow == optimum->flow_bound && optimum->cost_bound > 0)
            gwtf_json_real(&json, "ratio", (double)totals->cost / (double)optimum->cost_bound);
        else
            gwtf_json_null(&json, "ratio");
    }
    gwtf_json_flag(&json, "settled", totals->settled);
    gwtf_json_real(&json, "rounds", totals->rounds);
    gwtf_json_real(&json, "seconds", totals->rounds * GWTF_ROUTE_TICK_US / 1e6);
    gwtf_json_count(&json, "messages", totals->messages);
    gwtf_json_real(&json, "messages_per_node", (double)totals->messages / nodes);
    gwtf_json_count(&json, "bytes", totals->bytes);
    gwtf_json_count(&json, "messages_after", totals->messages_after);
    gwtf_json_real(&json, "rounds_since_change", totals->rounds_since);
    gwtf_json_count(&json, "messages_since_change", totals->messages_since);
    gwtf_json_count(&json, "dangling", totals->dangling);
    gwtf_json_count(&json, "table_changes", totals->table_changes);
    gwtf_json_count(&json, "steps", totals->steps);
    snprintf(trace, sizeof trace, "%016" PRIx64, totals->trace);
    gwtf_json_text(&json, "trace", trace);
    gwtf_json_close(&json);
    gwtf_json_end(&json);
}

static void print_optimum(const struct gwtf_route_totals *totals,
                          const struct gwtf_flow_optimum *optimum) {
    const char *at_most = optimum->flow < optimum->flow_bound ? "at most " : "";
    printf("flow          %" PRIu32 ", optimum %s%" PRIu32 "\n", totals->flow, at_most,
           optimum->flow_bound);
    printf("cost          %" PRId64 ", optimum %s%" PRId64, totals->cost,
           optimum->exact ? "" : "at least ", optimum->cost_bound);
    if (totals->flow == optimum->flow_bound && optimum->cost_bound > 0)
        printf(", ratio %.4f", (double)totals->cost / (double)optimum->cost_bound);
    if (!optimum->exact)
        printf(" (best known: %" PRIu32 " at %" PRId64 ")", optimum->flow, optimum->cost);
    printf("\nlargest path  %" PRId64 ", optimum %s%" PRId64 "\n", totals->max_path,
           optimum->max_path == optimum->max_path_bound ? "" : "at least ",
           optimum->max_path_bound);
}

static void print_text(const struct work *work, const struct gwtf_route_totals *totals,
                       const struct gwtf_flow_optimum *optimum) {
    uint32_t nodes = gwtf_flow_instance_nodes(work->instance), data_nodes = 0;
    (void)gwtf_flow_instance_stage_nodes(work->instance, 0, &data_nodes);
    printf("instance      %s%s%" PRIu32 " relays in %" PRIu32 " stages, %" PRIu32 " data node%s\n",
           work->facts.name, work->facts.name[0] != '\0' ? ": " : "", nodes - data_nodes,
           gwtf_flow_instance_stages(work->instance), data_nodes, data_nodes == 1 ? "" : "s");
    if (optimum != NULL)
        print_optimum(totals, optimum);
    else
        printf("flow          %" PRIu32 "\ncost          %" PRId64 "\nlargest path  %" PRId64 "\n",
               totals->flow, totals->cost, totals->max_path);
    if (work->optimal)
        return;
    if (totals->settled)
        printf("settled       after %.1f rounds (%.2f s)\n", totals->rounds,
               totals->rounds * GWTF_ROUTE_TICK_US / 1e6);
    else
        printf("settled       no, stopped after %.1f rounds: more with --rounds\n", totals->round);
    if (totals->dangling > 0)
        printf("dangling      %" PRIu32 " hops that are part of no flow\n", totals->dangling);
    printf("messages      %" PRIu64 " (%.1f a node), %" PRIu64 " bytes; %" PRIu64
           " more in the %.1f rounds after\n",
           totals->messages, (double)totals->messages / nodes, totals->bytes,
           totals->messages_after, totals->round - totals->rounds);
}

/* The optimum of INSTANCE; with --policy optimal it is the result too. */
static int hold_against_optimum(const struct work *work, const gwtf_flow_instance *instance,
                                struct gwtf_route_totals *totals) {
    struct gwtf_flow_optimum optimum;
    bool wanted = work->optimal || !work->options->no_optimum;
    if (wanted && gwtf_flow_solve(instance, &optimum, NULL) != GWTF_OK)
        return gwtf_fail(GWTF_ERROR_MEMORY, "route: no memory for the optimum: use --no-optimum");
    if (work->optimal)
        *totals = (struct gwtf_route_totals){.settled = true,
                                             .flow = optimum.flow,
                                             .cost = optimum.cost,
                                             .max_path = optimum.max_path};
    if (work->options->json)
        print_json(work, totals, wanted ? &optimum : NULL);
    else
        print_text(work, totals, wanted ? &optimum : NULL);
    return 0;
}

static int route(struct work *work) {
    struct gwtf_route_totals totals = {0};
    if (work->optimal)
        return hold_against_optimum(work, work->instance, &totals);
    const struct route_options *options = work->options;
    if (gwtf_route_create(work->instance, &work->config, &work->route) != GWTF_OK)
        return gwtf_fail(GWTF_ERROR_MEMORY, "route: no memory: use fewer relays");
    int code = plan(work, &options->kills, GWTF_ROUTE_KILL, "kill");
    if (code == 0)
        code = plan(work, &options->revivals, GWTF_ROUTE_REVIVE, "revive");
    if (code == 0)
        code = plan(work, &options->links, GWTF_ROUTE_LINK, "link");
    if (code == 0)
        code = run(work);
    if (code != 0)
        return code;
    totals = gwtf_route_get_totals(work->route);
    return hold_against_optimum(work, gwtf_route_instance(work->route), &totals);
}

static int open_trace(struct work *work) {
    if (work->options->trace == NULL)
        return 0;
    work->trace = fopen(work->options->trace, "w");
    if (work->trace == NULL)
        return gwtf_fail(GWTF_ERROR_USAGE, "cannot write '%s': %s: check the path",
                         work->options->trace, strerror(errno));
    work->config.changed = write_trace;
    work->config.context = work;
    return 0;
}

static const char *policies_text(char *text, size_t size) {
    size_t length = 0;
    for (int i = 0; gwtf_flow_policy_words[i] != NULL && length < size; i++)
        length += (size_t)snprintf(text + length, size - length, "%s, ", gwtf_flow_policy_words[i]);
    if (length < size)
        snprintf(text + length, size - length, "or optimal: the solver; gwtf");
    return text;
}

int gwtf_command_route(int argc, char **argv) {
    struct route_options given = {0};
    char policies[128];
    int code;
    const struct gwtf_option options[] = {
        {.name = "generate",
         .argument = "RECIPE",
         .help = "make an instance",
         .value = &given.recipe},
        {.name = "output", .argument = "FILE", .help = "where to write it", .value = &given.output},
        {.name = "policy",
         .argument = "WORD",
         .help = policies_text(policies, sizeof policies),
         .value = &given.policy},
        {.name = "objective",
         .argument = "WORD",
         .help = "sum (default), or max: then the dearest flow's cost",
         .value = &given.objective},
        {.name = "seed", .argument = "N", .help = "of the simulation; 1", .value = &given.seed},
        {.name = "rounds",
         .argument = "R",
         .help = "stop there at the latest; 5000",
         .value = &given.rounds},
        {.name = "loss",
         .argument = "P",
         .help = "probability that a message is lost; 0",
         .value = &given.loss},
        {.name = "double",
         .argument = "P",
         .help = "that it comes twice; 0",
         .value = &given.doubling},
        {.name = "delay",
         .argument = "P",
         .help = "that it takes up to 20 times longer; 0",
         .value = &given.delay},
        {.name = "view",
         .argument = "N",
         .help = "nodes of each neighbouring stage known at the start; 32, 0: all",
         .value = &given.view},
        {.name = "kill",
         .argument = "NODE@ROUND",
         .help = "a node dies then; may be repeated",
         .list = &given.kills},
        {.name = "revive",
         .argument = "NODE@ROUND",
         .help = "a dead node comes back then",
         .list = &given.revivals},
        {.name = "link",
         .argument = "FROM-TO=COST@ROUND",
         .help = "a link costs COST from then on, or is cut",
         .list = &given.links},
        {.name = "no-optimum", .help = "do not look for the optimum", .flag = &given.no_optimum},
        {.name = "trace",
         .argument = "FILE",
         .help = "a line for each change of a flow table",
         .value = &given.trace},
        {.name = "json", .help = "print the result as JSON", .flag = &given.json},
        {0}};
    if (!gwtf_options_parse(&usage, options, argc, argv, &code))
        return code;
    struct work work = {0};
    code = read_options(&given, &work);
    if (code == 0)
        code = read_instance(&given, optind < argc ? argv[optind] : NULL, &work);
    if (code == 0)
        code = open_trace(&work);
    if (code == 0)
        code = route(&work);
    if (work.trace != NULL && fclose(work.trace) != 0 && code == 0)
        code = gwtf_fail(GWTF_ERROR_IO, "cannot write '%s': free some space", given.trace);
    gwtf_route_destroy(work.route);
    gwtf_flow_instance_destroy(work.instance);
    return code;
}
