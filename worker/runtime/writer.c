#include "worker/runtime/writer.h"

#include "share/base/assert.h"
#include "share/base/log.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOBS_MAX 256

struct gwtf_writer {
    const struct gwtf_setup *setup;
    gwtf_memory *memory;
    gwtf_queue *jobs;
    gwtf_queue *results;
    pthread_t thread;
};

static void bytes_from_hex(const char *hex, uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        unsigned value = 0;
        sscanf(hex + 2 * i, "%2x", &value);
        bytes[i] = (uint8_t)value;
    }
}

static void hex_from_bytes(const uint8_t *bytes, size_t count, char *hex) {
    for (size_t i = 0; i < count; i++)
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
}

static gwtf_status write_stage(struct gwtf_writer *writer, const struct gwtf_writer_job *job,
                               struct gwtf_writer_result *result, struct gwtf_error *error) {
    struct gwtf_snapshot_file file;
    gwtf_status status = gwtf_memory_write_snapshot(
        writer->memory, job->iteration, job->of_rest ? &job->rest_norm : NULL, &file, error);
    if (status == GWTF_OK) {
        result->file.size_bytes = file.size_bytes;
        bytes_from_hex(file.sha256, result->file.sha256, sizeof result->file.sha256);
    }
    return status;
}

static gwtf_status write_manifest(struct gwtf_writer *writer, const struct gwtf_writer_job *job,
                                  struct gwtf_error *error) {
    const struct gwtf_config *config = &writer->setup->config;
    uint32_t stages = config->pipeline.stages;
    struct gwtf_snapshot_file *files = calloc((size_t)stages + 1, sizeof *files);
    if (files == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    for (uint32_t stage = 0; stage <= stages; stage++) {
        files[stage].size_bytes = job->files[stage].size_bytes;
        hex_from_bytes(job->files[stage].sha256, sizeof job->files[stage].sha256,
                       files[stage].sha256);
    }
    char snapshots[GWTF_SNAPSHOT_PATH_MAX];
    gwtf_setup_snapshots_path(writer->setup, snapshots, sizeof snapshots);
    gwtf_status status = gwtf_snapshot_write_manifest(snapshots, job->iteration, stages, files,
                                                      config->snapshot.keep, error);
    free(files);
    if (status == GWTF_OK)
        status = gwtf_run_append_event(config->run.directory, "snapshot", job->iteration,
                                       GWTF_NODE_NONE, NULL, error);
    return status;
}

static gwtf_status do_job(struct gwtf_writer *writer, const struct gwtf_writer_job *job,
                          struct gwtf_writer_result *result, struct gwtf_error *error) {
    const char *directory = writer->setup->config.run.directory;
    switch (job->kind) {
    case GWTF_WRITER_METRICS:
        return gwtf_run_append_metrics(directory, &job->metrics, error);
    case GWTF_WRITER_EVENT:
        return gwtf_run_append_event(directory, job->event.kind, job->iteration, job->event.node,
                                     job->event.text[0] == '\0' ? NULL : job->event.text, error);
    case GWTF_WRITER_REROUTED:
        return gwtf_run_append_rerouted(directory, job->iteration, &job->rerouted, error);
    case GWTF_WRITER_NODE:
        return gwtf_run_write_node(directory, &job->node, error);
    case GWTF_WRITER_STAGE:
        return write_stage(writer, job, result, error);
    case GWTF_WRITER_MANIFEST:
        return write_manifest(writer, job, error);
    case GWTF_WRITER_LOOK:
        result->stop_requested = gwtf_run_requested(directory, "stop");
        result->leave_requested =
            gwtf_run_leave_requested(directory, job->node.node, &result->leave);
        return GWTF_OK;
    }
    return GWTF_OK;
}

static bool has_result(enum gwtf_writer_kind kind) {
    return kind != GWTF_WRITER_METRICS && kind != GWTF_WRITER_EVENT && kind != GWTF_WRITER_REROUTED;
}

static void *run(void *argument) {
    struct gwtf_writer *writer = argument;
    struct gwtf_writer_job job;
    while (gwtf_queue_pop(writer->jobs, &job)) {
        struct gwtf_error error = {""};
        struct gwtf_writer_result result = {.kind = job.kind, .iteration = job.iteration};
        result.status = do_job(writer, &job, &result, &error);
        if (result.status != GWTF_OK)
            gwtf_log(GWTF_LOG_ERROR, "%s", error.text);
        if (has_result(job.kind))
            gwtf_queue_push(writer->results, &result);
    }
    return NULL;
}

gwtf_status gwtf_writer_create(const struct gwtf_setup *setup, gwtf_memory *memory, gwtf_bell *bell,
                               gwtf_writer **writer) {
    struct gwtf_writer *made = calloc(1, sizeof *made);
    if (made == NULL)
        return GWTF_ERROR_MEMORY;
    made->setup = setup;
    made->memory = memory;
    gwtf_status status =
        gwtf_queue_create(sizeof(struct gwtf_writer_job), JOBS_MAX, NULL, &made->jobs);
    if (status == GWTF_OK)
        status =
            gwtf_queue_create(sizeof(struct gwtf_writer_result), JOBS_MAX, bell, &made->results);
    if (status == GWTF_OK && pthread_create(&made->thread, NULL, run, made) != 0)
        status = GWTF_ERROR_MEMORY;
    if (status != GWTF_OK) {
        gwtf_queue_destroy(made->jobs);
        gwtf_queue_destroy(made->results);
        free(made);
        return status;
    }
    *writer = made;
    return GWTF_OK;
}

gwtf_status gwtf_writer_push(gwtf_writer *writer, const struct gwtf_writer_job *job) {
    return gwtf_queue_try_push(writer->jobs, job);
}

bool gwtf_writer_try_result(gwtf_writer *writer, struct gwtf_writer_result *result) {
    return gwtf_queue_try_pop(writer->results, result);
}

void gwtf_writer_destroy(gwtf_writer *writer) {
    if (writer == NULL)
        return;
    gwtf_queue_close(writer->jobs);
    gwtf_queue_close(writer->results);
    pthread_join(writer->thread, NULL);
    gwtf_queue_destroy(writer->jobs);
    gwtf_queue_destroy(writer->results);
    free(writer);
}
