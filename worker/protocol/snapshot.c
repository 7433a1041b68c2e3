/*
 * Snapshots: every replica hashes its weights, the first of each stage writes them, and the
 * recorder writes the manifest when all hashes agree and all files are in place.
 */
#include "worker/protocol/state.h"

#include <stdlib.h>
#include <string.h>

static bool is_recorder(const gwtf_protocol *p) {
    return p->config.self == p->recorder;
}

gwtf_status protocol_snapshot_create(gwtf_protocol *p) {
    if (!is_recorder(p))
        return GWTF_OK;
    size_t stages = p->config.stages + 1;
    for (int i = 0; i < PROTOCOL_SNAPSHOTS_MAX; i++) {
        struct protocol_snapshot *snapshot = &p->snapshots[i];
        snapshot->hashed = calloc(p->config.members_count, sizeof *snapshot->hashed);
        snapshot->hashes = calloc(stages, sizeof *snapshot->hashes);
        snapshot->hash_here = calloc(stages, sizeof *snapshot->hash_here);
        snapshot->written = calloc(stages, sizeof *snapshot->written);
        snapshot->files = calloc(stages, sizeof *snapshot->files);
        if (!snapshot->hashed || !snapshot->hashes || !snapshot->hash_here || !snapshot->written ||
            !snapshot->files)
            return GWTF_ERROR_MEMORY;
    }
    return GWTF_OK;
}

void protocol_snapshot_destroy(gwtf_protocol *p) {
    for (int i = 0; i < PROTOCOL_SNAPSHOTS_MAX; i++) {
        free(p->snapshots[i].hashed);
        free(p->snapshots[i].hashes);
        free(p->snapshots[i].hash_here);
        free(p->snapshots[i].written);
        free(p->snapshots[i].files);
    }
}

bool protocol_snapshot_due(const gwtf_protocol *p) {
    if (p->stopped || p->iteration == p->config.last_iteration)
        return true;
    return p->config.snapshot_every > 0 && p->iteration % p->config.snapshot_every == 0;
}

/* The recorder's notes of the snapshot of ITERATION, opened when new. NULL: it is finished, or too
 * far ahead to be true. */
static struct protocol_snapshot *notes_of(gwtf_protocol *p, uint32_t iteration) {
    struct protocol_snapshot *unused = NULL;
    for (int i = 0; i < PROTOCOL_SNAPSHOTS_MAX; i++) {
        if (p->snapshots[i].used && p->snapshots[i].iteration == iteration)
            return &p->snapshots[i];
        if (!p->snapshots[i].used && !unused)
            unused = &p->snapshots[i];
    }
    if (!unused || iteration < p->config.first_iteration || iteration <= p->snapshot_recorded ||
        iteration > p->iteration + 1)
        return NULL;
    size_t stages = p->config.stages + 1;
    unused->used = true;
    unused->iteration = iteration;
    memset(unused->hashed, 0, p->config.members_count * sizeof *unused->hashed);
    memset(unused->hash_here, 0, stages * sizeof *unused->hash_here);
    memset(unused->written, 0, stages * sizeof *unused->written);
    unused->hashes_here = 0;
    unused->written_here = 0;
    unused->manifest_asked = false;
    return unused;
}

static void note_hash(gwtf_protocol *p, uint32_t member, uint32_t iteration, uint64_t hash) {
    struct protocol_snapshot *notes = notes_of(p, iteration);
    if (!notes || notes->hashed[member])
        return;
    uint32_t stage = p->members[member].stage;
    notes->hashed[member] = 1;
    notes->hashes_here++;
    if (!notes->hash_here[stage]) {
        notes->hash_here[stage] = true;
        notes->hashes[stage] = hash;
    } else if (notes->hashes[stage] != hash) {
        protocol_close(p, GWTF_ERROR_STAGE, p->members[member].node);
    }
}

static void note_written(gwtf_protocol *p, uint32_t member, uint32_t iteration, gwtf_status status,
                         const struct gwtf_stage_file *file) {
    if (status != GWTF_OK) {
        protocol_close(p, status, p->members[member].node);
        return;
    }
    uint32_t stage = p->members[member].stage;
    struct protocol_snapshot *notes = notes_of(p, iteration);
    if (!notes || notes->written[stage])
        return;
    notes->written[stage] = true;
    notes->written_here++;
    notes->files[stage] = *file;
}

