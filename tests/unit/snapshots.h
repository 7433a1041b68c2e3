/* A small model's snapshots, for the tests of io and of the commands. */
#ifndef GWTF_TESTS_UNIT_SNAPSHOTS_H
#define GWTF_TESTS_UNIT_SNAPSHOTS_H

#include "io/snapshot.h"
#include "share/base/random.h"

#include <stdio.h>
#include <string.h>

#define SAMPLE_STAGES 2
#define SAMPLE_TENSORS 5 /* two of stage 0, two of stage 1, one of stage 2 */
#define SAMPLE_FLOATS 320

/* Tensors with memory of their own. */
struct sample {
    struct gwtf_snapshot_tensor tensors[SAMPLE_TENSORS];
    float values[SAMPLE_TENSORS][3][SAMPLE_FLOATS];
};

static inline void sample_init(struct sample *sample, uint64_t seed) {
    /* Not in the order of the alphabet. */
    static const char *const names[] = {"wte.weight", "ln_f.weight", "h.1.weight", "h.0.bias",
                                        "h.2.weight"};
    for (size_t i = 0; i < SAMPLE_TENSORS; i++) {
        struct gwtf_snapshot_tensor *tensor = &sample->tensors[i];
        tensor->name = names[i];
        tensor->rank = i % 2 == 0 ? 2 : 1;
        tensor->dims[0] = i % 2 == 0 ? 10 : 32;
        tensor->dims[1] = i % 2 == 0 ? 32 : 1;
        tensor->weights = sample->values[i][0];
        tensor->first_moments = sample->values[i][1];
        tensor->second_moments = sample->values[i][2];
        for (size_t j = 0; j < 3; j++)
            for (size_t k = 0; k < SAMPLE_FLOATS; k++)
                sample->values[i][j][k] =
                    (float)gwtf_random_normal_at(seed, (i * 3 + j) * SAMPLE_FLOATS + k);
    }
}

/* Files of a tokenizer, one with a zero byte and one without any. */
static const struct gwtf_kept sample_kept = {
    .count = 2, .files = {{"vocab.json", "{\"a\0\": 0}", 9}, {"merges.txt", "", 0}}};

/* Those that the file at PATH keeps are these. */
static inline bool sample_keeps(const char *path) {
    struct gwtf_kept kept = {0};
    bool same = gwtf_kept_read(path, &kept, NULL) == GWTF_OK && kept.count == sample_kept.count;
    for (size_t i = 0; same && i < kept.count; i++)
        same =
            strcmp(kept.files[i].name, sample_kept.files[i].name) == 0 &&
            kept.files[i].size_bytes == sample_kept.files[i].size_bytes &&
            memcmp(kept.files[i].bytes, sample_kept.files[i].bytes, kept.files[i].size_bytes) == 0;
    gwtf_kept_deinit(&kept);
    return same;
}

static inline struct gwtf_snapshot_stage sample_stage(const struct sample *sample, uint64_t step,
                                                      uint32_t stage) {
    static const size_t first[] = {0, 2, 4}, count[] = {2, 2, 1};
    return (struct gwtf_snapshot_stage){.run = "small",
                                        .step = step,
                                        .stage = stage,
                                        .stages = SAMPLE_STAGES,
                                        .first_layer = stage == 2 ? 2 : 0,
                                        .layers = stage == 0 ? 0 : 3 - stage,
                                        .family = "gpt2",
                                        .width = 32,
                                        .heads = 4,
                                        .context = 16,
                                        .vocabulary = 256,
                                        .tied_head = true,
                                        .precision = "float32",
                                        .config = "run = {};\n",
                                        .tokenizer = stage == 0 ? "bytes" : NULL,
                                        .kept = stage == 0 ? &sample_kept : NULL,
                                        .tensors = sample->tensors + first[stage],
                                        .tensors_count = count[stage]};
}

static inline gwtf_status sample_write(const struct sample *sample, const char *snapshots,
                                       uint64_t step, uint32_t keep, struct gwtf_error *error) {
    struct gwtf_snapshot_file files[SAMPLE_STAGES + 1];
    gwtf_status status = GWTF_OK;
    for (uint32_t stage = 0; stage <= SAMPLE_STAGES && status == GWTF_OK; stage++) {
        struct gwtf_snapshot_stage facts = sample_stage(sample, step, stage);
        status = gwtf_snapshot_write_stage(snapshots, &facts, &files[stage], error);
    }
    return status != GWTF_OK
               ? status
               : gwtf_snapshot_write_manifest(snapshots, step, SAMPLE_STAGES, files, keep, error);
}

#endif
