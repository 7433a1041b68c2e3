#include "worker/runtime/joiner.h"

#include "io/config.h"
#include "io/corpus.h"
#include "io/join.h"
#include "share/base/log.h"
#include "worker/runtime/clock.h"
#include "worker/runtime/machine.h"
#include "worker/runtime/pace.h"
#include "worker/runtime/setup.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_INTERVAL_US 50000
/* Those that asked before are let in first. */
#define PLACE_WAIT_US 600000000
#define PORT_WAIT_US 20000000
#define CONNECT_WAIT_S 20
#define TELL_INTERVAL_US 10000000

struct joiner {
    const struct gwtf_joiner_options *options;
    struct gwtf_join_request request;
    struct gwtf_join_place place;
    struct gwtf_charter *charter;
    MPI_Comm *worlds;
};

static void nap(void) {
    nanosleep(&(struct timespec){.tv_nsec = (long)LOOK_INTERVAL_US * 1000}, NULL);
}

static gwtf_status read_charter(struct joiner *joiner, struct gwtf_error *error) {
    char *bytes = NULL;
    size_t size = 0;
    gwtf_status status = gwtf_join_read_charter(joiner->options->directory, &bytes, &size, NULL);
    if (status != GWTF_OK)
        return gwtf_error_set(error, GWTF_ERROR_MISSING,
                              "'%s' lets nobody join: is it a run that trains now, with "
                              "run.places above 0?",
                              joiner->options->directory);
    status = gwtf_charter_unpack(bytes, size, joiner->charter);
    free(bytes);
    if (status == GWTF_ERROR_CORRUPT)
        return gwtf_error_set(error, GWTF_ERROR_MISSING,
                              "'%s' was started by another version of GWTF: use the same",
                              joiner->options->directory);
    return status == GWTF_OK ? GWTF_OK : gwtf_error_set(error, status, "out of memory");
}

/* Without it a place is given as to a node like the others. */
static void measure_self(struct joiner *joiner, const struct gwtf_config *config) {
    struct gwtf_setup setup;
    uint32_t threads = joiner->options->threads;
    threads = threads != 0 ? threads : gwtf_machine_cores();
    if (gwtf_setup_open_relay(config, &setup, NULL) != GWTF_OK)
        return;
    gwtf_config_set_device(&setup.config, joiner->options->device);
    if (gwtf_pace_measure(&setup, threads, &joiner->request.block_seconds, NULL) == GWTF_OK)
        gwtf_log(GWTF_LOG_INFO,
                 "measured: %.3g ms for a block's forward and backward pass of a microbatch, "
                 "with %u threads",
                 1e3 * joiner->request.block_seconds, threads);
    gwtf_setup_close(&setup);
}

/* What a data node is to train on can be read here, and is of the run's tokenizer, as far as the
 * run's own data can be seen from here. */
static gwtf_status check_data(const struct joiner *joiner, const struct gwtf_config *config,
                              struct gwtf_error *error) {
    const char *own = gwtf_joiner_own_data(joiner->options);
    struct gwtf_setup setup, runs;
    struct gwtf_error reason = {""};
    gwtf_status status = gwtf_setup_open_joined(config, own, &setup, &reason);
    if (status != GWTF_OK)
        return gwtf_error_set(error, status, "%.900s%s", reason.text,
                              own[0] != '\0' ? "" : "; or give this node data of its own (--data)");
    if (own[0] != '\0' && setup.tokenizer[0] != '\0' &&
        gwtf_setup_open_joined(config, "", &runs, NULL) == GWTF_OK) {
        if (runs.tokenizer[0] != '\0' && strcmp(setup.tokenizer, runs.tokenizer) != 0)
            status = gwtf_error_set(error, GWTF_ERROR_USAGE,
                                    "--data: '%.300s' was tokenized by %s, the run's data by %s: "
                                    "take the same",
                                    own, setup.tokenizer, runs.tokenizer);
        gwtf_setup_close(&runs);
    }
    if (status == GWTF_OK)
        gwtf_log(GWTF_LOG_INFO, "%s: %llu sequences of %u tokens",
                 own[0] != '\0' ? "its own data" : "the run's data",
                 (unsigned long long)gwtf_corpus_sequences(setup.train), setup.model.context);
    gwtf_setup_close(&setup);
    return status;
}