void protocol_snapshot_message(gwtf_protocol *p, gwtf_node_id peer,
                               const struct gwtf_message *message) {
    if (!is_recorder(p))
        return;
    uint32_t member = protocol_member_find(p, peer);
    if (message->kind == GWTF_MESSAGE_HASH)
        note_hash(p, member, message->iteration, message->body.hash.weights);
    else if (message->body.written.stage == p->members[member].stage)
        note_written(p, member, message->iteration, (gwtf_status)message->body.written.status,
                     &message->body.written.file);
}

/* One file of this node at a time, and at the recorder one snapshot: so that snapshots that are due
 * faster than a disk writes them slow the run down and do not pile up. */
static bool must_wait(const gwtf_protocol *p) {
    if (p->writing)
        return true;
    for (int i = 0; i < PROTOCOL_SNAPSHOTS_MAX; i++)
        if (p->snapshots[i].used && p->snapshots[i].iteration < p->snapshot_wanted)
            return true;
    return false;
}

bool protocol_snapshot_work(gwtf_protocol *p, struct gwtf_work *work) {
    if (p->snapshot_wanted == 0 || p->snapshot_issued || must_wait(p))
        return false;
    p->snapshot_issued = true;
    work->kind = GWTF_WORK_SNAPSHOT;
    work->iteration = p->snapshot_wanted;
    work->writes = p->rank == 0;
    /* From here on: the snapshot thread may be quicker than the news that the work is done. */
    p->writing = work->writes;
    p->writing_iteration = p->snapshot_wanted;
    return true;
}

void protocol_snapshot_worked(gwtf_protocol *p, const struct gwtf_work *work,
                              const struct gwtf_work_result *result) {
    p->snapshot_wanted = 0;
    struct gwtf_action *action = protocol_emit(p, GWTF_ACTION_HASHED);
    action->iteration = work->iteration;
    action->hash = result->hash;
    if (is_recorder(p))
        note_hash(p, p->self, work->iteration, result->hash);
    else
        protocol_send(p, p->recorder, GWTF_MESSAGE_HASH, GWTF_PHASE_TRAIN, work->iteration)
            ->body.hash.weights = result->hash;
}

void protocol_snapshot_written(gwtf_protocol *p, const struct gwtf_event *event) {
    if (!p->writing || event->iteration != p->writing_iteration)
        return;
    p->writing = false;
    if (is_recorder(p)) {
        note_written(p, p->self, event->iteration, event->status, &event->file);
        return;
    }
    struct gwtf_message *message =
        protocol_send(p, p->recorder, GWTF_MESSAGE_WRITTEN, GWTF_PHASE_TRAIN, event->iteration);
    message->body.written.stage = p->stage;
    message->body.written.status = (uint32_t)event->status;
    message->body.written.file = event->file;
}

void protocol_snapshot_manifest(gwtf_protocol *p, const struct gwtf_event *event) {
    for (int i = 0; i < PROTOCOL_SNAPSHOTS_MAX; i++) {
        struct protocol_snapshot *notes = &p->snapshots[i];
        if (!notes->used || !notes->manifest_asked || notes->iteration != event->iteration)
            continue;
        notes->used = false;
        if (event->status != GWTF_OK)
            protocol_close(p, event->status, p->config.self);
        else if (event->iteration > p->snapshot_recorded)
            p->snapshot_recorded = event->iteration;
        return;
    }
}

static void ask_for_manifests(gwtf_protocol *p) {
    for (int i = 0; i < PROTOCOL_SNAPSHOTS_MAX; i++) {
        struct protocol_snapshot *notes = &p->snapshots[i];
        if (!notes->used || notes->manifest_asked || notes->hashes_here < p->config.members_count ||
            notes->written_here < p->config.stages + 1)
            continue;
        notes->manifest_asked = true;
        struct gwtf_action *action = protocol_emit(p, GWTF_ACTION_MANIFEST);
        action->iteration = notes->iteration;
        action->files = notes->files;
    }
}

void protocol_snapshot_advance(gwtf_protocol *p) {
    if (!is_recorder(p))
        return;
    ask_for_manifests(p);
    if (p->ended && p->snapshot_recorded == p->iteration)
        protocol_close(p, p->stopped ? GWTF_ERROR_INTERRUPTED : GWTF_OK, GWTF_NODE_NONE);
}
