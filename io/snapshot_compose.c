#include "io/snapshot_stage.h"

#include "share/base/assert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOWHERE UINT64_MAX

/* One composition: what there is, and what becomes of it. */
struct composition {
    const char *snapshots;
    const struct gwtf_snapshot_plan *plan;
    uint64_t *rests;                    /* by stage: the step of its newest file; NOWHERE: lost */
    uint64_t newest;                    /* of them */
    uint64_t step;                      /* of what is made */
    struct gwtf_snapshot_info snapshot; /* the newest whole one; path "": none */
    struct gwtf_error *error;
};

static gwtf_status out_of_memory(const struct composition *of) {
    return gwtf_file_error(of->error, "compose", of->snapshots, ENOMEM);
}

/* Whether the rest of STEP has a file of STAGE that can be used. */
static bool has_file(const struct composition *of, uint64_t step, uint32_t stage) {
    char directory[GWTF_SNAPSHOT_PATH_MAX], path[GWTF_FILE_PATH_MAX];
    struct gwtf_stage_header header;
    hid_t file;
    if (gwtf_snapshot_rest_directory(of->snapshots, step, directory, NULL) != GWTF_OK ||
        gwtf_snapshot_open_stage(directory, stage, &file, &header, path, NULL) != GWTF_OK)
        return false;
    H5Fclose(file);
    return header.step == step && header.stage == stage && header.stages == of->plan->stages &&
           header.first_layer == of->plan->parts[stage].first_layer &&
           header.layers == of->plan->parts[stage].layers;
}

/* The files of the newest rest; those of a stage may be one step behind. */
static gwtf_status find_rests(struct composition *of) {
    uint64_t *steps = NULL;
    size_t count = 0;
    gwtf_status status = gwtf_snapshot_rest_steps(of->snapshots, &steps, &count, of->error);
    if (status != GWTF_OK)
        return status;
    of->newest = NOWHERE;
    for (uint32_t stage = 0; stage <= of->plan->stages; stage++) {
        of->rests[stage] = NOWHERE;
        for (size_t i = 0; i < count && of->rests[stage] == NOWHERE; i++)
            if (steps[i] + 1 >= steps[0] && has_file(of, steps[i], stage))
                of->rests[stage] = steps[i];
        if (of->rests[stage] == NOWHERE)
            continue;
        if (of->newest == NOWHERE || of->rests[stage] > of->newest)
            of->newest = of->rests[stage];
    }
    free(steps);
    if (of->newest == NOWHERE)
        return gwtf_error_set(of->error, GWTF_ERROR_MISSING,
                              "there is no rest of a run in '%s': use a snapshot", of->snapshots);
    of->step = of->newest < of->plan->step_most ? of->newest : of->plan->step_most;
    for (uint32_t stage = 0; stage <= of->plan->stages; stage++)
        if (of->rests[stage] != NOWHERE && of->rests[stage] < of->step)
            of->step = of->rests[stage];
    return GWTF_OK;
}

/* The nearest relay stage below or above STAGE that is not lost; 0: none. */
static uint32_t neighbour_of(const struct composition *of, uint32_t stage, bool above) {
    uint32_t at = stage;
    while (above ? at < of->plan->stages : at > 1) {
        at = above ? at + 1 : at - 1;
        if (of->rests[at] != NOWHERE)
            return at;
    }
    return 0;
}

static bool has_neighbour(const struct composition *of, uint32_t stage) {
    return stage > 0 && (neighbour_of(of, stage, false) > 0 || neighbour_of(of, stage, true) > 0);
}

/* Whether a lost stage is made of its neighbours: as asked, or since there is no snapshot. The data
 * nodes' stage is like no other. */
static bool takes_neighbours(const struct composition *of, uint32_t stage) {
    bool wanted = of->plan->lost == GWTF_SNAPSHOT_LOST_NEIGHBOURS || of->snapshot.path[0] == '\0';
    return wanted && has_neighbour(of, stage);
}

static gwtf_status read_rest(const struct composition *of, uint32_t stage,
                             struct gwtf_stage_copy *copy) {
    char directory[GWTF_SNAPSHOT_PATH_MAX];
    gwtf_status status =
        gwtf_snapshot_rest_directory(of->snapshots, of->rests[stage], directory, of->error);
    return status == GWTF_OK ? gwtf_stage_copy_read(directory, stage, copy, of->error) : status;
}

