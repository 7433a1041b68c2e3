/*
 * Started by mpirun with two ranks (tests/bench/network.sh): what an emulated link achieves, next
 * to what it is configured to. Both ranks have one clock, so that one-way times can be measured.
 */
#include "share/base/log.h"
#include "worker/runtime/clock.h"
#include "worker/runtime/transport.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PINGS 21
#define SECONDS 1.0 /* of a tensor on the line */
#define BYTES_MAX (256u << 20)

struct figures {
    double latency_ms; /* of messages, the median */
    double mbit;       /* of a tensor, from its hand-over to its end, less the latency */
    double behind_ms;  /* of a message that is handed over behind the tensor */
};

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void send(gwtf_transport *transport, uint32_t number, uint64_t bytes, const void *payload) {
    struct gwtf_message message;
    memset(&message, 0, sizeof message);
    message.kind = GWTF_MESSAGE_FORWARD;
    message.iteration = number;
    message.payload_bytes = bytes;
    message.body.figures.asked_us = gwtf_clock_now_us();
    if (gwtf_transport_send(transport, 1, &message, payload, number) != GWTF_OK)
        gwtf_log(GWTF_LOG_ERROR, "message %u cannot be sent", number);
}

/* As a worker does: one that spins would lose its core to others just when it has something to do.
 */
static void nap(void) {
    nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

/* Polls until UNTIL_US, or until everything is sent. */
static void poll_until(gwtf_transport *transport, gwtf_time_us until_us) {
    struct gwtf_arrival arrival;
    while (gwtf_clock_now_us() < until_us || (until_us == 0 && !gwtf_transport_all_sent(transport)))
        if (!gwtf_transport_poll(transport, &arrival))
            nap();
}

static void send_all(gwtf_transport *transport, uint64_t bytes, const char *tensor) {
    for (uint32_t i = 0; i < PINGS; i++) {
        send(transport, i, 0, NULL);
        poll_until(transport, gwtf_clock_now_us() + 5000);
    }
    poll_until(transport, 0);
    send(transport, PINGS, bytes, tensor);
    send(transport, PINGS + 1, 0, NULL);
    poll_until(transport, 0);
}

static struct figures receive_all(gwtf_transport *transport, uint64_t bytes, char *tensor,
                                  int64_t latency_us) {
    struct figures figures = {0};
    double pings[PINGS];
    gwtf_time_us sent_us = 0;
    struct gwtf_arrival arrival;
    for (int left = PINGS + 3; left > 0;) {
        if (!gwtf_transport_poll(transport, &arrival)) {
            nap();
            continue;
        }
        gwtf_time_us now_us = gwtf_clock_now_us();
        double took_us = (double)(now_us - arrival.message.body.figures.asked_us);
        left--;
        if (arrival.kind == GWTF_ARRIVAL_RECEIVED) {
            figures.mbit = (double)bytes * 8 / (double)(now_us - sent_us - latency_us);
        } else if (arrival.message.payload_bytes > 0) {
            sent_us = arrival.message.body.figures.asked_us;
            gwtf_transport_receive(transport, 0, tensor, 1);
        } else if (arrival.message.iteration < PINGS) {
            pings[arrival.message.iteration] = took_us * 1e-3;
        } else {
            figures.behind_ms = took_us * 1e-3;
        }
    }
    qsort(pings, PINGS, sizeof pings[0], compare);
    figures.latency_ms = pings[PINGS / 2];
    return figures;
}

static void measure(int self, double latency_ms, double mbit) {
    int ranks[2] = {0, 1};
    struct gwtf_shaper_link link = {.latency_us = (int64_t)(latency_ms * 1e3),
                                    .bytes_per_second = (int64_t)(mbit * 125e3)};
    struct gwtf_shaper_link links[2] = {link, link};
    struct gwtf_transport_config config = {.nodes = 2,
                                           .self = (gwtf_node_id)self,
                                           .rank_of_node = ranks,
                                           .payloads_max = 4,
                                           .links = links};
    double wanted = SECONDS * mbit * 125e3;
    uint64_t bytes = wanted < BYTES_MAX ? (uint64_t)wanted : BYTES_MAX;
    gwtf_transport *transport = NULL;
    char *tensor = calloc(1, bytes);
    if (tensor == NULL || gwtf_transport_create(&config, &transport) != GWTF_OK)
        MPI_Abort(MPI_COMM_WORLD, 1);
    MPI_Barrier(MPI_COMM_WORLD);
    if (self == 0) {
        send_all(transport, bytes, tensor);
    } else {
        struct figures figures = receive_all(transport, bytes, tensor, link.latency_us);
        printf("%10.1f %10.2f %11.0f %10.1f %7.1f %% %18.2f\n", latency_ms, figures.latency_ms,
               mbit, figures.mbit, 100 * (figures.mbit / mbit - 1), figures.behind_ms);
        fflush(stdout);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    /* The transport's receives stay with MPI: the next one is of another world of messages. */
    free(tensor);
}

int main(int argc, char **argv) {
    /* As good as none; of the ten regions the nearest, one in the middle, the farthest; and a slow
     * line. */
    static const struct {
        double latency_ms, mbit;
    } links[] = {{0, 10000}, {10, 2000}, {67, 790}, {265, 328}, {100, 8}};
    int provided, self, which = argc > 1 ? atoi(argv[1]) : 0;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &self);
    if (which >= 0 && (size_t)which < sizeof links / sizeof links[0])
        measure(self, links[which].latency_ms, links[which].mbit);
    MPI_Finalize();
    return 0;
}
