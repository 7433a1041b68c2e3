/* A snapshot made of what is left when a stage is lost. */
#include "io/snapshot.h"
#include "share/base/random.h"
#include "tests/support/suite.h"
#include "tests/support/temporary.h"
#include "tests/unit/snapshots.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STAGES 3
#define LAYERS 5
#define FLOATS 8
#define TENSORS (LAYERS + 1) /* a block is one tensor here, and the data nodes have one */

static const struct gwtf_snapshot_part parts[STAGES + 1] = {{0, 0}, {0, 2}, {2, 1}, {3, 2}};
static const char *const gpt2_names[TENSORS] = {"wte.weight", "h.0.weight", "h.1.weight",
                                                "h.2.weight", "h.3.weight", "h.4.weight"};
static const char *const llama_names[TENSORS] = {
    "model.embed_tokens.weight",         "model.layers.0.mlp.up_proj.weight",
    "model.layers.1.mlp.up_proj.weight", "model.layers.2.mlp.up_proj.weight",
    "model.layers.3.mlp.up_proj.weight", "model.layers.4.mlp.up_proj.weight"};
static const char *const *names = gpt2_names;
static struct gwtf_error error;
static struct gwtf_snapshot_info info;
static char how[GWTF_SNAPSHOT_HOW_MAX];

/* The model as of some step: [tensor][weights, first, second moments][float]. */
struct model {
    float values[TENSORS][3][FLOATS];
    struct gwtf_snapshot_tensor tensors[TENSORS];
};

static void model_init(struct model *model, uint64_t step) {
    for (size_t i = 0; i < TENSORS; i++) {
        for (size_t j = 0; j < 3; j++)
            for (size_t k = 0; k < FLOATS; k++)
                model->values[i][j][k] =
                    (float)gwtf_random_normal_at(step, (i * 3 + j) * FLOATS + k);
        model->tensors[i] = (struct gwtf_snapshot_tensor){.name = names[i],
                                                          .rank = 1,
                                                          .dims = {FLOATS, 1},
                                                          .weights = model->values[i][0],
                                                          .first_moments = model->values[i][1],
                                                          .second_moments = model->values[i][2]};
    }
}

static size_t first_tensor(uint32_t stage) {
    return stage == 0 ? 0 : parts[stage].first_layer + 1;
}

/* Writes stage STAGE of STEP, whose values go by the step; NORM below 0: of a snapshot. */
static void write_stage(const char *snapshots, uint64_t step, uint32_t stage, double norm,
                        struct gwtf_snapshot_file *file) {
    static struct model model;
    model_init(&model, step);
    struct gwtf_snapshot_stage facts = {.run = "small",
                                        .step = step,
                                        .stage = stage,
                                        .stages = STAGES,
                                        .first_layer = parts[stage].first_layer,
                                        .layers = parts[stage].layers,
                                        .family = names == gpt2_names ? "gpt2" : "llama",
                                        .width = 32,
                                        .heads = 4,
                                        .key_value_heads = 2,
                                        .hidden = 96,
                                        .rope_theta = 500000,
                                        .norm_epsilon = 1e-6,
                                        .context = 16,
                                        .vocabulary = 256,
                                        .tied_head = true,
                                        .precision = "float32",
                                        .config = "run = {};\n",
                                        .tokenizer = stage == 0 ? "bytes" : NULL,
                                        .kept = stage == 0 ? &sample_kept : NULL,
                                        .tensors = model.tensors + first_tensor(stage),
                                        .tensors_count = stage == 0 ? 1 : parts[stage].layers,
                                        .of_rest = norm >= 0,
                                        .gradient_norm = norm};
    gwtf_status status = gwtf_snapshot_write_stage(snapshots, &facts, file, &error);
    if (status != GWTF_OK)
        printf("\n%s\n", error.text);
    CU_ASSERT_EQUAL_FATAL(status, GWTF_OK);
}

static void write_rest(const char *snapshots, uint64_t step, uint32_t stage, double norm) {
    struct gwtf_snapshot_file file;
    write_stage(snapshots, step, stage, norm, &file);
}

