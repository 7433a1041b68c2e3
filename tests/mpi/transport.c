/*
 * Started by mpirun with several ranks: every rank sends every other one messages with and without
 * tensors, in a seeded mix; receivers take some tensors and throw others away. Each rank says
 * "whole" when everything came once, in order and unchanged: mpirun's exit code is none to trust.
 * With the argument "emulate" all of it goes over an emulated network, and must not be there before
 * that lets it through. With "forget" rank 0 takes the others for lost while a tensor of each is
 * coming, and finds that they do not write into its memory any more. With "died" rank 1 is killed,
 * and rank 0 sends to it again and again before MPI has seen that: MPI must come back from its next
 * calls.
 * With "reopen" all send a tensor, knock, and begin new channels with those that have knocked,
 * wherever the tensors are; what goes over those must be as whole as over the first.
 */
#include "worker/runtime/transport.h"
#include "share/base/log.h"
#include "share/base/random.h"
#include "worker/runtime/clock.h"
#include "worker/runtime/frame.h"

#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RANKS_MAX 8
#define MESSAGES 60
#define SENDS_TO_THE_DEAD 8
#define CALLS_AFTER 10000
#define TENSOR_MAX (3u * GWTF_PIECE_BYTES + 17)
#define DEADLINE_US 60000000
#define EMULATED_LATENCY_US 50000
#define EMULATED_BYTES_PER_SECOND 20000000

struct state {
    int self;
    int ranks;
    gwtf_transport *transport;
    uint32_t messages_got[RANKS_MAX];
    uint32_t tensors_due;
    uint32_t tensors_got;
    uint32_t sends_due;
    uint32_t sends_done;
    uint32_t heard;
    int emulates;
    unsigned char *in[RANKS_MAX * MESSAGES]; /* where a taken tensor goes; ticket: index */
    uint64_t in_bytes[RANKS_MAX * MESSAGES];
    gwtf_time_us began_us[RANKS_MAX]; /* by peer: when it handed over its first message */
    uint64_t bytes_before[RANKS_MAX * MESSAGES]; /* by ticket: of the peer's tensors up to it */
    uint64_t bytes_announced[RANKS_MAX];
    unsigned char *out[RANKS_MAX * MESSAGES];
    int failures;
};

static void expect(struct state *state, int good, const char *what, int peer, uint32_t number) {
    if (good)
        return;
    state->failures++;
    gwtf_log(GWTF_LOG_ERROR, "rank %d, peer %d, message %u: %s", state->self, peer, number, what);
}

static uint64_t key_of(int from, int to) {
    return gwtf_random_key((uint64_t)from + 1, (uint64_t)to + 1);
}

/* Size of the tensor behind message NUMBER: a third have none, some are a few pieces long. */
static uint64_t tensor_bytes(int from, int to, uint32_t number) {
    uint64_t random = gwtf_random_at(key_of(from, to), number);
    if (random % 3 == 0)
        return 0;
    return 1 + (random >> 8) % (random % 3 == 1 ? 1000 : TENSOR_MAX);
}

static int is_taken(int from, int to, uint32_t number) {
    return gwtf_random_at(key_of(from, to), 1000 + number) % 4 != 0;
}

static unsigned char byte_at(int from, int to, uint32_t number, uint64_t at) {
    return (unsigned char)(number * 31u + at * 7u + at / 4096 + (uint64_t)(from * 5 + to));
}

static void send_all(struct state *state, int to) {
    for (uint32_t number = 0; number < MESSAGES; number++) {
        uint64_t bytes = tensor_bytes(state->self, to, number);
        struct gwtf_message message;
        memset(&message, 0, sizeof message);
        message.kind = GWTF_MESSAGE_FORWARD;
        message.iteration = number;
        message.payload_bytes = bytes;
        message.body.figures.asked_us = gwtf_clock_now_us();
        unsigned char *tensor = bytes > 0 ? malloc(bytes) : NULL;
        for (uint64_t i = 0; i < bytes; i++)
            tensor[i] = byte_at(state->self, to, number, i);
        uint64_t ticket = (uint64_t)to * MESSAGES + number;
        state->out[ticket] = tensor;
        state->sends_due += bytes > 0;
        gwtf_status status =
            gwtf_transport_send(state->transport, (gwtf_node_id)to, &message, tensor, ticket);
        expect(state, status == GWTF_OK, "cannot be sent", to, number);
    }
}

/* An emulated network lets nothing through before its time: BYTES from this peer since it began.
 * All ranks have one clock. */
