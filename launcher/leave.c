/* gwtf leave: asks a node of a run to leave, by a file in the run's directory, and says how it
 * went.
 */
#include "io/run.h"
#include "launcher/commands.h"
#include "launcher/options.h"
#include "worker/runtime/notice.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOOK_MS 100
/* A node that does not see the directory, or stands still, says nothing for so long. */
#define SILENCE_S 20.0

static const struct gwtf_usage usage = {
    .command = "leave",
    .arguments = "RUN NODE [--notice SECONDS]",
    .summary =
        "Asks a node to leave a run that is training: it finishes the iteration under way, and "
        "the\n"
        "others go on without it; nothing is lost or computed again. Where it is the last node of\n"
        "its stage, or the others need longer, it stays as long as its notice lets it; then it "
        "goes\n"
        "all the same, and the others take it for lost. gwtf status says which nodes there are.\n"
        "SIGTERM and SIGUSR1 to a worker's process ask the same, outside of Slurm.\n",
    .example = "  gwtf leave runs/small 3\n"
               "  gwtf leave runs/small 3 --notice 120\n",
    .arguments_least = 2,
    .arguments_most = 2,
};

/* What NODE says of itself; false: there is no such node. */
static bool read_node(const char *run, gwtf_node_id node, struct gwtf_node_state *state,
                      size_t *count, gwtf_status *status, struct gwtf_error *error) {
    struct gwtf_node_state *nodes = NULL;
    bool found = false;
    *status = gwtf_run_read_nodes(run, &nodes, count, error);
    for (size_t i = 0; *status == GWTF_OK && i < *count; i++) {
        if (nodes[i].node != node)
            continue;
        *state = nodes[i];
        found = true;
    }
    free(nodes);
    return found;
}

struct words {
    gwtf_node_id node;
    char kind[32];
    char text[256];
};

/* The newest event about the node that says how its leaving goes. */
static void note_event(void *context, const struct gwtf_run_event *event) {
    struct words *words = context;
    bool is_word = strcmp(event->kind, "leaving") == 0 || strcmp(event->kind, "stays") == 0 ||
                   strcmp(event->kind, "left") == 0 || strcmp(event->kind, "notice_over") == 0;
    if (event->node != words->node || !is_word)
        return;
    snprintf(words->kind, sizeof words->kind, "%s", event->kind);
    snprintf(words->text, sizeof words->text, "%s", event->text);
    printf("node %" PRIu32 ": %s\n", words->node, words->text);
    fflush(stdout);
}

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Until it has left, or should have for long. */
static int follow(const char *run, gwtf_node_id node, double notice_s, uint64_t offset) {
    struct words words = {.node = node};
    struct gwtf_node_state state;
    struct gwtf_error error;
    gwtf_status status;
    size_t count;
    double start_s = now_s();
    while (now_s() - start_s < notice_s + SILENCE_S) {
        if (gwtf_run_read_events(run, &offset, note_event, &words, &error) != GWTF_OK)
            return gwtf_fail(GWTF_ERROR_IO, "%s", error.text);
        if (strcmp(words.kind, "left") == 0 || strcmp(words.kind, "notice_over") == 0)
            return 0;
        if (read_node(run, node, &state, &count, &status, &error) &&
            (state.phase == GWTF_NODE_FINISHED || state.phase == GWTF_NODE_FAILED)) {
            printf("node %" PRIu32 ": the run ended first\n", node);
            return 0;
        }
        nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
    }
    return gwtf_fail(GWTF_ERROR_PEER,
                     "node %" PRIu32
                     " says nothing of leaving: does its machine see '%s', and does "
                     "the run still train (gwtf status)?",
                     node, run);
}

int gwtf_command_leave(int argc, char **argv) {
    const char *notice = NULL;
    double notice_s = GWTF_NOTICE_S, number;
    int code;
    const struct gwtf_option options[] = {{.name = "notice",
                                           .argument = "SECONDS",
                                           .help = "when it goes, whether it may or not; 30",
                                           .value = &notice},
                                          {0}};
    if (!gwtf_options_parse(&usage, options, argc, argv, &code))
        return code;
    code = gwtf_option_number("notice", notice, 1, 86400, false, &notice_s);
    if (code != 0)
        return code;
    const char *run = argv[optind];
    if (!gwtf_option_real(argv[optind + 1], &number) || number < 0 || number != floor(number) ||
        number >= GWTF_NODE_NONE)
        return gwtf_fail(GWTF_ERROR_USAGE, "'%s' is not a node: give its number, as in gwtf status",
                         argv[optind + 1]);
    gwtf_node_id node = (gwtf_node_id)number;
    struct gwtf_node_state state;
    struct gwtf_error error;
    gwtf_status status;
    size_t count = 0;
    bool found = read_node(run, node, &state, &count, &status, &error);
    if (status != GWTF_OK)
        return gwtf_fail(status, "%s", error.text);
    if (!found)
        return gwtf_fail(GWTF_ERROR_USAGE,
                         "'%s' has no node %" PRIu32 ": gwtf status says which there are", run,
                         node);
    if (gwtf_node_has_ended(&state))
        return gwtf_fail(GWTF_ERROR_USAGE, "node %" PRIu32 " of '%s' has ended already (%s)", node,
                         run, gwtf_node_phase_name(state.phase));
    uint64_t offset = 0;
    struct words none = {.node = GWTF_NODE_NONE};
    status = gwtf_run_read_events(run, &offset, note_event, &none, &error);
    if (status == GWTF_OK)
        status =
            gwtf_run_request_leave(run, node, &(struct gwtf_leave){.notice_s = notice_s}, &error);
    if (status != GWTF_OK)
        return gwtf_fail(status, "%s", error.text);
    return follow(run, node, notice_s, offset);
}