static void write_snapshot(const char *snapshots, uint64_t step) {
    struct gwtf_snapshot_file files[STAGES + 1];
    for (uint32_t stage = 0; stage <= STAGES; stage++)
        write_stage(snapshots, step, stage, -1, &files[stage]);
    CU_ASSERT_EQUAL_FATAL(gwtf_snapshot_write_manifest(snapshots, step, STAGES, files, 0, &error),
                          GWTF_OK);
}

/* All stages but LOST, with the norm 1 + stage. */
static void write_rest_without(const char *snapshots, uint64_t step, uint32_t lost) {
    for (uint32_t stage = 0; stage <= STAGES; stage++)
        if (stage != lost)
            write_rest(snapshots, step, stage, 1 + stage);
}

static gwtf_status compose(const char *snapshots, enum gwtf_snapshot_lost lost,
                           uint64_t step_most) {
    struct gwtf_snapshot_plan plan = {
        .lost = lost, .stages = STAGES, .parts = parts, .step_most = step_most};
    error.text[0] = '\0';
    return gwtf_snapshot_compose(snapshots, &plan, &info, how, &error);
}

static void load(struct model *model) {
    model_init(model, 999999);
    CU_ASSERT_EQUAL_FATAL(gwtf_snapshot_load(info.path, model->tensors, TENSORS, &error), GWTF_OK);
}

/* Tensors FIRST..LAST of MODEL are those of STEP, with moments. */
static void expect_as_of(const struct model *model, uint64_t step, size_t first, size_t last) {
    static struct model expected;
    model_init(&expected, step);
    for (size_t i = first; i <= last; i++)
        CU_ASSERT_EQUAL(memcmp(model->values[i], expected.values[i], sizeof expected.values[i]), 0);
}

/* Tensor INDEX of MODEL is SHARE of ONE and the rest of OTHER, as of STEP, without moments. */
static void expect_average(const struct model *model, size_t index, uint64_t step, size_t one,
                           size_t other, double share) {
    static struct model of;
    model_init(&of, step);
    for (size_t k = 0; k < FLOATS; k++) {
        double expected =
            share * (double)of.values[one][0][k] + (1 - share) * (double)of.values[other][0][k];
        CU_ASSERT_DOUBLE_EQUAL(model->values[index][0][k], expected, 1e-6);
        CU_ASSERT_EQUAL(model->values[index][1][k], 0);
        CU_ASSERT_EQUAL(model->values[index][2][k], 0);
    }
}

static void a_lost_stage_is_taken_from_the_newest_snapshot(void) {
    static struct model model;
    const char *snapshots = temporary_path("from-snapshot");
    write_snapshot(snapshots, 5);
    write_snapshot(snapshots, 10);
    write_rest_without(snapshots, 17, 2);
    CU_ASSERT_EQUAL(compose(snapshots, GWTF_SNAPSHOT_LOST_SNAPSHOT, 100), GWTF_OK);
    CU_ASSERT_EQUAL(info.step, 17);
    CU_ASSERT_STRING_EQUAL(info.tokenizer, "bytes");
    CU_ASSERT_TRUE(sample_keeps(temporary_below(info.path, "stage-00.h5")));
    CU_ASSERT_STRING_EQUAL(how, "stage 2 is of iteration 10");
    load(&model);
    expect_as_of(&model, 17, 0, 2);
    expect_as_of(&model, 10, 3, 3);
    expect_as_of(&model, 17, 4, 5);
    /* It is a snapshot as any other. */
    CU_ASSERT_EQUAL(gwtf_snapshot_newest(snapshots, &info, NULL, NULL, &error), GWTF_OK);
    CU_ASSERT_EQUAL(info.step, 17);
}

