#include "tests/support/suite.h"
#include "tests/support/tiny_run.h"
#include "worker/runtime/pace.h"
#include "worker/runtime/setup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What gwtf_setup_open says to one more override; "" when it accepts it. The line is the caller's
 * to read until the next. */
static const char *complaint(const char *override) {
    static struct gwtf_error error;
    struct gwtf_tiny_run run;
    struct gwtf_setup setup;
    error.text[0] = '\0';
    gwtf_tiny_run_init(&run, &override, 1);
    gwtf_status status = gwtf_setup_open(&run.config, &setup, &error);
    if (status == GWTF_OK)
        gwtf_setup_close(&setup);
    else
        CU_ASSERT_EQUAL(status, GWTF_ERROR_USAGE);
    gwtf_tiny_run_deinit(&run);
    return error.text;
}

static void data_that_does_not_fit_is_refused_with_a_reason(void) {
    CU_ASSERT_STRING_EQUAL(complaint("run.seed=4"), "");
    CU_ASSERT_PTR_NOT_NULL(strstr(complaint("model.vocabulary=100"), "model.vocabulary is 100"));
    CU_ASSERT_PTR_NOT_NULL(strstr(complaint("model.context=100000"), "data.train"));
    CU_ASSERT_PTR_NOT_NULL(strstr(complaint("model.context=2000"), "data.validation"));
    CU_ASSERT_PTR_NOT_NULL(strstr(complaint("batch.microbatch=5000"), "do not fill a microbatch"));
    CU_ASSERT_PTR_NOT_NULL(strstr(complaint("data.train=\"nowhere.h5\""), "nowhere.h5"));
    CU_ASSERT_PTR_NOT_NULL(strstr(complaint("nodes.1.capacity=4097"), "4097"));
}

/* More than the protocol's tables hold: 255 stages, 1024 replicas of one. */
static void a_run_too_large_for_the_protocol_is_refused_before_it_starts(void) {
    CU_ASSERT_PTR_NOT_NULL(strstr(complaint("nodes.1.count=2049"), "stage 1 has 1025 nodes"));
    CU_ASSERT_PTR_NOT_NULL(strstr(complaint("nodes.0.count=1025"), "stage 0 has 1025 nodes"));
    const char *overrides[] = {"model.layers=256", "nodes.1.count=256", "pipeline.stages=256"};
    struct gwtf_tiny_run run;
    struct gwtf_setup setup;
    struct gwtf_error error = {""};
    gwtf_tiny_run_init(&run, overrides, 3);
    CU_ASSERT_EQUAL(gwtf_setup_open(&run.config, &setup, &error), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "pipeline.stages"));
    gwtf_tiny_run_deinit(&run);
}

static void a_relay_needs_no_data(void) {
    const char *overrides[] = {"model.vocabulary=256", "data.train=\"absent.h5\"",
                               "data.validation=\"absent too.h5\""};
    struct gwtf_tiny_run run;
    struct gwtf_setup setup;
    gwtf_tiny_run_init(&run, overrides, 3);
    CU_ASSERT_EQUAL(gwtf_setup_open(&run.config, &setup, NULL), GWTF_ERROR_USAGE);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_open_relay(&run.config, &setup, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(setup.model.vocabulary, 256);
    CU_ASSERT_EQUAL(setup.relays, 4);
    CU_ASSERT_PTR_NULL(setup.train);
    gwtf_setup_close(&setup);
    gwtf_tiny_run_deinit(&run);
}

static double pace_of(const char *override) {
    const char *overrides[] = {"model.vocabulary=256", "data.train=\"absent.h5\"",
                               "data.validation=\"absent too.h5\"", "model.width=64", override};
    struct gwtf_tiny_run run;
    struct gwtf_setup setup;
    double seconds = 0;
    gwtf_tiny_run_init(&run, overrides, 5);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_open_relay(&run.config, &setup, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_pace_measure(&setup, 1, &seconds, NULL), GWTF_OK);
    gwtf_setup_close(&setup);
    gwtf_tiny_run_deinit(&run);
    return seconds;
}

/* Four and sixteen blocks; and one of sixteen times the work. Machines are not always as fast. */
static void a_pace_is_that_of_one_block(void) {
    double few = pace_of("model.layers=4"), many = pace_of("model.layers=16");
    CU_ASSERT_TRUE(few > 0 && many > few / 3 && many < few * 3);
    CU_ASSERT_TRUE(pace_of("batch.microbatch=32") > 3 * few);
}

static void relays_are_spread_evenly_over_the_stages(void) {
    const char *overrides[] = {"nodes.0.count=2", "nodes.1.count=7", "pipeline.stages=3"};
    struct gwtf_tiny_run run;
    struct gwtf_setup setup;
    struct gwtf_placement *placements;
    uint32_t replicas[4] = {0};
    gwtf_tiny_run_init(&run, overrides, 3);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_open(&run.config, &setup, NULL), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_place(&setup, &placements, NULL), GWTF_OK);
    for (uint32_t i = 0; i < 9; i++) {
        CU_ASSERT_EQUAL(placements[i].node, i);
        replicas[placements[i].stage]++;
    }
    CU_ASSERT_EQUAL(replicas[0], 2);
    CU_ASSERT_EQUAL(replicas[1], 3);
    CU_ASSERT_EQUAL(replicas[2], 2);
    CU_ASSERT_EQUAL(replicas[3], 2);
    /* 2 data nodes with 4 microbatches each: 8 over 3 replicas, over 2 replicas. */
    CU_ASSERT_EQUAL(placements[2].capacity_useful, 3);
    CU_ASSERT_EQUAL(placements[3].capacity_useful, 4);
    free(placements);
    gwtf_setup_close(&setup);
    gwtf_tiny_run_deinit(&run);
}

