#include "worker/simulation/measure.h"

#include <stdlib.h>
#include <string.h>

/* A microbatch that a node has begun since its last step, and its passes' times. */
struct held {
    uint32_t iteration;
    struct gwtf_microbatch microbatch;
    int64_t first_us; /* EMBED or FORWARD */
    int64_t loss_us;
    int64_t whole_us;        /* all passes; 0: the backward one is not done */
    gwtf_time_us crashed_us; /* in a stage's list: when its node crashed */
};

struct held_list {
    struct held *items;
    size_t count;
    size_t max;
};

struct node {
    uint32_t stage;
    struct held_list held;
    gwtf_time_us free_us; /* its processor, from what has begun */
    int64_t begun_us[2];  /* how long the works take that are under way */
    bool begun_counts[2]; /* of a microbatch */
    uint32_t begun_count;
};

/* Which microbatches of an iteration are in a stage's step. */
struct counted {
    uint32_t iteration;
    uint64_t count;
    uint8_t *bits;
};

struct stage {
    struct held_list crashed;  /* of nodes that crashed, begun again by nobody yet */
    struct counted counted[2]; /* by iteration modulo 2 */
};

struct measure {
    struct node *nodes;
    size_t nodes_count;
    struct stage *stages;
    uint32_t stages_count;
    uint32_t microbatches; /* per data node, at most */
    size_t bits_bytes;
    int64_t compute_us;
    int64_t useful_us;
    int64_t crashed_us;
    uint64_t completed;
    uint32_t crashes;
    int64_t *recoveries_us;
    size_t recoveries;
    size_t recoveries_max;
};

/* Room for one more of COUNT items of SIZE bytes; NULL: no memory, and ITEMS are as they were. */
static void *grow(void *items, size_t count, size_t *max, size_t size) {
    if (count < *max)
        return items;
    size_t more = *max ? 2 * *max : 8;
    void *grown = realloc(items, more * size);
    if (grown)
        *max = more;
    return grown;
}

static bool append(struct held_list *list, const struct held *held) {
    struct held *items = grow(list->items, list->count, &list->max, sizeof *items);
    if (!items)
        return false;
    list->items = items;
    items[list->count++] = *held;
    return true;
}

struct measure *measure_create(const struct gwtf_simulation_node *nodes, size_t nodes_count,
                               uint32_t stages, uint32_t microbatches) {
    struct measure *measure = calloc(1, sizeof *measure);
    if (!measure)
        return NULL;
    measure->nodes = calloc(nodes_count, sizeof *measure->nodes);
    measure->stages = calloc(stages + 1, sizeof *measure->stages);
    measure->nodes_count = measure->nodes ? nodes_count : 0;
    measure->stages_count = measure->stages ? stages + 1 : 0;
    measure->microbatches = microbatches;
    size_t data_nodes = 0;
    for (size_t i = 0; i < measure->nodes_count; i++) {
        measure->nodes[i].stage = nodes[i].stage;
        data_nodes += nodes[i].stage == 0;
    }
    measure->bits_bytes = (data_nodes * microbatches + 7) / 8;
    bool whole = measure->nodes && measure->stages;
    for (uint32_t stage = 0; stage < measure->stages_count; stage++)
        for (int i = 0; i < 2; i++) {
            measure->stages[stage].counted[i].bits = calloc(measure->bits_bytes, 1);
            whole = whole && measure->stages[stage].counted[i].bits;
        }
    if (whole)
        return measure;
    measure_destroy(measure);
    return NULL;
}

void measure_destroy(struct measure *measure) {
    if (!measure)
        return;
    for (size_t i = 0; i < measure->nodes_count; i++)
        free(measure->nodes[i].held.items);
    for (uint32_t stage = 0; stage < measure->stages_count; stage++) {
        free(measure->stages[stage].crashed.items);
        free(measure->stages[stage].counted[0].bits);
        free(measure->stages[stage].counted[1].bits);
    }
    free(measure->nodes);
    free(measure->stages);
    free(measure->recoveries_us);
    free(measure);
}