static void expect_late(struct state *state, gwtf_time_us began_us, uint64_t bytes, int from,
                        uint32_t number) {
    gwtf_time_us least_us =
        EMULATED_LATENCY_US + (gwtf_time_us)(bytes * 1000000 / EMULATED_BYTES_PER_SECOND);
    expect(state, !state->emulates || gwtf_clock_now_us() - began_us >= least_us, "too soon", from,
           number);
}

static void on_message(struct state *state, const struct gwtf_arrival *arrival) {
    int from = (int)arrival->peer;
    uint32_t number = state->messages_got[from]++;
    expect(state, arrival->message.iteration == number, "out of order", from, number);
    uint64_t bytes = tensor_bytes(from, state->self, number);
    expect(state, arrival->message.payload_bytes == bytes, "wrong size", from, number);
    expect_late(state, arrival->message.body.figures.asked_us, 0, from, number);
    if (number == 0)
        state->began_us[from] = arrival->message.body.figures.asked_us;
    if (bytes == 0)
        return;
    size_t ticket = (size_t)from * MESSAGES + number;
    state->bytes_announced[from] += bytes;
    state->bytes_before[ticket] = state->bytes_announced[from];
    if (!is_taken(from, state->self, number)) {
        gwtf_transport_discard(state->transport, arrival->peer);
        return;
    }
    state->in[ticket] = malloc(bytes);
    state->in_bytes[ticket] = bytes;
    gwtf_transport_receive(state->transport, arrival->peer, state->in[ticket], ticket);
}

static void on_received(struct state *state, const struct gwtf_arrival *arrival) {
    int from = (int)(arrival->ticket / MESSAGES);
    uint32_t number = (uint32_t)(arrival->ticket % MESSAGES);
    uint64_t wrong = 0;
    state->tensors_got++;
    expect(state, arrival->status == GWTF_OK, "hash is wrong", from, number);
    expect_late(state, state->began_us[from], state->bytes_before[arrival->ticket], from, number);
    for (uint64_t i = 0; i < state->in_bytes[arrival->ticket]; i++)
        wrong += state->in[arrival->ticket][i] != byte_at(from, state->self, number, i);
    expect(state, wrong == 0, "bytes are wrong", from, number);
    free(state->in[arrival->ticket]);
    state->in[arrival->ticket] = NULL;
}

static void handle(struct state *state, const struct gwtf_arrival *arrival) {
    switch (arrival->kind) {
    case GWTF_ARRIVAL_MESSAGE:
        on_message(state, arrival);
        break;
    case GWTF_ARRIVAL_RECEIVED:
        on_received(state, arrival);
        break;
    case GWTF_ARRIVAL_SENT:
        state->sends_done++;
        free(state->out[arrival->ticket]);
        state->out[arrival->ticket] = NULL;
        break;
    case GWTF_ARRIVAL_HEARD:
        state->heard++;
        break;
    case GWTF_ARRIVAL_LOST:
        expect(state, 0, "lost", (int)arrival->peer, 0);
        break;
    }
}

static int complete(const struct state *state) {
    for (int from = 0; from < state->ranks; from++)
        if (from != state->self && state->messages_got[from] < MESSAGES)
            return 0;
    return state->tensors_got == state->tensors_due && state->sends_done == state->sends_due &&
           state->heard == (uint32_t)state->ranks - 1 && gwtf_transport_all_sent(state->transport);
}

#define FORGET_AFTER_US 300000
#define SEND_ON_AFTER_US 1000000
#define WRITES_UNTIL_US 2000000
#define REUSED 0xa5

static void poll_until(struct state *state, gwtf_time_us until_us) {
    struct gwtf_arrival arrival;
    while (gwtf_clock_now_us() < until_us)
        while (gwtf_transport_poll(state->transport, &arrival)) {
            state->heard += arrival.kind == GWTF_ARRIVAL_HEARD;
            if (arrival.kind != GWTF_ARRIVAL_MESSAGE)
                continue;
            state->messages_got[arrival.peer]++;
            state->tensors_due++;
            gwtf_transport_receive(state->transport, arrival.peer, state->in[arrival.peer], 0);
        }
}

/* Connections stand when all have been heard. */
static void connect_all(struct state *state) {
    for (int peer = 0; peer < state->ranks; peer++)
        if (peer != state->self)
            gwtf_transport_send_heartbeat(state->transport, (gwtf_node_id)peer);
    while (state->heard < (uint32_t)state->ranks - 1)
        poll_until(state, gwtf_clock_now_us() + 1000);
}

