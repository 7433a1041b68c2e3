#include "io/tokenizer/tokenize.h"
#include "io/tokens.h"
#include "share/base/random.h"
#include "tests/support/suite.h"
#include "tests/support/temporary.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/wait.h>

static struct gwtf_error error;

/* A text of SIZE bytes with all 256 values, and the token file of it. */
static const char *token_file(const char *name, size_t size) {
    char *text = malloc(size), text_name[64];
    for (size_t i = 0; i < size; i++)
        text[i] = (char)gwtf_random_at(5, i);
    snprintf(text_name, sizeof text_name, "%s.txt", name);
    struct gwtf_tokenize_options options = {.input = temporary_path(text_name),
                                            .output = temporary_path(name)};
    CU_ASSERT_TRUE_FATAL(temporary_write(options.input, text, size));
    gwtf_status status = gwtf_tokenize(&options, &error);
    if (status != GWTF_OK)
        printf("\n%s\n", error.text);
    CU_ASSERT_EQUAL_FATAL(status, GWTF_OK);
    free(text);
    return options.output;
}

static uint64_t progress_done, progress_all;

static void note_progress(void *context, uint64_t done, uint64_t all) {
    (void)context;
    CU_ASSERT(done > progress_done);
    progress_done = done;
    progress_all = all;
}

static void a_text_becomes_tokens_and_its_end_is_for_validation(void) {
    /* Several pieces before and after the split, which is inside one. */
    const size_t size = 1000003;
    unsigned char *text = malloc(size);
    for (size_t i = 0; i < size; i++)
        text[i] = (unsigned char)(gwtf_random_at(1, i) % 200);
    const char *input = temporary_path("text"), *train = temporary_path("train.h5"),
               *validation = temporary_path("validation.h5");
    CU_ASSERT_TRUE_FATAL(temporary_write(input, text, size));
    struct gwtf_tokenize_options options = {.input = input,
                                            .output = train,
                                            .validation_share = 0.2,
                                            .validation_output = validation,
                                            .progress = note_progress};
    CU_ASSERT_EQUAL_FATAL(gwtf_tokenize(&options, &error), GWTF_OK);
    CU_ASSERT_EQUAL(progress_done, size);
    CU_ASSERT_EQUAL(progress_all, size);
    struct gwtf_tokens *parts[2];
    CU_ASSERT_EQUAL_FATAL(gwtf_tokens_open(train, &parts[0], &error), GWTF_OK);
    CU_ASSERT_EQUAL_FATAL(gwtf_tokens_open(validation, &parts[1], &error), GWTF_OK);
    /* 20 % of 1,000,003, rounded down. */
    CU_ASSERT_EQUAL(gwtf_tokens_get_info(parts[0]).count, 800003);
    CU_ASSERT_EQUAL(gwtf_tokens_get_info(parts[1]).count, 200000);
    uint32_t *ids = malloc(size * sizeof *ids);
    CU_ASSERT_EQUAL(gwtf_tokens_read(parts[0], 0, 800003, ids), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_tokens_read(parts[1], 0, 200000, ids + 800003), GWTF_OK);
    size_t wrong = 0;
    for (size_t i = 0; i < size; i++)
        wrong += ids[i] != text[i];
    CU_ASSERT_EQUAL(wrong, 0);
    struct gwtf_tokens_info info = gwtf_tokens_get_info(parts[0]);
    CU_ASSERT_EQUAL(info.vocabulary, 256);
    CU_ASSERT_EQUAL(info.largest, 199);
    CU_ASSERT_EQUAL(info.bytes_per_token, 2);
    CU_ASSERT_STRING_EQUAL(info.tokenizer, "bytes");
    CU_ASSERT_STRING_EQUAL(info.source, input);
    CU_ASSERT_STRING_EQUAL(info.sha256, gwtf_tokens_get_info(parts[1]).sha256);
    gwtf_tokens_close(parts[0]);
    gwtf_tokens_close(parts[1]);
    free(ids);
    free(text);
}

