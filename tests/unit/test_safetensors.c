#include "io/export.h"
#include "tests/support/suite.h"
#include "tests/support/temporary.h"
#include "tests/unit/snapshots.h"

#include <math.h>

static struct gwtf_error error;
static struct sample sample;

/* A new snapshot of the sample model. */
static const char *write_sample(const char *name) {
    const char *snapshots = temporary_path(name);
    sample_init(&sample, 11);
    CU_ASSERT_EQUAL_FATAL(sample_write(&sample, snapshots, 7, 0, &error), GWTF_OK);
    return temporary_below(snapshots, "step-000007");
}

static struct gwtf_safetensors *open_file(const char *path) {
    struct gwtf_safetensors *file = NULL;
    gwtf_status status = gwtf_safetensors_open(path, &file, &error);
    if (status != GWTF_OK)
        fprintf(stderr, "%s\n", error.text);
    CU_ASSERT_EQUAL_FATAL(status, GWTF_OK);
    return file;
}

static uint64_t floats_of(const struct gwtf_snapshot_tensor *tensor) {
    return tensor->dims[0] * (tensor->rank == 2 ? tensor->dims[1] : 1);
}

/* Byte after byte, without the reader. */
static void a_written_file_is_a_header_and_the_tensors_in_order(void) {
    const char *path = temporary_path("plain.safetensors");
    struct gwtf_safetensors_facts facts;
    size_t size = 0, floats = 0;
    CU_ASSERT_EQUAL_FATAL(
        gwtf_safetensors_write_snapshot(write_sample("plain"), path, &facts, &error), GWTF_OK);
    char *bytes = temporary_read(path, &size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    static const char start[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                                "\"wte.weight\":{\"dtype\":\"F32\",\"shape\":[10,32],"
                                "\"data_offsets\":[0,1280]},"
                                "\"ln_f.weight\":{\"dtype\":\"F32\",\"shape\":[32],"
                                "\"data_offsets\":[1280,1408]},"
                                "\"h.1.weight\":{\"dtype\":\"F32\",\"shape\":[10,32],"
                                "\"data_offsets\":[1408,2688]},";
    uint64_t header = (unsigned char)bytes[0] | (uint64_t)(unsigned char)bytes[1] << 8;
    for (int i = 2; i < 8; i++)
        CU_ASSERT_EQUAL(bytes[i], 0);
    CU_ASSERT_EQUAL(header % 8, 0);
    CU_ASSERT_EQUAL(strncmp(bytes + 8, start, sizeof start - 1), 0);
    uint64_t at = 8 + header;
    for (size_t i = 0; i < SAMPLE_TENSORS; i++) {
        size_t count = floats_of(&sample.tensors[i]);
        CU_ASSERT_FATAL(at + 4 * count <= size);
        CU_ASSERT_EQUAL(memcmp(bytes + at, sample.tensors[i].weights, 4 * count), 0);
        at += 4 * count;
        floats += count;
    }
    CU_ASSERT_EQUAL(at, size);
    CU_ASSERT_EQUAL(facts.tensors, SAMPLE_TENSORS);
    CU_ASSERT_EQUAL(facts.parameters, floats);
    CU_ASSERT_EQUAL(facts.size_bytes, size);
    free(bytes);
}

static void what_is_written_is_read_again(void) {
    const char *path = temporary_path("again.safetensors");
    struct gwtf_safetensors_facts facts;
    float values[SAMPLE_FLOATS];
    CU_ASSERT_EQUAL_FATAL(
        gwtf_safetensors_write_snapshot(write_sample("again"), path, &facts, &error), GWTF_OK);
    struct gwtf_safetensors *file = open_file(path);
    CU_ASSERT_EQUAL(gwtf_safetensors_count(file), SAMPLE_TENSORS);
    for (size_t i = 0; i < SAMPLE_TENSORS; i++) {
        const struct gwtf_snapshot_tensor *expected = &sample.tensors[i];
        const struct gwtf_safetensors_tensor *tensor = gwtf_safetensors_find(file, expected->name);
        CU_ASSERT_PTR_NOT_NULL_FATAL(tensor);
        CU_ASSERT_STRING_EQUAL(tensor->type, "F32");
        CU_ASSERT_EQUAL(tensor->rank, expected->rank);
        CU_ASSERT_EQUAL(tensor->dims[0], expected->dims[0]);
        CU_ASSERT_EQUAL_FATAL(tensor->count, floats_of(expected));
        CU_ASSERT_EQUAL(gwtf_safetensors_read(file, tensor, values, &error), GWTF_OK);
        CU_ASSERT_EQUAL(memcmp(values, expected->weights, tensor->size_bytes), 0);
    }
    CU_ASSERT_PTR_NULL(gwtf_safetensors_find(file, "h.9.weight"));
    gwtf_safetensors_close(file);
}

/* HEADER before DATA, as a file. */
static const char *write_by_hand(const char *header, const void *data, size_t data_bytes) {
    const char *path = temporary_path("hand.safetensors");
    FILE *stream = fopen(path, "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(stream);
    size_t length = strlen(header);
    for (int i = 0; i < 8; i++)
        fputc((int)(length >> (8 * i) & 0xff), stream);
    fwrite(header, 1, length, stream);
    fwrite(data, 1, data_bytes, stream);
    fclose(stream);
    return path;
}

/* Numbers of IEEE 754-2019, tables 3.5 and 3.8: one, two thirds, the largest, the smallest. */
static void halves_of_both_kinds_become_floats(void) {
    static const uint16_t data[] = {0x3c00, 0xb955, 0x7bff, 0x0001, 0x8400,
                                    0xfc00, 0x3f80, 0xbf2b, 0x7f7f, 0x0001};
    static const float halves[] = {1.0f, -0.66650390625f, 65504.0f, 0x1p-24f, -0x1p-14f, -INFINITY};
    static const float brains[] = {1.0f, -0.66796875f, 0x1.fep127f, 0x1p-133f};
    float values[6];
    struct gwtf_safetensors *file = open_file(
        write_by_hand("{\"a\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[0,12]},"
                      "\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[12,20]},"
                      "\"c\":{\"dtype\":\"I16\",\"shape\":[10],\"data_offsets\":[0,20]}}  ",
                      data, sizeof data));
    const struct gwtf_safetensors_tensor *a = gwtf_safetensors_find(file, "a"),
                                         *b = gwtf_safetensors_find(file, "b"),
                                         *c = gwtf_safetensors_find(file, "c");
    CU_ASSERT_FATAL(a != NULL && b != NULL && c != NULL);
    CU_ASSERT_EQUAL(gwtf_safetensors_read(file, a, values, &error), GWTF_OK);
    CU_ASSERT_EQUAL(memcmp(values, halves, sizeof halves), 0);
    CU_ASSERT_EQUAL(gwtf_safetensors_read(file, b, values, &error), GWTF_OK);
    CU_ASSERT_EQUAL(memcmp(values, brains, sizeof brains), 0);
    CU_ASSERT_EQUAL(gwtf_safetensors_read(file, c, values, &error), GWTF_ERROR_UNSUPPORTED);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "type I16"));
    gwtf_safetensors_close(file);
}

static void a_header_that_does_not_fit_its_file_is_refused(void) {
    static const char *const headers[] = {
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}",
        "{\"a\":{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}",
        "{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}",
        "{\"a\":7}",
        "[]",
        "{\"a\":",
    };
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        struct gwtf_safetensors *file = NULL;
        CU_ASSERT_EQUAL(
            gwtf_safetensors_open(write_by_hand(headers[i], "12345678", 8), &file, &error),
            GWTF_ERROR_CORRUPT);
        CU_ASSERT_PTR_NULL(file);
        CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "hand.safetensors"));
    }
    struct gwtf_safetensors *file = NULL;
    const char *path = temporary_path("short.safetensors");
    CU_ASSERT_TRUE(temporary_write(path, "\xff\0\0\0\0\0\0\0{}", 10));
    CU_ASSERT_EQUAL(gwtf_safetensors_open(path, &file, &error), GWTF_ERROR_CORRUPT);
    CU_ASSERT_TRUE(temporary_write(path, "\xff\0\0", 3));
    CU_ASSERT_EQUAL(gwtf_safetensors_open(path, &file, &error), GWTF_ERROR_CORRUPT);
    CU_ASSERT_EQUAL(gwtf_safetensors_open(temporary_path("none"), &file, &error),
                    GWTF_ERROR_MISSING);
}

