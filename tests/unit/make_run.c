/*
 * Makes a run's directory as a training would leave it, for the tests of the commands.
 *
 * usage: make_run DIRECTORY training|failed|finished|stopped|starting|waiting
 */
#include "io/run.h"
#include "tests/unit/snapshots.h"

#include <stdlib.h>

static const char config[] =
    "run = { directory = \"runs/small\"; iterations = 100; };\n"
    "model = { layers = 3; width = 32; heads = 4; context = 16; };\n"
    "data = { train = \"train.h5\"; };\n"
    "batch = { microbatch = 2; microbatches = 4; };\n"
    "pipeline = { stages = 2; };\n"
    "nodes = ( { role = \"data\"; }, { role = \"relay\"; count = 2; } );\n";

static struct gwtf_error error;

static void must(gwtf_status status) {
    if (status == GWTF_OK)
        return;
    fprintf(stderr, "make_run: %s\n", error.text);
    exit(1);
}

static void write_nodes(const char *directory, enum gwtf_node_phase phase, uint64_t iteration) {
    for (gwtf_node_id node = 0; node < 3; node++) {
        struct gwtf_node_state state = {
            .node = node, .stage = node, .phase = phase, .iteration = iteration, .capacity = 4};
        if (phase == GWTF_NODE_FAILED && node != 1)
            state.phase = GWTF_NODE_FINISHED;
        snprintf(state.host, sizeof state.host, "uni%u", node);
        snprintf(state.error, sizeof state.error, "the disk is full");
        must(gwtf_run_write_node(directory, &state, &error));
    }
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    const char *directory = argv[1], *phase = argv[2];
    uint64_t last = strcmp(phase, "finished") == 0 ? 100 : 40;
    must(gwtf_run_create(directory, &error));
    must(gwtf_run_write_config(directory, config, &error));
    must(gwtf_run_append_event(directory, "started", 0, GWTF_NODE_NONE, NULL, &error));
    if (strcmp(phase, "waiting") == 0)
        return 0;
    if (strcmp(phase, "starting") == 0) {
        write_nodes(directory, GWTF_NODE_STARTING, 0);
        return 0;
    }
    for (uint64_t i = 1; i <= last; i++) {
        struct gwtf_metrics metrics = {.iteration = i,
                                       .loss = 5.0 - 0.01 * (double)i,
                                       .validation_loss = i == 30 ? 4.75 : (double)NAN,
                                       .tokens = 128,
                                       .seconds = 2.0,
                                       .tokens_per_second = 64,
                                       .microbatches = 4,
                                       .nodes = 3,
                                       .stages = 2};
        must(gwtf_run_append_metrics(directory, &metrics, &error));
    }
    char snapshots[1024];
    static struct sample sample;
    snprintf(snapshots, sizeof snapshots, "%s/snapshots", directory);
    for (uint64_t step = 20; step <= 40; step += 20) {
        sample_init(&sample, step);
        must(sample_write(&sample, snapshots, step, 0, &error));
        must(gwtf_run_append_event(directory, "snapshot", step, GWTF_NODE_NONE, NULL, &error));
    }
    must(gwtf_run_append_event(directory, "lost", 40, 2, "silent for 2 s", &error));
    write_nodes(directory,
                strcmp(phase, "training") == 0 ? GWTF_NODE_TRAINING
                : strcmp(phase, "failed") == 0 ? GWTF_NODE_FAILED
                                               : GWTF_NODE_FINISHED,
                last);
    return 0;
}
