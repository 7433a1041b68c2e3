#include "io/snapshot.h"
#include "tests/support/suite.h"
#include "tests/support/temporary.h"
#include "tests/unit/snapshots.h"

#include <hdf5.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

static struct gwtf_error error;
static struct gwtf_snapshot_info info;
static struct sample sample, loaded;

/* A directory with whole snapshots of the given steps; their values depend on the step. */
static const char *snapshots_of(const char *name, const uint64_t *steps, size_t steps_count) {
    const char *snapshots = temporary_path(name);
    for (size_t i = 0; i < steps_count; i++) {
        sample_init(&sample, steps[i]);
        gwtf_status status = sample_write(&sample, snapshots, steps[i], 0, &error);
        if (status != GWTF_OK)
            printf("\n%s\n", error.text);
        CU_ASSERT_EQUAL_FATAL(status, GWTF_OK);
    }
    return snapshots;
}

/* The output of a shell command, "" when it fails. */
static const char *output_of(const char *command) {
    static char output[16384];
    FILE *stream = popen(command, "r");
    size_t size = stream == NULL ? 0 : fread(output, 1, sizeof output - 1, stream);
    output[size] = '\0';
    if (stream == NULL || pclose(stream) != 0)
        output[0] = '\0';
    return output;
}

static const uint64_t one_step[] = {50};

static void load_and_expect(const char *path, uint64_t seed) {
    sample_init(&sample, seed);
    sample_init(&loaded, seed + 1000);
    CU_ASSERT_EQUAL(gwtf_snapshot_load(path, loaded.tensors, SAMPLE_TENSORS, &error), GWTF_OK);
    for (size_t i = 0; i < SAMPLE_TENSORS; i++) {
        size_t bytes = 4 * sample.tensors[i].dims[0] * sample.tensors[i].dims[1];
        for (size_t j = 0; j < 3; j++)
            CU_ASSERT_EQUAL(memcmp(loaded.values[i][j], sample.values[i][j], bytes), 0);
    }
}

static void a_snapshot_is_read_back_bit_for_bit(void) {
    const char *path = temporary_below(snapshots_of("plain", one_step, 1), "step-000050");
    CU_ASSERT_EQUAL(gwtf_snapshot_verify(path, &info, &error), GWTF_OK);
    CU_ASSERT_EQUAL(info.step, 50);
    CU_ASSERT_EQUAL(info.stages, 2);
    CU_ASSERT_EQUAL(info.layers, 3);
    CU_ASSERT_EQUAL(info.width, 32);
    CU_ASSERT_EQUAL(info.heads, 4);
    CU_ASSERT_EQUAL(info.context, 16);
    CU_ASSERT_EQUAL(info.vocabulary, 256);
    CU_ASSERT_TRUE(info.tied_head);
    CU_ASSERT_STRING_EQUAL(info.family, "gpt2");
    CU_ASSERT_STRING_EQUAL(info.path, path);
    load_and_expect(path, 50);
    /* Three stages and the manifest, nothing temporary. */
    CU_ASSERT_EQUAL(temporary_entries(path), 4);
}

static void the_first_stage_keeps_the_tokenizers_files(void) {
    struct gwtf_kept kept = {.count = 7};
    const char *snapshots = snapshots_of("keeps", one_step, 1);
    const char *step = temporary_below(snapshots, "step-000050");
    CU_ASSERT_TRUE(sample_keeps(temporary_below(step, "stage-00.h5")));
    CU_ASSERT_EQUAL(gwtf_kept_read(temporary_below(step, "stage-01.h5"), &kept, &error), GWTF_OK);
    CU_ASSERT_EQUAL(kept.count, 0);
    kept.count = 7;
    CU_ASSERT_EQUAL(gwtf_kept_read(temporary_below(step, "none.h5"), &kept, &error),
                    GWTF_ERROR_MISSING);
    CU_ASSERT_EQUAL(kept.count, 7);
}