static const char *const known[] = {"config.json", NULL};

static gwtf_status export_to(const char *snapshot, const char *directory, bool replace,
                             const char *config) {
    const struct gwtf_kept_file files[] = {{"config.json", config, strlen(config)},
                                           {NULL, NULL, 0}};
    struct gwtf_safetensors_facts facts;
    return gwtf_export_write(snapshot, directory, replace, files, known, &facts, &error);
}

/* Entries of the place in which DIRECTORY lies: nothing half-written stays. */
static void expect_alone(const char *place, int entries) {
    CU_ASSERT_EQUAL(temporary_entries(place), entries);
}

static void an_export_is_replaced_only_when_asked_and_only_by_its_like(void) {
    const char *place = temporary_path("place"), *snapshot = write_sample("source");
    const char *directory = temporary_below(place, "out");
    size_t size;
    CU_ASSERT_EQUAL(export_to(snapshot, directory, false, "1"), GWTF_ERROR_MISSING);
    mkdir(place, 0777);
    CU_ASSERT_EQUAL(export_to(snapshot, directory, false, "first"), GWTF_OK);
    CU_ASSERT_EQUAL(temporary_entries(directory), 2);
    CU_ASSERT_EQUAL(export_to(snapshot, directory, false, "second"), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "--force"));
    CU_ASSERT_EQUAL(export_to(snapshot, temporary_below(place, "out//"), true, "third"), GWTF_OK);
    char *text = temporary_read(temporary_below(directory, "config.json"), &size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    CU_ASSERT_STRING_EQUAL(text, "third");
    free(text);
    CU_ASSERT_TRUE(temporary_write(temporary_below(directory, "thesis.tex"), "x", 1));
    CU_ASSERT_EQUAL(export_to(snapshot, directory, true, "fourth"), GWTF_ERROR_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "'thesis.tex'"));
    CU_ASSERT_EQUAL(temporary_entries(directory), 3);
    CU_ASSERT_EQUAL(export_to(snapshot, temporary_below(directory, "thesis.tex"), true, "fifth"),
                    GWTF_ERROR_USAGE);
    expect_alone(place, 1);
}

static void what_cannot_be_read_leaves_nothing_behind(void) {
    const char *place = temporary_path("broken-place"), *snapshot = write_sample("broken");
    const char *directory = temporary_below(place, "out");
    mkdir(place, 0777);
    CU_ASSERT_EQUAL_FATAL(truncate(temporary_below(snapshot, "stage-02.h5"), 3000), 0);
    CU_ASSERT_NOT_EQUAL(export_to(snapshot, directory, false, "1"), GWTF_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "stage-02.h5"));
    expect_alone(place, 0);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(a_written_file_is_a_header_and_the_tensors_in_order),
        GWTF_TEST(what_is_written_is_read_again),
        GWTF_TEST(halves_of_both_kinds_become_floats),
        GWTF_TEST(a_header_that_does_not_fit_its_file_is_refused),
        GWTF_TEST(an_export_is_replaced_only_when_asked_and_only_by_its_like),
        GWTF_TEST(what_cannot_be_read_leaves_nothing_behind),
    };
    return gwtf_suite_main(argc, argv, "safetensors", tests, sizeof tests / sizeof tests[0],
                           temporary_make, temporary_remove);
}