/* The others hand a tensor to MPI and pause, as a process that was stopped; when they go on, what
 * is left of it comes to rank 0, which has taken them for lost. */
static void forget_senders(struct state *state) {
    struct gwtf_message message = {.kind = GWTF_MESSAGE_FORWARD, .payload_bytes = TENSOR_MAX};
    for (int i = 0; i < state->ranks; i++)
        state->in[i] = calloc(1, TENSOR_MAX);
    connect_all(state);
    gwtf_time_us start_us = gwtf_clock_now_us();
    if (state->self > 0) {
        gwtf_transport_send(state->transport, 0, &message, state->in[0], 0);
        while (gwtf_clock_now_us() < start_us + SEND_ON_AFTER_US)
            ;
        poll_until(state, start_us + DEADLINE_US); /* rank 0 ends it */
        return;
    }
    while (state->tensors_due < (uint32_t)state->ranks - 1)
        poll_until(state, gwtf_clock_now_us() + 1000);
    start_us = gwtf_clock_now_us();
    poll_until(state, start_us + FORGET_AFTER_US);
    for (int peer = 1; peer < state->ranks; peer++) {
        gwtf_transport_forget(state->transport, (gwtf_node_id)peer);
        memset(state->in[peer], REUSED, TENSOR_MAX);
    }
    poll_until(state, start_us + WRITES_UNTIL_US);
    for (int peer = 1; peer < state->ranks; peer++) {
        uint64_t wrong = 0;
        for (uint64_t i = 0; i < TENSOR_MAX; i++)
            wrong += state->in[peer][i] != REUSED;
        expect(state, wrong == 0, "writes into memory that is used again", peer, 0);
    }
    if (state->failures == 0)
        printf("rank %d: whole\n", state->self);
    fflush(stdout);
    /* Requests that MPI keeps would hold up its end. */
    MPI_Abort(MPI_COMM_WORLD, state->failures == 0 ? 0 : 1);
}

/* Rank 1 has not read everything when it dies, so that its connection ends with a reset, and the
 * first write after it fails. */