/* A pass of a microbatch in training. */
static bool is_pass(const struct gwtf_work *work) {
    return work->phase == GWTF_PHASE_TRAIN && work->kind <= GWTF_WORK_EMBED_BACKWARD;
}

static bool is_first(const struct gwtf_work *work) {
    return work->kind == GWTF_WORK_EMBED || work->kind == GWTF_WORK_FORWARD;
}

/* The newest of WORK's microbatch, or NULL. */
static struct held *find(const struct held_list *list, const struct gwtf_work *work) {
    for (size_t i = list->count; i > 0; i--) {
        struct held *held = &list->items[i - 1];
        if (held->iteration == work->iteration &&
            held->microbatch.data_node == work->microbatch.data_node &&
            held->microbatch.index == work->microbatch.index)
            return held;
    }
    return NULL;
}

/* Counts HELD in STAGE's step, unless its microbatch is there already. */
static void count(struct measure *measure, uint32_t stage, const struct held *held) {
    struct counted *counted = &measure->stages[stage].counted[held->iteration & 1];
    if (counted->iteration != held->iteration) {
        counted->iteration = held->iteration;
        counted->count = 0;
        memset(counted->bits, 0, measure->bits_bytes);
    }
    size_t bit =
        (size_t)held->microbatch.data_node * measure->microbatches + held->microbatch.index;
    if (held->whole_us == 0 || bit / 8 >= measure->bits_bytes ||
        (counted->bits[bit / 8] >> bit % 8 & 1) != 0)
        return;
    counted->bits[bit / 8] |= (uint8_t)(1u << bit % 8);
    measure->useful_us += held->whole_us;
    if (held->crashed_us != 0)
        measure->crashed_us -= held->whole_us;
    counted->count++;
}

/* Ends the recovery of WORK's microbatch in STAGE, where there is one. */
static bool recover(struct measure *measure, struct stage *stage, const struct gwtf_work *work,
                    gwtf_time_us now_us) {
    struct held *held = find(&stage->crashed, work);
    if (!held)
        return true;
    int64_t *recoveries = grow(measure->recoveries_us, measure->recoveries,
                               &measure->recoveries_max, sizeof *recoveries);
    if (!recoveries)
        return false;
    measure->recoveries_us = recoveries;
    recoveries[measure->recoveries++] = now_us - held->crashed_us;
    *held = stage->crashed.items[--stage->crashed.count];
    return true;
}

static bool note_begin(struct measure *measure, struct node *node,
                       const struct gwtf_simulation_notice *notice) {
    const struct gwtf_work *work = notice->work;
    if (node->begun_count < 2) {
        node->begun_us[node->begun_count] = notice->work_us;
        node->begun_counts[node->begun_count++] = is_pass(work);
    }
    if (node->free_us < notice->now_us)
        node->free_us = notice->now_us;
    node->free_us += notice->work_us;
    if (!is_pass(work))
        return true;
    if (!recover(measure, &measure->stages[node->stage], work, notice->now_us))
        return false;
    struct held held = {.iteration = work->iteration, .microbatch = work->microbatch};
    return !is_first(work) || append(&node->held, &held);
}

static void note_pass(struct measure *measure, struct node *node,
                      const struct gwtf_simulation_notice *notice) {
    struct held *held = find(&node->held, notice->work);
    measure->compute_us += notice->work_us;
    if (!held)
        return;
    if (is_first(notice->work))
        held->first_us = notice->work_us;
    else if (notice->work->kind == GWTF_WORK_LOSS)
        held->loss_us = notice->work_us;
    else
        held->whole_us = held->first_us + held->loss_us + notice->work_us;
}

