#include "worker/runtime/compute.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* The protocol has at most two works under way; the rest is room for its changes of mind. */
#define WORKS_MAX 16

struct gwtf_compute {
    gwtf_memory *memory;
    gwtf_bell *bell;
    gwtf_queue *works;
    gwtf_queue *done;
    pthread_t thread;
    _Atomic int64_t probed_us;
    atomic_bool ends;
};

static void start(struct gwtf_compute *compute, struct gwtf_compute_done *work) {
    work->error.text[0] = '\0';
    work->status = gwtf_memory_start(compute->memory, &work->work, &work->result, &work->error);
}

static void finish(struct gwtf_compute *compute, struct gwtf_compute_done *work) {
    if (work->status == GWTF_OK)
        work->status = gwtf_memory_finish(compute->memory, &work->result, &work->error);
    gwtf_queue_push(compute->done, work);
}

/* The next work, if there is one; waits for it unless one is UNDER_WAY. What is left at the end is
 * dropped. */
static bool take(struct gwtf_compute *compute, bool under_way, struct gwtf_work *work) {
    do {
        bool found = under_way ? gwtf_queue_try_pop(compute->works, work)
                               : gwtf_queue_pop(compute->works, work);
        if (!found)
            return false;
    } while (atomic_load(&compute->ends));
    return true;
}

/* While a GPU is at one work, it gets the next. */
static void do_works(struct gwtf_compute *compute) {
    struct gwtf_compute_done works[2];
    struct gwtf_compute_done *before = NULL; /* under way */
    for (unsigned i = 0;; i++) {
        struct gwtf_compute_done *next = &works[i % 2];
        bool found = take(compute, before != NULL, &next->work);
        if (!found && before == NULL)
            return;
        if (found)
            start(compute, next);
        if (before != NULL)
            finish(compute, before);
        before = found ? next : NULL;
        if (found && !gwtf_memory_goes_on(compute->memory)) {
            finish(compute, next);
            before = NULL;
        }
    }
}

static void *run(void *argument) {
    struct gwtf_compute *compute = argument;
    atomic_store(&compute->probed_us, gwtf_memory_probe(compute->memory));
    gwtf_bell_ring(compute->bell);
    do_works(compute);
    return NULL;
}

gwtf_status gwtf_compute_create(gwtf_memory *memory, gwtf_bell *bell, gwtf_compute **compute) {
    struct gwtf_compute *made = calloc(1, sizeof *made);
    if (made == NULL)
        return GWTF_ERROR_MEMORY;
    made->memory = memory;
    made->bell = bell;
    gwtf_status status = gwtf_queue_create(sizeof(struct gwtf_work), WORKS_MAX, NULL, &made->works);
    if (status == GWTF_OK)
        status = gwtf_queue_create(sizeof(struct gwtf_compute_done), WORKS_MAX, bell, &made->done);
    if (status == GWTF_OK && pthread_create(&made->thread, NULL, run, made) != 0)
        status = GWTF_ERROR_MEMORY;
    if (status != GWTF_OK) {
        gwtf_queue_destroy(made->works);
        gwtf_queue_destroy(made->done);
        free(made);
        return status;
    }
    *compute = made;
    return GWTF_OK;
}

int64_t gwtf_compute_probed_us(gwtf_compute *compute) {
    return atomic_load(&compute->probed_us);
}

gwtf_status gwtf_compute_push(gwtf_compute *compute, const struct gwtf_work *work) {
    return gwtf_queue_try_push(compute->works, work);
}

bool gwtf_compute_try_done(gwtf_compute *compute, struct gwtf_compute_done *done) {
    return gwtf_queue_try_pop(compute->done, done);
}

void gwtf_compute_destroy(gwtf_compute *compute) {
    if (compute == NULL)
        return;
    atomic_store(&compute->ends, true);
    gwtf_queue_close(compute->works);
    gwtf_queue_close(compute->done);
    pthread_join(compute->thread, NULL);
    gwtf_queue_destroy(compute->works);
    gwtf_queue_destroy(compute->done);
    free(compute);
}