static gwtf_status read_snapshot(const struct composition *of, uint32_t stage,
                                 struct gwtf_stage_copy *copy) {
    const struct gwtf_snapshot_part *part = &of->plan->parts[stage];
    if (of->snapshot.path[0] == '\0')
        return gwtf_error_set(of->error, GWTF_ERROR_MISSING,
                              "stage %u was lost, and there is no snapshot in '%s' to take it from",
                              stage, of->snapshots);
    if (of->snapshot.stages != of->plan->stages)
        return gwtf_error_set(
            of->error, GWTF_ERROR_UNSUPPORTED,
            "stage %u was lost, and '%s' has %u stages instead of %u: go on from it with --resume, "
            "or use faults.stage_loss=\"neighbours\"",
            stage, of->snapshot.path, of->snapshot.stages, of->plan->stages);
    gwtf_status status = gwtf_stage_copy_read(of->snapshot.path, stage, copy, of->error);
    if (status != GWTF_OK ||
        (copy->header.first_layer == part->first_layer && copy->header.layers == part->layers))
        return status;
    gwtf_stage_copy_deinit(copy);
    return gwtf_error_set(of->error, GWTF_ERROR_UNSUPPORTED,
                          "stage %u was lost, and '%s' has other layers in it: go on from it with "
                          "--resume",
                          stage, of->snapshot.path);
}

/* "transformer.h.12.ln_1.weight", "model.layers.12.mlp.up_proj.weight": the part between two dots
 * that is a number. */
static bool split_name(const char *name, size_t *before, uint32_t *layer, const char **after) {
    for (const char *at = name; (at = strchr(at, '.')) != NULL;) {
        at++;
        size_t digits = strspn(at, "0123456789");
        if (digits == 0 || digits > 9 || at[digits] != '.')
            continue;
        *before = (size_t)(at - name);
        *layer = (uint32_t)strtoul(at, NULL, 10);
        *after = at + digits;
        return true;
    }
    return false;
}

/* The block of a neighbour that lies as deep in it as block LAYER in its own stage. */
static uint32_t same_depth(const struct gwtf_snapshot_part *own,
                           const struct gwtf_stage_header *neighbour, uint32_t layer) {
    return (uint32_t)(neighbour->first_layer +
                      (uint64_t)(layer - own->first_layer) * neighbour->layers / own->layers);
}

static const struct gwtf_snapshot_tensor *tensor_named(const struct gwtf_stage_copy *copy,
                                                       const char *name) {
    for (size_t i = 0; i < copy->tensors_count; i++)
        if (strcmp(copy->tensors[i].name, name) == 0)
            return &copy->tensors[i];
    return NULL;
}

/* Two neighbours, or one twice, and the first one's weight in the average. */
struct pair {
    struct gwtf_stage_copy stages[2];
    double share;
};

static gwtf_status read_pair(const struct composition *of, uint32_t stage, struct pair *pair) {
    uint32_t below = neighbour_of(of, stage, false), above = neighbour_of(of, stage, true);
    gwtf_status status = read_rest(of, below > 0 ? below : above, &pair->stages[0]);
    if (status != GWTF_OK)
        return status;
    status = read_rest(of, above > 0 ? above : below, &pair->stages[1]);
    double first = pair->stages[0].gradient_norm, second = pair->stages[1].gradient_norm;
    pair->share = first > 0 && second > 0 ? first / (first + second) : 0.5;
    return status;
}

/* Block LAYER of stage PART as the average of the blocks at its depth in both neighbours. */
static gwtf_status average_block(const struct pair *pair, const struct gwtf_snapshot_part *part,
                                 uint32_t layer, struct gwtf_stage_copy *made) {
    const struct gwtf_stage_copy *one = &pair->stages[0], *other = &pair->stages[1];
    for (size_t i = 0; i < one->tensors_count; i++) {
        const struct gwtf_snapshot_tensor *a = &one->tensors[i], *b;
        size_t before;
        uint32_t number;
        const char *after;
        char name[512];
        if (!split_name(a->name, &before, &number, &after) ||
            number != same_depth(part, &one->header, layer))
            continue;
        snprintf(name, sizeof name, "%.*s%" PRIu32 "%s", (int)before, a->name,
                 same_depth(part, &other->header, layer), after);
        b = tensor_named(other, name);
        if (b == NULL || b->rank != a->rank || b->dims[0] != a->dims[0] || b->dims[1] != a->dims[1])
            return GWTF_ERROR_UNSUPPORTED;
        snprintf(name, sizeof name, "%.*s%" PRIu32 "%s", (int)before, a->name, layer, after);
        if (gwtf_stage_copy_add(made, name, a) != GWTF_OK)
            return GWTF_ERROR_MEMORY;
        float *weights = made->tensors[made->tensors_count - 1].weights;
        for (uint64_t j = 0; j < a->dims[0] * a->dims[1]; j++)
            weights[j] = (float)(pair->share * (double)a->weights[j] +
                                 (1 - pair->share) * (double)b->weights[j]);
    }
    return GWTF_OK;
}

