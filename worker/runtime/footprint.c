#include "worker/runtime/footprint.h"

#include "worker/runtime/machine.h"
#include "worker/runtime/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the process that does the work is asked, */
struct question {
    const struct gwtf_setup *setup;
    struct gwtf_memory_room room;
    uint32_t stage, workers, threads;
};

/* and what it tells. */
struct answer {
    gwtf_status status;
    struct gwtf_error error;
    struct gwtf_footprint found;
};

static gwtf_status execute(gwtf_memory *memory, enum gwtf_work_kind kind, uint32_t slot) {
    struct gwtf_work work = {.kind = kind,
                             .phase = GWTF_PHASE_TRAIN,
                             .iteration = 1,
                             .slot = slot,
                             .count = gwtf_memory_gradient_floats(memory),
                             .parts_present = {1},
                             .scale = 1,
                             .gradient_norm = 1,
                             .writes = true};
    /* The sum is taken as the exchange takes it: a share at a time. */
    if (kind == GWTF_WORK_REDUCE)
        work.count = work.count < 16 ? work.count : 16;
    struct gwtf_work_result result;
    return gwtf_memory_execute(memory, &work, &result, NULL);
}

/* One microbatch in SLOT, forward and backward. */
static gwtf_status run_microbatch(gwtf_memory *memory, uint32_t stage, uint32_t slot) {
    static const enum gwtf_work_kind relay[] = {GWTF_WORK_FORWARD, GWTF_WORK_BACKWARD};
    static const enum gwtf_work_kind data[] = {GWTF_WORK_EMBED, GWTF_WORK_LOSS,
                                               GWTF_WORK_EMBED_BACKWARD};
    const enum gwtf_work_kind *kinds = stage == 0 ? data : relay;
    size_t count = stage == 0 ? sizeof data / sizeof data[0] : sizeof relay / sizeof relay[0];
    gwtf_status status = GWTF_OK;
    for (size_t i = 0; i < count && status == GWTF_OK; i++)
        status = execute(memory, kinds[i], slot);
    return status;
}

/* An iteration in which everything is used that can be. */
static gwtf_status run_iteration(gwtf_memory *memory, const struct gwtf_memory_options *options,
                                 struct gwtf_error *error) {
    gwtf_status status = GWTF_OK;
    for (uint32_t slot = 0; slot < options->slots && status == GWTF_OK; slot++)
        status = run_microbatch(memory, options->stage, slot);
    /* What is kept of a microbatch comes from a slot, which takes the next one. */
    for (uint32_t kept = 0; kept < options->retained && status == GWTF_OK; kept++) {
        uint32_t slot = kept % options->slots;
        gwtf_memory_keep(memory, slot, options->slots + kept);
        status = run_microbatch(memory, options->stage, slot);
    }
    static const enum gwtf_work_kind ends[] = {GWTF_WORK_REDUCE, GWTF_WORK_STEP,
                                               GWTF_WORK_SNAPSHOT};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0] && status == GWTF_OK; i++)
        status = execute(memory, ends[i], 0);
    if (status != GWTF_OK)
        gwtf_error_set(error, status,
                       "'%s' has changed or is damaged: make it again with gwtf "
                       "tokenize",
                       options->setup->config.data.train);
    return status;
}

/* What libraries take when they compute for the first time belongs to the program: here a block
 * that is too small to count. */
static gwtf_status wake_libraries(const struct gwtf_memory_options *options,
                                  struct gwtf_error *error) {
    const struct gwtf_model_shape model = {.family = options->setup->model.family,
                                           .layers = 1,
                                           .width = 16,
                                           .heads = 2,
                                           .context = 16,
                                           .vocabulary = 16};
    struct gwtf_stage_options small =
        gwtf_setup_stage_options(options->setup, gwtf_stage_shape_of(&model, 1, 1));
    small.threads = options->threads;
    small.microbatch = 1;
    float boundaries[4][16 * 16] = {{0}};
    gwtf_stage *stage = NULL;
    gwtf_status status = gwtf_stage_create(&small, &stage, error);
    if (status != GWTF_OK)
        return status;
    gwtf_stage_forward(stage, 0, boundaries[0], boundaries[1], true);
    gwtf_stage_backward(stage, 0, boundaries[0], boundaries[2], boundaries[3]);
    gwtf_stage_destroy(stage);
    return GWTF_OK;
}

/* What there is of a GPU, once libraries have taken theirs. */
static gwtf_status look_at_gpu(const struct question *question, struct gwtf_memory_room *room,
                               struct gwtf_footprint *found, struct gwtf_error *error) {
    found->on_gpu = gwtf_setup_backend(question->setup) == GWTF_BACKEND_CUDA;
    if (!found->on_gpu)
        return GWTF_OK;
    gwtf_status status = gwtf_gpu_look(0, &found->gpu, error);
    if (status == GWTF_OK)
        status = gwtf_gpu_free_bytes(0, &found->gpu_free_bytes, error);
    if (status == GWTF_OK)
        room->gpu_bytes =
            gwtf_memory_gpu_share(&found->gpu, found->gpu_free_bytes,
                                  question->setup->data_nodes + question->setup->relays);
    return status;
}

