#include "tests/support/tiny_run.h"

#include "io/run.h"
#include "io/tokens.h"
#include "share/base/assert.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char configuration[] =
    "run = { directory = \"%s/run\"; seed = 3; iterations = 6; };\n"
    "model = { family = \"gpt2\"; layers = 4; width = 16; heads = 2; context = 8; };\n"
    "data = { train = \"%s/train.h5\"; validation = \"%s/validation.h5\"; };\n"
    "batch = { microbatch = 2; microbatches = 4; };\n"
    "pipeline = { stages = 2; };\n"
    "nodes = ( { role = \"data\"; }, { role = \"relay\"; count = 4; } );\n"
    "optimizer = { learning_rate = 1e-2; warmup = 2; };\n"
    "backend = { threads = 1; };\n";

static void write_text(const char *path) {
    FILE *file = fopen(path, "w");
    GWTF_ASSERT(file != NULL);
    for (int i = 0; i < 200; i++)
        fprintf(file, "line %d: the quick brown fox jumps over the lazy dog\n", i);
    fclose(file);
}

void gwtf_tiny_run_init(struct gwtf_tiny_run *run, const char *const *overrides,
                        size_t overrides_count) {
    char text[300], train[300], validation[300], settings[2048];
    const char *parent = getenv("TMPDIR");
    struct gwtf_error error = {""};
    snprintf(run->directory, sizeof run->directory, "%s/gwtf-test-XXXXXX",
             parent != NULL ? parent : "/tmp");
    GWTF_ASSERT(mkdtemp(run->directory) != NULL);
    snprintf(text, sizeof text, "%s/text", run->directory);
    snprintf(train, sizeof train, "%s/train.h5", run->directory);
    snprintf(validation, sizeof validation, "%s/validation.h5", run->directory);
    write_text(text);
    struct gwtf_tokenize_options options = {
        .input = text, .output = train, .validation_share = 0.1, .validation_output = validation};
    GWTF_ASSERT(gwtf_tokenize_bytes(&options, &error) == GWTF_OK);
    snprintf(settings, sizeof settings, configuration, run->directory, run->directory,
             run->directory);
    gwtf_status status =
        gwtf_config_parse(settings, "tiny", overrides, overrides_count, &run->config, &error);
    if (status != GWTF_OK)
        fprintf(stderr, "%s\n", error.text);
    GWTF_ASSERT(status == GWTF_OK);
    GWTF_ASSERT(gwtf_run_create(run->config.run.directory, &error) == GWTF_OK);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *where) {
    (void)status;
    (void)type;
    (void)where;
    return remove(path);
}

void gwtf_tiny_run_deinit(struct gwtf_tiny_run *run) {
    nftw(run->directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}