static void note_end(struct measure *measure, struct node *node,
                     const struct gwtf_simulation_notice *notice) {
    if (node->begun_count > 0) {
        node->begun_us[0] = node->begun_us[1];
        node->begun_counts[0] = node->begun_counts[1];
        node->begun_count--;
    }
    if (is_pass(notice->work)) {
        note_pass(measure, node, notice);
    } else if (notice->work->kind == GWTF_WORK_STEP) {
        for (size_t i = 0; i < node->held.count; i++)
            count(measure, node->stage, &node->held.items[i]);
        node->held.count = 0;
    }
}

/* The part of what was under way that had been computed. */
static int64_t started_us(const struct node *node, gwtf_time_us now_us) {
    gwtf_time_us from_us = node->free_us;
    int64_t sum_us = 0;
    for (uint32_t i = node->begun_count; i > 0; i--) {
        gwtf_time_us until_us = from_us < now_us ? from_us : now_us;
        from_us -= node->begun_us[i - 1];
        if (node->begun_counts[i - 1] && until_us > from_us)
            sum_us += until_us - from_us;
    }
    return sum_us;
}

static bool note_crash(struct measure *measure, struct node *node, gwtf_time_us now_us) {
    measure->crashes++;
    measure->compute_us += started_us(node, now_us);
    measure->crashed_us += started_us(node, now_us);
    node->begun_count = 0;
    for (size_t i = 0; i < node->held.count; i++) {
        struct held *held = &node->held.items[i];
        held->crashed_us = now_us;
        measure->crashed_us +=
            held->whole_us != 0 ? held->whole_us : held->first_us + held->loss_us;
        if (!append(&measure->stages[node->stage].crashed, &node->held.items[i]))
            return false;
    }
    node->held.count = 0;
    return true;
}

/* What nodes that crashed had of iterations up to ITERATION, and nobody had to do again, was in the
 * sum. */
static void settle(struct measure *measure, uint32_t iteration) {
    for (uint32_t stage = 0; stage < measure->stages_count; stage++) {
        struct held_list *crashed = &measure->stages[stage].crashed;
        size_t kept = 0;
        for (size_t i = 0; i < crashed->count; i++) {
            if (crashed->items[i].iteration > iteration)
                crashed->items[kept++] = crashed->items[i];
            else
                count(measure, stage, &crashed->items[i]);
        }
        crashed->count = kept;
    }
    for (int i = 0; i < 2; i++) {
        struct counted *counted = &measure->stages[0].counted[i];
        if (counted->iteration > iteration)
            continue;
        measure->completed += counted->count;
        counted->count = 0;
    }
}

bool measure_note(struct measure *measure, const struct gwtf_simulation_notice *notice) {
    struct node *node = &measure->nodes[notice->index];
    switch (notice->kind) {
    case GWTF_SIMULATION_WORK_BEGINS:
        return note_begin(measure, node, notice);
    case GWTF_SIMULATION_WORK_ENDED:
        note_end(measure, node, notice);
        return true;
    case GWTF_SIMULATION_REPORTED:
        settle(measure, notice->report->iteration - 1);
        return true;
    case GWTF_SIMULATION_CRASHED:
        return note_crash(measure, node, notice->now_us);
    case GWTF_SIMULATION_LEFT:
        break;
    }
    return true;
}

static int compare(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return a < b ? -1 : a > b;
}

struct measure_totals measure_get_totals(struct measure *measure, uint32_t reported) {
    settle(measure, reported);
    if (measure->recoveries > 0)
        qsort(measure->recoveries_us, measure->recoveries, sizeof *measure->recoveries_us, compare);
    return (struct measure_totals){.compute_seconds = (double)measure->compute_us / 1e6,
                                   .useful_seconds = (double)measure->useful_us / 1e6,
                                   .crashed_seconds = (double)measure->crashed_us / 1e6,
                                   .completed = measure->completed,
                                   .crashes = measure->crashes,
                                   .recoveries_us = measure->recoveries_us,
                                   .recoveries = measure->recoveries};
}