static gwtf_status predict(const struct gwtf_memory_options *options, struct gwtf_footprint *found,
                           struct gwtf_error *error) {
    gwtf_status status = gwtf_memory_predict_peak(options, &found->predicted_bytes, error);
    if (status == GWTF_OK)
        status = gwtf_memory_predict_gpu(options, &found->gpu_predicted_bytes, error);
    found->slots = options->slots;
    found->retained = options->retained;
    found->predicted_bytes += found->process_bytes;
    return status;
}

static gwtf_status measure(const struct gwtf_memory_options *options, struct gwtf_footprint *found,
                           struct gwtf_error *error) {
    gwtf_memory *memory = NULL;
    uint64_t left = 0;
    gwtf_status status = gwtf_memory_create(options, &memory, error);
    if (status == GWTF_OK)
        status = run_iteration(memory, options, error);
    found->measured_bytes = gwtf_machine_resident_peak_bytes();
    if (status == GWTF_OK && found->on_gpu)
        status = gwtf_gpu_free_bytes(0, &left, error);
    if (status == GWTF_OK && found->on_gpu)
        found->gpu_measured_bytes = found->gpu_free_bytes > left ? found->gpu_free_bytes - left : 0;
    return status;
}

/* Chooses what a worker would choose, and does a worker's work. */
static gwtf_status do_the_work(const struct question *question, struct gwtf_footprint *found,
                               struct gwtf_error *error) {
    struct gwtf_memory_options options = {.setup = question->setup,
                                          .stage = question->stage,
                                          .slots = 1,
                                          .threads = question->threads,
                                          .replicas = question->workers,
                                          .snapshot = ""};
    struct gwtf_memory_room room = question->room;
    gwtf_status status = wake_libraries(&options, error);
    found->process_bytes = gwtf_machine_resident_bytes();
    if (status == GWTF_OK)
        status = look_at_gpu(question, &room, found, error);
    if (status == GWTF_OK)
        status = gwtf_memory_choose(&options, &room, error);
    if (status == GWTF_OK)
        status = predict(&options, found, error);
    return status == GWTF_OK ? measure(&options, found, error) : status;
}

static bool read_answer(int from, struct answer *answer) {
    size_t got = 0;
    while (got < sizeof *answer) {
        ssize_t part = read(from, (char *)answer + got, sizeof *answer - got);
        if (part <= 0 && !(part < 0 && errno == EINTR))
            return false;
        got += part > 0 ? (size_t)part : 0;
    }
    return true;
}

/* In a child, so that its peak is that of one worker. */
static gwtf_status ask_child(const struct question *question, struct answer *answer,
                             struct gwtf_error *error) {
    int ends[2];
    if (pipe(ends) != 0)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "cannot open a pipe: %s: close programs",
                              strerror(errno));
    pid_t child = fork();
    if (child == 0) {
        struct answer made = {.found = answer->found};
        close(ends[0]);
        made.status = do_the_work(question, &made.found, &made.error);
        bool told = write(ends[1], &made, sizeof made) == (ssize_t)sizeof made;
        _exit(told ? 0 : 1);
    }
    close(ends[1]);
    bool got = child > 0 && read_answer(ends[0], answer);
    close(ends[0]);
    while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
    if (!got)
        return gwtf_error_set(error, GWTF_ERROR_PEER,
                              "the process that stood for a worker of stage %u died: there may be "
                              "too little memory; take a smaller capacity",
                              question->stage);
    if (answer->status != GWTF_OK)
        *error = answer->error;
    return answer->status;
}

/* The stage's first worker: the one whose capacity counts. COUNT is how many it has. */
static gwtf_status find_worker(const struct gwtf_setup *setup, uint32_t stage,
                               struct gwtf_placement *worker, uint32_t *count,
                               struct gwtf_error *error) {
    struct gwtf_placement *placements = NULL;
    gwtf_status status = gwtf_setup_place(setup, &placements, error);
    if (status != GWTF_OK)
        return status;
    *count = 0;
    for (uint32_t i = 0; i < setup->data_nodes + setup->relays; i++)
        if (placements[i].stage == stage && (*count)++ == 0)
            *worker = placements[i];
    free(placements);
    return GWTF_OK;
}

gwtf_status gwtf_footprint_measure(const struct gwtf_setup *setup, uint32_t stage,
                                   uint64_t free_bytes, uint32_t threads,
                                   struct gwtf_footprint *footprint, struct gwtf_error *error) {
    struct gwtf_placement worker = {0};
    struct answer answer = {.found = {.stage = stage}};
    gwtf_status status = find_worker(setup, stage, &worker, &answer.found.workers, error);
    if (status != GWTF_OK)
        return status;
    const struct question question = {
        .setup = setup,
        .room = {.free_bytes = free_bytes,
                 .capacity = worker.capacity,
                 .capacity_useful = worker.capacity_useful,
                 .retained_useful = gwtf_memory_useful_to_retain(setup, stage)},
        .stage = stage,
        .workers = answer.found.workers,
        .threads = threads,
    };
    status = ask_child(&question, &answer, error);
    if (status == GWTF_OK)
        *footprint = answer.found;
    return status;
}