/* The lost stage's moments are zero. */
static gwtf_status average_neighbours(const struct composition *of, uint32_t stage,
                                      struct gwtf_stage_copy *copy) {
    const struct gwtf_snapshot_part *part = &of->plan->parts[stage];
    struct pair pair = {0};
    struct gwtf_stage_copy made = {0};
    gwtf_status status = read_pair(of, stage, &pair);
    if (status == GWTF_OK) {
        made.header = pair.stages[0].header;
        made.header.stage = stage;
        made.header.first_layer = part->first_layer;
        made.header.layers = part->layers;
        snprintf(made.run, sizeof made.run, "%s", pair.stages[0].run);
        made.config = strdup(pair.stages[0].config);
        /* A block of the first neighbour may serve for several. */
        made.tensors = calloc(pair.stages[0].tensors_count * part->layers, sizeof *made.tensors);
        if (made.config == NULL || made.tensors == NULL)
            status = out_of_memory(of);
        for (uint32_t i = 0; i < part->layers && status == GWTF_OK; i++) {
            status = average_block(&pair, part, part->first_layer + i, &made);
            if (status == GWTF_ERROR_MEMORY)
                out_of_memory(of);
            else if (status != GWTF_OK)
                gwtf_error_set(of->error, status,
                               "stage %u was lost, and the blocks of its neighbours are not alike: "
                               "use faults.stage_loss=\"snapshot\"",
                               stage);
        }
    }
    gwtf_stage_copy_deinit(&pair.stages[0]);
    gwtf_stage_copy_deinit(&pair.stages[1]);
    if (status == GWTF_OK)
        *copy = made;
    else
        gwtf_stage_copy_deinit(&made);
    return status;
}

static gwtf_status write_copy(const struct composition *of, const struct gwtf_stage_copy *copy,
                              struct gwtf_snapshot_file *file) {
    struct gwtf_snapshot_stage stage = {
        .run = copy->run,
        .step = of->step,
        .stage = (uint32_t)copy->header.stage,
        .stages = (uint32_t)copy->header.stages,
        .first_layer = (uint32_t)copy->header.first_layer,
        .layers = (uint32_t)copy->header.layers,
        .family = copy->header.family,
        .width = (uint32_t)copy->header.width,
        .heads = (uint32_t)copy->header.heads,
        .key_value_heads = (uint32_t)copy->header.key_value_heads,
        .hidden = (uint32_t)copy->header.hidden,
        .rope_theta = copy->header.rope_theta,
        .norm_epsilon = copy->header.norm_epsilon,
        .context = (uint32_t)copy->header.context,
        .vocabulary = (uint32_t)copy->header.vocabulary,
        .tied_head = copy->header.tied_head != 0,
        .precision = copy->header.precision,
        .config = copy->config,
        .tokenizer = copy->header.tokenizer,
        .kept = &copy->kept,
        .sequence = copy->header.sequence,
        .tensors = copy->tensors,
        .tensors_count = copy->tensors_count,
    };
    return gwtf_snapshot_write_stage(of->snapshots, &stage, file, of->error);
}

static gwtf_status compose_stage(const struct composition *of, uint32_t stage,
                                 struct gwtf_snapshot_file *file) {
    struct gwtf_stage_copy copy;
    gwtf_status status;
    if (of->rests[stage] != NOWHERE)
        status = read_rest(of, stage, &copy);
    else if (takes_neighbours(of, stage))
        status = average_neighbours(of, stage, &copy);
    else
        status = read_snapshot(of, stage, &copy);
    if (status != GWTF_OK)
        return status;
    status = write_copy(of, &copy, file);
    gwtf_stage_copy_deinit(&copy);
    return status;
}

static gwtf_status compose(const struct composition *of, struct gwtf_snapshot_info *info) {
    char path[GWTF_SNAPSHOT_PATH_MAX];
    uint32_t stages = of->plan->stages;
    struct gwtf_snapshot_file *files = calloc((size_t)stages + 1, sizeof *files);
    if (files == NULL)
        return out_of_memory(of);
    gwtf_status status = GWTF_OK;
    /* What is lost first: it may be refused. */
    for (int lost = 1; lost >= 0; lost--)
        for (uint32_t stage = 0; stage <= stages && status == GWTF_OK; stage++)
            if ((of->rests[stage] == NOWHERE) == (lost == 1))
                status = compose_stage(of, stage, &files[stage]);
    if (status == GWTF_OK)
        status = gwtf_snapshot_write_manifest(of->snapshots, of->step, stages, files,
                                              of->plan->keep, of->error);
    free(files);
    if (status == GWTF_OK)
        status = gwtf_snapshot_directory(of->snapshots, of->step, path, of->error);
    return status == GWTF_OK ? gwtf_snapshot_verify(path, info, of->error) : status;
}