/* What is no list of bytes, and more files than a tokenizer has. */
static void files_that_are_no_tokenizers_are_refused(void) {
    static const char *const words[] = {"vocab.json", "merges.txt", "tokenizer.json"};
    struct gwtf_kept kept;
    for (int odd = 0; odd < 2; odd++) {
        const char *path = temporary_path(odd ? "numbers.h5" : "three.h5");
        hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
        hid_t group = H5Gcreate2(file, "tokenizer", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        hsize_t count = 3;
        hid_t space = H5Screate_simple(1, &count, NULL);
        for (int i = 0; i < (odd ? 1 : 3); i++)
            H5Dclose(H5Dcreate2(group, words[i], odd ? H5T_NATIVE_DOUBLE : H5T_NATIVE_UINT8, space,
                                H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        H5Sclose(space);
        H5Gclose(group);
        H5Fclose(file);
        CU_ASSERT_EQUAL(gwtf_kept_read(path, &kept, &error), GWTF_ERROR_CORRUPT);
        CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "the tokenizer in it cannot be read"));
    }
}

static void weights_alone_and_tensors_of_any_stage_are_loaded(void) {
    const char *path = temporary_below(snapshots_of("some", one_step, 1), "step-000050");
    sample_init(&sample, 50);
    sample_init(&loaded, 1);
    struct gwtf_snapshot_tensor tensors[] = {loaded.tensors[4], loaded.tensors[0]};
    tensors[0].first_moments = tensors[0].second_moments = NULL;
    float before = loaded.values[4][1][0];
    CU_ASSERT_EQUAL(gwtf_snapshot_load(path, tensors, 2, &error), GWTF_OK);
    CU_ASSERT_EQUAL(memcmp(loaded.values[4][0], sample.values[4][0], 1280), 0);
    CU_ASSERT_EQUAL(memcmp(loaded.values[0][2], sample.values[0][2], 1280), 0);
    CU_ASSERT_EQUAL(loaded.values[4][1][0], before);
}

static void a_large_tensor_takes_several_chunks(void) {
    /* 1,000 x 700 floats: chunks of 374 rows, of 2^18 floats or less; the last one is not full. */
    const size_t count = 700000;
    const char *snapshots = temporary_path("large");
    float *values[3], *back = malloc(count * sizeof *back);
    for (size_t i = 0; i < 3; i++) {
        values[i] = malloc(count * sizeof **values);
        for (size_t j = 0; j < count; j++)
            values[i][j] = (float)(j * (i + 1));
    }
    struct gwtf_snapshot_tensor tensor = {.name = "wte.weight",
                                          .rank = 2,
                                          .dims = {1000, 700},
                                          .weights = values[0],
                                          .first_moments = values[1],
                                          .second_moments = values[2]};
    struct gwtf_snapshot_file files[3];
    for (uint32_t stage = 0; stage < 3; stage++) {
        struct gwtf_snapshot_stage facts = sample_stage(&sample, 1, stage);
        facts.tensors = &tensor;
        facts.tensors_count = stage == 0;
        CU_ASSERT_EQUAL(gwtf_snapshot_write_stage(snapshots, &facts, &files[stage], &error),
                        GWTF_OK);
    }
    CU_ASSERT_EQUAL(gwtf_snapshot_write_manifest(snapshots, 1, 2, files, 0, &error), GWTF_OK);
    tensor.weights = back;
    tensor.first_moments = NULL;
    CU_ASSERT_EQUAL(
        gwtf_snapshot_load(temporary_below(snapshots, "step-000001"), &tensor, 1, &error), GWTF_OK);
    CU_ASSERT_EQUAL(memcmp(back, values[0], count * sizeof *back), 0);
    for (size_t i = 0; i < 3; i++)
        free(values[i]);
    free(back);
}

static void a_configuration_of_any_length_is_kept(void) {
    const char *snapshots = temporary_path("long");
    char *config = malloc(300001), command[1600];
    memset(config, '#', 300000);
    config[300000] = '\0';
    struct gwtf_snapshot_file file;
    sample_init(&sample, 1);
    struct gwtf_snapshot_stage facts = sample_stage(&sample, 1, 1);
    facts.config = config;
    CU_ASSERT_EQUAL(gwtf_snapshot_write_stage(snapshots, &facts, &file, &error), GWTF_OK);
    CU_ASSERT(file.size_bytes > 300000);
    snprintf(command, sizeof command, "h5dump -a config '%s' | tr -cd '#' | wc -c",
             temporary_below(snapshots, "step-000001/stage-01.h5"));
    if (system("command -v h5dump >/dev/null") == 0)
        CU_ASSERT_STRING_EQUAL(output_of(command), "300000\n");
    free(config);
}

static void loading_another_model_is_refused(void) {
    const char *path = temporary_below(snapshots_of("other", one_step, 1), "step-000050");
    sample_init(&loaded, 1);
    loaded.tensors[1].name = "ln_g.weight";
    CU_ASSERT_EQUAL(gwtf_snapshot_load(path, loaded.tensors, 2, &error), GWTF_ERROR_MISSING);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "ln_g.weight"));
    loaded.tensors[0].dims[0] = 8;
    CU_ASSERT_EQUAL(gwtf_snapshot_load(path, loaded.tensors, 1, &error), GWTF_ERROR_CORRUPT);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "10 x 32 instead of 8 x 32"));
}

