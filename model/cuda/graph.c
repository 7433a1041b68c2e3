#include "model/cuda/graph.h"

static bool same(const struct gwtf_recording *a, const struct gwtf_recording *b) {
    return a->kind == b->kind && a->slot == b->slot && a->backward == b->backward &&
           a->scale == b->scale;
}

/* NULL when there are too many already. */
static struct gwtf_graph *find_or_add(struct gwtf_graphs *graphs,
                                      const struct gwtf_recording *what) {
    for (size_t i = 0; i < graphs->count; i++)
        if (same(&graphs->all[i].what, what))
            return &graphs->all[i];
    if (graphs->count == GWTF_CUDA_GRAPHS_MAX)
        return NULL;
    struct gwtf_graph *added = &graphs->all[graphs->count++];
    *added = (struct gwtf_graph){.what = *what};
    return added;
}

/* From here on nobody else may queue work on the stream: it would be recorded. */
static bool start_recording(struct gwtf_device *device, struct gwtf_graph *graph) {
    pthread_mutex_lock(&device->queueing);
    if (cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess) {
        device->graphs.recording = graph;
        return true;
    }
    pthread_mutex_unlock(&device->queueing);
    cudaGetLastError();
    device->graphs.impossible = true;
    return false;
}

/* The first call of each kind finds plans, and what the library cannot do. */
bool gwtf_cuda_record(const struct gwtf_compute *compute, const struct gwtf_recording *what) {
    struct gwtf_device *device = compute->device;
    struct gwtf_graph *graph = NULL;
    if (!device->graphs.impossible && !device->profile.on && !device->failed)
        graph = find_or_add(&device->graphs, what);
    if (graph == NULL)
        return true;
    if (graph->made != NULL) {
        gwtf_cuda_note(device, cudaGraphLaunch(graph->made, device->stream),
                       "computing on the GPU");
        return false;
    }
    if (graph->met)
        start_recording(device, graph);
    graph->met = true;
    return true;
}

/* What was recorded becomes one piece of work. */
static bool finish_recording(struct gwtf_device *device, struct gwtf_graph *graph) {
    cudaGraph_t recorded = NULL;
    cudaError_t failed = cudaStreamEndCapture(device->stream, &recorded);
    if (failed == cudaSuccess)
        failed = device->graphs.impossible ? cudaErrorInvalidValue
                                           : cudaGraphInstantiate(&graph->made, recorded, 0);
    if (recorded != NULL)
        cudaGraphDestroy(recorded);
    if (failed == cudaSuccess)
        failed = cudaGraphLaunch(graph->made, device->stream);
    return failed == cudaSuccess;
}

bool gwtf_cuda_recorded(const struct gwtf_compute *compute) {
    struct gwtf_device *device = compute->device;
    struct gwtf_graph *graph = device->graphs.recording;
    if (graph == NULL)
        return true;
    bool made = finish_recording(device, graph);
    device->graphs.recording = NULL;
    pthread_mutex_unlock(&device->queueing);
    if (!made) {
        cudaGetLastError();
        device->graphs.impossible = true;
    }
    return made;
}

void gwtf_cuda_graphs_close(struct gwtf_device *device) {
    for (size_t i = 0; i < device->graphs.count; i++)
        if (device->graphs.all[i].made != NULL)
            cudaGraphExecDestroy(device->graphs.all[i].made);
    device->graphs.count = 0;
}
