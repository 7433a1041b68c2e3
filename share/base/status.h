/* What a call reports. Zero is good; the others are grouped by what is lost when the caller does
 * nothing about it. */
#ifndef GWTF_SHARE_BASE_STATUS_H
#define GWTF_SHARE_BASE_STATUS_H

#include <stddef.h>

typedef enum gwtf_status {
    GWTF_OK = 0,

    /* The call is lost: the arguments or the moment were wrong, nothing has changed. */
    GWTF_ERROR_USAGE = 10,  /* bad command line, configuration or argument; exit code 2 */
    GWTF_ERROR_MEMORY,      /* an allocation failed */
    GWTF_ERROR_LIMIT,       /* a bounded table, queue or message is full */
    GWTF_ERROR_MISSING,     /* a file, name or entry is not there */
    GWTF_ERROR_IO,          /* a file could not be read or written */
    GWTF_ERROR_CORRUPT,     /* a file or message is there, but is not what it claims to be */
    GWTF_ERROR_UNSUPPORTED, /* this build or this machine cannot do it */

    /* A link or a peer is lost: the others go on. */
    GWTF_ERROR_LINK = 20,
    GWTF_ERROR_PEER = 30,
    GWTF_ERROR_FENCED, /* this node was declared down by the others, who go on without it */
    GWTF_ERROR_DEVICE, /* this node's GPU failed: it can compute no more, the others go on */

    /* A stage is lost: its last replica is gone. */
    GWTF_ERROR_STAGE = 40,
    GWTF_ERROR_DISAGREEMENT, /* its replicas hold different weights */

    /* The run is lost, or was told to end before its last iteration. */
    GWTF_ERROR_RUN = 50,
    GWTF_ERROR_INTERRUPTED,
} gwtf_status;

/* A constant name for logs ("usage", "memory", ...); never NULL, "unknown" for a value that is no
 * status. */
const char *gwtf_status_name(gwtf_status status);

/* The exit code of a command that ends with STATUS: 0 for GWTF_OK, 2 for GWTF_ERROR_USAGE, else 1.
 */
int gwtf_status_exit_code(gwtf_status status);

#define GWTF_ERROR_TEXT_MAX 1024

/*
 * One line for the user: what is wrong, and what to do about it. The function that finds an error
 * fills it, callers pass it on. Owned by the caller, empty until something fails.
 */
struct gwtf_error {
    char text[GWTF_ERROR_TEXT_MAX];
};

/* Writes the line (cut at GWTF_ERROR_TEXT_MAX, line breaks made blanks) and returns STATUS. ERROR
 * may be NULL. */
gwtf_status gwtf_error_set(struct gwtf_error *error, gwtf_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