static void read_window(const struct gwtf_setup *setup, bool validation, uint32_t rank,
                        uint32_t index, uint32_t window[16]) {
    uint32_t labels[16];
    uint32_t number = rank * setup->config.batch.microbatches + index;
    uint64_t place = gwtf_setup_place_of(setup, 2) + 2 * number;
    if (validation)
        gwtf_setup_validation_batch(setup, rank, index, window, labels);
    else
        gwtf_setup_batch(setup, 2, number, place, window, labels);
    CU_ASSERT_EQUAL(memcmp(window + 1, labels, 7 * sizeof *labels), 0);
    CU_ASSERT_EQUAL(memcmp(window + 9, labels + 8, 7 * sizeof *labels), 0);
}

static void the_global_batch_does_not_depend_on_the_number_of_data_nodes(void) {
    const char *two[] = {"nodes.0.count=2", "batch.microbatches=2"};
    struct gwtf_tiny_run run, other_run;
    struct gwtf_setup setup, other;
    gwtf_tiny_run_init(&run, NULL, 0);
    gwtf_tiny_run_init(&other_run, two, 2);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_open(&run.config, &setup, NULL), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_open(&other_run.config, &other, NULL), GWTF_OK);
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t window[16], again[16];
        read_window(&setup, false, 0, i, window);
        read_window(&other, false, i / 2, i % 2, again);
        CU_ASSERT_EQUAL(memcmp(window, again, sizeof window), 0);
    }
    CU_ASSERT_EQUAL(gwtf_setup_loss_scale(&setup), gwtf_setup_loss_scale(&other));
    gwtf_setup_close(&setup);
    gwtf_setup_close(&other);
    gwtf_tiny_run_deinit(&run);
    gwtf_tiny_run_deinit(&other_run);
}

#define EPOCH 96 /* sequences of 8 tokens; an iteration takes 8 for each data node */

/* Makes a shard of llm.c at PATH, whose sequences begin with 0, 8, 16 and so on. */
static void write_shard(const char *path) {
    static struct {
        int32_t header[256];
        uint16_t tokens[8 * EPOCH + 3];
    } shard = {.header = {20240520, 1, 8 * EPOCH + 3}};
    for (uint16_t i = 0; i < 8 * EPOCH + 3; i++)
        shard.tokens[i] = i;
    size_t size = sizeof shard.header + sizeof shard.tokens;
    FILE *file = fopen(path, "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_EQUAL(fwrite(&shard, 1, size, file), size);
    fclose(file);
}

/* A tiny run that trains on such a shard, its own or that of OTHER. */
static void open_shard(struct gwtf_tiny_run *run, struct gwtf_setup *setup, const char *override,
                       const struct gwtf_tiny_run *other) {
    gwtf_tiny_run_init(run, &override, 1);
    snprintf(run->config.data.train, sizeof run->config.data.train, "%s/shard.bin",
             other != NULL ? other->directory : run->directory);
    if (other == NULL)
        write_shard(run->config.data.train);
    run->config.data.validation[0] = '\0';
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_open(&run->config, setup, NULL), GWTF_OK);
}