static gwtf_status prepare(struct joiner *joiner, struct gwtf_error *error) {
    struct gwtf_config *config = malloc(sizeof *config);
    if (config == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    gwtf_status status = gwtf_config_parse(joiner->charter->config, "the run's configuration", NULL,
                                           0, config, error);
    if (status == GWTF_OK && joiner->options->stage == GWTF_JOIN_DATA_NODE)
        status = check_data(joiner, config, error);
    else if (status == GWTF_OK)
        measure_self(joiner, config);
    free(config);
    return status;
}

static gwtf_status await_place(struct joiner *joiner, struct gwtf_error *error) {
    const char *directory = joiner->options->directory;
    gwtf_time_us start_us = gwtf_clock_now_us(), told_us = start_us;
    gwtf_status status = gwtf_join_write_request(directory, &joiner->request, error);
    if (status != GWTF_OK)
        return status;
    while (!gwtf_join_read_place(directory, joiner->request.token, &joiner->place)) {
        gwtf_time_us now_us = gwtf_clock_now_us();
        if (now_us - start_us > PLACE_WAIT_US)
            return gwtf_error_set(error, GWTF_ERROR_LINK,
                                  "no node of the run has answered for %d minutes: does it train "
                                  "(gwtf status)?",
                                  PLACE_WAIT_US / 60000000);
        if (now_us - told_us > TELL_INTERVAL_US) {
            gwtf_log(GWTF_LOG_INFO, "waiting for a place: others may be let in before");
            told_us = now_us;
        }
        nap();
    }
    if (joiner->place.node == GWTF_NODE_NONE)
        return gwtf_error_set(error, GWTF_ERROR_USAGE, "%s", joiner->place.why);
    return GWTF_OK;
}

/* MPI's connect waits for ever. */
static char stuck_words[512];

static void on_alarm(int number) {
    (void)number;
    ssize_t written = write(STDERR_FILENO, stuck_words, strlen(stuck_words));
    (void)written;
    _exit(1);
}

static gwtf_status connect_to(struct joiner *joiner, gwtf_node_id node, const char *port,
                              struct gwtf_error *error) {
    snprintf(stuck_words, sizeof stuck_words,
             "gwtf: node %u waits, but no connection to it comes about within %d s: open the way "
             "to its TCP ports in both directions (mpirun's --mca btl_tcp_port_min_v4 and "
             "btl_tcp_port_range_v4 say which), or name the interface "
             "(btl_tcp_if_include); its port: %.160s\n",
             node, CONNECT_WAIT_S, port);
    signal(SIGALRM, on_alarm);
    alarm(CONNECT_WAIT_S);
    int result = MPI_Comm_connect(port, MPI_INFO_NULL, 0, MPI_COMM_SELF, &joiner->worlds[node]);
    alarm(0);
    if (result == MPI_SUCCESS)
        return GWTF_OK;
    joiner->worlds[node] = MPI_COMM_NULL;
    return gwtf_error_set(error, GWTF_ERROR_LINK, "node %u cannot be reached at %.160s", node,
                          port);
}

/* The recorder strikes out those that are lost. */
static bool is_still_member(const struct joiner *joiner, gwtf_node_id node) {
    struct gwtf_join_place place;
    bool is_member = false;
    if (!gwtf_join_read_place(joiner->options->directory, joiner->request.token, &place))
        return true;
    for (size_t i = 0; i < place.members_count; i++)
        is_member = is_member || place.members[i] == node;
    free(place.members);
    return is_member;
}

static gwtf_status await_port(struct joiner *joiner, gwtf_node_id node, struct gwtf_error *error) {
    char port[GWTF_JOIN_PORT_MAX];
    gwtf_time_us start_us = gwtf_clock_now_us();
    while (!gwtf_join_read_port(joiner->options->directory, joiner->request.token, node, port)) {
        if (!is_still_member(joiner, node))
            return GWTF_OK;
        if (gwtf_clock_now_us() - start_us > PORT_WAIT_US)
            return gwtf_error_set(error, GWTF_ERROR_LINK,
                                  "node %u does not open a port for this one within %d s: is it "
                                  "still there, and does it see '%s' (gwtf status)?",
                                  node, PORT_WAIT_US / 1000000, joiner->options->directory);
        nap();
    }
    return connect_to(joiner, node, port, error);
}

static gwtf_status connect_to_all(struct joiner *joiner, struct gwtf_error *error) {
    gwtf_time_us start_us = gwtf_clock_now_us();
    gwtf_status status = GWTF_OK;
    for (size_t i = 0; i < joiner->place.members_count && status == GWTF_OK; i++) {
        gwtf_node_id node = joiner->place.members[i];
        if (node < joiner->charter->members_count && node != joiner->place.node)
            status = await_port(joiner, node, error);
    }
    if (status == GWTF_OK)
        gwtf_log(GWTF_LOG_INFO, "connected to %zu nodes in %.1f s", joiner->place.members_count,
                 (double)(gwtf_clock_now_us() - start_us) * 1e-6);
    return status;
}

/* What was every node's is this one's. */
static void complete_charter(struct joiner *joiner) {
    struct gwtf_charter *charter = joiner->charter;
    uint32_t cores = gwtf_machine_cores();
    charter->self = joiner->place.node;
    charter->enters = joiner->place.incarnation;
    charter->memory_bytes = gwtf_machine_free_bytes();
    charter->threads = joiner->options->threads != 0 ? joiner->options->threads : cores;
    charter->capacity = joiner->options->capacity;
    charter->snapshot[0] = '\0';
}

static gwtf_status enter(struct joiner *joiner, struct gwtf_error *error) {
    gwtf_status status = read_charter(joiner, error);
    if (status == GWTF_OK)
        status = prepare(joiner, error);
    if (status == GWTF_OK)
        status = await_place(joiner, error);
    if (status != GWTF_OK)
        return status;
    if (joiner->place.stage == 0)
        gwtf_log(GWTF_LOG_INFO, "node %u, a data node: %s", joiner->place.node, joiner->place.why);
    else
        gwtf_log(GWTF_LOG_INFO, "node %u, in stage %u: %s", joiner->place.node, joiner->place.stage,
                 joiner->place.why);
    size_t count = joiner->charter->members_count;
    joiner->worlds = calloc(count, sizeof *joiner->worlds);
    if (joiner->worlds == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    for (size_t i = 0; i < count; i++)
        joiner->worlds[i] = MPI_COMM_NULL;
    status = connect_to_all(joiner, error);
    complete_charter(joiner);
    return status;
}

const char *gwtf_joiner_own_data(const struct gwtf_joiner_options *options) {
    return strcmp(options->data, GWTF_JOINER_NO_DATA) == 0 ? "" : options->data;
}

gwtf_status gwtf_joiner_enter(const struct gwtf_joiner_options *options,
                              struct gwtf_charter *charter, MPI_Comm **worlds,
                              struct gwtf_error *error) {
    struct joiner joiner = {.options = options, .charter = charter};
    memset(charter, 0, sizeof *charter);
    gwtf_machine_name(joiner.request.host, sizeof joiner.request.host);
    joiner.request.pid = getpid();
    joiner.request.stage = options->stage;
    joiner.request.stays = options->stays;
    snprintf(joiner.request.token, sizeof joiner.request.token, "%s", options->token);
    gwtf_status status = enter(&joiner, error);
    /* The recorder lets in the next one when this one is a member: its place stays until then. */
    if (status == GWTF_OK)
        gwtf_join_remove_request(options->directory, joiner.request.token);
    else
        gwtf_join_remove(options->directory, joiner.request.token);
    free(joiner.place.members);
    if (status == GWTF_OK) {
        *worlds = joiner.worlds;
        return GWTF_OK;
    }
    free(joiner.worlds);
    gwtf_charter_deinit(charter);
    return status;
}
