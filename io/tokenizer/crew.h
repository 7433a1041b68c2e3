/*
 * Threads that encode pieces of a text, private to this folder. One thread fills pieces in the
 * order of the text and takes them back in that order.
 */
#ifndef GWTF_IO_TOKENIZER_CREW_H
#define GWTF_IO_TOKENIZER_CREW_H

#include "io/tokenizer/tokenizer.h"

struct gwtf_crew;

struct gwtf_crew_piece {
    /* Set by who fills it; TEXT is the crew's, of ROOM bytes, and may be made larger by realloc. */
    unsigned char *text;
    size_t size_bytes, room;
    bool continued;
    size_t part;  /* for who takes it back */
    uint64_t end; /* the same */
    /* Set by the crew. */
    struct gwtf_token_list list;
    gwtf_status status;
    struct gwtf_error error;
};

/* Errors: GWTF_ERROR_MEMORY. */
gwtf_status gwtf_crew_create(const struct gwtf_tokenizer *tokenizer, unsigned threads,
                             struct gwtf_crew **crew, struct gwtf_error *error);
void gwtf_crew_destroy(struct gwtf_crew *crew); /* NULL is allowed; waits for the threads */

/* A piece to fill, with an empty list; NULL when all are under way. */
struct gwtf_crew_piece *gwtf_crew_free_piece(struct gwtf_crew *crew);
/* Gives the free piece to the threads. */
void gwtf_crew_submit(struct gwtf_crew *crew);
/* The oldest piece that was submitted, encoded: waits for it. NULL when there is none. WAIT false:
 * also when it is not done. */
struct gwtf_crew_piece *gwtf_crew_oldest(struct gwtf_crew *crew, bool wait);
/* The oldest is free again. */
void gwtf_crew_release(struct gwtf_crew *crew);

#endif
