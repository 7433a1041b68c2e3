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
    if (p->stage > 0)
        return GWTF_OK;
    size_t stages = p->config.stages + 1;
    for (int i = 0; i < PROTOCOL_SNAPSHOTS_MAX; i++) {
        struct protocol_snapshot *snapshot = &p->snapshots[i];
        snapshot->hashed = calloc(p->config.members_count, sizeof *snapshot->hashed);
        snapshot->hashes = calloc(stages, sizeof *snapshot->hashes);
        snapshot->hash_here = calloc(stages, sizeof *snapshot->hash_here);
        snapshot->written = calloc(stages, sizeof *snapshot->written);
        snapshot->files = calloc(stages, sizeof *snapshot->files);
        snapshot->writers = calloc(stages, sizeof *snapshot->writers);
        if (!snapshot->hashed || !snapshot->hashes || !snapshot->hash_here || !snapshot->written ||
            !snapshot->files || !snapshot->writers)
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
        free(p->snapshots[i].writers);
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
    for (size_t stage = 0; stage < stages; stage++)
        unused->writers[stage] = GWTF_NODE_NONE;
    unused->written_here = 0;
    unused->manifest_asked = false;
    return unused;
}

/* Older ones, of which a lost recorder had all, are closed too. */
static void know_recorded(gwtf_protocol *p, uint32_t iteration) {
    if (iteration > p->snapshot_recorded)
        p->snapshot_recorded = iteration;
    for (int i = 0; i < PROTOCOL_SNAPSHOTS_MAX; i++)
        if (p->snapshots[i].iteration <= p->snapshot_recorded && !p->snapshots[i].manifest_asked)
            p->snapshots[i].used = false;
}

static void tell_recorded(gwtf_protocol *p, uint32_t iteration) {
    know_recorded(p, iteration);
    struct gwtf_message message = {.kind = GWTF_MESSAGE_RECORDED, .iteration = iteration};
    protocol_broadcast(p, &message, false);
}

/* The only copy of a stage's weights of that iteration is lost; the next snapshot will do. */
static void give_up(gwtf_protocol *p, struct protocol_snapshot *notes) {
    notes->used = false;
    protocol_incident(p, GWTF_INCIDENT_SNAPSHOT, p->config.self)->iteration = notes->iteration;
    tell_recorded(p, notes->iteration);
}

/* A node that is further has told a lost recorder of its weights then, and has others now. */
static void give_up_older(gwtf_protocol *p, uint32_t member, uint32_t iteration) {
    for (int i = 0; i < PROTOCOL_SNAPSHOTS_MAX; i++) {
        struct protocol_snapshot *notes = &p->snapshots[i];
        if (notes->used && notes->iteration < iteration && !notes->hashed[member])
            give_up(p, notes);
    }
}

/* Somebody has told a lost recorder of its weights then, and this one of later ones. */
static bool can_be_whole(const gwtf_protocol *p, const struct protocol_snapshot *notes) {
    for (uint32_t i = 0; i < p->config.members_count; i++)
        if (!p->members[i].down && !notes->hashed[i] && p->members[i].hashed > notes->iteration &&
            p->members[i].incarnation <= notes->iteration)
            return false;
    return true;
}

static void note_hash(gwtf_protocol *p, uint32_t member, uint32_t iteration, uint64_t hash,
                      bool writes) {
    if (iteration > p->members[member].hashed)
        p->members[member].hashed = iteration;
    give_up_older(p, member, iteration);
    struct protocol_snapshot *notes = notes_of(p, iteration);
    if (!notes || notes->hashed[member])
        return;
    uint32_t stage = p->members[member].stage;
    if (writes)
        notes->writers[stage] = p->members[member].node;
    notes->hashed[member] = 1;
    if (!can_be_whole(p, notes)) {
        give_up(p, notes);
        return;
    }
    if (!notes->hash_here[stage]) {
        notes->hash_here[stage] = true;
        notes->hashes[stage] = hash;
    } else if (notes->hashes[stage] != hash) {
        protocol_close(p, GWTF_ERROR_DISAGREEMENT, p->members[member].node);
    }
}

static void note_written(gwtf_protocol *p, uint32_t member, uint32_t iteration, gwtf_status status,
                         const struct gwtf_stage_file *file) {
    uint32_t stage = p->members[member].stage;
    struct protocol_snapshot *notes = notes_of(p, iteration);
    if (status == GWTF_ERROR_MISSING) {
        if (notes && !notes->written[stage])
            give_up(p, notes);
        return;
    }
    if (status != GWTF_OK) {
        protocol_close(p, status, p->members[member].node);
        return;
    }
    if (!notes || notes->written[stage])
        return;
    notes->written[stage] = true;
    notes->written_here++;
    notes->files[stage] = *file;
}