static void a_rest_alone_is_no_snapshot(void) {
    char path[GWTF_SNAPSHOT_PATH_MAX];
    const char *snapshots = temporary_path("no-snapshot");
    write_rest_without(snapshots, 17, 2);
    CU_ASSERT_EQUAL(gwtf_snapshot_newest(snapshots, &info, NULL, NULL, &error), GWTF_ERROR_MISSING);
    CU_ASSERT_FALSE(gwtf_snapshot_was_whole(snapshots));
    CU_ASSERT_TRUE(gwtf_snapshot_rest_newest(snapshots, path));
    CU_ASSERT_STRING_EQUAL(path, temporary_below(snapshots, "rest-000017"));
    CU_ASSERT_EQUAL(gwtf_snapshot_remove_rests(snapshots, &error), GWTF_OK);
    CU_ASSERT_FALSE(gwtf_snapshot_rest_newest(snapshots, path));
    CU_ASSERT_EQUAL(compose(snapshots, GWTF_SNAPSHOT_LOST_SNAPSHOT, 100), GWTF_ERROR_MISSING);
}

/* Stage 2 has block 2 alone, as deep in it as block 0 is in stage 1, and block 3 in stage 3. The
 * norms are 2 and 4. */
static void a_lost_stage_is_the_average_of_its_neighbours_by_their_norms(void) {
    static struct model model;
    const char *snapshots = temporary_path("neighbours");
    write_snapshot(snapshots, 10);
    write_rest_without(snapshots, 17, 2);
    CU_ASSERT_EQUAL(compose(snapshots, GWTF_SNAPSHOT_LOST_NEIGHBOURS, 100), GWTF_OK);
    CU_ASSERT_EQUAL(info.step, 17);
    CU_ASSERT_PTR_NOT_NULL(strstr(how, "stage 2 is the average of its neighbours"));
    load(&model);
    expect_as_of(&model, 17, 0, 2);
    expect_average(&model, 3, 17, 1, 4, 2.0 / 6);
    expect_as_of(&model, 17, 4, 5);
}

/* Blocks 3 and 4 of the last stage both become block 2, the only one of stage 2. */
static void the_last_stage_has_one_neighbour(void) {
    static struct model model;
    const char *snapshots = temporary_path("one-neighbour");
    write_snapshot(snapshots, 10);
    write_rest_without(snapshots, 17, 3);
    CU_ASSERT_EQUAL(compose(snapshots, GWTF_SNAPSHOT_LOST_NEIGHBOURS, 100), GWTF_OK);
    load(&model);
    expect_as_of(&model, 17, 0, 3);
    expect_average(&model, 4, 17, 3, 3, 1);
    expect_average(&model, 5, 17, 3, 3, 1);
}

static void a_lost_neighbour_is_passed_over(void) {
    static struct model model;
    const char *snapshots = temporary_path("two-lost");
    write_snapshot(snapshots, 10);
    write_rest(snapshots, 17, 0, 1);
    write_rest(snapshots, 17, 3, 0);
    CU_ASSERT_EQUAL(compose(snapshots, GWTF_SNAPSHOT_LOST_NEIGHBOURS, 100), GWTF_OK);
    load(&model);
    expect_as_of(&model, 17, 0, 0);
    expect_average(&model, 1, 17, 4, 4, 1);
    expect_average(&model, 2, 17, 5, 5, 1);
    expect_average(&model, 3, 17, 4, 4, 1);
    expect_as_of(&model, 17, 4, 5);
}

static void the_data_nodes_stage_comes_from_a_snapshot_alone(void) {
    static struct model model;
    const char *snapshots = temporary_path("data-stage");
    write_rest_without(snapshots, 17, 0);
    CU_ASSERT_EQUAL(compose(snapshots, GWTF_SNAPSHOT_LOST_NEIGHBOURS, 100), GWTF_ERROR_MISSING);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "stage 0 was lost"));
    write_snapshot(snapshots, 10);
    CU_ASSERT_EQUAL(compose(snapshots, GWTF_SNAPSHOT_LOST_NEIGHBOURS, 100), GWTF_OK);
    load(&model);
    expect_as_of(&model, 10, 0, 0);
    expect_as_of(&model, 17, 1, 5);
}

static void without_a_snapshot_a_stage_is_made_of_its_neighbours(void) {
    const char *snapshots = temporary_path("no-snapshot-yet");
    write_rest_without(snapshots, 17, 1);
    CU_ASSERT_EQUAL(compose(snapshots, GWTF_SNAPSHOT_LOST_SNAPSHOT, 100), GWTF_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(how, "stage 1 is the average of its neighbours"));
}