/* Counts the sequences that all data nodes take in iterations FIRST to LAST. */
static void take(const struct gwtf_setup *setup, uint32_t first, uint32_t last, int *seen) {
    uint32_t inputs[16], labels[16];
    for (uint32_t iteration = first; iteration <= last; iteration++)
        for (uint32_t rank = 0; rank < setup->data_nodes; rank++)
            for (uint32_t i = 0; i < setup->config.batch.microbatches; i++) {
                uint32_t number = rank * setup->config.batch.microbatches + i;
                uint64_t place = gwtf_setup_place_of(setup, iteration) + 2 * number;
                CU_ASSERT_EQUAL_FATAL(
                    gwtf_setup_batch(setup, iteration, number, place, inputs, labels), GWTF_OK);
                CU_ASSERT_FATAL(inputs[0] % 8 == 0 && inputs[8] % 8 == 0);
                seen[inputs[0] / 8]++;
                seen[inputs[8] / 8]++;
            }
}

static bool are_all(const int *seen, int times) {
    for (size_t i = 0; i < EPOCH; i++)
        if (seen[i] != times)
            return false;
    return true;
}

static void an_epoch_has_each_sequence_once_for_any_number_of_data_nodes(void) {
    for (uint32_t nodes = 1; nodes <= 4; nodes++) {
        char override[32];
        struct gwtf_tiny_run run;
        struct gwtf_setup setup;
        int seen[EPOCH + 1] = {0};
        uint32_t iterations = EPOCH / 8 / nodes;
        snprintf(override, sizeof override, "nodes.0.count=%u", nodes);
        open_shard(&run, &setup, override, NULL);
        take(&setup, 1, iterations, seen);
        CU_ASSERT_TRUE(are_all(seen, 1));
        take(&setup, iterations + 1, 3 * iterations, seen);
        CU_ASSERT_TRUE(are_all(seen, 3));
        gwtf_setup_close(&setup);
        gwtf_tiny_run_deinit(&run);
    }
}

/* A snapshot of SETUP's run after STEP iterations and SEQUENCE sequences, with weights of zero. */
static void write_snapshot(const struct gwtf_setup *setup, uint64_t step, uint64_t sequence,
                           char *path, size_t size) {
    struct gwtf_snapshot_file files[3];
    char snapshots[GWTF_SNAPSHOT_PATH_MAX];
    for (uint32_t stage = 0; stage <= 2; stage++) {
        struct gwtf_stage_plan plan;
        struct gwtf_stage_shape shape = gwtf_setup_stage_shape(setup, stage);
        CU_ASSERT_EQUAL_FATAL(gwtf_stage_plan_init(&plan, &shape, NULL), GWTF_OK);
        float *zeros = calloc(plan.floats, sizeof *zeros);
        CU_ASSERT_EQUAL_FATAL(gwtf_setup_write_stage(setup, &plan, step, sequence, zeros, zeros,
                                                     zeros, NULL, &files[stage], NULL),
                              GWTF_OK);
        free(zeros);
        gwtf_stage_plan_deinit(&plan);
    }
    gwtf_setup_snapshots_path(setup, snapshots, sizeof snapshots);
    CU_ASSERT_EQUAL_FATAL(gwtf_snapshot_write_manifest(snapshots, step, 2, files, 0, NULL),
                          GWTF_OK);
    snprintf(path, size, "%.1100s/step-%06u", snapshots, (unsigned)step);
}

