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

static void *run(void *argument) {
    struct gwtf_compute *compute = argument;
    atomic_store(&compute->probed_us, gwtf_memory_probe(compute->memory));
    gwtf_bell_ring(compute->bell);
    struct gwtf_compute_done done;
    while (gwtf_queue_pop(compute->works, &done.work)) {
        if (atomic_load(&compute->ends))
            continue;
        done.error.text[0] = '\0';
        done.status = gwtf_memory_execute(compute->memory, &done.work, &done.result, &done.error);
        gwtf_queue_push(compute->done, &done);
    }
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