/* Replaces FILE of a fresh snapshot, and expects a line that names it. Returns whether it came. */
static bool refused_with(const char *path, const char *file, const void *bytes, size_t size) {
    error.text[0] = '\0';
    memset(&info, 0x5a, sizeof info);
    const char *full = temporary_below(path, file);
    if (!temporary_write(full, bytes, size))
        return false;
    gwtf_status status = gwtf_snapshot_verify(path, &info, &error);
    bool good = status != GWTF_OK && strstr(error.text, file) != NULL &&
                strstr(error.text, "another snapshot") != NULL &&
                strchr(error.text, '\n') == NULL && info.step == 0x5a5a5a5a5a5a5a5a;
    if (!good)
        printf("\n%s of %zu bytes: %d %s\n", file, size, (int)status, error.text);
    return good;
}

static void a_cut_or_flipped_file_is_refused(const char *name, const char *file) {
    const char *path = temporary_below(snapshots_of(name, one_step, 1), "step-000050");
    size_t size = 0;
    char *bytes = temporary_read(temporary_below(path, file), &size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    struct gwtf_random random;
    gwtf_random_init(&random, 9);
    int bad = 0;
    for (int i = 0; i < 60; i++)
        bad +=
            !refused_with(path, file, bytes, i < 10 ? (size_t)i : gwtf_random_below(&random, size));
    bad += !refused_with(path, file, bytes, size - 1);
    for (int i = 0; i < 200; i++) {
        size_t at = gwtf_random_below(&random, size);
        char bit = (char)(1 << gwtf_random_below(&random, 8));
        bytes[at] = (char)(bytes[at] ^ bit);
        bad += !refused_with(path, file, bytes, size);
        bytes[at] = (char)(bytes[at] ^ bit);
    }
    CU_ASSERT_EQUAL(bad, 0);
    CU_ASSERT_TRUE(temporary_write(temporary_below(path, file), bytes, size));
    CU_ASSERT_EQUAL(gwtf_snapshot_verify(path, &info, &error), GWTF_OK);
    /* Appended bytes are damage too. */
    bytes[size] = '\n';
    CU_ASSERT_TRUE(refused_with(path, file, bytes, size + 1));
    bytes[size] = '\0';
    CU_ASSERT_TRUE(refused_with(path, file, bytes, size + 1));
    free(bytes);
}

static void a_cut_or_flipped_stage_is_refused(void) {
    a_cut_or_flipped_file_is_refused("stage-damage", "stage-01.h5");
}

static void a_cut_or_flipped_manifest_is_refused(void) {
    a_cut_or_flipped_file_is_refused("manifest-damage", "manifest.cfg");
}

static void a_missing_or_foreign_file_is_refused(void) {
    const char *snapshots = snapshots_of("foreign", one_step, 1);
    const char *path = temporary_below(snapshots, "step-000050");
    CU_ASSERT_TRUE(refused_with(path, "stage-02.h5", "In the beginning\n", 17));
    /* Another stage, and another step's stage of the same size. */
    size_t size = 0;
    char *bytes = temporary_read(temporary_below(path, "stage-00.h5"), &size);
    CU_ASSERT_TRUE(refused_with(path, "stage-02.h5", bytes, size));
    free(bytes);
    const uint64_t other_step[] = {51};
    snapshots_of("foreign", other_step, 1);
    bytes = temporary_read(temporary_below(snapshots, "step-000051/stage-02.h5"), &size);
    CU_ASSERT_TRUE(refused_with(path, "stage-02.h5", bytes, size));
    free(bytes);
    remove(temporary_below(path, "stage-02.h5"));
    CU_ASSERT_EQUAL(gwtf_snapshot_verify(path, &info, &error), GWTF_ERROR_MISSING);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "stage-02.h5' is missing"));
    remove(temporary_below(path, "manifest.cfg"));
    CU_ASSERT_EQUAL(gwtf_snapshot_verify(path, &info, &error), GWTF_ERROR_MISSING);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "never finished"));
    CU_ASSERT_EQUAL(gwtf_snapshot_verify(temporary_below(snapshots, "none"), &info, &error),
                    GWTF_ERROR_MISSING);
}