/* 4 iterations with one data node, 2 with two, and the rest with three and another batch. */
static void a_resumed_run_goes_on_with_the_sequences_that_are_left(void) {
    struct gwtf_tiny_run runs[3];
    struct gwtf_setup setups[3];
    char path[GWTF_SNAPSHOT_PATH_MAX];
    int seen[EPOCH + 1] = {0};
    open_shard(&runs[0], &setups[0], "nodes.0.count=1", NULL);
    take(&setups[0], 1, 4, seen);
    /* Older ones do not say it. */
    write_snapshot(&setups[0], 4, GWTF_SNAPSHOT_SEQUENCE_UNKNOWN, path, sizeof path);
    open_shard(&runs[1], &setups[1], "nodes.0.count=2", &runs[0]);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_continue(&setups[1], path, 4, NULL), GWTF_OK);
    take(&setups[1], 5, 6, seen);
    write_snapshot(&setups[1], 6, gwtf_setup_place_of(&setups[1], 7), path, sizeof path);
    open_shard(&runs[2], &setups[2], "batch.microbatches=16", &runs[0]);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_continue(&setups[2], path, 6, NULL), GWTF_OK);
    take(&setups[2], 7, 7, seen);
    CU_ASSERT_TRUE(are_all(seen, 1));
    take(&setups[2], 8, 10, seen);
    CU_ASSERT_TRUE(are_all(seen, 2));
    /* What a resumed run says of its place is for those that are resumed from it. */
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_continue(&setups[1], path, 6, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(setups[1].config.data.start_iteration, 6);
    CU_ASSERT_EQUAL(setups[1].config.data.start_sequence, 64);
    /* Data nodes came or went. */
    write_snapshot(&setups[1], 6, 50, path, sizeof path);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_continue(&setups[1], path, 6, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(setups[1].config.data.start_sequence, 50);
    /* Another order begins at its beginning. */
    setups[1].config.run.seed++;
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_continue(&setups[1], path, 6, NULL), GWTF_OK);
    CU_ASSERT_EQUAL(setups[1].config.data.start_iteration, 6);
    CU_ASSERT_EQUAL(setups[1].config.data.start_sequence, 0);
    for (size_t i = 0; i < 3; i++) {
        gwtf_setup_close(&setups[i]);
        gwtf_tiny_run_deinit(&runs[i]);
    }
}