static void files_of_two_steps_make_a_snapshot_of_the_older_one(void) {
    static struct model model;
    const char *snapshots = temporary_path("two-steps");
    write_snapshot(snapshots, 10);
    write_rest(snapshots, 16, 0, 1);
    write_rest(snapshots, 16, 3, 1);
    write_rest(snapshots, 17, 3, 1);
    write_rest(snapshots, 17, 1, 1);
    CU_ASSERT_EQUAL(compose(snapshots, GWTF_SNAPSHOT_LOST_SNAPSHOT, 100), GWTF_OK);
    CU_ASSERT_EQUAL(info.step, 16);
    load(&model);
    expect_as_of(&model, 16, 0, 0);
    expect_as_of(&model, 17, 1, 2);
    expect_as_of(&model, 10, 3, 3);
    expect_as_of(&model, 17, 4, 5);
}

/* One stage of four is left. */
static void where_most_is_lost_all_go_back_to_the_snapshot(void) {
    static struct model model;
    const char *snapshots = temporary_path("mostly-lost");
    write_snapshot(snapshots, 10);
    write_rest(snapshots, 17, 1, 1);
    CU_ASSERT_EQUAL(compose(snapshots, GWTF_SNAPSHOT_LOST_SNAPSHOT, 100), GWTF_OK);
    CU_ASSERT_EQUAL(info.step, 10);
    CU_ASSERT_STRING_EQUAL(how, "most stages were lost: all are of iteration 10");
    load(&model);
    expect_as_of(&model, 10, 0, 5);
    write_rest(snapshots, 17, 0, 1);
    CU_ASSERT_EQUAL(compose(snapshots, GWTF_SNAPSHOT_LOST_SNAPSHOT, 100), GWTF_OK);
    CU_ASSERT_EQUAL(info.step, 17);
}

static void a_snapshot_is_not_of_a_later_step_than_it_may_be(void) {
    const char *snapshots = temporary_path("step-most");
    write_snapshot(snapshots, 10);
    write_rest_without(snapshots, 17, 2);
    CU_ASSERT_EQUAL(compose(snapshots, GWTF_SNAPSHOT_LOST_SNAPSHOT, 16), GWTF_OK);
    CU_ASSERT_EQUAL(info.step, 16);
}

static void a_snapshot_as_new_as_the_rest_is_taken_as_it_is(void) {
    static struct model model;
    const char *snapshots = temporary_path("as-new");
    write_snapshot(snapshots, 17);
    write_rest_without(snapshots, 17, 2);
    CU_ASSERT_EQUAL(compose(snapshots, GWTF_SNAPSHOT_LOST_NEIGHBOURS, 100), GWTF_OK);
    CU_ASSERT_EQUAL(info.step, 17);
    load(&model);
    expect_as_of(&model, 17, 0, 5);
}

static void a_snapshot_of_another_cut_is_refused(void) {
    static const struct gwtf_snapshot_part other[] = {{0, 0}, {0, 3}, {3, 2}};
    const char *snapshots = temporary_path("another-cut");
    write_snapshot(snapshots, 10);
    struct gwtf_snapshot_file file;
    static struct model model;
    model_init(&model, 17);
    for (uint32_t stage = 0; stage <= 1; stage++) {
        struct gwtf_snapshot_stage facts = {.run = "small",
                                            .step = 17,
                                            .stage = stage,
                                            .stages = 2,
                                            .layers = other[stage].layers,
                                            .family = "gpt2",
                                            .width = 32,
                                            .heads = 4,
                                            .key_value_heads = 2,
                                            .hidden = 96,
                                            .rope_theta = 500000,
                                            .norm_epsilon = 1e-6,
                                            .context = 16,
                                            .vocabulary = 256,
                                            .tied_head = true,
                                            .precision = "float32",
                                            .config = "run = {};\n",
                                            .tensors = model.tensors + stage,
                                            .tensors_count = stage == 0 ? 1 : 3,
                                            .of_rest = true};
        CU_ASSERT_EQUAL_FATAL(gwtf_snapshot_write_stage(snapshots, &facts, &file, &error), GWTF_OK);
    }
    struct gwtf_snapshot_plan plan = {.stages = 2, .parts = other, .step_most = 100};
    CU_ASSERT_EQUAL(gwtf_snapshot_compose(snapshots, &plan, &info, how, &error),
                    GWTF_ERROR_UNSUPPORTED);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "has 3 stages instead of 2"));
    CU_ASSERT_EQUAL(gwtf_snapshot_newest(snapshots, &info, NULL, NULL, &error), GWTF_OK);
    CU_ASSERT_EQUAL(info.step, 10);
    plan.lost = GWTF_SNAPSHOT_LOST_NEIGHBOURS;
    CU_ASSERT_EQUAL(gwtf_snapshot_compose(snapshots, &plan, &info, how, &error), GWTF_OK);
    CU_ASSERT_EQUAL(info.stages, 2);
    CU_ASSERT_EQUAL(info.layers, LAYERS);
}