static void stages_of_different_models_are_no_snapshot(void) {
    /* Each file and the manifest are good; together they are no model. */
    static const char *const holds[] = {"another model", "does not go on", "another step",
                                        "another step"};
    for (int which = 0; which < 4; which++) {
        struct gwtf_snapshot_file files[3];
        const char *snapshots = temporary_path("mixed");
        sample_init(&sample, 1);
        for (uint32_t stage = 0; stage <= 2; stage++) {
            struct gwtf_snapshot_stage facts = sample_stage(&sample, 7, stage);
            facts.context += which == 0 && stage == 1;
            facts.first_layer += which == 1 && stage == 2;
            facts.stages += which == 2 && stage == 2;
            CU_ASSERT_EQUAL(gwtf_snapshot_write_stage(snapshots, &facts, &files[stage], &error),
                            GWTF_OK);
        }
        if (which == 3) { /* stage 1 twice */
            size_t size = 0;
            char *bytes =
                temporary_read(temporary_below(snapshots, "step-000007/stage-01.h5"), &size);
            const char *second = temporary_below(snapshots, "step-000007/stage-02.h5");
            CU_ASSERT_TRUE(temporary_write(second, bytes, size));
            files[2] = files[1];
            free(bytes);
        }
        CU_ASSERT_EQUAL(gwtf_snapshot_write_manifest(snapshots, 7, 2, files, 0, &error), GWTF_OK);
        CU_ASSERT_EQUAL(
            gwtf_snapshot_verify(temporary_below(snapshots, "step-000007"), &info, &error),
            GWTF_ERROR_CORRUPT);
        CU_ASSERT_PTR_NOT_NULL(strstr(error.text, holds[which]));
    }
}

static int skipped_count;
static char skipped_line[GWTF_ERROR_TEXT_MAX];

static void note_skipped(void *context, const char *line) {
    (void)context;
    skipped_count++;
    snprintf(skipped_line, sizeof skipped_line, "%s", line);
}

static void the_newest_whole_snapshot_is_used_instead(void) {
    const uint64_t steps[] = {9, 10, 1000000};
    const char *snapshots = snapshots_of("newest", steps, 3);
    mkdir(temporary_below(snapshots, "step-x"), 0777);
    mkdir(temporary_below(snapshots, "step-11"), 0777);
    CU_ASSERT_EQUAL(gwtf_snapshot_newest(snapshots, &info, note_skipped, NULL, &error), GWTF_OK);
    CU_ASSERT_EQUAL(info.step, 1000000);
    CU_ASSERT_EQUAL(skipped_count, 0);
    size_t size = 0;
    char *bytes = temporary_read(temporary_below(snapshots, "step-1000000/stage-01.h5"), &size);
    CU_ASSERT_TRUE(
        temporary_write(temporary_below(snapshots, "step-1000000/stage-01.h5"), bytes, size / 2));
    free(bytes);
    CU_ASSERT_EQUAL(gwtf_snapshot_newest(snapshots, &info, note_skipped, NULL, &error), GWTF_OK);
    CU_ASSERT_EQUAL(info.step, 10);
    CU_ASSERT_EQUAL(skipped_count, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(skipped_line, "step-1000000/stage-01.h5' has "));
    /* The quick look believes manifests. */
    CU_ASSERT_EQUAL(gwtf_snapshot_glance(snapshots, &info, &error), GWTF_OK);
    CU_ASSERT_EQUAL(info.step, 1000000);
    remove(temporary_below(snapshots, "step-000010/manifest.cfg"));
    remove(temporary_below(snapshots, "step-000009/stage-00.h5"));
    CU_ASSERT_EQUAL(gwtf_snapshot_newest(snapshots, &info, note_skipped, NULL, &error),
                    GWTF_ERROR_MISSING);
    CU_ASSERT_EQUAL(skipped_count, 4);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "no whole snapshot"));
    CU_ASSERT_EQUAL(gwtf_snapshot_newest(temporary_path("none"), &info, NULL, NULL, &error),
                    GWTF_ERROR_MISSING);
}

static void a_renamed_snapshot_is_not_taken_for_another_step(void) {
    const char *snapshots = snapshots_of("renamed", one_step, 1);
    CU_ASSERT_EQUAL(rename(temporary_below(snapshots, "step-000050"),
                           temporary_below(snapshots, "step-000060")),
                    0);
    CU_ASSERT_EQUAL(gwtf_snapshot_newest(snapshots, &info, note_skipped, NULL, &error),
                    GWTF_ERROR_MISSING);
    /* By itself it is a good one. */
    CU_ASSERT_EQUAL(gwtf_snapshot_verify(temporary_below(snapshots, "step-000060"), &info, &error),
                    GWTF_OK);
}