static void the_hash_is_that_of_the_source(void) {
    const char *input = temporary_path("abc"), *output = temporary_path("abc.h5");
    CU_ASSERT_TRUE(temporary_write(input, "abc", 3));
    struct gwtf_tokenize_options options = {.input = input, .output = output};
    CU_ASSERT_EQUAL_FATAL(gwtf_tokenize(&options, &error), GWTF_OK);
    struct gwtf_tokens *tokens;
    CU_ASSERT_EQUAL_FATAL(gwtf_tokens_open(output, &tokens, &error), GWTF_OK);
    /* FIPS 180-2, appendix B.1. */
    CU_ASSERT_STRING_EQUAL(gwtf_tokens_get_info(tokens).sha256,
                           "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    gwtf_tokens_close(tokens);
}

static void validation_sequences_are_spread_without_overlap(void) {
    struct gwtf_tokens *tokens;
    CU_ASSERT_EQUAL_FATAL(gwtf_tokens_open(token_file("spread.h5", 1000), &tokens, &error),
                          GWTF_OK);
    /* A window of 32 needs 33 tokens, the last of which starts the next: 999 / 32. */
    CU_ASSERT_EQUAL(gwtf_tokens_validation_count(tokens, 0, 32), 31);
    CU_ASSERT_EQUAL(gwtf_tokens_validation_count(tokens, 100, 32), 31);
    CU_ASSERT_EQUAL(gwtf_tokens_validation_count(tokens, 5, 32), 5);
    CU_ASSERT_EQUAL(gwtf_tokens_validation_count(tokens, 5, 1000), 0);
    CU_ASSERT_EQUAL(gwtf_tokens_validation_count(tokens, 5, 999), 1);
    for (uint64_t count = 1; count <= 31; count++) {
        uint64_t before = 0;
        for (uint64_t i = 0; i < count; i++) {
            uint64_t start = gwtf_tokens_validation_start(tokens, i, count, 32);
            CU_ASSERT(i == 0 ? start == 0 : start >= before + 32);
            CU_ASSERT(start + 32 < 1000);
            before = start;
        }
        /* Spread: the last one starts in the last of COUNT equal parts. */
        CU_ASSERT(before + 999 / count + 32 >= 999);
    }
    gwtf_tokens_close(tokens);
}

static void expect_refused(const char *path, const char *holds) {
    struct gwtf_tokens *tokens = (struct gwtf_tokens *)&error;
    error.text[0] = '\0';
    gwtf_status status = gwtf_tokens_open(path, &tokens, &error);
    bool good = status != GWTF_OK && strstr(error.text, path) != NULL &&
                strstr(error.text, holds) != NULL && strchr(error.text, '\n') == NULL;
    if (!good)
        printf("\n%s: %d %s\n", path, (int)status, error.text);
    CU_ASSERT_TRUE(good);
    CU_ASSERT_PTR_EQUAL(tokens, &error);
}

static void files_that_are_no_token_files_are_refused(void) {
    expect_refused(temporary_path("absent.h5"), "No such file");
    expect_refused(temporary_directory, "not a file");
    const char *text = temporary_path("text.h5");
    CU_ASSERT_TRUE(temporary_write(text, "In the beginning\n", 17));
    expect_refused(text, "not an HDF5 file");
    const char *empty = temporary_path("empty.h5");
    CU_ASSERT_TRUE(temporary_write(empty, "", 0));
    expect_refused(empty, "not an HDF5 file");
}

/* Makes PATH with h5py: a good file, with CHANGE made to it before it is closed. */
static const char *python_file(const char *name, const char *type, const char *change) {
    const char *path = temporary_path(name);
    char command[2048];
    snprintf(command, sizeof command,
             "python3 -c 'import h5py, numpy, sys\n"
             "f = h5py.File(sys.argv[1], \"w\")\n"
             "d = f.create_dataset(\"tokens\", data=numpy.arange(1000).astype(\"%s\"))\n"
             "d.attrs[\"tokenizer\"] = \"own\"; d.attrs[\"vocabulary\"] = 1000\n"
             "d.attrs[\"source\"] = \"web\"; d.attrs[\"sha256\"] = \"00\"\n"
             "%s' '%s'",
             type, change, path);
    CU_ASSERT_EQUAL(system(command), 0);
    return path;
}

static void token_files_of_other_programs_are_read_or_refused(void) {
    if (system("python3 -c 'import h5py' 2>/dev/null") != 0) {
        printf("skipped: python3 has no h5py ");
        return;
    }
    struct gwtf_tokens *tokens;
    uint32_t ids[2];
    const char *path = python_file("u4.h5", "uint32", "");
    CU_ASSERT_EQUAL_FATAL(gwtf_tokens_open(path, &tokens, &error), GWTF_OK);
    struct gwtf_tokens_info info = gwtf_tokens_get_info(tokens);
    CU_ASSERT_EQUAL(info.count, 1000);
    CU_ASSERT_EQUAL(info.bytes_per_token, 4);
    CU_ASSERT_EQUAL(info.largest, 999);
    CU_ASSERT_STRING_EQUAL(info.tokenizer, "own");
    CU_ASSERT_EQUAL(gwtf_tokens_read(tokens, 998, 2, ids), GWTF_OK);
    CU_ASSERT(ids[0] == 998 && ids[1] == 999);
    gwtf_tokens_close(tokens);
    expect_refused(python_file("u1.h5", "uint8", ""), "neither uint16 nor uint32");
    expect_refused(python_file("big.h5", ">u2", ""), "neither uint16 nor uint32");
    expect_refused(python_file("a1.h5", "uint16", "del d.attrs[\"sha256\"]"), "sha256");
    expect_refused(python_file("a2.h5", "uint16", "d.attrs[\"vocabulary\"] = \"x\""), "vocabulary");
    expect_refused(python_file("a3.h5", "uint16", "d.attrs[\"vocabulary\"] = 999"),
                   "not below its vocabulary");
    expect_refused(python_file("a4.h5", "uint16", "d.attrs[\"largest\"] = 1000"),
                   "not below its vocabulary");
    expect_refused(python_file("name.h5", "uint16", "f.move(\"tokens\", \"ids\")"),
                   "no dataset /tokens");
    expect_refused(python_file("chunks.h5", "uint16",
                               "a = dict(d.attrs); del f[\"tokens\"]\n"
                               "d = f.create_dataset(\"tokens\", data=numpy.arange(9).astype("
                               "\"uint16\"), chunks=(4,)); d.attrs.update(a)"),
                   "h5repack");
    expect_refused(python_file("rank.h5", "uint16",
                               "a = dict(d.attrs); del f[\"tokens\"]\n"
                               "d = f.create_dataset(\"tokens\", data=numpy.zeros((3, 3)).astype("
                               "\"uint16\")); d.attrs.update(a)"),
                   "one dimension");
}

static void a_cut_token_file_is_refused_at_every_length(void) {
    const char *whole = token_file("whole.h5", 3000), *cut = temporary_path("cut.h5");
    size_t size = 0;
    char *bytes = temporary_read(whole, &size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    int refused = 0, tried = 0;
    for (size_t length = 0; length < size; length += 97, tried++) {
        CU_ASSERT_TRUE_FATAL(temporary_write(cut, bytes, length));
        struct gwtf_tokens *tokens = NULL;
        refused += gwtf_tokens_open(cut, &tokens, &error) != GWTF_OK;
        gwtf_tokens_close(tokens);
    }
    CU_ASSERT(tried > 60);
    CU_ASSERT_EQUAL(refused, tried);
    free(bytes);
}

static void a_damaged_token_is_noticed_when_it_is_read(void) {
    const char *path = token_file("damaged.h5", 5000);
    size_t size = 0;
    char *bytes = temporary_read(path, &size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    /* The tokens lie at the end or before the attributes: find the first ones. */
    uint16_t first[8];
    for (size_t i = 0; i < 8; i++)
        first[i] = (uint8_t)gwtf_random_at(5, i);
    char *found = memmem(bytes, size, first, sizeof first);
    CU_ASSERT_PTR_NOT_NULL_FATAL(found);
    found[1] ^= 0x40;
    CU_ASSERT_TRUE(temporary_write(path, bytes, size));
    struct gwtf_tokens *tokens;
    uint32_t ids[8];
    CU_ASSERT_EQUAL_FATAL(gwtf_tokens_open(path, &tokens, &error), GWTF_OK);
    CU_ASSERT_EQUAL(gwtf_tokens_read(tokens, 0, 8, ids), GWTF_ERROR_CORRUPT);
    CU_ASSERT_EQUAL(gwtf_tokens_read(tokens, 1, 7, ids), GWTF_OK);
    CU_ASSERT_EQUAL(ids[0], first[1]);
    gwtf_tokens_close(tokens);
    free(bytes);
}

static void wrong_requests_to_tokenize_are_refused_and_leave_nothing(void) {
    const char *directory = temporary_path("refused");
    mkdir(directory, 0777);
    const char *text = temporary_path("refused/text"), *empty = temporary_path("refused/empty");
    const char *output = temporary_path("refused/out.h5");
    CU_ASSERT_TRUE(temporary_write(text, "abcdef", 6));
    CU_ASSERT_TRUE(temporary_write(empty, "", 0));
    const struct {
        struct gwtf_tokenize_options options;
        gwtf_status status;
        const char *holds;
    } cases[] = {
        {{.input = "/none/text", .output = output}, GWTF_ERROR_MISSING, "/none/text"},
        {{.input = directory, .output = output}, GWTF_ERROR_USAGE, "not a file"},
        {{.input = empty, .output = output}, GWTF_ERROR_USAGE, "is empty"},
        {{.input = text, .output = text}, GWTF_ERROR_USAGE, "the text itself"},
        {{.input = text, .output = "/none/out.h5"}, GWTF_ERROR_MISSING, "/none/out.h5"},
        {{.input = text, .output = output, .validation_share = 0.5}, GWTF_ERROR_USAGE, "no file"},
        {{.input = text, .output = output, .validation_share = 0.5, .validation_output = output},
         GWTF_ERROR_USAGE,
         "two names"},
        {{.input = text,
          .output = output,
          .validation_share = 0.01,
          .validation_output = "/tmp/v.h5"},
         GWTF_ERROR_USAGE,
         "too few"},
        {{.input = text, .output = output, .validation_share = 1, .validation_output = "/tmp/v.h5"},
         GWTF_ERROR_USAGE,
         "below 1"},
        {{.input = text,
          .output = output,
          .validation_share = 0.5,
          .validation_output = "/none/v.h5"},
         GWTF_ERROR_MISSING,
         "/none/v.h5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        error.text[0] = '\0';
        gwtf_status status = gwtf_tokenize(&cases[i].options, &error);
        if (status != cases[i].status || strstr(error.text, cases[i].holds) == NULL)
            printf("\n%zu: %d %s\n", i, (int)status, error.text);
        CU_ASSERT_EQUAL(status, cases[i].status);
        CU_ASSERT_PTR_NOT_NULL(strstr(error.text, cases[i].holds));
    }
    CU_ASSERT_EQUAL(temporary_entries(directory), 2);
}

/* Runs in a child, under a limit on file sizes, which stands for a full disk. */
static int tokenize_under_limit(const char *input, const char *output) {
    struct rlimit limit = {100000, 100000};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    struct gwtf_tokenize_options options = {.input = input, .output = output};
    gwtf_status status = gwtf_tokenize(&options, &error);
    return status == GWTF_ERROR_IO && strstr(error.text, output) != NULL &&
                   strstr(error.text, "File too large") != NULL
               ? 42
               : 1;
}

static void a_full_disk_is_one_line_and_leaves_nothing(void) {
    const char *directory = temporary_path("full");
    mkdir(directory, 0777);
    const char *input = temporary_path("full/text"), *output = temporary_path("full/out.h5");
    char *text = calloc(1, 90000);
    CU_ASSERT_TRUE(temporary_write(input, text, 90000));
    free(text);
    pid_t child = temporary_fork();
    if (child == 0)
        exit(tokenize_under_limit(input, output)); /* with HDF5's own clean-up, which may crash */
    int status = 0;
    waitpid(child, &status, 0);
    CU_ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 42);
    CU_ASSERT_EQUAL(temporary_entries(directory), 1);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(a_text_becomes_tokens_and_its_end_is_for_validation),
        GWTF_TEST(the_hash_is_that_of_the_source),
        GWTF_TEST(validation_sequences_are_spread_without_overlap),
        GWTF_TEST(files_that_are_no_token_files_are_refused),
        GWTF_TEST(token_files_of_other_programs_are_read_or_refused),
        GWTF_TEST(a_cut_token_file_is_refused_at_every_length),
        GWTF_TEST(a_damaged_token_is_noticed_when_it_is_read),
        GWTF_TEST(wrong_requests_to_tokenize_are_refused_and_leave_nothing),
        GWTF_TEST(a_full_disk_is_one_line_and_leaves_nothing),
    };
    return gwtf_suite_main(argc, argv, "tokens", tests, sizeof tests / sizeof tests[0],
                           temporary_make, temporary_remove);
}
