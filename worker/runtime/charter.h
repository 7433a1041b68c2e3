/*
 * What the bootstrap hands each worker after the spawn, and what a worker says of itself before:
 * plain bytes between processes of one build.
 */
#ifndef GWTF_WORKER_RUNTIME_CHARTER_H
#define GWTF_WORKER_RUNTIME_CHARTER_H

#include "io/snapshot.h"
#include "share/base/status.h"
#include "share/base/types.h"

#include <stddef.h>
#include <stdint.h>

/* Tags of the messages between the bootstrap and its workers. */
#define GWTF_TAG_ARRIVED 11 /* worker: struct gwtf_arrived */
#define GWTF_TAG_CHARTER 12 /* bootstrap: packed charter */
#define GWTF_TAG_LEFT 13    /* worker: uint32_t status, as it ends */

/* A worker's first words. */
struct gwtf_arrived {
    char host[256];
    int64_t pid;
    uint32_t cores;      /* that this process may use */
    uint64_t free_bytes; /* of its machine's memory, before any worker has taken some */
};

struct gwtf_charter_member {
    gwtf_node_id node;
    uint32_t stage;
    int32_t rank; /* in the workers' world; of a place, or for who takes one: -1 */
    int64_t pid;  /* 0: on another host than whom the charter is for */
};

struct gwtf_charter {
    gwtf_node_id self;
    uint32_t incarnation;
    uint32_t first_iteration;
    uint32_t threads;      /* for compute */
    uint64_t memory_bytes; /* this worker's part of the machine's free memory */
    uint32_t capacity;     /* configured; 0: from free memory */
    uint32_t capacity_useful;
    char snapshot[GWTF_SNAPSHOT_PATH_MAX]; /* to start from; "": fresh */
    uint32_t members_count;
    uint32_t first_place;    /* members from this id on were not spawned: who joins takes one */
    uint32_t enters;         /* who joins: the incarnation in which it enters; 0: who was spawned */
    uint64_t config_bytes;   /* with the final zero */
    uint64_t topology_bytes; /* the same */
    struct gwtf_charter_member *members;
    char *config;   /* text, as resolved */
    char *topology; /* text, of the emulated network; "": none */
};

/* One block of bytes; *BYTES is the caller's to free. Errors: GWTF_ERROR_MEMORY. */
gwtf_status gwtf_charter_pack(const struct gwtf_charter *charter, void **bytes, size_t *size_bytes);

/*
 * The reverse; members, config and topology are allocated, free them with gwtf_charter_deinit.
 * Errors: GWTF_ERROR_CORRUPT when the bytes are no charter of this build, GWTF_ERROR_MEMORY.
 */
gwtf_status gwtf_charter_unpack(const void *bytes, size_t size_bytes, struct gwtf_charter *charter);
void gwtf_charter_deinit(struct gwtf_charter *charter);

#endif