static bool there(const char *snapshots, const char *name) {
    return access(temporary_below(snapshots, name), F_OK) == 0;
}

static void old_and_half_written_snapshots_are_removed(void) {
    const uint64_t steps[] = {10, 20, 30, 40};
    const char *snapshots = snapshots_of("prune", steps, 4);
    mkdir(temporary_below(snapshots, "step-000025"), 0777);
    CU_ASSERT_TRUE(temporary_write(temporary_below(snapshots, "step-000025/stage-00.h5"), "x", 1));
    mkdir(temporary_below(snapshots, "step-000035"), 0777);
    mkdir(temporary_below(snapshots, "keep-me"), 0777);
    mkdir(temporary_below(snapshots, "step-000030x"), 0777);
    mkdir(temporary_below(snapshots, "step-000030/more"), 0777);
    mkdir(temporary_below(snapshots, "step-000010/more"), 0777);
    /* A newer one stays, of a run that went back to step 20. */
    CU_ASSERT_TRUE(
        temporary_write(temporary_below(snapshots, "step-000030/stage-07.h5.tmp-1-2"), "x", 1));
    CU_ASSERT_EQUAL(sample_write(&sample, snapshots, 30, 2, &error), GWTF_OK);
    CU_ASSERT_TRUE(there(snapshots, "step-000040"));
    CU_ASSERT_TRUE(there(snapshots, "step-000035"));
    CU_ASSERT_TRUE(there(snapshots, "step-000030"));
    CU_ASSERT_TRUE(there(snapshots, "step-000020"));
    CU_ASSERT_FALSE(there(snapshots, "step-000025"));
    CU_ASSERT_FALSE(there(snapshots, "step-000010"));
    CU_ASSERT_TRUE(there(snapshots, "keep-me") && there(snapshots, "step-000030x"));
    CU_ASSERT_FALSE(there(snapshots, "step-000030/stage-07.h5.tmp-1-2"));
    CU_ASSERT_EQUAL(sample_write(&sample, snapshots, 50, 1, &error), GWTF_OK);
    /* keep-me, step-000030x, step-000050. */
    CU_ASSERT_EQUAL(temporary_entries(snapshots), 3);
    CU_ASSERT_EQUAL(gwtf_snapshot_newest(snapshots, &info, NULL, NULL, &error), GWTF_OK);
}

static void a_snapshot_that_is_being_replaced_is_not_whole(void) {
    const char *snapshots = snapshots_of("replaced", one_step, 1);
    const char *path = temporary_below(snapshots, "step-000050");
    struct gwtf_snapshot_file file;
    struct sample newer;
    sample_init(&newer, 51);
    struct gwtf_snapshot_stage facts = sample_stage(&newer, 50, 1);
    CU_ASSERT_EQUAL(gwtf_snapshot_write_stage(snapshots, &facts, &file, &error), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_snapshot_verify(path, &info, &error), GWTF_ERROR_MISSING);
    CU_ASSERT_EQUAL(sample_write(&newer, snapshots, 50, 1, &error), GWTF_OK);
    load_and_expect(path, 51);
}

/* Puts the manifest back whenever it is gone, until it is killed. */
static void restore_forever(const char *path, const char *bytes, size_t size) {
    const char *manifest = temporary_below(path, "manifest.cfg");
    const char *other = temporary_below(path, "manifest.other");
    for (;;)
        if (access(manifest, F_OK) != 0 && temporary_write(other, bytes, size))
            rename(other, manifest);
}