/*
 * More stages would come from the snapshot than from what is left. Weights of different ages do not
 * fit each other, which training mends where one stage of many is behind; here all go back, to an
 * exact state. So it is when a whole job ends, whose last nodes see the others end.
 */
static bool is_mostly_lost(const struct composition *of) {
    uint32_t from_snapshot = 0;
    for (uint32_t stage = 0; stage <= of->plan->stages; stage++)
        from_snapshot += of->rests[stage] == NOWHERE && !takes_neighbours(of, stage);
    return 2 * from_snapshot > of->plan->stages + 1;
}

/* What was done about each lost stage, for the person. */
static void describe(const struct composition *of, char *text, size_t size) {
    size_t length = 0;
    text[0] = '\0';
    for (uint32_t stage = 0; stage <= of->plan->stages && length < size; stage++) {
        if (of->rests[stage] != NOWHERE)
            continue;
        const char *comma = length > 0 ? ", " : "";
        if (takes_neighbours(of, stage))
            length += (size_t)snprintf(text + length, size - length,
                                       "%sstage %u is the average of its neighbours, without "
                                       "moments",
                                       comma, stage);
        else
            length += (size_t)snprintf(text + length, size - length,
                                       "%sstage %u is of iteration %" PRIu64, comma, stage,
                                       of->snapshot.step);
    }
}

gwtf_status gwtf_snapshot_compose(const char *snapshots, const struct gwtf_snapshot_plan *plan,
                                  struct gwtf_snapshot_info *info, char how[GWTF_SNAPSHOT_HOW_MAX],
                                  struct gwtf_error *error) {
    struct composition of = {.snapshots = snapshots, .plan = plan, .error = error};
    GWTF_ASSERT(plan->stages >= 1);
    of.rests = calloc((size_t)plan->stages + 1, sizeof *of.rests);
    if (of.rests == NULL)
        return out_of_memory(&of);
    gwtf_status status = find_rests(&of);
    if (status == GWTF_OK &&
        gwtf_snapshot_newest(snapshots, &of.snapshot, NULL, NULL, NULL) != GWTF_OK)
        of.snapshot.path[0] = '\0';
    if (status == GWTF_OK && of.snapshot.path[0] != '\0' && of.snapshot.step >= of.step) {
        *info = of.snapshot;
        snprintf(how, GWTF_SNAPSHOT_HOW_MAX, "the newest snapshot is as new");
    } else if (status == GWTF_OK && of.snapshot.path[0] != '\0' && is_mostly_lost(&of)) {
        *info = of.snapshot;
        snprintf(how, GWTF_SNAPSHOT_HOW_MAX, "most stages were lost: all are of iteration %" PRIu64,
                 of.snapshot.step);
    } else if (status == GWTF_OK) {
        status = compose(&of, info);
        describe(&of, how, GWTF_SNAPSHOT_HOW_MAX);
    }
    free(of.rests);
    return status;
}

bool gwtf_snapshot_rest_newest(const char *snapshots, char path[GWTF_SNAPSHOT_PATH_MAX]) {
    uint64_t *steps = NULL;
    size_t count = 0;
    if (gwtf_snapshot_rest_steps(snapshots, &steps, &count, NULL) != GWTF_OK)
        return false;
    bool found =
        count > 0 && gwtf_snapshot_rest_directory(snapshots, steps[0], path, NULL) == GWTF_OK;
    free(steps);
    return found;
}

gwtf_status gwtf_snapshot_remove_rests(const char *snapshots, struct gwtf_error *error) {
    uint64_t *steps = NULL;
    size_t count = 0;
    gwtf_status status = gwtf_snapshot_rest_steps(snapshots, &steps, &count, error);
    if (status != GWTF_OK)
        return status == GWTF_ERROR_MISSING ? GWTF_OK : status;
    for (size_t i = 0; i < count && status == GWTF_OK; i++) {
        char path[GWTF_SNAPSHOT_PATH_MAX];
        status = gwtf_snapshot_rest_directory(snapshots, steps[i], path, error);
        if (status == GWTF_OK)
            status = gwtf_file_remove_directory(path, error);
    }
    free(steps);
    return status;
}
