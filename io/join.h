/*
 * RUN/join/: how a process that wants to join a run and the run's nodes find each other.
 *
 *     interfaces         that the run goes over
 *     closed             why nobody can join
 *     charter            what every node was told at the start (worker/runtime/charter.h)
 *     TOKEN.spawn        somebody wants a process to be started that joins
 *     TOKEN.request      somebody asks for a place
 *     TOKEN.place        the recorder gives it one, or says why not
 *     TOKEN.member       it has taken that place, as it was given
 *     TOKEN.port-NNNN    where node NNNN waits for it
 *     TOKEN.end          how the process ended, for who started it
 *     TOKEN.moves        it has left its stage for another one: who started it starts it again
 *
 * TOKEN names the process that joins. Files are replaced by rename, so that nobody reads halves.
 * Who gives up, and who leaves, removes its own files; the recorder those of a place that is given
 * away again.
 */
#ifndef GWTF_IO_JOIN_H
#define GWTF_IO_JOIN_H

#include "share/base/status.h"
#include "share/base/types.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GWTF_JOIN_TOKEN_MAX 96
#define GWTF_JOIN_DATA_MAX 4096
#define GWTF_JOIN_PORT_MAX 1025
#define GWTF_JOIN_DATA_NODE UINT32_MAX /* wished for, as if it were a stage */

/* Makes RUN/join, empty. Errors: GWTF_ERROR_IO with the line for the user. */
gwtf_status gwtf_join_prepare(const char *directory, struct gwtf_error *error);

/* The charter, bytes for gwtf_charter_unpack. *BYTES is the caller's to free. Errors: MISSING when
 * there is none, IO, MEMORY. */
gwtf_status gwtf_join_write_charter(const char *directory, const void *bytes, size_t size_bytes,
                                    struct gwtf_error *error);
gwtf_status gwtf_join_read_charter(const char *directory, char **bytes, size_t *size_bytes,
                                   struct gwtf_error *error);

/* Nobody can join, or not any more, and WHY; and what was said, "": nothing. */
void gwtf_join_write_closed(const char *directory, const char *why);
void gwtf_join_read_closed(const char *directory, char *why, size_t why_bytes);

/* Whether it is there. */
bool gwtf_join_is_open(const char *directory);

/* The run is over: nobody finds its charter any more. */
void gwtf_join_close(const char *directory);

/* The network interfaces that the run uses, as mpirun is told them; "" where nobody has said. */
gwtf_status gwtf_join_write_interfaces(const char *directory, const char *interfaces,
                                       struct gwtf_error *error);
void gwtf_join_read_interfaces(const char *directory, char *interfaces, size_t interfaces_bytes);

#define GWTF_JOIN_DEVICE_MAX 8

struct gwtf_join_spawn {
    char token[GWTF_JOIN_TOKEN_MAX];
    char device[GWTF_JOIN_DEVICE_MAX]; /* as nodes.N.device */
    char host[256];                    /* on which; "": anywhere */
    uint32_t stage, capacity, threads; /* as of `gwtf join`; 0: as it fits */
    bool stays;                        /* in that stage and no other */
    char data[GWTF_JOIN_DATA_MAX];     /* data node: its own; "": the run's */
};

struct gwtf_join_request {
    char token[GWTF_JOIN_TOKEN_MAX];
    char host[256];
    int64_t pid;
    uint32_t stage;       /* wished for; 0: any */
    bool stays;           /* a person has named the stage: no other will do */
    double block_seconds; /* worker/runtime/pace.h; 0: not known */
};

struct gwtf_join_place {
    char token[GWTF_JOIN_TOKEN_MAX];
    gwtf_node_id node; /* GWTF_NODE_NONE: there is none, see `refusal` */
    uint32_t stage;
    uint32_t incarnation;  /* in which it enters */
    bool stays;            /* as of the request */
    double block_seconds;  /* the same */
    char why[160];         /* this stage was chosen, or no place is given */
    gwtf_node_id *members; /* nodes that live, who joins connects to all; the reader's to free */
    size_t members_count;
};

gwtf_status gwtf_join_write_spawn(const char *directory, const struct gwtf_join_spawn *spawn,
                                  struct gwtf_error *error);
/* False when there is none, or another process has taken it: one gets it. */
bool gwtf_join_take_spawn(const char *directory, const char *token, struct gwtf_join_spawn *spawn);

gwtf_status gwtf_join_write_request(const char *directory, const struct gwtf_join_request *request,
                                    struct gwtf_error *error);
gwtf_status gwtf_join_write_place(const char *directory, const struct gwtf_join_place *place,
                                  struct gwtf_error *error);
/* False when it is not there yet. */
bool gwtf_join_read_request(const char *directory, const char *token,
                            struct gwtf_join_request *request);
bool gwtf_join_read_place(const char *directory, const char *token, struct gwtf_join_place *place);

/* The place has been taken: it is TOKEN.member from now on. */
void gwtf_join_keep_member(const char *directory, const char *token);
bool gwtf_join_read_member(const char *directory, const char *token, struct gwtf_join_place *place);
void gwtf_join_remove_member(const char *directory, const char *token);

/* A port's name is one line of MPI's. */
gwtf_status gwtf_join_write_port(const char *directory, const char *token, gwtf_node_id node,
                                 const char *port, struct gwtf_error *error);
bool gwtf_join_read_port(const char *directory, const char *token, gwtf_node_id node,
                         char port[GWTF_JOIN_PORT_MAX]);
/* As gwtf_join_read_port, but only one that was written in the last minute, and since SINCE_UNIX_S.
 */
bool gwtf_join_read_new_port(const char *directory, const char *token, gwtf_node_id node,
                             int64_t since_unix_s, char port[GWTF_JOIN_PORT_MAX]);
void gwtf_join_remove_port(const char *directory, const char *token, gwtf_node_id node);

/* How a process that joined ended: its exit code, which mpirun does not tell, and the line for the
 * user ("": all is well). */
gwtf_status gwtf_join_write_end(const char *directory, const char *token, int code,
                                const char *line);
bool gwtf_join_read_end(const char *directory, const char *token, int *code,
                        struct gwtf_error *line);

/* The process of TOKEN has left its stage for this one; 0: it has not. */
gwtf_status gwtf_join_write_moves(const char *directory, const char *token, uint32_t stage);
uint32_t gwtf_join_read_moves(const char *directory, const char *token);

/* Calls VISIT with each node that waits for TOKEN. */
void gwtf_join_each_port(const char *directory, const char *token,
                         void (*visit)(void *context, gwtf_node_id node), void *context);

void gwtf_join_remove_request(const char *directory, const char *token);

/* Everything of TOKEN. */
void gwtf_join_remove(const char *directory, const char *token);

/*
 * Calls VISIT with each token that has a file of KIND ("request", "place", "member"), in the order
 * of their names. A directory that is not there has none.
 */
void gwtf_join_each(const char *directory, const char *kind,
                    void (*visit)(void *context, const char *token), void *context);

#endif