static void a_writer_that_comes_too_late_leaves_the_whole_snapshot_alone(void) {
    const char *path = temporary_below(snapshots_of("late", one_step, 1), "step-000050");
    const char *snapshots = temporary_path("late");
    size_t size = 0;
    char *bytes = temporary_read(temporary_below(path, "manifest.cfg"), &size);
    pid_t child = temporary_fork();
    if (child == 0)
        restore_forever(path, bytes, size);
    struct gwtf_snapshot_file file;
    struct sample late;
    sample_init(&late, 51);
    /* Large enough that the manifest is back before the stage is complete. */
    const size_t count = 4000000;
    float *values = calloc(count, sizeof *values);
    struct gwtf_snapshot_tensor tensor = {.name = "large",
                                          .rank = 1,
                                          .dims = {count, 1},
                                          .weights = values,
                                          .first_moments = values,
                                          .second_moments = values};
    struct gwtf_snapshot_stage facts = sample_stage(&late, 50, 1);
    facts.tensors = &tensor;
    facts.tensors_count = 1;
    CU_ASSERT_EQUAL(gwtf_snapshot_write_stage(snapshots, &facts, &file, &error), GWTF_OK);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    remove(temporary_below(path, "manifest.other"));
    CU_ASSERT_EQUAL(gwtf_snapshot_verify(path, &info, &error), GWTF_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(bytes, file.sha256));
    CU_ASSERT_EQUAL(temporary_entries(path), 4);
    load_and_expect(path, 50);
    free(values);
    free(bytes);
}

static void a_manifest_without_its_files_is_not_written(void) {
    const char *snapshots = temporary_path("early");
    struct gwtf_snapshot_file files[3] = {{0}};
    sample_init(&sample, 1);
    struct gwtf_snapshot_stage facts = sample_stage(&sample, 3, 0);
    CU_ASSERT_EQUAL(gwtf_snapshot_write_stage(snapshots, &facts, &files[0], &error), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_snapshot_write_manifest(snapshots, 3, 2, files, 0, &error),
                    GWTF_ERROR_MISSING);
    CU_ASSERT_FALSE(there(snapshots, "step-000003/manifest.cfg"));
    files[0].size_bytes++;
    CU_ASSERT_EQUAL(gwtf_snapshot_write_manifest(snapshots, 3, 2, files, 0, &error),
                    GWTF_ERROR_CORRUPT);
}

/* Writes snapshots until it is killed; says through a pipe when the first one is whole. */
static void write_forever(const char *snapshots, int ready) {
    struct sample mine;
    for (uint64_t step = 1;; step++) {
        sample_init(&mine, step);
        if (sample_write(&mine, snapshots, step, 0, NULL) != GWTF_OK || write(ready, "x", 1) != 1)
            _exit(1);
    }
}

static void a_killed_writer_leaves_whole_snapshots_or_none(void) {
    struct gwtf_random random;
    gwtf_random_init(&random, 4);
    int halves = 0;
    for (int round = 0; round < 25; round++) {
        char name[32];
        snprintf(name, sizeof name, "killed-%d", round);
        const char *snapshots = temporary_path(name);
        int ready[2];
        CU_ASSERT_EQUAL_FATAL(pipe(ready), 0);
        pid_t child = temporary_fork();
        if (child == 0)
            write_forever(snapshots, ready[1]);
        char word;
        CU_ASSERT_EQUAL(read(ready[0], &word, 1), 1);
        struct timespec wait = {.tv_nsec = (long)gwtf_random_below(&random, 8000000)};
        nanosleep(&wait, NULL);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        skipped_count = 0;
        CU_ASSERT_EQUAL(gwtf_snapshot_newest(snapshots, &info, note_skipped, NULL, &error),
                        GWTF_OK);
        /* At most the one that was being written is not whole, and all before it are. */
        CU_ASSERT(skipped_count <= 1);
        halves += skipped_count;
        for (uint64_t step = 1; step <= info.step; step++) {
            snprintf(name, sizeof name, "step-%06u", (unsigned)step);
            const char *path = temporary_below(snapshots, name);
            struct gwtf_snapshot_info each;
            CU_ASSERT_EQUAL(gwtf_snapshot_verify(path, &each, &error), GWTF_OK);
        }
        load_and_expect(info.path, info.step);
        close(ready[0]);
        close(ready[1]);
    }
    /* The kill must have struck while one was written, or this test shows nothing. */
    CU_ASSERT(halves > 5);
}

/* In a child, under a limit on file sizes that stands for a full disk. The clean-up of HDF5 at the
 * end of the process is part of what is tested. */
static int write_under_limit(const char *snapshots, unsigned long bytes) {
    struct rlimit limit = {bytes, bytes};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    gwtf_status status = sample_write(&sample, snapshots, 60, 1, &error);
    return status == GWTF_ERROR_IO && strstr(error.text, "stage-00.h5") != NULL &&
                   strstr(error.text, "File too large: raise") != NULL
               ? 42
               : 1;
}