static void tell_written(gwtf_protocol *p, uint32_t iteration, gwtf_status status,
                         const struct gwtf_stage_file *file) {
    if (is_recorder(p)) {
        note_written(p, p->self, iteration, status, file);
        return;
    }
    struct gwtf_message *message =
        protocol_send(p, p->recorder, GWTF_MESSAGE_WRITTEN, GWTF_PHASE_TRAIN, iteration);
    message->body.written.stage = p->stage;
    message->body.written.status = (uint32_t)status;
    message->body.written.file = *file;
}

/* The stage's writer is lost, and this node has been asked in its place. */
static void write_instead(gwtf_protocol *p, uint32_t iteration) {
    static const struct gwtf_stage_file none;
    if (p->snapshot_wanted == iteration && !p->snapshot_issued) {
        p->snapshot_writes = true;
    } else if (p->snapshot_hashed == iteration && p->snapshot_writes) {
        /* It is being written, or is. */
        if (!p->writing)
            tell_written(p, iteration, GWTF_OK, &p->snapshot_file);
    } else if (p->snapshot_wanted == 0 && p->stepped == iteration && !p->writing &&
               p->aggregation != AGGREGATION_STEPPING) {
        p->snapshot_wanted = iteration;
        p->snapshot_issued = false;
        p->snapshot_writes = true;
    } else {
        tell_written(p, iteration, GWTF_ERROR_MISSING, &none);
    }
}

