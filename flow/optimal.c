#include "flow/optimal.h"

#include <stdlib.h>

#define FAR_US INT64_MAX

struct arc {
    uint32_t from, to;
    uint32_t room;
    int64_t cost_us;
};

/* Vertices: in and out of node i are 2i and 2i+1, then source and sink. Arc 2k+1 is the reverse of
 * arc 2k. */
struct graph {
    uint32_t vertices_count;
    size_t arcs_count;
    struct arc *arcs;
    int64_t *distance_us;
    size_t *arrival; /* the arc by which the shortest path comes */
};

static bool graph_init(struct graph *graph, uint32_t nodes) {
    size_t arcs_max = 2 * ((size_t)nodes * nodes + 2 * (size_t)nodes);
    *graph = (struct graph){.vertices_count = 2 * nodes + 2};
    graph->arcs = malloc(arcs_max * sizeof *graph->arcs);
    graph->distance_us = malloc(graph->vertices_count * sizeof *graph->distance_us);
    graph->arrival = malloc(graph->vertices_count * sizeof *graph->arrival);
    return graph->arcs != NULL && graph->distance_us != NULL && graph->arrival != NULL;
}

static void graph_deinit(struct graph *graph) {
    free(graph->arrival);
    free(graph->distance_us);
    free(graph->arcs);
}

static void add_arc(struct graph *graph, uint32_t from, uint32_t to, uint32_t room,
                    int64_t cost_us) {
    graph->arcs[graph->arcs_count++] = (struct arc){from, to, room, cost_us};
    graph->arcs[graph->arcs_count++] = (struct arc){to, from, 0, -cost_us};
}

static void build(const struct gwtf_flow_instance *instance, struct graph *graph) {
    uint32_t nodes = instance->nodes_count, source = 2 * nodes, sink = 2 * nodes + 1;
    for (uint32_t i = 0; i < nodes; i++) {
        if (instance->stage[i] == 0) {
            add_arc(graph, source, 2 * i + 1, instance->capacity[i], 0);
            add_arc(graph, 2 * i, sink, instance->capacity[i], 0);
        } else {
            add_arc(graph, 2 * i, 2 * i + 1, instance->capacity[i], 0);
        }
        for (uint32_t j = 0; j < nodes; j++) {
            int64_t cost_us = instance->link_us[(size_t)i * nodes + j];
            if (cost_us >= 0 &&
                (instance->stage[i] + 1) % (instance->stages + 1) == instance->stage[j])
                add_arc(graph, 2 * i + 1, 2 * j, instance->capacity[i], cost_us);
        }
    }
}

/* Bellman and Ford. */
static bool find_path(struct graph *graph, uint32_t source, uint32_t sink) {
    for (uint32_t i = 0; i < graph->vertices_count; i++)
        graph->distance_us[i] = FAR_US;
    graph->distance_us[source] = 0;
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < graph->arcs_count; i++) {
            const struct arc *arc = &graph->arcs[i];
            int64_t from_us = graph->distance_us[arc->from];
            if (arc->room == 0 || from_us == FAR_US ||
                from_us + arc->cost_us >= graph->distance_us[arc->to])
                continue;
            graph->distance_us[arc->to] = from_us + arc->cost_us;
            graph->arrival[arc->to] = i;
            changed = true;
        }
    }
    return graph->distance_us[sink] != FAR_US;
}

static uint32_t augment(struct graph *graph, uint32_t source, uint32_t sink) {
    uint32_t room = UINT32_MAX;
    for (uint32_t at = sink; at != source; at = graph->arcs[graph->arrival[at]].from)
        if (graph->arcs[graph->arrival[at]].room < room)
            room = graph->arcs[graph->arrival[at]].room;
    for (uint32_t at = sink; at != source; at = graph->arcs[graph->arrival[at]].from) {
        graph->arcs[graph->arrival[at]].room -= room;
        graph->arcs[graph->arrival[at] ^ 1].room += room;
    }
    return room;
}

gwtf_status gwtf_flow_solve(const struct gwtf_flow_instance *instance,
                            struct gwtf_flow_optimum *optimum) {
    uint32_t nodes = instance->nodes_count, data_nodes = 0;
    if (instance->stages == 0 || nodes == 0)
        return GWTF_ERROR_USAGE;
    for (uint32_t i = 0; i < nodes; i++)
        data_nodes += instance->stage[i] == 0;
    struct graph graph;
    gwtf_status status = GWTF_ERROR_MEMORY;
    if (graph_init(&graph, nodes)) {
        struct gwtf_flow_optimum found = {.exact = data_nodes <= 1};
        build(instance, &graph);
        while (find_path(&graph, 2 * nodes, 2 * nodes + 1)) {
            int64_t path_us = graph.distance_us[2 * nodes + 1];
            uint32_t room = augment(&graph, 2 * nodes, 2 * nodes + 1);
            found.flow += room;
            found.cost_us += path_us * room;
        }
        *optimum = found;
        status = GWTF_OK;
    }
    graph_deinit(&graph);
    return status;
}
