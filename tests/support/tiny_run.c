#include "tests/support/tiny_run.h"

#include "io/run.h"
#include "io/tokenizer/tokenize.h"
#include "io/tokens.h"
#include "share/base/assert.h"
#include "tests/support/temporary.h"

#include <stdio.h>

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
    char settings[2048];
    struct gwtf_error error = {""};
    GWTF_ASSERT(temporary_make() == 0);
    snprintf(run->directory, sizeof run->directory, "%s", temporary_directory);
    const char *text = temporary_path("text");
    write_text(text);
    struct gwtf_tokenize_options options = {.input = text,
                                            .output = temporary_path("train.h5"),
                                            .validation_share = 0.1,
                                            .validation_output = temporary_path("validation.h5")};
    GWTF_ASSERT(gwtf_tokenize(&options, &error) == GWTF_OK);
    snprintf(settings, sizeof settings, configuration, run->directory, run->directory,
             run->directory);
    gwtf_status status =
        gwtf_config_parse(settings, "tiny", overrides, overrides_count, &run->config, &error);
    if (status != GWTF_OK)
        fprintf(stderr, "%s\n", error.text);
    GWTF_ASSERT(status == GWTF_OK);
    GWTF_ASSERT(gwtf_run_create(run->config.run.directory, &error) == GWTF_OK);
}

void gwtf_tiny_run_deinit(struct gwtf_tiny_run *run) {
    temporary_remove_tree(run->directory);
}