void protocol_snapshot_message(gwtf_protocol *p, gwtf_node_id peer,
                               const struct gwtf_message *message) {
    uint32_t member = protocol_member_find(p, peer);
    if (message->kind == GWTF_MESSAGE_RECORDED) {
        if (p->members[member].stage == 0)
            know_recorded(p, message->iteration);
    } else if (message->kind == GWTF_MESSAGE_WRITE) {
        if (peer == p->recorder)
            write_instead(p, message->iteration);
    } else if (!is_recorder(p)) {
        return;
    } else if (message->kind == GWTF_MESSAGE_HASH) {
        know_recorded(p, message->body.hash.recorded);
        note_hash(p, member, message->iteration, message->body.hash.weights,
                  message->body.hash.writes != 0);
    } else if (message->body.written.stage == p->members[member].stage)
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

/* The first living replica; but one before it that has left since the step writes before it goes.
 */
static bool is_writer(const gwtf_protocol *p) {
    for (uint32_t rank = 0; rank < p->rank; rank++) {
        const struct protocol_member *member = protocol_member_at(p, p->stage, rank);
        if (member->left && member->left_from > p->snapshot_wanted)
            return false;
    }
    return p->rank == p->first_living;
}

bool protocol_snapshot_work(gwtf_protocol *p, struct gwtf_work *work) {
    if (p->snapshot_wanted == 0 || p->snapshot_issued || must_wait(p))
        return false;
    p->snapshot_issued = true;
    work->kind = GWTF_WORK_SNAPSHOT;
    work->iteration = p->snapshot_wanted;
    work->place = p->place;
    work->writes = p->snapshot_writes || is_writer(p);
    p->snapshot_writes = work->writes;
    /* From here on: the snapshot thread may be quicker than the news that the work is done. */
    p->writing = work->writes;
    p->writing_iteration = p->snapshot_wanted;
    return true;
}

static void tell_hash(gwtf_protocol *p) {
    if (is_recorder(p)) {
        note_hash(p, p->self, p->snapshot_hashed, p->snapshot_hash, p->snapshot_writes);
        return;
    }
    struct gwtf_message *message =
        protocol_send(p, p->recorder, GWTF_MESSAGE_HASH, GWTF_PHASE_TRAIN, p->snapshot_hashed);
    message->body.hash.weights = p->snapshot_hash;
    message->body.hash.writes = p->snapshot_writes;
    message->body.hash.recorded = p->snapshot_recorded;
}

/* A new recorder is told again what may have been told to the lost one alone. */
void protocol_snapshot_lost(gwtf_protocol *p) {
    if (p->snapshot_told == p->recorder)
        return;
    p->snapshot_told = p->recorder;
    if (p->snapshot_hashed == 0)
        return;
    tell_hash(p);
    if (p->snapshot_hashed <= p->snapshot_recorded)
        return;
    if (p->snapshot_writes && !p->writing)
        tell_written(p, p->snapshot_hashed,
                     p->snapshot_written == p->snapshot_hashed ? GWTF_OK : GWTF_ERROR_IO,
                     &p->snapshot_file);
}

void protocol_snapshot_worked(gwtf_protocol *p, const struct gwtf_work *work,
                              const struct gwtf_work_result *result) {
    p->snapshot_wanted = 0;
    bool is_first = p->snapshot_hashed < work->iteration;
    p->snapshot_hashed = work->iteration;
    p->snapshot_hash = result->hash;
    if (!is_first)
        return; /* again, to write in a lost node's place */
    struct gwtf_action *action = protocol_emit(p, GWTF_ACTION_HASHED);
    action->iteration = work->iteration;
    action->hash = result->hash;
    tell_hash(p);
}

void protocol_snapshot_written(gwtf_protocol *p, const struct gwtf_event *event) {
    if (!p->writing || event->iteration != p->writing_iteration)
        return;
    p->writing = false;
    p->snapshot_file = event->file;
    p->snapshot_written = event->status == GWTF_OK ? event->iteration : 0;
    tell_written(p, event->iteration, event->status, &event->file);
}

void protocol_snapshot_manifest(gwtf_protocol *p, const struct gwtf_event *event) {
    for (int i = 0; i < PROTOCOL_SNAPSHOTS_MAX; i++) {
        struct protocol_snapshot *notes = &p->snapshots[i];
        if (!notes->used || !notes->manifest_asked || notes->iteration != event->iteration)
            continue;
        notes->used = false;
        if (event->status != GWTF_OK)
            protocol_close(p, event->status, p->config.self);
        else
            tell_recorded(p, event->iteration);
        return;
    }
}

/* Whether all living nodes have hashed, and who of a stage without a file may write it. */
static bool is_hashed(const gwtf_protocol *p, const struct protocol_snapshot *notes) {
    for (uint32_t i = 0; i < p->config.members_count; i++)
        if (protocol_is_told(p, &p->members[i]) && !notes->hashed[i] &&
            p->members[i].incarnation <= notes->iteration &&
            (!p->members[i].left || p->members[i].left_from > notes->iteration))
            return false;
    return true;
}

static void ask_for_file(gwtf_protocol *p, struct protocol_snapshot *notes, uint32_t stage) {
    gwtf_node_id writer = notes->writers[stage];
    if (notes->written[stage] ||
        (writer != GWTF_NODE_NONE &&
         protocol_is_told(p, &p->members[protocol_member_find(p, writer)])))
        return;
    writer = GWTF_NODE_NONE;
    for (uint32_t rank = 0; rank < protocol_stage_size(p, stage); rank++) {
        const struct protocol_member *member = protocol_member_at(p, stage, rank);
        if (writer == GWTF_NODE_NONE && !member->down && member->incarnation <= notes->iteration)
            writer = member->node;
    }
    if (writer == GWTF_NODE_NONE) {
        give_up(p, notes);
        return;
    }
    notes->writers[stage] = writer;
    if (writer == p->config.self)
        write_instead(p, notes->iteration);
    else
        protocol_send(p, writer, GWTF_MESSAGE_WRITE, GWTF_PHASE_TRAIN, notes->iteration);
}

static void replace_writers(gwtf_protocol *p) {
    for (int i = 0; i < PROTOCOL_SNAPSHOTS_MAX; i++) {
        struct protocol_snapshot *notes = &p->snapshots[i];
        if (!notes->used || notes->manifest_asked || !is_hashed(p, notes))
            continue;
        for (uint32_t stage = 0; stage <= p->config.stages && notes->used; stage++)
            ask_for_file(p, notes, stage);
    }
}

static void ask_for_manifests(gwtf_protocol *p) {
    for (int i = 0; i < PROTOCOL_SNAPSHOTS_MAX; i++) {
        struct protocol_snapshot *notes = &p->snapshots[i];
        if (!notes->used || notes->manifest_asked || !is_hashed(p, notes) ||
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
    replace_writers(p);
    ask_for_manifests(p);
    if (p->ended && p->snapshot_recorded == p->iteration)
        protocol_close(p, p->stopped ? GWTF_ERROR_INTERRUPTED : GWTF_OK, GWTF_NODE_NONE);
}