static void a_full_disk_is_one_line_and_the_older_snapshot_stays(void) {
    const char *snapshots = snapshots_of("full", one_step, 1);
    for (unsigned long bytes = 0; bytes <= 20000; bytes += 5000) {
        pid_t child = temporary_fork();
        if (child == 0)
            exit(write_under_limit(snapshots, bytes));
        int status = 0;
        waitpid(child, &status, 0);
        CU_ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 42);
        CU_ASSERT_EQUAL(temporary_entries(temporary_below(snapshots, "step-000060")), 0);
    }
    CU_ASSERT_EQUAL(gwtf_snapshot_newest(snapshots, &info, NULL, NULL, &error), GWTF_OK);
    CU_ASSERT_EQUAL(info.step, 50);
}

static void a_place_that_cannot_be_written_is_one_line(void) {
    const char *file = temporary_path("a-file");
    CU_ASSERT_TRUE(temporary_write(file, "x", 1));
    CU_ASSERT_EQUAL(sample_write(&sample, temporary_below(file, "snapshots"), 1, 0, &error),
                    GWTF_ERROR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "a-file/snapshots"));
    CU_ASSERT_EQUAL(sample_write(&sample, "/proc/none", 1, 0, &error), GWTF_ERROR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "/proc/none"));
}

struct summaries {
    char lines[SAMPLE_TENSORS][128];
    double largest, deviation, mean;
    size_t count;
};

static void note_summary(void *context, const struct gwtf_snapshot_tensor_summary *summary) {
    struct summaries *summaries = context;
    if (summaries->count == 0) {
        summaries->largest = summary->largest;
        summaries->deviation = summary->deviation;
        summaries->mean = summary->mean;
    }
    if (summaries->count < SAMPLE_TENSORS)
        snprintf(summaries->lines[summaries->count++], 128, "%u %s %u %llu %llu %s", summary->stage,
                 summary->name, summary->rank, (unsigned long long)summary->dims[0],
                 (unsigned long long)summary->dims[1], summary->type);
}

static void tensors_are_summarised_in_the_models_order(void) {
    const char *path = temporary_below(snapshots_of("summary", one_step, 1), "step-000050");
    struct summaries summaries = {.count = 0};
    CU_ASSERT_EQUAL_FATAL(gwtf_snapshot_summarise(path, note_summary, &summaries, &error), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(summaries.count, SAMPLE_TENSORS);
    CU_ASSERT_STRING_EQUAL(summaries.lines[0], "0 wte.weight 2 10 32 float32");
    CU_ASSERT_STRING_EQUAL(summaries.lines[2], "1 h.1.weight 2 10 32 float32");
    CU_ASSERT_STRING_EQUAL(summaries.lines[3], "1 h.0.bias 1 32 1 float32");
    double sum = 0, squares = 0, largest = 0;
    sample_init(&sample, 50);
    for (size_t i = 0; i < 320; i++) {
        double value = (double)sample.values[0][0][i];
        sum += value / 320;
        squares += value * value / 320;
        largest = fabs(value) > largest ? fabs(value) : largest;
    }
    CU_ASSERT_DOUBLE_EQUAL(summaries.mean, sum, 1e-12);
    CU_ASSERT_DOUBLE_EQUAL(summaries.deviation, sqrt(squares - sum * sum), 1e-12);
    CU_ASSERT_EQUAL(summaries.largest, largest);
}

static void a_weight_that_is_no_number_is_seen_in_the_summary(void) {
    const char *snapshots = temporary_path("nan");
    sample_init(&sample, 1);
    sample.values[0][0][100] = NAN;
    CU_ASSERT_EQUAL(sample_write(&sample, snapshots, 1, 0, &error), GWTF_OK);
    struct summaries summaries = {.count = 0};
    CU_ASSERT_EQUAL(gwtf_snapshot_summarise(temporary_below(snapshots, "step-000001"), note_summary,
                                            &summaries, &error),
                    GWTF_OK);
    CU_ASSERT_TRUE(isnan(summaries.mean) && isnan(summaries.largest));
}

static void the_hdf5_tools_read_a_stage(void) {
    char command[1600];
    if (system("command -v h5dump >/dev/null && command -v h5ls >/dev/null") != 0) {
        printf("skipped: h5dump and h5ls are not installed ");
        return;
    }
    const char *stage =
        temporary_below(snapshots_of("tools", one_step, 1), "step-000050/stage-01.h5");
    snprintf(command, sizeof command, "h5ls -r '%s'", stage);
    const char *output = output_of(command);
    CU_ASSERT_PTR_NOT_NULL(strstr(output, "/weights/h.1.weight      Dataset {10, 32}"));
    CU_ASSERT_PTR_NOT_NULL(strstr(output, "/optimizer/m/h.0.bias    Dataset {32}"));
    CU_ASSERT_PTR_NOT_NULL(strstr(output, "/optimizer/v/h.0.bias"));
    snprintf(command, sizeof command, "h5dump -p -H -A '%s'", stage);
    output = output_of(command);
    static const char *const attributes[] = {
        "format",     "version",         "run",        "step",       "stage",
        "stages",     "first_layer",     "layers",     "family",     "width",
        "heads",      "context",         "vocabulary", "precision",  "config",
        "written_at", "key_value_heads", "hidden",     "rope_theta", "norm_epsilon"};
    for (size_t i = 0; i < sizeof attributes / sizeof attributes[0]; i++) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, "ATTRIBUTE \"%s\"", attributes[i]);
        CU_ASSERT_PTR_NOT_NULL(strstr(output, wanted));
    }
    snprintf(command, sizeof command, "h5dump -p -H -d /weights/h.0.bias '%s'", stage);
    output = output_of(command);
    CU_ASSERT_PTR_NOT_NULL(strstr(output, "H5T_IEEE_F32LE"));
    CU_ASSERT_PTR_NOT_NULL(strstr(output, "CHECKSUM FLETCHER32"));
}

