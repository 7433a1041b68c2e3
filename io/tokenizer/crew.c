#include "io/tokenizer/crew.h"

#include <pthread.h>
#include <stdlib.h>

#define THREADS_MOST 256

/* Pieces in a ring: free, then submitted, then taken by a thread, then done, then free again. */
struct gwtf_crew {
    pthread_mutex_t lock;
    pthread_cond_t work, progress;
    struct gwtf_crew_piece *pieces;
    bool *done;
    size_t pieces_count;
    uint64_t submitted, taken, released; /* pieces so far */
    bool closing;
    struct gwtf_encoder **encoders;
    pthread_t *threads;
    size_t threads_count; /* that were started */
    size_t encoders_count;
};

/* What a thread begins with. */
struct start {
    struct gwtf_crew *crew;
    struct gwtf_encoder *encoder;
};

static void *encode_pieces(void *context) {
    struct start start = *(struct start *)context;
    struct gwtf_crew *crew = start.crew;
    free(context);
    pthread_mutex_lock(&crew->lock);
    for (;;) {
        while (crew->taken == crew->submitted && !crew->closing)
            pthread_cond_wait(&crew->work, &crew->lock);
        if (crew->closing)
            break;
        size_t place = crew->taken++ % crew->pieces_count;
        struct gwtf_crew_piece *piece = &crew->pieces[place];
        pthread_mutex_unlock(&crew->lock);
        piece->status = gwtf_encoder_encode(start.encoder, piece->text, piece->size_bytes,
                                            piece->continued, &piece->list, &piece->error);
        pthread_mutex_lock(&crew->lock);
        crew->done[place] = true;
        pthread_cond_signal(&crew->progress);
    }
    pthread_mutex_unlock(&crew->lock);
    return NULL;
}

static bool start_thread(struct gwtf_crew *crew, size_t index) {
    struct start *start = malloc(sizeof *start);
    if (start == NULL)
        return false;
    *start = (struct start){crew, crew->encoders[index]};
    if (pthread_create(&crew->threads[index], NULL, encode_pieces, start) == 0)
        return true;
    free(start);
    return false;
}

gwtf_status gwtf_crew_create(const struct gwtf_tokenizer *tokenizer, unsigned threads,
                             struct gwtf_crew **crew, struct gwtf_error *error) {
    struct gwtf_crew *made = calloc(1, sizeof *made);
    if (made == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "no memory for the threads: free some");
    size_t count = threads < 1 ? 1 : threads > THREADS_MOST ? THREADS_MOST : threads;
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->work, NULL);
    pthread_cond_init(&made->progress, NULL);
    made->pieces_count = 2 * count + 2;
    made->encoders_count = count;
    made->pieces = calloc(made->pieces_count, sizeof *made->pieces);
    made->done = calloc(made->pieces_count, sizeof *made->done);
    made->encoders = calloc(count, sizeof *made->encoders);
    made->threads = calloc(count, sizeof *made->threads);
    bool good = made->pieces != NULL && made->done != NULL && made->encoders != NULL &&
                made->threads != NULL;
    for (size_t i = 0; i < count && good; i++)
        good = (made->encoders[i] = gwtf_encoder_create(tokenizer)) != NULL;
    for (size_t i = 0; i < count && good; i++) {
        good = start_thread(made, i);
        made->threads_count += good;
    }
    if (!good) {
        gwtf_crew_destroy(made);
        return gwtf_error_set(error, GWTF_ERROR_MEMORY,
                              "no memory for %zu threads: give fewer with --threads", count);
    }
    *crew = made;
    return GWTF_OK;
}

void gwtf_crew_destroy(struct gwtf_crew *crew) {
    if (crew == NULL)
        return;
    pthread_mutex_lock(&crew->lock);
    crew->closing = true;
    pthread_cond_broadcast(&crew->work);
    pthread_mutex_unlock(&crew->lock);
    for (size_t i = 0; i < crew->threads_count; i++)
        pthread_join(crew->threads[i], NULL);
    for (size_t i = 0; crew->encoders != NULL && i < crew->encoders_count; i++)
        gwtf_encoder_destroy(crew->encoders[i]);
    for (size_t i = 0; crew->pieces != NULL && i < crew->pieces_count; i++) {
        free(crew->pieces[i].text);
        free(crew->pieces[i].list.ids);
    }
    pthread_cond_destroy(&crew->progress);
    pthread_cond_destroy(&crew->work);
    pthread_mutex_destroy(&crew->lock);
    free(crew->pieces);
    free(crew->done);
    free(crew->encoders);
    free(crew->threads);
    free(crew);
}

struct gwtf_crew_piece *gwtf_crew_free_piece(struct gwtf_crew *crew) {
    /* Only this thread changes the two. */
    if (crew->submitted - crew->released == crew->pieces_count)
        return NULL;
    struct gwtf_crew_piece *piece = &crew->pieces[crew->submitted % crew->pieces_count];
    piece->list.count = 0;
    return piece;
}

void gwtf_crew_submit(struct gwtf_crew *crew) {
    pthread_mutex_lock(&crew->lock);
    crew->done[crew->submitted % crew->pieces_count] = false;
    crew->submitted++;
    pthread_cond_signal(&crew->work);
    pthread_mutex_unlock(&crew->lock);
}

struct gwtf_crew_piece *gwtf_crew_oldest(struct gwtf_crew *crew, bool wait) {
    if (crew->submitted == crew->released)
        return NULL;
    size_t place = crew->released % crew->pieces_count;
    pthread_mutex_lock(&crew->lock);
    while (wait && !crew->done[place])
        pthread_cond_wait(&crew->progress, &crew->lock);
    bool done = crew->done[place];
    pthread_mutex_unlock(&crew->lock);
    return done ? &crew->pieces[place] : NULL;
}

void gwtf_crew_release(struct gwtf_crew *crew) {
    crew->released++;
}