static void send_to_the_dead(int self) {
    static char bytes[SENDS_TO_THE_DEAD][4096];
    MPI_Request requests[SENDS_TO_THE_DEAD];
    pid_t pid = getpid();
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (self == 1)
        MPI_Send(&pid, (int)sizeof pid, MPI_BYTE, 0, 1, MPI_COMM_WORLD);
    if (self > 0)
        for (;;)
            pause(); /* rank 0 ends it */
    MPI_Recv(&pid, (int)sizeof pid, MPI_BYTE, 1, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Send(bytes[0], (int)sizeof bytes[0], MPI_BYTE, 1, 2, MPI_COMM_WORLD);
    kill(pid, SIGKILL);
    gwtf_time_us start_us = gwtf_clock_now_us();
    while (kill(pid, 0) == 0 && gwtf_clock_now_us() - start_us < DEADLINE_US)
        ;
    alarm(20); /* MPI does not come back */
    for (int i = 0; i < SENDS_TO_THE_DEAD; i++)
        MPI_Isend(bytes[i], (int)sizeof bytes[i], MPI_BYTE, 1, 2, MPI_COMM_WORLD, &requests[i]);
    for (int i = 0; i < CALLS_AFTER; i++) {
        int present;
        MPI_Iprobe(MPI_ANY_SOURCE, 1, MPI_COMM_SELF, &present, MPI_STATUS_IGNORE);
    }
    printf("rank 0: whole\n");
    fflush(stdout);
    MPI_Abort(MPI_COMM_WORLD, 0);
}

#define CHANNEL 4711

/* True when all have knocked; tensors of the first channel come meanwhile. */
static int all_have_knocked(struct state *state, int *knocked, unsigned char *scratch) {
    struct gwtf_arrival arrival;
    int count = 1;
    while (gwtf_transport_poll(state->transport, &arrival)) {
        if (arrival.kind != GWTF_ARRIVAL_MESSAGE)
            continue;
        if (arrival.by_door)
            knocked[arrival.peer] = arrival.message.kind == GWTF_MESSAGE_ENTER;
        else
            gwtf_transport_receive(state->transport, arrival.peer, scratch, 0);
    }
    for (int peer = 0; peer < state->ranks; peer++)
        count += peer != state->self && knocked[peer];
    return count == state->ranks;
}

static void reopen_all(struct state *state) {
    static unsigned char out[TENSOR_MAX], scratch[TENSOR_MAX];
    int knocked[RANKS_MAX] = {0};
    struct gwtf_message message = {.kind = GWTF_MESSAGE_FORWARD, .payload_bytes = TENSOR_MAX};
    struct gwtf_message knock = {.kind = GWTF_MESSAGE_ENTER};
    for (int peer = 0; peer < state->ranks; peer++) {
        if (peer == state->self)
            continue;
        gwtf_transport_send(state->transport, (gwtf_node_id)peer, &message, out, 0);
        gwtf_transport_send_by_door(state->transport, (gwtf_node_id)peer, &knock);
        /* One of them as a node that has been declared down and knows it. */
        if (state->self == 1)
            gwtf_transport_forget_all(state->transport);
    }
    gwtf_time_us start_us = gwtf_clock_now_us();
    while (!all_have_knocked(state, knocked, scratch) &&
           gwtf_clock_now_us() - start_us < DEADLINE_US)
        ;
    for (int peer = 0; peer < state->ranks; peer++) {
        expect(state, peer == state->self || knocked[peer], "has not knocked", peer, 0);
        if (peer != state->self)
            gwtf_transport_open(state->transport, (gwtf_node_id)peer, CHANNEL);
    }
}

int main(int argc, char **argv) {
    static struct state state;
    int ranks_of_nodes[RANKS_MAX], provided;
    struct gwtf_shaper_link links[RANKS_MAX];
    state.emulates = argc > 1 && strcmp(argv[1], "emulate") == 0;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &state.self);
    MPI_Comm_size(MPI_COMM_WORLD, &state.ranks);
    if (argc > 1 && strcmp(argv[1], "died") == 0)
        send_to_the_dead(state.self);
    for (int i = 0; i < RANKS_MAX; i++) {
        ranks_of_nodes[i] = i;
        links[i] = (struct gwtf_shaper_link){.latency_us = EMULATED_LATENCY_US,
                                             .bytes_per_second = EMULATED_BYTES_PER_SECOND};
    }
    struct gwtf_transport_config config = {.nodes = (size_t)state.ranks,
                                           .self = (gwtf_node_id)state.self,
                                           .payloads_max = 2 * RANKS_MAX * MESSAGES,
                                           .rank_of_node = ranks_of_nodes,
                                           .links = state.emulates ? links : NULL,
                                           .incarnation = 4};
    if (state.ranks > RANKS_MAX || gwtf_transport_create(&config, &state.transport) != GWTF_OK)
        return 1;
    if (argc > 1 && strcmp(argv[1], "forget") == 0) {
        forget_senders(&state);
        return 1;
    }
    int reopens = argc > 1 && strcmp(argv[1], "reopen") == 0;
    if (reopens)
        reopen_all(&state);
    for (int peer = 0; peer < state.ranks; peer++) {
        if (peer == state.self)
            continue;
        for (uint32_t number = 0; number < MESSAGES; number++)
            state.tensors_due +=
                tensor_bytes(peer, state.self, number) > 0 && is_taken(peer, state.self, number);
        send_all(&state, peer);
        gwtf_transport_send_heartbeat(state.transport, (gwtf_node_id)peer);
    }
    gwtf_time_us start_us = gwtf_clock_now_us();
    struct gwtf_arrival arrival;
    while (!complete(&state) && gwtf_clock_now_us() - start_us < DEADLINE_US)
        while (gwtf_transport_poll(state.transport, &arrival))
            handle(&state, &arrival);
    expect(&state, complete(&state), "not everything came in time", -1, 0);
    if (!complete(&state))
        gwtf_log(GWTF_LOG_ERROR, "rank %d: tensors %u of %u, sends %u of %u, heard %u, all sent %d",
                 state.self, state.tensors_got, state.tensors_due, state.sends_done,
                 state.sends_due, state.heard, gwtf_transport_all_sent(state.transport));
    if (state.failures == 0)
        printf("rank %d: whole\n", state.self);
    fflush(stdout);
    MPI_Barrier(MPI_COMM_WORLD); /* a test's own: the transport knows none */
    if (reopens)
        MPI_Abort(MPI_COMM_WORLD, state.failures == 0 ? 0 : 1); /* MPI keeps void requests */
    gwtf_transport_destroy(state.transport);
    MPI_Finalize();
    return state.failures == 0 ? 0 : 1;
}