static void python_reads_a_stage(void) {
    if (system("python3 -c 'import h5py' 2>/dev/null") != 0) {
        printf("skipped: python3 has no h5py ");
        return;
    }
    const char *stage =
        temporary_below(snapshots_of("python", one_step, 1), "step-000050/stage-01.h5");
    char command[1600], expected[64];
    snprintf(command, sizeof command,
             "python3 -c 'import h5py,sys\n"
             "f=h5py.File(sys.argv[1],\"r\")\n"
             "w=f[\"weights/h.1.weight\"]\n"
             "print(f.attrs[\"format\"],f.attrs[\"step\"],f.attrs[\"family\"],w.shape,w.dtype,"
             "\"%%.6f\" %% w[3,5])' '%s'",
             stage);
    sample_init(&sample, 50);
    snprintf(expected, sizeof expected, "gwtf-snapshot 50 gpt2 (10, 32) float32 %.6f\n",
             (double)sample.values[2][0][3 * 32 + 5]);
    CU_ASSERT_STRING_EQUAL(output_of(command), expected);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(a_snapshot_is_read_back_bit_for_bit),
        GWTF_TEST(the_first_stage_keeps_the_tokenizers_files),
        GWTF_TEST(files_that_are_no_tokenizers_are_refused),
        GWTF_TEST(weights_alone_and_tensors_of_any_stage_are_loaded),
        GWTF_TEST(a_large_tensor_takes_several_chunks),
        GWTF_TEST(a_configuration_of_any_length_is_kept),
        GWTF_TEST(loading_another_model_is_refused),
        GWTF_TEST(a_cut_or_flipped_stage_is_refused),
        GWTF_TEST(a_cut_or_flipped_manifest_is_refused),
        GWTF_TEST(a_missing_or_foreign_file_is_refused),
        GWTF_TEST(stages_of_different_models_are_no_snapshot),
        GWTF_TEST(the_newest_whole_snapshot_is_used_instead),
        GWTF_TEST(a_renamed_snapshot_is_not_taken_for_another_step),
        GWTF_TEST(old_and_half_written_snapshots_are_removed),
        GWTF_TEST(a_snapshot_that_is_being_replaced_is_not_whole),
        GWTF_TEST(a_writer_that_comes_too_late_leaves_the_whole_snapshot_alone),
        GWTF_TEST(a_manifest_without_its_files_is_not_written),
        GWTF_TEST(a_killed_writer_leaves_whole_snapshots_or_none),
        GWTF_TEST(a_full_disk_is_one_line_and_the_older_snapshot_stays),
        GWTF_TEST(a_place_that_cannot_be_written_is_one_line),
        GWTF_TEST(tensors_are_summarised_in_the_models_order),
        GWTF_TEST(a_weight_that_is_no_number_is_seen_in_the_summary),
        GWTF_TEST(the_hdf5_tools_read_a_stage),
        GWTF_TEST(python_reads_a_stage),
    };
    return gwtf_suite_main(argc, argv, "snapshot", tests, sizeof tests / sizeof tests[0],
                           temporary_make, temporary_remove);
}
