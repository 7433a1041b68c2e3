/* Makes a transport and ends it. */
#include "worker/runtime/transport_state.h"

#include "worker/runtime/clock.h"

#include <stdlib.h>

/* Frames that an emulated network can hold: some for all, some for each peer. */
#define HELD_MAX 4096
#define HELD_A_PEER 64

static bool allocate_tables(struct gwtf_transport *transport) {
    size_t nodes = transport->config.nodes;
    size_t transfers = 64 + 8 * nodes + transport->config.payloads_max;
    transport->frames_max = 512 + 32 * nodes + transport->config.payloads_max;
    transport->requests_max = 2 * nodes + transport->frames_max + 2 * PIECES_AT_ONCE * nodes;
    transport->pending_max = 64 + 4 * nodes + transfers;
    transport->peers = calloc(nodes, sizeof *transport->peers);
    transport->requests = calloc(transport->requests_max, sizeof(MPI_Request));
    transport->about = calloc(transport->requests_max, sizeof *transport->about);
    transport->free_requests = calloc(transport->requests_max, sizeof *transport->free_requests);
    transport->free_stages = calloc(transport->requests_max, sizeof *transport->free_stages);
    transport->completed = calloc(transport->requests_max, sizeof *transport->completed);
    transport->statuses = calloc(transport->requests_max, sizeof(MPI_Status));
    transport->frames = calloc(transport->frames_max, sizeof *transport->frames);
    transport->free_frames = calloc(transport->frames_max, sizeof *transport->free_frames);
    transport->transfers = calloc(transfers, sizeof *transport->transfers);
    transport->pending = calloc(transport->pending_max, sizeof *transport->pending);
    if (transport->peers == NULL || transport->requests == NULL || transport->about == NULL ||
        transport->free_requests == NULL || transport->free_stages == NULL ||
        transport->completed == NULL || transport->statuses == NULL || transport->frames == NULL ||
        transport->free_frames == NULL || transport->transfers == NULL ||
        transport->pending == NULL)
        return false;
    for (size_t i = 0; i < transport->frames_max; i++)
        transport->free_frames[transport->free_frames_count++] = i;
    for (size_t i = 0; i < transfers; i++)
        gwtf_transport_give_transfer(transport, &transport->transfers[i]);
    return true;
}

static gwtf_status create_shaper(struct gwtf_transport *transport,
                                 const struct gwtf_shaper_link *links) {
    size_t nodes = transport->config.nodes, held_max = HELD_MAX + HELD_A_PEER * nodes;
    struct gwtf_shaper_config config = {
        .peers = nodes,
        /* A piece of those on their way needs an item too. */
        .items_max = 2 * held_max + transport->config.payloads_max,
    };
    transport->held = calloc(held_max, sizeof *transport->held);
    transport->free_held = calloc(held_max, sizeof *transport->free_held);
    if (transport->held == NULL || transport->free_held == NULL)
        return GWTF_ERROR_MEMORY;
    for (size_t i = 0; i < held_max; i++)
        transport->free_held[transport->free_held_count++] = i;
    gwtf_status status = gwtf_shaper_create(&config, &transport->shaper);
    for (size_t i = 0; i < nodes && status == GWTF_OK; i++)
        gwtf_shaper_set(transport->shaper, i, &links[i], gwtf_clock_now_us());
    return status;
}

gwtf_status gwtf_transport_create(const struct gwtf_transport_config *config,
                                  gwtf_transport **transport) {
    struct gwtf_transport *made = calloc(1, sizeof *made);
    if (made == NULL)
        return GWTF_ERROR_MEMORY;
    made->config = *config;
    if (!allocate_tables(made) ||
        (config->links != NULL && create_shaper(made, config->links) != GWTF_OK)) {
        gwtf_transport_destroy(made);
        return GWTF_ERROR_MEMORY;
    }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    for (size_t i = 0; i < config->nodes; i++) {
        bool is_here = config->rank_of_node[i] >= 0;
        made->peers[i].world = is_here ? MPI_COMM_WORLD : MPI_COMM_NULL;
        made->peers[i].rank = config->rank_of_node[i];
        made->peers[i].lost = !is_here;
    }
    made->config.rank_of_node = NULL;
    made->config.links = NULL;
    made->peers[config->self].lost = true; /* never sent to, never heard of */
    for (size_t i = 0; i < config->nodes; i++)
        if (!made->peers[i].lost)
            gwtf_transport_post_frame(made, (gwtf_node_id)i);
    for (size_t i = 0; i < config->nodes; i++)
        if (!made->peers[i].lost)
            gwtf_transport_post_door(made, (gwtf_node_id)i);
    *transport = made;
    return GWTF_OK;
}

void gwtf_transport_destroy(gwtf_transport *transport) {
    if (transport == NULL)
        return;
    bool with_mpi = false;
    for (size_t i = 0; i < transport->requests_used; i++)
        with_mpi = with_mpi || transport->requests[i] != MPI_REQUEST_NULL;
    if (!with_mpi) { /* else MPI still reads the one and writes into the other */
        free(transport->frames);
        free(transport->peers);
    }
    while (transport->free_stages_count > 0)
        free(transport->free_stages[--transport->free_stages_count]);
    free(transport->free_stages);
    gwtf_shaper_destroy(transport->shaper);
    free(transport->held);
    free(transport->free_held);
    free(transport->pending);
    free(transport->transfers);
    free(transport->free_frames);
    free(transport->statuses);
    free(transport->completed);
    free(transport->free_requests);
    free(transport->about);
    free(transport->requests);
    free(transport);
}