static void a_damaged_file_counts_as_lost(void) {
    static struct model model;
    const char *snapshots = temporary_path("damaged");
    write_snapshot(snapshots, 10);
    write_rest_without(snapshots, 17, STAGES + 1);
    temporary_write(temporary_below(snapshots, "rest-000017/stage-02.h5"), "no HDF5 file", 12);
    CU_ASSERT_EQUAL(compose(snapshots, GWTF_SNAPSHOT_LOST_SNAPSHOT, 100), GWTF_OK);
    load(&model);
    expect_as_of(&model, 17, 0, 2);
    expect_as_of(&model, 10, 3, 3);
}

static void a_lost_stage_of_llama_is_the_average_of_its_neighbours(void) {
    static struct model model;
    const char *snapshots = temporary_path("llama");
    names = llama_names;
    write_snapshot(snapshots, 10);
    write_rest_without(snapshots, 17, 2);
    CU_ASSERT_EQUAL(compose(snapshots, GWTF_SNAPSHOT_LOST_NEIGHBOURS, 100), GWTF_OK);
    load(&model);
    expect_as_of(&model, 17, 0, 2);
    expect_average(&model, 3, 17, 1, 4, 2.0 / 6);
    expect_as_of(&model, 17, 4, 5);
    names = gpt2_names;
    CU_ASSERT_STRING_EQUAL(info.family, "llama");
    CU_ASSERT_EQUAL(info.key_value_heads, 2);
    CU_ASSERT_EQUAL(info.hidden, 96);
    CU_ASSERT_EQUAL(info.rope_theta, 500000);
    CU_ASSERT_EQUAL(info.norm_epsilon, 1e-6);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(a_lost_stage_is_taken_from_the_newest_snapshot),
        GWTF_TEST(a_rest_alone_is_no_snapshot),
        GWTF_TEST(a_lost_stage_is_the_average_of_its_neighbours_by_their_norms),
        GWTF_TEST(a_lost_stage_of_llama_is_the_average_of_its_neighbours),
        GWTF_TEST(the_last_stage_has_one_neighbour),
        GWTF_TEST(a_lost_neighbour_is_passed_over),
        GWTF_TEST(the_data_nodes_stage_comes_from_a_snapshot_alone),
        GWTF_TEST(without_a_snapshot_a_stage_is_made_of_its_neighbours),
        GWTF_TEST(files_of_two_steps_make_a_snapshot_of_the_older_one),
        GWTF_TEST(where_most_is_lost_all_go_back_to_the_snapshot),
        GWTF_TEST(a_snapshot_is_not_of_a_later_step_than_it_may_be),
        GWTF_TEST(a_snapshot_as_new_as_the_rest_is_taken_as_it_is),
        GWTF_TEST(a_snapshot_of_another_cut_is_refused),
        GWTF_TEST(a_damaged_file_counts_as_lost),
    };
    return gwtf_suite_main(argc, argv, "snapshot_compose", tests, sizeof tests / sizeof tests[0],
                           temporary_make, temporary_remove);
}