/* A shard of llm.c keeps no tokenizer; who began with an imported model had one. */
static void the_tokenizer_of_a_snapshot_is_kept_where_the_data_has_none(void) {
    static const struct gwtf_kept files = {.count = 1, .files = {{"tokenizer.model", "abc", 3}}};
    struct gwtf_tiny_run run;
    struct gwtf_setup setup;
    char path[GWTF_SNAPSHOT_PATH_MAX];
    open_shard(&run, &setup, "nodes.0.count=1", NULL);
    CU_ASSERT_EQUAL(setup.kept.count, 0);
    CU_ASSERT_EQUAL_FATAL(gwtf_kept_copy(&files, &setup.kept, NULL), GWTF_OK);
    write_snapshot(&setup, 4, 32, path, sizeof path);
    gwtf_kept_deinit(&setup.kept);
    setup.kept = (struct gwtf_kept){0};
    CU_ASSERT_EQUAL(gwtf_setup_continue(&setup, path, 4, NULL), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(setup.kept.count, 1);
    CU_ASSERT_STRING_EQUAL(setup.kept.files[0].name, "tokenizer.model");
    CU_ASSERT_EQUAL(memcmp(setup.kept.files[0].bytes, "abc", 3), 0);
    const char *bytes = setup.kept.files[0].bytes;
    gwtf_setup_keep_tokenizer(&setup, path);
    CU_ASSERT_PTR_EQUAL(setup.kept.files[0].bytes, bytes);
    gwtf_kept_deinit(&setup.kept);
    setup.kept = (struct gwtf_kept){0};
    snprintf(setup.tokenizer, sizeof setup.tokenizer, "another");
    gwtf_setup_keep_tokenizer(&setup, path);
    CU_ASSERT_EQUAL(setup.kept.count, 0);
    CU_ASSERT_STRING_EQUAL(setup.tokenizer, "another");
    gwtf_setup_close(&setup);
    gwtf_tiny_run_deinit(&run);
}

static void validation_is_shared_out_once(void) {
    const char *overrides[] = {"nodes.0.count=3"};
    struct gwtf_tiny_run run;
    struct gwtf_setup setup;
    uint32_t all = 0;
    gwtf_tiny_run_init(&run, overrides, 1);
    CU_ASSERT_EQUAL_FATAL(gwtf_setup_open(&run.config, &setup, NULL), GWTF_OK);
    for (uint32_t rank = 0; rank < 3; rank++) {
        uint32_t window[16];
        all += gwtf_setup_validation_share(&setup, rank);
        read_window(&setup, true, rank, gwtf_setup_validation_share(&setup, rank) - 1, window);
    }
    CU_ASSERT_EQUAL(all, setup.validation_microbatches);
    CU_ASSERT_EQUAL(setup.validation_windows, 2 * (uint64_t)all);
    gwtf_setup_close(&setup);
    gwtf_tiny_run_deinit(&run);
}

/* By the formulas: a block of GPT-2 has 12 C^2 + 13 C parameters, one of LLaMA 2 C^2 + 2 C K +
 * 3 C F + 2 C; the data nodes have the tokens, the positions or none, the norm, and the head. */
static uint64_t parameters_by_formula(const struct gwtf_model_shape *model) {
    uint64_t c = model->width, f = model->hidden;
    uint64_t k = c / model->heads * model->key_value_heads;
    uint64_t tables = (model->tied_head ? 1 : 2) * (uint64_t)model->vocabulary * c;
    if (model->family == GWTF_FAMILY_GPT2)
        return model->layers * (12 * c * c + 13 * c) + tables + (model->context + 2) * c;
    return model->layers * (2 * c * c + 2 * c * k + 3 * c * f + 2 * c) + tables + c;
}

static void the_presets_have_the_parameters_of_their_names(void) {
    static const struct {
        const char *name;
        uint64_t parameters;
    } presets[] = {
        {"gpt2-124m", 124439808},  {"gpt2-355m", 354823168},  {"gpt2-774m", 774030080},
        {"gpt2-1.5b", 1557611200}, {"llama-124m", 123551232}, {"llama-300m", 373867520},
        {"llama-500m", 505629696}, {"llama-1b", 1100048384},  {"llama-1.5b", 1514575872},
        {"llama-7b", 6738415616},  {"gpt2-small", 124439808}, {"gpt2-medium", 354823168},
        {"gpt2-large", 774030080}, {"gpt2-xl", 1557611200},
    };
    static const char rest[] =
        "run = { directory = \"run\"; iterations = 1; }; data = { train = \"train.h5\"; };\n"
        "batch = { microbatch = 1; microbatches = 1; }; pipeline = { stages = 4; };\n"
        "nodes = ( { role = \"data\"; }, { role = \"relay\"; count = 4; } );\n";
    static struct gwtf_config config;
    static struct gwtf_setup setup;
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        char override[64];
        snprintf(override, sizeof override, "model.preset=%s", presets[i].name);
        const char *const overrides[] = {override};
        CU_ASSERT_EQUAL_FATAL(gwtf_config_parse(rest, "rest", overrides, 1, &config, NULL),
                              GWTF_OK);
        CU_ASSERT_EQUAL_FATAL(gwtf_setup_open_relay(&config, &setup, NULL), GWTF_OK);
        uint64_t parameters = 0;
        for (uint32_t stage = 0; stage <= 4; stage++) {
            struct gwtf_stage_plan plan;
            struct gwtf_stage_shape shape = gwtf_setup_stage_shape(&setup, stage);
            CU_ASSERT_EQUAL_FATAL(gwtf_stage_plan_init(&plan, &shape, NULL), GWTF_OK);
            parameters += plan.parameters;
            gwtf_stage_plan_deinit(&plan);
        }
        CU_ASSERT_EQUAL(parameters, presets[i].parameters);
        CU_ASSERT_EQUAL(parameters, parameters_by_formula(&setup.model));
        gwtf_setup_close(&setup);
    }
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(data_that_does_not_fit_is_refused_with_a_reason),
        GWTF_TEST(a_run_too_large_for_the_protocol_is_refused_before_it_starts),
        GWTF_TEST(a_relay_needs_no_data),
        GWTF_TEST(a_pace_is_that_of_one_block),
        GWTF_TEST(relays_are_spread_evenly_over_the_stages),
        GWTF_TEST(the_global_batch_does_not_depend_on_the_number_of_data_nodes),
        GWTF_TEST(an_epoch_has_each_sequence_once_for_any_number_of_data_nodes),
        GWTF_TEST(a_resumed_run_goes_on_with_the_sequences_that_are_left),
        GWTF_TEST(the_tokenizer_of_a_snapshot_is_kept_where_the_data_has_none),
        GWTF_TEST(validation_is_shared_out_once),
        GWTF_TEST(the_presets_have_the_parameters_of_their_names),
    };
    return gwtf_suite_main(argc, argv, "setup", tests, sizeof tests / sizeof tests[0], NULL, NULL);
}
